//! A disk in memory for a cluster that keeps nothing: it outlives its nodes, not its process.
//!
//! A node that is ended and begun again finds all that it wrote, as after the end of a process on a machine that goes on;
//! syncing does nothing. A file is a row of blocks: it grows without being copied, and zeros that were never followed by
//! anything else take no memory, since a log is laid out in them before it is written.
//!
//! Deliberately absent: loss and damage, which [`crate::MemoryDisk`] has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::Error;
use crate::disk::{Disk, DiskFile, DiskLock, folders, names_in, parent};

/// Bytes of a block.
const BLOCK: usize = 64 << 10;

/// A disk whose files end with the process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct RamDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, Arc<RwLock<Body>>>,
    dirs: BTreeSet<String>,
    locks: BTreeSet<String>,
}

/// A file's bytes.
#[derive(Debug, Default)]
struct Body {
    /// Each begins with what was written to it; behind that, up to [`BLOCK`], there are zeros.
    blocks: Vec<Vec<u8>>,
    size: u64,
}

/// A place in a file: which block, and where in it.
fn place(offset: u64) -> (usize, usize) {
    let offset = usize::try_from(offset).expect("a file in memory is addressable");
    (offset / BLOCK, offset % BLOCK)
}

fn is_zero(bytes: &[u8]) -> bool {
    // By whole lines, or the compiler looks at one byte at a time.
    bytes.chunks(256).all(|line| line.iter().fold(0, |seen, byte| seen | byte) == 0)
}

impl Body {
    fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = out.len().min(left);
        let (mut at, mut done) = (offset, 0);
        while done < length {
            let (block, from) = place(at);
            let part = &mut out[done..length.min(done + BLOCK - from)];
            let held = self.blocks.get(block).map_or(&[][..], |block| &block[from.min(block.len())..]);
            let copied = held.len().min(part.len());
            part[..copied].copy_from_slice(&held[..copied]);
            part[copied..].fill(0);
            (at, done) = (at + part.len() as u64, done + part.len());
        }
        length
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (block, from) = place(at);
            let (part, behind) = rest.split_at(rest.len().min(BLOCK - from));
            self.put(block, from, part);
            (at, rest) = (at + part.len() as u64, behind);
        }
        self.size = self.size.max(at);
    }

    /// Writes within a block.
    fn put(&mut self, block: usize, from: usize, part: &[u8]) {
        let held = self.blocks.get(block).map_or(0, Vec::len);
        let beyond = &part[held.saturating_sub(from).min(part.len())..];
        let part = if is_zero(beyond) { &part[..part.len() - beyond.len()] } else { part };
        if part.is_empty() {
            return;
        }
        if self.blocks.len() <= block {
            self.blocks.resize_with(block + 1, Vec::new);
        }
        let block = &mut self.blocks[block];
        if block.capacity() == 0 && from + part.len() > BLOCK / 16 {
            block.reserve_exact(BLOCK);
        }
        if block.len() < from {
            block.resize(from, 0);
        }
        let over = part.len().min(block.len() - from);
        block[from..from + over].copy_from_slice(&part[..over]);
        block.extend_from_slice(&part[over..]);
    }

    fn resize(&mut self, size: u64) {
        if size < self.size {
            let (block, from) = place(size);
            self.blocks.truncate(block + 1);
            if let Some(last) = self.blocks.get_mut(block) {
                last.truncate(from);
            }
        }
        self.size = size;
    }
}

impl RamDisk {
    /// An empty disk, as large as memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, op: &'static str, path: &str) -> Result<Arc<RwLock<Body>>, Error> {
        self.names.get(path).cloned().ok_or_else(|| Error::NotFound { op, path: path.to_owned() })
    }

    fn has_folder(&self, op: &'static str, dir: &str) -> Result<(), Error> {
        let known = dir.is_empty() || self.dirs.contains(dir);
        if known { Ok(()) } else { Err(Error::NotFound { op, path: dir.to_owned() }) }
    }
}

impl Disk for RamDisk {
    fn create(&self, path: &str) -> Result<Box<dyn DiskFile>, Error> {
        let mut state = self.state();
        state.has_folder("create", parent(path))?;
        let body = Arc::clone(state.names.entry(path.to_owned()).or_default());
        drop(state);
        let file = RamFile(body);
        file.set_size(0)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &str) -> Result<Box<dyn DiskFile>, Error> {
        Ok(Box::new(RamFile(self.state().find("open", path)?)))
    }

