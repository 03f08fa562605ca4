//! Consumer groups (KIP-848): the coordinator assigns, and brings each member there on its own.
//!
//! Three epochs: the group's, which rises whenever members, subscriptions or topics change; the target assignment's, which
//! is the group's epoch at which it was computed; each member's, which is the target's once the member has given up what
//! the target takes from it.
//!
//! - upon a heartbeat: what it says of the member is noted; if that changes the group, the group's epoch rises and a new
//!   target is computed; then the member is reconciled:
//!   - it has partitions that are another's in the target: it is told to give them up, and stays in its epoch until it
//!     no longer reports them, or its rebalance timeout is over and it is out;
//!   - otherwise it comes into the target's epoch, and gets those of its partitions that nobody has any more;
//!   - if somebody still has some of them, it gets them by a later heartbeat;
//! - upon a heartbeat with another epoch than the member's: it is fenced, unless it has missed the last answer and owns
//!   nothing beyond what it is assigned;
//! - upon epoch -1, or a timeout: the member is gone, and the group's epoch rises;
//! - upon epoch -2: a static member is away. What it has stays its own until its session times out; whoever comes with its
//!   instance id takes its place without a rebalance.
//!
//! No partition is ever assigned to two members: what one has or is giving up, no other gets.
//!
//! Deliberately absent: members of classic protocol in such a group (online migration). A group changes its kind while it is
//! empty; patterns of topics are resolved by the proposer.

mod assignor;
mod heartbeat;
mod reconcile;

use std::collections::{BTreeMap, BTreeSet};

use super::command::{IdPartitions, TopicInfo};
use super::timers::silence_left;
use super::turn::Turn;
use crate::machine::codec::{choice, record};
use crate::wire::{ErrorCode, Uuid};

pub(super) use assignor::Assignor;

/// The epoch of a static member that is away.
pub(super) const AWAY_EPOCH: i32 = -2;
/// The epoch with which a member leaves.
pub(super) const LEAVE_EPOCH: i32 = -1;

/// Partitions by topic id.
pub(super) type Assignment = BTreeMap<Uuid, BTreeSet<i32>>;

choice! {
    /// How far a member is on its way to its target.
    #[derive(Copy)]
    pub(super) enum MemberState {
        /// There, as of its epoch.
        Stable = 1,
        /// It is to give partitions up.
        Unrevoked = 2,
        /// It waits for partitions that others give up.
        Unreleased = 3,
    }
}

record! {
    /// A member.
    pub(super) struct ConsumerMember {
        pub(super) instance_id: Option<String>,
        pub(super) rack_id: Option<String>,
        pub(super) client_id: String,
        pub(super) client_host: String,
        pub(super) rebalance_timeout_ms: u32,
        pub(super) names: BTreeSet<String>,
        pub(super) regex: Option<String>,
        /// What the pattern matches, as of a version of the cluster's topics.
        pub(super) resolved: BTreeSet<String>,
        pub(super) resolved_at: u64,
        /// It came with a version of the cluster's topics that was older than the group's, and without those that it
        /// subscribes to: it is to bring them.
        pub(super) behind: bool,
        pub(super) assignor: Option<String>,
        pub(super) epoch: i32,
        pub(super) previous_epoch: i32,
        pub(super) state: MemberState,
        pub(super) assigned: Assignment,
        pub(super) revoking: Assignment,
        /// Until when it may take to give them up.
        pub(super) revoke_until: Option<u64>,
        /// The stamp of its last command.
        pub(super) seen: u64,
    }
}

record! {
    /// A topic.
    #[derive(Copy)]
    pub(super) struct Topic {
        pub(super) id: Uuid,
        pub(super) partitions: i32,
    }
}

record! {
    /// A group.
    pub(super) struct Consumer {
        pub(super) epoch: i32,
        pub(super) target_epoch: i32,
        /// The version of the cluster's topics that `topics` is as of.
        pub(super) metadata_version: u64,
        /// Those that exist of those subscribed to.
        pub(super) topics: BTreeMap<String, Topic>,
        pub(super) members: BTreeMap<String, ConsumerMember>,
        /// Member ids by instance id.
        pub(super) statics: BTreeMap<String, String>,
        pub(super) target: BTreeMap<String, Assignment>,
    }
}

impl ConsumerMember {
    /// The topics that it wants.
    pub(super) fn subscription(&self) -> BTreeSet<&str> {
        self.names.iter().chain(&self.resolved).map(String::as_str).collect()
    }

    pub(super) fn subscribes(&self, topic: &str) -> bool {
        self.names.contains(topic) || self.resolved.contains(topic)
    }

    fn holds(&self, topic: Uuid, partition: i32) -> bool {
        let within = |all: &Assignment| all.get(&topic).is_some_and(|own| own.contains(&partition));
        within(&self.assigned) || within(&self.revoking)
    }
}

/// Notes which topics exist, of those that a group subscribes to. True if that is news.
pub(super) fn note(known: &mut BTreeMap<String, Topic>, topics: Vec<&TopicInfo>) -> bool {
    let mut changed = false;
    for topic in topics {
        changed |= if topic.partitions > 0 {
            let found = Topic { id: topic.id, partitions: topic.partitions.min(PARTITION_COUNT_MAX) };
            known.insert(topic.name.clone(), found) != Some(found)
        } else {
            known.remove(&topic.name).is_some()
        };
    }
    changed
}

