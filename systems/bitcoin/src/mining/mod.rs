//! The next block: which transactions go into it, and what is left for whoever searches for its nonce.
//!
//! - chunks of the mempool are taken as long as they fit, the best rate first; of a cluster of which one does not fit, none
//!   behind it is taken, since it may rest on that one;
//! - the coinbase begins with the height (BIP 34), pays out all there is, commits to witnesses (BIP 141), and is bound to its
//!   height by its lock time, so that no two are ever the same;
//! - the time is the clock's, or the first that is allowed;
//! - the version says for which rules to come the block stands ([`signal`]).
//!
//! Deliberately absent: the search, and a judgement of the block: [`Chain::check_template`] has that.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Block, Header, Version as BlockVersion};
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid, Witness, WitnessMerkleNode,
};
use verity_nakamoto::{BlockId, next_bits};

use crate::chain::sigops::{WITNESS_SCALE, legacy_sigops};
use crate::chain::transaction::{BLOCK_WEIGHT_MAX, is_final};
use crate::chain::{COMMITMENT_HEAD, Chain, ChainError, SIGOPS_COST_MAX, height_push, witness_commitment};
use crate::mempool::{FeeFraction, Mempool};

pub mod signal;
mod work;

pub use work::{TemplateError, Work, script_of_address};

/// Kept free for the coinbase's outputs.
const COINBASE_SIGOPS: u64 = 400;
/// So many chunks in a row that do not fit are enough, once the block is nearly full.
const FAILURES_MAX: u32 = 1_000;
const FULL_ENOUGH: u64 = 4_000;
/// The first block of a period may be so many seconds earlier than the one below it (BIP 94), and no more.
const TIMEWARP_SECONDS: u32 = 600;
/// A coinbase that is kept as it is, in case its lock time is looked at.
const COINBASE_SEQUENCE: Sequence = Sequence(0xffff_fffe);

/// What a template is to be.
#[derive(Clone, Debug)]
pub struct TemplateOptions {
    /// Who gets the reward.
    pub script: ScriptBuf,
    /// No more than this weight (`-blockmaxweight`).
    pub weight_max: u64,
    /// Nothing that pays less, in satoshi per 1,000 vbytes (`-blockmintxfee`).
    pub fee_rate_min: u64,
    /// Take what waits in the mempool.
    pub use_mempool: bool,
    /// Left free in the coinbase's weight (`-blockreservedweight`).
    pub reserved_weight: u64,
    /// The block's version, if an operator has set one (`-blockversion`).
    pub version: Option<i32>,
}

impl Default for TemplateOptions {
    fn default() -> Self {
        Self {
            script: ScriptBuf::from(vec![0x51]),
            weight_max: BLOCK_WEIGHT_MAX,
            fee_rate_min: 1,
            use_mempool: true,
            reserved_weight: 8_000,
            version: None,
        }
    }
}

/// A block without its work.
#[derive(Clone, Debug)]
pub struct Template {
    /// Complete, with coinbase, witness commitment and Merkle root; the nonce is 0.
    pub block: Block,
    /// What each transaction pays; the first's is the negative sum.
    pub fees: Vec<i64>,
    /// What each one's signature operations cost.
    pub sigops: Vec<u64>,
    /// Its height.
    pub height: u32,
    /// All that the coinbase may pay out.
    pub value: Amount,
    /// The output that commits to witnesses.
    pub witness_commitment: ScriptBuf,
}

/// Makes a block upon the tip.
///
/// # Errors
/// The disk's.
pub fn assemble(chain: &Chain, mempool: &Mempool, now: u64, options: &TemplateOptions) -> Result<Template, ChainError> {
    let tip = chain.tip();
    let height = chain.height() + 1;
    let mut chosen = Chosen::new(options);
    if options.use_mempool {
        chosen.fill(mempool, height, chain.tree().median_time_past(tip), options);
    }
    let fees: u64 = chosen.entries.iter().map(|entry| entry.fee).sum();
    let value = Amount::from_sat(fees + chain.params().subsidy(height));
    let mut coinbase = coinbase(height, value, options.script.clone());
    let sum = i64::try_from(fees).expect("no more than there is money");
    let of_coinbase = legacy_sigops(&coinbase) as u64 * WITNESS_SCALE.unsigned_abs();
    let rest = || chosen.entries.iter();
    let fees = std::iter::once(-sum).chain(rest().map(|entry| entry.fee as i64)).collect();
    let sigops = std::iter::once(of_coinbase).chain(rest().map(|entry| entry.sigops)).collect();
    let witness_commitment = commitment(chosen.entries.iter().map(|entry| &entry.tx));
    coinbase.output.push(TxOut { value: Amount::ZERO, script_pubkey: witness_commitment.clone() });
    if height >= chain.params().segwit_height {
        coinbase.input[0].witness = Witness::from_slice(&[[0; 32]]);
    }
    let txdata = std::iter::once(coinbase).chain(chosen.entries.into_iter().map(|entry| entry.tx)).collect();
    let header = Header {
        version: BlockVersion::from_consensus(
            options.version.unwrap_or_else(|| signal::version(chain.tree(), tip, chain.params())),
        ),
        prev_blockhash: chain.entry(tip).hash,
        merkle_root: TxMerkleNode::all_zeros(),
        time: u32::try_from(now).unwrap_or(u32::MAX).max(time_min(chain, tip)),
        bits: chain.entry(tip).header.bits,
        nonce: 0,
    };
    let mut block = Block { header, txdata };
    block.header.merkle_root = block.compute_merkle_root().expect("there is a coinbase");
    block.header.bits = next_bits(chain.tree(), tip, block.header.time, &chain.params().headers.pow);
    Ok(Template { block, fees, sigops, height, value, witness_commitment })
}

