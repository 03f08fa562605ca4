//! Batches, a codec for plain ones, and folders to look at.

use std::collections::BTreeMap;
use std::sync::Arc;

use verity_storage::{Disk, MemoryDisk};

use crate::log::{
    BatchCodec, BatchHeader, CONTROL, CodecError, DELETE_HORIZON, HEADER_SIZE, LOG_APPEND_TIME, Log, LogConfig,
    RecordRef, TRANSACTIONAL,
};

pub(super) const DIR: &str = "topics/orders-0";

/// Small segments and indexes, so that little data makes many.
pub(super) const SMALL: LogConfig = LogConfig { segment_bytes: 600, segment_ms: 1_000_000, index_interval_bytes: 150 };

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
}

/// A batch that is yet to be built.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) base_offset: i64,
    pub(super) last_offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) attributes: i16,
    pub(super) producer: (i64, i16, i32),
    pub(super) horizon: Option<i64>,
    pub(super) max_timestamp: Option<i64>,
    pub(super) records: Vec<Record>,
}

impl Draft {
    pub(super) fn at(base_offset: i64) -> Self {
        Self {
            base_offset,
            last_offset: base_offset - 1,
            leader_epoch: 0,
            attributes: 0,
            producer: (-1, -1, -1),
            horizon: None,
            max_timestamp: None,
            records: Vec::new(),
        }
    }

    pub(super) fn epoch(mut self, leader_epoch: i32) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }

    pub(super) fn producer(mut self, id: i64, sequence: i32) -> Self {
        self.producer = (id, 0, sequence);
        self
    }

    pub(super) fn transactional(mut self) -> Self {
        self.attributes |= TRANSACTIONAL;
        self
    }

    pub(super) fn record(mut self, timestamp: i64, key: Option<&str>, value: Option<&str>) -> Self {
        self.last_offset += 1;
        let bytes = |text: &str| text.as_bytes().to_vec();
        let (key, value) = (key.map(bytes), value.map(bytes));
        self.records.push(Record { offset: self.last_offset, timestamp, key, value });
        self
    }

    pub(super) fn put(self, timestamp: i64, key: &str, value: &str) -> Self {
        self.record(timestamp, Some(key), Some(value))
    }

    pub(super) fn tombstone(self, timestamp: i64, key: &str) -> Self {
        self.record(timestamp, Some(key), None)
    }

    /// The marker that ends a producer's transaction.
    pub(super) fn marker(base_offset: i64, producer: i64, commit: bool, timestamp: i64) -> Self {
        let mut draft = Self::at(base_offset).producer(producer, -1).transactional();
        draft.attributes |= CONTROL;
        draft.last_offset = base_offset;
        let key = Some(vec![0, 0, 0, u8::from(commit)]);
        draft.records.push(Record { offset: base_offset, timestamp, key, value: Some(vec![0; 6]) });
        draft
    }

    pub(super) fn build(&self) -> Vec<u8> {
        let first = self.records.first().map_or(-1, |record| record.timestamp);
        let base_timestamp = self.horizon.unwrap_or(first);
        let newest = self.records.iter().map(|record| record.timestamp).max().unwrap_or(-1);
        let max_timestamp = self.max_timestamp.unwrap_or(newest);
        let attributes = self.attributes & !DELETE_HORIZON | if self.horizon.is_some() { DELETE_HORIZON } else { 0 };
        let mut out = Vec::new();
        out.extend_from_slice(&self.base_offset.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.leader_epoch.to_be_bytes());
        out.push(2);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&attributes.to_be_bytes());
        out.extend_from_slice(&i32::try_from(self.last_offset - self.base_offset).unwrap().to_be_bytes());
        out.extend_from_slice(&base_timestamp.to_be_bytes());
        out.extend_from_slice(&max_timestamp.to_be_bytes());
        out.extend_from_slice(&self.producer.0.to_be_bytes());
        out.extend_from_slice(&self.producer.1.to_be_bytes());
        out.extend_from_slice(&self.producer.2.to_be_bytes());
        out.extend_from_slice(&i32::try_from(self.records.len()).unwrap().to_be_bytes());
        for record in &self.records {
            let mut body = vec![0];
            put_varint(&mut body, record.timestamp - base_timestamp);
            put_varint(&mut body, record.offset - self.base_offset);
            put_field(&mut body, record.key.as_deref());
            put_field(&mut body, record.value.as_deref());
            put_varint(&mut body, 0);
            put_varint(&mut out, body.len() as i64);
            out.extend_from_slice(&body);
        }
        let length = i32::try_from(out.len() - 12).unwrap();
        out[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&out[21..]);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        out
    }
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => put_varint(out, -1),
    }
}

