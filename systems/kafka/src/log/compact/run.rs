//! Carrying a plan out: keys, new files, and their taking the old ones' place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use verity_storage::{Disk, DiskFile};

use super::super::header::BatchHeader;
use super::super::manifest::{OPEN_MAX, Round, SegmentFacts};
use super::super::recover::CLEANED;
use super::super::segment::{Segment, Tally, Walk, join, open_file, write_sidecar};
use super::super::{Log, LogError};
use super::keys::Keys;
use super::plan::{AbortedRange, CompactionPlan, LastOfProducer};
use super::{BatchCodec, CodecError};

/// What is written at once.
const WRITE_SIZE: usize = 1 << 20;

/// What a plan came to: files that are written and synced, but not in place.
#[derive(Debug)]
pub struct Compacted {
    /// The plan's.
    generation: u64,
    outputs: Vec<Output>,
    /// Which of the plan's inputs they stand for.
    inputs: usize,
    /// Keys were known below this offset.
    dirty_end: i64,
    clean_to: i64,
    open: Vec<i64>,
}

impl Compacted {
    /// Bytes of the new files.
    #[must_use]
    pub fn output_bytes(&self) -> u64 {
        self.outputs.iter().map(|output| output.tally.unhashed().length).sum()
    }
}

/// A segment that is written.
#[derive(Debug)]
struct Output {
    tally: Tally,
    file: Option<Arc<dyn DiskFile>>,
    pending: Vec<u8>,
}

/// What happens to a batch as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is copied as it is.
    Copy,
    /// Its records are looked at one by one. With the second, it gets a delete horizon even without a tombstone.
    Filter { marker_of_nothing: bool },
    /// None of its records stays.
    Drop,
}

/// What stays of a batch.
enum Kept {
    Untouched,
    Rebuilt(BatchHeader, Vec<u8>),
    /// No record.
    Nothing,
}

impl CompactionPlan {
    /// Writes the new files and syncs them. Reads nothing that changes, so it may run on another thread while the log is in
    /// use, and again after a crash.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] if an input is damaged: repair it, and run again; [`LogError::Storage`].
    pub fn run(&self, disk: &dyn Disk, dir: &str, codec: &dyn BatchCodec) -> Result<Compacted, LogError> {
        let aborted = self.aborted_by_producer();
        let keys = self.keys(disk, dir, codec, &aborted)?;
        let mut pass = Pass {
            plan: self,
            disk,
            dir,
            codec,
            aborted,
            producers: self.producers.iter().map(|last| (last.producer_id, *last)).collect(),
            open: self.open.iter().copied().collect(),
            keys,
            outputs: Vec::new(),
        };
        let end = pass.keys.end();
        let inputs: Vec<&SegmentFacts> = self.inputs.iter().take_while(|facts| facts.base_offset < end).collect();
        let mut group: Option<(SegmentFacts, u64)> = None;
        for facts in &inputs {
            group = match group {
                Some((first, bytes)) if self.may_join(&first, bytes, facts) => Some((first, bytes + facts.length)),
                _ => {
                    pass.begin(facts);
                    Some((**facts, facts.length))
                }
            };
            pass.clean(facts)?;
        }
        let clean_to = self.inputs.get(inputs.len()).map_or(self.clean_to, |facts| facts.base_offset);
        let outputs = pass.finish()?;
        let open = pass.open.into_iter().collect();
        let generation = self.generation;
        Ok(Compacted { generation, outputs, inputs: inputs.len(), dirty_end: end.min(self.dirty_end), clean_to, open })
    }

    /// True if a segment may go into the file of `first` and those after it, `bytes` so far.
    fn may_join(&self, first: &SegmentFacts, bytes: u64, next: &SegmentFacts) -> bool {
        bytes.saturating_add(next.length) <= self.segment_bytes
            && next.last_offset - first.base_offset <= i64::from(i32::MAX)
    }

