//! Selective: speaks to some of the others alone, so that these are always a little ahead.

use bytes::Bytes;
use verity_types::NodeId;

use super::Desk;

/// Says it to those that are favoured.
pub(super) fn on_send(desk: &mut Desk, to: NodeId, bytes: Bytes) {
    if desk.favours(to) {
        desk.say_bytes(to, bytes);
    }
}
