//! Records of a partition that a share group reads: scenarios, and properties of every history.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use crate::machine::codec;
use crate::machine::coordinator::share::partition::{RecordState, SharePartition};
use crate::machine::coordinator::*;
use crate::wire::{ErrorCode, Uuid};

const LOCK_MS: u32 = 1_000;
const GAP: i8 = 0;
const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
const RENEW: i8 = 4;

fn settings() -> ShareSettings {
    ShareSettings { lock_ms: LOCK_MS, delivery_count_max: 3, window: 100, renews: true, dead_letter: false }
}

fn rows(batches: &[(i64, i64)]) -> Vec<ShareBatch> {
    batches.iter().map(|(first, last)| ShareBatch { first: *first, last: *last, readable: true }).collect()
}

fn asks(member: &str, batches: &[(i64, i64)], count_max: u32) -> ShareAcquire {
    ShareAcquire {
        share: ShareName { group_id: "g".into(), topic_id: Uuid([1; 16]), partition: 0 },
        member_id: member.into(),
        session: ShareSession::default(),
        epoch: 0,
        leader_epoch: 1,
        log_start: 0,
        batches: rows(batches),
        count_max,
        exact: false,
        settings: settings(),
    }
}

fn exactly(ask: ShareAcquire) -> ShareAcquire {
    ShareAcquire { exact: true, ..ask }
}

fn runs(taken: &[AcquiredRecords]) -> Vec<(i64, i64, u16)> {
    taken.iter().map(|run| (run.first, run.last, run.count)).collect()
}

fn says(first: i64, last: i64, types: &[i8]) -> Acknowledgement {
    Acknowledgement { first, last, types: types.to_vec() }
}

/// One step, after which everything must hold.
struct Bench {
    share: SharePartition,
    now: u64,
}

impl Bench {
    fn new() -> Self {
        Self { share: SharePartition::new(0, 0, settings()), now: 1_000 }
    }

    fn take(&mut self, ask: &ShareAcquire) -> Vec<(i64, i64, u16)> {
        let taken = self.share.acquire(self.now, ask);
        self.check();
        runs(&taken)
    }

    fn say(&mut self, member: &str, batches: &[Acknowledgement]) -> ErrorCode {
        self.say_with(member, batches, &settings())
    }

    fn say_with(&mut self, member: &str, batches: &[Acknowledgement], settings: &ShareSettings) -> ErrorCode {
        let outcome = self.share.acknowledge(self.now, (member, ShareSession::default()), settings, batches);
        self.check();
        outcome.err().unwrap_or(ErrorCode::NONE)
    }

    fn check(&mut self) {
        // The dead are named at once, as the machine does.
        let _ = self.share.bury(self.now);
        self.share.invariants();
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.share.on_time(self.now);
        self.check();
    }
}

#[test]
fn what_is_accepted_is_let_go_in_order() {
    let mut bench = Bench::new();
    assert_eq!(bench.take(&asks("a", &[(0, 9)], 500)), [(0, 9, 1)]);
    assert_eq!(bench.take(&asks("b", &[(0, 9)], 500)), []);
    assert_eq!(bench.say("b", &[says(0, 0, &[ACCEPT])]), ErrorCode::INVALID_RECORD_STATE, "it is another's");
    assert_eq!(bench.say("a", &[says(5, 9, &[ACCEPT])]), ErrorCode::NONE);
    assert_eq!((bench.share.start, bench.share.settled()), (0, 5));
    assert_eq!(bench.say("a", &[says(5, 9, &[ACCEPT])]), ErrorCode::INVALID_RECORD_STATE, "it is settled");
    assert_eq!(bench.say("a", &[says(0, 4, &[ACCEPT, GAP, ACCEPT, REJECT, ACCEPT])]), ErrorCode::NONE);
    assert_eq!((bench.share.start, bench.share.end, bench.share.runs.len()), (10, 10, 0));
    assert_eq!(bench.say("a", &[says(0, 4, &[ACCEPT])]), ErrorCode::NONE, "what lies behind is settled");
}

