//! Kafka's wire protocol as the world's clients speak it: few requests, in one version each, by hand, so that the clients
//! share nothing with what they judge.
//!
//! A batch holds one record, whose value is eight bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The requests that clients make: key and version.
pub(super) const PRODUCE: (i16, i16) = (0, 7);
/// Transactions v2: whoever leads the partition adds it to the transaction.
pub(super) const PRODUCE_ADDING: (i16, i16) = (0, 12);
pub(super) const FETCH: (i16, i16) = (1, 4);
pub(super) const LIST_OFFSETS: (i16, i16) = (2, 1);
pub(super) const METADATA: (i16, i16) = (3, 1);
/// The first version that tells the ids of topics by their names.
pub(super) const METADATA_WITH_IDS: (i16, i16) = (3, 12);
pub(super) const OFFSET_COMMIT: (i16, i16) = (8, 3);
pub(super) const OFFSET_FETCH: (i16, i16) = (9, 3);
pub(super) const FIND_COORDINATOR: (i16, i16) = (10, 1);
/// The last version in which a member joins at once and learns its id with it.
pub(super) const JOIN_GROUP: (i16, i16) = (11, 3);
pub(super) const HEARTBEAT: (i16, i16) = (12, 2);
pub(super) const LEAVE_GROUP: (i16, i16) = (13, 2);
pub(super) const SYNC_GROUP: (i16, i16) = (14, 2);
pub(super) const CREATE_TOPICS: (i16, i16) = (19, 4);
pub(super) const DELETE_RECORDS: (i16, i16) = (21, 1);
pub(super) const INIT_PRODUCER_ID: (i16, i16) = (22, 1);
pub(super) const ADD_PARTITIONS: (i16, i16) = (24, 0);
/// The last version that leaves the epoch as it is.
pub(super) const END_TXN_OLD: (i16, i16) = (26, 4);
pub(super) const END_TXN: (i16, i16) = (26, 5);
pub(super) const INCREMENTAL_ALTER_CONFIGS: (i16, i16) = (44, 1);
pub(super) const ALTER_REASSIGNMENTS: (i16, i16) = (45, 0);
/// The first version in which a member names itself.
pub(super) const CONSUMER_GROUP_HEARTBEAT: (i16, i16) = (68, 1);
pub(super) const SHARE_GROUP_HEARTBEAT: (i16, i16) = (76, 1);
pub(super) const SHARE_FETCH: (i16, i16) = (78, 2);
pub(super) const SHARE_ACKNOWLEDGE: (i16, i16) = (79, 2);
pub(super) const DESCRIBE_SHARE_OFFSETS: (i16, i16) = (90, 1);

/// Requests whose headers are flexible.
const FLEXIBLE: [(i16, i16); 11] = [
    METADATA_WITH_IDS,
    END_TXN,
    END_TXN_OLD,
    PRODUCE_ADDING,
    INCREMENTAL_ALTER_CONFIGS,
    ALTER_REASSIGNMENTS,
    CONSUMER_GROUP_HEARTBEAT,
    SHARE_GROUP_HEARTBEAT,
    SHARE_FETCH,
    SHARE_ACKNOWLEDGE,
    DESCRIBE_SHARE_OFFSETS,
];

const BATCH_HEADER: usize = 61;
/// From here on the checksum covers a batch.
pub(super) const CHECKED: usize = 21;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// A producer, as its batches name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// A record's key and value, as far as it has them.
pub(super) type Entry = (Option<u64>, Option<u64>);

/// What a fetch brought of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A record's value.
    Value(u64),
    /// A record's key and value; a tombstone has none.
    Keyed(u64, Option<u64>),
    /// Compaction has left no record.
    Nothing,
    /// A transaction ends here.
    Marker {
        /// With a commit.
        commit: bool,
    },
}

/// A batch that was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) offset: i64,
    pub(super) next: i64,
    pub(super) producer: i64,
    pub(super) transactional: bool,
    pub(super) found: Found,
}

/// The answer to a fetch of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fetched {
    pub(super) error: i16,
    pub(super) high_watermark: i64,
    pub(super) last_stable: i64,
    /// Producers and the first offsets of their aborted transactions.
    pub(super) aborted: Vec<(i64, i64)>,
    pub(super) batches: Vec<Batch>,
}

