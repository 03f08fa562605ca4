//! Which segments a step of compaction takes, and all that it needs to know of them.
//!
//! A plan is whole in itself and can be encoded: a machine that restarts between the plan and the swap runs it again.
//!
//! ```text
//! version u32 | generation u64 | dirty start, dirty end, now, delete retention i64 | key bytes u64 | segment bytes u64
//! | index interval u32 | clean_to i64 | count u32, count x producer id i64 (open) | count u32, count x segment (dirty)
//! | count u32, count x segment (inputs) | count u32, count x (producer i64, first i64, last i64)
//! | count u32, count x (producer i64, epoch i16, has data u8, offset i64)
//! ```

use std::collections::BTreeMap;

use super::super::fields::{Put, Reader};
use super::super::manifest::{OPEN_MAX, Round, SEGMENTS_MAX, SegmentFacts};
use super::super::{Log, LogError};

/// How many aborted transactions a plan names at most.
pub const ABORTED_MAX: usize = 1 << 22;
/// How many producers a plan names at most.
pub const PRODUCERS_MAX: usize = 1 << 22;

const VERSION: u32 = 1;
const PARTS_PER_MILLION: u128 = 1_000_000;

/// When a log is worth compacting, and how much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionPolicy {
    /// Nothing from here on is compacted: the last stable offset.
    pub upto_offset: i64,
    /// The entry's time.
    pub now_ms: i64,
    /// A segment with a record younger than this is left alone, and so is what follows it (`min.compaction.lag.ms`).
    pub min_lag_ms: i64,
    /// A log whose dirty part begins earlier than this is due, however small (`max.compaction.lag.ms`).
    pub max_lag_ms: i64,
    /// A log is due when its dirty part has this share of its bytes (`min.cleanable.dirty.ratio`), in parts per million.
    pub dirty_ratio_ppm: u32,
    /// How long tombstones stay (`delete.retention.ms`).
    pub delete_retention_ms: i64,
    /// Memory for the keys of one round, roughly, in bytes.
    pub key_bytes_max: u64,
    /// A step takes segments of about this many bytes, at least one segment.
    pub step_bytes_max: u64,
}

/// An aborted transaction's place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedRange {
    /// Whose.
    pub producer_id: i64,
    /// Offset of its first record.
    pub first_offset: i64,
    /// Offset of its marker.
    pub last_offset: i64,
}

/// What must stay of a producer that is still active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastOfProducer {
    /// Whose.
    pub producer_id: i64,
    /// The producer's epoch.
    pub epoch: i16,
    /// Offset of its last record. If it has none but a marker, the marker of this epoch stays.
    pub last_data_offset: Option<i64>,
}

/// One step of compaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactionPlan {
    pub(super) generation: u64,
    pub(super) dirty_start: i64,
    pub(super) dirty_end: i64,
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
    pub(super) key_bytes_max: u64,
    pub(super) segment_bytes: u64,
    pub(super) index_interval_bytes: u32,
    /// Where the segment behind the last input begins.
    pub(super) clean_to: i64,
    /// Producers with data of a transaction in front of the first input and no marker there.
    pub(super) open: Vec<i64>,
    /// The segments whose keys count.
    pub(super) dirty: Vec<SegmentFacts>,
    /// The segments that are written anew.
    pub(super) inputs: Vec<SegmentFacts>,
    pub(super) aborted: Vec<AbortedRange>,
    pub(super) producers: Vec<LastOfProducer>,
}

/// What of a log may be compacted.
struct Cleanable {
    /// Segments are dirty from this offset on,
    dirty_start: i64,
    /// up to, but without, this one.
    end: i64,
    due: bool,
}

impl Log {
    /// True if the log is worth a step of compaction. Changes nothing, so a leader may ask it before it proposes one.
    #[must_use]
    pub fn compaction_due(&self, policy: &CompactionPolicy) -> bool {
        self.cleanable(policy).due
    }

