//! The adapter: contract inputs to the engine's steps, the engine's `Ready` to contract outputs.
//!
//! - upon an input: the engine steps, then everything it has ready is put out before `on` returns;
//! - upon entries, votes or a snapshot that are new: one `Persist`; a follower's messages wait for it (Raft §5.1), a
//!   leader's leave at once and its own acknowledgement waits instead (dissertation §10.2.1);
//! - upon a sole voter that elects itself: its messages to learners wait for its own vote, since nobody else holds it;
//! - upon a committed change of members: it is in force before the next entry is handed out (dissertation §4.3);
//! - upon its own removal: a leader asks the best of the others to take over and steps down (dissertation §4.2.2);
//! - upon a vote that is being written: the election timer stands still, and the next timeout is longer by what it took;
//! - upon the start of a new group that names this node its first leader: it stands at once, and again at each tick until
//!   somebody leads or an election timeout has passed; pre-votes decide as ever, since nobody has acknowledged a lease;
//! - upon the hint that the leader is gone: the next election comes early, yet never within a lease that this node
//!   acknowledged. A false hint costs one round of refused pre-votes.
//!
//! The engine draws its election timeout from a thread-local source; ours replaces it after every step. When ours is
//! drawn anew follows from term, role and leader alone, so that no foreign draw can leak into a replay.

use std::collections::VecDeque;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType, HardState, Message, MessageType,
};
use raft::{RawNode, Ready, SnapshotStatus, StateRole, Storage};
use verity_contract::{
    Agreement, AgreementStatus, Barrier, BarrierId, Boot, Change, Committed, CommittedKind, Input, Members, Output,
    PersistId, Progress, Reconfigure, Record, SnapshotMeta, Transfer,
};
use verity_types::{Incarnation, LogIndex, Mono, Nanos, NodeId, Term};

use crate::config::VOTE_TICKS_MAX;
use crate::lease::Rounds;
use crate::message::{Frame, MAX_ENTRY_BYTES, MAX_MEMBERS, PROPOSED, encode, parse, to_members};
use crate::read::Reads;
use crate::sleep::Sleep;
use crate::state::{Log, State, entry_record, to_meta, truncate_record};
use crate::{Config, Error};

/// What a blank node says instead of a round: it is there, and acknowledges nothing. No leader begins so many.
const NO_ROUND: u64 = (1 << 63) - 1;
/// The most ticks that one `Input::Tick` makes up for; a node that was paused does not stand for election before it
/// has read what waits for it.
const TICKS_MAX: u64 = 2;
/// Who sleeps, or leads nobody but itself, only looks now and then whether a read has waited too long, and ticks so many
/// times as rarely.
const ASLEEP_TICKS: u64 = 4;
/// How many ticks an election after the loss of a leader is spread over.
const HASTE_TICKS: u64 = 4;

/// How many elections in a row come early once a leader is gone, lest two hasty candidates wait long for each other.
const HASTY_ELECTIONS: u32 = 6;

/// A `Persist` that has not come back.
#[derive(Debug)]
struct Outstanding {
    id: PersistId,
    /// The last `Ready` that it completes.
    ready: u64,
    /// It holds entries or a snapshot.
    log: bool,
    /// It holds a new term or vote.
    vote: bool,
    since: Mono,
}

/// A small generator (SplitMix64): election timeouts need spread, not secrecy.
#[derive(Debug)]
struct Spread(u64);

