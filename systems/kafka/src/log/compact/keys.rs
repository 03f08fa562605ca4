//! The last offset of each key of a stretch of the log, in bounded memory.
//!
//! Keys are held whole, not by a hash as Kafka does: a collision would lose a record, on every replica alike.

use std::collections::BTreeMap;

/// What an entry costs beyond its key's bytes, roughly.
const ENTRY_BYTES: u64 = 64;

/// Keys and their last offsets.
#[derive(Debug)]
pub(super) struct Keys {
    last: BTreeMap<Box<[u8]>, i64>,
    bytes: u64,
    bytes_max: u64,
    /// Every record below this offset was taken in.
    end: i64,
    full: bool,
}

impl Keys {
    /// Of no records yet, from `start` on.
    pub(super) fn new(start: i64, bytes_max: u64) -> Self {
        Self { last: BTreeMap::new(), bytes: 0, bytes_max, end: start, full: false }
    }

    /// Takes a record in, unless an earlier one did not fit. One always fits, so that a round makes progress.
    pub(super) fn put(&mut self, key: &[u8], offset: i64) {
        if self.full {
            return;
        }
        if let Some(last) = self.last.get_mut(key) {
            *last = offset;
        } else {
            let cost = ENTRY_BYTES.saturating_add(key.len() as u64);
            if self.bytes.saturating_add(cost) > self.bytes_max && !self.last.is_empty() {
                self.full = true;
                return;
            }
            self.bytes = self.bytes.saturating_add(cost);
            self.last.insert(key.into(), offset);
        }
        self.end = offset + 1;
    }

    /// Notes that nothing more comes below `offset`.
    pub(super) fn reach(&mut self, offset: i64) {
        if !self.full {
            self.end = self.end.max(offset);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// The end of the stretch of which all keys are known.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// True if the stretch has a later record of this key.
    pub(super) fn supersede(&self, key: &[u8], offset: i64) -> bool {
        self.last.get(key).is_some_and(|last| *last > offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_where_its_memory_does() {
        let mut keys = Keys::new(10, 2 * (ENTRY_BYTES + 1));
        keys.put(b"a", 10);
        keys.put(b"b", 11);
        keys.put(b"a", 12);
        keys.put(b"c", 13);
        keys.put(b"a", 14);
        keys.reach(20);
        assert!(keys.is_full());
        assert_eq!(keys.end(), 13, "what came behind the first that did not fit is not taken in either");
        assert!(keys.supersede(b"a", 11) && !keys.supersede(b"a", 12) && !keys.supersede(b"c", 0));
    }

    #[test]
    fn one_key_always_fits() {
        let mut keys = Keys::new(0, 0);
        keys.put(&[7; 1000], 0);
        keys.put(b"x", 1);
        assert_eq!(keys.end(), 1);
    }
}
