//! Groups: rebalances of classic ones, assignments of consumer groups, and looking at both.

use bytes::Bytes;
use verity_types::ConnId;

use super::rig::{COORDINATOR, PLAIN, Rig};
use crate::wire::message::*;
use crate::wire::{ErrorCode, Request, Response, Uuid};

const GROUP: &str = "readers";

/// Asks, and takes the answer apart.
macro_rules! ask {
    ($rig:expr, $conn:expr, $version:expr, $kind:ident($request:expr)) => {
        match $rig.ask($conn, $version, &Request::$kind($request)) {
            Response::$kind(response) => response,
            other => panic!("{other:?}"),
        }
    };
}
pub(super) use ask;

/// Takes an answer that has come meanwhile.
macro_rules! take {
    ($rig:expr, $conn:expr, $kind:ident) => {
        match $rig.receive($conn) {
            Some(Response::$kind(response)) => response,
            other => panic!("{other:?}"),
        }
    };
}

fn join(member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 30_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(b"wish") }],
        ..Default::default()
    }
}

fn sync(generation_id: i32, member_id: &str, shares: &[(&str, &str)]) -> SyncGroupRequest {
    let share = |(id, share): &(&str, &str)| SyncGroupRequestAssignment {
        member_id: (*id).into(),
        assignment: Bytes::copy_from_slice(share.as_bytes()),
    };
    SyncGroupRequest {
        group_id: GROUP.into(),
        generation_id,
        member_id: member_id.into(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: shares.iter().map(share).collect(),
        ..Default::default()
    }
}

fn beat(rig: &mut Rig, conn: ConnId, generation_id: i32, member_id: &str) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: GROUP.into(),
        generation_id,
        member_id: member_id.into(),
        group_instance_id: None,
    };
    ErrorCode(ask!(rig, conn, 4, Heartbeat(request)).error_code)
}

/// A new member's id, which it is told to join with.
fn new_member(rig: &mut Rig, conn: ConnId) -> String {
    let response = ask!(rig, conn, 9, JoinGroup(join("")));
    assert_eq!(response.error_code, ErrorCode::MEMBER_ID_REQUIRED.0);
    assert!(response.member_id.starts_with("rig-") && response.member_id.len() == 40, "{}", response.member_id);
    response.member_id
}

/// A first member that has its assignment in generation 1.
fn first(rig: &mut Rig, conn: ConnId) -> String {
    let a = new_member(rig, conn);
    let joined = ask!(rig, conn, 9, JoinGroup(join(&a)));
    assert_eq!((joined.error_code, joined.generation_id, joined.leader.as_str()), (0, 1, a.as_str()));
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.members.len(), 1);
    let synced = ask!(rig, conn, 5, SyncGroup(sync(1, &a, &[(&a, "all")])));
    assert_eq!((synced.error_code, synced.assignment.as_ref()), (0, &b"all"[..]));
    a
}

