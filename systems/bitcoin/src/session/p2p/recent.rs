//! Hashes that came by lately.
//!
//! Two generations: the last `count` are always known, up to twice as many are, and no memory is taken beyond that. Hashes are
//! shortened under a key of the node's own, so that nobody can make two that meet.

use std::collections::BTreeSet;

use bitcoin::hashes::{Hash, HashEngine, siphash24};

/// Remembers hashes for a while.
#[derive(Clone, Debug)]
pub(super) struct Recent {
    keys: (u64, u64),
    count: usize,
    new: BTreeSet<u64>,
    old: BTreeSet<u64>,
}

impl Recent {
    /// Remembers this many at least.
    pub(super) fn new(count: usize, keys: (u64, u64)) -> Self {
        Self { keys, count, new: BTreeSet::new(), old: BTreeSet::new() }
    }

    fn shorten(&self, hash: &[u8]) -> u64 {
        let mut engine = siphash24::HashEngine::with_keys(self.keys.0, self.keys.1);
        engine.input(hash);
        siphash24::Hash::from_engine(engine).as_u64()
    }

    pub(super) fn insert(&mut self, hash: &[u8]) {
        let short = self.shorten(hash);
        if self.new.len() >= self.count && !self.new.contains(&short) {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(short);
    }

    pub(super) fn contains(&self, hash: &[u8]) -> bool {
        let short = self.shorten(hash);
        self.new.contains(&short) || self.old.contains(&short)
    }

    pub(super) fn clear(&mut self) {
        self.new.clear();
        self.old.clear();
    }
}
