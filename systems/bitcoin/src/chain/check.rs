//! What can be said of a block without its coins.
//!
//! First what its bytes alone say ([`alone`]), then what they say where it stands ([`in_place`]). The order of the rules is
//! that of the network's nodes, since a block that breaks two is refused by the name of the first.

use bitcoin::block::Block;
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::{Script, Txid};
use verity_nakamoto::{BlockId, Tree, has_work};

use super::transaction::{BLOCK_WEIGHT_MAX, check_transaction, is_final};
use super::{BlockReject, RejectKind, merkle, signet, sigops};
use crate::params::Params;

/// A block's signature operations cost no more in all.
pub const SIGOPS_COST_MAX: i64 = 80_000;
/// A script that commits to witnesses has so many bytes at least.
const COMMITMENT_BYTES: usize = 38;
/// And begins with these: `OP_RETURN`, a push of 36 bytes, and BIP 141's mark.
pub const COMMITMENT_HEAD: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

pub(super) fn reject(kind: RejectKind, reason: impl Into<String>, debug: impl Into<String>) -> BlockReject {
    BlockReject { kind, reason: reason.into(), debug: debug.into() }
}

/// Which checks are left out for a block that was not searched for yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) work: bool,
    pub(super) merkle: bool,
}

impl Asked {
    pub(super) const ALL: Self = Self { work: true, merkle: true };
}

/// What its bytes alone say. Answers with its transactions' ids.
pub(super) fn alone(block: &Block, params: &Params, asked: Asked) -> Result<Vec<Txid>, BlockReject> {
    use RejectKind::{Consensus, InvalidHeader};
    let header = &block.header;
    if asked.work && !has_work(header.block_hash(), header.bits, params.headers.pow.limit) {
        return Err(reject(InvalidHeader, "high-hash", "proof of work failed"));
    }
    if let Some(challenge) = params.signet_challenge.as_ref().filter(|_| asked.work)
        && block.block_hash() != params.genesis.block_hash()
        && !signet::is_signed(block, challenge)
    {
        return Err(reject(Consensus, "bad-signet-blksig", "signet block signature validation failure"));
    }
    let txids: Vec<Txid> = block.txdata.iter().map(bitcoin::Transaction::compute_txid).collect();
    if asked.merkle {
        root_holds(block, &txids)?;
    }
    let base: usize = block.txdata.iter().map(bitcoin::Transaction::base_size).sum();
    let base = base + 80 + bitcoin::VarInt(block.txdata.len() as u64).size();
    if block.txdata.is_empty() || base as u64 * 4 > BLOCK_WEIGHT_MAX {
        return Err(reject(Consensus, "bad-blk-length", "size limits failed"));
    }
    if !block.txdata[0].is_coinbase() {
        return Err(reject(Consensus, "bad-cb-missing", "first tx is not coinbase"));
    }
    if block.txdata[1..].iter().any(bitcoin::Transaction::is_coinbase) {
        return Err(reject(Consensus, "bad-cb-multiple", "more than one coinbase"));
    }
    for (tx, txid) in block.txdata.iter().zip(&txids) {
        check_transaction(tx)
            .map_err(|reason| reject(Consensus, reason, format!("Transaction check failed (tx hash {txid}) ")))?;
    }
    let sigops: i64 = block.txdata.iter().map(|tx| i64::from(sigops::legacy_sigops(tx))).sum();
    if sigops * sigops::WITNESS_SCALE > SIGOPS_COST_MAX {
        return Err(reject(Consensus, "bad-blk-sigops", "out-of-bounds SigOpCount"));
    }
    Ok(txids)
}

/// Which output of the coinbase commits to witnesses: the last that looks like it (BIP 141).
#[must_use]
pub fn witness_commitment(block: &Block) -> Option<usize> {
    let outputs = &block.txdata.first()?.output;
    outputs.iter().rposition(|output| {
        let script = output.script_pubkey.as_bytes();
        script.len() >= COMMITMENT_BYTES && script.starts_with(&COMMITMENT_HEAD)
    })
}

/// What a coinbase must begin with: its height (BIP 34).
#[must_use]
pub fn height_push(height: u32) -> Vec<u8> {
    bitcoin::script::Builder::new().push_int(i64::from(height)).into_script().into_bytes()
}

