//! What a log is at one moment, small enough for a snapshot: which segments of which exact bytes, and the few numbers
//! that cannot be read from them.
//!
//! ```text
//! version u32 | log start i64 | next offset i64 | edition u64 | generation u64 | first dirty i64
//! | round u8 (1: dirty end i64 | next i64 | count u32 | count x producer id i64)
//! | count u32 | count x (epoch i32, start i64)
//! | count u32 | count x (base i64, generation u64, length u64, hash u64, last offset i64,
//!                        first, largest timestamp i64, its offset i64, created i64)
//! ```
//! Integers are little-endian. The last segment is the active one.
//!
//! All of it is a function of what was applied: two replicas at the same entry have equal manifests.
//!
//! Deliberately absent: a checksum. The manifest lies in a snapshot or a frame that has one.

use super::epochs::{EPOCHS_MAX, EpochStart, Epochs};
use super::error::LogError;
use super::fields::{Put, Reader};

/// How many segments a log has at most. At this count a segment is sealed only when its offsets or positions run out.
pub const SEGMENTS_MAX: usize = 1 << 16;

/// How many transactions may be open at one offset.
pub const OPEN_MAX: usize = 1 << 20;

const VERSION: u32 = 1;

/// One segment: its name and what its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// No batch in it begins before this offset. Names the file.
    pub base_offset: i64,
    /// 0 for bytes as they were appended; each compaction of the log writes files of a higher one.
    pub generation: u64,
    /// Bytes of the file that count.
    pub length: u64,
    /// xxh3 of these bytes.
    pub hash: u64,
    /// Last offset of its last batch; `base_offset - 1` if it is empty.
    pub last_offset: i64,
    /// The largest timestamp of its first batch; -1 if it is empty or has none.
    pub first_timestamp: i64,
    /// The largest timestamp of all; -1 if it has none.
    pub max_timestamp: i64,
    /// Last offset of the first batch that bears it; -1 if it has none.
    pub max_timestamp_offset: i64,
    /// The caller's time when its first batch was appended.
    pub created_ms: i64,
}

impl SegmentFacts {
    /// A segment without a batch.
    #[must_use]
    pub fn empty(base_offset: i64, generation: u64) -> Self {
        Self {
            base_offset,
            generation,
            length: 0,
            hash: xxhash_rust::xxh3::xxh3_64(&[]),
            last_offset: base_offset.saturating_sub(1),
            first_timestamp: -1,
            max_timestamp: -1,
            max_timestamp_offset: -1,
            created_ms: 0,
        }
    }

    /// Name of its file: as Kafka's, with the generation behind the offset once it was compacted.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.log", self.stem())
    }

    /// Name of its sidecar file, which is there once it is sealed.
    #[must_use]
    pub fn index_name(&self) -> String {
        format!("{}.index", self.stem())
    }

    fn stem(&self) -> String {
        match self.generation {
            0 => format!("{:020}", self.base_offset),
            generation => format!("{:020}.{generation}", self.base_offset),
        }
    }

    /// The moment that retention counts from: its newest record's, or its creation if its records have no time.
    #[must_use]
    pub fn newest_ms(&self) -> i64 {
        if self.max_timestamp >= 0 { self.max_timestamp } else { self.created_ms }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_i64(self.base_offset);
        [self.generation, self.length, self.hash].into_iter().for_each(|field| out.put_u64(field));
        [self.last_offset, self.first_timestamp, self.max_timestamp, self.max_timestamp_offset, self.created_ms]
            .into_iter()
            .for_each(|field| out.put_i64(field));
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let facts = Self {
            base_offset: reader.i64()?,
            generation: reader.u64()?,
            length: reader.u64()?,
            hash: reader.u64()?,
            last_offset: reader.i64()?,
            first_timestamp: reader.i64()?,
            max_timestamp: reader.i64()?,
            max_timestamp_offset: reader.i64()?,
            created_ms: reader.i64()?,
        };
        let sound = facts.base_offset >= 0
            && facts.length <= LENGTH_MAX
            && facts.last_offset < i64::MAX
            && match facts.length {
                0 => facts.last_offset == facts.base_offset - 1,
                _ => facts.last_offset >= facts.base_offset,
            };
        sound.then_some(facts)
    }
}

