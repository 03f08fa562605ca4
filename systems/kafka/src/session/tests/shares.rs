//! Share groups: records given out, settled, given back, and written into a dead-letter topic.

use bytes::Bytes;
use verity_types::ConnId;

use super::records::batch;
use super::rig::{PLAIN, Rig};
use crate::wire::message::*;
use crate::wire::{Batch, DECOMPRESSED_SIZE_MAX, ErrorCode, Request, Response, Uuid};

const GROUP: &str = "sharers";
const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
const RENEW: i8 = 4;
const TOPIC_RESOURCE: i8 = 2;
const GROUP_RESOURCE: i8 = 32;

fn configure(rig: &mut Rig, conn: ConnId, resource_type: i8, name: &str, settings: &[(&str, &str)]) {
    let set = |(key, value): &(&str, &str)| IncrementalAlterableConfig {
        name: (*key).into(),
        config_operation: 0,
        value: Some((*value).into()),
    };
    let configs = settings.iter().map(set).collect();
    let resource = IncrementalAlterConfigsResource { resource_type, resource_name: name.into(), configs };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let response = ask!(rig, conn, 1, IncrementalAlterConfigs, request);
    assert_eq!(response.responses[0].error_code, 0, "{:?}", response.responses[0].error_message);
}

fn produce(rig: &mut Rig, conn: ConnId, topic: &str, values: &[&str]) {
    let now = i64::try_from(rig.now().wall_ms().0).unwrap();
    let data = PartitionProduceData { index: 0, records: Some(batch(values, now)) };
    let topic_data = vec![TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() }];
    let request = ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data, transactional_id: None };
    let response = ask!(rig, conn, 9, Produce, request);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

fn beat(rig: &mut Rig, conn: ConnId, member: &str, member_epoch: i32) -> ShareGroupHeartbeatResponse {
    let request = ShareGroupHeartbeatRequest {
        group_id: GROUP.into(),
        member_id: member.into(),
        member_epoch,
        rack_id: None,
        subscribed_topic_names: (member_epoch == 0).then(|| vec!["t".to_owned()]),
    };
    ask!(rig, conn, 1, ShareGroupHeartbeat, request)
}

/// What one client does over one connection.
struct Member {
    conn: ConnId,
    name: &'static str,
    epoch: i32,
    topic: Uuid,
}

