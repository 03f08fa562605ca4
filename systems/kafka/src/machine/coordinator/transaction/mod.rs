//! Transactions: which producer may write under a transactional id, and what its open transaction consists of.
//!
//! - upon InitProducerId: an open transaction is aborted with a raised epoch, which fences whoever had it, and the client
//!   comes back (KIP-360); otherwise the epoch rises and the id is the caller's. A caller that names an epoch must name
//!   the present one, or the one before, whose answer it has lost;
//! - upon a partition or a group that is added: the transaction begins, if none is open. While one ends, nothing begins;
//! - upon EndTxn, or the timeout: the decision is made. Offsets of groups are decided with it; partitions need markers;
//! - upon the last marker: the next transaction may begin.
//!
//! KIP-890: with version 2 every end raises the epoch, and the markers bear the raised one, so that what a producer sent
//! before the end cannot become part of what comes behind it. Producers of version 1 keep their epoch; for them every
//! transaction has a number, which verification hands to the partition and markers bear: a marker that comes late finds
//! another number and does nothing.
//!
//! An epoch of 32,766 is the last that a client sees: the end that would raise it gives the transactional id a new producer
//! id, at epoch 0, and bears 32,767 in its markers.
//!
//! Deliberately absent: writing markers. An event asks for them until a command says that they are there.

mod end;
mod init;

use std::collections::{BTreeMap, BTreeSet};

use super::command::{TopicPartitions, TransactionName};
use super::event::TransactionEvent;
use super::reply::TopicErrors;
use crate::machine::codec::{choice, record};
use crate::wire::ErrorCode;

pub(super) use end::Ended;
pub(super) use init::take as take_producer_id;

/// Stands for no producer.
pub(super) const NO_PRODUCER: i64 = -1;
/// Stands for no epoch.
const NO_EPOCH: i16 = -1;
/// The last epoch that a client sees.
const EPOCH_MAX: i16 = i16::MAX - 1;

choice! {
    /// Where a transactional id stands. Kafka's `Dead` is an id that is not there.
    #[derive(Copy, PartialOrd, Ord)]
    pub(super) enum TransactionState {
        /// Nothing was written under it since its producer came.
        Empty = 1,
        /// A transaction is open.
        Ongoing = 2,
        /// It commits; markers are missing.
        PrepareCommit = 3,
        /// It aborts; markers are missing.
        PrepareAbort = 4,
        /// It has committed.
        CompleteCommit = 5,
        /// It was aborted.
        CompleteAbort = 6,
    }
}

impl TransactionState {
    pub(super) const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// Kafka's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }
}

record! {
    /// A transactional id.
    pub(super) struct Transaction {
        pub(super) state: TransactionState,
        pub(super) producer_id: i64,
        /// The one before an epoch ran out.
        pub(super) previous_producer_id: i64,
        /// The one that follows when the markers are written.
        pub(super) next_producer_id: i64,
        pub(super) epoch: i16,
        /// The epoch before, if its holder may not have heard of the present one.
        pub(super) last_epoch: i16,
        pub(super) timeout_ms: u32,
        /// Of the open transaction; while it ends, those without a marker.
        pub(super) partitions: BTreeMap<String, BTreeSet<i32>>,
        pub(super) groups: BTreeSet<String>,
        pub(super) started: Option<u64>,
        pub(super) updated: u64,
        /// Counts transactions; 0 before the first.
        pub(super) number: u64,
        /// When markers are asked for again.
        pub(super) remind_at: u64,
    }
}

impl Transaction {
    pub(super) fn new(producer_id: i64, now: u64) -> Self {
        Self {
            state: TransactionState::Empty,
            producer_id,
            previous_producer_id: NO_PRODUCER,
            next_producer_id: NO_PRODUCER,
            epoch: NO_EPOCH,
            last_epoch: NO_EPOCH,
            timeout_ms: 0,
            partitions: BTreeMap::new(),
            groups: BTreeSet::new(),
            started: None,
            updated: now,
            number: 0,
            remind_at: 0,
        }
    }

    pub(super) fn is_ending(&self) -> bool {
        matches!(self.state, TransactionState::PrepareCommit | TransactionState::PrepareAbort)
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_ending() || self.state == TransactionState::Ongoing
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        match self.state {
            TransactionState::Ongoing => self.started.map(|at| at.saturating_add(u64::from(self.timeout_ms))),
            _ if self.is_ending() => Some(self.remind_at),
            _ => None,
        }
    }

