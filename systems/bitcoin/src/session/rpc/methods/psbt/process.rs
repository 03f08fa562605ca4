//! What is added to a PSBT: outputs that it spends, scripts, keys' origins, signatures, and the end of it.

use bitcoin::bip32::DerivationPath;
use bitcoin::hashes::Hash;
use bitcoin::psbt::{Input, PsbtSighashType};
use bitcoin::{Psbt, PublicKey, ScriptBuf, TxOut, ecdsa, taproot};

use crate::script::SharedHashes;
use crate::session::rpc::call::Call;
use crate::session::rpc::descriptor::{Known, Origin};
use crate::session::rpc::error::{RpcError, code};
use crate::session::rpc::signing::{SigData, Signer, spent_outputs};

/// True if nothing is left to be done.
pub(crate) fn is_final(input: &Input) -> bool {
    input.final_script_sig.is_some() || input.final_script_witness.is_some()
}

/// The output that an input spends, as far as the PSBT knows it.
pub(super) fn spent(psbt: &Psbt, index: usize) -> Option<TxOut> {
    let (input, outpoint) = (&psbt.inputs[index], psbt.unsigned_tx.input[index].previous_output);
    let whole = input.non_witness_utxo.as_ref();
    whole.and_then(|tx| tx.output.get(outpoint.vout as usize)).or(input.witness_utxo.as_ref()).cloned()
}

/// What the PSBT knows of an input's signatures.
fn data_of(input: &Input) -> SigData {
    let mut data = SigData {
        redeem_script: input.redeem_script.clone().unwrap_or_default(),
        witness_script: input.witness_script.clone().unwrap_or_default(),
        ..SigData::default()
    };
    if is_final(input) {
        data.script_sig = input.final_script_sig.clone().unwrap_or_default();
        data.witness = input.final_script_witness.clone().unwrap_or_default();
        data.complete = true;
        return data;
    }
    for (key, signature) in &input.partial_sigs {
        data.signatures.insert(key.pubkey_hash().to_byte_array(), (*key, signature.to_vec()));
    }
    for (key, (fingerprint, path)) in &input.bip32_derivation {
        let key = PublicKey::new(*key);
        let origin = Origin { fingerprint: *fingerprint, path: path.into_iter().copied().collect() };
        data.keys.insert(key.pubkey_hash().to_byte_array(), (key, Some(origin)));
    }
    if let Some(signature) = &input.tap_key_sig {
        data.taproot_key = signature.to_vec();
    }
    for ((key, leaf), signature) in &input.tap_script_sigs {
        data.taproot_leaves.insert((key.serialize(), leaf.to_byte_array()), signature.to_vec());
    }
    data
}

/// What is known of an input's signatures goes into the PSBT.
fn store(input: &mut Input, data: &SigData, complete: bool) {
    if complete {
        *input = Input {
            non_witness_utxo: input.non_witness_utxo.take(),
            witness_utxo: input.witness_utxo.take(),
            final_script_sig: Some(data.script_sig.clone()).filter(|script| !script.is_empty()),
            final_script_witness: Some(data.witness.clone()).filter(|witness| !witness.is_empty()),
            proprietary: std::mem::take(&mut input.proprietary),
            unknown: std::mem::take(&mut input.unknown),
            ..Input::default()
        };
        return;
    }
    for (key, signature) in data.signatures.values() {
        if let Ok(signature) = ecdsa::Signature::from_slice(signature) {
            input.partial_sigs.insert(*key, signature);
        }
    }
    let given = |script: &ScriptBuf| Some(script.clone()).filter(|script| !script.is_empty());
    input.redeem_script = input.redeem_script.take().or_else(|| given(&data.redeem_script));
    input.witness_script = input.witness_script.take().or_else(|| given(&data.witness_script));
    for (key, origin) in data.keys.values() {
        if let Some(origin) = origin {
            let source = (origin.fingerprint, DerivationPath::from(origin.path.clone()));
            input.bip32_derivation.entry(key.inner).or_insert(source);
        }
    }
    if let Ok(signature) = taproot::Signature::from_slice(&data.taproot_key) {
        input.tap_key_sig = Some(signature);
    }
}

/// Signs an input as far as that can be done, and ends it if it is complete and to be ended.
pub(super) fn sign(
    psbt: &mut Psbt,
    index: usize,
    known: &Known,
    sighash: u8,
    finalize: bool,
) -> Result<SigData, RpcError> {
    let mut data = data_of(&psbt.inputs[index]);
    if data.complete {
        return Ok(data);
    }
    let own = psbt.inputs[index].sighash_type.map(PsbtSighashType::to_u32);
    let own = own.and_then(|own| u8::try_from(own).ok());
    if sighash != 0 && own.is_some_and(|own| own != sighash) {
        let words = "Specified sighash value does not match value stored in PSBT";
        return Err(RpcError::new(code::DESERIALIZATION_ERROR, words));
    }
    let sighash = own.unwrap_or(sighash);
    let Some(out) = spent(psbt, index) else { return Ok(data) };
    let tx = psbt.unsigned_tx.clone();
    let (outputs, whole) = spent_outputs(&tx, |index| spent(psbt, index));
    let shared = SharedHashes::new(&tx, &outputs).expect("there is one for each input");
    let signer = Signer::new(known, &shared, index, &out, sighash, whole).expect("the input is there");
    signer.produce(&mut data);
    let input = &mut psbt.inputs[index];
    // A signature without a witness signs the whole of what it spends, so that must be there.
    let unproven = input.non_witness_utxo.is_none() && data.witness.is_empty() && data.complete;
    data.complete &= !unproven;
    if sighash != 0 && !data.signatures.is_empty() {
        input.sighash_type.get_or_insert(PsbtSighashType::from_u32(sighash.into()));
    }
    store(input, &data, data.complete && finalize);
    let by_witness = !data.witness.is_empty() || out.script_pubkey.is_witness_program();
    if by_witness && input.witness_utxo.is_none() && input.non_witness_utxo.is_some() {
        input.witness_utxo = Some(out);
    }
    Ok(data)
}

