//! Adding inputs and change to what a client began: raw transactions, PSBTs, and payments by many options.

use bitcoin::hashes::Hash as _;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, TxOut};

use super::plan::{change_script, change_type, draft, either, fees, payments, sign_some, signs, who_pays};
use super::psbt::{fill, of_unsigned};
use super::{Here, bool_of, failed, given, here, only, save, wallet_code};
use crate::session::rpc::call::{Args, Call, amount, hash};
use crate::session::rpc::descriptor::{self, Known};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::methods::addresses::public_key;
use crate::session::rpc::methods::psbt::encode;
use crate::session::rpc::methods::raw::{inputs, outputs};
use crate::session::rpc::methods::sign::{Spent, find_outputs};
use crate::session::rpc::render::codec::{decode_either, encode_hex};
use crate::wallet::{Choice, Draft, Payment, Plan, TRUC_CHILD_WEIGHT_MAX, TRUC_VERSION, spendable, version_mismatch};

/// What options say of weights of inputs.
fn weights(options: &Json, plan: &mut Plan) -> Result<(), RpcError> {
    let Some(rows) = given(options, "input_weights") else { return Ok(()) };
    for row in rows.items()? {
        let txid = bitcoin::hashes::Hash::from_byte_array(hash(row.get("txid"), "txid")?);
        let Json::Num(_) = row.get("vout") else { return Err(RpcError::param("Invalid parameter, missing vout key")) };
        let vout: i64 = row.get("vout").int()?;
        let vout = u32::try_from(vout).map_err(|_| RpcError::param("Invalid parameter, vout cannot be negative"))?;
        let Json::Num(_) = row.get("weight") else {
            return Err(RpcError::param("Invalid parameter, missing weight key"));
        };
        let weight: i64 = row.get("weight").int()?;
        if weight < 165 {
            return Err(RpcError::param(
                "Invalid parameter, weight cannot be less than 165 (41 bytes (size of outpoint + sequence + empty scriptSig) * 4 (witness scaling factor)) + 1 (empty witness)",
            ));
        }
        if weight > 400_000 {
            return Err(RpcError::param(
                "Invalid parameter, weight cannot be greater than the maximum standard tx weight of 400000",
            ));
        }
        let outpoint = OutPoint { txid, vout };
        for choice in plan.inputs.iter_mut().filter(|choice| choice.outpoint == outpoint) {
            choice.weight = Some(weight.unsigned_abs());
        }
    }
    Ok(())
}

/// What may be said of how a transaction is to be funded, and by what type of value; by any if none is named.
const OPTIONS: &[(&str, &str)] = &[
    ("add_inputs", "bool"),
    ("add_to_wallet", "bool"),
    ("changeAddress", "string"),
    ("changePosition", "number"),
    ("change_address", "string"),
    ("change_position", "number"),
    ("change_type", "string"),
    ("conf_target", "number"),
    ("estimate_mode", "string"),
    ("feeRate", ""),
    ("fee_rate", ""),
    ("includeWatching", "bool"),
    ("include_unsafe", "bool"),
    ("include_watching", "bool"),
    ("input_weights", "array"),
    ("inputs", "array"),
    ("lockUnspents", "bool"),
    ("lock_unspents", "bool"),
    ("locktime", "number"),
    ("max_tx_weight", "number"),
    ("maxconf", "number"),
    ("minconf", "number"),
    ("psbt", "bool"),
    ("replaceable", "bool"),
    ("send_max", "bool"),
    ("solving_data", "object"),
    ("subtractFeeFromOutputs", "array"),
    ("subtract_fee_from_outputs", "array"),
    ("version", "number"),
];

/// What a client knows of outputs that it wants to be spent, and the wallet does not: keys, scripts, descriptors.
fn solving_data(here: &Here<'_>, data: &Json) -> Result<Known, RpcError> {
    let mut known = Known::default();
    let list = |name: &str| given(data, name).map_or(Ok(&[][..]), Json::items);
    for value in list("pubkeys")? {
        let key = public_key(value.text()?)?;
        known.keys.insert(key.pubkey_hash().to_byte_array(), key);
        if let Ok(hash) = key.wpubkey_hash() {
            known.add_script(ScriptBuf::new_p2wpkh(&hash));
        }
    }
    for value in list("scripts")? {
        let text = value.text()?;
        let script = ScriptBuf::from_hex(text).map_err(|_| RpcError::key(format!("'{text}' is not hex")))?;
        known.add_script(script);
    }
    for value in list("descriptors")? {
        let text = value.text()?;
        let wrong = |words: String| RpcError::param(format!("Unable to parse descriptor '{text}': {words}"));
        for one in descriptor::parse(text, here.network(), true).map_err(wrong)? {
            one.expand(0, &mut known);
        }
    }
    Ok(known)
}

