//! Transactions whose scripts were run, and under which rules.
//!
//! A wtxid stands for the scripts and witnesses of a transaction, and the outpoints in it for those that it spends, so that
//! what was found under some rules need not be looked at again under the same.
//!
//! HAZARD: a block's scripts are taken for good because of what stands here. So it is written only behind a run under exactly
//! the rules that it names, by the same judges as a block's: the network's own library, and not our interpreter alone.
//!
//! Deliberately absent: single signatures.

use std::collections::{BTreeSet, VecDeque};

use bitcoin::Wtxid;

use crate::script::Flags;

/// No more are kept; the oldest goes first.
const KNOWN_MAX: usize = 200_000;

#[derive(Clone, Debug, Default)]
pub(super) struct KnownGood {
    known: BTreeSet<(Wtxid, u32)>,
    order: VecDeque<(Wtxid, u32)>,
}

impl KnownGood {
    pub(super) fn has(&self, wtxid: Wtxid, flags: Flags) -> bool {
        self.known.contains(&(wtxid, flags.bits()))
    }

    pub(super) fn insert(&mut self, wtxid: Wtxid, flags: Flags) {
        let key = (wtxid, flags.bits());
        if !self.known.insert(key) {
            return;
        }
        self.order.push_back(key);
        while self.order.len() > KNOWN_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.known.remove(&oldest);
            }
        }
    }
}
