//! What fees are to be expected, from how long others waited.
//!
//! - upon a transaction that comes by itself, while the chain is current: it is counted in the bucket of its rate;
//! - upon a block: all that was seen of older blocks weighs a little less, and those that the block has are counted by how many
//!   blocks they waited;
//! - upon one that goes unconfirmed: it counts as a failure for each number of blocks that it did wait;
//! - upon a question, "what rate within so many blocks?": buckets are gone through from the highest rate down, put together
//!   until they have seen enough, and the last ones of which enough were confirmed in time give their median.
//!
//! Three memories answer: of some hours, of a day, of a week, the last for the longest waits. A question is answered by the
//! highest of three: half the time at 60 %, the time at 85 %, twice the time at 95 %.
//!
//! Deliberately absent: what waits now, but for what is counted as not confirmed yet.

use std::collections::BTreeMap;

use bitcoin::Txid;
use verity_storage::{Disk, read_sealed, write_sealed};

use super::MempoolEntry;
use super::feerate::FeeFraction;
use crate::chain::ChainError;

mod stats;

pub use stats::Bucket;

use stats::{Answer, Question, Stats};

/// Blocks after which a memory from before says nothing.
const OLDEST_HISTORY: u32 = 6 * 1_008;
const HALF_SUCCESS: f64 = 0.6;
const SUCCESS: f64 = 0.85;
const DOUBLE_SUCCESS: f64 = 0.95;
/// Transactions in a block, on the average, that say enough.
const ENOUGH: f64 = 0.1;
const ENOUGH_SHORT: f64 = 0.5;
/// Seconds after which a file says nothing.
const FILE_AGE_MAX: u64 = 60 * 3_600;
const MAGIC: [u8; 8] = *b"VRTYFEES";
const VERSION: u32 = 1;

/// How far a memory reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Horizon {
    /// Twelve blocks, and some hours.
    Short,
    /// 48 blocks, and a day.
    Medium,
    /// 1,008 blocks, and a week.
    Long,
}

impl Horizon {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Short, Self::Medium, Self::Long];

    /// As clients know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Medium => "medium",
            Self::Long => "long",
        }
    }
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Satoshi per 1,000 vbytes; `None` if nothing can be said.
    pub rate: Option<u64>,
    /// Blocks that it is an answer for, which may be fewer than were asked for.
    pub target: u32,
}

/// What one memory says, with its reasons.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawEstimate {
    /// Satoshi per 1,000 vbytes; `None` if nothing can be said.
    pub rate: Option<u64>,
    /// What a block later counts, of what a block counts.
    pub decay: f64,
    /// Blocks that are told apart.
    pub scale: u32,
    /// The lowest buckets that did.
    pub pass: Bucket,
    /// The highest buckets that did not.
    pub fail: Bucket,
}

/// What is remembered.
#[derive(Clone, Debug)]
pub struct FeeEstimator {
    short: Stats,
    medium: Stats,
    long: Stats,
    /// Those that are counted: when they came, and in which bucket.
    tracked: BTreeMap<Txid, (u32, usize)>,
    best_height: u32,
    first_height: u32,
    /// The blocks that a file knew of.
    history: (u32, u32),
}

impl Default for FeeEstimator {
    fn default() -> Self {
        Self {
            short: Stats::new(12, 0.962, 1),
            medium: Stats::new(24, 0.9952, 2),
            long: Stats::new(42, 0.99931, 24),
            tracked: BTreeMap::new(),
            best_height: 0,
            first_height: 0,
            history: (0, 0),
        }
    }
}

impl FeeEstimator {
    fn stats(&self, horizon: Horizon) -> (&Stats, f64) {
        match horizon {
            Horizon::Short => (&self.short, ENOUGH_SHORT),
            Horizon::Medium => (&self.medium, ENOUGH),
            Horizon::Long => (&self.long, ENOUGH),
        }
    }

    fn each(&mut self) -> [&mut Stats; 3] {
        [&mut self.short, &mut self.medium, &mut self.long]
    }

    /// Upon one that came; `counts` if it came by itself, and the chain is current.
    pub(super) fn on_added(&mut self, txid: &Txid, entry: &MempoolEntry, counts: bool) {
        if !counts || entry.height != self.best_height || self.tracked.contains_key(txid) {
            return;
        }
        let (bucket, height) = (stats::bucket_of(rate_of(entry)), entry.height);
        self.each().into_iter().for_each(|stats| stats.on_added(height, bucket));
        self.tracked.insert(*txid, (height, bucket));
    }

