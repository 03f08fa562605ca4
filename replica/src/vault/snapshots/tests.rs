//! Snapshots that stand on a file, and what a crash leaves of them.

use std::sync::Mutex;

use verity_contract::{Command, Effects, Members, ReadOutcome, Record, RecordKind};
use verity_storage::disk::{Crash, Faults};
use verity_storage::{ClusterId, FaultyDisk, MemoryDisk, SnapshotConfig};
use verity_types::{Digest, Incarnation, Term};

use super::*;
use crate::lane::Lanes;
use crate::replica::{Output, Replica, ReplicaConfig};
use crate::roster::Roster;
use crate::snapshot::encode_header;

const GROUP: GroupId = GroupId(5);
const FILE: &str = "1.log";

/// Stands on one file, which is its own or came with the snapshot.
struct OnFile {
    disk: Arc<dyn Disk>,
    suffix: String,
    /// What it holds.
    bytes: Vec<u8>,
}

impl OnFile {
    fn new(disk: &(impl Disk + Clone + 'static)) -> Self {
        Self { disk: Arc::new(disk.clone()), suffix: String::new(), bytes: Vec::new() }
    }
}

impl StateMachine for OnFile {
    fn apply(&mut self, _batch: &[Command], _effects: &mut Effects) {}

    fn read(&mut self, _query: &[u8]) -> ReadOutcome {
        ReadOutcome::Ready(Bytes::new())
    }

    fn staged(&mut self, suffix: &str) {
        suffix.clone_into(&mut self.suffix);
    }

    fn snapshot_begin(&mut self) {}

    fn snapshot_next(&mut self, _size_max: usize) -> Option<Bytes> {
        None
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>) -> Result<(), RestoreError> {
        for chunk in chunks {
            chunk?;
        }
        let path = format!("{}/{FILE}{}", group_folder(GROUP), self.suffix);
        let file = self.disk.open(&path).map_err(refused)?;
        let mut bytes = vec![0; 64];
        let read = file.read_at(0, &mut bytes).map_err(refused)?;
        bytes.truncate(read);
        self.bytes = bytes;
        Ok(())
    }

    fn digest(&self) -> Digest {
        Digest::default()
    }

    fn invariants(&self) {}
}

fn vault(disk: &(impl Disk + Clone + 'static), node: u64) -> SnapshotVault {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = SnapshotStore::open(Arc::clone(&disk), SnapshotConfig::default(), ClusterId([7; 16])).unwrap();
    SnapshotVault::new(disk, store, (NodeId(node), Incarnation(1)), 1, None, BTreeMap::new())
}

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        index: LogIndex(index),
        term: Term(1),
        members: Members::of_voters([NodeId(1)]),
        ..SnapshotMeta::default()
    }
}

/// Node 1 with a snapshot at `index` of a file with these bytes.
fn sender(index: u64, bytes: &[u8]) -> SnapshotVault {
    let disk = MemoryDisk::new();
    let mut vault = vault(&disk, 1);
    let path = format!("{}/{FILE}", group_folder(GROUP));
    disk.create_dir(&group_folder(GROUP)).unwrap();
    disk.create(&path).unwrap().write_at(0, bytes).unwrap();
    let files = vec![Attachment { path, length: bytes.len() as u64 }];
    let header = encode_header(verity_types::WallMs(1), &Lanes::default(), &Roster::new(), &files, &Bytes::new());
    let attachments = Attachments { files, sync: None };
    let work = [
        SnapshotWork::Begin { group: GROUP, meta: meta(index) },
        SnapshotWork::Chunk { group: GROUP, bytes: header },
        SnapshotWork::Finish { group: GROUP, meta: meta(index), attachments },
    ];
    for work in work {
        assert!(vault.carry_out(work).error.is_none());
    }
    vault
}