    /// The next step of compaction, if the log is worth one. `aborted` are the transactions that were aborted below the last
    /// stable offset and may still have data; `producers` the active ones. There must be no other plan that is yet to be
    /// swapped in.
    pub fn plan_compaction(
        &mut self,
        policy: &CompactionPolicy,
        aborted: Vec<AbortedRange>,
        producers: Vec<LastOfProducer>,
    ) -> Option<CompactionPlan> {
        let Cleanable { dirty_start, end, due } = self.cleanable(policy);
        if !due {
            return None;
        }
        let round = self.round().cloned().unwrap_or_default();
        let mut plan = CompactionPlan {
            generation: self.generation_next,
            dirty_start,
            dirty_end: end,
            now_ms: policy.now_ms,
            delete_retention_ms: policy.delete_retention_ms,
            key_bytes_max: policy.key_bytes_max,
            segment_bytes: self.config.segment_bytes,
            index_interval_bytes: self.config.index_interval_bytes,
            clean_to: end,
            open: round.open,
            dirty: Vec::new(),
            inputs: Vec::new(),
            aborted,
            producers,
        };
        let mut bytes = 0u64;
        for segment in &self.sealed {
            let facts = segment.facts;
            if facts.base_offset >= end {
                break;
            }
            if facts.last_offset >= dirty_start {
                plan.dirty.push(facts);
            }
            let fits = plan.inputs.is_empty() || bytes.saturating_add(facts.length) <= policy.step_bytes_max;
            if facts.base_offset >= round.next && fits {
                bytes = bytes.saturating_add(facts.length);
                plan.inputs.push(facts);
            } else if !plan.inputs.is_empty() {
                // The rest is for later steps, even what would fit: a step takes neighbours.
                bytes = u64::MAX;
            }
        }
        let last = plan.inputs.last()?.base_offset;
        let behind = self.each().find(|facts| facts.base_offset > last).expect("an input is not the active segment");
        plan.clean_to = behind.base_offset;
        self.generation_next += 1;
        Some(plan)
    }

    /// The round that is under way, if a segment is left for it. If none is, the log starts behind the round.
    pub(super) fn round(&self) -> Option<&Round> {
        let round = self.cleaned.round.as_ref()?;
        let left = |base: &i64| (round.next..round.dirty_end).contains(base);
        self.sealed.iter().any(|segment| left(&segment.facts.base_offset)).then_some(round)
    }

    fn cleanable(&self, policy: &CompactionPolicy) -> Cleanable {
        let dirty_start = self.cleaned.first_dirty.max(self.log_start);
        if let Some(round) = self.round() {
            return Cleanable { dirty_start, end: round.dirty_end, due: true };
        }
        let young =
            |newest_ms: i64| policy.min_lag_ms > 0 && newest_ms > policy.now_ms.saturating_sub(policy.min_lag_ms);
        let mut end = 0;
        let (mut clean_bytes, mut dirty_bytes, mut oldest_ms) = (0u128, 0u128, None);
        for segment in &self.sealed {
            let facts = segment.facts;
            let dirty = facts.last_offset >= dirty_start;
            if facts.last_offset >= policy.upto_offset || (dirty && young(facts.newest_ms())) {
                break;
            }
            if dirty {
                dirty_bytes += u128::from(facts.length);
                let first_ms = if facts.first_timestamp >= 0 { facts.first_timestamp } else { facts.created_ms };
                oldest_ms = oldest_ms.or(Some(first_ms));
            } else {
                clean_bytes += u128::from(facts.length);
            }
            end = facts.last_offset + 1;
        }
        let ratio = u128::from(policy.dirty_ratio_ppm) * (clean_bytes + dirty_bytes);
        let late = oldest_ms.is_some_and(|oldest| policy.now_ms.saturating_sub(oldest) > policy.max_lag_ms);
        let due = dirty_bytes > 0 && (dirty_bytes * PARTS_PER_MILLION >= ratio || late);
        Cleanable { dirty_start, end, due }
    }
}

impl CompactionPlan {
    /// The offset below which the log is clean once this plan is swapped in, if memory for keys suffices: transactions that
    /// were aborted and end below it have no data any more, if all steps of the round before were swapped in.
    #[must_use]
    pub fn clean_to(&self) -> i64 {
        self.clean_to
    }

    /// Bytes that will be read and, at most, written.
    #[must_use]
    pub fn input_bytes(&self) -> u64 {
        self.inputs.iter().map(|facts| facts.length).sum()
    }