    /// Upon one that went, and is in no block.
    pub(super) fn on_removed(&mut self, txid: &Txid) {
        self.untrack(txid, false);
    }

    fn untrack(&mut self, txid: &Txid, in_block: bool) -> bool {
        let Some((height, bucket)) = self.tracked.remove(txid) else { return false };
        let best = self.best_height;
        self.each().into_iter().for_each(|stats| stats.on_removed(height, best, bucket, in_block));
        true
    }

    /// Upon a block, with those of it that were here.
    pub(super) fn on_block(&mut self, height: u32, confirmed: &[(Txid, MempoolEntry)]) {
        if height <= self.best_height {
            // A reorganisation says nothing about fees.
            for (txid, _) in confirmed {
                self.untrack(txid, true);
            }
            return;
        }
        self.best_height = height;
        self.each().into_iter().for_each(|stats| stats.on_block(height));
        let mut counted = 0u32;
        for (txid, entry) in confirmed {
            if self.untrack(txid, true) && entry.height < height {
                let (rate, blocks) = (rate_of(entry), height - entry.height);
                self.each().into_iter().for_each(|stats| stats.on_confirmed(blocks, rate));
                counted += 1;
            }
        }
        if self.first_height == 0 && counted > 0 {
            self.first_height = height;
        }
    }

    /// The most blocks that a memory can be asked about.
    #[must_use]
    pub fn target_max(&self, horizon: Horizon) -> u32 {
        self.stats(horizon).0.target_max()
    }

    fn ask(&self, horizon: Horizon, target: u32, success: f64) -> Answer {
        let (stats, enough) = self.stats(horizon);
        stats.ask(Question { target, enough, success, height: self.best_height })
    }

    /// What one memory says: the rate at which this part of all was confirmed within so many blocks. `None` if it does not
    /// reach that far.
    #[must_use]
    pub fn estimate_raw(&self, target: u32, success: f64, horizon: Horizon) -> Option<RawEstimate> {
        let (stats, _) = self.stats(horizon);
        if target == 0 || target > stats.target_max() || success > 1.0 {
            return None;
        }
        let answer = self.ask(horizon, target, success);
        let (decay, scale) = (stats.decay(), stats.scale());
        Some(RawEstimate { rate: rounded(answer.median), decay, scale, pass: answer.pass, fail: answer.fail })
    }

    fn block_span(&self) -> u32 {
        if self.first_height == 0 { 0 } else { self.best_height - self.first_height }
    }

    fn historical_span(&self) -> u32 {
        let (first, last) = self.history;
        let old = self.best_height.saturating_sub(last) > OLDEST_HISTORY;
        if first == 0 || old { 0 } else { last - first }
    }

    fn usable_target_max(&self) -> u32 {
        self.long.target_max().min(self.block_span().max(self.historical_span()) / 2)
    }

    /// By the shortest memory that reaches so far, or a shorter one for less if that says less.
    fn combined(&self, target: u32, success: f64, shorter: bool) -> Option<f64> {
        let (short, medium) = (self.short.target_max(), self.medium.target_max());
        if target == 0 || target > self.long.target_max() {
            return None;
        }
        let horizon = match target {
            _ if target <= short => Horizon::Short,
            _ if target <= medium => Horizon::Medium,
            _ => Horizon::Long,
        };
        let mut found = self.ask(horizon, target, success).median;
        for (reach, horizon) in [(medium, Horizon::Medium), (short, Horizon::Short)] {
            if shorter && target > reach {
                let other = self.ask(horizon, reach, success).median;
                let less = other.filter(|other| *other > 0.0 && found.is_none_or(|found| *other < found));
                found = less.or(found);
            }
        }
        found
    }

    /// Longer memories too must say so at twice the time.
    fn conservative(&self, double: u32) -> Option<f64> {
        let asked =
            |horizon, reach| (double <= reach).then(|| self.ask(horizon, double, DOUBLE_SUCCESS).median).flatten();
        higher(asked(Horizon::Medium, self.short.target_max()), asked(Horizon::Long, self.medium.target_max()))
    }

