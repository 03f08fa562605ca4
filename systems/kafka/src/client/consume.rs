//! Records out of what a fetch brought.
//!
//! - upon a batch that begins before the offset that was asked for: its first records are skipped;
//! - upon a control batch: it is not for consumers. A marker of an abort ends what its producer had aborted;
//! - upon a record of an aborted transaction, for a reader of committed records: it is skipped (`KIP-98`). The broker says
//!   which producers have aborted transactions among the batches, and from which offset on each;
//! - upon a batch that is cut off at the end: it comes again with the next fetch.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use crate::wire::message::FetchPartitionData;
use crate::wire::{Batch, BatchError, DECOMPRESSED_SIZE_MAX, Headers, Marker, parse_marker};

/// A record, for a consumer.
#[derive(Clone, Copy, Debug)]
pub struct Consumed<'a> {
    /// Where it stands.
    pub offset: i64,
    /// Its time in milliseconds.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// Hands each record from `from` on to `on`, until that says false. The offset to go on from.
///
/// # Errors
/// [`BatchError`].
pub fn consume(
    data: &FetchPartitionData,
    from: i64,
    committed: bool,
    mut on: impl FnMut(Consumed<'_>) -> bool,
) -> Result<i64, BatchError> {
    let mut aborted: Vec<(i64, i64)> = if committed {
        data.aborted_transactions.iter().flatten().map(|one| (one.first_offset, one.producer_id)).collect()
    } else {
        Vec::new()
    };
    aborted.sort_unstable();
    let (mut aborted, mut aborting) = (VecDeque::from(aborted), BTreeSet::new());
    let records = data.records.clone().unwrap_or_default();
    let mut blob: Bytes = records.read().expect("what came from a node is in memory");
    let mut next = from;
    loop {
        let batch = match Batch::take(&mut blob) {
            Ok(Some(batch)) => batch,
            Ok(None) | Err(BatchError::Truncated) => return Ok(next),
            Err(error) => return Err(error),
        };
        let header = batch.header();
        let behind = header.next_offset() <= from;
        batch.verify()?;
        while let Some((_, producer)) = aborted.pop_front_if(|(first, _)| *first <= header.last_offset()) {
            aborting.insert(producer);
        }
        // What stands in front of the offset may still end what was aborted.
        if behind && !header.attributes.is_control() {
            continue;
        }
        let plain = batch.decompress(DECOMPRESSED_SIZE_MAX)?;
        if header.attributes.is_control() {
            for record in batch.records(&plain) {
                if let Some((Marker::Abort, _)) = parse_marker(&record?) {
                    aborting.remove(&header.producer_id);
                }
            }
        } else if !(header.attributes.is_transactional() && aborting.contains(&header.producer_id)) {
            for record in batch.records(&plain) {
                let record = record?;
                let offset = header.base_offset.saturating_add(i64::from(record.offset_delta));
                if offset < from {
                    continue;
                }
                let timestamp = header.timestamp(record.timestamp_delta);
                let (key, value, headers) = (record.key, record.value, record.headers);
                if !on(Consumed { offset, timestamp, key, value, headers }) {
                    return Ok(offset.saturating_add(1));
                }
            }
        }
        next = next.max(header.next_offset());
    }
}
