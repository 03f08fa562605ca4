//! A partition takes files over that came from peers, whatever came with other snapshots and wherever it falls over.

use super::*;

/// What a peer's snapshot consists of.
struct Sent {
    chunks: Vec<Bytes>,
    /// By the path of its place.
    files: Vec<(String, Vec<u8>)>,
    digest: Digest,
}

/// The state of a partition on this disk as a snapshot, on stable storage.
fn sent(machine: &mut Partition, disk: &MemoryDisk) -> Sent {
    machine.snapshot_begin();
    let attachments = machine.attachments();
    attachments.sync.expect("it has files")().expect("memory syncs");
    let chunks = std::iter::from_fn(|| machine.snapshot_next(100)).collect();
    let bytes = |file: &Attachment| {
        let mut bytes = vec![0; usize::try_from(file.length).unwrap()];
        disk.open(&file.path).unwrap().read_at(0, &mut bytes).unwrap();
        (file.path.clone(), bytes)
    };
    Sent { chunks, files: attachments.files.iter().map(bytes).collect(), digest: machine.digest() }
}

/// Two snapshots of one partition, the second behind the first.
fn two_sent() -> (Sent, Sent) {
    let mut peer = Rig::new(PartitionConfig { segment_bytes: 400, ..PartitionConfig::default() });
    let mut grow = |rounds: std::ops::Range<i32>| {
        for round in rounds {
            peer.append(produced(7, 0, round, false));
        }
        sent(&mut peer.machine, &peer.disk)
    };
    (grow(0..20), grow(20..30))
}

/// Puts a snapshot's files where they come to, durably.
fn stage(disk: &MemoryDisk, sent: &Sent, suffix: &str) {
    disk.create_dir(&group_folder(GROUP)).unwrap();
    for (path, bytes) in &sent.files {
        let file = disk.create(&format!("{path}{suffix}")).unwrap();
        file.write_at(0, bytes).unwrap();
        file.sync_data().unwrap();
    }
    disk.sync_dir(&group_folder(GROUP)).unwrap();
}

/// Cuts one of the files that came to half of what it should be.
fn cut(disk: &MemoryDisk, sent: &Sent, at: usize, suffix: &str) {
    let (path, bytes) = &sent.files[at];
    let file = disk.open(&format!("{path}{suffix}")).unwrap();
    file.set_size(bytes.len() as u64 / 2).unwrap();
    file.sync_data().unwrap();
}

fn restore(machine: &mut Partition, sent: &Sent, suffix: &str) -> Result<(), RestoreError> {
    machine.staged(suffix);
    machine.restore(&mut sent.chunks.clone().into_iter().map(Ok))?;
    machine.invariants();
    assert_eq!(machine.digest(), sent.digest);
    Ok(())
}

fn on(disk: &(impl Disk + Clone + 'static)) -> Partition {
    Partition::new(Arc::new(disk.clone()), GROUP, PartitionConfig::default())
}

fn everything(disk: &MemoryDisk) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| {
        let file = disk.open(&format!("{}/{name}", group_folder(GROUP))).unwrap();
        let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        (name, bytes)
    };
    disk.list(&group_folder(GROUP)).unwrap().into_iter().map(read).collect()
}

fn staged_for(disk: &MemoryDisk, suffix: &str) -> usize {
    disk.list(&group_folder(GROUP)).unwrap().iter().filter(|name| name.ends_with(suffix)).count()
}

#[test]
fn a_peer_takes_the_files_over_and_is_the_same() {
    let (_, sent) = two_sent();
    let mut other = rig();
    other.append(batch(&["something else that was here"]));
    stage(&other.disk, &sent, ".staged-77");
    for stray in ["x.staged-66", "x.staged-77", "x.staged-88"] {
        other.disk.create(&format!("{}/{stray}", group_folder(GROUP))).unwrap();
    }
    restore(&mut other.machine, &sent, ".staged-77").expect("the files are sound");
    assert_eq!(other.fetch(0, false).high_watermark, 30);
    let left = other.disk.list(&group_folder(GROUP)).unwrap();
    let staged: Vec<&String> = left.iter().filter(|name| name.contains(STAGED)).collect();
    assert_eq!(staged, ["x.staged-88"], "a newer one is still to be taken");
}

