//! What clients of ZooKeeper send: requests to the decoder, streams to a node's sessions, commands to the tree.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use verity_clock::{Interval, Now};
use verity_contract::{
    Command, Consistency, Door, Duty, DutyInput, DutyOutput, Effect, Effects, Failure, GroupFacts, GroupRole, Peer,
    ReadOutcome, RequestId, Service, SessionInput, SessionOutput, StateMachine,
};
use verity_types::{ConnId, GroupId, Incarnation, LogIndex, Mono, Nanos, NodeId, Term, Token, WallMs};
use verity_zookeeper::machine::{Envelope, Reply, Tree, TreeConfig, flags};
use verity_zookeeper::session::{Config, DoorKind, DutyConfig, ZooKeeper, ZooKeeperDuty};
use verity_zookeeper::wire::{
    ConnectBody, ConnectRequest, ConnectResponse, Decode as _, Encode, ErrorCode, Request, RequestHeader,
    decode_request,
};

use crate::Script;

const GROUP: GroupId = GroupId(1);
const NODE: NodeId = NodeId(1);
const START_MS: u64 = 1_700_000_000_000;
/// Deeds of one script.
const DEEDS_MAX: usize = 400;
/// Connections of one script.
const CONNECTIONS: u8 = 4;

/// The decoder: an opcode and a body. What decodes says the same once it is encoded again.
///
/// # Panics
/// If something that must hold does not.
pub fn wire(data: &[u8]) {
    let mut script = Script(data);
    let op = i32::from_be_bytes(std::array::from_fn(|_| script.byte()));
    if let Ok(request) = decode_request(op, script.0) {
        let again = request.to_bytes();
        assert_eq!(decode_request(op, &again).as_ref(), Ok(&request), "a request survives its encoding");
        if let Request::Multi(list) = &request
            && list.iter().any(|part| matches!(part, Request::Delete(delete) if delete.version > 1_000))
        {
            crate::canary("a multi that deletes a high version");
        }
    }
    if let Ok(connect) = ConnectRequest::from_bytes(script.0) {
        assert_eq!(ConnectRequest::from_bytes(&connect.to_bytes()).as_ref(), Ok(&connect));
    }
    if let Ok(envelope) = Envelope::decode(script.0) {
        assert!(envelope.ids.iter().count() <= 255, "ids are counted by a byte");
    }
}

/// Deeds of the session target.
///
/// ```text
/// first = bit 0: sessions are local; bit 1: reads are linearizable; bit 2: small limits
/// deed  = 0 conn door        a connection (0 plain, 1 TLS, 2 the AdminServer), in place of the one that was there
///       | 1 conn blob        bytes
///       | 2 conn cut blob    a packet: its length, then the bytes, in two parts
///       | 3 conn op blob     a request: a header with the next xid and an opcode from -128, then the body
///       | 4 conn timeout     a connect of a new session
///       | 5 conn             a connect of the session that the last greeting named
///       | 6 conn             the client hangs up
///       | 7 | 8              proposals are placed in the order; it is applied
///       | 9                  everything that can be answered is
///       | 10 | 11            a proposal is lost; a linearizable read fails
///       | 12 time            time passes, in steps of 100 ms
///       | 13 leads           an election: 0 nobody, 1 this node, 2 another
///       | 14                 the state was replaced by a snapshot
///       | 15 blob            a whisper of another node
/// ```
pub mod deed {
    #![allow(missing_docs, reason = "told above, side by side")]
    pub const DIAL: u8 = 0;
    pub const BYTES: u8 = 1;
    pub const PACKET: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const HELLO: u8 = 4;
    pub const RESUME: u8 = 5;
    pub const HANG_UP: u8 = 6;
    pub const ORDER: u8 = 7;
    pub const APPLY: u8 = 8;
    pub const SETTLE: u8 = 9;
    pub const LOSE: u8 = 10;
    pub const FAIL_READ: u8 = 11;
    pub const PASS: u8 = 12;
    pub const ELECT: u8 = 13;
    pub const RESTORE: u8 = 14;
    pub const WHISPER: u8 = 15;
}

