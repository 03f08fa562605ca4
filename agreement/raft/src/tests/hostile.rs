//! Each way in which a peer's message could make the engine panic, and random mutations of good ones.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use raft::eraftpb::{Entry, Message, MessageType, Snapshot};
use verity_contract::{Agreement, Input, Members, PersistId};
use verity_types::{Mono, NodeId};

use super::net::{Net, elect, net};
use crate::message::{Frame, encode, to_conf_state};
use crate::{Config, Error};

fn message(kind: MessageType, term: u64) -> Message {
    let mut m = Message { term, ..Message::default() };
    m.set_msg_type(kind);
    m
}

fn group() -> Net {
    let mut net = net(3, 3, Config::default());
    elect(&mut net, 1);
    for _ in 0..3 {
        net.input(1, Input::Propose(Bytes::from_static(b"x")));
        net.deliver();
    }
    net.tick(&[1, 2, 3], 4);
    net
}

/// Gives `m` to `to` as if `from` sent it; true if it was dropped as invalid.
fn dropped(net: &mut Net, from: u64, to: u64, m: Message) -> bool {
    let before = net.nodes[&to].dropped().0;
    let bytes = encode(&Frame::Raft { message: m, round: 0, sleep: false });
    net.input(to, Input::Message { from: NodeId(from), bytes });
    let (after, error) = net.nodes[&to].dropped();
    assert!(after == before || matches!(error, Some(Error::InvalidMessage(_))));
    after > before
}

#[test]
fn a_heartbeat_beyond_the_log_is_dropped() {
    let mut net = group();
    let beat = Message { commit: 1_000, ..message(MessageType::MsgHeartbeat, 1) };
    assert!(dropped(&mut net, 1, 2, beat));
}

#[test]
fn a_message_of_term_zero_is_dropped() {
    let mut net = group();
    assert!(dropped(&mut net, 1, 2, message(MessageType::MsgAppend, 0)));
    assert!(dropped(&mut net, 2, 1, message(MessageType::MsgTimeoutNow, 0)));
}

#[test]
fn a_message_from_nobody_or_oneself_is_dropped() {
    let mut net = group();
    assert!(dropped(&mut net, 0, 2, message(MessageType::MsgHeartbeat, 1)));
    assert!(dropped(&mut net, 2, 2, message(MessageType::MsgHeartbeat, 1)));
}

#[test]
fn a_gapped_append_is_dropped() {
    let mut net = group();
    let mut m = Message { index: 100, log_term: 0, commit: 101, ..message(MessageType::MsgAppend, 1) };
    m.set_entries(vec![Entry { term: 1, index: 101, ..Entry::default() }].into());
    assert!(dropped(&mut net, 1, 2, m));
}

#[test]
fn an_append_against_committed_entries_is_dropped() {
    let mut net = group();
    let mut m = Message { index: 1, log_term: 1, commit: 2, ..message(MessageType::MsgAppend, 9) };
    m.set_entries(vec![Entry { term: 9, index: 2, ..Entry::default() }].into());
    assert!(dropped(&mut net, 3, 2, m));
}

#[test]
fn an_append_whose_terms_fall_is_dropped() {
    let mut net = group();
    let last = net.nodes[&2].status().last.0;
    for term in [0, 5] {
        let mut m = Message { index: last, log_term: 1, ..message(MessageType::MsgAppend, 1) };
        m.set_entries(vec![Entry { term, index: last + 1, ..Entry::default() }].into());
        assert!(dropped(&mut net, 1, 2, m));
    }
}

#[test]
fn an_answer_about_entries_that_never_were_is_dropped() {
    let mut net = group();
    let answer = Message { index: 1_000, ..message(MessageType::MsgAppendResponse, 1) };
    assert!(dropped(&mut net, 2, 1, answer));
    let answer = Message { reject: true, request_snapshot: 1_000, ..message(MessageType::MsgAppendResponse, 1) };
    assert!(dropped(&mut net, 2, 1, answer));
}

#[test]
fn nonsense_snapshots_are_dropped() {
    let mut net = group();
    let committed = net.nodes[&2].status().committed.0;
    let snapshot = |index, term, members: Members| {
        let mut snapshot = Snapshot::default();
        (snapshot.mut_metadata().index, snapshot.mut_metadata().term) = (index, term);
        snapshot.mut_metadata().set_conf_state(to_conf_state(&members));
        let mut m = message(MessageType::MsgSnapshot, 1);
        m.set_snapshot(snapshot);
        m
    };
    let all = Members::of_voters([1, 2, 3].map(NodeId));
    let mut twice = all.clone();
    twice.learners.insert(NodeId(2));
    for m in [
        snapshot(0, 1, all.clone()),
        snapshot(100, 0, all.clone()),
        snapshot(100, 9, all.clone()),
        snapshot(100, 1, Members::default()),
        snapshot(100, 1, Members::of_voters([NodeId(0), NodeId(2)])),
        snapshot(100, 1, Members::of_voters([NodeId(1), NodeId(3)])),
        snapshot(100, 1, twice),
    ] {
        assert!(dropped(&mut net, 1, 2, m));
    }
    let mut other = snapshot(committed, 2, all);
    other.term = 2;
    assert!(dropped(&mut net, 1, 2, other));
}

