//! Key-value state in one `redb` file over a [`Disk`].
//!
//! A write commits without a sync; [`Kv::flush`] commits with one. After a crash redb falls back to the last synced commit
//! by itself. All of its I/O goes through our disk, so that faults reach it and its errors keep their kind.
//!
//! HAZARD: redb checks its pages' checksums when it opens the file, if [`RedbConfig::check_on_open`] is set, and not on
//! each read. A bit that flips while the file is open is found by the digests of the replicas, not here.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use ::redb::{
    Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, StorageBackend, Table, TableDefinition,
    TableError, WriteTransaction,
};
use bytes::Bytes;

use crate::Error;
use crate::disk::{Disk, DiskFile, DiskLock, parent};
use crate::kv::{Batch, Change, Direction, KeyRange, Keyspace, Kv, KvRead, Pair, borrowed, holds_nothing};

/// How the engine uses its disk and memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedbConfig {
    /// The file.
    pub path: String,
    /// Bytes of memory for its page cache.
    pub cache_size: usize,
    /// Check every page when the file is opened, which reads all of it. Without, damage may be served, or panic.
    pub check_on_open: bool,
}

impl Default for RedbConfig {
    fn default() -> Self {
        Self { path: "state.redb".to_owned(), cache_size: 16 << 20, check_on_open: true }
    }
}

/// Key-value state in a file.
pub struct RedbKv {
    database: Database,
    failures: Failures,
    _lock: Box<dyn DiskLock>,
}

impl fmt::Debug for RedbKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbKv").field("path", &self.failures.path).finish_non_exhaustive()
    }
}

impl RedbKv {
    /// Opens the file, or begins one.
    ///
    /// # Errors
    /// [`Error::InUse`] if it is open already; [`Error::Engine`] if it is not sound; the device's.
    pub fn open(disk: &dyn Disk, config: &RedbConfig) -> Result<Self, Error> {
        let lock = disk.lock(&format!("{}.lock", config.path))?;
        let failures = Failures { path: config.path.clone(), first: Arc::default() };
        let file = if disk.exists(&config.path)? { disk.open(&config.path)? } else { disk.create(&config.path)? };
        disk.sync_dir(parent(&config.path))?;
        let backend = Backend { file, failures: failures.clone() };
        let database = Database::builder()
            .set_cache_size(config.cache_size)
            .set_check_integrity_on_open(config.check_on_open)
            .create_with_backend(backend)
            .map_err(|error| failures.because(&error))?;
        Ok(Self { database, failures, _lock: lock })
    }

    fn commit(&self, durability: Durability, batch: &Batch) -> Result<(), Error> {
        self.failures.check()?;
        let mut transaction = self.database.begin_write().map_err(|error| self.failures.because(&error))?;
        transaction.set_durability(durability).map_err(|error| self.failures.because(&error))?;
        self.apply(&transaction, &batch.changes)?;
        transaction.commit().map_err(|error| self.failures.because(&error))
    }

    /// Applies the changes in order; neighbours in one keyspace share its open table.
    fn apply(&self, transaction: &WriteTransaction, changes: &[Change]) -> Result<(), Error> {
        for run in changes.chunk_by(|one, two| one.keyspace() == two.keyspace()) {
            let table = transaction.open_table(definition(run[0].keyspace()));
            let mut table = table.map_err(|error| self.failures.because(&error))?;
            for change in run {
                apply_one(&mut table, change).map_err(|error| self.failures.because(&error))?;
            }
        }
        Ok(())
    }

    fn view(&self) -> Result<View, Error> {
        self.failures.check()?;
        let transaction = self.database.begin_read().map_err(|error| self.failures.because(&error))?;
        Ok(View { transaction, failures: self.failures.clone() })
    }
}

fn definition(keyspace: Keyspace) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(keyspace.0)
}

