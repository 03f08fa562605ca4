//! Fetch sessions (KIP-227): what a client wants is said once, and later only what changes.
//!
//! - upon epoch 0 without a session: a new one, if the client may have it; its answer names all partitions;
//! - upon the next epoch of a session: what the request names is added, replaced or forgotten; the answer names what has
//!   something to say;
//! - upon another epoch: an error, and the client begins anew;
//! - upon epoch -1: the session ends, and the request is answered as one without.
//!
//! A node keeps [`SESSION_COUNT_MAX`] sessions; the one that was used least lately makes room.
//!
//! Deliberately absent: data. A session knows offsets, no records.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::message::{FetchPartition, FetchPartitionData, FetchRequest};
use crate::wire::{ErrorCode, Uuid};

/// `max.incremental.fetch.session.cache.slots`.
pub(super) const SESSION_COUNT_MAX: usize = 1_000;
/// No session has more partitions, and no client needs more: it asks without a session then.
pub(super) const SESSION_PARTITION_COUNT_MAX: usize = 20_000;
/// A request without a session.
const FINAL_EPOCH: i32 = -1;

/// A topic as a client names it: by id since version 13.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) name: String,
    pub(super) id: Uuid,
}

/// What was said last of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    high_watermark: i64,
    last_stable: i64,
    log_start: i64,
}

#[derive(Clone, Debug)]
struct Wanted {
    partition: FetchPartition,
    said: Option<Said>,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    used: u64,
    /// In the order in which they are looked at: what had data goes to the end.
    order: BTreeMap<u64, (Name, i32)>,
    wanted: BTreeMap<(Name, i32), (u64, Wanted)>,
    next: u64,
}

/// What is to be fetched, and how it is answered.
#[derive(Debug)]
pub(super) struct Fetching {
    /// The session; 0 for none.
    pub(super) session: i32,
    /// Only what has something to say is named.
    pub(super) incremental: bool,
    /// In the order in which they are looked at.
    pub(super) partitions: Vec<(Name, FetchPartition)>,
}

/// All sessions of a node.
#[derive(Debug)]
pub(super) struct FetchSessions {
    sessions: BTreeMap<i32, Session>,
    by_use: BTreeSet<(u64, i32)>,
    uses: u64,
    seed: u64,
    drawn: u64,
}

/// The epoch behind this one: it never becomes 0 again.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

fn named(request: &FetchRequest) -> impl Iterator<Item = (Name, FetchPartition)> + '_ {
    request.topics.iter().flat_map(|topic| {
        let name = Name { name: topic.topic.clone(), id: topic.topic_id };
        topic.partitions.iter().map(move |partition| (name.clone(), partition.clone()))
    })
}

impl Session {
    fn put(&mut self, name: Name, partition: FetchPartition) {
        let key = (name, partition.partition);
        if let Some((_, wanted)) = self.wanted.get_mut(&key) {
            wanted.partition = partition;
            return;
        }
        self.next += 1;
        self.order.insert(self.next, key.clone());
        self.wanted.insert(key, (self.next, Wanted { partition, said: None }));
    }

    fn forget(&mut self, key: &(Name, i32)) {
        if let Some((place, _)) = self.wanted.remove(key) {
            self.order.remove(&place);
        }
    }

    fn partitions(&self) -> Vec<(Name, FetchPartition)> {
        let wanted = |key: &(Name, i32)| self.wanted.get(key).map(|(_, wanted)| wanted.partition.clone());
        self.order.values().filter_map(|key| Some((key.0.clone(), wanted(key)?))).collect()
    }
}

