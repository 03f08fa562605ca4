//! The conformance tests. Each takes a factory and a seed and panics if the engine breaks a rule; [`World`] itself
//! judges agreement, gaps, doubles and the freshness of barriers all along.

use verity_contract::{Input, Members};
use verity_types::NodeId;

use crate::{Factory, Faults, Mutant, World};

/// How long a healed group may take to commit again, in milliseconds.
const RECOVERY_MS: u64 = 6_000;
/// The election timeout's upper end that partial partitions are measured in, in milliseconds.
const ELECTION_MS: u64 = 600;

/// What a soak did, so that a caller can see that it did something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Entries handed out, over all nodes.
    pub commits: u64,
    /// Barriers answered.
    pub reads_ready: u64,
    /// Barriers failed.
    pub reads_failed: u64,
    /// Crashes.
    pub crashes: u64,
    /// Partitions.
    pub cuts: u64,
    /// Snapshots installed from a peer.
    pub installs: u64,
    /// Membership changes begun.
    pub changes: u64,
}

fn settle(world: &mut World) -> NodeId {
    assert!(world.run_until(RECOVERY_MS, |w| w.leader().is_some()), "a whole group elects a leader");
    world.leader().expect("seen above")
}

/// Proposes at the leader until the value is committed.
fn commit(world: &mut World, value: u64) {
    let end = world.now_ms() + RECOVERY_MS;
    let mut tried = value;
    while world.now_ms() < end {
        let leader = settle(world);
        // A value whose fate is unknown must not be proposed again, or it could be committed twice.
        if world.propose(leader, tried) && world.run_until(500, |w| w.has(tried)) {
            return;
        }
        tried += 1 << 40;
        world.run(10);
    }
    panic!("a whole group commits within {RECOVERY_MS} ms");
}

/// Changes the members; `context` must not have been told before.
fn change(world: &mut World, voters: &[u64], learners: &[u64], context: &'static [u8]) {
    let end = world.now_ms() + 2 * RECOVERY_MS;
    while !world.contexts.values().any(|told| told == context) {
        assert!(world.now_ms() < end, "the change '{}' ends", context.escape_ascii());
        // Refused while it is under way; who begins to lead knows nothing of it.
        world.change(voters, learners, context);
        world.run(20);
    }
}

/// Everyone who takes part holds the same machine.
fn converge(world: &mut World) {
    let same = |w: &World| {
        let up = w.up();
        let longest = up.iter().map(|id| w.machine(*id).len()).max().unwrap_or(0);
        let members = w.leader().and_then(|leader| w.status(leader)).map(|status| status.members.all());
        members.is_some_and(|members| members.iter().all(|id| w.machine(*id).len() == longest))
    };
    let level = world.run_until(RECOVERY_MS, same);
    let lengths: Vec<_> = world.ids().into_iter().map(|id| (id, world.machine(id).len(), world.status(id))).collect();
    assert!(level, "a healed group converges: {lengths:#?}");
    world.check_machines();
}

/// A group elects a leader, commits, and every node applies the same.
pub fn commits_in_one_order(factory: Factory, seed: u64, voters: u64) {
    let mut world = World::of_voters(seed, voters, factory);
    for value in 1..=50 {
        commit(&mut world, value);
    }
    converge(&mut world);
    assert_eq!(world.machine(NodeId(1)).len(), 50);
}

/// A sole voter needs nobody, and does not wait for anybody.
pub fn a_sole_voter_leads_at_once(factory: Factory, seed: u64) {
    let mut world = World::of_voters(seed, 1, factory);
    assert!(world.run_until(100, |w| w.leader().is_some()), "a sole voter elects itself at its first tick");
    commit(&mut world, 1);
    world.barrier(NodeId(1));
    world.run(5);
    assert_eq!(world.reads_ready, 1);
    world.crash(NodeId(1));
    world.start(NodeId(1));
    commit(&mut world, 2);
    assert_eq!(world.machine(NodeId(1)), [1, 2]);
}

