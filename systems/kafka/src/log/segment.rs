//! One segment: a walk over its batches, and what is known of its bytes while they grow.
//!
//! A [`Tally`] is fed every batch of a segment in order, by appending, by scanning or by compaction; all three therefore
//! come to the same facts and the same index.

use std::sync::Arc;

use verity_storage::{Disk, DiskFile};
use xxhash_rust::xxh3::Xxh3;

use super::LogError;
use super::header::{BatchHeader, HEADER_SIZE};
use super::index::{Index, SIDECAR_SIZE_MAX};
use super::manifest::SegmentFacts;

/// What a walk reads at once when it looks at headers alone.
const HEADER_WINDOW: usize = 8 << 10;
/// What a walk reads at once when it looks at every byte.
const BODY_WINDOW: usize = 1 << 20;

/// `dir/name`, or `name` at the root.
pub(super) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// What is known of a segment while batches are added to it.
pub(super) struct Tally {
    /// All but the hash, which stands in the hasher.
    facts: SegmentFacts,
    pub(super) index: Index,
    hasher: Box<Xxh3>,
}

impl Tally {
    pub(super) fn new(base_offset: i64, generation: u64, created_ms: i64) -> Self {
        let facts = SegmentFacts { created_ms, ..SegmentFacts::empty(base_offset, generation) };
        Self { facts, index: Index::default(), hasher: Box::new(Xxh3::new()) }
    }

    /// Adds the next batch, whose header is `header`.
    pub(super) fn add(&mut self, header: &BatchHeader, parts: [&[u8]; 2], index_interval: u32) {
        let facts = &mut self.facts;
        assert!(header.base_offset > facts.last_offset, "batches are added in order");
        let relative = header.base_offset - facts.base_offset;
        self.index.note(relative, facts.length, facts.max_timestamp, header.size, index_interval);
        if facts.length == 0 {
            facts.first_timestamp = header.max_timestamp.max(-1);
        }
        if header.max_timestamp > facts.max_timestamp {
            facts.max_timestamp = header.max_timestamp;
            facts.max_timestamp_offset = header.last_offset;
        }
        facts.last_offset = header.last_offset;
        facts.length += u64::from(header.size);
        parts.iter().for_each(|part| self.hasher.update(part));
    }

    /// The facts, but for the hash, which is stale.
    pub(super) fn unhashed(&self) -> &SegmentFacts {
        &self.facts
    }

    pub(super) fn set_created(&mut self, created_ms: i64) {
        self.facts.created_ms = created_ms;
    }

    /// The facts with the hash of the bytes so far.
    pub(super) fn facts(&self) -> SegmentFacts {
        SegmentFacts { hash: self.hasher.digest(), ..self.facts }
    }
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// A segment that takes no more batches.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) facts: SegmentFacts,
    pub(super) index: Index,
    /// Open while it was read of late.
    pub(super) file: Option<Arc<dyn DiskFile>>,
}

/// Where a walk begins: at the beginning of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) position: u64,
    /// What is known of the batch's base offset.
    pub(super) offset: i64,
    /// True if that is its base offset; false if it may also be larger.
    pub(super) exact: bool,
}

impl Place {
    /// The beginning of a segment.
    pub(super) fn first(facts: &SegmentFacts) -> Self {
        Self { position: 0, offset: facts.base_offset, exact: facts.generation == 0 }
    }
}

/// Walks over the batches of a segment in order. As offsets are not covered by a batch's checksum, the walk compares them
/// with its neighbours' and with the segment's bounds; before compaction they have no gaps.
pub(super) struct Walk<'a> {
    file: &'a dyn DiskFile,
    path: &'a str,
    facts: &'a SegmentFacts,
    place: Place,
    window: Vec<u8>,
    window_start: u64,
    window_size: usize,
}

impl<'a> Walk<'a> {
    /// Over the headers of the batches from `place` on.
    pub(super) fn headers(file: &'a dyn DiskFile, path: &'a str, facts: &'a SegmentFacts, place: Place) -> Self {
        let (window_start, window_size) = (place.position, HEADER_WINDOW);
        Self { file, path, facts, place, window: Vec::new(), window_start, window_size }
    }

    /// Over all batches with their bytes.
    pub(super) fn batches(file: &'a dyn DiskFile, path: &'a str, facts: &'a SegmentFacts) -> Self {
        Self { window_size: BODY_WINDOW, ..Self::headers(file, path, facts, Place::first(facts)) }
    }

    /// Where the next batch begins.
    pub(super) fn position(&self) -> u64 {
        self.place.position
    }

    fn damage(&self, what: &str) -> LogError {
        LogError::corrupt(self.path, self.place.position, what)
    }

