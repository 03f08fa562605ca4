//! What a topic's configuration says to the machine of each of its partitions.
//!
//! It is a part of the replicated state, since it shapes the files: a change of it comes as a command, in order with the
//! batches. Its `version` grows with each change, so that one which comes late does no harm.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::log::LogConfig;

/// A partition's configuration. Kafka's names stand in brackets; a limit of -1 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionConfig {
    /// Grows with each change.
    pub version: u64,
    /// Old segments go (`cleanup.policy`).
    pub delete: bool,
    /// Of each key the last record stays (`cleanup.policy`).
    pub compact: bool,
    /// Milliseconds (`retention.ms`).
    pub retention_ms: i64,
    /// Bytes (`retention.bytes`).
    pub retention_bytes: i64,
    /// Bytes (`segment.bytes`).
    pub segment_bytes: u64,
    /// Milliseconds (`segment.ms`).
    pub segment_ms: i64,
    /// Bytes (`index.interval.bytes`).
    pub index_interval_bytes: u32,
    /// Milliseconds (`min.compaction.lag.ms`).
    pub min_lag_ms: i64,
    /// Milliseconds (`max.compaction.lag.ms`).
    pub max_lag_ms: i64,
    /// Parts in a million (`min.cleanable.dirty.ratio`).
    pub dirty_ratio_ppm: u32,
    /// Milliseconds (`delete.retention.ms`).
    pub delete_retention_ms: i64,
    /// Records bear the time at which they were appended (`message.timestamp.type`).
    pub append_time: bool,
    /// A producer that was not heard for so many milliseconds is forgotten (`producer.id.expiration.ms`).
    pub producer_expiry_ms: i64,
}

impl Default for PartitionConfig {
    /// Kafka's.
    fn default() -> Self {
        let log = LogConfig::default();
        Self {
            version: 0,
            delete: true,
            compact: false,
            retention_ms: 7 * 24 * 3_600_000,
            retention_bytes: -1,
            segment_bytes: log.segment_bytes,
            segment_ms: log.segment_ms,
            index_interval_bytes: log.index_interval_bytes,
            min_lag_ms: 0,
            max_lag_ms: i64::MAX,
            dirty_ratio_ppm: 500_000,
            delete_retention_ms: 24 * 3_600_000,
            append_time: false,
            producer_expiry_ms: 24 * 3_600_000,
        }
    }
}

impl PartitionConfig {
    /// How the log shapes its segments.
    #[must_use]
    pub fn log(&self) -> LogConfig {
        LogConfig {
            segment_bytes: self.segment_bytes,
            segment_ms: self.segment_ms,
            index_interval_bytes: self.index_interval_bytes,
        }
    }

    /// Appends it.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.version);
        out.put_u8(u8::from(self.delete) | u8::from(self.compact) << 1 | u8::from(self.append_time) << 2);
        out.put_u64(self.segment_bytes);
        out.put_u32(self.index_interval_bytes);
        out.put_u32(self.dirty_ratio_ppm);
        let millis = [
            self.retention_ms,
            self.retention_bytes,
            self.segment_ms,
            self.min_lag_ms,
            self.max_lag_ms,
            self.delete_retention_ms,
            self.producer_expiry_ms,
        ];
        millis.into_iter().for_each(|number| out.put_i64(number));
    }

    /// Takes one; `None` if the bytes are none.
    #[must_use]
    pub fn decode(bytes: &mut Bytes) -> Option<Self> {
        let version = bytes.try_get_u64().ok()?;
        let flags = bytes.try_get_u8().ok().filter(|flags| *flags < 8)?;
        let segment_bytes = bytes.try_get_u64().ok()?;
        let (index_interval_bytes, dirty_ratio_ppm) = (bytes.try_get_u32().ok()?, bytes.try_get_u32().ok()?);
        let mut number = || bytes.try_get_i64().ok();
        Some(Self {
            version,
            delete: flags & 1 != 0,
            compact: flags & 2 != 0,
            append_time: flags & 4 != 0,
            segment_bytes,
            index_interval_bytes,
            dirty_ratio_ppm,
            retention_ms: number()?,
            retention_bytes: number()?,
            segment_ms: number()?,
            min_lag_ms: number()?,
            max_lag_ms: number()?,
            delete_retention_ms: number()?,
            producer_expiry_ms: number()?,
        })
    }
}
