//! One partition's log: record batches, untouched, in segment files.
//!
//! The agreement's write-ahead log is the truth; this log is what applying it leaves. Batches arrive ordered, with base
//! offset and leader epoch set, and every change is a function of its arguments. Two replicas that made the same calls hold
//! byte-identical segments and equal manifests.
//!
//! - upon an append: the batch goes to the active segment, which is sealed first if the batch does not fit its size, time
//!   or offsets; nothing is synced. Appends are gathered and written at once by [`Log::flush`];
//! - upon a checkpoint: a [`Manifest`] says which bytes the log consists of. It counts once its [`SyncHandle`] is synced;
//!   only then may the write-ahead log be trimmed;
//! - upon opening at a manifest: what lies beyond it in the files is a torn tail, and is cut off; the caller applies the
//!   entries behind the manifest again. What lies below it and is not what was appended is [`LogError::Corrupt`], and
//!   nothing was changed. Of a sealed segment only the length is looked at, if its sidecar is sound;
//! - upon a read: whole batches of one segment, as a place in a file ([`Slice`]), so that they can leave without a copy;
//! - upon a segment going out of use (retention, DeleteRecords, compaction): its file stays until [`Log::release`] is told
//!   of a saved manifest from behind that moment, since an older one names it and a peer may be reading it;
//! - upon a failed sync: nothing is taken any more.
//!
//! A segment is called as Kafka calls it, `00000000000000000042.log`; compaction writes the bytes anew, so it writes them
//! under a new name, `00000000000000000042.7.log`, and never over bytes that a manifest may name.
//!
//! HAZARD: bytes that leave by [`Slice::range`], not by [`Slice::bytes`], are not checked on the way. Consumers check
//! each batch themselves; [`Log::verify`] finds damage before they do, if it is called from time to time.
//!
//! HAZARD: the configuration shapes the files. It is a part of the replicated state: the caller changes it by an applied
//! command, and opens a log with the one that held at the manifest.
//!
//! Deliberately absent: validation of what clients send and offsets' assignment (the wire's and the machine's), high
//! watermark and last stable offset (arguments here), records (but for compaction, by the caller's [`BatchCodec`]),
//! clocks, threads, truncation from the end: what was applied is never taken back.

mod append;
mod compact;
mod epochs;
mod error;
mod fields;
mod header;
mod index;
mod manifest;
mod read;
mod recover;
mod retain;
mod segment;
mod sync;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use verity_storage::{Disk, DiskFile};

pub use append::Appended;
pub use compact::{
    ABORTED_MAX, AbortedRange, BatchCodec, CodecError, Compacted, CompactionPlan, CompactionPolicy, LastOfProducer,
    PRODUCERS_MAX, RecordRef,
};
pub use epochs::{EPOCHS_MAX, EpochStart};
pub use error::LogError;
pub use header::{BatchHeader, CONTROL, DELETE_HORIZON, HEADER_SIZE, LOG_APPEND_TIME, TRANSACTIONAL};
pub use index::ENTRIES_MAX;
pub use manifest::{Manifest, OPEN_MAX, SEGMENTS_MAX, SegmentFacts};
pub use read::Slice;
pub use recover::scrub;
pub use sync::SyncHandle;

use append::Active;
use epochs::Epochs;
use manifest::Cleaned;
use read::Cursors;
use segment::{Segment, join, open_file};
use sync::Unsynced;

/// How many sealed segments of a log are kept open.
const HANDLES_MAX: usize = 4;

/// How a log shapes its segments. Part of the replicated state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment is sealed rather than grown beyond this (`segment.bytes`).
    pub segment_bytes: u64,
    /// A segment is sealed once the next batch is this much younger than its first (`segment.ms`).
    pub segment_ms: i64,
    /// Index entries are at least this far apart (`index.interval.bytes`).
    pub index_interval_bytes: u32,
}

impl Default for LogConfig {
    /// Kafka's.
    fn default() -> Self {
        Self { segment_bytes: 1 << 30, segment_ms: 7 * 24 * 3_600_000, index_interval_bytes: 4096 }
    }
}

/// One partition's log.
pub struct Log {
    disk: Arc<dyn Disk>,
    dir: String,
    config: LogConfig,
    /// In order; none is empty.
    sealed: Vec<Segment>,
    active: Active,
    log_start: i64,
    next_offset: i64,
    epochs: Epochs,
    cleaned: Cleaned,
    generation_next: u64,
    edition: u64,
    /// Files out of use, with the edition that their going made.
    doomed: Vec<(String, u64)>,
    unsynced: Unsynced,
    cursors: Cursors,
    /// Which sealed segments are open, by base offset, the latest last.
    handles: VecDeque<i64>,
}

impl Log {
    /// An empty log in the folder `dir`, which is created, and emptied of what an earlier log left.
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn create(disk: Arc<dyn Disk>, dir: String, config: LogConfig) -> Result<Self, LogError> {
        Self::open(disk, dir, config, &Manifest::empty())
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

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.each().map(|facts| facts.length).sum()
    }