/// Refused if an option is unknown, or its value is of another type than it has.
fn check_options(options: &Json) -> Result<(), RpcError> {
    let names: Vec<&str> = OPTIONS.iter().map(|(name, _)| *name).collect();
    for (name, kind) in OPTIONS.iter().filter(|(_, kind)| !kind.is_empty()) {
        if let Some(value) = given(options, name).filter(|value| value.type_name() != *kind) {
            let found = value.type_name();
            let words = format!("JSON value of type {found} for field {name} is not of expected type {kind}");
            return Err(RpcError::kind(words));
        }
    }
    only(options, &names)
}

/// A plan of options, by their newer and their older names.
fn plan(here: &Here<'_>, options: &Json, add_inputs: bool, replaceable: bool) -> Result<Plan, RpcError> {
    check_options(options)?;
    let mut plan = Plan { add_inputs: bool_of(options, "add_inputs", add_inputs)?, any_rate: true, ..Plan::default() };
    let (depth_min, depth_max): (i32, i32) = (
        given(options, "minconf").map_or(Ok(0), Json::int)?,
        given(options, "maxconf").map_or(Ok(i32::MAX), Json::int)?,
    );
    if depth_min < 0 {
        return Err(RpcError::param("Negative minconf"));
    }
    if depth_max < depth_min {
        return Err(RpcError::param(format!("maxconf can't be lower than minconf: {depth_max} < {depth_min}")));
    }
    (plan.asked.depth_min, plan.asked.depth_max) = (depth_min, depth_max);
    plan.asked.unsafe_too = bool_of(options, "include_unsafe", false)?;
    plan.asked.reused_too = !here.wallet.flags.avoid_reuse;
    plan.known = solving_data(here, options.get("solving_data"))?;
    plan.change_script = change_script(here, either(options, "change_address", "changeAddress")?)?;
    plan.change_type = change_type(given(options, "change_type"))?;
    if plan.change_script.is_some() && plan.change_type.is_some() {
        return Err(RpcError::param("Cannot specify both change address and address type options"));
    }
    if let Some(at) = either(options, "change_position", "changePosition")? {
        let at: i64 = at.int()?;
        plan.change_at = Some(usize::try_from(at).map_err(|_| RpcError::param("changePosition out of bounds"))?);
    }
    if let Some(weight) = given(options, "max_tx_weight") {
        let weight: i64 = weight.int()?;
        if !(260..=400_000).contains(&weight) {
            return Err(failed("Maximum transaction weight must be between 260 and 400000"));
        }
        plan.weight_max = Some(weight.unsigned_abs());
    }
    if let Some(rate) = given(options, "feeRate") {
        if given(options, "fee_rate").is_some() {
            return Err(RpcError::param("Cannot specify both fee_rate (sat/vB) and feeRate (BTC/kvB)"));
        }
        if given(options, "conf_target").is_some() {
            return Err(RpcError::param(
                "Cannot specify both conf_target and feeRate. Please provide either a confirmation target in blocks for automatic fee estimation, or an explicit fee rate.",
            ));
        }
        if given(options, "estimate_mode").is_some() {
            return Err(RpcError::param("Cannot specify both estimate_mode and feeRate"));
        }
        plan.rate = Some(amount(rate)?.unsigned_abs());
    }
    if replaceable {
        plan.replaceable = given(options, "replaceable").map(Json::bool).transpose()?;
    }
    if plan.rate.is_none() {
        fees(here, &mut plan, options.get("conf_target"), options.get("estimate_mode"), options.get("fee_rate"))?;
    }
    Ok(plan)
}

