//! Groups as their administrators see them: described, listed, deleted.
//!
//! Whoever leads the coordinator knows all groups; the others know of none, and say so to who asks for a list, as
//! administrators ask every node for its part of it.
//!
//! Deliberately absent: offsets that are read and committed (`offsets`).

use std::collections::BTreeMap;

use verity_contract::Consistency;

use super::call::{Call, NO_OPERATIONS};
use super::coordination::{
    Errors, answer_refusal, command, error_of, led, may_group, named, query, refusal, sort, topic_errors,
};
use super::node::{Node, State};
use crate::machine::cluster::{operation, resource};
use crate::machine::coordinator::{
    Answer, ClassicMemberRow, ClassicRow, Command, ConsumerMemberRow, ConsumerRow, GroupRow, NamedPartitions, Query,
    Reply, TopicPartitions,
};
use crate::wire::ErrorCode;
use crate::wire::message::{
    ConsumerGroupDescribeAssignment, ConsumerGroupDescribeGroup, ConsumerGroupDescribeMember,
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupDescribeTopicPartitions,
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    DescribedGroup, DescribedGroupMember, ListGroupsRequest, ListGroupsResponse, ListedGroup, OffsetDeleteRequest,
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

/// From this version on, DescribeGroups says of a group that is not there that it is not (KIP-1043).
const DESCRIBE_SAYS_NOT_FOUND: i16 = 6;
/// A member that speaks the protocol of consumer groups.
const CONSUMER_MEMBER: i8 = 1;

/// The groups among these that the caller may do this with.
fn permitted(node: &Node, call: &Call, operation: i8, group_ids: &[String]) -> Vec<String> {
    let mut permitted: Vec<String> = Vec::new();
    for id in group_ids {
        if may_group(node, call, operation, id) && !permitted.contains(id) {
            permitted.push(id.clone());
        }
    }
    permitted
}

/// What they may do with a group, if that was asked for.
fn operations(state: &State, call: &Call, wanted: bool, group_id: &str) -> i32 {
    if wanted { call.operations(state, resource::GROUP, group_id) } else { NO_OPERATIONS }
}

fn not_found(group_id: &str) -> String {
    format!("Group {group_id} not found.")
}

pub(super) async fn describe_groups(
    node: &Node,
    call: &Call,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let permitted = permitted(node, call, operation::DESCRIBE, &request.groups);
    let rows = match permitted.is_empty() {
        true => Ok(BTreeMap::new()),
        false => classic_rows(node, permitted).await,
    };
    let state = node.state();
    let describe = |group_id: String| {
        let refused =
            |error: ErrorCode| DescribedGroup { error_code: error.0, group_id: group_id.clone(), ..Default::default() };
        if !call.may(&state, operation::DESCRIBE, resource::GROUP, &group_id) {
            return refused(ErrorCode::GROUP_AUTHORIZATION_FAILED);
        }
        match &rows {
            Err(error) => refused(*error),
            Ok(rows) => match rows.get(&group_id) {
                None => refused(ErrorCode::UNKNOWN_SERVER_ERROR),
                Some(row) => DescribedGroup {
                    authorized_operations: operations(&state, call, request.include_authorized_operations, &group_id),
                    ..described(call, row)
                },
            },
        }
    };
    DescribeGroupsResponse { throttle_time_ms: 0, groups: request.groups.into_iter().map(describe).collect() }
}

async fn classic_rows(node: &Node, group_ids: Vec<String>) -> Result<BTreeMap<String, ClassicRow>, ErrorCode> {
    match query(node, Query::DescribeGroups { group_ids }, Consistency::Linearizable).await? {
        Answer::Groups { groups } => Ok(groups.into_iter().map(|row| (row.group_id.clone(), row)).collect()),
        other => Err(answer_refusal(&other)),
    }
}

fn described(call: &Call, row: &ClassicRow) -> DescribedGroup {
    let member = |member: &ClassicMemberRow| DescribedGroupMember {
        member_id: member.member_id.clone(),
        group_instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        member_metadata: member.metadata.clone(),
        member_assignment: member.assignment.clone(),
    };
    let says = !row.error.is_none() && call.version >= DESCRIBE_SAYS_NOT_FOUND;
    DescribedGroup {
        error_code: if says { row.error.0 } else { super::NO_ERROR },
        error_message: says.then(|| not_found(&row.group_id)),
        group_id: row.group_id.clone(),
        group_state: row.state.clone(),
        protocol_type: row.protocol_type.clone(),
        protocol_data: row.protocol.clone(),
        members: row.members.iter().map(member).collect(),
        authorized_operations: NO_OPERATIONS,
    }
}

pub(super) async fn consumer_group_describe(
    node: &Node,
    call: &Call,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let wants = request.include_authorized_operations;
    let question = |group_ids| Query::DescribeConsumerGroups { group_ids };
    let described = |group_id, found: Described<'_>| match found {
        Ok((row, authorized_operations)) => {
            ConsumerGroupDescribeGroup { authorized_operations, ..consumers_described(row) }
        }
        Err((error, error_message)) => {
            ConsumerGroupDescribeGroup { error_code: error.0, error_message, group_id, ..Default::default() }
        }
    };
    let groups = describe_members(node, call, request.group_ids, wants, question, described).await;
    ConsumerGroupDescribeResponse { throttle_time_ms: 0, groups }
}

