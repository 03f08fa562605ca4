//! Share groups (KIP-932): members that read the same partitions side by side.
//!
//! Two epochs: the group's, which rises whenever members, subscriptions or topics change; each member's, which is the
//! epoch of the assignment that it was told last. Nothing is ever taken from one member before another may have it, so a
//! member is where it should be with its next heartbeat.
//!
//! - upon a heartbeat: what it says of the member is noted; if that changes the group, the group's epoch rises and a new
//!   assignment is computed; the member comes into it at once;
//! - upon a heartbeat with an epoch that is neither the member's nor the one before (its answer may have been lost): it is
//!   fenced;
//! - upon epoch -1, or a timeout: the member is gone, and the group's epoch rises. What it has acquired stays locked until
//!   the locks end: acknowledgements of its last records may be on their way.
//!
//! A group never changes into one of another kind; it stays, with where it stands in its partitions, until it is deleted.
//!
//! Deliberately absent: records. Who has which of them stands in [`partition`].

mod assignor;
mod heartbeat;
pub(super) mod partition;

use std::collections::{BTreeMap, BTreeSet};

use super::command::TopicInfo;
use super::consumer::{Assignment, Topic, note};
use super::timers::silence_left;
use super::turn::Turn;
use crate::machine::codec::record;
use crate::wire::{ErrorCode, Uuid};

/// Kafka's name of the one assignor.
pub(super) const ASSIGNOR: &str = "simple";
/// The epoch with which a member leaves.
const LEAVE_EPOCH: i32 = -1;

record! {
    /// A member.
    pub(super) struct ShareMember {
        pub(super) rack_id: Option<String>,
        pub(super) client_id: String,
        pub(super) client_host: String,
        pub(super) names: BTreeSet<String>,
        /// As of a member of a consumer group: it is to bring topics that the group does not know.
        pub(super) behind: bool,
        pub(super) epoch: i32,
        pub(super) previous_epoch: i32,
        pub(super) assigned: Assignment,
        /// The stamp of its last command.
        pub(super) seen: u64,
    }
}

record! {
    /// A group.
    pub(super) struct Share {
        pub(super) epoch: i32,
        pub(super) target_epoch: i32,
        /// The version of the cluster's topics that `topics` is as of.
        pub(super) metadata_version: u64,
        /// Those that exist of those subscribed to.
        pub(super) topics: BTreeMap<String, Topic>,
        pub(super) members: BTreeMap<String, ShareMember>,
        pub(super) target: BTreeMap<String, Assignment>,
        /// As the last heartbeat brought it.
        pub(super) session_timeout_ms: u32,
        /// As the last heartbeat brought it.
        pub(super) heartbeat_interval_ms: u32,
    }
}

impl Share {
    pub(super) fn new() -> Self {
        Self {
            epoch: 0,
            target_epoch: 0,
            metadata_version: 0,
            topics: BTreeMap::new(),
            members: BTreeMap::new(),
            target: BTreeMap::new(),
            session_timeout_ms: 0,
            heartbeat_interval_ms: 0,
        }
    }

    /// Kafka's name of its state.
    pub(super) fn state(&self) -> &'static str {
        if self.members.is_empty() { "Empty" } else { "Stable" }
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.names.contains(topic))
    }

    /// What all members want together.
    pub(super) fn subscription(&self) -> BTreeSet<&str> {
        self.members.values().flat_map(|member| &member.names).map(String::as_str).collect()
    }

    fn raise(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
    }

    /// Takes a member out.
    fn drop_member(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        if self.members.remove(member_id).is_none() {
            return;
        }
        turn.forget(member_id);
        self.target.remove(member_id);
        self.raise();
        if self.members.is_empty() {
            self.target_epoch = self.epoch;
            self.topics.clear();
        }
    }

    /// What the proposer knows of topics. True if that changes anything for the members.
    fn learn(&mut self, version: u64, topics: &[TopicInfo]) -> bool {
        if version < self.metadata_version {
            return false;
        }
        self.metadata_version = version;
        let topics: Vec<&TopicInfo> = topics.iter().filter(|topic| self.is_subscribed(&topic.name)).collect();
        note(&mut self.topics, topics)
    }

    /// A member was not heard of. Does nothing if it has sent a command meanwhile.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>, member_id: &str) -> ErrorCode {
        if self.expires_after(member_id, turn.now) != Some(0) {
            return ErrorCode::UNKNOWN_MEMBER_ID;
        }
        self.drop_member(turn, member_id);
        ErrorCode::NONE
    }

    pub(super) fn expires_after(&self, member_id: &str, now: u64) -> Option<u64> {
        self.members.get(member_id).map(|member| silence_left(member.seen, self.session_timeout_ms, now))
    }

    /// A topic is no more: it is assigned to nobody.
    pub(super) fn forget_topic(&mut self, name: &str, id: Uuid) {
        if self.topics.get(name).is_some_and(|topic| id.is_zero() || topic.id == id) {
            self.topics.remove(name);
            self.raise();
        }
    }

    /// Asserts what must always hold.
    pub(super) fn invariants(&self) {
        assert!(self.target_epoch <= self.epoch, "a target is of an epoch that was");
        assert!(self.target.keys().all(|id| self.members.contains_key(id)), "only members have targets");
        assert!(self.topics.values().all(|topic| topic.partitions > 0), "what is not there has no partitions");
        for member in self.members.values() {
            assert!(member.epoch <= self.target_epoch, "no member is ahead of the assignment");
            assert!(member.previous_epoch <= member.epoch, "epochs rise");
        }
    }
}
