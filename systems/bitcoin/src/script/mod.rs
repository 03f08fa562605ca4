//! Script: may this input spend that output?
//!
//! Whoever answers differently from the rest of the network, in either direction, splits from it. So this follows the nodes'
//! behaviour where it differs from what anybody would write down, and is compared with theirs by their own vectors and by
//! random scripts.
//!
//! [`verify`] upon an input:
//! - runs the script of the input, then the script of the output on the stack that the first left; the stack must end with
//!   something true (BIP 16 calls that the old rule);
//! - upon an output of the form `HASH160 <20 bytes> EQUAL`, where `P2SH` is set: the input's script must only push, and its
//!   last element is a script that runs on the rest (BIP 16);
//! - upon an output, or a script found by the rule above, that is a version and a program, where `WITNESS` is set: the input's
//!   script is otherwise empty, and the witness decides (BIP 141; `witness`);
//! - upon `CLEANSTACK`: one element is left and no more (BIP 62's rule, policy outside of witnesses);
//! - upon a witness that no rule asked for: refuses it (BIP 141), lest one is added by a stranger.
//!
//! Each rule that came by a soft fork, or is a policy of relaying nodes alone, is a [flag](Flags). What every rule is stands
//! where it is: `machine` runs opcodes, `signature` says what a signature and a key may look like, `sighash` what is
//! signed, `witness` what versions and taproot's trees mean.
//!
//! Deliberately absent: which flags hold at which height, standardness of templates, the count of signature operations of a
//! block, and a cache of signatures that were found good.

mod conditions;
mod error;
mod flags;
mod hashing;
mod machine;
mod number;
pub(crate) mod opcode;
mod sighash;
mod signature;
mod stack;
mod witness;

pub use error::ScriptError;
pub use flags::Flags;
pub use sighash::{Leaf, SharedHashes, Spend};

use bitcoin::{Script, Witness};

use machine::{Context, Machine, Rules};
use stack::Stack;

/// No element of a stack is longer (bytes).
pub const ELEMENT_BYTES_MAX: usize = 520;
/// No script before tapscript is longer (bytes).
pub const SCRIPT_BYTES_MAX: usize = 10_000;
/// No script before tapscript has more operations above pushes.
pub const OPERATIONS_MAX: usize = 201;
/// Stack and alternative stack never hold more elements together.
pub const STACK_ELEMENTS_MAX: usize = 1_000;
/// No `OP_CHECKMULTISIG` looks at more keys.
pub const MULTISIG_KEYS_MAX: usize = 20;

/// Decides whether these two scripts and this witness allow the spend.
///
/// Flags that rest on others count only where those are set: `WITNESS` and `TAPROOT` on `P2SH`, `CLEANSTACK` on `WITNESS`.
///
/// # Errors
/// The first rule that is broken, in the order in which the network's nodes look at them.
pub fn verify(
    script_sig: &Script,
    script_pubkey: &Script,
    witness: &Witness,
    flags: Flags,
    spend: &Spend<'_>,
) -> Result<(), ScriptError> {
    let flags = flags.supported();
    let (unlocking, locking) = (script_sig.as_bytes(), script_pubkey.as_bytes());
    if flags.has(Flags::SIGPUSHONLY) && !opcode::is_push_only(unlocking) {
        return Err(ScriptError::SigPushOnly);
    }
    let mut stack = Stack::default();
    run(&mut stack, unlocking, flags, spend)?;
    let pushed = (flags.has(Flags::P2SH) && opcode::is_pay_to_script_hash(locking)).then(|| stack.clone());
    run(&mut stack, locking, flags, spend)?;
    stack.ends_true()?;

    let mut found_program = false;
    if flags.has(Flags::WITNESS)
        && let Some(program) = opcode::witness_program(locking)
    {
        found_program = true;
        if !unlocking.is_empty() {
            return Err(ScriptError::WitnessMalleated);
        }
        witness::verify_program(witness, program, flags, spend, false)?;
        stack.keep_one();
    }
    if let Some(mut pushed) = pushed {
        if !opcode::is_push_only(unlocking) {
            return Err(ScriptError::SigPushOnly);
        }
        // Its hash was found equal just now, so it is there.
        let redeem = pushed.pop().map_err(|_| ScriptError::EvalFalse)?;
        stack = pushed;
        run(&mut stack, &redeem, flags, spend)?;
        stack.ends_true()?;
        if flags.has(Flags::WITNESS)
            && let Some(program) = opcode::witness_program(&redeem)
        {
            found_program = true;
            if unlocking != opcode::push_of(&redeem) {
                return Err(ScriptError::WitnessMalleatedP2sh);
            }
            witness::verify_program(witness, program, flags, spend, true)?;
            stack.keep_one();
        }
    }
    if flags.has(Flags::CLEANSTACK) && stack.len() != 1 {
        return Err(ScriptError::CleanStack);
    }
    if flags.has(Flags::WITNESS) && !found_program && !witness.is_empty() {
        return Err(ScriptError::WitnessUnexpected);
    }
    Ok(())
}

/// True for bytes that are formed as a signature with a hash type that has a meaning.
pub(crate) fn is_like_signature(bytes: &[u8]) -> bool {
    signature::check_signature(bytes, Flags::STRICTENC).is_ok()
}

/// Runs a script by the rules from before witnesses.
fn run(stack: &mut Stack, script: &[u8], flags: Flags, spend: &Spend<'_>) -> Result<(), ScriptError> {
    Machine::new(stack, script, Context { flags, rules: Rules::Legacy, spend }).run()
}
