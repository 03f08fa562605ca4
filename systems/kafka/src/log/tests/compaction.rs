//! What compaction keeps and what it takes, by Kafka's rules.

use std::sync::Arc;

use verity_storage::MemoryDisk;

use super::rig::{DIR, Draft, Plain, Record, SMALL, folder, log_on, read_all, records};
use crate::log::{
    AbortedRange, BatchHeader, CompactionPlan, CompactionPolicy, HEADER_SIZE, LOG_APPEND_TIME, LastOfProducer, Log,
    LogConfig, LogError,
};

const KEEP_MS: i64 = 1000;

fn policy(now_ms: i64) -> CompactionPolicy {
    CompactionPolicy {
        upto_offset: i64::MAX,
        now_ms,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        dirty_ratio_ppm: 0,
        delete_retention_ms: KEEP_MS,
        key_bytes_max: 1 << 20,
        step_bytes_max: 1 << 30,
    }
}

/// A log whose segments hold what one call of `seal` closes.
struct Bench {
    log: Log,
    disk: MemoryDisk,
    aborted: Vec<AbortedRange>,
    producers: Vec<LastOfProducer>,
}

impl Bench {
    fn new() -> Self {
        let disk = MemoryDisk::new();
        let log = log_on(&disk, LogConfig::default());
        Self { log, disk, aborted: Vec::new(), producers: Vec::new() }
    }

    fn append(&mut self, draft: Draft) -> i64 {
        self.log.append(&draft.build(), 0).unwrap().base_offset
    }

    fn next(&self) -> Draft {
        Draft::at(self.log.next_offset())
    }

    fn seal(&mut self) {
        self.log.roll().unwrap();
    }

    fn plan(&mut self, policy: &CompactionPolicy) -> Option<CompactionPlan> {
        self.log.plan_compaction(policy, self.aborted.clone(), self.producers.clone())
    }

    /// Compacts until nothing is due; says how many steps that took.
    fn compact(&mut self, policy: &CompactionPolicy) -> usize {
        let mut steps = 0;
        while let Some(plan) = self.plan(policy) {
            self.log.compact(&plan, &Plain).unwrap().unwrap();
            self.log.invariants();
            self.log.verify().unwrap();
            steps += 1;
        }
        steps
    }

    fn offsets(&mut self) -> Vec<i64> {
        records(&mut self.log).iter().map(|record| record.offset).collect()
    }

    fn headers(&mut self) -> Vec<BatchHeader> {
        read_all(&mut self.log, 1 << 20).into_iter().map(|(header, _)| header).collect()
    }
}

#[test]
fn of_each_key_the_last_record_stays_at_its_offset() {
    let mut bench = Bench::new();
    let draft = bench.next().put(10, "a", "1").put(11, "b", "1").put(12, "a", "2");
    bench.append(draft);
    let draft = bench.next().put(13, "c", "1");
    let untouched = draft.build();
    bench.append(draft);
    let draft = bench.next().put(14, "b", "2").record(15, None, Some("no key"));
    bench.append(draft);
    bench.seal();
    let active = bench.next().put(16, "a", "3");
    bench.append(active);
    assert_eq!(bench.compact(&policy(100)), 1);
    assert_eq!(bench.offsets(), [2, 3, 4, 6], "the active segment counts for nothing and loses nothing");
    let batches = read_all(&mut bench.log, 1 << 20);
    assert_eq!(batches[1].1, untouched);
    let first = batches[0].0;
    assert_eq!((first.base_offset, first.last_offset, first.record_count), (0, 2, 1), "a batch keeps its range");
    assert_eq!((first.max_timestamp, first.leader_epoch), (12, 0));
    assert_eq!(bench.log.log_start_offset(), 0);
    let slice = bench.log.read(0, 1, true, 7).unwrap().unwrap();
    assert_eq!((slice.first_offset, slice.next_offset), (0, 3));
    assert_eq!(bench.compact(&policy(100)), 0, "what is clean is not compacted again");
}

