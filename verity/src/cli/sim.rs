//! `verity sim`: the deterministic world.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use verity_contract::{Agreement as Engine, Boot};
use verity_sim::{
    BitcoinClients, EngineFn, KafkaClients, LedgerClients, Mutant, Options, Report, Swarm, Workload, ZooKeeperClients,
    forget_votes,
};
use verity_types::{Mono, NodeId};

use crate::compose::{self, Agreement, System};
use crate::secrets;

/// A client asks so often.
const PACE_NS: u64 = 10_000_000;
/// One of Bitcoin's does.
const BITCOIN_PACE_NS: u64 = 40_000_000;

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  verity sim --seeds 20                        twenty worlds from a seed drawn by chance\n  \
    verity sim --seed 7 --trace                  one world, every event\n  \
    verity sim --seeds 1000 --until-failure --mutant ack-before-sync\n  \
    verity sim --seed 7 --agreement paxos --nodes 5 --seconds 60\n  \
    verity sim --seeds 20 --system kafka --nodes 4 --topic-agreement pbft"
)]
pub(crate) struct Sim {
    /// Everything random comes from it; a random one if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds, counted up from the first.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// How many clients.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clients: u16,
    /// How long faults come, in seconds of the world's time.
    #[arg(long, default_value_t = 10, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Only these kinds of faults, of those that the seed draws, as a shrunk world names them: crash,loss
    #[arg(long, value_name = "LIST", value_parser = faults)]
    faults: Option<Swarm>,
    /// How long faults come, in milliseconds, instead of --seconds.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    fault_ms: Option<u64>,
    /// How the nodes come to one order.
    #[arg(long, value_enum, default_value_t = Agreement::Raft)]
    agreement: Agreement,
    /// How some of Kafka's topics come to one order, if not as the nodes do; the seed draws which.
    #[arg(long, value_enum, value_name = "AGREEMENT")]
    topic_agreement: Option<Agreement>,
    /// Whose clients use the world.
    #[arg(long, value_enum, default_value_t = System::ZooKeeper)]
    system: System,
    /// Write down what the clients saw and let the checker judge it too: is there one order of all operations? Takes about
    /// twice the time.
    #[arg(long)]
    check: bool,
    /// The same, and keep what was written down for `verity check`; of several worlds the last one's. ZooKeeper's alone.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Plant a bug, to see it caught.
    #[arg(long, value_name = "BUG", value_parser = mutants())]
    mutant: Option<Mutant>,
    /// When a world fails, look for the fewest kinds of faults and the shortest time with which it still does.
    #[arg(long)]
    shrink: bool,
    /// Stop at the first world that fails.
    #[arg(long)]
    until_failure: bool,
    /// Print every event. One seed prints the same lines in every process.
    #[arg(long)]
    trace: bool,
}

fn mutants() -> impl TypedValueParser<Value = Mutant> {
    let names = Mutant::ALL.iter().map(|(_, name)| *name);
    PossibleValuesParser::new(names).map(|name| Mutant::named(&name).expect("only names that are known are possible"))
}

fn raft(boot: Boot, now: Mono, mutant: Option<Mutant>) -> Result<Box<dyn Engine>, String> {
    let raft = compose::start_engine(Agreement::Raft, boot, now, verity_paxos::Config::default())?;
    let forgets = mutant == Some(Mutant::VoteNotPersisted);
    Ok(if forgets { forget_votes(raft, verity_raft::forget_vote) } else { raft })
}

fn paxos(boot: Boot, now: Mono, mutant: Option<Mutant>) -> Result<Box<dyn Engine>, String> {
    let mutant = mutant.and_then(|mutant| verity_paxos::Mutant::named(mutant.name()));
    let config = verity_paxos::Config { mutant, ..verity_paxos::Config::default() };
    compose::start_engine(Agreement::Paxos, boot, now, config)
}

/// So many nodes a world has at most.
const NODES_MAX: u64 = 9;

fn pbft(boot: Boot, now: Mono, mutant: Option<Mutant>) -> Result<Box<dyn Engine>, String> {
    let mutant = mutant.and_then(|mutant| verity_pbft::Mutant::named(mutant.name()));
    let config = verity_pbft::Config { mutant, ..verity_pbft::Config::default() };
    let keys = verity_pbft::Keys::seals(boot.id, (1..=NODES_MAX).map(NodeId));
    let pbft = verity_pbft::Pbft::start(boot, config, keys, now);
    pbft.map(|pbft| Box::new(pbft) as Box<dyn Engine>).map_err(|error| error.to_string())
}

