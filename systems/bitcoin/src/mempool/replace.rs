//! Who may take the place of others that wait.
//!
//! - it pays no less than all that goes for it, and for its own relaying on top;
//! - it makes the mempool worth more to miners, wherever their blocks end: chunk by chunk, fees over sizes, the line with it
//!   lies above the line without it somewhere, and nowhere below ([`improves`](super::feerate::improves));
//! - those that it conflicts with are in no more than a hundred clusters, which bounds the work of finding out.
//!
//! Nobody has to say beforehand that he may be replaced (BIP 125's signal means nothing any more).
//!
//! Deliberately absent: that a replacement rests on what it replaces, which is found where clusters are known to be small.

use std::collections::BTreeSet;

use bitcoin::Txid;

use super::accept::Candidate;
use super::feerate::{FeeFraction, fee_at, improves};
use super::graph::Addition;
use super::{Mempool, TxReject, TxRejectKind};
use crate::chain::transaction::format_money;

/// No replacement touches more clusters.
const CLUSTERS_MAX: usize = 100;

/// The line with the newcomers does not lie above the line without them.
pub(super) const NO_IMPROVEMENT: &str = "insufficient feerate: does not improve feerate diagram";

/// What a replacement would do to the clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Better,
    NotBetter,
    TooLarge,
}

impl Mempool {
    /// All that goes if these do. `txid` is who asks.
    pub(super) fn all_conflicts(&self, conflicts: &BTreeSet<Txid>, txid: Txid) -> Result<BTreeSet<Txid>, String> {
        let clusters: BTreeSet<u64> = conflicts.iter().map(|txid| self.graph.cluster_of(txid)).collect();
        if clusters.len() > CLUSTERS_MAX {
            let count = clusters.len();
            return Err(format!(
                "rejecting replacement {txid}; too many conflicting clusters ({count} > {CLUSTERS_MAX})"
            ));
        }
        Ok(self.graph.descendants(conflicts.iter().copied()))
    }

    /// Does it pay for those that go, and for being relayed?
    pub(super) fn pays_for(&self, removals: &BTreeSet<Txid>, paid: FeeFraction, txid: Txid) -> Result<(), String> {
        let fees = removals.iter().map(|txid| self.entries[txid].modified_fee());
        let fees = fees.fold(0i64, i64::saturating_add);
        if paid.fee < fees {
            return Err(format!(
                "rejecting replacement {txid}, less fees than conflicting txs; {} < {}",
                format_money(paid.fee),
                format_money(fees)
            ));
        }
        let (more, relay) = (paid.fee.saturating_sub(fees), fee_at(self.options.incremental_rate, paid.size));
        if more < relay {
            return Err(format!(
                "rejecting replacement {txid}, not enough additional fees to relay; {} < {}",
                format_money(more),
                format_money(relay)
            ));
        }
        Ok(())
    }

    pub(super) fn effect_of(&self, additions: &[Addition], removals: &BTreeSet<Txid>) -> Effect {
        match self.graph.stage(additions, removals, self.limits()) {
            None => Effect::TooLarge,
            Some(staged) if improves(&staged.before, &staged.after) => Effect::Better,
            Some(_) => Effect::NotBetter,
        }
    }

    /// All that goes for one, if it may.
    pub(super) fn check_replacement(&self, candidate: &Candidate) -> Result<BTreeSet<Txid>, TxReject> {
        let sibling = if candidate.sibling { " (including sibling eviction)" } else { "" };
        let removals = self.all_conflicts(&candidate.conflicts, candidate.txid).map_err(|debug| {
            TxReject::new(TxRejectKind::Policy, &format!("too many potential replacements{sibling}"), debug)
        })?;
        self.pays_for(&removals, candidate.rate(), candidate.txid).map_err(|debug| {
            TxReject::new(TxRejectKind::Reconsiderable, &format!("insufficient fee{sibling}"), debug)
        })?;
        match self.effect_of(&[candidate.addition(&BTreeSet::new())], &removals) {
            Effect::Better => Ok(removals),
            Effect::TooLarge => Err(TxReject::new(TxRejectKind::Policy, "too-large-cluster", "")),
            Effect::NotBetter => Err(TxReject::new(TxRejectKind::Reconsiderable, "replacement-failed", NO_IMPROVEMENT)),
        }
    }
}
