//! The host's clocks, read here and nowhere else.
//!
//! The monotonic side counts the time in which the host is suspended: a leader that wakes up knows that its lease is
//! over. Where the system has no such clock, its usual one stands in, and that guarantee is lost.
//!
//! Deliberately absent: any claim about the error of civil time. The interval is as wide as [`CIVIL_ERROR`], which
//! covers what a host disciplined by NTP usually shows; a source with a real bound replaces it where there is one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use verity_clock::{Interval, Now};
use verity_types::Mono;

/// Half the width of the interval around civil time, in nanoseconds.
const CIVIL_ERROR: u64 = 50_000_000;
/// Leases are measured by it. `Instant` stands still while the host is suspended, on Linux and on macOS.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MONOTONIC: ClockId = ClockId::Boottime;
/// Leases are measured by it. On macOS it counts suspended time; elsewhere it is the nearest that there is.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const MONOTONIC: ClockId = ClockId::Monotonic;

/// Civil time is moved by a fault at most this far, in milliseconds: ten years.
pub const CLOCK_SKEW_MS_MAX: i64 = 10 * 365 * 86_400_000;

/// Reads the host's clocks.
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    /// What the monotonic clock said first.
    start: Duration,
    /// Added to civil time by a fault, in milliseconds.
    skew_ms: i64,
}

/// What the monotonic clock says.
fn monotonic() -> Duration {
    let read = clock_gettime(MONOTONIC);
    let (seconds, nanos) = (u64::try_from(read.tv_sec), u32::try_from(read.tv_nsec));
    Duration::new(seconds.expect("it counts up from zero"), nanos.expect("nanoseconds are below a second"))
}

impl HostClock {
    /// A clock whose monotonic side starts now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: monotonic(), skew_ms: 0 }
    }

    /// Moves civil time by so many milliseconds, for a fault; by [`CLOCK_SKEW_MS_MAX`] at most.
    pub fn skew(&mut self, skew_ms: i64) {
        self.skew_ms = skew_ms.clamp(-CLOCK_SKEW_MS_MAX, CLOCK_SKEW_MS_MAX);
    }

    /// Reads both clocks.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the node's one place that reads civil time")]
    pub fn now(&self) -> Now {
        let civil = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let civil = u64::try_from(civil).unwrap_or(u64::MAX).saturating_add_signed(self.skew_ms * 1_000_000);
        Now { mono: self.mono(), wall: Interval::around(civil, CIVIL_ERROR) }
    }

    /// The monotonic clock starts one second in, so that zero stays free to mean "never".
    fn mono(&self) -> Mono {
        let since = monotonic().saturating_sub(self.start).as_nanos();
        Mono(u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1_000_000_000))
    }

    /// How long from now until `at`.
    #[must_use]
    pub fn until(&self, at: Mono) -> Duration {
        Duration::from_nanos(at.0.saturating_sub(self.mono().0))
    }
}

impl Default for HostClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_skew_is_too_much() {
        let mut clock = HostClock::new();
        for skew in [i64::MIN, -10_000_000_000_000, 0, 10_000_000_000_000, i64::MAX] {
            clock.skew(skew);
            let wall = clock.now().wall;
            assert!(wall.earliest <= wall.latest, "{skew}");
        }
        let straight = HostClock::new().now();
        clock.skew(3_600_000);
        assert!(clock.now().wall.earliest >= straight.wall.earliest + 3_600_000_000_000 - 60_000_000_000);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn time_in_which_the_host_is_suspended_counts() {
        let boot = || {
            let read = clock_gettime(ClockId::Boottime);
            Duration::new(read.tv_sec.unsigned_abs(), u32::try_from(read.tv_nsec).unwrap())
        };
        let (before, read, after) = (boot(), monotonic(), boot());
        assert!((before..=after).contains(&read));
        // The clocks may agree on a host that never slept; which one is read must still be the right one.
        assert_eq!(MONOTONIC as u32, ClockId::Boottime as u32);
    }
}
