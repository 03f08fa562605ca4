//! Any sequence of calls against a plain list of batches, on two replicas of which one crashes.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use verity_storage::MemoryDisk;
use verity_storage::disk::Crash;

use super::rig::{DIR, Draft, Plain, file, folder, owned, split};
use crate::log::{BatchCodec, BatchHeader, CompactionPolicy, Log, LogConfig, LogError, Manifest};

const CONFIG: LogConfig = LogConfig { segment_bytes: 500, segment_ms: 400, index_interval_bytes: 120 };

#[derive(Clone, Debug)]
enum Op {
    /// Records with these keys (`None` as value every third), `ms` after the one before, maybe under a new epoch.
    Append {
        keys: Vec<u8>,
        ms: i16,
        new_epoch: bool,
    },
    Delete(u8),
    Retain {
        ms: i16,
        bytes: i16,
    },
    Compact {
        step_bytes_max: u16,
        key_bytes_max: u16,
    },
    Roll,
    Read {
        from: u8,
        max_bytes: u16,
        upto: u8,
    },
    Time {
        ms: i16,
        from: u8,
    },
    Save,
    Crash(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let keys = prop::collection::vec(0u8..6, 1..5);
    prop_oneof![
        10 => (keys, -50i16..200, prop::bool::weighted(0.1)).prop_map(|(keys, ms, new_epoch)| Op::Append { keys, ms, new_epoch }),
        1 => any::<u8>().prop_map(Op::Delete),
        1 => (-1i16..2000, -1i16..3000).prop_map(|(ms, bytes)| Op::Retain { ms, bytes }),
        2 => (any::<u16>(), 0u16..600).prop_map(|(s, k)| Op::Compact { step_bytes_max: s % 3000, key_bytes_max: k }),
        1 => Just(Op::Roll),
        5 => (any::<u8>(), 0u16..1500, any::<u8>()).prop_map(|(from, max_bytes, upto)| Op::Read { from, max_bytes, upto }),
        2 => (any::<i16>(), any::<u8>()).prop_map(|(ms, from)| Op::Time { ms, from }),
        2 => Just(Op::Save),
        1 => any::<u64>().prop_map(Op::Crash),
    ]
}

/// What the log should hold, and what was ever appended.
#[derive(Clone, Default)]
struct Model {
    /// In order; compaction replaces it by what its rules allow.
    batches: Vec<(BatchHeader, Vec<u8>)>,
    /// All records ever appended: the offsets of each key.
    history: BTreeMap<Vec<u8>, Vec<i64>>,
    epochs: Vec<(i32, i64)>,
    start: i64,
    next: i64,
    now_ms: i64,
    epoch: i32,
}

impl Model {
    fn batch(&mut self, keys: &[u8], ms: i16, new_epoch: bool) -> Vec<u8> {
        self.epoch += i32::from(new_epoch);
        let mut draft = Draft::at(self.next).epoch(self.epoch);
        for (n, key) in keys.iter().enumerate() {
            self.now_ms = (self.now_ms + i64::from(ms)).max(0);
            let key = format!("key {key}");
            self.history.entry(key.clone().into_bytes()).or_default().push(self.next + n as i64);
            draft = match (self.next + n as i64) % 3 {
                0 => draft.tombstone(self.now_ms, &key),
                _ => draft.put(self.now_ms, &key, "some value"),
            };
        }
        let batch = draft.build();
        if self.epochs.last().is_none_or(|last| last.0 < self.epoch) {
            self.epochs.push((self.epoch, self.next));
        }
        self.next = draft.last_offset + 1;
        self.batches.push((BatchHeader::check(&batch).unwrap(), batch.clone()));
        batch
    }

    fn offset(&self, byte: u8) -> i64 {
        (self.next * i64::from(byte) / 250).min(self.next)
    }

    /// After the log's start moved: what whole segments went is told by the log.
    fn trim(&mut self, log: &Log) {
        self.start = log.log_start_offset();
        let first = log.segments().next().unwrap().base_offset;
        self.batches.retain(|(header, _)| header.last_offset >= first);
    }

