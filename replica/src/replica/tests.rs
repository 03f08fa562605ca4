//! A node by itself, whose engine settles at once whatever it is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use verity_clock::Interval;
use verity_contract::{
    Agreement, AgreementStatus, Committed, CommittedKind, Input as ToEngine, Members, Output as FromEngine,
    ReadOutcome, RestoreError, SnapshotMeta, StateMachine,
};
use verity_types::Term;

use super::*;
use crate::group::GroupConfig;
use crate::snapshot::Restored;

mod suspicious;

const NODE: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);
const MIB: usize = 1024 * 1024;
const LOG_BYTES: u64 = 64 << 20;

fn now() -> Now {
    Now { mono: Mono(1_000_000_000), wall: Interval::around(1_700_000_000_000_000_000, 0) }
}

/// Leads from its first tick on.
#[derive(Default)]
struct Sure(u64);

impl Sure {
    fn settle(&mut self, kind: CommittedKind, payload: Bytes, out: &mut Vec<FromEngine>) {
        self.0 += 1;
        out.push(FromEngine::Commit(vec![Committed {
            index: LogIndex(self.0),
            term: Term(1),
            kind,
            time: None,
            payload,
            parts: Vec::new(),
        }]));
    }
}

impl Agreement for Sure {
    fn on(&mut self, _now: Mono, input: ToEngine, out: &mut Vec<FromEngine>) {
        match input {
            ToEngine::Tick if self.0 == 0 => {
                out.push(FromEngine::Role { leader: Some(NODE), term: Term(1), leads: true });
                self.settle(CommittedKind::Noop, Bytes::new(), out);
            }
            ToEngine::Propose(payload) => {
                let entries = FromEngine::Send { to: PEER, bytes: payload.clone(), after: None, urgent: false };
                let beat = FromEngine::Send { to: PEER, bytes: Bytes::new(), after: None, urgent: true };
                out.extend([entries, beat]);
                self.settle(CommittedKind::Normal, payload, out);
            }
            _ => {}
        }
    }

    fn tick_interval(&self) -> Nanos {
        Nanos::from_millis(25)
    }

    fn status(&self) -> AgreementStatus {
        AgreementStatus { members: Members::of_voters([NODE, PEER]), ..AgreementStatus::default() }
    }

    fn invariants(&self) {}
}

/// An engine like [`Sure`], but for what this does with inputs.
struct But<F> {
    sure: Sure,
    on: F,
}

impl<F: FnMut(&mut Sure, Mono, ToEngine, &mut Vec<FromEngine>) + Send> Agreement for But<F> {
    fn on(&mut self, now: Mono, input: ToEngine, out: &mut Vec<FromEngine>) {
        (self.on)(&mut self.sure, now, input, out);
    }

    fn tick_interval(&self) -> Nanos {
        self.sure.tick_interval()
    }

    fn status(&self) -> AgreementStatus {
        self.sure.status()
    }

    fn invariants(&self) {}
}

/// Leads, and has one entry under way at most: it is committed once it is on stable storage.
fn narrow() -> Box<dyn Agreement> {
    let mut under_way: Option<Bytes> = None;
    let on = move |sure: &mut Sure, now: Mono, input: ToEngine, out: &mut Vec<FromEngine>| match input {
        ToEngine::Propose(payload) if under_way.is_some() => out.push(FromEngine::Refused(payload)),
        ToEngine::Propose(payload) => {
            under_way = Some(payload);
            out.push(FromEngine::Persist { id: PersistId(sure.0), records: Vec::new() });
        }
        ToEngine::Persisted(_) => {
            let payload = under_way.take().expect("it was put out");
            sure.settle(CommittedKind::Normal, payload, out);
        }
        other => sure.on(now, other, out),
    };
    Box::new(But { sure: Sure::default(), on })
}

/// Holds nothing.
struct Blank;

impl StateMachine for Blank {
    fn apply(&mut self, batch: &[contract::Command], effects: &mut Effects) {
        effects.list.extend(batch.iter().map(|one| Effect::Reply { request: one.request, bytes: Bytes::new() }));
    }

    fn read(&mut self, _query: &[u8]) -> ReadOutcome {
        ReadOutcome::Ready(Bytes::new())
    }

    fn snapshot_begin(&mut self) {}

    fn snapshot_next(&mut self, _size_max: usize) -> Option<Bytes> {
        None
    }

