//! A world of ZooKeeper clients, and the laws that their history must keep.
//!
//! The clients encode and decode ZooKeeper's wire protocol by hand, so that they share nothing with what they judge.
//!
//! - an acknowledged write has its version alone, and its value stands under that version ever after;
//! - a read behind a `sync` sees every write that was acknowledged before it was asked for;
//! - a session never reads an older version, nor a smaller zxid, than it has seen, across reconnects too;
//! - a watch fires before its session sees the state that it fired for;
//! - an ephemeral lives exactly as long as its session; a sequence number is given once.
//!
//! Deliberately absent: a search for a linear order; versions give it away. `verity-checker` searches where nothing does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use fastrand::Rng;
use verity_contract::{Agreement, Boot, Door, Members};
use verity_replica::{GroupConfig, GroupSpec};
use verity_storage::Disk;
use verity_types::{GroupId, Mono, NodeId};
use verity_zookeeper::machine::{Mutant as TreeMutant, Tree, TreeConfig, reconfig};
use verity_zookeeper::session::{Config, DutyConfig, ZooKeeper, ZooKeeperDuty};
use verity_zookeeper::wire::ReconfigRequest;

use crate::mutant::{Mutant, mutate};
use crate::workload::{ClientId, ClientInput, ClientOutput, NodeSetup, Workload};

const GROUP: GroupId = GroupId(1);
const MILLI: u64 = 1_000_000;
/// An unanswered request is given up after this long, and the client connects anew.
const PATIENCE: u64 = 2_000 * MILLI;
/// Half a second a tick: sessions time out within a world's life.
const TICK_MS: u32 = 500;
const TIMEOUT_MS: i32 = 1_000;
const KEYS: usize = 4;
const SYNC_XID: i32 = 1 << 30;

/// Starts an engine, with the mutants that live inside of it.
pub type EngineFn = fn(Boot, Mono, Option<Mutant>) -> Result<Box<dyn Agreement>, String>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Op {
    /// The paths that everybody uses; they may be there.
    Make(usize),
    Set {
        key: usize,
        value: u64,
    },
    Get {
        key: usize,
        watch: bool,
        floor: Option<i32>,
    },
    Ephemeral(String),
    Sequential,
    Close,
    /// Which closings were acknowledged when it was asked for.
    List {
        closed: BTreeSet<i64>,
    },
}

#[derive(Default)]
struct Client {
    connecting: bool,
    /// The handshake is over.
    ready: bool,
    session: i64,
    password: Vec<u8>,
    zxid: i64,
    buffer: BytesMut,
    xid: i32,
    asked: Option<(i32, Op)>,
    since: u64,
    made: usize,
    seen: [i32; KEYS],
    watches: [Option<i32>; KEYS],
    /// Acknowledged ephemerals of the present session.
    ephemerals: BTreeSet<String>,
    count: u64,
    last_reads: usize,
    done: bool,
}

/// The clients of a world, and what they know.
pub struct ZooKeeperClients {
    engine: EngineFn,
    nodes: u64,
    pace: u64,
    clients: Vec<Client>,
    /// The value acknowledged under each version of each key.
    acknowledged: BTreeMap<(usize, i32), u64>,
    /// The highest acknowledged version of each key; -1 for none.
    highest: [i32; KEYS],
    /// Sessions whose end their client knows of.
    closed: BTreeSet<i64>,
    /// Who made which ephemeral.
    owners: BTreeMap<String, i64>,
    numbers: BTreeSet<String>,
    winding_down: bool,
    answered: u64,
    wrong: VecDeque<String>,
}

