//! Faulty client: gives one timestamp to several requests, asks some replicas and not others, leaves gaps, and forgets to
//! sign.

use bytes::Bytes;
use verity_types::NodeId;

use super::Desk;
use crate::keys::Sig;
use crate::message::{Message, Request};

fn request(desk: &mut Desk) -> Message {
    let (number, seq) = (desk.chance.below(100), 1 + desk.chance.below(12));
    let text = format!("faulty:{}:{number}", desk.id);
    let op = Bytes::from([&[u8::try_from(text.len()).expect("a few bytes")], text.as_bytes()].concat());
    let incarnation = 1 + desk.chance.below(4);
    let mut message =
        Message::Request(Request { client: desk.id, incarnation, seq, endorses: false, op, sig: Sig([0; 64]) });
    if desk.chance.hits(80) {
        desk.sign(&mut message);
    }
    message
}

/// Asks each of the others for something.
pub(super) fn on_tick(desk: &mut Desk) {
    for to in desk.others() {
        if desk.chance.hits(30) {
            let message = request(desk);
            desk.say(to, &message);
        }
    }
}

/// Says all but its true requests, which it changes.
pub(super) fn on_send(desk: &mut Desk, to: NodeId, message: Message, bytes: Bytes) {
    match message {
        Message::Request(own) if own.client == desk.id && desk.chance.hits(50) => {
            let other = request(desk);
            desk.say(to, &other);
        }
        _ => desk.say_bytes(to, bytes),
    }
}
