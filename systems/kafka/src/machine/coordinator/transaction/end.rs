//! Ends of transactions.

use super::init::take;
use super::{EPOCH_MAX, NO_EPOCH, NO_PRODUCER, Transaction, TransactionState};
use crate::machine::coordinator::command::{TopicPartitions, TransactionName};
use crate::wire::ErrorCode;

/// What EndTxn came to, if it was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Ended {
    /// It had ended so before.
    Already,
    /// It ends now.
    Now,
}

impl Transaction {
    /// A client ends its transaction.
    pub(in super::super) fn end(
        &mut self,
        now: u64,
        name: &TransactionName,
        commit: bool,
        bump: bool,
        fresh: &mut i64,
        count: &mut u64,
    ) -> Result<Ended, ErrorCode> {
        let retry = if bump { self.check_bumping(name)? } else { self.check_plain(name)? };
        match (self.state, commit) {
            (TransactionState::Ongoing, _) => {
                self.prepare(now, commit, bump, fresh);
                Ok(Ended::Now)
            }
            (TransactionState::CompleteCommit, true) | (TransactionState::CompleteAbort, false) if retry => {
                Ok(Ended::Already)
            }
            (TransactionState::PrepareCommit, true) | (TransactionState::PrepareAbort, false) => {
                Err(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            // Version 2 cannot know whether a produce has reached us, and aborts what may be empty.
            (TransactionState::Empty | TransactionState::CompleteCommit | TransactionState::CompleteAbort, false)
                if bump && !retry =>
            {
                *count += 1;
                self.number = *count;
                self.prepare(now, false, true, fresh);
                Ok(Ended::Now)
            }
            _ => Err(ErrorCode::INVALID_TXN_STATE),
        }
    }

    /// Version 1: the epoch is the same before and behind the end, so any end may be one that comes again.
    fn check_plain(&self, name: &TransactionName) -> Result<bool, ErrorCode> {
        if self.producer_id != name.producer_id {
            Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
        } else if self.epoch != name.producer_epoch {
            Err(ErrorCode::PRODUCER_FENCED)
        } else {
            Ok(true)
        }
    }

    /// Version 2: an end that comes again bears the epoch before. True for such a one.
    fn check_bumping(&self, name: &TransactionName) -> Result<bool, ErrorCode> {
        let rotated =
            self.previous_producer_id == name.producer_id && name.producer_epoch == EPOCH_MAX && self.epoch == 0;
        let bumped = name.producer_epoch.checked_add(1) == Some(self.epoch);
        if self.producer_id != name.producer_id && !rotated {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        let current = self.producer_id == name.producer_id && self.epoch == name.producer_epoch;
        let valid = match self.state {
            TransactionState::Ongoing | TransactionState::Empty => current,
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => bumped,
            TransactionState::CompleteCommit | TransactionState::CompleteAbort => bumped || rotated || current,
        };
        if valid { Ok(!current) } else { Err(ErrorCode::PRODUCER_FENCED) }
    }

    fn prepare(&mut self, now: u64, commit: bool, bump: bool, fresh: &mut i64) {
        self.state = if commit { TransactionState::PrepareCommit } else { TransactionState::PrepareAbort };
        self.updated = now;
        if bump {
            if self.epoch >= EPOCH_MAX {
                self.next_producer_id = take(fresh);
            }
            self.last_epoch = self.epoch;
            self.epoch += 1;
        }
    }

    /// Aborts the open transaction with a raised epoch: its producer has timed out, or another one comes.
    pub(in super::super) fn fence(&mut self, now: u64, fresh: &mut i64) {
        assert_eq!(self.state, TransactionState::Ongoing, "only an open transaction is fenced");
        self.prepare(now, false, true, fresh);
        self.last_epoch = NO_EPOCH;
    }

    /// Partitions have their markers.
    pub(in super::super) fn written(&mut self, topics: &[TopicPartitions]) {
        for topic in topics {
            if let Some(partitions) = self.partitions.get_mut(&topic.topic) {
                partitions.retain(|partition| !topic.partitions.contains(partition));
                if partitions.is_empty() {
                    self.partitions.remove(&topic.topic);
                }
            }
        }
    }

    /// All markers are written.
    pub(in super::super) fn complete(&mut self, now: u64) {
        self.state = match self.state {
            TransactionState::PrepareCommit => TransactionState::CompleteCommit,
            TransactionState::PrepareAbort => TransactionState::CompleteAbort,
            other => panic!("a transaction does not complete from {other:?}"),
        };
        if self.next_producer_id != NO_PRODUCER {
            self.previous_producer_id = self.producer_id;
            self.producer_id = std::mem::replace(&mut self.next_producer_id, NO_PRODUCER);
            self.epoch = 0;
        }
        self.groups.clear();
        self.partitions.clear();
        self.started = None;
        self.updated = now;
    }

    /// The producer id and epoch that the client goes on with.
    pub(in super::super) fn identity(&self) -> (i64, i16) {
        if self.next_producer_id == NO_PRODUCER { (self.producer_id, self.epoch) } else { (self.next_producer_id, 0) }
    }
}
