//! How sessions begin, move, expire and end.

use super::client::{Got, create, framed, hello, packet, xids};
use super::world::World;
use crate::machine::TreeConfig;
use crate::session::DutyConfig;
use crate::wire::{
    Acl, ConnectBody, CreateTtlRequest, Encode as _, ErrorCode, OpCode, PathOnly, PathVersion, PathWatch,
    RequestHeader, SetDataRequest,
};

const EPHEMERAL: i32 = 1;

fn close_packet(xid: i32) -> Vec<u8> {
    framed(&RequestHeader { xid, op: OpCode::CloseSession.number() }.to_bytes())
}

fn ping() -> Vec<u8> {
    framed(&RequestHeader { xid: -2, op: OpCode::Ping.number() }.to_bytes())
}

#[test]
fn timeouts_are_clamped_and_ids_differ() {
    let mut w = World::new(2);
    let a = w.connect_with(0, &hello(0, &[0; 16], 1000, 0, false));
    let b = w.connect_with(1, &hello(0, &[0; 16], 1_000_000, 0, false));
    assert_eq!((a.timeout, b.timeout), (4000, 40_000));
    assert_ne!(a.session, b.session);
    assert_eq!((a.session >> 56, b.session >> 56), (1, 2));
    assert_ne!(a.password, b.password);
}

#[test]
fn old_clients_get_no_last_byte() {
    let mut w = World::new(1);
    let c = w.dial(0);
    let body = ConnectBody { protocol: 0, last_zxid_seen: 0, timeout: 4000, session: 0, password: Some(&[0; 16]) };
    w.send(c, &framed(&body.to_bytes()));
    w.settle();
    let (c, read_only) = w.greeting(c);
    assert!(c.session != 0 && read_only.is_none());
}

#[test]
fn a_handshake_is_held_until_somebody_leads() {
    let mut w = World::new(1);
    w.elect(None);
    let c = w.dial(0);
    w.send(c, &hello(0, &[0; 16], 4000, 0, false));
    assert_eq!(w.pending(), 0);
    w.advance(1000);
    w.elect(Some(0));
    w.settle();
    assert_ne!(w.greeting(c).0.session, 0);
    // Nobody leads for too long: the connections end, and so does a connect.
    w.elect(None);
    let c2 = w.dial(0);
    w.send(c2, &hello(0, &[0; 16], 4000, 0, false));
    w.advance(6000);
    assert!(w.is_closed(c) && w.is_closed(c2));
}

#[test]
fn a_wrong_password_and_an_unknown_session_are_told_so() {
    let mut w = World::new(1);
    let c = w.connect(0);
    for (session, password) in [(c.session, [9; 16]), (12345, [0; 16])] {
        let other = w.connect_with(0, &hello(session, &password, 4000, 0, false));
        assert_eq!((other.session, other.timeout, other.password), (0, 0, [0; 16]));
        assert!(w.is_closed(other) && !w.is_closed(c));
    }
}

#[test]
fn a_client_ahead_of_the_server_is_refused() {
    let mut w = World::new(1);
    let c = w.dial(0);
    w.send(c, &hello(0, &[0; 16], 4000, 1 << 40, false));
    w.settle();
    assert!(w.is_closed(c) && w.text(c).is_empty());
}

/// A node that lags catches up before it refuses.
#[test]
fn a_client_ahead_of_a_lagging_node_is_served() {
    let mut w = World::new(2);
    let a = w.connect(0);
    w.send(a, &packet(1, OpCode::Create, &create("/a", 0)));
    w.order();
    w.apply(0);
    let Got::Reply { zxid, .. } = w.got(a)[0] else { panic!("an event") };
    let b = w.dial(1);
    w.send(b, &hello(a.session, &a.password, 4000, zxid, false));
    assert_eq!(w.linear_waiting(1), 1);
    w.settle();
    assert_eq!(w.greeting(b).0.session, a.session);
}