#[test]
fn what_is_released_comes_again_and_not_for_ever() {
    let mut bench = Bench::new();
    for count in 1..=3 {
        assert_eq!(bench.take(&asks("a", &[(0, 1)], 500)), [(0, 1, count)]);
        let released = [says(0, 0, &[RELEASE]), says(1, 1, &[RELEASE])];
        assert_eq!(bench.say("a", &released), ErrorCode::NONE);
    }
    assert_eq!((bench.share.start, bench.share.end), (2, 2), "they were delivered three times");
}

#[test]
fn locks_end_and_may_be_renewed() {
    let mut bench = Bench::new();
    assert_eq!(bench.take(&asks("a", &[(0, 4)], 500)), [(0, 4, 1)]);
    bench.pass(600);
    assert_eq!(bench.say("a", &[says(0, 1, &[RENEW])]), ErrorCode::NONE);
    assert_eq!(bench.share.deadline(), Some(2_000));
    bench.pass(400);
    assert_eq!(bench.say("a", &[says(2, 2, &[ACCEPT])]), ErrorCode::INVALID_RECORD_STATE);
    assert_eq!(bench.take(&asks("b", &[(0, 4)], 500)), [(2, 4, 2)]);
    assert_eq!(bench.say("a", &[says(0, 1, &[ACCEPT])]), ErrorCode::NONE, "those are its own still");
    let fixed = ShareSettings { renews: false, ..settings() };
    assert_eq!(bench.say_with("b", &[says(2, 4, &[RENEW])], &fixed), ErrorCode::INVALID_REQUEST);
}

#[test]
fn acknowledgements_are_all_or_nothing_and_make_sense() {
    let mut bench = Bench::new();
    bench.take(&asks("a", &[(0, 4)], 500));
    bench.take(&asks("b", &[(5, 9)], 500));
    assert_eq!(bench.say("a", &[says(0, 4, &[ACCEPT]), says(5, 5, &[ACCEPT])]), ErrorCode::INVALID_RECORD_STATE);
    assert_eq!(bench.say("a", &[says(3, 10, &[ACCEPT])]), ErrorCode::INVALID_RECORD_STATE);
    let senseless: [&[Acknowledgement]; 7] = [
        &[says(4, 3, &[ACCEPT])],
        &[says(0, 4, &[ACCEPT, ACCEPT])],
        &[says(0, 4, &[])],
        &[says(0, 0, &[5])],
        &[says(0, 0, &[-1])],
        &[says(0, 2, &[ACCEPT]), says(2, 4, &[ACCEPT])],
        &[says(-1, 0, &[ACCEPT])],
    ];
    for batches in senseless {
        assert_eq!(bench.say("a", batches), ErrorCode::INVALID_REQUEST, "{batches:?}");
    }
    assert_eq!((bench.share.start, bench.share.settled()), (0, 0), "none was done");
}

#[test]
fn batches_are_whole_unless_the_client_counts() {
    let mut bench = Bench::new();
    assert_eq!(bench.take(&asks("a", &[(0, 9), (10, 19), (20, 29)], 11)), [(0, 9, 1), (10, 19, 1)]);
    assert_eq!(bench.take(&exactly(asks("b", &[(20, 29), (30, 39)], 5))), [(20, 24, 1)]);
    assert_eq!(bench.take(&exactly(asks("b", &[(20, 29), (30, 39)], 7))), [(25, 29, 1), (30, 31, 1)]);
}

