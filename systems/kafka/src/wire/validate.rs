//! What a leader asks of the batch that a producer sends, in the order in which Kafka asks it.
//!
//! - upon no batch, more than one, or bytes behind it: INVALID_RECORD.
//! - upon magic 0 or 1: INVALID_RECORD; upon one that never was, or a length below a header's: CORRUPT_MESSAGE.
//! - upon a base offset other than 0: INVALID_RECORD.
//! - upon more bytes than `max.message.bytes`: MESSAGE_TOO_LARGE, on which Java's producer splits the batch.
//! - upon a wrong checksum: CORRUPT_MESSAGE, on which clients send the same again.
//! - upon a codec without a name, or zstd below Produce 7: UNSUPPORTED_COMPRESSION_TYPE.
//! - upon a record count that is not the span of its offsets, a control batch, or a producer without a sequence:
//!   INVALID_RECORD.
//! - upon records that cannot be decompressed or read, or whose offsets are not 0, 1, 2, ..: INVALID_RECORD. Sending the
//!   same bytes again would not help, so it is not CORRUPT_MESSAGE.
//! - upon more decompressed bytes than are allowed: MESSAGE_TOO_LARGE.
//! - upon a record without a key in a compacted topic: INVALID_RECORD, with the record's index.
//! - upon a timestamp too far from now, or one that claims to be the broker's: INVALID_TIMESTAMP, with the record's index.
//!
//! What passes may still need its timestamps written anew: see [`Accepted::stamp`].
//!
//! Deliberately absent: sequences and transactions, which need the partition's state.

use bytes::Bytes;

use super::batch::{Batch, BatchError, BatchHeader, NO_TIMESTAMP, TimestampType};
use super::compress::{Codec, CompressionError, DECOMPRESSED_SIZE_MAX};
use super::error::ErrorCode;

/// How many records of a batch are named in an error.
pub const RECORD_ERRORS_MAX: usize = 100;

/// What the topic asks for.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// `max.message.bytes`.
    pub batch_size_max: usize,
    /// How large the records may become.
    pub decompressed_size_max: usize,
    /// True if every record needs a key.
    pub compacted: bool,
    /// True if zstd may be used: Produce 7 and above.
    pub zstd: bool,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// Now, in milliseconds since 1970.
    pub now_ms: i64,
    /// `message.timestamp.before.max.ms`.
    pub before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub after_max_ms: i64,
}

impl Default for Rules {
    /// Kafka's defaults at the beginning of time.
    fn default() -> Self {
        Self {
            batch_size_max: 1_048_588,
            decompressed_size_max: DECOMPRESSED_SIZE_MAX,
            compacted: false,
            zstd: true,
            timestamp_type: TimestampType::CreateTime,
            now_ms: 0,
            before_max_ms: i64::MAX,
            after_max_ms: 3_600_000,
        }
    }
}

/// A batch that may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its header, as it came.
    pub header: BatchHeader,
    /// The timestamp that the batch must carry as its latest.
    pub max_timestamp: i64,
    /// What [`super::stamp`] must write into it first, if anything: the broker's time, or the true latest timestamp where
    /// the client's is wrong.
    pub stamp: Option<(TimestampType, i64)>,
}

/// A batch that may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The partition's error code.
    pub code: ErrorCode,
    /// What is wrong, for people.
    pub message: String,
    /// The records at fault by their index, if it is the fault of some.
    pub records: Vec<(i32, String)>,
}

fn reject<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Rejected> {
    Err(Rejected { code, message: message.into(), records: Vec::new() })
}

impl From<BatchError> for Rejected {
    fn from(error: BatchError) -> Self {
        let code = match error {
            BatchError::Length(_) | BatchError::Crc { .. } => ErrorCode::CORRUPT_MESSAGE,
            BatchError::Magic(magic) if !(0..=2).contains(&magic) => ErrorCode::CORRUPT_MESSAGE,
            BatchError::Codec(_) => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            BatchError::Compression(CompressionError::TooLarge { .. }) => ErrorCode::MESSAGE_TOO_LARGE,
            BatchError::Truncated
            | BatchError::Magic(_)
            | BatchError::Compression(CompressionError::Malformed(_))
            | BatchError::Record { .. }
            | BatchError::TrailingBytes => ErrorCode::INVALID_RECORD,
        };
        Self { code, message: error.to_string(), records: Vec::new() }
    }
}

