//! One command being applied to one group: what it may know, and what it puts out.

use bytes::Bytes;

use super::config::CoordinatorConfig;
use super::event::{DUTY_TOPIC, DutyEvent, GroupEvent, group_topic};
use super::reply::{JoinResult, Reply, SyncResult};

/// A command's turn.
pub(super) struct Turn<'a> {
    pub(super) config: &'a CoordinatorConfig,
    /// The entry's stamp, in milliseconds.
    pub(super) now: u64,
    /// Names this command to those who wait for what it asked.
    pub(super) ticket: u64,
    pub(super) group_id: &'a str,
    pub(super) events: Vec<(Bytes, Bytes)>,
    /// The final answer to this command, if it did not have to wait.
    pub(super) answer: Option<Reply>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(config: &'a CoordinatorConfig, now: u64, ticket: u64, group_id: &'a str) -> Self {
        Self { config, now, ticket, group_id, events: Vec::new(), answer: None }
    }

    fn event(&mut self, event: &GroupEvent) {
        self.events.push((group_topic(self.group_id), event.encode()));
    }

    /// Answers a join: at once if it is this command's, otherwise by an event.
    pub(super) fn join_done(&mut self, ticket: u64, member_id: &str, result: JoinResult) {
        if ticket == self.ticket {
            self.answer = Some(Reply::Join { result });
        } else {
            self.event(&GroupEvent::JoinDone { ticket, member_id: member_id.to_owned(), result });
        }
    }

    /// The same for a sync.
    pub(super) fn sync_done(&mut self, ticket: u64, member_id: &str, result: SyncResult) {
        if ticket == self.ticket {
            self.answer = Some(Reply::Sync { result });
        } else {
            self.event(&GroupEvent::SyncDone { ticket, member_id: member_id.to_owned(), result });
        }
    }

    /// Tells the duty that a member is there.
    pub(super) fn watch(&mut self, member_id: &str, timeout_ms: u32) {
        let (group_id, member_id) = (self.group_id.to_owned(), member_id.to_owned());
        let event = DutyEvent::Member { group_id, member_id, timeout_ms };
        self.events.push((Bytes::from_static(DUTY_TOPIC), event.encode()));
    }

    /// Tells the duty that a member is gone.
    pub(super) fn forget(&mut self, member_id: &str) {
        let event = DutyEvent::Gone { group_id: self.group_id.to_owned(), member_id: member_id.to_owned() };
        self.events.push((Bytes::from_static(DUTY_TOPIC), event.encode()));
    }

    /// The answer of a command that may have to wait.
    pub(super) fn answer_or_wait(&mut self) -> Reply {
        self.answer.take().unwrap_or(Reply::Wait { ticket: self.ticket })
    }
}
