//! One suite for every engine, and engines against each other.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::disk::{Crash, Disk, Faults, FaultyDisk, MemoryDisk, RealDisk};

const A: Keyspace = Keyspace("a");
const B: Keyspace = Keyspace("b");
const ALL: KeyRange<'static> = (Bound::Unbounded, Bound::Unbounded);

fn redb(disk: &dyn Disk) -> RedbKv {
    RedbKv::open(disk, &RedbConfig { cache_size: 1 << 20, ..RedbConfig::default() }).unwrap()
}

fn batch(pairs: &[(&'static str, &'static str)]) -> Batch {
    let mut batch = Batch::new();
    pairs.iter().for_each(|(key, value)| batch.put(A, *key, *value));
    batch
}

fn pairs(pairs: &[(&'static str, &'static str)]) -> Vec<Pair> {
    pairs.iter().map(|(key, value)| (Bytes::from(*key), Bytes::from(*value))).collect()
}

/// What every engine must do.
fn conforms(kv: &dyn Kv) {
    assert_eq!(kv.get(A, b"k").unwrap(), None, "an unknown keyspace is empty");
    assert_eq!(kv.scan(A, ALL, Direction::Forward, 9).unwrap(), []);
    kv.write(&batch(&[("a", "1"), ("b", "2"), ("c", "3"), ("", "empty")])).unwrap();
    assert_eq!(kv.get(A, b"b").unwrap().unwrap(), "2");
    assert_eq!(kv.get(A, b"").unwrap().unwrap(), "empty");
    assert_eq!(kv.get(B, b"b").unwrap(), None, "keyspaces are apart");

    let from_b = (Bound::Included(&b"b"[..]), Bound::Unbounded);
    assert_eq!(kv.scan(A, from_b, Direction::Forward, 9).unwrap(), pairs(&[("b", "2"), ("c", "3")]));
    assert_eq!(kv.scan(A, from_b, Direction::Backward, 1).unwrap(), pairs(&[("c", "3")]));
    let below_b = (Bound::Excluded(&b""[..]), Bound::Excluded(&b"b"[..]));
    assert_eq!(kv.scan(A, below_b, Direction::Forward, 9).unwrap(), pairs(&[("a", "1")]));
    assert_eq!(kv.scan(A, ALL, Direction::Backward, 0).unwrap(), []);
    for nothing in [
        (Bound::Included(&b"c"[..]), Bound::Included(&b"a"[..])),
        (Bound::Excluded(&b"b"[..]), Bound::Excluded(&b"b"[..])),
        (Bound::Included(&b"b"[..]), Bound::Excluded(&b"b"[..])),
    ] {
        assert_eq!(kv.scan(A, nothing, Direction::Forward, 9).unwrap(), []);
        let mut batch = Batch::new();
        batch.delete_range(A, nothing);
        kv.write(&batch).unwrap();
    }

    let view = kv.snapshot().unwrap();
    let mut changes = batch(&[("b", "20"), ("d", "4")]);
    changes.delete(A, "a");
    changes.put(B, "b", "other");
    changes.put(A, "e", "5");
    changes.delete_range(A, (Bound::Included(b"c"), Bound::Included(b"d")));
    changes.put(A, "d", "after");
    assert_eq!((changes.len(), changes.is_empty()), (7, false));
    kv.write(&changes).unwrap();
    let now = pairs(&[("", "empty"), ("b", "20"), ("d", "after"), ("e", "5")]);
    assert_eq!(kv.scan(A, ALL, Direction::Forward, 9).unwrap(), now);
    assert_eq!(kv.get(B, b"b").unwrap().unwrap(), "other");
    let then = pairs(&[("", "empty"), ("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(view.scan(A, ALL, Direction::Forward, 9).unwrap(), then, "a view does not change");
    assert_eq!(view.get(B, b"b").unwrap(), None);
    kv.flush().unwrap();
    kv.write(&Batch::new()).unwrap();
    assert_eq!(kv.scan(A, ALL, Direction::Forward, 9).unwrap(), now);
}

#[test]
fn memory_conforms() {
    conforms(&MemoryKv::new());
}

#[test]
fn redb_conforms_in_memory_and_on_a_real_disk() {
    conforms(&redb(&MemoryDisk::new()));
    let folder = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(folder.path()).unwrap();
    let kv = redb(&disk);
    conforms(&kv);
    assert!(matches!(RedbKv::open(&disk, &RedbConfig::default()), Err(Error::InUse { .. })));
    drop(kv);
    assert_eq!(redb(&disk).get(A, b"e").unwrap().unwrap(), "5");
}

#[test]
fn a_crash_keeps_what_was_flushed_and_a_whole_number_of_batches() {
    let mut kept = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let disk = MemoryDisk::new();
        let kv = redb(&disk);
        kv.write(&batch(&[("a", "1"), ("b", "1")])).unwrap();
        kv.flush().unwrap();
        kv.write(&batch(&[("a", "2"), ("b", "2")])).unwrap();
        let flushing = seed % 3 == 0;
        if flushing {
            kv.flush().unwrap();
        }
        disk.crash([Crash::LoseAll, Crash::Prefix(seed), Crash::Subset(seed), Crash::KeepAll][(seed / 3 % 4) as usize]);
        drop(kv);
        let kv = redb(&disk);
        let (a, b) = (kv.get(A, b"a").unwrap().unwrap(), kv.get(A, b"b").unwrap().unwrap());
        assert_eq!(a, b, "seed {seed}");
        assert!(!flushing || a == "2", "seed {seed}");
        kept.insert(a);
    }
    assert_eq!(kept.len(), 2, "some crashes lose the unflushed batch");
}

#[test]
fn a_failed_sync_keeps_its_kind_and_poisons() {
    let disk = FaultyDisk::new(Arc::new(MemoryDisk::new()));
    let kv = redb(&disk);
    kv.write(&batch(&[("a", "1")])).unwrap();
    disk.set_faults(Faults { sync_fails_at: Some(disk.counts().syncs + 1), ..Faults::default() });
    let first = kv.flush().unwrap_err();
    assert!(matches!(&first, Error::Io { op: "sync", path, .. } if path == "state.redb"), "{first}");
    disk.set_faults(Faults::default());
    assert_eq!(kv.flush(), Err(Error::Poisoned { cause: first.to_string() }));
    assert!(matches!(kv.get(A, b"a"), Err(Error::Poisoned { .. })));
}

#[test]
fn the_canary_of_a_lying_sync_is_caught() {
    let memory = MemoryDisk::new();
    let disk = FaultyDisk::new(Arc::new(memory.clone()));
    let kv = redb(&disk);
    disk.set_faults(Faults { sync_is_a_lie: true, ..Faults::default() });
    kv.write(&batch(&[("a", "1")])).unwrap();
    kv.flush().unwrap();
    memory.crash(Crash::LoseAll);
    drop(kv);
    let held = RedbKv::open(&memory, &RedbConfig::default()).and_then(|kv| kv.get(A, b"a"));
    assert_ne!(held, Ok(Some(Bytes::from("1"))));
}

#[test]
fn damage_at_rest_is_refused_or_harmless() {
    let disk = MemoryDisk::new();
    let kv = redb(&disk);
    for number in 0_u32..200 {
        let mut batch = Batch::new();
        batch.put(A, number.to_be_bytes().to_vec(), vec![7; 60]);
        kv.write(&batch).unwrap();
    }
    drop(kv);
    let all = |kv: &RedbKv| kv.scan(A, ALL, Direction::Forward, 1000).unwrap();
    let sound = all(&redb(&disk));
    let size = disk.used();
    let (mut refused, mut harmless) = (0, 0);
    for offset in (0..512).chain((512..size).step_by(4099)) {
        let damaged = disk.fork();
        assert!(damaged.flip("state.redb", offset, (offset % 8) as u8));
        match RedbKv::open(&damaged, &RedbConfig::default()) {
            Err(_) => refused += 1,
            Ok(kv) => {
                assert_eq!(all(&kv), sound, "byte {offset}");
                harmless += 1;
            }
        }
    }
    assert!(refused > 0 && harmless > 0, "{refused} refused, {harmless} harmless");
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    let key = || prop::collection::vec(0_u8..4, 0..3);
    prop_oneof![Just(Bound::Unbounded), key().prop_map(Bound::Included), key().prop_map(Bound::Excluded)]
}

fn change() -> impl Strategy<Value = Change> {
    let key = || prop::collection::vec(0_u8..4, 0..3).prop_map(Bytes::from);
    let keyspace = || prop_oneof![Just(A), Just(B)];
    let value = prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    prop_oneof![
        6 => (keyspace(), key(), value).prop_map(|(keyspace, key, value)| Change::Put { keyspace, key, value }),
        2 => (keyspace(), key()).prop_map(|(keyspace, key)| Change::Delete { keyspace, key }),
        1 => (keyspace(), bound(), bound()).prop_map(|(keyspace, from, to)| {
            Change::DeleteRange { keyspace, from: from.map(Bytes::from), to: to.map(Bytes::from) }
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn redb_agrees_with_memory(
        batches in prop::collection::vec((prop::collection::vec(change(), 1..8), bound(), bound(), 0_usize..6), 1..12),
    ) {
        let disk = MemoryDisk::new();
        let (memory, mut kv) = (MemoryKv::new(), redb(&disk));
        let mut views: Vec<(Box<dyn KvRead>, Box<dyn KvRead>)> = Vec::new();
        for (number, (changes, from, to, limit)) in batches.into_iter().enumerate() {
            let batch = Batch { changes };
            memory.write(&batch).unwrap();
            kv.write(&batch).unwrap();
            let range = (from.as_ref().map(|key| &key[..]), to.as_ref().map(|key| &key[..]));
            for (keyspace, direction) in [(A, Direction::Forward), (B, Direction::Backward)] {
                prop_assert_eq!(
                    memory.scan(keyspace, range, direction, limit).unwrap(),
                    kv.scan(keyspace, range, direction, limit).unwrap()
                );
            }
            views.push((memory.snapshot().unwrap(), kv.snapshot().unwrap()));
            if number % 5 == 4 {
                views.clear();
                kv.flush().unwrap();
                drop(kv);
                kv = redb(&disk);
            }
        }
        for (one, two) in &views {
            for keyspace in [A, B] {
                let all = |view: &dyn KvRead| view.scan(keyspace, ALL, Direction::Forward, 1000).unwrap();
                prop_assert_eq!(all(&**one), all(&**two));
            }
        }
    }
}
