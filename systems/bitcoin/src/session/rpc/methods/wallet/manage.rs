//! Wallets themselves: made, loaded, backed up.

use super::{failed, here, last_block, load_error, name, save, wallet_code, wallets};
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::wallet::{Flags, LoadError, Wallet, Wallets};

/// Of the last format of wallets that the network's nodes know.
const VERSION: u32 = 169_900;

fn split<'b>(call: &'b mut Call<'_, '_>) -> Result<(&'b mut Wallets, &'b mut crate::node::Node), RpcError> {
    let node = &mut *call.ctx.node;
    let wallets = call.ctx.other.downcast_mut::<Wallets>();
    Ok((wallets.ok_or_else(|| RpcError::misc("no wallets are served"))?, node))
}

/// Loads a wallet at each start, or not any more, as it was asked.
fn at_start(call: &mut Call<'_, '_>, name: &str, value: &Json) -> Result<(), RpcError> {
    let load = if value.is_null() { None } else { Some(value.bool()?) };
    wallets(call)?.set_at_start(name, load).map_err(|error| failed(error.to_string()))
}

pub(super) fn createwallet(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let wallet_name = args.text(0)?.to_owned();
    if wallet_name.is_empty() {
        return Err(RpcError::param("Wallet name cannot be empty"));
    }
    let flags = Flags {
        watch_only: args.bool_or(1, false)?,
        blank: args.bool_or(2, false)?,
        avoid_reuse: args.bool_or(4, false)?,
    };
    let passphrase = if args.at(3).is_null() { None } else { Some(args.text(3)?.to_owned()) };
    if !args.bool_or(5, true)? {
        return Err(failed(
            "descriptors argument must be set to \"true\"; it is no longer possible to create a legacy wallet.",
        ));
    }
    if args.bool_or(7, false)? {
        return Err(failed("Compiled without external signing support (required for external signing)"));
    }
    let mut warnings: Vec<&str> = Vec::new();
    if passphrase.as_deref() == Some("") {
        warnings.push("Empty string given as passphrase, wallet will not be encrypted.");
    }
    let passphrase = passphrase.filter(|words| !words.is_empty());
    if passphrase.is_some() && flags.watch_only {
        return Err(failed(
            "Passphrase provided but private keys are disabled. A passphrase is only used to encrypt private keys, so \
             cannot be used for wallets with private keys disabled.",
        ));
    }
    let now = call.time();
    let (all, node) = split(call)?;
    let chain = node.chain();
    let tip = chain.entry(chain.tip());
    let mut wallet =
        Wallet::new(&wallet_name, chain.params().network, flags, (tip.hash, tip.height), all.options.ahead);
    if !flags.watch_only && !flags.blank {
        wallet.add_standard(&mut all.entropy, now);
    }
    if let Some(words) = passphrase {
        wallet.encrypt(&words, &mut all.entropy);
    }
    all.create(wallet, node).map_err(|error| match error {
        LoadError::Loaded => failed("Wallet file verification failed. Wallet is already loaded."),
        other => load_error(other),
    })?;
    at_start(call, &wallet_name, args.at(6))?;
    let mut json = Json::obj().with("name", wallet_name);
    if !warnings.is_empty() {
        json.put("warnings", Json::arr(warnings));
    }
    Ok(json)
}

pub(super) fn loadwallet(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let wallet_name = args.text(0)?.to_owned();
    let (all, node) = split(call)?;
    all.load(&wallet_name, node).map_err(|error| match error {
        LoadError::Loaded => {
            RpcError::new(wallet_code::ALREADY_LOADED, format!("Wallet \"{wallet_name}\" is already loaded."))
        }
        LoadError::Broken(words) => failed(format!("Wallet loading failed. {words}")),
        other => load_error(other),
    })?;
    at_start(call, &wallet_name, args.at(1))?;
    Ok(Json::obj().with("name", wallet_name))
}

pub(super) fn unloadwallet(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let asked = if args.at(0).is_null() { None } else { Some(args.text(0)?.to_owned()) };
    let wallet_name = match (call.wallet, asked) {
        (Some(path), Some(asked)) if path != asked => {
            let words = "The RPC endpoint wallet and the wallet name parameter specify different wallets";
            return Err(RpcError::param(words));
        }
        (None, None) => {
            return Err(RpcError::param(
                "Either the RPC endpoint wallet or the wallet name parameter must be provided",
            ));
        }
        (Some(path), _) => path.to_owned(),
        (None, Some(asked)) => asked,
    };
    if wallets(call)?.find(&wallet_name).is_none() {
        return Err(RpcError::new(wallet_code::NOT_FOUND, "Requested wallet does not exist or is not loaded"));
    }
    let (all, node) = split(call)?;
    all.unload(&wallet_name, node).map_err(load_error)?;
    at_start(call, &wallet_name, args.at(1))?;
    Ok(Json::obj())
}

