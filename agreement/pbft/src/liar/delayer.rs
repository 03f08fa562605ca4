//! Delayer: says everything, but late and in another order.

use bytes::Bytes;
use verity_types::{Nanos, NodeId};

use super::Desk;

/// Says it within half a second.
pub(super) fn on_send(desk: &mut Desk, to: NodeId, bytes: Bytes) {
    let wait = Nanos::from_millis(desk.chance.below(500));
    desk.say_after(wait, to, bytes);
}