impl FetchSessions {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        let seed = xxhash_rust::xxh3::xxh3_64_with_seed(&secret, 0xfe7c);
        Self { sessions: BTreeMap::new(), by_use: BTreeSet::new(), uses: 0, seed, drawn: 0 }
    }

    /// What a request asks for.
    pub(super) fn begin(&mut self, version: i16, request: &FetchRequest) -> Result<Fetching, ErrorCode> {
        const WITH_SESSIONS: i16 = 7;
        let plain = || Fetching { session: 0, incremental: false, partitions: named(request).collect() };
        if version < WITH_SESSIONS {
            return Ok(plain());
        }
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch == FINAL_EPOCH || epoch == 0 {
            self.end(id);
            if epoch == FINAL_EPOCH {
                return Ok(plain());
            }
            let plain = plain();
            let session = if plain.partitions.len() > SESSION_PARTITION_COUNT_MAX { 0 } else { self.create(request) };
            return Ok(Fetching { session, ..plain });
        }
        let Some(session) = self.sessions.get_mut(&id) else { return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND) };
        if session.epoch != epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        session.epoch = next_epoch(epoch);
        for topic in &request.forgotten_topics_data {
            let name = Name { name: topic.topic.clone(), id: topic.topic_id };
            topic.partitions.iter().for_each(|index| session.forget(&(name.clone(), *index)));
        }
        named(request).for_each(|(name, partition)| session.put(name, partition));
        if session.wanted.len() > SESSION_PARTITION_COUNT_MAX {
            self.end(id);
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        }
        let partitions = session.partitions();
        self.touch(id);
        Ok(Fetching { session: id, incremental: true, partitions })
    }

    fn touch(&mut self, id: i32) {
        self.uses += 1;
        if let Some(session) = self.sessions.get_mut(&id) {
            self.by_use.remove(&(session.used, id));
            session.used = self.uses;
            self.by_use.insert((self.uses, id));
        }
    }

    fn end(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.by_use.remove(&(session.used, id));
        }
    }

    fn create(&mut self, request: &FetchRequest) -> i32 {
        if self.sessions.len() >= SESSION_COUNT_MAX
            && let Some((_, oldest)) = self.by_use.first().copied()
        {
            self.end(oldest);
        }
        let id = loop {
            self.drawn += 1;
            let drawn = xxhash_rust::xxh3::xxh3_64_with_seed(&self.drawn.to_be_bytes(), self.seed);
            let id = i32::try_from(drawn & 0x7fff_ffff).expect("it has 31 bits");
            if id != 0 && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session { epoch: 1, used: 0, order: BTreeMap::new(), wanted: BTreeMap::new(), next: 0 };
        named(request).for_each(|(name, partition)| session.put(name, partition));
        self.sessions.insert(id, session);
        self.touch(id);
        id
    }

    /// Keeps of an answer what an incremental one says, and remembers it. Names of partitions that have something to say
    /// stay in `answers`.
    pub(super) fn finish(&mut self, fetching: &Fetching, answers: &mut Vec<(Name, FetchPartitionData)>) {
        let Some(session) = self.sessions.get_mut(&fetching.session) else { return };
        let mut last = Vec::new();
        answers.retain(|(name, data)| {
            let key = (name.clone(), data.partition_index);
            let Some((_, wanted)) = session.wanted.get_mut(&key) else { return true };
            let said = Said {
                high_watermark: data.high_watermark,
                last_stable: data.last_stable_offset,
                log_start: data.log_start_offset,
            };
            let records = data.records.as_ref().is_some_and(|records| !records.is_empty());
            let failed = data.error_code != super::NO_ERROR;
            let tells = data.preferred_read_replica != -1 || failed || records;
            let news = tells || wanted.said != Some(said);
            // What failed is said again the next time, however it is then.
            wanted.said = (!failed).then_some(said);
            if records {
                last.push(key);
            }
            news || !fetching.incremental
        });
        for key in last {
            if let Some((place, _)) = session.wanted.get_mut(&key) {
                session.next += 1;
                session.order.remove(place);
                *place = session.next;
                session.order.insert(session.next, key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{FetchForgottenTopic, FetchTopic};

    fn request(session_id: i32, session_epoch: i32, partitions: &[i32]) -> FetchRequest {
        let partitions = partitions.iter().map(|index| FetchPartition { partition: *index, ..Default::default() });
        let topic = FetchTopic { topic: "t".into(), partitions: partitions.collect(), ..Default::default() };
        FetchRequest { session_id, session_epoch, topics: vec![topic], ..Default::default() }
    }

    fn answer(fetching: &Fetching, high_watermark: i64) -> Vec<(Name, FetchPartitionData)> {
        let data = |partition: &FetchPartition| FetchPartitionData {
            partition_index: partition.partition,
            high_watermark,
            ..Default::default()
        };
        fetching.partitions.iter().map(|(name, partition)| (name.clone(), data(partition))).collect()
    }

    #[test]
    fn a_session_says_what_is_new_and_no_more() {
        let mut sessions = FetchSessions::new([1; 32]);
        let first = sessions.begin(12, &request(0, 0, &[0, 1])).expect("a new one");
        assert!(first.session != 0 && !first.incremental && first.partitions.len() == 2);
        let mut all = answer(&first, 5);
        sessions.finish(&first, &mut all);
        assert_eq!(all.len(), 2);
        let second = sessions.begin(12, &request(first.session, 1, &[])).expect("the next epoch");
        assert!(second.incremental && second.partitions.len() == 2);
        let mut none = answer(&second, 5);
        sessions.finish(&second, &mut none);
        assert!(none.is_empty(), "nothing is new");
        let mut forgets = request(first.session, 2, &[2]);
        let topic = FetchForgottenTopic { topic: "t".into(), partitions: vec![0], ..Default::default() };
        forgets.forgotten_topics_data.push(topic);
        let third = sessions.begin(12, &forgets).expect("the next epoch");
        let named: Vec<i32> = third.partitions.iter().map(|(_, partition)| partition.partition).collect();
        assert_eq!(named, [1, 2]);
    }

    #[test]
    fn other_epochs_and_sessions_are_refused() {
        let mut sessions = FetchSessions::new([1; 32]);
        let first = sessions.begin(12, &request(0, 0, &[0])).expect("a new one");
        let wrong = sessions.begin(12, &request(first.session, 2, &[])).expect_err("an epoch is missing");
        assert_eq!(wrong, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        sessions.begin(12, &request(first.session, -1, &[0])).expect("it ends");
        let gone = sessions.begin(12, &request(first.session, 1, &[])).expect_err("it has ended");
        assert_eq!(gone, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    }

    #[test]
    fn what_had_data_goes_to_the_end_and_sessions_are_bounded() {
        let mut sessions = FetchSessions::new([1; 32]);
        let first = sessions.begin(12, &request(0, 0, &[0, 1])).expect("a new one");
        let mut all = answer(&first, 5);
        all[0].1.records = Some(bytes::Bytes::from_static(b"x").into());
        sessions.finish(&first, &mut all);
        let second = sessions.begin(12, &request(first.session, 1, &[])).expect("the next epoch");
        let named: Vec<i32> = second.partitions.iter().map(|(_, partition)| partition.partition).collect();
        assert_eq!(named, [1, 0]);
        for _ in 0..SESSION_COUNT_MAX {
            sessions.begin(12, &request(0, 0, &[0])).expect("a new one");
        }
        assert_eq!(sessions.sessions.len(), SESSION_COUNT_MAX);
        assert!(sessions.begin(12, &request(first.session, 2, &[])).is_err(), "it made room");
    }
}