    /// The last offset of each key of the dirty part.
    fn keys(
        &self,
        disk: &dyn Disk,
        dir: &str,
        codec: &dyn BatchCodec,
        aborted: &BTreeMap<i64, Vec<AbortedRange>>,
    ) -> Result<Keys, LogError> {
        let mut keys = Keys::new(self.dirty_start, self.key_bytes_max);
        for facts in &self.dirty {
            let path = join(dir, &facts.file_name());
            let file = open_file(disk, &path, facts)?;
            let mut walk = Walk::batches(&*file, &path, facts);
            loop {
                let position = walk.position();
                let Some((header, batch)) = walk.next_batch()? else { break };
                if header.base_offset >= self.dirty_end {
                    break;
                }
                if header.last_offset < self.dirty_start {
                    continue;
                }
                if !header.is_control() && !is_aborted(aborted, &header) {
                    let read = codec.records(batch, &mut |record| {
                        let dirty = (self.dirty_start..self.dirty_end).contains(&record.offset);
                        if let Some(key) = record.key.filter(|_| dirty) {
                            keys.put(key, record.offset);
                        }
                    });
                    read.map_err(|CodecError(what)| LogError::corrupt(&path, position, what))?;
                }
                keys.reach(self.dirty_end.min(header.last_offset + 1));
                if keys.is_full() {
                    return Ok(keys);
                }
            }
        }
        keys.reach(self.dirty_end);
        Ok(keys)
    }
}

fn is_aborted(aborted: &BTreeMap<i64, Vec<AbortedRange>>, header: &BatchHeader) -> bool {
    let Some(ranges) = aborted.get(&header.producer_id).filter(|_| header.is_transactional()) else { return false };
    let begun = ranges.partition_point(|range| range.first_offset <= header.base_offset);
    ranges[..begun].last().is_some_and(|range| header.last_offset <= range.last_offset)
}

/// One run over the inputs.
struct Pass<'a> {
    plan: &'a CompactionPlan,
    disk: &'a dyn Disk,
    dir: &'a str,
    codec: &'a dyn BatchCodec,
    aborted: BTreeMap<i64, Vec<AbortedRange>>,
    producers: BTreeMap<i64, LastOfProducer>,
    /// Producers of whose transaction data was seen, and no marker yet.
    open: BTreeSet<i64>,
    keys: Keys,
    outputs: Vec<Output>,
}

