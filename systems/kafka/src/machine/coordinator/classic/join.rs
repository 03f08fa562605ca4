//! Joins.

use bytes::Bytes;

use super::{Classic, ClassicMember, ClassicState};
use crate::machine::coordinator::command::{Join, Protocol};
use crate::machine::coordinator::config::{
    CoordinatorConfig, GROUP_SIZE_MAX, MEMBER_SIZE_MAX, NEW_MEMBER_TIMEOUT_MS, PENDING_COUNT_MAX,
};
use crate::machine::coordinator::reply::{JoinResult, Reply, SyncResult};
use crate::machine::coordinator::turn::Turn;
use crate::wire::ErrorCode;

impl Join {
    /// What is wrong with a join whatever the group.
    pub(in super::super) fn refusal(&self, config: &CoordinatorConfig) -> Option<ErrorCode> {
        let timeout = u32::try_from(self.session_timeout_ms).ok();
        let fits =
            timeout.is_some_and(|ms| (config.session_timeout_ms_min..=config.session_timeout_ms_max).contains(&ms));
        if self.group_id.is_empty() {
            Some(ErrorCode::INVALID_GROUP_ID)
        } else if !fits {
            Some(ErrorCode::INVALID_SESSION_TIMEOUT)
        } else if (self.member_id.is_empty() && self.new_member_id.is_empty())
            || size(&self.protocols) > MEMBER_SIZE_MAX
        {
            Some(ErrorCode::INVALID_REQUEST)
        } else {
            None
        }
    }

    fn session_timeout_ms(&self) -> u32 {
        self.session_timeout_ms.unsigned_abs()
    }

    fn rebalance_timeout_ms(&self) -> u32 {
        u32::try_from(self.rebalance_timeout_ms).unwrap_or_else(|_| self.session_timeout_ms())
    }

    fn to_member(&self, now: u64) -> ClassicMember {
        ClassicMember {
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            session_timeout_ms: self.session_timeout_ms(),
            rebalance_timeout_ms: self.rebalance_timeout_ms(),
            protocols: self.protocols.clone(),
            assignment: Bytes::new(),
            join: None,
            sync: None,
            new_until: None,
            seen: now,
        }
    }
}

/// What a member offers, in bytes.
fn size(protocols: &[Protocol]) -> usize {
    protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
}

fn refused(error: ErrorCode, member_id: &str) -> Reply {
    Reply::Join { result: JoinResult::error(error, member_id) }
}

impl Classic {
    pub(in super::super) fn join(&mut self, turn: &mut Turn<'_>, join: &Join) -> Reply {
        let id = join.member_id.as_str();
        if !self.has_room(turn.config, id) || self.size() + size(&join.protocols) > GROUP_SIZE_MAX {
            self.pending.remove(id);
            if self.members.contains_key(id) {
                self.drop_member(turn, id);
            }
            self.maybe_complete_join(turn);
            return refused(ErrorCode::GROUP_MAX_SIZE_REACHED, "");
        }
        if !self.supports(&join.protocol_type, &join.protocols) {
            return refused(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, id);
        }
        if id.is_empty() { self.join_new(turn, join) } else { self.join_known(turn, join) }
    }

    /// What all members keep, in bytes.
    fn size(&self) -> usize {
        let texts = |member: &ClassicMember| member.client_id.len() + member.client_host.len();
        let one = |member: &ClassicMember| size(&member.protocols) + member.assignment.len() + texts(member);
        self.members.values().map(one).sum()
    }

    fn has_room(&self, config: &CoordinatorConfig, member_id: &str) -> bool {
        let max = usize::try_from(config.group_size_max).unwrap_or(usize::MAX);
        let member = self.members.get(member_id);
        match self.state {
            ClassicState::Empty => true,
            ClassicState::PreparingRebalance => {
                let joined = self.members.values().filter(|member| member.join.is_some()).count();
                member.is_some_and(|member| member.join.is_some()) || joined < max
            }
            ClassicState::CompletingRebalance | ClassicState::Stable => member.is_some() || self.members.len() < max,
        }
    }

    fn join_new(&mut self, turn: &mut Turn<'_>, join: &Join) -> Reply {
        let id = join.new_member_id.as_str();
        if self.members.contains_key(id) || self.pending.contains_key(id) {
            // Whoever draws ids has drawn one twice, or an id that a client has made up.
            return refused(ErrorCode::UNKNOWN_SERVER_ERROR, "");
        }
        if let Some(instance) = &join.instance_id {
            match self.statics.get(instance).cloned() {
                Some(old) => return self.replace(turn, join, &old),
                None => self.add(turn, join, id),
            }
        } else if join.member_id_required {
            if self.pending.len() >= PENDING_COUNT_MAX {
                return refused(ErrorCode::GROUP_MAX_SIZE_REACHED, "");
            }
            self.pending.insert(id.to_owned(), turn.now.saturating_add(u64::from(join.session_timeout_ms())));
            return refused(ErrorCode::MEMBER_ID_REQUIRED, id);
        } else {
            self.add(turn, join, id);
        }
        self.rebalance(turn);
        turn.answer_or_wait()
    }

