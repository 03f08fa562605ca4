//! Spends, to the interpreter of Bitcoin's scripts and to Bitcoin Core's library, which must say the same.
//!
//! ```text
//! first = 0 a spend with good keys and signatures, as `systems/bitcoin/tests/made` makes it of the rest | 1 scripts as they are
//! as they are = flags:u64, the input's script: blob, the output's: blob, count:u8 elements: blob, the rest a transaction;
//!               one of one input if it is none
//! ```

use bitcoin::{
    Amount, ScriptBuf, Transaction, TxIn, TxOut, Witness, absolute::LockTime, consensus, transaction::Version,
};
use verity_bitcoin::script::{Flags, ScriptError};

use crate::{Lines, Script, canary};

#[path = "../../systems/bitcoin/tests/made/mod.rs"]
mod made;

use made::Case;

/// A witness has no more elements.
const ELEMENTS_MAX: u8 = 8;
/// Kinds of outputs that are made.
const KINDS: u8 = 9;

/// One spend.
///
/// # Panics
/// If the two do not say the same.
pub fn spend(data: &[u8]) {
    if case(data).agreed() == Err(ScriptError::InvalidAltstackOperation) {
        canary("a script takes from the alternative stack what is not there");
    }
}

fn case(data: &[u8]) -> Case {
    match data.split_first() {
        Some((first, rest)) if first % 2 == 1 => as_they_are(Script(rest)),
        Some((_, rest)) => Case::of(rest),
        None => Case::of(data),
    }
}

fn as_they_are(mut script: Script<'_>) -> Case {
    let flags = Flags::from_bits(script.long() as u32).supported();
    let [script_sig, script_pubkey] = [script.blob(), script.blob()].map(|bytes| ScriptBuf::from_bytes(bytes.to_vec()));
    let elements: Vec<&[u8]> = (0..script.byte() % ELEMENTS_MAX).map(|_| script.blob()).collect();
    let given = consensus::deserialize(script.0).ok().filter(|given: &Transaction| !given.input.is_empty());
    let mut tx = given.unwrap_or_else(|| Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn::default()],
        output: vec![TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() }],
    });
    tx.input[0].script_sig = script_sig;
    tx.input[0].witness = Witness::from_slice(&elements);
    let spent = vec![TxOut { value: Amount::from_sat(1), script_pubkey }; tx.input.len()];
    Case { tx, spent, input: 0, flags }
}

/// A spend of each kind that passes, and one as it is.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let passing = (0..KINDS).filter_map(|kind| {
        let mut state = u64::from(kind);
        let made = std::iter::repeat_with(move || {
            let random = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            });
            [0, kind].into_iter().chain(random.take(200)).collect::<Vec<u8>>()
        });
        made.take(1_000).find(|bytes| case(bytes).agreed().is_ok())
    });
    let flags = u64::from(Flags::ALL.bits()).to_be_bytes();
    let plain = Lines::new(1).raw(&flags).blob(&[0x51]).blob(&[0x51, 0x87]).raw(&[0]).0;
    passing.chain([plain]).collect()
}
