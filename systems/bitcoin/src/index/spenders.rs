//! Which transaction spends an output (`-txospenderindex`).
//!
//! - upon a block: each of its inputs' outputs, but its coinbase's, is spent by it, at its transaction's place;
//! - upon a block that is undone (`follow`): they are not spent any more.

use bitcoin::block::Block;
use bitcoin::consensus::encode::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, OutPoint};
use verity_nakamoto::BlockId;
use verity_storage::{Batch, Keyspace, KvRead as _};

use super::Part;
use super::follow::Follower;
use crate::chain::{BlockUndo, Chain, ChainError};

const SPENDERS: Keyspace = Keyspace("spenders");

/// The index.
#[derive(Debug)]
pub(super) struct Spenders {
    pub(super) part: Part,
}

fn each_input(block: &Block, mut each: impl FnMut(Vec<u8>, u32)) {
    for (place, tx) in (0_u32..).zip(&block.txdata).skip(1) {
        for input in &tx.input {
            each(serialize(&input.previous_output), place);
        }
    }
}

impl Follower for Spenders {
    const NAME: &'static str = "txospenderindex";

    fn best(&self) -> Option<BlockHash> {
        self.part.best
    }

    fn apply(&mut self, chain: &Chain, id: BlockId, block: &Block, _: &BlockUndo) -> Result<(), ChainError> {
        let (mut batch, hash) = (Batch::new(), chain.entry(id).hash);
        each_input(block, |key, place| {
            batch.put(SPENDERS, key, [&hash.as_byte_array()[..], &place.to_le_bytes()].concat());
        });
        self.part.write(batch, hash)
    }

    fn revert(&mut self, _: &Chain, _: BlockId, block: &Block, _: &BlockUndo) -> Result<(), ChainError> {
        let mut batch = Batch::new();
        each_input(block, |key, _| batch.delete(SPENDERS, key));
        self.part.write(batch, block.header.prev_blockhash)
    }
}

impl Spenders {
    /// The block whose transaction at this place spends an output.
    pub(super) fn find(&self, chain: &Chain, outpoint: &OutPoint) -> Result<Option<(BlockId, usize)>, ChainError> {
        let Some(value) = self.part.kv.get(SPENDERS, &serialize(outpoint))? else { return Ok(None) };
        let found = value.split_first_chunk::<32>().and_then(|(hash, place)| {
            let place = u32::from_le_bytes(place.try_into().ok()?);
            Some((chain.tree().find(&BlockHash::from_byte_array(*hash))?, usize::try_from(place).ok()?))
        });
        let broken = || ChainError::Corrupt("the index of spenders has a block that is none".to_owned());
        found.ok_or_else(broken).map(Some)
    }
}
