//! What only a partition's leader does: ask, from time to time, for the log to be looked after; and bring the partition's
//! group to where the metadata want it.
//!
//! - upon leading: it looks after [`FIRST`], as Kafka does after a start, and not at once: records that were old when they
//!   were written stay for a while, whoever leads;
//! - upon a [`Goal`] with members: the group is asked to consist of them, unless it is under way there. If it does, that is
//!   put into its order ([`Settle`]). A goal of an older version than one that was heard, by this leader or by one that
//!   settled, is not heeded: who whispers it does not know the metadata's latest word;
//! - upon a [`Goal`] with a leader: this node hands over to it, since it is the preferred one.
//!
//! Deliberately absent: what that is (the machine does it, on every replica alike).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use verity_clock::Now;
use verity_contract::{Change, Duty, DutyInput, DutyOutput, ReadOutcome, StateMachine};
use verity_types::{Mono, Nanos, NodeId};

use super::command::Command;
use super::place::Settle;
use super::query::{Found, Query};
use crate::machine::codec::{self, record};

record! {
    /// Where a partition belongs. Whispered by the node that leads it, which knows the metadata.
    pub struct Goal {
        /// Which version of it.
        pub version: u64,
        /// Who shall hold it; empty if the right ones do.
        pub members: BTreeSet<u64>,
        /// As far as the whisperer knows, they do.
        pub arrived: bool,
        /// Who shall lead it, if it is somebody else.
        pub leader: Option<u64>,
    }
}

impl Goal {
    /// Of a partition that is where it belongs, and that `leader` shall lead.
    #[must_use]
    pub fn of_leader(leader: Option<u64>) -> Self {
        Self { version: 0, members: BTreeSet::new(), arrived: false, leader }
    }

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
    /// The latest version of a goal that was heard.
    heard: u64,
    /// The version that the group had come to when this node began to lead.
    settled: u64,
}

impl PartitionDuty {
    /// Looks every so often (`log.retention.check.interval.ms`).
    #[must_use]
    pub fn new(every: Nanos) -> Self {
        Self { every, wake_at: None, changing: false, heard: 0, settled: 0 }
    }

    fn on_goal(&mut self, goal: Goal, out: &mut Vec<DutyOutput>) {
        let latest = goal.version > self.settled && goal.version >= self.heard;
        if !goal.members.is_empty() && latest {
            self.heard = goal.version;
        }
        if goal.members.is_empty() || self.changing || !latest {
            // Nobody is to hold it but those who do, or it is on its way.
        } else if goal.arrived {
            let settle = Settle { version: goal.version, members: goal.members };
            out.push(DutyOutput::Propose(Command::Settle(settle).encode()));
        } else {
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
            DutyInput::Lead(machine) => {
                if let ReadOutcome::Ready(answer) = machine.read(&Query::Settled.encode())
                    && let Some(found) = Found::decode(answer)
                {
                    self.settled = found.offset.try_into().unwrap_or(0);
                }
                self.look_at(now.mono + Nanos(self.every.0.min(FIRST.0)), out);
            }
            // A wake that was asked for while this node led before is not the one that is waited for.
            DutyInput::Wake(machine) if self.wake_at.is_some_and(|at| now.mono >= at) => self.look(now, machine, out),
            DutyInput::Whisper { bytes, .. } => {
                if let Ok(goal) = codec::decode::<Goal>(&bytes) {
                    self.on_goal(goal, out);
                }
            }
            DutyInput::Reconfigured(_) => self.changing = false,
            DutyInput::Follow => (self.wake_at, self.changing, self.heard, self.settled) = (None, false, 0, 0),
            DutyInput::Wake(_) | DutyInput::Event { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use verity_clock::Interval;
    use verity_contract::{Command as Ordered, Effects, RequestId};
    use verity_storage::MemoryDisk;
    use verity_types::{GroupId, LogIndex, WallMs};

    use super::super::{Partition, PartitionConfig};
    use super::*;

    fn now() -> Now {
        Now { mono: Mono(1_000_000_000), wall: Interval::around(1_700_000_000_000_000_000, 0) }
    }

    struct Rig {
        duty: PartitionDuty,
        machine: Partition,
    }

    impl Rig {
        fn new() -> Self {
            let machine = Partition::new(Arc::new(MemoryDisk::new()), GroupId(5), PartitionConfig::default());
            let mut rig = Self { duty: PartitionDuty::new(Nanos::from_millis(300_000)), machine };
            rig.lead();
            rig
        }

        fn lead(&mut self) {
            self.duty.on(now(), DutyInput::Lead(&mut self.machine), &mut Vec::new());
        }

        fn hears(&mut self, version: u64, members: &[u64], arrived: bool) -> Vec<DutyOutput> {
            let goal = Goal { version, members: members.iter().copied().collect(), arrived, leader: None };
            let mut out = Vec::new();
            let whisper = DutyInput::Whisper { from: NodeId(1), bytes: goal.encode() };
            self.duty.on(now(), whisper, &mut out);
            out
        }

        fn apply(&mut self, bytes: Bytes) {
            let command = Ordered { index: LogIndex(1), time: WallMs(1), request: RequestId::default(), bytes };
            self.machine.apply(std::slice::from_ref(&command), &mut Effects::default());
        }
    }

    #[test]
    fn a_group_goes_to_no_goal_older_than_one_that_was_heard() {
        let mut rig = Rig::new();
        assert!(matches!(rig.hears(3, &[1, 4], false)[..], [DutyOutput::Reconfigure { .. }]));
        assert_eq!(rig.hears(3, &[1, 4], false), [], "it is under way");
        rig.duty.on(now(), DutyInput::Reconfigured(Ok(())), &mut Vec::new());
        assert_eq!(rig.hears(2, &[1, 2], false), []);
        assert_eq!(rig.hears(2, &[1, 2], true), []);
        assert!(matches!(rig.hears(3, &[1, 4], true)[..], [DutyOutput::Propose(_)]));
    }

    #[test]
    fn a_later_leader_knows_where_the_group_settled() {
        let mut rig = Rig::new();
        let [DutyOutput::Propose(settle)] = &rig.hears(3, &[1, 2], true)[..] else { panic!("it is there") };
        rig.apply(settle.clone());
        rig.duty.on(now(), DutyInput::Follow, &mut Vec::new());
        rig.lead();
        assert_eq!(rig.hears(2, &[4, 5], false), [], "whoever says so has not heard of the third");
        assert_eq!(rig.hears(3, &[1, 2], true), [], "it has");
        assert!(matches!(rig.hears(4, &[4, 5], false)[..], [DutyOutput::Reconfigure { .. }]));
    }
}
