//! Heartbeats of members of share groups.

use std::collections::BTreeSet;

use super::super::command::ShareHeartbeat;
use super::super::config::{GROUP_SIZE_MAX, SUBSCRIPTION_SIZE_MAX};
use super::super::consumer::{Assignment, listed};
use super::super::reply::ConsumerReply;
use super::super::turn::Turn;
use super::assignor::assign;
use super::{LEAVE_EPOCH, Share, ShareMember};
use crate::wire::ErrorCode;

fn size<'a>(names: impl Iterator<Item = &'a String>) -> usize {
    names.map(|name| name.len() + size_of::<String>()).sum()
}

impl ShareHeartbeat {
    /// What is wrong with a heartbeat whatever the group.
    pub(in super::super) fn refusal(&self) -> Option<ErrorCode> {
        let names = || self.subscribed_names.iter().flatten();
        let unfit = self.group_id.is_empty()
            || self.member_id.is_empty()
            || self.rack_id.as_deref() == Some("")
            || self.member_epoch < LEAVE_EPOCH
            || (self.member_epoch == 0 && names().next().is_none())
            || size(names()) > SUBSCRIPTION_SIZE_MAX;
        unfit.then_some(ErrorCode::INVALID_REQUEST)
    }

    fn update(&self, member: &mut ShareMember) {
        self.rack_id.iter().for_each(|id| member.rack_id = Some(id.clone()));
        self.client_id.clone_into(&mut member.client_id);
        self.client_host.clone_into(&mut member.client_host);
        if let Some(names) = &self.subscribed_names {
            member.names = names.iter().cloned().collect();
        }
    }

    /// True if it says everything, so that it wants to hear everything.
    fn is_full(&self) -> bool {
        self.member_epoch == 0 || self.subscribed_names.is_some()
    }
}

impl Share {
    pub(in super::super) fn heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ShareHeartbeat,
    ) -> Result<ConsumerReply, ErrorCode> {
        let id = request.member_id.as_str();
        if request.member_epoch == LEAVE_EPOCH {
            return self.leave(turn, id);
        }
        let is_new = !self.members.contains_key(id);
        let brings = size(request.subscribed_names.iter().flatten());
        let full = is_new && self.members.len() >= usize::try_from(request.size_max).unwrap_or(usize::MAX);
        if full || (brings > 0 && self.size() + brings > GROUP_SIZE_MAX) {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        self.admit(request)?;
        self.session_timeout_ms = request.session_timeout_ms;
        self.heartbeat_interval_ms = request.heartbeat_interval_ms;
        let member = self.members.get_mut(id).expect("it was admitted");
        let names = member.names.clone();
        request.update(member);
        member.seen = turn.now;
        let subscribes = member.names != names || is_new;
        let learns = self.learn(request.metadata_version, &request.topics);
        let member = self.members.get_mut(id).expect("it was admitted");
        let known = member.names.iter().all(|name| self.topics.contains_key(name));
        member.behind = request.metadata_version < self.metadata_version && !known;
        if subscribes || learns {
            self.raise();
        }
        if self.epoch > self.target_epoch {
            self.retarget();
        }
        let target = self.target.get(id).cloned().unwrap_or_default();
        let member = self.members.get_mut(id).expect("it was admitted");
        let told = request.is_full() || member.assigned != target || request.member_epoch != member.epoch;
        if member.epoch != self.target_epoch {
            member.previous_epoch = member.epoch;
            member.epoch = self.target_epoch;
        }
        member.assigned = target;
        turn.watch(id, self.session_timeout_ms);
        Ok(self.reply(id, told))
    }

    /// Finds or makes the member.
    fn admit(&mut self, request: &ShareHeartbeat) -> Result<(), ErrorCode> {
        let (id, epoch) = (request.member_id.as_str(), request.member_epoch);
        match self.members.get(id) {
            Some(member) if epoch == 0 || epoch == member.epoch || epoch == member.previous_epoch => Ok(()),
            Some(_) => Err(ErrorCode::FENCED_MEMBER_EPOCH),
            None if epoch == 0 => {
                let member = ShareMember {
                    rack_id: None,
                    client_id: String::new(),
                    client_host: String::new(),
                    names: BTreeSet::new(),
                    behind: false,
                    epoch: 0,
                    previous_epoch: 0,
                    assigned: Assignment::new(),
                    seen: 0,
                };
                self.members.insert(id.to_owned(), member);
                Ok(())
            }
            None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    fn size(&self) -> usize {
        self.members.values().map(|member| size(member.names.iter())).sum()
    }

    fn retarget(&mut self) {
        let wanted: BTreeSet<String> = self.subscription().into_iter().map(str::to_owned).collect();
        self.topics.retain(|name, _| wanted.contains(name));
        self.target = assign(&self.members, &self.topics);
        self.target_epoch = self.epoch;
    }

    fn leave(&mut self, turn: &mut Turn<'_>, id: &str) -> Result<ConsumerReply, ErrorCode> {
        if !self.members.contains_key(id) {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.drop_member(turn, id);
        let reply = ConsumerReply {
            member_id: id.to_owned(),
            member_epoch: LEAVE_EPOCH,
            ..ConsumerReply::error(ErrorCode::NONE)
        };
        Ok(reply)
    }

    fn reply(&self, id: &str, told: bool) -> ConsumerReply {
        let member = &self.members[id];
        ConsumerReply {
            error: ErrorCode::NONE,
            member_id: id.to_owned(),
            member_epoch: member.epoch,
            heartbeat_interval_ms: self.heartbeat_interval_ms,
            assignment: told.then(|| listed(&member.assigned)),
        }
    }

    /// The answer to a heartbeat that changes nothing; `None` if it may change something, or fail.
    pub(in super::super) fn unchanged(&self, request: &ShareHeartbeat) -> Option<ConsumerReply> {
        let id = request.member_id.as_str();
        let member = self.members.get(id)?;
        let mut updated = member.clone();
        request.update(&mut updated);
        // A client that connects anew changes its port, not its membership.
        updated.client_host.clone_from(&member.client_host);
        updated.client_id.clone_from(&member.client_id);
        let periods = (request.session_timeout_ms, request.heartbeat_interval_ms);
        let same = request.refusal().is_none()
            && request.member_epoch > 0
            && request.member_epoch == member.epoch
            && updated == *member
            && (self.epoch, self.target_epoch) == (member.epoch, member.epoch)
            && periods == (self.session_timeout_ms, self.heartbeat_interval_ms)
            && request.metadata_version <= self.metadata_version
            && (!member.behind || request.metadata_version < self.metadata_version);
        same.then(|| self.reply(id, request.is_full()))
    }

    /// The topics of which a heartbeat is to bring the partition counts.
    pub(in super::super) fn interests(&self, request: &ShareHeartbeat) -> Vec<String> {
        let mut topics = self.subscription();
        topics.extend(request.subscribed_names.iter().flatten().map(String::as_str));
        topics.into_iter().map(str::to_owned).collect()
    }
}
