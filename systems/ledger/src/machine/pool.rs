//! Transactions that wait for their block, and what was seen lately (CometBFT `mempool/clist_mempool.go`).
//!
//! It is part of the state: every node refuses the same duplicate, which CometBFT's nodes, each with a cache of its own, do
//! not.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::trail::Trail;
use crate::wire::{Hash, varint_size};

/// Bounds of what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// How many transactions. `[mempool] size`
    pub count_max: usize,
    /// How many bytes of them.
    pub bytes_max: u64,
    /// How large one is. `[mempool] max_tx_bytes`
    pub tx_bytes_max: usize,
    /// How many hashes are remembered. `[mempool] cache_size`
    pub cache_max: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { count_max: 5_000, bytes_max: 64 << 20, tx_bytes_max: 1 << 20, cache_max: 10_000 }
    }
}

/// The transactions.
#[derive(Debug, Default)]
pub(super) struct Pool {
    waiting: VecDeque<(Hash, Bytes)>,
    bytes: u64,
    /// So many from the front are in the block under way.
    pub(super) proposed: usize,
    seen: VecDeque<Hash>,
    known: BTreeSet<Hash>,
    /// Of what waits.
    waiting_trail: Trail,
    /// Of what was seen.
    seen_trail: Trail,
}

impl Pool {
    /// Why a transaction cannot be taken, whatever the application says of it.
    pub(super) fn refuse(&self, limits: &PoolLimits, hash: &Hash, tx: &[u8]) -> Option<String> {
        let size = tx.len() as u64;
        if self.waiting.len() >= limits.count_max || self.bytes + size > limits.bytes_max {
            return Some(format!(
                "mempool is full: number of txs {} (max: {}), total txs bytes {} (max: {})",
                self.waiting.len(),
                limits.count_max,
                self.bytes,
                limits.bytes_max
            ));
        }
        if tx.len() > limits.tx_bytes_max {
            return Some(format!("Tx too large. Max size is {}, but got {}", limits.tx_bytes_max, tx.len()));
        }
        self.known.contains(hash).then(|| "tx already exists in cache".to_owned())
    }

    fn remember(&mut self, limits: &PoolLimits, hash: Hash) {
        if !self.known.insert(hash) {
            return;
        }
        self.seen_trail.push(&hash);
        self.seen.push_back(hash);
        while self.seen.len() > limits.cache_max {
            let oldest = self.seen.pop_front().expect("it is not empty");
            self.known.remove(&oldest);
            self.seen_trail.pop(&oldest);
        }
    }

    /// Takes a transaction. Its bytes are copied, so that they do not hold the log's entry.
    pub(super) fn push(&mut self, limits: &PoolLimits, hash: Hash, tx: &[u8]) {
        self.remember(limits, hash);
        self.put_waiting(hash, tx);
    }

    /// Puts back what a snapshot has waiting. Whether it is remembered the snapshot says apart.
    pub(super) fn put_waiting(&mut self, hash: Hash, tx: &[u8]) {
        self.bytes += tx.len() as u64;
        self.waiting_trail.push(&hash);
        self.waiting.push_back((hash, Bytes::copy_from_slice(tx)));
    }

    /// The oldest that fit into so many bytes of a block.
    pub(super) fn oldest(&self, bytes_max: usize) -> Vec<Bytes> {
        let mut left = bytes_max;
        let fits = |(_, tx): &&(Hash, Bytes)| {
            let size = 1 + varint_size(tx.len() as u64) + tx.len();
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        };
        self.waiting.iter().take_while(fits).map(|(_, tx)| tx.clone()).collect()
    }

    /// The block under way stands; `done` are the hashes of what it holds, which may differ from what waited.
    pub(super) fn settle(&mut self, limits: &PoolLimits, done: &[Hash]) {
        for _ in 0..self.proposed {
            let (hash, tx) = self.waiting.pop_front().expect("what was proposed waits in front");
            self.waiting_trail.pop(&hash);
            self.bytes -= tx.len() as u64;
        }
        self.proposed = 0;
        done.iter().for_each(|hash| self.remember(limits, *hash));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.waiting.len()
    }

    /// How many bytes wait.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What waits, in order.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Bytes> {
        self.waiting.iter().map(|(_, tx)| tx)
    }

    /// What was seen lately, in order.
    pub(super) fn seen(&self) -> &VecDeque<Hash> {
        &self.seen
    }

    /// Puts back what a snapshot remembers.
    pub(super) fn put_seen(&mut self, limits: &PoolLimits, hash: Hash) {
        self.remember(limits, hash);
    }

    /// Where the trails of what waits and of what was seen begin.
    pub(super) fn trail_begins(&self) -> [Hash; 2] {
        [self.waiting_trail.begin(), self.seen_trail.begin()]
    }

    /// An empty one whose trails begin there.
    pub(super) fn beginning_at([waiting, seen]: [Hash; 2]) -> Self {
        Self { waiting_trail: Trail::beginning_at(waiting), seen_trail: Trail::beginning_at(seen), ..Self::default() }
    }

    /// Bytes that differ if what is held differs.
    pub(super) fn fingerprint(&self) -> Vec<u8> {
        let counts = [self.waiting.len(), self.seen.len(), self.proposed].map(|count| (count as u64).to_be_bytes());
        [&counts.concat()[..], &self.waiting_trail.end(), &self.seen_trail.end()].concat()
    }

    pub(super) fn invariants(&self) {
        assert!(self.proposed <= self.waiting.len(), "what is proposed waits");
        assert_eq!(self.seen.len(), self.known.len(), "what is seen is known");
    }
}
