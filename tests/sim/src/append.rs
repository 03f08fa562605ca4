//! A list that clients append to and count: the smallest system whose history can be wrong.
//!
//! - an append is acknowledged with its place in the list; places are given once;
//! - a linearizable count is at least every place that was acknowledged before it was asked for;
//! - at the end, every acknowledged append stands at its place, and each append stands in the list once at most.
//!
//! ```text
//! request = op:u8 ('a' append | 'c' count) value:u64        reply = op:u8 value:u64 answer:u64
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use fastrand::Rng;
use verity_clock::Now;
use verity_contract::{
    Command, Consistency, Door, Effects, Members, ReadOutcome, RestoreError, Service, SessionInput, SessionOutput,
    StateMachine,
};
use verity_replica::{Founder, GroupConfig, GroupSpec, ServiceFactory};
use verity_sim::{Began, ClientId, ClientInput, ClientOutput, Mutant, NodeSetup, Workload, mutate};
use verity_storage::Disk;
use verity_types::{ConnId, Digest, GroupId, NodeId, Token};

use crate::filed::{FiledList, LIST, Nursery};

const GROUP: GroupId = GroupId(1);
const MILLI: u64 = 1_000_000;
const FRAME: usize = 9;
/// An unanswered request is given up after this long, and the client connects anew.
const PATIENCE: u64 = 2_000 * MILLI;

/// The list.
#[derive(Default)]
pub struct List {
    values: Vec<u64>,
    hash: u64,
    drawing: Option<Vec<u64>>,
}

impl List {
    fn push(&mut self, value: u64) {
        self.values.push(value);
        self.hash = (self.hash ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }
}

impl StateMachine for List {
    fn apply(&mut self, batch: &[Command], effects: &mut Effects) {
        for command in batch {
            self.push(command.bytes.clone().get_u64());
            effects.reply(command.request, Bytes::copy_from_slice(&(self.values.len() as u64).to_be_bytes()));
        }
    }

    fn read(&mut self, query: &[u8]) -> ReadOutcome {
        let mut out = BytesMut::new();
        out.put_u64(self.values.len() as u64);
        if query == b"all" {
            self.values.iter().for_each(|value| out.put_u64(*value));
        }
        ReadOutcome::Ready(out.freeze())
    }

    fn snapshot_begin(&mut self) {
        self.drawing = Some(self.values.clone());
    }

    fn snapshot_next(&mut self, size_max: usize) -> Option<Bytes> {
        let rest = self.drawing.as_mut()?;
        if rest.is_empty() {
            self.drawing = None;
            return None;
        }
        let count = (size_max / 8).clamp(1, rest.len());
        let mut out = BytesMut::new();
        rest.drain(..count).for_each(|value| out.put_u64(value));
        Some(out.freeze())
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>) -> Result<(), RestoreError> {
        *self = Self::default();
        for chunk in chunks {
            let mut chunk = chunk?;
            while chunk.has_remaining() {
                self.push(chunk.try_get_u64().map_err(|error| RestoreError::Invalid(error.to_string()))?);
            }
        }
        Ok(())
    }

    fn digest(&self) -> Digest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.hash.to_be_bytes());
        bytes[8..16].copy_from_slice(&(self.values.len() as u64).to_be_bytes());
        Digest(bytes)
    }

    fn invariants(&self) {}
}

/// The sessions of [`List`].
#[derive(Default)]
pub struct ListService {
    /// The group of the list, if another group's machine asks for it.
    spawned: Option<GroupId>,
    buffers: BTreeMap<ConnId, BytesMut>,
    pending: BTreeMap<Token, (ConnId, u8, u64)>,
    next: u64,
}