#[test]
fn two_members_rebalance() {
    let mut rig = Rig::new();
    let (one, two) = (rig.connect(PLAIN), rig.connect(PLAIN));
    let a = first(&mut rig, one);
    assert_eq!(beat(&mut rig, one, 1, &a), ErrorCode::NONE);
    let b = new_member(&mut rig, two);
    rig.send(two, 9, &Request::JoinGroup(join(&b)));
    assert!(rig.receive(two).is_none(), "the other is waited for");
    assert_eq!(rig.waiting(), 1);
    assert_eq!(beat(&mut rig, one, 1, &a), ErrorCode::REBALANCE_IN_PROGRESS);
    let led = ask!(rig, one, 9, JoinGroup(join(&a)));
    assert_eq!((led.generation_id, led.members.len()), (2, 2));
    let follows = take!(rig, two, JoinGroup);
    assert_eq!((follows.generation_id, follows.leader.as_str(), follows.members.len()), (2, a.as_str(), 0));
    rig.send(two, 5, &Request::SyncGroup(sync(2, &b, &[])));
    assert!(rig.receive(two).is_none(), "the leader has not assigned");
    let shares = [(a.as_str(), "left"), (b.as_str(), "right")];
    assert_eq!(ask!(rig, one, 5, SyncGroup(sync(2, &a, &shares))).assignment.as_ref(), b"left");
    assert_eq!(take!(rig, two, SyncGroup).assignment.as_ref(), b"right");
    assert_eq!(rig.waiting(), 0);
    assert_eq!(beat(&mut rig, two, 1, &b), ErrorCode::ILLEGAL_GENERATION);

    let members = vec![MemberIdentity { member_id: b.clone(), ..Default::default() }];
    let request = LeaveGroupRequest { group_id: GROUP.into(), members, ..Default::default() };
    let left = ask!(rig, two, 5, LeaveGroup(request));
    assert_eq!((left.error_code, left.members[0].error_code), (0, 0));
    assert_eq!(beat(&mut rig, one, 2, &a), ErrorCode::REBALANCE_IN_PROGRESS);
    let request = LeaveGroupRequest { group_id: GROUP.into(), member_id: b, ..Default::default() };
    assert_eq!(ask!(rig, two, 1, LeaveGroup(request)).error_code, ErrorCode::UNKNOWN_MEMBER_ID.0);
}

#[test]
fn a_member_that_falls_silent_is_not_waited_for_and_one_that_beats_stays() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    let a = first(&mut rig, conn);
    for _ in 0..4 {
        rig.advance(5_000);
        assert_eq!(beat(&mut rig, conn, 1, &a), ErrorCode::NONE, "heartbeats are heard");
    }
    rig.advance(25_000);
    assert_eq!(beat(&mut rig, conn, 1, &a), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn nothing_waits_for_a_client_that_has_gone() {
    let mut rig = Rig::new();
    let (one, two) = (rig.connect(PLAIN), rig.connect(PLAIN));
    first(&mut rig, one);
    let b = new_member(&mut rig, two);
    rig.send(two, 9, &Request::JoinGroup(join(&b)));
    assert_eq!(rig.waiting(), 1);
    rig.disconnect(two);
    assert_eq!(rig.waiting(), 0);
}

#[test]
fn who_waits_asks_when_events_may_have_been_missed() {
    let mut rig = Rig::new();
    let (one, two) = (rig.connect(PLAIN), rig.connect(PLAIN));
    first(&mut rig, one);
    let b = new_member(&mut rig, two);
    rig.send(two, 9, &Request::JoinGroup(join(&b)));
    rig.restored(COORDINATOR);
    assert!(rig.receive(two).is_none(), "the rebalance goes on");
    rig.deaf = true;
    rig.advance(11_000);
    assert!(rig.receive(two).is_none(), "the event did not come");
    rig.deaf = false;
    rig.restored(COORDINATOR);
    assert_eq!(take!(rig, two, JoinGroup).generation_id, 2);
}

#[test]
fn a_static_member_keeps_its_place() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    let entry = JoinGroupRequest { group_instance_id: Some("i".into()), ..join("") };
    let old = ask!(rig, conn, 9, JoinGroup(entry.clone()));
    assert_eq!((old.error_code, old.generation_id), (0, 1));
    assert!(old.member_id.starts_with("i-"));
    let assigned = SyncGroupRequest {
        group_instance_id: Some("i".into()),
        ..sync(1, &old.member_id, &[(&old.member_id, "mine")])
    };
    assert_eq!(ask!(rig, conn, 5, SyncGroup(assigned)).error_code, 0);
    let new = ask!(rig, conn, 9, JoinGroup(entry));
    assert_eq!((new.error_code, new.generation_id), (0, 1), "no rebalance");
    assert_ne!(new.member_id, old.member_id);
    let request = HeartbeatRequest {
        group_id: GROUP.into(),
        generation_id: 1,
        member_id: old.member_id,
        group_instance_id: Some("i".into()),
    };
    assert_eq!(ask!(rig, conn, 4, Heartbeat(request)).error_code, ErrorCode::FENCED_INSTANCE_ID.0);
}

