//! A world of Kafka clients, and the laws that their history must keep ([`laws`]).
//!
//! - a plain producer is idempotent: it sends a value until it is acknowledged, under the same sequence. What it does not
//!   know about in the end it leaves, and begins anew under another id;
//! - a transactional producer writes to every topic, then commits or aborts. It asks for a commit only when all its values
//!   were acknowledged, and goes on in the epoch that the end of a transaction gives it (KIP-890): under an older protocol a
//!   commit that comes late may hit the transaction behind its own, whatever a server does. Some transactions are hasty:
//!   under the older protocol, which leaves the epoch as it is, they are aborted while their last batch is on its way, as by
//!   a client that loses patience. After an error that it cannot try again, and after haste, a producer asks for a new epoch,
//!   which ends what was open;
//! - an operator moves partitions: each time to other nodes, in another order, so that another of them is to lead
//!   ([`KafkaClients::with_operator`]);
//! - a consumer reads one topic after the other from where it was, as committed or not;
//! - members of a consumer group share the topics among them ([`group`]), and so do those of another by the newer protocol
//!   ([`subscriber`]); those of a share group are given records one by one ([`sharer`]).
//!
//! Beside the topics of all these, one is compacted, and one loses its beginning ([`keeper`]).
//!
//! Of the groups and of these two each world has a part, as its seed draws it ([`Cast`]). Topics may be on an agreement of
//! their own ([`KafkaClients::with_own_agreement`]): the seed draws which. The first client makes them so.
//!
//! Clients find leaders and coordinators as real ones do: by asking any node, again after an error.

mod cast;
mod group;
mod keeper;
mod laws;
mod mutants;
mod sharer;
mod subscriber;
mod topics;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use fastrand::Rng;
use verity_contract::{Door, Members, Spawn};
use verity_kafka::machine::cluster::{Blueprint, Cluster, ClusterDuty};
use verity_kafka::machine::coordinator::{Coordinator, CoordinatorConfig, CoordinatorDuty};
use verity_kafka::machine::partition::{Partition, PartitionDuty};
use verity_kafka::session::{Config, Kafka};
use verity_replica::{GroupConfig, GroupSpec};
use verity_storage::Disk;
use verity_types::{GroupId, Nanos, NodeId};

use crate::mutant::{Mutant, mutate};
use crate::twice::{Began, mutate_machine};
use crate::workload::{ClientId, ClientInput, ClientOutput, NodeSetup, Workload};
use crate::zookeeper::EngineFn;
use cast::Cast;
use group::{Call, GROUP, Groups, Member};
use keeper::{Chore, Keeper, Keepers};
use laws::{Fate, Laws};
use sharer::{Errand, Sharer, Shares};
use subscriber::Subscriber;
use topics::Topics;
use wire::{Producer, next_answer, put_string, request, take_fetched, take_string};

const CLUSTER: GroupId = GroupId(2);
const COORDINATOR: GroupId = GroupId(3);
const TOPICS: usize = 2;
/// How many replicas a partition has.
const REPLICAS: usize = 3;
/// How many members the consumer group has.
const MEMBERS: usize = 2;
/// How many the other has, whose members are told what they own: more than there are partitions.
const SUBSCRIBERS: usize = 3;
/// How many the share group has.
const SHARERS: usize = 3;
/// How many clients each topic has that loses records, and how many topics there are with these.
const KEEPERS: usize = 2;
const PLACES: usize = TOPICS + 2;
/// An operator acts at one of so many wakes.
const OPERATOR_TURNS: usize = 40;
/// And who writes to a topic that loses records at one of so many: segments are many, and each costs.
const KEEPER_TURNS: usize = 3;
const MILLI: u64 = 1_000_000;
/// A topic ends where its end has been for so long: a new leader may not have applied all of it yet.
const END_STANDS: u64 = 1_000 * MILLI;
/// An unanswered request is given up after this long, and the client connects anew.
const PATIENCE: u64 = 2_000 * MILLI;
/// A transaction that is forgotten ends after this long.
const TRANSACTION_TIMEOUT_MS: i32 = 3_000;

