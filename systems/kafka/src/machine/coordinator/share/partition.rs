//! One partition as one share group sees it: which records are delivered, to whom, how often, and what became of them.
//!
//! The window `start..end` holds the records in flight, as runs of offsets in the same state. What lies before `start`
//! (KIP-932's share-partition start offset) is settled, what lies from `end` on has been given to nobody.
//!
//! ```text
//!            acquire                accept, gap
//! available ---------> acquired ---------------> acknowledged, archived
//!     ^                    |  release, lock over, session ended
//!     +--------------------+         |
//!                          |         +-- at the limit of deliveries: dead
//!                          +-- reject: dead
//! dead = archiving ---> archived     if the group has a dead-letter topic (KIP-1191)
//!      | archived                    otherwise
//! ```
//!
//! - upon an acquisition: what is available of the batches that the proposer has read is locked for the member, first what
//!   was delivered before, then what is new, as far as the window is allowed to grow. Control batches and aborted ones
//!   are archived unseen;
//! - upon acknowledgements: all of a request's or none. A record that is not locked by the member is no longer its own;
//! - upon the end of a lock: the record is available again, unless it was delivered too often;
//! - upon a log that begins later: so does the window.
//!
//! A delivery whose connection ended counts as none: nobody has seen the records. The word of that may come late, from a node
//! that was cut off, when the member has long acquired the same records through another; so it names the session that ended.
//!
//! HAZARD: the gaps between batches that an acquisition brings are taken for gaps in the log. That holds while the proposer
//! has read from an offset of the window on, and the window was not moved since: `epoch` tells.
//!
//! Deliberately absent: the log, time of its own, waiting.

use std::collections::BTreeMap;

use super::super::command::{Acknowledgement, ShareAcquire, ShareSession, ShareSettings};
use super::super::event::{Cause, DeadRecords};
use super::super::reply::AcquiredRecords;
use crate::machine::codec::{choice, record};
use crate::wire::ErrorCode;

/// No window grows beyond so many records, but for the batch that crosses it (Kafka's bound on `share.partition.max.record.locks`).
const WINDOW_COUNT_MAX: u32 = 10_000;
/// So long after it was asked for, the burial of dead records is asked for again.
const BURIAL_RETRY_MS: u64 = 2_000;
/// No more runs of dead records are asked for at once.
const BURIAL_COUNT_MAX: usize = 256;

/// What a client says of a record (KIP-932, KIP-1222).
mod acknowledge {
    pub(super) const GAP: i8 = 0;
    pub(super) const ACCEPT: i8 = 1;
    pub(super) const RELEASE: i8 = 2;
    pub(super) const REJECT: i8 = 3;
    pub(super) const RENEW: i8 = 4;
}

choice! {
    /// The state of a record in flight.
    pub(in super::super) enum RecordState {
        /// It may be acquired, and was so often.
        Available { count: u16, } = 1,
        /// It is a member's until then, or until the session ends.
        Acquired { count: u16, member: String, session: ShareSession, until: u64, } = 2,
        /// It is on its way to the dead-letter topic.
        Archiving { count: u16, cause: Cause, } = 3,
        /// It is done with.
        Acknowledged = 4,
        /// It is done without.
        Archived = 5,
    }
}

record! {
    /// Offsets in the same state.
    pub(in super::super) struct Run {
        pub(in super::super) last: i64,
        pub(in super::super) state: RecordState,
    }
}

record! {
    /// The partition.
    pub(in super::super) struct SharePartition {
        /// Another one whenever the window is moved by hand.
        pub(in super::super) epoch: i32,
        /// The highest epoch of a partition's leader that acquired.
        pub(in super::super) leader_epoch: i32,
        pub(in super::super) start: i64,
        pub(in super::super) end: i64,
        /// By their first offsets; together they are the window.
        pub(in super::super) runs: BTreeMap<i64, Run>,
        /// As the last command brought them.
        pub(in super::super) settings: ShareSettings,
        /// When dead records are asked to be buried again.
        pub(in super::super) bury_at: Option<u64>,
    }
}

impl RecordState {
    fn is_final(&self) -> bool {
        matches!(self, Self::Acknowledged | Self::Archived)
    }

    fn is_held_by(&self, name: &str) -> bool {
        matches!(self, Self::Acquired { member, .. } if member == name)
    }
}

/// The state of a record that a request acquires.
fn acquired(count: u16, until: u64, request: &ShareAcquire) -> RecordState {
    RecordState::Acquired { count, member: request.member_id.clone(), session: request.session, until }
}