fn lock_outputs(here: &mut Here<'_>, options: &Json, tx: &Transaction) -> Result<(), RpcError> {
    let lock = either(options, "lock_unspents", "lockUnspents")?.map_or(Ok(false), Json::bool)?;
    if lock {
        for input in &tx.input {
            here.wallet.locked.insert(input.previous_output, false);
        }
    }
    Ok(())
}

/// Takes the inputs of a transaction as they are.
fn take_inputs(tx: &Transaction, spent: &Spent, plan: &mut Plan) {
    for input in &tx.input {
        let outpoint = input.previous_output;
        plan.inputs.push(Choice {
            outpoint,
            sequence: Some(input.sequence),
            out: spent.get(&outpoint).cloned(),
            weight: None,
        });
    }
}

/// A transaction with these outputs; `payers` says which of them pay its fee. What it spends is locked if `options` ask.
fn fund(here: &mut Here<'_>, options: &Json, payers: &Json, outs: Vec<TxOut>, plan: &Plan) -> Result<Draft, RpcError> {
    if plan.change_at.is_some_and(|at| at > outs.len()) {
        return Err(RpcError::param("changePosition out of bounds"));
    }
    let mut payments = payments(outs);
    who_pays(here, &mut payments, payers)?;
    let draft = draft(here, &payments, plan, wallet_code::ERROR)?;
    lock_outputs(here, options, &draft.tx)?;
    Ok(draft)
}

pub(super) fn fundrawtransaction(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let witness = if args.at(2).is_null() { None } else { Some(args.at(2).bool()?) };
    let tx = decode_either(args.text(0)?, witness.unwrap_or(true), !witness.unwrap_or(false));
    let tx = tx.ok_or_else(|| RpcError::decode("TX decode failed"))?;
    let options = match args.at(1) {
        // What was watched only, in the beginning.
        Json::Bool(_) => Json::obj(),
        other => other.clone(),
    };
    let spent = find_outputs(call, &tx)?;
    let mut here = here(call)?;
    if tx.output.is_empty() {
        return Err(RpcError::param("TX must have at least one output"));
    }
    let mut plan = plan(&here, &options, true, true)?;
    take_inputs(&tx, &spent, &mut plan);
    weights(&options, &mut plan)?;
    (plan.lock_time, plan.version) = (Some(tx.lock_time.to_consensus_u32()), tx.version.0.cast_unsigned());
    let payers = either(&options, "subtract_fee_from_outputs", "subtractFeeFromOutputs")?.unwrap_or(&Json::Null);
    let draft = fund(&mut here, &options, payers, tx.output.clone(), &plan)?;
    let json = Json::obj()
        .with("hex", encode_hex(&draft.tx))
        .with("fee", Json::amount(draft.fee.cast_signed()))
        .with("changepos", position(&draft));
    save(call)?;
    Ok(json)
}

fn position(draft: &Draft) -> i64 {
    draft.change_at.map_or(-1, |at| i64::try_from(at).unwrap_or(-1))
}

pub(super) fn walletcreatefundedpsbt(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let options = args.at(3).clone();
    let lock: i64 = args.int_or(2, 0)?;
    let lock = u32::try_from(lock).map_err(|_| RpcError::param("Invalid parameter, locktime out of range"))?;
    let replaceable = given(&options, "replaceable").map(Json::bool).transpose()?;
    let default = here(call)?.options.replaceable;
    let begun = inputs(args.at(0), lock, Some(replaceable.unwrap_or(default)))?;
    let outs = outputs(call, args.at(1))?;
    let tx = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::from_consensus(lock),
        input: begun,
        output: Vec::new(),
    };
    let spent = find_outputs(call, &tx)?;
    let mut here = here(call)?;
    let mut plan = plan(&here, &options, tx.input.is_empty(), true)?;
    take_inputs(&tx, &spent, &mut plan);
    own_weights(args.at(0), &options, &mut plan)?;
    plan.lock_time = Some(lock);
    plan.version = args.int_or(5, 2)?;
    let payers = either(&options, "subtract_fee_from_outputs", "subtractFeeFromOutputs")?.unwrap_or(&Json::Null);
    let draft = fund(&mut here, &options, payers, outs, &plan)?;
    let mut psbt = of_unsigned(draft.tx.clone())?;
    fill(call, &mut psbt, false, 0, args.bool_or(4, true)?, false)?;
    save(call)?;
    Ok(Json::obj()
        .with("psbt", encode(&psbt))
        .with("fee", Json::amount(draft.fee.cast_signed()))
        .with("changepos", position(&draft)))
}