/// A node's sessions, and behind them a tree: streams cut anywhere, in any order of commits. Nothing is written to a
/// closed connection, pauses and resumes take turns, and the invariants hold after every input.
///
/// # Panics
/// If something that must hold does not.
pub fn session(data: &[u8]) {
    let mut script = Script(data);
    let mut world = World::new(script.byte());
    for _ in 0..DEEDS_MAX {
        if script.is_empty() {
            break;
        }
        world.deed(&mut script);
    }
    world.elect(1);
    world.settle();
    assert!(world.tokens.is_empty(), "every question is answered");
}

/// The tree: commands and queries that a peer may have sent on behalf of its clients, and snapshots.
///
/// ```text
/// first = bit 0: extended types, as createTTL
/// deed  = 0 blob    a command     | 1 blob   a query
///       | 2 time    time passes   | 3        a snapshot, restored: the same tree
///       | 4 blob    a snapshot of these bytes, for a tree of its own
/// ```
///
/// # Panics
/// If something that must hold does not.
pub fn tree(data: &[u8]) {
    let mut script = Script(data);
    let config = TreeConfig { extended_types: script.byte() & 1 == 1, ..TreeConfig::default() };
    let mut tree = Tree::new(config);
    let (mut time, mut index) = (START_MS, 0);
    for _ in 0..DEEDS_MAX {
        if script.is_empty() {
            break;
        }
        match script.byte() % 5 {
            0 => {
                index += 1;
                let request = RequestId { origin: NODE, incarnation: Incarnation(1), sequence: index };
                let bytes = Bytes::copy_from_slice(script.blob());
                let command = Command { index: LogIndex(index), time: WallMs(time), request, bytes };
                let mut effects = Effects::default();
                tree.apply(std::slice::from_ref(&command), &mut effects);
                let replies: Vec<&Bytes> = effects.list.iter().filter_map(reply).collect();
                let [reply] = replies[..] else { panic!("one reply to a command") };
                let reply = Reply::decode(reply).expect("a reply has a head");
                let is_local =
                    Envelope::decode(&command.bytes).is_ok_and(|envelope| envelope.flags & flags::LOCAL != 0);
                if is_local && reply.err == 0 {
                    crate::canary("a write of a local session");
                }
            }
            1 => {
                let ReadOutcome::Ready(answer) = tree.read(script.blob()) else { panic!("trees answer at once") };
                Reply::decode(&answer).expect("an answer has a head");
            }
            2 => time += script.number() & 0xffff_ffff,
            3 => {
                let mut copy = Tree::new(config);
                tree.snapshot_begin();
                let mut chunks = std::iter::from_fn(|| tree.snapshot_next(256)).map(Ok).collect::<Vec<_>>().into_iter();
                copy.restore(&mut chunks).expect("a tree reads its own snapshot");
                copy.invariants();
                assert_eq!(copy.digest(), tree.digest(), "a snapshot is the tree");
                tree = copy;
            }
            _ => {
                let mut other = Tree::new(config);
                let chunk = Bytes::copy_from_slice(script.blob());
                if other.restore(&mut [Ok(chunk)].into_iter()).is_ok() {
                    other.invariants();
                }
            }
        }
        tree.invariants();
    }
}

fn reply(effect: &Effect) -> Option<&Bytes> {
    if let Effect::Reply { bytes, .. } = effect { Some(bytes) } else { None }
}

/// A packet: the length and the bytes.
#[must_use]
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = i32::try_from(body.len()).expect("packets are short").to_be_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

enum Work {
    Input(SessionInput),
    Read(Token, Bytes),
}

/// One node, its tree, and an order that the script commits when it likes.
struct World {
    now: Now,
    service: ZooKeeper,
    duty: ZooKeeperDuty,
    tree: Tree,
    work: VecDeque<Work>,
    pending: VecDeque<(Option<Token>, Bytes)>,
    ordered: VecDeque<(Option<Token>, Command)>,
    linear: VecDeque<(Token, Bytes)>,
    /// Questions without an answer.
    tokens: BTreeSet<Token>,
    sequence: u64,
    wakes: BTreeSet<Mono>,
    duty_wakes: BTreeSet<Mono>,
    leads: bool,
    open: BTreeMap<u8, ConnId>,
    paused: BTreeSet<ConnId>,
    conns: u64,
    xid: i32,
    /// Session and password of the last greeting.
    greeting: (i64, Vec<u8>),
    greets: BTreeSet<ConnId>,
}

