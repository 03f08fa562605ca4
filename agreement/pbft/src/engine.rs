//! The step machine: contract inputs to the protocol's handlers, and what follows from them to contract outputs.
//!
//! - upon an input: its handler changes the state and fills the outbox; then everything that follows is put out;
//! - upon a prepare, a commit or a view change of one's own: one `Persist` for the whole call; whatever tells of it waits;
//! - upon a pre-prepare of one's own: it leaves once it is stable that its view has begun here, and waits for nothing else. A
//!   primary that starts anew leads no view that it may have led before, so it can never have said two things;
//! - upon a committed batch: it is handed out once its record is stable here as well; the proof may follow later.
//!
//! Deliberately absent: any trust in the driver's word about who a peer is beyond its link: what counts is signed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use verity_contract::{
    Agreement, AgreementStatus, Barrier, BarrierId, Boot, Input, Members, Output, PersistId, Progress, Reconfigure,
    Record, SnapshotMeta, Verdict, Witness,
};
use verity_types::{Digest, LogIndex, Mono, Nanos, NodeId, Term, WallMs};

use crate::checkpoint::Checkpoints;
use crate::client::Client;
use crate::epoch::Chain;
use crate::evidence::{Evidence, Known};
use crate::keys::{Keys, Signed};
use crate::message::{Batch, Message, NewView, Request, Scope, Stable, Status, encode, parse};
use crate::pace::{Dials, Pace};
use crate::queue::{Ahead, Queue, Room};
use crate::quorum::Quorum;
use crate::slot::{Accepted, Slot, Vote};
use crate::state::{Context, Entry, Kept, Recovered, State};
use crate::view_change::Changing;
use crate::{Config, Error, Mutant};

/// How many bits of a term are the view.
const VIEW_BITS: u32 = 40;
/// A peer whose signatures failed too often is not listened to for this long.
const BAN: Nanos = Nanos::from_millis(2_000);
/// How many messages of a view that has not begun here are kept for each peer, and how many bytes of them.
const STASH_MESSAGES: usize = 1_024;
const STASH_BYTES: usize = 4 << 20;

/// A `Persist` that has not come back.
#[derive(Debug)]
struct Outstanding {
    id: PersistId,
    /// The entries that it holds lie in here; empty if the first is above the second.
    entries: (u64, u64),
    /// Commits of this replica that count once it is stable, with their view.
    commits: Vec<(u64, u64)>,
    /// The stable checkpoint that it holds, if it holds one.
    stable: Option<u64>,
}

/// When a message may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Now,
    /// Once it is stable that the view has begun here.
    Begun,
    /// Once everything that this call and those before it changed is stable.
    Stable,
}

/// What is known of another replica.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    pub(crate) status: Status,
    /// In which epoch it said so.
    pub(crate) epoch: u64,
    /// When it was told of this replica's epoch last.
    pub(crate) told_at: Option<Mono>,
    pub(crate) heard_at: Option<Mono>,
    /// A snapshot is on its way to it.
    pub(crate) offered: bool,
    /// When something was fetched from it last.
    pub(crate) fetched_at: Option<Mono>,
    /// Signatures that failed since the last ban.
    bad: u32,
    banned_until: Mono,
    stash: VecDeque<(Bytes, usize)>,
    stash_bytes: usize,
}

impl Peer {
    /// Another epoch begins.
    pub(crate) fn forgive(&mut self) {
        (self.bad, self.banned_until) = (0, Mono(0));
    }

    /// True if it spoke within this long.
    fn is_heard(&self, now: Mono, span: Nanos) -> bool {
        self.heard_at.is_some_and(|at| now.since(at) < span)
    }
}

