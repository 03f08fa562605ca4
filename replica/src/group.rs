//! One group on this node: its engine, its state machine, its lane, and what waits between them.
//!
//! Deliberately absent: services and peers (the replica routes) and any call across groups.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use verity_contract::codec::put_members;
use verity_contract::{
    Agreement, Attachment, Committed, CommittedKind, Duty, Effects, GroupFacts, GroupRole, Members, Part, PersistId,
    SnapshotMeta, StateMachine, Witness,
};
use verity_types::{Digest, GroupId, Incarnation, LogIndex, Mono, Nanos, NodeId, Term, WallMs};

use crate::batch::{self, Batch, Proposal};
use crate::change::{self, Changing};
use crate::lane::{LANE_PROPOSALS_MAX, Lane, Lanes, life_of_lane};
use crate::reads::Reads;
use crate::replica::Work;
use crate::roster::{Context, Roster};
use crate::snapshot::{Restored, Saving, Sending};
use crate::status::{GroupStatus, LaneStatus};
use crate::vouch::{Behind, Vouching};

/// After a snapshot that could not be saved, the next is taken no sooner.
const SNAPSHOT_PAUSE: Nanos = Nanos::from_millis(1_000);

/// How a group is run.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// A snapshot is taken once this many bytes of log were applied since the last one.
    pub snapshot_log_bytes: u64,
    /// One is also taken once nothing was applied for this long and this many bytes of log would have to be replayed, so
    /// that a group at rest holds no log in memory and starts at once.
    pub rest: (Nanos, u64),
    /// About this many bytes of log before a snapshot stay, so that a peer that is a little behind needs no snapshot.
    pub log_bytes_kept: u64,
    /// So many commands share an entry at most, one at least; [`batch::BATCH_COMMANDS_MAX`] bounds it further. Where an entry
    /// is what a member signs, so many share a signature.
    pub entry_commands_max: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            snapshot_log_bytes: 32 << 20,
            rest: (Nanos::from_millis(1_000), 4 << 20),
            log_bytes_kept: 4 << 20,
            entry_commands_max: batch::BATCH_COMMANDS_MAX,
        }
    }
}

/// What a driver hosts a group with.
pub struct GroupBoot {
    /// Its id.
    pub id: GroupId,
    /// Its engine, started from what stable storage held.
    pub engine: Box<dyn Agreement>,
    /// Its state machine, restored from the latest snapshot, if there is one.
    pub machine: Box<dyn StateMachine>,
    /// What its leader does besides.
    pub duty: Option<Box<dyn Duty>>,
    /// Where it starts: the default for a new group, or what [`crate::restore_group`] gave.
    pub restored: Restored,
    /// How it is run.
    pub config: GroupConfig,
}

impl GroupBoot {
    /// Up to where a log is to be applied again that reaches beyond the state.
    pub(crate) fn replays_to(&self) -> Option<LogIndex> {
        Some(self.engine.status().last).filter(|last| *last > self.restored.meta.index)
    }
}

impl std::fmt::Debug for GroupBoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupBoot").field("id", &self.id).field("restored", &self.restored).finish_non_exhaustive()
    }
}

/// What is next for the state machine.
#[derive(Debug)]
pub(crate) enum ToApply {
    Entry(Committed),
    /// The engine wants the state's digest here.
    Checkpoint(LogIndex),
    Install(SnapshotMeta),
}

/// What one step of applying did.
pub(crate) enum Step {
    /// Nothing is left, or a snapshot is being loaded.
    Idle,
    /// Entries were applied up to here.
    Applied,
    /// The last entry is applied in part, and the machine waits for an answer from outside.
    Called,
    /// The driver is to load this snapshot.
    Load(SnapshotMeta),
}

