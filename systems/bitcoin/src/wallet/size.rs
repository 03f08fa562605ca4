//! How large a transaction will be once it is signed.

use bitcoin::{ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness, absolute, transaction};

use crate::script::SharedHashes;
use crate::session::rpc::descriptor::Known;
use crate::session::rpc::signing::{SigData, Signer};

/// What an input weighs, and whether it has a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InputWeight {
    /// With its witness, if it has one.
    pub(crate) weight: u64,
    pub(crate) witness: bool,
}

/// The weight of an input that spends this output. None if it is not known what unlocks it.
pub(crate) fn input_weight(out: &TxOut, known: &Known) -> Option<InputWeight> {
    let (script_sig, witness) = unlocking(out, known)?;
    let base = 32 + 4 + 4 + compact(script_sig.len()) + script_sig.len() as u64;
    let size = if witness.is_empty() { 0 } else { witness.size() as u64 };
    Some(InputWeight { weight: base * 4 + size, witness: !witness.is_empty() })
}

fn unlocking(out: &TxOut, known: &Known) -> Option<(ScriptBuf, Witness)> {
    let tx = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn { sequence: Sequence::MAX, ..TxIn::default() }],
        output: Vec::new(),
    };
    let spent = [out.clone()];
    let shared = SharedHashes::new(&tx, &spent)?;
    let mut data = SigData::default();
    Signer::new(known, &shared, 0, out, 0, true)?.pretending().produce(&mut data);
    data.complete.then_some((data.script_sig, data.witness))
}

fn compact(count: usize) -> u64 {
    match count {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        _ => 5,
    }
}

/// The weight of a transaction without its inputs: whether some input has a witness is known of `witness`.
pub(crate) fn frame_weight(outputs: &[TxOut], inputs: usize, witness: bool) -> u64 {
    let outputs_size: u64 = outputs.iter().map(|out| out.size() as u64).sum();
    let base = 4 + 4 + compact(inputs) + compact(outputs.len()) + outputs_size;
    base * 4 + if witness { 2 } else { 0 }
}
