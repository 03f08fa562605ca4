//! Requests that concern groups.

use super::classic::ClassicState;
use super::command::{CommitOffsets, ConsumerHeartbeat, Join, MemberName, Sync, TopicPartitions};
use super::group::{Group, Kind};
use super::machine::{Coordinator, Output};
use super::offsets::{Age, Stamp};
use super::reply::{ConsumerReply, JoinResult, Left, Reply, SyncResult};
use super::timers::Key;
use crate::wire::{ErrorCode, Uuid};

impl Coordinator {
    pub(super) fn join(&mut self, out: &mut Output, request: &Join) -> Reply {
        let refused = |error| Reply::Join { result: JoinResult::error(error, &request.member_id) };
        if let Some(error) = request.refusal(&self.config()) {
            return refused(error);
        }
        let id = request.group_id.as_str();
        if !request.member_id.is_empty() && !self.groups.contains_key(id) {
            return refused(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        let now = self.now;
        let joined = self.with_group(out, id, true, |group, turn| match group.classic(now) {
            Some(group) => group.join(turn, request),
            None => refused(ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        });
        joined.unwrap_or_else(|| refused(ErrorCode::COORDINATOR_NOT_AVAILABLE))
    }

    pub(super) fn sync(&mut self, out: &mut Output, request: &Sync) -> Reply {
        let refused = |error| Reply::Sync { result: SyncResult::error(error) };
        if request.group_id.is_empty() {
            return refused(ErrorCode::INVALID_GROUP_ID);
        }
        let synced = self.with_group(out, &request.group_id, false, |group, turn| match &mut group.kind {
            Kind::Classic { group } => group.sync(turn, request),
            Kind::Consumer { .. } | Kind::Share { .. } => refused(ErrorCode::UNKNOWN_MEMBER_ID),
        });
        synced.unwrap_or_else(|| refused(ErrorCode::UNKNOWN_MEMBER_ID))
    }

    pub(super) fn heartbeat(&mut self, group_id: &str, generation: i32, member: &MemberName) -> Reply {
        let error = self.heartbeat_error(group_id, generation, member);
        let now = self.now;
        if let Some(Kind::Classic { group }) = self.group(group_id).map(|group| &mut group.kind)
            && (error.is_none() || error == ErrorCode::REBALANCE_IN_PROGRESS)
        {
            group.touch(&member.member_id, now);
        }
        Reply::Error { error }
    }

    pub(super) fn heartbeat_error(&self, group_id: &str, generation: i32, member: &MemberName) -> ErrorCode {
        match self.groups.get(group_id).map(|group| &group.kind) {
            _ if group_id.is_empty() => ErrorCode::INVALID_GROUP_ID,
            Some(Kind::Classic { group }) => {
                group.heartbeat(&member.member_id, member.instance_id.as_deref(), generation)
            }
            _ => ErrorCode::UNKNOWN_MEMBER_ID,
        }
    }

    pub(super) fn leave(&mut self, out: &mut Output, group_id: &str, members: &[MemberName]) -> Reply {
        if group_id.is_empty() {
            return Reply::Error { error: ErrorCode::INVALID_GROUP_ID };
        }
        let unknown = || {
            let row = |name: &MemberName| Left {
                member_id: name.member_id.clone(),
                instance_id: name.instance_id.clone(),
                error: ErrorCode::UNKNOWN_MEMBER_ID,
            };
            Reply::Leave { members: members.iter().map(row).collect() }
        };
        let left = self.with_group(out, group_id, false, |group, turn| match &mut group.kind {
            Kind::Classic { group } => group.leave(turn, members),
            Kind::Consumer { .. } | Kind::Share { .. } => unknown(),
        });
        left.unwrap_or_else(unknown)
    }

    pub(super) fn consumer_heartbeat(&mut self, out: &mut Output, request: &ConsumerHeartbeat) -> Reply {
        let refused = |error| Reply::Consumer { reply: ConsumerReply::error(error) };
        if let Some(error) = request.refusal() {
            return refused(error);
        }
        let joins = request.member_epoch == 0;
        let usable = |group: &Group| match group.kind {
            Kind::Consumer { .. } => true,
            Kind::Classic { .. } => joins && group.is_empty(),
            Kind::Share { .. } => false,
        };
        // A group of another kind that has members is not a consumer group; nobody but a first member makes one.
        if self.groups.get(&request.group_id).map_or(!joins, |group| !usable(group)) {
            return refused(ErrorCode::GROUP_ID_NOT_FOUND);
        }
        let heard = self.with_group(out, &request.group_id, true, |group, turn| {
            let group = group.consumer().expect("checked above");
            group.heartbeat(turn, request).map_or_else(refused, |reply| Reply::Consumer { reply })
        });
        heard.unwrap_or_else(|| refused(ErrorCode::COORDINATOR_NOT_AVAILABLE))
    }

    pub(super) fn expire_member(&mut self, out: &mut Output, group_id: &str, member_id: &str) -> Reply {
        let expired = self.with_group(out, group_id, false, |group, turn| match &mut group.kind {
            Kind::Classic { group } => group.expire(turn, member_id),
            Kind::Consumer { group } => group.expire(turn, member_id),
            Kind::Share { group } => group.expire(turn, member_id),
        });
        Reply::Error { error: expired.unwrap_or(ErrorCode::GROUP_ID_NOT_FOUND) }
    }

    pub(super) fn group_on_time(&mut self, out: &mut Output, group_id: &str) {
        self.with_group(out, group_id, false, |group, turn| match &mut group.kind {
            Kind::Classic { group } => group.on_time(turn),
            Kind::Consumer { group } => group.on_time(turn),
            Kind::Share { .. } => {}
        });
    }

    pub(super) fn delete_groups(&mut self, group_ids: Vec<String>) -> Reply {
        let mut groups = Vec::with_capacity(group_ids.len());
        for id in group_ids {
            let error = match self.groups.get(&id) {
                None => ErrorCode::GROUP_ID_NOT_FOUND,
                Some(group) if !group.is_empty() => ErrorCode::NON_EMPTY_GROUP,
                Some(_) => {
                    self.remove_group(&id);
                    ErrorCode::NONE
                }
            };
            groups.push((id, error));
        }
        Reply::DeleteGroups { groups }
    }

    /// May a member, or somebody who is none, commit?
    pub(super) fn check_commit(
        &self,
        group_id: &str,
        generation: i32,
        member: &MemberName,
        transactional: bool,
        knows_epochs: bool,
    ) -> Result<(), ErrorCode> {
        let instance = member.instance_id.as_deref();
        match self.groups.get(group_id).map(|group| &group.kind) {
            None if generation < 0 => Ok(()),
            None => Err(ErrorCode::ILLEGAL_GENERATION),
            Some(Kind::Classic { group }) => group.check_commit(&member.member_id, instance, generation, transactional),
            Some(Kind::Consumer { group }) => {
                group.check_commit(&member.member_id, instance, generation, transactional, knows_epochs)
            }
            // Share groups settle records; they commit no offsets.
            Some(Kind::Share { .. }) => Err(ErrorCode::GROUP_ID_NOT_FOUND),
        }
    }

    pub(super) fn commit_offsets(&mut self, request: &CommitOffsets) -> Reply {
        let id = request.group_id.as_str();
        if let Err(error) = self.check_commit(id, request.generation, &request.member, false, request.knows_epochs) {
            return Reply::topics_error(error);
        }
        let (now, ticket) = (self.now, self.ticket);
        let expires = u64::try_from(request.retention_ms).ok().map(|ms| now.saturating_add(ms));
        let metadata_size_max = self.config().offset_metadata_size_max;
        let Some(group) = self.group_or_new(id) else {
            return Reply::topics_error(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        };
        match &mut group.kind {
            Kind::Classic { group } => group.touch(&request.member.member_id, now),
            Kind::Consumer { group } => {
                group.members.get_mut(&request.member.member_id).into_iter().for_each(|member| member.seen = now);
            }
            Kind::Share { .. } => {}
        }
        let topics = group.offsets.commit(&Stamp { now, ticket, expires, metadata_size_max }, &request.topics);
        self.drop_if_void(id);
        Reply::Topics { error: ErrorCode::NONE, topics, number: 0 }
    }

    pub(super) fn delete_offsets(&mut self, group_id: &str, topics: &[TopicPartitions]) -> Reply {
        let Some(group) = self.group(group_id) else { return Reply::topics_error(ErrorCode::GROUP_ID_NOT_FOUND) };
        if let Kind::Classic { group } = &group.kind
            && group.state != ClassicState::Empty
            && !group.is_consumers()
        {
            return Reply::topics_error(ErrorCode::NON_EMPTY_GROUP);
        }
        let subscribed: Vec<bool> = topics.iter().map(|topic| group.is_subscribed(&topic.topic)).collect();
        let topics = group.offsets.delete(topics, &subscribed);
        self.drop_if_void(group_id);
        Reply::Topics { error: ErrorCode::NONE, topics, number: 0 }
    }

    pub(super) fn topics_deleted(&mut self, topics: &[(String, Uuid)]) -> Reply {
        let ids: Vec<String> = self.groups.keys().cloned().collect();
        for id in ids {
            let touched = |group: &Group| {
                let known = match &group.kind {
                    Kind::Classic { .. } => None,
                    Kind::Consumer { group } => Some(&group.topics),
                    Kind::Share { group } => Some(&group.topics),
                };
                let consumer = known.is_some_and(|known| topics.iter().any(|(name, _)| known.contains_key(name)));
                let tables = || std::iter::once(&group.offsets.committed).chain(group.offsets.pending.values());
                consumer || topics.iter().any(|(name, _)| tables().any(|table| table.contains_key(name)))
            };
            if !touched(&self.groups[&id]) {
                continue;
            }
            let group = self.group(&id).expect("listed just now");
            for (name, topic_id) in topics {
                group.offsets.forget_topic(name, *topic_id);
                match &mut group.kind {
                    Kind::Classic { .. } => {}
                    Kind::Consumer { group } => group.forget_topic(name, *topic_id),
                    Kind::Share { group } => group.forget_topic(name, *topic_id),
                }
            }
            self.drop_if_void(&id);
        }
        self.remove_shares_of_topics(&topics.iter().map(|(_, id)| *id).collect::<Vec<Uuid>>());
        Reply::Error { error: ErrorCode::NONE }
    }

    /// What is old and of no use goes.
    pub(super) fn sweep(&mut self) {
        let config = self.config();
        let now = self.now;
        self.sweep_at = Some(now.saturating_add(config.sweep_interval_ms.max(1)));
        self.timers.set(Key::Sweep, self.sweep_at);
        let ids: Vec<String> = self.groups.keys().cloned().collect();
        for id in ids {
            let gone = expired(&self.groups[&id], now, config.offsets_retention_ms);
            if !gone.is_empty() {
                self.group(&id).expect("listed just now").offsets.remove(&gone);
            }
            let group = &self.groups[&id];
            // A share group stays until somebody deletes it.
            let stays = matches!(group.kind, Kind::Share { .. });
            if !stays && group.is_empty() && group.offsets.is_empty() && group.deadline().is_none() {
                self.remove_group(&id);
            }
        }
        let expiration = config.transactional_id_expiration_ms;
        self.transactions.retain(|_, transaction| !transaction.is_expired(now, expiration));
    }
}

/// Offsets of a group whose retention is over and that nobody reads.
fn expired(group: &Group, now: u64, retention_ms: u64) -> Vec<(String, i32)> {
    let age = |from| Age { now, from, retention_ms };
    match &group.kind {
        Kind::Classic { group: classic } => match classic.state {
            _ if classic.protocol_type.is_none() => group.offsets.expired(&age(None), |_| false),
            // Ages count from when the last member went: a group that was there has use for its offsets.
            ClassicState::Empty => group.offsets.expired(&age(Some(classic.since)), |_| false),
            ClassicState::Stable => match classic.subscription() {
                Some(topics) => group.offsets.expired(&age(None), |topic| topics.contains(topic)),
                None => Vec::new(),
            },
            _ => Vec::new(),
        },
        Kind::Consumer { group: consumer } => group.offsets.expired(&age(None), |topic| consumer.is_subscribed(topic)),
        Kind::Share { .. } => Vec::new(),
    }
}