    fn restore(&mut self, _chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>) -> Result<(), RestoreError> {
        Ok(())
    }

    fn digest(&self) -> Digest {
        Digest::default()
    }

    fn invariants(&self) {}
}

struct Rig {
    replica: Replica,
    count: u64,
    /// To the peer: how many bytes, and whether they are urgent.
    writes: Vec<(usize, bool)>,
    answers: usize,
    log_bytes_max: u64,
    /// Snapshots cannot be saved, and so many were tried.
    full_disk: Option<usize>,
}

/// Asks outside for each command, in the midst of its batch, and says how many it has done.
#[derive(Default)]
struct Asks {
    left: VecDeque<contract::Command>,
    done: u64,
}

impl Asks {
    fn ask(&self, effects: &mut Effects) {
        self.left.front().iter().for_each(|first| effects.call(first.bytes.clone()));
    }
}

impl StateMachine for Asks {
    fn apply(&mut self, batch: &[contract::Command], effects: &mut Effects) {
        assert!(self.left.is_empty(), "nothing is applied before the answer");
        self.left.extend(batch.iter().cloned());
        self.ask(effects);
    }

    fn on_answer(&mut self, _answer: Bytes, effects: &mut Effects) {
        let first = self.left.pop_front().expect("something was asked");
        self.done += 1;
        effects.reply(first.request, Bytes::new());
        self.ask(effects);
    }

    fn read(&mut self, _query: &[u8]) -> ReadOutcome {
        ReadOutcome::Ready(Bytes::copy_from_slice(&self.done.to_be_bytes()))
    }

    fn snapshot_begin(&mut self) {
        assert!(self.left.is_empty(), "a snapshot holds no part of an entry");
    }

    fn snapshot_next(&mut self, _size_max: usize) -> Option<Bytes> {
        None
    }

    fn restore(&mut self, _chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>) -> Result<(), RestoreError> {
        Ok(())
    }

    fn digest(&self) -> Digest {
        Digest::default()
    }

    fn invariants(&self) {}
}

#[test]
fn nothing_of_an_entry_shows_while_its_machine_asks_outside() {
    let mut rig = Rig::new(1);
    rig.replica.groups.get_mut(&GroupId(1)).expect("it is there").machine = Box::<Asks>::default();
    (0..3).for_each(|_| rig.propose(1, 10));
    let mut out = Vec::new();
    rig.replica.flush(now(), &mut out);
    rig.propose(1, 10);
    for answered in 0..4 {
        rig.replica.groups.get_mut(&GroupId(1)).expect("it is there").snapshot_wanted = true;
        rig.replica.flush(now(), &mut out);
        let group = &rig.replica.groups[&GroupId(1)];
        assert!(group.calling && !group.has_backlog());
        assert_eq!(group.whole(), LogIndex(if answered < 3 { 1 } else { 2 }), "after {answered} answers");
        assert!(!group.may_snapshot(now().mono) && rig.replica.digests().next().is_none());
        let calls = out.extract_if(.., |output| matches!(output, Output::Call { .. })).count();
        assert_eq!(calls, 1, "one at a time");
        rig.replica.on(now(), Input::Called(GroupId(1), Bytes::new()), &mut out);
    }
    rig.take(out);
    rig.run();
    assert_eq!(rig.answers, 4);
    assert_eq!(rig.replica.groups[&GroupId(1)].whole(), LogIndex(3));
}

impl Rig {
    /// A node that leads so many groups, none of which takes a snapshot by itself.
    fn new(groups: u64) -> Self {
        Self::of(groups, || Box::<Sure>::default())
    }

    fn of(groups: u64, engine: impl Fn() -> Box<dyn Agreement>) -> Self {
        let mut replica = Replica::new(ReplicaConfig { id: NODE, incarnation: Incarnation(1), log_bytes: LOG_BYTES });
        let config = GroupConfig { snapshot_log_bytes: u64::MAX, rest: (Nanos(0), u64::MAX), ..GroupConfig::default() };
        for id in (1..=groups).map(GroupId) {
            let (engine, machine) = (engine(), Box::new(Blank));
            let (restored, config) = (Restored::default(), config.clone());
            replica.add_group(now(), GroupBoot { id, engine, machine, duty: None, restored, config });
        }
        let mut rig = Self { replica, count: 0, writes: Vec::new(), answers: 0, log_bytes_max: 0, full_disk: None };
        let mut out = Vec::new();
        rig.replica.on(now(), Input::Tick, &mut out);
        rig.take(out);
        rig.run();
        rig
    }