#[test]
fn a_transfer_from_a_stranger_is_dropped() {
    let mut net = group();
    assert!(dropped(&mut net, 3, 2, message(MessageType::MsgTimeoutNow, 1)));
    assert!(dropped(&mut net, 1, 2, message(MessageType::MsgTimeoutNow, 2)));
    assert!(!dropped(&mut net, 1, 2, message(MessageType::MsgTimeoutNow, 1)));
}

#[test]
fn answers_from_strangers_and_empty_proposals_do_no_harm() {
    let mut net = group();
    dropped(&mut net, 9, 1, Message { index: 1, ..message(MessageType::MsgAppendResponse, 1) });
    dropped(&mut net, 9, 1, message(MessageType::MsgHeartbeatResponse, 1));
    net.input(1, Input::Propose(Bytes::new()));
    net.deliver();
    let last = net.committed[&1].last().unwrap();
    assert!(last.kind == verity_contract::CommittedKind::Normal && last.payload.is_empty(), "{last:?}");
}

#[test]
fn a_vote_while_the_log_is_not_stable_is_dropped() {
    let mut net = group();
    let mut out = Vec::new();
    let last = net.nodes[&2].status().last.0;
    let mut m = Message { index: last, log_term: 1, ..message(MessageType::MsgAppend, 1) };
    m.set_entries(vec![Entry { term: 1, index: last + 1, ..Entry::default() }].into());
    let bytes = encode(&Frame::Raft { message: m, round: 0, sleep: false });
    let now = net.now;
    let node = net.nodes.get_mut(&2).unwrap();
    // Nobody says `Persisted`.
    node.on(now, Input::Message { from: NodeId(1), bytes }, &mut out);
    for step in 1..100u64 {
        node.on(Mono(now.0 + step * 25_000_000), Input::Tick, &mut out);
    }
    assert!(!node.log_is_stable() && node.status().term.0 == 1, "it does not stand for election either");
    net.now.0 += 10_000_000_000;
    assert!(dropped(&mut net, 3, 2, message(MessageType::MsgRequestVoteResponse, 1)));
}

/// Raft §5.4.2 and its figure 8: copies of an earlier term's entry on a majority do not commit it.
#[test]
fn an_earlier_terms_entry_is_not_committed_by_counting() {
    let mut net = group();
    net.cut.extend([(1, 3), (2, 1)]);
    net.input(1, Input::Propose(Bytes::from_static(b"early")));
    net.deliver();
    let early = net.nodes[&2].status().last.0;
    assert_eq!(net.nodes[&1].status().committed.0, early - 1);
    net.cut.extend([(1, 2), (3, 1)]);
    while !net.nodes[&2].leads() {
        net.now.0 += 25_000_000;
        net.input(2, Input::Tick);
        net.input(3, Input::Tick);
        // Votes pass, appends do not: node 3 never gets the entry, it only seems to say so below.
        net.flying.retain(|(_, _, bytes)| bytes[1] != 1);
        let flying = std::mem::take(&mut net.flying);
        for (from, to, bytes) in flying {
            net.input(to, Input::Message { from: NodeId(from), bytes });
        }
    }
    net.flying.clear();
    let term = net.nodes[&2].status().term.0;
    assert!(term > 1);
    let answer = |index| Message { index, ..message(MessageType::MsgAppendResponse, term) };
    assert!(!dropped(&mut net, 3, 2, answer(early)));
    assert_eq!(net.nodes[&2].status().committed.0, early - 1, "a majority holds it, and yet it is not committed");
    assert!(!dropped(&mut net, 3, 2, answer(early + 1)));
    assert_eq!(net.nodes[&2].status().committed.0, early + 1, "an entry of the term commits it along");
}

#[test]
#[should_panic(expected = "only what was put out can be persisted")]
fn a_driver_that_invents_persists_is_stopped() {
    let mut net = group();
    net.input(1, Input::Persisted(PersistId(1_000)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Real messages with a few bytes changed, cut short, or handed to the wrong node.
    #[test]
    fn mutated_messages_never_panic(
        mutations in proptest::collection::vec((0u8..4, any::<u16>(), any::<u8>(), 1u64..=4, 1u64..=3), 60..120)
    ) {
        let mut net = net(3, 3, Config::default());
        for (kind, place, value, from, to) in mutations {
            net.now.0 += 25_000_000;
            for id in 1..=3 {
                net.input(id, Input::Tick);
            }
            if let Some(leader) = (1..=3).find(|id| net.nodes[id].leads()) {
                net.input(leader, Input::Propose(Bytes::from_static(b"payload")));
            }
            for (sender, receiver, bytes) in std::mem::take(&mut net.flying) {
                let mut bad = BytesMut::from(&bytes[..]);
                let place = usize::from(place) % bad.len();
                match kind {
                    0 => bad[place] = value,
                    1 => bad.truncate(place),
                    2 => bad[place] = bad[place].wrapping_add(1),
                    _ => {}
                }
                let (sender, receiver) = if kind == 3 { (from, to) } else { (sender, receiver) };
                let from = NodeId(sender);
                feed(&mut net, receiver, from, bad.freeze());
                net.input(receiver, Input::Message { from, bytes });
            }
        }
    }
}

/// A mutated message may be a lie that no honest peer tells, so only panics count, not agreement.
fn feed(net: &mut Net, to: u64, from: NodeId, bytes: Bytes) {
    net.input(to, Input::Message { from, bytes });
}
