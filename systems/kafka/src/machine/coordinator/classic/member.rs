//! What members do between joins: sync, leave, expire.

use std::collections::BTreeMap;

use super::{Classic, ClassicState};
use crate::machine::coordinator::command::{MemberName, Sync};
use crate::machine::coordinator::config::{GROUP_SIZE_MAX, MEMBER_SIZE_MAX};
use crate::machine::coordinator::reply::{Left, Reply, SyncResult};
use crate::machine::coordinator::turn::Turn;
use crate::wire::ErrorCode;

/// True if a request names something else than the group's. Who does not name it, agrees.
fn differs(named: Option<&String>, own: Option<&String>) -> bool {
    named.is_some() && own.is_some() && named != own
}

impl Classic {
    fn check_sync(&self, sync: &Sync) -> Result<(), ErrorCode> {
        let sizes = || sync.assignments.iter().map(|(_, assignment)| assignment.len());
        if sizes().any(|size| size > MEMBER_SIZE_MAX) || sizes().sum::<usize>() > GROUP_SIZE_MAX {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        self.check_member(&sync.member.member_id, sync.member.instance_id.as_deref())?;
        if sync.generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let differs = differs(sync.protocol_type.as_ref(), self.protocol_type.as_ref())
            || differs(sync.protocol.as_ref(), self.protocol.as_ref());
        match self.state {
            _ if differs => Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
            ClassicState::Empty => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            ClassicState::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            ClassicState::CompletingRebalance | ClassicState::Stable => Ok(()),
        }
    }

    pub(in super::super) fn sync(&mut self, turn: &mut Turn<'_>, sync: &Sync) -> Reply {
        if let Err(error) = self.check_sync(sync) {
            return Reply::Sync { result: SyncResult::error(error) };
        }
        let id = sync.member.member_id.as_str();
        self.synced(id);
        let member = self.members.get_mut(id).expect("checked above");
        member.seen = turn.now;
        if self.state == ClassicState::Stable {
            let assignment = member.assignment.clone();
            let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
            return Reply::Sync { result: SyncResult { error: ErrorCode::NONE, protocol_type, protocol, assignment } };
        }
        member.sync = Some(turn.ticket);
        if self.is_leader(id) {
            let mut assignments: BTreeMap<&str, _> =
                sync.assignments.iter().map(|(id, assignment)| (id.as_str(), assignment)).collect();
            for (id, member) in &mut self.members {
                member.assignment = assignments.remove(id.as_str()).cloned().unwrap_or_default();
            }
            self.stabilise(turn);
        }
        turn.answer_or_wait()
    }

    pub(in super::super) fn leave(&mut self, turn: &mut Turn<'_>, names: &[MemberName]) -> Reply {
        let mut left = false;
        let mut members = Vec::new();
        for name in names {
            let error = self.leave_one(turn, name);
            left |= error.is_none();
            members.push(Left { member_id: name.member_id.clone(), instance_id: name.instance_id.clone(), error });
        }
        if left && self.state != ClassicState::Empty {
            self.rebalance(turn);
        }
        Reply::Leave { members }
    }

    fn leave_one(&mut self, turn: &mut Turn<'_>, name: &MemberName) -> ErrorCode {
        let instance = name.instance_id.as_deref();
        if name.member_id.is_empty() {
            // An administrator names an instance only.
            let Some(id) = instance.and_then(|instance| self.statics.get(instance)).cloned() else {
                return ErrorCode::UNKNOWN_MEMBER_ID;
            };
            self.drop_member(turn, &id);
            return ErrorCode::NONE;
        }
        if self.pending.remove(&name.member_id).is_some() {
            return ErrorCode::NONE;
        }
        match self.check_member(&name.member_id, instance) {
            Ok(()) => {
                self.drop_member(turn, &name.member_id);
                ErrorCode::NONE
            }
            Err(error) => error,
        }
    }

    /// A member was not heard of. Does nothing if it has sent a command meanwhile.
    pub(in super::super) fn expire(&mut self, turn: &mut Turn<'_>, member_id: &str) -> ErrorCode {
        if self.expires_after(member_id, turn.now) != Some(0) {
            return ErrorCode::UNKNOWN_MEMBER_ID;
        }
        self.drop_member(turn, member_id);
        self.rebalance(turn);
        ErrorCode::NONE
    }
}
