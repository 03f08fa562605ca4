//! The world: one queue of events in order of time, and the hands that carry out what nodes and clients want.
//!
//! Phases: faults come for a while; then everything heals and the clients finish; then the history is judged.
//!
//! Deliberately absent: real time. A world runs as fast as it can.

mod mischief;
pub(crate) mod streams;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use verity_contract::{Door, Members, Peer, SessionInput, SessionOutput};
use verity_replica::{Input, ServiceId, Ticket, decode_frames};
use verity_storage::{ClusterId, Disk};
use verity_types::{ConnId, Digest, GroupId, LogIndex, NodeId, Term, Token};

use crate::faults::{FaultCounts, Swarm};
use crate::mutant::Mutant;
use crate::network::Network;
use crate::node::{Deed, SimNode};
use crate::trace::Trace;
use crate::workload::{ClientId, ClientInput, ClientOutput, Workload};
use mischief::Deposed;
use streams::End;

const MILLI: u64 = 1_000_000;
/// Clocks run by at most this many parts in a million too fast or too slow: what the engines' leases allow for.
const DRIFT_PPM: i64 = 10_000;
/// A node that is down for so long does not come back in any world.
const FOR_GOOD: u64 = 1_000_000_000 * MILLI;
/// More than a world's logs ever take.
const LOG_BYTES: u64 = 64 << 20;
const CLUSTER: ClusterId = ClusterId(*b"verity simulator");

/// How a world is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything random comes from it.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How long faults come, in milliseconds of the world's time.
    pub fault_ms: u64,
    /// How long the healed world has to finish, in milliseconds of its time.
    pub heal_ms: u64,
    /// The kinds of faults; `None` draws a random subset.
    pub swarm: Option<Swarm>,
    /// `swarm` is a part of what this seed draws: the world is otherwise the same.
    pub part_of_drawn: bool,
    /// A bug to plant.
    pub mutant: Option<Mutant>,
    /// Keep the trace as lines.
    pub trace: bool,
    /// Assert invariants every so many events; 1 for each.
    pub invariants_every: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            nodes: 3,
            fault_ms: 10_000,
            heal_ms: 30_000,
            swarm: None,
            part_of_drawn: false,
            mutant: None,
            trace: false,
            invariants_every: 1,
        }
    }
}

/// What a world came to.
#[derive(Clone)]
pub struct Report {
    /// How many operations were acknowledged.
    pub acknowledged: u64,
    /// How many faults took effect.
    pub faults: FaultCounts,
    /// The kinds that were on.
    pub swarm: Swarm,
    /// How much of the world's time passed, in nanoseconds.
    pub elapsed_ns: u64,
    /// What happened.
    pub trace: Trace,
}

/// Why a world failed.
#[derive(Clone)]
pub struct Failure {
    /// In words.
    pub reason: String,
    /// Up to then.
    pub report: Report,
}

pub(crate) enum Event {
    Tick {
        node: usize,
        life: u64,
    },
    Flush {
        node: usize,
        life: u64,
    },
    LogDone {
        node: usize,
        life: u64,
    },
    /// By a planted bug: acknowledged before it is synced.
    EarlyAck {
        node: usize,
        life: u64,
        ticket: Ticket,
    },
    SnapshotDone {
        node: usize,
        life: u64,
    },
    Deliver {
        from: NodeId,
        node: usize,
        bytes: Bytes,
    },
    Link {
        node: usize,
        life: u64,
        peer: NodeId,
        up: bool,
    },
    Restart {
        node: usize,
    },
    Resume {
        node: usize,
    },
    /// Cuts that came with a deposed leader end.
    Rejoin,
    ToNode {
        client: usize,
        conn: u64,
        bytes: Option<Bytes>,
    },
    ToClient {
        client: usize,
        conn: u64,
        input: ClientInput,
    },
    Connect {
        client: usize,
        conn: u64,
        node: usize,
        door: Door,
    },
    ClientWake {
        client: usize,
    },
    /// A service's wish to connect arrives where it goes.
    Dial {
        node: usize,
        life: u64,
        token: Token,
        addr: String,
        door: Door,
    },
    /// It is answered; none: nobody is there.
    Dialed {
        node: usize,
        life: u64,
        token: Token,
        opened: Option<(u64, Peer)>,
    },
    /// What is next in a stream arrives at this end.
    Stream {
        conn: u64,
    },
    /// All that an end put out has arrived, and it asked to be told.
    Drained {
        node: usize,
        life: u64,
        conn: u64,
    },
    /// An end hears that its stream is over.
    Hangup {
        node: usize,
        life: u64,
        conn: u64,
    },
    Fault,
    Heal,
}

