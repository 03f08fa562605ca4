//! The chaos suite: five real processes under faults, which must lose nothing on either agreement and soon have another
//! leader, and the same without `fdatasync`, which must be seen to lose something; first for ZooKeeper, then for Kafka.
//!
//! `CHAOS_SEED` repeats the faults and requests of a run. Deliberately absent: how; `tests/chaos` knows.

use anyhow::{Context, Result, bail, ensure};

use crate::shell::{command, run, target};
use crate::suite::binary;

/// The exit status of a run in which something is lost or a law is broken.
const BROKEN: i32 = 1;

/// The phases on Paxos; Raft has those of the harness.
const PAXOS_PHASES: &str = "8";
/// Each kind of fault must have taken effect so often in them.
const PAXOS_FAULTS_MIN: &str = "6";

pub(crate) fn run_suite() -> Result<()> {
    let server = binary()?;
    let harness = target().join("release/verity-chaos").canonicalize().context("the harness is not there")?;
    let seed = std::env::var("CHAOS_SEED").ok();
    let chaos = |args: &[&str]| {
        let mut command = command(&harness, args);
        command.env("VERITY_BIN", &server);
        if let Some(seed) = &seed {
            command.args(["--seed", seed]);
        }
        command
    };
    run(&mut chaos(&[]))?;
    println!("\nThe same on Paxos, for a shorter while:");
    run(&mut chaos(&["--agreement", "paxos", "--phases", PAXOS_PHASES, "--faults-min", PAXOS_FAULTS_MIN]))?;
    println!("\nKafka, on Raft and on Paxos:");
    for (agreement, phases, faults_min) in [("raft", "8", "6"), ("paxos", "4", "3")] {
        let place = ["--system", "kafka", "--agreement", agreement];
        run(chaos(&place).args(["--phases", phases, "--faults-min", faults_min]))?;
    }
    println!("\nThe same without fdatasync, which must not go unseen:");
    for system in ["zookeeper", "kafka"] {
        must_be_seen_to_lose(chaos(&["--disk", "forgetful", "--phases", "3", "--system", system]))?;
    }
    Ok(())
}

/// Runs the harness where it must find that something is lost.
fn must_be_seen_to_lose(mut chaos: std::process::Command) -> Result<()> {
    let output = chaos.output().context("cannot run the harness")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figures = text.lines().find(|line| line.starts_with("chaos ")).unwrap_or_default();
    println!("{figures}");
    if output.status.code() != Some(BROKEN) {
        bail!(
            "a run without fdatasync ended with {}:\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let value = |name: &str| figures.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    ensure!(value("lost").is_none_or(|lost| lost != "0"), "no lost write was counted: {figures}");
    ensure!(value("verdict").is_some_and(|verdict| verdict != "ok"), "lost writes were accepted: {figures}");
    Ok(())
}
