//! What an attack costs, and how long to wait so that it does not pay.
//!
//! Every figure comes in with [`Economy`]: nothing about the world is written down here. Money is in one currency throughout.
//!
//! The attacker of [`crate::finality`] has hash power, which it could have used to mine as everybody else does. While the honest
//! miners find `z` blocks it finds `z * q / (1 - q)` on average, and loses their rewards if it fails:
//!
//! ```text
//! gain(z) = reversal(z) * value - (1 - reversal(z)) * z * q / (1 - q) * reward
//! ```
//!
//! [`confirmations_worth`] is the least `z` at which that is no gain. It rests on a chain whose value does not fall upon the
//! attack, and on an attacker that gives up where the merchant stops waiting: both favour the attacker.
//!
//! Above half of all hash power no number of confirmations helps, and only the price of having it protects
//! ([`majority`]).

use crate::finality::{first, reversal};

/// A day, in seconds.
const DAY: f64 = 86_400.0;

/// The world, as whoever asks takes it to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Economy {
    /// Hashes a second of all honest miners.
    pub hash_rate: f64,
    /// Seconds between blocks.
    pub spacing: f64,
    /// What a block brings its miner: subsidy and fees, in coins.
    pub reward_coins: f64,
    /// The price of a coin.
    pub coin_price: f64,
    /// The price of hardware, for a terahash a second.
    pub hardware_price: f64,
    /// Joules for a terahash.
    pub efficiency: f64,
    /// The price of a kilowatt hour.
    pub power_price: f64,
    /// The rent of a terahash a second for a day.
    pub rent_price: f64,
    /// How much of the honest hash rate can be rented at all, as a fraction of it.
    pub rentable: f64,
}

impl Economy {
    /// What a block brings, in money.
    #[must_use]
    pub fn reward(&self) -> f64 {
        self.reward_coins * self.coin_price
    }
}

/// What it takes to outweigh the honest miners for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Majority {
    /// Hashes a second that the attacker has.
    pub hash_rate: f64,
    /// To buy them.
    pub hardware: f64,
    /// Power for a day.
    pub power_day: f64,
    /// To rent them for a day, where so much can be rented.
    pub rent_day: Option<f64>,
    /// How much of them can be rented, as a fraction.
    pub rentable: f64,
    /// What the attacker's blocks bring it in a day, if its chain is the one that counts.
    pub rewards_day: f64,
}

/// What it takes to have the share `q` of all hash power, beside the honest miners of `economy`.
///
/// # Panics
/// If `q` is no share below one.
#[must_use]
pub fn majority(q: f64, economy: &Economy) -> Majority {
    assert!((0.0..1.0).contains(&q), "a share of the hash power lies between 0 and 1");
    let hash_rate = economy.hash_rate * q / (1.0 - q);
    let terahashes = hash_rate / 1e12;
    let kilowatts = terahashes * economy.efficiency / 1e3;
    let rentable = if hash_rate > 0.0 { (economy.rentable * economy.hash_rate / hash_rate).min(1.0) } else { 1.0 };
    Majority {
        hash_rate,
        hardware: terahashes * economy.hardware_price,
        power_day: kilowatts * DAY / 3_600.0 * economy.power_price,
        rent_day: (rentable >= 1.0).then_some(terahashes * economy.rent_price),
        rentable,
        // Its blocks alone count once it is ahead, and difficulty does not follow within a day.
        rewards_day: DAY / economy.spacing * q / (1.0 - q) * economy.reward(),
    }
}

/// What the attacker gains on average beyond mining as others do, if the merchant waits for `z` confirmations.
///
/// # Panics
/// If `q` is no share below a half.
#[must_use]
pub fn gain(z: u32, q: f64, value: f64, economy: &Economy) -> f64 {
    assert!((0.0..0.5).contains(&q), "a race that may be lost is one of a minority");
    let wins = reversal(z, q);
    wins * value - (1.0 - wins) * f64::from(z) * q / (1.0 - q) * economy.reward()
}

/// The least number of confirmations at which reversing a payment of this value does not pay; none against a majority.
#[must_use]
pub fn confirmations_worth(value: f64, q: f64, economy: &Economy) -> Option<u32> {
    if q >= 0.5 {
        return None;
    }
    if value <= 0.0 {
        return Some(0);
    }
    // Odds fall and what is at stake grows, so whatever holds for one number holds for all greater ones.
    first(|z| z > 0 && gain(z, q, value, economy) <= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECONOMY: Economy = Economy {
        hash_rate: 1e21,
        spacing: 600.0,
        reward_coins: 3.125,
        coin_price: 100_000.0,
        hardware_price: 15.0,
        efficiency: 15.0,
        power_price: 0.05,
        rent_price: 0.05,
        rentable: 0.01,
    };

    #[test]
    fn a_majority_costs_what_it_is_made_of() {
        let majority = majority(0.5, &ECONOMY);
        assert!((majority.hash_rate - 1e21).abs() < 1e9);
        assert!((majority.hardware - 15e9).abs() < 1.0, "a billion terahashes a second at 15 each");
        // 15 GW for a day, at 5 cents the kilowatt hour.
        assert!((majority.power_day - 15e6 * 24.0 * 0.05).abs() < 1.0);
        assert_eq!(majority.rent_day, None, "no more than a hundredth can be rented");
        assert!((majority.rewards_day - 144.0 * 312_500.0).abs() < 1.0);
    }

    #[test]
    fn whoever_risks_more_waits_longer() {
        let worth = |value, q| confirmations_worth(value, q, &ECONOMY);
        assert_eq!(worth(0.0, 0.1), Some(0));
        assert_eq!(worth(5.0, 0.1), Some(1), "a coffee");
        let waits: Vec<Option<u32>> =
            [5.0, 100.0, 30_000.0, 500_000.0, 1e7, 1e9].iter().map(|value| worth(*value, 0.1)).collect();
        assert!(waits.is_sorted() && waits.last() > waits.first(), "{waits:?}");
        assert!(worth(1e7, 0.3) > worth(1e7, 0.1));
        assert_eq!(worth(5.0, 0.5), None);
        for value in [5.0, 1e5, 1e9] {
            let z = worth(value, 0.25).expect("a minority");
            assert!(gain(z, 0.25, value, &ECONOMY) <= 0.0);
            assert!(z == 1 || gain(z - 1, 0.25, value, &ECONOMY) > 0.0);
        }
    }
}
