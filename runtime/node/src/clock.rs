//! The host's clocks, read here and nowhere else.
//!
//! Deliberately absent: any claim about the error of civil time. The interval is as wide as [`CIVIL_ERROR`], which
//! covers what a host disciplined by NTP usually shows; a source with a real bound replaces it where there is one.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use verity_clock::{Interval, Now};
use verity_types::Mono;

/// Half the width of the interval around civil time, in nanoseconds.
const CIVIL_ERROR: u64 = 50_000_000;

/// Reads the host's clocks.
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    start: Instant,
    /// Added to civil time by a fault, in milliseconds.
    skew_ms: i64,
}

impl HostClock {
    /// A clock whose monotonic side starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the node's one place that reads the monotonic clock")]
    pub fn new() -> Self {
        Self { start: Instant::now(), skew_ms: 0 }
    }

    /// Moves civil time by so many milliseconds, for a fault.
    pub fn skew(&mut self, skew_ms: i64) {
        self.skew_ms = skew_ms;
    }

    /// Reads both clocks.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the node's one place that reads civil time")]
    pub fn now(&self) -> Now {
        let mono = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let civil = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let civil = u64::try_from(civil).unwrap_or(u64::MAX).saturating_add_signed(self.skew_ms * 1_000_000);
        // The monotonic clock starts one second in, so that zero stays free to mean "never".
        Now { mono: Mono(mono + 1_000_000_000), wall: Interval::around(civil, CIVIL_ERROR) }
    }

    /// How long from now until `at`.
    #[must_use]
    pub fn until(&self, at: Mono) -> std::time::Duration {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX) + 1_000_000_000;
        std::time::Duration::from_nanos(at.0.saturating_sub(now))
    }
}

impl Default for HostClock {
    fn default() -> Self {
        Self::new()
    }
}