#[test]
fn the_window_is_bounded() {
    let mut bench = Bench::new();
    assert_eq!(bench.take(&asks("a", &[(0, 98), (99, 150), (151, 160)], 500)), [(0, 98, 1), (99, 150, 1)]);
    assert_eq!(bench.share.next(), None, "somebody must settle records first");
    assert_eq!(bench.take(&asks("b", &[(151, 160)], 500)), []);
    assert_eq!(bench.say("a", &[says(0, 60, &[ACCEPT])]), ErrorCode::NONE);
    assert_eq!(bench.share.next(), Some(151));
    assert_eq!(bench.take(&exactly(asks("b", &[(151, 400)], 500))), [(151, 160, 1)]);
}

#[test]
fn what_is_not_for_clients_is_skipped_and_gaps_are_none() {
    let mut bench = Bench::new();
    let mut ask = asks("a", &[(0, 1), (2, 2), (5, 6)], 500);
    ask.batches[1].readable = false;
    assert_eq!(bench.take(&ask), [(0, 1, 1), (5, 6, 1)]);
    assert_eq!(bench.say("a", &[says(0, 6, &[ACCEPT])]), ErrorCode::INVALID_RECORD_STATE, "2 was never given out");
    assert_eq!(bench.say("a", &[says(0, 1, &[ACCEPT]), says(5, 6, &[ACCEPT])]), ErrorCode::NONE);
    assert_eq!(bench.share.start, 7);
    let mut ask = asks("a", &[(7, 7)], 500);
    ask.batches[0].readable = false;
    assert_eq!(bench.take(&ask), []);
    assert_eq!((bench.share.start, bench.share.end), (8, 8));
}

#[test]
fn the_window_follows_the_log() {
    let mut bench = Bench::new();
    bench.take(&asks("a", &[(0, 9)], 500));
    let later = ShareAcquire { log_start: 5, ..asks("b", &[], 500) };
    assert_eq!(bench.take(&later), []);
    assert_eq!((bench.share.start, bench.share.end), (5, 10));
    assert_eq!(bench.say("a", &[says(3, 9, &[ACCEPT])]), ErrorCode::NONE);
    let later = ShareAcquire { log_start: 50, ..asks("b", &[(50, 50)], 500) };
    assert_eq!(bench.take(&later), [(50, 50, 1)]);
    assert_eq!(bench.share.start, 50);
}

#[test]
fn what_a_gone_connection_held_counts_as_not_delivered() {
    let mut bench = Bench::new();
    bench.take(&asks("a", &[(0, 4)], 500));
    bench.take(&asks("b", &[(5, 9)], 500));
    bench.share.release(bench.now, "a", ShareSession::default());
    bench.check();
    assert_eq!(bench.take(&asks("c", &[(0, 9)], 500)), [(0, 4, 1)]);
}

/// The word that a session has ended may come when its member has long begun another, elsewhere.
#[test]
fn a_session_that_ends_late_takes_nothing_from_the_next() {
    let mut bench = Bench::new();
    let session = |number| ShareSession { node: number, incarnation: 1, number: 1 };
    let ask = |number| ShareAcquire { session: session(number), ..asks("a", &[(0, 9)], 5) };
    assert_eq!(bench.take(&exactly(ask(1))), [(0, 4, 1)]);
    bench.now += u64::from(LOCK_MS);
    assert_eq!(bench.take(&exactly(ask(2))), [(0, 4, 2)], "the lock was over first");
    bench.share.release(bench.now, "a", session(1));
    bench.check();
    assert_eq!(bench.take(&asks("b", &[(0, 4)], 500)), [], "it still holds them");
    assert_eq!(bench.say("a", &[says(0, 0, &[ACCEPT])]), ErrorCode::NONE);
    bench.share.release(bench.now, "a", session(2));
    bench.check();
    assert_eq!(bench.take(&asks("b", &[(0, 4)], 500)), [(1, 4, 2)]);
}

