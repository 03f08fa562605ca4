//! Replayer: says again what it or somebody else once said, to whom it likes.

use bytes::Bytes;
use verity_types::NodeId;

use super::Desk;

/// Frames that are remembered.
const OLD_MAX: usize = 512;

/// Remembers what others said.
pub(super) fn on_heard(desk: &mut Desk, bytes: &Bytes) {
    if desk.old.len() < OLD_MAX {
        desk.old.push(bytes.clone());
    } else {
        let at = desk.chance.below(OLD_MAX as u64);
        desk.old[usize::try_from(at).expect("a small number")] = bytes.clone();
    }
}

/// Says what is to be said, and something old with it.
pub(super) fn on_send(desk: &mut Desk, to: NodeId, bytes: Bytes) {
    on_heard(desk, &bytes);
    desk.say_bytes(to, bytes);
    if desk.chance.hits(30) {
        let at = desk.chance.below(desk.old.len() as u64);
        let old = desk.old[usize::try_from(at).expect("a small number")].clone();
        let others = desk.others();
        let whom = others[usize::try_from(desk.chance.below(others.len() as u64)).expect("a small number")];
        desk.say_bytes(whom, old);
    }
}
