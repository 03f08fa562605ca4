//! Addresses of a wallet, and what people call them.

use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::{Address, PublicKey, ScriptBuf};

use super::super::addresses::describe;
use super::{Here, address, failed, here, label, save, script_of, wallet_code};
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::descriptor::{Known, infer, path_text};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::render::script::{self, Template};
use crate::wallet::{KINDS, Named, Source};

/// A type of addresses, by its name.
pub(super) fn kind(text: &str) -> Result<&'static str, RpcError> {
    let found = KINDS.into_iter().find(|kind| *kind == text);
    found.ok_or_else(|| RpcError::key(format!("Unknown address type '{text}'")))
}

fn next(here: &mut Here<'_>, kind: &str, internal: bool) -> Result<ScriptBuf, RpcError> {
    let Some(at) = here.wallet.active(kind, internal) else {
        let words = format!("Error: No {kind} addresses available.");
        return Err(RpcError::new(wallet_code::KEYPOOL_RAN_OUT, words));
    };
    here.wallet.give_out(at).ok_or_else(|| {
        let words = "Error: Keypool ran out, please call keypoolrefill first";
        RpcError::new(wallet_code::KEYPOOL_RAN_OUT, words)
    })
}

pub(super) fn getnewaddress(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let label = label(args.at(0))?;
    let asked = if args.at(1).is_null() { None } else { Some(kind(args.text(1)?)?) };
    let mut here = here(call)?;
    if !here.wallet.can_give_out(false) {
        return Err(failed("Error: This wallet has no available keys"));
    }
    let kind = match asked {
        Some(kind) => kind,
        None => kind(&here.options.address_type)?,
    };
    let script = next(&mut here, kind, false)?;
    here.wallet.book.insert(script.clone(), Named { label, receive: true });
    let text = address(&script, here.network());
    save(call)?;
    Ok(text.into())
}

pub(super) fn getrawchangeaddress(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let asked = if args.at(0).is_null() { None } else { Some(kind(args.text(0)?)?) };
    let mut here = here(call)?;
    if !here.wallet.can_give_out(true) {
        return Err(failed("Error: This wallet has no available keys"));
    }
    let kind = match asked {
        Some(kind) => kind,
        None => kind(here.options.change_type.as_deref().unwrap_or(&here.options.address_type))?,
    };
    let script = next(&mut here, kind, true)?;
    let text = address(&script, here.network());
    save(call)?;
    Ok(text.into())
}

pub(super) fn setlabel(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let here = here(call)?;
    let script = script_of(args.text(0)?, here.network())?;
    let label = label(args.at(1))?;
    let receive = here.wallet.is_mine(&script);
    here.wallet.book.insert(script, Named { label, receive });
    here.wallet.dirty = true;
    save(call)?;
    Ok(Json::Null)
}

pub(super) fn getaddressesbylabel(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let label = label(args.at(0))?;
    let here = here(call)?;
    let mut json = Json::obj();
    for (script, named) in here.wallet.book.iter().filter(|(_, named)| named.label == label) {
        if let Some(text) = address(script, here.network()) {
            json.put(&text, Json::obj().with("purpose", if named.receive { "receive" } else { "send" }));
        }
    }
    if json.fields()?.is_empty() {
        let words = format!("No addresses with label {label}");
        return Err(RpcError::new(wallet_code::INVALID_LABEL_NAME, words));
    }
    Ok(json)
}

pub(super) fn listlabels(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let purpose = if args.at(0).is_null() { None } else { Some(args.text(0)?) };
    let receive = match purpose {
        None | Some("") => None,
        Some("receive") => Some(true),
        Some("send") => Some(false),
        Some(_) => {
            return Err(RpcError::param(
                "Invalid 'purpose' argument, must be a known purpose string, typically 'send', or 'receive'.",
            ));
        }
    };
    let here = here(call)?;
    let named = here.wallet.book.values().filter(|named| receive.is_none_or(|receive| named.receive == receive));
    let labels: std::collections::BTreeSet<&str> = named.map(|named| named.label.as_str()).collect();
    Ok(Json::arr(labels))
}

/// What is known of a script's keys.
fn keys(json: &mut Json, script: &ScriptBuf, known: &Known, here: &Here<'_>) {
    let key_of = |id: &[u8; 20]| known.keys.get(id);
    let put = |json: &mut Json, key: &PublicKey| {
        json.put("pubkey", key.to_bytes().to_lower_hex_string());
        json.put("iscompressed", key.compressed);
    };
    match Template::of(script) {
        Template::PubkeyHash(id) => {
            if let Some(key) = key_of(&id) {
                put(json, key);
            }
        }
        Template::WitnessKeyHash(id) => {
            if let Some(key) = key_of(&id) {
                json.put("pubkey", key.to_bytes().to_lower_hex_string());
            }
        }
        Template::ScriptHash(id) => {
            if let Some(inner) = known.scripts.get(&id) {
                inner_script(json, inner, known, here);
            }
        }
        Template::WitnessScriptHash(id) => {
            let id = bitcoin::hashes::ripemd160::Hash::hash(&id).to_byte_array();
            if let Some(inner) = known.scripts.get(&id) {
                inner_script(json, inner, known, here);
            }
        }
        _ => {}
    }
}

