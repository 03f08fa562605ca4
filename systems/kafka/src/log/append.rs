//! The active segment: appending, writing, sealing.
//!
//! A segment is sealed before a batch (Kafka's rules) that would make it longer than `segment_bytes`; that is `segment_ms`
//! younger than its first, by the batches' own timestamps, or by the caller's time if they bear none; or whose offsets do
//! not fit 31 bits from its base. A batch larger than `segment_bytes` gets a segment of its own.

use std::sync::Arc;

use verity_storage::DiskFile;

use super::header::{BatchHeader, HEADER_SIZE};
use super::manifest::SEGMENTS_MAX;
use super::segment::{Segment, Tally, join, write_sidecar};
use super::{Log, LogError};
use crate::wire;

/// Appends beyond this many bytes are written without waiting for [`Log::flush`].
const PENDING_MAX: usize = 256 << 10;
/// A buffer that grew beyond this is let go of when it was written: a node has thousands of logs.
const PENDING_KEPT: usize = 16 << 10;
/// No batch begins behind this position, so that positions fit the index.
const POSITION_MAX: u64 = u32::MAX as u64;

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// True if a segment was sealed for it: a good moment to look at retention and compaction.
    pub rolled: bool,
}

/// The segment that takes batches.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) tally: Tally,
    /// Open once it was written; created with its first byte.
    pub(super) file: Option<Arc<dyn DiskFile>>,
    /// Counted, but not written.
    pub(super) pending: Vec<u8>,
}

impl Active {
    pub(super) fn new(base_offset: i64) -> Self {
        Self { tally: Tally::new(base_offset, 0, 0), file: None, pending: Vec::new() }
    }

    fn written(&self) -> u64 {
        self.tally.unhashed().length - self.pending.len() as u64
    }
}

fn misuse(what: &str) -> LogError {
    LogError::ApiMisuse(what.to_owned())
}

impl Log {
    /// Appends one batch, whose offsets follow the log's. `now_ms` is the entry's time.
    ///
    /// # Errors
    /// [`LogError::ApiMisuse`] for bytes that are not one sound batch at the log's end; [`LogError::Storage`]. The log is
    /// then as before.
    pub fn append(&mut self, batch: &[u8], now_ms: i64) -> Result<Appended, LogError> {
        self.unsynced.check()?;
        let header = BatchHeader::check(batch).map_err(misuse)?;
        let (head, records) = batch.split_at(HEADER_SIZE);
        self.put(&header, [head, records], now_ms)
    }

