//! One node that leads everything: the service, real machines and their duties, without an agreement in between. What is
//! proposed is applied when the service's turn is over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use verity_clock::{Interval, Now};
use verity_contract::{
    self as contract, Door, Duty, DutyInput, DutyOutput, Effect, Effects, Failure, GroupRole, Peer, ReadOutcome,
    RequestId, Service, SessionInput, SessionOutput, StateMachine,
};
use verity_storage::{Disk, MemoryDisk};
use verity_types::{ConnId, GroupId, Incarnation, LogIndex, Mono, Nanos, NodeId, Term, Token, WallMs};

use super::super::{Config, Kafka, Listener};
use crate::machine::cluster::{Agreement, Blueprint, Cluster, ClusterDuty, Command};
use crate::machine::coordinator::{Coordinator, CoordinatorConfig, CoordinatorDuty};
use crate::machine::partition::{Partition, PartitionDuty};
use crate::wire::{ApiKey, Frames, Request, Response, Uuid, decode_response, encode_request};

/// The group of the metadata.
pub(crate) const CLUSTER: GroupId = GroupId(2);
/// The group of the coordinator.
pub(crate) const COORDINATOR: GroupId = GroupId(3);
/// The listener without TLS and SASL.
pub(crate) const PLAIN: Door = Door(0);
/// The listener that wants SASL.
pub(crate) const SASL: Door = Door(1);
const NODE: NodeId = NodeId(1);
/// 2026-01-01.
const EPOCH_MS: u64 = 1_767_225_600_000;

struct Hosted {
    machine: Box<dyn StateMachine>,
    duty: Box<dyn Duty>,
    index: u64,
    wakes: BTreeSet<Mono>,
}

/// What a duty is told.
enum Word {
    Lead,
    Wake,
    Whisper(Bytes),
    Event(Bytes, Bytes),
}

struct Client {
    frames: Frames,
    asked: VecDeque<(ApiKey, i16)>,
    closed: bool,
}

/// The node.
pub(crate) struct Rig {
    kafka: Kafka,
    disk: Arc<dyn Disk>,
    groups: BTreeMap<GroupId, Hosted>,
    clients: BTreeMap<ConnId, Client>,
    now: u64,
    wakes: BTreeSet<Mono>,
    /// How many pieces of answers left from files.
    pub(crate) from_files: usize,
    work: VecDeque<SessionInput>,
    /// Proposals are kept from being applied.
    pub(crate) stalled: bool,
    /// Events of the coordinator do not reach the service.
    pub(crate) deaf: bool,
    /// Groups that are hosted from now on find no leader.
    pub(crate) leaderless: bool,
    /// To whom leadership was handed over, in vain: there are no other nodes.
    pub(crate) handovers: Vec<(GroupId, NodeId)>,
    held: Vec<(Token, GroupId, Bytes)>,
    next_conn: u64,
    correlation: i32,
}

/// What the node is started with.
pub(crate) fn config() -> Config {
    Config {
        node: NODE,
        incarnation: Incarnation(1),
        cluster_id: "verity-test".into(),
        cluster: CLUSTER,
        coordinator: COORDINATOR,
        founders: 1,
        agreement: Agreement::Raft,
        keys: BTreeMap::new(),
        host: "127.0.0.1".into(),
        port: 9092,
        tls_port: 0,
        rack: None,
        max_reauth: None,
        log_dir: "/data".into(),
        doors: BTreeMap::from([(PLAIN, Listener::default()), (SASL, Listener { tls: false, sasl: true })]),
        plain_users: BTreeMap::from([("alice".to_owned(), "secret".to_owned())]),
        super_users: BTreeSet::new(),
        allow_if_no_rule: true,
        secret: [7; 32],
        meter: None,
    }
}

