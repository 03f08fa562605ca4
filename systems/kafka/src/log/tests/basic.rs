//! Appending, sealing, reading, letting go.

use std::sync::Arc;

use verity_storage::{Disk, MemoryDisk};

use super::rig::{DIR, Draft, SMALL, fill, folder, log_on, read_all, split};
use crate::log::{BatchHeader, CONTROL, HEADER_SIZE, Log, LogConfig, LogError, Slice, TRANSACTIONAL};

fn end(slice: Option<Slice>) -> Option<(i64, i64, usize)> {
    slice.map(|slice| (slice.first_offset, slice.next_offset, split(&slice.bytes().unwrap()).len()))
}

#[test]
fn a_header_is_read_field_by_field() {
    let draft = Draft::at(7).epoch(3).producer(9, 4).transactional().put(100, "a", "x").put(90, "b", "y");
    let batch = draft.build();
    let header = BatchHeader::check(&batch).unwrap();
    assert_eq!((header.base_offset, header.last_offset, header.record_count), (7, 8, 2));
    assert_eq!((header.leader_epoch, header.base_timestamp, header.max_timestamp), (3, 100, 100));
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 0, 4));
    assert!(header.is_transactional() && !header.is_control() && header.delete_horizon_ms().is_none());
    for at in 0..batch.len() {
        let mut bad = batch.clone();
        bad[at] ^= 1;
        let outside = at < 8 || (12..16).contains(&at);
        assert_eq!(BatchHeader::check(&bad).is_ok(), outside, "the checksum covers byte {at}, or a field says so");
    }
    (0..batch.len()).for_each(|cut| assert!(BatchHeader::check(&batch[..cut]).is_err()));
    assert!(BatchHeader::parse(&[0xff; HEADER_SIZE]).is_err());
}

#[test]
fn an_emptied_batch_keeps_its_place_and_its_producer() {
    let header = BatchHeader::check(&Draft::marker(5, 9, true, 70).build()).unwrap();
    let empty = BatchHeader::check(&header.emptied()).unwrap();
    assert_eq!(empty.size as usize, HEADER_SIZE);
    assert_eq!((empty.base_offset, empty.last_offset, empty.record_count), (5, 5, 0));
    assert_eq!((empty.producer_id, empty.max_timestamp, empty.base_timestamp), (9, 70, 70));
    assert_eq!(empty.attributes, TRANSACTIONAL | CONTROL);
}

#[test]
fn segments_are_called_as_kafka_calls_them_and_hold_the_batches_untouched() {
    let disk = MemoryDisk::new();
    let mut log = log_on(&disk, SMALL);
    assert!(folder(&disk).is_empty(), "an empty log has no file");
    let batches = fill(&mut log, 10, 0);
    log.flush().unwrap();
    let bases: Vec<i64> = log.segments().map(|facts| facts.base_offset).collect();
    assert!(bases.len() >= 3 && bases[0] == 0, "{bases:?}");
    let names: Vec<String> = folder(&disk).into_keys().filter(|name| name.ends_with(".log")).collect();
    assert_eq!(names, bases.iter().map(|base| format!("{base:020}.log")).collect::<Vec<_>>());
    let logs = folder(&disk).into_iter().filter(|(name, _)| name.ends_with(".log"));
    assert_eq!(logs.flat_map(|(_, bytes)| bytes).collect::<Vec<u8>>(), batches.concat());
    assert_eq!(log.size_bytes(), batches.concat().len() as u64);
    assert!(log.segments().all(|facts| facts.length <= SMALL.segment_bytes));
}

#[test]
fn appends_of_one_apply_are_one_write() {
    let disk = verity_storage::FaultyDisk::new(Arc::new(MemoryDisk::new()));
    let mut log = Log::create(Arc::new(disk.clone()), DIR.to_owned(), LogConfig::default()).unwrap();
    fill(&mut log, 50, 0);
    assert_eq!(disk.counts().writes, 0);
    log.flush().unwrap();
    log.flush().unwrap();
    assert_eq!(disk.counts().writes, 1);
    let large = Draft::at(100).put(0, "k", &"x".repeat(1 << 20)).build();
    log.append(&large, 0).unwrap();
    assert_eq!(
        (disk.counts().writes, disk.counts().syncs),
        (3, 0),
        "a large batch is not copied first, and its header is written apart"
    );
    assert_eq!(read_all(&mut log, 4096).len(), 51);
}

