//! A transaction of a wallet, and where it stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::{BlockHash, Transaction};

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a block of the chain that counts.
    Block {
        hash: BlockHash,
        height: u32,
        /// Among the block's transactions.
        index: u32,
        /// The block's.
        time: u32,
    },
    /// It waits.
    Mempool,
    /// Neither.
    Nowhere {
        /// What it spends may be spent again.
        abandoned: bool,
    },
    /// A block has another that spends the same.
    Conflicted { hash: BlockHash, height: u32 },
}

/// A transaction that concerns a wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) tx: Arc<Transaction>,
    pub(crate) place: Place,
    /// When the wallet heard of it, in seconds since 1970.
    pub(crate) received: u64,
    /// When people would say that it was.
    pub(crate) time: u64,
    /// Which it was of those that the wallet heard of.
    pub(crate) order: u64,
    /// `comment`, `to`, `replaces_txid` and the like.
    pub(crate) notes: BTreeMap<String, String>,
    /// What waits, and spends the same.
    pub(crate) conflicts: BTreeSet<bitcoin::Txid>,
}

impl Record {
    /// Confirmations on a chain of this height; below zero for a conflict that has so many.
    pub(crate) fn depth(&self, tip: u32) -> i32 {
        let above = |height: u32| i32::try_from((i64::from(tip) - i64::from(height) + 1).max(0)).unwrap_or(i32::MAX);
        match self.place {
            Place::Block { height, .. } => above(height),
            Place::Conflicted { height, .. } => -above(height),
            Place::Mempool | Place::Nowhere { .. } => 0,
        }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.place == Place::Nowhere { abandoned: true }
    }

    pub(crate) fn is_coinbase(&self) -> bool {
        self.tx.is_coinbase()
    }

    /// A coinbase that cannot be spent in the next block.
    pub(crate) fn is_immature(&self, tip: u32) -> bool {
        const MATURITY: i32 = 100;
        self.is_coinbase() && self.depth(tip) < MATURITY + 1
    }

    /// It takes what it spends from others that would.
    pub(crate) fn spends(&self, tip: u32) -> bool {
        let depth = self.depth(tip);
        depth > 0 || (depth == 0 && !self.is_abandoned() && self.conflicts.is_empty())
    }
}
