//! Multi-Paxos against the conformance suite.

#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use verity_agreement_suite::{Factory, Mutant, cases};
use verity_contract::{Agreement, Boot};
use verity_paxos::{Config, Paxos};
use verity_types::Mono;

fn start(boot: Boot, config: Config, now: Mono) -> Result<Box<dyn Agreement>, String> {
    Paxos::start(boot, config, now)
        .map(|paxos| Box::new(paxos) as Box<dyn Agreement>)
        .map_err(|error| error.to_string())
}

fn paxos(boot: Boot, now: Mono) -> Result<Box<dyn Agreement>, String> {
    start(boot, Config::default(), now)
}

/// Small messages: promises, catching up and re-sent values come in many parts.
fn in_parts(boot: Boot, now: Mono) -> Result<Box<dyn Agreement>, String> {
    start(boot, Config { batch_bytes_max: 100, ..Config::default() }, now)
}

#[test]
fn commits_in_one_order() {
    (0..5).for_each(|seed| cases::commits_in_one_order(paxos, seed, 3));
    cases::commits_in_one_order(paxos, 9, 5);
    cases::commits_in_one_order(paxos, 9, 2);
}

#[test]
fn a_sole_voter_leads_at_once() {
    cases::a_sole_voter_leads_at_once(paxos, 1);
}

#[test]
fn the_named_first_leader_leads_first() {
    (0..30).for_each(|seed| cases::the_named_first_leader_leads_first(paxos, seed));
}

#[test]
fn a_leader_of_itself_alone_ticks_rarely() {
    (0..10).for_each(|seed| cases::a_leader_of_itself_alone_ticks_rarely(paxos, seed));
}

#[test]
fn followers_refuse_proposals() {
    cases::followers_refuse_proposals(paxos, 1);
}

#[test]
fn barriers_are_linearizable() {
    (0..20).for_each(|seed| cases::barriers_are_linearizable(paxos, seed));
}

#[test]
fn a_paused_leader_reads_nothing_stale() {
    (0..20).for_each(|seed| cases::a_paused_leader_reads_nothing_stale(paxos, seed));
}

#[test]
fn a_lost_connection_breaks_no_read() {
    (0..30).for_each(|seed| cases::a_lost_connection_breaks_no_lease(paxos, seed));
}

#[test]
fn survives_power_failures() {
    (0..20).for_each(|seed| cases::survives_power_failures(paxos, seed));
}

#[test]
fn a_lagging_node_gets_a_snapshot() {
    (0..10).for_each(|seed| cases::a_lagging_node_gets_a_snapshot(paxos, seed));
}

#[test]
fn members_change() {
    (0..20).for_each(|seed| cases::members_change(paxos, seed));
}

#[test]
fn a_blank_node_joins() {
    (0..10).for_each(|seed| cases::a_blank_node_joins(paxos, seed));
}

#[test]
fn a_node_that_comes_back_counts_for_nobody_at_first() {
    (0..20).for_each(|seed| cases::a_node_that_comes_back_counts_for_nobody_at_first(paxos, seed, true));
    let fails =
        |seed| catch_unwind(|| cases::a_node_that_comes_back_counts_for_nobody_at_first(paxos, seed, false)).is_err();
    assert!((0..8).filter(|seed| fails(*seed)).count() > 3, "without a floor it is taken for the member it was");
}

#[test]
fn a_cut_off_learner_forgets_its_leader() {
    (0..5).for_each(|seed| cases::a_cut_off_learner_forgets_its_leader(paxos, seed));
}

#[test]
fn leadership_moves() {
    (0..20).for_each(|seed| cases::leadership_moves(paxos, seed));
}

#[test]
fn a_killed_leader_is_replaced() {
    let mut times: Vec<u64> = (0..40).map(|seed| cases::a_killed_leader_is_replaced(paxos, seed)).collect();
    times.sort_unstable();
    println!("median {} ms, worst {} ms", times[20], times[39]);
    assert!(times[20] < 250, "{times:?}");
}

#[test]
fn slow_disks_stop_nobody() {
    (0..40).for_each(|seed| cases::slow_disks_stop_nobody(paxos, seed));
}

#[test]
fn reads_keep_nothing_from_being_said_again() {
    (0..5).for_each(|seed| cases::reads_keep_nothing_from_being_said_again(paxos, seed));
}

#[test]
fn idle_groups_sleep_and_wake() {
    (0..5).for_each(|seed| cases::idle_groups_sleep_and_wake(paxos, seed));
}

