//! A replica in miniature: nodes with real trees, an order that the test commits when it likes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use verity_clock::{Interval, Now};
use verity_contract::{
    Change, Command, Consistency, Door, Duty, DutyInput, DutyOutput, Effect, Effects, Failure, GroupFacts, GroupRole,
    Members, Peer, Progress, ReadOutcome, RequestId, Service, SessionInput, SessionOutput, StateMachine,
};
use verity_types::{ConnId, GroupId, Incarnation, LogIndex, Mono, Nanos, NodeId, Term, Token, WallMs};

use crate::machine::{Tree, TreeConfig};
use crate::session::{Config, DutyConfig, ZooKeeper, ZooKeeperDuty};

pub(crate) const GROUP: GroupId = GroupId(1);
const START_MS: u64 = 1_700_000_000_000;

enum Work {
    Input(SessionInput),
    Read(Token, Bytes),
}

struct Entry {
    command: Command,
    token: Option<Token>,
    /// The context of a change of members, which this entry then is.
    members: Option<Bytes>,
}

pub(crate) struct Node {
    pub(crate) service: ZooKeeper,
    pub(crate) tree: Tree,
    pub(crate) duty: ZooKeeperDuty,
    work: VecDeque<Work>,
    linear: VecDeque<(Token, Bytes)>,
    applied: usize,
    wakes: BTreeSet<Mono>,
    duty_wakes: BTreeSet<Mono>,
    pub(crate) output: BTreeMap<ConnId, Vec<u8>>,
    pub(crate) closed: BTreeSet<ConnId>,
    pub(crate) paused: BTreeSet<ConnId>,
    next_conn: u64,
}

pub(crate) struct World {
    pub(crate) now: Now,
    pub(crate) nodes: Vec<Node>,
    pub(crate) leader: Option<usize>,
    pending: VecDeque<(usize, Option<Token>, Bytes)>,
    log: Vec<Entry>,
    /// What duties asked of the group.
    pub(crate) wishes: Vec<(Change, BTreeMap<NodeId, String>)>,
    /// Whispers are lost while this is set.
    pub(crate) deaf: bool,
}

impl World {
    pub(crate) fn new(count: usize) -> Self {
        Self::with(count, |_| {}, DutyConfig::default())
    }

    pub(crate) fn with(count: usize, change: impl Fn(&mut Config), duty: DutyConfig) -> Self {
        let nodes = (0..count).map(|at| Node::new(at, &change, duty.clone())).collect();
        let now = Now { mono: Mono(1_000_000_000), wall: Interval::around(START_MS * 1_000_000, 0) };
        let mut world = Self {
            now,
            nodes,
            leader: None,
            pending: VecDeque::new(),
            log: Vec::new(),
            wishes: Vec::new(),
            deaf: false,
        };
        world.elect(Some(0));
        world.settle();
        world
    }

    pub(crate) fn elect(&mut self, leader: Option<usize>) {
        self.leader = leader;
        for at in 0..self.nodes.len() {
            let leads = leader == Some(at);
            let role = GroupRole { leader: leader.map(|at| NodeId(at as u64 + 1)), term: Term(1), leads, votes: true };
            let mut out = Vec::new();
            let node = &mut self.nodes[at];
            let input = if leads { DutyInput::Lead(&mut node.tree) } else { DutyInput::Follow };
            node.duty.on(self.now, input, &mut out);
            self.duty_out(at, out);
            self.input(at, SessionInput::Role { group: GROUP, role });
        }
    }

    fn duty_out(&mut self, at: usize, out: Vec<DutyOutput>) {
        for output in out {
            match output {
                DutyOutput::Propose(command) => self.pending.push_back((usize::MAX, None, command)),
                DutyOutput::Reconfigure { change, addresses } => self.wishes.push((change, addresses)),
                DutyOutput::Transfer(to) => {
                    unreachable!("ZooKeeper's duty keeps its place, and does not give it to {to}")
                }
                DutyOutput::Wake(moment) => drop(self.nodes[at].duty_wakes.insert(moment)),
            }
        }
    }

