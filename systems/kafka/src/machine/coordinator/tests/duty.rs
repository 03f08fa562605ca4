//! The leader's duty.

use verity_clock::{Interval, Now};
use verity_contract::{Duty as _, DutyInput, DutyOutput, Effect};
use verity_types::{Mono, NodeId};

use super::rig::*;
use crate::machine::coordinator::*;
use crate::wire::ErrorCode;

struct World {
    rig: Rig,
    duty: CoordinatorDuty,
    wake_at: Option<Mono>,
}

impl World {
    fn new(rig: Rig) -> Self {
        Self { rig, duty: CoordinatorDuty::new(CoordinatorConfig::default()), wake_at: None }
    }

    fn now(&self) -> Now {
        let nanos = self.rig.time * 1_000_000;
        Now { mono: Mono(nanos), wall: Interval::around(nanos, 0) }
    }

    fn lead(&mut self) {
        let (now, mut out) = (self.now(), Vec::new());
        self.duty.on(now, DutyInput::Lead(&mut self.rig.state), &mut out);
        self.follow_up(out);
    }

    /// Runs a command and shows its events to the duty.
    fn run(&mut self, command: Command) {
        let (now, mut out) = (self.now(), Vec::new());
        self.rig.run(command);
        // The rig has taken the events; the duty is shown the same of another replica.
        let mut replica = Coordinator::new();
        let effects = self.rig.log.iter().map(|command| apply(&mut replica, command)).last().unwrap();
        for effect in &effects.list {
            if let Effect::Event { topic, bytes } = effect {
                self.duty.on(now, DutyInput::Event { topic, bytes }, &mut out);
            }
        }
        self.follow_up(out);
    }

    fn follow_up(&mut self, out: Vec<DutyOutput>) {
        for output in out {
            match output {
                DutyOutput::Propose(bytes) => self.run(Command::decode(&bytes).unwrap()),
                DutyOutput::Wake(at) => self.wake_at = Some(self.wake_at.map_or(at, |old| old.min(at))),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Lets time pass from wake to wake.
    fn pass(&mut self, ms: u64) {
        let end = self.rig.time + ms;
        while let Some(at) = self.wake_at.filter(|at| at.0 <= end * 1_000_000) {
            self.rig.time = self.rig.time.max(at.0.div_ceil(1_000_000));
            self.wake_at = None;
            let (now, mut out) = (self.now(), Vec::new());
            self.duty.on(now, DutyInput::Wake(&mut self.rig.state), &mut out);
            self.follow_up(out);
        }
        self.rig.time = end;
    }

    fn whisper(&mut self, id: &str) {
        let (now, mut out) = (self.now(), Vec::new());
        let bytes = alive(&[(GROUP.into(), id.into())]);
        self.duty.on(now, DutyInput::Whisper { from: NodeId(2), bytes }, &mut out);
        self.follow_up(out);
    }
}

#[test]
fn who_whispers_lives_and_who_is_silent_does_not() {
    let mut world = World::new(super::classic::pair());
    world.lead();
    assert_eq!(world.duty.members(), 2, "as a new leader it reads who is there");
    for _ in 0..4 {
        world.pass(SESSION_MS as u64 / 2);
        world.whisper("a");
    }
    assert_eq!(world.rig.describe().members.len(), 1);
    assert_eq!(world.rig.beat("a", 2), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(world.duty.members(), 1);
    world.duty.on(world.now(), DutyInput::Follow, &mut Vec::new());
    assert_eq!(world.duty.members(), 0);
}

/// A commit counts as a sign of life, but is no event for the duty.
#[test]
fn who_commits_and_falls_silent_gets_its_time_and_no_more() {
    let mut world = World::new(Rig::new());
    world.lead();
    world.run(Command::Join { request: Join { member_id: String::new(), member_id_required: false, ..join("a") } });
    assert_eq!(synced(&world.rig.sync("a", 1, &[("a", "A")])).assignment, "A");
    world.pass(40);
    world.run(Command::CommitOffsets { request: commit("a", 1, "t", 1) });
    world.pass(SESSION_MS as u64 - 1);
    assert_eq!(world.rig.describe().state, "Stable");
    world.pass(10);
    assert_eq!(world.rig.describe().state, "Empty");
}

#[test]
fn members_that_come_are_watched() {
    let mut world = World::new(Rig::new());
    world.lead();
    world.run(Command::Join { request: Join { member_id: String::new(), member_id_required: false, ..join("a") } });
    assert_eq!(world.duty.members(), 1);
    world.pass(SESSION_MS as u64 + 2_000);
    assert_eq!((world.duty.members(), world.rig.describe().state.as_str()), (0, "Empty"));
}

#[test]
fn what_is_due_happens() {
    let mut world = World::new(super::classic::pair());
    world.lead();
    world.run(Command::Join { request: Join { member_id: String::new(), member_id_required: false, ..join("c") } });
    for _ in 0..REBALANCE_MS / 5_000 {
        world.pass(5_000);
        world.whisper("a");
        world.whisper("b");
    }
    world.pass(10);
    assert_eq!(world.rig.describe().members.len(), 1, "a and b have not joined");
    let init = Command::InitProducerId {
        transactional_id: Some("x".into()),
        timeout_ms: 5_000,
        producer_id: -1,
        producer_epoch: -1,
    };
    world.run(init);
    let Answer::Transactions { rows, .. } =
        world.rig.ask(Query::DescribeTransactions { transactional_ids: vec!["x".into()] })
    else {
        panic!("a transaction")
    };
    let transaction =
        TransactionName { transactional_id: "x".into(), producer_id: rows[0].producer_id, producer_epoch: 0 };
    world.run(Command::AddOffsets { transaction, group_id: GROUP.into() });
    world.pass(5_100);
    assert!(matches!(world.rig.ask(Query::Status), Answer::Status { open: 0, transactions: 1, .. }));
}
