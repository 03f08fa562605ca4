//! How an index whose content is as of one block goes to another: it undoes blocks down to where both part, and adds the rest.
//!
//! A block that is taken out of the chain changes nothing by itself: it is undone once another comes in its stead.

use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::block::Block;
use verity_nakamoto::BlockId;

use crate::chain::{BlockUndo, Chain, ChainError};

/// An index of this kind.
pub(super) trait Follower {
    /// Its name, as Core has it.
    const NAME: &'static str;

    /// Which block it is as of.
    fn best(&self) -> Option<BlockHash>;

    /// Adds the block that stands on that; the first if there is none, whatever was there.
    fn apply(&mut self, chain: &Chain, id: BlockId, block: &Block, undo: &BlockUndo) -> Result<(), ChainError>;

    /// Undoes that block.
    fn revert(&mut self, chain: &Chain, id: BlockId, block: &Block, undo: &BlockUndo) -> Result<(), ChainError>;
}

fn stored<F: Follower>(chain: &Chain, id: BlockId) -> Result<(Arc<Block>, BlockUndo), ChainError> {
    let gone = || {
        ChainError::Corrupt(format!(
            "{} best block of the index goes beyond pruned data (including undo data): block {} is not there. Please disable the \
             index or reindex (which will download the whole blockchain again)",
            F::NAME,
            chain.entry(id).hash
        ))
    };
    Ok((chain.block(id)?.ok_or_else(gone)?, chain.undo(id)?.ok_or_else(gone)?))
}

/// Upon a block that is connected, or was while nobody looked.
pub(super) fn follow<F: Follower>(
    index: &mut F,
    chain: &Chain,
    id: BlockId,
    block: &Block,
    undo: &BlockUndo,
) -> Result<(), ChainError> {
    let tree = chain.tree();
    let last = index.best().and_then(|best| tree.find(&best));
    if last.is_some_and(|last| tree.stands_on(last, id)) {
        return Ok(());
    }
    if let Some(prev) = chain.entry(id).prev {
        let fork = last.map(|last| tree.fork(last, prev));
        let mut at = last;
        while let Some(id) = at.filter(|id| Some(*id) != fork) {
            let (block, undo) = stored::<F>(chain, id)?;
            index.revert(chain, id, &block, &undo)?;
            at = chain.entry(id).prev;
        }
        let from = fork.map_or(0, |fork| chain.entry(fork).height + 1);
        for height in from..=chain.entry(prev).height {
            let id = tree.ancestor(prev, height).expect("it is no higher");
            let (block, undo) = stored::<F>(chain, id)?;
            index.apply(chain, id, &block, &undo)?;
        }
    }
    index.apply(chain, id, block, undo)
}
