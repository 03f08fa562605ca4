//! Hybrid logical clock: a stamp that respects causality and stays within a bound of the wall clock.
//!
//! - upon a local event or a send: `l' = l; l = max(l', pt)`; if `l = l'` then `c = c + 1`, otherwise `c = 0`; the
//!   stamp is `(l, c)` (Kulkarni et al. 2014, figure 5).
//! - upon a stamp `(l.m, c.m)` of a peer: `l = max(l', l.m, pt)`; `c` is one more than the counter of whichever of
//!   `l'` and `l.m` equals `l` (the larger if both do), or 0 (figure 5).
//! - upon a peer's stamp further ahead of our wall than `max_offset`: refuse it and change nothing, so that one wild
//!   clock cannot drag the cluster into the future.
//! - upon overflow of the counter: carry into the wall part. Order is kept; the stamp is one nanosecond ahead.
//!
//! Deliberately absent: reading the wall clock. It is an argument.
//!
//! HAZARD: equal stamps of two nodes are possible for concurrent events; a total order needs the node as tie-break.

use std::fmt;

use thiserror::Error;
use verity_types::Nanos;

/// A stamp. Ordered by wall part, then by counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hlc {
    /// The largest wall time known to the event, in nanoseconds since 1970-01-01 UTC.
    pub wall_ns: u64,
    /// Counts events that share `wall_ns`.
    pub logical: u32,
}

impl Hlc {
    /// The smallest stamp above this one.
    ///
    /// # Panics
    /// At the last stamp of all, in the year 2554.
    #[must_use]
    pub fn next(self) -> Self {
        match self.logical.checked_add(1) {
            Some(logical) => Self { logical, ..self },
            None => {
                let wall_ns = self.wall_ns.checked_add(1).expect("nanoseconds since 1970 last until the year 2554");
                Self { wall_ns, logical: 0 }
            }
        }
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:010}", self.wall_ns, self.logical)
    }
}

/// Why a peer's stamp was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HlcError {
    /// The peer's clock, or ours, is off by more than the cluster tolerates.
    #[error("stamp is {ahead_ns} ns ahead of the local clock, {max_ns} ns allowed: check both nodes' clocks")]
    PeerAhead {
        /// How far ahead of our wall clock the stamp is.
        ahead_ns: u64,
        /// What `max_offset` allows.
        max_ns: u64,
    },
}

/// A node's hybrid logical clock.
#[derive(Clone, Copy, Debug)]
pub struct HybridClock {
    last: Hlc,
    max_offset: Nanos,
}

impl HybridClock {
    /// A clock that refuses stamps more than `max_offset` ahead of the local wall.
    #[must_use]
    pub fn new(max_offset: Nanos) -> Self {
        Self { last: Hlc::default(), max_offset }
    }

    /// The last stamp given out or taken in.
    #[must_use]
    pub fn last(&self) -> Hlc {
        self.last
    }

    /// A stamp for a local event at wall time `wall_ns`: above every stamp before it.
    #[must_use]
    pub fn now(&mut self, wall_ns: u64) -> Hlc {
        self.advance(wall_ns, Hlc::default())
    }

    /// A stamp for the receipt of `remote`: above it and above every local stamp.
    ///
    /// # Errors
    /// [`HlcError::PeerAhead`]; the clock is then as it was before.
    pub fn update(&mut self, wall_ns: u64, remote: Hlc) -> Result<Hlc, HlcError> {
        let ahead_ns = remote.wall_ns.saturating_sub(wall_ns);
        if ahead_ns > self.max_offset.0 {
            return Err(HlcError::PeerAhead { ahead_ns, max_ns: self.max_offset.0 });
        }
        Ok(self.advance(wall_ns, remote))
    }

