//! Changes of configurations, as clients ask for them.
//!
//! - upon a change: all that is set behind it is looked at, and either all of it is taken or nothing;
//! - upon a topic: its keys must be known, their values must pass, and they must go together; its agreement stays;
//! - upon a node: its keys must be such as can be set while it runs. Unknown ones are taken, as Kafka takes them;
//! - upon a group or a subscription: as for topics, each by its own rules.
//!
//! Deliberately absent: log levels (`BROKER_LOGGER`), which no configuration of Kafka's keeps either.

use std::collections::{BTreeMap, BTreeSet};

use super::super::agreement::AGREEMENT;
use super::super::change::Delta;
use super::super::command::{ConfigOp, Refusal};
use super::super::image::{ClusterImage, ConfigResource};
use super::super::names;
use super::super::plan::{Plan, Planned};
use super::key::{ConfigKey, Kind, Mode, elements};
use super::{broker_keys, client_metrics_keys, find, group_keys, others, topic_keys};
use crate::machine::codec::TEXT_SIZE_MAX;
use crate::wire::ErrorCode;

/// A configuration has no more entries.
pub(super) const VALUE_COUNT_MAX: usize = 1_000;
/// There are never more configurations beside those of topics.
const RESOURCE_COUNT_MAX: usize = 100_000;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Values = BTreeMap<String, String>;

fn refuse<T>(error: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::new(error, message))
}

fn bad<T>(message: impl Into<String>) -> Result<T, Refusal> {
    refuse(ErrorCode::INVALID_REQUEST, message)
}

fn wrong<T>(message: impl Into<String>) -> Result<T, Refusal> {
    refuse(ErrorCode::INVALID_CONFIG, message)
}

/// The table of a resource's keys.
fn table(kind: i8) -> &'static [ConfigKey] {
    match kind {
        ConfigResource::TOPIC => topic_keys(),
        ConfigResource::BROKER => broker_keys(),
        ConfigResource::GROUP => group_keys(),
        ConfigResource::CLIENT_METRICS => client_metrics_keys(),
        _ => &[],
    }
}

/// Replaces all that is set.
pub(in super::super) fn alter(
    image: &ClusterImage,
    resource: ConfigResource,
    values: Vec<(String, Option<String>)>,
) -> Planned {
    once(values.iter().map(|(name, _)| name))?;
    let nulls: Vec<&str> = values.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str()).collect();
    if !nulls.is_empty() {
        return bad(format!("Null value not supported for : {}", nulls.join(", ")));
    }
    keeps_agreement(&resource, values.iter().map(|(name, _)| name))?;
    let mut values: Values = values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    // It stays what it was: to leave it out is not to change it.
    if let (ConfigResource::TOPIC, Some(set)) = (resource.kind, image.config(&resource)) {
        values.extend(set.values.get_key_value(AGREEMENT).map(|(name, value)| (name.clone(), value.clone())));
    }
    replace(image, resource, values)
}

/// Changes single entries.
pub(in super::super) fn incremental(image: &ClusterImage, resource: ConfigResource, ops: Vec<ConfigOp>) -> Planned {
    once(ops.iter().map(|op| &op.name))?;
    let nulls = ops.iter().filter(|op| op.op != DELETE && op.value.is_none());
    let nulls: Vec<&str> = nulls.map(|op| op.name.as_str()).collect();
    if !nulls.is_empty() {
        return bad(format!("Null value not supported for : {}", nulls.join(", ")));
    }
    keeps_agreement(&resource, ops.iter().map(|op| &op.name))?;
    let mut values = image.config(&resource).map(|set| set.values.clone()).unwrap_or_default();
    for ConfigOp { name, op, value } in ops {
        let value = value.unwrap_or_default();
        match op {
            SET => {
                values.insert(name, value);
            }
            DELETE => {
                values.remove(&name);
            }
            APPEND | SUBTRACT => {
                let key = find(table(resource.kind), &name).filter(|key| key.kind == Kind::List);
                let verb = if op == APPEND { "APPEND" } else { "SUBTRACT" };
                let Some(key) = key else {
                    return wrong(format!("Can't {verb} to key {name} because its type is not LIST."));
                };
                let before = values.get(&name).map(String::as_str).or(key.default).unwrap_or_default();
                let after = combine(before, &value, op == APPEND);
                values.insert(name, after);
            }
            other => return bad(format!("Unknown operations type {other}")),
        }
    }
    replace(image, resource, values)
}

