//! Record batches of magic 2: what producers send, the log stores and consumers get, all the same bytes.
//!
//! ```text
//! at  field
//!  0  base offset           i64
//!  8  length                i32   of everything behind it
//! 12  partition leader epoch i32
//! 16  magic                 i8    2
//! 17  crc                   u32   CRC-32C of everything behind it
//! 21  attributes            i16   bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon
//! 23  last offset delta     i32
//! 27  base timestamp        i64   the delete horizon, if bit 6 is set; record timestamps count from it either way
//! 35  max timestamp         i64
//! 43  producer id           i64   -1 for none
//! 51  producer epoch        i16
//! 53  base sequence         i32   of an idempotent producer's first record
//! 57  record count          i32
//! 61  records                     compressed as a whole
//! ```
//! The checksum leaves out base offset and leader epoch, so the broker can write these two without touching the rest
//! ([`assign`]). Batches are never decoded and encoded again on their way.
//!
//! Deliberately absent: magic 0 and 1, which Kafka 4 does not take either.

use bytes::{Buf as _, Bytes};
use thiserror::Error;

use super::compress::{Codec, CompressionError};
use super::record::Records;

/// The size of a batch without its records.
pub const BATCH_HEADER_SIZE: usize = 61;
/// Base offset and length: what stands in front of the bytes that the length counts.
pub const BATCH_PREFIX_SIZE: usize = 12;
/// The only magic.
pub const MAGIC: i8 = 2;
/// No producer id.
pub const NO_PRODUCER_ID: i64 = -1;
/// No producer epoch.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// No sequence.
pub const NO_SEQUENCE: i32 = -1;
/// No timestamp.
pub const NO_TIMESTAMP: i64 = -1;

const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;

/// Bytes that are no batch.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    /// The bytes end inside the batch. At the end of a fetch this is normal: it was cut at its size.
    #[error("the batch ends early")]
    Truncated,
    /// A length that no batch has.
    #[error("a batch of length {0}")]
    Length(i32),
    /// Another magic than 2.
    #[error("magic {0}")]
    Magic(i8),
    /// The checksum is not that of the bytes.
    #[error("the checksum is {found:08x} and not {expected:08x}")]
    Crc {
        /// What the batch says.
        expected: u32,
        /// What its bytes have.
        found: u32,
    },
    /// A codec without a name.
    #[error("unknown codec {0}")]
    Codec(u8),
    /// What was compressed cannot be had back.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// A record that is malformed.
    #[error("record {index} is malformed")]
    Record {
        /// Which.
        index: i32,
    },
    /// Bytes behind the last record.
    #[error("there are bytes behind the last record")]
    TrailingBytes,
}

/// Whose clock a batch's timestamps are from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's; each record has its own.
    #[default]
    CreateTime,
    /// The broker's; the batch's max timestamp is that of all its records.
    LogAppendTime,
}

/// The flags of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// The codec's number.
    #[must_use]
    pub fn codec_number(self) -> u8 {
        (self.0 & Self::CODEC) as u8
    }

    /// Whose clock the timestamps are from.
    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    /// True if the batch is part of a transaction.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// True if the batch ends a transaction rather than holding data.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// True if the base timestamp says when tombstones may go.
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    fn with(self, bit: i16, on: bool) -> Self {
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }

    /// With this codec.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Self {
        Self(self.0 & !Self::CODEC | i16::from(codec.number()))
    }

    /// With this type.
    #[must_use]
    pub fn with_timestamp_type(self, kind: TimestampType) -> Self {
        self.with(Self::LOG_APPEND_TIME, kind == TimestampType::LogAppendTime)
    }

    /// With or without this flag.
    #[must_use]
    pub fn with_transactional(self, on: bool) -> Self {
        self.with(Self::TRANSACTIONAL, on)
    }

    /// With or without this flag.
    #[must_use]
    pub fn with_control(self, on: bool) -> Self {
        self.with(Self::CONTROL, on)
    }

    /// With or without this flag.
    #[must_use]
    pub fn with_delete_horizon(self, on: bool) -> Self {
        self.with(Self::DELETE_HORIZON, on)
    }
}

