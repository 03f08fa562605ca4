//! Idle groups go to sleep: nobody beats, nobody counts towards an election.
//!
//! - upon a leader without work for `Config::hibernate_after`, whose members that it hears from have the whole log: its
//!   heartbeats say "sleep";
//! - upon such a heartbeat, a follower that has the same log, all of it committed: stops its timer and says so;
//! - upon that word from every member that is heard from: the leader stops its own timers;
//! - upon a proposal, a barrier, a message other than the above, or the hint that the leader is unreachable: awake. A
//!   follower that woke by itself wakes its leader, which beats at once and so wakes the others.
//!
//! It is safe because sleep touches timers alone: no rule about votes, the log or commitment looks at it, and a lease
//! runs out by the clock, asleep or not. It costs liveness only where a leader dies unnoticed while all sleep: the
//! driver says `Input::Unreachable` when the connection breaks, and any work wakes the node that gets it.

use std::collections::{BTreeMap, BTreeSet};

use verity_contract::Output;
use verity_types::{Mono, NodeId};

use crate::engine::Raft;
use crate::message::Frame;

/// Who sleeps, and since when there is nothing to do.
#[derive(Debug, Default)]
pub(crate) struct Sleep {
    /// This node's timers stand still.
    pub(crate) asleep: bool,
    /// The leader's heartbeats say "sleep".
    pub(crate) drowsy: bool,
    /// The last moment at which there was work.
    pub(crate) busy_at: Mono,
    /// Those who said that they sleep.
    confirmed: BTreeSet<NodeId>,
    /// When each peer was last heard.
    heard: BTreeMap<NodeId, Mono>,
}

impl Sleep {
    /// Awake at `now`.
    pub(crate) fn new(now: Mono) -> Self {
        Self { busy_at: now, ..Self::default() }
    }
}

impl Raft {
    /// A peer said something.
    pub(crate) fn note_heard(&mut self, now: Mono, from: NodeId) {
        if self.knows(from) {
            self.sleep.heard.insert(from, now);
        }
    }

    pub(crate) fn is_heard(&self, now: Mono, node: NodeId) -> bool {
        self.sleep.heard.get(&node).is_some_and(|at| now < *at + self.config.election_min)
    }

    /// There is work: timers run again.
    pub(crate) fn wake(&mut self, now: Mono, tell_leader: bool, out: &mut Vec<Output>) {
        self.sleep.busy_at = now;
        self.sleep.drowsy = false;
        self.sleep.confirmed.clear();
        if !std::mem::take(&mut self.sleep.asleep) {
            return;
        }
        self.ticked_at = now;
        self.node.raft.election_elapsed = 0;
        if self.leads() {
            self.begin_round(now);
            self.node.ping();
        } else if tell_leader && self.node.raft.leader_id != 0 {
            let leader = NodeId(self.node.raft.leader_id);
            self.send(leader, &Frame::Wake, None, out);
        }
    }

    /// On a leader's tick: time to say "sleep"?
    pub(crate) fn consider_sleep(&mut self, now: Mono) {
        let Some(span) = self.config.hibernate_after else { return };
        if !self.leads() || now < self.sleep.busy_at + span {
            return;
        }
        let raft = &self.node.raft;
        let last = raft.raft_log.last_index();
        let idle = raft.raft_log.committed == last
            && raft.raft_log.applied == last
            && raft.lead_transferee.is_none()
            && self.members.outgoing.is_empty()
            && self.reads.is_empty()
            && self.log_is_stable();
        let here: Vec<NodeId> =
            self.members.all().into_iter().filter(|node| *node != self.id && self.is_heard(now, *node)).collect();
        let level = here.iter().all(|node| raft.prs().get(node.0).is_some_and(|progress| progress.matched == last));
        if !idle || !level {
            return;
        }
        self.sleep.drowsy = true;
        self.sleep.asleep = here.iter().all(|node| self.sleep.confirmed.contains(node));
    }

    /// A follower was told to sleep; true if it does.
    pub(crate) fn fall_asleep(&mut self) -> bool {
        let log = &self.node.raft.raft_log;
        let level = log.committed == log.last_index() && self.log_is_stable() && self.reads.is_empty();
        self.sleep.asleep = self.config.hibernate_after.is_some() && level && !self.leads();
        self.sleep.asleep
    }

    /// A follower says that it sleeps.
    pub(crate) fn note_asleep(&mut self, from: NodeId) {
        if self.sleep.drowsy {
            self.sleep.confirmed.insert(from);
        }
    }
}
