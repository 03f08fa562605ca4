//! Transactions of version 3: one parent, one child, both small, so that nobody can hold up a replacement by hanging a lot
//! behind what is to be replaced (BIP 431).
//!
//! - what rests on one of version 3 is of version 3 itself, and the other way around, as long as both wait;
//! - none has more than one that it rests on, nor more than one that rests on it;
//! - none has more than 10,000 vbytes, and none that rests on another more than 1,000;
//! - a second child may take the first one's place, by the rules of replacement, though both spend different outputs.
//!
//! Deliberately absent: anything upon a reorganisation, which may leave more than that behind.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{Transaction, Txid, Wtxid};

use super::accept::Candidate;
use super::{Mempool, MempoolEntry, TxReject, TxRejectKind};

const VERSION: i32 = 3;
/// One that rests on another, and that other.
const RELATIVES_MAX: usize = 2;
const VSIZE_MAX: u64 = 10_000;
const CHILD_VSIZE_MAX: u64 = 1_000;

/// A transaction as refusals speak of it.
#[derive(Clone, Copy)]
struct Named {
    txid: Txid,
    wtxid: Wtxid,
    truc: bool,
}

impl Named {
    fn of(tx: &Transaction) -> Self {
        Self { txid: tx.compute_txid(), wtxid: tx.compute_wtxid(), truc: tx.version.0 == VERSION }
    }

    fn of_entry(entry: &MempoolEntry) -> Self {
        Self { txid: entry.txid, wtxid: entry.wtxid, truc: entry.tx.version.0 == VERSION }
    }

    fn kind(self) -> &'static str {
        if self.truc { "version=3" } else { "non-version=3" }
    }

    fn cannot_spend(self, parent: Self) -> String {
        format!(
            "{} tx {} (wtxid={}) cannot spend from {} tx {} (wtxid={})",
            self.kind(),
            self.txid,
            self.wtxid,
            parent.kind(),
            parent.txid,
            parent.wtxid
        )
    }

    fn too_big(self, child: &str, vsize: u64, bound: u64) -> String {
        format!("version=3 {child}tx {} (wtxid={}) is too big: {vsize} > {bound} virtual bytes", self.txid, self.wtxid)
    }

    fn too_many_ancestors(self) -> String {
        format!("tx {} (wtxid={}) would have too many ancestors", self.txid, self.wtxid)
    }

    fn too_many_descendants(self) -> String {
        format!("tx {} (wtxid={}) would exceed descendant count limit", self.txid, self.wtxid)
    }
}

impl Mempool {
    fn named(&self, txid: &Txid) -> Named {
        Named::of_entry(&self.entries[txid])
    }

    /// Judges one by itself. If a sibling is in its way that may go, it is put among the conflicts.
    pub(super) fn check_truc(&self, candidate: &mut Candidate, evict_sibling: bool) -> Result<(), TxReject> {
        match self.truc_single(candidate) {
            Ok(()) => Ok(()),
            Err((_, Some(sibling))) if evict_sibling => {
                candidate.conflicts.insert(sibling);
                candidate.sibling = true;
                Ok(())
            }
            Err((debug, _)) => Err(TxReject::new(TxRejectKind::Policy, "TRUC-violation", debug)),
        }
    }

    fn truc_single(&self, candidate: &Candidate) -> Result<(), (String, Option<Txid>)> {
        let (own, vsize) = (Named::of_entry(&candidate.entry), candidate.entry.vsize);
        for parent in candidate.parents.iter().map(|parent| self.named(parent)) {
            if own.truc != parent.truc {
                return Err((own.cannot_spend(parent), None));
            }
        }
        if !own.truc {
            return Ok(());
        }
        if vsize > VSIZE_MAX {
            return Err((own.too_big("", vsize, VSIZE_MAX), None));
        }
        if candidate.parents.len() + 1 > RELATIVES_MAX {
            return Err((own.too_many_ancestors(), None));
        }
        let Some(parent) = candidate.parents.first() else { return Ok(()) };
        if self.graph.ancestors(parent).len() + 1 > RELATIVES_MAX {
            return Err((own.too_many_ancestors(), None));
        }
        if vsize > CHILD_VSIZE_MAX {
            return Err((own.too_big("child ", vsize, CHILD_VSIZE_MAX), None));
        }
        let mut descendants = self.graph.descendants([*parent]);
        let count = descendants.len();
        descendants.remove(parent);
        let replaced = descendants.iter().any(|child| candidate.conflicts.contains(child));
        if count + 1 > RELATIVES_MAX && !replaced {
            let sibling = descendants.first().copied();
            let alone = |txid: &Txid| count == 2 && self.graph.ancestors(txid).len() == 2;
            return Err((self.named(parent).too_many_descendants(), sibling.filter(alone)));
        }
        Ok(())
    }

    /// Judges one of a package, with the others of it.
    pub(super) fn truc_in_package(&self, candidate: &Candidate, package: &[Arc<Transaction>]) -> Result<(), String> {
        let (own, vsize) = (Named::of_entry(&candidate.entry), candidate.entry.vsize);
        let spent: BTreeSet<Txid> = candidate.entry.tx.input.iter().map(|input| input.previous_output.txid).collect();
        let others: Vec<(Named, &Transaction)> =
            package.iter().map(|tx| (Named::of(tx), &**tx)).filter(|(named, _)| named.txid != own.txid).collect();
        let here: Vec<Named> =
            others.iter().map(|(named, _)| *named).filter(|named| spent.contains(&named.txid)).collect();
        let waiting: Vec<Named> = candidate.parents.iter().map(|parent| self.named(parent)).collect();
        if !own.truc {
            let parent = waiting.iter().chain(&here).find(|parent| parent.truc);
            return parent.map_or(Ok(()), |parent| Err(own.cannot_spend(*parent)));
        }
        if waiting.len() + here.len() + 1 > RELATIVES_MAX {
            return Err(own.too_many_ancestors());
        }
        if let Some(parent) = candidate.parents.first()
            && self.graph.ancestors(parent).len() + here.len() + 1 > RELATIVES_MAX
        {
            return Err(own.too_many_ancestors());
        }
        let Some(parent) = waiting.first().or(here.first()).copied() else { return Ok(()) };
        if vsize > CHILD_VSIZE_MAX {
            return Err(own.too_big("child ", vsize, CHILD_VSIZE_MAX));
        }
        if !parent.truc {
            return Err(own.cannot_spend(parent));
        }
        for (other, tx) in &others {
            for input in &tx.input {
                if input.previous_output.txid == parent.txid {
                    return Err(parent.too_many_descendants());
                }
                if input.previous_output.txid == own.txid {
                    return Err(other.too_many_ancestors());
                }
            }
        }
        if candidate.parents.first().is_some_and(|parent| !self.graph.children(parent).is_empty()) {
            return Err(parent.too_many_descendants());
        }
        Ok(())
    }
}