    pub(crate) fn input(&mut self, at: usize, input: SessionInput) {
        self.nodes[at].work.push_back(Work::Input(input));
        self.deliver(at);
    }

    fn deliver(&mut self, at: usize) {
        while let Some(work) = self.nodes[at].work.pop_front() {
            let node = &mut self.nodes[at];
            match work {
                Work::Read(token, query) => {
                    let ReadOutcome::Ready(bytes) = node.tree.read(&query) else { panic!("trees answer at once") };
                    node.work.push_back(Work::Input(SessionInput::Completed { token, result: Ok(bytes) }));
                }
                Work::Input(input) => {
                    let mut out = Vec::new();
                    node.service.on(self.now, input, &mut out);
                    node.service.invariants();
                    out.into_iter().for_each(|output| self.carry_out(at, output));
                }
            }
        }
    }

    fn carry_out(&mut self, at: usize, output: SessionOutput) {
        let node = &mut self.nodes[at];
        match output {
            SessionOutput::Bytes { conn, bytes } => {
                assert!(!node.closed.contains(&conn), "nothing is written to a closed connection");
                node.output.get_mut(&conn).expect("only known connections").extend_from_slice(&bytes);
            }
            SessionOutput::Propose { token, group, command } => {
                assert_eq!(group, GROUP);
                self.pending.push_back((at, Some(token), command.join()));
            }
            SessionOutput::Read { token, query, consistency, .. } => match consistency {
                Consistency::Local => node.work.push_back(Work::Read(token, query)),
                Consistency::Linearizable => node.linear.push_back((token, query)),
                Consistency::AtLeast(_) => panic!("not used"),
            },
            SessionOutput::Dial { .. }
            | SessionOutput::Drain { .. }
            | SessionOutput::Stop
            | SessionOutput::Fatal(_) => panic!("nobody asks for this"),
            SessionOutput::Call { .. } => panic!("nothing is asked outside"),
            SessionOutput::Inspect { token, .. } => {
                let facts = GroupFacts {
                    members: Members { learners: [NodeId(3)].into(), ..Members::of_voters([NodeId(1), NodeId(2)]) },
                    log_bytes: 1234,
                    snapshot_bytes: 56,
                    digest: node.tree.digest(),
                    progress: [2, 3]
                        .map(|node| Progress { node: NodeId(node), matched: LogIndex(0), active: true })
                        .into(),
                    ..GroupFacts::default()
                };
                let result = Ok(facts.encode());
                node.work.push_back(Work::Input(SessionInput::Completed { token, result }));
            }
            SessionOutput::Whisper { bytes, .. } => {
                if let Some(leader) = self.leader.filter(|_| !self.deaf) {
                    let mut out = Vec::new();
                    let from = NodeId(at as u64 + 1);
                    self.nodes[leader].duty.on(self.now, DutyInput::Whisper { from, bytes }, &mut out);
                    self.duty_out(leader, out);
                }
            }
            SessionOutput::Wake(moment) => drop(node.wakes.insert(moment)),
            SessionOutput::Pause(conn) => assert!(node.paused.insert(conn), "paused once"),
            SessionOutput::Resume(conn) => assert!(node.paused.remove(&conn), "only what is paused resumes"),
            SessionOutput::FileRange { .. } => unreachable!("a tree has no files"),
            SessionOutput::Close(conn) => assert!(node.closed.insert(conn), "closed once"),
        }
    }

    /// The group has the members that a duty asked for.
    pub(crate) fn members(&mut self, change: &Change) {
        self.order();
        let sequence = self.log.len() as u64 + 1;
        let request = RequestId { origin: NodeId(0), incarnation: Incarnation(1), sequence };
        let command = Command { index: LogIndex(sequence), time: WallMs(0), request, bytes: Bytes::new() };
        self.log.push(Entry { command, token: None, members: Some(change.context.clone()) });
        self.answer(Ok(()));
    }

