//! How likely a block that counts is to stay.
//!
//! An attacker with a share `q` of all hash power mines a chain of its own, in secret, from the block below a payment. The
//! merchant waits for `z` blocks upon the payment, its own among them. Then the attacker has some number of blocks, and wins if
//! it ever comes level (§11).
//!
//! - [`reversal`]: how often that happens, exactly. The attacker's blocks at that moment follow a negative binomial distribution
//!   (Rosenfeld, "Analysis of hashrate-based double-spending", §4), and the sum is twice an incomplete beta function, which
//!   equals `I_{4pq}(z, 1/2)` (Grunspan & Pérez-Marco, "Double spend races", theorem 1);
//! - [`nakamoto`]: the paper's own figure, which takes a Poisson distribution in its stead, and so says too little;
//! - with no confirmation the payment is in no block, and the attacker needs no race: it is always reversed.
//!
//! Both sums are of positive terms alone, so that small odds keep their digits.
//!
//! Deliberately absent: what it costs (`cost`), and an attacker that gives up.

/// More confirmations than anybody waits for.
pub const CONFIRMATIONS_MAX: u32 = 1_000_000;

/// The odds of a payment, as fractions of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Odds {
    /// That it is reversed, exactly.
    pub reversal: f64,
    /// That it stays.
    pub confidence: f64,
    /// That it is reversed, by the paper's approximation.
    pub nakamoto: f64,
}

/// The odds of a payment with `z` confirmations against an attacker with a share `q` of all hash power.
///
/// # Panics
/// If `q` is no share.
#[must_use]
pub fn odds(z: u32, q: f64) -> Odds {
    let reversal = reversal(z, q);
    Odds { reversal, confidence: 1.0 - reversal, nakamoto: nakamoto(z, q) }
}

fn check(q: f64) {
    assert!((0.0..=1.0).contains(&q), "a share of the hash power lies between 0 and 1");
}

/// Adds numbers that are given by their logarithms, without losing the small ones.
#[derive(Debug)]
struct LogSum {
    largest: f64,
    scaled: f64,
}

impl LogSum {
    fn new() -> Self {
        Self { largest: f64::NEG_INFINITY, scaled: 0.0 }
    }

    fn add(&mut self, log: f64) {
        if log > self.largest {
            self.scaled = self.scaled * (self.largest - log).exp() + 1.0;
            self.largest = log;
        } else if log > f64::NEG_INFINITY {
            self.scaled += (log - self.largest).exp();
        }
    }

    fn log(&self) -> f64 {
        if self.scaled > 0.0 { self.largest + self.scaled.ln() } else { f64::NEG_INFINITY }
    }
}

/// That the attacker ever comes level, exactly.
///
/// # Panics
/// If `q` is no share.
#[must_use]
pub fn reversal(z: u32, q: f64) -> f64 {
    check(q);
    if z == 0 || q >= 0.5 {
        return 1.0;
    }
    let (ln_p, ln_q) = ((1.0 - q).ln(), q.ln());
    // 2 * sum over k < z of C(z + k - 1, k) q^z p^k.
    let (mut sum, mut term) = (LogSum::new(), f64::from(z) * ln_q);
    for k in 0..z {
        sum.add(term);
        term += ln_p + (f64::from(z) + f64::from(k)).ln() - (f64::from(k) + 1.0).ln();
    }
    (sum.log() + 2f64.ln()).exp().min(1.0)
}

/// That the attacker ever comes level, as the paper has it (§11).
///
/// # Panics
/// If `q` is no share.
#[must_use]
pub fn nakamoto(z: u32, q: f64) -> f64 {
    check(q);
    if z == 0 || q >= 0.5 {
        return 1.0;
    }
    if q == 0.0 {
        return 0.0;
    }
    let p = 1.0 - q;
    let lambda = f64::from(z) * q / p;
    let (ln_lambda, ln_ratio) = (lambda.ln(), (q / p).ln());
    // Up to z it must still catch up; beyond, it is ahead already.
    let (mut sum, mut poisson) = (LogSum::new(), -lambda);
    for k in 0..=u64::from(z) + 100_000 {
        let behind = f64::from(z) - k as f64;
        sum.add(poisson + if behind > 0.0 { behind * ln_ratio } else { 0.0 });
        poisson += ln_lambda - (k as f64 + 1.0).ln();
        if behind < 0.0 && poisson < sum.log() - 40.0 {
            break;
        }
    }
    sum.log().exp().min(1.0)
}

