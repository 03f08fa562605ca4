//! The codec: every message comes back as it went, and nothing that is cut passes.

use bytes::Bytes;
use proptest::prelude::*;
use verity_contract::{Members, SnapshotMeta};
use verity_types::{Digest, LogIndex, NodeId, Term};

use crate::epoch::Link;
use crate::keys::Sig;
use crate::message::{
    Batch, Content, Message, NewView, Prepared, Proof, Request, Stable, Status, ViewChange, encode, parse, rewrite,
};

const SIG: Sig = Sig([5; 64]);
const DIGEST: Digest = Digest([6; 32]);

fn votes() -> Vec<(NodeId, Sig)> {
    vec![(NodeId(1), SIG), (NodeId(3), SIG), (NodeId(200), SIG)]
}

/// One of each kind; wishes for views with much and with nothing to show.
fn samples() -> Vec<Message> {
    let request = Request {
        client: NodeId(2),
        incarnation: 1 << 62,
        seq: 7,
        endorses: false,
        op: Bytes::from_static(b"op"),
        sig: SIG,
    };
    let batch = Batch { term: 3, time: 1_800_000_000_000, content: Content::Requests(vec![request.clone(); 2]) };
    let stable = Stable { n: 128, epoch: 4, digest: DIGEST, votes: votes() };
    let prepared = Prepared { n: 130, view: 2, digest: DIGEST, lead: SIG, votes: votes() };
    let full = ViewChange { replica: NodeId(1), view: 3, stable: stable.clone(), prepared: vec![prepared], sig: SIG };
    let bare = ViewChange { replica: NodeId(2), stable: Stable::default(), prepared: Vec::new(), ..full.clone() };
    let members = Members::of_voters((1..=4).map(NodeId));
    let meta = SnapshotMeta { index: LogIndex(128), term: Term(2), members, context: Bytes::from_static(b"beside") };
    let bares = (1..=5).map(|id| ViewChange { replica: NodeId(id), ..bare.clone() }).collect();
    let link = Link { stable: stable.clone(), body: DIGEST, members: meta.members.clone() };
    let endorsement = Request { endorses: true, ..request.clone() };
    let status = Status { view: 3, entered: true, executed: 140, stable: 128, first: 1 };
    vec![
        Message::Request(request),
        Message::Request(endorsement),
        Message::PrePrepare { view: 3, n: 131, batch: batch.clone(), sig: SIG },
        Message::Prepare { view: 3, n: 131, digest: DIGEST, lead: SIG, sig: SIG },
        Message::Commit { view: 3, n: 131, digest: DIGEST, sig: SIG },
        Message::Checkpoint { n: 128, digest: DIGEST, sig: SIG },
        Message::ViewChange(full.clone()),
        Message::NewView(NewView { view: 3, changes: vec![full, bare], leads: vec![SIG; 2], sig: SIG }),
        Message::NewView(NewView { view: 3, changes: bares, leads: Vec::new(), sig: SIG }),
        Message::Want { n: 131, digest: DIGEST },
        Message::Batch { n: 131, batch: Batch::NULL },
        Message::Status(status),
        Message::Fetch { from: 9 },
        Message::Entries { first: 9, entries: vec![(batch, Proof { view: 1, votes: votes() })] },
        Message::Snapshot { meta, stable: stable.clone(), links: vec![link.clone()] },
        Message::Stable(stable),
        Message::Link(link),
    ]
}

#[test]
fn messages_come_back_as_they_went() {
    for message in samples() {
        let bytes = encode(4, &message);
        assert_eq!(parse(bytes.clone()), Ok((4, message)));
        assert_eq!(rewrite(bytes.clone()), Some(bytes.clone()));
        (0..bytes.len()).for_each(|cut| assert!(parse(bytes.slice(..cut)).is_err(), "cut at {cut}"));
        assert!(parse([&bytes[..], b"x"].concat().into()).is_err(), "bytes behind a message");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_are_refused(
        at in 0_usize..17, place in 0_usize..4_000, byte: u8, noise in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = parse(Bytes::from(noise));
        let mut bytes = encode(0, &samples()[at]).to_vec();
        let length = bytes.len();
        bytes[place % length] = byte;
        let _ = parse(Bytes::from(bytes));
    }
}