/// Who is named as the first leader of a new group leads at once, also if the others start a little later. Without it they
/// elect another.
pub fn the_named_first_leader_leads_first(factory: Factory, seed: u64) {
    let first = NodeId(1 + seed % 3);
    let mut world = World::led_first(seed, 3, first, &[1, 2, 3], factory);
    assert!(world.run_until(100, |w| w.leader().is_some()), "nobody waits for an election timeout");
    assert_eq!(world.leader(), Some(first));
    commit(&mut world, 1);
    world.run(2_000);
    assert_eq!(world.leader(), Some(first), "and it stays");

    let mut world = World::led_first(seed, 3, first, &[first.0], factory);
    world.run(120);
    world.heal();
    assert!(world.run_until(150, |w| w.leader().is_some()), "it tries again until the others are there");
    assert_eq!(world.leader(), Some(first));

    let others: Vec<u64> = (1..=3).filter(|id| *id != first.0).collect();
    let mut world = World::led_first(seed, 3, first, &others, factory);
    commit(&mut world, 1);
    let leader = settle(&mut world);
    world.heal();
    world.run(2_000);
    assert_eq!(world.leader(), Some(leader), "who comes late does not disturb");
    converge(&mut world);
}

/// Nobody waits for a heartbeat of a leader that is alone, so it ticks rarely, and does what it is asked all the same. Once there
/// is somebody else it ticks as any leader.
pub fn a_leader_of_itself_alone_ticks_rarely(factory: Factory, seed: u64) {
    let mut world = World::new(seed, 2, Members::of_voters([NodeId(1)]), factory);
    let leader = settle(&mut world);
    let alone = world.tick_interval(leader).expect("it runs");
    commit(&mut world, 1);
    world.barrier(leader);
    world.start(NodeId(2));
    change(&mut world, &[1, 2], &[], b"grow");
    commit(&mut world, 2);
    let leader = settle(&mut world);
    let among_others = world.tick_interval(leader).expect("it runs");
    assert!(alone.0 >= 2 * among_others.0, "{alone:?} alone, {among_others:?} among others");
    converge(&mut world);
}

/// Proposals at followers come back.
pub fn followers_refuse_proposals(factory: Factory, seed: u64) {
    let mut world = World::of_voters(seed, 3, factory);
    let leader = settle(&mut world);
    let follower = world.ids().into_iter().find(|id| *id != leader).expect("three nodes");
    assert!(!world.propose(follower, 7), "a follower refuses");
    world.run(1_000);
    assert!(!world.has(7), "what was refused is not committed");
}

/// Barriers on every node, in a calm and in a broken network.
pub fn barriers_are_linearizable(factory: Factory, seed: u64) {
    let mut world = World::of_voters(seed, 3, factory);
    let leader = settle(&mut world);
    for value in 1..=20 {
        commit(&mut world, value);
        world.ids().into_iter().for_each(|id| world.barrier(id));
        world.run(20);
    }
    assert!(world.reads_ready >= 50, "a calm group answers barriers: {} of 60", world.reads_ready);
    // The old leader is cut off and does not know it; a new one commits; the old one must not answer from its memory.
    let before = world.reads_ready;
    world.isolate(leader);
    for round in 0..60u64 {
        world.barrier(leader);
        if let Some(other) = world.leader().filter(|other| *other != leader) {
            world.propose(other, 1_000 + round);
        }
        world.run(20);
    }
    assert!(world.has(1_000) || world.committed() > 20, "the others go on");
    world.heal();
    world.run(2_000);
    assert!(world.reads_ready >= before && world.reads_failed > 0, "barriers without a quorum fail");
}

/// A leader that was paused must not answer a barrier from before.
pub fn a_paused_leader_reads_nothing_stale(factory: Factory, seed: u64) {
    let mut world = World::of_voters(seed, 3, factory);
    for round in 0..5u64 {
        let leader = settle(&mut world);
        world.run(200);
        world.pause(leader, 1_500);
        assert!(world.run_until(1_400, |w| w.leader() != Some(leader)), "a paused leader is replaced");
        for value in 0..10 {
            if let Some(new) = world.leader() {
                world.propose(new, 1 + round * 100 + value);
            }
            world.run(5);
        }
        // The pause ends here: the barrier is the first thing that it does.
        world.barrier(leader);
        world.run(2_000);
    }
}