pub(crate) struct Group {
    pub(crate) id: GroupId,
    /// The group whose machine asked for this one; none for those that the node begins with.
    pub(crate) parent: Option<GroupId>,
    pub(crate) engine: Box<dyn Agreement>,
    pub(crate) machine: Box<dyn StateMachine>,
    pub(crate) duty: Option<Box<dyn Duty>>,
    pub(crate) config: GroupConfig,
    pub(crate) members: Members,
    /// The driver was not told of the members yet.
    pub(crate) members_changed: bool,
    /// Where members that joined are met.
    pub(crate) roster: Roster,
    /// What the joint change under way carries.
    context: Bytes,
    /// On a leader: the change of members under way.
    pub(crate) changing: Option<Changing>,
    /// On a leader: what became of it, for the duty.
    pub(crate) changed: Option<Result<(), String>>,
    /// On a leader: whom the duty wants to lead.
    pub(crate) heir: Option<NodeId>,
    pub(crate) role: GroupRole,
    /// True once this node leads and has applied everything from before its term.
    pub(crate) ready: bool,
    pub(crate) lane: Lane,
    /// Replies that wait for others' word, and what is behind them.
    pub(crate) behind: VecDeque<Behind<Work>>,
    pub(crate) vouching: Vouching,
    /// When others' words were last asked for again.
    pub(crate) asked_at: Mono,
    lanes: Lanes,
    /// On a leader: how far each lane is proposed.
    ahead: Lanes,
    /// On a leader: as it came in.
    pub(crate) inbox: Vec<Proposal>,
    /// On a leader: to be proposed next, in order, each once.
    pub(crate) to_propose: VecDeque<Proposal>,
    /// On a leader: the engine takes nothing more before something is committed, or time has passed.
    pub(crate) refused: bool,
    stamped: WallMs,
    time: WallMs,
    pub(crate) persisted: PersistId,
    pub(crate) held: Vec<(PersistId, NodeId, Bytes, bool)>,
    pub(crate) queue: VecDeque<ToApply>,
    /// Digests that the engine was not told yet.
    pub(crate) checkpoints: Vec<(LogIndex, Digest)>,
    pub(crate) installing: bool,
    /// What was installed came from a peer that may lie, and is not adopted yet: no other of its index may take its place.
    pub(crate) adopting: bool,
    /// The state that was installed is none: what was sent was not what its proof speaks of.
    pub(crate) void: bool,
    /// A snapshot is wanted, and this is a place where one may be taken: nothing more is applied before it is begun.
    pub(crate) holds: bool,
    /// The machine waits for an answer from outside, in the midst of the entry that was applied last.
    pub(crate) calling: bool,
    /// The machine cannot go on.
    failed: bool,
    pub(crate) applied: LogIndex,
    applied_term: Term,
    pub(crate) reads: Reads,
    pub(crate) log_bytes: u64,
    /// The entries that the log still holds, applied ones, with their sizes.
    sizes: VecDeque<(LogIndex, u64)>,
    /// Their sum: about what the engine's log takes in memory.
    pub(crate) held_bytes: u64,
    /// As much of it as the node's sum knows of.
    pub(crate) counted_bytes: u64,
    /// When something was last applied.
    pub(crate) applied_at: Mono,
    pub(crate) snapshot_wanted: bool,
    /// One is due, wherever the engine lets one be taken.
    pub(crate) snapshot_due: bool,
    /// When the last one could not be saved: it is tried again after [`SNAPSHOT_PAUSE`].
    pub(crate) snapshot_failed_at: Option<Mono>,
    pub(crate) saving: Option<Saving>,
    pub(crate) saved: Option<SnapshotMeta>,
    /// Bytes of the last snapshot.
    pub(crate) snapshot_bytes: u64,
    pub(crate) sending: BTreeMap<NodeId, Sending>,
    /// When it ticks next.
    pub(crate) tick_at: Mono,
    /// Until its log is applied up to here again, nothing is hosted or let go for its machine. That it is committed up to
    /// there is not known: what a new leader finds not to be is cut off, or stays accepted and is never chosen. A probe then
    /// tells when enough is applied.
    pub(crate) replays_to: Option<LogIndex>,
    /// Groups that its machine spoke of meanwhile.
    pub(crate) let_go: BTreeSet<GroupId>,
}

