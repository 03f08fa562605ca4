//! Descriptors (BIP 380 to 386): texts that say which outputs are meant, and how they are spent.
//!
//! - [`parse`] reads one, or several where a path has several ways (BIP 389);
//! - [`Descriptor::expand`] gives the scripts at one place of a range, and notes in [`Known`] what spends them;
//! - [`infer`] finds the descriptor that a script fits, as far as it is known.
//!
//! Deliberately absent: miniscript, `musig()`, and signing.

mod checksum;
mod infer;
mod key;
mod parse;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::{OP_CHECKMULTISIG, OP_CHECKSIG, OP_CHECKSIGADD, OP_NUMEQUAL};
use bitcoin::script::Builder;
use bitcoin::secp256k1::XOnlyPublicKey;
use bitcoin::taproot::{TaprootBuilder, TaprootSpendInfo};
use bitcoin::{Address, Network, PrivateKey, PublicKey, ScriptBuf};

pub(crate) use checksum::{checksum, with_checksum};
pub(crate) use infer::infer;
pub(crate) use key::{Derived, Key, Origin, Shape, path_text, private_key, secp};

/// What is known of keys and scripts: enough to spend, where private keys are among it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Keys by their hashes.
    pub(crate) keys: BTreeMap<[u8; 20], PublicKey>,
    /// Where keys come from, by their hashes.
    pub(crate) origins: BTreeMap<[u8; 20], Origin>,
    /// Private keys by the hashes of their public ones.
    pub(crate) private: BTreeMap<[u8; 20], PrivateKey>,
    /// Scripts by their hashes (HASH160).
    pub(crate) scripts: BTreeMap<[u8; 20], ScriptBuf>,
    /// Taproot outputs: how they came to be, and the descriptor that says so.
    pub(crate) taproot: BTreeMap<[u8; 32], (TaprootSpendInfo, String)>,
}

impl Known {
    /// A key that was derived.
    fn add(&mut self, derived: &Derived) {
        let id = derived.key.pubkey_hash().to_byte_array();
        self.keys.insert(id, derived.key);
        self.origins.insert(id, derived.origin.clone());
        if let Some(private) = derived.private {
            self.private.insert(id, private);
        }
    }

    /// A script behind a hash.
    pub(crate) fn add_script(&mut self, script: ScriptBuf) {
        self.scripts.insert(script.script_hash().to_byte_array(), script);
    }

    /// A private key.
    pub(crate) fn add_private(&mut self, private: PrivateKey) {
        let key = private.public_key(secp());
        let id = key.pubkey_hash().to_byte_array();
        self.keys.insert(id, key);
        self.private.insert(id, private);
    }
}

#[derive(Clone, Debug)]
enum Expr {
    Pk { key: Key, xonly: bool },
    Pkh(Key),
    Wpkh(Key),
    Combo(Key),
    Multi { required: usize, keys: Vec<Key>, sorted: bool },
    MultiA { required: usize, keys: Vec<Key>, sorted: bool },
    Sh(Box<Expr>),
    Wsh(Box<Expr>),
    Tr { key: Key, leaves: Vec<(u8, Expr)> },
    RawTr(Key),
    Addr(Address),
    Raw(ScriptBuf),
}

/// A descriptor.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor(Expr);

/// Reads a descriptor: one, or one for each way of its paths.
pub(crate) fn parse(text: &str, network: Network, checksum_required: bool) -> Result<Vec<Descriptor>, String> {
    let payload = checksum::strip(text, checksum_required)?;
    let parser = parse::Parser { network };
    parse::paths(payload)?.iter().map(|text| parser.top(text).map(Descriptor)).collect()
}

impl Descriptor {
    /// As text with its checksum, without private keys.
    pub(crate) fn text(&self) -> String {
        with_checksum(self.0.text(Shape::Public))
    }

    /// The same with its private keys, as far as it has them.
    pub(crate) fn private_text(&self) -> String {
        with_checksum(self.0.text(Shape::Private))
    }

    /// The same with each extended key at its last hardened step: what others derive addresses from.
    pub(crate) fn normal_text(&self) -> String {
        with_checksum(self.0.text(Shape::Normal))
    }

