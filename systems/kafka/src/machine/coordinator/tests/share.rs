//! Share groups: members, what happens to their records, and what administrators do.

use super::rig::{GROUP, Rig, restored};
use crate::machine::coordinator::*;
use crate::wire::{ErrorCode, Uuid};
use verity_contract::StateMachine;

const TOPIC: Uuid = Uuid([1; 16]);
const SESSION: ShareSession = ShareSession { node: 2, incarnation: 1, number: 7 };

fn beat(member: &str, epoch: i32) -> ShareHeartbeat {
    ShareHeartbeat {
        group_id: GROUP.into(),
        member_id: member.into(),
        member_epoch: epoch,
        rack_id: None,
        client_id: "client".into(),
        client_host: "/127.0.0.1".into(),
        subscribed_names: (epoch == 0).then(|| vec!["read".to_owned()]),
        metadata_version: 1,
        topics: vec![TopicInfo { name: "read".into(), id: TOPIC, partitions: 2 }],
        session_timeout_ms: 45_000,
        heartbeat_interval_ms: 5_000,
        size_max: 3,
    }
}

fn settings() -> ShareSettings {
    ShareSettings { lock_ms: 30_000, delivery_count_max: 5, window: 200, renews: true, dead_letter: true }
}

fn share() -> ShareName {
    ShareName { group_id: GROUP.into(), topic_id: TOPIC, partition: 0 }
}

impl Rig {
    fn share_beat(&mut self, request: ShareHeartbeat) -> ConsumerReply {
        let query = Query::ShareHeartbeat { request: Box::new(request.clone()) };
        let unchanged = match self.ask(query) {
            Answer::Unchanged { reply } => Some(reply),
            Answer::NeedsCommand { .. } => None,
            other => panic!("{other:?}"),
        };
        match self.run(Command::ShareHeartbeat { request }) {
            Reply::Consumer { reply } => {
                assert!(unchanged.is_none_or(|unchanged| unchanged == reply), "the order says the same");
                reply
            }
            other => panic!("{other:?}"),
        }
    }

    fn acquire(&mut self, member: &str, epoch: i32, last: i64) -> Vec<AcquiredRecords> {
        let request = ShareAcquire {
            share: share(),
            member_id: member.into(),
            session: SESSION,
            epoch,
            leader_epoch: 4,
            log_start: 0,
            batches: vec![ShareBatch { first: 0, last, readable: true }],
            count_max: 500,
            exact: false,
            settings: settings(),
        };
        match self.run(Command::AcquireShare { request }) {
            Reply::Acquired { error: ErrorCode::NONE, records, .. } => records,
            other => panic!("{other:?}"),
        }
    }

    fn begin(&mut self) -> i32 {
        let command = Command::BeginShare { share: share(), start: 0, settings: settings() };
        assert_eq!(self.run(command), Reply::Error { error: ErrorCode::NONE });
        match self.ask(Query::ShareWindow { share: share() }) {
            Answer::Window { begun: true, epoch, .. } => epoch,
            other => panic!("{other:?}"),
        }
    }

    fn acknowledge(&mut self, member: &str, first: i64, last: i64, kind: i8) -> ErrorCode {
        let batches = vec![Acknowledgement { first, last, types: vec![kind] }];
        let command = Command::AcknowledgeShare {
            share: share(),
            member_id: member.into(),
            session: SESSION,
            batches,
            settings: settings(),
        };
        match self.run(command) {
            Reply::Error { error } => error,
            other => panic!("{other:?}"),
        }
    }

    fn rows(&mut self) -> Vec<ShareRow> {
        match self.ask(Query::ShareOffsets { group_id: GROUP.into() }) {
            Answer::ShareOffsets { error: ErrorCode::NONE, rows } => rows,
            other => panic!("{other:?}"),
        }
    }
}

fn partitions(reply: &ConsumerReply) -> Vec<i32> {
    reply.assignment.iter().flatten().flat_map(|topic| topic.partitions.clone()).collect()
}

