//! A world in which some replicas lie: what the honest ones must keep all the same.
//!
//! - **order**: at each index all honest replicas execute the same, at the same stamp, which never goes back and is never
//!   far ahead of true time;
//! - **origin**: whatever an honest client is said to have asked for, it asked for, and it is executed once;
//! - **barriers**: one reads no less than what was executed anywhere for its client when it was asked for;
//! - **members**: they are those that the operator asked for last or some time before, at the same place for all, and never what
//!   a liar wishes for; once the faults are over, what the operator asks for comes true;
//! - **state**: honest replicas agree on digests at checkpoints (the engines compare them themselves);
//! - **blame**: evidence names liars alone;
//! - **memory**: nobody holds anything further ahead of what is executed than a window;
//! - **liveness**: once the faults are over, everything that an honest client asked for is executed by every honest replica
//!   that is a member.
//!
//! In a world with an operator ([`World::with_operator`]) members come and go, and no more lie than may at any time.
//!
//! Faults come by chance, and some where they hurt most ([`Trouble::ambushes`]): just when one replica alone has executed
//! something, or a primary has assigned something, the power fails everywhere, or everything on its way is lost and that
//! replica is cut off until the others have changed the view.
//!
//! Operations are texts behind their length, `client:number`, so that several can stand in one entry.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use bytes::{Buf, Bytes};
use verity_contract::{
    Agreement, BarrierId, Boot, Change, CommittedKind, Input, Members, Output, PersistId, Record, SnapshotMeta, Verdict,
};
use verity_types::{Digest, Incarnation, LogIndex, Mono, NodeId, Term, WallMs};

use crate::Rng;

const MS: u64 = 1_000_000;
/// What an operator's changes carry.
const WISHED: &[u8] = b"wished";
const BEGIN: u64 = 1_000 * MS;
/// What true time is in milliseconds when the world begins.
const WALL: u64 = 1_800_000_000_000;
/// A stamp is never further ahead of true time.
const STAMP_AHEAD_MS: u64 = 2_100;

/// So many ambushes in one run, so that it comes to its end.
const AMBUSHES_MAX: u64 = 8;

/// Behind the heal nothing more is asked for while so many operations wait.
const WAITING_MAX: usize = 8;

/// Starts a replica; the world does not know which of them lie.
pub type Start = Box<dyn Fn(Boot, Mono) -> Box<dyn Agreement>>;
/// Says whom evidence names, if it proves anything.
pub type Judge = fn(&Bytes) -> Option<NodeId>;

/// What goes wrong. Percentages are of messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    /// Messages that vanish.
    pub drop: u64,
    /// Messages that arrive twice.
    pub double: u64,
    /// Messages that take up to 300 ms.
    pub late: u64,
    /// Honest replicas crash, and links between them are cut, now and then.
    pub crashes: bool,
    /// In so many percent of the moments at which it would hurt, the network or the power fails.
    pub ambushes: u64,
    /// Snapshots are saved at so many percent of checkpoints.
    pub snapshots: u64,
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations of honest clients that were executed.
    pub executed: u64,
    /// Barriers answered.
    pub reads: u64,
    /// Crashes of honest replicas.
    pub crashes: u64,
    /// Ambushes.
    pub ambushes: u64,
    /// Messages that did not arrive.
    pub lost: u64,
    /// Messages that arrived twice, or late.
    pub odd: u64,
    /// Changes of view that honest replicas saw.
    pub views: u64,
    /// Snapshots installed.
    pub installs: u64,
    /// States that a liar sent in place of the proven one, and that were found out.
    pub refused: u64,
    /// Proofs that somebody lied.
    pub evidence: u64,
    /// Changes of members.
    pub epochs: u64,
}

/// Two honest replicas that executed different things at one index: safety is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// Where.
    pub index: u64,
    /// The replica that was first.
    pub first: NodeId,
    /// The replica that executed something else.
    pub second: NodeId,
}

impl Tally {
    /// Faults of the network and of the power that took effect.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.crashes + self.ambushes + self.lost + self.odd
    }

    /// Adds what happened in another run.
    pub fn add(&mut self, other: &Self) {
        self.executed += other.executed;
        self.reads += other.reads;
        self.crashes += other.crashes;
        self.ambushes += other.ambushes;
        self.lost += other.lost;
        self.odd += other.odd;
        self.views += other.views;
        self.installs += other.installs;
        self.refused += other.refused;
        self.evidence += other.evidence;
        self.epochs += other.epochs;
    }

    /// True if everything that can happen did.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let all = [self.executed, self.reads, self.crashes, self.ambushes, self.lost, self.odd];
        let more = [self.views, self.installs, self.evidence];
        all.iter().chain(&more).all(|count| *count > 0)
    }
}

