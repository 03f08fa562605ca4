//! Unspent outputs.

mod muhash;

use bitcoin::consensus::Encodable;
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::hex::DisplayHex;
use bitcoin::{OutPoint, Txid};

use crate::chain::Coin;
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::render::script;

use muhash::MuHash;

/// What an output counts beside its script, whatever keeps it.
const BOGOSIZE: u64 = 32 + 4 + 4 + 8 + 2;

pub(crate) fn gettxout(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let outpoint = OutPoint { txid: args.txid(0, "txid")?, vout: args.at(1).int()? };
    let chain = call.chain();
    let found = if args.bool_or(2, true)? {
        if let Some(entry) = call.mempool().get(&outpoint.txid)
            && call.mempool().spender(&outpoint).is_none()
        {
            let out = entry.tx.output.get(outpoint.vout as usize);
            out.map(|out| (Coin { out: out.clone(), height: 0, coinbase: false }, false))
        } else if call.mempool().spender(&outpoint).is_some() {
            None
        } else {
            chain.coin(&outpoint)?.map(|coin| (coin, true))
        }
    } else {
        chain.coin(&outpoint)?.map(|coin| (coin, true))
    };
    let Some((coin, confirmed)) = found else { return Ok(Json::Null) };
    let tip = chain.entry(chain.tip());
    let confirmations = if confirmed { tip.height - coin.height + 1 } else { 0 };
    Ok(Json::obj()
        .with("bestblock", tip.hash)
        .with("confirmations", confirmations)
        .with("value", coin.out.value)
        .with("scriptPubKey", script::output(&coin.out.script_pubkey, chain.params().network))
        .with("coinbase", coin.coinbase))
}

/// The bytes of a coin that are hashed.
fn coin_bytes(outpoint: &OutPoint, coin: &Coin, out: &mut Vec<u8>) {
    out.clear();
    let written = "a vector takes all that is written to it";
    outpoint.consensus_encode(out).expect(written);
    ((coin.height << 1) | u32::from(coin.coinbase)).consensus_encode(out).expect(written);
    coin.out.consensus_encode(out).expect(written);
}

#[derive(Debug, Default)]
struct Sums {
    outputs: u64,
    bogosize: u64,
    amount: u64,
    transactions: u64,
    last: Option<Txid>,
}

pub(crate) fn gettxoutsetinfo(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let kind = if args.at(0).is_null() { "hash_serialized_3" } else { args.text(0)? };
    if !matches!(kind, "hash_serialized_3" | "muhash" | "none") {
        return Err(RpcError::param(format!("'{kind}' is not a valid hash_type")));
    }
    if !args.at(1).is_null() {
        return Err(RpcError::param("Querying specific block heights requires coinstatsindex"));
    }
    args.bool_or(2, true)?;
    let chain = call.ctx.node.chain_mut();
    let (mut sums, mut bytes) = (Sums::default(), Vec::new());
    let (mut serial, mut product) = (sha256d::Hash::engine(), MuHash::default());
    chain.each_coin(&mut |outpoint, coin| {
        sums.outputs += 1;
        sums.bogosize += BOGOSIZE + coin.out.script_pubkey.len() as u64;
        sums.amount += coin.out.value.to_sat();
        if sums.last != Some(outpoint.txid) {
            sums.last = Some(outpoint.txid);
            sums.transactions += 1;
        }
        match kind {
            "none" => {}
            "muhash" => {
                coin_bytes(outpoint, coin, &mut bytes);
                product.insert(&bytes);
            }
            _ => {
                coin_bytes(outpoint, coin, &mut bytes);
                serial.input(&bytes);
            }
        }
    })?;
    let tip = chain.entry(chain.tip());
    let mut json = Json::obj()
        .with("height", tip.height)
        .with("bestblock", tip.hash)
        .with("txouts", sums.outputs)
        .with("bogosize", sums.bogosize);
    match kind {
        "none" => {}
        "muhash" => {
            let mut hash = product.finish();
            hash.reverse();
            json.put("muhash", hash.to_lower_hex_string());
        }
        _ => json.put("hash_serialized_3", sha256d::Hash::from_engine(serial).to_string()),
    }
    Ok(json
        .with("total_amount", Json::amount(sums.amount.cast_signed()))
        .with("transactions", sums.transactions)
        .with("disk_size", sums.bogosize))
}

pub(crate) fn dumptxoutset(_: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Err(RpcError::misc("This node writes no snapshots of its unspent outputs."))
}

pub(crate) fn loadtxoutset(_: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Err(RpcError::misc("This node loads no snapshots of unspent outputs."))
}