    /// What rate to pay to be confirmed within so many blocks; `conservative` if rather too much than too little.
    #[must_use]
    pub fn estimate_smart(&self, target: u32, conservative: bool) -> Estimate {
        if target == 0 || target > self.long.target_max() {
            return Estimate { rate: None, target };
        }
        // Within one block says nothing: a transaction may come a moment before it.
        let target = target.max(2).min(self.usable_target_max());
        if target <= 1 {
            return Estimate { rate: None, target };
        }
        let half = self.combined(target / 2, HALF_SUCCESS, true);
        let full = self.combined(target, SUCCESS, true);
        let double = self.combined(2 * target, DOUBLE_SUCCESS, !conservative);
        let mut found = higher(higher(half, full), double);
        if conservative || found.is_none() {
            found = higher(found, self.conservative(2 * target));
        }
        Estimate { rate: rounded(found), target }
    }

    /// Counts all that waits as not confirmed, before the process ends.
    pub fn flush_unconfirmed(&mut self) {
        for txid in self.tracked.keys().copied().collect::<Vec<_>>() {
            self.untrack(&txid, false);
        }
    }

    /// Writes what is remembered, at this moment in seconds since 1970.
    ///
    /// # Errors
    /// The disk's.
    pub fn store(&self, disk: &dyn Disk, path: &str, now: u64) -> Result<(), ChainError> {
        let mut body = Vec::new();
        body.extend(VERSION.to_le_bytes());
        body.extend(now.to_le_bytes());
        let own = self.block_span() > self.historical_span() / 2;
        let (first, last) = if own { (self.first_height, self.best_height) } else { self.history };
        for height in [self.best_height, first, last] {
            body.extend(height.to_le_bytes());
        }
        for stats in [&self.short, &self.medium, &self.long] {
            stats.write(&mut body);
        }
        Ok(write_sealed(disk, path, MAGIC, &body)?)
    }

    /// Reads what was remembered. False if there is no file, or one that is too old, or of another form: then nothing changes.
    ///
    /// # Errors
    /// The disk's.
    pub fn load(&mut self, disk: &dyn Disk, path: &str, now: u64, even_old: bool) -> Result<bool, ChainError> {
        let body = match read_sealed(disk, path, MAGIC) {
            Ok(Some(body)) => body,
            // What is there is no use, and no loss.
            Ok(None) | Err(verity_storage::Error::Corrupt { .. } | verity_storage::Error::Incompatible { .. }) => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let read = Self::read(&body).filter(|(_, written)| even_old || now <= written.saturating_add(FILE_AGE_MAX));
        let known = read.is_some();
        if let Some((estimator, _)) = read {
            *self = estimator;
        }
        Ok(known)
    }

    fn read(mut body: &[u8]) -> Option<(Self, u64)> {
        let mut word = || body.split_off(..4).map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")));
        if word()? != VERSION {
            return None;
        }
        let written = u64::from(word()?) | u64::from(word()?) << 32;
        let [best_height, first, last] = [word()?, word()?, word()?];
        let mut read = Self { best_height, history: (first, last), ..Self::default() };
        for stats in read.each() {
            stats.read(&mut body)?;
        }
        (first <= last && last <= best_height && body.is_empty()).then_some((read, written))
    }
}

fn rate_of(entry: &MempoolEntry) -> f64 {
    FeeFraction::new(entry.fee.to_sat() as i64, entry.vsize).per_thousand() as f64
}

fn higher(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b > a { b } else { a }),
        (a, b) => a.or(b),
    }
}

