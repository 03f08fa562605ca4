//! Opcodes that look at the transaction's times.
//!
//! - `OP_CHECKLOCKTIMEVERIFY` (BIP 65): the transaction's lock time is at or behind the number on the stack, of its kind (a
//!   height below 500,000,000, a time from there on), and in force, which a final sequence takes away.
//! - `OP_CHECKSEQUENCEVERIFY` (BIP 112): the same for the input's relative lock time (BIP 68), which a version of 2 or more
//!   brings into force.
//!
//! Both leave the number where it is, and do nothing where their flag is not set: they were `OP_NOP2` and `OP_NOP3`.

use super::super::number;
use super::{Flags, Machine, ScriptError};

/// Lock times below it are heights.
const TIMES_FROM: i64 = 500_000_000;
/// A sequence that takes the lock time's force.
const FINAL: u32 = u32::MAX;
/// A sequence with this bit is no relative lock time.
const DISABLED: i64 = 1 << 31;
/// A relative lock time with this bit counts in units of 512 seconds, otherwise in blocks.
const TIME: i64 = 1 << 22;
/// What of a sequence is the relative lock time.
const VALUE: i64 = 0xffff;

impl Machine<'_> {
    pub(super) fn check_lock_time(&mut self) -> Result<(), ScriptError> {
        if !self.has(Flags::CHECKLOCKTIMEVERIFY) {
            return Ok(());
        }
        let (asked, spend) = (self.lock_time()?, self.context.spend);
        let given = i64::from(spend.tx().lock_time.to_consensus_u32());
        let one_kind = (asked < TIMES_FROM) == (given < TIMES_FROM);
        let satisfied = one_kind && asked <= given && spend.sequence() != FINAL;
        if satisfied { Ok(()) } else { Err(ScriptError::UnsatisfiedLocktime) }
    }

    pub(super) fn check_sequence(&mut self) -> Result<(), ScriptError> {
        if !self.has(Flags::CHECKSEQUENCEVERIFY) {
            return Ok(());
        }
        let (asked, spend) = (self.lock_time()?, self.context.spend);
        if asked & DISABLED != 0 {
            return Ok(());
        }
        // The version is unsigned here.
        let in_force = spend.tx().version.0.cast_unsigned() >= 2;
        let (asked, given) = (asked & (TIME | VALUE), i64::from(spend.sequence()));
        let (disabled, given) = (given & DISABLED != 0, given & (TIME | VALUE));
        let one_kind = (asked & TIME) == (given & TIME);
        let satisfied = in_force && !disabled && one_kind && asked <= given;
        if satisfied { Ok(()) } else { Err(ScriptError::UnsatisfiedLocktime) }
    }

    fn lock_time(&self) -> Result<i64, ScriptError> {
        let minimal = self.has(Flags::MINIMALDATA);
        let asked = number::decode(self.stack.peek(0)?, number::LOCKTIME_BYTES_MAX, minimal)?;
        if asked < 0 { Err(ScriptError::NegativeLocktime) } else { Ok(asked) }
    }
}
