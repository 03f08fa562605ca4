//! Transactions of a wallet.

use std::collections::BTreeMap;

use super::addresses::{parents, put_address};
use super::{Here, here, last_block, save};
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::render::codec::encode_hex;
use crate::session::rpc::render::transaction::{Shown, render};
use crate::wallet::{Place, Record, rescan};

/// What every answer says of a transaction.
fn describe(here: &Here<'_>, record: &Record, json: &mut Json) {
    let (wallet, txid) = (&here.wallet, record.tx.compute_txid());
    let depth = wallet.depth(record);
    json.put("confirmations", depth);
    if record.is_coinbase() {
        json.put("generated", true);
    }
    if let Place::Block { hash, height, index, time } = record.place {
        json.put("blockhash", hash);
        json.put("blockheight", height);
        json.put("blockindex", index);
        json.put("blocktime", time);
    } else {
        json.put("trusted", wallet.is_trusted(&txid));
    }
    json.put("txid", txid);
    json.put("wtxid", record.tx.compute_wtxid());
    json.put("walletconflicts", Json::arr(wallet.conflicts(record)));
    json.put("mempoolconflicts", Json::arr(record.conflicts.iter().copied()));
    json.put("time", record.time);
    json.put("timereceived", record.received);
    let says = record.tx.input.iter().any(|input| input.sequence.is_rbf());
    let replaceable = match here.node.mempool().signals_replacement(&txid) {
        _ if depth > 0 => "no",
        Some(true) => "yes",
        Some(false) => "no",
        None if says => "yes",
        None => "unknown",
    };
    json.put("bip125-replaceable", replaceable);
    for (name, value) in &record.notes {
        json.put(name, value.as_str());
    }
}

/// What is listed, and how.
struct Listing<'a> {
    depth_min: i32,
    long: bool,
    label: Option<&'a str>,
    change: bool,
}

/// A row for each output that matters.
fn rows(here: &Here<'_>, record: &Record, listing: &Listing<'_>) -> Vec<Json> {
    let (wallet, mut rows) = (&here.wallet, Vec::new());
    let amounts = wallet.amounts(record, listing.change);
    if listing.label.is_none() {
        for (vout, value) in &amounts.sent {
            let script = &record.tx.output[*vout].script_pubkey;
            let mut row = Json::obj();
            put_address(&mut row, script, here);
            row.put("category", "send");
            row.put("amount", Json::amount(-value.cast_signed()));
            if let Some(label) = wallet.label(script) {
                row.put("label", label);
            }
            row.put("vout", *vout);
            row.put("fee", Json::amount(-amounts.fee));
            if listing.long {
                describe(here, record, &mut row);
            }
            row.put("abandoned", record.is_abandoned());
            rows.push(row);
        }
    }
    if wallet.depth(record) < listing.depth_min {
        return rows;
    }
    for (vout, value) in &amounts.received {
        let script = &record.tx.output[*vout].script_pubkey;
        let label = wallet.label(script);
        if listing.label.is_some_and(|wanted| wanted != label.unwrap_or("")) {
            continue;
        }
        let mut row = Json::obj();
        put_address(&mut row, script, here);
        row.put("parent_descs", parents(here, script));
        let category = match record.is_coinbase() {
            false => "receive",
            true if wallet.depth(record) < 1 => "orphan",
            true if record.is_immature(wallet.tip()) => "immature",
            true => "generate",
        };
        row.put("category", category);
        row.put("amount", Json::amount(value.cast_signed()));
        if let Some(label) = label {
            row.put("label", label);
        }
        row.put("vout", *vout);
        row.put("abandoned", record.is_abandoned());
        if listing.long {
            describe(here, record, &mut row);
        }
        rows.push(row);
    }
    rows
}