impl Service for ListService {
    fn on(&mut self, _now: Now, input: SessionInput, out: &mut Vec<SessionOutput>) {
        match input {
            SessionInput::Dialed { .. } => unreachable!("nobody is dialled"),
            SessionInput::Opened { conn, .. } => {
                if self.spawned.is_some() {
                    // Nobody waits for the answer.
                    self.next += 1;
                    out.push(SessionOutput::Propose {
                        token: Token(self.next),
                        group: GROUP,
                        command: Bytes::new().into(),
                    });
                }
                self.buffers.insert(conn, BytesMut::new());
            }
            SessionInput::Closed { conn } => {
                self.buffers.remove(&conn);
            }
            SessionInput::Bytes { conn, bytes } => {
                let Some(buffer) = self.buffers.get_mut(&conn) else { return };
                buffer.extend_from_slice(&bytes);
                while buffer.len() >= FRAME {
                    let mut frame = buffer.split_to(FRAME);
                    let (op, value) = (frame.get_u8(), frame.get_u64());
                    self.next += 1;
                    let token = Token(self.next);
                    self.pending.insert(token, (conn, op, value));
                    let bytes = Bytes::copy_from_slice(&value.to_be_bytes());
                    let group = self.spawned.unwrap_or(GROUP);
                    out.push(match op {
                        b'a' => SessionOutput::Propose { token, group, command: bytes.into() },
                        _ => SessionOutput::Read {
                            token,
                            group,
                            query: if op == b'A' { Bytes::from_static(b"all") } else { Bytes::new() },
                            consistency: Consistency::Linearizable,
                        },
                    });
                }
            }
            SessionInput::CompletedInFile { .. } => unreachable!("a list has no files"),
            SessionInput::Completed { token, result } => {
                let Some((conn, op, value)) = self.pending.remove(&token) else { return };
                if !self.buffers.contains_key(&conn) {
                    return;
                }
                match result {
                    Ok(answer) => {
                        let mut bytes = BytesMut::new();
                        bytes.put_u8(op);
                        bytes.put_u64(value);
                        bytes.put_u64(answer.len() as u64);
                        bytes.put_slice(&answer);
                        out.push(SessionOutput::Bytes { conn, bytes: bytes.freeze() });
                    }
                    Err(_) => out.push(SessionOutput::Close(conn)),
                }
            }
            SessionInput::Event { .. }
            | SessionInput::Role { .. }
            | SessionInput::Restored { .. }
            | SessionInput::Stopping
            | SessionInput::Drained { .. }
            | SessionInput::Wake => {}
        }
    }

    fn invariants(&self) {}
}

/// Starts an engine.
pub type Engine = verity_sim::EngineFn;

#[derive(Default)]
struct Client {
    connected: bool,
    buffer: BytesMut,
    asked: Option<(u8, u64, u64, u64)>,
    next: u64,
    node: u64,
    done: bool,
}

/// Clients that append and count, and the judgement of what they saw.
pub struct Appends {
    engine: Engine,
    spawned: bool,
    nodes: u64,
    clients: Vec<Client>,
    pace: u64,
    acknowledged: BTreeMap<u64, u64>,
    highest: u64,
    all: Option<Vec<u64>>,
    winding_down: bool,
    wrong: VecDeque<String>,
    answered: u64,
}

impl Appends {
    /// So many clients, each asking every `pace` nanoseconds, of so many nodes.
    #[must_use]
    pub fn new(engine: Engine, nodes: usize, clients: usize, pace: u64) -> Self {
        Self {
            engine,
            spawned: false,
            nodes: nodes as u64,
            clients: (0..clients).map(|_| Client::default()).collect(),
            pace,
            acknowledged: BTreeMap::new(),
            highest: 0,
            all: None,
            winding_down: false,
            wrong: VecDeque::new(),
            answered: 0,
        }
    }

    /// The list is a group that another group's machine asks for, and lies in a file.
    #[must_use]
    pub fn spawned(mut self) -> Self {
        self.spawned = true;
        self
    }

    fn on_answer(&mut self, id: usize, op: u8, value: u64, mut answer: Bytes) {
        let Some((_, _, _, floor)) = self.clients[id].asked.take() else { return };
        let count = answer.get_u64();
        self.answered += 1;
        match op {
            b'a' => {
                if let Some(other) = self.acknowledged.insert(count, value) {
                    self.wrong.push_back(format!("place {count} was given to {value:x} and to {other:x}"));
                }
                self.highest = self.highest.max(count);
            }
            _ => {
                if count < floor {
                    self.wrong.push_back(format!("client {id} counted {count} when {floor} were acknowledged before"));
                }
            }
        }
        if op == b'A' {
            let mut all = Vec::new();
            while answer.remaining() >= 8 {
                all.push(answer.get_u64());
            }
            self.all = Some(all);
            self.clients[id].done = true;
        }
    }

