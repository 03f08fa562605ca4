//! A bug between a state machine and its driver, the same on every replica.
//!
//! Deliberately absent: the bugs.

use bytes::Bytes;
use verity_contract::{
    Attachments, Command, Effects, Members, ReadOutcome, RestoreError, Spawn, StateMachine, Verdict,
};
use verity_types::{Digest, LogIndex};

/// What a bug changes; what it leaves alone passes through.
pub(crate) trait Bug: Send {
    /// Instead of applying `batch`.
    fn apply(&mut self, machine: &mut dyn StateMachine, batch: &[Command], effects: &mut Effects) {
        machine.apply(batch, effects);
    }

    /// Instead of asking.
    fn read(&mut self, machine: &mut dyn StateMachine, query: &[u8]) -> ReadOutcome {
        machine.read(query)
    }

    /// The machine is another now.
    fn restored(&mut self) {}
}

/// A state machine with a bug.
pub(crate) struct Buggy<B> {
    pub(crate) machine: Box<dyn StateMachine>,
    pub(crate) bug: B,
}

impl<B: Bug> StateMachine for Buggy<B> {
    fn judge(&self, proposal: &[u8]) -> Verdict {
        self.machine.judge(proposal)
    }

    fn apply(&mut self, batch: &[Command], effects: &mut Effects) {
        self.bug.apply(self.machine.as_mut(), batch, effects);
    }

    fn on_answer(&mut self, answer: Bytes, effects: &mut Effects) {
        self.machine.on_answer(answer, effects);
    }

    fn on_members(&mut self, index: LogIndex, members: &Members, context: &Bytes, effects: &mut Effects) {
        self.machine.on_members(index, members, context, effects);
    }

    fn read(&mut self, query: &[u8]) -> ReadOutcome {
        self.bug.read(self.machine.as_mut(), query)
    }

    fn snapshot_begin(&mut self) {
        self.machine.snapshot_begin();
    }

    fn snapshot_next(&mut self, size_max: usize) -> Option<Bytes> {
        self.machine.snapshot_next(size_max)
    }

    fn spawned(&self) -> Vec<Spawn> {
        self.machine.spawned()
    }

    fn attachments(&mut self) -> Attachments {
        self.machine.attachments()
    }

    fn staged(&mut self, suffix: &str) {
        self.machine.staged(suffix);
    }

    fn snapshot_saved(&mut self, index: LogIndex) {
        self.machine.snapshot_saved(index);
    }

    fn retire(&mut self) {
        self.machine.retire();
    }

    fn undo(&mut self, to: LogIndex) {
        self.machine.undo(to);
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>) -> Result<(), RestoreError> {
        self.bug.restored();
        self.machine.restore(chunks)
    }

    fn durable_index(&self) -> LogIndex {
        self.machine.durable_index()
    }

    fn digest(&self) -> Digest {
        self.machine.digest()
    }

    fn size(&self) -> u64 {
        self.machine.size()
    }

    fn invariants(&self) {
        self.machine.invariants();
    }
}
