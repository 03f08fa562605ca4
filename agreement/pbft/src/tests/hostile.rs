//! What one replica does when disks, drivers and peers are at their worst.

use std::collections::BTreeSet;

use bytes::Bytes;
use verity_contract::{Agreement, Boot, Input, Output, PersistId, Record, RecordKind, SnapshotMeta, Verdict};
use verity_types::{Digest, LogIndex, Mono, NodeId, Term, WallMs};

use super::rig::{One, keys};
use crate::keys::Sig;
use crate::message::{Batch, Content, Message, Proof, Request, Status, parse};
use crate::state::Context;
use crate::{Config, Pbft};

impl One {
    fn request(&self, client: u64, seq: u64) -> Request {
        let op = Bytes::from_static(b"op");
        let unsigned = Request { client: NodeId(client), incarnation: 1, seq, endorses: false, op, sig: Sig([0; 64]) };
        Request { sig: keys(client).sign(self.pbft.scope.request(&unsigned)), ..unsigned }
    }

    /// What replica 1, the primary of view 0, assigns.
    fn pre_prepare(&self, n: u64) -> (Digest, Message) {
        let batch = Batch { term: 1, time: 0, content: Content::Requests(vec![self.request(3, n)]) };
        let digest = self.pbft.scope.batch(&batch);
        let sig = keys(1).sign(self.pbft.scope.pre_prepare(0, n, digest));
        (digest, Message::PrePrepare { view: 0, n, batch, sig })
    }

    fn commit(&self, id: u64, n: u64, digest: Digest) -> Message {
        Message::Commit { view: 0, n, digest, sig: keys(id).sign(self.pbft.scope.commit(0, n, digest)) }
    }
}

fn said(out: &[Output]) -> Vec<(NodeId, Message, Option<PersistId>)> {
    let message = |bytes: &Bytes| parse(bytes.clone()).expect("it says what can be read").1;
    out.iter()
        .filter_map(|output| match output {
            Output::Send { to, bytes, after, .. } => Some((*to, message(bytes), *after)),
            _ => None,
        })
        .collect()
}

fn prepares(out: &[Output]) -> usize {
    said(out).iter().filter(|(_, message, _)| matches!(message, Message::Prepare { .. })).count()
}

#[test]
fn a_primary_assigns_nothing_before_its_view_is_on_its_disk() {
    let mut one = One::start(1, Vec::new());
    let assigned = |out: &[Output]| -> BTreeSet<Option<PersistId>> {
        let said = said(out).into_iter();
        said.filter(|(_, message, _)| matches!(message, Message::PrePrepare { .. })).map(|(.., after)| after).collect()
    };
    let out = one.input(Input::Propose(Bytes::from_static(b"op")));
    assert!(assigned(&out).is_empty(), "before the first tick it may not know what time it is");
    one.pbft.set_wall(one.now, WallMs(5_000));
    let out = one.input(Input::Tick);
    assert_eq!(assigned(&out), BTreeSet::from([Some(PersistId(1))]), "it could forget that it leads, and assign anew");
    let state = |record: &Record| record.kind == RecordKind::State;
    assert!(one.written[0].1.iter().any(state), "that the view has begun is among it");
    let propose = |one: &mut One| one.input(Input::Propose(Bytes::from_static(b"op")));
    assert!((0..2).all(|_| assigned(&propose(&mut one)).is_empty()), "requests gather while a batch is under way");
    assert_eq!(assigned(&propose(&mut one)), BTreeSet::from([Some(PersistId(1))]));
    one.sync();
    one.now.0 += 2_500;
    let out = propose(&mut one);
    assert_eq!(assigned(&out), BTreeSet::from([None]), "from then on it waits for nothing");
}

#[test]
fn what_comes_late_is_not_voted_for_in_the_next_view() {
    let mut one = One::start(2, Vec::new());
    let (_, message) = one.pre_prepare(1);
    let out = one.hear(1, 0, &message);
    assert!(out.iter().any(|output| matches!(output, Output::Judge { .. })));
    // A digest whose content is missing, as a new view names it.
    let (digest, other) = one.pre_prepare(2);
    let Message::PrePrepare { batch, sig, .. } = other else { unreachable!("made just so") };
    one.pbft.accept(2, digest, None, sig, true);
    one.pbft.change_view(2);
    let out = one.input(Input::Verdict { index: LogIndex(1), verdict: Verdict::Accept });
    assert_eq!(prepares(&out), 0, "the machine's answer is about the last view");
    let out = one.hear(3, 0, &Message::Batch { n: 2, batch });
    assert_eq!(prepares(&out), 0, "so is the content");
    let own = one.pbft.slots.values().filter(|slot| slot.prepares.of(NodeId(2)).is_some()).count();
    assert_eq!(own, 0, "it has voted for nothing in view 2");
}