/// Are these the transactions that the header speaks of? A list whose end is repeated has the same root (CVE-2012-2459).
fn root_holds(block: &Block, txids: &[Txid]) -> Result<(), BlockReject> {
    use RejectKind::Mutated;
    let (root, repeated) = merkle::root(txids.iter().map(|txid| txid.to_byte_array()).collect());
    if root != block.header.merkle_root.to_byte_array() {
        return Err(reject(Mutated, "bad-txnmrklroot", "hashMerkleRoot mismatch"));
    }
    if repeated {
        return Err(reject(Mutated, "bad-txns-duplicate", "duplicate transaction"));
    }
    Ok(())
}

/// Are these the witnesses that the first transaction commits to, or none where nothing does? It is a coinbase.
fn witnesses_hold(block: &Block, segwit: bool) -> Result<(), BlockReject> {
    use RejectKind::Mutated;
    let commitment = if segwit { witness_commitment(block) } else { None };
    let place = "CheckWitnessMalleation :";
    if let Some(at) = commitment {
        let reserved = &block.txdata[0].input[0].witness;
        let Some(nonce) = reserved.nth(0).filter(|nonce| nonce.len() == 32 && reserved.len() == 1) else {
            let debug = format!("{place} invalid witness reserved value size");
            return Err(reject(Mutated, "bad-witness-nonce-size", debug));
        };
        let both = [&merkle::witness_root(block)[..], nonce].concat();
        let expected = sha256d::Hash::hash(&both).to_byte_array();
        let script = block.txdata[0].output[at].script_pubkey.as_bytes();
        if script[COMMITMENT_HEAD.len()..COMMITMENT_BYTES] != expected {
            let debug = format!("{place} witness merkle commitment mismatch");
            return Err(reject(Mutated, "bad-witness-merkle-match", debug));
        }
    } else if block.txdata.iter().any(|tx| tx.input.iter().any(|input| !input.witness.is_empty())) {
        return Err(reject(Mutated, "unexpected-witness", format!("{place} unexpected witness data found")));
    }
    Ok(())
}

/// Why a block's transactions are not those that its header speaks of, in the network's words; another block of that
/// header may be good. `segwit` if it may commit to witnesses.
#[must_use]
pub fn mutation(block: &Block, segwit: bool) -> Option<String> {
    let txids: Vec<Txid> = block.txdata.iter().map(bitcoin::Transaction::compute_txid).collect();
    let has_coinbase = block.txdata.first().is_some_and(bitcoin::Transaction::is_coinbase);
    let witnesses = || if has_coinbase { witnesses_hold(block, segwit) } else { Ok(()) };
    if let Err(refused) = root_holds(block, &txids).and_then(|()| witnesses()) {
        return Some(refused.to_string());
    }
    // Sixty-four bytes can be read as two hashes of the tree.
    let ambiguous = !has_coinbase && block.txdata.iter().any(|tx| tx.base_size() == 64);
    ambiguous.then(|| "a transaction of 64 bytes and no coinbase".to_owned())
}

/// What they say where it stands.
pub(super) fn in_place(block: &Block, tree: &Tree, prev: BlockId, params: &Params) -> Result<(), BlockReject> {
    use RejectKind::Consensus;
    let height = tree.entry(prev).height + 1;
    let median = || tree.median_time_past(prev);
    let cutoff = if height >= params.csv_height { median() } else { block.header.time };
    if block.txdata.iter().any(|tx| !is_final(tx, height, cutoff)) {
        return Err(reject(Consensus, "bad-txns-nonfinal", "non-final transaction"));
    }
    let script: &Script = &block.txdata[0].input[0].script_sig;
    if height >= params.headers.bip34_height && !script.as_bytes().starts_with(&height_push(height)) {
        return Err(reject(Consensus, "bad-cb-height", "block height mismatch in coinbase"));
    }
    witnesses_hold(block, height >= params.segwit_height)?;
    if block.weight().to_wu() > BLOCK_WEIGHT_MAX {
        return Err(reject(Consensus, "bad-blk-weight", "ContextualCheckBlock : weight limit failed"));
    }
    Ok(())
}
