//! What a witness has to bring, by version (BIP 141, BIP 341, BIP 342).
//!
//! Upon a program under
//! - version 0, of 20 bytes: two elements, a signature and a key with that hash (BIP 141, P2WPKH);
//! - version 0, of 32 bytes: the last element is a script with that SHA-256, and runs on the others (P2WSH). Other lengths fail;
//! - version 1, of 32 bytes, not behind BIP 16's hash: taproot, where `TAPROOT` is set. A last element that begins with 0x50,
//!   behind another, is the annex, and signed. One element is a signature by the program as a key. More end with a script and a
//!   control block: the program must be the block's key, tweaked by the root of the tree in which the script is a leaf. A leaf
//!   of version 0xc0 runs as tapscript; other versions have no meaning yet, and let anything pass;
//! - anything else: no meaning yet; anything passes.
//!
//! A script of a witness must leave exactly one element, and it must be true. In a tapscript, an `OP_SUCCESSx` anywhere makes it
//! succeed, unread behind that. What has no meaning yet is refused where its flag says so, so that nodes do not relay it.

use bitcoin::hashes::{HashEngine, sha256};
use bitcoin::secp256k1::{Parity, Scalar, XOnlyPublicKey};
use bitcoin::{VarInt, Witness};

use super::hashing::{Engine, finish, put, put_counted, sha256, tagged};
use super::machine::{Context, Machine, Rules, Tap};
use super::opcode::{self, Reader};
use super::signature::secp;
use super::stack::Stack;
use super::{ELEMENT_BYTES_MAX, Flags, STACK_ELEMENTS_MAX, ScriptError, Spend};

/// The leaf version of tapscript.
const TAPSCRIPT: u8 = 0xc0;
/// A control block's version and key, before the path.
const CONTROL_BASE: usize = 33;
/// No leaf lies deeper.
const PATH_NODES_MAX: usize = 128;
/// A last element that begins so is the annex.
const ANNEX: u8 = 0x50;
/// What each signature may weigh, and what is given beyond the witness's own bytes.
pub(super) const SIGNATURE_WEIGHT: i64 = 50;
/// Version 1 with these two bytes is an output for anybody to spend, made to raise fees.
const ANCHOR: [u8; 2] = [0x4e, 0x73];

/// Decides about a program, `nested` if it was found behind BIP 16's hash.
pub(super) fn verify_program(
    witness: &Witness,
    (version, program): (u8, &[u8]),
    flags: Flags,
    spend: &Spend<'_>,
    nested: bool,
) -> Result<(), ScriptError> {
    let elements: Vec<&[u8]> = witness.iter().collect();
    match (version, <[u8; 32]>::try_from(program)) {
        (0, Ok(hash)) => {
            let Some((script, elements)) = elements.split_last() else {
                return Err(ScriptError::WitnessProgramWitnessEmpty);
            };
            if sha256(script) != hash {
                return Err(ScriptError::WitnessProgramMismatch);
            }
            run(elements, script, Context { flags, rules: Rules::WitnessV0, spend })
        }
        (0, Err(_)) if program.len() == 20 => {
            if elements.len() != 2 {
                return Err(ScriptError::WitnessProgramMismatch);
            }
            let hash = opcode::push_of(program);
            let script =
                [&[opcode::DUP, opcode::HASH160], &hash[..], &[opcode::EQUALVERIFY, opcode::CHECKSIG]].concat();
            run(&elements, &script, Context { flags, rules: Rules::WitnessV0, spend })
        }
        (0, Err(_)) => Err(ScriptError::WitnessProgramWrongLength),
        (1, Ok(key)) if !nested => {
            if !flags.has(Flags::TAPROOT) {
                return Ok(());
            }
            verify_taproot(&elements, &key, budget(witness), flags, spend)
        }
        (1, Err(_)) if !nested && program == ANCHOR => Ok(()),
        _ if flags.has(Flags::DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM) => {
            Err(ScriptError::DiscourageUpgradableWitnessProgram)
        }
        _ => Ok(()),
    }
}

/// What a tapscript's signatures may weigh (BIP 342): the witness as it is on the wire, annex and all, and one more.
fn budget(witness: &Witness) -> i64 {
    i64::try_from(witness.size()).map_or(i64::MAX, |size| size.saturating_add(SIGNATURE_WEIGHT))
}

