//! `verity-bench`: one load against servers that run already. Prints one line of `name=value` pairs.
//!
//! Deliberately absent: starting servers and comparing them; `cargo xtask bench` does.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use verity_bench::load::{Limit, Load};
use verity_bench::wire::Operation;
use verity_bench::{bitcoin, floor, kafka, ledger};

const USAGE: &str = "usage: verity-bench load OPERATION CONNECTIONS WINDOW TIME|COUNT ROOT SERVERS [PIDS]
       verity-bench floor SECONDS DIRECTORY

OPERATION is create, set or get. TIME is seconds (2.5s); COUNT is operations on each connection (1000).
SERVERS and PIDS are separated by commas.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("verity-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<String> {
    match words {
        ["load", operation, connections, window, limit, root, servers, rest @ ..] if rest.len() <= 1 => {
            let load = Load {
                servers: list(servers)?,
                operation: operation_named(operation)?,
                connections: connections.parse().context("CONNECTIONS is not a number")?,
                window: window.parse().context("WINDOW is not a number")?,
                limit: limit_from(limit)?,
                root: (*root).to_owned(),
                pids: rest.first().map_or(Ok(Vec::new()), |pids| list(pids))?,
            };
            let outcome = load.run()?;
            let seconds = outcome.elapsed.as_secs_f64();
            Ok(format!(
                "ops={:.1} p50_us={:.1} p99_us={:.1} cpu_us_per_op={:.3} count={}",
                outcome.count as f64 / seconds,
                outcome.p50_us,
                outcome.p99_us,
                outcome.cpu_us as f64 / outcome.count as f64,
                outcome.count,
            ))
        }
        ["floor", seconds, directory] => {
            let time = Duration::from_secs_f64(seconds.parse().context("SECONDS is not a number")?);
            let (echo, sync) = (floor::echo(time)?, floor::sync(Path::new(directory), time)?);
            Ok(format!(
                "echo_p50_us={:.1} echo_p99_us={:.1} sync_p50_us={:.1} sync_p99_us={:.1}",
                echo.p50_us, echo.p99_us, sync.p50_us, sync.p99_us
            ))
        }
        ["bitcoin", words @ ..] => bitcoin::run(words),
        ["kafka", words @ ..] => kafka::run(words),
        ["ledger", words @ ..] => ledger::run(words),
        _ => bail!("{USAGE}\n{}\n{}\n{}", bitcoin::USAGE, kafka::USAGE, ledger::USAGE),
    }
}

fn operation_named(name: &str) -> Result<Operation> {
    match name {
        "create" => Ok(Operation::Create),
        "set" => Ok(Operation::Set),
        "get" => Ok(Operation::Get),
        _ => bail!("there is no operation {name}\n{USAGE}"),
    }
}

fn limit_from(text: &str) -> Result<Limit> {
    match text.strip_suffix('s') {
        Some(seconds) => {
            let seconds = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            Ok(Limit::Time(seconds.context("TIME is not a number of seconds")?))
        }
        None => Ok(Limit::Count(text.parse().context("COUNT is not a number")?)),
    }
}

fn list<T: std::str::FromStr>(text: &str) -> Result<Vec<T>> {
    text.split(',').map(|word| word.parse().ok().with_context(|| format!("{word} does not belong here"))).collect()
}
