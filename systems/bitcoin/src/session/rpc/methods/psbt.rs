//! Transactions that are signed in part (BIP 174), in its version 0.
//!
//! Deliberately absent: version 2 (BIP 370), which the nodes of this age do not write, and the fields of MuSig2, which are kept
//! and not looked into.

mod analyze;
mod process;
mod show;

use base64::Engine;
use bitcoin::Psbt;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::psbt::{Input, Output};
use bitcoin::{Transaction, TxIn, TxOut, absolute, transaction};

use super::raw::construct;
use super::scan::scripts;
use super::sign::sighash_type;
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::descriptor::Known;
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::render::codec::{decode_either, encode_hex};

pub(crate) use analyze::analyzepsbt;
pub(crate) use process::{is_final, update};
pub(crate) use show::decodepsbt;

/// A PSBT of its base64.
pub(crate) fn decode(text: &str) -> Result<Psbt, RpcError> {
    let failed = |words: String| RpcError::decode(format!("TX decode failed {words}"));
    let bytes = base64::engine::general_purpose::STANDARD.decode(text);
    let bytes = bytes.map_err(|_| failed("invalid base64".into()))?;
    let psbt = Psbt::deserialize(&bytes).map_err(|error| failed(error.to_string()))?;
    for (index, input) in psbt.inputs.iter().enumerate() {
        let outpoint = psbt.unsigned_tx.input[index].previous_output;
        if let Some(tx) = &input.non_witness_utxo {
            if tx.compute_txid() != outpoint.txid {
                return Err(failed("Non-witness UTXO does not match outpoint hash".into()));
            }
            if outpoint.vout as usize >= tx.output.len() {
                return Err(failed("Input specifies output index that does not exist".into()));
            }
        }
    }
    Ok(psbt)
}

/// The base64 of a PSBT.
pub(crate) fn encode(psbt: &Psbt) -> Json {
    base64::engine::general_purpose::STANDARD.encode(psbt.serialize()).into()
}

/// Only version 0 is written.
fn version(args: &Args, index: usize) -> Result<(), RpcError> {
    match args.int_or(index, 0_u32)? {
        0 => Ok(()),
        2 => Err(RpcError::param("This node writes PSBTs of version 0 alone")),
        _ => Err(RpcError::param("The PSBT version can only be 2 or 0")),
    }
}

fn of_unsigned(tx: Transaction) -> Result<Psbt, RpcError> {
    Psbt::from_unsigned_tx(tx).map_err(|error| RpcError::decode(error.to_string()))
}

pub(crate) fn createpsbt(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    version(args, 5)?;
    Ok(encode(&of_unsigned(construct(call, args)?)?))
}

pub(crate) fn converttopsbt(_: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let permit = args.bool_or(1, false)?;
    let witness = if args.at(2).is_null() { None } else { Some(args.at(2).bool()?) };
    let tx = decode_either(args.text(0)?, witness.unwrap_or(true), !witness.unwrap_or(false));
    let mut tx = tx.ok_or_else(|| RpcError::decode("TX decode failed"))?;
    for input in &mut tx.input {
        if !permit && (!input.script_sig.is_empty() || !input.witness.is_empty()) {
            return Err(RpcError::decode("Inputs must not have scriptSigs and scriptWitnesses"));
        }
        input.script_sig = bitcoin::ScriptBuf::new();
        input.witness = bitcoin::Witness::new();
    }
    version(args, 3)?;
    Ok(encode(&of_unsigned(tx)?))
}

fn several(args: &Args) -> Result<Vec<Psbt>, RpcError> {
    args.at(0).items()?.iter().map(|value| decode(value.text()?)).collect()
}

pub(crate) fn combinepsbt(_: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    if args.at(0).items()?.is_empty() {
        return Err(RpcError::param("Parameter 'txs' cannot be empty"));
    }
    let mut all = several(args)?.into_iter();
    let mut merged = all.next().ok_or_else(|| RpcError::param("Parameter 'txs' cannot be empty"))?;
    for psbt in all {
        let fits = merged.combine(psbt);
        fits.map_err(|_| RpcError::param("PSBTs not compatible (different transactions)"))?;
    }
    Ok(encode(&merged))
}