#[test]
fn a_segment_is_sealed_by_time_and_by_offsets() {
    let config = LogConfig { segment_ms: 100, ..LogConfig::default() };
    let mut log = log_on(&MemoryDisk::new(), config);
    let mut append = |timestamp: i64, now_ms: i64| {
        let at = log.next_offset();
        log.append(&Draft::at(at).put(timestamp, "k", "v").build(), now_ms).unwrap().rolled
    };
    assert!(!append(1000, 1));
    assert!(!append(1100, 9_000), "the caller's time does not count where records have their own");
    assert!(append(1101, 9_000));
    assert!(append(5000, 9_001));
    assert!(!append(-1, 9_002), "a batch without a time cannot be younger");
    log.roll().unwrap();
    log.roll().unwrap();
    let mut append = |now_ms: i64| {
        let at = log.next_offset();
        log.append(&Draft::at(at).put(-1, "k", "v").build(), now_ms).unwrap().rolled
    };
    assert!(!append(20_000));
    assert!(!append(20_100));
    assert!(append(20_101), "records without a time are aged by the caller's");
    let mut far = Draft::at(log.next_offset());
    far.last_offset = far.base_offset + i64::from(i32::MAX);
    assert!(log.append(&far.build(), 20_101).unwrap().rolled, "offsets fit 31 bits from a segment's base");
    log.invariants();
}

#[test]
fn what_is_no_batch_at_the_end_is_the_callers_mistake() {
    let mut log = log_on(&MemoryDisk::new(), SMALL);
    fill(&mut log, 3, 5);
    let sound = Draft::at(6).epoch(5).put(1, "k", "v").build();
    let before = log.manifest().unwrap();
    let mut wrong_sum = sound.clone();
    wrong_sum[40] ^= 1;
    let wrong = [
        Draft::at(5).epoch(5).put(1, "k", "v").build(),
        Draft::at(7).epoch(5).put(1, "k", "v").build(),
        Draft::at(6).epoch(4).put(1, "k", "v").build(),
        sound[..sound.len() - 1].to_vec(),
        [sound.clone(), vec![0]].concat(),
        wrong_sum,
        Vec::new(),
    ];
    for batch in wrong {
        assert!(matches!(log.append(&batch, 0), Err(LogError::ApiMisuse(_))), "{batch:?}");
    }
    assert_eq!(log.manifest().unwrap(), before);
    log.append(&sound, 0).unwrap();
}

#[test]
fn a_read_gives_whole_batches_from_the_one_that_holds_the_offset() {
    let mut log = log_on(&MemoryDisk::new(), LogConfig { segment_bytes: 1 << 20, ..SMALL });
    let size = fill(&mut log, 40, 0)[10].len();
    assert_eq!(end(log.read(20, size * 3, true, 80).unwrap()), Some((20, 26, 3)));
    assert_eq!(end(log.read(21, size * 4 - 1, true, 80).unwrap()), Some((20, 26, 3)), "it begins before the offset");
    assert_eq!(end(log.read(20, 1, true, 80).unwrap()), Some((20, 22, 1)), "one batch at least");
    assert_eq!(end(log.read(20, 1, false, 80).unwrap()), None);
    assert_eq!(end(log.read(20, 1 << 20, true, 30).unwrap()), Some((20, 30, 5)), "not beyond what may be read");
    assert_eq!(end(log.read(20, 1 << 20, true, 31).unwrap()), Some((20, 30, 5)), "not a part of a batch");
    assert_eq!(end(log.read(20, 1 << 20, true, 21).unwrap()), None);
    assert_eq!(end(log.read(20, 1 << 20, true, 20).unwrap()), None);
    assert_eq!(end(log.read(80, 1 << 20, true, 80).unwrap()), None, "the end is in range");
    let out = log.read(81, 1, true, 80).unwrap_err();
    assert_eq!(out, LogError::OutOfRange { offset: 81, log_start: 0, next_offset: 80 });
    assert!(matches!(log.read(-1, 1, true, 80), Err(LogError::OutOfRange { .. })));
}