    fn exists(&self, path: &str) -> Result<bool, Error> {
        Ok(self.state().names.contains_key(path))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        assert_eq!(parent(from), parent(to), "a rename stays in its folder, or one sync_dir would not cover it");
        let mut state = self.state();
        let body = state.find("rename", from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), body);
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        let mut state = self.state();
        state.find("remove", path)?;
        state.names.remove(path);
        Ok(())
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, Error> {
        let state = self.state();
        state.has_folder("list", dir)?;
        Ok(names_in(state.names.keys(), dir))
    }

    fn create_dir(&self, dir: &str) -> Result<(), Error> {
        self.state().dirs.extend(folders(dir));
        Ok(())
    }

    fn sync_dir(&self, _dir: &str) -> Result<(), Error> {
        Ok(())
    }

    fn free_space(&self) -> Result<u64, Error> {
        Ok(u64::MAX)
    }

    fn lock(&self, path: &str) -> Result<Box<dyn DiskLock>, Error> {
        if !self.state().locks.insert(path.to_owned()) {
            return Err(Error::InUse { path: path.to_owned() });
        }
        Ok(Box::new(RamLock { disk: self.clone(), path: path.to_owned() }))
    }
}

#[derive(Debug)]
struct RamLock {
    disk: RamDisk,
    path: String,
}

impl DiskLock for RamLock {}

impl Drop for RamLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct RamFile(Arc<RwLock<Body>>);

impl RamFile {
    fn change<T>(&self, change: impl FnOnce(&mut Body) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn look<T>(&self, look: impl FnOnce(&Body) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl DiskFile for RamFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize, Error> {
        Ok(self.look(|body| body.read(offset, out)))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.change(|body| body.write(offset, bytes));
        Ok(())
    }

    fn size(&self) -> Result<u64, Error> {
        Ok(self.look(|body| body.size))
    }

    fn set_size(&self, size: u64) -> Result<(), Error> {
        self.change(|body| body.resize(size));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::steps::{contents, step, take};
    use crate::disk::{Crash, MemoryDisk, write_zeros};

    #[test]
    fn zeros_take_no_memory_until_something_follows_them() {
        let disk = RamDisk::new();
        let file = RamFile(Arc::default());
        write_zeros(&file, 0, 10 << 20).unwrap();
        assert_eq!(file.size().unwrap(), 10 << 20);
        assert_eq!(file.look(|body| body.blocks.len()), 0);
        file.write_at(BLOCK as u64 - 1, b"ab").unwrap();
        let mut out = [7; 4];
        assert_eq!(file.read_at(BLOCK as u64 - 2, &mut out).unwrap(), 4);
        assert_eq!(out, [0, b'a', b'b', 0]);
        file.set_size(BLOCK as u64).unwrap();
        file.set_size(2 * BLOCK as u64).unwrap();
        file.read_at(BLOCK as u64 - 2, &mut out).unwrap();
        assert_eq!(out, [0, b'a', 0, 0], "what was cut off does not come back");
        assert!(matches!(disk.create("nowhere/a"), Err(Error::NotFound { .. })));
    }

    #[test]
    fn a_lock_is_held_once() {
        let disk = RamDisk::new();
        let held = disk.lock("lock").unwrap();
        assert!(matches!(disk.clone().lock("lock"), Err(Error::InUse { .. })));
        drop(held);
        disk.lock("lock").unwrap();
    }

    proptest! {
        /// It shows what the simulator's disk shows, whatever nodes come and go.
        #[test]
        fn it_is_a_disk(lives in prop::collection::vec(prop::collection::vec(step(), 0..40), 1..4)) {
            let (disk, truth) = (RamDisk::new(), MemoryDisk::new());
            disk.create_dir("d").unwrap();
            truth.create_dir("d").unwrap();
            for steps in &lives {
                for step in steps {
                    prop_assert_eq!(take(&disk, step), take(&truth, step), "{:?}", step);
                    prop_assert_eq!(contents(&disk), contents(&truth));
                }
                truth.crash(Crash::KeepAll);
            }
        }
    }
}
