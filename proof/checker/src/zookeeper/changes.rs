//! What the writes of a history did to which path, as far as it is known.

use std::collections::BTreeMap;

use super::succeeded;
use crate::Value;
use crate::history::TreeHistory;
use crate::linearizability::{TreeOp, TreeOut};

/// What happened to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// It was made; by this session if it is ephemeral.
    Created(Value, Option<u64>),
    /// Its value was set.
    Set(Value),
    /// It was removed.
    Deleted,
    /// A child was made or removed.
    Children,
}

/// One change, and the operation that made it.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) zxid: u64,
    pub(super) what: What,
    pub(super) place: usize,
}

/// Changes by path.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Of acknowledged writes with a zxid, in the order of zxids.
    pub(super) known: BTreeMap<String, Vec<Change>>,
    /// How many writes touch the path of which it is not known whether, or when, they took effect.
    unknown: BTreeMap<String, usize>,
    /// Sequential creates without an answer, by the path that was asked for: the name's beginning.
    unnamed: Vec<String>,
    /// Sessions that may have ended at a time that is not known.
    pub(super) may_end: Vec<u64>,
}

impl Changes {
    pub(super) fn of(history: &TreeHistory) -> Self {
        let mut changes = Self::default();
        for (place, one) in history.operations.iter().enumerate() {
            let call = &one.operation.op;
            let known = succeeded(one).then_some(one.zxid).flatten();
            if one.operation.out.is_none() || succeeded(one) {
                changes.add(place, call.session, &call.op, one.operation.out.as_ref(), known);
            }
        }
        for list in changes.known.values_mut() {
            list.sort_by_key(|change| (change.zxid, change.place));
        }
        changes
    }

    fn add(&mut self, place: usize, session: u64, op: &TreeOp, out: Option<&TreeOut>, zxid: Option<u64>) {
        match op {
            TreeOp::Create { path, value, ephemeral, sequential } => {
                let made = match out {
                    Some(TreeOut::Done(seen)) => seen.path.clone(),
                    _ => None,
                };
                if made.is_none() && *sequential {
                    self.unnamed.push(path.clone());
                    self.put(place, parent(path), What::Children, zxid);
                    return;
                }
                let path = made.unwrap_or_else(|| path.clone());
                self.put(place, parent(&path), What::Children, zxid);
                self.put(place, &path, What::Created(value.clone(), ephemeral.then_some(session)), zxid);
            }
            TreeOp::Delete { path, .. } => {
                self.put(place, parent(path), What::Children, zxid);
                self.put(place, path, What::Deleted, zxid);
            }
            TreeOp::Set { path, value, .. } => self.put(place, path, What::Set(value.clone()), zxid),
            TreeOp::Multi(parts) => {
                let results = match out {
                    Some(TreeOut::Results(results)) => Some(results),
                    _ => None,
                };
                for (number, part) in parts.iter().enumerate() {
                    self.add(place, session, part, results.and_then(|results| results.get(number)), zxid);
                }
            }
            TreeOp::Close { session } if zxid.is_none() => self.may_end.push(*session),
            _ => {}
        }
    }

    fn put(&mut self, place: usize, path: &str, what: What, zxid: Option<u64>) {
        match zxid {
            Some(zxid) => self.known.entry(path.to_owned()).or_default().push(Change { zxid, what, place }),
            None => *self.unknown.entry(path.to_owned()).or_default() += 1,
        }
    }

    /// True if something that is not known may have happened to the node itself.
    pub(super) fn is_uncertain(&self, path: &str) -> bool {
        self.unknown.contains_key(path) || self.unnamed.iter().any(|begin| path.starts_with(begin.as_str()))
    }

    /// Changes of the path, in the order of zxids.
    pub(super) fn at(&self, path: &str) -> &[Change] {
        self.known.get(path).map_or(&[], Vec::as_slice)
    }
}

/// The parent of a path; that of `/a` is `/`.
pub(super) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((parent, _)) if !parent.is_empty() => parent,
        _ => "/",
    }
}
