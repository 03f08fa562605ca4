//! `verity`: every level of truth in one binary.
//!
//! Deliberately absent here: anything but the choice of a command. Each command has its file in `cli`.

#![forbid(unsafe_code)]

mod abci;
mod admin;
mod bitcoin;
mod cli;
mod cluster;
mod compose;
mod join;
mod kafka;
mod layout;
mod secrets;
mod settings;
mod telemetry;
mod tour;

use std::process::ExitCode;

use clap::Parser as _;

/// What follows the name of Core's node, if the program was called by it or asked for it: its flags are not ours.
fn core_args() -> Option<Vec<String>> {
    let mut args = std::env::args();
    let program = args.next().unwrap_or_default();
    let called = std::path::Path::new(&program).file_name().is_some_and(|name| name == "bitcoind");
    (called || args.next().is_some_and(|first| first == "bitcoind"))
        .then(|| std::env::args().skip(if called { 1 } else { 2 }).collect())
}

fn main() -> ExitCode {
    if let Some(args) = core_args() {
        return match bitcoin::bitcoind::run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("Error: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("verity: {error:#}");
            ExitCode::FAILURE
        }
    }
}
