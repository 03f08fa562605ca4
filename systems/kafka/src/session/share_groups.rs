//! Members of share groups (KIP-932), and how their administrators see them.
//!
//! - upon a heartbeat: this node's state says whether it changes anything. If it does, it becomes a command, which brings
//!   what this node knows of the topics that the group subscribes to, and the group's configuration.
//!
//! Deliberately absent: assignments. The coordinator's machine makes them.

use verity_contract::Consistency;

use super::call::Call;
use super::coordination::{answer_refusal, command, hear, may_group, query, refusal};
use super::group_admin::{Described, describe_members};
use super::node::Node;
use super::share_config;
use crate::machine::cluster::operation;
use crate::machine::coordinator::{
    Answer, Command, ConsumerMemberRow, ConsumerReply, ConsumerRow, IdPartitions, NamedPartitions, Query, Reply,
    ShareHeartbeat, TopicInfo,
};
use crate::wire::ErrorCode;
use crate::wire::message::{
    ShareGroupDescribeAssignment, ShareGroupDescribeGroup, ShareGroupDescribeMember, ShareGroupDescribeRequest,
    ShareGroupDescribeResponse, ShareGroupDescribeTopicPartitions, ShareGroupHeartbeatAssignment,
    ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse, ShareGroupHeartbeatTopicPartitions,
};

pub(super) async fn heartbeat(
    node: &Node,
    call: &Call,
    request: ShareGroupHeartbeatRequest,
) -> ShareGroupHeartbeatResponse {
    let reply = match heard(node, call, request).await {
        Ok(reply) if reply.error.is_none() => reply,
        Ok(ConsumerReply { error, .. }) | Err(error) => {
            let error_message = error.name().map(str::to_owned);
            return ShareGroupHeartbeatResponse { error_code: error.0, error_message, ..Default::default() };
        }
    };
    let topic = |topic: IdPartitions| ShareGroupHeartbeatTopicPartitions {
        topic_id: topic.topic_id,
        partitions: topic.partitions,
    };
    ShareGroupHeartbeatResponse {
        throttle_time_ms: 0,
        error_code: super::NO_ERROR,
        error_message: None,
        member_id: Some(reply.member_id),
        member_epoch: reply.member_epoch,
        heartbeat_interval_ms: i32::try_from(reply.heartbeat_interval_ms).unwrap_or(i32::MAX),
        assignment: reply
            .assignment
            .map(|topics| ShareGroupHeartbeatAssignment { topic_partitions: topics.into_iter().map(topic).collect() }),
    }
}

async fn heard(node: &Node, call: &Call, request: ShareGroupHeartbeatRequest) -> Result<ConsumerReply, ErrorCode> {
    if !share_config::enabled(&node.state()) {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    if !may_group(node, call, operation::READ, &request.group_id) {
        return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    let mut names = request.subscribed_topic_names.iter().flatten();
    if !names.all(|name| call.may_topic(&node.state(), operation::DESCRIBE, name)) {
        return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    hear(node, &request.group_id, &request.member_id);
    let mut request = said(node, call, request);
    if request.member_epoch >= 0 {
        let question = Query::ShareHeartbeat { request: Box::new(request.clone()) };
        match query(node, question, Consistency::Local).await? {
            Answer::Unchanged { reply } => return Ok(reply),
            Answer::NeedsCommand { topics, .. } => {
                let state = node.state();
                let info = |name: String| match state.image.topic(&name) {
                    Some(topic) => TopicInfo { id: topic.id, partitions: topic.partition_count(), name },
                    None => TopicInfo { id: Default::default(), partitions: 0, name },
                };
                request.topics = topics.into_iter().map(info).collect();
                request.metadata_version = state.topics_version;
            }
            other => return Err(answer_refusal(&other)),
        }
    }
    match command(node, Command::ShareHeartbeat { request }).await? {
        Reply::Consumer { reply } => Ok(reply),
        other => Err(refusal(&other)),
    }
}

/// What a member says of itself, and what holds for its group.
fn said(node: &Node, call: &Call, request: ShareGroupHeartbeatRequest) -> ShareHeartbeat {
    let state = node.state();
    let (session_timeout_ms, heartbeat_interval_ms, size_max) = share_config::membership(&state, &request.group_id);
    ShareHeartbeat {
        group_id: request.group_id,
        member_id: request.member_id,
        member_epoch: request.member_epoch,
        rack_id: request.rack_id,
        client_id: call.client_id.clone(),
        client_host: format!("/{}", call.host),
        subscribed_names: request.subscribed_topic_names,
        metadata_version: state.topics_version,
        topics: Vec::new(),
        session_timeout_ms,
        heartbeat_interval_ms,
        size_max,
    }
}

pub(super) async fn describe(
    node: &Node,
    call: &Call,
    request: ShareGroupDescribeRequest,
) -> ShareGroupDescribeResponse {
    let wants = request.include_authorized_operations;
    let question = |group_ids| Query::DescribeShareGroups { group_ids };
    let described = |group_id, found: Described<'_>| match found {
        Ok((row, authorized_operations)) => ShareGroupDescribeGroup { authorized_operations, ..described(row) },
        Err((error, error_message)) => {
            ShareGroupDescribeGroup { error_code: error.0, error_message, group_id, ..Default::default() }
        }
    };
    let groups = describe_members(node, call, request.group_ids, wants, question, described).await;
    ShareGroupDescribeResponse { throttle_time_ms: 0, groups }
}

fn described(row: &ConsumerRow) -> ShareGroupDescribeGroup {
    let part = |part: &NamedPartitions| ShareGroupDescribeTopicPartitions {
        topic_id: part.topic_id,
        topic_name: part.topic.clone(),
        partitions: part.partitions.clone(),
    };
    let member = |member: &ConsumerMemberRow| ShareGroupDescribeMember {
        member_id: member.member_id.clone(),
        rack_id: member.rack_id.clone(),
        member_epoch: member.member_epoch,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        subscribed_topic_names: member.subscribed_names.clone(),
        assignment: ShareGroupDescribeAssignment { topic_partitions: member.assignment.iter().map(part).collect() },
    };
    ShareGroupDescribeGroup {
        error_code: super::NO_ERROR,
        error_message: None,
        group_id: row.group_id.clone(),
        group_state: row.state.clone(),
        group_epoch: row.epoch,
        assignment_epoch: row.assignment_epoch,
        assignor_name: row.assignor.clone(),
        members: row.members.iter().map(member).collect(),
        ..Default::default()
    }
}