/// Node `id` sends the part at `offset` of its snapshot at `index`, saying that the stream is `more` longer than it is. What
/// the receiver says of it: where to go on, and whether it came whole.
fn send_part(
    (from, id): (&mut SnapshotVault, u64),
    to: &mut SnapshotVault,
    index: u64,
    offset: u64,
    more: u64,
) -> (u64, bool) {
    let (group, from_node) = (GROUP, NodeId(id));
    let read = SnapshotWork::Read { group, to: NodeId(2), index: LogIndex(index), offset, length: 64 };
    let Some(Input::SnapshotData { file, total, bytes, .. }) = from.carry_out(read).input else { panic!("no data") };
    let (meta, message, total) = (meta(index), Bytes::from_static(b"take it"), total + more);
    let trusted = true;
    let part = SnapshotWork::Receive { group, from: from_node, meta, offset, file, total, bytes, message, trusted };
    let Some(Input::SnapshotReceived { next, complete, .. }) = to.carry_out(part).input else { panic!("no answer") };
    (next, complete.is_some())
}

/// Node 1 sends its snapshot at `index`, up to where `most` parts have come. True if it came whole.
fn send(from: &mut SnapshotVault, to: &mut SnapshotVault, index: u64, most: usize) -> bool {
    send_from((from, 1), to, index, most).1
}

fn send_from(from: (&mut SnapshotVault, u64), to: &mut SnapshotVault, index: u64, most: usize) -> (u64, bool) {
    let (from, id) = from;
    let mut offset = 0;
    for _ in 0..most {
        let (next, complete) = send_part((&mut *from, id), to, index, offset, 0);
        if complete {
            return (next, true);
        }
        offset = next;
    }
    (offset, false)
}

/// Where the file of the snapshot at `index` lies on node 2.
fn staged(index: u64) -> String {
    format!("{}/{FILE}{}", group_folder(GROUP), staged_suffix(LogIndex(index)))
}

fn indices(disk: &MemoryDisk) -> Vec<u64> {
    vault(disk, 2).store.indices(GROUP).into_iter().map(|index| index.0).collect()
}

/// What the node starts from.
fn restored(disk: &MemoryDisk, trimmed: u64) -> Result<Option<(u64, Vec<u8>)>, OpenError> {
    let mut machine = OnFile::new(disk);
    let found = vault(disk, 2).restore(GROUP, &mut machine, LogIndex(trimmed))?;
    Ok(found.map(|(meta, _)| (meta.index.0, machine.bytes)))
}

#[test]
fn what_a_peer_sent_is_there_after_a_crash() {
    let disk = MemoryDisk::new();
    assert!(send(&mut sender(9, b"nine"), &mut vault(&disk, 2), 9, usize::MAX));
    disk.crash(Crash::LoseAll);
    assert_eq!(restored(&disk, 0).unwrap(), Some((9, b"nine".to_vec())));
}

#[test]
fn a_snapshot_whose_files_made_way_is_passed_over() {
    let disk = MemoryDisk::new();
    let mut node = vault(&disk, 2);
    assert!(send(&mut sender(7, b"seven"), &mut node, 7, usize::MAX));
    assert!(send(&mut sender(9, b"nine"), &mut node, 9, usize::MAX));
    disk.remove(&staged(9)).unwrap();
    // Not if the log begins behind the older one.
    assert!(matches!(restored(&disk, 8), Err(OpenError::Restore { .. })));
    assert_eq!(indices(&disk), [7, 9]);
    let mut vault = vault(&disk, 2);
    let (meta, _) = vault.restore(GROUP, &mut OnFile::new(&disk), LogIndex(7)).unwrap().expect("there is one");
    assert_eq!(meta.index, LogIndex(7));
    let told = vault.take_passed_over();
    assert!(matches!(&told[..], [line] if line.contains("snapshot at 7") && line.contains("at 9: ")), "{told:?}");
    disk.crash(Crash::LoseAll);
    assert_eq!(indices(&disk), [7], "and it is gone");
    assert_eq!(restored(&disk, 7).unwrap(), Some((7, b"seven".to_vec())));
}

