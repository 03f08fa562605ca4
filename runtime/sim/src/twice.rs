//! The mutant [`Mutant::LaneAppliesTwice`]: what a lane sends again to a new leader is applied again.
//!
//! - upon the first entry of a new term: its place is noted;
//! - upon applying behind that place: the last command before it is applied once more, its answer dropped.
//!
//! Every replica does the same, as it would if the lanes' numbers were lost with the leader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use verity_contract::{Command, Committed, Effect, Effects, Members, ReadOutcome, RestoreError, StateMachine};
use verity_types::{Digest, LogIndex};

use crate::mutant::Mutant;

/// Where the newest term began in the order, as a node's engine and machine share it.
#[derive(Clone, Debug, Default)]
pub struct Began(Arc<AtomicU64>);

impl Began {
    /// Notes the entry if it is the first of its term.
    pub(crate) fn note(&self, term: &mut u64, entry: &Committed) {
        if entry.term.0 > std::mem::replace(term, entry.term.0) {
            self.0.store(entry.index.0, Ordering::Relaxed);
        }
    }
}

/// Plants a mutant that sits between a state machine and its driver; others pass the machine through.
#[must_use]
pub fn mutate_machine(machine: Box<dyn StateMachine>, mutant: Option<Mutant>, began: &Began) -> Box<dyn StateMachine> {
    if mutant != Some(Mutant::LaneAppliesTwice) {
        return machine;
    }
    Box::new(Twice { inner: machine, began: began.clone(), last: None })
}

struct Twice {
    inner: Box<dyn StateMachine>,
    began: Began,
    last: Option<Command>,
}

impl StateMachine for Twice {
    fn apply(&mut self, batch: &[Command], effects: &mut Effects) {
        for command in batch {
            let began = LogIndex(self.began.0.load(Ordering::Relaxed));
            if let Some(last) = self.last.replace(command.clone()).filter(|last| last.index < began)
                && command.index >= began
                && last.request.sequence > 0
            {
                let mut again = Effects::default();
                self.inner.apply(&[Command { time: command.time, ..last }], &mut again);
                effects.list.extend(again.list.into_iter().filter(|effect| !matches!(effect, Effect::Reply { .. })));
            }
            self.inner.apply(std::slice::from_ref(command), effects);
        }
    }

    fn on_members(&mut self, index: LogIndex, members: &Members, context: &Bytes, effects: &mut Effects) {
        self.inner.on_members(index, members, context, effects);
    }

    fn read(&mut self, query: &[u8]) -> ReadOutcome {
        self.inner.read(query)
    }

    fn snapshot_begin(&mut self) {
        self.inner.snapshot_begin();
    }

    fn snapshot_next(&mut self, size_max: usize) -> Option<Bytes> {
        self.inner.snapshot_next(size_max)
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>) -> Result<(), RestoreError> {
        self.last = None;
        self.inner.restore(chunks)
    }

    fn durable_index(&self) -> LogIndex {
        self.inner.durable_index()
    }

    fn digest(&self) -> Digest {
        self.inner.digest()
    }

    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn invariants(&self) {
        self.inner.invariants();
    }
}