/// Weights that stand with the inputs themselves.
fn own_weights(values: &Json, options: &Json, plan: &mut Plan) -> Result<(), RpcError> {
    if given(options, "input_weights").is_some() {
        return Err(RpcError::param("Input weights should be specified in inputs rather than in options."));
    }
    if values.is_null() {
        return Ok(());
    }
    for (choice, value) in plan.inputs.iter_mut().zip(values.items()?) {
        if let Some(weight) = given(value, "weight") {
            choice.weight = Some(weight.int::<u64>()?);
        }
    }
    Ok(())
}

/// Signs as far as can be, and sends what is complete; or gives it back.
fn finish(call: &mut Call<'_, '_>, options: &Json, mut draft: Draft) -> Result<Json, RpcError> {
    let psbt_wanted = bool_of(options, "psbt", false)?;
    let add = bool_of(options, "add_to_wallet", true)?;
    let mut psbt = of_unsigned(draft.tx.clone())?;
    let can_sign = !here(call)?.wallet.flags.watch_only;
    fill(call, &mut psbt, can_sign, 0, true, false)?;
    let errors = sign_some(&here(call)?, &mut draft)?;
    let complete = errors.is_empty();
    let mut json = Json::obj();
    if psbt_wanted || !complete || !add {
        json.put("psbt", encode(&psbt));
    }
    if complete {
        if !psbt_wanted && add {
            let mut here = here(call)?;
            let txid = super::plan::commit(&mut here, draft.tx.clone(), std::collections::BTreeMap::new())?;
            json.put("txid", txid);
        } else {
            json.put("txid", draft.tx.compute_txid());
        }
        if !add || psbt_wanted {
            json.put("hex", encode_hex(&draft.tx));
        }
    }
    save(call)?;
    Ok(json.with("complete", complete))
}

/// Options of rates may stand among the arguments as well.
fn with_rates(options: &Json, args: &Args) -> Result<Json, RpcError> {
    let mut merged = if options.is_null() { Json::obj() } else { options.clone() };
    for (older, name) in [
        ("feeRate", "fee_rate (sat/vB)"),
        ("changeAddress", "change_address"),
        ("changePosition", "change_position"),
        ("includeWatching", "include_watching"),
        ("lockUnspents", "lock_unspents"),
        ("subtractFeeFromOutputs", "subtract_fee_from_outputs"),
    ] {
        if given(&merged, older).is_some() {
            return Err(RpcError::param(format!("Use {name} instead of {older}")));
        }
    }
    let both = |names: &[(usize, &str)]| {
        names.iter().any(|(_, name)| given(&merged, name).is_some())
            && names.iter().any(|(at, _)| !args.at(*at).is_null())
    };
    if both(&[(1, "conf_target"), (2, "estimate_mode")]) {
        let words = "Pass conf_target and estimate_mode either as arguments or in the options object, but not both";
        return Err(RpcError::param(words));
    }
    if both(&[(3, "fee_rate")]) {
        let words = "Pass the fee_rate either as an argument, or in the options object, but not both";
        return Err(RpcError::param(words));
    }
    for (at, name) in [(1, "conf_target"), (2, "estimate_mode"), (3, "fee_rate")] {
        if !args.at(at).is_null() {
            merged.put(name, args.at(at).clone());
        }
    }
    Ok(merged)
}

pub(super) fn send(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let options = with_rates(args.at(4), args)?;
    let lock: i64 = given(&options, "locktime").map_or(Ok(0), Json::int)?;
    let lock = u32::try_from(lock).map_err(|_| RpcError::param("Invalid parameter, locktime out of range"))?;
    let default = here(call)?.options.replaceable;
    let replaceable = bool_of(&options, "replaceable", default)?;
    let begun = inputs(options.get("inputs"), lock, Some(replaceable))?;
    let outs = outputs(call, args.at(0))?;
    let tx = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: begun,
        output: Vec::new(),
    };
    let spent = find_outputs(call, &tx)?;
    let mut here = here(call)?;
    if !here.wallet.flags.watch_only {
        signs(&here)?;
    }
    let mut plan = plan(&here, &options, tx.input.is_empty(), true)?;
    plan.any_rate = false;
    take_inputs(&tx, &spent, &mut plan);
    own_weights(options.get("inputs"), &options, &mut plan)?;
    plan.lock_time = given(&options, "locktime").map(|_| lock);
    plan.version =
        given(&options, "version").or(Some(args.at(5)).filter(|value| !value.is_null())).map_or(Ok(2), Json::int)?;
    let payers = options.get("subtract_fee_from_outputs");
    let draft = fund(&mut here, &options, payers, outs, &plan)?;
    finish(call, &options, draft)
}