    /// The end offset of an epoch by its definition.
    fn epoch_end(&self, epoch: i32) -> Option<i64> {
        let higher = self.epochs.iter().find(|(known, _)| *known > epoch).map(|(_, start)| *start);
        if self.epochs.last().is_none_or(|last| last.0 < epoch) {
            return None;
        }
        // Epochs that went with the log's beginning end where the log begins, at the latest.
        Some(higher.map_or(self.next, |start| start.max(self.start)))
    }
}

fn check_read(log: &mut Log, model: &Model, from: i64, max_bytes: usize, upto: i64) {
    let got = log.read(from, max_bytes, true, upto);
    if from < model.start || from > model.next {
        assert_eq!(
            got.unwrap_err(),
            LogError::OutOfRange { offset: from, log_start: model.start, next_offset: model.next }
        );
        return;
    }
    let behind = model.batches.iter().skip_while(|(header, _)| header.last_offset < from);
    let expected: Vec<_> = behind.take_while(|(header, _)| header.last_offset < upto).collect();
    let Some(slice) = got.unwrap() else {
        assert!(expected.is_empty() || from >= upto, "something from {from} below {upto} was not found");
        return;
    };
    let bytes = slice.bytes().unwrap();
    let batches = split(&bytes);
    assert!(batches.iter().eq(expected[..batches.len()].iter().copied()), "the batches from {from} on, untouched");
    assert_eq!(slice.first_offset, batches[0].0.base_offset);
    let last = batches.last().unwrap().0.last_offset;
    assert!(slice.next_offset > last);
    assert!(
        expected.get(batches.len()).is_none_or(|(next, _)| slice.next_offset <= next.base_offset),
        "none is skipped"
    );
    assert!(batches.len() == 1 || bytes.len() <= max_bytes);
    if let Some((next, _)) = expected.get(batches.len()) {
        let sealed =
            log.segments().any(|facts| (batches[0].0.base_offset + 1..=next.base_offset).contains(&facts.base_offset));
        assert!(sealed || bytes.len() + next.size as usize > max_bytes, "it ends where it must");
    }
}

fn check_time(log: &mut Log, model: &Model, ms: i64, from: i64) {
    let from = from.max(model.start);
    let found = log.batch_for_timestamp(ms, from, i64::MAX).unwrap().map(|slice| slice.first_offset);
    let young = |header: &BatchHeader| header.last_offset >= from && header.max_timestamp >= ms;
    assert_eq!(found, model.batches.iter().find(|(header, _)| young(header)).map(|(header, _)| header.base_offset));
    let newest = model.batches.iter().map(|(header, _)| header.max_timestamp).max();
    let first = model.batches.iter().find(|(header, _)| Some(header.max_timestamp) == newest);
    let first = first.map(|(header, _)| (header.max_timestamp, header.last_offset));
    assert_eq!(log.max_timestamp(), first);
}

/// Holds what compaction left against its rules, and takes it over into the model.
fn check_compacted(disk: &MemoryDisk, log: &mut Log, model: &mut Model, clean: i64) {
    log.flush().unwrap();
    let filled = log.segments().filter(|facts| facts.length > 0);
    let batches: Vec<_> = filled.flat_map(|facts| split(&file(disk, &facts.file_name()))).collect();
    let records = |batches: &[(BatchHeader, Vec<u8>)]| {
        let mut out = BTreeMap::new();
        for (_, batch) in batches {
            Plain.records(batch, &mut |record| drop(out.insert(record.offset, owned(record)))).unwrap();
        }
        out
    };
    let (before, after) = (records(&model.batches), records(&batches));
    for (offset, record) in &after {
        assert_eq!(before.get(offset), Some(record), "no record is changed or made up");
    }
    for (offset, record) in before.iter().filter(|(offset, _)| **offset >= model.start) {
        let key = record.key.as_ref().unwrap();
        let superseded = model.history[key].iter().any(|later| later > offset && *later < clean);
        match after.contains_key(offset) {
            true => assert!(!superseded, "offset {offset} has a later record of its key below {clean}"),
            false => assert!(superseded || record.value.is_none(), "offset {offset} was the last of its key"),
        }
    }
    model.batches = batches;
}

struct Replica {
    disk: MemoryDisk,
    log: Log,
}

impl Replica {
    fn new() -> Self {
        let disk = MemoryDisk::new();
        let log = Log::create(Arc::new(disk.clone()), DIR.to_owned(), CONFIG).unwrap();
        Self { disk, log }
    }

