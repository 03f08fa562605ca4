//! Each rule that was probed on ZooKeeper 3.8.0, by name. Text scenarios cover the rest of the breadth.

use bytes::Bytes;
use verity_contract::{Effects, Members, StateMachine};
use verity_types::{LogIndex, NodeId};

use super::rig::{NODE, Rig, restored, snapshot};
use crate::machine::write::sequence;
use crate::machine::{
    Mutant, SessionInfo, SessionRow, SessionsQuery, Tree, TreeConfig, TreeStatus, WatchesAnswer, config_text,
    configure, create_session, delete_container, end_reconfig, internal, move_session, request,
};
use crate::wire::{
    Acl, CreateRequest, Decode, Encode, ErrorCode, OpCode, PathOnly, PathVersion, ReconfigRequest, Request,
    SetWatches2, Strings,
};

#[test]
fn own_nodes_look_as_on_a_new_server() {
    let mut rig = Rig::new(TreeConfig::default());
    let shape = |rig: &mut Rig, path| {
        let stat = rig.stat(path).expect("it is there");
        assert_eq!((stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime), (0, 0, 0, 0, 0), "{path}");
        assert_eq!((stat.version, stat.data_length, stat.ephemeral_owner), (0, 0, 0), "{path}");
        (stat.cversion, stat.aversion, stat.num_children)
    };
    assert_eq!(shape(&mut rig, "/"), (-1, 0, 1));
    assert_eq!(shape(&mut rig, "/zookeeper"), (-2, 0, 2));
    assert_eq!(shape(&mut rig, "/zookeeper/quota"), (0, 0, 0));
    assert_eq!(shape(&mut rig, "/zookeeper/config"), (0, -1, 0));
    assert_eq!(rig.stat("").expect("the empty path reads the root").num_children, 1);
    assert_eq!(rig.tree.digest(), Rig::new(TreeConfig::default()).tree.digest());
}

#[test]
fn the_sequence_counts_all_creates() {
    let mut rig = Rig::open();
    rig.create("/s", b"", 0);
    for (path, flags) in [("/s/a", 2), ("/s/b", 3), ("/s/p", 0)] {
        assert_eq!(rig.create(path, b"", flags).err, 0);
    }
    assert_eq!(rig.create("/s/q", b"", 2).body, "/s/q0000000003".to_bytes());
    assert_eq!(rig.stat("/s").expect("there").cversion, 4);
    rig.delete("/s/p", -1);
    assert_eq!(rig.stat("/s").expect("there").cversion, 5, "twice the creates minus the children");
    assert_eq!(rig.create("/", b"", 2).body, "/0000000001".to_bytes());
    assert_eq!(sequence(i32::MAX), "2147483647");
    assert_eq!(sequence(i32::MIN), "-2147483648");
}

#[test]
fn failing_writes_take_a_zxid_and_reads_do_not() {
    let mut rig = Rig::open();
    let before = rig.tree.zxid();
    assert_eq!((rig.create("/a/b", b"", 0).err, rig.tree.zxid()), (-101, before + 1));
    let garbled = request(OpCode::Create, 1, &[0], &[0, 0, 0, 50, 1]);
    let outcome = rig.apply(NODE, garbled);
    assert_eq!((outcome.err, outcome.zxid), (-5, before + 2));
    rig.data("/").expect("the root is readable");
    assert_eq!(rig.tree.zxid(), before + 2);
    rig.session(2);
    assert_eq!(rig.tree.zxid(), before + 3);
    assert_eq!(rig.apply(NODE, request(OpCode::Reconfig, 1, &[0], &[0; 20])).err, -123);
    assert_eq!(rig.apply(NODE, Bytes::from_static(b"x")).err, -5);
}

