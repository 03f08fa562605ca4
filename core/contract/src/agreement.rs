//! How the members of a group come to one order.
//!
//! An [`Agreement`] is a pure step machine. Its driver keeps five promises, each of which a safety proof rests on:
//!
//! - upon `Persist { id, .. }`: the records reach stable storage, in the order in which they were put out, before
//!   `Input::Persisted(id)` comes back; later ids include earlier ones;
//! - upon `Send { after: Some(id), .. }`: the message leaves only after `id` is persisted; `after: None` may leave at once;
//! - upon `Commit`: the entries are applied in order, each once, and `Input::Applied` follows;
//! - messages may be lost, doubled and reordered, never altered (peers are authenticated), unless the engine says that
//!   it survives liars;
//! - `now` never goes back within one incarnation.
//!
//! HAZARD: an acknowledgement that overtakes its `Persist` loses committed entries when the power fails.

use std::collections::BTreeSet;

use bytes::Bytes;
use verity_types::{Digest, Incarnation, LogIndex, Mono, NodeId, Term, WallMs};

use crate::Pieces;

/// Names one `Persist` of one engine. Ids grow by one and never repeat within an incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistId(pub u64);

/// Names one barrier; chosen by the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BarrierId(pub u64);

/// What a record in the write-ahead log holds. Its payload is the engine's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// The engine's votes and promises. The last one written holds; its index is 0.
    State,
    /// A log entry or slot at `index`. A later record at the same index replaces it.
    Entry,
    /// What proves the entry at `index`: it stands beside it, and lives as long. A later record at the same index replaces it.
    Proof,
    /// The log behind `index` is void: a snapshot at `index` took its place, or a conflict cut it off.
    Truncate,
}

/// One record that must reach stable storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it holds.
    pub kind: RecordKind,
    /// The log index that it belongs to; 0 for [`RecordKind::State`].
    pub index: LogIndex,
    /// The engine's bytes.
    pub payload: Pieces,
}

/// Who takes part in a group.
///
/// `outgoing` is empty but for joint consensus (Raft dissertation §4.3), when a decision needs a majority of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Members {
    /// Those who vote.
    pub voters: BTreeSet<NodeId>,
    /// Those who still vote while a joint change is under way.
    pub outgoing: BTreeSet<NodeId>,
    /// Those who receive the log and do not vote.
    pub learners: BTreeSet<NodeId>,
}

impl Members {
    /// A group of these voters and nobody else.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self { voters: voters.into_iter().collect(), ..Self::default() }
    }

    /// True if `node` takes part in any role.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node) || self.learners.contains(&node)
    }

    /// Every member once, in order.
    #[must_use]
    pub fn all(&self) -> BTreeSet<NodeId> {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied().collect()
    }
}

/// What a snapshot replaces: the log up to and with `index`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last log index that the snapshot includes.
    pub index: LogIndex,
    /// The term of that entry, or the ballot round for Paxos.
    pub term: Term,
    /// The members as of `index`.
    pub members: Members,
    /// What the engine wants to find again beside the state: [`Agreement::snapshot_context`].
    pub context: Bytes,
}

/// One entry whose place in the order is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place.
    pub index: LogIndex,
    /// The term (or ballot round) in which it was proposed.
    pub term: Term,
    /// What it is.
    pub kind: CommittedKind,
    /// The stamp that the agreement gave it, where it gives one. What the proposer wrote into the payload then holds no more.
    pub time: Option<WallMs>,
    /// The proposed bytes, or the context of a [`Change`]. A change that goes through a joint configuration carries it in the
    /// entry that begins it; the one that ends it is empty.
    pub payload: Bytes,
    /// Where an engine puts several proposals into one entry: what each takes of the payload, in order. Empty: it is one.
    pub parts: Vec<Part>,
}

/// One of several proposals in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// Who proposed it, proven by its signature: nobody else can have.
    pub proposer: NodeId,
    /// So many bytes of the payload.
    pub length: usize,
}

/// What a committed entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommittedKind {
    /// A proposal, for the state machine.
    Normal,
    /// The engine's own filler; applying it only moves the index.
    Noop,
    /// The group's members are these from here on.
    Members(Members),
}

/// The result of [`Output::Judge`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The proposal may be voted for.
    Accept,
    /// The proposal breaks a rule; the text names it.
    Reject(String),
}

