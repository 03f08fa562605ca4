//! Finding batches: by offset, for consumers; by timestamp, for ListOffsets.
//!
//! - upon a read from an offset: the first batch that ends at or behind it, which may begin before it, as consumers
//!   expect; then as many whole batches of the same segment as fit;
//! - a place is found by the sparse index and a scan of headers; a reader that goes on where an earlier read ended is found
//!   by a cursor, without either;
//! - where a slice ends is found by the index as well, so that a large slice costs a few headers, not all of them;
//! - upon a time: the batch whose largest timestamp is the first to reach it. Which record of it does is known to whoever
//!   can decompress it.

use std::collections::VecDeque;
use std::sync::Arc;

use verity_contract::FileRange;
use verity_storage::{DiskFile, file_range};

use super::header::BatchHeader;
use super::manifest::SegmentFacts;
use super::segment::{Place, Walk};
use super::{Log, LogError};

/// How many ends of reads are remembered.
const CURSORS_MAX: usize = 32;

/// Whole batches at a place in a file.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The file, as a path on the log's disk.
    pub path: String,
    /// Where in it the first batch begins.
    pub position: u64,
    /// How many bytes the batches have; never 0.
    pub length: usize,
    /// Base offset of the first batch; may be less than was asked for.
    pub first_offset: i64,
    /// Where to read on: every record of the log below this offset, from the one that was asked for, is in the slice.
    pub next_offset: i64,
    file: Arc<dyn DiskFile>,
}

impl Slice {
    /// The place, to be read by whoever writes it on. Nobody has looked at these bytes.
    #[must_use]
    pub fn range(&self) -> FileRange {
        file_range(&self.file, self.position, self.length)
    }

    /// Reads the batches and checks each one's checksum and offsets.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] or [`LogError::Storage`].
    pub fn bytes(&self) -> Result<Vec<u8>, LogError> {
        let mut out = vec![0; self.length];
        let read = self.file.read_at(self.position, &mut out)?;
        if read < out.len() {
            let what = "the file ends before its segment does";
            return Err(LogError::corrupt(&self.path, self.position.saturating_add(read as u64), what));
        }
        let (mut at, mut offset_min) = (0, self.first_offset);
        while at < out.len() {
            let damage = |what| LogError::corrupt(&self.path, self.position.saturating_add(at as u64), what);
            let size = BatchHeader::parse(&out[at..]).map_err(damage)?.size as usize;
            let batch =
                out.get(at..at.saturating_add(size)).ok_or_else(|| damage("a batch reaches beyond its slice"))?;
            let header = BatchHeader::check(batch).map_err(damage)?;
            if header.base_offset < offset_min || header.last_offset >= self.next_offset {
                return Err(damage("a batch's offsets do not follow those before it"));
            }
            offset_min = header.last_offset + 1;
            at += size;
        }
        Ok(out)
    }
}

/// Where earlier reads ended.
#[derive(Debug, Default)]
pub(super) struct Cursors(VecDeque<Cursor>);

#[derive(Clone, Copy, Debug)]
struct Cursor {
    next_offset: i64,
    base_offset: i64,
    generation: u64,
    position: u64,
}

impl Cursors {
    /// The cursor at `offset`. It stays, as several consumers follow the same log.
    fn find(&mut self, offset: i64) -> Option<Cursor> {
        let at = self.0.iter().position(|cursor| cursor.next_offset == offset)?;
        let cursor = self.0.remove(at)?;
        self.0.push_back(cursor);
        Some(cursor)
    }

    /// Remembers where a read ended, instead of the cursor that was not used for longest.
    fn note(&mut self, cursor: Cursor) {
        self.0.retain(|known| known.next_offset != cursor.next_offset);
        if self.0.len() == CURSORS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(cursor);
    }
}

/// A batch that was found: in which segment, where, and its header.
struct Found {
    at: usize,
    position: u64,
    header: BatchHeader,
}

impl Log {
    /// Batches from the one that holds `from_offset` on, up to `max_bytes` of one segment, and none that reaches
    /// `upto_offset`. With `min_one_batch` the first may be larger than `max_bytes`. `None` if there is nothing to read.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`], [`LogError::Corrupt`], [`LogError::Storage`].
    pub fn read(
        &mut self,
        from_offset: i64,
        max_bytes: usize,
        min_one_batch: bool,
        upto_offset: i64,
    ) -> Result<Option<Slice>, LogError> {
        if from_offset < self.log_start || from_offset > self.next_offset {
            let (log_start, next_offset) = (self.log_start, self.next_offset);
            return Err(LogError::OutOfRange { offset: from_offset, log_start, next_offset });
        }
        let upto = upto_offset.min(self.next_offset);
        if from_offset >= upto {
            return Ok(None);
        }
        self.flush()?;
        let Some(first) = self.locate(from_offset)? else { return Ok(None) };
        let too_large = first.header.size as usize > max_bytes && !min_one_batch;
        if too_large || first.header.last_offset >= upto {
            return Ok(None);
        }
        let (end, next_offset) = self.extent(&first, max_bytes, upto)?;
        let slice = self.slice(&first, end, next_offset)?;
        let facts = self.facts(first.at);
        let (base_offset, generation) = (facts.base_offset, facts.generation);
        self.cursors.note(Cursor { next_offset, base_offset, generation, position: end });
        Ok(Some(slice))
    }

