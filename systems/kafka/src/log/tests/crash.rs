//! Power is cut at every change of the disk; the log opened at the last saved manifest is what it was then, and doing
//! again what came behind makes the same files.

use std::sync::Arc;

use verity_storage::disk::{Crash, Faults};
use verity_storage::{Disk, FaultyDisk, MemoryDisk};

use super::rig::{DIR, Draft, Plain, SMALL, folder};
use crate::log::{CompactionPolicy, Log, LogError, Manifest};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// An apply of this many batches.
    Apply(usize),
    Delete(i64),
    Retain(i64),
    Compact,
    /// A checkpoint, saved and released.
    Save,
}

const SCRIPT: [Step; 18] = [
    Step::Apply(3),
    Step::Save,
    Step::Apply(4),
    Step::Apply(5),
    Step::Compact,
    Step::Save,
    Step::Apply(2),
    Step::Compact,
    Step::Apply(6),
    Step::Delete(9),
    Step::Save,
    Step::Compact,
    Step::Apply(1),
    Step::Save,
    Step::Apply(4),
    Step::Retain(400),
    Step::Apply(2),
    Step::Save,
];

/// What outlives a crash: the saved manifest, and how many steps it stands for.
struct Saved {
    manifest: Vec<u8>,
    steps: usize,
}

fn policy(log: &Log) -> CompactionPolicy {
    CompactionPolicy {
        upto_offset: log.next_offset(),
        now_ms: log.next_offset() * 10,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        dirty_ratio_ppm: 0,
        delete_retention_ms: 50,
        key_bytes_max: 1 << 20,
        step_bytes_max: 700,
    }
}

fn apply(log: &mut Log, batches: usize) -> Result<(), LogError> {
    for _ in 0..batches {
        let at = log.next_offset();
        let draft = Draft::at(at).epoch((at / 20) as i32).put(at * 10, "always", &"v".repeat(60));
        let draft =
            if at % 3 == 0 { draft.tombstone(at * 10 + 1, "gone") } else { draft.put(at * 10 + 1, "gone", "v") };
        log.append(&draft.put(at, &format!("key {}", at % 7), "w").build(), at * 10)?;
    }
    log.flush()
}

fn step(log: &mut Log, step: Step, saved: &mut Saved, done: usize) -> Result<(), LogError> {
    match step {
        Step::Apply(batches) => apply(log, batches)?,
        Step::Delete(to) => assert!(log.delete_records(to)? >= to),
        Step::Retain(now_ms) => assert!(log.retain(now_ms, 200, -1)? > 9),
        Step::Compact => {
            if let Some(plan) = log.plan_compaction(&policy(log), Vec::new(), Vec::new()) {
                log.compact(&plan, &Plain)?;
            }
        }
        Step::Save => {
            let (manifest, sync) = log.checkpoint()?;
            sync.sync()?;
            saved.manifest.clear();
            manifest.encode(&mut saved.manifest);
            saved.steps = done + 1;
            log.release(&manifest)?;
        }
    }
    log.invariants();
    Ok(())
}

/// Opens at the saved manifest, if there is one, and does the steps behind it.
fn live(disk: Arc<dyn Disk>, saved: &mut Saved) -> Result<Log, LogError> {
    let manifest = if saved.manifest.is_empty() { Manifest::empty() } else { Manifest::decode(&saved.manifest)? };
    let mut log = Log::open(disk, DIR.to_owned(), SMALL, &manifest)?;
    assert_eq!(log.manifest()?, manifest, "it is exactly what it was");
    log.verify()?;
    for (done, next) in SCRIPT.into_iter().enumerate().skip(saved.steps) {
        step(&mut log, next, saved, done)?;
    }
    Ok(log)
}

#[test]
fn a_crash_at_any_change_leaves_the_saved_prefix_and_the_rest_is_made_again() {
    let reference = MemoryDisk::new();
    let mut whole = Saved { manifest: Vec::new(), steps: 0 };
    let log = live(Arc::new(reference.clone()), &mut whole).unwrap();
    assert!(log.segments().any(|facts| facts.generation > 0), "the script compacts");
    let end = folder(&reference);
    for halt in 1u64.. {
        let memory = MemoryDisk::new();
        let faulty = FaultyDisk::new(Arc::new(memory.clone()));
        let keeps = usize::try_from(halt % 90).unwrap();
        faulty.set_faults(Faults { halt_at: Some(halt), halt_keeps: keeps, ..Faults::default() });
        let mut saved = Saved { manifest: Vec::new(), steps: 0 };
        if live(Arc::new(faulty), &mut saved).is_ok() {
            assert!(halt > 60, "only {halt} places to halt at");
            return;
        }
        for crash in [Crash::LoseAll, Crash::KeepAll, Crash::Prefix(halt), Crash::Subset(halt), Crash::Subset(!halt)] {
            let disk = memory.fork();
            disk.crash(crash);
            let mut saved = Saved { manifest: saved.manifest.clone(), steps: saved.steps };
            live(Arc::new(disk.clone()), &mut saved).unwrap_or_else(|e| panic!("halt {halt}, {crash:?}: {e}"));
            assert_eq!(saved.manifest, whole.manifest, "halt {halt}, {crash:?}");
            assert_eq!(folder(&disk), end, "halt {halt}, {crash:?}");
        }
    }
}

/// The canary: with syncs that do nothing, the test above would not pass.
#[test]
fn a_lying_sync_is_noticed() {
    let memory = MemoryDisk::new();
    let faulty = FaultyDisk::new(Arc::new(memory.clone()));
    faulty.set_faults(Faults { sync_is_a_lie: true, ..Faults::default() });
    let mut saved = Saved { manifest: Vec::new(), steps: 0 };
    live(Arc::new(faulty), &mut saved).unwrap();
    memory.crash(Crash::LoseAll);
    assert!(matches!(live(Arc::new(memory), &mut saved), Err(LogError::Corrupt { .. })));
}
