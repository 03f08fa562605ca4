//! The interval that enough time masters support.
//!
//! - upon a reading of a master: it was true at one monotonic moment; since then the local oscillator may have run
//!   fast or slow by `drift_ppm`, so the interval moves with the elapsed time and widens on both sides.
//! - upon `largest_agreement`: sweep over the sorted endpoints and keep the region that most sources cover
//!   (Marzullo 1984).
//! - upon `select` with f liars assumed: keep the *hull* of every point that at least n - f sources cover (Marzullo's
//!   fault-tolerant intersection M(f); NTP's clock selection, RFC 5905 §11.2.1, searches for such an f).
//! - a source whose interval does not touch the result is a false ticker (RFC 5905 §11.2.1).
//!
//! Why two: the region of largest agreement is narrow but may exclude the true time even when most sources are
//! honest, because two liars beside two wide honest intervals outnumber three honest ones. The hull cannot: true time
//! is covered by every honest source, which are n - f at least. Bounds that somebody waits for come from `select`.
//!
//! HAZARD: `select` assumes that at most `f` sources lie. More of them can move the interval off the true time.

use verity_types::Mono;

use crate::Interval;

/// More masters than this are not looked at.
pub const SOURCES_MAX: usize = 64;

/// One master's reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where true time lay when the reading was taken.
    pub interval: Interval,
    /// When it was taken, on the local monotonic clock.
    pub at: Mono,
    /// How far the local monotonic clock may run fast or slow, in millionths.
    pub drift_ppm: u32,
}

impl Source {
    /// The reading carried forward to `now`: moved by the elapsed time, wider by the drift, rounded outwards.
    #[must_use]
    pub fn aged(&self, now: Mono) -> Interval {
        assert!(self.at <= now, "a reading was taken at {:?}, after {now:?}: the monotonic clock went back", self.at);
        let elapsed = now.since(self.at).0;
        let drift = u128::from(elapsed) * u128::from(self.drift_ppm);
        let drift = u64::try_from(drift.div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Interval {
            earliest: self.interval.earliest.saturating_add(elapsed).saturating_sub(drift),
            latest: self.interval.latest.saturating_add(elapsed).saturating_add(drift),
        }
    }
}

/// What the masters agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Where true time lies.
    pub interval: Interval,
    /// The largest number of sources that cover one point of it.
    pub agreeing: usize,
    /// Places, in the slice of sources, of those that do not touch the interval.
    pub false_tickers: Vec<usize>,
}

/// The hull of all points that at least n - `liars` sources cover, or `None` if there is no such point.
///
/// True time lies inside if at most `liars` sources are wrong. `liars` must leave a majority.
///
/// # Panics
/// If there are more than [`SOURCES_MAX`] sources, or `liars` is not a minority.
#[must_use]
pub fn select(sources: &[Source], now: Mono, liars: usize) -> Option<Selection> {
    if sources.is_empty() {
        return None;
    }
    assert!(2 * liars < sources.len(), "{liars} liars among {} sources leave no majority", sources.len());
    cover(sources, now, sources.len() - liars)
}

/// The smallest interval that holds every point of largest agreement; `None` without sources.
///
/// HAZARD: not a bound on true time unless every source is honest. See the module's text.
///
/// # Panics
/// If there are more than [`SOURCES_MAX`] sources.
#[must_use]
pub fn largest_agreement(sources: &[Source], now: Mono) -> Option<Selection> {
    (1..=sources.len()).rev().find_map(|needed| cover(sources, now, needed))
}

