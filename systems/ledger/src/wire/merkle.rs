//! Merkle trees of RFC 6962, as CometBFT's `crypto/merkle` builds them.

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::json::{B64, Int};
use super::proto::{ProtoError, Reader, Writer};

/// A SHA-256.
pub type Hash = [u8; 32];

/// A proof has at most this many aunts, as in CometBFT.
const AUNT_COUNT_MAX: usize = 100;

/// The SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// What a leaf is hashed to.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// What two nodes are hashed to.
#[must_use]
pub fn inner_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// How many leaves of `count`, at least two, stand on the left: the largest power of two below it.
#[must_use]
pub(crate) fn split(count: usize) -> usize {
    assert!(count > 1, "one leaf is not split");
    1 << (usize::BITS - 1 - (count - 1).leading_zeros())
}

fn root_of_hashes(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(b""),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            inner_hash(&root_of_hashes(left), &root_of_hashes(right))
        }
    }
}

/// The root over these leaves.
#[must_use]
pub fn root<T: AsRef<[u8]>>(leaves: &[T]) -> Hash {
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf.as_ref())).collect();
    root_of_hashes(&hashes)
}

/// That a leaf stands in a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// How many leaves there are.
    pub total: Int,
    /// Which one it is.
    pub index: Int,
    /// What it is hashed to.
    pub leaf_hash: B64,
    /// The hashes of the nodes beside its path, from the leaf to the root.
    pub aunts: Vec<B64>,
}

impl Proof {
    /// Of a leaf with this hash.
    #[must_use]
    pub fn new(index: usize, total: usize, leaf_hash: Hash, aunts: &[Hash]) -> Self {
        let number = |count: usize| Int(i64::try_from(count).expect("what is in memory can be counted"));
        let blob = |hash: &Hash| B64(Bytes::copy_from_slice(hash));
        Self {
            total: number(total),
            index: number(index),
            leaf_hash: blob(&leaf_hash),
            aunts: aunts.iter().map(blob).collect(),
        }
    }

    /// Of the leaf at `index`.
    ///
    /// # Panics
    /// If there is no such leaf.
    #[must_use]
    pub fn of<T: AsRef<[u8]>>(leaves: &[T], index: usize) -> Self {
        let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf.as_ref())).collect();
        let (mut aunts, mut rest, mut at) = (Vec::new(), &hashes[..], index);
        while rest.len() > 1 {
            let (left, right) = rest.split_at(split(rest.len()));
            if at < left.len() {
                aunts.push(root_of_hashes(right));
                rest = left;
            } else {
                aunts.push(root_of_hashes(left));
                at -= left.len();
                rest = right;
            }
        }
        aunts.reverse();
        Self::new(index, hashes.len(), hashes[index], &aunts)
    }

    /// The root that it leads to; `None` if it leads nowhere.
    #[must_use]
    pub fn root(&self) -> Option<Hash> {
        let (index, total) = (usize::try_from(self.index.0).ok()?, usize::try_from(self.total.0).ok()?);
        let hash = |blob: &B64| Hash::try_from(&blob.0[..]).ok();
        let aunts: Vec<Hash> = self.aunts.iter().map(hash).collect::<Option<_>>()?;
        climb(index, total, hash(&self.leaf_hash)?, &aunts)
    }

    /// `tendermint.crypto.Proof`.
    pub fn write(&self, out: &mut Writer) {
        out.int(1, self.total.0).int(2, self.index.0).bytes(3, &self.leaf_hash.0);
        self.aunts.iter().for_each(|aunt| {
            out.item(4, &aunt.0);
        });
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ProtoError`].
    pub fn read(reader: Reader) -> Result<Self, ProtoError> {
        let mut proof = Self { total: Int(0), index: Int(0), leaf_hash: B64::default(), aunts: Vec::new() };
        reader.fields(|field| {
            match field.number {
                1 => proof.total = Int(field.int()?),
                2 => proof.index = Int(field.int()?),
                3 => proof.leaf_hash = B64(field.bytes()?),
                4 if proof.aunts.len() == AUNT_COUNT_MAX => return Err(ProtoError("a proof is too long")),
                4 => proof.aunts.push(B64(field.bytes()?)),
                _ => {}
            }
            Ok(())
        })?;
        Ok(proof)
    }
}

fn climb(index: usize, total: usize, leaf: Hash, aunts: &[Hash]) -> Option<Hash> {
    if index >= total || aunts.len() > AUNT_COUNT_MAX {
        return None;
    }
    if total == 1 {
        return aunts.is_empty().then_some(leaf);
    }
    let (last, rest) = aunts.split_last()?;
    let left = split(total);
    if index < left {
        Some(inner_hash(&climb(index, left, leaf, rest)?, last))
    } else {
        Some(inner_hash(last, &climb(index - left, total - left, leaf, rest)?))
    }
}
