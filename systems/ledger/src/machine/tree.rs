//! A Merkle tree of RFC 6962 that grows at its end and whose leaves change, with its nodes kept.
//!
//! CometBFT's proofs of values (`crypto/merkle/proof_value.go`) fix the tree's shape by the number of leaves, so a leaf that
//! comes in between the others moves all behind it. Leaves therefore stand in the order in which their keys first came:
//! a new one is appended and an old one keeps its place, and either costs a path to the root. What is lost is a proof that a
//! key is absent, which CometBFT's operators cannot express anyway.
//!
//! Changes are marked and hashed together when the root is asked for: a block that writes a key twice, or two neighbours,
//! hashes what they share once.

use std::collections::BTreeSet;

use crate::wire::{Hash, inner_hash, sha256, split};

/// The tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    /// By level, from the leaves: the hashes of subtrees of 2^level leaves that are complete.
    levels: Vec<Vec<Hash>>,
    /// Leaves that changed since the nodes above them were hashed.
    dirty: BTreeSet<usize>,
}

impl Tree {
    /// How many leaves there are.
    pub(super) fn len(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    /// Appends a leaf.
    pub(super) fn push(&mut self, leaf: Hash) {
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        self.dirty.insert(self.levels[0].len());
        self.levels[0].push(leaf);
    }

    /// Changes a leaf.
    pub(super) fn set(&mut self, at: usize, leaf: Hash) {
        self.levels[0][at] = leaf;
        self.dirty.insert(at);
    }

    /// The hash of a leaf.
    pub(super) fn leaf(&self, at: usize) -> Hash {
        self.levels[0][at]
    }

    /// Hashes what changed.
    fn settle(&mut self) {
        let mut dirty: Vec<usize> = std::mem::take(&mut self.dirty).into_iter().collect();
        let mut level = 0;
        while !dirty.is_empty() {
            dirty.iter_mut().for_each(|at| *at /= 2);
            dirty.dedup();
            // A pair whose right half is missing has no node of its own yet.
            dirty.retain(|at| at * 2 + 1 < self.levels[level].len());
            if !dirty.is_empty() && self.levels.len() == level + 1 {
                self.levels.push(Vec::new());
            }
            for at in &dirty {
                let below = &self.levels[level];
                let hash = inner_hash(&below[at * 2], &below[at * 2 + 1]);
                let nodes = &mut self.levels[level + 1];
                match nodes.get_mut(*at) {
                    Some(node) => *node = hash,
                    None => nodes.push(hash),
                }
            }
            level += 1;
        }
    }

    /// The root over `count` leaves from `first`.
    fn node(&self, first: usize, count: usize) -> Hash {
        if count.is_power_of_two() {
            let level = count.trailing_zeros() as usize;
            return self.levels[level][first >> level];
        }
        let left = split(count);
        inner_hash(&self.node(first, left), &self.node(first + left, count - left))
    }

    /// The root.
    pub(super) fn root(&mut self) -> Hash {
        self.settle();
        match self.len() {
            0 => sha256(b""),
            count => self.node(0, count),
        }
    }

    /// The hashes beside the path of a leaf, from the leaf to the root.
    pub(super) fn aunts(&mut self, at: usize) -> Vec<Hash> {
        self.settle();
        let (mut aunts, mut first, mut count) = (Vec::new(), 0, self.len());
        assert!(at < count, "there is such a leaf");
        while count > 1 {
            let left = split(count);
            if at < first + left {
                aunts.push(self.node(first + left, count - left));
                count = left;
            } else {
                aunts.push(self.node(first, left));
                first += left;
                count -= left;
            }
        }
        aunts.reverse();
        aunts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Proof, leaf_hash, root};

    proptest! {
        #[test]
        fn it_is_the_tree_that_is_built_anew(writes in proptest::collection::vec((0usize..40, any::<u8>(), any::<bool>()), 1..120)) {
            let (mut tree, mut leaves) = (Tree::default(), Vec::<Vec<u8>>::new());
            for (at, value, look) in writes {
                let leaf = vec![value];
                if at < leaves.len() {
                    tree.set(at, leaf_hash(&leaf));
                    leaves[at] = leaf;
                } else {
                    tree.push(leaf_hash(&leaf));
                    leaves.push(leaf);
                }
                if look {
                    prop_assert_eq!(tree.root(), root(&leaves));
                }
            }
            prop_assert_eq!(tree.root(), root(&leaves));
            for at in 0..leaves.len() {
                let proof = Proof::new(at, tree.len(), tree.leaf(at), &tree.aunts(at));
                prop_assert_eq!(&proof, &Proof::of(&leaves, at));
                prop_assert_eq!(proof.root(), Some(tree.root()));
            }
        }
    }
}