#[test]
fn members_come_side_by_side_and_go() {
    let mut rig = Rig::new();
    assert_eq!(rig.share_beat(beat("a", 3)).error, ErrorCode::GROUP_ID_NOT_FOUND);
    let a = rig.share_beat(beat("a", 0));
    assert_eq!((a.error, a.member_epoch, partitions(&a)), (ErrorCode::NONE, 1, vec![0, 1]));
    assert_eq!(rig.share_beat(beat("a", 1)).assignment, None, "nothing new");
    let b = rig.share_beat(beat("b", 0));
    assert_eq!((b.member_epoch, partitions(&b)), (2, vec![1]));
    let a = rig.share_beat(beat("a", 1));
    assert_eq!((a.member_epoch, partitions(&a)), (2, vec![0]));
    let again = rig.share_beat(beat("a", 1));
    assert_eq!((again.member_epoch, partitions(&again)), (2, vec![0]), "its answer may have been lost");
    assert_eq!(rig.share_beat(beat("a", 7)).error, ErrorCode::FENCED_MEMBER_EPOCH);
    let c = rig.share_beat(beat("c", 0));
    assert_eq!(partitions(&c).len(), 1, "three share two");
    assert_eq!(rig.share_beat(beat("d", 0)).error, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(rig.share_beat(beat("c", -1)).member_epoch, -1);
    assert_eq!(rig.share_beat(beat("c", -1)).error, ErrorCode::UNKNOWN_MEMBER_ID);
    rig.time += 45_000;
    assert_eq!(rig.expire("b"), ErrorCode::NONE);
    let a = rig.share_beat(beat("a", 2));
    assert_eq!((a.member_epoch, partitions(&a)), (5, vec![0, 1]));
    let grown = ShareHeartbeat {
        metadata_version: 2,
        topics: vec![TopicInfo { name: "read".into(), id: TOPIC, partitions: 3 }],
        ..beat("a", 5)
    };
    assert_eq!(partitions(&rig.share_beat(grown)), [0, 1, 2]);
}

#[test]
fn senseless_heartbeats_are_refused() {
    let mut rig = Rig::new();
    let senseless = [
        ShareHeartbeat { group_id: String::new(), ..beat("a", 0) },
        ShareHeartbeat { member_id: String::new(), ..beat("a", 0) },
        ShareHeartbeat { rack_id: Some(String::new()), ..beat("a", 0) },
        ShareHeartbeat { subscribed_names: None, ..beat("a", 0) },
        ShareHeartbeat { subscribed_names: Some(Vec::new()), ..beat("a", 0) },
        beat("a", -2),
    ];
    for request in senseless {
        assert_eq!(rig.share_beat(request.clone()).error, ErrorCode::INVALID_REQUEST, "{request:?}");
    }
}

#[test]
fn groups_keep_their_kind() {
    let mut rig = Rig::new();
    rig.share_beat(beat("a", 0));
    assert_eq!(super::rig::joined(&rig.enter("a")).error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    rig.share_beat(beat("a", -1));
    let Answer::GroupList { groups } = rig.ask(Query::ListGroups { states: Vec::new(), kinds: vec!["Share".into()] })
    else {
        panic!("a list")
    };
    assert_eq!((groups[0].protocol_type.as_str(), groups[0].state.as_str()), ("share", "Empty"));
    assert_eq!(rig.commit("", -1, "read", 4), ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(rig.describe().error, ErrorCode::GROUP_ID_NOT_FOUND, "it is no classic group");
    let Answer::ConsumerGroups { groups } =
        rig.ask(Query::DescribeShareGroups { group_ids: vec![GROUP.into(), "x".into()] })
    else {
        panic!("two rows")
    };
    assert_eq!((groups[0].error, groups[0].assignor.as_str()), (ErrorCode::NONE, "simple"));
    assert_eq!(groups[1].error, ErrorCode::GROUP_ID_NOT_FOUND);
}

#[test]
fn records_outlive_snapshots_and_locks_end_by_themselves() {
    let mut rig = Rig::new();
    let none = Command::BeginShare { share: share(), start: 0, settings: settings() };
    assert_eq!(rig.run(none), Reply::Error { error: ErrorCode::GROUP_ID_NOT_FOUND });
    rig.share_beat(beat("a", 0));
    let epoch = rig.begin();
    assert_eq!(rig.acquire("stranger", epoch, 9), [], "who is no member gets nothing");
    assert_eq!(rig.acquire("a", epoch + 1, 9), [], "it was moved meanwhile");
    assert_eq!(rig.acquire("a", epoch, 9).len(), 1);
    assert_eq!(rig.acknowledge("a", 0, 4, 1), ErrorCode::NONE);
    let copy = restored(&mut rig.state, 70);
    assert_eq!(copy.digest(), rig.state.digest());
    rig.state = copy;
    assert_eq!(rig.acknowledge("a", 5, 5, 1), ErrorCode::NONE);
    assert_eq!(rig.rows()[0], ShareRow { topic_id: TOPIC, partition: 0, start: 6, settled: 0, leader_epoch: 4 });
    rig.pass(30_000);
    assert_eq!(rig.acknowledge("a", 6, 6, 1), ErrorCode::INVALID_RECORD_STATE);
    assert_eq!(rig.acquire("a", epoch, 9), [AcquiredRecords { first: 6, last: 9, count: 2 }]);
    let gone = |session| Command::ReleaseShares {
        group_id: GROUP.into(),
        member_id: "a".into(),
        session,
        partitions: vec![(TOPIC, 0)],
    };
    rig.run(gone(ShareSession { incarnation: 0, ..SESSION }));
    assert!(!rig.shares.contains(&ShareEvent::Moved { share: share() }), "they were acquired through another");
    rig.run(gone(SESSION));
    assert!(rig.shares.contains(&ShareEvent::Moved { share: share() }), "others may have them");
}

#[test]
fn the_dead_are_named_until_they_are_buried() {
    let mut rig = Rig::new();
    rig.share_beat(beat("a", 0));
    let epoch = rig.begin();
    rig.acquire("a", epoch, 9);
    assert_eq!(rig.acknowledge("a", 0, 1, 3), ErrorCode::NONE);
    let records = vec![DeadRecords { first: 0, last: 1, count: 1, cause: Cause::Rejected }];
    let dead = ShareEvent::Dead { share: share(), epoch, records };
    assert!(rig.shares.contains(&dead));
    rig.pass(2_000);
    assert!(rig.shares.contains(&dead), "it may have been lost");
    assert_eq!(rig.rows()[0].start, 0);
    rig.run(Command::Buried { share: share(), epoch: epoch + 1, ranges: vec![(0, 1)] });
    assert_eq!(rig.rows()[0].start, 0, "of another time");
    rig.run(Command::Buried { share: share(), epoch, ranges: vec![(0, 1)] });
    assert_eq!(rig.rows()[0].start, 2);
    rig.pass(5_000);
    assert!(!rig.shares.iter().any(|event| matches!(event, ShareEvent::Dead { .. })));
}

#[test]
fn administrators_move_and_delete_where_nobody_reads() {
    let mut rig = Rig::new();
    let seek = || Command::SeekShares { group_id: GROUP.into(), offsets: vec![(TOPIC, (0, 7)), (TOPIC, (1, 8))] };
    assert_eq!(rig.run(seek()), Reply::Error { error: ErrorCode::GROUP_ID_NOT_FOUND });
    rig.share_beat(beat("a", 0));
    let epoch = rig.begin();
    assert_eq!(rig.run(seek()), Reply::Error { error: ErrorCode::NON_EMPTY_GROUP });
    rig.share_beat(beat("a", -1));
    assert_eq!(rig.run(seek()), Reply::Error { error: ErrorCode::NONE });
    let starts: Vec<i64> = rig.rows().iter().map(|row| row.start).collect();
    assert_eq!(starts, [7, 8]);
    assert_ne!(rig.begin(), epoch, "whoever has read before must read again");
    let delete = Command::DeleteShares { group_id: GROUP.into(), topic_ids: vec![TOPIC] };
    assert_eq!(rig.run(delete), Reply::Error { error: ErrorCode::NONE });
    assert_eq!(rig.rows(), []);
    rig.begin();
    rig.run(Command::TopicsDeleted { topics: vec![("read".into(), TOPIC)] });
    assert_eq!(rig.rows(), []);
    rig.begin();
    let deleted = Reply::DeleteGroups { groups: vec![(GROUP.into(), ErrorCode::NONE)] };
    assert_eq!(rig.run(Command::DeleteGroups { group_ids: vec![GROUP.into()] }), deleted);
    assert!(rig.state.shares.is_empty());
}
