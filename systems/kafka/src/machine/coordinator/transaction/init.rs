//! A producer comes.

use super::{EPOCH_MAX, NO_EPOCH, NO_PRODUCER, Transaction, TransactionState};
use crate::wire::ErrorCode;

impl Transaction {
    fn knows(&self, producer_id: i64, epoch: i16) -> bool {
        let rotated = producer_id == self.previous_producer_id && epoch >= EPOCH_MAX;
        self.epoch == NO_EPOCH || producer_id == self.producer_id || rotated
    }

    /// Makes the id the caller's. `Ok(true)`: an open transaction is to be aborted first.
    pub(in super::super) fn init(
        &mut self,
        now: u64,
        timeout_ms: u32,
        expected: Option<(i64, i16)>,
        fresh: &mut i64,
    ) -> Result<bool, ErrorCode> {
        if expected.is_some_and(|(id, epoch)| !self.knows(id, epoch)) {
            return Err(ErrorCode::PRODUCER_FENCED);
        }
        match self.state {
            TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
                return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
            }
            TransactionState::Ongoing => return Ok(true),
            TransactionState::Empty | TransactionState::CompleteCommit | TransactionState::CompleteAbort => {}
        }
        let expected = expected.map(|(_, epoch)| epoch);
        match expected {
            // The answer to the call before was lost.
            Some(epoch) if epoch != self.epoch && epoch == self.last_epoch && epoch != NO_EPOCH => {}
            Some(epoch) if epoch != self.epoch && self.epoch != NO_EPOCH => return Err(ErrorCode::PRODUCER_FENCED),
            _ if self.epoch >= EPOCH_MAX => {
                self.last_epoch = expected.unwrap_or(NO_EPOCH);
                self.previous_producer_id = self.producer_id;
                self.producer_id = take(fresh);
                self.epoch = 0;
            }
            _ => {
                self.last_epoch = if expected.is_some() { self.epoch } else { NO_EPOCH };
                self.epoch += 1;
            }
        }
        self.state = TransactionState::Empty;
        self.timeout_ms = timeout_ms;
        self.updated = now;
        debug_assert!(self.next_producer_id == NO_PRODUCER);
        Ok(false)
    }
}

/// The next producer id, which is never given again.
pub(in super::super) fn take(fresh: &mut i64) -> i64 {
    let id = *fresh;
    *fresh = id.checked_add(1).expect("two to the 62nd producers are more than will ever come");
    id
}
