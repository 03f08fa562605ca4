//! Topics come, grow and go.
//!
//! - upon `CreateTopic`: its name is looked at, then its configuration, then where its partitions shall live. Each
//!   partition is a group: it gets a number that was never given before, and its nodes are told to host it;
//! - upon `CreatePartitions`: the same, for what is new. What is there does not move;
//! - upon `DeleteTopic`: its groups end, and everything that they hold.
//!
//! The number of replicas that a topic gets without saying so is the default, but never more than there are nodes: one
//! node alone serves a client that asks for nothing special. A topic on PBFT gets four, if there are so many.
//!
//! Deliberately absent: duplicate names within a client's request, which are the session's to refuse.

use std::collections::{BTreeMap, BTreeSet};

use super::agreement::{self, Agreement};
use super::change::Delta;
use super::command::{Outcome, Refusal};
use super::config;
use super::image::{ClusterImage, ConfigResource, NO_LEADER, Node, PARTITIONS, Partition, Topic};
use super::plan::{Plan, Planned};
use super::{names, placement};
use crate::wire::{ErrorCode, Uuid};

/// One command makes no more partitions.
pub const PARTITIONS_PER_COMMAND_MAX: usize = 10_000;
/// There are never more partitions.
pub const PARTITION_COUNT_MAX: usize = 200_000;
/// There are never more nodes.
pub const NODE_COUNT_MAX: usize = 1_000;
/// A host's name has no more bytes, and a rack's neither.
pub const HOST_SIZE_MAX: usize = 255;

/// What a client wants of a new topic.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) id: Uuid,
    pub(super) partitions: i32,
    pub(super) replication_factor: i16,
    pub(super) assignments: Vec<(i32, Vec<i32>)>,
    pub(super) configs: Vec<(String, Option<String>)>,
}

fn refuse<T>(error: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(error, message))
}

pub(super) fn unknown_topic() -> Refusal {
    Refusal::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
}

// ---- nodes

pub(super) fn register(image: &ClusterImage, node: Node) -> Planned {
    if node.id < 1 {
        return refuse(ErrorCode::INVALID_REGISTRATION, "A node's id is 1 or more.");
    }
    let texts = [Some(&node.host), node.rack.as_ref()];
    if node.host.is_empty() || texts.into_iter().flatten().any(|text| text.len() > HOST_SIZE_MAX) {
        let message = format!("A node has a host, and a host and a rack have {HOST_SIZE_MAX} bytes at the most.");
        return refuse(ErrorCode::INVALID_REGISTRATION, message);
    }
    let known = image.node(node.id);
    if known.is_none() && image.node_count() >= NODE_COUNT_MAX {
        return refuse(ErrorCode::POLICY_VIOLATION, format!("There are {NODE_COUNT_MAX} nodes already."));
    }
    Ok(if known == Some(&node) { Plan::default() } else { Plan::of([Delta::Node { node }]) })
}

fn no_node(id: i32) -> Refusal {
    Refusal::new(ErrorCode::BROKER_ID_NOT_REGISTERED, format!("Broker ID {id} is not currently registered"))
}

pub(super) fn fence(image: &ClusterImage, id: i32, fenced: bool) -> Planned {
    let node = image.node(id).ok_or_else(|| no_node(id))?;
    if node.fenced == fenced {
        return Ok(Plan::default());
    }
    Ok(Plan::of([Delta::Node { node: Node { fenced, ..node.clone() } }]))
}

pub(super) fn unregister(image: &ClusterImage, id: i32) -> Planned {
    image.node(id).ok_or_else(|| no_node(id))?;
    Ok(Plan::of([Delta::NodeGone { id }]))
}

// ---- topics

pub(super) fn create(image: &ClusterImage, wanted: Wanted) -> Planned {
    let Wanted { name, id, partitions, replication_factor, assignments, configs } = wanted;
    validate_new_name(image, &name)?;
    if id.is_zero() || image.topic_by_id(id).is_some() {
        return refuse(ErrorCode::INVALID_REQUEST, format!("The topic id {id} cannot be given."));
    }
    let values = config::validate_new_topic(image, configs)?;
    let agreement = agreement::wanted(&values);
    let replicas = if assignments.is_empty() {
        let partitions = how_many(image, partitions, replication_factor)?;
        let replication_factor = match replication_factor {
            -1 => {
                let least = agreement.map_or(1, |agreement| agreement.replicas_min(image.node_count()));
                image.default_replication_factor().max(least)
            }
            asked => asked,
        };
        // Before anything is placed: where it comes to lie does not matter.
        agreement::check_keys(image, agreement, &image.nodes().map(|node| node.id).collect())?;
        placement::place(image, None, partitions, replication_factor)
            .map_err(|refusal| unable(replication_factor, refusal))?
    } else {
        let replicas = assigned(image, assignments, partitions, replication_factor)?;
        check_all_keys(image, agreement, &replicas)?;
        replicas
    };
    admit(image, replicas.len())?;
    let version = image.next_version();
    let born = image.partition_config_of(&values, version);
    let count = i32::try_from(replicas.len()).expect("it was admitted");
    let first = replicas.first().map_or(0, Vec::len);
    let mut plan = Plan::of([
        Delta::Topic { id, name: name.clone() },
        Delta::Config { resource: ConfigResource::topic(name), version, values },
        Delta::Birth { topic: id, first: 0, config: born },
    ]);
    plan.deltas.extend(agreement.map(|agreement| Delta::Agreement { topic: id, agreement }));
    found(image, &mut plan, id, 0, replicas);
    plan.outcome =
        Outcome::Created { id, partitions: count, replication_factor: i16::try_from(first).unwrap_or(i16::MAX) };
    Ok(plan)
}

