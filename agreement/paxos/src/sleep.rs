//! Idle groups sleep: thousands of them would otherwise heartbeat for nothing.
//!
//! - upon no work for a while, and every member awake, close and equal: the leader's heartbeats say so;
//! - upon such a heartbeat: a follower with nothing to do falls asleep, and its answer says so;
//! - upon all members being asleep: the leader stops its heartbeats;
//! - upon work, the loss of a connection, or any message but a heartbeat: a node wakes. A follower that wakes asks the
//!   leader for a sign of life by looking for a leader when its patience ends.

use verity_types::Mono;

use crate::engine::Paxos;

/// How deep a node's sleep is.
#[derive(Debug)]
pub(crate) struct Sleep {
    pub(crate) asleep: bool,
    /// A leader that lets the others fall asleep.
    pub(crate) drowsy: bool,
    pub(crate) busy_at: Mono,
}

impl Sleep {
    pub(crate) fn new(now: Mono) -> Self {
        Self { asleep: false, drowsy: false, busy_at: now }
    }
}

impl Paxos {
    /// Wakes this node; `works` if it has something to do.
    pub(crate) fn wake(&mut self, works: bool) {
        if works {
            self.sleep.busy_at = self.now;
        }
        if self.leads() {
            if self.sleep.asleep || (works && self.sleep.drowsy) {
                self.beat_at = self.now;
                self.sleep.busy_at = self.now;
                self.peers.values_mut().for_each(|peer| {
                    // Silence was agreed on; it counts from now.
                    peer.heard_at = peer.heard_at.map(|_| self.now);
                    peer.asleep = false;
                });
                (self.sleep.asleep, self.sleep.drowsy) = (false, false);
                self.begin_round();
            }
        } else if self.sleep.asleep {
            self.sleep.asleep = false;
            self.be_patient();
        }
    }

    /// True if a follower falls, or is, asleep.
    pub(crate) fn fall_asleep(&mut self) -> bool {
        let idle = !self.is_behind() && self.handed == self.decided && self.reads.is_empty() && self.lead.is_none();
        if idle {
            self.sleep.asleep = true;
        }
        idle
    }

    /// Lets the others fall asleep once there is nothing left to do.
    pub(crate) fn consider_sleep(&mut self) {
        let Some(after) = self.config.hibernate_after else { return };
        let equal = |node| {
            node == self.id
                || (self.is_heard(node) && self.peers.get(&node).is_some_and(|peer| peer.decided == self.decided))
        };
        let idle = self.now >= self.sleep.busy_at + after
            && self.lead.as_ref().is_some_and(|lead| lead.is_idle())
            && self.reads.is_empty()
            && self.handed == self.decided
            && self.members.all().into_iter().all(equal);
        if idle != self.sleep.drowsy {
            self.sleep.drowsy = idle;
            self.peers.values_mut().for_each(|peer| peer.asleep = false);
        }
    }

    /// The leader sleeps last.
    pub(crate) fn sleep_if_all_do(&mut self) {
        let asleep = |node| node == self.id || self.peers.get(&node).is_some_and(|peer| peer.asleep);
        if self.sleep.drowsy && self.leads() && self.members.all().into_iter().all(asleep) {
            self.sleep.asleep = true;
        }
    }
}
