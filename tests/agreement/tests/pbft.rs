//! PBFT among liars.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use verity_agreement_suite::Rng;
use verity_agreement_suite::liars::{Tally, Trouble, World};
use verity_contract::{Agreement, Boot};
use verity_pbft::forensics::{Witness, culprits};
use verity_pbft::liar::{Liar, Lie, Twin};
use verity_pbft::{Config, Evidence, Keys, Mutant, Pbft, Quorum, Scope};
use verity_types::{Mono, Nanos, NodeId};

/// Nodes of the largest world, members or not.
const NODES_MAX: u64 = 9;
/// How far the order may run ahead of a checkpoint.
const WINDOW: u64 = 16;

/// Every other world looks at its primaries' pace.
fn config(seed: u64, mutant: Option<Mutant>) -> Config {
    let pace_window = Nanos::from_millis(500 * (seed % 2));
    Config { checkpoint_every: 8, window: WINDOW, pace_window, mutant, ..Config::default() }
}

fn honest(boot: Boot, seed: u64, mutant: Option<Mutant>, now: Mono) -> Pbft {
    let keys = Keys::seals(boot.id, (1..=NODES_MAX).map(NodeId));
    Pbft::start(boot, config(seed, mutant), keys, now).expect("a replica starts from what it wrote")
}

fn judge(bytes: &Bytes) -> Option<NodeId> {
    let evidence = Evidence::decode(bytes.clone()).ok()?;
    let keys = Keys::seals(NodeId(1), (1..=NODES_MAX).map(NodeId));
    evidence.verify_with(&keys).then_some(evidence.culprit)
}

/// What a liar of a run does: one of the named lies, or two copies.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Lie(Lie),
    Twin,
}

fn draw(rng: &mut Rng) -> Kind {
    if rng.chance(20) {
        // The oldest lie, and the one that most rules stand against.
        return Kind::Lie(Lie::Equivocate);
    }
    match usize::try_from(rng.below(Lie::ALL.len() as u64 + 1)).expect("a small number") {
        at if at < Lie::ALL.len() => Kind::Lie(Lie::ALL[at].1),
        _ => Kind::Twin,
    }
}

fn world(seed: u64, count: u64, liars: Vec<(NodeId, Kind)>, trouble: Trouble, mutant: Option<Mutant>) -> World {
    let names: BTreeSet<NodeId> = liars.iter().map(|(node, _)| *node).collect();
    let start = move |boot: Boot, now: Mono| -> Box<dyn Agreement> {
        match liars.iter().find(|(node, _)| *node == boot.id).map(|(_, kind)| *kind) {
            None => Box::new(honest(boot, seed, mutant, now)),
            Some(Kind::Lie(lie)) => {
                let chance = seed ^ boot.id.0.rotate_left(32) ^ boot.incarnation.0;
                Box::new(Liar::new(honest(boot, seed, mutant, now), lie, chance))
            }
            Some(Kind::Twin) => {
                Box::new(Twin::new(honest(boot.clone(), seed, mutant, now), honest(boot, seed, mutant, now)))
            }
        }
    };
    World::new(seed, count, names, trouble, Box::new(start), judge).with_window(WINDOW)
}

/// One run of the swarm over so many replicas: liars and faults follow from the seed, or all liars do `only` this.
fn swarm(seed: u64, count: u64, rng: Rng, mutant: Option<Mutant>, only: Option<Kind>) -> World {
    swarm_with(seed, count, rng, mutant, only, None)
}

