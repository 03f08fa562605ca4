//! Batches in and out: offsets, waits, epochs, bad batches.

use std::sync::Arc;

use bytes::Bytes;
use verity_types::{ConnId, Nanos};

use super::rig::{CLUSTER, PLAIN, Rig, config};
use crate::machine::cluster::{CONSUMER_BYTE_RATE, Command, Limit, PRODUCER_BYTE_RATE, QuotaOp};
use crate::session::{Config, Meter, RequestKind};
use crate::wire::message::{
    FetchPartition, FetchPartitionData, FetchRequest, FetchTopic, ListOffsetsPartition, ListOffsetsRequest,
    ListOffsetsTopic, MetadataRequest, MetadataRequestTopic, PartitionProduceData, PartitionProduceResponse,
    ProduceRequest, TopicProduceData,
};
use crate::wire::{BatchBuilder, Blob, Codec, ErrorCode, Request, Response};

/// A batch of records with these values.
pub(crate) fn batch(values: &[&str], now_ms: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for value in values {
        builder.push(now_ms, None, Some(value.as_bytes()), &[]);
    }
    builder.build().freeze()
}

fn create(rig: &mut Rig, conn: ConnId) {
    let topic = MetadataRequestTopic { name: Some("t".into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    let Response::Metadata(response) = rig.ask(conn, 12, &Request::Metadata(request)) else { panic!() };
    assert_eq!(response.topics[0].error_code, 0);
}

fn produce_request(acks: i16, index: i32, records: Bytes) -> Request {
    let data = PartitionProduceData { index, records: Some(records) };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
    Request::Produce(ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![topic], transactional_id: None })
}

fn produced(response: Option<Response>) -> PartitionProduceResponse {
    let Some(Response::Produce(mut response)) = response else { panic!("{response:?}") };
    response.responses.remove(0).partition_responses.remove(0)
}

fn fetch_request(offset: i64, min_bytes: i32, max_wait_ms: i32) -> Request {
    let partition = FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: "t".into(), partitions: vec![partition], ..Default::default() };
    Request::Fetch(FetchRequest { max_wait_ms, min_bytes, topics: vec![topic], ..Default::default() })
}

fn fetched(response: Option<Response>) -> FetchPartitionData {
    let Some(Response::Fetch(mut response)) = response else { panic!("{response:?}") };
    response.responses.remove(0).partitions.remove(0)
}

fn now(rig: &Rig) -> i64 {
    i64::try_from(rig.now().wall_ms().0).unwrap()
}

#[test]
fn many_bytes_leave_from_their_file() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn);
    let text = "x".repeat(20_000);
    let sent = batch(&[&text], now(&rig));
    produced(Some(rig.ask(conn, 9, &produce_request(-1, 0, sent.clone()))));
    let data = fetched(Some(rig.ask(conn, 12, &fetch_request(0, 1, 0))));
    assert_eq!(rig.from_files, 1);
    let records = data.records.expect("there are some").read().unwrap();
    assert_eq!(records[crate::wire::BATCH_PREFIX_SIZE + 9..], sent[crate::wire::BATCH_PREFIX_SIZE + 9..]);
}

#[test]
fn what_is_produced_is_fetched() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn);
    let (first, second) = (batch(&["a", "b"], now(&rig)), batch(&["c"], now(&rig)));
    for (records, offset) in [(first.clone(), 0), (second, 2)] {
        let answer = produced(Some(rig.ask(conn, 9, &produce_request(-1, 0, records))));
        assert_eq!((answer.error_code, answer.base_offset), (0, offset));
    }
    let data = fetched(Some(rig.ask(conn, 12, &fetch_request(0, 1, 0))));
    assert_eq!((data.error_code, data.high_watermark, data.last_stable_offset), (0, 3, 3));
    let records = data.records.expect("there are some").read().unwrap();
    assert_eq!(rig.from_files, 0, "few bytes are read at once");
    assert_eq!(records[crate::wire::BATCH_PREFIX_SIZE + 9..first.len()], first[crate::wire::BATCH_PREFIX_SIZE + 9..]);
    let beyond = fetched(Some(rig.ask(conn, 12, &fetch_request(4, 1, 0))));
    assert_eq!(beyond.error_code, ErrorCode::OFFSET_OUT_OF_RANGE.0);
}

/// Notes what it is told.
#[derive(Debug, Default)]
struct Told(std::sync::Mutex<Vec<String>>);

impl Told {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Meter for Told {
    fn answered(&self, kind: RequestKind, took: Nanos) {
        self.note(format!("{kind:?} {} ms", took.0 / 1_000_000));
    }

    fn received(&self, records: u64, bytes: u64) {
        self.note(format!("received {records} in {bytes}"));
    }

    fn sent(&self, records: u64, bytes: u64) {
        self.note(format!("sent {records} in {bytes}"));
    }

