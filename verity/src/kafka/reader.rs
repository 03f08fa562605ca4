//! Reads records, from many partitions of a topic at once.
//!
//! - upon [`Reader::poll`]: each leader is asked for all its partitions, all leaders at the same time; whoever answers first
//!   is heard first, and asked again with the next poll;
//! - upon an offset that is not there any more, or not yet: the partition goes on at its start, or at its end;
//! - upon a passing failure: the partition is asked for again where it is led by then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::sleep;
use verity_kafka::client::{Consumed, consume};
use verity_kafka::wire::ErrorCode;
use verity_kafka::wire::message::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};

use super::client::{Client, PATIENCE};
use super::failure::Failure;

/// An answer is no larger, but for one batch.
const BYTES_MAX: i32 = 16 << 20;
const PARTITION_BYTES_MAX: i32 = 4 << 20;
/// How long a broker may wait for something to tell, in milliseconds.
const WAIT_MS: i32 = 500;
const PAUSE: Duration = Duration::from_millis(100);

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incoming {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Reads a topic.
pub(crate) struct Reader {
    client: Client,
    topic: String,
    committed: bool,
    /// Where each partition goes on.
    positions: BTreeMap<i32, i64>,
    /// How far each goes, as its leader last said.
    ends: BTreeMap<i32, i64>,
    /// Leaders that are being asked, each with its partitions.
    asked: BTreeMap<String, BTreeSet<i32>>,
    under_way: JoinSet<(String, Result<FetchResponse, Failure>)>,
    /// For how long nobody has answered.
    silent: Duration,
    /// Offsets that were to be read and are not there any more: partition, first, last.
    gone: Vec<(i32, i64, i64)>,
}

fn owned(partition: i32, record: &Consumed<'_>) -> Incoming {
    let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
    Incoming {
        partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: copy(record.key),
        value: copy(record.value),
        headers: record.headers.map(|(key, value)| (Bytes::copy_from_slice(key), copy(value))).collect(),
    }
}

impl Reader {
    /// From these offsets on.
    pub(crate) fn new(client: &Client, topic: &str, committed: bool, positions: BTreeMap<i32, i64>) -> Self {
        Self {
            client: client.clone(),
            topic: topic.to_owned(),
            committed,
            positions,
            ends: BTreeMap::new(),
            asked: BTreeMap::new(),
            under_way: JoinSet::new(),
            silent: Duration::ZERO,
            gone: Vec::new(),
        }
    }

    /// Offsets that were to be read and were deleted before that: partition, first, last.
    pub(crate) fn take_gone(&mut self) -> Vec<(i32, i64, i64)> {
        std::mem::take(&mut self.gone)
    }

    /// Where each partition goes on.
    pub(crate) fn positions(&self) -> &BTreeMap<i32, i64> {
        &self.positions
    }

    /// Reads other partitions from here on.
    pub(crate) fn assign(&mut self, positions: BTreeMap<i32, i64>) {
        self.under_way.abort_all();
        self.under_way = JoinSet::new();
        self.asked.clear();
        self.positions = positions;
    }

    /// A record that was told is told again, with all behind it in its partition.
    pub(crate) fn go_back(&mut self, partition: i32, offset: i64) {
        if let Some(position) = self.positions.get_mut(&partition) {
            *position = offset.min(*position);
        }
    }

    /// What somebody tells first; nothing if nobody has anything to tell for a moment.
    pub(crate) async fn poll(&mut self) -> Result<Vec<Incoming>, Failure> {
        let answered = match self.ask().await {
            Ok(()) => self.under_way.join_next().await,
            Err(failure) => return self.wait(failure).await,
        };
        let Some(joined) = answered else {
            sleep(PAUSE).await;
            return Ok(Vec::new());
        };
        let (leader, answer) = joined.expect("a request does not panic, and is not given up while it is waited for");
        self.asked.remove(&leader);
        match answer.and_then(|answer| self.on_answer(answer)) {
            Ok(records) => {
                self.silent = Duration::ZERO;
                Ok(records)
            }
            Err(failure) => self.wait(failure).await,
        }
    }

    /// A leader that has crashed is followed by another within a moment.
    async fn wait(&mut self, failure: Failure) -> Result<Vec<Incoming>, Failure> {
        if !failure.is_passing() || self.silent >= PATIENCE {
            return Err(failure);
        }
        self.client.forget();
        self.silent += PAUSE;
        sleep(PAUSE).await;
        Ok(Vec::new())
    }

    /// Asks the leaders of partitions that nobody is being asked for.
    async fn ask(&mut self) -> Result<(), Failure> {
        let mut by_leader: BTreeMap<String, Vec<FetchPartition>> = BTreeMap::new();
        for (partition, offset) in &self.positions {
            if self.asked.values().any(|asked| asked.contains(partition)) {
                continue;
            }
            let leader = self.client.leader(&self.topic, *partition).await?;
            if self.asked.contains_key(&leader) {
                continue;
            }
            by_leader.entry(leader).or_default().push(FetchPartition {
                partition: *partition,
                fetch_offset: *offset,
                partition_max_bytes: PARTITION_BYTES_MAX,
                ..Default::default()
            });
        }
        for (leader, partitions) in by_leader {
            self.asked.insert(leader.clone(), partitions.iter().map(|one| one.partition).collect());
            let topics = vec![FetchTopic { topic: self.topic.clone(), partitions, ..Default::default() }];
            let request = FetchRequest {
                max_wait_ms: WAIT_MS,
                min_bytes: 1,
                max_bytes: BYTES_MAX,
                isolation_level: i8::from(self.committed),
                topics,
                ..Default::default()
            };
            let client = self.client.clone();
            self.under_way.spawn(async move {
                let wait = Duration::from_millis(u64::from(WAIT_MS.unsigned_abs()));
                let answer = client.ask_at(&leader, request, wait).await;
                (leader, answer)
            });
        }
        Ok(())
    }

    fn on_answer(&mut self, answer: FetchResponse) -> Result<Vec<Incoming>, Failure> {
        let about = format!("topic {}", self.topic);
        Failure::check(answer.error_code, &about)?;
        let (mut records, mut failed) = (Vec::new(), Ok(()));
        for data in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            let index = data.partition_index;
            let Some(position) = self.positions.get_mut(&index) else { continue };
            match ErrorCode(data.error_code) {
                ErrorCode::OFFSET_OUT_OF_RANGE => {
                    // What is before the start was deleted; nothing is behind the end.
                    *position = if data.log_start_offset > *position {
                        self.gone.push((index, *position, data.log_start_offset - 1));
                        data.log_start_offset
                    } else if data.high_watermark >= 0 {
                        (*position).min(data.high_watermark)
                    } else {
                        return Err(Failure::Lasting(format!("{about} has no offset {position} in partition {index}")));
                    };
                }
                ErrorCode::NONE => {
                    let end = if self.committed { data.last_stable_offset } else { data.high_watermark };
                    self.ends.insert(index, end);
                    let next = consume(&data, *position, self.committed, |record| {
                        records.push(owned(index, &record));
                        true
                    });
                    *position = next.map_err(|error| {
                        Failure::Lasting(format!("{about}, partition {index}, offset {position}: {error}"))
                    })?;
                }
                code => failed = Failure::check(code.0, &about),
            }
        }
        // Records that came are told first; what failed is asked for again.
        if records.is_empty() { failed.map(|()| records) } else { Ok(records) }
    }
}
