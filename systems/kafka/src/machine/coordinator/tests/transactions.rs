//! Transactions, of both versions.

use super::rig::*;
use crate::machine::coordinator::*;
use crate::wire::ErrorCode;

const ID: &str = "tx";
const TIMEOUT_MS: i32 = 30_000;

fn by(producer_id: i64, producer_epoch: i16) -> TransactionName {
    TransactionName { transactional_id: ID.into(), producer_id, producer_epoch }
}

fn parts(partitions: &[i32]) -> Vec<TopicPartitions> {
    vec![TopicPartitions { topic: "t".into(), partitions: partitions.to_vec() }]
}

impl Rig {
    fn init_with(&mut self, producer_id: i64, producer_epoch: i16) -> Result<(i64, i16), ErrorCode> {
        let transactional_id = Some(ID.to_owned());
        let command = Command::InitProducerId { transactional_id, timeout_ms: TIMEOUT_MS, producer_id, producer_epoch };
        producer(&self.run(command))
    }

    fn init(&mut self) -> Result<(i64, i16), ErrorCode> {
        self.init_with(-1, -1)
    }

    fn add(&mut self, name: &TransactionName, partitions: &[i32]) -> ErrorCode {
        first_error(&self.run(Command::AddPartitions { transaction: name.clone(), topics: parts(partitions) }))
    }

    fn end(&mut self, name: &TransactionName, commit: bool, bump_epoch: bool) -> Result<(i64, i16), ErrorCode> {
        producer(&self.run(Command::EndTransaction { transaction: name.clone(), commit, bump_epoch }))
    }

    fn marks(&self) -> (TransactionName, u64, bool) {
        match &self.markers[..] {
            [TransactionEvent::WriteMarkers { transaction, number, commit, coordinator_epoch: 1.., topics }] => {
                assert!(!topics.is_empty());
                (transaction.clone(), *number, *commit)
            }
            other => panic!("{other:?}"),
        }
    }

    fn written(&mut self, marks: &(TransactionName, u64, bool), partitions: &[i32]) -> ErrorCode {
        let (transaction, number, _) = marks.clone();
        match self.run(Command::MarkersWritten { transaction, number, topics: parts(partitions) }) {
            Reply::Error { error } => error,
            other => panic!("{other:?}"),
        }
    }

    fn state(&mut self) -> String {
        match self.ask(Query::DescribeTransactions { transactional_ids: vec![ID.into()] }) {
            Answer::Transactions { mut rows, .. } => rows.remove(0).state,
            other => panic!("{other:?}"),
        }
    }

    fn commit_offsets(&mut self, name: &TransactionName, offset: i64, implicit: bool) -> ErrorCode {
        let request = CommitTransactionOffsets {
            transaction: name.clone(),
            group_id: GROUP.into(),
            generation: -1,
            member: super::rig::name(""),
            implicit,
            topics: offsets("t", offset),
        };
        first_error(&self.run(Command::CommitTransactionOffsets { request }))
    }
}

