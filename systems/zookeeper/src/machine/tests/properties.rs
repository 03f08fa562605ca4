//! Random histories: replicas agree, snapshots are the state, bytes never panic.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use verity_contract::{Command, Effects, ReadOutcome, StateMachine};

use super::rig::{NODE, Rig, restored};
use crate::machine::{Tree, TreeConfig, close_session, create_session, delete_container, encode_ids, request};
use crate::wire::{
    Acl, CreateRequest, CreateTtlRequest, Encode, Id, OpCode, PathVersion, Request, SetAclRequest, SetDataRequest,
};

const CONFIG: TreeConfig =
    TreeConfig { extended_types: true, enforce_quota: true, skip_acl: false, reconfig: false, x509: true, sasl: true };

/// What to do, small enough to collide often.
#[derive(Clone, Debug)]
enum Op {
    Create { op: u8, path: String, flags: i32, size: u8, acl: u8 },
    Delete { path: String, version: i32 },
    Set { path: String, size: u8, version: i32 },
    SetAcl { path: String, acl: u8 },
    Check { path: String, version: i32 },
    Multi(Vec<Op>),
    Open(i64),
    Close(i64),
    Collect(String),
}

fn path() -> impl Strategy<Value = String> {
    let names = vec(prop_oneof!["[abc]", Just("zookeeper_limits".to_owned())], 1..4);
    (any::<bool>(), any::<bool>(), names).prop_map(|(quota, deep, mut names)| {
        if !deep {
            names.truncate(1);
        }
        if quota && deep { format!("/zookeeper/quota/{}", names.join("/")) } else { format!("/{}", names.join("/")) }
    })
}

fn simple() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0u8..4, path(), 0i32..7, any::<u8>(), 0u8..3)
            .prop_map(|(op, path, flags, size, acl)| Op::Create { op, path, flags, size, acl }),
        3 => (path(), -1i32..1).prop_map(|(path, version)| Op::Delete { path, version }),
        3 => (path(), any::<u8>(), -1i32..2).prop_map(|(path, size, version)| Op::Set { path, size, version }),
        1 => (path(), -1i32..1).prop_map(|(path, version)| Op::Check { path, version }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => simple(),
        4 => vec(simple(), 0..6).prop_map(Op::Multi),
        1 => (path(), 0u8..3).prop_map(|(path, acl)| Op::SetAcl { path, acl }),
        2 => (1i64..4).prop_map(Op::Open),
        1 => (1i64..4).prop_map(Op::Close),
        1 => path().prop_map(Op::Collect),
    ]
}

fn acl(kind: u8) -> Vec<Acl<'static>> {
    match kind {
        0 => vec![Acl::OPEN],
        1 => vec![Acl { perms: 31, id: Id { scheme: "digest", id: "u:h" } }, Acl { perms: 1, id: Id::ANYONE }],
        _ => vec![Acl { perms: 31, id: Id { scheme: "auth", id: "" } }],
    }
}

static DATA: [u8; 256] = [b'x'; 256];

impl Op {
    fn to_request(&self) -> Request<'_> {
        match self {
            Op::Create { op, path, flags, size, acl: list } => {
                let data = (*size > 20).then_some(&DATA[..usize::from(*size)]);
                let acl = acl(*list);
                let request = CreateRequest { path, data, acl: acl.clone(), flags: *flags };
                match op {
                    0 => Request::Create(OpCode::Create, request),
                    1 => Request::Create(OpCode::Create2, request),
                    2 => Request::Create(OpCode::CreateContainer, request),
                    _ => Request::CreateTtl(CreateTtlRequest { path, data, acl, flags: *flags, ttl: 5 }),
                }
            }
            Op::Delete { path, version } => Request::Delete(PathVersion { path, version: *version }),
            Op::Set { path, size, version } => {
                let data = (*size > 20).then_some(&DATA[..usize::from(*size)]);
                Request::SetData(SetDataRequest { path, data, version: *version })
            }
            Op::SetAcl { path, acl: list } => Request::SetAcl(SetAclRequest { path, acl: acl(*list), version: -1 }),
            Op::Check { path, version } => Request::Check(PathVersion { path, version: *version }),
            Op::Multi(list) => Request::Multi(list.iter().map(Op::to_request).collect()),
            Op::Open(_) | Op::Close(_) | Op::Collect(_) => unreachable!("not a client's request"),
        }
    }

    fn to_bytes(&self, session: i64) -> Bytes {
        match self {
            Op::Open(id) => create_session(*id, 4000, &[7; 16]),
            Op::Close(id) => close_session(*id),
            Op::Collect(path) => delete_container(path),
            _ => {
                let own = self.to_request();
                let ids = encode_ids([Id { scheme: "digest", id: "u:h" }].into_iter().filter(|_| session != 2));
                request(own.op(), session, &ids, &own.to_bytes())
            }
        }
    }
}

