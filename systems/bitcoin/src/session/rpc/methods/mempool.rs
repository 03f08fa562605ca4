//! What waits.

use std::collections::BTreeSet;

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid};

use crate::mempool::{Mempool, MempoolEntry};
use crate::session::rpc::call::{Args, Call, hash};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::render::codec::encode_hex;

/// The mempool at a glance.
pub(crate) fn info(call: &Call<'_, '_>) -> Json {
    let mempool = call.mempool();
    let (info, options) = (mempool.info(call.time()), mempool.options());
    let rate = |rate: u64| Json::amount(rate.cast_signed());
    let mut json = Json::obj()
        .with("loaded", true)
        .with("size", info.count)
        .with("bytes", info.bytes)
        .with("usage", info.usage)
        .with("total_fee", rate(info.total_fee))
        .with("maxmempool", info.size_max)
        .with("mempoolminfee", rate(info.fee_rate_min.max(info.relay_rate_min)))
        .with("minrelaytxfee", rate(info.relay_rate_min))
        .with("incrementalrelayfee", rate(info.incremental_rate))
        .with("unbroadcastcount", info.unbroadcast)
        .with("permitbaremultisig", options.bare_multisig)
        .with("maxdatacarriersize", options.data_bytes_max.unwrap_or(0))
        .with("limitclustercount", options.cluster_count_max)
        .with("limitclustersize", options.cluster_size_max)
        .with("optimal", true);
    if deprecated(call, "fullrbf") {
        json.put("fullrbf", true);
    }
    json
}

fn deprecated(call: &Call<'_, '_>, name: &str) -> bool {
    call.state.config.deprecated.iter().any(|own| own == name)
}

fn entry_json(call: &Call<'_, '_>, entry: &MempoolEntry) -> Json {
    let mempool = call.mempool();
    let txid = entry.tx.compute_txid();
    let above = mempool.with_ancestors(&txid).unwrap_or_default();
    let below = mempool.with_descendants(&txid).unwrap_or_default();
    let chunk = mempool.chunk_rate(&txid).unwrap_or_default();
    let fees = Json::obj()
        .with("base", entry.fee)
        .with("modified", Json::amount(entry.modified_fee()))
        .with("ancestor", Json::amount(above.fees))
        .with("descendant", Json::amount(below.fees))
        .with("chunk", Json::amount(chunk.fee));
    let depends: BTreeSet<String> = mempool.parents(&txid).iter().map(ToString::to_string).collect();
    let mut json = Json::obj()
        .with("vsize", entry.vsize)
        .with("weight", entry.weight)
        .with("time", entry.time)
        .with("height", entry.height)
        .with("descendantcount", below.count)
        .with("descendantsize", below.vsize)
        .with("ancestorcount", above.count)
        .with("ancestorsize", above.vsize)
        .with("wtxid", entry.tx.compute_wtxid())
        .with("chunkweight", chunk.size)
        .with("fees", fees)
        .with("depends", Json::arr(depends))
        .with("spentby", Json::arr(mempool.children(&txid)))
        .with("unbroadcast", mempool.unbroadcast().contains(&txid));
    if deprecated(call, "bip125") {
        json.put("bip125-replaceable", mempool.signals_replacement(&txid).unwrap_or(false));
    }
    json
}

/// All that waits.
pub(crate) fn all(call: &Call<'_, '_>, verbose: bool, with_sequence: bool) -> Result<Json, RpcError> {
    let mempool = call.mempool();
    if verbose {
        if with_sequence {
            return Err(RpcError::param("Verbose results cannot contain mempool sequence values."));
        }
        let mut json = Json::obj();
        for (txid, entry) in mempool.best_first() {
            json.put(&txid.to_string(), entry_json(call, entry));
        }
        return Ok(json);
    }
    let txids = Json::arr(mempool.best_first().map(|(txid, _)| txid));
    if !with_sequence {
        return Ok(txids);
    }
    Ok(Json::obj().with("txids", txids).with("mempool_sequence", mempool.sequence()))
}

pub(crate) fn getmempoolinfo(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Ok(info(call))
}

