//! TrueTime: an interval that holds the true time, or the admission that there is none.
//!
//! - upon a master's reading: keep it in place of the master's last one.
//! - upon `now`: age every reading by the drift and take the hull that all but a minority support (see `marzullo`);
//!   `earliest` never goes back, since what has passed stays passed.
//! - unsynchronised: too few masters, no majority among them, an interval wider than the limit, or one that
//!   contradicts what was said before. Such a reading refuses TrueTime writes.
//! - commit wait (Corbett et al. 2012, "Spanner", §4.1.2 and §4.2.1): `s = now().latest`; hold the locks; expose only
//!   when `after(s)`. Every resolver of the transaction waits, crash recovery included.
//!
//! Deliberately absent: asking masters, and waiting. The caller asks again at [`Reading::wait_for`].
//!
//! HAZARD: if more than a minority of masters lie, or the oscillator drifts more than its source states, the interval
//! may miss the true time and external consistency is lost. A checker with the real order finds it; nothing here can.

use std::collections::BTreeMap;

use thiserror::Error;
use verity_types::{Mono, Nanos, NodeId};

use crate::{Interval, SOURCES_MAX, Source, select};

/// What the interval is a bound against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// Masters on this cluster's own machines: an internal order, not bounded against UTC.
    Internal,
    /// The host's own bound (the kernel's `maxerror`, or ClockBound): as good as what disciplines the host.
    Host,
    /// The simulator's true time.
    Simulated,
}

/// Whether the interval may be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It may.
    Synchronised {
        /// The largest number of masters that support one point of it.
        agreeing: usize,
        /// Of how many.
        of: usize,
    },
    /// It may not, for this reason.
    Unsynchronised(Refused),
}

/// Why there is no reliable interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// Fewer masters have answered than are needed.
    #[error("clock unsynchronised: {have} of {needed} time masters have answered; wait, or check the network to them")]
    TooFewMasters {
        /// How many have answered.
        have: usize,
        /// How many must.
        needed: usize,
    },
    /// No point in time is supported by a majority of the masters.
    #[error("clock unsynchronised: no majority of the {of} time masters agrees; check their clocks")]
    NoMajority {
        /// How many there are.
        of: usize,
    },
    /// The interval has grown beyond the limit.
    #[error(
        "clock unsynchronised: uncertainty is {width_ns} ns, {max_ns} ns allowed; masters have not answered lately"
    )]
    TooWide {
        /// Its width.
        width_ns: u64,
        /// The limit.
        max_ns: u64,
    },
    /// The masters now say that a moment lies ahead which they said had passed.
    #[error("clock unsynchronised: time masters went back by {by_ns} ns; check their clocks")]
    WentBack {
        /// By how much at least.
        by_ns: u64,
    },
}

/// The time, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Holds the true time, if `status` says so.
    pub interval: Interval,
    /// Whether it may be relied on.
    pub status: Status,
    /// What it is a bound against.
    pub provenance: Provenance,
}

impl Reading {
    /// True if moment `s` has passed for certain. Never true while unsynchronised.
    #[must_use]
    pub fn after(&self, s: u64) -> bool {
        self.is_synchronised() && self.interval.earliest > s
    }

    /// True if moment `s` lies ahead for certain. Never true while unsynchronised.
    #[must_use]
    pub fn before(&self, s: u64) -> bool {
        self.is_synchronised() && self.interval.latest < s
    }

    /// The stamp of a commit that happens now: no earlier than any moment that has begun anywhere.
    ///
    /// # Errors
    /// The reason why the clock is unsynchronised.
    pub fn commit_stamp(&self) -> Result<u64, Refused> {
        match self.status {
            Status::Synchronised { .. } => Ok(self.interval.latest),
            Status::Unsynchronised(why) => Err(why),
        }
    }

    /// How long until `after(s)` may hold, if the uncertainty stays as it is; zero if it holds now.
    #[must_use]
    pub fn wait_for(&self, s: u64) -> Nanos {
        if self.after(s) { Nanos(0) } else { Nanos(s.saturating_sub(self.interval.earliest).saturating_add(1)) }
    }

    fn is_synchronised(&self) -> bool {
        matches!(self.status, Status::Synchronised { .. })
    }
}

/// A node's view of its time masters.
#[derive(Clone, Debug)]
pub struct TrueTime {
    masters: BTreeMap<NodeId, Source>,
    masters_needed: usize,
    width_max: Nanos,
    provenance: Provenance,
    floor: u64,
}

impl TrueTime {
    /// A view that is synchronised once `masters_needed` have answered and their hull is at most `width_max` wide.
    ///
    /// # Panics
    /// If `masters_needed` is zero or above [`SOURCES_MAX`].
    #[must_use]
    pub fn new(masters_needed: usize, width_max: Nanos, provenance: Provenance) -> Self {
        assert!((1..=SOURCES_MAX).contains(&masters_needed), "{masters_needed} masters can never answer");
        Self { masters: BTreeMap::new(), masters_needed, width_max, provenance, floor: 0 }
    }

