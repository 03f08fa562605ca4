//! Who may not do what with groups, offsets and transactions.

use std::collections::BTreeSet;

use verity_types::ConnId;

use super::groups::ask;
use super::rig::{CLUSTER, PLAIN, Rig, config};
use crate::machine::cluster::{Acl, Command, operation, pattern, permission, resource};
use crate::session::Config;
use crate::wire::message::*;
use crate::wire::{ErrorCode, Request, Response};

const GROUP: ErrorCode = ErrorCode::GROUP_AUTHORIZATION_FAILED;
const TOPIC: ErrorCode = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
const TRANSACTION: ErrorCode = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;

/// Everybody may do nothing. There is a topic `t`.
fn strict() -> (Rig, ConnId) {
    let mut rig = Rig::with(Config { allow_if_no_rule: false, super_users: BTreeSet::new(), ..config() });
    rig.create_topic("t", 1);
    let conn = rig.connect(PLAIN);
    (rig, conn)
}

fn allow(rig: &mut Rig, resource_type: i8, name: &str, operation: i8) {
    let acl = Acl {
        resource_type,
        name: name.into(),
        pattern: pattern::LITERAL,
        principal: "User:*".into(),
        host: "*".into(),
        operation,
        permission: permission::ALLOW,
    };
    rig.order(CLUSTER, Command::CreateAcl { acl }.encode());
}

fn commit(rig: &mut Rig, conn: ConnId) -> ErrorCode {
    let partitions = vec![OffsetCommitRequestPartition { committed_offset: 1, ..Default::default() }];
    let topic = OffsetCommitRequestTopic { name: "t".into(), partitions, ..Default::default() };
    let request = OffsetCommitRequest { group_id: "g".into(), topics: vec![topic], ..Default::default() };
    ErrorCode(ask!(rig, conn, 9, OffsetCommit(request)).topics[0].partitions[0].error_code)
}

fn fetch(rig: &mut Rig, conn: ConnId) -> (ErrorCode, Option<ErrorCode>) {
    let topic = OffsetFetchRequestTopics { name: "t".into(), partition_indexes: vec![0], ..Default::default() };
    let group = OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let answer = ask!(rig, conn, 9, OffsetFetch(request)).groups.remove(0);
    (ErrorCode(answer.error_code), answer.topics.first().map(|topic| ErrorCode(topic.partitions[0].error_code)))
}

fn add(rig: &mut Rig, conn: ConnId) -> ErrorCode {
    let request = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: "x".into(),
        v3_and_below_topics: vec![AddPartitionsToTxnTopic { name: "t".into(), partitions: vec![0] }],
        ..Default::default()
    };
    let answer = ask!(rig, conn, 3, AddPartitionsToTxn(request));
    ErrorCode(answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code)
}