    /// The type of its addresses, as clients name it.
    pub(crate) fn address_type(&self) -> Option<&'static str> {
        self.0.address_type()
    }

    /// Some of its keys are private, or all of them.
    pub(crate) fn private_count(&self) -> (usize, usize) {
        let keys = self.0.keys();
        (keys.iter().filter(|key| key.has_private()).count(), keys.len())
    }

    /// Its extended private keys as they are written.
    pub(crate) fn extended_keys(&self) -> Vec<(bitcoin::bip32::Xpub, Option<bitcoin::bip32::Xpriv>)> {
        self.0.keys().into_iter().filter_map(Key::extended).collect()
    }

    pub(crate) fn is_range(&self) -> bool {
        self.0.keys().iter().any(|key| key.is_range())
    }

    /// All is known that spends it but private keys.
    pub(crate) fn is_solvable(&self) -> bool {
        !matches!(self.0, Expr::Addr(_) | Expr::Raw(_))
    }

    pub(crate) fn has_private(&self) -> bool {
        self.0.keys().iter().any(|key| key.has_private())
    }

    /// `combo()`, whose first script has no address.
    pub(crate) fn is_combo(&self) -> bool {
        matches!(self.0, Expr::Combo(_))
    }

    /// The scripts at this place of its range; none if they take a private key that is not there.
    pub(crate) fn expand(&self, index: u32, known: &mut Known) -> Option<Vec<ScriptBuf>> {
        self.0.expand(index, known)
    }
}

impl Expr {
    fn keys(&self) -> Vec<&Key> {
        match self {
            Self::Pk { key, .. } | Self::Pkh(key) | Self::Wpkh(key) | Self::Combo(key) | Self::RawTr(key) => vec![key],
            Self::Multi { keys, .. } | Self::MultiA { keys, .. } => keys.iter().collect(),
            Self::Sh(inner) | Self::Wsh(inner) => inner.keys(),
            Self::Tr { key, leaves } => {
                let below = leaves.iter().flat_map(|(_, leaf)| leaf.keys());
                std::iter::once(key).chain(below).collect()
            }
            Self::Addr(_) | Self::Raw(_) => Vec::new(),
        }
    }

    fn address_type(&self) -> Option<&'static str> {
        match self {
            Self::Pkh(_) => Some("legacy"),
            Self::Sh(inner) => Some(if inner.address_type() == Some("bech32") { "p2sh-segwit" } else { "legacy" }),
            Self::Wpkh(_) | Self::Wsh(_) => Some("bech32"),
            Self::Tr { .. } | Self::RawTr(_) => Some("bech32m"),
            Self::Addr(address) => match address.address_type()? {
                bitcoin::AddressType::P2pkh | bitcoin::AddressType::P2sh => Some("legacy"),
                bitcoin::AddressType::P2wpkh | bitcoin::AddressType::P2wsh => Some("bech32"),
                _ => Some("bech32m"),
            },
            Self::Pk { .. } | Self::Combo(_) | Self::Multi { .. } | Self::MultiA { .. } | Self::Raw(_) => None,
        }
    }

    fn text(&self, shape: Shape) -> String {
        let multi = |name: &str, required: usize, keys: &[Key], sorted: bool| {
            let keys: Vec<String> = keys.iter().map(|key| key.text(shape)).collect();
            format!("{}{name}({required},{})", if sorted { "sorted" } else { "" }, keys.join(","))
        };
        match self {
            Self::Pk { key, .. } => format!("pk({})", key.text(shape)),
            Self::Pkh(key) => format!("pkh({})", key.text(shape)),
            Self::Wpkh(key) => format!("wpkh({})", key.text(shape)),
            Self::Combo(key) => format!("combo({})", key.text(shape)),
            Self::RawTr(key) => format!("rawtr({})", key.text(shape)),
            Self::Multi { required, keys, sorted } => multi("multi", *required, keys, *sorted),
            Self::MultiA { required, keys, sorted } => multi("multi_a", *required, keys, *sorted),
            Self::Sh(inner) => format!("sh({})", inner.text(shape)),
            Self::Wsh(inner) => format!("wsh({})", inner.text(shape)),
            Self::Tr { key, leaves } if leaves.is_empty() => format!("tr({})", key.text(shape)),
            Self::Tr { key, leaves } => {
                let leaves: Vec<(u8, String)> = leaves.iter().map(|(depth, leaf)| (*depth, leaf.text(shape))).collect();
                format!("tr({},{})", key.text(shape), tree_text(&leaves))
            }
            Self::Addr(address) => format!("addr({address})"),
            Self::Raw(script) => format!("raw({})", script.to_hex_string()),
        }
    }

    fn expand(&self, index: u32, known: &mut Known) -> Option<Vec<ScriptBuf>> {
        let mut derive = |key: &Key| {
            let derived = key.derive(index)?;
            known.add(&derived);
            Some(derived.key)
        };
        let one = |script: ScriptBuf| Some(vec![script]);
        match self {
            Self::Pk { key, xonly: false } => one(ScriptBuf::new_p2pk(&derive(key)?)),
            Self::Pk { key, xonly: true } => {
                let xonly = XOnlyPublicKey::from(derive(key)?.inner);
                one(Builder::new().push_slice(xonly.serialize()).push_opcode(OP_CHECKSIG).into_script())
            }
            Self::Pkh(key) => one(ScriptBuf::new_p2pkh(&derive(key)?.pubkey_hash())),
            Self::Wpkh(key) => one(ScriptBuf::new_p2wpkh(&derive(key)?.wpubkey_hash().ok()?)),
            Self::Combo(key) => {
                let public = derive(key)?;
                let mut scripts = vec![ScriptBuf::new_p2pk(&public), ScriptBuf::new_p2pkh(&public.pubkey_hash())];
                if key.is_compressed() {
                    let witness = ScriptBuf::new_p2wpkh(&public.wpubkey_hash().ok()?);
                    scripts.extend([witness.clone(), ScriptBuf::new_p2sh(&witness.script_hash())]);
                    known.add_script(witness);
                }
                Some(scripts)
            }
            Self::Multi { required, keys, sorted } => {
                let mut keys = keys.iter().map(derive).collect::<Option<Vec<_>>>()?;
                if *sorted {
                    keys.sort_by_key(|key| key.to_bytes());
                }
                one(multisig(*required, &keys))
            }
            Self::MultiA { required, keys, sorted } => {
                let xonly = |key: &Key| derive(key).map(|key| XOnlyPublicKey::from(key.inner));
                let mut keys = keys.iter().map(xonly).collect::<Option<Vec<_>>>()?;
                if *sorted {
                    keys.sort_by_key(XOnlyPublicKey::serialize);
                }
                one(multi_a(*required, &keys))
            }
            Self::Sh(inner) => {
                let script = inner.expand(index, known)?.pop()?;
                known.add_script(script.clone());
                one(ScriptBuf::new_p2sh(&script.script_hash()))
            }
            Self::Wsh(inner) => {
                let script = inner.expand(index, known)?.pop()?;
                known.add_script(script.clone());
                one(ScriptBuf::new_p2wsh(&script.wscript_hash()))
            }
            Self::Tr { key, leaves } => one(taproot(&key.derive(index)?, leaves, index, known)?),
            Self::RawTr(key) => {
                let output = XOnlyPublicKey::from(derive(key)?.inner);
                one(Builder::new().push_int(1).push_slice(output.serialize()).into_script())
            }
            Self::Addr(address) => one(address.script_pubkey()),
            Self::Raw(script) => one(script.clone()),
        }
    }
}

