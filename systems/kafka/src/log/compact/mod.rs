//! Compaction: of each key the last record stays (`cleanup.policy=compact`), as Kafka's cleaner decides it.
//!
//! A round takes the keys of the dirty part of the log, which grew since the last round, and passes over the log from its
//! start to the dirty part's end:
//!
//! - upon a record of a key that has a later one in the dirty part: it goes;
//! - upon a record without a key: it goes; a compacted topic takes none;
//! - upon a tombstone (a record without a value) that is the last of its key: its batch gets a delete horizon, the moment
//!   `delete.retention.ms` from now, in place of its base timestamp (KIP-534). At a later round behind that moment it goes,
//!   so that every reader that saw the value has had the time to see it deleted;
//! - upon a batch of an aborted transaction: its records go, and count for no key;
//! - upon a transaction's marker: it stays while there is data of the transaction in front of it; once there was none, it
//!   gets a delete horizon, and goes behind it;
//! - upon the last batch of a producer: it stays, emptied if need be, since it holds the sequence that the next batch
//!   must follow;
//! - upon a batch that loses nothing and needs no horizon: it is copied untouched.
//!
//! Offsets never change, and a batch keeps the range of offsets that it had.
//!
//! It goes in steps of bounded size, so that neither the disk's space nor a turn is used up by one log:
//! [`Log::plan_compaction`] in an applied command makes a plan of some sealed segments; [`CompactionPlan::run`] writes new
//! files, anywhere and at any time, since its inputs never change; [`Log::swap`] in a later command puts them in place. The
//! files are the same bytes on every replica. [`Log::compact`] does all three.
//!
//! HAZARD: the bytes depend on what the [`BatchCodec`] makes of the same records. Replicas whose compressors differ by
//! version write files of one name and different bytes: each is sound for its own manifest, but none can repair the other.
//! A new compressor is therefore gated by the cluster's version.
//!
//! Deliberately absent: decompression (the codec's), which transactions were aborted and which batch is a producer's last
//! (the machine's, told in the plan), and when to compact (a duty's; [`Log::compaction_due`] tells it).

mod keys;
mod plan;
mod run;

pub use plan::{ABORTED_MAX, AbortedRange, CompactionPlan, CompactionPolicy, LastOfProducer, PRODUCERS_MAX};
pub use run::Compacted;

/// A record as compaction sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its time in milliseconds; -1 if it has none.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; a record without one is a tombstone.
    pub value: Option<&'a [u8]>,
}

/// A batch whose records cannot be read, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecError(pub String);

/// Reads and rebuilds the records of a batch. The batch's header and checksum were checked.
pub trait BatchCodec {
    /// Visits each record in order.
    ///
    /// # Errors
    /// [`CodecError`] if the records cannot be read.
    fn records(&self, batch: &[u8], visit: &mut dyn FnMut(&RecordRef<'_>)) -> Result<(), CodecError>;

    /// The batch with those of its records that `keep` wants, asked in order; `None` if it wants none. Records keep their
    /// offsets, timestamps, keys, values and headers. The batch keeps codec, base offset, last offset, leader epoch,
    /// producer, base sequence and flags. With a delete horizon it has that as base timestamp, and the flag
    /// [`DELETE_HORIZON`](super::DELETE_HORIZON); without one it has neither. Its largest timestamp is that of the kept
    /// records, or what it was if its flag is [`LOG_APPEND_TIME`](super::LOG_APPEND_TIME). The same input gives the same
    /// bytes on every replica.
    ///
    /// # Errors
    /// [`CodecError`] if the records cannot be read.
    fn rebuild(
        &self,
        batch: &[u8],
        delete_horizon_ms: Option<i64>,
        keep: &mut dyn FnMut(&RecordRef<'_>) -> bool,
    ) -> Result<Option<Vec<u8>>, CodecError>;
}
