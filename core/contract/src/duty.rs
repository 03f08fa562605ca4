//! What only a group's leader does: expire sessions, collect containers, retain, rebalance.
//!
//! A duty never changes state; it proposes commands, which every replica applies. It may therefore be wrong about who
//! leads (a deposed leader's duty) without harm: its proposals do not commit.

use std::collections::BTreeMap;

use bytes::Bytes;
use verity_clock::Now;
use verity_types::{Mono, NodeId};

use crate::agreement::Change;
use crate::machine::StateMachine;

/// What happens to a duty.
pub enum DutyInput<'a> {
    /// This node now leads and has applied everything that was committed before: read what is to be watched over.
    Lead(&'a mut dyn StateMachine),
    /// This node leads no more: forget everything.
    Follow,
    /// A node's service whispered.
    Whisper {
        /// Which node.
        from: NodeId,
        /// The system's own bytes.
        bytes: Bytes,
    },
    /// The state machine put out an event.
    Event {
        /// What it is about.
        topic: &'a Bytes,
        /// The system's own bytes.
        bytes: &'a Bytes,
    },
    /// What became of [`DutyOutput::Reconfigure`]: the group has the members, or why it cannot have them.
    Reconfigured(Result<(), String>),
    /// The moment asked for by `Wake` has come. The state machine may be read.
    Wake(&'a mut dyn StateMachine),
}

/// What a duty wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DutyOutput {
    /// Place this command in the group's order.
    Propose(Bytes),
    /// Give the group these members, one change at a time. New ones learn the log first and vote when they have caught
    /// up. Answered by [`DutyInput::Reconfigured`], unless this node stops leading: then the next leader's duty asks.
    Reconfigure {
        /// Who shall vote and learn. Its context reaches the state machine when all of it is done.
        change: Change,
        /// Where each of them is met.
        addresses: BTreeMap<NodeId, String>,
    },
    /// Hand leadership over to this member, if it has the whole log; nothing happens otherwise.
    Transfer(NodeId),
    /// Call again with `Wake` at this moment or soon after.
    Wake(Mono),
}

/// Leader-only work of one group.
pub trait Duty: Send {
    /// Takes one input and appends what follows from it to `out`.
    fn on(&mut self, now: Now, input: DutyInput<'_>, out: &mut Vec<DutyOutput>);
}
