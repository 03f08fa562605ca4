//! The order of a session's requests, its limits, its identities.

use super::client::{Client, Got, create, framed, hello, packet, xids};
use super::world::World;
use crate::session::DutyConfig;
use crate::wire::{
    Acl, AuthPacket, CreateRequest, Decode as _, Encode, ErrorCode, GetDataResponse, Id, MultiHeader, OpCode, PathOnly,
    PathVersion, PathWatch, Request, RequestHeader, SaslToken, SetDataRequest, Strings, WhoAmIResponse,
};

struct Nothing;
impl Encode for Nothing {
    fn encode(&self, _: &mut Vec<u8>) {}
}

fn get(path: &str) -> PathWatch<'_> {
    PathWatch { path, watch: false }
}

#[test]
fn the_plain_operations() {
    let mut w = World::new(1);
    let c = w.connect(0);
    assert_eq!(c.timeout, 10_000);
    w.make(c, "/a");
    assert_eq!(w.data(c, "/a"), b"d");
    w.set(c, "/a", b"new");
    assert_eq!(w.data(c, "/a"), b"new");
    w.make(c, "/a/b");
    let body = w.ask(c, OpCode::GetChildren, &get("/a")).ok();
    assert_eq!(Strings::from_bytes(&body).unwrap().list, ["b"]);
    assert_eq!(w.err(c, OpCode::Delete, &PathVersion { path: "/a", version: -1 }), ErrorCode::NotEmpty.number());
    w.delete(c, "/a/b");
    assert!(w.exists(c, "/a") && !w.exists(c, "/a/b"));
    assert_eq!(w.err(c, OpCode::Create, &create("/a", 0)), ErrorCode::NodeExists.number());
    let sync = w.ask(c, OpCode::Sync, &PathOnly { path: "/a" }).ok();
    assert_eq!(PathOnly::from_bytes(&sync).unwrap().path, "/a");
}

#[test]
fn replies_come_in_the_order_of_requests() {
    let mut w = World::new(1);
    let c = w.connect(0);
    let mut bytes = packet(1, OpCode::Create, &create("/a", 0));
    bytes.extend(packet(2, OpCode::GetData, &get("/a")));
    bytes.extend(packet(3, OpCode::GetData, &get("/")));
    w.send(c, &bytes);
    assert_eq!((w.pending(), w.got(c)), (1, vec![]), "reads wait for the write");
    w.settle();
    let got = w.got(c);
    assert_eq!(xids(&got), [1, 2, 3]);
    assert!(got.iter().all(|got| matches!(got, Got::Reply { err: 0, .. })));
}

