//! Usurper: wants other members. It endorses changes that nobody asked it for, different ones to different people, and what is
//! no change at all.

use std::collections::BTreeSet;

use bytes::Bytes;
use verity_types::NodeId;

use super::Desk;
use crate::epoch::Wish;
use crate::keys::Sig;
use crate::message::{Message, Request};

/// Later than any life that it has.
const INCARNATION: u64 = 1 << 40;
/// Nodes that it may name.
const NODES_MAX: u64 = 9;

fn wish(desk: &mut Desk) -> Bytes {
    if desk.chance.hits(20) {
        return Bytes::from(desk.chance.digest().0.to_vec());
    }
    let mut voters: BTreeSet<NodeId> = desk.voters.iter().copied().collect();
    match desk.chance.below(3) {
        0 => voters = BTreeSet::from([desk.id]),
        1 => drop(voters.insert(NodeId(1 + desk.chance.below(NODES_MAX)))),
        _ => {
            let others = desk.others();
            let at = usize::try_from(desk.chance.below(others.len() as u64)).expect("a small number");
            others.get(at).map(|other| voters.remove(other));
        }
    }
    let epoch = desk.scope.epoch + desk.chance.below(2);
    Wish { epoch, voters, context: Bytes::from_static(b"usurped") }.encode()
}

/// Endorses something now and then.
pub(super) fn on_tick(desk: &mut Desk) {
    if !desk.chance.hits(10) {
        return;
    }
    desk.endorsed += 1;
    let seq = desk.endorsed;
    let mut op = wish(desk);
    for to in desk.others() {
        if desk.chance.hits(20) {
            op = wish(desk);
        }
        let (client, incarnation, op) = (desk.id, INCARNATION, op.clone());
        let request = Request { client, incarnation, seq, endorses: true, op, sig: Sig([0; 64]) };
        let mut message = Message::Request(request);
        desk.sign(&mut message);
        if let Message::Request(request) = &mut message {
            // What was signed as an endorsement is no operation.
            request.endorses = desk.chance.hits(90);
        }
        desk.say(to, &message);
    }
}