/// What happens to an engine.
#[derive(Clone, Debug)]
pub enum Input {
    /// Place these bytes in the order. Only a leader can, or every voter where members are not trusted
    /// ([`Agreement::witness`]); anyone else answers [`Output::Refused`].
    Propose(Bytes),
    /// Bytes from a peer's engine. Invalid ones are dropped, never a panic.
    Message {
        /// Who sent it (authenticated by the driver).
        from: NodeId,
        /// The engine's own encoding.
        bytes: Bytes,
    },
    /// Time has passed. Comes at least every [`Agreement::tick_interval`].
    Tick,
    /// The records of this `Persist`, and of all before it, are on stable storage.
    Persisted(PersistId),
    /// The state machine has applied up to here.
    Applied(LogIndex),
    /// The answer to [`Output::Checkpoint`].
    Checkpointed {
        /// The machine has applied this index and nothing behind it.
        index: LogIndex,
        /// Of its state there.
        digest: Digest,
    },
    /// The answer to [`Output::Judge`].
    Verdict {
        /// The proposal's index.
        index: LogIndex,
        /// The state machine's answer.
        verdict: Verdict,
    },
    /// A snapshot with this meta is on stable storage here; entries up to `compact_to` are no longer needed.
    SnapshotSaved {
        /// What the snapshot includes.
        meta: SnapshotMeta,
        /// The log may be dropped up to and with this index (at most `meta.index`).
        compact_to: LogIndex,
    },
    /// A snapshot that [`Output::OfferSnapshot`] asked for was delivered, or failed to be.
    SnapshotSent {
        /// The peer.
        to: NodeId,
        /// True if the peer has it on stable storage.
        delivered: bool,
    },
    /// The driver lost its connection to this peer. A hint: it may speed up an election, never decide one.
    Unreachable(NodeId),
}

/// What an engine wants.
#[derive(Clone, Debug)]
pub enum Output {
    /// Bring these records to stable storage, then say [`Input::Persisted`].
    Persist {
        /// Its name.
        id: PersistId,
        /// The records, in order.
        records: Vec<Record>,
    },
    /// Send `bytes` to `to`.
    Send {
        /// The peer.
        to: NodeId,
        /// The engine's own encoding.
        bytes: Bytes,
        /// Hold it back until this is persisted.
        after: Option<PersistId>,
        /// Small, and of use only while it is fresh: a sign of life, a vote, an acknowledgement. It may overtake what is not
        /// urgent, so that megabytes on their way to a peer do not make it believe that its leader is gone.
        urgent: bool,
    },
    /// These entries are settled, in order, without gaps behind the last `Commit`.
    Commit(Vec<Committed>),
    /// Chains only: everything behind `to` is no longer part of the order.
    Revert {
        /// The last index that stays.
        to: LogIndex,
    },
    /// Everything up to here can never be reverted. Engines with fixed membership never say it: there, commit is final.
    Final(LogIndex),
    /// A barrier's answer: a read is linearizable once the state machine has applied `index`.
    ReadReady {
        /// The barrier.
        id: BarrierId,
        /// Apply at least up to here first.
        index: LogIndex,
    },
    /// A barrier cannot be answered now (no leader, or leadership lost). The caller may ask again.
    ReadFailed(BarrierId),
    /// Who leads changed.
    Role {
        /// The leader, if one is known.
        leader: Option<NodeId>,
        /// Its term.
        term: Term,
        /// True if this node leads and may propose.
        leads: bool,
    },
    /// The proposal could not be taken (not leader, or too much is uncommitted); here it is back.
    Refused(Bytes),
    /// May this proposal be voted for? Answer with [`Input::Verdict`]. Engines that trust their leader never ask.
    Judge {
        /// Its index.
        index: LogIndex,
        /// Its bytes.
        payload: Bytes,
    },
    /// Once exactly this index is applied, say [`Input::Checkpointed`]. Comes right behind the `Commit` that ends with it, or
    /// behind the `InstallSnapshot` of it.
    Checkpoint {
        /// The index.
        index: LogIndex,
    },
    /// `to` needs a snapshot at `at_least` or later. Stream one to it, then deliver `message` to its engine.
    OfferSnapshot {
        /// The peer.
        to: NodeId,
        /// The snapshot that was last reported by [`Input::SnapshotSaved`].
        meta: SnapshotMeta,
        /// To be handed to the peer's engine as [`Input::Message`] once the peer has the snapshot on stable storage.
        message: Bytes,
    },
    /// A peer needs a snapshot and none was saved since the log was compacted: take one now.
    WantSnapshot,
    /// Replace the state by the snapshot with this meta, which the driver has on stable storage.
    InstallSnapshot(SnapshotMeta),
    /// The state that was installed last is not the one that its proof speaks of: whoever sent it lied. Nothing may be served
    /// from it, and its snapshot goes; the engine looks for another, which may be an older one. Comes instead of what would
    /// follow [`Input::Checkpointed`].
    StateRefused {
        /// Of which index it was said to be.
        index: LogIndex,
    },
    /// A proof that a member misbehaved.
    Evidence(Bytes),
}

/// How far an engine is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgreementStatus {
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// True if this node leads.
    pub leads: bool,
    /// The term, or ballot round.
    pub term: Term,
    /// The last index in the local log.
    pub last: LogIndex,
    /// The last index known to be committed.
    pub committed: LogIndex,
    /// The first index still in the local log.
    pub first: LogIndex,
    /// The members in force.
    pub members: Members,
    /// On a leader: how far each peer has the log.
    pub progress: Vec<Progress>,
    /// True while an idle group sleeps.
    pub hibernating: bool,
}

/// How far one peer is, as its leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The peer.
    pub node: NodeId,
    /// It has the log up to here.
    pub matched: LogIndex,
    /// True if it was heard from within an election timeout.
    pub active: bool,
}