    /// Appends one batch at the log's end, under this epoch, whatever it says itself of either.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_as(&mut self, batch: &[u8], leader_epoch: i32, now_ms: i64) -> Result<Appended, LogError> {
        self.unsynced.check()?;
        // Both lie outside of what the checksum covers, and the records need no copy for them.
        let mut head = [0; HEADER_SIZE];
        let (given, records) = batch.split_at_checked(HEADER_SIZE).ok_or_else(|| misuse("a batch is cut off"))?;
        head.copy_from_slice(given);
        wire::assign(&mut head, self.next_offset, leader_epoch);
        let header = BatchHeader::parse(&head).map_err(misuse)?;
        header.matches(batch).map_err(misuse)?;
        self.put(&header, [&head, records], now_ms)
    }

    /// Appends a sound batch in two parts.
    fn put(&mut self, header: &BatchHeader, parts: [&[u8]; 2], now_ms: i64) -> Result<Appended, LogError> {
        self.fits(header).map_err(LogError::ApiMisuse)?;
        let rolled = self.must_seal(header, now_ms);
        if rolled && self.sealed.len() >= SEGMENTS_MAX {
            return Err(LogError::ApiMisuse("the log has as many segments as it may have".to_owned()));
        }
        if rolled {
            self.seal()?;
        }
        let size = header.size as usize;
        if self.active.pending.len() + size > PENDING_MAX {
            self.flush()?;
        }
        if size > PENDING_MAX {
            self.write(parts)?;
        } else {
            self.active.pending.reserve(size);
            parts.iter().for_each(|part| self.active.pending.extend_from_slice(part));
        }
        let tally = &mut self.active.tally;
        if tally.unhashed().length == 0 {
            tally.set_created(now_ms);
            // A takeover may have found files of these names; they are overwritten now.
            let names = [tally.unhashed().file_name(), tally.unhashed().index_name()];
            self.doomed.retain(|(name, _)| !names.contains(name));
        }
        tally.add(header, parts, self.config.index_interval_bytes);
        self.epochs.assign(header.leader_epoch, header.base_offset);
        self.next_offset = header.last_offset + 1;
        Ok(Appended { base_offset: header.base_offset, last_offset: header.last_offset, rolled })
    }

    /// Writes what was appended. To be called at the end of an apply; reads and checkpoints do so as well.
    ///
    /// # Errors
    /// [`LogError::Storage`]; it may be called again.
    pub fn flush(&mut self) -> Result<(), LogError> {
        if self.active.pending.is_empty() {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.active.pending);
        let end = self.active.tally.unhashed().length;
        let written = self.write_at(end - pending.len() as u64, &pending);
        if written.is_ok() {
            pending.clear();
            pending.shrink_to(PENDING_KEPT);
        }
        self.active.pending = pending;
        written
    }

    /// Seals the active segment, if it holds anything and the log may have one more, so that compaction and retention may have it.
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn roll(&mut self) -> Result<(), LogError> {
        self.unsynced.check()?;
        let held = self.active.tally.unhashed().length > 0 && self.sealed.len() + 1 < SEGMENTS_MAX;
        if held { self.seal() } else { Ok(()) }
    }

    /// May a batch of this header be appended?
    fn fits(&self, header: &BatchHeader) -> Result<(), String> {
        if header.base_offset != self.next_offset {
            return Err(format!("a batch at offset {} is appended to {}", header.base_offset, self.next_offset));
        }
        if header.leader_epoch >= 0 && self.epochs.latest().is_some_and(|latest| latest > header.leader_epoch) {
            return Err(format!("a batch of epoch {} is appended behind a later one", header.leader_epoch));
        }
        Ok(())
    }

    fn must_seal(&self, header: &BatchHeader, now_ms: i64) -> bool {
        let active = self.active.tally.unhashed();
        if active.length == 0 {
            return false;
        }
        let relative_max = header.last_offset.saturating_sub(active.base_offset);
        if relative_max > i64::from(i32::MAX) || active.length > POSITION_MAX {
            return true;
        }
        let waited = if active.first_timestamp >= 0 {
            header.max_timestamp.saturating_sub(active.first_timestamp)
        } else {
            now_ms.saturating_sub(active.created_ms)
        };
        let full = active.length.saturating_add(u64::from(header.size)) > self.config.segment_bytes;
        (full || waited > self.config.segment_ms) && self.sealed.len() + 1 < SEGMENTS_MAX
    }

    pub(super) fn seal(&mut self) -> Result<(), LogError> {
        self.flush()?;
        let facts = self.active.tally.facts();
        let sidecar = write_sidecar(&*self.disk, &self.dir, &facts, &self.active.tally.index)?;
        self.unsynced.mark_new(&join(&self.dir, &facts.index_name()), &sidecar);
        let mut active = Active::new(self.next_offset);
        std::mem::swap(&mut active.pending, &mut self.active.pending);
        let full = std::mem::replace(&mut self.active, active);
        self.sealed.push(Segment { facts, index: full.tally.index, file: full.file });
        self.note_open(facts.base_offset);
        Ok(())
    }

    /// Writes bytes that are not counted yet.
    fn write(&mut self, parts: [&[u8]; 2]) -> Result<(), LogError> {
        assert!(self.active.pending.is_empty(), "bytes are written in order");
        let position = self.active.written();
        self.write_at(position, parts[0])?;
        self.write_at(position + parts[0].len() as u64, parts[1])
    }

    fn write_at(&mut self, position: u64, bytes: &[u8]) -> Result<(), LogError> {
        let facts = *self.active.tally.unhashed();
        let path = self.path(&facts);
        let file = match &self.active.file {
            Some(file) => Arc::clone(file),
            None if position > 0 => self.disk.open(&path)?.into(),
            None => {
                let file: Arc<dyn DiskFile> = self.disk.create(&path)?.into();
                self.unsynced.mark_new(&path, &file);
                file
            }
        };
        self.active.file = Some(Arc::clone(&file));
        self.unsynced.mark(&path, &file);
        file.write_at(position, bytes)?;
        Ok(())
    }
}