/// One group's PBFT on one node.
pub struct Pbft {
    pub(crate) id: NodeId,
    pub(crate) config: Config,
    pub(crate) keys: Keys,
    pub(crate) now: Mono,
    wall: Option<(Mono, WallMs)>,
    pub(crate) scope: Scope,
    /// Who the members were, and are.
    pub(crate) chain: Chain,
    /// The end of the epoch, if it lies in what an earlier life executed.
    pub(crate) foreseen: Option<u64>,
    pub(crate) members: Members,
    pub(crate) voters: Vec<NodeId>,
    pub(crate) quorum: Quorum,
    pub(crate) view: u64,
    /// False while the view is only wished for.
    pub(crate) entered: bool,
    /// When it was entered, or wished for.
    pub(crate) view_at: Mono,
    /// When something was executed last.
    pub(crate) progress_at: Mono,
    /// This replica led this view in an earlier life, and leads it no more.
    pub(crate) barred: Option<u64>,
    /// The last index that is no longer in the log.
    pub(crate) base: u64,
    /// Committed, without gaps behind `base`.
    pub(crate) entries: BTreeMap<u64, Entry>,
    /// The last index handed out in a `Commit` or an `InstallSnapshot`.
    pub(crate) handed: u64,
    /// As of `handed`.
    pub(crate) context: Context,
    pub(crate) slots: BTreeMap<u64, Slot>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) queue: Queue,
    pub(crate) client: Client,
    /// On a primary: what it assigns next, and how far each client is proposed.
    pub(crate) next: u64,
    /// When it assigned last.
    pub(crate) batched_at: Mono,
    pub(crate) ahead: Ahead,
    /// The highest stamp of a batch that was accepted.
    pub(crate) time_seen: u64,
    /// On a primary: its view has no batch yet.
    pub(crate) announces: bool,
    /// On a primary: batches of nothing are made up to here, and when that was last wished for.
    pub(crate) pad_to: u64,
    pub(crate) padded_at: Option<Mono>,
    /// A tick came, and before it the clock if there is one: a batch without a stamp is refused by those who have a clock.
    pub(crate) ticked: bool,
    pub(crate) changing: Changing,
    pub(crate) pace: Pace,
    pub(crate) new_view: Option<NewView>,
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    pub(crate) beat_at: Mono,
    pub(crate) fetched_at: Option<Mono>,
    pub(crate) snapshot: Option<SnapshotMeta>,
    pub(crate) wants_snapshot: bool,
    /// The state came from another node at this index, and was not compared with its proof yet.
    pub(crate) unproven: Option<u64>,
    /// It was, and is another: there is none here.
    pub(crate) void: bool,
    /// Who sent the last one.
    pub(crate) state_from: Option<NodeId>,
    wanted_told: bool,
    /// What the driver was asked about: the digest at each index.
    pub(crate) judging: BTreeMap<u64, Digest>,
    known: Known,
    /// The snapshot that this life began with, whose checkpoint is to be taken again.
    began_at: Option<u64>,
    installed: u64,
    /// What proves the state that is not compared with it yet.
    pub(crate) trial: Stable,
    floor: u64,
    founders: Members,
    written: Option<State>,
    state_due: bool,
    records: Vec<Record>,
    lazy: Vec<Record>,
    recorded: (u64, u64),
    committing: Vec<(u64, u64)>,
    outstanding: VecDeque<Outstanding>,
    persist_next: u64,
    /// The `Persist` that holds that the view has begun.
    begun: PersistId,
    /// The last stable checkpoint whose proof is on this replica's disk.
    low_kept: u64,
    outbox: Vec<(NodeId, Bytes, bool, Leave)>,
    pub(crate) ready: Vec<Output>,
    role: (Option<NodeId>, Term, bool),
    dropped: u64,
    last_error: Option<Error>,
}

