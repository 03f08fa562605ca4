//! Any bytes, cut anywhere, in any order of commits: nothing panics, nothing is said to the closed, and what a client is
//! told is in the order of what it asked.

use proptest::prelude::*;

use super::client::{Client, Got, create, framed, hello, packet};
use super::world::World;
use crate::session::DutyConfig;
use crate::wire::{
    AddWatch, Decode as _, Encode as _, GetDataResponse, OpCode, PathOnly, PathVersion, PathWatch, RequestHeader,
    SetDataRequest,
};

fn op() -> impl Strategy<Value = i32> {
    prop_oneof![(-12i32..30), (98i32..110), any::<i32>()]
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (op(), prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(op, body)| {
            let mut bytes = RequestHeader { xid: 1, op }.to_bytes();
            bytes.extend(body);
            framed(&bytes)
        }),
        (op(), 0usize..3).prop_map(|(op, path)| {
            let mut bytes = RequestHeader { xid: 1, op }.to_bytes();
            ["/", "/a", ""][path].encode(&mut bytes);
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 0]);
            framed(&bytes)
        }),
        Just(hello(0, &[0; 16], 4000, 0, true)),
        Just(b"mntr".to_vec()),
    ]
}

#[derive(Clone, Debug)]
enum Deed {
    Bytes(usize, Vec<u8>),
    Hello(usize),
    HangUp(usize),
    Settle,
    Order,
    Apply,
    Pass(u64),
    Elect(Option<usize>),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        8 => (0usize..4, piece()).prop_map(|(c, bytes)| Deed::Bytes(c, bytes)),
        2 => (0usize..4).prop_map(Deed::Hello),
        1 => (0usize..4).prop_map(Deed::HangUp),
        2 => Just(Deed::Settle),
        2 => Just(Deed::Order),
        2 => Just(Deed::Apply),
        1 => (1u64..8000).prop_map(Deed::Pass),
        1 => prop::option::of(0usize..2).prop_map(Deed::Elect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_comes_in_breaks_a_node(deeds in prop::collection::vec(deed(), 1..60)) {
        let change = |config: &mut crate::session::Config| {
            config.local_sessions = config.node.0 == 2;
            config.upgrade_local_sessions = true;
            config.outstanding_max = 5;
            config.packet_size_max = 200;
        };
        let mut w = World::with(2, change, DutyConfig::default());
        let mut clients: Vec<Client> = (0..4).map(|at| w.dial(at % 2)).collect();
        for deed in deeds {
            match deed {
                Deed::Bytes(at, bytes) if !w.is_closed(clients[at]) => w.send(clients[at], &bytes),
                Deed::Hello(at) => {
                    if !w.is_closed(clients[at]) {
                        w.hang_up(clients[at]);
                    }
                    clients[at] = w.dial(at % 2);
                    w.send(clients[at], &hello(0, &[0; 16], 4000, 0, at > 1));
                }
                Deed::HangUp(at) if !w.is_closed(clients[at]) => w.hang_up(clients[at]),
                Deed::Bytes(..) | Deed::HangUp(_) => {}
                Deed::Settle => w.settle(),
                Deed::Order => w.order(),
                Deed::Apply => w.apply(0),
                Deed::Pass(millis) => w.advance(millis),
                Deed::Elect(leader) => w.elect(leader),
            }
        }
        w.settle();
    }

    /// One client, requests in one stream, commits at any moment: replies in order, zxids never back, and each read
    /// shows the last write before it.
    #[test]
    fn a_session_is_a_queue(
        kinds in prop::collection::vec(0u8..6, 1..60),
        cuts in prop::collection::vec(1usize..90, 1..40),
        linearizable in any::<bool>(),
    ) {
        let mut w = World::with(1, |config| config.linearizable_reads = linearizable, DutyConfig::default());
        let c = w.connect(0);
        w.make(c, "/a");
        w.set(c, "/a", &0i32.to_be_bytes());
        let mut bytes = Vec::new();
        for (xid, kind) in (1..).zip(&kinds) {
            let data = i32::to_be_bytes(xid);
            bytes.extend(match kind {
                0 | 1 => packet(xid, OpCode::SetData, &SetDataRequest { path: "/a", data: Some(&data), version: -1 }),
                2 | 3 => packet(xid, OpCode::GetData, &PathWatch { path: "/a", watch: *kind == 3 }),
                4 => packet(xid, OpCode::Sync, &PathOnly { path: "/" }),
                _ => packet(xid, OpCode::AddWatch, &AddWatch { path: "/b", mode: 0 }),
            });
        }
        let mut rest = &bytes[..];
        let mut got = Vec::new();
        for (turn, cut) in cuts.iter().enumerate() {
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            w.send(c, head);
            rest = tail;
            match turn % 3 {
                0 => w.order(),
                1 => w.apply(0),
                _ => {}
            }
            got.extend(w.got(c));
        }
        w.send(c, rest);
        w.settle();
        got.extend(w.got(c));
        let (mut next, mut written, mut zxids, mut watched) = (1, 0, 0, false);
        for got in got {
            let (xid, zxid, body) = match got {
                Got::Reply { xid, zxid, err: 0, body } => (xid, zxid, body),
                Got::Event { kind: 3, path } => {
                    prop_assert!(watched && path == "/a", "an event that nobody asked for");
                    watched = false;
                    continue;
                }
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(xid, next);
            prop_assert!(zxid >= zxids);
            (next, zxids) = (next + 1, zxid);
            match kinds[usize::try_from(xid).unwrap() - 1] {
                0 | 1 => {
                    prop_assert!(!watched, "the event comes before the reply");
                    written = xid;
                }
                kind @ (2 | 3) => {
                    let data = GetDataResponse::from_bytes(&body).unwrap().data.unwrap();
                    prop_assert_eq!(data, written.to_be_bytes());
                    watched |= kind == 3;
                }
                _ => {}
            }
        }
        prop_assert_eq!(usize::try_from(next).unwrap(), kinds.len() + 1);
    }
}

#[test]
fn a_delete_behind_reads_of_any_kind_is_in_order() {
    let mut w = World::new(1);
    let c = w.connect(0);
    let mut bytes = packet(1, OpCode::Create, &create("/a", 0));
    w.sync(c, 0);
    bytes.extend(packet(2, OpCode::GetChildren, &PathWatch { path: "/", watch: true }));
    bytes.extend(packet(3, OpCode::Delete, &PathVersion { path: "/a", version: -1 }));
    w.send(c, &bytes);
    w.settle();
    assert_eq!(super::client::xids(&w.got(c)), [0, 1, 2, -1, 3]);
}