#[test]
fn joins_that_cannot_be_are_refused() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    let nameless = JoinGroupRequest { group_id: String::new(), ..join("") };
    let refused = ask!(rig, conn, 5, JoinGroup(nameless));
    assert_eq!((refused.error_code, refused.generation_id), (ErrorCode::INVALID_GROUP_ID.0, -1));
    let hasty = JoinGroupRequest { session_timeout_ms: 1, ..join("") };
    assert_eq!(ask!(rig, conn, 5, JoinGroup(hasty)).error_code, ErrorCode::INVALID_SESSION_TIMEOUT.0);
    let stranger = ask!(rig, conn, 9, JoinGroup(join("stranger")));
    assert_eq!((stranger.error_code, stranger.member_id.as_str()), (ErrorCode::UNKNOWN_MEMBER_ID.0, "stranger"));
    let old = ask!(rig, conn, 3, JoinGroup(join("")));
    assert_eq!((old.error_code, old.generation_id), (0, 1), "old clients are members at once");
    let unnamed = SyncGroupRequest { protocol_name: None, ..sync(1, &old.member_id, &[]) };
    assert_eq!(ask!(rig, conn, 5, SyncGroup(unnamed)).error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL.0);
}

#[test]
fn who_does_not_lead_the_coordinator_sends_clients_away() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    let a = first(&mut rig, conn);
    rig.depose(COORDINATOR);
    assert_eq!(beat(&mut rig, conn, 1, &a), ErrorCode::NOT_COORDINATOR);
    assert_eq!(ask!(rig, conn, 9, JoinGroup(join(&a))).error_code, ErrorCode::NOT_COORDINATOR.0);
    let listed = ask!(rig, conn, 5, ListGroups(ListGroupsRequest::default()));
    assert_eq!((listed.error_code, listed.groups.len()), (0, 0));
    rig.elect(COORDINATOR);
    assert_eq!(beat(&mut rig, conn, 1, &a), ErrorCode::NONE);
}

#[test]
fn groups_are_described_listed_and_deleted() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    let a = first(&mut rig, conn);
    let request = DescribeGroupsRequest { groups: vec![GROUP.into(), "nobody".into()], ..Default::default() };
    let found = ask!(rig, conn, 6, DescribeGroups(request.clone())).groups;
    assert_eq!((found[0].group_state.as_str(), found[0].protocol_data.as_str()), ("Stable", "range"));
    assert_eq!((found[0].members[0].member_id.as_str(), found[0].members[0].client_host.as_str()), (&*a, "/127.0.0.1"));
    assert_eq!((found[1].group_state.as_str(), found[1].error_code), ("Dead", ErrorCode::GROUP_ID_NOT_FOUND.0));
    assert_eq!(ask!(rig, conn, 5, DescribeGroups(request)).groups[1].error_code, 0);
    let wanted = ListGroupsRequest { states_filter: vec!["stable".into()], ..Default::default() };
    let listed = ask!(rig, conn, 5, ListGroups(wanted)).groups;
    assert_eq!((listed[0].group_id.as_str(), listed[0].group_type.as_str()), (GROUP, "classic"));
    let deletion = DeleteGroupsRequest { groups_names: vec![GROUP.into(), "nobody".into()] };
    let deleted = ask!(rig, conn, 2, DeleteGroups(deletion)).results;
    let errors: Vec<i16> = deleted.iter().map(|one| one.error_code).collect();
    assert_eq!(errors, [ErrorCode::NON_EMPTY_GROUP.0, ErrorCode::GROUP_ID_NOT_FOUND.0]);
}

fn consumer(member_epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest { group_id: GROUP.into(), member_id: "m".into(), member_epoch, ..Default::default() }
}

