//! The Bitcoin world under the default swarm.

use verity_sim::{BitcoinClients, Mutant, Options, Report, Swarm, run};

fn world(options: &Options) -> Result<Report, String> {
    let mut workload = BitcoinClients::new(options.seed, options.nodes, 4, 40_000_000);
    let options = Options { heal_ms: workload.heal_ms(), ..options.clone() };
    run(&options, &mut workload).map_err(|failure| format!("seed {}: {}", options.seed, failure.reason))
}

#[test]
fn a_calm_world_answers_everything() {
    let options = Options { seed: 1, fault_ms: 3_000, swarm: Some(Swarm::default()), ..Options::default() };
    let report = world(&options).expect("nothing is broken");
    assert!(report.acknowledged > 100, "{} answers", report.acknowledged);
}

#[test]
fn one_seed_is_one_history() {
    let options = Options { seed: 4, fault_ms: 3_000, nodes: 4, ..Options::default() };
    let traces = [(); 2].map(|()| world(&options).expect("it holds").trace);
    assert!(traces[0].events() > 1_000);
    assert_eq!(traces[0].hash(), traces[1].hash());
}

#[test]
fn blocks_that_are_taken_out_by_hand_come_back() {
    // Every third world has an operator.
    for seed in [3, 6, 12] {
        if let Err(failure) = world(&Options { seed, nodes: 3, ..Options::default() }) {
            panic!("{failure}");
        }
    }
}

#[test]
fn a_chain_that_undoes_badly_is_caught() {
    let caught = (0..200).any(|seed| {
        let mutant = Some(Mutant::UndoKeepsOutputs);
        world(&Options { seed, fault_ms: 5_000, mutant, ..Options::default() }).is_err()
    });
    assert!(caught, "200 worlds hold");
}
