//! What is asked of a partition, and what it answers.
//!
//! ```text
//! query = kind:u8 body
//!   1 fetch    offset:i64 max bytes:u32 min one:u8 committed:u8 in place:u8
//!   2 offset   timestamp:i64 committed:u8          ListOffsets: -1 latest, -2 earliest, -3 of the largest timestamp
//!   3 epoch    epoch:i32                           OffsetForLeaderEpoch
//!   4 guard    producer:i64                        where a producer's last marker stands
//!   5 describe                                     sizes, and who produces
//!   6 due      now:i64                             would `tend` change anything?
//!   7 ends                                         how far it goes, and what holds its readers back
//!   8 settled                                      the version of the goal that its group came to last
//!   9 batch    offset:i64                          the batch with this offset, which no later answer contradicts
//! ```
//! Deliberately absent: waiting. A session that finds too little asks again when the partition says that it has grown.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use verity_contract::FileRange;

use super::producers::{Aborted, Producer};
use crate::wire::{Blob, ErrorCode};

/// No answer names more aborted transactions or producers.
const COUNT_MAX: usize = 1 << 20;

/// What is wanted of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The first offset.
    pub offset: i64,
    /// At most so many bytes.
    pub max_bytes: u32,
    /// One batch comes even if it is larger.
    pub min_one: bool,
    /// Nothing behind the last stable offset.
    pub committed: bool,
    /// Many bytes may be answered as a place in a file.
    pub in_place: bool,
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// Batches from an offset on. Answer: [`Fetched`].
    Fetch(Wanted),
    /// An offset by time. Answer: [`Found`].
    Offset {
        /// Milliseconds, or one of Kafka's negative ones.
        timestamp: i64,
        /// Nothing behind the last stable offset.
        committed: bool,
    },
    /// Where an epoch ends. Answer: [`Found`] with the epoch and its end.
    Epoch(i32),
    /// A producer's last marker. Answer: [`Found`] with its offset, or -1, as timestamp where its open transaction begins,
    /// or -1, and the producer's epoch, or -1.
    Guard(i64),
    /// Sizes and producers. Answer: [`Described`].
    Describe,
    /// Would `tend` change anything now? Answer: [`Found`] with offset 1 for yes, 0 for no.
    Due(i64),
    /// How far the log goes. Answer: [`Ends`].
    Ends,
    /// The version of the goal that its group came to last. Answer: [`Found`] with it as offset.
    Settled,
    /// The batch that an offset is in, or the next one if that was compacted away. Answer: [`Held`]: it says nothing of how
    /// far the log is, so that replicas that were asked at different moments say the same.
    Batch(i64),
}

/// One batch, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Kafka's code.
    pub error: ErrorCode,
    /// The batch as it is in the log.
    pub batch: Bytes,
}

impl Held {
    /// There is none.
    #[must_use]
    pub fn none(error: ErrorCode) -> Self {
        Self { error, batch: Bytes::new() }
    }

    /// In bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(2 + self.batch.len());
        out.put_i16(self.error.0);
        out.put_slice(&self.batch);
        out.freeze()
    }

    /// From bytes; `None` for others.
    #[must_use]
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        Some(Self { error: ErrorCode(bytes.try_get_i16().ok()?), batch: bytes })
    }
}

/// Batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Kafka's code.
    pub error: ErrorCode,
    /// The end of what is committed.
    pub high_watermark: i64,
    /// The end of what is decided.
    pub last_stable: i64,
    /// The first offset that may be read.
    pub log_start: i64,
    /// How many offsets the batches span, from the one that was wanted on.
    pub span: u64,
    /// Aborted transactions that have records among the batches: producer and first offset.
    pub aborted: Vec<(i64, i64)>,
    /// Whole batches.
    pub records: Blob,
}

/// One offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Kafka's code.
    pub error: ErrorCode,
    /// The offset; -1 for none.
    pub offset: i64,
    /// The timestamp of the record there; -1 where none is meant.
    pub timestamp: i64,
    /// The epoch of the batch there; -1 for none.
    pub epoch: i32,
}

/// A partition, as its operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The first offset that may be read.
    pub log_start: i64,
    /// The end of the log.
    pub high_watermark: i64,
    /// The end of what is decided.
    pub last_stable: i64,
    /// Bytes of all segments.
    pub size: u64,
    /// How many segments there are.
    pub segments: u32,
    /// Which configuration is in force.
    pub config_version: u64,
    /// Who produces.
    pub producers: Vec<ProducerRow>,
}