/// Kafka's error codes that these clients tell apart.
mod code {
    pub(super) const UNKNOWN: i16 = -1;
    pub(super) const NONE: i16 = 0;
    pub(super) const OFFSET_OUT_OF_RANGE: i16 = 1;
    /// Try again, elsewhere perhaps.
    pub(super) const AGAIN: [i16; 11] = [3, 5, 6, 7, 13, 14, 15, 16, 19, 20, 51];
    /// The sequence is not the next one: what came before is not there.
    pub(super) const OUT_OF_ORDER: i16 = 45;
    pub(super) const DUPLICATE: i16 = 46;
    pub(super) const ILLEGAL_GENERATION: i16 = 22;
    pub(super) const UNKNOWN_MEMBER_ID: i16 = 25;
    pub(super) const INVALID_SESSION_TIMEOUT: i16 = 26;
    pub(super) const REBALANCE_IN_PROGRESS: i16 = 27;
    pub(super) const INVALID_REQUEST: i16 = 42;
    pub(super) const GROUP_ID_NOT_FOUND: i16 = 69;
    pub(super) const FENCED_MEMBER_EPOCH: i16 = 110;
    pub(super) const INVALID_RECORD_STATE: i16 = 121;
    pub(super) const SHARE_SESSION_NOT_FOUND: i16 = 122;
    pub(super) const INVALID_SHARE_SESSION_EPOCH: i16 = 123;
}

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Leader(usize),
    /// Make a topic, on the agreement that it is to have.
    Make(usize),
    Coordinator,
    Init,
    Produce {
        topic: usize,
        value: u64,
    },
    Add(usize),
    End {
        commit: bool,
    },
    Fetch {
        topic: usize,
        from: i64,
    },
    Move {
        topic: usize,
        replicas: [i32; REPLICAS],
    },
    Group(Call),
    /// A heartbeat of a subscriber.
    Beat {
        leaves: bool,
    },
    /// Of a sharer.
    Share(Errand),
    /// Of a client of a topic that loses records.
    Keep(Chore),
}

/// Who may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Anywhere,
    Coordinator,
    /// Who leads a topic.
    Leader(usize),
}

impl Ask {
    fn place(self) -> Place {
        match self {
            Self::Leader(_) | Self::Make(_) | Self::Coordinator | Self::Move { .. } => Place::Anywhere,
            Self::Init | Self::Add(_) | Self::End { .. } | Self::Group(_) | Self::Beat { .. } => Place::Coordinator,
            Self::Produce { topic, .. } | Self::Fetch { topic, .. } => Place::Leader(topic),
            Self::Share(errand) => errand.place(),
            Self::Keep(chore) => chore.place(),
        }
    }
}

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Plain,
    Transactional,
    Consumer {
        committed: bool,
    },
    Member,
    Subscriber,
    Sharer,
    /// Of the topic that is compacted.
    Keyed,
    /// Of the one that loses its beginning.
    Trimmer,
    Operator,
}

/// A transaction under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Transaction {
    id: u64,
    /// The next topic is to be added, or written to.
    added: usize,
    written: usize,
    /// Nobody adds its partitions but those who lead them (transactions v2).
    implicit: bool,
    /// It is aborted under the older protocol, before its last batch is answered.
    hasty: bool,
    /// How it is to end, once that was asked for.
    end: Option<bool>,
}

struct Client {
    part: Part,
    node: Option<u64>,
    connected: bool,
    since: u64,
    buffer: BytesMut,
    correlation: i32,
    /// What is to be asked, and whether it was.
    asking: Option<(Ask, Option<i32>)>,
    leaders: [Option<u64>; PLACES],
    coordinator: Option<u64>,
    producer: Option<Producer>,
    sequences: [i32; PLACES],
    lives: u64,
    count: u64,
    transaction: Option<Transaction>,
    transactions: u64,
    positions: [i64; TOPICS],
    member: Member,
    subscriber: Subscriber,
    sharer: Sharer,
    keeper: Keeper,
    turn: usize,
    /// How often it could have asked something new.
    wakes: usize,
    /// Nothing is produced any more, and it reads everything once more from the beginning.
    rereads: bool,
    /// Where each topic then ended, and since when.
    ends: [(i64, u64); TOPICS],
    /// The end of each topic was reached then.
    ended: [bool; TOPICS],
    done: bool,
}

/// The clients of a world, and what they saw.
pub struct KafkaClients {
    engine: EngineFn,
    topics: Topics,
    nodes: u64,
    pace: u64,
    clients: Vec<Client>,
    laws: Laws,
    groups: Groups,
    shares: Shares,
    keepers: Keepers,
    cast: Option<Cast>,
    now: u64,
    winding_down: bool,
    answered: u64,
}

impl Client {
    fn new(part: Part) -> Self {
        Self {
            part,
            node: None,
            connected: false,
            since: 0,
            buffer: BytesMut::new(),
            correlation: 0,
            asking: None,
            leaders: [None; PLACES],
            coordinator: None,
            producer: None,
            sequences: [0; PLACES],
            lives: 0,
            count: 0,
            transaction: None,
            transactions: 0,
            positions: [0; TOPICS],
            member: Member::default(),
            subscriber: Subscriber::default(),
            sharer: Sharer::default(),
            keeper: Keeper::default(),
            turn: 0,
            wakes: 0,
            rereads: false,
            ends: [(-1, 0); TOPICS],
            ended: [false; TOPICS],
            done: false,
        }
    }

