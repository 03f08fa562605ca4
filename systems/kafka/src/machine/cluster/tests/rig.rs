//! A machine, and a session's image that only hears its events.

use bytes::Bytes;
use verity_contract::{Command as Ordered, Effect, Effects, ReadOutcome, RequestId, Spawn, StateMachine};
use verity_types::{GroupId, Incarnation, LogIndex, NodeId, WallMs};

use super::super::*;
use crate::wire::Uuid;

pub(super) struct Rig {
    pub(super) machine: Cluster,
    /// What a session has heard.
    pub(super) heard: ClusterImage,
    /// Every command so far.
    pub(super) log: Vec<Ordered>,
    /// What the last command had spawned and retired.
    pub(super) spawned: Vec<Spawn>,
    pub(super) retired: Vec<GroupId>,
    ids: u8,
}

pub(super) fn ordered(sequence: u64, bytes: Bytes) -> Ordered {
    let request = RequestId { origin: NodeId(1), incarnation: Incarnation(1), sequence };
    Ordered { index: LogIndex(sequence), time: WallMs(1_700_000_000_000), request, bytes }
}

impl Rig {
    /// So many nodes without racks.
    pub(super) fn new(nodes: i32) -> Self {
        Self::with_racks(&vec![None; usize::try_from(nodes).expect("a few")])
    }

    pub(super) fn with_racks(racks: &[Option<&str>]) -> Self {
        let mut rig = Self::empty();
        for (id, rack) in (1..).zip(racks) {
            let rack = rack.map(str::to_owned);
            rig.ok(Command::Register { id, rack, host: format!("node-{id}"), port: 9092, tls_port: 0 });
        }
        rig
    }

    pub(super) fn empty() -> Self {
        Self {
            machine: Cluster::new(),
            heard: ClusterImage::default(),
            log: Vec::new(),
            spawned: Vec::new(),
            retired: Vec::new(),
            ids: 0,
        }
    }

    pub(super) fn order_bytes(&mut self, bytes: Bytes) -> Reply {
        let command = ordered(self.log.len() as u64 + 1, bytes);
        let mut effects = Effects::default();
        let before = self.machine.image().version();
        self.machine.apply(std::slice::from_ref(&command), &mut effects);
        self.machine.invariants();
        self.log.push(command);
        let Some(Effect::Reply { bytes, .. }) = effects.list.pop() else { panic!("{:?}", effects.list) };
        let reply = Reply::decode(&bytes).expect("a whole reply");
        (self.spawned, self.retired) = (Vec::new(), Vec::new());
        let mut events = 0;
        for effect in effects.list {
            match effect {
                Effect::Event { topic, bytes } => {
                    assert_eq!(topic, CHANGED);
                    assert_eq!(self.heard.on_event(&bytes), Ok(true));
                    events += 1;
                }
                Effect::Spawn(spawn) => self.spawned.push(spawn),
                Effect::Retire(group) => self.retired.push(group),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(&self.heard, self.machine.image(), "who hears the events knows what the machine knows");
        assert_eq!(self.heard.version(), before + events, "one event a change");
        assert_eq!(reply.version, self.heard.version());
        if !reply.error.is_none() {
            assert_eq!(events, 0, "what is refused changes nothing");
        }
        reply
    }

    pub(super) fn order(&mut self, command: Command) -> Reply {
        let bytes = command.encode();
        assert_eq!(Command::decode(&bytes), Ok(command));
        self.order_bytes(bytes)
    }

    pub(super) fn ok(&mut self, command: Command) -> Outcome {
        let reply = self.order(command);
        assert_eq!(reply.error, ErrorCode::NONE, "{:?}", reply.message);
        reply.outcome
    }

    /// The code and the message of a refusal.
    pub(super) fn refused(&mut self, command: Command) -> (ErrorCode, String) {
        let reply = self.order(command);
        assert_ne!(reply.error, ErrorCode::NONE, "it was not refused");
        (reply.error, reply.message.expect("every refusal has a reason"))
    }

    pub(super) fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid([self.ids; 16])
    }

    pub(super) fn create(&mut self, name: &str, partitions: i32, replication_factor: i16) -> Uuid {
        let command = self.topic(name, partitions, replication_factor, &[]);
        let Outcome::Created { id, .. } = self.ok(command) else { panic!("it was not created") };
        id
    }

    /// The command that creates this.
    pub(super) fn topic(&mut self, name: &str, partitions: i32, factor: i16, configs: &[(&str, &str)]) -> Command {
        let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
        Command::CreateTopic {
            name: name.to_owned(),
            id: self.id(),
            partitions,
            replication_factor: factor,
            assignments: Vec::new(),
            configs,
            validate_only: false,
        }
    }

    pub(super) fn assigned(&mut self, name: &str, assignments: &[(i32, &[i32])]) -> Command {
        Command::CreateTopic {
            name: name.to_owned(),
            id: self.id(),
            partitions: -1,
            replication_factor: -1,
            assignments: assignments.iter().map(|(index, ids)| (*index, ids.to_vec())).collect(),
            configs: Vec::new(),
            validate_only: false,
        }
    }

    pub(super) fn partition(&self, topic: &str, index: i32) -> Partition {
        self.heard.partition(topic, index).expect("it is there").clone()
    }

    pub(super) fn set(&mut self, resource: ConfigResource, name: &str, value: &str) -> Reply {
        let ops = vec![ConfigOp { name: name.to_owned(), op: 0, value: Some(value.to_owned()) }];
        self.order(Command::IncrementalAlterConfig { resource, ops, validate_only: false })
    }

    pub(super) fn snapshot(&mut self) -> Bytes {
        let ReadOutcome::Ready(bytes) = self.machine.read(&Query::Snapshot.encode()) else { panic!("at once") };
        bytes
    }
}

pub(super) fn node_ids(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}
