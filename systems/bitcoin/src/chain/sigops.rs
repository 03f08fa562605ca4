//! How many signatures a transaction may make others verify.
//!
//! - in scripts from before witnesses: each `CHECKSIG` is one, each `CHECKMULTISIG` twenty, whether they would run or not;
//! - in a script behind a hash, BIP 16: the same, but a `CHECKMULTISIG` behind a small number counts as that;
//! - in a witness, version 0: a key hash is one, a script counts as one behind a hash does. Taproot has a budget of its own.
//!
//! A block's bound is on the cost: those of the first two kinds count four times (BIP 141).
//!
//! Deliberately absent: the bounds.

use bitcoin::{Script, Transaction, TxOut, Witness};

use super::Coin;
use crate::script::opcode::{self, Reader};
use crate::script::{Flags, MULTISIG_KEYS_MAX};

/// What one outside of a witness costs.
pub const WITNESS_SCALE: i64 = 4;

/// Those of one script; `accurate` looks at the number before a `CHECKMULTISIG`.
#[must_use]
pub fn script_sigops(script: &[u8], accurate: bool) -> u32 {
    let (mut reader, mut count, mut last) = (Reader::new(script), 0, 0xff);
    // What cannot be read ends the script, and what was counted until there stays.
    while let Some(Ok(instruction)) = reader.step() {
        count += match instruction.opcode {
            opcode::CHECKSIG | opcode::CHECKSIGVERIFY => 1,
            opcode::CHECKMULTISIG | opcode::CHECKMULTISIGVERIFY => match last {
                opcode::NUMBER_1..=opcode::NUMBER_16 if accurate => u32::from(last - opcode::NUMBER_1 + 1),
                _ => MULTISIG_KEYS_MAX as u32,
            },
            _ => 0,
        };
        last = instruction.opcode;
    }
    count
}

/// What the input's script pushes last, if it only pushes and can be read.
#[must_use]
pub fn last_push(script_sig: &Script) -> Option<&[u8]> {
    let (mut reader, mut last) = (Reader::new(script_sig.as_bytes()), &[][..]);
    while let Some(step) = reader.step() {
        match step {
            Ok(instruction) if instruction.opcode <= opcode::NUMBER_16 => last = instruction.push,
            _ => return None,
        }
    }
    Some(last)
}

/// Those of all inputs' and outputs' own scripts, each `CHECKMULTISIG` as twenty.
#[must_use]
pub fn legacy_sigops(tx: &Transaction) -> u32 {
    let inputs: u32 = tx.input.iter().map(|input| script_sigops(input.script_sig.as_bytes(), false)).sum();
    let outputs: u32 = tx.output.iter().map(|output| script_sigops(output.script_pubkey.as_bytes(), false)).sum();
    inputs + outputs
}

/// Those of an input that spends this output, if the output is the hash of a script (BIP 16).
#[must_use]
pub fn p2sh_sigops(script_sig: &Script, spent: &TxOut) -> u32 {
    if !opcode::is_pay_to_script_hash(spent.script_pubkey.as_bytes()) {
        return 0;
    }
    last_push(script_sig).map_or(0, |script| script_sigops(script, true))
}

/// Those of an input's witness.
#[must_use]
pub fn witness_sigops(script_sig: &Script, spent: &Script, witness: &Witness) -> u32 {
    let of_program = |(version, program): (u8, &[u8])| match (version, program.len(), witness.last()) {
        (0, 20, _) => 1,
        (0, 32, Some(script)) => script_sigops(script, true),
        _ => 0,
    };
    let locking = spent.as_bytes();
    if let Some(program) = opcode::witness_program(locking) {
        return of_program(program);
    }
    if !opcode::is_pay_to_script_hash(locking) {
        return 0;
    }
    last_push(script_sig).and_then(opcode::witness_program).map_or(0, of_program)
}

/// The whole cost of a transaction that spends these coins, in its inputs' order. A coinbase has none: give no coins.
#[must_use]
pub fn transaction_sigop_cost(tx: &Transaction, coins: &[Coin], flags: Flags) -> i64 {
    let mut cost = i64::from(legacy_sigops(tx)) * WITNESS_SCALE;
    if tx.is_coinbase() {
        return cost;
    }
    assert_eq!(tx.input.len(), coins.len(), "one coin for each input");
    for (input, coin) in tx.input.iter().zip(coins) {
        if flags.has(Flags::P2SH) {
            cost += i64::from(p2sh_sigops(&input.script_sig, &coin.out)) * WITNESS_SCALE;
        }
        if flags.supported().has(Flags::WITNESS) {
            cost += i64::from(witness_sigops(&input.script_sig, &coin.out.script_pubkey, &input.witness));
        }
    }
    cost
}

#[cfg(test)]
mod tests {
    use bitcoin::{Amount, ScriptBuf};

    use super::*;

    fn hash_output() -> TxOut {
        let script = [&[opcode::HASH160, 20][..], &[7; 20], &[opcode::EQUAL]].concat();
        TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from(script) }
    }

    #[test]
    fn multisig_counts_by_the_number_before_it_where_that_is_looked_at() {
        let script = [0x53, opcode::CHECKMULTISIG, opcode::CHECKSIG, opcode::CHECKMULTISIGVERIFY];
        assert_eq!((script_sigops(&script, true), script_sigops(&script, false)), (3 + 1 + 20, 41));
        // A push that is cut short ends it.
        assert_eq!(script_sigops(&[opcode::CHECKSIG, 5, opcode::CHECKSIG], false), 1);
    }

    #[test]
    fn a_script_behind_a_hash_counts_for_whoever_spends_it() {
        let redeem = [0x52, opcode::CHECKMULTISIG];
        let script_sig = ScriptBuf::from(opcode::push_of(&redeem));
        assert_eq!(p2sh_sigops(&script_sig, &hash_output()), 2);
        assert_eq!(p2sh_sigops(Script::from_bytes(&[opcode::DUP, 1, opcode::CHECKSIG]), &hash_output()), 0);
        assert_eq!(p2sh_sigops(Script::from_bytes(&[1, opcode::CHECKSIG, 0x51]), &hash_output()), 0);
    }

    #[test]
    fn witnesses_of_version_0_count_once() {
        let witness = Witness::from_slice(&[vec![], vec![0x52, opcode::CHECKMULTISIG]]);
        let key = [&[0, 20][..], &[7; 20]].concat();
        let script = [&[0, 32][..], &[7; 32]].concat();
        let later = [&[0x51, 32][..], &[7; 32]].concat();
        let count = |locking: &[u8]| witness_sigops(Script::new(), Script::from_bytes(locking), &witness);
        assert_eq!((count(&key), count(&script), count(&later)), (1, 2, 0));
        let nested = ScriptBuf::from(opcode::push_of(&script));
        assert_eq!(witness_sigops(&nested, &hash_output().script_pubkey, &witness), 2);
        assert_eq!(witness_sigops(Script::new(), Script::from_bytes(&script), &Witness::new()), 0);
    }
}