#[test]
fn what_the_machine_has_not_judged_is_not_voted_for_after_a_crash() {
    let mut one = One::start(2, Vec::new());
    let (_, message) = one.pre_prepare(1);
    one.hear(1, 0, &message);
    one.sync();
    let again = one.restart();
    assert!(again.pbft.slots.get(&1).is_none_or(|slot| slot.prepares.of(NodeId(2)).is_none()));
}

#[test]
fn what_others_commit_is_written_down_before_it_is_handed_out_though_nobody_judged_it() {
    let mut one = One::start(2, Vec::new());
    let (digest, message) = one.pre_prepare(1);
    one.hear(1, 0, &message);
    one.sync();
    let commits = |out: &[Output]| out.iter().any(|output| matches!(output, Output::Commit(_)));
    let votes = [1, 3, 4].map(|id| (id, one.commit(id, 1, digest)));
    let out: Vec<Output> = votes.iter().flat_map(|(id, vote)| one.hear(*id, 0, vote)).collect();
    assert!(!commits(&out), "it is on no disk here");
    assert!(commits(&one.sync()));
    let again = one.restart();
    assert!(again.pbft.batch_of(1, digest).is_some(), "it is found again");
}

/// Entries 1 to `count`, with the commits of replicas 1, 3 and 4.
fn entries(one: &One, count: u64) -> Message {
    let entry = |n: u64| {
        let (digest, Message::PrePrepare { batch, .. }) = one.pre_prepare(n) else { unreachable!("made just so") };
        let hash = one.pbft.scope.commit(0, n, digest);
        (batch, Proof { view: 0, votes: [1, 3, 4].map(|id| (NodeId(id), keys(id).sign(hash))).into() })
    };
    Message::Entries { first: 1, entries: (1..=count).map(entry).collect() }
}

#[test]
fn entries_fetched_from_beyond_the_window_survive_a_crash() {
    let mut one = One::start(2, Vec::new());
    let message = entries(&one, 20);
    one.hear(3, 0, &message);
    one.sync();
    let mut again = one.restart();
    again.input(Input::Tick);
    assert_eq!(again.pbft.status().committed, LogIndex(20));
}

#[test]
fn a_log_is_trimmed_to_a_stable_checkpoint_and_no_further() {
    let (mut one, meta, digest) = with_snapshot();
    let saved = Input::SnapshotSaved { meta: meta.clone(), compact_to: LogIndex(8) };
    assert_eq!(one.pbft.status().first, LogIndex(1), "no quorum is known to have this state: its certificates stay");
    let records: Vec<Record> = one.written.iter().flat_map(|(_, records)| records.clone()).collect();
    let members = one.pbft.members.clone();
    let boot = Boot { id: NodeId(2), members, snapshot: Some(meta), records, ..Boot::default() };
    let config = Config { checkpoint_every: 8, window: 16, ..Config::default() };
    let again = Pbft::start(boot, config, keys(2), Mono(1)).expect("a replica starts");
    again.invariants();
    assert_eq!((again.status().first, again.handed), (LogIndex(1), 8), "what is behind the snapshot is found again");
    for id in [1, 3] {
        let sig = keys(id).sign(one.pbft.scope.checkpoint(8, digest));
        one.hear(id, 0, &Message::Checkpoint { n: 8, digest, sig });
    }
    one.input(saved.clone());
    assert_eq!(one.pbft.status().first, LogIndex(1), "nor is the proof on the disk");
    let (_, message) = one.pre_prepare(11);
    one.hear(1, 0, &message);
    one.input(Input::Verdict { index: LogIndex(11), verdict: Verdict::Accept });
    one.sync();
    one.input(saved);
    assert_eq!(one.pbft.status().first, LogIndex(9));
}

#[test]
fn one_who_says_that_it_has_more_and_sends_nothing_holds_nobody_up() {
    let mut one = One::start(2, Vec::new());
    let mut asked = BTreeSet::new();
    let status = Status { view: 0, entered: true, executed: 5, stable: 0, first: 1 };
    for _ in 0..4 {
        one.now.0 += 50_000_000;
        // It is always the first to speak.
        for from in [1, 3] {
            let out = one.hear(from, 0, &Message::Status(status));
            let fetches = said(&out).into_iter().filter(|(_, message, _)| matches!(message, Message::Fetch { .. }));
            asked.extend(fetches.map(|(to, ..)| to));
        }
    }
    assert_eq!(asked, BTreeSet::from([NodeId(1), NodeId(3)]));
}

