//! What consumes the order.
//!
//! A [`StateMachine`] is a function of its log: two replicas that applied the same commands have the same digest.
//! `apply` therefore reads no clock (time comes stamped in the [`Command`]), no random source, no file, no socket, and
//! iterates over nothing whose order may differ.

use bytes::Bytes;
use thiserror::Error;
use verity_types::{Digest, Incarnation, LogIndex, NodeId, WallMs};

use crate::agreement::{Members, Verdict};

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
}

/// What a query answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The answer, as of the applied index.
    Ready(Bytes),
    /// Ask again when this index is applied.
    WaitFor(LogIndex),
}

/// A snapshot that cannot be taken as state.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// Its bytes do not decode, though their checksums hold: written by another version, or a bug.
    #[error("the snapshot does not decode: {0}")]
    Invalid(String),
    /// It could not be read.
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

    /// The group's members changed at `index`; `context` is the change's own.
    fn on_members(&mut self, _index: LogIndex, _members: &Members, _context: &Bytes, _effects: &mut Effects) {}

    /// Answers a query from the applied state.
    fn read(&mut self, query: &[u8]) -> ReadOutcome;

    /// Begins a snapshot of the state as it is now. Applying goes on while it is drawn; a second begin discards the first.
    fn snapshot_begin(&mut self);

    /// Draws the next chunk of about `size_max` bytes; `None` ends the snapshot.
    fn snapshot_next(&mut self, size_max: usize) -> Option<Bytes>;

    /// Takes back everything behind `to`. Only machines that run on a chain can.
    fn undo(&mut self, to: LogIndex) {
        panic!("this state machine cannot go back to index {to}; it was put on an agreement that reverts");
    }

    /// Replaces the state by the chunks of a snapshot.
    ///
    /// # Errors
    /// [`RestoreError`]; the state is then unusable and the caller stops.
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
