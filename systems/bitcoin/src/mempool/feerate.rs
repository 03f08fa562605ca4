//! Fees by size, compared without rounding, and what comes of them when they must be rounded.
//!
//! Rates that an operator sets are satoshi per 1,000 vbytes. A transaction's or a chunk's is a fraction, and stays one.
//!
//! Deliberately absent: estimates.

use std::cmp::Ordering;

/// A fee and a size, in bytes or weight units, as a fraction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeeFraction {
    /// Satoshi; an operator's word may make it negative.
    pub fee: i64,
    /// Never negative, and 0 for nothing at all.
    pub size: u64,
}

impl FeeFraction {
    /// A fee for a size.
    #[must_use]
    pub fn new(fee: i64, size: u64) -> Self {
        Self { fee, size }
    }

    /// Compares the quotients alone.
    #[must_use]
    pub fn cmp_rate(self, other: Self) -> Ordering {
        let cross = |a: Self, b: Self| i128::from(a.fee) * i128::from(b.size);
        cross(self, other).cmp(&cross(other, self))
    }

    /// In satoshi per 1,000 of its size, rounded down.
    #[must_use]
    pub fn per_thousand(self) -> i64 {
        if self.size == 0 {
            return 0;
        }
        let rate = (i128::from(self.fee) * 1_000).div_euclid(i128::from(self.size));
        i64::try_from(rate).unwrap_or(if rate < 0 { i64::MIN } else { i64::MAX })
    }

    /// The sum of fees for the sum of sizes.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { fee: self.fee.saturating_add(other.fee), size: self.size + other.size }
    }
}

/// What a rate of satoshi per 1,000 vbytes asks for so many vbytes, rounded up.
#[must_use]
pub fn fee_at(rate: u64, vsize: u64) -> i64 {
    let fee = (u128::from(rate) * u128::from(vsize)).div_ceil(1_000);
    i64::try_from(fee).unwrap_or(i64::MAX)
}

/// True if the chunks of `after` are worth more to a miner than those of `before`, however much of them fits in a block.
/// Both are sorted, the best rate first.
///
/// Each is drawn as fees over sizes, a line from chunk to chunk, level behind its end; `after` must lie above somewhere, and
/// nowhere below.
#[must_use]
pub(super) fn improves(before: &[FeeFraction], after: &[FeeFraction]) -> bool {
    let mut better = false;
    for size in corners(before).chain(corners(after)) {
        match height_at(after, size).cmp_rate(height_at(before, size)) {
            Ordering::Less => return false,
            Ordering::Greater => better = true,
            Ordering::Equal => {}
        }
    }
    better
}

/// Where the line bends. Between two bends of either line both are straight, so that nothing is to be seen there.
fn corners(chunks: &[FeeFraction]) -> impl Iterator<Item = u64> {
    chunks.iter().scan(0, |size, chunk| {
        *size += chunk.size;
        Some(*size)
    })
}

/// The line's height at a size, times the size of the chunk that it falls into, over that size.
fn height_at(chunks: &[FeeFraction], size: u64) -> FeeFraction {
    let (mut fee, mut at) = (0i64, 0);
    for chunk in chunks {
        if at + chunk.size > size {
            // Scaled up, so that it stays whole: no sum of a few thousand transactions comes near the bound.
            let whole = i128::from(fee) * i128::from(chunk.size) + i128::from(chunk.fee) * i128::from(size - at);
            return scaled(whole, chunk.size);
        }
        fee = fee.saturating_add(chunk.fee);
        at += chunk.size;
    }
    FeeFraction { fee, size: 1 }
}

fn scaled(whole: i128, size: u64) -> FeeFraction {
    match i64::try_from(whole) {
        Ok(fee) => FeeFraction { fee, size },
        // Only an operator's word makes fees of that kind; a satoshi is nothing beside them.
        Err(_) => FeeFraction { fee: (whole / i128::from(size)) as i64, size: 1 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(pairs: &[(i64, u64)]) -> Vec<FeeFraction> {
        pairs.iter().map(|(fee, size)| FeeFraction::new(*fee, *size)).collect()
    }

    #[test]
    fn rates_are_compared_exactly() {
        let (a, b) = (FeeFraction::new(1, 3), FeeFraction::new(333_333_333, 1_000_000_000));
        assert_eq!(a.cmp_rate(b), Ordering::Greater);
        assert_eq!(FeeFraction::new(10, 3).per_thousand(), 3_333);
        assert_eq!((fee_at(100, 141), fee_at(1, 1), fee_at(0, 9)), (15, 1, 0));
    }

    #[test]
    fn a_diagram_is_better_only_if_it_is_nowhere_worse() {
        let before = chunks(&[(950, 300), (100, 100)]);
        assert!(improves(&before, &chunks(&[(1_000, 300), (100, 100)])));
        assert!(!improves(&before, &before));
        // Larger at the end, but lower at first.
        assert!(!improves(&before, &chunks(&[(1_060, 500)])));
        // Smaller and richer.
        assert!(improves(&chunks(&[(100, 100)]), &chunks(&[(100, 50)])));
        // Each with the next: which of the two is better, if one is.
        let cases = [
            (&[(950, 300), (100, 100)][..], &[(1_000, 300), (50, 100)][..], Some(true)),
            (&[(950, 300), (100, 100)], &[(1_000, 300), (0, 100)], None),
            (&[(950, 300), (100, 100)], &[(1_100, 300)], Some(true)),
            (&[(950, 300), (100, 100)], &[(1_100, 100), (0, 100)], Some(true)),
            (&[(950, 300), (100, 100)], &[(750, 100), (249, 250), (151, 650)], None),
            (&[(950, 300), (100, 100)], &[(750, 100), (250, 250), (150, 150)], Some(true)),
            (&[(950, 300), (100, 99)], &[(950, 300), (100, 100)], Some(false)),
            (&[(950, 300), (100, 99)], &[(950, 300), (100, 100), (0, 1), (0, 1)], Some(false)),
            (&[(950, 300), (100, 99)], &[(950, 300), (100, 100), (0, 1), (0, 1), (1, 1)], None),
        ];
        for (one, other, better) in cases {
            let (one, other) = (chunks(one), chunks(other));
            assert_eq!((improves(&one, &other), improves(&other, &one)), (better == Some(true), better == Some(false)));
        }
        assert!(improves(&[], &chunks(&[(1, 100)])) && !improves(&chunks(&[(1, 100)]), &[]));
    }
}
