//! What holds: what is set, else what is set for all nodes, else what the table says.
//!
//! Deliberately absent: what a node reads from its own files, since replicas must agree.

use std::collections::BTreeMap;

use super::super::image::{ClusterImage, ConfigResource, Topic};
use super::{broker_keys, find, group_keys, topic_keys};
use crate::machine::partition::PartitionConfig;

type Values = BTreeMap<String, String>;

impl ClusterImage {
    fn values(&self, resource: &ConfigResource) -> Option<&Values> {
        self.config(resource).map(|set| &set.values)
    }

    /// What holds for all nodes; empty if there is nothing.
    #[must_use]
    pub fn broker_value(&self, name: &str) -> &str {
        let set = self.values(&ConfigResource::cluster()).and_then(|values| values.get(name));
        let default = || find(broker_keys(), name).and_then(|key| key.default);
        set.map(String::as_str).or_else(default).unwrap_or_default()
    }

    /// What holds for one node; empty if there is nothing. What the node reads from its own files comes behind.
    #[must_use]
    pub fn broker_value_of(&self, node: i32, name: &str) -> &str {
        let own = ConfigResource::new(ConfigResource::BROKER, node.to_string());
        let set = self.values(&own).and_then(|values| values.get(name));
        set.map_or_else(|| self.broker_value(name), String::as_str)
    }

    /// What holds for a topic of which this is set.
    pub(in super::super) fn topic_value<'a>(&'a self, values: &'a Values, name: &str) -> &'a str {
        let key = find(topic_keys(), name);
        let cluster = || {
            let all = self.values(&ConfigResource::cluster())?;
            all.get(key?.synonym?)
        };
        let default = || key.and_then(|key| key.default);
        values.get(name).or_else(cluster).map(String::as_str).or_else(default).unwrap_or_default()
    }

    /// What holds for a group of which this is set.
    pub(in super::super) fn group_value<'a>(&'a self, values: &'a Values, name: &str) -> &'a str {
        let key = find(group_keys(), name);
        let cluster = || {
            let all = self.values(&ConfigResource::cluster())?;
            all.get(key?.synonym?)
        };
        let default = || key.and_then(|key| key.default);
        values.get(name).or_else(cluster).map(String::as_str).or_else(default).unwrap_or_default()
    }

    /// What holds for a topic; empty if there is no such key.
    #[must_use]
    pub fn topic_config(&self, topic: &str, name: &str) -> &str {
        const NONE: &Values = &Values::new();
        self.topic_value(self.values(&ConfigResource::topic(topic)).unwrap_or(NONE), name)
    }

    /// What holds for a topic, as a number; `otherwise` if it is none.
    #[must_use]
    pub fn topic_number(&self, topic: &str, name: &str, otherwise: i64) -> i64 {
        self.topic_config(topic, name).trim().parse().unwrap_or(otherwise)
    }

    /// What holds for a group; empty if there is no such key.
    #[must_use]
    pub fn group_config(&self, group: &str, name: &str) -> &str {
        const NONE: &Values = &Values::new();
        let own = ConfigResource::new(ConfigResource::GROUP, group);
        self.group_value(self.values(&own).unwrap_or(NONE), name)
    }

    /// Subscriptions to clients' metrics, by their names.
    pub fn client_metrics(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, String>)> {
        let subscriptions = self.configs().filter(|(resource, _)| resource.kind == ConfigResource::CLIENT_METRICS);
        subscriptions.map(|(resource, set)| (resource.name.as_str(), &set.values))
    }

    /// How many partitions a topic gets that says nothing.
    #[must_use]
    pub fn default_partitions(&self) -> i32 {
        self.broker_value("num.partitions").trim().parse().unwrap_or(1)
    }

    /// How many replicas a topic gets that says nothing: never more than there are nodes.
    #[must_use]
    pub fn default_replication_factor(&self) -> i16 {
        self.replication_factor_among(self.node_count())
    }

    /// How many it gets in a cluster of so many nodes, those included that have not registered yet.
    #[must_use]
    pub fn replication_factor_among(&self, nodes: usize) -> i16 {
        let wanted: i16 = self.broker_value("default.replication.factor").trim().parse().unwrap_or(3);
        wanted.min(i16::try_from(nodes).unwrap_or(i16::MAX)).max(1)
    }

    /// May topics be deleted?
    #[must_use]
    pub fn deletion_enabled(&self) -> bool {
        !self.broker_value("delete.topic.enable").trim().eq_ignore_ascii_case("false")
    }

    /// What a topic's partitions are to be told. Its version is that of the change which the topic's own configuration
    /// or that of all nodes came with last, so a partition that has it is up to date.
    #[must_use]
    pub fn partition_config(&self, topic: &Topic) -> PartitionConfig {
        const NONE: &Values = &Values::new();
        let own = self.config(&ConfigResource::topic(topic.name.clone()));
        let cluster = self.config(&ConfigResource::cluster()).map_or(0, |set| set.version);
        let version = own.map_or(0, |set| set.version).max(cluster);
        self.partition_config_of(own.map_or(NONE, |set| &set.values), version)
    }

    /// The same for a topic of which this is set.
    pub(in super::super) fn partition_config_of(&self, values: &Values, version: u64) -> PartitionConfig {
        let text = |name: &str| self.topic_value(values, name).trim();
        let long = |name: &str, otherwise: i64| text(name).parse::<i64>().unwrap_or(otherwise);
        let usual = PartitionConfig::default();
        let has = |policy: &str| text("cleanup.policy").split(',').any(|element| element.trim() == policy);
        let segment = match values.get("internal.segment.bytes") {
            Some(bytes) => bytes.trim().parse().ok(),
            None => text("segment.bytes").parse().ok(),
        };
        let ratio = text("min.cleanable.dirty.ratio").parse::<f64>().unwrap_or(0.5).clamp(0.0, 1.0);
        // Truncation is wanted: a share between 0 and 1 becomes parts of a million.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let dirty_ratio_ppm = (ratio * 1e6).round() as u32;
        PartitionConfig {
            version,
            delete: has("delete"),
            compact: has("compact"),
            retention_ms: long("retention.ms", usual.retention_ms),
            // Every negative number means no limit in Kafka.
            retention_bytes: long("retention.bytes", usual.retention_bytes).max(-1),
            segment_bytes: segment.unwrap_or(usual.segment_bytes),
            segment_ms: long("segment.ms", usual.segment_ms),
            index_interval_bytes: text("index.interval.bytes").parse().unwrap_or(usual.index_interval_bytes),
            min_lag_ms: long("min.compaction.lag.ms", usual.min_lag_ms),
            max_lag_ms: long("max.compaction.lag.ms", usual.max_lag_ms),
            dirty_ratio_ppm,
            delete_retention_ms: long("delete.retention.ms", usual.delete_retention_ms),
            append_time: text("message.timestamp.type") == "LogAppendTime",
            producer_expiry_ms: self
                .broker_value("producer.id.expiration.ms")
                .trim()
                .parse()
                .unwrap_or(usual.producer_expiry_ms),
        }
    }
}
