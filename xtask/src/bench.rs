//! `cargo xtask bench zookeeper`: Verity against Debian's ZooKeeper, on the same disk, in turns. `bench kafka` is in
//! [`kafka`], `bench ledger` in [`ledger`].
//!
//! - Both systems run for as long as a comparison takes; the one whose turn it is not is idle.
//! - A round is one turn each. A ratio is taken within a round, so what disturbs both disturbs it little; the median
//!   over rounds is reported.
//! - The load client counts a server's CPU time from the kernel, around the load alone.
//!
//! Deliberately absent: servers on other machines. Client and servers share the cores, which a reader must keep in mind.

mod bitcoin;
mod kafka;
mod ledger;
mod report;
mod server;
mod target;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use verity_bench::process;
use verity_bench::wire::Operation;

use crate::install;
use crate::shell::{cargo, command, output, root, run, target};
pub(crate) use bitcoin::{Options as BitcoinOptions, bitcoin};
pub(crate) use kafka::{Options as KafkaOptions, kafka};
pub(crate) use ledger::{Options as LedgerOptions, ledger};
use server::{Cluster, System};

/// The connections and windows; the largest stay below ZooKeeper's limit of 1,000 requests under way.
pub(crate) const SHAPES: [(usize, usize); 4] = [(1, 1), (1, 64), (1, 1000), (8, 120)];
/// The operations, in the order of the report.
pub(crate) const OPERATIONS: [&str; 3] = ["create", "set", "get"];
/// How many znodes memory and restart are measured with.
pub(crate) const ZNODE_COUNT: u64 = 300_000;
/// The connections that create them, each under a parent of its own.
const FILL_CONNECTIONS: u64 = 8;
/// The turns of each operation that each system gets before it is measured.
const WARM_TURNS: usize = 3;
/// What a server idles before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct Options {
    /// Rounds: one turn of each system per case.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each turn.
    #[arg(long, default_value_t = 1.2)]
    seconds: f64,
    /// A Verity binary to measure; built if not given.
    #[arg(long, env = "VERITY")]
    binary: Option<PathBuf>,
    /// A load client; built if not given.
    #[arg(long, env = "VERITY_BENCH")]
    client: Option<PathBuf>,
    /// Leave out restart and memory.
    #[arg(long)]
    load_only: bool,
}

/// One turn, as the load client reports it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turn {
    pub(crate) ops: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) cpu_us: f64,
}

/// All turns of one case: a round is a pair, Verity's turn first.
pub(crate) struct Case {
    pub(crate) nodes: u16,
    pub(crate) operation: &'static str,
    pub(crate) shape: (usize, usize),
    pub(crate) rounds: Vec<[Turn; 2]>,
}

/// Start, memory and restart of both systems; times in milliseconds, memory in bytes, one entry a round.
#[derive(Default)]
pub(crate) struct Life {
    pub(crate) first_create_ms: [Vec<f64>; 2],
    pub(crate) restart_ms: [Vec<f64>; 2],
    pub(crate) rss_idle: [f64; 2],
    pub(crate) rss_full: [f64; 2],
}

/// What a load client reports.
pub(crate) type Pairs = Vec<(String, f64)>;

struct Bench {
    options: Options,
    verity: PathBuf,
    client: PathBuf,
    directory: PathBuf,
}

