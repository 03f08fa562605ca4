//! The mutant [`Mutant::LaneAppliesTwice`]: what a lane sends again to a new leader is applied again.
//!
//! - upon the first entry of a new term: its place is noted;
//! - upon applying behind that place: the last command before it is applied once more, its answer dropped.
//!
//! Every replica does the same, as it would if the lanes' numbers were lost with the leader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use verity_contract::{Command, Committed, Effect, Effects, StateMachine};
use verity_types::LogIndex;

use crate::bug::{Bug, Buggy};
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
    Box::new(Buggy { machine, bug: Twice { began: began.clone(), last: None } })
}

struct Twice {
    began: Began,
    last: Option<Command>,
}

impl Bug for Twice {
    fn apply(&mut self, machine: &mut dyn StateMachine, batch: &[Command], effects: &mut Effects) {
        for command in batch {
            let began = LogIndex(self.began.0.load(Ordering::Relaxed));
            if let Some(last) = self.last.replace(command.clone()).filter(|last| last.index < began)
                && command.index >= began
                && last.request.sequence > 0
            {
                let mut again = Effects::default();
                machine.apply(&[Command { time: command.time, ..last }], &mut again);
                effects.list.extend(again.list.into_iter().filter(|effect| !matches!(effect, Effect::Reply { .. })));
            }
            machine.apply(std::slice::from_ref(command), effects);
        }
    }

    fn restored(&mut self) {
        self.last = None;
    }
}