impl ZooKeeperClients {
    /// So many clients, each asking every `pace` nanoseconds, of so many nodes.
    #[must_use]
    pub fn new(engine: EngineFn, nodes: usize, clients: usize, pace: u64) -> Self {
        Self {
            engine,
            nodes: nodes as u64,
            pace,
            clients: (0..clients).map(|_| Client { seen: [-1; KEYS], ..Client::default() }).collect(),
            acknowledged: BTreeMap::new(),
            highest: [-1; KEYS],
            closed: BTreeSet::new(),
            owners: BTreeMap::new(),
            numbers: BTreeSet::new(),
            winding_down: false,
            answered: 0,
            wrong: VecDeque::new(),
        }
    }

    fn connect(&mut self, id: usize, now: u64, rng: &mut Rng, out: &mut Vec<ClientOutput>) {
        let client = &mut self.clients[id];
        if let Some((_, Op::Close)) = client.asked.take() {
            // Whether it was closed will never be known.
            client.forget_session();
        }
        client.connecting = true;
        client.ready = false;
        client.buffer.clear();
        client.watches = [None; KEYS];
        client.since = now;
        out.push(ClientOutput::Connect(NodeId(rng.u64(1..=self.nodes)), Door(0)));
    }

    fn on_packet(&mut self, id: usize, mut packet: Bytes) {
        if !self.clients[id].ready {
            return self.on_handshake(id, packet);
        }
        let (xid, zxid, err) = (packet.get_i32(), packet.get_i64(), packet.get_i32());
        if xid == -1 {
            return self.on_event(id, packet);
        }
        let client = &mut self.clients[id];
        if zxid < client.zxid {
            self.wrong.push_back(format!("client {id} saw zxid {zxid:#x} after {:#x}", client.zxid));
        }
        let client = &mut self.clients[id];
        client.zxid = client.zxid.max(zxid);
        if xid == SYNC_XID {
            if err != 0 {
                client.not_synced();
            }
            return;
        }
        match client.asked.take() {
            Some((asked, op)) if asked == xid => {
                self.answered += 1;
                self.on_answer(id, op, err, packet);
            }
            other => self.wrong.push_back(format!("client {id} waited for {other:?} and was answered xid {xid}")),
        }
    }

    fn on_handshake(&mut self, id: usize, mut packet: Bytes) {
        let client = &mut self.clients[id];
        packet.advance(8);
        let session = packet.get_i64();
        packet.advance(4);
        let password = packet.copy_to_bytes(16).to_vec();
        if session == 0 {
            // The session that the client had is over.
            self.closed.insert(client.session);
            client.forget_session();
            client.connecting = false;
            return;
        }
        client.session = session;
        client.password = password;
        client.ready = true;
    }

    fn on_event(&mut self, id: usize, mut packet: Bytes) {
        packet.advance(8);
        let path = string(&mut packet);
        let key = path.strip_prefix("/r").and_then(|key| key.parse::<usize>().ok());
        match key.and_then(|key| self.clients[id].watches[key].take()) {
            Some(_) => {}
            None => self.wrong.push_back(format!("client {id} was told of {path}, which it does not watch")),
        }
    }

    fn on_answer(&mut self, id: usize, op: Op, err: i32, mut body: Bytes) {
        match (op, err) {
            (Op::Make(_), 0 | -110) => self.clients[id].made += 1,
            (Op::Set { key, value }, 0) => self.on_set(id, key, value, version_of(&body)),
            (Op::Get { key, watch, floor }, 0) => {
                let length = usize::try_from(body.get_i32()).unwrap_or(0);
                let value = if length == 8 { body.get_u64() } else { 0 };
                self.on_get(id, key, watch, floor, value, version_of(&body));
            }
            (Op::Ephemeral(path), 0) => {
                self.owners.insert(path.clone(), self.clients[id].session);
                self.clients[id].ephemerals.insert(path);
            }
            // A create that was sent twice, its first answer lost.
            (Op::Ephemeral(path), -110) => {
                self.clients[id].ephemerals.remove(&path);
            }
            (Op::Sequential, 0) => {
                let path = string(&mut body);
                if !self.numbers.insert(path.clone()) {
                    self.wrong.push_back(format!("the sequence number of {path} was given twice"));
                }
            }
            (Op::Close, 0) => {
                self.closed.insert(self.clients[id].session);
                self.clients[id].forget_session();
                self.clients[id].ready = false;
                self.clients[id].connecting = false;
            }
            (Op::List { closed }, 0) => self.on_list(id, &closed, &mut body),
            // Expired under way: the next connect says so.
            (_, -112 | -118) => {}
            (op, err) => self.wrong.push_back(format!("client {id}: {op:?} was answered error {err}")),
        }
    }