#[test]
fn a_tailing_reader_scans_nothing() {
    let disk = verity_storage::FaultyDisk::new(Arc::new(MemoryDisk::new()));
    let config = LogConfig { index_interval_bytes: u32::MAX, ..LogConfig::default() };
    let mut log = Log::create(Arc::new(disk.clone()), DIR.to_owned(), config).unwrap();
    fill(&mut log, 2000, 0);
    let read = |log: &mut Log, from: i64| {
        let before = disk.counts().reads;
        let slice = log.read(from, 1 << 20, true, i64::MAX).unwrap().unwrap();
        (slice.next_offset, disk.counts().reads - before)
    };
    assert!(read(&mut log, 3998).1 > 10, "without an index the first read scans");
    fill(&mut log, 1, 0);
    assert_eq!(read(&mut log, 4000), (4002, 1));
    assert_eq!(read(&mut log, 4000), (4002, 1), "nor does a second reader behind it");
    assert!(read(&mut log, 3000).1 > 10);
    fill(&mut log, 1, 0);
    assert_eq!(read(&mut log, 4002), (4004, 1), "another reader does not take its place");
}

#[test]
fn times_are_found() {
    let mut log = log_on(&MemoryDisk::new(), SMALL);
    fill(&mut log, 30, 0);
    log.append(&Draft::at(60).put(5, "late", "v").build(), 0).unwrap();
    let mut find = |timestamp, from, upto| {
        log.batch_for_timestamp(timestamp, from, upto).unwrap().map(|slice| (slice.first_offset, slice.next_offset))
    };
    assert_eq!(find(0, 0, 61), Some((0, 2)));
    assert_eq!(find(100, 0, 61), Some((10, 12)), "the batch of 100 and 110");
    assert_eq!(find(111, 0, 61), Some((12, 14)));
    assert_eq!(find(111, 30, 61), Some((30, 32)));
    assert_eq!(find(1, 60, 61), Some((60, 61)), "an old record behind young ones");
    assert_eq!(find(590, 0, 61), Some((58, 60)));
    assert_eq!(find(591, 0, 61), None);
    assert_eq!(find(111, 0, 13), None, "not beyond what may be read");
    assert_eq!(log.max_timestamp(), Some((590, 59)));
    log.retain(1000, -1, 0).unwrap();
    assert_eq!(log.max_timestamp(), None);
    let at = log.next_offset();
    log.append(&Draft::at(at).put(-1, "k", "v").build(), 0).unwrap();
    assert_eq!(log.max_timestamp(), None, "no record has a time");
}

#[test]
fn epochs_end_where_the_next_begins() {
    let mut log = log_on(&MemoryDisk::new(), SMALL);
    assert_eq!(log.epoch_end_offset(0), None);
    fill(&mut log, 5, 1);
    fill(&mut log, 5, 4);
    assert_eq!(log.epoch_end_offset(1), Some((1, 10)));
    assert_eq!(log.epoch_end_offset(3), Some((1, 10)));
    assert_eq!(log.epoch_end_offset(4), Some((4, 20)));
    assert_eq!(log.epoch_end_offset(5), None);
    log.delete_records(12).unwrap();
    assert_eq!(log.epoch_end_offset(1), Some((1, 12)), "where what is known begins");
}

#[test]
fn records_are_deleted_by_whole_segments() {
    let mut log = log_on(&MemoryDisk::new(), SMALL);
    fill(&mut log, 20, 0);
    let bases: Vec<i64> = log.segments().map(|facts| facts.base_offset).collect();
    assert_eq!(log.delete_records(bases[2] + 1), Ok(bases[2] + 1));
    assert_eq!(log.segments().next().unwrap().base_offset, bases[2]);
    assert!(matches!(log.read(bases[2], 1, true, 40), Err(LogError::OutOfRange { .. })));
    let slice = log.read(bases[2] + 1, 1, true, 40).unwrap().unwrap();
    assert_eq!(slice.first_offset, bases[2], "the batch that holds the start is whole");
    assert_eq!(log.delete_records(3), Ok(bases[2] + 1), "the start never goes back");
    assert!(log.delete_records(41).is_err());
    assert_eq!(log.delete_records(40), Ok(40));
    assert_eq!(log.segments().count(), 1, "the active segment stays");
    assert!(log.segments().next().unwrap().length > 0);
    log.invariants();
    fill(&mut log, 1, 0);
    assert_eq!(end(log.read(40, 1, true, 42).unwrap()), Some((40, 42, 1)));
}

