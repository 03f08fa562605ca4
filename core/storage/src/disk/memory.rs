//! A disk in memory that remembers what was synced, and can therefore lose what was not.
//!
//! - upon a write or resize: the file's readers see it at once; it is pending until the file is synced;
//! - upon a creation, rename or removal: `list` and `open` see it at once; it is pending until its folder is synced;
//! - upon [`MemoryDisk::crash`]: each file keeps its synced bytes and some of its pending writes, each folder some of
//!   its pending changes, chosen by [`Crash`] from a seed. Handles and locks from before are dead.
//!
//! The pending writes of a file may survive in any subset and each be torn, at a byte or by sectors: a drive owes no
//! order between two syncs. The changes of one folder survive as a prefix, as journals keep them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::Error;
use crate::disk::{Disk, DiskFile, DiskLock, folders, names_in, parent};

/// What a drive writes at once.
const SECTOR: usize = 512;

/// What a crash leaves of the unsynced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Nothing.
    LoseAll,
    /// Everything: the process died, the machine did not.
    KeepAll,
    /// Of each file a prefix of its pending writes, the last one torn at a byte; of each folder a prefix of its changes.
    Prefix(u64),
    /// Of each file any subset of its pending writes, each whole, torn at a byte, or torn by sectors.
    Subset(u64),
}

/// A disk in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    inode_next: u64,
    names: BTreeMap<String, u64>,
    names_durable: BTreeMap<String, u64>,
    dirs: BTreeSet<String>,
    pending: BTreeMap<String, Vec<DirChange>>,
    locks: BTreeSet<String>,
    /// Grows with each crash; a handle of an earlier life is dead.
    life: u64,
    size_max: Option<u64>,
}

#[derive(Debug, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Clone, Debug)]
enum DirChange {
    Link { path: String, inode: u64 },
    Unlink { path: String },
    Rename { from: String, to: String },
}

impl MemoryDisk {
    /// An empty disk without an end.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bounds the sum of all files' sizes; a write beyond it fails with [`Error::NoSpace`].
    pub fn set_size_max(&self, size_max: Option<u64>) {
        self.state().size_max = size_max;
    }

    /// Cuts the power. What is left is what [`Crash`] says.
    pub fn crash(&self, crash: Crash) {
        let mut state = self.state();
        let mut random = Random(match crash {
            Crash::LoseAll | Crash::KeepAll => 0,
            Crash::Prefix(seed) | Crash::Subset(seed) => seed,
        });
        for (_, changes) in std::mem::take(&mut state.pending) {
            let kept = match crash {
                Crash::LoseAll => 0,
                Crash::KeepAll => changes.len(),
                Crash::Prefix(_) | Crash::Subset(_) => random.below(changes.len() + 1),
            };
            for change in &changes[..kept] {
                change.apply(&mut state.names_durable);
            }
        }
        for inode in state.inodes.values_mut() {
            inode.crash(crash, &mut random);
        }
        state.names = state.names_durable.clone();
        let named: BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|id, _| named.contains(id));
        state.locks.clear();
        state.life += 1;
    }

    /// Flips one bit of a file on the platter: readers see it, synced or not. False if the file is shorter.
    pub fn flip(&self, path: &str, offset: u64, bit: u8) -> bool {
        let mut state = self.state();
        let Some(id) = state.names.get(path).copied() else { return false };
        let inode = state.inodes.get_mut(&id).expect("a name points to a file");
        let Ok(offset) = usize::try_from(offset) else { return false };
        for bytes in [&mut inode.current, &mut inode.durable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= 1 << (bit % 8);
            }
        }
        offset < inode.current.len()
    }

    /// What a kernel does to a file's unsynced pages when a sync fails: readers go on seeing them, and no later sync
    /// writes them.
    pub fn forget_unsynced(&self, path: &str) {
        let mut state = self.state();
        if let Some(inode) = state.names.get(path).copied().and_then(|id| state.inodes.get_mut(&id)) {
            inode.pending.clear();
        }
    }

    /// A copy that shares nothing with this disk: the same bytes, nothing open.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.state();
        let inodes = state
            .inodes
            .iter()
            .map(|(id, inode)| {
                let copy = Inode {
                    current: inode.current.clone(),
                    durable: inode.durable.clone(),
                    pending: inode.pending.clone(),
                };
                (*id, copy)
            })
            .collect();
        let fork = State {
            inodes,
            inode_next: state.inode_next,
            names: state.names.clone(),
            names_durable: state.names_durable.clone(),
            dirs: state.dirs.clone(),
            pending: state.pending.clone(),
            locks: BTreeSet::new(),
            life: 0,
            size_max: state.size_max,
        };
        Self { state: Arc::new(Mutex::new(fork)) }
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn handle(&self, path: &str, inode: u64, life: u64) -> Box<dyn DiskFile> {
        Box::new(MemoryFile { disk: self.clone(), path: path.to_owned(), inode, life })
    }
}