    fn on_set(&mut self, id: usize, key: usize, value: u64, version: i32) {
        if let Some(other) = self.acknowledged.insert((key, version), value) {
            self.wrong.push_back(format!("version {version} of /r{key} was given to {value:x} and to {other:x}"));
        }
        self.highest[key] = self.highest[key].max(version);
        self.sees(id, key, version);
    }

    fn on_get(&mut self, id: usize, key: usize, watch: bool, floor: Option<i32>, value: u64, version: i32) {
        if let Some(floor) = floor.filter(|floor| version < *floor) {
            self.wrong.push_back(format!(
                "client {id} synced and read version {version} of /r{key} when {floor} was acknowledged before"
            ));
        }
        match self.acknowledged.get(&(key, version)) {
            Some(known) if *known != value => {
                self.wrong
                    .push_back(format!("version {version} of /r{key} is {value:x} and was acknowledged as {known:x}"));
            }
            _ => {}
        }
        self.sees(id, key, version);
        if watch {
            self.clients[id].watches[key] = Some(version);
        }
    }

    /// The client knows of this version now: no older one may come, and a watch on an older one must have fired.
    fn sees(&mut self, id: usize, key: usize, version: i32) {
        let client = &mut self.clients[id];
        if version < client.seen[key] {
            self.wrong.push_back(format!("client {id} read version {version} of /r{key} after {}", client.seen[key]));
        } else if client.watches[key].is_some_and(|watched| watched < version) {
            self.wrong.push_back(format!("client {id} saw version {version} of /r{key} before its watch fired"));
        }
        let client = &mut self.clients[id];
        client.seen[key] = client.seen[key].max(version);
    }

    fn on_list(&mut self, id: usize, closed: &BTreeSet<i64>, body: &mut Bytes) {
        let count = usize::try_from(body.get_i32()).unwrap_or(0);
        let listed: BTreeSet<String> = (0..count).map(|_| format!("/e/{}", string(body))).collect();
        for path in &listed {
            if self.owners.get(path).is_some_and(|owner| closed.contains(owner)) {
                self.wrong.push_back(format!("{path} outlived its session"));
            }
        }
        if let Some(missing) = self.clients[id].ephemerals.iter().find(|path| !listed.contains(*path)) {
            self.wrong.push_back(format!("{missing} is gone while its session lives"));
        }
        if self.winding_down {
            self.clients[id].last_reads += 1;
        }
    }

    fn next_op(&mut self, id: usize, rng: &mut Rng) -> Op {
        let client = &mut self.clients[id];
        if client.made < KEYS + 2 {
            return Op::Make(client.made);
        }
        if self.winding_down {
            if client.last_reads < KEYS {
                let key = client.last_reads;
                client.last_reads += 1;
                return Op::Get { key, watch: false, floor: Some(self.highest[key]) };
            }
            return Op::List { closed: self.closed.clone() };
        }
        client.count += 1;
        let key = rng.usize(0..KEYS);
        match rng.u32(0..100) {
            0..40 => Op::Set { key, value: (id as u64) << 32 | client.count },
            40..60 => Op::Get { key, watch: rng.bool(), floor: None },
            60..80 => Op::Get { key, watch: rng.bool(), floor: Some(self.highest[key]) },
            80..88 => Op::Ephemeral(format!("/e/c{id}-{}", client.count)),
            88..92 => Op::Sequential,
            92..98 => Op::List { closed: self.closed.clone() },
            _ => Op::Close,
        }
    }