/// What an engine starts from: nothing, for a new group, or what stable storage held.
#[derive(Clone, Debug, Default)]
pub struct Boot {
    /// This node.
    pub id: NodeId,
    /// The members that a new group begins with. Ignored if `snapshot` or `records` say otherwise.
    pub members: Members,
    /// Who is to lead a new group first: it stands at once, while the others wait for an election timeout. A matter of speed
    /// alone. Ignored if `snapshot` or `records` say that the group is not new.
    pub first_leader: Option<NodeId>,
    /// An index up to which this node may have taken part already, and has forgotten it. Until it has learned everything up
    /// to there it counts for nobody: a leader that was away meanwhile would take it for the member that it was, and have a
    /// majority of members that are no longer in force. Ignored if there are `records`: they remember it.
    pub floor: LogIndex,
    /// The latest snapshot on stable storage. Its index is applied; `Commit` begins behind it.
    pub snapshot: Option<SnapshotMeta>,
    /// Every record of the group that the write-ahead log still holds, in the order in which they were written.
    pub records: Vec<Record>,
    /// This start. No other start of the group's engine on this node has the same, nor had one before the node let the group
    /// go: what was asked in one life is answered in no other.
    pub incarnation: Incarnation,
    /// Seeds the engine's own deterministic randomness (election timeouts). Must differ between nodes.
    pub seed: u64,
}

/// A group's way to one order.
pub trait Agreement: Send {
    /// Takes one input at moment `now` and appends what follows from it to `out`.
    fn on(&mut self, now: Mono, input: Input, out: &mut Vec<Output>);

    /// Tells what the node's clock says at `now`, for engines that stamp entries or look at stamps.
    fn set_wall(&mut self, _now: Mono, _wall: WallMs) {}

    /// What is to be kept beside a snapshot at `index`, in [`SnapshotMeta::context`]; `None` if none may be taken there.
    fn snapshot_context(&self, _index: LogIndex) -> Option<Bytes> {
        Some(Bytes::new())
    }

    /// How often [`Input::Tick`] is wanted.
    fn tick_interval(&self) -> verity_types::Nanos;

    /// How far this engine is.
    fn status(&self) -> AgreementStatus;

    /// Asserts what must always hold. Called after every step in simulation.
    fn invariants(&self);

    /// Linearizable reads, where the engine offers them.
    fn barrier(&mut self) -> Option<&mut dyn Barrier> {
        None
    }

    /// What an engine has whose members are not trusted. There each voter hands its own proposals to its own engine, which brings
    /// them into the order whoever leads, each once and in the order in which they came, for as long as the engine lives.
    /// Elsewhere they go to the leader.
    fn witness(&self) -> Option<&dyn Witness> {
        None
    }

    /// Membership changes, where the engine offers them.
    fn reconfigure(&mut self) -> Option<&mut dyn Reconfigure> {
        None
    }

    /// Leadership transfer, where the engine offers it.
    fn transfer(&mut self) -> Option<&mut dyn Transfer> {
        None
    }
}

/// Reads that see every write acknowledged before them.
pub trait Barrier {
    /// Asks for an index that covers every commit so far. Answered by [`Output::ReadReady`] or [`Output::ReadFailed`],
    /// on this node, whether it leads or not.
    fn on_barrier(&mut self, now: Mono, id: BarrierId, out: &mut Vec<Output>);
}

/// Groups in which a member's word alone counts for nothing.
pub trait Witness {
    /// True for the message of an [`Output::OfferSnapshot`]. One that comes without the snapshot is dropped: it would have the
    /// state given up for a file that is not there.
    fn comes_with_snapshot(&self, bytes: &Bytes) -> bool;

    /// How many members must say the same, so that somebody honest is among them: f + 1.
    fn enough(&self) -> usize;

    /// In whose name this group's members sign, for whoever checks it elsewhere.
    fn scope(&self) -> Bytes;

    /// This member's signature under a statement of its group.
    fn sign(&self, statement: Digest) -> Bytes;

    /// True if `node` signed the statement.
    fn is_signed(&self, node: NodeId, statement: Digest, signature: &Bytes) -> bool;
}

/// A wish for other members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The voters that the group shall have.
    pub voters: BTreeSet<NodeId>,
    /// The learners that the group shall have.
    pub learners: BTreeSet<NodeId>,
    /// Carried into [`Committed::payload`] of the entry that makes the change, or begins it.
    pub context: Bytes,
}

/// Groups whose members may change.
pub trait Reconfigure {
    /// Begins the change. Only a leader can, one at a time; otherwise the reason comes back.
    ///
    /// # Errors
    /// Why the change cannot begin, in one line for an operator.
    fn on_reconfigure(&mut self, now: Mono, change: Change, out: &mut Vec<Output>) -> Result<(), String>;
}

/// Groups whose leadership can be handed over.
pub trait Transfer {
    /// Asks `to` to lead. A wish; [`Output::Role`] tells whether it came true.
    fn on_transfer(&mut self, now: Mono, to: NodeId, out: &mut Vec<Output>);
}
