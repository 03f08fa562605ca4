//! A reading of time that admits what it does not know.

use verity_types::{Mono, WallMs};

/// True time lies between `earliest` and `latest`, both in nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interval {
    /// No earlier than this.
    pub earliest: u64,
    /// No later than this.
    pub latest: u64,
}

impl Interval {
    /// A reading `at` nanoseconds, wrong by `error` at most.
    #[must_use]
    pub fn around(at: u64, error: u64) -> Self {
        Self { earliest: at.saturating_sub(error), latest: at.saturating_add(error) }
    }

    /// The middle of the interval.
    #[must_use]
    pub fn midpoint(self) -> u64 {
        self.earliest + (self.latest - self.earliest) / 2
    }
}

/// What a driver reads before it calls into pure code: one monotonic moment and one interval of civil time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The node's monotonic clock. It never goes back.
    pub mono: Mono,
    /// Civil time, as an interval.
    pub wall: Interval,
}

impl Now {
    /// The civil time that goes into stamps, in milliseconds.
    #[must_use]
    pub fn wall_ms(self) -> WallMs {
        WallMs(self.wall.midpoint() / 1_000_000)
    }
}
