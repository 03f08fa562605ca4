//! The step machine: contract inputs to the protocol's handlers, and what follows from them to contract outputs.
//!
//! - upon an input: its handler changes the state and fills the outbox; then everything that follows is put out;
//! - upon a promise, an acceptance or a learned value: one `Persist` for the whole call; whatever tells of it waits;
//! - upon an `Accept` of one's own: it leaves at once, and the leader's own acceptance counts when it is persisted;
//! - upon a decided slot: it is handed out once its record is stable here as well, so that a snapshot never gets ahead
//!   of the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use verity_contract::{
    Agreement, AgreementStatus, Barrier, Boot, Committed, CommittedKind, Input, Members, Output, PersistId, Progress,
    Reconfigure, Record, SnapshotMeta, Transfer,
};
use verity_types::{Incarnation, LogIndex, Mono, Nanos, NodeId};

use crate::election::{Peer, Seek, Spread};
use crate::learner::Behind;
use crate::message::{Ballot, Frame, Kind, MAX_NODE, Value, encode, parse};
use crate::proposer::Lead;
use crate::read::Reads;
use crate::sleep::Sleep;
use crate::state::{Entry, Log, Recovered, State};
use crate::{Config, Error, Mutant};

/// Bytes of values in one `Commit`.
const COMMIT_BYTES_MAX: usize = 4 << 20;

/// Who sleeps, or leads nobody but itself, only looks now and then whether a read has waited too long, and ticks so many
/// times as rarely.
const ASLEEP_TICKS: u64 = 4;

/// A `Persist` that has not come back.
#[derive(Debug)]
struct Outstanding {
    id: PersistId,
    /// The slots that it holds lie in here; empty if the first is above the second.
    slots: (u64, u64),
    /// The ballot that this node led when it was put out.
    ballot: Option<Ballot>,
}

/// When a message may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Now,
    /// Once everything that this call and those before it changed is stable.
    Stable,
}

/// One group's Paxos on one node.
pub struct Paxos {
    pub(crate) id: NodeId,
    pub(crate) config: Config,
    pub(crate) now: Mono,
    /// The highest ballot promised.
    pub(crate) promised: Ballot,
    pub(crate) log: Log,
    /// Every slot up to here is chosen, and known here.
    pub(crate) decided: u64,
    /// The last index handed out in a `Commit` or an `InstallSnapshot`; stable here.
    pub(crate) handed: u64,
    /// The members in force behind `decided`.
    pub(crate) members: Members,
    pub(crate) behind: Behind,
    pub(crate) snapshot: Option<SnapshotMeta>,
    pub(crate) offered: BTreeSet<NodeId>,
    pub(crate) wants_snapshot: bool,
    wanted_told: bool,
    /// The ballot that this node leads, or prepares to.
    pub(crate) lead: Option<Box<Lead>>,
    /// The ballot that this node follows.
    pub(crate) leader: Option<Ballot>,
    pub(crate) heard_at: Option<Mono>,
    /// When to look for a leader.
    pub(crate) deadline: Mono,
    /// The highest ballot heard of.
    pub(crate) ceiling: Ballot,
    pub(crate) seek: Option<Seek>,
    /// Until when the first leader of a new group looks at each tick whether it may lead.
    pub(crate) eager_until: Mono,
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    pub(crate) round: u64,
    pub(crate) beat_at: Mono,
    /// On a leader: when what was not answered is said again.
    pub(crate) repeat_at: Mono,
    pub(crate) spread: Spread,
    pub(crate) reads: Reads,
    pub(crate) sleep: Sleep,
    founders: Members,
    /// The last snapshot that took the place of the log.
    pub(crate) installed: u64,
    /// What this node may have forgotten reaches up to here.
    floor: u64,
    /// This start's own.
    pub(crate) incarnation: Incarnation,
    written: Option<State>,
    state_due: bool,
    records: Vec<Record>,
    slots: (u64, u64),
    outstanding: VecDeque<Outstanding>,
    persist_next: u64,
    outbox: Vec<(NodeId, Frame, Leave)>,
    pub(crate) ready: Vec<Output>,
    role: (Option<Ballot>, Ballot, bool),
    dropped: u64,
    last_error: Option<Error>,
}

