//! Signatures for inputs, and what is missing where there can be none.
//!
//! - upon an output behind a hash: what stands behind it is looked for, and then signed in its place;
//! - upon several keys: each that is there signs, and as many signatures as are asked for are put together;
//! - upon a taproot output: its own key signs, or else a leaf of its tree, the cheapest first;
//! - what is put together is run before it counts as complete.
//!
//! Deliberately absent: where keys come from, and miniscript.

mod taproot;

use std::collections::BTreeMap;

use bitcoin::hashes::{Hash, ripemd160};
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::Message;
use bitcoin::{PublicKey, Script, ScriptBuf, Transaction, TxOut, Witness, ecdsa};

use crate::script::{Flags, SharedHashes, Spend, verify};
use crate::session::rpc::descriptor::{Known, Origin, secp};
use crate::session::rpc::render::script::Template;

/// What relaying nodes ask of an input.
pub(crate) const STANDARD: Flags = Flags::ALL.without(Flags::SIGPUSHONLY);
const SIGHASH_ALL: u8 = 1;
/// A signature with its hash type is so long.
const PRETENDED_BYTES: usize = 71;

/// What is known of an input's signatures.
#[derive(Clone, Debug, Default)]
pub(crate) struct SigData {
    pub(crate) complete: bool,
    pub(crate) script_sig: ScriptBuf,
    pub(crate) witness: Witness,
    pub(crate) redeem_script: ScriptBuf,
    pub(crate) witness_script: ScriptBuf,
    /// By the hash of the key.
    pub(crate) signatures: BTreeMap<[u8; 20], (PublicKey, Vec<u8>)>,
    /// Keys that could sign, and where they come from.
    pub(crate) keys: BTreeMap<[u8; 20], (PublicKey, Option<Origin>)>,
    /// Of a taproot output's own key.
    pub(crate) taproot_key: Vec<u8>,
    /// By the key and the hash of the leaf.
    pub(crate) taproot_leaves: BTreeMap<([u8; 32], [u8; 32]), Vec<u8>>,
    pub(crate) missing_keys: Vec<[u8; 20]>,
    pub(crate) missing_signatures: Vec<[u8; 20]>,
    pub(crate) missing_redeem: Option<[u8; 20]>,
    pub(crate) missing_witness: Option<[u8; 32]>,
}

impl SigData {
    /// Takes over what another has.
    pub(crate) fn merge(&mut self, other: Self) {
        if self.complete {
            return;
        }
        if other.complete {
            *self = other;
            return;
        }
        if self.redeem_script.is_empty() {
            self.redeem_script = other.redeem_script;
        }
        if self.witness_script.is_empty() {
            self.witness_script = other.witness_script;
        }
        self.signatures.extend(other.signatures);
    }
}

/// By which rules a script is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Legacy,
    WitnessV0,
}

/// What a script takes, and what kind it is of.
struct Step {
    solved: bool,
    stack: Vec<Vec<u8>>,
    template: Template,
}

/// One input that is to be signed.
pub(crate) struct Signer<'a> {
    known: &'a Known,
    spend: Spend<'a>,
    spent: &'a TxOut,
    /// 0 for the usual.
    sighash: u8,
    /// All outputs that the transaction spends are known.
    whole: bool,
    /// Every key that is known is taken to sign, and what is put together to hold.
    pretends: bool,
}

impl<'a> Signer<'a> {
    /// For the input at this place. `shared` may have made-up outputs for other inputs if it is not `whole`.
    pub(crate) fn new(
        known: &'a Known,
        shared: &'a SharedHashes<'a>,
        index: usize,
        spent: &'a TxOut,
        sighash: u8,
        whole: bool,
    ) -> Option<Self> {
        Some(Self { known, spend: shared.spend(index)?, spent, sighash, whole, pretends: false })
    }

    /// The same, to learn how large it would be.
    pub(crate) fn pretending(mut self) -> Self {
        self.pretends = true;
        self
    }

    fn digest(&self, code: &Script, sighash: u8, version: Version) -> [u8; 32] {
        match version {
            Version::Legacy => self.spend.legacy(code.as_bytes(), sighash.into()),
            Version::WitnessV0 => self.spend.witness_v0(code.as_bytes(), sighash.into()),
        }
    }