#[test]
fn a_damaged_snapshot_is_removed_with_what_came_with_it() {
    let disk = MemoryDisk::new();
    let mut node = vault(&disk, 2);
    assert!(send(&mut sender(7, b"seven"), &mut node, 7, usize::MAX));
    assert!(send(&mut sender(9, b"nine"), &mut node, 9, usize::MAX));
    assert!(disk.flip(&format!("snapshots/{:016x}-{:016x}.snap", GROUP.0, 9), 70, 0));
    assert_eq!(restored(&disk, 7).unwrap(), Some((7, b"seven".to_vec())));
    assert_eq!(indices(&disk), [7]);
    assert!(disk.exists(&staged(7)).unwrap() && !disk.exists(&staged(9)).unwrap());
}

#[test]
fn a_disk_that_fails_costs_no_snapshot() {
    let memory = MemoryDisk::new();
    let mut node = vault(&memory, 2);
    assert!(send(&mut sender(7, b"seven"), &mut node, 7, usize::MAX));
    assert!(send(&mut sender(9, b"nine"), &mut node, 9, usize::MAX));
    let faulty = FaultyDisk::new(Arc::new(memory.clone()));
    let restore = || vault(&faulty, 2).restore(GROUP, &mut OnFile::new(&faulty), LogIndex(0));
    let before = faulty.counts().reads;
    assert!(restore().is_ok());
    let reads = faulty.counts().reads - before;
    assert!(reads > 2, "only {reads} places to fail at");
    for read in 1..=reads {
        faulty.set_faults(Faults { read_fails_at: Some(faulty.counts().reads + read), ..Faults::default() });
        let failed = restore().err();
        let by_device =
            matches!(failed, Some(OpenError::Storage(_) | OpenError::Restore { source: RestoreError::Storage(_), .. }));
        assert!(by_device, "read {read}: {failed:?}");
        assert_eq!(indices(&memory), [7, 9]);
    }
}

#[test]
fn what_is_coming_starts_over_once_another_is_loaded() {
    let disk = MemoryDisk::new();
    let mut node = vault(&disk, 2);
    let (mut one, mut three) = (sender(11, b"eleven"), sender(12, &[12; 100]));
    let at_file = three.store.size(GROUP, LogIndex(12)).unwrap();
    let parts = usize::try_from(at_file.div_ceil(64)).unwrap() + 1;
    let (next, complete) = send_from((&mut three, 3), &mut node, 12, parts);
    assert!(next == at_file + 64 && !complete, "half of its file is there");
    assert!(send(&mut one, &mut node, 11, usize::MAX));
    node.carry_out(SnapshotWork::Load { group: GROUP, meta: meta(11), trusted: true });
    assert_eq!(send_part((&mut three, 3), &mut node, 12, next, 0), (u64::MAX, false));
    assert_eq!(indices(&disk), [11]);
    assert!(send_from((&mut three, 3), &mut node, 12, usize::MAX).1);
    assert_eq!(indices(&disk), [11, 12]);
    assert_eq!(restored(&disk, 0).unwrap(), Some((12, vec![12; 64])));
}

#[test]
fn a_snapshot_whose_files_went_while_it_came_gets_no_name() {
    let disk = MemoryDisk::new();
    let mut node = vault(&disk, 2);
    let mut one = sender(12, &[12; 100]);
    let at_file = one.store.size(GROUP, LogIndex(12)).unwrap();
    let parts = usize::try_from(at_file.div_ceil(64)).unwrap() + 1;
    let (next, _) = send_from((&mut one, 1), &mut node, 12, parts);
    disk.remove(&staged(12)).unwrap();
    assert_eq!(send_part((&mut one, 1), &mut node, 12, next, 0), (u64::MAX, false));
    assert_eq!(indices(&disk), []);
    assert!(send(&mut one, &mut node, 12, usize::MAX), "it starts over");
    assert_eq!(indices(&disk), [12]);
}