    fn join_known(&mut self, turn: &mut Turn<'_>, join: &Join) -> Reply {
        let id = join.member_id.as_str();
        if self.pending.contains_key(id) {
            if join.instance_id.is_some() {
                // Static members are given no id to wait for.
                return refused(ErrorCode::UNKNOWN_MEMBER_ID, id);
            }
            self.add(turn, join, id);
            self.rebalance(turn);
            return turn.answer_or_wait();
        }
        if let Err(error) = self.check_member(id, join.instance_id.as_deref()) {
            return refused(error, id);
        }
        let same = self.members.get(id).is_some_and(|member| member.protocols == join.protocols);
        self.touch(id, turn.now);
        match self.state {
            // The answer to its join was lost.
            ClassicState::CompletingRebalance if same => {
                let members = if self.is_leader(id) { self.roster() } else { Vec::new() };
                return Reply::Join { result: JoinResult { members, ..self.joined(id) } };
            }
            // A leader that joins again may have seen topics change; anybody else that changes nothing goes on.
            ClassicState::Stable if same && !self.is_leader(id) => return Reply::Join { result: self.joined(id) },
            ClassicState::Empty => return refused(ErrorCode::UNKNOWN_MEMBER_ID, id),
            _ => {}
        }
        self.update(turn, join, id);
        self.rebalance(turn);
        turn.answer_or_wait()
    }

    fn add(&mut self, turn: &mut Turn<'_>, join: &Join, id: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.pending.remove(id);
        self.leader.get_or_insert_with(|| id.to_owned());
        self.initial.iter_mut().for_each(|initial| initial.joined = true);
        let mut member = join.to_member(turn.now);
        member.join = Some(turn.ticket);
        member.new_until = Some(turn.now.saturating_add(NEW_MEMBER_TIMEOUT_MS));
        join.instance_id.iter().for_each(|instance| drop(self.statics.insert(instance.clone(), id.to_owned())));
        self.members.insert(id.to_owned(), member);
        turn.watch(id, join.session_timeout_ms());
    }

    fn update(&mut self, turn: &mut Turn<'_>, join: &Join, id: &str) {
        let member = self.members.get_mut(id).expect("checked by the caller");
        let fresh = join.to_member(turn.now);
        member.client_id = fresh.client_id;
        member.client_host = fresh.client_host;
        member.session_timeout_ms = fresh.session_timeout_ms;
        member.rebalance_timeout_ms = fresh.rebalance_timeout_ms;
        member.protocols = fresh.protocols;
        member.seen = turn.now;
        // An earlier join of the same member is answered by nobody: its client has given it up.
        member.join = Some(turn.ticket);
        turn.watch(id, join.session_timeout_ms());
    }

    /// A static member takes the place of the one that had its instance id.
    fn replace(&mut self, turn: &mut Turn<'_>, join: &Join, old: &str) -> Reply {
        let new = join.new_member_id.as_str();
        let leader = self.leader.clone().unwrap_or_default();
        let mut member = self.members.remove(old).expect("static members are members");
        turn.forget(old);
        let fenced = ErrorCode::FENCED_INSTANCE_ID;
        member.join.take().iter().for_each(|ticket| turn.join_done(*ticket, old, JoinResult::error(fenced, old)));
        member.sync.take().iter().for_each(|ticket| turn.sync_done(*ticket, old, SyncResult::error(fenced)));
        self.members.insert(new.to_owned(), member);
        join.instance_id.iter().for_each(|instance| drop(self.statics.insert(instance.clone(), new.to_owned())));
        if leader == old {
            self.leader = Some(new.to_owned());
        }
        if self.unsynced.remove(old) {
            self.unsynced.insert(new.to_owned());
        }
        self.update(turn, join, new);
        if self.state == ClassicState::Stable && self.select_protocol() == self.protocol {
            self.members.get_mut(new).expect("put there above").join = None;
            let leads = self.is_leader(new);
            let result = if join.skip_assignment {
                let members = if leads { self.roster() } else { Vec::new() };
                JoinResult { members, skip_assignment: leads, ..self.joined(new) }
            } else {
                // A client that does not know of skipping must not take itself for the leader.
                JoinResult { leader, ..self.joined(new) }
            };
            return Reply::Join { result };
        }
        self.rebalance(turn);
        turn.answer_or_wait()
    }
}
