//! What clients of Kafka send: frames and batches to the decoders, streams to a node's sessions with real machines behind
//! them, and commands, queries and snapshots to a partition.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use verity_clock::{Interval, Now};
use verity_contract::{
    self as contract, Door, Duty, DutyInput, DutyOutput, Effect, Effects, Failure, GroupRole, Peer, ReadOutcome,
    RequestId, Service, SessionInput, SessionOutput, StateMachine,
};
use verity_kafka::log::Manifest;
use verity_kafka::machine::cluster::{self, Blueprint, Cluster, ClusterDuty};
use verity_kafka::machine::coordinator::{self, Coordinator, CoordinatorConfig, CoordinatorDuty};
use verity_kafka::machine::partition::{self, Ends, Partition, PartitionConfig, PartitionDuty, Query, Wanted};
use verity_kafka::session::{Config, Kafka, Listener};
use verity_kafka::wire::{
    ApiKey, BatchBuilder, Batches, Codec, Frames, Incoming, Request, Rules, Uuid, decode_request, decode_response,
    encode_request, validate,
};
use verity_storage::{Disk, MemoryDisk};
use verity_types::{ConnId, GroupId, Incarnation, LogIndex, Mono, Nanos, NodeId, Term, Token, WallMs};

use crate::Script;

const NODE: NodeId = NodeId(1);
const CLUSTER: GroupId = GroupId(2);
const COORDINATOR: GroupId = GroupId(3);
const START_MS: u64 = 1_700_000_000_000;
/// Deeds of one script.
const DEEDS_MAX: usize = 200;
/// Connections of one script.
const CONNECTIONS: u8 = 3;
/// What records may become when they are decompressed here.
const PLAIN_MAX: usize = 1 << 20;

/// What the wire target makes of its bytes.
///
/// ```text
/// first = 0 a request | 1 a response | 2 batches | 3 a stream, cut anywhere
/// request = frame        response = key:u8 version:u8 frame        stream = (blob)*
/// ```
pub mod part {
    #![allow(missing_docs, reason = "told above, side by side")]
    pub const REQUEST: u8 = 0;
    pub const RESPONSE: u8 = 1;
    pub const BATCHES: u8 = 2;
    pub const STREAM: u8 = 3;
}

/// The decoders. What decodes says the same once it is encoded again.
///
/// # Panics
/// If something that must hold does not.
pub fn wire(data: &[u8]) {
    let mut script = Script(data);
    match script.byte() % 4 {
        part::REQUEST => request(Bytes::copy_from_slice(script.0)),
        part::RESPONSE => {
            let number = i16::from(script.byte());
            let version = i16::from(script.byte() % 24);
            if let Some(key) = ApiKey::from_number(number).filter(|key| key.versions().contains(&version)) {
                let _ = decode_response(key, version, Bytes::copy_from_slice(script.0));
            }
        }
        part::BATCHES => batches(Bytes::copy_from_slice(script.0)),
        _ => stream(script),
    }
}

fn request(frame: Bytes) {
    let Ok(Incoming::Request(header, request)) = decode_request(frame) else { return };
    // What is not equal to itself holds a number that is none.
    #[expect(clippy::eq_op, reason = "NaN")]
    if request != request {
        return;
    }
    let again = encode_request(header.version, header.correlation_id, header.client_id.as_deref(), &request);
    let Ok(Incoming::Request(same, read)) = decode_request(again.slice(4..)) else { panic!("it decoded before") };
    assert_eq!((same, &read), (header, &request), "a request survives its encoding");
    if let Request::Produce(produce) = &request
        && produce.timeout_ms < -1_000_000
    {
        crate::canary("a timeout far below zero");
    }
}