impl Pass<'_> {
    /// Begins a new segment at the base of `first`.
    fn begin(&mut self, first: &SegmentFacts) {
        let tally = Tally::new(first.base_offset, self.plan.generation, first.created_ms);
        self.outputs.push(Output { tally, file: None, pending: Vec::new() });
    }

    /// Copies what stays of a segment into the last output.
    fn clean(&mut self, facts: &SegmentFacts) -> Result<(), LogError> {
        let path = join(self.dir, &facts.file_name());
        let file = open_file(self.disk, &path, facts)?;
        let mut walk = Walk::batches(&*file, &path, facts);
        let mut seen = Tally::new(facts.base_offset, facts.generation, facts.created_ms);
        self.output().tally.set_created(facts.created_ms);
        loop {
            let position = walk.position();
            let Some((header, batch)) = walk.next_batch()? else { break };
            seen.add(&header, [batch, &[]], u32::MAX);
            let kept = match self.decide(&header) {
                Fate::Copy => Kept::Untouched,
                Fate::Drop => Kept::Nothing,
                Fate::Filter { marker_of_nothing } => self
                    .filter(&header, batch, marker_of_nothing)
                    .map_err(|CodecError(what)| LogError::corrupt(&path, position, what))?,
            };
            match kept {
                Kept::Untouched => self.write(&header, batch)?,
                Kept::Rebuilt(header, batch) => self.write(&header, &batch)?,
                Kept::Nothing => self.write_remains(&header)?,
            }
        }
        if seen.facts() != *facts {
            let what = "its batches check, but they are not the bytes that were appended";
            return Err(LogError::corrupt(&path, 0, what));
        }
        Ok(())
    }

    fn decide(&mut self, header: &BatchHeader) -> Fate {
        let known = header.base_offset < self.keys.end();
        if header.is_control() {
            let has_data = self.open.remove(&header.producer_id);
            if !known || !header.is_transactional() {
                return Fate::Copy;
            }
            return match header.delete_horizon_ms() {
                Some(horizon) if !has_data && horizon <= self.plan.now_ms => Fate::Drop,
                _ => Fate::Filter { marker_of_nothing: !has_data },
            };
        }
        if header.is_transactional() && self.open.len() < OPEN_MAX {
            self.open.insert(header.producer_id);
        }
        match known {
            false => Fate::Copy,
            true if is_aborted(&self.aborted, header) => Fate::Drop,
            true => Fate::Filter { marker_of_nothing: false },
        }
    }

    /// Looks at a batch record by record.
    fn filter(&self, header: &BatchHeader, batch: &[u8], marker_of_nothing: bool) -> Result<Kept, CodecError> {
        let end = self.keys.end();
        let horizon = header.delete_horizon_ms();
        let (now_ms, control) = (self.plan.now_ms, header.is_control());
        let keys = &self.keys;
        let stays = |record: &super::RecordRef<'_>| {
            if control || record.offset >= end {
                return true;
            }
            let Some(key) = record.key else { return false };
            let expired = record.value.is_none() && horizon.is_some_and(|horizon| now_ms >= horizon);
            !expired && !keys.supersede(key, record.offset)
        };
        let (mut kept, mut dropped, mut tombstone) = (0usize, 0usize, false);
        self.codec.records(batch, &mut |record| {
            if stays(record) {
                kept += 1;
                tombstone |= record.value.is_none() && !control;
            } else {
                dropped += 1;
            }
        })?;
        if kept == 0 {
            return Ok(Kept::Nothing);
        }
        // A tombstone behind the known keys has not deleted anything yet; its time begins with the round that sees it.
        let wants = (tombstone || marker_of_nothing) && horizon.is_none() && header.last_offset < end;
        if dropped == 0 && !wants {
            return Ok(Kept::Untouched);
        }
        let horizon = if wants { Some(now_ms.saturating_add(self.plan.delete_retention_ms)) } else { horizon };
        let rebuilt = self.codec.rebuild(batch, horizon, &mut |record| stays(record))?;
        let rebuilt = rebuilt.ok_or_else(|| CodecError("records were kept and then were not there".to_owned()))?;
        let new = BatchHeader::check(&rebuilt).map_err(|what| CodecError(format!("rebuilt wrongly: {what}")))?;
        assert_eq!(identity(&new), identity(header), "a rebuilt batch is in the old one's place");
        assert_eq!(new.delete_horizon_ms(), horizon, "a rebuilt batch has the horizon that it was given");
        assert_eq!(usize::try_from(new.record_count), Ok(kept), "a rebuilt batch has the records that stay");
        Ok(Kept::Rebuilt(new, rebuilt))
    }

    /// Writes what stays of a batch without records: nothing, or its header if that is a producer's last word.
    fn write_remains(&mut self, header: &BatchHeader) -> Result<(), LogError> {
        let last = self.producers.get(&header.producer_id).filter(|_| header.producer_id >= 0);
        let stays = last.is_some_and(|last| match last.last_data_offset {
            Some(offset) => offset == header.last_offset && !header.is_control(),
            None => header.is_control() && header.producer_epoch == last.epoch,
        });
        if !stays {
            return Ok(());
        }
        let batch = header.emptied();
        let header = BatchHeader::check(&batch).expect("it was just made");
        self.write(&header, &batch)
    }

    fn output(&mut self) -> &mut Output {
        self.outputs.last_mut().expect("an output was begun before the first batch")
    }

    fn write(&mut self, header: &BatchHeader, batch: &[u8]) -> Result<(), LogError> {
        let interval = self.plan.index_interval_bytes;
        let output = self.output();
        output.tally.add(header, [batch, &[]], interval);
        output.pending.extend_from_slice(batch);
        if output.pending.len() < WRITE_SIZE {
            return Ok(());
        }
        let (disk, dir) = (self.disk, self.dir);
        self.output().flush(disk, dir)
    }

    /// Brings the outputs to stable storage, and leaves out those of which nothing stayed.
    fn finish(&mut self) -> Result<Vec<Output>, LogError> {
        let mut outputs = std::mem::take(&mut self.outputs);
        outputs.retain(|output| output.tally.unhashed().length > 0);
        for output in &mut outputs {
            output.flush(self.disk, self.dir)?;
            output.file.as_ref().expect("a filled output was written").sync_data()?;
            let facts = output.tally.facts();
            write_sidecar(self.disk, self.dir, &facts, &output.tally.index)?.sync_data()?;
        }
        Ok(outputs)
    }
}

/// What names a segment.
fn name(facts: &SegmentFacts) -> (i64, u64) {
    (facts.base_offset, facts.generation)
}

