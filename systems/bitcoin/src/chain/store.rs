//! Blocks and what they spent, in files, and an index of both.
//!
//! ```text
//! blocks/blk00000.dat   { magic size:u32 block }               as Bitcoin Core's
//! blocks/rev00000.dat   { magic size:u32 undo hash }           hash = double SHA-256 of the block's hash before and the undo
//! blocks/xor.dat        eight zeros: nothing is obscured
//! blocks/index          id -> header, counts, flags, places    a database of our own
//! ```
//!
//! - upon a block or its undo: the bytes are written, and not synced;
//! - upon [`Store::write`]: the files are synced, and then the index, so that it never names what is not there;
//! - upon a crash: what the index does not name is overwritten, and a file that it does not name at all is removed;
//! - upon files that go (`prune`): the index is told before they do.
//!
//! Deliberately absent: a choice of what is to go.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use bitcoin::BlockHash;
use bitcoin::block::{Block, Header};
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256d};
use verity_nakamoto::{BlockId, Failure, Kept, Tree};
use verity_storage::kv::RedbConfig;
use verity_storage::{Batch, Direction, Disk, DiskFile, Keyspace, Kv, RedbKv};

use super::{BlockUndo, ChainError};

const INDEX: Keyspace = Keyspace("blocks");
pub(super) const FOLDER: &str = "blocks";
const INDEX_FOLDER: &str = "blocks/index";
pub(super) const INDEX_FILE: &str = "blocks/index/index.redb";
/// No more is put into a file of blocks.
const FILE_BYTES_MAX: u64 = 128 << 20;
/// The same for small files (`-fastprune`).
const SMALL_FILE_BYTES_MAX: u64 = 64 << 10;
/// No block is longer.
pub(super) const BLOCK_BYTES_MAX: usize = 4_000_000;
/// No block's undo is longer: as many inputs as fit into a block, each of a script of ten thousand bytes, would be more, but
/// such coins take blocks to make.
const UNDO_BYTES_MAX: usize = 1 << 30;
const FRAME_BYTES: u64 = 8;
/// No block is shorter: a header, and that there is nothing behind it.
const BLOCK_BYTES_MIN: usize = 81;
/// So many bytes of a file are searched at once for where a block begins.
const WINDOW: usize = 4_096;
const PAGE: usize = 4_096;
const VERSION: u8 = 1;
/// So many files are held open for reading.
const OPEN_MAX: usize = 16;

/// Where something stands: in the file of a number, its bytes behind the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    file: u32,
    offset: u64,
    size: u32,
}

/// What the index keeps beside the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Places {
    block: Option<Place>,
    undo: Option<Place>,
}

/// The end of a file's part that is in use.
#[derive(Debug, Default)]
struct Ends {
    block: u64,
    undo: u64,
}

/// A block as it stands in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framed(Place);

impl Framed {
    /// One byte behind where its frame begins.
    pub(super) fn inside(self) -> u64 {
        self.0.offset - FRAME_BYTES + 1
    }

    /// Behind it.
    pub(super) fn end(self) -> u64 {
        self.0.offset + u64::from(self.0.size)
    }
}

/// What a file of blocks has.
#[derive(Clone, Copy, Debug)]
pub(super) struct FileUse {
    pub(super) number: u32,
    /// With what its blocks spent.
    pub(super) bytes: u64,
    /// Of its blocks.
    pub(super) height_max: u32,
}

/// The files.
#[derive(Debug)]
pub(super) struct Store {
    disk: Arc<dyn Disk>,
    index: RedbKv,
    magic: [u8; 4],
    file_bytes_max: u64,
    places: Vec<Places>,
    ends: Vec<Ends>,
    /// Written to since the last sync, by their names.
    dirty_files: BTreeSet<String>,
    /// Entries that the index does not have as they are.
    dirty: BTreeSet<BlockId>,
    open: Mutex<BTreeMap<String, Arc<dyn DiskFile>>>,
}

fn corrupt(what: impl Into<String>) -> ChainError {
    ChainError::Corrupt(format!("{}; move its folder away, and the blocks are asked for anew", what.into()))
}

