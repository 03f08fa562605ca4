//! Payments.

use super::coins::avoid_reuse;
use super::plan::{commit, draft, fees, payments, sign, signs, who_pays};
use super::transactions::notes;
use super::{Here, here, save, wallet_code};
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::methods::raw::outputs;
use crate::wallet::{Payment, Plan};

/// Pays, and says what came of it.
fn pay(
    here: &mut Here<'_>,
    payments: &[Payment],
    plan: &Plan,
    notes: std::collections::BTreeMap<String, String>,
    verbose: bool,
) -> Result<Json, RpcError> {
    let mut draft = draft(here, payments, plan, wallet_code::INSUFFICIENT_FUNDS)?;
    sign(here, &mut draft)?;
    let txid = commit(here, draft.tx, notes)?;
    Ok(if verbose { Json::obj().with("txid", txid).with("fee_reason", draft.reason) } else { txid.into() })
}

pub(super) fn sendtoaddress(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    signs(&here(call)?)?;
    let values = Json::obj().with(args.text(0)?, args.at(1).clone());
    let outs = outputs(call, &values)?;
    let mut here = here(call)?;
    let mut plan = Plan { replaceable: optional_bool(args.at(5))?, ..Plan::default() };
    plan.together = avoid_reuse(&here, args.at(8))?;
    plan.asked.reused_too = !plan.together;
    fees(&here, &mut plan, args.at(6), args.at(7), args.at(9))?;
    let mut payments = payments(outs);
    payments[0].pays_fee = args.bool_or(4, false)?;
    if payments[0].amount == 0 {
        return Err(RpcError::kind("Invalid amount for send"));
    }
    let notes = notes(&[("comment", args.at(2)), ("to", args.at(3))]);
    let answer = pay(&mut here, &payments, &plan, notes, args.bool_or(10, false)?);
    save(call)?;
    answer
}

fn optional_bool(value: &Json) -> Result<Option<bool>, RpcError> {
    if value.is_null() { Ok(None) } else { value.bool().map(Some) }
}

pub(super) fn sendmany(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    signs(&here(call)?)?;
    if !args.at(0).is_null() && !args.text(0)?.is_empty() {
        return Err(RpcError::param("Dummy value must be set to \"\""));
    }
    args.at(1).fields()?;
    let outs = outputs(call, args.at(1))?;
    let mut here = here(call)?;
    let mut plan = Plan { replaceable: optional_bool(args.at(5))?, ..Plan::default() };
    plan.asked.reused_too = !here.wallet.flags.avoid_reuse;
    fees(&here, &mut plan, args.at(6), args.at(7), args.at(8))?;
    let mut payments = payments(outs);
    who_pays(&here, &mut payments, args.at(4))?;
    let notes = notes(&[("comment", args.at(3))]);
    let answer = pay(&mut here, &payments, &plan, notes, args.bool_or(9, false)?);
    save(call)?;
    answer
}
