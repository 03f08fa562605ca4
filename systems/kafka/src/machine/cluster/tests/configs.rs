//! Configurations change and are described.

use std::collections::BTreeMap;

use super::super::config::{Described, Kind, Synonym, source};
use super::super::*;
use super::rig::Rig;
use crate::wire::ErrorCode;

fn op(name: &str, op: i8, value: Option<&str>) -> ConfigOp {
    ConfigOp { name: name.into(), op, value: value.map(str::to_owned) }
}

fn change(resource: ConfigResource, ops: Vec<ConfigOp>) -> Command {
    Command::IncrementalAlterConfig { resource, ops, validate_only: false }
}

fn entry(rig: &Rig, resource: &ConfigResource, name: &str) -> Described {
    let described = rig.heard.describe_config(resource, 1, &BTreeMap::new()).expect("it can be described");
    described.into_iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("{name} is not described"))
}

fn rig() -> Rig {
    let mut rig = Rig::new(2);
    rig.create("t", 1, 1);
    rig
}

#[test]
fn entries_are_set_and_deleted_and_lists_grow_and_shrink() {
    let mut rig = rig();
    let t = ConfigResource::topic("t");
    rig.ok(change(t.clone(), vec![op("retention.ms", 0, Some("5")), op("cleanup.policy", 2, Some("compact"))]));
    assert_eq!(rig.heard.topic_config("t", "retention.ms"), "5");
    assert_eq!(rig.heard.topic_config("t", "cleanup.policy"), "delete,compact", "the default is appended to");
    rig.ok(change(t.clone(), vec![op("cleanup.policy", 3, Some("delete")), op("retention.ms", 1, None)]));
    assert_eq!(rig.heard.topic_config("t", "cleanup.policy"), "compact");
    assert_eq!(rig.heard.topic_config("t", "retention.ms"), "604800000");
    let before = rig.heard.version();
    rig.ok(change(t.clone(), vec![op("cleanup.policy", 2, Some("compact"))]));
    assert_eq!(rig.heard.version(), before, "it is there already");
    let invalid = ErrorCode::INVALID_CONFIG;
    let message = "Can't APPEND to key retention.ms because its type is not LIST.";
    assert_eq!(rig.refused(change(t.clone(), vec![op("retention.ms", 2, Some("1"))])), (invalid, message.into()));
    let message = "Unknown topic config name: nonsense";
    assert_eq!(rig.refused(change(t.clone(), vec![op("nonsense", 0, Some("1"))])), (invalid, message.into()));
    let message = "Invalid value x for configuration retention.ms: Not a number of type LONG";
    assert_eq!(rig.refused(change(t.clone(), vec![op("retention.ms", 0, Some("x"))])), (invalid, message.into()));
    let bad = ErrorCode::INVALID_REQUEST;
    let twice = vec![op("retention.ms", 0, Some("1")), op("retention.ms", 1, None)];
    assert_eq!(rig.refused(change(t.clone(), twice)), (bad, "Error due to duplicate config keys".into()));
    let message = "Null value not supported for : retention.ms";
    assert_eq!(rig.refused(change(t.clone(), vec![op("retention.ms", 0, None)])), (bad, message.into()));
    assert_eq!(rig.refused(change(t.clone(), vec![op("retention.ms", 7, Some("1"))])).0, bad);
    rig.ok(change(t, vec![op("nonsense", 1, None)]));
    let message = "The topic 'u' does not exist.";
    let u = change(ConfigResource::topic("u"), vec![op("retention.ms", 0, Some("1"))]);
    assert_eq!(rig.refused(u), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message.into()));
}

#[test]
fn the_old_way_replaces_everything() {
    let mut rig = rig();
    let t = ConfigResource::topic("t");
    assert_eq!(rig.set(t.clone(), "retention.ms", "5").error, ErrorCode::NONE);
    let values = vec![("segment.ms".to_owned(), Some("7".to_owned()))];
    let replace = |values, validate_only| Command::AlterConfig { resource: t.clone(), values, validate_only };
    rig.ok(replace(values.clone(), true));
    assert_eq!(rig.heard.topic_config("t", "retention.ms"), "5", "it was only a question");
    rig.ok(replace(values, false));
    assert_eq!(rig.heard.topic_config("t", "retention.ms"), "604800000");
    assert_eq!(rig.heard.topic_config("t", "segment.ms"), "7");
    rig.ok(replace(Vec::new(), false));
    assert_eq!(rig.heard.configs().count(), 0);
    let null = replace(vec![("segment.ms".to_owned(), None)], false);
    assert_eq!(rig.refused(null), (ErrorCode::INVALID_REQUEST, "Null value not supported for : segment.ms".into()));
}

