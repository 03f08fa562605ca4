//! Forger: invents requests in other clients' names, certificates without signatures, checkpoints of states that nobody
//! has, and entries with proofs that are none.

use bytes::Bytes;
use verity_types::NodeId;

use super::Desk;
use crate::keys::Sig;
use crate::message::{Batch, Content, Message, Prepared, Proof, Request, Stable};

fn forged_request(desk: &mut Desk) -> Request {
    let others = desk.others();
    let client = others[usize::try_from(desk.chance.below(others.len() as u64)).expect("a small number")];
    let seq = 1 + desk.chance.below(6);
    let incarnation = 1 + desk.chance.below(3);
    let op = Bytes::from(format!("\x09forged:{}", desk.chance.below(10)));
    let op = Bytes::from([&[u8::try_from(op.len() - 1).expect("a few bytes")], &op[1..]].concat());
    Request { client, incarnation, seq, endorses: false, op, sig: Sig([7; 64]) }
}

/// Votes of everybody, with signatures of nobody.
fn forged_votes(desk: &Desk, without: Option<NodeId>) -> Vec<(NodeId, Sig)> {
    let voters = desk.voters.iter().copied().filter(|voter| Some(*voter) != without);
    voters.map(|voter| (voter, Sig([9; 64]))).collect()
}

/// Says what is to be said, with forged things in it or behind it.
pub(super) fn on_send(desk: &mut Desk, to: NodeId, mut message: Message) {
    if let Message::PrePrepare { batch, .. } = &mut message
        && desk.chance.hits(30)
        && let Content::Requests(requests) = &mut batch.content
    {
        requests.push(forged_request(desk));
        desk.sign(&mut message);
    }
    if let Message::ViewChange(change) = &mut message {
        // What prepared last is what others may not know to be committed.
        let last = change.prepared.last().map(|prepared| prepared.n).filter(|_| desk.chance.hits(70));
        let n = last.unwrap_or_else(|| change.stable.n + 1 + desk.chance.below(8));
        let view = change.view.saturating_sub(1);
        let at = (view + desk.first_primary) % desk.voters.len() as u64;
        let primary = desk.voters[usize::try_from(at).expect("a small number")];
        // That nothing prepared is a lie that every replica could act on: all have that batch.
        let digest = if desk.chance.hits(70) { desk.scope.batch(&Batch::NULL) } else { desk.chance.digest() };
        let prepared = Prepared { n, view, digest, lead: Sig([9; 64]), votes: forged_votes(desk, Some(primary)) };
        change.prepared.retain(|held| held.n != n);
        change.prepared.push(prepared);
        change.prepared.sort_by_key(|prepared| prepared.n);
        desk.sign(&mut message);
    }
    desk.say(to, &message);
    if !desk.chance.hits(20) {
        return;
    }
    let mut forged = match desk.chance.below(4) {
        0 => Message::Request(forged_request(desk)),
        1 => Message::Checkpoint { n: 8 * (1 + desk.chance.below(8)), digest: desk.chance.digest(), sig: Sig([0; 64]) },
        2 => Message::Stable(Stable {
            n: 8 * (1 + desk.chance.below(8)),
            epoch: desk.scope.epoch,
            digest: desk.chance.digest(),
            votes: forged_votes(desk, None),
        }),
        _ => {
            let batch = Batch { term: 1, time: 0, content: Content::Requests(vec![forged_request(desk)]) };
            let proof = Proof { view: desk.view, votes: forged_votes(desk, None) };
            Message::Entries { first: 1 + desk.chance.below(20), entries: vec![(batch, proof)] }
        }
    };
    if matches!(forged, Message::Checkpoint { .. }) {
        desk.sign(&mut forged);
    }
    desk.say(to, &forged);
}