    fn produces(&self) -> bool {
        matches!(self.part, Part::Plain | Part::Transactional)
    }

    /// A value that is given once: the client, its life, a count.
    fn value(&mut self, id: usize) -> u64 {
        self.count += 1;
        (id as u64 + 1) << 48 | self.lives << 32 | self.count
    }

    /// Its batches are to become part of the transaction by being produced.
    fn adds_by_producing(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.implicit)
    }

    fn is_hasty(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.hasty)
    }

    /// Where a request must go; `None` for anywhere.
    fn target(&self, ask: Ask) -> Result<Option<u64>, Ask> {
        match ask.place() {
            Place::Anywhere => Ok(None),
            Place::Coordinator => self.coordinator.map(Some).ok_or(Ask::Coordinator),
            Place::Leader(topic) => self.leaders[topic].map(Some).ok_or(Ask::Leader(topic)),
        }
    }

    /// Forgets where a request went: somebody else may answer.
    fn forget(&mut self, ask: Ask) {
        match ask.place() {
            Place::Anywhere => self.node = None,
            Place::Coordinator => self.coordinator = None,
            Place::Leader(topic) => self.leaders[topic] = None,
        }
    }
}

impl KafkaClients {
    /// So many clients, each asking every `pace` nanoseconds, of so many nodes.
    #[must_use]
    pub fn new(engine: EngineFn, nodes: usize, clients: usize, pace: u64) -> Self {
        let parts =
            [Part::Plain, Part::Transactional, Part::Consumer { committed: true }, Part::Consumer { committed: false }];
        // Somebody must read everything in the end, both ways.
        let clients = (0..clients.max(parts.len())).map(|id| Client::new(parts[id % parts.len()]));
        let clients = clients.chain((0..MEMBERS).map(|_| Client::new(Part::Member)));
        let clients = clients.chain((0..SUBSCRIBERS).map(|_| Client::new(Part::Subscriber)));
        let clients = clients.chain((0..SHARERS).map(|_| Client::new(Part::Sharer)));
        let clients = clients.chain((0..KEEPERS).map(|_| Client::new(Part::Keyed)));
        let clients = clients.chain((0..KEEPERS).map(|_| Client::new(Part::Trimmer)));
        Self {
            engine,
            topics: Topics::default(),
            nodes: nodes as u64,
            pace,
            clients: clients.collect(),
            laws: Laws::default(),
            groups: Groups::default(),
            shares: Shares::default(),
            keepers: Keepers::default(),
            cast: None,
            now: 0,
            winding_down: false,
            answered: 0,
        }
    }

    /// The same with an operator who moves partitions; there must be as many nodes as a partition has replicas.
    #[must_use]
    pub fn with_operator(mut self) -> Self {
        assert!(self.nodes >= REPLICAS as u64, "a partition has a replica on each of {REPLICAS} nodes");
        self.clients.push(Client::new(Part::Operator));
        self
    }

    /// Draws what kind of a world it is.
    fn draw(&mut self, rng: &mut Rng) {
        let cast = Cast::draw(rng);
        self.cast = Some(cast);
        (self.shares, self.keepers) = (Shares::draw(rng), Keepers::draw(rng));
        for client in &mut self.clients {
            client.done = !cast.has(client.part);
        }
        self.topics.draw(rng);
    }

    fn produced_all(&self) -> bool {
        self.winding_down && self.clients.iter().filter(|client| client.produces()).all(|client| client.done)
    }

