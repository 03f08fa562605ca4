//! `cargo xtask bench kafka`: Verity against what else speaks Kafka's protocol here, on the same disk, in turns.
//!
//! - A turn is one server, started on nothing, loaded by librdkafka's `rdkafka_performance`, and ended. A round is one turn
//!   of each; the median over rounds is reported.
//! - Upon a turn: some messages warm the server and say how many fill the time; then those are produced, and all are consumed.
//! - A server that keeps nothing shows what the tool itself can do.
//! - Latency and the cost of a request are measured by our own client, whose batches have a known size and time.
//!
//! Deliberately absent: servers on other machines. Tool and servers share the cores, which a reader must keep in mind.

mod fresh;
mod report;
mod server;
mod tool;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use verity_bench::kafka::client;
use verity_bench::process;

use super::{Pairs, built, load_average, machine, pairs};
use crate::shell::{command, output, root, target};
use fresh::Fresh;
use server::{Place, Programs, Server, System};
use tool::Tool;

/// The sizes of messages, in bytes.
const SIZES: [u64; 2] = [100, 1024];
/// The numbers of partitions.
const PARTITIONS: [i32; 2] = [1, 12];
/// What a producer waits for.
const ACKS: [&str; 2] = ["1", "all"];
/// How many messages warm a server: several times as many as the tool keeps under way.
const WARM_COUNT: u64 = 300_000;
/// The most bytes that are produced in one turn.
const BYTES_MAX: u64 = 1 << 30;
/// The pace of the latency, in messages a second.
const RATE: u64 = 100_000;
/// The numbers of partitions over which requests are spread.
const SPREADS: [i32; 4] = [1, 10, 100, 1000];
/// What a server idles before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a server may take until it serves.
const START_MAX: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(crate) struct Options {
    /// Rounds: one turn of each system per case.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of producing in each turn, about.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// One round of a second, of acks=all on 12 partitions alone: a look, no figures to publish.
    #[arg(long)]
    quick: bool,
    /// A Verity binary to measure; built if not given.
    #[arg(long, env = "VERITY")]
    binary: Option<PathBuf>,
    /// Our load client; built if not given.
    #[arg(long, env = "VERITY_BENCH")]
    client: Option<PathBuf>,
    /// librdkafka's `rdkafka_performance`; built if not given.
    #[arg(long, env = "RDKAFKA_PERFORMANCE")]
    tool: Option<PathBuf>,
    /// Tansu's program; built if not given, which takes a quarter of an hour.
    #[arg(long, env = "TANSU")]
    tansu: Option<PathBuf>,
}

/// What is produced, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    partitions: i32,
    size: u64,
    acks: &'static str,
}

/// One turn.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// Messages acknowledged in a second.
    rate: f64,
    /// The servers' CPU time, in microseconds a message; a message's microsecond is a million's second.
    cpu_us: f64,
    /// Bytes written to disk for each byte produced.
    written: f64,
    /// Messages consumed in a second, and the servers' CPU time for each.
    consumed: Option<(f64, f64)>,
}

/// What was produced in one go, and how many messages the topic has got from it.
struct Load {
    turn: Turn,
    count: u64,
}

/// All turns of one system at one load.
struct Case {
    place: Place,
    shape: Shape,
    rounds: Vec<Turn>,
    /// Rounds that a peer did not survive, twice.
    failed: usize,
}

/// Latency at a steady rate, as our client reports it.
struct Delay {
    place: Place,
    rounds: Vec<Pairs>,
    /// Rounds that a peer did not survive.
    failed: usize,
}

/// From the start to the first message acknowledged; memory when idle.
struct Life {
    place: Place,
    first_ms: Vec<f64>,
    rss: Vec<f64>,
}

/// CPU time of a request that lands on one of so many partitions, in microseconds.
struct Cost {
    partitions: i32,
    cpu_us: Vec<f64>,
    rate: Vec<f64>,
}

/// Everything that was measured.
#[derive(Default)]
struct Figures {
    cases: Vec<Case>,
    delays: Vec<Delay>,
    lives: Vec<Life>,
    fresh: Vec<Fresh>,
    costs: Vec<Cost>,
}

struct Bench {
    options: Options,
    programs: Programs,
    tool: Tool,
    directory: PathBuf,
}