impl Spread {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// One group's Raft on one node.
pub struct Raft {
    pub(crate) id: NodeId,
    pub(crate) config: Config,
    pub(crate) node: RawNode<Log>,
    pub(crate) members: Members,
    pub(crate) reads: Reads,
    pub(crate) rounds: Rounds,
    pub(crate) sleep: Sleep,
    /// What the last `State` record says.
    pub(crate) state: State,
    /// When a leader was last heard; at start, as if just now, unless the group is new.
    pub(crate) heard_leader_at: Option<Mono>,
    pub(crate) ticked_at: Mono,
    hard: HardState,
    /// How long the last vote took to stable storage.
    vote_took: Nanos,
    /// This start's own.
    pub(crate) incarnation: Incarnation,
    spread: Spread,
    timeout: usize,
    timer_key: (u64, StateRole, u64),
    now: Mono,
    /// The round that heartbeats of this call belong to.
    pub(crate) round: Option<u64>,
    /// What an answer to the heartbeat of this call says: its round, and whether this node sleeps.
    echo: (u64, bool),
    /// The leader that the driver lost, until it is heard again.
    lost: Option<NodeId>,
    /// How many more elections come early.
    haste: u32,
    /// For how many more ticks the first leader of a new group stands at each of them.
    eager: usize,
    outstanding: VecDeque<Outstanding>,
    persist_next: u64,
    last_ready: u64,
    /// The last index handed out in a `Commit` or an `InstallSnapshot`.
    handed: u64,
    role: (u64, u64, bool),
    wanted_told: bool,
    dropped: u64,
    last_error: Option<Error>,
}

impl Raft {
    /// Starts a group's engine from what stable storage held.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] for nonsense in `config` or `boot`; [`Error::Storage`] if the records are no log, or a log
    /// that is shorter than what this node once acknowledged: such a node must not take part again.
    pub fn start(boot: Boot, config: Config, now: Mono) -> Result<Self, Error> {
        config.validate()?;
        if boot.id.0 == 0 {
            return Err(Error::ApiMisuse("node 0 is nobody".into()));
        }
        let fresh = boot.records.is_empty() && boot.snapshot.is_none();
        let (log, state) = Log::recover(&boot)?;
        let base = log.base.0;
        let engine = config.engine(boot.id, base);
        let eager = if fresh && boot.floor.0 == 0 && boot.first_leader == Some(boot.id) {
            config.ticks(config.election_min)
        } else {
            0
        };
        let quiet = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&engine, log, &quiet).map_err(|error| Error::Storage(error.to_string()))?;
        let hard = node.raft.hard_state();
        let seed = boot.seed ^ boot.id.0.rotate_left(32);
        let mut raft = Self {
            id: boot.id,
            members: state.base.clone(),
            reads: Reads::default(),
            rounds: Rounds::default(),
            sleep: Sleep::new(now),
            heard_leader_at: (!fresh).then_some(now),
            ticked_at: now,
            hard,
            vote_took: Nanos(0),
            incarnation: boot.incarnation,
            spread: Spread(seed),
            timeout: 0,
            timer_key: (0, StateRole::Leader, 0),
            now,
            round: None,
            echo: (0, false),
            lost: None,
            haste: 0,
            eager,
            outstanding: VecDeque::new(),
            persist_next: 1,
            last_ready: 0,
            handed: base,
            role: (0, 0, false),
            wanted_told: false,
            dropped: 0,
            last_error: None,
            config,
            node,
            state,
        };
        // A fresh group has nothing on disk yet; its first record must say who it began with.
        raft.state.hard = if fresh { HardState::default() } else { raft.hard.clone() };
        raft.set_timer();
        Ok(raft)
    }

    /// How many messages were dropped as invalid, and why the last one was.
    #[must_use]
    pub fn dropped(&self) -> (u64, Option<&Error>) {
        (self.dropped, self.last_error.as_ref())
    }

    /// True for a node that knows too little to count: no members, or less than it may have forgotten.
    pub(crate) fn is_blank(&self) -> bool {
        self.members.voters.is_empty() || self.node.raft.raft_log.committed < self.state.floor
    }

    pub(crate) fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// True if no entry or snapshot of this node waits for stable storage.
    pub(crate) fn log_is_stable(&self) -> bool {
        let log = &self.node.raft.raft_log;
        log.persisted == log.last_index() && self.outstanding.iter().all(|persist| !persist.log)
    }

    pub(crate) fn begin_round(&mut self, now: Mono) -> u64 {
        match self.round {
            Some(round) => round,
            None => *self.round.insert(self.rounds.begin(now)),
        }
    }

    pub(crate) fn send(&self, to: NodeId, frame: &Frame, after: Option<PersistId>, out: &mut Vec<Output>) {
        let entries = matches!(frame, Frame::Raft { message, .. } if message.get_msg_type() == MessageType::MsgAppend);
        out.push(Output::Send { to, bytes: encode(frame), after, urgent: !entries });
    }

    fn drop_message(&mut self, error: Error) {
        self.dropped += 1;
        self.last_error = Some(error);
    }

