//! Addresses, descriptors, and messages that they sign.

mod decode;

use base64::Engine;
use bitcoin::address::NetworkUnchecked;
use bitcoin::hashes::Hash;
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::sign_message::{MessageSignature, signed_msg_hash};
use bitcoin::{Address, Network, PrivateKey, PublicKey, ScriptBuf};

use super::scan::range;
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::descriptor::{self, Descriptor, Known};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::render::script::Template;

pub(crate) use decode::decode;

const MULTISIG_KEYS_MAX: usize = 20;

pub(crate) fn validateaddress(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let network = call.chain().params().network;
    let address = match decode(args.text(0)?, network) {
        Ok(address) => address,
        Err(wrong) => {
            return Ok(Json::obj()
                .with("isvalid", false)
                .with("error_locations", wrong.places)
                .with("error", wrong.words));
        }
    };
    let script = address.script_pubkey();
    let json = Json::obj()
        .with("isvalid", true)
        .with("address", address.to_string())
        .with("scriptPubKey", script.to_hex_string());
    Ok(describe(json, &script))
}

/// What kind of output it is.
pub(crate) fn describe(json: Json, script: &ScriptBuf) -> Json {
    let program = |json: Json| {
        let version = script.witness_version().map(bitcoin::WitnessVersion::to_num);
        json.with("witness_version", version).with("witness_program", script.as_bytes()[2..].to_lower_hex_string())
    };
    let kind = |json: Json, is_script: bool, witness: bool| json.with("isscript", is_script).with("iswitness", witness);
    match Template::of(script) {
        Template::PubkeyHash(_) => kind(json, false, false),
        Template::ScriptHash(_) => kind(json, true, false),
        Template::WitnessKeyHash(_) => program(kind(json, false, true)),
        Template::WitnessScriptHash(_) | Template::Taproot(_) => program(kind(json, true, true)),
        Template::Anchor => kind(json, true, true),
        Template::WitnessUnknown => program(json.with("iswitness", true)),
        _ => json,
    }
}

pub(super) fn public_key(text: &str) -> Result<PublicKey, RpcError> {
    let bytes = Vec::<u8>::from_hex(text).ok().filter(|bytes| !bytes.is_empty());
    let bytes = bytes.ok_or_else(|| RpcError::key(format!("Pubkey \"{text}\" must be a hex string")))?;
    if !matches!(bytes.len(), 33 | 65) {
        let words = format!("Pubkey \"{text}\" must have a length of either 33 or 65 bytes");
        return Err(RpcError::key(words));
    }
    PublicKey::from_slice(&bytes)
        .map_err(|_| RpcError::key(format!("Pubkey \"{text}\" must be cryptographically valid.")))
}

pub(crate) fn createmultisig(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let required: i32 = args.at(0).int()?;
    let mut keys = Vec::new();
    for key in args.at(1).items()? {
        keys.push(public_key(key.text()?)?);
    }
    let kind = if args.at(2).is_null() { "legacy" } else { args.text(2)? };
    match kind {
        "legacy" | "p2sh-segwit" | "bech32" => {}
        "bech32m" => return Err(RpcError::key("createmultisig cannot create bech32m multisig addresses")),
        _ => return Err(RpcError::key(format!("Unknown address type '{kind}'"))),
    }
    let count = keys.len();
    let Some(required) = usize::try_from(required).ok().filter(|required| *required > 0) else {
        return Err(RpcError::param("a multisignature address must require at least one key to redeem"));
    };
    if count < required {
        let words = format!("not enough keys supplied (got {count} keys, but need at least {required} to redeem)");
        return Err(RpcError::param(words));
    }
    if count > MULTISIG_KEYS_MAX {
        return Err(RpcError::param(format!(
            "Number of keys involved in the multisignature address creation > {MULTISIG_KEYS_MAX}\nReduce the number"
        )));
    }
    let script = descriptor::multisig(required, &keys);
    let legacy = kind == "legacy" || keys.iter().any(|key| !key.compressed);
    let size_max = crate::script::ELEMENT_BYTES_MAX;
    if legacy && script.len() > size_max {
        return Err(RpcError::param(format!("redeemScript exceeds size limit: {} > {size_max}", script.len())));
    }
    let mut known = Known::default();
    known.add_script(script.clone());
    let witness = ScriptBuf::new_p2wsh(&script.wscript_hash());
    let output = match kind {
        _ if legacy => ScriptBuf::new_p2sh(&script.script_hash()),
        "bech32" => witness.clone(),
        _ => ScriptBuf::new_p2sh(&witness.script_hash()),
    };
    known.add_script(witness);
    let network = call.chain().params().network;
    let address = Address::from_script(&output, network).map_err(|error| RpcError::misc(error.to_string()))?;
    let mut json = Json::obj()
        .with("address", address.to_string())
        .with("redeemScript", script.to_hex_string())
        .with("descriptor", descriptor::infer(&output, &known, network));
    if legacy && kind != "legacy" {
        let words = "Unable to make chosen address type, please ensure no uncompressed public keys are present.";
        json.put("warnings", Json::arr([words]));
    }
    Ok(json)
}