fn put_place(out: &mut Vec<u8>, place: Option<Place>) {
    let place = place.unwrap_or(Place { file: u32::MAX, offset: 0, size: 0 });
    out.extend_from_slice(&place.file.to_le_bytes());
    out.extend_from_slice(&place.offset.to_le_bytes());
    out.extend_from_slice(&place.size.to_le_bytes());
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

fn take_place(bytes: &mut &[u8]) -> Option<Option<Place>> {
    let file = u32::from_le_bytes(take(bytes)?);
    let offset = u64::from_le_bytes(take(bytes)?);
    let size = u32::from_le_bytes(take(bytes)?);
    Some((file != u32::MAX).then_some(Place { file, offset, size }))
}

fn encode_entry(kept: &Kept, places: Places) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&serialize(&kept.header));
    out.extend_from_slice(&kept.tx_count.to_le_bytes());
    out.push(u8::from(kept.has_data) | u8::from(kept.validated) << 1 | u8::from(kept.failed) << 2);
    put_place(&mut out, places.block);
    put_place(&mut out, places.undo);
    out
}

fn decode_entry(mut bytes: &[u8]) -> Option<(Kept, Places)> {
    let bytes = &mut bytes;
    let [version] = take(bytes)?;
    let header: Header = deserialize(&take::<80>(bytes)?).ok()?;
    let tx_count = u32::from_le_bytes(take(bytes)?);
    let [flags] = take(bytes)?;
    let places = Places { block: take_place(bytes)?, undo: take_place(bytes)? };
    let kept = Kept { header, tx_count, has_data: flags & 1 != 0, validated: flags & 2 != 0, failed: flags & 4 != 0 };
    (version == VERSION && flags < 8 && bytes.is_empty()).then_some((kept, places))
}

pub(super) fn block_file(file: u32) -> String {
    format!("{FOLDER}/blk{file:05}.dat")
}

fn undo_file(file: u32) -> String {
    format!("{FOLDER}/rev{file:05}.dat")
}

/// Fills a buffer as far as a file goes.
fn read_up_to(file: &dyn DiskFile, from: u64, bytes: &mut [u8]) -> Result<usize, ChainError> {
    let mut at = 0;
    while at < bytes.len() {
        match file.read_at(from + at as u64, &mut bytes[at..])? {
            0 => break,
            read => at += read,
        }
    }
    Ok(at)
}

fn undo_check(below: BlockHash, bytes: &[u8]) -> sha256d::Hash {
    let mut engine = sha256d::Hash::engine();
    engine.input(below.as_byte_array());
    engine.input(bytes);
    sha256d::Hash::from_engine(engine)
}

impl Store {
    /// Opens what is there. Answers also with what was kept of all blocks but the first, in order.
    pub(super) fn open(disk: Arc<dyn Disk>, magic: [u8; 4], small: bool) -> Result<(Self, Vec<Kept>), ChainError> {
        disk.create_dir(INDEX_FOLDER)?;
        let config = RedbConfig { path: INDEX_FILE.to_owned(), cache_size: 1 << 20, ..RedbConfig::default() };
        let index = RedbKv::open(disk.as_ref(), &config)?;
        if !disk.exists("blocks/xor.dat")? {
            disk.create("blocks/xor.dat")?.write_at(0, &[0; 8])?;
        }
        let mut store = Self {
            disk,
            index,
            magic,
            file_bytes_max: if small { SMALL_FILE_BYTES_MAX } else { FILE_BYTES_MAX },
            places: vec![Places::default()],
            ends: Vec::new(),
            dirty_files: BTreeSet::new(),
            dirty: BTreeSet::new(),
            open: Mutex::default(),
        };
        let kept = store.load()?;
        Ok((store, kept))
    }