pub(crate) fn getrawmempool(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    all(call, args.bool_or(0, false)?, args.bool_or(1, false)?)
}

fn waiting<'m>(mempool: &'m Mempool, txid: &Txid) -> Result<&'m MempoolEntry, RpcError> {
    mempool.get(txid).ok_or_else(|| RpcError::key("Transaction not in mempool"))
}

pub(crate) fn getmempoolentry(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let entry = waiting(call.mempool(), &args.txid(0, "txid")?)?;
    Ok(entry_json(call, entry))
}

/// Relatives of a transaction, by their ids or in full.
fn relatives(call: &Call<'_, '_>, args: &Args, which: fn(&Mempool, &Txid) -> BTreeSet<Txid>) -> Result<Json, RpcError> {
    let verbose = args.bool_or(1, false)?;
    let txid = args.txid(0, "txid")?;
    let mempool = call.mempool();
    waiting(mempool, &txid)?;
    let txids = which(mempool, &txid);
    if !verbose {
        return Ok(Json::arr(txids));
    }
    let mut json = Json::obj();
    for txid in txids {
        json.put(&txid.to_string(), entry_json(call, waiting(mempool, &txid)?));
    }
    Ok(json)
}

pub(crate) fn getmempoolancestors(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    relatives(call, args, Mempool::ancestors)
}

pub(crate) fn getmempooldescendants(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    relatives(call, args, Mempool::descendants)
}

pub(crate) fn getmempoolcluster(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let chunks = call.mempool().cluster(&args.txid(0, "txid")?);
    let chunks = chunks.ok_or_else(|| RpcError::key("Transaction not in mempool"))?;
    let weight: u64 = chunks.iter().map(|chunk| chunk.rate.size).sum();
    let count: usize = chunks.iter().map(|chunk| chunk.txids.len()).sum();
    let rows = chunks.into_iter().map(|chunk| {
        Json::obj()
            .with("chunkfee", Json::amount(chunk.rate.fee))
            .with("chunkweight", chunk.rate.size)
            .with("txs", chunk.txids)
    });
    Ok(Json::obj().with("clusterweight", weight).with("txcount", count).with("chunks", Json::Arr(rows.collect())))
}

pub(crate) fn getmempoolfeeratediagram(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let points = call.mempool().diagram().into_iter();
    let rows = points.map(|point| Json::obj().with("weight", point.size).with("fee", Json::amount(point.fee)));
    Ok(Json::Arr(rows.collect()))
}

/// Looks at the types of fields; others than these are refused.
fn check_fields(object: &Json, expected: &[(&str, &str)], may_lack: bool) -> Result<(), RpcError> {
    for (name, kind) in expected {
        let value = object.get(name);
        if value.is_null() {
            if may_lack {
                continue;
            }
            return Err(RpcError::kind(format!("Missing {name}")));
        }
        if value.type_name() != *kind {
            let own = value.type_name();
            let words = format!("JSON value of type {own} for field {name} is not of expected type {kind}");
            return Err(RpcError::kind(words));
        }
    }
    let unknown = object.fields()?.iter().find(|(name, _)| !expected.iter().any(|(own, _)| own == name));
    match unknown {
        Some((name, _)) => Err(RpcError::kind(format!("Unexpected key {name}"))),
        None => Ok(()),
    }
}