    /// Appends the encoded plan to `out`.
    ///
    /// # Panics
    /// If it names more transactions or producers than a plan may.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.aborted.len() <= ABORTED_MAX && self.producers.len() <= PRODUCERS_MAX, "the plan is bounded");
        out.put_u32(VERSION);
        out.put_u64(self.generation);
        for field in [self.dirty_start, self.dirty_end, self.now_ms, self.delete_retention_ms] {
            out.put_i64(field);
        }
        out.put_u64(self.key_bytes_max);
        out.put_u64(self.segment_bytes);
        out.put_u32(self.index_interval_bytes);
        out.put_i64(self.clean_to);
        out.put_count(self.open.len());
        self.open.iter().for_each(|producer| out.put_i64(*producer));
        for segments in [&self.dirty, &self.inputs] {
            out.put_count(segments.len());
            segments.iter().for_each(|facts| facts.encode(out));
        }
        out.put_count(self.aborted.len());
        for range in &self.aborted {
            for field in [range.producer_id, range.first_offset, range.last_offset] {
                out.put_i64(field);
            }
        }
        out.put_count(self.producers.len());
        for last in &self.producers {
            out.put_i64(last.producer_id);
            out.extend_from_slice(&last.epoch.to_le_bytes());
            out.push(u8::from(last.last_data_offset.is_some()));
            out.put_i64(last.last_data_offset.unwrap_or(-1));
        }
    }

    /// Reads an encoded plan, which must be all of `bytes`.
    ///
    /// # Errors
    /// [`LogError::InvalidMessage`].
    pub fn decode(bytes: &[u8]) -> Result<Self, LogError> {
        let mut reader = Reader(bytes);
        let plan = Self::decode_fields(&mut reader).filter(|plan| reader.0.is_empty() && plan.is_sound());
        plan.ok_or_else(|| LogError::InvalidMessage {
            what: "a compaction plan",
            why: "a field is cut off or out of bounds".to_owned(),
        })
    }

    fn decode_fields(reader: &mut Reader<'_>) -> Option<Self> {
        if reader.u32()? != VERSION {
            return None;
        }
        Some(Self {
            generation: reader.u64()?,
            dirty_start: reader.i64()?,
            dirty_end: reader.i64()?,
            now_ms: reader.i64()?,
            delete_retention_ms: reader.i64()?,
            key_bytes_max: reader.u64()?,
            segment_bytes: reader.u64()?,
            index_interval_bytes: reader.u32()?,
            clean_to: reader.i64()?,
            open: reader.list(OPEN_MAX, Reader::i64)?,
            dirty: reader.list(SEGMENTS_MAX, SegmentFacts::decode)?,
            inputs: reader.list(SEGMENTS_MAX, SegmentFacts::decode)?,
            aborted: reader.list(ABORTED_MAX, |r| {
                Some(AbortedRange { producer_id: r.i64()?, first_offset: r.i64()?, last_offset: r.i64()? })
            })?,
            producers: reader.list(PRODUCERS_MAX, |r| {
                let (producer_id, epoch, has_data, offset) = (r.i64()?, r.i16()?, r.u8()?, r.i64()?);
                Some(LastOfProducer { producer_id, epoch, last_data_offset: (has_data != 0).then_some(offset) })
            })?,
        })
    }

    fn is_sound(&self) -> bool {
        let ordered = |segments: &[SegmentFacts]| {
            segments.iter().all(|facts| facts.length > 0) && segments.is_sorted_by(|a, b| a.last_offset < b.base_offset)
        };
        !self.inputs.is_empty() && ordered(&self.inputs) && ordered(&self.dirty) && self.dirty_start >= 0
    }

    /// By producer, in order of their beginning, for quick questions.
    pub(super) fn aborted_by_producer(&self) -> BTreeMap<i64, Vec<AbortedRange>> {
        let mut by_producer: BTreeMap<i64, Vec<AbortedRange>> = BTreeMap::new();
        for range in &self.aborted {
            by_producer.entry(range.producer_id).or_default().push(*range);
        }
        by_producer.values_mut().for_each(|ranges| ranges.sort_by_key(|range| range.first_offset));
        by_producer
    }
}