/// A tree of leaves with their depths, from the left.
fn tree_text(leaves: &[(u8, String)]) -> String {
    let mut text = String::new();
    let mut branches: Vec<bool> = Vec::new();
    for (index, (depth, leaf)) in leaves.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        while branches.len() < usize::from(*depth) {
            text.push('{');
            branches.push(false);
        }
        text.push_str(leaf);
        while branches.last() == Some(&true) {
            text.push('}');
            branches.pop();
        }
        if let Some(last) = branches.last_mut() {
            *last = true;
        }
    }
    text
}

/// The script that so many of these keys spend.
pub(crate) fn multisig(required: usize, keys: &[PublicKey]) -> ScriptBuf {
    let int = |count: usize| i64::try_from(count).expect("no more than twenty");
    let mut builder = Builder::new().push_int(int(required));
    for key in keys {
        builder = builder.push_key(key);
    }
    builder.push_int(int(keys.len())).push_opcode(OP_CHECKMULTISIG).into_script()
}

fn multi_a(required: usize, keys: &[XOnlyPublicKey]) -> ScriptBuf {
    let mut builder = Builder::new();
    for (index, key) in keys.iter().enumerate() {
        let opcode = if index == 0 { OP_CHECKSIG } else { OP_CHECKSIGADD };
        builder = builder.push_slice(key.serialize()).push_opcode(opcode);
    }
    builder.push_int(i64::try_from(required).expect("no more than 999")).push_opcode(OP_NUMEQUAL).into_script()
}

fn taproot(internal: &Derived, leaves: &[(u8, Expr)], index: u32, known: &mut Known) -> Option<ScriptBuf> {
    known.add(internal);
    let mut builder = TaprootBuilder::new();
    let mut texts = Vec::new();
    for (depth, leaf) in leaves {
        let script = leaf.expand(index, known)?.pop()?;
        texts.push((*depth, infer::leaf(&script, known)));
        builder = builder.add_leaf(*depth, script).ok()?;
    }
    let spend = builder.finalize(secp(), XOnlyPublicKey::from(internal.key.inner)).ok()?;
    let key = infer::xonly_text(&internal.key, known);
    let text = if texts.is_empty() { format!("tr({key})") } else { format!("tr({key},{})", tree_text(&texts)) };
    let output = spend.output_key();
    known.taproot.insert(output.serialize(), (spend, text));
    Some(ScriptBuf::new_p2tr_tweaked(output))
}
