//! A disk for the lab, whose unsynced bytes die with the process.
//!
//! A killed process loses nothing of a real disk: what it wrote lies in the kernel's cache. Only a power cut loses that.
//! On this disk a kill is a power cut: it stands before another disk and keeps to itself what was not synced.
//!
//! - upon a write or resize: readers see it at once; the disk behind sees it when the file is synced;
//! - upon a creation, rename or removal: `list` and `open` see it at once; the disk behind sees it, in order, when the
//!   folder is synced. A file whose name was never synced is not there at all;
//! - upon the end of the process: what the disk behind has seen is what is left.
//!
//! [`VolatileDisk::forgetful`] is the mutant that a durability test must catch: every sync succeeds and does nothing.
//!
//! Each open file is held in memory as a whole, up to [`IMAGE_SIZE_MAX`]. Deliberately absent: torn writes, which
//! [`crate::MemoryDisk`] and the simulator have. A kill in the middle of a sync leaves a part of it here as well.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::Error;
use crate::disk::{Disk, DiskFile, DiskLock, parent, read_all};

/// No file is longer: 1 GiB.
pub const IMAGE_SIZE_MAX: u64 = 1 << 30;

/// Ends the name under which a new file is written before it gets its own.
const UNNAMED: &str = ".unsynced";

/// A disk that keeps what was not synced in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct VolatileDisk {
    behind: Arc<dyn Disk>,
    forgets: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Files that this disk knows better than the one behind; `None` if they are gone.
    names: BTreeMap<String, Option<Inode>>,
    /// By folder, in order.
    pending: BTreeMap<String, Vec<DirChange>>,
}

#[derive(Clone, Debug)]
struct Inode(Arc<Mutex<Body>>);

#[derive(Debug)]
struct Body {
    /// What readers see.
    image: Vec<u8>,
    unsynced: Vec<Change>,
    synced: Synced,
    /// True if something was forgotten: the disk behind has other bytes.
    forgot: bool,
}

/// Where a file's synced bytes are.
#[derive(Debug)]
enum Synced {
    /// On the disk behind.
    Behind(Box<dyn DiskFile>),
    /// Nowhere that survives, until the folder is synced and the file thereby has a name.
    Unnamed(Vec<u8>),
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Clone, Debug)]
enum DirChange {
    Link { path: String, inode: Inode },
    Unlink { path: String },
    Rename { from: String, to: String },
}

impl VolatileDisk {
    /// A disk that brings to the one behind what is synced, and nothing else.
    #[must_use]
    pub fn new(behind: Arc<dyn Disk>) -> Self {
        Self { behind, forgets: false, state: Arc::default() }
    }