fn apply_one(table: &mut Table<'_, &'static [u8], &'static [u8]>, change: &Change) -> Result<(), ::redb::StorageError> {
    match change {
        Change::Put { key, value, .. } => table.insert(&key[..], &value[..]).map(drop),
        Change::Delete { key, .. } => table.remove(&key[..]).map(drop),
        Change::DeleteRange { from, to, .. } => {
            let range = borrowed(from, to);
            if holds_nothing(range) { Ok(()) } else { table.retain_in::<&[u8], _>(range, |_, _| false) }
        }
    }
}

impl Change {
    fn keyspace(&self) -> Keyspace {
        match self {
            Change::Put { keyspace, .. } | Change::Delete { keyspace, .. } | Change::DeleteRange { keyspace, .. } => {
                *keyspace
            }
        }
    }
}

impl KvRead for RedbKv {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.view()?.get(keyspace, key)
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: KeyRange<'_>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, Error> {
        self.view()?.scan(keyspace, range, direction, limit)
    }
}

impl Kv for RedbKv {
    fn write(&self, batch: &Batch) -> Result<(), Error> {
        if batch.is_empty() { Ok(()) } else { self.commit(Durability::None, batch) }
    }

    fn snapshot(&self) -> Result<Box<dyn KvRead>, Error> {
        Ok(Box::new(self.view()?))
    }

    fn flush(&self) -> Result<(), Error> {
        self.commit(Durability::Immediate, &Batch::default())
    }
}

type OpenTable = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The state as of the moment when the view was taken.
struct View {
    transaction: ReadTransaction,
    failures: Failures,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("path", &self.failures.path).finish_non_exhaustive()
    }
}

impl View {
    fn table(&self, keyspace: Keyspace) -> Result<Option<OpenTable>, Error> {
        match self.transaction.open_table(definition(keyspace)) {
            Ok(table) => Ok(Some(table)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(self.failures.because(&error)),
        }
    }
}

impl KvRead for View {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let Some(table) = self.table(keyspace)? else { return Ok(None) };
        let value = table.get(key).map_err(|error| self.failures.because(&error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: KeyRange<'_>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, Error> {
        let Some(table) = self.table(keyspace)?.filter(|_| !holds_nothing(range)) else { return Ok(Vec::new()) };
        let mut pairs = table.range::<&[u8]>(range).map_err(|error| self.failures.because(&error))?;
        let mut out = Vec::new();
        while out.len() < limit {
            let pair = match direction {
                Direction::Forward => pairs.next(),
                Direction::Backward => pairs.next_back(),
            };
            let Some(pair) = pair else { break };
            let (key, value) = pair.map_err(|error| self.failures.because(&error))?;
            out.push((Bytes::copy_from_slice(key.value()), Bytes::copy_from_slice(value.value())));
        }
        Ok(out)
    }
}

/// Remembers the disk's own first error, which redb would turn into text, and poisons the state with it.
#[derive(Clone, Debug)]
struct Failures {
    path: String,
    first: Arc<Mutex<Option<Error>>>,
}

impl Failures {
    fn first(&self) -> MutexGuard<'_, Option<Error>> {
        self.first.lock().expect("no holder of this lock panics")
    }

    fn check(&self) -> Result<(), Error> {
        self.first().as_ref().map_or(Ok(()), |first| Err(Error::Poisoned { cause: first.to_string() }))
    }

    /// The disk's error if it was one, else the engine's.
    fn because(&self, error: &dyn fmt::Display) -> Error {
        self.first().clone().unwrap_or_else(|| Error::Engine { path: self.path.clone(), reason: error.to_string() })
    }

    fn note<T>(&self, result: Result<T, Error>) -> io::Result<T> {
        result.map_err(|error| {
            let text = error.to_string();
            self.first().get_or_insert(error);
            io::Error::other(text)
        })
    }
}

/// redb's way to our disk.
#[derive(Debug)]
struct Backend {
    file: Box<dyn DiskFile>,
    failures: Failures,
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.failures.note(self.file.size())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let read = self.failures.note(self.file.read_at(offset, out))?;
        if read == out.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.failures.note(self.file.set_size(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.failures.note(self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.failures.note(self.file.write_at(offset, data))
    }
}