enum Event {
    Tick,
    Message { from: NodeId, bytes: Bytes },
    Synced(PersistId),
    Arrives { from: NodeId, snapshot: (SnapshotMeta, Vec<Bytes>), message: Bytes },
    Sent { to: NodeId },
    Boot,
}

#[derive(Default)]
struct Node {
    engine: Option<Box<dyn Agreement>>,
    life: u64,
    records: Vec<Record>,
    unsynced: Vec<(PersistId, Vec<Record>)>,
    stable: u64,
    waiting: Vec<(PersistId, NodeId, Bytes)>,
    snapshot: Option<(SnapshotMeta, Vec<Bytes>)>,
    /// The operations in order.
    machine: Vec<Bytes>,
    wants_snapshot: bool,
    /// What a peer sent and nothing proved yet.
    trial: Option<(SnapshotMeta, Vec<Bytes>)>,
    /// The same, once the engine has taken it.
    taken: Option<(SnapshotMeta, Vec<Bytes>)>,
    /// As of what is applied.
    members: Members,
    applied: u64,
    term: Term,
    stamp: u64,
    /// What this node's clients were told is executed.
    asked: BTreeSet<Bytes>,
}

impl Node {
    /// What a snapshot holds is executed, though nobody is told.
    fn forget_done(&mut self) {
        let done: BTreeSet<&Bytes> = self.machine.iter().collect();
        self.asked.retain(|op| !done.contains(op));
    }
}

/// N replicas, some of which lie.
pub struct World {
    rng: Rng,
    trouble: Trouble,
    start: Start,
    judge: Judge,
    liars: BTreeSet<NodeId>,
    /// Those that the group began with, and those of the last change that anybody honest executed.
    founders: Members,
    members: Members,
    /// Where each change stands, and whom it made members.
    changes: BTreeMap<u64, Members>,
    /// What the operator asked for, the latest last; empty without one.
    wishes: Vec<Members>,
    operates: bool,
    nodes: BTreeMap<NodeId, Node>,
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Until when nothing gets through here, not even what is on its way.
    dark: BTreeMap<(NodeId, NodeId), u64>,
    /// How far ahead of what is executed anything may be held.
    window: u64,
    /// What each honest replica was sent, if somebody wants to know.
    heard: Option<BTreeMap<NodeId, Vec<(NodeId, Bytes)>>>,
    /// Forks are looked for, and no law.
    fork: Option<Fork>,
    seeks_fork: bool,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, (NodeId, u64, Event)>,
    now: u64,
    seq: u64,
    order: BTreeMap<u64, (Bytes, Option<WallMs>, NodeId)>,
    /// Where each operation of an honest client was executed.
    placed: BTreeMap<Bytes, u64>,
    proposed: BTreeMap<NodeId, u64>,
    barriers: BTreeMap<BarrierId, u64>,
    asked_barriers: u64,
    told: u64,
    /// What happened.
    pub tally: Tally,
}

fn operation(client: NodeId, number: u64) -> Bytes {
    let text = format!("{client}:{number}");
    Bytes::from([&[u8::try_from(text.len()).expect("a short text")], text.as_bytes()].concat())
}

/// Takes the operations of an entry apart.
fn split(mut payload: Bytes) -> Vec<Bytes> {
    let mut list = Vec::new();
    while payload.has_remaining() {
        let length = usize::from(payload[0]) + 1;
        assert!(length <= payload.len(), "an entry consists of whole operations");
        list.push(payload.split_to(length));
    }
    list
}

fn digest(machine: &[Bytes]) -> Digest {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in machine.iter().flatten() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let mut digest = Digest::default();
    digest.0[..8].copy_from_slice(&hash.to_be_bytes());
    digest
}

