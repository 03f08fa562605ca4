//! The machine that runs one script on a stack.
//!
//! Upon each instruction, in this order:
//! - one that cannot be read fails; so does a push of more than [`ELEMENT_BYTES_MAX`];
//! - before tapscript, all but pushes are counted, those in branches that are not taken too, and may be
//!   [`OPERATIONS_MAX`];
//! - opcodes that were taken away fail even where they do not run;
//! - in a branch that is not taken, nothing runs but `OP_IF` to `OP_ENDIF`; `OP_VERIF` and `OP_VERNOTIF` lie between them and
//!   mean nothing, so that they always fail;
//! - an opcode without a meaning fails where it runs;
//! - both stacks together may then hold [`STACK_ELEMENTS_MAX`].
//!
//! At the end, every condition is closed. What the stack must look like is for the caller to say.
//!
//! Rules differ by what the script is: before witnesses, under version 0, or in a taproot tree, where no count limits the
//! operations but each signature takes from a budget, `OP_CHECKMULTISIG` is gone, and `OP_CHECKSIGADD` has come (BIP 342).
//!
//! Here is the loop, and what changes its way; `operations` has what works on the stack alone, `signatures` what looks at the
//! transaction's signatures, `locktime` what looks at its times.

mod locktime;
mod operations;
mod signatures;

use super::conditions::Conditions;
use super::opcode::{self as op, Instruction, Reader};
use super::stack::Stack;
use super::{ELEMENT_BYTES_MAX, Flags, OPERATIONS_MAX, SCRIPT_BYTES_MAX, STACK_ELEMENTS_MAX, ScriptError, Spend};
use super::{number, opcode};

pub(super) use signatures::check_schnorr;

/// No `OP_CODESEPARATOR` has run.
const NO_SEPARATOR: u32 = u32::MAX;

/// What kind of script runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rules {
    /// Before witnesses.
    Legacy,
    /// A script of witness version 0.
    WitnessV0,
    /// A leaf of a taproot tree.
    Tapscript(Tap),
}

/// What a tapscript knows of where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    /// The hash of the annex, if there is one.
    pub(super) annex: Option<[u8; 32]>,
    /// The hash of the leaf.
    pub(super) leaf: [u8; 32],
    /// What the signatures to come may still weigh.
    pub(super) weight_left: i64,
}

/// All that a script's outcome depends on, but for the script and the stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) flags: Flags,
    pub(super) rules: Rules,
    pub(super) spend: &'a Spend<'a>,
}

/// A script that runs.
pub(super) struct Machine<'a> {
    stack: &'a mut Stack,
    alternative: Stack,
    script: &'a [u8],
    context: Context<'a>,
    conditions: Conditions,
    /// Counted before tapscript.
    operations: usize,
    /// Where the last `OP_CODESEPARATOR` ended: signatures sign what follows.
    code_from: usize,
    /// At which instruction it stood.
    separator: u32,
}

