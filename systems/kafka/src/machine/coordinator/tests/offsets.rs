//! Committed offsets.

use super::classic::pair;
use super::rig::*;
use crate::machine::coordinator::*;
use crate::wire::{ErrorCode, Uuid};

const WEEK_MS: u64 = 7 * 86_400_000;

#[test]
fn members_commit_in_their_generation() {
    let mut rig = pair();
    assert_eq!(rig.commit("a", 2, "t", 7), ErrorCode::NONE);
    assert_eq!(rig.commit("a", 1, "t", 8), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(rig.commit("x", 2, "t", 8), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(rig.commit("", -1, "t", 8), ErrorCode::UNKNOWN_MEMBER_ID, "the group is not empty");
    ticket(&rig.enter("a"));
    assert_eq!(rig.commit("b", 2, "t", 9), ErrorCode::NONE, "what was read before the rebalance");
    rig.enter("b");
    assert_eq!(rig.commit("b", 3, "t", 10), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(rig.offset("t", true), (9, ErrorCode::NONE));
}

#[test]
fn simple_consumers_need_no_group() {
    let mut rig = Rig::new();
    assert_eq!(rig.commit("", -1, "t", 8), ErrorCode::NONE);
    assert_eq!(rig.commit("", 4, "t", 9), ErrorCode::UNKNOWN_MEMBER_ID);
    let unknown = CommitOffsets { group_id: "none".into(), ..commit("a", 4, "t", 1) };
    assert_eq!(first_error(&rig.run(Command::CommitOffsets { request: unknown })), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(rig.offset("t", true), (8, ErrorCode::NONE));
    assert_eq!(rig.offset("other", true), (-1, ErrorCode::NONE));
    let mut large = commit("", -1, "t", 9);
    large.topics[0].partitions[0].metadata = "x".repeat(4_097);
    assert_eq!(first_error(&rig.run(Command::CommitOffsets { request: large })), ErrorCode::OFFSET_METADATA_TOO_LARGE);
    assert_eq!(rig.offset("t", true), (8, ErrorCode::NONE));
}

#[test]
fn a_survey_comes_in_parts() {
    let mut rig = pair();
    rig.commit("a", 2, "t", 7);
    for id in ["h", "i"] {
        let request = CommitOffsets { group_id: id.into(), ..commit("", -1, "u", 9) };
        rig.run(Command::CommitOffsets { request });
    }
    let mut survey = |after: &str, offsets_max| {
        let Answer::Surveyed { groups } = rig.ask(Query::Survey { after: after.into(), offsets_max }) else { panic!() };
        groups
    };
    let all = survey("", 100);
    assert_eq!(all.iter().map(|row| row.group_id.as_str()).collect::<Vec<_>>(), [GROUP, "h", "i"]);
    assert_eq!((all[0].state.as_str(), all[0].members), ("Stable", 2));
    assert_eq!(all[0].offsets, [("t".to_owned(), vec![(0, 7)])]);
    assert_eq!((all[1].state.as_str(), all[1].members), ("Empty", 0));
    assert_eq!(survey("", 1), all[..1]);
    assert_eq!(survey(GROUP, 2), all[1..]);
    assert_eq!(survey("i", 100), []);
}

#[test]
fn an_offset_is_not_given_to_another_topic_of_the_name() {
    let mut rig = Rig::new();
    let mut request = commit("", -1, "t", 8);
    request.topics[0].topic_id = Uuid([1; 16]);
    rig.run(Command::CommitOffsets { request });
    assert_eq!(rig.offset_of("t", Uuid([1; 16]), true).0, 8);
    assert_eq!(rig.offset_of("t", Uuid::ZERO, true).0, 8);
    assert_eq!(rig.offset_of("t", Uuid([2; 16]), true).0, -1);
    rig.run(Command::TopicsDeleted { topics: vec![("t".into(), Uuid([2; 16]))] });
    assert_eq!(rig.offset("t", true).0, 8, "another topic was deleted");
    rig.run(Command::TopicsDeleted { topics: vec![("t".into(), Uuid([1; 16]))] });
    assert_eq!(rig.offset("t", true).0, -1);
}

#[test]
fn offsets_of_topics_that_are_read_are_not_deleted() {
    let mut rig = pair();
    rig.commit("a", 2, "read", 1);
    rig.commit("a", 2, "old", 1);
    let topics = ["read", "old"].map(|topic| TopicPartitions { topic: topic.into(), partitions: vec![0] });
    let delete = Command::DeleteOffsets { group_id: GROUP.into(), topics: topics.into() };
    let Reply::Topics { topics, .. } = rig.run(delete) else { panic!("an answer for topics") };
    assert_eq!(topics[0].partitions, [(0, ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC)]);
    assert_eq!(topics[1].partitions, [(0, ErrorCode::NONE)]);
    assert_eq!((rig.offset("read", true).0, rig.offset("old", true).0), (1, -1));
    let none = Command::DeleteOffsets { group_id: "none".into(), topics: Vec::new() };
    assert_eq!(first_error(&rig.run(none)), ErrorCode::GROUP_ID_NOT_FOUND);
}

#[test]
fn retention_counts_from_when_the_group_became_empty() {
    let mut rig = pair();
    rig.commit("a", 2, "read", 1);
    rig.commit("a", 2, "old", 1);
    rig.pass(WEEK_MS);
    assert_eq!((rig.offset("read", true).0, rig.offset("old", true).0), (1, -1), "who reads keeps what it reads");
    rig.leave(vec![name("a"), name("b")]);
    rig.pass(WEEK_MS - 1);
    assert_eq!(rig.offset("read", true).0, 1);
    rig.pass(600_000);
    assert_eq!((rig.offset("read", true).0, rig.describe().state.as_str()), (-1, "Dead"));
}

#[test]
fn a_simple_consumers_offsets_age_from_their_commit() {
    let mut rig = Rig::new();
    rig.commit("", -1, "t", 1);
    let brief = CommitOffsets { retention_ms: 5, ..commit("", -1, "brief", 1) };
    rig.run(Command::CommitOffsets { request: brief });
    rig.pass(600_000);
    assert_eq!((rig.offset("t", true).0, rig.offset("brief", true).0), (1, -1));
    rig.pass(WEEK_MS);
    assert_eq!(rig.offset("t", true).0, -1);
}

#[test]
fn a_group_keeps_so_many_offsets_and_no_more() {
    let mut rig = Rig::new();
    let mut request = commit("", -1, "t", 1);
    let row = request.topics[0].partitions[0].clone();
    let rows = (0..).map(|partition| OffsetRow { partition, metadata: String::new(), ..row.clone() });
    request.topics[0].partitions = rows.take(OFFSET_COUNT_MAX + 1).collect();
    let Reply::Topics { topics, .. } = rig.run(Command::CommitOffsets { request }) else {
        panic!("an answer for topics")
    };
    let errors = topics[0].partitions.iter().filter(|row| row.1 == ErrorCode::INVALID_COMMIT_OFFSET_SIZE);
    assert_eq!(errors.count(), 1);
    assert_eq!(rig.commit("", -1, "t", 2), ErrorCode::NONE, "what is there may change");
    assert_eq!(rig.commit("", -1, "u", 2), ErrorCode::INVALID_COMMIT_OFFSET_SIZE);
}