#[test]
fn retention_goes_by_age_and_by_size() {
    let mut log = log_on(&MemoryDisk::new(), SMALL);
    fill(&mut log, 20, 0);
    let facts: Vec<_> = log.segments().copied().collect();
    let second = facts[1];
    assert_eq!(log.retain(second.max_timestamp + 100, 100, -1), Ok(facts[1].base_offset), "exactly as old may stay");
    assert_eq!(log.retain(second.max_timestamp + 101, 100, -1), Ok(facts[2].base_offset));
    let size = log.size_bytes();
    let limit = i64::try_from(size - facts[2].length).unwrap();
    assert_eq!(log.retain(0, -1, limit + 1), Ok(facts[2].base_offset), "no segment may go without going below");
    assert_eq!(log.retain(0, -1, limit), Ok(facts[3].base_offset));
    assert_eq!(log.retain(0, -1, -1), Ok(facts[3].base_offset), "no limit");
    assert_eq!(log.retain(i64::MAX, 0, -1), Ok(40), "an active segment that is too old is sealed and goes");
    assert_eq!((log.segments().count(), log.size_bytes()), (1, 0));
    assert_eq!(log.retain(i64::MAX, 0, 0), Ok(40), "an empty log stays as it is");
    log.invariants();
    fill(&mut log, 1, 0);
}

#[test]
fn a_file_stays_while_a_manifest_names_it_and_a_reader_keeps_it() {
    let disk = MemoryDisk::new();
    let mut log = log_on(&disk, SMALL);
    fill(&mut log, 20, 0);
    let (before, sync) = log.checkpoint().unwrap();
    sync.sync().unwrap();
    let slice = log.read(0, 1 << 20, true, 40).unwrap().unwrap();
    let first = before.files()[0].0.clone();
    log.delete_records(30).unwrap();
    assert_eq!(log.release(&before), Ok(0));
    assert!(disk.exists(&format!("{DIR}/{first}")).unwrap());
    let (after, sync) = log.checkpoint().unwrap();
    assert_eq!(log.release(&before), Ok(0), "a manifest that is not saved yet does not count");
    sync.sync().unwrap();
    assert!(log.release(&after).unwrap() > 0);
    assert!(!disk.exists(&format!("{DIR}/{first}")).unwrap());
    assert!(after.files().iter().all(|(name, _)| disk.exists(&format!("{DIR}/{name}")).unwrap()));
    assert_eq!(slice.bytes().unwrap().len(), slice.length, "a reader that began before goes on");
}

#[test]
fn two_logs_of_the_same_batches_are_byte_identical() {
    let (one, two) = (MemoryDisk::new(), MemoryDisk::new());
    let (mut a, mut b) = (log_on(&one, SMALL), log_on(&two, SMALL));
    for _ in 0..30 {
        let at = a.next_offset();
        let batch = Draft::at(at).put(at, "k", "some value").build();
        a.append(&batch, at).unwrap();
        b.append(&batch, at).unwrap();
        b.flush().unwrap();
        let _ = b.read(0, 100, true, at).unwrap();
    }
    assert_eq!(a.manifest().unwrap(), b.manifest().unwrap());
    assert_eq!(folder(&one), folder(&two), "when it was written makes no difference");
}

#[test]
fn what_leaves_for_another_thread_may() {
    fn is_send<T: Send>() {}
    is_send::<Log>();
    is_send::<crate::log::SyncHandle>();
    is_send::<crate::log::CompactionPlan>();
    is_send::<crate::log::Compacted>();
    is_send::<Slice>();
}

#[test]
fn few_files_are_open_and_none_when_parked() {
    let mut log = log_on(&MemoryDisk::new(), SMALL);
    fill(&mut log, 60, 0);
    assert!(log.segments().count() > 10);
    assert_eq!(read_all(&mut log, 1 << 20).len(), 60);
    log.invariants();
    log.park().unwrap();
    assert!(log.handles.is_empty() && log.active.file.is_none());
    fill(&mut log, 1, 0);
    assert_eq!(read_all(&mut log, 100).len(), 61);
}
