//! Opcodes that look at signatures.
//!
//! - Before witnesses, the script that is signed has every push of the signature taken out of it first: a leftover of the first
//!   node, in which a signature could stand in the script that it signs.
//! - `OP_CHECKMULTISIG` goes through signatures and keys from the last to the first; each key is tried once, and it fails as soon
//!   as fewer keys than signatures are left. It takes one element more than it needs, which `NULLDUMMY` wants empty (BIP 147).
//! - `NULLFAIL`: what did not pass must have been empty, so that a stranger cannot put another failure in its place.
//! - In tapscript an empty signature is false, any other must be good; a key of 32 bytes is BIP 340's, an empty one fails, and
//!   others have no meaning yet and let anything pass (BIP 342).

use std::borrow::Cow;

use super::super::signature;
use super::super::witness::SIGNATURE_WEIGHT;
use super::super::{MULTISIG_KEYS_MAX, opcode, sighash::Leaf};
use super::{Flags, Machine, Rules, ScriptError, Spend, Tap};

/// What was signed, by hash type: keys that are tried with one signature hash the transaction once.
type Digests = Vec<(u8, [u8; 32])>;

impl Machine<'_> {
    /// `OP_CHECKSIG`: a signature and a key become a truth value.
    pub(super) fn check_signature_operation(&mut self) -> Result<(), ScriptError> {
        self.stack.need(2)?;
        let (key, signature) = (self.stack.pop()?, self.stack.pop()?);
        let good = self.is_good(&signature, &key)?;
        self.stack.push_bool(good);
        Ok(())
    }

    /// `OP_CHECKSIGADD`: a signature, a number and a key become the number, or the next one.
    pub(super) fn check_signature_add(&mut self) -> Result<(), ScriptError> {
        if !self.is_tapscript() {
            return Err(ScriptError::BadOpcode);
        }
        self.stack.need(3)?;
        let count = self.number(1)?;
        let (key, _, signature) = (self.stack.pop()?, self.stack.pop()?, self.stack.pop()?);
        let good = self.is_good(&signature, &key)?;
        self.stack.push_number(count + i64::from(good));
        Ok(())
    }

    fn is_good(&mut self, signature: &[u8], key: &[u8]) -> Result<bool, ScriptError> {
        if let Rules::Tapscript(mut tap) = self.context.rules {
            let good = self.is_good_in_tapscript(&mut tap, signature, key);
            self.context.rules = Rules::Tapscript(tap);
            return good;
        }
        let code = self.code_without(Cow::Borrowed(&self.script[self.code_from..]), signature)?;
        self.check_forms(signature, key)?;
        let good = self.is_good_ecdsa(signature, key, &code, &mut Digests::new());
        if !good && self.has(Flags::NULLFAIL) && !signature.is_empty() {
            return Err(ScriptError::NullFail);
        }
        Ok(good)
    }

    fn is_good_in_tapscript(&self, tap: &mut Tap, signature: &[u8], key: &[u8]) -> Result<bool, ScriptError> {
        let given = !signature.is_empty();
        if given {
            tap.weight_left -= SIGNATURE_WEIGHT;
            if tap.weight_left < 0 {
                return Err(ScriptError::TapscriptValidationWeight);
            }
        }
        match key.len() {
            0 => return Err(ScriptError::TapscriptEmptyPubkey),
            32 if given => {
                let leaf = Leaf { hash: tap.leaf, code_separator: self.separator };
                check_schnorr(self.context.spend, signature, key, tap.annex, Some(leaf))?;
            }
            32 => {}
            _ if self.has(Flags::DISCOURAGE_UPGRADABLE_PUBKEYTYPE) => {
                return Err(ScriptError::DiscourageUpgradablePubkeyType);
            }
            _ => {}
        }
        Ok(given)
    }

    /// `OP_CHECKMULTISIG`: one element too many, signatures, their number, keys and their number become a truth value.
    pub(super) fn check_multisig(&mut self) -> Result<(), ScriptError> {
        if self.is_tapscript() {
            return Err(ScriptError::TapscriptCheckMultisig);
        }
        let keys = number_up_to(self.number(0)?, MULTISIG_KEYS_MAX).ok_or(ScriptError::PubkeyCount)?;
        self.count(keys)?;
        let signatures = number_up_to(self.number(keys + 1)?, keys).ok_or(ScriptError::SigCount)?;
        // Places of the last key, the last signature, and of what is one too many.
        let (key_place, signature_place, dummy) = (1, keys + 2, keys + signatures + 2);
        self.stack.need(dummy + 1)?;
        let mut code = Cow::Borrowed(&self.script[self.code_from..]);
        for place in signature_place..dummy {
            code = self.code_without(code, self.stack.peek(place)?)?;
        }
        let (mut key, mut signature, mut digests) = (key_place, signature_place, Digests::new());
        let mut good = true;
        while good && signature < dummy {
            let (tried, by) = (self.stack.peek(signature)?, self.stack.peek(key)?);
            self.check_forms(tried, by)?;
            if self.is_good_ecdsa(tried, by, &code, &mut digests) {
                signature += 1;
            }
            key += 1;
            good = dummy - signature <= key_place + keys - key;
        }
        if !good && self.has(Flags::NULLFAIL) {
            for place in signature_place..dummy {
                if !self.stack.peek(place)?.is_empty() {
                    return Err(ScriptError::NullFail);
                }
            }
        }
        if self.has(Flags::NULLDUMMY) && !self.stack.peek(dummy)?.is_empty() {
            return Err(ScriptError::SigNullDummy);
        }
        self.stack.drop_top(dummy + 1)?;
        self.stack.push_bool(good);
        Ok(())
    }

    /// The script that is signed, without this signature where it could stand in it.
    fn code_without<'c>(&self, code: Cow<'c, [u8]>, signature: &[u8]) -> Result<Cow<'c, [u8]>, ScriptError> {
        if !self.is_legacy() {
            return Ok(code);
        }
        match opcode::find_and_delete(&code, &opcode::push_of(signature)) {
            Some(_) if self.has(Flags::CONST_SCRIPTCODE) => Err(ScriptError::SigFindAndDelete),
            Some(rest) => Ok(Cow::Owned(rest)),
            None => Ok(code),
        }
    }

    fn check_forms(&self, signature: &[u8], key: &[u8]) -> Result<(), ScriptError> {
        signature::check_signature(signature, self.context.flags)?;
        signature::check_key(key, self.context.flags, !self.is_legacy())
    }

    fn is_good_ecdsa(&self, signature: &[u8], key: &[u8], code: &[u8], digests: &mut Digests) -> bool {
        let Some((hash_type, der)) = signature.split_last() else { return false };
        if !signature::is_key(key) {
            return false;
        }
        let known = digests.iter().find(|(of, _)| of == hash_type).map(|(_, digest)| *digest);
        let digest = known.unwrap_or_else(|| {
            let (spend, wide) = (self.context.spend, u32::from(*hash_type));
            let digest = if self.is_legacy() { spend.legacy(code, wide) } else { spend.witness_v0(code, wide) };
            digests.push((*hash_type, digest));
            digest
        });
        signature::is_good_ecdsa(der, key, digest)
    }
}

/// Fails unless the key, of 32 bytes, made this signature of the input (BIP 341, BIP 342).
pub(in super::super) fn check_schnorr(
    spend: &Spend<'_>,
    signature: &[u8],
    key: &[u8],
    annex: Option<[u8; 32]>,
    leaf: Option<Leaf>,
) -> Result<(), ScriptError> {
    let (signature, hash_type) = match signature.len() {
        64 => (signature, 0),
        // To say what is meant anyway is not allowed: it would be another way to write the same.
        65 if signature[64] == 0 => return Err(ScriptError::SchnorrSigHashType),
        65 => (&signature[..64], signature[64]),
        _ => return Err(ScriptError::SchnorrSigSize),
    };
    let digest = spend.taproot(hash_type, annex, leaf).ok_or(ScriptError::SchnorrSigHashType)?;
    if signature::is_good_schnorr(signature, key, digest) { Ok(()) } else { Err(ScriptError::SchnorrSig) }
}

fn number_up_to(number: i64, max: usize) -> Option<usize> {
    usize::try_from(number).ok().filter(|number| *number <= max)
}
