//! The step machine of one node: routes between services, groups and peers.
//!
//! Inputs are taken one by one with [`Replica::on`]; [`Replica::flush`] then ends the turn: commands that came in
//! during it share an entry, reads share a barrier, frames to one peer share a write.
//!
//! Deliberately absent: batching by time. A turn is whatever the driver found ready at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use verity_clock::Now;
use verity_contract::{
    self as contract, Channel, Consistency, Door, DutyInput, Effect, Effects, Failure, Gather, GroupRole, PersistId,
    Pieces, Service, SessionInput, SessionOutput, SnapshotMeta, Witness,
};
use verity_types::{ConnId, Digest, GroupId, Incarnation, LogIndex, Mono, Nanos, NodeId, Token};

use crate::batch::{BATCH_COMMANDS_MAX, Proposal};
use crate::certify::{Asked, Witnessed};
use crate::frame::{Frame, encode_frame};
use crate::group::{Group, GroupBoot, Step, ToApply};
use crate::lane::FORWARD_BYTES;
use crate::reads::PendingRead;
use crate::roster::Roster;
use crate::snapshot::TRANSFER_WAIT_MAX;
use crate::status::GroupStatus;
use crate::vault::{LogWork, SnapshotWork};
use crate::vouch::Tag;
pub use calls::Caller;
use held::Held;

mod calls;
mod duties;
mod held;
mod hosting;
mod snapshots;
#[cfg(test)]
mod tests;
mod vouching;

/// About how many commands are applied before their effects are delivered and other groups get their turn.
const APPLY_BUDGET: usize = 1024;
/// About how many bytes of commands are applied in one turn. A machine that keeps them in files is as slow as the disk, and
/// what peers say must not wait for that.
const APPLY_BYTES: u64 = 1024 * 1024;

/// Frames to one peer leave in writes of about this many bytes.
const WRITE_BYTES: usize = 1024 * 1024;

/// One of the services of this node, by order of [`Replica::add_service`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub usize);

/// Names one `Persist` of this node. Tickets grow by one; a later one includes the earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Who this replica is.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaConfig {
    /// This node.
    pub id: NodeId,
    /// Its start count.
    pub incarnation: Incarnation,
    /// About so many bytes of all groups' logs are held in memory.
    pub log_bytes: u64,
}