    /// The header of the next batch, without passing it; `None` at the end.
    pub(super) fn peek(&mut self) -> Result<Option<BatchHeader>, LogError> {
        let rest = self.facts.length.saturating_sub(self.place.position);
        if rest == 0 {
            return Ok(None);
        }
        let header = BatchHeader::parse(self.fill(HEADER_SIZE)?);
        let header = header.map_err(|what| self.damage(what))?;
        if u64::from(header.size) > rest {
            return Err(self.damage("a batch reaches beyond the end of its segment"));
        }
        let Place { offset, exact, .. } = self.place;
        let follows = if exact { header.base_offset == offset } else { header.base_offset >= offset };
        if !follows || header.last_offset > self.facts.last_offset {
            return Err(self.damage("a batch's offsets do not follow those before it"));
        }
        Ok(Some(header))
    }

    /// Passes the batch whose header was peeked.
    pub(super) fn pass(&mut self, header: &BatchHeader) {
        let position = self.place.position + u64::from(header.size);
        self.place = Place { position, offset: header.last_offset + 1, exact: self.facts.generation == 0 };
    }

    /// The next batch with its checksum checked, passing it; `None` at the end.
    pub(super) fn next_batch(&mut self) -> Result<Option<(BatchHeader, &[u8])>, LogError> {
        let Some(header) = self.peek()? else { return Ok(None) };
        let (path, position, size) = (self.path, self.place.position, header.size as usize);
        self.fill(size)?;
        let start = usize::try_from(position - self.window_start).expect("the window was filled around it");
        self.pass(&header);
        let batch = &self.window[start..start + size];
        BatchHeader::check(batch).map_err(|what| LogError::corrupt(path, position, what))?;
        Ok(Some((header, batch)))
    }

    /// The next `len` bytes, which lie before the end or are cut off there.
    fn fill(&mut self, len: usize) -> Result<&[u8], LogError> {
        let position = self.place.position;
        let rest = usize::try_from(self.facts.length - position).unwrap_or(usize::MAX);
        let len = len.min(rest);
        let ahead = position.checked_sub(self.window_start).and_then(|ahead| usize::try_from(ahead).ok());
        let held = ahead.filter(|start| start.saturating_add(len) <= self.window.len());
        let start = match held {
            Some(start) => start,
            None => {
                self.window.resize(len.max(self.window_size).min(rest), 0);
                let read = self.file.read_at(position, &mut self.window)?;
                self.window.truncate(read);
                self.window_start = position;
                if read < len {
                    return Err(self.damage("the file ends before its segment does"));
                }
                0
            }
        };
        Ok(&self.window[start..start + len])
    }
}

/// Reads all of a segment and checks every byte against what is known of it.
pub(super) fn scan(
    file: &dyn DiskFile,
    path: &str,
    expected: &SegmentFacts,
    index_interval: u32,
) -> Result<Tally, LogError> {
    let mut tally = Tally::new(expected.base_offset, expected.generation, expected.created_ms);
    let mut walk = Walk::batches(file, path, expected);
    while let Some((header, batch)) = walk.next_batch()? {
        tally.add(&header, [batch, &[]], index_interval);
    }
    if tally.facts() != *expected {
        return Err(LogError::corrupt(path, 0, "its batches check, but they are not the bytes that were appended"));
    }
    Ok(tally)
}

/// Opens a segment's file for reading and makes sure that it is long enough.
pub(super) fn open_file(disk: &dyn Disk, path: &str, facts: &SegmentFacts) -> Result<Arc<dyn DiskFile>, LogError> {
    let file: Arc<dyn DiskFile> = match disk.open(path) {
        Ok(file) => file.into(),
        Err(verity_storage::Error::NotFound { .. }) => return Err(LogError::corrupt(path, 0, "the file is gone")),
        Err(error) => return Err(error.into()),
    };
    let size = file.size()?;
    if size < facts.length {
        let what = format!("it has {size} bytes of {}", facts.length);
        return Err(LogError::corrupt(path, size, what));
    }
    Ok(file)
}

/// Reads a sealed segment's sidecar; `None` if it is not there, not sound, or of other bytes.
pub(super) fn read_sidecar(disk: &dyn Disk, dir: &str, facts: &SegmentFacts) -> Result<Option<Index>, LogError> {
    let file = match disk.open(&join(dir, &facts.index_name())) {
        Ok(file) => file,
        Err(verity_storage::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let size = file.size()?;
    if size > SIDECAR_SIZE_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(size).expect("the bound fits memory")];
    let read = file.read_at(0, &mut bytes)?;
    Ok(Index::decode(&bytes[..read], facts))
}

/// Writes a sealed segment's sidecar, unsynced.
pub(super) fn write_sidecar(
    disk: &dyn Disk,
    dir: &str,
    facts: &SegmentFacts,
    index: &Index,
) -> Result<Arc<dyn DiskFile>, LogError> {
    let file: Arc<dyn DiskFile> = disk.create(&join(dir, &facts.index_name()))?.into();
    file.write_at(0, &index.encode(facts))?;
    Ok(file)
}
