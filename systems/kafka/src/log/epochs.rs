//! Which leader epoch begins at which offset (KIP-101).
//!
//! - upon a batch of a higher epoch: the epoch begins at the batch's base offset;
//! - upon the log's start moving: epochs that end below it are forgotten, and the one that spans it begins there;
//! - upon the question where an epoch ends: it ends where the next higher known one begins, the latest at the log's end.
//!
//! Compaction may drop the batch at which an epoch began, so this list is kept beside the segments, never derived from
//! them.

/// How many epochs are remembered; beyond, the oldest are forgotten, as if the log began behind them.
pub const EPOCHS_MAX: usize = 1 << 16;

/// Where an epoch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The leader epoch.
    pub epoch: i32,
    /// The base offset of its first batch.
    pub start_offset: i64,
}

/// The epochs of one log, ascending in both fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Epochs(pub(super) Vec<EpochStart>);

impl Epochs {
    pub(super) fn latest(&self) -> Option<i32> {
        self.0.last().map(|last| last.epoch)
    }

    /// Notes that a batch of this epoch begins at `offset`.
    pub(super) fn assign(&mut self, epoch: i32, offset: i64) {
        if epoch < 0 || self.latest().is_some_and(|latest| latest >= epoch) {
            return;
        }
        // An epoch whose batches are all gone begins where this one does.
        while self.0.last().is_some_and(|last| last.start_offset >= offset) {
            self.0.pop();
        }
        if self.0.len() == EPOCHS_MAX {
            self.0.remove(0);
        }
        self.0.push(EpochStart { epoch, start_offset: offset });
    }

    pub(super) fn forget_below(&mut self, log_start: i64) {
        let begun = self.0.partition_point(|entry| entry.start_offset <= log_start);
        if let Some(spanning) = begun.checked_sub(1) {
            self.0[spanning].start_offset = log_start;
            self.0.drain(..spanning);
        }
    }

    /// The largest known epoch up to `epoch`, and where it ends; `None` for one that is not known yet.
    pub(super) fn end_offset(&self, epoch: i32, next_offset: i64) -> Option<(i32, i64)> {
        if epoch < 0 {
            return None;
        }
        if self.latest() == Some(epoch) {
            return Some((epoch, next_offset));
        }
        let higher = self.0.partition_point(|entry| entry.epoch <= epoch);
        let end = self.0.get(higher)?.start_offset;
        Some((higher.checked_sub(1).map_or(epoch, |floor| self.0[floor].epoch), end))
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.0.is_sorted_by(|a, b| a.epoch < b.epoch && a.start_offset < b.start_offset)
            && self.0.iter().all(|entry| entry.epoch >= 0 && entry.start_offset >= 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.end_offset(0, 0), None, "nothing is known of an empty log");
        for (epoch, offset) in [(2, 0), (2, 5), (-1, 8), (4, 10), (9, 20)] {
            epochs.assign(epoch, offset);
        }
        assert!(epochs.is_ordered());
        assert_eq!(epochs.end_offset(-1, 30), None);
        assert_eq!(epochs.end_offset(1, 30), Some((1, 0)), "below the first: it ended where that began");
        assert_eq!(epochs.end_offset(2, 30), Some((2, 10)));
        assert_eq!(epochs.end_offset(3, 30), Some((2, 10)), "an epoch without a batch ends as the one below it");
        assert_eq!(epochs.end_offset(8, 30), Some((4, 20)));
        assert_eq!(epochs.end_offset(9, 30), Some((9, 30)), "the latest ends at the log's end");
        assert_eq!(epochs.end_offset(10, 30), None, "a leader that this log has not seen");
    }

    #[test]
    fn what_ends_below_the_start_is_forgotten() {
        let mut epochs = Epochs::default();
        [(0, 0), (1, 10), (2, 20)].into_iter().for_each(|(epoch, offset)| epochs.assign(epoch, offset));
        epochs.forget_below(15);
        assert_eq!(epochs.0, [EpochStart { epoch: 1, start_offset: 15 }, EpochStart { epoch: 2, start_offset: 20 }]);
        epochs.forget_below(30);
        assert_eq!(epochs.0, [EpochStart { epoch: 2, start_offset: 30 }]);
        epochs.assign(5, 30);
        assert_eq!(epochs.0, [EpochStart { epoch: 5, start_offset: 30 }], "nothing is left of the epoch before");
    }

    #[test]
    fn the_oldest_go_first() {
        let mut epochs = Epochs::default();
        (0..=EPOCHS_MAX as i32).for_each(|epoch| epochs.assign(epoch, i64::from(epoch)));
        assert_eq!((epochs.0.len(), epochs.0[0].epoch), (EPOCHS_MAX, 1));
    }
}