/// Followers that lost their connection to a living leader must not let it read what is no longer the latest.
pub fn a_lost_connection_breaks_no_lease(factory: Factory, seed: u64) {
    let mut world = World::of_voters(seed, 3, factory);
    commit(&mut world, 1);
    let leader = settle(&mut world);
    commit(&mut world, 2);
    world.run(300);
    world.isolate(leader);
    let others: Vec<_> = world.ids().into_iter().filter(|id| *id != leader).collect();
    others.iter().for_each(|id| world.input(*id, Input::Unreachable(leader)));
    for value in 0..150 {
        if let Some(new) = world.leader().filter(|new| *new != leader) {
            world.propose(new, 100 + value);
        }
        world.barrier(leader);
        world.run(4);
    }
    assert!(world.run_until(RECOVERY_MS, |w| (0..150).any(|value| w.has(100 + value))), "the others go on");
}

/// Every node loses its power at the same moment, many times; nothing committed is lost.
pub fn survives_power_failures(factory: Factory, seed: u64) {
    let mut world = World::of_voters(seed, 3, factory);
    world.snapshot_every = 25;
    world.faults.sync_ms_max = 10;
    for round in 0..12u64 {
        let leader = settle(&mut world);
        for value in 0..10 {
            world.propose(leader, 1 + round * 100 + value);
        }
        let wait = world.rng.below(40);
        world.run(wait);
        let before = world.committed();
        for id in world.ids() {
            world.crash(id);
        }
        world.run(50);
        world.heal();
        commit(&mut world, 90 + round * 100);
        assert!(world.committed() > before);
    }
    converge(&mut world);
}

/// A node that was away for longer than the log reaches back gets a snapshot.
pub fn a_lagging_node_gets_a_snapshot(factory: Factory, seed: u64) {
    let mut world = World::of_voters(seed, 3, factory);
    world.snapshot_every = 20;
    settle(&mut world);
    world.crash(NodeId(3));
    for value in 1..=60 {
        commit(&mut world, value);
    }
    world.start(NodeId(3));
    converge(&mut world);
    assert!(world.installs > 0, "the log no longer reaches back that far");
    world.crash(NodeId(3));
    world.start(NodeId(3));
    commit(&mut world, 61);
    converge(&mut world);
}