/// First and last offsets, and what to say of them.
type Said<'a> = &'a [(i64, i64, &'a [i8])];

fn says(said: Said<'_>) -> Vec<AcknowledgementBatch> {
    let batch = |(first_offset, last_offset, types): &(i64, i64, &[i8])| AcknowledgementBatch {
        first_offset: *first_offset,
        last_offset: *last_offset,
        acknowledge_types: types.to_vec(),
    };
    said.iter().map(batch).collect()
}

impl Member {
    fn join(rig: &mut Rig, name: &'static str, topic: Uuid) -> Self {
        let conn = rig.connect(PLAIN);
        let joined = beat(rig, conn, name, 0);
        assert_eq!((joined.error_code, joined.heartbeat_interval_ms), (0, 5_000));
        let assigned = joined.assignment.expect("who joins is told").topic_partitions;
        assert_eq!((assigned[0].topic_id, assigned[0].partitions.as_slice()), (topic, &[0][..]));
        Self { conn, name, epoch: 0, topic }
    }

    fn fetch_request(&mut self, said: Said<'_>, max_wait_ms: i32) -> ShareFetchRequest {
        let partition = ShareFetchPartition { partition_index: 0, acknowledgement_batches: says(said) };
        let topic = ShareFetchTopic { topic_id: self.topic, partitions: vec![partition] };
        let share_session_epoch = self.epoch;
        self.epoch += 1;
        ShareFetchRequest {
            group_id: Some(GROUP.into()),
            member_id: Some(self.name.into()),
            share_session_epoch,
            max_wait_ms,
            min_bytes: 1,
            max_bytes: 1 << 20,
            max_records: 500,
            batch_size: 500,
            topics: vec![topic],
            ..Default::default()
        }
    }

    fn take(&mut self, rig: &mut Rig, said: Said<'_>) -> Taken {
        let request = self.fetch_request(said, 0);
        taken(Some(rig.ask(self.conn, 2, &Request::ShareFetch(request))))
    }

    fn say(&mut self, rig: &mut Rig, said: Said<'_>) -> ErrorCode {
        let partition = AcknowledgePartition { partition_index: 0, acknowledgement_batches: says(said) };
        let topic = AcknowledgeTopic { topic_id: self.topic, partitions: vec![partition] };
        let request = ShareAcknowledgeRequest {
            group_id: Some(GROUP.into()),
            member_id: Some(self.name.into()),
            share_session_epoch: self.epoch,
            is_renew_ack: said.iter().any(|(_, _, types)| types.contains(&RENEW)),
            topics: vec![topic],
        };
        self.epoch += 1;
        let response = ask!(rig, self.conn, 2, ShareAcknowledge, request);
        assert_eq!((response.error_code, response.acquisition_lock_timeout_ms), (0, 30_000));
        ErrorCode(response.responses[0].partitions[0].error_code)
    }
}

/// Runs of offsets with the count of deliveries, and the values of all records that came.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    runs: Vec<(i64, i64, i16)>,
    values: Vec<String>,
    acknowledged: Vec<i16>,
}

/// A record's offset, value and headers.
type Seen = (i64, Option<String>, Vec<(String, String)>);

fn values(mut records: Bytes) -> Vec<Seen> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut all = Vec::new();
    while let Some(batch) = Batch::take(&mut records).unwrap() {
        let plain = batch.decompress(DECOMPRESSED_SIZE_MAX).unwrap();
        for record in batch.records(&plain) {
            let record = record.unwrap();
            let headers = record.headers.map(|(name, value)| (text(name), text(value.unwrap()))).collect();
            all.push((batch.header().base_offset + i64::from(record.offset_delta), record.value.map(text), headers));
        }
    }
    all
}

fn taken(response: Option<Response>) -> Taken {
    let Some(Response::ShareFetch(response)) = response else { panic!("{response:?}") };
    assert_eq!(response.error_code, 0);
    let mut taken = Taken::default();
    for data in response.responses.into_iter().flat_map(|topic| topic.partitions) {
        assert_eq!(data.error_code, 0);
        taken
            .runs
            .extend(data.acquired_records.iter().map(|run| (run.first_offset, run.last_offset, run.delivery_count)));
        taken.values.extend(values(data.records.unwrap_or_default()).into_iter().filter_map(|(_, value, _)| value));
        taken.acknowledged.push(data.acknowledge_error_code);
    }
    taken
}

fn earliest() -> (Rig, Uuid) {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    let topic = rig.create_topic("t", 1);
    configure(&mut rig, conn, GROUP_RESOURCE, GROUP, &[("share.auto.offset.reset", "earliest")]);
    (rig, topic)
}