/// How many offsets lie between two, these included.
fn span(first: i64, last: i64) -> i64 {
    last.saturating_sub(first).saturating_add(1)
}

impl SharePartition {
    pub(in super::super) fn new(start: i64, epoch: i32, settings: ShareSettings) -> Self {
        let start = start.max(0);
        Self { epoch, leader_epoch: -1, start, end: start, runs: BTreeMap::new(), settings, bury_at: None }
    }

    /// The first offset that may be acquired, or from which new records are wanted; `None` if the window is full.
    pub(in super::super) fn next(&self) -> Option<i64> {
        let available = self.runs.iter().find(|(_, run)| matches!(run.state, RecordState::Available { .. }));
        available.map(|(first, _)| *first).or_else(|| (self.room() > 0).then_some(self.end))
    }

    /// How far the window may grow.
    fn room(&self) -> i64 {
        i64::from(self.settings.window.clamp(1, WINDOW_COUNT_MAX)) - (self.end - self.start)
    }

    /// How many records of the window are settled.
    pub(in super::super) fn settled(&self) -> i64 {
        self.runs.iter().filter(|(_, run)| run.state.is_final()).map(|(first, run)| span(*first, run.last)).sum()
    }

    /// When something is next to be done without anybody asking.
    pub(in super::super) fn deadline(&self) -> Option<u64> {
        let lock = |run: &Run| match run.state {
            RecordState::Acquired { until, .. } => Some(until),
            _ => None,
        };
        self.runs.values().filter_map(lock).chain(self.bury_at).min()
    }

    // ---- runs

    /// Lets a run begin at this offset of the window.
    fn split(&mut self, at: i64) {
        let Some((_, run)) = self.runs.range_mut(..at).next_back() else { return };
        if run.last >= at {
            let right = run.clone();
            run.last = at - 1;
            self.runs.insert(at, right);
        }
    }

    /// Changes the states of these offsets, as far as they are in the window.
    fn change(&mut self, first: i64, last: i64, mut to: impl FnMut(&RecordState) -> Option<RecordState>) {
        let (first, last) = (first.max(self.start), last.min(self.end - 1));
        if first > last {
            return;
        }
        self.split(first);
        self.split(last.saturating_add(1));
        for run in self.runs.range_mut(first..=last).map(|(_, run)| run) {
            if let Some(state) = to(&run.state) {
                run.state = state;
            }
        }
    }

    /// Appends to the window.
    fn extend(&mut self, last: i64, state: RecordState) {
        if last >= self.end {
            self.runs.insert(self.end, Run { last, state });
            self.end = last.saturating_add(1);
        }
    }

    /// Joins runs in the same state, and lets go what is settled at the front.
    fn tidy(&mut self) {
        let mut runs: BTreeMap<i64, Run> = BTreeMap::new();
        for (first, run) in std::mem::take(&mut self.runs) {
            if runs.is_empty() && run.state.is_final() {
                self.start = run.last + 1;
                continue;
            }
            match runs.values_mut().next_back() {
                Some(before) if before.state == run.state => before.last = run.last,
                _ => drop(runs.insert(first, run)),
            }
        }
        self.runs = runs;
        if self.runs.is_empty() {
            self.start = self.end;
        }
        let dead = |run: &Run| matches!(run.state, RecordState::Archiving { .. });
        if !self.runs.values().any(dead) {
            self.bury_at = None;
        } else if self.bury_at.is_none() {
            // At once.
            self.bury_at = Some(0);
        }
    }

    /// What becomes of a record that nobody is to get any more.
    fn dead(&self, count: u16, cause: Cause) -> RecordState {
        if self.settings.dead_letter { RecordState::Archiving { count, cause } } else { RecordState::Archived }
    }

    /// What becomes of a record that was delivered and not settled.
    fn given_back(&self, count: u16) -> RecordState {
        if count >= self.settings.delivery_count_max.max(1) {
            self.dead(count, Cause::TooManyDeliveries)
        } else {
            RecordState::Available { count }
        }
    }

    // ---- what happens

    /// Ends the locks whose time is over. True if there were any.
    fn expire(&mut self, now: u64) -> bool {
        let over = |run: &Run| matches!(run.state, RecordState::Acquired { until, .. } if until <= now);
        if !self.runs.values().any(over) {
            return false;
        }
        let back = self.clone_settings();
        for run in self.runs.values_mut().filter(|run| over(run)) {
            if let RecordState::Acquired { count, .. } = run.state {
                run.state = back.given_back(count);
            }
        }
        true
    }