impl World {
    /// Replicas 1 to `count`, of which `liars` lie.
    #[must_use]
    pub fn new(seed: u64, count: u64, liars: BTreeSet<NodeId>, trouble: Trouble, start: Start, judge: Judge) -> Self {
        let members = Members::of_voters((1..=count).map(NodeId));
        let mut world = Self {
            rng: Rng::new(seed),
            trouble,
            start,
            judge,
            liars,
            nodes: (1..=count).map(|id| (NodeId(id), Node::default())).collect(),
            founders: members.clone(),
            members,
            changes: BTreeMap::new(),
            wishes: Vec::new(),
            operates: false,
            cut: BTreeSet::new(),
            dark: BTreeMap::new(),
            window: u64::MAX,
            heard: None,
            fork: None,
            seeks_fork: false,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            now: BEGIN,
            seq: 0,
            order: BTreeMap::new(),
            placed: BTreeMap::new(),
            proposed: BTreeMap::new(),
            barriers: BTreeMap::new(),
            asked_barriers: 0,
            told: 0,
            tally: Tally::default(),
        };
        (1..=count).for_each(|id| world.boot(NodeId(id)));
        world
    }

    /// From now on the law of memory holds, with the engines' window.
    #[must_use]
    pub fn with_window(mut self, window: u64) -> Self {
        self.window = window;
        self
    }

    /// From now on what honest replicas are sent is kept for [`World::heard`].
    #[must_use]
    pub fn with_witnesses(mut self) -> Self {
        self.heard = Some(BTreeMap::new());
        self
    }

    /// From now on an operator changes the members, who are some of these many.
    #[must_use]
    pub fn with_operator(mut self, nodes: u64) -> Self {
        self.operates = true;
        for id in (1..=nodes).map(NodeId) {
            let known = self.nodes.contains_key(&id);
            self.nodes.entry(id).or_default();
            if !known {
                self.boot(id);
            }
        }
        self
    }

    /// Every honest client asks for the next thing as soon as it has the last one, for so many windows of `span_ms`
    /// milliseconds; how many things were executed in each.
    pub fn play_in_step(&mut self, span_ms: u64, windows: usize) -> Vec<u64> {
        let mut list = Vec::with_capacity(windows);
        for _ in 0..windows {
            let (end, before) = (self.now + span_ms * MS, self.tally.executed);
            while self.now < end {
                for id in self.honest() {
                    if self.nodes[&id].asked.is_empty() {
                        self.ask(id);
                    }
                }
                self.run(self.now + MS);
                self.now += MS;
            }
            list.push(self.tally.executed - before);
        }
        list
    }

    fn ask(&mut self, id: NodeId) {
        let number = self.proposed.entry(id).or_default();
        *number += 1;
        let op = operation(id, *number);
        self.nodes.get_mut(&id).expect("a node of this world").asked.insert(op.clone());
        self.input(id, Input::Propose(op));
    }

    /// True for a replica that lies.
    #[must_use]
    pub fn lies(&self, node: NodeId) -> bool {
        self.liars.contains(&node)
    }

    /// Everything that an honest replica was sent, by whom.
    #[must_use]
    pub fn heard(&self, node: NodeId) -> &[(NodeId, Bytes)] {
        self.heard.as_ref().and_then(|heard| heard.get(&node)).map_or(&[], Vec::as_slice)
    }

    /// Clients ask until two honest replicas execute different things at one index: with more liars than may lie, no law
    /// holds. None if that does not come to pass.
    pub fn play_until_fork(&mut self, operations: u64) -> Option<Fork> {
        self.seeks_fork = true;
        for _ in 0..operations {
            self.propose();
            let until = self.now + 40 * MS;
            while self.fork.is_none() && self.now < until && self.step() {}
            if self.fork.is_some() {
                return self.fork;
            }
        }
        None
    }

    fn honest(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().filter(|id| !self.liars.contains(id)).collect()
    }

    fn boot(&mut self, id: NodeId) {
        let seed = self.rng.bits();
        let (now, members) = (self.now, self.founders.clone());
        let node = self.nodes.get_mut(&id).expect("a node of this world");
        node.life += 1;
        let known = node.snapshot.as_ref().map(|(meta, _)| meta.members.clone());
        node.members = known.unwrap_or_else(|| members.clone());
        let boot = Boot {
            id,
            members,
            snapshot: node.snapshot.as_ref().map(|(meta, _)| meta.clone()),
            records: node.records.clone(),
            incarnation: Incarnation(node.life),
            seed,
            ..Boot::default()
        };
        node.machine = node.snapshot.as_ref().map(|(_, machine)| machine.clone()).unwrap_or_default();
        node.applied = node.snapshot.as_ref().map_or(0, |(meta, _)| meta.index.0);
        node.term = node.snapshot.as_ref().map_or(Term(0), |(meta, _)| meta.term);
        (node.stamp, node.stable) = (0, 0);
        node.forget_done();
        node.engine = Some((self.start)(boot, Mono(now)));
        self.at(id, 0, Event::Tick);
    }

