//! A world of ZooKeeper clients, and the laws that their history must keep.
//!
//! The clients encode and decode ZooKeeper's wire protocol by hand, so that they share nothing with what they judge.
//!
//! - an acknowledged write has its version alone, and its value stands under that version ever after;
//! - a read behind a `sync` sees every write that was acknowledged before it was asked for;
//! - a session never reads an older version, nor a smaller zxid, than it has seen, across reconnects too;
//! - a watch fires before its session sees the state that it fired for;
//! - an ephemeral lives exactly as long as its session; a sequence number is given once;
//! - what is left to judge is written down for `verity-checker`: one order of the whole tree, sessions, zxids, watches.
//!
//! A client keeps its watches when it reconnects in its session, and is told what it missed.

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

use crate::history::History;
use crate::mutant::{Mutant, mutate};
use crate::twice::{Began, mutate_machine};
use crate::workload::{ClientId, ClientInput, ClientOutput, NodeSetup, Workload};

const GROUP: GroupId = GroupId(1);
const MILLI: u64 = 1_000_000;
/// An unanswered request is given up after this long, and the client connects anew.
const PATIENCE: u64 = 2_000 * MILLI;
/// Half a second a tick: sessions time out within a world's life.
const TICK_MS: u32 = 500;
const TIMEOUT_MS: i32 = 1_000;
const KEYS: usize = 4;
/// A client asks this much ahead of the answers, as real ones do.
const WINDOW: usize = 8;
const SYNC_XID: i32 = 1 << 30;
const WATCHES_XID: i32 = -8;

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
    /// Sets two keys at once, or none: these values, in this order.
    Multi {
        keys: [usize; 2],
        values: [u64; 2],
    },
    Close,
    /// Which closings were acknowledged when it was asked for.
    List {
        closed: BTreeSet<i64>,
        watch: bool,
    },
}

/// A request that is not answered yet.
#[derive(Debug)]
struct Asked {
    xid: i32,
    op: Op,
    since: u64,
    /// One of those with which the client ends.
    last: bool,
    /// Its barrier failed.
    unsynced: bool,
}

