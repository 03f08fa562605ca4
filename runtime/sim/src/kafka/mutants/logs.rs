//! Bugs of logs that lose records on purpose: what is read is what would be there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use verity_contract::{Command as Ordered, Effects, ReadOutcome, StateMachine};
use verity_kafka::machine::partition::{Command, Fetched, Found as Told, Query, Wanted};

use super::super::wire::{Found, take_batches};
use crate::bug::Bug;

/// Where a log starts, in the manner of ListOffsets.
const EARLIEST: i64 = -2;
/// Where a batch says how long it is, and how much of it does not count.
const LENGTH_AT: usize = 8;
const LENGTH_LACKS: usize = 12;

fn read(machine: &mut dyn StateMachine, query: &Query) -> Option<Bytes> {
    match machine.read(&query.encode()) {
        ReadOutcome::Ready(bytes) => Some(bytes),
        _ => None,
    }
}

/// The records of an answer to a fetch.
fn records(answer: &Bytes) -> Option<Bytes> {
    Fetched::decode(answer.clone())?.records.read().ok()
}

/// Compaction takes the last record of some key along, unless it is the log's last.
#[derive(Default)]
pub(super) struct DropsLatest {
    dropped: BTreeSet<i64>,
}

impl DropsLatest {
    /// What a round that is due removes too much.
    fn choose(machine: &mut dyn StateMachine, now: u64) -> Option<i64> {
        let due = read(machine, &Query::Due(i64::try_from(now).ok()?))?;
        (Told::decode(due)?.offset == 1).then_some(())?;
        let start = Told::decode(read(machine, &Query::Offset { timestamp: EARLIEST, committed: false })?)?.offset;
        let (mut from, mut last) = (start, start);
        let mut latest: BTreeMap<u64, i64> = BTreeMap::new();
        // A fetch ends with its segment.
        loop {
            let rest = Wanted { offset: from, max_bytes: u32::MAX, min_one: true, committed: false, in_place: false };
            let batches = take_batches(records(&read(machine, &Query::Fetch(rest))?)?).ok()?;
            let Some(end) = batches.last() else { break };
            (from, last) = (end.next, end.offset);
            for batch in batches {
                if let Found::Keyed(key, value) = batch.found {
                    latest.remove(&key);
                    latest.extend(value.map(|_| (key, batch.offset)));
                }
            }
        }
        latest.into_values().filter(|offset| *offset < last).min()
    }

    /// The answer without what is dropped. Something is left of it, or nobody could read on.
    fn omit(&self, answer: &Bytes) -> Option<Bytes> {
        let mut records = records(answer)?;
        let head = answer.len() - records.len();
        let mut out = BytesMut::from(&answer[..head]);
        while let Some(header) = records.get(..LENGTH_AT + 4) {
            let offset = i64::from_be_bytes(header[..LENGTH_AT].try_into().ok()?);
            let length = u32::from_be_bytes(header[LENGTH_AT..].try_into().ok()?);
            let batch = records.split_to(LENGTH_LACKS + usize::try_from(length).ok()?);
            if !self.dropped.contains(&offset) {
                out.extend_from_slice(&batch);
            }
        }
        (out.len() > head).then(|| out.freeze())
    }
}

impl Bug for DropsLatest {
    fn apply(&mut self, machine: &mut dyn StateMachine, batch: &[Ordered], effects: &mut Effects) {
        for ordered in batch {
            if Command::decode(ordered.bytes.clone()) == Some(Command::Tend) {
                self.dropped.extend(Self::choose(machine, ordered.time.0));
            }
            machine.apply(std::slice::from_ref(ordered), effects);
        }
    }

    fn read(&mut self, machine: &mut dyn StateMachine, query: &[u8]) -> ReadOutcome {
        let Some(Query::Fetch(wanted)) = Query::decode(query) else { return machine.read(query) };
        match machine.read(&Query::Fetch(Wanted { in_place: false, ..wanted }).encode()) {
            ReadOutcome::Ready(bytes) => ReadOutcome::Ready(self.omit(&bytes).unwrap_or(bytes)),
            other => other,
        }
    }
}

/// A snapshot does not tell where the log starts.
#[derive(Default)]
pub(super) struct ForgetsStart {
    forgot: bool,
}

impl Bug for ForgetsStart {
    fn apply(&mut self, machine: &mut dyn StateMachine, batch: &[Ordered], effects: &mut Effects) {
        let deletes =
            |ordered: &Ordered| matches!(Command::decode(ordered.bytes.clone()), Some(Command::DeleteRecords { .. }));
        self.forgot &= !batch.iter().any(deletes);
        machine.apply(batch, effects);
    }

    fn read(&mut self, machine: &mut dyn StateMachine, query: &[u8]) -> ReadOutcome {
        match (machine.read(query), Query::decode(query)) {
            (ReadOutcome::Ready(bytes), Some(Query::Offset { timestamp: EARLIEST, .. })) if self.forgot => {
                let told = Told::decode(bytes.clone()).map(|told| Told { offset: 0, ..told }.encode());
                ReadOutcome::Ready(told.unwrap_or(bytes))
            }
            (outcome, _) => outcome,
        }
    }

    fn restored(&mut self) {
        self.forgot = true;
    }
}
