//! Random histories: replicas agree, every step keeps the invariants, snapshots are the state, bytes never panic.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use verity_contract::{self as contract, Effect, Effects, ReadOutcome, RequestId, StateMachine};
use verity_types::{Incarnation, LogIndex, NodeId, WallMs};

use super::rig::{apply, join, offsets, protocol, restored};
use crate::machine::coordinator::consumer::MemberState;
use crate::machine::coordinator::group::Kind;
use crate::machine::coordinator::share::partition::{RecordState, Run};
use crate::machine::coordinator::*;
use crate::wire::Uuid;

fn id() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just("c"), Just("d")].prop_map(str::to_owned)
}

fn group() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just("g"), 1 => Just("h")].prop_map(str::to_owned)
}

fn generation() -> impl Strategy<Value = i32> {
    prop_oneof![1 => -1i32..6, 2 => Just(RIGHT_GENERATION)]
}

fn topic() -> impl Strategy<Value = String> {
    prop_oneof![Just("read"), Just("t")].prop_map(str::to_owned)
}

fn instance() -> impl Strategy<Value = Option<String>> {
    prop_oneof![3 => Just(None), 1 => Just(Some("i".to_owned())), 1 => Just(Some("j".to_owned()))]
}

fn member() -> impl Strategy<Value = MemberName> {
    (prop_oneof![6 => id(), 1 => Just(String::new())], instance())
        .prop_map(|(member_id, instance_id)| MemberName { member_id, instance_id })
}

fn joins() -> impl Strategy<Value = Command> {
    let names = vec(prop_oneof![4 => Just("range"), 1 => Just("x")], 1..3);
    (group(), member(), id(), names, any::<bool>(), any::<bool>()).prop_map(
        |(group_id, member, new_member_id, names, member_id_required, skip_assignment)| {
            let request = Join {
                group_id,
                member_id: member.member_id,
                new_member_id,
                instance_id: member.instance_id,
                protocols: names.into_iter().map(protocol).collect(),
                member_id_required,
                skip_assignment,
                ..join("")
            };
            Command::Join { request }
        },
    )
}

fn syncs() -> impl Strategy<Value = Command> {
    (group(), member(), generation(), vec((id(), Just(Bytes::from_static(b"x"))), 0..3)).prop_map(
        |(group_id, member, generation, assignments)| Command::Sync {
            request: Sync { group_id, generation, member, protocol_type: None, protocol: None, assignments },
        },
    )
}

fn owned() -> impl Strategy<Value = Option<Vec<IdPartitions>>> {
    option::of(vec((1u8..3, vec(0i32..4, 0..4)), 0..3).prop_map(|topics| {
        let row = |(topic, partitions)| IdPartitions { topic_id: Uuid([topic; 16]), partitions };
        topics.into_iter().map(row).collect()
    }))
}

fn heartbeats() -> impl Strategy<Value = Command> {
    let who = (
        group(),
        id(),
        prop_oneof![3 => Just(0), 3 => 1i32..7, 6 => Just(RIGHT_GENERATION), 1 => -2i32..0],
        instance(),
    );
    let names = option::of(vec(topic(), 0..3));
    let assignor = option::of(prop_oneof![Just("range".to_owned()), Just("uniform".to_owned())]);
    (who, names, owned(), assignor, any::<bool>(), 0usize..4).prop_map(
        |((group_id, member_id, member_epoch, instance_id), names, owned, assignor, regex, version)| {
            let joins = member_epoch == 0;
            let request = ConsumerHeartbeat {
                group_id,
                member_id,
                member_epoch,
                instance_id,
                rack_id: None,
                client_id: String::new(),
                client_host: String::new(),
                rebalance_timeout_ms: if joins { 5_000 } else { -1 },
                subscribed_names: names.or_else(|| joins.then(Vec::new)),
                subscribed_regex: regex.then(|| "t".to_owned()),
                resolved: Some(vec!["t".to_owned()]),
                assignor,
                owned: if joins { Some(Vec::new()) } else { owned },
                metadata_version: version as u64,
                topics: vec![
                    // A version says one thing only.
                    TopicInfo { name: "read".into(), id: Uuid([1; 16]), partitions: [0, 2, 4, 3][version] },
                    TopicInfo { name: "t".into(), id: Uuid([2; 16]), partitions: 3 },
                ],
            };
            Command::ConsumerHeartbeat { request }
        },
    )
}

