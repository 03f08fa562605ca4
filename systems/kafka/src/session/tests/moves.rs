//! Leaders, moves and sizes.

use std::collections::BTreeMap;

use bytes::Bytes;
use verity_types::{ConnId, NodeId};

use super::admin::{create, topic};
use super::rig::{CLUSTER, PLAIN, Rig};
use crate::machine::cluster::{AGREEMENT, Agreement, Command};
use crate::wire::message::{
    AlterPartitionReassignmentsRequest, CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
    DescribableLogDirTopic, DescribeLogDirsRequest, ElectLeadersRequest, ElectLeadersTopicPartitions,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics, ReassignablePartition, ReassignableTopic,
};
use crate::wire::{ErrorCode, Request, Response, Uuid};

/// A second node that never says anything else.
fn register(rig: &mut Rig, id: i32) {
    let command = Command::Register { id, rack: None, host: "other".into(), port: 9092, tls_port: 0 };
    rig.order(CLUSTER, command.encode());
}

fn reassign(rig: &mut Rig, conn: ConnId, name: &str, replicas: Option<Vec<i32>>) -> ErrorCode {
    let partitions = vec![ReassignablePartition { partition_index: 0, replicas }];
    let topics = vec![ReassignableTopic { name: name.into(), partitions }];
    let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
    let response = ask!(rig, conn, 1, AlterPartitionReassignments, request);
    assert_eq!(response.error_code, 0);
    ErrorCode(response.responses[0].partitions[0].error_code)
}