fn inner_script(json: &mut Json, inner: &ScriptBuf, known: &Known, here: &Here<'_>) {
    let template = Template::of(inner);
    json.put("script", template.name());
    json.put("hex", inner.to_hex_string());
    if let Template::Multisig { required, keys } = &template {
        json.put("sigsrequired", *required);
        json.put("pubkeys", Json::arr(keys.iter().map(|key| key.to_lower_hex_string())));
    }
    if let Ok(address) = Address::from_script(inner, here.network()) {
        let mut embedded = describe(Json::obj(), inner);
        keys(&mut embedded, inner, known, here);
        embedded.put("address", address.to_string());
        embedded.put("scriptPubKey", inner.to_hex_string());
        if let Some(key) = given_text(&embedded, "pubkey") {
            json.put("pubkey", key);
        }
        json.put("embedded", embedded);
    }
}

fn given_text(json: &Json, field: &str) -> Option<String> {
    json.get(field).text().ok().map(str::to_owned)
}

/// Where a script's only key comes from.
fn origin(json: &mut Json, script: &ScriptBuf, known: &Known) {
    let id = match Template::of(script) {
        Template::PubkeyHash(id) | Template::WitnessKeyHash(id) => Some(id),
        Template::ScriptHash(id) => match known.scripts.get(&id).map(|inner| Template::of(inner)) {
            Some(Template::WitnessKeyHash(id)) => Some(id),
            _ => None,
        },
        Template::Taproot(output) => known.taproot.get(&output).and_then(|(info, _)| {
            let key = info.internal_key();
            let parity = [bitcoin::secp256k1::Parity::Even, bitcoin::secp256k1::Parity::Odd];
            let ids = parity.map(|parity| PublicKey::new(key.public_key(parity)).pubkey_hash().to_byte_array());
            ids.into_iter().find(|id| known.origins.contains_key(id))
        }),
        _ => None,
    };
    if let Some(origin) = id.and_then(|id| known.origins.get(&id)).filter(|origin| !origin.path.is_empty()) {
        json.put("hdkeypath", format!("m{}", path_text(&origin.path, false)));
        json.put("hdseedid", "0".repeat(40));
        json.put("hdmasterfingerprint", origin.fingerprint.to_string());
    }
}

pub(super) fn getaddressinfo(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let text = args.text(0)?.to_owned();
    let network = call.chain().params().network;
    let parsed = super::decode(&text, network).map_err(|wrong| RpcError::key(wrong.words))?;
    let here = here(call)?;
    let script = parsed.script_pubkey();
    let mut json = Json::obj().with("address", parsed.to_string()).with("scriptPubKey", script.to_hex_string());
    let mut known = Known::default();
    let mine = here.wallet.is_mine(&script);
    let source = here.wallet.source_of(&script);
    if let Some((source, index)) = source {
        source.expand(index, &mut known);
    }
    let solvable = source.is_some_and(|(source, _)| source.is_solvable());
    json.put("ismine", mine);
    json.put("solvable", solvable);
    if solvable {
        json.put("desc", infer(&script, &known, network));
    }
    if let Some((source, _)) = source {
        json.put("parent_desc", source.text.clone());
    }
    json.put("iswatchonly", false);
    if let Json::Obj(fields) = describe(Json::obj(), &script) {
        fields.into_iter().for_each(|(name, value)| json.put(&name, value));
    }
    keys(&mut json, &script, &known, &here);
    json.put("ischange", here.wallet.is_change(&script));
    if let Some((source, _)) = source {
        json.put("timestamp", source.timestamp);
        origin(&mut json, &script, &known);
    }
    json.put("labels", Json::arr(here.wallet.label(&script)));
    Ok(json)
}

pub(super) fn listdescriptors(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let private = args.bool_or(0, false)?;
    let here = here(call)?;
    if private && here.wallet.flags.watch_only {
        return Err(failed("Can't get private descriptor string for watch-only wallets"));
    }
    if private {
        here.unlocked()?;
    }
    let text = |source: &Source| match source.private().filter(|_| private) {
        Some(descriptor) => descriptor.private_text(),
        None => source.text.clone(),
    };
    let mut rows: Vec<(String, &Source)> = here.wallet.sources.iter().map(|source| (text(source), source)).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let mut list = Vec::new();
    for (text, source) in rows {
        let mut row = Json::obj().with("desc", text).with("timestamp", source.timestamp).with("active", source.active);
        if source.active {
            row.put("internal", source.internal);
        }
        if source.is_range() {
            row.put("range", Json::arr([source.begin, source.end.saturating_sub(1)]));
            row.put("next", source.next);
            row.put("next_index", source.next);
        }
        list.push(row);
    }
    Ok(Json::obj().with("wallet_name", here.wallet.name.clone()).with("descriptors", Json::Arr(list)))
}

/// What an output looks like to its wallet.
pub(super) fn parents(here: &Here<'_>, script: &bitcoin::Script) -> Json {
    Json::arr(here.wallet.source_of(script).map(|(source, _)| source.text.clone()))
}

/// A script's address in JSON, if it has one.
pub(super) fn put_address(json: &mut Json, script: &bitcoin::Script, here: &Here<'_>) {
    if let Some(address) = script::address(script, here.network()) {
        json.put("address", address.to_string());
    }
}
