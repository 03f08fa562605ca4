//! What a PSBT has.

use std::collections::BTreeMap;

use bitcoin::bip32::KeySource;
use bitcoin::hex::DisplayHex;
use bitcoin::psbt::raw::{Key, ProprietaryKey};
use bitcoin::psbt::{Input, Output};
use bitcoin::secp256k1::XOnlyPublicKey;
use bitcoin::taproot::TapLeafHash;
use bitcoin::{Amount, Network, ScriptBuf, Witness};

use super::decode;
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::descriptor::path_text;
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::render::script::{Template, asm, output, sighash_name};
use crate::session::rpc::render::transaction::{Shown, render};

fn hex(bytes: &[u8]) -> String {
    bytes.to_lower_hex_string()
}

/// A script that has no address of its own.
fn inner_script(script: &ScriptBuf) -> Json {
    Json::obj()
        .with("asm", asm(script, false))
        .with("hex", script.to_hex_string())
        .with("type", Template::of(script).name())
}

fn path(source: &KeySource) -> String {
    let steps: Vec<_> = source.1.into_iter().copied().collect();
    format!("m{}", path_text(&steps, false))
}

fn derivations(sources: &BTreeMap<bitcoin::secp256k1::PublicKey, KeySource>) -> Json {
    let row = |(key, source): (&bitcoin::secp256k1::PublicKey, &KeySource)| {
        Json::obj()
            .with("pubkey", hex(&key.serialize()))
            .with("master_fingerprint", source.0.to_string())
            .with("path", path(source))
    };
    Json::Arr(sources.iter().map(row).collect())
}

fn taproot_derivations(sources: &BTreeMap<XOnlyPublicKey, (Vec<TapLeafHash>, KeySource)>) -> Json {
    let row = |(key, (leaves, source)): (&XOnlyPublicKey, &(Vec<TapLeafHash>, KeySource))| {
        Json::obj()
            .with("pubkey", key.to_string())
            .with("master_fingerprint", source.0.to_string())
            .with("path", path(source))
            .with("leaf_hashes", Json::arr(leaves.iter().map(ToString::to_string)))
    };
    Json::Arr(sources.iter().map(row).collect())
}

fn proprietary(fields: &BTreeMap<ProprietaryKey, Vec<u8>>) -> Json {
    let row = |(key, value): (&ProprietaryKey, &Vec<u8>)| {
        Json::obj()
            .with("identifier", hex(&key.prefix))
            .with("subtype", key.subtype)
            .with("key", hex(&key.key))
            .with("value", hex(value))
    };
    Json::Arr(fields.iter().map(row).collect())
}

fn unknown(fields: &BTreeMap<Key, Vec<u8>>) -> Json {
    let put = |json: Json, (key, value): (&Key, &Vec<u8>)| {
        let name = format!("{:02x}{}", key.type_value, hex(&key.key));
        json.with(&name, hex(value))
    };
    fields.iter().fold(Json::obj(), put)
}

fn witness_items(witness: &Witness) -> Json {
    Json::arr(witness.iter().map(hex))
}

fn preimages<H: ToString>(fields: &BTreeMap<H, Vec<u8>>) -> Json {
    fields.iter().fold(Json::obj(), |json, (hash, image)| json.with(&hash.to_string(), hex(image)))
}

/// The outputs that it spends, and what is signed of it.
fn spent(json: &mut Json, input: &Input, network: Network) {
    if let Some(out) = &input.witness_utxo {
        let shown = Json::obj().with("amount", out.value).with("scriptPubKey", output(&out.script_pubkey, network));
        json.put("witness_utxo", shown);
    }
    if let Some(tx) = &input.non_witness_utxo {
        json.put("non_witness_utxo", render(tx, Shown::on(network)));
    }
    if !input.partial_sigs.is_empty() {
        let put = |json: Json, (key, signature): (&bitcoin::PublicKey, &bitcoin::ecdsa::Signature)| {
            json.with(&hex(&key.to_bytes()), hex(&signature.to_vec()))
        };
        json.put("partial_signatures", input.partial_sigs.iter().fold(Json::obj(), put));
    }
    if let Some(sighash) = input.sighash_type {
        let name = u8::try_from(sighash.to_u32()).ok().and_then(sighash_name);
        json.put("sighash", name.unwrap_or(""));
    }
    for (name, script) in [("redeem_script", &input.redeem_script), ("witness_script", &input.witness_script)] {
        if let Some(script) = script {
            json.put(name, inner_script(script));
        }
    }
}

fn input_json(input: &Input, network: Network) -> Json {
    let mut json = Json::obj();
    spent(&mut json, input, network);
    if !input.bip32_derivation.is_empty() {
        json.put("bip32_derivs", derivations(&input.bip32_derivation));
    }
    if let Some(script) = &input.final_script_sig {
        json.put("final_scriptSig", Json::obj().with("asm", asm(script, true)).with("hex", script.to_hex_string()));
    }
    if let Some(witness) = &input.final_script_witness {
        json.put("final_scriptwitness", witness_items(witness));
    }
    for (name, images) in [
        ("ripemd160_preimages", preimages(&input.ripemd160_preimages)),
        ("sha256_preimages", preimages(&input.sha256_preimages)),
        ("hash160_preimages", preimages(&input.hash160_preimages)),
        ("hash256_preimages", preimages(&input.hash256_preimages)),
    ] {
        if images.fields().is_ok_and(|fields| !fields.is_empty()) {
            json.put(name, images);
        }
    }
    taproot(&mut json, input);
    if !input.proprietary.is_empty() {
        json.put("proprietary", proprietary(&input.proprietary));
    }
    if !input.unknown.is_empty() {
        json.put("unknown", unknown(&input.unknown));
    }
    json
}

