//! Senders who wait for their transactions' blocks.

use std::collections::BTreeMap;

use verity_types::{ConnId, Mono};

use super::calls::Call;
use crate::wire::{CheckTx, ExecTxResult, Hash, hex_upper};

/// So many wait at once.
const WAITING_MAX: usize = 10_000;

/// One who waits.
#[derive(Debug)]
struct Waiter {
    call: Call,
    hash: Hash,
    check: Option<CheckTx>,
    /// The block's height, and what the transaction came to, as JSON.
    outcome: Option<(u64, String)>,
    deadline: Mono,
}

/// All who wait.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    next: u64,
    waiting: BTreeMap<u64, Waiter>,
    by_hash: BTreeMap<Hash, Vec<u64>>,
}

/// An answer to `broadcast_tx_commit`.
pub(super) fn committed(check: &CheckTx, outcome: &str, hash: &Hash, height: u64) -> String {
    let check = serde_json::to_string(check).expect("it is plain data");
    let hash = hex_upper(hash);
    format!("{{\"check_tx\":{check},\"tx_result\":{outcome},\"hash\":\"{hash}\",\"height\":\"{height}\"}}")
}

/// What a transaction came to that is in no block.
pub(super) fn no_outcome() -> String {
    serde_json::to_string(&ExecTxResult::default()).expect("it is plain data")
}

impl Waiters {
    /// Somebody waits; `None` if too many do.
    pub(super) fn wait(&mut self, call: Call, hash: Hash, deadline: Mono) -> Option<u64> {
        if self.waiting.len() >= WAITING_MAX {
            return None;
        }
        self.next += 1;
        self.waiting.insert(self.next, Waiter { call, hash, check: None, outcome: None, deadline });
        self.by_hash.entry(hash).or_default().push(self.next);
        Some(self.next)
    }

    /// Takes one out.
    pub(super) fn take(&mut self, name: u64) -> Option<Call> {
        let waiter = self.waiting.remove(&name)?;
        if let Some(names) = self.by_hash.get_mut(&waiter.hash) {
            names.retain(|other| *other != name);
            if names.is_empty() {
                self.by_hash.remove(&waiter.hash);
            }
        }
        Some(waiter.call)
    }

    /// Those who wait for a transaction.
    pub(super) fn of(&self, hash: &Hash) -> &[u64] {
        self.by_hash.get(hash).map_or(&[], Vec::as_slice)
    }

    /// The transaction may be ordered.
    pub(super) fn checked(&mut self, name: u64, check: CheckTx) -> Option<(Call, String)> {
        self.waiting.get_mut(&name)?.check = Some(check);
        self.finish(name)
    }

    /// The transaction is in a block.
    pub(super) fn found(&mut self, name: u64, height: u64, outcome: String) -> Option<(Call, String)> {
        self.waiting.get_mut(&name)?.outcome = Some((height, outcome));
        self.finish(name)
    }

    fn finish(&mut self, name: u64) -> Option<(Call, String)> {
        let waiter = self.waiting.get(&name)?;
        let (height, outcome) = waiter.outcome.as_ref()?;
        let json = committed(waiter.check.as_ref()?, outcome, &waiter.hash, *height);
        self.take(name).map(|call| (call, json))
    }

    /// Takes those out whose time is over. Deadlines come in the order of names, since all wait for one span.
    pub(super) fn late(&mut self, now: Mono) -> Vec<Call> {
        let late = self.waiting.iter().take_while(|(_, waiter)| waiter.deadline <= now);
        let late: Vec<u64> = late.map(|(name, _)| *name).collect();
        late.into_iter().filter_map(|name| self.take(name)).collect()
    }

    /// The first deadline.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.waiting.first_key_value().map(|(_, waiter)| waiter.deadline)
    }

    /// A connection is gone.
    pub(super) fn forget(&mut self, conn: ConnId) {
        let gone: Vec<u64> =
            self.waiting.iter().filter(|(_, waiter)| waiter.call.conn == conn).map(|(name, _)| *name).collect();
        gone.into_iter().for_each(|name| _ = self.take(name));
    }
}