fn transaction() -> impl Strategy<Value = TransactionName> {
    (prop_oneof![3 => Just("x"), 1 => Just("y")], 1i64..4, prop_oneof![1 => 0i16..4, 2 => Just(RIGHT_EPOCH)]).prop_map(
        |(id, producer_id, producer_epoch)| TransactionName {
            transactional_id: id.into(),
            producer_id,
            producer_epoch,
        },
    )
}

fn parts() -> impl Strategy<Value = Vec<TopicPartitions>> {
    vec((topic(), vec(0i32..2, 0..3)).prop_map(|(topic, partitions)| TopicPartitions { topic, partitions }), 0..3)
}

fn transactions() -> impl Strategy<Value = Command> {
    let init = (option::of(prop_oneof![Just("x"), Just("y")]), -1i64..4, -1i16..4).prop_map(
        |(id, producer_id, producer_epoch)| {
            let transactional_id = id.map(str::to_owned);
            Command::InitProducerId { transactional_id, timeout_ms: 5_000, producer_id, producer_epoch }
        },
    );
    let new = Just(Command::InitProducerId {
        transactional_id: Some("x".into()),
        timeout_ms: 5_000,
        producer_id: -1,
        producer_epoch: -1,
    });
    prop_oneof![
        1 => init,
        2 => new,
        4 => (transaction(), parts()).prop_map(|(transaction, topics)| Command::AddPartitions { transaction, topics }),
        2 => (transaction(), group()).prop_map(|(transaction, group_id)| Command::AddOffsets { transaction, group_id }),
        3 => (transaction(), group(), topic(), 0i64..9, any::<bool>()).prop_map(|(transaction, group_id, topic, offset, implicit)| {
            let member = MemberName { member_id: String::new(), instance_id: None };
            let topics = offsets(&topic, offset);
            let request = CommitTransactionOffsets { transaction, group_id, generation: -1, member, implicit, topics };
            Command::CommitTransactionOffsets { request }
        }),
        3 => (transaction(), any::<bool>(), any::<bool>())
            .prop_map(|(transaction, commit, bump_epoch)| Command::EndTransaction { transaction, commit, bump_epoch }),
        3 => (transaction(), prop_oneof![1 => 0u64..5, 3 => Just(RIGHT_NUMBER)], parts())
            .prop_map(|(transaction, number, topics)| Command::MarkersWritten { transaction, number, topics }),
    ]
}

fn share_beats() -> impl Strategy<Value = Command> {
    let epoch = prop_oneof![3 => Just(0), 1 => 1i32..7, 3 => Just(RIGHT_GENERATION), 1 => Just(-1)];
    (share_group(), id(), epoch, option::of(vec(topic(), 1..3)), 0usize..4).prop_map(
        |(group_id, member_id, member_epoch, names, version)| Command::ShareHeartbeat {
            request: ShareHeartbeat {
                group_id,
                member_id,
                member_epoch,
                rack_id: None,
                client_id: String::new(),
                client_host: String::new(),
                subscribed_names: names.or_else(|| (member_epoch == 0).then(|| vec!["t".to_owned()])),
                metadata_version: version as u64,
                topics: vec![
                    TopicInfo { name: "read".into(), id: Uuid([1; 16]), partitions: [0, 2, 4, 3][version] },
                    TopicInfo { name: "t".into(), id: Uuid([2; 16]), partitions: 3 },
                ],
                session_timeout_ms: 10_000,
                heartbeat_interval_ms: 1_000,
                size_max: 3,
            },
        },
    )
}

fn share_group() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just("s"), 1 => Just("h")].prop_map(str::to_owned)
}

fn share_name() -> impl Strategy<Value = ShareName> {
    (share_group(), 1u8..3, Just(0)).prop_map(|(group_id, topic, partition)| ShareName {
        group_id,
        topic_id: Uuid([topic; 16]),
        partition,
    })
}