#[test]
fn two_members_share_a_partition() {
    let (mut rig, topic) = earliest();
    let conn = rig.connect(PLAIN);
    produce(&mut rig, conn, "t", &["0", "1", "2"]);
    produce(&mut rig, conn, "t", &["3", "4"]);
    let mut a = Member::join(&mut rig, "a", topic);
    let mut b = Member::join(&mut rig, "b", topic);
    let first = a.take(&mut rig, &[]);
    assert_eq!((first.runs, first.values.len()), (vec![(0, 4, 1)], 5));
    assert_eq!(b.take(&mut rig, &[]), Taken { acknowledged: vec![0], ..Taken::default() }, "all of it is the other's");
    let request = b.fetch_request(&[], 10_000);
    rig.send(b.conn, 2, &Request::ShareFetch(request));
    assert!(rig.receive(b.conn).is_none(), "it waits");
    assert_eq!(a.say(&mut rig, &[(0, 2, &[ACCEPT]), (3, 3, &[RELEASE])]), ErrorCode::NONE);
    let released = taken(rig.receive(b.conn));
    assert_eq!(released.runs, [(3, 3, 2)], "what is given back goes to who waits");
    assert_eq!(a.say(&mut rig, &[(3, 3, &[ACCEPT])]), ErrorCode::INVALID_RECORD_STATE);
    let request = a.fetch_request(&[(4, 4, &[ACCEPT])], 10_000);
    rig.send(a.conn, 2, &Request::ShareFetch(request));
    assert!(rig.receive(a.conn).is_none());
    produce(&mut rig, conn, "t", &["5"]);
    let grown = taken(rig.receive(a.conn));
    assert_eq!((grown.runs, grown.acknowledged), (vec![(5, 5, 1)], vec![0]), "what is new wakes who waits");
    rig.disconnect(a.conn);
    assert_eq!(b.take(&mut rig, &[(3, 3, &[ACCEPT])]).runs, [(5, 5, 1)], "nobody has seen it");
}

#[test]
fn locks_end_and_are_renewed() {
    let (mut rig, topic) = earliest();
    let conn = rig.connect(PLAIN);
    produce(&mut rig, conn, "t", &["0", "1"]);
    let mut a = Member::join(&mut rig, "a", topic);
    assert_eq!(a.take(&mut rig, &[]).runs, [(0, 1, 1)]);
    rig.advance(20_000);
    assert_eq!(a.say(&mut rig, &[(0, 0, &[RENEW])]), ErrorCode::NONE);
    let request = a.fetch_request(&[], 15_000);
    rig.send(a.conn, 2, &Request::ShareFetch(request));
    rig.advance(9_900);
    assert!(rig.receive(a.conn).is_none(), "both are locked");
    rig.advance(200);
    assert_eq!(taken(rig.receive(a.conn)).runs, [(1, 1, 2)], "a lock that ends wakes who waits");
    assert_eq!(a.say(&mut rig, &[(0, 1, &[ACCEPT])]), ErrorCode::NONE);
}

#[test]
fn sessions_have_epochs_and_latest_is_the_default() {
    let mut rig = Rig::new();
    let topic = rig.create_topic("t", 1);
    let conn = rig.connect(PLAIN);
    produce(&mut rig, conn, "t", &["old"]);
    let mut a = Member::join(&mut rig, "a", topic);
    assert_eq!(a.take(&mut rig, &[]).runs, []);
    produce(&mut rig, conn, "t", &["new"]);
    assert_eq!(a.take(&mut rig, &[]).values, ["new"]);
    let refused = |rig: &mut Rig, request: ShareFetchRequest| {
        let response = ask!(rig, conn, 2, ShareFetch, request);
        ErrorCode(response.error_code)
    };
    let wrong = ShareFetchRequest { share_session_epoch: 9, ..a.fetch_request(&[], 0) };
    assert_eq!(refused(&mut rig, wrong), ErrorCode::INVALID_SHARE_SESSION_EPOCH);
    let other = ShareFetchRequest { member_id: Some("x".into()), ..a.fetch_request(&[], 0) };
    assert_eq!(refused(&mut rig, other), ErrorCode::SHARE_SESSION_NOT_FOUND);
    let early = ShareFetchRequest { share_session_epoch: 0, ..a.fetch_request(&[(1, 1, &[ACCEPT])], 0) };
    assert_eq!(refused(&mut rig, early), ErrorCode::INVALID_REQUEST);
    let nobody = ShareFetchRequest { group_id: None, ..a.fetch_request(&[], 0) };
    assert_eq!(refused(&mut rig, nobody), ErrorCode::INVALID_REQUEST);
    let unannounced = a.fetch_request(&[(1, 1, &[RENEW])], 0);
    assert_eq!(refused(&mut rig, unannounced), ErrorCode::INVALID_REQUEST);
    // The last request of a session gives back what is not settled.
    let last = ShareFetchRequest { share_session_epoch: -1, ..a.fetch_request(&[], 10_000) };
    assert_eq!(refused(&mut rig, last), ErrorCode::NONE);
    a.epoch = 0;
    assert_eq!(a.take(&mut rig, &[]).runs, [(1, 1, 1)]);
}

