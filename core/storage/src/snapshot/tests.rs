//! Snapshots against damage, crashes and peers.

use proptest::prelude::*;
use verity_contract::Members;
use verity_types::{NodeId, Term};

use super::*;
use crate::disk::{Crash, Faults, FaultyDisk, MemoryDisk};
use crate::identity::seal_newer;

const CLUSTER: ClusterId = ClusterId([3; 16]);
const GROUP: GroupId = GroupId(5);

fn store(disk: &(impl Disk + Clone + 'static)) -> SnapshotStore {
    SnapshotStore::open(Arc::new(disk.clone()), SnapshotConfig::default(), CLUSTER).unwrap()
}

fn meta(index: u64) -> SnapshotMeta {
    let mut members = Members::of_voters([NodeId(1), NodeId(2)]);
    members.learners.insert(NodeId(3));
    SnapshotMeta { index: LogIndex(index), term: Term(7), members, context: Bytes::from_static(b"beside") }
}

fn write(store: &SnapshotStore, index: u64, chunks: &[&[u8]]) -> Result<(), Error> {
    let mut writer = store.begin(GROUP, &meta(index))?;
    chunks.iter().try_for_each(|chunk| writer.write(chunk))?;
    writer.finish()
}

fn content(store: &SnapshotStore, index: u64) -> Vec<u8> {
    store.chunks(GROUP, LogIndex(index)).unwrap().flat_map(|chunk| chunk.unwrap()).collect()
}

#[test]
fn snapshots_round_trip_and_old_ones_go() {
    let disk = MemoryDisk::new();
    let store = store(&disk);
    assert_eq!(store.latest(GROUP, None).unwrap(), None);
    let long = vec![9; BLOCK_MAX + 10];
    for index in 1..=4 {
        write(&store, index, &[b"", b"one", &long, b"two"]).unwrap();
    }
    disk.crash(Crash::LoseAll);
    assert_eq!(store.latest(GROUP, None).unwrap(), Some(meta(4)));
    assert_eq!(store.indices(GROUP), [LogIndex(3), LogIndex(4)]);
    assert_eq!(content(&store, 4), [b"one", &long[..], b"two"].concat());
    assert_eq!(store.latest(GroupId(6), None).unwrap(), None);
    assert_eq!(store.groups(), [GROUP].into());
    store.remove(GROUP).unwrap();
    assert_eq!(store.indices(GROUP), []);
}

#[test]
fn those_behind_an_index_go_durably() {
    let disk = MemoryDisk::new();
    let store = store(&disk);
    (1..=2).for_each(|index| write(&store, index, &[b"x"]).unwrap());
    assert_eq!(store.remove_after(GROUP, LogIndex(2)).unwrap(), []);
    assert_eq!(store.remove_after(GROUP, LogIndex(1)).unwrap(), [LogIndex(2)]);
    disk.crash(Crash::LoseAll);
    assert_eq!(store.indices(GROUP), [LogIndex(1)]);
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused_and_the_one_before_is_used() {
    let disk = MemoryDisk::new();
    let before = store(&disk);
    write(&before, 1, &[b"old"]).unwrap();
    write(&before, 2, &[b"new", b"er"]).unwrap();
    let path = before.path(GROUP, LogIndex(2), DONE);
    let size = before.size(GROUP, LogIndex(2)).unwrap();
    for offset in 0..size {
        for bit in 0..8 {
            let damaged = disk.fork();
            assert!(damaged.flip(&path, offset, bit));
            let store = store(&damaged);
            assert_eq!(store.latest(GROUP, None).unwrap(), Some(meta(1)), "byte {offset} bit {bit}");
            let read: Result<Vec<Bytes>, Error> = store.chunks(GROUP, LogIndex(2)).and_then(|chunks| chunks.collect());
            assert!(matches!(read, Err(Error::Corrupt { .. })), "byte {offset} bit {bit}");
        }
        let cut = disk.fork();
        cut.open(&path).unwrap().set_size(offset).unwrap();
        assert_eq!(store(&cut).latest(GROUP, None).unwrap(), Some(meta(1)), "cut to {offset}");
    }
    let longer = disk.fork();
    longer.open(&path).unwrap().write_at(size, b"x").unwrap();
    assert_eq!(store(&longer).latest(GROUP, None).unwrap(), Some(meta(1)));
    longer.remove(&before.path(GROUP, LogIndex(1), DONE)).unwrap();
    assert!(matches!(store(&longer).latest(GROUP, None), Err(Error::Corrupt { .. })), "damage is not absence");
}

#[test]
fn a_crash_at_every_step_leaves_the_old_one_or_the_new() {
    for halt in 1..40 {
        for seed in 0..8 {
            let memory = MemoryDisk::new();
            write(&store(&memory), 1, &[b"old"]).unwrap();
            let disk = FaultyDisk::new(Arc::new(memory.clone()));
            let store_faulty = store(&disk);
            disk.set_faults(Faults { halt_at: Some(disk.counts().changes + halt), halt_keeps: 9, ..Faults::default() });
            let written = write(&store_faulty, 2, &[b"new"]);
            memory.crash(Crash::Subset(seed));
            let store = store(&memory);
            let latest = store.latest(GROUP, None).unwrap().unwrap();
            assert!(latest == meta(2) || (latest == meta(1) && written.is_err()), "halt at {halt}, seed {seed}");
            let left = memory.list("snapshots").unwrap();
            assert!(left.iter().all(|name| name.ends_with(DONE)), "{left:?}");
        }
    }
}

/// Files are written again for other snapshots, longer and shorter ones. A file that did not lose its old name before that
/// would show another group's bytes under it.
#[test]
fn a_crash_while_files_are_written_again_leaves_each_group_its_latest() {
    const GROUPS: u64 = 3;
    let content = |group: u64, index: u64| vec![(group * 16 + index) as u8; ((group * 7 + index * 13) % 40) as usize];
    let save = |store: &SnapshotStore, group: u64, index: u64| {
        let mut writer = store.begin(GroupId(group), &meta(index))?;
        writer.write(&content(group, index))?;
        writer.finish()
    };
    for halt in (1..150).step_by(2) {
        for seed in 0..4 {
            let memory = MemoryDisk::new();
            let disk = FaultyDisk::new(Arc::new(memory.clone()));
            let store_faulty = store(&disk);
            disk.set_faults(Faults { halt_at: Some(disk.counts().changes + halt), halt_keeps: 9, ..Faults::default() });
            let mut saved = [0; GROUPS as usize + 1];
            let rounds = (1..=6).flat_map(|index| (1..=GROUPS).map(move |group| (group, index)));
            for (group, index) in rounds {
                if save(&store_faulty, group, index).is_err() {
                    break;
                }
                saved[group as usize] = index;
            }
            memory.crash(Crash::Subset(seed));
            let store = store(&memory);
            for group in 1..=GROUPS {
                let (id, saved) = (GroupId(group), saved[group as usize]);
                let latest = store.latest(id, None).unwrap().map_or(0, |meta| meta.index.0);
                assert!(
                    (saved..=saved + 1).contains(&latest),
                    "halt at {halt}: group {group} has {latest}, not {saved}"
                );
                for index in store.indices(id).iter().map(|index| index.0) {
                    let read: Vec<u8> =
                        store.chunks(id, LogIndex(index)).unwrap().flat_map(|chunk| chunk.unwrap()).collect();
                    assert_eq!(read, content(group, index), "halt at {halt}: group {group}, index {index}");
                }
            }
        }
    }
}

#[test]
fn a_peer_receives_what_was_sent_and_refuses_what_was_not() {
    let sender = store(&MemoryDisk::new());
    write(&sender, 8, &[b"state", &[1; 5000]]).unwrap();
    let stream = |flip: Option<u64>, group: GroupId| {
        let disk = MemoryDisk::new();
        let receiver = store(&disk);
        let mut incoming = receiver.receive(group, LogIndex(8)).unwrap();
        let mut offset = 0;
        loop {
            let mut bytes = sender.read_at(GROUP, LogIndex(8), offset, 1000).unwrap().to_vec();
            if bytes.is_empty() {
                break;
            }
            if let Some(at) = flip.filter(|at| (offset..offset + bytes.len() as u64).contains(at)) {
                bytes[usize::try_from(at - offset).unwrap()] ^= 4;
            }
            incoming.write_at(offset, &bytes).unwrap();
            offset += bytes.len() as u64;
        }
        let result = incoming.finish();
        disk.crash(Crash::LoseAll);
        (result, receiver.latest(group, None).unwrap())
    };
    assert_eq!(stream(None, GROUP), (Ok(meta(8)), Some(meta(8))));
    assert!(matches!(stream(Some(3000), GROUP), (Err(Error::Corrupt { .. }), None)));
    assert!(matches!(stream(None, GroupId(6)), (Err(Error::Incompatible { .. }), None)));
}

#[test]
fn a_receiver_is_bounded_and_other_clusters_and_formats_are_refused() {
    let disk = MemoryDisk::new();
    let config = SnapshotConfig { size_max: 100, ..SnapshotConfig::default() };
    let bounded = SnapshotStore::open(Arc::new(disk.clone()), config, CLUSTER).unwrap();
    let mut incoming = bounded.receive(GROUP, LogIndex(1)).unwrap();
    assert!(matches!(incoming.write_at(90, &[0; 11]), Err(Error::TooLarge { size: 101, max: 100, .. })));
    assert!(matches!(incoming.write_at(u64::MAX, &[0; 2]), Err(Error::TooLarge { .. })));
    write(&bounded, 2, &[b"x"]).unwrap();
    let stranger = SnapshotStore::open(Arc::new(disk.clone()), SnapshotConfig::default(), ClusterId([9; 16])).unwrap();
    assert!(matches!(stranger.latest(GROUP, None), Err(Error::Incompatible { .. })));
    let newer = seal_newer(format::MAGIC, &[0; 56]);
    disk.create(&bounded.path(GROUP, LogIndex(3), DONE)).unwrap().write_at(0, &newer).unwrap();
    let error = store(&disk).latest(GROUP, None).unwrap_err();
    assert!(error.to_string().ends_with("written in format 2; this program reads up to 1; use a newer one"), "{error}");
}

proptest! {
    #[test]
    fn bytes_from_a_peer_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), body in any::<[u8; 80]>()) {
        let receiver = store(&MemoryDisk::new());
        for bytes in [bytes, crate::identity::seal(format::MAGIC, &body)] {
            let mut incoming = receiver.receive(GROUP, LogIndex(1)).unwrap();
            incoming.write_at(0, &bytes).unwrap();
            prop_assert!(incoming.finish().is_err());
        }
    }
}

