//! A partition by its commands: what a client would see, and what a crash leaves.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use verity_clock::{Interval, Now};
use verity_contract::{
    Command as Ordered, Duty, DutyInput, DutyOutput, Effect, Effects, ReadOutcome, RequestId, StateMachine,
};
use verity_storage::disk::{Crash, Faults};
use verity_storage::{Disk, FaultyDisk, MemoryDisk};
use verity_types::{GroupId, Incarnation, LogIndex, Mono, Nanos, NodeId, WallMs};

use super::*;
use crate::wire::{BatchBuilder, Batches, Codec, assign};

mod takeover;

const GROUP: GroupId = GroupId(9);
const T: u64 = 1_700_000_000_000;

/// One replica on a disk of its own.
struct Rig {
    disk: MemoryDisk,
    machine: Partition,
    log: Vec<Ordered>,
    /// The last snapshot: its chunks, and behind which command it was taken.
    snapshot: Option<(Vec<Bytes>, usize)>,
    time: u64,
}

impl Rig {
    fn new(config: PartitionConfig) -> Self {
        let disk = MemoryDisk::new();
        let machine = Partition::new(Arc::new(disk.clone()), GROUP, config);
        Self { disk, machine, log: Vec::new(), snapshot: None, time: T }
    }

    fn order(&mut self, command: &Command) -> Reply {
        let sequence = self.log.len() as u64 + 1;
        let request = RequestId { origin: NodeId(1), incarnation: Incarnation(1), sequence };
        let bytes = command.encode();
        self.log.push(Ordered { index: LogIndex(sequence), time: WallMs(self.time), request, bytes });
        self.replay(self.log.len() - 1)
    }

    /// Applies the command at this place; its reply comes last.
    fn replay(&mut self, at: usize) -> Reply {
        let mut effects = Effects::default();
        self.machine.apply(std::slice::from_ref(&self.log[at]), &mut effects);
        self.machine.invariants();
        let Some(Effect::Reply { bytes, .. }) = effects.list.pop() else { panic!("{:?}", effects.list) };
        assert!(effects.list.iter().all(|effect| matches!(effect, Effect::Event { .. })));
        Reply::decode(bytes).expect("a whole reply")
    }

    fn append(&mut self, batch: Bytes) -> Reply {
        self.order(&Command::Append { epoch: 3, guard: None, batch })
    }

    fn marker(&mut self, producer_id: i64, decision: u64, commit: bool) -> Reply {
        let (producer_epoch, coordinator_epoch) = (0, 1);
        self.order(&Command::Marker { epoch: 3, producer_id, producer_epoch, coordinator_epoch, decision, commit })
    }

    fn ask(&mut self, query: Query) -> Bytes {
        let ReadOutcome::Ready(bytes) = self.machine.read(&query.encode()) else { panic!("it answers at once") };
        bytes
    }

    fn fetch(&mut self, offset: i64, committed: bool) -> Fetched {
        let query = Query::Fetch(Wanted { offset, max_bytes: 1 << 20, min_one: true, committed, in_place: false });
        Fetched::decode(self.ask(query)).expect("a whole answer")
    }

    fn find(&mut self, timestamp: i64) -> (i64, i64) {
        let found = Found::decode(self.ask(Query::Offset { timestamp, committed: false })).expect("a whole answer");
        (found.offset, found.timestamp)
    }

    /// Takes a snapshot and brings it to stable storage.
    fn save(&mut self) {
        self.machine.snapshot_begin();
        let sync = self.machine.attachments().sync.expect("a partition stands on files");
        let chunks: Vec<Bytes> = std::iter::from_fn(|| self.machine.snapshot_next(64)).collect();
        sync().expect("memory syncs");
        self.machine.snapshot_saved(LogIndex(self.log.len() as u64));
        self.snapshot = Some((chunks, self.log.len()));
    }