/// What of a batch compaction never changes.
fn identity(header: &BatchHeader) -> (i64, i64, i32, i64, i16, i32, i16) {
    let attributes = header.attributes & !super::super::DELETE_HORIZON;
    let producer = (header.producer_id, header.producer_epoch, header.base_sequence);
    (header.base_offset, header.last_offset, header.leader_epoch, producer.0, producer.1, producer.2, attributes)
}

impl Output {
    fn flush(&mut self, disk: &dyn Disk, dir: &str) -> Result<(), LogError> {
        let facts = *self.tally.unhashed();
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => disk.create(&format!("{}{CLEANED}", join(dir, &facts.file_name())))?.into(),
        };
        file.write_at(facts.length - self.pending.len() as u64, &self.pending)?;
        self.file = Some(file);
        self.pending.clear();
        Ok(())
    }
}

impl Log {
    /// True if every segment that the plan reads is still in use. Only then can it be run and swapped in.
    #[must_use]
    pub fn is_current(&self, plan: &CompactionPlan) -> bool {
        let held: BTreeSet<(i64, u64)> = self.sealed.iter().map(|segment| name(&segment.facts)).collect();
        plan.dirty.iter().chain(&plan.inputs).all(|facts| held.contains(&name(facts)))
    }

    /// Puts what a plan came to in the place of its inputs. False, and nothing changes but that the new files go, if the
    /// plan is not current any more: then make another.
    ///
    /// # Errors
    /// [`LogError::ApiMisuse`] if the two do not belong together; [`LogError::Storage`].
    pub fn swap(&mut self, plan: &CompactionPlan, compacted: Compacted) -> Result<bool, LogError> {
        self.unsynced.check()?;
        if compacted.generation != plan.generation {
            return Err(LogError::ApiMisuse("what was compacted is not of this plan".to_owned()));
        }
        if !self.is_current(plan) {
            self.discard(&compacted)?;
            return Ok(false);
        }
        let from = plan.inputs.first().map(|first| first.base_offset);
        let at = self.sealed.iter().position(|segment| Some(segment.facts.base_offset) == from);
        let at = at.expect("a current plan's inputs are segments");
        let going = self.round().map(|round| round.dirty_end);
        for output in &compacted.outputs {
            let path = self.path(output.tally.unhashed());
            self.disk.rename(&format!("{path}{CLEANED}"), &path)?;
        }
        self.unsynced.mark_folder();
        let new: Vec<Segment> = compacted
            .outputs
            .iter()
            .map(|output| Segment { facts: output.tally.facts(), index: output.tally.index.clone(), file: None })
            .collect();
        let old: Vec<SegmentFacts> = self.sealed.splice(at..at + compacted.inputs, new).map(|old| old.facts).collect();
        old.iter().for_each(|facts| self.doom(facts));
        self.pass_on(plan.dirty_start, going.unwrap_or(i64::MAX).min(compacted.dirty_end), compacted);
        Ok(true)
    }

    /// Runs a plan and puts what it came to in place. Answers the bytes before and after; `None` if the plan is not current.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] or [`LogError::Storage`].
    pub fn compact(&mut self, plan: &CompactionPlan, codec: &dyn BatchCodec) -> Result<Option<(u64, u64)>, LogError> {
        if !self.is_current(plan) {
            return Ok(None);
        }
        let compacted = plan.run(&*self.disk, &self.dir, codec)?;
        let bytes = (plan.input_bytes(), compacted.output_bytes());
        Ok(self.swap(plan, compacted)?.then_some(bytes))
    }

    /// Notes how far compaction has come.
    fn pass_on(&mut self, dirty_start: i64, dirty_end: i64, compacted: Compacted) {
        let done = compacted.clean_to >= dirty_end;
        let first_dirty = if done { dirty_end } else { dirty_start };
        self.cleaned.first_dirty = self.cleaned.first_dirty.max(first_dirty);
        self.cleaned.round = (!done).then_some(Round { dirty_end, next: compacted.clean_to, open: compacted.open });
    }

    /// Removes files that will not be put in place.
    fn discard(&mut self, compacted: &Compacted) -> Result<(), LogError> {
        for output in &compacted.outputs {
            let facts = output.tally.unhashed();
            let names = [format!("{}{CLEANED}", self.path(facts)), join(&self.dir, &facts.index_name())];
            for name in names {
                match self.disk.remove(&name) {
                    Ok(()) | Err(verity_storage::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}