/// Judges what a producer sent for one partition.
///
/// # Errors
/// [`Rejected`].
pub fn validate(records: &Bytes, rules: &Rules) -> Result<Accepted, Rejected> {
    let mut rest = records.clone();
    let Some(batch) = Batch::take(&mut rest)? else {
        return reject(ErrorCode::INVALID_RECORD, "there is no batch");
    };
    if !rest.is_empty() {
        return reject(ErrorCode::INVALID_RECORD, "there is more than one batch");
    }
    validate_header(&batch, rules)?;
    let max_timestamp = validate_records(&batch, rules)?;
    let header = *batch.header();
    let (kind, max_timestamp) = match rules.timestamp_type {
        TimestampType::CreateTime => (TimestampType::CreateTime, max_timestamp),
        TimestampType::LogAppendTime => (TimestampType::LogAppendTime, rules.now_ms),
    };
    let right = kind == header.attributes.timestamp_type() && max_timestamp == header.max_timestamp;
    Ok(Accepted { header, max_timestamp, stamp: (!right).then_some((kind, max_timestamp)) })
}

fn validate_header(batch: &Batch, rules: &Rules) -> Result<(), Rejected> {
    let header = batch.header();
    if header.base_offset != 0 {
        let message = format!("the base offset is {} and not 0", header.base_offset);
        return reject(ErrorCode::INVALID_RECORD, message);
    }
    if header.size() > rules.batch_size_max {
        let message = format!("a batch of {} bytes, above the limit of {}", header.size(), rules.batch_size_max);
        return reject(ErrorCode::MESSAGE_TOO_LARGE, message);
    }
    batch.verify()?;
    if header.codec()? == Codec::Zstd && !rules.zstd {
        return reject(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, "zstd needs Produce version 7");
    }
    let (count, last) = (header.record_count, header.last_offset_delta);
    if count <= 0 || last < 0 || i64::from(last) + 1 != i64::from(count) {
        let message = format!("a batch of {count} records whose last offset is {last}");
        return reject(ErrorCode::INVALID_RECORD, message);
    }
    if header.attributes.is_control() {
        return reject(ErrorCode::INVALID_RECORD, "clients may not write control records");
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        let message = format!("sequence {} of producer {}", header.base_sequence, header.producer_id);
        return reject(ErrorCode::INVALID_RECORD, message);
    }
    Ok(())
}

/// Looks at every record; gives the latest timestamp.
fn validate_records(batch: &Batch, rules: &Rules) -> Result<i64, Rejected> {
    let header = batch.header();
    let plain = batch.decompress(rules.decompressed_size_max)?;
    let mut max_timestamp = NO_TIMESTAMP;
    let mut faults: Vec<(ErrorCode, i32, String)> = Vec::new();
    let mut fault_count = 0usize;
    for (index, record) in (0i32..).zip(batch.records(&plain)) {
        let record = record?;
        let timestamp = header.timestamp(record.timestamp_delta);
        let fault = if record.offset_delta != index {
            Some((ErrorCode::INVALID_RECORD, format!("offset {} in place of {index}", record.offset_delta)))
        } else if rules.compacted && record.key.is_none() {
            Some((ErrorCode::INVALID_RECORD, "a compacted topic takes no record without a key".to_owned()))
        } else {
            timestamp_fault(header, timestamp, rules).map(|message| (ErrorCode::INVALID_TIMESTAMP, message))
        };
        max_timestamp = max_timestamp.max(timestamp);
        if let Some((code, message)) = fault {
            fault_count += 1;
            if faults.len() < RECORD_ERRORS_MAX {
                faults.push((code, index, message));
            }
        }
    }
    let Some((code, _, first)) = faults.first() else { return Ok(max_timestamp) };
    let message = format!("{fault_count} records are at fault; the first: {first}");
    Err(Rejected {
        code: *code,
        message,
        records: faults.into_iter().map(|(_, index, message)| (index, message)).collect(),
    })
}

fn timestamp_fault(header: &BatchHeader, timestamp: i64, rules: &Rules) -> Option<String> {
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Some("a producer may not set the broker's time".to_owned());
    }
    if rules.timestamp_type == TimestampType::LogAppendTime || timestamp == NO_TIMESTAMP {
        return None;
    }
    let age = rules.now_ms.saturating_sub(timestamp);
    if age > rules.before_max_ms || age.saturating_neg() > rules.after_max_ms {
        return Some(format!("timestamp {timestamp} is too far from {}", rules.now_ms));
    }
    None
}