fn batches(blob: Bytes) {
    let rules = Rules { decompressed_size_max: PLAIN_MAX, ..Rules::default() };
    let _ = validate(&blob, &rules);
    for batch in Batches::new(blob) {
        let Ok(batch) = batch else { break };
        let _ = batch.verify();
        if let Ok(plain) = batch.decompress(PLAIN_MAX) {
            assert!(plain.len() <= PLAIN_MAX, "decompression is bounded");
            let headers = batch.records(&plain).flatten().map(|record| record.headers.count());
            assert!(headers.sum::<usize>() <= PLAIN_MAX, "a header takes a byte at least");
        }
    }
}

/// Frames do not depend on where the stream was cut.
fn stream(mut script: Script<'_>) {
    let mut pieces = Vec::new();
    while !script.is_empty() {
        pieces.push(Bytes::copy_from_slice(script.blob()));
    }
    let cut = |pieces: &[Bytes]| {
        let mut frames = Frames::new(1 << 16);
        let mut found = Vec::new();
        for piece in pieces {
            if frames.push(piece.clone()).is_err() {
                return (found, true);
            }
            loop {
                match frames.next_frame() {
                    Ok(Some(frame)) => found.push(frame),
                    Ok(None) => break,
                    Err(_) => return (found, true),
                }
            }
        }
        (found, false)
    };
    assert_eq!(cut(&pieces), cut(&[Bytes::from(pieces.concat())]), "cuts change nothing");
}

/// Deeds of the machine target.
///
/// ```text
/// deed = 0 blob            a command of the partition's
///      | 1 blob            a query of the partition's
///      | 2 value           a batch of one record is appended
///      | 3 offset          records below it are deleted
///      | 4                 a snapshot is taken, and read by another partition on the same files
///      | 5 blob            a snapshot of somebody's, to a partition on no files
///      | 6 blob | 7 blob   commands and queries of the metadata's and of the coordinator's
/// ```
pub mod order {
    #![allow(missing_docs, reason = "told above, side by side")]
    pub const COMMAND: u8 = 0;
    pub const QUERY: u8 = 1;
    pub const APPEND: u8 = 2;
    pub const DELETE: u8 = 3;
    pub const SNAPSHOT: u8 = 4;
    pub const FOREIGN: u8 = 5;
    pub const CLUSTER: u8 = 6;
    pub const COORDINATOR: u8 = 7;
}

/// A machine and how much it has applied.
struct Ordered {
    machine: Box<dyn StateMachine>,
    index: u64,
}

impl Ordered {
    fn new(machine: Box<dyn StateMachine>) -> Self {
        Self { machine, index: 0 }
    }

    fn apply(&mut self, bytes: Bytes) -> Effects {
        self.index += 1;
        let request = RequestId { origin: NODE, incarnation: Incarnation(1), sequence: self.index };
        let (index, time) = (LogIndex(self.index), WallMs(START_MS + self.index));
        let mut effects = Effects::default();
        self.machine.apply(&[contract::Command { index, time, request, bytes }], &mut effects);
        let replies = effects.list.iter().filter(|effect| matches!(effect, Effect::Reply { .. })).count();
        assert!(replies == 1 || effects.has_failed(), "a command has one answer");
        self.machine.invariants();
        effects
    }
}

