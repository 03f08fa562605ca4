//! Asking outside of the order, on behalf of a machine or of a service.
//!
//! - upon a machine that asks: its group stands in the midst of an entry, and nobody is shown that but who waits for the
//!   answer to a command in it, until the answer is there;
//! - upon a service that asks: it goes on, and its answer comes as that of a read does.

use super::{Channel, Effects, GroupId, Now, Output, Replica, ServiceId, Step, Token};
use bytes::Bytes;

/// Who asks outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A group's machine.
    Machine(GroupId),
    /// A service, for what it calls so.
    Service(ServiceId, Token),
}

impl Replica {
    pub(super) fn on_call_effect(&mut self, id: GroupId, ask: Bytes) {
        self.out.push(Output::Call { caller: Caller::Machine(id), channel: Channel::ORDERED, ask });
    }

    /// Delivers what a part of an entry caused.
    pub(super) fn deliver_part(&mut self, now: Now, id: GroupId, effects: Effects) {
        self.queue_effects(now, id, effects);
        self.deliver(now);
    }

    /// A machine's answer came. A group that is gone asks for nothing any more.
    pub(super) fn on_called(&mut self, now: Now, id: GroupId, answer: Bytes) {
        let mut effects = Effects::default();
        let Some(group) = self.groups.get_mut(&id) else { return };
        let step: Step = group.on_answer(answer, &mut effects);
        self.active.insert(id);
        self.on_step(now, id, step, effects);
    }
}
