//! What a node counts while it runs.
//!
//! A count is one addition: no lock, no allocation, nothing that waits. Sums and shapes are made when somebody asks.
//!
//! Deliberately absent: names and labels; whoever shows the figures has them.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many spans of time are told apart.
const BUCKETS: usize = 20;
/// The first bucket ends here, in nanoseconds; each further one at twice the one before. The last has no end.
const FIRST_NS: u64 = 64_000;

/// Counts how long something took. Threads may share it.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

/// What a [`Histogram`] has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// How often it took no longer than [`Timings::bound`] of the place, and longer than that of the place before.
    pub buckets: [u64; BUCKETS],
    /// All of it together.
    pub sum: Duration,
}

impl Histogram {
    /// Something took so long.
    pub fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // The number of doublings after which it fits.
        let doublings = u64::BITS - (nanos.saturating_sub(1) / FIRST_NS).leading_zeros();
        let place = usize::try_from(doublings).map_or(BUCKETS - 1, |place| place.min(BUCKETS - 1));
        self.buckets[place].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What it has counted.
    #[must_use]
    pub fn read(&self) -> Timings {
        let buckets = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        Timings { buckets, sum: Duration::from_nanos(self.sum_ns.load(Ordering::Relaxed)) }
    }
}

impl Timings {
    /// Where the bucket at `place` ends; `None` for the last.
    #[must_use]
    pub fn bound(place: usize) -> Option<Duration> {
        (place + 1 < BUCKETS).then(|| Duration::from_nanos(FIRST_NS << place))
    }

    /// How often it happened.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// What the log's thread counts.
#[derive(Debug, Default)]
pub(crate) struct LogFigures {
    pub(crate) syncs: Histogram,
    pub(crate) bytes: AtomicU64,
}

/// What the node's own thread counts.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) client_received: Cell<u64>,
    pub(crate) client_sent: Cell<u64>,
    pub(crate) peer_received: Cell<u64>,
    pub(crate) peer_sent: Cell<u64>,
    pub(crate) peers_refused: Cell<u64>,
}

impl Traffic {
    pub(crate) fn read(&self) -> Figures {
        Figures {
            client_bytes_received: self.client_received.get(),
            client_bytes_sent: self.client_sent.get(),
            peer_bytes_received: self.peer_received.get(),
            peer_bytes_sent: self.peer_sent.get(),
            peers_refused: self.peers_refused.get(),
            ..Figures::default()
        }
    }
}

/// Adds to one of [`Traffic`]'s counts.
pub(crate) fn count(cell: &Cell<u64>, more: usize) {
    cell.set(cell.get() + more as u64);
}

/// How long the requests of one kind took, by whoever serves them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requests {
    /// The system, such as `zookeeper`.
    pub system: &'static str,
    /// What they do, such as `read`.
    pub kind: &'static str,
    /// How long they took.
    pub took: Timings,
}

/// How much of something there was, or is, by whoever serves clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The system, such as `kafka`.
    pub system: &'static str,
    /// Of what, such as `messages_sent`.
    pub what: &'static str,
    /// So much.
    pub count: u64,
}

/// Everything that a node has counted since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Client connections that were opened.
    pub connections_opened: u64,
    /// Bytes that clients sent.
    pub client_bytes_received: u64,
    /// Bytes that clients were sent.
    pub client_bytes_sent: u64,
    /// Bytes that peers sent.
    pub peer_bytes_received: u64,
    /// Bytes that peers were sent.
    pub peer_bytes_sent: u64,
    /// Peers that were refused: of another cluster or version, or not who they said.
    pub peers_refused: u64,
    /// Bytes that were given to the log.
    pub log_bytes: u64,
    /// How long the log's syncs took, slow disks included.
    pub log_syncs: Timings,
    /// What clients asked for.
    pub requests: Vec<Requests>,
    /// What else its services counted.
    pub counts: Vec<Counted>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_where_they_belong() {
        let histogram = Histogram::default();
        for nanos in [0, 1, FIRST_NS, FIRST_NS + 1, 2 * FIRST_NS, 2 * FIRST_NS + 1] {
            histogram.add(Duration::from_nanos(nanos));
        }
        histogram.add(Duration::from_secs(3600));
        let read = histogram.read();
        assert_eq!((read.buckets[..3].to_vec(), read.buckets[BUCKETS - 1]), (vec![3, 2, 1], 1));
        assert_eq!(read.count(), 7);
        assert_eq!(read.sum, Duration::from_secs(3600) + Duration::from_nanos(6 * FIRST_NS + 3));
        assert_eq!(Timings::bound(1), Some(Duration::from_nanos(2 * FIRST_NS)));
        assert_eq!(Timings::bound(BUCKETS - 1), None);
    }
}