    fn propose(&mut self, group: u64, size: usize) {
        self.count += 1;
        self.replica.propose(now(), GroupId(group), Token(self.count), Bytes::from(vec![0; size]));
    }

    /// One turn, and what storage says to it.
    fn flush(&mut self) {
        let mut out = Vec::new();
        self.replica.flush(now(), &mut out);
        self.take(out);
        let held = self.replica.groups.values().map(|group| group.held_bytes).sum();
        self.log_bytes_max = self.log_bytes_max.max(held);
    }

    fn run(&mut self) {
        self.flush();
        while self.replica.has_backlog() {
            self.flush();
        }
        self.replica.invariants();
    }

    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            let answer = match output {
                Output::Send { bytes, urgent, .. } => {
                    self.writes.push((bytes.len(), urgent));
                    continue;
                }
                Output::Answer { .. } => {
                    self.answers += 1;
                    continue;
                }
                Output::Log(LogWork::Persist { ticket, .. }) => Input::Persisted(ticket),
                Output::Snapshot(SnapshotWork::Chunk { group, .. }) if self.full_disk.is_some() => {
                    self.full_disk = self.full_disk.map(|tried| tried + 1);
                    Input::SnapshotFailed(group)
                }
                Output::Snapshot(SnapshotWork::Chunk { group, .. }) => Input::SnapshotWritten(group),
                Output::Snapshot(SnapshotWork::Finish { group, meta, .. }) => Input::SnapshotSaved { group, meta },
                _ => continue,
            };
            let mut out = Vec::new();
            self.replica.on(now(), answer, &mut out);
            self.take(out);
        }
    }
}

#[test]
fn logs_of_all_groups_share_a_bound() {
    let groups = 60;
    let mut rig = Rig::new(groups);
    for round in 0..12 {
        (1..=groups).for_each(|group| rig.propose(group, MIB / 2));
        rig.run();
        assert_eq!(rig.answers as u64, (round + 1) * groups);
    }
    // 360 MiB went through, and by themselves the groups would keep 240.
    let slack = 2 * MIB as u64;
    assert!(rig.log_bytes_max <= LOG_BYTES + slack, "{} bytes of logs at once", rig.log_bytes_max);
    assert!(rig.log_bytes_max > LOG_BYTES / 2, "what fits is kept");
    rig.replica.retire(GroupId(1));
    rig.run();
    let held: u64 = rig.replica.groups.values().map(|group| group.held_bytes).sum();
    assert_eq!(rig.replica.held.total(), held, "a group that ended counts no more");
}

#[test]
fn what_an_engine_refuses_is_proposed_again_when_it_has_room() {
    let mut rig = Rig::of(1, narrow);
    (0..4).for_each(|_| rig.propose(1, MIB));
    // Each answer of storage is followed by a turn.
    (0..4).for_each(|_| rig.run());
    assert_eq!(rig.answers, 4, "no tick is waited for");
}

/// A full disk is neither asked again in the same moment nor never again.
#[test]
fn a_snapshot_that_failed_is_taken_again_after_a_while() {
    let mut rig = Rig::new(1);
    rig.full_disk = Some(0);
    rig.propose(1, 10);
    rig.replica.groups.get_mut(&GroupId(1)).unwrap().snapshot_wanted = true;
    (0..5).for_each(|_| rig.run());
    assert_eq!(rig.full_disk.take(), Some(1));
    let mut at = now();
    for _ in 0..100 {
        at.mono = rig.replica.next_wake();
        let mut out = Vec::new();
        rig.replica.on(at, Input::Tick, &mut out);
        rig.replica.flush(at, &mut out);
        rig.take(out);
        if rig.replica.groups[&GroupId(1)].saved.is_some() {
            break;
        }
    }
    assert!(rig.replica.groups[&GroupId(1)].saved.is_some(), "it was wanted once, and is there at last");
    assert!(at.mono.since(now().mono) >= Nanos::from_millis(1_000));
}

#[test]
fn a_turn_applies_so_much_and_no_more() {
    let mut rig = Rig::new(1);
    (0..8).for_each(|_| rig.propose(1, MIB));
    rig.flush();
    assert!(rig.replica.has_backlog() && rig.answers <= 2, "{} commands in a turn", rig.answers);
    rig.run();
    assert_eq!(rig.answers, 8);
}

