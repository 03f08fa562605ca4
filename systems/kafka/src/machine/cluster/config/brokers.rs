//! The keys of nodes.
//!
//! Those that are defaults of topics can be set while nodes run, as in Kafka, and so can a few that Kafka reads at
//! start only (`num.partitions` and the like): they are replicated here, so nothing has to start again.
//!
//! Deliberately absent: keys of ZooKeeper, of KRaft's quorum, and of Java.

use super::super::agreement::{AGREEMENT, Agreement};
use super::key::Kind::{Boolean, Double, Int, List, Long, Password, Short, String};
use super::key::Mode::{Anywhere, Cluster, PerNode, ReadOnly};
use super::key::{ConfigKey, Kind, Mode, Valid};

const fn key(
    mode: Mode,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    documentation: &'static str,
) -> ConfigKey {
    ConfigKey::new(name, kind, default, documentation).mode(mode)
}

/// In the order of their names.
pub(super) const BROKER_KEYS: &[ConfigKey] = &[
    key(PerNode, "advertised.listeners", List, "", "Where clients are told to connect.").without_default(),
    key(
        Cluster,
        "allow.everyone.if.no.acl.found",
        Boolean,
        "false",
        "Whether what has no rule is allowed to everybody.",
    ),
    key(
        Cluster,
        "auto.create.topics.enable",
        Boolean,
        "true",
        "Whether a topic that a client asks for is created if it is not there.",
    ),
    key(
        ReadOnly,
        "auto.leader.rebalance.enable",
        Boolean,
        "true",
        "Whether leadership goes back to preferred leaders by itself.",
    ),
    key(ReadOnly, "broker.id", Int, "-1", "The node's number."),
    key(ReadOnly, "broker.rack", String, "", "Where the node stands; replicas of a partition are spread over racks.")
        .without_default(),
    key(Cluster, "compression.gzip.level", Int, "-1", "The default of topics of the same name.")
        .valid(Valid::GzipLevel),
    key(Cluster, "compression.lz4.level", Int, "9", "The default of topics of the same name.")
        .valid(Valid::Between(1, 17)),
    key(Cluster, "compression.type", String, "producer", "The default of topics of the same name.")
        .valid(Valid::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])),
    key(Cluster, "compression.zstd.level", Int, "3", "The default of topics of the same name.")
        .valid(Valid::Between(-131_072, 22)),
    key(
        ReadOnly,
        "connections.max.idle.ms",
        Long,
        "600000",
        "After how long a connection that says nothing is closed.",
    ),
    key(ReadOnly, "connections.max.reauth.ms", Long, "0", "After how long a client must prove again who it is."),
    key(ReadOnly, "controlled.shutdown.enable", Boolean, "true", "Whether a node that stops hands over what it leads."),
    key(
        Cluster,
        "default.replication.factor",
        Int,
        "3",
        "How many replicas a topic gets that says nothing, or as many as there are nodes.",
    )
    .valid(Valid::Between(1, 32_767)),
    key(Cluster, "delete.topic.enable", Boolean, "true", "Whether topics may be deleted."),
    key(
        Cluster,
        "errors.deadletterqueue.auto.create.topics.enable",
        Boolean,
        "false",
        "Whether a dead-letter topic that a group names is created if it is not there.",
    ),
    key(
        Cluster,
        "errors.deadletterqueue.topic.name.prefix",
        String,
        "dlq.",
        "How the names of dead-letter topics begin.",
    ),
    key(ReadOnly, "fetch.max.bytes", Int, "57671680", "The most that one fetch brings.").valid(Valid::AtLeast(1024)),
    key(
        Anywhere,
        "follower.replication.throttled.rate",
        Long,
        "9223372036854775807",
        "How fast replicas that are slowed down follow, in bytes a second.",
    )
    .valid(Valid::AtLeast(0)),
    key(
        Cluster,
        "group.consumer.heartbeat.interval.ms",
        Int,
        "5000",
        "The default of consumer.heartbeat.interval.ms of groups.",
    )
    .valid(Valid::AtLeast(1)),
    key(ReadOnly, "group.consumer.max.heartbeat.interval.ms", Int, "15000", "How long that interval may be."),
    key(ReadOnly, "group.consumer.max.session.timeout.ms", Int, "60000", "How long that timeout may be."),
    key(ReadOnly, "group.consumer.max.size", Int, "2147483647", "How many members a consumer group may have."),
    key(ReadOnly, "group.consumer.min.heartbeat.interval.ms", Int, "5000", "How short that interval may be."),
    key(ReadOnly, "group.consumer.min.session.timeout.ms", Int, "45000", "How short that timeout may be."),
    key(
        Cluster,
        "group.consumer.session.timeout.ms",
        Int,
        "45000",
        "The default of consumer.session.timeout.ms of groups.",
    )
    .valid(Valid::AtLeast(1)),
    key(
        ReadOnly,
        "group.initial.rebalance.delay.ms",
        Int,
        "0",
        "How long a new group waits for more members before it shares out partitions.",
    ),
    key(
        ReadOnly,
        "group.max.session.timeout.ms",
        Int,
        "1800000",
        "How long a classic member's session timeout may be.",
    ),
    key(ReadOnly, "group.max.size", Int, "2147483647", "How many members a classic group may have.")
        .valid(Valid::AtLeast(1)),
    key(ReadOnly, "group.min.session.timeout.ms", Int, "6000", "How short a classic member's session timeout may be."),
    key(Cluster, "group.share.delivery.count.limit", Int, "5", "The default of share.delivery.count.limit of groups.")
        .valid(Valid::Between(2, 10)),
    key(
        Cluster,
        "group.share.heartbeat.interval.ms",
        Int,
        "5000",
        "The default of share.heartbeat.interval.ms of groups.",
    )
    .valid(Valid::AtLeast(1)),
    key(ReadOnly, "group.share.max.heartbeat.interval.ms", Int, "15000", "How long that interval may be."),
    key(ReadOnly, "group.share.max.record.lock.duration.ms", Int, "60000", "How long that lock may be."),
    key(ReadOnly, "group.share.max.session.timeout.ms", Int, "60000", "How long that timeout may be."),
    key(ReadOnly, "group.share.max.size", Int, "200", "How many members a share group may have."),
    key(ReadOnly, "group.share.min.heartbeat.interval.ms", Int, "5000", "How short that interval may be."),
    key(ReadOnly, "group.share.min.record.lock.duration.ms", Int, "15000", "How short that lock may be."),
    key(ReadOnly, "group.share.min.session.timeout.ms", Int, "45000", "How short that timeout may be."),
    key(
        Cluster,
        "group.share.partition.max.record.locks",
        Int,
        "2000",
        "The default of share.partition.max.record.locks of groups.",
    )
    .valid(Valid::Between(100, 10_000)),
    key(
        Cluster,
        "group.share.record.lock.duration.ms",
        Int,
        "30000",
        "The default of share.record.lock.duration.ms of groups.",
    )
    .valid(Valid::Between(1000, 3_600_000)),
    key(Cluster, "group.share.session.timeout.ms", Int, "45000", "The default of share.session.timeout.ms of groups.")
        .valid(Valid::AtLeast(1)),
    key(
        Anywhere,
        "leader.replication.throttled.rate",
        Long,
        "9223372036854775807",
        "How fast leaders send to replicas that are slowed down, in bytes a second.",
    )
    .valid(Valid::AtLeast(0)),
    key(
        PerNode,
        "listener.security.protocol.map",
        List,
        "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
        "Which protocol each listener speaks.",
    ),
    key(PerNode, "listeners", List, "PLAINTEXT://:9092", "Where the node listens."),
    key(
        Anywhere,
        "log.cleaner.backoff.ms",
        Long,
        "15000",
        "How long the cleaner sleeps when there is nothing to clean.",
    )
    .valid(Valid::AtLeast(0)),
    key(Anywhere, "log.cleaner.dedupe.buffer.size", Long, "134217728", "How much memory compaction uses for keys."),
    key(Cluster, "log.cleaner.delete.retention.ms", Long, "86400000", "The default of topics' delete.retention.ms.")
        .valid(Valid::AtLeast(0)),
    key(ReadOnly, "log.cleaner.enable", Boolean, "true", "Whether topics are compacted."),
    key(Anywhere, "log.cleaner.io.buffer.load.factor", Double, "0.9", "How full that memory may get."),
    key(
        Anywhere,
        "log.cleaner.io.buffer.size",
        Int,
        "524288",
        "How much memory compaction uses for reading and writing.",
    )
    .valid(Valid::AtLeast(0)),
    key(
        Anywhere,
        "log.cleaner.io.max.bytes.per.second",
        Double,
        "1.7976931348623157E308",
        "How fast compaction reads and writes.",
    ),
    key(
        Cluster,
        "log.cleaner.max.compaction.lag.ms",
        Long,
        "9223372036854775807",
        "The default of topics' max.compaction.lag.ms.",
    )
    .valid(Valid::AtLeast(1)),
    key(Cluster, "log.cleaner.min.cleanable.ratio", Double, "0.5", "The default of topics' min.cleanable.dirty.ratio.")
        .valid(Valid::Share),
    key(Cluster, "log.cleaner.min.compaction.lag.ms", Long, "0", "The default of topics' min.compaction.lag.ms.")
        .valid(Valid::AtLeast(0)),
    key(Anywhere, "log.cleaner.threads", Int, "1", "How many threads compact.").valid(Valid::AtLeast(0)),
    key(Cluster, "log.cleanup.policy", List, "delete", "The default of topics' cleanup.policy.")
        .valid(Valid::EachOf(&["compact", "delete"])),
    key(ReadOnly, "log.dir", String, "", "Where the node keeps its data.").without_default(),
    key(ReadOnly, "log.dirs", String, "", "Where the node keeps its data.").without_default(),
    key(Cluster, "log.flush.interval.messages", Long, "9223372036854775807", "The default of topics' flush.messages.")
        .valid(Valid::AtLeast(1)),
    key(Cluster, "log.flush.interval.ms", Long, "", "The default of topics' flush.ms.").without_default(),
    key(Cluster, "log.index.interval.bytes", Int, "4096", "The default of topics' index.interval.bytes.")
        .valid(Valid::AtLeast(0)),
    key(Cluster, "log.index.size.max.bytes", Int, "10485760", "The default of topics' segment.index.bytes.")
        .valid(Valid::AtLeast(4)),
    key(Cluster, "log.local.retention.bytes", Long, "-2", "The default of topics' local.retention.bytes.")
        .valid(Valid::AtLeast(-2)),
    key(Cluster, "log.local.retention.ms", Long, "-2", "The default of topics' local.retention.ms.")
        .valid(Valid::AtLeast(-2)),
    key(
        Cluster,
        "log.message.timestamp.after.max.ms",
        Long,
        "3600000",
        "The default of topics' message.timestamp.after.max.ms.",
    )
    .valid(Valid::AtLeast(0)),
    key(
        Cluster,
        "log.message.timestamp.before.max.ms",
        Long,
        "9223372036854775807",
        "The default of topics' message.timestamp.before.max.ms.",
    )
    .valid(Valid::AtLeast(0)),
    key(Cluster, "log.message.timestamp.type", String, "CreateTime", "The default of topics' message.timestamp.type.")
        .valid(Valid::OneOf(&["CreateTime", "LogAppendTime"])),
    key(Cluster, "log.preallocate", Boolean, "false", "The default of topics' preallocate."),
    key(Cluster, "log.retention.bytes", Long, "-1", "The default of topics' retention.bytes."),
    key(ReadOnly, "log.retention.check.interval.ms", Long, "300000", "How often partitions are looked after.")
        .valid(Valid::AtLeast(1)),
    key(
        ReadOnly,
        "log.retention.hours",
        Int,
        "168",
        "The default of topics' retention.ms, in hours, if nothing finer is set.",
    ),
    key(
        ReadOnly,
        "log.retention.minutes",
        Int,
        "",
        "The default of topics' retention.ms, in minutes, if nothing finer is set.",
    )
    .without_default(),
    key(Cluster, "log.retention.ms", Long, "", "The default of topics' retention.ms.")
        .valid(Valid::AtLeast(-1))
        .without_default(),
    key(
        ReadOnly,
        "log.roll.hours",
        Int,
        "168",
        "The default of topics' segment.ms, in hours, if nothing finer is set.",
    )
    .valid(Valid::AtLeast(1)),
    key(
        ReadOnly,
        "log.roll.jitter.hours",
        Int,
        "0",
        "The default of topics' segment.jitter.ms, in hours, if nothing finer is set.",
    )
    .valid(Valid::AtLeast(0)),
    key(Cluster, "log.roll.jitter.ms", Long, "", "The default of topics' segment.jitter.ms.")
        .valid(Valid::AtLeast(0))
        .without_default(),
    key(Cluster, "log.roll.ms", Long, "", "The default of topics' segment.ms.")
        .valid(Valid::AtLeast(1))
        .without_default(),
    key(Cluster, "log.segment.bytes", Int, "1073741824", "The default of topics' segment.bytes.")
        .valid(Valid::AtLeast(1_048_576)),
    key(Cluster, "log.segment.delete.delay.ms", Long, "60000", "The default of topics' file.delete.delay.ms.")
        .valid(Valid::AtLeast(0)),
    key(Anywhere, "max.connection.creation.rate", Int, "2147483647", "How many connections a second the node takes.")
        .valid(Valid::AtLeast(0)),
    key(Anywhere, "max.connections", Int, "2147483647", "How many connections the node takes.")
        .valid(Valid::AtLeast(0)),
    key(Anywhere, "max.connections.per.ip", Int, "2147483647", "How many connections the node takes from one address.")
        .valid(Valid::AtLeast(0)),
    key(
        Anywhere,
        "max.connections.per.ip.overrides",
        String,
        "",
        "How many connections the node takes from certain addresses.",
    ),
    key(ReadOnly, "max.incremental.fetch.session.cache.slots", Int, "1000", "How many fetch sessions the node keeps.")
        .valid(Valid::AtLeast(0)),
    key(Cluster, "message.max.bytes", Int, "1048588", "The default of topics' max.message.bytes.")
        .valid(Valid::AtLeast(0)),
    key(Anywhere, "metric.reporters", List, "", "Classes of Java that report metrics; of no effect here."),
    key(Cluster, "min.insync.replicas", Int, "1", "The default of topics of the same name.").valid(Valid::AtLeast(1)),
    key(ReadOnly, "node.id", Int, "-1", "The node's number."),
    key(Anywhere, "num.io.threads", Int, "8", "How many threads Kafka would serve requests with.")
        .valid(Valid::AtLeast(1)),
    key(Anywhere, "num.network.threads", Int, "3", "How many threads Kafka would read from the network with.")
        .valid(Valid::AtLeast(1)),
    key(Cluster, "num.partitions", Int, "1", "How many partitions a topic gets that says nothing.")
        .valid(Valid::AtLeast(1)),
    key(Anywhere, "num.recovery.threads.per.data.dir", Int, "2", "How many threads Kafka would recover logs with.")
        .valid(Valid::AtLeast(1)),
    key(Anywhere, "num.replica.fetchers", Int, "1", "How many threads Kafka would replicate with."),
    key(ReadOnly, "offset.metadata.max.bytes", Int, "4096", "How much a client may note beside an offset."),
    key(ReadOnly, "offsets.retention.check.interval.ms", Long, "600000", "How often old offsets are looked for.")
        .valid(Valid::AtLeast(1)),
    key(ReadOnly, "offsets.retention.minutes", Int, "10080", "How long offsets of a group without members are kept.")
        .valid(Valid::AtLeast(1)),
    key(ReadOnly, "process.roles", List, "broker,controller", "What the node does."),
    key(Cluster, "producer.id.expiration.ms", Int, "86400000", "After how long a silent producer is forgotten.")
        .valid(Valid::AtLeast(1)),
    key(ReadOnly, "queued.max.requests", Int, "500", "How many requests wait before more are not read.")
        .valid(Valid::AtLeast(1)),
    key(ReadOnly, "replica.fetch.max.bytes", Int, "1048576", "How much of a partition Kafka would replicate at once.")
        .valid(Valid::AtLeast(0)),
    key(
        ReadOnly,
        "replica.lag.time.max.ms",
        Long,
        "30000",
        "After how long a replica that does not follow is out of sync.",
    ),
    key(ReadOnly, "sasl.enabled.mechanisms", List, "", "How clients may prove who they are."),
    key(PerNode, "sasl.jaas.config", Password, "", "How Java logs in; of no effect here.").without_default(),
    key(
        PerNode,
        "sasl.kerberos.kinit.cmd",
        String,
        "/usr/bin/kinit",
        "The command that gets Kerberos tickets; of no effect here.",
    ),
    key(
        PerNode,
        "sasl.kerberos.min.time.before.relogin",
        Long,
        "60000",
        "How long Kerberos logs in no more; of no effect here.",
    ),
    key(
        PerNode,
        "sasl.kerberos.ticket.renew.jitter",
        Double,
        "0.05",
        "How much of a Kerberos ticket's renewal is random; of no effect here.",
    ),
    key(
        PerNode,
        "sasl.kerberos.ticket.renew.window.factor",
        Double,
        "0.8",
        "When a Kerberos ticket is renewed; of no effect here.",
    ),
    key(
        PerNode,
        "sasl.login.refresh.buffer.seconds",
        Short,
        "300",
        "When a login is refreshed at the latest; of no effect here.",
    ),
    key(
        ReadOnly,
        "share.coordinator.state.topic.num.partitions",
        Int,
        "50",
        "Into how many parts the state of share groups is split.",
    ),
    key(ReadOnly, "socket.request.max.bytes", Int, "104857600", "The largest request that is read.")
        .valid(Valid::AtLeast(1)),
    key(ReadOnly, "super.users", String, "", "Who may do everything, with semicolons between them.").without_default(),
    key(ReadOnly, "transaction.max.timeout.ms", Int, "900000", "How long a transaction may stay open.")
        .valid(Valid::AtLeast(1)),
    key(
        Cluster,
        "transaction.partition.verification.enable",
        Boolean,
        "true",
        "Whether a batch of a transaction is only taken if the transaction knows of the partition.",
    ),
    key(
        ReadOnly,
        "transactional.id.expiration.ms",
        Int,
        "604800000",
        "After how long a silent transactional id is forgotten.",
    )
    .valid(Valid::AtLeast(1)),
    key(Cluster, "unclean.leader.election.enable", Boolean, "false", "The default of topics of the same name."),
    key(ReadOnly, AGREEMENT, String, "raft", "What the cluster runs on, and topics that say nothing else.")
        .valid(Valid::OneOf(Agreement::NAMES)),
];

/// Other names under which the value of a key may be set, the finest first.
pub(super) fn synonyms(name: &str) -> &'static [&'static str] {
    match name {
        "log.retention.ms" | "log.retention.minutes" | "log.retention.hours" => {
            &["log.retention.ms", "log.retention.minutes", "log.retention.hours"]
        }
        "log.roll.ms" | "log.roll.hours" => &["log.roll.ms", "log.roll.hours"],
        "log.roll.jitter.ms" | "log.roll.jitter.hours" => &["log.roll.jitter.ms", "log.roll.jitter.hours"],
        _ => &[],
    }
}
