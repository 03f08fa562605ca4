//! Topics come, grow and go.

use super::super::*;
use super::rig::{Rig, node_ids};
use crate::wire::{ErrorCode, Uuid};

#[test]
fn a_topic_is_a_group_for_each_partition_on_the_nodes_that_hold_it() {
    let mut rig = Rig::new(3);
    let command = rig.topic("orders", 2, 2, &[]);
    let outcome = rig.ok(command);
    let id = Uuid([1; 16]);
    assert_eq!(outcome, Outcome::Created { id, partitions: 2, replication_factor: 2 });
    assert_eq!(rig.spawned.iter().map(|spawn| spawn.group.0).collect::<Vec<_>>(), [PARTITIONS, PARTITIONS + 1]);
    let topic = rig.heard.topic("orders").expect("it is there");
    assert_eq!(rig.heard.topic_by_id(id), Some(topic));
    for (spawn, (index, partition)) in rig.spawned.iter().zip((0..).zip(&topic.partitions)) {
        assert_eq!(spawn.members.voters, spawn.hosts);
        assert_eq!(spawn.hosts.len(), 2);
        let blueprint = Blueprint::decode(&spawn.blueprint).expect("a blueprint");
        assert_eq!((blueprint.topic, blueprint.partition), (id, index));
        assert_eq!(blueprint.config.version, rig.heard.version());
        assert_eq!((partition.leader, partition.epoch), (NO_LEADER, 0));
    }
    assert_eq!(rig.machine.spawned(), rig.spawned, "a node that comes back asks for the same");
}

#[test]
fn names_are_kafkas() {
    let mut rig = Rig::new(1);
    rig.create("a.b", 1, 1);
    let mut refused = |name: &str| {
        let command = rig.topic(name, 1, 1, &[]);
        rig.refused(command)
    };
    let invalid = ErrorCode::INVALID_TOPIC_EXCEPTION;
    assert_eq!(refused("a.b"), (ErrorCode::TOPIC_ALREADY_EXISTS, "Topic 'a.b' already exists.".into()));
    assert_eq!(refused("a_b"), (invalid, "Topic 'a_b' collides with existing topic: a.b".into()));
    assert_eq!(refused(""), (invalid, "Topic name is invalid: the empty string is not allowed".into()));
    assert_eq!(refused(&"x".repeat(250)).0, invalid);
    let message = "Creation of internal topic __consumer_offsets is prohibited.".into();
    assert_eq!(refused("__consumer_offsets"), (ErrorCode::INVALID_REQUEST, message));
    rig.ok(Command::DeleteTopic { name: Some("a.b".into()), id: Uuid::ZERO });
    rig.create("a_b", 1, 1);
}

#[test]
fn numbers_of_partitions_and_replicas() {
    let mut rig = Rig::new(2);
    let mut reply = |partitions, factor| {
        let command = rig.topic("t", partitions, factor, &[]);
        rig.refused(command)
    };
    let factor = ErrorCode::INVALID_REPLICATION_FACTOR;
    let partitions = ErrorCode::INVALID_PARTITIONS;
    let message = "Replication factor must be larger than 0, or -1 to use the default value.";
    assert_eq!(reply(1, 0), (factor, message.into()));
    assert_eq!(reply(1, -2), (factor, message.into()));
    let message = "Number of partitions was set to an invalid non-positive value.";
    assert_eq!(reply(0, 1), (partitions, message.into()));
    assert_eq!(reply(i32::MIN, 1), (partitions, message.into()));
    let message = "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached \
                   because only 2 broker(s) are registered.";
    assert_eq!(reply(1, 3), (factor, message.into()));
    let message = "Excessively large number of partitions per request.";
    assert_eq!(reply(i32::MAX, 1), (ErrorCode::POLICY_VIOLATION, message.into()));
    // What says nothing gets the defaults, and no more replicas than there are nodes.
    let command = rig.topic("t", -1, -1, &[]);
    let outcome = rig.ok(command);
    assert!(matches!(outcome, Outcome::Created { partitions: 1, replication_factor: 2, .. }), "{outcome:?}");
    assert_eq!(rig.set(ConfigResource::cluster(), "num.partitions", "7").error, ErrorCode::NONE);
    rig.ok(Command::Register { id: 3, rack: None, host: "c".into(), port: 1, tls_port: 2 });
    let command = rig.topic("u", -1, -1, &[]);
    let outcome = rig.ok(command);
    assert!(matches!(outcome, Outcome::Created { partitions: 7, replication_factor: 3, .. }), "{outcome:?}");
}