    fn load(&mut self) -> Result<Vec<Kept>, ChainError> {
        let (mut kept, mut from) = (Vec::new(), Bound::Unbounded);
        loop {
            let range = (from.as_ref().map(<[u8; 4]>::as_slice), Bound::Unbounded);
            let page = verity_storage::KvRead::scan(&self.index, INDEX, range, Direction::Forward, PAGE)?;
            for (key, value) in &page {
                let id = <[u8; 4]>::try_from(&key[..]).map(u32::from_be_bytes).ok();
                let next = self.places.len() as u32;
                let entry = decode_entry(value).filter(|_| id.is_some_and(|id| id == 0 || id == next));
                let (one, places) = entry.ok_or_else(|| corrupt("the index of blocks does not hold together"))?;
                if id == Some(0) {
                    self.places[0] = places;
                } else {
                    kept.push(one);
                    self.places.push(places);
                }
                for (place, tail) in [(places.block, 0), (places.undo, 32)] {
                    let Some(place) = place else { continue };
                    let end = place.offset + u64::from(place.size) + tail;
                    let ends = self.ends_of(place.file);
                    let used = if tail == 0 { &mut ends.block } else { &mut ends.undo };
                    *used = (*used).max(end);
                }
            }
            let Some((last, _)) = page.last().filter(|_| page.len() == PAGE) else { return Ok(kept) };
            from = Bound::Excluded(<[u8; 4]>::try_from(&last[..]).map_err(|_| corrupt("a key of the index is odd"))?);
        }
    }

    fn ends_of(&mut self, file: u32) -> &mut Ends {
        let at = file as usize;
        if self.ends.len() <= at {
            self.ends.resize_with(at + 1, Ends::default);
        }
        &mut self.ends[at]
    }

