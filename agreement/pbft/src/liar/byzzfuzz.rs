//! ByzzFuzz: a message now and then has one field that is a little off, and a sound signature.

use verity_types::NodeId;

use super::Desk;
use crate::message::{Content, Message};

fn off(desk: &mut Desk, number: &mut u64) {
    *number = if desk.chance.hits(50) { number.saturating_sub(1) } else { *number + 1 };
}

/// Changes a field of what is to be said, drops it, or says it as it is.
pub(super) fn on_send(desk: &mut Desk, to: NodeId, mut message: Message) {
    if !desk.chance.hits(30) {
        return desk.say(to, &message);
    }
    if desk.chance.hits(20) {
        return;
    }
    let which = desk.chance.below(3);
    match &mut message {
        Message::PrePrepare { view, n, batch, .. } => match (which, &mut batch.content) {
            (0, _) => off(desk, view),
            (1, _) => off(desk, n),
            (_, Content::Requests(requests)) => requests.reverse(),
            _ => {}
        },
        Message::Prepare { view, n, digest, .. } | Message::Commit { view, n, digest, .. } => match which {
            0 => off(desk, view),
            1 => off(desk, n),
            _ => *digest = desk.chance.digest(),
        },
        Message::Checkpoint { n, digest, .. } => match which {
            0 => *n += 8,
            _ => *digest = desk.chance.digest(),
        },
        Message::ViewChange(change) => match which {
            0 => off(desk, &mut change.view),
            1 => drop(change.prepared.pop()),
            _ => change.stable = crate::message::Stable::default(),
        },
        Message::NewView(new) => match which {
            0 => off(desk, &mut new.view),
            1 => drop(new.leads.pop()),
            _ => drop(new.changes.pop()),
        },
        Message::Status(status) => match which {
            0 => status.executed += 100,
            1 => off(desk, &mut status.view),
            _ => status.stable += 8,
        },
        _ => {}
    }
    desk.sign(&mut message);
    desk.say(to, &message);
}
