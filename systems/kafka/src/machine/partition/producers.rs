//! What a partition knows of its producers: sequences, so that no batch is there twice, and transactions.
//!
//! - upon a batch of a producer that is not known: it is taken, whatever its sequence, as Kafka does;
//! - upon a batch that is one of the last [`BATCHES_KEPT`] of its producer: it is a duplicate, and answered as the first
//!   was;
//! - upon a batch whose sequence is not the next one: refused; of a higher epoch, the next one is 0;
//! - upon a batch of a lower epoch: refused, the producer was fenced;
//! - upon a transactional batch: the transaction is open from its offset on, unless a marker came since the session
//!   asked the coordinator (KIP-890's verification guard). Then the batch is late, and refused;
//! - upon a batch of the producer's next epoch while a transaction is open: refused until the marker is there, which bears
//!   that epoch too (KIP-890);
//! - upon a marker: the transaction ends. One of a lower epoch, of a deposed coordinator, or of a decision that was
//!   carried out already changes nothing.
//!
//! The last stable offset lies in front of the first open transaction. Nothing behind it moves it back.
//!
//! Deliberately absent: who may end a transaction (the coordinator decides).

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::log::{AbortedRange, LastOfProducer};
use crate::wire::{BatchHeader, ErrorCode};

/// How many batches of a producer are remembered: a client has at most five requests under way.
pub const BATCHES_KEPT: usize = 5;
/// No partition knows more producers, nor aborted transactions.
const COUNT_MAX: usize = 1 << 22;

/// A batch that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its first sequence.
    pub first_sequence: i32,
    /// Its last sequence.
    pub last_sequence: i32,
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// When it was appended, in milliseconds.
    pub time: i64,
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its epoch.
    pub epoch: i16,
    /// The coordinator's epoch of its last marker; -1 for none.
    pub coordinator_epoch: i32,
    /// Its last batches of this epoch, the latest last.
    pub batches: VecDeque<Taken>,
    /// Where its open transaction begins.
    pub open: Option<i64>,
    /// The offset of its last marker; -1 for none.
    pub last_marker: i64,
    /// The decision that its last marker carried out.
    pub decision: u64,
    /// When it was last heard, in milliseconds.
    pub heard: i64,
}

impl Producer {
    fn new(epoch: i16, time: i64) -> Self {
        Self {
            epoch,
            coordinator_epoch: -1,
            batches: VecDeque::new(),
            open: None,
            last_marker: -1,
            decision: 0,
            heard: time,
        }
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whose.
    pub producer_id: i64,
    /// The epoch that it ends with.
    pub producer_epoch: i16,
    /// The coordinator's epoch.
    pub coordinator_epoch: i32,
    /// Which decision of the coordinator's it was.
    pub decision: u64,
    /// Committed, or aborted.
    pub commit: bool,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Append it.
    New,
    /// It is there; this is its place.
    Duplicate(Taken),
}

/// An aborted transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// Whose.
    pub producer_id: i64,
    /// Offset of its first record.
    pub first_offset: i64,
    /// Offset of its marker.
    pub last_offset: i64,
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    known: BTreeMap<i64, Producer>,
    /// Open transactions by their first offset.
    open: BTreeMap<i64, i64>,
    /// In the order of their markers.
    aborted: Vec<Aborted>,
}

/// The sequence behind this one.
fn next(sequence: i32) -> i32 {
    if sequence == i32::MAX { 0 } else { sequence + 1 }
}

impl Producers {
    /// Everything below it is decided, if `end` is the end of the log.
    #[must_use]
    pub fn last_stable(&self, end: i64) -> i64 {
        self.open.first_key_value().map_or(end, |(offset, _)| *offset)
    }

    /// Whose open transaction begins first, and when they were last heard.
    #[must_use]
    pub fn holder(&self) -> Option<(i64, i64)> {
        let (_, id) = self.open.first_key_value()?;
        Some((*id, self.known.get(id)?.heard))
    }

