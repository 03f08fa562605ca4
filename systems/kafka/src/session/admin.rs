//! Topics are created, grow, and go; their records are deleted; features are switched.
//!
//! - upon CreateTopics: each topic is one command; the answer waits a moment for the leaders of new partitions, so that
//!   whoever created a topic can write to it at once;
//! - upon DeleteTopics, CreatePartitions, UpdateFeatures: the same, without the wait;
//! - upon DeleteRecords: each partition is told by the node that leads it.
//!
//! Who creates and deletes more partitions than its quota allows is refused, or made to wait if its version of the request
//! is too old to know of refusals (KIP-599).
//!
//! Deliberately absent: what may be created, which the metadata's machine decides.

use std::collections::{BTreeMap, BTreeSet};

use verity_types::GroupId;

use super::call::Call;
use super::commands::{self, Verdict};
use super::node::{Node, State, partition_error};
use super::{configs, quotas, topics};
use crate::machine::cluster::{AGREEMENT, Agreement, Command, FeatureUpdate, Outcome, operation};
use crate::machine::partition;
use crate::wire::ErrorCode;
use crate::wire::message::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreatePartitionsRequest, CreatePartitionsResponse,
    CreatePartitionsTopic, CreatePartitionsTopicResult, CreateTopicsRequest, CreateTopicsResponse,
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopicResult,
    UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};

/// How long the answer to CreateTopics waits for leaders at the most.
const LEADERS_WAIT_MS: i32 = 1_000;
/// What stands for no low watermark.
const NO_WATERMARK: i64 = -1;

/// How often each name is there.
pub(super) fn counts<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    names.for_each(|name| *counts.entry(name.to_owned()).or_default() += 1);
    counts
}

/// Counts mutations against the client's quota; `throttle` becomes how long it is to wait.
pub(super) fn admit(
    state: &mut State,
    call: &Call,
    strict: bool,
    partitions: usize,
    throttle: &mut i32,
) -> Result<(), Verdict> {
    let charged = quotas::mutate(state, call, strict, partitions);
    let wait = charged.unwrap_or_else(|wait| wait);
    *throttle = wait.max(*throttle);
    charged.map(drop).map_err(|_| Verdict::of(ErrorCode::THROTTLING_QUOTA_EXCEEDED))
}

// ---- CreateTopics

/// From this version on, clients know of refusals by quotas.
const CREATE_STRICT: i16 = 6;

fn plan_topic(
    node: &Node,
    call: &Call,
    request: (&CreatableTopic, bool),
    count: usize,
    throttle: &mut i32,
) -> Result<Command, Verdict> {
    let (topic, validate_only) = request;
    let mut state = node.state();
    if count > 1 {
        return Err(Verdict::refused(ErrorCode::INVALID_REQUEST, "Duplicate topic name."));
    }
    if !call.may_cluster(&state, operation::CREATE) && !call.may_topic(&state, operation::CREATE, &topic.name) {
        return Err(Verdict::refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED, "Authorization failed."));
    }
    let partitions = match (topic.assignments.len(), topic.num_partitions) {
        (0, -1) => usize::try_from(state.image.default_partitions()).unwrap_or(0),
        (0, asked) => usize::try_from(asked).unwrap_or(0),
        (assigned, _) => assigned,
    };
    if !validate_only {
        admit(&mut state, call, call.version >= CREATE_STRICT, partitions, throttle)?;
    }
    let assignments = topic.assignments.iter();
    let configs = topic.configs.iter();
    let named = configs.clone().find(|config| config.name == AGREEMENT).and_then(|config| config.value.as_deref());
    let agreement = named.and_then(Agreement::named).unwrap_or(state.config.agreement);
    Ok(Command::CreateTopic {
        name: topic.name.clone(),
        id: state.draw(),
        partitions: topic.num_partitions,
        replication_factor: match topic.replication_factor {
            -1 if topic.assignments.is_empty() => state.replication_factor(agreement),
            asked => asked,
        },
        assignments: assignments.map(|chosen| (chosen.partition_index, chosen.broker_ids.clone())).collect(),
        configs: configs.map(|config| (config.name.clone(), config.value.clone())).collect(),
        validate_only,
    })
}

