//! Topics go, by name or by id.
//!
//! Whoever may not describe a topic does not learn from a refusal whether it is there.
//!
//! Deliberately absent: what becomes of a topic's records, which its partitions' groups take with them.

use std::collections::{BTreeMap, BTreeSet};

use super::admin::{admit, counts};
use super::call::Call;
use super::commands::{self, Verdict};
use super::node::{Node, State};
use crate::machine::cluster::{Command, operation};
use crate::wire::message::{DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use crate::wire::{ErrorCode, Uuid};

/// From this version on, topics may be named by their ids.
const BY_ID: i16 = 6;
/// From this version on, clients know of refusals by quotas.
const STRICT: i16 = 5;
/// From this version on, clients know that deletion may be switched off.
const KNOWS_DISABLED: i16 = 3;

/// What a client calls a topic, and what it is told about it.
struct Wanted {
    name: Option<String>,
    id: Uuid,
    plan: Result<Command, Verdict>,
}

impl Wanted {
    fn refused(name: Option<String>, id: Uuid, verdict: Verdict) -> Self {
        Self { name, id, plan: Err(verdict) }
    }
}

fn invalid(message: &str) -> Verdict {
    Verdict::refused(ErrorCode::INVALID_REQUEST, message)
}

/// What is wrong with how a topic is named, if anything is.
fn misnamed(topic: &DeleteTopicState, names: usize, ids: usize) -> Option<Verdict> {
    match (&topic.name, topic.topic_id.is_zero()) {
        (None, true) => Some(invalid("Neither topic name nor id were specified.")),
        (Some(_), false) => Some(invalid("You may not specify both topic name and topic id.")),
        (Some(_), true) if names > 1 => Some(invalid("Duplicate topic name.")),
        (None, false) if ids > 1 => Some(invalid("Duplicate topic id.")),
        _ => None,
    }
}

/// Plans the deletion of a topic that is named well.
fn plan(state: &mut State, call: &Call, topic: &DeleteTopicState, throttle: &mut i32) -> Wanted {
    let found = match &topic.name {
        Some(name) => state.image.topic(name),
        None => state.image.topic_by_id(topic.topic_id),
    };
    let name = found.map(|topic| topic.name.clone()).or_else(|| topic.name.clone());
    let (id, partitions) = found.map_or((topic.topic_id, 0), |topic| (topic.id, topic.partitions.len()));
    let denied = || Verdict::of(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let may = |wanted: i8| name.as_ref().is_some_and(|name| call.may_topic(state, wanted, name));
    if name.is_some() && !may(operation::DESCRIBE) {
        return Wanted::refused(topic.name.clone(), topic.topic_id, denied());
    }
    let known = found.is_some();
    if !known && name.is_none() {
        return Wanted::refused(name, id, Verdict::of(ErrorCode::UNKNOWN_TOPIC_ID));
    }
    if !may(operation::DELETE) {
        return Wanted::refused(name, id, denied());
    }
    if !known {
        // This node may not have heard of it yet.
        let plan = Ok(Command::DeleteTopic { name: name.clone(), id: Uuid::ZERO });
        return Wanted { name, id, plan };
    }
    let admitted = admit(state, call, call.version >= STRICT, partitions, throttle);
    // By its id, so that a topic of the same name that comes meanwhile is spared.
    let plan = admitted.map(|()| Command::DeleteTopic { name: None, id });
    Wanted { name, id, plan }
}

fn plan_all(state: &mut State, call: &Call, topics: &[DeleteTopicState], throttle: &mut i32) -> Vec<Wanted> {
    let names = counts(topics.iter().filter_map(|topic| topic.name.as_deref()));
    let mut ids: BTreeMap<Uuid, usize> = BTreeMap::new();
    let by_id = topics.iter().filter(|topic| topic.name.is_none());
    by_id.for_each(|topic| *ids.entry(topic.topic_id).or_default() += 1);
    let mut seen: BTreeSet<(Option<String>, Uuid)> = BTreeSet::new();
    let mut taken: BTreeSet<Uuid> = BTreeSet::new();
    let mut wanted = Vec::new();
    for topic in topics {
        if !seen.insert((topic.name.clone(), topic.topic_id)) && (topic.name.is_some() || !topic.topic_id.is_zero()) {
            continue;
        }
        let by_name = topic.name.as_ref().map_or(0, |name| names[name]);
        let by_id = ids.get(&topic.topic_id).copied().unwrap_or(0);
        if let Some(verdict) = misnamed(topic, by_name, by_id) {
            wanted.push(Wanted::refused(topic.name.clone(), topic.topic_id, verdict));
            continue;
        }
        let planned = plan(state, call, topic, throttle);
        if planned.plan.is_ok() && !planned.id.is_zero() && !taken.insert(planned.id) {
            let message = "The provided topic name maps to an ID that was already supplied.";
            wanted.push(Wanted::refused(planned.name, planned.id, invalid(message)));
        } else {
            wanted.push(planned);
        }
    }
    wanted
}

pub(super) async fn delete_topics(node: &Node, call: &Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let topics: Vec<DeleteTopicState> = if call.version >= BY_ID {
        request.topics
    } else {
        let named = request.topic_names.into_iter();
        named.map(|name| DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO }).collect()
    };
    let mut throttle = 0;
    let wanted = plan_all(&mut node.state(), call, &topics, &mut throttle);
    let mut named = Vec::with_capacity(wanted.len());
    let mut planned = Vec::with_capacity(wanted.len());
    for Wanted { name, id, plan } in wanted {
        named.push((name, id));
        planned.push(plan);
    }
    let verdicts = commands::decide_some(node, planned, commands::bounded(request.timeout_ms)).await;
    let results = named.into_iter().zip(verdicts).map(|((name, topic_id), verdict)| {
        let disabled = verdict.error == ErrorCode::TOPIC_DELETION_DISABLED && call.version < KNOWS_DISABLED;
        let error = if disabled { ErrorCode::INVALID_REQUEST } else { verdict.error };
        DeletableTopicResult { name, topic_id, error_code: error.0, error_message: verdict.message }
    });
    DeleteTopicsResponse { throttle_time_ms: throttle, responses: results.collect() }
}
