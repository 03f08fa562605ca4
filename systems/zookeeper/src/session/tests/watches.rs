//! What clients are told, and when.

use super::client::{Client, Got, create, events, hello, packet, xids};
use super::world::World;
use crate::session::DutyConfig;
use crate::wire::{
    Acl, AddWatch, AuthPacket, CreateRequest, ErrorCode, Id, OpCode, PathVersion, PathWatch, SetDataRequest,
    SetWatches, SetWatches2, WatchRemoval,
};

fn told(w: &mut World, c: Client) -> Vec<(i32, String)> {
    let got = w.got(c);
    events(&got).into_iter().map(|(kind, path)| (kind, path.to_owned())).collect()
}

fn list(events: &[(i32, &str)]) -> Vec<(i32, String)> {
    events.iter().map(|(kind, path)| (*kind, (*path).to_owned())).collect()
}

#[test]
fn an_event_precedes_the_reply_that_caused_it() {
    let mut w = World::new(1);
    let c = w.connect(0);
    w.make(c, "/a");
    assert_eq!(w.watch(c, OpCode::GetData, "/a"), 0);
    w.send(c, &packet(1, OpCode::SetData, &SetDataRequest { path: "/a", data: None, version: -1 }));
    w.settle();
    assert_eq!(xids(&w.got(c)), [-1, 1]);
}

/// On another node: no reply shows the change before the event, though the tree is ahead already.
#[test]
fn an_event_precedes_every_read_that_shows_the_change() {
    let mut w = World::new(2);
    let (a, b) = (w.connect(0), w.connect(1));
    w.make(a, "/a");
    assert_eq!(w.watch(b, OpCode::GetData, "/a"), 0);
    w.send(a, &packet(1, OpCode::SetData, &SetDataRequest { path: "/a", data: Some(b"2"), version: -1 }));
    w.send(b, &packet(1, OpCode::Create, &create("/b", 0)));
    w.send(b, &packet(2, OpCode::GetData, &PathWatch { path: "/a", watch: false }));
    w.settle();
    assert_eq!(xids(&w.got(b)), [-1, 1, 2]);
}

#[test]
fn the_rules_of_one_time_watches() {
    let mut w = World::new(2);
    let (a, b) = (w.connect(0), w.connect(1));
    assert_eq!(w.watch(b, OpCode::GetData, "/a"), ErrorCode::NoNode.number());
    assert_eq!(w.watch(b, OpCode::GetChildren, "/a"), ErrorCode::NoNode.number());
    w.make(a, "/a");
    assert_eq!(w.got(b), [], "a read that failed leaves no watch");
    assert_eq!(w.watch(b, OpCode::Exists, "/a/b"), ErrorCode::NoNode.number());
    assert_eq!(w.watch(b, OpCode::GetChildren2, "/a"), 0);
    w.make(a, "/a/b");
    assert_eq!(told(&mut w, b), list(&[(1, "/a/b"), (4, "/a")]));
    w.set(a, "/a/b", b"x");
    w.delete(a, "/a/b");
    assert_eq!(w.got(b), [], "one time is one time");
    assert_eq!(w.watch(b, OpCode::GetChildren, "/a"), 0);
    assert_eq!(w.watch(b, OpCode::GetData, "/a"), 0);
    w.delete(a, "/a");
    assert_eq!(told(&mut w, b), list(&[(2, "/a")]), "a deletion is told once");
}

fn add(w: &mut World, c: Client, path: &str, mode: i32) {
    let body = w.ask(c, OpCode::AddWatch, &AddWatch { path, mode }).ok();
    assert_eq!(body, [0; 4]);
}

#[test]
fn persistent_and_recursive_watches_stay() {
    let mut w = World::new(1);
    let (a, b, c) = (w.connect(0), w.connect(0), w.connect(0));
    add(&mut w, b, "/a", 0);
    add(&mut w, c, "/a", 1);
    w.make(a, "/a");
    w.make(a, "/a/b");
    w.set(a, "/a/b", b"x");
    w.set(a, "/a", b"x");
    w.delete(a, "/a/b");
    w.delete(a, "/a");
    assert_eq!(told(&mut w, b), list(&[(1, "/a"), (4, "/a"), (3, "/a"), (4, "/a"), (2, "/a")]));
    let all = [(1, "/a"), (1, "/a/b"), (3, "/a/b"), (3, "/a"), (2, "/a/b"), (2, "/a")];
    assert_eq!(told(&mut w, c), list(&all));
}