/// In an order that says nothing of whose they were, and another one each time.
fn shuffled<T>(items: Vec<T>, count: u64) -> Vec<T> {
    let place = |index: u64| {
        let mut engine = sha256::Hash::engine();
        engine.input(&count.to_le_bytes());
        engine.input(&index.to_le_bytes());
        sha256::Hash::from_engine(engine).to_byte_array()
    };
    let mut keyed: Vec<([u8; 32], T)> = (0..).map(place).zip(items).collect();
    keyed.sort_by_key(|(place, _)| *place);
    keyed.into_iter().map(|(_, item)| item).collect()
}

pub(crate) fn joinpsbts(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    if args.at(0).items()?.len() <= 1 {
        return Err(RpcError::param("At least two PSBTs are required to join PSBTs."));
    }
    let all = several(args)?;
    let version = all.iter().map(|psbt| psbt.unsigned_tx.version.0.cast_unsigned()).max().unwrap_or(1).max(1);
    let lock = all.iter().map(|psbt| psbt.unsigned_tx.lock_time.to_consensus_u32()).min().unwrap_or(0);
    let mut inputs: Vec<(TxIn, Input)> = Vec::new();
    let mut outputs: Vec<(TxOut, Output)> = Vec::new();
    let (mut xpubs, mut unknown) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
    for psbt in all {
        for (input, rest) in psbt.unsigned_tx.input.into_iter().zip(psbt.inputs) {
            let outpoint = input.previous_output;
            if inputs.iter().any(|(own, _)| own.previous_output == outpoint) {
                let words = format!("Input {}:{} exists in multiple PSBTs", outpoint.txid, outpoint.vout);
                return Err(RpcError::param(words));
            }
            inputs.push((input, rest));
        }
        outputs.extend(psbt.unsigned_tx.output.into_iter().zip(psbt.outputs));
        xpubs.extend(psbt.xpub);
        unknown.extend(psbt.unknown);
    }
    call.state.joins += 1;
    let (inputs, outputs) = (shuffled(inputs, call.state.joins), shuffled(outputs, !call.state.joins));
    let tx = Transaction {
        version: transaction::Version(version.cast_signed()),
        lock_time: absolute::LockTime::from_consensus(lock),
        input: inputs.iter().map(|(input, _)| input.clone()).collect(),
        output: outputs.iter().map(|(output, _)| output.clone()).collect(),
    };
    let mut joined = of_unsigned(tx)?;
    joined.inputs = inputs.into_iter().map(|(_, rest)| rest).collect();
    joined.outputs = outputs.into_iter().map(|(_, rest)| rest).collect();
    (joined.xpub, joined.unknown) = (xpubs, unknown);
    Ok(encode(&joined))
}

pub(crate) fn finalizepsbt(_: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let mut psbt = decode(args.text(0)?)?;
    let extract = args.bool_or(1, true)?;
    let mut complete = true;
    for index in 0..psbt.inputs.len() {
        complete &= process::sign(&mut psbt, index, &Known::default(), 0, true)?.complete;
    }
    let json = if complete && extract {
        Json::obj().with("hex", encode_hex(&psbt.extract_tx_unchecked_fee_rate()))
    } else {
        Json::obj().with("psbt", encode(&psbt))
    };
    Ok(json.with("complete", complete))
}

fn known_of(call: &Call<'_, '_>, value: &Json) -> Result<Known, RpcError> {
    let mut known = Known::default();
    if !value.is_null() {
        for object in value.items()? {
            scripts(call, object, &mut known)?;
        }
    }
    Ok(known)
}

pub(crate) fn utxoupdatepsbt(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let mut known = known_of(call, args.at(1))?;
    known.private.clear();
    let mut psbt = decode(args.text(0)?)?;
    process::update(call, &mut psbt, &known, 0, false)?;
    Ok(encode(&psbt))
}

pub(crate) fn descriptorprocesspsbt(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let mut known = known_of(call, args.at(1))?;
    let sighash = sighash_type(args.at(2))?;
    if !args.bool_or(3, true)? {
        known.origins.clear();
    }
    let finalize = args.bool_or(4, true)?;
    let mut psbt = decode(args.text(0)?)?;
    process::update(call, &mut psbt, &known, sighash, finalize)?;
    let complete = psbt.inputs.iter().all(process::is_final);
    let mut json = Json::obj().with("psbt", encode(&psbt)).with("complete", complete);
    if complete {
        json.put("hex", encode_hex(&psbt.extract_tx_unchecked_fee_rate()));
    }
    Ok(json)
}