impl State {
    fn used(&self) -> u64 {
        let sum: usize =
            self.names.values().filter_map(|id| self.inodes.get(id)).map(|inode| inode.current.len()).sum();
        sum as u64
    }

    fn change(&mut self, change: DirChange, path: &str) {
        change.apply(&mut self.names);
        self.pending.entry(parent(path).to_owned()).or_default().push(change);
    }

    fn reserve(&self, op: &'static str, path: &str, growth: usize) -> Result<(), Error> {
        match self.size_max {
            Some(max) if growth > 0 && self.used() + growth as u64 > max => {
                Err(Error::NoSpace { op, path: path.to_owned() })
            }
            _ => Ok(()),
        }
    }
}

impl DirChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            DirChange::Link { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            DirChange::Unlink { path } => {
                names.remove(path);
            }
            DirChange::Rename { from, to } => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes: new } => {
                let end = offset + new.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(new);
            }
            Change::Resize(size) => bytes.resize(*size, 0),
        }
    }

    /// The part of a write that a power cut let through.
    fn torn_at_byte(&self, random: &mut Random) -> Change {
        match self {
            Change::Write { offset, bytes } => {
                Change::Write { offset: *offset, bytes: bytes[..random.below(bytes.len() + 1)].to_vec() }
            }
            Change::Resize(size) => Change::Resize(*size),
        }
    }

    fn torn_by_sectors(&self, random: &mut Random, out: &mut Vec<Change>) {
        let Change::Write { offset, bytes } = self else {
            out.push(self.clone());
            return;
        };
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes.len().min(at + SECTOR - (offset + at) % SECTOR);
            if random.below(2) == 0 {
                out.push(Change::Write { offset: offset + at, bytes: bytes[at..end].to_vec() });
            }
            at = end;
        }
    }
}

impl Inode {
    fn crash(&mut self, crash: Crash, random: &mut Random) {
        let pending = std::mem::take(&mut self.pending);
        let mut kept = Vec::new();
        match crash {
            Crash::LoseAll => {}
            Crash::KeepAll => kept = pending,
            Crash::Prefix(_) => {
                let count = random.below(pending.len() + 1);
                kept.extend_from_slice(&pending[..count]);
                kept.extend(pending.get(count).map(|torn| torn.torn_at_byte(random)));
            }
            Crash::Subset(_) => {
                for change in &pending {
                    match random.below(4) {
                        0 => {}
                        1 => kept.push(change.clone()),
                        2 => kept.push(change.torn_at_byte(random)),
                        _ => change.torn_by_sectors(random, &mut kept),
                    }
                }
            }
        }
        for change in &kept {
            change.apply(&mut self.durable);
        }
        self.current.clone_from(&self.durable);
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }
}

