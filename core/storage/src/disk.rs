//! The one way to a disk.
//!
//! Paths are relative to the disk's root, with `/` between their parts. A write reaches stable storage by
//! [`DiskFile::sync_data`]; a creation, rename or removal by [`Disk::sync_dir`] of its folder. Nothing else does.
//!
//! Deliberately absent: append and seek. Writers keep their own offset, so that a handle has no state to disagree about.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use verity_contract::{FileBytes, FileRange};

use crate::Error;

mod faulty;
mod memory;
mod ram;
mod real;
#[cfg(test)]
mod steps;
mod volatile;

pub use faulty::{FaultCounts, Faults, FaultyDisk};
pub use memory::{Crash, MemoryDisk};
pub use ram::RamDisk;
pub use real::RealDisk;
pub use volatile::{IMAGE_SIZE_MAX, VolatileDisk};

/// How many zeros are written at once when a file is preallocated.
pub(crate) const ZERO_CHUNK: usize = 256 << 10;

/// A folder tree on which files live.
pub trait Disk: Debug + Send + Sync {
    /// Creates an empty file, or empties the one that is there.
    ///
    /// # Errors
    /// The device's.
    fn create(&self, path: &str) -> Result<Box<dyn DiskFile>, Error>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the device's.
    fn open(&self, path: &str) -> Result<Box<dyn DiskFile>, Error>;

    /// True if there is a file of this name.
    ///
    /// # Errors
    /// The device's.
    fn exists(&self, path: &str) -> Result<bool, Error>;

    /// Gives a file another name in the same folder, replacing what has that name.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the device's.
    fn rename(&self, from: &str, to: &str) -> Result<(), Error>;

    /// Removes a file.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the device's.
    fn remove(&self, path: &str) -> Result<(), Error>;

    /// The names (not paths) of the files in a folder, sorted.
    ///
    /// # Errors
    /// The device's.
    fn list(&self, dir: &str) -> Result<Vec<String>, Error>;

    /// Creates a folder with its parents, durably, if it is not there.
    ///
    /// # Errors
    /// The device's.
    fn create_dir(&self, dir: &str) -> Result<(), Error>;

    /// Brings the names in a folder to stable storage.
    ///
    /// # Errors
    /// The device's.
    fn sync_dir(&self, dir: &str) -> Result<(), Error>;

    /// Bytes that may still be written.
    ///
    /// # Errors
    /// The device's.
    fn free_space(&self) -> Result<u64, Error>;

    /// Takes a lock that no other holder can have until it is dropped or its process ends.
    ///
    /// # Errors
    /// [`Error::InUse`], or the device's.
    fn lock(&self, path: &str) -> Result<Box<dyn DiskLock>, Error>;
}

/// Held while a lock is held.
pub trait DiskLock: Debug + Send + Sync {}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads up to `out.len()` bytes at `offset`; fewer only at the end of the file. Answers how many.
    ///
    /// # Errors
    /// The device's.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize, Error>;

    /// Writes all of `bytes` at `offset`, growing the file with zeros if it is shorter.
    ///
    /// # Errors
    /// The device's; part of the bytes may then be written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// The device's.
    fn size(&self) -> Result<u64, Error>;

    /// Cuts or grows (with zeros) the file to `size` bytes.
    ///
    /// # Errors
    /// The device's.
    fn set_size(&self, size: u64) -> Result<(), Error>;

    /// Brings everything written so far to stable storage.
    ///
    /// # Errors
    /// The device's. The file's unsynced bytes are then lost for good: a second sync proves nothing.
    fn sync_data(&self) -> Result<(), Error>;

    /// The operating system's handle, if the file is one of its own.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A part of an open file that nobody will write to, to be handed on.
#[must_use]
pub fn file_range(file: &Arc<dyn DiskFile>, position: u64, length: usize) -> FileRange {
    FileRange::new(Arc::new(ForReading(Arc::clone(file))), position, length)
}

#[derive(Debug)]
struct ForReading(Arc<dyn DiskFile>);

impl FileBytes for ForReading {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize, String> {
        self.0.read_at(offset, out).map_err(|error| error.to_string())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.descriptor()
    }
}

/// Writes zeros over `[from, to)`.
///
/// Zeros are written rather than space reserved (`fallocate`): the first write into a reserved extent changes the file
/// system's metadata, so that each sync behind it would pay for a journal commit as well.
pub(crate) fn write_zeros(file: &dyn DiskFile, from: u64, to: u64) -> Result<(), Error> {
    let zeros = vec![0; ZERO_CHUNK.min(usize::try_from(to.saturating_sub(from)).unwrap_or(ZERO_CHUNK))];
    let mut at = from;
    while at < to {
        let len = usize::try_from(to - at).unwrap_or(ZERO_CHUNK).min(ZERO_CHUNK);
        file.write_at(at, &zeros[..len])?;
        at += len as u64;
    }
    Ok(())
}

/// Reads a whole file of at most `size_max` bytes.
///
/// # Errors
/// [`Error::TooLarge`], or the device's.
pub fn read_all(file: &dyn DiskFile, size_max: u64) -> Result<Vec<u8>, Error> {
    let size = file.size()?;
    if size > size_max {
        return Err(Error::TooLarge { what: "file", size, max: size_max });
    }
    let mut out = vec![0; usize::try_from(size).expect("the bound fits memory")];
    let mut filled = 0;
    while filled < out.len() {
        match file.read_at(filled as u64, &mut out[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    out.truncate(filled);
    Ok(out)
}

/// Writes a small file so that a crash leaves either the old bytes or the new ones.
///
/// # Errors
/// The device's.
pub fn replace(disk: &dyn Disk, dir: &str, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let (path, temporary) = (join(dir, name), join(dir, &format!("{name}.tmp")));
    let file = disk.create(&temporary)?;
    file.write_at(0, bytes)?;
    file.sync_data()?;
    disk.rename(&temporary, &path)?;
    disk.sync_dir(dir)
}

/// The folder of the files that a group's state machine keeps for itself.
#[must_use]
pub fn group_folder(group: verity_types::GroupId) -> String {
    format!("groups/{:016x}", group.0)
}

/// `dir/name`, or `name` at the root.
pub(crate) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// A folder and all above it, but for the root.
pub(crate) fn folders(dir: &str) -> impl Iterator<Item = String> {
    let ends = dir.match_indices('/').map(|(end, _)| end).chain([dir.len()]);
    ends.map(|end| dir[..end].to_owned())
}

/// The names of those files that lie in a folder, in the order of their paths.
pub(crate) fn names_in<'a>(paths: impl Iterator<Item = &'a String>, dir: &str) -> Vec<String> {
    let inside = paths.filter(|path| parent(path) == dir);
    inside.map(|path| path.rsplit('/').next().unwrap_or(path).to_owned()).collect()
}

/// The folder of a path; empty for the root.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}