    /// A signature of this key, from before or made now.
    fn sign(&self, data: &mut SigData, key: &PublicKey, code: &Script, version: Version) -> Option<Vec<u8>> {
        let id = key.pubkey_hash().to_byte_array();
        if let Some((_, signature)) = data.signatures.get(&id) {
            return Some(signature.clone());
        }
        data.keys.entry(id).or_insert_with(|| (*key, self.known.origins.get(&id).cloned()));
        if self.pretends {
            return Some(vec![0; PRETENDED_BYTES]);
        }
        let private = self.known.private.get(&id);
        let private = private.filter(|_| version == Version::Legacy || key.compressed);
        let Some(private) = private else {
            data.missing_signatures.push(id);
            return None;
        };
        let sighash = if self.sighash == 0 { SIGHASH_ALL } else { self.sighash };
        let message = Message::from_digest(self.digest(code, sighash, version));
        let mut bytes = secp().sign_ecdsa_low_r(&message, &private.inner).serialize_der().to_vec();
        bytes.push(sighash);
        data.signatures.insert(id, (*key, bytes.clone()));
        Some(bytes)
    }

    /// What stands behind a hash.
    fn behind(&self, id: [u8; 20], data: &SigData) -> Option<ScriptBuf> {
        let own = [&data.redeem_script, &data.witness_script];
        let own = own.into_iter().find(|script| !script.is_empty() && script.script_hash().to_byte_array() == id);
        own.or_else(|| self.known.scripts.get(&id)).cloned()
    }

    fn step(&self, script: &Script, version: Version, data: &mut SigData) -> Step {
        let template = Template::of(script);
        let (mut solved, mut stack) = (false, Vec::new());
        match &template {
            Template::Nonstandard | Template::NullData | Template::WitnessUnknown => {}
            Template::Anchor => solved = true,
            Template::Pubkey(bytes) => {
                if let Ok(key) = PublicKey::from_slice(bytes)
                    && let Some(signature) = self.sign(data, &key, script, version)
                {
                    (solved, stack) = (true, vec![signature]);
                }
            }
            Template::PubkeyHash(id) => match self.known.keys.get(id).or_else(|| data.keys.get(id).map(|(key, _)| key))
            {
                Some(key) => {
                    let key = *key;
                    if let Some(signature) = self.sign(data, &key, script, version) {
                        (solved, stack) = (true, vec![signature, key.to_bytes()]);
                    }
                }
                None => data.missing_keys.push(*id),
            },
            Template::ScriptHash(id) => match self.behind(*id, data) {
                Some(script) => (solved, stack) = (true, vec![script.into_bytes()]),
                None => data.missing_redeem = Some(*id),
            },
            Template::WitnessKeyHash(id) => (solved, stack) = (true, vec![id.to_vec()]),
            Template::WitnessScriptHash(hash) => match self.behind(ripemd160::Hash::hash(hash).to_byte_array(), data) {
                Some(script) => (solved, stack) = (true, vec![script.into_bytes()]),
                None => data.missing_witness = Some(*hash),
            },
            Template::Multisig { required, keys } => {
                // The opcode takes one element too many.
                stack.push(Vec::new());
                for bytes in keys {
                    let Ok(key) = PublicKey::from_slice(bytes) else { continue };
                    if let Some(signature) = self.sign(data, &key, script, version)
                        && stack.len() <= *required
                    {
                        stack.push(signature);
                    }
                }
                solved = stack.len() == required + 1;
                stack.resize(required + 1, Vec::new());
            }
            Template::Taproot(output) => {
                if let Some(found) = self.taproot(output, data) {
                    (solved, stack) = (true, found);
                }
            }
        }
        Step { solved, stack, template }
    }

    /// Signs what can be signed, and puts it together; true if the input is complete.
    pub(crate) fn produce(&self, data: &mut SigData) -> bool {
        if data.complete {
            return true;
        }
        let mut step = self.step(&self.spent.script_pubkey, Version::Legacy, data);
        let mut redeem = None;
        if step.solved && matches!(step.template, Template::ScriptHash(_)) {
            let script = ScriptBuf::from_bytes(step.stack.swap_remove(0));
            data.redeem_script.clone_from(&script);
            step = self.step(&script, Version::Legacy, data);
            step.solved &= !matches!(step.template, Template::ScriptHash(_));
            redeem = Some(script);
        }
        let mut witness: Option<Vec<Vec<u8>>> = None;
        match (&step.template, step.solved) {
            (Template::WitnessKeyHash(id), true) => {
                let code = ScriptBuf::new_p2pkh(&bitcoin::PubkeyHash::from_byte_array(*id));
                let inner = self.step(&code, Version::WitnessV0, data);
                step.solved = inner.solved;
                witness = Some(inner.stack);
                step.stack.clear();
            }
            (Template::WitnessScriptHash(_), true) => {
                let script = ScriptBuf::from_bytes(step.stack.swap_remove(0));
                data.witness_script.clone_from(&script);
                let mut inner = self.step(&script, Version::WitnessV0, data);
                let nested = matches!(
                    inner.template,
                    Template::ScriptHash(_) | Template::WitnessScriptHash(_) | Template::WitnessKeyHash(_)
                );
                step.solved = inner.solved && !nested;
                inner.stack.push(script.into_bytes());
                witness = Some(inner.stack);
                step.stack.clear();
            }
            (Template::Taproot(_), solved) if redeem.is_none() => {
                witness = Some(if solved { std::mem::take(&mut step.stack) } else { Vec::new() });
                step.stack.clear();
            }
            _ => {}
        }
        data.witness = Witness::from_slice(&witness.unwrap_or_default());
        if let Some(script) = redeem {
            step.stack.push(script.into_bytes());
        }
        data.script_sig = push_all(&step.stack);
        data.complete = step.solved && (self.pretends || self.holds(&data.script_sig, &data.witness).is_ok());
        data.complete
    }