struct Queued {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A client's connection: at which node, in which of its lives. Streams keep their order in each direction.
#[derive(Clone, Copy)]
struct Connection {
    conn: u64,
    node: usize,
    life: u64,
    to_node_at: u64,
    to_client_at: u64,
    open: bool,
}

struct World<'w> {
    options: Options,
    workload: &'w mut dyn Workload,
    rng: Rng,
    now: u64,
    order: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    nodes: Vec<SimNode>,
    founders: Members,
    /// The members last asked for.
    wish: Members,
    network: Network,
    link_at: BTreeMap<(NodeId, NodeId), u64>,
    connections: BTreeMap<usize, Connection>,
    next_conn: u64,
    /// Ends of streams between nodes.
    streams: BTreeMap<u64, End>,
    swarm: Swarm,
    healed: bool,
    /// The leader that is stopped or cut off, until others have voted.
    deposed: Option<Deposed>,
    counts: FaultCounts,
    digests: BTreeMap<(GroupId, LogIndex), Digest>,
    /// Who led each group in each term.
    leaders: BTreeMap<(GroupId, Term), NodeId>,
    /// Groups that somebody has let go. A node that replays what came before may begin such a group once more, with nothing
    /// of what it had voted.
    ended: BTreeSet<GroupId>,
    trace: Trace,
    failure: Option<String>,
    steps: u64,
}

/// Runs a world to its end.
///
/// # Errors
/// [`Failure`] if an invariant of the world, its liveness or its history does not hold.
pub fn run(options: &Options, workload: &mut dyn Workload) -> Result<Report, Box<Failure>> {
    let mut world = World::new(options.clone(), workload);
    // An invariant that breaks is a finding like any other, to be told with its seed and shrunk.
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
        Err(format!("an invariant does not hold: {text}"))
    });
    let report = world.report();
    match result {
        Ok(()) => Ok(report),
        Err(reason) => Err(Box::new(Failure { reason, report })),
    }
}

impl<'w> World<'w> {
    fn new(options: Options, workload: &'w mut dyn Workload) -> Self {
        let mut rng = Rng::with_seed(options.seed);
        let drawn = (options.swarm.is_none() || options.part_of_drawn).then(|| Swarm::draw(&mut rng));
        let swarm = options.swarm.or(drawn).expect("one of the two is there");
        let founders = Members::of_voters((1..=options.nodes as u64).map(NodeId));
        let count = options.nodes as u64 + u64::from(swarm.members);
        let mut nodes: Vec<SimNode> = (1..=count).map(|id| SimNode::new(NodeId(id))).collect();
        if swarm.clock {
            // The ends of the bound are where a margin shows.
            let bound = DRIFT_PPM;
            nodes.iter_mut().for_each(|node| node.drift_ppm = (rng.i64(-2 * bound..=2 * bound)).clamp(-bound, bound));
        }
        let mut network = Network::calm();
        network.delay_max = rng.u64(200_000..3_000_000);
        network.loss = if swarm.loss { rng.u32(20..200) } else { 0 };
        network.double = if swarm.double { rng.u32(20..200) } else { 0 };
        network.straggle = if swarm.straggle { rng.u32(20..200) } else { 0 };
        network.in_order = !swarm.reorder;
        Self {
            trace: Trace::new(options.trace),
            options,
            workload,
            rng,
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            nodes,
            wish: founders.clone(),
            founders,
            network,
            link_at: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_conn: 0,
            streams: BTreeMap::new(),
            swarm,
            healed: false,
            deposed: None,
            counts: FaultCounts::default(),
            digests: BTreeMap::new(),
            leaders: BTreeMap::new(),
            ended: BTreeSet::new(),
            failure: None,
            steps: 0,
        }
    }

