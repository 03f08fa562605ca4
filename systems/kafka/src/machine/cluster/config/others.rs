//! The keys of groups, and of subscriptions to clients' metrics (KIP-714).
//!
//! Deliberately absent: the bounds between which nodes let groups choose; they are keys of nodes.

use super::key::Kind::{Boolean, Int, List, String};
use super::key::{ConfigKey, Valid};

/// In the order of their names.
pub(super) const GROUP_KEYS: &[ConfigKey] = &[
    ConfigKey::new("consumer.heartbeat.interval.ms", Int, "5000", "How often members of a consumer group are heard.")
        .valid(Valid::AtLeast(1))
        .like("group.consumer.heartbeat.interval.ms"),
    ConfigKey::new(
        "consumer.session.timeout.ms",
        Int,
        "45000",
        "After how long a silent member leaves its consumer group.",
    )
    .valid(Valid::AtLeast(1))
    .like("group.consumer.session.timeout.ms"),
    ConfigKey::new(
        "errors.deadletterqueue.copy.record.enable",
        Boolean,
        "false",
        "Whether keys and values of records come along into the dead-letter topic.",
    ),
    ConfigKey::new(
        "errors.deadletterqueue.topic.name",
        String,
        "",
        "Where records go that a share group could not work on. Nowhere if empty.",
    ),
    ConfigKey::new(
        "share.auto.offset.reset",
        String,
        "latest",
        "Where a share group begins to read a partition that is new to it.",
    )
    .valid(Valid::OffsetReset),
    ConfigKey::new("share.delivery.count.limit", Int, "5", "How often a record is given to members of a share group.")
        .valid(Valid::AtLeast(2))
        .like("group.share.delivery.count.limit"),
    ConfigKey::new("share.heartbeat.interval.ms", Int, "5000", "How often members of a share group are heard.")
        .valid(Valid::AtLeast(1))
        .like("group.share.heartbeat.interval.ms"),
    ConfigKey::new(
        "share.isolation.level",
        String,
        "read_uncommitted",
        "Whether a share group sees records of transactions that are not committed.",
    )
    .valid(Valid::OneOf(&["read_committed", "read_uncommitted"])),
    ConfigKey::new(
        "share.partition.max.record.locks",
        Int,
        "2000",
        "How many records of a partition a share group may hold at once.",
    )
    .valid(Valid::AtLeast(100))
    .like("group.share.partition.max.record.locks"),
    ConfigKey::new(
        "share.record.lock.duration.ms",
        Int,
        "30000",
        "How long a member of a share group may hold a record.",
    )
    .valid(Valid::AtLeast(1000))
    .like("group.share.record.lock.duration.ms"),
    ConfigKey::new(
        "share.renew.acknowledge.enable",
        Boolean,
        "true",
        "Whether a member of a share group may hold a record for longer.",
    ),
    ConfigKey::new("share.session.timeout.ms", Int, "45000", "After how long a silent member leaves its share group.")
        .valid(Valid::AtLeast(1))
        .like("group.share.session.timeout.ms"),
    ConfigKey::new("streams.heartbeat.interval.ms", Int, "5000", "How often members of a streams group are heard.")
        .valid(Valid::AtLeast(1)),
    ConfigKey::new(
        "streams.num.standby.replicas",
        Int,
        "0",
        "How many copies a streams group keeps of each task's state.",
    )
    .valid(Valid::AtLeast(0)),
    ConfigKey::new(
        "streams.session.timeout.ms",
        Int,
        "45000",
        "After how long a silent member leaves its streams group.",
    )
    .valid(Valid::AtLeast(1)),
];

/// In the order of their names.
pub(super) const CLIENT_METRICS_KEYS: &[ConfigKey] = &[
    ConfigKey::new("interval.ms", Int, "300000", "How often clients push their metrics."),
    ConfigKey::new("match", List, "", "Which clients are meant: pairs of a property and a pattern. None for all."),
    ConfigKey::new("metrics", List, "", "Which metrics are meant, by the beginnings of their names; * for all."),
];

/// What a client may be told by.
pub(super) const MATCHES: [&str; 6] = [
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];
