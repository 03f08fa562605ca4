//! Signatures and keys: what they may look like, and whether they are good.
//!
//! - Before BIP 66 a signature was whatever a lenient reader of DER made of it; that reading still decides about signatures
//!   whose form no flag restricts, and is [`lenient`].
//! - BIP 66 (`DERSIG`): one encoding of each, in full: [`is_strict`].
//! - BIP 62, rule 5 (`LOW_S`): of S and its negative, the lower.
//! - `STRICTENC`: a hash type that means something, and a key that begins as compressed or uncompressed ones do.
//! - BIP 141's policy (`WITNESS_PUBKEYTYPE`): compressed keys alone under witness version 0.
//! - BIP 340: Schnorr's signatures, of 64 bytes.
//!
//! HAZARD: the lenient reading is consensus. A library that reads one byte more, or less, of a malformed signature splits the
//! network.

use std::sync::LazyLock;

use bitcoin::secp256k1::{self, Message, PublicKey, Secp256k1, VerifyOnly, XOnlyPublicKey, ecdsa, schnorr};

use super::{Flags, ScriptError};

static SECP: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

/// The curve's tables.
pub(super) fn secp() -> &'static Secp256k1<VerifyOnly> {
    &SECP
}

/// Fails if the flags forbid a signature of this form. One that is empty is not one.
pub(super) fn check_signature(signature: &[u8], flags: Flags) -> Result<(), ScriptError> {
    let Some((hash_type, der)) = signature.split_last() else { return Ok(()) };
    if flags.has(Flags::DERSIG | Flags::LOW_S | Flags::STRICTENC) && !is_strict(signature) {
        return Err(ScriptError::SigDer);
    }
    if flags.has(Flags::LOW_S) && !has_low_s(der) {
        return Err(ScriptError::SigHighS);
    }
    if flags.has(Flags::STRICTENC) && !matches!(hash_type & !0x80, 1..=3) {
        return Err(ScriptError::SigHashType);
    }
    Ok(())
}

/// Fails if the flags forbid a key of this form.
pub(super) fn check_key(key: &[u8], flags: Flags, witness_v0: bool) -> Result<(), ScriptError> {
    let compressed = matches!((key.first(), key.len()), (Some(2 | 3), 33));
    let uncompressed = matches!((key.first(), key.len()), (Some(4), 65));
    if flags.has(Flags::STRICTENC) && !compressed && !uncompressed {
        return Err(ScriptError::PubkeyType);
    }
    if flags.has(Flags::WITNESS_PUBKEYTYPE) && witness_v0 && !compressed {
        return Err(ScriptError::WitnessPubkeyType);
    }
    Ok(())
}

/// BIP 66: a sequence of two integers, each positive and without a superfluous zero, and one byte of hash type.
pub(super) fn is_strict(signature: &[u8]) -> bool {
    /// Takes one integer off.
    fn integer(bytes: &[u8]) -> Option<&[u8]> {
        let [2, length, rest @ ..] = bytes else { return None };
        let (digits, rest) = rest.split_at_checked(usize::from(*length))?;
        let plain = match digits {
            [] => false,
            [0, next, ..] => *next >= 0x80,
            [first, ..] => *first < 0x80,
        };
        plain.then_some(rest)
    }
    let [0x30, length, integers @ ..] = signature else { return false };
    (9..=73).contains(&signature.len())
        && usize::from(*length) == signature.len() - 3
        && integer(integers).and_then(integer).is_some_and(|hash_type| hash_type.len() == 1)
}

/// What a lenient reader makes of a signature: R and S, of 32 bytes each. Both are zero, which is never good, if one of them
/// is too large.
///
/// - The sequence's length is not looked at, nor what follows S.
/// - Lengths may have more bytes than they need, at most three of which count.
/// - Integers are unsigned, with any number of zeros before them.
pub(super) fn lenient(der: &[u8]) -> Option<[u8; 64]> {
    let [0x30, first, rest @ ..] = der else { return None };
    let skipped = if first & 0x80 == 0 { 0 } else { usize::from(first & 0x7f) };
    let (r, rest) = lenient_integer(rest.get(skipped..)?)?;
    let (s, _) = lenient_integer(rest)?;
    let mut compact = [0; 64];
    for (digits, place) in [(r, 32), (s, 64)] {
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        let digits = &digits[zeros..];
        if digits.len() > 32 {
            return Some([0; 64]);
        }
        compact[place - digits.len()..place].copy_from_slice(digits);
    }
    Some(compact)
}

/// The digits of one integer, and what follows.
fn lenient_integer(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [2, first, rest @ ..] = bytes else { return None };
    if first & 0x80 == 0 {
        return rest.split_at_checked(usize::from(*first));
    }
    let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    let length = &length[zeros..];
    if length.len() > 3 {
        return None;
    }
    rest.split_at_checked(length.iter().fold(0, |high, low| (high << 8) | usize::from(*low)))
}

/// The signature as the library takes it.
fn parse(der: &[u8]) -> Option<ecdsa::Signature> {
    let compact = lenient(der)?;
    // Larger than the group is too large as well.
    ecdsa::Signature::from_compact(&compact).or_else(|_| ecdsa::Signature::from_compact(&[0; 64])).ok()
}