    fn report(&self) -> Report {
        Report {
            acknowledged: self.workload.acknowledged(),
            faults: self.counts,
            swarm: self.swarm,
            elapsed_ns: self.now,
            trace: self.trace.clone(),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        self.workload.begin(self.nodes.len());
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        for client in 0..self.workload.clients() {
            let at = self.rng.u64(0..20 * MILLI);
            self.at(at, Event::ClientWake { client });
        }
        let fault_end = self.options.fault_ms * MILLI;
        let first = self.rng.u64(200 * MILLI..800 * MILLI);
        self.at(first, Event::Fault);
        self.at(fault_end, Event::Heal);
        let deadline = fault_end + self.options.heal_ms * MILLI;
        while let Some(Reverse(next)) = self.queue.pop() {
            self.now = next.at;
            if self.now > deadline {
                return Err(format!("the healed world made no progress before its deadline; {}", self.standing()));
            }
            self.step(next.event);
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.healed && self.workload.is_done() {
                break;
            }
        }
        self.workload.judge()
    }

    /// How each node sees its groups, for a world that is stuck.
    fn standing(&self) -> String {
        let mut out = vec![self.workload.standing()];
        for node in &self.nodes {
            let Some(running) = &node.running else {
                out.push(format!("node {} is down", node.id));
                continue;
            };
            for group in running.replica.status() {
                let agreement = group.agreement;
                let leader = agreement.leader.map_or_else(|| "nobody".to_owned(), |leader| leader.to_string());
                let (members, term) = (agreement.members, agreement.term.0);
                let ids = |set: &std::collections::BTreeSet<NodeId>| {
                    set.iter().map(NodeId::to_string).collect::<Vec<_>>().join(",")
                };
                out.push(format!(
                    "node {} follows {leader} in term {term}, voters {} outgoing {} learners {}, committed {} of {}",
                    node.id,
                    ids(&members.voters),
                    ids(&members.outgoing),
                    ids(&members.learners),
                    agreement.committed.0,
                    agreement.last.0,
                ));
            }
        }
        out.retain(|words| !words.is_empty());
        out.join("; ")
    }

    fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Queued { at: at.max(self.now), order: self.order, event }));
    }

    fn after(&mut self, span: u64, event: Event) {
        self.at(self.now + span, event);
    }

    // ---- one event

    fn step(&mut self, event: Event) {
        match event {
            Event::Tick { node, life } => self.on_tick(node, life),
            Event::Flush { node, life } => self.on_flush(node, life),
            Event::LogDone { node, life } => self.on_log_done(node, life),
            Event::EarlyAck { node, life, ticket } => {
                if self.lives(node, life) {
                    self.input(node, Input::Persisted(ticket));
                }
            }
            Event::SnapshotDone { node, life } => self.on_snapshot_done(node, life),
            Event::Deliver { from, node, bytes } => self.on_deliver(from, node, bytes),
            Event::Link { node, life, peer, up } => {
                if self.lives(node, life) {
                    let input = if up { Input::PeerUp(peer) } else { Input::PeerDown(peer) };
                    self.input(node, input);
                }
            }
            Event::Restart { node } => self.start(node),
            Event::Resume { node } => self.on_resume(node),
            Event::Rejoin => self.network.cut.clear(),
            Event::ToNode { client, conn, bytes } => self.on_to_node(client, conn, bytes),
            Event::ToClient { client, conn, input } => self.on_to_client(client, conn, input),
            Event::Connect { client, conn, node, door } => self.on_connect(client, conn, node, door),
            Event::ClientWake { client } => self.client(client, ClientInput::Wake),
            Event::Dial { node, life, token, addr, door } => self.on_dial(node, life, token, &addr, door),
            Event::Dialed { node, life, token, opened } => self.on_dialed(node, life, token, opened),
            Event::Stream { conn } => self.on_stream(conn),
            Event::Drained { node, life, conn } => self.on_drained(node, life, conn),
            Event::Hangup { node, life, conn } => self.on_hangup(node, life, conn),
            Event::Fault => self.on_fault(),
            Event::Heal => self.on_heal(),
        }
    }

    fn lives(&self, node: usize, life: u64) -> bool {
        self.nodes[node].life == life && self.nodes[node].running.is_some()
    }

    /// True if the node is paused; the event then comes again when it resumes.
    fn paused(&mut self, node: usize, event: impl FnOnce() -> Event) -> bool {
        let paused = self.nodes[node].paused_until > self.now;
        if paused {
            self.nodes[node].stash.push(event());
        }
        paused
    }

    fn pause(&mut self, node: usize, span: u64) {
        self.counts.pauses += 1;
        self.nodes[node].paused_until = self.now + span;
        self.after(span, Event::Resume { node });
    }

    fn on_resume(&mut self, node: usize) {
        if self.nodes[node].paused_until > self.now {
            return;
        }
        for event in std::mem::take(&mut self.nodes[node].stash) {
            self.after(0, event);
        }
        self.wake_node(node);
    }

    fn on_tick(&mut self, node: usize, life: u64) {
        if !self.lives(node, life) || self.paused(node, || Event::Tick { node, life }) {
            return;
        }
        if let Some(running) = self.nodes[node].running.as_mut() {
            running.tick_at = u64::MAX;
        }
        self.trace.event(self.now, "tick", node as u64 + 1, &[]);
        self.input(node, Input::Tick);
    }

    fn on_flush(&mut self, node: usize, life: u64) {
        if !self.lives(node, life) || self.paused(node, || Event::Flush { node, life }) {
            return;
        }
        if let Some(running) = self.nodes[node].running.as_mut() {
            running.flush_due = false;
        }
        let mut deeds = Vec::new();
        self.nodes[node].flush(self.now, &mut deeds);
        let idle = deeds.is_empty();
        self.carry_out(node, deeds);
        self.check(node, idle);
        self.schedule_tick(node);
    }

    fn on_log_done(&mut self, node: usize, life: u64) {
        if !self.lives(node, life) {
            return;
        }
        self.trace.event(self.now, "synced", node as u64 + 1, &[]);
        let Some(running) = self.nodes[node].running.as_mut() else { return };
        let voted = running.votes();
        match running.end_log() {
            Ok(input) => {
                self.input(node, input);
                if voted && self.deposed.is_some_and(|deposed| deposed.leader != node) {
                    self.on_vote(node);
                }
                self.begin_log(node);
            }
            Err(_) => self.fail(node),
        }
    }

    fn begin_log(&mut self, node: usize) {
        let slow = self.swarm.slow_disk && !self.healed && self.rng.u32(0..50) == 0;
        let delay = if slow { self.rng.u64(5 * MILLI..100 * MILLI) } else { self.rng.u64(50_000..400_000) };
        let mutant = self.options.mutant;
        let life = self.nodes[node].life;
        let Some(running) = self.nodes[node].running.as_mut() else { return };
        if running.log_busy || !running.log_waits() {
            return;
        }
        match running.begin_log(mutant) {
            Ok(early) => {
                self.counts.slow_syncs += u64::from(slow);
                self.after(delay, Event::LogDone { node, life });
                // In its own turn: what this one put out comes first.
                if let Some(ticket) = early {
                    self.after(0, Event::EarlyAck { node, life, ticket });
                }
            }
            Err(_) => self.fail(node),
        }
    }

    fn on_snapshot_done(&mut self, node: usize, life: u64) {
        if !self.lives(node, life) {
            return;
        }
        let (mutant, disk) = (self.options.mutant, self.nodes[node].faulty.clone());
        let Some(running) = self.nodes[node].running.as_mut() else { return };
        running.snapshot_busy = false;
        if let Some(input) = running.snapshot_step(mutant, &disk) {
            self.counts.snapshots += u64::from(matches!(input, Input::SnapshotSaved { .. }));
            self.trace.event(self.now, "snapshot", node as u64 + 1, &[]);
            self.input(node, input);
        }
        self.begin_snapshot(node);
    }

    fn begin_snapshot(&mut self, node: usize) {
        let delay = self.rng.u64(20_000..500_000);
        let life = self.nodes[node].life;
        let Some(running) = self.nodes[node].running.as_mut() else { return };
        if !running.snapshot_busy && !running.snapshot_queue.is_empty() {
            running.snapshot_busy = true;
            self.after(delay, Event::SnapshotDone { node, life });
        }
    }

    fn on_deliver(&mut self, from: NodeId, node: usize, bytes: Bytes) {
        if self.nodes[node].running.is_none()
            || self.paused(node, || Event::Deliver { from, node, bytes: bytes.clone() })
        {
            return;
        }
        self.trace.event(self.now, "peer", node as u64 + 1, &bytes);
        match decode_frames(bytes) {
            Ok(frames) => self.input(node, Input::Peer { from, frames }),
            Err(error) => self.failure = Some(format!("node {from} sent what does not decode: {error}")),
        }
    }

    // ---- nodes

    fn start(&mut self, node: usize) {
        if self.nodes[node].running.is_some() {
            return;
        }
        let id = self.nodes[node].id;
        let nobody = Members::default();
        let members = if self.founders.contains(id) { &self.founders } else { &nobody };
        let disk: Arc<dyn Disk> = Arc::new(self.nodes[node].faulty.clone());
        let mut setup = self.workload.setup(&disk, id, members, self.options.mutant);
        if self.swarm.snapshots {
            for group in &mut setup.groups {
                group.config.snapshot_log_bytes = 4 << self.rng.u32(10..14);
                group.config.log_bytes_kept = self.rng.u64(0..8_000);
            }
        }
        // Where it is small, the largest of a node's logs make room for the others.
        let log_bytes = if self.swarm.snapshots && self.rng.bool() { 4 << self.rng.u32(10..14) } else { LOG_BYTES };
        self.trace.event(self.now, "start", id.0, &[]);
        let seed = self.options.seed.wrapping_mul(31).wrapping_add(id.0);
        if let Err(reason) = self.nodes[node].start(CLUSTER, seed, self.now, log_bytes, setup) {
            if self.nodes[node].has_failed() {
                // It did not get as far as a life of its own.
                return self.fail(node);
            }
            if self.nodes[node].flipped {
                // It knows that its disk lies, and rather stays away.
                self.trace.event(self.now, "refuses", id.0, &[]);
                return;
            }
            self.failure = Some(format!("node {id} does not start: {reason}"));
            return;
        }
        self.tell_links(node, true);
        self.wake_node(node);
    }

    /// Tells the node and its running peers that their links are up or down.
    fn tell_links(&mut self, node: usize, up: bool) {
        let id = self.nodes[node].id;
        for other in 0..self.nodes.len() {
            if other == node || self.nodes[other].running.is_none() {
                continue;
            }
            let (peer, life) = (self.nodes[other].id, self.nodes[other].life);
            let delay = self.rng.u64(100_000..5 * MILLI);
            self.after(delay, Event::Link { node: other, life, peer: id, up });
            if up {
                let life = self.nodes[node].life;
                self.after(delay, Event::Link { node, life, peer, up });
            }
        }
    }

    /// The node's disk has failed: it stops, and comes back with what the disk holds.
    fn fail(&mut self, node: usize) {
        self.counts.failed_disks += 1;
        if self.nodes[node].running.is_some() {
            return self.crash(node);
        }
        self.nodes[node].crash(&mut self.rng);
        self.workload.crashed(self.nodes[node].id);
        let down = self.rng.u64(20 * MILLI..500 * MILLI);
        self.after(down, Event::Restart { node });
    }

    fn crash(&mut self, node: usize) {
        let down = if self.healed { 50 * MILLI } else { self.rng.u64(20 * MILLI..2_000 * MILLI) };
        self.crash_for(node, down);
    }

    fn crash_for(&mut self, node: usize, down: u64) {
        if self.nodes[node].running.is_none() {
            return;
        }
        self.counts.crashes += 1;
        self.trace.event(self.now, "crash", node as u64 + 1, &[]);
        self.nodes[node].crash(&mut self.rng);
        self.workload.crashed(self.nodes[node].id);
        self.tell_links(node, false);
        self.end_streams(node);
        let lost: Vec<(usize, u64)> = self
            .connections
            .iter()
            .filter(|(_, c)| c.node == node && c.open)
            .map(|(client, c)| (*client, c.conn))
            .collect();
        for (client, conn) in lost {
            let delay = self.rng.u64(100_000..2 * MILLI);
            self.after(delay, Event::ToClient { client, conn, input: ClientInput::Disconnected });
        }
        self.after(down, Event::Restart { node });
    }

    fn wake_node(&mut self, node: usize) {
        self.schedule_flush(node);
        self.schedule_tick(node);
    }

    fn schedule_flush(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let delay = self.rng.u64(1_000..20_000);
        let Some(running) = self.nodes[node].running.as_mut() else { return };
        if !running.flush_due {
            running.flush_due = true;
            self.after(delay, Event::Flush { node, life });
        }
    }

    fn schedule_tick(&mut self, node: usize) {
        let at = self.nodes[node]
            .running
            .as_ref()
            .map_or(u64::MAX, |running| self.nodes[node].true_time(running.replica.next_wake()).max(self.now + 1_000));
        let life = self.nodes[node].life;
        let Some(running) = self.nodes[node].running.as_mut() else { return };
        if at < running.tick_at {
            running.tick_at = at;
            self.at(at, Event::Tick { node, life });
        }
    }

    fn input(&mut self, node: usize, input: Input) {
        let mut deeds = Vec::new();
        self.nodes[node].input(self.now, input, &mut deeds);
        self.carry_out(node, deeds);
        self.check(node, false);
        self.wake_node(node);
    }

    fn carry_out(&mut self, node: usize, deeds: Vec<Deed>) {
        let life = self.nodes[node].life;
        for deed in deeds {
            match deed {
                Deed::Send { to, bytes } => self.send(node, to, bytes),
                Deed::Conn(output) => self.carry_out_conn(output),
                Deed::Dial { token, addr, door } => self.dial(node, token, addr, door),
                Deed::LogWaits => self.begin_log(node),
                Deed::SnapshotWaits => self.begin_snapshot(node),
                Deed::MembersChanged => self.counts.members += 1,
                Deed::Leads { group, term } => self.check_leader(node, group, term),
                Deed::Ended(group) => {
                    self.ended.insert(group);
                }
                // It died of what it did just before.
                Deed::Fatal(_) if self.nodes[node].life != life => {}
                Deed::Fatal(_) if self.nodes[node].has_failed() => self.fail(node),
                // It knows that its disk lies, and rather stays away.
                Deed::Fatal(_) if self.nodes[node].flipped => self.crash_for(node, FOR_GOOD),
                Deed::Fatal(reason) => self.failure = Some(format!("node {}: {reason}", self.nodes[node].id)),
            }
        }
    }

    fn send(&mut self, node: usize, to: NodeId, bytes: Bytes) {
        let from = self.nodes[node].id;
        let Some(target) = self.nodes.iter().position(|other| other.id == to) else { return };
        let fates = self.network.fate(from, to, &mut self.rng);
        let straggled = fates.iter().filter(|delay| **delay > self.network.delay_max).count();
        self.counts.straggled += straggled as u64;
        match fates.len() {
            0 => self.counts.lost += 1,
            1 => {}
            _ => self.counts.doubled += 1,
        }
        for delay in fates {
            let mut at = self.now + delay;
            if self.network.in_order {
                let last = self.link_at.entry((from, to)).or_default();
                at = at.max(*last);
                *last = at;
            }
            self.at(at, Event::Deliver { from, node: target, bytes: bytes.clone() });
        }
    }

    /// Election safety (Raft §5.2): a term has one leader at most. Ballots are their proposers' own.
    fn check_leader(&mut self, node: usize, group: GroupId, term: Term) {
        let id = self.nodes[node].id;
        let leader = *self.leaders.entry((group, term)).or_insert(id);
        if leader != id && !self.ended.contains(&group) {
            self.failure = Some(format!("nodes {leader} and {id} both lead group {group} in term {term}"));
        }
    }

    /// Asserts invariants, and that replicas at one index are alike. A turn that put out and applied nothing ended as it
    /// began.
    fn check(&mut self, node: usize, idle: bool) {
        self.steps += 1;
        let id = self.nodes[node].id;
        let Some(running) = &mut self.nodes[node].running else { return };
        let applied = running.replica.digests().map(|(_, applied, _)| applied.0).sum();
        if std::mem::replace(&mut running.applied, applied) == applied && idle {
            return;
        }
        if self.steps.is_multiple_of(self.options.invariants_every) {
            running.replica.invariants();
        }
        for (group, applied, digest) in running.replica.digests() {
            match self.digests.get(&(group, applied)) {
                None => {
                    self.digests.insert((group, applied), digest);
                }
                Some(known) if *known == digest => {}
                Some(_) => {
                    self.failure =
                        Some(format!("node {id} differs from another replica of group {group} at index {applied}"));
                }
            }
        }
    }

    // ---- clients

    fn client(&mut self, client: usize, input: ClientInput) {
        let mut outputs = Vec::new();
        self.workload.on_client(ClientId(client), self.now, input, &mut self.rng, &mut outputs);
        for output in outputs {
            match output {
                ClientOutput::Wake(at) => self.at(at, Event::ClientWake { client }),
                ClientOutput::Connect(to, door) => {
                    self.drop_connection(client);
                    let Some(node) = self.nodes.iter().position(|node| node.id == to) else { continue };
                    self.next_conn += 1;
                    let (conn, life) = (self.next_conn, self.nodes[node].life);
                    let now = self.now;
                    let connection = Connection { conn, node, life, to_node_at: now, to_client_at: now, open: false };
                    self.connections.insert(client, connection);
                    let delay = self.client_delay();
                    self.after(delay, Event::Connect { client, conn, node, door });
                }
                ClientOutput::Bytes(bytes) => self.send_to_node(client, Some(bytes)),
                ClientOutput::Disconnect => self.drop_connection(client),
            }
        }
    }

    fn client_delay(&mut self) -> u64 {
        self.rng.u64(30_000..500_000)
    }

    fn drop_connection(&mut self, client: usize) {
        self.send_to_node(client, None);
        self.connections.remove(&client);
    }

    fn send_to_node(&mut self, client: usize, bytes: Option<Bytes>) {
        let delay = self.client_delay();
        let now = self.now;
        let Some(connection) = self.connections.get_mut(&client) else { return };
        connection.to_node_at = connection.to_node_at.max(now + delay);
        let (at, conn) = (connection.to_node_at, connection.conn);
        let (node, life, open) = (connection.node, connection.life, connection.open);
        if bytes.is_none() {
            // The connection is forgotten now; the node hears of it as itself.
            if open && self.lives(node, life) {
                self.input(
                    node,
                    Input::Session { service: ServiceId(0), input: SessionInput::Closed { conn: ConnId(conn) } },
                );
            }
            return;
        }
        self.at(at, Event::ToNode { client, conn, bytes });
    }

    fn on_connect(&mut self, client: usize, conn: u64, node: usize, door: Door) {
        let Some(connection) = self.connections.get(&client).filter(|c| c.conn == conn).copied() else { return };
        let up = self.lives(node, self.nodes[node].life) && self.nodes[node].paused_until <= self.now;
        if !up {
            self.connections.remove(&client);
            return self.client(client, ClientInput::Disconnected);
        }
        let life = self.nodes[node].life;
        self.connections.insert(client, Connection { life, open: true, ..connection });
        let addr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40_000 + u16::try_from(client).unwrap_or(0));
        let peer = Peer { addr, local: None, door, certificate: None };
        let input = SessionInput::Opened { conn: ConnId(conn), peer };
        self.trace.event(self.now, "open", node as u64 + 1, &[]);
        self.input(node, Input::Session { service: ServiceId(0), input });
        self.client(client, ClientInput::Connected);
    }

    fn on_to_node(&mut self, client: usize, conn: u64, bytes: Option<Bytes>) {
        let Some(connection) = self.connections.get(&client).filter(|c| c.conn == conn).copied() else { return };
        let (node, life) = (connection.node, connection.life);
        if !self.lives(node, life) || self.paused(node, || Event::ToNode { client, conn, bytes: bytes.clone() }) {
            return;
        }
        if let Some(bytes) = bytes {
            self.trace.event(self.now, "request", node as u64 + 1, &bytes);
            let input = SessionInput::Bytes { conn: ConnId(conn), bytes };
            self.input(node, Input::Session { service: ServiceId(0), input });
        }
    }

    fn carry_out_conn(&mut self, output: SessionOutput) {
        let Some(output) = self.carry_out_stream(output) else { return };
        let (conn, input) = match output {
            SessionOutput::Bytes { conn, bytes } => (conn, ClientInput::Bytes(bytes)),
            SessionOutput::FileRange { conn, range } => match range.read(usize::MAX) {
                Ok(bytes) => (conn, ClientInput::Bytes(bytes)),
                // Part of the answer may have left.
                Err(_) => (conn, ClientInput::Disconnected),
            },
            SessionOutput::Close(conn) => (conn, ClientInput::Disconnected),
            SessionOutput::Pause(_) | SessionOutput::Resume(_) | SessionOutput::Drain { .. } => return,
            SessionOutput::Propose { .. }
            | SessionOutput::Dial { .. }
            | SessionOutput::Stop
            | SessionOutput::Fatal(_)
            | SessionOutput::Call { .. }
            | SessionOutput::Inspect { .. }
            | SessionOutput::Read { .. }
            | SessionOutput::Whisper { .. }
            | SessionOutput::Wake(_) => unreachable!("the replica keeps these to itself"),
        };
        let delay = self.client_delay();
        let now = self.now;
        let found = self.connections.iter_mut().find(|(_, connection)| connection.conn == conn.0);
        let Some((client, connection)) = found else { return };
        let client = *client;
        connection.to_client_at = connection.to_client_at.max(now + delay);
        let at = connection.to_client_at;
        self.at(at, Event::ToClient { client, conn: conn.0, input });
    }

    fn on_to_client(&mut self, client: usize, conn: u64, input: ClientInput) {
        let Some(connection) = self.connections.get(&client).filter(|c| c.conn == conn).copied() else { return };
        match &input {
            ClientInput::Bytes(bytes) => self.trace.event(self.now, "reply", client as u64, bytes),
            _ => self.trace.event(self.now, "hangup", client as u64, &[]),
        }
        if input == ClientInput::Disconnected {
            self.connections.remove(&client);
            if self.lives(connection.node, connection.life) {
                let input = SessionInput::Closed { conn: ConnId(conn) };
                self.input(connection.node, Input::Session { service: ServiceId(0), input });
            }
        }
        self.client(client, input);
    }
}
