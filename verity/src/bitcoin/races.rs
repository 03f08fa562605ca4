//! Races run in virtual time, beside the formulas: what is drawn must lie where these say.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;
use verity_nakamoto::finality::{nakamoto, reversal, selfish_share, selfish_threshold};
use verity_sim::mining::{Race, Raced, Selfish, SelfishOutcome, race, selfish};

use super::chart;

/// Beyond so many blocks behind, an attacker of a minority comes level once in a billion races at the most.
const GIVES_UP: u32 = 60;
/// How many confirmations merchants wait for.
const CONFIRMATIONS: [u32; 6] = [1, 2, 3, 4, 6, 8];
/// Which shares mine selfishly, and how well connected they are.
const SELFISH: [f64; 6] = [0.1, 0.2, 0.25, 0.3, 0.35, 0.4];
const GAMMAS: [f64; 3] = [0.0, 0.5, 1.0];

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  verity bitcoin races                        a few seconds, and races.svg\n  \
    verity bitcoin races --attacker 0.45 --trials 100000\n\n\
    The same seed gives the same races. Intervals hold the truth in 95 of 100 cases, so one of twenty may miss it.")]
pub(crate) struct Races {
    /// The attackers' shares of all hash power, below a half.
    #[arg(long, value_name = "Q", value_delimiter = ',', default_values_t = [0.1, 0.2, 0.3, 0.4])]
    attacker: Vec<f64>,
    /// So many races for each share and number of confirmations.
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    trials: u32,
    /// So many blocks in each world of a selfish miner.
    #[arg(long, value_name = "N", default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(2_000..=10_000_000))]
    blocks: u32,
    /// Where all chance comes from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Where it is drawn.
    #[arg(long, value_name = "FILE", default_value = "races.svg")]
    svg: PathBuf,
}

/// One race's place and outcome.
pub(super) struct Row {
    pub(super) race: Race,
    pub(super) raced: Raced,
}

/// One selfish miner's.
pub(super) struct SelfishRow {
    pub(super) plan: Selfish,
    pub(super) outcome: SelfishOutcome,
}

impl Row {
    pub(super) fn exact(&self) -> f64 {
        reversal(self.race.confirmations, self.race.share)
    }

    fn holds(&self) -> bool {
        let (_, [low, high]) = self.raced.frequency();
        (low..=high).contains(&self.exact())
    }
}

impl SelfishRow {
    pub(super) fn expected(&self) -> f64 {
        selfish_share(self.plan.share, self.plan.gamma)
    }

    fn holds(&self) -> bool {
        (self.outcome.share - self.expected()).abs() <= self.outcome.half_width
    }
}

impl Races {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        if let Some(odd) = self.attacker.iter().find(|share| !(0.0..0.5).contains(*share)) {
            bail!("--attacker {odd}: a race that may be lost is one of a minority, from 0 up to below 0.5");
        }
        let (mut races, mut miners, mut seed) = (Vec::new(), Vec::new(), self.seed);
        for share in &self.attacker {
            for confirmations in CONFIRMATIONS {
                let plan = Race { share: *share, confirmations, gives_up: GIVES_UP };
                races.push(Row { race: plan, raced: race(seed, &plan, self.trials) });
                seed = seed.wrapping_add(1);
            }
        }
        for gamma in GAMMAS {
            for share in SELFISH {
                let plan = Selfish { share, gamma, blocks: self.blocks };
                miners.push(SelfishRow { plan, outcome: selfish(seed, plan) });
                seed = seed.wrapping_add(1);
            }
        }
        let picture = chart::races(&races, &miners);
        std::fs::write(&self.svg, picture).with_context(|| format!("cannot write {}", self.svg.display()))?;
        println!("{}", if json { machine(&races, &miners) } else { people(&races, &miners) });
        if !json {
            println!("\ndrawn in {}", self.svg.display());
        }
        Ok(())
    }
}

fn machine(races: &[Row], miners: &[SelfishRow]) -> String {
    let race = |row: &Row| {
        let (frequency, interval) = row.raced.frequency();
        json!({
            "attacker": row.race.share, "confirmations": row.race.confirmations, "trials": row.raced.trials,
            "raced": frequency, "interval": interval, "reversal": row.exact(),
            "nakamoto": nakamoto(row.race.confirmations, row.race.share), "deepest": row.raced.deepest,
        })
    };
    let miner = |row: &SelfishRow| {
        json!({
            "attacker": row.plan.share, "gamma": row.plan.gamma, "blocks": row.plan.blocks,
            "share": row.outcome.share, "half_width": row.outcome.half_width, "formula": row.expected(),
            "earned_first": row.outcome.earned_first, "earned_after": row.outcome.earned_after,
            "retargets": row.outcome.retargets, "threshold": selfish_threshold(row.plan.gamma),
        })
    };
    let (races, miners): (Vec<_>, Vec<_>) = (races.iter().map(race).collect(), miners.iter().map(miner).collect());
    json!({ "races": races, "selfish": miners }).to_string()
}

fn people(races: &[Row], miners: &[SelfishRow]) -> String {
    let mut out = String::from("Payments that are reversed by a branch in secret, in percent:\n\n");
    let _ = writeln!(out, "  attacker  confirmations     raced   95 % of cases      exact  Nakamoto");
    for row in races {
        let (frequency, [low, high]) = row.raced.frequency();
        let paper = nakamoto(row.race.confirmations, row.race.share);
        let _ = writeln!(
            out,
            "  {:>7.0}%  {:>13}  {:>8.3}  {:>6.3} - {:>6.3}   {:>8.3}  {:>8.3}{}",
            row.race.share * 100.0,
            row.race.confirmations,
            frequency * 100.0,
            low * 100.0,
            high * 100.0,
            row.exact() * 100.0,
            paper * 100.0,
            if row.holds() { "" } else { "  *" },
        );
    }
    let _ = writeln!(
        out,
        "\nSelfish mining: the attacker's part of the blocks that count, in percent, and what it earns to what"
    );
    let _ = writeln!(out, "an honest miner of its power would, before difficulty has followed and afterwards:\n");
    let _ = writeln!(out, "  gamma  attacker     mined            formula    before  afterwards");
    for row in miners {
        let _ = writeln!(
            out,
            "  {:>5.1}  {:>7.0}%  {:>8.2} +- {:>4.2}  {:>12.2}  {:>8.2}  {:>10.2}{}",
            row.plan.gamma,
            row.plan.share * 100.0,
            row.outcome.share * 100.0,
            row.outcome.half_width * 100.0,
            row.expected() * 100.0,
            row.outcome.earned_first,
            row.outcome.earned_after,
            if row.holds() { "" } else { "  *" },
        );
    }
    let thresholds: Vec<String> =
        GAMMAS.iter().map(|gamma| format!("{:.1} %", selfish_threshold(*gamma) * 100.0)).collect();
    let _ =
        writeln!(out, "\n  It pays above {} of all hash power, by gamma, and only afterwards.", thresholds.join(", "));
    let missed = races.iter().filter(|row| !row.holds()).count() + miners.iter().filter(|row| !row.holds()).count();
    let all = races.len() + miners.len();
    let _ = write!(
        out,
        "  {} of {all} intervals hold what the formula says{}.",
        all - missed,
        if missed > 0 { " (* do not)" } else { "" }
    );
    out
}