impl Rig {
    /// A node that has started.
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    /// A node that has started like this.
    pub(crate) fn with(config: Config) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let mut rig = Self {
            kafka: Kafka::new(config),
            disk,
            groups: BTreeMap::new(),
            clients: BTreeMap::new(),
            now: 1_000_000_000,
            wakes: BTreeSet::new(),
            work: VecDeque::from([SessionInput::Wake]),
            stalled: false,
            deaf: false,
            leaderless: false,
            handovers: Vec::new(),
            held: Vec::new(),
            from_files: 0,
            next_conn: 0,
            correlation: 0,
        };
        rig.host(CLUSTER, Box::new(Cluster::new()), Box::new(ClusterDuty::new()));
        let duty = CoordinatorDuty::new(CoordinatorConfig::default());
        rig.host(COORDINATOR, Box::new(Coordinator::new()), Box::new(duty));
        rig.run();
        rig
    }

    /// Now.
    pub(crate) fn now(&self) -> Now {
        let nanos = EPOCH_MS * 1_000_000 + self.now;
        Now { mono: Mono(self.now), wall: Interval { earliest: nanos, latest: nanos } }
    }

    fn host(&mut self, group: GroupId, machine: Box<dyn StateMachine>, duty: Box<dyn Duty>) {
        self.groups.insert(group, Hosted { machine, duty, index: 0, wakes: BTreeSet::new() });
        let leads = !self.leaderless;
        let role = GroupRole { leader: leads.then_some(NODE), term: Term(u64::from(leads)), leads, votes: true };
        self.work.push_back(SessionInput::Role { group, role });
        if leads {
            self.duty(group, Word::Lead);
        }
    }

    fn duty(&mut self, group: GroupId, word: Word) {
        let now = self.now();
        let Some(hosted) = self.groups.get_mut(&group) else { return };
        let mut out = Vec::new();
        let input = match &word {
            Word::Lead => DutyInput::Lead(hosted.machine.as_mut()),
            Word::Wake => DutyInput::Wake(hosted.machine.as_mut()),
            Word::Whisper(bytes) => DutyInput::Whisper { from: NODE, bytes: bytes.clone() },
            Word::Event(topic, bytes) => DutyInput::Event { topic, bytes },
        };
        hosted.duty.on(now, input, &mut out);
        for output in out {
            match output {
                DutyOutput::Propose(command) => self.apply(group, None, command),
                DutyOutput::Wake(at) => {
                    self.groups.get_mut(&group).expect("it was just there").wakes.insert(at);
                }
                DutyOutput::Transfer(to) => self.handovers.push((group, to)),
                DutyOutput::Reconfigure { .. } => {}
            }
        }
    }

    fn apply(&mut self, group: GroupId, token: Option<Token>, command: Bytes) {
        let time = WallMs(EPOCH_MS + self.now / 1_000_000);
        let Some(hosted) = self.groups.get_mut(&group) else {
            if let Some(token) = token {
                let result = Err(Failure::NoSuchGroup);
                self.work.push_back(SessionInput::Completed { token, result });
            }
            return;
        };
        hosted.index += 1;
        let request = RequestId { origin: NODE, incarnation: Incarnation(1), sequence: hosted.index };
        let command = contract::Command { index: LogIndex(hosted.index), time, request, bytes: command };
        let mut effects = Effects::default();
        hosted.machine.apply(&[command], &mut effects);
        for effect in effects.list {
            match effect {
                Effect::Reply { bytes, .. } => {
                    if let Some(token) = token {
                        self.work.push_back(SessionInput::Completed { token, result: Ok(bytes) });
                    }
                }
                Effect::Event { topic, bytes } => {
                    let input = SessionInput::Event { group, topic: topic.clone(), bytes: bytes.clone() };
                    if !(self.deaf && group == COORDINATOR) {
                        self.work.push_back(input);
                    }
                    self.duty(group, Word::Event(topic, bytes));
                }
                Effect::Spawn(spawn) => {
                    let Ok(blueprint) = Blueprint::decode(&spawn.blueprint) else { continue };
                    if !self.groups.contains_key(&spawn.group) {
                        let machine = Partition::new(Arc::clone(&self.disk), spawn.group, blueprint.config);
                        let duty = PartitionDuty::new(Nanos::from_millis(300_000));
                        self.host(spawn.group, Box::new(machine), Box::new(duty));
                    }
                }
                Effect::Retire(group) => drop(self.groups.remove(&group)),
                Effect::Fail(reason) => panic!("{reason}"),
                Effect::Call(_) => panic!("nothing is asked outside"),
            }
        }
    }

    /// Places a command in a group's order, as another node would.
    pub(crate) fn order(&mut self, group: GroupId, command: Bytes) {
        self.apply(group, None, command);
        self.run();
    }

    /// Asks a machine itself.
    pub(crate) fn query(&mut self, group: GroupId, query: &[u8]) -> Bytes {
        let hosted = self.groups.get_mut(&group).expect("the group is hosted here");
        match hosted.machine.read(query) {
            ReadOutcome::Ready(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    /// Takes in everything that waits.
    pub(crate) fn run(&mut self) {
        while let Some(input) = self.work.pop_front() {
            let mut out = Vec::new();
            self.kafka.on(self.now(), input, &mut out);
            self.kafka.invariants();
            out.into_iter().for_each(|output| self.carry_out(output));
        }
    }

    fn carry_out(&mut self, output: SessionOutput) {
        match output {
            SessionOutput::FileRange { conn, range } => {
                self.from_files += 1;
                let bytes = range.read(usize::MAX).expect("the file is there");
                self.carry_out(SessionOutput::Bytes { conn, bytes });
            }
            SessionOutput::Bytes { conn, bytes } => {
                let client = self.clients.get_mut(&conn).expect("only clients that are there are answered");
                assert!(!client.closed, "nothing is said to who was hung up on");
                client.frames.push(bytes).expect("answers are frames");
            }
            SessionOutput::Propose { token, group, command } if self.stalled => {
                self.held.push((token, group, command.join()))
            }
            SessionOutput::Propose { token, group, command } => self.apply(group, Some(token), command.join()),
            SessionOutput::Read { token, group, query, .. } => {
                let completed = |result| SessionInput::Completed { token, result };
                self.work.push_back(match self.groups.get_mut(&group).map(|hosted| hosted.machine.read(&query)) {
                    None => completed(Err(Failure::NoSuchGroup)),
                    Some(ReadOutcome::Ready(bytes)) => completed(Ok(bytes)),
                    Some(ReadOutcome::InFile(bytes, range)) => SessionInput::CompletedInFile { token, bytes, range },
                    Some(ReadOutcome::WaitFor(_)) => completed(Err(Failure::Unavailable)),
                });
            }
            SessionOutput::Dial { .. }
            | SessionOutput::Drain { .. }
            | SessionOutput::Stop
            | SessionOutput::Fatal(_) => panic!("nobody asks for this"),
            SessionOutput::Call { .. } => panic!("nothing is asked outside"),
            SessionOutput::Inspect { token, .. } => {
                self.work.push_back(SessionInput::Completed { token, result: Err(Failure::NoSuchGroup) });
            }
            SessionOutput::Whisper { group, bytes } => {
                self.duty(group, Word::Whisper(bytes));
            }
            SessionOutput::Wake(at) => drop(self.wakes.insert(at)),
            SessionOutput::Pause(_) | SessionOutput::Resume(_) => {}
            SessionOutput::Close(conn) => {
                self.clients.get_mut(&conn).expect("only clients that are there are hung up on").closed = true;
            }
        }
    }

    /// Applies what was kept back.
    pub(crate) fn release(&mut self) {
        self.stalled = false;
        for (token, group, command) in std::mem::take(&mut self.held) {
            self.apply(group, Some(token), command);
        }
        self.run();
    }

    /// Lets time pass, a millisecond at a time.
    pub(crate) fn advance(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now += 1_000_000;
            let now = Mono(self.now);
            let due = self.wakes.extract_if(..=now, |_| true).count();
            if due > 0 {
                self.work.push_back(SessionInput::Wake);
            }
            let ids: Vec<GroupId> = self.groups.keys().copied().collect();
            for id in ids {
                let hosted = self.groups.get_mut(&id).expect("it was just there");
                if hosted.wakes.extract_if(..=now, |_| true).count() > 0 {
                    self.duty(id, Word::Wake);
                }
            }
            self.run();
        }
    }

    /// A client connects.
    pub(crate) fn connect(&mut self, door: Door) -> ConnId {
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        let addr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 50_000);
        self.clients.insert(conn, Client { frames: Frames::default(), asked: VecDeque::new(), closed: false });
        let peer = Peer { addr, local: None, door, certificate: None };
        self.work.push_back(SessionInput::Opened { conn, peer });
        self.run();
        conn
    }

    /// A client asks, and does not wait.
    pub(crate) fn send(&mut self, conn: ConnId, version: i16, request: &Request) {
        self.correlation += 1;
        let bytes = encode_request(version, self.correlation, Some("rig"), request);
        self.clients.get_mut(&conn).expect("it connected").asked.push_back((request.key(), version));
        self.work.push_back(SessionInput::Bytes { conn, bytes });
        self.run();
    }

    /// Bytes of a client's own.
    pub(crate) fn send_bytes(&mut self, conn: ConnId, bytes: Bytes) {
        self.work.push_back(SessionInput::Bytes { conn, bytes });
        self.run();
    }

    /// The next answer, if it is here.
    pub(crate) fn receive(&mut self, conn: ConnId) -> Option<Response> {
        let client = self.clients.get_mut(&conn).expect("it connected");
        let frame = client.frames.next_frame().expect("answers are frames")?;
        let (key, version) = client.asked.pop_front().expect("answers come to what was asked");
        let (_, response) = decode_response(key, version, frame).expect("answers decode");
        Some(response)
    }

    /// True if the node has hung up.
    pub(crate) fn is_closed(&self, conn: ConnId) -> bool {
        self.clients[&conn].closed
    }

    /// Asks and takes the answer, which must come at once.
    pub(crate) fn ask(&mut self, conn: ConnId, version: i16, request: &Request) -> Response {
        self.send(conn, version, request);
        self.receive(conn).unwrap_or_else(|| panic!("no answer to {}", request.key()))
    }

    /// A client goes away.
    pub(crate) fn disconnect(&mut self, conn: ConnId) {
        self.clients.get_mut(&conn).expect("it connected").closed = true;
        self.work.push_back(SessionInput::Closed { conn });
        self.run();
    }

    /// Somebody else leads this group from now on.
    pub(crate) fn depose(&mut self, group: GroupId) {
        let role = GroupRole { leader: Some(NodeId(2)), term: Term(2), leads: false, votes: true };
        self.work.push_back(SessionInput::Role { group, role });
        self.run();
    }

    /// This node leads the group from now on.
    pub(crate) fn elect(&mut self, group: GroupId) {
        let role = GroupRole { leader: Some(NODE), term: Term(3), leads: true, votes: true };
        self.work.push_back(SessionInput::Role { group, role });
        self.run();
    }

    /// The state of a group was replaced.
    pub(crate) fn restored(&mut self, group: GroupId) {
        self.work.push_back(SessionInput::Restored { group });
        self.run();
    }

    /// Makes a topic.
    pub(crate) fn create_topic(&mut self, name: &str, partitions: i32) -> Uuid {
        let id = Uuid(std::array::from_fn(|at| name.as_bytes().get(at).copied().unwrap_or(0)));
        let command = Command::CreateTopic {
            name: name.to_owned(),
            id,
            partitions,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Vec::new(),
            validate_only: false,
        };
        self.order(CLUSTER, command.encode());
        id
    }

    /// A partition's group.
    pub(crate) fn group_of(&self, topic: &str, index: i32) -> GroupId {
        let state = self.kafka.node.state();
        GroupId(state.image.partition(topic, index).expect("it was made").group)
    }

    /// How many joins and syncs wait.
    pub(crate) fn waiting(&self) -> usize {
        self.kafka.node.state().tickets.count()
    }

    /// How many handlers have not ended.
    pub(crate) fn tasks(&self) -> usize {
        self.kafka.tasks.count()
    }
}
