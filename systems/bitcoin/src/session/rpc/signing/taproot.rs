//! Signatures for taproot outputs (BIP 341, BIP 342).

use bitcoin::hashes::Hash;
use bitcoin::key::{TapTweak, UntweakedKeypair};
use bitcoin::secp256k1::{Keypair, Message, Parity, XOnlyPublicKey};
use bitcoin::taproot::{LeafVersion, TapLeafHash, TaprootSpendInfo};
use bitcoin::{PrivateKey, PublicKey, ScriptBuf};

use super::{SigData, Signer};
use crate::script::Leaf;
use crate::session::rpc::descriptor::secp;

/// The keys that a leaf asks for, and how many of them.
struct Leaves {
    keys: Vec<XOnlyPublicKey>,
    required: usize,
}

/// `<key> CHECKSIG`, or `<key> CHECKSIG (<key> CHECKSIGADD)* <n> NUMEQUAL`.
fn keys_of(script: &ScriptBuf) -> Option<Leaves> {
    let bytes = script.as_bytes();
    let key = |at: usize, opcode: u8| {
        let part = bytes.get(at..at + 34)?;
        if part[0] != 32 || part[33] != opcode {
            return None;
        }
        XOnlyPublicKey::from_slice(&part[1..33]).ok()
    };
    let mut keys = vec![key(0, 0xac)?];
    let mut at = 34;
    if bytes.len() == at {
        return Some(Leaves { keys, required: 1 });
    }
    while let Some(next) = key(at, 0xba) {
        keys.push(next);
        at += 34;
    }
    let required = match bytes.get(at..)? {
        [number @ 0x51..=0x60, 0x9c] => usize::from(number - 0x50),
        [1, number, 0x9c] => usize::from(*number),
        _ => return None,
    };
    (required <= keys.len()).then_some(Leaves { keys, required })
}

impl Signer<'_> {
    fn private_of(&self, key: &XOnlyPublicKey) -> Option<PrivateKey> {
        [Parity::Even, Parity::Odd].into_iter().find_map(|parity| {
            let id = PublicKey::new(key.public_key(parity)).pubkey_hash().to_byte_array();
            self.known.private.get(&id).copied()
        })
    }

    fn schnorr(&self, pair: &Keypair, leaf: Option<Leaf>) -> Option<Vec<u8>> {
        if !self.whole {
            return None;
        }
        let digest = self.spend.taproot(self.sighash, None, leaf)?;
        let mut bytes = secp().sign_schnorr_no_aux_rand(&Message::from_digest(digest), pair).serialize().to_vec();
        if self.sighash != 0 {
            bytes.push(self.sighash);
        }
        Some(bytes)
    }

    /// What goes on the stack to spend this output.
    pub(super) fn taproot(&self, output: &[u8; 32], data: &mut SigData) -> Option<Vec<Vec<u8>>> {
        if !data.taproot_key.is_empty() {
            return Some(vec![data.taproot_key.clone()]);
        }
        if self.pretends {
            return Some(vec![vec![0; 64]]);
        }
        let info = self.known.taproot.get(output).map(|(info, _)| info);
        let by_key = match info {
            Some(info) => self.private_of(&info.internal_key()).and_then(|private| {
                let pair = UntweakedKeypair::from_secret_key(secp(), &private.inner);
                let tweaked = pair.tap_tweak(secp(), info.merkle_root());
                self.schnorr(&tweaked.to_keypair(), None)
            }),
            None => None,
        };
        // `rawtr()` names the output's own key.
        let by_key = by_key.or_else(|| {
            let key = XOnlyPublicKey::from_slice(output).ok()?;
            let private = self.private_of(&key)?;
            self.schnorr(&Keypair::from_secret_key(secp(), &private.inner), None)
        });
        if let Some(signature) = by_key {
            data.taproot_key.clone_from(&signature);
            return Some(vec![signature]);
        }
        self.by_leaf(info?, data)
    }

    fn by_leaf(&self, info: &TaprootSpendInfo, data: &mut SigData) -> Option<Vec<Vec<u8>>> {
        let mut best: Option<Vec<Vec<u8>>> = None;
        for (script, version) in info.script_map().keys() {
            if *version != LeafVersion::TapScript {
                continue;
            }
            let Some(leaves) = keys_of(script) else { continue };
            let hash = TapLeafHash::from_script(script, *version).to_byte_array();
            let leaf = Leaf { hash, code_separator: u32::MAX };
            let mut signatures = Vec::new();
            let mut count = 0;
            // The last key's signature lies lowest.
            for key in leaves.keys.iter().rev() {
                let place = (key.serialize(), hash);
                let signature = data.taproot_leaves.get(&place).cloned().or_else(|| {
                    let pair = Keypair::from_secret_key(secp(), &self.private_of(key)?.inner);
                    self.schnorr(&pair, Some(leaf))
                });
                if let Some(signature) = &signature {
                    data.taproot_leaves.insert(place, signature.clone());
                }
                signatures.push(signature);
            }
            // No more signatures than are asked for may stand there.
            for signature in &mut signatures {
                count += usize::from(signature.is_some());
                if count > leaves.required {
                    *signature = None;
                }
            }
            if count < leaves.required {
                continue;
            }
            let Some(control) = info.control_block(&(script.clone(), *version)) else { continue };
            let mut stack: Vec<Vec<u8>> = signatures.into_iter().map(Option::unwrap_or_default).collect();
            stack.extend([script.to_bytes(), control.serialize()]);
            let size = |stack: &[Vec<u8>]| stack.iter().map(|item| item.len() + 1).sum::<usize>();
            if best.as_ref().is_none_or(|best| size(&stack) < size(best)) {
                best = Some(stack);
            }
        }
        best
    }
}
