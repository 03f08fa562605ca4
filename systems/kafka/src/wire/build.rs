//! Makes batches: for the client that produces, for transaction markers, and for compaction.
//!
//! A marker is a control batch of one record. Its key says which marker (version, then 0 for abort or 1 for commit), its
//! value who says so (version, then the coordinator's epoch).

use bytes::BytesMut;

use super::batch::{
    Attributes, BATCH_HEADER_SIZE, BATCH_PREFIX_SIZE, Batch, BatchError, BatchHeader, NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP, TimestampType, seal,
};
use super::compress::Codec;
use super::record::{Headers, Record, put_record};

/// Collects records into a batch.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    codec: Codec,
    plain: Vec<u8>,
    scratch: Vec<u8>,
    base_timestamp: Option<i64>,
}

impl BatchBuilder {
    /// An empty batch with base offset 0, no producer and timestamps of creation.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        let header = BatchHeader {
            base_offset: 0,
            length: 0,
            leader_epoch: -1,
            crc: 0,
            attributes: Attributes::default().with_codec(codec),
            last_offset_delta: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            base_sequence: NO_SEQUENCE,
            record_count: 0,
        };
        Self { header, codec, plain: Vec::new(), scratch: Vec::new(), base_timestamp: None }
    }

    /// At this offset, appended by a leader of this epoch.
    #[must_use]
    pub fn at(mut self, base_offset: i64, leader_epoch: i32) -> Self {
        self.header.base_offset = base_offset;
        self.header.leader_epoch = leader_epoch;
        self
    }

    /// By this idempotent producer.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// As part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.header.attributes = self.header.attributes.with_transactional(true);
        self
    }

    fn control(mut self) -> Self {
        self.header.attributes = self.header.attributes.with_control(true);
        self
    }

    /// How many records it has.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.header.record_count
    }

    /// The size that it has so far, not compressed.
    #[must_use]
    pub fn size(&self) -> usize {
        BATCH_HEADER_SIZE + self.plain.len()
    }

    /// Appends a record behind the last.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        let offset_delta = self.header.last_offset_delta + 1;
        self.put(offset_delta, timestamp, key, value, headers.iter().copied());
    }

    fn put<'h>(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl ExactSizeIterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) {
        let base = *self.base_timestamp.get_or_insert(timestamp);
        let record = Record {
            timestamp_delta: timestamp.saturating_sub(base),
            offset_delta,
            key,
            value,
            headers: Headers::default(),
        };
        put_record(&mut self.plain, &mut self.scratch, &record, headers);
        let header = &mut self.header;
        header.last_offset_delta = header.last_offset_delta.max(offset_delta);
        header.max_timestamp = header.max_timestamp.max(timestamp);
        header.record_count += 1;
    }

    /// The batch.
    ///
    /// # Panics
    /// If it has no record: only compaction leaves such batches, and makes them by [`empty_batch`].
    #[must_use]
    pub fn build(mut self) -> BytesMut {
        assert!(self.header.record_count > 0, "a batch has records");
        self.header.base_timestamp = self.base_timestamp.unwrap_or(NO_TIMESTAMP);
        assemble(self.header, &self.codec.compress(&self.plain))
    }
}

fn assemble(mut header: BatchHeader, packed: &[u8]) -> BytesMut {
    let size = BATCH_HEADER_SIZE + packed.len();
    header.length = i32::try_from(size - BATCH_PREFIX_SIZE).expect("batches are bounded before they are built");
    let mut batch = BytesMut::zeroed(size);
    batch[BATCH_HEADER_SIZE..].copy_from_slice(packed);
    header.write(&mut batch);
    seal(&mut batch);
    batch
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// Nothing of it counts.
    Abort,
    /// All of it counts.
    Commit,
}

/// The batch that ends a producer's transaction in one partition.
#[must_use]
pub fn marker_batch(
    marker: Marker,
    producer_id: i64,
    producer_epoch: i16,
    coordinator_epoch: i32,
    timestamp: i64,
) -> BytesMut {
    let key = [0, 0, 0, u8::from(marker == Marker::Commit)];
    let mut value = [0; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    let mut batch =
        BatchBuilder::new(Codec::None).producer(producer_id, producer_epoch, NO_SEQUENCE).transactional().control();
    batch.push(timestamp, Some(&key), Some(&value), &[]);
    batch.build()
}

/// Which marker a record of a control batch is, and the epoch of the coordinator that wrote it. `None` for other control
/// records, which consumers skip.
#[must_use]
pub fn parse_marker(record: &Record<'_>) -> Option<(Marker, i32)> {
    let marker = match record.key?.get(2..4)? {
        [0, 0] => Marker::Abort,
        [0, 1] => Marker::Commit,
        _ => return None,
    };
    let epoch = record.value?.get(2..)?.first_chunk()?;
    Some((marker, i32::from_be_bytes(*epoch)))
}

/// What is left of a batch after compaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebuilt {
    /// All of it; the batch can stay as it is.
    Unchanged,
    /// Some records.
    Batch(BytesMut),
    /// No record. Drop it, or keep [`empty_batch`] where the producer's sequence or the last offset must not be lost.
    Empty,
}

/// Keeps the records that `keep` says true of. Offsets, sequence and producer stay as they were. `delete_horizon` is when
/// tombstones in it may go; without one the batch has none, whatever it had.
///
/// # Errors
/// [`BatchError`].
pub fn rebuild(
    batch: &Batch,
    plain: &[u8],
    delete_horizon: Option<i64>,
    mut keep: impl FnMut(&Record<'_>) -> bool,
) -> Result<Rebuilt, BatchError> {
    let old = batch.header();
    let horizon = delete_horizon;
    let mut builder = BatchBuilder::new(old.codec()?);
    builder.header = BatchHeader { record_count: 0, max_timestamp: NO_TIMESTAMP, base_timestamp: NO_TIMESTAMP, ..*old };
    builder.header.attributes = old.attributes.with_delete_horizon(horizon.is_some());
    builder.base_timestamp = horizon;
    for record in batch.records(plain) {
        let record = record?;
        if keep(&record) {
            let timestamp = old.timestamp(record.timestamp_delta);
            builder.put(record.offset_delta, timestamp, record.key, record.value, record.headers);
        }
    }
    if builder.header.record_count == old.record_count && horizon == old.delete_horizon() {
        return Ok(Rebuilt::Unchanged);
    }
    if builder.header.record_count == 0 {
        return Ok(Rebuilt::Empty);
    }
    if old.attributes.timestamp_type() == TimestampType::LogAppendTime {
        builder.header.max_timestamp = old.max_timestamp;
    }
    // Records cannot lie behind what the batch's offsets span, and the span itself must not shrink.
    builder.header.last_offset_delta = old.last_offset_delta;
    Ok(Rebuilt::Batch(builder.build()))
}

/// A batch without records that keeps the offsets and the producer's state of `old`.
#[must_use]
pub fn empty_batch(old: &BatchHeader) -> BytesMut {
    let attributes = old.attributes.with_codec(Codec::None).with_delete_horizon(false);
    let header = BatchHeader { attributes, base_timestamp: old.max_timestamp, record_count: 0, ..*old };
    assemble(header, &[])
}