/// The same, with an operator who changes the members in it, as this chance has it.
fn swarm_with(
    seed: u64,
    count: u64,
    mut rng: Rng,
    mutant: Option<Mutant>,
    only: Option<Kind>,
    operator: Option<Rng>,
) -> World {
    let mut nodes: Vec<u64> = (1..=count).collect();
    let mut liars: Vec<(NodeId, Kind)> = (0..(count - 1) / 3)
        .map(|_| {
            // Whoever leads first has the most to lie about.
            let at = if rng.chance(40) { 0 } else { rng.below(nodes.len() as u64) };
            (NodeId(nodes.remove(usize::try_from(at).expect("a small number"))), only.unwrap_or(draw(&mut rng)))
        })
        .collect();
    let some = |rng: &mut Rng, most: u64| if rng.chance(50) { rng.below(most) } else { 0 };
    let trouble = Trouble {
        drop: 1 + some(&mut rng, 15),
        double: some(&mut rng, 15),
        late: some(&mut rng, 20),
        crashes: rng.chance(50),
        ambushes: if rng.chance(70) { rng.below(60) } else { 0 },
        snapshots: some(&mut rng, 100),
    };
    if let Some(mut chance) = operator {
        // One more may lie among those who may become members: the operator never makes it one too many.
        if chance.chance(40) {
            liars.push((NodeId(NODES_MAX), draw(&mut chance)));
        }
        let usurped = liars.iter_mut().filter(|_| chance.chance(40));
        usurped.for_each(|(_, kind)| *kind = Kind::Lie(Lie::Usurp));
        println!("seed {seed}: {count} replicas and an operator, {liars:?}, {trouble:?}");
        return world(seed, count, liars, trouble, mutant).with_operator(NODES_MAX);
    }
    println!("seed {seed}: {count} replicas, {liars:?}, {trouble:?}");
    world(seed, count, liars, trouble, mutant)
}

/// One run among four to seven, in two of five of which members come and go.
fn run(seed: u64, mutant: Option<Mutant>) -> World {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let count = [4, 5, 6, 7][usize::try_from(rng.below(4)).expect("a small number")];
    let mut chance = Rng::new(seed ^ 0xe90c);
    let operator = chance.chance(40).then_some(chance);
    let mut world = swarm_with(seed, count, rng, mutant, None, operator);
    world.play(80, 50);
    world
}

/// Fifty requests and more are committed among four, and among seven, while f lie and the network and the power fail.
///
/// The normal run takes other seeds each day. Ten thousand, and the least and the median that a run committed:
///
/// ```text
/// VERITY_SEED=0 VERITY_SEEDS=10000 cargo test --release -p verity-agreement-suite --test pbft four_and_seven -- --nocapture
/// ```
#[test]
fn four_and_seven_commit_among_liars() {
    let mut executed = Vec::new();
    let mut total = Tally::default();
    for seed in seeds(20 * today(), 20) {
        let run = || {
            let rng = Rng::new(seed ^ 0x0407);
            let mut world = swarm(seed, if seed % 2 == 0 { 4 } else { 7 }, rng, None, None);
            world.play(80, 50);
            world.tally
        };
        let tally = catch_unwind(run).unwrap_or_else(|_| panic!("seed {seed} fails"));
        assert!(tally.executed >= 50, "seed {seed}: too few requests: {tally:?}");
        assert!(tally.faults() > 0, "seed {seed}: nothing went wrong: {tally:?}");
        executed.push(tally.executed);
        total.add(&tally);
    }
    executed.sort_unstable();
    let (runs, least, median) = (executed.len(), executed[0], executed[executed.len() / 2]);
    println!(
        "{runs} runs committed {least} requests at least, {median} in the middle; {} faults: {total:?}",
        total.faults()
    );
}

/// Messages that are right but for one field, and soundly signed, of as many as may lie.
#[test]
fn small_changes_of_messages_break_nothing() {
    for seed in seeds(0, 15) {
        let rng = Rng::new(seed ^ 0xf022);
        let count = [4, 7][usize::try_from(seed % 2).expect("0 or 1")];
        let mut world = swarm(seed, count, rng, None, Some(Kind::Lie(Lie::ByzzFuzz)));
        world.play(80, 50);
        assert!(world.tally.executed >= 50 && world.tally.faults() > 0, "seed {seed}: {:?}", world.tally);
    }
}

/// What three honest clients get done in each of ten windows of five seconds when the first primary is as slow as it can be
/// without being replaced by a timeout.
fn with_slow_primary(pace_window: Nanos) -> Vec<u64> {
    let start = move |boot: Boot, now: Mono| -> Box<dyn Agreement> {
        let keys = Keys::seals(boot.id, (1..=NODES_MAX).map(NodeId));
        let id = boot.id;
        let config = Config { pace_window, pace_rise_percent: 3, ..config(0, None) };
        let pbft = Pbft::start(boot, config, keys, now).expect("a replica starts from what it wrote");
        if id == NodeId(1) { Box::new(Liar::new(pbft, Lie::SlowPrimary, 1)) } else { Box::new(pbft) }
    };
    let liars = BTreeSet::from([NodeId(1)]);
    let mut world = World::new(1, 4, liars, Trouble::default(), Box::new(start), judge).with_window(WINDOW);
    world.play_in_step(5_000, 10)
}

