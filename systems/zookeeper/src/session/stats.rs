//! Counters of a node's sessions. Times come from the driver.

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The shortest.
    pub min: u64,
    /// The longest.
    pub max: u64,
}

impl Latency {
    pub(super) fn add(&mut self, millis: u64) {
        self.min = if self.count == 0 { millis } else { self.min.min(millis) };
        self.max = self.max.max(millis);
        self.count += 1;
        self.sum = self.sum.saturating_add(millis);
    }

    /// The mean, to four decimals as ZooKeeper rounds it; 0 without any.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub fn mean(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        (self.sum as f64 / self.count as f64 * 10_000.0).round() / 10_000.0
    }
}

/// Counters since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// From a request's arrival to its reply.
    pub latency: Latency,
    /// Of reads.
    pub read_latency: Latency,
    /// Of writes.
    pub write_latency: Latency,
    /// Packets of clients.
    pub received: u64,
    /// Replies and events.
    pub sent: u64,
    /// Bytes of clients.
    pub received_bytes: u64,
    /// Connections that were refused.
    pub rejected: u64,
    /// Connections that were closed by this node.
    pub dropped: u64,
    /// Packets beyond the limit.
    pub too_large: u64,
    /// Credentials that were refused.
    pub auth_failed: u64,
    /// Connects that took a session over.
    pub revalidated: u64,
    /// Connects.
    pub connects: u64,
    /// The last reply's size, the smallest, the largest; -1 before there was one.
    pub reply_size: Option<(u64, u64, u64)>,
    /// Watch events by kind: created, deleted, changed, children.
    pub events: [u64; 4],
}

impl Stats {
    pub(super) fn replied(&mut self, size: usize) {
        let size = size as u64;
        let (_, min, max) = self.reply_size.unwrap_or((size, size, size));
        self.reply_size = Some((size, min.min(size), max.max(size)));
        self.sent += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means() {
        let mut latency = Latency::default();
        assert!(latency.mean().abs() < f64::EPSILON);
        for millis in [1, 2, 2] {
            latency.add(millis);
        }
        assert_eq!((latency.min, latency.max, latency.mean()), (1, 2, 1.6667));
    }
}