    fn set_timer(&mut self) {
        let core = &self.node.raft;
        let key = (core.term, core.state, core.leader_id);
        if key != self.timer_key {
            self.timer_key = key;
            self.draw_timeout();
            self.keep_haste();
        }
        self.node.raft.set_randomized_election_timeout(self.timeout);
    }

    /// Without a leader after a hasty election, the next one is hasty too, but leaves time for answers.
    fn keep_haste(&mut self) {
        if self.node.raft.leader_id != 0 {
            self.haste = 0;
        } else if self.haste > 0 && self.node.raft.state != StateRole::Follower {
            self.haste -= 1;
            self.shorten(HASTE_TICKS);
        }
    }

    /// The next election comes after more than `least` ticks, at a random one of the [`HASTE_TICKS`] that follow.
    fn shorten(&mut self, least: u64) {
        let rest = 1 + least + self.spread.below(HASTE_TICKS);
        let rest = usize::try_from(rest).expect("a few ticks").min(self.timeout);
        self.node.raft.election_elapsed = self.timeout - rest;
    }

    fn draw_timeout(&mut self) {
        let (min, max) = (self.config.ticks(self.config.election_min), self.config.ticks(self.config.election_max));
        let drawn = min + usize::try_from(self.spread.below((max - min) as u64)).expect("a count of ticks");
        // Whoever votes writes it down first. On slow disks a candidate that did not wait for that would never be elected.
        self.timeout =
            drawn + usize::try_from(self.vote_took.0 / self.config.tick.0).unwrap_or(drawn).min(VOTE_TICKS_MAX);
    }

    fn on_propose(&mut self, now: Mono, payload: Bytes, out: &mut Vec<Output>) {
        self.wake(now, true, out);
        if !self.leads() || payload.len() > MAX_ENTRY_BYTES {
            return out.push(Output::Refused(payload));
        }
        let mut entry = Entry { data: payload.clone(), ..Entry::default() };
        if payload.is_empty() {
            entry.context = Bytes::from_static(PROPOSED);
        }
        let mut m = Message { from: self.id.0, ..Message::default() };
        m.set_msg_type(MessageType::MsgPropose);
        m.set_entries(vec![entry].into());
        if self.node.step(m).is_err() {
            out.push(Output::Refused(payload));
        }
    }

    fn on_message(&mut self, now: Mono, from: NodeId, bytes: Bytes, out: &mut Vec<Output>) {
        match parse(bytes) {
            Err(error) => self.drop_message(error),
            Ok(Frame::Raft { message, round, sleep }) => {
                let message = Message { from: from.0, to: self.id.0, ..message };
                match self.guard(&message) {
                    Ok(()) => self.on_raft(now, message, round, sleep, out),
                    Err(error) => self.drop_message(error),
                }
            }
            Ok(Frame::ReadRequest(nonce)) => {
                self.wake(now, false, out);
                self.on_read_request(now, from, nonce, out);
            }
            Ok(Frame::ReadReply { nonce, index }) => self.on_read_reply(from, nonce, index, out),
            Ok(Frame::Wake) => self.wake(now, false, out),
        }
    }

    fn on_raft(&mut self, now: Mono, m: Message, round: u64, sleep: bool, out: &mut Vec<Output>) {
        let from = NodeId(m.from);
        if self.holds_vote(&m, now) {
            return self.wake(now, true, out);
        }
        self.note_heard(now, from);
        let kind = m.get_msg_type();
        let lulls = kind == MessageType::MsgHeartbeatResponse || (kind == MessageType::MsgHeartbeat && sleep);
        if !lulls {
            self.wake(now, false, out);
        }
        if self.is_from_leader(&m) {
            self.heard_leader_at = Some(now);
            self.lost = None;
        }
        let term = m.term;
        let blank = self.is_blank();
        if kind == MessageType::MsgAppend && blank {
            return self.ask_for_snapshot(&m);
        }
        self.echo = (if blank { NO_ROUND } else { round }, false);
        // An error means that the engine ignored the message, as it ignores answers from strangers.
        if self.node.step(m).is_err() || term != self.node.raft.term {
            return;
        }
        if kind == MessageType::MsgHeartbeatResponse && self.leads() {
            self.rounds.answer(from, round);
            self.rounds.confirm(self.id, &self.members);
            if sleep {
                self.note_asleep(from);
            }
        } else if kind == MessageType::MsgHeartbeat && sleep && self.node.raft.leader_id == from.0 {
            self.echo.1 = self.fall_asleep();
        }
    }

