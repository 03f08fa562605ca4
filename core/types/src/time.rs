//! Moments and spans. Nothing here reads a clock.

use std::fmt;
use std::ops::{Add, Sub};

/// A span of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// A span of whole milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// The span in whole milliseconds, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

/// A moment on a node's monotonic clock, in nanoseconds since an arbitrary start.
///
/// Moments of two nodes cannot be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// The span from `earlier` to this moment; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Mono) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Nanos> for Mono {
    type Output = Mono;

    fn add(self, span: Nanos) -> Mono {
        Mono(self.0.saturating_add(span.0))
    }
}

impl Sub<Nanos> for Mono {
    type Output = Mono;

    fn sub(self, span: Nanos) -> Mono {
        Mono(self.0.saturating_sub(span.0))
    }
}

/// A reading of civil time: milliseconds since 1970-01-01 UTC, as ZooKeeper and Kafka stamp them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallMs(pub u64);

impl fmt::Display for WallMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let t = Mono(5) + Nanos::from_millis(2);
        assert_eq!(t.since(Mono(5)).as_millis(), 2);
        assert_eq!(Mono(1).since(Mono(9)), Nanos(0));
        assert_eq!(Mono(3) - Nanos(9), Mono(0));
    }
}