    fn advance(&mut self, wall_ns: u64, remote: Hlc) -> Hlc {
        let known = self.last.max(remote);
        let stamp = if wall_ns > known.wall_ns { Hlc { wall_ns, logical: 0 } } else { known.next() };
        assert!(stamp > self.last && stamp > remote, "a stamp is above all that it knows of");
        self.last = stamp;
        stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fast_wall_is_carried_until_it_is_passed() {
        // Node 0's wall is far ahead; the others count behind its stamp until their walls pass it.
        let mut clocks = [HybridClock::new(Nanos(100)); 3];
        let sent = clocks[0].now(10);
        assert_eq!(sent, Hlc { wall_ns: 10, logical: 0 });
        assert_eq!(clocks[1].update(1, sent).unwrap(), Hlc { wall_ns: 10, logical: 1 });
        let sent = clocks[1].now(2);
        assert_eq!(sent, Hlc { wall_ns: 10, logical: 2 });
        assert_eq!(clocks[2].update(2, sent).unwrap(), Hlc { wall_ns: 10, logical: 3 });
        assert_eq!(clocks[2].now(13), Hlc { wall_ns: 13, logical: 0 });
    }

    #[test]
    fn a_wild_peer_does_not_poison() {
        let mut clock = HybridClock::new(Nanos(500));
        let before = clock.now(1_000);
        let wild = Hlc { wall_ns: u64::MAX, logical: u32::MAX };
        let refused = clock.update(1_000, wild).unwrap_err();
        assert_eq!(refused, HlcError::PeerAhead { ahead_ns: u64::MAX - 1_000, max_ns: 500 });
        assert_eq!(clock.last(), before);
        assert!(clock.update(1_000, Hlc { wall_ns: 1_500, logical: 0 }).is_ok(), "the bound itself is allowed");
        assert!(clock.update(1_000, Hlc { wall_ns: 1_501, logical: 0 }).is_err());
    }

    #[test]
    fn the_counter_carries() {
        let mut clock = HybridClock::new(Nanos(500));
        let full = Hlc { wall_ns: 1_200, logical: u32::MAX };
        assert_eq!(clock.update(1_000, full).unwrap(), Hlc { wall_ns: 1_201, logical: 0 });
    }

    #[test]
    fn a_wall_that_goes_back_does_not_take_stamps_back() {
        let mut clock = HybridClock::new(Nanos(500));
        let high = clock.now(9_000);
        assert!(clock.now(10) > high);
    }

    /// Steps of a run over three nodes: (node, how far its wall moves, the message it takes in, if any).
    type Step = (usize, i64, Option<usize>);

    fn runs() -> impl Strategy<Value = Vec<Step>> {
        prop::collection::vec((0_usize..3, -20_i64..40, prop::option::of(0_usize..1_000)), 1..60)
    }

    type Receive = fn(&mut HybridClock, u64, Hlc) -> Result<Hlc, HlcError>;

    /// Runs the steps; true if `e -> f` always implies `stamp(e) < stamp(f)` and stamps stay near the walls.
    fn respects_causality(receive: Receive, steps: &[Step]) -> bool {
        const OFFSET: u64 = 10_000;
        let mut clocks = [HybridClock::new(Nanos(OFFSET)); 3];
        let mut walls = [5_000_u64; 3];
        // Each event's stamp and the set of events in its past, itself included, as a bit set.
        let mut events: Vec<(Hlc, u128)> = Vec::new();
        let mut latest: [u128; 3] = [0; 3];
        for &(node, moved, message) in steps {
            walls[node] = walls[node].saturating_add_signed(moved);
            let mut past = latest[node];
            let stamp = match message.filter(|_| !events.is_empty()) {
                Some(which) => {
                    let (remote, seen) = events[which % events.len()];
                    past |= seen;
                    receive(&mut clocks[node], walls[node], remote).unwrap()
                }
                None => clocks[node].now(walls[node]),
            };
            let in_order = (0..events.len()).all(|e| past & (1 << e) == 0 || events[e].0 < stamp);
            let near = stamp.wall_ns <= 5_000 + 60 * 40;
            if !in_order || !near {
                return false;
            }
            past |= 1 << events.len();
            latest[node] = past;
            events.push((stamp, past));
        }
        true
    }

    proptest! {
        #[test]
        fn causality_implies_stamp_order(steps in runs()) {
            prop_assert!(respects_causality(|clock, wall, remote| clock.update(wall, remote), &steps));
        }

        #[test]
        fn stamps_only_grow(walls in prop::collection::vec(0_u64..1_000, 1..50)) {
            let mut clock = HybridClock::new(Nanos(0));
            let mut last = Hlc::default();
            for wall in walls {
                let stamp = clock.now(wall);
                prop_assert!(stamp > last);
                last = stamp;
            }
        }
    }

    /// Canaries: a receipt that ignores the peer, and one that takes its stamp without counting on.
    #[test]
    fn wrong_receipts_are_caught() {
        let ignores: Receive = |clock, wall, _| Ok(clock.now(wall));
        let copies: Receive = |clock, wall, remote| {
            clock.last = clock.last.max(remote).max(Hlc { wall_ns: wall, logical: 0 });
            Ok(clock.last)
        };
        for receive in [ignores, copies] {
            let mut runner = proptest::test_runner::TestRunner::deterministic();
            let caught = runner.run(&runs(), |steps| {
                prop_assert!(respects_causality(receive, &steps));
                Ok(())
            });
            assert!(caught.is_err(), "a wrong receipt passed");
        }
    }
}