impl Disk for MemoryDisk {
    fn create(&self, path: &str) -> Result<Box<dyn DiskFile>, Error> {
        let mut state = self.state();
        let life = state.life;
        if !parent(path).is_empty() && !state.dirs.contains(parent(path)) {
            return Err(Error::NotFound { op: "create", path: path.to_owned() });
        }
        if let Some(id) = state.names.get(path).copied() {
            state.inodes.get_mut(&id).expect("a name points to a file").change(Change::Resize(0));
            return Ok(self.handle(path, id, life));
        }
        let id = state.inode_next;
        state.inode_next += 1;
        state.inodes.insert(id, Inode::default());
        state.change(DirChange::Link { path: path.to_owned(), inode: id }, path);
        Ok(self.handle(path, id, life))
    }

    fn open(&self, path: &str) -> Result<Box<dyn DiskFile>, Error> {
        let state = self.state();
        let id = state.names.get(path).ok_or_else(|| Error::NotFound { op: "open", path: path.to_owned() })?;
        Ok(self.handle(path, *id, state.life))
    }

    fn exists(&self, path: &str) -> Result<bool, Error> {
        Ok(self.state().names.contains_key(path))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        assert_eq!(parent(from), parent(to), "a rename stays in its folder, or one sync_dir would not cover it");
        let mut state = self.state();
        if !state.names.contains_key(from) {
            return Err(Error::NotFound { op: "rename", path: from.to_owned() });
        }
        state.change(DirChange::Rename { from: from.to_owned(), to: to.to_owned() }, from);
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        let mut state = self.state();
        if !state.names.contains_key(path) {
            return Err(Error::NotFound { op: "remove", path: path.to_owned() });
        }
        state.change(DirChange::Unlink { path: path.to_owned() }, path);
        Ok(())
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, Error> {
        let state = self.state();
        if !dir.is_empty() && !state.dirs.contains(dir) {
            return Err(Error::NotFound { op: "list", path: dir.to_owned() });
        }
        Ok(names_in(state.names.keys(), dir))
    }

    fn create_dir(&self, dir: &str) -> Result<(), Error> {
        self.state().dirs.extend(folders(dir));
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> Result<(), Error> {
        let mut state = self.state();
        for change in state.pending.remove(dir).unwrap_or_default() {
            change.apply(&mut state.names_durable);
        }
        Ok(())
    }

    fn free_space(&self) -> Result<u64, Error> {
        let state = self.state();
        Ok(state.size_max.map_or(u64::MAX, |max| max.saturating_sub(state.used())))
    }

    fn lock(&self, path: &str) -> Result<Box<dyn DiskLock>, Error> {
        let mut state = self.state();
        if !state.locks.insert(path.to_owned()) {
            return Err(Error::InUse { path: path.to_owned() });
        }
        Ok(Box::new(MemoryLock { disk: self.clone(), path: path.to_owned(), life: state.life }))
    }
}

#[derive(Debug)]
struct MemoryLock {
    disk: MemoryDisk,
    path: String,
    life: u64,
}

impl DiskLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    path: String,
    inode: u64,
    life: u64,
}

impl MemoryFile {
    fn with<T>(
        &self,
        op: &'static str,
        run: impl FnOnce(&mut State, &str, u64) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut state = self.disk.state();
        if state.life != self.life {
            return Err(Error::Io { op, path: self.path.clone(), reason: "the machine lost power".to_owned() });
        }
        run(&mut state, &self.path, self.inode)
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("a file in memory is addressable")
}

impl DiskFile for MemoryFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize, Error> {
        self.with("read", |state, _, inode| {
            let bytes = &state.inodes[&inode].current;
            let start = place(offset).min(bytes.len());
            let len = out.len().min(bytes.len() - start);
            out[..len].copy_from_slice(&bytes[start..start + len]);
            Ok(len)
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.with("write", |state, path, inode| {
            let end = place(offset) + bytes.len();
            state.reserve("write", path, end.saturating_sub(state.inodes[&inode].current.len()))?;
            let inode = state.inodes.get_mut(&inode).expect("files outlive their handles within a life");
            inode.change(Change::Write { offset: place(offset), bytes: bytes.to_vec() });
            Ok(())
        })
    }

    fn size(&self) -> Result<u64, Error> {
        self.with("read the size of", |state, _, inode| Ok(state.inodes[&inode].current.len() as u64))
    }

    fn set_size(&self, size: u64) -> Result<(), Error> {
        self.with("resize", |state, path, inode| {
            state.reserve("resize", path, place(size).saturating_sub(state.inodes[&inode].current.len()))?;
            let inode = state.inodes.get_mut(&inode).expect("files outlive their handles within a life");
            inode.change(Change::Resize(place(size)));
            Ok(())
        })
    }

    fn sync_data(&self) -> Result<(), Error> {
        self.with("sync", |state, _, inode| {
            let inode = state.inodes.get_mut(&inode).expect("files outlive their handles within a life");
            for change in std::mem::take(&mut inode.pending) {
                change.apply(&mut inode.durable);
            }
            Ok(())
        })
    }
}

/// SplitMix64: enough to choose what a crash leaves.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let product = u128::from(z ^ (z >> 31)) * bound as u128;
        usize::try_from(product >> 64).expect("the product's upper half is below the bound")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(disk: &MemoryDisk, path: &str) -> Option<Vec<u8>> {
        disk.open(path).ok().map(|file| crate::disk::read_all(&*file, 1 << 20).unwrap())
    }