#[test]
fn a_stream_that_is_not_as_long_as_its_peer_says_is_dropped() {
    let disk = MemoryDisk::new();
    let mut node = vault(&disk, 2);
    let mut one = sender(12, b"twelve");
    let mut offset = 0;
    while offset != u64::MAX {
        let complete;
        (offset, complete) = send_part((&mut one, 1), &mut node, 12, offset, 1);
        assert!(!complete);
    }
    assert_eq!(indices(&disk), []);
    assert!(send(&mut one, &mut node, 12, usize::MAX));
}

#[test]
fn a_group_that_ended_leaves_nothing_and_its_snapshots_go_last() {
    let halts = (1..).take_while(|halt| {
        let memory = MemoryDisk::new();
        let faulty = FaultyDisk::new(Arc::new(memory.clone()));
        let mut node = vault(&faulty, 2);
        assert!(send(&mut sender(9, b"nine"), &mut node, 9, usize::MAX));
        memory.create(&format!("{}/other", group_folder(GROUP))).unwrap();
        memory.sync_dir(&group_folder(GROUP)).unwrap();
        faulty.set_faults(Faults { halt_at: Some(faulty.counts().changes + halt), ..Faults::default() });
        let failed = node.carry_out(SnapshotWork::Remove { group: GROUP }).error.is_some();
        memory.crash(Crash::Prefix(*halt));
        let left = memory.list(&group_folder(GROUP)).unwrap();
        assert!(left.is_empty() || indices(&memory) == [9], "halt {halt}: {left:?}");
        assert!(failed || left.is_empty());
        failed
    });
    assert!(halts.count() >= 4);
    // Nor does one that was let go while the node was away, or one that kept no files.
    for keeps in [true, false] {
        let memory = MemoryDisk::new();
        if keeps {
            assert!(send(&mut sender(9, b"nine"), &mut vault(&memory, 2), 9, usize::MAX));
        }
        vault(&memory, 2).remove_all(GROUP).unwrap();
        assert_eq!(indices(&memory), []);
        assert!(memory.list(&group_folder(GROUP)).unwrap_or_default().is_empty());
    }
}

#[test]
fn files_that_cannot_be_synced_stop_the_node() {
    let mut vault = vault(&MemoryDisk::new(), 1);
    let attachments = Attachments { files: Vec::new(), sync: Some(Box::new(|| Err("the disk is gone".to_owned()))) };
    vault.carry_out(SnapshotWork::Begin { group: GROUP, meta: meta(3) });
    let input = vault.carry_out(SnapshotWork::Finish { group: GROUP, meta: meta(3), attachments }).input;
    assert!(matches!(input, Some(Input::SyncFailed { group: GROUP, .. })), "{input:?}");
    assert_eq!(vault.store.indices(GROUP), []);
    let mut replica = Replica::new(ReplicaConfig { id: NodeId(1), incarnation: Incarnation(1), log_bytes: 1 << 20 });
    let now = verity_clock::Now { mono: Mono(0), wall: verity_clock::Interval::around(0, 0) };
    let mut out = Vec::new();
    replica.on(now, input.expect("it was looked at"), &mut out);
    assert!(matches!(&out[..], [Output::Fatal(reason)] if reason.contains("the disk is gone")), "{out:?}");
}

#[test]
fn a_second_stream_of_one_snapshot_ends_the_first() {
    let disk = MemoryDisk::new();
    let mut node = vault(&disk, 2);
    let mut one = sender(9, b"nine");
    assert!(!send(&mut one, &mut node, 9, 1));
    assert!(send(&mut sender(9, b"nine"), &mut node, 9, usize::MAX));
    assert_eq!(restored(&disk, 0).unwrap(), Some((9, b"nine".to_vec())));
}

