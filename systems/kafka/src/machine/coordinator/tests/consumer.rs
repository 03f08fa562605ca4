//! Consumer groups (KIP-848).

use std::collections::{BTreeMap, BTreeSet};

use super::rig::*;
use crate::machine::coordinator::*;
use crate::wire::{ErrorCode, Uuid};

const TOPIC: Uuid = Uuid([7; 16]);

fn beat(id: &str, epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group_id: GROUP.into(),
        member_id: id.into(),
        member_epoch: epoch,
        instance_id: None,
        rack_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: -1,
        subscribed_names: None,
        subscribed_regex: None,
        resolved: None,
        assignor: None,
        owned: None,
        metadata_version: 1,
        topics: Vec::new(),
    }
}

fn enter(id: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        rebalance_timeout_ms: 30_000,
        subscribed_names: Some(vec!["t".into()]),
        owned: Some(Vec::new()),
        topics: topics(4),
        ..beat(id, 0)
    }
}

fn topics(partitions: i32) -> Vec<TopicInfo> {
    vec![TopicInfo { name: "t".into(), id: TOPIC, partitions }]
}

fn owns(partitions: &[i32]) -> Option<Vec<IdPartitions>> {
    Some(vec![IdPartitions { topic_id: TOPIC, partitions: partitions.to_vec() }])
}

impl Rig {
    fn hear(&mut self, request: ConsumerHeartbeat) -> ConsumerReply {
        match self.run(Command::ConsumerHeartbeat { request }) {
            Reply::Consumer { reply } => reply,
            other => panic!("{other:?}"),
        }
    }

    /// Epoch and partitions, or the error.
    fn told(&mut self, request: ConsumerHeartbeat) -> Result<(i32, Option<Vec<i32>>), ErrorCode> {
        let reply = self.hear(request);
        if !reply.error.is_none() {
            return Err(reply.error);
        }
        let all = |topics: Vec<IdPartitions>| topics.into_iter().flat_map(|topic| topic.partitions).collect();
        Ok((reply.member_epoch, reply.assignment.map(all)))
    }