pub(crate) fn getdescriptorinfo(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let text = args.text(0)?;
    let all = descriptor::parse(text, call.chain().params().network, false).map_err(RpcError::key)?;
    let first = all.first().ok_or_else(|| RpcError::key("No descriptor"))?;
    let mut json = Json::obj().with("descriptor", first.text());
    if all.len() > 1 {
        json.put("multipath_expansion", Json::arr(all.iter().map(Descriptor::text)));
    }
    let payload = text.split('#').next().unwrap_or(text);
    Ok(json
        .with("checksum", descriptor::checksum(payload).unwrap_or_default())
        .with("isrange", first.is_range())
        .with("issolvable", first.is_solvable())
        .with("hasprivatekeys", all.iter().any(Descriptor::has_private)))
}

fn derive(descriptor: &Descriptor, range: (i64, i64), network: Network) -> Result<Json, RpcError> {
    let mut addresses = Vec::new();
    for index in range.0..=range.1 {
        let index = u32::try_from(index).expect("a range ends below 2^31");
        let scripts = descriptor.expand(index, &mut Known::default());
        let scripts = scripts.ok_or_else(|| RpcError::key("Cannot derive script without private keys"))?;
        for script in scripts {
            match Address::from_script(&script, network) {
                Ok(address) => addresses.push(address.to_string()),
                Err(_) if descriptor.is_combo() => {}
                Err(_) => return Err(RpcError::key("Descriptor does not have a corresponding address")),
            }
        }
    }
    Ok(addresses.into())
}

pub(crate) fn deriveaddresses(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let text = args.text(0)?;
    let given = args.as_slice().len() > 1;
    let range_of = if args.at(1).is_null() { (0, 0) } else { range(args.at(1))? };
    let network = call.chain().params().network;
    let all = descriptor::parse(text, network, true).map_err(RpcError::key)?;
    let ranged = all.first().is_some_and(Descriptor::is_range);
    if !ranged && given {
        return Err(RpcError::param("Range should not be specified for an un-ranged descriptor"));
    }
    if ranged && !given {
        return Err(RpcError::param("Range must be specified for a ranged descriptor"));
    }
    let mut rows = Vec::new();
    for descriptor in &all {
        rows.push(derive(descriptor, range_of, network)?);
    }
    Ok(if rows.len() == 1 { rows.remove(0) } else { Json::Arr(rows) })
}

pub(crate) fn signmessagewithprivkey(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let key = private_key(call, args.text(0)?)?;
    let digest = bitcoin::secp256k1::Message::from_digest(signed_msg_hash(args.text(1)?).to_byte_array());
    let signature = descriptor::secp().sign_ecdsa_recoverable(&digest, &key.inner);
    let signature = MessageSignature::new(signature, key.compressed);
    Ok(base64::engine::general_purpose::STANDARD.encode(signature.serialize()).into())
}

/// A private key of this network.
pub(crate) fn private_key(call: &Call<'_, '_>, text: &str) -> Result<PrivateKey, RpcError> {
    let kind = bitcoin::NetworkKind::from(call.chain().params().network);
    descriptor::private_key(text, kind).ok_or_else(|| RpcError::key("Invalid private key"))
}

pub(crate) fn verifymessage(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let network = call.chain().params().network;
    let address = args.text(0)?.parse::<Address<NetworkUnchecked>>().ok();
    let address = address.and_then(|address| address.require_network(network).ok());
    let address = address.ok_or_else(|| RpcError::key("Invalid address"))?;
    let Some(wanted) = address.pubkey_hash() else { return Err(RpcError::kind("Address does not refer to key")) };
    let bytes = base64::engine::general_purpose::STANDARD.decode(args.text(1)?);
    let bytes = bytes.map_err(|_| RpcError::kind("Malformed base64 encoding"))?;
    let Ok(signature) = MessageSignature::from_slice(&bytes) else { return Ok(false.into()) };
    let key = signature.recover_pubkey(descriptor::secp(), signed_msg_hash(args.text(2)?));
    Ok(key.is_ok_and(|key| key.pubkey_hash() == wanted).into())
}
