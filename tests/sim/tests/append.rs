//! The append world under the default swarm.

use verity_sim::{Mutant, Options, Swarm, run};
use verity_worlds::append::{Appends, Engine};
use verity_worlds::{paxos, raft};

fn options(seed: u64) -> Options {
    Options { seed, ..Options::default() }
}

/// The list is a group that another asks for, with its values in a file.
fn spawned(engine: Engine, options: &Options) -> Result<verity_sim::Report, String> {
    let mut workload = Appends::new(engine, options.nodes, 4, 10_000_000).spawned();
    run(options, &mut workload).map_err(|failure| format!("seed {}: {}", options.seed, failure.reason))
}

fn world(engine: Engine, options: &Options) -> Result<verity_sim::Report, String> {
    let mut workload = Appends::new(engine, options.nodes, 4, 10_000_000);
    run(options, &mut workload).map_err(|failure| format!("seed {}: {}", options.seed, failure.reason))
}

#[test]
fn a_calm_world_answers_everything() {
    let report = world(raft, &Options { swarm: Some(Swarm::default()), ..options(1) }).expect("nothing is broken");
    assert!(report.acknowledged > 3_000, "{} answers", report.acknowledged);
    assert_eq!(report.faults.crashes, 0);
}

/// From `VERITY_SEEDS`, as `first..last`; the default is what every test run takes.
fn seeds() -> std::ops::Range<u64> {
    let given = std::env::var("VERITY_SEEDS").ok();
    let range = given.as_deref().and_then(|given| given.split_once(".."));
    let parsed = range.and_then(|(first, last)| Some(first.parse().ok()?..last.parse().ok()?));
    assert!(parsed.is_some() || given.is_none(), "VERITY_SEEDS is first..last");
    parsed.unwrap_or(0..30)
}

#[test]
fn raft_holds_under_the_swarm() {
    let (mut acknowledged, mut faults) = (0, 0);
    for seed in seeds() {
        let report = world(raft, &options(seed)).unwrap_or_else(|failure| panic!("{failure}"));
        acknowledged += report.acknowledged;
        faults += report.faults.total();
    }
    println!("{acknowledged} answers, {faults} faults");
    assert!(acknowledged > 0 && faults > 0, "{acknowledged} answers, {faults} faults");
}

#[test]
fn groups_that_a_machine_asks_for_hold_under_the_swarm() {
    let mut acknowledged = 0;
    for engine in [raft as Engine, paxos] {
        for seed in seeds().take(10) {
            acknowledged += spawned(engine, &options(seed)).unwrap_or_else(|failure| panic!("{failure}")).acknowledged;
        }
    }
    assert!(acknowledged > 0);
}

#[test]
fn one_seed_is_one_history() {
    let hash = |seed| world(raft, &options(seed)).map(|report| report.trace.hash());
    assert_eq!(hash(7), hash(7));
    assert_ne!(hash(7), hash(8));
}

fn caught(mutant: Mutant, seeds: u64) -> bool {
    (0..seeds).any(|seed| {
        let options = Options { mutant: Some(mutant), ..options(seed) };
        std::panic::catch_unwind(|| world(raft, &options).is_err()).unwrap_or(true)
    })
}

#[test]
fn planted_bugs_are_caught() {
    for mutant in [Mutant::VoteNotPersisted, Mutant::StaleReadWithoutBarrier, Mutant::AckBeforeSync] {
        assert!(caught(mutant, 1_000), "{} was not caught", mutant.name());
    }
}
