//! Who says whether a transaction's scripts hold: Bitcoin Core's own library, and our interpreter.
//!
//! - upon a transaction of up to [`LIBRARY_INPUTS_MAX`] inputs: the library decides. If it refuses, the interpreter says why;
//! - upon one of more: the interpreter decides, since the library would read and hash the whole transaction for each input, and
//!   the library looks at it afterwards ([`Audits`]);
//! - upon a disagreement of the two: nothing can be trusted from here on, and the node stops.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;

use bitcoin::block::Block;
use bitcoin::consensus::encode::serialize;
use bitcoin::{Transaction, TxOut};
use bitcoinconsensus::Utxo;

use super::{ChainError, TxUndo};
use crate::script::{Flags, ScriptError, SharedHashes};

/// The library decides on transactions of so many inputs.
pub const LIBRARY_INPUTS_MAX: usize = 10;
/// So many transactions wait for their audit; then one is done whenever one comes.
const AUDITS_MAX: usize = 256;

/// Runs tasks that do not depend on one another. Whoever drives the node may have threads for it.
pub trait Workers: Debug + Send + Sync {
    /// Calls `task` with each number below `tasks`, once, in any order, and returns when all are done.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// One after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneByOne;

impl Workers for OneByOne {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}

/// An input that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) input: usize,
    pub(crate) error: ScriptError,
}

fn outputs(undo: &TxUndo) -> Vec<TxOut> {
    undo.spent.iter().map(|coin| coin.out.clone()).collect()
}

fn by_library(bytes: &[u8], spent: &[TxOut], input: usize, flags: Flags) -> bool {
    let utxo = |output: &TxOut| Utxo {
        script_pubkey: output.script_pubkey.as_bytes().as_ptr(),
        script_pubkey_len: output.script_pubkey.len() as u32,
        value: output.value.to_sat().cast_signed(),
    };
    let utxos: Vec<Utxo> = spent.iter().map(utxo).collect();
    let (output, amount) = (&spent[input].script_pubkey, spent[input].value.to_sat());
    bitcoinconsensus::verify_with_flags(output.as_bytes(), amount, bytes, Some(&utxos), input, flags.bits()).is_ok()
}

fn disagreement(tx: &Transaction, input: usize, library: bool) -> ChainError {
    ChainError::Disagreement { txid: tx.compute_txid(), input, library, own: !library }
}

/// Do all inputs of a transaction unlock what they spend?
pub(crate) fn verify(tx: &Transaction, undo: &TxUndo, flags: Flags) -> Result<Result<(), Refused>, ChainError> {
    let spent = outputs(undo);
    let short = tx.input.len() <= LIBRARY_INPUTS_MAX;
    let bytes = if short { serialize(tx) } else { Vec::new() };
    if short && (0..tx.input.len()).all(|input| by_library(&bytes, &spent, input, flags)) {
        return Ok(Ok(()));
    }
    let hashes = SharedHashes::new(tx, &spent).expect("there is an output for each input");
    for input in 0..tx.input.len() {
        let spend = hashes.spend(input).expect("it is one of its inputs");
        if let Err(error) = spend.verify(flags) {
            let library = if short {
                by_library(&bytes, &spent, input, flags)
            } else {
                by_library(&serialize(tx), &spent, input, flags)
            };
            return if library { Err(disagreement(tx, input, true)) } else { Ok(Err(Refused { input, error })) };
        }
    }
    // The interpreter passes all of it: for a short one, the library refused something.
    if short { Err(disagreement(tx, 0, false)) } else { Ok(Ok(())) }
}

/// A transaction under audit.
#[derive(Debug)]
struct Audit {
    block: Arc<Block>,
    at: usize,
    spent: Vec<TxOut>,
    flags: Flags,
    /// Its bytes, once the first input is looked at, and the next input.
    bytes: Vec<u8>,
    next: usize,
}

/// What the interpreter alone passed, for the library to look at, an input at a time.
#[derive(Debug, Default)]
pub(super) struct Audits {
    waiting: VecDeque<Audit>,
    done: u64,
}

impl Audits {
    /// A transaction of a block passed.
    pub(super) fn add(&mut self, block: &Arc<Block>, at: usize, undo: &TxUndo, flags: Flags) -> Result<(), ChainError> {
        if block.txdata[at].input.len() <= LIBRARY_INPUTS_MAX {
            return Ok(());
        }
        let (block, spent) = (Arc::clone(block), outputs(undo));
        self.waiting.push_back(Audit { block, at, spent, flags, bytes: Vec::new(), next: 0 });
        while self.waiting.len() > AUDITS_MAX {
            self.step()?;
        }
        Ok(())
    }

    /// Audits one input. False if none waits.
    pub(super) fn step(&mut self) -> Result<bool, ChainError> {
        let Some(audit) = self.waiting.front_mut() else { return Ok(false) };
        let tx = &audit.block.txdata[audit.at];
        if audit.bytes.is_empty() {
            audit.bytes = serialize(tx);
        }
        if !by_library(&audit.bytes, &audit.spent, audit.next, audit.flags) {
            return Err(disagreement(tx, audit.next, false));
        }
        audit.next += 1;
        if audit.next == tx.input.len() {
            self.waiting.pop_front();
            self.done += 1;
        }
        Ok(true)
    }

    /// How many transactions were looked at, and how many wait.
    pub(super) fn counts(&self) -> (u64, usize) {
        (self.done, self.waiting.len())
    }
}
