//! A replica takes a log over from a peer.

use std::sync::Arc;

use verity_storage::disk::{Crash, Faults};
use verity_storage::{Disk, FaultyDisk, MemoryDisk};

use super::rig::{DIR, SMALL, file, fill, folder, log_on, read_all};
use crate::log::{Log, LogError, Manifest};

fn path(name: &str) -> String {
    format!("{DIR}/{name}")
}

/// Brings the files that `to` wants from the peer.
fn fetch(from: &MemoryDisk, to: &MemoryDisk, manifest: &Manifest) -> usize {
    let wanted = Log::wanted(to, DIR, manifest).unwrap();
    for (name, length) in &wanted {
        let bytes = &file(from, name)[..usize::try_from(*length).unwrap()];
        to.create(&path(&format!("{name}.received"))).unwrap().write_at(0, bytes).unwrap();
    }
    wanted.len()
}

fn install(disk: &MemoryDisk, manifest: &Manifest) -> Result<Log, LogError> {
    Log::install(Arc::new(disk.clone()), DIR.to_owned(), SMALL, manifest, ".received")
}

fn logs(disk: &MemoryDisk) -> Vec<(String, Vec<u8>)> {
    folder(disk).into_iter().filter(|(name, _)| name.ends_with(".log")).collect()
}

#[test]
fn a_new_replica_gets_the_same_bytes_durably() {
    let (peer, own) = (MemoryDisk::new(), MemoryDisk::new());
    let mut source = log_on(&peer, SMALL);
    fill(&mut source, 12, 0);
    source.delete_records(5).unwrap();
    let manifest = Manifest::decode(&encoded(&source.manifest().unwrap())).unwrap();
    // The peer goes on meanwhile; its active file is longer than the manifest says.
    let more = fill(&mut source, 1, 0);
    source.flush().unwrap();
    assert_eq!(fetch(&peer, &own, &manifest), manifest.files().len());
    drop(install(&own, &manifest).unwrap());
    own.crash(Crash::LoseAll);
    let mut log = Log::open(Arc::new(own.clone()), DIR.to_owned(), SMALL, &manifest).unwrap();
    assert_eq!(log.log_start_offset(), 5);
    log.append(&more[0], 240).unwrap();
    assert_eq!(log.manifest().unwrap(), source.manifest().unwrap());
    let (saved, sync) = source.checkpoint().unwrap();
    sync.sync().unwrap();
    source.release(&saved).unwrap();
    assert_eq!(logs(&own), logs(&peer));
    assert_eq!(read_all(&mut log, 500), read_all(&mut source, 500));
}

fn encoded(manifest: &Manifest) -> Vec<u8> {
    let mut out = Vec::new();
    manifest.encode(&mut out);
    out
}

#[test]
fn a_replica_that_lags_fetches_what_it_lacks_and_drops_what_is_gone() {
    let (peer, own) = (MemoryDisk::new(), MemoryDisk::new());
    let mut source = log_on(&peer, SMALL);
    fill(&mut source, 12, 0);
    let mut lagging = log_on(&own, SMALL);
    fill(&mut lagging, 12, 0);
    let (old, sync) = lagging.checkpoint().unwrap();
    sync.sync().unwrap();
    drop(lagging);
    fill(&mut source, 8, 0);
    source.delete_records(15).unwrap();
    let manifest = source.manifest().unwrap();
    let fetched = fetch(&peer, &own, &manifest);
    assert!(fetched < manifest.files().len(), "sealed segments that it has are not fetched");
    let mut log = install(&own, &manifest).unwrap();
    assert_eq!(log.manifest().unwrap(), manifest);
    assert_eq!(read_all(&mut log, 500), read_all(&mut source, 500));
    let gone = path(&old.files()[0].0);
    assert!(own.exists(&gone).unwrap(), "the old manifest is still the saved one");
    drop(Log::open(Arc::new(own.fork()), DIR.to_owned(), SMALL, &old).unwrap());
    log.release(&manifest).unwrap();
    assert!(!own.exists(&gone).unwrap());
    assert!(manifest.files().iter().all(|(name, _)| own.exists(&path(name)).unwrap()));
}

