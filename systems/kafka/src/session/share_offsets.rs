//! Where share groups stand in their partitions, as their administrators see and set it (KIP-932).
//!
//! - upon a description: the coordinator tells the first record that is not settled, and how many behind it are; the end of
//!   the log comes from this node, if it hosts the partition. Otherwise the lag is not known, and said to be -1;
//! - upon an alteration or a deletion: nobody may be in the group.
//!
//! Deliberately absent: records in flight. Nobody can ask for them in Kafka, either.

use std::collections::BTreeMap;

use verity_contract::Consistency;
use verity_types::GroupId;

use super::call::Call;
use super::coordination::{answer_refusal, command, may_group, named, query, refusal};
use super::node::Node;
use super::share_config;
use crate::machine::cluster::operation;
use crate::machine::coordinator::{Answer, Command, Query, Reply, ShareRow};
use crate::machine::partition::{self, Found};
use crate::wire::message::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, AlterShareGroupOffsetsResponsePartition,
    AlterShareGroupOffsetsResponseTopic, DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse,
    DeleteShareGroupOffsetsResponseTopic, DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup,
    DescribeShareGroupOffsetsRequestTopic, DescribeShareGroupOffsetsResponse, DescribeShareGroupOffsetsResponseGroup,
    DescribeShareGroupOffsetsResponsePartition, DescribeShareGroupOffsetsResponseTopic,
};
use crate::wire::{ErrorCode, Uuid};

type Rows = BTreeMap<(Uuid, i32), ShareRow>;

fn message(error: ErrorCode) -> Option<String> {
    (!error.is_none()).then(|| error.name().map(str::to_owned)).flatten()
}

pub(super) async fn describe(
    node: &Node,
    call: &Call,
    request: DescribeShareGroupOffsetsRequest,
) -> DescribeShareGroupOffsetsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        groups.push(describe_group(node, call, group).await);
    }
    DescribeShareGroupOffsetsResponse { throttle_time_ms: 0, groups }
}