    fn crash(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a node of this world");
        node.engine = None;
        (node.trial, node.taken) = (None, None);
        node.unsynced.clear();
        node.waiting.clear();
        // What it was asked for and nobody executed may be lost with it.
        let placed = &self.placed;
        node.asked.retain(|op| placed.contains_key(op));
        self.tally.crashes += 1;
    }

    fn at(&mut self, id: NodeId, wait: u64, event: Event) {
        self.seq += 1;
        self.queue.push(Reverse((self.now + wait, self.seq)));
        self.events.insert(self.seq, (id, self.nodes[&id].life, event));
    }

    fn step(&mut self) -> bool {
        let Some(Reverse((at, seq))) = self.queue.pop() else { return false };
        self.now = self.now.max(at);
        let (id, life, event) = self.events.remove(&seq).expect("an event of this world");
        if matches!(event, Event::Boot) && self.nodes[&id].engine.is_none() {
            self.boot(id);
            return true;
        }
        if self.nodes[&id].life != life || self.nodes[&id].engine.is_none() {
            return true;
        }
        match event {
            Event::Tick => {
                let interval = self.nodes[&id].engine.as_ref().expect("seen above").tick_interval();
                self.at(id, interval.0, Event::Tick);
                let wall = WallMs(WALL + (self.now - BEGIN) / MS);
                let now = Mono(self.now);
                let node = self.nodes.get_mut(&id).expect("a node of this world");
                node.engine.as_mut().expect("seen above").set_wall(now, wall);
                self.input(id, Input::Tick);
                self.look_at_memory(id);
            }
            Event::Message { from, .. } if self.is_dark(from, id) => self.tally.lost += 1,
            Event::Message { from, bytes } => {
                if let Some(heard) = self.heard.as_mut().filter(|_| !self.liars.contains(&id)) {
                    heard.entry(id).or_default().push((from, bytes.clone()));
                }
                self.input(id, Input::Message { from, bytes });
            }
            Event::Boot => {}
            Event::Synced(persist) => self.synced(id, persist),
            Event::Arrives { from, snapshot, message } => {
                self.nodes.get_mut(&id).expect("a node of this world").trial = Some(snapshot);
                self.input(id, Input::Message { from, bytes: message });
            }
            Event::Sent { to } => self.input(id, Input::SnapshotSent { to, delivered: true }),
        }
        true
    }

    fn synced(&mut self, id: NodeId, persist: PersistId) {
        let node = self.nodes.get_mut(&id).expect("a node of this world");
        for (_, records) in node.unsynced.extract_if(.., |(of, _)| *of <= persist) {
            node.records.extend(records);
        }
        node.stable = node.stable.max(persist.0);
        let due: Vec<_> = node.waiting.extract_if(.., |(after, ..)| *after <= persist).collect();
        due.into_iter().for_each(|(_, to, bytes)| self.post(id, to, bytes));
        self.input(id, Input::Persisted(persist));
    }

    fn input(&mut self, id: NodeId, input: Input) {
        let now = Mono(self.now);
        self.with(id, |engine, out| engine.on(now, input, out));
    }

    fn with(&mut self, id: NodeId, step: impl FnOnce(&mut dyn Agreement, &mut Vec<Output>)) {
        let Some(engine) = self.nodes.get_mut(&id).and_then(|node| node.engine.as_mut()) else { return };
        let mut out = Vec::new();
        step(engine.as_mut(), &mut out);
        engine.invariants();
        out.into_iter().for_each(|output| self.output(id, output));
        self.look_for_assignments(id);
    }

    fn post(&mut self, from: NodeId, to: NodeId, bytes: Bytes) {
        let lost = self.cut.contains(&(from, to)) || self.is_dark(from, to) || self.rng.chance(self.trouble.drop);
        if lost || !self.nodes.contains_key(&to) {
            self.tally.lost += u64::from(lost);
            return;
        }
        let times = if self.rng.chance(self.trouble.double) { 2 } else { 1 };
        for _ in 0..times {
            let late = self.rng.chance(self.trouble.late);
            self.tally.odd += u64::from(late || times > 1);
            let wait = MS / 10 + self.rng.below(if late { 300 * MS } else { 3 * MS });
            self.at(to, wait, Event::Message { from, bytes: bytes.clone() });
        }
    }

