//! What a signature signs.
//!
//! Three ways, by the kind of the output:
//! - before witnesses: the transaction, with the script code in the place of the input's script, and all other inputs' scripts
//!   empty. `OP_CODESEPARATOR`s are left out of the script code. Upon `SIGHASH_SINGLE` with no output at the input's place,
//!   what is signed is the number one: a bug of the first node, and a rule ever since;
//! - BIP 143, witness version 0: hashes of all outpoints, sequences and outputs, and the amount;
//! - BIP 341, taproot: those and hashes of all spent amounts and scripts, the annex, and, in a script, the leaf and the last
//!   `OP_CODESEPARATOR` (BIP 342).
//!
//! The last byte of a signature says what of it: its lowest bits all outputs, none, or the one at the input's place; 0x80 this
//! input alone.
//!
//! [`SharedHashes`] has all that does not differ between inputs, so that the two later ways cost the same for each input. The
//! first way costs the transaction's length for each, and no way around that is known: blocks of that kind take long
//! everywhere.
//!
//! Deliberately absent: signing.

use bitcoin::hashes::HashEngine;
use bitcoin::{Transaction, TxOut, VarInt};

use super::hashing::{Engine, finish, finish_twice, put, put_counted, sha256, tagged};
use super::opcode::{self, Reader};
use super::{Flags, ScriptError};

const NONE: u8 = 2;
const SINGLE: u8 = 3;
const ANYONE_CAN_PAY: u8 = 0x80;
/// An outpoint's bytes.
const OUTPOINT: usize = 36;
/// An outpoint, an empty script and a sequence.
const BLANK_INPUT: usize = OUTPOINT + 1 + 4;

/// A transaction with the outputs that it spends, and the hashes that its inputs share.
#[derive(Debug)]
pub struct SharedHashes<'a> {
    tx: &'a Transaction,
    spent: &'a [TxOut],
    prevouts: [u8; 32],
    sequences: [u8; 32],
    outputs: [u8; 32],
    amounts: [u8; 32],
    scripts: [u8; 32],
    /// All inputs without their scripts, and all outputs, as the wire has them.
    blank_inputs: Vec<u8>,
    output_bytes: Vec<u8>,
}

impl<'a> SharedHashes<'a> {
    /// Hashes what is common. `spent` are the outputs that the inputs name, in the inputs' order; nothing if it is not one
    /// for each.
    #[must_use]
    pub fn new(tx: &'a Transaction, spent: &'a [TxOut]) -> Option<Self> {
        if spent.len() != tx.input.len() {
            return None;
        }
        let [mut prevouts, mut sequences, mut amounts, mut scripts] = [(); 4].map(|()| Engine::default());
        let mut blank_inputs = Vec::with_capacity(tx.input.len() * BLANK_INPUT);
        for input in &tx.input {
            put(&mut prevouts, &input.previous_output);
            put(&mut sequences, &input.sequence);
            put(&mut blank_inputs, &input.previous_output);
            blank_inputs.push(0);
            put(&mut blank_inputs, &input.sequence);
        }
        for output in spent {
            put(&mut amounts, &output.value);
            put(&mut scripts, &output.script_pubkey);
        }
        let mut output_bytes = Vec::new();
        tx.output.iter().for_each(|output| put(&mut output_bytes, output));
        Some(Self {
            tx,
            spent,
            prevouts: finish(prevouts),
            sequences: finish(sequences),
            outputs: sha256(&output_bytes),
            amounts: finish(amounts),
            scripts: finish(scripts),
            blank_inputs,
            output_bytes,
        })
    }

    /// One input of it.
    #[must_use]
    pub fn spend(&'a self, input: usize) -> Option<Spend<'a>> {
        (input < self.tx.input.len()).then_some(Spend { shared: self, input })
    }
}

/// The script of a taproot tree that runs, for [`Spend::taproot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The tagged hash of its version and its script.
    pub hash: [u8; 32],
    /// At which opcode the last `OP_CODESEPARATOR` ran; all bits set if none did.
    pub code_separator: u32,
}

/// An input that spends an output.
#[derive(Clone, Copy, Debug)]
pub struct Spend<'a> {
    shared: &'a SharedHashes<'a>,
    input: usize,
}