impl Pbft {
    /// Starts a group's engine from what stable storage held.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] for nonsense in `config` or `boot`; [`Error::Storage`] if the records are none that this engine
    /// wrote, or begin behind the snapshot.
    pub fn start(boot: Boot, config: Config, keys: Keys, now: Mono) -> Result<Self, Error> {
        config.validate()?;
        let fresh = boot.records.is_empty();
        let mut scope = Scope { group: config.group.clone(), epoch: 0 };
        let recovered = Recovered::from_boot(&boot, &scope)?;
        scope.epoch = recovered.state.chain.epoch();
        let Recovered { state, base, context, entries, kept } = recovered;
        let low_kept = state.stable.n;
        let mut pbft = Self {
            id: boot.id,
            now,
            wall: None,
            scope,
            voters: Vec::new(),
            quorum: Quorum::of(0),
            members: Members::default(),
            chain: state.chain.clone(),
            foreseen: None,
            view: state.view,
            entered: state.entered,
            view_at: now,
            progress_at: now,
            barred: None,
            base,
            entries,
            handed: boot.snapshot.as_ref().map_or(0, |meta| meta.index.0),
            context,
            slots: BTreeMap::new(),
            checkpoints: Checkpoints::new(state.stable.clone()),
            queue: Queue::default(),
            client: Client::new(boot.incarnation.0),
            next: 0,
            batched_at: now,
            ahead: Ahead::new(),
            time_seen: 0,
            announces: false,
            pad_to: 0,
            padded_at: None,
            ticked: false,
            changing: Changing::default(),
            pace: Pace::new(now),
            new_view: None,
            peers: BTreeMap::new(),
            beat_at: now,
            fetched_at: None,
            snapshot: boot.snapshot,
            wants_snapshot: false,
            unproven: None,
            void: false,
            state_from: None,
            wanted_told: false,
            judging: BTreeMap::new(),
            known: Known::default(),
            began_at: None,
            installed: state.installed,
            trial: state.trial.clone(),
            floor: state.floor,
            founders: state.founders.clone(),
            written: (!fresh).then_some(state),
            state_due: fresh,
            records: Vec::new(),
            lazy: Vec::new(),
            recorded: (u64::MAX, 0),
            committing: Vec::new(),
            outstanding: VecDeque::new(),
            persist_next: 1,
            begun: PersistId(0),
            low_kept,
            outbox: Vec::new(),
            ready: Vec::new(),
            role: (None, Term(0), false),
            dropped: 0,
            last_error: None,
            keys,
            config,
        };
        pbft.set_members(pbft.chain.members().clone());
        pbft.foresee();
        pbft.take_up(kept);
        if fresh {
            pbft.announces = pbft.is_primary();
        } else if pbft.entered && pbft.is_primary() {
            pbft.barred = Some(pbft.view);
        }
        if !pbft.entered && pbft.votes() {
            // The wish was on its way when this replica stopped, and is said again.
            pbft.wish();
        }
        pbft.next = pbft.decided() + 1;
        if let Some(kept) = pbft.written.as_ref().map(|state| state.kept.clone()).filter(|kept| kept.n > 0) {
            pbft.checkpoints.remember(kept);
        }
        if pbft.handed > 0 {
            pbft.checkpoints.expect(pbft.handed, pbft.context.clone());
            pbft.began_at = Some(pbft.handed);
            // What another node sent is compared with its proof once more: this node stopped before it was, or found it a lie.
            if pbft.trial.n == pbft.handed {
                pbft.checkpoints.remember(pbft.trial.clone());
                pbft.unproven = Some(pbft.handed);
            }
        }
        Ok(pbft)
    }

    /// Takes up what storage held between the watermarks. What is above was fetched, or
    /// is left of a torn write without the checkpoint that came with it: nobody was told of it.
    fn take_up(&mut self, mut kept: BTreeMap<u64, Kept>) {
        kept.retain(|n, _| self.in_window(*n));
        for (n, kept) in kept {
            let within = kept.vote_epoch == self.scope.epoch;
            let accepted = kept.vote.filter(|(view, ..)| within && *view == self.view && self.entered);
            let accepted = accepted.map(|(_, digest, lead)| Accepted {
                digest,
                batch: kept.batch(digest).cloned(),
                lead,
                judged: true,
                at: self.now,
            });
            let proven = kept.proof_epoch == self.scope.epoch;
            let prepared = kept.prepared.clone().filter(|_| proven);
            let prepared = prepared.and_then(|proof| kept.batch(proof.digest).cloned().map(|batch| (proof, batch)));
            let committed = kept.committed.clone().filter(|_| proven);
            let chosen = committed.as_ref().and_then(|(digest, _)| kept.batch(*digest).cloned());
            self.slots.insert(n, Slot { accepted, prepared, chosen, committed, ..Slot::default() });
        }
        let view = self.view;
        let voted: Vec<(u64, Digest)> = self
            .slots
            .iter()
            .filter_map(|(n, slot)| slot.accepted.as_ref().map(|accepted| (*n, accepted.digest)))
            .collect();
        if !self.votes() || self.primary() == self.id {
            return;
        }
        for (n, digest) in voted {
            let sig = self.keys.sign(self.scope.prepare(view, n, digest));
            let slot = self.slots.get_mut(&n).expect("it was just read");
            slot.prepares.put(self.id, Vote { digest, sig, sound: true });
        }
    }

    pub(crate) fn set_members(&mut self, members: Members) {
        self.voters = members.voters.iter().copied().collect();
        self.quorum = Quorum::of(self.voters.len());
        if self.config.breaks(Mutant::QuorumOfTwoThirds) {
            self.quorum.size = 2 * self.quorum.faulty + 1;
        }
        self.members = members;
    }

    /// How many messages were dropped as invalid, and why the last one was.
    #[must_use]
    pub fn dropped(&self) -> (u64, Option<&Error>) {
        (self.dropped, self.last_error.as_ref())
    }

    /// The last index that is committed and known here.
    pub(crate) fn decided(&self) -> u64 {
        self.entries.last_key_value().map_or(self.base, |(n, _)| *n)
    }