fn entering(names: Option<&str>, regex: Option<&str>) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: 30_000,
        subscribed_topic_names: names.map(|name| vec![name.to_owned()]),
        subscribed_topic_regex: regex.map(str::to_owned),
        topic_partitions: Some(Vec::new()),
        ..consumer(0)
    }
}

fn assigned(response: &ConsumerGroupHeartbeatResponse) -> Vec<(Uuid, Vec<i32>)> {
    let topics = response.assignment.iter().flat_map(|assignment| &assignment.topic_partitions);
    topics.map(|topic| (topic.topic_id, topic.partitions.clone())).collect()
}

#[test]
fn a_member_of_a_consumer_group_gets_its_assignment() {
    let mut rig = Rig::new();
    let orders = rig.create_topic("orders", 2);
    let conn = rig.connect(PLAIN);
    let heard = ask!(rig, conn, 1, ConsumerGroupHeartbeat(entering(Some("orders"), None)));
    assert_eq!((heard.error_code, heard.member_epoch, heard.member_id.as_deref()), (0, 1, Some("m")));
    assert_eq!(assigned(&heard), [(orders, vec![0, 1])]);
    let again = ask!(rig, conn, 1, ConsumerGroupHeartbeat(consumer(1)));
    assert_eq!((again.error_code, again.member_epoch, again.assignment), (0, 1, None));

    let request = ConsumerGroupDescribeRequest { group_ids: vec![GROUP.into()], ..Default::default() };
    let group = ask!(rig, conn, 1, ConsumerGroupDescribe(request)).groups.remove(0);
    assert_eq!((group.error_code, group.group_state.as_str(), group.group_epoch), (0, "Stable", 1));
    assert_eq!(group.members[0].assignment.topic_partitions[0].topic_name, "orders");
    let stale = ask!(rig, conn, 1, ConsumerGroupHeartbeat(consumer(7)));
    assert_eq!(stale.error_code, ErrorCode::FENCED_MEMBER_EPOCH.0);
    assert_eq!(ask!(rig, conn, 1, ConsumerGroupHeartbeat(consumer(-1))).member_epoch, -1);
    assert_eq!(ask!(rig, conn, 1, ConsumerGroupHeartbeat(consumer(1))).error_code, ErrorCode::UNKNOWN_MEMBER_ID.0);
}

#[test]
fn a_pattern_follows_the_topics() {
    let mut rig = Rig::new();
    let conn = rig.connect(PLAIN);
    let eu = rig.create_topic("orders.eu", 1);
    rig.create_topic("payments", 1);
    let bad = ask!(rig, conn, 1, ConsumerGroupHeartbeat(entering(None, Some("orders("))));
    assert_eq!(bad.error_code, ErrorCode::INVALID_REGULAR_EXPRESSION.0);
    let heard = ask!(rig, conn, 1, ConsumerGroupHeartbeat(entering(None, Some("orders.*"))));
    assert_eq!(assigned(&heard), [(eu, vec![0])]);
    let us = rig.create_topic("orders.us", 1);
    let heard = ask!(rig, conn, 1, ConsumerGroupHeartbeat(consumer(1)));
    assert_eq!(assigned(&heard), [(eu, vec![0]), (us, vec![0])]);
}

#[test]
fn old_clients_of_consumer_groups_are_given_an_id() {
    let mut rig = Rig::new();
    rig.create_topic("orders", 1);
    let conn = rig.connect(PLAIN);
    let nameless = |names| ConsumerGroupHeartbeatRequest { member_id: String::new(), ..entering(names, None) };
    let heard = ask!(rig, conn, 0, ConsumerGroupHeartbeat(nameless(Some("orders"))));
    assert_eq!((heard.error_code, heard.member_id.map(|id| id.len())), (0, Some(22)));
    let refused = ask!(rig, conn, 1, ConsumerGroupHeartbeat(nameless(Some("orders"))));
    assert_eq!(refused.error_code, ErrorCode::INVALID_REQUEST.0);
}
