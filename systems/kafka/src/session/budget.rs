//! How many bytes of requests are under way on a node, over all of its connections.
//!
//! - upon a large request that does not fit: its connection waits, and is not read any further;
//! - upon an answer: connections that waited look again.
//!
//! One request always fits, whatever its size. Small ones are not counted: members' heartbeats are not to wait for somebody's
//! megabytes.
//!
//! Deliberately absent: what one connection may have under way (`connection`).

use std::collections::BTreeSet;

use verity_types::ConnId;

/// So many bytes may be under way (`queued.max.request.bytes`).
const BYTES_MAX: usize = 64 << 20;
/// From this size on a request counts.
const LARGE: usize = 16 << 10;

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct Budget {
    bytes: usize,
    waiting: BTreeSet<ConnId>,
}

impl Budget {
    /// Takes a request of `size` bytes in; false if its connection is to wait.
    pub(super) fn begin(&mut self, conn: ConnId, size: usize) -> bool {
        if size < LARGE {
            return true;
        }
        let fits = self.bytes == 0 || self.bytes + size <= BYTES_MAX;
        if fits {
            self.bytes += size;
        } else {
            self.waiting.insert(conn);
        }
        fits
    }

    /// A request of `size` bytes has ended. Gives the connections that are to look again.
    pub(super) fn end(&mut self, size: usize) -> BTreeSet<ConnId> {
        if size < LARGE {
            return BTreeSet::new();
        }
        self.bytes -= size;
        if self.bytes <= BYTES_MAX / 2 { std::mem::take(&mut self.waiting) } else { BTreeSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_fit_is_told_once_there_is_room() {
        let mut budget = Budget::default();
        assert!(budget.begin(ConnId(1), 2 * BYTES_MAX), "one always fits");
        assert!(!budget.begin(ConnId(2), LARGE));
        assert!(budget.begin(ConnId(2), LARGE - 1), "a heartbeat");
        assert!(budget.end(LARGE - 1).is_empty());
        assert_eq!(budget.end(2 * BYTES_MAX), BTreeSet::from([ConnId(2)]));
        assert!(budget.begin(ConnId(2), BYTES_MAX));
        assert!(!budget.begin(ConnId(3), LARGE));
        assert_eq!(budget.end(BYTES_MAX), BTreeSet::from([ConnId(3)]));
    }
}
