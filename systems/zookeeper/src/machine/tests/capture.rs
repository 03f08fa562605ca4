//! Replays what a ZooKeeper 3.8.0 server (extended types on) was asked at random and answered, reply for reply.
//!
//! A line of `testdata/zookeeper-3.8.0.capture`: opcode, session, ids (`scheme=id`, comma separated), request body,
//! then error, zxid and response body; `-` is empty. Children are sorted, since the real server lists them by hash, and
//! stamps of time are zero.

use bytes::Bytes;
use verity_contract::{Effects, StateMachine};

use super::rig::{NODE, Rig, outcome};
use crate::machine::{TreeConfig, create_session, encode_ids, request};
use crate::wire::{Decode, Encode, Id, OpCode, Reader};

/// Stamps of the replay begin with these bytes, and nothing else in it does.
const STAMP: [u8; 5] = [0, 0, 1, 0xa2, 4];

fn unhex(text: &str) -> Vec<u8> {
    if text == "-" {
        return Vec::new();
    }
    assert!(text.len().is_multiple_of(2), "hexadecimal");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal")).collect()
}

fn normal(op: OpCode, mut body: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while at + 8 <= body.len() {
        if body[at..].starts_with(&STAMP) {
            body[at..at + 8].fill(0);
        }
        at += 1;
    }
    if !matches!(op, OpCode::GetChildren | OpCode::GetChildren2 | OpCode::GetEphemerals) || body.is_empty() {
        return body;
    }
    let mut reader = Reader::new(&body);
    let mut names = Vec::<&str>::decode(&mut reader).expect("names");
    names.sort_unstable();
    let mut out = names.to_bytes();
    out.extend_from_slice(reader.rest());
    out
}

fn ids(text: &str) -> Vec<u8> {
    encode_ids(text.split(',').filter_map(|id| id.split_once('=')).map(|(scheme, id)| Id { scheme, id }))
}

#[test]
fn every_reply_of_the_real_server_is_ours() {
    let text = include_str!("../../../testdata/zookeeper-3.8.0.capture");
    let mut rig = Rig::new(TreeConfig { extended_types: true, x509: false, sasl: false, ..TreeConfig::default() });
    rig.time = 0x1a2_0400_0000;
    let mut replies = 0;
    for (at, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let op = OpCode::from_number(words[0].parse().expect("an opcode")).expect("an opcode");
        let session = words[1].parse().expect("a session");
        let bytes = match op {
            OpCode::CreateSession => create_session(session, 30_000, &[0; 16]),
            _ => request(op, session, &ids(words[2]), &unhex(words[3])),
        };
        let (err, zxid, body) = answer(&mut rig, op, bytes);
        let [_, _, _, _, real_err, real_zxid, real_body] = words[..] else { continue };
        replies += 1;
        let real = (real_err.parse(), real_zxid.parse(), unhex(real_body));
        assert_eq!((Ok(err), Ok(zxid), normal(op, body)), real, "line {}: {line}", at + 1);
    }
    rig.tree.check_deep();
    assert!(replies > 1000, "the capture was read");
}

fn answer(rig: &mut Rig, op: OpCode, bytes: Bytes) -> (i32, i64, Vec<u8>) {
    let is_read = matches!(
        op,
        OpCode::Exists
            | OpCode::GetData
            | OpCode::GetAcl
            | OpCode::GetChildren
            | OpCode::GetChildren2
            | OpCode::GetEphemerals
            | OpCode::GetAllChildrenNumber
            | OpCode::MultiRead
    );
    if is_read {
        let (err, body) = rig.ask(&bytes);
        return (err, rig.tree.zxid(), body);
    }
    let command = rig.command(NODE, bytes);
    let mut effects = Effects::default();
    rig.tree.apply(&[command], &mut effects);
    let outcome = outcome(&effects);
    (outcome.err, outcome.zxid, outcome.body)
}