#[test]
fn what_is_urgent_leaves_apart_from_what_is_large() {
    let mut rig = Rig::new(1);
    rig.writes.clear();
    (0..8).for_each(|_| rig.propose(1, MIB));
    rig.run();
    let (urgent, bulk): (Vec<_>, Vec<_>) = rig.writes.iter().copied().partition(|(_, urgent)| *urgent);
    assert_eq!(urgent.len(), 1, "signs of life share a write");
    assert!(urgent[0].0 < 1024);
    assert_eq!(bulk.len(), 8, "entries leave in writes of a bounded size");
    assert!(bulk.iter().all(|(bytes, _)| *bytes < 2 * MIB));
}

#[test]
fn groups_of_a_node_tick_at_the_same_moments() {
    let interval = Nanos::from_millis(25);
    for node in 1..=5 {
        let first = tick_after(Mono(1_234_567), interval, NodeId(node));
        for now in [Mono(1_234_568), Mono(first.0 - 1)] {
            assert_eq!(tick_after(now, interval, NodeId(node)), first);
        }
        assert_eq!(tick_after(first, interval, NodeId(node)), first + interval);
    }
    let firsts: BTreeSet<Mono> = (1..=5).map(|node| tick_after(Mono(0), interval, NodeId(node))).collect();
    assert_eq!(firsts.len(), 5, "nodes tick at different moments");
}

#[test]
fn ticks_that_lead_to_nothing_leave_no_group_to_look_after() {
    let mut rig = Rig::new(5);
    (1..=5).for_each(|group| rig.propose(group, 10));
    rig.run();
    let later = Now { mono: rig.replica.next_wake(), ..now() };
    let mut out = Vec::new();
    rig.replica.on(later, Input::Tick, &mut out);
    assert!(rig.replica.active.is_empty(), "{:?}", rig.replica.active);
    assert!(rig.replica.next_wake() > later.mono, "they tick again");
    // What waits to be proposed is looked after at each of them.
    rig.replica.groups.get_mut(&GroupId(2)).unwrap().heir = Some(NodeId(1));
    let later = Now { mono: rig.replica.next_wake(), ..now() };
    rig.replica.on(later, Input::Tick, &mut out);
    assert_eq!(rig.replica.active.iter().copied().collect::<Vec<_>>(), [GroupId(2)]);
}

#[test]
fn what_was_never_here_is_let_go_at_no_cost() {
    let mut rig = Rig::new(1);
    let mut asked = |group: u64| {
        rig.replica.retire(GroupId(group));
        std::mem::take(&mut rig.replica.out).len()
    };
    assert_eq!([asked(99), asked(1), asked(1)], [0, 1, 0]);
    rig.replica.note_stored([GroupId(98)]);
    rig.replica.retire(GroupId(98));
    assert_eq!(rig.replica.out.len(), 1, "something of it may be left");
}

/// Offers its peer a snapshot whoever leads, and not again before it has heard what became of it.
fn generous(ended: &Arc<AtomicUsize>) -> Box<dyn Agreement> {
    let ended = Arc::clone(ended);
    let on = move |sure: &mut Sure, now: Mono, input: ToEngine, out: &mut Vec<FromEngine>| match input {
        ToEngine::Propose(_) => {
            let meta = SnapshotMeta {
                index: LogIndex(1),
                term: Term(1),
                members: Members::of_voters([NODE, PEER]),
                ..SnapshotMeta::default()
            };
            out.push(FromEngine::OfferSnapshot { to: PEER, meta, message: Bytes::new() });
            out.push(FromEngine::Role { leader: Some(PEER), term: Term(2), leads: false });
        }
        ToEngine::SnapshotSent { to: PEER, delivered: false } => {
            ended.fetch_add(1, Ordering::Relaxed);
        }
        other => sure.on(now, other, out),
    };
    Box::new(But { sure: Sure::default(), on })
}

#[test]
fn an_engine_hears_of_snapshots_that_are_abandoned_with_the_lead() {
    let ended = Arc::new(AtomicUsize::new(0));
    let mut rig = Rig::of(1, || generous(&ended));
    rig.propose(1, 10);
    rig.run();
    assert_eq!(ended.load(Ordering::Relaxed), 1, "it may offer again");
}