#[test]
fn a_rejected_record_is_written_to_the_dead_letter_topic() {
    let (mut rig, topic) = earliest();
    let conn = rig.connect(PLAIN);
    rig.create_topic("dlq.t", 1);
    configure(&mut rig, conn, TOPIC_RESOURCE, "dlq.t", &[("errors.deadletterqueue.group.enable", "true")]);
    let letters =
        [("errors.deadletterqueue.topic.name", "dlq.t"), ("errors.deadletterqueue.copy.record.enable", "true")];
    configure(&mut rig, conn, GROUP_RESOURCE, GROUP, &letters);
    produce(&mut rig, conn, "t", &["0", "1", "2"]);
    let mut a = Member::join(&mut rig, "a", topic);
    assert_eq!(a.take(&mut rig, &[]).runs, [(0, 2, 1)]);
    assert_eq!(a.say(&mut rig, &[(0, 2, &[ACCEPT, REJECT, ACCEPT])]), ErrorCode::NONE);
    rig.advance(10);
    let partition = FetchPartition { fetch_offset: 0, partition_max_bytes: 1 << 20, ..Default::default() };
    let topics = vec![FetchTopic { topic: "dlq.t".into(), partitions: vec![partition], ..Default::default() }];
    let response = ask!(rig, conn, 12, Fetch, FetchRequest { min_bytes: 0, topics, ..Default::default() });
    let letters = values(response.responses[0].partitions[0].records.clone().unwrap().read().unwrap());
    let headers = [
        ("__dlq.errors.topic", "t"),
        ("__dlq.errors.partition", "0"),
        ("__dlq.errors.offset", "1"),
        ("__dlq.errors.group", GROUP),
        ("__dlq.errors.delivery.count", "1"),
        ("__dlq.errors.message", "Offset rejected by client."),
    ];
    let headers: Vec<(String, String)> = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    assert_eq!(letters, [(0, Some("1".to_owned()), headers)]);
    assert_eq!(offsets(&mut rig, conn), (3, 0), "it is done with");
}

#[test]
fn dead_letter_topics_are_made_if_that_is_allowed_and_the_dead_are_let_go_if_not() {
    let (mut rig, topic) = earliest();
    let conn = rig.connect(PLAIN);
    configure(&mut rig, conn, GROUP_RESOURCE, GROUP, &[("errors.deadletterqueue.topic.name", "dlq.made")]);
    produce(&mut rig, conn, "t", &["0", "1"]);
    let mut a = Member::join(&mut rig, "a", topic);
    assert_eq!(a.take(&mut rig, &[]).runs, [(0, 1, 1)]);
    assert_eq!(a.say(&mut rig, &[(0, 0, &[REJECT])]), ErrorCode::NONE);
    assert_eq!(offsets(&mut rig, conn).0, 0, "it waits to be written");
    rig.advance(1_100);
    assert_eq!(offsets(&mut rig, conn).0, 1, "there is nowhere to write it");
    configure(&mut rig, conn, 4, "", &[("errors.deadletterqueue.auto.create.topics.enable", "true")]);
    assert_eq!(a.say(&mut rig, &[(1, 1, &[REJECT])]), ErrorCode::NONE);
    rig.advance(2_100);
    assert_eq!(offsets(&mut rig, conn).0, 2);
    let named = ListOffsetsPartition { partition_index: 0, timestamp: -1, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: "dlq.made".into(), partitions: vec![named] }];
    let ends = ask!(rig, conn, 7, ListOffsets, ListOffsetsRequest { topics, replica_id: -1, ..Default::default() });
    assert_eq!(ends.topics[0].partitions[0].offset, 1);
}

