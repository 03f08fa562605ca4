//! Figures of all coins as of each block (`-coinstatsindex`).
//!
//! - upon a block: what it makes is added to the figures of the one below, what it spends is taken out, and what nobody will ever
//!   spend is counted by its reason. They stand under the block's hash, so that those of a branch which does not count stay;
//! - upon a block that does not stand on the last one: it follows (`follow`).
//!
//! The hash of all coins is a product that a coin can be taken out of (`muhash`). It is kept whole for the last block alone,
//! written together with that block's figures.

use bitcoin::block::Block;
use bitcoin::consensus::Encodable as _;
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, OutPoint};
use verity_nakamoto::BlockId;
use verity_storage::{Batch, Keyspace, KvRead as _};

use super::follow::Follower;
use super::muhash::MuHash;
use super::{META, Part};
use crate::chain::{BlockUndo, Chain, ChainError, Coin, is_unspendable};

const STATS: Keyspace = Keyspace("stats");
const PRODUCT: &[u8] = b"product";
/// What an output counts beside its script, whatever keeps it.
const BOGOSIZE: u64 = 32 + 4 + 4 + 8 + 2;
/// Blocks whose coinbase was made again before anybody spent it.
const LOST: [(u32, &str); 2] = [
    (91_722, "00000000000271a2dc26e7667f8419f2e15416dc6955e5a6c6cdf3f2574dd08e"),
    (91_812, "00000000000af0aed4792b1acee3d966af36cf5def14935db8de83d6f9306f2f"),
];
const FIGURES: usize = 11;

/// How much an output counts.
pub(crate) fn bogosize(coin: &Coin) -> u64 {
    BOGOSIZE + coin.out.script_pubkey.len() as u64
}

/// The bytes of a coin that are hashed.
pub(crate) fn coin_bytes(outpoint: &OutPoint, coin: &Coin, out: &mut Vec<u8>) {
    out.clear();
    let written = "a vector takes all that is written to it";
    outpoint.consensus_encode(out).expect(written);
    ((coin.height << 1) | u32::from(coin.coinbase)).consensus_encode(out).expect(written);
    coin.out.consensus_encode(out).expect(written);
}

/// Figures as of a block. Amounts are in satoshi, and all but the first three are sums since the first block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The hash of the set of coins (MuHash3072), in the order of its bytes.
    pub muhash: [u8; 32],
    /// Coins.
    pub outputs: u128,
    /// How much they take, whatever keeps them.
    pub bogosize: u128,
    /// What they are worth.
    pub amount: u128,
    /// What blocks could have made.
    pub subsidy: u128,
    /// What inputs spent.
    pub spent: u128,
    /// What transactions made, without coinbases.
    pub made: u128,
    /// What coinbases made.
    pub coinbase: u128,
    /// The first block's coinbase.
    pub lost_genesis: u128,
    /// Coinbases that were made twice (BIP 30).
    pub lost_bip30: u128,
    /// Outputs whose scripts nothing unlocks.
    pub lost_scripts: u128,
    /// What coinbases could have taken and did not.
    pub lost_unclaimed: u128,
}

impl Stats {
    /// What nobody will ever spend.
    #[must_use]
    pub fn lost(&self) -> u128 {
        self.lost_genesis + self.lost_bip30 + self.lost_scripts + self.lost_unclaimed
    }

    fn figures(&mut self) -> [&mut u128; FIGURES] {
        [
            &mut self.outputs,
            &mut self.bogosize,
            &mut self.amount,
            &mut self.subsidy,
            &mut self.spent,
            &mut self.made,
            &mut self.coinbase,
            &mut self.lost_genesis,
            &mut self.lost_bip30,
            &mut self.lost_scripts,
            &mut self.lost_unclaimed,
        ]
    }

    fn encode(mut self) -> Vec<u8> {
        let hash = self.muhash;
        hash.into_iter().chain(self.figures().into_iter().flat_map(|figure| figure.to_le_bytes())).collect()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (hash, mut rest) = bytes.split_first_chunk::<32>()?;
        let mut stats = Self { muhash: *hash, ..Self::default() };
        for figure in stats.figures() {
            let (own, behind) = rest.split_first_chunk::<16>()?;
            (*figure, rest) = (u128::from_le_bytes(*own), behind);
        }
        rest.is_empty().then_some(stats)
    }

    fn add(&mut self, coin: &Coin) {
        self.outputs += 1;
        self.bogosize += u128::from(bogosize(coin));
        self.amount += u128::from(coin.out.value.to_sat());
    }

    fn remove(&mut self, coin: &Coin) {
        self.outputs -= 1;
        self.bogosize -= u128::from(bogosize(coin));
        self.amount -= u128::from(coin.out.value.to_sat());
    }
}

fn corrupt() -> ChainError {
    ChainError::Corrupt(
        "the index of coins' figures does not hold together; remove indexes/coinstatsindex, and it is made anew"
            .to_owned(),
    )
}

/// Calls `made` for each coin that a block makes and that was kept, and `spent` for each that it spends.
fn each_coin(
    block: &Block,
    undo: &BlockUndo,
    height: u32,
    made: &mut dyn FnMut(&OutPoint, &Coin),
    spent: &mut dyn FnMut(&OutPoint, &Coin),
) {
    // The first block's coins never were among the unspent ones.
    let genesis = height == 0;
    let lost = LOST.iter().any(|(at, hash)| *at == height && block.block_hash().to_string() == *hash);
    for (index, tx) in block.txdata.iter().enumerate() {
        let coinbase = index == 0;
        if genesis || (coinbase && lost) {
            continue;
        }
        let txid = tx.compute_txid();
        for (vout, out) in (0_u32..).zip(&tx.output) {
            if !is_unspendable(&out.script_pubkey) {
                made(&OutPoint { txid, vout }, &Coin { out: out.clone(), height, coinbase });
            }
        }
        let undone = index.checked_sub(1).and_then(|place| undo.txs.get(place));
        for (input, coin) in tx.input.iter().zip(undone.iter().flat_map(|undo| &undo.spent)) {
            spent(&input.previous_output, coin);
        }
    }
}

