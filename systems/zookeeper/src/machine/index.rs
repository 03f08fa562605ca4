//! Finds a node by its path: one hash of the whole path, then a comparison of names up to the root.
//!
//! HAZARD: the path hash has a public seed, since it enters the digest. The index mixes it with a seed of its own, which
//! a node may draw at random: where a path lands in the table cannot be aimed at, and the order of the table is never
//! observed.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::node::{ROOT, Slab};

const PATH_SEED: u64 = 0x7a6b_5f70_6174_6873;

/// The hash of a path as the digest knows it.
pub(super) fn path_hash(path: &[u8]) -> u64 {
    xxh3_64_with_seed(path, PATH_SEED)
}

/// Path to slot.
#[derive(Debug, Default)]
pub(super) struct Index {
    table: HashTable<u32>,
    seed: u64,
}

impl Index {
    pub(super) fn new(seed: u64) -> Self {
        Self { table: HashTable::new(), seed }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes that the table takes.
    pub(super) fn size(&self) -> usize {
        self.table.capacity() * 5 * 8 / 7
    }

    pub(super) fn reserve(&mut self, count: usize, slab: &Slab) {
        let seed = self.seed;
        self.table.reserve(count, |id| mix(slab.get(*id).path_hash, seed));
    }

    /// The node at `path`. Empty and `/` are both the root, as in ZooKeeper.
    pub(super) fn find(&self, path: &[u8], slab: &Slab) -> Option<u32> {
        if path.is_empty() || path == b"/" {
            return Some(ROOT);
        }
        let hash = path_hash(path);
        self.table
            .find(mix(hash, self.seed), |id| slab.get(*id).path_hash == hash && is_path_of(*id, path, slab))
            .copied()
    }

    pub(super) fn insert(&mut self, id: u32, slab: &Slab) {
        let seed = self.seed;
        self.table.insert_unique(mix(slab.get(id).path_hash, seed), id, |id| mix(slab.get(*id).path_hash, seed));
    }

    pub(super) fn remove(&mut self, id: u32, hash: u64) {
        match self.table.find_entry(mix(hash, self.seed), |other| *other == id) {
            Ok(entry) => drop(entry.remove()),
            Err(_) => panic!("every node but the root is in the index"),
        }
    }
}

fn mix(hash: u64, seed: u64) -> u64 {
    let product =
        u128::from(hash ^ seed).wrapping_mul(u128::from(seed | 1) ^ 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    ((product >> 64) as u64) ^ (product as u64)
}

fn is_path_of(mut id: u32, mut path: &[u8], slab: &Slab) -> bool {
    while id != ROOT {
        let node = slab.get(id);
        let Some(rest) = path.strip_suffix(node.name()) else { return false };
        let Some(rest) = rest.strip_suffix(b"/") else { return false };
        path = rest;
        id = node.parent;
    }
    path.is_empty()
}