#[test]
fn groups_are_for_those_who_may_read_them() {
    let (mut rig, conn) = strict();
    let id = || "g".to_owned();
    let join = JoinGroupRequest { group_id: id(), ..Default::default() };
    assert_eq!(ask!(rig, conn, 9, JoinGroup(join)).error_code, GROUP.0);
    let sync = SyncGroupRequest { group_id: id(), ..Default::default() };
    assert_eq!(ask!(rig, conn, 4, SyncGroup(sync)).error_code, GROUP.0);
    let beat = HeartbeatRequest { group_id: id(), ..Default::default() };
    assert_eq!(ask!(rig, conn, 4, Heartbeat(beat)).error_code, GROUP.0);
    let leave = LeaveGroupRequest { group_id: id(), ..Default::default() };
    assert_eq!(ask!(rig, conn, 5, LeaveGroup(leave)).error_code, GROUP.0);
    let consumer = ConsumerGroupHeartbeatRequest {
        group_id: id(),
        member_id: "m".into(),
        rebalance_timeout_ms: 1_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    assert_eq!(ask!(rig, conn, 1, ConsumerGroupHeartbeat(consumer.clone())).error_code, GROUP.0);
    allow(&mut rig, resource::GROUP, "g", operation::READ);
    assert_eq!(ask!(rig, conn, 1, ConsumerGroupHeartbeat(consumer)).error_code, TOPIC.0);
    let matching = ConsumerGroupHeartbeatRequest {
        group_id: id(),
        member_id: "m".into(),
        rebalance_timeout_ms: 1_000,
        subscribed_topic_regex: Some("t.*".into()),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let heard = ask!(rig, conn, 1, ConsumerGroupHeartbeat(matching));
    assert_eq!(heard.error_code, 0);
    assert!(heard.assignment.is_some_and(|own| own.topic_partitions.is_empty()), "a pattern finds what may be seen");
}

#[test]
fn offsets_are_for_those_who_may_read_group_and_topic() {
    let (mut rig, conn) = strict();
    assert_eq!(commit(&mut rig, conn), GROUP);
    assert_eq!(fetch(&mut rig, conn), (GROUP, None));
    allow(&mut rig, resource::GROUP, "g", operation::READ);
    assert_eq!(commit(&mut rig, conn), TOPIC);
    assert_eq!(fetch(&mut rig, conn), (ErrorCode::NONE, Some(TOPIC)), "who may read may describe");
    allow(&mut rig, resource::TOPIC, "t", operation::READ);
    assert_eq!(commit(&mut rig, conn), ErrorCode::NONE);
    assert_eq!(fetch(&mut rig, conn), (ErrorCode::NONE, Some(ErrorCode::NONE)));
}

#[test]
fn groups_are_shown_to_those_who_may_see_them() {
    let (mut rig, conn) = strict();
    allow(&mut rig, resource::TOPIC, "t", operation::READ);
    allow(&mut rig, resource::GROUP, "h", operation::READ);
    let list = |rig: &mut Rig| ask!(rig, conn, 5, ListGroups(ListGroupsRequest::default())).groups.len();
    let describe = DescribeGroupsRequest { groups: vec!["g".into()], ..Default::default() };
    assert_eq!(ask!(rig, conn, 6, DescribeGroups(describe)).groups[0].error_code, GROUP.0);
    let describe = ConsumerGroupDescribeRequest { group_ids: vec!["g".into()], ..Default::default() };
    assert_eq!(ask!(rig, conn, 1, ConsumerGroupDescribe(describe)).groups[0].error_code, GROUP.0);
    let delete = DeleteGroupsRequest { groups_names: vec!["g".into()] };
    assert_eq!(ask!(rig, conn, 2, DeleteGroups(delete)).results[0].error_code, GROUP.0);
    let delete = OffsetDeleteRequest { group_id: "g".into(), topics: Vec::new() };
    assert_eq!(ask!(rig, conn, 0, OffsetDelete(delete)).error_code, GROUP.0);
    let join = JoinGroupRequest {
        group_id: "h".into(),
        session_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), ..Default::default() }],
        ..Default::default()
    };
    assert_eq!(ask!(rig, conn, 3, JoinGroup(join)).error_code, 0);
    assert_eq!(list(&mut rig), 1);
    let rule = |permission| Acl {
        resource_type: resource::GROUP,
        name: "h".into(),
        pattern: pattern::LITERAL,
        principal: "User:*".into(),
        host: "*".into(),
        operation: operation::DESCRIBE,
        permission,
    };
    rig.order(CLUSTER, Command::CreateAcl { acl: rule(permission::DENY) }.encode());
    assert_eq!(list(&mut rig), 0);
}

#[test]
fn transactions_are_for_those_who_may_write() {
    let (mut rig, conn) = strict();
    let init = |id: Option<&str>| InitProducerIdRequest {
        transactional_id: id.map(str::to_owned),
        transaction_timeout_ms: 60_000,
        ..Default::default()
    };
    let cluster = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
    assert_eq!(ask!(rig, conn, 4, InitProducerId(init(Some("x")))).error_code, TRANSACTION.0);
    assert_eq!(ask!(rig, conn, 4, InitProducerId(init(None))).error_code, cluster.0);
    assert_eq!(add(&mut rig, conn), TRANSACTION);
    let end = EndTxnRequest { transactional_id: "x".into(), ..Default::default() };
    assert_eq!(ask!(rig, conn, 4, EndTxn(end)).error_code, TRANSACTION.0);
    let batched = AddPartitionsToTxnRequest::default();
    assert_eq!(ask!(rig, conn, 4, AddPartitionsToTxn(batched)).error_code, cluster.0, "only nodes ask so");
    let offsets = AddOffsetsToTxnRequest { transactional_id: "x".into(), group_id: "g".into(), ..Default::default() };
    assert_eq!(ask!(rig, conn, 4, AddOffsetsToTxn(offsets.clone())).error_code, TRANSACTION.0);
    let describe = DescribeTransactionsRequest { transactional_ids: vec!["x".into()] };
    let shown = ask!(rig, conn, 0, DescribeTransactions(describe)).transaction_states.remove(0);
    assert_eq!(shown.error_code, TRANSACTION.0);

    allow(&mut rig, resource::TRANSACTIONAL_ID, "x", operation::WRITE);
    assert_eq!(ask!(rig, conn, 4, InitProducerId(init(Some("x")))).error_code, 0);
    assert_eq!(ask!(rig, conn, 4, AddOffsetsToTxn(offsets)).error_code, GROUP.0);
    assert_eq!(add(&mut rig, conn), TOPIC);
    allow(&mut rig, resource::TOPIC, "t", operation::WRITE);
    assert_eq!(ask!(rig, conn, 4, InitProducerId(init(None))).error_code, 0, "who may write somewhere");
}
