//! Reconfig from a client's request to its reply, and nodes that ask to join.

use super::client::{Client, Got, hello, packet};
use super::world::World;
use crate::machine::TreeConfig;
use crate::session::DutyConfig;
use crate::wire::{AuthPacket, Decode as _, ErrorCode, GetDataResponse, OpCode, ReconfigRequest};

const ONE: &str = "server.1=a:1:2:participant;a:3\nversion=0";

fn world(nodes: usize, join: Option<&'static str>) -> World {
    let tree = TreeConfig { reconfig: true, ..TreeConfig::default() };
    let duty = DutyConfig { tree, config_text: ONE.to_owned(), ..DutyConfig::default() };
    let digest = crate::machine::digest_id(b"super:admin").expect("a user and a password");
    World::with(
        nodes,
        move |config| {
            config.super_digest = Some(digest.clone());
            config.join = join.map(str::to_owned);
        },
        duty,
    )
}

fn superior(w: &mut World, node: usize) -> Client {
    let c = w.connect(node);
    let auth = AuthPacket { kind: 0, scheme: "digest", auth: Some(b"super:admin") };
    w.send(c, &packet(-4, OpCode::Auth, &auth));
    w.settle();
    w.got(c);
    c
}

fn request<'a>(joining: &'a str, leaving: &'a str) -> ReconfigRequest<'a> {
    ReconfigRequest { joining, leaving, members: "", config: -1 }
}

fn text(got: &Got) -> String {
    let Got::Reply { err: 0, body, .. } = got else { panic!("no success: {got:?}") };
    let response = GetDataResponse::from_bytes(body).expect("the reply is a configuration");
    String::from_utf8(response.data.expect("with text").to_vec()).expect("with text")
}

#[test]
fn the_reply_waits_for_the_group() {
    let mut w = world(2, None);
    let c = superior(&mut w, 1);
    w.send(c, &packet(1, OpCode::Reconfig, &request("server.2=b:1:2:observer;b:3", "")));
    w.settle();
    assert_eq!(w.got(c), [], "the group has not changed yet");
    let other = superior(&mut w, 0);
    assert_eq!(w.err(other, OpCode::Reconfig, &request("", "1")), ErrorCode::ReconfigInProgress.number());
    let (change, addresses) = w.wishes.pop().expect("the group is asked");
    assert_eq!((change.voters.len(), change.learners.len()), (1, 1));
    assert_eq!(addresses.values().collect::<Vec<_>>(), ["a:1", "b:1"]);
    w.members(&change);
    w.settle();
    let got = w.got(c);
    let text = text(&got[0]);
    assert!(text.contains("server.2=b:1:2:observer;b:3\nversion="), "{text}");
    assert_eq!(w.data(c, "/zookeeper/config"), text.as_bytes());
    let version = i64::from_str_radix(text.rsplit('=').next().expect("a version"), 16).expect("in hexadecimal");
    let stale = ReconfigRequest { config: version + 1, ..request("", "2") };
    assert_eq!(w.err(c, OpCode::Reconfig, &stale), ErrorCode::BadVersion.number());
}

#[test]
fn what_cannot_be_done_is_said_so_and_the_next_leader_goes_on() {
    let mut w = world(2, None);
    let c = superior(&mut w, 1);
    w.send(c, &packet(1, OpCode::Reconfig, &request("server.2=b:1:2;b:3", "")));
    w.settle();
    w.wishes.pop().expect("the first leader asks");
    w.elect(Some(1));
    w.settle();
    w.wishes.pop().expect("so does the second");
    w.refuse("nobody is there");
    w.settle();
    let got = w.got(c);
    let code = ErrorCode::NewConfigNoQuorum.number();
    assert!(matches!(got[..], [Got::Reply { err, .. }] if err == code), "{got:?}");
    assert_eq!(w.data(c, "/zookeeper/config"), ONE.as_bytes());
    w.send(c, &packet(2, OpCode::Reconfig, &request("server.3=c:1:2;c:3", "")));
    w.settle();
    assert_eq!(w.wishes.len(), 1, "the way is free for another");
}

#[test]
fn errors_come_in_zookeepers_order() {
    let mut w = world(1, None);
    let plain = w.connect(0);
    assert_eq!(w.err(plain, OpCode::Reconfig, &request("nonsense", "")), ErrorCode::BadArguments.number());
    assert_eq!(w.err(plain, OpCode::Reconfig, &request("server.2=b:1:2;b:3", "")), ErrorCode::NoAuth.number());
    let mut off = World::new(1);
    let c = off.connect(0);
    assert_eq!(off.err(c, OpCode::Reconfig, &request("nonsense", "")), ErrorCode::ReconfigDisabled.number());
    assert!(w.wishes.is_empty() && off.wishes.is_empty());
}

#[test]
fn a_snapshot_in_between_closes_who_waits() {
    let mut w = world(2, None);
    let c = superior(&mut w, 1);
    w.send(c, &packet(1, OpCode::Reconfig, &request("server.2=b:1:2;b:3", "")));
    w.settle();
    let (change, _) = w.wishes.pop().expect("the group is asked");
    w.members(&change);
    w.apply(0);
    w.restore(1, 0);
    assert!(w.is_closed(c), "nobody can tell it what became of its request");
}

#[test]
fn a_node_without_a_leader_asks_to_join() {
    const LINE: &str = "server.2=b:1:2:participant;b:3";
    let mut w = world(2, Some(LINE));
    w.alone(1);
    w.advance(3_000);
    let (change, _) = w.wishes.pop().expect("the leader's duty heard it");
    assert_eq!(change.voters.len(), 2);
    w.members(&change);
    w.settle();
    w.elect(Some(0));
    w.advance(5_000);
    assert!(w.wishes.is_empty(), "a member has nothing to ask");
    let c = w.connect_with(0, &hello(0, &[0; 16], 10_000, 0, false));
    assert!(
        String::from_utf8(w.data(c, "/zookeeper/config"))
            .expect("text")
            .starts_with(&format!("{}\n{LINE}", &ONE[..30]))
    );
}
