//! Payments that no block took are brought to the mempool again, and told to peers again.
//!
//! - upon a time of the wallet's own choice, 12 to 36 hours after the last one, so that nobody learns by it whose payments they are;
//! - what came less than five minutes before the last block is left: it had no chance yet;
//! - in the order in which the wallet heard of them, so that what spends comes behind what is spent.
//!
//! Deliberately absent: whom peers tell (the caller does that).

use std::sync::Arc;

use bitcoin::Transaction;
use fastrand::Rng;

use super::Wallets;
use super::record::{Place, Record};
use crate::chain::ChainError;
use crate::mempool::AcceptOptions;
use crate::node::Node;

const HOUR: u64 = 3_600;
/// Between two times, at the least.
const WAIT_MIN: u64 = 12 * HOUR;
/// How far chance adds to it.
const WAIT_SPREAD: u64 = 24 * HOUR;
/// What came so shortly before a block could not be in it.
const TOO_NEW: u64 = 5 * 60;

impl Wallets {
    /// Upon time: brings what is due, and lets `tell` tell peers of what waits already. Words for the log.
    ///
    /// # Errors
    /// The disk's.
    pub fn resend(&mut self, node: &mut Node, tell: &mut dyn FnMut(&Transaction)) -> Result<Vec<String>, ChainError> {
        let (now, mut words) = (node.time(), Vec::new());
        if !self.options.broadcast {
            return Ok(words);
        }
        for name in self.names() {
            let seed = u64::from_le_bytes(self.entropy.bytes());
            let Some((wallet, ..)) = self.find_mut(&name) else { continue };
            let first = wallet.resend_at == 0;
            if !first && now < wallet.resend_at {
                continue;
            }
            wallet.resend_at = now + WAIT_MIN + Rng::with_seed(seed).u64(0..WAIT_SPREAD);
            if first {
                continue;
            }
            let last_block = u64::from(node.chain().entry(node.chain().tip()).header.time);
            let is_due = |record: &&Record| {
                matches!(record.place, Place::Mempool | Place::Nowhere { abandoned: false })
                    && record.conflicts.is_empty()
                    && !record.is_coinbase()
                    && record.received + TOO_NEW <= last_block
            };
            let mut due: Vec<&Record> = wallet.records.values().filter(is_due).collect();
            due.sort_by_key(|record| record.order);
            let txs: Vec<Arc<Transaction>> = due.into_iter().map(|record| Arc::clone(&record.tx)).collect();
            let mut count = 0_usize;
            for tx in txs {
                let txid = tx.compute_txid();
                if node.mempool().get(&txid).is_some() {
                    tell(&tx);
                    count += 1;
                } else if node.on_transaction(tx, AcceptOptions::default())?.is_ok() {
                    node.mempool_mut().0.add_unbroadcast(txid);
                    count += 1;
                }
            }
            if count > 0 {
                let shown = if name.is_empty() { "default wallet" } else { &name };
                words.push(format!("[{shown}] ResubmitWalletTransactions: resubmit {count} unconfirmed transactions"));
            }
        }
        Ok(words)
    }
}
