//! `cargo xtask bench ledger`: the ledger on PBFT beside itself on Raft and on Multi-Paxos, on the same disk, in turns.
//!
//! - A turn is one load by `verity-bench ledger load`: a process that holds all nodes of one ledger, started on nothing. A round
//!   is one turn of each way; the median over rounds is reported, and ratios are taken within a round.
//! - Attacks: one of four members lies, and the three others have the load; the calm turn beside it has a member without load.
//! - Latency is measured at half of what the same way took at full load just before.
//! - A view change: the primary's node is ended under load as a crash would, and the longest silence is what it took.
//!
//! Deliberately absent: members on other machines, and clients' connections. Load and nodes share the cores.

mod chart;
mod report;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;

use super::{Pairs, built, load_average, machine, median, pairs, value};
use crate::shell::{command, output, root, target};

/// The numbers of nodes: one may lie, two may.
const NODES: [u64; 2] = [4, 7];
/// The sizes of requests, in bytes.
const SIZES: [usize; 4] = [64, 1 << 10, 16 << 10, 64 << 10];
/// Requests under way, of all gateways together.
const UNDER_WAY: u64 = 1_024;
/// Their bytes at most.
const UNDER_WAY_BYTES: u64 = 16 << 20;
/// Primaries that are killed in one turn.
const KILLS: usize = 5;
/// The pace at which they are killed, in requests a second.
const KILL_RATE: f64 = 1_000.0;

#[derive(Args)]
pub(crate) struct Options {
    /// Rounds: one turn of each way per case.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each turn.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// One round of 0.6 seconds, of requests of 64 B alone: a look, no figures to publish.
    #[arg(long)]
    quick: bool,
    /// A load tool; built if not given.
    #[arg(long, env = "VERITY_BENCH")]
    client: Option<PathBuf>,
}

/// How a ledger comes to its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    agreement: &'static str,
    /// So many requests share a client's signature at most; 0: as many as a turn brings.
    commands: usize,
}

impl Way {
    const ALL: [Way; 5] = [
        Way { agreement: "raft", commands: 0 },
        Way { agreement: "paxos", commands: 0 },
        Way { agreement: "pbft", commands: 1 },
        Way { agreement: "pbft", commands: 16 },
        Way { agreement: "pbft", commands: 0 },
    ];

    fn name(self) -> &'static str {
        match (self.agreement, self.commands) {
            ("raft", _) => "Raft",
            ("paxos", _) => "Multi-Paxos",
            (_, 1) => "PBFT, each signed",
            (_, 16) => "PBFT, 16 a signature",
            _ => "PBFT, a turn a signature",
        }
    }
}

/// What is asked, and of how many nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    nodes: u64,
    size: usize,
}

impl Shape {
    fn words(self, gateways: u64) -> Vec<String> {
        let under_way = UNDER_WAY.min(UNDER_WAY_BYTES / self.size as u64);
        vec![
            format!("nodes={}", self.nodes),
            format!("size={}", self.size),
            format!("window={}", (under_way / gateways).max(1)),
        ]
    }
}

/// All turns of one way at one load.
struct Case {
    shape: Shape,
    way: Way,
    rounds: Vec<Pairs>,
}

/// What one of four members does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attack {
    name: &'static str,
    word: &'static str,
}

const ATTACKS: [Attack; 5] = [
    Attack { name: "calm", word: "quiet=4" },
    Attack { name: "a silent backup", word: "lie=silent:4" },
    Attack { name: "a silent primary", word: "lie=silent:1" },
    Attack { name: "a slow primary", word: "lie=slow-primary:1" },
    Attack { name: "a flooding client", word: "flood=4" },
];

/// All turns under one attack.
struct Siege {
    attack: Attack,
    way: Way,
    rounds: Vec<Pairs>,
}

/// Latency at half load.
struct Delay {
    way: Way,
    rate: f64,
    rounds: Vec<Pairs>,
}

/// Everything that was measured.
#[derive(Default)]
struct Figures {
    cases: Vec<Case>,
    delays: Vec<Delay>,
    sieges: Vec<Siege>,
    /// By the number of nodes: how long requests stood still when the primary was killed, in milliseconds.
    silences: Vec<(u64, Vec<f64>)>,
    floor: Pairs,
}

struct Bench {
    options: Options,
    client: PathBuf,
    directory: PathBuf,
}

/// Runs the comparison and writes `docs/benchmarks/ledger.md` and `.svg`.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) fn ledger(mut options: Options) -> Result<()> {
    if options.quick {
        (options.rounds, options.seconds) = (1, 0.6);
    }
    ensure!((1..=100).contains(&options.rounds), "a comparison takes 1 to 100 rounds");
    ensure!((0.1..=60.0).contains(&options.seconds), "a turn takes between 0.1 and 60 seconds");
    let client = built(&options.client, "verity-bench")?;
    let bench = Bench { options, client, directory: std::path::absolute(target().join("xtask/bench-ledger"))? };
    let (start, before) = (Instant::now(), load_average()?);
    let mut figures = Figures { floor: bench.floor()?, ..Figures::default() };
    for nodes in NODES {
        for size in bench.sizes() {
            figures.cases.extend(bench.compare(Shape { nodes, size })?);
        }
    }
    figures.delays = bench.delays(&figures.cases)?;
    figures.sieges = bench.sieges()?;
    for nodes in NODES {
        figures.silences.push((nodes, bench.silences(nodes)?));
    }
    let conditions = bench.conditions(&before, &load_average()?, start);
    report::write(&root().join("docs/benchmarks"), &figures, &conditions)?;
    Ok(fs::remove_dir_all(&bench.directory)?)
}