impl World {
    fn new(first: u8) -> Self {
        let mut config = Config::new(NODE, Incarnation(1), GROUP, [7; 32]);
        config.local_sessions = first & 1 == 1;
        config.upgrade_local_sessions = first & 1 == 1;
        config.linearizable_reads = first & 2 == 2;
        config.doors = [(Door(1), DoorKind::Tls), (Door(2), DoorKind::Admin)].into();
        config.sasl_users = [("user".to_owned(), "password".to_owned())].into();
        if first & 4 == 4 {
            (config.outstanding_max, config.packet_size_max, config.watches_max) = (3, 200, 5);
            config.connections_per_address_max = 2;
        }
        let now = Now { mono: Mono(1_000_000_000), wall: Interval::around(START_MS * 1_000_000, 0) };
        let mut world = Self {
            now,
            service: ZooKeeper::new(config),
            duty: ZooKeeperDuty::new(DutyConfig::default()),
            tree: Tree::new(TreeConfig::default()),
            work: VecDeque::new(),
            pending: VecDeque::new(),
            ordered: VecDeque::new(),
            linear: VecDeque::new(),
            tokens: BTreeSet::new(),
            sequence: 0,
            wakes: BTreeSet::new(),
            duty_wakes: BTreeSet::new(),
            leads: false,
            open: BTreeMap::new(),
            paused: BTreeSet::new(),
            conns: 0,
            xid: 0,
            greeting: (0, vec![0; 16]),
            greets: BTreeSet::new(),
        };
        world.elect(1);
        world.settle();
        world
    }

    fn deed(&mut self, script: &mut Script<'_>) {
        let kind = script.byte() % 16;
        match kind {
            deed::DIAL..=deed::HANG_UP => {
                let seat = script.byte() % CONNECTIONS;
                self.client(kind, seat, script);
            }
            deed::ORDER => self.order(),
            deed::APPLY => self.apply(),
            deed::SETTLE => self.settle(),
            deed::LOSE => {
                if let Some((token, _)) = self.pending.pop_front() {
                    token.into_iter().for_each(|token| self.fail(token, Failure::Unavailable));
                }
            }
            deed::FAIL_READ => {
                if let Some((token, _)) = self.linear.pop_back() {
                    self.fail(token, Failure::Overloaded);
                }
            }
            deed::PASS => (0..=script.byte()).for_each(|_| self.pass()),
            deed::ELECT => self.elect(script.byte() % 3),
            deed::RESTORE => {
                self.tree.snapshot_begin();
                let mut chunks: Vec<_> = std::iter::from_fn(|| self.tree.snapshot_next(4096)).map(Ok).collect();
                self.tree.restore(&mut chunks.drain(..)).expect("a tree reads its own snapshot");
                self.input(SessionInput::Restored { group: GROUP });
            }
            _ => {
                let bytes = Bytes::copy_from_slice(script.blob());
                self.duty_on(DutyInput::Whisper { from: NodeId(2), bytes });
            }
        }
    }

    fn client(&mut self, kind: u8, seat: u8, script: &mut Script<'_>) {
        match kind {
            deed::DIAL => {
                self.hang_up(seat);
                self.dial(seat, u16::from(script.byte() % 3));
            }
            deed::BYTES => self.send(seat, script.blob()),
            deed::PACKET => {
                let cut = usize::from(script.byte());
                let packet = framed(script.blob());
                let (head, tail) = packet.split_at(cut.min(packet.len()));
                self.send(seat, head);
                self.send(seat, tail);
            }
            deed::REQUEST => {
                self.xid += 1;
                let op = i32::from(script.byte()) - 128;
                let mut packet = RequestHeader { xid: self.xid, op }.to_bytes();
                packet.extend_from_slice(script.blob());
                self.send(seat, &framed(&packet));
            }
            deed::HELLO => {
                let timeout = i32::from(script.byte()) * 200;
                self.connect(seat, 0, &[0; 16], timeout);
            }
            deed::RESUME => {
                let (session, password) = self.greeting.clone();
                self.connect(seat, session, &password, 10_000);
            }
            _ => self.hang_up(seat),
        }
    }

