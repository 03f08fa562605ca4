//! What a node remembers, and how it is written down.
//!
//! - `State`: the highest ballot promised, how far the log is decided, the last snapshot that took the place of it, the
//!   floor, and the founding members.
//! - `Entry`: the ballot in which a slot was last accepted, and the value. Slots may leave gaps; a later record replaces.
//!
//! Entries stand before the `State` of one `Persist`, so that a torn tail never leaves a decided index beyond the log.
//! `Truncate` is never written: what an acceptor accepted is a vote, and a vote is replaced by a later one or trimmed
//! behind a snapshot, never cut off.
//!
//! Entries stay in memory from the base on; the driver bounds them by saving snapshots.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use verity_contract::{Boot, Members, Pieces, Record, RecordKind};
use verity_types::LogIndex;

use crate::Error;
use crate::message::{
    Ballot, Kind, Value, check_members, put_ballot, put_members, put_number, put_value_head, take_ballot, take_members,
    take_number, take_value,
};

const VERSION: u8 = 4;

/// The payload of a `State` record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) promised: Ballot,
    pub(crate) decided: u64,
    /// The log begins behind this one at least: what it still holds up to there was accepted, and need not be what was chosen.
    pub(crate) installed: u64,
    /// What this node may have forgotten reaches up to here.
    pub(crate) floor: u64,
    /// Members as of index 0; without voters on a node that began with a snapshot.
    pub(crate) founders: Members,
}

impl State {
    pub(crate) fn to_record(&self) -> Record {
        let mut out = BytesMut::with_capacity(48);
        out.put_u8(VERSION);
        put_ballot(&mut out, self.promised);
        put_number(&mut out, self.decided);
        put_number(&mut out, self.installed);
        put_number(&mut out, self.floor);
        if !self.founders.voters.is_empty() {
            put_members(&mut out, &self.founders);
        }
        Record { kind: RecordKind::State, index: LogIndex(0), payload: out.freeze().into() }
    }

    fn from_payload(mut bytes: Bytes) -> Result<Self, Error> {
        if bytes.is_empty() || bytes.split_to(1)[0] != VERSION {
            return Err(Error::Storage("the state record has an unknown version".into()));
        }
        let bytes = &mut bytes;
        let (promised, decided) = (take_ballot(bytes)?, take_number(bytes)?);
        let (installed, floor) = (take_number(bytes)?, take_number(bytes)?);
        let founders = if bytes.is_empty() { Members::default() } else { take_members(bytes)? };
        Ok(Self { promised, decided, installed, floor, founders })
    }
}

/// What an acceptor holds in one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The ballot in which it was last accepted; of a decided slot, one in or after which it was chosen.
    pub(crate) ballot: Ballot,
    pub(crate) value: Value,
}

impl Entry {
    pub(crate) fn to_record(&self, slot: u64) -> Record {
        let mut head = BytesMut::with_capacity(32);
        put_ballot(&mut head, self.ballot);
        put_value_head(&mut head, &self.value);
        let payload = Pieces { head: head.freeze(), body: self.value.payload.clone() };
        Record { kind: RecordKind::Entry, index: LogIndex(slot), payload }
    }

    fn from_payload(mut bytes: Bytes) -> Result<Self, Error> {
        let ballot = take_ballot(&mut bytes)?;
        let value = take_value(&mut bytes)?;
        if bytes.is_empty() { Ok(Self { ballot, value }) } else { Err(Error::Storage("an entry is too long".into())) }
    }
}

/// The slots behind the base, in memory.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The last index that is no longer in the log, and the term of its value.
    pub(crate) base: (u64, u64),
    pub(crate) entries: BTreeMap<u64, Entry>,
}

/// What a node starts from.
pub(crate) struct Recovered {
    pub(crate) log: Log,
    pub(crate) state: State,
    /// Members in force behind the decided part of the log.
    pub(crate) members: Members,
}

impl Log {
    /// Rebuilds the log from what stable storage held.
    pub(crate) fn recover(boot: &Boot) -> Result<Recovered, Error> {
        let mut state: Option<State> = None;
        let mut entries = BTreeMap::new();
        for record in &boot.records {
            let payload = record.payload.clone().join();
            match record.kind {
                RecordKind::State => state = Some(State::from_payload(payload).map_err(damaged)?),
                RecordKind::Entry => {
                    let entry = Entry::from_payload(payload).map_err(damaged)?;
                    entries.insert(record.index.0, entry);
                }
                RecordKind::Truncate | RecordKind::Proof => {
                    return Err(Error::Storage("a cut in the log, or a proof, which this engine never writes".into()));
                }
            }
        }
        let mut state =
            state.unwrap_or_else(|| State { founders: boot.members.clone(), floor: boot.floor.0, ..State::default() });
        let base = boot.snapshot.as_ref().map_or((0, 0), |meta| (meta.index.0, meta.term.0));
        if state.installed > base.0 {
            let (at, have) = (state.installed, base.0);
            return Err(Error::Storage(format!(
                "the log begins behind a snapshot at {at}, but the latest is at {have}"
            )));
        }
        entries.retain(|slot, _| *slot > base.0);
        let log = Self { base, entries };
        state.decided = state.decided.max(base.0);
        if let Some(missing) = (base.0 + 1..=state.decided).find(|slot| !log.entries.contains_key(slot)) {
            return Err(Error::Storage(format!(
                "node {} had slots decided up to {}, but {missing} is gone; it must not take part again",
                boot.id, state.decided
            )));
        }
        // An entry can outlive the state that was written behind it; nothing was said of either, so a higher promise
        // is as good.
        let highest = log.entries.values().map(|entry| entry.ballot).max().unwrap_or_default();
        state.promised = state.promised.max(highest);
        let mut members = boot.snapshot.as_ref().map_or_else(|| state.founders.clone(), |meta| meta.members.clone());
        for (_, entry) in log.entries.range(..=state.decided) {
            if let Kind::Members(next) = &entry.value.kind {
                members = next.clone();
            }
        }
        if !members.voters.is_empty() {
            check_members(&members).map_err(damaged)?;
        }
        Ok(Recovered { log, state, members })
    }

    pub(crate) fn last(&self) -> u64 {
        self.entries.keys().next_back().copied().unwrap_or(0).max(self.base.0)
    }

    /// The term of the value at `index`, if the log still knows it.
    pub(crate) fn term(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        self.entries.get(&index).map(|entry| entry.value.term)
    }

    /// Drops everything up to and with `index`, whose value has this term.
    pub(crate) fn trim(&mut self, index: u64, term: u64) {
        if index > self.base.0 {
            self.entries = self.entries.split_off(&(index + 1));
            self.base = (index, term);
        }
    }
}

fn damaged(error: Error) -> Error {
    match error {
        Error::Storage(what) => Error::Storage(what),
        other => Error::Storage(format!("a record cannot be read: {other}")),
    }
}