/// What a client is told about a topic that it created.
fn created(state: &State, call: &Call, topic: &CreatableTopic, verdict: Verdict) -> CreatableTopicResult {
    let name = topic.name.clone();
    let Outcome::Created { id, partitions, replication_factor } = verdict.outcome else {
        return CreatableTopicResult {
            name,
            error_code: verdict.error.0,
            error_message: verdict.message,
            configs: Some(Vec::new()),
            ..Default::default()
        };
    };
    if !call.may_topic(state, operation::DESCRIBE_CONFIGS, &topic.name) {
        let topic_config_error_code = ErrorCode::TOPIC_AUTHORIZATION_FAILED.0;
        return CreatableTopicResult { name, topic_id: id, topic_config_error_code, ..Default::default() };
    }
    let set = topic.configs.iter().filter_map(|config| Some((config.name.clone(), config.value.clone()?))).collect();
    let described = state.image.describe_topic_config(&set, &configs::own(state));
    let configs = described.into_iter().map(|entry| CreatableTopicConfigs {
        name: entry.name,
        value: entry.value,
        read_only: entry.read_only,
        config_source: entry.source,
        is_sensitive: entry.sensitive,
    });
    CreatableTopicResult {
        name,
        topic_id: id,
        num_partitions: partitions,
        replication_factor,
        configs: Some(configs.collect()),
        ..Default::default()
    }
}

pub(super) async fn create_topics(node: &Node, call: &Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    topics::await_nodes(node).await;
    let until = node.in_ms(commands::bounded(request.timeout_ms));
    let counts = counts(request.topics.iter().map(|topic| topic.name.as_str()));
    // A name that is there twice is answered once.
    let mut seen = BTreeSet::new();
    let wanted: Vec<&CreatableTopic> = request.topics.iter().filter(|topic| seen.insert(&topic.name)).collect();
    let mut throttle = 0;
    let plan = |topic: &&CreatableTopic| {
        plan_topic(node, call, (topic, request.validate_only), counts[&topic.name], &mut throttle)
    };
    let planned = wanted.iter().map(plan).collect();
    let verdicts = commands::decide_some(node, planned, commands::bounded(request.timeout_ms)).await;
    let done = wanted.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_done() && !request.validate_only);
    let names: Vec<&str> = done.map(|(topic, _)| topic.name.as_str()).collect();
    let left = until.0.saturating_sub(node.now().0) / 1_000_000;
    let wait = request.timeout_ms.min(LEADERS_WAIT_MS).min(i32::try_from(left).unwrap_or(i32::MAX));
    topics::await_leaders(node, names.into_iter(), wait).await;
    let state = node.state();
    let answers = wanted.into_iter().zip(verdicts).map(|(topic, verdict)| created(&state, call, topic, verdict));
    CreateTopicsResponse { throttle_time_ms: throttle, topics: answers.collect() }
}

// ---- CreatePartitions

/// From this version on, clients know of refusals by quotas.
const GROW_STRICT: i16 = 3;

