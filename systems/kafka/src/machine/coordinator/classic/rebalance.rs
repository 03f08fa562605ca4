//! The phases of a rebalance.

use super::{Classic, ClassicState, Initial};
use crate::machine::coordinator::reply::{JoinResult, SyncResult};
use crate::machine::coordinator::turn::Turn;
use crate::wire::ErrorCode;

/// Static members that do not come back are not looked for more often than this.
const RETRY_MS_MIN: u64 = 1_000;

impl Classic {
    fn transition(&mut self, now: u64, to: ClassicState) {
        use ClassicState::{CompletingRebalance, Empty, PreparingRebalance, Stable};
        let allowed = match to {
            PreparingRebalance => self.state != PreparingRebalance,
            CompletingRebalance | Empty => self.state == PreparingRebalance,
            Stable => self.state == CompletingRebalance,
        };
        assert!(allowed, "a classic group does not go from {:?} to {to:?}", self.state);
        self.state = to;
        self.since = now;
    }

    /// Begins a rebalance, or goes on with the one under way.
    pub(super) fn rebalance(&mut self, turn: &mut Turn<'_>) {
        if self.state == ClassicState::PreparingRebalance {
            self.maybe_complete_join(turn);
        } else {
            self.prepare(turn);
        }
    }

    fn prepare(&mut self, turn: &mut Turn<'_>) {
        if self.state == ClassicState::CompletingRebalance {
            for (id, member) in &mut self.members {
                member.assignment.clear();
                if let Some(ticket) = member.sync.take() {
                    turn.sync_done(ticket, id, SyncResult::error(ErrorCode::REBALANCE_IN_PROGRESS));
                }
            }
        }
        self.unsynced.clear();
        let first = self.state == ClassicState::Empty;
        self.transition(turn.now, ClassicState::PreparingRebalance);
        let timeout = self.rebalance_timeout_ms();
        self.until = Some(turn.now.saturating_add(timeout));
        let delay = u64::from(turn.config.initial_rebalance_delay_ms);
        if first && delay > 0 {
            self.initial = Some(Initial { remaining_ms: timeout.saturating_sub(delay), joined: false });
            self.until = Some(turn.now.saturating_add(delay));
        } else if first {
            self.complete_join(turn);
        } else {
            self.maybe_complete_join(turn);
        }
    }

    /// Ends the wait for joins if everybody has joined.
    pub(super) fn maybe_complete_join(&mut self, turn: &mut Turn<'_>) {
        let joined = self.pending.is_empty() && self.members.values().all(|member| member.join.is_some());
        if self.state == ClassicState::PreparingRebalance && self.initial.is_none() && joined {
            self.complete_join(turn);
        }
    }

    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        self.initial = None;
        let gone: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.join.is_none() && member.instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        gone.iter().for_each(|id| self.drop_member(turn, id));
        if !self.elect_joined() && !self.members.is_empty() {
            // Only static members are left, and none has come back: they are waited for once more.
            self.until = Some(turn.now.saturating_add(self.rebalance_timeout_ms().max(RETRY_MS_MIN)));
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.until = None;
        self.unsynced.clear();
        if self.members.is_empty() {
            self.protocol = None;
            self.transition(turn.now, ClassicState::Empty);
            return;
        }
        self.protocol = self.select_protocol();
        assert!(self.protocol.is_some(), "every join was checked against what the others know");
        self.transition(turn.now, ClassicState::CompletingRebalance);
        let until = turn.now.saturating_add(self.rebalance_timeout_ms());
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in &ids {
            let members = if self.is_leader(id) { self.roster() } else { Vec::new() };
            let result = JoinResult { members, ..self.joined(id) };
            let member = self.members.get_mut(id).expect("listed just now");
            member.new_until = None;
            member.seen = turn.now;
            if let Some(ticket) = member.join.take() {
                turn.join_done(ticket, id, result);
            }
        }
        self.unsynced = ids.into_iter().collect();
        self.until = Some(until);
    }