    /// A node that knows no members cannot judge a change of them, so it begins with a snapshot. So does one that may have
    /// forgotten what it acknowledged: with one that reaches beyond that. A leader of the members that the group then had
    /// has none, and gets no acknowledgement either.
    fn ask_for_snapshot(&mut self, append: &Message) {
        let core = &mut self.node.raft;
        if append.term < core.term {
            return;
        }
        if append.term > core.term || core.leader_id != append.from {
            core.become_follower(append.term, append.from);
        }
        core.election_elapsed = 0;
        let mut answer = Message {
            from: self.id.0,
            to: append.from,
            term: core.term,
            index: append.index,
            reject: true,
            request_snapshot: self.state.floor.max(1),
            ..Message::default()
        };
        answer.set_msg_type(MessageType::MsgAppendResponse);
        core.msgs.push(answer);
    }

    fn on_tick(&mut self, now: Mono, out: &mut Vec<Output>) {
        self.expire_reads(now, out);
        if self.is_sole_voter() && !self.leads() && self.log_is_stable() {
            // An error leaves the node a follower; the next tick tries again.
            let _ = self.node.campaign();
            self.settle(now, out);
        }
        let due = now.since(self.ticked_at).0 / self.config.tick.0;
        self.ticked_at = if due > TICKS_MAX { now } else { self.ticked_at + Nanos(due * self.config.tick.0) };
        if self.sleep.asleep {
            return;
        }
        self.stand_first(now, out);
        self.hasten(now);
        for _ in 0..due.min(TICKS_MAX) {
            let core = &self.node.raft;
            let would_campaign = core.election_elapsed + 1 >= core.randomized_election_timeout();
            // Nobody has heard yet of a vote that is not on stable storage: time does not count against it.
            let unfit =
                self.vote_outstanding().is_some() || would_campaign && (self.is_blank() || !self.log_is_stable());
            if !self.leads() && unfit {
                break;
            }
            if self.node.tick() && !self.leads() {
                self.draw_timeout();
                self.keep_haste();
            }
            self.settle(now, out);
        }
        self.consider_sleep(now);
    }

    /// The first leader of a new group stands. A candidate that has raised its term waits for votes as any other.
    fn stand_first(&mut self, now: Mono, out: &mut Vec<Output>) {
        if self.eager == 0 {
            return;
        }
        let core = &self.node.raft;
        let unled = core.leader_id == 0 && matches!(core.state, StateRole::Follower | StateRole::PreCandidate);
        self.eager = if core.leader_id == 0 { self.eager - 1 } else { 0 };
        if unled {
            // An error leaves the node a follower; the next tick tries again.
            let _ = self.node.campaign();
            self.settle(now, out);
        }
    }

    fn is_sole_voter(&self) -> bool {
        let members = &self.members;
        members.outgoing.is_empty()
            && members.voters.len() == 1
            && members.voters.contains(&self.id)
            && !self.is_blank()
    }

    /// Nobody is to be told that this node leads.
    fn rules_alone(&self) -> bool {
        self.leads() && self.is_sole_voter() && self.members.learners.is_empty()
    }

    /// HAZARD: this is the one place where a follower gives up a leader before its election timeout. It waits until
    /// every lease that this node acknowledged has run out; without that, a follower that merely lost its connection to
    /// a living leader would help to elect a second one while the first still answers reads.
    fn hasten(&mut self, now: Mono) {
        let Some(leader) = self.lost else { return };
        let core = &mut self.node.raft;
        if core.state != StateRole::Follower || core.leader_id != leader.0 {
            self.lost = None;
            return;
        }
        if self.heard_leader_at.is_some_and(|at| now < at + self.config.hold()) {
            return;
        }
        self.lost = None;
        core.leader_id = 0;
        self.set_timer();
        self.haste = HASTY_ELECTIONS;
        self.shorten(0);
    }

