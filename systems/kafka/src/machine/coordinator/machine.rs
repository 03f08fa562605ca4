//! The state, and how a command finds its way to what it concerns.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use verity_contract::{self as contract, Effects, ReadOutcome, RestoreError, StateMachine};
use verity_types::Digest;

use super::command::{Command, ShareName};
use super::config::{CoordinatorConfig, GROUP_COUNT_MAX};
use super::event::{DUTY_TOPIC, DutyEvent};
use super::group::Group;
use super::reply::Reply;
use super::share::partition::SharePartition;
use super::snapshot::Drawing;
use super::timers::{Key, Timers};
use super::transaction::Transaction;
use super::turn::Turn;
use crate::wire::ErrorCode;

/// The most that one tick does; what remains is due still.
const TICK_COUNT_MAX: usize = 256;
/// The largest producer id to begin with.
const PRODUCER_ID_MIN_MAX: i64 = i64::MAX / 2;

/// Events, in order.
pub(super) type Output = Vec<(Bytes, Bytes)>;

/// Groups, committed offsets, share groups' records and transactions.
#[derive(Debug, Default)]
pub struct Coordinator {
    /// Absent before the first lead.
    pub(super) config: Option<CoordinatorConfig>,
    /// How often somebody began to lead.
    pub(super) epoch: i32,
    /// The stamp of the last entry.
    pub(super) now: u64,
    /// Counts commands.
    pub(super) ticket: u64,
    pub(super) next_producer_id: i64,
    pub(super) transaction_count: u64,
    pub(super) sweep_at: Option<u64>,
    /// Shared with a snapshot under way until they change.
    pub(super) groups: BTreeMap<String, Arc<Group>>,
    pub(super) transactions: BTreeMap<String, Arc<Transaction>>,
    /// Where share groups stand in their partitions.
    pub(super) shares: BTreeMap<ShareName, Arc<SharePartition>>,
    pub(super) timers: Timers,
    pub(super) drawing: Option<Drawing>,
}

