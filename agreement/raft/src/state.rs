//! What a node remembers of its log, and how it is written down.
//!
//! - `State`: the hard state of Raft §5.1 (term, vote, commit), the members as of the log's base, the floor.
//! - `Entry`: kind, term and data.
//! - `Truncate`: a conflict (Raft §5.3), or a snapshot that replaced the log.
//!
//! The order inside one `Persist` is Truncate, Entry, State: a torn tail then never leaves a commit index beyond the
//! log, while a `State` that goes with entries carries the commit index that came with them. The latter is what keeps
//! a restarted node from campaigning under members that the group left two changes ago.
//!
//! Entries stay in memory from the base on; the driver bounds them by saving snapshots.

use std::cell::Cell;
use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use verity_contract::{Boot, Members, Pieces, Record, RecordKind, SnapshotMeta};
use verity_types::{LogIndex, NodeId, Term};

use crate::Error;
use crate::message::{
    check_members, put_entry_head, put_members, put_number, take_entry, take_members, take_number, take_place,
    to_conf_state,
};

const VERSION: u8 = 3;
/// How many entries a check looks at.
const SLICE: usize = 32;
const CUT_BY_CONFLICT: u8 = 0;
const CUT_BY_SNAPSHOT: u8 = 1;

/// The payload of a `State` record.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) hard: HardState,
    /// What this node may have forgotten reaches up to here.
    pub(crate) floor: u64,
    /// Members as of the log's base; empty on a node that waits for its first snapshot.
    pub(crate) base: Members,
}

impl State {
    pub(crate) fn to_record(&self) -> Record {
        let mut out = BytesMut::with_capacity(64);
        out.put_u8(VERSION);
        for number in [self.hard.term, self.hard.vote, self.hard.commit, self.floor] {
            put_number(&mut out, number);
        }
        out.put_u8(u8::from(!self.base.voters.is_empty()));
        if !self.base.voters.is_empty() {
            put_members(&mut out, &self.base);
        }
        Record { kind: RecordKind::State, index: LogIndex(0), payload: out.freeze().into() }
    }

    fn from_payload(mut bytes: Bytes) -> Result<Self, Error> {
        if bytes.len() < 2 || bytes.split_to(1)[0] != VERSION {
            return Err(Error::Storage("the state record has an unknown version".into()));
        }
        let bytes = &mut bytes;
        let mut state = State::default();
        (state.hard.term, state.hard.vote) = (take_place(bytes)?, take_number(bytes)?);
        (state.hard.commit, state.floor) = (take_place(bytes)?, take_place(bytes)?);
        if take_number(bytes)? == 1 {
            state.base = take_members(bytes)?;
        }
        Ok(state)
    }
}

/// Takes term and vote out of a `State` record, so that tests can show what comes of a vote that is forgotten.
#[doc(hidden)]
pub fn forget_vote(record: &mut Record) {
    let mut state = State::from_payload(record.payload.clone().join()).expect("a record of this engine");
    (state.hard.term, state.hard.vote) = (0, 0);
    *record = state.to_record();
}

/// The record of an entry.
pub(crate) fn entry_record(entry: &Entry) -> Record {
    let mut head = BytesMut::with_capacity(16);
    put_entry_head(&mut head, entry);
    let payload = Pieces { head: head.freeze(), body: entry.data.clone() };
    Record { kind: RecordKind::Entry, index: LogIndex(entry.index), payload }
}

/// The record that voids what stands behind `index`.
pub(crate) fn truncate_record(index: u64, by_snapshot: bool) -> Record {
    let payload = Bytes::from_static(if by_snapshot { &[CUT_BY_SNAPSHOT] } else { &[CUT_BY_CONFLICT] });
    Record { kind: RecordKind::Truncate, index: LogIndex(index), payload: payload.into() }
}

/// The log as the engine reads it.
pub(crate) struct Log {
    /// The last index that is no longer in the log, and its term.
    pub(crate) base: (u64, u64),
    entries: VecDeque<Entry>,
    hard: HardState,
    conf: ConfState,
    /// The latest snapshot that peers can be offered.
    snapshot: Option<SnapshotMeta>,
    /// A peer needed a snapshot and there was none.
    pub(crate) wanted: Cell<bool>,
    check_cursor: Cell<usize>,
    /// Stable storage still holds entries that the snapshot made void: a crash came between the two.
    pub(crate) stale: bool,
}