    /// The segments in order, the active one last; its hash is not computed.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentFacts> {
        self.each()
    }

    /// The largest timestamp in the log, with the last offset of the first batch that bears it; `None` if no record has
    /// one.
    #[must_use]
    pub fn max_timestamp(&self) -> Option<(i64, i64)> {
        let newest = self.each().rev().max_by_key(|facts| facts.max_timestamp)?;
        (newest.max_timestamp >= 0).then_some((newest.max_timestamp, newest.max_timestamp_offset))
    }

    /// The latest leader epoch of which the log has a batch.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<i32> {
        self.epochs.latest()
    }

    /// The largest known epoch up to `epoch`, and the offset at which it ends (OffsetForLeaderEpoch); `None` if the log
    /// knows none that large.
    #[must_use]
    pub fn epoch_end_offset(&self, epoch: i32) -> Option<(i32, i64)> {
        self.epochs.end_offset(epoch, self.next_offset)
    }

    /// How segments are shaped.
    #[must_use]
    pub fn config(&self) -> LogConfig {
        self.config
    }

    /// Changes how segments are shaped from here on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// What the log is now, with everything written but not synced: for a peer, or a checkpoint whose files are synced by
    /// other means. Use [`Log::checkpoint`] where durability counts.
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn manifest(&mut self) -> Result<Manifest, LogError> {
        self.flush()?;
        let sealed = self.sealed.iter().map(|segment| segment.facts);
        Ok(Manifest {
            log_start: self.log_start,
            next_offset: self.next_offset,
            edition: self.edition,
            generation_next: self.generation_next,
            cleaned: self.cleaned.clone(),
            epochs: self.epochs.clone(),
            segments: sealed.chain([self.active.tally.facts()]).collect(),
        })
    }

    /// What the log is now, and what must be synced before that counts. Appends may go on meanwhile.
    ///
    /// # Errors
    /// [`LogError::Storage`], also after a sync that failed.
    pub fn checkpoint(&mut self) -> Result<(Manifest, SyncHandle), LogError> {
        self.unsynced.check()?;
        let manifest = self.manifest()?;
        Ok((manifest, self.unsynced.take(&self.disk, &self.dir)))
    }

    /// Removes the files that went out of use before `saved` was made. To be called once `saved` lies on stable storage
    /// and neither an older manifest, nor a reader, nor a compaction that is running needs them. Answers how many were
    /// removed.
    ///
    /// # Errors
    /// [`LogError::Storage`]; what was not removed is tried again.
    pub fn release(&mut self, saved: &Manifest) -> Result<usize, LogError> {
        let mut removed = 0;
        while let Some(at) = self.doomed.iter().position(|(_, edition)| *edition <= saved.edition) {
            let path = join(&self.dir, &self.doomed[at].0);
            match self.disk.remove(&path) {
                Ok(()) => removed += 1,
                Err(verity_storage::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            self.unsynced.forget(&path);
            self.doomed.swap_remove(at);
        }
        Ok(removed)
    }

    /// Lets go of open files, so that an idle log holds no descriptor.
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn park(&mut self) -> Result<(), LogError> {
        self.flush()?;
        self.active.file = None;
        self.sealed.iter_mut().for_each(|segment| segment.file = None);
        self.handles.clear();
        Ok(())
    }

    /// Asserts what must always hold of a log.
    pub fn invariants(&self) {
        let active = self.active.tally.unhashed();
        let mut end = -1;
        for facts in self.each() {
            assert!(facts.base_offset > end, "segments do not overlap");
            end = facts.last_offset.max(end);
        }
        assert!(self.sealed.iter().all(|segment| segment.facts.length > 0), "no sealed segment is empty");
        assert_eq!(active.last_offset + 1, self.next_offset, "the active segment ends the log");
        assert!((0..=self.next_offset).contains(&self.log_start), "the log starts inside of itself");
        assert!(self.active.pending.len() as u64 <= active.length, "what is pending is counted");
        assert!(self.epochs.is_ordered(), "epochs and their starts only grow");
        let filled = self.each().filter(|facts| facts.length > 0);
        let held: BTreeSet<String> = filled.flat_map(|facts| [facts.file_name(), facts.index_name()]).collect();
        let used = self.doomed.iter().find(|(name, _)| held.contains(name));
        assert_eq!(used, None, "no file in use is doomed (edition {})", self.edition);
        assert!(self.handles.len() <= HANDLES_MAX, "few files are open");
    }

    fn each(&self) -> impl DoubleEndedIterator<Item = &SegmentFacts> {
        self.sealed.iter().map(|segment| &segment.facts).chain([self.active.tally.unhashed()])
    }

    fn path(&self, facts: &SegmentFacts) -> String {
        join(&self.dir, &facts.file_name())
    }

    /// Notes that a segment's files are of no more use to this log.
    fn doom(&mut self, facts: &SegmentFacts) {
        self.edition += 1;
        for name in [facts.file_name(), facts.index_name()] {
            self.doomed.push((name, self.edition));
        }
        self.handles.retain(|open| *open != facts.base_offset);
    }

    /// The open file of the segment at this place, the active one last; everything of it must be written.
    fn file(&mut self, at: usize) -> Result<Arc<dyn DiskFile>, LogError> {
        let facts = self.facts(at);
        let held = self.sealed.get(at).map_or(&self.active.file, |segment| &segment.file);
        let file = match held {
            Some(file) => Arc::clone(file),
            None => open_file(&*self.disk, &self.path(&facts), &facts)?,
        };
        match self.sealed.get_mut(at) {
            Some(segment) => {
                segment.file = Some(Arc::clone(&file));
                self.note_open(facts.base_offset);
            }
            None => self.active.file = Some(Arc::clone(&file)),
        }
        Ok(file)
    }

    /// Notes that a sealed segment is open, and closes the one that was not read for longest.
    fn note_open(&mut self, base_offset: i64) {
        self.handles.retain(|open| *open != base_offset);
        self.handles.push_back(base_offset);
        if self.handles.len() > HANDLES_MAX {
            let idle = self.handles.pop_front();
            if let Some(segment) = self.sealed.iter_mut().find(|segment| Some(segment.facts.base_offset) == idle) {
                segment.file = None;
            }
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.dir)
            .field("log_start", &self.log_start)
            .field("next_offset", &self.next_offset)
            .field("segments", &(self.sealed.len() + 1))
            .finish_non_exhaustive()
    }
}