    /// What a client does next; `None` if it is done.
    fn next(&mut self, id: usize, rng: &mut Rng) -> Option<Ask> {
        if let (0, Some(topic)) = (id, self.topics.unmade()) {
            return Some(Ask::Make(topic));
        }
        let (winding_down, over) = (self.winding_down, self.produced_all());
        let client = &mut self.clients[id];
        match client.part {
            Part::Consumer { .. } => {
                if over && !client.rereads {
                    client.rereads = true;
                    client.positions = [0; TOPICS];
                    client.ends = [(-1, 0); TOPICS];
                }
                if client.ended.iter().all(|ended| *ended) {
                    return None;
                }
                client.turn += 1;
                let topic = client.turn % TOPICS;
                Some(Ask::Fetch { topic, from: client.positions[topic] })
            }
            Part::Plain => {
                if client.producer.is_none() {
                    return (!winding_down).then_some(Ask::Init);
                }
                if winding_down {
                    return None;
                }
                let (topic, value) = (rng.usize(0..TOPICS), client.value(id));
                Some(Ask::Produce { topic, value })
            }
            Part::Transactional => self.next_of_transaction(id, rng),
            Part::Member => self.next_of_member(id, rng),
            Part::Subscriber => self.next_of_subscriber(id, rng),
            Part::Sharer => self.next_of_sharer(id, rng),
            Part::Keyed | Part::Trimmer => self.next_of_keeper(id, rng),
            Part::Operator => {
                let mut nodes: Vec<i32> = (1..=i32::try_from(self.nodes).expect("a world is small")).collect();
                rng.shuffle(&mut nodes);
                let replicas = nodes[..REPLICAS].try_into().expect("there are as many nodes");
                let topic = rng.usize(0..PLACES);
                let topic = if topic < TOPICS || self.keepers.is_made(topic) { topic } else { topic - TOPICS };
                (!winding_down).then_some(Ask::Move { topic, replicas })
            }
        }
    }

    fn next_of_transaction(&mut self, id: usize, rng: &mut Rng) -> Option<Ask> {
        let winding_down = self.winding_down;
        let client = &mut self.clients[id];
        if client.producer.is_none() {
            return Some(Ask::Init);
        }
        let Some(transaction) = &mut client.transaction else {
            if winding_down {
                return None;
            }
            client.transactions += 1;
            let number = (id as u64 + 1) << 32 | client.transactions;
            let implicit = rng.bool();
            let added = if implicit { TOPICS } else { 0 };
            let hasty = !implicit && rng.u32(0..3) == 0;
            client.transaction = Some(Transaction { id: number, added, implicit, hasty, ..Transaction::default() });
            return self.next_of_transaction(id, rng);
        };
        if let Some(commit) = transaction.end {
            return Some(Ask::End { commit });
        }
        if transaction.written == TOPICS {
            let commit = rng.u32(0..3) > 0;
            transaction.end = Some(commit);
            let fate = if commit { Fate::Committing } else { Fate::Aborted };
            self.laws.fate(transaction.id, fate);
            return Some(Ask::End { commit });
        }
        if transaction.added <= transaction.written {
            return Some(Ask::Add(transaction.added));
        }
        let (topic, transaction) = (transaction.written, transaction.id);
        let value = client.value(id);
        self.laws.in_transaction(value, transaction);
        Some(Ask::Produce { topic, value })
    }

    /// The producer's life is over: it asks for another, which ends what it had open.
    fn begin_anew(&mut self, id: usize) {
        let client = &mut self.clients[id];
        client.producer = None;
        client.lives += 1;
        client.sequences = [0; PLACES];
        if let Some(transaction) = client.transaction.take()
            && transaction.end.is_none()
        {
            // Nobody will ever ask for its commit.
            self.laws.fate(transaction.id, Fate::Aborted);
        }
    }