fn rounded(median: Option<f64>) -> Option<u64> {
    median.map(|median| median.round() as u64).filter(|rate| *rate > 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitcoin::absolute::LockTime;
    use bitcoin::hashes::Hash;
    use bitcoin::transaction::Version;
    use bitcoin::{Amount, Transaction};
    use verity_storage::MemoryDisk;

    use super::*;

    fn entry(rate: u64, height: u32) -> MempoolEntry {
        let tx = Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![], output: vec![] };
        MempoolEntry {
            txid: tx.compute_txid(),
            wtxid: tx.compute_wtxid(),
            tx: Arc::new(tx),
            fee: Amount::from_sat(rate),
            fee_delta: 0,
            vsize: 1_000,
            weight: 4_000,
            sigops_cost: 0,
            time: 0,
            height,
            spends_coinbase: false,
            adjusted_weight: 4_000,
            sequence: 1,
        }
    }

    /// Each block, ten at a high rate that are in the next, and ten at a low rate that wait for three.
    fn taught() -> FeeEstimator {
        let mut estimator = FeeEstimator::default();
        let name = |height: u32, kind: u8, at: u8| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&height.to_le_bytes());
            (bytes[4], bytes[5]) = (kind, at);
            Txid::from_byte_array(bytes)
        };
        for height in 1..200 {
            let mut confirmed = Vec::new();
            for at in 0..10 {
                confirmed.push((name(height - 1, 1, at), entry(50_000, height - 1)));
                if height > 3 {
                    confirmed.push((name(height - 3, 2, at), entry(2_000, height - 3)));
                }
            }
            estimator.on_block(height, &confirmed);
            for at in 0..10 {
                estimator.on_added(&name(height, 1, at), &entry(50_000, height), true);
                estimator.on_added(&name(height, 2, at), &entry(2_000, height), true);
            }
        }
        estimator
    }

    #[test]
    fn those_in_a_hurry_pay_more() {
        let estimator = taught();
        assert_eq!(FeeEstimator::default().estimate_smart(2, true), Estimate { rate: None, target: 0 });
        assert_eq!(estimator.estimate_smart(1, true), Estimate { rate: Some(50_000), target: 2 });
        let patient = estimator.estimate_smart(12, false);
        assert_eq!(patient, Estimate { rate: Some(2_000), target: 12 });
        assert_eq!(estimator.estimate_smart(1_008, false).target, 98);
        assert_eq!(estimator.estimate_smart(1_009, false).rate, None);
    }

    #[test]
    fn the_rate_falls_with_the_blocks_that_one_may_wait() {
        // Of ten rates, the highest is in each block, the next in nine of ten, and so on.
        let (mut estimator, mut waiting) = (FeeEstimator::default(), vec![Vec::new(); 10]);
        for height in 0..200u32 {
            for rate in 0..10u32 {
                for at in 0..4u8 {
                    let mut name = [at; 32];
                    name[..8].copy_from_slice(&(u64::from(height) << 8 | u64::from(rate)).to_le_bytes());
                    let (txid, entry) = (Txid::from_byte_array(name), entry(10_000 * (u64::from(rate) + 1), height));
                    estimator.on_added(&txid, &entry, true);
                    waiting[rate as usize].push((txid, entry));
                }
            }
            let mined = waiting.iter_mut().rev().take(height as usize % 10 + 1).flat_map(std::mem::take);
            let mined: Vec<_> = mined.collect();
            estimator.on_block(height + 1, &mined);
        }
        let rate = |target| estimator.estimate_raw(target, DOUBLE_SUCCESS, Horizon::Medium).and_then(|raw| raw.rate);
        assert_eq!([2, 4, 6, 8].map(rate), [Some(90_000), Some(70_000), Some(50_000), Some(30_000)]);
    }

    #[test]
    fn a_memory_says_why() {
        let estimator = taught();
        let raw = estimator.estimate_raw(1, 0.95, Horizon::Short).expect("within reach");
        assert_eq!((raw.rate, raw.scale), (Some(50_000), 1));
        assert!(raw.pass.start < 50_000.0 && raw.pass.end >= 50_000.0 && raw.fail.end <= raw.pass.start);
        assert!(raw.fail.within_target < 0.01 * raw.fail.total_confirmed);
        assert_eq!(estimator.estimate_raw(13, 0.95, Horizon::Short), None);
        assert_eq!(Horizon::ALL.map(|horizon| estimator.target_max(horizon)), [12, 48, 1_008]);
    }

    #[test]
    fn what_is_remembered_outlives_the_process() {
        let (mut estimator, disk) = (taught(), MemoryDisk::new());
        estimator.flush_unconfirmed();
        estimator.store(&disk, "fee_estimates.dat", 1_000).expect("the disk is good");
        let mut other = FeeEstimator::default();
        assert!(!other.load(&disk, "fee_estimates.dat", 1_001 + FILE_AGE_MAX, false).expect("the disk is good"));
        assert!(other.load(&disk, "fee_estimates.dat", 1_000 + FILE_AGE_MAX, false).expect("the disk is good"));
        assert_eq!(other.estimate_smart(2, true), estimator.estimate_smart(2, true));
        assert!(!other.load(&disk, "nothing.dat", 0, true).expect("the disk is good"));
    }
}
