//! The chain as it must be: blocks that nodes showed, replayed from the first by a hand of their own.
//!
//! - a block has the work that it says, and the root of its transactions;
//! - a transaction spends coins that are there, once, and pays out no more than it takes in; coinbases wait for a hundred
//!   blocks, and make no more than the subsidy and the fees;
//! - what is left are the coins.
//!
//! Deliberately absent: scripts, whose verdict the library of Bitcoin Core gives to the nodes themselves.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::constants::genesis_block;
use bitcoin::pow::Work;
use bitcoin::{Block, BlockHash, Network, OutPoint, Transaction, Txid};

const SUBSIDY: u64 = 5_000_000_000;
const HALVING: u32 = 150;
const MATURITY: u32 = 100;

/// An unspent output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coin {
    pub(super) value: u64,
    height: u32,
    coinbase: bool,
}

/// What a chain leaves.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) coins: BTreeMap<OutPoint, Coin>,
    /// Which block has a transaction.
    pub(super) places: BTreeMap<Txid, BlockHash>,
    pub(super) height: u32,
}

impl Outcome {
    /// All money.
    pub(super) fn total(&self) -> u64 {
        self.coins.values().map(|coin| coin.value).sum()
    }
}

/// Blocks that were seen.
pub(super) struct Blocks {
    first: BlockHash,
    blocks: BTreeMap<BlockHash, Block>,
}

impl Blocks {
    pub(super) fn new() -> Self {
        let first = genesis_block(Network::Regtest);
        Self { first: first.block_hash(), blocks: BTreeMap::from([(first.block_hash(), first)]) }
    }

    pub(super) fn get(&self, hash: &BlockHash) -> Option<&Block> {
        self.blocks.get(hash)
    }

    /// Takes a block that a node showed for one of this hash.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn add(&mut self, hash: BlockHash, hex: &str) -> Result<(), String> {
        let block: Block = deserialize_hex(hex).map_err(|error| format!("block {hash} is none: {error}"))?;
        let worked = block.header.validate_pow(block.header.target()).is_ok_and(|own| own == hash);
        if !worked || !block.check_merkle_root() || block.header.bits != self.blocks[&self.first].header.bits {
            return Err(format!("what was shown for block {hash} is not it"));
        }
        self.blocks.insert(hash, block);
        Ok(())
    }

    /// The first block below this one, or itself, that nobody showed yet.
    pub(super) fn missing(&self, mut hash: BlockHash) -> Option<BlockHash> {
        while hash != self.first {
            match self.blocks.get(&hash) {
                Some(block) => hash = block.header.prev_blockhash,
                None => return Some(hash),
            }
        }
        None
    }

    /// From the first block to this one.
    fn path(&self, tip: BlockHash) -> Vec<&Block> {
        let below = |block: &&Block| self.blocks.get(&block.header.prev_blockhash);
        let mut path: Vec<&Block> = std::iter::successors(self.blocks.get(&tip), below).collect();
        path.reverse();
        path
    }

    /// The work of a chain.
    pub(super) fn work(&self, tip: BlockHash) -> Work {
        let mut each = self.path(tip).into_iter().map(|block| block.header.target().to_work());
        let first = each.next().expect("a chain has a first block");
        each.fold(first, |all, one| all + one)
    }

    /// Replays a chain.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn replay(&self, tip: BlockHash) -> Result<Outcome, String> {
        let mut outcome = Outcome::default();
        for (height, block) in self.path(tip).into_iter().enumerate().skip(1) {
            outcome.height = height as u32;
            outcome.connect(block).map_err(|what| format!("block {} at {height}: {what}", block.block_hash()))?;
        }
        Ok(outcome)
    }
}

impl Outcome {
    fn connect(&mut self, block: &Block) -> Result<(), String> {
        let (coinbase, others) = block.txdata.split_first().ok_or("it is empty")?;
        if !coinbase.is_coinbase() || others.iter().any(Transaction::is_coinbase) {
            return Err("its first transaction alone is to be a coinbase".to_owned());
        }
        let mut fees = 0;
        for tx in others {
            fees += self.spend(tx)?;
            self.make(tx, block.block_hash(), false)?;
        }
        let made: u64 = coinbase.output.iter().map(|output| output.value.to_sat()).sum();
        if made > (SUBSIDY >> (self.height / HALVING)) + fees {
            return Err(format!("it makes {made} out of {fees} of fees"));
        }
        self.make(coinbase, block.block_hash(), true)
    }

