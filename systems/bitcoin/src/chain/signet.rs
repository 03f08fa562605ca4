//! Blocks that are signed (BIP 325).
//!
//! The solution stands in the output that commits to witnesses, behind a mark. It spends a made-up output that the network's
//! challenge guards, in a made-up transaction that commits to the block without the solution.

use bitcoin::absolute::LockTime;
use bitcoin::block::Block;
use bitcoin::consensus::encode::{Decodable as _, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::script::{Builder, Instruction, PushBytesBuf};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use super::{check, merkle};
use crate::script::{Flags, SharedHashes};

const MARK: [u8; 4] = [0xec, 0xc7, 0xda, 0xa2];

/// A script without what stands behind the mark, and that.
fn without_solution(script: &Script) -> (ScriptBuf, Option<Vec<u8>>) {
    let (mut kept, mut solution) = (ScriptBuf::new(), None);
    for instruction in script.instructions() {
        match instruction {
            Ok(Instruction::PushBytes(push)) if !push.is_empty() => {
                let mut bytes = push.as_bytes().to_vec();
                if solution.is_none() && bytes.len() > MARK.len() && bytes.starts_with(&MARK) {
                    solution = Some(bytes.split_off(MARK.len()));
                }
                kept.push_slice(PushBytesBuf::try_from(bytes).expect("it was a push"));
            }
            Ok(Instruction::PushBytes(_)) => kept.push_opcode(bitcoin::opcodes::OP_0),
            Ok(Instruction::Op(opcode)) => kept.push_opcode(opcode),
            Err(_) => break,
        }
    }
    if solution.is_some() { (kept, solution) } else { (script.to_owned(), None) }
}

fn spends(outpoint: OutPoint, script_sig: ScriptBuf, witness: Witness, output: TxOut) -> Transaction {
    let input = TxIn { previous_output: outpoint, script_sig, sequence: Sequence::ZERO, witness };
    Transaction { version: Version(0), lock_time: LockTime::ZERO, input: vec![input], output: vec![output] }
}

/// The solution's two parts; `None` if it is none.
fn parse(solution: &[u8]) -> Option<(ScriptBuf, Witness)> {
    let mut rest = solution;
    let script = ScriptBuf::consensus_decode(&mut rest).ok()?;
    let witness = Witness::consensus_decode(&mut rest).ok()?;
    rest.is_empty().then_some((script, witness))
}

/// What is signed: the output that is spent, and the transaction that spends it.
fn to_sign(block: &Block, challenge: &Script) -> Option<(TxOut, Transaction)> {
    let at = check::witness_commitment(block)?;
    let mut coinbase = block.txdata[0].clone();
    let (kept, solution) = without_solution(&coinbase.output[at].script_pubkey);
    coinbase.output[at].script_pubkey = kept;
    let (script_sig, witness) = solution.map_or(Some(Default::default()), |solution| parse(&solution))?;
    let rest = block.txdata.iter().skip(1).map(|tx| tx.compute_txid().to_byte_array());
    let leaves = std::iter::once(coinbase.compute_txid().to_byte_array()).chain(rest);
    let (root, _) = merkle::root(leaves.collect());
    let header = &block.header;
    let mut data = serialize(&header.version);
    data.extend_from_slice(header.prev_blockhash.as_byte_array());
    data.extend_from_slice(&root);
    data.extend_from_slice(&header.time.to_le_bytes());
    let data = PushBytesBuf::try_from(data).expect("72 bytes can be pushed");
    let commits = Builder::new().push_int(0).push_slice(data).into_script();
    let guarded = TxOut { value: Amount::ZERO, script_pubkey: challenge.to_owned() };
    let funding = spends(OutPoint::null(), commits, Witness::new(), guarded.clone());
    let nothing = TxOut { value: Amount::ZERO, script_pubkey: Builder::new().push_opcode(OP_RETURN).into_script() };
    Some((guarded, spends(OutPoint::new(funding.compute_txid(), 0), script_sig, witness, nothing)))
}

/// Does the block's solution meet the challenge?
pub(super) fn is_signed(block: &Block, challenge: &Script) -> bool {
    let Some((guarded, tx)) = to_sign(block, challenge) else { return false };
    let spent = [guarded];
    let Some(hashes) = SharedHashes::new(&tx, &spent) else { return false };
    let flags = Flags::P2SH | Flags::WITNESS | Flags::DERSIG | Flags::NULLDUMMY;
    hashes.spend(0).is_some_and(|spend| spend.verify(flags).is_ok())
}