    fn ask(&mut self, id: usize, now: u64, op: Op, out: &mut Vec<ClientOutput>) {
        let client = &mut self.clients[id];
        client.xid += 1;
        client.since = now;
        let xid = client.xid;
        let synced = match &op {
            Op::Get { key, floor: Some(_), .. } => Some(format!("/r{key}")),
            Op::List { .. } => Some("/e".to_owned()),
            _ => None,
        };
        let mut bytes = BytesMut::new();
        if let Some(path) = synced {
            packet(&mut bytes, SYNC_XID, 9, |body| put_string(body, &path));
        }
        match &op {
            Op::Make(place) => {
                let path = match place.checked_sub(KEYS) {
                    None => format!("/r{place}"),
                    Some(0) => "/e".to_owned(),
                    Some(_) => "/q".to_owned(),
                };
                packet(&mut bytes, xid, 1, |body| put_create(body, &path, 0));
            }
            Op::Set { key, value } => packet(&mut bytes, xid, 5, |body| {
                put_string(body, &format!("/r{key}"));
                body.put_i32(8);
                body.put_u64(*value);
                body.put_i32(-1);
            }),
            Op::Get { key, watch, .. } => packet(&mut bytes, xid, 4, |body| {
                put_string(body, &format!("/r{key}"));
                body.put_u8(u8::from(*watch));
            }),
            Op::Ephemeral(path) => packet(&mut bytes, xid, 1, |body| put_create(body, path, 1)),
            Op::Sequential => packet(&mut bytes, xid, 1, |body| put_create(body, "/q/s-", 3)),
            Op::Close => packet(&mut bytes, xid, -11, |_| {}),
            Op::List { .. } => packet(&mut bytes, xid, 8, |body| {
                put_string(body, "/e");
                body.put_u8(0);
            }),
        }
        client.asked = Some((xid, op));
        out.push(ClientOutput::Bytes(bytes.freeze()));
    }
}

impl Client {
    fn forget_session(&mut self) {
        self.session = 0;
        self.password = vec![0; 16];
        self.ephemerals.clear();
        self.watches = [None; KEYS];
        self.zxid = 0;
    }

    /// The barrier failed: the read behind it promises no more than any other.
    fn not_synced(&mut self) {
        match &mut self.asked {
            Some((_, Op::Get { floor, .. })) => *floor = None,
            Some((_, Op::List { closed })) => closed.clear(),
            _ => {}
        }
    }

    fn handshake(&self) -> Bytes {
        let mut body = BytesMut::new();
        body.put_i32(0);
        body.put_i64(self.zxid);
        body.put_i32(TIMEOUT_MS);
        body.put_i64(self.session);
        body.put_i32(16);
        body.put_slice(if self.password.is_empty() { &[0; 16] } else { &self.password });
        body.put_u8(0);
        let mut out = BytesMut::new();
        out.put_i32(i32::try_from(body.len()).expect("a handshake is short"));
        out.put_slice(&body);
        out.freeze()
    }
}

impl Workload for ZooKeeperClients {
    fn setup(&self, _disk: &Arc<dyn Disk>, node: NodeId, members: &Members, mutant: Option<Mutant>) -> NodeSetup {
        let engine = self.engine;
        let tree_mutant = match mutant {
            Some(Mutant::SnapshotMissingSession) => TreeMutant::SnapshotMissingSession,
            Some(Mutant::EphemeralSurvivesSession) => TreeMutant::EphemeralSurvivesSession,
            Some(Mutant::WatchAfterReply) => TreeMutant::WatchAfterReply,
            _ => TreeMutant::None,
        };
        let duty = DutyConfig { tick_ms: TICK_MS, ..DutyConfig::default() };
        let group = GroupSpec {
            id: GROUP,
            members: members.clone(),
            config: GroupConfig::default(),
            engine: Box::new(move |boot, now| Ok(mutate(engine(boot, now, mutant)?, mutant))),
            machine: Box::new(Tree::with_index_seed(TreeConfig::default(), 1).with_mutant(tree_mutant)),
            duty: Some(Box::new(ZooKeeperDuty::new(duty))),
        };
        let service = move |incarnation| {
            let config = Config { tick_ms: TICK_MS, ..Config::new(node, incarnation, GROUP, [7; 32]) };
            Box::new(ZooKeeper::new(config)) as Box<dyn verity_contract::Service>
        };
        NodeSetup { groups: vec![group], founder: None, services: vec![Box::new(service)] }
    }

