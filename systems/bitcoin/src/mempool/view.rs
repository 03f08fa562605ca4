//! What a mempool asks of the chain that it stands on.
//!
//! Deliberately absent: blocks.

use bitcoin::OutPoint;

use crate::chain::{Chain, ChainError, Coin};
use crate::script::Flags;

/// The chain, as far as a mempool sees it.
pub trait View {
    /// An unspent output of the chain.
    ///
    /// # Errors
    /// The disk's.
    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError>;

    /// The tip's height.
    fn height(&self) -> u32;

    /// The median time past of the block at a height up to the tip's, in seconds.
    fn median_time(&self, height: u32) -> u32;

    /// The rules for scripts of the next block.
    fn script_flags(&self) -> Flags;

    /// True if the tip is about as far as everybody's, at this moment in seconds since 1970.
    fn is_current(&self, now: u64) -> bool;
}

/// Seconds behind which a tip says little about how long transactions wait.
const TIP_AGE_MAX: u64 = 3 * 3_600;

impl View for Chain {
    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
        Self::coin(self, outpoint)
    }

    fn height(&self) -> u32 {
        Self::height(self)
    }

    fn median_time(&self, height: u32) -> u32 {
        let id = self.active(height).expect("no higher than the tip");
        self.tree().median_time_past(id)
    }

    fn script_flags(&self) -> Flags {
        Self::script_flags(self, self.tip())
    }

    fn is_current(&self, now: u64) -> bool {
        let (tip, best) = (self.entry(self.tip()), self.entry(self.best_header()));
        tip.work >= self.params().minimum_chain_work
            && u64::from(tip.header.time) + TIP_AGE_MAX >= now
            && tip.height + 1 >= best.height
    }
}