    fn connected(&self, count: usize) {
        self.note(format!("connected {count}"));
    }
}

#[test]
fn the_meter_is_told_of_records_and_of_time() {
    let told = Arc::<Told>::default();
    let mut rig = Rig::with(Config { meter: Some(told.clone()), ..config() });
    let conn = rig.connect(PLAIN);
    assert_eq!(told.take(), ["connected 1"]);
    create(&mut rig, conn);
    told.take();
    let records = batch(&["a", "b"], now(&rig));
    let size = records.len();
    rig.ask(conn, 9, &produce_request(-1, 0, records.clone()));
    assert_eq!(told.take(), [format!("received 2 in {size}"), "Produce 0 ms".to_owned()]);
    rig.ask(conn, 9, &produce_request(-1, 9, records));
    assert_eq!(told.take(), ["Produce 0 ms"], "what was refused brought no records");
    rig.ask(conn, 12, &fetch_request(0, 1, 0));
    assert_eq!(told.take(), [format!("sent 2 in {size}"), "Fetch 0 ms".to_owned()]);
    rig.send(conn, 12, &fetch_request(2, 1, 500));
    rig.advance(501);
    assert!(matches!(&told.take()[..], [waited] if waited.starts_with("Fetch 50")), "a fetch that waited");
}

#[test]
fn requests_overlap_and_answers_keep_their_order() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn);
    rig.stalled = true;
    let records = batch(&["a"], now(&rig));
    for _ in 0..3 {
        rig.send(conn, 9, &produce_request(1, 0, records.clone()));
    }
    assert!(rig.receive(conn).is_none(), "nothing is applied yet");
    rig.release();
    let offsets: Vec<i64> = (0..3).map(|_| produced(rig.receive(conn)).base_offset).collect();
    assert_eq!(offsets, [0, 1, 2]);
}

#[test]
fn a_fetch_waits_for_bytes_or_for_its_time() {
    let mut rig = Rig::new();
    let (consumer, producer) = (rig.connect(PLAIN), rig.connect(PLAIN));
    create(&mut rig, producer);
    rig.send(consumer, 12, &fetch_request(0, 1, 500));
    rig.advance(400);
    assert!(rig.receive(consumer).is_none());
    rig.advance(101);
    assert_eq!(fetched(rig.receive(consumer)).records, Some(Blob::default()));
    rig.send(consumer, 12, &fetch_request(0, 1, 500));
    let records = batch(&["a"], now(&rig));
    rig.ask(producer, 9, &produce_request(1, 0, records.clone()));
    assert_eq!(fetched(rig.receive(consumer)).records.map(|records| records.len()), Some(records.len()));
}

#[test]
fn bad_batches_are_refused_and_the_connection_stays() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn);
    let good = batch(&["a"], now(&rig));
    let mut flipped = good.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    for (records, index, error) in [
        (Bytes::from(flipped), 0, ErrorCode::CORRUPT_MESSAGE),
        (good.slice(..20), 0, ErrorCode::INVALID_RECORD),
        (Bytes::new(), 0, ErrorCode::INVALID_RECORD),
        (good.clone(), 7, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    ] {
        let answer = produced(Some(rig.ask(conn, 9, &produce_request(1, index, records))));
        assert_eq!(ErrorCode(answer.error_code), error);
    }
    let answer = produced(Some(rig.ask(conn, 9, &produce_request(7, 0, good.clone()))));
    assert_eq!(ErrorCode(answer.error_code), ErrorCode::INVALID_REQUIRED_ACKS);
    rig.send(conn, 9, &produce_request(0, 0, good));
    assert!(rig.receive(conn).is_none() && !rig.is_closed(conn), "acks=0 is not answered");
    rig.send(conn, 9, &produce_request(0, 0, Bytes::new()));
    assert!(rig.is_closed(conn), "that is how a producer without answers learns of an error");
}

#[test]
fn a_batch_of_a_transaction_needs_a_request_that_names_it() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn);
    let mut builder = BatchBuilder::new(Codec::None).producer(7, 0, 0).transactional();
    builder.push(now(&rig), None, Some(b"x"), &[]);
    let answer = produced(Some(rig.ask(conn, 9, &produce_request(-1, 0, builder.build().freeze()))));
    assert_eq!(ErrorCode(answer.error_code), ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
}

#[test]
fn bytes_above_a_quota_cost_time() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn);
    for key in [PRODUCER_BYTE_RATE, CONSUMER_BYTE_RATE] {
        let ops = vec![QuotaOp { key: key.into(), value: Some(Limit(1.0)) }];
        let entity = vec![("client-id".to_owned(), None)];
        rig.order(CLUSTER, Command::AlterQuota { entity, ops, validate_only: false }.encode());
    }
    let records = batch(&["a record of some length"], now(&rig));
    let Response::Produce(produced) = rig.ask(conn, 9, &produce_request(-1, 0, records)) else { panic!() };
    assert!(produced.throttle_time_ms > 0);
    let Response::Fetch(fetched) = rig.ask(conn, 12, &fetch_request(0, 1, 0)) else { panic!() };
    assert!(fetched.throttle_time_ms > 0);
}

#[test]
fn a_fetch_ends_with_its_connection() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn);
    rig.send(conn, 12, &fetch_request(0, 1, 600_000));
    let before = rig.tasks();
    rig.disconnect(conn);
    assert_eq!(rig.tasks(), before - 1, "nobody is left to be answered");
}

#[test]
fn offsets_by_time() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn);
    let begin = now(&rig);
    for at in 0..3 {
        let records = batch(&["x"], begin + at * 10);
        rig.ask(conn, 9, &produce_request(1, 0, records));
    }
    for (timestamp, offset) in [(-1, 3), (-2, 0), (-3, 2), (begin + 5, 1), (begin + 99, -1)] {
        let partition = ListOffsetsPartition { partition_index: 0, current_leader_epoch: -1, timestamp };
        let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
        let request = ListOffsetsRequest { topics: vec![topic], ..Default::default() };
        let Response::ListOffsets(response) = rig.ask(conn, 8, &Request::ListOffsets(request)) else { panic!() };
        assert_eq!(response.topics[0].partitions[0].offset, offset, "at {timestamp}");
    }
}
