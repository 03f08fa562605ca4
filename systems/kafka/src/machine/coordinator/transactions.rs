//! Transactions among the other things that the coordinator keeps: their requests, their groups' offsets, their events.

use std::sync::Arc;

use super::command::{CommitTransactionOffsets, TopicPartitions, TransactionName};
use super::config::{TRANSACTION_COUNT_MAX, TRANSACTION_PARTITION_COUNT_MAX};
use super::event::{TransactionEvent, transaction_topic};
use super::machine::{Coordinator, Output};
use super::offsets::Stamp;
use super::reply::Reply;
use super::transaction::{Ended, NO_PRODUCER, Transaction, take_producer_id};
use crate::wire::ErrorCode;

impl Coordinator {
    pub(super) fn transaction(&mut self, id: &str) -> Option<&mut Transaction> {
        self.transactions.get_mut(id).map(Arc::make_mut)
    }

    fn check_transaction(&self, name: &TransactionName) -> Result<(), ErrorCode> {
        if name.transactional_id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let transaction = self.transactions.get(&name.transactional_id);
        transaction.ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)?.check(name)
    }

    pub(super) fn init_producer_id(
        &mut self,
        out: &mut Output,
        id: Option<&str>,
        timeout_ms: i32,
        expected: (i64, i16),
    ) -> Reply {
        let Some(id) = id else {
            let producer_id = take_producer_id(&mut self.next_producer_id);
            return Reply::Producer { error: ErrorCode::NONE, producer_id, producer_epoch: 0 };
        };
        let max = self.config().transaction_timeout_ms_max;
        let timeout_ms = match u32::try_from(timeout_ms) {
            _ if id.is_empty() || (expected.0 < 0) != (expected.1 < 0) => {
                return Reply::producer_error(ErrorCode::INVALID_REQUEST);
            }
            Ok(ms) if ms > 0 && ms <= max => ms,
            _ => return Reply::producer_error(ErrorCode::INVALID_TRANSACTION_TIMEOUT),
        };
        if !self.transactions.contains_key(id) {
            if self.transactions.len() >= TRANSACTION_COUNT_MAX {
                return Reply::producer_error(ErrorCode::COORDINATOR_NOT_AVAILABLE);
            }
            let producer_id = take_producer_id(&mut self.next_producer_id);
            self.transactions.insert(id.to_owned(), Arc::new(Transaction::new(producer_id, self.now)));
        }
        let (now, mut fresh) = (self.now, self.next_producer_id);
        let expected = (expected.0 >= 0).then_some(expected);
        let transaction = self.transaction(id).expect("inserted above");
        let result = transaction.init(now, timeout_ms, expected, &mut fresh);
        let (producer_id, producer_epoch) = transaction.identity();
        self.next_producer_id = fresh;
        match result {
            Ok(false) => Reply::Producer { error: ErrorCode::NONE, producer_id, producer_epoch },
            Ok(true) => {
                self.fence(out, id);
                Reply::producer_error(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            Err(error) => Reply::producer_error(error),
        }
    }

    pub(super) fn add_partitions(&mut self, name: &TransactionName, topics: &[TopicPartitions]) -> Reply {
        if let Err(error) = self.check_transaction(name) {
            return Reply::topics_error(error);
        }
        let (now, mut count) = (self.now, self.transaction_count);
        let transaction = self.transaction(&name.transactional_id).expect("checked above");
        let more: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
        if transaction.partition_count() + more > TRANSACTION_PARTITION_COUNT_MAX {
            return Reply::topics_error(ErrorCode::INVALID_REQUEST);
        }
        let topics = transaction.add_partitions(now, &mut count, topics);
        let number = transaction.number;
        self.transaction_count = count;
        self.rearm_transaction(&name.transactional_id);
        Reply::Topics { error: ErrorCode::NONE, topics, number }
    }

    pub(super) fn add_offsets(&mut self, name: &TransactionName, group_id: &str) -> Reply {
        if let Err(error) = self.check_transaction(name) {
            return Reply::Error { error };
        }
        let (now, mut count) = (self.now, self.transaction_count);
        let transaction = self.transaction(&name.transactional_id).expect("checked above");
        transaction.add_group(now, &mut count, group_id);
        self.transaction_count = count;
        self.rearm_transaction(&name.transactional_id);
        Reply::Error { error: ErrorCode::NONE }
    }

    pub(super) fn commit_transaction_offsets(&mut self, request: &CommitTransactionOffsets) -> Reply {
        let name = &request.transaction;
        if let Err(error) = self.check_transaction(name) {
            return Reply::topics_error(error);
        }
        let part = self.transactions[&name.transactional_id].groups.contains(&request.group_id);
        if !part && !request.implicit {
            return Reply::topics_error(ErrorCode::INVALID_TXN_STATE);
        }
        if let Err(error) = self.check_commit(&request.group_id, request.generation, &request.member, true, true) {
            // A client of transactions knows generations only.
            let stale = error == ErrorCode::STALE_MEMBER_EPOCH;
            return Reply::topics_error(if stale { ErrorCode::ILLEGAL_GENERATION } else { error });
        }
        if !part {
            self.add_offsets(name, &request.group_id);
        }
        let stamp = Stamp {
            now: self.now,
            ticket: self.ticket,
            expires: None,
            metadata_size_max: self.config().offset_metadata_size_max,
        };
        let number = self.transactions[&name.transactional_id].number;
        let Some(group) = self.group_or_new(&request.group_id) else {
            return Reply::topics_error(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        };
        let topics = group.offsets.commit_later(&stamp, name.producer_id, &request.topics);
        self.drop_if_void(&request.group_id);
        Reply::Topics { error: ErrorCode::NONE, topics, number }
    }

    pub(super) fn end_transaction(
        &mut self,
        out: &mut Output,
        name: &TransactionName,
        commit: bool,
        bump: bool,
    ) -> Reply {
        if name.transactional_id.is_empty() {
            return Reply::producer_error(ErrorCode::INVALID_REQUEST);
        }
        let (now, mut fresh, mut count) = (self.now, self.next_producer_id, self.transaction_count);
        let Some(transaction) = self.transaction(&name.transactional_id) else {
            return Reply::producer_error(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        };
        let result = transaction.end(now, name, commit, bump, &mut fresh, &mut count);
        let (producer_id, producer_epoch) = transaction.identity();
        (self.next_producer_id, self.transaction_count) = (fresh, count);
        match result {
            Ok(Ended::Now) => self.decided(out, &name.transactional_id, name.producer_id, commit),
            Ok(Ended::Already) => {}
            Err(error) => return Reply::producer_error(error),
        }
        Reply::Producer { error: ErrorCode::NONE, producer_id, producer_epoch }
    }

    /// Aborts the open transaction.
    pub(super) fn fence(&mut self, out: &mut Output, id: &str) {
        let (now, mut fresh) = (self.now, self.next_producer_id);
        let transaction = self.transaction(id).expect("looked up by the caller");
        let producer_id = transaction.producer_id;
        transaction.fence(now, &mut fresh);
        self.next_producer_id = fresh;
        self.decided(out, id, producer_id, false);
    }

    /// The end of a transaction is decided: its groups' offsets with it, its partitions by their markers.
    fn decided(&mut self, out: &mut Output, id: &str, producer_id: i64, commit: bool) {
        assert_ne!(producer_id, NO_PRODUCER, "transactions have producers");
        let groups: Vec<String> = self.transactions[id].groups.iter().cloned().collect();
        for group_id in &groups {
            if let Some(group) = self.group(group_id) {
                group.offsets.decide(producer_id, commit);
                self.drop_if_void(group_id);
            }
        }
        if self.transactions[id].partitions.is_empty() {
            self.complete(out, id);
        } else {
            self.ask_for_markers(out, id);
        }
    }

    pub(super) fn ask_for_markers(&mut self, out: &mut Output, id: &str) {
        let remind_at = self.now.saturating_add(self.config().marker_retry_ms.max(1));
        let epoch = self.epoch;
        let transaction = self.transaction(id).expect("looked up by the caller");
        transaction.remind_at = remind_at;
        out.push((transaction_topic(id), transaction.markers(id, epoch).encode()));
        self.rearm_transaction(id);
    }

    fn complete(&mut self, out: &mut Output, id: &str) {
        let now = self.now;
        let transaction = self.transaction(id).expect("looked up by the caller");
        transaction.complete(now);
        let event = TransactionEvent::Completed { transaction: transaction.name(id), number: transaction.number };
        out.push((transaction_topic(id), event.encode()));
        self.rearm_transaction(id);
    }

    pub(super) fn markers_written(
        &mut self,
        out: &mut Output,
        name: &TransactionName,
        number: u64,
        topics: &[TopicPartitions],
    ) -> Reply {
        let id = name.transactional_id.as_str();
        let Some(transaction) = self.transaction(id) else {
            return Reply::Error { error: ErrorCode::INVALID_PRODUCER_ID_MAPPING };
        };
        let same = (transaction.producer_id, transaction.epoch) == (name.producer_id, name.producer_epoch);
        if !transaction.is_ending() || transaction.number != number || !same {
            // Of a transaction that is over.
            return Reply::Error { error: ErrorCode::INVALID_TXN_STATE };
        }
        transaction.written(topics);
        if transaction.partitions.is_empty() {
            self.complete(out, id);
        }
        Reply::Error { error: ErrorCode::NONE }
    }
}