/// What happens to a node.
#[derive(Debug)]
pub enum Input {
    /// To a service: a connection, its bytes, its end.
    Session {
        /// Which service.
        service: ServiceId,
        /// What happened.
        input: SessionInput,
    },
    /// One write of a peer, authenticated.
    Peer {
        /// Who sent it.
        from: NodeId,
        /// What it said, decoded.
        frames: Vec<Frame>,
    },
    /// A connection to this peer is up.
    PeerUp(NodeId),
    /// The connection to this peer is lost.
    PeerDown(NodeId),
    /// This `Persist` and all before it are on stable storage.
    Persisted(Ticket),
    /// Time has passed: [`Replica::next_wake`] is due.
    Tick,
    /// The chunk of a snapshot that was put out is written; the next may come.
    SnapshotWritten(GroupId),
    /// The snapshot that was finished is on stable storage.
    SnapshotSaved {
        /// The group.
        group: GroupId,
        /// Its meta.
        meta: SnapshotMeta,
    },
    /// The answer to [`SnapshotWork::Adopt`].
    SnapshotAdopted {
        /// The group.
        group: GroupId,
        /// Its meta.
        meta: SnapshotMeta,
    },
    /// The snapshot could not be saved; it is given up.
    SnapshotFailed(GroupId),
    /// The answer to [`SnapshotWork::Read`]. `total` 0 says that the file is gone.
    SnapshotData {
        /// The group.
        group: GroupId,
        /// For this peer.
        to: NodeId,
        /// Which snapshot.
        index: LogIndex,
        /// Where the bytes stand in the stream.
        offset: u64,
        /// Length of the snapshot's own file, with which the stream begins.
        file: u64,
        /// Length of the stream.
        total: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// The answer to [`SnapshotWork::Receive`].
    SnapshotReceived {
        /// The group.
        group: GroupId,
        /// From this peer.
        from: NodeId,
        /// Which snapshot.
        index: LogIndex,
        /// Everything before this offset is on stable storage; `u64::MAX`: it cannot be taken.
        next: u64,
        /// Set once the file is whole and verified: the message for the engine.
        complete: Option<Bytes>,
    },
    /// The answer to [`SnapshotWork::Load`].
    SnapshotLoaded {
        /// The group.
        group: GroupId,
        /// Its meta.
        meta: SnapshotMeta,
        /// The verified chunks.
        chunks: Result<Vec<Bytes>, String>,
    },
    /// The answer to [`SnapshotWork::Found`].
    Founded(Box<GroupBoot>),
    /// The answer to [`Output::Call`] of a group's machine. A service's answer is its `Completed`.
    Called(GroupId, Bytes),
    /// A group's files cannot be used. The node must stop.
    FoundFailed {
        /// The group.
        group: GroupId,
        /// Why, in one line for an operator.
        reason: String,
    },
    /// Files of a group's machine cannot be brought to stable storage. The node must stop, whatever became of the group.
    SyncFailed {
        /// The group.
        group: GroupId,
        /// Why, in one line for an operator.
        reason: String,
    },
}

/// What a node wants.
#[derive(Debug)]
pub enum Output {
    /// For a service's connection: `Bytes`, `Pause`, `Resume` or `Close`.
    Conn(SessionOutput),
    /// Send this write to a peer. May be lost.
    Send {
        /// The peer.
        to: NodeId,
        /// Frames.
        bytes: Bytes,
        /// Small, and of use only while it is fresh: it is to overtake what is not urgent.
        urgent: bool,
    },
    /// For the log.
    Log(LogWork),
    /// For the snapshot files.
    Snapshot(SnapshotWork),
    /// This node's standing in a group changed. For logs and metrics.
    Role {
        /// The group.
        group: GroupId,
        /// How it stands.
        role: GroupRole,
    },
    /// A group's members changed. The driver connects to them.
    Members {
        /// The group.
        group: GroupId,
        /// Who they are.
        members: contract::Members,
        /// Where those are met that joined since the group began.
        roster: Roster,
    },
    /// The answer to [`Replica::propose`] or [`Replica::read`].
    Answer {
        /// Which.
        token: Token,
        /// The state machine's bytes.
        result: Result<Bytes, Failure>,
    },
    /// Ask outside of the order; [`Input::Called`] or the service's `Completed` answers.
    Call {
        /// Who asks.
        caller: Caller,
        /// Whom.
        channel: Channel,
        /// The system's own bytes.
        ask: Bytes,
    },
    /// Connect to somebody for a service; its `Dialed` answers.
    Dial {
        /// Which service.
        service: ServiceId,
        /// Comes back.
        token: Token,
        /// Where.
        addr: String,
        /// Which of its doors the connection is counted to.
        door: Door,
    },
    /// A service asks for the node's end, in order.
    Stop,
    /// A proof that a member misbehaved.
    Evidence {
        /// The group.
        group: GroupId,
        /// The engine's bytes.
        bytes: Bytes,
    },
    /// The node must stop: going on would serve what it should not. The text says why.
    Fatal(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Waker {
    Service(ServiceId),
    Duty(GroupId),
}

/// Whose answers go to the driver itself.
const OPERATOR: ServiceId = ServiceId(usize::MAX);

#[derive(Debug)]
pub(crate) enum Work {
    Service(ServiceId, SessionInput),
    Read(GroupId, PendingRead),
    DutyEvent(GroupId, Bytes, Bytes),
}

/// The tick behind `now`. Groups of a node tick at the same moments, so that what they have to say to a peer (heartbeats
/// above all) shares a write, however many groups there are. Nodes tick at different moments, so that no two of them stand
/// for election at once more often than they must.
fn tick_after(now: Mono, interval: Nanos, node: NodeId) -> Mono {
    let interval = interval.0.max(1);
    let phase = node.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) % interval;
    let passed = (now.0 % interval + interval - phase) % interval;
    now + Nanos(interval - passed)
}

/// The step machine of one node.
pub struct Replica {
    config: ReplicaConfig,
    groups: BTreeMap<GroupId, Group>,
    /// Groups that something happened to in this turn, and those that are not done with what happened before.
    active: BTreeSet<GroupId>,
    /// When each group ticks next.
    ticks: BTreeSet<(Mono, GroupId)>,
    /// Groups that a machine asked for and that are being started, and whose machine that was.
    founding: BTreeMap<GroupId, GroupId>,
    /// Started for nothing: so many answers about each are not to be heeded.
    abandoned: BTreeMap<GroupId, usize>,
    /// In the order of their tickets.
    retiring: VecDeque<hosting::Retiring>,
    /// Groups that storage held something of at the start, and those that were hosted since.
    stored: BTreeSet<GroupId>,
    /// How often a group was hosted in this life.
    hostings: u64,
    services: Vec<Box<dyn Service>>,
    work: VecDeque<Work>,
    /// Certificates that this node asks for, by their tokens.
    asked: BTreeMap<Token, Asked>,
    /// Answers that it is to sign for others.
    witnessed: BTreeMap<Token, Witnessed>,
    next_witnessed: u64,
    tickets: VecDeque<(Ticket, GroupId, PersistId)>,
    next_ticket: u64,
    /// What waits for each peer: first what is urgent, then what is not.
    outbox: BTreeMap<(NodeId, bool), BytesMut>,
    /// What all groups' logs hold.
    held: Held,
    /// Groups whose snapshots are under way.
    saving: BTreeSet<GroupId>,
    /// Enough snapshots are under way to make room: none is looked for until one of them ends.
    relief_waits: bool,
    /// Bytes that may still be applied in this turn.
    apply_bytes: u64,
    wakes: BTreeSet<(Mono, Waker)>,
    /// Peers that there is a connection to.
    up: BTreeSet<NodeId>,
    session_out: Vec<SessionOutput>,
    out: Vec<Output>,
}

impl Replica {
    /// A node with no groups and no services.
    #[must_use]
    pub fn new(config: ReplicaConfig) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
            active: BTreeSet::new(),
            ticks: BTreeSet::new(),
            founding: BTreeMap::new(),
            abandoned: BTreeMap::new(),
            retiring: VecDeque::new(),
            stored: BTreeSet::new(),
            hostings: 0,
            services: Vec::new(),
            work: VecDeque::new(),
            asked: BTreeMap::new(),
            witnessed: BTreeMap::new(),
            next_witnessed: 0,
            tickets: VecDeque::new(),
            next_ticket: 0,
            outbox: BTreeMap::new(),
            held: Held::default(),
            saving: BTreeSet::new(),
            relief_waits: false,
            apply_bytes: APPLY_BYTES,
            wakes: BTreeSet::new(),
            up: BTreeSet::new(),
            session_out: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Hosts a service. It hears `Wake` once, soon.
    pub fn add_service(&mut self, service: Box<dyn Service>) -> ServiceId {
        self.services.push(service);
        let id = ServiceId(self.services.len() - 1);
        self.wakes.insert((Mono(0), Waker::Service(id)));
        id
    }