/// Aardvark's promise (NSDI 2009 §5.3): whoever leads, at least half of what a correct primary gives, once the first window,
/// in which nothing better was seen yet, is over.
#[test]
fn a_slow_primary_holds_nobody_to_its_pace() {
    let (slow, kept) = (with_slow_primary(Nanos(0)), with_slow_primary(Nanos::from_millis(500)));
    println!("without a pace {slow:?}, with one {kept:?}");
    let best = kept.iter().max().copied().expect("ten windows");
    assert!(kept[1..].iter().all(|window| 2 * window >= best), "{kept:?}");
    assert!(slow.iter().all(|window| 2 * window < best), "the slow primary is slow, and stays: {slow:?}");
}

/// Days since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "which seeds a normal run takes, and nothing in it, follows from the day"
)]
fn today() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs() / 86_400)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// `VERITY_SEEDS` seeds from `VERITY_SEED` on.
fn seeds(first: u64, default: u64) -> std::ops::Range<u64> {
    let first = number("VERITY_SEED").unwrap_or(first);
    first..first + number("VERITY_SEEDS").unwrap_or(default)
}

#[test]
fn liars_break_nothing() {
    let mut total = Tally::default();
    for seed in seeds(0, 60) {
        let tally = catch_unwind(|| run(seed, None)).unwrap_or_else(|_| panic!("seed {seed} fails")).tally;
        assert!(tally.executed >= 50, "seed {seed}: {tally:?}");
        total.add(&tally);
    }
    println!("{total:?}");
    assert!(total.is_full() && total.epochs > 0, "a swarm in which nothing happens: {total:?}");
}

/// A newcomer that a liar gave a false state while nobody else had one to give; members who wait for those that leave.
const FOUND: [u64; 2] = [2_577_222_567, 2_872_020_943];

/// Members come and go in every run, in some of them often.
#[test]
fn members_come_and_go_among_liars() {
    let mut total = Tally::default();
    for seed in FOUND.into_iter().chain(seeds(0, 20)) {
        let run = || {
            let mut rng = Rng::new(seed ^ 0x0e90);
            let count = 4 + rng.below(4);
            let operator = Some(Rng::new(seed ^ 0x90e0));
            let mut world = swarm_with(seed, count, rng, None, None, operator);
            world.play(160, 80);
            world.tally
        };
        let tally = catch_unwind(run).unwrap_or_else(|_| panic!("seed {seed} fails"));
        assert!(tally.executed >= 80, "seed {seed}: {tally:?}");
        total.add(&tally);
    }
    println!("{total:?}");
    assert!(total.is_full() && 2 * total.epochs > seeds(0, 20).count() as u64, "members who stay: {total:?}");
}

#[test]
fn a_seed_is_a_history() {
    for seed in 0..5 {
        assert_eq!(run(seed, None).tally, run(seed, None).tally, "seed {seed}");
    }
}

/// A mutant is caught within so many seeds, or it is not caught.
const HUNT_MAX: u64 = 200;
/// Where the hunts for mutants begin.
const BASES: [u64; 3] = [0, 10_000, 20_000];

/// Runs the swarm with a rule broken until a law is, from each base, and says after how many seeds:
///
/// | mutant | seeds from each base |
/// | --- | --- |
/// | prepares-not-counted | 1, 1, 1 |
/// | certificate-dropped | 1, 1, 1 |
/// | watermark-not-enforced | 43, 25, 19 |
/// | unsigned-request | 8, 6, 2 |
/// | vote-not-persisted | 21, 21, 15 |
/// | digest-not-compared | 116, 28, 40 |
/// | checkpoint-without-certificate | 1, 4, 5 |
/// | quorum-of-two-thirds | 1, 1, 5 |
/// | epoch-ends-at-once | 1, 4, 11 |
/// | one-endorsement | 3, 6, 5 |
fn catches(name: &str) {
    let mutant = Mutant::named(name).expect("a mutant of this name");
    let hunt = |base: u64| {
        let mut seeds = base..base + HUNT_MAX;
        let caught = seeds.position(|seed| catch_unwind(AssertUnwindSafe(|| run(seed, Some(mutant)))).is_err());
        1 + caught.unwrap_or_else(|| panic!("the swarm must catch {name} from {base}"))
    };
    println!("{name} is caught after {:?} seeds from {BASES:?}", BASES.map(hunt));
}

