//! Drives a tree as services and duties do, through envelopes alone.

use bytes::Bytes;
use verity_contract::{Command, Effect, Effects, ReadOutcome, RequestId, StateMachine};
use verity_types::{Incarnation, LogIndex, NodeId, WallMs};

use crate::machine::{Reply, Tree, TreeConfig, TreeEvent, create_session, encode_ids, query, request};
use crate::wire::{
    Acl, CreateRequest, Decode, Encode, GetDataResponse, Id, OpCode, PathVersion, PathWatch, Request, SetDataRequest,
    Stat, StatResponse,
};

/// What a command caused.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) err: i32,
    pub(super) zxid: i64,
    pub(super) body: Vec<u8>,
    /// Kind, or the session event's name, and path or session.
    pub(super) events: Vec<String>,
    /// True if the reply was the last effect.
    pub(super) reply_last: bool,
}

pub(super) struct Rig {
    pub(super) tree: Tree,
    pub(super) time: u64,
    pub(super) log: Vec<Command>,
    ids: Vec<(i64, String, String)>,
}

pub(super) const NODE: NodeId = NodeId(1);

impl Rig {
    pub(super) fn new(config: TreeConfig) -> Self {
        Self { tree: Tree::new(config), time: 1000, log: Vec::new(), ids: Vec::new() }
    }

    /// With session 1 open.
    pub(super) fn open() -> Self {
        Self::open_with(TreeConfig::default())
    }

    pub(super) fn open_with(config: TreeConfig) -> Self {
        let mut rig = Self::new(config);
        assert_eq!(rig.session(1).err, 0);
        rig
    }

    pub(super) fn command(&mut self, origin: NodeId, bytes: Bytes) -> Command {
        let sequence = self.log.len() as u64 + 1;
        let request = RequestId { origin, incarnation: Incarnation(1), sequence };
        Command { index: LogIndex(sequence), time: WallMs(self.time), request, bytes }
    }

    pub(super) fn apply(&mut self, origin: NodeId, bytes: Bytes) -> Outcome {
        let command = self.command(origin, bytes);
        self.log.push(command.clone());
        let mut effects = Effects::default();
        self.tree.apply(&[command], &mut effects);
        self.tree.check_deep();
        self.tree.invariants();
        outcome(&effects)
    }

    pub(super) fn session(&mut self, id: i64) -> Outcome {
        self.apply(NODE, create_session(id, 4000, &[7; 16]))
    }

    pub(super) fn auth(&mut self, session: i64, scheme: &str, id: &str) {
        self.ids.push((session, scheme.into(), id.into()));
    }

    pub(super) fn ids(&self, session: i64) -> Vec<u8> {
        encode_ids(self.ids.iter().filter(|id| id.0 == session).map(|id| Id { scheme: &id.1, id: &id.2 }))
    }

    pub(super) fn write(&mut self, session: i64, request_: &Request<'_>) -> Outcome {
        let bytes = request(request_.op(), session, &self.ids(session), &request_.to_bytes());
        self.apply(NODE, bytes)
    }

    pub(super) fn read(&mut self, session: i64, request_: &Request<'_>) -> (i32, Vec<u8>) {
        let bytes = request(request_.op(), session, &self.ids(session), &request_.to_bytes());
        self.ask(&bytes)
    }

    pub(super) fn ask(&mut self, query: &[u8]) -> (i32, Vec<u8>) {
        let ReadOutcome::Ready(bytes) = self.tree.read(query) else { panic!("a tree never waits") };
        let reply = Reply::decode(&bytes).expect("answers have heads");
        assert_eq!(reply.zxid, self.tree.zxid());
        (reply.err, reply.body.to_vec())
    }

    pub(super) fn internal(&mut self, op: i32, body: &impl Encode) -> Vec<u8> {
        let (err, body) = self.ask(&query(op, body));
        assert_eq!(err, 0);
        body
    }

    pub(super) fn create(&mut self, path: &str, data: &[u8], flags: i32) -> Outcome {
        let request = CreateRequest { path, data: Some(data), acl: vec![Acl::OPEN], flags };
        self.write(1, &Request::Create(OpCode::Create, request))
    }

    pub(super) fn delete(&mut self, path: &str, version: i32) -> Outcome {
        self.write(1, &Request::Delete(PathVersion { path, version }))
    }

    pub(super) fn set(&mut self, path: &str, data: &[u8], version: i32) -> Outcome {
        self.write(1, &Request::SetData(SetDataRequest { path, data: Some(data), version }))
    }

    pub(super) fn stat(&mut self, path: &str) -> Result<Stat, i32> {
        let (err, body) = self.read(1, &Request::Exists(PathWatch { path, watch: false }));
        if err == 0 { Ok(StatResponse::from_bytes(&body).expect("a stat").stat) } else { Err(err) }
    }

    pub(super) fn data(&mut self, path: &str) -> Result<Vec<u8>, i32> {
        let (err, body) = self.read(1, &Request::GetData(PathWatch { path, watch: false }));
        if err != 0 {
            return Err(err);
        }
        Ok(GetDataResponse::from_bytes(&body).expect("data and stat").data.unwrap_or(b"<null>").to_vec())
    }
}

pub(super) fn outcome(effects: &Effects) -> Outcome {
    let mut events = Vec::new();
    let mut reply = None;
    for effect in &effects.list {
        match effect {
            Effect::Reply { bytes, .. } => {
                let decoded = Reply::decode(bytes).expect("answers have heads");
                assert!(reply.replace((decoded.err, decoded.zxid, decoded.body.to_vec())).is_none(), "one answer each");
            }
            Effect::Event { topic, bytes } => events.push(event_text(topic, bytes)),
            Effect::Spawn(_) | Effect::Retire(_) | Effect::Fail(_) | Effect::Call(_) => {
                panic!("a tree has neither groups nor files of its own")
            }
        }
    }
    let (err, zxid, body) = reply.expect("every command is answered");
    Outcome { err, zxid, body, events, reply_last: matches!(effects.list.last(), Some(Effect::Reply { .. })) }
}

fn event_text(topic: &[u8], bytes: &[u8]) -> String {
    match TreeEvent::decode(topic, bytes).expect("events decode") {
        TreeEvent::Node { kind, path, .. } => {
            format!("{kind:?} {}", std::str::from_utf8(path).expect("paths are text"))
        }
        TreeEvent::SessionOpened { session, .. } => format!("SessionOpened {session}"),
        TreeEvent::SessionClosed { session } => format!("SessionClosed {session}"),
        TreeEvent::ReconfigWanted { version, .. } => format!("ReconfigWanted {version:x}"),
        TreeEvent::ReconfigEnded { version, err } => format!("ReconfigEnded {version:x} {err}"),
        TreeEvent::SessionMoved { session, owner } => format!("SessionMoved {session} to {owner}"),
    }
}

/// A snapshot in chunks of about `size` bytes.
pub(super) fn snapshot(tree: &mut Tree, size: usize) -> Vec<Bytes> {
    tree.snapshot_begin();
    std::iter::from_fn(|| tree.snapshot_next(size)).collect()
}

pub(super) fn restored(chunks: &[Bytes]) -> Tree {
    let mut tree = Tree::with_index_seed(TreeConfig::default(), 0x5eed);
    tree.restore(&mut chunks.iter().cloned().map(Ok)).expect("a snapshot restores");
    tree.check_deep();
    tree
}