/// The machines: made-up commands, queries and snapshots.
///
/// # Panics
/// If something that must hold does not.
pub fn machines(data: &[u8]) {
    let mut script = Script(data);
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let partition = Partition::new(Arc::clone(&disk), GroupId(9), PartitionConfig::default());
    let mut log = Ordered::new(Box::new(partition));
    let mut metadata = Ordered::new(Box::new(Cluster::new()));
    let mut groups = Ordered::new(Box::new(Coordinator::new()));
    let mut left = DEEDS_MAX;
    while !script.is_empty() && left > 0 {
        left -= 1;
        let deed = script.byte() % 8;
        match deed {
            order::COMMAND => drop(log.apply(Bytes::copy_from_slice(script.blob()))),
            order::QUERY => drop(log.machine.read(script.blob())),
            order::APPEND => {
                let batch = batch(&[script.byte()]);
                log.apply(partition::Command::Append { epoch: 1, guard: None, batch }.encode());
            }
            order::DELETE => {
                let offset = i64::try_from(script.number()).unwrap_or(-1);
                log.apply(partition::Command::DeleteRecords { offset }.encode());
            }
            order::SNAPSHOT => {
                let before = log.machine.digest();
                log.machine.snapshot_begin();
                let chunks: Vec<_> = std::iter::from_fn(|| log.machine.snapshot_next(4096)).map(Ok).collect();
                let sync = log.machine.attachments().sync;
                sync.expect("a log has files to sync")().expect("the disk is sound");
                let mut other = Partition::new(Arc::clone(&disk), GroupId(9), PartitionConfig::default());
                other.restore(&mut chunks.into_iter()).expect("a partition reads its own snapshot");
                assert_eq!(other.digest(), before, "a snapshot is the state");
                log.machine = Box::new(other);
            }
            order::FOREIGN => {
                let bytes = Bytes::copy_from_slice(script.blob());
                let _ = Manifest::decode(&bytes);
                let mut other = Partition::new(Arc::new(MemoryDisk::new()), GroupId(9), PartitionConfig::default());
                let _ = other.restore(&mut [Ok(bytes)].into_iter());
            }
            order::CLUSTER => {
                let bytes = script.blob();
                drop(metadata.machine.read(bytes));
                drop(metadata.apply(Bytes::copy_from_slice(bytes)));
            }
            _ => {
                let bytes = script.blob();
                drop(groups.machine.read(bytes));
                drop(groups.apply(Bytes::copy_from_slice(bytes)));
            }
        }
        if ends(log.machine.as_mut()).log_start > 0 {
            crate::canary("records are gone");
        }
    }
}

fn ends(machine: &mut dyn StateMachine) -> Ends {
    let ReadOutcome::Ready(bytes) = machine.read(&Query::Ends.encode()) else { panic!("it answers at once") };
    Ends::decode(bytes).expect("a partition's own answer")
}

/// A batch of one record.
pub(crate) fn batch(value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(i64::try_from(START_MS).expect("it is not so late"), None, Some(value), &[]);
    builder.build().freeze()
}

/// Deeds of the session target. The topic `t` of two partitions is there from the beginning.
///
/// ```text
/// deed = 0 conn blob                  bytes
///      | 1 conn key version blob      a request: its header, then the body
///      | 2 conn value                 a batch of one record is produced to the first partition
///      | 3 conn offset                the first partition is fetched
///      | 4 conn sasl                  a connection, in place of the one that was there; odd: one that wants SASL
///      | 5 conn                       the client hangs up
///      | 6 time                       time passes, in steps of 100 ms
///      | 7 leads                      an election of everything: odd, this node leads, else another
/// ```
pub mod deed {
    #![allow(missing_docs, reason = "told above, side by side")]
    pub const BYTES: u8 = 0;
    pub const REQUEST: u8 = 1;
    pub const PRODUCE: u8 = 2;
    pub const FETCH: u8 = 3;
    pub const DIAL: u8 = 4;
    pub const HANG_UP: u8 = 5;
    pub const PASS: u8 = 6;
    pub const ELECT: u8 = 7;
}

/// A node's sessions, with real machines behind them.
///
/// # Panics
/// If something that must hold does not.
pub fn session(data: &[u8]) {
    let mut script = Script(data);
    let mut world = World::new();
    let mut left = DEEDS_MAX;
    while !script.is_empty() && left > 0 {
        left -= 1;
        world.deed(&mut script);
    }
    let longest = world.groups.iter_mut().filter(|(group, _)| **group > COORDINATOR);
    let longest = longest.map(|(_, hosted)| ends(hosted.log.machine.as_mut()).high_watermark).max();
    if longest > Some(9) {
        crate::canary("ten batches in a partition");
    }
}

