//! What ZooKeeper promises beyond its sequential object, law by law, judged directly from the zxids.
//!
//! - session order: what a session has seen it never unsees; its own writes it sees (guide, "Consistency Guarantees":
//!   sequential consistency, single system image), also behind a reconnect.
//! - zxid order: a write has a zxid of its own, and zxids agree with real time.
//! - watch: a client sees the event before it sees the new state; a one-shot watch fires once (guide, "Watches").
//! - ephemeral: an ephemeral node lives no longer than its session, and no shorter unless it is deleted.
//! - sequence: under one parent numbers only grow, and none is given twice.
//! - durability: what was acknowledged is there when all is over.
//!
//! The laws need zxids in the history and are silent about operations without; the search over the sequential object
//! ([`crate::linearizability::Tree`]) needs none. Each is a check of its own on the other: they share the history only.
//!
//! HAZARD: a reply's zxid is taken to be no lower than that of the state that it shows. A server that stamps replies
//! too low makes honest histories look broken.

mod changes;
mod ephemeral;
mod order;
mod sequence;
mod watch;

use crate::history::{SessionOperation, TreeHistory};
use crate::linearizability::{TreeCall, TreeOut};

/// A law was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Which: `session order`, `zxid order`, `watch`, `ephemeral`, `sequence` or `durability`.
    pub law: &'static str,
    /// What happened.
    pub words: String,
    /// Places of the operations that show it; the last is the one that should not be.
    pub involved: Vec<usize>,
    /// Places of the notices that show it.
    pub notices: Vec<usize>,
}

/// Every breach that the laws find, each law in turn.
#[must_use]
pub fn laws(history: &TreeHistory) -> Vec<Breach> {
    let mut breaches = order::session_order(history);
    breaches.extend(order::zxid_order(history));
    breaches.extend(watch::watches(history));
    breaches.extend(ephemeral::ephemerals(history));
    breaches.extend(sequence::sequence(history));
    breaches.extend(ephemeral::durability(history));
    breaches
}

/// `session 3's set /a 5 → v1 (lines 3, 9)`
fn told(history: &TreeHistory, place: usize) -> String {
    let one = &history.operations[place];
    let TreeCall { session, .. } = &one.operation.op;
    let account = crate::linearizability::Model::account(&history.tree, &one.operation.op, one.operation.out.as_ref());
    let who =
        if one.is_final { "the final reader".to_owned() } else { format!("session {}", history.session(*session)) };
    let lines = match one.lines {
        (invoke, Some(reply)) if reply != invoke => format!("lines {invoke}, {reply}"),
        (invoke, _) => format!("line {invoke}"),
    };
    let zxid = one.zxid.map(|zxid| format!(", zxid {zxid}")).unwrap_or_default();
    format!("{who}'s {} ({lines}{zxid})", account.label)
}

/// True if it was answered without an error.
fn succeeded(one: &SessionOperation) -> bool {
    match &one.operation.out {
        None | Some(TreeOut::Error(_)) => false,
        Some(TreeOut::Results(parts)) => !parts.iter().any(|part| matches!(part, TreeOut::Error(_))),
        Some(_) => true,
    }
}