/// How many confirmations bring the odds of a reversal to `risk` or below; none up to [`CONFIRMATIONS_MAX`] may.
///
/// # Panics
/// If `q` is no share.
#[must_use]
pub fn confirmations_for(risk: f64, q: f64) -> Option<u32> {
    first(|z| reversal(z, q) <= risk)
}

/// The least number that holds, of a property that all greater ones have, too.
pub(crate) fn first(holds: impl Fn(u32) -> bool) -> Option<u32> {
    let mut above = 1;
    if holds(0) {
        return Some(0);
    }
    while !holds(above) {
        if above >= CONFIRMATIONS_MAX {
            return None;
        }
        above *= 2;
    }
    let (mut below, mut above) = (above / 2, above);
    while above - below > 1 {
        let middle = below + (above - below) / 2;
        if holds(middle) { above = middle } else { below = middle }
    }
    Some(above)
}

/// The popular ladder: what people say that so many confirmations are worth. It fits no attacker: each of its rungs asks for
/// another share.
pub const LADDER: [(u32, f64, &str); 5] = [
    (0, 0.25, "seen in mempool"),
    (1, 0.60, "in a block"),
    (2, 0.90, "probably safe"),
    (3, 0.97, "very likely safe"),
    (6, 0.999, "the Bitcoin standard"),
];

/// The popular rung at or below so many confirmations.
#[must_use]
pub fn popular(z: u32) -> f64 {
    LADDER.iter().rev().find(|(at, ..)| *at <= z).map_or(0.0, |(_, confidence, _)| *confidence)
}

/// Selfish mining (Eyal & Sirer, 2014) pays above this share, if so much (`gamma`) of the honest power mines upon the attacker's
/// block where two compete; and only once difficulty has followed.
#[must_use]
pub fn selfish_threshold(gamma: f64) -> f64 {
    (1.0 - gamma) / (3.0 - 2.0 * gamma)
}