/// Runs the comparison with ZooKeeper and writes `docs/benchmarks/zookeeper.md` and `.svg`.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) fn zookeeper(options: Options) -> Result<()> {
    ensure!(options.rounds > 0, "a comparison takes a round");
    ensure!((0.1..=600.0).contains(&options.seconds), "a turn takes between 0.1 and 600 seconds");
    install::apt(&["zookeeper", "default-jre-headless"])?;
    let (verity, client) = (built(&options.binary, "verity")?, built(&options.client, "verity-bench")?);
    let directory = target().join("xtask/bench-zookeeper");
    let bench = Bench { options, verity, client, directory };
    let start = Instant::now();
    let load_average = [load_average()?];
    let floor = bench.floor()?;
    let mut cases = Vec::new();
    for nodes in [1, 3] {
        cases.extend(bench.compare(nodes)?);
        let seen = [load_average[0].clone(), self::load_average()?];
        report::write(&root().join("docs/benchmarks"), &cases, None, &floor, &bench.conditions(&seen, start))?;
    }
    let life = if bench.options.load_only { None } else { Some(bench.life()?) };
    let seen = [load_average[0].clone(), self::load_average()?];
    report::write(&root().join("docs/benchmarks"), &cases, life.as_ref(), &floor, &bench.conditions(&seen, start))?;
    fs::remove_dir_all(&bench.directory)?;
    Ok(())
}

impl Bench {
    /// Every case with this many nodes.
    fn compare(&self, nodes: u16) -> Result<Vec<Case>> {
        self.clear()?;
        let mut clusters = Vec::new();
        for system in System::BOTH {
            let cluster = Cluster::start(system, &self.verity, &self.directory, nodes)?;
            cluster.first(Operation::Create, "/ready")?;
            clusters.push(cluster);
        }
        for warm in 0..WARM_TURNS {
            for operation in OPERATIONS {
                for cluster in &clusters {
                    self.turn(cluster, operation, (8, 120), &format!("/warm-{operation}-{warm}"), 0)?;
                }
            }
        }
        let mut cases = Vec::new();
        for operation in OPERATIONS {
            for shape in SHAPES {
                let mut case = Case { nodes, operation, shape, rounds: Vec::new() };
                for round in 0..self.options.rounds {
                    let path = format!("/{operation}-{}x{}-{round}", shape.0, shape.1);
                    let mut pair = [Turn::default(); 2];
                    for (turn, cluster) in pair.iter_mut().zip(&clusters) {
                        *turn = self.turn(cluster, operation, shape, &path, round)?;
                    }
                    case.rounds.push(pair);
                }
                println!("{}", report::line(&case));
                cases.push(case);
            }
        }
        clusters.into_iter().try_for_each(Cluster::stop)?;
        Ok(cases)
    }

    /// One load; a single connection goes to another server each round.
    fn turn(
        &self,
        cluster: &Cluster,
        operation: &str,
        shape: (usize, usize),
        path: &str,
        round: usize,
    ) -> Result<Turn> {
        let limit = format!("{}s", self.options.seconds);
        let found = self.load(cluster, operation, shape, &limit, path, round)?;
        let of = |name| value(&found, name);
        Ok(Turn { ops: of("ops")?, p50_us: of("p50_us")?, p99_us: of("p99_us")?, cpu_us: of("cpu_us_per_op")? })
    }

    fn load(
        &self,
        cluster: &Cluster,
        operation: &str,
        shape: (usize, usize),
        limit: &str,
        path: &str,
        round: usize,
    ) -> Result<Pairs> {
        let mut servers: Vec<String> = cluster.servers.iter().map(ToString::to_string).collect();
        let first = round % servers.len();
        servers.rotate_left(first);
        let pids: Vec<String> = cluster.pids().iter().map(ToString::to_string).collect();
        let (connections, window) = (shape.0.to_string(), shape.1.to_string());
        let words = ["load", operation, &connections, &window, limit, path, &servers.join(","), &pids.join(",")];
        pairs(&output(&mut command(&self.client, &words))?)
    }