/// Runs the comparison and writes `docs/benchmarks/kafka.md` and `.svg`.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) fn kafka(mut options: Options) -> Result<()> {
    if options.quick {
        (options.rounds, options.seconds) = (1, 1.0);
    }
    ensure!(options.rounds > 0, "a comparison takes a round");
    ensure!((0.1..=60.0).contains(&options.seconds), "a turn takes between 0.1 and 60 seconds");
    let programs = Programs {
        verity: built(&options.binary, "verity")?,
        bench: built(&options.client, "verity-bench")?,
        noida: server::noida()?,
        tansu: server::tansu(options.tansu.as_ref())?,
    };
    let tool = Tool::ready(options.tool.as_ref())?;
    let bench = Bench { options, programs, tool, directory: std::path::absolute(target().join("xtask/bench-kafka"))? };
    let (start, before) = (Instant::now(), load_average()?);
    let mut figures = Figures { lives: bench.lives()?, fresh: bench.fresh()?, ..Figures::default() };
    for nodes in [1, 3] {
        figures.cases.extend(bench.compare(nodes)?);
    }
    figures.delays = bench.delays()?;
    figures.costs = bench.costs()?;
    let conditions = bench.conditions(&before, &load_average()?, start);
    report::write(&root().join("docs/benchmarks"), &figures, &conditions)?;
    Ok(fs::remove_dir_all(&bench.directory)?)
}

/// One more failure of a peer, which shows in the table and ends no run; ours ends it.
fn survive(place: Place, error: anyhow::Error) -> Result<usize> {
    ensure!(System::PEERS.contains(&place.system), "{}: {error:#}", place.name());
    eprintln!("{}: {error:#}", place.name());
    Ok(1)
}

impl Bench {
    fn start(&self, place: Place) -> Result<Server> {
        if self.directory.exists() {
            fs::remove_dir_all(&self.directory)?;
        }
        fs::create_dir_all(&self.directory)?;
        Server::start(place, &self.programs, &self.directory)
    }

    /// Every case with this many nodes.
    fn compare(&self, nodes: u16) -> Result<Vec<Case>> {
        let mut cases: Vec<Case> = Vec::new();
        for size in SIZES {
            for partitions in PARTITIONS {
                for acks in ACKS {
                    let shape = Shape { partitions, size, acks };
                    if self.options.quick && (partitions, acks) != (12, "all") {
                        continue;
                    }
                    let from = cases.len();
                    let systems = System::ALL.into_iter().filter(|system| system.nodes().contains(&nodes));
                    cases.extend(systems.map(|system| Case {
                        place: Place { system, nodes },
                        shape,
                        rounds: Vec::new(),
                        failed: 0,
                    }));
                    for _ in 0..self.options.rounds {
                        for case in &mut cases[from..] {
                            let turn = self.turn(case.place, shape).or_else(|error| {
                                eprintln!("once more: {}, {}: {error:#}", case.place.name(), shape.name());
                                self.turn(case.place, shape)
                            });
                            match turn {
                                Ok(turn) => case.rounds.push(turn),
                                Err(error) => case.failed += survive(case.place, error)?,
                            }
                        }
                    }
                    cases[from..].iter().for_each(|case| println!("{}", report::line(case)));
                }
            }
        }
        Ok(cases)
    }

    fn turn(&self, place: Place, shape: Shape) -> Result<Turn> {
        let server = self.start(place)?;
        let topic = format!("load-p{}", shape.partitions);
        client::ready(server.address, &topic, shape.partitions, place.replicas())?;
        let pids = server.pids();
        let warm = self.produce(&server, &topic, shape, WARM_COUNT)?;
        let count = ((warm.turn.rate * self.options.seconds) as u64).clamp(WARM_COUNT, BYTES_MAX / shape.size);
        let Load { mut turn, count } = self.produce(&server, &topic, shape, count)?;
        let all = warm.count + count;
        if shape.acks == "all" && place.system != System::Null {
            let before = process::cpu_us(&pids)?;
            match self.tool.consume(server.address, &topic, shape.partitions, all) {
                Ok(rate) => {
                    turn.consumed = Some((rate, process::cpu_us(&pids)?.saturating_sub(before) as f64 / all as f64))
                }
                // It shows in the table, and ends no run.
                Err(error) => eprintln!("{}, {}: {error:#}", place.name(), shape.name()),
            }
        }
        server.stop()?;
        Ok(turn)
    }

    /// Produces so many messages; twice as many each time that they were too few to tell a rate.
    fn produce(&self, server: &Server, topic: &str, shape: Shape, mut count: u64) -> Result<Load> {
        let (pids, mut all) = (server.pids(), 0);
        loop {
            let (cpu_us, written) = (process::cpu_us(&pids)?, process::written(&pids)?);
            let rate = self.tool.produce(server.address, topic, shape.size, shape.acks, count)?;
            all += count;
            if let Some(rate) = rate {
                let cpu_us = process::cpu_us(&pids)?.saturating_sub(cpu_us) as f64 / count as f64;
                let written = process::written(&pids)?.saturating_sub(written) as f64 / (count * shape.size) as f64;
                return Ok(Load { turn: Turn { rate, cpu_us, written, consumed: None }, count: all });
            }
            ensure!(all * shape.size < BYTES_MAX * 4, "no steady rate in {all} messages");
            count *= 2;
        }
    }

