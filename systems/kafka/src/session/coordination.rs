//! How handlers reach the coordinator, and what requests about groups, offsets and transactions have in common.
//!
//! One group coordinates everything; the node that leads it answers, and the others send clients there. A node that leads
//! no more, and does not know it yet, is found out by the order, or by a read that is linearizable.
//!
//! Deliberately absent: what is decided. The coordinator's machine decides.

use std::collections::BTreeMap;

use bytes::Bytes;
use verity_contract::{Consistency, Failure};
use verity_types::GroupId;

use super::call::Call;
use super::node::{Node, State, coordinator_error};
use crate::machine::cluster::{Topic, resource};
use crate::machine::coordinator::{Answer, Command, Query, Reply, TopicErrors, alive};
use crate::wire::{ErrorCode, Uuid};

/// How long the coordinator may take to answer.
const ANSWER_MS: i32 = 30_000;

/// Errors of a topic's partitions, by topic and partition.
pub(super) type Errors = BTreeMap<(String, i32), ErrorCode>;

/// The coordinator's group, if this node leads it.
pub(super) fn led(node: &Node) -> Result<GroupId, ErrorCode> {
    let state = node.state();
    let group = state.config.coordinator;
    let leads = state.roles.get(&group).is_some_and(|role| role.leads);
    if leads { Ok(group) } else { Err(ErrorCode::NOT_COORDINATOR) }
}

/// Places a command in the coordinator's order, if this node leads it.
pub(super) async fn command(node: &Node, command: Command) -> Result<Reply, ErrorCode> {
    let group = led(node)?;
    let answer = node.propose(group, command.encode()).by(node.in_ms(ANSWER_MS)).await;
    Reply::decode(&brought(answer)?).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)
}

/// Asks the coordinator, if this node leads it.
pub(super) async fn query(node: &Node, query: Query, consistency: Consistency) -> Result<Answer, ErrorCode> {
    let group = led(node)?;
    let answer = node.read(group, query.encode(), consistency).by(node.in_ms(ANSWER_MS)).await;
    Answer::decode(&brought(answer)?).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)
}

fn brought(answer: Option<Result<Bytes, Failure>>) -> Result<Bytes, ErrorCode> {
    match answer {
        Some(Ok(bytes)) => Ok(bytes),
        Some(Err(failure)) => Err(coordinator_error(Some(failure))),
        None => Err(coordinator_error(None)),
    }
}

/// The error of a reply that is of no other use.
pub(super) fn refusal(reply: &Reply) -> ErrorCode {
    match reply {
        Reply::Error { error } if !error.is_none() => *error,
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// The error of an answer that is of no other use.
pub(super) fn answer_refusal(answer: &Answer) -> ErrorCode {
    match answer {
        Answer::Error { error } if !error.is_none() => *error,
        _ => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// The errors of a reply about topics.
pub(super) fn topic_errors(reply: Result<Reply, ErrorCode>) -> Result<Errors, ErrorCode> {
    match reply? {
        Reply::Topics { error, topics, .. } if error.is_none() => Ok(by_partition(topics)),
        Reply::Topics { error, .. } => Err(error),
        other => Err(refusal(&other)),
    }
}

/// Errors by topic and partition.
pub(super) fn by_partition(topics: Vec<TopicErrors>) -> Errors {
    let row = |TopicErrors { topic, partitions }| {
        partitions.into_iter().map(move |(partition, error)| ((String::clone(&topic), partition), error))
    };
    topics.into_iter().flat_map(row).collect()
}

/// The error of one partition.
pub(super) fn error_of(outcome: &Result<Errors, ErrorCode>, topic: &str, partition: i32) -> ErrorCode {
    match outcome {
        Ok(errors) => errors.get(&(topic.to_owned(), partition)).copied().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR),
        Err(error) => *error,
    }
}

/// Tells the coordinator's duty that a member was heard of.
pub(super) fn hear(node: &Node, group_id: &str, member_id: &str) {
    if member_id.is_empty() {
        return;
    }
    let (group, _) = node.groups();
    node.whisper(group, alive(&[(group_id.to_owned(), member_id.to_owned())]));
}

/// May the caller do this with the group?
pub(super) fn may_group(node: &Node, call: &Call, operation: i8, group_id: &str) -> bool {
    let state = node.state();
    call.may(&state, operation, resource::GROUP, group_id)
}

/// May the caller do this with the transactional id?
pub(super) fn may_transact(node: &Node, call: &Call, operation: i8, id: &str) -> bool {
    let state = node.state();
    call.may(&state, operation, resource::TRANSACTIONAL_ID, id)
}

/// The topic that a request names, if the caller may do this with it.
pub(super) fn named<'a>(state: &'a State, call: &Call, operation: i8, name: &str) -> Result<&'a Topic, ErrorCode> {
    if !call.may_topic(state, operation, name) {
        return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    state.image.topic(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

/// The topic that a request means by its id, if the caller may do this with it.
pub(super) fn with_id<'a>(state: &'a State, call: &Call, operation: i8, id: Uuid) -> Result<&'a Topic, ErrorCode> {
    let topic = state.image.topic_by_id(id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
    let may = call.may_topic(state, operation, &topic.name);
    if may { Ok(topic) } else { Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED) }
}

/// The rows of a topic's partitions that are there. The others are refused.
pub(super) fn sort<T>(
    found: Result<&Topic, ErrorCode>,
    rows: impl Iterator<Item = (i32, T)>,
    mut refuse: impl FnMut(i32, ErrorCode),
) -> Vec<T> {
    let mut kept = Vec::new();
    for (partition, row) in rows {
        match found {
            Ok(topic) if topic.partition(partition).is_some() => kept.push(row),
            Ok(_) => refuse(partition, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            Err(error) => refuse(partition, error),
        }
    }
    kept
}