impl Coordinator {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { next_producer_id: CoordinatorConfig::default().producer_id_min, ..Self::default() }
    }

    pub(super) fn config(&self) -> CoordinatorConfig {
        self.config.unwrap_or_default()
    }

    pub(super) fn group(&mut self, id: &str) -> Option<&mut Group> {
        self.groups.get_mut(id).map(Arc::make_mut)
    }

    /// The group, made if there is none; `None` if there are too many.
    pub(super) fn group_or_new(&mut self, id: &str) -> Option<&mut Group> {
        if !self.groups.contains_key(id) {
            if self.groups.len() >= GROUP_COUNT_MAX {
                return None;
            }
            self.groups.insert(id.to_owned(), Arc::new(Group::new(self.now)));
        }
        self.group(id)
    }

    pub(super) fn remove_group(&mut self, id: &str) {
        self.groups.remove(id);
        self.remove_shares(id);
        self.timers.set(Key::Group(id.to_owned()), None);
    }

    pub(super) fn drop_if_void(&mut self, id: &str) {
        if self.groups.get(id).is_some_and(|group| group.is_void()) {
            self.remove_group(id);
        }
    }

    pub(super) fn rearm_group(&mut self, id: &str) {
        let at = self.groups.get(id).and_then(|group| group.deadline());
        self.timers.set(Key::Group(id.to_owned()), at);
    }

    pub(super) fn rearm_transaction(&mut self, id: &str) {
        let at = self.transactions.get(id).and_then(|transaction| transaction.deadline());
        self.timers.set(Key::Transaction(id.to_owned()), at);
    }

    /// Does something to a group; `None` if there is none.
    pub(super) fn with_group<R>(
        &mut self,
        out: &mut Output,
        id: &str,
        make: bool,
        act: impl FnOnce(&mut Group, &mut Turn<'_>) -> R,
    ) -> Option<R> {
        let (config, now, ticket) = (self.config(), self.now, self.ticket);
        let group = if make { self.group_or_new(id)? } else { self.group(id)? };
        let mut turn = Turn::new(&config, now, ticket, id);
        let result = act(group, &mut turn);
        out.append(&mut turn.events);
        self.rearm_group(id);
        self.drop_if_void(id);
        Some(result)
    }

    fn execute(&mut self, command: Command, out: &mut Output) -> Reply {
        match command {
            Command::Join { request } => self.join(out, &request),
            Command::Sync { request } => self.sync(out, &request),
            Command::Heartbeat { group_id, generation, member } => self.heartbeat(&group_id, generation, &member),
            Command::Leave { group_id, members } => self.leave(out, &group_id, &members),
            Command::DeleteGroups { group_ids } => self.delete_groups(group_ids),
            Command::CommitOffsets { request } => self.commit_offsets(&request),
            Command::DeleteOffsets { group_id, topics } => self.delete_offsets(&group_id, &topics),
            Command::TopicsDeleted { topics } => self.topics_deleted(&topics),
            Command::ConsumerHeartbeat { request } => self.consumer_heartbeat(out, &request),
            Command::InitProducerId { transactional_id, timeout_ms, producer_id, producer_epoch } => {
                self.init_producer_id(out, transactional_id.as_deref(), timeout_ms, (producer_id, producer_epoch))
            }
            Command::AddPartitions { transaction, topics } => self.add_partitions(&transaction, &topics),
            Command::AddOffsets { transaction, group_id } => self.add_offsets(&transaction, &group_id),
            Command::CommitTransactionOffsets { request } => self.commit_transaction_offsets(&request),
            Command::EndTransaction { transaction, commit, bump_epoch } => {
                self.end_transaction(out, &transaction, commit, bump_epoch)
            }
            Command::MarkersWritten { transaction, number, topics } => {
                self.markers_written(out, &transaction, number, &topics)
            }
            Command::ExpireMember { group_id, member_id } => self.expire_member(out, &group_id, &member_id),
            Command::Tick => self.tick(out),
            Command::Lead { config } => self.lead(out, config),
            Command::ShareHeartbeat { request } => self.share_heartbeat(out, &request),
            Command::BeginShare { share, start, settings } => self.begin_share(&share, start, settings),
            Command::AcquireShare { request } => self.acquire_share(out, &request),
            Command::AcknowledgeShare { share, member_id, session, batches, settings } => {
                self.acknowledge_share(out, &share, (&member_id, session), &batches, &settings)
            }
            Command::ReleaseShares { group_id, member_id, session, partitions } => {
                self.release_shares(out, &group_id, (&member_id, session), &partitions)
            }
            Command::Buried { share, epoch, ranges } => self.buried(out, &share, epoch, &ranges),
            Command::SeekShares { group_id, offsets } => self.seek_shares(out, &group_id, &offsets),
            Command::DeleteShares { group_id, topic_ids } => self.delete_shares(&group_id, &topic_ids),
        }
    }

    fn tick(&mut self, out: &mut Output) -> Reply {
        for _ in 0..TICK_COUNT_MAX {
            match self.timers.due(self.now) {
                None => break,
                Some(Key::Group(id)) => self.group_on_time(out, &id),
                Some(Key::Transaction(id)) if self.transactions[&id].is_ending() => self.ask_for_markers(out, &id),
                Some(Key::Transaction(id)) => self.fence(out, &id),
                Some(Key::Share(name)) => self.share_on_time(out, &name),
                Some(Key::Sweep) => self.sweep(),
            }
        }
        if let Some(at) = self.timers.first() {
            out.push((Bytes::from_static(DUTY_TOPIC), DutyEvent::Timer { at }.encode()));
        }
        Reply::Error { error: ErrorCode::NONE }
    }

    fn lead(&mut self, out: &mut Output, config: CoordinatorConfig) -> Reply {
        self.epoch = self.epoch.saturating_add(1);
        let producer_id_min = config.producer_id_min.clamp(0, PRODUCER_ID_MIN_MAX);
        self.next_producer_id = self.next_producer_id.max(producer_id_min);
        self.config = Some(CoordinatorConfig { producer_id_min, ..config });
        let sweep_at = self.now.saturating_add(config.sweep_interval_ms.max(1));
        self.sweep_at = Some(self.sweep_at.map_or(sweep_at, |at| at.min(sweep_at)));
        self.timers.set(Key::Sweep, self.sweep_at);
        // Who was asked for markers may have gone with the leader that was.
        let ending = self.transactions.iter().filter(|(_, one)| one.is_ending());
        let ending: Vec<String> = ending.map(|(id, _)| id.clone()).collect();
        ending.iter().for_each(|id| self.ask_for_markers(out, id));
        Reply::Error { error: ErrorCode::NONE }
    }

    fn apply_one(&mut self, command: &contract::Command, effects: &mut Effects) {
        self.now = self.now.max(command.time.0);
        self.ticket += 1;
        let first = self.timers.first();
        let mut out = Output::new();
        let reply = match Command::decode(&command.bytes) {
            Ok(command) => self.execute(command, &mut out),
            Err(_) => Reply::Error { error: ErrorCode::INVALID_REQUEST },
        };
        out.into_iter().for_each(|(topic, bytes)| effects.event(topic, bytes));
        match self.timers.first() {
            Some(at) if first != Some(at) => {
                effects.event(Bytes::from_static(DUTY_TOPIC), DutyEvent::Timer { at }.encode());
            }
            _ => {}
        }
        effects.reply(command.request, reply.encode());
    }
}

impl StateMachine for Coordinator {
    fn apply(&mut self, batch: &[contract::Command], effects: &mut Effects) {
        batch.iter().for_each(|command| self.apply_one(command, effects));
    }

    fn read(&mut self, query: &[u8]) -> ReadOutcome {
        ReadOutcome::Ready(self.answer(query).encode())
    }

    fn snapshot_begin(&mut self) {
        self.draw_begin();
    }

    fn snapshot_next(&mut self, size_max: usize) -> Option<Bytes> {
        self.draw_next(size_max)
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>) -> Result<(), RestoreError> {
        *self = Self::restored(chunks)?;
        Ok(())
    }

    fn digest(&self) -> Digest {
        self.fingerprint()
    }

    fn size(&self) -> u64 {
        self.memory()
    }

    fn invariants(&self) {
        self.check();
    }
}
