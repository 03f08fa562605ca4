//! Paying more for what waits already: another transaction takes its place.

use bitcoin::{TxOut, Txid};

use super::plan::{commit, draft, fees, payments, sign, signs};
use super::psbt::{fill, of_unsigned};
use super::{Here, bool_of, failed, given, here, only, save, wallet_code};
use crate::mempool::fee_at;
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::methods::psbt::encode;
use crate::session::rpc::methods::raw::outputs;
use crate::wallet::{Choice, Draft, Plan, fee_of, fee_rate};

/// More than what nodes ask of a replacement, in satoshi per 1,000 vbytes.
const INCREMENT: u64 = 5_000;

/// Refused if another cannot take its place.
fn check(here: &Here<'_>, txid: &Txid) -> Result<(), RpcError> {
    let Some(record) = here.wallet.records.get(txid) else {
        return Err(RpcError::key("Invalid or non-wallet transaction id"));
    };
    let outputs = u32::try_from(record.tx.output.len()).unwrap_or(u32::MAX);
    let spent = (0..outputs).any(|vout| here.wallet.is_spent(&bitcoin::OutPoint { txid: *txid, vout }));
    if spent {
        return Err(RpcError::param("Transaction has descendants in the wallet"));
    }
    if !here.node.mempool().children(txid).is_empty() {
        return Err(RpcError::param("Transaction has descendants in the mempool"));
    }
    if here.wallet.depth(record) != 0 {
        return Err(failed("Transaction has been mined, or is conflicted with a mined transaction"));
    }
    if let Some(by) = record.notes.get("replaced_by_txid") {
        let words = format!("Cannot bump transaction {txid} which was already bumped by transaction {by}");
        return Err(failed(words));
    }
    let mine = record.tx.input.iter().all(|input| {
        here.wallet.output(&input.previous_output).is_some_and(|out| here.wallet.is_mine(&out.script_pubkey))
    });
    if !mine {
        return Err(failed("Transaction contains inputs that don't belong to this wallet"));
    }
    Ok(())
}

/// An amount as people write it: with two digits behind the point at least, and no zeros beyond those.
fn money(satoshi: i64) -> String {
    let text = Json::amount(satoshi).write();
    let kept = text.find('.').map_or(text.len(), |point| point + 3);
    let end = text.trim_end_matches('0').len().max(kept);
    text[..end].to_owned()
}

/// Checks a rate that was said against what a replacement must pay.
fn check_rate(here: &Here<'_>, rate: u64, vsize: u64, old_fee: u64) -> Result<(), RpcError> {
    let shown = money;
    // Below what is relayed at all the fee is too low anyway, and is said to be.
    let open = here.node.mempool().rolling_rate(here.node.time());
    let per = |rate: u64| money(rate.cast_signed());
    if rate < open {
        return Err(failed(format!(
            "New fee rate ({}) is lower than the minimum fee rate ({}) to get into the mempool -- ",
            per(rate),
            per(open)
        )));
    }
    let incremental = here.node.mempool().options().incremental_rate;
    let least = old_fee.cast_signed() + fee_at(incremental, vsize);
    let fee = fee_at(rate, vsize);
    if fee < least {
        let old = shown(old_fee.cast_signed());
        let step = shown(fee_at(incremental, vsize));
        return Err(RpcError::param(format!(
            "Insufficient total fee {}, must be at least {} (oldFee {old} + incrementalFee {step})",
            shown(fee),
            shown(least)
        )));
    }
    if fee.unsigned_abs() > here.options.fee_max {
        let most = shown(here.options.fee_max.cast_signed());
        return Err(failed(format!(
            "Specified or calculated fee {} is too high (cannot be higher than -maxtxfee {most})",
            shown(fee)
        )));
    }
    Ok(())
}

/// The transaction that takes its place.
/// What may be said of a replacement.
const OPTIONS: &[&str] =
    &["confTarget", "conf_target", "estimate_mode", "fee_rate", "original_change_index", "outputs", "replaceable"];