#[derive(Default)]
struct Client {
    connecting: bool,
    /// The handshake is over.
    ready: bool,
    /// The barrier before the first unanswered request was answered.
    synced: bool,
    session: i64,
    password: Vec<u8>,
    zxid: i64,
    buffer: BytesMut,
    xid: i32,
    /// Unanswered, in the order in which they were asked; they are answered in it.
    asked: VecDeque<Asked>,
    since: u64,
    made: usize,
    seen: [i32; KEYS],
    watches: [Option<i32>; KEYS],
    /// It watches the children of the ephemerals' folder.
    child_watch: bool,
    /// Acknowledged ephemerals of the present session.
    ephemerals: BTreeSet<String>,
    /// One of them that was not listed. The session may be over; if it writes again, it was not.
    gone: Option<String>,
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
    /// The version that each value was seen under: each is written once.
    seen_as: BTreeMap<u64, i32>,
    /// The highest acknowledged version of each key; -1 for none.
    highest: [i32; KEYS],
    /// Sessions whose end their client knows of.
    closed: BTreeSet<i64>,
    /// Who made which ephemeral.
    owners: BTreeMap<String, i64>,
    numbers: BTreeSet<String>,
    /// Written down if the world is to be judged by the checker as well.
    history: Option<History>,
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
            seen_as: BTreeMap::new(),
            highest: [-1; KEYS],
            closed: BTreeSet::new(),
            owners: BTreeMap::new(),
            numbers: BTreeSet::new(),
            history: None,
            winding_down: false,
            answered: 0,
            wrong: VecDeque::new(),
        }
    }

    /// The same, its history written down and judged by the checker too.
    #[must_use]
    pub fn with_history(mut self) -> Self {
        self.history = Some(History::default());
        self
    }

    fn connect(&mut self, id: usize, now: u64, rng: &mut Rng, out: &mut Vec<ClientOutput>) {
        let client = &mut self.clients[id];
        for (at, asked) in client.asked.iter().enumerate() {
            if let Some(history) = &mut self.history {
                history.info(&process(id, asked.xid, ""));
            }
            if asked.syncs()
                && (at > 0 || !client.synced)
                && let Some(history) = &mut self.history
            {
                history.info(&process(id, asked.xid, "s"));
            }
        }
        if client.closes() {
            // Whether it was closed will never be known.
            client.forget_session();
        }
        client.asked.clear();
        client.connecting = true;
        client.ready = false;
        client.buffer.clear();
        client.synced = false;
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
        if xid == WATCHES_XID {
            if err != 0 {
                self.wrong.push_back(format!("client {id} set its watches again and was answered error {err}"));
            }
            return;
        }
        if xid == SYNC_XID {
            client.synced = true;
            if let Some(asked) = client.asked.front()
                && let Some(history) = &mut self.history
            {
                history.ok(&process(id, asked.xid, "s"), zxid, &error_field(err));
            }
            if err != 0 {
                client.not_synced();
            }
            return;
        }
        match client.asked.pop_front() {
            Some(asked) if asked.xid == xid => {
                self.answered += 1;
                client.synced = false;
                if let Some(history) = &mut self.history {
                    history.ok(&process(id, xid, ""), zxid, &answer_fields(&asked.op, err, &packet));
                }
                client.last_reads += usize::from(asked.last && err == 0);
                self.on_answer(id, asked.op, err, packet);
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
            // The session that the client had is over. When it ended nobody here knows, so the history does not say it.
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
        let kind = packet.get_i32();
        packet.advance(4);
        let path = string(&mut packet);
        if let Some(history) = &mut self.history {
            history.event(self.clients[id].session, &path, kind);
        }
        if path == "/e" && std::mem::take(&mut self.clients[id].child_watch) {
            return;
        }
        let key = path.strip_prefix("/r").and_then(|key| key.parse::<usize>().ok());
        match key.and_then(|key| self.clients[id].watches[key].take()) {
            Some(_) => {}
            None => self.wrong.push_back(format!("client {id} was told of {path}, which it does not watch")),
        }
    }

    fn on_answer(&mut self, id: usize, op: Op, err: i32, mut body: Bytes) {
        let writes = !matches!(op, Op::Get { .. } | Op::List { .. } | Op::Close);
        if let Some(gone) = self.clients[id].gone.take_if(|_| writes && err == 0) {
            self.wrong.push_back(format!("{gone} is gone while its session lives"));
        }
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
            (Op::Multi { keys, values }, 0) => {
                // Each result is a header of nine bytes and a Stat.
                for (at, (key, value)) in keys.into_iter().zip(values).enumerate() {
                    self.on_set(id, key, value, version_of(&body.slice(at * 77..(at + 1) * 77)));
                }
            }
            (Op::Close, 0) => {
                self.closed.insert(self.clients[id].session);
                self.clients[id].forget_session();
                self.clients[id].ready = false;
                self.clients[id].connecting = false;
            }
            (Op::List { closed, watch }, 0) => {
                self.clients[id].child_watch |= watch;
                self.on_list(id, &closed, &mut body);
            }
            // Expired under way: the next connect says so.
            (_, -112 | -118) => {}
            (op, err) => self.wrong.push_back(format!("client {id}: {op:?} was answered error {err}")),
        }
    }

    /// A value stands under one version: its write took effect once.
    fn stands(&mut self, key: usize, value: u64, version: i32) {
        let other = *self.seen_as.entry(value).or_insert(version);
        if value != 0 && other != version {
            self.wrong.push_back(format!("{value:x} stands in /r{key} as version {other} and as version {version}"));
        }
    }

    fn on_set(&mut self, id: usize, key: usize, value: u64, version: i32) {
        self.stands(key, value, version);
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
        self.stands(key, value, version);
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
        let client = &mut self.clients[id];
        if let Some(missing) = client.ephemerals.iter().find(|path| !listed.contains(*path)) {
            client.gone = Some(missing.clone());
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
                return Op::Get { key, watch: false, floor: Some(self.highest[key]) };
            }
            return Op::List { closed: self.closed.clone(), watch: false };
        }
        client.count += 1;
        let key = rng.usize(0..KEYS);
        match rng.u32(0..100) {
            0..6 => {
                let (other, value) = ((key + 1) % KEYS, (id as u64) << 32 | client.count);
                Op::Multi { keys: [key, other], values: [value, value | 1 << 62] }
            }
            6..40 => Op::Set { key, value: (id as u64) << 32 | client.count },
            40..60 => Op::Get { key, watch: rng.bool(), floor: None },
            60..80 => Op::Get { key, watch: rng.bool(), floor: Some(self.highest[key]) },
            80..88 => Op::Ephemeral(format!("/e/c{id}-{}", client.count)),
            88..92 => Op::Sequential,
            92..98 => Op::List { closed: self.closed.clone(), watch: rng.bool() },
            _ => Op::Close,
        }
    }

    fn ask(&mut self, id: usize, now: u64, op: Op, out: &mut Vec<ClientOutput>) {
        let client = &mut self.clients[id];
        client.xid += 1;
        let xid = client.xid;
        let synced = match &op {
            Op::Get { key, floor: Some(_), .. } => Some(format!("/r{key}")),
            Op::List { .. } => Some("/e".to_owned()),
            _ => None,
        };
        let mut bytes = BytesMut::new();
        let session = client.session;
        if let Some(path) = synced {
            if let Some(history) = &mut self.history {
                history.invoke(&process(id, xid, "s"), session, "sync", &format!(r#","path":"{path}""#));
            }
            packet(&mut bytes, SYNC_XID, 9, |body| put_string(body, &path));
        }
        let (f, fields) = request_fields(&op);
        if let Some(history) = &mut self.history {
            history.invoke(&process(id, xid, ""), session, f, &fields);
        }
        match &op {
            Op::Make(place) => {
                let path = made(*place);
                packet(&mut bytes, xid, 1, |body| put_create(body, &path, 0));
            }
            Op::Set { key, value } => packet(&mut bytes, xid, 5, |body| put_set(body, *key, *value)),
            Op::Get { key, watch, .. } => packet(&mut bytes, xid, 4, |body| {
                put_string(body, &format!("/r{key}"));
                body.put_u8(u8::from(*watch));
            }),
            Op::Ephemeral(path) => packet(&mut bytes, xid, 1, |body| put_create(body, path, 1)),
            Op::Sequential => packet(&mut bytes, xid, 1, |body| put_create(body, "/q/s-", 3)),
            Op::Multi { keys, values } => packet(&mut bytes, xid, 14, |body| {
                for (key, value) in keys.iter().zip(values) {
                    put_multi_header(body, 5);
                    put_set(body, *key, *value);
                }
                put_multi_header(body, -1);
            }),
            Op::Close => packet(&mut bytes, xid, -11, |_| {}),
            Op::List { watch, .. } => packet(&mut bytes, xid, 8, |body| {
                put_string(body, "/e");
                body.put_u8(u8::from(*watch));
            }),
        }
        let last = self.winding_down && client.made == KEYS + 2;
        client.asked.push_back(Asked { xid, op, since: now, last, unsynced: false });
        out.push(ClientOutput::Bytes(bytes.freeze()));
    }
}

impl Asked {
    /// True if a barrier went before it.
    fn syncs(&self) -> bool {
        matches!(self.op, Op::Get { floor: Some(_), .. } | Op::List { .. }) || self.unsynced
    }
}

impl Client {
    fn forget_session(&mut self) {
        self.session = 0;
        self.password = vec![0; 16];
        self.ephemerals.clear();
        self.gone = None;
        self.watches = [None; KEYS];
        self.child_watch = false;
        self.zxid = 0;
    }

    fn closes(&self) -> bool {
        self.asked.back().is_some_and(|asked| asked.op == Op::Close)
    }

    /// How many requests may be under way.
    fn window(&self, winding_down: bool) -> usize {
        let alone = winding_down || self.made < KEYS + 2;
        if !self.ready || self.closes() {
            0
        } else if alone {
            1
        } else {
            WINDOW
        }
    }

    /// True if the client has waited for longer than it would.
    fn is_tired(&self, now: u64) -> bool {
        let since = self.asked.front().map_or(self.since, |asked| asked.since.max(self.since));
        (!self.asked.is_empty() || !self.ready) && now > since + PATIENCE
    }

    /// The barrier failed: the read behind it promises no more than any other.
    fn not_synced(&mut self) {
        let Some(asked) = self.asked.front_mut() else { return };
        asked.unsynced = true;
        match &mut asked.op {
            Op::Get { floor, .. } => *floor = None,
            Op::List { closed, .. } => closed.clear(),
            _ => {}
        }
    }

    /// Sets again what it watched in its session before, at whichever node it is now: what it missed is told.
    fn watches_again(&self) -> Option<Bytes> {
        let data: Vec<String> =
            (0..KEYS).filter(|key| self.watches[*key].is_some()).map(|key| format!("/r{key}")).collect();
        let child: Vec<String> = self.child_watch.then(|| "/e".to_owned()).into_iter().collect();
        if data.is_empty() && child.is_empty() {
            return None;
        }
        let mut bytes = BytesMut::new();
        packet(&mut bytes, WATCHES_XID, 105, |body| {
            body.put_i64(self.zxid);
            for paths in [data, Vec::new(), child, Vec::new(), Vec::new()] {
                body.put_i32(i32::try_from(paths.len()).expect("there are few"));
                paths.iter().for_each(|path| put_string(body, path));
            }
        });
        Some(bytes.freeze())
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
        let began = Began::default();
        let tree = Tree::with_index_seed(TreeConfig::default(), 1).with_mutant(tree_mutant);
        let machine = mutate_machine(Box::new(tree), mutant, &began);
        let duty = DutyConfig { tick_ms: TICK_MS, ..DutyConfig::default() };
        let group = GroupSpec {
            id: GROUP,
            members: members.clone(),
            config: GroupConfig::default(),
            engine: Box::new(move |boot, now| {
                let seed = boot.seed;
                Ok(mutate(engine(boot, now, mutant)?, mutant, seed, &began))
            }),
            machine,
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
                    let before = self.clients[id].ready;
                    self.on_packet(id, packet);
                    if !before && self.clients[id].ready {
                        out.extend(self.clients[id].watches_again().map(ClientOutput::Bytes));
                    }
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
        if !client.connecting || client.is_tired(now) {
            return self.connect(id, now, rng, out);
        }
        if client.asked.len() < client.window(self.winding_down) {
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
        self.wrong.pop_front().map_or(Ok(()), Err)?;
        self.history.as_ref().map_or(Ok(()), History::judge)
    }

    fn history(&self) -> Option<&str> {
        self.history.as_ref().map(History::lines)
    }
}

fn process(id: usize, xid: i32, part: &str) -> String {
    format!("{id}.{}{part}", xid % 16)
}

fn made(place: usize) -> String {
    match place.checked_sub(KEYS) {
        None => format!("/r{place}"),
        Some(0) => "/e".to_owned(),
        Some(_) => "/q".to_owned(),
    }
}

fn error_field(err: i32) -> String {
    let name = match err {
        0 => return String::new(),
        -101 => "no_node",
        -110 => "node_exists",
        -112 => "session_expired",
        _ => return format!(r#","error":"{err}""#),
    };
    format!(r#","error":"{name}""#)
}

/// What a request is called in a history, and its fields.
fn request_fields(op: &Op) -> (&'static str, String) {
    match op {
        Op::Make(place) => ("create", format!(r#","path":"{}","value":"""#, made(*place))),
        Op::Set { key, value } => ("set", format!(r#","path":"/r{key}","value":"{value:x}""#)),
        Op::Get { key, watch, .. } => ("get", format!(r#","path":"/r{key}","watch":{watch}"#)),
        Op::Ephemeral(path) => ("create", format!(r#","path":"{path}","value":"","ephemeral":true"#)),
        Op::Sequential => ("create", r#","path":"/q/s-","value":"","ephemeral":true,"sequential":true"#.to_owned()),
        Op::Multi { keys, values } => {
            let part = |at: usize| format!(r#"{{"f":"set","path":"/r{}","value":"{:x}"}}"#, keys[at], values[at]);
            ("multi", format!(r#","ops":[{},{}]"#, part(0), part(1)))
        }
        Op::Close => ("close", String::new()),
        Op::List { watch, .. } => ("children", format!(r#","path":"/e","watch":{watch}"#)),
    }
}

/// What an answer says, as a history's fields.
fn answer_fields(op: &Op, err: i32, body: &Bytes) -> String {
    if err != 0 {
        return error_field(err);
    }
    let mut body = body.clone();
    match op {
        Op::Set { .. } => format!(r#","version":{}"#, version_of(&body)),
        Op::Get { .. } => {
            let version = version_of(&body);
            let value = if body.get_i32() == 8 { format!("{:x}", body.get_u64()) } else { String::new() };
            format!(r#","value":"{value}","version":{version}"#)
        }
        Op::Sequential => format!(r#","created":"{}""#, string(&mut body)),
        Op::Multi { .. } => {
            let version = |at: usize| version_of(&body.slice(at * 77..(at + 1) * 77));
            format!(r#","results":[{{"version":{}}},{{"version":{}}}]"#, version(0), version(1))
        }
        Op::List { .. } => {
            let count = body.get_i32();
            let names: Vec<String> = (0..count).map(|_| format!("\"{}\"", string(&mut body))).collect();
            format!(r#","value":[{}]"#, names.join(","))
        }
        Op::Make(_) | Op::Ephemeral(_) | Op::Close => String::new(),
    }
}

fn put_set(body: &mut BytesMut, key: usize, value: u64) {
    put_string(body, &format!("/r{key}"));
    body.put_i32(8);
    body.put_u64(value);
    body.put_i32(-1);
}

fn put_multi_header(body: &mut BytesMut, op: i32) {
    body.put_i32(op);
    body.put_u8(u8::from(op < 0));
    body.put_i32(-1);
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
