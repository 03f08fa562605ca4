//! Transactions: from the producer's id to the markers in the partition.

use verity_types::{ConnId, GroupId};

use super::groups::ask;
use super::rig::{CLUSTER, COORDINATOR, PLAIN, Rig};
use crate::machine::cluster;
use crate::machine::partition::{Command, Fetched, Query, Wanted};
use crate::wire::message::*;
use crate::wire::{BatchBuilder, Batches, Codec, ErrorCode, Request, Response, Uuid};

const ID: &str = "payments";

/// A producer, and the partition that it writes to.
struct Producer {
    rig: Rig,
    conn: ConnId,
    id: i64,
    epoch: i16,
    sequence: i32,
}

impl Producer {
    fn new() -> Self {
        let mut rig = Rig::new();
        rig.create_topic("orders", 2);
        let conn = rig.connect(PLAIN);
        let mut producer = Self { rig, conn, id: -1, epoch: -1, sequence: 0 };
        assert_eq!(producer.init(), 0);
        producer
    }

    fn init(&mut self) -> i16 {
        let request = InitProducerIdRequest {
            transactional_id: Some(ID.into()),
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        let answer = ask!(self.rig, self.conn, 5, InitProducerId(request));
        if answer.error_code == 0 {
            (self.id, self.epoch, self.sequence) = (answer.producer_id, answer.producer_epoch, 0);
        }
        answer.error_code
    }

    fn add(&mut self, version: i16, partitions: &[i32]) -> Vec<i16> {
        let topic = AddPartitionsToTxnTopic { name: "orders".into(), partitions: partitions.to_vec() };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: ID.into(),
            v3_and_below_producer_id: self.id,
            v3_and_below_producer_epoch: self.epoch,
            v3_and_below_topics: vec![topic],
            ..Default::default()
        };
        let answer = ask!(self.rig, self.conn, version, AddPartitionsToTxn(request));
        let topics = answer.results_by_topic_v3_and_below.iter();
        topics.flat_map(|topic| &topic.results_by_partition).map(|row| row.partition_error_code).collect()
    }

    fn group(&self) -> GroupId {
        self.rig.group_of("orders", 0)
    }

    fn write(&mut self) {
        let mut batch = BatchBuilder::new(Codec::None).producer(self.id, self.epoch, self.sequence).transactional();
        batch.push(1_767_225_600_000, None, Some(b"paid"), &[]);
        let batch = batch.build();
        self.sequence += 1;
        let group = self.group();
        self.rig.order(group, Command::Append { epoch: 1, guard: None, batch: batch.freeze() }.encode());
    }

    fn end(&mut self, version: i16, committed: bool) -> EndTxnResponse {
        let request =
            EndTxnRequest { transactional_id: ID.into(), producer_id: self.id, producer_epoch: self.epoch, committed };
        let answer = ask!(self.rig, self.conn, version, EndTxn(request));
        if version >= 5 && answer.error_code == 0 {
            (self.id, self.epoch, self.sequence) = (answer.producer_id, answer.producer_epoch, 0);
        }
        answer
    }

    /// What those who read what is committed find.
    fn fetch(&mut self) -> Fetched {
        let group = self.group();
        let wanted = Wanted { offset: 0, max_bytes: 1 << 20, min_one: true, committed: true, in_place: false };
        let query = Query::Fetch(wanted);
        Fetched::decode(self.rig.query(group, &query.encode())).expect("partitions answer")
    }

    fn state(&mut self) -> String {
        let request = DescribeTransactionsRequest { transactional_ids: vec![ID.into()] };
        let answer = ask!(self.rig, self.conn, 0, DescribeTransactions(request));
        answer.transaction_states[0].transaction_state.clone()
    }
}