impl Paxos {
    /// Starts a group's engine from what stable storage held.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] for nonsense in `config` or `boot`; [`Error::Storage`] if the records are no log, or a log
    /// that is shorter than what this node once acknowledged: such a node must not take part again.
    pub fn start(boot: Boot, config: Config, now: Mono) -> Result<Self, Error> {
        config.validate()?;
        if boot.id.0 == 0 || boot.id.0 > MAX_NODE {
            return Err(Error::ApiMisuse(format!("node {} is not in 1..={MAX_NODE}", boot.id)));
        }
        let fresh = boot.records.is_empty();
        let Recovered { log, state, members } = Log::recover(&boot)?;
        let base = log.base.0;
        let mut paxos = Self {
            id: boot.id,
            now,
            promised: state.promised,
            decided: state.decided,
            handed: base,
            members,
            behind: Behind::default(),
            snapshot: boot.snapshot,
            offered: BTreeSet::new(),
            wants_snapshot: false,
            wanted_told: false,
            lead: None,
            leader: None,
            heard_at: None,
            deadline: now,
            ceiling: state.promised,
            seek: None,
            eager_until: now,
            peers: BTreeMap::new(),
            round: 0,
            beat_at: now,
            repeat_at: now,
            spread: Spread(boot.seed ^ boot.id.0.rotate_left(32)),
            reads: Reads::default(),
            sleep: Sleep::new(now),
            founders: state.founders.clone(),
            installed: state.installed,
            floor: state.floor,
            incarnation: boot.incarnation,
            written: (!fresh).then_some(state),
            state_due: false,
            records: Vec::new(),
            slots: (u64::MAX, 0),
            outstanding: VecDeque::new(),
            persist_next: 1,
            outbox: Vec::new(),
            ready: Vec::new(),
            role: (None, Ballot(0), false),
            dropped: 0,
            last_error: None,
            log,
            config,
        };
        paxos.await_first(boot.first_leader.filter(|_| fresh));
        Ok(paxos)
    }

    /// How many messages were dropped as invalid, and why the last one was.
    #[must_use]
    pub fn dropped(&self) -> (u64, Option<&Error>) {
        (self.dropped, self.last_error.as_ref())
    }

    /// True once phase 1 is complete: this node may propose.
    pub(crate) fn leads(&self) -> bool {
        self.lead.as_ref().is_some_and(|lead| lead.noop.is_some())
    }

    /// True for a node that knows too little to count: no members, or less than it may have forgotten.
    pub(crate) fn is_blank(&self) -> bool {
        self.members.voters.is_empty() || self.handed < self.floor
    }

    /// Nobody is to be told that this node leads.
    fn rules_alone(&self) -> bool {
        let few = self.members.voters.len() + self.members.outgoing.len() + self.members.learners.len() <= 1;
        few && self.leads() && self.audience().iter().all(|node| *node == self.id)
    }

    pub(crate) fn votes(&self) -> bool {
        self.members.voters.contains(&self.id) && !self.is_blank()
    }

    pub(crate) fn send(&mut self, to: NodeId, frame: Frame, leave: Leave) {
        if to != self.id {
            self.outbox.push((to, frame, leave));
        }
    }

    /// Writes down what a slot holds now.
    pub(crate) fn record(&mut self, slot: u64, entry: Entry) {
        self.records.push(entry.to_record(slot));
        self.slots = (self.slots.0.min(slot), self.slots.1.max(slot));
        self.log.entries.insert(slot, entry);
    }

    /// The next `Persist` must hold a `State`.
    pub(crate) fn write_state(&mut self) {
        self.state_due = true;
    }

    fn on_message(&mut self, from: NodeId, bytes: Bytes) {
        let result = match parse(bytes) {
            _ if from.0 == 0 || from.0 > MAX_NODE || from == self.id => {
                Err(Error::InvalidMessage(format!("node {from} is nobody that speaks here")))
            }
            Ok(frame) => self.on_frame(from, frame),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.dropped += 1;
            self.last_error = Some(error);
        }
    }

    fn on_frame(&mut self, from: NodeId, frame: Frame) -> Result<(), Error> {
        if !matches!(frame, Frame::Ping { .. } | Frame::Pong { .. }) {
            self.wake(false);
        }
        match frame {
            Frame::Prepare { ballot, from: start, decided } => self.on_prepare(from, ballot, start, decided),
            Frame::Promise { ballot, decided, from: start, to, accepted } => {
                self.on_promise(from, ballot, decided, (start, to), accepted)
            }
            Frame::Reject { ballot, promised } => self.on_reject(from, ballot, promised),
            Frame::Accept { ballot, decided, first, values } => self.on_accept(from, ballot, decided, first, values),
            Frame::Accepted { ballot, first, last, decided } => self.on_accepted(from, ballot, (first, last), decided),
            Frame::Decide { ballot, decided } => self.on_decide(from, ballot, decided),
            Frame::Ping { ballot, round, decided, leads, sleep } => {
                self.on_ping(from, ballot, round, decided, (leads, sleep))
            }
            Frame::Pong { ballot, round, promised, decided, hears, sleep } => {
                self.on_pong(from, (ballot, round), promised, decided, (hears, sleep))
            }
            Frame::Fetch { from: start } => self.on_fetch(from, start),
            Frame::Learn { decided, first, values } => self.on_learn(from, decided, first, values),
            Frame::Snapshot(meta) => self.on_snapshot(meta),
            Frame::TakeOver { ballot } => self.on_take_over(from, ballot),
            Frame::ReadRequest(nonce) => self.on_read_request(from, nonce),
            Frame::ReadReply { nonce, index } => self.on_read_reply(from, nonce, index),
        }
    }

