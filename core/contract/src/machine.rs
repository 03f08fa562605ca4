//! What consumes the order.
//!
//! A [`StateMachine`] is a function of its log: two replicas that applied the same commands have the same digest.
//! `apply` therefore reads no clock (time comes stamped in the [`Command`]), no random source, no file, no socket, and
//! iterates over nothing whose order may differ.

use std::collections::BTreeSet;

use bytes::Bytes;
use thiserror::Error;
use verity_types::{Digest, GroupId, Incarnation, LogIndex, NodeId, WallMs};

use crate::agreement::{Members, Verdict};
use crate::range::FileRange;

/// Who asked for a command: the origin node and its place in that node's stream to the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// The node whose session proposed it.
    pub origin: NodeId,
    /// That node's start count.
    pub incarnation: Incarnation,
    /// Counts that node's proposals to the group within the incarnation, from 1.
    pub sequence: u64,
}

/// One command, at its place in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The log index of the entry that carried it. Several commands may share an entry.
    pub index: LogIndex,
    /// The leader's stamp: never goes back along the log.
    pub time: WallMs,
    /// Who asked.
    pub request: RequestId,
    /// The system's own bytes.
    pub bytes: Bytes,
}

/// What applying a command causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The answer. Produced on every replica; delivered where the request came from.
    Reply {
        /// Whose answer.
        request: RequestId,
        /// The system's own bytes.
        bytes: Bytes,
    },
    /// Something that sessions and duties on every node may be waiting for. Delivered in apply order, before the reply
    /// of the command that caused it if it was put out before it.
    Event {
        /// What it is about.
        topic: Bytes,
        /// The system's own bytes.
        bytes: Bytes,
    },
    /// The nodes that it names host this group from here on, and no others. Put out when a group begins and whenever its
    /// hosts change.
    Spawn(Spawn),
    /// The group has ended: no node hosts it any more, and its log and state go. Its id is never used again.
    Retire(GroupId),
    /// The state cannot go on, since files of the machine's own failed: nothing more is applied, the node stops, and says
    /// this line. It is the last effect of its machine.
    Fail(String),
    /// The machine needs an answer from outside. Nothing more is applied before [`StateMachine::on_answer`] has it. It is
    /// the last effect of its machine until then.
    Call(Bytes),
}

/// A group that a state machine asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawn {
    /// Its id, unique for the life of the cluster.
    pub group: GroupId,
    /// Whom it begins with.
    pub members: Members,
    /// Which nodes have hosted it from its beginning. Any other learns of the members from those.
    ///
    /// HAZARD: a node that left a group and comes back has forgotten its votes. With members it would vote again at once.
    pub founders: BTreeSet<NodeId>,
    /// Who is to lead it first; see [`Boot::first_leader`](crate::Boot::first_leader).
    pub first_leader: Option<NodeId>,
    /// What it had applied when it last let a host go; see [`Boot::floor`](crate::Boot::floor).
    pub floor: LogIndex,
    /// Which nodes host it; others that once did let it go.
    pub hosts: BTreeSet<NodeId>,
    /// What it is made from, in the system's own bytes.
    pub blueprint: Bytes,
}

impl Spawn {
    /// What is asked of this node; `None` if it is not to host the group.
    #[must_use]
    pub fn for_node(mut self, node: NodeId) -> Option<Self> {
        if self.founders.contains(&node) {
            // Who never left has forgotten nothing.
            self.floor = LogIndex(0);
        } else {
            self.members = Members::default();
        }
        self.hosts.contains(&node).then_some(self)
    }
}

/// Collects effects in order.
#[derive(Debug, Default)]
pub struct Effects {
    /// In the order in which they were put out.
    pub list: Vec<Effect>,
}

impl Effects {
    /// Puts out an answer.
    pub fn reply(&mut self, request: RequestId, bytes: Bytes) {
        self.list.push(Effect::Reply { request, bytes });
    }

    /// Puts out an event.
    pub fn event(&mut self, topic: Bytes, bytes: Bytes) {
        self.list.push(Effect::Event { topic, bytes });
    }

    /// Asks for a group.
    pub fn spawn(&mut self, spawn: Spawn) {
        self.list.push(Effect::Spawn(spawn));
    }

    /// Stops the node: the machine's files failed.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.list.push(Effect::Fail(reason.into()));
    }

    /// True if the machine that put these out cannot go on.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(self.list.last(), Some(Effect::Fail(_)))
    }

    /// Asks outside.
    pub fn call(&mut self, ask: Bytes) {
        self.list.push(Effect::Call(ask));
    }

    /// True if the machine that put these out waits for an answer from outside.
    #[must_use]
    pub fn has_called(&self) -> bool {
        matches!(self.list.last(), Some(Effect::Call(_)))
    }

    /// Ends a group.
    pub fn retire(&mut self, group: GroupId) {
        self.list.push(Effect::Retire(group));
    }
}