impl Group {
    pub(crate) fn new(node: NodeId, incarnation: Incarnation, now: Mono, boot: GroupBoot) -> Self {
        let replays_to = boot.replays_to();
        let Restored { meta, lanes, time, roster, context, bytes } = boot.restored;
        let saved = (meta.index > LogIndex(0)).then(|| meta.clone());
        let members = boot.engine.status().members;
        Self {
            id: boot.id,
            parent: None,
            engine: boot.engine,
            machine: boot.machine,
            duty: boot.duty,
            config: boot.config,
            members,
            members_changed: false,
            roster,
            context,
            changing: None,
            changed: None,
            heir: None,
            role: GroupRole::default(),
            ready: false,
            lane: Lane::new(node, incarnation),
            behind: VecDeque::new(),
            vouching: Vouching::default(),
            asked_at: now,
            ahead: Lanes::default(),
            lanes,
            inbox: Vec::new(),
            to_propose: VecDeque::new(),
            refused: false,
            stamped: time,
            time,
            persisted: PersistId(0),
            held: Vec::new(),
            queue: VecDeque::new(),
            checkpoints: Vec::new(),
            installing: false,
            adopting: false,
            void: false,
            holds: false,
            calling: false,
            failed: false,
            applied: meta.index,
            applied_term: meta.term,
            reads: Reads::default(),
            log_bytes: 0,
            sizes: VecDeque::new(),
            held_bytes: 0,
            counted_bytes: 0,
            applied_at: now,
            snapshot_wanted: false,
            snapshot_due: false,
            snapshot_failed_at: None,
            saving: None,
            saved,
            snapshot_bytes: bytes,
            sending: BTreeMap::new(),
            tick_at: now,
            replays_to,
            let_go: BTreeSet::new(),
        }
    }

    /// Takes proposals in for the leader; what does not fit is dropped, and its lane sends it again.
    pub(crate) fn take_in(&mut self, proposals: impl IntoIterator<Item = Proposal>) {
        let room = LANE_PROPOSALS_MAX.saturating_sub(self.inbox.len());
        self.inbox.extend(proposals.into_iter().take(room));
    }

    /// Moves the inbox behind what is to be proposed, each command once and in lane order.
    pub(crate) fn sort_inbox(&mut self) {
        for proposal in self.inbox.drain(..) {
            if self.ahead.admit(proposal.request) {
                self.to_propose.push_back(proposal);
            }
        }
    }

    /// Packs the next entry, stamped with `wall`.
    pub(crate) fn next_entry(&mut self, wall: WallMs) -> Option<Bytes> {
        let count = batch::fitting(self.to_propose.iter(), self.config.entry_commands_max);
        if count == 0 {
            return None;
        }
        let proposals = self.to_propose.drain(..count).collect();
        self.stamped = self.stamped.max(self.time).max(wall);
        Some(Batch { time: self.stamped, proposals }.encode())
    }

    /// The engine gave an entry back: its commands are proposed again, before all others.
    pub(crate) fn on_refused(&mut self, entry: Bytes) {
        self.refused = true;
        let batch = Batch::decode(entry).expect("the engine gives back what it was given");
        batch.proposals.into_iter().rev().for_each(|proposal| self.to_propose.push_front(proposal));
    }

    /// This node's role is another now. Answers to whom no snapshot is on its way any more.
    #[must_use]
    pub(crate) fn step_down(&mut self) -> Vec<NodeId> {
        self.ready = false;
        if !self.trusts() {
            // What this node proposes it proposes whoever leads; what its duty wished for is another leader's now.
            let no_duty = |proposal: &Proposal| proposal.request.origin != NodeId(0);
            self.inbox.retain(no_duty);
            self.to_propose.retain(no_duty);
        } else {
            self.inbox.clear();
            self.to_propose.clear();
        }
        self.changing = None;
        self.changed = None;
        std::mem::take(&mut self.sending).into_keys().collect()
    }

    /// Applies up to about `budget` commands and `bytes` bytes, which are taken off. Effects are appended; the caller delivers them before the next step.
    pub(crate) fn apply_some(&mut self, budget: usize, bytes: &mut u64, effects: &mut Effects) -> Step {
        if self.installing || self.void || self.calling || self.failed || self.holds {
            return Step::Idle;
        }
        let mut done = 0;
        let before = self.applied;
        while done < budget && *bytes > 0 {
            let Some(next) = self.queue.pop_front() else { break };
            let entry = match next {
                ToApply::Entry(entry) => entry,
                ToApply::Checkpoint(index) => {
                    assert_eq!(index, self.applied, "a checkpoint is of what was just applied");
                    self.checkpoints.push((index, self.checkpoint_digest()));
                    // Where a snapshot may be taken is for the engine to say, and at such a place it does.
                    self.holds = self.snapshot_due;
                    if self.holds {
                        break;
                    }
                    continue;
                }
                ToApply::Install(meta) => {
                    self.installing = true;
                    return Step::Load(meta);
                }
            };
            assert_eq!(entry.index, self.applied.next(), "commits come without gaps");
            *bytes = bytes.saturating_sub(entry.payload.len() as u64);
            done += self.apply_entry(entry, effects);
            self.failed = effects.has_failed();
            self.calling = effects.has_called();
            if self.calling {
                return Step::Called;
            }
            if self.failed {
                break;
            }
        }
        if self.applied > before { Step::Applied } else { Step::Idle }
    }

