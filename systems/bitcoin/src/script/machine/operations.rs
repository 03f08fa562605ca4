//! Opcodes that work on the stack alone: order, numbers, hashes.
//!
//! Numbers have four bytes and a sign at the most, so that no sum of two overflows.

use bitcoin::hashes::{Hash, hash160, ripemd160, sha1, sha256, sha256d};

use super::super::opcode as op;
use super::{Machine, ScriptError};

impl Machine<'_> {
    /// Runs one of them; another has no meaning.
    pub(super) fn operate(&mut self, opcode: u8) -> Result<(), ScriptError> {
        match opcode {
            op::VERIFY => self.verify_top(ScriptError::Verify),
            op::RETURN => Err(ScriptError::OpReturn),
            op::TOALTSTACK..=op::TUCK => self.order(opcode),
            op::SIZE => {
                let size = self.stack.peek(0)?.len();
                // An element has 520 bytes at the most.
                self.stack.push_number(size as i64);
                Ok(())
            }
            op::EQUAL | op::EQUALVERIFY => {
                let equal = self.stack.peek(0)? == self.stack.peek(1)?;
                self.stack.drop_top(2)?;
                self.stack.push_bool(equal);
                if opcode == op::EQUALVERIFY { self.verify_top(ScriptError::EqualVerify) } else { Ok(()) }
            }
            op::ADD_1 | op::SUB_1 | op::NEGATE..=op::NOT_EQUAL_0 => self.count_with_one(opcode),
            op::ADD | op::SUB | op::BOOLAND..=op::MAX => self.count_with_two(opcode),
            op::WITHIN => {
                let (value, least, beyond) = (self.number(2)?, self.number(1)?, self.number(0)?);
                self.stack.drop_top(3)?;
                self.stack.push_bool((least..beyond).contains(&value));
                Ok(())
            }
            op::RIPEMD160..=op::HASH256 => self.hash(opcode),
            _ => Err(ScriptError::BadOpcode),
        }
    }

    fn order(&mut self, opcode: u8) -> Result<(), ScriptError> {
        let stack = &mut *self.stack;
        match opcode {
            op::TOALTSTACK => self.alternative.push(stack.pop()?),
            op::FROMALTSTACK => {
                stack.push(self.alternative.pop().map_err(|_| ScriptError::InvalidAltstackOperation)?);
            }
            op::DROP_2 => stack.drop_top(2)?,
            op::DUP_2 => stack.copy(1, 2)?,
            op::DUP_3 => stack.copy(2, 3)?,
            op::OVER_2 => stack.copy(3, 2)?,
            op::ROT_2 => stack.raise(5, 2)?,
            op::SWAP_2 => stack.raise(3, 2)?,
            op::IFDUP => {
                if super::number::is_true(stack.peek(0)?) {
                    stack.copy(0, 1)?;
                }
            }
            // A stack has 1,000 elements at the most.
            op::DEPTH => stack.push_number(stack.len() as i64),
            op::DROP => stack.drop_top(1)?,
            op::DUP => stack.copy(0, 1)?,
            op::NIP => drop(stack.remove(1)?),
            op::OVER => stack.copy(1, 1)?,
            op::PICK | op::ROLL => return self.pick_or_roll(opcode),
            op::ROT => stack.raise(2, 1)?,
            op::SWAP => stack.raise(1, 1)?,
            op::TUCK => stack.tuck()?,
            _ => return Err(ScriptError::BadOpcode),
        }
        Ok(())
    }

    fn pick_or_roll(&mut self, opcode: u8) -> Result<(), ScriptError> {
        self.stack.need(2)?;
        let place = self.number(0)?;
        self.stack.drop_top(1)?;
        let place = usize::try_from(place).map_err(|_| ScriptError::InvalidStackOperation)?;
        if opcode == op::PICK { self.stack.copy(place, 1) } else { self.stack.raise(place, 1) }
    }

    fn count_with_one(&mut self, opcode: u8) -> Result<(), ScriptError> {
        let value = self.number(0)?;
        self.stack.drop_top(1)?;
        self.stack.push_number(match opcode {
            op::ADD_1 => value + 1,
            op::SUB_1 => value - 1,
            op::NEGATE => -value,
            op::ABS => value.abs(),
            op::NOT => i64::from(value == 0),
            _ => i64::from(value != 0),
        });
        Ok(())
    }

    fn count_with_two(&mut self, opcode: u8) -> Result<(), ScriptError> {
        self.stack.need(2)?;
        let (left, right) = (self.number(1)?, self.number(0)?);
        self.stack.drop_top(2)?;
        self.stack.push_number(match opcode {
            op::ADD => left + right,
            op::SUB => left - right,
            op::BOOLAND => i64::from(left != 0 && right != 0),
            op::BOOLOR => i64::from(left != 0 || right != 0),
            op::NUMEQUAL | op::NUMEQUALVERIFY => i64::from(left == right),
            op::NUMNOTEQUAL => i64::from(left != right),
            op::LESSTHAN => i64::from(left < right),
            op::GREATERTHAN => i64::from(left > right),
            op::LESSTHANOREQUAL => i64::from(left <= right),
            op::GREATERTHANOREQUAL => i64::from(left >= right),
            op::MIN => left.min(right),
            _ => left.max(right),
        });
        if opcode == op::NUMEQUALVERIFY { self.verify_top(ScriptError::NumEqualVerify) } else { Ok(()) }
    }

    fn hash(&mut self, opcode: u8) -> Result<(), ScriptError> {
        let element = self.stack.pop()?;
        self.stack.push(match opcode {
            op::RIPEMD160 => ripemd160::Hash::hash(&element).to_byte_array().to_vec(),
            op::SHA1 => sha1::Hash::hash(&element).to_byte_array().to_vec(),
            op::SHA256 => sha256::Hash::hash(&element).to_byte_array().to_vec(),
            op::HASH160 => hash160::Hash::hash(&element).to_byte_array().to_vec(),
            _ => sha256d::Hash::hash(&element).to_byte_array().to_vec(),
        });
        Ok(())
    }
}
