//! Members of consumer groups (KIP-848).
//!
//! - upon a heartbeat: this node's state says whether it changes anything. If it does, it becomes a command, which brings
//!   what this node knows of the topics that the group subscribes to;
//! - upon a pattern: it is resolved here, against the topics that the member may see.
//!
//! Deliberately absent: assignments. The coordinator's machine makes them.

use std::collections::BTreeSet;

use regex::{Regex, RegexBuilder};
use verity_contract::Consistency;

use super::call::Call;
use super::coordination::{answer_refusal, command, hear, may_group, query, refusal};
use super::node::{Node, State};
use crate::machine::cluster::operation;
use crate::machine::coordinator::{
    Answer, Command, ConsumerHeartbeat, ConsumerReply, IdPartitions, Query, Reply, TopicInfo,
};
use crate::wire::ErrorCode;
use crate::wire::message::{
    ConsumerGroupHeartbeatAssignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    ConsumerGroupHeartbeatResponseTopicPartitions,
};

/// From this version on, members make their own ids (KIP-1082).
const OWN_IDS: i16 = 1;
/// No pattern has more bytes.
const PATTERN_SIZE_MAX: usize = 4_096;
/// No pattern takes more memory once it is compiled.
const COMPILED_SIZE_MAX: usize = 1 << 20;

/// An error, and what is said about it.
type Refused = (ErrorCode, Option<String>);

/// A pattern in RE2's syntax that matches whole names; or what is wrong with it.
pub(super) fn pattern(text: &str) -> Result<Regex, String> {
    if text.len() > PATTERN_SIZE_MAX {
        return Err(format!("it has more than {PATTERN_SIZE_MAX} bytes"));
    }
    let compile = |text: &str| RegexBuilder::new(text).size_limit(COMPILED_SIZE_MAX).build();
    // By itself first: what is put around it must not make good what is wrong with it.
    let whole = compile(text).and_then(|_| compile(&format!(r"\A(?:{text})\z")));
    whole.map_err(|error| error.to_string())
}

fn bad_pattern(text: &str, why: &str) -> Refused {
    let message = format!("SubscribedTopicRegex `{text}` is not a valid regular expression: {why}.");
    (ErrorCode::INVALID_REGULAR_EXPRESSION, Some(message))
}

pub(super) async fn consumer_group_heartbeat(
    node: &Node,
    call: &Call,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    let refused = |(error, message): Refused| ConsumerGroupHeartbeatResponse {
        error_code: error.0,
        error_message: message.or_else(|| error.name().map(str::to_owned)),
        ..Default::default()
    };
    let reply = match heard(node, call, request).await {
        Ok(reply) if reply.error.is_none() => reply,
        Ok(reply) => return refused((reply.error, None)),
        Err(refusal) => return refused(refusal),
    };
    let topic = |topic: IdPartitions| ConsumerGroupHeartbeatResponseTopicPartitions {
        topic_id: topic.topic_id,
        partitions: topic.partitions,
    };
    ConsumerGroupHeartbeatResponse {
        throttle_time_ms: 0,
        error_code: super::NO_ERROR,
        error_message: None,
        member_id: Some(reply.member_id),
        member_epoch: reply.member_epoch,
        heartbeat_interval_ms: i32::try_from(reply.heartbeat_interval_ms).unwrap_or(i32::MAX),
        assignment: reply.assignment.map(|topics| ConsumerGroupHeartbeatAssignment {
            topic_partitions: topics.into_iter().map(topic).collect(),
        }),
    }
}

