//! All headers that were ever accepted, and what each is worth.
//!
//! Entries are only ever added, and each stands behind the one that it builds on. So whatever holds for a block and all upon
//! it is told in one pass. Each also points far back (to a height with fewer bits set), so that an ancestor at any height is
//! found in a number of steps that grows with the logarithm.

use std::collections::BTreeMap;

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::pow::Work;

use crate::pow;

/// A block's time must be later than the median of so many.
const MEDIAN_BLOCKS: usize = 11;
/// A locator names the last so many blocks one by one, and further ones at growing distances.
const LOCATOR_DENSE: usize = 10;

/// A block's place in a [`Tree`]: small, and good as long as the tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

impl BlockId {
    /// The first block's.
    pub const GENESIS: BlockId = BlockId(0);
}

/// Why a block does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is invalid itself, or an operator says so.
    Own,
    /// It stands on one that is.
    Ancestor,
}

/// What is known of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its header.
    pub header: Header,
    /// Its hash.
    pub hash: BlockHash,
    /// How many stand below it.
    pub height: u32,
    /// What it stands on; none below the first.
    pub prev: Option<BlockId>,
    /// The work in it and all below it.
    pub work: Work,
    /// The latest time in it and all below it.
    pub time_max: u32,
    /// Its transactions; 0 until the block was had.
    pub tx_count: u32,
    /// Those of it and all below it; 0 while one of them was never had.
    pub chain_tx_count: u64,
    /// The block is stored.
    pub has_data: bool,
    /// It was found valid once, with all below it.
    pub validated: bool,
    /// Why it does not count, if it does not.
    pub failure: Option<Failure>,
    /// Among equals, the one that came first counts.
    pub(crate) sequence: i64,
    skip: Option<BlockId>,
}

/// Headers by their hash and by what they stand on.
#[derive(Clone, Debug)]
pub struct Tree {
    entries: Vec<Entry>,
    by_hash: BTreeMap<BlockHash, BlockId>,
}

/// Without its lowest bit that is set.
fn without_lowest(height: u32) -> u32 {
    height & height.wrapping_sub(1)
}

/// How far back an entry of this height points.
fn skip_height(height: u32) -> u32 {
    match height {
        0 | 1 => 0,
        odd if odd % 2 == 1 => without_lowest(without_lowest(odd - 1)) + 1,
        even => without_lowest(even),
    }
}

impl Tree {
    /// A tree of the first block alone.
    #[must_use]
    pub fn new(genesis: Header) -> Self {
        let mut tree = Self { entries: Vec::new(), by_hash: BTreeMap::new() };
        tree.push(genesis, genesis.block_hash(), None);
        tree
    }

    fn push(&mut self, header: Header, hash: BlockHash, prev: Option<BlockId>) -> BlockId {
        let id = BlockId(u32::try_from(self.entries.len()).expect("four billion headers cannot be mined"));
        let own = pow::work(header.bits);
        let (height, work, time_max) = match prev.map(|prev| self.entry(prev)) {
            None => (0, own, header.time),
            Some(below) => (below.height + 1, below.work + own, below.time_max.max(header.time)),
        };
        let skip = prev.and_then(|prev| self.ancestor(prev, skip_height(height)));
        self.entries.push(Entry {
            header,
            hash,
            height,
            prev,
            work,
            time_max,
            tx_count: 0,
            chain_tx_count: 0,
            has_data: false,
            validated: false,
            failure: None,
            sequence: 0,
            skip,
        });
        self.by_hash.insert(hash, id);
        id
    }

    /// Adds a header; the same one again is the same entry.
    ///
    /// # Panics
    /// If it stands on something else than `prev`.
    pub(crate) fn insert(&mut self, header: Header, prev: BlockId) -> BlockId {
        let hash = header.block_hash();
        assert_eq!(header.prev_blockhash, self.entry(prev).hash, "a header stands on what it names");
        self.find(&hash).unwrap_or_else(|| self.push(header, hash, Some(prev)))
    }

    /// The entry.
    ///
    /// # Panics
    /// If the id is of another tree.
    #[must_use]
    pub fn entry(&self, id: BlockId) -> &Entry {
        &self.entries[id.0 as usize]
    }

    pub(crate) fn entry_mut(&mut self, id: BlockId) -> &mut Entry {
        &mut self.entries[id.0 as usize]
    }

    /// Who has this hash.
    #[must_use]
    pub fn find(&self, hash: &BlockHash) -> Option<BlockId> {
        self.by_hash.get(hash).copied()
    }

