//! Colluder: one of f + 1 that break safety together. As a primary it assigns one batch for the correct replicas with odd
//! numbers and another for those with even ones; as a backup it votes for each half what that half was told. The colluders
//! are the first f + 1 voters, and know each other: among themselves they tell the truth.

use bytes::Bytes;
use verity_types::NodeId;

use super::Desk;
use crate::message::{Batch, Message, parse};
use crate::quorum::Quorum;

/// The batch that one half is told of instead.
fn other(batch: &Batch) -> Batch {
    Batch { time: batch.time + 1, ..batch.clone() }
}

fn is_told_the_truth(desk: &Desk, node: NodeId) -> bool {
    let colluders = Quorum::of(desk.voters.len()).weak();
    desk.voters.iter().take(colluders).any(|voter| *voter == node) || node.0 % 2 == 1
}

fn remember(desk: &mut Desk, view: u64, n: u64, batch: &Batch) {
    let digest = desk.scope.batch(&other(batch));
    desk.instead.insert((view, n, NodeId(0)), digest);
    while desk.instead.len() > 4_096 {
        desk.instead.pop_first();
    }
}

/// Learns what a colluding primary assigned.
pub(super) fn on_heard(desk: &mut Desk, bytes: &Bytes) {
    if let Ok((_, Message::PrePrepare { view, n, batch, .. })) = parse(bytes.clone()) {
        remember(desk, view, n, &batch);
    }
}

/// Tells each half its own story.
pub(super) fn on_send(desk: &mut Desk, to: NodeId, mut message: Message) {
    if let Message::PrePrepare { view, n, batch, .. } = &message {
        remember(desk, *view, *n, batch);
    }
    if !is_told_the_truth(desk, to) {
        match &mut message {
            Message::PrePrepare { batch, .. } => *batch = other(batch),
            Message::Prepare { view, n, digest, .. } | Message::Commit { view, n, digest, .. } => {
                if let Some(other) = desk.instead.get(&(*view, *n, NodeId(0))) {
                    *digest = *other;
                }
            }
            _ => {}
        }
        desk.sign(&mut message);
    }
    desk.say(to, &message);
}