    /// Latency of everything that keeps what it gets.
    fn delays(&self) -> Result<Vec<Delay>> {
        let mut delays: Vec<Delay> = Place::all()
            .filter(|place| place.system != System::Null)
            .map(|place| Delay { place, rounds: vec![], failed: 0 })
            .collect();
        let seconds = (self.options.seconds * 2.0).max(2.0).to_string();
        for _ in 0..self.options.rounds {
            for delay in &mut delays {
                match self.delay(delay.place, &seconds) {
                    Ok(found) => delay.rounds.push(found),
                    Err(error) => delay.failed += survive(delay.place, error)?,
                }
            }
        }
        let measured = delays.iter().filter(|delay| !delay.rounds.is_empty());
        measured.for_each(|delay| println!("{}", report::delay_line(delay)));
        Ok(delays)
    }

    fn delay(&self, place: Place, seconds: &str) -> Result<Pairs> {
        let server = self.start(place)?;
        let (address, replicas, rate) = (server.address.to_string(), place.replicas().to_string(), RATE.to_string());
        let found = self.client(&["paced", &address, "paced-p12", "12", &replicas, &rate, seconds], &server)?;
        server.stop()?;
        Ok(found)
    }

    /// Cold starts and idle memory, of one node.
    #[expect(clippy::disallowed_methods, reason = "a benchmark polls for a server to come up, and lets it settle")]
    fn lives(&self) -> Result<Vec<Life>> {
        let of = |system| Life { place: Place { system, nodes: 1 }, first_ms: Vec::new(), rss: Vec::new() };
        let mut lives: Vec<Life> = [System::Durable, System::Memory, System::Noida, System::Tansu].map(of).into();
        for _ in 0..self.options.rounds {
            for life in &mut lives {
                let server = self.start(life.place)?;
                let attempt = || -> Result<()> {
                    let mut connection = client::Connection::open(server.address, Duration::from_millis(250))?;
                    connection.create("first-p1", 1, 1)?;
                    client::produce_one(server.address, "first-p1")
                };
                while let Err(error) = attempt() {
                    ensure!(server.started.elapsed() < START_MAX, "{} does not serve: {error:#}", life.place.name());
                    std::thread::sleep(Duration::from_millis(1));
                }
                life.first_ms.push(server.started.elapsed().as_secs_f64() * 1e3);
                std::thread::sleep(SETTLE);
                life.rss.push(process::rss(&server.pids())? as f64);
                server.stop()?;
            }
        }
        lives.iter().for_each(|life| println!("{}", report::life_line(life)));
        Ok(lives)
    }

    /// The cost of a request to one durable node.
    fn costs(&self) -> Result<Vec<Cost>> {
        let mut costs = SPREADS.map(|partitions| Cost { partitions, cpu_us: Vec::new(), rate: Vec::new() });
        let count = ((self.options.seconds * 3_000.0) as u64).to_string();
        for _ in 0..self.options.rounds {
            for cost in &mut costs {
                let server = self.start(Place { system: System::Durable, nodes: 1 })?;
                let (topic, partitions) = (format!("cost-p{}", cost.partitions), cost.partitions.to_string());
                let words = ["requests", &server.address.to_string(), &topic, &partitions, &count];
                let found = self.client(&words, &server)?;
                cost.cpu_us.push(super::value(&found, "cpu_us")?);
                cost.rate.push(super::value(&found, "rate")?);
                server.stop()?;
            }
        }
        costs.iter().for_each(|cost| println!("{}", report::cost_line(cost)));
        Ok(costs.into())
    }

    fn client(&self, words: &[&str], server: &Server) -> Result<Pairs> {
        let pids = server.pids().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let words: Vec<&str> = ["kafka"].iter().chain(words).copied().chain([pids.as_str()]).collect();
        pairs(&output(&mut command(&self.programs.bench, &words))?)
    }

    /// What a reader must know to judge the figures.
    fn conditions(&self, before: &str, after: &str, start: Instant) -> String {
        format!(
            "{}, shared by servers and tools; {} round{} of about {} s a turn; librdkafka {}; noida-db {}; Tansu {}.\n\
             Load average (1, 5, 15 minutes) before the run: {before}; after: {after}. The run took {:.0} s.{}",
            machine(),
            self.options.rounds,
            if self.options.rounds == 1 { "" } else { "s" },
            self.options.seconds,
            tool::VERSION,
            server::NOIDA_VERSION,
            server::TANSU_VERSION,
            start.elapsed().as_secs_f64(),
            if self.options.quick {
                "\n**A quick run** on a busy machine: one round of a few loads, to see that it works."
            } else {
                ""
            },
        )
    }
}
