//! `verity`: every level of truth in one binary.
//!
//! Deliberately absent here: anything but the choice of a command. Each command has its file in `cli`.

#![forbid(unsafe_code)]

mod abci;
mod admin;
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

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("verity: {error:#}");
            ExitCode::FAILURE
        }
    }
}