    fn output(&mut self, id: NodeId, output: Output) {
        if self.nodes[&id].engine.is_none() {
            // It crashed in the middle of what followed from its last step.
            return;
        }
        match output {
            Output::Persist { id: persist, records } => {
                let node = self.nodes.get_mut(&id).expect("a node of this world");
                node.unsynced.push((persist, records));
                let wait = MS / 10 + self.rng.below(3 * MS);
                self.at(id, wait, Event::Synced(persist));
            }
            Output::Send { to, bytes, after, .. } => match after {
                Some(after) if after.0 > self.nodes[&id].stable => {
                    self.nodes.get_mut(&id).expect("a node of this world").waiting.push((after, to, bytes));
                }
                _ => self.post(id, to, bytes),
            },
            Output::Commit(list) => list.into_iter().for_each(|entry| {
                let index = entry.index.0;
                let node = self.nodes.get_mut(&id).expect("a node of this world");
                assert_eq!(index, node.applied + 1, "commits come without gaps");
                let alone = !self.order.contains_key(&index);
                (node.applied, node.term) = (index, entry.term);
                let operations = match &entry.kind {
                    CommittedKind::Normal => split(entry.payload.clone()),
                    CommittedKind::Noop => Vec::new(),
                    CommittedKind::Members(members) => {
                        node.members = members.clone();
                        vec![entry.payload.clone()]
                    }
                };
                node.machine.extend(operations.iter().cloned());
                if !self.liars.contains(&id) {
                    let (operations, changed) = match entry.kind {
                        CommittedKind::Members(members) => (Vec::new(), Some(members)),
                        _ => (operations, None),
                    };
                    self.judge_members(id, index, changed, &entry.payload);
                    self.judge_entry(id, index, entry.payload, entry.time, &operations);
                    if alone {
                        self.maybe_ambush(id);
                    }
                }
            }),
            Output::Judge { index, .. } => self.input(id, Input::Verdict { index, verdict: Verdict::Accept }),
            Output::Checkpoint { index } => self.checkpoint(id, index),
            Output::InstallSnapshot(meta) => {
                let node = self.nodes.get_mut(&id).expect("a node of this world");
                let (held, machine) = node.trial.take().expect("the driver has what it said it has");
                node.taken = Some((held.clone(), machine.clone()));
                assert_eq!(held.index, meta.index);
                // Whose state was a lie may have to take an older one, and executes again what is behind it.
                if meta.index.0 < node.applied {
                    node.stamp = 0;
                }
                (node.machine, node.applied, node.term) = (machine, meta.index.0, meta.term);
                node.members = meta.members;
                node.forget_done();
                self.tally.installs += 1;
            }
            Output::OfferSnapshot { to, meta, message } => self.offer(id, to, meta, message),
            Output::WantSnapshot => self.nodes.get_mut(&id).expect("a node of this world").wants_snapshot = true,
            Output::ReadReady { id: barrier, index } => {
                let least = self.barriers.remove(&barrier).expect("a barrier is answered once");
                assert!(index.0 >= least, "a barrier asked for behind {least} reads at {index}");
                self.tally.reads += 1;
            }
            Output::ReadFailed(barrier) => drop(self.barriers.remove(&barrier)),
            Output::Refused(op) => {
                let node = self.nodes.get_mut(&id).expect("a node of this world");
                node.asked.remove(&op);
            }
            Output::StateRefused { index } => {
                let node = self.nodes.get_mut(&id).expect("a node of this world");
                node.taken.take_if(|(held, _)| held.index == index);
                self.tally.refused += 1;
            }
            Output::Role { .. } if !self.liars.contains(&id) => self.tally.views += 1,
            Output::Evidence(bytes) if !self.liars.contains(&id) => {
                let culprit = (self.judge)(&bytes).expect("evidence proves something");
                assert!(self.liars.contains(&culprit), "{culprit} is honest, and {id} has evidence against it");
                self.tally.evidence += 1;
            }
            _ => {}
        }
    }

    /// Members change where they do for all, and to what the operator asked for.
    fn judge_members(&mut self, id: NodeId, index: u64, changed: Option<Members>, context: &Bytes) {
        let known = self.order.contains_key(&index);
        let Some(members) = changed else {
            assert!(!known || !self.changes.contains_key(&index), "node {id} executes no change at {index}");
            return;
        };
        let held = self.changes.entry(index).or_insert_with(|| members.clone());
        assert_eq!(*held, members, "node {id} has other members behind {index}");
        assert_eq!(*context, WISHED, "a change at {index} that nobody honest asked for");
        assert!(self.wishes.contains(&members), "members at {index} that the operator did not ask for: {members:?}");
        if !known {
            self.members = members;
            self.tally.epochs += 1;
        }
    }

