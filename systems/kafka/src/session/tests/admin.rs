//! Topics that come, grow and go.

use std::collections::BTreeSet;

use verity_types::{ConnId, GroupId};

use super::rig::{PLAIN, Rig, config};
use crate::machine::cluster::PARTITIONS;
use crate::machine::partition;
use crate::wire::message::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicResult, CreatePartitionsRequest,
    CreatePartitionsTopic, CreateTopicsRequest, DeletableTopicResult, DeleteRecordsPartition, DeleteRecordsRequest,
    DeleteRecordsTopic, DeleteTopicState, DeleteTopicsRequest, FeatureUpdateKey, MetadataRequest,
    UpdateFeaturesRequest,
};
use crate::wire::{BatchBuilder, Codec, ErrorCode, Uuid};

pub(super) fn topic(name: &str, num_partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic { name: name.into(), num_partitions, replication_factor, ..Default::default() }
}

pub(super) fn create(rig: &mut Rig, conn: ConnId, topics: Vec<CreatableTopic>) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest { topics, ..Default::default() };
    ask!(rig, conn, 7, CreateTopics, request).topics
}

fn codes(results: &[CreatableTopicResult]) -> Vec<(&str, ErrorCode)> {
    results.iter().map(|result| (result.name.as_str(), ErrorCode(result.error_code))).collect()
}

fn topic_names(rig: &mut Rig, conn: ConnId) -> Vec<String> {
    let response = ask!(rig, conn, 12, Metadata, MetadataRequest { topics: None, ..Default::default() });
    response.topics.into_iter().filter_map(|topic| topic.name).collect()
}

#[test]
fn a_topic_is_created_as_it_is_wanted() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    let mut wanted = topic("orders", 3, 1);
    wanted.configs = vec![CreatableTopicConfig { name: "retention.ms".into(), value: Some("1000".into()) }];
    let results = create(&mut rig, conn, vec![wanted]);
    let result = &results[0];
    assert_eq!((result.error_code, result.num_partitions, result.replication_factor), (0, 3, 1));
    assert!(!result.topic_id.is_zero());
    let configs = result.configs.as_ref().unwrap();
    let retention = configs.iter().find(|config| config.name == "retention.ms").unwrap();
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("1000"), 1));
    let response = ask!(rig, conn, 12, Metadata, MetadataRequest { topics: None, ..Default::default() });
    assert_eq!(response.topics[0].topic_id, result.topic_id);
    assert!(response.topics[0].partitions.iter().all(|partition| partition.leader_id == 1), "it is led at once");
}

#[test]
fn each_topic_that_cannot_be_created_says_why() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    assert_eq!(codes(&create(&mut rig, conn, vec![topic("there", 1, 1)])), [("there", ErrorCode::NONE)]);
    let mut assigned = topic("assigned", -1, -1);
    assigned.assignments = vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![7] }];
    let mut configured = topic("configured", 1, 1);
    configured.configs = vec![CreatableTopicConfig { name: "no.such.key".into(), value: Some("1".into()) }];
    let topics = vec![
        topic("there", 1, 1),
        topic("twice", 1, 1),
        topic("twice", 2, 1),
        topic("bad name", 1, 1),
        topic("none", 0, 1),
        topic("many", 1, 3),
        topic("__consumer_offsets", 1, 1),
        assigned,
        configured,
        topic("good", -1, -1),
    ];
    let results = create(&mut rig, conn, topics);
    assert_eq!(
        codes(&results),
        [
            ("there", ErrorCode::TOPIC_ALREADY_EXISTS),
            ("twice", ErrorCode::INVALID_REQUEST),
            ("bad name", ErrorCode::INVALID_TOPIC_EXCEPTION),
            ("none", ErrorCode::INVALID_PARTITIONS),
            ("many", ErrorCode::INVALID_REPLICATION_FACTOR),
            ("__consumer_offsets", ErrorCode::INVALID_REQUEST),
            ("assigned", ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            ("configured", ErrorCode::INVALID_CONFIG),
            ("good", ErrorCode::NONE),
        ]
    );
    assert_eq!(results[0].error_message.as_deref(), Some("Topic 'there' already exists."));
    assert_eq!(results[1].error_message.as_deref(), Some("Duplicate topic name."));
    assert_eq!(topic_names(&mut rig, conn), ["good", "there"]);
}