#[test]
fn a_close_takes_ephemerals_in_order_in_one_transaction() {
    let mut rig = Rig::open();
    rig.session(2);
    for name in ["/z", "/a", "/m"] {
        rig.create(name, b"", 1);
    }
    let before = rig.tree.zxid();
    let outcome = rig.apply(NODE, request(OpCode::CloseSession, 1, &[0], &[]));
    assert_eq!((outcome.err, outcome.zxid), (0, before + 1));
    let all = "NodeDeleted /z,NodeChildrenChanged /,NodeDeleted /a,NodeChildrenChanged /,NodeDeleted /m,\
               NodeChildrenChanged /,SessionClosed 1";
    assert_eq!(outcome.events.join(","), all);
    assert!(outcome.reply_last);
    assert_eq!(rig.stat("/z"), Err(-101));
    assert_eq!(rig.create("/x", b"", 0).err, -112, "the session is gone");
}

#[test]
fn a_multi_sees_itself_and_fails_whole() {
    let mut rig = Rig::open();
    rig.create("/keep", b"old", 0);
    rig.create("/gone", b"", 0);
    let before = (rig.tree.sum, rig.stat("/"), rig.stat("/keep"));
    let create = |path, flags| CreateRequest { path, data: Some(b""), acl: vec![Acl::OPEN], flags };
    let set = crate::wire::SetDataRequest { path: "/keep", data: Some(b"new"), version: 0 };
    let ops = |last: Request<'static>| {
        Request::Multi(vec![
            Request::Delete(PathVersion { path: "/gone", version: 0 }),
            Request::Create(OpCode::Create, create("/m", 0)),
            Request::Create(OpCode::Create2, create("/m/s", 3)),
            Request::SetData(set.clone()),
            last,
            Request::Check(PathVersion { path: "/keep", version: 1 }),
        ])
    };
    let outcome = rig.write(1, &ops(Request::Check(PathVersion { path: "/m", version: 9 })));
    assert_eq!((outcome.err, outcome.events.len()), (0, 0));
    let mut expect = Vec::new();
    for code in [0, 0, 0, 0, -103, -2] {
        crate::wire::MultiHeader::of(-1, code).encode(&mut expect);
        code.encode(&mut expect);
    }
    crate::wire::MultiHeader::END.encode(&mut expect);
    assert_eq!(outcome.body, expect);
    assert_eq!((rig.tree.sum, rig.stat("/"), rig.stat("/keep")), before, "nothing happened");
    let outcome = rig.write(1, &ops(Request::Check(PathVersion { path: "/m", version: 0 })));
    let types: Vec<&str> = outcome.events.iter().map(|event| event.split(' ').next().expect("a kind")).collect();
    let (made, kids) = ("NodeCreated", "NodeChildrenChanged");
    assert_eq!(types, ["NodeDeleted", kids, made, kids, made, kids, "NodeDataChanged"]);
    assert_eq!(rig.data("/keep"), Ok(b"new".to_vec()));
    assert_eq!(rig.stat("/m/s0000000000").expect("made").ephemeral_owner, 1);
}

#[test]
fn sessions_move_with_their_password() {
    let mut rig = Rig::open();
    assert_eq!(rig.session(1).err, -110, "an id is taken once");
    let client = request(OpCode::CreateSession, 9, &[0], &[0; 24]);
    assert_eq!(rig.apply(NODE, client).err, -6, "clients do not open sessions this way");
    assert_eq!(rig.apply(NodeId(2), move_session(1, &[8; 16])).err, -115);
    assert_eq!(rig.apply(NodeId(2), move_session(5, &[7; 16])).err, -112);
    let outcome = rig.apply(NodeId(2), move_session(1, &[7; 16]));
    assert_eq!((outcome.err, outcome.body), (0, 4000i32.to_bytes()));
    assert_eq!(outcome.events, ["SessionMoved 1 to 2"]);
    assert_eq!(rig.create("/a", b"", 0).err, -118, "the old server is told");
    let info = rig.internal(internal::SESSION, &1i64);
    let info = SessionInfo::from_bytes(&info).expect("one session");
    assert_eq!((info.timeout_ms, info.owner, info.password), (4000, 2, Some(&[7u8; 16][..])));
    for id in 2..6 {
        rig.apply(NODE, create_session(id, 1000, &[0; 16]));
    }
    let body = rig.internal(internal::SESSIONS, &SessionsQuery { after: 1, count_max: 3 });
    let rows = Vec::<SessionRow>::from_bytes(&body).expect("rows");
    assert_eq!(rows.iter().map(|row| row.session).collect::<Vec<_>>(), [2, 3, 4]);
}