/// Where the group stands in the partition, and its lag.
fn offsets(rig: &mut Rig, conn: ConnId) -> (i64, i64) {
    let topic = DescribeShareGroupOffsetsRequestTopic { topic_name: "t".into(), partitions: vec![0] };
    let group = DescribeShareGroupOffsetsRequestGroup { group_id: GROUP.into(), topics: Some(vec![topic]) };
    let request = DescribeShareGroupOffsetsRequest { groups: vec![group] };
    let response = ask!(rig, conn, 1, DescribeShareGroupOffsets, request);
    let row = &response.groups[0].topics[0].partitions[0];
    (row.start_offset, row.lag)
}

#[test]
fn administrators_see_groups_and_move_them() {
    let (mut rig, topic) = earliest();
    let conn = rig.connect(PLAIN);
    produce(&mut rig, conn, "t", &["0", "1", "2"]);
    assert_eq!(offsets(&mut rig, conn), (-1, -1));
    let mut a = Member::join(&mut rig, "a", topic);
    a.take(&mut rig, &[]);
    assert_eq!(offsets(&mut rig, conn), (0, 3));
    assert_eq!(a.say(&mut rig, &[(1, 1, &[ACCEPT])]), ErrorCode::NONE);
    assert_eq!(offsets(&mut rig, conn), (0, 2));
    let request = ShareGroupDescribeRequest { group_ids: vec![GROUP.into()], include_authorized_operations: false };
    let described = ask!(rig, conn, 1, ShareGroupDescribe, request).groups.remove(0);
    assert_eq!((described.group_state.as_str(), described.assignor_name.as_str()), ("Stable", "simple"));
    assert_eq!(described.members[0].assignment.topic_partitions[0].topic_name, "t");
    let alter = || {
        let partition = AlterShareGroupOffsetsRequestPartition { partition_index: 0, start_offset: 2 };
        let topic = AlterShareGroupOffsetsRequestTopic { topic_name: "t".into(), partitions: vec![partition] };
        AlterShareGroupOffsetsRequest { group_id: GROUP.into(), topics: vec![topic] }
    };
    let delete = || {
        let topics = vec![DeleteShareGroupOffsetsRequestTopic { topic_name: "t".into() }];
        DeleteShareGroupOffsetsRequest { group_id: GROUP.into(), topics }
    };
    assert_eq!(ask!(rig, conn, 0, AlterShareGroupOffsets, alter()).error_code, ErrorCode::NON_EMPTY_GROUP.0);
    assert_eq!(ask!(rig, conn, 0, DeleteShareGroupOffsets, delete()).error_code, ErrorCode::NON_EMPTY_GROUP.0);
    assert_eq!(beat(&mut rig, conn, "a", -1).member_epoch, -1);
    assert_eq!(ask!(rig, conn, 0, AlterShareGroupOffsets, alter()).error_code, 0);
    assert_eq!(offsets(&mut rig, conn), (2, 1));
    let mut b = Member::join(&mut rig, "b", topic);
    assert_eq!(b.take(&mut rig, &[]).runs, [(2, 2, 1)]);
    beat(&mut rig, conn, "b", -1);
    assert_eq!(ask!(rig, conn, 0, DeleteShareGroupOffsets, delete()).error_code, 0);
    assert_eq!(offsets(&mut rig, conn).0, -1);
    let listed = ask!(rig, conn, 5, ListGroups, ListGroupsRequest::default());
    assert_eq!((listed.groups[0].group_type.as_str(), listed.groups[0].group_state.as_str()), ("share", "Empty"));
    let gone = ask!(rig, conn, 2, DeleteGroups, DeleteGroupsRequest { groups_names: vec![GROUP.into()] });
    assert_eq!(gone.results[0].error_code, 0);
}