/// Can these nodes hold the partitions whose replicas they are?
fn check_all_keys(image: &ClusterImage, agreement: Option<Agreement>, replicas: &[Vec<i32>]) -> Result<(), Refusal> {
    replicas.iter().try_for_each(|nodes| agreement::check_keys(image, agreement, &nodes.iter().copied().collect()))
}

fn validate_new_name(image: &ClusterImage, name: &str) -> Result<(), Refusal> {
    names::validate(name)?;
    if names::is_internal(name) {
        return refuse(ErrorCode::INVALID_REQUEST, format!("Creation of internal topic {name} is prohibited."));
    }
    if image.topic(name).is_some() {
        return refuse(ErrorCode::TOPIC_ALREADY_EXISTS, format!("Topic '{name}' already exists."));
    }
    if let Some(other) = image.colliding(&names::unify(name)) {
        let message = format!("Topic '{name}' collides with existing topic: {}", other.name);
        return refuse(ErrorCode::INVALID_TOPIC_EXCEPTION, message);
    }
    Ok(())
}

fn unable(replication_factor: i16, refusal: Refusal) -> Refusal {
    let message = format!("Unable to replicate the partition {replication_factor} time(s): {}", refusal.message);
    Refusal::new(refusal.error, message)
}

/// The number of partitions of a topic whose placement is ours.
fn how_many(image: &ClusterImage, partitions: i32, replication_factor: i16) -> Result<usize, Refusal> {
    if replication_factor < -1 || replication_factor == 0 {
        let message = "Replication factor must be larger than 0, or -1 to use the default value.";
        return refuse(ErrorCode::INVALID_REPLICATION_FACTOR, message);
    }
    if partitions < -1 || partitions == 0 {
        let message = "Number of partitions was set to an invalid non-positive value.";
        return refuse(ErrorCode::INVALID_PARTITIONS, message);
    }
    let partitions = if partitions == -1 { image.default_partitions() } else { partitions };
    let partitions = usize::try_from(partitions).unwrap_or(1);
    // Before anything is placed, since placing takes time.
    admit(image, partitions)?;
    Ok(partitions)
}

/// Would so many new partitions be too many?
fn admit(image: &ClusterImage, partitions: usize) -> Result<(), Refusal> {
    if partitions > PARTITIONS_PER_COMMAND_MAX {
        return refuse(ErrorCode::POLICY_VIOLATION, "Excessively large number of partitions per request.");
    }
    if image.partition_count() + partitions > PARTITION_COUNT_MAX {
        let message = format!("The cluster would have more than {PARTITION_COUNT_MAX} partitions.");
        return refuse(ErrorCode::POLICY_VIOLATION, message);
    }
    Ok(())
}

