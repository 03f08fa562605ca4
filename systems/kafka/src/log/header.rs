//! What a log goes by in a batch: its header, once it is known to make sense at a place in a log.
//!
//! The wire reads the header's fields; here offsets must not be negative nor overflow, and a whole batch's size and
//! checksum must hold. The checksum leaves out base offset and leader epoch, so that a broker may set them without a new
//! one; only a whole file's hash protects those.
//!
//! Deliberately absent: records and compression. Whoever compacts brings a codec for them.

use crate::wire::{self, Attributes, BATCH_HEADER_SIZE, BatchError};

/// Bytes of a batch's header.
pub const HEADER_SIZE: usize = BATCH_HEADER_SIZE;

/// Attribute bit: timestamps are the broker's, and all records have the batch's largest.
pub const LOG_APPEND_TIME: i16 = 1 << 3;
/// Attribute bit: the batch is part of a transaction.
pub const TRANSACTIONAL: i16 = 1 << 4;
/// Attribute bit: the batch holds a control record.
pub const CONTROL: i16 = 1 << 5;
/// Attribute bit: the base timestamp is the moment from which the batch's tombstones or marker may be dropped (KIP-534).
pub const DELETE_HORIZON: i16 = 1 << 6;

/// What a batch says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of its first record, or what that was before compaction.
    pub base_offset: i64,
    /// Bytes of the whole batch, the header included.
    pub size: u32,
    /// Epoch of the leader that appended it; -1 if none is known.
    pub leader_epoch: i32,
    /// CRC-32C of everything behind the checksum.
    pub crc: u32,
    /// Codec (bits 0 to 2) and flags.
    pub attributes: i16,
    /// Offset of its last record, or what that was before compaction.
    pub last_offset: i64,
    /// What its records' timestamps are relative to; the delete horizon if that flag is set.
    pub base_timestamp: i64,
    /// The largest timestamp of its records; -1 if they have none.
    pub max_timestamp: i64,
    /// Who wrote it; -1 if that is not known.
    pub producer_id: i64,
    /// The producer's epoch; -1 if it has none.
    pub producer_epoch: i16,
    /// The producer's number for its first record; -1 if it has none.
    pub base_sequence: i32,
    /// How many records it holds; fewer than its offsets span after compaction.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which may end behind it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let read = wire::BatchHeader::parse(bytes).map_err(|error| match error {
            BatchError::Truncated => "a batch header is cut off",
            BatchError::Magic(_) => "a batch's magic is not 2",
            BatchError::Length(length) if length < 0 => "a batch's length is negative",
            _ => "a batch's length is less than that of its header",
        })?;
        let header = Self {
            base_offset: read.base_offset,
            size: u32::try_from(read.size()).map_err(|_| "a batch is too long")?,
            leader_epoch: read.leader_epoch,
            crc: read.crc,
            attributes: read.attributes.0,
            last_offset: read
                .base_offset
                .checked_add(i64::from(read.last_offset_delta))
                .filter(|last| *last < i64::MAX)
                .ok_or("a batch's last offset overflows")?,
            base_timestamp: read.base_timestamp,
            max_timestamp: read.max_timestamp,
            producer_id: read.producer_id,
            producer_epoch: read.producer_epoch,
            base_sequence: read.base_sequence,
            record_count: read.record_count,
        };
        if header.base_offset < 0 || header.last_offset < header.base_offset {
            return Err("a batch's offsets are negative");
        }
        if header.record_count < 0 {
            return Err("a batch's record count is negative");
        }
        Ok(header)
    }

    /// Reads the header of `batch`, which is one whole batch and nothing else, and checks its checksum.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn check(batch: &[u8]) -> Result<Self, &'static str> {
        let header = Self::parse(batch)?;
        header.matches(batch)?;
        Ok(header)
    }

    /// Checks length and checksum of a whole batch, which may still have another offset and epoch.
    pub(super) fn matches(&self, batch: &[u8]) -> Result<(), &'static str> {
        if batch.len() != self.size as usize {
            return Err("a batch's length is not that of its bytes");
        }
        if wire::checksum(batch) != self.crc {
            return Err("a batch's checksum does not hold");
        }
        Ok(())
    }

    /// True if the batch is part of a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// True if the batch holds a control record.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// From when on its tombstones or marker may be dropped, once compaction has said so.
    #[must_use]
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// The batch without its records: what keeps a producer's sequence when compaction took everything else.
    pub(super) fn emptied(&self) -> Vec<u8> {
        let header = wire::BatchHeader {
            base_offset: self.base_offset,
            length: 0,
            leader_epoch: self.leader_epoch,
            crc: 0,
            attributes: Attributes(self.attributes),
            last_offset_delta: i32::try_from(self.last_offset - self.base_offset).expect("it was read from 32 bits"),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: 0,
        };
        wire::empty_batch(&header).to_vec()
    }
}