/// How far a partition goes, and which transaction keeps readers of committed records from the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The first offset that may be read.
    pub log_start: i64,
    /// The end of the log.
    pub high_watermark: i64,
    /// The end of what is decided.
    pub last_stable: i64,
    /// Whose transaction begins there; -1 if all is decided.
    pub holder: i64,
    /// When that producer was last heard, in milliseconds; -1 if all is decided.
    pub heard: i64,
}

/// One producer of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerRow {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Its last sequence; -1 for none.
    pub last_sequence: i32,
    /// When it was last heard, in milliseconds.
    pub heard: i64,
    /// The coordinator's epoch; -1 for none.
    pub coordinator_epoch: i32,
    /// Where its open transaction begins; -1 for none.
    pub open: i64,
}

impl ProducerRow {
    pub(super) fn new(producer_id: i64, producer: &Producer) -> Self {
        Self {
            producer_id,
            epoch: producer.epoch,
            last_sequence: producer.batches.back().map_or(-1, |taken| taken.last_sequence),
            heard: producer.heard,
            coordinator_epoch: producer.coordinator_epoch,
            open: producer.open.unwrap_or(-1),
        }
    }
}

impl Query {
    /// In bytes.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(16);
        match self {
            Self::Fetch(Wanted { offset, max_bytes, min_one, committed, in_place }) => {
                out.put_u8(1);
                out.put_i64(offset);
                out.put_u32(max_bytes);
                out.put_u8(u8::from(min_one));
                out.put_u8(u8::from(committed));
                out.put_u8(u8::from(in_place));
            }
            Self::Offset { timestamp, committed } => {
                out.put_u8(2);
                out.put_i64(timestamp);
                out.put_u8(u8::from(committed));
            }
            Self::Epoch(epoch) => {
                out.put_u8(3);
                out.put_i32(epoch);
            }
            Self::Guard(producer) => {
                out.put_u8(4);
                out.put_i64(producer);
            }
            Self::Describe => out.put_u8(5),
            Self::Due(now) => {
                out.put_u8(6);
                out.put_i64(now);
            }
            Self::Ends => out.put_u8(7),
            Self::Settled => out.put_u8(8),
            Self::Batch(offset) => {
                out.put_u8(9);
                out.put_i64(offset);
            }
        }
        out.freeze()
    }

    /// From bytes; `None` for others.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let query = match bytes.try_get_u8().ok()? {
            1 => Self::Fetch(Wanted {
                offset: bytes.try_get_i64().ok()?,
                max_bytes: bytes.try_get_u32().ok()?,
                min_one: bytes.try_get_u8().ok()? != 0,
                committed: bytes.try_get_u8().ok()? != 0,
                in_place: bytes.try_get_u8().ok()? != 0,
            }),
            2 => Self::Offset { timestamp: bytes.try_get_i64().ok()?, committed: bytes.try_get_u8().ok()? != 0 },
            3 => Self::Epoch(bytes.try_get_i32().ok()?),
            4 => Self::Guard(bytes.try_get_i64().ok()?),
            5 => Self::Describe,
            6 => Self::Due(bytes.try_get_i64().ok()?),
            7 => Self::Ends,
            8 => Self::Settled,
            9 => Self::Batch(bytes.try_get_i64().ok()?),
            _ => return None,
        };
        bytes.is_empty().then_some(query)
    }
}

impl Fetched {
    /// An answer without batches.
    #[must_use]
    pub fn empty(error: ErrorCode) -> Self {
        Self {
            error,
            high_watermark: -1,
            last_stable: -1,
            log_start: -1,
            span: 0,
            aborted: Vec::new(),
            records: Blob::default(),
        }
    }

