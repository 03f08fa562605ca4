//! The fuzz targets: built with libFuzzer's instrumentation, shown to find what there is to find, then run for a while.
//!
//! - upon each target, its canary: from the seeds alone it must not be reached, by fuzzing it must (see `fuzz/src/lib.rs`);
//! - upon each target, in earnest: nothing may panic, hang or take much memory; a run without executions, or without
//!   coverage, fails as well.
//!
//! `FUZZ_SEED` and `FUZZ_SECONDS` repeat a run, or make it longer. What a run finds lies in the build folder; it joins
//! `fuzz/corpus` by hand, with a test where it failed.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};

use crate::install;
use crate::shell::{cargo, command, root, run, target};

/// Every target, the slowest first.
const TARGETS: [&str; 19] = [
    "replica",
    "kafka_session",
    "zookeeper_session",
    "raft",
    "paxos",
    "pbft_message",
    "pbft_evidence",
    "kafka_machines",
    "ledger_session",
    "ledger_machine",
    "bitcoin_node",
    "bitcoin_script",
    "log",
    "zookeeper_tree",
    "snapshot",
    "frames",
    "http",
    "kafka_wire",
    "zookeeper_wire",
];
/// How long each target runs.
const SECONDS: u64 = 15;
/// How long a canary may hide.
const CANARY_SECONDS: u64 = 180;
/// No input is longer.
const BYTES_MAX: usize = 4096;
/// An input that takes longer than this many seconds has hung.
const PATIENCE: u64 = 20;
const MEMORY_MIB: u64 = 2048;

/// Builds and runs all of them, as many at once as there are processors.
pub(crate) fn run_suite() -> Result<()> {
    install::cpp()?;
    run(&mut cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))?;
    let build = target().join("fuzz");
    let dir = build.to_string_lossy().into_owned();
    let manifest = ["--manifest-path", "fuzz/Cargo.toml", "--target-dir", &dir];
    let wrapper = root().join("fuzz/instrument.sh");
    run(cargo(&["build", "--release", "--bins", "--quiet"]).args(manifest).env("RUSTC_WRAPPER", wrapper))?;
    let seed = match std::env::var("FUZZ_SEED") {
        Ok(seed) => seed.parse().context("FUZZ_SEED is a number")?,
        Err(_) => std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs() % 1_000_000_000,
    };
    let seconds = match std::env::var("FUZZ_SECONDS") {
        Ok(seconds) => seconds.parse().context("FUZZ_SECONDS is a number")?,
        Err(_) => SECONDS,
    };
    let waiting = Mutex::new(TARGETS.iter().rev().collect::<Vec<_>>());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(name) = next(&waiting) {
                    let fuzz = Fuzz { name, build: build.clone(), seed };
                    match fuzz.find_canary().and_then(|canary| Ok((canary, fuzz.search(seconds)?))) {
                        Ok((canary, found)) => println!("{name:<18} {found}; its canary after {canary}"),
                        Err(error) => {
                            println!("{name:<18} {error:#}");
                            failed.lock().expect("no thread panics with it").push(*name);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no thread panics with it");
    ensure!(failed.is_empty(), "FUZZ_SEED={seed}: {}", failed.join(", "));
    Ok(())
}

fn next<'a>(waiting: &Mutex<Vec<&'a &'static str>>) -> Option<&'a &'static str> {
    waiting.lock().expect("no thread panics with it").pop()
}

/// One target.
struct Fuzz<'a> {
    name: &'a str,
    build: PathBuf,
    seed: u64,
}

impl Fuzz<'_> {
    /// libFuzzer on the seeds and an empty folder of this name.
    fn libfuzzer(&self, folder: &str, options: &[String], canary: bool) -> Result<(Output, String)> {
        let found = self.build.join("found").join(self.name).join(folder);
        if found.exists() {
            std::fs::remove_dir_all(&found)?;
        }
        let corpus = found.join("corpus");
        std::fs::create_dir_all(&corpus)?;
        let kept = root().join("fuzz/corpus").join(self.name);
        let mut fuzz = command(self.build.join("release").join(self.name), &[]);
        fuzz.args(options).arg(format!("-seed={}", self.seed)).arg(format!("-artifact_prefix={}/", found.display()));
        fuzz.arg(format!("-max_len={BYTES_MAX}")).arg(format!("-timeout={PATIENCE}"));
        fuzz.arg(format!("-rss_limit_mb={MEMORY_MIB}")).args(["-len_control=0", "-print_final_stats=1"]);
        fuzz.arg(corpus).arg(kept).env_remove("FUZZ_SEEDS").env_remove("FUZZ_CANARY");
        if canary {
            fuzz.env("FUZZ_CANARY", "1");
        }
        let output = fuzz.output().with_context(|| format!("cannot run {}", self.name))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        std::fs::write(found.join("log"), &said)?;
        Ok((output, said))
    }

    /// How many executions it took to reach what the seeds do not.
    fn find_canary(&self) -> Result<String> {
        let (output, _) = self.libfuzzer("seeds", &["-runs=0".into()], true)?;
        ensure!(output.status.success(), "the seeds alone fail, or reach the canary: {}", self.log("seeds").display());
        let (output, said) = self.libfuzzer("canary", &[format!("-max_total_time={CANARY_SECONDS}")], true)?;
        let reached = !output.status.success() && said.contains("the canary is found");
        ensure!(reached, "the canary is not found in {CANARY_SECONDS} s: {}", self.log("canary").display());
        Ok(format!("{} executions", number(&said, "stat::number_of_executed_units:").unwrap_or(0)))
    }

    /// Runs it; executions and coverage in one line.
    fn search(&self, seconds: u64) -> Result<String> {
        let (output, said) = self.libfuzzer("search", &[format!("-max_total_time={seconds}")], false)?;
        if !output.status.success() {
            let reason = said.lines().find(|line| line.contains("panicked at") || line.contains("ERROR: libFuzzer"));
            let reason = reason.unwrap_or("no reason is given");
            bail!("{reason}: {}, the input beside it", self.log("search").display());
        }
        let executions = number(&said, "stat::number_of_executed_units:").unwrap_or(0);
        let edges = said.lines().rev().find(|line| line.contains("DONE")).and_then(|line| number(line, "cov:"));
        let edges = edges.unwrap_or(0);
        ensure!(executions > 0 && edges > 0, "{executions} executions, {edges} edges: nothing was fuzzed");
        Ok(format!("seed {}: {executions} executions, {edges} edges", self.seed))
    }

    fn log(&self, folder: &str) -> PathBuf {
        Path::new(&self.build).join("found").join(self.name).join(folder).join("log")
    }
}

/// The number behind the last `name`.
fn number(text: &str, name: &str) -> Option<u64> {
    text.rsplit_once(name)?.1.split_whitespace().next()?.parse().ok()
}