    /// Runs the input with this script and this witness.
    pub(crate) fn holds(&self, script_sig: &Script, witness: &Witness) -> Result<(), crate::script::ScriptError> {
        verify(script_sig, &self.spent.script_pubkey, witness, STANDARD, &self.spend)
    }

    /// What the transaction has for this input already.
    pub(crate) fn extract(&self, script_sig: &Script, witness: &Witness) -> SigData {
        let mut data = SigData { script_sig: script_sig.into(), witness: witness.clone(), ..SigData::default() };
        if self.holds(script_sig, witness).is_ok() {
            data.complete = true;
            return data;
        }
        let mut stack = pushes(script_sig);
        let mut script = self.spent.script_pubkey.clone();
        let mut version = Version::Legacy;
        if script.is_p2sh()
            && let Some(last) = stack.pop().filter(|last| !last.is_empty())
        {
            script = ScriptBuf::from_bytes(last);
            data.redeem_script.clone_from(&script);
        }
        let mut items: Vec<Vec<u8>> = witness.iter().map(<[u8]>::to_vec).collect();
        if script.is_p2wsh()
            && let Some(last) = items.pop().filter(|last| !last.is_empty())
        {
            script = ScriptBuf::from_bytes(last);
            data.witness_script.clone_from(&script);
            (stack, version) = (items, Version::WitnessV0);
        }
        if let Template::Multisig { keys, .. } = Template::of(&script) {
            let mut from = 0;
            for signature in &stack {
                let found = (from..keys.len()).find_map(|at| {
                    let key = PublicKey::from_slice(&keys[at]).ok()?;
                    self.signed(signature, &key, &script, version).then_some((at, key))
                });
                if let Some((at, key)) = found {
                    data.signatures.insert(key.pubkey_hash().to_byte_array(), (key, signature.clone()));
                    from = at + 1;
                }
            }
        }
        data
    }

    /// Whether this is this key's signature.
    fn signed(&self, signature: &[u8], key: &PublicKey, code: &Script, version: Version) -> bool {
        let Some(sighash) = signature.last() else { return false };
        let Ok(parsed) = ecdsa::Signature::from_slice(signature) else { return false };
        let mut inner = parsed.signature;
        inner.normalize_s();
        let message = Message::from_digest(self.digest(code, *sighash, version));
        secp().verify_ecdsa(&message, &inner, &key.inner).is_ok()
    }
}

/// A script that pushes these.
fn push_all(items: &[Vec<u8>]) -> ScriptBuf {
    let mut builder = Builder::new();
    for item in items {
        builder = match item[..] {
            [] => builder.push_int(0),
            [number @ 1..=16] => builder.push_int(number.into()),
            [0x81] => builder.push_int(-1),
            _ => match PushBytesBuf::try_from(item.clone()) {
                Ok(push) => builder.push_slice(push),
                Err(_) => builder,
            },
        };
    }
    builder.into_script()
}

/// What a script pushes, as far as it only pushes.
fn pushes(script: &Script) -> Vec<Vec<u8>> {
    let mut stack = Vec::new();
    for step in script.instructions() {
        match step {
            Ok(bitcoin::script::Instruction::PushBytes(push)) => stack.push(push.as_bytes().to_vec()),
            Ok(bitcoin::script::Instruction::Op(opcode)) if (0x51..=0x60).contains(&opcode.to_u8()) => {
                stack.push(vec![opcode.to_u8() - 0x50]);
            }
            _ => return Vec::new(),
        }
    }
    stack
}

/// The outputs that a transaction spends, with made-up ones where they are not known, and whether all are.
pub(crate) fn spent_outputs(tx: &Transaction, find: impl Fn(usize) -> Option<TxOut>) -> (Vec<TxOut>, bool) {
    let mut whole = true;
    let nothing = TxOut { value: bitcoin::Amount::ZERO, script_pubkey: ScriptBuf::new() };
    let outputs = (0..tx.input.len()).map(|index| {
        find(index).unwrap_or_else(|| {
            whole = false;
            nothing.clone()
        })
    });
    let outputs = outputs.collect();
    (outputs, whole)
}