/// A list with these elements too, or without them.
fn combine(before: &str, value: &str, append: bool) -> String {
    let mut list: Vec<&str> = elements(before).filter(|element| !element.is_empty()).collect();
    for element in value.split(',').map(str::trim) {
        let at = list.iter().position(|known| *known == element);
        match (append, at) {
            (true, None) => list.push(element),
            (false, Some(at)) => {
                list.remove(at);
            }
            _ => {}
        }
    }
    list.join(",")
}

fn once<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    if names.all(|name| seen.insert(name)) { Ok(()) } else { bad("Error due to duplicate config keys") }
}

/// A topic's agreement is given when it is created, and never again.
fn keeps_agreement<'a>(resource: &ConfigResource, mut names: impl Iterator<Item = &'a String>) -> Result<(), Refusal> {
    if resource.kind == ConfigResource::TOPIC && names.any(|name| name == AGREEMENT) {
        return wrong(format!("{AGREEMENT} is set when a topic is created, and cannot be changed afterwards."));
    }
    Ok(())
}

fn replace(image: &ClusterImage, resource: ConfigResource, values: Values) -> Planned {
    bounded(&values)?;
    let before = image.config(&resource);
    match resource.kind {
        ConfigResource::TOPIC => {
            if resource.name.is_empty() {
                return bad("Default topic resources are not allowed.");
            }
            names::validate(&resource.name)?;
            validate_topic(image, &values)?;
            if image.topic(&resource.name).is_none() {
                let message = format!("The topic '{}' does not exist.", resource.name);
                return refuse(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message);
            }
        }
        ConfigResource::BROKER => validate_broker(image, &resource.name, &values)?,
        ConfigResource::GROUP => validate_group(image, &resource.name, &values)?,
        ConfigResource::CLIENT_METRICS => validate_client_metrics(&resource.name, &values)?,
        other => return bad(format!("Unknown resource type {other}")),
    }
    if before.map_or(values.is_empty(), |before| before.values == values) {
        return Ok(Plan::default());
    }
    if before.is_none() && image.configs_kept() >= RESOURCE_COUNT_MAX + image.topic_count() {
        return refuse(ErrorCode::POLICY_VIOLATION, "There are too many configurations already.");
    }
    Ok(Plan::of([Delta::Config { resource, version: image.next_version(), values }]))
}

fn bounded(values: &Values) -> Result<(), Refusal> {
    if values.len() > VALUE_COUNT_MAX {
        return wrong(format!("A configuration has {VALUE_COUNT_MAX} entries at the most."));
    }
    match values.iter().find(|(_, value)| value.len() > TEXT_SIZE_MAX) {
        Some((name, _)) => wrong(format!("The value of {name} is longer than {TEXT_SIZE_MAX} bytes.")),
        None => Ok(()),
    }
}

// ---- topics

/// What is set of a topic that is to be.
pub(in super::super) fn validate_new_topic(
    image: &ClusterImage,
    configs: Vec<(String, Option<String>)>,
) -> Result<Values, Refusal> {
    once(configs.iter().map(|(name, _)| name))?;
    let nulls = configs.iter().filter(|(_, value)| value.is_none());
    let nulls: Vec<&str> = nulls.map(|(name, _)| name.as_str()).collect();
    if !nulls.is_empty() {
        return wrong(format!("Null value not supported for topic configs: {}", nulls.join(",")));
    }
    let values: Values = configs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    bounded(&values)?;
    validate_topic(image, &values)?;
    Ok(values)
}

fn validate_topic(image: &ClusterImage, values: &Values) -> Result<(), Refusal> {
    for name in values.keys() {
        if find(topic_keys(), name).is_none() {
            return wrong(format!("Unknown topic config name: {name}"));
        }
    }
    check_all(topic_keys(), values).or_else(wrong)?;
    let number = |name: &str| image.topic_value(values, name).trim().parse::<i64>().unwrap_or(0);
    let (min, max) = (number("min.compaction.lag.ms"), number("max.compaction.lag.ms"));
    if min > max {
        return wrong(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        ));
    }
    if image.topic_value(values, "remote.storage.enable").trim().eq_ignore_ascii_case("true") {
        return wrong(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log \
             storage.",
        );
    }
    Ok(())
}

/// The first value that does not pass.
fn check_all(table: &'static [ConfigKey], values: &Values) -> Result<(), String> {
    values.iter().try_for_each(|(name, value)| find(table, name).map_or(Ok(()), |key| key.check(value)))
}

// ---- nodes