/// Recipients of all that there is: those with an amount, and those that share the rest.
fn shares(call: &Call<'_, '_>, values: &Json) -> Result<(Vec<Payment>, Vec<usize>), RpcError> {
    let (mut object, mut rest) = (Json::obj(), Vec::new());
    for (at, value) in values.items()?.iter().enumerate() {
        match value {
            Json::Str(text) => {
                object.put(text, 0_u32);
                rest.push(at);
            }
            Json::Obj(fields) if fields.len() == 1 => object.put(&fields[0].0, fields[0].1.clone()),
            _ => return Err(RpcError::param("Invalid parameter, key-value pair must contain exactly one key")),
        }
    }
    if rest.is_empty() {
        return Err(RpcError::param("Must provide at least one address without a specified amount"));
    }
    Ok((payments(outputs(call, &object)?), rest))
}

/// Refused if an amount that was said is not worth spending.
fn dust(here: &Here<'_>, payments: &[Payment], rest: &[usize]) -> Result<(), RpcError> {
    let rate = here.node.mempool().options().dust_rate;
    for (at, payment) in payments.iter().enumerate().filter(|(at, _)| !rest.contains(at)) {
        let value = bitcoin::Amount::from_sat(payment.amount);
        let out = TxOut { value, script_pubkey: payment.script.clone() };
        if payment.amount < crate::mempool::dust_threshold(&out, rate) {
            let to = super::address(&payments[at].script, here.network()).unwrap_or_default();
            return Err(RpcError::param(format!("Specified output amount to {to} is below dust threshold.")));
        }
    }
    Ok(())
}

type Sent = (OutPoint, TxOut, Option<Sequence>);

/// The outputs that are sent: those that were named, or all.
fn everything(here: &Here<'_>, begun: &[bitcoin::TxIn], plan: &mut Plan) -> Result<Vec<Sent>, RpcError> {
    let mut chosen: Vec<Sent> = Vec::new();
    for input in begun {
        let outpoint = input.previous_output;
        if here.wallet.is_spent(&outpoint) {
            return Err(RpcError::param(format!(
                "Input not available. UTXO ({}:{}) was already spent.",
                outpoint.txid, outpoint.vout
            )));
        }
        let out = here.wallet.output(&outpoint).filter(|out| here.wallet.is_mine(&out.script_pubkey)).cloned();
        let words = || {
            RpcError::param(format!(
                "Input not found. UTXO ({}:{}) is not part of wallet.",
                outpoint.txid, outpoint.vout
            ))
        };
        let out = out.ok_or_else(words)?;
        if let Some(words) = version_mismatch(here.wallet, &outpoint, plan.version) {
            return Err(RpcError::param(words));
        }
        chosen.push((outpoint, out, Some(input.sequence)));
    }
    if begun.is_empty() {
        let coins = spendable(here.wallet, here.node.mempool(), plan.asked, plan.version);
        let coins: Vec<_> = coins.into_iter().filter(|coin| coin.solvable).collect();
        if plan.version == TRUC_VERSION && coins.iter().any(|coin| coin.depth == 0) {
            plan.weight_max = Some(TRUC_CHILD_WEIGHT_MAX);
        }
        chosen.extend(coins.into_iter().map(|coin| (coin.outpoint, coin.out, None)));
    }
    Ok(chosen)
}

/// The fee takes all that there is, of coins that are worth their fee.
const POOL_TOO_LOW: &str = "Total value of UTXO pool too low to pay for transaction, try using lower feerate.";
/// As above, of all coins.
const POOL_TOO_LOW_AS_IT_IS: &str = "Total value of UTXO pool too low to pay for transaction. Try using lower feerate or excluding uneconomic UTXOs with 'send_max' option.";

