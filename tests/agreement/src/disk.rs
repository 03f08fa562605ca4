//! A node's stable storage: records in order, the latest snapshot, and what is written but not yet stable.

use std::collections::VecDeque;

use verity_contract::{PersistId, Record, RecordKind, SnapshotMeta};

/// A driver that breaks its promise. The suite must catch each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutant {
    /// The promises are kept.
    #[default]
    None,
    /// `State` records are never written: votes are forgotten.
    VoteNotPersisted,
    /// `Persisted` is said before the records are stable.
    AckBeforeSync,
}

/// One node's disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) records: Vec<Record>,
    pub(crate) snapshot: Option<(SnapshotMeta, Vec<u64>)>,
    pending: VecDeque<(PersistId, Vec<Record>)>,
}

impl Disk {
    pub(crate) fn write(&mut self, id: PersistId, records: Vec<Record>) {
        assert!(self.pending.back().is_none_or(|(last, _)| *last < id), "persist ids grow");
        self.pending.push_back((id, records));
    }

    /// Makes everything up to `id` stable.
    pub(crate) fn sync(&mut self, id: PersistId, mutant: Mutant) {
        while self.pending.front().is_some_and(|(front, _)| *front <= id) {
            let (_, records) = self.pending.pop_front().expect("seen above");
            let keep = |record: &Record| mutant != Mutant::VoteNotPersisted || record.kind != RecordKind::State;
            self.records.extend(records.into_iter().filter(keep));
        }
    }

    /// The power fails: what is not stable is gone.
    pub(crate) fn lose(&mut self) {
        self.pending.clear();
    }

    /// Saves a snapshot and drops what stands before `compact_to`.
    pub(crate) fn save(&mut self, meta: SnapshotMeta, machine: Vec<u64>, compact_to: u64) {
        self.snapshot = Some((meta, machine));
        let last_state = self.records.iter().rposition(|record| record.kind == RecordKind::State);
        let mut at = 0;
        self.records.retain(|record| {
            let here = at;
            at += 1;
            match record.kind {
                RecordKind::State => Some(here) == last_state,
                RecordKind::Entry | RecordKind::Proof => record.index.0 > compact_to,
                RecordKind::Truncate => true,
            }
        });
    }
}
