//! Transactions and blocks from text and to text.
//!
//! A transaction without inputs looks like the beginning of one with witnesses. Both readings are tried, and the one that
//! makes sense is taken.

use bitcoin::consensus::encode::{Decodable, Encodable, deserialize, deserialize_partial, serialize};
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{Block, Script, Transaction, TxIn, TxOut, absolute, transaction};

use crate::script::{ELEMENT_BYTES_MAX, SCRIPT_BYTES_MAX};

/// No opcode above it has a meaning outside of tapscript.
const OPCODE_MAX: u8 = 0xb9;

/// True if some input has a witness.
pub(crate) fn has_witness(tx: &Transaction) -> bool {
    tx.input.iter().any(|input| !input.witness.is_empty())
}

/// A transaction of hexadecimal digits, with or without witnesses.
pub(crate) fn decode_transaction(hex: &str) -> Option<Transaction> {
    decode_either(hex, true, true)
}

/// The same, in one of both readings or in either.
pub(crate) fn decode_either(hex: &str, with_witness: bool, without_witness: bool) -> Option<Transaction> {
    let bytes = Vec::<u8>::from_hex(hex).ok()?;
    let full = if with_witness { deserialize::<Transaction>(&bytes).ok() } else { None };
    if full.as_ref().is_some_and(makes_sense) {
        return full;
    }
    let bare = if without_witness { decode_bare(&bytes) } else { None };
    if bare.as_ref().is_some_and(makes_sense) {
        return bare;
    }
    full.or(bare)
}

/// By the form that has no witnesses.
fn decode_bare(bytes: &[u8]) -> Option<Transaction> {
    let mut rest = bytes;
    let tx = Transaction {
        version: transaction::Version::consensus_decode(&mut rest).ok()?,
        input: Vec::<TxIn>::consensus_decode(&mut rest).ok()?,
        output: Vec::<TxOut>::consensus_decode(&mut rest).ok()?,
        lock_time: absolute::LockTime::consensus_decode(&mut rest).ok()?,
    };
    rest.is_empty().then_some(tx)
}

fn makes_sense(tx: &Transaction) -> bool {
    let plausible = |script: &Script| script.len() <= SCRIPT_BYTES_MAX && has_valid_ops(script);
    tx.is_coinbase()
        || (tx.input.iter().all(|input| plausible(&input.script_sig))
            && tx.output.iter().all(|output| plausible(&output.script_pubkey)))
}

/// True if the script can be read to its end, and has nothing in it that no rule ever allowed.
pub(crate) fn has_valid_ops(script: &Script) -> bool {
    script.instructions().all(|step| match step {
        Ok(bitcoin::script::Instruction::PushBytes(push)) => push.len() <= ELEMENT_BYTES_MAX,
        Ok(bitcoin::script::Instruction::Op(opcode)) => opcode.to_u8() <= OPCODE_MAX,
        Err(_) => false,
    })
}

/// A transaction's bytes.
pub(crate) fn encode(tx: &Transaction) -> Vec<u8> {
    if !tx.input.is_empty() {
        return serialize(tx);
    }
    let mut bytes = Vec::new();
    let written = "a vector takes all that is written to it";
    tx.version.consensus_encode(&mut bytes).expect(written);
    tx.input.consensus_encode(&mut bytes).expect(written);
    tx.output.consensus_encode(&mut bytes).expect(written);
    tx.lock_time.consensus_encode(&mut bytes).expect(written);
    bytes
}

/// The same in hexadecimal digits.
pub(crate) fn encode_hex(tx: &Transaction) -> String {
    encode(tx).to_lower_hex_string()
}

/// A block of hexadecimal digits; what follows it does not matter.
pub(crate) fn decode_block(hex: &str) -> Option<Block> {
    let bytes = Vec::<u8>::from_hex(hex).ok()?;
    deserialize_partial::<Block>(&bytes).ok().map(|(block, _)| block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_without_inputs_come_back() {
        let hex = "0200000000010000000000000000016a00000000";
        let tx = decode_transaction(hex).expect("a transaction");
        assert_eq!((tx.input.len(), tx.output.len()), (0, 1));
        assert_eq!(encode_hex(&tx), hex);
        assert_eq!(decode_either(hex, true, false), None);
    }

    #[test]
    fn what_is_none_is_refused() {
        for hex in ["", "00", "zz", "020000000001000000000000000001", "0200000000010000000000000000016a0000000000"] {
            assert_eq!(decode_transaction(hex), None, "{hex}");
            assert_eq!(decode_block(hex), None, "{hex}");
        }
    }
}