fn engine(agreement: Agreement) -> EngineFn {
    match agreement {
        Agreement::Raft => raft,
        Agreement::Paxos => paxos,
        Agreement::Pbft => pbft,
    }
}

/// The one agreement in which a mutant can live, if it cannot in each.
fn home(mutant: Mutant) -> Option<Agreement> {
    match mutant {
        Mutant::CommitWithoutQuorum
        | Mutant::AcceptBelowPromise
        | Mutant::ValueChoiceIgnored
        | Mutant::ChangeCountsOneMajority => Some(Agreement::Paxos),
        Mutant::LeaseIgnoresDrift => Some(Agreement::Raft),
        _ => None,
    }
}

/// The one system whose worlds can show a mutant, if not each.
fn system(mutant: Mutant) -> Option<System> {
    match mutant {
        Mutant::SnapshotMissingSession | Mutant::WatchAfterReply | Mutant::EphemeralSurvivesSession => {
            Some(System::ZooKeeper)
        }
        Mutant::AppendIgnoresGuard
        | Mutant::MarkerHitsNextTransaction
        | Mutant::FetchIgnoresLastStable
        | Mutant::FetchOmitsAborted
        | Mutant::ProducerForgotten
        | Mutant::MarkersTakenForWritten
        | Mutant::CommitIgnoresGeneration
        | Mutant::CommitForgotten
        | Mutant::AssignmentShared
        | Mutant::RevocationNotAwaited
        | Mutant::AcceptedRecordAgain
        | Mutant::RecordAcquiredTwice
        | Mutant::RecordArchivedUnseen
        | Mutant::DeliveryLimitIgnored
        | Mutant::CompactionDropsLatest
        | Mutant::LogStartGoesBack => Some(System::Kafka),
        Mutant::TransactionStaysWaiting | Mutant::HeaderSaysOldState => Some(System::Ledger),
        Mutant::UndoKeepsOutputs
        | Mutant::UndoForgetsCoins
        | Mutant::AnswerBeforeFlush
        | Mutant::HeavierBranchIgnored
        | Mutant::RevertedPaymentsForgotten
        | Mutant::ReorganisationNotTold => Some(System::Bitcoin),
        _ => None,
    }
}

fn faults(names: &str) -> Result<Swarm, String> {
    Swarm::of(names.split(',').filter(|name| !name.is_empty()))
}

/// How much time worlds took, in theirs and in ours.
#[derive(Default)]
struct Pace {
    worlds: u64,
    operations: u64,
    world_ns: u64,
    cpu_ns: u64,
    /// Of each world: its time over the processor's.
    ratios: Vec<f64>,
}

/// What this thread has had of the processor, in nanoseconds. Only people are told; no world sees it.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

impl Sim {
    #[expect(clippy::disallowed_methods, reason = "a run tells how fast it was")]
    pub(crate) fn run(self, json: bool) -> Result<()> {
        if let Some((mutant, home)) = self.mutant.and_then(|mutant| Some((mutant, home(mutant)?)))
            && home != self.agreement
        {
            let (name, has) = (mutant.name(), home);
            bail!("{} has no {name}; {has} has it: add --agreement {has}", self.agreement);
        }
        if let Some((mutant, home)) = self.mutant.and_then(|mutant| Some((mutant, system(mutant)?)))
            && home != self.system
        {
            let (name, has) = (mutant.name(), home.name());
            bail!("{} has no {name}; {has} has it: add --system {has}", self.system.name());
        }
        if self.topic_agreement.is_some() && self.system != System::Kafka {
            bail!("--topic-agreement: {} has no topics; add --system kafka", self.system.name());
        }
        if self.history.is_some() && self.system != System::ZooKeeper {
            bail!("--history: the clients of {} write none", self.system.name());
        }
        let first = match self.seed {
            Some(seed) => seed,
            None => secrets::seed()? >> 32,
        };
        let (mut failed, mut pace, began) = (0, Pace::default(), Instant::now());
        for seed in (0..self.seeds).map(|offset| first.wrapping_add(offset)) {
            let options = Options {
                seed,
                nodes: usize::from(self.nodes),
                fault_ms: self.fault_ms(),
                mutant: self.mutant,
                trace: self.trace,
                swarm: self.faults,
                part_of_drawn: self.faults.is_some(),
                ..Options::default()
            };
            let cpu = cpu_ns();
            let (report, failure) = self.world(&options);
            pace.add(&report, cpu_ns().saturating_sub(cpu));
            let failure = failure.or_else(|| idle(&report));
            failed += u64::from(failure.is_some());
            self.print(json, &options, &report, failure.as_deref(), &pace);
            if let (Some(failure), true) = (failure, self.shrink) {
                self.shrink(json, options, &report, &failure);
            }
            if self.until_failure && failed > 0 {
                break;
            }
        }
        let worlds = pace.worlds;
        if !json || self.seeds > 1 {
            pace.print(json, began.elapsed().as_secs_f64());
        }
        if failed > 0 {
            bail!("{failed} of {worlds} worlds failed");
        }
        Ok(())
    }