    /// Takes what a transaction spends; answers with its fee.
    fn spend(&mut self, tx: &Transaction) -> Result<u64, String> {
        let txid = tx.compute_txid();
        let mut taken = 0;
        for input in &tx.input {
            let coin = self.coins.remove(&input.previous_output);
            let coin = coin.ok_or_else(|| format!("{txid} spends {}, which is not there", input.previous_output))?;
            if coin.coinbase && coin.height + MATURITY > self.height {
                return Err(format!("{txid} spends a coinbase too early"));
            }
            taken += coin.value;
        }
        let paid: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
        taken.checked_sub(paid).ok_or_else(|| format!("{txid} pays {paid} out of {taken}"))
    }

    fn make(&mut self, tx: &Transaction, block: BlockHash, coinbase: bool) -> Result<(), String> {
        let (txid, height) = (tx.compute_txid(), self.height);
        if let Some(before) = self.places.insert(txid, block) {
            return Err(format!("{txid} is in block {before} already"));
        }
        for (vout, output) in tx.output.iter().enumerate().filter(|(_, output)| !output.script_pubkey.is_op_return()) {
            let coin = Coin { value: output.value.to_sat(), height, coinbase };
            self.coins.insert(OutPoint::new(txid, vout as u32), coin);
        }
        Ok(())
    }
}

/// Judges what waits at a node: each was made by somebody, spends what is there, and nothing twice.
///
/// # Errors
/// What is wrong with it.
pub(super) fn judge_pool(pool: &BTreeMap<Txid, &Transaction>, outcome: &Outcome) -> Result<(), String> {
    let mut spent = BTreeSet::new();
    for (txid, tx) in pool {
        if let Some(block) = outcome.places.get(txid) {
            return Err(format!("{txid} waits, and is in block {block}"));
        }
        for coin in tx.input.iter().map(|input| input.previous_output) {
            if !spent.insert(coin) {
                return Err(format!("{coin} is spent by two that wait"));
            }
            let waits = pool.get(&coin.txid).is_some_and(|parent| (coin.vout as usize) < parent.output.len());
            if !waits && !outcome.coins.contains_key(&coin) {
                return Err(format!("{txid} waits, and spends {coin}, which is not there"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::consensus::encode::serialize_hex;

    #[test]
    fn the_first_block_alone_leaves_nothing() {
        let blocks = Blocks::new();
        let outcome = blocks.replay(blocks.first).expect("it is empty");
        assert_eq!((outcome.height, outcome.total()), (0, 0));
        assert_eq!(blocks.missing(blocks.first), None);
    }

    #[test]
    fn a_block_that_is_not_what_was_asked_for_is_refused() {
        let mut blocks = Blocks::new();
        let mut block = genesis_block(Network::Regtest);
        block.txdata[0].output[0].value = bitcoin::Amount::ZERO;
        assert!(blocks.add(blocks.first, &serialize_hex(&block)).is_err());
    }

    #[test]
    fn money_out_of_nothing_and_coins_that_are_not_there_are_seen() {
        let first = genesis_block(Network::Regtest);
        let mut greedy = first.clone();
        greedy.txdata[0].output[0].value = bitcoin::Amount::from_sat(SUBSIDY + 1);
        assert!(Outcome { height: 1, ..Outcome::default() }.connect(&greedy).is_err());
        let mut thief = first.clone();
        let mut tx = first.txdata[0].clone();
        tx.input[0].previous_output = OutPoint::new(first.txdata[0].compute_txid(), 0);
        thief.txdata.push(tx);
        assert!(Outcome { height: 1, ..Outcome::default() }.connect(&thief).is_err());
        assert!(Outcome { height: 1, ..Outcome::default() }.connect(&first).is_ok());
    }
}