    fn bytes(&self, id: usize, ask: Ask, correlation: i32) -> Bytes {
        let client = &self.clients[id];
        let producer = client.producer.unwrap_or(Producer { id: -1, epoch: -1 });
        let transactional = client.part == Part::Transactional;
        let name = format!("transactions-{id}");
        let named = |out: &mut BytesMut| {
            put_string(out, &name);
            out.put_i64(producer.id);
            out.put_i16(producer.epoch);
        };
        match ask {
            Ask::Leader(topic) => request(wire::METADATA, correlation, |out| {
                out.put_i32(1);
                put_string(out, &topic_name(topic));
            }),
            Ask::Make(topic) => self.create(topic, Vec::new(), correlation),
            Ask::Coordinator => request(wire::FIND_COORDINATOR, correlation, |out| {
                let (key, kind) = match client.part {
                    Part::Member => (GROUP, 0),
                    Part::Subscriber => (subscriber::GROUP, 0),
                    Part::Sharer => (sharer::GROUP, 0),
                    _ => (name.as_str(), 1),
                };
                put_string(out, key);
                out.put_u8(kind);
            }),
            Ask::Group(call) => client.member.bytes(call, correlation),
            Ask::Beat { leaves } => client.subscriber.bytes(id, leaves, correlation),
            Ask::Share(errand) => self.errand_bytes(id, errand, correlation),
            Ask::Keep(chore) => self.chore_bytes(id, chore, correlation),
            Ask::Init => request(wire::INIT_PRODUCER_ID, correlation, |out| {
                if transactional {
                    put_string(out, &name);
                } else {
                    out.put_i16(-1);
                }
                out.put_i32(TRANSACTION_TIMEOUT_MS);
            }),
            Ask::Produce { topic, value } if client.adds_by_producing() => {
                request(wire::PRODUCE_ADDING, correlation, |out| {
                    wire::put_compact(out, &name);
                    out.put_i16(-1);
                    out.put_i32(10_000);
                    out.put_u8(2);
                    wire::put_compact(out, &topic_name(topic));
                    out.put_u8(2);
                    out.put_i32(0);
                    let batch = wire::batch(value, producer, client.sequences[topic], true);
                    assert!(batch.len() < 0x7f, "its length takes one byte");
                    out.put_u8(u8::try_from(batch.len() + 1).expect("it was just looked at"));
                    out.put_slice(&batch);
                    // No tagged fields of the partition, the topic, the request.
                    out.put_slice(&[0; 3]);
                })
            }
            Ask::Produce { topic, value } => request(wire::PRODUCE, correlation, |out| {
                if transactional {
                    put_string(out, &name);
                } else {
                    out.put_i16(-1);
                }
                out.put_i16(-1);
                out.put_i32(10_000);
                out.put_i32(1);
                put_string(out, &topic_name(topic));
                out.put_i32(1);
                out.put_i32(0);
                let batch = wire::batch(value, producer, client.sequences[topic], transactional);
                out.put_i32(i32::try_from(batch.len()).expect("a batch is short"));
                out.put_slice(&batch);
            }),
            Ask::Add(topic) => request(wire::ADD_PARTITIONS, correlation, |out| {
                named(out);
                out.put_i32(1);
                put_string(out, &topic_name(topic));
                out.put_i32(1);
                out.put_i32(0);
            }),
            Ask::End { commit } => {
                request(if client.is_hasty() { wire::END_TXN_OLD } else { wire::END_TXN }, correlation, |out| {
                    wire::put_compact(out, &name);
                    out.put_i64(producer.id);
                    out.put_i16(producer.epoch);
                    out.put_u8(u8::from(commit));
                    out.put_u8(0);
                })
            }
            Ask::Move { topic, replicas } => request(wire::ALTER_REASSIGNMENTS, correlation, |out| {
                out.put_i32(5_000);
                out.put_u8(2);
                wire::put_compact(out, &topic_name(topic));
                out.put_u8(2);
                out.put_i32(0);
                out.put_u8(u8::try_from(replicas.len() + 1).expect("they are few"));
                replicas.iter().for_each(|node| out.put_i32(*node));
                // No tagged fields of the partition, the topic, the request.
                out.put_slice(&[0; 3]);
            }),
            Ask::Fetch { topic, from } => {
                wire::fetch(&topic_name(topic), from, client.part == Part::Consumer { committed: true }, correlation)
            }
        }
    }

    fn on_answer(&mut self, id: usize, ask: Ask, mut body: Bytes) {
        let again = |error: i16| code::AGAIN.contains(&error);
        match ask {
            Ask::Leader(topic) => {
                self.clients[id].leaders[topic] = take_leader(&mut body);
                // It was asked for on the way to something else.
            }
            Ask::Coordinator => {
                body.advance(4);
                let error = body.get_i16();
                take_text(&mut body);
                self.clients[id].coordinator = u64::try_from(body.get_i32()).ok().filter(|_| error == code::NONE);
            }
            Ask::Init => {
                body.advance(4);
                let (error, producer, epoch) = (body.get_i16(), body.get_i64(), body.get_i16());
                if error == code::NONE {
                    self.clients[id].producer = Some(Producer { id: producer, epoch });
                    self.answered += 1;
                } else if !again(error) {
                    self.laws.wrong.push_back(format!("client {id}: InitProducerId was answered error {error}"));
                }
                self.settle(id, ask, error);
            }
            Ask::Produce { topic, value } => {
                let (error, offset) = if self.clients[id].adds_by_producing() {
                    wire::take_produced(&mut body).unwrap_or((code::UNKNOWN, -1))
                } else {
                    body.advance(4);
                    take_string(&mut body);
                    body.advance(8);
                    (body.get_i16(), body.get_i64())
                };
                match error {
                    code::NONE | code::DUPLICATE => self.on_produced(id, topic, value, offset),
                    error if again(error) => {}
                    code::OUT_OF_ORDER if self.clients[id].part == Part::Plain => {
                        // Every sequence before was acknowledged.
                        self.laws.wrong.push_back(format!("lost write: client {id} is told that something is missing"));
                    }
                    _ => self.begin_anew(id),
                }
                self.settle(id, ask, error);
            }
            Ask::Add(topic) => {
                body.advance(8);
                take_string(&mut body);
                body.advance(8);
                let error = body.get_i16();
                match (&mut self.clients[id].transaction, error) {
                    (Some(transaction), code::NONE) => transaction.added = topic + 1,
                    (_, error) if again(error) => {}
                    _ => self.begin_anew(id),
                }
                self.settle(id, ask, error);
            }
            Ask::End { commit } => {
                body.advance(5);
                let error = body.get_i16();
                if error == code::NONE && self.clients[id].is_hasty() {
                    self.answered += 1;
                    self.begin_anew(id);
                } else if error == code::NONE {
                    let (producer, epoch) = (body.get_i64(), body.get_i16());
                    self.answered += 1;
                    let client = &mut self.clients[id];
                    client.producer = Some(Producer { id: producer, epoch });
                    client.sequences = [0; PLACES];
                    if let Some(transaction) = self.clients[id].transaction.take()
                        && commit
                    {
                        self.laws.fate(transaction.id, Fate::Committed);
                    }
                } else if !again(error) {
                    self.begin_anew(id);
                }
                self.settle(id, ask, error);
            }
            Ask::Make(topic) => {
                let error = topics::take_created(&mut body);
                self.topics.on_made(topic, error);
                self.settle(id, ask, error);
            }
            Ask::Move { .. } => {
                // It may be refused, as when nobody knows the topic yet.
                self.answered += 1;
                self.clients[id].asking = None;
            }
            Ask::Fetch { topic, from } => self.on_fetch(id, topic, from, body),
            Ask::Group(call) => self.on_group_answer(id, call, body),
            Ask::Beat { leaves } => self.on_beat_answer(id, leaves, body),
            Ask::Share(errand) => self.on_share_answer(id, errand, body),
            Ask::Keep(chore) => self.on_chore_answer(id, chore, body),
        }
    }