    /// The answer from outside came: the entry is applied to its end.
    pub(crate) fn on_answer(&mut self, answer: Bytes, effects: &mut Effects) -> Step {
        assert!(self.calling, "an answer that the machine of group {} did not ask for", self.id);
        self.machine.on_answer(answer, effects);
        (self.failed, self.calling) = (effects.has_failed(), effects.has_called());
        if self.calling { Step::Called } else { Step::Applied }
    }

    fn apply_entry(&mut self, entry: Committed, effects: &mut Effects) -> usize {
        self.applied = entry.index;
        self.applied_term = entry.term;
        let size = entry.payload.len() as u64 + 32;
        self.log_bytes += size;
        self.sizes.push_back((entry.index, size));
        self.held_bytes += size;
        match entry.kind {
            CommittedKind::Noop => 1,
            CommittedKind::Members(members) => {
                self.apply_members(entry.index, members, entry.payload, effects);
                1
            }
            CommittedKind::Normal if entry.parts.is_empty() => {
                // Every replica skips an entry that is none, alike.
                let Some(batch) = Batch::decode(entry.payload) else { return 1 };
                self.apply_batch(entry.index, batch.time, batch.proposals, effects)
            }
            CommittedKind::Normal => {
                let proposals = proposals_of(entry.payload, &entry.parts);
                self.apply_batch(entry.index, entry.time.unwrap_or_default(), proposals, effects)
            }
        }
    }

    /// A joint change is made when its second entry comes; what the first one carried waits until then.
    fn apply_members(&mut self, index: LogIndex, members: Members, payload: Bytes, effects: &mut Effects) {
        if !payload.is_empty() {
            self.context = payload;
        }
        let carried = Context::decode(self.context.clone()).unwrap_or_default();
        let joint = !members.outgoing.is_empty();
        if !joint {
            self.context = Bytes::new();
        }
        let system = if joint { Bytes::new() } else { carried.system };
        self.machine.on_members(index, &members, &system, effects);
        change::merge(&mut self.roster, carried.roster, &members);
        self.members = members;
        self.members_changed = true;
        if !joint && carried.last && self.changing.take().is_some() {
            self.changed = Some(Ok(()));
        }
    }

    fn apply_batch(&mut self, index: LogIndex, time: WallMs, proposals: Vec<Proposal>, effects: &mut Effects) -> usize {
        self.time = self.time.max(time);
        let count = proposals.len().max(1);
        let time = self.time;
        let commands: Vec<_> = proposals
            .into_iter()
            .filter(|proposal| self.lanes.admit(proposal.request))
            .map(|p| verity_contract::Command { index, time, request: p.request, bytes: p.command.join() })
            .collect();
        if !commands.is_empty() {
            self.machine.apply(&commands, effects);
        }
        count
    }

    /// True once, when a new leader has applied an entry of its own term: everything committed before is then applied.
    pub(crate) fn becomes_ready(&mut self) -> bool {
        if self.role.leads && !self.ready && self.applied_term == self.role.term {
            self.ready = true;
            // What a voter gave to its own engine will come, whoever leads.
            if self.trusts() {
                self.ahead = self.lanes.clone();
            }
            return true;
        }
        false
    }

    /// True if a snapshot is worth its writing now.
    pub(crate) fn wants_snapshot(&self, now: Mono) -> bool {
        let (span, bytes) = self.config.rest;
        let rests = self.log_bytes >= bytes && now.since(self.applied_at) >= span;
        self.snapshot_wanted
            || self.snapshot_failed_at.is_some()
            || rests
            || self.log_bytes >= self.config.snapshot_log_bytes
    }

