//! Addresses that everybody can see belong together, since they paid together or took each other's change.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, ScriptBuf};

use super::{Here, address, here};
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;

/// What each script has, in satoshi.
fn balances(here: &Here<'_>) -> BTreeMap<ScriptBuf, u64> {
    let (wallet, mut sums) = (&here.wallet, BTreeMap::<ScriptBuf, u64>::new());
    for (txid, record) in &wallet.records {
        let from_me = wallet.is_from_me(&record.tx);
        if !wallet.is_trusted(txid) || record.is_immature(wallet.tip()) || wallet.depth(record) < i32::from(!from_me) {
            continue;
        }
        for (vout, out) in (0..).zip(&record.tx.output) {
            if wallet.is_mine(&out.script_pubkey) {
                let spent = wallet.is_spent(&OutPoint { txid: *txid, vout });
                *sums.entry(out.script_pubkey.clone()).or_default() += if spent { 0 } else { out.value.to_sat() };
            }
        }
    }
    sums
}

/// Scripts by what is seen of them together.
fn groups(here: &Here<'_>) -> Vec<BTreeSet<ScriptBuf>> {
    let (wallet, mut groups) = (&here.wallet, Vec::<BTreeSet<ScriptBuf>>::new());
    let mut add = |seen: BTreeSet<ScriptBuf>| {
        if seen.is_empty() {
            return;
        }
        let (touched, mut rest): (Vec<_>, Vec<_>) = groups.drain(..).partition(|group| !group.is_disjoint(&seen));
        rest.push(touched.into_iter().flatten().chain(seen).collect());
        groups = rest;
    };
    for record in wallet.records.values() {
        let outs = record.tx.input.iter().filter_map(|input| wallet.output(&input.previous_output));
        let mine = outs.map(|out| out.script_pubkey.clone()).filter(|script| wallet.is_mine(script));
        let mut seen: BTreeSet<ScriptBuf> = mine.collect();
        if !seen.is_empty() {
            let change = record.tx.output.iter().filter(|out| wallet.is_change(&out.script_pubkey));
            seen.extend(change.map(|out| out.script_pubkey.clone()));
        }
        add(seen);
        for out in record.tx.output.iter().filter(|out| wallet.is_mine(&out.script_pubkey)) {
            add(BTreeSet::from([out.script_pubkey.clone()]));
        }
    }
    groups
}

pub(super) fn listaddressgroupings(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let here = here(call)?;
    let balances = balances(&here);
    let row = |script: &ScriptBuf| {
        let value = balances.get(script).copied().unwrap_or(0);
        let mut row = vec![address(script, here.network()).into(), Json::amount(value.cast_signed())];
        row.extend(here.wallet.label(script).map(Json::from));
        Json::Arr(row)
    };
    let group = |group: &BTreeSet<ScriptBuf>| Json::Arr(group.iter().map(row).collect());
    Ok(Json::Arr(groups(&here).iter().map(group).collect()))
}