/// A group and what the caller may do with it; or an error, and what is said about it.
pub(super) type Described<'r> = Result<(&'r ConsumerRow, i32), (ErrorCode, Option<String>)>;

/// Describes groups of members with epochs: asks the coordinator about those that the caller may describe, and has an
/// answer made of each.
pub(super) async fn describe_members<T>(
    node: &Node,
    call: &Call,
    group_ids: Vec<String>,
    wants_operations: bool,
    question: impl FnOnce(Vec<String>) -> Query,
    described: impl Fn(String, Described<'_>) -> T,
) -> Vec<T> {
    let permitted = permitted(node, call, operation::DESCRIBE, &group_ids);
    let rows = match permitted.is_empty() {
        true => Ok(BTreeMap::new()),
        false => member_rows(node, question(permitted)).await,
    };
    let state = node.state();
    let describe = |group_id: String| {
        let found = match visible(&state, call, &rows, &group_id) {
            Ok(row) => Ok((row, operations(&state, call, wants_operations, &group_id))),
            Err((error, message)) => Err((error, message.or_else(|| error.name().map(str::to_owned)))),
        };
        described(group_id, found)
    };
    group_ids.into_iter().map(describe).collect()
}

async fn member_rows(node: &Node, question: Query) -> Result<BTreeMap<String, ConsumerRow>, ErrorCode> {
    match query(node, question, Consistency::Linearizable).await? {
        Answer::ConsumerGroups { groups } => Ok(groups.into_iter().map(|row| (row.group_id.clone(), row)).collect()),
        other => Err(answer_refusal(&other)),
    }
}

/// The row of a group that the caller may see all of; otherwise an error, and what is said about it.
fn visible<'r>(
    state: &State,
    call: &Call,
    rows: &'r Result<BTreeMap<String, ConsumerRow>, ErrorCode>,
    group_id: &str,
) -> Result<&'r ConsumerRow, (ErrorCode, Option<String>)> {
    if !call.may(state, operation::DESCRIBE, resource::GROUP, group_id) {
        return Err((ErrorCode::GROUP_AUTHORIZATION_FAILED, None));
    }
    let rows = rows.as_ref().map_err(|error| (*error, None))?;
    let row = rows.get(group_id).ok_or((ErrorCode::UNKNOWN_SERVER_ERROR, None))?;
    if !row.error.is_none() {
        return Err((row.error, Some(not_found(group_id))));
    }
    if !may_see(state, call, row) {
        let message = "The group has described topic(s) that the client is not authorized to describe.";
        return Err((ErrorCode::TOPIC_AUTHORIZATION_FAILED, Some(message.to_owned())));
    }
    Ok(row)
}

/// May they see all topics that the group's members have, or are to have?
fn may_see(state: &State, call: &Call, row: &ConsumerRow) -> bool {
    let parts = row.members.iter().flat_map(|member| member.assignment.iter().chain(&member.target));
    parts.into_iter().all(|part| call.may_topic(state, operation::DESCRIBE, &part.topic))
}