#[test]
fn watches_are_checked_and_removed() {
    let mut w = World::new(1);
    let (a, b) = (w.connect(0), w.connect(0));
    w.make(a, "/a");
    let removal = |kind| WatchRemoval { path: "/a", kind };
    let none = ErrorCode::NoWatcher.number();
    assert_eq!(w.err(b, OpCode::CheckWatches, &removal(3)), none);
    assert_eq!(w.err(b, OpCode::CheckWatches, &removal(9)), ErrorCode::MarshallingError.number());
    assert_eq!(w.watch(b, OpCode::GetData, "/a"), 0);
    add(&mut w, b, "/a", 0);
    assert_eq!(w.err(b, OpCode::CheckWatches, &removal(2)), 0);
    assert_eq!(w.err(b, OpCode::RemoveWatches, &removal(2)), 0);
    w.set(a, "/a", b"x");
    assert_eq!(told(&mut w, b), list(&[(3, "/a")]), "the persistent one is still there");
    assert_eq!(w.err(b, OpCode::RemoveWatches, &removal(3)), 0);
    assert_eq!(w.err(b, OpCode::RemoveWatches, &removal(3)), none);
    w.set(a, "/a", b"x");
    assert_eq!(w.got(b), []);
}

/// Requests of the session alone take their turn too.
#[test]
fn an_added_watch_does_not_see_the_write_before_it() {
    let mut w = World::new(1);
    let c = w.connect(0);
    w.make(c, "/a");
    let set = SetDataRequest { path: "/a", data: None, version: -1 };
    let mut bytes = packet(1, OpCode::SetData, &set);
    bytes.extend(packet(2, OpCode::AddWatch, &AddWatch { path: "/a", mode: 0 }));
    bytes.extend(packet(3, OpCode::SetData, &set));
    bytes.extend(packet(4, OpCode::RemoveWatches, &WatchRemoval { path: "/a", kind: 3 }));
    bytes.extend(packet(5, OpCode::SetData, &set));
    w.send(c, &bytes);
    w.settle();
    assert_eq!(xids(&w.got(c)), [1, 2, -1, 3, 4, 5]);
}

fn reconnect(w: &mut World, c: Client, node: usize) -> Client {
    w.hang_up(c);
    w.connect_with(node, &hello(c.session, &c.password, 10_000, 0, false))
}

fn zxid(w: &World) -> i64 {
    w.nodes[0].tree.zxid()
}

#[test]
fn a_reconnecting_client_learns_what_it_missed() {
    let mut w = World::new(2);
    let (a, b) = (w.connect(0), w.connect(1));
    for path in ["/data", "/gone", "/child", "/same"] {
        w.make(a, path);
    }
    let seen = zxid(&w);
    w.set(a, "/data", b"x");
    w.delete(a, "/gone");
    w.make(a, "/child/x");
    w.make(a, "/new");
    let b = reconnect(&mut w, b, 0);
    let request = SetWatches {
        relative_zxid: seen,
        data: vec!["/data", "/gone", "/same"],
        exist: vec!["/new", "/never"],
        child: vec!["/child", "/same", "/gone"],
    };
    w.send(b, &packet(-8, OpCode::SetWatches, &request));
    let got = w.got(b);
    let mut all = events(&got);
    all.sort_unstable();
    assert_eq!(all, [(1, "/new"), (2, "/gone"), (3, "/data"), (4, "/child")]);
    assert_eq!(*xids(&got).last().unwrap(), -8);
    w.set(a, "/same", b"x");
    w.make(a, "/same/x");
    w.make(a, "/never");
    assert_eq!(told(&mut w, b), list(&[(3, "/same"), (4, "/same"), (1, "/never")]));
    w.set(a, "/data", b"x");
    assert_eq!(w.got(b), []);
}

#[test]
fn persistent_watches_are_told_what_they_missed() {
    let mut w = World::new(2);
    let (a, b) = (w.connect(0), w.connect(1));
    w.make(a, "/p");
    let seen = zxid(&w);
    w.set(a, "/p", b"1");
    w.set(a, "/p", b"2");
    w.make(a, "/p/x");
    let b = reconnect(&mut w, b, 0);
    let request = SetWatches2 {
        relative_zxid: seen,
        persistent: vec!["/p"],
        persistent_recursive: vec!["/"],
        ..SetWatches2::default()
    };
    w.send(b, &packet(-8, OpCode::SetWatches2, &request));
    let got = w.got(b);
    let all = events(&got);
    assert!(all.starts_with(&[(3, "/p"), (3, "/p"), (1, "/p/x")]), "{all:?}");
    w.delete(a, "/p/x");
    assert_eq!(told(&mut w, b), list(&[(2, "/p/x"), (4, "/p")]));
}