fn verify_taproot(
    elements: &[&[u8]],
    key: &[u8; 32],
    weight_left: i64,
    flags: Flags,
    spend: &Spend<'_>,
) -> Result<(), ScriptError> {
    let (elements, annex) = match elements {
        [rest @ .., annex] if !rest.is_empty() && annex.first() == Some(&ANNEX) => {
            let mut engine = Engine::default();
            put_counted(&mut engine, annex);
            (rest, Some(finish(engine)))
        }
        _ => (elements, None),
    };
    match elements {
        [] => Err(ScriptError::WitnessProgramWitnessEmpty),
        [signature] => super::machine::check_schnorr(spend, signature, key, annex, None),
        [elements @ .., script, control] => {
            let path = control.len().checked_sub(CONTROL_BASE).ok_or(ScriptError::TaprootWrongControlSize)?;
            if path % 32 != 0 || path / 32 > PATH_NODES_MAX {
                return Err(ScriptError::TaprootWrongControlSize);
            }
            let version = control[0] & 0xfe;
            let leaf = leaf_hash(version, script);
            if !is_committed(control, leaf, key) {
                return Err(ScriptError::WitnessProgramMismatch);
            }
            if version == TAPSCRIPT {
                let tap = Tap { annex, leaf, weight_left };
                return run_tapscript(elements, script, Context { flags, rules: Rules::Tapscript(tap), spend });
            }
            if flags.has(Flags::DISCOURAGE_UPGRADABLE_TAPROOT_VERSION) {
                return Err(ScriptError::DiscourageUpgradableTaprootVersion);
            }
            Ok(())
        }
    }
}

fn leaf_hash(version: u8, script: &[u8]) -> [u8; 32] {
    let mut engine = tagged("TapLeaf");
    engine.input(&[version]);
    put(&mut engine, &VarInt::from(script.len()));
    engine.input(script);
    finish(engine)
}

/// True if `program` is the control block's key, tweaked by the root above this leaf.
fn is_committed(control: &[u8], leaf: [u8; 32], program: &[u8; 32]) -> bool {
    let (base, path) = control.split_at(CONTROL_BASE);
    let branch = tagged("TapBranch");
    let root = path.chunks_exact(32).fold(leaf, |below, beside| {
        let mut engine: sha256::HashEngine = branch.clone();
        let (first, second) = if below[..] < *beside { (&below[..], beside) } else { (beside, &below[..]) };
        engine.input(first);
        engine.input(second);
        finish(engine)
    });
    let mut tweak = tagged("TapTweak");
    tweak.input(&base[1..]);
    tweak.input(&root);
    let (Ok(internal), Ok(output), Ok(tweak)) = (
        XOnlyPublicKey::from_slice(&base[1..]),
        XOnlyPublicKey::from_slice(program),
        Scalar::from_be_bytes(finish(tweak)),
    ) else {
        return false;
    };
    let parity = if base[0] & 1 == 0 { Parity::Even } else { Parity::Odd };
    internal.tweak_add_check(secp(), &output, parity, tweak)
}

fn run_tapscript(elements: &[&[u8]], script: &[u8], context: Context<'_>) -> Result<(), ScriptError> {
    let mut reader = Reader::new(script);
    while let Some(step) = reader.step() {
        let Ok(instruction) = step else { return Err(ScriptError::BadOpcode) };
        if opcode::is_success(instruction.opcode) {
            let discouraged = context.flags.has(Flags::DISCOURAGE_OP_SUCCESS);
            return if discouraged { Err(ScriptError::DiscourageOpSuccess) } else { Ok(()) };
        }
    }
    if elements.len() > STACK_ELEMENTS_MAX {
        return Err(ScriptError::StackSize);
    }
    run(elements, script, context)
}

fn run(elements: &[&[u8]], script: &[u8], context: Context<'_>) -> Result<(), ScriptError> {
    if elements.iter().any(|element| element.len() > ELEMENT_BYTES_MAX) {
        return Err(ScriptError::PushSize);
    }
    let mut stack = Stack::new(elements.iter().map(|element| element.to_vec()).collect());
    Machine::new(&mut stack, script, context).run()?;
    if stack.len() != 1 {
        return Err(ScriptError::CleanStack);
    }
    stack.ends_true()
}