    fn on_persisted(&mut self, id: PersistId) {
        assert!(id.0 < self.persist_next, "only what was put out can be persisted");
        let mut ready = None;
        while self.outstanding.front().is_some_and(|persist| persist.id <= id) {
            let Some(persist) = self.outstanding.pop_front() else { break };
            ready = Some(persist.ready);
            if persist.vote {
                self.vote_took = self.now.since(persist.since);
            }
        }
        if let Some(ready) = ready {
            self.node.on_persist_ready(ready);
            self.catch_up();
        }
    }

    fn on_snapshot_saved(&mut self, meta: SnapshotMeta, compact_to: LogIndex) {
        assert!(meta.index.0 <= self.handed, "a snapshot holds what was committed");
        if meta.index.0 == 0 || meta.index.0 < self.node.store().snapshot_index() {
            return;
        }
        let compact_to = compact_to.0.min(meta.index.0).min(self.node.raft.raft_log.applied);
        self.node.mut_store().compact(meta, compact_to);
        self.wanted_told = false;
    }

    fn on_unreachable(&mut self, now: Mono, node: NodeId, out: &mut Vec<Output>) {
        if self.leads() {
            self.wake(now, false, out);
            self.node.report_unreachable(node.0);
        } else if self.node.raft.leader_id == node.0 && node.0 != 0 {
            self.wake(now, false, out);
            self.lost = Some(node);
        }
    }

    /// Puts out everything that the last step led to.
    fn settle(&mut self, now: Mono, out: &mut Vec<Output>) {
        self.repair(out);
        loop {
            self.set_timer();
            while self.node.has_ready() {
                self.drain(now, out);
                self.set_timer();
            }
            self.tell_role(out);
            self.pump_reads(now, out);
            if !self.node.has_ready() {
                break;
            }
        }
        let wanted = self.node.store().wanted.get();
        if wanted && !self.wanted_told {
            self.wanted_told = true;
            out.push(Output::WantSnapshot);
        }
    }

    /// Writes down what recovery found void, before anything else touches the log.
    fn repair(&mut self, out: &mut Vec<Output>) {
        if std::mem::take(&mut self.node.mut_store().stale) {
            let records = vec![truncate_record(self.node.store().base.0, true), self.write_state()];
            self.put_persist(records, false, false, out);
        }
    }

    fn drain(&mut self, now: Mono, out: &mut Vec<Output>) {
        let mut ready = self.node.ready();
        let number = ready.number();
        self.last_ready = number;
        let leading = ready.take_messages();
        let following = ready.take_persisted_messages();
        let committed = ready.take_committed_entries();
        let (records, log) = self.collect(&ready, out);
        if !leading.is_empty() && self.vote_outstanding().is_none() && !self.vote_is_new() {
            self.send_all(now, leading, None, out);
            self.persist(records, log, out);
        } else {
            self.persist(records, log, out);
            let after = self.vote_outstanding();
            self.send_all(now, leading, after, out);
        }
        // An answer to a heartbeat says nothing of the log: a slow disk must not make a leader think that nobody is there.
        let beat = |m: &Message| m.get_msg_type() == MessageType::MsgHeartbeatResponse;
        let (beats, rest): (Vec<Message>, Vec<Message>) = following.into_iter().partition(beat);
        self.send_all(now, beats, self.vote_outstanding(), out);
        let after = self.outstanding.back().map(|persist| persist.id);
        self.send_all(now, rest, after, out);
        self.node.advance_append_async(ready);
        match self.outstanding.back_mut() {
            Some(last) => last.ready = number,
            None => self.node.on_persist_ready(number),
        }
        self.hand_out(committed, out);
    }

    /// The records of a `Ready`; true if the log is among them.
    fn collect(&mut self, ready: &Ready, out: &mut Vec<Output>) -> (Vec<Record>, bool) {
        let mut records = Vec::new();
        if !ready.snapshot().is_empty() {
            let meta = to_meta(ready.snapshot());
            self.node.mut_store().install(meta.clone());
            self.members = meta.members.clone();
            self.state.base = meta.members.clone();
            self.handed = meta.index.0;
            records.push(truncate_record(meta.index.0, true));
            out.push(Output::InstallSnapshot(meta));
        }
        if let Some(first) = ready.entries().first() {
            if self.node.mut_store().append(ready.entries()) {
                records.push(truncate_record(first.index - 1, false));
            }
            records.extend(ready.entries().iter().map(entry_record));
        }
        if let Some(hard) = ready.hs() {
            self.hard = hard.clone();
        }
        let log = !records.is_empty();
        (records, log)
    }