#[test]
fn a_jump_of_the_state_loses_no_event() {
    let mut w = World::new(2);
    let (a, b) = (w.connect(0), w.connect(1));
    for path in ["/a", "/b", "/p", "/quiet"] {
        w.make(a, path);
    }
    for path in ["/a", "/b", "/quiet"] {
        assert_eq!(w.watch(b, OpCode::GetData, path), 0);
    }
    assert_eq!(w.watch(b, OpCode::GetChildren, "/b"), 0);
    assert_eq!(w.watch(b, OpCode::Exists, "/new"), ErrorCode::NoNode.number());
    add(&mut w, b, "/p", 0);
    let set = |path| packet(1, OpCode::SetData, &SetDataRequest { path, data: None, version: -1 });
    w.send(a, &set("/a"));
    w.send(a, &packet(2, OpCode::Delete, &PathVersion { path: "/b", version: -1 }));
    w.send(a, &packet(3, OpCode::Create, &create("/new", 0)));
    w.send(a, &set("/p"));
    w.order();
    w.apply(0);
    assert_eq!(xids(&w.got(a)), [1, 2, 3, 1]);
    w.restore(1, 0);
    let mut all = told(&mut w, b);
    all.sort_unstable();
    assert_eq!(all, list(&[(1, "/new"), (2, "/b"), (3, "/a"), (3, "/p")]));
    w.set(a, "/quiet", b"x");
    w.set(a, "/p", b"x");
    w.set(a, "/a", b"x");
    assert_eq!(told(&mut w, b), list(&[(3, "/quiet"), (3, "/p")]));
}

#[test]
fn watches_are_bounded_and_go_with_their_connection() {
    let mut w = World::with(1, |config| config.watches_max = 2, DutyConfig::default());
    let c = w.connect(0);
    assert_eq!(w.watch(c, OpCode::GetData, "/"), 0);
    assert_eq!(w.watch(c, OpCode::GetChildren, "/"), 0);
    assert_eq!(w.watch(c, OpCode::GetData, "/zookeeper"), ErrorCode::SystemError.number());
    let request = SetWatches { relative_zxid: 0, data: vec!["/zookeeper"], exist: vec![], child: vec![] };
    w.send(c, &packet(-8, OpCode::SetWatches, &request));
    let refused = ErrorCode::SystemError.number();
    assert!(matches!(w.got(c)[..], [Got::Reply { xid: -8, err, .. }] if err == refused));
    w.hang_up(c);
    let d = w.connect(0);
    assert_eq!(w.watch(d, OpCode::GetData, "/"), 0);
}

#[test]
fn who_may_not_read_a_node_hears_nothing_of_it() {
    let mut w = World::new(1);
    let (owner, stranger) = (w.connect(0), w.connect(0));
    let auth = AuthPacket { kind: 0, scheme: "digest", auth: Some(b"ann:secret") };
    w.send(owner, &packet(-4, OpCode::Auth, &auth));
    w.settle();
    w.got(owner);
    for client in [owner, stranger] {
        w.ask(client, OpCode::AddWatch, &AddWatch { path: "/", mode: 1 }).ok();
    }
    let acl = vec![Acl { perms: 31, id: Id { scheme: "auth", id: "" } }];
    w.send(owner, &packet(8, OpCode::Create, &CreateRequest { path: "/own", data: None, acl, flags: 0 }));
    w.settle();
    assert_eq!(events(&w.got(owner)), [(1, "/own")]);
    assert_eq!(w.got(stranger), [], "created, and nobody's business");
    w.send(owner, &packet(9, OpCode::SetData, &SetDataRequest { path: "/own", data: Some(b"x"), version: -1 }));
    w.send(owner, &packet(10, OpCode::Delete, &PathVersion { path: "/own", version: -1 }));
    w.settle();
    let got = w.got(owner);
    assert_eq!(events(&got), [(3, "/own"), (2, "/own")]);
    assert_eq!(w.got(stranger), []);
    // Nor does it when it comes back and asks what it missed.
    let request = SetWatches2 { relative_zxid: 0, persistent_recursive: vec!["/"], ..SetWatches2::default() };
    w.send(stranger, &packet(-8, OpCode::SetWatches2, &request));
    w.settle();
    assert_eq!(events(&w.got(stranger)), []);
}
