//! Who goes for want of time or room.
//!
//! - upon a transaction that waits longer than [`expiry`](super::MempoolOptions::expiry): it goes, with all that rests on it;
//! - upon more memory than there may be: the worst chunk goes, and for a while nothing comes in that does not pay more than it
//!   did, by what a newcomer must add anyway. Behind the next block that rate halves twice a day, sooner if there is room.
//!
//! Memory is an estimate, as the network's nodes make it: what matters is that operators find the bound where they look for it.
//!
//! Deliberately absent: a clock.

use std::collections::BTreeSet;

use bitcoin::Transaction;

use super::feerate::FeeFraction;
use super::{Mempool, MempoolEvent};

/// Seconds in which the rate halves.
const HALF_LIFE: f64 = 12.0 * 3_600.0;
/// Seconds between two looks at it.
const UPDATE: u64 = 10;
/// Bytes of an entry in all maps that have it, and of its links.
const ENTRY_BYTES: u64 = 480;
/// Bytes of an input in the map of spenders.
const SPENDER_BYTES: u64 = 64;
const DELTA_BYTES: u64 = 96;

/// The rate below which nothing comes in after something had to go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RollingFee {
    /// Satoshi per 1,000 vbytes.
    rate: f64,
    updated: u64,
    block_since: bool,
}

impl RollingFee {
    pub(super) fn on_block(&mut self, now: u64) {
        self.updated = now;
        self.block_since = true;
    }

    fn on_removed(&mut self, rate: u64) {
        if rate as f64 > self.rate {
            self.rate = rate as f64;
            self.block_since = false;
        }
    }
}

/// What the allocator takes for so many bytes.
fn allocated(bytes: usize) -> u64 {
    if bytes == 0 { 0 } else { ((bytes as u64 + 31) >> 4) << 4 }
}

/// Bytes of memory that a transaction takes.
pub(super) fn usage(tx: &Transaction) -> u64 {
    let script = |length: usize| if length > 36 { allocated(length) } else { 0 };
    let inputs: u64 = tx
        .input
        .iter()
        .map(|input| {
            let items: u64 = input.witness.iter().map(|item| allocated(item.len())).sum();
            script(input.script_sig.len()) + allocated(input.witness.len() * 24) + items
        })
        .sum();
    let outputs: u64 = tx.output.iter().map(|output| script(output.script_pubkey.len())).sum();
    allocated(tx.input.len() * 104)
        + allocated(tx.output.len() * 48)
        + allocated(128)
        + allocated(24)
        + inputs
        + outputs
}

impl Mempool {
    /// Bytes of memory that all of it takes, as operators count them.
    #[must_use]
    pub fn usage(&self) -> u64 {
        let (entries, spenders) = (self.entries.len() as u64, self.spenders.len() as u64);
        self.inner_usage + entries * ENTRY_BYTES + spenders * SPENDER_BYTES + self.deltas.len() as u64 * DELTA_BYTES
    }

    /// The rate below which nothing comes in for lack of room, in satoshi per 1,000 vbytes; 0 if there is enough.
    #[must_use]
    pub fn rolling_rate(&self, now: u64) -> u64 {
        let rate = self.decayed(now).rate;
        if rate == 0.0 || !self.rolling.block_since {
            return rate.round() as u64;
        }
        (rate.round() as u64).max(self.options.incremental_rate)
    }

    /// Nothing below this rate comes in now (sat per 1,000 vbytes).
    #[must_use]
    pub fn fee_rate_min(&self, now: u64) -> u64 {
        self.rolling_rate(now).max(self.options.relay_rate_min)
    }

    fn decayed(&self, now: u64) -> RollingFee {
        let mut rolling = self.rolling;
        if !rolling.block_since || rolling.rate == 0.0 || now <= rolling.updated.saturating_add(UPDATE) {
            return rolling;
        }
        let half_life = match self.usage() {
            usage if usage < self.options.size_max / 4 => HALF_LIFE / 4.0,
            usage if usage < self.options.size_max / 2 => HALF_LIFE / 2.0,
            _ => HALF_LIFE,
        };
        rolling.rate /= ((now - rolling.updated) as f64 / half_life).exp2();
        rolling.updated = now;
        if rolling.rate < self.options.incremental_rate as f64 / 2.0 {
            rolling.rate = 0.0;
        }
        rolling
    }

    /// Lets go what is too old, then what there is no room for.
    pub(super) fn make_room(&mut self, now: u64, events: &mut Vec<MempoolEvent>) {
        self.rolling = self.decayed(now);
        let oldest = now.saturating_sub(self.options.expiry);
        let expired = self.by_time.iter().take_while(|(time, _)| *time < oldest).map(|(_, txid)| *txid);
        let expired = self.graph.descendants(expired);
        self.remove(&expired, "expiry", events);
        while self.usage() > self.options.size_max {
            let Some((_, worst)) = self.graph.chunks().next_back() else { break };
            let vsize = FeeFraction::new(worst.rate.fee, worst.rate.size.div_ceil(4));
            let rate = u64::try_from(vsize.per_thousand()).unwrap_or(0).saturating_add(self.options.incremental_rate);
            let members: BTreeSet<_> = worst.members.iter().copied().collect();
            self.rolling.on_removed(rate);
            self.remove(&members, "sizelimit", events);
        }
    }
}
