//! Lines as operations on registers and keys.

use std::collections::BTreeMap;

use super::{Event, History, HistoryError, Told};
use crate::Value;
use crate::linearizability::{Cell, CellOp, CellOut, Operation, by_key};

/// An operation on a cell.
type CellOperation = Operation<CellOp, CellOut>;

/// The cells of a history, each with its operations, in the order of their calls.
///
/// # Errors
/// The first line that is no operation on a cell.
pub fn cells(history: &History) -> Result<Vec<(Cell, Vec<CellOperation>)>, HistoryError> {
    let mut keyed = Vec::new();
    for (id, told) in history.told.iter().enumerate() {
        if let Some(operation) = operation(id, told)? {
            keyed.push((key(&told.invoke), operation));
        }
    }
    let end = history.told.iter().filter_map(|told| told.ret).chain(history.told.iter().map(|told| told.call)).max();
    let end = end.unwrap_or(0).saturating_add(1);
    for (number, (_, last)) in history.finals.iter().enumerate() {
        let seen = last.value.as_ref().map(Value::from).unwrap_or_default();
        let operation = Operation {
            lane: u64::MAX - number as u64,
            call: end,
            ret: Some(end.saturating_add(1)),
            op: CellOp::Read,
            out: Some(CellOut::Read(seen)),
            hint: None,
            stale: false,
            id: history.told.len() + number,
        };
        keyed.push((key(last), operation));
    }
    let first: BTreeMap<String, Value> = history
        .inits
        .iter()
        .map(|event| (key(event), event.value.as_ref().map(Value::from).unwrap_or_default()))
        .collect();
    let cell = |name: String| Cell { initial: first.get(&name).cloned().unwrap_or_default(), name };
    Ok(by_key(keyed).into_iter().map(|(name, operations)| (cell(name), operations)).collect())
}

fn key(event: &Event) -> String {
    event.key.clone().unwrap_or_else(|| "register".to_owned())
}

fn operation(id: usize, told: &Told) -> Result<Option<CellOperation>, HistoryError> {
    let invoke = &told.invoke;
    let argument = || invoke.value.as_ref().map(Value::from).unwrap_or_default();
    let f = invoke.f.as_deref().unwrap_or_default();
    let op = match f {
        "read" | "get" => CellOp::Read,
        "write" | "put" => CellOp::Write(argument()),
        "append" => CellOp::Append(argument()),
        "delete" => CellOp::Delete,
        "cas" => match invoke.value.as_ref().and_then(|value| value.as_array()).map(Vec::as_slice) {
            Some([from, to]) => CellOp::Cas(from.into(), to.into()),
            _ => {
                return Err(HistoryError::new(
                    invoke.line,
                    "a cas has no pair of values",
                    "write \"value\": [from, to]",
                ));
            }
        },
        "" => {
            return Err(HistoryError::new(invoke.line, "names no operation", "add \"f\", for example \"f\":\"read\""));
        }
        other => {
            let what = format!("no operation of a register or key is called {other:?}");
            return Err(HistoryError::new(invoke.line, what, "take read, write, cas, get, put, append or delete"));
        }
    };
    let out = match &told.reply {
        None if op == CellOp::Read => return Ok(None),
        None => None,
        Some(reply) => match op {
            CellOp::Read => match &reply.value {
                Some(value) => Some(CellOut::Read(value.into())),
                None => {
                    return Err(HistoryError::new(
                        reply.line,
                        "a read does not say what it read",
                        "add \"value\"; null if there was nothing",
                    ));
                }
            },
            CellOp::Cas(..) if reply.swapped == Some(false) => Some(CellOut::Mismatch),
            _ => Some(CellOut::Done),
        },
    };
    Ok(Some(Operation {
        lane: told.lane,
        call: told.call,
        ret: told.ret,
        op,
        out,
        hint: told.field(|e| e.zxid),
        stale: false,
        id,
    }))
}