    /// What is applied on every replica. Answers where compaction is through with a round.
    fn apply(&mut self, op: &Op, batch: Option<&[u8]>, model: &Model) -> Option<i64> {
        match op {
            Op::Append { .. } => assert!(self.log.append(batch.unwrap(), model.now_ms).is_ok()),
            Op::Delete(byte) => assert!(self.log.delete_records(model.offset(*byte)).is_ok()),
            Op::Retain { ms, bytes } => {
                self.log.retain(model.now_ms, i64::from(*ms), i64::from(*bytes)).unwrap();
            }
            Op::Roll => self.log.roll().unwrap(),
            Op::Compact { step_bytes_max, key_bytes_max } => {
                let policy = CompactionPolicy {
                    upto_offset: i64::MAX,
                    now_ms: model.now_ms,
                    min_lag_ms: 0,
                    max_lag_ms: i64::MAX,
                    dirty_ratio_ppm: 0,
                    delete_retention_ms: 300,
                    key_bytes_max: u64::from(*key_bytes_max),
                    step_bytes_max: u64::from(*step_bytes_max),
                };
                // Whole rounds, however many steps they take, so that the rules can be held against the outcome.
                while let Some(plan) = self.log.plan_compaction(&policy, Vec::new(), Vec::new()) {
                    self.log.compact(&plan, &Plain).unwrap().unwrap();
                }
                return Some(self.log.manifest().unwrap().cleaned.first_dirty);
            }
            Op::Read { .. } | Op::Time { .. } | Op::Save | Op::Crash(_) => {}
        }
        None
    }
}

fn run(ops: Vec<Op>) {
    let (mut steady, mut shaky) = (Replica::new(), Replica::new());
    let mut model = Model::default();
    let mut saved = Manifest::empty();
    // What was applied since the manifest was saved, each with the model before it.
    let mut since: Vec<(Op, Option<Vec<u8>>, Model)> = Vec::new();
    for op in ops {
        let batch = match &op {
            Op::Append { keys, ms, new_epoch } => Some(model.batch(keys, *ms, *new_epoch)),
            _ => None,
        };
        let clean = steady.apply(&op, batch.as_deref(), &model);
        shaky.apply(&op, batch.as_deref(), &model);
        since.push((op.clone(), batch, model.clone()));
        match op {
            Op::Delete(_) | Op::Retain { .. } => model.trim(&steady.log),
            Op::Compact { .. } => check_compacted(&steady.disk, &mut steady.log, &mut model, clean.unwrap()),
            Op::Append { .. } | Op::Roll => {}
            Op::Read { from, max_bytes, upto } => {
                let (from, upto) = (model.offset(from) + i64::from(from == 255), model.offset(upto));
                check_read(&mut steady.log, &model, from, usize::from(max_bytes), upto);
                check_read(&mut shaky.log, &model, from, usize::from(max_bytes), upto);
            }
            Op::Time { ms, from } => check_time(&mut shaky.log, &model, i64::from(ms).abs(), model.offset(from)),
            Op::Save => {
                let (manifest, sync) = shaky.log.checkpoint().unwrap();
                sync.sync().unwrap();
                let mut bytes = Vec::new();
                manifest.encode(&mut bytes);
                saved = Manifest::decode(&bytes).unwrap();
                shaky.log.release(&saved).unwrap();
                since.clear();
            }
            Op::Crash(seed) => {
                shaky.disk.crash(if seed % 2 == 0 { Crash::Prefix(seed) } else { Crash::Subset(seed) });
                shaky.log = Log::open(Arc::new(shaky.disk.clone()), DIR.to_owned(), CONFIG, &saved).unwrap();
                for (op, batch, model) in &since {
                    shaky.apply(op, batch.as_deref(), model);
                }
            }
        }
        steady.log.invariants();
        shaky.log.invariants();
        assert_eq!((steady.log.log_start_offset(), steady.log.next_offset()), (model.start, model.next));
        for epoch in 0..=model.epoch + 1 {
            assert_eq!(steady.log.epoch_end_offset(epoch).map(|(_, end)| end), model.epoch_end(epoch), "epoch {epoch}");
        }
    }
    assert_eq!(steady.log.manifest().unwrap(), shaky.log.manifest().unwrap());
    let finish = |replica: &mut Replica| {
        let (manifest, sync) = replica.log.checkpoint().unwrap();
        sync.sync().unwrap();
        replica.log.release(&manifest).unwrap();
        replica.log.verify().unwrap();
        folder(&replica.disk)
    };
    assert_eq!(finish(&mut steady), finish(&mut shaky));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_log_does_what_a_list_does(ops in prop::collection::vec(op(), 1..80)) {
        run(ops);
    }
}
