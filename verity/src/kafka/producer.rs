//! Writes records.
//!
//! - upon a record: it joins the batch of its partition: by its key's hash as Java's producer places it, else of the
//!   partition that the last ones went to, until that batch is full;
//! - upon [`Producer::flush`], or much that waits: each leader gets one request with a batch of each of its partitions, all
//!   leaders at the same time, until nothing waits;
//! - upon a passing failure: the same batch again, to whoever leads by then. With `acks=all` it bears the producer's number
//!   and sequence, so the leader knows it again and takes it once.
//!
//! A partition has one batch under way, so that order needs nothing more. What waits is bounded by [`WAITING_BYTES_MAX`].

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use verity_kafka::client::partition_of;
use verity_kafka::wire::message::{
    InitProducerIdRequest, PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use verity_kafka::wire::{BatchBuilder, Codec, ErrorCode};

use super::client::{Client, PATIENCE};
use super::failure::Failure;

/// A batch is full at this size.
const BATCH_BYTES: usize = 512 << 10;
/// More waits nowhere: the caller waits instead.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// What a leader may take for an answer, in milliseconds.
const TIMEOUT_MS: i32 = 30_000;
const PAUSE: Duration = Duration::from_millis(100);

/// How sure a write is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Acks {
    /// Nobody answers.
    #[value(name = "0")]
    None,
    /// The leader answers.
    #[value(name = "1")]
    Leader,
    /// All in-sync replicas have it, and it is there once.
    All,
}

/// How records are written.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) acks: Acks,
    pub(crate) codec: Codec,
    /// All records go here.
    pub(crate) partition: Option<i32>,
}

/// A record to be written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    /// In milliseconds.
    pub(crate) timestamp: i64,
    pub(crate) headers: Vec<(Bytes, Option<Bytes>)>,
}

impl Outgoing {
    /// About how many bytes it takes in a batch.
    fn size(&self) -> usize {
        let length = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len) + 8;
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value.as_ref())).sum();
        length(self.key.as_ref()) + length(self.value.as_ref()) + headers + 16
    }
}

/// A batch that is closed.
#[derive(Clone)]
struct Closed {
    bytes: Bytes,
    records: i32,
}

/// What waits for a partition.
struct Lane {
    open: BatchBuilder,
    closed: VecDeque<Closed>,
    /// The sequence of the next record.
    sequence: i32,
}

/// Writes records to one topic.
pub(crate) struct Producer {
    client: Client,
    topic: String,
    settings: Settings,
    /// The producer's number and epoch, with `acks=all`.
    id: Option<(i64, i16)>,
    lanes: BTreeMap<i32, Lane>,
    count: i32,
    sticky: i32,
    waiting: usize,
    /// Records that were answered, or sent where nobody answers.
    done: u64,
    done_bytes: u64,
    /// Where the last record of each partition stands, as far as leaders told.
    ends: BTreeMap<i32, i64>,
}

impl Producer {
    /// For a topic that is there.
    pub(crate) async fn start(client: &Client, topic: &str, settings: Settings) -> Result<Self, Failure> {
        let found = client.topic(topic).await?;
        let count = i32::try_from(found.partitions.len()).unwrap_or(i32::MAX);
        if let Some(partition) = settings.partition.filter(|one| !(0..count).contains(one)) {
            return Err(Failure::Lasting(format!("topic {topic} has partitions 0 to {}, not {partition}", count - 1)));
        }
        let id = if settings.acks == Acks::All { Self::identify(client).await? } else { None };
        Ok(Self {
            client: client.clone(),
            topic: topic.to_owned(),
            settings,
            id,
            lanes: BTreeMap::new(),
            count,
            sticky: 0,
            waiting: 0,
            done: 0,
            done_bytes: 0,
            ends: BTreeMap::new(),
        })
    }

