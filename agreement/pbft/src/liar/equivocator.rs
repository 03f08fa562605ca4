//! Equivocator: as a primary assigns one batch for one half of the others and another for the rest; as a backup votes for
//! each half what it likes. Everything is well signed.

use verity_types::NodeId;

use super::Desk;
use crate::message::{Content, Message};

/// Tells the half that is not favoured something else.
pub(super) fn on_send(desk: &mut Desk, to: NodeId, mut message: Message) {
    if !desk.favours(to) {
        match &mut message {
            Message::PrePrepare { view, n, batch, .. } => {
                if let Content::Requests(requests) = &mut batch.content {
                    requests.pop();
                }
                batch.time += 1;
                desk.instead.insert((*view, *n, to), desk.scope.batch(batch));
            }
            Message::Prepare { view, n, digest, .. } | Message::Commit { view, n, digest, .. } => {
                let other = desk.instead.get(&(*view, *n, to)).copied();
                *digest = other.unwrap_or_else(|| desk.chance.digest());
            }
            _ => {}
        }
        while desk.instead.len() > 4_096 {
            desk.instead.pop_first();
        }
        desk.sign(&mut message);
    }
    desk.say(to, &message);
}
