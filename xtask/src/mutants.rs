//! The mutants suite: every planted bug must be caught by the default swarm within [`SEEDS_MAX`] seeds from each of three
//! bases. The bases are drawn from the clock; `MUTANTS_SEED` repeats a run.
//!
//! Deliberately absent: scenarios. No world knows which bug it carries.

use anyhow::{Context, Result, ensure};

use crate::shell::command;
use crate::suite::binary;

/// A mutant that survives this many worlds has not been caught.
const SEEDS_MAX: u64 = 1_000;
/// How far the three bases lie apart.
const STRIDE: u64 = 1_000_003;

/// Which system's worlds are to catch each mutant, and on which engine. Bitcoin's nodes have none of those, whatever is said.
const MUTANTS: [(&str, &str, &str); 37] = [
    ("vote-not-persisted", "zookeeper", "raft"),
    ("commit-without-quorum", "zookeeper", "paxos"),
    ("stale-read-without-barrier", "zookeeper", "raft"),
    ("barrier-answered-by-old-leader", "zookeeper", "raft"),
    ("message-before-sync", "zookeeper", "raft"),
    ("snapshot-before-sync", "zookeeper", "raft"),
    ("snapshot-without-lanes", "zookeeper", "raft"),
    ("lane-applies-twice", "zookeeper", "raft"),
    ("snapshot-missing-session", "zookeeper", "raft"),
    ("ack-before-sync", "zookeeper", "raft"),
    ("watch-after-reply", "zookeeper", "raft"),
    ("ephemeral-survives-session", "zookeeper", "raft"),
    ("accept-below-promise", "zookeeper", "paxos"),
    ("value-choice-ignored", "zookeeper", "paxos"),
    ("marker-hits-next-transaction", "kafka", "raft"),
    ("fetch-ignores-last-stable", "kafka", "raft"),
    ("fetch-omits-aborted", "kafka", "raft"),
    ("producer-forgotten", "kafka", "raft"),
    ("markers-taken-for-written", "kafka", "raft"),
    ("commit-ignores-generation", "kafka", "raft"),
    ("commit-forgotten", "kafka", "raft"),
    ("assignment-shared", "kafka", "raft"),
    ("revocation-not-awaited", "kafka", "raft"),
    ("accepted-record-again", "kafka", "raft"),
    ("record-acquired-twice", "kafka", "raft"),
    ("record-archived-unseen", "kafka", "raft"),
    ("delivery-limit-ignored", "kafka", "raft"),
    ("compaction-drops-latest", "kafka", "raft"),
    ("log-start-goes-back", "kafka", "raft"),
    ("transaction-stays-waiting", "ledger", "raft"),
    ("header-says-old-state", "ledger", "raft"),
    ("undo-keeps-outputs", "bitcoin", "raft"),
    ("undo-forgets-coins", "bitcoin", "raft"),
    ("answer-before-flush", "bitcoin", "raft"),
    ("heavier-branch-ignored", "bitcoin", "raft"),
    ("reverted-payments-forgotten", "bitcoin", "raft"),
    ("reorganisation-not-told", "bitcoin", "raft"),
];

pub(crate) fn run_suite() -> Result<()> {
    let binary = binary()?;
    let first: u64 = match std::env::var("MUTANTS_SEED") {
        Ok(seed) => seed.parse().context("MUTANTS_SEED is a number")?,
        Err(_) => std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs() % 1_000_000_000,
    };
    println!(
        "worlds until each mutant was caught, from bases {first} + n x {STRIDE} (MUTANTS_SEED={first} repeats it)"
    );
    let mut survived = Vec::new();
    for (mutant, system, agreement) in MUTANTS {
        let mut worlds = Vec::new();
        for base in (0..3).map(|n| first + n * STRIDE) {
            let (base, count) = (base.to_string(), SEEDS_MAX.to_string());
            let place = ["--system", system, "--agreement", agreement];
            let flags = ["--mutant", mutant, "--until-failure", "--json"];
            let mut sim = command(&binary, &["sim", "--seed", &base, "--seeds", &count]);
            let output = sim.args(place).args(flags).output().context("cannot run the simulator")?;
            let seen = String::from_utf8_lossy(&output.stdout).lines().filter(|line| is_verdict(line)).count();
            ensure!(seen > 0, "{mutant} from {base}: {}", String::from_utf8_lossy(&output.stderr));
            worlds.push(if output.status.success() { format!("over {seen}") } else { seen.to_string() });
            if output.status.success() {
                survived.push(format!("{mutant} of {system} on {agreement} from {base}"));
            }
        }
        println!("{mutant:<30} {system:<10} {agreement:<6} {}", worlds.join("  "));
    }
    ensure!(survived.is_empty(), "not caught within {SEEDS_MAX} worlds: {}", survived.join("; "));
    Ok(())
}

/// The last line tells of the pace, the others of one world each.
fn is_verdict(line: &str) -> bool {
    line.contains("\"verdict\"")
}