fn taproot(json: &mut Json, input: &Input) {
    if let Some(signature) = &input.tap_key_sig {
        json.put("taproot_key_path_sig", hex(&signature.to_vec()));
    }
    if !input.tap_script_sigs.is_empty() {
        let rows = input.tap_script_sigs.iter().map(|((key, leaf), signature)| {
            Json::obj()
                .with("pubkey", key.to_string())
                .with("leaf_hash", leaf.to_string())
                .with("sig", hex(&signature.to_vec()))
        });
        json.put("taproot_script_path_sigs", Json::Arr(rows.collect()));
    }
    if !input.tap_scripts.is_empty() {
        let mut leaves: BTreeMap<(Vec<u8>, u8), Vec<String>> = BTreeMap::new();
        for (control, (script, version)) in &input.tap_scripts {
            let place = leaves.entry((script.to_bytes(), version.to_consensus())).or_default();
            place.push(hex(&control.serialize()));
        }
        let rows = leaves.into_iter().map(|((script, version), controls)| {
            Json::obj().with("script", hex(&script)).with("leaf_ver", version).with("control_blocks", controls)
        });
        json.put("taproot_scripts", Json::Arr(rows.collect()));
    }
    if !input.tap_key_origins.is_empty() {
        json.put("taproot_bip32_derivs", taproot_derivations(&input.tap_key_origins));
    }
    if let Some(key) = &input.tap_internal_key {
        json.put("taproot_internal_key", key.to_string());
    }
    if let Some(root) = &input.tap_merkle_root {
        json.put("taproot_merkle_root", root.to_string());
    }
}

fn output_json(output: &Output) -> Json {
    let mut json = Json::obj();
    for (name, script) in [("redeem_script", &output.redeem_script), ("witness_script", &output.witness_script)] {
        if let Some(script) = script {
            json.put(name, inner_script(script));
        }
    }
    if !output.bip32_derivation.is_empty() {
        json.put("bip32_derivs", derivations(&output.bip32_derivation));
    }
    if let Some(key) = &output.tap_internal_key {
        json.put("taproot_internal_key", key.to_string());
    }
    if let Some(tree) = &output.tap_tree {
        let rows = tree.script_leaves().map(|leaf| {
            Json::obj()
                .with("depth", u32::from(leaf.merkle_branch().len() as u8))
                .with("leaf_ver", leaf.version().to_consensus())
                .with("script", leaf.script().to_hex_string())
        });
        json.put("taproot_tree", Json::Arr(rows.collect()));
    }
    if !output.tap_key_origins.is_empty() {
        json.put("taproot_bip32_derivs", taproot_derivations(&output.tap_key_origins));
    }
    if !output.proprietary.is_empty() {
        json.put("proprietary", proprietary(&output.proprietary));
    }
    if !output.unknown.is_empty() {
        json.put("unknown", unknown(&output.unknown));
    }
    json
}

pub(crate) fn decodepsbt(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let psbt = decode(args.text(0)?)?;
    let network = call.chain().params().network;
    let xpubs = psbt.xpub.iter().map(|(xpub, source)| {
        Json::obj()
            .with("xpub", xpub.to_string())
            .with("master_fingerprint", source.0.to_string())
            .with("path", path(source))
    });
    let mut json = Json::obj()
        .with("tx", render(&psbt.unsigned_tx, Shown::on(network)))
        .with("global_xpubs", Json::Arr(xpubs.collect()))
        .with("psbt_version", psbt.version)
        .with("proprietary", proprietary(&psbt.proprietary))
        .with("unknown", unknown(&psbt.unknown))
        .with("inputs", Json::Arr(psbt.inputs.iter().map(|input| input_json(input, network)).collect()))
        .with("outputs", Json::Arr(psbt.outputs.iter().map(output_json).collect()));
    let spent = (0..psbt.inputs.len()).map(|index| super::process::spent(&psbt, index));
    let spent: Option<Vec<_>> = spent.collect();
    let sum = |amounts: Vec<Amount>| {
        let sum = amounts.into_iter().try_fold(Amount::ZERO, Amount::checked_add);
        sum.filter(|sum| *sum <= Amount::MAX_MONEY)
    };
    let total = spent.and_then(|outs| sum(outs.iter().map(|out| out.value).collect()));
    let paid = sum(psbt.unsigned_tx.output.iter().map(|out| out.value).collect());
    if let (Some(total), Some(paid)) = (total, paid) {
        json.put("fee", Json::amount(total.to_sat().cast_signed() - paid.to_sat().cast_signed()));
    }
    Ok(json)
}