fn share_settings() -> impl Strategy<Value = ShareSettings> {
    any::<bool>().prop_map(|dead_letter| ShareSettings {
        lock_ms: 30_000,
        delivery_count_max: 2,
        window: 8,
        renews: true,
        dead_letter,
    })
}

fn ranges() -> impl Strategy<Value = Vec<(i64, i64)>> {
    vec((0i64..12, 0i64..4).prop_map(|(first, more)| (first, first + more)), 0..4)
}

fn share_records() -> impl Strategy<Value = Command> {
    let acquire = (share_name(), id(), 0i64..12, vec((0i64..3, any::<bool>()), 0..5), share_settings()).prop_map(
        |(share, member_id, from, sizes, settings)| {
            let mut first = from;
            let batch = |(more, readable)| {
                let batch = ShareBatch { first, last: first + more, readable };
                first = batch.last + 1;
                batch
            };
            let batches = sizes.into_iter().map(batch).collect();
            let (epoch, leader_epoch, log_start) = (RIGHT_GENERATION, 1, from / 4);
            let request = ShareAcquire {
                share,
                member_id,
                session: ShareSession { number: u64::from(from % 3 == 0), ..ShareSession::default() },
                epoch,
                leader_epoch,
                log_start,
                batches,
                count_max: 4,
                exact: from % 2 == 0,
                settings,
            };
            Command::AcquireShare { request }
        },
    );
    let acknowledge = (share_name(), id(), ranges(), prop_oneof![1 => -1i8..6, 4 => 1i8..4], share_settings())
        .prop_map(|(share, member_id, ranges, kind, settings)| {
            let says = |(first, last)| Acknowledgement { first, last, types: vec![kind] };
            let (session, batches) = (ShareSession::default(), ranges.into_iter().map(says).collect());
            Command::AcknowledgeShare { share, member_id, session, batches, settings }
        });
    prop_oneof![
        2 => (share_name(), 0i64..9, share_settings())
            .prop_map(|(share, start, settings)| Command::BeginShare { share, start, settings }),
        5 => acquire,
        6 => acknowledge,
        1 => (share_name(), id(), 0u64..2).prop_map(|(share, member_id, number)| {
            let ShareName { group_id, topic_id, partition } = share;
            let session = ShareSession { number, ..ShareSession::default() };
            Command::ReleaseShares { group_id, member_id, session, partitions: vec![(topic_id, partition)] }
        }),
        1 => (share_name(), ranges()).prop_map(|(share, ranges)| {
            Command::Buried { share, epoch: RIGHT_GENERATION, ranges }
        }),
        1 => (share_name(), 0i64..30).prop_map(|(share, offset)| {
            let ShareName { group_id, topic_id, partition } = share;
            Command::SeekShares { group_id, offsets: vec![(topic_id, (partition, offset))] }
        }),
        1 => share_name().prop_map(|share| {
            Command::DeleteShares { group_id: share.group_id, topic_ids: vec![share.topic_id] }
        }),
    ]
}

fn rest() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => (group(), member(), generation(), topic(), 0i64..9, -1i64..1).prop_map(|(group_id, member, generation, topic, offset, retention_ms)| {
            let topics = offsets(&topic, offset);
            let request = CommitOffsets { group_id, generation, member, knows_epochs: true, retention_ms, topics };
            Command::CommitOffsets { request }
        }),
        2 => (group(), vec(member(), 0..3)).prop_map(|(group_id, members)| Command::Leave { group_id, members }),
        1 => (group(), member(), 0i32..6)
            .prop_map(|(group_id, member, generation)| Command::Heartbeat { group_id, generation, member }),
        2 => (group(), id()).prop_map(|(group_id, member_id)| Command::ExpireMember { group_id, member_id }),
        4 => Just(Command::Tick),
        1 => (group(), parts()).prop_map(|(group_id, topics)| Command::DeleteOffsets { group_id, topics }),
        1 => topic().prop_map(|topic| Command::TopicsDeleted { topics: vec![(topic, Uuid::ZERO)] }),
        1 => vec(group(), 0..2).prop_map(|group_ids| Command::DeleteGroups { group_ids }),
        1 => any::<bool>().prop_map(|delays| {
            let initial_rebalance_delay_ms = if delays { 3_000 } else { 0 };
            let sweep_interval_ms = 20_000;
            let config = CoordinatorConfig {
                initial_rebalance_delay_ms, sweep_interval_ms, offsets_retention_ms: 50_000,
                transactional_id_expiration_ms: 50_000, group_size_max: 3, ..CoordinatorConfig::default()
            };
            Command::Lead { config }
        }),
    ]
}