#[test]
fn two_that_came_at_once_are_taken_one_after_the_other() {
    let (older, newer) = two_sent();
    let disk = MemoryDisk::new();
    stage(&disk, &older, ".staged-11");
    stage(&disk, &newer, ".staged-12");
    let mut machine = on(&disk);
    restore(&mut machine, &older, ".staged-11").unwrap();
    restore(&mut machine, &newer, ".staged-12").unwrap();
    assert_eq!(staged_for(&disk, ".staged-11") + staged_for(&disk, ".staged-12"), 0);
}

#[test]
fn a_snapshot_that_lacks_a_file_fails_and_changes_nothing() {
    let (older, newer) = two_sent();
    assert!(newer.files.len() > older.files.len() && older.files.len() > 2);
    for lacking in 0..newer.files.len() {
        for gone in [true, false] {
            let mut other = rig();
            other.append(batch(&["here"]));
            other.machine.log().unwrap().flush().unwrap();
            stage(&other.disk, &older, ".staged-11");
            stage(&other.disk, &newer, ".staged-12");
            if gone {
                other.disk.remove(&format!("{}.staged-12", newer.files[lacking].0)).unwrap();
            } else {
                cut(&other.disk, &newer, lacking, ".staged-12");
            }
            let before = everything(&other.disk);
            let failed = restore(&mut other.machine, &newer, ".staged-12");
            assert!(matches!(failed, Err(RestoreError::Invalid(_))), "{failed:?}");
            assert_eq!(everything(&other.disk), before);
            restore(&mut other.machine, &older, ".staged-11").unwrap();
        }
    }
}

#[test]
fn a_snapshot_with_a_damaged_file_fails_and_leaves_what_another_needs() {
    let (older, newer) = two_sent();
    for damaged in 0..newer.files.len() {
        let disk = MemoryDisk::new();
        stage(&disk, &older, ".staged-11");
        stage(&disk, &newer, ".staged-12");
        assert!(disk.flip(&format!("{}.staged-12", newer.files[damaged].0), 70, 3));
        let mut machine = on(&disk);
        let failed = restore(&mut machine, &newer, ".staged-12");
        assert!(matches!(failed, Err(RestoreError::Invalid(_))), "{failed:?}");
        assert_eq!(staged_for(&disk, ".staged-11"), older.files.len());
        restore(&mut machine, &older, ".staged-11").unwrap();
    }
}

#[test]
fn a_crash_in_a_takeover_leaves_all_that_it_needs_whatever_is_tried_next() {
    let (older, newer) = two_sent();
    let only_the_process = |_: u64| None;
    let power: [fn(u64) -> Option<Crash>; 3] =
        [|_| Some(Crash::LoseAll), |seed| Some(Crash::Prefix(seed)), |seed| Some(Crash::Subset(seed))];
    for how in power.into_iter().chain([only_the_process as _]) {
        let mut halts = 0;
        for halt in 1.. {
            let disk = MemoryDisk::new();
            stage(&disk, &older, ".staged-11");
            stage(&disk, &newer, ".staged-12");
            cut(&disk, &newer, newer.files.len() - 1, ".staged-12");
            let faulty = FaultyDisk::new(Arc::new(disk.clone()));
            faulty.set_faults(Faults { halt_at: Some(halt), ..Faults::default() });
            let first = restore(&mut on(&faulty), &older, ".staged-11");
            assert!(
                matches!(first, Ok(()) | Err(RestoreError::Storage(_))),
                "a disk that fails is no damage: {first:?}"
            );
            how(halt).into_iter().for_each(|crash| disk.crash(crash));
            let mut machine = on(&disk);
            let failed = restore(&mut machine, &newer, ".staged-12");
            assert!(matches!(failed, Err(RestoreError::Invalid(_))), "halt {halt}: {failed:?}");
            restore(&mut machine, &older, ".staged-11").unwrap_or_else(|error| panic!("halt {halt}: {error}"));
            // The next snapshot of its own counts, even if the process that gave the names died before they were durable.
            let saved = sent(&mut machine, &disk);
            disk.crash(Crash::LoseAll);
            restore(&mut on(&disk), &saved, "").unwrap_or_else(|error| panic!("halt {halt}: {error}"));
            if first.is_ok() {
                break;
            }
            halts += 1;
        }
        assert!(halts > 10, "only {halts} places to halt at");
    }
}