    /// The present generation, as a member is told of it that need not assign.
    pub(in super::super) fn joined(&self, member_id: &str) -> JoinResult {
        JoinResult {
            error: ErrorCode::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }

    /// True if the leader has joined, or a member that has leads now.
    fn elect_joined(&mut self) -> bool {
        let waits = |id: &String| self.members.get(id).is_some_and(|member| member.join.is_some());
        if self.leader.as_ref().is_some_and(waits) {
            return true;
        }
        match self.members.iter().find(|(_, member)| member.join.is_some()) {
            Some((id, _)) => {
                self.leader = Some(id.clone());
                true
            }
            None => false,
        }
    }

    /// A member asked for its assignment.
    pub(super) fn synced(&mut self, member_id: &str) {
        if self.unsynced.remove(member_id) && self.unsynced.is_empty() {
            self.until = None;
        }
    }

    /// The leader has assigned.
    pub(super) fn stabilise(&mut self, turn: &mut Turn<'_>) {
        self.transition(turn.now, ClassicState::Stable);
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        for (id, member) in &mut self.members {
            if let Some(ticket) = member.sync.take() {
                let (protocol_type, protocol) = (protocol_type.clone(), protocol.clone());
                let assignment = member.assignment.clone();
                member.seen = turn.now;
                turn.sync_done(ticket, id, SyncResult { error: ErrorCode::NONE, protocol_type, protocol, assignment });
            }
        }
    }

    /// Takes a member out; whoever waits in its name is told. The caller goes on with the rebalance.
    pub(super) fn drop_member(&mut self, turn: &mut Turn<'_>, member_id: &str) {
        let Some(member) = self.members.remove(member_id) else { return };
        turn.forget(member_id);
        if let Some(ticket) = member.join {
            turn.join_done(ticket, member_id, JoinResult::error(ErrorCode::UNKNOWN_MEMBER_ID, ""));
        }
        if let Some(ticket) = member.sync {
            turn.sync_done(ticket, member_id, SyncResult::error(ErrorCode::UNKNOWN_MEMBER_ID));
        }
        member.instance_id.iter().for_each(|instance| drop(self.statics.remove(instance)));
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.synced(member_id);
    }

    /// Does what is due.
    pub(in super::super) fn on_time(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let pending = self.pending.len();
        self.pending.retain(|_, until| *until > now);
        let tired = |(id, member): (&String, &super::ClassicMember)| {
            (member.join.is_some() && member.new_until.is_some_and(|until| until <= now)).then(|| id.clone())
        };
        let tired: Vec<String> = self.members.iter().filter_map(tired).collect();
        tired.iter().for_each(|id| self.drop_member(turn, id));
        if pending != self.pending.len() || !tired.is_empty() {
            self.maybe_complete_join(turn);
        }
        if self.until.is_none_or(|until| until > now) {
            return;
        }
        match self.state {
            ClassicState::Empty => unreachable!("nothing is waited for in an empty group"),
            ClassicState::PreparingRebalance => self.on_join_timeout(turn),
            ClassicState::CompletingRebalance | ClassicState::Stable => {
                let missing = std::mem::take(&mut self.unsynced);
                self.until = None;
                missing.iter().for_each(|id| self.drop_member(turn, id));
                self.rebalance(turn);
            }
        }
    }

    fn on_join_timeout(&mut self, turn: &mut Turn<'_>) {
        let delay = u64::from(turn.config.initial_rebalance_delay_ms);
        match &mut self.initial {
            Some(initial) if initial.joined && initial.remaining_ms > 0 => {
                let delay = delay.min(initial.remaining_ms);
                initial.remaining_ms -= delay;
                initial.joined = false;
                self.until = Some(turn.now.saturating_add(delay.max(1)));
            }
            _ => self.complete_join(turn),
        }
    }
}
