//! A segment's sparse index: from an offset or a timestamp to a place from which a scan of headers finds the batch.
//!
//! - upon a batch: it gets an entry if enough bytes lie since the last one. The entry holds the largest timestamp of all
//!   batches before it, so one list serves offsets and times: a batch of timestamp `t` is never before an entry whose
//!   earlier batches are all older than `t`;
//! - upon [`ENTRIES_MAX`] entries: every second one goes, and from then on entries are twice as far apart. A segment of any
//!   size costs at most 64 KiB of memory.
//!
//! A sealed segment's index lies in a sidecar file. It is only a shortcut: one that is missing, or does not check, or is of
//! other bytes than the manifest names, is made again from the batches.
//!
//! ```text
//! magic "VRTYKIDX" | version u32 | base offset i64 | generation u64 | length u64 | hash u64
//! | spread u32 | count u32 | count x (offset u32, position u32, timestamp i64) | xxh3 of all before u64
//! ```
//! Integers are little-endian; offsets are relative to the segment's base.

use xxhash_rust::xxh3::xxh3_64;

use super::fields::{Put, Reader};
use super::manifest::SegmentFacts;

/// How many entries an index has at most.
pub const ENTRIES_MAX: usize = 4096;
/// The longest sidecar file.
pub(super) const SIDECAR_SIZE_MAX: u64 = (60 + ENTRIES_MAX * 16) as u64;

const MAGIC: u64 = u64::from_le_bytes(*b"VRTYKIDX");
const VERSION: u32 = 1;
/// No interval is doubled more often: a segment has fewer than 2^32 bytes.
const SPREAD_MAX: u32 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// The batch's base offset, relative to the segment's.
    offset: u32,
    /// Where the batch begins.
    position: u32,
    /// The largest timestamp of all batches before it.
    timestamp_before: i64,
}

/// The index of one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    entries: Vec<Entry>,
    /// How often the interval was doubled.
    spread: u32,
    /// Bytes since the last entry.
    bytes_since: u64,
}

impl Index {
    /// Notes a batch of `size` bytes. One whose place does not fit 32 bits is left out; scans find it nevertheless.
    pub(super) fn note(&mut self, offset: i64, position: u64, timestamp_before: i64, size: u32, interval: u32) {
        let far = position > 0 && self.bytes_since >= u64::from(interval.max(1)) << self.spread;
        if let (true, Ok(offset), Ok(position)) = (far, u32::try_from(offset), u32::try_from(position)) {
            if self.entries.len() == ENTRIES_MAX {
                self.thin_out();
            }
            self.entries.push(Entry { offset, position, timestamp_before });
            self.bytes_since = 0;
        }
        self.bytes_since += u64::from(size);
    }

    fn thin_out(&mut self) {
        let mut kept = false;
        self.entries.retain(|_| {
            kept = !kept;
            !kept
        });
        self.spread = (self.spread + 1).min(SPREAD_MAX);
    }

    /// The last entry at or below a relative offset: its position and relative offset.
    pub(super) fn of_offset(&self, offset: i64) -> Option<(u64, i64)> {
        self.before(self.entries.partition_point(|entry| i64::from(entry.offset) <= offset))
    }

    /// The last entry before which every batch is older than `timestamp`.
    pub(super) fn of_timestamp(&self, timestamp: i64) -> Option<(u64, i64)> {
        self.before(self.entries.partition_point(|entry| entry.timestamp_before < timestamp))
    }

    /// The last entry at or before `position` and below the relative offset `upto`.
    pub(super) fn last_within(&self, position: u64, upto: i64) -> Option<(u64, i64)> {
        let within = |entry: &Entry| u64::from(entry.position) <= position && i64::from(entry.offset) < upto;
        self.before(self.entries.partition_point(within))
    }

    fn before(&self, count: usize) -> Option<(u64, i64)> {
        let entry = self.entries[..count].last()?;
        Some((u64::from(entry.position), i64::from(entry.offset)))
    }

