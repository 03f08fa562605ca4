//! The Kafka world: calm, and under the default swarm.

use verity_kafka::machine::cluster::Agreement;
use verity_sim::{EngineFn, KafkaClients, Options, Report, Swarm, run};
use verity_worlds::{paxos, pbft, raft};

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

/// Topics on another agreement than the cluster, beside such as are on its own.
#[test]
fn the_default_swarm_holds_with_topics_on_an_agreement_of_their_own() {
    let all = [
        (raft as EngineFn, Agreement::Paxos, paxos as EngineFn, 3),
        (paxos, Agreement::Raft, raft, 5),
        (raft, Agreement::Pbft, pbft, 4),
    ];
    for (engine, agreement, own, nodes) in all {
        for seed in 0..2 {
            let options = Options { seed, nodes, fault_ms: 3_000, ..Options::default() };
            let workload = KafkaClients::new(engine, options.nodes, 4, 10_000_000);
            let mut workload = workload.with_own_agreement(agreement, own).with_operator();
            let report = run(&options, &mut workload);
            let report = report.unwrap_or_else(|failure| panic!("{agreement:?}, seed {seed}: {}", failure.reason));
            assert!(report.acknowledged > 0, "{agreement:?}, seed {seed}");
        }
    }
}