    /// What a service wants to become of bytes that a connection brought.
    #[must_use]
    pub fn gather(&self, service: ServiceId, conn: ConnId, bytes: &[u8]) -> Gather {
        self.services[service.0].gather(conn, bytes)
    }

    /// The earliest moment at which [`Input::Tick`] is wanted.
    #[must_use]
    pub fn next_wake(&self) -> Mono {
        let tick = self.ticks.first().map_or(Mono(u64::MAX), |(at, _)| *at);
        self.wakes.first().map_or(tick, |(at, _)| tick.min(*at))
    }

    /// How many services there are.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// True if committed entries wait to be applied: call [`Replica::flush`] again without waiting for input.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        self.active.iter().any(|id| self.groups.get(id).is_some_and(Group::has_backlog))
    }

    /// How each group is.
    #[must_use]
    pub fn status(&self) -> Vec<GroupStatus> {
        self.groups.values().map(Group::status).collect()
    }

    /// The fingerprint of each group's state, and the index that it is of.
    pub fn digests(&self) -> impl Iterator<Item = (GroupId, LogIndex, Digest)> + '_ {
        let settled = self.groups.values().filter(|group| !group.installing && !group.void && !group.calling);
        settled.map(|group| (group.id, group.applied, group.machine.digest()))
    }

