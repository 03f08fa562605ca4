//! What must hold of logs that lose records on purpose.
//!
//! Of one that is compacted:
//!
//! - divergent offset: an offset has one key and one value, whoever sees it, whenever, and somebody wrote them;
//! - order: offsets grow within an answer;
//! - lost latest: who reads from the start finds of each key the last record that was acknowledged when it began, or one behind
//!   that. If it was a tombstone, that or nothing. Where tombstones may go at once, a key that has one is left out: while
//!   somebody reads, what the tombstone deleted may go behind him, and it before him.
//!
//! Of one whose beginning is deleted:
//!
//! - log start: it never goes back, as those see it who ask behind each other, and a deletion is done when it is answered;
//! - vanished: nobody misses a record that nobody deleted, and in the end all acknowledged ones are there from the start on;
//! - below the start: in the end nothing is read from there.
//!
//! Deliberately absent: what must go. A log may keep what it need not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::wire::{Fetched, Found};

/// A key and its value; a tombstone has none.
pub(super) type Pair = (u64, Option<u64>);

/// One who reads a compacted log from its start to its end.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Of each key the last record that was acknowledged when it began.
    wanted: BTreeMap<u64, (i64, Option<u64>)>,
    /// Of each key the last that was seen.
    seen: BTreeMap<u64, i64>,
    /// It ends there at the earliest: who answers it may be behind another who did.
    upto: i64,
}

impl Sweep {
    fn on_seen(&mut self, key: u64, offset: i64) {
        self.seen.insert(key, offset);
    }
}

/// What was seen of the compacted log.
#[derive(Default)]
pub(super) struct CompactedLaws {
    written: BTreeSet<Pair>,
    at: BTreeMap<i64, Pair>,
    /// Of each key the last that was acknowledged.
    latest: BTreeMap<u64, (i64, Option<u64>)>,
    /// Tombstones may go at once.
    pub(super) tombstones_go: bool,
    pub(super) wrong: VecDeque<String>,
}

impl CompactedLaws {
    pub(super) fn on_written(&mut self, pair: Pair) {
        self.written.insert(pair);
    }

    fn stands(&mut self, offset: i64, pair: Pair) {
        let known = *self.at.entry(offset).or_insert(pair);
        if known != pair || !self.written.contains(&pair) {
            self.wrong.push_back(format!("divergent offset: {offset} is {known:x?} and {pair:x?}"));
        }
    }

    pub(super) fn on_acknowledged(&mut self, offset: i64, (key, value): Pair) {
        // A duplicate whose first place is not remembered any more has no offset to tell.
        if offset >= 0 {
            self.stands(offset, (key, value));
            let latest = self.latest.entry(key).or_insert((offset, value));
            *latest = (*latest).max((offset, value));
        }
    }

    /// Somebody is about to read from the start.
    pub(super) fn sweep(&self) -> Sweep {
        let upto = self.latest.values().map(|(offset, _)| offset + 1).max().unwrap_or(0);
        Sweep { wanted: self.latest.clone(), seen: BTreeMap::new(), upto }
    }

    /// An answer to a fetch; gives the offset to go on from. A sweep that has come to its end is none any more.
    pub(super) fn on_fetched(&mut self, from: i64, fetched: &Fetched, sweep: &mut Option<Sweep>) -> i64 {
        let (mut to, mut behind) = (from, -1);
        for batch in &fetched.batches {
            if batch.offset <= behind {
                self.wrong.push_back(format!("order: {} is read behind {behind}", batch.offset));
            }
            (to, behind) = (to.max(batch.next), batch.next - 1);
            match batch.found {
                Found::Keyed(key, value) => {
                    self.stands(batch.offset, (key, value));
                    sweep.iter_mut().for_each(|sweep| sweep.on_seen(key, batch.offset));
                }
                Found::Nothing => {}
                Found::Value(_) | Found::Marker { .. } => {
                    self.wrong.push_back(format!("divergent offset: {} has no key", batch.offset));
                }
            }
        }
        sweep.iter_mut().for_each(|sweep| sweep.upto = sweep.upto.max(fetched.high_watermark));
        if let Some(sweep) = sweep.take_if(|sweep| to >= sweep.upto) {
            self.on_swept(&sweep);
        }
        to
    }