    fn on_produced(&mut self, id: usize, topic: usize, value: u64, offset: i64) {
        self.answered += 1;
        self.laws.on_acknowledged(topic, offset, value);
        let client = &mut self.clients[id];
        client.sequences[topic] += 1;
        if let Some(transaction) = &mut client.transaction {
            transaction.written += 1;
        }
    }

    fn on_fetch(&mut self, id: usize, topic: usize, from: i64, body: Bytes) {
        let rereads = self.clients[id].rereads;
        let committed = self.clients[id].part == Part::Consumer { committed: true };
        let fetched = match take_fetched(body) {
            Ok(fetched) => fetched,
            Err(what) => return self.laws.wrong.push_back(what),
        };
        if fetched.error == code::OFFSET_OUT_OF_RANGE {
            let end = fetched.high_watermark;
            self.laws.wrong.push_back(format!("lost write: offset {from} of t{topic} is gone, the end is {end}"));
        }
        if fetched.error == code::NONE {
            self.answered += 1;
            let to = self.laws.on_fetched(topic, from, committed, &fetched, rereads);
            let client = &mut self.clients[id];
            client.positions[topic] = to;
            let end = if committed { fetched.last_stable } else { fetched.high_watermark };
            if client.ends[topic].0 != fetched.high_watermark {
                client.ends[topic] = (fetched.high_watermark, client.since);
            }
            let stands = client.since >= client.ends[topic].1 + END_STANDS;
            client.ended[topic] |= rereads && stands && to >= end && fetched.last_stable == fetched.high_watermark;
        }
        self.settle(id, Ask::Fetch { topic, from }, fetched.error);
    }

    /// An answer has come: it is asked again if it must be, elsewhere perhaps.
    fn settle(&mut self, id: usize, ask: Ask, error: i16) {
        if error != code::NONE {
            self.clients[id].forget(ask);
        }
        let retries = code::AGAIN.contains(&error) && !matches!(ask, Ask::Fetch { .. });
        self.clients[id].asking = retries.then_some((ask, None));
    }

    fn connect(&mut self, id: usize, to: Option<u64>, now: u64, rng: &mut Rng, out: &mut Vec<ClientOutput>) {
        let node = to.unwrap_or_else(|| rng.u64(1..=self.nodes));
        self.unplug(id);
        let client = &mut self.clients[id];
        client.node = Some(node);
        client.connected = false;
        client.since = now;
        client.buffer.clear();
        if let Some((_, sent)) = &mut client.asking {
            *sent = None;
        }
        out.push(ClientOutput::Connect(NodeId(node), Door(0)));
    }