    fn consumer(&mut self) -> ConsumerRow {
        match self.ask(Query::DescribeConsumerGroups { group_ids: vec![GROUP.into()] }) {
            Answer::ConsumerGroups { mut groups } => groups.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn is_unchanged(&mut self, request: ConsumerHeartbeat) -> bool {
        match self.ask(Query::ConsumerHeartbeat { request: Box::new(request.clone()) }) {
            Answer::Unchanged { reply } => {
                let before = self.state_of_groups();
                assert_eq!(self.hear(request), reply, "the order says the same");
                assert_eq!(self.state_of_groups(), before);
                true
            }
            Answer::NeedsCommand { .. } => false,
            other => panic!("{other:?}"),
        }
    }

    fn state_of_groups(&mut self) -> ConsumerRow {
        self.consumer()
    }
}

/// `a` has 0 and 1, `b` has 2 and 3, both in epoch 2.
fn pair() -> Rig {
    let mut rig = Rig::new();
    assert_eq!(rig.told(enter("a")), Ok((1, Some(vec![0, 1, 2, 3]))));
    assert_eq!(rig.told(enter("b")), Ok((2, Some(vec![]))), "nothing is free yet");
    assert_eq!(rig.told(ConsumerHeartbeat { owned: owns(&[0, 1, 2, 3]), ..beat("a", 1) }), Ok((1, Some(vec![0, 1]))));
    assert_eq!(rig.consumer().state, "Reconciling");
    assert_eq!(rig.told(beat("b", 2)), Ok((2, None)), "a has not given anything up");
    assert_eq!(rig.told(ConsumerHeartbeat { owned: owns(&[0, 1]), ..beat("a", 1) }), Ok((2, None)));
    assert_eq!(rig.told(beat("b", 2)), Ok((2, Some(vec![2, 3]))));
    assert_eq!(rig.consumer().state, "Stable");
    rig
}

#[test]
fn partitions_are_given_up_before_another_gets_them() {
    let mut rig = pair();
    let row = rig.consumer();
    assert_eq!((row.epoch, row.assignment_epoch, row.assignor.as_str()), (2, 2, "uniform"));
    assert_eq!(row.members[0].assignment, row.members[0].target);
    assert_eq!(row.members[1].assignment[0].topic, "t");
    assert_eq!(rig.told(ConsumerHeartbeat { member_epoch: -1, ..beat("b", 2) }), Ok((-1, None)));
    assert_eq!(rig.told(beat("a", 2)), Ok((3, Some(vec![0, 1, 2, 3]))));
}

#[test]
fn a_heartbeat_that_changes_nothing_needs_no_command() {
    let mut rig = pair();
    assert!(rig.is_unchanged(beat("a", 2)));
    assert!(rig.is_unchanged(ConsumerHeartbeat { owned: owns(&[0, 1]), ..beat("a", 2) }));
    let full = ConsumerHeartbeat { member_epoch: 2, owned: owns(&[0, 1]), ..enter("a") };
    assert!(rig.is_unchanged(full), "all is said and all is told");
    assert!(!rig.is_unchanged(enter("c")));
    assert!(!rig.is_unchanged(beat("a", 1)));
    assert!(!rig.is_unchanged(beat("x", 1)));
    let other = ConsumerHeartbeat { subscribed_names: Some(vec!["u".into()]), ..beat("a", 2) };
    assert!(!rig.is_unchanged(other));
    let later = ConsumerHeartbeat { metadata_version: 2, ..beat("a", 2) };
    let answer = rig.ask(Query::ConsumerHeartbeat { request: Box::new(later) });
    assert_eq!(answer, Answer::NeedsCommand { topics: vec!["t".into()], regex: None });
    rig.hear(enter("c"));
    assert!(!rig.is_unchanged(beat("a", 2)), "it has something to give up");
}

#[test]
fn who_waits_for_others_needs_no_command_until_they_gave_up() {
    let mut rig = Rig::new();
    rig.told(enter("a")).unwrap();
    rig.told(enter("b")).unwrap();
    assert!(rig.is_unchanged(beat("b", 2)));
    rig.told(beat("a", 1)).unwrap();
    assert!(rig.is_unchanged(ConsumerHeartbeat { owned: owns(&[0, 1, 2, 3]), ..beat("a", 1) }));
    assert!(!rig.is_unchanged(ConsumerHeartbeat { owned: owns(&[0, 1]), ..beat("a", 1) }));
    rig.told(ConsumerHeartbeat { owned: owns(&[0, 1]), ..beat("a", 1) }).unwrap();
    assert!(!rig.is_unchanged(beat("b", 2)));
}

#[test]
fn epochs_fence() {
    let mut rig = pair();
    assert_eq!(rig.told(beat("a", 3)), Err(ErrorCode::FENCED_MEMBER_EPOCH));
    assert_eq!(rig.told(beat("x", 2)), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(
        rig.told(ConsumerHeartbeat { owned: owns(&[0]), ..beat("a", 1) }),
        Ok((2, None)),
        "it has missed the answer"
    );
    assert_eq!(rig.told(ConsumerHeartbeat { owned: owns(&[3]), ..beat("a", 1) }), Err(ErrorCode::FENCED_MEMBER_EPOCH));
    assert_eq!(rig.told(beat("a", 1)), Err(ErrorCode::FENCED_MEMBER_EPOCH));
    let other = ConsumerHeartbeat { group_id: "none".into(), ..beat("a", 1) };
    assert_eq!(rig.told(other), Err(ErrorCode::GROUP_ID_NOT_FOUND));
}

#[test]
fn a_join_whose_answer_is_lost_comes_again() {
    let mut rig = Rig::new();
    let first = rig.told(enter("a"));
    assert_eq!(rig.told(enter("a")), first);
    assert_eq!(rig.consumer().epoch, 1);
}

#[test]
fn who_does_not_give_up_in_time_is_out() {
    let mut rig = Rig::new();
    rig.told(enter("a")).unwrap();
    rig.told(enter("b")).unwrap();
    rig.told(beat("a", 1)).unwrap();
    rig.pass(29_999);
    assert_eq!(rig.consumer().members.len(), 2);
    rig.pass(1);
    assert_eq!(rig.told(beat("b", 2)), Ok((3, Some(vec![0, 1, 2, 3]))));
    assert_eq!(rig.told(beat("a", 1)), Err(ErrorCode::UNKNOWN_MEMBER_ID));
}

#[test]
fn silence_expires_a_member() {
    let mut rig = pair();
    assert_eq!(rig.expire("a"), ErrorCode::UNKNOWN_MEMBER_ID);
    rig.time += 45_000;
    assert_eq!(rig.expire("a"), ErrorCode::NONE);
    assert_eq!(rig.consumer().state, "Assigning");
    assert_eq!(rig.told(beat("b", 2)), Ok((3, Some(vec![0, 1, 2, 3]))));
}

#[test]
fn changes_of_topics_make_a_new_target() {
    let mut rig = pair();
    let grown = ConsumerHeartbeat { metadata_version: 2, topics: topics(6), ..beat("a", 2) };
    assert_eq!(rig.told(grown.clone()), Ok((3, Some(vec![0, 1, 4]))));
    assert_eq!(
        rig.told(ConsumerHeartbeat { metadata_version: 1, topics: topics(4), ..beat("b", 2) }),
        Ok((3, Some(vec![2, 3, 5])))
    );
    assert_eq!(rig.consumer().epoch, 3, "an old version says nothing");
    rig.run(Command::TopicsDeleted { topics: vec![("t".into(), TOPIC)] });
    assert_eq!(
        rig.told(ConsumerHeartbeat { owned: owns(&[]), metadata_version: 3, ..beat("a", 3) }),
        Ok((4, Some(vec![])))
    );
}

#[test]
fn patterns_are_resolved_by_the_proposer() {
    let mut rig = Rig::new();
    let request = ConsumerHeartbeat {
        subscribed_names: None,
        subscribed_regex: Some("t.*".into()),
        resolved: Some(vec!["t".into()]),
        ..enter("a")
    };
    assert_eq!(rig.told(request), Ok((1, Some(vec![0, 1, 2, 3]))));
    assert!(rig.is_unchanged(beat("a", 1)));
    let later = ConsumerHeartbeat { metadata_version: 2, ..beat("a", 1) };
    let answer = rig.ask(Query::ConsumerHeartbeat { request: Box::new(later.clone()) });
    assert_eq!(answer, Answer::NeedsCommand { topics: vec!["t".into()], regex: Some("t.*".into()) });
    let more = TopicInfo { name: "tt".into(), id: Uuid([8; 16]), partitions: 1 };
    let resolved = Some(vec!["t".into(), "tt".into()]);
    let reply = rig.hear(ConsumerHeartbeat { resolved, topics: [topics(4), vec![more]].concat(), ..later });
    assert_eq!((reply.member_epoch, reply.assignment.unwrap().len()), (2, 2));
}

/// Two members wait for topics that a pattern matches: both have their share at once, whoever hears of a new topic first.
#[test]
fn a_pattern_is_resolved_for_all_who_have_it() {
    let mut rig = Rig::new();
    let entering = |id| ConsumerHeartbeat {
        subscribed_names: None,
        subscribed_regex: Some("t.*".into()),
        resolved: Some(vec![]),
        topics: vec![],
        ..enter(id)
    };
    assert_eq!(rig.told(entering("a")), Ok((1, Some(vec![]))));
    assert_eq!(rig.told(entering("b")), Ok((2, Some(vec![]))));
    let seen = |id, epoch| ConsumerHeartbeat {
        owned: owns(&[]),
        resolved: Some(vec!["t".into()]),
        topics: topics(4),
        metadata_version: 2,
        ..beat(id, epoch)
    };
    assert_eq!(rig.told(seen("b", 2)), Ok((3, Some(vec![1, 3]))));
    assert_eq!(rig.told(seen("a", 1)), Ok((3, Some(vec![0, 2]))), "nothing had to be given up for it");
}

#[test]
fn who_joins_need_not_say_that_it_owns_nothing() {
    let mut rig = Rig::new();
    assert_eq!(rig.told(ConsumerHeartbeat { owned: None, ..enter("a") }), Ok((1, Some(vec![0, 1, 2, 3]))));
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let mut rig = Rig::new();
    let odd = [
        ConsumerHeartbeat { group_id: String::new(), ..enter("a") },
        ConsumerHeartbeat { member_id: String::new(), ..enter("a") },
        ConsumerHeartbeat { subscribed_names: Some(vec!["x".repeat(32_000); 300]), ..enter("a") },
        ConsumerHeartbeat { owned: owns(&[0]), ..enter("a") },
        ConsumerHeartbeat { rebalance_timeout_ms: -1, ..enter("a") },
        ConsumerHeartbeat { subscribed_names: None, ..enter("a") },
        ConsumerHeartbeat { instance_id: Some(String::new()), ..enter("a") },
        beat("a", -3),
        beat("a", -2),
    ];
    for request in odd {
        assert_eq!(rig.told(request.clone()), Err(ErrorCode::INVALID_REQUEST), "{request:?}");
    }
    let odd = ConsumerHeartbeat { assignor: Some("odd".into()), ..enter("a") };
    assert_eq!(rig.told(odd), Err(ErrorCode::UNSUPPORTED_ASSIGNOR));
    assert_eq!(rig.consumer().error, ErrorCode::GROUP_ID_NOT_FOUND);
    let mut rig = Rig::with(CoordinatorConfig { consumer_group_size_max: 1, ..CoordinatorConfig::default() });
    rig.told(enter("a")).unwrap();
    assert_eq!(rig.told(enter("b")), Err(ErrorCode::GROUP_MAX_SIZE_REACHED));
}

#[test]
fn a_static_member_that_is_away_keeps_its_place() {
    let mut rig = Rig::new();
    let at = |request| ConsumerHeartbeat { instance_id: Some("i".into()), ..request };
    rig.told(at(enter("a"))).unwrap();
    assert_eq!(rig.told(at(enter("a2"))), Err(ErrorCode::UNRELEASED_INSTANCE_ID));
    assert_eq!(rig.told(at(beat("a2", 1))), Err(ErrorCode::FENCED_INSTANCE_ID));
    assert_eq!(rig.told(beat("a", 1)), Ok((1, None)), "it need not say its name again");
    assert!(rig.is_unchanged(beat("a", 1)) && rig.is_unchanged(at(beat("a", 1))));
    assert_eq!(rig.told(at(beat("a", -2))), Ok((-2, None)));
    assert_eq!(rig.told(enter("b")), Ok((2, Some(vec![]))));
    assert_eq!(rig.told(at(enter("a2"))), Ok((2, Some(vec![0, 1]))), "it owns nothing, so it gives all up");
    assert_eq!(rig.told(beat("b", 2)), Ok((2, Some(vec![2, 3]))));
    assert_eq!(rig.told(at(beat("a", 1))), Err(ErrorCode::FENCED_INSTANCE_ID));
    assert_eq!(rig.told(at(beat("a2", -2))), Ok((-2, None)));
    assert_eq!(rig.told(at(enter("a3"))), Ok((2, Some(vec![0, 1]))));
    assert_eq!(rig.consumer().epoch, 2, "nobody else notices");
    rig.told(at(beat("a3", -2))).unwrap();
    rig.time += 45_000;
    assert_eq!(rig.expire("a3"), ErrorCode::NONE);
    assert_eq!(rig.told(beat("b", 2)), Ok((3, Some(vec![0, 1, 2, 3]))));
}

#[test]
fn members_commit_and_fetch_in_their_epoch() {
    let mut rig = pair();
    assert_eq!(rig.commit("a", 2, "t", 4), ErrorCode::NONE);
    assert_eq!(rig.commit("a", 1, "t", 5), ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(rig.commit("x", 2, "t", 5), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(rig.commit("", -1, "t", 5), ErrorCode::UNKNOWN_MEMBER_ID);
    let old = CommitOffsets { knows_epochs: false, ..commit("a", 2, "t", 5) };
    assert_eq!(first_error(&rig.run(Command::CommitOffsets { request: old })), ErrorCode::UNSUPPORTED_VERSION);
    let fetch = |member_id: &str, member_epoch| Query::FetchOffsets {
        group_id: GROUP.into(),
        member_id: member_id.into(),
        member_epoch,
        topics: None,
        stable: true,
    };
    assert!(matches!(rig.ask(fetch("a", 2)), Answer::Offsets { error: ErrorCode::NONE, topics } if topics.len() == 1));
    assert!(matches!(rig.ask(fetch("a", 1)), Answer::Offsets { error: ErrorCode::STALE_MEMBER_EPOCH, .. }));
    assert!(matches!(rig.ask(fetch("x", 1)), Answer::Offsets { error: ErrorCode::UNKNOWN_MEMBER_ID, .. }));
    let delete = vec![TopicPartitions { topic: "t".into(), partitions: vec![0] }];
    let delete = Command::DeleteOffsets { group_id: GROUP.into(), topics: delete };
    assert_eq!(first_error(&rig.run(delete)), ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
}

#[test]
fn a_group_changes_its_kind_while_it_is_empty() {
    let mut rig = pair();
    rig.commit("a", 2, "t", 4);
    assert_eq!(joined(&rig.enter_new("c")).error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    for id in ["a", "b"] {
        rig.told(beat(id, -1)).unwrap();
    }
    assert_eq!((rig.consumer().state.as_str(), rig.describe().error), ("Empty", ErrorCode::GROUP_ID_NOT_FOUND));
    assert_eq!(joined(&rig.enter_new("c")).generation, 1);
    assert_eq!(rig.told(enter("a")), Err(ErrorCode::GROUP_ID_NOT_FOUND));
    rig.leave(vec![name("c")]);
    assert_eq!(rig.told(enter("a")), Ok((1, Some(vec![0, 1, 2, 3]))));
    assert_eq!(rig.offset("t", true).0, 4, "offsets stay");
}

/// Brings every member to its target; says what each has.
fn settle(rig: &mut Rig) -> BTreeMap<String, BTreeSet<(Uuid, i32)>> {
    for _ in 0..6 {
        for row in rig.consumer().members {
            let owned = row
                .assignment
                .iter()
                .map(|topic| IdPartitions { topic_id: topic.topic_id, partitions: topic.partitions.clone() });
            let owned = Some(owned.collect());
            rig.told(ConsumerHeartbeat { owned, ..beat(&row.member_id, row.member_epoch) }).unwrap();
        }
    }
    assert_eq!(rig.consumer().state, "Stable");
    let all = |topics: Vec<NamedPartitions>| {
        topics
            .into_iter()
            .flat_map(|topic| topic.partitions.into_iter().map(move |one| (topic.topic_id, one)))
            .collect()
    };
    rig.consumer().members.into_iter().map(|row| (row.member_id, all(row.assignment))).collect()
}

fn wanting(id: &str, names: &[(&str, u8, i32)], assignor: &str) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        subscribed_names: Some(names.iter().map(|topic| topic.0.to_owned()).collect()),
        topics: names
            .iter()
            .map(|(name, id, partitions)| TopicInfo {
                name: (*name).into(),
                id: Uuid([*id; 16]),
                partitions: *partitions,
            })
            .collect(),
        assignor: Some(assignor.into()),
        ..enter(id)
    }
}

#[test]
fn uniform_is_balanced_and_keeps_what_it_can() {
    let mut rig = Rig::new();
    let topics = [("t", 7, 5), ("u", 8, 6)];
    for id in ["a", "b", "c"] {
        rig.told(wanting(id, &topics, "uniform")).unwrap();
    }
    let before = settle(&mut rig);
    let mut sizes: Vec<usize> = before.values().map(BTreeSet::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [3, 4, 4]);
    rig.told(wanting("d", &topics, "uniform")).unwrap();
    let after = settle(&mut rig);
    assert!(after.values().all(|own| (2..=3).contains(&own.len())));
    for (id, own) in &before {
        assert!(after[id].is_subset(own), "nobody who was there gets anything when somebody comes");
    }
    rig.told(beat("d", -1)).unwrap();
    let again = settle(&mut rig);
    for (id, own) in &again {
        assert!(own.is_superset(&after[id]), "nor loses anything when somebody goes");
    }
}

#[test]
fn uniform_respects_who_wants_what() {
    let mut rig = Rig::new();
    rig.told(wanting("a", &[("t", 7, 4)], "uniform")).unwrap();
    rig.told(wanting("b", &[("t", 7, 4), ("u", 8, 4)], "uniform")).unwrap();
    let all = settle(&mut rig);
    assert_eq!((all["a"].len(), all["b"].len()), (4, 4));
    assert!(all["a"].iter().all(|(topic, _)| *topic == Uuid([7; 16])));
}

#[test]
fn range_splits_topics_alike() {
    let mut rig = Rig::new();
    let topics = [("t", 7, 5), ("u", 8, 5)];
    for id in ["a", "b"] {
        rig.told(wanting(id, &topics, "range")).unwrap();
    }
    let all = settle(&mut rig);
    assert_eq!(rig.consumer().assignor, "range");
    let of = |id: &str, topic: u8| {
        all[id].iter().filter(|one| one.0 == Uuid([topic; 16])).map(|one| one.1).collect::<Vec<_>>()
    };
    assert_eq!((of("a", 7), of("a", 8)), (vec![0, 1, 2], vec![0, 1, 2]));
    assert_eq!((of("b", 7), of("b", 8)), (vec![3, 4], vec![3, 4]));
}