    /// Takes in a master's reading. False if there are [`SOURCES_MAX`] other masters already.
    pub fn observe(&mut self, master: NodeId, reading: Source) -> bool {
        let room = self.masters.len() < SOURCES_MAX || self.masters.contains_key(&master);
        if room {
            self.masters.insert(master, reading);
        }
        room
    }

    /// Forgets a master that left.
    pub fn forget(&mut self, master: NodeId) {
        self.masters.remove(&master);
    }

    /// The time at monotonic moment `at`.
    pub fn now(&mut self, at: Mono) -> Reading {
        let sources: Vec<Source> = self.masters.values().copied().collect();
        let of = sources.len();
        if of < self.masters_needed {
            return self.refuse(None, Refused::TooFewMasters { have: of, needed: self.masters_needed });
        }
        let Some(selection) = select(&sources, at, (of - 1) / 2) else {
            return self.refuse(None, Refused::NoMajority { of });
        };
        let mut interval = selection.interval;
        if interval.latest < self.floor {
            return self.refuse(Some(interval), Refused::WentBack { by_ns: self.floor - interval.latest });
        }
        let width_ns = interval.latest - interval.earliest;
        if width_ns > self.width_max.0 {
            return self.refuse(Some(interval), Refused::TooWide { width_ns, max_ns: self.width_max.0 });
        }
        interval.earliest = interval.earliest.max(self.floor);
        self.floor = interval.earliest;
        let status = Status::Synchronised { agreeing: selection.agreeing, of };
        Reading { interval, status, provenance: self.provenance }
    }

    fn refuse(&self, interval: Option<Interval>, why: Refused) -> Reading {
        let interval = interval.unwrap_or(Interval { earliest: self.floor, latest: u64::MAX });
        Reading { interval, status: Status::Unsynchronised(why), provenance: self.provenance }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(earliest: u64, latest: u64, at: u64) -> Source {
        Source { interval: Interval { earliest, latest }, at: Mono(at), drift_ppm: 200 }
    }

    fn three(at: u64) -> TrueTime {
        let mut time = TrueTime::new(3, Nanos(1_000), Provenance::Internal);
        for (master, (earliest, latest)) in
            [(10_000, 10_100), (10_050, 10_150), (10_040, 10_090)].into_iter().enumerate()
        {
            assert!(time.observe(NodeId(master as u64), source(earliest, latest, at)));
        }
        time
    }

    #[test]
    fn an_unsynchronised_clock_refuses_stamps() {
        let mut time = TrueTime::new(2, Nanos(1_000), Provenance::Internal);
        time.observe(NodeId(1), source(5, 6, 0));
        let reading = time.now(Mono(0));
        assert_eq!(reading.commit_stamp(), Err(Refused::TooFewMasters { have: 1, needed: 2 }));
        assert!(!reading.after(0) && !reading.before(u64::MAX));
    }

    #[test]
    fn commit_wait_ends_when_the_stamp_has_passed() {
        let mut time = three(0);
        let reading = time.now(Mono(0));
        assert!(matches!(reading.status, Status::Synchronised { agreeing: 3, of: 3 }));
        let stamp = reading.commit_stamp().unwrap();
        assert!(!reading.after(stamp));
        let wait = reading.wait_for(stamp);
        let later = time.now(Mono(wait.0 + 1));
        assert!(later.after(stamp), "{later:?} after {stamp}");
        assert_eq!(later.wait_for(stamp), Nanos(0));
        assert!(later.before(stamp + 10_000));
    }

    #[test]
    fn silence_of_the_masters_is_noticed() {
        let mut time = three(0);
        assert!(time.now(Mono(0)).commit_stamp().is_ok());
        let stale = time.now(Mono(10_000_000_000));
        assert!(matches!(stale.status, Status::Unsynchronised(Refused::TooWide { .. })), "{stale:?}");
    }

    #[test]
    fn a_past_moment_stays_past() {
        let mut time = three(0);
        let first = time.now(Mono(0));
        for master in 0..3 {
            time.observe(NodeId(master), source(9_900, 10_100, 1));
        }
        let second = time.now(Mono(1));
        assert!(second.interval.earliest >= first.interval.earliest);
        for master in 0..3 {
            time.observe(NodeId(master), source(100, 110, 2));
        }
        assert!(matches!(time.now(Mono(2)).status, Status::Unsynchronised(Refused::WentBack { .. })));
    }

    #[test]
    fn a_minority_of_liars_changes_nothing_and_a_majority_is_refused() {
        let mut time = three(0);
        time.observe(NodeId(2), source(900_000, 900_001, 0));
        assert!(matches!(time.now(Mono(0)).status, Status::Synchronised { agreeing: 2, of: 3 }));
        time.observe(NodeId(1), source(500, 501, 0));
        assert_eq!(time.now(Mono(0)).status, Status::Unsynchronised(Refused::NoMajority { of: 3 }));
    }
}