#[test]
fn what_is_only_validated_is_not_there() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    let request = CreateTopicsRequest { topics: vec![topic("a", 2, 1)], validate_only: true, ..Default::default() };
    for version in [2, 4, 5, 7] {
        let response = ask!(rig, conn, version, CreateTopics, request.clone());
        assert_eq!(response.topics[0].error_code, 0, "{version}");
    }
    assert!(topic_names(&mut rig, conn).is_empty());
}

#[test]
fn a_client_is_told_when_the_controller_does_not_answer() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    rig.stalled = true;
    let topics = vec![topic("a", 1, 1)];
    let request = CreateTopicsRequest { topics, timeout_ms: 6_000, ..Default::default() };
    rig.send(conn, 7, &crate::wire::Request::CreateTopics(request));
    assert!(rig.receive(conn).is_none());
    rig.advance(6_010);
    let Some(crate::wire::Response::CreateTopics(response)) = rig.receive(conn) else { panic!() };
    assert_eq!(response.topics[0].error_code, ErrorCode::REQUEST_TIMED_OUT.0);
    rig.release();
    assert_eq!(topic_names(&mut rig, conn), ["a"], "it may have been done all the same");
}

fn delete(rig: &mut Rig, conn: ConnId, topics: &[(Option<&str>, Uuid)]) -> Vec<DeletableTopicResult> {
    let state = |(name, topic_id): &(Option<&str>, Uuid)| DeleteTopicState {
        name: name.map(str::to_owned),
        topic_id: *topic_id,
    };
    let topics = topics.iter().map(state).collect();
    let request = DeleteTopicsRequest { topics, timeout_ms: 1_000, ..Default::default() };
    ask!(rig, conn, 6, DeleteTopics, request).responses
}

#[test]
fn topics_go_by_name_and_by_id() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    let created = create(&mut rig, conn, ["a", "b", "c", "d"].map(|name| topic(name, 1, 1)).to_vec());
    let (b, d) = (created[1].topic_id, created[3].topic_id);
    let odd = Uuid([9; 16]);
    let wanted = [
        (Some("a"), Uuid::ZERO),
        (None, b),
        (Some("no"), Uuid::ZERO),
        (None, odd),
        (None, Uuid::ZERO),
        (Some("c"), b),
        (Some("d"), Uuid::ZERO),
        (None, d),
        (Some("c"), Uuid::ZERO),
        (Some("c"), Uuid::ZERO),
    ];
    let results = delete(&mut rig, conn, &wanted);
    let told: Vec<_> =
        results.iter().map(|result| (result.name.as_deref(), result.topic_id, ErrorCode(result.error_code))).collect();
    assert_eq!(
        told,
        [
            (Some("a"), created[0].topic_id, ErrorCode::NONE),
            (Some("b"), b, ErrorCode::NONE),
            (Some("no"), Uuid::ZERO, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (None, odd, ErrorCode::UNKNOWN_TOPIC_ID),
            (None, Uuid::ZERO, ErrorCode::INVALID_REQUEST),
            (Some("c"), b, ErrorCode::INVALID_REQUEST),
            (Some("d"), d, ErrorCode::NONE),
            (Some("d"), d, ErrorCode::INVALID_REQUEST),
            (Some("c"), Uuid::ZERO, ErrorCode::INVALID_REQUEST),
        ]
    );
    assert_eq!(topic_names(&mut rig, conn), ["c"]);
    let old = DeleteTopicsRequest { topic_names: vec!["c".into()], timeout_ms: 1_000, ..Default::default() };
    assert_eq!(ask!(rig, conn, 5, DeleteTopics, old).responses[0].error_code, 0);
    assert!(topic_names(&mut rig, conn).is_empty());
}

