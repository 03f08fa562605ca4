//! One memory of how long transactions waited, bucket by bucket of their rates.
//!
//! Averages move: with each block, what was counted before is multiplied by the decay. Waits are told apart by so many blocks,
//! the scale.
//!
//! Deliberately absent: which memory is asked.

use std::sync::LazyLock;

/// The lowest bucket's end, in satoshi per 1,000 vbytes.
const RATE_MIN: f64 = 100.0;
const RATE_MAX: f64 = 1e7;
/// A bucket's end, over the end of the one below.
const SPACING: f64 = 1.05;
/// The highest bucket has no end.
const RATE_INFINITE: f64 = 1e99;

/// Some buckets beside each other, and what was seen of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Above this rate; -1 if there are none.
    pub start: f64,
    /// Up to this rate; -1 if there are none.
    pub end: f64,
    /// Confirmed in time.
    pub within_target: f64,
    /// Confirmed ever.
    pub total_confirmed: f64,
    /// Still here, though the time is over.
    pub in_mempool: f64,
    /// Went unconfirmed after that time.
    pub left_mempool: f64,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { start: -1.0, end: -1.0, within_target: 0.0, total_confirmed: 0.0, in_mempool: 0.0, left_mempool: 0.0 }
    }
}

impl Bucket {
    fn between(low: usize, high: usize, seen: Seen) -> Self {
        Self {
            start: low.checked_sub(1).map_or(0.0, |below| ENDS[below]),
            end: ENDS[high],
            within_target: seen.confirmed,
            total_confirmed: seen.total,
            in_mempool: seen.waiting,
            left_mempool: seen.failed,
        }
    }
}

/// The highest rate of each bucket.
static ENDS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let ends = std::iter::successors(Some(RATE_MIN), |end| Some(end * SPACING));
    ends.take_while(|end| *end <= RATE_MAX).chain([RATE_INFINITE]).collect()
});

/// The bucket of a rate.
pub(super) fn bucket_of(rate: f64) -> usize {
    ENDS.partition_point(|end| *end < rate)
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    /// Within so many blocks.
    pub(super) target: u32,
    /// Transactions in a block, on the average, that say enough.
    pub(super) enough: f64,
    /// Which part of them must have been confirmed.
    pub(super) success: f64,
    pub(super) height: u32,
}

/// What is answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    pub(super) median: Option<f64>,
    pub(super) pass: Bucket,
    pub(super) fail: Bucket,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    confirmed: f64,
    total: f64,
    waiting: f64,
    failed: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Stats {
    decay: f64,
    scale: u32,
    /// By bucket: how many were confirmed, and the sum of their rates.
    count: Vec<f64>,
    rates: Vec<f64>,
    /// By periods, then by bucket: how many were confirmed within as many, and how many went after as many.
    confirmed: Vec<Vec<f64>>,
    failed: Vec<Vec<f64>>,
    /// By the height at which they came, in a ring, then by bucket.
    waiting: Vec<Vec<u32>>,
    /// Those that came before the ring.
    waiting_long: Vec<u32>,
}

impl Stats {
    pub(super) fn new(periods: usize, decay: f64, scale: u32) -> Self {
        let buckets = ENDS.len();
        Self {
            decay,
            scale,
            count: vec![0.0; buckets],
            rates: vec![0.0; buckets],
            confirmed: vec![vec![0.0; buckets]; periods],
            failed: vec![vec![0.0; buckets]; periods],
            waiting: vec![vec![0; buckets]; periods * scale as usize],
            waiting_long: vec![0; buckets],
        }
    }

    pub(super) fn decay(&self) -> f64 {
        self.decay
    }

    pub(super) fn scale(&self) -> u32 {
        self.scale
    }

    pub(super) fn target_max(&self) -> u32 {
        self.waiting.len() as u32
    }

    fn ring(&self, height: u32) -> usize {
        height as usize % self.waiting.len()
    }

    pub(super) fn on_added(&mut self, height: u32, bucket: usize) {
        let at = self.ring(height);
        self.waiting[at][bucket] += 1;
    }

    pub(super) fn on_removed(&mut self, came: u32, best: u32, bucket: usize, in_block: bool) {
        let Some(blocks) = (if best == 0 { Some(0) } else { best.checked_sub(came) }) else { return };
        let at = self.ring(came);
        let counter =
            if blocks >= self.target_max() { &mut self.waiting_long[bucket] } else { &mut self.waiting[at][bucket] };
        *counter = counter.saturating_sub(1);
        if !in_block {
            let periods = (blocks / self.scale) as usize;
            self.failed.iter_mut().take(periods).for_each(|failed| failed[bucket] += 1.0);
        }
    }