struct Hosted {
    log: Ordered,
    duty: Box<dyn Duty>,
    wakes: BTreeSet<Mono>,
}

enum Word {
    Lead,
    Wake,
    Whisper(Bytes),
    Event(Bytes, Bytes),
}

/// One node that is all of its cluster.
struct World {
    kafka: Kafka,
    disk: Arc<dyn Disk>,
    groups: BTreeMap<GroupId, Hosted>,
    open: BTreeMap<u8, ConnId>,
    conns: u64,
    now: u64,
    wakes: BTreeSet<Mono>,
    work: VecDeque<SessionInput>,
    leads: bool,
}

impl World {
    fn new() -> Self {
        let config = Config {
            node: NODE,
            incarnation: Incarnation(1),
            cluster_id: "verity-fuzz".into(),
            cluster: CLUSTER,
            coordinator: COORDINATOR,
            founders: 1,
            host: "127.0.0.1".into(),
            port: 9092,
            log_dir: "/data".into(),
            doors: BTreeMap::from([(Door(0), Listener::default()), (Door(1), Listener { tls: false, sasl: true })]),
            plain_users: BTreeMap::from([("alice".to_owned(), "secret".to_owned())]),
            allow_if_no_rule: true,
            secret: [7; 32],
            ..Config::default()
        };
        let mut world = Self {
            kafka: Kafka::new(config),
            disk: Arc::new(MemoryDisk::new()),
            groups: BTreeMap::new(),
            open: BTreeMap::new(),
            conns: 0,
            now: 1_000_000_000,
            wakes: BTreeSet::new(),
            work: VecDeque::from([SessionInput::Wake]),
            leads: true,
        };
        world.host(CLUSTER, Box::new(Cluster::new()), Box::new(ClusterDuty::new()));
        let duty = CoordinatorDuty::new(CoordinatorConfig::default());
        world.host(COORDINATOR, Box::new(Coordinator::new()), Box::new(duty));
        world.run();
        let command = cluster::Command::CreateTopic {
            name: "t".to_owned(),
            id: Uuid([1; 16]),
            partitions: 2,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: Vec::new(),
            validate_only: false,
        };
        world.apply(CLUSTER, None, command.encode());
        world.run();
        world
    }

    fn deed(&mut self, script: &mut Script<'_>) {
        let kind = script.byte() % 8;
        match kind {
            deed::PASS => (0..=script.byte() % 64).for_each(|_| self.pass()),
            deed::ELECT => {
                self.leads = script.byte() % 2 == 1;
                let groups: Vec<GroupId> = self.groups.keys().copied().collect();
                groups.into_iter().for_each(|group| self.elect(group));
            }
            _ => {
                let seat = script.byte() % CONNECTIONS;
                self.client(kind, seat, script);
            }
        }
        self.run();
    }

    fn client(&mut self, kind: u8, seat: u8, script: &mut Script<'_>) {
        match kind {
            deed::DIAL => {
                self.hang_up(seat);
                self.dial(seat, u16::from(script.byte() % 2));
            }
            deed::HANG_UP => self.hang_up(seat),
            deed::BYTES => {
                let bytes = Bytes::copy_from_slice(script.blob());
                self.send(seat, bytes);
            }
            deed::REQUEST => {
                let (key, version) = (script.byte(), script.byte());
                self.send(seat, headed(key, version, script.blob()));
            }
            deed::PRODUCE => {
                let request = produce(batch(&[script.byte()]));
                self.send(seat, encode_request(9, 1, None, &request));
            }
            _ => {
                let request = fetch(i64::try_from(script.number()).unwrap_or(-1));
                self.send(seat, encode_request(12, 1, None, &request));
            }
        }
    }