pub(super) fn gettransaction(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let txid = args.txid(0, "txid")?;
    let verbose = args.bool_or(2, false)?;
    let here = here(call)?;
    let Some(record) = here.wallet.records.get(&txid) else {
        return Err(RpcError::key("Invalid or non-wallet transaction id"));
    };
    let wallet = &here.wallet;
    let (credit, debit) = (wallet.credit(&record.tx).cast_signed(), wallet.debit(&record.tx).cast_signed());
    let (credit, fee) = (
        if record.is_immature(wallet.tip()) { 0 } else { credit },
        if debit > 0 {
            record.tx.output.iter().map(|out| out.value.to_sat().cast_signed()).sum::<i64>() - debit
        } else {
            0
        },
    );
    let mut json = Json::obj().with("amount", Json::amount(credit - debit - fee));
    if debit > 0 {
        json.put("fee", Json::amount(fee));
    }
    describe(&here, record, &mut json);
    let listing = Listing { depth_min: 0, long: false, label: None, change: false };
    json.put("details", Json::Arr(rows(&here, record, &listing)));
    json.put("hex", encode_hex(&record.tx));
    if verbose {
        json.put("decoded", render(&record.tx, Shown::on(here.network())));
    }
    json.put("lastprocessedblock", last_block(wallet));
    Ok(json)
}

pub(super) fn listtransactions(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let label = match if args.at(0).is_null() { "*" } else { args.text(0)? } {
        "*" => None,
        "" => return Err(RpcError::param("Label argument must be a valid label name or \"*\".")),
        label => Some(label.to_owned()),
    };
    let (count, from): (i64, i64) = (args.int_or(1, 10)?, args.int_or(2, 0)?);
    let count = usize::try_from(count).map_err(|_| RpcError::param("Negative count"))?;
    let from = usize::try_from(from).map_err(|_| RpcError::param("Negative from"))?;
    let here = here(call)?;
    let listing = Listing { depth_min: 0, long: true, label: label.as_deref(), change: false };
    let mut ordered: Vec<&Record> = here.wallet.records.values().collect();
    ordered.sort_by_key(|record| std::cmp::Reverse(record.order));
    let mut all = Vec::new();
    for record in ordered {
        all.extend(rows(&here, record, &listing));
        if all.len() >= count.saturating_add(from) {
            break;
        }
    }
    let mut taken: Vec<Json> = all.into_iter().skip(from).take(count).collect();
    taken.reverse();
    Ok(Json::Arr(taken))
}

pub(super) fn listsinceblock(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let given_block = !args.at(0).is_null() && !args.text(0)?.is_empty();
    let mut since = None;
    let mut lost = Vec::new();
    if given_block {
        let wanted = args.block_hash(0, "blockhash")?;
        let mut at = call.find(&wanted)?;
        // What was in blocks that do not count any more is told apart.
        while !call.chain().is_active(at) {
            lost.push(at);
            match call.chain().entry(at).prev {
                Some(prev) => at = prev,
                None => break,
            }
        }
        since = Some(call.chain().entry(at).height);
    }
    let confirmations: i64 = args.int_or(1, 1)?;
    if confirmations < 1 {
        return Err(RpcError::param("Invalid parameter"));
    }
    let with_removed = args.bool_or(3, true)?;
    let change = args.bool_or(4, false)?;
    let label = if args.at(5).is_null() { None } else { Some(super::label(args.at(5))?) };
    let mut blocks = Vec::new();
    for id in lost {
        if with_removed {
            blocks.push(call.block(id).map_err(|_| RpcError::new(-32_603, "Can't read block from disk"))?);
        }
    }
    let here = here(call)?;
    let listing = Listing { depth_min: 0, long: true, label: label.as_deref(), change };
    let tip = here.wallet.tip();
    let mut transactions = Vec::new();
    for record in here.wallet.records.values() {
        let depth = here.wallet.depth(record);
        if since.is_none_or(|height| i64::from(depth).abs() < i64::from(tip) + 1 - i64::from(height)) {
            transactions.extend(rows(&here, record, &listing));
        }
    }
    let mut removed = Vec::new();
    for tx in blocks.iter().flat_map(|block| &block.txdata) {
        if let Some(record) = here.wallet.records.get(&tx.compute_txid()) {
            let listing = Listing { depth_min: i32::MIN, ..listing };
            removed.extend(rows(&here, record, &listing));
        }
    }
    let mut json = Json::obj().with("transactions", Json::Arr(transactions));
    if with_removed {
        json.put("removed", Json::Arr(removed));
    }
    let last = i64::from(tip) + 1 - confirmations;
    let chain = here.node.chain();
    let last = u32::try_from(last.max(0)).ok().and_then(|height| chain.active(height)).map(|id| chain.entry(id).hash);
    Ok(json.with("lastblock", last))
}

