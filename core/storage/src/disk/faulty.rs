//! A disk that fails on plan.
//!
//! Wraps another disk and counts what passes through it. A plan names the operation at which something goes wrong, so
//! that the same plan over the same calls fails in the same place each time.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::Error;
use crate::disk::{Disk, DiskFile, DiskLock};

/// What shall go wrong. Counts begin with 1; `None` and `false` mean never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The nth sync of a file fails; later ones succeed, as the kernel's do.
    pub sync_fails_at: Option<u64>,
    /// The nth write fails after having written half of its bytes.
    pub write_fails_at: Option<u64>,
    /// The nth read fails.
    pub read_fails_at: Option<u64>,
    /// Writes fail with [`Error::NoSpace`] once this many bytes were written in all.
    pub bytes_written_max: Option<u64>,
    /// From the nth change (write, resize, sync, creation, rename, removal) on, nothing works any more. The change
    /// itself, if it is a write, lets `halt_keeps` bytes through.
    pub halt_at: Option<u64>,
    /// See `halt_at`.
    pub halt_keeps: usize,
    /// These bits are read flipped: path, byte offset, bit.
    pub flips: Vec<(String, u64, u8)>,
    /// Every nth write or sync is slow. It is only counted: whoever drives this disk turns the count into time.
    pub slow_every: Option<u64>,
    /// Syncs report success and do nothing. The mutant that a durability checker must catch.
    pub sync_is_a_lie: bool,
}

/// What passed through the disk so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of folders.
    pub dir_syncs: u64,
    /// Everything that changes the disk; see [`Faults::halt_at`].
    pub changes: u64,
    /// Slow operations.
    pub slow: u64,
    /// Faults that took effect.
    pub injected: u64,
}

/// A disk that fails on plan. Clones share the plan and the counts.
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    inner: Arc<dyn Disk>,
    control: Arc<Mutex<Control>>,
}

#[derive(Debug, Default)]
struct Control {
    faults: Faults,
    counts: FaultCounts,
}

impl FaultyDisk {
    /// Wraps `inner`; no fault is planned yet.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, control: Arc::default() }
    }

    /// Replaces the plan. Counts go on: a plan for the next sync names `counts().syncs + 1`.
    pub fn set_faults(&self, faults: Faults) {
        self.control().faults = faults;
    }

    /// What passed through so far.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        self.control().counts
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().expect("no holder of this lock panics")
    }

    fn change(&self, op: &'static str, path: &str) -> Result<(), Error> {
        self.control().change(op, path).map_err(|(error, _)| error)
    }

    fn wrap(&self, path: &str, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(FaultyFile { inner: file, path: path.to_owned(), disk: self.clone() })
    }
}

impl Control {
    /// Counts a change. The error carries how many bytes of a write still get through.
    fn change(&mut self, op: &'static str, path: &str) -> Result<(), (Error, usize)> {
        self.counts.changes += 1;
        let Some(halt) = self.faults.halt_at.filter(|halt| *halt <= self.counts.changes) else { return Ok(()) };
        let keeps = if halt == self.counts.changes { self.faults.halt_keeps } else { 0 };
        self.counts.injected += 1;
        Err((injected(op, path, "the disk is gone"), keeps))
    }

    fn slow(&mut self) {
        let passed = self.counts.writes + self.counts.syncs;
        if self.faults.slow_every.is_some_and(|every| every > 0 && passed.is_multiple_of(every)) {
            self.counts.slow += 1;
        }
    }

    /// Decides over a write: how many of its bytes get through, and the error if not all do.
    fn write(&mut self, path: &str, len: usize) -> (usize, Option<Error>) {
        self.counts.writes += 1;
        self.slow();
        if let Err((error, keeps)) = self.change("write", path) {
            return (keeps.min(len), Some(error));
        }
        if self.faults.write_fails_at == Some(self.counts.writes) {
            self.counts.injected += 1;
            return (len / 2, Some(injected("write", path, "input/output error")));
        }
        let room = self.faults.bytes_written_max.map_or(u64::MAX, |max| max.saturating_sub(self.counts.bytes_written));
        if (len as u64) > room {
            self.counts.injected += 1;
            let fits = usize::try_from(room).expect("less than a write's length");
            return (fits, Some(Error::NoSpace { op: "write", path: path.to_owned() }));
        }
        (len, None)
    }

    /// Decides over a sync: whether it really happens.
    fn sync(&mut self, path: &str) -> Result<bool, Error> {
        self.counts.syncs += 1;
        self.slow();
        self.change("sync", path).map_err(|(error, _)| error)?;
        if self.faults.sync_fails_at == Some(self.counts.syncs) {
            self.counts.injected += 1;
            return Err(injected("sync", path, "input/output error"));
        }
        self.counts.injected += u64::from(self.faults.sync_is_a_lie);
        Ok(!self.faults.sync_is_a_lie)
    }
}