    /// The producers, by their ids.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.known.iter().map(|(id, producer)| (*id, producer))
    }

    /// The offset of a producer's last marker; -1 for none.
    #[must_use]
    pub fn guard(&self, producer_id: i64) -> i64 {
        self.known.get(&producer_id).map_or(-1, |producer| producer.last_marker)
    }

    /// Where a producer's open transaction begins; -1 if none is open.
    #[must_use]
    pub fn open(&self, producer_id: i64) -> i64 {
        self.known.get(&producer_id).and_then(|producer| producer.open).unwrap_or(-1)
    }

    /// A producer's epoch; -1 if it is not known.
    #[must_use]
    pub fn epoch(&self, producer_id: i64) -> i16 {
        self.known.get(&producer_id).map_or(-1, |producer| producer.epoch)
    }

    /// Aborted transactions that have records in `[from, to)`.
    pub fn aborted(&self, from: i64, to: i64) -> impl Iterator<Item = &Aborted> {
        let first = self.aborted.partition_point(|aborted| aborted.last_offset < from);
        self.aborted[first..].iter().filter(move |aborted| aborted.first_offset < to)
    }

    /// Decides what is to be done with a batch.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn judge(&self, header: &BatchHeader, guard: Option<i64>) -> Result<Judged, ErrorCode> {
        let transactional = header.attributes.is_transactional();
        let Some(producer) = self.known.get(&header.producer_id) else {
            return match guard {
                _ if self.known.len() >= COUNT_MAX => Err(ErrorCode::THROTTLING_QUOTA_EXCEEDED),
                Some(guard) if transactional && guard != -1 => Err(ErrorCode::INVALID_TXN_STATE),
                _ => Ok(Judged::New),
            };
        };
        let (first, last) = (header.base_sequence, header.last_sequence());
        if header.producer_epoch < producer.epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        if header.producer_epoch == producer.epoch {
            let same = |taken: &&Taken| (taken.first_sequence, taken.last_sequence) == (first, last);
            if let Some(taken) = producer.batches.iter().find(same) {
                return Ok(Judged::Duplicate(*taken));
            }
        }
        let fresh = header.producer_epoch > producer.epoch;
        let expected = producer.batches.back().filter(|_| !fresh).map_or(0, |taken| next(taken.last_sequence));
        if first != expected {
            return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        }
        match (transactional, producer.open) {
            (false, Some(_)) => Err(ErrorCode::INVALID_TXN_STATE),
            // The transaction of the epoch before has not got its marker yet, which would decide this batch as well.
            (true, Some(_)) if fresh => Err(ErrorCode::CONCURRENT_TRANSACTIONS),
            (true, _) if guard.is_some_and(|guard| guard != producer.last_marker) => Err(ErrorCode::INVALID_TXN_STATE),
            _ => Ok(Judged::New),
        }
    }

    /// Notes a batch that was appended at `base_offset`.
    pub fn note(&mut self, header: &BatchHeader, base_offset: i64, time: i64) {
        let producer =
            self.known.entry(header.producer_id).or_insert_with(|| Producer::new(header.producer_epoch, time));
        if header.producer_epoch > producer.epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        producer.heard = time;
        if producer.batches.len() == BATCHES_KEPT {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Taken {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset,
            last_offset: base_offset + i64::from(header.last_offset_delta),
            time,
        });
        if header.attributes.is_transactional() && producer.open.is_none() {
            producer.open = Some(base_offset);
            self.open.insert(base_offset, header.producer_id);
        }
    }

    /// May this marker be written? `None` if it was.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn judge_marker(
        &self,
        producer_id: i64,
        producer_epoch: i16,
        coordinator_epoch: i32,
        decision: u64,
    ) -> Result<Option<()>, ErrorCode> {
        let Some(producer) = self.known.get(&producer_id) else { return Ok(Some(())) };
        if decision <= producer.decision {
            return Ok(None);
        }
        if coordinator_epoch < producer.coordinator_epoch {
            return Err(ErrorCode::TRANSACTION_COORDINATOR_FENCED);
        }
        if producer_epoch < producer.epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        Ok(Some(()))
    }

    /// Notes a marker that was written at `offset`.
    pub fn note_marker(&mut self, ended: &Ended, offset: i64, time: i64) {
        let Ended { producer_id, producer_epoch, coordinator_epoch, decision, commit } = *ended;
        let producer = self.known.entry(producer_id).or_insert_with(|| Producer::new(producer_epoch, time));
        if producer_epoch > producer.epoch {
            producer.epoch = producer_epoch;
            producer.batches.clear();
        }
        producer.coordinator_epoch = coordinator_epoch;
        producer.decision = decision;
        producer.heard = time;
        producer.last_marker = offset;
        if let Some(first_offset) = producer.open.take() {
            self.open.remove(&first_offset);
            if !commit {
                self.aborted.push(Aborted { producer_id, first_offset, last_offset: offset });
            }
        }
    }

    /// Forgets producers that were not heard since `time` and have no open transaction, and aborted transactions below
    /// `log_start`.
    pub fn forget(&mut self, time: i64, log_start: i64) {
        self.known.retain(|_, producer| producer.open.is_some() || producer.heard >= time);
        self.aborted.retain(|aborted| aborted.last_offset >= log_start);
    }

    /// What compaction must know.
    #[must_use]
    pub fn for_compaction(&self) -> (Vec<AbortedRange>, Vec<LastOfProducer>) {
        let aborted = self.aborted.iter().map(|aborted| AbortedRange {
            producer_id: aborted.producer_id,
            first_offset: aborted.first_offset,
            last_offset: aborted.last_offset,
        });
        let producers = self.known.iter().map(|(id, producer)| LastOfProducer {
            producer_id: *id,
            epoch: producer.epoch,
            last_data_offset: producer.batches.back().map(|taken| taken.last_offset),
        });
        (aborted.collect(), producers.collect())
    }

    /// Appends everything.
    pub fn encode(&self, out: &mut BytesMut) {
        let count = |count: usize| u32::try_from(count).expect("counts are bounded");
        out.put_u32(count(self.known.len()));
        for (id, producer) in &self.known {
            out.put_i64(*id);
            out.put_i16(producer.epoch);
            out.put_i32(producer.coordinator_epoch);
            out.put_i64(producer.open.unwrap_or(-1));
            out.put_i64(producer.last_marker);
            out.put_u64(producer.decision);
            out.put_i64(producer.heard);
            out.put_u8(u8::try_from(producer.batches.len()).expect("a few"));
            for taken in &producer.batches {
                out.put_i32(taken.first_sequence);
                out.put_i32(taken.last_sequence);
                out.put_i64(taken.base_offset);
                out.put_i64(taken.last_offset);
                out.put_i64(taken.time);
            }
        }
        out.put_u32(count(self.aborted.len()));
        for aborted in &self.aborted {
            out.put_i64(aborted.producer_id);
            out.put_i64(aborted.first_offset);
            out.put_i64(aborted.last_offset);
        }
    }

    /// Takes them; `None` if the bytes are none.
    #[must_use]
    pub fn decode(bytes: &mut Bytes) -> Option<Self> {
        let mut all = Self::default();
        for _ in 0..take_count(bytes)? {
            let id = bytes.try_get_i64().ok()?;
            let mut producer = Producer::new(bytes.try_get_i16().ok()?, 0);
            producer.coordinator_epoch = bytes.try_get_i32().ok()?;
            producer.open = Some(bytes.try_get_i64().ok()?).filter(|offset| *offset >= 0);
            producer.last_marker = bytes.try_get_i64().ok()?;
            producer.decision = bytes.try_get_u64().ok()?;
            producer.heard = bytes.try_get_i64().ok()?;
            let count = usize::from(bytes.try_get_u8().ok()?);
            for _ in 0..(count <= BATCHES_KEPT).then_some(count)? {
                producer.batches.push_back(Taken {
                    first_sequence: bytes.try_get_i32().ok()?,
                    last_sequence: bytes.try_get_i32().ok()?,
                    base_offset: bytes.try_get_i64().ok()?,
                    last_offset: bytes.try_get_i64().ok()?,
                    time: bytes.try_get_i64().ok()?,
                });
            }
            if let Some(offset) = producer.open {
                all.open.insert(offset, id);
            }
            all.known.insert(id, producer);
        }
        for _ in 0..take_count(bytes)? {
            all.aborted.push(Aborted {
                producer_id: bytes.try_get_i64().ok()?,
                first_offset: bytes.try_get_i64().ok()?,
                last_offset: bytes.try_get_i64().ok()?,
            });
        }
        Some(all)
    }

    /// Asserts what must always hold.
    pub fn invariants(&self, end: i64) {
        let open: BTreeMap<i64, i64> =
            self.known.iter().filter_map(|(id, producer)| Some((producer.open?, *id))).collect();
        assert_eq!(open, self.open, "open transactions are listed by their beginnings");
        assert!(self.open.keys().all(|offset| *offset < end), "transactions begin inside of the log");
        let markers: Vec<i64> = self.aborted.iter().map(|aborted| aborted.last_offset).collect();
        assert!(markers.is_sorted(), "aborted transactions stand in the order of their markers");
        assert!(self.known.values().all(|producer| producer.batches.len() <= BATCHES_KEPT), "few batches are kept");
    }
}

fn take_count(bytes: &mut Bytes) -> Option<usize> {
    let count = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    (count <= COUNT_MAX).then_some(count)
}
