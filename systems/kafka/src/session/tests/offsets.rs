//! Committed offsets.

use super::groups::ask;
use super::rig::{CLUSTER, COORDINATOR, PLAIN, Rig};
use crate::machine::cluster::Command;
use crate::wire::message::*;
use crate::wire::{ErrorCode, Request, Response, Uuid};

const GROUP: &str = "readers";

fn commit(topic: OffsetCommitRequestTopic) -> OffsetCommitRequest {
    OffsetCommitRequest { group_id: GROUP.into(), topics: vec![topic], ..Default::default() }
}

fn row(partition_index: i32, committed_offset: i64, metadata: &str) -> OffsetCommitRequestPartition {
    let committed_metadata = Some(metadata.to_owned());
    OffsetCommitRequestPartition { partition_index, committed_offset, committed_metadata, ..Default::default() }
}

fn of(name: &str, rows: Vec<OffsetCommitRequestPartition>) -> OffsetCommitRequestTopic {
    OffsetCommitRequestTopic { name: name.into(), partitions: rows, ..Default::default() }
}

fn errors(response: &OffsetCommitResponse) -> Vec<i16> {
    response.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code).collect()
}

fn wanted(topics: Option<Vec<OffsetFetchRequestTopics>>) -> OffsetFetchRequest {
    let groups = vec![OffsetFetchRequestGroup { group_id: GROUP.into(), topics, ..Default::default() }];
    OffsetFetchRequest { groups, ..Default::default() }
}

fn old(topics: Option<Vec<OffsetFetchRequestTopic>>) -> OffsetFetchRequest {
    OffsetFetchRequest { group_id: GROUP.into(), topics, ..Default::default() }
}

#[test]
fn what_is_committed_is_fetched_in_every_version() {
    let mut rig = Rig::new();
    let id = rig.create_topic("orders", 2);
    let conn = rig.connect(PLAIN);
    let request = commit(of("orders", vec![row(0, 5, "here"), row(7, 1, "")]));
    let answer = ask!(rig, conn, 8, OffsetCommit(request));
    assert_eq!(errors(&answer), [0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0]);
    let answer = ask!(rig, conn, 2, OffsetCommit(commit(of("orders", vec![row(1, 6, "")]))));
    assert_eq!(errors(&answer), [0]);
    for version in [1, 2, 5, 7] {
        let topic = OffsetFetchRequestTopic { name: "orders".into(), partition_indexes: vec![0, 1, 2] };
        let answer = ask!(rig, conn, version, OffsetFetch(old(Some(vec![topic]))));
        let offsets: Vec<i64> = answer.topics[0].partitions.iter().map(|row| row.committed_offset).collect();
        assert_eq!((offsets, answer.topics[0].partitions[0].metadata.as_deref()), (vec![5, 6, -1], Some("here")));
    }
    let answer = ask!(rig, conn, 7, OffsetFetch(old(None)));
    assert_eq!(answer.topics[0].partitions.len(), 2);
    for version in [8, 9, 10] {
        let by_id = if version == 10 { id } else { Uuid::ZERO };
        let topic = OffsetFetchRequestTopics {
            name: if version == 10 { String::new() } else { "orders".into() },
            topic_id: by_id,
            partition_indexes: vec![1],
        };
        let group = ask!(rig, conn, version, OffsetFetch(wanted(Some(vec![topic])))).groups.remove(0);
        assert_eq!((group.error_code, group.topics[0].topic_id), (0, by_id));
        assert_eq!(group.topics[0].partitions[0].committed_offset, 6);
        let all = ask!(rig, conn, version, OffsetFetch(wanted(None))).groups.remove(0);
        assert_eq!((all.topics.len(), all.topics[0].topic_id), (1, by_id));
    }
}