    /// The first batch from the one that holds `from_offset` on whose largest timestamp is at least `timestamp`, unless it
    /// reaches `upto_offset`. If none of its records from `from_offset` on is that young, ask again from behind it.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] or [`LogError::Storage`].
    pub fn batch_for_timestamp(
        &mut self,
        timestamp: i64,
        from_offset: i64,
        upto_offset: i64,
    ) -> Result<Option<Slice>, LogError> {
        self.flush()?;
        let from = from_offset.max(self.log_start);
        for at in 0..=self.sealed.len() {
            let facts = self.facts(at);
            if facts.max_timestamp < timestamp || facts.last_offset < from || facts.length == 0 {
                continue;
            }
            let by_offset = self.index(at).of_offset(from.saturating_sub(facts.base_offset));
            let place = self.place(at, by_offset.max(self.index(at).of_timestamp(timestamp)));
            let young = |header: &BatchHeader| header.max_timestamp >= timestamp && header.last_offset >= from;
            let Some(found) = self.scan_for(at, place, young)? else { continue };
            if found.header.last_offset >= upto_offset {
                return Ok(None);
            }
            let end = found.position + u64::from(found.header.size);
            return self.slice(&found, end, found.header.last_offset + 1).map(Some);
        }
        Ok(None)
    }

    pub(super) fn facts(&self, at: usize) -> SegmentFacts {
        self.sealed.get(at).map_or_else(|| *self.active.tally.unhashed(), |segment| segment.facts)
    }

    fn index(&self, at: usize) -> &super::index::Index {
        self.sealed.get(at).map_or(&self.active.tally.index, |segment| &segment.index)
    }

    /// The place of an index entry, or the segment's beginning.
    fn place(&self, at: usize, entry: Option<(u64, i64)>) -> Place {
        let facts = self.facts(at);
        match entry {
            Some((position, relative)) => Place { position, offset: facts.base_offset + relative, exact: true },
            None => Place::first(&facts),
        }
    }

    /// The first batch that ends at or behind `offset`.
    fn locate(&mut self, offset: i64) -> Result<Option<Found>, LogError> {
        let (mut at, mut place) = match self.cursors.find(offset).and_then(|cursor| self.resume(cursor)) {
            Some(place) => place,
            None => {
                let at = self.sealed.partition_point(|segment| segment.facts.last_offset < offset);
                let relative = offset.saturating_sub(self.facts(at).base_offset);
                (at, self.place(at, self.index(at).of_offset(relative)))
            }
        };
        loop {
            let facts = self.facts(at);
            if place.position < facts.length {
                if let Some(found) = self.scan_for(at, place, |header| header.last_offset >= offset)? {
                    return Ok(Some(found));
                }
                let what = "the batch that should end the segment is not there";
                return Err(LogError::corrupt(&self.path(&facts), place.position, what));
            }
            if at == self.sealed.len() {
                return Ok(None);
            }
            at += 1;
            place = Place::first(&self.facts(at));
        }
    }

    /// The place of a cursor, if its segment is still there.
    fn resume(&self, cursor: Cursor) -> Option<(usize, Place)> {
        let at = self.sealed.partition_point(|segment| segment.facts.base_offset < cursor.base_offset);
        let facts = self.facts(at);
        let same = (facts.base_offset, facts.generation) == (cursor.base_offset, cursor.generation);
        let place = Place { position: cursor.position, offset: cursor.next_offset, exact: facts.generation == 0 };
        same.then_some((at, place))
    }

    /// The first batch from `place` on in a segment that is `wanted`.
    fn scan_for(
        &mut self,
        at: usize,
        place: Place,
        wanted: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Option<Found>, LogError> {
        let facts = self.facts(at);
        let (file, path) = (self.file(at)?, self.path(&facts));
        let mut walk = Walk::headers(&*file, &path, &facts, place);
        while let Some(header) = walk.peek()? {
            if wanted(&header) {
                return Ok(Some(Found { at, position: walk.position(), header }));
            }
            walk.pass(&header);
        }
        Ok(None)
    }

    /// Where a slice that begins with `first` ends: a position, and the offset to read on from.
    fn extent(&mut self, first: &Found, max_bytes: usize, upto: i64) -> Result<(u64, i64), LogError> {
        let facts = self.facts(first.at);
        let limit = first.position.saturating_add(max_bytes as u64);
        if facts.length <= limit && facts.last_offset < upto {
            return Ok((facts.length, facts.last_offset + 1));
        }
        let mut end = (first.position + u64::from(first.header.size), first.header.last_offset + 1);
        let jump = self.index(first.at).last_within(limit, upto.saturating_sub(facts.base_offset));
        if let Some((position, relative)) = jump.filter(|(position, _)| *position > end.0) {
            end = (position, facts.base_offset + relative);
        }
        let (file, path) = (self.file(first.at)?, self.path(&facts));
        let place = Place { position: end.0, offset: end.1, exact: facts.generation == 0 };
        let mut walk = Walk::headers(&*file, &path, &facts, place);
        while let Some(header) = walk.peek()? {
            if walk.position() + u64::from(header.size) > limit || header.last_offset >= upto {
                break;
            }
            walk.pass(&header);
            end = (walk.position(), header.last_offset + 1);
        }
        Ok(end)
    }

    fn slice(&mut self, first: &Found, end: u64, next_offset: i64) -> Result<Slice, LogError> {
        let facts = self.facts(first.at);
        let length =
            usize::try_from(end - first.position).expect("a slice is a batch, or within what the caller asked");
        Ok(Slice {
            path: self.path(&facts),
            position: first.position,
            length,
            first_offset: first.header.base_offset,
            next_offset,
            file: self.file(first.at)?,
        })
    }
}
