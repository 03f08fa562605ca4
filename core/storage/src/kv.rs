//! Key-value state behind a trait: sorted bytes in named keyspaces, written in atomic batches.
//!
//! - upon [`Kv::write`]: the batch is visible at once and as a whole, and durable after the next [`Kv::flush`];
//! - upon [`Kv::snapshot`]: a view that later writes do not change;
//! - upon [`Kv::flush`]: everything written so far is on stable storage;
//! - upon a crash: the state is that of some batch at or behind the last flush. What is missing is replayed from the log.
//!
//! Deliberately absent: transactions that read before they write. One group's batches come from one place, in order.

use std::fmt::Debug;
use std::ops::Bound;

use bytes::Bytes;

use crate::Error;

mod memory;
mod redb;
#[cfg(test)]
mod tests;

pub use memory::MemoryKv;
pub use redb::{RedbConfig, RedbKv};

/// Names a sorted map of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keyspace(pub &'static str);

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the lowest key up.
    Forward,
    /// From the highest key down.
    Backward,
}

/// Both ends of a range of keys.
pub type KeyRange<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A key and its value.
pub type Pair = (Bytes, Bytes);

/// Reads of one state.
pub trait KvRead: Debug + Send {
    /// The value of a key.
    ///
    /// # Errors
    /// The engine's.
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, Error>;

    /// Up to `limit` pairs of a range, from its end that `direction` begins at. A range that ends before it begins is
    /// empty.
    ///
    /// # Errors
    /// The engine's.
    fn scan(
        &self,
        keyspace: Keyspace,
        range: KeyRange<'_>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, Error>;
}

/// Key-value state.
pub trait Kv: KvRead + Sync {
    /// Applies a batch as a whole, in its order.
    ///
    /// # Errors
    /// The engine's; nothing of the batch is then visible.
    fn write(&self, batch: &Batch) -> Result<(), Error>;

    /// The state as it is now.
    ///
    /// # Errors
    /// The engine's.
    fn snapshot(&self) -> Result<Box<dyn KvRead>, Error>;

    /// Brings everything written so far to stable storage.
    ///
    /// # Errors
    /// The engine's; what was written since the last flush may then be lost.
    fn flush(&self) -> Result<(), Error>;
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Put { keyspace: Keyspace, key: Bytes, value: Bytes },
    Delete { keyspace: Keyspace, key: Bytes },
    DeleteRange { keyspace: Keyspace, from: Bound<Bytes>, to: Bound<Bytes> },
}

/// Changes that are applied together, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
}

impl Batch {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key.
    pub fn put(&mut self, keyspace: Keyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes.push(Change::Put { keyspace, key: key.into(), value: value.into() });
    }

    /// Removes a key.
    pub fn delete(&mut self, keyspace: Keyspace, key: impl Into<Bytes>) {
        self.changes.push(Change::Delete { keyspace, key: key.into() });
    }

    /// Removes every key of a range.
    pub fn delete_range(&mut self, keyspace: Keyspace, range: KeyRange<'_>) {
        let own = |bound: Bound<&[u8]>| bound.map(Bytes::copy_from_slice);
        self.changes.push(Change::DeleteRange { keyspace, from: own(range.0), to: own(range.1) });
    }

    /// How many changes it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// True if it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// True if no key can lie in the range. Sorted maps panic on some such ranges instead of finding nothing.
fn holds_nothing(range: KeyRange<'_>) -> bool {
    match range {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from), Bound::Excluded(to))
        | (Bound::Excluded(from), Bound::Included(to))
        | (Bound::Excluded(from), Bound::Excluded(to)) => from >= to,
        _ => false,
    }
}

/// A range of borrowed bounds.
fn borrowed<'a>(from: &'a Bound<Bytes>, to: &'a Bound<Bytes>) -> KeyRange<'a> {
    (from.as_ref().map(|key| &key[..]), to.as_ref().map(|key| &key[..]))
}
