//! A coordinator on its own, and short words for what clients do.

use bytes::Bytes;
use verity_contract::{self as contract, Effect, Effects, ReadOutcome, RequestId, StateMachine};
use verity_types::{Incarnation, LogIndex, NodeId, WallMs};

use crate::machine::coordinator::*;
use crate::wire::{ErrorCode, Uuid};

pub(super) const GROUP: &str = "g";
pub(super) const SESSION_MS: i32 = 10_000;
pub(super) const REBALANCE_MS: i32 = 60_000;

pub(super) struct Rig {
    pub(super) state: Coordinator,
    pub(super) time: u64,
    pub(super) log: Vec<contract::Command>,
    /// What the last command put out beside its answer and for the duty.
    pub(super) groups: Vec<GroupEvent>,
    pub(super) markers: Vec<TransactionEvent>,
    pub(super) shares: Vec<ShareEvent>,
}

pub(super) fn apply(state: &mut Coordinator, command: &contract::Command) -> Effects {
    let mut effects = Effects::default();
    state.apply(std::slice::from_ref(command), &mut effects);
    state.invariants();
    effects
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(CoordinatorConfig::default())
    }

    pub(super) fn with(config: CoordinatorConfig) -> Self {
        let (state, log) = (Coordinator::new(), Vec::new());
        let (groups, markers, shares) = (Vec::new(), Vec::new(), Vec::new());
        let mut rig = Self { state, time: 1_000_000, log, groups, markers, shares };
        rig.run(Command::Lead { config });
        rig
    }

    pub(super) fn run(&mut self, command: Command) -> Reply {
        let sequence = self.log.len() as u64 + 1;
        let request = RequestId { origin: NodeId(1), incarnation: Incarnation(1), sequence };
        let bytes = command.encode();
        let command = contract::Command { index: LogIndex(sequence), time: WallMs(self.time), request, bytes };
        self.log.push(command.clone());
        let effects = apply(&mut self.state, &command);
        self.groups.clear();
        self.markers.clear();
        self.shares.clear();
        let mut reply = None;
        for effect in effects.list {
            match effect {
                Effect::Reply { bytes, .. } => assert!(reply.replace(Reply::decode(&bytes).unwrap()).is_none()),
                Effect::Event { topic, bytes } if topic.starts_with(b"g/") => {
                    self.groups.push(GroupEvent::decode(&bytes).unwrap());
                }
                Effect::Event { topic, bytes } if topic.starts_with(b"t/") => {
                    self.markers.push(TransactionEvent::decode(&bytes).unwrap());
                }
                Effect::Event { topic, bytes } if topic.starts_with(b"s/") => {
                    self.shares.push(ShareEvent::decode(&bytes).unwrap());
                }
                Effect::Event { bytes, .. } => assert!(DutyEvent::decode(&bytes).is_ok()),
                other => panic!("unexpected {other:?}"),
            }
        }
        reply.expect("every command is answered")
    }

    /// Lets time pass, and what is due happen.
    pub(super) fn pass(&mut self, ms: u64) {
        self.time += ms;
        self.run(Command::Tick);
    }

    pub(super) fn ask(&mut self, query: Query) -> Answer {
        let ReadOutcome::Ready(bytes) = self.state.read(&query.encode()) else { panic!("it answers at once") };
        Answer::decode(&bytes).unwrap()
    }

    pub(super) fn join(&mut self, join: Join) -> Reply {
        self.run(Command::Join { request: join })
    }

    /// A dynamic member joins with an id.
    pub(super) fn enter(&mut self, id: &str) -> Reply {
        self.join(join(id))
    }

    /// A new dynamic member gets an id as version 3 gives it, and joins at once.
    pub(super) fn enter_new(&mut self, id: &str) -> Reply {
        self.join(Join { member_id: String::new(), member_id_required: false, ..join(id) })
    }

    pub(super) fn sync(&mut self, id: &str, generation: i32, assignments: &[(&str, &'static str)]) -> Reply {
        let assignments =
            assignments.iter().map(|(id, text)| ((*id).to_owned(), Bytes::from_static(text.as_bytes()))).collect();
        let request = Sync {
            group_id: GROUP.into(),
            generation,
            member: name(id),
            protocol_type: Some("consumer".into()),
            protocol: None,
            assignments,
        };
        self.run(Command::Sync { request })
    }

    pub(super) fn beat(&mut self, id: &str, generation: i32) -> ErrorCode {
        let query = Query::Heartbeat { group_id: GROUP.into(), generation, member: name(id) };
        let Answer::Heartbeat { error } = self.ask(query) else { panic!("a heartbeat's answer") };
        let command = Command::Heartbeat { group_id: GROUP.into(), generation, member: name(id) };
        assert_eq!(self.run(command), Reply::Error { error }, "the order says the same");
        error
    }

    pub(super) fn leave(&mut self, members: Vec<MemberName>) -> Vec<ErrorCode> {
        match self.run(Command::Leave { group_id: GROUP.into(), members }) {
            Reply::Leave { members } => members.into_iter().map(|left| left.error).collect(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn expire(&mut self, id: &str) -> ErrorCode {
        match self.run(Command::ExpireMember { group_id: GROUP.into(), member_id: id.into() }) {
            Reply::Error { error } => error,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn describe(&mut self) -> ClassicRow {
        match self.ask(Query::DescribeGroups { group_ids: vec![GROUP.into()] }) {
            Answer::Groups { mut groups } => groups.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn commit(&mut self, id: &str, generation: i32, topic: &str, offset: i64) -> ErrorCode {
        let reply = self.run(Command::CommitOffsets { request: commit(id, generation, topic, offset) });
        first_error(&reply)
    }

    /// Offset and error of partition 0.
    pub(super) fn offset(&mut self, topic: &str, stable: bool) -> (i64, ErrorCode) {
        self.offset_of(topic, Uuid::ZERO, stable)
    }

    pub(super) fn offset_of(&mut self, topic: &str, topic_id: Uuid, stable: bool) -> (i64, ErrorCode) {
        let topics = Some(vec![FetchTopic { topic: topic.into(), topic_id, partitions: vec![0] }]);
        let group_id = GROUP.into();
        let query = Query::FetchOffsets { group_id, member_id: String::new(), member_epoch: -1, topics, stable };
        match self.ask(query) {
            Answer::Offsets { error: ErrorCode::NONE, topics } => {
                let row = &topics[0].partitions[0];
                (row.offset, row.error)
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn name(id: &str) -> MemberName {
    MemberName { member_id: id.into(), instance_id: None }
}

pub(super) fn instance(id: &str, instance: &str) -> MemberName {
    MemberName { member_id: id.into(), instance_id: Some(instance.into()) }
}

pub(super) fn subscription(topics: &[&str]) -> Bytes {
    let mut out = vec![0, 1];
    out.extend_from_slice(&u32::try_from(topics.len()).unwrap().to_be_bytes());
    for topic in topics {
        out.extend_from_slice(&u16::try_from(topic.len()).unwrap().to_be_bytes());
        out.extend_from_slice(topic.as_bytes());
    }
    Bytes::from(out)
}

pub(super) fn protocol(name: &str) -> Protocol {
    Protocol { name: name.into(), metadata: subscription(&["read"]) }
}

pub(super) fn join(id: &str) -> Join {
    Join {
        group_id: GROUP.into(),
        member_id: id.into(),
        new_member_id: id.into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range")],
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        member_id_required: true,
        skip_assignment: true,
    }
}

pub(super) fn commit(id: &str, generation: i32, topic: &str, offset: i64) -> CommitOffsets {
    CommitOffsets {
        group_id: GROUP.into(),
        generation,
        member: name(id),
        knows_epochs: true,
        retention_ms: -1,
        topics: offsets(topic, offset),
    }
}

pub(super) fn offsets(topic: &str, offset: i64) -> Vec<TopicOffsets> {
    let row = OffsetRow { partition: 0, offset, leader_epoch: 3, metadata: "m".into() };
    vec![TopicOffsets { topic: topic.into(), topic_id: Uuid::ZERO, partitions: vec![row] }]
}

pub(super) fn first_error(reply: &Reply) -> ErrorCode {
    match reply {
        Reply::Topics { error, topics, .. } if !error.is_none() || topics.is_empty() => *error,
        Reply::Topics { topics, .. } => topics[0].partitions[0].1,
        other => panic!("{other:?}"),
    }
}

pub(super) fn joined(reply: &Reply) -> &JoinResult {
    match reply {
        Reply::Join { result } => result,
        other => panic!("{other:?}"),
    }
}

pub(super) fn synced(reply: &Reply) -> &SyncResult {
    match reply {
        Reply::Sync { result } => result,
        other => panic!("{other:?}"),
    }
}

pub(super) fn ticket(reply: &Reply) -> u64 {
    match reply {
        Reply::Wait { ticket } => *ticket,
        other => panic!("{other:?}"),
    }
}

pub(super) fn restored(state: &mut Coordinator, size: usize) -> Coordinator {
    state.snapshot_begin();
    let chunks: Vec<Bytes> = std::iter::from_fn(|| state.snapshot_next(size)).collect();
    assert!(chunks.iter().all(|chunk| chunk.len() <= size));
    let mut copy = Coordinator::new();
    copy.restore(&mut chunks.into_iter().map(Ok)).expect("a snapshot restores");
    copy.invariants();
    copy
}
