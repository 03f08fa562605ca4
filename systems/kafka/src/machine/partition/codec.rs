//! How compaction reads and rebuilds batches: by the wire's own codec.
//!
//! Deliberately absent: any knowledge of keys and offsets (the log's).

use bytes::Bytes;

use crate::log::{BatchCodec, CodecError, RecordRef};
use crate::wire::{Batch, BatchError, DECOMPRESSED_SIZE_MAX, Rebuilt, Record, rebuild};

/// The wire's codec.
#[derive(Clone, Copy, Debug)]
pub(super) struct WireCodec;

fn line(error: BatchError) -> CodecError {
    CodecError(error.to_string())
}

/// The batch, and its records decompressed.
fn open(bytes: &[u8]) -> Result<(Batch, Bytes), CodecError> {
    let mut blob = Bytes::copy_from_slice(bytes);
    let batch = Batch::take(&mut blob).map_err(line)?.ok_or_else(|| CodecError("it is empty".to_owned()))?;
    // A batch without records has nothing that is compressed.
    let plain = if batch.header().record_count == 0 {
        Bytes::new()
    } else {
        batch.decompress(DECOMPRESSED_SIZE_MAX).map_err(line)?
    };
    Ok((batch, plain))
}

fn seen<'a>(batch: &Batch, record: &Record<'a>) -> RecordRef<'a> {
    let header = batch.header();
    RecordRef {
        offset: header.base_offset + i64::from(record.offset_delta),
        timestamp: header.timestamp(record.timestamp_delta),
        key: record.key,
        value: record.value,
    }
}

impl BatchCodec for WireCodec {
    fn records(&self, bytes: &[u8], visit: &mut dyn FnMut(&RecordRef<'_>)) -> Result<(), CodecError> {
        let (batch, plain) = open(bytes)?;
        for record in batch.records(&plain) {
            visit(&seen(&batch, &record.map_err(line)?));
        }
        Ok(())
    }

    fn rebuild(
        &self,
        bytes: &[u8],
        delete_horizon_ms: Option<i64>,
        keep: &mut dyn FnMut(&RecordRef<'_>) -> bool,
    ) -> Result<Option<Vec<u8>>, CodecError> {
        let (batch, plain) = open(bytes)?;
        let rebuilt = rebuild(&batch, &plain, delete_horizon_ms, |record| keep(&seen(&batch, record))).map_err(line)?;
        Ok(match rebuilt {
            Rebuilt::Unchanged => Some(bytes.to_vec()),
            Rebuilt::Batch(bytes) => Some(bytes.to_vec()),
            Rebuilt::Empty => None,
        })
    }
}