/// The first 61 bytes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record that was in the batch when it was appended.
    pub base_offset: i64,
    /// The size of everything behind this field.
    pub length: i32,
    /// The epoch of the leader that appended it.
    pub leader_epoch: i32,
    /// The checksum that it says it has.
    pub crc: u32,
    /// Its flags.
    pub attributes: Attributes,
    /// The offset of the last record that was in the batch when it was appended, above the base offset.
    pub last_offset_delta: i32,
    /// What record timestamps count from, in milliseconds since 1970.
    pub base_timestamp: i64,
    /// The latest timestamp in it.
    pub max_timestamp: i64,
    /// The idempotent producer, or [`NO_PRODUCER_ID`].
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The sequence of the first record.
    pub base_sequence: i32,
    /// How many records there are.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header from the start of `bytes`, which may end with it.
    ///
    /// # Errors
    /// [`BatchError::Truncated`], [`BatchError::Length`], [`BatchError::Magic`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // Magic 0 and 1 are shorter, so the magic is looked at before the size.
        if let Some(&magic) = bytes.get(MAGIC_AT)
            && magic as i8 != MAGIC
        {
            return Err(BatchError::Magic(magic as i8));
        }
        let mut rest = bytes.get(..BATCH_HEADER_SIZE).ok_or(BatchError::Truncated)?;
        let base_offset = rest.get_i64();
        let length = rest.get_i32();
        if usize::try_from(length).is_err() || (length as usize) < BATCH_HEADER_SIZE - BATCH_PREFIX_SIZE {
            return Err(BatchError::Length(length));
        }
        let leader_epoch = rest.get_i32();
        rest.advance(1);
        Ok(Self {
            base_offset,
            length,
            leader_epoch,
            crc: rest.get_u32(),
            attributes: Attributes(rest.get_i16()),
            last_offset_delta: rest.get_i32(),
            base_timestamp: rest.get_i64(),
            max_timestamp: rest.get_i64(),
            producer_id: rest.get_i64(),
            producer_epoch: rest.get_i16(),
            base_sequence: rest.get_i32(),
            record_count: rest.get_i32(),
        })
    }

    /// Writes the header as it is into the first bytes of `batch`.
    ///
    /// # Panics
    /// If `batch` is shorter than a header.
    pub fn write(&self, batch: &mut [u8]) {
        let mut bytes = [0; BATCH_HEADER_SIZE];
        let mut at = 0;
        let mut put = |value: &[u8]| {
            bytes[at..at + value.len()].copy_from_slice(value);
            at += value.len();
        };
        put(&self.base_offset.to_be_bytes());
        put(&self.length.to_be_bytes());
        put(&self.leader_epoch.to_be_bytes());
        put(&MAGIC.to_be_bytes());
        put(&self.crc.to_be_bytes());
        put(&self.attributes.0.to_be_bytes());
        put(&self.last_offset_delta.to_be_bytes());
        put(&self.base_timestamp.to_be_bytes());
        put(&self.max_timestamp.to_be_bytes());
        put(&self.producer_id.to_be_bytes());
        put(&self.producer_epoch.to_be_bytes());
        put(&self.base_sequence.to_be_bytes());
        put(&self.record_count.to_be_bytes());
        batch[..BATCH_HEADER_SIZE].copy_from_slice(&bytes);
    }

    /// The size of the whole batch.
    #[must_use]
    pub fn size(&self) -> usize {
        BATCH_PREFIX_SIZE + usize::try_from(self.length).expect("parse refuses negative lengths")
    }

    /// The offset of the last record that was in the batch when it was appended.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(self.last_offset_delta.into())
    }

    /// The first offset behind the batch.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// The sequence of the last record: sequences go on at 0 behind the largest.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return NO_SEQUENCE;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (last % (1 << 31)) as i32
    }

    /// True if an idempotent producer sent it.
    #[must_use]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// Its codec.
    ///
    /// # Errors
    /// [`BatchError::Codec`].
    pub fn codec(&self) -> Result<Codec, BatchError> {
        let number = self.attributes.codec_number();
        Codec::from_number(number).ok_or(BatchError::Codec(number))
    }

    /// When tombstones and markers in it may go, if that is settled.
    #[must_use]
    pub fn delete_horizon(&self) -> Option<i64> {
        self.attributes.has_delete_horizon().then_some(self.base_timestamp)
    }

    /// The timestamp of a record in this batch.
    #[must_use]
    pub fn timestamp(&self, delta: i64) -> i64 {
        match self.attributes.timestamp_type() {
            TimestampType::CreateTime => self.base_timestamp.saturating_add(delta),
            TimestampType::LogAppendTime => self.max_timestamp,
        }
    }
}

