//! What kind of an output a script makes, in the forms that wallets know.
//!
//! Deliberately absent: what a form needs to be spent.

use bitcoin::Script;

use crate::script::opcode::{self, Reader};
use crate::script::{ELEMENT_BYTES_MAX, MULTISIG_KEYS_MAX, SCRIPT_BYTES_MAX, STACK_ELEMENTS_MAX, ScriptError};

/// A form of outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// None of the others.
    NonStandard,
    /// A key, and a signature is asked for.
    Pubkey,
    /// A key's hash.
    PubkeyHash,
    /// A script's hash (BIP 16).
    ScriptHash,
    /// So many signatures by so many keys.
    Multisig {
        /// Signatures.
        required: u8,
        /// Keys.
        keys: u8,
    },
    /// Data, and nobody can spend it.
    NullData,
    /// Anybody may spend it, to pay for what it is part of.
    Anchor,
    /// A key's hash, and the witness has the key (BIP 141).
    WitnessV0KeyHash,
    /// A script's hash, and the witness has the script (BIP 141).
    WitnessV0ScriptHash,
    /// A key that may stand for a tree of scripts (BIP 341).
    WitnessV1Taproot,
    /// A witness version without a meaning.
    WitnessUnknown,
}

impl OutputKind {
    /// As clients know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NonStandard => "nonstandard",
            Self::Pubkey => "pubkey",
            Self::PubkeyHash => "pubkeyhash",
            Self::ScriptHash => "scripthash",
            Self::Multisig { .. } => "multisig",
            Self::NullData => "nulldata",
            Self::Anchor => "anchor",
            Self::WitnessV0KeyHash => "witness_v0_keyhash",
            Self::WitnessV0ScriptHash => "witness_v0_scripthash",
            Self::WitnessV1Taproot => "witness_v1_taproot",
            Self::WitnessUnknown => "witness_unknown",
        }
    }

    /// The form of this script.
    #[must_use]
    pub fn of(script: &Script) -> Self {
        let bytes = script.as_bytes();
        if opcode::is_pay_to_script_hash(bytes) {
            return Self::ScriptHash;
        }
        if let Some((version, program)) = opcode::witness_program(bytes) {
            return match (version, program.len()) {
                (0, 20) => Self::WitnessV0KeyHash,
                (0, 32) => Self::WitnessV0ScriptHash,
                (1, 32) => Self::WitnessV1Taproot,
                _ if is_anchor(bytes) => Self::Anchor,
                (0, _) => Self::NonStandard,
                _ => Self::WitnessUnknown,
            };
        }
        match bytes {
            [opcode::RETURN, data @ ..] if opcode::is_push_only(data) => Self::NullData,
            [length @ (33 | 65), key @ .., opcode::CHECKSIG] if key.len() == usize::from(*length) && is_key(key) => {
                Self::Pubkey
            }
            [opcode::DUP, opcode::HASH160, 20, hash @ .., opcode::EQUALVERIFY, opcode::CHECKSIG]
                if hash.len() == 20 =>
            {
                Self::PubkeyHash
            }
            _ => multisig(bytes).unwrap_or(Self::NonStandard),
        }
    }
}

/// Anybody may spend it: `1 <4e73>`.
pub(super) fn is_anchor(script: &[u8]) -> bool {
    script == [opcode::NUMBER_1, 2, 0x4e, 0x73]
}

/// A key's length fits its first byte. Whether it is a point of the curve is not looked at.
fn is_key(bytes: &[u8]) -> bool {
    matches!((bytes.first(), bytes.len()), (Some(2 | 3), 33) | (Some(4 | 6 | 7), 65))
}

fn multisig(script: &[u8]) -> Option<OutputKind> {
    if script.last() != Some(&opcode::CHECKMULTISIG) {
        return None;
    }
    let mut reader = Reader::new(script);
    let first = reader.step()?.ok()?;
    let required = number(first.opcode, first.push, 1)?;
    let mut keys = 0u32;
    let last = loop {
        let step = reader.step()?.ok()?;
        if !is_key(step.push) {
            break step;
        }
        keys += 1;
    };
    let count = number(last.opcode, last.push, required)?;
    let ends = reader.at() + 1 == script.len();
    (u32::from(count) == keys && ends).then_some(OutputKind::Multisig { required, keys: count })
}