    /// The sidecar file of a sealed segment.
    pub(super) fn encode(&self, facts: &SegmentFacts) -> Vec<u8> {
        let mut out = Vec::with_capacity(60 + self.entries.len() * 16);
        out.put_u64(MAGIC);
        out.put_u32(VERSION);
        out.put_i64(facts.base_offset);
        out.put_u64(facts.generation);
        out.put_u64(facts.length);
        out.put_u64(facts.hash);
        out.put_u32(self.spread);
        out.put_count(self.entries.len());
        for entry in &self.entries {
            out.put_u32(entry.offset);
            out.put_u32(entry.position);
            out.put_i64(entry.timestamp_before);
        }
        out.put_u64(xxh3_64(&out));
        out
    }

    /// Reads a sidecar file; `None` unless it is sound and of exactly this segment.
    pub(super) fn decode(bytes: &[u8], facts: &SegmentFacts) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<8>()?;
        if u64::from_le_bytes(*sum) != xxh3_64(body) {
            return None;
        }
        let mut reader = Reader(body);
        if (reader.u64()?, reader.u32()?) != (MAGIC, VERSION) {
            return None;
        }
        let of = (reader.i64()?, reader.u64()?, reader.u64()?, reader.u64()?);
        if of != (facts.base_offset, facts.generation, facts.length, facts.hash) {
            return None;
        }
        let spread = reader.u32().filter(|spread| *spread <= SPREAD_MAX)?;
        let entries = reader.list(ENTRIES_MAX, |reader| {
            Some(Entry { offset: reader.u32()?, position: reader.u32()?, timestamp_before: reader.i64()? })
        })?;
        let ordered = entries.is_sorted_by(|a, b| {
            a.offset < b.offset && a.position < b.position && a.timestamp_before <= b.timestamp_before
        });
        let inside = entries.last().is_none_or(|last| u64::from(last.position) < facts.length);
        (reader.0.is_empty() && ordered && inside).then_some(Self { entries, spread, bytes_since: 0 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts() -> SegmentFacts {
        SegmentFacts { length: u64::from(u32::MAX), hash: 7, ..SegmentFacts::empty(40, 2) }
    }

    fn filled(batches: u32) -> Index {
        let mut index = Index::default();
        (0..batches).for_each(|n| index.note(i64::from(n), u64::from(n) * 100, i64::from(n) * 2 - 1, 100, 400));
        index
    }

    #[test]
    fn entries_stand_an_interval_apart() {
        let index = filled(20);
        assert_eq!(index.entries.iter().map(|entry| entry.position).collect::<Vec<_>>(), [400, 800, 1200, 1600]);
        assert_eq!(index.of_offset(3), None);
        assert_eq!(index.of_offset(4), Some((400, 4)));
        assert_eq!(index.of_offset(100), Some((1600, 16)));
        assert_eq!(index.of_timestamp(7), None, "the batches before the first entry reach up to 7");
        assert_eq!(index.of_timestamp(8), Some((400, 4)));
        assert_eq!(index.last_within(1599, 100), Some((1200, 12)));
        assert_eq!(index.last_within(1599, 12), Some((800, 8)), "an offset that may not be read is not an end");
        assert_eq!(index.last_within(399, 100), None);
    }

    #[test]
    fn memory_is_bounded() {
        let index = filled(100_000);
        assert!(index.entries.len() <= ENTRIES_MAX && index.entries.len() > ENTRIES_MAX / 4);
        assert!(index.spread > 0);
        let gaps = index.entries.windows(2).map(|pair| pair[1].position - pair[0].position);
        assert!(gaps.max().unwrap() <= 2 * (400 << index.spread), "no hole is left where entries were dropped");
    }

    #[test]
    fn a_sidecar_is_of_its_segment_only() {
        let (index, facts) = (filled(100), facts());
        let bytes = index.encode(&facts);
        let read = Index::decode(&bytes, &facts).unwrap();
        assert_eq!((&read.entries, read.spread), (&index.entries, index.spread));
        assert_eq!(Index::decode(&bytes, &SegmentFacts { hash: 8, ..facts }), None, "of other bytes");
        assert_eq!(Index::decode(&bytes, &SegmentFacts { length: 5, ..facts }), None);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(Index::decode(&bad, &facts), None, "bit flip at {at}");
            assert_eq!(Index::decode(&bytes[..at], &facts), None, "cut at {at}");
        }
        assert!(filled(9_999_999).encode(&facts).len() as u64 <= SIDECAR_SIZE_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let sum = xxh3_64(&bytes);
            bytes.put_u64(sum);
            prop_assert_eq!(Index::decode(&bytes, &facts()), None);
        }
    }
}
