//! `verity bitcoin`: what a confirmation is worth.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::bitcoin::confidence::Confidence;
use crate::bitcoin::mine::Mine;
use crate::bitcoin::races::Races;

#[derive(Args, Debug)]
pub(crate) struct Bitcoin {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How likely a payment is to stay, and how long to wait so that reversing it does not pay.
    Confidence(Confidence),
    /// Mine for a node, Verity's or any other: real work, as fast as the processors can.
    Mine(Mine),
    /// Let attackers race in virtual time, beside the formulas, and draw it.
    Races(Races),
}

impl Bitcoin {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        match self.command {
            Command::Confidence(confidence) => confidence.run(json),
            Command::Mine(mine) => mine.run(json),
            Command::Races(races) => races.run(json),
        }
    }
}