    /// Loses what was not synced, and comes back from the snapshot and the order.
    fn crash(&mut self, how: Crash) {
        self.disk.crash(how);
        self.machine = Partition::new(Arc::new(self.disk.clone()), GROUP, PartitionConfig::default());
        let from = match self.snapshot.clone() {
            None => 0,
            Some((chunks, at)) => {
                self.machine.restore(&mut chunks.into_iter().map(Ok)).expect("what was synced is there");
                at
            }
        };
        for at in from..self.log.len() {
            self.replay(at);
        }
    }
}

#[test]
fn a_batch_is_told_the_same_way_however_far_the_log_is() {
    let mut rig = rig();
    let held = |rig: &mut Rig, offset| Held::decode(rig.ask(Query::Batch(offset))).expect("a whole answer");
    assert_eq!(held(&mut rig, 0), Held::none(ErrorCode::OFFSET_OUT_OF_RANGE));
    rig.append(batch(&["a", "b", "c"]));
    let before = held(&mut rig, 1);
    assert_eq!(before.error, ErrorCode::NONE);
    assert_eq!(held(&mut rig, 3), Held::none(ErrorCode::OFFSET_OUT_OF_RANGE), "of what is to come nothing is said");
    rig.append(batch(&["d"]));
    assert_eq!((held(&mut rig, 0), held(&mut rig, 1)), (before.clone(), before.clone()));
    let (first, next) = (BatchHeader::parse(&before.batch), BatchHeader::parse(&held(&mut rig, 3).batch));
    assert_eq!((first.expect("a batch").base_offset, next.expect("a batch").base_offset), (0, 3));
}

fn rig() -> Rig {
    Rig::new(PartitionConfig::default())
}

/// A batch of these values, all with one key.
fn batch(values: &[&str]) -> Bytes {
    keyed("k", values)
}

fn keyed(key: &str, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::Lz4);
    for (at, value) in (0..).zip(values) {
        builder.push(1_000 + at, Some(key.as_bytes()), Some(value.as_bytes()), &[]);
    }
    builder.build().freeze()
}

/// One record of a producer.
fn produced(producer: i64, epoch: i16, sequence: i32, transactional: bool) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None).producer(producer, epoch, sequence);
    if transactional {
        builder = builder.transactional();
    }
    builder.push(5_000, None, Some(b"value"), &[]);
    builder.build().freeze()
}

fn offsets(fetched: &Fetched) -> Vec<(i64, i64)> {
    let batches = Batches::new(fetched.records.read().unwrap());
    let batches = batches.map(|batch| *batch.expect("whole batches").header());
    batches.map(|header| (header.base_offset, header.last_offset())).collect()
}

#[test]
fn batches_get_offsets_and_the_leaders_epoch_and_are_otherwise_untouched() {
    let mut rig = rig();
    let sent = batch(&["a", "b", "c"]);
    assert_eq!(rig.append(sent.clone()), Reply { error: ErrorCode::NONE, offset: 0, append_time: -1, log_start: 0 });
    assert_eq!(rig.append(batch(&["d"])).offset, 3);
    let fetched = rig.fetch(0, false);
    assert_eq!((fetched.error, fetched.high_watermark, fetched.last_stable), (ErrorCode::NONE, 4, 4));
    assert_eq!(offsets(&fetched), [(0, 2), (3, 3)]);
    let mut expected = BytesMut::from(&sent[..]);
    assign(&mut expected, 0, 3);
    assert_eq!(fetched.records.read().unwrap()[..sent.len()], expected[..], "byte for byte");
    assert_eq!(offsets(&rig.fetch(3, false)), [(3, 3)]);
    assert_eq!(offsets(&rig.fetch(1, false)), [(0, 2), (3, 3)], "a batch may begin before what is asked for");
    assert!(rig.fetch(4, false).records.is_empty());
    assert_eq!(rig.fetch(5, false).error, ErrorCode::OFFSET_OUT_OF_RANGE);
}