/// What is renewed is held through the session in which that was said.
#[test]
fn a_session_that_ends_late_takes_nothing_that_was_renewed_in_another() {
    let mut bench = Bench::new();
    bench.take(&asks("a", &[(0, 4)], 500));
    let other = ShareSession { node: 9, incarnation: 1, number: 1 };
    assert_eq!(bench.share.acknowledge(bench.now, ("a", other), &settings(), &[says(0, 1, &[RENEW])]), Ok(()));
    bench.share.release(bench.now, "a", ShareSession::default());
    bench.check();
    assert_eq!(bench.take(&asks("b", &[(0, 4)], 500)), [(2, 4, 1)]);
    bench.share.release(bench.now, "a", other);
    assert_eq!(bench.take(&asks("b", &[(0, 4)], 500)), [(0, 1, 1)]);
}

#[test]
fn the_dead_are_buried_once_they_are_reported() {
    let dead = ShareSettings { dead_letter: true, ..settings() };
    let mut share = SharePartition::new(0, 0, dead.clone());
    let ask = ShareAcquire { settings: dead.clone(), ..asks("a", &[(0, 4)], 500) };
    share.acquire(1_000, &ask);
    let types = [ACCEPT, REJECT, REJECT, RELEASE, ACCEPT];
    assert_eq!(share.acknowledge(1_000, ("a", ShareSession::default()), &dead, &[says(0, 4, &types)]), Ok(()));
    let named = DeadRecords { first: 1, last: 2, count: 1, cause: Cause::Rejected };
    assert_eq!(share.bury(1_000), [named]);
    assert_eq!(share.bury(1_001), [], "not before it is time again");
    assert_eq!(share.deadline(), Some(3_000));
    assert_eq!(share.bury(3_000), [named]);
    share.buried(&[(1, 2)]);
    share.invariants();
    assert_eq!((share.start, share.bury(9_000)), (3, Vec::new()));
}

#[test]
fn a_window_that_is_moved_forgets() {
    let mut bench = Bench::new();
    bench.take(&asks("a", &[(0, 4)], 500));
    bench.share.seek(3, 9);
    bench.check();
    assert_eq!((bench.share.epoch, bench.share.next()), (9, Some(3)));
    assert_eq!(bench.say("a", &[says(3, 4, &[ACCEPT])]), ErrorCode::INVALID_RECORD_STATE);
}

/// What may happen. The log has records at every offset, in batches of four.
#[derive(Clone, Debug)]
enum Step {
    Take { member: usize, count: u32, exact: bool },
    Say { member: usize, which: usize, kind: i8 },
    Release { member: usize },
    Bury,
    Pass(u64),
    Trim(i64),
}

