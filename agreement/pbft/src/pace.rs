//! How much a primary must do to stay (Aardvark, NSDI 2009 §5.3): one that is slow, but never so slow that a request times
//! out, would hold everybody to its own pace.
//!
//! - upon each window of a view but the first, in which requests waited most of the time, this node's own or those that it
//!   watches: what was executed is compared with what is expected; if it is less, the next view is asked for;
//! - what is expected is `pace_percent` of the best window of the last N views, N being the replicas, or of this view's own
//!   windows if that is more; it rises by `pace_rise_percent` with each window, so that no primary stays for good;
//! - upon a quarter of a window in which this node asked for something, and half of whose time the oldest request that the
//!   primary had not assigned was older than it takes to order two batches, while it had room for more: the next view is
//!   asked for. That shows a primary to be slow whose like nobody has seen a better one of;
//! - upon another view: the best window of the last one is remembered, and the new primary has a window to begin.
//!
//! Deliberately absent: safety. What one replica expects is its own affair, and one alone replaces nobody.

use std::collections::VecDeque;

use verity_types::{Mono, Nanos};

/// Expectations are in thousandths of a request.
const MILLI: u64 = 1_000;

/// What is expected of primaries, and by how much it rises.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dials {
    pub(crate) window: Nanos,
    pub(crate) percent: u64,
    pub(crate) rise_percent: u64,
    /// How often time passes.
    pub(crate) tick: Nanos,
    /// Views whose best windows are remembered.
    pub(crate) views: usize,
}

/// What the last primaries did.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    window_at: Mono,
    /// Windows of this view that are over.
    windows: u64,
    /// Requests that were executed in this window.
    executed: u64,
    /// Ticks of this window, and those of them at which requests waited.
    ticks: u64,
    waited: u64,
    /// In this view.
    best: u64,
    expected: u64,
    bests: VecDeque<u64>,
    /// What it took lately to order a batch, from its coming on.
    ordered_in: Nanos,
    /// Ticks at which something was asked for, and those of them at which it was held back, since this was last judged.
    asked: u64,
    held: u64,
}

impl Pace {
    pub(crate) fn new(now: Mono) -> Self {
        Self { window_at: now, ..Self::default() }
    }

    pub(crate) fn on_executed(&mut self) {
        self.executed += 1;
    }

    /// A batch was executed, so long after it came.
    pub(crate) fn on_ordered(&mut self, took: Nanos) {
        self.ordered_in = if self.ordered_in.0 == 0 { took } else { Nanos((7 * self.ordered_in.0 + took.0) / 8) };
    }

    /// How long a request may wait for its batch at a primary that has room for it.
    pub(crate) fn patience(&self, dials: Dials) -> Nanos {
        Nanos(2 * (self.ordered_in.0 + dials.tick.0))
    }

    /// Another view begins.
    pub(crate) fn on_view(&mut self, now: Mono, dials: Dials) {
        let best = self.best.max(self.executed);
        if best > 0 {
            self.bests.push_back(best);
        }
        while self.bests.len() > dials.views {
            self.bests.pop_front();
        }
        let expected = self.bests.iter().max().copied().unwrap_or(0) * MILLI * dials.percent / 100;
        let (bests, ordered_in) = (std::mem::take(&mut self.bests), self.ordered_in);
        *self = Self { window_at: now, expected, bests, ordered_in, ..Self::default() };
    }

    /// Time passes; true if the primary does too little. `held`: whether it holds back what this node asked for, if that did.
    pub(crate) fn on_tick(&mut self, now: Mono, waits: bool, held: Option<bool>, dials: Dials) -> bool {
        if dials.window.0 == 0 {
            return false;
        }
        let is_holding = self.holds(held, dials);
        self.falls_short(now, waits, dials) || is_holding
    }

    fn holds(&mut self, held: Option<bool>, dials: Dials) -> bool {
        self.asked += u64::from(held.is_some());
        self.held += u64::from(held == Some(true));
        if 4 * self.asked * dials.tick.0 < dials.window.0 {
            return false;
        }
        let is_holding = self.ordered_in.0 > 0 && 2 * self.held >= self.asked;
        (self.asked, self.held) = (0, 0);
        is_holding
    }