/// The placement that a client chose.
fn assigned(
    image: &ClusterImage,
    assignments: Vec<(i32, Vec<i32>)>,
    partitions: i32,
    replication_factor: i16,
) -> Result<Vec<Vec<i32>>, Refusal> {
    if replication_factor != -1 {
        let message = "A manual partition assignment was specified, but replication factor was not set to -1.";
        return refuse(ErrorCode::INVALID_REQUEST, message);
    }
    if partitions != -1 {
        let message = "A manual partition assignment was specified, but numPartitions was not set to -1.";
        return refuse(ErrorCode::INVALID_REQUEST, message);
    }
    let mut chosen: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let mut count = None;
    for (index, replicas) in assignments {
        if chosen.contains_key(&index) {
            let message = format!("Found multiple manual partition assignments for partition {index}");
            return refuse(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
        }
        validate_assignment(image, &replicas, count)?;
        validate_heard(image, index, &replicas)?;
        count = Some(replicas.len());
        chosen.insert(index, replicas);
    }
    if (0..).zip(chosen.keys()).any(|(expected, index)| expected != *index) {
        let message = "partitions should be a consecutive 0-based integer sequence";
        return refuse(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
    }
    Ok(chosen.into_values().collect())
}

/// Are these nodes of ours, each once, and as many as those of other partitions?
pub(super) fn validate_assignment(image: &ClusterImage, replicas: &[i32], count: Option<usize>) -> Result<(), Refusal> {
    let wrong = |message: String| refuse(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
    if replicas.is_empty() {
        return wrong("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut seen = BTreeSet::new();
    let mut sorted = replicas.to_vec();
    sorted.sort_unstable();
    for id in sorted {
        if image.node(id).is_none() {
            return wrong(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        }
        if !seen.insert(id) {
            return wrong(format!("The manual partition assignment includes the broker {id} more than once."));
        }
    }
    match count {
        Some(count) if count != replicas.len() => wrong(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with \
             previous partitions, which have {count} replica(s).",
            replicas.len()
        )),
        _ => Ok(()),
    }
}

fn validate_heard(image: &ClusterImage, index: i32, replicas: &[i32]) -> Result<(), Refusal> {
    if replicas.iter().any(|id| image.is_online(*id)) {
        return Ok(());
    }
    let message = format!(
        "All brokers specified in the manual partition assignment for partition {index} are fenced or in controlled \
         shutdown."
    );
    refuse(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message)
}

/// Plans new partitions, each with a group of its own.
fn found(image: &ClusterImage, plan: &mut Plan, topic: Uuid, first: i32, replicas: Vec<Vec<i32>>) {
    let mut made = image.made();
    for (index, replicas) in (first..).zip(replicas) {
        let members: BTreeSet<i32> = replicas.iter().copied().collect();
        let group = PARTITIONS.checked_add(made).expect("2^63 partitions cannot be made");
        made += 1;
        let partition = Partition {
            group,
            founders: members.clone(),
            hosts: members.clone(),
            members,
            replicas,
            target: None,
            version: 0,
            floor: 0,
            leader: NO_LEADER,
            epoch: 0,
        };
        plan.deltas.push(Delta::Partition { topic, index, partition });
        plan.spawn.push(group);
    }
    plan.deltas.push(Delta::Made { groups: made });
}

pub(super) fn delete(image: &ClusterImage, name: Option<&str>, id: Uuid) -> Planned {
    if !image.deletion_enabled() {
        return refuse(ErrorCode::TOPIC_DELETION_DISABLED, "Topic deletion is disabled.");
    }
    let topic = match (name, id.is_zero()) {
        (Some(name), true) => image.topic(name).ok_or_else(unknown_topic)?,
        (None, false) => image
            .topic_by_id(id)
            .ok_or_else(|| Refusal::new(ErrorCode::UNKNOWN_TOPIC_ID, "This server does not host this topic ID."))?,
        (Some(_), false) => {
            return refuse(ErrorCode::INVALID_REQUEST, "Topic name and topic id can not both be specified.");
        }
        (None, true) => return refuse(ErrorCode::INVALID_REQUEST, "Neither topic name nor id were specified."),
    };
    let mut plan = Plan::of([Delta::TopicGone { id: topic.id }]);
    plan.retire = topic.partitions.iter().map(|partition| partition.group).collect();
    plan.outcome = Outcome::Deleted { name: topic.name.clone(), id: topic.id };
    Ok(plan)
}

pub(super) fn grow(image: &ClusterImage, name: &str, count: i32, assignments: Option<Vec<Vec<i32>>>) -> Planned {
    let topic = image.topic(name).ok_or_else(unknown_topic)?;
    let additional = additional(topic, count)?;
    if let Some(assignments) = &assignments
        && assignments.len() != additional
    {
        let message = format!(
            "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
            assignments.len()
        );
        return refuse(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
    }
    if topic.partitions.iter().any(|partition| partition.target.is_some()) {
        return refuse(ErrorCode::REASSIGNMENT_IN_PROGRESS, "A partition reassignment is in progress.");
    }
    admit(image, additional)?;
    let start = topic.partition_count();
    let first = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
    let replicas = match assignments {
        Some(assignments) => {
            for (index, replicas) in (start..).zip(&assignments) {
                validate_assignment(image, replicas, Some(first))?;
                validate_heard(image, index, replicas)?;
            }
            assignments
        }
        None => placement::place(image, Some(topic), additional, i16::try_from(first).unwrap_or(i16::MAX))?,
    };
    check_all_keys(image, topic.agreement, &replicas)?;
    let config = image.partition_config(topic);
    let mut plan = Plan::default();
    if topic.blueprint(start).config != config {
        plan.deltas.push(Delta::Birth { topic: topic.id, first: start, config });
    }
    found(image, &mut plan, topic.id, start, replicas);
    Ok(plan)
}

/// How many partitions are new if there shall be so many.
fn additional(topic: &Topic, count: i32) -> Result<usize, Refusal> {
    let before = topic.partition_count();
    let wrong = |message| refuse(ErrorCode::INVALID_PARTITIONS, message);
    if count == before {
        return wrong(format!("Topic already has {before} partition(s)."));
    }
    if count < before {
        return wrong(format!(
            "The topic {} currently has {before} partition(s); {count} would not be an increase.",
            topic.name
        ));
    }
    Ok(usize::try_from(count - before).expect("it is positive"))
}