#[test]
fn tombstones_stay_for_their_time() {
    let mut bench = Bench::new();
    for draft in [Draft::at(0).put(1, "a", "1").put(2, "b", "1"), Draft::at(2).tombstone(3, "a").put(4, "c", "1")] {
        bench.append(draft);
    }
    bench.seal();
    bench.compact(&policy(100));
    assert_eq!(bench.offsets(), [1, 2, 3]);
    let horizons: Vec<Option<i64>> = bench.headers().iter().map(BatchHeader::delete_horizon_ms).collect();
    assert_eq!(horizons, [None, Some(100 + KEEP_MS)]);
    let kept = records(&mut bench.log);
    assert_eq!(
        kept[1],
        Record { offset: 2, timestamp: 3, key: Some(b"a".to_vec()), value: None },
        "its time is its own"
    );
    let more = |bench: &mut Bench, key: &str| {
        let draft = bench.next().put(5, key, "1");
        bench.append(draft);
        bench.seal();
    };
    more(&mut bench, "d");
    bench.compact(&policy(99 + KEEP_MS));
    assert_eq!(bench.offsets(), [1, 2, 3, 4]);
    assert_eq!(bench.headers()[1].delete_horizon_ms(), Some(100 + KEEP_MS), "set once");
    more(&mut bench, "e");
    bench.compact(&policy(100 + KEEP_MS));
    assert_eq!(bench.offsets(), [1, 3, 4, 5]);
    assert_eq!(bench.headers()[1].delete_horizon_ms(), Some(100 + KEEP_MS), "a rebuilt batch keeps its horizon");
}

#[test]
fn appended_times_survive_a_horizon() {
    let mut bench = Bench::new();
    let mut draft = bench.next().tombstone(5, "a").put(6, "a2", "1").put(6, "b", "1");
    (draft.attributes, draft.max_timestamp) = (LOG_APPEND_TIME, Some(77));
    bench.append(draft);
    let draft = bench.next().put(80, "b", "2");
    bench.append(draft);
    bench.seal();
    bench.compact(&policy(100));
    let times: Vec<(i64, i64)> = records(&mut bench.log).iter().map(|r| (r.offset, r.timestamp)).collect();
    assert_eq!(times, [(0, 77), (1, 77), (3, 80)]);
}

#[test]
fn an_aborted_transaction_goes_and_its_marker_after_it() {
    let mut bench = Bench::new();
    let a = |at: i64| Draft::at(at).put(1, "a", "x");
    bench.append(a(0));
    bench.append(a(1).producer(7, 0).transactional());
    bench.append(Draft::marker(2, 7, false, 2));
    bench.append(Draft::at(3).producer(7, 1).transactional().put(3, "b", "committed"));
    bench.append(Draft::marker(4, 7, true, 4));
    bench.aborted = vec![AbortedRange { producer_id: 7, first_offset: 1, last_offset: 2 }];
    bench.seal();
    bench.compact(&policy(100));
    assert_eq!(bench.offsets(), [0, 2, 3, 4], "the aborted record neither stays nor counts as the last of its key");
    assert!(bench.headers().iter().all(|header| header.delete_horizon_ms().is_none()));
    let more = |bench: &mut Bench, now_ms: i64| {
        let draft = bench.next().put(5, &format!("at {now_ms}"), "1");
        bench.append(draft);
        bench.seal();
        bench.compact(&policy(now_ms));
    };
    more(&mut bench, 200);
    let marker = bench.headers()[1];
    assert!(marker.is_control() && marker.delete_horizon_ms() == Some(200 + KEEP_MS), "no data is left before it");
    more(&mut bench, 199 + KEEP_MS);
    assert!(bench.offsets().contains(&2));
    more(&mut bench, 200 + KEEP_MS);
    assert!(!bench.offsets().contains(&2));
    assert!(bench.offsets().contains(&4), "a committed transaction with data keeps its marker");
}

