//! Letting go of the log's beginning: by records, by age, by size.
//!
//! - upon DeleteRecords: the log starts at the given offset, and segments wholly below it go. Never the active one;
//! - upon retention: the oldest segments go while they are too old, by the newest timestamp in each, or while the log
//!   without them still has as many bytes as it should keep. The first segment that must stay ends it, so that the log
//!   never has a hole. If nothing may stay, the active segment is sealed first and goes too;
//! - upon either: the epochs that ended below the start are forgotten.
//!
//! All of it is a function of the arguments and of what was appended. A limit that is negative holds nothing back.

use super::manifest::{SEGMENTS_MAX, SegmentFacts};
use super::{Log, LogError};

impl Log {
    /// Moves the log's start to `to_offset`, if it lies before, and drops the segments below. Answers the new start.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] if the log does not reach that far.
    pub fn delete_records(&mut self, to_offset: i64) -> Result<i64, LogError> {
        if to_offset < 0 || to_offset > self.next_offset {
            let (log_start, next_offset) = (self.log_start, self.next_offset);
            return Err(LogError::OutOfRange { offset: to_offset, log_start, next_offset });
        }
        self.log_start = self.log_start.max(to_offset);
        let next_base = |at: usize| self.facts(at + 1).base_offset;
        let gone = (0..self.sealed.len()).take_while(|at| next_base(*at) <= self.log_start).count();
        self.drop_oldest(gone);
        self.epochs.forget_below(self.log_start);
        Ok(self.log_start)
    }

    /// Drops segments whose newest record is older than `retention_ms` at `now_ms`, and then the oldest ones beyond
    /// `retention_bytes`; a negative limit is none. Answers the new start.
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn retain(&mut self, now_ms: i64, retention_ms: i64, retention_bytes: i64) -> Result<i64, LogError> {
        self.unsynced.check()?;
        let filled: Vec<SegmentFacts> = self.each().filter(|facts| facts.length > 0).copied().collect();
        let expired = |newest_ms: i64| retention_ms >= 0 && now_ms.saturating_sub(newest_ms) > retention_ms;
        let old = filled.iter().take_while(|facts| expired(facts.newest_ms())).count();
        let kept = filled.iter().skip(old).map(|facts| facts.length);
        let mut excess = match u64::try_from(retention_bytes) {
            Ok(limit) => kept.clone().sum::<u64>().saturating_sub(limit),
            Err(_) => 0,
        };
        let mut large = 0;
        for length in kept {
            match excess.checked_sub(length) {
                Some(rest) => (large, excess) = (large + 1, rest),
                None => break,
            }
        }
        let mut gone = old + large;
        if gone > self.sealed.len() {
            if self.sealed.len() < SEGMENTS_MAX {
                self.seal()?;
            } else {
                gone = self.sealed.len();
            }
        }
        self.drop_oldest(gone);
        if gone > 0 {
            self.log_start = self.log_start.max(self.facts(0).base_offset);
            self.epochs.forget_below(self.log_start);
        }
        Ok(self.log_start)
    }

    fn drop_oldest(&mut self, count: usize) {
        let gone: Vec<_> = self.sealed.drain(..count).map(|segment| segment.facts).collect();
        gone.iter().for_each(|facts| self.doom(facts));
    }
}