    /// Takes one input.
    pub fn on(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Session { service, input } => self.work.push_back(Work::Service(service, input)),
            Input::Peer { from, frames } => self.on_peer(now, from, frames),
            Input::PeerUp(node) => self.on_peer_up(now, node),
            Input::PeerDown(node) => self.on_peer_down(now, node),
            Input::Persisted(ticket) => self.on_persisted(now, ticket),
            Input::Tick => self.on_tick(now),
            Input::SnapshotWritten(group) => self.on_snapshot_written(group),
            Input::SnapshotSaved { group, meta } => self.on_snapshot_saved(now, group, meta),
            Input::SnapshotAdopted { group, meta } => self.on_snapshot_adopted(now, group, meta),
            Input::SnapshotFailed(group) => {
                self.end_saving(group);
                self.with(group, |group| (group.saving, group.snapshot_failed_at) = (None, Some(now.mono)));
            }
            Input::SnapshotData { group, to, index, offset, file, total, bytes } => {
                self.on_snapshot_data(now, group, to, index, offset, file, total, bytes);
            }
            Input::SnapshotReceived { group, from, index, next, complete } => {
                self.post(from, &Frame::SnapshotAck { group, index, next });
                if let Some(bytes) = complete {
                    self.step(now, group, contract::Input::Message { from, bytes });
                }
            }
            Input::SnapshotLoaded { group, meta, chunks } => self.on_snapshot_loaded(now, group, meta, chunks),
            Input::Founded(boot) => self.on_founded(now, *boot),
            Input::Called(group, answer) => self.on_called(now, group, answer),
            Input::FoundFailed { group, .. } if self.was_abandoned(group) => {}
            Input::FoundFailed { group, reason } | Input::SyncFailed { group, reason } => {
                self.out.push(Output::Fatal(format!("group {group}: {reason}")));
            }
        }
        self.pump(now);
        out.append(&mut self.out);
    }

    /// Ends a turn: proposes, forwards, asks barriers, applies, sends.
    pub fn flush(&mut self, now: Now, out: &mut Vec<Output>) {
        self.apply_bytes = APPLY_BYTES;
        for id in self.active_groups() {
            self.flush_group(now, id);
        }
        self.pump(now);
        self.take_snapshots(now);
        for id in self.active_groups() {
            self.tell_replies(id);
        }
        self.active.retain(|id| self.groups.get(id).is_some_and(Group::has_backlog));
        for ((to, bulk), bytes) in std::mem::take(&mut self.outbox) {
            if !bytes.is_empty() {
                self.out.push(Output::Send { to, bytes: bytes.freeze(), urgent: !bulk });
            }
        }
        out.append(&mut self.out);
    }

    /// Places a command of the driver's own, for an operator, in a group's order. [`Output::Answer`] follows.
    pub fn propose(&mut self, now: Now, group: GroupId, token: Token, command: Bytes) {
        self.on_propose(now, OPERATOR, token, group, command.into());
    }

    /// Asks a group's state machine on behalf of an operator. [`Output::Answer`] follows.
    pub fn read(&mut self, now: Now, group: GroupId, token: Token, query: Bytes, consistency: Consistency) {
        self.on_read(group, PendingRead { service: OPERATOR, token, query, since: now.mono }, consistency);
    }

    /// Asks `to` to lead a group.
    ///
    /// # Errors
    /// Why it cannot be asked, in one line.
    pub fn transfer(&mut self, now: Now, group: GroupId, to: NodeId) -> Result<(), String> {
        let mut outputs = Vec::new();
        let hosted = self.groups.get_mut(&group).ok_or_else(|| format!("this node does not host group {group}"))?;
        if !hosted.role.leads {
            let leader = hosted.role.leader.map_or_else(|| "nobody".into(), |leader| format!("node {leader}"));
            return Err(format!("this node does not lead group {group}; {leader} does"));
        }
        let engine = hosted.engine.transfer().ok_or("this agreement's leadership cannot be handed over")?;
        engine.on_transfer(now.mono, to, &mut outputs);
        self.absorb(now, group, outputs);
        Ok(())
    }

    /// Asserts what must always hold.
    pub fn invariants(&self) {
        self.groups.values().for_each(Group::invariants);
        self.services.iter().for_each(|service| service.invariants());
        assert!(self.work.is_empty(), "a step leaves no work behind");
    }

    fn with(&mut self, group: GroupId, f: impl FnOnce(&mut Group)) {
        if let Some(hosted) = self.groups.get_mut(&group) {
            self.active.insert(group);
            f(hosted);
        }
    }

    fn active_groups(&self) -> Vec<GroupId> {
        self.active.iter().copied().collect()
    }

    fn post(&mut self, to: NodeId, frame: &Frame) {
        self.post_as(false, to, frame);
    }

    fn post_as(&mut self, urgent: bool, to: NodeId, frame: &Frame) {
        let waits = self.outbox.entry((to, !urgent)).or_default();
        encode_frame(frame, waits);
        if waits.len() >= WRITE_BYTES {
            let bytes = std::mem::take(waits).freeze();
            self.out.push(Output::Send { to, bytes, urgent });
        }
    }

    // ---- peers

    fn on_peer(&mut self, now: Now, from: NodeId, frames: Vec<Frame>) {
        for frame in frames {
            match frame {
                Frame::Agreement { group, bytes } => {
                    let comes_alone = |witness: &dyn Witness| witness.comes_with_snapshot(&bytes);
                    if !self.groups.get(&group).and_then(|hosted| hosted.engine.witness()).is_some_and(comes_alone) {
                        self.step(now, group, contract::Input::Message { from, bytes });
                    }
                }
                Frame::Forward { group, proposals } => self.with(group, |group| {
                    let own = proposals.iter().all(|p| p.request.origin == from);
                    if group.role.leads && group.members.contains(from) && own {
                        group.take_in(proposals);
                    }
                }),
                Frame::Whisper { group, bytes } => self.call_duty(now, group, |_| DutyInput::Whisper { from, bytes }),
                Frame::SnapshotChunk { group, meta, offset, file, total, bytes, message } => {
                    if let Some(hosted) = self.groups.get(&group).filter(|hosted| !hosted.adopting) {
                        let trusted = hosted.trusts();
                        self.out.push(Output::Snapshot(SnapshotWork::Receive {
                            group,
                            from,
                            meta,
                            offset,
                            file,
                            total,
                            bytes,
                            message,
                            trusted,
                        }));
                    }
                }
                Frame::SnapshotAck { group, index, next } => self.on_snapshot_ack(now, group, from, index, next),
                Frame::Told { group, tags } => self.on_told(from, group, &tags),
                Frame::TellAgain { group, incarnation, first } => self.on_tell_again(from, group, incarnation, first),
                Frame::Certify { group, token, index, query } => self.on_certify(now, from, group, token, index, query),
                Frame::Signed { token, signature, .. } => self.on_signed(from, token, signature),
            }
        }
    }

    fn on_peer_up(&mut self, now: Now, node: NodeId) {
        self.up.insert(node);
        for group in self.groups.values_mut().filter(|group| group.role.leader == Some(node)) {
            group.resend(now.mono);
            self.active.insert(group.id);
        }
    }

    fn on_peer_down(&mut self, now: Now, node: NodeId) {
        self.up.remove(&node);
        let ids: Vec<GroupId> =
            self.groups.values().filter(|group| group.members.contains(node)).map(|group| group.id).collect();
        for id in ids {
            self.step(now, id, contract::Input::Unreachable(node));
        }
    }

    // ---- time

    fn on_tick(&mut self, now: Now) {
        self.look_after_certificates(now.mono);
        while let Some((at, waker)) = self.wakes.first().copied() {
            if at > now.mono {
                break;
            }
            self.wakes.pop_first();
            match waker {
                Waker::Service(service) => self.work.push_back(Work::Service(service, SessionInput::Wake)),
                Waker::Duty(group) => self.call_duty(now, group, DutyInput::Wake),
            }
        }
        while let Some((at, id)) = self.ticks.first().copied() {
            if at > now.mono {
                break;
            }
            self.ticks.pop_first();
            self.look_after_replies(now, id);
            self.tick_group(now, id);
            self.plan_tick(now, id);
        }
    }

    /// A group ticks when its engine wants it now.
    fn plan_tick(&mut self, now: Now, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        self.ticks.remove(&(group.tick_at, id));
        group.tick_at = tick_after(now.mono, group.engine.tick_interval(), self.config.id);
        self.ticks.insert((group.tick_at, id));
    }

    fn tick_group(&mut self, now: Now, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.refused = false;
        group.reads.on_tick();
        if group.lane.stalled(now.mono) {
            group.resend(now.mono);
        }
        for read in group.reads.expired(now.mono) {
            let result = Err(Failure::Unavailable);
            self.work.push_back(Work::Service(read.service, SessionInput::Completed { token: read.token, result }));
        }
        let silent: Vec<NodeId> = group
            .sending
            .extract_if(.., |_, sending| now.mono.since(sending.heard_at) >= TRANSFER_WAIT_MAX)
            .map(|(to, _)| to)
            .collect();
        for to in silent {
            self.step(now, id, contract::Input::SnapshotSent { to, delivered: false });
        }
        let group = self.groups.get_mut(&id).expect("a group is not retired by its own tick");
        let mut outputs = Vec::new();
        group.engine.set_wall(now.mono, now.wall_ms());
        group.engine.on(now.mono, contract::Input::Tick, &mut outputs);
        // Most ticks of most groups lead to nothing, and then cost the turn nothing more.
        if !outputs.is_empty() || group.has_chores(now.mono) {
            self.active.insert(id);
        }
        self.absorb(now, id, outputs);
        self.drive_change(now, id);
    }

    // ---- the engine

    fn step(&mut self, now: Now, group: GroupId, input: contract::Input) {
        let mut outputs = Vec::new();
        let Some(hosted) = self.groups.get_mut(&group) else { return };
        self.active.insert(group);
        hosted.engine.on(now.mono, input, &mut outputs);
        // Who has slept ticks often from now on.
        if hosted.tick_at > now.mono + hosted.engine.tick_interval() {
            self.plan_tick(now, group);
        }
        self.absorb(now, group, outputs);
    }

    fn absorb(&mut self, now: Now, group: GroupId, outputs: Vec<contract::Output>) {
        for output in outputs {
            self.on_engine_output(now, group, output);
        }
    }

    fn on_engine_output(&mut self, now: Now, id: GroupId, output: contract::Output) {
        use contract::Output as From;
        let group = self.groups.get_mut(&id).expect("engines speak only while hosted");
        match output {
            From::Persist { id: persist, records } => {
                self.next_ticket += 1;
                let ticket = Ticket(self.next_ticket);
                self.tickets.push_back((ticket, id, persist));
                self.out.push(Output::Log(LogWork::Persist { ticket, group: id, records }));
            }
            From::Send { to, bytes, after, urgent } => match after {
                Some(after) if after > group.persisted => group.held.push((after, to, bytes, urgent)),
                _ => self.post_as(urgent, to, &Frame::Agreement { group: id, bytes }),
            },
            From::Commit(entries) => {
                group.queue.extend(entries.into_iter().map(ToApply::Entry));
                // An engine that had too much under way has less now.
                group.refused = false;
            }
            From::InstallSnapshot(meta) => {
                // What is queued is included in the snapshot, or would be void behind it.
                group.queue.clear();
                group.queue.push_back(ToApply::Install(meta));
            }
            From::Checkpoint { index } => group.queue.push_back(ToApply::Checkpoint(index)),
            From::Revert { to } => group.machine.undo(to),
            From::Final(_) => {}
            From::ReadReady { id: barrier, index } => group.reads.on_ready(barrier, index),
            From::ReadFailed(barrier) => group.reads.on_failed(barrier),
            From::Role { leader, term, leads } => self.on_role(now, id, leader, term, leads),
            From::Refused(entry) => group.on_refused(entry),
            From::Judge { index, payload } => {
                let verdict = group.machine.judge(&payload);
                self.step(now, id, contract::Input::Verdict { index, verdict });
            }
            From::OfferSnapshot { to, meta, message } => self.offer_snapshot(now, id, to, meta, message),
            From::WantSnapshot => group.snapshot_wanted = true,
            From::StateRefused { index } => {
                (group.void, group.adopting) = (true, false);
                group.saved = None;
                group.queue.clear();
                self.out.push(Output::Snapshot(SnapshotWork::Discard { group: id, index }));
            }
            From::Evidence(bytes) => self.out.push(Output::Evidence { group: id, bytes }),
        }
    }

    fn on_role(&mut self, now: Now, id: GroupId, leader: Option<NodeId>, term: verity_types::Term, leads: bool) {
        let node = self.config.id;
        let group = self.groups.get_mut(&id).expect("engines speak only while hosted");
        let votes = group.members.voters.contains(&node);
        let role = GroupRole { leader, term, leads, votes };
        if role == group.role {
            return;
        }
        group.role = role;
        let abandoned = group.step_down();
        group.resend(now.mono);
        self.out.push(Output::Role { group: id, role });
        self.tell_services(id, &SessionInput::Role { group: id, role });
        self.call_duty_always(now, id, |_| DutyInput::Follow);
        // An engine that offers snapshots whoever leads would wait for their ends, and offer these peers none again.
        for to in abandoned {
            self.step(now, id, contract::Input::SnapshotSent { to, delivered: false });
        }
    }

    fn on_persisted(&mut self, now: Now, upto: Ticket) {
        let mut last: BTreeMap<GroupId, PersistId> = BTreeMap::new();
        while let Some((ticket, group, id)) = self.tickets.front().copied() {
            if ticket > upto {
                break;
            }
            self.tickets.pop_front();
            last.insert(group, id);
        }
        for (id, persisted) in last {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.persisted = persisted;
            let due: Vec<_> = group.held.extract_if(.., |(after, ..)| *after <= persisted).collect();
            for (_, to, bytes, urgent) in due {
                self.post_as(urgent, to, &Frame::Agreement { group: id, bytes });
            }
            self.step(now, id, contract::Input::Persisted(persisted));
        }
        self.end_retiring(now, upto);
    }

    // ---- the end of a turn

    fn flush_group(&mut self, now: Now, id: GroupId) {
        if let Some(to) = self.groups.get_mut(&id).and_then(|group| group.heir.take()) {
            // Whoever wishes for what cannot be now asks again.
            drop(self.transfer(now, id, to));
        }
        let Some(group) = self.groups.get_mut(&id) else { return };
        if group.reads.has_gathered() && group.role.leader.is_some() {
            let barrier = group.reads.begin_barrier();
            let mut outputs = Vec::new();
            match group.engine.barrier() {
                Some(engine) => engine.on_barrier(now.mono, barrier, &mut outputs),
                None => group.reads.on_ready(barrier, group.applied),
            }
            self.absorb(now, id, outputs);
        }
        let group = self.groups.get_mut(&id).expect("the id was just read from the map");
        if group.proposes() {
            self.propose_entries(now, id);
        } else if !group.role.leads
            && let Some(leader) = group.role.leader
            && group.lane.has_unsent()
        {
            let mut proposals: Vec<Proposal> = group.lane.unsent(FORWARD_BYTES).collect();
            while !proposals.is_empty() {
                let rest = proposals.split_off(crate::batch::fitting(proposals.iter(), BATCH_COMMANDS_MAX));
                self.post(leader, &Frame::Forward { group: id, proposals });
                proposals = rest;
            }
        }
    }

    fn propose_entries(&mut self, now: Now, id: GroupId) {
        let group = self.groups.get_mut(&id).expect("the id was just read from the map");
        let own: Vec<Proposal> = group.lane.unsent(usize::MAX).collect();
        group.inbox.extend(own);
        group.sort_inbox();
        loop {
            let group = self.groups.get_mut(&id).expect("a group is not retired while it proposes");
            if group.refused || !group.proposes() {
                return;
            }
            let Some(entry) = group.next_entry(now.wall_ms()) else { return };
            self.step(now, id, contract::Input::Propose(entry));
        }
    }

    // ---- applying and delivering

    /// Delivers what waits and applies what is committed, in turns, until neither is left or the budget is spent.
    fn pump(&mut self, now: Now) {
        self.deliver(now);
        for id in self.active_groups() {
            self.apply_group(now, id);
        }
    }

    fn apply_group(&mut self, now: Now, id: GroupId) {
        let mut effects = Effects::default();
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.snapshot_due = group.wants_snapshot(now.mono) && group.may_begin(now.mono);
        let step = group.apply_some(APPLY_BUDGET, &mut self.apply_bytes, &mut effects);
        self.on_step(now, id, step, effects);
    }

    fn on_step(&mut self, now: Now, id: GroupId, step: Step, effects: Effects) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        match step {
            Step::Idle => {}
            Step::Called => return self.deliver_part(now, id, effects),
            Step::Load(meta) => {
                let trusted = group.trusts();
                group.adopting = !trusted;
                self.out.push(Output::Snapshot(SnapshotWork::Load { group: id, meta, trusted }));
            }
            Step::Applied => {
                group.applied_at = now.mono;
                let applied = group.applied;
                if std::mem::take(&mut group.members_changed) {
                    let (members, roster) = (group.members.clone(), group.roster.clone());
                    self.out.push(Output::Members { group: id, members, roster });
                }
                self.queue_effects(now, id, effects);
                self.deliver(now);
                self.step(now, id, contract::Input::Applied(applied));
                let Some(group) = self.groups.get_mut(&id) else { return };
                if group.becomes_ready() {
                    self.call_duty(now, id, DutyInput::Lead);
                }
            }
        }
        let Some(group) = self.groups.get_mut(&id) else { return };
        for (index, digest) in std::mem::take(&mut group.checkpoints) {
            self.step(now, id, contract::Input::Checkpointed { index, digest });
        }
        let Some(group) = self.groups.get_mut(&id) else { return };
        for read in group.reads.runnable(group.whole()) {
            self.work.push_back(Work::Read(id, read));
        }
        self.end_replay(now, id);
        self.deliver(now);
    }

    fn queue_effects(&mut self, now: Now, id: GroupId, effects: Effects) {
        for effect in effects.list {
            match effect {
                Effect::Reply { request, bytes } => {
                    let Some(group) = self.groups.get_mut(&id) else { continue };
                    if let Some(waiting) = group.lane.applied(now.mono, request) {
                        self.reply(now, id, request, &waiting, bytes);
                    } else if !group.trusts() && ![NodeId(0), self.config.id].contains(&request.origin) {
                        group.vouching.note(request, Tag::of(&bytes));
                    }
                }
                Effect::Event { topic, bytes } => {
                    self.in_order(id, Work::DutyEvent(id, topic.clone(), bytes.clone()));
                    self.tell_services(id, &SessionInput::Event { group: id, topic, bytes });
                }
                Effect::Spawn(spawn) => self.on_spawn_effect(now, id, spawn),
                Effect::Retire(group) => self.on_retire_effect(id, group),
                Effect::Call(ask) => self.on_call_effect(id, ask),
                Effect::Fail(reason) => return self.out.push(Output::Fatal(format!("group {id}: {reason}"))),
            }
        }
    }

    /// Every service hears of it, in the group's order.
    fn tell_services(&mut self, group: GroupId, input: &SessionInput) {
        for index in 0..self.services.len() {
            self.in_order(group, Work::Service(ServiceId(index), input.clone()));
        }
    }

    fn deliver(&mut self, now: Now) {
        while let Some(work) = self.work.pop_front() {
            match work {
                Work::Service(service, input) => {
                    if let Some((service, input)) = self.take_own(service, input) {
                        self.call_service(now, service, input);
                    }
                }
                Work::Read(group, read) => self.run_read(group, read),
                Work::DutyEvent(group, topic, bytes) => {
                    self.call_duty(now, group, |_| DutyInput::Event { topic: &topic, bytes: &bytes });
                }
            }
        }
    }

    fn call_service(&mut self, now: Now, id: ServiceId, input: SessionInput) {
        let mut outputs = std::mem::take(&mut self.session_out);
        self.services[id.0].on(now, input, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                SessionOutput::Propose { token, group, command } => self.on_propose(now, id, token, group, command),
                SessionOutput::Read { token, group, query, consistency } => {
                    let read = PendingRead { service: id, token, query, since: now.mono };
                    self.on_read(group, read, consistency);
                }
                SessionOutput::Call { token, channel, ask } => {
                    self.out.push(Output::Call { caller: Caller::Service(id, token), channel, ask });
                }
                SessionOutput::Inspect { token, group } => {
                    let facts = self.groups.get(&group).map(|group| group.facts().encode());
                    let result = facts.ok_or(Failure::NoSuchGroup);
                    self.work.push_back(Work::Service(id, SessionInput::Completed { token, result }));
                }
                SessionOutput::Dial { token, addr, door } => {
                    self.out.push(Output::Dial { service: id, token, addr, door });
                }
                SessionOutput::Stop => self.out.push(Output::Stop),
                SessionOutput::Fatal(reason) => self.out.push(Output::Fatal(reason)),
                SessionOutput::Whisper { group, bytes } => self.on_whisper(now, group, bytes),
                SessionOutput::Wake(at) => {
                    self.wakes.insert((at, Waker::Service(id)));
                }
                other => self.out.push(Output::Conn(other)),
            }
        }
        self.session_out = outputs;
    }

    fn on_propose(&mut self, now: Now, service: ServiceId, token: Token, group: GroupId, command: Pieces) {
        let failure = match self.groups.get_mut(&group) {
            None => Failure::NoSuchGroup,
            Some(hosted) => match hosted.lane.push(now.mono, service, token, command) {
                Ok(()) => {
                    self.active.insert(group);
                    return;
                }
                Err(_) => Failure::Overloaded,
            },
        };
        let input = SessionInput::Completed { token, result: Err(failure) };
        self.work.push_back(Work::Service(service, input));
    }

    fn on_read(&mut self, group: GroupId, read: PendingRead, consistency: Consistency) {
        let (service, token) = (read.service, read.token);
        let failure = match self.groups.get_mut(&group) {
            None => Failure::NoSuchGroup,
            Some(hosted) => {
                let taken = match consistency {
                    Consistency::Local => {
                        self.work.push_back(Work::Read(group, read));
                        return;
                    }
                    Consistency::Linearizable => hosted.reads.gather(read),
                    Consistency::AtLeast(index) => hosted.reads.wait_for(index, read),
                };
                if taken {
                    self.active.insert(group);
                    return;
                }
                Failure::Overloaded
            }
        };
        self.work.push_back(Work::Service(service, SessionInput::Completed { token, result: Err(failure) }));
    }

    fn run_read(&mut self, id: GroupId, read: PendingRead) {
        let Some(group) = self.groups.get_mut(&id) else {
            let input = SessionInput::Completed { token: read.token, result: Err(Failure::NoSuchGroup) };
            return self.work.push_back(Work::Service(read.service, input));
        };
        let token = read.token;
        if group.void {
            let input = SessionInput::Completed { token, result: Err(Failure::Unavailable) };
            return self.in_order(id, Work::Service(read.service, input));
        }
        let input = match group.machine.read(&read.query) {
            contract::ReadOutcome::Ready(bytes) => SessionInput::Completed { token, result: Ok(bytes) },
            contract::ReadOutcome::InFile(bytes, range) => SessionInput::CompletedInFile { token, bytes, range },
            contract::ReadOutcome::WaitFor(index) => {
                let (service, token) = (read.service, read.token);
                if !group.reads.wait_for(index, read) {
                    let result = Err(Failure::Overloaded);
                    self.work.push_back(Work::Service(service, SessionInput::Completed { token, result }));
                }
                return;
            }
        };
        self.in_order(id, Work::Service(read.service, input));
    }
}
