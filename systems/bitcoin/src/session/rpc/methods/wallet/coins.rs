//! What a wallet has.

use std::collections::BTreeSet;

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Script, Txid};

use super::addresses::parents;
use super::{address, failed, given, here, last_block, save, script_of};
use crate::session::rpc::call::{Args, Call, amount, hash};
use crate::session::rpc::descriptor::{Known, infer};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::render::script::Template;
use crate::wallet::Asked;

fn satoshi(value: u64) -> Json {
    Json::amount(value.cast_signed())
}

pub(super) fn getbalances(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let here = here(call)?;
    let avoid = here.wallet.flags.avoid_reuse;
    let balance = here.wallet.balance(0, avoid);
    let mut mine = Json::obj()
        .with("trusted", satoshi(balance.trusted))
        .with("untrusted_pending", satoshi(balance.pending))
        .with("immature", satoshi(balance.immature));
    if avoid {
        let all = here.wallet.balance(0, false);
        let used = (all.trusted + all.pending).saturating_sub(balance.trusted + balance.pending);
        mine.put("used", satoshi(used));
    }
    mine.put("nonmempool", satoshi(balance.nonmempool));
    Ok(Json::obj().with("mine", mine).with("lastprocessedblock", last_block(here.wallet)))
}

/// Whether addresses that were spent from are left alone: where the wallet does so unless told otherwise.
pub(super) fn avoid_reuse(here: &super::Here<'_>, value: &Json) -> Result<bool, RpcError> {
    let can = here.wallet.flags.avoid_reuse;
    let avoid = if value.is_null() { can } else { value.bool()? };
    if avoid && !can {
        return Err(failed("wallet does not have the \"avoid reuse\" feature enabled"));
    }
    Ok(avoid)
}

pub(super) fn getbalance(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    if !args.at(0).is_null() && args.text(0)? != "*" {
        return Err(RpcError::new(-32, "dummy first argument must be excluded or set to \"*\"."));
    }
    let depth_min: i32 = args.int_or(1, 0)?;
    let here = here(call)?;
    let avoid = avoid_reuse(&here, args.at(3))?;
    Ok(satoshi(here.wallet.balance(depth_min, avoid).trusted))
}

fn bounds(options: &Json, name: &str, otherwise: u64) -> Result<u64, RpcError> {
    given(options, name).map_or(Ok(otherwise), |value| amount(value).map(i64::cast_unsigned))
}

pub(super) fn listunspent(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let (depth_min, depth_max): (i32, i32) = (args.int_or(0, 1)?, args.int_or(1, 9_999_999)?);
    let unsafe_too = args.bool_or(3, true)?;
    let options = args.at(4).clone();
    let (least, most) = (bounds(&options, "minimumAmount", 0)?, bounds(&options, "maximumAmount", u64::MAX)?);
    let sum_min = bounds(&options, "minimumSumAmount", u64::MAX)?;
    let count_max: u64 = given(&options, "maximumCount").map_or(Ok(u64::MAX), Json::int)?;
    let immature_too = super::bool_of(&options, "include_immature_coinbase", false)?;
    let here = here(call)?;
    let mut wanted = BTreeSet::new();
    if !args.at(2).is_null() {
        for value in args.at(2).items()? {
            let text = value.text()?;
            let script = script_of(text, here.network())
                .map_err(|_| RpcError::key(format!("Invalid Bitcoin address: {text}")))?;
            if !wanted.insert(script) {
                return Err(RpcError::param(format!("Invalid parameter, duplicated address: {text}")));
            }
        }
    }
    let asked = Asked { depth_min, depth_max, unsafe_too, immature_too, ..Asked::default() };
    let (mut rows, mut sum) = (Vec::new(), 0_u64);
    for coin in here.wallet.coins(asked) {
        let value = coin.out.value.to_sat();
        if value < least || value > most {
            continue;
        }
        if sum >= sum_min || (count_max > 0 && rows.len() as u64 >= count_max) {
            break;
        }
        sum += value;
        let script = &coin.out.script_pubkey;
        if !wanted.is_empty() && !wanted.contains(script) {
            continue;
        }
        rows.push((group(&here, script), row(&here, &coin)));
    }
    // As with Core, whatever the order in which they were found.
    rows.sort_by_key(|(group, _)| *group);
    Ok(Json::Arr(rows.into_iter().map(|(_, row)| row).collect()))
}