    /// A number of one's own. Brokers may not give one; then a batch that is sent twice may be there twice.
    async fn identify(client: &Client) -> Result<Option<(i64, i16)>, Failure> {
        let request = InitProducerIdRequest { transaction_timeout_ms: TIMEOUT_MS, ..Default::default() };
        let answer = client
            .patiently(async || {
                let answer = client.ask_any(request.clone()).await?;
                Failure::check(answer.error_code, "a number for the producer")?;
                Ok(answer)
            })
            .await;
        match answer {
            Ok(answer) => Ok(Some((answer.producer_id, answer.producer_epoch))),
            Err(failure) if failure.code() == Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED) => Ok(None),
            Err(Failure::Lasting(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// How many records are safe, and how many bytes they are.
    pub(crate) fn done(&self) -> (u64, u64) {
        (self.done, self.done_bytes)
    }

    /// Where the last record of each partition stands.
    pub(crate) fn ends(&self) -> &BTreeMap<i32, i64> {
        &self.ends
    }

    /// Takes a record in; sends if much waits.
    pub(crate) async fn push(&mut self, record: &Outgoing) -> Result<(), Failure> {
        let partition = match (self.settings.partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of(key, self.count),
            (None, None) => self.sticky,
        };
        // A large record does not make a batch of small ones too large for the topic.
        if self.lanes.get(&partition).is_some_and(|lane| lane.open.size() + record.size() > BATCH_BYTES) {
            self.close(partition);
            self.sticky = (self.sticky + 1) % self.count;
        }
        let codec = self.settings.codec;
        let lane = self.lanes.entry(partition).or_insert_with(|| Lane {
            open: BatchBuilder::new(codec),
            closed: VecDeque::new(),
            sequence: 0,
        });
        let before = lane.open.size();
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            record.headers.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
        lane.open.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
        self.waiting += lane.open.size() - before;
        if self.waiting >= WAITING_BYTES_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    fn close(&mut self, partition: i32) {
        let (codec, id) = (self.settings.codec, self.id);
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        let records = lane.open.record_count();
        if records == 0 {
            return;
        }
        let mut batch = std::mem::replace(&mut lane.open, BatchBuilder::new(codec));
        if let Some((id, epoch)) = id {
            batch = batch.producer(id, epoch, lane.sequence);
            lane.sequence = lane.sequence.checked_add(records).unwrap_or_default();
        }
        lane.closed.push_back(Closed { bytes: batch.build().freeze(), records });
    }

    /// Sends until nothing waits.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        let partitions: Vec<i32> = self.lanes.keys().copied().collect();
        partitions.into_iter().for_each(|partition| self.close(partition));
        self.sticky = (self.sticky + 1) % self.count;
        let mut end = Instant::now() + PATIENCE;
        while self.lanes.values().any(|lane| !lane.closed.is_empty()) {
            let before = self.done;
            match self.round().await {
                Ok(()) => {}
                Err(failure) if failure.is_passing() => {
                    if Instant::now() >= end {
                        return Err(failure);
                    }
                    self.client.forget();
                    sleep(PAUSE).await;
                }
                Err(failure) => return Err(failure),
            }
            if self.done > before {
                end = Instant::now() + PATIENCE;
            }
        }
        self.waiting = 0;
        Ok(())
    }

    /// One request to each leader, with the first batch of each of its partitions.
    async fn round(&mut self) -> Result<(), Failure> {
        let mut by_leader: BTreeMap<String, Vec<PartitionProduceData>> = BTreeMap::new();
        for (partition, lane) in &self.lanes {
            let Some(batch) = lane.closed.front() else { continue };
            let leader = self.client.leader(&self.topic, *partition).await?;
            let data = PartitionProduceData { index: *partition, records: Some(batch.bytes.clone()) };
            by_leader.entry(leader).or_default().push(data);
        }
        let acks = match self.settings.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        };
        let mut under_way = JoinSet::new();
        for (leader, partition_data) in by_leader {
            let partitions: Vec<i32> = partition_data.iter().map(|data| data.index).collect();
            let topic_data = vec![TopicProduceData { name: self.topic.clone(), partition_data, ..Default::default() }];
            let request = ProduceRequest { transactional_id: None, acks, timeout_ms: TIMEOUT_MS, topic_data };
            let client = self.client.clone();
            under_way.spawn(async move {
                let answer = match acks {
                    0 => client.tell_at(&leader, request).await.map(|()| None),
                    _ => client.ask_at(&leader, request, Duration::ZERO).await.map(Some),
                };
                (partitions, answer)
            });
        }
        let mut failed = Ok(());
        while let Some(joined) = under_way.join_next().await {
            let (partitions, answer) = joined.expect("a request does not panic and is not given up");
            let taken = answer.and_then(|answer| match answer {
                None => {
                    partitions.iter().for_each(|partition| self.taken(*partition, -1));
                    Ok(())
                }
                Some(answer) => self.on_answer(answer),
            });
            // One that lasts tells more than one that passes.
            if let Err(failure) = taken
                && (failed.is_ok() || !failure.is_passing())
            {
                failed = Err(failure);
            }
        }
        failed
    }

    fn on_answer(&mut self, answer: ProduceResponse) -> Result<(), Failure> {
        let mut failed = Ok(());
        for partition in answer.responses.into_iter().flat_map(|topic| topic.partition_responses) {
            let code = ErrorCode(partition.error_code);
            // The answer to an earlier try was lost.
            if code.is_none() || code == ErrorCode::DUPLICATE_SEQUENCE_NUMBER {
                self.taken(partition.index, partition.base_offset);
            } else {
                let said = partition.error_message.as_deref();
                failed =
                    Failure::check_said(code.0, said.filter(|_| !code.is_retriable()), format!("topic {}", self.topic));
            }
        }
        failed
    }

    fn taken(&mut self, partition: i32, offset: i64) {
        let Some(batch) = self.lanes.get_mut(&partition).and_then(|lane| lane.closed.pop_front()) else { return };
        self.done += u64::try_from(batch.records).unwrap_or(0);
        self.done_bytes += batch.bytes.len() as u64;
        if offset >= 0 {
            self.ends.insert(partition, offset.saturating_add(i64::from(batch.records) - 1));
        }
    }
}