    /// The group cannot have them.
    pub(crate) fn refuse(&mut self, why: &str) {
        self.answer(Err(why.to_owned()));
    }

    fn answer(&mut self, result: Result<(), String>) {
        let leader = self.leader.expect("somebody asked");
        let mut out = Vec::new();
        self.nodes[leader].duty.on(self.now, DutyInput::Reconfigured(result), &mut out);
        self.duty_out(leader, out);
    }

    /// A node hears of no leader, as one that is no member yet.
    pub(crate) fn alone(&mut self, at: usize) {
        self.input(at, SessionInput::Role { group: GROUP, role: GroupRole::default() });
    }

    /// Puts what is proposed into the order; no node has applied it yet.
    pub(crate) fn order(&mut self) {
        for (at, token, bytes) in std::mem::take(&mut self.pending) {
            let sequence = self.log.len() as u64 + 1;
            let origin = NodeId(if at == usize::MAX { 0 } else { at as u64 + 1 });
            let request = RequestId { origin, incarnation: Incarnation(1), sequence };
            let time = WallMs(self.now.wall_ms().0);
            let command = Command { index: LogIndex(sequence), time, request, bytes };
            self.log.push(Entry { command, token, members: None });
        }
    }

    /// The duty has a session closed.
    pub(crate) fn expire(&mut self, session: i64) {
        self.pending.push_back((usize::MAX, None, crate::machine::close_session(session)));
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// A node applies all that is ordered, as one batch.
    pub(crate) fn apply(&mut self, at: usize) {
        let from = self.nodes[at].applied;
        self.nodes[at].applied = self.log.len();
        let mut effects = Effects::default();
        for entry in &self.log[from..] {
            let tree = &mut self.nodes[at].tree;
            match &entry.members {
                None => tree.apply(std::slice::from_ref(&entry.command), &mut effects),
                Some(text) => tree.on_members(entry.command.index, &Members::default(), text, &mut effects),
            }
        }
        for effect in effects.list {
            match effect {
                Effect::Reply { request, bytes } => {
                    let entry = &self.log[usize::try_from(request.sequence).unwrap() - 1];
                    if let Some(token) = entry.token.filter(|_| request.origin == NodeId(at as u64 + 1)) {
                        let input = SessionInput::Completed { token, result: Ok(bytes) };
                        self.nodes[at].work.push_back(Work::Input(input));
                    }
                }
                Effect::Event { topic, bytes } => {
                    if self.leader == Some(at) {
                        let mut out = Vec::new();
                        let input = DutyInput::Event { topic: &topic, bytes: &bytes };
                        self.nodes[at].duty.on(self.now, input, &mut out);
                        self.duty_out(at, out);
                    }
                    self.nodes[at].work.push_back(Work::Input(SessionInput::Event { group: GROUP, topic, bytes }));
                }
                Effect::Spawn(_) | Effect::Retire(_) | Effect::Fail(_) | Effect::Call(_) => {
                    panic!("a tree has neither groups nor files of its own")
                }
            }
        }
        self.deliver(at);
    }

    /// Answers the linearizable reads of a node, which must have applied everything.
    pub(crate) fn linear(&mut self, at: usize) {
        assert_eq!(self.nodes[at].applied, self.log.len());
        for (token, query) in std::mem::take(&mut self.nodes[at].linear) {
            self.nodes[at].work.push_back(Work::Read(token, query));
        }
        self.deliver(at);
    }

    pub(crate) fn linear_waiting(&self, at: usize) -> usize {
        self.nodes[at].linear.len()
    }

    /// One linearizable read of a node is answered, by its place among them.
    pub(crate) fn linear_one(&mut self, at: usize, place: usize, result: Option<Failure>) {
        let (token, query) = self.nodes[at].linear.remove(place).unwrap();
        match result {
            None => self.nodes[at].work.push_back(Work::Read(token, query)),
            Some(failure) => {
                let input = SessionInput::Completed { token, result: Err(failure) };
                self.nodes[at].work.push_back(Work::Input(input));
            }
        }
        self.deliver(at);
    }

    /// The oldest proposal is given up.
    pub(crate) fn lose(&mut self) {
        let (at, token, _) = self.pending.pop_front().unwrap();
        let input = SessionInput::Completed { token: token.unwrap(), result: Err(Failure::Unavailable) };
        self.input(at, input);
    }

    /// Everything that can be answered is.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.order();
            for at in 0..self.nodes.len() {
                self.apply(at);
                self.linear(at);
            }
            if self.pending.is_empty() && self.nodes.iter().all(|node| node.linear.is_empty()) {
                let digests: BTreeSet<_> = self.nodes.iter().map(|node| node.tree.digest().0).collect();
                assert_eq!(digests.len(), 1, "replicas agree");
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// Time passes, in steps, with all wakes that fall due. What is proposed is committed if there is a leader.
    pub(crate) fn advance(&mut self, millis: u64) {
        let mut left = millis;
        while left > 0 {
            let step = left.min(100);
            left -= step;
            self.now.mono = self.now.mono + Nanos::from_millis(step);
            let wall = self.now.wall.earliest + step * 1_000_000;
            self.now.wall = Interval::around(wall, 0);
            for at in 0..self.nodes.len() {
                while self.nodes[at].wakes.first().is_some_and(|moment| *moment <= self.now.mono) {
                    self.nodes[at].wakes.pop_first();
                    self.input(at, SessionInput::Wake);
                }
                while self.nodes[at].duty_wakes.first().is_some_and(|moment| *moment <= self.now.mono) {
                    let node = &mut self.nodes[at];
                    node.duty_wakes.pop_first();
                    let mut out = Vec::new();
                    node.duty.on(self.now, DutyInput::Wake(&mut node.tree), &mut out);
                    self.duty_out(at, out);
                }
            }
            if self.leader.is_some() {
                self.settle();
            }
        }
    }

    /// A node's state jumps to another's, by snapshot.
    pub(crate) fn restore(&mut self, at: usize, from: usize) {
        let mut chunks = Vec::new();
        self.nodes[from].tree.snapshot_begin();
        while let Some(chunk) = self.nodes[from].tree.snapshot_next(1 << 16) {
            chunks.push(Ok(chunk));
        }
        self.nodes[at].tree.restore(&mut chunks.into_iter()).unwrap();
        self.nodes[at].applied = self.nodes[from].applied;
        self.input(at, SessionInput::Restored { group: GROUP });
    }

    pub(crate) fn open(&mut self, at: usize, peer: Peer) -> ConnId {
        let node = &mut self.nodes[at];
        node.next_conn += 1;
        let conn = ConnId(node.next_conn);
        node.output.insert(conn, Vec::new());
        self.input(at, SessionInput::Opened { conn, peer });
        conn
    }
}

impl Node {
    fn new(at: usize, change: &impl Fn(&mut Config), duty: DutyConfig) -> Self {
        let mut config = Config::new(NodeId(at as u64 + 1), Incarnation(1), GROUP, [at as u8 + 7; 32]);
        change(&mut config);
        Self {
            service: ZooKeeper::new(config),
            tree: Tree::new(TreeConfig::default()),
            duty: ZooKeeperDuty::new(duty),
            work: VecDeque::new(),
            linear: VecDeque::new(),
            applied: 0,
            wakes: BTreeSet::new(),
            duty_wakes: BTreeSet::new(),
            output: BTreeMap::new(),
            closed: BTreeSet::new(),
            paused: BTreeSet::new(),
            next_conn: 0,
        }
    }
}

pub(crate) fn peer(door: u16) -> Peer {
    Peer { addr: "127.0.0.1:50000".parse().unwrap(), local: None, door: Door(door), certificate: None }
}