#[test]
fn partitions_move_and_are_listed_meanwhile() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn, vec![topic("a", 1, 1), topic("b", 1, 1)]);
    register(&mut rig, 2);
    assert_eq!(reassign(&mut rig, conn, "a", None), ErrorCode::NO_REASSIGNMENT_IN_PROGRESS);
    assert_eq!(reassign(&mut rig, conn, "a", Some(vec![9])), ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(reassign(&mut rig, conn, "no", Some(vec![1])), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(reassign(&mut rig, conn, "a", Some(vec![1, 2])), ErrorCode::NONE);
    let list = |rig: &mut Rig, topics| {
        let request = ListPartitionReassignmentsRequest { topics, ..Default::default() };
        ask!(rig, conn, 0, ListPartitionReassignments, request).topics
    };
    let listed = list(&mut rig, None);
    let moving = &listed[0].partitions[0];
    assert_eq!((listed.len(), listed[0].name.as_str()), (1, "a"));
    assert_eq!((&moving.adding_replicas[..], &moving.removing_replicas[..]), (&[2][..], &[][..]));
    let only =
        |name: &str| Some(vec![ListPartitionReassignmentsTopics { name: name.into(), partition_indexes: vec![0, 1] }]);
    assert_eq!((list(&mut rig, only("a")).len(), list(&mut rig, only("b")).len()), (1, 0));
    assert_eq!(reassign(&mut rig, conn, "a", None), ErrorCode::NONE);
    assert!(list(&mut rig, None).is_empty());
}

#[test]
fn partitions_whose_members_are_fixed_do_not_move() {
    let mut rig = Rig::with(crate::session::Config { agreement: Agreement::Pbft, ..super::rig::config() });
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn, vec![topic("a", 1, 1)]);
    register(&mut rig, 2);
    assert_eq!(reassign(&mut rig, conn, "a", Some(vec![1, 2])), ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(reassign(&mut rig, conn, "a", None), ErrorCode::NO_REASSIGNMENT_IN_PROGRESS);
}

#[test]
fn where_a_partition_goes_is_its_topics_agreement_to_say() {
    let own = |agreement: &str| {
        let value = Some(agreement.to_owned());
        vec![CreatableTopicConfig { name: AGREEMENT.into(), value }]
    };
    let keys = BTreeMap::from([(NodeId(1), [1; 32])]);
    let mut rig = Rig::with(crate::session::Config { agreement: Agreement::Pbft, keys, ..super::rig::config() });
    let conn = rig.connect(PLAIN);
    let on = |name: &str, agreement: &str| CreatableTopic { configs: own(agreement), ..topic(name, 1, 1) };
    create(&mut rig, conn, vec![on("raft", "raft"), on("pbft", "pbft"), topic("usual", 1, 1)]);
    register(&mut rig, 2);
    assert_eq!(reassign(&mut rig, conn, "raft", Some(vec![2, 1])), ErrorCode::NONE);
    assert_eq!(reassign(&mut rig, conn, "pbft", Some(vec![1, 2])), ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(reassign(&mut rig, conn, "usual", Some(vec![1, 2])), ErrorCode::INVALID_REPLICA_ASSIGNMENT);
}

#[test]
fn an_election_on_pbft_is_refused_and_others_are_held() {
    let mut rig = Rig::with(crate::session::Config {
        keys: BTreeMap::from([(NodeId(1), [1; 32]), (NodeId(2), [2; 32])]),
        ..super::rig::config()
    });
    let conn = rig.connect(PLAIN);
    register(&mut rig, 2);
    let keys = BTreeMap::from([(1, Bytes::from_static(&[1; 32])), (2, Bytes::from_static(&[2; 32]))]);
    rig.order(CLUSTER, Command::Keys { id: 2, keys }.encode());
    let assignments = vec![CreatableReplicaAssignment { partition_index: 0, broker_ids: vec![2, 1] }];
    let configs = vec![CreatableTopicConfig { name: AGREEMENT.into(), value: Some("pbft".into()) }];
    let usual = CreatableTopic { assignments, ..topic("raft", -1, -1) };
    let pbft = CreatableTopic { name: "pbft".into(), configs, ..usual.clone() };
    let made = create(&mut rig, conn, vec![usual, pbft]);
    assert!(made.iter().all(|result| result.error_code == 0), "{made:?}");
    rig.send(conn, 2, &elect(None, 0));
    rig.advance(5_010);
    let answer = rig.receive(conn).expect("time is up");
    let named = |name: &str, error: ErrorCode| ((name.to_owned(), 0), error);
    let expected =
        [named("pbft", ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE), named("raft", ErrorCode::REQUEST_TIMED_OUT)];
    assert_eq!(told(answer), BTreeMap::from(expected));
}

fn elect(topics: Option<&[(&str, i32)]>, election_type: i8) -> Request {
    let named =
        |(topic, index): &(&str, i32)| ElectLeadersTopicPartitions { topic: (*topic).into(), partitions: vec![*index] };
    let topic_partitions = topics.map(|topics| topics.iter().map(named).collect());
    Request::ElectLeaders(ElectLeadersRequest { election_type, topic_partitions, timeout_ms: 5_000 })
}

fn told(response: Response) -> BTreeMap<(String, i32), ErrorCode> {
    let Response::ElectLeaders(response) = response else { panic!("{response:?}") };
    assert_eq!(response.error_code, 0);
    let each = response.replica_election_results.into_iter().flat_map(|topic| {
        let results = topic.partition_result.into_iter();
        results.map(move |result| ((topic.topic.clone(), result.partition_id), ErrorCode(result.error_code)))
    });
    each.collect()
}

#[test]
fn leaders_are_elected_where_there_is_need() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn, vec![topic("a", 1, 1)]);
    let named = |name: &str, index: i32, error: ErrorCode| ((name.to_owned(), index), error);
    let answer = rig.ask(conn, 2, &elect(Some(&[("a", 0), ("a", 7), ("no", 0)]), 0));
    let expected = [
        named("a", 0, ErrorCode::ELECTION_NOT_NEEDED),
        named("a", 7, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        named("no", 0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    ];
    assert_eq!(told(answer), BTreeMap::from(expected));
    assert!(told(rig.ask(conn, 2, &elect(None, 0))).is_empty(), "of all, those that need none are left out");
    // The other node should lead, and does not come: whoever leads is told in vain.
    register(&mut rig, 2);
    assert_eq!(reassign(&mut rig, conn, "a", Some(vec![2, 1])), ErrorCode::NONE);
    rig.send(conn, 2, &elect(None, 0));
    assert!(rig.receive(conn).is_none());
    rig.advance(5_010);
    let answer = rig.receive(conn).expect("time is up");
    assert_eq!(told(answer), BTreeMap::from([named("a", 0, ErrorCode::REQUEST_TIMED_OUT)]));
}

#[test]
fn a_new_partition_goes_to_its_preferred_leader_in_moments() {
    let mut rig = Rig::new();
    register(&mut rig, 2);
    let command = Command::CreateTopic {
        name: "a".into(),
        id: Uuid([5; 16]),
        partitions: -1,
        replication_factor: -1,
        assignments: vec![(0, vec![2, 1])],
        configs: Vec::new(),
        validate_only: false,
    };
    rig.order(CLUSTER, command.encode());
    let group = rig.group_of("a", 0);
    // What is said at once may come too early for the other node, or for the duty.
    rig.handovers.clear();
    rig.advance(250);
    assert_eq!(rig.handovers, [(group, NodeId(2)); 2]);
    rig.advance(1_000);
    assert_eq!(rig.handovers.len(), 5, "and then only now and then");
}

#[test]
fn a_node_says_what_lies_on_it() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    create(&mut rig, conn, vec![topic("a", 2, 1), topic("b", 1, 1)]);
    let response = ask!(rig, conn, 4, DescribeLogDirs, DescribeLogDirsRequest { topics: None });
    let result = &response.results[0];
    assert_eq!((result.log_dir.as_str(), result.error_code), ("/data", 0));
    let found: Vec<_> = result.topics.iter().map(|topic| (topic.name.as_str(), topic.partitions.len())).collect();
    assert_eq!(found, [("a", 2), ("b", 1)]);
    let topics = Some(vec![DescribableLogDirTopic { topic: "a".into(), partitions: vec![1, 9] }]);
    let response = ask!(rig, conn, 1, DescribeLogDirs, DescribeLogDirsRequest { topics });
    assert_eq!(response.results[0].topics[0].partitions.len(), 1);
}
