//! Slow primary: assigns as late as it can without being replaced, and does all the rest in time.

use bytes::Bytes;
use verity_types::{Nanos, NodeId};

use super::Desk;
use crate::message::Message;

/// A little less than backups wait.
const WAIT: Nanos = Nanos::from_millis(250);

/// Keeps pre-prepares back.
pub(super) fn on_send(desk: &mut Desk, to: NodeId, message: &Message, bytes: Bytes) {
    match message {
        Message::PrePrepare { .. } => desk.say_after(WAIT, to, bytes),
        _ => desk.say_bytes(to, bytes),
    }
}