    fn connect(&mut self, seat: u8, session: i64, password: &[u8], timeout: i32) {
        self.hang_up(seat);
        self.dial(seat, 0);
        if let Some(conn) = self.open.get(&seat) {
            self.greets.insert(*conn);
        }
        let body = ConnectBody { protocol: 0, last_zxid_seen: 0, timeout, session, password: Some(password) };
        self.send(seat, &framed(&ConnectRequest { body, read_only: Some(false) }.to_bytes()));
    }

    fn dial(&mut self, seat: u8, door: u16) {
        self.conns += 1;
        let conn = ConnId(self.conns);
        self.open.insert(seat, conn);
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 50_000));
        let certificate = (door == 1).then(|| "CN=client".to_owned());
        self.input(SessionInput::Opened { conn, peer: Peer { addr, local: None, door: Door(door), certificate } });
    }

    fn send(&mut self, seat: u8, bytes: &[u8]) {
        if let Some(conn) = self.open.get(&seat) {
            self.input(SessionInput::Bytes { conn: *conn, bytes: Bytes::copy_from_slice(bytes) });
        }
    }

    fn hang_up(&mut self, seat: u8) {
        if let Some(conn) = self.open.remove(&seat) {
            self.paused.remove(&conn);
            self.input(SessionInput::Closed { conn });
        }
    }

    fn fail(&mut self, token: Token, failure: Failure) {
        self.input(SessionInput::Completed { token, result: Err(failure) });
    }

    fn input(&mut self, input: SessionInput) {
        self.work.push_back(Work::Input(input));
        self.deliver();
    }

    fn deliver(&mut self) {
        while let Some(work) = self.work.pop_front() {
            match work {
                Work::Read(token, query) => {
                    let ReadOutcome::Ready(bytes) = self.tree.read(&query) else { panic!("trees answer at once") };
                    self.work.push_back(Work::Input(SessionInput::Completed { token, result: Ok(bytes) }));
                }
                Work::Input(input) => {
                    if let SessionInput::Completed { token, .. } = &input {
                        assert!(self.tokens.remove(token), "a question is answered once");
                    }
                    let mut out = Vec::new();
                    self.service.on(self.now, input, &mut out);
                    self.service.invariants();
                    out.into_iter().for_each(|output| self.carry_out(output));
                }
            }
        }
    }

    fn is_open(&self, conn: ConnId) -> bool {
        self.open.values().any(|open| *open == conn)
    }

    fn carry_out(&mut self, output: SessionOutput) {
        match output {
            SessionOutput::Bytes { conn, bytes } => {
                assert!(self.is_open(conn), "nothing is written to a closed connection");
                self.read_output(conn, &bytes);
            }
            SessionOutput::Propose { token, group, command } => {
                assert!(group == GROUP && self.tokens.insert(token), "a token names one question");
                self.pending.push_back((Some(token), command.join()));
            }
            SessionOutput::Read { token, query, consistency, .. } => {
                assert!(self.tokens.insert(token), "a token names one question");
                match consistency {
                    Consistency::Local => self.work.push_back(Work::Read(token, query)),
                    Consistency::Linearizable => self.linear.push_back((token, query)),
                    Consistency::AtLeast(_) => panic!("not used"),
                }
            }
            SessionOutput::Dial { .. }
            | SessionOutput::Drain { .. }
            | SessionOutput::Stop
            | SessionOutput::Fatal(_) => panic!("nobody asks for this"),
            SessionOutput::Call { .. } => panic!("nothing is asked outside"),
            SessionOutput::Inspect { token, .. } => {
                assert!(self.tokens.insert(token), "a token names one question");
                let result = Ok(GroupFacts { digest: self.tree.digest(), ..GroupFacts::default() }.encode());
                self.work.push_back(Work::Input(SessionInput::Completed { token, result }));
            }
            SessionOutput::Whisper { bytes, .. } => {
                if self.leads {
                    self.duty_on(DutyInput::Whisper { from: NODE, bytes });
                }
            }
            SessionOutput::FileRange { .. } => unreachable!("a tree has no files"),
            SessionOutput::Wake(moment) => drop(self.wakes.insert(moment)),
            SessionOutput::Pause(conn) => assert!(self.is_open(conn) && self.paused.insert(conn), "paused once"),
            SessionOutput::Resume(conn) => assert!(self.paused.remove(&conn), "only what is paused resumes"),
            SessionOutput::Close(conn) => {
                assert!(self.is_open(conn), "closed once");
                self.open.retain(|_, open| *open != conn);
                self.paused.remove(&conn);
            }
        }
    }

    /// Keeps what a greeting says, and looks at replies for the canary.
    fn read_output(&mut self, conn: ConnId, bytes: &Bytes) {
        if self.greets.remove(&conn) {
            let size = bytes.first_chunk().map_or(0, |size| u32::from_be_bytes(*size) as usize);
            let response = bytes.get(4..4 + size).and_then(|body| ConnectResponse::from_bytes(body).ok());
            let body = response.expect("a greeting comes first, and whole").body;
            self.greeting = (body.session, body.password.expect("a password").to_vec());
        } else if bytes.get(16..20) == Some(&ErrorCode::BadVersion.number().to_be_bytes()[..]) {
            crate::canary("a client named a wrong version");
        }
    }

    fn duty_on(&mut self, input: DutyInput<'_>) {
        let mut out = Vec::new();
        self.duty.on(self.now, input, &mut out);
        self.duty_out(out);
    }

    fn duty_out(&mut self, out: Vec<DutyOutput>) {
        for output in out {
            match output {
                DutyOutput::Propose(command) => self.pending.push_back((None, command)),
                DutyOutput::Wake(moment) => drop(self.duty_wakes.insert(moment)),
                // Who is a member is not the tree's affair.
                DutyOutput::Reconfigure { .. } | DutyOutput::Transfer(_) => {}
            }
        }
    }

    fn elect(&mut self, who: u8) {
        self.leads = who == 1;
        let leader = (who > 0).then_some(NodeId(u64::from(who)));
        let mut out = Vec::new();
        let input = if self.leads { DutyInput::Lead(&mut self.tree) } else { DutyInput::Follow };
        self.duty.on(self.now, input, &mut out);
        self.duty_out(out);
        let role = GroupRole { leader, term: Term(1), leads: self.leads, votes: true };
        self.input(SessionInput::Role { group: GROUP, role });
    }

    fn order(&mut self) {
        for (token, bytes) in std::mem::take(&mut self.pending) {
            self.sequence += 1;
            let request = RequestId { origin: NODE, incarnation: Incarnation(1), sequence: self.sequence };
            let time = WallMs(self.now.wall_ms().0);
            let command = Command { index: LogIndex(self.sequence), time, request, bytes };
            self.ordered.push_back((token, command));
        }
    }

    fn apply(&mut self) {
        while let Some((token, command)) = self.ordered.pop_front() {
            let mut effects = Effects::default();
            self.tree.apply(std::slice::from_ref(&command), &mut effects);
            for effect in effects.list {
                match effect {
                    Effect::Reply { bytes, .. } => {
                        if let Some(token) = token {
                            self.work.push_back(Work::Input(SessionInput::Completed { token, result: Ok(bytes) }));
                        }
                    }
                    Effect::Event { topic, bytes } => {
                        if self.leads {
                            self.duty_on(DutyInput::Event { topic: &topic, bytes: &bytes });
                        }
                        self.work.push_back(Work::Input(SessionInput::Event { group: GROUP, topic, bytes }));
                    }
                    Effect::Spawn(_) | Effect::Retire(_) | Effect::Fail(_) | Effect::Call(_) => {
                        panic!("a tree has neither groups nor files of its own")
                    }
                }
            }
        }
        self.deliver();
        self.tree.invariants();
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            self.order();
            self.apply();
            let linear = std::mem::take(&mut self.linear);
            self.work.extend(linear.into_iter().map(|(token, query)| Work::Read(token, query)));
            self.deliver();
            if self.pending.is_empty() && self.ordered.is_empty() && self.linear.is_empty() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn pass(&mut self) {
        self.now.mono = self.now.mono + Nanos::from_millis(100);
        self.now.wall = Interval::around(self.now.wall.earliest + 100_000_000, 0);
        while self.wakes.first().is_some_and(|moment| *moment <= self.now.mono) {
            self.wakes.pop_first();
            self.input(SessionInput::Wake);
        }
        while self.duty_wakes.first().is_some_and(|moment| *moment <= self.now.mono) {
            self.duty_wakes.pop_first();
            let mut out = Vec::new();
            self.duty.on(self.now, DutyInput::Wake(&mut self.tree), &mut out);
            self.duty_out(out);
        }
    }
}
