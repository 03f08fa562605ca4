//! Committed offsets: commits and fetches.
//!
//! A topic that a request means by its id (version 10 and up, KIP-848) is looked up in this node's image, as are the ids of
//! topics that it means by name: an offset of a topic that is gone is not given to who reads another one of its name.
//!
//! Deliberately absent: commits within transactions (`transactions`).

use std::collections::BTreeSet;

use verity_contract::Consistency;
use verity_types::GroupId;

use super::call::Call;
use super::coordination::{
    Errors, answer_refusal, command, error_of, hear, led, may_group, named, query, sort, topic_errors, with_id,
};
use super::node::{Node, State};
use crate::machine::cluster::{Topic, operation};
use crate::machine::coordinator::{
    Answer, Command, CommitOffsets, FetchTopic, FetchedOffset, FetchedTopic, MemberName, OffsetRow, Query, TopicOffsets,
};
use crate::wire::message::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic, OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::wire::{ErrorCode, Uuid};

/// From this version on, topics are meant by their ids.
const BY_ID: i16 = 10;
/// From this version on, a commit may name a member's epoch (KIP-848).
const KNOWS_EPOCHS: i16 = 9;
/// From this version on, a fetch is about several groups.
const FETCH_BATCHED: i16 = 8;
/// From this version on, a fetch's answer has a place for an error of the group.
const FETCH_GROUP_ERROR: i16 = 2;

/// The topic that a request means.
fn find<'a>(state: &'a State, call: &Call, operation: i8, name: &str, id: Uuid) -> Result<&'a Topic, ErrorCode> {
    if call.version >= BY_ID { with_id(state, call, operation, id) } else { named(state, call, operation, name) }
}

pub(super) async fn offset_commit(node: &Node, call: &Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let outcome = commit(node, call, &request).await;
    let respond = |topic: OffsetCommitRequestTopic| {
        let key = key(call, &topic.name, topic.topic_id);
        OffsetCommitResponseTopic {
            partitions: topic
                .partitions
                .iter()
                .map(|row| OffsetCommitResponsePartition {
                    partition_index: row.partition_index,
                    error_code: error_of(&outcome, &key, row.partition_index).0,
                })
                .collect(),
            name: topic.name,
            topic_id: topic.topic_id,
        }
    };
    OffsetCommitResponse { throttle_time_ms: 0, topics: request.topics.into_iter().map(respond).collect() }
}

/// What tells a request's topics apart.
fn key(call: &Call, name: &str, id: Uuid) -> String {
    if call.version >= BY_ID { id.to_string() } else { name.to_owned() }
}

/// The errors of a commit's partitions, by [`key`].
async fn commit(node: &Node, call: &Call, request: &OffsetCommitRequest) -> Result<Errors, ErrorCode> {
    if !may_group(node, call, operation::READ, &request.group_id) {
        return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    hear(node, &request.group_id, &request.member_id);
    let (topics, mut errors) = committed(&node.state(), call, &request.topics);
    if topics.is_empty() {
        return Ok(errors);
    }
    let asked: Vec<(String, Uuid, i32)> = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|row| (topic.topic.clone(), topic.topic_id, row.partition)))
        .collect();
    let commit = CommitOffsets {
        group_id: request.group_id.clone(),
        generation: request.generation_id_or_member_epoch,
        member: MemberName { member_id: request.member_id.clone(), instance_id: request.group_instance_id.clone() },
        knows_epochs: call.version >= KNOWS_EPOCHS,
        retention_ms: request.retention_time_ms,
        topics,
    };
    let outcome = topic_errors(command(node, Command::CommitOffsets { request: commit }).await);
    for (topic, id, partition) in asked {
        errors.insert((key(call, &topic, id), partition), error_of(&outcome, &topic, partition));
    }
    Ok(errors)
}

/// What of a commit may be proposed, and why the rest may not, by [`key`].
fn committed(state: &State, call: &Call, topics: &[OffsetCommitRequestTopic]) -> (Vec<TopicOffsets>, Errors) {
    let (mut kept, mut errors) = (Vec::new(), Errors::new());
    for topic in topics {
        let found = find(state, call, operation::READ, &topic.name, topic.topic_id);
        let rows = topic.partitions.iter().map(|row| {
            let row = OffsetRow {
                partition: row.partition_index,
                offset: row.committed_offset,
                leader_epoch: row.committed_leader_epoch,
                metadata: row.committed_metadata.clone().unwrap_or_default(),
            };
            (row.partition, row)
        });
        let partitions = sort(found, rows, |partition, error| {
            errors.insert((key(call, &topic.name, topic.topic_id), partition), error);
        });
        if let Ok(found) = found
            && !partitions.is_empty()
        {
            kept.push(TopicOffsets { topic: found.name.clone(), topic_id: found.id, partitions });
        }
    }
    (kept, errors)
}