fn history() -> impl Strategy<Value = Vec<(Op, i64)>> {
    vec((op(), 1i64..4), 0..80)
}

fn commands(history: &[(Op, i64)]) -> Vec<Command> {
    let mut rig = Rig::new(CONFIG);
    let mut out = vec![rig.command(NODE, create_session(1, 4000, &[7; 16]))];
    for (op, session) in history {
        rig.time += 1;
        out.push(rig.command(NODE, op.to_bytes(*session)));
    }
    out
}

fn succeeded(effects: &Effects) -> usize {
    let ok = |effect: &&verity_contract::Effect| matches!(effect, verity_contract::Effect::Reply { bytes, .. } if bytes.starts_with(&[0; 4]));
    effects.list.iter().filter(ok).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn replicas_agree_and_every_step_keeps_the_invariants(history in history()) {
        let log = commands(&history);
        let (mut a, mut b) = (Tree::new(CONFIG), Tree::with_index_seed(CONFIG, 99));
        let (mut ea, mut eb) = (Effects::default(), Effects::default());
        for command in &log {
            a.apply(std::slice::from_ref(command), &mut ea);
            a.invariants();
            a.check_deep();
        }
        b.apply(&log, &mut eb);
        prop_assert!(succeeded(&ea) > 0);
        prop_assert_eq!(a.digest(), b.digest());
        prop_assert_eq!(ea.list, eb.list);
    }

    /// A snapshot drawn while writes go on is the state at its beginning; what follows is the same on top of it.
    #[test]
    fn a_snapshot_is_its_beginning(history in history(), at in 0usize..80, chunk in 1usize..400) {
        let log = commands(&history);
        let at = at.min(log.len());
        let mut tree = Tree::new(CONFIG);
        tree.apply(&log[..at], &mut Effects::default());
        let then = tree.digest();
        tree.snapshot_begin();
        let mut chunks: Vec<Bytes> = tree.snapshot_next(chunk).into_iter().collect();
        let mut effects = Effects::default();
        for command in &log[at..] {
            tree.apply(std::slice::from_ref(command), &mut effects);
            chunks.extend(tree.snapshot_next(chunk));
        }
        while let Some(more) = tree.snapshot_next(chunk) {
            chunks.push(more);
        }
        tree.check_deep();
        let mut copy = restored(&chunks);
        prop_assert_eq!(copy.digest(), then);
        let mut replayed = Effects::default();
        copy.apply(&log[at..], &mut replayed);
        prop_assert_eq!(copy.digest(), tree.digest());
        prop_assert_eq!(replayed.list, effects.list);
        copy.check_deep();
    }

    /// A reader does not rely on where chunks end, and takes no damaged snapshot without noticing.
    #[test]
    fn chunks_may_be_cut_anywhere_and_damage_is_noticed(history in history(), cut in 1usize..50, flip in any::<u32>()) {
        let mut tree = Tree::new(CONFIG);
        tree.apply(&commands(&history), &mut Effects::default());
        let whole: Vec<u8> = super::rig::snapshot(&mut tree, 500).concat();
        let cuts: Vec<Bytes> = whole.chunks(cut).map(Bytes::copy_from_slice).collect();
        prop_assert_eq!(restored(&cuts).digest(), tree.digest());
        let mut damaged = whole.clone();
        let at = flip as usize % damaged.len();
        damaged[at] ^= 1 << (flip % 8);
        let mut other = Tree::new(CONFIG);
        if other.restore(&mut [Ok(Bytes::from(damaged))].into_iter()).is_ok() {
            // A bit that changes nothing, such as the number of slots that the head announces.
            prop_assert_eq!(other.digest(), tree.digest());
            other.check_deep();
        }
        let mut short = Tree::new(CONFIG);
        let cut_off = Bytes::copy_from_slice(&whole[..whole.len() - 1]);
        prop_assert!(short.restore(&mut [Ok(cut_off)].into_iter()).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..100), op in -40i32..110, body in vec(0u8..5, 0..60)) {
        let mut rig = Rig::open_with(CONFIG);
        rig.apply(NODE, Bytes::from(bytes.clone()));
        rig.ask(&bytes);
        for flags in 0..4 {
            let framed = crate::machine::Envelope::encode_with(op, 1, flags, &[0], &body);
            rig.apply(NODE, framed.clone());
            rig.ask(&framed);
        }
        let mut tree = Tree::new(CONFIG);
        prop_assert!(tree.restore(&mut [Ok(Bytes::from(bytes))].into_iter()).is_err());
        let ReadOutcome::Ready(_) = rig.tree.read(b"") else { panic!("a tree never waits") };
    }
}