    /// The low watermark.
    pub(crate) fn low(&self) -> u64 {
        self.checkpoints.stable.n
    }

    /// True for a sequence number between the watermarks, and not behind the end of the epoch.
    pub(crate) fn in_window(&self, n: u64) -> bool {
        self.is_between(n) && self.end().is_none_or(|end| n <= end)
    }

    fn is_between(&self, n: u64) -> bool {
        n > self.low() && (n <= self.low() + self.config.window || self.config.breaks(Mutant::WatermarkNotEnforced))
    }

    /// True for a node that knows too little to count: no members, less than it may have forgotten, or less than its epoch began
    /// with.
    fn is_blank(&self) -> bool {
        let behind = self.handed < self.floor || self.decided() < self.chain.start();
        self.voters.is_empty() || behind || self.is_unsure()
    }

    /// True while the state here is not known to be the group's.
    pub(crate) fn is_unsure(&self) -> bool {
        self.void || self.unproven.is_some()
    }

    pub(crate) fn votes(&self) -> bool {
        self.members.voters.contains(&self.id) && !self.is_blank()
    }

    pub(crate) fn primary_of(&self, view: u64) -> NodeId {
        let count = self.voters.len() as u64;
        self.voters[usize::try_from((view + self.config.first_primary) % count).expect("a group is small")]
    }

    pub(crate) fn primary(&self) -> NodeId {
        self.primary_of(self.view)
    }

    /// True if this replica leads the view that it has entered.
    pub(crate) fn is_primary(&self) -> bool {
        self.votes() && self.entered && self.primary() == self.id && self.barred != Some(self.view)
    }

    pub(crate) fn term(&self) -> Term {
        Term((self.scope.epoch << VIEW_BITS) + self.view + 1)
    }

    pub(crate) fn dials(&self) -> Dials {
        let Config { pace_window: window, pace_percent: percent, pace_rise_percent: rise_percent, tick, .. } =
            self.config;
        Dials { window, percent, rise_percent, tick, views: self.voters.len() }
    }

    pub(crate) fn room(&self) -> Room {
        Room { requests: self.config.client_requests_max, bytes: self.config.client_bytes_max }
    }

    /// This replica's clock, in milliseconds since 1970, if it was told one.
    pub(crate) fn clock(&self) -> Option<u64> {
        let (at, wall) = self.wall?;
        Some(wall.0 + self.now.since(at).0 / 1_000_000)
    }

    /// The statement's signature is the node's, or this is an error that says so.
    pub(crate) fn check(&self, what: &str, signed: &Signed) -> Result<(), Error> {
        if self.keys.is_signed(signed) {
            return Ok(());
        }
        Err(Error::PeerMisbehaved { node: signed.node, what: format!("{what} without its signature") })
    }

    /// A request's signature is its client's.
    pub(crate) fn check_request(&self, from: NodeId, request: &Request) -> Result<(), Error> {
        if self.config.breaks(Mutant::UnsignedRequest) {
            return Ok(());
        }
        self.check("a request", &self.scope.of_request(request)).map_err(|_| Error::PeerMisbehaved {
            node: from,
            what: format!("a request of {} without its signature", request.client),
        })
    }

    // ---- what leaves

    pub(crate) fn send(&mut self, to: NodeId, message: &Message, leave: Leave) {
        self.send_of(self.scope.epoch, to, message, leave);
    }

    /// What is of another epoch than this replica's.
    pub(crate) fn send_of(&mut self, epoch: u64, to: NodeId, message: &Message, leave: Leave) {
        if to != self.id {
            self.outbox.push((to, encode(epoch, message), message.is_urgent(), leave));
        }
    }

    /// To all other voters.
    pub(crate) fn broadcast(&mut self, message: &Message, leave: Leave) {
        let bytes = encode(self.scope.epoch, message);
        let others = self.voters.iter().filter(|node| **node != self.id);
        self.outbox.extend(others.map(|node| (*node, bytes.clone(), message.is_urgent(), leave)));
    }

    /// Writes down what is known at `n` beside its proofs.
    pub(crate) fn record_slot(&mut self, n: u64) {
        let record = self.slots[&n].to_record(self.scope.epoch, n, self.view);
        self.record_entry(n, record);
    }

    /// Writes down an entry that must be stable before it is handed out.
    pub(crate) fn record_entry(&mut self, n: u64, record: Record) {
        self.records.push(record);
        self.recorded = (self.recorded.0.min(n), self.recorded.1.max(n));
    }