/// A number of keys, from `least` on, by its opcode or pushed in the shortest way.
fn number(opcode: u8, push: &[u8], least: u8) -> Option<u8> {
    let number = match (opcode, push) {
        (opcode::NUMBER_1..=opcode::NUMBER_16, _) => opcode - opcode::NUMBER_1 + 1,
        // Those below have opcodes, those above 127 take two bytes and are too many.
        (1, [number @ 17..=127]) => *number,
        _ => return None,
    };
    (least..=MULTISIG_KEYS_MAX as u8).contains(&number).then_some(number)
}

/// The element that an input's script leaves on top of the stack, if it only pushes; `None` if the stack is empty.
///
/// # Errors
/// As the script would fail if it ran.
pub(super) fn top_element(script_sig: &Script) -> Result<Option<Vec<u8>>, ScriptError> {
    let bytes = script_sig.as_bytes();
    if bytes.len() > SCRIPT_BYTES_MAX {
        return Err(ScriptError::ScriptSize);
    }
    let (mut reader, mut top, mut count) = (Reader::new(bytes), None, 0);
    while let Some(step) = reader.step() {
        let step = step.map_err(|_| ScriptError::BadOpcode)?;
        if step.push.len() > ELEMENT_BYTES_MAX {
            return Err(ScriptError::PushSize);
        }
        top = Some(match step.opcode {
            0..=opcode::PUSHDATA4 => step.push.to_vec(),
            opcode::NEGATIVE_1 => vec![0x81],
            opcode::NUMBER_1..=opcode::NUMBER_16 => vec![step.opcode - opcode::NUMBER_1 + 1],
            _ => return Err(ScriptError::BadOpcode),
        });
        count += 1;
        if count > STACK_ELEMENTS_MAX {
            return Err(ScriptError::StackSize);
        }
    }
    Ok(top)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(parts: &[&[u8]]) -> OutputKind {
        OutputKind::of(Script::from_bytes(&parts.concat()))
    }

    #[test]
    fn forms_are_known() {
        let key = [&[33, 2][..], &[7; 32]].concat();
        assert_eq!(kind(&[&key, &[opcode::CHECKSIG]]), OutputKind::Pubkey);
        assert_eq!(kind(&[&[33, 5], &[7; 32], &[opcode::CHECKSIG]]), OutputKind::NonStandard);
        assert_eq!(kind(&[&[0x76, 0xa9, 20], &[7; 20], &[0x88, 0xac]]), OutputKind::PubkeyHash);
        assert_eq!(kind(&[&[0xa9, 20], &[7; 20], &[0x87]]), OutputKind::ScriptHash);
        assert_eq!(kind(&[&[0, 20], &[7; 20]]), OutputKind::WitnessV0KeyHash);
        assert_eq!(kind(&[&[0, 32], &[7; 32]]), OutputKind::WitnessV0ScriptHash);
        assert_eq!(kind(&[&[0x51, 32], &[7; 32]]), OutputKind::WitnessV1Taproot);
        assert_eq!(kind(&[&[0x51, 2, 0x4e, 0x73]]), OutputKind::Anchor);
        assert_eq!(kind(&[&[0x52, 2, 0x4e, 0x73]]), OutputKind::WitnessUnknown);
        assert_eq!(kind(&[&[0, 2, 0x4e, 0x73]]), OutputKind::NonStandard);
        assert_eq!(kind(&[&[0x6a, 2, 1, 1]]), OutputKind::NullData);
        assert_eq!(kind(&[&[0x6a, 2, 1]]), OutputKind::NonStandard);
        assert_eq!(kind(&[]), OutputKind::NonStandard);
        let multisig = OutputKind::Multisig { required: 1, keys: 2 };
        assert_eq!(kind(&[&[0x51], &key, &key, &[0x52, 0xae]]), multisig);
        assert_eq!(kind(&[&[0x53], &key, &key, &[0x52, 0xae]]), OutputKind::NonStandard);
        assert_eq!(kind(&[&[0x51], &key, &[0x52, 0xae]]), OutputKind::NonStandard);
        assert_eq!(kind(&[&[0x51], &key, &[0x51, 0x61, 0xae]]), OutputKind::NonStandard);
    }

    #[test]
    fn what_is_pushed_last_is_on_top() {
        let top = |script: &[u8]| top_element(Script::from_bytes(script));
        assert_eq!(top(&[1, 5, 0x52]), Ok(Some(vec![2])));
        assert_eq!(top(&[]), Ok(None));
        assert_eq!(top(&[0x50]), Err(ScriptError::BadOpcode));
        assert_eq!(top(&[3, 1]), Err(ScriptError::BadOpcode));
        assert_eq!(top(&[0; 1_001]), Err(ScriptError::StackSize));
    }
}