#[test]
fn a_producers_last_batch_stays_as_a_header() {
    let mut bench = Bench::new();
    bench.append(Draft::at(0).producer(7, 0).put(1, "a", "1"));
    bench.append(Draft::at(1).producer(7, 1).put(2, "a", "2").put(3, "b", "2"));
    bench.append(Draft::at(3).producer(8, 0).put(4, "a", "3").put(5, "b", "3"));
    bench.producers = vec![LastOfProducer { producer_id: 7, epoch: 0, last_data_offset: Some(2) }];
    bench.seal();
    bench.compact(&policy(100));
    let headers = bench.headers();
    assert_eq!(headers.len(), 2);
    let empty = headers[0];
    assert_eq!((empty.size as usize, empty.record_count), (HEADER_SIZE, 0));
    assert_eq!((empty.base_offset, empty.last_offset, empty.base_sequence), (1, 2, 1));
    assert_eq!(bench.offsets(), [3, 4]);
    bench.producers.clear();
    let draft = bench.next().put(6, "c", "1");
    bench.append(draft);
    bench.seal();
    bench.compact(&policy(200));
    assert_eq!(bench.headers().len(), 2, "once the producer is forgotten, its header goes");
}

#[test]
fn what_is_young_or_not_stable_is_left_alone() {
    let mut bench = Bench::new();
    for at in 0..4 {
        bench.append(Draft::at(at).put(at * 100, "a", "v"));
        bench.seal();
    }
    bench.append(Draft::at(4).put(400, "a", "v"));
    let before = bench.offsets();
    assert!(!bench.log.compaction_due(&CompactionPolicy { upto_offset: 0, ..policy(500) }));
    assert!(!bench.log.compaction_due(&CompactionPolicy { min_lag_ms: 501, ..policy(500) }));
    assert_eq!(bench.plan(&CompactionPolicy { min_lag_ms: 501, ..policy(500) }), None);
    assert_eq!(bench.offsets(), before);
    bench.compact(&CompactionPolicy { min_lag_ms: 300, ..policy(500) });
    assert_eq!(bench.offsets(), [2, 3, 4], "segments up to 200 are old enough");
    bench.compact(&CompactionPolicy { upto_offset: 3, ..policy(500) });
    assert_eq!(bench.offsets(), [2, 3, 4]);
    bench.compact(&CompactionPolicy { upto_offset: 4, ..policy(500) });
    assert_eq!(bench.offsets(), [3, 4]);
}

#[test]
fn a_log_is_due_by_its_dirty_share_or_by_age() {
    let mut bench = Bench::new();
    for at in 0..8 {
        bench.append(Draft::at(at).put(at, &format!("key {at}"), "v"));
        bench.seal();
    }
    bench.compact(&policy(100));
    bench.append(Draft::at(8).put(50, "key 8", "v"));
    bench.seal();
    let share = |ppm| CompactionPolicy { dirty_ratio_ppm: ppm, ..policy(100) };
    assert!(bench.log.compaction_due(&share(100_000)));
    assert!(!bench.log.compaction_due(&share(120_000)), "one ninth is dirty");
    assert!(bench.log.compaction_due(&CompactionPolicy { max_lag_ms: 49, ..share(1_000_000) }));
    assert!(!bench.log.compaction_due(&CompactionPolicy { max_lag_ms: 50, ..share(1_000_000) }));
}

/// Many keys over many segments, in one step and in many, with memory for all keys and for few.
#[test]
fn steps_of_any_size_end_the_same() {
    let run = |step_bytes_max: u64, key_bytes_max: u64| {
        let mut bench = Bench::new();
        bench.log.set_config(SMALL);
        for n in 0..60i64 {
            let at = bench.log.next_offset();
            let draft = Draft::at(at).put(n, &format!("k{}", n % 7), "v").put(n, &format!("l{}", n % 11), "w");
            let draft = if n % 4 == 0 { draft.producer(n % 3, 0).transactional() } else { draft };
            bench.append(draft);
            if n % 4 == 0 && n % 8 == 0 {
                let marker = Draft::marker(bench.log.next_offset(), n % 3, n % 16 == 0, n);
                bench.append(marker);
            }
        }
        bench.seal();
        let steps = bench.compact(&CompactionPolicy { step_bytes_max, key_bytes_max, ..policy(100) });
        let manifest = bench.log.manifest().unwrap();
        assert_eq!(manifest.cleaned.round, None);
        (steps, manifest.cleaned.first_dirty, records(&mut bench.log))
    };
    let (one, end, kept) = run(u64::MAX, u64::MAX);
    assert_eq!(one, 1);
    let keys: std::collections::BTreeSet<&[u8]> = kept.iter().filter_map(|record| record.key.as_deref()).collect();
    assert_eq!(keys.len(), 7 + 11 + 2, "keys, and the two kinds of markers");
    let (many, end_too, kept_too) = run(1, u64::MAX);
    assert!(many > 5);
    assert_eq!((end, &kept), (end_too, &kept_too));
    let (rounds, end_too, kept_too) = run(u64::MAX, 5 * 70);
    assert!(rounds > 5, "few keys fit, so it takes more rounds");
    assert_eq!(end, end_too);
    let of_keys = |kept: &[Record]| {
        kept.iter().filter(|record| record.key.as_ref().unwrap().len() < 4).cloned().collect::<Vec<_>>()
    };
    assert_eq!(of_keys(&kept), of_keys(&kept_too));
}