    fn dial(&mut self, seat: u8, door: u16) {
        self.conns += 1;
        let conn = ConnId(self.conns);
        self.open.insert(seat, conn);
        let peer = Peer { addr: ([127, 0, 0, 1], 50_000).into(), local: None, door: Door(door), certificate: None };
        self.work.push_back(SessionInput::Opened { conn, peer });
    }

    fn send(&mut self, seat: u8, bytes: Bytes) {
        if !self.open.contains_key(&seat) {
            self.dial(seat, 0);
        }
        let conn = self.open[&seat];
        let gather = self.kafka.gather(conn, &bytes);
        assert!(gather.deliver <= bytes.len() && (gather.deliver == bytes.len() || gather.until > 0));
        self.work.push_back(SessionInput::Bytes { conn, bytes });
    }

    fn hang_up(&mut self, seat: u8) {
        if let Some(conn) = self.open.remove(&seat) {
            self.work.push_back(SessionInput::Closed { conn });
        }
    }

    fn now(&self) -> Now {
        Now { mono: Mono(self.now), wall: Interval::around(START_MS * 1_000_000 + self.now, 0) }
    }

    fn pass(&mut self) {
        self.now += 100_000_000;
        let now = Mono(self.now);
        if self.wakes.extract_if(..=now, |_| true).count() > 0 {
            self.work.push_back(SessionInput::Wake);
        }
        let ids: Vec<GroupId> = self.groups.keys().copied().collect();
        for id in ids {
            let due = self.groups.get_mut(&id).map_or(0, |hosted| hosted.wakes.extract_if(..=now, |_| true).count());
            if due > 0 && self.leads {
                self.duty(id, &Word::Wake);
            }
        }
        self.run();
    }

    fn host(&mut self, group: GroupId, machine: Box<dyn StateMachine>, duty: Box<dyn Duty>) {
        self.groups.insert(group, Hosted { log: Ordered::new(machine), duty, wakes: BTreeSet::new() });
        self.elect(group);
    }

    fn elect(&mut self, group: GroupId) {
        let leader = if self.leads { NODE } else { NodeId(2) };
        let role = GroupRole { leader: Some(leader), term: Term(self.now), leads: self.leads, votes: true };
        self.work.push_back(SessionInput::Role { group, role });
        if self.leads {
            self.duty(group, &Word::Lead);
        }
    }

    fn duty(&mut self, group: GroupId, word: &Word) {
        let now = self.now();
        let Some(hosted) = self.groups.get_mut(&group) else { return };
        let mut out = Vec::new();
        let input = match word {
            Word::Lead => DutyInput::Lead(hosted.log.machine.as_mut()),
            Word::Wake => DutyInput::Wake(hosted.log.machine.as_mut()),
            Word::Whisper(bytes) => DutyInput::Whisper { from: NODE, bytes: bytes.clone() },
            Word::Event(topic, bytes) => DutyInput::Event { topic, bytes },
        };
        hosted.duty.on(now, input, &mut out);
        for output in out {
            match output {
                DutyOutput::Propose(command) => self.apply(group, None, command),
                DutyOutput::Wake(at) => {
                    self.groups.get_mut(&group).map(|hosted| hosted.wakes.insert(at));
                }
                DutyOutput::Transfer(_) | DutyOutput::Reconfigure { .. } => {}
            }
        }
    }

