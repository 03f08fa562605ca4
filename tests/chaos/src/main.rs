//! `verity-chaos`: one run against the binary that `VERITY_BIN` names. Prints the figures on one line.
//!
//! - exit 0: every fault took effect often enough, nothing that was acknowledged is lost, every verdict is `ok`, and
//!   behind each kill of a leader a write was acknowledged in time;
//! - exit 1: something is lost, or a history breaks a law; the smallest part that shows it is printed;
//! - exit 2: the run itself did not work.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a harness of real processes lives in real time")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use verity_chaos_tests::cluster::{LabDisk, System};
use verity_chaos_tests::judge::{Finding, judge};
use verity_chaos_tests::run::{Options, Outcome, run};

#[derive(Debug, Parser)]
#[command(name = "verity-chaos", about = "Kills, stops and cuts five servers under load, and judges what clients saw")]
struct Cli {
    /// The server.
    #[arg(long, env = "VERITY_BIN")]
    binary: PathBuf,
    /// Draws faults and requests; printed, and drawn by chance if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Each phase brings a leader's kill, another kill, a stop and a one-way partition.
    #[arg(long, default_value_t = 24)]
    phases: usize,
    /// What the nodes' disks are.
    #[arg(long, value_enum, default_value = "volatile")]
    disk: LabDisk,
    /// How the nodes agree: raft or paxos.
    #[arg(long, default_value = "raft")]
    agreement: String,
    /// Whom the nodes serve.
    #[arg(long, value_enum, default_value = "zookeeper")]
    system: System,
    /// Each kind of fault must have taken effect so often.
    #[arg(long, default_value_t = 20)]
    faults_min: u64,
    /// Behind the kill of a leader, the next write is acknowledged within this.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    next_write_ms_max: u64,
    /// Where histories and logs are kept; nowhere by default, unless something is wrong.
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    match chaos(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("verity-chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn chaos(cli: Cli) -> Result<bool> {
    let seed = cli.seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    let folder = tempfile::Builder::new().prefix("verity-chaos-").tempdir()?;
    let binary = cli.binary.canonicalize().with_context(|| format!("{} is not there", cli.binary.display()))?;
    let options = Options {
        seed,
        phases: cli.phases,
        binary,
        folder: folder.path().to_owned(),
        disk: cli.disk,
        agreement: cli.agreement,
        system: cli.system,
    };
    println!("seed {seed}, {} phases, disk {:?}, {}", options.phases, options.disk, options.agreement);
    let start = Instant::now();
    if options.system == System::Kafka {
        return kafka(&options, cli.faults_min, cli.keep.as_deref());
    }
    let outcome = run(&options).inspect_err(|_| keep(folder.path(), cli.keep.as_deref()))?;
    let ran = start.elapsed();
    let finding = judge(&outcome).inspect_err(|_| keep_all(&outcome, folder.path(), cli.keep.as_deref()))?;
    for (phase, violation) in &finding.violations {
        println!("{phase} as {}: {}", violation.model.name(), violation.words);
    }
    println!("{}", figures(&outcome, &finding, seed, ran, start.elapsed() - ran));
    let mut broken = shortage(&outcome, cli.faults_min, cli.disk);
    if cli.disk == LabDisk::Volatile {
        broken.extend(late(&outcome.faults.failovers, Duration::from_millis(cli.next_write_ms_max)));
    }
    for what in &broken {
        println!("not as it should be: {what}");
    }
    let fine = finding.violations.is_empty() && finding.lost.is_empty() && broken.is_empty();
    if !fine || cli.keep.is_some() {
        keep_all(&outcome, folder.path(), cli.keep.as_deref());
    }
    Ok(fine)
}

/// A run of Kafka.
fn kafka(options: &Options, faults_min: u64, to: Option<&Path>) -> Result<bool> {
    let start = Instant::now();
    let outcome = verity_chaos_tests::kafka::run(options).inspect_err(|_| keep(&options.folder, to))?;
    let (faults, verdict) = (&outcome.faults, outcome.verdict.as_ref().err());
    println!(
        "chaos system=kafka seed={} acknowledged={} kills={} blackouts={} stops={} cuts={} verdict={} ran_s={}",
        options.seed,
        outcome.acknowledged,
        faults.kills,
        faults.blackouts,
        faults.stops,
        faults.cuts,
        verdict.map_or_else(|| "ok".to_owned(), |what| what.replace(' ', "-")),
        start.elapsed().as_secs(),
    );
    let mut wanted = vec![("acknowledged", outcome.acknowledged, 1), ("kills", faults.kills, faults_min)];
    if options.disk == LabDisk::Volatile {
        wanted.extend([("stops", faults.stops, faults_min), ("cuts", faults.cuts, faults_min)]);
    }
    let short: Vec<_> = wanted.into_iter().filter(|(_, found, least)| found < least).collect();
    for (what, found, least) in &short {
        println!("not as it should be: {what}: {found}, and {least} are wanted");
    }
    let fine = verdict.is_none() && short.is_empty();
    if !fine || to.is_some() {
        keep(&options.folder, to);
    }
    Ok(fine)
}

/// The line that a run comes to.
fn figures(outcome: &Outcome, finding: &Finding, seed: u64, ran: Duration, judged: Duration) -> String {
    let (counts, faults) = (&outcome.counts, &outcome.faults);
    let mut failovers = faults.failovers.clone();
    failovers.sort_unstable();
    let ms = |place: usize| failovers.get(place).map_or(0, Duration::as_millis);
    let laws: Vec<&str> = finding.violations.iter().map(|(_, violation)| violation.law.as_str()).collect();
    let verdict = if laws.is_empty() { "ok".to_owned() } else { laws.join("+").replace(' ', "-") };
    format!(
        "chaos seed={seed} acknowledged={} failed={} unknown={} kills={} blackouts={} stops={} cuts={} \
         leader_kills={} to_next_write_median_ms={} to_next_write_max_ms={} judged_linearizable={} judged_all={} \
         lost={} verdict={verdict} ran_s={} judged_s={}",
        counts.acknowledged,
        counts.failed,
        counts.unknown,
        faults.kills,
        faults.blackouts,
        faults.stops,
        faults.cuts,
        failovers.len(),
        ms(failovers.len() / 2),
        ms(failovers.len().saturating_sub(1)),
        finding.strong,
        finding.all,
        finding.lost.len(),
        ran.as_secs(),
        judged.as_secs(),
    )
}

/// What did not happen often enough for the run to mean something.
fn shortage(outcome: &Outcome, faults_min: u64, disk: LabDisk) -> Vec<String> {
    let (counts, faults) = (&outcome.counts, &outcome.faults);
    let mut wanted = vec![("acknowledged", counts.acknowledged, 1), ("unknown", counts.unknown, 1)];
    if disk == LabDisk::Volatile {
        wanted.extend([
            ("failed", counts.failed, 1),
            ("kills", faults.kills, faults_min),
            ("stops", faults.stops, faults_min),
            ("cuts", faults.cuts, faults_min),
            ("leader kills", faults.failovers.len() as u64, 1),
        ]);
    }
    wanted.push(("blackouts", faults.blackouts, 1));
    let short = wanted.into_iter().filter(|(_, found, least)| found < least);
    short.map(|(what, found, least)| format!("{what}: {found}, and {least} are wanted")).collect()
}

/// What says that a killed leader was missed for too long.
fn late(failovers: &[Duration], bound: Duration) -> Option<String> {
    let longest = failovers.iter().max().filter(|longest| **longest > bound)?;
    let (longest, bound) = (longest.as_millis(), bound.as_millis());
    Some(format!("a leader's kill to the next write: {longest} ms, and {bound} ms are the most"))
}

fn keep_all(outcome: &Outcome, folder: &Path, to: Option<&Path>) {
    for phase in &outcome.phases {
        let text = phase
            .lines
            .iter()
            .chain(phase.finals.iter().flatten())
            .fold(String::new(), |text, line| text + line + "\n");
        // What cannot be kept is no reason to hide the verdict.
        let _ = std::fs::write(folder.join(format!("history-{}.jsonl", phase.folder.trim_start_matches('/'))), text);
    }
    keep(folder, to);
}

/// Copies histories and logs to where they outlive the run.
fn keep(folder: &Path, to: Option<&Path>) {
    let to = to
        .map_or_else(|| std::env::temp_dir().join(format!("verity-chaos-kept-{}", std::process::id())), Path::to_owned);
    let copy = || -> std::io::Result<()> {
        std::fs::create_dir_all(&to)?;
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_file() {
                std::fs::copy(&path, to.join(name))?;
            } else if path.join("log").is_file() {
                std::fs::copy(path.join("log"), to.join(format!("{name}.log")))?;
            }
        }
        Ok(())
    };
    match copy() {
        Ok(()) => println!("histories and logs are kept in {}", to.display()),
        Err(error) => eprintln!("verity-chaos: histories and logs cannot be kept in {}: {error}", to.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_not_missed_for_long() {
        let ms = |all: &[u64]| all.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        let bound = Duration::from_secs(1);
        assert_eq!(late(&ms(&[300, 1000, 400]), bound), None);
        assert!(late(&ms(&[300, 1001, 400]), bound).is_some_and(|text| text.contains("1001 ms")));
    }
}
