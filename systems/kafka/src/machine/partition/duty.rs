//! What only a partition's leader does: ask, from time to time, for the log to be looked after.
//!
//! Deliberately absent: what that is (the machine does it, on every replica alike).

use verity_clock::Now;
use verity_contract::{Duty, DutyInput, DutyOutput, ReadOutcome, StateMachine};
use verity_types::{Mono, Nanos};

use super::command::Command;
use super::query::{Found, Query};

/// Looks after a partition for as long as its node leads it.
#[derive(Debug)]
pub struct PartitionDuty {
    every: Nanos,
    wake_at: Option<Mono>,
}

impl PartitionDuty {
    /// Looks every so often (`log.retention.check.interval.ms`).
    #[must_use]
    pub fn new(every: Nanos) -> Self {
        Self { every, wake_at: None }
    }

    fn look(&mut self, now: Now, machine: &mut dyn StateMachine, out: &mut Vec<DutyOutput>) {
        let query = Query::Due(i64::try_from(now.wall_ms().0).unwrap_or(i64::MAX));
        if let ReadOutcome::Ready(answer) = machine.read(&query.encode())
            && Found::decode(answer).is_some_and(|found| found.offset == 1)
        {
            out.push(DutyOutput::Propose(Command::Tend.encode()));
        }
        let at = now.mono + self.every;
        self.wake_at = Some(at);
        out.push(DutyOutput::Wake(at));
    }
}

impl Duty for PartitionDuty {
    fn on(&mut self, now: Now, input: DutyInput<'_>, out: &mut Vec<DutyOutput>) {
        match input {
            DutyInput::Lead(machine) => self.look(now, machine, out),
            // A wake that was asked for while this node led before is not the one that is waited for.
            DutyInput::Wake(machine) if self.wake_at.is_some_and(|at| now.mono >= at) => self.look(now, machine, out),
            DutyInput::Follow => self.wake_at = None,
            DutyInput::Wake(_) | DutyInput::Whisper { .. } | DutyInput::Event { .. } | DutyInput::Reconfigured(_) => {}
        }
    }
}