fn consumers_described(row: &ConsumerRow) -> ConsumerGroupDescribeGroup {
    let part = |part: &NamedPartitions| ConsumerGroupDescribeTopicPartitions {
        topic_id: part.topic_id,
        topic_name: part.topic.clone(),
        partitions: part.partitions.clone(),
    };
    let assignment = |parts: &[NamedPartitions]| ConsumerGroupDescribeAssignment {
        topic_partitions: parts.iter().map(part).collect(),
    };
    let member = |member: &ConsumerMemberRow| ConsumerGroupDescribeMember {
        member_id: member.member_id.clone(),
        instance_id: member.instance_id.clone(),
        rack_id: member.rack_id.clone(),
        member_epoch: member.member_epoch,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        subscribed_topic_names: member.subscribed_names.clone(),
        subscribed_topic_regex: member.subscribed_regex.clone(),
        assignment: assignment(&member.assignment),
        target_assignment: assignment(&member.target),
        member_type: CONSUMER_MEMBER,
    };
    ConsumerGroupDescribeGroup {
        error_code: super::NO_ERROR,
        error_message: None,
        group_id: row.group_id.clone(),
        group_state: row.state.clone(),
        group_epoch: row.epoch,
        assignment_epoch: row.assignment_epoch,
        assignor_name: row.assignor.clone(),
        members: row.members.iter().map(member).collect(),
        authorized_operations: NO_OPERATIONS,
    }
}

pub(super) async fn list_groups(node: &Node, call: &Call, request: ListGroupsRequest) -> ListGroupsResponse {
    if led(node).is_err() {
        return ListGroupsResponse::default();
    }
    let question = Query::ListGroups { states: request.states_filter, kinds: request.types_filter };
    let groups = match query(node, question, Consistency::Linearizable).await {
        Ok(Answer::GroupList { groups }) => groups,
        Ok(other) => return ListGroupsResponse { error_code: answer_refusal(&other).0, ..Default::default() },
        Err(error) => return ListGroupsResponse { error_code: error.0, ..Default::default() },
    };
    let state = node.state();
    let all = call.may_cluster(&state, operation::DESCRIBE);
    let seen = |row: &GroupRow| all || call.may(&state, operation::DESCRIBE, resource::GROUP, &row.group_id);
    let listed = |row: GroupRow| ListedGroup {
        group_id: row.group_id,
        protocol_type: row.protocol_type,
        group_state: row.state,
        group_type: row.kind,
    };
    ListGroupsResponse { groups: groups.into_iter().filter(seen).map(listed).collect(), ..Default::default() }
}

pub(super) async fn delete_groups(node: &Node, call: &Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let permitted = permitted(node, call, operation::DELETE, &request.groups_names);
    let outcome: Result<BTreeMap<String, ErrorCode>, ErrorCode> = match permitted.is_empty() {
        true => Ok(BTreeMap::new()),
        false => match command(node, Command::DeleteGroups { group_ids: permitted }).await {
            Ok(Reply::DeleteGroups { groups }) => Ok(groups.into_iter().collect()),
            Ok(other) => Err(refusal(&other)),
            Err(error) => Err(error),
        },
    };
    let result = |group_id: String| {
        let error = match &outcome {
            _ if !may_group(node, call, operation::DELETE, &group_id) => ErrorCode::GROUP_AUTHORIZATION_FAILED,
            Ok(errors) => errors.get(&group_id).copied().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR),
            Err(error) => *error,
        };
        DeletableGroupResult { group_id, error_code: error.0 }
    };
    DeleteGroupsResponse { throttle_time_ms: 0, results: request.groups_names.into_iter().map(result).collect() }
}

pub(super) async fn offset_delete(node: &Node, call: &Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let refused = |error: ErrorCode| OffsetDeleteResponse { error_code: error.0, ..Default::default() };
    if !may_group(node, call, operation::DELETE, &request.group_id) {
        return refused(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    let mut errors = Errors::new();
    let mut topics: Vec<TopicPartitions> = Vec::new();
    {
        let state = node.state();
        for topic in &request.topics {
            let found = named(&state, call, operation::READ, &topic.name);
            let rows = topic.partitions.iter().map(|row| (row.partition_index, row.partition_index));
            let partitions = sort(found, rows, |partition, error| {
                errors.insert((topic.name.clone(), partition), error);
            });
            if !partitions.is_empty() {
                topics.push(TopicPartitions { topic: topic.name.clone(), partitions });
            }
        }
    }
    if !topics.is_empty() {
        match topic_errors(command(node, Command::DeleteOffsets { group_id: request.group_id, topics }).await) {
            Ok(outcome) => errors.extend(outcome),
            Err(error) => return refused(error),
        }
    }
    let outcome = Ok(errors);
    let answered = |topic: crate::wire::message::OffsetDeleteRequestTopic| OffsetDeleteResponseTopic {
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetDeleteResponsePartition {
                partition_index: partition.partition_index,
                error_code: error_of(&outcome, &topic.name, partition.partition_index).0,
            })
            .collect(),
        name: topic.name,
    };
    OffsetDeleteResponse { topics: request.topics.into_iter().map(answered).collect(), ..Default::default() }
}