    /// Cold starts, memory when idle and when full, restarts.
    #[expect(clippy::disallowed_methods, reason = "a benchmark lets a server settle")]
    fn life(&self) -> Result<Life> {
        let mut life = Life::default();
        for round in 0..self.options.rounds {
            self.clear()?;
            for (number, system) in System::BOTH.into_iter().enumerate() {
                let cluster = Cluster::start(system, &self.verity, &self.directory, 1)?;
                life.first_create_ms[number].push(cluster.first(Operation::Create, "/first")?.as_secs_f64() * 1e3);
                if round + 1 == self.options.rounds {
                    std::thread::sleep(SETTLE);
                    life.rss_idle[number] = process::rss(&cluster.pids())? as f64;
                    let each = (ZNODE_COUNT / FILL_CONNECTIONS).to_string();
                    self.load(&cluster, "create", (8, 120), &each, "/fill", 0)?;
                    std::thread::sleep(SETTLE);
                    life.rss_full[number] = process::rss(&cluster.pids())? as f64;
                }
                cluster.stop()?;
            }
        }
        let last = format!("/fill/c{}/n{}", FILL_CONNECTIONS - 1, ZNODE_COUNT / FILL_CONNECTIONS - 1);
        for _ in 0..self.options.rounds {
            for (number, system) in System::BOTH.into_iter().enumerate() {
                let cluster = Cluster::start(system, &self.verity, &self.directory, 1)?;
                life.restart_ms[number].push(cluster.first(Operation::Get, &last)?.as_secs_f64() * 1e3);
                cluster.stop()?;
            }
        }
        Ok(life)
    }

    fn floor(&self) -> Result<Pairs> {
        self.clear()?;
        pairs(&output(&mut command(&self.client, &["floor", "0.5", &self.directory.to_string_lossy()]))?)
    }

    fn clear(&self) -> Result<()> {
        if self.directory.exists() {
            fs::remove_dir_all(&self.directory)?;
        }
        Ok(fs::create_dir_all(&self.directory)?)
    }

    /// What a reader must know to judge the figures.
    fn conditions(&self, load_average: &[String; 2], start: Instant) -> String {
        let java =
            command("java", &["-version"]).output().map(|said| String::from_utf8_lossy(&said.stderr).into_owned());
        let package = output(&mut command("dpkg-query", &["-W", "-f", "${Version}", "zookeeper"])).unwrap_or_default();
        format!(
            "{}, shared by servers and load client; {} rounds of {} s a turn; {}; zookeeper {package}.\n\
             Load average (1, 5, 15 minutes) before the run: {}; after: {}. The run took {:.0} s.",
            machine(),
            self.options.rounds,
            self.options.seconds,
            java.unwrap_or_default().lines().next().unwrap_or("java of unknown version"),
            load_average[0],
            load_average[1],
            start.elapsed().as_secs_f64(),
        )
    }
}

/// The program given, or that of this package, built.
fn built(given: &Option<PathBuf>, package: &str) -> Result<PathBuf> {
    if let Some(path) = given {
        return path.canonicalize().with_context(|| format!("{} is not there", path.display()));
    }
    run(&mut cargo(&["build", "--quiet", "--release", "--package", package]))?;
    Ok(std::path::absolute(target().join("release").join(package))?)
}

/// How many cores of which kind.
fn machine() -> String {
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": of unknown model");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{cores} cores ({})", model.trim_start_matches(['\t', ' ', ':']))
}

fn load_average() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split_whitespace().take(3).collect::<Vec<_>>().join(", "))
}

fn pairs(line: &str) -> Result<Pairs> {
    let pair = |word: &str| {
        let (name, value) = word.split_once('=').with_context(|| format!("{word} is not a pair"))?;
        Ok((name.to_owned(), value.parse().with_context(|| format!("{word} is not a number"))?))
    };
    line.split_whitespace().map(pair).collect()
}

/// The value of this name.
pub(crate) fn value(pairs: &Pairs, name: &str) -> Result<f64> {
    let found = pairs.iter().find(|(of, _)| of == name);
    found.map(|(_, value)| *value).with_context(|| format!("the load client did not report {name}"))
}

/// The middle of these, or the mean of the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    assert!(!values.is_empty(), "a median needs a value");
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn what_the_client_prints_is_read_back() {
        let found = pairs("ops=12.5 p50_us=3").unwrap();
        assert!((value(&found, "p50_us").unwrap() - 3.0).abs() < 1e-9);
        assert!(value(&found, "p99_us").is_err());
        assert!(pairs("nonsense").is_err());
    }
}