    fn on_swept(&mut self, sweep: &Sweep) {
        for (key, (offset, value)) in &sweep.wanted {
            if self.tombstones_go && self.written.contains(&(*key, None)) {
                continue;
            }
            let seen = sweep.seen.get(key);
            let gone = seen.is_none() && value.is_none();
            if !gone && seen.is_none_or(|seen| seen < offset) {
                let what = format!("lost latest: {value:x?} of key {key} is not at {offset}, its last is at {seen:?}");
                self.wrong.push_back(what);
            }
        }
    }

    pub(super) fn judge(&mut self) -> Result<(), String> {
        self.wrong.pop_front().map_or(Ok(()), Err)
    }
}

/// What was seen of the log whose beginning is deleted.
#[derive(Default)]
pub(super) struct TrimmedLaws {
    /// The largest start that was told up to then.
    starts: BTreeMap<u64, i64>,
    acknowledged: BTreeMap<i64, u64>,
    at: BTreeMap<i64, u64>,
    /// The largest offset up to which somebody may have deleted.
    deleted: i64,
    start: i64,
    finals: BTreeMap<i64, u64>,
    pub(super) wrong: VecDeque<String>,
}

impl TrimmedLaws {
    fn stands(&mut self, offset: i64, value: u64) {
        let known = *self.at.entry(offset).or_insert(value);
        if known != value {
            self.wrong.push_back(format!("divergent offset: {offset} is {known:x} and {value:x}"));
        }
    }

    pub(super) fn on_acknowledged(&mut self, offset: i64, value: u64) {
        if offset >= 0 {
            self.stands(offset, value);
            self.acknowledged.insert(offset, value);
        }
    }

    /// Somebody asks for a deletion, or the log may delete by itself.
    pub(super) fn may_delete(&mut self, to: i64) {
        self.deleted = self.deleted.max(to);
    }

    /// It was answered where the log starts.
    pub(super) fn on_start(&mut self, asked: u64, now: u64, start: i64, last: bool) {
        if let Some((_, before)) = self.starts.range(..asked).next_back().filter(|(_, before)| **before > start) {
            self.wrong.push_back(format!("log start: it is {start} and was {before}"));
        }
        if start > self.deleted {
            self.wrong
                .push_back(format!("vanished: the log starts at {start}, nobody deleted beyond {}", self.deleted));
        }
        let largest = self.starts.values().next_back().map_or(start, |before| start.max(*before));
        self.starts.insert(now, largest);
        if last {
            self.start = self.start.max(start);
        }
    }

    pub(super) fn on_deleted(&mut self, asked: u64, now: u64, to: i64, start: i64) {
        if start < to {
            self.wrong.push_back(format!("log start: it is {start} behind a deletion up to {to}"));
        }
        self.on_start(asked, now, start, false);
    }

    /// Nothing is there at this offset, as an answer says. `end` is where it says that the log ends.
    pub(super) fn on_out_of_range(&mut self, from: i64, end: i64) {
        if from >= self.deleted && from <= end {
            self.wrong
                .push_back(format!("vanished: {from} of {end} is not there, nobody deleted beyond {}", self.deleted));
        }
    }

    /// Answers the offset to go on from.
    pub(super) fn on_fetched(&mut self, from: i64, fetched: &Fetched, last: bool) -> i64 {
        let mut to = from;
        for batch in &fetched.batches {
            if batch.offset != to {
                self.wrong.push_back(format!("vanished: {} is read where {to} should be", batch.offset));
            }
            to = batch.next;
            let Found::Value(value) = batch.found else {
                self.wrong.push_back(format!("divergent offset: {} has no value", batch.offset));
                continue;
            };
            self.stands(batch.offset, value);
            if last {
                self.finals.insert(batch.offset, value);
            }
        }
        to
    }

    /// What lies below the start is still there in the end.
    pub(super) fn on_below(&mut self, from: i64) {
        self.wrong.push_back(format!("below the start: {from} is read, the log starts at {}", self.start));
    }

