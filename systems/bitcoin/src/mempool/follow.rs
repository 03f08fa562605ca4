//! What becomes of those that wait when the chain moves.
//!
//! - upon a block: what it has waits no longer, and what spends the same as one of its transactions goes, with all that rests
//!   on it;
//! - upon blocks that count no more: their transactions come back, the oldest first and no more than 20 megabytes of them,
//!   without regard to fees. One that does not come back takes along what rests on it. Then those that waited before are tied
//!   to those that came back, and what makes a cluster too large by that goes, the worst first;
//! - upon the end of it: whatever could not be in the next block goes.
//!
//! Deliberately absent: the rules of version 3, which a reorganisation may leave broken.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::block::Block;
use bitcoin::{OutPoint, Transaction, Txid};

use super::accept::{Request, answer};
use super::room;
use super::view::View;
use super::{Mempool, MempoolEntry, MempoolEvent};
use crate::chain::ChainError;
use crate::chain::transaction::{COINBASE_MATURITY, SequenceLocks, is_final};

/// Of the blocks that count no more no more bytes of memory come back than this.
const HELD_BYTES_MAX: u64 = 20_000_000;
/// What one of their transactions takes beside itself.
const HELD_BYTES: u64 = 96;

impl Mempool {
    /// Upon a block that was connected.
    pub fn on_connected(&mut self, block: &Block, height: u32, now: u64, events: &mut Vec<MempoolEvent>) {
        let (mut gone, mut confirmed) = (BTreeSet::new(), Vec::new());
        // On the way to the tip nothing waits, and hashes cost.
        let nothing = self.entries.is_empty() && self.deltas.is_empty();
        for tx in block.txdata.iter().filter(|_| !nothing) {
            let txid = tx.compute_txid();
            if self.entries.contains_key(&txid) {
                confirmed.push((txid, self.forget(&txid, None, events)));
                gone.insert(txid);
            }
            let rivals: BTreeSet<Txid> =
                tx.input.iter().filter_map(|input| self.spenders.get(&input.previous_output)).copied().collect();
            for rival in rivals {
                self.deltas.remove(&rival);
                for lost in self.graph.descendants([rival]) {
                    if self.entries.contains_key(&lost) {
                        self.forget(&lost, Some("conflict"), events);
                        gone.insert(lost);
                    }
                }
            }
            self.deltas.remove(&txid);
        }
        self.graph.remove(&gone);
        self.estimator.on_block(height, &confirmed);
        self.rolling.on_block(now);
    }

    /// Upon a reorganisation that is over: what the blocks had that were disconnected comes back (oldest last in `blocks`), and
    /// what cannot be in the next block goes.
    ///
    /// # Errors
    /// The disk's.
    pub fn on_reorganised<C: View + ?Sized>(
        &mut self,
        chain: &C,
        blocks: &[Arc<Block>],
        now: u64,
        events: &mut Vec<MempoolEvent>,
    ) -> Result<(), ChainError> {
        let request = Request { bypass: true, ..Request::single(now) };
        let (mut back, mut held) = (Vec::new(), 0);
        for tx in blocks.iter().rev().flat_map(|block| &block.txdata) {
            let txid = tx.compute_txid();
            held += room::usage(tx) + HELD_BYTES;
            let comes_back = held <= HELD_BYTES_MAX
                && !tx.is_coinbase()
                && answer(self.accept_one(chain, &Arc::new(tx.clone()), &request, events))?.is_ok();
            if comes_back {
                back.push(txid);
            } else {
                self.lose_children(chain, tx, txid, events)?;
            }
        }
        self.tie(&back, events);
        self.sweep(chain, events)?;
        self.make_room(now, events);
        Ok(())
    }

    /// One is not here, and perhaps in no block: what rests on it goes, unless another block has it.
    fn lose_children<C: View + ?Sized>(
        &mut self,
        chain: &C,
        tx: &Transaction,
        txid: Txid,
        events: &mut Vec<MempoolEvent>,
    ) -> Result<(), ChainError> {
        if self.entries.contains_key(&txid) {
            return Ok(());
        }
        let mut lost = BTreeSet::new();
        for vout in (0..).take(tx.output.len()) {
            let outpoint = OutPoint { txid, vout };
            if let Some(child) = self.spenders.get(&outpoint)
                && chain.coin(&outpoint)?.is_none()
            {
                lost.insert(*child);
            }
        }
        let lost = self.graph.descendants(lost);
        self.remove(&lost, "reorg", events);
        Ok(())
    }

    /// Ties those that spend what came back to it.
    fn tie(&mut self, back: &[Txid], events: &mut Vec<MempoolEvent>) {
        let mut links = BTreeSet::new();
        for txid in back.iter().filter(|txid| self.graph.contains(txid)) {
            let (first, last) = (OutPoint { txid: *txid, vout: 0 }, OutPoint { txid: *txid, vout: u32::MAX });
            let children = self.spenders.range(first..=last).map(|(_, child)| *child);
            let untied = children.filter(|child| !self.graph.parents(child).contains(txid));
            links.extend(untied.map(|child| (*txid, child)));
        }
        let surplus = self.graph.surplus(&links, self.limits());
        self.remove(&surplus, "sizelimit", events);
        links.retain(|(parent, child)| !surplus.contains(parent) && !surplus.contains(child));
        self.graph.link(&links);
    }

    /// Lets go what cannot be in the next block.
    fn sweep<C: View + ?Sized>(&mut self, chain: &C, events: &mut Vec<MempoolEvent>) -> Result<(), ChainError> {
        let mut lost = BTreeSet::new();
        for (txid, entry) in &self.entries {
            if !self.may_be_next(chain, entry)? {
                lost.insert(*txid);
            }
        }
        let lost = self.graph.descendants(lost);
        self.remove(&lost, "reorg", events);
        Ok(())
    }

    fn may_be_next<C: View + ?Sized>(&self, chain: &C, entry: &MempoolEntry) -> Result<bool, ChainError> {
        let (tx, tip) = (&entry.tx, chain.height());
        let median_time = chain.median_time(tip);
        if !is_final(tx, tip + 1, median_time) {
            return Ok(false);
        }
        let mut heights = Vec::with_capacity(tx.input.len());
        for input in &tx.input {
            if self.entries.contains_key(&input.previous_output.txid) {
                heights.push(tip + 1);
                continue;
            }
            let Some(coin) = chain.coin(&input.previous_output)? else { return Ok(false) };
            if coin.coinbase && tip + 1 < coin.height + COINBASE_MATURITY {
                return Ok(false);
            }
            heights.push(coin.height);
        }
        let locks = SequenceLocks::of(tx, heights, |at| chain.median_time(at));
        Ok(locks.hold(tip + 1, median_time))
    }
}