#[test]
fn the_swarm_catches_prepares_that_are_not_counted() {
    catches("prepares-not-counted");
}

#[test]
fn the_swarm_catches_certificates_that_are_dropped() {
    catches("certificate-dropped");
}

#[test]
fn the_swarm_catches_watermarks_that_are_not_enforced() {
    catches("watermark-not-enforced");
}

#[test]
fn the_swarm_catches_requests_without_a_signature() {
    catches("unsigned-request");
}

#[test]
fn the_swarm_catches_votes_that_are_not_persisted() {
    catches("vote-not-persisted");
}

#[test]
fn the_swarm_catches_digests_that_are_not_compared() {
    catches("digest-not-compared");
}

#[test]
fn the_swarm_catches_checkpoints_without_a_certificate() {
    catches("checkpoint-without-certificate");
}

#[test]
fn the_swarm_catches_a_quorum_of_two_thirds() {
    catches("quorum-of-two-thirds");
}

#[test]
fn the_swarm_catches_epochs_that_end_at_once() {
    catches("epoch-ends-at-once");
}

#[test]
fn the_swarm_catches_members_that_change_by_one_endorsement() {
    catches("one-endorsement");
}

/// What a replica was sent, as a witness hears it.
fn witness(world: &World, count: u64, node: NodeId) -> Witness {
    let keys = Keys::seals(node, (1..=NODES_MAX).map(NodeId));
    let mut witness = Witness::new(keys, Scope::default(), (1..=count).map(NodeId).collect(), 0);
    world.heard(node).iter().for_each(|(from, bytes)| witness.hear(*from, bytes));
    witness
}

/// f + 1 that collude do break safety; the witness of the two replicas that they parted names all of them, and nobody else.
#[test]
fn more_than_f_liars_break_safety_and_are_named() {
    for (count, colluders) in [(4, 2), (7, 3)] {
        assert_eq!(Quorum::of(usize::try_from(count).expect("small")).weak() as u64, colluders);
        for seed in seeds(0, 20) {
            let mut rng = Rng::new(seed ^ 0xf0f0);
            let trouble = Trouble { double: rng.below(30), ..Trouble::default() };
            let liars: Vec<_> = (1..=colluders).map(|id| (NodeId(id), Kind::Lie(Lie::Collude))).collect();
            let names: BTreeSet<NodeId> = liars.iter().map(|(node, _)| *node).collect();
            let mut world = world(seed, count, liars, trouble, None).with_witnesses();
            let fork = world.play_until_fork(40);
            let fork =
                fork.unwrap_or_else(|| panic!("seed {seed}: {colluders} of {count} break nothing: {}", world.table()));
            let both = [fork.first, fork.second].map(|node| witness(&world, count, node));
            let guilty = culprits(&[&both[0], &both[1]]);
            guilty.iter().for_each(|(node, crime)| println!("seed {seed}, {fork:?}: {node}: {crime}"));
            assert_eq!(guilty.into_keys().collect::<BTreeSet<_>>(), names, "seed {seed}: {fork:?}");
        }
    }
}

/// Whatever f liars say and send, and however often the honest crash: what all of them were told names nobody honest.
#[test]
fn witnesses_never_name_the_honest() {
    let mut named = 0;
    for seed in seeds(0, 12) {
        let mut rng = Rng::new(seed ^ 0x3717);
        let count = [4, 7][usize::try_from(rng.below(2)).expect("a small number")];
        let mut world = swarm(seed, count, rng, None, None).with_witnesses();
        world.play(80, 50);
        let (honest, liars): (Vec<NodeId>, Vec<NodeId>) = (1..=count).map(NodeId).partition(|id| !world.lies(*id));
        let witnesses: Vec<Witness> = honest.iter().map(|node| witness(&world, count, *node)).collect();
        let guilty = culprits(&witnesses.iter().collect::<Vec<_>>());
        for (node, crime) in &guilty {
            assert!(liars.contains(node), "seed {seed}: honest node {node} is said to have {crime}");
        }
        named += guilty.len();
    }
    assert!(named > 0, "nobody was named at all");
}