/// As a list, in the order of the ids.
pub(super) fn listed(assignment: &Assignment) -> Vec<IdPartitions> {
    let row = |(topic_id, partitions): (&Uuid, &BTreeSet<i32>)| IdPartitions {
        topic_id: *topic_id,
        partitions: partitions.iter().copied().collect(),
    };
    assignment.iter().map(row).collect()
}

impl Consumer {
    pub(super) fn new() -> Self {
        Self {
            epoch: 0,
            target_epoch: 0,
            metadata_version: 0,
            topics: BTreeMap::new(),
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            target: BTreeMap::new(),
        }
    }

    /// Kafka's name of its state.
    pub(super) fn state(&self) -> &'static str {
        let there = |member: &ConsumerMember| member.state == MemberState::Stable && member.epoch == self.target_epoch;
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self.members.values().all(there) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.members.values().filter_map(|member| member.revoke_until).min()
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.subscribes(topic))
    }

    /// What all members want together.
    pub(super) fn subscription(&self) -> BTreeSet<&str> {
        self.members.values().flat_map(ConsumerMember::subscription).collect()
    }

    /// The assignor that most members ask for.
    pub(super) fn assignor(&self) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| Assignor::named(member.assignor.as_deref()?)) {
            *votes.entry(assignor).or_default() += 1;
        }
        let most = votes.values().copied().max();
        votes.into_iter().find(|(_, count)| Some(*count) == most).map_or(Assignor::Uniform, |(assignor, _)| assignor)
    }

    fn raise(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
    }

    /// Takes a member out.
    fn drop_member(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        let Some(member) = self.members.remove(member_id) else { return };
        turn.forget(member_id);
        member.instance_id.iter().for_each(|instance| drop(self.statics.remove(instance)));
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
        if self.expires_after(member_id, turn.now, turn.config.consumer_session_timeout_ms) != Some(0) {
            return ErrorCode::UNKNOWN_MEMBER_ID;
        }
        self.drop_member(turn, member_id);
        ErrorCode::NONE
    }

    pub(super) fn expires_after(&self, member_id: &str, now: u64, timeout_ms: u32) -> Option<u64> {
        self.members.get(member_id).map(|member| silence_left(member.seen, timeout_ms, now))
    }

    /// Members that have not given up what they were told to are out.
    pub(super) fn on_time(&mut self, turn: &mut Turn<'_>) {
        let due = |member: &ConsumerMember| member.revoke_until.is_some_and(|until| until <= turn.now);
        let due: Vec<String> =
            self.members.iter().filter(|(_, member)| due(member)).map(|(id, _)| id.clone()).collect();
        due.iter().for_each(|id| self.drop_member(turn, id));
    }

    /// A topic is no more: it is assigned to nobody.
    pub(super) fn forget_topic(&mut self, name: &str, id: Uuid) {
        if self.topics.get(name).is_some_and(|topic| id.is_zero() || topic.id == id) {
            self.topics.remove(name);
            self.raise();
        }
    }

    /// May a member commit?
    pub(super) fn check_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        epoch: i32,
        transactional: bool,
        knows_epochs: bool,
    ) -> Result<(), ErrorCode> {
        let nobody = epoch == -1 && member_id.is_empty() && instance_id.is_none();
        if (epoch < 0 && self.members.is_empty()) || (transactional && nobody) {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if !transactional && !knows_epochs {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        if member.epoch == epoch { Ok(()) } else { Err(ErrorCode::STALE_MEMBER_EPOCH) }
    }

    /// May a member read offsets?
    pub(super) fn check_fetch(&self, member_id: &str, epoch: i32) -> Result<(), ErrorCode> {
        if member_id.is_empty() && epoch < 0 {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if member.epoch == epoch { Ok(()) } else { Err(ErrorCode::STALE_MEMBER_EPOCH) }
    }

    /// Asserts what must always hold.
    pub(super) fn invariants(&self) {
        assert!(self.target_epoch <= self.epoch, "a target is of an epoch that was");
        assert!(self.target.keys().all(|id| self.members.contains_key(id)), "only members have targets");
        assert!(self.topics.values().all(|topic| topic.partitions > 0), "what is not there has no partitions");
        let statics = self.members.values().filter(|member| member.instance_id.is_some()).count();
        assert_eq!(statics, self.statics.len(), "static members have names of their own");
        let mut owned = BTreeSet::new();
        for (id, member) in &self.members {
            let instance = member.instance_id.as_ref();
            assert!(instance.is_none_or(|instance| self.statics.get(instance) == Some(id)), "both tables agree");
            assert!(member.epoch <= self.target_epoch, "no member is ahead of the target");
            assert_eq!(member.state == MemberState::Unrevoked, !member.revoking.is_empty(), "who revokes has what to");
            assert_eq!(member.revoke_until.is_some(), !member.revoking.is_empty(), "and not without end");
            for (topic, partitions) in member.assigned.iter().chain(&member.revoking) {
                assert!(!partitions.is_empty(), "no topic without partitions");
                partitions.iter().for_each(|one| assert!(owned.insert((*topic, *one)), "a partition has one owner"));
            }
        }
        let mut targets = BTreeSet::new();
        for (topic, partitions) in self.target.values().flatten() {
            partitions.iter().for_each(|one| assert!(targets.insert((*topic, *one)), "and one owner to be"));
        }
    }
}

/// No topic has more partitions, whatever a proposer says.
pub(super) const PARTITION_COUNT_MAX: i32 = 100_000;
