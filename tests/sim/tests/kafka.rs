//! The Kafka world: calm, and under the default swarm.

use verity_sim::{EngineFn, KafkaClients, Options, Report, Swarm, run};
use verity_worlds::{paxos, raft};

fn world(engine: EngineFn, options: &Options) -> Report {
    let mut workload = KafkaClients::new(engine, options.nodes, 4, 10_000_000).with_operator();
    run(options, &mut workload).unwrap_or_else(|failure| panic!("seed {}: {}", options.seed, failure.reason))
}

#[test]
fn a_calm_world_answers_everything() {
    let options = Options { seed: 1, fault_ms: 3_000, swarm: Some(Swarm::default()), ..Options::default() };
    let report = world(raft, &options);
    assert!(report.acknowledged > 400, "{} answers", report.acknowledged);
}

/// Partitions whose replicas move between five nodes, while nothing fails: everything is there in the end.
#[test]
fn partitions_move_between_nodes() {
    for engine in [raft as EngineFn, paxos] {
        let options =
            Options { seed: 3, nodes: 5, fault_ms: 5_000, swarm: Some(Swarm::default()), ..Options::default() };
        let report = world(engine, &options);
        assert!(report.acknowledged > 400, "{} answers", report.acknowledged);
    }
}

fn holds(engine: EngineFn) {
    let reports = (0..4).map(|seed| world(engine, &Options { seed, fault_ms: 5_000, ..Options::default() }));
    let (acknowledged, faults) =
        reports.fold((0, 0), |(sum, faults), report| (sum + report.acknowledged, faults + report.faults.total()));
    assert!(acknowledged > 0 && faults > 0, "{acknowledged} answers, {faults} faults");
}

#[test]
fn the_default_swarm_holds_on_raft() {
    holds(raft);
}

#[test]
fn the_default_swarm_holds_on_paxos() {
    holds(paxos);
}