#[test]
fn a_session_that_moves_closes_its_old_connection() {
    let mut w = World::new(2);
    let a = w.connect(0);
    w.ask(a, OpCode::Create, &create("/e", EPHEMERAL)).ok();
    // To another connection of the same node.
    let b = w.connect_with(0, &hello(a.session, &a.password, 4000, 0, false));
    assert_eq!((b.session, b.timeout, b.password), (a.session, a.timeout, a.password));
    assert!(w.is_closed(a));
    // To another node, which lags behind: a write by the old one fails.
    let c = w.dial(1);
    w.send(c, &hello(b.session, &b.password, 4000, 0, false));
    w.order();
    w.send(b, &packet(1, OpCode::Create, &create("/late", 0)));
    w.settle();
    assert_eq!(w.greeting(c).0.session, a.session);
    assert!(w.is_closed(b) && w.got(b).is_empty());
    assert!(!w.exists(c, "/late") && w.exists(c, "/e"));
}

#[test]
fn closing_deletes_ephemerals_and_is_replied_to() {
    let mut w = World::new(2);
    let (a, b) = (w.connect(0), w.connect(1));
    w.ask(a, OpCode::Create, &create("/e", EPHEMERAL)).ok();
    assert_eq!(w.watch(b, OpCode::Exists, "/e"), 0);
    w.send(a, &close_packet(9));
    w.settle();
    assert!(matches!(w.got(a)[..], [Got::Reply { xid: 9, err: 0, .. }]));
    assert!(w.is_closed(a));
    assert_eq!(w.got(b), [Got::Event { kind: 2, path: "/e".to_owned() }]);
    assert_eq!(w.nodes[0].duty.sessions(), 1);
}

/// A session expires while what it asked for, its close last, waits for a barrier: nothing is answered any more.
#[test]
fn a_session_that_expires_while_it_closes_is_not_answered() {
    let mut w = World::new(2);
    let c = w.connect(1);
    // The close waits behind a read, which waits for the barrier.
    w.sync(c, 1);
    w.send(c, &[packet(2, OpCode::GetData, &PathWatch { path: "/", watch: false }), close_packet(3)].concat());
    w.expire(c.session);
    w.order();
    w.apply(1);
    assert!(w.is_closed(c));
    w.settle();
    assert_eq!(w.got(c), []);
    // The close is on its way beside the barrier.
    let d = w.connect(1);
    w.sync(d, 1);
    w.expire(d.session);
    w.send(d, &close_packet(2));
    w.settle();
    assert!(w.is_closed(d));
    assert_eq!(w.got(d), []);
}

/// Nor is it told anything: the reply to the read that set the watch may be one of those that are not written.
#[test]
fn a_session_that_expires_while_it_closes_is_told_nothing() {
    let mut w = World::new(2);
    let (a, b) = (w.connect(0), w.connect(1));
    w.make(a, "/a");
    assert_eq!(w.watch(b, OpCode::GetData, "/a"), 0);
    w.expire(b.session);
    w.send(a, &packet(1, OpCode::SetData, &SetDataRequest { path: "/a", data: None, version: -1 }));
    w.order();
    w.send(b, &close_packet(2));
    w.settle();
    assert!(w.is_closed(b));
    assert_eq!(w.got(b), []);
}

#[test]
fn silent_sessions_expire_and_pinging_ones_do_not() {
    let mut w = World::new(2);
    let (a, b) = (w.connect(0), w.connect(1));
    w.ask(a, OpCode::Create, &create("/a", EPHEMERAL)).ok();
    w.ask(b, OpCode::Create, &create("/b", EPHEMERAL)).ok();
    for _ in 0..20 {
        w.advance(1000);
        w.send(b, &ping());
    }
    w.got(b);
    assert!(w.is_closed(a) && !w.is_closed(b));
    assert!(!w.exists(b, "/a") && w.exists(b, "/b"));
    let back = w.connect_with(1, &hello(a.session, &a.password, 4000, 0, false));
    assert_eq!(back.session, 0);
}