const MEMBERS: [&str; 3] = ["a", "b", "c"];
const LOG_END: i64 = 240;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0usize..3, 1u32..20, any::<bool>()).prop_map(|(member, count, exact)| Step::Take { member, count, exact }),
        8 => (0usize..3, any::<usize>(), 0i8..5).prop_map(|(member, which, kind)| Step::Say { member, which, kind }),
        1 => (0usize..3).prop_map(|member| Step::Release { member }),
        2 => Just(Step::Bury),
        2 => prop_oneof![Just(1u64), Just(400), Just(1_000)].prop_map(Step::Pass),
        1 => (0i64..30).prop_map(Step::Trim),
    ];
    vec(step, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nobody_shares_a_record_and_none_is_lost(steps in steps(), dead_letter in any::<bool>()) {
        let settings = ShareSettings { dead_letter, window: 30, ..settings() };
        let mut share = SharePartition::new(0, 0, settings.clone());
        let (mut now, mut log_start) = (1_000u64, 0i64);
        // Who holds what until when, and what is settled, as the clients know it.
        let mut held: BTreeMap<i64, (usize, u64)> = BTreeMap::new();
        let mut settled: BTreeSet<i64> = BTreeSet::new();
        let mut delivered: BTreeMap<i64, u16> = BTreeMap::new();
        for step in steps {
            let start = share.start;
            held.retain(|_, (_, until)| *until > now);
            match step {
                Step::Take { member, count, exact } => {
                    let next = share.next().unwrap_or(share.start).max(log_start);
                    let batches: Vec<(i64, i64)> =
                        (next / 4..LOG_END / 4).map(|at| (at * 4, at * 4 + 3)).filter(|(_, last)| *last >= log_start).take(8).collect();
                    let ask = ShareAcquire {
                        settings: settings.clone(), exact, log_start, ..asks(MEMBERS[member], &batches, count)
                    };
                    let mut taken = 0;
                    for run in share.acquire(now, &ask) {
                        for offset in run.first..=run.last {
                            prop_assert!(!held.contains_key(&offset), "{} is another's", offset);
                            prop_assert!(!settled.contains(&offset), "{} was settled", offset);
                            prop_assert!(run.count <= 3);
                            held.insert(offset, (member, now + u64::from(LOCK_MS)));
                            *delivered.entry(offset).or_default() += 1;
                            taken += 1;
                        }
                    }
                    prop_assert!(!exact || taken <= count);
                }
                Step::Say { member, which, kind } => {
                    let own: Vec<i64> = held.iter().filter(|(at, (who, _))| *who == member && **at >= share.start).map(|(at, _)| *at).collect();
                    if own.is_empty() {
                        continue;
                    }
                    let offset = own[which % own.len()];
                    let said = share.acknowledge(now, (MEMBERS[member], ShareSession::default()), &settings, &[says(offset, offset, &[kind])]);
                    prop_assert_eq!(said, Ok(()));
                    if kind == RENEW {
                        held.insert(offset, (member, now + u64::from(LOCK_MS)));
                    } else {
                        held.remove(&offset);
                    }
                    if matches!(kind, GAP | ACCEPT | REJECT) {
                        settled.insert(offset);
                    }
                }
                Step::Release { member } => {
                    share.release(now, MEMBERS[member], ShareSession::default());
                    held.retain(|_, (who, _)| *who != member);
                }
                Step::Bury => {
                    let dead = share.bury(now);
                    prop_assert!(dead_letter || dead.is_empty());
                    share.buried(&dead.iter().map(|run| (run.first, run.last)).collect::<Vec<_>>());
                }
                Step::Pass(ms) => {
                    now += ms;
                    share.on_time(now);
                }
                Step::Trim(by) => log_start = (log_start + by).min(LOG_END - 8),
            }
            share.invariants();
            prop_assert!(share.start >= start, "what is settled stays so");
            prop_assert!(share.end - share.start <= 30 + 4);
            let bytes = codec::encode(&share);
            prop_assert_eq!(codec::decode::<SharePartition>(&bytes), Ok(share.clone()));
        }
        // Whatever is not settled is to be had once all locks are over.
        now += u64::from(LOCK_MS);
        share.on_time(now);
        for _ in 0..1_000 {
            let dead = share.bury(u64::MAX);
            share.buried(&dead.iter().map(|run| (run.first, run.last)).collect::<Vec<_>>());
            let Some(next) = share.next() else { break };
            let next = next.max(log_start);
            let batches: Vec<(i64, i64)> = (next / 4..LOG_END / 4).map(|at| (at * 4, at * 4 + 3)).take(8).collect();
            let ask = ShareAcquire { settings: settings.clone(), log_start, ..asks("z", &batches, 10) };
            let taken = share.acquire(now, &ask);
            if taken.is_empty() {
                break;
            }
            for run in taken {
                delivered.extend((run.first..=run.last).map(|offset| (offset, 1)));
                prop_assert_eq!(share.acknowledge(now, ("z", ShareSession::default()), &settings, &[says(run.first, run.last, &[ACCEPT])]), Ok(()));
            }
        }
        prop_assert_eq!((share.start, share.runs.values().any(|run| matches!(run.state, RecordState::Available { .. }))), (LOG_END, false));
        for offset in log_start..LOG_END {
            prop_assert!(delivered.contains_key(&offset), "{} was never delivered", offset);
        }
    }
}