pub(super) fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("names are short"));
    out.put_slice(text.as_bytes());
}

/// A text as flexible versions have it.
pub(super) fn put_compact(out: &mut BytesMut, text: &str) {
    out.put_u8(u8::try_from(text.len() + 1).expect("names are short"));
    out.put_slice(text.as_bytes());
}

/// Passes a text as flexible versions have it, or none.
pub(super) fn skip_compact(body: &mut Bytes) {
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = body.get_u8();
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    body.advance(length.saturating_sub(1));
}

/// A request with its header and length.
pub(super) fn request((key, version): (i16, i16), correlation: i32, body: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i16(key);
    out.put_i16(version);
    out.put_i32(correlation);
    put_string(&mut out, "world");
    if FLEXIBLE.contains(&(key, version)) {
        // No tagged fields.
        out.put_u8(0);
    }
    body(&mut out);
    let length = u32::try_from(out.len() - 4).expect("requests are short");
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.freeze()
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut left = (value << 1 ^ value >> 63) as u64;
    while left >= 0x80 {
        out.put_u8(left as u8 | 0x80);
        left >>= 7;
    }
    out.put_u8(left as u8);
}

fn take_varint(bytes: &mut Bytes) -> Option<i64> {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = bytes.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
}

/// A batch of one record without a key.
pub(super) fn batch(value: u64, producer: Producer, sequence: i32, transactional: bool) -> Bytes {
    keyed_batch((None, Some(value)), producer, sequence, transactional)
}

/// A batch of one record.
pub(super) fn keyed_batch(entry: Entry, producer: Producer, sequence: i32, transactional: bool) -> Bytes {
    let mut record = BytesMut::new();
    record.put_u8(0);
    put_varint(&mut record, 0);
    put_varint(&mut record, 0);
    for number in [entry.0, entry.1] {
        put_varint(&mut record, number.map_or(-1, |_| 8));
        number.iter().for_each(|number| record.put_u64(*number));
    }
    put_varint(&mut record, 0);
    let mut tail = BytesMut::new();
    tail.put_i16(if transactional { TRANSACTIONAL } else { 0 });
    tail.put_i32(0);
    // Nobody said when.
    tail.put_i64(-1);
    tail.put_i64(-1);
    tail.put_i64(producer.id);
    tail.put_i16(producer.epoch);
    tail.put_i32(sequence);
    tail.put_i32(1);
    put_varint(&mut tail, i64::try_from(record.len()).expect("a record is short"));
    tail.put_slice(&record);
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32(i32::try_from(tail.len() + 9).expect("a batch is short"));
    out.put_i32(-1);
    out.put_u8(2);
    out.put_u32(crc32c::crc32c(&tail));
    out.put_slice(&tail);
    out.freeze()
}

fn take_batch(bytes: &mut Bytes) -> Result<Batch, String> {
    let short = || "a batch that ends early".to_owned();
    let header = bytes.get(..BATCH_HEADER).ok_or_else(short)?;
    let mut fields = Bytes::copy_from_slice(header);
    let offset = fields.get_i64();
    let length = usize::try_from(fields.get_i32()).map_err(|_| short())?;
    fields.advance(5);
    let checksum = fields.get_u32();
    let attributes = fields.get_i16();
    let last = fields.get_i32();
    fields.advance(16);
    let producer = fields.get_i64();
    fields.advance(6);
    let count = fields.get_i32();
    let whole = bytes.get(..12 + length).ok_or_else(short)?;
    if crc32c::crc32c(&whole[CHECKED..]) != checksum {
        return Err(format!("the batch at {offset} has a wrong checksum"));
    }
    let mut records = Bytes::copy_from_slice(&whole[BATCH_HEADER..]);
    let found = match count {
        0 => Some(Found::Nothing),
        _ => take_record(&mut records, attributes & CONTROL != 0),
    };
    let found = found.ok_or("a record that does not decode")?;
    bytes.advance(12 + length);
    let transactional = attributes & TRANSACTIONAL != 0;
    Ok(Batch { offset, next: offset + i64::from(last) + 1, producer, transactional, found })
}

