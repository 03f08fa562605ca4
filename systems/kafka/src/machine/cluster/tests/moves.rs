//! Leaders, and partitions that move.

use super::super::*;
use super::rig::{Rig, node_ids};
use crate::wire::ErrorCode;

fn led(rig: &mut Rig, group: u64, leader: i32, epoch: i32) {
    rig.ok(Command::Led { reports: vec![Leadership { group, leader, epoch }] });
}

fn reassign(partition: i32, replicas: Option<&[i32]>) -> Command {
    Command::Reassign {
        topic: "t".into(),
        partition,
        replicas: replicas.map(<[i32]>::to_vec),
        allow_replication_factor_change: true,
    }
}

/// Four nodes, and a partition on the first two.
fn rig() -> Rig {
    let mut rig = Rig::new(4);
    let command = rig.assigned("t", &[(0, &[1, 2])]);
    rig.ok(command);
    led(&mut rig, PARTITIONS, 1, 1);
    rig
}

#[test]
fn the_latest_leader_counts() {
    let mut rig = rig();
    let leader = |rig: &Rig| (rig.partition("t", 0).leader, rig.partition("t", 0).epoch);
    led(&mut rig, PARTITIONS, 2, 5);
    assert_eq!(leader(&rig), (2, 5));
    let before = rig.heard.version();
    for (group, node, epoch) in [(PARTITIONS, 1, 5), (PARTITIONS, 1, 4), (PARTITIONS, 3, 9), (PARTITIONS + 7, 1, 9)] {
        led(&mut rig, group, node, epoch);
    }
    assert_eq!((leader(&rig), rig.heard.version()), ((2, 5), before), "late, foreign and unknown ones change nothing");
    let report = |leader, epoch| Leadership { group: PARTITIONS, leader, epoch };
    rig.ok(Command::Led { reports: vec![report(1, 6), report(2, 8), report(1, 7)] });
    assert_eq!(leader(&rig), (2, 8));
}

/// Says that t-0 has come to the latest version of its goal.
fn arrived(rig: &Rig, replicas: &[i32]) -> Command {
    let version = rig.partition("t", 0).version;
    Command::Reassigned { group: PARTITIONS, version, replicas: replicas.to_vec(), applied: 7 * version }
}

fn arrive(rig: &mut Rig, replicas: &[i32]) {
    let command = arrived(rig, replicas);
    rig.ok(command);
}

#[test]
fn a_partition_moves_by_way_of_both_homes() {
    let mut rig = rig();
    rig.ok(reassign(0, Some(&[3, 2])));
    let [spawn] = &rig.spawned[..] else { panic!("{:?}", rig.spawned) };
    assert_eq!((spawn.group.0, &spawn.hosts), (PARTITIONS, &node_ids(&[1, 2, 3])));
    assert_eq!(spawn.members.voters, node_ids(&[1, 2]), "a group begins with the same members everywhere");
    let moving: Vec<_> = rig.heard.moving(None).map(|m| (m.partition, m.replicas, m.adding, m.removing)).collect();
    assert_eq!(moving, [(0, vec![3, 2, 1], vec![3], vec![1])]);
    assert_eq!(rig.heard.moving(Some("other")).count(), 0);
    let grow = Command::CreatePartitions { name: "t".into(), count: 2, assignments: None, validate_only: false };
    assert_eq!(rig.refused(grow).0, ErrorCode::REASSIGNMENT_IN_PROGRESS);
    let early = arrived(&rig, &[1, 2]);
    assert_eq!(rig.refused(early).0, ErrorCode::INVALID_REQUEST);
    arrive(&mut rig, &[2, 3]);
    assert_eq!(rig.spawned[0].hosts, node_ids(&[2, 3]));
    let settled = rig.partition("t", 0);
    assert_eq!((settled.replicas.as_slice(), settled.target.as_ref(), settled.leader), (&[3, 2][..], None, NO_LEADER));
    assert!(!settled.is_moving());
    let before = rig.heard.version();
    arrive(&mut rig, &[2, 3]);
    assert_eq!(rig.heard.version(), before, "said twice is said once");
}

/// What was said of a goal that went away and came back does not count for what came of it.
#[test]
fn an_older_version_of_the_same_goal_lets_nobody_go() {
    let mut rig = rig();
    rig.ok(reassign(0, Some(&[3, 4])));
    rig.ok(reassign(0, None));
    let old = arrived(&rig, &[1, 2]);
    rig.ok(reassign(0, Some(&[3, 4])));
    rig.ok(reassign(0, None));
    assert_eq!(rig.refused(old).0, ErrorCode::INVALID_REQUEST);
    assert_eq!(rig.partition("t", 0).hosts.len(), 4);
    arrive(&mut rig, &[1, 2]);
    assert_eq!(rig.partition("t", 0).hosts.len(), 2);
}