fn injected(op: &'static str, path: &str, reason: &str) -> Error {
    Error::Io { op, path: path.to_owned(), reason: reason.to_owned() }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &str) -> Result<Box<dyn DiskFile>, Error> {
        self.change("create", path)?;
        Ok(self.wrap(path, self.inner.create(path)?))
    }

    fn open(&self, path: &str) -> Result<Box<dyn DiskFile>, Error> {
        Ok(self.wrap(path, self.inner.open(path)?))
    }

    fn exists(&self, path: &str) -> Result<bool, Error> {
        self.inner.exists(path)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        self.change("rename", from)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        self.change("remove", path)?;
        self.inner.remove(path)
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, Error> {
        self.inner.list(dir)
    }

    fn create_dir(&self, dir: &str) -> Result<(), Error> {
        self.change("create folder", dir)?;
        self.inner.create_dir(dir)
    }

    fn sync_dir(&self, dir: &str) -> Result<(), Error> {
        self.change("sync folder", dir)?;
        let lie = {
            let mut control = self.control();
            control.counts.dir_syncs += 1;
            control.faults.sync_is_a_lie
        };
        if lie { Ok(()) } else { self.inner.sync_dir(dir) }
    }

    fn free_space(&self) -> Result<u64, Error> {
        let control = self.control();
        let free = self.inner.free_space()?;
        Ok(control
            .faults
            .bytes_written_max
            .map_or(free, |max| free.min(max.saturating_sub(control.counts.bytes_written))))
    }

    fn lock(&self, path: &str) -> Result<Box<dyn DiskLock>, Error> {
        self.inner.lock(path)
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Box<dyn DiskFile>,
    path: String,
    disk: FaultyDisk,
}

impl DiskFile for FaultyFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize, Error> {
        let flips = {
            let mut control = self.disk.control();
            control.counts.reads += 1;
            if control.faults.read_fails_at == Some(control.counts.reads) {
                control.counts.injected += 1;
                return Err(injected("read", &self.path, "input/output error"));
            }
            control.faults.flips.clone()
        };
        let read = self.inner.read_at(offset, out)?;
        for (path, at, bit) in flips {
            let place = at.checked_sub(offset).and_then(|place| usize::try_from(place).ok());
            if let Some(byte) = place.filter(|_| path == self.path).and_then(|place| out[..read].get_mut(place)) {
                *byte ^= 1 << (bit % 8);
                self.disk.control().counts.injected += 1;
            }
        }
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let (through, error) = self.disk.control().write(&self.path, bytes.len());
        if through > 0 || error.is_none() {
            self.inner.write_at(offset, &bytes[..through])?;
            self.disk.control().counts.bytes_written += through as u64;
        }
        error.map_or(Ok(()), Err)
    }

    fn size(&self) -> Result<u64, Error> {
        self.inner.size()
    }

    fn set_size(&self, size: u64) -> Result<(), Error> {
        self.disk.change("resize", &self.path)?;
        self.inner.set_size(size)
    }

    fn sync_data(&self) -> Result<(), Error> {
        let really = self.disk.control().sync(&self.path)?;
        if really { self.inner.sync_data() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDisk;
    use crate::disk::Crash;

    #[test]
    fn faults_come_where_they_are_planned() {
        let memory = MemoryDisk::new();
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        disk.set_faults(Faults {
            sync_fails_at: Some(2),
            write_fails_at: Some(2),
            read_fails_at: Some(2),
            flips: vec![("a".to_owned(), 1, 0)],
            slow_every: Some(2),
            ..Faults::default()
        });
        let file = disk.create("a").unwrap();
        file.write_at(0, b"abcd").unwrap();
        assert!(matches!(file.write_at(4, b"efgh"), Err(Error::Io { op: "write", .. })));
        file.sync_data().unwrap();
        assert!(matches!(file.sync_data(), Err(Error::Io { op: "sync", .. })));
        file.sync_data().unwrap();
        let mut out = [0; 8];
        assert_eq!(file.read_at(0, &mut out).unwrap(), 6, "half of the failed write got through");
        assert_eq!(&out[..6], b"accdef", "bit 0 of byte 1 is flipped");
        assert!(matches!(file.read_at(0, &mut out), Err(Error::Io { op: "read", .. })));
        let counts = disk.counts();
        assert_eq!((counts.reads, counts.writes, counts.syncs, counts.slow, counts.injected), (2, 2, 3, 2, 4));
    }

    #[test]
    fn space_runs_out_and_the_disk_halts() {
        let disk = FaultyDisk::new(Arc::new(MemoryDisk::new()));
        disk.set_faults(Faults { bytes_written_max: Some(6), ..Faults::default() });
        let file = disk.create("a").unwrap();
        file.write_at(0, b"abcd").unwrap();
        assert_eq!(disk.free_space().unwrap(), 2);
        assert!(matches!(file.write_at(4, b"efgh"), Err(Error::NoSpace { .. })));
        assert_eq!(file.size().unwrap(), 6);
        disk.set_faults(Faults { halt_at: Some(disk.counts().changes + 1), halt_keeps: 1, ..Faults::default() });
        assert!(file.write_at(6, b"xy").is_err());
        assert_eq!(file.size().unwrap(), 7);
        assert!(file.sync_data().is_err());
        assert!(disk.remove("a").is_err());
    }

    #[test]
    fn a_lying_sync_loses_data() {
        let memory = MemoryDisk::new();
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        disk.set_faults(Faults { sync_is_a_lie: true, ..Faults::default() });
        let file = disk.create("a").unwrap();
        file.write_at(0, b"abcd").unwrap();
        file.sync_data().unwrap();
        disk.sync_dir("").unwrap();
        memory.crash(Crash::LoseAll);
        assert!(memory.list("").unwrap().is_empty());
    }
}