fn plan_growth(
    node: &Node,
    call: &Call,
    request: (&CreatePartitionsTopic, bool),
    count: usize,
    throttle: &mut i32,
) -> Result<Command, Verdict> {
    let (topic, validate_only) = request;
    let mut state = node.state();
    if count > 1 {
        return Err(Verdict::refused(ErrorCode::INVALID_REQUEST, "Duplicate topic name."));
    }
    if !call.may_topic(&state, operation::ALTER, &topic.name) {
        return Err(Verdict::of(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    }
    let before = state.image.topic(&topic.name).map_or(0, |topic| topic.partition_count());
    if !validate_only {
        let new = usize::try_from(topic.count.saturating_sub(before)).unwrap_or(0);
        admit(&mut state, call, call.version >= GROW_STRICT, new, throttle)?;
    }
    let assignments = topic.assignments.as_ref();
    Ok(Command::CreatePartitions {
        name: topic.name.clone(),
        count: topic.count,
        assignments: assignments.map(|chosen| chosen.iter().map(|replicas| replicas.broker_ids.clone()).collect()),
        validate_only,
    })
}

pub(super) async fn create_partitions(
    node: &Node,
    call: &Call,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let counts = counts(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut wanted: BTreeMap<&str, &CreatePartitionsTopic> = BTreeMap::new();
    wanted.extend(request.topics.iter().map(|topic| (topic.name.as_str(), topic)));
    let mut throttle = 0;
    let plan = |topic: &&CreatePartitionsTopic| {
        plan_growth(node, call, (topic, request.validate_only), counts[&topic.name], &mut throttle)
    };
    let planned = wanted.values().map(plan).collect();
    let verdicts = commands::decide_some(node, planned, commands::bounded(request.timeout_ms)).await;
    let grown = wanted.keys().zip(&verdicts).filter(|(_, verdict)| verdict.is_done() && !request.validate_only);
    let grown: Vec<&str> = grown.map(|(name, _)| *name).collect();
    topics::await_leaders(node, grown.into_iter(), request.timeout_ms.min(LEADERS_WAIT_MS)).await;
    let results = wanted.into_keys().zip(verdicts).map(|(name, verdict)| CreatePartitionsTopicResult {
        name: name.to_owned(),
        error_code: verdict.error.0,
        error_message: verdict.message,
    });
    CreatePartitionsResponse { throttle_time_ms: throttle, results: results.collect() }
}

// ---- DeleteRecords

/// Which group is to be told, if this node may tell it.
fn record_holder(state: &State, call: &Call, topic: &str, index: i32) -> Result<GroupId, ErrorCode> {
    if !call.may_topic(state, operation::DELETE, topic) {
        return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    let Some(partition) = state.image.partition(topic, index) else {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    };
    if !state.role(partition.group).is_some_and(|role| role.leads) {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    let policy = state.image.topic_config(topic, "cleanup.policy");
    // An empty list keeps everything, and what only compaction may take is not for clients to take.
    if policy.split(',').any(|policy| policy.trim() == "delete") || policy.trim().is_empty() {
        return Ok(GroupId(partition.group));
    }
    Err(ErrorCode::POLICY_VIOLATION)
}

pub(super) async fn delete_records(node: &Node, call: &Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let until = node.in_ms(commands::bounded(request.timeout_ms));
    let mut response = DeleteRecordsResponse::default();
    for topic in request.topics {
        let mut asked = Vec::new();
        for wanted in topic.partitions {
            let holder = record_holder(&node.state(), call, &topic.name, wanted.partition_index);
            let holder = holder.and_then(|group| match wanted.offset {
                ..-1 => Err(ErrorCode::OFFSET_OUT_OF_RANGE),
                _ => Ok(group),
            });
            let command = partition::Command::DeleteRecords { offset: wanted.offset }.encode();
            asked.push((wanted.partition_index, holder.map(|group| node.propose(group, command))));
        }
        let mut partitions = Vec::new();
        for (partition_index, answer) in asked {
            let outcome = match answer {
                Err(error) => Err(error),
                Ok(answer) => match answer.by(until).await {
                    Some(Ok(bytes)) => match partition::Reply::decode(bytes) {
                        Some(reply) if reply.error == ErrorCode::NONE => Ok(reply.log_start),
                        Some(reply) => Err(reply.error),
                        None => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
                    },
                    Some(Err(failure)) => Err(partition_error(Some(failure))),
                    None => Err(partition_error(None)),
                },
            };
            let low_watermark = outcome.unwrap_or(NO_WATERMARK);
            let error_code = outcome.err().unwrap_or_default().0;
            partitions.push(DeleteRecordsPartitionResult { partition_index, low_watermark, error_code });
        }
        response.topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    response
}

// ---- UpdateFeatures

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
/// Up to this version, each feature has a result of its own.
const LISTS_FEATURES: i16 = 1;

pub(super) async fn update_features(
    node: &Node,
    call: &Call,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let names: Vec<String> = request.feature_updates.iter().map(|update| update.feature.clone()).collect();
    let updates = request.feature_updates.into_iter().map(|update| FeatureUpdate {
        name: update.feature,
        level: update.max_version_level,
        upgrade: match (call.version, update.allow_downgrade) {
            (0, true) => SAFE_DOWNGRADE,
            (0, false) => UPGRADE,
            _ => update.upgrade_type,
        },
    });
    let command = Command::UpdateFeatures { updates: updates.collect(), validate_only: request.validate_only };
    let may = call.may_cluster(&node.state(), operation::ALTER);
    let planned = if may { Ok(command) } else { Err(Verdict::of(ErrorCode::CLUSTER_AUTHORIZATION_FAILED)) };
    let timeout = commands::bounded(request.timeout_ms);
    let verdict = commands::decide_some(node, vec![planned], timeout).await.pop();
    let verdict = verdict.expect("a command has a verdict");
    let message = verdict.message.map(|message| match verdict.error {
        ErrorCode::INVALID_UPDATE_VERSION => {
            format!("The update failed for all features since the following feature had an error: {message}")
        }
        _ => message,
    });
    let done = verdict.error == ErrorCode::NONE && call.version <= LISTS_FEATURES;
    let results = names.into_iter().filter(|_| done);
    UpdateFeaturesResponse {
        throttle_time_ms: 0,
        error_code: verdict.error.0,
        error_message: message,
        results: results.map(|feature| UpdatableFeatureResult { feature, ..Default::default() }).collect(),
    }
}