fn has_low_s(der: &[u8]) -> bool {
    parse(der).is_some_and(|signature| {
        let mut low = signature;
        low.normalize_s();
        low == signature
    })
}

/// True if `key` signed `digest`. The signature comes without its hash type.
pub(super) fn is_good_ecdsa(der: &[u8], key: &[u8], digest: [u8; 32]) -> bool {
    let Ok(key) = PublicKey::from_slice(key) else { return false };
    let Some(mut signature) = parse(der) else { return false };
    // The library knows the lower S alone.
    signature.normalize_s();
    secp().verify_ecdsa(&Message::from_digest(digest), &signature, &key).is_ok()
}

/// True if the first byte of a key goes with its length; others are no keys at all, and nothing is hashed for them.
pub(super) fn is_key(key: &[u8]) -> bool {
    matches!((key.first(), key.len()), (Some(2 | 3), 33) | (Some(4 | 6 | 7), 65))
}

/// True if `key`, of 32 bytes, signed `digest` by BIP 340.
pub(super) fn is_good_schnorr(signature: &[u8], key: &[u8], digest: [u8; 32]) -> bool {
    let good = || -> Result<(), secp256k1::Error> {
        let (signature, key) = (schnorr::Signature::from_slice(signature)?, XOnlyPublicKey::from_slice(key)?);
        secp().verify_schnorr(&signature, &Message::from_digest(digest), &key)
    };
    good().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R = 1, S = 2.
    const PLAIN: [u8; 9] = [0x30, 6, 2, 1, 1, 2, 1, 2, 1];

    fn compact(r: u8, s: u8) -> [u8; 64] {
        let mut compact = [0; 64];
        (compact[31], compact[63]) = (r, s);
        compact
    }

    #[test]
    fn strict_takes_one_encoding() {
        assert!(is_strict(&PLAIN));
        for (place, byte) in [(0, 0x31), (1, 7), (2, 3), (3, 0), (3, 2), (4, 0x81), (5, 3), (6, 2), (7, 0x80)] {
            let mut wrong = PLAIN;
            wrong[place] = byte;
            assert!(!is_strict(&wrong), "{place}: {byte}");
        }
        assert!(!is_strict(&[0x30, 7, 2, 2, 0, 1, 2, 1, 2, 1]), "a superfluous zero");
        assert!(is_strict(&[0x30, 7, 2, 2, 0, 0x80, 2, 1, 2, 1]), "a zero that is needed");
        assert!(!is_strict(&PLAIN[..8]) && !is_strict(&[]), "cut short");
        let long = |r: u8| [&[0x30, r + 5, 2, r, 1][..], &vec![0; usize::from(r) - 1], &[2, 1, 2, 1]].concat();
        assert!(is_strict(&long(65)) && !is_strict(&long(66)), "73 bytes at the most");
    }

    #[test]
    fn lenient_takes_many() {
        assert_eq!(lenient(&PLAIN), Some(compact(1, 2)), "what follows S is not read");
        assert_eq!(lenient(&[0x30, 0xff]), None, "a length that is not there");
        assert_eq!(lenient(&[0x30, 99, 2, 1, 1, 2, 1, 2]), Some(compact(1, 2)), "a wrong length");
        assert_eq!(lenient(&[0x30, 0x82, 9, 9, 2, 1, 1, 2, 1, 2]), Some(compact(1, 2)), "a long length");
        assert_eq!(lenient(&[0x30, 6, 2, 0x85, 0, 0, 0, 0, 1, 1, 2, 0x81, 1, 2]), Some(compact(1, 2)), "zeros in it");
        assert_eq!(lenient(&[0x30, 6, 2, 0x84, 1, 0, 0, 1, 1, 2, 1, 2]), None, "four bytes of length");
        assert_eq!(lenient(&[0x30, 6, 2, 0, 2, 0]), Some([0; 64]), "no digits");
        assert_eq!(lenient(&[0x30, 6, 2, 1, 0xff, 2, 1, 2]), Some(compact(0xff, 2)), "never negative");
        let zeros = [&[0x30, 6, 2, 41][..], &[0; 40], &[1, 2, 1, 2]].concat();
        assert_eq!(lenient(&zeros), Some(compact(1, 2)), "zeros before it");
        let large = [&[0x30, 6, 2, 33, 1][..], &[0; 32], &[2, 1, 2]].concat();
        assert_eq!(lenient(&large), Some([0; 64]), "33 digits");
        for end in 0..8 {
            assert_eq!(lenient(&PLAIN[..end]), None, "{end}");
        }
    }

    #[test]
    fn larger_than_the_group_is_never_good_and_never_high() {
        let der = [&[0x30, 68, 2, 32][..], &[0xff; 32], &[2, 32], &[0xff; 32]].concat();
        assert!(has_low_s(&der));
        assert!(!is_good_ecdsa(&der, &secp256k1::constants::GENERATOR_X, [1; 32]));
    }
}
