//! What a partition is told, and what it answers.
//!
//! ```text
//! command = kind:u8 body
//!   1 append   epoch:i32 guard:(0 | 1 i64) batch          one record batch, validated by the session
//!   2 marker   epoch:i32 producer:i64 producer epoch:i16 coordinator epoch:i32 decision:u64 commit:u8
//!   3 delete   offset:i64                                 DeleteRecords; -1 for everything
//!   4 configure config
//!   5 tend                                                retention, compaction, forgotten producers
//!   6 settle   version members                            the group has come to where it was to go
//! reply = error:i16 offset:i64 append time:i64 log start:i64
//! ```
//! `epoch` is the leader's, as the session that proposed saw it. Integers are big-endian.
//!
//! Deliberately absent: Kafka's own requests. One batch is one command, whichever version of Produce brought it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use verity_contract::Pieces;

use super::config::PartitionConfig;
use super::place::Settle;
use crate::machine::codec;
use crate::wire::ErrorCode;

/// What came in may lie in a buffer of this size, however short it is: what is read at once.
const BUFFER_SIZE: usize = 64 << 10;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Append one batch of a client's.
    Append {
        /// The leader's epoch.
        epoch: i32,
        /// For a batch that may begin a transaction: [`Reply`] of the query that came before the coordinator was asked,
        /// the producer's last marker. Anything else there now is a later transaction.
        guard: Option<i64>,
        /// The batch, its offset and epoch not set.
        batch: Bytes,
    },
    /// End a transaction.
    Marker {
        /// The leader's epoch.
        epoch: i32,
        /// Whose transaction.
        producer_id: i64,
        /// The epoch that the transaction ends with: the producer's own, or the next one (KIP-890).
        producer_epoch: i16,
        /// The coordinator's.
        coordinator_epoch: i32,
        /// Grows with each decision about this producer's transactions. A marker that comes again says the same.
        decision: u64,
        /// Committed, or aborted.
        commit: bool,
    },
    /// Move the log's start.
    DeleteRecords {
        /// To this offset; -1 for the end of the log.
        offset: i64,
    },
    /// Replace the configuration, unless it is older than what is there.
    Configure(PartitionConfig),
    /// Look after the log.
    Tend,
    /// The group is where the metadata want it.
    Settle(Settle),
}

/// The answer to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Kafka's code.
    pub error: ErrorCode,
    /// Offset of the first record of the batch, or of the marker; the log's start for a deletion; -1 for none.
    pub offset: i64,
    /// When the batch was appended, where the topic says so; -1 elsewhere.
    pub append_time: i64,
    /// The first offset that may be read.
    pub log_start: i64,
}

impl Command {
    /// In bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.pieces(usize::MAX).join()
    }

    /// In bytes. A batch that is most of what it came in (a request of `frame` bytes) is shared and not copied.
    ///
    /// HAZARD: a shared batch keeps all that it came in for as long as the command waits, and whoever bounds what waits
    /// counts the command's bytes alone.
    #[must_use]
    pub fn pieces(&self, frame: usize) -> Pieces {
        let mut out = BytesMut::new();
        match self {
            Self::Append { epoch, guard, batch } => {
                let shared = batch.len() >= frame.max(BUFFER_SIZE) / 2;
                out.reserve(14 + if shared { 0 } else { batch.len() });
                out.put_u8(1);
                out.put_i32(*epoch);
                out.put_u8(u8::from(guard.is_some()));
                guard.iter().for_each(|guard| out.put_i64(*guard));
                if shared {
                    return Pieces { head: out.freeze(), body: batch.clone() };
                }
                out.put_slice(batch);
            }
            Self::Marker { epoch, producer_id, producer_epoch, coordinator_epoch, decision, commit } => {
                out.put_u8(2);
                out.put_i32(*epoch);
                out.put_i64(*producer_id);
                out.put_i16(*producer_epoch);
                out.put_i32(*coordinator_epoch);
                out.put_u64(*decision);
                out.put_u8(u8::from(*commit));
            }
            Self::DeleteRecords { offset } => {
                out.put_u8(3);
                out.put_i64(*offset);
            }
            Self::Configure(config) => {
                out.put_u8(4);
                config.encode(&mut out);
            }
            Self::Tend => out.put_u8(5),
            Self::Settle(settle) => {
                out.put_u8(6);
                out.put_slice(&codec::encode(settle));
            }
        }
        out.freeze().into()
    }

    /// From bytes; `None` for others.
    #[must_use]
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        let command = match bytes.try_get_u8().ok()? {
            1 => {
                let epoch = bytes.try_get_i32().ok()?;
                let guard = match bytes.try_get_u8().ok()? {
                    0 => None,
                    1 => Some(bytes.try_get_i64().ok()?),
                    _ => return None,
                };
                let batch = std::mem::take(&mut bytes);
                Self::Append { epoch, guard, batch }
            }
            2 => Self::Marker {
                epoch: bytes.try_get_i32().ok()?,
                producer_id: bytes.try_get_i64().ok()?,
                producer_epoch: bytes.try_get_i16().ok()?,
                coordinator_epoch: bytes.try_get_i32().ok()?,
                decision: bytes.try_get_u64().ok()?,
                commit: bytes.try_get_u8().ok()? != 0,
            },
            3 => Self::DeleteRecords { offset: bytes.try_get_i64().ok()? },
            4 => Self::Configure(PartitionConfig::decode(&mut bytes)?),
            5 => Self::Tend,
            6 => Self::Settle(codec::decode(&std::mem::take(&mut bytes)).ok()?),
            _ => return None,
        };
        bytes.is_empty().then_some(command)
    }
}

impl Reply {
    /// In bytes.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(26);
        out.put_i16(self.error.0);
        out.put_i64(self.offset);
        out.put_i64(self.append_time);
        out.put_i64(self.log_start);
        out.freeze()
    }

    /// From bytes; `None` for others.
    #[must_use]
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        let reply = Self {
            error: ErrorCode(bytes.try_get_i16().ok()?),
            offset: bytes.try_get_i64().ok()?,
            append_time: bytes.try_get_i64().ok()?,
            log_start: bytes.try_get_i64().ok()?,
        };
        bytes.is_empty().then_some(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_round_trip_and_no_cut_of_one_passes_for_another() {
        let commands = [
            Command::Append { epoch: 7, guard: Some(-1), batch: Bytes::from_static(b"batch") },
            Command::Append { epoch: 7, guard: None, batch: Bytes::new() },
            Command::Marker {
                epoch: 7,
                producer_id: 5,
                producer_epoch: 2,
                coordinator_epoch: 3,
                decision: 99,
                commit: true,
            },
            Command::DeleteRecords { offset: -1 },
            Command::Configure(PartitionConfig { version: 4, compact: true, ..PartitionConfig::default() }),
            Command::Tend,
            Command::Settle(Settle { version: 3, members: [1, 2].into() }),
        ];
        for command in commands {
            let bytes = command.encode();
            assert_eq!(Command::decode(bytes.clone()).as_ref(), Some(&command));
            // A shorter append is an append of a shorter batch, which its own checksum refuses.
            if !matches!(command, Command::Append { .. }) {
                (0..bytes.len()).for_each(|cut| assert_eq!(Command::decode(bytes.slice(..cut)), None, "cut at {cut}"));
            }
        }
        let reply = Reply { error: ErrorCode(3), offset: 4, append_time: -1, log_start: 2 };
        assert_eq!(Reply::decode(reply.encode()), Some(reply));
    }
}