#[test]
fn a_session_outlives_its_connection_by_its_timeout() {
    let mut w = World::new(1);
    let a = w.connect(0);
    w.hang_up(a);
    w.advance(9_900);
    let b = w.connect_with(0, &hello(a.session, &a.password, 4000, 0, false));
    assert_eq!(b.session, a.session);
    w.hang_up(b);
    w.advance(12_100);
    let c = w.connect_with(0, &hello(a.session, &a.password, 4000, 0, false));
    assert_eq!(c.session, 0);
}

#[test]
fn a_new_leader_gives_every_session_its_full_time() {
    let mut w = World::new(2);
    let a = w.connect(0);
    w.hang_up(a);
    w.advance(9_000);
    w.elect(Some(1));
    w.advance(9_000);
    assert_eq!((w.nodes[0].duty.sessions(), w.nodes[1].duty.sessions()), (0, 1));
    w.advance(4_000);
    assert_eq!(w.nodes[1].duty.sessions(), 0);
}

#[test]
fn an_expiry_that_gets_lost_is_proposed_again() {
    let mut w = World::new(1);
    let a = w.connect(0);
    w.hang_up(a);
    w.advance(9_000);
    // The duty proposes while nothing commits; what it proposed is dropped.
    let leader = w.leader.take();
    w.advance(4_000);
    assert!(w.pending() > 0);
    w.leader = leader;
    w.advance(6_000);
    assert_eq!(w.nodes[0].duty.sessions(), 0);
}

#[test]
fn without_a_leader_those_who_asked_are_served_reads() {
    let mut w = World::new(2);
    let a = w.connect(0);
    w.make(a, "/a");
    w.elect(None);
    w.advance(6_000);
    assert!(w.is_closed(a));
    let plain = w.dial(0);
    w.send(plain, &hello(0, &[0; 16], 4000, 0, false));
    assert!(w.is_closed(plain));
    let c = w.dial(0);
    w.send(c, &hello(a.session, &a.password, 4000, 0, true));
    let (c, read_only) = w.greeting(c);
    assert_eq!((c.session, read_only), (a.session, Some(true)));
    let fresh = w.dial(0);
    w.send(fresh, &hello(0, &[0; 16], 4000, 0, true));
    let (fresh, read_only) = w.greeting(fresh);
    assert!(fresh.session != 0 && read_only == Some(true));
    w.send(c, &packet(1, OpCode::GetData, &PathWatch { path: "/a", watch: false }));
    w.send(c, &packet(2, OpCode::Create, &create("/b", 0)));
    w.send(c, &packet(3, OpCode::Sync, &PathOnly { path: "/" }));
    let codes: Vec<i32> = w.got(c).iter().map(|got| if let Got::Reply { err, .. } = got { *err } else { 1 }).collect();
    assert_eq!(codes, [0, -119, -119]);
    assert_eq!(w.pending(), 0);
    w.send(fresh, &close_packet(4));
    assert_eq!(xids(&w.got(fresh)), [4]);
    w.elect(Some(0));
    assert!(w.is_closed(c));
    w.settle();
    let back = w.connect_with(0, &hello(a.session, &a.password, 4000, 0, true));
    assert_eq!(back.session, a.session);
}

fn local(config: &mut crate::session::Config) {
    config.local_sessions = true;
    config.upgrade_local_sessions = true;
}