    /// The rules alone, to be asked while runs change.
    fn clone_settings(&self) -> Self {
        Self::new(0, 0, self.settings.clone())
    }

    /// The log begins here.
    fn follow(&mut self, log_start: i64) {
        if log_start <= self.start {
            return;
        }
        self.split(log_start);
        self.runs = self.runs.split_off(&log_start);
        self.start = log_start;
        self.end = self.end.max(log_start);
    }

    /// Something is due.
    pub(in super::super) fn on_time(&mut self, now: u64) {
        self.expire(now);
        self.tidy();
    }

    /// Locks records for a member.
    pub(in super::super) fn acquire(&mut self, now: u64, request: &ShareAcquire) -> Vec<AcquiredRecords> {
        self.settings = request.settings.clone();
        self.leader_epoch = self.leader_epoch.max(request.leader_epoch);
        self.follow(request.log_start);
        self.expire(now);
        let mut taken = Vec::new();
        let mut left = i64::from(request.count_max);
        let until = now.saturating_add(u64::from(request.settings.lock_ms));
        for batch in &request.batches {
            if left <= 0 || batch.first > batch.last || batch.last == i64::MAX {
                break;
            }
            if batch.last < self.start {
                continue;
            }
            // Between batches there is nothing in the log.
            self.extend(batch.first.saturating_sub(1), RecordState::Archived);
            if !batch.readable {
                self.change(batch.first, batch.last, |state| match state {
                    RecordState::Available { .. } => Some(RecordState::Archived),
                    _ => None,
                });
                self.extend(batch.last, RecordState::Archived);
                continue;
            }
            let known = batch.last.min(self.end - 1);
            self.take_known(batch.first, known, until, request, &mut left, &mut taken);
            let room = self.room();
            if batch.last >= self.end && left > 0 && room > 0 {
                // A batch is taken as a whole, unless the client asked for so many records and no more.
                let most = if request.exact { left.min(room) } else { i64::MAX };
                let (first, last) = (self.end, batch.last.min(self.end.saturating_add(most - 1)));
                self.extend(last, acquired(1, until, request));
                left -= span(first, last);
                taken.push(AcquiredRecords { first, last, count: 1 });
            }
            if batch.last >= self.end {
                break;
            }
        }
        self.tidy();
        taken
    }

    /// Takes what is available of offsets that were given to somebody before.
    fn take_known(
        &mut self,
        first: i64,
        last: i64,
        until: u64,
        request: &ShareAcquire,
        left: &mut i64,
        taken: &mut Vec<AcquiredRecords>,
    ) {
        let first = first.max(self.start);
        if first > last {
            return;
        }
        self.split(first);
        self.split(last + 1);
        let runs: Vec<(i64, i64, u16)> = self
            .runs
            .range(first..=last)
            .filter_map(|(first, run)| match run.state {
                RecordState::Available { count } => Some((*first, run.last, count)),
                _ => None,
            })
            .collect();
        for (first, last, count) in runs {
            if *left <= 0 {
                return;
            }
            let last = if request.exact { last.min(first.saturating_add(*left - 1)) } else { last };
            let count = count.saturating_add(1);
            let state = acquired(count, until, request);
            self.change(first, last, |_| Some(state.clone()));
            *left -= span(first, last);
            taken.push(AcquiredRecords { first, last, count });
        }
    }

    /// Settles records of a member: all that it names, or none.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if it makes no sense, `INVALID_RECORD_STATE` if a record is not the member's.
    pub(in super::super) fn acknowledge(
        &mut self,
        now: u64,
        sayer: (&str, ShareSession),
        settings: &ShareSettings,
        batches: &[Acknowledgement],
    ) -> Result<(), ErrorCode> {
        self.settings = settings.clone();
        self.expire(now);
        let verdict = self.check(sayer.0, batches);
        if verdict.is_ok() {
            let until = now.saturating_add(u64::from(settings.lock_ms));
            for batch in batches {
                self.settle(sayer, until, batch);
            }
        }
        self.tidy();
        verdict
    }