/// The tree may be ahead of the replies: a read must still not see what its own client wrote behind it.
#[test]
fn a_read_between_writes_sees_the_first_only() {
    let mut w = World::new(1);
    let c = w.connect(0);
    w.make(c, "/a");
    let mut bytes = Vec::new();
    for round in 0..5u8 {
        let set = SetDataRequest { path: "/a", data: Some(&[round]), version: -1 };
        bytes.extend(packet(10 * i32::from(round) + 1, OpCode::SetData, &set));
        bytes.extend(packet(10 * i32::from(round) + 2, OpCode::GetData, &get("/a")));
    }
    w.send(c, &bytes);
    assert_eq!(w.pending(), 9, "all but the last read are ordered at once");
    w.settle();
    let got = w.got(c);
    let mut seen = Vec::new();
    for got in got {
        let Got::Reply { xid, err: 0, body, .. } = got else { panic!("{got:?}") };
        if xid % 10 == 2 {
            seen.push(GetDataResponse::from_bytes(&body).unwrap().data.unwrap()[0]);
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[test]
fn sync_is_a_barrier() {
    let mut w = World::new(2);
    let (a, b) = (w.connect(0), w.connect(1));
    w.make(a, "/a");
    // Node 1 lags: the write is acknowledged at node 0 only.
    w.send(a, &packet(1, OpCode::SetData, &SetDataRequest { path: "/a", data: Some(b"new"), version: -1 }));
    w.order();
    w.apply(0);
    assert_eq!(xids(&w.got(a)), [1]);
    w.sync(b, 1);
    w.send(b, &packet(2, OpCode::GetData, &get("/a")));
    assert_eq!(w.got(b), [], "the read waits for the barrier");
    w.settle();
    let got = w.got(b);
    assert_eq!(xids(&got), [1, 2]);
    let body = got[1].clone().ok();
    assert_eq!(GetDataResponse::from_bytes(&body).unwrap().data, Some(&b"new"[..]));
}

#[test]
fn a_barrier_that_fails_is_an_error_and_a_write_that_fails_closes() {
    let mut w = World::new(1);
    let c = w.connect(0);
    w.sync(c, 1);
    w.linear_one(0, 0, Some(verity_contract::Failure::Unavailable));
    let timeout = ErrorCode::OperationTimeout.number();
    assert!(matches!(w.got(c)[..], [Got::Reply { xid: 1, err, .. }] if err == timeout));
    w.send(c, &packet(2, OpCode::Create, &create("/a", 0)));
    w.lose();
    assert!(w.is_closed(c));
}

fn wish(wish: &str) -> AuthPacket<'_> {
    AuthPacket { kind: 0, scheme: "verity", auth: Some(wish.as_bytes()) }
}

fn auth(w: &mut World, c: Client, packet_: &AuthPacket<'_>) -> Option<i32> {
    w.send(c, &packet(-4, OpCode::Auth, packet_));
    match w.got(c)[..] {
        [Got::Reply { xid: -4, zxid: 0, err, .. }] => Some(err),
        _ => None,
    }
}

/// Not every client says -4.
#[test]
fn an_auth_is_answered_with_its_own_xid() {
    let mut w = World::new(1);
    let c = w.connect(0);
    for xid in [-4, 7] {
        let digest = AuthPacket { kind: 0, scheme: "digest", auth: Some(b"user:secret") };
        w.send(c, &packet(xid, OpCode::Auth, &digest));
        assert!(matches!(w.got(c)[..], [Got::Reply { xid: got, zxid: 0, err: 0, .. }] if got == xid));
    }
}

#[test]
fn reads_can_be_linearizable() {
    let mut w = World::new(1);
    let c = w.connect(0);
    assert_eq!(auth(&mut w, c, &wish("reads=linearizable")), Some(0));
    w.make(c, "/a");
    let mut bytes = packet(1, OpCode::GetData, &PathWatch { path: "/a", watch: true });
    bytes.extend(packet(2, OpCode::Exists, &PathWatch { path: "/a", watch: true }));
    bytes.extend(packet(3, OpCode::Delete, &PathVersion { path: "/a", version: -1 }));
    w.send(c, &bytes);
    assert_eq!((w.linear_waiting(0), w.pending()), (2, 0), "the write waits behind the reads");
    // The second is answered first; its watch could fire before its reply, so it is asked again.
    w.linear_one(0, 1, None);
    assert_eq!((w.got(c), w.linear_waiting(0)), (vec![], 2));
    w.settle();
    assert_eq!(xids(&w.got(c)), [1, 2, -1, 3]);
    assert_eq!(auth(&mut w, c, &wish("reads=local")), Some(0));
    w.send(c, &packet(4, OpCode::Exists, &get("/a")));
    assert_eq!(xids(&w.got(c)), [4]);
    assert_eq!(auth(&mut w, c, &wish("reads=sometimes")), Some(ErrorCode::AuthFailed.number()));
    assert!(w.is_closed(c));
}

#[test]
fn too_many_requests_pause_the_connection() {
    let mut w = World::with(1, |config| config.outstanding_max = 4, DutyConfig::default());
    let c = w.connect(0);
    let bytes: Vec<u8> = (1..=10).flat_map(|xid| packet(xid, OpCode::Create, &create(&format!("/{xid}"), 0))).collect();
    w.send(c, &bytes);
    assert_eq!((w.pending(), w.nodes[0].paused.len()), (4, 1));
    w.settle();
    assert_eq!(xids(&w.got(c)), (1..=10).collect::<Vec<_>>());
    assert!(w.nodes[0].paused.is_empty());
}

#[test]
fn a_packet_beyond_the_limit_is_an_error_and_no_end() {
    let mut w = World::with(1, |config| config.packet_size_max = 100, DutyConfig::default());
    let c = w.connect(0);
    let big = vec![b'x'; 5000];
    let mut bytes = packet(1, OpCode::SetData, &SetDataRequest { path: "/", data: Some(&big), version: -1 });
    bytes.extend(packet(2, OpCode::Exists, &get("/")));
    for piece in bytes.chunks(37) {
        w.send(c, piece);
    }
    let got = w.got(c);
    assert_eq!(xids(&got), [1, 2]);
    let bad = ErrorCode::BadArguments.number();
    assert!(matches!(got[0], Got::Reply { err, .. } if err == bad) && matches!(got[1], Got::Reply { err: 0, .. }));
    w.send(c, &(-5i32).to_be_bytes());
    assert!(w.is_closed(c));
    let c = w.connect(0);
    let mut absurd = i32::MAX.to_be_bytes().to_vec();
    absurd.extend([0; 8]);
    w.send(c, &absurd);
    assert!(w.is_closed(c));
}

/// What 3.8.0 answers, but that an unknown operation does not close.
#[test]
fn what_makes_no_sense_is_an_error() {
    let mut w = World::new(1);
    let c = w.connect(0);
    for (op, code) in [(4, -5), (1, -5), (14, -5), (9, -5), (101, -5), (18, -5), (106, -5), (77, -6), (-10, -6)] {
        let mut bytes = RequestHeader { xid: 5, op }.to_bytes();
        bytes.extend([0, 0, 0, 9, b'a', b'b']);
        w.send(c, &framed(&bytes));
        w.settle();
        let got = w.got(c);
        assert!(matches!(got[..], [Got::Reply { xid: 5, err, .. }] if err == code), "op {op}: {got:?}");
    }
    w.send(c, &packet(-2, OpCode::Ping, &Nothing));
    assert_eq!(xids(&w.got(c)), [-2]);
    w.send(c, &packet(-4, OpCode::Auth, &Nothing));
    assert!(w.is_closed(c));
    let c = w.dial(0);
    w.send(c, &framed(b"no connect"));
    assert!(w.is_closed(c));
    let c = w.dial(0);
    w.send(c, b"GET / HTTP/1.1\r\n\r\n");
    assert!(w.is_closed(c));
}

#[test]
fn pings_do_not_wait() {
    let mut w = World::new(1);
    let c = w.connect(0);
    w.send(c, &packet(1, OpCode::Create, &create("/a", 0)));
    w.send(c, &packet(-2, OpCode::Ping, &Nothing));
    assert_eq!(xids(&w.got(c)), [-2]);
    w.settle();
    assert_eq!(xids(&w.got(c)), [1]);
}

#[test]
fn a_failed_multi_answers_each_operation() {
    let mut w = World::new(1);
    let c = w.connect(0);
    let multi = Request::Multi(vec![
        Request::Create(OpCode::Create, create("/m", 0)),
        Request::Delete(PathVersion { path: "/none", version: -1 }),
    ]);
    let body = w.ask(c, OpCode::Multi, &multi).ok();
    let mut expect = Vec::new();
    for code in [0, -101] {
        MultiHeader::of(-1, code).encode(&mut expect);
        code.encode(&mut expect);
    }
    MultiHeader::END.encode(&mut expect);
    assert_eq!(body, expect);
    assert!(!w.exists(c, "/m"));
}

#[test]
fn digests_open_what_they_locked() {
    let users = "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=".to_owned();
    let mut w = World::with(1, move |config| config.super_digest = Some(users.clone()), DutyConfig::default());
    let c = w.connect(0);
    let digest = |text: &'static str| AuthPacket { kind: 0, scheme: "digest", auth: Some(text.as_bytes()) };
    assert_eq!(auth(&mut w, c, &digest("bob:secret")), Some(0));
    let acl = vec![Acl { perms: 31, id: Id { scheme: "auth", id: "" } }];
    w.ask(c, OpCode::Create, &CreateRequest { path: "/locked", data: None, acl, flags: 0 }).ok();
    let other = w.connect(0);
    assert_eq!(w.err(other, OpCode::GetData, &get("/locked")), ErrorCode::NoAuth.number());
    assert_eq!(auth(&mut w, other, &digest("super:admin")), Some(0));
    w.ask(other, OpCode::GetData, &get("/locked")).ok();
    let body = w.ask(c, OpCode::WhoAmI, &Nothing).ok();
    let ids = WhoAmIResponse::from_bytes(&body).unwrap().ids;
    assert_eq!(ids, [Id { scheme: "ip", id: "127.0.0.1" }, Id { scheme: "digest", id: "bob" }]);
    let bad = AuthPacket { kind: 0, scheme: "kerberos", auth: None };
    assert_eq!(auth(&mut w, c, &bad), Some(ErrorCode::AuthFailed.number()));
    assert!(w.is_closed(c));
}

#[test]
fn sasl_is_answered_or_switched_off() {
    let mut w = World::new(1);
    let c = w.connect(0);
    let body = w.ask(c, OpCode::Sasl, &SaslToken { token: Some(b"") }).ok();
    assert_eq!(SaslToken::from_bytes(&body).unwrap().token, None);

    let user = |config: &mut crate::session::Config| {
        config.sasl_users.insert("jaasuser".to_owned(), "jaas_password".to_owned());
    };
    let mut w = World::with(1, user, DutyConfig::default());
    let c = w.connect(0);
    let body = w.ask(c, OpCode::Sasl, &SaslToken { token: Some(b"") }).ok();
    let challenge = String::from_utf8(SaslToken::from_bytes(&body).unwrap().token.unwrap().to_vec()).unwrap();
    assert!(challenge.starts_with("realm=\"zk-sasl-md5\",nonce=\""));
    assert_eq!(w.err(c, OpCode::Sasl, &SaslToken { token: Some(b"username=\"jaasuser\"") }), -115);
    assert!(w.is_closed(c));
}

#[test]
fn certificates_are_identities_at_tls_doors() {
    use crate::session::DoorKind;
    use verity_contract::Door;
    let change = |config: &mut crate::session::Config| {
        config.doors.insert(Door(1), DoorKind::Tls);
        config.super_certificate = Some("CN=root".to_owned());
    };
    let mut w = World::with(1, change, DutyConfig::default());
    for (door, subject, count) in [(0, "CN=bob", 1), (1, "CN=bob", 2), (1, "CN=root", 3)] {
        let mut peer = super::world::peer(door);
        peer.certificate = Some(subject.to_owned());
        let conn = w.open(0, peer);
        let c = Client { node: 0, conn, session: 0, password: [0; 16], timeout: 0 };
        w.send(c, &hello(0, &[0; 16], 4000, 0, false));
        w.settle();
        let c = w.greeting(c).0;
        let body = w.ask(c, OpCode::WhoAmI, &Nothing).ok();
        assert_eq!(WhoAmIResponse::from_bytes(&body).unwrap().ids.len(), count);
    }
}
