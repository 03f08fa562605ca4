//! Requests that concern share groups: their members, and their partitions' records.
//!
//! Why here, and not with each partition's log: every node of Kafka has a place in the coordinator's group, so whoever leads
//! a partition, or led it until now, acquires and settles in one order. Two leaders never give out the same record, locks
//! and counts of deliveries outlive both of them, and what administrators ask of a group is answered where its members are
//! known. The log is needed for one thing only, which batches there are, and that never changes once it was read. The price:
//! acquisitions and acknowledgements of a cluster share the coordinator's order.

use std::sync::Arc;

use super::command::{Acknowledgement, ShareAcquire, ShareHeartbeat, ShareName, ShareSession, ShareSettings};
use super::config::SHARE_PARTITION_COUNT_MAX;
use super::event::{ShareEvent, share_topic};
use super::group::{Group, Kind};
use super::machine::{Coordinator, Output};
use super::query::{Answer, ShareRow};
use super::reply::{ConsumerReply, Reply};
use super::share::partition::SharePartition;
use super::timers::Key;
use crate::wire::{ErrorCode, Uuid};

/// What holds of a partition that was set by hand before anybody read it.
const SETTINGS: ShareSettings =
    ShareSettings { lock_ms: 30_000, delivery_count_max: 5, window: 2_000, renews: true, dead_letter: false };

impl Coordinator {
    pub(super) fn share_heartbeat(&mut self, out: &mut Output, request: &ShareHeartbeat) -> Reply {
        let refused = |error| Reply::Consumer { reply: ConsumerReply::error(error) };
        if let Some(error) = request.refusal() {
            return refused(error);
        }
        match self.groups.get(&request.group_id).map(|group| &group.kind) {
            Some(Kind::Share { .. }) => {}
            None if request.member_epoch == 0 => {}
            // A group of another kind is not a share group; nobody but a first member makes one.
            _ => return refused(ErrorCode::GROUP_ID_NOT_FOUND),
        }
        let heard = self.with_group(out, &request.group_id, true, |group, turn| {
            let group = group.share().expect("checked above");
            group.heartbeat(turn, request).map_or_else(refused, |reply| Reply::Consumer { reply })
        });
        heard.unwrap_or_else(|| refused(ErrorCode::COORDINATOR_NOT_AVAILABLE))
    }

    /// The names of a group's partitions.
    fn shares_of(&self, group_id: &str) -> Vec<ShareName> {
        let first = ShareName { group_id: group_id.to_owned(), topic_id: Uuid::default(), partition: i32::MIN };
        self.shares.range(first..).map(|(name, _)| name).take_while(|name| name.group_id == group_id).cloned().collect()
    }

    fn remove_share(&mut self, name: &ShareName) {
        self.shares.remove(name);
        self.timers.set(Key::Share(name.clone()), None);
    }

    pub(super) fn remove_shares(&mut self, group_id: &str) {
        self.shares_of(group_id).iter().for_each(|name| self.remove_share(name));
    }

    pub(super) fn remove_shares_of_topics(&mut self, ids: &[Uuid]) {
        let gone: Vec<ShareName> = self.shares.keys().filter(|name| ids.contains(&name.topic_id)).cloned().collect();
        gone.iter().for_each(|name| self.remove_share(name));
    }

    pub(super) fn rearm_share(&mut self, name: &ShareName) {
        let at = self.shares.get(name).and_then(|share| share.deadline());
        self.timers.set(Key::Share(name.clone()), at);
    }

    /// An epoch that no partition of this group had before.
    fn share_epoch(&self) -> i32 {
        i32::try_from(self.ticket & 0x7fff_ffff).expect("it has 31 bits")
    }

