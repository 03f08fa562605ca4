//! The keys of topics.
//!
//! `retention.ms` and two others have more than one synonym in Kafka, in hours and minutes; only the first can be set
//! while nodes run, so only that one is here.
//!
//! Deliberately absent: message format versions, which Kafka 4 has no more.

use super::super::agreement::{AGREEMENT, Agreement};
use super::key::Kind::{Boolean, Double, Int, List, Long, String};
use super::key::{ConfigKey, Mode, Valid};

const fn key(name: &'static str, kind: super::Kind, default: &'static str, documentation: &'static str) -> ConfigKey {
    ConfigKey::new(name, kind, default, documentation)
}

/// In the order of their names.
pub(super) const TOPIC_KEYS: &[ConfigKey] = &[
    key(
        "cleanup.policy",
        List,
        "delete",
        "What becomes of old records: delete drops whole segments by age and size, compact keeps the last \
         record of each key.",
    )
    .valid(Valid::EachOf(&["compact", "delete"]))
    .like("log.cleanup.policy"),
    key("compression.gzip.level", Int, "-1", "The level at which batches are compressed if compression.type is gzip.")
        .valid(Valid::GzipLevel)
        .like("compression.gzip.level"),
    key("compression.lz4.level", Int, "9", "The level at which batches are compressed if compression.type is lz4.")
        .valid(Valid::Between(1, 17))
        .like("compression.lz4.level"),
    key(
        "compression.type",
        String,
        "producer",
        "How batches are compressed in the log; producer keeps them as they come.",
    )
    .valid(Valid::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]))
    .like("compression.type"),
    key("compression.zstd.level", Int, "3", "The level at which batches are compressed if compression.type is zstd.")
        .valid(Valid::Between(-131_072, 22))
        .like("compression.zstd.level"),
    key(
        "delete.retention.ms",
        Long,
        "86400000",
        "How long a tombstone stays in a compacted topic, in milliseconds, so that readers from the \
         beginning see it.",
    )
    .valid(Valid::AtLeast(0))
    .like("log.cleaner.delete.retention.ms"),
    key(
        "errors.deadletterqueue.group.enable",
        Boolean,
        "false",
        "Whether groups may write records here that they could not work on.",
    ),
    key("file.delete.delay.ms", Long, "60000", "How long a file that is out of use stays on disk, in milliseconds.")
        .valid(Valid::AtLeast(0))
        .like("log.segment.delete.delay.ms"),
    key(
        "flush.messages",
        Long,
        "9223372036854775807",
        "After how many records the log is synced. Every acknowledged record is on stable storage of a \
         majority already.",
    )
    .valid(Valid::AtLeast(1))
    .like("log.flush.interval.messages"),
    key(
        "flush.ms",
        Long,
        "9223372036854775807",
        "After how many milliseconds the log is synced. Every acknowledged record is on stable storage of \
         a majority already.",
    )
    .valid(Valid::AtLeast(0))
    .like("log.flush.interval.ms"),
    key(
        "follower.replication.throttled.replicas",
        List,
        "",
        "Replicas whose replication is slowed down on the follower's side: partition:node pairs, or * for \
         all.",
    )
    .valid(Valid::Throttled),
    key("index.interval.bytes", Int, "4096", "How many bytes of the log lie between two entries of its index.")
        .valid(Valid::AtLeast(0))
        .like("log.index.interval.bytes"),
    key("internal.segment.bytes", Int, "1073741824", "As segment.bytes, without its lower bound: for tests.")
        .valid(Valid::AtLeast(1))
        .hidden(),
    key(
        "leader.replication.throttled.replicas",
        List,
        "",
        "Replicas whose replication is slowed down on the leader's side: partition:node pairs, or * for \
         all.",
    )
    .valid(Valid::Throttled),
    key("local.retention.bytes", Long, "-2", "How much of a tiered log stays on the node; -2 as retention.bytes says.")
        .valid(Valid::AtLeast(-2))
        .like("log.local.retention.bytes"),
    key(
        "local.retention.ms",
        Long,
        "-2",
        "How long segments of a tiered log stay on the node; -2 as retention.ms says.",
    )
    .valid(Valid::AtLeast(-2))
    .like("log.local.retention.ms"),
    key(
        "max.compaction.lag.ms",
        Long,
        "9223372036854775807",
        "After how many milliseconds a record is compacted at the latest.",
    )
    .valid(Valid::AtLeast(1))
    .like("log.cleaner.max.compaction.lag.ms"),
    key("max.message.bytes", Int, "1048588", "The largest batch of records that is taken, as it comes over the wire.")
        .valid(Valid::AtLeast(0))
        .like("message.max.bytes"),
    key(
        "message.timestamp.after.max.ms",
        Long,
        "3600000",
        "How far ahead of the node's clock a record's timestamp may be.",
    )
    .valid(Valid::AtLeast(0))
    .like("log.message.timestamp.after.max.ms"),
    key(
        "message.timestamp.before.max.ms",
        Long,
        "9223372036854775807",
        "How far behind the node's clock a record's timestamp may be.",
    )
    .valid(Valid::AtLeast(0))
    .like("log.message.timestamp.before.max.ms"),
    key(
        "message.timestamp.type",
        String,
        "CreateTime",
        "Whether records bear the time at which they were made or appended.",
    )
    .valid(Valid::OneOf(&["CreateTime", "LogAppendTime"]))
    .like("log.message.timestamp.type"),
    key(
        "min.cleanable.dirty.ratio",
        Double,
        "0.5",
        "How large a share of the log must not be compacted yet before it is compacted.",
    )
    .valid(Valid::Share)
    .like("log.cleaner.min.cleanable.ratio"),
    key("min.compaction.lag.ms", Long, "0", "For how many milliseconds a record is not compacted.")
        .valid(Valid::AtLeast(0))
        .like("log.cleaner.min.compaction.lag.ms"),
    key(
        "min.insync.replicas",
        Int,
        "1",
        "How many replicas must be in sync for acks=all. An acknowledged record is on a majority of them \
         in any case.",
    )
    .valid(Valid::AtLeast(1))
    .like("min.insync.replicas"),
    key("preallocate", Boolean, "false", "Whether a segment's file gets its full size when it is made.")
        .like("log.preallocate"),
    key("remote.log.copy.disable", Boolean, "false", "Whether a tiered topic copies no more segments away."),
    key("remote.log.delete.on.disable", Boolean, "false", "Whether what is tiered goes when tiering is switched off."),
    key("remote.storage.enable", Boolean, "false", "Whether the topic is tiered. It cannot be here."),
    key(
        "retention.bytes",
        Long,
        "-1",
        "How large a partition may grow before its oldest segments are dropped; -1 for no limit.",
    )
    .like("log.retention.bytes"),
    key("retention.ms", Long, "604800000", "How long records are kept, in milliseconds; -1 for ever.")
        .valid(Valid::AtLeast(-1))
        .like("log.retention.ms"),
    key("segment.bytes", Int, "1073741824", "How large a segment of the log may grow.")
        .valid(Valid::AtLeast(1_048_576))
        .like("log.segment.bytes"),
    key(
        "segment.index.bytes",
        Int,
        "10485760",
        "How large a segment's index may grow. Ours is as large as it needs to be.",
    )
    .valid(Valid::AtLeast(4))
    .like("log.index.size.max.bytes"),
    key(
        "segment.jitter.ms",
        Long,
        "0",
        "By how much segment.ms is made smaller at random. Replicas do the same at the same time here, so \
         it has no effect.",
    )
    .valid(Valid::AtLeast(0))
    .like("log.roll.jitter.ms"),
    key("segment.ms", Long, "604800000", "After how many milliseconds a segment is closed even if it is not full.")
        .valid(Valid::AtLeast(1))
        .like("log.roll.ms"),
    key(
        "unclean.leader.election.enable",
        Boolean,
        "false",
        "Whether a replica that lacks acknowledged records may lead. It never does here.",
    )
    .like("unclean.leader.election.enable"),
    key(
        AGREEMENT,
        String,
        "raft",
        "What the replicas of a partition come to one order by, if not by what the cluster runs on. Said when the topic is \
         created, and never changed.",
    )
    .valid(Valid::OneOf(Agreement::NAMES))
    .mode(Mode::ReadOnly),
];
