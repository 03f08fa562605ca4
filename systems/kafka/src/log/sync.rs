//! Which files have unsynced bytes, and a way to sync them while appends go on.
//!
//! - upon a write or a new name: the file, or the folder, is dirty;
//! - upon a checkpoint: whatever is dirty moves into a [`SyncHandle`], which may be synced on another thread;
//! - upon a handle that is dropped unsynced: what it held is dirty again, so that no later checkpoint misses it;
//! - upon a failed sync: the log is poisoned. The kernel may have dropped the pages, and a second sync proves nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use verity_storage::{Disk, DiskFile, Error};

use super::LogError;

/// What is not on stable storage yet. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Unsynced(Arc<Mutex<Dirty>>);

#[derive(Debug, Default)]
struct Dirty {
    files: BTreeMap<String, Arc<dyn DiskFile>>,
    folder: bool,
    poison: Option<String>,
}

impl Unsynced {
    fn dirty(&self) -> MutexGuard<'_, Dirty> {
        self.0.lock().expect("no holder of this lock panics")
    }

    pub(super) fn mark(&self, path: &str, file: &Arc<dyn DiskFile>) {
        let mut dirty = self.dirty();
        if !dirty.files.contains_key(path) {
            dirty.files.insert(path.to_owned(), Arc::clone(file));
        }
    }

    pub(super) fn mark_new(&self, path: &str, file: &Arc<dyn DiskFile>) {
        let mut dirty = self.dirty();
        dirty.files.insert(path.to_owned(), Arc::clone(file));
        dirty.folder = true;
    }

    pub(super) fn mark_folder(&self) {
        self.dirty().folder = true;
    }

    pub(super) fn forget(&self, path: &str) {
        self.dirty().files.remove(path);
    }

    /// An error if a sync failed before.
    pub(super) fn check(&self) -> Result<(), LogError> {
        match &self.dirty().poison {
            Some(cause) => Err(LogError::Storage(Error::Poisoned { cause: cause.clone() })),
            None => Ok(()),
        }
    }

    pub(super) fn take(&self, disk: &Arc<dyn Disk>, dir: &str) -> SyncHandle {
        let mut dirty = self.dirty();
        SyncHandle {
            disk: Arc::clone(disk),
            dir: dir.to_owned(),
            files: std::mem::take(&mut dirty.files),
            folder: std::mem::take(&mut dirty.folder),
            home: self.clone(),
        }
    }
}

/// Files that were dirty at a checkpoint. The checkpoint's manifest counts once [`SyncHandle::sync`] has returned.
#[derive(Debug)]
#[must_use = "a manifest does not count before its files are synced"]
pub struct SyncHandle {
    disk: Arc<dyn Disk>,
    dir: String,
    files: BTreeMap<String, Arc<dyn DiskFile>>,
    folder: bool,
    home: Unsynced,
}

impl SyncHandle {
    /// True if there is nothing to sync.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && !self.folder
    }

    /// Brings the files and their names to stable storage.
    ///
    /// # Errors
    /// [`LogError::Storage`]. The log then takes no more appends, and the node stops.
    pub fn sync(mut self) -> Result<(), LogError> {
        self.home.check()?;
        let synced = self.sync_all();
        match synced {
            Ok(()) => {
                self.files.clear();
                self.folder = false;
                Ok(())
            }
            Err(error) => {
                self.home.dirty().poison.get_or_insert_with(|| error.to_string());
                Err(error.into())
            }
        }
    }

    fn sync_all(&self) -> Result<(), Error> {
        self.files.values().try_for_each(|file| file.sync_data())?;
        if self.folder { self.disk.sync_dir(&self.dir) } else { Ok(()) }
    }
}

impl Drop for SyncHandle {
    fn drop(&mut self) {
        if self.is_empty() {
            return;
        }
        let mut dirty = self.home.dirty();
        for (path, file) in std::mem::take(&mut self.files) {
            dirty.files.entry(path).or_insert(file);
        }
        dirty.folder |= self.folder;
    }
}