fn producer(reply: &Reply) -> Result<(i64, i16), ErrorCode> {
    match reply {
        Reply::Producer { error: ErrorCode::NONE, producer_id, producer_epoch } => Ok((*producer_id, *producer_epoch)),
        Reply::Producer { error, .. } => Err(*error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn producer_ids_never_repeat() {
    let mut rig = Rig::new();
    let plain =
        || Command::InitProducerId { transactional_id: None, timeout_ms: 0, producer_id: -1, producer_epoch: -1 };
    assert_eq!(producer(&rig.run(plain())), Ok((1, 0)));
    assert_eq!(rig.init(), Ok((2, 0)));
    assert_eq!(producer(&rig.run(plain())), Ok((3, 0)));
    let config = CoordinatorConfig { producer_id_min: 1_000, ..CoordinatorConfig::default() };
    rig.run(Command::Lead { config });
    assert_eq!(producer(&rig.run(plain())), Ok((1_000, 0)));
    rig.run(Command::Lead { config: CoordinatorConfig::default() });
    assert_eq!(producer(&rig.run(plain())), Ok((1_001, 0)));
}

#[test]
fn a_new_producer_fences_the_old_one() {
    let mut rig = Rig::new();
    assert_eq!((rig.init(), rig.init()), (Ok((1, 0)), Ok((1, 1))));
    assert_eq!(rig.add(&by(1, 0), &[0]), ErrorCode::PRODUCER_FENCED);
    assert_eq!(rig.add(&by(9, 1), &[0]), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    assert_eq!(rig.end(&by(1, 0), true, false), Err(ErrorCode::PRODUCER_FENCED));
    assert_eq!(rig.init_with(1, 1), Ok((1, 2)), "the holder raises its own");
    assert_eq!(rig.init_with(1, 1), Ok((1, 2)), "the answer was lost");
    assert_eq!(rig.init_with(1, 0), Err(ErrorCode::PRODUCER_FENCED));
    assert_eq!(rig.init_with(5, 2), Err(ErrorCode::PRODUCER_FENCED));
    assert_eq!(rig.init_with(5, -1), Err(ErrorCode::INVALID_REQUEST));
    for timeout_ms in [0, -1, 900_001] {
        let transactional_id = Some(ID.to_owned());
        let odd = Command::InitProducerId { transactional_id, timeout_ms, producer_id: -1, producer_epoch: -1 };
        assert_eq!(producer(&rig.run(odd)), Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT));
    }
}

#[test]
fn an_end_is_over_when_all_markers_are_written() {
    let mut rig = Rig::new();
    rig.init().unwrap();
    let me = by(1, 0);
    assert_eq!(rig.end(&me, true, false), Err(ErrorCode::INVALID_TXN_STATE), "nothing is open");
    assert_eq!(rig.add(&me, &[0, 1]), ErrorCode::NONE);
    assert_eq!(rig.state(), "Ongoing");
    assert_eq!(rig.end(&me, true, false), Ok((1, 0)));
    let marks = rig.marks();
    assert_eq!((&marks.0, marks.2), (&me, true));
    assert_eq!(rig.end(&me, true, false), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
    assert_eq!(rig.end(&me, false, false), Err(ErrorCode::INVALID_TXN_STATE));
    assert_eq!(rig.add(&me, &[2]), ErrorCode::CONCURRENT_TRANSACTIONS);
    assert_eq!(rig.init(), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
    assert_eq!(rig.written(&marks, &[1]), ErrorCode::NONE);
    assert_eq!(rig.state(), "PrepareCommit");
    rig.pass(1_000);
    assert_eq!(rig.marks(), marks, "markers that are missing are asked for again");
    assert_eq!(rig.written(&marks, &[0]), ErrorCode::NONE);
    assert!(matches!(rig.markers[..], [TransactionEvent::Completed { .. }]));
    assert_eq!(rig.state(), "CompleteCommit");
    assert_eq!(rig.end(&me, true, false), Ok((1, 0)), "it comes again");
    assert_eq!(rig.end(&me, false, false), Err(ErrorCode::INVALID_TXN_STATE));
}

#[test]
fn what_comes_late_does_not_touch_a_later_transaction() {
    let mut rig = Rig::new();
    rig.init().unwrap();
    let me = by(1, 0);
    rig.add(&me, &[0]);
    rig.end(&me, true, false).unwrap();
    let first = rig.marks();
    rig.written(&first, &[0]);
    rig.add(&me, &[0]);
    assert_eq!(rig.written(&first, &[0]), ErrorCode::INVALID_TXN_STATE, "no end is under way");
    rig.end(&me, false, false).unwrap();
    let second = rig.marks();
    assert_ne!(first.1, second.1);
    assert_eq!(rig.written(&first, &[0]), ErrorCode::INVALID_TXN_STATE, "the same epoch, another transaction");
    assert_eq!(rig.state(), "PrepareAbort");
    assert_eq!(rig.written(&second, &[0]), ErrorCode::NONE);
}

#[test]
fn version_two_raises_the_epoch_with_every_end() {
    let mut rig = Rig::new();
    rig.init().unwrap();
    rig.add(&by(1, 0), &[0]);
    assert_eq!(rig.end(&by(1, 0), true, true), Ok((1, 1)));
    let marks = rig.marks();
    assert_eq!(marks.0, by(1, 1), "markers bear the raised epoch");
    assert_eq!(rig.end(&by(1, 0), true, true), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
    assert_eq!(rig.end(&by(1, 1), true, true), Err(ErrorCode::PRODUCER_FENCED));
    rig.written(&marks, &[0]);
    assert_eq!(rig.end(&by(1, 0), true, true), Ok((1, 1)), "it comes again");
    assert_eq!(rig.end(&by(1, 0), false, true), Err(ErrorCode::INVALID_TXN_STATE));
    assert_eq!(rig.add(&by(1, 0), &[0]), ErrorCode::PRODUCER_FENCED, "what was sent before the end");
    assert_eq!(rig.end(&by(1, 1), true, true), Err(ErrorCode::INVALID_TXN_STATE), "nothing is open");
    rig.add(&by(1, 1), &[0]);
    assert_eq!(rig.end(&by(1, 0), true, true), Err(ErrorCode::PRODUCER_FENCED), "a late end of the first");
    assert_eq!(rig.state(), "Ongoing");
    assert_eq!(rig.end(&by(1, 1), false, true), Ok((1, 2)));
    let marks = rig.marks();
    rig.written(&marks, &[0]);
    assert_eq!(rig.end(&by(1, 2), false, true), Ok((1, 3)), "an empty transaction may be aborted");
    assert_eq!(rig.state(), "CompleteAbort");
}

#[test]
fn an_epoch_that_runs_out_brings_a_new_producer_id() {
    let mut rig = Rig::new();
    rig.init().unwrap();
    for epoch in 0..i16::MAX - 1 {
        assert_eq!(rig.init(), Ok((1, epoch + 1)));
    }
    let last = by(1, i16::MAX - 1);
    rig.add(&last, &[0]);
    assert_eq!(rig.end(&last, true, true), Ok((2, 0)));
    let marks = rig.marks();
    assert_eq!(marks.0, by(1, i16::MAX));
    assert_eq!(rig.add(&by(2, 0), &[0]), ErrorCode::CONCURRENT_TRANSACTIONS);
    rig.written(&marks, &[0]);
    assert_eq!(rig.end(&last, true, true), Ok((2, 0)), "it comes again");
    assert_eq!(rig.add(&by(2, 0), &[0]), ErrorCode::NONE);
    assert_eq!(rig.add(&last, &[0]), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
}

#[test]
fn a_timeout_aborts_and_fences() {
    let mut rig = Rig::new();
    rig.init().unwrap();
    rig.add(&by(1, 0), &[0]);
    rig.pass(TIMEOUT_MS as u64 - 1);
    assert_eq!(rig.state(), "Ongoing");
    rig.pass(1);
    let marks = rig.marks();
    assert_eq!((&marks.0, marks.2), (&by(1, 1), false));
    assert_eq!(rig.end(&by(1, 0), true, false), Err(ErrorCode::PRODUCER_FENCED));
    rig.written(&marks, &[0]);
    assert_eq!(rig.init(), Ok((1, 2)));
}

#[test]
fn a_new_producer_aborts_what_is_open() {
    let mut rig = Rig::new();
    rig.init().unwrap();
    rig.add(&by(1, 0), &[0]);
    assert_eq!(rig.init(), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
    let marks = rig.marks();
    assert_eq!((&marks.0, marks.2), (&by(1, 1), false));
    assert_eq!(rig.init(), Err(ErrorCode::CONCURRENT_TRANSACTIONS));
    rig.written(&marks, &[0]);
    assert_eq!(rig.init(), Ok((1, 2)));
}

#[test]
fn a_new_leader_asks_for_markers_again() {
    let mut rig = Rig::new();
    rig.init().unwrap();
    rig.add(&by(1, 0), &[0]);
    rig.end(&by(1, 0), true, false).unwrap();
    let (transaction, number, commit) = rig.marks();
    rig.run(Command::Lead { config: CoordinatorConfig::default() });
    assert_eq!(rig.marks(), (transaction, number, commit));
    assert!(matches!(rig.ask(Query::PendingMarkers), Answer::Markers { events } if events == rig.markers));
    rig.run(Command::TopicsDeleted { topics: vec![("t".into(), Default::default())] });
    assert_eq!(rig.state(), "PrepareCommit", "a topic of that name made anew has its marker to come");
}

#[test]
fn verification_knows_the_open_transaction() {
    let mut rig = Rig::new();
    rig.init().unwrap();
    rig.add(&by(1, 0), &[0]);
    let query = |name| Query::VerifyPartitions { transaction: name, topics: parts(&[0, 1]) };
    let Answer::Verified { error: ErrorCode::NONE, topics, number: 1 } = rig.ask(query(by(1, 0))) else { panic!() };
    assert_eq!(topics[0].partitions, [(0, ErrorCode::NONE), (1, ErrorCode::TRANSACTION_ABORTABLE)]);
    assert!(matches!(rig.ask(query(by(1, 1))), Answer::Verified { error: ErrorCode::PRODUCER_FENCED, .. }));
    rig.end(&by(1, 0), true, false).unwrap();
    assert!(matches!(rig.ask(query(by(1, 0))), Answer::Verified { error: ErrorCode::CONCURRENT_TRANSACTIONS, .. }));
}

#[test]
fn offsets_wait_for_the_transaction() {
    for commits in [true, false] {
        let mut rig = Rig::new();
        rig.init().unwrap();
        let me = by(1, 0);
        rig.commit("", -1, "t", 3);
        assert_eq!(rig.commit_offsets(&me, 7, false), ErrorCode::INVALID_TXN_STATE, "the group is no part of it");
        let add = Command::AddOffsets { transaction: me.clone(), group_id: GROUP.into() };
        assert_eq!(rig.run(add), Reply::Error { error: ErrorCode::NONE });
        assert_eq!(rig.commit_offsets(&me, 7, false), ErrorCode::NONE);
        assert_eq!(rig.offset("t", true), (-1, ErrorCode::UNSTABLE_OFFSET_COMMIT));
        assert_eq!(rig.offset("t", false), (3, ErrorCode::NONE));
        assert!(rig.end(&me, commits, false).is_ok());
        assert_eq!(rig.offset("t", true), (if commits { 7 } else { 3 }, ErrorCode::NONE));
        assert_eq!(rig.state(), if commits { "CompleteCommit" } else { "CompleteAbort" });
        assert_eq!(rig.commit_offsets(&me, 9, false), ErrorCode::INVALID_TXN_STATE, "it comes late");
    }
}

#[test]
fn offsets_of_version_two_bring_the_group_along() {
    let mut rig = Rig::new();
    rig.init().unwrap();
    assert_eq!(rig.commit_offsets(&by(1, 0), 7, true), ErrorCode::NONE);
    rig.commit("", -1, "t", 8);
    assert_eq!(rig.end(&by(1, 0), true, true), Ok((1, 1)));
    assert_eq!(rig.offset("t", true), (8, ErrorCode::NONE), "a commit behind it stays");
    assert_eq!(rig.commit_offsets(&by(1, 0), 9, true), ErrorCode::PRODUCER_FENCED);
    assert_eq!(rig.offset("t", true), (8, ErrorCode::NONE));
}

#[test]
fn ids_that_nobody_uses_go_but_not_with_an_open_transaction() {
    let mut rig = Rig::new();
    rig.init().unwrap();
    rig.add(&by(1, 0), &[0]);
    rig.end(&by(1, 0), true, false).unwrap();
    let marks = rig.marks();
    rig.pass(8 * 86_400_000);
    assert_eq!(rig.state(), "PrepareCommit");
    rig.written(&marks, &[0]);
    rig.pass(8 * 86_400_000);
    assert_eq!(rig.state(), "Dead");
    assert_eq!(rig.add(&by(1, 0), &[0]), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    assert_eq!(rig.init(), Ok((2, 0)));
}

#[test]
fn lists_are_filtered() {
    let mut rig = Rig::new();
    rig.init().unwrap();
    rig.add(&by(1, 0), &[0]);
    let now = rig.time + 100;
    let mut list = |states: &[&str], producer_ids: &[i64], duration_ms| {
        let states = states.iter().map(|state| (*state).to_owned()).collect();
        let producer_ids = producer_ids.to_vec();
        match rig.ask(Query::ListTransactions { states, producer_ids, duration_ms, now }) {
            Answer::Transactions { rows, unknown_states } => (rows.len(), unknown_states.len()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&[], &[], -1), (1, 0));
    assert_eq!(list(&["Ongoing", "Odd"], &[1], 99), (1, 1));
    assert_eq!(list(&["Empty"], &[], -1), (0, 0));
    assert_eq!((list(&[], &[2], -1), list(&[], &[], 100)), ((0, 0), (0, 0)));
}

#[test]
fn a_transaction_has_so_many_partitions_and_no_more() {
    let mut rig = Rig::new();
    rig.init().unwrap();
    let many: Vec<i32> = (0..).take(TRANSACTION_PARTITION_COUNT_MAX + 1).collect();
    assert_eq!(rig.add(&by(1, 0), &many), ErrorCode::INVALID_REQUEST);
    assert_eq!(rig.add(&by(1, 0), &many[1..]), ErrorCode::NONE);
}