    fn on_persisted(&mut self, id: PersistId) {
        assert!(id.0 < self.persist_next, "only what was put out can be persisted");
        while self.outstanding.front().is_some_and(|persist| persist.id <= id) {
            let persist = self.outstanding.pop_front().expect("seen above");
            let Some(lead) = self.lead.as_mut().filter(|lead| Some(lead.ballot) == persist.ballot) else { continue };
            lead.note_stable(self.id, persist.id, persist.slots);
        }
    }

    /// Puts out everything that the last step led to.
    pub(crate) fn settle(&mut self, out: &mut Vec<Output>) {
        self.pump();
        self.pump_reads();
        self.persist(out);
        let after = self.outstanding.back().map(|persist| persist.id);
        for (to, frame, leave) in std::mem::take(&mut self.outbox) {
            let after = if leave == Leave::Stable { after } else { None };
            out.push(Output::Send { to, bytes: encode(&frame), after, urgent: frame.is_urgent() });
        }
        out.append(&mut self.ready);
        self.hand_out(out);
        self.tell_role();
        out.append(&mut self.ready);
        if std::mem::take(&mut self.wants_snapshot) && !self.wanted_told && self.handed > 0 {
            self.wanted_told = true;
            out.push(Output::WantSnapshot);
        }
    }

    /// Puts out a `Persist` if there is something to write. A decided index that grew alone waits for company.
    fn persist(&mut self, out: &mut Vec<Output>) {
        let state = State {
            promised: self.promised,
            decided: self.decided,
            installed: self.installed,
            floor: self.floor,
            founders: self.founders.clone(),
        };
        let due = std::mem::take(&mut self.state_due)
            || self.written.as_ref().map_or(Ballot(0), |written| written.promised) != self.promised
            || (!self.records.is_empty() && self.written.as_ref() != Some(&state));
        let id = PersistId(self.persist_next);
        if due {
            let forgets = self.config.mutant == Some(Mutant::VoteNotPersisted);
            let promised = if forgets { Ballot(0) } else { state.promised };
            self.records.push(State { promised, ..state.clone() }.to_record());
            self.written = Some(state);
        }
        if self.records.is_empty() {
            return;
        }
        self.persist_next += 1;
        let ballot = self.lead.as_ref().map(|lead| lead.ballot);
        if let Some(lead) = &mut self.lead {
            lead.stable_in.get_or_insert(id);
        }
        let slots = std::mem::replace(&mut self.slots, (u64::MAX, 0));
        self.outstanding.push_back(Outstanding { id, slots, ballot });
        out.push(Output::Persist { id, records: std::mem::take(&mut self.records) });
    }