pub(super) async fn offset_fetch(node: &Node, call: &Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if call.version >= FETCH_BATCHED {
        let mut groups = Vec::with_capacity(request.groups.len());
        // A group that is named twice is answered once.
        let mut seen = BTreeSet::new();
        for group in request.groups.into_iter().filter(|group| seen.insert(group.group_id.clone())) {
            groups.push(fetch_group(node, call, group, request.require_stable).await);
        }
        return OffsetFetchResponse { groups, ..Default::default() };
    }
    let topics = request.topics.map(|topics| {
        let topic = |topic: crate::wire::message::OffsetFetchRequestTopic| OffsetFetchRequestTopics {
            name: topic.name,
            topic_id: Uuid::ZERO,
            partition_indexes: topic.partition_indexes,
        };
        topics.into_iter().map(topic).collect::<Vec<_>>()
    });
    let asked = topics.clone();
    let group = OffsetFetchRequestGroup { group_id: request.group_id, member_id: None, member_epoch: -1, topics };
    let answer = fetch_group(node, call, group, request.require_stable).await;
    let error = ErrorCode(answer.error_code);
    let answered = match error.is_none() || call.version >= FETCH_GROUP_ERROR {
        true => answer.topics,
        // There is no other place for the error.
        false => asked.into_iter().flatten().map(|topic| refused(topic, error)).collect(),
    };
    let partition = |row: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: row.partition_index,
        committed_offset: row.committed_offset,
        committed_leader_epoch: row.committed_leader_epoch,
        metadata: row.metadata,
        error_code: row.error_code,
    };
    let topic = |topic: OffsetFetchResponseTopics| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    };
    OffsetFetchResponse {
        throttle_time_ms: 0,
        topics: answered.into_iter().map(topic).collect(),
        error_code: error.0,
        groups: Vec::new(),
    }
}

/// No partition of a topic has an offset to be told.
fn refused(topic: OffsetFetchRequestTopics, error: ErrorCode) -> OffsetFetchResponseTopics {
    let row = |partition_index: i32| OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(String::new()),
        error_code: error.0,
    };
    OffsetFetchResponseTopics {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.into_iter().map(row).collect(),
    }
}

fn fetched(topic: FetchedTopic) -> OffsetFetchResponseTopics {
    let row = |row: FetchedOffset| OffsetFetchResponsePartitions {
        partition_index: row.partition,
        committed_offset: row.offset,
        committed_leader_epoch: row.leader_epoch,
        metadata: Some(row.metadata),
        error_code: row.error.0,
    };
    OffsetFetchResponseTopics {
        name: topic.topic,
        topic_id: topic.topic_id,
        partitions: topic.partitions.into_iter().map(row).collect(),
    }
}

async fn fetch_group(
    node: &Node,
    call: &Call,
    group: OffsetFetchRequestGroup,
    stable: bool,
) -> OffsetFetchResponseGroup {
    let group_id = group.group_id.clone();
    match fetch(node, call, group, stable).await {
        Ok(topics) => OffsetFetchResponseGroup { group_id, topics, error_code: super::NO_ERROR },
        Err(error) => OffsetFetchResponseGroup { group_id, topics: Vec::new(), error_code: error.0 },
    }
}

async fn fetch(
    node: &Node,
    call: &Call,
    group: OffsetFetchRequestGroup,
    stable: bool,
) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
    if !may_group(node, call, operation::DESCRIBE, &group.group_id) {
        return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    let everything = group.topics.is_none();
    let mut answers = Vec::new();
    let mut wanted = Vec::new();
    {
        let state = node.state();
        for topic in group.topics.into_iter().flatten() {
            let (name, id) = match find(&state, call, operation::DESCRIBE, &topic.name, topic.topic_id) {
                Ok(found) => (found.name.clone(), found.id),
                // Offsets outlive what this node knows of the topic.
                Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => (topic.name, Uuid::ZERO),
                Err(error) => {
                    answers.push(refused(topic, error));
                    continue;
                }
            };
            wanted.push(FetchTopic { topic: name, topic_id: id, partitions: topic.partition_indexes });
        }
    }
    if wanted.is_empty() && !everything {
        return Ok(answers);
    }
    let question = Query::FetchOffsets {
        group_id: group.group_id,
        member_id: group.member_id.unwrap_or_default(),
        member_epoch: group.member_epoch,
        topics: (!everything).then_some(wanted),
        stable,
    };
    let topics = match query(node, question, Consistency::Linearizable).await? {
        Answer::Offsets { error, topics } if error.is_none() => topics,
        Answer::Offsets { error, .. } => return Err(error),
        other => return Err(answer_refusal(&other)),
    };
    let state = node.state();
    let seen =
        topics.into_iter().filter(|topic| !everything || call.may_topic(&state, operation::DESCRIBE, &topic.topic));
    let shown = seen.filter_map(|mut topic| {
        if call.version >= BY_ID && topic.topic_id.is_zero() {
            // Who speaks of ids cannot be told of a topic that has none any more.
            topic.topic_id = state.image.topic(&topic.topic)?.id;
        }
        Some(fetched(topic))
    });
    answers.extend(shown);
    Ok(answers)
}

/// Tells the coordinator that topics are no more, if this node leads it.
pub(super) fn on_topics_deleted(node: &Node, topics: Vec<(String, Uuid)>) {
    let Ok(group) = led(node) else { return };
    let node = node.clone();
    node.clone().spawn(async move { forget_topics(&node, group, topics).await });
}

/// Goes on if this node is deposed meanwhile: the next leader may have heard of it before it led.
async fn forget_topics(node: &Node, group: GroupId, topics: Vec<(String, Uuid)>) {
    const ATTEMPT_COUNT_MAX: usize = 100;
    const RETRY_MS: i32 = 250;
    const COMMAND_MS: i32 = 10_000;
    let command = Command::TopicsDeleted { topics }.encode();
    for _ in 0..ATTEMPT_COUNT_MAX {
        let answer = node.propose(group, command.clone()).by(node.in_ms(COMMAND_MS)).await;
        if matches!(answer, Some(Ok(_))) {
            return;
        }
        node.sleep(node.in_ms(RETRY_MS)).await;
    }
}