    /// Where there are sharers, one of them says first how the world is configured. Then the first client makes what is to
    /// be on an agreement of its own, before anybody else speaks of it.
    fn waits(&self, id: usize) -> bool {
        let first = self.clients.iter().position(|client| client.part == Part::Sharer && !client.done);
        match first.filter(|_| !self.shares.configured) {
            Some(first) => first != id,
            None => id != 0 && self.topics.unmade().is_some(),
        }
    }

    fn act(&mut self, id: usize, now: u64, rng: &mut Rng, out: &mut Vec<ClientOutput>) {
        if self.clients[id].done || self.waits(id) {
            return;
        }
        if let Some((ask, Some(_))) = self.clients[id].asking
            && now > self.clients[id].since + PATIENCE
        {
            self.clients[id].forget(ask);
            self.clients[id].node = None;
            self.clients[id].asking = Some((ask, None));
        }
        if self.clients[id].asking.is_none() {
            if self.clients[id].member.silent_until > now {
                return;
            }
            self.clients[id].wakes += 1;
            let turns = match self.clients[id].part {
                Part::Operator => OPERATOR_TURNS,
                Part::Keyed | Part::Trimmer => KEEPER_TURNS,
                _ => 1,
            };
            if !self.winding_down && !self.clients[id].wakes.is_multiple_of(turns) {
                return;
            }
            let Some(ask) = self.next(id, rng) else {
                self.clients[id].done = true;
                return;
            };
            self.clients[id].asking = Some((ask, None));
        }
        let Some((wanted, None)) = self.clients[id].asking else { return };
        // What must be known first is asked first, and what was wanted is asked again behind it.
        let (ask, target) = match self.clients[id].target(wanted) {
            Ok(target) => (wanted, target),
            Err(first) => (first, None),
        };
        let client = &self.clients[id];
        let here = client.node.is_some() && (target.is_none() || target == client.node);
        if !here || (!client.connected && now > client.since + PATIENCE) {
            return self.connect(id, target, now, rng, out);
        }
        if !client.connected {
            return;
        }
        let client = &mut self.clients[id];
        client.correlation += 1;
        client.since = now;
        let correlation = client.correlation;
        client.asking = Some((wanted, Some(correlation)));
        let bytes = self.bytes(id, ask, correlation);
        out.push(ClientOutput::Bytes(bytes));
        if let Ask::Group(call) = ask {
            self.on_group_call(id, call);
        }
        if let Ask::Share(errand) = ask {
            self.on_errand(id, errand);
        }
        if let Ask::Produce { topic, .. } = ask
            && topic + 1 == TOPICS
        {
            self.lose_patience(id);
        }
    }

    /// A hasty transaction is to be aborted now, by another connection than the one that its last batch went by.
    fn lose_patience(&mut self, id: usize) {
        let client = &mut self.clients[id];
        let Some(transaction) = client.transaction.as_mut().filter(|transaction| transaction.hasty) else { return };
        transaction.end = Some(false);
        self.laws.fate(transaction.id, Fate::Aborted);
        client.node = None;
        client.connected = false;
        client.asking = Some((Ask::End { commit: false }, None));
    }
}

/// What a topic is called.
fn topic_name(topic: usize) -> String {
    match topic {
        keeper::COMPACTED => "compacted".to_owned(),
        keeper::TRIMMED => "trimmed".to_owned(),
        topic => format!("t{topic}"),
    }
}

/// The leader of the one topic of a Metadata answer.
fn take_leader(body: &mut Bytes) -> Option<u64> {
    for _ in 0..body.get_i32() {
        body.advance(4);
        take_string(body);
        body.advance(4);
        take_text(body);
    }
    body.advance(4);
    body.advance(4);
    body.advance(2);
    take_string(body);
    body.advance(1);
    if body.get_i32() < 1 {
        return None;
    }
    body.advance(6);
    u64::try_from(body.get_i32()).ok()
}

/// A text that may be null.
fn take_text(body: &mut Bytes) {
    let length = usize::try_from(body.get_i16()).unwrap_or(0);
    body.advance(length);
}