    /// In bytes.
    #[must_use]
    pub fn encode<'a>(&self, aborted: impl Iterator<Item = &'a Aborted>, records: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + records.len());
        out.put_i16(self.error.0);
        out.put_i64(self.high_watermark);
        out.put_i64(self.last_stable);
        out.put_i64(self.log_start);
        out.put_u64(self.span);
        let count_at = out.len();
        out.put_u32(0);
        let mut count = 0u32;
        for aborted in aborted.take(COUNT_MAX) {
            out.put_i64(aborted.producer_id);
            out.put_i64(aborted.first_offset);
            count += 1;
        }
        out[count_at..count_at + 4].copy_from_slice(&count.to_be_bytes());
        out.put_slice(records);
        out.freeze()
    }

    /// From bytes with all of it; `None` for others.
    #[must_use]
    pub fn decode(bytes: Bytes) -> Option<Self> {
        Self::of(bytes, None)
    }

    /// From bytes and what of a file came with them; `None` for others.
    #[must_use]
    pub fn of(mut bytes: Bytes, range: Option<FileRange>) -> Option<Self> {
        let error = ErrorCode(bytes.try_get_i16().ok()?);
        let (high_watermark, last_stable) = (bytes.try_get_i64().ok()?, bytes.try_get_i64().ok()?);
        let (log_start, span) = (bytes.try_get_i64().ok()?, bytes.try_get_u64().ok()?);
        let count = usize::try_from(bytes.try_get_u32().ok()?).ok().filter(|count| *count <= COUNT_MAX)?;
        let mut aborted = Vec::new();
        for _ in 0..count {
            aborted.push((bytes.try_get_i64().ok()?, bytes.try_get_i64().ok()?));
        }
        let records = range.map_or(Blob::Memory(bytes), Blob::File);
        Some(Self { error, high_watermark, last_stable, log_start, span, aborted, records })
    }
}

impl Found {
    /// Nothing was found, for this reason.
    #[must_use]
    pub fn none(error: ErrorCode) -> Self {
        Self { error, offset: -1, timestamp: -1, epoch: -1 }
    }

    /// In bytes.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(22);
        out.put_i16(self.error.0);
        out.put_i64(self.offset);
        out.put_i64(self.timestamp);
        out.put_i32(self.epoch);
        out.freeze()
    }

    /// From bytes; `None` for others.
    #[must_use]
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        let found = Self {
            error: ErrorCode(bytes.try_get_i16().ok()?),
            offset: bytes.try_get_i64().ok()?,
            timestamp: bytes.try_get_i64().ok()?,
            epoch: bytes.try_get_i32().ok()?,
        };
        bytes.is_empty().then_some(found)
    }
}

impl Ends {
    /// In bytes.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(40);
        for number in [self.log_start, self.high_watermark, self.last_stable, self.holder, self.heard] {
            out.put_i64(number);
        }
        out.freeze()
    }

    /// From bytes; `None` for others.
    #[must_use]
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        let ends = Self {
            log_start: bytes.try_get_i64().ok()?,
            high_watermark: bytes.try_get_i64().ok()?,
            last_stable: bytes.try_get_i64().ok()?,
            holder: bytes.try_get_i64().ok()?,
            heard: bytes.try_get_i64().ok()?,
        };
        bytes.is_empty().then_some(ends)
    }
}

impl Described {
    /// In bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i64(self.log_start);
        out.put_i64(self.high_watermark);
        out.put_i64(self.last_stable);
        out.put_u64(self.size);
        out.put_u32(self.segments);
        out.put_u64(self.config_version);
        let rows = &self.producers[..self.producers.len().min(COUNT_MAX)];
        out.put_u32(u32::try_from(rows.len()).expect("it was bounded"));
        for row in rows {
            out.put_i64(row.producer_id);
            out.put_i16(row.epoch);
            out.put_i32(row.last_sequence);
            out.put_i64(row.heard);
            out.put_i32(row.coordinator_epoch);
            out.put_i64(row.open);
        }
        out.freeze()
    }

    /// From bytes; `None` for others.
    #[must_use]
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        let mut described = Self {
            log_start: bytes.try_get_i64().ok()?,
            high_watermark: bytes.try_get_i64().ok()?,
            last_stable: bytes.try_get_i64().ok()?,
            size: bytes.try_get_u64().ok()?,
            segments: bytes.try_get_u32().ok()?,
            config_version: bytes.try_get_u64().ok()?,
            producers: Vec::new(),
        };
        let count = usize::try_from(bytes.try_get_u32().ok()?).ok().filter(|count| *count <= COUNT_MAX)?;
        for _ in 0..count {
            described.producers.push(ProducerRow {
                producer_id: bytes.try_get_i64().ok()?,
                epoch: bytes.try_get_i16().ok()?,
                last_sequence: bytes.try_get_i32().ok()?,
                heard: bytes.try_get_i64().ok()?,
                coordinator_epoch: bytes.try_get_i32().ok()?,
                open: bytes.try_get_i64().ok()?,
            });
        }
        bytes.is_empty().then_some(described)
    }
}