#[test]
fn nothing_is_placed_without_nodes_or_led_by_one_that_is_not_heard() {
    let mut rig = Rig::empty();
    let command = rig.topic("t", 1, 1, &[]);
    let message = "Unable to replicate the partition 1 time(s): All brokers are currently fenced.";
    assert_eq!(rig.refused(command), (ErrorCode::INVALID_REPLICATION_FACTOR, message.into()));
    let mut rig = Rig::new(3);
    rig.ok(Command::Fence { id: 2, fenced: true });
    rig.create("t", 30, 3);
    let leaders =
        |rig: &Rig, node| rig.heard.topic("t").expect("t").partitions.iter().filter(|p| p.preferred() == node).count();
    assert_eq!((leaders(&rig, 1), leaders(&rig, 2), leaders(&rig, 3)), (15, 0, 15));
    assert_eq!(rig.heard.offline(&rig.partition("t", 0)), [2]);
    assert_eq!(rig.heard.in_sync(&rig.partition("t", 0)).len(), 2);
    let command = rig.assigned("u", &[(0, &[2])]);
    let message = "All brokers specified in the manual partition assignment for partition 0 are fenced or in \
                   controlled shutdown.";
    assert_eq!(rig.refused(command), (ErrorCode::INVALID_REPLICA_ASSIGNMENT, message.into()));
    // A node that starts again is heard.
    rig.ok(Command::Register { id: 2, rack: None, host: "node-2".into(), port: 9092, tls_port: 0 });
    assert!(rig.heard.is_online(2));
}

