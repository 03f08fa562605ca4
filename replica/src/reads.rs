//! Reads that wait: for a barrier, or for the state machine to get there.
//!
//! - upon a linearizable read: it joins the next barrier; all reads of a turn share one;
//! - upon `ReadReady`: it waits until the index is applied, then runs;
//! - upon `ReadFailed`: it joins the next barrier again, until [`READ_WAIT_MAX`] has passed;
//! - a probe is a read of nothing that is never given up: it tells when all is applied that was committed before it.
//!
//! Deliberately absent: local reads, which never wait.

use std::collections::BTreeMap;

use bytes::Bytes;
use verity_contract::BarrierId;
use verity_types::{LogIndex, Mono, Nanos, Token};

use crate::replica::ServiceId;

/// A read that no leader answers is given up after this long.
pub(crate) const READ_WAIT_MAX: Nanos = Nanos::from_millis(10_000);
/// How many reads of one group may wait.
pub(crate) const READS_MAX: usize = 65_536;

/// A read that is not answered yet.
#[derive(Clone, Debug)]
pub(crate) struct PendingRead {
    pub(crate) service: ServiceId,
    pub(crate) token: Token,
    pub(crate) query: Bytes,
    pub(crate) since: Mono,
}

/// Where a probe is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Probe {
    #[default]
    None,
    Wanted,
    Asked(BarrierId),
    At(LogIndex),
}

/// The waiting reads of one group.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// The last barrier failed.
    failed: bool,
    next_barrier: u64,
    /// To join the next barrier.
    gathered: Vec<PendingRead>,
    in_flight: BTreeMap<BarrierId, Vec<PendingRead>>,
    by_index: BTreeMap<LogIndex, Vec<PendingRead>>,
    count: usize,
    probe: Probe,
}

impl Reads {
    /// Begins a probe.
    pub(crate) fn probe(&mut self) {
        self.probe = Probe::Wanted;
    }

    /// True if a probe is answered and there.
    pub(crate) fn is_probed(&self, applied: LogIndex) -> bool {
        matches!(self.probe, Probe::At(index) if index <= applied)
    }

    /// No probe is wanted any more.
    pub(crate) fn end_probe(&mut self) {
        self.probe = Probe::None;
    }

    /// Takes a linearizable read in; `false` if too many wait.
    pub(crate) fn gather(&mut self, read: PendingRead) -> bool {
        if self.count >= READS_MAX {
            return false;
        }
        self.count += 1;
        self.gathered.push(read);
        true
    }

    /// Takes a read in that runs once `index` is applied; `false` if too many wait.
    pub(crate) fn wait_for(&mut self, index: LogIndex, read: PendingRead) -> bool {
        if self.count >= READS_MAX {
            return false;
        }
        self.count += 1;
        self.by_index.entry(index).or_default().push(read);
        true
    }

    /// True if no read waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0 && self.probe == Probe::None
    }

    /// True if a barrier is to be asked for. One that failed is asked again at the next tick, and not before: whoever
    /// refused it would refuse it as fast as it can be asked.
    pub(crate) fn has_gathered(&self) -> bool {
        (!self.gathered.is_empty() || self.probe == Probe::Wanted) && !self.failed
    }

    /// Time has passed.
    pub(crate) fn on_tick(&mut self) {
        self.failed = false;
    }

    /// Names a barrier for everything gathered.
    pub(crate) fn begin_barrier(&mut self) -> BarrierId {
        self.next_barrier += 1;
        let id = BarrierId(self.next_barrier);
        if self.probe == Probe::Wanted {
            self.probe = Probe::Asked(id);
        }
        self.in_flight.insert(id, std::mem::take(&mut self.gathered));
        id
    }

    /// The barrier is answered: its reads wait for `index`.
    pub(crate) fn on_ready(&mut self, id: BarrierId, index: LogIndex) {
        if self.probe == Probe::Asked(id) {
            self.probe = Probe::At(index);
        }
        if let Some(reads) = self.in_flight.remove(&id) {
            self.by_index.entry(index).or_default().extend(reads);
        }
    }

    /// The barrier failed: its reads join the next one.
    pub(crate) fn on_failed(&mut self, id: BarrierId) {
        if self.probe == Probe::Asked(id) {
            self.probe = Probe::Wanted;
        }
        if let Some(reads) = self.in_flight.remove(&id) {
            self.gathered.extend(reads);
            self.failed = true;
        }
    }

    /// The reads that may run now that `applied` is applied.
    pub(crate) fn runnable(&mut self, applied: LogIndex) -> Vec<PendingRead> {
        let later = self.by_index.split_off(&applied.next());
        let due: Vec<PendingRead> = std::mem::replace(&mut self.by_index, later).into_values().flatten().collect();
        self.count -= due.len();
        due
    }

    /// Removes the reads that have waited too long.
    pub(crate) fn expired(&mut self, now: Mono) -> Vec<PendingRead> {
        let mut expired = Vec::new();
        let lists =
            std::iter::once(&mut self.gathered).chain(self.in_flight.values_mut()).chain(self.by_index.values_mut());
        for list in lists {
            expired.extend(list.extract_if(.., |read| now.since(read.since) >= READ_WAIT_MAX));
        }
        self.by_index.retain(|_, list| !list.is_empty());
        self.count -= expired.len();
        expired
    }

    /// Takes everything that waits: the group has ended.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = PendingRead> + use<> {
        let Self { gathered, in_flight, by_index, .. } = std::mem::take(self);
        gathered.into_iter().chain(in_flight.into_values().flatten()).chain(by_index.into_values().flatten())
    }

    pub(crate) fn invariants(&self) {
        let lists = self.in_flight.values().chain(self.by_index.values());
        let waiting = self.gathered.len() + lists.map(Vec::len).sum::<usize>();
        assert_eq!(waiting, self.count, "every waiting read is counted once");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(token: u64, since: u64) -> PendingRead {
        PendingRead { service: ServiceId(0), token: Token(token), query: Bytes::new(), since: Mono(since) }
    }

    #[test]
    fn a_turn_shares_one_barrier_and_runs_once_applied() {
        let mut reads = Reads::default();
        assert!(reads.gather(read(1, 0)) && reads.gather(read(2, 0)));
        let id = reads.begin_barrier();
        assert!(!reads.has_gathered());
        reads.on_ready(id, LogIndex(5));
        assert!(reads.runnable(LogIndex(4)).is_empty());
        assert_eq!(reads.runnable(LogIndex(5)).len(), 2);
        reads.invariants();
    }

    #[test]
    fn a_failed_barrier_is_asked_again_and_given_up_in_the_end() {
        let mut reads = Reads::default();
        assert!(reads.gather(read(1, 0)));
        let id = reads.begin_barrier();
        reads.on_failed(id);
        assert!(!reads.has_gathered(), "not at once");
        reads.on_tick();
        assert!(reads.has_gathered());
        assert!(reads.expired(Mono(READ_WAIT_MAX.0 - 1)).is_empty());
        assert_eq!(reads.expired(Mono(READ_WAIT_MAX.0)).len(), 1);
        reads.invariants();
    }
}