    fn vote_is_new(&self) -> bool {
        (self.hard.term, self.hard.vote) != (self.state.hard.term, self.state.hard.vote)
    }

    fn vote_outstanding(&self) -> Option<PersistId> {
        self.outstanding.iter().rev().find(|persist| persist.vote).map(|persist| persist.id)
    }

    /// Puts out a `Persist` if there is something to write. A commit index that grew alone waits for company.
    fn persist(&mut self, mut records: Vec<Record>, log: bool, out: &mut Vec<Output>) {
        let vote = self.vote_is_new();
        if vote || (log && self.hard != self.state.hard) {
            records.push(self.write_state());
        }
        if !records.is_empty() {
            self.put_persist(records, log, vote, out);
        }
    }

    fn write_state(&mut self) -> Record {
        self.state.hard = self.hard.clone();
        self.state.to_record()
    }

    fn put_persist(&mut self, records: Vec<Record>, log: bool, vote: bool, out: &mut Vec<Output>) {
        let id = PersistId(self.persist_next);
        self.persist_next += 1;
        self.outstanding.push_back(Outstanding { id, ready: self.last_ready, log, vote, since: self.now });
        out.push(Output::Persist { id, records });
    }

    fn send_all(&mut self, now: Mono, messages: Vec<Message>, after: Option<PersistId>, out: &mut Vec<Output>) {
        for m in messages {
            let to = NodeId(m.to);
            let (round, sleep) = match m.get_msg_type() {
                MessageType::MsgHeartbeat => (self.begin_round(now), self.sleep.drowsy),
                MessageType::MsgHeartbeatResponse => self.echo,
                MessageType::MsgSnapshot => {
                    let meta = to_meta(m.get_snapshot());
                    let message = encode(&Frame::Raft { message: m, round: 0, sleep: false });
                    out.push(Output::OfferSnapshot { to, meta, message });
                    continue;
                }
                _ => (0, false),
            };
            self.send(to, &Frame::Raft { message: m, round, sleep }, after, out);
        }
    }

    fn hand_out(&mut self, entries: Vec<Entry>, out: &mut Vec<Output>) {
        let Some(last) = entries.last().map(|entry| entry.index) else { return };
        assert_eq!(entries[0].index, self.handed + 1, "commits have no gap");
        if self.leads() {
            self.sleep.busy_at = self.now;
        }
        let mut batch = Vec::with_capacity(entries.len());
        for entry in entries {
            let (index, term) = (LogIndex(entry.index), Term(entry.term));
            let (kind, payload) = match entry.get_entry_type() {
                EntryType::EntryNormal if entry.data.is_empty() && entry.context.is_empty() => {
                    (CommittedKind::Noop, Bytes::new())
                }
                EntryType::EntryNormal => (CommittedKind::Normal, entry.data),
                EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => self.change_members(&entry.data),
            };
            batch.push(Committed { index, term, kind, time: None, payload, parts: Vec::new() });
        }
        self.handed = last;
        out.push(Output::Commit(batch));
        self.catch_up();
        self.leave_if_removed();
    }

    /// Puts a committed change in force. One that contradicts the members in force does nothing, on every node alike.
    fn change_members(&mut self, data: &Bytes) -> (CommittedKind, Bytes) {
        let nothing = (CommittedKind::Noop, Bytes::new());
        let mut change = ConfChangeV2::default();
        if change.merge_from_bytes(data).is_err() {
            return nothing;
        }
        let Ok(state) = self.node.apply_conf_change(&change) else { return nothing };
        self.members = to_members(&state);
        // The entry that ends a joint change is the engine's own and carries nothing.
        (CommittedKind::Members(self.members.clone()), change.context)
    }

