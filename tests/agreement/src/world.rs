//! The deterministic world: engines, network, disks, time, and the judge of what they say.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use bytes::Bytes;
use verity_contract::{
    Agreement, AgreementStatus, BarrierId, Boot, Change, CommittedKind, Input, Members, Output, PersistId, SnapshotMeta,
};
use verity_types::{Incarnation, LogIndex, Mono, Nanos, NodeId};

use crate::disk::{Disk, Mutant};
use crate::{Factory, Rng};

const MS: u64 = 1_000_000;
/// When a world begins.
const BEGIN: u64 = 1_000 * MS;
/// How far a node's clock may run off, in parts per million: what leases allow for.
const DRIFT_PPM: i64 = 10_000;

/// What goes wrong on the way. Percentages are of messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Messages that vanish.
    pub drop: u64,
    /// Messages that arrive twice.
    pub double: u64,
    /// Messages that take up to half a second.
    pub late: u64,
    /// Syncs take up to this many milliseconds.
    pub sync_ms_max: u64,
}

/// A proposal that an engine took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offered(pub u64);

#[derive(Debug)]
enum Event {
    Tick,
    Message { from: NodeId, bytes: Bytes },
    Synced(PersistId),
    Applied(u64),
    SnapshotArrives { from: NodeId, meta: SnapshotMeta, machine: Vec<u64>, message: Bytes },
    SnapshotSent { to: NodeId, delivered: bool },
    SaveSnapshot,
}

#[derive(Default)]
struct Node {
    engine: Option<Box<dyn Agreement>>,
    disk: Disk,
    life: u64,
    /// Thousandths of the drift that clocks may have, by which this one runs too fast.
    drift: i64,
    paused_until: u64,
    stable: u64,
    waiting: Vec<(PersistId, NodeId, Bytes)>,
    /// The state machine: the proposals in order.
    machine: Vec<u64>,
    handed: u64,
    members: Members,
    leads: bool,
}

/// N engines and everything around them.
pub struct World {
    /// The run's chance.
    pub rng: Rng,
    /// What goes wrong.
    pub faults: Faults,
    /// The promise that the driver breaks.
    pub mutant: Mutant,
    /// Nodes that are no founding members know no members at all.
    pub blank_joiners: bool,
    /// Snapshots are taken every so many entries; 0 for on demand only.
    pub snapshot_every: u64,
    factory: Factory,
    initial: Members,
    first_leader: Option<NodeId>,
    /// Nodes that came back with nothing, and what they may have forgotten.
    floors: BTreeMap<NodeId, LogIndex>,
    nodes: BTreeMap<NodeId, Node>,
    cut: BTreeSet<(NodeId, NodeId)>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, (NodeId, u64, Event)>,
    now: u64,
    seq: u64,
    /// The one order: what was committed at each index, anywhere.
    order: BTreeMap<u64, (u64, Option<u64>)>,
    placed: BTreeMap<u64, u64>,
    barriers: BTreeMap<BarrierId, (NodeId, u64)>,
    refused: BTreeSet<u64>,
    /// Counts that tests look at.
    pub commits: u64,
    /// Barriers answered with an index.
    pub reads_ready: u64,
    /// Barriers that failed.
    pub reads_failed: u64,
    /// Snapshots installed from a peer.
    pub installs: u64,
    /// What each change of members carried, by index; the same on every node.
    pub contexts: BTreeMap<u64, Bytes>,
}

impl World {
    /// `nodes` nodes, of which `members` begin the group and are up; [`World::start`] brings up the others.
    #[must_use]
    pub fn new(seed: u64, nodes: u64, members: Members, factory: Factory) -> Self {
        let mut world = Self::before_start(seed, nodes, members, factory);
        world.initial.all().into_iter().for_each(|id| world.start(id));
        world
    }

    /// A group in which the nodes 1 to `count` vote, and which `first` is to lead first; of them, those in `up` are up.
    #[must_use]
    pub fn led_first(seed: u64, count: u64, first: NodeId, up: &[u64], factory: Factory) -> Self {
        let mut world = Self::before_start(seed, count, Members::of_voters((1..=count).map(NodeId)), factory);
        world.first_leader = Some(first);
        up.iter().for_each(|id| world.start(NodeId(*id)));
        world
    }