/// Whoever left has forgotten its votes; whoever never did begins with the members, however late it comes.
#[test]
fn founders_are_those_who_never_left() {
    let mut rig = rig();
    led(&mut rig, PARTITIONS, 2, 5);
    rig.ok(reassign(0, Some(&[2, 3])));
    arrive(&mut rig, &[2, 3]);
    rig.ok(reassign(0, Some(&[2, 1])));
    let [spawn] = &rig.spawned[..] else { panic!("{:?}", rig.spawned) };
    assert_eq!((&spawn.members.voters, &spawn.founders), (&node_ids(&[1, 2]), &node_ids(&[2])));
    let members_for = |node| spawn.clone().for_node(NodeId(node)).map(|spawn| spawn.members.voters.len());
    assert_eq!([1, 2, 3, 4].map(members_for), [Some(0), Some(2), Some(0), None]);
    assert_eq!(spawn.floor, LogIndex(7), "what the group had applied when it let 1 go");
}

#[test]
fn whoever_stays_after_all_still_lets_the_new_ones_go_in_order() {
    let mut rig = rig();
    let none = (ErrorCode::NO_REASSIGNMENT_IN_PROGRESS, "No partition reassignment is in progress.".to_owned());
    assert_eq!(rig.refused(reassign(0, None)), none);
    rig.ok(reassign(0, Some(&[3, 4])));
    rig.ok(reassign(0, None));
    assert!(rig.spawned.is_empty(), "nobody lets go of a group that may count on them");
    assert_eq!(rig.heard.moving(None).count(), 0, "a client sees that nothing moves");
    assert!(rig.partition("t", 0).is_moving(), "whoever leads it sees that something is left to do");
    assert_eq!(rig.refused(reassign(0, None)), none);
    arrive(&mut rig, &[1, 2]);
    assert_eq!(rig.spawned[0].hosts, node_ids(&[1, 2]));
    assert_eq!(rig.partition("t", 0).leader, 1);
}

#[test]
fn a_move_may_change_its_mind_and_only_an_order_changes_at_once() {
    let mut rig = rig();
    rig.ok(reassign(0, Some(&[3, 2])));
    rig.ok(reassign(0, Some(&[4, 2])));
    assert_eq!(rig.spawned[0].hosts, node_ids(&[1, 2, 3, 4]));
    let moving = rig.heard.moving(None).next().expect("it moves");
    assert_eq!((moving.adding, moving.removing), (vec![4], vec![1]));
    arrive(&mut rig, &[4, 2]);
    assert_eq!(rig.spawned[0].hosts, node_ids(&[2, 4]));
    rig.ok(reassign(0, Some(&[2, 4])));
    assert!(rig.spawned.is_empty());
    assert_eq!((rig.partition("t", 0).preferred(), rig.heard.moving(None).count()), (2, 0));
}

#[test]
fn moves_that_make_no_sense_are_refused() {
    let mut rig = rig();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(rig.refused(reassign(7, Some(&[1]))), (unknown, "Unable to find partition t:7.".into()));
    let elsewhere =
        Command::Reassign { topic: "u".into(), partition: 0, replicas: None, allow_replication_factor_change: true };
    assert_eq!(rig.refused(elsewhere), (unknown, "Unable to find a topic named u.".into()));
    for bad in [&[][..], &[1, 9], &[1, 1], &[-5]] {
        assert_eq!(rig.refused(reassign(0, Some(bad))).0, ErrorCode::INVALID_REPLICA_ASSIGNMENT, "{bad:?}");
    }
    let command = Command::Reassign {
        topic: "t".into(),
        partition: 0,
        replicas: Some(vec![1]),
        allow_replication_factor_change: false,
    };
    assert_eq!(rig.refused(command).0, ErrorCode::INVALID_REPLICATION_FACTOR);
    rig.ok(Command::Fence { id: 4, fenced: true });
    assert_eq!(rig.refused(reassign(0, Some(&[4]))).0, ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    let before = rig.heard.version();
    rig.ok(reassign(0, Some(&[1, 2])));
    assert_eq!(rig.heard.version(), before, "it is there already");
}

#[test]
fn elections_are_wished_for_and_only_useful_ones_are_passed_on() {
    let mut rig = rig();
    let code = |rig: &Rig, index, election| rig.heard.election("t", index, election).map_err(|refusal| refusal.error);
    assert_eq!(code(&rig, 0, ELECT_PREFERRED), Err(ErrorCode::ELECTION_NOT_NEEDED));
    assert_eq!(code(&rig, 5, ELECT_PREFERRED), Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert_eq!(code(&rig, 0, 9), Err(ErrorCode::INVALID_REQUEST));
    led(&mut rig, PARTITIONS, 2, 2);
    let handover = Handover { group: verity_types::GroupId(PARTITIONS), from: 2, to: verity_types::NodeId(1) };
    assert_eq!(code(&rig, 0, ELECT_PREFERRED), Ok(handover));
    assert_eq!(code(&rig, 0, ELECT_UNCLEAN), Err(ErrorCode::ELECTION_NOT_NEEDED));
    rig.ok(Command::Fence { id: 1, fenced: true });
    assert_eq!(code(&rig, 0, ELECT_PREFERRED), Err(ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE));
    rig.ok(Command::Fence { id: 2, fenced: true });
    assert_eq!(code(&rig, 0, ELECT_UNCLEAN), Err(ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE));
}