impl<'a> Spend<'a> {
    /// The transaction.
    #[must_use]
    pub fn tx(&self) -> &'a Transaction {
        self.shared.tx
    }

    /// The input's sequence.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.tx().input[self.input].sequence.to_consensus_u32()
    }

    /// Decides whether the input may spend its output ([`verify`](super::verify)).
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn verify(&self, flags: Flags) -> Result<(), ScriptError> {
        let (input, spent) = (&self.tx().input[self.input], &self.shared.spent[self.input]);
        super::verify(&input.script_sig, &spent.script_pubkey, &input.witness, flags, self)
    }

    /// What is signed before witnesses. The highest bits of `hash_type` are signed, and mean nothing.
    #[must_use]
    pub fn legacy(&self, script_code: &[u8], hash_type: u32) -> [u8; 32] {
        let (tx, at) = (self.tx(), self.input);
        let (kind, alone) = (hash_type as u8 & 0x1f, hash_type as u8 & ANYONE_CAN_PAY != 0);
        if kind == SINGLE && at >= tx.output.len() {
            let mut one = [0; 32];
            one[0] = 1;
            return one;
        }
        let blank = &self.shared.blank_inputs;
        let own = &blank[at * BLANK_INPUT..(at + 1) * BLANK_INPUT];
        let mut engine = Engine::default();
        put(&mut engine, &tx.version);
        put(&mut engine, &VarInt::from(if alone { 1 } else { tx.input.len() }));
        let others = |engine: &mut Engine, others: &[u8]| match kind {
            _ if alone => {}
            // Others may still say when.
            NONE | SINGLE => {
                let each = others.chunks_exact(BLANK_INPUT);
                each.for_each(|other| [&other[..=OUTPOINT], &[0; 4]].iter().for_each(|part| engine.input(part)));
            }
            _ => engine.input(others),
        };
        others(&mut engine, &blank[..at * BLANK_INPUT]);
        engine.input(&own[..OUTPOINT]);
        put_script_code(&mut engine, script_code);
        engine.input(&own[OUTPOINT + 1..]);
        others(&mut engine, &blank[(at + 1) * BLANK_INPUT..]);
        match kind {
            NONE => put(&mut engine, &VarInt(0)),
            SINGLE => {
                put(&mut engine, &VarInt::from(at + 1));
                (0..at).for_each(|_| put(&mut engine, &TxOut::NULL));
                put(&mut engine, &tx.output[at]);
            }
            _ => {
                put(&mut engine, &VarInt::from(tx.output.len()));
                engine.input(&self.shared.output_bytes);
            }
        }
        put(&mut engine, &tx.lock_time);
        put(&mut engine, &hash_type);
        finish_twice(engine)
    }

    /// What is signed under witness version 0 (BIP 143).
    #[must_use]
    pub fn witness_v0(&self, script_code: &[u8], hash_type: u32) -> [u8; 32] {
        let (tx, shared) = (self.tx(), self.shared);
        let (kind, alone) = (hash_type as u8 & 0x1f, hash_type as u8 & ANYONE_CAN_PAY != 0);
        let (single, all) = (kind == SINGLE, kind != SINGLE && kind != NONE);
        let or_nothing = |wanted: bool, hash: &[u8; 32]| if wanted { sha256(hash) } else { [0; 32] };
        let mut engine = Engine::default();
        put(&mut engine, &tx.version);
        engine.input(&or_nothing(!alone, &shared.prevouts));
        engine.input(&or_nothing(!alone && all, &shared.sequences));
        put(&mut engine, &tx.input[self.input].previous_output);
        put_counted(&mut engine, script_code);
        put(&mut engine, &shared.spent[self.input].value);
        put(&mut engine, &tx.input[self.input].sequence);
        match tx.output.get(self.input) {
            Some(own) if single => engine.input(&sha256(&hash_of_output(own))),
            _ => engine.input(&or_nothing(all, &shared.outputs)),
        }
        put(&mut engine, &tx.lock_time);
        put(&mut engine, &hash_type);
        finish_twice(engine)
    }

    /// What is signed under taproot (BIP 341, BIP 342): `annex` is the hash of the annex, `leaf` the script that runs, if one
    /// does. Nothing if the hash type means nothing, or asks for an output that is not there.
    #[must_use]
    pub fn taproot(&self, hash_type: u8, annex: Option<[u8; 32]>, leaf: Option<Leaf>) -> Option<[u8; 32]> {
        let (tx, shared) = (self.tx(), self.shared);
        if !matches!(hash_type, 0..=3 | 0x81..=0x83) {
            return None;
        }
        let (kind, alone) = (hash_type & 3, hash_type & ANYONE_CAN_PAY != 0);
        let mut engine = tagged("TapSighash");
        // The epoch: another would be another way.
        engine.input(&[0, hash_type]);
        put(&mut engine, &tx.version);
        put(&mut engine, &tx.lock_time);
        if !alone {
            for hash in [&shared.prevouts, &shared.amounts, &shared.scripts, &shared.sequences] {
                engine.input(hash);
            }
        }
        if kind != NONE && kind != SINGLE {
            engine.input(&shared.outputs);
        }
        engine.input(&[u8::from(leaf.is_some()) * 2 + u8::from(annex.is_some())]);
        if alone {
            put(&mut engine, &tx.input[self.input].previous_output);
            put(&mut engine, &shared.spent[self.input]);
            put(&mut engine, &tx.input[self.input].sequence);
        } else {
            put(&mut engine, &u32::try_from(self.input).ok()?);
        }
        annex.iter().for_each(|hash| engine.input(hash));
        if kind == SINGLE {
            engine.input(&hash_of_output(tx.output.get(self.input)?));
        }
        if let Some(leaf) = leaf {
            engine.input(&leaf.hash);
            // The version of keys, which another may have one day.
            engine.input(&[0]);
            put(&mut engine, &leaf.code_separator);
        }
        Some(finish(engine))
    }
}

fn hash_of_output(output: &TxOut) -> [u8; 32] {
    let mut engine = Engine::default();
    put(&mut engine, output);
    finish(engine)
}

/// A script without its `OP_CODESEPARATOR`s.
///
/// Of a script that cannot be read to its end, the nodes write less than the count before it says. Such a script fails in any
/// case, but what fails first is as with them.
fn put_script_code(engine: &mut Engine, script: &[u8]) {
    let mut separators = Vec::new();
    let mut reader = Reader::new(script);
    while let Some(Ok(instruction)) = reader.step() {
        if instruction.opcode == opcode::CODESEPARATOR {
            separators.push(reader.at());
        }
    }
    put(engine, &VarInt::from(script.len() - separators.len()));
    let mut from = 0;
    for behind in separators {
        engine.input(&script[from..behind - 1]);
        from = behind;
    }
    engine.input(&script[from..reader.at()]);
}