#[test]
fn topics_are_meant_by_their_ids() {
    let mut rig = Rig::new();
    let id = rig.create_topic("orders", 1);
    let conn = rig.connect(PLAIN);
    let topic = |topic_id| OffsetCommitRequestTopic { topic_id, ..of("", vec![row(0, 5, "")]) };
    let request = OffsetCommitRequest { topics: vec![topic(id), topic(Uuid([9; 16]))], ..commit(topic(id)) };
    let answer = ask!(rig, conn, 10, OffsetCommit(request));
    assert_eq!(errors(&answer), [0, ErrorCode::UNKNOWN_TOPIC_ID.0]);
    assert_eq!(answer.topics[1].topic_id, Uuid([9; 16]));
    let unknown =
        OffsetFetchRequestTopics { topic_id: Uuid([9; 16]), partition_indexes: vec![0], ..Default::default() };
    let group = ask!(rig, conn, 10, OffsetFetch(wanted(Some(vec![unknown])))).groups.remove(0);
    assert_eq!(group.topics[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID.0);
}

#[test]
fn commits_that_cannot_be_are_refused() {
    let mut rig = Rig::new();
    rig.create_topic("orders", 1);
    let conn = rig.connect(PLAIN);
    let unknown = ask!(rig, conn, 8, OffsetCommit(commit(of("nothing", vec![row(0, 1, "")]))));
    assert_eq!(errors(&unknown), [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0]);
    let long = ask!(rig, conn, 8, OffsetCommit(commit(of("orders", vec![row(0, 1, &"x".repeat(5_000))]))));
    assert_eq!(errors(&long), [ErrorCode::OFFSET_METADATA_TOO_LARGE.0]);
    let member = OffsetCommitRequest {
        generation_id_or_member_epoch: 3,
        member_id: "stranger".into(),
        ..commit(of("orders", vec![row(0, 1, "")]))
    };
    assert_eq!(errors(&ask!(rig, conn, 8, OffsetCommit(member))), [ErrorCode::ILLEGAL_GENERATION.0]);
    rig.depose(COORDINATOR);
    let answer = ask!(rig, conn, 8, OffsetCommit(commit(of("orders", vec![row(0, 1, "")]))));
    assert_eq!(errors(&answer), [ErrorCode::NOT_COORDINATOR.0]);
    let topic = OffsetFetchRequestTopic { name: "orders".into(), partition_indexes: vec![0] };
    let first = ask!(rig, conn, 1, OffsetFetch(old(Some(vec![topic]))));
    assert_eq!(first.topics[0].partitions[0].error_code, ErrorCode::NOT_COORDINATOR.0);
    assert_eq!(ask!(rig, conn, 7, OffsetFetch(old(None))).error_code, ErrorCode::NOT_COORDINATOR.0);
}

#[test]
fn offsets_go_by_wish_and_with_their_topic() {
    let mut rig = Rig::new();
    rig.create_topic("orders", 2);
    let conn = rig.connect(PLAIN);
    ask!(rig, conn, 8, OffsetCommit(commit(of("orders", vec![row(0, 1, ""), row(1, 2, "")]))));
    let partition = |partition_index| OffsetDeleteRequestPartition { partition_index };
    let topic = OffsetDeleteRequestTopic { name: "orders".into(), partitions: vec![partition(0), partition(9)] };
    let request = OffsetDeleteRequest { group_id: GROUP.into(), topics: vec![topic] };
    let answer = ask!(rig, conn, 0, OffsetDelete(request));
    let errors: Vec<i16> = answer.topics[0].partitions.iter().map(|row| row.error_code).collect();
    assert_eq!((answer.error_code, errors), (0, vec![0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0]));
    assert_eq!(ask!(rig, conn, 7, OffsetFetch(old(None))).topics[0].partitions.len(), 1);
    rig.order(CLUSTER, Command::DeleteTopic { name: Some("orders".into()), id: Uuid::ZERO }.encode());
    assert_eq!(ask!(rig, conn, 7, OffsetFetch(old(None))).topics.len(), 0);
}
