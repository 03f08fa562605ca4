//! Heartbeats of members.

use std::collections::BTreeSet;

use super::reconcile::Owned;
use super::{AWAY_EPOCH, Assignment, Assignor, Consumer, ConsumerMember, LEAVE_EPOCH, MemberState, listed};
use crate::machine::coordinator::command::ConsumerHeartbeat;
use crate::machine::coordinator::config::{CoordinatorConfig, GROUP_SIZE_MAX, SUBSCRIPTION_SIZE_MAX};
use crate::machine::coordinator::reply::ConsumerReply;
use crate::machine::coordinator::turn::Turn;
use crate::wire::{ErrorCode, Uuid};

impl ConsumerHeartbeat {
    /// What is wrong with a heartbeat whatever the group.
    pub(in super::super) fn refusal(&self) -> Option<ErrorCode> {
        let empty = |text: &Option<String>| text.as_deref() == Some("");
        let many = |names: &Option<Vec<String>>| size(names.iter().flatten()) > SUBSCRIPTION_SIZE_MAX;
        let joins = self.member_epoch == 0;
        let unfit = self.group_id.is_empty()
            || self.member_id.is_empty()
            || empty(&self.instance_id)
            || empty(&self.rack_id)
            || self.member_epoch < AWAY_EPOCH
            || (self.member_epoch == AWAY_EPOCH && self.instance_id.is_none())
            || many(&self.subscribed_names)
            || many(&self.resolved)
            || (self.rebalance_timeout_ms < -1 || self.rebalance_timeout_ms == 0)
            || (joins && self.rebalance_timeout_ms == -1)
            || (joins && self.owned.as_ref().is_some_and(|owned| !owned.is_empty()))
            || (joins && self.subscribed_names.is_none() && self.subscribed_regex.is_none());
        let unknown = |name: &String| Assignor::named(name).is_none();
        if unfit {
            Some(ErrorCode::INVALID_REQUEST)
        } else if self.assignor.as_ref().is_some_and(unknown) {
            Some(ErrorCode::UNSUPPORTED_ASSIGNOR)
        } else {
            None
        }
    }

    /// True if it says everything, so that it wants to hear everything.
    fn is_full(&self) -> bool {
        let subscribes = self.subscribed_names.is_some() || self.subscribed_regex.is_some();
        self.member_epoch == 0 || (self.rebalance_timeout_ms != -1 && subscribes && self.owned.is_some())
    }

    fn owned(&self) -> Option<BTreeSet<(Uuid, i32)>> {
        let pairs = |topics: &Vec<super::IdPartitions>| {
            let pair = |topic: &super::IdPartitions| {
                topic.partitions.iter().map(|partition| (topic.topic_id, *partition)).collect::<Vec<_>>()
            };
            topics.iter().flat_map(pair).collect()
        };
        // Who joins owns nothing, also if it does not say so (Kafka refuses that; librdkafka, when it joins again just after it
        // left, does it, and takes the refusal for the end).
        let joins = (self.member_epoch == 0).then(BTreeSet::new);
        self.owned.as_ref().map(pairs).or(joins)
    }

    /// Notes in a member what it says of itself.
    fn update(&self, member: &mut ConsumerMember) {
        self.instance_id.iter().for_each(|id| member.instance_id = Some(id.clone()));
        self.rack_id.iter().for_each(|id| member.rack_id = Some(id.clone()));
        self.assignor.iter().for_each(|name| member.assignor = Some(name.clone()));
        member.client_id = self.client_id.clone();
        member.client_host = self.client_host.clone();
        if let Ok(ms) = u32::try_from(self.rebalance_timeout_ms) {
            member.rebalance_timeout_ms = ms;
        }
        if let Some(names) = &self.subscribed_names {
            member.names = names.iter().cloned().collect();
        }
        if let Some(regex) = &self.subscribed_regex {
            let regex = Some(regex.clone()).filter(|regex| !regex.is_empty());
            if regex != member.regex {
                member.resolved.clear();
                member.resolved_at = 0;
            }
            member.regex = regex;
        }
        if let Some(resolved) = &self.resolved
            && member.regex.is_some()
            && self.metadata_version >= member.resolved_at
        {
            member.resolved = resolved.iter().cloned().collect();
            member.resolved_at = self.metadata_version;
        }
    }

    fn to_member(&self) -> ConsumerMember {
        let mut member = ConsumerMember {
            instance_id: None,
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout_ms: 0,
            names: BTreeSet::new(),
            regex: None,
            resolved: BTreeSet::new(),
            resolved_at: 0,
            behind: false,
            assignor: None,
            epoch: 0,
            previous_epoch: 0,
            state: MemberState::Stable,
            assigned: Assignment::new(),
            revoking: Assignment::new(),
            revoke_until: None,
            seen: 0,
        };
        self.update(&mut member);
        member
    }
}

/// The bytes of texts.
fn size<'a>(texts: impl Iterator<Item = &'a String>) -> usize {
    texts.map(|text| text.len() + size_of::<String>()).sum()
}