    fn read_answers(&mut self, id: usize) {
        loop {
            let buffer = &mut self.clients[id].buffer;
            if buffer.len() < 17 {
                return;
            }
            let length =
                usize::try_from(u64::from_be_bytes(buffer[9..17].try_into().expect("eight bytes"))).unwrap_or(0);
            if buffer.len() < 17 + length {
                return;
            }
            let (op, value) = (buffer.get_u8(), buffer.get_u64());
            buffer.advance(8);
            let answer = buffer.split_to(length).freeze();
            self.on_answer(id, op, value, answer);
        }
    }
}

impl Workload for Appends {
    fn setup(&self, disk: &Arc<dyn Disk>, _node: NodeId, members: &Members, mutant: Option<Mutant>) -> NodeSetup {
        let engine = self.engine;
        let machine: Box<dyn StateMachine> =
            if self.spawned { Box::new(Nursery::new(members.clone())) } else { Box::new(List::default()) };
        let disk = Arc::clone(disk);
        let founder: Founder = Arc::new(move |spawn| {
            Ok(GroupSpec {
                id: spawn.group,
                members: spawn.members.clone(),
                // Little enough that nodes which were away need the file.
                config: GroupConfig { snapshot_log_bytes: 16 << 10, log_bytes_kept: 2 << 10, ..GroupConfig::default() },
                engine: Box::new(move |boot, now| {
                    let seed = boot.seed;
                    engine(boot, now, mutant).map(|engine| mutate(engine, mutant, seed, &Began::default()))
                }),
                machine: Box::new(FiledList::new(Arc::clone(&disk), spawn.group)?),
                duty: None,
            })
        });
        let group = GroupSpec {
            id: GROUP,
            members: members.clone(),
            config: GroupConfig::default(),
            engine: Box::new(move |boot, now| {
                let seed = boot.seed;
                engine(boot, now, mutant).map(|engine| mutate(engine, mutant, seed, &Began::default()))
            }),
            machine,
            duty: None,
        };
        let spawned = self.spawned.then_some(LIST);
        let services: Vec<ServiceFactory> =
            vec![Box::new(move |_| Box::new(ListService { spawned, ..ListService::default() }))];
        NodeSetup { groups: vec![group], founder: Some(founder), services }
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
        let (highest, winding_down) = (self.highest, self.winding_down);
        match input {
            ClientInput::Bytes(bytes) => {
                self.clients[id].buffer.extend_from_slice(&bytes);
                return self.read_answers(id);
            }
            ClientInput::Connected => self.clients[id].connected = true,
            ClientInput::Disconnected => {
                self.clients[id].connected = false;
                self.clients[id].asked = None;
                return;
            }
            ClientInput::Wake => out.push(ClientOutput::Wake(now + self.pace)),
        }
        let client = &mut self.clients[id];
        if client.done {
            return;
        }
        let stuck = client.asked.is_some_and(|(_, _, since, _)| now > since + PATIENCE);
        if !client.connected || stuck {
            client.asked = None;
            client.connected = false;
            client.buffer.clear();
            client.node = rng.u64(1..=self.nodes);
            out.push(ClientOutput::Connect(NodeId(client.node), Door(0)));
            return;
        }
        if client.asked.is_some() {
            return;
        }
        client.next += 1;
        let value = (id as u64) << 32 | client.next;
        let op = if winding_down {
            b'A'
        } else if rng.u32(0..4) == 0 {
            b'c'
        } else {
            b'a'
        };
        client.asked = Some((op, value, now, highest));
        let mut bytes = BytesMut::new();
        bytes.put_u8(op);
        bytes.put_u64(value);
        out.push(ClientOutput::Bytes(bytes.freeze()));
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
        if let Some(wrong) = self.wrong.pop_front() {
            return Err(wrong);
        }
        let all = self.all.as_ref().ok_or("nobody read the list at the end")?;
        let once: BTreeSet<&u64> = all.iter().collect();
        if once.len() != all.len() {
            return Err("an append stands in the list twice".into());
        }
        for (place, value) in &self.acknowledged {
            let found = usize::try_from(*place - 1).ok().and_then(|at| all.get(at));
            if found != Some(value) {
                return Err(format!("{value:x} was acknowledged at place {place}, where {found:x?} stands"));
            }
        }
        Ok(())
    }
}