    fn apply(&mut self, group: GroupId, token: Option<Token>, command: Bytes) {
        let completed = |token, result| SessionInput::Completed { token, result };
        let Some(hosted) = self.groups.get_mut(&group) else {
            self.work.extend(token.map(|token| completed(token, Err(Failure::NoSuchGroup))));
            return;
        };
        for effect in hosted.log.apply(command).list {
            match effect {
                Effect::Reply { bytes, .. } => self.work.extend(token.map(|token| completed(token, Ok(bytes)))),
                Effect::Event { topic, bytes } => {
                    self.work.push_back(SessionInput::Event { group, topic: topic.clone(), bytes: bytes.clone() });
                    self.duty(group, &Word::Event(topic, bytes));
                }
                Effect::Spawn(spawn) => {
                    let Ok(blueprint) = Blueprint::decode(&spawn.blueprint) else { panic!("the metadata's own") };
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

    fn run(&mut self) {
        while let Some(input) = self.work.pop_front() {
            if let SessionInput::Bytes { conn, .. } = &input
                && !self.open.values().any(|open| open == conn)
            {
                continue;
            }
            let mut out = Vec::new();
            self.kafka.on(self.now(), input, &mut out);
            self.kafka.invariants();
            out.into_iter().for_each(|output| self.carry_out(output));
        }
    }

    fn carry_out(&mut self, output: SessionOutput) {
        match output {
            SessionOutput::Bytes { .. } | SessionOutput::Pause(_) | SessionOutput::Resume(_) => {}
            SessionOutput::FileRange { range, .. } => {
                range.read(usize::MAX).expect("the file is there");
            }
            SessionOutput::Propose { token, group, command } if self.leads => {
                self.apply(group, Some(token), command.join())
            }
            SessionOutput::Propose { token, .. } => {
                let result = Err(Failure::Unavailable);
                self.work.push_back(SessionInput::Completed { token, result });
            }
            SessionOutput::Read { token, group, query, .. } => {
                let completed = |result| SessionInput::Completed { token, result };
                self.work.push_back(match self.groups.get_mut(&group).map(|hosted| hosted.log.machine.read(&query)) {
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
            SessionOutput::Whisper { group, bytes } if self.leads => self.duty(group, &Word::Whisper(bytes)),
            SessionOutput::Whisper { .. } => {}
            SessionOutput::Wake(at) => drop(self.wakes.insert(at)),
            SessionOutput::Close(conn) => {
                self.open.retain(|_, open| *open != conn);
                self.work.push_back(SessionInput::Closed { conn });
            }
        }
    }
}

/// A frame: length, key, version, number, client, no tags, and then the body.
pub(crate) fn headed(key: u8, version: u8, body: &[u8]) -> Bytes {
    let (key, version) = (i16::from(key), i16::from(version % 24));
    let flexible = ApiKey::from_number(key)
        .filter(|key| key.versions().contains(&version))
        .is_some_and(|key| key.request_header_version(version) >= 2);
    let mut frame = Vec::new();
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(1i32.to_be_bytes());
    frame.extend((-1i16).to_be_bytes());
    frame.extend(flexible.then_some(0));
    frame.extend_from_slice(body);
    let length = u32::try_from(frame.len()).expect("scripts are small").to_be_bytes();
    [&length[..], &frame].concat().into()
}

pub(crate) fn produce(records: Bytes) -> Request {
    use verity_kafka::wire::message::{PartitionProduceData, ProduceRequest, TopicProduceData};
    let data = PartitionProduceData { index: 0, records: Some(records) };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
    Request::Produce(ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], transactional_id: None })
}

pub(crate) fn fetch(offset: i64) -> Request {
    use verity_kafka::wire::message::{FetchPartition, FetchRequest, FetchTopic};
    let partition = FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: "t".into(), partitions: vec![partition], ..Default::default() };
    Request::Fetch(FetchRequest {
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![topic],
        ..Default::default()
    })
}

/// A query for what a partition has from its first record on.
pub(crate) fn everything() -> Bytes {
    let wanted = Wanted { offset: 0, max_bytes: 1 << 20, min_one: true, committed: true, in_place: true };
    Query::Fetch(wanted).encode()
}

/// Commands of the coordinator's and of the metadata's, to begin with.
pub(crate) fn commands() -> [Bytes; 2] {
    [
        coordinator::Command::DeleteGroups { group_ids: vec!["g".to_owned()] }.encode(),
        cluster::Command::DeleteTopic { name: Some("t".to_owned()), id: Uuid([1; 16]) }.encode(),
    ]
}