    fn hand_out(&mut self, out: &mut Vec<Output>) {
        let unstable = self.outstanding.iter().map(|persist| persist.slots.0).min().unwrap_or(u64::MAX);
        let end = self.decided.min(unstable.saturating_sub(1));
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while self.handed < end {
            self.handed += 1;
            let value = &self.log.entries.get(&self.handed).expect("decided slots are in the log").value;
            bytes += value.size();
            batch.push(committed(self.handed, value));
            if bytes >= COMMIT_BYTES_MAX {
                out.push(Output::Commit(std::mem::take(&mut batch)));
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            out.push(Output::Commit(batch));
        }
    }

    fn tell_role(&mut self) {
        let leads = self.leads();
        let leader = if leads { self.lead.as_ref().map(|lead| lead.ballot) } else { self.leader };
        let role = (leader, leader.unwrap_or(self.promised), leads);
        if role == self.role {
            return;
        }
        if role.0 != self.role.0 {
            self.fail_asked();
        }
        self.role = role;
        let told = Output::Role { leader: leader.map(Ballot::node), term: role.1.term(), leads };
        self.ready.push(told);
    }

    fn on_snapshot_saved(&mut self, meta: SnapshotMeta, compact_to: LogIndex) {
        assert!(meta.index.0 <= self.handed, "a snapshot holds what was committed");
        if meta.index.0 == 0 || self.snapshot.as_ref().is_some_and(|held| held.index > meta.index) {
            return;
        }
        let compact_to = compact_to.0.min(meta.index.0);
        if compact_to > self.log.base.0 {
            let term = self.log.term(compact_to).expect("what was handed out is in the log");
            self.log.trim(compact_to, term);
        }
        self.snapshot = Some(meta);
        self.wanted_told = false;
    }

    pub(crate) fn begin(&mut self, now: Mono) {
        assert!(now >= self.now, "a node's clock never goes back within one life");
        self.now = now;
    }
}

fn committed(index: u64, value: &Value) -> Committed {
    let kind = match &value.kind {
        Kind::Normal => CommittedKind::Normal,
        Kind::Noop => CommittedKind::Noop,
        Kind::Members(members) => CommittedKind::Members(members.clone()),
    };
    Committed {
        index: LogIndex(index),
        term: Ballot(value.term).term(),
        kind,
        time: None,
        payload: value.payload.clone(),
        parts: Vec::new(),
    }
}

impl Agreement for Paxos {
    fn on(&mut self, now: Mono, input: Input, out: &mut Vec<Output>) {
        self.begin(now);
        match input {
            Input::Propose(payload) => self.on_propose(payload),
            Input::Message { from, bytes } => self.on_message(from, bytes),
            Input::Tick => self.on_tick(),
            Input::Persisted(id) => self.on_persisted(id),
            Input::SnapshotSaved { meta, compact_to } => self.on_snapshot_saved(meta, compact_to),
            Input::SnapshotSent { to, .. } => {
                // A peer that still lacks it asks again.
                self.offered.remove(&to);
            }
            Input::Unreachable(node) => self.on_unreachable(node),
            // Entries count as applied once they are handed out; the machine's pace bounds snapshots, not the engine.
            // A Paxos leader is trusted, so nobody is asked for a verdict.
            Input::Applied(_) | Input::Verdict { .. } | Input::Checkpointed { .. } => {}
        }
        self.settle(out);
    }

    fn tick_interval(&self) -> Nanos {
        if self.sleep.asleep || self.rules_alone() {
            Nanos(self.config.tick.0 * ASLEEP_TICKS)
        } else {
            self.config.tick
        }
    }

    fn status(&self) -> AgreementStatus {
        let progress = |node: NodeId| Progress {
            node,
            matched: LogIndex(self.peers.get(&node).map_or(0, |peer| peer.decided)),
            active: self.is_heard(node),
        };
        let others = self.members.all().into_iter().filter(|node| self.leads() && *node != self.id);
        AgreementStatus {
            leader: self.role.0.map(Ballot::node),
            leads: self.leads(),
            term: self.role.1.max(self.promised).term(),
            last: LogIndex(self.log.last()),
            committed: LogIndex(self.decided),
            first: LogIndex(self.log.base.0 + 1),
            members: self.members.clone(),
            progress: others.map(progress).collect(),
            hibernating: self.sleep.asleep,
        }
    }

    fn invariants(&self) {
        let (base, last) = (self.log.base.0, self.log.last());
        assert!(base <= self.handed && self.handed <= self.decided, "base, handed, decided: a row");
        assert!(self.decided <= last, "what is decided is in the log");
        assert!(self.log.entries.first_key_value().is_none_or(|(slot, _)| *slot > base), "what is trimmed is gone");
        let held = self.log.entries.range(..=self.decided).count() as u64;
        assert_eq!(held, self.decided - base, "the decided part of the log has no gap");
        let undecided = self.log.entries.range(self.decided + 1..);
        undecided.for_each(|(slot, entry)| assert!(entry.ballot <= self.promised, "slot {slot} was promised"));
        assert!(self.promised <= self.ceiling, "the highest ballot heard of is not below one promised");
        assert!(self.snapshot.as_ref().map_or(0, |meta| meta.index.0) >= base, "a snapshot covers the base");
        if let Some(lead) = &self.lead {
            lead.invariants(self.decided);
            assert_eq!(lead.ballot.node(), self.id, "a node leads its own ballots alone");
            assert_eq!(lead.ballot, self.promised, "who leads promised nothing higher");
            assert!(self.votes(), "who leads votes");
        }
        let ids = self.outstanding.iter().map(|persist| persist.id);
        assert!(ids.clone().zip(ids.skip(1)).all(|(a, b)| a < b), "persists come back in order");
        assert!(self.outbox.is_empty() && self.records.is_empty() && self.ready.is_empty(), "everything was put out");
        self.reads.invariants();
    }

    fn barrier(&mut self) -> Option<&mut dyn Barrier> {
        Some(self)
    }

    fn reconfigure(&mut self) -> Option<&mut dyn Reconfigure> {
        Some(self)
    }

    fn transfer(&mut self) -> Option<&mut dyn Transfer> {
        Some(self)
    }
}