fn take_record(bytes: &mut Bytes, control: bool) -> Option<Found> {
    take_varint(bytes)?;
    bytes.try_get_u8().ok()?;
    take_varint(bytes)?;
    take_varint(bytes)?;
    let size = take_varint(bytes)?;
    if control {
        bytes.try_get_i16().ok()?;
        return Some(Found::Marker { commit: bytes.try_get_i16().ok()? == 1 });
    }
    let key = take_number(bytes, size)?;
    let size = take_varint(bytes)?;
    match (key, take_number(bytes, size)?) {
        (Some(key), value) => Some(Found::Keyed(key, value)),
        (None, value) => value.map(Found::Value),
    }
}

/// A key or a value of this size: eight bytes, or none.
fn take_number(bytes: &mut Bytes, size: i64) -> Option<Option<u64>> {
    match size {
        -1 => Some(None),
        8 => bytes.try_get_u64().ok().map(Some),
        _ => None,
    }
}

/// The number that flexible versions write in front of texts and arrays: one more than there are.
pub(super) fn take_count(bytes: &mut Bytes) -> Option<usize> {
    let (mut value, mut shift) = (0usize, 0);
    loop {
        let byte = bytes.try_get_u8().ok()?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value.checked_sub(1);
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
}

/// The error and the offset of the one partition of an answer to [`PRODUCE_ADDING`].
pub(super) fn take_produced(body: &mut Bytes) -> Option<(i16, i64)> {
    body.try_get_u8().ok()?;
    (take_count(body)? == 1).then_some(())?;
    let name = take_count(body)?;
    body.advance(name.min(body.remaining()));
    (take_count(body)? == 1).then_some(())?;
    body.try_get_i32().ok()?;
    Some((body.try_get_i16().ok()?, body.try_get_i64().ok()?))
}

pub(super) fn take_string(bytes: &mut Bytes) -> String {
    let length = usize::try_from(bytes.get_i16()).unwrap_or(0);
    String::from_utf8_lossy(&bytes.split_to(length)).into_owned()
}

/// The head of an answer about the one partition of one topic.
pub(super) fn skip_one_topic(body: &mut Bytes) {
    body.advance(4);
    take_string(body);
    body.advance(8);
}

/// A fetch from the one partition of a topic.
pub(super) fn fetch(topic: &str, from: i64, committed: bool, correlation: i32) -> Bytes {
    request(FETCH, correlation, |out| {
        out.put_i32(-1);
        out.put_i32(100);
        out.put_i32(1);
        out.put_i32(1 << 20);
        out.put_u8(u8::from(committed));
        out.put_i32(1);
        put_string(out, topic);
        out.put_i32(1);
        out.put_i32(0);
        out.put_i64(from);
        out.put_i32(1 << 20);
    })
}

/// The answer to a fetch of one partition.
pub(super) fn take_fetched(mut body: Bytes) -> Result<Fetched, String> {
    body.advance(4);
    if body.get_i32() == 0 {
        return Err("a fetch was answered without its topic".to_owned());
    }
    take_string(&mut body);
    body.advance(8);
    let (error, high_watermark, last_stable) = (body.get_i16(), body.get_i64(), body.get_i64());
    let count = body.get_i32();
    let aborted = (0..count.max(0)).map(|_| (body.get_i64(), body.get_i64())).collect();
    let size = usize::try_from(body.get_i32()).unwrap_or(0);
    let batches = take_batches(body.split_to(size))?;
    Ok(Fetched { error, high_watermark, last_stable, aborted, batches })
}

/// All batches of these bytes.
pub(super) fn take_batches(mut records: Bytes) -> Result<Vec<Batch>, String> {
    let mut batches = Vec::new();
    while !records.is_empty() {
        batches.push(take_batch(&mut records)?);
    }
    Ok(batches)
}

/// The next answer's correlation id and body.
pub(super) fn next_answer(buffer: &mut BytesMut) -> Option<(i32, Bytes)> {
    let length = usize::try_from(i32::from_be_bytes(buffer.get(..4)?.try_into().ok()?)).ok()?;
    if buffer.len() < 4 + length {
        return None;
    }
    buffer.advance(4);
    let mut frame = buffer.split_to(length).freeze();
    Some((frame.get_i32(), frame))
}
