//! The odds of a payment, exact and approximate, beside what people say; and what an attack costs, of figures that are all
//! printed.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use verity_nakamoto::cost::{self, Economy};
use verity_nakamoto::finality::{self, CONFIRMATIONS_MAX, LADDER, odds};

/// What people buy, and for how much.
const PURCHASES: [(&str, f64); 5] = [
    ("coffee", 5.0),
    ("online store", 200.0),
    ("car", 40_000.0),
    ("house", 600_000.0),
    ("exchange deposit", 20_000_000.0),
];

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  verity bitcoin confidence --confirmations 6 --attacker 0.1\n  \
    verity bitcoin confidence --attacker 0.3 --risk 0.001        how many are enough?\n  \
    verity bitcoin confidence --attacker 0.1 --value 40000        what does an attack cost, and when does it not pay?\n\n\
    The exact figure is that of Rosenfeld, and of Grunspan and Perez-Marco; Nakamoto's own says too little risk.\n\
    The popular ladder (25, 60, 90, 97, 99.9 %) fits no single attacker, and a payment in no block has no odds at all.")]
pub(crate) struct Confidence {
    /// How many blocks stand upon the payment, its own among them.
    #[arg(long, value_name = "Z", default_value_t = 6, value_parser = clap::value_parser!(u32).range(..=i64::from(CONFIRMATIONS_MAX)))]
    confirmations: u32,
    /// The attacker's share of all hash power.
    #[arg(long, value_name = "Q", default_value_t = 0.1, value_parser = share)]
    attacker: f64,
    /// Tell how many confirmations bring the odds of a reversal to this.
    #[arg(long, value_name = "P", value_parser = share)]
    risk: Option<f64>,
    /// What the payment is worth: tell what an attack costs, and at how many confirmations it does not pay.
    #[arg(long, value_name = "MONEY")]
    value: Option<f64>,
    #[command(flatten)]
    world: World,
}

/// Every figure of the cost model. The defaults are examples: state your own.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "The world, for --value (defaults are examples; state your own)")]
struct World {
    /// Exahashes a second of all honest miners.
    #[arg(long, value_name = "EH/S", default_value_t = 1_000.0)]
    hash_rate: f64,
    /// Seconds between blocks.
    #[arg(long, value_name = "S", default_value_t = 600.0)]
    spacing: f64,
    /// What a block brings, in coins.
    #[arg(long, value_name = "COINS", default_value_t = 3.15)]
    reward: f64,
    /// The price of a coin.
    #[arg(long, value_name = "MONEY", default_value_t = 100_000.0)]
    coin_price: f64,
    /// The price of hardware for a terahash a second.
    #[arg(long, value_name = "MONEY", default_value_t = 15.0)]
    hardware_price: f64,
    /// Joules for a terahash.
    #[arg(long, value_name = "J", default_value_t = 17.0)]
    efficiency: f64,
    /// The price of a kilowatt hour.
    #[arg(long, value_name = "MONEY", default_value_t = 0.05)]
    power_price: f64,
    /// The rent of a terahash a second for a day.
    #[arg(long, value_name = "MONEY", default_value_t = 0.05)]
    rent_price: f64,
    /// How much of the honest hash rate can be rented, as a fraction of it.
    #[arg(long, value_name = "FRACTION", default_value_t = 0.005)]
    rentable: f64,
}

fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("a share lies between 0 and 1".to_owned()) }
}

impl World {
    fn economy(&self) -> Result<Economy> {
        let figures = [
            ("--hash-rate", self.hash_rate),
            ("--spacing", self.spacing),
            ("--reward", self.reward),
            ("--coin-price", self.coin_price),
            ("--hardware-price", self.hardware_price),
            ("--efficiency", self.efficiency),
            ("--power-price", self.power_price),
            ("--rent-price", self.rent_price),
            ("--rentable", self.rentable),
        ];
        for (flag, figure) in figures {
            if !figure.is_finite() || figure < 0.0 || (figure == 0.0 && flag == "--spacing") {
                bail!("{flag} is {figure}, which no world has");
            }
        }
        Ok(Economy {
            hash_rate: self.hash_rate * 1e18,
            spacing: self.spacing,
            reward_coins: self.reward,
            coin_price: self.coin_price,
            hardware_price: self.hardware_price,
            efficiency: self.efficiency,
            power_price: self.power_price,
            rent_price: self.rent_price,
            rentable: self.rentable,
        })
    }
}

/// A fraction in percent, with as many digits as say something.
fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    match percent {
        0.0 => "0 %".to_owned(),
        _ if (99.995..100.0).contains(&percent) => format!("{percent:.6} %"),
        _ if percent >= 1.0 => format!("{percent:.2} %"),
        _ if percent >= 0.001 => format!("{percent:.4} %"),
        _ if percent >= 1e-6 => format!("{percent:.6} %"),
        _ => format!("{percent:.1e} %"),
    }
}

/// An amount of money, in words that can be read.
fn money(amount: f64) -> String {
    match amount {
        _ if amount >= 1e9 => format!("{:.2} billion", amount / 1e9),
        _ if amount >= 1e6 => format!("{:.2} million", amount / 1e6),
        _ if amount >= 1e3 => format!("{:.1} thousand", amount / 1e3),
        _ => format!("{amount:.2}"),
    }
}

