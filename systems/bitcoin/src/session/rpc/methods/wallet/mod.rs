//! What clients ask of wallets.
//!
//! - upon a path `/wallet/<name>`: that wallet is meant, or the call is refused;
//! - upon no such path: the one that is loaded, if it is one;
//! - upon anything that changed a wallet: it is written down before the answer.

mod addresses;
mod bump;
mod coins;
mod fund;
mod groups;
mod import;
mod keys;
mod manage;
mod passphrase;
mod plan;
mod pruned;
mod psbt;
mod received;
mod send;
mod table;
mod transactions;

use bitcoin::{Network, ScriptBuf};

use super::addresses::decode;
use crate::node::Node;
use crate::session::rpc::call::Call;
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::session::rpc::render::script;
use crate::wallet::{Entropy, LoadError, Wallet, WalletOptions, Wallets};

pub(crate) use table::METHODS;

/// The numbers of what wallets refuse.
mod wallet_code {
    pub(super) const ERROR: i32 = -4;
    pub(super) const INSUFFICIENT_FUNDS: i32 = -6;
    pub(super) const INVALID_LABEL_NAME: i32 = -11;
    pub(super) const KEYPOOL_RAN_OUT: i32 = -12;
    pub(super) const UNLOCK_NEEDED: i32 = -13;
    pub(super) const PASSPHRASE_INCORRECT: i32 = -14;
    pub(super) const WRONG_ENC_STATE: i32 = -15;
    pub(super) const NOT_FOUND: i32 = -18;
    pub(super) const NOT_SPECIFIED: i32 = -19;
    pub(super) const ALREADY_LOADED: i32 = -35;
    pub(super) const ALREADY_EXISTS: i32 = -36;
}

fn failed(words: impl Into<String>) -> RpcError {
    RpcError::new(wallet_code::ERROR, words)
}

/// All wallets.
fn wallets<'b>(call: &'b mut Call<'_, '_>) -> Result<&'b mut Wallets, RpcError> {
    call.ctx.other.downcast_mut::<Wallets>().ok_or_else(|| RpcError::misc("no wallets are served"))
}

/// The name of the wallet that is meant.
fn name(call: &mut Call<'_, '_>) -> Result<String, RpcError> {
    let asked = call.wallet.map(str::to_owned);
    let all = wallets(call)?;
    match asked {
        Some(name) if all.find(&name).is_some() => Ok(name),
        Some(_) => Err(RpcError::new(wallet_code::NOT_FOUND, "Requested wallet does not exist or is not loaded")),
        None => match all.names().as_slice() {
            [name] => Ok(name.clone()),
            [] => Err(RpcError::new(
                wallet_code::NOT_FOUND,
                "No wallet is loaded. Load a wallet using loadwallet or create a new one with createwallet. \
                 (Note: A default wallet is no longer automatically created)",
            )),
            _ => Err(RpcError::new(
                wallet_code::NOT_SPECIFIED,
                "Multiple wallets are loaded. Please select which wallet to use by requesting the RPC through the \
                 /wallet/<walletname> URI path.",
            )),
        },
    }
}

/// A wallet, and what it works with.
struct Here<'b> {
    wallet: &'b mut Wallet,
    entropy: &'b mut Entropy,
    options: &'b WalletOptions,
    node: &'b mut Node,
}

impl Here<'_> {
    fn network(&self) -> Network {
        self.wallet.network
    }

    /// Refuses if private keys are not at hand.
    fn unlocked(&self) -> Result<(), RpcError> {
        if self.wallet.is_locked() {
            let words = "Error: Please enter the wallet passphrase with walletpassphrase first.";
            return Err(RpcError::new(wallet_code::UNLOCK_NEEDED, words));
        }
        Ok(())
    }
}

/// The wallet that is meant.
fn here<'b>(call: &'b mut Call<'_, '_>) -> Result<Here<'b>, RpcError> {
    let name = name(call)?;
    let now = call.ctx.node.time();
    let node = &mut *call.ctx.node;
    let wallets = call.ctx.other.downcast_mut::<Wallets>();
    let wallets = wallets.ok_or_else(|| RpcError::misc("no wallets are served"))?;
    let found = wallets.find_mut(&name);
    let (wallet, entropy, options) = found.ok_or_else(|| RpcError::misc("the wallet is gone"))?;
    wallet.on_time(now);
    Ok(Here { wallet, entropy, options, node })
}

/// Writes the wallet down that is meant.
fn save(call: &mut Call<'_, '_>) -> Result<(), RpcError> {
    let name = name(call)?;
    let node = &*call.ctx.node;
    match call.ctx.other.downcast_mut::<Wallets>() {
        Some(wallets) => wallets.flush_one(&name, node).map_err(load_error),
        None => Ok(()),
    }
}

fn load_error(error: LoadError) -> RpcError {
    match error {
        LoadError::NotFound(words) | LoadError::Unknown(words) => {
            RpcError::new(wallet_code::NOT_FOUND, format!("Wallet file verification failed. {words}"))
        }
        LoadError::Exists(words) | LoadError::Broken(words) => {
            failed(format!("Wallet file verification failed. {words}"))
        }
        LoadError::Loaded => RpcError::new(wallet_code::ALREADY_LOADED, "Wallet is already loaded."),
        LoadError::Chain(words) => RpcError::misc(words),
    }
}

/// The script of an address.
fn script_of(text: &str, network: Network) -> Result<ScriptBuf, RpcError> {
    let address = decode(text, network);
    address.map(|address| address.script_pubkey()).map_err(|_| RpcError::key("Invalid Bitcoin address"))
}

/// The address of a script, if it has one.
fn address(script: &bitcoin::Script, network: Network) -> Option<String> {
    script::address(script, network).map(|address| address.to_string())
}

/// A label, which must not be the sign for all of them.
fn label(value: &Json) -> Result<String, RpcError> {
    if value.is_null() {
        return Ok(String::new());
    }
    match value.text()? {
        "*" => Err(RpcError::new(wallet_code::INVALID_LABEL_NAME, "Invalid label name")),
        text if text.len() > 255 => Err(RpcError::new(wallet_code::INVALID_LABEL_NAME, "Invalid label name")),
        text => Ok(text.to_owned()),
    }
}

/// A value of an object, if it was given.
fn given<'j>(object: &'j Json, field: &str) -> Option<&'j Json> {
    Some(object.get(field)).filter(|value| !value.is_null())
}

/// A field that nobody knows is a mistake of whoever calls, and not passed over.
fn only(object: &Json, known: &[&str]) -> Result<(), RpcError> {
    let fields = if object.is_null() { &[] } else { object.fields()? };
    match fields.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        Some((name, _)) => Err(RpcError::kind(format!("Unexpected key {name}"))),
        None => Ok(()),
    }
}

fn bool_of(object: &Json, field: &str, otherwise: bool) -> Result<bool, RpcError> {
    given(object, field).map_or(Ok(otherwise), Json::bool)
}

/// Height and hash of the last block that a wallet looked at.
fn last_block(wallet: &Wallet) -> Json {
    Json::obj().with("hash", wallet.best.0).with("height", wallet.best.1)
}