fn history() -> impl Strategy<Value = Vec<(Command, u64)>> {
    let command = prop_oneof![3 => joins(), 2 => syncs(), 4 => heartbeats(), 4 => transactions(), 4 => rest(), 3 => share_beats(), 4 => share_records()];
    let pause = prop_oneof![4 => Just(0u64), 2 => Just(1_000), 1 => Just(20_000)];
    vec((command, pause), 0..160)
}

/// Numbers that stand for whatever is right at the time: without them few commands would do anything.
const RIGHT_EPOCH: i16 = 4;
const RIGHT_NUMBER: u64 = 5;
const RIGHT_GENERATION: i32 = 7;

/// Puts the right numbers in.
fn aimed(state: &Coordinator, mut command: Command) -> Command {
    let aim = |name: &mut TransactionName| {
        if let Some(one) = state.transactions.get(&name.transactional_id).filter(|_| name.producer_epoch == RIGHT_EPOCH)
        {
            *name = one.name(&name.transactional_id);
        }
    };
    let kind = |id: &str| state.groups.get(id).map(|group| &group.kind);
    match &mut command {
        Command::AddPartitions { transaction, .. }
        | Command::AddOffsets { transaction, .. }
        | Command::EndTransaction { transaction, .. } => aim(transaction),
        Command::CommitTransactionOffsets { request } => aim(&mut request.transaction),
        Command::MarkersWritten { transaction, number, .. } => {
            aim(transaction);
            if let Some(one) = state.transactions.get(&transaction.transactional_id).filter(|_| *number == RIGHT_NUMBER)
            {
                *number = one.number;
            }
        }
        Command::Sync { request } if request.generation == RIGHT_GENERATION => {
            if let Some(Kind::Classic { group }) = kind(&request.group_id) {
                request.generation = group.generation;
            }
        }
        Command::CommitOffsets { request } if request.generation == RIGHT_GENERATION => {
            if let Some(Kind::Classic { group }) = kind(&request.group_id) {
                request.generation = group.generation;
            }
        }
        Command::ConsumerHeartbeat { request } if request.member_epoch == RIGHT_GENERATION => {
            if let Some(Kind::Consumer { group }) = kind(&request.group_id)
                && let Some(member) = group.members.get(&request.member_id)
            {
                request.member_epoch = member.epoch;
            }
        }
        Command::ShareHeartbeat { request } if request.member_epoch == RIGHT_GENERATION => {
            if let Some(Kind::Share { group }) = kind(&request.group_id)
                && let Some(member) = group.members.get(&request.member_id)
            {
                request.member_epoch = member.epoch;
            }
        }
        Command::AcquireShare { request } if request.epoch == RIGHT_GENERATION => {
            state.shares.get(&request.share).into_iter().for_each(|share| request.epoch = share.epoch);
            if let Some(Kind::Share { group }) = kind(&request.share.group_id) {
                group.members.keys().next().into_iter().for_each(|member| request.member_id.clone_from(member));
            }
        }
        // Most acknowledgements are of a record that somebody has.
        Command::AcknowledgeShare { share, member_id, batches, .. } if batches.len() != 1 => {
            let all = state.shares.iter().flat_map(|(name, share)| share.runs.values().map(move |run| (name, run)));
            let mut held = all.filter_map(|(name, Run { last, state })| match state {
                RecordState::Acquired { member, .. } => Some((name, member, *last)),
                _ => None,
            });
            if let Some((name, member, last)) = held.next_back() {
                let types = batches.first().map_or_else(|| vec![1], |batch| batch.types.clone());
                (*share, *member_id) = (name.clone(), member.clone());
                *batches = vec![Acknowledgement { first: last, last, types }];
            }
        }
        Command::Buried { share, epoch, .. } if *epoch == RIGHT_GENERATION => {
            state.shares.get(share).into_iter().for_each(|share| *epoch = share.epoch);
        }
        _ => {}
    }
    command
}