#[test]
fn a_log_that_begins_behind_the_newest_snapshot_is_refused() {
    let disk = MemoryDisk::new();
    assert!(matches!(restored(&disk, 3), Err(OpenError::Gap { snapshot: LogIndex(0), .. })));
    assert!(send(&mut sender(2, b"two"), &mut vault(&disk, 2), 2, usize::MAX));
    assert!(matches!(restored(&disk, 3), Err(OpenError::Gap { snapshot: LogIndex(2), .. })));
    assert_eq!(restored(&disk, 2).unwrap(), Some((2, b"two".to_vec())));
}

/// A vault that is asked for the group, of whose log this is left. No engine starts.
fn asked_for(disk: &MemoryDisk, left: RecoveredGroup) -> SnapshotAnswer {
    let mut vault = vault(disk, 2);
    vault.parked = BTreeMap::from([(GROUP, left)]);
    ask_for(disk, &mut vault, &Arc::default())
}

/// Asks it for the group, and notes as which incarnation an engine would start.
fn ask_for(disk: &MemoryDisk, vault: &mut SnapshotVault, started: &Arc<Mutex<Vec<Incarnation>>>) -> SnapshotAnswer {
    let (machine, started) = (disk.clone(), Arc::clone(started));
    let founder: Founder = Arc::new(move |spawn: &Spawn| {
        // As some machines do, it begins a file of its own at once.
        machine.create_dir(&group_folder(spawn.group)).unwrap();
        machine.create(&format!("{}/begun", group_folder(spawn.group))).unwrap();
        Ok(GroupSpec {
            id: spawn.group,
            members: spawn.members.clone(),
            config: crate::group::GroupConfig::default(),
            engine: {
                let started = Arc::clone(&started);
                Box::new(move |boot, _| {
                    started.lock().unwrap().push(boot.incarnation);
                    Err("no engine".to_owned())
                })
            },
            machine: Box::new(OnFile::new(&machine)),
            duty: None,
        })
    });
    vault.founder = Some(founder);
    let members = Members::of_voters([NodeId(2)]);
    let (founders, hosts) = (members.all(), members.all());
    let spawn = Spawn {
        group: GROUP,
        members,
        founders,
        first_leader: None,
        floor: LogIndex(0),
        hosts,
        blueprint: Bytes::new(),
    };
    vault.carry_out(SnapshotWork::Found { spawn, now: Mono(0) })
}

#[test]
fn whoever_starts_a_group_behind_its_newest_snapshot_says_so() {
    let disk = MemoryDisk::new();
    let mut node = vault(&disk, 2);
    assert!(send(&mut sender(7, b"seven"), &mut node, 7, usize::MAX));
    assert!(send(&mut sender(9, b"nine"), &mut node, 9, usize::MAX));
    disk.remove(&staged(9)).unwrap();
    let vote = Record { kind: RecordKind::State, index: LogIndex(0), payload: Bytes::new().into() };
    let left = RecoveredGroup { records: vec![vote], trimmed: LogIndex(7) };
    let answer = asked_for(&disk, left);
    assert!(answer.error.is_some_and(|line| line.contains("started from the snapshot at 7")));
    assert_eq!(indices(&disk), [7]);
}

/// What an engine asked for is answered in no other life of it.
#[test]
fn no_two_starts_of_a_group_are_the_same() {
    let (disk, started) = (MemoryDisk::new(), Arc::default());
    for life in [1, 2] {
        let mut vault = vault(&disk, 2);
        vault.incarnation = Incarnation(life);
        for _ in 0..2 {
            ask_for(&disk, &mut vault, &started);
        }
    }
    let started: std::collections::BTreeSet<Incarnation> = started.lock().unwrap().iter().copied().collect();
    assert_eq!(started.len(), 4);
}

#[test]
fn nothing_is_left_for_a_group_that_begins_anew_but_what_it_began() {
    let disk = MemoryDisk::new();
    assert!(send(&mut sender(9, b"nine"), &mut vault(&disk, 2), 9, usize::MAX));
    assert!(asked_for(&disk, RecoveredGroup::default()).error.is_none());
    assert_eq!((indices(&disk), disk.list(&group_folder(GROUP)).unwrap()), (vec![], vec!["begun".to_owned()]));
}
