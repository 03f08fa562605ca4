//! Transactions that are signed by keys that the caller brings, or put together from several that others signed.

use std::collections::BTreeMap;

use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Txid};

use super::addresses::private_key;
use crate::script::{ScriptError, SharedHashes};
use crate::session::rpc::call::{Args, Call, amount, hash, hex};
use crate::session::rpc::descriptor::Known;
use crate::session::rpc::error::{RpcError, code};
use crate::session::rpc::json::Json;
use crate::session::rpc::render::codec::{decode_transaction, encode_hex};
use crate::session::rpc::render::script::asm;
use crate::session::rpc::signing::{SigData, Signer, spent_outputs};

/// The outputs that a transaction spends, as far as they are known.
pub(crate) type Spent = BTreeMap<OutPoint, TxOut>;

/// An output of the chain or of what waits.
pub(crate) fn find_output(call: &Call<'_, '_>, outpoint: &OutPoint) -> Result<Option<TxOut>, RpcError> {
    Ok(call.mempool().coin(call.chain(), outpoint)?.map(|coin| coin.out))
}

/// The outputs that a transaction spends, of the chain and of what waits.
pub(crate) fn find_outputs(call: &Call<'_, '_>, tx: &Transaction) -> Result<Spent, RpcError> {
    let mut spent = Spent::new();
    for input in &tx.input {
        // What another transaction that waits spends is there all the same.
        let outpoint = input.previous_output;
        let waiting = call.mempool().get(&outpoint.txid);
        let out = match waiting.and_then(|entry| entry.tx.output.get(outpoint.vout as usize).cloned()) {
            Some(out) => Some(out),
            None => call.chain().coin(&outpoint)?.map(|coin| coin.out),
        };
        if let Some(out) = out {
            spent.insert(outpoint, out);
        }
    }
    Ok(spent)
}

/// The hash type that a text names; 0 for the usual.
pub(crate) fn sighash_type(value: &Json) -> Result<u8, RpcError> {
    if value.is_null() {
        return Ok(0);
    }
    match value.text()? {
        "DEFAULT" => Ok(0),
        "ALL" => Ok(1),
        "ALL|ANYONECANPAY" => Ok(0x81),
        "NONE" => Ok(2),
        "NONE|ANYONECANPAY" => Ok(0x82),
        "SINGLE" => Ok(3),
        "SINGLE|ANYONECANPAY" => Ok(0x83),
        text => Err(RpcError::param(format!("'{text}' is not a valid sighash parameter."))),
    }
}

fn field<'j>(object: &'j Json, name: &str, kind: &str) -> Result<&'j Json, RpcError> {
    let value = object.get(name);
    if value.is_null() {
        return Err(RpcError::kind(format!("Missing {name}")));
    }
    if value.type_name() != kind {
        let own = value.type_name();
        let words = format!("JSON value of type {own} for field {name} is not of expected type {kind}");
        return Err(RpcError::kind(words));
    }
    Ok(value)
}

/// Outputs that the caller tells of, with what stands behind their hashes.
///
/// Without `known`, what stands behind them is known otherwise.
pub(crate) fn add_prevouts(values: &Json, mut known: Option<&mut Known>, spent: &mut Spent) -> Result<(), RpcError> {
    if values.is_null() {
        return Ok(());
    }
    for value in values.items()? {
        let Json::Obj(_) = value else {
            return Err(RpcError::decode("expected object with {\"txid'\",\"vout\",\"scriptPubKey\"}"));
        };
        let txid = Txid::from_byte_array(hash(field(value, "txid", "string")?, "txid")?);
        let vout: i32 = field(value, "vout", "number")?.int()?;
        let script = hex(field(value, "scriptPubKey", "string")?, "scriptPubKey")?;
        let vout = u32::try_from(vout).map_err(|_| RpcError::decode("vout cannot be negative"))?;
        let (outpoint, script) = (OutPoint { txid, vout }, ScriptBuf::from_bytes(script));
        if let Some(own) = spent.get(&outpoint).filter(|own| own.script_pubkey != script) {
            return Err(RpcError::decode(format!(
                "Previous output scriptPubKey mismatch:\n{}\nvs:\n{}",
                asm(&own.script_pubkey, false),
                asm(&script, false)
            )));
        }
        let paid = value.get("amount");
        let paid = if paid.is_null() { Amount::MAX_MONEY } else { Amount::from_sat(amount(paid)?.cast_unsigned()) };
        if let Some(known) = known.as_deref_mut() {
            add_behind(value, &script, known)?;
        }
        spent.insert(outpoint, TxOut { value: paid, script_pubkey: script });
    }
    Ok(())
}

/// What stands behind an output's hash, as the caller tells it.
fn add_behind(value: &Json, output: &ScriptBuf, known: &mut Known) -> Result<(), RpcError> {
    if !output.is_p2sh() && !output.is_p2wsh() {
        return Ok(());
    }
    let (redeem, witness) = (value.get("redeemScript"), value.get("witnessScript"));
    let script = match (redeem, witness) {
        (Json::Null, Json::Null) => return Err(RpcError::param("Missing redeemScript/witnessScript")),
        (redeem, Json::Null) => hex(redeem, "redeemScript")?,
        (_, witness) => hex(witness, "witnessScript")?,
    };
    let script = ScriptBuf::from_bytes(script);
    let wrapped = ScriptBuf::new_p2wsh(&script.wscript_hash());
    if !redeem.is_null() && !witness.is_null() && redeem != witness {
        let redeem = hex(redeem, "redeemScript")?;
        if redeem != wrapped.as_bytes() {
            return Err(RpcError::param("redeemScript does not correspond to witnessScript"));
        }
    }
    let fits = if output.is_p2sh() {
        [&script, &wrapped].iter().any(|script| ScriptBuf::new_p2sh(&script.script_hash()) == *output)
    } else {
        wrapped == *output
    };
    if !fits {
        return Err(RpcError::param("redeemScript/witnessScript does not match scriptPubKey"));
    }
    known.add_script(script);
    known.add_script(wrapped);
    Ok(())
}