    /// The engine goes on leading a group that it no longer votes in; nobody else may rely on that.
    fn leave_if_removed(&mut self) {
        if self.node.raft.promotable() || self.node.raft.state == StateRole::Follower {
            return;
        }
        let core = &mut self.node.raft;
        if core.state == StateRole::Leader {
            let matched = |node: &NodeId| core.prs().get(node.0).map_or(0, |progress| progress.matched);
            let best = self.members.voters.iter().filter(|node| **node != self.id).max_by_key(|node| matched(node));
            if let Some(heir) = best.copied() {
                core.send_timeout_now(heir.0);
            }
        }
        let term = core.term;
        core.become_follower(term, 0);
    }

    /// Tells the engine how far entries are handed out; its own index may follow only once they are stable.
    fn catch_up(&mut self) {
        let log = &self.node.raft.raft_log;
        let applied = self.handed.min(log.committed).min(log.persisted);
        if applied > log.applied {
            self.node.advance_apply_to(applied);
        }
    }

    /// True for a node that cannot stand for election, so that no timeout of the engine's makes it forget its leader, and
    /// that has not heard from one for long: one that was cut off, or removed.
    fn is_deaf(&self) -> bool {
        let core = &self.node.raft;
        let long_ago =
            self.heard_leader_at.is_none_or(|at| self.now >= at + self.config.election_max + self.config.election_max);
        (!core.promotable() || self.is_blank()) && core.state == StateRole::Follower && !self.sleep.asleep && long_ago
    }

    fn tell_role(&mut self, out: &mut Vec<Output>) {
        let core = &self.node.raft;
        let leader = if self.is_deaf() { 0 } else { core.leader_id };
        let role = (leader, core.term, core.state == StateRole::Leader);
        if role == self.role {
            return;
        }
        self.role = role;
        self.rounds.reset();
        self.round = None;
        self.fail_reads(out);
        self.wake(self.now, false, out);
        let (leader, term, leads) = role;
        out.push(Output::Role { leader: (leader != 0).then_some(NodeId(leader)), term: Term(term), leads });
    }

    fn change_of(&self, change: &Change) -> Result<ConfChangeV2, String> {
        let mut wish = ConfChangeV2 { context: change.context.clone(), ..ConfChangeV2::default() };
        let mut push = |kind: ConfChangeType, node: &NodeId| {
            let mut single = ConfChangeSingle { node_id: node.0, ..ConfChangeSingle::default() };
            single.set_change_type(kind);
            wish.mut_changes().push(single);
        };
        let now = &self.members;
        change.voters.difference(&now.voters).for_each(|node| push(ConfChangeType::AddNode, node));
        change.learners.difference(&now.learners).for_each(|node| push(ConfChangeType::AddLearnerNode, node));
        let gone = now.all().into_iter().filter(|n| !change.voters.contains(n) && !change.learners.contains(n));
        gone.for_each(|node| push(ConfChangeType::RemoveNode, &node));
        match wish.changes.len() {
            0 if change.context.is_empty() => Err("the group already has these members".into()),
            // Only what the change carries is new: a voter that is one already becomes one.
            0 => {
                let same = ConfChangeSingle { node_id: self.id.0, ..ConfChangeSingle::default() };
                wish.mut_changes().push(same);
                Ok(wish)
            }
            count if count > MAX_MEMBERS => Err(format!("{count} changes at once; the most is {MAX_MEMBERS}")),
            _ => Ok(wish),
        }
    }
}