#[test]
fn topics_grow_and_do_not_shrink() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn, vec![topic("a", 2, 1), topic("b", 1, 1)]);
    let grow = |name: &str, count: i32| CreatePartitionsTopic { name: name.into(), count, assignments: None };
    let topics = vec![grow("a", 4), grow("b", 1), grow("no", 2), grow("twice", 2), grow("twice", 3)];
    let request = CreatePartitionsRequest { topics, timeout_ms: 1_000, validate_only: false };
    let results = ask!(rig, conn, 3, CreatePartitions, request).results;
    let told: Vec<_> = results.iter().map(|result| (result.name.as_str(), ErrorCode(result.error_code))).collect();
    assert_eq!(
        told,
        [
            ("a", ErrorCode::NONE),
            ("b", ErrorCode::INVALID_PARTITIONS),
            ("no", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ("twice", ErrorCode::INVALID_REQUEST),
        ]
    );
    let response = ask!(rig, conn, 12, Metadata, MetadataRequest { topics: None, ..Default::default() });
    assert_eq!(response.topics[0].partitions.len(), 4);
}

#[test]
fn the_start_of_a_log_moves() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn, vec![topic("a", 1, 1)]);
    let mut builder = BatchBuilder::new(Codec::None);
    (0..5).for_each(|_| builder.push(5_000, None, Some(b"value"), &[]));
    let batch = builder.build().freeze();
    let append = partition::Command::Append { epoch: 1, guard: None, batch };
    rig.order(GroupId(PARTITIONS), append.encode());
    let mut moved = |name: &str, partition_index: i32, offset: i64| {
        let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
        let topics = vec![DeleteRecordsTopic { name: name.into(), partitions }];
        let response = ask!(rig, conn, 2, DeleteRecords, DeleteRecordsRequest { topics, timeout_ms: 1_000 });
        let result = &response.topics[0].partitions[0];
        (ErrorCode(result.error_code), result.low_watermark)
    };
    assert_eq!(moved("a", 0, 3), (ErrorCode::NONE, 3));
    assert_eq!(moved("a", 0, 1), (ErrorCode::NONE, 3), "it does not move back");
    assert_eq!(moved("a", 0, 6), (ErrorCode::OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(moved("a", 0, -2), (ErrorCode::OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(moved("a", 1, 0), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1));
    assert_eq!(moved("b", 0, 0), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1));
    assert_eq!(moved("a", 0, -1), (ErrorCode::NONE, 5));
    let described = partition::Described::decode(rig.query(GroupId(PARTITIONS), &partition::Query::Describe.encode()));
    assert_eq!(described.unwrap().log_start, 5);
}

#[test]
fn who_may_nothing_changes_nothing() {
    let mut config = config();
    (config.allow_if_no_rule, config.super_users) = (false, BTreeSet::new());
    let mut rig = Rig::with(config);
    let conn = rig.connect(PLAIN);
    let results = create(&mut rig, conn, vec![topic("a", 1, 1)]);
    assert_eq!(codes(&results), [("a", ErrorCode::TOPIC_AUTHORIZATION_FAILED)]);
    let results = delete(&mut rig, conn, &[(Some("a"), Uuid::ZERO), (None, Uuid([1; 16]))]);
    let told: Vec<_> = results.iter().map(|result| ErrorCode(result.error_code)).collect();
    assert_eq!(told, [ErrorCode::TOPIC_AUTHORIZATION_FAILED, ErrorCode::UNKNOWN_TOPIC_ID]);
    let feature = FeatureUpdateKey { feature: "share.version".into(), upgrade_type: 2, ..Default::default() };
    let request = UpdateFeaturesRequest { feature_updates: vec![feature], ..Default::default() };
    let response = ask!(rig, conn, 2, UpdateFeatures, request);
    assert_eq!(response.error_code, ErrorCode::CLUSTER_AUTHORIZATION_FAILED.0);
}

#[test]
fn features_are_switched() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    let update = |feature: &str, level: i16, upgrade_type: i8| FeatureUpdateKey {
        feature: feature.into(),
        max_version_level: level,
        upgrade_type,
        ..Default::default()
    };
    let request = |update| UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
    let response = ask!(rig, conn, 1, UpdateFeatures, request(update("share.version", 0, 2)));
    assert_eq!((response.error_code, response.results.len()), (0, 1));
    let response = ask!(rig, conn, 2, UpdateFeatures, request(update("share.version", 9, 1)));
    assert_eq!(response.error_code, ErrorCode::INVALID_UPDATE_VERSION.0);
    let message = response.error_message.unwrap();
    assert!(message.starts_with("The update failed for all features since"), "{message}");
}