    fn falls_short(&mut self, now: Mono, waits: bool, dials: Dials) -> bool {
        self.ticks += 1;
        self.waited += u64::from(waits);
        if now.since(self.window_at) < dials.window {
            return false;
        }
        let wanted = 2 * self.waited >= self.ticks;
        let is_short = wanted && self.windows > 0 && self.executed * MILLI < self.expected;
        self.best = self.best.max(self.executed);
        let own = self.executed * MILLI * dials.percent / 100;
        self.expected = self.expected.max(own);
        if wanted && self.windows > 0 {
            self.expected += self.expected * dials.rise_percent / 100;
        }
        self.windows += 1;
        (self.window_at, self.executed, self.ticks, self.waited) = (now, 0, 0, 0);
        is_short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALS: Dials = Dials { window: Nanos(10), percent: 90, rise_percent: 5, tick: Nanos(1), views: 2 };

    /// A window with so many executions; true if they are too few.
    fn window(pace: &mut Pace, now: &mut Mono, executed: u64, waits: bool) -> bool {
        (0..executed).for_each(|_| pace.on_executed());
        now.0 += 10;
        pace.on_tick(*now, waits, None, DIALS)
    }

    #[test]
    fn a_primary_that_falls_short_of_the_last_ones_is_replaced() {
        let (mut pace, mut now) = (Pace::default(), Mono(0));
        pace.on_view(now, DIALS);
        assert!(!window(&mut pace, &mut now, 100, true) && !window(&mut pace, &mut now, 100, true));
        pace.on_view(now, DIALS);
        assert!(!window(&mut pace, &mut now, 10, true), "the first window is to begin in");
        assert!(!window(&mut pace, &mut now, 10, false), "nobody waits for anything");
        assert!(window(&mut pace, &mut now, 10, true));
        pace.on_view(now, DIALS);
        window(&mut pace, &mut now, 10, true);
        assert!(window(&mut pace, &mut now, 89, true), "one slow view is not yet the measure");
        for _ in 0..2 {
            pace.on_view(now, DIALS);
            window(&mut pace, &mut now, 10, true);
        }
        pace.on_view(now, DIALS);
        window(&mut pace, &mut now, 10, true);
        assert!(!window(&mut pace, &mut now, 10, true), "the last views were no better");
    }

    #[test]
    fn a_primary_that_holds_requests_back_is_replaced_though_there_was_no_other() {
        let dials = Dials { window: Nanos(40), ..DIALS };
        let (mut pace, mut now) = (Pace::default(), Mono(0));
        let mut ticks = |pace: &mut Pace, all: &[Option<bool>]| {
            let tick = |held: &Option<bool>| {
                now.0 += 1;
                pace.on_tick(now, true, *held, dials)
            };
            all.iter().any(tick)
        };
        assert!(!ticks(&mut pace, &[Some(true); 20]), "nobody knows yet what ordering takes");
        pace.on_ordered(Nanos(3));
        assert_eq!(pace.patience(dials), Nanos(8));
        let half = [Some(true), None, Some(false), None];
        assert!(!ticks(&mut pace, &half.repeat(4)), "eight ticks are too few to judge by");
        assert!(ticks(&mut pace, &half));
        let third = [Some(true), Some(false), Some(false)];
        assert!(
            !ticks(&mut pace, &third.repeat(20)),
            "who holds back less than half of the time has other things to do"
        );
    }

    #[test]
    fn what_is_expected_rises_until_somebody_else_may_try() {
        let (mut pace, mut now) = (Pace::default(), Mono(0));
        pace.on_view(now, DIALS);
        let stays = (0..100).take_while(|_| !window(&mut pace, &mut now, 100, true)).count();
        assert_eq!(stays, 4, "90, 94.5, 99.2 and then more than it does");
        let off = Dials { window: Nanos(0), ..DIALS };
        assert!(!Pace::default().on_tick(Mono(1_000), true, Some(true), off), "who expects nothing replaces nobody");
    }
}