#[test]
fn a_segment_of_which_nothing_stays_goes() {
    let mut bench = Bench::new();
    bench.log.set_config(LogConfig { segment_bytes: 1, ..SMALL });
    for at in 0..5 {
        bench.append(Draft::at(at).put(at, "a", "v"));
    }
    bench.compact(&policy(100));
    assert_eq!(bench.log.segments().map(|facts| facts.base_offset).collect::<Vec<_>>(), [3, 4]);
    let slice = bench.log.read(0, 1, true, 5).unwrap().unwrap();
    assert_eq!((slice.first_offset, slice.next_offset), (3, 4), "a reader from the start finds the first that is left");
    let (saved, sync) = bench.log.checkpoint().unwrap();
    sync.sync().unwrap();
    bench.log.release(&saved).unwrap();
    let logs: Vec<String> = folder(&bench.disk).into_keys().filter(|name| name.ends_with(".log")).collect();
    assert_eq!(logs, ["00000000000000000003.1.log", "00000000000000000004.log"]);
}

#[test]
fn small_segments_are_joined() {
    let mut bench = Bench::new();
    for at in 0..6 {
        bench.append(Draft::at(at).put(at, &format!("{at}"), "v"));
        bench.seal();
    }
    let size = bench.log.segments().next().unwrap().length;
    bench.log.set_config(LogConfig { segment_bytes: size * 4, ..SMALL });
    bench.compact(&policy(100));
    let lengths: Vec<u64> = bench.log.segments().map(|facts| facts.length).collect();
    assert_eq!(lengths, [size * 4, size * 2, 0]);
    assert_eq!(bench.offsets(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(bench.log.max_timestamp(), Some((5, 5)));
}

#[test]
fn a_plan_is_whole_in_itself_and_dies_with_its_inputs() {
    let mut bench = Bench::new();
    for at in 0..4 {
        bench.append(Draft::at(at).put(at, "a", "v").producer(3, at as i32));
        bench.seal();
    }
    bench.producers = vec![
        LastOfProducer { producer_id: 3, epoch: 0, last_data_offset: Some(3) },
        LastOfProducer { producer_id: 4, epoch: 1, last_data_offset: None },
    ];
    bench.aborted = vec![AbortedRange { producer_id: 3, first_offset: 9, last_offset: 10 }];
    let plan = bench.plan(&policy(100)).unwrap();
    let mut bytes = Vec::new();
    plan.encode(&mut bytes);
    assert_eq!(CompactionPlan::decode(&bytes).as_ref(), Ok(&plan));
    (0..bytes.len()).for_each(|cut| assert!(CompactionPlan::decode(&bytes[..cut]).is_err(), "cut at {cut}"));
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] = 0xff;
        // What still decodes is another plan of this log, which finds no such files, or none that it could swap.
        if let Ok(bad) = CompactionPlan::decode(&bad) {
            let _ = bad.run(&bench.disk.fork(), DIR, &Plain);
        }
    }

    let before = folder(&bench.disk);
    let compacted = plan.run(&bench.disk, DIR, &Plain).unwrap();
    assert!(folder(&bench.disk).keys().any(|name| name.ends_with(".cleaned")));
    bench.log.delete_records(1).unwrap();
    assert!(!bench.log.is_current(&plan));
    assert_eq!(bench.log.swap(&plan, compacted), Ok(false));
    assert_eq!(folder(&bench.disk), before, "what was written is gone, and nothing else");
    assert_eq!(bench.log.compact(&plan, &Plain), Ok(None));

    let other = bench.plan(&policy(100)).unwrap();
    let compacted = other.run(&bench.disk, DIR, &Plain).unwrap();
    assert!(matches!(bench.log.swap(&plan, compacted), Err(LogError::ApiMisuse(_))));
    bench.log.compact(&other, &Plain).unwrap().unwrap();
    assert_eq!(bench.offsets(), [3]);
}