    fn begin(&mut self, name: &ShareName, start: i64, settings: ShareSettings) -> Result<(), ErrorCode> {
        if self.shares.len() >= SHARE_PARTITION_COUNT_MAX {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let share = SharePartition::new(start, self.share_epoch(), settings);
        self.shares.insert(name.clone(), Arc::new(share));
        Ok(())
    }

    /// Does something to a partition, and tells of what follows from it; `None` if there is none.
    fn with_share<R>(
        &mut self,
        out: &mut Output,
        name: &ShareName,
        act: impl FnOnce(&mut SharePartition, u64) -> R,
    ) -> Option<R> {
        let now = self.now;
        let share = self.shares.get_mut(name).map(Arc::make_mut)?;
        let before = share.next();
        let result = act(share, now);
        let records = share.bury(now);
        let mut tell = |event: ShareEvent| out.push((share_topic(&name.group_id), event.encode()));
        if !records.is_empty() {
            tell(ShareEvent::Dead { share: name.clone(), epoch: share.epoch, records });
        }
        if share.next().is_some() && share.next() != before {
            tell(ShareEvent::Moved { share: name.clone() });
        }
        self.rearm_share(name);
        Some(result)
    }

    fn is_member(&self, group_id: &str, member_id: &str) -> bool {
        let kind = self.groups.get(group_id).map(|group| &group.kind);
        matches!(kind, Some(Kind::Share { group }) if group.members.contains_key(member_id))
    }

    pub(super) fn begin_share(&mut self, name: &ShareName, start: i64, settings: ShareSettings) -> Reply {
        let kind = self.groups.get(&name.group_id).map(|group| &group.kind);
        let error = match kind {
            Some(Kind::Share { .. }) if self.shares.contains_key(name) => ErrorCode::NONE,
            Some(Kind::Share { .. }) => self.begin(name, start, settings).err().unwrap_or(ErrorCode::NONE),
            _ => ErrorCode::GROUP_ID_NOT_FOUND,
        };
        Reply::Error { error }
    }

    pub(super) fn acquire_share(&mut self, out: &mut Output, request: &ShareAcquire) -> Reply {
        let nothing = Reply::Acquired { error: ErrorCode::NONE, records: Vec::new(), skipped: false };
        // Whoever is no member any more will hear of it by its heartbeat.
        if !self.is_member(&request.share.group_id, &request.member_id) {
            return nothing;
        }
        let acquired = self.with_share(out, &request.share, |share, now| {
            if share.epoch != request.epoch {
                return Reply::Acquired { error: ErrorCode::NONE, records: Vec::new(), skipped: true };
            }
            let before = (share.start, share.end);
            let records = share.acquire(now, request);
            let skipped = records.is_empty() && (share.start, share.end) != before;
            Reply::Acquired { error: ErrorCode::NONE, records, skipped }
        });
        acquired.unwrap_or(nothing)
    }

    pub(super) fn acknowledge_share(
        &mut self,
        out: &mut Output,
        name: &ShareName,
        sayer: (&str, ShareSession),
        batches: &[Acknowledgement],
        settings: &ShareSettings,
    ) -> Reply {
        let settled = self.with_share(out, name, |share, now| share.acknowledge(now, sayer, settings, batches).err());
        let error = settled.unwrap_or(Some(ErrorCode::INVALID_RECORD_STATE)).unwrap_or(ErrorCode::NONE);
        Reply::Error { error }
    }

    pub(super) fn release_shares(
        &mut self,
        out: &mut Output,
        group_id: &str,
        (member_id, session): (&str, ShareSession),
        partitions: &[(Uuid, i32)],
    ) -> Reply {
        for (topic_id, partition) in partitions {
            let name = ShareName { group_id: group_id.to_owned(), topic_id: *topic_id, partition: *partition };
            self.with_share(out, &name, |share, now| share.release(now, member_id, session));
        }
        Reply::Error { error: ErrorCode::NONE }
    }

    pub(super) fn buried(&mut self, out: &mut Output, name: &ShareName, epoch: i32, ranges: &[(i64, i64)]) -> Reply {
        self.with_share(out, name, |share, _| {
            if share.epoch == epoch {
                share.buried(ranges);
            }
        });
        Reply::Error { error: ErrorCode::NONE }
    }

    pub(super) fn share_on_time(&mut self, out: &mut Output, name: &ShareName) {
        self.with_share(out, name, |share, now| share.on_time(now));
    }

    /// `None` if the group is there, is a share group, and nobody is in it.
    fn unmovable(&self, group_id: &str) -> Option<ErrorCode> {
        match self.groups.get(group_id).map(|group| &**group) {
            Some(Group { kind: Kind::Share { group }, .. }) if group.members.is_empty() => None,
            Some(Group { kind: Kind::Share { .. }, .. }) => Some(ErrorCode::NON_EMPTY_GROUP),
            _ => Some(ErrorCode::GROUP_ID_NOT_FOUND),
        }
    }

    pub(super) fn seek_shares(&mut self, out: &mut Output, group_id: &str, offsets: &[(Uuid, (i32, i64))]) -> Reply {
        if let Some(error) = self.unmovable(group_id) {
            return Reply::Error { error };
        }
        let epoch = self.share_epoch();
        let mut error = ErrorCode::NONE;
        for (topic_id, (partition, offset)) in offsets {
            let name = ShareName { group_id: group_id.to_owned(), topic_id: *topic_id, partition: *partition };
            if self.with_share(out, &name, |share, _| share.seek(*offset, epoch)).is_none()
                && let Err(full) = self.begin(&name, *offset, SETTINGS)
            {
                error = full;
            }
        }
        Reply::Error { error }
    }

    pub(super) fn delete_shares(&mut self, group_id: &str, topic_ids: &[Uuid]) -> Reply {
        if let Some(error) = self.unmovable(group_id) {
            return Reply::Error { error };
        }
        let gone = self.shares_of(group_id).into_iter().filter(|name| topic_ids.contains(&name.topic_id));
        gone.for_each(|name| self.remove_share(&name));
        Reply::Error { error: ErrorCode::NONE }
    }

    // ---- queries

    pub(super) fn share_window(&self, name: &ShareName) -> Answer {
        match self.shares.get(name) {
            Some(share) => Answer::Window { begun: true, epoch: share.epoch, next: share.next() },
            None => Answer::Window { begun: false, epoch: 0, next: None },
        }
    }

    pub(super) fn share_offsets(&self, group_id: &str) -> Answer {
        if !matches!(self.groups.get(group_id).map(|group| &group.kind), Some(Kind::Share { .. })) {
            return Answer::ShareOffsets { error: ErrorCode::GROUP_ID_NOT_FOUND, rows: Vec::new() };
        }
        let row = |name: ShareName| {
            let share = &self.shares[&name];
            let (topic_id, partition, leader_epoch) = (name.topic_id, name.partition, share.leader_epoch);
            ShareRow { topic_id, partition, start: share.start, settled: share.settled(), leader_epoch }
        };
        Answer::ShareOffsets { error: ErrorCode::NONE, rows: self.shares_of(group_id).into_iter().map(row).collect() }
    }
}