    fn judge_entry(&mut self, id: NodeId, index: u64, payload: Bytes, time: Option<WallMs>, operations: &[Bytes]) {
        let held = self.order.entry(index).or_insert_with(|| (payload.clone(), time, id));
        let (first, same) = (held.2, (&held.0, held.1) == (&payload, time));
        if self.seeks_fork {
            self.fork = self.fork.or((!same).then_some(Fork { index, first, second: id }));
            return;
        }
        assert!(same, "node {id} executes something else than {first} at {index}");
        if let Some(time) = time {
            let wall = WALL + (self.now - BEGIN) / MS;
            assert!(time.0 <= wall + STAMP_AHEAD_MS, "index {index} is stamped {} ms ahead", time.0 - wall);
            let node = self.nodes.get_mut(&id).expect("a node of this world");
            assert!(time.0 >= node.stamp, "time goes back at {index}");
            node.stamp = time.0;
        }
        for op in operations {
            let text = String::from_utf8_lossy(&op[1..]).into_owned();
            let Some((client, number)) = text.split_once(':') else { panic!("{text:?} is no operation") };
            let client = NodeId(client.parse().unwrap_or(0));
            if self.liars.contains(&client) || client == NodeId(0) {
                assert!(!text.starts_with("forged"), "a forged request is executed at {index}");
                continue;
            }
            let number: u64 = number.parse().expect("an honest client's number");
            let asked = self.proposed.get(&client).copied().unwrap_or(0);
            assert!(number <= asked, "{text} was never asked for");
            let at = *self.placed.entry(op.clone()).or_insert(index);
            assert_eq!(at, index, "{text} is executed twice");
            if client == id {
                self.nodes.get_mut(&id).expect("a node of this world").asked.remove(op);
                self.told = self.told.max(index);
            }
        }
        self.tally.executed = self.placed.len() as u64;
    }

    fn checkpoint(&mut self, id: NodeId, index: LogIndex) {
        let node = &self.nodes[&id];
        assert_eq!(node.applied, index.0, "a checkpoint is of what was just applied");
        let digest = digest(&node.machine);
        self.input(id, Input::Checkpointed { index, digest });
        // A snapshot that a peer sent is kept once it is proven.
        let node = self.nodes.get_mut(&id).expect("a node of this world");
        if let Some(proven) = node.taken.take_if(|(held, _)| held.index == index) {
            let meta = proven.0.clone();
            node.snapshot = Some(proven);
            self.input(id, Input::SnapshotSaved { meta, compact_to: index });
        }
        let node = &self.nodes[&id];
        let chance = if node.wants_snapshot { 100 } else { self.trouble.snapshots };
        let context = node.engine.as_ref().and_then(|engine| engine.snapshot_context(index));
        let fresh = node.snapshot.as_ref().is_none_or(|(held, _)| held.index < index);
        if let Some(context) = context.filter(|_| fresh && node.applied == index.0)
            && self.rng.chance(chance)
        {
            let node = self.nodes.get_mut(&id).expect("a node of this world");
            let meta = SnapshotMeta { index, term: node.term, members: node.members.clone(), context };
            node.snapshot = Some((meta.clone(), node.machine.clone()));
            node.wants_snapshot = false;
            self.input(id, Input::SnapshotSaved { meta, compact_to: index });
            let node = self.nodes.get_mut(&id).expect("a node of this world");
            // The engine says from where on it needs its log.
            let first = node.engine.as_ref().map_or(LogIndex(0), |engine| engine.status().first);
            node.records.retain(|record| record.index.0 == 0 || record.index >= first);
        }
    }

    fn offer(&mut self, id: NodeId, to: NodeId, meta: SnapshotMeta, message: Bytes) {
        let snapshot = self.nodes[&id].snapshot.clone().filter(|(held, _)| held.index == meta.index);
        let Some(mut snapshot) = snapshot else { return };
        if self.liars.contains(&id) && self.rng.chance(50) {
            snapshot.1.push(Bytes::from_static(b"a state that nobody came to"));
        }
        let wait = MS + self.rng.below(30 * MS);
        self.at(to, wait, Event::Arrives { from: id, snapshot, message });
        self.at(id, wait + MS, Event::Sent { to });
    }