fn take_varint(bytes: &mut &[u8]) -> i64 {
    let mut raw = 0u64;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed()
}

fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(bytes)).ok()?;
    let (field, rest) = bytes.split_at(len);
    *bytes = rest;
    Some(field)
}

/// A codec for batches without compression and without record headers.
pub(super) struct Plain;

impl BatchCodec for Plain {
    fn records(&self, batch: &[u8], visit: &mut dyn FnMut(&RecordRef<'_>)) -> Result<(), CodecError> {
        let header = BatchHeader::parse(batch).map_err(|what| CodecError(what.to_owned()))?;
        let mut rest = &batch[HEADER_SIZE..];
        for _ in 0..header.record_count {
            let _ = take_varint(&mut rest);
            rest = &rest[1..];
            let timestamp = header.base_timestamp + take_varint(&mut rest);
            let offset = header.base_offset + take_varint(&mut rest);
            let (key, value) = (take_field(&mut rest), take_field(&mut rest));
            let _ = take_varint(&mut rest);
            let appended = header.attributes & LOG_APPEND_TIME != 0;
            let timestamp = if appended { header.max_timestamp } else { timestamp };
            visit(&RecordRef { offset, timestamp, key, value });
        }
        Ok(())
    }

    fn rebuild(
        &self,
        batch: &[u8],
        delete_horizon_ms: Option<i64>,
        keep: &mut dyn FnMut(&RecordRef<'_>) -> bool,
    ) -> Result<Option<Vec<u8>>, CodecError> {
        let header = BatchHeader::parse(batch).map_err(|what| CodecError(what.to_owned()))?;
        let mut draft = Draft {
            base_offset: header.base_offset,
            last_offset: header.last_offset,
            leader_epoch: header.leader_epoch,
            attributes: header.attributes,
            producer: (header.producer_id, header.producer_epoch, header.base_sequence),
            horizon: delete_horizon_ms,
            max_timestamp: (header.attributes & LOG_APPEND_TIME != 0).then_some(header.max_timestamp),
            records: Vec::new(),
        };
        self.records(batch, &mut |record| {
            if keep(record) {
                draft.records.push(owned(record));
            }
        })?;
        Ok((!draft.records.is_empty()).then(|| draft.build()))
    }
}

pub(super) fn owned(record: &RecordRef<'_>) -> Record {
    Record {
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
    }
}

pub(super) fn log_on(disk: &MemoryDisk, config: LogConfig) -> Log {
    Log::create(Arc::new(disk.clone()), DIR.to_owned(), config).unwrap()
}

/// Appends `count` batches of two records; batch `n` of the log has the timestamps `10 * offset`.
pub(super) fn fill(log: &mut Log, count: usize, epoch: i32) -> Vec<Vec<u8>> {
    let mut batches = Vec::new();
    for _ in 0..count {
        let at = log.next_offset();
        let text = format!("value of {at}, and some more of it");
        let draft = Draft::at(at).epoch(epoch).put(at * 10, "k", &text).put(at * 10 + 10, "l", &text);
        let batch = draft.build();
        log.append(&batch, at * 10).unwrap();
        log.invariants();
        batches.push(batch);
    }
    batches
}

/// The batches in `bytes`.
pub(super) fn split(bytes: &[u8]) -> Vec<(BatchHeader, Vec<u8>)> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let size = BatchHeader::parse(rest).unwrap().size as usize;
        let (batch, behind) = rest.split_at(size);
        out.push((BatchHeader::check(batch).unwrap(), batch.to_vec()));
        rest = behind;
    }
    out
}

/// All batches of the log from its start, by reading it as a consumer does.
pub(super) fn read_all(log: &mut Log, max_bytes: usize) -> Vec<(BatchHeader, Vec<u8>)> {
    let mut out = Vec::new();
    let mut from = log.log_start_offset();
    while let Some(slice) = log.read(from, max_bytes, true, i64::MAX).unwrap() {
        out.extend(split(&slice.bytes().unwrap()));
        assert!(slice.next_offset > from, "a reader gets on");
        from = slice.next_offset;
    }
    out
}

/// The records of the log from its start.
pub(super) fn records(log: &mut Log) -> Vec<Record> {
    let mut out = Vec::new();
    for (_, batch) in read_all(log, 1 << 20) {
        Plain.records(&batch, &mut |record| out.push(owned(record))).unwrap();
    }
    out
}

pub(super) fn file(disk: &dyn Disk, name: &str) -> Vec<u8> {
    let file = disk.open(&format!("{DIR}/{name}")).unwrap();
    let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
    bytes
}

/// Every file in the log's folder.
pub(super) fn folder(disk: &dyn Disk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.list(DIR).unwrap();
    names.into_iter().map(|name| (name.clone(), file(disk, &name))).collect()
}
