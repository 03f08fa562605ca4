//! What only a partition's leader does: ask, from time to time, for the log to be looked after; and bring the partition's
//! group to where the metadata want it.
//!
//! - upon leading: it looks after [`FIRST`], as Kafka does after a start, and not at once: records that were old when they
//!   were written stay for a while, whoever leads;
//! - upon a [`Goal`] with members: the group is asked to consist of them, unless it is under way there;
//! - upon a [`Goal`] with a leader: this node hands over to it, since it is the preferred one.
//!
//! Deliberately absent: what that is (the machine does it, on every replica alike).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use verity_clock::Now;
use verity_contract::{Change, Duty, DutyInput, DutyOutput, ReadOutcome, StateMachine};
use verity_types::{Mono, Nanos, NodeId};

use super::command::Command;
use super::query::{Found, Query};
use crate::machine::codec::{self, record};

record! {
    /// Where a partition belongs. Whispered by the node that leads it, which knows the metadata.
    pub struct Goal {
        /// Who shall hold it; empty if the right ones do.
        pub members: Vec<u64>,
        /// Who shall lead it, if it is somebody else.
        pub leader: Option<u64>,
    }
}

impl Goal {
    /// In bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        codec::encode(self)
    }
}

/// How long after it began to lead a node looks for the first time.
const FIRST: Nanos = Nanos::from_millis(30_000);

/// Looks after a partition for as long as its node leads it.
#[derive(Debug)]
pub struct PartitionDuty {
    every: Nanos,
    wake_at: Option<Mono>,
    /// A change of members is under way.
    changing: bool,
}

impl PartitionDuty {
    /// Looks every so often (`log.retention.check.interval.ms`).
    #[must_use]
    pub fn new(every: Nanos) -> Self {
        Self { every, wake_at: None, changing: false }
    }

    fn on_goal(&mut self, goal: Goal, out: &mut Vec<DutyOutput>) {
        if !goal.members.is_empty() && !self.changing {
            self.changing = true;
            let voters = goal.members.into_iter().map(NodeId).collect();
            let change = Change { voters, learners: BTreeSet::new(), context: Bytes::new() };
            out.push(DutyOutput::Reconfigure { change, addresses: BTreeMap::new() });
        }
        if let Some(to) = goal.leader
            && !self.changing
        {
            out.push(DutyOutput::Transfer(NodeId(to)));
        }
    }

    fn look(&mut self, now: Now, machine: &mut dyn StateMachine, out: &mut Vec<DutyOutput>) {
        let query = Query::Due(i64::try_from(now.wall_ms().0).unwrap_or(i64::MAX));
        if let ReadOutcome::Ready(answer) = machine.read(&query.encode())
            && Found::decode(answer).is_some_and(|found| found.offset == 1)
        {
            out.push(DutyOutput::Propose(Command::Tend.encode()));
        }
        self.look_at(now.mono + self.every, out);
    }

    fn look_at(&mut self, at: Mono, out: &mut Vec<DutyOutput>) {
        self.wake_at = Some(at);
        out.push(DutyOutput::Wake(at));
    }
}

impl Duty for PartitionDuty {
    fn on(&mut self, now: Now, input: DutyInput<'_>, out: &mut Vec<DutyOutput>) {
        match input {
            DutyInput::Lead(_) => self.look_at(now.mono + Nanos(self.every.0.min(FIRST.0)), out),
            // A wake that was asked for while this node led before is not the one that is waited for.
            DutyInput::Wake(machine) if self.wake_at.is_some_and(|at| now.mono >= at) => self.look(now, machine, out),
            DutyInput::Whisper { bytes, .. } => {
                if let Ok(goal) = codec::decode::<Goal>(&bytes) {
                    self.on_goal(goal, out);
                }
            }
            DutyInput::Reconfigured(_) => self.changing = false,
            DutyInput::Follow => (self.wake_at, self.changing) = (None, false),
            DutyInput::Wake(_) | DutyInput::Event { .. } => {}
        }
    }
}