    fn fault_ms(&self) -> u64 {
        self.fault_ms.unwrap_or(self.seconds * 1000)
    }

    /// Runs one world: what it came to, and what is wrong with it.
    fn world(&self, options: &Options) -> (Report, Option<String>) {
        let (engine, clients) = (engine(self.agreement), usize::from(self.clients));
        let result = match self.system {
            System::ZooKeeper => {
                let clients = ZooKeeperClients::new(engine, options.nodes, clients, PACE_NS);
                let written = self.check || self.history.is_some();
                let mut clients = if written { clients.with_history() } else { clients };
                let result = verity_sim::run(options, &mut clients);
                if let (Some(path), Some(history)) = (&self.history, clients.history())
                    && let Err(error) = std::fs::write(path, history)
                {
                    eprintln!("verity: cannot write {}: {error}", path.display());
                }
                result
            }
            System::Kafka => {
                let clients = KafkaClients::new(engine, options.nodes, clients, PACE_NS);
                let clients = match self.topic_agreement {
                    Some(own) => clients.with_own_agreement(own.into(), self::engine(own)),
                    None => clients,
                };
                let mut clients = if options.nodes < 3 { clients } else { clients.with_operator() };
                verity_sim::run(options, &mut clients)
            }
            System::Ledger => {
                verity_sim::run(options, &mut LedgerClients::new(engine, options.nodes, clients, PACE_NS))
            }
            System::Bitcoin => {
                let mut clients = BitcoinClients::new(options.seed, options.nodes, clients, BITCOIN_PACE_NS);
                verity_sim::run(&Options { heal_ms: clients.heal_ms(), ..options.clone() }, &mut clients)
            }
        };
        match result {
            Ok(report) => (report, None),
            Err(failure) => (failure.report, Some(failure.reason)),
        }
    }

    /// Leaves out one kind of fault after the other, then time, for as long as the world still fails in the same way.
    fn shrink(&self, json: bool, options: Options, report: &Report, failure: &str) {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let fails = |options: &Options| {
            let (report, reason) = self.world(options);
            reason.or_else(|| idle(&report)).filter(|reason| law(reason) == law(failure))
        };
        let mut smallest = Options { swarm: Some(report.swarm), part_of_drawn: true, trace: false, ..options };
        let mut reason = failure.to_owned();
        for name in report.swarm.names() {
            let swarm = smallest.swarm.map(|swarm| swarm.without(name));
            let fewer = Options { swarm, ..smallest.clone() };
            if let Some(still) = fails(&fewer) {
                (smallest, reason) = (fewer, still);
            }
        }
        while smallest.fault_ms >= 2 {
            let shorter = Options { fault_ms: smallest.fault_ms / 2, ..smallest.clone() };
            let Some(still) = fails(&shorter) else { break };
            (smallest, reason) = (shorter, still);
        }
        std::panic::set_hook(hook);
        let (seed, fault_ms, replay) = (smallest.seed, smallest.fault_ms, self.replay(&smallest));
        let kinds = smallest.swarm.map(Swarm::names).unwrap_or_default();
        if json {
            let line = serde_json::json!({
                "seed": seed, "shrunk": true, "kinds": kinds, "fault_ms": fault_ms, "failure": reason, "replay": replay,
            });
            return println!("{line}");
        }
        let kinds = if kinds.is_empty() { "no fault".to_owned() } else { kinds.join(" ") };
        println!("seed {seed} still fails with {kinds} alone, for {fault_ms} ms: {reason}; again: {replay}");
    }

