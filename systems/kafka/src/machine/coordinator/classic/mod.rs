//! Classic groups: the members choose a leader, and the leader assigns.
//!
//! - upon a join without a member id, version 4 and up (KIP-394): the member gets an id, and is waited for until its
//!   session timeout; nothing else happens until it joins with the id;
//! - upon a join that changes what the group knows: the group prepares a rebalance, all members are told to join again by
//!   their heartbeats, and the join waits;
//! - upon the last member's join, or the rebalance timeout: who has not joined is out, unless static; the protocol that
//!   most members prefer among those that all know is chosen; the generation rises; every join is answered, the leader's
//!   with all members;
//! - upon the leader's sync: its assignments are everybody's, and every sync is answered. Who has not asked for its
//!   assignment within the rebalance timeout is out;
//! - upon a leave or an expiry: as upon a join that changes the group;
//! - upon the join of a static member without its id (KIP-345): it takes the place of the member with its instance id, which
//!   is fenced from then on. In a stable group nothing else happens as long as the same protocol is chosen; if it leads, it
//!   is told not to assign (KIP-814).
//!
//! Kafka keeps joins in memory and loses them with the coordinator. Here a waiting join is part of the state: a new leader
//! answers it.
//!
//! Deliberately absent: cooperative rebalancing, which is between the members; their partitions are nowhere revoked here.

mod join;
mod member;
mod rebalance;
mod subscription;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::command::Protocol;
use super::reply::JoinMember;
use super::timers::silence_left;
use crate::machine::codec::{choice, record};
use crate::wire::ErrorCode;

/// The protocol type of Kafka's own consumers.
const CONSUMER: &str = "consumer";

choice! {
    /// Where a classic group stands.
    #[derive(Copy)]
    pub(super) enum ClassicState {
        /// Nobody is in it.
        Empty = 1,
        /// Members are to join.
        PreparingRebalance = 2,
        /// The leader is to assign.
        CompletingRebalance = 3,
        /// Everybody can know its assignment.
        Stable = 4,
    }
}

impl ClassicState {
    /// Kafka's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

record! {
    /// A member.
    pub(super) struct ClassicMember {
        pub(super) instance_id: Option<String>,
        pub(super) client_id: String,
        pub(super) client_host: String,
        pub(super) session_timeout_ms: u32,
        pub(super) rebalance_timeout_ms: u32,
        pub(super) protocols: Vec<Protocol>,
        pub(super) assignment: Bytes,
        /// The ticket of a join that waits.
        pub(super) join: Option<u64>,
        /// The ticket of a sync that waits.
        pub(super) sync: Option<u64>,
        /// Until when it may wait, if it has not been part of a generation.
        pub(super) new_until: Option<u64>,
        /// The stamp of its last command.
        pub(super) seen: u64,
    }
}

record! {
    /// The wait for the first members of an empty group.
    pub(super) struct Initial {
        /// How much longer it may become.
        pub(super) remaining_ms: u64,
        /// A member came since it was last prolonged.
        pub(super) joined: bool,
    }
}

record! {
    /// A group.
    pub(super) struct Classic {
        pub(super) state: ClassicState,
        /// When it came into this state.
        pub(super) since: u64,
        pub(super) generation: i32,
        pub(super) protocol_type: Option<String>,
        pub(super) protocol: Option<String>,
        pub(super) leader: Option<String>,
        pub(super) members: BTreeMap<String, ClassicMember>,
        /// Member ids by instance id.
        pub(super) statics: BTreeMap<String, String>,
        /// Ids that were given out, and until when they are waited for.
        pub(super) pending: BTreeMap<String, u64>,
        /// Who has not asked for its assignment.
        pub(super) unsynced: BTreeSet<String>,
        /// When the joins, or the syncs, have been waited for long enough.
        pub(super) until: Option<u64>,
        pub(super) initial: Option<Initial>,
    }
}

impl Classic {
    pub(super) fn new(now: u64) -> Self {
        Self {
            state: ClassicState::Empty,
            since: now,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            until: None,
            initial: None,
        }
    }

    /// True if it is as new, whatever its age.
    pub(super) fn is_void(&self) -> bool {
        *self == Self::new(self.since)
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        let members = self.members.values().filter_map(|member| member.join.and(member.new_until));
        self.until.into_iter().chain(self.pending.values().copied()).chain(members).min()
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// True if Kafka's own consumers make up the group.
    pub(super) fn is_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    /// The longest that any member asks to be waited for.
    fn rebalance_timeout_ms(&self) -> u64 {
        self.members.values().map(|member| u64::from(member.rebalance_timeout_ms)).max().unwrap_or(0)
    }

    /// How many members know a protocol.
    fn support(&self, protocol: &str) -> usize {
        self.members.values().filter(|member| member.metadata(protocol).is_some()).count()
    }

    /// True if somebody who offers these can be in the group.
    fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == ClassicState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|protocol| self.support(&protocol.name) == self.members.len())
    }