    /// How far the log may go behind a snapshot at `index`: what stays is about what the configuration says, or `keep` if
    /// that is less.
    pub(crate) fn compact_to(&mut self, index: LogIndex, keep: u64) -> LogIndex {
        let most = self.config.log_bytes_kept.min(keep);
        let behind = self.sizes.partition_point(|(at, _)| *at <= index);
        let mut kept = 0;
        let keep = self.sizes.range(..behind).rev().take_while(|(_, size)| {
            kept += size;
            kept <= most
        });
        let keep = keep.count();
        self.held_bytes -= self.sizes.drain(..behind - keep).map(|(_, size)| size).sum::<u64>();
        self.sizes.front().map_or(index, |(at, _)| LogIndex(at.0 - 1)).min(index)
    }

    /// True if a snapshot can be taken now, and would say more than the last one. A machine that failed holds less than its
    /// index says, and a disk that is full has no room a moment later.
    pub(crate) fn may_snapshot(&self, now: Mono) -> bool {
        let fresh = self.saved.as_ref().is_none_or(|saved| saved.index < self.applied);
        fresh && !self.calling && self.may_begin(now) && self.applied > LogIndex(0)
    }

    /// The same, for a place that is still to come.
    pub(crate) fn may_begin(&self, now: Mono) -> bool {
        let rests = self.snapshot_failed_at.is_some_and(|at| now.since(at) < SNAPSHOT_PAUSE);
        !rests && !self.failed && !self.installing && !self.void && self.saving.is_none()
    }

    /// What all replicas that are where this one is have in common: the machine's state, and what stands beside it.
    fn checkpoint_digest(&self) -> Digest {
        let mut beside = BytesMut::new();
        put_members(&mut beside, &self.members);
        let hash = Sha256::new().chain_update(self.machine.digest().0).chain_update(self.header(&[]));
        Digest(hash.chain_update(beside).finalize().into())
    }

    /// True if the engine wants to know the digest of the state that is being installed before anything else is done with it.
    pub(crate) fn is_to_prove(&self) -> bool {
        matches!(self.queue.front(), Some(ToApply::Checkpoint(_)))
    }

    /// The answer to that. A state that could not even be read has a digest that nobody signs.
    pub(crate) fn proof_of_installed(&mut self) -> Option<(LogIndex, Digest)> {
        if !self.is_to_prove() {
            return None;
        }
        let Some(ToApply::Checkpoint(index)) = self.queue.pop_front() else { return None };
        let digest = if index == self.applied { self.checkpoint_digest() } else { Digest::default() };
        Some((index, digest))
    }

    /// Every command that this node waits for is given to the leader once more, where a leader is what commands go to.
    pub(crate) fn resend(&mut self, now: Mono) {
        if self.trusts() {
            self.lane.rewind(now);
        }
    }

    /// True if a member's word counts: its snapshots, and its replies. Then the leader proposes for all.
    pub(crate) fn trusts(&self) -> bool {
        self.engine.witness().is_none()
    }

    /// How many members must have come to a reply before it leaves; none where members are trusted.
    pub(crate) fn enough(&self) -> Option<usize> {
        self.engine.witness().map(Witness::enough)
    }

    /// True if commands of this node go to its own engine.
    pub(crate) fn proposes(&self) -> bool {
        if self.trusts() { self.role.leads && self.ready } else { self.role.votes }
    }

    /// What a snapshot taken now would say of itself; none if the engine lets none be taken here.
    pub(crate) fn meta(&self) -> Option<SnapshotMeta> {
        Some(SnapshotMeta {
            index: self.applied,
            term: self.applied_term,
            members: self.members.clone(),
            context: self.engine.snapshot_context(self.applied)?,
        })
    }

    /// The first chunk of a snapshot that stands on `files`.
    pub(crate) fn header(&self, files: &[Attachment]) -> Bytes {
        crate::snapshot::encode_header(self.time, &self.lanes, &self.roster, files, &self.context)
    }

    /// Up to where entries are applied to their end: what those may be told that ask for an index.
    pub(crate) fn whole(&self) -> LogIndex {
        if self.calling { LogIndex(self.applied.0 - 1) } else { self.applied }
    }

    /// True if something waits to be applied, and can be.
    pub(crate) fn has_backlog(&self) -> bool {
        let stands = self.installing || self.void || self.calling || self.failed;
        !stands && !self.queue.is_empty()
    }