    /// A disk whose syncs succeed and do nothing.
    #[must_use]
    pub fn forgetful(behind: Arc<dyn Disk>) -> Self {
        Self { forgets: true, ..Self::new(behind) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn handle(&self, path: &str, inode: &Inode) -> Box<dyn DiskFile> {
        Box::new(VolatileFile { inode: inode.clone(), path: path.to_owned(), forgets: self.forgets })
    }

    /// The file of this name, read from the disk behind if need be.
    fn find(&self, state: &mut State, op: &'static str, path: &str) -> Result<Inode, Error> {
        match state.names.get(path) {
            Some(Some(inode)) => return Ok(inode.clone()),
            Some(None) => return Err(Error::NotFound { op, path: path.to_owned() }),
            None => {}
        }
        let file = self.behind.open(path)?;
        let image = read_all(&*file, IMAGE_SIZE_MAX)?;
        let body = Body { image, unsynced: Vec::new(), synced: Synced::Behind(file), forgot: false };
        let inode = Inode(Arc::new(Mutex::new(body)));
        state.forget_idle();
        state.names.insert(path.to_owned(), Some(inode.clone()));
        Ok(inode)
    }

    /// Writes a new file under another name first, so that it appears as a whole.
    fn name(&self, path: &str, inode: &Inode) -> Result<(), Error> {
        let mut body = inode.body();
        let Synced::Unnamed(bytes) = &body.synced else { unreachable!("a file is created once") };
        let unnamed = format!("{path}{UNNAMED}");
        let file = self.behind.create(&unnamed)?;
        file.write_at(0, bytes)?;
        file.sync_data()?;
        self.behind.rename(&unnamed, path)?;
        body.synced = Synced::Behind(file);
        Ok(())
    }
}

impl State {
    fn change(&mut self, change: DirChange, path: &str) {
        self.pending.entry(parent(path).to_owned()).or_default().push(change);
    }

    /// Lets go of files that nobody has open and that the disk behind knows as well.
    fn forget_idle(&mut self) {
        let pending = &self.pending;
        self.names.retain(|path, inode| match inode {
            Some(inode) => {
                Arc::strong_count(&inode.0) > 1 || !inode.body().is_clean() || pending.contains_key(parent(path))
            }
            None => true,
        });
    }
}

impl Inode {
    fn body(&self) -> MutexGuard<'_, Body> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Body {
    fn is_clean(&self) -> bool {
        self.unsynced.is_empty() && !self.forgot && matches!(self.synced, Synced::Behind(_))
    }

    fn change(&mut self, change: Change, forgets: bool) {
        change.apply(&mut self.image);
        if forgets {
            self.forgot = true;
        } else {
            self.unsynced.push(change);
        }
    }

    fn sync(&mut self) -> Result<(), Error> {
        let changes = std::mem::take(&mut self.unsynced);
        match &mut self.synced {
            Synced::Unnamed(bytes) => changes.iter().for_each(|change| change.apply(bytes)),
            Synced::Behind(file) => {
                for change in &changes {
                    match change {
                        Change::Write { offset, bytes } => file.write_at(*offset as u64, bytes)?,
                        Change::Resize(size) => file.set_size(*size as u64)?,
                    }
                }
                file.sync_data()?;
            }
        }
        Ok(())
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
}

impl Disk for VolatileDisk {
    fn create(&self, path: &str) -> Result<Box<dyn DiskFile>, Error> {
        let mut state = self.state();
        match self.find(&mut state, "create", path) {
            Ok(inode) => {
                inode.body().change(Change::Resize(0), self.forgets);
                return Ok(self.handle(path, &inode));
            }
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        // A folder that is not there is found out now, not at the sync.
        self.behind.list(parent(path))?;
        let body = Body { image: Vec::new(), unsynced: Vec::new(), synced: Synced::Unnamed(Vec::new()), forgot: false };
        let inode = Inode(Arc::new(Mutex::new(body)));
        state.names.insert(path.to_owned(), Some(inode.clone()));
        state.change(DirChange::Link { path: path.to_owned(), inode: inode.clone() }, path);
        Ok(self.handle(path, &inode))
    }

    fn open(&self, path: &str) -> Result<Box<dyn DiskFile>, Error> {
        let inode = self.find(&mut self.state(), "open", path)?;
        Ok(self.handle(path, &inode))
    }

    fn exists(&self, path: &str) -> Result<bool, Error> {
        match self.state().names.get(path) {
            Some(inode) => Ok(inode.is_some()),
            None => self.behind.exists(path),
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        assert_eq!(parent(from), parent(to), "a rename stays in its folder, or one sync_dir would not cover it");
        let mut state = self.state();
        let inode = self.find(&mut state, "rename", from)?;
        state.names.insert(from.to_owned(), None);
        state.names.insert(to.to_owned(), Some(inode));
        state.change(DirChange::Rename { from: from.to_owned(), to: to.to_owned() }, from);
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        let mut state = self.state();
        self.find(&mut state, "remove", path)?;
        state.names.insert(path.to_owned(), None);
        state.change(DirChange::Unlink { path: path.to_owned() }, path);
        Ok(())
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, Error> {
        let state = self.state();
        let mut names = self.behind.list(dir)?;
        names.retain(|name| !name.ends_with(UNNAMED));
        for (path, inode) in state.names.iter().filter(|(path, _)| parent(path) == dir) {
            let name = path.rsplit('/').next().unwrap_or(path);
            names.retain(|known| known != name);
            names.extend(inode.is_some().then(|| name.to_owned()));
        }
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &str) -> Result<(), Error> {
        self.behind.create_dir(dir)
    }

    fn sync_dir(&self, dir: &str) -> Result<(), Error> {
        if self.forgets {
            return Ok(());
        }
        let mut state = self.state();
        for change in state.pending.remove(dir).unwrap_or_default() {
            match change {
                DirChange::Link { path, inode } => self.name(&path, &inode)?,
                DirChange::Unlink { path } => self.behind.remove(&path)?,
                DirChange::Rename { from, to } => self.behind.rename(&from, &to)?,
            }
        }
        state.names.retain(|path, inode| inode.is_some() || parent(path) != dir);
        self.behind.sync_dir(dir)
    }

    fn free_space(&self) -> Result<u64, Error> {
        self.behind.free_space()
    }

    fn lock(&self, path: &str) -> Result<Box<dyn DiskLock>, Error> {
        self.behind.lock(path)
    }
}

#[derive(Debug)]
struct VolatileFile {
    inode: Inode,
    path: String,
    forgets: bool,
}

impl VolatileFile {
    /// A place in the image.
    fn place(&self, op: &'static str, place: u64) -> Result<usize, Error> {
        match usize::try_from(place) {
            Ok(fits) if place <= IMAGE_SIZE_MAX => Ok(fits),
            _ => Err(Error::NoSpace { op, path: self.path.clone() }),
        }
    }
}

impl DiskFile for VolatileFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize, Error> {
        let body = self.inode.body();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(body.image.len());
        let len = out.len().min(body.image.len() - start);
        out[..len].copy_from_slice(&body.image[start..start + len]);
        Ok(len)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.place("write", offset.saturating_add(bytes.len() as u64))?;
        let offset = self.place("write", offset)?;
        self.inode.body().change(Change::Write { offset, bytes: bytes.to_vec() }, self.forgets);
        Ok(())
    }

    fn size(&self) -> Result<u64, Error> {
        Ok(self.inode.body().image.len() as u64)
    }

    fn set_size(&self, size: u64) -> Result<(), Error> {
        let size = self.place("resize", size)?;
        self.inode.body().change(Change::Resize(size), self.forgets);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), Error> {
        if self.forgets { Ok(()) } else { self.inode.body().sync() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::steps::{bytes, contents, step, take};
    use crate::disk::{Crash, MemoryDisk, RealDisk};

    #[test]
    fn a_kill_takes_what_was_not_synced() {
        let folder = tempfile::tempdir().unwrap();
        let real: Arc<dyn Disk> = Arc::new(RealDisk::new(folder.path()).unwrap());
        let disk = VolatileDisk::new(Arc::clone(&real));
        disk.create_dir("d").unwrap();
        let file = disk.create("d/a").unwrap();
        file.write_at(0, b"kept").unwrap();
        file.sync_data().unwrap();
        assert!(real.list("d").unwrap().is_empty(), "the name was not synced");
        disk.sync_dir("d").unwrap();
        file.write_at(4, b" lost").unwrap();
        disk.create("d/unnamed").unwrap().sync_data().unwrap();
        assert_eq!(bytes(&disk, "d/a").unwrap(), b"kept lost", "the living see everything");
        assert_eq!(disk.list("d").unwrap(), ["a", "unnamed"]);
        let next = VolatileDisk::new(real);
        assert_eq!(bytes(&next, "d/a").unwrap(), b"kept");
        assert_eq!(next.list("d").unwrap(), ["a"]);
    }

    #[test]
    fn a_forgetful_disk_keeps_nothing_and_says_nothing() {
        let behind = Arc::new(MemoryDisk::new());
        let disk = VolatileDisk::forgetful(Arc::<MemoryDisk>::clone(&behind));
        disk.create_dir("d").unwrap();
        let file = disk.create("d/a").unwrap();
        file.write_at(0, b"gone").unwrap();
        file.sync_data().unwrap();
        disk.sync_dir("d").unwrap();
        disk.rename("d/a", "d/b").unwrap();
        disk.sync_dir("d").unwrap();
        assert_eq!(bytes(&disk, "d/b").unwrap(), b"gone");
        drop(file);
        assert_eq!(bytes(&disk, "d/b").unwrap(), b"gone", "a closed file is not forgotten before the kill");
        assert!(behind.list("d").unwrap().is_empty());
    }

    #[test]
    fn a_folder_that_is_not_there_takes_no_file() {
        let disk = VolatileDisk::new(Arc::new(MemoryDisk::new()));
        assert!(matches!(disk.create("nowhere/a"), Err(Error::NotFound { .. })));
        let file = disk.create("a").unwrap();
        assert!(matches!(file.write_at(IMAGE_SIZE_MAX, b"x"), Err(Error::NoSpace { .. })));
    }

    proptest! {
        /// The memory disk says what a power cut leaves; this disk leaves the same behind it, several lives in a row.
        #[test]
        fn a_kill_is_a_power_cut(lives in prop::collection::vec(prop::collection::vec(step(), 0..40), 1..4)) {
            let (behind, truth) = (Arc::new(MemoryDisk::new()), MemoryDisk::new());
            truth.create_dir("d").unwrap();
            for steps in &lives {
                let disk = VolatileDisk::new(Arc::<MemoryDisk>::clone(&behind));
                disk.create_dir("d").unwrap();
                for step in steps {
                    prop_assert_eq!(take(&disk, step), take(&truth, step), "{:?}", step);
                    prop_assert_eq!(contents(&disk), contents(&truth));
                }
                truth.crash(Crash::LoseAll);
            }
            prop_assert_eq!(contents(&VolatileDisk::new(behind)), contents(&truth));
        }
    }
}
