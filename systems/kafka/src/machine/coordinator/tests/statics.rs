//! Static members of classic groups (KIP-345, KIP-814).

use super::rig::*;
use crate::machine::coordinator::*;
use crate::wire::ErrorCode;

fn fixed(id: &str, instance: &str) -> Join {
    Join { member_id: String::new(), instance_id: Some(instance.into()), ..join(id) }
}

/// A stable group of the static members `a`, which leads, and `b`.
fn pair() -> Rig {
    let mut rig = Rig::new();
    assert_eq!(joined(&rig.join(fixed("a", "i"))).generation, 1, "a static member needs no id first");
    ticket(&rig.join(fixed("b", "j")));
    rig.join(Join { member_id: "a".into(), ..fixed("a", "i") });
    rig.sync("a", 2, &[("a", "A"), ("b", "B")]);
    rig.sync("b", 2, &[]);
    rig
}

#[test]
fn who_comes_back_goes_on_without_a_rebalance() {
    let mut rig = pair();
    let reply = rig.join(fixed("b2", "j"));
    let result = joined(&reply);
    assert_eq!((result.error, result.generation, result.leader.as_str()), (ErrorCode::NONE, 2, "a"));
    assert_eq!((result.member_id.as_str(), result.skip_assignment, result.members.len()), ("b2", false, 0));
    assert_eq!(rig.describe().state, "Stable");
    assert_eq!(synced(&rig.sync("b2", 2, &[])).assignment, "B");
    assert_eq!(rig.beat("b", 2), ErrorCode::UNKNOWN_MEMBER_ID);
    let fenced = Command::Heartbeat { group_id: GROUP.into(), generation: 2, member: instance("b", "j") };
    assert_eq!(rig.run(fenced), Reply::Error { error: ErrorCode::FENCED_INSTANCE_ID });
    assert_eq!(
        joined(&rig.join(Join { member_id: "b".into(), ..fixed("b", "j") })).error,
        ErrorCode::FENCED_INSTANCE_ID
    );
}

#[test]
fn a_leader_that_comes_back_is_told_not_to_assign() {
    let mut rig = pair();
    let reply = rig.join(fixed("a2", "i"));
    let result = joined(&reply);
    assert_eq!((result.leader.as_str(), result.skip_assignment, result.members.len()), ("a2", true, 2));
    let mut rig = pair();
    let reply = rig.join(Join { skip_assignment: false, ..fixed("a2", "i") });
    let result = joined(&reply);
    assert_eq!((result.leader.as_str(), result.skip_assignment, result.members.len()), ("a", false, 0));
}

#[test]
fn who_comes_back_rebalances_if_another_protocol_is_chosen_by_it() {
    let mut rig = Rig::new();
    let both = |names: [&str; 2]| names.map(protocol).to_vec();
    rig.join(Join { protocols: both(["x", "y"]), ..fixed("a", "i") });
    ticket(&rig.join(Join { protocols: both(["x", "y"]), ..fixed("b", "j") }));
    let again = Join { member_id: "a".into(), protocols: both(["x", "y"]), ..fixed("a", "i") };
    assert_eq!(joined(&rig.join(again.clone())).protocol.as_deref(), Some("x"));
    rig.sync("a", 2, &[]);
    let same = Join { protocols: both(["x", "y"]), ..fixed("b2", "j") };
    assert_eq!(joined(&rig.join(same)).error, ErrorCode::NONE);
    ticket(&rig.join(Join { protocols: vec![protocol("y")], ..fixed("b3", "j") }));
    assert_eq!(joined(&rig.join(again)).protocol.as_deref(), Some("y"));
}

#[test]
fn who_is_replaced_while_it_waits_is_fenced() {
    let mut rig = pair();
    rig.join(Join { member_id: "a".into(), ..fixed("a", "i") });
    let other = rig.join(Join { member_id: "b".into(), protocols: vec![protocol("range")], ..fixed("b", "j") });
    assert_eq!(joined(&other).generation, 3);
    let wait = ticket(&rig.sync("b", 3, &[]));
    ticket(&rig.join(fixed("b2", "j")));
    assert!(rig.groups.iter().any(|event| matches!(event,
        GroupEvent::SyncDone { ticket, result, .. } if *ticket == wait && result.error == ErrorCode::FENCED_INSTANCE_ID)));
    assert_eq!(rig.describe().state, "PreparingRebalance", "the leader may assign to the old id");
    ticket(&rig.join(fixed("b3", "j")));
    assert!(matches!(&rig.groups[..], [GroupEvent::JoinDone { member_id, result, .. }]
        if member_id == "b2" && result.error == ErrorCode::FENCED_INSTANCE_ID));
}

#[test]
fn static_members_are_kept_through_a_rebalance() {
    let mut rig = pair();
    let wait = ticket(&rig.enter_new("c"));
    rig.pass(REBALANCE_MS as u64);
    let [GroupEvent::JoinDone { ticket, result, .. }] = &rig.groups[..] else { panic!("{:?}", rig.groups) };
    assert_eq!((*ticket, result.generation, result.leader.as_str(), result.members.len()), (wait, 3, "c", 3));
    rig.leave(vec![name("c")]);
    rig.pass(REBALANCE_MS as u64);
    assert!(rig.groups.is_empty(), "nobody has joined: static members are waited for");
    assert_eq!(rig.describe().members.len(), 2);
}

#[test]
fn an_administrator_removes_instances_by_name() {
    let mut rig = pair();
    let left = rig.leave(vec![instance("", "j"), instance("", "nobody"), instance("x", "i")]);
    assert_eq!(left, [ErrorCode::NONE, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::FENCED_INSTANCE_ID]);
    assert_eq!(rig.describe().members.len(), 1);
}