/// Learners join, become voters, and replace others, in one step each; the context comes with every change.
pub fn members_change(factory: Factory, seed: u64) {
    let mut world = World::new(seed, 6, Members::of_voters([1, 2, 3].map(NodeId)), factory);
    world.snapshot_every = 10;
    world.heal();
    let steps: [(&[u64], &[u64], &'static [u8]); 5] = [
        (&[1, 2, 3], &[4], b"learner"),
        (&[1, 2, 3, 4], &[5, 6], b"promote"),
        (&[4, 5, 6], &[1], b"replace all"),
        (&[4, 5], &[6], b"demote"),
        (&[1, 2, 3], &[], b"back"),
    ];
    for (step, (voters, learners, context)) in (0u64..).zip(steps) {
        for value in 1..=12 {
            commit(&mut world, 1 + step * 100 + value);
        }
        change(&mut world, voters, learners, context);
        let members = |w: &World| w.leader().and_then(|leader| w.status(leader)).map(|status| status.members);
        let wished = Members {
            voters: voters.iter().copied().map(NodeId).collect(),
            learners: learners.iter().copied().map(NodeId).collect(),
            ..Members::default()
        };
        assert!(world.run_until(RECOVERY_MS, |w| members(w).as_ref() == Some(&wished)), "{:?}", members(&world));
        commit(&mut world, 50 + step * 100);
    }
    converge(&mut world);
}

/// A node that knows nothing of the group joins it: it begins with a snapshot, in the middle of a change or not.
pub fn a_blank_node_joins(factory: Factory, seed: u64) {
    let mut world = World::new(seed, 4, Members::of_voters([1, 2, 3].map(NodeId)), factory);
    world.blank_joiners = true;
    (1..=10).for_each(|value| commit(&mut world, value));
    world.start(NodeId(4));
    let wish: (&[u64], &[u64]) = if seed.is_multiple_of(2) { (&[1, 2, 3], &[4]) } else { (&[1, 2, 4], &[]) };
    assert!(world.change(wish.0, wish.1, b"join"), "the leader begins the change");
    assert!(world.run_until(RECOVERY_MS, |w| w.contexts.values().any(|told| *told == b"join"[..])), "the change ends");
    commit(&mut world, 11);
    converge(&mut world);
    assert!(world.installs > 0 && world.machine(NodeId(4)).len() == world.machine(NodeId(1)).len());
    world.crash(NodeId(4));
    world.start(NodeId(4));
    commit(&mut world, 12);
    converge(&mut world);
}

/// A node that left the group and comes back with nothing hears first from one that was away all that time, takes it for the
/// voter it was, and leads still, or stands. The two are a majority of the members of that time. With `floor`, nothing comes
/// of it; without, [`World`] sees two orders or a stale read.
pub fn a_node_that_comes_back_counts_for_nobody_at_first(factory: Factory, seed: u64, floor: bool) {
    let mut world = World::new(seed, 4, Members::of_voters([1, 2, 3].map(NodeId)), factory);
    world.blank_joiners = true;
    (1..=10).for_each(|value| commit(&mut world, value));
    let old = settle(&mut world);
    world.isolate(old);
    // In its own eyes no time passes: it goes on leading once it wakes.
    let asleep = seed.is_multiple_of(2);
    if asleep {
        world.pause(old, 3 * RECOVERY_MS);
    }
    assert!(world.run_until(RECOVERY_MS, |w| w.leader().is_some_and(|leader| leader != old)), "the others go on");
    let new = settle(&mut world);
    let gone = NodeId(6 - old.0 - new.0);
    world.start(NodeId(4));
    commit(&mut world, 11);
    change(&mut world, &[1, 2, 3], &[4], b"learner");
    assert!(world.run_until(RECOVERY_MS, |w| w.machine(NodeId(4)).len() >= 11), "the newcomer catches up");
    change(&mut world, &[old.0, new.0, 4], &[], b"gone");
    (12..=20).for_each(|value| commit(&mut world, value));
    let committed = world.committed();
    world.isolate(gone);
    world.forget(gone, if floor { committed } else { 0 });
    if seed % 4 > 1 {
        // It is on its way back to being a member already, and above its floor.
        [new, NodeId(4)].into_iter().for_each(|other| world.mend_link(gone, other));
        change(&mut world, &[old.0, new.0, 4], &[gone.0], b"again");
        assert!(world.run_until(RECOVERY_MS, |w| w.machine(gone).len() >= 20), "it catches up");
        world.isolate(gone);
    }
    world.mend_link(old, gone);
    if asleep {
        world.wake(old);
    }
    for value in 100..160 {
        for id in [old, gone] {
            if world.propose(id, value + 100 * id.0) {
                world.barrier(id);
            }
        }
        let ms = 20 + world.rng.below(60);
        world.run(ms);
    }
    assert!((100..1_000).all(|value| !world.has(value)), "nothing comes of what the two agree on");
    world.heal();
    change(&mut world, &[1, 2, 3, 4], &[], b"back");
    world.crash(gone);
    world.start(gone);
    commit(&mut world, 21);
    converge(&mut world);
    // It counts now.
    world.isolate(old);
    assert!(world.run_until(RECOVERY_MS, |w| w.leader().is_some_and(|leader| leader != old)), "the others go on");
    commit(&mut world, 22);
}

/// Leadership moves where it is asked to, and nothing is lost.
pub fn leadership_moves(factory: Factory, seed: u64) {
    let mut world = World::of_voters(seed, 3, factory);
    commit(&mut world, 1);
    for round in 0..6u64 {
        let leader = settle(&mut world);
        let to = NodeId(leader.0 % 3 + 1);
        world.propose(leader, 100 + round);
        world.transfer(to);
        assert!(world.run_until(2_000, |w| w.leader() == Some(to)), "leadership moves from {leader} to {to}");
        world.barrier(leader);
        commit(&mut world, 200 + round);
    }
    converge(&mut world);
}

/// A killed leader is replaced; returns after how many milliseconds.
#[must_use]
pub fn a_killed_leader_is_replaced(factory: Factory, seed: u64) -> u64 {
    let mut world = World::of_voters(seed, 3, factory);
    commit(&mut world, 1);
    let leader = settle(&mut world);
    world.run(500);
    let killed = world.now_ms();
    world.crash_and_tell(leader);
    assert!(world.run_until(2_000, |w| w.leader().is_some()), "a killed leader is replaced");
    let took = world.now_ms() - killed;
    commit(&mut world, 2);
    took
}

/// Disks that take longer than an election timeout cost no leader its place, and a leader that dies is still replaced.
pub fn slow_disks_stop_nobody(factory: Factory, seed: u64) {
    const SYNC_MS: u64 = 900;
    let mut world = World::of_voters(seed, 3, factory);
    commit(&mut world, 1);
    let leader = settle(&mut world);
    world.faults.sync_ms_max = SYNC_MS;
    for value in 2..=10 {
        assert!(world.propose(leader, value), "a leader stays one while disks are slow");
        assert!(world.run_until(4 * SYNC_MS, |w| w.has(value)), "what it proposes is committed");
    }
    world.crash_and_tell(leader);
    assert!(
        world.run_until(20 * SYNC_MS, |w| w.leader().is_some_and(|new| new != leader)),
        "a dead leader is replaced"
    );
    let leader = world.leader().expect("it was just seen");
    assert!(world.propose(leader, 11) && world.run_until(4 * SYNC_MS, |w| w.has(11)));
}

/// What was lost on the way is said again, however many reads come meanwhile.
pub fn reads_keep_nothing_from_being_said_again(factory: Factory, seed: u64) {
    let mut world = World::of_voters(seed, 3, factory);
    commit(&mut world, 1);
    let leader = world.leader().expect("somebody committed");
    for id in world.ids().into_iter().filter(|id| *id != leader) {
        world.cut_one_way(leader, id);
    }
    assert!(world.propose(leader, 2));
    world.run(5);
    world.heal();
    for _ in 0..400 {
        world.barrier(leader);
        world.run(5);
    }
    assert!(world.has(2), "a lost message is sent again within two seconds");
}

/// An idle group falls asleep, any work wakes it, and a leader that dies meanwhile is replaced.
pub fn idle_groups_sleep_and_wake(factory: Factory, seed: u64) {
    let mut world = World::of_voters(seed, 3, factory);
    commit(&mut world, 1);
    let sleeps = |w: &World| w.up().iter().all(|id| w.status(*id).is_some_and(|status| status.hibernating));
    assert!(world.run_until(20_000, sleeps), "an idle group sleeps");
    world.run(30_000);
    assert!(sleeps(&world), "and goes on sleeping");
    let leader = world.leader().expect("it led when it fell asleep");
    commit(&mut world, 2);
    assert_eq!(world.leader(), Some(leader), "waking is no election");
    assert!(world.run_until(30_000, sleeps));
    for id in world.ids() {
        assert!(world.run_until(30_000, sleeps));
        // By then no lease is left.
        world.run(5_000);
        let ready = world.reads_ready;
        world.barrier(id);
        assert!(world.run_until(1_000, |w| w.reads_ready > ready), "a sleeping group answers a barrier at {id}");
    }
    assert!(world.run_until(30_000, sleeps));
    world.crash_and_tell(leader);
    assert!(world.run_until(2_000, |w| w.leader().is_some()), "a leader that died in its sleep is replaced");
    commit(&mut world, 3);
    world.start(leader);
    converge(&mut world);
}

/// Everything at once, then a healed network and a deadline.
pub fn soak(factory: Factory, seed: u64, mutant: Mutant) -> Tally {
    let mut world = World::new(seed, 5, Members::of_voters([1, 2, 3].map(NodeId)), factory);
    world.mutant = mutant;
    world.snapshot_every = 30;
    world.heal();
    let mut tally = Tally::default();
    let mut value = 1;
    for _ in 0..150 {
        step(&mut world, &mut tally, &mut value);
    }
    world.heal();
    commit(&mut world, 1 << 50);
    converge(&mut world);
    (tally.commits, tally.installs) = (world.commits, world.installs);
    (tally.reads_ready, tally.reads_failed) = (world.reads_ready, world.reads_failed);
    tally
}

fn step(world: &mut World, tally: &mut Tally, value: &mut u64) {
    let ids = world.ids();
    let some = ids[usize::try_from(world.rng.below(ids.len() as u64)).expect("a few nodes")];
    let other = ids[usize::try_from(world.rng.below(ids.len() as u64)).expect("a few nodes")];
    match world.rng.below(24) {
        0..=1 => {
            world.crash(some);
            tally.crashes += 1;
        }
        2 => {
            world.crash_and_tell(some);
            tally.crashes += 1;
        }
        3..=6 => ids.iter().for_each(|id| world.start(*id)),
        7 => {
            world.isolate(some);
            tally.cuts += 1;
        }
        8 if some != other => {
            world.cut_one_way(some, other);
            tally.cuts += 1;
        }
        9 if some != other => {
            world.cut_link(some, other);
            tally.cuts += 1;
        }
        10..=12 => world.heal(),
        13 => {
            let (drop, double, late) = (world.rng.below(20), world.rng.below(20), world.rng.below(20));
            world.faults = Faults { drop, double, late, sync_ms_max: 1 + world.rng.below(30) };
        }
        14 => {
            let ms = world.rng.below(1_200);
            world.pause(some, ms);
        }
        15 => world.transfer(some),
        16 => {
            let voters: &[&[u64]] = &[&[1, 2, 3], &[1, 2, 4], &[3, 4, 5], &[1, 2, 3, 4, 5], &[2, 5]];
            let pick = voters[usize::try_from(world.rng.below(5)).expect("a few wishes")];
            let spare: Vec<u64> = (1..=5).filter(|id| !pick.contains(id)).collect();
            let learners = if world.rng.chance(50) { spare } else { Vec::new() };
            tally.changes += u64::from(world.change(pick, &learners, b"soak"));
        }
        17 => world.input(some, Input::Unreachable(other)),
        _ => {}
    }
    for _ in 0..3 {
        let at = if world.rng.chance(80) { world.leader().unwrap_or(some) } else { other };
        world.propose(at, *value);
        *value += 1;
        world.barrier(some);
    }
    let ms = 10 + world.rng.below(200);
    world.run(ms);
}

/// Two nodes lead at once for a moment: the old leader does not hear the new one, both propose, and whoever stands
/// between them crashes at times. Returns how many moments there were at which more than one node led.
pub fn rival_leaders(factory: Factory, seed: u64, mutant: Mutant) -> u64 {
    let mut world = World::of_voters(seed, 3, factory);
    world.mutant = mutant;
    let (mut rivalry, mut value) = (0, 1u64);
    for round in 1..=12u64 {
        let old = settle(&mut world);
        commit(&mut world, round << 30);
        let (new, between) = (NodeId(old.0 % 3 + 1), NodeId((old.0 + 1) % 3 + 1));
        world.cut_one_way(new, old);
        world.faults.sync_ms_max = 1 + world.rng.below(4);
        world.transfer(new);
        let crash_at = world.rng.below(120);
        for ms in 0..60 {
            let leading: Vec<_> =
                world.up().into_iter().filter(|id| world.status(*id).is_some_and(|status| status.leads)).collect();
            rivalry += u64::from(leading.len() > 1);
            for id in leading {
                world.propose(id, value);
                value += 1;
            }
            if ms == crash_at {
                world.crash(between);
                world.start(between);
            }
            world.run(1);
        }
        world.heal();
    }
    commit(&mut world, 1 << 50);
    converge(&mut world);
    rivalry
}

fn goes_on(world: &mut World, old: NodeId) -> bool {
    let before = world.committed();
    let mut value = 1 << 45;
    world.run_until(4 * ELECTION_MS, |_| false);
    for id in world.up() {
        value += 1;
        if id != old || world.leader() == Some(old) {
            world.propose(id, value);
        }
    }
    world.run(300);
    world.committed() > before && (1..=8).any(|offset| world.has((1 << 45) + offset))
}

/// The link between the leader and one follower comes and goes for fifteen seconds. The group goes on all along; returns
/// how often leadership changed.
pub fn a_flapping_link(factory: Factory, seed: u64) -> u64 {
    let mut world = World::of_voters(seed, 3, factory);
    commit(&mut world, 1 << 40);
    let leader = settle(&mut world);
    let (other, mut changes) = (NodeId(leader.0 % 3 + 1), 0);
    let term = |w: &World| w.leader().and_then(|leader| w.status(leader)).map(|status| status.term);
    let mut last = term(&world);
    let mut done = 0;
    for value in 1..=100 {
        if world.rng.chance(50) {
            world.heal()
        } else {
            world.cut_link(leader, other)
        }
        if let Some(at) = world.leader() {
            world.propose(at, value);
        }
        world.run(150);
        done += u64::from(world.has(value));
        changes += u64::from(term(&world) != last);
        last = term(&world);
    }
    assert!(done >= 90, "a majority is connected all along, and yet only {done} of 100 proposals were committed");
    world.heal();
    converge(&mut world);
    changes
}

fn leads_at(world: &mut World, node: NodeId) -> bool {
    settle(world);
    if world.leader() != Some(node) {
        world.transfer(node);
    }
    world.run_until(3_000, |w| w.leader() == Some(node))
}

/// OmniPaxos's quorum-loss: everyone reaches node 1 alone, and the leader is another. True if it goes on in time.
#[must_use]
pub fn quorum_loss(factory: Factory, seed: u64) -> bool {
    let mut world = World::of_voters(seed, 5, factory);
    commit(&mut world, 1);
    assert!(leads_at(&mut world, NodeId(3)), "node 3 leads to begin with");
    for a in 2..=5 {
        (a + 1..=5).for_each(|b| world.cut_link(NodeId(a), NodeId(b)));
    }
    goes_on(&mut world, NodeId(3))
}

/// OmniPaxos's constrained election: the leader is gone, and the only node that reaches a quorum has the oldest log.
#[must_use]
pub fn constrained_election(factory: Factory, seed: u64) -> bool {
    let mut world = World::of_voters(seed, 5, factory);
    commit(&mut world, 1);
    assert!(leads_at(&mut world, NodeId(3)), "node 3 leads to begin with");
    world.cut_link(NodeId(1), NodeId(3));
    world.propose(NodeId(3), 2);
    world.run(100);
    for a in 2..=5 {
        (a + 1..=5).for_each(|b| world.cut_link(NodeId(a), NodeId(b)));
    }
    goes_on(&mut world, NodeId(3))
}

/// OmniPaxos's chained scenario: three nodes in a row, the leader at one end.
#[must_use]
pub fn chained(factory: Factory, seed: u64) -> bool {
    let mut world = World::of_voters(seed, 3, factory);
    commit(&mut world, 1);
    assert!(leads_at(&mut world, NodeId(3)), "node 3 leads to begin with");
    world.cut_link(NodeId(1), NodeId(3));
    goes_on(&mut world, NodeId(9))
}

/// A learner that is cut off, or removed behind its back, forgets the leader: nobody shall be served by it for ever.
pub fn a_cut_off_learner_forgets_its_leader(factory: Factory, seed: u64) {
    let members = Members { learners: [NodeId(4)].into(), ..Members::of_voters([1, 2, 3].map(NodeId)) };
    let mut world = World::new(seed, 4, members, factory);
    commit(&mut world, 1);
    let leader = |w: &World| w.status(NodeId(4)).and_then(|status| status.leader);
    assert!(world.run_until(RECOVERY_MS, |w| leader(w).is_some()), "a learner hears of its leader");
    world.isolate(NodeId(4));
    assert!(world.run_until(RECOVERY_MS, |w| leader(w).is_none()), "and forgets it when it hears no more");
    world.heal();
    assert!(world.run_until(RECOVERY_MS, |w| leader(w).is_some()), "until it hears again");
}