#[test]
fn values_must_go_together() {
    let mut rig = rig();
    let t = ConfigResource::topic("t");
    assert_eq!(rig.set(t.clone(), "max.compaction.lag.ms", "100").error, ErrorCode::NONE);
    let reply = rig.set(t.clone(), "min.compaction.lag.ms", "200");
    assert_eq!(reply.error, ErrorCode::INVALID_CONFIG);
    let message = "conflict topic config setting min.compaction.lag.ms (200) > max.compaction.lag.ms (100)";
    assert_eq!(reply.message.as_deref(), Some(message));
    assert_eq!(rig.set(t.clone(), "remote.storage.enable", "true").error, ErrorCode::INVALID_CONFIG);
    assert_eq!(rig.set(t.clone(), "segment.bytes", "1024").error, ErrorCode::INVALID_CONFIG);
    assert_eq!(rig.set(t, "internal.segment.bytes", "1024").error, ErrorCode::NONE);
    let mut create = |name: &str, value: &str| {
        let command = rig.topic("u", 1, 1, &[(name, value)]);
        rig.refused(command)
    };
    let message = "Unknown topic config name: x";
    assert_eq!(create("x", "1"), (ErrorCode::INVALID_CONFIG, message.into()));
    assert_eq!(create("cleanup.policy", "nonsense").0, ErrorCode::INVALID_CONFIG);
}

#[test]
fn partitions_hear_what_holds_for_them() {
    let mut rig = rig();
    let config = |rig: &Rig| rig.heard.partition_config(rig.heard.topic("t").expect("t"));
    let born = config(&rig);
    assert_eq!(born.version, 3);
    assert_eq!(
        born,
        crate::machine::partition::PartitionConfig { version: 3, ..Default::default() },
        "Kafka's defaults"
    );
    let t = ConfigResource::topic("t");
    for (name, value) in [
        ("cleanup.policy", "compact"),
        ("retention.ms", "-1"),
        ("retention.bytes", "-7"),
        ("internal.segment.bytes", "4096"),
        ("segment.ms", "11"),
        ("index.interval.bytes", "12"),
        ("min.compaction.lag.ms", "13"),
        ("max.compaction.lag.ms", "14"),
        ("min.cleanable.dirty.ratio", "0.25"),
        ("delete.retention.ms", "15"),
        ("message.timestamp.type", "LogAppendTime"),
    ] {
        assert_eq!(rig.set(t.clone(), name, value).error, ErrorCode::NONE, "{name}");
    }
    let now = config(&rig);
    assert_eq!((now.version, now.delete, now.compact, now.append_time), (14, false, true, true));
    assert_eq!((now.retention_ms, now.retention_bytes, now.segment_bytes, now.segment_ms), (-1, -1, 4096, 11));
    assert_eq!((now.index_interval_bytes, now.min_lag_ms, now.max_lag_ms), (12, 13, 14));
    assert_eq!((now.dirty_ratio_ppm, now.delete_retention_ms), (250_000, 15));
    // A default of all nodes is a change too, and its version is later even when it is taken back.
    assert_eq!(rig.set(ConfigResource::cluster(), "producer.id.expiration.ms", "16").error, ErrorCode::NONE);
    assert_eq!((config(&rig).version, config(&rig).producer_expiry_ms), (15, 16));
    let back = Command::AlterConfig { resource: t, values: Vec::new(), validate_only: false };
    rig.ok(back);
    assert_eq!((config(&rig).version, config(&rig).compact), (16, false));
    let back = Command::AlterConfig { resource: ConfigResource::cluster(), values: Vec::new(), validate_only: false };
    rig.ok(back);
    assert_eq!((config(&rig).version, config(&rig).producer_expiry_ms), (17, born.producer_expiry_ms));
}