pub(crate) fn gettxspendingprevout(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let outputs = args.at(0).items()?;
    if outputs.is_empty() {
        return Err(RpcError::param("Invalid parameter, outputs are missing"));
    }
    let (options, none) = (args.at(1), Json::obj());
    let options = if options.is_null() { &none } else { options };
    check_fields(options, &[("mempool_only", "bool"), ("return_spending_tx", "bool")], true)?;
    let has_index = call.ctx.indexes.has_spenders();
    let mempool_only = options.get("mempool_only");
    let mempool_only = if mempool_only.is_null() { !has_index } else { mempool_only.bool()? };
    let whole = options.get("return_spending_tx");
    let whole = if whole.is_null() { false } else { whole.bool()? };
    let mut asked = Vec::new();
    for output in outputs {
        output.fields()?;
        check_fields(output, &[("txid", "string"), ("vout", "number")], false)?;
        let txid = Txid::from_byte_array(hash(output.get("txid"), "txid")?);
        let vout: i32 = output.get("vout").int()?;
        let vout = u32::try_from(vout).map_err(|_| RpcError::param("Invalid parameter, vout cannot be negative"))?;
        asked.push((OutPoint { txid, vout }, output.clone()));
    }
    let mut rows = Vec::new();
    for (outpoint, mut row) in asked {
        let spender = call.mempool().spender(&outpoint).and_then(|txid| call.mempool().get(&txid));
        if let Some(entry) = spender {
            row.put("spendingtxid", entry.tx.compute_txid());
            if whole {
                row.put("spendingtx", encode_hex(&entry.tx));
            }
        } else if !mempool_only {
            if !has_index {
                return Err(RpcError::misc(format!(
                    "No spending tx for the outpoint {}:{} in mempool, and txospenderindex is unavailable.",
                    outpoint.txid, outpoint.vout
                )));
            }
            put_confirmed_spender(call, &outpoint, whole, &mut row)?;
        }
        rows.push(row);
    }
    Ok(Json::Arr(rows))
}

/// Adds who spends an output in a block, if anybody does.
fn put_confirmed_spender(
    call: &Call<'_, '_>,
    outpoint: &OutPoint,
    whole: bool,
    row: &mut Json,
) -> Result<(), RpcError> {
    let Some((id, place)) = call.ctx.indexes.spender(call.chain(), outpoint)? else { return Ok(()) };
    let block = call.block(id)?;
    let tx = block.txdata.get(place).ok_or_else(|| RpcError::misc("IO error reading spending tx from disk"))?;
    row.put("spendingtxid", tx.compute_txid());
    row.put("blockhash", call.chain().entry(id).hash);
    if whole {
        row.put("spendingtx", encode_hex(tx));
    }
    Ok(())
}

/// Writes the file that the node reads when it starts.
pub(crate) fn savemempool(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let saved = call.ctx.files.save_mempool(call.ctx.node);
    let path = saved.map_err(|_| RpcError::misc("Unable to dump mempool to disk"))?;
    Ok(Json::obj().with("filename", path))
}

pub(crate) fn importmempool(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let options = args.at(1);
    let option = |name: &str, default: bool| {
        let value = options.get(name);
        if value.is_null() { Ok(default) } else { value.bool() }
    };
    let load = crate::mempool::LoadOptions {
        use_current_time: option("use_current_time", true)?,
        apply_deltas: option("apply_fee_delta_priority", false)?,
        apply_unbroadcast: option("apply_unbroadcast_set", false)?,
    };
    if super::blocks::catches_up(call) {
        let words = "Can only import the mempool after the block download and sync is done.";
        return Err(RpcError::new(crate::session::rpc::code::CLIENT_IN_INITIAL_DOWNLOAD, words));
    }
    let path = args.text(0)?;
    let done = call.ctx.files.load_mempool(call.ctx.node, path, load);
    done.map_err(|_| RpcError::misc("Unable to import mempool file, see debug log for details."))?;
    Ok(Json::obj())
}

/// Peers keep them.
pub(crate) fn getorphantxs(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let verbosity = args.verbosity(0, 0, false)?;
    if !(0..=2).contains(&verbosity) {
        return Err(RpcError::param(format!("Invalid verbosity value {verbosity}")));
    }
    let row = |(tx, peers): (std::sync::Arc<bitcoin::Transaction>, Vec<u64>)| {
        let txid = tx.compute_txid().to_string();
        if verbosity == 0 {
            return Json::from(txid);
        }
        let from: Vec<Json> = peers.into_iter().map(Json::from).collect();
        let mut row = Json::obj()
            .with("txid", txid)
            .with("wtxid", tx.compute_wtxid().to_string())
            .with("bytes", tx.total_size())
            .with("vsize", tx.vsize())
            .with("weight", tx.weight().to_wu())
            .with("from", Json::Arr(from));
        if verbosity == 2 {
            row.put("hex", encode_hex(&tx));
        }
        row
    };
    Ok(Json::Arr(call.ctx.peers.orphans().into_iter().map(row).collect()))
}