#[test]
fn soak() {
    let mut total = cases::Tally::default();
    for seed in 0..seeds(60) {
        println!("seed {seed}");
        let tally = cases::soak(if seed % 3 == 0 { in_parts } else { paxos }, seed, Mutant::None);
        total.commits += tally.commits;
        total.reads_ready += tally.reads_ready;
        total.reads_failed += tally.reads_failed;
        total.crashes += tally.crashes;
        total.cuts += tally.cuts;
        total.installs += tally.installs;
        total.changes += tally.changes;
    }
    println!("{total:?}");
    let all = [total.commits, total.reads_ready, total.reads_failed, total.crashes, total.cuts, total.installs];
    assert!(all.iter().all(|count| *count > 0) && total.changes > 0, "a soak in which nothing happens: {total:?}");
}

#[test]
fn a_seed_is_a_history() {
    for seed in 0..5 {
        assert_eq!(cases::soak(paxos, seed, Mutant::None), cases::soak(paxos, seed, Mutant::None));
    }
}

fn seeds(default: u64) -> u64 {
    std::env::var("VERITY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default)
}

#[test]
fn a_flapping_link_moves_nobody() {
    let changes: u64 = (0..20).map(|seed| cases::a_flapping_link(paxos, seed)).sum();
    println!("{changes} changes of leadership");
    assert_eq!(changes, 0, "a leader that a majority hears stays");
}

#[test]
fn rival_leaders() {
    let rivalry: u64 = (0..40).map(|seed| cases::rival_leaders(paxos, seed, Mutant::None)).sum();
    println!("{rivalry} moments with two leaders");
    assert!(rivalry > 0, "a rivalry that never happens");
}

/// Runs both the soak and the rivalry on each seed until one of them fails.
fn catches(name: &str, factory: Factory, mutant: Mutant) {
    let fails = |case: &dyn Fn()| catch_unwind(AssertUnwindSafe(case)).is_err();
    let caught = (0..100).find_map(|seed| {
        let by_soak = fails(&|| _ = cases::soak(factory, seed, mutant));
        let by_rivals = fails(&|| _ = cases::rival_leaders(factory, seed, mutant));
        (by_soak || by_rivals).then_some((seed, by_soak, by_rivals))
    });
    let (seed, by_soak, by_rivals) = caught.unwrap_or_else(|| panic!("the suite must catch {name}"));
    println!("{name} is caught at seed {seed}: soak {by_soak}, rivals {by_rivals}");
}

#[test]
fn the_suite_catches_forgotten_promises() {
    catches("a disk that forgets promises", paxos, Mutant::VoteNotPersisted);
}

#[test]
fn the_suite_catches_acknowledgements_before_the_sync() {
    catches("a disk that acknowledges early", paxos, Mutant::AckBeforeSync);
}

fn broken(boot: Boot, now: Mono, mutant: verity_paxos::Mutant) -> Result<Box<dyn Agreement>, String> {
    start(boot, Config { mutant: Some(mutant), ..Config::default() }, now)
}

fn accepts_below_promise(boot: Boot, now: Mono) -> Result<Box<dyn Agreement>, String> {
    broken(boot, now, verity_paxos::Mutant::AcceptBelowPromise)
}

fn ignores_values(boot: Boot, now: Mono) -> Result<Box<dyn Agreement>, String> {
    broken(boot, now, verity_paxos::Mutant::ValueChoiceIgnored)
}

fn commits_without_quorum(boot: Boot, now: Mono) -> Result<Box<dyn Agreement>, String> {
    broken(boot, now, verity_paxos::Mutant::CommitWithoutQuorum)
}

#[test]
fn the_suite_catches_acceptance_below_a_promise() {
    catches("acceptance below a promise", accepts_below_promise, Mutant::None);
}

#[test]
fn the_suite_catches_a_value_choice_that_is_ignored() {
    catches("a value choice that is ignored", ignores_values, Mutant::None);
}

#[test]
fn the_suite_catches_a_commit_without_quorum() {
    catches("a commit without quorum", commits_without_quorum, Mutant::None);
}

#[test]
fn partial_partitions() {
    let count = |case: fn(Factory, u64) -> bool| (0..20).filter(|seed| case(paxos, *seed)).count();
    let (loss, constrained, chained) =
        (count(cases::quorum_loss), count(cases::constrained_election), count(cases::chained));
    println!("of 20: quorum loss {loss}, constrained election {constrained}, chained {chained}");
    assert_eq!((loss, constrained, chained), (20, 20, 20));
}