fn replacement(call: &mut Call<'_, '_>, args: &Args, only_psbt: bool) -> Result<(Txid, Draft, u64), RpcError> {
    let txid = args.txid(0, "txid")?;
    let options = args.at(1).clone();
    only(&options, OPTIONS)?;
    let others = given(&options, "outputs").map(|values| outputs(call, values)).transpose()?;
    if others.as_ref().is_some_and(Vec::is_empty) {
        return Err(RpcError::param("Invalid parameter, output argument cannot be an empty array"));
    }
    let mut here = here(call)?;
    if !only_psbt {
        if here.wallet.flags.watch_only {
            let words =
                "bumpfee is not available with wallets that have private keys disabled. Use psbtbumpfee instead.";
            return Err(failed(words));
        }
        signs(&here)?;
    }
    let mut plan = Plan { replaceable: Some(bool_of(&options, "replaceable", true)?), ..Plan::default() };
    let target = match (given(&options, "conf_target"), given(&options, "confTarget")) {
        (Some(_), Some(_)) => {
            let words = "confTarget and conf_target options should not both be set. Use conf_target (confTarget is deprecated).";
            return Err(RpcError::param(words));
        }
        (found, older) => found.or(older).unwrap_or(&Json::Null),
    };
    fees(&here, &mut plan, target, options.get("estimate_mode"), options.get("fee_rate"))?;
    check(&here, &txid)?;
    let record = here.wallet.records[&txid].clone();
    let spent: Vec<Option<TxOut>> =
        record.tx.input.iter().map(|input| here.wallet.output(&input.previous_output).cloned()).collect();
    let old_fee = fee_of(&record.tx, &spent)
        .ok_or_else(|| failed("Transaction contains inputs that don't belong to this wallet"))?;
    let vsize = record.tx.vsize() as u64;
    if let Some(rate) = plan.rate {
        check_rate(&here, rate, vsize, old_fee)?;
    } else {
        let old_rate = (old_fee * 1_000).div_ceil(vsize.max(1));
        let increment = INCREMENT.max(here.node.mempool().options().incremental_rate);
        let estimate = fee_rate(here.node, here.options, &plan).map_err(failed)?.rate;
        plan.rate = Some(estimate.max(old_rate + 1 + increment));
    }
    plan.inputs = record
        .tx
        .input
        .iter()
        .zip(&spent)
        .map(|(input, out)| Choice { outpoint: input.previous_output, sequence: None, out: out.clone(), weight: None })
        .collect();
    plan.asked.depth_min = 1;
    let change_at = match given(&options, "original_change_index") {
        Some(value) => {
            let at: usize = value.int()?;
            if at >= record.tx.output.len() {
                return Err(RpcError::param("Change position is out of range"));
            }
            Some(at)
        }
        None => record.tx.output.iter().position(|out| here.wallet.is_change(&out.script_pubkey)),
    };
    let outs = match others {
        Some(outs) => outs,
        None => {
            let mut outs = record.tx.output.clone();
            if outs.len() > 1
                && let Some(at) = change_at
            {
                plan.change_script = Some(outs.remove(at).script_pubkey);
                plan.change_at = Some(at);
            }
            outs
        }
    };
    let draft = draft(&mut here, &payments(outs), &plan, wallet_code::ERROR)?;
    Ok((txid, draft, old_fee))
}

pub(super) fn bumpfee(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let (old, mut draft, old_fee) = replacement(call, args, false)?;
    let mut here = here(call)?;
    sign(&here, &mut draft).map_err(|_| failed("Can't sign transaction."))?;
    let mut notes = here.wallet.records[&old].notes.clone();
    notes.insert("replaces_txid".into(), old.to_string());
    let txid = commit(&mut here, draft.tx, notes)?;
    if let Some(record) = here.wallet.records.get_mut(&old) {
        record.notes.insert("replaced_by_txid".into(), txid.to_string());
    }
    save(call)?;
    Ok(Json::obj()
        .with("txid", txid)
        .with("origfee", Json::amount(old_fee.cast_signed()))
        .with("fee", Json::amount(draft.fee.cast_signed()))
        .with("errors", Json::Arr(Vec::new())))
}

pub(super) fn psbtbumpfee(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let (_, draft, old_fee) = replacement(call, args, true)?;
    let mut psbt = of_unsigned(draft.tx)?;
    fill(call, &mut psbt, false, 0, true, false)?;
    Ok(Json::obj()
        .with("psbt", encode(&psbt))
        .with("origfee", Json::amount(old_fee.cast_signed()))
        .with("fee", Json::amount(draft.fee.cast_signed()))
        .with("errors", Json::Arr(Vec::new())))
}