#[test]
fn whoever_waits_hears_of_a_batch_before_its_producer_does() {
    let mut rig = rig();
    rig.append(batch(&["a"]));
    let mut effects = Effects::default();
    let again = Ordered {
        bytes: Command::Append { epoch: 3, guard: None, batch: batch(&["b"]) }.encode(),
        ..rig.log[0].clone()
    };
    rig.machine.apply(&[again.clone(), again], &mut effects);
    let [Effect::Event { topic, bytes }, Effect::Reply { .. }, Effect::Reply { .. }] = &effects.list[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((&topic[..], &bytes[..8]), (GROWN, &3i64.to_be_bytes()[..]));
}

#[test]
fn bytes_that_are_no_batch_are_refused_and_change_nothing() {
    let mut rig = rig();
    let mut broken = BytesMut::from(&batch(&["a"])[..]);
    let last = broken.len() - 1;
    broken[last] ^= 1;
    assert_eq!(rig.append(broken.freeze()).error, ErrorCode::CORRUPT_MESSAGE);
    assert_eq!(rig.append(Bytes::from_static(b"short")).error, ErrorCode::CORRUPT_MESSAGE);
    let two = [batch(&["a"]), batch(&["b"])].concat();
    assert_eq!(rig.append(two.into()).error, ErrorCode::INVALID_RECORD);
    assert_eq!(rig.append(marker_batch(Marker::Commit, 1, 0, 0, 0).freeze()).error, ErrorCode::INVALID_RECORD);
    let sequence = rig.log.len() as u64 + 1;
    let request = RequestId { origin: NodeId(1), incarnation: Incarnation(1), sequence };
    rig.log.push(Ordered { index: LogIndex(sequence), time: WallMs(T), request, bytes: Bytes::from_static(&[99]) });
    assert_eq!(rig.replay(rig.log.len() - 1).error, ErrorCode::INVALID_REQUEST);
    assert_eq!(rig.fetch(0, false).high_watermark, 0);
}

#[test]
fn no_batch_of_an_idempotent_producer_is_there_twice_or_out_of_order() {
    let mut rig = rig();
    assert_eq!(rig.append(produced(7, 0, 0, false)).offset, 0);
    assert_eq!(rig.append(produced(7, 0, 1, false)).offset, 1);
    assert_eq!(rig.append(produced(7, 0, 0, false)).offset, 0, "answered as the first was");
    assert_eq!(rig.append(produced(7, 0, 3, false)).error, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(rig.append(produced(7, 1, 1, false)).error, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(rig.append(produced(7, 1, 0, false)).offset, 2);
    assert_eq!(rig.append(produced(7, 0, 2, false)).error, ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(rig.append(produced(8, 0, 5, false)).offset, 3, "a producer that is not known may begin anywhere");
    for sequence in 1..=5 {
        assert_eq!(rig.append(produced(7, 1, sequence, false)).error, ErrorCode::NONE);
    }
    assert_eq!(rig.append(produced(7, 1, 0, false)).error, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, "too long ago");
    assert_eq!(rig.fetch(0, false).high_watermark, 9);
}

#[test]
fn readers_of_what_is_committed_stop_in_front_of_open_transactions() {
    let mut rig = rig();
    rig.append(produced(7, 0, 0, true));
    rig.append(batch(&["not in it"]));
    rig.append(produced(8, 0, 0, true));
    let fetched = rig.fetch(0, true);
    assert_eq!((fetched.last_stable, fetched.high_watermark, offsets(&fetched)), (0, 3, vec![]));
    assert_eq!(offsets(&rig.fetch(0, false)).len(), 3);
    assert_eq!(rig.append(produced(7, 0, 1, false)).error, ErrorCode::INVALID_TXN_STATE);
    assert_eq!(rig.marker(7, 1, false).offset, 3);
    let fetched = rig.fetch(0, true);
    assert_eq!((fetched.last_stable, offsets(&fetched)), (2, vec![(0, 0), (1, 1)]));
    assert_eq!(fetched.aborted, [(7, 0)], "its records are told apart");
    assert_eq!(rig.marker(8, 2, true).offset, 4);
    assert_eq!(rig.fetch(2, true).aborted, [(7, 0)], "its marker still lies there");
    assert_eq!(rig.fetch(4, true).aborted, []);
    assert_eq!(rig.fetch(0, true).last_stable, 5);
    let rows = Described::decode(rig.ask(Query::Describe)).expect("a whole answer").producers;
    assert_eq!(rows.iter().map(|row| (row.producer_id, row.open)).collect::<Vec<_>>(), [(7, -1), (8, -1)]);
}

#[test]
fn what_holds_readers_of_committed_records_back_has_a_name() {
    let mut rig = rig();
    let ends = |rig: &mut Rig| Ends::decode(rig.ask(Query::Ends)).expect("a whole answer");
    rig.append(produced(-1, -1, -1, false));
    let all = ends(&mut rig);
    assert_eq!((all.log_start, all.high_watermark, all.last_stable, all.holder, all.heard), (0, 1, 1, -1, -1));
    rig.append(produced(7, 0, 0, true));
    rig.append(produced(8, 0, 0, true));
    let held = ends(&mut rig);
    assert_eq!((held.high_watermark, held.last_stable, held.holder), (3, 1, 7));
    assert!(held.heard >= 0);
    rig.marker(7, 1, true);
    assert_eq!((ends(&mut rig).last_stable, ends(&mut rig).holder), (2, 8));
    rig.marker(8, 1, false);
    assert_eq!((ends(&mut rig).last_stable, ends(&mut rig).holder), (5, -1));
}

/// KIP-890: the end of a transaction gives its producer a new epoch at once, and the marker comes later.
#[test]
fn the_next_transaction_waits_for_the_marker_of_the_one_before() {
    let mut rig = rig();
    rig.append(produced(7, 0, 0, true));
    let early = rig.append(produced(7, 1, 0, true));
    assert_eq!(early.error, ErrorCode::CONCURRENT_TRANSACTIONS, "the marker would decide it too");
    rig.marker(7, 1, true);
    assert_eq!(rig.append(produced(7, 1, 0, true)).error, ErrorCode::NONE);
}

/// A batch that was verified in one transaction and comes in the next, open already, whose sequence it happens to fit.
#[test]
fn a_late_batch_does_not_join_the_open_transaction() {
    let mut rig = rig();
    let guard = Found::decode(rig.ask(Query::Guard(7))).expect("a whole answer").offset;
    rig.append(produced(7, 0, 0, true));
    rig.marker(7, 1, true);
    rig.append(produced(7, 0, 1, true));
    let late = Command::Append { epoch: 3, guard: Some(guard), batch: produced(7, 0, 2, true) };
    assert_eq!(rig.order(&late).error, ErrorCode::INVALID_TXN_STATE);
}

/// KIP-890: a delayed commit, abort or batch must not hit a later transaction.
#[test]
fn what_comes_late_touches_no_later_transaction() {
    let mut rig = rig();
    let guard = |rig: &mut Rig| Found::decode(rig.ask(Query::Guard(7))).expect("a whole answer").offset;
    let before = guard(&mut rig);
    assert_eq!(before, -1);
    rig.append(produced(7, 0, 0, true));
    rig.marker(7, 1, true);
    rig.append(produced(7, 0, 1, true));
    let open = rig.fetch(0, true).last_stable;
    assert_eq!(rig.marker(7, 1, false).error, ErrorCode::NONE, "answered, since it was carried out");
    assert_eq!(rig.fetch(0, true).last_stable, open, "and the later transaction is still open");
    rig.marker(7, 2, true);
    let late = Command::Append { epoch: 3, guard: Some(before), batch: produced(7, 0, 2, true) };
    assert_eq!(rig.order(&late).error, ErrorCode::INVALID_TXN_STATE);
    let now = guard(&mut rig);
    let fresh = Command::Append { epoch: 3, guard: Some(now), batch: produced(7, 0, 2, true) };
    assert_eq!(rig.order(&fresh).error, ErrorCode::NONE);
    let deposed = Command::Marker {
        epoch: 3,
        producer_id: 7,
        producer_epoch: 0,
        coordinator_epoch: 0,
        decision: 9,
        commit: true,
    };
    assert_eq!(rig.order(&deposed).error, ErrorCode::TRANSACTION_COORDINATOR_FENCED);
    let bumped = Command::Marker {
        epoch: 3,
        producer_id: 7,
        producer_epoch: 1,
        coordinator_epoch: 1,
        decision: 9,
        commit: true,
    };
    assert_eq!(rig.order(&bumped).error, ErrorCode::NONE);
    assert_eq!(rig.append(produced(7, 0, 3, true)).error, ErrorCode::INVALID_PRODUCER_EPOCH);
    assert_eq!(rig.append(produced(7, 1, 0, true)).error, ErrorCode::NONE);
}

#[test]
fn offsets_are_found_by_time() {
    let mut rig = rig();
    assert_eq!(rig.find(-3), (-1, -1));
    rig.append(batch(&["a", "b", "c"]));
    rig.append(produced(7, 0, 0, false));
    assert_eq!((rig.find(-1), rig.find(-2)), ((4, -1), (0, -1)));
    assert_eq!((rig.find(0), rig.find(1_001), rig.find(1_003)), ((0, 1_000), (1, 1_001), (3, 5_000)));
    assert_eq!((rig.find(-3), rig.find(5_001)), ((3, 5_000), (-1, -1)));
}

#[test]
fn a_topic_may_ask_for_the_time_of_the_append() {
    let mut rig = Rig::new(PartitionConfig { append_time: true, ..PartitionConfig::default() });
    let now = i64::try_from(T).unwrap();
    assert_eq!(rig.append(produced(7, 0, 0, false)).append_time, now);
    rig.time += 5;
    assert_eq!(rig.append(produced(7, 0, 0, false)).append_time, now, "a duplicate has the time of the first");
    assert_eq!(rig.find(now), (0, now));
    let batch = Batches::new(rig.fetch(0, false).records.read().unwrap()).next().expect("one").expect("whole");
    batch.verify().expect("its checksum was made anew");
}

#[test]
fn the_beginning_goes_by_wish_and_by_age() {
    let config = PartitionConfig { segment_bytes: 200, retention_ms: 1_000, ..PartitionConfig::default() };
    let mut rig = Rig::new(config);
    for _ in 0..10 {
        rig.append(batch(&["some value"]));
    }
    let delete = |rig: &mut Rig, offset| rig.order(&Command::DeleteRecords { offset });
    assert_eq!((delete(&mut rig, 3).offset, delete(&mut rig, 2).offset), (3, 3));
    assert_eq!(delete(&mut rig, 11).error, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(rig.fetch(2, false).error, ErrorCode::OFFSET_OUT_OF_RANGE);
    let due = |rig: &mut Rig| {
        let now = i64::try_from(rig.time).unwrap();
        Found::decode(rig.ask(Query::Due(now))).expect("a whole answer").offset
    };
    assert_eq!(due(&mut rig), 1, "its records are of 1970");
    rig.order(&Command::Tend);
    assert_eq!((rig.fetch(10, false).log_start, due(&mut rig)), (10, 0));
    assert_eq!(rig.append(batch(&["goes on"])).offset, 10);
}

#[test]
fn old_records_outlast_a_change_of_leaders() {
    let mut rig = rig();
    rig.append(batch(&["of 1970"]));
    let mut duty = PartitionDuty::new(Nanos::from_millis(300_000));
    let mut step = |ms: u64, lead: bool| {
        let now = Now { mono: Mono(0) + Nanos::from_millis(ms), wall: Interval::around(T * 1_000_000, 0) };
        let input = if lead { DutyInput::Lead(&mut rig.machine) } else { DutyInput::Wake(&mut rig.machine) };
        let mut out = Vec::new();
        duty.on(now, input, &mut out);
        out
    };
    let wake = |ms| DutyOutput::Wake(Mono(0) + Nanos::from_millis(ms));
    assert_eq!(step(1_000, true), [wake(31_000)], "whoever begins to lead looks later");
    assert_eq!(step(2_000, false), [], "a wake of before");
    assert_eq!(step(31_000, false), [DutyOutput::Propose(Command::Tend.encode()), wake(331_000)]);
}

#[test]
fn of_each_key_the_last_record_stays_where_the_topic_says_so() {
    let config = PartitionConfig {
        compact: true,
        delete: false,
        segment_bytes: 300,
        dirty_ratio_ppm: 1,
        ..PartitionConfig::default()
    };
    let mut rig = Rig::new(config);
    for round in 0..20 {
        rig.append(keyed(["a", "b"][round % 2], &["old", "new"]));
    }
    let before = rig.machine.size();
    for _ in 0..10 {
        rig.order(&Command::Tend);
    }
    let fetched = rig.fetch(0, false);
    assert_eq!(fetched.high_watermark, 40, "offsets never change");
    assert!(rig.machine.size() < before / 2, "{} of {before} bytes stay", rig.machine.size());
}

#[test]
fn a_crash_loses_nothing_that_was_saved_or_is_in_the_order() {
    for how in [Crash::LoseAll, Crash::KeepAll, Crash::Prefix(3), Crash::Subset(5)] {
        let (mut one, mut other) = (rig(), rig());
        for round in 0..40 {
            for rig in [&mut one, &mut other] {
                rig.append(produced(7, 0, round, round % 3 == 0 && round > 0));
                if round % 3 == 0 {
                    rig.marker(7, u64::try_from(round).unwrap() + 1, round % 2 == 0);
                }
            }
            if round % 7 == 3 {
                one.save();
            }
            if round % 11 == 5 {
                one.crash(how);
            }
        }
        assert_eq!(one.machine.digest(), other.machine.digest());
        assert_eq!(one.fetch(0, true), other.fetch(0, true));
    }
}

#[test]
fn a_disk_that_fails_stops_the_node_and_leaves_no_snapshot_of_nothing() {
    let disk = FaultyDisk::new(Arc::new(MemoryDisk::new()));
    let mut machine = Partition::new(Arc::new(disk.clone()), GROUP, PartitionConfig::default());
    let request = RequestId { origin: NodeId(1), incarnation: Incarnation(1), sequence: 1 };
    let bytes = Command::Append { epoch: 1, guard: None, batch: batch(&["a"]) }.encode();
    let command = Ordered { index: LogIndex(1), time: WallMs(T), request, bytes };
    let mut effects = Effects::default();
    machine.apply(std::slice::from_ref(&command), &mut effects);
    assert!(matches!(effects.list[..], [Effect::Event { .. }, Effect::Reply { .. }]));
    disk.set_faults(Faults { write_fails_at: Some(disk.counts().writes + 1), ..Faults::default() });
    let mut effects = Effects::default();
    machine.apply(std::slice::from_ref(&command), &mut effects);
    assert!(matches!(effects.list[..], [Effect::Fail(_)]), "{effects:?}");
    disk.set_faults(Faults { write_fails_at: Some(disk.counts().writes + 1), ..Faults::default() });
    machine.snapshot_begin();
    assert!(machine.attachments().sync.expect("it is told to fail")().is_err());
    assert!(machine.attachments().sync.expect("nothing was begun")().is_err());
}

#[test]
fn damage_is_refused_when_it_is_read_or_opened() {
    let mut rig = rig();
    for round in 0..5 {
        rig.append(produced(7, 0, round, false));
    }
    rig.save();
    let path = format!("{}/00000000000000000000.log", group_folder(GROUP));
    assert!(rig.disk.flip(&path, 70, 3));
    let mut machine = Partition::new(Arc::new(rig.disk.clone()), GROUP, PartitionConfig::default());
    let (chunks, _) = rig.snapshot.clone().unwrap();
    let refused = machine.restore(&mut chunks.into_iter().map(Ok)).unwrap_err();
    assert!(refused.to_string().contains("damaged at byte"), "{refused}");
}

#[derive(Clone, Debug)]
enum Step {
    Plain(u8),
    Produce { producer: i64, epoch: i16, sequence: i32, transactional: bool },
    End { producer: i64, epoch: i16, decision: u64, commit: bool },
    Delete(i64),
    Tend,
    Pass(u32),
    Save,
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4u8).prop_map(Step::Plain),
        8 => (1..4i64, 0..2i16, 0..6i32, any::<bool>())
            .prop_map(|(producer, epoch, sequence, transactional)| Step::Produce { producer, epoch, sequence, transactional }),
        4 => (1..4i64, 0..3i16, 0..40u64, any::<bool>())
            .prop_map(|(producer, epoch, decision, commit)| Step::End { producer, epoch, decision, commit }),
        1 => (-1..20i64).prop_map(Step::Delete),
        1 => Just(Step::Tend),
        1 => (0..400_000_000u32).prop_map(Step::Pass),
        2 => Just(Step::Save),
        2 => any::<u64>().prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn replicas_are_the_same_however_often_one_crashes(steps in proptest::collection::vec(step(), 1..60), compact: bool) {
        let config = PartitionConfig { compact, segment_bytes: 500, dirty_ratio_ppm: 1, ..PartitionConfig::default() };
        let (mut one, mut other) = (Rig::new(config), Rig::new(config));
        // A partition that begins anew from the order alone begins with what its topic says.
        let begin = Command::Configure(PartitionConfig { version: 1, ..config });
        one.order(&begin);
        other.order(&begin);
        for step in steps {
            let command = match step {
                Step::Plain(count) => Command::Append { epoch: 1, guard: None, batch: batch(&["x"; 3][..usize::from(count)]) },
                Step::Produce { producer, epoch, sequence, transactional } => {
                    Command::Append { epoch: 2, guard: None, batch: produced(producer, epoch, sequence, transactional) }
                }
                Step::End { producer, epoch, decision, commit } => Command::Marker {
                    epoch: 2, producer_id: producer, producer_epoch: epoch, coordinator_epoch: 0, decision, commit,
                },
                Step::Delete(offset) => Command::DeleteRecords { offset },
                Step::Tend => Command::Tend,
                Step::Pass(ms) => {
                    one.time += u64::from(ms);
                    other.time += u64::from(ms);
                    continue;
                }
                Step::Save => {
                    one.save();
                    continue;
                }
                Step::Crash(seed) => {
                    one.crash(Crash::Subset(seed));
                    continue;
                }
            };
            prop_assert_eq!(one.order(&command), other.order(&command));
            prop_assert_eq!(one.machine.digest(), other.machine.digest());
        }
        let start = other.machine.start();
        prop_assert_eq!(one.fetch(start, false), other.fetch(start, false));
        prop_assert_eq!(one.fetch(start, true), other.fetch(start, true));
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut rig = rig();
        rig.append(batch(&["a"]));
        let request = RequestId { origin: NodeId(1), incarnation: Incarnation(1), sequence: 2 };
        rig.log.push(Ordered { index: LogIndex(2), time: WallMs(T), request, bytes: bytes.clone().into() });
        rig.replay(1);
        let _ = rig.machine.read(&bytes);
        let mut machine = Partition::new(Arc::new(MemoryDisk::new()), GROUP, PartitionConfig::default());
        let _ = machine.restore(&mut std::iter::once(Ok(Bytes::from(bytes))));
    }
}