    /// A world alone tells how fast it was in its own line of JSON; several do in a last one, so that the lines of two
    /// processes can be compared.
    fn print(&self, json: bool, options: &Options, report: &Report, failure: Option<&str>, pace: &Pace) {
        if let Some(lines) = report.trace.lines() {
            print!("{lines}");
        }
        let (seed, verdict, replay) = (options.seed, failure.unwrap_or("holds"), self.replay(options));
        let (operations, faults) = (report.acknowledged, report.faults.total());
        let (seconds, trace) = (report.elapsed_ns as f64 / 1e9, format!("{:016x}", report.trace.hash()));
        let kinds = report.swarm.names();
        if json {
            let mut line = serde_json::json!({
                "seed": seed, "ok": failure.is_none(), "verdict": verdict, "operations": operations,
                "faults": faults, "kinds": kinds, "snapshots": report.faults.snapshots, "seconds": seconds,
                "events": report.trace.events(), "trace": trace, "replay": replay,
            });
            if self.seeds == 1 {
                line["cpu_seconds"] = (pace.cpu_ns as f64 / 1e9).into();
                line["times_cpu_time"] = (pace.world_ns as f64 / pace.cpu_ns.max(1) as f64).into();
            }
            return println!("{line}");
        }
        println!(
            "seed {seed}: {verdict}; {operations} operations, {faults} faults ({}), {seconds:.1} s of its time, trace {trace}; \
             again: {replay}",
            kinds.join(" "),
        );
    }

    /// The line that runs this world again. What follows the # is for the reader.
    fn replay(&self, options: &Options) -> String {
        let (nodes, clients, seconds) = (self.nodes, self.clients, self.seconds);
        let mut line =
            format!("verity sim --seed {} --nodes {nodes} --clients {clients} --seconds {seconds}", options.seed);
        if self.agreement != Agreement::Raft {
            line.push_str(&format!(" --agreement {}", self.agreement));
        }
        if let Some(own) = self.topic_agreement {
            line.push_str(&format!(" --topic-agreement {own}"));
        }
        if self.system != System::ZooKeeper {
            line.push_str(&format!(" --system {}", self.system.name()));
        }
        if self.check {
            line.push_str(" --check");
        }
        if let Some(mutant) = self.mutant {
            line.push_str(&format!(" --mutant {}", mutant.name()));
        }
        if let Some(swarm) = options.swarm {
            line.push_str(&format!(" --faults '{}'", swarm.names().join(",")));
        }
        if options.fault_ms != seconds * 1000 {
            line.push_str(&format!(" --fault-ms {}", options.fault_ms));
        }
        line.push_str(concat!(" # commit ", env!("VERITY_COMMIT")));
        line
    }
}

impl Pace {
    fn add(&mut self, report: &Report, cpu_ns: u64) {
        self.worlds += 1;
        self.operations += report.acknowledged;
        self.world_ns += report.elapsed_ns;
        self.cpu_ns += cpu_ns;
        self.ratios.push(report.elapsed_ns as f64 / cpu_ns.max(1) as f64);
    }

    fn print(mut self, json: bool, wall: f64) {
        self.ratios.sort_by(f64::total_cmp);
        let median = self.ratios.get(self.ratios.len() / 2).copied().unwrap_or(0.0);
        let (worlds, operations) = (self.worlds, self.operations);
        let (seconds, cpu) = (self.world_ns as f64 / 1e9, self.cpu_ns as f64 / 1e9);
        if json {
            let line = serde_json::json!({
                "worlds": worlds, "operations": operations, "seconds": seconds, "wall_seconds": wall, "cpu_seconds": cpu,
                "times_real_time": seconds / wall, "times_cpu_time": seconds / cpu, "times_cpu_time_median": median,
            });
            return println!("{line}");
        }
        println!(
            "{worlds} worlds, {operations} operations: {seconds:.1} s of their time in {wall:.2} s ({:.0} times real time) \
             and {cpu:.2} s of one core ({:.0} times, the median world {median:.0} times)",
            seconds / wall,
            seconds / cpu,
        );
    }
}

/// What kind of failure it is: its first words, without those that name a number.
fn law(reason: &str) -> String {
    let words = reason.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.take(6).collect::<Vec<_>>().join(" ")
}

/// A world in which nothing was done, or nothing broke, has shown nothing.
fn idle(report: &Report) -> Option<String> {
    if report.acknowledged == 0 {
        return Some("no operation was acknowledged".into());
    }
    (report.faults.total() == 0 && !report.swarm.names().is_empty()).then(|| "no fault took effect".into())
}