#[test]
fn a_stamp_that_was_executed_bears_out_the_next_one() {
    let mut one = One::start(2, Vec::new());
    one.pbft.context.time = 10_000;
    one.pbft.set_wall(one.now, WallMs(5_000));
    let (n, scope) = (1, one.pbft.scope.clone());
    let batch = Batch { term: 1, time: 10_000, content: Content::Requests(vec![one.request(3, 1)]) };
    let sig = keys(1).sign(scope.pre_prepare(0, n, scope.batch(&batch)));
    let out = one.hear(1, 0, &Message::PrePrepare { view: 0, n, batch, sig });
    let judged = out.iter().any(|output| matches!(output, Output::Judge { .. }));
    assert!(judged, "a primary never stamps lower than what is executed, whatever the clock of one backup");
}

/// A replica that executed 10 entries and saved a snapshot at 8, of which nobody else has spoken.
fn with_snapshot() -> (One, SnapshotMeta, Digest) {
    let mut one = One::start(2, Vec::new());
    let message = entries(&one, 10);
    one.hear(3, 0, &message);
    one.sync();
    let context = one.pbft.snapshot_context(LogIndex(8)).expect("a snapshot may be taken at a checkpoint");
    let digest = Context::decode(context.clone()).expect("it wrote it").digest(Digest([1; 32]));
    let meta = SnapshotMeta { index: LogIndex(8), term: Term(1), members: one.pbft.members.clone(), context };
    one.input(Input::Checkpointed { index: LogIndex(8), digest: Digest([1; 32]) });
    one.input(Input::SnapshotSaved { meta: meta.clone(), compact_to: LogIndex(8) });
    (one, meta, digest)
}

#[test]
fn a_replica_that_starts_from_a_snapshot_speaks_of_its_checkpoint_again() {
    let (one, meta, _) = with_snapshot();
    let records = one.written.into_iter().flat_map(|(_, records)| records).collect();
    let boot = Boot { id: NodeId(2), members: meta.members.clone(), snapshot: Some(meta), records, ..Boot::default() };
    let config = Config { checkpoint_every: 8, window: 16, ..Config::default() };
    let mut pbft = Pbft::start(boot, config, keys(2), Mono(1)).expect("a replica starts");
    let mut out = Vec::new();
    pbft.on(Mono(2), Input::Tick, &mut out);
    let first = out.iter().find(|output| matches!(output, Output::Checkpoint { .. } | Output::Commit(_)));
    let is_now = matches!(first, Some(Output::Checkpoint { index: LogIndex(8) }));
    assert!(is_now, "its machine is at 8 just now, and not a commit later");
    let mut out = Vec::new();
    pbft.on(Mono(3), Input::Checkpointed { index: LogIndex(8), digest: Digest([1; 32]) }, &mut out);
    let again = said(&out).iter().filter(|(_, message, _)| matches!(message, Message::Checkpoint { n: 8, .. })).count();
    assert_eq!(again, 3, "what it said before the crash may be lost");
}

#[test]
fn a_snapshot_that_f_plus_one_vouch_for_is_offered_and_taken_though_no_quorum_does() {
    let (mut one, meta, digest) = with_snapshot();
    let offers = |one: &mut One| -> Vec<Bytes> {
        one.pbft.base = 8;
        one.pbft.entries = one.pbft.entries.split_off(&9);
        let out = one.hear(4, 0, &Message::Fetch { from: 1 });
        let offer =
            |output: Output| if let Output::OfferSnapshot { message, .. } = output { Some(message) } else { None };
        out.into_iter().filter_map(offer).collect()
    };
    assert!(offers(&mut one).is_empty(), "its own word is nobody's proof");
    let sig = keys(3).sign(one.pbft.scope.checkpoint(8, digest));
    one.hear(3, 0, &Message::Checkpoint { n: 8, digest, sig });
    let offered = offers(&mut one);
    assert_eq!(offered.len(), 1);
    let mut behind = One::start(4, Vec::new());
    let status = Status { view: 0, entered: true, executed: 10, stable: 0, first: 9 };
    for from in [1, 2] {
        let out = behind.input(Input::Message { from: NodeId(2), bytes: offered[0].clone() });
        let installs = out.iter().any(|output| matches!(output, Output::InstallSnapshot(_)));
        assert!(!installs, "it may still be that all honest have the log, and nothing to put into a lie's place");
        behind.hear(from, 0, &Message::Status(status));
    }
    let out = behind.input(Input::Message { from: NodeId(2), bytes: offered[0].clone() });
    assert!(out.iter().any(|output| matches!(output, Output::InstallSnapshot(installed) if *installed == meta)));
    assert_eq!((behind.pbft.handed, behind.pbft.low()), (8, 0), "f + 1 move no watermark");
    let out = behind.input(Input::Checkpointed { index: LogIndex(8), digest: Digest([1; 32]) });
    assert!(said(&out).iter().any(|(_, message, _)| matches!(message, Message::Checkpoint { n: 8, .. })));
}