impl Agreement for Raft {
    fn on(&mut self, now: Mono, input: Input, out: &mut Vec<Output>) {
        self.begin(now);
        match input {
            Input::Propose(payload) => self.on_propose(now, payload, out),
            Input::Message { from, bytes } => self.on_message(now, from, bytes, out),
            Input::Tick => self.on_tick(now, out),
            Input::Persisted(id) => self.on_persisted(id),
            Input::SnapshotSaved { meta, compact_to } => self.on_snapshot_saved(meta, compact_to),
            Input::SnapshotSent { to, delivered } => {
                self.wake(now, false, out);
                let status = if delivered { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
                self.node.report_snapshot(to.0, status);
            }
            Input::Unreachable(node) => self.on_unreachable(now, node, out),
            // Entries count as applied once they are handed out; the machine's pace bounds snapshots, not the engine.
            // A Raft leader is trusted, so nobody is asked for a verdict.
            Input::Applied(_) | Input::Verdict { .. } | Input::Checkpointed { .. } => {}
        }
        self.settle(now, out);
    }

    fn tick_interval(&self) -> Nanos {
        if self.sleep.asleep || self.rules_alone() {
            Nanos(self.config.tick.0 * ASLEEP_TICKS)
        } else {
            self.config.tick
        }
    }

    fn status(&self) -> AgreementStatus {
        let core = &self.node.raft;
        let leads = self.leads();
        let mut progress: Vec<Progress> = core
            .prs()
            .iter()
            .filter(|(node, _)| leads && **node != self.id.0)
            .map(|(node, progress)| Progress {
                node: NodeId(*node),
                matched: LogIndex(progress.matched),
                active: self.is_heard(self.now, NodeId(*node)),
            })
            .collect();
        progress.sort_unstable_by_key(|progress| progress.node);
        AgreementStatus {
            leader: (self.role.0 != 0).then_some(NodeId(self.role.0)),
            leads,
            term: Term(core.term),
            last: LogIndex(core.raft_log.last_index()),
            committed: LogIndex(core.raft_log.committed),
            first: LogIndex(core.raft_log.first_index()),
            members: self.members.clone(),
            progress,
            hibernating: self.sleep.asleep,
        }
    }

    fn invariants(&self) {
        let core = &self.node.raft;
        let log = &core.raft_log;
        let store = core.store();
        store.invariants();
        self.reads.invariants();
        assert_eq!(log.last_index(), store.last(), "everything the engine has was collected");
        assert!(log.applied <= log.committed && log.committed <= log.last_index(), "applied, committed, last: a row");
        assert!(self.handed <= log.committed, "only what is committed is handed out");
        assert!(store.base.0 <= self.handed, "only what was handed out is compacted");
        assert!(store.snapshot_meta().is_none_or(|meta| meta.index.0 >= store.base.0), "a snapshot covers the base");
        assert!(log.term(log.committed).is_ok_and(|term| term <= core.term), "no entry is from a later term");
        assert_eq!(self.members, to_members(&core.prs().conf().to_conf_state()), "members are those of the engine");
        assert!(!self.leads() || self.members.voters.contains(&self.id) || self.members.outgoing.contains(&self.id));
        let ids = self.outstanding.iter().map(|persist| persist.id);
        assert!(ids.clone().zip(ids.skip(1)).all(|(a, b)| a < b), "persists come back in order");
        assert!(store.first_index().is_ok_and(|first| first == store.base.0 + 1));
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

impl Raft {
    fn begin(&mut self, now: Mono) {
        assert!(now >= self.now, "a node's clock never goes back within one life");
        self.now = now;
        self.round = None;
        self.echo = (0, false);
    }
}

impl Barrier for Raft {
    fn on_barrier(&mut self, now: Mono, id: BarrierId, out: &mut Vec<Output>) {
        self.begin(now);
        self.wake(now, true, out);
        self.begin_read(now, id, out);
        self.settle(now, out);
    }
}

impl Reconfigure for Raft {
    fn on_reconfigure(&mut self, now: Mono, change: Change, out: &mut Vec<Output>) -> Result<(), String> {
        self.begin(now);
        if !self.leads() {
            return Err("only the leader changes members".into());
        }
        let wished = Members { voters: change.voters.clone(), learners: change.learners.clone(), ..Members::default() };
        crate::message::check_members(&wished).map_err(|error| error.to_string())?;
        if !self.members.outgoing.is_empty() || self.node.raft.has_pending_conf() {
            return Err("another change of members is under way".into());
        }
        if self.node.raft.lead_transferee.is_some() {
            return Err("leadership is being handed over".into());
        }
        let wish = self.change_of(&change)?;
        self.wake(now, false, out);
        let result = self.node.propose_conf_change(Vec::new(), wish);
        self.settle(now, out);
        result.map_err(|error| error.to_string())
    }
}

impl Transfer for Raft {
    fn on_transfer(&mut self, now: Mono, to: NodeId, out: &mut Vec<Output>) {
        self.begin(now);
        if !self.leads() || to == self.id || !self.members.voters.contains(&to) {
            return;
        }
        self.wake(now, false, out);
        self.rounds.begin_transfer();
        self.node.transfer_leader(to.0);
        self.settle(now, out);
    }
}
