//! Unspent outputs.

use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::hex::DisplayHex;
use bitcoin::{OutPoint, Txid};
use verity_nakamoto::BlockId;

use super::blocks::by_hash_or_height;
use crate::chain::Coin;
use crate::index::{MuHash, Stats, bogosize, coin_bytes};
use crate::places::BeginError;
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::render::script;

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
    let indexed = args.bool_or(2, true)?;
    let has_index = call.ctx.indexes.has_stats();
    let mut of = call.chain().tip();
    if !args.at(1).is_null() {
        if !has_index {
            return Err(RpcError::param("Querying specific block heights requires coinstatsindex"));
        }
        if kind == "hash_serialized_3" {
            return Err(RpcError::param("hash_serialized_3 hash type cannot be queried for a specific block"));
        }
        if !indexed {
            return Err(RpcError::param("Cannot set use_index to false when querying for a specific block"));
        }
        of = by_hash_or_height(call, args, 1)?;
    }
    if has_index && indexed && kind != "hash_serialized_3" {
        return stats_of(call, of, kind == "muhash");
    }
    let chain = call.ctx.node.chain_mut();
    let (mut sums, mut bytes) = (Sums::default(), Vec::new());
    let (mut serial, mut product) = (sha256d::Hash::engine(), MuHash::default());
    chain.each_coin(&mut |outpoint, coin| {
        sums.outputs += 1;
        sums.bogosize += bogosize(coin);
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

/// Figures that were kept as of a block.
fn stats_of(call: &Call<'_, '_>, id: BlockId, with_hash: bool) -> Result<Json, RpcError> {
    let (chain, unread) = (call.chain(), || RpcError::misc("Unable to read UTXO set"));
    let entry = chain.entry(id);
    let stats = call.ctx.indexes.stats(chain, id)?.ok_or_else(unread)?;
    let before = match entry.prev {
        Some(prev) => call.ctx.indexes.stats(chain, prev)?.ok_or_else(unread)?,
        None => Stats::default(),
    };
    let count = |figure: u128| u64::try_from(figure).map_err(|_| unread());
    let amount = |figure: u128| i64::try_from(figure).map(Json::amount).map_err(|_| unread());
    let mut json = Json::obj()
        .with("height", entry.height)
        .with("bestblock", entry.hash)
        .with("txouts", count(stats.outputs)?)
        .with("bogosize", count(stats.bogosize)?);
    if with_hash {
        let mut hash = stats.muhash;
        hash.reverse();
        json.put("muhash", hash.to_lower_hex_string());
    }
    let unspendables = Json::obj()
        .with("genesis_block", amount(stats.lost_genesis - before.lost_genesis)?)
        .with("bip30", amount(stats.lost_bip30 - before.lost_bip30)?)
        .with("scripts", amount(stats.lost_scripts - before.lost_scripts)?)
        .with("unclaimed_rewards", amount(stats.lost_unclaimed - before.lost_unclaimed)?);
    let block = Json::obj()
        .with("prevout_spent", amount(stats.spent - before.spent)?)
        .with("coinbase", amount(stats.coinbase - before.coinbase)?)
        .with("new_outputs_ex_coinbase", amount(stats.made - before.made)?)
        .with("unspendable", amount(stats.lost() - before.lost())?)
        .with("unspendables", unspendables);
    Ok(json
        .with("total_amount", amount(stats.amount)?)
        .with("total_unspendable_amount", amount(stats.lost())?)
        .with("block_info", block))
}

pub(crate) fn dumptxoutset(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let kind = if args.at(1).is_null() { "" } else { args.text(1)? };
    let (options, tip) = (args.at(2), call.chain().tip());
    let back = options.get("rollback");
    let target = match kind {
        "" | "rollback" if !back.is_null() => by_hash_or_height(call, &Args::new(vec![back.clone()]), 0)?,
        _ if !back.is_null() => {
            let words = format!("Invalid snapshot type \"{kind}\" specified with rollback option");
            return Err(RpcError::param(words));
        }
        "rollback" => {
            let heights = call.chain().params().snapshot_heights();
            let height = heights.last().copied().unwrap_or(0);
            by_hash_or_height(call, &Args::new(vec![height.into()]), 0)?
        }
        "latest" => tip,
        _ => {
            return Err(RpcError::param(format!(
                "Invalid snapshot type \"{kind}\" specified. Please specify \"rollback\" or \"latest\""
            )));
        }
    };
    let mut file = call.ctx.files.begin(args.text(0)?).map_err(|error| match error {
        BeginError::Exists(path) => RpcError::param(format!(
            "{path} already exists. If you are sure this is what you want, move it out of the way first"
        )),
        BeginError::Closed(path) => RpcError::param(format!("Couldn't open file {path}.incomplete for writing.")),
    })?;
    let taken_out = roll_back(call, target)?;
    let at_target = call.chain().tip() == target;
    let dumped = at_target.then(|| call.ctx.node.chain_mut().dump_coins(&mut |bytes| file.write(bytes)));
    // Whatever came of it, the chain goes on from where it was.
    for id in taken_out {
        call.ctx.node.reconsider(id)?;
    }
    let dumped = dumped.ok_or_else(|| RpcError::misc("Could not roll back to requested height."))??;
    let dumped = dumped.map_err(|error| RpcError::misc(format!("Error writing {}: {error}", file.shown())))?;
    let path = file.shown().to_owned();
    file.finish().map_err(|error| RpcError::misc(format!("Error closing {path}: {error}")))?;
    let entry = call.chain().entry(target);
    Ok(Json::obj()
        .with("coins_written", dumped.count)
        .with("base_hash", entry.hash)
        .with("base_height", entry.height)
        .with("path", path)
        .with("txoutset_hash", dumped.hash.to_string())
        .with("nchaintx", entry.chain_tx_count))
}

/// Takes the blocks above one out of the chain, and those of branches that would come in their stead; the lowest of each, that of the
/// chain first, for when they come back.
fn roll_back(call: &mut Call<'_, '_>, target: BlockId) -> Result<Vec<BlockId>, RpcError> {
    let chain = call.chain();
    if target == chain.tip() {
        return Ok(Vec::new());
    }
    let off = || RpcError::misc("Could not roll back to requested height.");
    let from = chain.entry(target).height + 1;
    let next = chain.active(from).filter(|next| chain.entry(*next).prev == Some(target)).ok_or_else(off)?;
    for height in from..=chain.height() {
        let id = chain.active(height).expect("it is no higher than the tip");
        if chain.is_pruned(id) {
            let words = "Could not roll back to requested height since necessary block data is already pruned.";
            return Err(RpcError::misc(words));
        }
        // What cannot be read is found before anything is undone.
        if !matches!((chain.block(id), chain.undo(id)), (Ok(Some(_)), Ok(Some(_)))) {
            return Err(off());
        }
    }
    call.ctx.node.invalidate(next)?;
    let mut taken_out = vec![next];
    loop {
        let chain = call.chain();
        let tip = chain.tip();
        let sister = chain.tree().ancestor(tip, from).filter(|_| chain.tree().stands_on(tip, target));
        let Some(sister) = sister else { return Ok(taken_out) };
        call.ctx.node.invalidate(sister)?;
        taken_out.push(sister);
    }
}

pub(crate) fn loadtxoutset(_: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Err(RpcError::misc("This node loads no snapshots of unspent outputs."))
}
