//! Garbage: says what is no message, cuts messages short, and flips their bits.

use bytes::Bytes;
use verity_types::NodeId;

use super::Desk;

/// Breaks what is to be said, or says noise instead.
pub(super) fn on_send(desk: &mut Desk, to: NodeId, bytes: &Bytes) {
    let length = bytes.len() as u64;
    let small = |number: u64| usize::try_from(number).expect("a small number");
    let broken = match desk.chance.below(4) {
        0 => (0..desk.chance.below(200)).map(|_| desk.chance.bits().to_le_bytes()[0]).collect(),
        1 => bytes[..small(desk.chance.below(length))].to_vec(),
        _ => {
            let mut broken = bytes.to_vec();
            let at = small(desk.chance.below(length));
            broken[at] ^= 1 << desk.chance.below(8);
            broken
        }
    };
    desk.say_bytes(to, broken.into());
}
