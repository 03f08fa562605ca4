//! Frames survive the way through bytes, and other bytes do no harm.

use bytes::Bytes;
use proptest::prelude::*;
use raft::eraftpb::{Entry, Message, MessageType};

use crate::message::{Frame, Nonce, encode, parse, put_number, take_number};
use crate::{Error, MAX_MESSAGE_BYTES};

fn append(entries: usize) -> Message {
    let mut m = Message { term: 7, log_term: 3, index: 9, commit: 8, ..Message::default() };
    m.set_msg_type(MessageType::MsgAppend);
    let entry =
        |offset: u64| Entry { term: 7, index: 10 + offset, data: Bytes::from(vec![1; 300]), ..Entry::default() };
    m.set_entries((0..entries as u64).map(entry).collect::<Vec<_>>().into());
    m
}

#[test]
fn frames_survive() {
    let frames = [
        Frame::Raft { message: append(3), round: 0, sleep: false },
        Frame::ReadRequest(Nonce { incarnation: 3, seq: 300 }),
        Frame::ReadReply { nonce: Nonce { incarnation: 3, seq: 300 }, index: Some(77) },
        Frame::ReadReply { nonce: Nonce { incarnation: 0, seq: 1 }, index: None },
        Frame::Wake,
    ];
    for frame in frames {
        assert_eq!(parse(encode(&frame)).unwrap(), frame);
    }
}

#[test]
fn a_heartbeat_is_small_and_entries_are_slices() {
    let mut beat = Message { term: 1_000, commit: 1_000_000, ..Message::default() };
    beat.set_msg_type(MessageType::MsgHeartbeat);
    assert!(encode(&Frame::Raft { message: beat, round: 100_000, sleep: false }).len() <= 12);
    let bytes = encode(&Frame::Raft { message: append(2), round: 0, sleep: false });
    let Frame::Raft { message, .. } = parse(bytes.clone()).unwrap() else { panic!("an append") };
    assert!(bytes.as_ptr_range().contains(&message.entries[1].data.as_ptr()), "no copy is made");
}

#[test]
fn counts_and_lengths_are_bounded_by_the_frame() {
    let huge = Bytes::from(vec![0; MAX_MESSAGE_BYTES + 1]);
    let count = Bytes::from_static(&[1, 1, 5, 4, 9, 8, 0xff, 0xff, 0xff, 0x7f]);
    let version = Bytes::from_static(&[2, 13]);
    let long = Bytes::from_static(&[1, 10, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1]);
    for bytes in [huge, count, version, long, Bytes::new(), Bytes::from_static(&[1, 13, 0])] {
        assert!(matches!(parse(bytes), Err(Error::InvalidMessage(_))));
    }
}

proptest! {
    #[test]
    fn numbers_survive(value in 0u64..1 << 63) {
        let mut out = bytes::BytesMut::new();
        put_number(&mut out, value);
        prop_assert_eq!(take_number(&mut out.freeze()).unwrap(), value);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(frame) = parse(Bytes::from(bytes)) {
            prop_assert_eq!(parse(encode(&frame)).unwrap(), frame);
        }
    }
}
