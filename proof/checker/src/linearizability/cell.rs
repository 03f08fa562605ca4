//! One register, or one key: a cell that holds a value or nothing.
//!
//! - upon a read: the outcome is the value. Upon a write: the value is the argument.
//! - upon an append: the argument follows the text that is there; upon a delete: nothing is there.
//! - upon a compare-and-set: if the value is `from` it becomes `to`, and the outcome says whether it was.
//!
//! A key-value store is one cell per key ([`super::by_key`]).

use xxhash_rust::xxh3::xxh3_128;

use super::{Account, Model};
use crate::Value;

/// A cell with this value at first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// What it is called in explanations.
    pub name: String,
    /// What it holds before the history.
    pub initial: Value,
}

/// What may be asked of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CellOp {
    /// What is the value?
    Read,
    /// Let it be this.
    Write(Value),
    /// Let this follow.
    Append(Value),
    /// Let there be nothing.
    Delete,
    /// If it is the first, let it be the second.
    Cas(Value, Value),
}

/// What a cell answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CellOut {
    /// Done; of a compare-and-set: it was `from`.
    Done,
    /// The value.
    Read(Value),
    /// A compare-and-set that found something else.
    Mismatch,
}

impl Model for Cell {
    type State = Value;
    type Undo = Value;
    type Op = CellOp;
    type Out = CellOut;

    fn init(&self) -> Value {
        self.initial.clone()
    }

    fn step(&self, state: &mut Value, op: &CellOp, out: Option<&CellOut>) -> Option<Value> {
        let next = match (op, out) {
            (CellOp::Read, Some(CellOut::Read(seen))) if seen != state => return None,
            (CellOp::Read, _) => state.clone(),
            (CellOp::Write(value), _) => value.clone(),
            (CellOp::Append(value), _) => state.followed_by(value),
            (CellOp::Delete, _) => Value::Null,
            (CellOp::Cas(from, _), Some(CellOut::Done)) if from != state => return None,
            (CellOp::Cas(from, _), Some(CellOut::Mismatch)) if from == state => return None,
            (CellOp::Cas(from, to), _) => if from == state { to } else { &*state }.clone(),
        };
        Some(std::mem::replace(state, next))
    }

    fn undo(&self, state: &mut Value, undo: Value) {
        *state = undo;
    }

    fn fingerprint(&self, state: &Value) -> u128 {
        match state {
            Value::Null => 1,
            Value::Int(number) => xxh3_128(&number.to_le_bytes()),
            Value::Text(text) => xxh3_128(text.as_bytes()).rotate_left(1),
            Value::Json(text) => xxh3_128(text.as_bytes()).rotate_left(2),
        }
    }

    fn observes_only(&self, op: &CellOp, out: Option<&CellOut>) -> bool {
        matches!((op, out), (CellOp::Read, _) | (CellOp::Cas(..), Some(CellOut::Mismatch)))
    }

    fn matters_to(&self, (op, _): (&CellOp, Option<&CellOut>), (other, out): (&CellOp, Option<&CellOut>)) -> bool {
        let made = match op {
            CellOp::Read => return false,
            CellOp::Write(value) | CellOp::Append(value) | CellOp::Cas(_, value) => value,
            CellOp::Delete => &Value::Null,
        };
        match (other, out) {
            (CellOp::Read, Some(CellOut::Read(seen))) => seen.holds(made),
            (CellOp::Cas(from, _), Some(CellOut::Done) | None) => from.holds(made),
            (CellOp::Cas(..), Some(_)) => true,
            _ => false,
        }
    }

    fn is_needed_before(&self, _: &Value, op: &CellOp, (next, out): (&CellOp, Option<&CellOut>)) -> bool {
        match next {
            // Whatever is there is replaced.
            CellOp::Write(_) | CellOp::Delete => false,
            CellOp::Append(_) => true,
            CellOp::Read | CellOp::Cas(..) => out.is_none() || self.matters_to((op, None), (next, out)),
        }
    }

    fn account(&self, op: &CellOp, out: Option<&CellOut>) -> Account {
        let mut account = Account { subject: self.name.clone(), ..Account::default() };
        let unknown = if out.is_none() { " ?" } else { "" };
        account.label = match (op, out) {
            (CellOp::Read, Some(CellOut::Read(seen))) => {
                account.saw = Some(seen.to_string());
                format!("read → {seen}")
            }
            (CellOp::Read, _) => "read".to_owned(),
            (CellOp::Write(value), _) => format!("write {value}{unknown}"),
            (CellOp::Append(value), _) => format!("append {value}{unknown}"),
            (CellOp::Delete, _) => format!("delete{unknown}"),
            (CellOp::Cas(from, to), Some(CellOut::Mismatch)) => format!("cas {from}→{to} refused"),
            (CellOp::Cas(from, to), seen) => {
                account.saw = seen.map(|_| from.to_string());
                format!("cas {from}→{to}{unknown}")
            }
        };
        account.wrote = match op {
            CellOp::Write(value) | CellOp::Append(value) => Some(value.to_string()),
            CellOp::Cas(_, to) if out != Some(&CellOut::Mismatch) => Some(to.to_string()),
            CellOp::Delete => Some(Value::Null.to_string()),
            CellOp::Read | CellOp::Cas(..) => None,
        };
        account
    }
}
