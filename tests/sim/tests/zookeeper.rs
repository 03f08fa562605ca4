//! The ZooKeeper world under the default swarm.

use verity_sim::{EngineFn, Mutant, Options, Report, Swarm, ZooKeeperClients, run};
use verity_worlds::{paxos, raft};

fn world(engine: EngineFn, options: &Options) -> Result<Report, String> {
    let mut workload = ZooKeeperClients::new(engine, options.nodes, 4, 10_000_000);
    run(options, &mut workload).map_err(|failure| format!("seed {}: {}", options.seed, failure.reason))
}

/// From `VERITY_SEEDS`, as `first..last`; the default is what every test run takes.
fn seeds() -> std::ops::Range<u64> {
    let given = std::env::var("VERITY_SEEDS").ok();
    let range = given.as_deref().and_then(|given| given.split_once(".."));
    let parsed = range.and_then(|(first, last)| Some(first.parse().ok()?..last.parse().ok()?));
    assert!(parsed.is_some() || given.is_none(), "VERITY_SEEDS is first..last");
    parsed.unwrap_or(0..20)
}

#[test]
fn a_calm_world_answers_everything() {
    let options = Options { seed: 1, swarm: Some(Swarm::default()), ..Options::default() };
    let report = world(raft, &options).expect("nothing is broken");
    assert!(report.acknowledged > 3_000, "{} answers", report.acknowledged);
}

#[test]
fn the_checker_finds_an_order_for_a_calm_world() {
    let options = Options { seed: 1, fault_ms: 2_000, swarm: Some(Swarm::default()), ..Options::default() };
    let mut workload = ZooKeeperClients::new(raft, options.nodes, 4, 10_000_000).with_history();
    run(&options, &mut workload).unwrap_or_else(|failure| panic!("{}", failure.reason));
}

fn holds(engine: EngineFn) {
    let (mut acknowledged, mut faults) = (0, 0);
    for seed in seeds() {
        let report =
            world(engine, &Options { seed, ..Options::default() }).unwrap_or_else(|failure| panic!("{failure}"));
        acknowledged += report.acknowledged;
        faults += report.faults.total();
    }
    println!("{acknowledged} answers, {faults} faults");
    assert!(acknowledged > 0 && faults > 0, "{acknowledged} answers, {faults} faults");
}

#[test]
fn raft_holds_under_the_swarm() {
    holds(raft);
}

#[test]
fn paxos_holds_under_the_swarm() {
    holds(paxos);
}

/// A snapshot may stand inside a joint change, and a node may start from it.
#[test]
fn members_change_while_snapshots_are_taken() {
    let swarm = Swarm { members: true, snapshots: true, crash: true, loss: true, ..Swarm::default() };
    let mut changes = 0;
    for engine in [raft as EngineFn, paxos] {
        for seed in seeds() {
            let options = Options { seed, swarm: Some(swarm), part_of_drawn: true, ..Options::default() };
            changes += world(engine, &options).unwrap_or_else(|failure| panic!("{failure}")).faults.members;
        }
    }
    assert!(changes > 0, "no change of members came into force");
}

fn assert_caught(engine: EngineFn, mutants: &[Mutant]) {
    for mutant in mutants {
        let caught = (0..1_000).find(|seed| {
            let options = Options { seed: *seed, mutant: Some(*mutant), ..Options::default() };
            std::panic::catch_unwind(|| world(engine, &options).is_err()).unwrap_or(true)
        });
        println!("{}: seed {caught:?}", mutant.name());
        assert!(caught.is_some(), "{} was not caught", mutant.name());
    }
}

#[test]
fn planted_bugs_of_the_tree_are_caught() {
    use Mutant::{EphemeralSurvivesSession, SnapshotMissingSession, WatchAfterReply};
    assert_caught(raft, &[SnapshotMissingSession, EphemeralSurvivesSession, WatchAfterReply]);
}

#[test]
fn planted_bugs_of_paxos_are_caught() {
    assert_caught(paxos, &[Mutant::CommitWithoutQuorum, Mutant::ValueChoiceIgnored]);
}