#[test]
fn a_transaction_that_commits_has_its_marker() {
    for version in [4, 5] {
        let mut producer = Producer::new();
        assert_eq!(producer.add(3, &[0]), [0]);
        producer.write();
        assert_eq!(producer.state(), "Ongoing");
        assert_eq!((producer.fetch().high_watermark, producer.fetch().last_stable), (1, 0));
        let epoch = producer.epoch;
        assert_eq!(producer.end(version, true).error_code, 0);
        let found = producer.fetch();
        assert_eq!((found.high_watermark, found.last_stable, found.aborted.len()), (2, 2, 0));
        let control = |batch: &crate::wire::Batch| batch.header().attributes.is_control();
        let last = Batches::new(found.records.read().unwrap())
            .map(|batch| batch.expect("whole batches"))
            .last()
            .expect("the marker");
        assert!(control(&last));
        assert_eq!(producer.state(), "CompleteCommit");
        assert_eq!(producer.epoch, if version == 5 { epoch + 1 } else { epoch }, "KIP-890");
        assert_eq!(producer.add(3, &[0, 1]), [0, 0], "the next transaction");
    }
}

#[test]
fn a_transaction_that_aborts_is_told_to_readers() {
    let mut producer = Producer::new();
    producer.add(3, &[0]);
    producer.write();
    let id = producer.id;
    assert_eq!(producer.end(4, false).error_code, 0);
    let found = producer.fetch();
    assert_eq!((found.last_stable, found.aborted), (2, vec![(id, 0)]));
    assert_eq!(producer.state(), "CompleteAbort");
}

#[test]
fn the_next_life_of_a_producer_fences_the_one_before() {
    let mut producer = Producer::new();
    producer.add(3, &[0]);
    producer.write();
    let (id, epoch) = (producer.id, producer.epoch);
    assert_eq!(producer.init(), ErrorCode::CONCURRENT_TRANSACTIONS.0, "the open transaction is aborted first");
    assert_eq!(producer.init(), 0);
    assert!(producer.epoch > epoch);
    assert_eq!(producer.fetch().aborted, [(id, 0)]);
    (producer.id, producer.epoch) = (id, epoch);
    assert_eq!(producer.add(3, &[0]), [ErrorCode::PRODUCER_FENCED.0]);
    assert_eq!(producer.add(1, &[0]), [ErrorCode::INVALID_PRODUCER_EPOCH.0], "as old clients know it");
    assert_eq!(producer.end(1, true).error_code, ErrorCode::INVALID_PRODUCER_EPOCH.0);
    assert_eq!(producer.end(4, true).error_code, ErrorCode::PRODUCER_FENCED.0);
}

#[test]
fn all_partitions_are_added_or_none() {
    let mut producer = Producer::new();
    assert_eq!(
        producer.add(3, &[0, 9]),
        [ErrorCode::OPERATION_NOT_ATTEMPTED.0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0]
    );
    assert_eq!(producer.state(), "Empty");
}

#[test]
fn nodes_verify_before_they_append() {
    let mut producer = Producer::new();
    producer.add(3, &[0]);
    for (version, error) in [(4, ErrorCode::INVALID_TXN_STATE), (5, ErrorCode::TRANSACTION_ABORTABLE)] {
        let one = AddPartitionsToTxnTransaction {
            transactional_id: ID.into(),
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            verify_only: true,
            topics: vec![AddPartitionsToTxnTopic { name: "orders".into(), partitions: vec![0, 1] }],
        };
        let request = AddPartitionsToTxnRequest { transactions: vec![one], ..Default::default() };
        let answer = ask!(producer.rig, producer.conn, version, AddPartitionsToTxn(request));
        let rows = &answer.results_by_transaction[0].topic_results[0].results_by_partition;
        let errors: Vec<i16> = rows.iter().map(|row| row.partition_error_code).collect();
        assert_eq!(errors, [0, error.0]);
    }
}

