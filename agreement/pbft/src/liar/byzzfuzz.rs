//! ByzzFuzz: a message now and then has one field that is a little off, and a sound signature of its sender (Winter et al.,
//! "Randomized Testing of Byzantine Fault Tolerant Algorithms", OOPSLA 2023).
//!
//! What others signed within it stays as they signed it, so a certificate that is changed holds no more; one that is left out
//! or put in from elsewhere does.

use verity_types::NodeId;

use super::Desk;
use crate::message::{Batch, Content, Message, NewView, Prepared, Proof, Stable, Status, ViewChange, Votes};

fn off(desk: &mut Desk, number: &mut u64) {
    *number = if desk.chance.hits(50) { number.saturating_sub(1) } else { *number + 1 };
}

fn at(desk: &mut Desk, length: usize) -> usize {
    usize::try_from(desk.chance.below(length as u64)).expect("a small number")
}

fn reorder(desk: &mut Desk, batch: &mut Batch) {
    let Content::Requests(requests) = &mut batch.content else { return };
    if requests.is_empty() {
        return;
    }
    match desk.chance.below(4) {
        0 => requests.reverse(),
        1 => drop(requests.remove(at(desk, requests.len()))),
        2 => requests.push(requests[at(desk, requests.len())].clone()),
        _ => batch.time += 1,
    }
}

fn twist_votes(desk: &mut Desk, votes: &mut Votes) {
    if votes.is_empty() {
        return;
    }
    let which = at(desk, votes.len());
    match desk.chance.below(3) {
        0 => drop(votes.remove(which)),
        1 => votes[which].1 = votes[at(desk, votes.len())].1,
        _ => off(desk, &mut votes[which].0.0),
    }
}

fn twist_prepared(desk: &mut Desk, prepared: &mut Prepared) {
    match desk.chance.below(4) {
        0 => off(desk, &mut prepared.view),
        1 => off(desk, &mut prepared.n),
        2 => prepared.digest = desk.chance.digest(),
        _ => twist_votes(desk, &mut prepared.votes),
    }
}

fn twist_stable(desk: &mut Desk, stable: &mut Stable) {
    match desk.chance.below(4) {
        0 => *stable = Stable::default(),
        1 => stable.n += desk.checkpoint_every,
        2 => stable.digest = desk.chance.digest(),
        _ => twist_votes(desk, &mut stable.votes),
    }
}

fn twist_change(desk: &mut Desk, change: &mut ViewChange) {
    let count = change.prepared.len();
    match desk.chance.below(6) {
        0 => off(desk, &mut change.view),
        1 => twist_stable(desk, &mut change.stable),
        2 if count > 0 => drop(change.prepared.remove(at(desk, count))),
        3 if count > 0 => {
            let which = at(desk, count);
            twist_prepared(desk, &mut change.prepared[which]);
        }
        4 => change.prepared.clear(),
        // An old certificate of another place, in this one's.
        _ => {
            if let Some(mut added) = change.prepared.last().cloned() {
                added.n += 1;
                change.prepared.push(added);
            }
        }
    }
}

fn twist_new_view(desk: &mut Desk, new: &mut NewView) {
    let count = new.changes.len();
    match desk.chance.below(5) {
        0 => off(desk, &mut new.view),
        1 => drop(new.leads.pop()),
        2 if !new.leads.is_empty() => new.leads.reverse(),
        3 if count > 0 => drop(new.changes.remove(at(desk, count))),
        _ if count > 0 => {
            let which = at(desk, count);
            let mut change = new.changes[which].clone();
            twist_change(desk, &mut change);
            new.changes[which] = change;
        }
        _ => {}
    }
}

fn twist_entries(desk: &mut Desk, first: &mut u64, entries: &mut [(Batch, Proof)]) {
    if entries.is_empty() {
        return;
    }
    let which = at(desk, entries.len());
    match desk.chance.below(5) {
        0 => off(desk, first),
        1 => reorder(desk, &mut entries[which].0),
        2 => twist_votes(desk, &mut entries[which].1.votes),
        3 => off(desk, &mut entries[which].1.view),
        _ => entries.reverse(),
    }
}

fn twist_status(desk: &mut Desk, status: &mut Status) {
    match desk.chance.below(4) {
        0 => status.executed += 100,
        1 => off(desk, &mut status.view),
        2 => status.entered = !status.entered,
        _ => status.stable += desk.checkpoint_every,
    }
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
        Message::PrePrepare { view, n, batch, .. } => match which {
            0 => off(desk, view),
            1 => off(desk, n),
            _ => reorder(desk, batch),
        },
        Message::Prepare { view, n, digest, .. } | Message::Commit { view, n, digest, .. } => match which {
            0 => off(desk, view),
            1 => off(desk, n),
            _ => *digest = desk.chance.digest(),
        },
        Message::Checkpoint { n, digest, .. } => match which {
            0 => *n += desk.checkpoint_every,
            _ => *digest = desk.chance.digest(),
        },
        Message::ViewChange(change) => twist_change(desk, change),
        Message::NewView(new) => twist_new_view(desk, new),
        Message::Status(status) => twist_status(desk, status),
        Message::Stable(stable) => twist_stable(desk, stable),
        Message::Link(link) => match which {
            0 => twist_stable(desk, &mut link.stable),
            1 => link.body = desk.chance.digest(),
            _ => drop(link.members.voters.pop_first()),
        },
        Message::Entries { first, entries } => twist_entries(desk, first, entries),
        Message::Batch { n, batch } => match which {
            0 => off(desk, n),
            _ => reorder(desk, batch),
        },
        Message::Want { n, digest } => match which {
            0 => off(desk, n),
            _ => *digest = desk.chance.digest(),
        },
        Message::Fetch { from } => off(desk, from),
        Message::Request(request) if request.client == desk.id => off(desk, &mut request.seq),
        Message::Request(_) | Message::Snapshot { .. } => {}
    }
    desk.sign(&mut message);
    desk.say(to, &message);
}
