//! Proofs that a block has a transaction.

use std::collections::BTreeSet;

use bitcoin::consensus::encode::{deserialize_partial, serialize_hex};
use bitcoin::hashes::Hash;
use bitcoin::{MerkleBlock, OutPoint, Txid};
use verity_nakamoto::BlockId;

use crate::session::rpc::call::{Args, Call, hash, hex};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;

/// So many outputs of a transaction are looked for among the unspent ones.
const OUTPUTS_TRIED: u32 = 10_000;

/// The block that has one of these, if an unspent output or an index tells.
fn find_block(call: &Call<'_, '_>, txids: &BTreeSet<Txid>) -> Result<Option<BlockId>, RpcError> {
    for txid in txids {
        for vout in 0..OUTPUTS_TRIED {
            if let Some(coin) = call.chain().coin(&OutPoint { txid: *txid, vout })? {
                return Ok(call.chain().active(coin.height));
            }
        }
    }
    match txids.first() {
        Some(txid) => call.transaction_block(txid),
        None => Ok(None),
    }
}

pub(crate) fn gettxoutproof(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let values = args.at(0).items()?;
    if values.is_empty() {
        return Err(RpcError::param("Parameter 'txids' cannot be empty"));
    }
    let mut txids = BTreeSet::new();
    for value in values {
        let txid = Txid::from_byte_array(hash(value, "txid")?);
        if !txids.insert(txid) {
            return Err(RpcError::param(format!("Invalid parameter, duplicated txid: {}", value.text()?)));
        }
    }
    let id = if args.at(1).is_null() {
        find_block(call, &txids)?.ok_or_else(|| RpcError::key("Transaction not yet in block"))?
    } else {
        call.find(&args.block_hash(1, "blockhash")?)?
    };
    let block = call.block(id)?;
    let ids: Vec<Txid> = block.txdata.iter().map(bitcoin::Transaction::compute_txid).collect();
    if ids.iter().filter(|txid| txids.contains(*txid)).count() != txids.len() {
        return Err(RpcError::key("Not all transactions found in specified or retrieved block"));
    }
    let proof = MerkleBlock::from_header_txids_with_predicate(&block.header, &ids, |txid| txids.contains(txid));
    Ok(serialize_hex(&proof).into())
}

pub(crate) fn verifytxoutproof(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let bytes = hex(args.at(0), "proof")?;
    let (proof, _) = deserialize_partial::<MerkleBlock>(&bytes)
        .map_err(|_| RpcError::misc("SpanReader::read(): end of data: iostream error"))?;
    let (mut matches, mut indexes) = (Vec::new(), Vec::new());
    if proof.extract_matches(&mut matches, &mut indexes).is_err() {
        return Ok(Json::Arr(Vec::new()));
    }
    let id = call.chain().tree().find(&proof.header.block_hash());
    let entry = id.filter(|id| call.chain().is_active(*id)).map(|id| call.chain().entry(id));
    let entry = entry.filter(|entry| entry.tx_count > 0);
    let entry = entry.ok_or_else(|| RpcError::key("Block not found in chain"))?;
    if entry.tx_count != proof.txn.num_transactions() {
        return Ok(Json::Arr(Vec::new()));
    }
    Ok(matches.into())
}
