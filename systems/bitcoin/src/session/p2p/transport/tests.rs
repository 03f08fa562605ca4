//! Both transports: the BIP's vectors, and two ends joined back to back.

use proptest::prelude::*;

use super::cipher::{Cipher, KeyPair, LENGTH_SIZE};
use super::{Entropy, Transport, TransportError};
use crate::wire::{Frame, FrameError};

const MAGIC: [u8; 4] = [0xfa, 0xbf, 0xb5, 0xda];

fn hex(text: &str) -> Vec<u8> {
    let text = if text == "-" { "" } else { text };
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn packets_are_those_of_the_bip() {
    let cases = include_str!("../../../../testdata/bip324.txt").lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for line in cases {
        let field: Vec<&str> = line.split(" | ").collect();
        let pair = KeyPair::from_parts(hex(field[1]).try_into().unwrap(), hex(field[2]).try_into().unwrap());
        // The vectors are of the main network.
        let magic = [0xf9, 0xbe, 0xb4, 0xd9];
        let mut cipher = Cipher::new(magic, &pair, hex(field[3]).try_into().unwrap(), field[4] == "true");
        assert_eq!(cipher.send_terminator[..], hex(field[9]));
        assert_eq!(cipher.recv_terminator[..], hex(field[10]));
        assert_eq!(cipher.session[..], hex(field[11]));
        for _ in 0..field[0].parse::<usize>().unwrap() {
            cipher.encrypt(&[], &[], true, &mut Vec::new());
        }
        let content = hex(field[5]).repeat(field[6].parse().unwrap());
        let mut packet = Vec::new();
        cipher.encrypt(&[&content], &hex(field[7]), field[8] == "true", &mut packet);
        if field[12] != "-" {
            assert_eq!(packet, hex(field[12]));
        }
        if field[13] != "-" {
            assert!(packet.ends_with(&hex(field[13])));
        }
        count += 1;
    }
    assert!(count >= 5, "the vectors were read");
}

fn entropy(seed: u8, garbage: usize) -> Entropy {
    Entropy { secret: [seed; 32], noise: [seed ^ 0xff; 32], garbage: vec![seed; garbage] }
}

/// Two ends, and what is on the way to each.
struct Pair {
    ends: [Transport; 2],
    way: [Vec<u8>; 2],
    got: [Vec<Frame>; 2],
}

impl Pair {
    fn new(first: Transport, second: Transport) -> Self {
        Self { ends: [first, second], way: [Vec::new(), Vec::new()], got: [Vec::new(), Vec::new()] }
    }

    fn send(&mut self, from: usize, command: &str, payload: &[u8]) {
        let way = &mut self.way[1 - from];
        self.ends[from].send(command, payload.to_vec(), way);
    }

    /// Delivers in pieces of this size until nothing is on the way.
    fn run(&mut self, piece: usize) -> Result<(), TransportError> {
        for end in 0..2 {
            self.ends[end].flush(&mut self.way[1 - end]);
        }
        while self.way.iter().any(|way| !way.is_empty()) {
            for end in 0..2 {
                let size = piece.min(self.way[end].len());
                let bytes: Vec<u8> = self.way[end].drain(..size).collect();
                let mut rest = &bytes[..];
                while let Some(frame) = self.ends[end].next(&mut rest)? {
                    self.got[end].push(frame);
                }
                assert!(rest.is_empty());
                self.ends[end].flush(&mut self.way[1 - end]);
            }
        }
        Ok(())
    }
}

#[test]
fn a_cipher_is_agreed_upon_and_messages_wait_for_it() {
    for piece in [1, 7, 100_000] {
        let first = Transport::v2(MAGIC, true, entropy(1, 100));
        let mut pair = Pair::new(first, Transport::v2(MAGIC, false, entropy(2, 4_095)));
        pair.send(0, "version", b"hello");
        pair.run(piece).unwrap();
        pair.send(1, "sendtxrcncl", b"long name");
        pair.send(1, "inv", b"short name");
        pair.run(piece).unwrap();
        assert_eq!((pair.ends[0].name(), pair.ends[1].name()), ("v2", "v2"));
        assert_eq!(pair.ends[0].session(), pair.ends[1].session());
        assert_eq!(pair.ends[0].session().len(), 64);
        assert_eq!((pair.got[1][0].command.as_str(), &pair.got[1][0].payload[..]), ("version", &b"hello"[..]));
        let names: Vec<&str> = pair.got[0].iter().map(|frame| frame.command.as_str()).collect();
        assert_eq!(names, ["sendtxrcncl", "inv"]);
    }
}

#[test]
fn keys_change_and_both_ends_follow() {
    let mut pair = Pair::new(Transport::v2(MAGIC, true, entropy(1, 0)), Transport::v2(MAGIC, false, entropy(2, 0)));
    for round in 0..700_u32 {
        pair.send(0, "ping", &round.to_le_bytes());
        pair.send(1, "pong", &round.to_le_bytes());
    }
    pair.run(1_000).unwrap();
    assert!(pair.got.iter().all(|got| got.len() == 700 && got[699].payload == 699_u32.to_le_bytes()));
}

#[test]
fn a_responder_knows_an_old_peer_by_its_first_bytes() {
    let mut pair = Pair::new(Transport::v1(MAGIC), Transport::v2(MAGIC, false, entropy(2, 10)));
    pair.send(0, "version", b"old");
    pair.run(3).unwrap();
    pair.send(1, "verack", b"");
    pair.run(3).unwrap();
    assert_eq!(pair.ends[1].name(), "v1");
    assert_eq!((pair.got[0][0].command.as_str(), pair.got[1][0].command.as_str()), ("verack", "version"));
}

#[test]
fn an_old_peer_of_another_network_is_refused() {
    let mut pair = Pair::new(Transport::v1([1, 2, 3, 4]), Transport::v2(MAGIC, false, entropy(2, 10)));
    pair.send(0, "version", b"old");
    assert_eq!(pair.run(100), Err(TransportError::OtherNetwork([1, 2, 3, 4])));
}

#[test]
fn an_initiator_that_hears_nothing_may_fall_back() {
    let mut initiator = Transport::v2(MAGIC, true, entropy(1, 0));
    assert!(initiator.should_fall_back());
    initiator.next(&mut &[1_u8, 2, 3][..]).unwrap();
    assert!(!initiator.should_fall_back());
}

#[test]
fn garbage_that_does_not_end_is_refused() {
    let mut end = Transport::v2(MAGIC, false, entropy(2, 0));
    let noise = vec![7; 64 + 4_095 + 16];
    assert!(matches!(end.next(&mut &noise[..noise.len() - 1]), Ok(None)));
    assert_eq!(end.next(&mut &noise[..1]), Err(TransportError::NoTerminator));
}

#[test]
fn a_changed_packet_is_refused() {
    let mut pair = Pair::new(Transport::v2(MAGIC, true, entropy(1, 0)), Transport::v2(MAGIC, false, entropy(2, 0)));
    pair.run(1_000).unwrap();
    pair.send(0, "ping", b"12345678");
    *pair.way[1].last_mut().unwrap() ^= 1;
    assert!(matches!(pair.run(1_000), Err(TransportError::Changed(_))));
}

#[test]
fn decoys_are_skipped() {
    let pair = KeyPair::new([3; 32], [4; 32]);
    let other = KeyPair::new([5; 32], [6; 32]);
    let mut one = Cipher::new(MAGIC, &pair, other.public(), true);
    let mut two = Cipher::new(MAGIC, &other, pair.public(), false);
    let mut bytes = Vec::new();
    one.encrypt(&[b"nothing"], b"aad", true, &mut bytes);
    let length = two.decrypt_length(bytes[..LENGTH_SIZE].try_into().unwrap());
    assert_eq!(length, 7);
    let (content, speaks) = two.decrypt(&mut bytes[LENGTH_SIZE..], b"aad").unwrap();
    assert_eq!((content, speaks), (&b"nothing"[..], false));
}

#[test]
fn in_the_open_a_wrong_sum_or_name_costs_one_message() {
    let mut bytes = crate::wire::encode_frame(MAGIC, "ping", b"12345678");
    bytes[20] ^= 1;
    bytes.extend(crate::wire::encode_frame(MAGIC, "pi\u{1}g", b""));
    bytes.extend(crate::wire::encode_frame(MAGIC, "pong", b""));
    let (mut end, mut rest) = (Transport::v1(MAGIC), &bytes[..]);
    let first = end.next(&mut rest).unwrap().unwrap();
    assert!(matches!(first.skip, Some(FrameError::Checksum { .. })));
    let second = end.next(&mut rest).unwrap().unwrap();
    assert!(matches!(second.skip, Some(FrameError::Command { .. })));
    assert_eq!(end.next(&mut rest).unwrap().unwrap().command, "pong");
    let large = [&MAGIC[..], b"block\0\0\0\0\0\0\0", &4_000_001_u32.to_le_bytes(), &[0; 4]].concat();
    assert!(matches!(end.next(&mut &large[..]), Err(TransportError::Frame(FrameError::Size { .. }))));
}

proptest! {
    #[test]
    fn no_bytes_break_a_responder(bytes in proptest::collection::vec(any::<u8>(), 0..6_000)) {
        let mut end = Transport::v2(MAGIC, false, entropy(2, 5));
        let mut rest = &bytes[..];
        while let Ok(Some(_)) = end.next(&mut rest) {}
    }
}
