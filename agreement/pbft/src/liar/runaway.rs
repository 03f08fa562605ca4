//! Runaway: assigns and votes far above the high watermark, so that whoever takes it in holds more and more.

use verity_types::NodeId;

use super::Desk;
use crate::message::Message;

/// Says what is to be said, and now and then the same of a sequence number that nobody may assign yet.
pub(super) fn on_send(desk: &mut Desk, to: NodeId, mut message: Message) {
    desk.say(to, &message);
    if !desk.chance.hits(30) {
        return;
    }
    let ahead = desk.window + 1 + desk.chance.below(1_000);
    match &mut message {
        Message::PrePrepare { n, .. } | Message::Prepare { n, .. } | Message::Commit { n, .. } => *n += ahead,
        _ => return,
    }
    desk.sign(&mut message);
    desk.say(to, &message);
}
