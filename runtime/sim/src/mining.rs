//! Miners in virtual time: blocks come at random, as often as hash power and difficulty say, and each side follows the chain that
//! `verity-nakamoto` chooses.
//!
//! - [`race`]: an attacker builds a branch in secret against a payment, and shows it once it is ahead (Bitcoin, §11);
//! - [`selfish`]: a miner withholds its blocks so that others' are wasted (Eyal & Sirer, 2014), while difficulty follows what is
//!   seen of all.
//!
//! The headers are real, with their work, their times and their retargets; the engine that ships accepts, judges and reverts
//! them. What is drawn are the moments and who is first.
//!
//! Deliberately absent: transactions, and a network. Whoever shows a block shows it to all at once; where two compete, `gamma`
//! says how much of the honest power heard of the attacker's first.

mod race;
mod selfish;

pub use race::{Race, Raced, race};
pub use selfish::{Selfish, SelfishOutcome, selfish};

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash as _;
use bitcoin::pow::{CompactTarget, Target};
use bitcoin::{BlockHash, TxMerkleNode};
use fastrand::Rng;
use verity_nakamoto::{BlockId, Engine, HeaderRules, Output, PowParams, has_work, next_bits};

/// Seconds between blocks, if difficulty is right.
const SPACING: u32 = 600;
/// Blocks of a period.
const PERIOD: u32 = 144;
/// No target is above it: half of all hashes meet it, so that real work costs little.
const LIMIT: u32 = 0x207f_ffff;
/// When worlds begin, in seconds since 1970.
const START: u32 = 1_600_000_000;

fn rules(retargets: bool) -> HeaderRules {
    let pow = PowParams {
        limit: Target::from_compact(CompactTarget::from_consensus(LIMIT)),
        spacing: SPACING,
        timespan: SPACING * PERIOD,
        allow_min_difficulty: false,
        enforce_bip94: false,
        no_retargeting: !retargets,
    };
    HeaderRules { pow, bip34_height: 0, bip66_height: 0, bip65_height: 0 }
}

/// A header upon another, with its work. `mark` tells apart who found it, and when.
fn mined(prev: BlockHash, bits: CompactTarget, time: u32, mark: u64) -> Header {
    let mut root = [0; 32];
    root[..8].copy_from_slice(&mark.to_le_bytes());
    let mut header = Header {
        version: Version::from_consensus(4),
        prev_blockhash: prev,
        merkle_root: TxMerkleNode::from_byte_array(root),
        time,
        bits,
        nonce: 0,
    };
    let limit = Target::from_compact(CompactTarget::from_consensus(LIMIT));
    while !has_work(header.block_hash(), bits, limit) {
        header.nonce += 1;
    }
    header
}

/// One side's view: what it has seen, and the chain that it follows.
#[derive(Clone, Debug)]
struct View {
    engine: Engine,
    reverts: u32,
}

impl View {
    fn new(bits: CompactTarget, retargets: bool) -> Self {
        let genesis = mined(BlockHash::all_zeros(), bits, START, 0);
        Self { engine: Engine::new(genesis, rules(retargets)), reverts: 0 }
    }

    /// Takes a block in, and follows the best chain.
    fn see(&mut self, header: &Header) -> BlockId {
        let (id, _) = self.engine.on_header(header, header.time).expect("miners keep the rules");
        self.engine.on_block(id, 1);
        while let Some(output) = self.engine.step() {
            match output {
                Output::Revert(_) => {
                    self.engine.on_reverted();
                    self.reverts += 1;
                }
                Output::Judge(id) => self.engine.on_verdict(id, true),
            }
        }
        id
    }

    fn hash(&self, id: BlockId) -> BlockHash {
        self.engine.tree().entry(id).hash
    }

    /// The next block upon `prev`, at this moment or as soon behind it as the rules allow.
    fn mine(&self, prev: BlockId, time: f64, mark: u64) -> Header {
        let tree = self.engine.tree();
        let time = (time as u32).max(tree.median_time_past(prev) + 1);
        let bits = next_bits(tree, prev, time, &self.engine.rules().pow);
        mined(self.hash(prev), bits, time, mark)
    }

    /// How many hashes the next block upon `prev` takes on average.
    fn hashes(&self, prev: BlockId, time: f64) -> f64 {
        let bits = next_bits(self.engine.tree(), prev, time as u32, &self.engine.rules().pow);
        Target::from_compact(bits).to_work().log2().exp2()
    }
}

/// A time that is waited for something which comes by chance, so long on average.
fn wait(rng: &mut Rng, mean: f64) -> f64 {
    // Never the logarithm of zero.
    -(1.0 - rng.f64()).ln() * mean
}