#[test]
fn a_damaged_file_is_refused_and_then_fetched_again() {
    let (peer, own) = (MemoryDisk::new(), MemoryDisk::new());
    let mut source = log_on(&peer, SMALL);
    fill(&mut source, 12, 0);
    let manifest = source.manifest().unwrap();
    for (name, length) in manifest.files() {
        for at in (0..length).step_by(7) {
            let own = own.fork();
            fetch(&peer, &own, &manifest);
            own.flip(&path(&format!("{name}.received")), at, 2);
            match install(&own, &manifest) {
                Err(LogError::Corrupt { file, .. }) => assert_eq!(file, path(&format!("{name}.received"))),
                other => panic!("{name} at {at}: {other:?}"),
            }
            fetch(&peer, &own, &manifest);
            install(&own, &manifest).unwrap().verify().unwrap();
        }
    }
    assert!(matches!(install(&own, &manifest), Err(LogError::Corrupt { .. })), "nothing was fetched");
}

#[test]
fn what_comes_once_more_and_not_to_its_end_harms_nothing() {
    let (peer, own) = (MemoryDisk::new(), MemoryDisk::new());
    let mut source = log_on(&peer, SMALL);
    fill(&mut source, 12, 0);
    let manifest = source.manifest().unwrap();
    fetch(&peer, &own, &manifest);
    drop(install(&own, &manifest).unwrap());
    let (name, length) = &manifest.files()[0];
    let bytes = &file(&peer, name)[..usize::try_from(*length / 2).unwrap()];
    own.create(&path(&format!("{name}.received"))).unwrap().write_at(0, bytes).unwrap();
    install(&own, &manifest).unwrap().verify().unwrap();
    assert_eq!(logs(&own), logs(&peer));
    assert!(folder(&own).iter().all(|(name, _)| !name.ends_with(".received")), "it is gone");
}

#[test]
fn a_takeover_that_a_crash_cuts_off_is_done_again() {
    let peer = MemoryDisk::new();
    let mut source = log_on(&peer, SMALL);
    fill(&mut source, 12, 0);
    let manifest = source.manifest().unwrap();
    let mut halts = 0;
    for halt in 1.. {
        let own = MemoryDisk::new();
        let faulty = FaultyDisk::new(Arc::new(own.clone()));
        fetch(&peer, &own, &manifest);
        faulty.set_faults(Faults { halt_at: Some(halt), ..Faults::default() });
        let done = Log::install(Arc::new(faulty), DIR.to_owned(), SMALL, &manifest, ".received").is_ok();
        own.crash(Crash::Subset(halt));
        if done {
            drop(Log::open(Arc::new(own.clone()), DIR.to_owned(), SMALL, &manifest).unwrap());
            assert_eq!(logs(&own), logs(&peer));
            break;
        }
        halts += 1;
        fetch(&peer, &own, &manifest);
        drop(install(&own, &manifest).unwrap());
        assert_eq!(logs(&own), logs(&peer), "halted at {halt}");
    }
    assert!(halts > 10, "only {halts} places to halt at");
}

#[test]
fn a_stray_file_is_not_removed_once_the_log_writes_its_name() {
    let (peer, own) = (MemoryDisk::new(), MemoryDisk::new());
    let mut source = log_on(&peer, SMALL);
    fill(&mut source, 2, 0);
    source.roll().unwrap();
    let manifest = source.manifest().unwrap();
    own.create_dir(DIR).unwrap();
    let stray = path("00000000000000000004.log");
    own.create(&stray).unwrap().write_at(0, &[7; 5000]).unwrap();
    fetch(&peer, &own, &manifest);
    let mut log = install(&own, &manifest).unwrap();
    fill(&mut log, 1, 0);
    log.flush().unwrap();
    log.release(&manifest).unwrap();
    log.verify().unwrap();
    assert_eq!(read_all(&mut log, 1000).len(), 3);
}
