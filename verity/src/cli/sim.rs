//! `verity sim`: the deterministic world.

use anyhow::{Result, bail};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use verity_contract::{Agreement as Engine, Boot};
use verity_sim::{EngineFn, Mutant, Options, Report, ZooKeeperClients};
use verity_types::Mono;

use crate::compose::{self, Agreement};
use crate::secrets;

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  verity sim --seeds 20                        twenty worlds from a seed drawn by chance\n  \
    verity sim --seed 7 --trace                  one world, every event\n  \
    verity sim --seeds 1000 --until-failure --mutant ack-before-sync\n  \
    verity sim --seed 7 --agreement paxos --nodes 5 --seconds 60"
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
    /// How the nodes come to one order.
    #[arg(long, value_enum, default_value_t = Agreement::Raft)]
    agreement: Agreement,
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

fn raft(boot: Boot, now: Mono, _mutant: Option<Mutant>) -> Result<Box<dyn Engine>, String> {
    compose::start_engine(Agreement::Raft, boot, now, verity_paxos::Config::default())
}

fn paxos(boot: Boot, now: Mono, mutant: Option<Mutant>) -> Result<Box<dyn Engine>, String> {
    let mutant = mutant.and_then(|mutant| verity_paxos::Mutant::named(mutant.name()));
    let config = verity_paxos::Config { mutant, ..verity_paxos::Config::default() };
    compose::start_engine(Agreement::Paxos, boot, now, config)
}

fn engine(agreement: Agreement) -> EngineFn {
    match agreement {
        Agreement::Raft => raft,
        Agreement::Paxos => paxos,
    }
}

impl Sim {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let first = match self.seed {
            Some(seed) => seed,
            None => secrets::seed()? >> 32,
        };
        let mut failed = 0;
        for seed in (0..self.seeds).map(|offset| first.wrapping_add(offset)) {
            let options = Options {
                seed,
                nodes: usize::from(self.nodes),
                fault_ms: self.seconds * 1000,
                mutant: self.mutant,
                trace: self.trace,
                ..Options::default()
            };
            let (report, failure) = self.world(&options);
            let failure = failure.or_else(|| report.as_ref().and_then(idle));
            failed += u64::from(failure.is_some());
            self.print(json, seed, report.as_ref(), failure.as_deref());
            if let (Some(report), true) = (&report, failure.is_some() && self.shrink) {
                self.shrink(options, report);
            }
            if self.until_failure && failed > 0 {
                break;
            }
        }
        if failed > 0 {
            bail!("{failed} of {} worlds failed", self.seeds);
        }
        Ok(())
    }

    /// Runs one world: what it came to, and what is wrong with it.
    fn world(&self, options: &Options) -> (Option<Report>, Option<String>) {
        let mut workload =
            ZooKeeperClients::new(engine(self.agreement), options.nodes, usize::from(self.clients), 10_000_000);
        // An invariant that breaks is a finding like any other, to be told with its seed.
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| verity_sim::run(options, &mut workload)));
        match outcome {
            Ok(Ok(report)) => (Some(report), None),
            Ok(Err(failure)) => (Some(failure.report), Some(failure.reason)),
            Err(_) => (None, Some("an invariant does not hold; its text stands above".to_owned())),
        }
    }

    /// Leaves out one kind of fault after the other, then time, for as long as the world still fails.
    fn shrink(&self, options: Options, report: &Report) {
        let mut smallest = Options { swarm: Some(report.swarm), part_of_drawn: true, ..options };
        for name in report.swarm.names() {
            let swarm = smallest.swarm.map(|swarm| swarm.without(name));
            let fewer = Options { swarm, ..smallest.clone() };
            if self.world(&fewer).1.is_some() {
                smallest = fewer;
            }
        }
        while smallest.fault_ms >= 2_000 {
            let shorter = Options { fault_ms: smallest.fault_ms / 2, ..smallest.clone() };
            if self.world(&shorter).1.is_none() {
                break;
            }
            smallest = shorter;
        }
        let (kinds, reason) = (smallest.swarm.map(verity_sim::Swarm::names), self.world(&smallest).1);
        println!(
            "seed {} still fails with {} alone, faults for {} ms: {}",
            smallest.seed,
            kinds.unwrap_or_default().join(" "),
            smallest.fault_ms,
            reason.unwrap_or_default()
        );
    }

    fn print(&self, json: bool, seed: u64, report: Option<&Report>, failure: Option<&str>) {
        if let Some(lines) = report.and_then(|report| report.trace.lines()) {
            print!("{lines}");
        }
        let verdict = failure.unwrap_or("holds");
        let replay = self.replay(seed);
        let Some(report) = report else {
            return println!("seed {seed}: {verdict}; again: {replay}");
        };
        if json {
            let faults = report.faults.total();
            let line = serde_json::json!({
                "seed": seed, "ok": failure.is_none(), "verdict": verdict, "operations": report.acknowledged,
                "faults": faults, "snapshots": report.faults.snapshots, "seconds": report.elapsed_ns as f64 / 1e9,
                "events": report.trace.events(), "trace": format!("{:016x}", report.trace.hash()), "replay": replay,
            });
            return println!("{line}");
        }
        println!(
            "seed {seed}: {verdict}; {} operations, {} faults ({}), {:.1} s of its time, trace {:016x}; again: {replay}",
            report.acknowledged,
            report.faults.total(),
            report.swarm.names().join(" "),
            report.elapsed_ns as f64 / 1e9,
            report.trace.hash()
        );
    }

    /// The line that runs this world again.
    fn replay(&self, seed: u64) -> String {
        let mut mutant = self.mutant.map_or_else(String::new, |mutant| format!(" --mutant {}", mutant.name()));
        if self.agreement == Agreement::Paxos {
            mutant.push_str(" --agreement paxos");
        }
        let (commit, nodes, clients, seconds) = (env!("VERITY_COMMIT"), self.nodes, self.clients, self.seconds);
        format!(
            "verity sim --seed {seed} --nodes {nodes} --clients {clients} --seconds {seconds}{mutant} (commit {commit})"
        )
    }
}

/// A world in which nothing was done, or nothing broke, has shown nothing.
fn idle(report: &Report) -> Option<String> {
    if report.acknowledged == 0 {
        return Some("no operation was acknowledged".into());
    }
    (report.faults.total() == 0 && !report.swarm.names().is_empty()).then(|| "no fault took effect".into())
}
