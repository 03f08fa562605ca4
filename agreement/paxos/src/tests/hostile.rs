//! Messages that no correct peer sends, messages from strangers, and random mutations of good ones.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use verity_contract::{Agreement, Input, PersistId};
use verity_types::NodeId;

use super::net::{Net, campaign, is_dropped, net};
use crate::Config;
use crate::message::{Ballot, Frame, LAST_SLOT, Value};

/// Node 1 leads a group of three, nodes 4 and 5 stand aside.
fn group() -> Net {
    let mut net = net(3, 5, Config::default());
    campaign(&mut net, 1);
    net.deliver();
    for _ in 0..3 {
        net.input(1, Input::Propose(Bytes::from_static(b"x")));
        net.deliver();
    }
    net.tick(&[1, 2, 3], 4);
    net
}

fn ballot(round: u64, node: u64) -> Ballot {
    Ballot(round << 16 | node)
}

#[test]
fn a_ballot_of_another_node_is_dropped() {
    let mut net = group();
    let (ballot, decided) = (ballot(9, 3), 4);
    let frames = [
        Frame::Prepare { ballot, from: 5, decided },
        Frame::Accept { ballot, decided, first: 5, values: vec![Value::noop(1)] },
        Frame::Decide { ballot, decided },
        Frame::Ping { ballot, round: 1, decided, leads: true, sleep: false },
        Frame::TakeOver { ballot },
    ];
    for frame in frames {
        assert!(is_dropped(&mut net, 1, 2, &frame), "{frame:?}");
    }
    assert_eq!(net.nodes[&2].status().leader, Some(NodeId(1)));
}

#[test]
fn a_stranger_that_knows_no_more_is_dropped() {
    let mut net = group();
    let (ballot, decided) = (ballot(9, 4), 4);
    assert!(is_dropped(&mut net, 4, 2, &Frame::Prepare { ballot, from: 5, decided }));
    assert!(is_dropped(&mut net, 4, 2, &Frame::Accept { ballot, decided, first: 5, values: vec![Value::noop(1)] }));
    assert!(
        is_dropped(&mut net, 0, 2, &Frame::Fetch { from: 1 }) && is_dropped(&mut net, 2, 2, &Frame::Fetch { from: 1 })
    );
    is_dropped(&mut net, 4, 2, &Frame::Ping { ballot, round: 1, decided, leads: true, sleep: false });
    assert_eq!(net.nodes[&2].status().leader, Some(NodeId(1)), "nobody follows a stranger");
    assert_eq!(net.nodes[&2].promised, self::ballot(1, 1));
}

#[test]
fn a_stranger_that_knows_more_may_come_from_a_later_configuration() {
    let mut net = group();
    let ballot = ballot(9, 4);
    assert!(!is_dropped(&mut net, 4, 2, &Frame::Prepare { ballot, from: 8, decided: 7 }));
    assert_eq!(net.nodes[&2].promised, ballot);
}

#[test]
fn slots_out_of_the_window_are_dropped() {
    let mut net = group();
    let ballot = ballot(9, 3);
    for first in [0, 1 << 20, LAST_SLOT] {
        assert!(is_dropped(&mut net, 3, 2, &Frame::Accept { ballot, decided: 4, first, values: vec![Value::noop(1)] }));
    }
    assert!(is_dropped(&mut net, 3, 2, &Frame::Accept { ballot, decided: 4, first: 5, values: Vec::new() }));
    assert!(is_dropped(&mut net, 3, 2, &Frame::Learn { decided: 4, first: 5, values: vec![(ballot, Value::noop(1))] }));
    assert!(is_dropped(&mut net, 2, 1, &Frame::Accepted { ballot: self::ballot(1, 1), first: 9, last: 8, decided: 4 }));
}

#[test]
fn acceptances_of_what_was_never_proposed_decide_nothing() {
    let mut net = group();
    let ballot = net.nodes[&1].promised;
    for from in 2..=5 {
        is_dropped(&mut net, from, 1, &Frame::Accepted { ballot, first: 1, last: LAST_SLOT, decided: LAST_SLOT });
    }
    assert_eq!(net.nodes[&1].status().committed.0, 4);
}

#[test]
fn answers_of_strangers_count_for_nothing() {
    let mut net = group();
    net.cut.extend([(1, 2), (1, 3), (2, 1), (3, 1)]);
    net.input(1, Input::Propose(Bytes::from_static(b"alone")));
    let ballot = net.nodes[&1].promised;
    for from in 4..=5 {
        is_dropped(&mut net, from, 1, &Frame::Accepted { ballot, first: 5, last: 5, decided: 4 });
    }
    assert_eq!(net.nodes[&1].status().committed.0, 4);
    for node in [2, 3] {
        is_dropped(&mut net, node, 1, &Frame::Reject { ballot, promised: self::ballot(2, node) });
    }
    assert!(!net.nodes[&1].leads(), "voters that promised more end it");
}

#[test]
fn a_hand_over_from_nobody_in_charge_is_ignored() {
    let mut net = group();
    is_dropped(&mut net, 3, 2, &Frame::TakeOver { ballot: ballot(1, 3) });
    is_dropped(&mut net, 1, 2, &Frame::TakeOver { ballot: ballot(7, 1) });
    assert_eq!(net.nodes[&2].promised, ballot(1, 1));
    is_dropped(&mut net, 1, 2, &Frame::TakeOver { ballot: ballot(1, 1) });
    assert_eq!(net.nodes[&2].promised, ballot(2, 2));
}

#[test]
fn rounds_end_without_a_panic() {
    let mut net = group();
    let last = Ballot((1 << 60) - (1 << 16) + 3);
    is_dropped(&mut net, 3, 2, &Frame::Prepare { ballot: last, from: 5, decided: 4 });
    net.cut.extend([(1, 2), (2, 1), (3, 2), (2, 3)]);
    net.tick(&[2], 100);
    assert_eq!(net.nodes[&2].promised, last, "no ballot is above the last");
}

#[test]
#[should_panic(expected = "only what was put out can be persisted")]
fn a_driver_that_invents_persists_is_stopped() {
    let mut net = group();
    net.input(1, Input::Persisted(PersistId(1_000)));
}

#[test]
fn too_much_uncommitted_is_refused() {
    let mut net = net(3, 3, Config { uncommitted_bytes_max: 1 << 20, ..Config::default() });
    campaign(&mut net, 1);
    net.deliver();
    for _ in 0..20 {
        net.input(1, Input::Propose(Bytes::from(vec![0; 100_000])));
    }
    let refused = net.answers.len();
    assert!((9..=11).contains(&refused), "{refused} of twenty are refused");
    net.deliver();
    net.input(1, Input::Propose(Bytes::from(vec![0; 100_000])));
    assert_eq!(net.answers.len(), refused, "what is decided makes room");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Real messages with a byte changed, cut short, or handed to the wrong node. A mutated message may be a lie that no
    /// honest peer tells, so only panics count, not agreement.
    #[test]
    fn mutated_messages_never_panic(
        mutations in proptest::collection::vec((0u8..4, any::<u16>(), any::<u8>(), 1u64..=4, 1u64..=3), 60..120)
    ) {
        let mut net = net(3, 3, Config::default());
        for (kind, place, value, from, to) in mutations {
            net.now.0 += 25_000_000;
            (1..=3).for_each(|id| net.input(id, Input::Tick));
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
                net.input(receiver, Input::Message { from, bytes: bad.freeze() });
                net.input(receiver, Input::Message { from, bytes });
            }
        }
    }
}