/// No segment is longer: its last batch begins below 2^32 and is shorter than 2^31.
const LENGTH_MAX: u64 = 1 << 33;

/// How far compaction has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cleaned {
    /// No record below this offset has a later one of its key below it.
    pub(super) first_dirty: i64,
    /// The round that is under way.
    pub(super) round: Option<Round>,
}

/// One pass over the whole log with the keys of `first_dirty..dirty_end`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) dirty_end: i64,
    /// Segments below this offset were passed.
    pub(super) next: i64,
    /// Producers whose transactions have data below `next` and their marker behind it.
    pub(super) open: Vec<i64>,
}

/// A log at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub(super) log_start: i64,
    pub(super) next_offset: i64,
    /// Grows each time a file goes out of use.
    pub(super) edition: u64,
    /// What the next compaction's files are called.
    pub(super) generation_next: u64,
    pub(super) cleaned: Cleaned,
    pub(super) epochs: Epochs,
    pub(super) segments: Vec<SegmentFacts>,
}

impl Manifest {
    /// That of an empty log.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            log_start: 0,
            next_offset: 0,
            edition: 0,
            generation_next: 1,
            cleaned: Cleaned::default(),
            epochs: Epochs::default(),
            segments: vec![SegmentFacts::empty(0, 0)],
        }
    }

    /// The first offset that may be read.
    #[must_use]
    pub fn log_start_offset(&self) -> i64 {
        self.log_start
    }

    /// The offset that the next record gets.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The segments in order; the last is the active one.
    #[must_use]
    pub fn segments(&self) -> &[SegmentFacts] {
        &self.segments
    }

    /// Names and lengths of the files that a new replica needs, in the log's folder. A file may be longer; what lies
    /// behind the length is not part of the log.
    #[must_use]
    pub fn files(&self) -> Vec<(String, u64)> {
        let filled = self.segments.iter().filter(|segment| segment.length > 0);
        filled.map(|segment| (segment.file_name(), segment.length)).collect()
    }

    /// Appends the encoded manifest to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(VERSION);
        out.put_i64(self.log_start);
        out.put_i64(self.next_offset);
        out.put_u64(self.edition);
        out.put_u64(self.generation_next);
        out.put_i64(self.cleaned.first_dirty);
        out.push(u8::from(self.cleaned.round.is_some()));
        if let Some(round) = &self.cleaned.round {
            out.put_i64(round.dirty_end);
            out.put_i64(round.next);
            out.put_count(round.open.len());
            round.open.iter().for_each(|producer| out.put_i64(*producer));
        }
        out.put_count(self.epochs.0.len());
        for entry in &self.epochs.0 {
            out.extend_from_slice(&entry.epoch.to_le_bytes());
            out.put_i64(entry.start_offset);
        }
        out.put_count(self.segments.len());
        self.segments.iter().for_each(|segment| segment.encode(out));
    }

    /// Reads an encoded manifest, which must be all of `bytes`.
    ///
    /// # Errors
    /// [`LogError::InvalidMessage`].
    pub fn decode(bytes: &[u8]) -> Result<Self, LogError> {
        let invalid = |why: &str| LogError::InvalidMessage { what: "a log's manifest", why: why.to_owned() };
        let mut reader = Reader(bytes);
        match reader.u32() {
            Some(VERSION) => {}
            Some(other) => return Err(invalid(&format!("version {other} is not known"))),
            None => return Err(invalid("it is cut off")),
        }
        let manifest =
            Self::decode_fields(&mut reader).ok_or_else(|| invalid("a field is cut off or out of bounds"))?;
        if !reader.0.is_empty() {
            return Err(invalid("bytes are left behind it"));
        }
        manifest.check().map_err(invalid)?;
        Ok(manifest)
    }

    fn decode_fields(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            log_start: reader.i64()?,
            next_offset: reader.i64()?,
            edition: reader.u64().filter(|edition| *edition < COUNT_MAX)?,
            generation_next: reader.u64().filter(|generation| *generation < COUNT_MAX)?,
            cleaned: Cleaned {
                first_dirty: reader.i64()?,
                round: match reader.u8()? {
                    0 => None,
                    1 => Some(Round {
                        dirty_end: reader.i64()?,
                        next: reader.i64()?,
                        open: reader.list(OPEN_MAX, Reader::i64)?,
                    }),
                    _ => return None,
                },
            },
            epochs: Epochs(reader.list(EPOCHS_MAX, |r| Some(EpochStart { epoch: r.i32()?, start_offset: r.i64()? }))?),
            segments: reader.list(SEGMENTS_MAX + 1, SegmentFacts::decode)?,
        })
    }

    /// Says what makes it no manifest of any log.
    fn check(&self) -> Result<(), &'static str> {
        let Some(active) = self.segments.last() else { return Err("it has no segment") };
        let ordered = |a: &SegmentFacts, b: &SegmentFacts| a.last_offset < b.base_offset && a.length > 0;
        if !self.segments.is_sorted_by(ordered) {
            return Err("its segments are empty or overlap");
        }
        if active.last_offset.checked_add(1) != Some(self.next_offset) {
            return Err("its last segment does not end at its next offset");
        }
        if self.log_start < 0 || self.log_start > self.next_offset {
            return Err("its start lies behind its end");
        }
        let newest = self.segments.iter().map(|segment| segment.generation).max();
        if newest >= Some(self.generation_next) || active.generation != 0 {
            return Err("a segment is of a compaction that was not yet");
        }
        if !self.epochs.is_ordered() {
            return Err("its epochs are not in order");
        }
        Ok(())
    }
}

