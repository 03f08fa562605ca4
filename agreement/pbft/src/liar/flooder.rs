//! Flooder: a client that sends far more than anybody takes (Aardvark, NSDI 2009 §7.4): requests that it signed, again and
//! again; requests far ahead of their turn; and requests whose signatures are none, each of which costs whoever looks at it.

use verity_types::NodeId;

use super::Desk;
use crate::keys::Sig;
use crate::message::{Message, Request};

/// Requests to each of the others at each tick.
const BURST: u64 = 400;
/// Of those, so many are signed.
const SIGNED_PERCENT: u64 = 5;

fn request(desk: &mut Desk, ahead: u64) -> Message {
    let op = bytes::Bytes::from(desk.chance.digest().0.to_vec());
    let mut sig = Sig([0; 64]);
    sig.0.iter_mut().for_each(|byte| *byte = desk.chance.bits().to_le_bytes()[0]);
    let mut message =
        Message::Request(Request { client: desk.id, incarnation: u64::MAX >> 8, seq: ahead, endorses: false, op, sig });
    if desk.chance.hits(SIGNED_PERCENT) {
        desk.sign(&mut message);
    }
    message
}

/// Sends all others as much as it may cost itself.
pub(super) fn on_tick(desk: &mut Desk) {
    let others: Vec<NodeId> = desk.others();
    for _ in 0..BURST {
        let ahead = 1 + desk.chance.below(10_000);
        let message = request(desk, ahead);
        others.iter().for_each(|to| desk.say(*to, &message));
    }
}