/// True if everything that is owned is assigned. Who does not say what it owns, may own anything.
fn is_within(owned: Owned<'_>, assigned: &Assignment) -> bool {
    owned.is_some_and(|owned| {
        owned.iter().all(|(topic, partition)| assigned.get(topic).is_some_and(|own| own.contains(partition)))
    })
}

impl ConsumerMember {
    /// What it says, in bytes.
    fn size(&self) -> usize {
        let options = [&self.instance_id, &self.rack_id, &self.regex, &self.assignor];
        let texts = [&self.client_id, &self.client_host].into_iter().chain(options.into_iter().flatten());
        size(self.names.iter().chain(&self.resolved).chain(texts))
    }

    fn check_epoch(&self, epoch: i32, owned: Owned<'_>) -> Result<(), ErrorCode> {
        let missed = epoch < self.epoch && epoch == self.previous_epoch && is_within(owned, &self.assigned);
        if epoch == self.epoch || missed { Ok(()) } else { Err(ErrorCode::FENCED_MEMBER_EPOCH) }
    }
}

impl Consumer {
    pub(in super::super) fn heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ConsumerHeartbeat,
    ) -> Result<ConsumerReply, ErrorCode> {
        let id = request.member_id.as_str();
        if request.member_epoch < 0 {
            return self.leave(turn, request);
        }
        let max = usize::try_from(turn.config.consumer_group_size_max).unwrap_or(usize::MAX);
        if self.members.len() >= max && !self.members.contains_key(id) {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        let brings = request.subscribed_names.is_some() || request.resolved.is_some() || request.member_epoch == 0;
        if brings && self.size() + request.to_member().size() > GROUP_SIZE_MAX {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        let owned = request.owned();
        let is_new = self.admit(turn, request, owned.as_ref())?;
        let before = self.members[id].clone();
        let changed = self.note(turn, request) || is_new;
        if changed {
            self.raise();
        }
        if self.epoch > self.target_epoch {
            self.retarget();
        }
        let after = self.reconciled(id, turn.now, owned.as_ref());
        let told = request.is_full() || after.assigned != before.assigned;
        let reply = reply(turn.config, id, &after, told);
        self.members.insert(id.to_owned(), after);
        turn.watch(id, turn.config.consumer_session_timeout_ms);
        Ok(reply)
    }

    /// What all members say, in bytes.
    fn size(&self) -> usize {
        self.members.values().map(ConsumerMember::size).sum()
    }

    /// Finds or makes the member. True if it is new to the group.
    fn admit(&mut self, turn: &mut Turn<'_>, request: &ConsumerHeartbeat, owned: Owned<'_>) -> Result<bool, ErrorCode> {
        let (id, joins) = (request.member_id.as_str(), request.member_epoch == 0);
        let Some(instance) = &request.instance_id else {
            // A static member need not say its name again.
            return match self.members.get(id) {
                Some(member) => member.check_epoch(request.member_epoch, owned).map(|()| false),
                None if joins => {
                    self.members.insert(id.to_owned(), request.to_member());
                    Ok(true)
                }
                None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            };
        };
        match self.statics.get(instance).cloned() {
            None if joins && !self.members.contains_key(id) => {
                self.members.insert(id.to_owned(), request.to_member());
                self.statics.insert(instance.clone(), id.to_owned());
                Ok(true)
            }
            None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Some(old) if joins => {
                let member = &self.members[&old];
                if member.epoch != AWAY_EPOCH {
                    // Its first answer may have been lost.
                    let again = old == id && member.check_epoch(0, owned).is_ok();
                    return if again { Ok(false) } else { Err(ErrorCode::UNRELEASED_INSTANCE_ID) };
                }
                if old != id && self.members.contains_key(id) {
                    return Err(ErrorCode::FENCED_INSTANCE_ID);
                }
                self.replace(turn, &old, id);
                Ok(false)
            }
            Some(holder) if holder != id => Err(ErrorCode::FENCED_INSTANCE_ID),
            Some(_) => self.members[id].check_epoch(request.member_epoch, owned).map(|()| false),
        }
    }

    /// Somebody comes with the instance id of a member that is away.
    fn replace(&mut self, turn: &mut Turn<'_>, old: &str, new: &str) {
        let mut member = self.members.remove(old).expect("static members are members");
        turn.forget(old);
        member.epoch = 0;
        member.previous_epoch = 0;
        member.state = MemberState::Stable;
        member.instance_id.iter().for_each(|instance| drop(self.statics.insert(instance.clone(), new.to_owned())));
        self.members.insert(new.to_owned(), member);
        if let Some(target) = self.target.remove(old) {
            self.target.insert(new.to_owned(), target);
        }
    }

    /// Notes what the request says. True if the group changes by it.
    fn note(&mut self, turn: &Turn<'_>, request: &ConsumerHeartbeat) -> bool {
        let member = self.members.get_mut(&request.member_id).expect("admitted by the caller");
        let (names, resolved) = (member.names.clone(), member.resolved.clone());
        request.update(member);
        member.seen = turn.now;
        let before: BTreeSet<&String> = names.iter().chain(&resolved).collect();
        let subscribes = before != member.names.iter().chain(&member.resolved).collect();
        let learns = self.learn(request.metadata_version, &request.topics);
        let member = self.members.get_mut(&request.member_id).expect("admitted by the caller");
        let known = member.names.iter().chain(&member.resolved).all(|name| self.topics.contains_key(name));
        member.behind = request.metadata_version < self.metadata_version && !known;
        let shares = self.share_resolved(request);
        subscribes || learns || shares
    }

    /// What a pattern matches now is so for all members that have it, as in Kafka: the first to hear of a new topic would be
    /// given all of it, to give up half of it soon after. True if the group changes by it.
    fn share_resolved(&mut self, request: &ConsumerHeartbeat) -> bool {
        let regex = self.members[&request.member_id].regex.clone();
        let (Some(resolved), Some(regex), version) = (&request.resolved, regex, request.metadata_version) else {
            return false;
        };
        let alike = |member: &ConsumerMember| member.regex.as_ref() == Some(&regex) && member.resolved_at < version;
        let count = self.members.values().filter(|member| alike(member)).count();
        if self.size().saturating_add(size(resolved.iter()).saturating_mul(count)) > GROUP_SIZE_MAX {
            // They bring it themselves, and are refused what is too much.
            return false;
        }
        let resolved: BTreeSet<String> = resolved.iter().cloned().collect();
        let mut changes = false;
        for member in self.members.values_mut().filter(|member| alike(member)) {
            changes |= member.resolved != resolved;
            (member.resolved, member.resolved_at) = (resolved.clone(), version);
        }
        changes
    }

    /// Computes a new target.
    fn retarget(&mut self) {
        let wanted: BTreeSet<String> = self.subscription().into_iter().map(str::to_owned).collect();
        self.topics.retain(|name, _| wanted.contains(name));
        self.target = self.assignor().assign(&self.members, &self.topics, &self.target);
        self.target_epoch = self.epoch;
    }

    fn leave(&mut self, turn: &mut Turn<'_>, request: &ConsumerHeartbeat) -> Result<ConsumerReply, ErrorCode> {
        let id = request.member_id.as_str();
        if let Some(instance) = &request.instance_id {
            match self.statics.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(holder) if holder != id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        let member = self.members.get_mut(id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if request.member_epoch == LEAVE_EPOCH {
            self.drop_member(turn, id);
        } else {
            member.epoch = AWAY_EPOCH;
            member.previous_epoch = AWAY_EPOCH;
            member.state = MemberState::Stable;
            member.revoking.clear();
            member.revoke_until = None;
            member.seen = turn.now;
        }
        Ok(ConsumerReply {
            error: ErrorCode::NONE,
            member_id: id.to_owned(),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        })
    }

    /// The answer to a heartbeat that changes nothing; `None` if it may change something, or fail.
    pub(in super::super) fn unchanged(
        &self,
        config: &CoordinatorConfig,
        request: &ConsumerHeartbeat,
    ) -> Option<ConsumerReply> {
        let id = request.member_id.as_str();
        let member = self.members.get(id)?;
        let mut updated = member.clone();
        request.update(&mut updated);
        // A client that connects anew changes its port, not its membership.
        updated.client_host = member.client_host.clone();
        updated.client_id = member.client_id.clone();
        updated.resolved = member.resolved.clone();
        updated.resolved_at = member.resolved_at;
        let current = request.metadata_version <= self.metadata_version
            && (!member.behind || request.metadata_version < self.metadata_version)
            && (member.regex.is_none() || request.metadata_version <= member.resolved_at);
        let same = request.refusal().is_none()
            && request.member_epoch > 0
            && request.member_epoch == member.epoch
            && updated == *member
            && self.epoch == self.target_epoch
            && current;
        if !same || self.reconciled(id, member.seen, request.owned().as_ref()) != *member {
            return None;
        }
        Some(reply(config, id, member, request.is_full()))
    }

    /// The topics of which a heartbeat of a member is to bring the partition counts.
    pub(in super::super) fn interests(&self, request: &ConsumerHeartbeat) -> (Vec<String>, Option<String>) {
        let mut topics: BTreeSet<&str> = self.subscription();
        topics.extend(request.subscribed_names.iter().flatten().map(String::as_str));
        let member = self.members.get(&request.member_id);
        let own = || member.and_then(|member| member.regex.clone());
        let regex = request.subscribed_regex.clone().or_else(own).filter(|regex| !regex.is_empty());
        (topics.into_iter().map(str::to_owned).collect(), regex)
    }
}

fn reply(config: &CoordinatorConfig, id: &str, member: &ConsumerMember, told: bool) -> ConsumerReply {
    ConsumerReply {
        error: ErrorCode::NONE,
        member_id: id.to_owned(),
        member_epoch: member.epoch,
        heartbeat_interval_ms: config.consumer_heartbeat_interval_ms,
        assignment: told.then(|| listed(&member.assigned)),
    }
}