/// The share of all blocks of the chain that counts that a selfish miner of share `q` has in the long run (ibidem, equation 8).
#[must_use]
pub fn selfish_share(q: f64, gamma: f64) -> f64 {
    let p = 1.0 - q;
    let above = q * p * p * (4.0 * q + gamma * (1.0 - 2.0 * q)) - q.powi(3);
    above / (1.0 - q * (1.0 + (2.0 - q) * q))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_about(value: f64, expected: f64) -> bool {
        (value - expected).abs() <= expected * 0.011
    }

    /// The paper's own table (§11).
    #[test]
    fn the_papers_table() {
        let ten = [1.0, 0.2045873, 0.0509779, 0.0131722, 0.0034552, 0.0009137, 0.0002428, 0.0000647, 0.0000173];
        for (z, expected) in ten.into_iter().enumerate() {
            assert!((nakamoto(z as u32, 0.1) - expected).abs() < 6e-8, "z = {z}");
        }
        let thirty = [(5, 0.1773523), (10, 0.0416605), (20, 0.0024804), (30, 0.0001522), (50, 0.0000006)];
        for (z, expected) in thirty {
            assert!((nakamoto(z, 0.3) - expected).abs() < 6e-8, "z = {z}");
        }
        let needed = [(0.10, 5), (0.15, 8), (0.20, 11), (0.25, 15), (0.30, 24), (0.35, 41), (0.40, 89), (0.45, 340)];
        for (q, expected) in needed {
            assert_eq!(first(|z| nakamoto(z, q) < 0.001), Some(expected), "q = {q}");
        }
    }

    /// The table of Grunspan & Pérez-Marco, and Rosenfeld's.
    #[test]
    fn the_exact_table() {
        let expected = [
            (1, 0.10, 0.20),
            (2, 0.10, 0.056),
            (3, 0.10, 0.01712),
            (6, 0.10, 0.00059141),
            (10, 0.10, 0.00000786),
            (6, 0.30, 0.156446),
            (10, 0.25, 0.0178),
            (6, 0.45, 0.7340),
        ];
        for (z, q, odds) in expected {
            assert!(is_about(reversal(z, q), odds), "z = {z}, q = {q}: {}", reversal(z, q));
        }
        for (q, z) in [(0.10, 6), (0.25, 20), (0.30, 32), (0.45, 539)] {
            assert_eq!(confirmations_for(0.001, q), Some(z), "q = {q}");
        }
        assert_eq!(confirmations_for(0.001, 0.5), None);
        assert_eq!(confirmations_for(0.001, 0.0), Some(1));
    }

    /// Rosenfeld's sum, as he writes it.
    fn rosenfeld(z: u32, q: f64) -> f64 {
        let p = 1.0 - q;
        let (mut binomial, mut sum) = (1.0, 0.0);
        for k in 0..z {
            let (to_z, to_k) = (z as i32, k as i32);
            sum += binomial * (p.powi(to_z) * q.powi(to_k) - q.powi(to_z) * p.powi(to_k));
            binomial *= f64::from(z + k) / f64::from(k + 1);
        }
        1.0 - sum
    }

    proptest! {
        #[test]
        fn two_sums_are_one(z in 1..40u32, q in 0.001..0.499f64) {
            prop_assert!((reversal(z, q) - rosenfeld(z, q)).abs() < 1e-12);
        }

        #[test]
        fn more_confirmations_and_less_power_are_safer(z in 0..400u32, q in 0.0..0.5f64) {
            prop_assert!(reversal(z + 1, q) <= reversal(z, q));
            prop_assert!(reversal(z, q / 2.0) <= reversal(z, q));
            let odds = odds(z, q);
            prop_assert!((0.0..=1.0).contains(&odds.reversal) && (0.0..=1.0).contains(&odds.nakamoto));
            prop_assert!((odds.reversal + odds.confidence - 1.0).abs() < 1e-15);
        }
    }

    #[test]
    fn small_odds_keep_their_digits() {
        let tiny = reversal(200, 0.1);
        assert!(tiny > 0.0 && tiny < 1e-80, "{tiny:e}");
        assert!(nakamoto(200, 0.1) > 0.0);
    }

    #[test]
    fn selfish_mining_pays_from_a_third() {
        for (gamma, threshold) in [(0.0, 1.0 / 3.0), (0.5, 0.25), (1.0, 0.0)] {
            assert!((selfish_threshold(gamma) - threshold).abs() < 1e-12);
            if threshold > 0.0 {
                assert!((selfish_share(threshold, gamma) - threshold).abs() < 1e-9, "it is even there");
            }
        }
        assert!(selfish_share(0.4, 0.0) > 0.4 && selfish_share(0.3, 0.0) < 0.3);
    }

    #[test]
    fn the_ladder_fits_nobody() {
        assert_eq!(popular(4), 0.97);
        let share_of = |z: u32, confidence: f64| {
            let (mut low, mut high) = (0.0, 0.5);
            for _ in 0..60 {
                let middle = (low + high) / 2.0;
                if reversal(z, middle) > 1.0 - confidence { high = middle } else { low = middle }
            }
            low
        };
        let shares: Vec<f64> = LADDER.iter().skip(1).map(|(z, confidence, _)| share_of(*z, *confidence)).collect();
        for (share, expected) in shares.iter().zip([0.20, 0.135, 0.122, 0.11]) {
            assert!((share - expected).abs() < 0.002, "{shares:?}");
        }
    }
}
