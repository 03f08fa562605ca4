//! Frames survive the way through bytes, and other bytes do no harm.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use verity_contract::{Members, SnapshotMeta};
use verity_types::{LogIndex, NodeId, Term};

use crate::message::{Ballot, Frame, Kind, MAX_NUMBER, Nonce, Value, encode, parse, put_number, take_number};
use crate::{Error, MAX_MESSAGE_BYTES};

fn values() -> Vec<Value> {
    let members = Members { learners: [NodeId(9)].into(), ..Members::of_voters([1, 2, 3].map(NodeId)) };
    vec![
        Value::noop(70_000),
        Value { term: 70_001, kind: Kind::Normal, payload: Bytes::from(vec![7; 300]) },
        Value { term: 70_001, kind: Kind::Normal, payload: Bytes::new() },
        Value { term: 70_002, kind: Kind::Members(members), payload: Bytes::from_static(b"context") },
    ]
}

fn frames() -> Vec<Frame> {
    let (ballot, promised, decided, round) = (Ballot(70_003), Ballot(90_001), 300, 4_000);
    let members = Members::of_voters([1, 2, 3].map(NodeId));
    let nonce = Nonce { incarnation: 3, seq: 300 };
    vec![
        Frame::Prepare { ballot, from: 301, decided },
        Frame::Promise {
            ballot,
            decided,
            from: 301,
            to: MAX_NUMBER - 1,
            accepted: values().into_iter().map(|value| (302, ballot, value)).collect(),
        },
        Frame::Reject { ballot, promised },
        Frame::Accept { ballot, decided, first: 301, values: values() },
        Frame::Accepted { ballot, first: 301, last: 304, decided },
        Frame::Decide { ballot, decided },
        Frame::Ping { ballot, round, decided, leads: true, sleep: false },
        Frame::Pong { ballot, round, promised, decided, hears: false, sleep: true },
        Frame::Fetch { from: 0 },
        Frame::Learn { decided, first: 1, values: values().into_iter().map(|value| (ballot, value)).collect() },
        Frame::Snapshot(SnapshotMeta { index: LogIndex(9), term: Term(70_003), members, ..SnapshotMeta::default() }),
        Frame::TakeOver { ballot },
        Frame::ReadRequest(nonce),
        Frame::ReadReply { nonce, index: Some(77) },
        Frame::ReadReply { nonce, index: None },
    ]
}

#[test]
fn frames_survive_and_no_prefix_is_one() {
    for frame in frames() {
        let bytes = encode(&frame);
        assert_eq!(parse(bytes.clone()).unwrap(), frame);
        for end in 0..bytes.len() {
            assert!(matches!(parse(bytes.slice(..end)), Err(Error::InvalidMessage(_))), "{frame:?} cut at {end}");
        }
    }
}

#[test]
fn a_heartbeat_is_small_and_values_are_slices() {
    let ping =
        Frame::Ping { ballot: Ballot(1_000 << 16 | 3), round: 100_000, decided: 1_000_000, leads: true, sleep: false };
    assert!(encode(&ping).len() <= 14);
    let bytes = encode(&Frame::Accept { ballot: Ballot(70_003), decided: 0, first: 1, values: values() });
    let Frame::Accept { values, .. } = parse(bytes.clone()).unwrap() else { panic!("an accept") };
    assert!(bytes.as_ptr_range().contains(&values[1].payload.as_ptr()), "no copy is made");
}

#[test]
fn a_value_is_never_larger_than_it_says() {
    for value in values() {
        let one = Frame::Learn { decided: 1, first: 1, values: vec![(Ballot(MAX_NUMBER - 1), value.clone())] };
        let none = Frame::Learn { decided: 1, first: 1, values: Vec::new() };
        assert!(encode(&one).len() - encode(&none).len() <= value.size());
    }
}

#[test]
fn ballots_of_two_nodes_never_meet() {
    let (mut one, mut two) = (Ballot(0), Ballot(0));
    for _ in 0..10 {
        one = one.max(two).next_of(NodeId(1)).unwrap();
        two = one.next_of(NodeId(65_535)).unwrap();
        assert!(two > one && one.node() == NodeId(1) && two.node() == NodeId(65_535));
    }
    assert_eq!(Ballot(MAX_NUMBER - 1).next_of(NodeId(1)), None, "rounds end");
}

#[test]
fn counts_and_lengths_are_bounded_by_the_frame() {
    let huge = Bytes::from(vec![0; MAX_MESSAGE_BYTES + 1]);
    let count = Bytes::from_static(&[1, 4, 5, 4, 9, 0xff, 0xff, 0xff, 0x7f]);
    let version = Bytes::from_static(&[2, 9, 1]);
    let long = Bytes::from_static(&[1, 9, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1]);
    let beyond = Bytes::from_static(&[1, 9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    let behind = Bytes::from_static(&[1, 9, 1, 0]);
    let nobody = Bytes::from_static(&[1, 11, 9, 9, 0, 0, 0]);
    let twice = Bytes::from_static(&[1, 11, 9, 9, 2, 4, 4, 0, 0]);
    for bytes in [huge, count, version, long, beyond, behind, nobody, twice, Bytes::new()] {
        assert!(matches!(parse(bytes), Err(Error::InvalidMessage(_))));
    }
}

proptest! {
    #[test]
    fn numbers_survive(value in 0u64..MAX_NUMBER) {
        let mut out = BytesMut::new();
        put_number(&mut out, value);
        prop_assert_eq!(take_number(&mut out.freeze()).unwrap(), value);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(frame) = parse(Bytes::from(bytes)) {
            prop_assert_eq!(parse(encode(&frame)).unwrap(), frame);
        }
    }

    #[test]
    fn any_body_is_read_without_panic(kind in 0u8..16, body in proptest::collection::vec(any::<u8>(), 0..100)) {
        let bytes = Bytes::from([&[1, kind], &body[..]].concat());
        if let Ok(frame) = parse(bytes) {
            prop_assert_eq!(parse(encode(&frame)).unwrap(), frame);
        }
    }
}