fn commands(history: &[(Command, u64)]) -> Vec<contract::Command> {
    let (mut time, mut state) = (1_000, Coordinator::new());
    let mut log = Vec::new();
    for (sequence, (command, pause)) in (1..).zip(history) {
        time += pause;
        let request = RequestId { origin: NodeId(1), incarnation: Incarnation(1), sequence };
        let bytes = aimed(&state, command.clone()).encode();
        let command = contract::Command { index: LogIndex(sequence), time: WallMs(time), request, bytes };
        apply(&mut state, &command);
        log.push(command);
    }
    log
}

fn replies(effects: &Effects) -> usize {
    effects.list.iter().filter(|effect| matches!(effect, Effect::Reply { .. })).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn replicas_agree_and_every_step_keeps_the_invariants(history in history()) {
        let log = commands(&history);
        let (mut a, mut b) = (Coordinator::new(), Coordinator::new());
        let mut ea = Vec::new();
        for command in &log {
            ea.extend(apply(&mut a, command).list);
        }
        let mut eb = Effects::default();
        b.apply(&log, &mut eb);
        prop_assert_eq!(replies(&eb), log.len());
        prop_assert_eq!(a.digest(), b.digest());
        prop_assert_eq!(ea, eb.list);
    }

    /// A snapshot drawn while commands go on is the state at its beginning; what follows is the same on top of it.
    #[test]
    fn a_snapshot_is_its_beginning(history in history(), at in 0usize..120, chunk in 1usize..400) {
        let log = commands(&history);
        let at = at.min(log.len());
        let mut state = Coordinator::new();
        state.apply(&log[..at], &mut Effects::default());
        let then = state.digest();
        state.snapshot_begin();
        let mut chunks: Vec<Bytes> = state.snapshot_next(chunk).into_iter().collect();
        let mut effects = Effects::default();
        for command in &log[at..] {
            state.apply(std::slice::from_ref(command), &mut effects);
            chunks.extend(state.snapshot_next(chunk));
        }
        chunks.extend(std::iter::from_fn(|| state.snapshot_next(chunk)));
        let mut copy = Coordinator::new();
        copy.restore(&mut chunks.iter().cloned().map(Ok)).expect("a snapshot restores");
        copy.invariants();
        prop_assert_eq!(copy.digest(), then);
        let mut replayed = Effects::default();
        copy.apply(&log[at..], &mut replayed);
        prop_assert_eq!(copy.digest(), state.digest());
        prop_assert_eq!(replayed.list, effects.list);
    }

    #[test]
    fn damage_to_a_snapshot_is_noticed(history in history(), flip in any::<u32>()) {
        let mut state = Coordinator::new();
        state.apply(&commands(&history), &mut Effects::default());
        let digest = restored(&mut state, 300).digest();
        prop_assert_eq!(digest, state.digest());
        state.snapshot_begin();
        let mut whole: Vec<u8> = std::iter::from_fn(|| state.snapshot_next(1_000)).flatten().collect();
        let mut short = Coordinator::new();
        let cut = Bytes::copy_from_slice(&whole[..whole.len() - 1]);
        prop_assert!(short.restore(&mut [Ok(cut)].into_iter()).is_err());
        let at = flip as usize % whole.len();
        whole[at] ^= 1 << (flip % 8);
        prop_assert!(Coordinator::new().restore(&mut [Ok(Bytes::from(whole))].into_iter()).is_err());
    }

    #[test]
    fn bytes_never_panic(bytes in vec(any::<u8>(), 0..80), tag in 0u8..28, history in history(), cut in any::<u16>()) {
        let mut state = Coordinator::new();
        let framed = [&[crate::machine::codec::FORMAT, tag], &bytes[..]].concat();
        let real = history.first().map(|(command, _)| command.encode()).unwrap_or_default();
        let cut = real.slice(..usize::from(cut) % real.len().max(1));
        for bytes in [Bytes::from(bytes), Bytes::from(framed), cut] {
            let request = RequestId::default();
            let command = contract::Command { index: LogIndex(1), time: WallMs(1), request, bytes: bytes.clone() };
            prop_assert_eq!(replies(&apply(&mut state, &command)), 1);
            let ReadOutcome::Ready(answer) = state.read(&bytes) else { panic!("it answers at once") };
            prop_assert!(Answer::decode(&answer).is_ok());
            prop_assert!(Coordinator::new().restore(&mut [Ok(bytes)].into_iter()).is_err());
        }
    }

    /// What the query calls unchanged, the command leaves unchanged, and both say the same.
    #[test]
    fn queries_of_heartbeats_are_right(history in history(), last in heartbeats()) {
        let log = commands(&history);
        let mut state = Coordinator::new();
        state.apply(&log, &mut Effects::default());
        let Command::ConsumerHeartbeat { request } = &last else { unreachable!("a heartbeat") };
        let ReadOutcome::Ready(bytes) = state.read(&Query::ConsumerHeartbeat { request: Box::new(request.clone()) }.encode()) else {
            panic!("it answers at once")
        };
        if let Ok(Answer::Unchanged { reply }) = Answer::decode(&bytes) {
            let describe = Query::DescribeConsumerGroups { group_ids: vec!["g".into(), "h".into()] }.encode();
            let before = state.read(&describe);
            let command = contract::Command { index: LogIndex(999), time: WallMs(1), request: RequestId::default(), bytes: last.encode() };
            let effects = apply(&mut state, &command);
            let Some(Effect::Reply { bytes, .. }) = effects.list.last() else { panic!("an answer comes last") };
            prop_assert_eq!(Reply::decode(bytes), Ok(Reply::Consumer { reply }));
            prop_assert_eq!(state.read(&describe), before);
        }
    }
}