    #[test]
    fn what_was_not_synced_is_lost() {
        let disk = MemoryDisk::new();
        let file = disk.create("a").unwrap();
        disk.sync_dir("").unwrap();
        file.write_at(0, b"kept").unwrap();
        file.sync_data().unwrap();
        file.write_at(4, b" lost").unwrap();
        disk.create("unnamed").unwrap().sync_data().unwrap();
        disk.crash(Crash::LoseAll);
        assert_eq!(bytes(&disk, "a").unwrap(), b"kept");
        assert!(bytes(&disk, "unnamed").is_none(), "its name was not synced");
        assert!(file.size().is_err(), "a handle dies with the machine");
    }

    #[test]
    fn a_crash_tears_at_every_byte_for_some_seed() {
        let mut seen = BTreeSet::new();
        for seed in 0..400 {
            let disk = MemoryDisk::new();
            let file = disk.create("a").unwrap();
            disk.sync_dir("").unwrap();
            file.write_at(0, b"12345").unwrap();
            disk.crash(Crash::Prefix(seed));
            seen.insert(bytes(&disk, "a").unwrap().len());
        }
        assert_eq!(seen, (0..=5).collect());
    }

    #[test]
    fn later_writes_may_survive_earlier_ones() {
        let survives = |seed| {
            let disk = MemoryDisk::new();
            let file = disk.create("a").unwrap();
            file.write_at(0, b"__").unwrap();
            file.sync_data().unwrap();
            disk.sync_dir("").unwrap();
            file.write_at(0, b"1").unwrap();
            file.write_at(1, b"2").unwrap();
            disk.crash(Crash::Subset(seed));
            bytes(&disk, "a").unwrap() == b"_2"
        };
        assert!((0..100).any(survives));
    }

    #[test]
    fn renames_survive_only_with_their_folder() {
        for (synced, name) in [(false, "a"), (true, "b")] {
            let disk = MemoryDisk::new();
            disk.create("a").unwrap();
            disk.sync_dir("").unwrap();
            disk.rename("a", "b").unwrap();
            if synced {
                disk.sync_dir("").unwrap();
            }
            disk.crash(Crash::LoseAll);
            assert_eq!(disk.list("").unwrap(), [name]);
        }
    }

    #[test]
    fn locks_exclude_and_space_ends() {
        let disk = MemoryDisk::new();
        let held = disk.lock("lock").unwrap();
        assert!(matches!(disk.lock("lock"), Err(Error::InUse { .. })));
        drop(held);
        let _held = disk.lock("lock").unwrap();
        disk.set_size_max(Some(8));
        let file = disk.create("a").unwrap();
        file.write_at(0, b"12345678").unwrap();
        assert!(matches!(file.write_at(8, b"9"), Err(Error::NoSpace { .. })));
        assert_eq!(disk.free_space().unwrap(), 0);
    }
}
