//! A payment, and a branch in secret.
//!
//! - upon the payment's block: the attacker mines upon the block below it, and shows nothing;
//! - upon `z` blocks upon the payment, its own among them: the merchant delivers;
//! - upon the attacker's branch being level with the honest one then, or ever behind it: it has come up, as the formulas count it;
//! - upon it being ahead: it is shown, and every honest node reverts the payment;
//! - upon it being too far behind: it is given up.

use bitcoin::block::Header;
use bitcoin::pow::CompactTarget;
use fastrand::Rng;

use super::{LIMIT, START, View, wait};

/// What is raced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Race {
    /// The attacker's share of all hash power.
    pub share: f64,
    /// How many blocks the merchant waits for.
    pub confirmations: u32,
    /// The attacker gives up when so many blocks behind.
    pub gives_up: u32,
}

/// What races came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Raced {
    /// How many there were.
    pub trials: u32,
    /// In so many the attacker came level.
    pub level: u32,
    /// In so many every honest node reverted the payment.
    pub reverted: u32,
    /// Blocks that the deepest of these reorganisations reverted.
    pub deepest: u32,
}

impl Raced {
    /// How often the attacker came level, and the interval around it that holds the truth in 95 of 100 cases (Wilson).
    #[must_use]
    pub fn frequency(&self) -> (f64, [f64; 2]) {
        let (n, k, z) = (f64::from(self.trials), f64::from(self.level), 1.96f64);
        let middle = (k + z * z / 2.0) / (n + z * z);
        let half = z / (n + z * z) * (k * (n - k) / n + z * z / 4.0).sqrt();
        (k / n, [(middle - half).max(0.0), (middle + half).min(1.0)])
    }
}

/// One trial's sides.
struct Trial {
    public: View,
    /// Blocks upon the payment, the first being its own.
    honest: u32,
    secret: Vec<Header>,
    time: f64,
    mark: u64,
}

impl Trial {
    fn new() -> Self {
        let public = View::new(CompactTarget::from_consensus(LIMIT), false);
        Self { public, honest: 0, secret: Vec::new(), time: f64::from(START), mark: 0 }
    }

    /// Somebody finds a block.
    fn step(&mut self, rng: &mut Rng, share: f64) {
        self.time += wait(rng, 600.0);
        self.mark += 1;
        if rng.f64() < share {
            let prev = self
                .secret
                .last()
                .map_or_else(|| self.public.hash(verity_nakamoto::BlockId::GENESIS), Header::block_hash);
            let time = self.secret.last().map_or(START, |last| last.time);
            self.secret.push(super::mined(
                prev,
                CompactTarget::from_consensus(LIMIT),
                (self.time as u32).max(time + 1),
                self.mark,
            ));
        } else {
            let header = self.public.mine(self.public.engine.tip(), self.time, self.mark);
            self.public.see(&header);
            self.honest += 1;
        }
    }

    fn ahead(&self) -> i64 {
        self.secret.len() as i64 - i64::from(self.honest)
    }

    /// The attacker shows its branch. True if the chain that counts is its own.
    fn show(&mut self) -> bool {
        for header in &self.secret {
            self.public.see(header);
        }
        let tip = self.public.engine.tip();
        self.secret.last().is_some_and(|last| self.public.hash(tip) == last.block_hash())
    }
}

/// Races so many times.
///
/// # Panics
/// If the engine does not follow the branch with the most work.
#[must_use]
pub fn race(seed: u64, race: &Race, trials: u32) -> Raced {
    let (mut rng, mut raced) = (Rng::with_seed(seed), Raced { trials, ..Raced::default() });
    for _ in 0..trials {
        let mut trial = Trial::new();
        while trial.honest < race.confirmations {
            trial.step(&mut rng, race.share);
        }
        let (mut level, most) = (trial.ahead() >= 0, i64::from(race.gives_up));
        while !level && trial.ahead() > -most {
            trial.step(&mut rng, race.share);
            level = trial.ahead() >= 0;
        }
        raced.level += u32::from(level);
        if !level {
            continue;
        }
        // Level is not ahead yet: nodes keep what they saw first.
        while trial.ahead() <= 0 && trial.ahead() > -most {
            trial.step(&mut rng, race.share);
        }
        if trial.ahead() > 0 {
            let honest = trial.honest;
            assert!(trial.show(), "more work counts");
            assert_eq!(trial.public.reverts, honest, "all upon the payment is reverted");
            raced.reverted += 1;
            raced.deepest = raced.deepest.max(honest);
        }
    }
    raced
}

#[cfg(test)]
mod tests {
    use verity_nakamoto::finality::{nakamoto, reversal};

    use super::*;

    /// Races come out as the exact formula says, and where the paper's differs enough they tell the two apart.
    #[test]
    fn races_are_won_as_often_as_the_formula_says() {
        for (seed, share, confirmations) in [(1, 0.1, 1), (2, 0.1, 2), (3, 0.25, 3), (4, 0.3, 6), (5, 0.4, 4)] {
            let raced = race(seed, &Race { share, confirmations, gives_up: 40 }, 3_000);
            let exact = reversal(confirmations, share);
            let spread = (exact * (1.0 - exact) / f64::from(raced.trials)).sqrt();
            let (seen, [low, high]) = raced.frequency();
            assert!((seen - exact).abs() < 4.0 * spread, "z = {confirmations}, q = {share}: {seen} and {exact}");
            assert!(low <= seen && seen <= high);
            assert!(raced.reverted <= raced.level);
        }
        let raced = race(9, &Race { share: 0.3, confirmations: 6, gives_up: 60 }, 6_000);
        let (_, [low, high]) = raced.frequency();
        assert!((low..=high).contains(&reversal(6, 0.3)), "{low} to {high}");
        assert!(nakamoto(6, 0.3) < low, "the approximation is too low");
        assert!(raced.deepest >= 6);
    }

    #[test]
    fn a_majority_always_comes_up() {
        let raced = race(1, &Race { share: 0.6, confirmations: 3, gives_up: 200 }, 300);
        assert_eq!((raced.level, raced.reverted), (300, 300));
    }
}
