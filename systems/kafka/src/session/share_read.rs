//! What a partition's log has for a share group: batches, and which of them have something for clients.
//!
//! Of a group that sees committed records alone, batches of aborted transactions have nothing; which they are, is told from
//! the aborted transactions that the log names with its batches, and from the markers among them (KIP-98).
//!
//! Deliberately absent: records. A batch is acquired by its offsets; what compaction took out of it, the client finds missing
//! and says so.

use std::collections::BTreeSet;

use bytes::Bytes;
use verity_contract::Consistency;
use verity_types::GroupId;

use super::node::{Node, partition_error};
use super::share_fetch::joined;
use crate::machine::coordinator::{AcquiredRecords, ShareBatch};
use crate::machine::partition::{Fetched, Query, Wanted};
use crate::wire::{Batch, BatchHeader, DECOMPRESSED_SIZE_MAX, ErrorCode, Marker, parse_marker};

/// Batches from one offset on.
pub(super) struct Read {
    pub(super) log_start: i64,
    batches: Vec<(ShareBatch, Bytes)>,
}

impl Read {
    pub(super) fn rows(&self) -> Vec<ShareBatch> {
        self.batches.iter().map(|(row, _)| *row).collect()
    }

    /// The bytes of the batches that have these records.
    pub(super) fn of(&self, acquired: &[AcquiredRecords]) -> Bytes {
        let mut runs = acquired.iter().peekable();
        let mut pieces = Vec::new();
        for (row, bytes) in &self.batches {
            while runs.next_if(|run| run.last < row.first).is_some() {}
            if runs.peek().is_some_and(|run| run.first <= row.last) {
                pieces.push(bytes.clone());
            }
        }
        joined(&pieces)
    }
}

/// True if a control batch ends a transaction that does not count.
fn aborts(batch: &Batch) -> bool {
    let Ok(plain) = batch.decompress(DECOMPRESSED_SIZE_MAX) else { return false };
    let first = batch.records(&plain).next();
    matches!(first, Some(Ok(record)) if matches!(parse_marker(&record), Some((Marker::Abort, _))))
}

/// Cuts what was fetched into batches.
pub(super) fn cut(fetched: Fetched) -> Result<Read, ErrorCode> {
    let Fetched { log_start, mut aborted, records, .. } = fetched;
    let mut records = records.read().map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?;
    aborted.sort_unstable_by_key(|(_, first)| *first);
    let mut aborted = aborted.into_iter().peekable();
    let mut under_way: BTreeSet<i64> = BTreeSet::new();
    let mut batches = Vec::new();
    while !records.is_empty() {
        let batch = Batch::take(&mut records).map_err(|_| ErrorCode::CORRUPT_MESSAGE)?;
        let Some(batch) = batch else { break };
        let header: BatchHeader = *batch.header();
        while let Some((producer, _)) = aborted.next_if(|(_, first)| *first <= header.last_offset()) {
            under_way.insert(producer);
        }
        let control = header.attributes.is_control();
        if control && under_way.contains(&header.producer_id) && aborts(&batch) {
            under_way.remove(&header.producer_id);
        }
        let lost = header.attributes.is_transactional() && under_way.contains(&header.producer_id);
        let readable = !control && !lost && header.record_count > 0;
        let row = ShareBatch { first: header.base_offset, last: header.last_offset(), readable };
        batches.push((row, batch.bytes().clone()));
    }
    Ok(Read { log_start, batches })
}

/// Reads a log; `None` if it has nothing there, or this node does not have it yet.
pub(super) async fn read(
    node: &Node,
    group: GroupId,
    offset: i64,
    max_bytes: i32,
    committed: bool,
) -> Result<Option<Read>, ErrorCode> {
    let mut from = offset;
    loop {
        let max_bytes = u32::try_from(max_bytes).unwrap_or(0);
        let wanted = Wanted { offset: from, max_bytes, min_one: true, committed, in_place: false };
        let query = Query::Fetch(wanted).encode();
        let fetched = match node.read(group, query, Consistency::Local).await.map(Fetched::decode) {
            Ok(Some(fetched)) => fetched,
            Ok(None) => return Err(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(failure) => return Err(partition_error(Some(failure))),
        };
        if fetched.error == ErrorCode::OFFSET_OUT_OF_RANGE {
            if from < fetched.log_start {
                from = fetched.log_start;
                continue;
            }
            return Ok(None);
        }
        if !fetched.error.is_none() {
            return Err(fetched.error);
        }
        let read = cut(fetched)?;
        // Records that are gone are to be let go even if none have come since.
        return Ok((!read.batches.is_empty() || read.log_start > offset).then_some(read));
    }
}