/// The hull of the points that `needed` sources cover.
fn cover(sources: &[Source], now: Mono, needed: usize) -> Option<Selection> {
    assert!(sources.len() <= SOURCES_MAX, "{} sources, at most {SOURCES_MAX}", sources.len());
    let aged: Vec<Interval> = sources.iter().map(|source| source.aged(now)).collect();
    // An interval that is inside out covers nothing and is a false ticker by construction.
    let mut edges: Vec<(u64, bool)> = Vec::with_capacity(2 * aged.len());
    for interval in aged.iter().filter(|interval| interval.earliest <= interval.latest) {
        edges.push((interval.earliest, false));
        edges.push((interval.latest, true));
    }
    // Intervals are closed: at one instant, those that open are counted before those that close.
    edges.sort_unstable();
    let (mut depth, mut agreeing) = (0_usize, 0_usize);
    let (mut first, mut last) = (None, None);
    for (at, closes) in edges {
        if closes {
            if depth >= needed {
                last = Some(at);
            }
            depth -= 1;
        } else {
            depth += 1;
            agreeing = agreeing.max(depth);
            if depth >= needed && first.is_none() {
                first = Some(at);
            }
        }
    }
    let interval = Interval { earliest: first?, latest: last? };
    let touches = |one: &Interval| {
        one.earliest <= one.latest && one.earliest <= interval.latest && interval.earliest <= one.latest
    };
    let false_tickers = (0..aged.len()).filter(|place| !touches(&aged[*place])).collect();
    Some(Selection { interval, agreeing, false_tickers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(earliest: u64, latest: u64) -> Source {
        Source { interval: Interval { earliest, latest }, at: Mono(0), drift_ppm: 0 }
    }

    #[test]
    fn the_textbook_case() {
        // 10 ± 2, 12 ± 1, 11 ± 1: all agree on [11, 12].
        let got = largest_agreement(&[source(8, 12), source(11, 13), source(10, 12)], Mono(0)).unwrap();
        assert_eq!(
            got,
            Selection { interval: Interval { earliest: 11, latest: 12 }, agreeing: 3, false_tickers: vec![] }
        );
        // 8-12, 11-13, 14-15: two agree on [11, 12], the third is a false ticker.
        let got = largest_agreement(&[source(8, 12), source(11, 13), source(14, 15)], Mono(0)).unwrap();
        assert_eq!(
            got,
            Selection { interval: Interval { earliest: 11, latest: 12 }, agreeing: 2, false_tickers: vec![2] }
        );
    }

    #[test]
    fn no_agreement_is_said_so() {
        assert_eq!(select(&[source(0, 1), source(5, 6), source(9, 10)], Mono(0), 1), None);
        assert_eq!(select(&[], Mono(0), 0), None);
        assert_eq!(select(&[source(6, 5)], Mono(0), 0), None, "inside out");
    }

    #[test]
    fn drift_widens_with_time() {
        let reading = Source { interval: Interval { earliest: 1_000, latest: 1_010 }, at: Mono(5), drift_ppm: 200 };
        assert_eq!(reading.aged(Mono(5 + 10_000)), Interval { earliest: 10_998, latest: 11_012 });
    }

    #[test]
    fn largest_agreement_can_exclude_the_truth() {
        // True time is 50. Three honest masters, two liars in collusion, and yet four sources agree on [10, 12].
        let sources = [source(0, 100), source(0, 100), source(49, 51), source(10, 12), source(10, 12)];
        assert_eq!(largest_agreement(&sources, Mono(0)).unwrap().interval, Interval { earliest: 10, latest: 12 });
        let safe = select(&sources, Mono(0), 2).unwrap();
        assert_eq!(safe.interval, Interval { earliest: 10, latest: 51 });
    }

    /// A true time, and intervals of which fewer than half may miss it.
    fn masters() -> impl Strategy<Value = (u64, Vec<Source>, Mono)> {
        let honest = prop::collection::vec((0_u64..1_000, 0_u64..1_000, 0_u64..50_000, -200_i64..=200), 1..8);
        let liars = prop::collection::vec((0_u64..4_000, 0_u64..500), 0..7);
        (honest, liars, 1_000_000_u64..2_000_000).prop_map(|(honest, mut liars, truth)| {
            liars.truncate(honest.len() - 1);
            let now = Mono(100_000);
            let mut sources: Vec<Source> = honest
                .into_iter()
                .map(|(below, above, age, skew)| {
                    // The local clock counted `age` while `age * (1 + skew)` of true time went by.
                    let passed = age as i64 + age as i64 * skew / 1_000_000;
                    let then = truth - u64::try_from(passed).unwrap();
                    let interval = Interval { earliest: then - below, latest: then + above };
                    Source { interval, at: Mono(100_000 - age), drift_ppm: 200 }
                })
                .collect();
            for (from, width) in liars {
                let earliest = truth - 2_000 + from;
                sources.push(Source {
                    interval: Interval { earliest, latest: earliest + width },
                    at: now,
                    drift_ppm: 0,
                });
            }
            (truth, sources, now)
        })
    }

    type Rule = fn(&[Source], Mono, usize) -> Option<Selection>;

    fn holds_truth(rule: Rule, (truth, sources, now): &(u64, Vec<Source>, Mono)) -> bool {
        let liars = (sources.len() - 1) / 2;
        rule(sources, *now, liars).is_some_and(|s| s.interval.earliest <= *truth && *truth <= s.interval.latest)
    }

    proptest! {
        #[test]
        fn truth_is_inside_if_most_are_honest(case in masters()) {
            prop_assert!(holds_truth(select, &case));
        }

        #[test]
        fn a_false_ticker_is_never_honest(case in masters()) {
            let (truth, sources, now) = &case;
            let got = select(sources, *now, (sources.len() - 1) / 2).unwrap();
            for place in got.false_tickers {
                let aged = sources[place].aged(*now);
                prop_assert!(*truth < aged.earliest || aged.latest < *truth);
            }
        }
    }

    /// Canaries: rules that look right and are caught by the same property.
    #[test]
    fn wrong_rules_are_caught() {
        let narrow: Rule = |sources, now, _| largest_agreement(sources, now);
        let no_drift: Rule = |sources, now, liars| {
            let still: Vec<Source> = sources.iter().map(|s| Source { drift_ppm: 0, ..*s }).collect();
            select(&still, now, liars)
        };
        for rule in [narrow, no_drift] {
            let mut runner = proptest::test_runner::TestRunner::deterministic();
            let caught = runner.run(&masters(), |case| {
                prop_assert!(holds_truth(rule, &case));
                Ok(())
            });
            assert!(caught.is_err(), "a wrong rule passed");
        }
    }
}