fn error_json(input: &TxIn, words: &str) -> Json {
    Json::obj()
        .with("txid", input.previous_output.txid)
        .with("vout", input.previous_output.vout)
        .with("witness", Json::arr(input.witness.iter().map(|item| item.to_lower_hex_string())))
        .with("scriptSig", input.script_sig.to_hex_string())
        .with("sequence", input.sequence.0)
        .with("error", words)
}

/// Signs what can be signed: the transaction, whether it is complete, and why inputs are not.
pub(crate) fn sign(
    tx: &Transaction,
    known: &Known,
    spent: &Spent,
    sighash: u8,
) -> Result<(Transaction, Vec<Json>), RpcError> {
    let mut signed = tx.clone();
    let mut errors = Vec::new();
    let (outputs, whole) = spent_outputs(tx, |index| spent.get(&tx.input[index].previous_output).cloned());
    let shared = SharedHashes::new(tx, &outputs).expect("there is one for each input");
    for index in 0..tx.input.len() {
        let Some(out) = spent.get(&tx.input[index].previous_output) else {
            errors.push(error_json(&signed.input[index], "Input not found or already spent"));
            continue;
        };
        let signer = Signer::new(known, &shared, index, out, sighash, whole).expect("the input is there");
        let mut data = signer.extract(&tx.input[index].script_sig, &tx.input[index].witness);
        let single = sighash & 0x1f == 3;
        if !single || index < tx.output.len() {
            signer.produce(&mut data);
        }
        let input = &mut signed.input[index];
        (input.script_sig, input.witness) = (data.script_sig.clone(), data.witness.clone());
        if out.value == Amount::MAX_MONEY && !input.witness.is_empty() {
            let hex = out.script_pubkey.to_hex_string();
            let words = format!(
                "Missing amount for CTxOut(nValue=21000000.00000000, scriptPubKey={})",
                hex.get(..30).unwrap_or(&hex)
            );
            return Err(RpcError::kind(words));
        }
        if !data.complete
            && let Err(error) = signer.holds(&input.script_sig, &input.witness)
        {
            errors.push(error_json(input, &why(error)));
        }
    }
    Ok((signed, errors))
}

fn why(error: ScriptError) -> String {
    match error {
        ScriptError::InvalidStackOperation => "Unable to sign input, invalid stack size (possibly missing key)".into(),
        ScriptError::NullFail => {
            "CHECK(MULTI)SIG failing with non-zero signature (possibly need more signatures)".into()
        }
        error => error.to_string(),
    }
}

pub(crate) fn signrawtransactionwithkey(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let tx = decode_transaction(args.text(0)?)
        .ok_or_else(|| RpcError::decode("TX decode failed. Make sure the tx has at least one input."))?;
    let mut known = Known::default();
    for key in args.at(1).items()? {
        known.add_private(private_key(call, key.text()?)?);
    }
    let mut spent = find_outputs(call, &tx)?;
    add_prevouts(args.at(2), Some(&mut known), &mut spent)?;
    let sighash = sighash_type(args.at(3))?;
    let (signed, errors) = sign(&tx, &known, &spent, sighash)?;
    let mut json = Json::obj().with("hex", encode_hex(&signed)).with("complete", errors.is_empty());
    if !errors.is_empty() {
        json.put("errors", Json::Arr(errors));
    }
    Ok(json)
}

fn stripped(tx: &Transaction) -> Txid {
    let mut tx = tx.clone();
    for input in &mut tx.input {
        input.script_sig = ScriptBuf::new();
    }
    tx.compute_txid()
}

pub(crate) fn combine(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let values = args.at(0).items()?;
    if values.len() < 2 {
        return Err(RpcError::decode("Missing transactions. At least two transactions required."));
    }
    let mut txs = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let tx = decode_transaction(value.text()?);
        txs.push(tx.ok_or_else(|| {
            RpcError::decode(format!("TX decode failed for tx {index}. Make sure the tx has at least one input."))
        })?);
    }
    for (index, tx) in txs.iter().enumerate().skip(1) {
        if stripped(tx) != stripped(&txs[0]) {
            let words = format!("Transaction number {} not compatible with first transaction", index + 1);
            return Err(RpcError::param(words));
        }
    }
    let mut merged = txs[0].clone();
    let known = Known::default();
    let mut outputs = Vec::new();
    for input in &merged.input {
        let out = find_output(call, &input.previous_output)?;
        outputs.push(out.ok_or_else(|| RpcError::new(code::VERIFY_ERROR, "Input not found or already spent"))?);
    }
    let unsigned = merged.clone();
    let shared = SharedHashes::new(&unsigned, &outputs).expect("there is one for each input");
    for (index, input) in merged.input.iter_mut().enumerate() {
        let signer = Signer::new(&known, &shared, index, &outputs[index], 1, true).expect("the input is there");
        let mut data = SigData::default();
        for tx in &txs {
            data.merge(signer.extract(&tx.input[index].script_sig, &tx.input[index].witness));
        }
        signer.produce(&mut data);
        (input.script_sig, input.witness) = (data.script_sig, data.witness);
    }
    Ok(encode_hex(&merged).into())
}