pub(super) fn sendall(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let options = with_rates(args.at(4), args)?;
    let (mut payments, rest) = shares(call, args.at(0))?;
    let default = here(call)?.options.replaceable;
    let replaceable = bool_of(&options, "replaceable", default)?;
    let begun = inputs(options.get("inputs"), 0, Some(replaceable))?;
    let send_max = bool_of(&options, "send_max", false)?;
    if send_max && !begun.is_empty() {
        return Err(RpcError::param("Cannot combine send_max with specific inputs."));
    }
    let depth_min: i32 = given(&options, "minconf").map_or(Ok(0), Json::int)?;
    if depth_min < 0 {
        return Err(RpcError::param(format!("Invalid minconf (minconf cannot be negative): {depth_min}")));
    }
    if !begun.is_empty() && ["minconf", "maxconf"].iter().any(|name| given(&options, name).is_some()) {
        return Err(RpcError::param("Cannot combine minconf or maxconf with specific inputs."));
    }
    let mut here = here(call)?;
    if !here.wallet.flags.watch_only {
        signs(&here)?;
    }
    let mut plan = plan(&here, &options, false, true)?;
    (plan.add_inputs, plan.any_rate) = (false, false);
    plan.lock_time = given(&options, "locktime").map(Json::int).transpose()?;
    plan.version = given(&options, "version").map_or(Ok(2), Json::int)?;
    let mut chosen = everything(&here, &begun, &mut plan)?;
    let rate = crate::wallet::fee_rate(here.node, here.options, &plan).map_err(|words| match plan.rate {
        // It was said.
        Some(_) => RpcError::param(words),
        None => failed(words),
    })?;
    let rate = rate.rate;
    if send_max {
        chosen.retain(|(_, out, _)| worth_spending(&here, out, rate));
    }
    if chosen.is_empty() {
        return Err(RpcError::new(
            wallet_code::INSUFFICIENT_FUNDS,
            if send_max { POOL_TOO_LOW } else { POOL_TOO_LOW_AS_IT_IS },
        ));
    }
    let total: u64 = chosen.iter().map(|(_, out, _)| out.value.to_sat()).sum();
    let fixed: u64 = payments.iter().map(|payment| payment.amount).sum();
    let Some(left) = total.checked_sub(fixed) else {
        return Err(RpcError::new(
            wallet_code::INSUFFICIENT_FUNDS,
            "Assigned more value to outputs than available funds.",
        ));
    };
    dust(&here, &payments, &rest)?;
    let part = left / rest.len() as u64;
    for (place, at) in rest.iter().enumerate() {
        payments[*at].amount = part + if place == 0 { left % rest.len() as u64 } else { 0 };
        payments[*at].pays_fee = true;
    }
    let choices =
        chosen.into_iter().map(|(outpoint, out, sequence)| Choice { outpoint, sequence, out: Some(out), weight: None });
    plan.inputs = choices.collect();
    let draft = draft(&mut here, &payments, &plan, wallet_code::INSUFFICIENT_FUNDS).map_err(|mut error| {
        if error.message.starts_with("Fee exceeds maximum") {
            return failed(error.message);
        }
        if error.message == "Transaction too large" {
            return failed("Transaction too large.");
        }
        let short = error.message == "The transaction amount is too small to pay the fee";
        if short && fixed == 0 {
            error.message = if send_max { POOL_TOO_LOW } else { POOL_TOO_LOW_AS_IT_IS }.into();
        } else if short || left == 0 {
            error.message = "Insufficient funds for fees after creating specified outputs.".into();
        } else if error.message.contains("too small") {
            error.message = "Dynamically assigned remainder results in dust output.".into();
        }
        error
    })?;
    lock_outputs(&mut here, &options, &draft.tx)?;
    finish(call, &options, draft)
}

fn worth_spending(here: &Here<'_>, out: &TxOut, rate: u64) -> bool {
    let mut known = crate::session::rpc::descriptor::Known::default();
    here.wallet.explain(&out.script_pubkey, &mut known);
    crate::wallet::input_weight(out, &known)
        .is_some_and(|size| crate::mempool::fee_at(rate, size.weight.div_ceil(4)) < out.value.to_sat().cast_signed())
}