    /// How many headers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never: the first block is always known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them, in the order in which they came: each behind what it stands on.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = BlockId> + use<> {
        (0..self.entries.len() as u32).map(BlockId)
    }

    /// Who stands at this height below `id` (or is it); none above it.
    #[must_use]
    pub fn ancestor(&self, id: BlockId, height: u32) -> Option<BlockId> {
        let mut at = id;
        if height > self.entry(at).height {
            return None;
        }
        while self.entry(at).height > height {
            let entry = self.entry(at);
            let (skip_to, prev) = (skip_height(entry.height), entry.prev.expect("only the first has height 0"));
            let prev_skip_to = skip_height(entry.height - 1);
            // The way back goes by long jumps, unless the one from the block below lands nearer and still not past the goal.
            let jump =
                skip_to == height || (skip_to > height && !(prev_skip_to + 2 < skip_to && prev_skip_to >= height));
            at = if jump { entry.skip.unwrap_or(prev) } else { prev };
        }
        Some(at)
    }

    /// True if `below` is `id` or one of those that it stands on.
    #[must_use]
    pub fn stands_on(&self, id: BlockId, below: BlockId) -> bool {
        self.ancestor(id, self.entry(below).height) == Some(below)
    }

    /// The last block that both stand on.
    #[must_use]
    pub fn fork(&self, a: BlockId, b: BlockId) -> BlockId {
        let height = self.entry(a).height.min(self.entry(b).height);
        let at = |id| self.ancestor(id, height).expect("it is no higher than both");
        let (mut a, mut b) = (at(a), at(b));
        while a != b {
            let (one, other) = (self.entry(a), self.entry(b));
            // Where both point to the same far block, they may meet before it: step by one.
            let both = match (one.skip, other.skip) {
                (Some(far), Some(other_far)) if far != other_far => Some((far, other_far)),
                _ => None,
            };
            let below = || (one.prev.expect("all meet in the first"), other.prev.expect("all meet in the first"));
            (a, b) = both.unwrap_or_else(below);
        }
        a
    }

    /// The median of the times of a block and the ten below it (BIP 113), in seconds.
    #[must_use]
    pub fn median_time_past(&self, id: BlockId) -> u32 {
        let below = std::iter::successors(Some(id), |id| self.entry(*id).prev);
        let mut times: Vec<u32> = below.take(MEDIAN_BLOCKS).map(|id| self.entry(id).header.time).collect();
        times.sort_unstable();
        times[times.len() / 2]
    }

    /// Blocks on which no other stands, in the order in which they came.
    #[must_use]
    pub fn leaves(&self) -> Vec<BlockId> {
        let mut is_leaf = vec![true; self.entries.len()];
        for prev in self.entries.iter().filter_map(|entry| entry.prev) {
            is_leaf[prev.0 as usize] = false;
        }
        self.ids().filter(|id| is_leaf[id.0 as usize]).collect()
    }

    /// Names a chain to somebody who may have another: its last blocks, then ever fewer, then the first.
    #[must_use]
    pub fn locator(&self, tip: BlockId) -> Vec<BlockHash> {
        let (mut hashes, mut step, mut at) = (Vec::new(), 1, Some(tip));
        while let Some(id) = at {
            let entry = self.entry(id);
            hashes.push(entry.hash);
            if hashes.len() > LOCATOR_DENSE {
                step *= 2;
            }
            at = (entry.height > 0)
                .then(|| entry.height.saturating_sub(step))
                .and_then(|height| self.ancestor(id, height));
        }
        hashes
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;
    use bitcoin::{CompactTarget, TxMerkleNode};
    use proptest::prelude::*;

    use super::*;

    fn header(prev: BlockHash, time: u32) -> Header {
        Header {
            version: bitcoin::block::Version::from_consensus(4),
            prev_blockhash: prev,
            merkle_root: TxMerkleNode::all_zeros(),
            time,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        }
    }

    /// Block `i + 1` stands on the block that `prevs[i]` picks.
    fn grown(prevs: &[u32]) -> Tree {
        let mut tree = Tree::new(header(BlockHash::all_zeros(), 0));
        for (at, pick) in prevs.iter().enumerate() {
            let prev = BlockId(pick % tree.len() as u32);
            tree.insert(header(tree.entry(prev).hash, at as u32 + 1), prev);
        }
        tree
    }

    proptest! {
        /// Long jumps lead to where single steps do.
        #[test]
        fn jumps_lead_where_steps_do(
            prevs in proptest::collection::vec(any::<u32>(), 1..60),
            more in 0..200u32,
            a in any::<u32>(),
            b in any::<u32>(),
            height in 0..250u32,
        ) {
            let mut prevs = prevs;
            let fixed = prevs.len() as u32;
            // A long chain upon one of them.
            prevs.extend((0..more).map(|step| if step == 0 { a % fixed } else { fixed + step }));
            let tree = grown(&prevs);
            let (a, b) = (BlockId(a % tree.len() as u32), BlockId(b % tree.len() as u32));
            let below = |id| std::iter::successors(Some(id), |id| tree.entry(*id).prev);
            prop_assert_eq!(tree.ancestor(a, height), below(a).find(|id| tree.entry(*id).height == height));
            prop_assert_eq!(Some(tree.fork(a, b)), below(a).find(|id| below(b).any(|other| other == *id)));
            prop_assert_eq!(tree.stands_on(a, b), below(a).any(|id| id == b));
            let leaves: Vec<BlockId> =
                tree.ids().filter(|id| !tree.ids().any(|other| tree.entry(other).prev == Some(*id))).collect();
            prop_assert_eq!(tree.leaves(), leaves);
        }
    }

    #[test]
    fn a_locator_names_few() {
        let tree = grown(&(0..1_000).collect::<Vec<u32>>());
        let tip = BlockId(1_000);
        let heights: Vec<u32> =
            tree.locator(tip).iter().map(|hash| tree.entry(tree.find(hash).expect("known")).height).collect();
        assert_eq!(heights[..12], [1_000, 999, 998, 997, 996, 995, 994, 993, 992, 991, 990, 988]);
        assert_eq!(heights.last(), Some(&0));
        assert!(heights.len() < 22, "{heights:?}");
    }

    #[test]
    fn the_median_is_of_eleven() {
        let tree = grown(&(0..20).collect::<Vec<u32>>());
        assert_eq!(tree.median_time_past(BlockId(20)), 15);
        assert_eq!(tree.median_time_past(BlockId(3)), 2);
        assert_eq!(tree.median_time_past(BlockId(0)), 0);
    }
}
