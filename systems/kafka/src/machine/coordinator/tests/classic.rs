//! Dynamic members of classic groups.

use super::rig::*;
use crate::machine::coordinator::*;
use crate::wire::ErrorCode;

/// A stable group of `a`, which leads, and `b`, in generation 2.
pub(super) fn pair() -> Rig {
    let mut rig = Rig::new();
    assert_eq!(joined(&rig.enter_new("a")).generation, 1);
    let wait = ticket(&rig.enter_new("b"));
    let first = rig.enter("a");
    assert_eq!(joined(&first).generation, 2);
    let [GroupEvent::JoinDone { ticket, member_id, result }] = &rig.groups[..] else { panic!("{:?}", rig.groups) };
    assert_eq!((*ticket, member_id.as_str(), result.generation), (wait, "b", 2));
    assert_eq!((result.leader.as_str(), result.members.len()), ("a", 0));
    assert_eq!(joined(&first).members.len(), 2);
    assert_eq!(synced(&rig.sync("a", 2, &[("a", "A"), ("b", "B")])).assignment, "A");
    assert_eq!(synced(&rig.sync("b", 2, &[])).assignment, "B");
    assert_eq!(rig.describe().state, "Stable");
    rig
}

#[test]
fn a_member_gets_its_id_before_it_joins() {
    let mut rig = Rig::new();
    let reply = rig.join(Join { member_id: String::new(), ..join("a") });
    assert_eq!((joined(&reply).error, joined(&reply).member_id.as_str()), (ErrorCode::MEMBER_ID_REQUIRED, "a"));
    assert_eq!(rig.describe().state, "Empty");
    let reply = rig.enter("a");
    assert_eq!(
        (joined(&reply).error, joined(&reply).generation, joined(&reply).leader.as_str()),
        (ErrorCode::NONE, 1, "a")
    );
    assert_eq!(joined(&reply).members[0].metadata, subscription(&["read"]));
    assert_eq!(joined(&rig.enter("nobody")).error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn an_id_that_nobody_joins_with_is_forgotten() {
    let mut rig = Rig::new();
    rig.join(Join { member_id: String::new(), ..join("a") });
    rig.pass(SESSION_MS as u64 - 1);
    assert_eq!(rig.describe().state, "Empty");
    rig.pass(1);
    assert_eq!(rig.describe().state, "Dead");
    assert_eq!(joined(&rig.enter("a")).error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn pending_ids_hold_a_rebalance_up_until_they_expire() {
    let mut rig = pair();
    rig.join(Join { member_id: String::new(), ..join("c") });
    ticket(&rig.enter("a"));
    let b = ticket(&rig.join(Join { protocols: vec![protocol("range"), protocol("x")], ..join("b") }));
    rig.pass(SESSION_MS as u64);
    assert_eq!(rig.groups.len(), 2);
    assert!(matches!(&rig.groups[1], GroupEvent::JoinDone { ticket, .. } if *ticket == b));
}

#[test]
fn heartbeats_know_generations_and_rebalances() {
    let mut rig = pair();
    assert_eq!(rig.beat("a", 2), ErrorCode::NONE);
    assert_eq!(rig.beat("a", 1), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(rig.beat("x", 2), ErrorCode::UNKNOWN_MEMBER_ID);
    ticket(&rig.enter_new("c"));
    assert_eq!(rig.beat("a", 2), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(synced(&rig.sync("a", 2, &[])).error, ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn followers_wait_for_the_leaders_assignment() {
    let mut rig = pair();
    ticket(&rig.enter("a"));
    assert_eq!(joined(&rig.enter("b")).generation, 3);
    let wait = ticket(&rig.sync("b", 3, &[("b", "not its to say")]));
    assert_eq!(synced(&rig.sync("b", 2, &[])).error, ErrorCode::ILLEGAL_GENERATION);
    let query = |ticket| Query::Waiting { group_id: GROUP.into(), member_id: "b".into(), ticket, sync: true };
    assert_eq!(rig.ask(query(wait)), Answer::StillWaiting);
    assert_eq!(synced(&rig.sync("a", 3, &[("b", "B3")])).assignment, "", "who is given nothing gets nothing");
    let [GroupEvent::SyncDone { ticket, result, .. }] = &rig.groups[..] else { panic!("{:?}", rig.groups) };
    assert_eq!((*ticket, &result.assignment[..]), (wait, &b"B3"[..]));
    assert!(matches!(rig.ask(query(wait)), Answer::Synced { result } if result.assignment == "B3"));
}

#[test]
fn a_join_while_the_leader_assigns_sends_the_followers_back() {
    let mut rig = pair();
    ticket(&rig.enter("a"));
    rig.enter("b");
    let wait = ticket(&rig.sync("b", 3, &[]));
    ticket(&rig.enter_new("c"));
    let [GroupEvent::SyncDone { ticket, result, .. }] = &rig.groups[..] else { panic!("{:?}", rig.groups) };
    assert_eq!((*ticket, result.error), (wait, ErrorCode::REBALANCE_IN_PROGRESS));
}

#[test]
fn a_lost_answer_to_a_join_is_given_again() {
    let mut rig = pair();
    assert_eq!(joined(&rig.enter("b")).generation, 2, "a follower that changes nothing goes on");
    ticket(&rig.enter("a"));
    assert_eq!(joined(&rig.enter("b")).generation, 3);
    let again = rig.enter("a");
    assert_eq!((joined(&again).generation, joined(&again).members.len()), (3, 2));
    let again = rig.enter("b");
    assert_eq!((joined(&again).generation, joined(&again).members.len()), (3, 0));
}

#[test]
fn who_does_not_join_in_time_is_out() {
    let mut rig = pair();
    let wait = ticket(&rig.enter_new("c"));
    let other = ticket(&rig.enter("b"));
    rig.pass(REBALANCE_MS as u64 - 1);
    assert!(rig.groups.is_empty());
    rig.pass(1);
    let tickets: Vec<u64> = rig
        .groups
        .iter()
        .map(|event| match event {
            GroupEvent::JoinDone { ticket, result, .. } => {
                assert_eq!((result.generation, result.leader.as_str()), (3, "b"), "the leader was out");
                *ticket
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tickets, [other, wait]);
    assert_eq!(joined(&rig.enter("a")).error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn who_does_not_sync_in_time_is_out() {
    let mut rig = pair();
    ticket(&rig.enter("a"));
    rig.enter("b");
    rig.sync("a", 3, &[]);
    rig.pass(REBALANCE_MS as u64);
    assert_eq!(rig.describe().members.len(), 1);
    assert_eq!(
        (rig.describe().state.as_str(), rig.beat("a", 3)),
        ("PreparingRebalance", ErrorCode::REBALANCE_IN_PROGRESS)
    );
}

#[test]
fn silence_expires_a_member_but_not_one_that_waits() {
    let mut rig = pair();
    assert_eq!(rig.expire("b"), ErrorCode::UNKNOWN_MEMBER_ID, "it was just heard of");
    rig.time += SESSION_MS as u64;
    rig.beat("a", 2);
    let wait = ticket(&rig.enter_new("c"));
    assert_eq!(rig.expire("b"), ErrorCode::NONE);
    rig.time += SESSION_MS as u64;
    assert_eq!(rig.expire("c"), ErrorCode::UNKNOWN_MEMBER_ID, "it waits");
    assert_eq!(rig.expire("a"), ErrorCode::NONE);
    let [GroupEvent::JoinDone { ticket, result, .. }] = &rig.groups[..] else { panic!("{:?}", rig.groups) };
    assert_eq!((*ticket, result.generation, result.leader.as_str()), (wait, 3, "c"));
}

#[test]
fn the_last_to_leave_leaves_an_empty_group_with_its_offsets() {
    let mut rig = pair();
    assert_eq!(rig.commit("a", 2, "read", 5), ErrorCode::NONE);
    assert_eq!(rig.leave(vec![name("a"), name("x")]), [ErrorCode::NONE, ErrorCode::UNKNOWN_MEMBER_ID]);
    assert_eq!(rig.describe().state, "PreparingRebalance");
    let busy = rig.run(Command::DeleteGroups { group_ids: vec![GROUP.into(), "none".into()] });
    let expected = vec![(GROUP.into(), ErrorCode::NON_EMPTY_GROUP), ("none".into(), ErrorCode::GROUP_ID_NOT_FOUND)];
    assert_eq!(busy, Reply::DeleteGroups { groups: expected });
    rig.leave(vec![name("b")]);
    assert_eq!(rig.describe().state, "Empty");
    assert_eq!(rig.offset("read", true), (5, ErrorCode::NONE));
    rig.run(Command::DeleteGroups { group_ids: vec![GROUP.into()] });
    assert_eq!((rig.describe().state.as_str(), rig.offset("read", true).0), ("Dead", -1));
}

#[test]
fn the_protocol_is_one_that_all_know_and_most_prefer() {
    let mut rig = Rig::new();
    let offer = |names: &[&str]| names.iter().map(|name| protocol(name)).collect::<Vec<_>>();
    rig.join(Join {
        member_id: String::new(),
        member_id_required: false,
        protocols: offer(&["x", "y", "z"]),
        ..join("a")
    });
    for (id, names) in [("b", ["z", "y"]), ("c", ["y", "z"])] {
        ticket(&rig.join(Join {
            member_id: String::new(),
            member_id_required: false,
            protocols: offer(&names),
            ..join(id)
        }));
    }
    let reply = rig.join(Join { protocols: offer(&["x", "y", "z"]), ..join("a") });
    assert_eq!(joined(&reply).protocol.as_deref(), Some("y"));
    let odd = Join { member_id: String::new(), protocols: offer(&["x"]), ..join("d") };
    assert_eq!(joined(&rig.join(odd)).error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let odd = Join { member_id: String::new(), protocol_type: "connect".into(), ..join("d") };
    assert_eq!(joined(&rig.join(odd)).error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
}

#[test]
fn limits_hold() {
    let mut rig = Rig::with(CoordinatorConfig { group_size_max: 1, ..CoordinatorConfig::default() });
    rig.enter_new("a");
    rig.sync("a", 1, &[]);
    assert_eq!(joined(&rig.enter_new("b")).error, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(joined(&rig.enter("a")).generation, 2);
    for session_timeout_ms in [5_999, 1_800_001, -1] {
        let reply = rig.join(Join { session_timeout_ms, ..join("a") });
        assert_eq!(joined(&reply).error, ErrorCode::INVALID_SESSION_TIMEOUT);
    }
    assert_eq!(joined(&rig.join(Join { group_id: String::new(), ..join("a") })).error, ErrorCode::INVALID_GROUP_ID);
}

#[test]
fn a_member_says_so_much_and_no_more() {
    let mut rig = Rig::new();
    let large = |size| Protocol { name: "range".into(), metadata: vec![0; size].into() };
    let enter =
        |size| Join { member_id: String::new(), member_id_required: false, protocols: vec![large(size)], ..join("a") };
    assert_eq!(joined(&rig.join(enter(MEMBER_SIZE_MAX))).error, ErrorCode::INVALID_REQUEST);
    assert_eq!(joined(&rig.join(enter(MEMBER_SIZE_MAX - 5))).generation, 1);
    let assignments = vec![("a".to_owned(), vec![0; MEMBER_SIZE_MAX + 1].into())];
    let (group_id, member) = (GROUP.into(), name("a"));
    let request = Sync { group_id, generation: 1, member, protocol_type: None, protocol: None, assignments };
    assert_eq!(synced(&rig.run(Command::Sync { request })).error, ErrorCode::INVALID_REQUEST);
}

#[test]
fn a_session_that_has_missed_events_asks_what_became_of_a_join() {
    let mut rig = pair();
    let wait = ticket(&rig.enter_new("c"));
    let query = || Query::Waiting { group_id: GROUP.into(), member_id: "c".into(), ticket: wait, sync: false };
    assert_eq!(rig.ask(query()), Answer::StillWaiting);
    ticket(&rig.enter("a"));
    rig.enter("b");
    let [GroupEvent::JoinDone { result: first, .. }, GroupEvent::JoinDone { result, .. }] = &rig.groups[..] else {
        panic!("{:?}", rig.groups)
    };
    assert_eq!((first.leader.as_str(), first.members.len()), ("a", 3));
    let result = result.clone();
    assert_eq!(rig.ask(query()), Answer::Joined { result });
    ticket(&rig.enter_new("d"));
    let again = JoinResult::error(ErrorCode::REBALANCE_IN_PROGRESS, "");
    assert_eq!(rig.ask(query()), Answer::Joined { result: again });
}

#[test]
fn an_empty_group_may_wait_for_more_members() {
    let config = CoordinatorConfig { initial_rebalance_delay_ms: 3_000, ..CoordinatorConfig::default() };
    let mut rig = Rig::with(config);
    ticket(&rig.enter_new("a"));
    rig.time += 2_000;
    ticket(&rig.enter_new("b"));
    rig.pass(1_000);
    assert!(rig.groups.is_empty(), "a member came meanwhile");
    rig.pass(3_000);
    assert_eq!(rig.groups.len(), 2);
}

#[test]
fn lists_are_filtered() {
    let mut rig = pair();
    rig.run(Command::CommitOffsets { request: CommitOffsets { group_id: "simple".into(), ..commit("", -1, "t", 1) } });
    let mut list = |states: &[&str], kinds: &[&str]| {
        let all = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        match rig.ask(Query::ListGroups { states: all(states), kinds: all(kinds) }) {
            Answer::GroupList { groups } => groups.into_iter().map(|row| row.group_id).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&[], &[]), ["g", "simple"]);
    assert_eq!(list(&["stable"], &[]), ["g"]);
    assert_eq!(list(&["Empty", "Dead"], &["Classic"]), ["simple"]);
    assert!(list(&[], &["consumer"]).is_empty());
}