#[test]
fn local_sessions_cost_no_agreement_until_they_need_it() {
    let mut w = World::with(2, local, DutyConfig::default());
    let c = w.dial(0);
    w.send(c, &hello(0, &[0; 16], 10_000, 0, false));
    assert_eq!(w.pending(), 0);
    let c = w.greeting(c).0;
    w.make(c, "/a");
    assert_eq!(w.nodes[0].duty.sessions(), 0);
    // Another connection of the same node can go on with it, another node cannot.
    let elsewhere = w.connect_with(1, &hello(c.session, &c.password, 4000, 0, false));
    assert_eq!(elsewhere.session, 0);
    let c2 = w.connect_with(0, &hello(c.session, &c.password, 4000, 0, false));
    assert!(c2.session == c.session && w.is_closed(c));
    w.ask(c2, OpCode::Create, &create("/e", EPHEMERAL)).ok();
    assert_eq!(w.nodes[0].duty.sessions(), 1);
    let moved = w.connect_with(1, &hello(c.session, &c.password, 4000, 0, false));
    assert!(moved.session == c.session && w.is_closed(c2));
    assert!(w.exists(moved, "/e"));
}

#[test]
fn local_sessions_end_by_themselves() {
    let no_upgrade = |config: &mut crate::session::Config| config.local_sessions = true;
    let mut w = World::with(1, no_upgrade, DutyConfig::default());
    let (a, b) = (w.connect(0), w.connect(0));
    let refused = ErrorCode::EphemeralOnLocalSession.number();
    assert_eq!(w.err(a, OpCode::Create, &create("/e", EPHEMERAL)), refused);
    for _ in 0..15 {
        w.advance(1000);
        w.send(b, &ping());
    }
    w.got(b);
    assert!(w.is_closed(a) && !w.is_closed(b));
    w.send(b, &close_packet(1));
    assert_eq!(xids(&w.got(b)), [1]);
    let back = w.connect_with(0, &hello(b.session, &b.password, 4000, 0, false));
    assert_eq!(back.session, 0);
}

#[test]
fn connections_of_one_address_are_bounded() {
    let mut w = World::with(1, |config| config.connections_per_address_max = 2, DutyConfig::default());
    let (a, b, c) = (w.dial(0), w.dial(0), w.dial(0));
    assert!(!w.is_closed(a) && !w.is_closed(b) && w.is_closed(c));
    w.hang_up(a);
    let d = w.dial(0);
    assert!(!w.is_closed(d));
}

#[test]
fn silent_connections_are_closed() {
    let mut w = World::new(1);
    let c = w.dial(0);
    w.send(c, &[0, 0]);
    w.advance(12_000);
    assert!(w.is_closed(c));
}

#[test]
fn the_duty_collects_containers_and_nodes_past_their_time() {
    let tree = TreeConfig { extended_types: true, ..TreeConfig::default() };
    let duty =
        DutyConfig { tree, container_check_ms: 3000, config_text: "server.1=x".to_owned(), ..DutyConfig::default() };
    let mut w = World::with(2, |_| {}, duty);
    let c = w.connect(1);
    assert_eq!(w.data(c, "/zookeeper/config"), b"server.1=x");
    w.ask(c, OpCode::CreateContainer, &create("/c", 4)).ok();
    w.make(c, "/c/x");
    let ttl = CreateTtlRequest { path: "/t", data: None, acl: vec![Acl::OPEN], flags: 5, ttl: 500 };
    w.ask(c, OpCode::CreateTtl, &ttl).ok();
    w.delete(c, "/c/x");
    assert!(w.exists(c, "/c") && w.exists(c, "/t"));
    w.advance(3_500);
    assert!(!w.exists(c, "/c") && !w.exists(c, "/t"));
    assert_eq!(w.err(c, OpCode::Delete, &PathVersion { path: "/c", version: -1 }), ErrorCode::NoNode.number());
}

#[test]
fn a_session_that_ended_in_a_skipped_part_is_closed() {
    let mut w = World::new(2);
    let (a, b) = (w.connect(1), w.connect(1));
    w.order();
    // The session moves to node 0 while node 1 hears nothing.
    let moved = w.dial(0);
    w.send(moved, &hello(a.session, &a.password, 4000, 0, false));
    w.order();
    w.apply(0);
    w.restore(1, 0);
    assert!(w.is_closed(a) && !w.is_closed(b));
}
