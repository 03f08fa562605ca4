//! `cargo xtask`: builds, tests and measures the workspace, installing what that needs.
//!
//! Deliberately absent: anything that ships. The binary is `verity`.

#![forbid(unsafe_code)]

mod bench;
mod bitcoin;
mod chaos;
mod fuzz;
mod install;
mod kafka;
mod ledger;
mod mutants;
mod shell;
mod suite;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Builds, tests and measures Verity")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every test; what a suite needs is installed first.
    Test {
        /// Run only the suites with these names.
        #[arg(value_name = "SUITE")]
        suites: Vec<String>,
        /// Only what takes a few minutes: format, lints, unit tests, 30 s of simulation.
        #[arg(long)]
        fast: bool,
        /// Name the suites and stop.
        #[arg(long)]
        list: bool,
    },
    /// Measure against another system, in turns on the same disk; writes docs/benchmarks.
    Bench {
        #[command(subcommand)]
        peer: Peer,
    },
}

#[derive(Subcommand)]
enum Peer {
    /// Debian's ZooKeeper, standalone and on three nodes.
    Zookeeper(bench::Options),
    /// What else speaks Kafka's protocol, on one node and on three.
    Kafka(bench::KafkaOptions),
    /// The ledger on PBFT beside itself on Raft and on Multi-Paxos, calm and under attack.
    Ledger(bench::LedgerOptions),
    /// A Bitcoin node beside Bitcoin Core's kernel library, and by itself.
    Bitcoin(bench::BitcoinOptions),
}

fn main() -> ExitCode {
    let run = || -> Result<bool> {
        match Cli::parse().command {
            Command::Test { list: true, .. } => {
                suite::ALL.iter().for_each(|suite| println!("{:<14} {}", suite.name, suite.about));
                Ok(true)
            }
            Command::Test { suites, fast, .. } => suite::run_suites(&suites, fast),
            Command::Bench { peer: Peer::Zookeeper(options) } => bench::zookeeper(options).map(|()| true),
            Command::Bench { peer: Peer::Kafka(options) } => bench::kafka(options).map(|()| true),
            Command::Bench { peer: Peer::Ledger(options) } => bench::ledger(options).map(|()| true),
            Command::Bench { peer: Peer::Bitcoin(options) } => bench::bitcoin(options).map(|()| true),
        }
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