#[test]
fn a_damaged_input_is_not_compacted() {
    let mut bench = Bench::new();
    bench.append(Draft::at(0).put(0, "a", "1").put(0, "b", "1"));
    bench.append(Draft::at(2).put(0, "a", "2"));
    bench.seal();
    let name = bench.log.segments().next().unwrap().file_name();
    let length = bench.log.segments().next().unwrap().length;
    let plan = bench.plan(&policy(100)).unwrap();
    for at in 0..length {
        let disk = bench.disk.fork();
        assert!(disk.flip(&format!("{DIR}/{name}"), at, (at % 8) as u8));
        let refused = plan.run(&disk, DIR, &Plain);
        assert!(
            matches!(refused, Err(LogError::Corrupt { .. })),
            "byte {at}: a sum would be made anew over the damage"
        );
    }
}

#[test]
fn reopened_in_the_middle_of_a_round_it_goes_on() {
    let run = |reopen: bool| {
        let mut bench = Bench::new();
        bench.log.set_config(SMALL);
        for n in 0..40i64 {
            let draft = bench.next().put(n, &format!("k{}", n % 5), &"v".repeat(50));
            bench.append(draft);
        }
        let mut steps = 0;
        let policy = CompactionPolicy { step_bytes_max: 1, ..policy(100) };
        while let Some(plan) = bench.plan(&policy) {
            bench.log.compact(&plan, &Plain).unwrap().unwrap();
            steps += 1;
            if reopen {
                let (manifest, sync) = bench.log.checkpoint().unwrap();
                sync.sync().unwrap();
                bench.disk.crash(verity_storage::disk::Crash::LoseAll);
                bench.log = Log::open(Arc::new(bench.disk.clone()), DIR.to_owned(), SMALL, &manifest).unwrap();
            }
        }
        assert!(steps > 3);
        let (manifest, sync) = bench.log.checkpoint().unwrap();
        sync.sync().unwrap();
        bench.log.release(&manifest).unwrap();
        (manifest, folder(&bench.disk))
    };
    assert_eq!(run(false), run(true));
}

#[test]
fn what_lies_behind_the_known_keys_is_left_for_the_next_round() {
    let mut bench = Bench::new();
    let draft = bench.next().put(1, "a", "1").put(2, "a", "2").put(3, "b", "1").record(4, None, Some("no key"));
    bench.append(draft);
    bench.seal();
    let few = CompactionPolicy { key_bytes_max: 1, ..policy(100) };
    let plan = bench.plan(&few).unwrap();
    bench.log.compact(&plan, &Plain).unwrap().unwrap();
    assert_eq!(bench.offsets(), [1, 2, 3]);
    assert_eq!(bench.compact(&few), 1);
    assert_eq!(bench.offsets(), [1, 2]);
}

#[test]
fn a_round_that_retention_overtakes_is_over() {
    let mut bench = Bench::new();
    for at in 0..6 {
        bench.append(Draft::at(at).put(at, "a", "v"));
        bench.seal();
    }
    let small = CompactionPolicy { step_bytes_max: 1, ..policy(100) };
    let plan = bench.plan(&small).unwrap();
    bench.log.compact(&plan, &Plain).unwrap().unwrap();
    bench.log.delete_records(6).unwrap();
    assert!(!bench.log.compaction_due(&small));
    for at in 6..8 {
        bench.append(Draft::at(at).put(at, "a", "v"));
        bench.seal();
    }
    assert!(bench.compact(&small) > 0);
    assert_eq!(bench.offsets(), [7]);
}
