//! Cutting a history into parts that can be judged one by one.
//!
//! Linearizability is local (Herlihy & Wing 1990, §3.3): a history is linearizable if and only if its restriction to
//! each object is. Each cut here makes objects that no operation spans, so nothing is lost by it; where an operation
//! does span several, they stay one object.

use std::collections::{BTreeMap, BTreeSet};

use super::{Operation, TreeCall, TreeOp, TreeOut};

/// The operations of each key, by key.
#[must_use]
pub fn by_key<O, R>(history: Vec<(String, Operation<O, R>)>) -> BTreeMap<String, Vec<Operation<O, R>>> {
    let mut keys: BTreeMap<String, Vec<Operation<O, R>>> = BTreeMap::new();
    for (key, operation) in history {
        keys.entry(key).or_default().push(operation);
    }
    keys
}

/// The operations under each folder of the root, where they are independent; otherwise the whole history as one part.
///
/// Whole it stays if somebody looks at the root's children or counters, if there are stale reads (sessions then tie
/// the folders together, and the locality of linearizability does not apply), or if no cut is possible. A `sync`
/// constrains only stale reads and is left out of the parts.
#[must_use]
pub fn by_top_folder(history: Vec<Operation<TreeCall, TreeOut>>) -> Vec<Vec<Operation<TreeCall, TreeOut>>> {
    let mut groups = Groups::default();
    let mut owned: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    let mut whole = false;
    let by_other = |one: &Operation<TreeCall, TreeOut>| match one.op.op {
        TreeOp::Close { session } if session != one.op.session => Some(session),
        _ => None,
    };
    let expired: BTreeSet<u64> = history.iter().filter_map(by_other).collect();
    for operation in &history {
        let mut tops = BTreeSet::new();
        whole |= operation.stale || !folders(&operation.op.op, &mut tops);
        groups.join(&tops);
        // An expiry bears on everything that the session asks, in every folder.
        if makes_ephemeral(&operation.op.op) || expired.contains(&operation.op.session) {
            owned.entry(operation.op.session).or_default().extend(tops);
        }
    }
    if whole {
        return vec![history];
    }
    for operation in &history {
        if let TreeOp::Close { session } = operation.op.op {
            groups.join(owned.get(&session).unwrap_or(&BTreeSet::new()));
        }
    }
    let mut parts: BTreeMap<String, Vec<Operation<TreeCall, TreeOut>>> = BTreeMap::new();
    for operation in history {
        let mut tops = BTreeSet::new();
        folders(&operation.op.op, &mut tops);
        if let TreeOp::Close { session } = operation.op.op {
            tops.extend(owned.get(&session).into_iter().flatten().cloned());
        }
        if let Some(top) = tops.first() {
            parts.entry(groups.name(top)).or_default().push(operation);
        }
    }
    parts.into_values().collect()
}

/// Collects the folders of the root that `op` touches; false if it touches the root itself.
fn folders(op: &TreeOp, into: &mut BTreeSet<String>) -> bool {
    let (path, at_root) = match op {
        TreeOp::Create { path, sequential, .. } => (path, *sequential && path.matches('/').count() == 1),
        TreeOp::Delete { path, .. }
        | TreeOp::Set { path, .. }
        | TreeOp::Check { path, .. }
        | TreeOp::Get { path }
        | TreeOp::Exists { path }
        | TreeOp::Children { path } => (path, false),
        TreeOp::Multi(parts) => {
            // Every part adds its folder, also behind one that touches the root.
            let at_root = parts.iter().filter(|part| !folders(part, into)).count();
            return at_root == 0;
        }
        TreeOp::Close { .. } | TreeOp::Sync => return true,
    };
    let top = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    into.insert(top.to_owned());
    !at_root && !top.is_empty()
}

fn makes_ephemeral(op: &TreeOp) -> bool {
    match op {
        TreeOp::Create { ephemeral, .. } => *ephemeral,
        TreeOp::Multi(parts) => parts.iter().any(makes_ephemeral),
        _ => false,
    }
}

/// Which folders belong together.
#[derive(Default)]
struct Groups {
    above: BTreeMap<String, String>,
}

impl Groups {
    fn name(&self, folder: &str) -> String {
        let mut name = folder;
        while let Some(above) = self.above.get(name) {
            name = above;
        }
        name.to_owned()
    }

    fn join(&mut self, folders: &BTreeSet<String>) {
        let Some(first) = folders.first() else { return };
        for folder in folders {
            let (to, from) = (self.name(first), self.name(folder));
            if to != from {
                self.above.insert(from, to);
            }
        }
    }
}