/// Editions and generations stay below this, so that counting on never overflows.
const COUNT_MAX: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest() -> Manifest {
        let sealed = SegmentFacts { length: 100, last_offset: 9, ..SegmentFacts::empty(0, 3) };
        Manifest {
            log_start: 4,
            next_offset: 12,
            edition: 5,
            generation_next: 4,
            cleaned: Cleaned { first_dirty: 2, round: Some(Round { dirty_end: 10, next: 5, open: vec![7, 8] }) },
            epochs: Epochs(vec![EpochStart { epoch: 1, start_offset: 4 }]),
            segments: vec![sealed, SegmentFacts { length: 70, last_offset: 11, ..SegmentFacts::empty(10, 0) }],
        }
    }

    fn encoded(manifest: &Manifest) -> Vec<u8> {
        let mut out = Vec::new();
        manifest.encode(&mut out);
        out
    }

    #[test]
    fn a_manifest_round_trips_and_no_cut_of_it_decodes() {
        let manifest = manifest();
        let bytes = encoded(&manifest);
        assert_eq!(Manifest::decode(&bytes), Ok(manifest.clone()));
        (0..bytes.len()).for_each(|cut| assert!(Manifest::decode(&bytes[..cut]).is_err(), "cut at {cut}"));
        assert!(Manifest::decode(&[bytes, vec![0]].concat()).is_err());
        assert_eq!(
            manifest.files(),
            [("00000000000000000000.3.log".to_owned(), 100), ("00000000000000000010.log".to_owned(), 70)]
        );
    }

    #[test]
    fn what_no_log_can_be_is_refused() {
        let wrong: [fn(&mut Manifest); 8] = [
            |manifest| manifest.segments.clear(),
            |manifest| manifest.next_offset = 13,
            |manifest| manifest.log_start = 13,
            |manifest| manifest.generation_next = 3,
            |manifest| manifest.segments[0].last_offset = 10,
            |manifest| manifest.segments[1].generation = 1,
            |manifest| manifest.edition = u64::MAX,
            |manifest| manifest.epochs.0.push(EpochStart { epoch: 1, start_offset: 9 }),
        ];
        for (case, spoil) in wrong.into_iter().enumerate() {
            let mut bad = manifest();
            spoil(&mut bad);
            assert!(Manifest::decode(&encoded(&bad)).is_err(), "case {case}");
        }
    }

    #[test]
    fn a_count_from_outside_reserves_nothing() {
        let mut bytes = encoded(&Manifest { cleaned: Cleaned::default(), ..manifest() });
        bytes[45..49].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Manifest::decode(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(at in 0usize..200, byte in any::<u8>(), tail in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = encoded(&manifest());
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Manifest::decode(&bytes);
            bytes.truncate(at);
            bytes.extend_from_slice(&tail);
            let _ = Manifest::decode(&bytes);
        }
    }
}