    /// An honest client asks for something.
    fn propose(&mut self) {
        let honest: Vec<NodeId> = self.honest().into_iter().filter(|id| self.members.contains(*id)).collect();
        let id = honest[usize::try_from(self.rng.below(honest.len() as u64)).expect("a small number")];
        if self.nodes[&id].engine.is_none() {
            return;
        }
        self.ask(id);
        if self.rng.chance(10) {
            self.asked_barriers += 1;
            let barrier = BarrierId(self.asked_barriers);
            let (now, least) = (Mono(self.now), self.told);
            self.barriers.insert(barrier, least);
            self.with(id, |engine, out| engine.barrier().expect("it reads").on_barrier(now, barrier, out));
        }
        for liar in self.liars.clone() {
            if self.rng.chance(20) {
                let op = operation(liar, self.seq);
                self.input(liar, Input::Propose(op));
            }
        }
    }

    /// Nobody makes this node hold more than it must.
    fn look_at_memory(&self, id: NodeId) {
        let engine = self.nodes[&id].engine.as_ref().filter(|_| !self.liars.contains(&id) && self.window < u64::MAX);
        let Some(status) = engine.map(|engine| engine.status()) else { return };
        let most = self.order.last_key_value().map_or(0, |(index, _)| *index) + self.window;
        assert!(status.last.0 <= most, "node {id} holds something at {}, though {most} is the most", status.last);
    }

    fn is_dark(&self, from: NodeId, to: NodeId) -> bool {
        self.dark.get(&(from, to)).is_some_and(|until| self.now < *until)
    }

    fn darken(&mut self, from: NodeId, to: NodeId, until: u64) {
        let held = self.dark.entry((from, to)).or_default();
        *held = until.max(*held);
    }

    /// A primary with something under way is a moment that hurts.
    fn look_for_assignments(&mut self, id: NodeId) {
        if self.trouble.ambushes == 0 || self.liars.contains(&id) || !self.rng.chance(1) {
            return;
        }
        let status = self.nodes[&id].engine.as_ref().map(|engine| engine.status()).unwrap_or_default();
        if status.leads && status.last > status.committed {
            self.maybe_ambush(id);
        }
    }

    fn maybe_ambush(&mut self, id: NodeId) {
        let rests = self.dark.values().all(|until| *until < self.now);
        if rests && self.tally.ambushes < AMBUSHES_MAX && self.rng.chance(self.trouble.ambushes) {
            self.tally.ambushes += 1;
            self.ambush(id);
        }
    }

    /// `one` alone knows something.
    fn ambush(&mut self, one: NodeId) {
        let all: Vec<NodeId> = self.nodes.keys().copied().collect();
        let now = self.now;
        if self.rng.chance(40) {
            // The power fails; whoever has it back first does not wait for the others.
            for id in self.honest() {
                if self.rng.chance(80) && self.nodes[&id].engine.is_some() {
                    self.crash(id);
                    let wait = 20 * MS + self.rng.below(400 * MS);
                    self.at(id, wait, Event::Boot);
                }
            }
            return;
        }
        let dark = now + 400 * MS + self.rng.below(600 * MS);
        let alone = dark + 500 * MS + self.rng.below(2_000 * MS);
        // Sometimes the others hear of it first, but for one.
        let some = self.rng.chance(30).then(|| all[usize::try_from(self.rng.below(all.len() as u64)).expect("few")]);
        for from in &all {
            for to in all.iter().filter(|to| *to != from) {
                let touches = |id: NodeId| *from == id || *to == id;
                match some {
                    Some(other) if !touches(other) && !touches(one) => {}
                    _ => self.darken(*from, *to, dark),
                }
                if touches(one) {
                    self.darken(*from, *to, alone);
                }
            }
        }
    }

    fn break_something(&mut self) {
        let honest = self.honest();
        let pick = |rng: &mut Rng| honest[usize::try_from(rng.below(honest.len() as u64)).expect("a small number")];
        let (one, other) = (pick(&mut self.rng), pick(&mut self.rng));
        match self.rng.below(4) {
            0 if self.nodes[&one].engine.is_some() => self.crash(one),
            1 => drop(self.cut.insert((one, other))),
            2 => self.cut.clear(),
            _ => self.restart_all(),
        }
    }

    fn restart_all(&mut self) {
        let down: Vec<NodeId> =
            self.nodes.iter().filter(|(_, node)| node.engine.is_none()).map(|(id, _)| *id).collect();
        down.into_iter().for_each(|id| self.boot(id));
    }

    fn run(&mut self, until: u64) {
        while self.now < until && self.step() {}
    }