    /// The ring moves on, and all averages decay.
    pub(super) fn on_block(&mut self, height: u32) {
        let at = self.ring(height);
        for (long, waiting) in self.waiting_long.iter_mut().zip(&mut self.waiting[at]) {
            *long += std::mem::take(waiting);
        }
        let rows = self.confirmed.iter_mut().chain(&mut self.failed).chain([&mut self.count, &mut self.rates]);
        rows.flatten().for_each(|average| *average *= self.decay);
    }

    /// `blocks` is one at least.
    pub(super) fn on_confirmed(&mut self, blocks: u32, rate: f64) {
        let (periods, bucket) = (blocks.div_ceil(self.scale) as usize, bucket_of(rate));
        self.confirmed.iter_mut().skip(periods - 1).for_each(|confirmed| confirmed[bucket] += 1.0);
        self.count[bucket] += 1.0;
        self.rates[bucket] += rate;
    }

    fn add(&self, seen: &mut Seen, bucket: usize, question: &Question) {
        let period = question.target.div_ceil(self.scale) as usize - 1;
        seen.confirmed += self.confirmed[period][bucket];
        seen.total += self.count[bucket];
        seen.failed += self.failed[period][bucket];
        let over = question.target..self.target_max();
        let waiting: u32 =
            over.map(|blocks| self.waiting[self.ring(question.height.wrapping_sub(blocks))][bucket]).sum();
        seen.waiting += f64::from(waiting) + f64::from(self.waiting_long[bucket]);
    }

    pub(super) fn ask(&self, question: Question) -> Answer {
        let highest = self.count.len() - 1;
        let (mut answer, mut best) = (Answer::default(), None);
        let (mut seen, mut partial, mut near, mut passing) = (Seen::default(), 0.0, None, true);
        for bucket in (0..=highest).rev() {
            let from = *near.get_or_insert(bucket);
            self.add(&mut seen, bucket, &question);
            partial += self.count[bucket];
            if partial < question.enough / (1.0 - self.decay) {
                continue;
            }
            partial = 0.0;
            if seen.confirmed / (seen.total + seen.failed + seen.waiting) < question.success {
                if passing {
                    answer.fail = Bucket::between(bucket, from, seen);
                    passing = false;
                }
                continue;
            }
            (answer.fail, passing) = (Bucket::default(), true);
            best = Some((bucket, from, std::mem::take(&mut seen)));
            near = None;
        }
        if let Some((low, high, seen)) = best {
            answer.median = self.median(low, high);
            let between = Bucket::between(low, high, seen);
            let ends = if answer.median.is_some() { (between.start, between.end) } else { (-1.0, -1.0) };
            answer.pass = Bucket { start: ends.0, end: ends.1, ..between };
        }
        if let Some(from) = near.filter(|_| passing) {
            answer.fail = Bucket::between(0, from, seen);
        }
        answer
    }

    /// The average rate of the bucket that has the transaction in the middle.
    fn median(&self, low: usize, high: usize) -> Option<f64> {
        let mut left = self.count[low..=high].iter().sum::<f64>();
        if left == 0.0 {
            return None;
        }
        left /= 2.0;
        for bucket in low..=high {
            if self.count[bucket] < left {
                left -= self.count[bucket];
            } else {
                return Some(self.rates[bucket] / self.count[bucket]);
            }
        }
        None
    }

    fn rows(&mut self) -> impl Iterator<Item = &mut Vec<f64>> {
        [&mut self.count, &mut self.rates].into_iter().chain(&mut self.confirmed).chain(&mut self.failed)
    }

    /// The averages; what waits is not written.
    pub(super) fn write(&self, body: &mut Vec<u8>) {
        for average in self.clone().rows().flatten() {
            body.extend(average.to_le_bytes());
        }
    }

    /// Reads as many as there are. `None` if they are too few, or no counts.
    pub(super) fn read(&mut self, body: &mut &[u8]) -> Option<()> {
        for average in self.rows().flatten() {
            let bytes = body.split_off(..8)?;
            *average = f64::from_le_bytes(bytes.try_into().expect("eight bytes"));
            if !average.is_finite() || *average < 0.0 {
                return None;
            }
        }
        Some(())
    }
}