    /// Writes down a certificate that something said waits for.
    pub(crate) fn record_proof(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Writes down what nothing waits for: with the next `Persist`, or at the next heartbeat.
    pub(crate) fn record_later(&mut self, record: Record) {
        self.lazy.push(record);
    }

    pub(crate) fn flush_later(&mut self) {
        self.records.append(&mut self.lazy);
    }

    /// This replica's commit of `n` counts once what was written so far is stable.
    pub(crate) fn commit_later(&mut self, n: u64) {
        self.committing.push((n, self.view));
    }

    /// Another epoch begins: no commit of the last one counts.
    pub(crate) fn forget_commits(&mut self) {
        self.committing.clear();
        self.outstanding.iter_mut().for_each(|persist| persist.commits.clear());
    }

    /// The next `Persist` must hold a `State`.
    pub(crate) fn write_state(&mut self) {
        self.state_due = true;
    }

    /// A snapshot that a peer sent is to take the place of the log up to its checkpoint, if it is what this says.
    pub(crate) fn note_trial(&mut self, stable: Stable) {
        self.trial = stable;
        self.state_due = true;
    }

    /// It is, and it is kept.
    pub(crate) fn note_installed(&mut self, index: u64) {
        self.installed = index;
        self.note_trial(Stable::default());
    }

    /// A proof that somebody lies, told once.
    pub(crate) fn accuse(&mut self, evidence: &Evidence) {
        if self.known.is_new(evidence) {
            self.ready.push(Output::Evidence(evidence.encode()));
        }
    }

    /// Somebody's signature was none.
    pub(crate) fn blame(&mut self, node: NodeId) {
        let (now, most) = (self.now, self.config.bad_signatures_max);
        let peer = self.peers.entry(node).or_default();
        peer.bad += 1;
        if peer.bad >= most {
            (peer.bad, peer.banned_until) = (0, now + BAN);
        }
    }

    // ---- what comes

    fn on_message(&mut self, from: NodeId, bytes: Bytes) {
        let banned = self.peers.get(&from).is_some_and(|peer| peer.banned_until > self.now);
        if from == self.id || banned {
            self.dropped += 1;
            return;
        }
        let result = parse(bytes.clone()).and_then(|(epoch, message)| self.on_parsed(from, epoch, message, bytes));
        if let Err(error) = result {
            self.drop_from(from, error);
        }
    }

    /// Something that a node sent is dropped.
    pub(crate) fn drop_from(&mut self, from: NodeId, error: Error) {
        if matches!(error, Error::PeerMisbehaved { .. }) {
            self.blame(from);
        }
        self.dropped += 1;
        self.last_error = Some(error);
    }

    fn on_parsed(&mut self, from: NodeId, epoch: u64, message: Message, bytes: Bytes) -> Result<(), Error> {
        match &message {
            Message::Status(_)
            | Message::Fetch { .. }
            | Message::Entries { .. }
            | Message::Snapshot { .. }
            | Message::Request(_)
            | Message::Want { .. }
            | Message::Batch { .. }
            | Message::Stable(_)
            | Message::Link(_) => {}
            // It came sooner than what ends this epoch here.
            _ if epoch == self.scope.epoch + 1 => {
                self.stash(from, bytes);
                return Ok(());
            }
            _ if epoch != self.scope.epoch || !self.votes() || !self.members.voters.contains(&from) => return Ok(()),
            Message::PrePrepare { view, .. } | Message::Prepare { view, .. } | Message::Commit { view, .. } => {
                if *view > self.view || *view == self.view && !self.entered {
                    self.stash(from, bytes);
                    return Ok(());
                }
                if *view < self.view {
                    return Ok(());
                }
            }
            _ => {}
        }
        match message {
            Message::Request(request) => self.on_request(from, request),
            Message::PrePrepare { n, batch, sig, .. } => self.on_pre_prepare(from, n, batch, sig),
            Message::Prepare { n, digest, lead, sig, .. } => self.on_prepare(from, n, digest, lead, sig),
            Message::Commit { n, digest, sig, .. } => self.on_commit(from, n, digest, sig),
            Message::Checkpoint { n, digest, sig } => self.on_checkpoint(from, n, digest, sig),
            Message::ViewChange(change) => self.on_view_change(from, change),
            Message::NewView(new) => self.on_new_view(new),
            Message::Want { n, digest } => self.on_want(from, n, digest),
            Message::Batch { n, batch } => self.on_batch(n, batch),
            Message::Status(status) => self.on_status(from, epoch, status),
            Message::Fetch { from: start } => self.on_fetch(from, epoch, start),
            Message::Entries { first, entries } => self.on_entries(from, epoch, first, entries),
            Message::Snapshot { meta, stable, links } => self.on_snapshot(from, meta, &stable, links),
            Message::Link(link) => self.on_link(from, link),
            Message::Stable(stable) => self.on_stable(from, stable),
        }
    }

    /// Keeps a message of a view that has not begun here; the oldest give way.
    fn stash(&mut self, from: NodeId, bytes: Bytes) {
        let peer = self.peers.entry(from).or_default();
        let size = bytes.len();
        peer.stash_bytes += size;
        peer.stash.push_back((bytes, size));
        while peer.stash.len() > STASH_MESSAGES || peer.stash_bytes > STASH_BYTES {
            peer.stash_bytes -= peer.stash.pop_front().expect("there are some").1;
        }
    }

    /// A view has begun: what came for it too early is looked at now.
    pub(crate) fn unstash(&mut self) {
        let early: Vec<(NodeId, Bytes)> = self
            .peers
            .iter_mut()
            .flat_map(|(node, peer)| {
                peer.stash_bytes = 0;
                std::mem::take(&mut peer.stash).into_iter().map(|(bytes, _)| (*node, bytes))
            })
            .collect();
        early.into_iter().for_each(|(from, bytes)| self.on_message(from, bytes));
    }

    fn on_persisted(&mut self, id: PersistId) {
        assert!(id.0 < self.persist_next, "only what was put out can be persisted");
        while self.outstanding.front().is_some_and(|persist| persist.id <= id) {
            let persist = self.outstanding.pop_front().expect("seen above");
            self.low_kept = persist.stable.unwrap_or(self.low_kept);
            for (n, view) in persist.commits {
                if view == self.view && self.entered {
                    self.count_own_commit(n);
                }
            }
        }
    }

    fn on_tick(&mut self) {
        self.ticked = true;
        self.tick_client();
        self.tick_views();
        self.tick_outside();
        if self.now >= self.beat_at {
            self.beat_at = self.now + self.config.heartbeat;
            self.flush_later();
            self.beat();
        }
    }

    // ---- what follows

    /// Puts out everything that the last step led to.
    pub(crate) fn settle(&mut self, out: &mut Vec<Output>) {
        self.propose_batches();
        if let Some(index) = self.began_at.take().filter(|index| *index == self.handed) {
            self.ready.push(Output::Checkpoint { index: LogIndex(index) });
        }
        self.hand_out();
        if self.look_epoch() {
            self.propose_batches();
            self.hand_out();
        }
        self.persist(out);
        let last = self.outstanding.back().map(|persist| persist.id);
        let begun = self.outstanding.front().filter(|front| front.id <= self.begun).map(|_| self.begun);
        for (to, bytes, urgent, leave) in std::mem::take(&mut self.outbox) {
            let after = match leave {
                Leave::Now => None,
                Leave::Begun => begun,
                Leave::Stable => last,
            };
            out.push(Output::Send { to, bytes, after, urgent });
        }
        self.tell_role();
        out.append(&mut self.ready);
        if std::mem::take(&mut self.wants_snapshot) && !self.wanted_told && self.handed > 0 {
            self.wanted_told = true;
            out.push(Output::WantSnapshot);
        }
    }

    /// Puts out a `Persist` if there is something to write. What is lazy goes with it, and waits otherwise.
    fn persist(&mut self, out: &mut Vec<Output>) {
        // The last one's stands beside it already.
        let proof = self.snapshot.as_ref().and_then(|meta| self.checkpoints.proof(meta.index.0));
        let kept = proof.filter(|proof| proof.n != self.low()).cloned().unwrap_or_default();
        let state = State {
            view: self.view,
            entered: self.entered,
            installed: self.installed,
            trial: self.trial.clone(),
            floor: self.floor,
            stable: self.checkpoints.stable.clone(),
            kept,
            founders: self.founders.clone(),
            chain: self.chain.clone(),
        };
        let due =
            std::mem::take(&mut self.state_due) || (!self.records.is_empty() && self.written.as_ref() != Some(&state));
        if !due && self.records.is_empty() {
            return;
        }
        self.flush_later();
        let stable = due.then_some(state.stable.n);
        if due {
            let place = |state: &State| (state.chain.epoch(), state.view, state.entered);
            if self.written.as_ref().is_none_or(|held| place(held) != place(&state)) {
                self.begun = PersistId(self.persist_next);
            }
            self.records.push(state.to_record());
            self.written = Some(state);
        }
        if self.config.breaks(Mutant::VoteNotPersisted) {
            self.records.retain(|record| record.kind == verity_contract::RecordKind::State);
        }
        let id = PersistId(self.persist_next);
        self.persist_next += 1;
        let entries = std::mem::replace(&mut self.recorded, (u64::MAX, 0));
        let commits = std::mem::take(&mut self.committing);
        self.outstanding.push_back(Outstanding { id, entries, commits, stable });
        out.push(Output::Persist { id, records: std::mem::take(&mut self.records) });
    }

    /// The last index whose record is stable here, and those before it.
    pub(crate) fn stable_to(&self) -> u64 {
        let waiting = self.outstanding.iter().map(|persist| persist.entries.0).min().unwrap_or(u64::MAX);
        waiting.min(self.recorded.0).saturating_sub(1)
    }

    fn tell_role(&mut self) {
        let leads = self.is_primary();
        let leader = if self.voters.is_empty() || self.entered {
            (!self.voters.is_empty()).then(|| self.primary())
        } else {
            self.others_primary()
        };
        let role = (leader.filter(|leader| *leader != self.id || leads), self.term(), leads);
        if role != self.role {
            self.role = role;
            self.ready.push(Output::Role { leader: role.0, term: role.1, leads });
        }
    }

    /// Who leads those that did not leave the view, for a replica that did: somebody honest among f + 1 of them says so. It has
    /// no vote there any more, but its clients' requests are ordered there, and it learns what they came to.
    pub(crate) fn others_primary(&self) -> Option<NodeId> {
        let mut views: Vec<u64> = self
            .peers
            .values()
            .filter(|peer| peer.epoch == self.scope.epoch && peer.status.entered)
            .filter(|peer| peer.is_heard(self.now, self.config.view_timeout))
            .map(|peer| peer.status.view)
            .collect();
        views.sort_unstable_by(|a, b| b.cmp(a));
        let view = views.get(self.quorum.weak() - 1).copied()?;
        Some(self.primary_of(view)).filter(|primary| *primary != self.id)
    }

    fn on_verdict(&mut self, index: LogIndex, verdict: &Verdict) {
        let Some(digest) = self.judging.remove(&index.0) else { return };
        match verdict {
            Verdict::Accept => self.on_accepted(index.0, digest),
            Verdict::Reject(_) => self.on_rejected(index.0, digest),
        }
    }

    fn on_snapshot_saved(&mut self, meta: SnapshotMeta, compact_to: LogIndex) {
        assert!(meta.index.0 <= self.handed, "a snapshot holds what was committed");
        if meta.index.0 == 0 || self.snapshot.as_ref().is_some_and(|held| held.index > meta.index) {
            return;
        }
        // Behind the last stable checkpoint a view change asks for certificates, and who is behind for entries; and a proof
        // that is on no disk covers nothing after a crash.
        let compact_to = compact_to.0.min(meta.index.0).min(self.low_kept);
        if compact_to > self.base {
            self.entries = self.entries.split_off(&(compact_to + 1));
            self.base = compact_to;
        }
        if (1..=meta.index.0).contains(&self.trial.n) {
            // What a peer sent and was proven is kept, or something behind it: the log begins there.
            self.note_installed(self.trial.n);
        }
        self.checkpoints.keep_from(meta.index.0);
        self.snapshot = Some(meta);
        self.wanted_told = false;
    }

    pub(crate) fn stable(&self) -> &Stable {
        &self.checkpoints.stable
    }

    pub(crate) fn batch_of(&self, n: u64, digest: Digest) -> Option<&Batch> {
        let entry = self.entries.get(&n).filter(|entry| entry.digest == digest).map(|entry| &entry.batch);
        entry.or_else(|| self.slots.get(&n).and_then(|slot| slot.batch(digest)))
    }

    fn others(&self) -> BTreeSet<NodeId> {
        let mut all = self.members.all();
        all.remove(&self.id);
        all
    }

    /// To all other members, those that only learn among them.
    pub(crate) fn tell_all(&mut self, message: &Message) {
        let bytes = encode(self.scope.epoch, message);
        let others = self.others().into_iter();
        self.outbox.extend(others.map(|node| (node, bytes.clone(), message.is_urgent(), Leave::Now)));
    }
}

impl Agreement for Pbft {
    fn on(&mut self, now: Mono, input: Input, out: &mut Vec<Output>) {
        assert!(now >= self.now, "a node's clock never goes back within one life");
        self.now = now;
        match input {
            Input::Propose(op) => self.on_propose(op),
            Input::Message { from, bytes } => self.on_message(from, bytes),
            Input::Tick => self.on_tick(),
            Input::Persisted(id) => self.on_persisted(id),
            Input::Verdict { index, verdict } => self.on_verdict(index, &verdict),
            Input::Checkpointed { index, digest } => self.on_own_checkpoint(index.0, digest),
            Input::SnapshotSaved { meta, compact_to } => self.on_snapshot_saved(meta, compact_to),
            Input::SnapshotSent { to, .. } => {
                self.peers.entry(to).or_default().offered = false;
            }
            // A request that waits is what tells a view that is of no use, not a connection.
            Input::Unreachable(_) | Input::Applied(_) => {}
        }
        self.settle(out);
    }

