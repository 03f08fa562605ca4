//! The descriptor that a script fits, as far as it is known what stands behind its hashes.

use bitcoin::hashes::{Hash, ripemd160};
use bitcoin::secp256k1::XOnlyPublicKey;
use bitcoin::{Network, PublicKey, Script, ScriptBuf};

use super::key::{Context, origin_text};
use super::{Known, with_checksum};
use crate::session::rpc::render::script::{Template, address};

/// The descriptor of an output's script, with its checksum.
pub(crate) fn infer(script: &Script, known: &Known, network: Network) -> String {
    let text = inner(script, known, Context::Top).unwrap_or_else(|| match address(script, network) {
        Some(address) => format!("addr({address})"),
        None => format!("raw({})", script.to_hex_string()),
    });
    with_checksum(text)
}

fn key_text(bytes: &[u8], known: &Known, context: Context) -> Option<String> {
    if matches!(bytes.first(), Some(6 | 7)) {
        return None;
    }
    // A key that is on no curve is still a key to whoever only looks at its size.
    let compressed = bytes.len() == 33;
    if !compressed && !matches!(context, Context::Top | Context::P2sh) {
        return None;
    }
    match PublicKey::from_slice(bytes) {
        Ok(key) => Some(origin_text(&key, known.origins.get(&key.pubkey_hash().to_byte_array()), false)),
        Err(_) => Some(bitcoin::hex::DisplayHex::to_lower_hex_string(bytes)),
    }
}

/// A taproot key with where it comes from.
pub(super) fn xonly_text(key: &PublicKey, known: &Known) -> String {
    let both = [key.inner, key.inner.negate(super::secp())];
    let origin = both.iter().find_map(|key| known.origins.get(&PublicKey::new(*key).pubkey_hash().to_byte_array()));
    origin_text(key, origin, true)
}

/// The descriptor of a leaf; its bytes where it fits none.
pub(super) fn leaf(script: &ScriptBuf, known: &Known) -> String {
    let bytes = script.as_bytes();
    let key = |from: usize| {
        let xonly = XOnlyPublicKey::from_slice(bytes.get(from..from + 32)?).ok()?;
        Some(xonly_text(&PublicKey::new(xonly.public_key(bitcoin::secp256k1::Parity::Even)), known))
    };
    if let ([32, .., 0xac], 34) = (bytes, bytes.len())
        && let Some(key) = key(1)
    {
        return format!("pk({key})");
    }
    let count = bytes.len().saturating_sub(2) / 34;
    let keys: Option<Vec<String>> = (0..count).map(|index| key(index * 34 + 1)).collect();
    match (keys, bytes) {
        (Some(keys), [.., threshold @ 0x51..=0x60, 0x9c]) if count * 34 + 2 == bytes.len() => {
            format!("multi_a({},{})", threshold - 0x50, keys.join(","))
        }
        _ => format!("raw({})", script.to_hex_string()),
    }
}

fn inner(script: &Script, known: &Known, context: Context) -> Option<String> {
    let legacy = matches!(context, Context::Top | Context::P2sh | Context::P2wsh);
    let hashed = |id: &[u8; 20], context: Context| {
        let key = known.keys.get(id)?;
        key_text(&key.to_bytes(), known, context)
    };
    match Template::of(script) {
        Template::Pubkey(key) if legacy => Some(format!("pk({})", key_text(&key, known, context)?)),
        Template::PubkeyHash(id) if legacy => Some(format!("pkh({})", hashed(&id, context)?)),
        Template::WitnessKeyHash(id) if matches!(context, Context::Top | Context::P2sh) => {
            Some(format!("wpkh({})", hashed(&id, Context::P2wpkh)?))
        }
        Template::Multisig { required, keys } if legacy => {
            let keys = keys.iter().map(|key| key_text(key, known, context)).collect::<Option<Vec<_>>>()?;
            Some(format!("multi({required},{})", keys.join(",")))
        }
        Template::ScriptHash(id) if context == Context::Top => {
            Some(format!("sh({})", inner(known.scripts.get(&id)?, known, Context::P2sh)?))
        }
        Template::WitnessScriptHash(id) if matches!(context, Context::Top | Context::P2sh) => {
            let id = ripemd160::Hash::hash(&id).to_byte_array();
            Some(format!("wsh({})", inner(known.scripts.get(&id)?, known, Context::P2wsh)?))
        }
        Template::Taproot(output) if context == Context::Top => {
            if let Some((_, text)) = known.taproot.get(&output) {
                return Some(text.clone());
            }
            let key = XOnlyPublicKey::from_slice(&output).ok()?;
            let key = PublicKey::new(key.public_key(bitcoin::secp256k1::Parity::Even));
            Some(format!("rawtr({})", xonly_text(&key, known)))
        }
        _ => None,
    }
}