impl<'a> Machine<'a> {
    pub(super) fn new(stack: &'a mut Stack, script: &'a [u8], context: Context<'a>) -> Self {
        Self {
            stack,
            alternative: Stack::default(),
            script,
            context,
            conditions: Conditions::default(),
            operations: 0,
            code_from: 0,
            separator: NO_SEPARATOR,
        }
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> Result<(), ScriptError> {
        if !self.is_tapscript() && self.script.len() > SCRIPT_BYTES_MAX {
            return Err(ScriptError::ScriptSize);
        }
        let mut reader = Reader::new(self.script);
        let mut position = 0u32;
        while let Some(step) = reader.step() {
            let instruction = step.map_err(|_| ScriptError::BadOpcode)?;
            self.step(instruction, reader.at(), position)?;
            if self.stack.len() + self.alternative.len() > STACK_ELEMENTS_MAX {
                return Err(ScriptError::StackSize);
            }
            position = position.saturating_add(1);
        }
        if self.conditions.is_empty() { Ok(()) } else { Err(ScriptError::UnbalancedConditional) }
    }

    fn step(&mut self, instruction: Instruction<'_>, behind: usize, position: u32) -> Result<(), ScriptError> {
        let Instruction { opcode, push } = instruction;
        if push.len() > ELEMENT_BYTES_MAX {
            return Err(ScriptError::PushSize);
        }
        if opcode > op::NUMBER_16 && !self.is_tapscript() {
            self.count(1)?;
        }
        if opcode::is_disabled(opcode) {
            return Err(ScriptError::DisabledOpcode);
        }
        if opcode == op::CODESEPARATOR && self.is_legacy() && self.has(Flags::CONST_SCRIPTCODE) {
            return Err(ScriptError::OpCodeSeparator);
        }
        let runs = self.conditions.all_true();
        match opcode {
            op::IF..=op::ENDIF => self.branch(opcode, runs),
            _ if !runs => Ok(()),
            0..=op::PUSHDATA4 => {
                if self.has(Flags::MINIMALDATA) && !opcode::is_minimal_push(opcode, push) {
                    return Err(ScriptError::MinimalData);
                }
                self.stack.push(push.to_vec());
                Ok(())
            }
            op::NEGATIVE_1 | op::NUMBER_1..=op::NUMBER_16 => {
                self.stack.push_number(i64::from(opcode) - i64::from(op::NUMBER_1 - 1));
                Ok(())
            }
            op::CODESEPARATOR => {
                (self.code_from, self.separator) = (behind, position);
                Ok(())
            }
            op::NOP => Ok(()),
            op::NOP_1 | op::NOP_4..=op::NOP_10 => {
                let discouraged = self.has(Flags::DISCOURAGE_UPGRADABLE_NOPS);
                if discouraged { Err(ScriptError::DiscourageUpgradableNops) } else { Ok(()) }
            }
            op::CHECKLOCKTIMEVERIFY => self.check_lock_time(),
            op::CHECKSEQUENCEVERIFY => self.check_sequence(),
            op::CHECKSIG => self.check_signature_operation(),
            op::CHECKSIGVERIFY => {
                self.check_signature_operation()?;
                self.verify_top(ScriptError::CheckSigVerify)
            }
            op::CHECKSIGADD => self.check_signature_add(),
            op::CHECKMULTISIG => self.check_multisig(),
            op::CHECKMULTISIGVERIFY => {
                self.check_multisig()?;
                self.verify_top(ScriptError::CheckMultisigVerify)
            }
            _ => self.operate(opcode),
        }
    }

    /// `OP_IF` to `OP_ENDIF`.
    fn branch(&mut self, opcode: u8, runs: bool) -> Result<(), ScriptError> {
        let balanced = match opcode {
            op::IF | op::NOTIF => {
                let value = runs && self.condition()? == (opcode == op::IF);
                self.conditions.open(value);
                true
            }
            op::ELSE => self.conditions.turn(),
            op::ENDIF => self.conditions.close(),
            _ => return Err(ScriptError::BadOpcode),
        };
        if balanced { Ok(()) } else { Err(ScriptError::UnbalancedConditional) }
    }

    /// Takes what a condition asks.
    fn condition(&mut self) -> Result<bool, ScriptError> {
        let element = self.stack.pop()?;
        let minimal = matches!(element[..], [] | [1]);
        match self.context.rules {
            Rules::Tapscript(_) if !minimal => Err(ScriptError::TapscriptMinimalIf),
            Rules::WitnessV0 if !minimal && self.has(Flags::MINIMALIF) => Err(ScriptError::MinimalIf),
            _ => Ok(number::is_true(&element)),
        }
    }

    /// Takes the top off, and fails unless it is true.
    fn verify_top(&mut self, otherwise: ScriptError) -> Result<(), ScriptError> {
        if number::is_true(&self.stack.pop()?) { Ok(()) } else { Err(otherwise) }
    }

    fn count(&mut self, operations: usize) -> Result<(), ScriptError> {
        self.operations += operations;
        if self.operations > OPERATIONS_MAX { Err(ScriptError::OpCount) } else { Ok(()) }
    }

    /// The number at this place of the stack.
    fn number(&self, place: usize) -> Result<i64, ScriptError> {
        number::decode(self.stack.peek(place)?, number::BYTES_MAX, self.has(Flags::MINIMALDATA))
    }

    fn has(&self, flags: Flags) -> bool {
        self.context.flags.has(flags)
    }

    fn is_legacy(&self) -> bool {
        matches!(self.context.rules, Rules::Legacy)
    }

    fn is_tapscript(&self) -> bool {
        matches!(self.context.rules, Rules::Tapscript(_))
    }
}
