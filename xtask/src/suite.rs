//! The suites of `cargo xtask test`, in order.
//!
//! A suite that cannot run has failed; there are no skips.

use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::install;
use crate::shell::{cargo, command, output, run, target};

/// One suite.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    fast: bool,
    run: fn() -> Result<()>,
}

/// All suites.
pub(crate) const ALL: &[Suite] = &[
    Suite { name: "format", about: "rustfmt", fast: true, run: || run(&mut cargo(&["fmt", "--all", "--check"])) },
    Suite { name: "lints", about: "clippy, warnings are errors", fast: true, run: lints },
    Suite { name: "unit", about: "every crate's own tests, and the house's", fast: true, run: unit },
    Suite { name: "build", about: "the release binary", fast: true, run: build },
    Suite { name: "sim", about: "worlds full of faults; each seed in two processes", fast: true, run: sim },
    Suite { name: "kazoo", about: "the kazoo client against a running cluster", fast: false, run: kazoo },
    Suite { name: "oracle", about: "random requests, answered as ZooKeeper does", fast: false, run: oracle },
];

/// Runs the suites of these names, or all. False if one failed.
#[expect(clippy::disallowed_methods, reason = "a tool that reports how long its suites took")]
pub(crate) fn run_suites(names: &[String], fast: bool) -> Result<bool> {
    if let Some(unknown) = names.iter().find(|name| ALL.iter().all(|suite| suite.name != name.as_str())) {
        bail!("there is no suite {unknown}; `cargo xtask test --list` names them");
    }
    let chosen = |suite: &&Suite| {
        if names.is_empty() { suite.fast || !fast } else { names.iter().any(|name| name == suite.name) }
    };
    let mut results = Vec::new();
    for suite in ALL.iter().filter(chosen) {
        println!("== {}: {}", suite.name, suite.about);
        let start = Instant::now();
        let result = (suite.run)();
        if let Err(error) = &result {
            println!("== {} failed: {error:#}", suite.name);
        }
        results.push((suite.name, result.is_ok(), start.elapsed()));
    }
    println!();
    for (name, ok, took) in &results {
        println!("{:<14} {:<7} {:>7.1} s", name, if *ok { "passed" } else { "FAILED" }, took.as_secs_f64());
    }
    let failed = results.iter().filter(|(_, ok, _)| !ok).count();
    println!("\nsuites: {} passed, {failed} failed", results.len() - failed);
    Ok(failed == 0)
}

fn lints() -> Result<()> {
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
}

fn unit() -> Result<()> {
    run(&mut cargo(&["test", "--workspace", "--quiet"]))
}

fn build() -> Result<()> {
    run(&mut cargo(&["build", "--release", "--package", "verity"]))
}

/// The release binary, built if it is not.
fn binary() -> Result<std::path::PathBuf> {
    build()?;
    let path = target().join("release/verity");
    path.canonicalize().with_context(|| format!("{} is not there", path.display()))
}

fn kazoo() -> Result<()> {
    let (python, binary) = (install::python()?, binary()?);
    run(command(python, &["-m", "pytest", "-q", "tests/clients/kazoo"]).env("VERITY", binary))
}

/// Debian's ZooKeeper beside ours; the tests fail where it does not start.
fn oracle() -> Result<()> {
    install::apt(&["default-jre-headless", "zookeeper"])?;
    let (python, binary) = (install::python()?, binary()?);
    let seed = std::env::var("ORACLE_SEED").unwrap_or_else(|_| "1".into());
    run(command(python, &["-m", "pytest", "-q", "tests/oracle"]).env("VERITY", binary).env("ORACLE_SEED", seed))
}

/// Worlds from a fresh seed; then some of them once more, whose traces must be the same.
fn sim() -> Result<()> {
    const WORLDS: u64 = 40;
    const TWICE: u64 = 5;
    let binary = binary()?;
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs() % 1_000_000_000;
    let worlds = |count: u64| {
        let (seed, count) = (seed.to_string(), count.to_string());
        output(&mut command(&binary, &["sim", "--json", "--seed", &seed, "--seeds", &count]))
    };
    let (first, second) = (worlds(WORLDS)?, worlds(TWICE)?);
    for (line, again) in first.lines().zip(second.lines()) {
        if line != again {
            bail!("one seed gave two histories:\n{line}\n{again}");
        }
    }
    println!("{WORLDS} worlds from seed {seed} hold; {TWICE} of them gave the same trace in another process");
    Ok(())
}