async fn describe_group(
    node: &Node,
    call: &Call,
    request: DescribeShareGroupOffsetsRequestGroup,
) -> DescribeShareGroupOffsetsResponseGroup {
    let DescribeShareGroupOffsetsRequestGroup { group_id, topics } = request;
    let refused = |group_id: String, error: ErrorCode| DescribeShareGroupOffsetsResponseGroup {
        group_id,
        topics: Vec::new(),
        error_code: error.0,
        error_message: message(error),
    };
    let allowed = share_config::enabled(&node.state());
    if !allowed {
        return refused(group_id, ErrorCode::UNSUPPORTED_VERSION);
    }
    if !may_group(node, call, operation::DESCRIBE, &group_id) {
        return refused(group_id, ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    let question = Query::ShareOffsets { group_id: group_id.clone() };
    let rows: Rows = match query(node, question, Consistency::Linearizable).await {
        // Of a group that is not there, partitions that were asked for are as those of one that has not begun.
        Ok(Answer::ShareOffsets { error, .. }) if !error.is_none() && topics.is_none() => {
            return refused(group_id, error);
        }
        Ok(Answer::ShareOffsets { rows, .. }) => {
            rows.into_iter().map(|row| ((row.topic_id, row.partition), row)).collect()
        }
        Ok(other) => return refused(group_id, answer_refusal(&other)),
        Err(error) => return refused(group_id, error),
    };
    let asked = topics.unwrap_or_else(|| all(node, call, &rows));
    let mut topics = Vec::with_capacity(asked.len());
    for topic in asked {
        topics.push(describe_topic(node, call, topic, &rows).await);
    }
    DescribeShareGroupOffsetsResponseGroup { group_id, topics, ..Default::default() }
}

/// All that the group has begun with and the caller may see.
fn all(node: &Node, call: &Call, rows: &Rows) -> Vec<DescribeShareGroupOffsetsRequestTopic> {
    let state = node.state();
    let mut topics: Vec<DescribeShareGroupOffsetsRequestTopic> = Vec::new();
    for (id, partition) in rows.keys() {
        let Some(topic) = state.image.topic_by_id(*id) else { continue };
        if !call.may_topic(&state, operation::DESCRIBE, &topic.name) {
            continue;
        }
        match topics.last_mut() {
            Some(last) if last.topic_name == topic.name => last.partitions.push(*partition),
            _ => topics.push(DescribeShareGroupOffsetsRequestTopic {
                topic_name: topic.name.clone(),
                partitions: vec![*partition],
            }),
        }
    }
    topics
}

async fn describe_topic(
    node: &Node,
    call: &Call,
    asked: DescribeShareGroupOffsetsRequestTopic,
    rows: &Rows,
) -> DescribeShareGroupOffsetsResponseTopic {
    let found = {
        let state = node.state();
        named(&state, call, operation::DESCRIBE, &asked.topic_name).map(|topic| {
            let groups: BTreeMap<i32, GroupId> =
                (0..).zip(topic.partitions.iter().map(|of| GroupId(of.group))).collect();
            (topic.id, groups)
        })
    };
    let mut partitions = Vec::with_capacity(asked.partitions.len());
    for index in asked.partitions {
        let refused = |error: ErrorCode| DescribeShareGroupOffsetsResponsePartition {
            partition_index: index,
            start_offset: -1,
            error_code: error.0,
            error_message: message(error),
            ..Default::default()
        };
        let known = match &found {
            Err(error) => Err(*error),
            Ok((id, groups)) => {
                groups.get(&index).map(|group| (*id, *group)).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
            }
        };
        partitions.push(match known {
            Err(error) => refused(error),
            Ok((id, group)) => match rows.get(&(id, index)) {
                None => refused(ErrorCode::NONE),
                Some(row) => DescribeShareGroupOffsetsResponsePartition {
                    start_offset: row.start,
                    leader_epoch: row.leader_epoch.max(0),
                    lag: lag(node, group, row).await,
                    ..refused(ErrorCode::NONE)
                },
            },
        });
    }
    let topic_id = found.map(|(id, _)| id).unwrap_or_default();
    DescribeShareGroupOffsetsResponseTopic { topic_name: asked.topic_name, topic_id, partitions }
}

/// How many records are not settled; -1 if this node cannot tell.
async fn lag(node: &Node, group: GroupId, row: &ShareRow) -> i64 {
    let hosted = node.state().roles.contains_key(&group);
    if !hosted {
        return -1;
    }
    let query = partition::Query::Offset { timestamp: -1, committed: false }.encode();
    match node.read(group, query, Consistency::Local).await.map(Found::decode) {
        Ok(Some(found)) if found.error.is_none() => (found.offset - row.start - row.settled).max(0),
        _ => -1,
    }
}

pub(super) async fn alter(
    node: &Node,
    call: &Call,
    request: AlterShareGroupOffsetsRequest,
) -> AlterShareGroupOffsetsResponse {
    let refused = |error: ErrorCode| AlterShareGroupOffsetsResponse {
        error_code: error.0,
        error_message: message(error),
        ..Default::default()
    };
    if let Err(error) = may(node, call, operation::READ, &request.group_id) {
        return refused(error);
    }
    let (mut offsets, mut responses) = (Vec::new(), Vec::new());
    {
        let state = node.state();
        for topic in request.topics {
            let found = named(&state, call, operation::READ, &topic.topic_name);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for row in topic.partitions {
                let error = match found {
                    Err(error) => error,
                    Ok(topic) if topic.partition(row.partition_index).is_none() => {
                        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                    }
                    Ok(_) if row.start_offset < 0 => ErrorCode::INVALID_REQUEST,
                    Ok(topic) => {
                        offsets.push((topic.id, (row.partition_index, row.start_offset)));
                        ErrorCode::NONE
                    }
                };
                partitions.push(AlterShareGroupOffsetsResponsePartition {
                    partition_index: row.partition_index,
                    error_code: error.0,
                    error_message: message(error),
                });
            }
            let topic_id = found.map(|topic| topic.id).unwrap_or_default();
            responses.push(AlterShareGroupOffsetsResponseTopic { topic_name: topic.topic_name, topic_id, partitions });
        }
    }
    match done(command(node, Command::SeekShares { group_id: request.group_id, offsets }).await) {
        Ok(()) => AlterShareGroupOffsetsResponse { responses, ..Default::default() },
        Err(error) => refused(error),
    }
}

pub(super) async fn delete(
    node: &Node,
    call: &Call,
    request: DeleteShareGroupOffsetsRequest,
) -> DeleteShareGroupOffsetsResponse {
    let refused = |error: ErrorCode| DeleteShareGroupOffsetsResponse {
        error_code: error.0,
        error_message: message(error),
        ..Default::default()
    };
    if let Err(error) = may(node, call, operation::DELETE, &request.group_id) {
        return refused(error);
    }
    let (mut topic_ids, mut responses) = (Vec::new(), Vec::new());
    {
        let state = node.state();
        for topic in request.topics {
            let found = named(&state, call, operation::READ, &topic.topic_name).map(|topic| topic.id);
            topic_ids.extend(found.ok());
            let error = found.err().unwrap_or(ErrorCode::NONE);
            responses.push(DeleteShareGroupOffsetsResponseTopic {
                topic_name: topic.topic_name,
                topic_id: found.unwrap_or_default(),
                error_code: error.0,
                error_message: message(error),
            });
        }
    }
    match done(command(node, Command::DeleteShares { group_id: request.group_id, topic_ids }).await) {
        Ok(()) => DeleteShareGroupOffsetsResponse { responses, ..Default::default() },
        Err(error) => refused(error),
    }
}

fn may(node: &Node, call: &Call, operation: i8, group_id: &str) -> Result<(), ErrorCode> {
    if !share_config::enabled(&node.state()) {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    if may_group(node, call, operation, group_id) { Ok(()) } else { Err(ErrorCode::GROUP_AUTHORIZATION_FAILED) }
}

fn done(reply: Result<Reply, ErrorCode>) -> Result<(), ErrorCode> {
    match reply? {
        Reply::Error { error } if error.is_none() => Ok(()),
        other => Err(refusal(&other)),
    }
}