fn wait(confirmations: Option<u32>, spacing: f64) -> String {
    match confirmations {
        None => "never".to_owned(),
        Some(0) => "0".to_owned(),
        Some(z) => format!("{z} ({:.0} min)", f64::from(z) * spacing / 60.0),
    }
}

impl Confidence {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        println!("{}", if json { self.machine()? } else { self.people()? });
        Ok(())
    }

    fn machine(&self) -> Result<String> {
        let odds = odds(self.confirmations, self.attacker);
        let mut out = json!({
            "confirmations": self.confirmations, "attacker": self.attacker,
            "reversal": odds.reversal, "confidence": odds.confidence, "nakamoto": odds.nakamoto,
            "popular": finality::popular(self.confirmations),
        });
        if let Some(risk) = self.risk {
            out["risk"] = json!(risk);
            out["confirmations_for_risk"] = json!(finality::confirmations_for(risk, self.attacker));
        }
        if let Some(value) = self.value {
            let economy = self.world.economy()?;
            let half = cost::majority(0.5, &economy);
            out["value"] = json!(value);
            out["confirmations_for_value"] = json!(cost::confirmations_worth(value, self.attacker, &economy));
            out["majority"] = json!({
                "hash_rate": half.hash_rate, "hardware": half.hardware, "power_day": half.power_day,
                "rent_day": half.rent_day, "rentable": half.rentable, "rewards_day": half.rewards_day,
            });
            out["world"] = json!({
                "hash_rate": economy.hash_rate, "spacing": economy.spacing, "reward": economy.reward_coins,
                "coin_price": economy.coin_price, "hardware_price": economy.hardware_price,
                "efficiency": economy.efficiency, "power_price": economy.power_price,
                "rent_price": economy.rent_price, "rentable": economy.rentable,
            });
        }
        Ok(out.to_string())
    }

    fn people(&self) -> Result<String> {
        let (z, q) = (self.confirmations, self.attacker);
        let own = odds(z, q);
        let mut out = String::new();
        let _ = writeln!(out, "{z} confirmations against {} of all hash power:\n", percent(q));
        let _ = writeln!(out, "  reversed    {:<14} exactly", percent(own.reversal));
        let _ = writeln!(out, "              {:<14} by Nakamoto's approximation", percent(own.nakamoto));
        let _ = writeln!(out, "  stays       {}\n", percent(own.confidence));
        let _ = writeln!(out, "  {:>13}  {:>12}  {:>12}  {:>9}", "confirmations", "exact", "Nakamoto", "popular");
        for (z, popular, words) in LADDER {
            let odds = odds(z, q);
            let (exact, paper) = (percent(odds.confidence), percent(1.0 - odds.nakamoto));
            let _ = writeln!(out, "  {z:>13}  {exact:>12}  {paper:>12}  {:>9}  {words}", percent(popular));
        }
        if let Some(risk) = self.risk {
            let enough = finality::confirmations_for(risk, q);
            let enough =
                enough.map_or_else(|| "no number of confirmations".to_owned(), |z| format!("{z} confirmations"));
            let _ = writeln!(out, "\n  A risk of {} or less: {enough}.", percent(risk));
        }
        if let Some(value) = self.value {
            self.costs(&mut out, value)?;
        }
        Ok(out.trim_end().to_owned())
    }

    fn costs(&self, out: &mut String, value: f64) -> Result<()> {
        let (economy, q) = (self.world.economy()?, self.attacker);
        let half = cost::majority(0.5, &economy);
        let _ = writeln!(out, "\n  To reverse anything at all, as much hash power as all honest miners have:");
        let _ = writeln!(out, "    hash rate   {:.0} EH/s", half.hash_rate / 1e18);
        let _ = writeln!(out, "    hardware    {}", money(half.hardware));
        let _ = writeln!(out, "    power       {} a day", money(half.power_day));
        match half.rent_day {
            Some(rent) => {
                let _ = writeln!(out, "    or rent     {} a day", money(rent));
            }
            None => {
                let _ = writeln!(out, "    rent        no more than {} of it is to be had", percent(half.rentable));
            }
        }
        let _ = writeln!(
            out,
            "    rewards     {} a day come back to it, if the coin keeps its price",
            money(half.rewards_day)
        );
        let _ = writeln!(out, "\n  With {} of it, reversing a payment does not pay from here on:", percent(q));
        for (what, price) in PURCHASES {
            let z = cost::confirmations_worth(price, q, &economy);
            let _ = writeln!(out, "    {what:<18}{:>16}   {}", money(price), wait(z, economy.spacing));
        }
        let z = cost::confirmations_worth(value, q, &economy);
        let _ = writeln!(out, "    {:<18}{:>16}   {}", "this payment", money(value), wait(z, economy.spacing));
        let _ = writeln!(
            out,
            "\n  Taken as given: {} EH/s honest, {} s a block, {} coins a block, {} a coin, {} and {} J a TH/s, {} a kWh, \
             {} a TH/s and day to rent, {} of it to be had.",
            self.world.hash_rate,
            self.world.spacing,
            self.world.reward,
            self.world.coin_price,
            self.world.hardware_price,
            self.world.efficiency,
            self.world.power_price,
            self.world.rent_price,
            percent(self.world.rentable),
        );
        Ok(())
    }
}