#[test]
fn nodes_take_what_can_change_while_they_run() {
    let mut rig = rig();
    let one = ConfigResource::new(ConfigResource::BROKER, "1");
    let bad = ErrorCode::INVALID_REQUEST;
    let reply = rig.set(one.clone(), "log.dirs", "/x");
    assert_eq!(reply.error, bad);
    assert_eq!(reply.message.as_deref(), Some("Cannot update these configs dynamically: Set(log.dirs)"));
    assert_eq!(rig.set(one.clone(), "sasl.kerberos.min.time.before.relogin", "58000").error, ErrorCode::NONE);
    let reply = rig.set(ConfigResource::cluster(), "listeners", "x");
    assert_eq!(reply.error, bad);
    let message = "Cannot update these configs at default cluster level, broker id must be specified: Set(listeners)";
    assert_eq!(reply.message.as_deref(), Some(message));
    assert_eq!(rig.set(one.clone(), "log.retention.ms", "1").error, bad, "replicas must agree");
    assert_eq!(rig.set(ConfigResource::cluster(), "log.retention.ms", "x").error, bad);
    assert_eq!(rig.set(ConfigResource::cluster(), "log.retention.ms", "77").error, ErrorCode::NONE);
    assert_eq!(rig.heard.topic_config("t", "retention.ms"), "77");
    assert_eq!(rig.set(one.clone(), "my.own.key", "secret").error, ErrorCode::NONE, "unknown keys are taken");
    let nine = ConfigResource::new(ConfigResource::BROKER, "9");
    assert_eq!(rig.set(nine, "max.connections", "1").error, ErrorCode::BROKER_ID_NOT_REGISTERED);
    assert_eq!(rig.set(ConfigResource::new(ConfigResource::BROKER, "x"), "max.connections", "1").error, bad);
    assert_eq!(rig.set(ConfigResource::new(ConfigResource::BROKER_LOGGER, "1"), "root", "INFO").error, bad);
    assert_eq!(rig.set(ConfigResource::cluster(), "max.connections", "10").error, ErrorCode::NONE);
    assert_eq!(rig.set(one.clone(), "max.connections", "11").error, ErrorCode::NONE);
    assert_eq!(rig.heard.broker_value_of(1, "max.connections"), "11");
    assert_eq!(rig.heard.broker_value_of(2, "max.connections"), "10");
    let connections = entry(&rig, &one, "max.connections");
    let synonym = |value: &str, source| Synonym { name: "max.connections".into(), value: Some(value.into()), source };
    let all = [synonym("11", source::BROKER), synonym("10", source::CLUSTER), synonym("2147483647", source::DEFAULT)];
    assert_eq!(connections.synonyms, all);
    assert_eq!((connections.value.as_deref(), connections.source, connections.read_only), (Some("11"), 2, false));
    let own = entry(&rig, &one, "my.own.key");
    assert_eq!((own.value, own.sensitive, own.kind, own.source), (None, true, 0, source::BROKER));
    let retention = entry(&rig, &one, "log.retention.ms");
    assert_eq!((retention.value.as_deref(), retention.source), (Some("77"), source::CLUSTER));
    assert_eq!(retention.synonyms.len(), 2, "and 168 hours behind it");
    let cluster = rig.heard.describe_config(&ConfigResource::cluster(), 1, &BTreeMap::new()).expect("it can be");
    let names: Vec<&str> = cluster.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["log.retention.ms", "max.connections"]);
    let files = BTreeMap::from([("broker.id".to_owned(), "1".to_owned())]);
    let described = rig.heard.describe_config(&one, 1, &files).expect("it can be");
    let id = described.iter().find(|entry| entry.name == "broker.id").expect("it has one");
    assert_eq!((id.value.as_deref(), id.source, id.read_only), (Some("1"), source::STATIC, true));
    let other = rig.heard.describe_config(&one, 2, &files).expect_err("another node is to be asked");
    assert_eq!(other.message, "Unexpected broker id, expected 2 or empty string, but received 1");
}

