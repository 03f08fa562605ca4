//! How a payment is to be made, of what a client says.

use bitcoin::{ScriptBuf, TxOut};

use super::{Here, failed, given, script_of, wallet_code};
use crate::mempool::{AcceptOptions, Horizon};
use crate::session::rpc::call::fixed;
use crate::session::rpc::descriptor::Known;
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::methods::sign::sign as sign_with;
use crate::wallet::{Draft, Payment, Place, Plan, build};

/// Where a rate comes from: a target with a mode, or a number of satoshi per vbyte.
pub(super) fn fees(here: &Here<'_>, plan: &mut Plan, target: &Json, mode: &Json, rate: &Json) -> Result<(), RpcError> {
    if !rate.is_null() {
        if !target.is_null() {
            return Err(RpcError::param(
                "Cannot specify both conf_target and fee_rate. Please provide either a confirmation target in blocks \
                 for automatic fee estimation, or an explicit fee rate.",
            ));
        }
        if !mode.is_null() && mode.text()? != "unset" {
            return Err(RpcError::param("Cannot specify both estimate_mode and fee_rate"));
        }
        plan.rate = Some(fixed(rate, 3)?.unsigned_abs());
        return Ok(());
    }
    if !mode.is_null() {
        plan.conservative = match mode.text()?.to_ascii_lowercase().as_str() {
            "conservative" => true,
            "economical" | "unset" => false,
            _ => {
                let words =
                    "Invalid estimate_mode parameter, must be one of: \"unset\", \"economical\", \"conservative\"";
                return Err(RpcError::param(words));
            }
        };
    }
    if !target.is_null() {
        let most = here.node.mempool().estimator().target_max(Horizon::Long);
        let value: i32 = target.int()?;
        let value = u32::try_from(value).ok().filter(|value| (1..=most).contains(value));
        let words = || RpcError::param(format!("Invalid conf_target, must be between 1 and {most}"));
        plan.target = Some(value.ok_or_else(words)?);
    }
    Ok(())
}

/// Payments of outputs, none of which pays the fee yet.
pub(super) fn payments(outputs: Vec<TxOut>) -> Vec<Payment> {
    let payment = |out: TxOut| Payment { script: out.script_pubkey, amount: out.value.to_sat(), pays_fee: false };
    outputs.into_iter().map(payment).collect()
}

/// Which payments pay the fee, by places or by addresses.
pub(super) fn who_pays(here: &Here<'_>, payments: &mut [Payment], value: &Json) -> Result<(), RpcError> {
    if value.is_null() {
        return Ok(());
    }
    let what = "Invalid parameter 'subtract fee from output',";
    for item in value.items()? {
        let at = match item {
            Json::Str(text) => {
                let script = script_of(text, here.network()).ok();
                let at = script.and_then(|script| payments.iter().position(|payment| payment.script == script));
                let words = || RpcError::param(format!("{what} destination {text} not found in tx outputs"));
                at.ok_or_else(words)?
            }
            Json::Num(_) => {
                let at: i64 = item.int()?;
                if at < 0 {
                    return Err(RpcError::param(format!("{what} negative position: {at}")));
                }
                let place = usize::try_from(at).ok().filter(|at| *at < payments.len());
                let words = || RpcError::param(format!("{what} position too large: {at}"));
                place.ok_or_else(words)?
            }
            _ => {
                let words = format!("{what} invalid value type: {}", item.type_name());
                return Err(RpcError::param(words));
            }
        };
        if std::mem::replace(&mut payments[at].pays_fee, true) {
            return Err(RpcError::param(format!("{what} duplicated position: {at}")));
        }
    }
    Ok(())
}

/// Makes a payment, with this number for what stands in its way.
pub(super) fn draft(here: &mut Here<'_>, payments: &[Payment], plan: &Plan, code: i32) -> Result<Draft, RpcError> {
    build(here.wallet, here.entropy, here.options, here.node, payments, plan)
        .map_err(|(_, words)| RpcError::new(code, words))
}

/// All that is known of outputs.
pub(super) fn known(here: &Here<'_>, spent: &[Option<TxOut>]) -> Known {
    let mut known = Known::default();
    for out in spent.iter().flatten() {
        here.wallet.explain(&out.script_pubkey, &mut known);
    }
    known
}

/// Signs a transaction as far as that can be done. Why inputs are not complete.
pub(super) fn sign_some(here: &Here<'_>, draft: &mut Draft) -> Result<Vec<Json>, RpcError> {
    let known = known(here, &draft.spent);
    let outs = draft.tx.input.iter().zip(&draft.spent);
    let spent = outs.filter_map(|(input, out)| Some((input.previous_output, out.clone()?))).collect();
    let (signed, errors) = sign_with(&draft.tx, &known, &spent, 0)?;
    draft.tx = signed;
    Ok(errors)
}

/// Signs all inputs of a draft.
pub(super) fn sign(here: &Here<'_>, draft: &mut Draft) -> Result<(), RpcError> {
    let missing = sign_some(here, draft)?;
    if missing.is_empty() { Ok(()) } else { Err(RpcError::new(wallet_code::ERROR, "Signing transaction failed")) }
}

/// Writes a transaction of the wallet down, and brings it to the mempool. What is refused there stays with the wallet.
pub(super) fn commit(
    here: &mut Here<'_>,
    tx: bitcoin::Transaction,
    notes: std::collections::BTreeMap<String, String>,
) -> Result<bitcoin::Txid, RpcError> {
    let (txid, tx) = (tx.compute_txid(), std::sync::Arc::new(tx));
    let now = here.node.time();
    here.wallet.see(&tx, Place::Nowhere { abandoned: false }, now);
    if let Some(record) = here.wallet.records.get_mut(&txid) {
        record.notes.extend(notes);
    }
    if here.options.broadcast && here.node.on_transaction(tx, AcceptOptions::default())?.is_ok() {
        here.node.mempool_mut().0.add_unbroadcast(txid);
        if let Some(record) = here.wallet.records.get_mut(&txid) {
            record.place = Place::Mempool;
        }
    }
    here.wallet.dirty = true;
    Ok(txid)
}

/// An address for change, which must be one.
pub(super) fn change_script(here: &Here<'_>, value: Option<&Json>) -> Result<Option<ScriptBuf>, RpcError> {
    let Some(value) = value else { return Ok(None) };
    let text = value.text()?;
    if text.is_empty() {
        return Ok(None);
    }
    let script = script_of(text, here.network());
    script.map(Some).map_err(|_| RpcError::key("Change address must be a valid bitcoin address"))
}

/// A type of addresses for change.
pub(super) fn change_type(value: Option<&Json>) -> Result<Option<&'static str>, RpcError> {
    let Some(value) = value else { return Ok(None) };
    let text = value.text()?;
    super::addresses::kind(text).map(Some).map_err(|_| RpcError::key(format!("Unknown change type '{text}'")))
}

/// Refused where nothing can be signed.
pub(super) fn signs(here: &Here<'_>) -> Result<(), RpcError> {
    if here.wallet.flags.watch_only {
        return Err(failed("Error: Private keys are disabled for this wallet"));
    }
    here.unlocked()
}

/// A field under its usual name or its older one, of which only one may be given.
pub(super) fn either<'j>(object: &'j Json, name: &str, older: &str) -> Result<Option<&'j Json>, RpcError> {
    match (given(object, name), given(object, older)) {
        (Some(_), Some(_)) => Err(RpcError::param(format!("Cannot specify both {older} and {name}"))),
        (found, other) => Ok(found.or(other)),
    }
}