    fn check(&self, member: &str, batches: &[Acknowledgement]) -> Result<(), ErrorCode> {
        let mut behind = -1;
        for batch in batches {
            let whole = batch.types.len() == 1;
            let fits = whole || usize::try_from(span(batch.first, batch.last)).is_ok_and(|n| n == batch.types.len());
            let known = batch.types.iter().all(|kind| match *kind {
                acknowledge::GAP | acknowledge::ACCEPT | acknowledge::RELEASE | acknowledge::REJECT => true,
                acknowledge::RENEW => self.settings.renews,
                _ => false,
            });
            if batch.first <= behind || batch.first > batch.last || !fits || !known {
                return Err(ErrorCode::INVALID_REQUEST);
            }
            behind = batch.last;
            if batch.last >= self.end {
                return Err(ErrorCode::INVALID_RECORD_STATE);
            }
            // What lies before the window is settled, or gone from the log.
            let first = batch.first.max(self.start);
            let begin = self.runs.range(..=first).next_back().map_or(first, |(first, _)| *first);
            let held = |run: &Run| run.last < first || run.state.is_held_by(member);
            if first <= batch.last && !self.runs.range(begin..=batch.last).all(|(_, run)| held(run)) {
                return Err(ErrorCode::INVALID_RECORD_STATE);
            }
        }
        Ok(())
    }

    fn settle(&mut self, (member, session): (&str, ShareSession), until: u64, batch: &Acknowledgement) {
        let rules = self.clone_settings();
        let become_of = |kind: i8, state: &RecordState| match state {
            RecordState::Acquired { count, member: holder, .. } if holder == member => Some(match kind {
                acknowledge::ACCEPT => RecordState::Acknowledged,
                acknowledge::RELEASE => rules.given_back(*count),
                acknowledge::REJECT => rules.dead(*count, Cause::Rejected),
                acknowledge::RENEW => {
                    RecordState::Acquired { count: *count, member: member.to_owned(), session, until }
                }
                _ => RecordState::Archived,
            }),
            _ => None,
        };
        if let [kind] = batch.types[..] {
            return self.change(batch.first, batch.last, |state| become_of(kind, state));
        }
        let mut first = batch.first;
        for same in batch.types.chunk_by(|one, other| one == other) {
            let last = first + i64::try_from(same.len()).expect("it was measured against offsets") - 1;
            self.change(first, last, |state| become_of(same[0], state));
            first = last + 1;
        }
    }

    /// A session of the member has ended: what it has acquired through it was not seen by anybody.
    pub(in super::super) fn release(&mut self, now: u64, member: &str, ended: ShareSession) {
        self.expire(now);
        self.change(self.start, self.end - 1, |state| match state {
            RecordState::Acquired { count, member: holder, session, .. } if holder == member && *session == ended => {
                Some(RecordState::Available { count: count.saturating_sub(1) })
            }
            _ => None,
        });
        self.tidy();
    }

    /// Moves the window by hand.
    pub(in super::super) fn seek(&mut self, offset: i64, epoch: i32) {
        *self = Self { leader_epoch: self.leader_epoch, ..Self::new(offset, epoch, self.settings.clone()) };
    }

    // ---- the dead

    /// The dead that are to be buried now; the next time they are named is noted.
    pub(in super::super) fn bury(&mut self, now: u64) -> Vec<DeadRecords> {
        if self.bury_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.bury_at = Some(now.saturating_add(BURIAL_RETRY_MS));
        let dead = self.runs.iter().filter_map(|(first, run)| match run.state {
            RecordState::Archiving { count, cause } => {
                Some(DeadRecords { first: *first, last: run.last, count, cause })
            }
            _ => None,
        });
        dead.take(BURIAL_COUNT_MAX).collect()
    }

    /// They are buried.
    pub(in super::super) fn buried(&mut self, ranges: &[(i64, i64)]) {
        for (first, last) in ranges {
            self.change(*first, *last, |state| match state {
                RecordState::Archiving { .. } => Some(RecordState::Archived),
                _ => None,
            });
        }
        self.tidy();
        // The rest comes next.
        self.bury_at = self.bury_at.map(|_| 0);
    }

    /// Asserts what must always hold.
    pub(in super::super) fn invariants(&self) {
        assert!(0 <= self.start && self.start <= self.end, "a window has a start and an end");
        let (mut at, mut before) = (self.start, None);
        for (first, run) in &self.runs {
            assert_eq!(*first, at, "runs leave no gap");
            assert!(run.last >= *first, "a run has a record");
            assert!(before != Some(&run.state), "neighbours differ");
            if let RecordState::Acquired { count, .. } | RecordState::Archiving { count, .. } = run.state {
                assert!(count > 0, "what was acquired was delivered");
            }
            (at, before) = (run.last + 1, Some(&run.state));
        }
        assert_eq!(at, self.end, "and end where the window does");
        assert!(self.runs.values().next().is_none_or(|run| !run.state.is_final()), "what is settled is let go");
        let dead = self.runs.values().any(|run| matches!(run.state, RecordState::Archiving { .. }));
        assert_eq!(dead, self.bury_at.is_some(), "the dead are buried");
    }
}