    fn set_wall(&mut self, now: Mono, wall: WallMs) {
        self.wall = Some((now, wall));
    }

    fn tick_interval(&self) -> Nanos {
        self.config.tick
    }

    fn snapshot_context(&self, index: LogIndex) -> Option<Bytes> {
        // Of a state that is not known to be the group's there is no snapshot.
        self.checkpoints.context(index.0).filter(|_| !self.is_unsure())
    }

    fn status(&self) -> AgreementStatus {
        let progress = |node: NodeId| {
            let peer = self.peers.get(&node);
            Progress {
                node,
                matched: LogIndex(peer.map_or(0, |peer| peer.status.executed)),
                active: peer.is_some_and(|peer| peer.is_heard(self.now, self.config.view_timeout)),
            }
        };
        AgreementStatus {
            leader: self.role.0,
            leads: self.is_primary(),
            term: self.term(),
            last: LogIndex(self.slots.last_key_value().map_or(0, |(n, _)| *n).max(self.decided())),
            committed: LogIndex(self.decided()),
            first: LogIndex(self.base + 1),
            // As of what was handed out, like the driver's own.
            members: self.context.members.clone(),
            progress: self.others().into_iter().filter(|_| self.is_primary()).map(progress).collect(),
            hibernating: false,
        }
    }

