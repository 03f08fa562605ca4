//! Throwing old blocks away (`-prune`), with what they spent.
//!
//! - upon [`Chain::prune_up_to`]: files whose blocks are all that low go, but for the last [`KEPT`] blocks below the tip;
//! - upon [`Chain::prune_to_target`]: the oldest files go until the rest takes no more bytes than are wanted;
//! - upon a file that goes: first the coins reach stable storage, which then need no block of it any more; then the index says
//!   that its blocks are gone; then the file goes. After a crash the next start removes what the index does not name;
//! - upon an index that is not on stable storage yet ([`Chain::hold_pruning_at`]): what it would need again stays.
//!
//! HAZARD: what is left cannot be undone below the last [`KEPT`] blocks. A longer reorganisation stops the node, as Core's.
//!
//! Deliberately absent: headers, which are kept for ever, and the first block, which is part of the program.

use std::collections::BTreeSet;

use verity_nakamoto::BlockId;

use super::{Chain, ChainError};

/// So many blocks below the tip are always kept.
pub const KEPT: u32 = 288;
/// An index keeps so many blocks more than it needs.
const HELD_MORE: u32 = 11;
/// What the next piece of a file of blocks, and of one of what they spent, may add before the next look.
const ROOM: u64 = 17 << 20;
/// The same for small files (`-fastprune`).
const ROOM_SMALL: u64 = (1 << 20) + (16 << 10);

/// How blocks are thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prune {
    /// When an operator says so (`pruneblockchain`).
    ByHand,
    /// When files take more bytes than this.
    Target(u64),
}

impl Chain {
    /// How this node throws blocks away, if it does.
    #[must_use]
    pub fn prune(&self) -> Option<Prune> {
        self.config.prune
    }

    /// True if a block was had and thrown away.
    #[must_use]
    pub fn is_pruned(&self, id: BlockId) -> bool {
        let entry = self.entry(id);
        entry.tx_count > 0 && !entry.has_data
    }

    /// True if any was.
    #[must_use]
    pub fn has_pruned(&self) -> bool {
        self.tree().ids().any(|id| self.is_pruned(id))
    }

    /// Below this height of the tip nothing is thrown away.
    #[must_use]
    pub fn prune_after(&self) -> u32 {
        match (self.params.chain_name(), self.config.small_files) {
            ("main", _) => 100_000,
            ("regtest", true) => 100,
            _ => 1_000,
        }
    }

    /// The height of the last block of the chain that counts which was thrown away.
    #[must_use]
    pub fn pruned_height(&self) -> Option<u32> {
        let gone =
            |height: &u32| self.active(*height).is_some_and(|id| !self.entry(id).has_data || !self.store.has_undo(id));
        (1..=self.height()).rev().find(gone)
    }

    /// An index has blocks up to this height on stable storage; `None` if there is no such index.
    pub fn hold_pruning_at(&mut self, height: Option<u32>) {
        self.held_at = height;
    }

    /// Files that may go, up to a height, in order, with their bytes.
    fn files_to_prune(&self, height: u32) -> Vec<(u32, u64)> {
        let kept = self.height().checked_sub(KEPT);
        let held = self.held_at.map_or(Some(u32::MAX), |held| held.checked_sub(HELD_MORE));
        let Some(last) = kept.zip(held).map(|(kept, held)| height.min(kept).min(held)) else { return Vec::new() };
        self.store
            .files(|id| self.entry(id).height)
            .into_iter()
            .filter(|file| file.height_max <= last)
            .map(|file| (file.number, file.bytes))
            .collect()
    }

    /// Throws away what stands no higher. Whole files go, so some of it may stay.
    ///
    /// # Errors
    /// The disk's.
    pub fn prune_up_to(&mut self, height: u32) -> Result<(), ChainError> {
        let files = self.files_to_prune(height);
        self.drop_files(files.into_iter().map(|(number, _)| number).collect())
    }

    /// Throws away the oldest until no more is left than is wanted.
    ///
    /// # Errors
    /// The disk's.
    pub fn prune_to_target(&mut self) -> Result<(), ChainError> {
        let Some(Prune::Target(target)) = self.config.prune else { return Ok(()) };
        let room = if self.config.small_files { ROOM_SMALL } else { ROOM };
        let mut used = self.store.bytes() + room;
        if self.height() < self.prune_after() || used < target {
            return Ok(());
        }
        let mut files = BTreeSet::new();
        for (number, bytes) in self.files_to_prune(u32::MAX) {
            if used < target {
                break;
            }
            used -= bytes;
            files.insert(number);
        }
        self.drop_files(files)
    }

    fn drop_files(&mut self, files: BTreeSet<u32>) -> Result<(), ChainError> {
        if files.is_empty() {
            return Ok(());
        }
        // After a crash the coins go on from the tip, which needs none of these.
        self.flush()?;
        for id in self.store.forget(&files) {
            if id != BlockId::GENESIS {
                self.engine.on_pruned(id);
            }
        }
        self.store.write(self.engine.tree())?;
        self.store.remove(&files)
    }
}