    /// The protocol that most members prefer among those that all know. Of equal ones that of the leader's preference.
    fn select_protocol(&self) -> Option<String> {
        let all = self.members.len();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let names = || member.protocols.iter().map(|protocol| protocol.name.as_str());
            let vote = names().find(|name| votes.contains_key(name) || self.support(name) == all)?;
            *votes.entry(vote).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        let preferred = leader.into_iter().flat_map(|member| &member.protocols).map(|protocol| protocol.name.as_str());
        let mut ranked = preferred.chain(votes.keys().copied());
        ranked.find(|name| votes.get(name) == Some(&most)).map(str::to_owned)
    }

    /// Everybody, for the leader.
    pub(super) fn roster(&self) -> Vec<JoinMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let row = |(id, member): (&String, &ClassicMember)| JoinMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol).cloned().unwrap_or_default(),
        };
        self.members.iter().map(row).collect()
    }

    /// Is there such a member, and is it the one that its instance id stands for?
    pub(super) fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            let holder = self.statics.get(instance_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            if holder != member_id {
                return Err(ErrorCode::FENCED_INSTANCE_ID);
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }

    /// May a member commit?
    pub(super) fn check_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        transactional: bool,
    ) -> Result<(), ErrorCode> {
        if generation < 0 && self.state == ClassicState::Empty {
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.check_member(member_id, instance_id)?;
            if generation != self.generation {
                return Err(ErrorCode::ILLEGAL_GENERATION);
            }
        } else if !transactional && self.state != ClassicState::Empty {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        // The member knows the generation but not yet its assignment: it cannot have read anything in it.
        if !transactional && self.state == ClassicState::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// What a heartbeat is answered.
    pub(super) fn heartbeat(&self, member_id: &str, instance_id: Option<&str>, generation: i32) -> ErrorCode {
        if let Err(error) = self.check_member(member_id, instance_id) {
            return error;
        }
        if generation != self.generation {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        match self.state {
            ClassicState::PreparingRebalance => ErrorCode::REBALANCE_IN_PROGRESS,
            ClassicState::CompletingRebalance | ClassicState::Stable => ErrorCode::NONE,
            ClassicState::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
        }
    }

    /// Notes that a member has sent a command.
    pub(super) fn touch(&mut self, member_id: &str, now: u64) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.seen = now;
        }
    }

    /// How long after `now`, in milliseconds, a member may be expired: once its last command is old enough. While it
    /// waits for an answer, never; None if there is no such member.
    pub(super) fn expires_after(&self, member_id: &str, now: u64) -> Option<u64> {
        let member = self.members.get(member_id)?;
        let waits = member.join.is_some() || member.sync.is_some();
        Some(if waits { u64::MAX } else { silence_left(member.seen, member.session_timeout_ms, now) })
    }

    /// True if a member reads the topic, or may.
    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        if !self.is_consumers() {
            return false;
        }
        match self.subscription() {
            Some(topics) => topics.contains(topic),
            None => self.state != ClassicState::Empty,
        }
    }

    /// The topics of all members; `None` if they do not say.
    pub(super) fn subscription(&self) -> Option<BTreeSet<String>> {
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values().filter(|_| self.is_consumers()) {
            topics.extend(subscription::topics(member.metadata(protocol)?)?);
        }
        self.is_consumers().then_some(topics)
    }

    /// Asserts what must always hold.
    pub(super) fn invariants(&self) {
        assert_eq!(
            self.state == ClassicState::Empty,
            self.members.is_empty() && self.until.is_none(),
            "empty is empty"
        );
        assert_eq!(self.leader.is_some(), !self.members.is_empty(), "members have a leader");
        assert!(self.leader.iter().all(|leader| self.members.contains_key(leader)), "the leader is a member");
        assert!(self.pending.keys().all(|id| !self.members.contains_key(id)), "who is pending is no member");
        assert!(self.unsynced.iter().all(|id| self.members.contains_key(id)), "only members sync");
        assert!(self.initial.is_none() || self.state == ClassicState::PreparingRebalance, "only joins are delayed");
        for (instance, id) in &self.statics {
            let member = self.members.get(id).expect("static members are members");
            assert_eq!(member.instance_id.as_ref(), Some(instance), "both tables agree");
        }
        let statics = self.members.values().filter(|member| member.instance_id.is_some()).count();
        assert_eq!(statics, self.statics.len(), "static members have names of their own");
        for member in self.members.values() {
            assert!(!member.protocols.is_empty(), "members offer protocols");
            assert!(member.join.is_none() || self.state == ClassicState::PreparingRebalance, "joins wait for members");
            assert!(member.sync.is_none() || self.state == ClassicState::CompletingRebalance, "syncs for the leader");
        }
        match self.state {
            ClassicState::Empty => {}
            ClassicState::PreparingRebalance => assert!(self.until.is_some(), "joins are not waited for without end"),
            ClassicState::CompletingRebalance | ClassicState::Stable => {
                assert!(self.protocol.is_some(), "a generation has a protocol");
                assert_eq!(self.unsynced.is_empty(), self.until.is_none(), "nor are syncs");
            }
        }
    }
}

impl ClassicMember {
    /// What it says under a protocol.
    pub(super) fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        self.protocols.iter().find(|own| own.name == protocol).map(|own| &own.metadata)
    }
}