    /// True if what the log held at the start is applied, as far as it was committed, and nobody was told yet.
    pub(crate) fn has_replayed(&self) -> bool {
        let all = |to: LogIndex| self.whole() >= to.min(self.engine.status().last);
        self.replays_to.is_some_and(|to| all(to) || self.reads.is_probed(self.whole()))
    }

    /// True if the end of a turn may find something to do here, although nothing came in.
    pub(crate) fn has_chores(&self, now: Mono) -> bool {
        let proposes = !self.inbox.is_empty() || !self.to_propose.is_empty() || !self.lane.is_empty();
        let changes = self.heir.is_some() || self.changing.is_some() || self.changed.is_some();
        let snapshot = self.wants_snapshot(now) && self.may_snapshot(now);
        self.has_backlog() || !self.behind.is_empty() || !self.reads.is_empty() || proposes || changes || snapshot
    }

    /// The state machine was restored; the group goes on from there.
    pub(crate) fn on_restored(&mut self, restored: Restored) {
        assert!(self.void || restored.meta.index >= self.applied, "a snapshot never takes a group back");
        self.installing = false;
        self.void = false;
        self.applied = restored.meta.index;
        self.applied_term = restored.meta.term;
        self.members = restored.meta.members.clone();
        self.lanes = restored.lanes;
        self.time = restored.time;
        self.roster = restored.roster;
        self.context = restored.context;
        // One of a peer that may lie is saved once it is adopted.
        self.saved = Some(restored.meta).filter(|_| self.trusts());
        self.snapshot_bytes = restored.bytes;
        self.log_bytes = 0;
        self.sizes.clear();
        self.held_bytes = 0;
    }

    pub(crate) fn admitted(&self, origin: NodeId) -> Option<(Incarnation, u64)> {
        self.lanes.of(origin)
    }

    pub(crate) fn facts(&self) -> GroupFacts {
        let status = self.engine.status();
        GroupFacts {
            members: self.members.clone(),
            settled: self.ready && self.changing.is_none() && self.members == status.members,
            applied: self.applied,
            committed: status.committed,
            snapshot: self.saved.as_ref().map_or(LogIndex(0), |meta| meta.index),
            log_bytes: self.log_bytes,
            snapshot_bytes: self.snapshot_bytes,
            state_bytes: self.machine.size(),
            digest: self.machine.digest(),
            progress: status.progress,
        }
    }

    pub(crate) fn status(&self) -> GroupStatus {
        GroupStatus {
            group: self.id,
            role: self.role,
            agreement: self.engine.status(),
            applied: self.applied,
            digest: self.machine.digest(),
            state_bytes: self.machine.size(),
            snapshot: self.saved.as_ref().map_or(LogIndex(0), |meta| meta.index),
            waiting: self.lane.len(),
            lanes: self
                .lanes
                .iter()
                .map(|(origin, incarnation, applied)| LaneStatus {
                    origin,
                    incarnation: life_of_lane(incarnation).0,
                    applied,
                })
                .collect(),
        }
    }

    pub(crate) fn invariants(&self) {
        self.engine.invariants();
        self.machine.invariants();
        self.lane.invariants();
        self.reads.invariants();
        assert_eq!(self.held_bytes, self.sizes.iter().map(|(_, size)| size).sum::<u64>());
        assert!(!self.ready || self.role.leads, "only a leader is ready to propose");
        assert!(self.held.iter().all(|(after, ..)| *after > self.persisted), "held messages wait for storage");
        if let Some(saved) = &self.saved {
            assert!(saved.index <= self.applied, "a snapshot holds what is applied");
        }
    }
}

/// The commands of an entry that several nodes proposed. What is none is skipped, by every replica alike, and so is a command
/// that a node puts into another's lane.
fn proposals_of(mut payload: Bytes, parts: &[Part]) -> Vec<Proposal> {
    let mut proposals = Vec::new();
    for part in parts {
        let operation = payload.split_to(part.length.min(payload.len()));
        let own = |proposal: &Proposal| [NodeId(0), part.proposer].contains(&proposal.request.origin);
        let batch = Batch::decode(operation).unwrap_or_default();
        proposals.extend(batch.proposals.into_iter().filter(own));
    }
    proposals
}