#[test]
fn offsets_are_committed_with_their_transaction() {
    for (version, commit) in [(3, true), (5, true), (3, false)] {
        let mut producer = Producer::new();
        let (id, epoch) = (producer.id, producer.epoch);
        if version < 5 {
            let request = AddOffsetsToTxnRequest {
                transactional_id: ID.into(),
                producer_id: id,
                producer_epoch: epoch,
                group_id: "readers".into(),
            };
            assert_eq!(ask!(producer.rig, producer.conn, 4, AddOffsetsToTxn(request)).error_code, 0);
        }
        let row = TxnOffsetCommitRequestPartition { committed_offset: 5, ..Default::default() };
        let request = TxnOffsetCommitRequest {
            transactional_id: ID.into(),
            group_id: "readers".into(),
            producer_id: id,
            producer_epoch: epoch,
            topics: vec![TxnOffsetCommitRequestTopic { name: "orders".into(), partitions: vec![row] }],
            ..Default::default()
        };
        let answer = ask!(producer.rig, producer.conn, version, TxnOffsetCommit(request));
        assert_eq!(answer.topics[0].partitions[0].error_code, 0);
        let topic = OffsetFetchRequestTopic { name: "orders".into(), partition_indexes: vec![0] };
        let fetch = OffsetFetchRequest {
            group_id: "readers".into(),
            topics: Some(vec![topic]),
            require_stable: true,
            ..Default::default()
        };
        let waits = ask!(producer.rig, producer.conn, 7, OffsetFetch(fetch.clone()));
        assert_eq!(waits.topics[0].partitions[0].error_code, ErrorCode::UNSTABLE_OFFSET_COMMIT.0);
        assert_eq!(producer.end(version.max(4), commit).error_code, 0);
        let found = ask!(producer.rig, producer.conn, 7, OffsetFetch(fetch));
        assert_eq!(found.topics[0].partitions[0].committed_offset, if commit { 5 } else { -1 });
    }
}

#[test]
fn a_marker_that_could_not_be_written_is_written_by_the_next_leader() {
    let mut producer = Producer::new();
    producer.add(3, &[0]);
    producer.write();
    let group = producer.group();
    producer.rig.depose(group);
    assert_eq!(producer.end(4, true).error_code, 0);
    assert_eq!((producer.state().as_str(), producer.fetch().high_watermark), ("PrepareCommit", 1));
    producer.rig.elect(group);
    assert_eq!((producer.state().as_str(), producer.fetch().last_stable), ("CompleteCommit", 2));
}

#[test]
fn a_topic_that_is_gone_needs_no_markers() {
    let mut producer = Producer::new();
    producer.add(3, &[0]);
    producer.rig.order(CLUSTER, cluster::Command::DeleteTopic { name: Some("orders".into()), id: Uuid::ZERO }.encode());
    assert_eq!(producer.end(4, true).error_code, 0);
    assert_eq!(producer.state(), "CompleteCommit");
}

#[test]
fn a_transaction_that_is_left_open_is_aborted_in_the_end() {
    let mut producer = Producer::new();
    producer.add(3, &[0]);
    producer.write();
    producer.rig.advance(61_000);
    assert_eq!((producer.state().as_str(), producer.fetch().aborted.len()), ("CompleteAbort", 1));
}

#[test]
fn transactions_and_producers_can_be_looked_at() {
    let mut producer = Producer::new();
    producer.add(3, &[0]);
    producer.write();
    let list = |rig: &mut Rig, conn, pattern: &str| {
        let request = ListTransactionsRequest { transactional_id_pattern: Some(pattern.into()), ..Default::default() };
        ask!(rig, conn, 2, ListTransactions(request))
    };
    let (rig, conn) = (&mut producer.rig, producer.conn);
    assert_eq!(list(rig, conn, "pay.*").transaction_states[0].transaction_state, "Ongoing");
    assert_eq!(list(rig, conn, "pay").transaction_states.len(), 0);
    assert_eq!(list(rig, conn, "(").error_code, ErrorCode::INVALID_REGULAR_EXPRESSION.0);
    let topic = DescribeProducersTopicRequest { name: "orders".into(), partition_indexes: vec![0, 1, 2] };
    let answer = ask!(rig, conn, 0, DescribeProducers(DescribeProducersRequest { topics: vec![topic] }));
    let rows = &answer.topics[0].partitions;
    let one = &rows[0].active_producers[0];
    assert_eq!((one.producer_id, one.last_sequence, one.current_txn_start_offset), (producer.id, 0, 0));
    assert_eq!(rows[1].active_producers.len(), 0);
    assert_eq!(rows[2].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
    rig.depose(COORDINATOR);
    assert_eq!(list(rig, conn, "").error_code, 0);
    let anybody = InitProducerIdRequest { transaction_timeout_ms: 1, ..Default::default() };
    assert_eq!(ask!(rig, conn, 4, InitProducerId(anybody)).error_code, 0, "any node gives ids");
    assert_eq!(producer.init(), ErrorCode::NOT_COORDINATOR.0);
}
