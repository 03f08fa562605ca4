//! Damage below the manifest is refused; what lies beyond it is no damage.

use std::sync::Arc;

use verity_storage::disk::Faults;
use verity_storage::{Disk, Error, FaultyDisk, MemoryDisk};

use super::rig::{DIR, SMALL, fill, folder, log_on, read_all};
use crate::log::{Log, LogError, Manifest};

fn saved(disk: &MemoryDisk) -> Manifest {
    let mut log = log_on(disk, SMALL);
    fill(&mut log, 12, 0);
    let (manifest, sync) = log.checkpoint().unwrap();
    sync.sync().unwrap();
    manifest
}

fn open(disk: &MemoryDisk, manifest: &Manifest) -> Result<Log, LogError> {
    Log::open(Arc::new(disk.clone()), DIR.to_owned(), SMALL, manifest)
}

fn path(name: &str) -> String {
    format!("{DIR}/{name}")
}

#[test]
fn every_flipped_bit_of_the_active_segment_is_refused_on_opening() {
    let disk = MemoryDisk::new();
    let manifest = saved(&disk);
    let (name, length) = manifest.files().pop().unwrap();
    for at in 0..length {
        let spoilt = disk.fork();
        assert!(spoilt.flip(&path(&name), at, (at % 8) as u8));
        let before = folder(&spoilt);
        match open(&spoilt, &manifest) {
            Err(LogError::Corrupt { file, position, .. }) => {
                assert_eq!(file, path(&name));
                assert!(position <= at, "{position} is behind the damage at {at}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
        assert_eq!(folder(&spoilt), before, "nothing is changed");
    }
}

#[test]
fn every_flipped_bit_of_a_sealed_segment_is_found() {
    let disk = MemoryDisk::new();
    let manifest = saved(&disk);
    let (name, length) = manifest.files()[0].clone();
    let whole = usize::try_from(length).unwrap();
    let batches = read_all(&mut open(&disk, &manifest).unwrap(), 1);
    let starts: Vec<u64> = (0..batches.len()).map(|n| batches[..n].iter().map(|b| u64::from(b.0.size)).sum()).collect();
    for at in 0..length {
        let spoilt = disk.fork();
        assert!(spoilt.flip(&path(&name), at, (at % 8) as u8));
        let mut log = open(&spoilt, &manifest).unwrap();
        assert!(matches!(log.verify(), Err(LogError::Corrupt { file, .. }) if file == path(&name)));
        let served = log.read(0, whole, true, i64::MAX).and_then(|slice| slice.unwrap().bytes());
        // A leader epoch is covered by nothing but the whole file's hash.
        let epoch = starts.iter().any(|start| (start + 12..start + 16).contains(&at));
        match served {
            Err(LogError::Corrupt { .. }) => {}
            Ok(_) if epoch => {}
            other => panic!("byte {at}: {other:?}"),
        }
        spoilt.remove(&path(&name.replace(".log", ".index"))).unwrap();
        assert!(matches!(open(&spoilt, &manifest), Err(LogError::Corrupt { .. })), "without a sidecar it is scanned");
    }
}

#[test]
fn a_sound_sidecar_saves_the_scan_and_any_other_is_made_again() {
    let memory = MemoryDisk::new();
    let manifest = saved(&memory);
    let whole = folder(&memory);
    let reads = |memory: &MemoryDisk| {
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        let log = Log::open(Arc::new(disk.clone()), DIR.to_owned(), SMALL, &manifest).unwrap();
        drop(log);
        disk.counts().reads
    };
    let segments = manifest.segments().len() as u64;
    assert_eq!(reads(&memory), segments, "a sidecar for each sealed segment, and the active one");
    let sidecar = path(&manifest.segments()[0].index_name());
    let spoils: [&dyn Fn(&MemoryDisk); 4] = [
        &|disk| disk.remove(&sidecar).unwrap(),
        &|disk| assert!(disk.flip(&sidecar, 30, 1)),
        &|disk| disk.open(&sidecar).unwrap().set_size(50).unwrap(),
        &|disk| disk.open(&sidecar).unwrap().set_size(50 << 20).unwrap(),
    ];
    for spoil in spoils {
        let disk = memory.fork();
        spoil(&disk);
        assert!(reads(&disk) > segments - 1);
        assert_eq!(folder(&disk), whole, "it is the same again");
    }
}

#[test]
fn files_that_are_short_or_gone_are_refused() {
    let disk = MemoryDisk::new();
    let manifest = saved(&disk);
    for (name, length) in manifest.files() {
        let gone = disk.fork();
        gone.remove(&path(&name)).unwrap();
        assert!(matches!(open(&gone, &manifest), Err(LogError::Corrupt { file, .. }) if file == path(&name)));
        let short = disk.fork();
        short.open(&path(&name)).unwrap().set_size(length - 1).unwrap();
        assert!(matches!(open(&short, &manifest), Err(LogError::Corrupt { .. })));
        let long = disk.fork();
        long.open(&path(&name)).unwrap().write_at(length, b"what came behind").unwrap();
        let mut log = open(&long, &manifest).unwrap();
        assert_eq!(folder(&long), folder(&disk), "a torn tail is cut off");
        assert_eq!(read_all(&mut log, 1000).len(), 12);
    }
}

#[test]
fn a_damaged_sealed_segment_is_repaired_from_a_peer() {
    let disk = MemoryDisk::new();
    let manifest = saved(&disk);
    let spoilt = disk.fork();
    let (name, length) = manifest.files()[0].clone();
    spoilt.flip(&path(&name), 70, 3);
    let mut log = open(&spoilt, &manifest).unwrap();
    let LogError::Corrupt { file, .. } = log.verify().unwrap_err() else { panic!("it is corrupt") };
    assert_eq!(file, path(&name));
    let give = |bytes: &[u8]| spoilt.create(&path(&format!("{name}.received"))).unwrap().write_at(0, bytes).unwrap();
    let sound = super::rig::file(&disk, &name);
    give(&super::rig::file(&spoilt, &name));
    assert!(matches!(log.repair(&name), Err(LogError::Corrupt { .. })), "a copy with the same damage");
    give(&sound[..usize::try_from(length).unwrap() - 1]);
    assert!(matches!(log.repair(&name), Err(LogError::Corrupt { .. })), "a part of it");
    give(&sound);
    log.repair(&name).unwrap();
    log.verify().unwrap();
    assert_eq!(folder(&spoilt), folder(&disk));
    assert!(matches!(log.repair("00000000000000000099.log"), Err(LogError::ApiMisuse(_))));
}

#[test]
fn a_failed_sync_ends_the_log_and_an_unused_one_is_not_forgotten() {
    let memory = MemoryDisk::new();
    let disk = FaultyDisk::new(Arc::new(memory.clone()));
    let mut log = Log::create(Arc::new(disk.clone()), DIR.to_owned(), SMALL).unwrap();
    fill(&mut log, 3, 0);
    let (_, unused) = log.checkpoint().unwrap();
    assert!(!unused.is_empty());
    drop(unused);
    let (manifest, sync) = log.checkpoint().unwrap();
    sync.sync().unwrap();
    assert!(log.checkpoint().unwrap().1.is_empty());
    memory.crash(verity_storage::disk::Crash::LoseAll);
    assert_eq!(read_all(&mut open(&memory, &manifest).unwrap(), 100).len(), 3, "the second handle had it all");

    let mut log = Log::open(Arc::new(disk.clone()), DIR.to_owned(), SMALL, &manifest).unwrap();
    fill(&mut log, 1, 0);
    disk.set_faults(Faults { sync_fails_at: Some(disk.counts().syncs + 1), ..Faults::default() });
    let (_, sync) = log.checkpoint().unwrap();
    assert!(matches!(sync.sync(), Err(LogError::Storage(Error::Io { op: "sync", .. }))));
    assert!(matches!(log.checkpoint(), Err(LogError::Storage(Error::Poisoned { .. }))));
    assert!(matches!(log.append(&[], 0), Err(LogError::Storage(Error::Poisoned { .. }))));
}

#[test]
fn a_write_that_failed_may_be_tried_again() {
    let memory = MemoryDisk::new();
    let disk = FaultyDisk::new(Arc::new(memory.clone()));
    let mut log = Log::create(Arc::new(disk.clone()), DIR.to_owned(), SMALL).unwrap();
    fill(&mut log, 2, 0);
    disk.set_faults(Faults { write_fails_at: Some(1), ..Faults::default() });
    assert!(matches!(log.flush(), Err(LogError::Storage(_))));
    log.flush().unwrap();
    let twin = MemoryDisk::new();
    let mut other = log_on(&twin, SMALL);
    fill(&mut other, 2, 0);
    other.flush().unwrap();
    assert_eq!(folder(&memory), folder(&twin));
}