    /// True if every honest replica has executed all that honest clients asked for.
    fn is_done(&self) -> bool {
        let last = self.order.last_key_value().map_or(0, |(index, _)| *index);
        let done = |id: &NodeId| self.nodes[id].applied >= last && self.nodes[id].asked.is_empty();
        let settled = self.wishes.last().is_none_or(|wish| *wish == self.members);
        settled && self.honest().iter().filter(|id| self.members.contains(**id)).all(done)
    }

    /// The operator's next wish, with no more liars than may lie, or the last one again: to each of the members, as long as
    /// it is not fulfilled.
    fn operate(&mut self, wishes: bool) {
        let idle = self.wishes.last().is_none_or(|wish| *wish == self.members);
        if !self.operates || idle && !wishes {
            return;
        }
        if idle || wishes && self.rng.chance(5) {
            let wish = self.new_wish();
            self.wishes.push(wish);
        }
        let voters = self.wishes.last().expect("there is one").voters.clone();
        let change = Change { voters, learners: BTreeSet::new(), context: Bytes::from_static(WISHED) };
        let now = Mono(self.now);
        for id in self.honest().into_iter().filter(|id| self.members.contains(*id)).collect::<Vec<_>>() {
            if self.rng.chance(50) {
                let change = change.clone();
                self.with(id, |engine, out| {
                    // What is refused now is asked for again.
                    let _ = engine.reconfigure().expect("it changes members").on_reconfigure(now, change, out);
                });
            }
        }
    }

    fn new_wish(&mut self) -> Members {
        loop {
            let all: Vec<NodeId> = self.nodes.keys().copied().collect();
            let mut voters = self.members.voters.clone();
            for _ in 0..=self.rng.below(3) {
                let node = all[usize::try_from(self.rng.below(all.len() as u64)).expect("a small number")];
                if !voters.remove(&node) {
                    voters.insert(node);
                }
            }
            let lie = voters.iter().filter(|node| self.liars.contains(node)).count();
            if voters.len() >= 4 && voters != self.members.voters && lie <= (voters.len() - 1) / 3 {
                return Members::of_voters(voters);
            }
        }
    }

    /// Faults while clients ask for `operations` things, then none until `least` are executed, and a deadline.
    pub fn play(&mut self, operations: u64, least: u64) {
        let mut left = operations;
        let mut deadline = self.now + 60_000 * MS;
        while left > 0 && self.now < deadline {
            let until = self.now + 40 * MS;
            self.run(until);
            if self.dark.values().any(|until| self.now < *until) && self.rng.chance(85) {
                // Clients ask for little now, so that what follows from an ambush is seen to its end.
                continue;
            }
            let count = 1 + self.rng.below(4);
            (0..count.min(left)).for_each(|_| self.propose());
            left -= count.min(left);
            if self.trouble.crashes && self.rng.chance(20) {
                self.break_something();
            }
            let wishes = self.operates && self.rng.chance(10);
            self.operate(wishes);
        }
        (self.trouble.drop, self.trouble.double, self.trouble.late) = (0, 0, 0);
        self.trouble.ambushes = 0;
        self.cut.clear();
        self.dark.clear();
        self.restart_all();
        (0..5).for_each(|_| self.propose());
        deadline = self.now + 60_000 * MS;
        while !self.is_done() || self.tally.executed < least {
            assert!(self.now < deadline, "no progress a minute after the heal: {}", self.table());
            let until = self.now + 50 * MS;
            self.run(until);
            self.operate(false);
            let within = |(id, _): &(&NodeId, &Node)| self.members.contains(**id);
            let waits: usize = self.nodes.iter().filter(within).map(|(_, node)| node.asked.len()).sum();
            if self.tally.executed < least && waits < WAITING_MAX {
                self.propose();
            }
        }
    }

    /// A line for each node.
    #[must_use]
    pub fn table(&self) -> String {
        let line = |(id, node): (&NodeId, &Node)| {
            let status = node.engine.as_ref().map(|engine| engine.status()).unwrap_or_default();
            let lies = if self.liars.contains(id) { " lies" } else { "" };
            let out = if self.members.contains(*id) { "" } else { " is out" };
            let (waits, applied) = (node.asked.len(), node.applied);
            let (term, leader) = (status.term, status.leader);
            format!(
                "\nnode {id}{lies}{out}: term {term}, leader {leader:?}, applied {applied}, last {}, waits {waits}",
                status.last
            )
        };
        self.nodes.iter().map(line).collect()
    }
}