impl Log {
    /// Rebuilds the log from what stable storage held. Also returns what was said in the last `State`.
    pub(crate) fn recover(boot: &Boot) -> Result<(Self, State), Error> {
        let mut state: Option<State> = None;
        let mut entries: VecDeque<Entry> = VecDeque::new();
        let mut installed = 0;
        for record in &boot.records {
            let mut payload = record.payload.clone().join();
            match record.kind {
                RecordKind::State => state = Some(State::from_payload(payload).map_err(damaged)?),
                RecordKind::Entry => {
                    let entry = take_entry(&mut payload, record.index.0).map_err(damaged)?;
                    push_recovered(&mut entries, entry)?;
                }
                RecordKind::Proof => {
                    return Err(Error::Storage("a proof, which this engine never writes".into()));
                }
                RecordKind::Truncate => {
                    while entries.back().is_some_and(|entry| entry.index > record.index.0) {
                        entries.pop_back();
                    }
                    if payload.first() == Some(&CUT_BY_SNAPSHOT) {
                        installed = record.index.0;
                        entries.clear();
                    }
                }
            }
        }
        let fresh = state.is_none() && entries.is_empty();
        let mut state = state.unwrap_or_else(|| State { floor: boot.floor.0, ..State::default() });
        let base = boot.snapshot.as_ref().map_or((0, 0), |meta| (meta.index.0, meta.term.0));
        if installed > base.0 {
            let (at, have) = (installed, base.0);
            return Err(Error::Storage(format!(
                "the log begins behind a snapshot at {at}, but the latest is at {have}"
            )));
        }
        let stale = keep_what_follows(&mut entries, base)?;
        match &boot.snapshot {
            Some(meta) => state.base = meta.members.clone(),
            None if fresh => state.base = boot.members.clone(),
            None => {}
        }
        if !state.base.voters.is_empty() {
            check_members(&state.base).map_err(damaged)?;
        }
        let (last, last_term) = entries.back().map_or(base, |entry| (entry.index, entry.term));
        if state.hard.commit > last {
            return Err(Error::Storage(format!(
                "node {} had entries committed up to {}, but its log ends at {last}; it must not take part again",
                boot.id, state.hard.commit
            )));
        }
        state.hard.commit = state.hard.commit.max(base.0);
        if state.hard.term < last_term {
            // The entry outlived the state that was written behind it: nothing was acknowledged, nobody was voted for.
            (state.hard.term, state.hard.vote) = (last_term, 0);
        }
        let snapshot = boot.snapshot.clone();
        let conf = to_conf_state(&state.base);
        let log = Self {
            base,
            entries,
            hard: state.hard.clone(),
            conf,
            snapshot,
            wanted: Cell::new(false),
            check_cursor: Cell::new(0),
            stale,
        };
        Ok((log, state))
    }

    pub(crate) fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    /// Appends what the engine made; true if something behind the first of them had to give way.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> bool {
        let Some(first) = entries.first() else { return false };
        assert!(first.index > self.base.0 && first.index <= self.last() + 1, "the engine appends without a gap");
        let keep = usize::try_from(first.index - self.base.0 - 1).expect("the log fits in memory");
        let cut = keep < self.entries.len();
        self.entries.truncate(keep);
        self.entries.extend(entries.iter().cloned());
        cut
    }

    /// A snapshot took the place of the whole log.
    pub(crate) fn install(&mut self, meta: SnapshotMeta) {
        assert!(meta.index.0 > self.base.0, "a snapshot never takes the log back");
        self.entries.clear();
        self.base = (meta.index.0, meta.term.0);
        self.snapshot = Some(meta);
    }

    /// Peers can be offered this snapshot from now on, and the log may end at `compact_to`.
    pub(crate) fn compact(&mut self, meta: SnapshotMeta, compact_to: u64) {
        assert!(compact_to <= meta.index.0 && compact_to <= self.last(), "only what a snapshot holds may be dropped");
        while self.base.0 < compact_to {
            let entry = self.entries.pop_front().expect("bounded by the last index");
            self.base = (entry.index, entry.term);
        }
        self.snapshot = Some(meta);
        self.wanted.set(false);
    }

    /// The latest snapshot's index; 0 without one.
    pub(crate) fn snapshot_index(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |meta| meta.index.0)
    }

    pub(crate) fn snapshot_meta(&self) -> Option<&SnapshotMeta> {
        self.snapshot.as_ref()
    }

    /// Asserts that the entries are one row: those at the end, where steps change the log, and at each call the next few of
    /// the rest, since it is called after every step.
    pub(crate) fn invariants(&self) {
        let count = self.entries.len();
        let end = count.saturating_sub(SLICE);
        let start = if end == 0 { 0 } else { self.check_cursor.get() % end };
        self.check(start, (start + SLICE).min(end));
        self.check(end, count);
        self.check_cursor.set(start + SLICE);
    }

    fn check(&self, from: usize, to: usize) {
        let place = |entry: &Entry| (entry.index, entry.term);
        let mut before = from.checked_sub(1).map_or(self.base, |before| place(&self.entries[before]));
        for entry in self.entries.range(from..to) {
            assert_eq!(entry.index, before.0 + 1, "the log has no gap");
            assert!(entry.term >= before.1, "terms never fall along the log (Raft §5.3)");
            before = place(entry);
        }
    }
}

