//! Committed offsets of a group, and those that a transaction has yet to decide about.
//!
//! - upon a commit: the offset replaces the partition's, whatever it was;
//! - upon a commit within a transaction: it waits, and readers that want stable offsets are told to come back;
//! - upon the transaction's commit: what waited replaces the partition's offset, unless a commit came behind it in the
//!   order; upon its abort it is dropped;
//! - upon a sweep: offsets go that are older than their retention and that nobody reads.
//!
//! A topic is known by its name. Beside it stands the id that the committer knew: an offset of a topic that was deleted and
//! made anew under the same name is not the new topic's, and is not given to who asks for that.

use std::collections::BTreeMap;

use super::command::{OffsetRow, TopicOffsets, TopicPartitions};
use super::config::OFFSET_COUNT_MAX;
use super::query::{FetchedOffset, FetchedTopic};
use super::reply::TopicErrors;
use crate::machine::codec::record;
use crate::wire::{ErrorCode, Uuid};

record! {
    /// A committed offset.
    pub(super) struct Offset {
        pub(super) offset: i64,
        pub(super) leader_epoch: i32,
        pub(super) metadata: String,
        /// The stamp of the commit.
        pub(super) committed: u64,
        /// When it ends, if the client said so.
        pub(super) expires: Option<u64>,
        pub(super) topic_id: Uuid,
        /// Places the commit in the order.
        pub(super) ticket: u64,
    }
}

/// Offsets by topic and partition.
pub(super) type Table = BTreeMap<String, BTreeMap<i32, Offset>>;

record! {
    /// All of a group's.
    #[derive(Default)]
    pub(super) struct Offsets {
        pub(super) committed: Table,
        /// By producer id.
        pub(super) pending: BTreeMap<i64, Table>,
    }
}

/// What a commit adds to each offset.
pub(super) struct Stamp {
    pub(super) now: u64,
    pub(super) ticket: u64,
    pub(super) expires: Option<u64>,
    pub(super) metadata_size_max: u32,
}

/// How old offsets are.
pub(super) struct Age {
    pub(super) now: u64,
    /// Since when; from the commit if absent.
    pub(super) from: Option<u64>,
    pub(super) retention_ms: u64,
}

fn remove(table: &mut Table, topic: &str, partition: i32) {
    if let Some(partitions) = table.get_mut(topic) {
        partitions.remove(&partition);
        if partitions.is_empty() {
            table.remove(topic);
        }
    }
}

/// True if two ids may be those of one topic.
fn same_topic(a: Uuid, b: Uuid) -> bool {
    a == b || a.is_zero() || b.is_zero()
}

impl Stamp {
    fn offset(&self, topic_id: Uuid, row: &OffsetRow) -> Offset {
        Offset {
            offset: row.offset,
            leader_epoch: row.leader_epoch,
            metadata: row.metadata.clone(),
            committed: self.now,
            expires: self.expires,
            topic_id,
            ticket: self.ticket,
        }
    }

    /// Puts what may be kept into a table, and says what came of each.
    fn put(&self, table: &mut Table, mut room: usize, topics: &[TopicOffsets]) -> Vec<TopicErrors> {
        let mut answer = Vec::with_capacity(topics.len());
        for topic in topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for row in &topic.partitions {
                let large = row.metadata.len() > usize::try_from(self.metadata_size_max).unwrap_or(usize::MAX);
                let error = if row.partition < 0 {
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                } else if large {
                    ErrorCode::OFFSET_METADATA_TOO_LARGE
                } else if room == 0 && !table.get(&topic.topic).is_some_and(|rows| rows.contains_key(&row.partition)) {
                    ErrorCode::INVALID_COMMIT_OFFSET_SIZE
                } else {
                    let offset = self.offset(topic.topic_id, row);
                    let rows = table.entry(topic.topic.clone()).or_default();
                    room -= usize::from(rows.insert(row.partition, offset).is_none());
                    ErrorCode::NONE
                };
                partitions.push((row.partition, error));
            }
            answer.push(TopicErrors { topic: topic.topic.clone(), partitions });
        }
        answer
    }
}