#[test]
fn topics_are_described_with_where_their_values_come_from() {
    let mut rig = rig();
    let t = ConfigResource::topic("t");
    let policy = entry(&rig, &t, "cleanup.policy");
    assert_eq!(
        (policy.value.as_deref(), policy.source, policy.kind),
        (Some("delete"), source::DEFAULT, Kind::List as i8)
    );
    let default = Synonym { name: "log.cleanup.policy".into(), value: Some("delete".into()), source: source::DEFAULT };
    assert_eq!(policy.synonyms, std::slice::from_ref(&default));
    assert!(policy.documentation.is_some_and(|text| !text.is_empty()));
    assert_eq!(rig.set(t.clone(), "cleanup.policy", "compact").error, ErrorCode::NONE);
    let policy = entry(&rig, &t, "cleanup.policy");
    assert_eq!((policy.value.as_deref(), policy.source), (Some("compact"), source::TOPIC));
    let own = Synonym { name: "cleanup.policy".into(), value: Some("compact".into()), source: source::TOPIC };
    assert_eq!(policy.synonyms, [own, default]);
    let all = rig.heard.describe_config(&t, 1, &BTreeMap::new()).expect("it can be");
    assert_eq!(all.len(), 35, "internal.segment.bytes is not shown");
    let unknown = rig.heard.describe_config(&ConfigResource::topic("u"), 1, &BTreeMap::new());
    assert_eq!(unknown.expect_err("no such topic").error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn groups_and_subscriptions_have_rules_of_their_own() {
    let mut rig = rig();
    let group = ConfigResource::new(ConfigResource::GROUP, "g");
    let invalid = ErrorCode::INVALID_CONFIG;
    assert_eq!(rig.set(group.clone(), "nonsense", "1").message.as_deref(), Some("Unknown group config name: nonsense"));
    let reply = rig.set(group.clone(), "consumer.session.timeout.ms", "1000");
    let message = "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms";
    assert_eq!((reply.error, reply.message.as_deref()), (invalid, Some(message)));
    assert_eq!(rig.set(group.clone(), "consumer.session.timeout.ms", "50000").error, ErrorCode::NONE);
    assert_eq!(rig.set(group.clone(), "share.auto.offset.reset", "earliest").error, ErrorCode::NONE);
    assert_eq!(rig.set(group.clone(), "share.auto.offset.reset", "never").error, invalid);
    assert_eq!(rig.heard.group_config("g", "consumer.session.timeout.ms"), "50000");
    assert_eq!(rig.heard.group_config("other", "consumer.session.timeout.ms"), "45000");
    let timeout = entry(&rig, &group, "consumer.session.timeout.ms");
    assert_eq!((timeout.value.as_deref(), timeout.source), (Some("50000"), source::GROUP));
    assert_eq!(entry(&rig, &group, "share.session.timeout.ms").source, source::DEFAULT);
    let nobody = ConfigResource::new(ConfigResource::GROUP, "");
    assert_eq!(rig.set(nobody, "share.auto.offset.reset", "latest").error, ErrorCode::INVALID_REQUEST);
    let metrics = ConfigResource::new(ConfigResource::CLIENT_METRICS, "m");
    assert_eq!(rig.set(metrics.clone(), "interval.ms", "99").error, ErrorCode::INVALID_REQUEST);
    assert_eq!(rig.set(metrics.clone(), "interval.ms", "100").error, ErrorCode::NONE);
    assert_eq!(rig.set(metrics.clone(), "match", "client_id=a.*, client_software_name=x").error, ErrorCode::NONE);
    assert_eq!(rig.set(metrics.clone(), "match", "nonsense=a").error, invalid);
    assert_eq!(rig.set(metrics.clone(), "x", "a").error, ErrorCode::INVALID_REQUEST);
    let subscriptions: Vec<_> = rig.heard.client_metrics().map(|(name, values)| (name, values.len())).collect();
    assert_eq!(subscriptions, [("m", 2)]);
    rig.ok(Command::AlterConfig { resource: metrics, values: Vec::new(), validate_only: false });
    assert_eq!(rig.heard.client_metrics().count(), 0);
}

#[test]
fn what_is_set_is_bounded() {
    let mut rig = rig();
    let one = ConfigResource::new(ConfigResource::BROKER, "1");
    let many = (0..1_001).map(|at| op(&format!("own.key.{at}"), 0, Some("x"))).collect();
    assert_eq!(rig.refused(change(one.clone(), many)).0, ErrorCode::INVALID_CONFIG);
    let long = "x,".repeat(16_000);
    assert_eq!(rig.set(one.clone(), "metric.reporters", &long).error, ErrorCode::NONE);
    let more: Vec<String> = (0..3_000).map(|at| format!("more-{at}")).collect();
    let reply = rig.order(change(one, vec![op("metric.reporters", 2, Some(&more.join(",")))]));
    assert_eq!(reply.error, ErrorCode::INVALID_CONFIG, "a list that grew too long would not come back from a snapshot");
}