/// Upon a change of a template's transactions (`generateblock`): what the coinbase and the header say of them is said anew.
pub fn commit_anew(block: &mut Block) {
    if let Some(at) = witness_commitment(block) {
        let script = commitment(block.txdata.iter().skip(1));
        block.txdata[0].output[at].script_pubkey = script;
    }
    block.header.merkle_root = block.compute_merkle_root().unwrap_or(TxMerkleNode::all_zeros());
}

/// The earliest time of a block upon this one.
#[must_use]
pub fn time_min(chain: &Chain, prev: BlockId) -> u32 {
    let (tree, below) = (chain.tree(), chain.entry(prev));
    let median = tree.median_time_past(prev) + 1;
    let begins_period = (below.height + 1).is_multiple_of(chain.params().headers.pow.interval());
    if begins_period { median.max(below.header.time.saturating_sub(TIMEWARP_SECONDS)) } else { median }
}

/// Brings a template's time up to the clock's, and its target with it where that goes by the time.
pub fn update_time(chain: &Chain, header: &mut Header, now: u64) {
    let tip = chain.tip();
    let time = u32::try_from(now).unwrap_or(u32::MAX).max(time_min(chain, tip));
    header.time = header.time.max(time);
    if chain.params().headers.pow.allow_min_difficulty {
        header.bits = next_bits(chain.tree(), tip, header.time, &chain.params().headers.pow);
    }
}

/// The script of an output that commits to the witnesses of these and a coinbase.
fn commitment<'a>(txs: impl Iterator<Item = &'a Transaction>) -> ScriptBuf {
    let hashes = std::iter::once([0; 32]).chain(txs.map(|tx| tx.compute_wtxid().to_byte_array()));
    let root = bitcoin::merkle_tree::calculate_root(hashes.map(WitnessMerkleNode::from_byte_array));
    let root = root.expect("the coinbase counts");
    let commitment = Block::compute_witness_commitment(&root, &[0; 32]).to_byte_array();
    ScriptBuf::from([&COMMITMENT_HEAD[..], &commitment].concat())
}

/// The coinbase of a block at this height, without what commits to witnesses.
fn coinbase(height: u32, value: Amount, script: ScriptBuf) -> Transaction {
    let mut script_sig = height_push(height);
    if height <= 16 {
        // One byte alone is no script of a coinbase.
        script_sig.push(0);
    }
    let input = TxIn {
        previous_output: OutPoint::null(),
        script_sig: ScriptBuf::from(script_sig),
        sequence: COINBASE_SEQUENCE,
        witness: Witness::new(),
    };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(height - 1),
        input: vec![input],
        output: vec![TxOut { value, script_pubkey: script }],
    }
}

struct Entry {
    tx: Transaction,
    fee: u64,
    sigops: u64,
}

/// What goes into the block, besides the coinbase.
struct Chosen {
    entries: Vec<Entry>,
    weight: u64,
    sigops: u64,
}

impl Chosen {
    fn new(options: &TemplateOptions) -> Self {
        Self { entries: Vec::new(), weight: options.reserved_weight, sigops: COINBASE_SIGOPS }
    }

    fn fill(&mut self, mempool: &Mempool, height: u32, median_time: u32, options: &TemplateOptions) {
        let (mut skipped, mut failures) = (std::collections::BTreeSet::new(), 0);
        let rate_min = FeeFraction::new(i64::try_from(options.fee_rate_min).unwrap_or(i64::MAX), 1_000);
        for (cluster, rate, txids) in mempool.chunks() {
            if skipped.contains(&cluster) {
                continue;
            }
            let vsize_rate = FeeFraction::new(rate.fee, rate.size.div_ceil(4));
            if vsize_rate.cmp_rate(rate_min).is_lt() {
                return;
            }
            if self.take(mempool, rate.size, txids, (height, median_time), options) {
                failures = 0;
                continue;
            }
            skipped.insert(cluster);
            failures += 1;
            if failures > FAILURES_MAX && self.weight + FULL_ENOUGH > options.weight_max {
                return;
            }
        }
    }

    /// Takes a chunk, if it fits.
    fn take(
        &mut self,
        mempool: &Mempool,
        weight: u64,
        txids: &[Txid],
        (height, median_time): (u32, u32),
        options: &TemplateOptions,
    ) -> bool {
        let entries: Vec<_> = txids.iter().filter_map(|txid| mempool.get(txid)).collect();
        let sigops: u64 = entries.iter().map(|entry| entry.sigops_cost).sum();
        let fits = self.weight + weight < options.weight_max && self.sigops + sigops < SIGOPS_COST_MAX.unsigned_abs();
        if !fits || !entries.iter().all(|entry| is_final(&entry.tx, height, median_time)) {
            return false;
        }
        for entry in entries {
            self.weight += entry.weight;
            self.sigops += entry.sigops_cost;
            let (tx, fee) = ((*entry.tx).clone(), entry.fee.to_sat());
            self.entries.push(Entry { tx, fee, sigops: entry.sigops_cost });
        }
        true
    }
}

#[cfg(test)]
mod tests;
