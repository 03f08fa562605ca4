//! RFC 6455's own examples, and frames of every length.

use bytes::Bytes;

use super::{HANDSHAKE, after, masked, polled};
use crate::{Event, Frame, Limits, Message, RequestNumber, Server, accept_key, close_code};

fn open() -> Server {
    let (mut server, _) = after(Limits::default(), HANDSHAKE);
    server.accept_websocket(RequestNumber(0), Some("chat"));
    assert!(server.is_websocket());
    assert!(matches!(polled(&mut server)[..], [Event::Write(_)]));
    server
}

fn read(bytes: &[u8]) -> Vec<Event> {
    let mut server = open();
    server.on_bytes(Bytes::copy_from_slice(bytes));
    server.invariants();
    polled(&mut server)
}

/// RFC 6455 §1.3.
#[test]
fn the_key_of_the_rfc() {
    assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

/// RFC 6455 §5.7: a single-frame masked text message, and a masked pong.
#[test]
fn masked_frames_of_the_rfc() {
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(read(&hello), [Event::Message(Message::Text("Hello".into()))]);
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(read(&pong), [Event::Message(Message::Pong(Bytes::from_static(b"Hello")))]);
}

/// RFC 6455 §5.7: what a server sends is not masked.
#[test]
fn unmasked_frames_of_the_rfc() {
    assert_eq!(Frame::text("Hello").bytes, &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f][..]);
    assert_eq!(Frame::ping(b"Hello").bytes, &[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f][..]);
    let medium = Frame::binary(&[7; 256]).bytes;
    assert_eq!((&medium[..4], medium.len()), (&[0x82, 0x7e, 0x01, 0x00][..], 260));
    let long = Frame::binary(&[7; 65_536]).bytes;
    assert_eq!((&long[..10], long.len()), (&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0][..], 65_546));
}

/// RFC 6455 §5.7: a fragmented text message, masked here as a client must.
#[test]
fn fragments_of_the_rfc() {
    let sent = [masked(0x01, b"Hel"), masked(0x80, b"lo")].concat();
    assert_eq!(read(&sent), [Event::Message(Message::Text("Hello".into()))]);
    assert!(matches!(read(&[0x01, 0x03, 0x48, 0x65, 0x6c])[0], Event::Refuse(_)), "without a mask it is refused");
}

#[test]
fn each_length_has_one_form() {
    for length in [0, 1, 125, 126, 127, 255, 65_535, 65_536, 100_000, 1 << 20] {
        let payload: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).expect("small")).collect();
        let expected = Event::Message(Message::Binary(payload.clone().into()));
        assert_eq!(read(&masked(0x82, &payload)), [expected], "{length} bytes");
    }
    let too_long = vec![0; (1 << 20) + 1];
    assert!(matches!(read(&masked(0x82, &too_long))[..], [Event::Refuse(_), Event::Write(_), Event::Close]));
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let frame = Frame::close(close_code::GOING_AWAY, &"ü".repeat(100)).bytes;
    assert_eq!((frame[1], frame.len()), (124, 126));
    assert_eq!(str::from_utf8(&frame[4..]).expect("whole characters"), "ü".repeat(61));
}

#[test]
fn codes_that_are_sent() {
    let sent: Vec<_> = (0..=u16::MAX).filter(|code| close_code::is_sent(*code)).collect();
    assert_eq!(sent[..12], [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014]);
    assert_eq!((sent[12], sent.last(), sent.len()), (3000, Some(&4999), 2012));
}

#[test]
#[should_panic(expected = "speaks HTTP")]
fn frames_are_for_websockets() {
    Server::new(Limits::default()).send(&Frame::text("a"));
}