impl Bench {
    fn sizes(&self) -> Vec<usize> {
        SIZES.into_iter().filter(|size| !self.options.quick || *size == SIZES[0]).collect()
    }

    fn clear(&self) -> Result<()> {
        if self.directory.exists() {
            fs::remove_dir_all(&self.directory)?;
        }
        Ok(fs::create_dir_all(&self.directory)?)
    }

    fn floor(&self) -> Result<Pairs> {
        self.clear()?;
        pairs(&output(&mut command(&self.client, &["floor", "0.5", &self.directory.to_string_lossy()]))?)
    }

    /// One process of the load tool, on nothing.
    fn run(&self, what: &str, way: Way, words: &[String]) -> Result<Pairs> {
        self.clear()?;
        let own = [
            format!("agreement={}", way.agreement),
            format!("commands={}", way.commands),
            format!("dir={}", self.directory.display()),
        ];
        let all: Vec<&str> = ["ledger", what].into_iter().chain(own.iter().chain(words).map(String::as_str)).collect();
        pairs(&output(&mut command(&self.client, &all))?)
    }

    /// One load; once more if it fails, which is told.
    fn load(&self, way: Way, words: Vec<String>) -> Result<Pairs> {
        let words = [words, vec![format!("seconds={}", self.options.seconds)]].concat();
        self.run("load", way, &words).or_else(|error| {
            eprintln!("once more: {}, {}: {error:#}", way.name(), words.join(" "));
            self.run("load", way, &words)
        })
    }

    /// Every way at one load.
    fn compare(&self, shape: Shape) -> Result<Vec<Case>> {
        let mut cases = Way::ALL.map(|way| Case { shape, way, rounds: Vec::new() });
        for _ in 0..self.options.rounds {
            for case in &mut cases {
                case.rounds.push(self.load(case.way, shape.words(shape.nodes))?);
            }
        }
        cases.iter().try_for_each(|case| report::line(case).map(|line| println!("{line}")))?;
        Ok(cases.into())
    }

    /// Latency of the smallest requests at half of what four nodes took.
    fn delays(&self, cases: &[Case]) -> Result<Vec<Delay>> {
        let shape = Shape { nodes: NODES[0], size: SIZES[0] };
        let mut delays = Vec::new();
        for case in cases.iter().filter(|case| case.shape == shape) {
            let rate = case.median("ops")? / 2.0;
            delays.push(Delay { way: case.way, rate, rounds: Vec::new() });
        }
        for _ in 0..self.options.rounds {
            for delay in &mut delays {
                let words = [shape.words(shape.nodes), vec![format!("rate={:.0}", delay.rate)]].concat();
                delay.rounds.push(self.load(delay.way, words)?);
            }
        }
        Ok(delays)
    }

    /// Each attack on four nodes, with requests that are signed one by one, and sixteen at once.
    fn sieges(&self) -> Result<Vec<Siege>> {
        let shape = Shape { nodes: NODES[0], size: SIZES[0] };
        let ways = Way::ALL.into_iter().filter(|way| way.commands > 0);
        let of = |way| ATTACKS.map(|attack| Siege { attack, way, rounds: Vec::new() });
        let mut sieges: Vec<Siege> = ways.flat_map(of).collect();
        for _ in 0..self.options.rounds {
            for siege in &mut sieges {
                let words = [shape.words(shape.nodes - 1), vec![siege.attack.word.to_owned()]].concat();
                siege.rounds.push(self.load(siege.way, words)?);
            }
        }
        Ok(sieges)
    }

    /// How long requests stand still when the primary is killed.
    fn silences(&self, nodes: u64) -> Result<Vec<f64>> {
        let kills = if self.options.quick { 2 } else { KILLS };
        let shape = Shape { nodes, size: SIZES[0] };
        let mut all = Vec::new();
        for _ in 0..self.options.rounds {
            let words = [shape.words(nodes), vec![format!("kills={kills}"), format!("rate={KILL_RATE}")]].concat();
            let found = self.run("failover", Way { agreement: "pbft", commands: 16 }, &words)?;
            all.extend(found.into_iter().map(|(_, ms)| ms));
        }
        Ok(all)
    }

    /// What a reader must know to judge the figures.
    fn conditions(&self, before: &str, after: &str, start: Instant) -> String {
        let pressure = fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
        let pressure = pressure.split_whitespace().find_map(|word| word.strip_prefix("avg300=")).unwrap_or("?");
        format!(
            "{}, shared by all nodes and the load; {} round{} of {} s a turn.\n\
             Load average (1, 5, 15 minutes) before the run: {before}; after: {after}. In its last five minutes somebody \
             waited for a core\n{pressure} % of the time. The run took {:.0} s.{}",
            machine(),
            self.options.rounds,
            if self.options.rounds == 1 { "" } else { "s" },
            self.options.seconds,
            start.elapsed().as_secs_f64(),
            if self.options.quick { "\n**A quick run**: one round of short turns, to see that it works." } else { "" },
        )
    }
}

impl Case {
    fn all(&self, name: &str) -> Result<Vec<f64>> {
        self.rounds.iter().map(|round| value(round, name)).collect()
    }

    fn median(&self, name: &str) -> Result<f64> {
        Ok(median(self.all(name)?))
    }
}