    fn before_start(seed: u64, nodes: u64, members: Members, factory: Factory) -> Self {
        let mut world = Self {
            rng: Rng::new(seed),
            faults: Faults::default(),
            mutant: Mutant::None,
            blank_joiners: false,
            snapshot_every: 0,
            factory,
            initial: members,
            first_leader: None,
            floors: BTreeMap::new(),
            nodes: (1..=nodes).map(|id| (NodeId(id), Node::default())).collect(),
            cut: BTreeSet::new(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            now: BEGIN,
            seq: 0,
            order: BTreeMap::new(),
            placed: BTreeMap::new(),
            barriers: BTreeMap::new(),
            refused: BTreeSet::new(),
            commits: 0,
            reads_ready: 0,
            reads_failed: 0,
            installs: 0,
            contexts: BTreeMap::new(),
        };
        // Its own chance, so that clocks change nothing else. The ends of the bound come often.
        let mut rng = Rng::new(seed ^ 0xc10c);
        let ends = |drift: u64| (i64::try_from(drift).expect("is small") - 2_000).clamp(-1_000, 1_000);
        world.nodes.values_mut().for_each(|node| node.drift = ends(rng.below(4_001)));
        world
    }

    /// A group in which the nodes 1 to `count` vote.
    #[must_use]
    pub fn of_voters(seed: u64, count: u64, factory: Factory) -> Self {
        Self::new(seed, count, Members::of_voters((1..=count).map(NodeId)), factory)
    }

    /// Milliseconds since the run began.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        (self.now - BEGIN) / MS
    }

