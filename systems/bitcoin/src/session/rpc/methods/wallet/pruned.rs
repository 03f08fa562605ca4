//! Transactions that a wallet is shown with a proof, since their blocks are thrown away, and that it is told to forget.

use std::sync::Arc;

use bitcoin::MerkleBlock;
use bitcoin::consensus::encode::deserialize_partial;

use super::{failed, here, save};
use crate::session::rpc::call::{Args, Call, hex};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::render::codec::decode_transaction;
use crate::wallet::Place;

pub(super) fn importprunedfunds(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let tx = decode_transaction(args.text(0)?);
    let tx = tx.ok_or_else(|| RpcError::decode("TX decode failed. Make sure the tx has at least one input."))?;
    let bytes = hex(args.at(1), "proof")?;
    let (proof, _) = deserialize_partial::<MerkleBlock>(&bytes)
        .map_err(|_| RpcError::misc("SpanReader::read(): end of data: iostream error"))?;
    let (mut matches, mut indexes) = (Vec::new(), Vec::new());
    if proof.extract_matches(&mut matches, &mut indexes).is_err() {
        return Err(RpcError::key("Something wrong with merkleblock"));
    }
    let here = here(call)?;
    let chain = here.node.chain();
    let id = chain.tree().find(&proof.header.block_hash()).filter(|id| chain.is_active(*id));
    let entry = id.map(|id| chain.entry(id)).ok_or_else(|| RpcError::key("Block not found in chain"))?;
    let txid = tx.compute_txid();
    let at = matches.iter().position(|other| *other == txid);
    let at = at.ok_or_else(|| RpcError::key("Transaction given doesn't exist in proof"))?;
    let place = Place::Block { hash: entry.hash, height: entry.height, index: indexes[at], time: entry.header.time };
    here.wallet.derive();
    if !tx.output.iter().any(|out| here.wallet.is_mine(&out.script_pubkey)) {
        return Err(RpcError::key("No addresses in wallet correspond to included transaction"));
    }
    let now = here.node.time();
    here.wallet.see(&Arc::new(tx), place, now);
    save(call)?;
    Ok(Json::Null)
}

pub(super) fn removeprunedfunds(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let txid = args.txid(0, "txid")?;
    let here = here(call)?;
    if !here.wallet.forget(&txid) {
        return Err(failed(format!("Transaction {txid} does not belong to this wallet")));
    }
    save(call)?;
    Ok(Json::Null)
}