/// What this block made that nobody will ever spend.
fn count_lost(stats: &mut Stats, before: &Stats, block: &Block, height: u32, subsidy: u128) {
    if height == 0 {
        stats.lost_genesis += subsidy;
        return;
    }
    let lost = LOST.iter().any(|(at, hash)| *at == height && block.block_hash().to_string() == *hash);
    if lost {
        stats.lost_bip30 += subsidy;
    }
    let outs = block.txdata.iter().skip(usize::from(lost)).flat_map(|tx| &tx.output);
    let dead = outs.filter(|out| is_unspendable(&out.script_pubkey));
    stats.lost_scripts += dead.map(|out| u128::from(out.value.to_sat())).sum::<u128>();
    let came = stats.spent - before.spent + subsidy;
    let went = stats.made - before.made + stats.coinbase - before.coinbase + stats.lost() - before.lost();
    // A coinbase takes no more than there is: that is a rule of blocks.
    stats.lost_unclaimed += came.checked_sub(went).expect("no block makes more than it may");
}

/// The index.
#[derive(Debug)]
pub(super) struct CoinStats {
    pub(super) part: Part,
    /// As of the last block.
    product: MuHash,
    last: Stats,
}

impl CoinStats {
    pub(super) fn open(part: Part) -> Result<Self, ChainError> {
        let mut index = Self { part, product: MuHash::default(), last: Stats::default() };
        if let Some(best) = index.part.best {
            index.last = index.find(best)?.ok_or_else(corrupt)?;
            let product = index.part.kv.get(META, PRODUCT)?.and_then(|bytes| MuHash::decode(&bytes));
            index.product = product.ok_or_else(corrupt)?;
            if index.product.clone().finish() != index.last.muhash {
                return Err(corrupt());
            }
        }
        Ok(index)
    }

    /// Figures as of a block that was taken in once.
    pub(super) fn find(&self, hash: BlockHash) -> Result<Option<Stats>, ChainError> {
        let Some(bytes) = self.part.kv.get(STATS, hash.as_byte_array())? else { return Ok(None) };
        Stats::decode(&bytes).ok_or_else(corrupt).map(Some)
    }
}

impl Follower for CoinStats {
    const NAME: &'static str = "coinstatsindex";

    fn best(&self) -> Option<BlockHash> {
        self.part.best
    }

    fn apply(&mut self, chain: &Chain, id: BlockId, block: &Block, undo: &BlockUndo) -> Result<(), ChainError> {
        let (height, hash) = (chain.entry(id).height, chain.entry(id).hash);
        if height == 0 {
            (self.last, self.product) = (Stats::default(), MuHash::default());
        }
        let (mut stats, mut bytes) = (self.last, Vec::new());
        let mut removed = MuHash::default();
        let subsidy = u128::from(chain.params().subsidy(height));
        let before = stats;
        stats.subsidy += subsidy;
        let mut spent = Vec::new();
        each_coin(
            block,
            undo,
            height,
            &mut |outpoint, coin| {
                stats.add(coin);
                let value = u128::from(coin.out.value.to_sat());
                *(if coin.coinbase { &mut stats.coinbase } else { &mut stats.made }) += value;
                coin_bytes(outpoint, coin, &mut bytes);
                self.product.insert(&bytes);
            },
            &mut |outpoint, coin| spent.push((*outpoint, coin.clone())),
        );
        for (outpoint, coin) in spent {
            stats.remove(&coin);
            stats.spent += u128::from(coin.out.value.to_sat());
            coin_bytes(&outpoint, &coin, &mut bytes);
            removed.insert(&bytes);
        }
        self.product.divide(removed);
        count_lost(&mut stats, &before, block, height, subsidy);
        stats.muhash = self.product.clone().finish();
        self.last = stats;
        let mut batch = Batch::new();
        batch.put(STATS, hash.as_byte_array().to_vec(), stats.encode());
        batch.put(META, PRODUCT, self.product.encode());
        self.part.write(batch, hash)
    }

    fn revert(&mut self, chain: &Chain, id: BlockId, block: &Block, undo: &BlockUndo) -> Result<(), ChainError> {
        let prev = chain.entry(id).prev.expect("all chains have the first block");
        let below = chain.entry(prev).hash;
        let (mut removed, mut bytes, mut again) = (MuHash::default(), Vec::new(), Vec::new());
        each_coin(
            block,
            undo,
            chain.entry(id).height,
            &mut |outpoint, coin| {
                coin_bytes(outpoint, coin, &mut bytes);
                removed.insert(&bytes);
            },
            &mut |outpoint, coin| {
                let mut bytes = Vec::new();
                coin_bytes(outpoint, coin, &mut bytes);
                again.push(bytes);
            },
        );
        again.iter().for_each(|bytes| self.product.insert(bytes));
        self.product.divide(removed);
        self.last = self.find(below)?.ok_or_else(corrupt)?;
        if self.product.clone().finish() != self.last.muhash {
            return Err(corrupt());
        }
        let mut batch = Batch::new();
        batch.put(META, PRODUCT, self.product.encode());
        self.part.write(batch, below)
    }
}