    fn invariants(&self) {
        let decided = self.decided();
        assert!(self.base <= self.handed && self.handed <= decided, "base, handed, decided: a row");
        assert_eq!(self.entries.len() as u64, decided - self.base, "what is committed has no gap");
        assert!(self.entries.first_key_value().is_none_or(|(n, _)| *n == self.base + 1), "what is trimmed is gone");
        assert!(self.slots.keys().all(|n| *n > self.low()), "what a stable checkpoint covers is gone");
        if !self.config.breaks(Mutant::WatermarkNotEnforced) {
            assert!(self.slots.keys().all(|n| self.is_between(*n)), "nothing is above the high watermark");
        }
        let ends = self.end().filter(|_| !self.is_unsure());
        assert!(ends.is_none_or(|end| decided <= end), "nothing of an epoch is behind its end");
        assert_eq!(self.scope.epoch, self.chain.epoch(), "what is signed is of the epoch in force");
        let covered = self.snapshot.as_ref().map_or(0, |meta| meta.index.0);
        assert!(self.void || covered >= self.base, "a snapshot covers the base");
        assert!(self.outbox.is_empty() && self.records.is_empty() && self.ready.is_empty(), "everything was put out");
        self.queue.invariants(self.room());
        self.client.invariants();
        self.changing.invariants(self.quorum.count.max(1));
    }

    fn barrier(&mut self) -> Option<&mut dyn Barrier> {
        Some(self)
    }

    fn witness(&self) -> Option<&dyn Witness> {
        Some(self)
    }

    fn reconfigure(&mut self) -> Option<&mut dyn Reconfigure> {
        Some(self)
    }
}

impl Witness for Pbft {
    fn comes_with_snapshot(&self, bytes: &Bytes) -> bool {
        crate::message::is_snapshot(bytes)
    }

    fn enough(&self) -> usize {
        self.quorum.weak()
    }

    fn scope(&self) -> Bytes {
        self.scope.encode()
    }

    fn sign(&self, statement: Digest) -> Bytes {
        Bytes::copy_from_slice(&self.keys.sign(self.scope.answer(statement)).0)
    }

    fn is_signed(&self, node: NodeId, statement: Digest, signature: &Bytes) -> bool {
        self.keys.is_answer(&self.scope, node, statement, signature)
    }
}

impl Barrier for Pbft {
    fn on_barrier(&mut self, now: Mono, id: BarrierId, out: &mut Vec<Output>) {
        assert!(now >= self.now, "a node's clock never goes back within one life");
        self.now = now;
        self.on_barrier_wish(id);
        self.settle(out);
    }
}