#[test]
fn a_client_may_choose_the_nodes() {
    let mut rig = Rig::new(3);
    let command = rig.assigned("t", &[(1, &[2, 3]), (0, &[3, 1])]);
    let outcome = rig.ok(command);
    assert!(matches!(outcome, Outcome::Created { partitions: 2, replication_factor: 2, .. }), "{outcome:?}");
    assert_eq!(rig.partition("t", 0).replicas, [3, 1]);
    assert_eq!(rig.partition("t", 1).replicas, [2, 3]);
    type Assignments<'a> = &'a [(i32, &'a [i32])];
    let cases: [(Assignments<'_>, &str); 6] = [
        (&[(0, &[])], "The manual partition assignment includes an empty replica list."),
        (&[(0, &[1, 9])], "The manual partition assignment includes broker 9, but no such broker is registered."),
        (&[(0, &[-1])], "The manual partition assignment includes broker -1, but no such broker is registered."),
        (&[(0, &[1, 2, 1])], "The manual partition assignment includes the broker 1 more than once."),
        (
            &[(0, &[1, 2]), (1, &[1])],
            "The manual partition assignment includes a partition with 1 replica(s), but this is not consistent with \
             previous partitions, which have 2 replica(s).",
        ),
        (&[(0, &[1]), (2, &[1])], "partitions should be a consecutive 0-based integer sequence"),
    ];
    for (assignments, message) in cases {
        let command = rig.assigned("u", assignments);
        assert_eq!(rig.refused(command), (ErrorCode::INVALID_REPLICA_ASSIGNMENT, message.into()));
    }
    let command = rig.assigned("u", &[(0, &[1]), (0, &[2])]);
    assert_eq!(rig.refused(command).1, "Found multiple manual partition assignments for partition 0");
    let mut command = rig.assigned("u", &[(0, &[1])]);
    let Command::CreateTopic { partitions, .. } = &mut command else { panic!() };
    *partitions = 1;
    let message = "A manual partition assignment was specified, but numPartitions was not set to -1.";
    assert_eq!(rig.refused(command), (ErrorCode::INVALID_REQUEST, message.into()));
}

#[test]
fn who_only_asks_is_answered_and_nothing_is_done() {
    let mut rig = Rig::new(3);
    let mut command = rig.topic("t", 4, 3, &[]);
    let Command::CreateTopic { validate_only, .. } = &mut command else { panic!() };
    *validate_only = true;
    let before = rig.heard.version();
    let outcome = rig.ok(command);
    assert!(matches!(outcome, Outcome::Created { partitions: 4, replication_factor: 3, .. }), "{outcome:?}");
    assert_eq!((rig.heard.version(), rig.spawned.len(), rig.heard.topic_count()), (before, 0, 0));
    rig.create("t", 1, 1);
    let before = rig.heard.version();
    rig.ok(Command::CreatePartitions { name: "t".into(), count: 3, assignments: None, validate_only: true });
    assert_eq!((rig.heard.version(), rig.heard.partition_count()), (before, 1));
}

#[test]
fn a_topic_goes_with_its_groups_and_never_comes_back() {
    let mut rig = Rig::new(2);
    let id = rig.create("t", 3, 2);
    let gone = |name: Option<&str>, id| Command::DeleteTopic { name: name.map(str::to_owned), id };
    let unknown = "This server does not host this topic-partition.".into();
    assert_eq!(rig.refused(gone(Some("x"), Uuid::ZERO)), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, unknown));
    let unknown = "This server does not host this topic ID.".into();
    assert_eq!(rig.refused(gone(None, Uuid([9; 16]))), (ErrorCode::UNKNOWN_TOPIC_ID, unknown));
    assert_eq!(rig.refused(gone(None, Uuid::ZERO)).0, ErrorCode::INVALID_REQUEST);
    assert_eq!(rig.refused(gone(Some("t"), id)).0, ErrorCode::INVALID_REQUEST);
    assert_eq!(rig.set(ConfigResource::cluster(), "delete.topic.enable", "false").error, ErrorCode::NONE);
    let disabled = "Topic deletion is disabled.".into();
    assert_eq!(rig.refused(gone(None, id)), (ErrorCode::TOPIC_DELETION_DISABLED, disabled));
    assert_eq!(rig.set(ConfigResource::cluster(), "delete.topic.enable", "true").error, ErrorCode::NONE);
    assert_eq!(rig.ok(gone(None, id)), Outcome::Deleted { name: "t".into(), id });
    assert_eq!(rig.retired.iter().map(|group| group.0 - PARTITIONS).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(rig.machine.spawned().is_empty());
    rig.create("t", 1, 1);
    assert_eq!(rig.partition("t", 0).group, PARTITIONS + 3, "no group's id is given twice");
}

#[test]
fn a_topic_grows_and_never_shrinks() {
    let mut rig = Rig::new(3);
    rig.create("t", 2, 2);
    let grow = |count, assignments: Option<&[&[i32]]>| Command::CreatePartitions {
        name: "t".into(),
        count,
        assignments: assignments.map(|all| all.iter().map(|ids| ids.to_vec()).collect()),
        validate_only: false,
    };
    let wrong = ErrorCode::INVALID_PARTITIONS;
    assert_eq!(rig.refused(grow(2, None)), (wrong, "Topic already has 2 partition(s).".into()));
    let message = "The topic t currently has 2 partition(s); 1 would not be an increase.";
    assert_eq!(rig.refused(grow(1, None)), (wrong, message.into()));
    assert_eq!(rig.refused(grow(i32::MAX, None)).0, ErrorCode::POLICY_VIOLATION);
    let message = "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.";
    assert_eq!(rig.refused(grow(4, Some(&[&[1, 2]]))), (ErrorCode::INVALID_REPLICA_ASSIGNMENT, message.into()));
    assert_eq!(rig.refused(grow(3, Some(&[&[1]]))).0, ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    let before = [rig.partition("t", 0), rig.partition("t", 1)];
    rig.ok(grow(3, Some(&[&[3, 2]])));
    rig.ok(grow(6, None));
    assert_eq!([rig.partition("t", 0), rig.partition("t", 1)], before, "what is there does not move");
    assert_eq!(rig.partition("t", 2).replicas, [3, 2]);
    assert_eq!(rig.spawned.len(), 3);
    assert_eq!(rig.spawned[0].hosts.len(), 2, "new partitions have as many replicas as the first");
    let unknown = Command::CreatePartitions { name: "u".into(), count: 3, assignments: None, validate_only: false };
    assert_eq!(rig.refused(unknown).0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn new_partitions_begin_with_the_configuration_of_their_time() {
    let mut rig = Rig::new(1);
    let command = rig.topic("t", 1, 1, &[("retention.ms", "1000")]);
    rig.ok(command);
    let born = Blueprint::decode(&rig.spawned[0].blueprint).expect("a blueprint").config;
    assert_eq!((born.retention_ms, born.version), (1000, 2));
    assert_eq!(rig.set(ConfigResource::topic("t"), "retention.ms", "2000").error, ErrorCode::NONE);
    rig.ok(Command::CreatePartitions { name: "t".into(), count: 2, assignments: None, validate_only: false });
    let later = Blueprint::decode(&rig.spawned[0].blueprint).expect("a blueprint").config;
    assert_eq!((later.retention_ms, later.version), (2000, 3));
    let all: Vec<i64> = rig
        .machine
        .spawned()
        .iter()
        .map(|spawn| Blueprint::decode(&spawn.blueprint).expect("one").config.retention_ms)
        .collect();
    assert_eq!(all, [1000, 2000], "a blueprint never changes");
}

#[test]
fn nodes_register_and_move_house() {
    let mut rig = Rig::new(1);
    let register = |id, host: &str, port| Command::Register { id, rack: None, host: host.into(), port, tls_port: 0 };
    let before = rig.heard.version();
    rig.ok(register(1, "node-1", 9092));
    assert_eq!(rig.heard.version(), before, "nothing new");
    rig.ok(register(1, "elsewhere", 9093));
    assert_eq!(rig.heard.node(1).map(|node| (node.host.as_str(), node.port)), Some(("elsewhere", 9093)));
    assert_eq!(rig.refused(register(0, "x", 1)).0, ErrorCode::INVALID_REGISTRATION);
    assert_eq!(rig.refused(register(2, "", 1)).0, ErrorCode::INVALID_REGISTRATION);
    assert_eq!(rig.refused(register(2, &"x".repeat(256), 1)).0, ErrorCode::INVALID_REGISTRATION);
    assert_eq!(rig.refused(Command::Fence { id: 7, fenced: true }).0, ErrorCode::BROKER_ID_NOT_REGISTERED);
    rig.create("t", 1, 1);
    rig.ok(Command::Unregister { id: 1 });
    assert_eq!(rig.heard.offline(&rig.partition("t", 0)), [1], "what it holds stays its own");
    assert_eq!(rig.machine.spawned()[0].hosts, node_ids(&[1]));
    assert_eq!(rig.refused(Command::Unregister { id: 1 }).0, ErrorCode::BROKER_ID_NOT_REGISTERED);
}