    /// True if nobody has used it for so long that it may go.
    pub(super) fn is_expired(&self, now: u64, expiration_ms: u64) -> bool {
        !self.is_open() && now.saturating_sub(self.updated) >= expiration_ms
    }

    /// May this producer write in the open transaction, or begin one?
    pub(super) fn check(&self, name: &TransactionName) -> Result<(), ErrorCode> {
        // The client knows its new id before the markers are written.
        let next = self.is_ending() && self.next_producer_id == name.producer_id && name.producer_epoch == 0;
        if next && name.producer_id != NO_PRODUCER {
            return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        if self.producer_id != name.producer_id {
            return Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if self.epoch != name.producer_epoch {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        if self.is_ending() { Err(ErrorCode::CONCURRENT_TRANSACTIONS) } else { Ok(()) }
    }

    /// Something is about to be added.
    fn begin(&mut self, now: u64, count: &mut u64) {
        self.updated = now;
        if self.state != TransactionState::Ongoing {
            *count += 1;
            self.number = *count;
            self.state = TransactionState::Ongoing;
            self.started = Some(now);
        }
    }

    fn contains(&self, topic: &str, partition: i32) -> bool {
        self.partitions.get(topic).is_some_and(|partitions| partitions.contains(&partition))
    }

    pub(super) fn partition_count(&self) -> usize {
        self.partitions.values().map(BTreeSet::len).sum()
    }

    /// Adds partitions; says so of each.
    pub(super) fn add_partitions(&mut self, now: u64, count: &mut u64, topics: &[TopicPartitions]) -> Vec<TopicErrors> {
        let mut answer = Vec::with_capacity(topics.len());
        for topic in topics {
            if !topic.partitions.is_empty() {
                self.begin(now, count);
                self.partitions.entry(topic.topic.clone()).or_default().extend(&topic.partitions);
            }
            let partitions = topic.partitions.iter().map(|partition| (*partition, ErrorCode::NONE)).collect();
            answer.push(TopicErrors { topic: topic.topic.clone(), partitions });
        }
        answer
    }

    /// Adds a group's offsets.
    pub(super) fn add_group(&mut self, now: u64, count: &mut u64, group_id: &str) {
        self.begin(now, count);
        self.groups.insert(group_id.to_owned());
    }

    /// Says of each partition whether it is part of the open transaction.
    pub(super) fn verify(&self, topics: &[TopicPartitions]) -> Vec<TopicErrors> {
        let error = |topic: &str, partition: i32| {
            if self.contains(topic, partition) { ErrorCode::NONE } else { ErrorCode::TRANSACTION_ABORTABLE }
        };
        let verify = |topic: &TopicPartitions| TopicErrors {
            topic: topic.topic.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|partition| (*partition, error(&topic.topic, *partition)))
                .collect(),
        };
        topics.iter().map(verify).collect()
    }

    /// Its partitions as a list.
    pub(super) fn topics(&self) -> Vec<TopicPartitions> {
        let row = |(topic, partitions): (&String, &BTreeSet<i32>)| TopicPartitions {
            topic: topic.clone(),
            partitions: partitions.iter().copied().collect(),
        };
        self.partitions.iter().map(row).collect()
    }

    pub(super) fn name(&self, transactional_id: &str) -> TransactionName {
        TransactionName {
            transactional_id: transactional_id.to_owned(),
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
        }
    }

    /// What asks for its markers.
    pub(super) fn markers(&self, transactional_id: &str, coordinator_epoch: i32) -> TransactionEvent {
        TransactionEvent::WriteMarkers {
            transaction: self.name(transactional_id),
            number: self.number,
            coordinator_epoch,
            commit: self.state == TransactionState::PrepareCommit,
            topics: self.topics(),
        }
    }

    /// Asserts what must always hold.
    pub(super) fn invariants(&self) {
        assert!(self.partitions.values().all(|partitions| !partitions.is_empty()), "no topic without partitions");
        let parts = !self.partitions.is_empty() || !self.groups.is_empty();
        match self.state {
            TransactionState::Ongoing => assert!(parts && self.started.is_some(), "what is open has begun"),
            _ if self.is_ending() => assert!(!self.partitions.is_empty(), "an end without markers is over at once"),
            _ => assert!(!parts && self.started.is_none(), "what is over has no parts"),
        }
        assert!(self.is_ending() || self.epoch <= EPOCH_MAX, "no client sees the last epoch");
        assert!(self.is_ending() || self.next_producer_id == NO_PRODUCER, "a new producer id comes with an end");
        assert!(self.epoch >= 0, "a transactional id has had a producer");
    }
}
