//! A disk of this machine: a folder and the files in it. The only module that touches the file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::disk::{Disk, DiskFile, DiskLock, parent};

/// A folder on this machine.
///
/// `sync_data` is `fdatasync`, or `F_FULLFSYNC` on macOS, where a plain sync stops at the drive's cache.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// Uses the folder `root`, creating it if it is not there.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::NoSpace`] or [`Error::Io`].
    pub fn new(root: impl AsRef<Path>) -> Result<Self, Error> {
        let root = root.as_ref().to_owned();
        if root.is_dir() {
            return Ok(Self { root });
        }
        fs::create_dir_all(&root).map_err(|error| classify("create folder", &root, &error))?;
        if let Some(above) = root.parent() {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            File::open(above).and_then(|dir| dir.sync_all()).map_err(|error| classify("sync folder", above, &error))?;
        }
        Ok(Self { root })
    }

    fn path(&self, path: &str) -> PathBuf {
        assert!(
            path.split('/').all(|part| path.is_empty() || !matches!(part, "" | "." | "..")),
            "a path inside the data folder was built wrongly: {path:?}"
        );
        self.root.join(path)
    }

    fn open_with(&self, op: &'static str, path: &str, options: &OpenOptions) -> Result<Box<dyn DiskFile>, Error> {
        let path = self.path(path);
        let file = options.open(&path).map_err(|error| classify(op, &path, &error))?;
        Ok(Box::new(RealFile { file, path }))
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &str) -> Result<Box<dyn DiskFile>, Error> {
        self.open_with("create", path, OpenOptions::new().read(true).write(true).create(true).truncate(true))
    }

    fn open(&self, path: &str) -> Result<Box<dyn DiskFile>, Error> {
        self.open_with("open", path, OpenOptions::new().read(true).write(true))
    }

    fn exists(&self, path: &str) -> Result<bool, Error> {
        let path = self.path(path);
        path.try_exists().map_err(|error| classify("look up", &path, &error))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        assert_eq!(parent(from), parent(to), "a rename stays in its folder, or one sync_dir would not cover it");
        let (from, to) = (self.path(from), self.path(to));
        fs::rename(&from, &to).map_err(|error| classify("rename", &from, &error))
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        let path = self.path(path);
        fs::remove_file(&path).map_err(|error| classify("remove", &path, &error))
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, Error> {
        let dir = self.path(dir);
        let failed = |error: io::Error| classify("list", &dir, &error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().map_err(failed)?.is_file() {
                // A name that is not text was not written by this program.
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &str) -> Result<(), Error> {
        let path = self.path(dir);
        if path.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&path).map_err(|error| classify("create folder", &path, &error))?;
        let mut above = dir;
        while !above.is_empty() {
            above = parent(above);
            self.sync_dir(above)?;
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> Result<(), Error> {
        let path = self.path(dir);
        File::open(&path).and_then(|dir| dir.sync_all()).map_err(|error| classify("sync folder", &path, &error))
    }

    fn free_space(&self) -> Result<u64, Error> {
        let stat = rustix::fs::statvfs(&self.root)
            .map_err(|errno| classify("ask the free space of", &self.root, &io::Error::from(errno)))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &str) -> Result<Box<dyn DiskLock>, Error> {
        let path = self.path(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| classify("lock", &path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { path: path.display().to_string() }),
            Err(TryLockError::Error(error)) => Err(classify("lock", &path, &error)),
        }
    }
}

/// The operating system releases the lock when the file closes.
#[derive(Debug)]
struct RealLock {
    _file: File,
}

impl DiskLock for RealLock {}

#[derive(Debug)]
struct RealFile {
    file: File,
    path: PathBuf,
}

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < out.len() {
            match self.file.read_at(&mut out[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(classify("read", &self.path, &error)),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all_at(bytes, offset).map_err(|error| classify("write", &self.path, &error))
    }

    fn size(&self) -> Result<u64, Error> {
        self.file.metadata().map(|meta| meta.len()).map_err(|error| classify("read the size of", &self.path, &error))
    }

    fn set_size(&self, size: u64) -> Result<(), Error> {
        self.file.set_len(size).map_err(|error| classify("resize", &self.path, &error))
    }

    fn sync_data(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|error| classify("sync", &self.path, &error))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

fn classify(op: &'static str, path: &Path, error: &io::Error) -> Error {
    let path = path.display().to_string();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::NoSpace { op, path },
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Error::Denied { op, path, reason: error.to_string() }
        }
        ErrorKind::NotFound => Error::NotFound { op, path },
        _ => Error::Io { op, path, reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path().join("node")).unwrap();
        let held = disk.lock("lock").unwrap();
        let refused = disk.lock("lock").unwrap_err();
        assert!(matches!(&refused, Error::InUse { path } if path.ends_with("lock")), "{refused}");
        drop(held);
        disk.lock("lock").unwrap();
    }

    #[test]
    fn files_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path()).unwrap();
        disk.create_dir("a/b").unwrap();
        let file = disk.create("a/b/one").unwrap();
        file.write_at(3, b"xyz").unwrap();
        file.sync_data().unwrap();
        let mut out = [9; 8];
        assert_eq!(file.read_at(0, &mut out).unwrap(), 6);
        assert_eq!(&out[..6], b"\0\0\0xyz");
        disk.rename("a/b/one", "a/b/two").unwrap();
        disk.sync_dir("a/b").unwrap();
        assert_eq!(disk.list("a/b").unwrap(), ["two"]);
        assert!(disk.list("a").unwrap().is_empty(), "a folder is not a file");
        assert!(disk.free_space().unwrap() > 0);
        disk.remove("a/b/two").unwrap();
        let missing = disk.open("a/b/two").unwrap_err();
        assert!(matches!(&missing, Error::NotFound { op: "open", path } if path.ends_with("a/b/two")), "{missing}");
    }

    #[test]
    fn a_read_only_file_is_denied() {
        let reason = io::Error::from(ErrorKind::ReadOnlyFilesystem);
        let error = classify("write", Path::new("/data/wal"), &reason);
        assert!(error.to_string().starts_with("write /data/wal: "), "{error}");
        assert!(matches!(error, Error::Denied { .. }));
        let full = classify("write", Path::new("/data/wal"), &io::Error::from(ErrorKind::StorageFull));
        assert_eq!(full.to_string(), "write /data/wal: no space left on the disk; free some and start again");
    }
}