    pub(super) fn judge(&mut self) -> Result<(), String> {
        self.wrong.pop_front().map_or(Ok(()), Err)?;
        let mut there = self.acknowledged.range(self.start..);
        match there.find(|(offset, value)| self.finals.get(offset) != Some(value)) {
            Some((offset, value)) => Err(format!(
                "vanished: {offset} was acknowledged as {value:x} and is {:x?}, the log starts at {}",
                self.finals.get(offset),
                self.start,
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::wire::Batch;
    use super::*;

    fn fetched(records: &[(i64, Found)]) -> Fetched {
        let batch = |(offset, found): &(i64, Found)| Batch {
            offset: *offset,
            next: offset + 1,
            producer: -1,
            transactional: false,
            found: *found,
        };
        Fetched { batches: records.iter().map(batch).collect(), ..Fetched::default() }
    }

    fn law(judged: Result<(), String>) -> String {
        judged.expect_err("a law is broken").split(':').next().unwrap_or_default().to_owned()
    }

    #[test]
    fn each_law_of_compaction_catches_its_canary() {
        let begun = || {
            let mut laws = CompactedLaws::default();
            [(1, Some(1)), (1, Some(2)), (1, None)].into_iter().for_each(|pair| laws.on_written(pair));
            laws.on_acknowledged(0, (1, Some(1)));
            laws.on_acknowledged(5, (1, Some(2)));
            laws
        };
        let read = |laws: &mut CompactedLaws, records: &[(i64, Found)]| {
            let mut sweep = Some(laws.sweep());
            (laws.on_fetched(0, &fetched(records), &mut sweep), sweep)
        };
        let mut laws = begun();
        read(&mut laws, &[(5, Found::Keyed(1, Some(1)))]);
        assert_eq!(law(laws.judge()), "divergent offset");
        let mut laws = begun();
        read(&mut laws, &[(6, Found::Keyed(1, Some(3)))]);
        assert_eq!(law(laws.judge()), "divergent offset", "nobody wrote it");
        let mut laws = begun();
        read(&mut laws, &[(5, Found::Keyed(1, Some(2))), (0, Found::Keyed(1, Some(1)))]);
        assert_eq!(law(laws.judge()), "order");
        let mut laws = begun();
        read(&mut laws, &[(0, Found::Keyed(1, Some(1))), (5, Found::Nothing)]);
        assert_eq!(law(laws.judge()), "lost latest");
        laws.on_acknowledged(6, (1, None));
        read(&mut laws, &[(5, Found::Keyed(1, Some(2))), (6, Found::Nothing)]);
        assert_eq!(law(laws.judge()), "lost latest", "what was deleted is there again");
        read(&mut laws, &[(6, Found::Nothing)]);
        assert_eq!(laws.judge(), Ok(()));
        laws.tombstones_go = true;
        laws.on_written((1, None));
        read(&mut laws, &[(5, Found::Keyed(1, Some(2))), (6, Found::Nothing)]);
        assert_eq!(laws.judge(), Ok(()), "both went while it was read");
        let mut laws = begun();
        let (to, sweep) = read(&mut laws, &[(0, Found::Keyed(1, Some(1)))]);
        assert!(to == 1 && sweep.is_some(), "it goes on");
        assert_eq!(read(&mut laws, &[(5, Found::Keyed(1, Some(2)))]).0, 6);
        assert_eq!(laws.judge(), Ok(()));
    }

    #[test]
    fn each_law_of_deletion_catches_its_canary() {
        let mut laws = TrimmedLaws::default();
        laws.may_delete(5);
        laws.on_start(0, 10, 5, false);
        laws.on_start(5, 15, 4, false);
        assert_eq!(laws.judge(), Ok(()), "it was asked for before");
        laws.on_start(16, 20, 4, false);
        assert_eq!(law(laws.judge()), "log start");
        laws.on_deleted(21, 22, 7, 5);
        assert_eq!(law(laws.judge()), "log start");
        laws.on_start(23, 24, 6, false);
        assert_eq!(law(laws.judge()), "vanished");
        laws.on_out_of_range(4, 9);
        laws.on_out_of_range(10, 9);
        assert_eq!(laws.judge(), Ok(()));
        laws.on_out_of_range(5, 9);
        assert_eq!(law(laws.judge()), "vanished");
        laws.on_fetched(5, &fetched(&[(6, Found::Value(1))]), false);
        assert_eq!(law(laws.judge()), "vanished");
        laws.on_below(4);
        assert_eq!(law(laws.judge()), "below the start");
        laws.on_acknowledged(6, 1);
        laws.on_start(30, 31, 6, true);
        assert_eq!(law(laws.judge()), "vanished");
        assert_eq!(laws.on_fetched(6, &fetched(&[(6, Found::Value(1))]), true), 7);
        assert_eq!(laws.judge(), Ok(()));
    }
}