fn validate_broker(image: &ClusterImage, node: &str, values: &Values) -> Result<(), Refusal> {
    if !node.is_empty() {
        let Ok(id) = node.parse::<i32>() else { return bad("Unable to parse broker name as a base 10 number.") };
        if id < 0 {
            return bad("Invalid negative broker ID.");
        }
        if image.node(id).is_none() {
            let message = format!("No broker with id {id} found.");
            return refuse(ErrorCode::BROKER_ID_NOT_REGISTERED, message);
        }
    }
    let of_mode = |mode: Mode| {
        let names = values.keys().filter(|name| find(broker_keys(), name).is_some_and(|key| key.mode == mode));
        names.map(String::as_str).collect::<Vec<&str>>()
    };
    let read_only = of_mode(Mode::ReadOnly);
    if !read_only.is_empty() {
        return bad(format!("Cannot update these configs dynamically: Set({})", read_only.join(", ")));
    }
    check_all(broker_keys(), values).or_else(bad)?;
    let misplaced = of_mode(if node.is_empty() { Mode::PerNode } else { Mode::Cluster });
    if misplaced.is_empty() {
        return Ok(());
    }
    let names = misplaced.join(", ");
    if node.is_empty() {
        return bad(format!(
            "Cannot update these configs at default cluster level, broker id must be specified: Set({names})"
        ));
    }
    bad(format!(
        "These configs are the same on every node, so they can only be set for the whole cluster (leave the broker id \
         empty): Set({names})"
    ))
}

// ---- groups and subscriptions

fn validate_group(image: &ClusterImage, group: &str, values: &Values) -> Result<(), Refusal> {
    if group.is_empty() {
        return bad("Default group resources are not allowed.");
    }
    for name in values.keys() {
        if find(group_keys(), name).is_none() {
            return wrong(format!("Unknown group config name: {name}"));
        }
    }
    check_all(group_keys(), values).or_else(wrong)?;
    let value = |name: &str| image.group_value(values, name).trim().parse::<i64>().unwrap_or(0);
    let bound = |name: &str| image.broker_value(name).trim().parse::<i64>().unwrap_or(0);
    let bounded = [
        ("consumer.heartbeat.interval.ms", "group.consumer", "heartbeat.interval.ms"),
        ("consumer.session.timeout.ms", "group.consumer", "session.timeout.ms"),
        ("share.heartbeat.interval.ms", "group.share", "heartbeat.interval.ms"),
        ("share.session.timeout.ms", "group.share", "session.timeout.ms"),
        ("share.record.lock.duration.ms", "group.share", "record.lock.duration.ms"),
    ];
    for (name, prefix, rest) in bounded {
        // What is not set here is not this change's fault.
        if !values.contains_key(name) {
            continue;
        }
        let (least, most) = (format!("{prefix}.min.{rest}"), format!("{prefix}.max.{rest}"));
        if value(name) < bound(&least) {
            return wrong(format!("{name} must be greater than or equal to {least}"));
        }
        if value(name) > bound(&most) {
            return wrong(format!("{name} must be less than or equal to {most}"));
        }
    }
    for prefix in ["consumer", "share", "streams"] {
        let (timeout, interval) = (format!("{prefix}.session.timeout.ms"), format!("{prefix}.heartbeat.interval.ms"));
        if value(&timeout) <= value(&interval) {
            return wrong(format!("{timeout} must be greater than {interval}"));
        }
    }
    Ok(())
}

fn validate_client_metrics(name: &str, values: &Values) -> Result<(), Refusal> {
    if name.is_empty() {
        return bad("Subscription name can't be empty");
    }
    for key in values.keys() {
        if find(client_metrics_keys(), key).is_none() {
            return bad(format!("Unknown client metrics configuration: {key}"));
        }
    }
    check_all(client_metrics_keys(), values).or_else(wrong)?;
    if let Some(interval) = values.get("interval.ms") {
        let interval: i64 = interval.trim().parse().unwrap_or(0);
        if !(100..=3_600_000).contains(&interval) {
            return bad(format!(
                "Invalid value {interval} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
            ));
        }
    }
    for pattern in values.get("match").into_iter().flat_map(|patterns| elements(patterns)) {
        let pair = pattern.split_once('=').filter(|(_, value)| !value.trim().is_empty() && !value.contains('='));
        if !pair.is_some_and(|(property, _)| others::MATCHES.contains(&property.trim())) {
            return wrong(format!("Illegal client matching pattern: {pattern}"));
        }
    }
    Ok(())
}