impl Workload for KafkaClients {
    fn setup(&self, disk: &Arc<dyn Disk>, node: NodeId, members: &Members, mutant: Option<Mutant>) -> NodeSetup {
        let (cluster, topics) = (self.engine, self.topics);
        let spec = move |id: GroupId, members: Members, machine, duty, engine: EngineFn| {
            let began = Began::default();
            let machine = mutate_machine(machine, mutant, &began);
            // Some partitions take snapshots all the time; of the others the world says it.
            let often = id.0 > COORDINATOR.0 && id.0.is_multiple_of(2);
            let config = GroupConfig::default();
            GroupSpec {
                id,
                members,
                config: if often {
                    GroupConfig { snapshot_log_bytes: 8 << 10, log_bytes_kept: 2 << 10, ..config }
                } else {
                    config
                },
                engine: Box::new(move |boot, now| {
                    let seed = boot.seed;
                    Ok(mutate(engine(boot, now, mutant)?, mutant, seed, &began))
                }),
                machine,
                duty: Some(duty),
            }
        };
        let config = CoordinatorConfig {
            session_timeout_ms_min: 500,
            consumer_session_timeout_ms: subscriber::SESSION_MS,
            ..CoordinatorConfig::default()
        };
        let coordinator = CoordinatorDuty::new(config);
        let machine = mutants::coordinator(Box::new(Coordinator::new()), mutant);
        let groups = vec![
            spec(CLUSTER, members.clone(), Box::new(Cluster::new()) as _, Box::new(ClusterDuty::new()) as _, cluster),
            spec(COORDINATOR, members.clone(), machine, Box::new(coordinator) as _, cluster),
        ];
        let disk = Arc::clone(disk);
        let founder = move |spawn: &Spawn| {
            let blueprint = Blueprint::decode(&spawn.blueprint).map_err(|error| error.to_string())?;
            let machine = Box::new(Partition::new(Arc::clone(&disk), spawn.group, blueprint.config));
            let machine = mutants::partition(machine, mutant);
            let duty = PartitionDuty::new(Nanos::from_millis(1_000));
            let engine = topics.engine(blueprint.agreement, cluster);
            Ok(spec(spawn.group, spawn.members.clone(), machine, Box::new(duty) as _, engine))
        };
        let founders = members.all().len();
        // The engines sign by seals: it is enough that there are some.
        let keys: BTreeMap<NodeId, [u8; 32]> = members.all().into_iter().map(|node| (node, [7; 32])).collect();
        let service = move |incarnation| {
            let config = Config {
                node,
                incarnation,
                cluster_id: "world".into(),
                cluster: CLUSTER,
                coordinator: COORDINATOR,
                founders,
                keys,
                host: format!("node-{node}"),
                port: 9092,
                doors: BTreeMap::new(),
                allow_if_no_rule: true,
                secret: [7; 32],
                ..Config::default()
            };
            Box::new(Kafka::new(config)) as Box<dyn verity_contract::Service>
        };
        NodeSetup { groups, founder: Some(Arc::new(founder)), services: vec![Box::new(service)] }
    }

    fn clients(&self) -> usize {
        self.clients.len()
    }

    fn on_client(
        &mut self,
        ClientId(id): ClientId,
        now: u64,
        input: ClientInput,
        rng: &mut Rng,
        out: &mut Vec<ClientOutput>,
    ) {
        self.now = now;
        if self.cast.is_none() {
            self.draw(rng);
        }
        match input {
            ClientInput::Bytes(bytes) => {
                self.clients[id].buffer.extend_from_slice(&bytes);
                while let Some((correlation, body)) = next_answer(&mut self.clients[id].buffer) {
                    let Some((wanted, Some(asked))) = self.clients[id].asking else { continue };
                    if asked != correlation {
                        continue;
                    }
                    match self.clients[id].target(wanted) {
                        Ok(_) => self.on_answer(id, wanted, body),
                        Err(first) => {
                            self.on_answer(id, first, body);
                            self.clients[id].asking = Some((wanted, None));
                        }
                    }
                }
            }
            ClientInput::Connected => self.clients[id].connected = true,
            ClientInput::Disconnected => {
                let client = &mut self.clients[id];
                client.connected = false;
                client.node = None;
                if let Some((ask, _)) = client.asking {
                    client.forget(ask);
                    client.asking = Some((ask, None));
                }
                self.unplug(id);
            }
            ClientInput::Wake => {
                out.push(ClientOutput::Wake(now + self.pace));
                self.act(id, now, rng, out);
            }
        }
    }

    fn wind_down(&mut self, _now: u64) {
        self.winding_down = true;
    }

    fn is_done(&self) -> bool {
        self.clients.iter().all(|client| client.done)
    }

    fn acknowledged(&self) -> u64 {
        self.answered
    }

    fn judge(&mut self) -> Result<(), String> {
        self.groups.wrong.pop_front().map_or(Ok(()), Err)?;
        self.shares.laws.wrong.pop_front().map_or(Ok(()), Err)?;
        self.laws.judge(TOPICS)?;
        self.keepers.judge()?;
        if self.cast.is_some_and(|cast| cast.sharers) {
            for topic in 0..TOPICS {
                let all = self.laws.last(topic, self.shares.committed);
                self.shares.laws.judge(topic, self.shares.limit, all.into_keys())?;
            }
        }
        Ok(())
    }
}