#[test]
fn containers_and_ttl_nodes_go_when_due() {
    let mut rig = Rig::open_with(TreeConfig { extended_types: true, ..TreeConfig::default() });
    let acl = vec![Acl::OPEN];
    let container = CreateRequest { path: "/c", data: Some(b""), acl: acl.clone(), flags: 4 };
    assert_eq!(rig.write(1, &Request::Create(OpCode::CreateContainer, container)).err, 0);
    let ttl = |path, flags, ttl| {
        Request::CreateTtl(crate::wire::CreateTtlRequest { path, data: Some(b""), acl: vec![Acl::OPEN], flags, ttl })
    };
    assert_eq!(rig.write(1, &ttl("/t", 5, 100)).err, 0);
    for (flags, time) in [(5, 0), (5, -1), (5, 1 << 40), (0, 10), (0, -1), (1, 5)] {
        assert_eq!(rig.write(1, &ttl("/t2", flags, time)).err, -8, "{flags} {time}");
    }
    let due = |rig: &mut Rig, time| {
        let query = crate::machine::DueQuery { time, count_max: 10 };
        let body = rig.internal(internal::DUE, &query);
        Strings::from_bytes(&body).expect("paths").list.join(",")
    };
    assert_eq!(due(&mut rig, 1100), "", "a container that never had a child stays, and the time is not over");
    assert_eq!(rig.apply(NODE, delete_container("/c")).err, -103);
    rig.create("/c/x", b"", 0);
    assert_eq!(rig.apply(NODE, delete_container("/c")).err, -111);
    rig.delete("/c/x", -1);
    assert_eq!(due(&mut rig, 1101), "/c,/t");
    assert_eq!(rig.apply(NODE, delete_container("/t")).err, -103, "not yet, says the leader's stamp");
    rig.time = 1101;
    assert_eq!(rig.apply(NODE, delete_container("/t")).events, ["NodeDeleted /t", "NodeChildrenChanged /"]);
    assert_eq!(rig.apply(NODE, delete_container("/c")).err, 0);
    let client = request(OpCode::DeleteContainer, 1, &[0], &PathOnly { path: "/c" }.to_bytes());
    assert_eq!(rig.apply(NODE, client).err, -8, "clients do not collect");
}

#[test]
fn watches_after_a_reconnect() {
    let mut rig = Rig::open();
    for path in ["/d", "/gone", "/p", "/r", "/same"] {
        rig.create(path, b"", 0);
    }
    let seen = rig.tree.zxid();
    rig.set("/d", b"1", -1);
    rig.delete("/gone", -1);
    rig.create("/p/x", b"", 0);
    rig.create("/r/x", b"", 0);
    rig.create("/r/x/y", b"", 0);
    rig.set("/p/x", b"2", -1);
    rig.create("/new", b"", 0);
    let body = Request::SetWatches2(SetWatches2 {
        relative_zxid: seen,
        data: vec!["/d", "/gone", "/same"],
        exist: vec!["/new", "/never"],
        child: vec!["/p", "/same", "/gone"],
        persistent: vec!["/p"],
        persistent_recursive: vec!["/r"],
    });
    let (err, body) = rig.read(1, &body);
    let answer = WatchesAnswer::from_bytes(&body).expect("an answer");
    let due: Vec<_> = answer.due.iter().map(|due| (due.list, due.kind, due.path)).collect();
    let expect = [(0, 3, "/d"), (0, 2, "/gone"), (1, 1, "/new"), (2, 4, "/p"), (2, 2, "/gone")];
    assert_eq!((err, &due[..], answer.complete), (0, &expect[..], true));
    let missed: Vec<_> = answer.missed.iter().map(|event| (event.kind, event.path)).collect();
    assert_eq!(missed, [(4, "/p"), (1, "/r/x"), (1, "/r/x/y")]);
    assert!(answer.missed.windows(2).all(|pair| pair[0].zxid < pair[1].zxid));
}

