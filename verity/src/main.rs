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
use verity_bitcoin::chain::ChainError;

/// Core's programs that this one can be called as.
#[derive(Clone, Copy)]
enum Core {
    Node,
    Client,
}

impl Core {
    fn named(name: &str) -> Option<Self> {
        match name {
            "bitcoind" => Some(Self::Node),
            "bitcoin-cli" => Some(Self::Client),
            _ => None,
        }
    }
}

/// What follows the name of a program of Core's, if this one was called by it or asked for it: its flags are not ours.
fn core_args() -> Option<(Core, Vec<String>)> {
    let mut args = std::env::args();
    let program = args.next().unwrap_or_default();
    let name = std::path::Path::new(&program).file_name().unwrap_or_default();
    if let Some(core) = name.to_str().and_then(Core::named) {
        return Some((core, args.collect()));
    }
    let core = Core::named(&args.next()?)?;
    Some((core, args.collect()))
}

fn main() -> ExitCode {
    match core_args() {
        Some((Core::Client, args)) => return ExitCode::from(bitcoin::client::run(&args)),
        Some((Core::Node, args)) => {
            return match bitcoin::bitcoind::run(&args) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    // A question to the operator is no error, in Core's words.
                    let asks = error.downcast_ref().is_some_and(|error| matches!(error, ChainError::Rebuild(_)));
                    eprintln!("{}{error:#}", if asks { "" } else { "Error: " });
                    ExitCode::FAILURE
                }
            };
        }
        None => {}
    }
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("verity: {error:#}");
            ExitCode::FAILURE
        }
    }
}