    fn places_mut(&mut self, id: BlockId) -> &mut Places {
        let at = id.0 as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, Places::default());
        }
        &mut self.places[at]
    }

    /// The index is to be told of this entry.
    pub(super) fn touch(&mut self, id: BlockId) {
        self.dirty.insert(id);
    }

    fn file(&self, name: &str, create: bool) -> Result<Arc<dyn DiskFile>, ChainError> {
        let mut open = self.open.lock().expect("nobody panics while holding it");
        if let Some(file) = open.get(name) {
            return Ok(Arc::clone(file));
        }
        let fresh = create && !self.disk.exists(name)?;
        let file: Arc<dyn DiskFile> = if fresh { self.disk.create(name)?.into() } else { self.disk.open(name)?.into() };
        if open.len() >= OPEN_MAX {
            open.pop_first();
        }
        open.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn append(&mut self, name: String, end: u64, parts: &[&[u8]]) -> Result<Place, ChainError> {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        let size = u32::try_from(size).expect("what is stored is bounded");
        let mut frame = Vec::with_capacity(FRAME_BYTES as usize + size as usize);
        frame.extend_from_slice(&self.magic);
        frame.extend_from_slice(&size.to_le_bytes());
        parts.iter().for_each(|part| frame.extend_from_slice(part));
        self.file(&name, true)?.write_at(end, &frame)?;
        self.dirty_files.insert(name);
        Ok(Place { file: 0, offset: end + FRAME_BYTES, size })
    }

    /// Writes a block.
    pub(super) fn put_block(&mut self, id: BlockId, bytes: &[u8]) -> Result<(), ChainError> {
        let mut file = self.ends.len().saturating_sub(1) as u32;
        let needed = FRAME_BYTES + bytes.len() as u64;
        let end = self.ends_of(file).block;
        if end > 0 && end + needed > self.file_bytes_max {
            file += 1;
        }
        let end = self.ends_of(file).block;
        let place = Place { file, ..self.append(block_file(file), end, &[bytes])? };
        self.ends_of(file).block = end + needed;
        self.places_mut(id).block = Some(place);
        self.touch(id);
        Ok(())
    }

    /// Writes what a block spent. Its own bytes are there.
    pub(super) fn put_undo(&mut self, id: BlockId, below: BlockHash, undo: &BlockUndo) -> Result<(), ChainError> {
        let place = self.places.get(id.0 as usize).and_then(|places| places.block);
        let file = place.expect("what is applied was stored").file;
        let bytes = undo.encode();
        let end = self.ends_of(file).undo;
        let check = undo_check(below, &bytes);
        let place = self.append(undo_file(file), end, &[&bytes, check.as_byte_array()])?;
        self.ends_of(file).undo = place.offset + u64::from(place.size);
        self.places_mut(id).undo = Some(Place { file, size: place.size - 32, ..place });
        self.touch(id);
        Ok(())
    }

    /// True if what the block spent is known.
    pub(super) fn has_undo(&self, id: BlockId) -> bool {
        self.places.get(id.0 as usize).is_some_and(|places| places.undo.is_some())
    }

    fn read(&self, name: &str, place: Place, tail: usize, max: usize) -> Result<Vec<u8>, ChainError> {
        let size = place.size as usize;
        if size > max {
            return Err(corrupt(format!("{name} is to have {size} bytes in one piece")));
        }
        let mut bytes = vec![0; size + tail];
        let file = self.file(name, false)?;
        let mut at = 0;
        while at < bytes.len() {
            match file.read_at(place.offset + at as u64, &mut bytes[at..])? {
                0 => return Err(corrupt(format!("{name} is cut off"))),
                read => at += read,
            }
        }
        Ok(bytes)
    }

    /// A block's bytes, if it was ever had.
    pub(super) fn block_bytes(&self, id: BlockId) -> Result<Option<Vec<u8>>, ChainError> {
        let Some(place) = self.places.get(id.0 as usize).and_then(|places| places.block) else { return Ok(None) };
        self.read(&block_file(place.file), place, 0, BLOCK_BYTES_MAX).map(Some)
    }

    /// A block, if it was ever had, checked against its hash.
    pub(super) fn block(&self, id: BlockId, hash: BlockHash) -> Result<Option<Block>, ChainError> {
        let Some(bytes) = self.block_bytes(id)? else { return Ok(None) };
        let block: Option<Block> = deserialize(&bytes).ok().filter(|block: &Block| block.block_hash() == hash);
        block.map(Some).ok_or_else(|| corrupt(format!("block {hash} is not what was written")))
    }

    /// What a block spent, if it was ever applied.
    pub(super) fn undo(&self, id: BlockId, below: BlockHash) -> Result<Option<BlockUndo>, ChainError> {
        let Some(place) = self.places.get(id.0 as usize).and_then(|places| places.undo) else { return Ok(None) };
        let name = undo_file(place.file);
        let mut bytes = self.read(&name, place, 32, UNDO_BYTES_MAX)?;
        let check = bytes.split_off(place.size as usize);
        let undo = (undo_check(below, &bytes).as_byte_array()[..] == check[..]).then(|| BlockUndo::decode(&bytes));
        undo.flatten().map(Some).ok_or_else(|| corrupt(format!("{name} is not what was written")))
    }

    /// True if a block is stored.
    pub(super) fn has_block(&self, id: BlockId) -> bool {
        self.places.get(id.0 as usize).is_some_and(|places| places.block.is_some())
    }

    /// The next block of a file at or behind an offset, with its bytes; `None` behind the last.
    pub(super) fn next_frame(&self, number: u32, from: u64) -> Result<Option<(Framed, Vec<u8>)>, ChainError> {
        let name = block_file(number);
        let file = self.file(&name, false)?;
        let (mut at, mut window) = (from, vec![0; WINDOW]);
        loop {
            let read = read_up_to(file.as_ref(), at, &mut window)?;
            let Some(found) = window[..read].windows(self.magic.len()).position(|four| four == self.magic) else {
                if read < WINDOW {
                    return Ok(None);
                }
                at += (WINDOW - self.magic.len() + 1) as u64;
                continue;
            };
            let start = at + found as u64;
            let mut head = [0; FRAME_BYTES as usize];
            if read_up_to(file.as_ref(), start, &mut head)? < head.len() {
                return Ok(None);
            }
            let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
            let place = Place { file: number, offset: start + FRAME_BYTES, size };
            if (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&(size as usize)) {
                let mut bytes = vec![0; size as usize];
                if read_up_to(file.as_ref(), place.offset, &mut bytes)? == bytes.len() {
                    return Ok(Some((Framed(place), bytes)));
                }
            }
            // No block stands there, whatever the four bytes are.
            at = start + 1;
        }
    }

    /// Takes a block into the index where it stands.
    pub(super) fn adopt(&mut self, id: BlockId, framed: Framed) {
        let ends = self.ends_of(framed.0.file);
        ends.block = ends.block.max(framed.end());
        self.places_mut(id).block = Some(framed.0);
        self.touch(id);
    }

    /// True if the index does not have all that is known.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.dirty_files.is_empty()
    }

    /// Files that have blocks, but for the last one, which takes the next.
    pub(super) fn files(&self, height: impl Fn(BlockId) -> u32) -> Vec<FileUse> {
        let mut heights: Vec<Option<u32>> = vec![None; self.ends.len()];
        for (at, places) in self.places.iter().enumerate() {
            let Some(place) = places.block else { continue };
            let own = height(BlockId(u32::try_from(at).expect("ids have 32 bits")));
            let highest = &mut heights[place.file as usize];
            *highest = (*highest).max(Some(own));
        }
        heights.pop();
        let file = |(at, height): (usize, Option<u32>)| {
            let ends = &self.ends[at];
            Some(FileUse { number: at as u32, bytes: ends.block + ends.undo, height_max: height? })
        };
        heights.into_iter().enumerate().filter_map(file).collect()
    }

    /// Forgets where the blocks of these files stood. Answers with them.
    pub(super) fn forget(&mut self, files: &BTreeSet<u32>) -> Vec<BlockId> {
        let mut gone = Vec::new();
        for (at, places) in self.places.iter_mut().enumerate() {
            if places.block.is_some_and(|place| files.contains(&place.file)) {
                *places = Places::default();
                gone.push(BlockId(u32::try_from(at).expect("ids have 32 bits")));
            }
        }
        self.dirty.extend(&gone);
        for file in files {
            self.ends[*file as usize] = Ends::default();
            for name in [block_file(*file), undo_file(*file)] {
                self.dirty_files.remove(&name);
            }
        }
        gone
    }

    /// Removes files of which the index names nothing.
    pub(super) fn remove(&mut self, files: &BTreeSet<u32>) -> Result<(), ChainError> {
        for name in files.iter().flat_map(|file| [block_file(*file), undo_file(*file)]) {
            self.open.lock().expect("nobody panics while holding it").remove(&name);
            if self.disk.exists(&name)? {
                self.disk.remove(&name)?;
            }
        }
        Ok(self.disk.sync_dir(FOLDER)?)
    }

    /// Removes what an end in the middle of [`Store::remove`] left.
    pub(super) fn remove_unnamed(&mut self) -> Result<(), ChainError> {
        let unnamed = |(at, ends): (usize, &Ends)| (ends.block == 0).then_some(at as u32);
        let files: BTreeSet<u32> = self.ends.iter().enumerate().filter_map(unnamed).collect();
        if files.is_empty() { Ok(()) } else { self.remove(&files) }
    }

    /// Bytes that all files take.
    pub(super) fn bytes(&self) -> u64 {
        self.ends.iter().map(|ends| ends.block + ends.undo).sum()
    }

    /// Brings files and then the index to stable storage.
    pub(super) fn write(&mut self, tree: &Tree) -> Result<(), ChainError> {
        for name in &self.dirty_files {
            self.file(name, false)?.sync_data()?;
        }
        if !self.dirty_files.is_empty() {
            self.disk.sync_dir(FOLDER)?;
        }
        self.dirty_files.clear();
        let mut batch = Batch::new();
        for id in std::mem::take(&mut self.dirty) {
            let entry = tree.entry(id);
            let kept = Kept {
                header: entry.header,
                tx_count: entry.tx_count,
                has_data: entry.has_data,
                validated: entry.validated,
                failed: entry.failure == Some(Failure::Own),
            };
            let places = self.places.get(id.0 as usize).copied().unwrap_or_default();
            batch.put(INDEX, id.0.to_be_bytes().to_vec(), encode_entry(&kept, places));
        }
        if !batch.is_empty() {
            self.index.write(&batch)?;
            self.index.flush()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let header = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).header;
        for flags in 0..8u8 {
            let kept = Kept {
                header,
                tx_count: 7,
                has_data: flags & 1 != 0,
                validated: flags & 2 != 0,
                failed: flags & 4 != 0,
            };
            let places = Places { block: Some(Place { file: 3, offset: 9, size: 300 }), undo: None };
            let bytes = encode_entry(&kept, places);
            assert_eq!(decode_entry(&bytes), Some((kept, places)));
            assert_eq!(decode_entry(&bytes[1..]), None);
            assert_eq!(decode_entry(&[&bytes[..], &[0]].concat()), None);
        }
    }
}
