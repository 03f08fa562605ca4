//! A subscriber, by the bytes that libzmq sends.

use proptest::prelude::*;

use super::*;

/// What libzmq 4.3 sends as a SUB socket: its greeting (version 3.1), and READY.
fn hello() -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1];
    bytes.extend(b"NULL");
    bytes.resize(64, 0);
    bytes.extend([4, 25, 5]);
    bytes.extend(b"READY");
    bytes.extend([11]);
    bytes.extend(b"Socket-Type");
    bytes.extend([0, 0, 0, 3]);
    bytes.extend(b"SUB");
    bytes[65] = u8::try_from(bytes.len() - 66).expect("short");
    bytes
}

fn message(topic: Topic, number: u32) -> Message {
    Message { topic, body: vec![7; 32], number }
}

fn ready() -> Subscriber {
    let mut subscriber = Subscriber::new(2);
    subscriber.on_bytes(&hello()).expect("well formed");
    subscriber.on_bytes(b"\x00\x05\x01hash").expect("well formed");
    assert_eq!(subscriber.poll().expect("a greeting").len(), 64 + 2 + 6 + 12 + 4 + 3 + 9 + 4);
    subscriber
}

#[test]
fn three_frames_a_message() {
    let mut subscriber = ready();
    subscriber.publish(&message(Topic::HashTx, 258));
    let mut expected = b"\x01\x06hashtx\x01\x20".to_vec();
    expected.extend([7; 32]);
    expected.extend([0, 4, 2, 1, 0, 0]);
    assert_eq!(subscriber.poll(), Some(expected));
    assert_eq!(subscriber.poll(), None);
}

#[test]
fn only_what_was_asked_for() {
    let mut subscriber = ready();
    subscriber.publish(&message(Topic::RawTx, 0));
    assert_eq!(subscriber.poll(), None);
    subscriber.on_bytes(b"\x04\x0d\x09SUBSCRIBEraw").expect("well formed");
    subscriber.publish(&message(Topic::RawTx, 1));
    assert!(subscriber.poll().is_some());
    subscriber.on_bytes(b"\x00\x04\x00raw").expect("well formed");
    subscriber.publish(&message(Topic::RawTx, 2));
    assert_eq!(subscriber.poll(), None);
}

#[test]
fn whoever_does_not_read_misses_the_rest() {
    let mut subscriber = ready();
    for number in 0..5 {
        subscriber.publish(&message(Topic::HashBlock, number));
    }
    let numbers: Vec<u8> = std::iter::from_fn(|| subscriber.poll()).map(|bytes| bytes[bytes.len() - 4]).collect();
    assert_eq!(numbers, [0, 1]);
}

#[test]
fn pings_are_answered() {
    let mut subscriber = ready();
    subscriber.on_bytes(b"\x04\x09\x04PING\x00\x0aab").expect("well formed");
    assert_eq!(subscriber.poll().as_deref(), Some(&b"\x04\x07\x04PONGab"[..]));
}

#[test]
fn strangers_are_sent_away() {
    for (bytes, error) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), ZmtpError::Greeting),
        (
            {
                let mut bytes = hello();
                bytes[12..17].copy_from_slice(b"PLAIN");
                bytes
            },
            ZmtpError::Mechanism,
        ),
        ([hello(), vec![0x08, 0]].concat(), ZmtpError::Frame),
        ([hello(), vec![0x02, 0xff, 0, 0, 0, 0, 0, 0, 0]].concat(), ZmtpError::TooLong),
        ([&hello()[..64], b"\x00\x01\x01"].concat(), ZmtpError::NoSubscriber),
    ] {
        assert_eq!(Subscriber::new(0).on_bytes(&bytes), Err(error));
    }
}

#[test]
fn counts_go_by_topic() {
    let mut publisher = Publisher::new([Topic::Sequence]);
    let mut out = Vec::new();
    publisher.add_sequence(&mut out, vec![1; 32], b'A', Some(5));
    publisher.add_sequence(&mut out, vec![2; 32], b'C', None);
    publisher.add(&mut out, Topic::HashBlock, Vec::new);
    assert_eq!(out.iter().map(|message| (message.number, message.body.len())).collect::<Vec<_>>(), [(0, 41), (1, 33)]);
}

proptest! {
    #[test]
    fn bytes_may_be_cut_anywhere(cut in 0_usize..110) {
        let bytes = [hello(), b"\x00\x02\x01h".to_vec()].concat();
        let (head, tail) = bytes.split_at(cut.min(bytes.len()));
        let mut subscriber = Subscriber::new(0);
        subscriber.on_bytes(head).expect("well formed");
        subscriber.on_bytes(tail).expect("well formed");
        subscriber.publish(&message(Topic::HashTx, 0));
        let written = std::iter::from_fn(|| subscriber.poll()).count();
        prop_assert_eq!(written, 2);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Subscriber::new(0).on_bytes(&bytes);
        let _ = Subscriber::new(0).on_bytes(&[hello(), bytes].concat());
    }
}
