//! What came in, by address and by label.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{ScriptBuf, Txid};

use super::{Here, address, failed, here, label, script_of};
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::wallet::Record;

fn counts(here: &Here<'_>, record: &Record, depth_min: i32, immature: bool) -> bool {
    let depth = here.wallet.depth(record);
    depth >= depth_min && !(record.is_coinbase() && (depth < 1 || (record.is_immature(here.wallet.tip()) && !immature)))
}

fn received(here: &Here<'_>, scripts: &BTreeSet<ScriptBuf>, depth_min: i32, immature: bool) -> Json {
    let records = here.wallet.records.values().filter(|record| counts(here, record, depth_min, immature));
    let outs = records.flat_map(|record| &record.tx.output).filter(|out| scripts.contains(&out.script_pubkey));
    Json::amount(outs.map(|out| out.value.to_sat()).sum::<u64>().cast_signed())
}

pub(super) fn getreceivedbyaddress(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let here = here(call)?;
    let script = script_of(args.text(0)?, here.network())?;
    if !here.wallet.is_mine(&script) {
        return Err(failed("Address not found in wallet"));
    }
    Ok(received(&here, &BTreeSet::from([script]), args.int_or(1, 1)?, args.bool_or(2, false)?))
}

pub(super) fn getreceivedbylabel(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let label = label(args.at(0))?;
    let here = here(call)?;
    let named = here.wallet.book.iter().filter(|(_, named)| named.label == label);
    let mut scripts: BTreeSet<ScriptBuf> = named.map(|(script, _)| script.clone()).collect();
    if scripts.is_empty() {
        return Err(failed("Label not found in wallet"));
    }
    scripts.retain(|script| here.wallet.is_mine(script));
    Ok(received(&here, &scripts, args.int_or(1, 1)?, args.bool_or(2, false)?))
}

#[derive(Default)]
struct Tally {
    amount: u64,
    depth: Option<i32>,
    txids: Vec<Txid>,
}

fn tally(here: &Here<'_>, depth_min: i32, immature: bool, only: Option<&ScriptBuf>) -> BTreeMap<ScriptBuf, Tally> {
    let mut tallies: BTreeMap<ScriptBuf, Tally> = BTreeMap::new();
    for (txid, record) in &here.wallet.records {
        if !counts(here, record, depth_min, immature) {
            continue;
        }
        let depth = here.wallet.depth(record);
        for out in &record.tx.output {
            let script = &out.script_pubkey;
            if only.is_some_and(|only| only != script) || !here.wallet.is_mine(script) {
                continue;
            }
            let tally = tallies.entry(script.clone()).or_default();
            tally.amount += out.value.to_sat();
            tally.depth = Some(tally.depth.map_or(depth, |least| least.min(depth)));
            tally.txids.push(*txid);
        }
    }
    tallies
}

pub(super) fn listreceivedbyaddress(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let (depth_min, empty_too) = (args.int_or(0, 1)?, args.bool_or(1, false)?);
    let immature = args.bool_or(4, false)?;
    let here = here(call)?;
    let filter = if args.at(3).is_null() { "" } else { args.text(3)? };
    let only = if filter.is_empty() {
        None
    } else {
        let script = script_of(filter, here.network());
        Some(script.map_err(|_| failed("address_filter parameter was invalid"))?)
    };
    let tallies = tally(&here, depth_min, immature, only.as_ref());
    let none = Tally::default();
    let mut rows = Vec::new();
    for (script, named) in &here.wallet.book {
        if only.as_ref().is_some_and(|only| only != script) || (!empty_too && !tallies.contains_key(script)) {
            continue;
        }
        let tally = tallies.get(script).unwrap_or(&none);
        rows.push(
            Json::obj()
                .with("address", address(script, here.network()))
                .with("amount", Json::amount(tally.amount.cast_signed()))
                .with("confirmations", tally.depth.unwrap_or(0))
                .with("label", named.label.clone())
                .with("txids", Json::arr(tally.txids.iter().copied())),
        );
    }
    Ok(Json::Arr(rows))
}

pub(super) fn listreceivedbylabel(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let (depth_min, empty_too) = (args.int_or(0, 1)?, args.bool_or(1, false)?);
    let immature = args.bool_or(3, false)?;
    let here = here(call)?;
    let tallies = tally(&here, depth_min, immature, None);
    let mut labels: BTreeMap<&str, Tally> = BTreeMap::new();
    for (script, named) in &here.wallet.book {
        let tally = tallies.get(script);
        if tally.is_none() && !empty_too {
            continue;
        }
        let sum = labels.entry(&named.label).or_default();
        if let Some(tally) = tally {
            sum.amount += tally.amount;
            sum.depth = [sum.depth, tally.depth].into_iter().flatten().min();
        }
    }
    let row = |(label, tally): (&str, Tally)| {
        Json::obj()
            .with("amount", Json::amount(tally.amount.cast_signed()))
            .with("confirmations", tally.depth.unwrap_or(0))
            .with("label", label)
    };
    Ok(Json::Arr(labels.into_iter().map(row).collect()))
}
