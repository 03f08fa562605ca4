//! What the leader of a group does besides ordering commands, and the changes of members that it asks for.
//!
//! Deliberately absent: what a duty is for. Its system says.

use bytes::Bytes;
use verity_clock::Now;
use verity_contract::{self as contract, DutyInput, DutyOutput};
use verity_types::GroupId;

use super::{Replica, Waker};
use crate::batch::Proposal;
use crate::change::{Changing, Next};
use crate::frame::Frame;

impl Replica {
    pub(super) fn on_whisper(&mut self, now: Now, id: GroupId, bytes: Bytes) {
        let Some(group) = self.groups.get(&id) else { return };
        match group.role.leader {
            Some(leader) if leader != self.config.id => self.post(leader, &Frame::Whisper { group: id, bytes }),
            Some(from) => self.call_duty(now, id, |_| DutyInput::Whisper { from, bytes }),
            // A node that never heard of any member does not know who leads: everybody hears it, the leader's duty listens.
            // One that was let go knows them, and is not to come back by itself.
            None if group.members.all().is_empty() => {
                for node in self.up.clone() {
                    self.post(node, &Frame::Whisper { group: id, bytes: bytes.clone() });
                }
            }
            None => {}
        }
    }

    /// Calls a duty that is on.
    pub(super) fn call_duty<'a>(
        &'a mut self,
        now: Now,
        id: GroupId,
        input: impl FnOnce(&'a mut dyn contract::StateMachine) -> DutyInput<'a>,
    ) {
        if self.groups.get(&id).is_some_and(|group| group.ready) {
            self.call_duty_always(now, id, input);
        }
    }

    pub(super) fn call_duty_always<'a>(
        &'a mut self,
        now: Now,
        id: GroupId,
        input: impl FnOnce(&'a mut dyn contract::StateMachine) -> DutyInput<'a>,
    ) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let is_suspicious = !group.trusts();
        let Some(duty) = group.duty.as_mut() else { return };
        let mut outputs = Vec::new();
        duty.on(now, input(group.machine.as_mut()), &mut outputs);
        for output in outputs {
            match output {
                DutyOutput::Propose(command) if group.ready => {
                    self.active.insert(id);
                    group.inbox.push(Proposal { request: contract::RequestId::default(), command: command.into() });
                }
                // Where members are not trusted, no leader's duty says who they are.
                DutyOutput::Reconfigure { .. }
                    if group.ready && (is_suspicious || group.engine.reconfigure().is_none()) =>
                {
                    group.changed = Some(Err("the members of this agreement are fixed".into()));
                }
                DutyOutput::Reconfigure { change, addresses } if group.ready => {
                    group.changing = Some(Changing::new(now.mono, &group.members, change, addresses));
                    group.changed = None;
                }
                DutyOutput::Transfer(to) => {
                    self.active.insert(id);
                    group.heir = Some(to);
                }
                // Who leads no more has nothing to say.
                DutyOutput::Propose(_) | DutyOutput::Reconfigure { .. } => {}
                DutyOutput::Wake(at) => {
                    self.wakes.insert((at, Waker::Duty(id)));
                }
            }
        }
    }

    // ---- changes of members

    /// Takes the change of members under way a step further.
    pub(super) fn drive_change(&mut self, now: Now, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id).filter(|group| group.ready) else { return };
        if let Some(changing) = &mut group.changing {
            match changing.next(now.mono, self.config.id, &group.engine.status()) {
                Next::Wait => {}
                Next::Failed => {
                    group.changing = None;
                    group.changed = Some(Err("the new members do not answer".into()));
                }
                Next::Ask(change) => {
                    let mut outputs = Vec::new();
                    // What is refused now (a change is under way, leadership moves) is asked for again until the deadline.
                    if let Some(engine) = group.engine.reconfigure() {
                        let _ = engine.on_reconfigure(now.mono, change, &mut outputs);
                    }
                    self.absorb(now, id, outputs);
                }
            }
        }
        let changed = self.groups.get_mut(&id).and_then(|group| group.changed.take());
        if let Some(result) = changed {
            self.call_duty(now, id, |_| DutyInput::Reconfigured(result));
        }
    }
}