    fn reconfigure(&self, members: &Members) -> Option<(GroupId, Bytes)> {
        let line = |node: &NodeId, role: &str| format!("server.{node}=node-{node}:1:2:{role};node-{node}:3");
        let voters = members.voters.iter().map(|node| line(node, "participant"));
        let all: Vec<String> = voters.chain(members.learners.iter().map(|node| line(node, "observer"))).collect();
        let request = ReconfigRequest { joining: "", leaving: "", members: &all.join(","), config: -1 };
        Some((GROUP, reconfig(&request)))
    }

    /// Clients know every node: a group may end up on the one that joined.
    fn begin(&mut self, nodes: usize) {
        self.nodes = nodes as u64;
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
        match input {
            ClientInput::Bytes(bytes) => {
                self.clients[id].buffer.extend_from_slice(&bytes);
                while let Some(packet) = next_packet(&mut self.clients[id].buffer) {
                    self.on_packet(id, packet);
                }
                return;
            }
            ClientInput::Connected => return out.push(ClientOutput::Bytes(self.clients[id].handshake())),
            ClientInput::Disconnected => {
                self.clients[id].ready = false;
                self.clients[id].connecting = false;
                return;
            }
            ClientInput::Wake => out.push(ClientOutput::Wake(now + self.pace)),
        }
        let client = &self.clients[id];
        if client.done {
            return;
        }
        if self.winding_down && client.last_reads > KEYS {
            self.clients[id].done = true;
            return;
        }
        let waits = client.asked.is_some() || (client.connecting && !client.ready);
        if waits && now > client.since + PATIENCE || !client.connecting {
            return self.connect(id, now, rng, out);
        }
        if !waits {
            let op = self.next_op(id, rng);
            self.ask(id, now, op, out);
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
        self.wrong.pop_front().map_or(Ok(()), Err)
    }
}

fn next_packet(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = usize::try_from(i32::from_be_bytes(buffer.get(..4)?.try_into().ok()?)).ok()?;
    if buffer.len() < 4 + length {
        return None;
    }
    buffer.advance(4);
    Some(buffer.split_to(length).freeze())
}

fn packet(out: &mut BytesMut, xid: i32, op: i32, body: impl FnOnce(&mut BytesMut)) {
    let mut packet = BytesMut::new();
    packet.put_i32(xid);
    packet.put_i32(op);
    body(&mut packet);
    out.put_i32(i32::try_from(packet.len()).expect("requests are short"));
    out.put_slice(&packet);
}

fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i32(i32::try_from(text.len()).expect("paths are short"));
    out.put_slice(text.as_bytes());
}

fn put_create(out: &mut BytesMut, path: &str, flags: i32) {
    put_string(out, path);
    out.put_i32(0);
    out.put_i32(1);
    out.put_i32(31);
    put_string(out, "world");
    put_string(out, "anyone");
    out.put_i32(flags);
}

fn string(bytes: &mut Bytes) -> String {
    let length = usize::try_from(bytes.get_i32()).unwrap_or(0);
    String::from_utf8_lossy(&bytes.split_to(length)).into_owned()
}

/// The version in a `Stat`, which ends the body.
fn version_of(body: &Bytes) -> i32 {
    let stat = &body[body.len() - 68..];
    i32::from_be_bytes(stat[32..36].try_into().expect("four bytes"))
}