impl Offsets {
    pub(super) fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }

    /// How many offsets there are.
    pub(super) fn count(&self) -> usize {
        let tables = std::iter::once(&self.committed).chain(self.pending.values());
        tables.flat_map(BTreeMap::values).map(BTreeMap::len).sum()
    }

    fn room(&self) -> usize {
        OFFSET_COUNT_MAX.saturating_sub(self.count())
    }

    pub(super) fn commit(&mut self, stamp: &Stamp, topics: &[TopicOffsets]) -> Vec<TopicErrors> {
        let room = self.room();
        stamp.put(&mut self.committed, room, topics)
    }

    /// Keeps offsets until the producer's transaction ends.
    pub(super) fn commit_later(&mut self, stamp: &Stamp, producer: i64, topics: &[TopicOffsets]) -> Vec<TopicErrors> {
        let room = self.room();
        let table = self.pending.entry(producer).or_default();
        let answer = stamp.put(table, room, topics);
        if table.is_empty() {
            self.pending.remove(&producer);
        }
        answer
    }

    /// The producer's transaction ends.
    pub(super) fn decide(&mut self, producer: i64, commit: bool) {
        let Some(table) = self.pending.remove(&producer) else { return };
        for (topic, partitions) in table.into_iter().filter(|_| commit) {
            let own = self.committed.entry(topic).or_default();
            for (partition, offset) in partitions {
                // A commit that came behind this one stays.
                if own.get(&partition).is_none_or(|present| present.ticket < offset.ticket) {
                    own.insert(partition, offset);
                }
            }
        }
    }

    fn is_pending(&self, topic: &str, partition: i32) -> bool {
        self.pending.values().any(|table| table.get(topic).is_some_and(|rows| rows.contains_key(&partition)))
    }

    fn fetch_one(&self, topic: &str, topic_id: Uuid, partition: i32, stable: bool) -> FetchedOffset {
        let absent = |error| FetchedOffset { partition, offset: -1, leader_epoch: -1, metadata: String::new(), error };
        if stable && self.is_pending(topic, partition) {
            return absent(ErrorCode::UNSTABLE_OFFSET_COMMIT);
        }
        match self.committed.get(topic).and_then(|rows| rows.get(&partition)) {
            Some(offset) if same_topic(offset.topic_id, topic_id) => FetchedOffset {
                partition,
                offset: offset.offset,
                leader_epoch: offset.leader_epoch,
                metadata: offset.metadata.clone(),
                error: ErrorCode::NONE,
            },
            _ => absent(ErrorCode::NONE),
        }
    }

    pub(super) fn fetch(&self, topics: &[super::query::FetchTopic], stable: bool) -> Vec<FetchedTopic> {
        let fetch = |topic: &super::query::FetchTopic| FetchedTopic {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| self.fetch_one(&topic.topic, topic.topic_id, *partition, stable))
                .collect(),
        };
        topics.iter().map(fetch).collect()
    }

    pub(super) fn fetch_all(&self, stable: bool) -> Vec<FetchedTopic> {
        let fetch = |(topic, rows): (&String, &BTreeMap<i32, Offset>)| FetchedTopic {
            topic: topic.clone(),
            topic_id: rows.values().map(|offset| offset.topic_id).find(|id| !id.is_zero()).unwrap_or_default(),
            partitions: rows.keys().map(|partition| self.fetch_one(topic, Uuid::ZERO, *partition, stable)).collect(),
        };
        self.committed.iter().map(fetch).collect()
    }

    /// Deletes offsets of topics that nobody reads.
    pub(super) fn delete(&mut self, topics: &[TopicPartitions], subscribed: &[bool]) -> Vec<TopicErrors> {
        let mut answer = Vec::with_capacity(topics.len());
        for (topic, subscribed) in topics.iter().zip(subscribed) {
            let error = if *subscribed { ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC } else { ErrorCode::NONE };
            for partition in topic.partitions.iter().filter(|_| !subscribed) {
                remove(&mut self.committed, &topic.topic, *partition);
                self.pending.values_mut().for_each(|table| remove(table, &topic.topic, *partition));
            }
            let partitions = topic.partitions.iter().map(|partition| (*partition, error)).collect();
            answer.push(TopicErrors { topic: topic.topic.clone(), partitions });
        }
        self.pending.retain(|_, table| !table.is_empty());
        answer
    }

    /// A topic is no more. True if it had offsets.
    pub(super) fn forget_topic(&mut self, name: &str, id: Uuid) -> bool {
        let mut found = false;
        for table in std::iter::once(&mut self.committed).chain(self.pending.values_mut()) {
            if let Some(rows) = table.get_mut(name) {
                let count = rows.len();
                rows.retain(|_, offset| !same_topic(offset.topic_id, id));
                found |= rows.len() != count;
                if rows.is_empty() {
                    table.remove(name);
                }
            }
        }
        self.pending.retain(|_, table| !table.is_empty());
        found
    }

    fn is_expired(&self, topic: &str, partition: i32, offset: &Offset, age: &Age) -> bool {
        let over = match offset.expires {
            Some(at) => at <= age.now,
            None => age.now.saturating_sub(age.from.unwrap_or(offset.committed)) >= age.retention_ms,
        };
        over && !self.is_pending(topic, partition)
    }

    /// Offsets whose retention is over, but for topics that `keeps` holds.
    pub(super) fn expired(&self, age: &Age, keeps: impl Fn(&str) -> bool) -> Vec<(String, i32)> {
        let mut gone = Vec::new();
        for (topic, rows) in self.committed.iter().filter(|(topic, _)| !keeps(topic)) {
            let due = rows.iter().filter(|(partition, offset)| self.is_expired(topic, **partition, offset, age));
            gone.extend(due.map(|(partition, _)| (topic.clone(), *partition)));
        }
        gone
    }

    pub(super) fn remove(&mut self, gone: &[(String, i32)]) {
        gone.iter().for_each(|(topic, partition)| remove(&mut self.committed, topic, *partition));
    }

    /// Asserts what must always hold.
    pub(super) fn invariants(&self) {
        for table in std::iter::once(&self.committed).chain(self.pending.values()) {
            assert!(table.values().all(|rows| !rows.is_empty()), "no topic without offsets");
        }
        assert!(self.pending.values().all(|table| !table.is_empty()), "who waits, waits with something");
    }
}