/// True for outputs that are spent by a witness, as far as is known.
fn by_witness(out: &TxOut, known: &Known) -> bool {
    let script = &out.script_pubkey;
    if script.is_witness_program() {
        return true;
    }
    let id = script.is_p2sh().then(|| <[u8; 20]>::try_from(&script.as_bytes()[2..22]).ok()).flatten();
    id.and_then(|id| known.scripts.get(&id)).is_some_and(|inner| inner.is_witness_program())
}

/// Adds all that the node and `known` know.
pub(crate) fn update(
    call: &Call<'_, '_>,
    psbt: &mut Psbt,
    known: &Known,
    sighash: u8,
    finalize: bool,
) -> Result<(), RpcError> {
    for index in 0..psbt.inputs.len() {
        let outpoint = psbt.unsigned_tx.input[index].previous_output;
        if psbt.inputs[index].non_witness_utxo.is_some() {
            continue;
        }
        let waiting = call.mempool().get(&outpoint.txid).map(|entry| (*entry.tx).clone());
        let whole = match (waiting, call.transaction_block(&outpoint.txid)?) {
            (Some(tx), _) => Some(tx),
            (None, Some(id)) => {
                let block = call.chain().block(id)?;
                block.and_then(|block| block.txdata.iter().find(|tx| tx.compute_txid() == outpoint.txid).cloned())
            }
            (None, None) => None,
        };
        let input = &mut psbt.inputs[index];
        match whole {
            Some(tx) if (outpoint.vout as usize) < tx.output.len() => input.non_witness_utxo = Some(tx),
            _ => {
                let coin = call.chain().coin(&outpoint)?.map(|coin| coin.out);
                if let Some(out) = coin.filter(|out| by_witness(out, known)) {
                    input.witness_utxo = Some(out);
                }
            }
        }
    }
    for index in 0..psbt.inputs.len() {
        sign(psbt, index, known, sighash, finalize)?;
    }
    for index in 0..psbt.outputs.len() {
        update_output(psbt, index, known);
    }
    drop_unnecessary(psbt);
    Ok(())
}

/// What stands behind an output of the transaction.
fn update_output(psbt: &mut Psbt, index: usize, known: &Known) {
    let tx = psbt.unsigned_tx.clone();
    let Some(out) = tx.output.get(index) else { return };
    // An input that would spend it asks for the same scripts and keys.
    let mut spending = tx.clone();
    spending.input.truncate(1);
    let outputs = vec![out.clone(); spending.input.len()];
    let Some(shared) = SharedHashes::new(&spending, &outputs) else { return };
    let Some(signer) = Signer::new(known, &shared, 0, out, 0, false) else { return };
    let mut data = SigData::default();
    signer.produce(&mut data);
    let output = &mut psbt.outputs[index];
    let given = |script: &ScriptBuf| Some(script.clone()).filter(|script| !script.is_empty());
    output.redeem_script = output.redeem_script.take().or_else(|| given(&data.redeem_script));
    output.witness_script = output.witness_script.take().or_else(|| given(&data.witness_script));
    for (key, origin) in data.keys.values() {
        if let Some(origin) = origin {
            let source = (origin.fingerprint, DerivationPath::from(origin.path.clone()));
            output.bip32_derivation.entry(key.inner).or_insert(source);
        }
    }
}

/// Signatures of taproot sign all amounts: whole transactions prove nothing more.
fn drop_unnecessary(psbt: &mut Psbt) {
    let later = |index: usize| {
        let version = spent(psbt, index).and_then(|out| out.script_pubkey.witness_version());
        let alone = psbt.inputs[index].sighash_type.is_some_and(|sighash| sighash.to_u32() & 0x80 != 0);
        version.is_some_and(|version| version.to_num() > 0) && !alone
    };
    if !(0..psbt.inputs.len()).all(later) {
        return;
    }
    for index in 0..psbt.inputs.len() {
        let out = spent(psbt, index);
        let input = &mut psbt.inputs[index];
        if input.non_witness_utxo.take().is_some() {
            input.witness_utxo = out;
        }
    }
}

/// An input's signatures if each key that is known signed.
pub(super) fn estimate(psbt: &Psbt, index: usize) -> Option<SigData> {
    let mut data = data_of(&psbt.inputs[index]);
    if data.complete {
        return Some(data);
    }
    let out = spent(psbt, index)?;
    let (outputs, whole) = spent_outputs(&psbt.unsigned_tx, |index| spent(psbt, index));
    let shared = SharedHashes::new(&psbt.unsigned_tx, &outputs)?;
    let known = Known::default();
    let signer = Signer::new(&known, &shared, index, &out, 0, whole)?.pretending();
    signer.produce(&mut data).then_some(data)
}