#[test]
fn what_is_tried_out_is_a_snapshot_only_once_it_is_adopted() {
    let from = store(&MemoryDisk::new());
    write(&from, 8, &[b"state"]).unwrap();
    let disk = MemoryDisk::new();
    let to = store(&disk);
    write(&to, 5, &[b"older"]).unwrap();
    let take = || {
        let mut incoming = to.receive(GROUP, LogIndex(8)).unwrap();
        incoming.write_at(0, &from.read_at(GROUP, LogIndex(8), 0, BLOCK_MAX).unwrap()).unwrap();
        assert_eq!(incoming.try_out().unwrap(), meta(8));
        assert_eq!(
            to.tried(GROUP, LogIndex(8)).unwrap().map(|chunk| chunk.unwrap()).collect::<Vec<_>>(),
            [&b"state"[..]]
        );
        assert_eq!(to.indices(GROUP), [LogIndex(5)]);
    };
    take();
    to.reject(GROUP, LogIndex(8)).unwrap();
    assert!(to.tried(GROUP, LogIndex(8)).is_err() && to.reject(GROUP, LogIndex(8)).is_ok());
    take();
    assert_eq!(store(&disk).indices(GROUP), [LogIndex(5)], "a start knows nothing of it");
    assert!(to.adopt(GROUP, LogIndex(8)).is_err(), "and it is gone");
    take();
    to.adopt(GROUP, LogIndex(8)).unwrap();
    disk.crash(Crash::LoseAll);
    assert_eq!(store(&disk).latest(GROUP, None).unwrap(), Some(meta(8)));
}
