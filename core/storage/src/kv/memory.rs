//! Key-value state in memory: the plain model that engines are compared with, and enough for small or passing state.
//!
//! A snapshot shares the maps; the first write to a keyspace while a snapshot of it is held copies that keyspace.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::Error;
use crate::kv::{Batch, Change, Direction, KeyRange, Keyspace, Kv, KvRead, Pair, borrowed, holds_nothing};

type Map = BTreeMap<Bytes, Bytes>;

/// Key-value state in memory. Clones share it. Nothing of it is ever durable.
#[derive(Clone, Debug, Default)]
pub struct MemoryKv {
    spaces: Arc<Mutex<Spaces>>,
}

#[derive(Clone, Debug, Default)]
struct Spaces(BTreeMap<Keyspace, Arc<Map>>);

impl MemoryKv {
    /// Empty state.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn spaces(&self) -> MutexGuard<'_, Spaces> {
        self.spaces.lock().expect("no holder of this lock panics")
    }
}

impl KvRead for Spaces {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.0.get(&keyspace).and_then(|map| map.get(key)).cloned())
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: KeyRange<'_>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, Error> {
        let Some(map) = self.0.get(&keyspace).filter(|_| !holds_nothing(range)) else { return Ok(Vec::new()) };
        let pairs = map.range::<[u8], _>(range).map(|(key, value)| (key.clone(), value.clone()));
        Ok(match direction {
            Direction::Forward => pairs.take(limit).collect(),
            Direction::Backward => pairs.rev().take(limit).collect(),
        })
    }
}

impl KvRead for MemoryKv {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.spaces().get(keyspace, key)
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: KeyRange<'_>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Pair>, Error> {
        self.spaces().scan(keyspace, range, direction, limit)
    }
}

impl Kv for MemoryKv {
    fn write(&self, batch: &Batch) -> Result<(), Error> {
        let mut spaces = self.spaces();
        let mut map = |keyspace: &Keyspace, change: &mut dyn FnMut(&mut Map)| {
            change(Arc::make_mut(spaces.0.entry(*keyspace).or_default()));
        };
        for change in &batch.changes {
            match change {
                Change::Put { keyspace, key, value } => map(keyspace, &mut |map| {
                    map.insert(key.clone(), value.clone());
                }),
                Change::Delete { keyspace, key } => map(keyspace, &mut |map| {
                    map.remove(key);
                }),
                Change::DeleteRange { keyspace, from, to } => map(keyspace, &mut |map| delete_range(map, from, to)),
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Box<dyn KvRead>, Error> {
        Ok(Box::new(self.spaces().clone()))
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn delete_range(map: &mut Map, from: &Bound<Bytes>, to: &Bound<Bytes>) {
    let range = borrowed(from, to);
    if holds_nothing(range) {
        return;
    }
    let keys: Vec<Bytes> = map.range::<[u8], _>(range).map(|(key, _)| key.clone()).collect();
    for key in keys {
        map.remove(&key);
    }
}