fn damaged(error: Error) -> Error {
    match error {
        Error::Storage(what) => Error::Storage(what),
        other => Error::Storage(format!("a record cannot be read: {other}")),
    }
}

fn push_recovered(entries: &mut VecDeque<Entry>, entry: Entry) -> Result<(), Error> {
    match entries.back().map(|last| last.index) {
        Some(last) if entry.index > last + 1 => {
            Err(Error::Storage(format!("the log jumps from {last} to {}", entry.index)))
        }
        Some(last) if entry.index <= last => {
            let first = entries.front().map_or(0, |first| first.index);
            let keep = usize::try_from(entry.index.saturating_sub(first)).expect("the log fits in memory");
            entries.truncate(keep);
            entries.push_back(entry);
            Ok(())
        }
        _ => {
            entries.push_back(entry);
            Ok(())
        }
    }
}

/// Drops what the base includes, and what cannot follow from it. True if the records must be told, lest the next start
/// takes what is void for the log behind the snapshot, or for a log with a hole.
fn keep_what_follows(entries: &mut VecDeque<Entry>, base: (u64, u64)) -> Result<bool, Error> {
    let at_base = entries.iter().find(|entry| entry.index == base.0).map(|entry| entry.term);
    let first = entries.front().map_or(base.0 + 1, |entry| entry.index);
    if first > base.0 + 1 {
        return Err(Error::Storage(format!("the log begins at {first}, but the snapshot ends at {}", base.0)));
    }
    let clashes = at_base.is_some_and(|term| term != base.1);
    let short = entries.back().is_some_and(|last| last.index < base.0);
    if clashes {
        // The snapshot is committed, so whatever followed another entry at its place never was.
        entries.clear();
    }
    while entries.front().is_some_and(|entry| entry.index <= base.0) {
        entries.pop_front();
    }
    Ok(clashes || short)
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard.clone(), self.conf.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(StorageError::Compacted.into());
        }
        assert!(high <= self.last() + 1, "the engine reads up to {high}, the log ends at {}", self.last());
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let from = usize::try_from(low - self.base.0 - 1).expect("the log fits in memory");
        let to = usize::try_from(high - self.base.0 - 1).expect("the log fits in memory");
        let mut size = 0u64;
        let mut found = Vec::new();
        for entry in self.entries.range(from..to) {
            size += entry.data.len() as u64 + 24;
            if !found.is_empty() && size > max_size {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        if index < self.base.0 {
            return Err(StorageError::Compacted.into());
        }
        let place = usize::try_from(index - self.base.0 - 1).unwrap_or(usize::MAX);
        self.entries.get(place).map(|entry| entry.term).ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        // A snapshot from before `to` joined would be refused there: it does not know that it takes part.
        let fits = |meta: &SnapshotMeta| {
            meta.index.0 >= request_index.max(self.base.0).max(1) && meta.members.contains(NodeId(to))
        };
        match &self.snapshot {
            Some(meta) if fits(meta) => {
                let mut snapshot = Snapshot::default();
                let metadata = snapshot.mut_metadata();
                (metadata.index, metadata.term) = (meta.index.0, meta.term.0);
                metadata.set_conf_state(to_conf_state(&meta.members));
                Ok(snapshot)
            }
            _ => {
                self.wanted.set(true);
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
    }
}

/// The contract's form of a snapshot's metadata.
pub(crate) fn to_meta(snapshot: &Snapshot) -> SnapshotMeta {
    let meta = snapshot.get_metadata();
    let members = crate::message::to_members(meta.get_conf_state());
    SnapshotMeta { index: LogIndex(meta.index), term: Term(meta.term), members, ..SnapshotMeta::default() }
}