/// One whole batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// Cuts the first batch off `blob`; `None` if that is empty. The checksum is not looked at.
    ///
    /// # Errors
    /// [`BatchError`]; `blob` is left as it was.
    pub fn take(blob: &mut Bytes) -> Result<Option<Self>, BatchError> {
        if blob.is_empty() {
            return Ok(None);
        }
        let header = BatchHeader::parse(blob)?;
        if blob.len() < header.size() {
            return Err(BatchError::Truncated);
        }
        Ok(Some(Self { header, bytes: blob.split_to(header.size()) }))
    }

    /// Its header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All of its bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Looks at the checksum.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    pub fn verify(&self) -> Result<(), BatchError> {
        let found = checksum(&self.bytes);
        if found == self.header.crc { Ok(()) } else { Err(BatchError::Crc { expected: self.header.crc, found }) }
    }

    /// Its records, decompressed to at most `max` bytes, to be read by [`Batch::records`].
    ///
    /// # Errors
    /// [`BatchError::Codec`], [`BatchError::Compression`].
    pub fn decompress(&self, max: usize) -> Result<Bytes, BatchError> {
        let packed = self.bytes.slice(BATCH_HEADER_SIZE..);
        Ok(self.header.codec()?.decompress(&packed, max)?)
    }

    /// The records in `plain`, which is what [`Batch::decompress`] gave.
    #[must_use]
    pub fn records<'a>(&self, plain: &'a [u8]) -> Records<'a> {
        Records::new(plain, self.header.record_count)
    }
}

/// The batches in a blob, one after the other. Ends behind the first error.
#[derive(Clone, Debug)]
pub struct Batches {
    blob: Bytes,
}

impl Batches {
    /// The batches in `blob`.
    #[must_use]
    pub fn new(blob: Bytes) -> Self {
        Self { blob }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = Batch::take(&mut self.blob).transpose();
        if matches!(batch, Some(Err(_))) {
            self.blob.clear();
        }
        batch
    }
}

/// Writes the offset of the first record and the leader's epoch into a batch. The checksum stays right.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn assign(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    assert!(batch.len() >= BATCH_HEADER_SIZE, "a batch begins with its header");
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[LEADER_EPOCH_AT..MAGIC_AT].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Writes timestamp type and max timestamp into a whole batch, and the checksum anew if that changed anything.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn stamp(batch: &mut [u8], kind: TimestampType, max_timestamp: i64) {
    let header = BatchHeader::parse(batch).expect("a batch begins with its header");
    let attributes = header.attributes.with_timestamp_type(kind);
    if attributes == header.attributes && max_timestamp == header.max_timestamp {
        return;
    }
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.0.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&max_timestamp.to_be_bytes());
    seal(batch);
}

/// The checksum that a whole batch should have.
///
/// # Panics
/// If `batch` is shorter than a header.
#[must_use]
pub fn checksum(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[ATTRIBUTES_AT..])
}

/// Writes the checksum of a whole batch.
pub(super) fn seal(batch: &mut [u8]) {
    let crc = checksum(batch);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}