pub(super) fn abandontransaction(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let txid = args.txid(0, "txid")?;
    let here = here(call)?;
    if !here.wallet.records.contains_key(&txid) {
        return Err(RpcError::key("Invalid or non-wallet transaction id"));
    }
    if !here.wallet.abandon(&txid) {
        return Err(RpcError::key("Transaction not eligible for abandonment"));
    }
    save(call)?;
    Ok(Json::Null)
}

pub(super) fn rescanblockchain(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    here(call)?.unlocked()?;
    let tip = call.chain().height();
    let start: i64 = args.int_or(0, 0)?;
    let from = u32::try_from(start).ok().filter(|from| *from <= tip);
    let from = from.ok_or_else(|| RpcError::param("Invalid start_height"))?;
    let to = if args.at(1).is_null() {
        tip
    } else {
        let stop: i64 = args.at(1).int()?;
        let stop = u32::try_from(stop).ok().filter(|stop| *stop <= tip);
        let stop = stop.ok_or_else(|| RpcError::param("Invalid stop_height"))?;
        if stop < from {
            return Err(RpcError::param("stop_height must be greater than start_height"));
        }
        stop
    };
    if call.chain().prune().is_some() && call.chain().pruned_height().is_some_and(|pruned| from <= pruned && pruned > 0)
    {
        let words = "Can't rescan beyond pruned data. Use RPC call getblockchaininfo to determine your pruned height.";
        return Err(RpcError::misc(words));
    }
    let here = here(call)?;
    rescan(here.wallet, here.node, from, to)?;
    save(call)?;
    Ok(Json::obj().with("start_height", from).with("stop_height", to))
}

pub(super) fn abortrescan(_: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    // No scan lasts beyond its call.
    Ok(false.into())
}

/// By how much the balance of a wallet would change by these.
pub(super) fn simulaterawtransaction(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    use crate::session::rpc::render::codec::decode_transaction;
    let mut txs = Vec::new();
    for value in if args.at(0).is_null() { &[] } else { args.at(0).items()? } {
        let tx = decode_transaction(value.text()?);
        txs.push(tx.ok_or_else(|| RpcError::decode("Transaction hex string decoding failure."))?);
    }
    let mut known = std::collections::BTreeMap::new();
    let mut spent = std::collections::BTreeSet::new();
    for tx in &txs {
        for input in &tx.input {
            let outpoint = input.previous_output;
            if !spent.insert(outpoint) {
                return Err(RpcError::param("Transaction(s) are spending the same output more than once"));
            }
            if !known.contains_key(&outpoint) && call.mempool().coin(call.chain(), &outpoint)?.is_none() {
                return Err(RpcError::param("One or more transaction inputs are missing or have been spent already"));
            }
        }
        let txid = tx.compute_txid();
        for (vout, out) in (0..).zip(&tx.output) {
            known.insert(bitcoin::OutPoint { txid, vout }, out.clone());
        }
    }
    let here = here(call)?;
    let mine = |script: &bitcoin::Script| here.wallet.is_mine(script);
    let mut change = 0_i64;
    for tx in &txs {
        for input in &tx.input {
            let outpoint = &input.previous_output;
            let out = here.wallet.output(outpoint).or_else(|| known.get(outpoint));
            change -= out.filter(|out| mine(&out.script_pubkey)).map_or(0, |out| out.value.to_sat().cast_signed());
        }
        change += here.wallet.credit(tx).cast_signed();
    }
    Ok(Json::obj().with("balance_change", Json::amount(change)))
}

/// Notes on a transaction of the wallet.
pub(super) fn notes(fields: &[(&str, &Json)]) -> BTreeMap<String, String> {
    let text = |value: &&Json| value.text().ok().filter(|text| !text.is_empty()).map(str::to_owned);
    fields.iter().filter_map(|(name, value)| Some(((*name).to_owned(), text(value)?))).collect()
}
