//! Commands at random, over few names, so that they meet.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::*;
use crate::wire::Uuid;

fn node() -> impl Strategy<Value = i32> {
    prop_oneof![9 => 1..6i32, 1 => -1..9i32]
}

fn topic() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "a.b", "a_b", "c", "", "d!"]).prop_map(str::to_owned)
}

fn id() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(Uuid)
}

fn replicas() -> impl Strategy<Value = Vec<i32>> {
    prop::collection::vec(node(), 0..4)
}

fn pair() -> impl Strategy<Value = (String, Option<String>)> {
    let names =
        vec!["retention.ms", "cleanup.policy", "log.retention.ms", "num.partitions", "interval.ms", "x", AGREEMENT];
    let values = vec!["1", "3", "compact", "delete", "-1", "", "pbft", "paxos"];
    let value = prop::option::weighted(0.9, prop::sample::select(values).prop_map(str::to_owned));
    (prop::sample::select(names).prop_map(str::to_owned), value)
}

fn resource() -> impl Strategy<Value = ConfigResource> {
    prop_oneof![
        3 => topic().prop_map(ConfigResource::topic),
        2 => Just(ConfigResource::cluster()),
        1 => node().prop_map(|id| ConfigResource::new(ConfigResource::BROKER, id.to_string())),
        1 => topic().prop_map(|name| ConfigResource::new(ConfigResource::GROUP, name)),
        1 => topic().prop_map(|name| ConfigResource::new(ConfigResource::CLIENT_METRICS, name)),
    ]
}

fn acl() -> impl Strategy<Value = Acl> {
    (1..5i8, topic(), 2..5i8, prop::sample::select(vec!["User:a", "User:*", "x"]), 1..6i8, 1..4i8).prop_map(
        |(resource_type, name, pattern, principal, operation, permission)| Acl {
            resource_type,
            name,
            pattern,
            principal: principal.into(),
            host: "*".into(),
            operation,
            permission,
        },
    )
}

fn filter() -> impl Strategy<Value = AclFilter> {
    (0..5i8, prop::option::of(topic()), 1..5i8).prop_map(|(resource_type, name, pattern)| AclFilter {
        resource_type,
        name,
        pattern,
        ..AclFilter::any()
    })
}

fn access_or_limits() -> impl Strategy<Value = Command> {
    let secret = |size| Secret(Bytes::from(vec![7u8; size]));
    prop_oneof![
        2 => acl().prop_map(|acl| Command::CreateAcl { acl }),
        1 => filter().prop_map(|filter| Command::DeleteAcls { filter }),
        1 => (topic(), prop::collection::vec(0..3i8, 0..2), prop::bool::ANY).prop_map(move |(user, deletions, upsert)| {
            let (salt, stored_key, server_key) = (secret(4), secret(32), secret(32));
            let upsertion = ScramUpsertion { mechanism: SHA_256, iterations: 5000, salt, stored_key, server_key };
            Command::AlterScram { user, deletions, upsertions: if upsert { vec![upsertion] } else { Vec::new() } }
        }),
        1 => (prop::option::of(topic()), prop::option::of(0..3u8), prop::bool::ANY).prop_map(|(name, value, client)| {
            let kind = if client { CLIENT_ID } else { USER };
            let ops = vec![QuotaOp { key: PRODUCER_BYTE_RATE.into(), value: value.map(f64::from).map(Limit) }];
            Command::AlterQuota { entity: vec![(kind.into(), name)], ops, validate_only: false }
        }),
        1 => (0..3i16, 0..4i8).prop_map(|(level, upgrade)| {
            let updates = vec![FeatureUpdate { name: SHARE_VERSION.into(), level, upgrade }];
            Command::UpdateFeatures { updates, validate_only: false }
        }),
    ]
}

/// Any command, more or less sensible.
pub(super) fn command() -> impl Strategy<Value = Command> {
    let group = (0..12u64).prop_map(|made| PARTITIONS + made);
    prop_oneof![
        3 => (node(), 1..3u16).prop_map(|(id, port)| {
            Command::Register { id, rack: None, host: "h".into(), port, tls_port: 0 }
        }),
        1 => (node(), prop::bool::ANY).prop_map(|(id, fenced)| Command::Fence { id, fenced }),
        1 => node().prop_map(|id| Command::Unregister { id }),
        2 => (node(), 0..6i32).prop_map(|(id, keys)| {
            Command::Keys { id, keys: (1..=keys).map(|node| (node, Bytes::from_static(&[7; 32]))).collect() }
        }),
        6 => (topic(), id(), -2..5i32, -1..4i16, prop::collection::vec(pair(), 0..2)).prop_map(
            |(name, id, partitions, replication_factor, configs)| Command::CreateTopic {
                name, id, partitions, replication_factor, assignments: Vec::new(), configs, validate_only: false,
            },
        ),
        2 => (topic(), id(), prop::collection::vec((0..3i32, replicas()), 1..3)).prop_map(|(name, id, assignments)| {
            Command::CreateTopic {
                name,
                id,
                partitions: -1,
                replication_factor: -1,
                assignments,
                configs: Vec::new(),
                validate_only: false,
            }
        }),
        2 => topic().prop_map(|name| Command::DeleteTopic { name: Some(name), id: Uuid::ZERO }),
        2 => (topic(), 0..6i32).prop_map(|(name, count)| {
            Command::CreatePartitions { name, count, assignments: None, validate_only: false }
        }),
        2 => (resource(), prop::collection::vec(pair(), 0..3)).prop_map(|(resource, values)| {
            Command::AlterConfig { resource, values, validate_only: false }
        }),
        4 => (resource(), prop::collection::vec((pair(), 0..5i8), 0..3)).prop_map(|(resource, ops)| {
            let ops = ops.into_iter().map(|((name, value), op)| ConfigOp { name, op, value }).collect();
            Command::IncrementalAlterConfig { resource, ops, validate_only: false }
        }),
        3 => prop::collection::vec((group.clone(), node(), -1..9i32), 0..4).prop_map(|reports| {
            let report = |(group, leader, epoch)| Leadership { group, leader, epoch };
            Command::Led { reports: reports.into_iter().map(report).collect() }
        }),
        4 => (topic(), 0..3i32, prop::option::of(replicas())).prop_map(|(topic, partition, replicas)| {
            Command::Reassign { topic, partition, replicas, allow_replication_factor_change: true }
        }),
        4 => (group, 0..4u64, replicas(), 0..9u64).prop_map(|(group, version, replicas, applied)| {
            Command::Reassigned { group, version, replicas, applied }
        }),
        5 => access_or_limits(),
    ]
}
