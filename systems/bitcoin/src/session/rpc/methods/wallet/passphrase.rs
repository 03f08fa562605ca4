//! What a passphrase keeps.

use super::{here, save, wallet_code};
use crate::session::rpc::call::{Args, Call};
use crate::session::rpc::error::RpcError;
use crate::session::rpc::json::Json;
use crate::wallet::Lock;

/// Nothing is unlocked for longer, in seconds.
const SECONDS_MAX: i64 = 100_000_000;

/// Words once ended at their first zero.
fn wrong(words: &str, which: &str) -> RpcError {
    let said = if words.contains('\0') {
        format!(
            "Error: The {which}wallet passphrase entered is incorrect. It contains a null character (ie - a zero byte). \
             If the {which}passphrase was set with a version of this software prior to 25.0, please try again with only \
             the characters up to — but not including — the first null character. If this is successful, please set a \
             new passphrase to avoid this issue in the future."
        )
    } else {
        "Error: The wallet passphrase entered was incorrect.".to_owned()
    };
    RpcError::new(wallet_code::PASSPHRASE_INCORRECT, said)
}

fn state(words: &str) -> RpcError {
    RpcError::new(wallet_code::WRONG_ENC_STATE, words)
}

pub(super) fn encryptwallet(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let here = here(call)?;
    if here.wallet.flags.watch_only {
        let words = "Error: wallet does not contain private keys, nothing to encrypt.";
        return Err(RpcError::new(-16, words));
    }
    if here.wallet.is_encrypted() {
        return Err(state("Error: running with an encrypted wallet, but encryptwallet was called."));
    }
    let words = args.text(0)?;
    if words.is_empty() {
        return Err(RpcError::param("passphrase cannot be empty"));
    }
    here.wallet.encrypt(words, here.entropy);
    // What was written down without a lock is known to whoever has read it: new addresses come from new keys.
    if !here.wallet.flags.blank && here.wallet.unlock(words) {
        let now = here.node.time();
        here.wallet.add_standard(here.entropy, now);
        here.wallet.lock_up();
    }
    save(call)?;
    Ok("wallet encrypted; The keypool has been flushed and a new HD seed was generated. You need to make a new backup \
        with the backupwallet RPC."
        .into())
}

pub(super) fn walletpassphrase(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let here = here(call)?;
    if !here.wallet.is_encrypted() {
        return Err(state("Error: running with an unencrypted wallet, but walletpassphrase was called."));
    }
    let seconds: i64 = args.at(1).int()?;
    if seconds < 0 {
        return Err(RpcError::param("Timeout cannot be negative."));
    }
    let words = args.text(0)?;
    if words.is_empty() {
        return Err(RpcError::param("passphrase cannot be empty"));
    }
    if !here.wallet.unlock(words) {
        return Err(wrong(words, ""));
    }
    let seconds = seconds.min(SECONDS_MAX).unsigned_abs();
    here.wallet.unlocked_until = here.node.time().saturating_add(seconds);
    Ok(Json::Null)
}

pub(super) fn walletlock(call: &mut Call<'_, '_>, _: &Args) -> Result<Json, RpcError> {
    let here = here(call)?;
    if !here.wallet.is_encrypted() {
        return Err(state("Error: running with an unencrypted wallet, but walletlock was called."));
    }
    here.wallet.lock_up();
    Ok(Json::Null)
}

pub(super) fn walletpassphrasechange(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    let here = here(call)?;
    let Some(lock) = here.wallet.lock.clone() else {
        return Err(state("Error: running with an unencrypted wallet, but walletpassphrasechange was called."));
    };
    let (old, new) = (args.text(0)?, args.text(1)?);
    if old.is_empty() || new.is_empty() {
        return Err(RpcError::param("passphrase cannot be empty"));
    }
    let master = lock.open(old).ok_or_else(|| wrong(old, "old "))?;
    here.wallet.lock = Some(Lock::new(new, master, here.entropy));
    here.wallet.dirty = true;
    save(call)?;
    Ok(Json::Null)
}

/// Messages are signed by keys of `pkh` addresses.
pub(super) fn signmessage(call: &mut Call<'_, '_>, args: &Args) -> Result<Json, RpcError> {
    use base64::Engine;
    use bitcoin::hashes::Hash;
    use bitcoin::sign_message::{MessageSignature, signed_msg_hash};

    use crate::session::rpc::descriptor::{Known, secp};

    let (text, message) = (args.text(0)?.to_owned(), args.text(1)?.to_owned());
    let here = here(call)?;
    here.unlocked()?;
    let network = here.network();
    let address = super::decode(&text, network).map_err(|_| RpcError::key("Invalid address"))?;
    let Some(id) = address.pubkey_hash() else { return Err(RpcError::kind("Address does not refer to key")) };
    let mut known = Known::default();
    here.wallet.explain(&address.script_pubkey(), &mut known);
    let key = known.private.get(&id.to_byte_array()).ok_or_else(|| RpcError::key("Private key not available"))?;
    let digest = bitcoin::secp256k1::Message::from_digest(signed_msg_hash(&message).to_byte_array());
    let signature = secp().sign_ecdsa_recoverable(&digest, &key.inner);
    let signature = MessageSignature::new(signature, key.compressed);
    Ok(base64::engine::general_purpose::STANDARD.encode(signature.serialize()).into())
}