pub(super) fn listwallets(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    Ok(wallets(call)?.names().into())
}

pub(super) fn listwalletdir(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let names = wallets(call)?.on_disk().map_err(|error| failed(error.to_string()))?;
    let row = |name: String| Json::obj().with("name", name).with("warnings", Json::Arr(Vec::new()));
    Ok(Json::obj().with("wallets", Json::Arr(names.into_iter().map(row).collect())))
}

pub(super) fn getwalletinfo(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let here = here(call)?;
    let wallet = here.wallet;
    let (ready, for_change) = wallet.ready();
    let mut json = Json::obj()
        .with("walletname", wallet.name.clone())
        .with("walletversion", VERSION)
        .with("format", "sqlite")
        .with("txcount", wallet.records.len())
        .with("keypoolsize", ready)
        .with("keypoolsize_hd_internal", for_change);
    if wallet.is_encrypted() {
        json.put("unlocked_until", wallet.unlocked_until);
    }
    let flags = wallet.flags;
    json.put("private_keys_enabled", !flags.watch_only);
    json.put("avoid_reuse", flags.avoid_reuse);
    json.put("scanning", false);
    json.put("descriptors", true);
    json.put("external_signer", false);
    json.put("blank", flags.blank);
    if let Some(birth) = wallet.birth() {
        json.put("birthtime", birth);
    }
    let names = [
        ("avoid_reuse", flags.avoid_reuse),
        ("last_hardened_xpub_cached", true),
        ("disable_private_keys", flags.watch_only),
        ("blank", flags.blank),
        ("descriptor_wallet", true),
    ];
    json.put("flags", Json::arr(names.into_iter().filter(|(_, set)| *set).map(|(name, _)| name)));
    json.put("lastprocessedblock", last_block(wallet));
    Ok(json)
}

pub(super) fn backupwallet(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let to = args.text(0)?.to_owned();
    let wallet_name = name(call)?;
    let (all, node) = split(call)?;
    let Some(wallet) = all.find(&wallet_name) else { return Err(failed("Error: Wallet backup failed!")) };
    all.back_up(wallet, node, &to).map_err(|_| failed("Error: Wallet backup failed!"))?;
    Ok(Json::Null)
}

pub(super) fn restorewallet(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let (wallet_name, from) = (args.text(0)?.to_owned(), args.text(1)?.to_owned());
    if wallet_name.is_empty() {
        return Err(RpcError::param("Wallet name cannot be empty"));
    }
    let (all, node) = split(call)?;
    all.restore(&wallet_name, &from, node).map_err(|error| match error {
        LoadError::Exists(words) => RpcError::new(wallet_code::ALREADY_EXISTS, words),
        LoadError::NotFound(words) => RpcError::param(words),
        LoadError::Broken(words) => failed(format!("Wallet loading failed. {words}")),
        other => load_error(other),
    })?;
    at_start(call, &wallet_name, args.at(2))?;
    Ok(Json::obj().with("name", wallet_name))
}

pub(super) fn setwalletflag(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let (flag, value) = (args.text(0)?.to_owned(), args.bool_or(1, true)?);
    match flag.as_str() {
        "avoid_reuse" => {}
        "blank"
        | "key_origin_metadata"
        | "last_hardened_xpub_cached"
        | "disable_private_keys"
        | "descriptor_wallet"
        | "external_signer" => {
            return Err(RpcError::param(format!("Wallet flag is immutable: {flag}")));
        }
        _ => return Err(RpcError::param(format!("Unknown wallet flag: {flag}"))),
    }
    let here = here(call)?;
    if here.wallet.flags.avoid_reuse == value {
        return Err(RpcError::param(format!("Wallet flag is already set to {value}: {flag}")));
    }
    here.wallet.flags.avoid_reuse = value;
    here.wallet.dirty = true;
    save(call)?;
    let mut json = Json::obj().with("flag_name", flag).with("flag_state", value);
    if value {
        json.put(
            "warnings",
            "You need to rescan the blockchain in order to correctly mark used destinations in the past. Until this is \
             done, some destinations may be considered unused, even if the opposite is the case.",
        );
    }
    Ok(json)
}

pub(super) fn keypoolrefill(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let count: i64 = args.int_or(0, 0)?;
    if count < 0 {
        return Err(RpcError::param("Invalid parameter, expected valid size."));
    }
    let here = here(call)?;
    here.unlocked()?;
    let ahead = if count == 0 { here.wallet.ahead } else { u32::try_from(count).unwrap_or(u32::MAX).min(1_000_000) };
    for source in here.wallet.sources.iter_mut().filter(|source| source.active) {
        source.reach(ahead);
    }
    here.wallet.dirty = true;
    save(call)?;
    Ok(Json::Null)
}
