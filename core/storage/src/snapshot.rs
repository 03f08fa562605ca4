//! Snapshots of groups: what stands for the log up to an index.
//!
//! - upon [`SnapshotStore::begin`], `write`, `finish`: a snapshot is written beside the others, synced, and only then gets
//!   its name; older ones beyond the configured count go;
//! - upon [`SnapshotStore::latest`]: the newest one that checks from end to end; a damaged one is passed over;
//! - upon [`SnapshotStore::remove_after`]: those go that the caller went back behind;
//! - upon [`SnapshotStore::read_at`]: raw bytes of the file, to stream to a peer;
//! - upon [`SnapshotStore::receive`]: raw bytes from a peer, at any offsets; it gets its name once it checks as a whole;
//! - upon [`SnapshotReceiver::try_out`]: the same from a peer that may lie. It gets its name by [`SnapshotStore::adopt`], once
//!   the caller knows that it is what it should be; no start takes it for a snapshot before.
//!
//! HAZARD: passing over a damaged snapshot is sound only as long as the log from the one before it is still there. The
//! caller compares the index with the log's trim point.
//!
//! The file of a small one that goes is written again for another: making and removing files is most of what a small snapshot costs.
//!
//! HAZARD: a file is written again only once the folder no longer shows it under its old name, even after a crash.
//!
//! Which snapshots there are is read from the folder once and then kept in memory: it may hold thousands, and reading it
//! costs more than writing one. Nobody else writes there.
//!
//! Deliberately absent: what the bytes mean, and increments.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use verity_contract::SnapshotMeta;
use verity_types::{GroupId, LogIndex};

use crate::Error;
use crate::disk::{Disk, DiskFile, join};
use crate::identity::ClusterId;

mod format;
#[cfg(test)]
mod tests;

pub use format::{BLOCK_MAX, MEMBERS_MAX, SnapshotChunks};
use format::{Sealer, encode_header};

/// How snapshots use their disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// The folder of the snapshots.
    pub dir: String,
    /// How many snapshots of a group are kept; at least 1. With 2, a peer may still be streaming the older one.
    pub keep: usize,
    /// The longest file that is taken from a peer.
    pub size_max: u64,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self { dir: "snapshots".to_owned(), keep: 2, size_max: 64 << 30 }
    }
}

/// The snapshots of all groups of one node.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    config: SnapshotConfig,
    cluster: ClusterId,
    known: Arc<Mutex<Known>>,
}

/// What lies in the folder.
#[derive(Debug, Default)]
struct Known {
    /// Those that are whole, and so have their names.
    whole: BTreeSet<(GroupId, LogIndex)>,
    /// Paths of files to be written again,
    spares: Vec<String>,
    /// of those that are once the folder is synced,
    freed: Vec<String>,
    /// and how many there have been.
    spares_named: u64,
}

/// Group and index that a snapshot's file is named after.
fn named(name: &str) -> Option<(GroupId, LogIndex)> {
    let (group, index) = name.strip_suffix(DONE)?.split_once('-')?;
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    let found = (GroupId(number(group)?), LogIndex(number(index)?));
    (name == file_name(found.0, found.1, DONE)).then_some(found)
}

fn file_name(group: GroupId, index: LogIndex, suffix: &str) -> String {
    format!("{:016x}-{:016x}{suffix}", group.0, index.0)
}

impl SnapshotStore {
    /// Opens the folder, creating it if it is not there. Half-made snapshots are removed.
    ///
    /// # Errors
    /// The device's.
    ///
    /// # Panics
    /// If the configuration keeps none.
    pub fn open(disk: Arc<dyn Disk>, config: SnapshotConfig, cluster: ClusterId) -> Result<Self, Error> {
        assert!(config.keep > 0, "at least one snapshot is kept");
        disk.create_dir(&config.dir)?;
        let names = disk.list(&config.dir)?;
        for name in &names {
            if [WRITING, RECEIVING, TRIED].iter().any(|ending| name.ends_with(ending)) {
                disk.remove(&join(&config.dir, name))?;
            }
        }
        let whole = names.iter().filter_map(|name| named(name)).collect();
        let known = Known { whole, ..Known::default() };
        Ok(Self { disk, config, cluster, known: Arc::new(Mutex::new(known)) })
    }