/// ZooKeeper 3.8 looks for a NUL in the path of `exists`, and of no other read.
#[test]
fn exists_refuses_a_nul_in_a_path() {
    let mut rig = Rig::open();
    assert_eq!(rig.stat("/a\0b"), Err(ErrorCode::BadArguments.number()));
    assert_eq!(rig.data("/a\0b"), Err(ErrorCode::NoNode.number()));
}

#[test]
fn configuration_comes_through_the_log() {
    let mut rig = Rig::open();
    rig.apply(NODE, config_text("server.1=a:1:2:participant;a:3\nversion=0"));
    let mut effects = Effects::default();
    let text = Bytes::from_static(b"server.1=a:1:2:participant;a:3\nserver.2=b:1:2:participant;b:3\nversion=100000002");
    rig.tree.on_members(LogIndex(9), &Members::default(), &text, &mut effects);
    assert_eq!(effects.list.len(), 1, "one data change");
    assert_eq!(rig.data("/zookeeper/config"), Ok(text.to_vec()));
    assert_eq!(rig.stat("/zookeeper/config").expect("there").version, -1);
    assert_eq!(rig.set("/zookeeper/config", b"x", -1).err, -102);
    let reconfig = |config| Request::Reconfig(ReconfigRequest { joining: "", leaving: "2", members: "", config });
    assert_eq!(rig.write(1, &reconfig(-1)).err, -123);
    assert_eq!(rig.apply(NODE, configure(&TreeConfig { reconfig: true, ..TreeConfig::default() })).err, 0);
    assert_eq!(rig.write(1, &reconfig(-1)).err, -102);
    rig.auth(1, "super", "");
    assert_eq!(rig.write(1, &reconfig(5)).err, -103);
    let taken = rig.write(1, &reconfig(0x1_0000_0002));
    assert_eq!((taken.err, taken.events.len()), (0, 1));
    assert_eq!(rig.write(1, &reconfig(-1)).err, ErrorCode::ReconfigInProgress.number());
    let copy = restored(&snapshot(&mut rig.tree, 100));
    assert_eq!(copy.digest(), rig.tree.digest(), "a wish is part of the state");
    let version = rig.tree.zxid() - 1;
    let ended = rig.apply(NODE, end_reconfig(version, ErrorCode::NewConfigNoQuorum));
    assert_eq!(ended.events, [format!("ReconfigEnded {version:x} -13")]);
    assert_eq!(rig.write(1, &reconfig(-1)).err, 0);
    let status = rig.internal(internal::STATUS, &0i32);
    assert_eq!(TreeStatus::from_bytes(&status).expect("figures").nodes, 4);
}

#[test]
fn mutants_do_what_they_say() {
    let plant = |mutant| {
        let mut rig = Rig::open();
        rig.tree = std::mem::replace(&mut rig.tree, Tree::new(TreeConfig::default())).with_mutant(mutant);
        rig
    };
    let mut rig = plant(Mutant::WatchAfterReply);
    assert!(!rig.create("/a", b"", 0).reply_last);
    let mut rig = plant(Mutant::SnapshotMissingSession);
    rig.session(2);
    let chunks = snapshot(&mut rig.tree, 1000);
    assert!(rig.tree.digest() != restored(&chunks).digest(), "the digest tells");
    let mut rig = plant(Mutant::EphemeralSurvivesSession);
    rig.create("/a", b"", 1);
    let command = rig.command(NODE, crate::machine::close_session(1));
    rig.tree.apply(&[command], &mut Effects::default());
    assert!(rig.stat("/a").is_ok(), "it stays");
    let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rig.tree.check_deep()));
    assert!(broken.is_err(), "the invariants tell");
}
