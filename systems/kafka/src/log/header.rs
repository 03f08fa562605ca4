//! The fixed 61 bytes in front of every record batch (message format 2).
//!
//! ```text
//! at  0 base offset i64      | at 21 attributes i16        | at 43 producer id i64
//! at  8 length i32           | at 23 last offset delta i32 | at 51 producer epoch i16
//! at 12 leader epoch i32     | at 27 base timestamp i64    | at 53 base sequence i32
//! at 16 magic i8             | at 35 max timestamp i64     | at 57 record count i32
//! at 17 CRC-32C u32 of everything behind it
//! ```
//! Integers are big-endian. The length counts what stands behind it. The checksum leaves out the first 21 bytes, so that
//! a broker may set base offset and leader epoch without a new one; only a whole file's hash protects those.
//!
//! Deliberately absent: records and compression. Whoever compacts brings a codec for them.

/// Bytes of a batch's header.
pub const HEADER_SIZE: usize = 61;

/// Bytes in front of the part that the length field counts.
pub(super) const LENGTH_END: usize = 12;
/// Where the part that the checksum covers begins.
const CRC_END: usize = 21;

const MAGIC: u8 = 2;

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
        let bytes: &[u8; HEADER_SIZE] = bytes.first_chunk().ok_or("a batch header is cut off")?;
        let header = Self {
            base_offset: i64::from_be_bytes(field(bytes, 0)),
            size: size(i32::from_be_bytes(field(bytes, 8)))?,
            leader_epoch: i32::from_be_bytes(field(bytes, 12)),
            crc: u32::from_be_bytes(field(bytes, 17)),
            attributes: i16::from_be_bytes(field(bytes, 21)),
            last_offset: i64::from_be_bytes(field(bytes, 0))
                .checked_add(i64::from(i32::from_be_bytes(field(bytes, 23))))
                .filter(|last| *last < i64::MAX)
                .ok_or("a batch's last offset overflows")?,
            base_timestamp: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp: i64::from_be_bytes(field(bytes, 35)),
            producer_id: i64::from_be_bytes(field(bytes, 43)),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            record_count: i32::from_be_bytes(field(bytes, 57)),
        };
        if bytes[16] != MAGIC {
            return Err("a batch's magic is not 2");
        }
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
        if batch.len() != header.size as usize {
            return Err("a batch's length is not that of its bytes");
        }
        if crc32c::crc32c(&batch[CRC_END..]) != header.crc {
            return Err("a batch's checksum does not hold");
        }
        Ok(header)
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
        let mut out = Vec::with_capacity(HEADER_SIZE);
        let flags = LOG_APPEND_TIME | TRANSACTIONAL | CONTROL;
        let delta = i32::try_from(self.last_offset - self.base_offset).expect("it was read from 32 bits");
        out.extend_from_slice(&self.base_offset.to_be_bytes());
        out.extend_from_slice(&((HEADER_SIZE - LENGTH_END) as i32).to_be_bytes());
        out.extend_from_slice(&self.leader_epoch.to_be_bytes());
        out.push(MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(self.attributes & flags).to_be_bytes());
        out.extend_from_slice(&delta.to_be_bytes());
        out.extend_from_slice(&self.max_timestamp.to_be_bytes());
        out.extend_from_slice(&self.max_timestamp.to_be_bytes());
        out.extend_from_slice(&self.producer_id.to_be_bytes());
        out.extend_from_slice(&self.producer_epoch.to_be_bytes());
        out.extend_from_slice(&self.base_sequence.to_be_bytes());
        out.extend_from_slice(&0i32.to_be_bytes());
        let crc = crc32c::crc32c(&out[CRC_END..]);
        out[CRC_END - 4..CRC_END].copy_from_slice(&crc.to_be_bytes());
        out
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER_SIZE], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has this length")
}

/// The whole batch's size by its length field.
fn size(length: i32) -> Result<u32, &'static str> {
    let size = u32::try_from(length).map_err(|_| "a batch's length is negative")? + LENGTH_END as u32;
    if (size as usize) < HEADER_SIZE {
        return Err("a batch's length is less than that of its header");
    }
    Ok(size)
}