/// May they, and is the pattern one?
fn check(state: &State, call: &Call, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refused> {
    let names = request.subscribed_topic_names.iter().flatten();
    if !names.into_iter().all(|name| call.may_topic(state, operation::DESCRIBE, name)) {
        return Err((ErrorCode::TOPIC_AUTHORIZATION_FAILED, None));
    }
    match request.subscribed_topic_regex.as_deref() {
        None | Some("") => Ok(()),
        Some(text) => pattern(text).map(drop).map_err(|why| bad_pattern(text, &why)),
    }
}

async fn heard(node: &Node, call: &Call, mut request: ConsumerGroupHeartbeatRequest) -> Result<ConsumerReply, Refused> {
    let plain = |error: ErrorCode| (error, None);
    if !may_group(node, call, operation::READ, &request.group_id) {
        return Err(plain(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    }
    check(&node.state(), call, &request)?;
    if request.member_id.is_empty() && request.member_epoch == 0 && call.version < OWN_IDS {
        request.member_id = node.state().draw().to_string();
    }
    hear(node, &request.group_id, &request.member_id);
    let mut request = said(node, call, request);
    if request.member_epoch >= 0 {
        let question = Query::ConsumerHeartbeat { request: Box::new(request.clone()) };
        match query(node, question, Consistency::Local).await.map_err(plain)? {
            Answer::Unchanged { reply } => return Ok(reply),
            Answer::NeedsCommand { topics, regex } => inform(node, call, &mut request, topics, regex)?,
            other => return Err(plain(answer_refusal(&other))),
        }
    }
    match command(node, Command::ConsumerHeartbeat { request }).await.map_err(plain)? {
        Reply::Consumer { reply } => Ok(reply),
        other => Err(plain(refusal(&other))),
    }
}

/// What a member says of itself.
fn said(node: &Node, call: &Call, request: ConsumerGroupHeartbeatRequest) -> ConsumerHeartbeat {
    let owned = request.topic_partitions.map(|topics| {
        topics.into_iter().map(|one| IdPartitions { topic_id: one.topic_id, partitions: one.partitions }).collect()
    });
    ConsumerHeartbeat {
        group_id: request.group_id,
        member_id: request.member_id,
        member_epoch: request.member_epoch,
        instance_id: request.instance_id,
        rack_id: request.rack_id,
        client_id: call.client_id.clone(),
        client_host: format!("/{}", call.host),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        subscribed_names: request.subscribed_topic_names,
        subscribed_regex: request.subscribed_topic_regex,
        resolved: None,
        assignor: request.server_assignor,
        owned,
        metadata_version: node.state().topics_version,
        topics: Vec::new(),
    }
}

/// Adds what this node knows of topics.
fn inform(
    node: &Node,
    call: &Call,
    request: &mut ConsumerHeartbeat,
    topics: Vec<String>,
    regex: Option<String>,
) -> Result<(), Refused> {
    let regex = match &regex {
        Some(text) => Some(pattern(text).map_err(|why| bad_pattern(text, &why))?),
        None => None,
    };
    let state = node.state();
    let mut names: BTreeSet<String> = topics.into_iter().collect();
    if let Some(regex) = regex {
        let seen = state.image.topics().filter(|topic| regex.is_match(&topic.name));
        let seen = seen.filter(|topic| call.may_topic(&state, operation::DESCRIBE, &topic.name));
        let resolved: Vec<String> = seen.map(|topic| topic.name.clone()).collect();
        names.extend(resolved.iter().cloned());
        request.resolved = Some(resolved);
    }
    let info = |name: String| match state.image.topic(&name) {
        Some(topic) => TopicInfo { id: topic.id, partitions: topic.partition_count(), name },
        None => TopicInfo { id: Default::default(), partitions: 0, name },
    };
    request.topics = names.into_iter().map(info).collect();
    request.metadata_version = state.topics_version;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn a_pattern_matches_whole_names_and_is_bounded() {
        let one = pattern("a|b.*").unwrap();
        assert!(one.is_match("a") && one.is_match("bcd") && !one.is_match("ab") && !one.is_match("cb"));
        assert!(pattern(r"[\w.]+-\d{3}").unwrap().is_match("orders.eu-001"));
        for bad in ["(", "a)(b", "*", "(?=x)", r"(a)\1", "((a{1000}){1000}){1000}", &"a".repeat(5_000)] {
            assert!(pattern(bad).is_err(), "{bad:.20}");
        }
    }
}