/// What a query answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The answer, as of the applied index.
    Ready(Bytes),
    /// The same; bytes of a file belong to it that nobody has read yet.
    InFile(Bytes, FileRange),
    /// Ask again when this index is applied.
    WaitFor(LogIndex),
}

/// A file that a snapshot stands on: so many bytes from its beginning, which never change as long as the snapshot is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its path on the node's disk.
    pub path: String,
    /// How many of its bytes belong to the snapshot.
    pub length: u64,
}

/// Brings a machine's files to stable storage. Runs on another thread, while applying goes on.
pub type SyncFiles = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// What a snapshot stands on beside its chunks.
#[derive(Default)]
pub struct Attachments {
    /// In the order in which a peer receives them.
    pub files: Vec<Attachment>,
    /// To be called before the snapshot counts.
    pub sync: Option<SyncFiles>,
}

impl std::fmt::Debug for Attachments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachments").field("files", &self.files).finish_non_exhaustive()
    }
}

/// A snapshot that cannot be taken as state.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// It is of no use: its bytes do not decode, though their checksums hold, or a file that it stands on is missing or
    /// damaged. An older one may do.
    #[error("the snapshot cannot be used: {0}")]
    Invalid(String),
    /// It, or a file that it stands on, could not be read or put in place: the device's fault, which says nothing about the
    /// snapshot.
    #[error("the snapshot cannot be read: {0}")]
    Storage(String),
}

/// What consumes the order.
pub trait StateMachine: Send {
    /// May this proposal be voted for? Asked only by engines that do not trust their leader.
    fn judge(&self, _proposal: &[u8]) -> Verdict {
        Verdict::Accept
    }

    /// Applies a batch in order and puts out exactly one reply for each command. Bytes that do not decode are answered with an error reply, never a panic.
    fn apply(&mut self, batch: &[Command], effects: &mut Effects);

    /// The answer to [`Effect::Call`]. What was left of the batch is applied now, and may call again.
    fn on_answer(&mut self, _answer: Bytes, _effects: &mut Effects) {
        panic!("this state machine asks nothing outside");
    }

    /// The group's members changed at `index`; `context` is the change's own.
    fn on_members(&mut self, _index: LogIndex, _members: &Members, _context: &Bytes, _effects: &mut Effects) {}

    /// Answers a query from the applied state.
    fn read(&mut self, query: &[u8]) -> ReadOutcome;

    /// Begins a snapshot of the state as it is now. Applying goes on while it is drawn; a second begin discards the first.
    fn snapshot_begin(&mut self);

    /// Draws the next chunk of about `size_max` bytes; `None` ends the snapshot.
    fn snapshot_next(&mut self, size_max: usize) -> Option<Bytes>;

    /// The groups that this state asks its nodes to host, in the order of their ids: those that were put out by
    /// [`Effect::Spawn`] and not ended since. Read when the state was replaced by a snapshot.
    fn spawned(&self) -> Vec<Spawn> {
        Vec::new()
    }

    /// The files that the snapshot that was begun last stands on beside its chunks.
    fn attachments(&mut self) -> Attachments {
        Attachments::default()
    }

    /// Says before a [`restore`](StateMachine::restore) how files are named that came from a peer with the snapshot: as
    /// their places, with this suffix. Those that are there are to be taken; nobody has looked at their bytes yet. Suffixes
    /// sort as their snapshots do; once one is restored, files that came with older ones may go.
    fn staged(&mut self, _suffix: &str) {}

    /// A snapshot is on stable storage, and so are the files that it stands on; files that only older ones stood on may go.
    fn snapshot_saved(&mut self, _index: LogIndex) {}

    /// The group has ended: the machine lets go of its files, which are then removed for it.
    fn retire(&mut self) {}

    /// Takes back everything behind `to`. Only machines that run on a chain can.
    fn undo(&mut self, to: LogIndex) {
        panic!("this state machine cannot go back to index {to}; it was put on an agreement that reverts");
    }

    /// Replaces the state by the chunks of a snapshot.
    ///
    /// # Errors
    /// [`RestoreError`]; the state is then unusable until another restore, of an older snapshot say, has succeeded. What
    /// that one stands on must still be there.
    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>) -> Result<(), RestoreError>;

    /// The last index whose effects the machine itself holds on stable storage; 0 for a machine in memory.
    fn durable_index(&self) -> LogIndex {
        LogIndex(0)
    }

    /// A fingerprint of the state.
    fn digest(&self) -> Digest;

    /// Bytes of memory that the state holds, roughly; for status.
    fn size(&self) -> u64 {
        0
    }

    /// Asserts what must always hold.
    fn invariants(&self);
}