    /// Begins a snapshot. A second one of the same group and index discards the first.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for more than [`MEMBERS_MAX`] members, or the device's.
    pub fn begin(&self, group: GroupId, meta: &SnapshotMeta) -> Result<SnapshotWriter, Error> {
        let header = encode_header(self.cluster, group, meta)?;
        let spare = self.known().spares.pop();
        let (file, temporary) = match spare {
            Some(spare) => (self.disk.open(&spare)?, spare),
            None => {
                let path = self.path(group, meta.index, WRITING);
                (self.disk.create(&path)?, path)
            }
        };
        let sealer = Sealer::new(&header);
        Ok(SnapshotWriter {
            store: self.clone(),
            group,
            index: meta.index,
            file,
            temporary,
            at: 0,
            buffer: header,
            sealer,
        })
    }

    /// The newest snapshot of the group, of those before `below` if it is given, that checks from end to end, which reads all
    /// of it.
    ///
    /// # Errors
    /// [`Error::Incompatible`] for one of another cluster or a newer format; [`Error::Corrupt`] if there are snapshots
    /// and none checks; the device's.
    pub fn latest(&self, group: GroupId, below: Option<LogIndex>) -> Result<Option<SnapshotMeta>, Error> {
        let mut damage = None;
        for index in self.indices(group).into_iter().rev().filter(|index| below.is_none_or(|below| *index < below)) {
            match self.chunks(group, index).and_then(SnapshotChunks::verify) {
                Ok(meta) => return Ok(Some(meta)),
                Err(error @ Error::Corrupt { .. }) => damage = damage.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        damage.map_or(Ok(None), Err)
    }

    /// The indices of the group's snapshots, in order, checked or not.
    #[must_use]
    pub fn indices(&self, group: GroupId) -> Vec<LogIndex> {
        let all = (group, LogIndex(0))..=(group, LogIndex(u64::MAX));
        self.known().whole.range(all).map(|(_, index)| *index).collect()
    }

    /// The groups that there are snapshots of, checked or not.
    #[must_use]
    pub fn groups(&self) -> BTreeSet<GroupId> {
        self.known().whole.iter().map(|(group, _)| *group).collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The verified chunks of a snapshot, as they were written but for splitting at [`BLOCK_MAX`].
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`], [`Error::Incompatible`], or the device's.
    pub fn chunks(&self, group: GroupId, index: LogIndex) -> Result<SnapshotChunks, Error> {
        let path = self.path(group, index, DONE);
        let file = self.disk.open(&path)?;
        SnapshotChunks::open(file, path, self.cluster, group, index)
    }

    /// Length of a snapshot's file.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the device's.
    pub fn size(&self, group: GroupId, index: LogIndex) -> Result<u64, Error> {
        self.disk.open(&self.path(group, index, DONE))?.size()
    }

    /// Up to `len` raw bytes of a snapshot's file, at most [`BLOCK_MAX`]; fewer at its end.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the device's.
    pub fn read_at(&self, group: GroupId, index: LogIndex, offset: u64, len: usize) -> Result<Bytes, Error> {
        let mut out = vec![0; len.min(BLOCK_MAX)];
        let read = self.disk.open(&self.path(group, index, DONE))?.read_at(offset, &mut out)?;
        out.truncate(read);
        Ok(out.into())
    }

    /// Begins to take a snapshot from a peer. A second one of the same group and index discards the first.
    ///
    /// # Errors
    /// The device's.
    pub fn receive(&self, group: GroupId, index: LogIndex) -> Result<SnapshotReceiver, Error> {
        let temporary = self.path(group, index, RECEIVING);
        let file = self.disk.create(&temporary)?;
        Ok(SnapshotReceiver { store: self.clone(), group, index, file, temporary })
    }

    /// The chunks of a snapshot that is tried out.
    ///
    /// # Errors
    /// As [`SnapshotStore::chunks`].
    pub fn tried(&self, group: GroupId, index: LogIndex) -> Result<SnapshotChunks, Error> {
        let path = self.path(group, index, TRIED);
        let file = self.disk.open(&path)?;
        SnapshotChunks::open(file, path, self.cluster, group, index)
    }

    /// Makes a snapshot that was tried out one like any other, durably.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the device's.
    pub fn adopt(&self, group: GroupId, index: LogIndex) -> Result<(), Error> {
        self.promote(&self.path(group, index, TRIED), group, index)
    }

    /// Removes a snapshot that was tried out and found wanting.
    ///
    /// # Errors
    /// The device's.
    pub fn reject(&self, group: GroupId, index: LogIndex) -> Result<(), Error> {
        match self.disk.remove(&self.path(group, index, TRIED)) {
            Err(Error::NotFound { .. }) => Ok(()),
            removed => removed,
        }
    }

    /// Removes every snapshot of a group that ended.
    ///
    /// # Errors
    /// The device's.
    pub fn remove(&self, group: GroupId) -> Result<(), Error> {
        self.remove_files(group, &self.indices(group))
    }

    /// Removes the snapshots of a group behind `index`, durably, and answers which there were.
    ///
    /// # Errors
    /// The device's.
    pub fn remove_after(&self, group: GroupId, index: LogIndex) -> Result<Vec<LogIndex>, Error> {
        let mut indices = self.indices(group);
        indices.retain(|other| *other > index);
        self.remove_files(group, &indices)?;
        Ok(indices)
    }

    fn remove_files(&self, group: GroupId, indices: &[LogIndex]) -> Result<(), Error> {
        for index in indices {
            self.disk.remove(&self.path(group, *index, DONE))?;
            self.known().whole.remove(&(group, *index));
        }
        if indices.is_empty() { Ok(()) } else { self.sync_folder() }
    }

    fn sync_folder(&self) -> Result<(), Error> {
        let freed = std::mem::take(&mut self.known().freed);
        self.disk.sync_dir(&self.config.dir)?;
        self.known().spares.extend(freed);
        Ok(())
    }

    fn path(&self, group: GroupId, index: LogIndex, suffix: &str) -> String {
        join(&self.config.dir, &file_name(group, index, suffix))
    }

    /// Gives a synced file its name, durably, and lets older ones go.
    fn promote(&self, temporary: &str, group: GroupId, index: LogIndex) -> Result<(), Error> {
        self.disk.rename(temporary, &self.path(group, index, DONE))?;
        self.known().whole.insert((group, index));
        self.sync_folder()?;
        let mut indices = self.indices(group);
        let newer = indices.iter().filter(|other| **other > index).count();
        indices.truncate((indices.len() - newer).saturating_sub(self.config.keep));
        indices.into_iter().try_for_each(|index| self.free(group, index))
    }

    /// Lets one go that nobody needs. It may be there again after a crash.
    fn free(&self, group: GroupId, index: LogIndex) -> Result<(), Error> {
        let path = self.path(group, index, DONE);
        let small = self.size(group, index)? <= SPARE_SIZE_MAX;
        let spare = {
            let mut known = self.known();
            let named = known.spares_named;
            let room = small && known.spares.len() + known.freed.len() < SPARES_MAX;
            room.then(|| {
                known.spares_named += 1;
                join(&self.config.dir, &format!("spare-{named:016x}{WRITING}"))
            })
        };
        match &spare {
            Some(spare) => self.disk.rename(&path, spare)?,
            None => self.disk.remove(&path)?,
        }
        let mut known = self.known();
        known.whole.remove(&(group, index));
        known.freed.extend(spare);
        Ok(())
    }
}

/// So many files wait to be written again,
const SPARES_MAX: usize = 4;
/// of at most so many bytes: making a file is not what a large one costs.
const SPARE_SIZE_MAX: u64 = 1 << 20;

const DONE: &str = ".snap";
const WRITING: &str = ".snap.writing";
const RECEIVING: &str = ".snap.receiving";
const TRIED: &str = ".snap.tried";

/// Blocks are gathered up to this many bytes before they are written.
const BUFFER_MAX: usize = 1 << 20;

/// A snapshot that is being written.
#[derive(Debug)]
pub struct SnapshotWriter {
    store: SnapshotStore,
    group: GroupId,
    index: LogIndex,
    file: Box<dyn DiskFile>,
    temporary: String,
    at: u64,
    buffer: Vec<u8>,
    sealer: Sealer,
}

impl SnapshotWriter {
    /// Adds a chunk.
    ///
    /// # Errors
    /// The device's; the snapshot is then to be begun anew.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), Error> {
        for block in chunk.chunks(BLOCK_MAX) {
            self.sealer.block(&mut self.buffer, block);
            if self.buffer.len() >= BUFFER_MAX {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Ends the snapshot. It is on stable storage under its name when this returns.
    ///
    /// # Errors
    /// The device's; the snapshot is then to be begun anew.
    pub fn finish(mut self) -> Result<(), Error> {
        let ended = self.end();
        if ended.is_err() {
            self.abandon();
        }
        ended
    }

    /// Takes back what was written, as far as the disk lets it.
    pub fn abandon(self) {
        // By its name: what has another name by now is a snapshot.
        let _ = self.store.disk.remove(&self.temporary);
    }

    fn end(&mut self) -> Result<(), Error> {
        self.sealer.trailer(&mut self.buffer);
        self.flush()?;
        // What it was written over may have been longer.
        self.file.set_size(self.at)?;
        self.file.sync_data()?;
        self.store.promote(&self.temporary, self.group, self.index)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.file.write_at(self.at, &self.buffer)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// A snapshot that is coming from a peer.
#[derive(Debug)]
pub struct SnapshotReceiver {
    store: SnapshotStore,
    group: GroupId,
    index: LogIndex,
    file: Box<dyn DiskFile>,
    temporary: String,
}

impl SnapshotReceiver {
    /// Takes raw bytes of the peer's file.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond [`SnapshotConfig::size_max`], or the device's.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let (size, max) = (offset.saturating_add(bytes.len() as u64), self.store.config.size_max);
        if size > max {
            return Err(Error::TooLarge { what: "snapshot", size, max });
        }
        self.file.write_at(offset, bytes)
    }

    /// The first chunk of a file that is whole, before it counts.
    ///
    /// # Errors
    /// As [`SnapshotReceiver::finish`].
    pub fn first_chunk(&self) -> Result<Bytes, Error> {
        let store = &self.store;
        let file = store.disk.open(&self.temporary)?;
        let mut chunks = SnapshotChunks::open(file, self.temporary.clone(), store.cluster, self.group, self.index)?;
        chunks.next().unwrap_or_else(|| Err(Error::corrupt(&self.temporary, 0, "it is empty")))
    }

    /// Checks the whole and makes it a snapshot like any other. What does not check is removed.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Incompatible`] if the peer's bytes are not a sound snapshot of this group at this
    /// index; the device's.
    pub fn finish(self) -> Result<SnapshotMeta, Error> {
        self.end(true)
    }

    /// Checks the whole and keeps it to be tried out.
    ///
    /// # Errors
    /// As [`SnapshotReceiver::finish`].
    pub fn try_out(self) -> Result<SnapshotMeta, Error> {
        self.end(false)
    }

    fn end(self, trusted: bool) -> Result<SnapshotMeta, Error> {
        self.file.sync_data()?;
        let store = self.store;
        let checked = SnapshotChunks::open(self.file, self.temporary.clone(), store.cluster, self.group, self.index)
            .and_then(SnapshotChunks::verify);
        match checked {
            Ok(meta) => {
                if trusted {
                    store.promote(&self.temporary, self.group, self.index)?;
                } else {
                    store.disk.rename(&self.temporary, &store.path(self.group, self.index, TRIED))?;
                }
                Ok(meta)
            }
            Err(error) => {
                store.disk.remove(&self.temporary)?;
                Err(error)
            }
        }
    }
}
