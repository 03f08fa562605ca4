//! Signing what others made, and PSBTs of a wallet's own.

use bitcoin::{Psbt, Transaction};

use super::plan::known;
use super::{Here, here};
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::descriptor::Known;
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::methods::psbt::{decode, encode, is_final, update};
use crate::session::rpc::methods::sign::{add_prevouts, find_outputs, sighash_type, sign};
use crate::session::rpc::render::codec::{decode_transaction, encode_hex};

pub(super) fn signrawtransactionwithwallet(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let tx = decode_transaction(args.text(0)?);
    let tx = tx.ok_or_else(|| RpcError::decode("TX decode failed. Make sure the tx has at least one input."))?;
    here(call)?.unlocked()?;
    let mut spent = find_outputs(call, &tx)?;
    add_prevouts(args.at(1), None, &mut spent)?;
    let sighash = sighash_type(args.at(2))?;
    let here = here(call)?;
    for input in &tx.input {
        if let Some(out) = here.wallet.output(&input.previous_output) {
            spent.entry(input.previous_output).or_insert_with(|| out.clone());
        }
    }
    let outs: Vec<_> = spent.values().cloned().map(Some).collect();
    let known = known(&here, &outs);
    let (signed, errors) = sign(&tx, &known, &spent, sighash)?;
    let mut json = Json::obj().with("hex", encode_hex(&signed)).with("complete", errors.is_empty());
    if !errors.is_empty() {
        json.put("errors", Json::Arr(errors));
    }
    Ok(json)
}

/// Keys of the wallet in scripts that a caller brought.
fn explain_scripts(here: &Here<'_>, known: &mut Known) {
    use bitcoin::hashes::Hash;

    use crate::session::rpc::render::script::Template;
    let scripts: Vec<_> = known.scripts.values().cloned().collect();
    for script in scripts {
        let ids: Vec<bitcoin::PubkeyHash> = match Template::of(&script) {
            Template::PubkeyHash(id) => vec![bitcoin::PubkeyHash::from_byte_array(id)],
            Template::Pubkey(key) => vec![bitcoin::PubkeyHash::hash(&key)],
            Template::Multisig { keys, .. } => keys.iter().map(|key| bitcoin::PubkeyHash::hash(key)).collect(),
            _ => Vec::new(),
        };
        for id in ids {
            let by_witness = bitcoin::ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array(id.to_byte_array()));
            let nested = bitcoin::ScriptBuf::new_p2sh(&by_witness.script_hash());
            for script in [bitcoin::ScriptBuf::new_p2pkh(&id), by_witness, nested] {
                here.wallet.explain(&script, known);
            }
        }
    }
}

/// Transactions of the wallet that a PSBT spends of go into it.
fn add_own(here: &Here<'_>, psbt: &mut Psbt) {
    for (at, input) in psbt.inputs.iter_mut().enumerate() {
        let outpoint = psbt.unsigned_tx.input[at].previous_output;
        let record = here.wallet.records.get(&outpoint.txid);
        if input.non_witness_utxo.is_none()
            && let Some(record) = record.filter(|record| record.tx.output.len() > outpoint.vout as usize)
        {
            input.non_witness_utxo = Some((*record.tx).clone());
        }
    }
}

/// Fills in a PSBT what the wallet knows.
pub(super) fn fill(
    call: &mut Call<'_, '_>,
    psbt: &mut Psbt,
    sign: bool,
    sighash: u8,
    derivations: bool,
    finalize: bool,
) -> Result<bool, RpcError> {
    let here = here(call)?;
    add_own(&here, psbt);
    let mut known = Known::default();
    for at in 0..psbt.inputs.len() {
        let outpoint = psbt.unsigned_tx.input[at].previous_output;
        let whole = psbt.inputs[at].non_witness_utxo.as_ref();
        let out = whole.and_then(|tx| tx.output.get(outpoint.vout as usize)).or(psbt.inputs[at].witness_utxo.as_ref());
        let coin = if out.is_none() { here.node.chain().coin(&outpoint)?.map(|coin| coin.out) } else { None };
        if let Some(out) = out.or(coin.as_ref()) {
            here.wallet.explain(&out.script_pubkey, &mut known);
        }
        let scripts = [&psbt.inputs[at].redeem_script, &psbt.inputs[at].witness_script];
        known.scripts.extend(scripts.into_iter().flatten().map(|script| {
            use bitcoin::hashes::Hash;
            (script.script_hash().to_byte_array(), script.clone())
        }));
    }
    explain_scripts(&here, &mut known);
    for out in &psbt.unsigned_tx.output {
        here.wallet.explain(&out.script_pubkey, &mut known);
    }
    if !sign {
        known.private.clear();
    }
    if !derivations {
        known.origins.clear();
    }
    update(call, psbt, &known, sighash, finalize)?;
    Ok(psbt.inputs.iter().all(is_final))
}

pub(super) fn walletprocesspsbt(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let mut psbt = decode(args.text(0)?)?;
    let sign = args.bool_or(1, true)?;
    let sighash = sighash_type(args.at(2))?;
    let (derivations, finalize) = (args.bool_or(3, true)?, args.bool_or(4, true)?);
    if sign {
        here(call)?.unlocked()?;
    }
    let complete = fill(call, &mut psbt, sign, sighash, derivations, finalize)?;
    let mut json = Json::obj().with("psbt", encode(&psbt)).with("complete", complete);
    if complete {
        json.put("hex", encode_hex(&psbt.extract_tx_unchecked_fee_rate()));
    }
    Ok(json)
}

/// A PSBT of a transaction that is not signed.
pub(super) fn of_unsigned(tx: Transaction) -> Result<Psbt, RpcError> {
    let mut tx = tx;
    for input in &mut tx.input {
        input.script_sig = bitcoin::ScriptBuf::new();
        input.witness = bitcoin::Witness::new();
    }
    Psbt::from_unsigned_tx(tx).map_err(|error| RpcError::decode(error.to_string()))
}