    /// All nodes.
    #[must_use]
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// The nodes that run.
    #[must_use]
    pub fn up(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, node)| node.engine.is_some()).map(|(id, _)| *id).collect()
    }

    fn at(&mut self, node: NodeId, after: u64, event: Event) {
        let life = self.nodes[&node].life;
        self.seq += 1;
        self.queue.push(Reverse((self.now + after, self.seq)));
        self.events.insert(self.seq, (node, life, event));
    }

    /// Starts a node from its disk.
    ///
    /// # Panics
    /// If the engine refuses its own records.
    pub fn start(&mut self, id: NodeId) {
        let seed = self.rng.bits();
        let clock = self.clock(id);
        let node = self.nodes.get_mut(&id).expect("a node of this world");
        if node.engine.is_some() {
            return;
        }
        let snapshot = node.disk.snapshot.as_ref().map(|(meta, _)| meta.clone());
        node.handed = snapshot.as_ref().map_or(0, |meta| meta.index.0);
        node.machine = node.disk.snapshot.as_ref().map_or_else(Vec::new, |(_, machine)| machine.clone());
        node.members = snapshot.as_ref().map_or_else(|| self.initial.clone(), |meta| meta.members.clone());
        node.stable = 0;
        node.leads = false;
        let blank = self.blank_joiners && !self.initial.contains(id) || self.floors.contains_key(&id);
        let members = if blank { Members::default() } else { self.initial.clone() };
        let floor = self.floors.get(&id).copied().unwrap_or_default();
        let records = node.disk.records.clone();
        let incarnation = Incarnation(self.seq);
        let first_leader = self.first_leader;
        let boot = Boot { id, members, first_leader, floor, snapshot, records, incarnation, seed };
        let engine = (self.factory)(boot, clock).expect("an engine starts from what it persisted");
        let interval = engine.tick_interval().0;
        node.engine = Some(engine);
        let skew = self.rng.below(interval);
        self.at(id, skew, Event::Tick);
    }

    /// The power fails on a node. With `AckBeforeSync` in force, acknowledged records go with it.
    pub fn crash(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a node of this world");
        node.engine = None;
        node.life += 1;
        node.disk.lose();
        node.waiting.clear();
        node.leads = false;
        self.barriers.retain(|_, (at, _)| *at != id);
    }

    /// A node lets the group go and comes back with nothing but the index up to which it may have taken part.
    pub fn forget(&mut self, id: NodeId, floor: u64) {
        self.crash(id);
        self.nodes.get_mut(&id).expect("a node of this world").disk = Disk::default();
        self.floors.insert(id, LogIndex(floor));
        self.start(id);
    }

    /// A killed process: its peers' connections break. The hint comes soon, and is lost at times.
    pub fn crash_and_tell(&mut self, id: NodeId) {
        self.crash(id);
        for peer in self.up() {
            self.input(peer, Input::Unreachable(id));
        }
    }

    /// A node does nothing for a while; what is sent to it waits.
    pub fn pause(&mut self, id: NodeId, ms: u64) {
        self.nodes.get_mut(&id).expect("a node of this world").paused_until = self.now + ms * MS;
    }

    /// A node that does nothing goes on, with all that waits for it; it sees last what time it is.
    pub fn wake(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("a node of this world");
        let until = std::mem::replace(&mut node.paused_until, self.now);
        let now = self.now;
        let due = |at: u64, seq: &u64| match self.events.get(seq) {
            Some((of, _, Event::Tick)) if *of == id && at >= until => now + 5 * MS,
            Some((of, ..)) if *of == id && at >= until => now,
            _ => at,
        };
        let queue = std::mem::take(&mut self.queue);
        let moved = queue.into_iter().map(|Reverse((at, seq))| Reverse((due(at, &seq), seq)));
        self.queue = moved.collect();
    }

    /// Messages from `from` to `to` vanish from now on.
    pub fn cut_one_way(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Nothing passes between the two.
    pub fn cut_link(&mut self, a: NodeId, b: NodeId) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// The two reach each other again.
    pub fn mend_link(&mut self, a: NodeId, b: NodeId) {
        self.cut.retain(|link| *link != (a, b) && *link != (b, a));
    }

    /// Cuts `id` off from everyone.
    pub fn isolate(&mut self, id: NodeId) {
        for other in self.ids() {
            if other != id {
                self.cut_link(id, other);
            }
        }
    }

    /// The network is whole, nothing is lost, and everyone is up.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.faults = Faults { sync_ms_max: self.faults.sync_ms_max.min(5), ..Faults::default() };
        for id in self.ids() {
            self.start(id);
        }
    }

    /// What a node's clock shows.
    fn clock(&self, id: NodeId) -> Mono {
        // In whole, lest rounding lets the clock go back.
        let pace = 1_000_000_000_u128.saturating_add_signed((self.nodes[&id].drift * DRIFT_PPM).into());
        let passed = u128::from(self.now - BEGIN) * pace / 1_000_000_000;
        Mono(BEGIN + u64::try_from(passed).expect("a world is short"))
    }

    /// Gives an engine an input.
    pub fn input(&mut self, id: NodeId, input: Input) {
        let now = self.clock(id);
        self.call(id, |engine, out| engine.on(now, input, out));
    }

    fn call(&mut self, id: NodeId, with: impl FnOnce(&mut dyn Agreement, &mut Vec<Output>)) {
        let mut out = Vec::new();
        let Some(engine) = self.nodes.get_mut(&id).and_then(|node| node.engine.as_deref_mut()) else { return };
        with(engine, &mut out);
        engine.invariants();
        out.into_iter().for_each(|output| self.on_output(id, output));
    }

    /// Proposes `value` at `id`; false if it was refused on the spot.
    pub fn propose(&mut self, id: NodeId, value: u64) -> bool {
        self.refused.remove(&value);
        self.input(id, Input::Propose(Bytes::copy_from_slice(&value.to_be_bytes())));
        self.nodes[&id].engine.is_some() && !self.refused.contains(&value)
    }

    /// Begins a barrier at `id`.
    pub fn barrier(&mut self, id: NodeId) {
        self.seq += 1;
        let name = BarrierId(self.seq);
        let floor = self.order.keys().next_back().copied().unwrap_or(0);
        if self.nodes[&id].engine.is_some() {
            self.barriers.insert(name, (id, floor));
        }
        let now = self.clock(id);
        self.call(id, |engine, out| {
            engine.barrier().expect("the suite asks engines that read").on_barrier(now, name, out)
        });
    }

    /// Wishes for other members, at whoever leads.
    pub fn change(&mut self, voters: &[u64], learners: &[u64], context: &'static [u8]) -> bool {
        let Some(leader) = self.leader() else { return false };
        let set = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
        let change = Change { voters: set(voters), learners: set(learners), context: Bytes::from_static(context) };
        let now = self.clock(leader);
        let mut begun = false;
        self.call(leader, |engine, out| {
            let reconfigure = engine.reconfigure().expect("the suite asks engines that reconfigure");
            begun = reconfigure.on_reconfigure(now, change, out).is_ok();
        });
        begun
    }

    /// Asks the leader to hand over.
    pub fn transfer(&mut self, to: NodeId) {
        if let Some(leader) = self.leader() {
            let now = self.clock(leader);
            self.call(leader, |engine, out| {
                engine.transfer().expect("the suite asks engines that hand over").on_transfer(now, to, out);
            });
        }
    }

    /// The leader of the latest term, among those who run.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        let leading = self.nodes.iter().filter(|(_, node)| node.leads);
        leading.max_by_key(|(id, _)| self.status(**id).map(|status| status.term)).map(|(id, _)| *id)
    }

    /// How often a node wants to be told the time; `None` if it is down.
    #[must_use]
    pub fn tick_interval(&self, id: NodeId) -> Option<Nanos> {
        self.nodes[&id].engine.as_ref().map(|engine| engine.tick_interval())
    }

    /// A node's status, if it runs.
    #[must_use]
    pub fn status(&self, id: NodeId) -> Option<AgreementStatus> {
        self.nodes[&id].engine.as_ref().map(|engine| engine.status())
    }

    /// What a node's machine holds.
    #[must_use]
    pub fn machine(&self, id: NodeId) -> &[u64] {
        &self.nodes[&id].machine
    }

    /// The last index committed anywhere.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.order.keys().next_back().copied().unwrap_or(0)
    }

    /// True if `value` was committed.
    #[must_use]
    pub fn has(&self, value: u64) -> bool {
        self.placed.contains_key(&value)
    }

    fn on_output(&mut self, id: NodeId, output: Output) {
        match output {
            Output::Persist { id: persist, records } => {
                let wait = self.sync_time();
                let mutant = self.mutant;
                self.nodes.get_mut(&id).expect("runs").disk.write(persist, records);
                if mutant == Mutant::AckBeforeSync {
                    // The acknowledgement is at once, the sync takes its time.
                    self.at(id, 0, Event::Synced(persist));
                } else {
                    self.at(id, wait, Event::Synced(persist));
                }
            }
            Output::Send { to, bytes, after, .. } => match after {
                Some(persist) if persist.0 > self.nodes[&id].stable => {
                    self.nodes.get_mut(&id).expect("runs").waiting.push((persist, to, bytes));
                }
                _ => self.transmit(id, to, bytes),
            },
            Output::Commit(batch) => batch.into_iter().for_each(|entry| self.on_commit(id, &entry)),
            Output::ReadReady { id: name, index } => {
                let (at, floor) = self.barriers.remove(&name).expect("each barrier is answered once");
                assert_eq!(at, id, "a barrier is answered where it was asked");
                assert!(index.0 >= floor, "a read at {index} misses what was committed at {floor} before it began");
                self.reads_ready += 1;
            }
            Output::ReadFailed(name) => {
                self.barriers.remove(&name).expect("each barrier is answered once");
                self.reads_failed += 1;
            }
            Output::Role { leads, .. } => self.nodes.get_mut(&id).expect("runs").leads = leads,
            Output::Refused(payload) => {
                self.refused.insert(value_of(&payload));
            }
            Output::OfferSnapshot { to, meta, message } => self.stream(id, to, meta, message),
            Output::WantSnapshot => self.at(id, MS, Event::SaveSnapshot),
            Output::InstallSnapshot(meta) => {
                let node = self.nodes.get_mut(&id).expect("runs");
                let (held, machine) = node.disk.snapshot.clone().expect("the snapshot is on stable storage");
                assert!(held.index >= meta.index, "what is installed is on stable storage");
                (node.machine, node.handed, node.members) = (machine, held.index.0, held.members);
                self.installs += 1;
            }
            Output::Revert { .. } | Output::Final(_) => panic!("engines with fixed membership never revert"),
            Output::Judge { index, .. } => {
                let verdict = verity_contract::Verdict::Accept;
                self.input(id, Input::Verdict { index, verdict });
            }
            Output::Evidence(_) | Output::StateRefused { .. } => panic!("nobody lies here"),
            Output::Checkpoint { .. } => panic!("these engines take none"),
        }
    }

    fn on_commit(&mut self, id: NodeId, entry: &verity_contract::Committed) {
        let node = self.nodes.get_mut(&id).expect("runs");
        assert_eq!(entry.index.0, node.handed + 1, "node {id} commits without a gap");
        node.handed = entry.index.0;
        let value = match &entry.kind {
            CommittedKind::Normal => Some(value_of(&entry.payload)),
            CommittedKind::Noop => None,
            CommittedKind::Members(members) => {
                node.members = members.clone();
                let told = self.contexts.entry(entry.index.0).or_insert_with(|| entry.payload.clone());
                assert_eq!(*told, entry.payload, "every node hears the same context at {}", entry.index);
                None
            }
        };
        node.machine.extend(value);
        let handed = node.handed;
        let told = self.order.entry(entry.index.0).or_insert((entry.term.0, value));
        assert_eq!(*told, (entry.term.0, value), "node {id} commits another entry at {}", entry.index);
        if let Some(value) = value {
            let place = *self.placed.entry(value).or_insert(entry.index.0);
            assert_eq!(place, entry.index.0, "proposal {value} is committed twice");
        }
        self.commits += 1;
        self.at(id, MS / 10, Event::Applied(handed));
        if self.snapshot_every > 0 && handed.is_multiple_of(self.snapshot_every) {
            self.at(id, MS, Event::SaveSnapshot);
        }
    }

    fn sync_time(&mut self) -> u64 {
        MS / 5 + self.rng.below(self.faults.sync_ms_max.max(1)) * MS
    }

    fn transmit(&mut self, from: NodeId, to: NodeId, bytes: Bytes) {
        if !self.nodes.contains_key(&to) || self.cut.contains(&(from, to)) || self.rng.chance(self.faults.drop) {
            return;
        }
        let copies = 1 + u64::from(self.rng.chance(self.faults.double));
        for _ in 0..copies {
            let late = if self.rng.chance(self.faults.late) { self.rng.below(500) * MS } else { 0 };
            let delay = MS / 2 + self.rng.below(2 * MS) + late;
            self.deliver(to, delay, Event::Message { from, bytes: bytes.clone() });
        }
    }

    /// A message reaches whichever life of the node is up when it arrives.
    fn deliver(&mut self, to: NodeId, delay: u64, event: Event) {
        self.seq += 1;
        self.queue.push(Reverse((self.now + delay, self.seq)));
        self.events.insert(self.seq, (to, u64::MAX, event));
    }

    fn stream(&mut self, from: NodeId, to: NodeId, meta: SnapshotMeta, message: Bytes) {
        let held = self.nodes[&from].disk.snapshot.clone();
        let reachable =
            !self.cut.contains(&(from, to)) && self.nodes.get(&to).is_some_and(|node| node.engine.is_some());
        let fails = !reachable || self.rng.chance(self.faults.drop);
        let delivered = match held {
            Some((held, machine)) if !fails && held.index >= meta.index => {
                // A later snapshot than the offered one would not match the message.
                let same = held.index == meta.index;
                if same {
                    self.deliver(to, 20 * MS, Event::SnapshotArrives { from, meta, machine, message });
                }
                same
            }
            _ => false,
        };
        self.at(from, 30 * MS, Event::SnapshotSent { to, delivered });
    }

    fn save_snapshot(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("runs");
        let term = self.order.get(&node.handed).map(|(term, _)| *term);
        let older = node.disk.snapshot.as_ref().is_some_and(|(meta, _)| meta.index.0 >= node.handed);
        let (Some(term), false) = (term, older) else { return };
        let index = LogIndex(node.handed);
        let meta = SnapshotMeta {
            index,
            term: verity_types::Term(term),
            members: node.members.clone(),
            ..SnapshotMeta::default()
        };
        // A few entries stay, for peers that are almost there; only what is stable can be dropped.
        let compact_to = LogIndex(node.handed.saturating_sub(3));
        node.disk.save(meta.clone(), node.machine.clone(), compact_to.0);
        self.input(id, Input::SnapshotSaved { meta, compact_to });
    }

    fn on_event(&mut self, id: NodeId, event: Event) {
        match event {
            Event::Tick => {
                self.input(id, Input::Tick);
                let interval = self.nodes[&id].engine.as_ref().map(|engine| engine.tick_interval());
                if let Some(Nanos(interval)) = interval {
                    self.at(id, interval, Event::Tick);
                }
            }
            Event::Message { from, bytes } => self.input(id, Input::Message { from, bytes }),
            Event::Synced(persist) => {
                let mutant = self.mutant;
                // The mutant's disk syncs half of what it acknowledged, the rest never before the power fails.
                let lies = mutant == Mutant::AckBeforeSync && self.rng.chance(50);
                let node = self.nodes.get_mut(&id).expect("runs");
                if !lies {
                    node.disk.sync(persist, mutant);
                }
                node.stable = node.stable.max(persist.0);
                let ready: Vec<_> = node.waiting.extract_if(.., |(after, ..)| after.0 <= persist.0).collect();
                ready.into_iter().for_each(|(_, to, bytes)| self.transmit(id, to, bytes));
                self.input(id, Input::Persisted(persist));
            }
            Event::Applied(index) => self.input(id, Input::Applied(LogIndex(index))),
            Event::SnapshotArrives { from, meta, machine, message } => {
                let node = self.nodes.get_mut(&id).expect("runs");
                let newer = node.disk.snapshot.as_ref().is_some_and(|(held, _)| held.index > meta.index);
                if !newer && node.handed < meta.index.0 {
                    node.disk.snapshot = Some((meta, machine));
                    self.input(id, Input::Message { from, bytes: message });
                }
            }
            Event::SnapshotSent { to, delivered } => self.input(id, Input::SnapshotSent { to, delivered }),
            Event::SaveSnapshot => self.save_snapshot(id),
        }
    }

    /// Lets `ms` milliseconds pass.
    pub fn run(&mut self, ms: u64) {
        let end = self.now + ms * MS;
        while let Some(Reverse((at, seq))) = self.queue.peek().copied() {
            if at > end {
                break;
            }
            self.queue.pop();
            let (id, life, event) = self.events.remove(&seq).expect("queued with its number");
            self.now = self.now.max(at);
            let node = &self.nodes[&id];
            if node.engine.is_none() || (life != u64::MAX && life != node.life) {
                continue;
            }
            if node.paused_until > self.now {
                let wait = node.paused_until;
                self.queue.push(Reverse((wait, seq)));
                self.events.insert(seq, (id, life, event));
                continue;
            }
            self.on_event(id, event);
        }
        self.now = end;
    }

    /// Lets time pass until `done`, at most `ms` milliseconds; true if it came.
    pub fn run_until(&mut self, ms: u64, mut done: impl FnMut(&World) -> bool) -> bool {
        for _ in 0..ms / 5 {
            if done(self) {
                return true;
            }
            self.run(5);
        }
        done(self)
    }

    /// Asserts that every pair of machines has one order.
    pub fn check_machines(&self) {
        let longest = self.nodes.values().map(|node| &node.machine).max_by_key(|machine| machine.len());
        for (id, node) in &self.nodes {
            let whole = longest.expect("there are nodes");
            assert_eq!(node.machine[..], whole[..node.machine.len()], "node {id} has another order");
        }
    }
}

fn value_of(payload: &Bytes) -> u64 {
    u64::from_be_bytes(payload[..].try_into().expect("the suite proposes eight bytes"))
}