/// Histories that never get anywhere would find nothing.
#[test]
fn histories_reach_every_state() {
    let mut runner = TestRunner::deterministic();
    let strategy = history();
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let history = strategy.new_tree(&mut runner).expect("nothing is filtered").current();
        let mut state = Coordinator::new();
        for command in commands(&history) {
            apply(&mut state, &command);
            seen.extend(state.transactions.values().map(|one| one.state.name()));
            for run in state.shares.values().flat_map(|share| share.runs.values()) {
                seen.insert(match run.state {
                    RecordState::Available { .. } => "available",
                    RecordState::Acquired { .. } => "acquired",
                    RecordState::Archiving { .. } => "archiving",
                    RecordState::Acknowledged => "acknowledged",
                    RecordState::Archived => "archived",
                });
            }
            for group in state.groups.values() {
                match &group.kind {
                    Kind::Classic { group } => seen.extend([group.state.name(), "classic"]),
                    Kind::Share { group } => seen.extend([group.state(), "share"]),
                    Kind::Consumer { group } => {
                        seen.extend([group.state(), "consumer"]);
                        seen.extend(group.members.values().map(|member| match member.state {
                            MemberState::Stable => "there",
                            MemberState::Unrevoked => "revokes",
                            MemberState::Unreleased => "waits",
                        }));
                    }
                }
                if !group.offsets.pending.is_empty() {
                    seen.insert("offsets wait");
                }
            }
        }
    }
    let all = [
        "Assigning",
        "CompleteAbort",
        "CompleteCommit",
        "CompletingRebalance",
        "Empty",
        "Ongoing",
        "PrepareAbort",
        "PrepareCommit",
        "PreparingRebalance",
        "Reconciling",
        "Stable",
        "acknowledged",
        "acquired",
        "archived",
        "archiving",
        "available",
        "classic",
        "consumer",
        "offsets wait",
        "revokes",
        "share",
        "there",
        "waits",
    ];
    assert_eq!(seen, all.into());
}