/// By types of addresses, the oldest first; others come last.
fn group(here: &super::Here<'_>, script: &Script) -> u8 {
    match Template::of(script) {
        Template::PubkeyHash(_) => 0,
        Template::ScriptHash(id) => {
            let mut known = Known::default();
            if let Some((source, index)) = here.wallet.source_of(script) {
                source.expand(index, &mut known);
            }
            u8::from(known.scripts.get(&id).is_some_and(|redeem| redeem.is_witness_program()))
        }
        Template::WitnessKeyHash(_) | Template::WitnessScriptHash(_) => 2,
        Template::Taproot(_) => 3,
        _ => 4,
    }
}

fn row(here: &super::Here<'_>, coin: &crate::wallet::Coin) -> Json {
    let (script, wallet) = (&coin.out.script_pubkey, &here.wallet);
    let mut json = Json::obj().with("txid", coin.outpoint.txid).with("vout", coin.outpoint.vout);
    let mut known = Known::default();
    let source = wallet.source_of(script);
    if let Some((source, index)) = source {
        source.expand(index, &mut known);
    }
    if let Some(text) = address(script, here.network()) {
        json.put("address", text);
        if let Some(label) = wallet.label(script) {
            json.put("label", label);
        }
        if let Template::ScriptHash(id) = Template::of(script)
            && let Some(redeem) = known.scripts.get(&id)
        {
            json.put("redeemScript", redeem.to_hex_string());
            witness_script(&mut json, redeem, &known);
        } else {
            witness_script(&mut json, script, &known);
        }
    }
    json.put("scriptPubKey", script.to_hex_string());
    json.put("amount", coin.out.value);
    json.put("confirmations", coin.depth);
    if coin.depth == 0
        && let Some(entry) = here.node.mempool().with_ancestors(&coin.outpoint.txid)
    {
        json.put("ancestorcount", entry.count);
        json.put("ancestorsize", entry.vsize);
        json.put("ancestorfees", entry.fees);
    }
    json.put("spendable", true);
    json.put("solvable", coin.solvable);
    if coin.solvable {
        json.put("desc", infer(script, &known, here.network()));
    }
    json.put("parent_descs", parents(here, script));
    if wallet.flags.avoid_reuse {
        json.put("reused", coin.reused);
    }
    json.with("safe", coin.safe)
}

fn witness_script(json: &mut Json, script: &bitcoin::Script, known: &Known) {
    if let Template::WitnessScriptHash(id) = Template::of(script) {
        let id = bitcoin::hashes::ripemd160::Hash::hash(&id).to_byte_array();
        if let Some(inner) = known.scripts.get(&id) {
            json.put("witnessScript", inner.to_hex_string());
        }
    }
}

pub(super) fn lockunspent(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let (unlock, persistent) = (args.at(0).bool()?, args.bool_or(2, false)?);
    let here = here(call)?;
    if args.at(1).is_null() {
        if unlock {
            here.wallet.locked.clear();
            here.wallet.dirty = true;
            save(call)?;
        }
        return Ok(true.into());
    }
    let mut outpoints = Vec::new();
    for value in args.at(1).items()? {
        value.fields()?;
        let txid = Txid::from_byte_array(hash(value.get("txid"), "txid")?);
        let vout: i64 = value.get("vout").int()?;
        let vout = u32::try_from(vout).map_err(|_| RpcError::param("Invalid parameter, vout cannot be negative"))?;
        let outpoint = OutPoint { txid, vout };
        let Some(record) = here.wallet.records.get(&txid) else {
            return Err(RpcError::param("Invalid parameter, unknown transaction"));
        };
        if record.tx.output.len() <= vout as usize {
            return Err(RpcError::param("Invalid parameter, vout index out of bounds"));
        }
        if here.wallet.is_spent(&outpoint) {
            return Err(RpcError::param("Invalid parameter, expected unspent output"));
        }
        let locked = here.wallet.locked.get(&outpoint).copied();
        if unlock && locked.is_none() {
            return Err(RpcError::param("Invalid parameter, expected locked output"));
        }
        if !unlock && locked.is_some_and(|kept| kept || !persistent) {
            return Err(RpcError::param("Invalid parameter, output already locked"));
        }
        outpoints.push(outpoint);
    }
    for outpoint in outpoints {
        if unlock {
            here.wallet.locked.remove(&outpoint);
        } else {
            here.wallet.locked.insert(outpoint, persistent);
        }
    }
    here.wallet.dirty = true;
    save(call)?;
    Ok(true.into())
}

pub(super) fn listlockunspent(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let here = here(call)?;
    let row = |outpoint: &OutPoint| Json::obj().with("txid", outpoint.txid).with("vout", outpoint.vout);
    Ok(Json::Arr(here.wallet.locked.keys().map(row).collect()))
}
