//! The two threads that touch a node's disk: one for the log, one for snapshot files.
//!
//! The log's thread takes all work that waits, writes it, syncs once, and answers with the last ticket; what comes in
//! during a sync shares the next one. Snapshots have a thread of their own, so that a long write never holds up an
//! acknowledgement.
//!
//! - upon a failed write or sync of the log, or a panic of either thread: the node stops; nothing that was not synced is ever acknowledged;
//! - upon a failed snapshot: the failure is logged and the log is kept longer.
//!
//! Deliberately absent: what is done (the replica's vault knows).

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use verity_replica::{Input, LogVault, LogWork, Output, SnapshotVault, SnapshotWork};
use verity_types::{GroupId, NodeId};

use crate::faults::DISK_DELAY_MAX;
use crate::figures::{LogFigures, Timings};
use crate::node::TRACE;
use crate::task::told;

/// At most this many turns share one sync.
const TURNS_PER_SYNC: usize = 4096;

/// What the storage threads tell the core.
#[derive(Debug)]
pub(crate) enum FromStorage {
    /// For the replica.
    Input(Input),
    /// The node must stop.
    Fatal(String),
}

/// How slow a fault makes the disk, and how its threads are to end.
#[derive(Debug, Default)]
struct Slowness {
    state: Mutex<SlownessState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SlownessState {
    /// Added to each sync.
    delay: Duration,
    /// The work that is there is done without delay.
    stopping: bool,
    /// No work is done any more.
    crashed: bool,
}

/// The core's side of the storage threads. Dropping it ends them as a crash would: what they have not begun is not done.
pub(crate) struct StorageHandle {
    log: Option<Sender<LogWork>>,
    snapshots: Option<Sender<SnapshotWork>>,
    threads: Vec<JoinHandle<()>>,
    slowness: Arc<Slowness>,
    figures: Arc<LogFigures>,
}

impl StorageHandle {
    #[expect(clippy::disallowed_methods, reason = "the node's own threads: disks block")]
    pub(crate) fn start(
        node: NodeId,
        log: LogVault,
        snapshots: SnapshotVault,
        answers: &UnboundedSender<FromStorage>,
    ) -> Self {
        let (log_work, log_queue) = channel();
        let (snapshot_work, snapshot_queue) = channel();
        let (slowness, figures) = (Arc::<Slowness>::default(), Arc::<LogFigures>::default());
        let (log_figures, span) = (Arc::clone(&figures), tracing::Span::current());
        let snapshot_span = span.clone();
        let (log_answers, snapshot_answers) = (answers.clone(), answers.clone());
        let (log_slowness, snapshot_slowness) = (Arc::clone(&slowness), Arc::clone(&slowness));
        let threads = vec![
            std::thread::spawn(move || {
                let _span = span.entered();
                guarded(&log_answers, || run_log(log, &log_queue, &log_answers, &log_slowness, &log_figures));
            }),
            std::thread::spawn(move || {
                let _span = snapshot_span.entered();
                guarded(&snapshot_answers, || {
                    run_snapshots(snapshots, &snapshot_queue, &snapshot_answers, &snapshot_slowness, node)
                });
            }),
        ];
        Self { log: Some(log_work), snapshots: Some(snapshot_work), threads, slowness, figures }
    }

    /// Hands storage outputs to their thread.
    pub(crate) fn carry_out(&self, output: Output) {
        // A thread that is gone has already said why.
        match output {
            Output::Log(work) => {
                if let Some(log) = &self.log {
                    let _ = log.send(work);
                }
            }
            Output::Snapshot(work) => {
                if let Some(snapshots) = &self.snapshots {
                    let _ = snapshots.send(work);
                }
            }
            other => unreachable!("{other:?} is not for storage"),
        }
    }

    /// Bytes that were given to the log.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.figures.bytes.load(Ordering::Relaxed)
    }

    /// How long syncs took.
    pub(crate) fn log_syncs(&self) -> Timings {
        self.figures.syncs.read()
    }

    /// Makes each sync take so much longer, the one under way as well; by [`DISK_DELAY_MAX`] at most.
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.slowness.change(|state| state.delay = delay.min(DISK_DELAY_MAX));
    }

    /// Lets the threads finish what they have, and waits for them.
    pub(crate) fn stop(&mut self) {
        self.slowness.change(|state| state.stopping = true);
        self.join();
    }

    fn join(&mut self) {
        self.log = None;
        self.snapshots = None;
        for thread in self.threads.drain(..) {
            thread.join().expect("a storage thread tells of its panic and ends");
        }
    }
}

impl Drop for StorageHandle {
    /// HAZARD: a thread that outlived its node would write into a log that the node's next start has open.
    fn drop(&mut self) {
        self.slowness.change(|state| state.crashed = true);
        self.join();
    }
}

impl Slowness {
    fn lock(&self) -> MutexGuard<'_, SlownessState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, f: impl FnOnce(&mut SlownessState)) {
        f(&mut self.lock());
        self.changed.notify_all();
    }

    fn is_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// Waits as long as a slow disk would; a change of the fault holds at once.
    fn wait(&self) {
        let mut state = self.lock();
        if state.delay.is_zero() {
            return;
        }
        let begin = now();
        while !state.stopping && !state.crashed {
            let left = state.delay.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return;
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a disk takes is measured, and no more")]
fn now() -> Instant {
    Instant::now()
}

/// What a piece of work adds to the log.
fn bytes(work: &LogWork) -> u64 {
    match work {
        LogWork::Persist { records, .. } => records.iter().map(|record| record.payload.len() as u64).sum(),
        LogWork::Trim { .. } | LogWork::Retire { .. } => 0,
    }
}

/// Runs a storage thread. Its panic would otherwise leave a node that waits for ever.
fn guarded(answers: &UnboundedSender<FromStorage>, thread: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(thread)) {
        // A node that has stopped needs no reason to.
        let _ = answers.send(FromStorage::Fatal(told(panic.as_ref())));
    }
}

fn run_log(
    mut log: LogVault,
    queue: &Receiver<LogWork>,
    answers: &UnboundedSender<FromStorage>,
    slowness: &Slowness,
    figures: &LogFigures,
) {
    while let Ok(first) = queue.recv() {
        let mut round = vec![first];
        while round.len() < TURNS_PER_SYNC {
            match queue.try_recv() {
                Ok(work) => round.push(work),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        figures.bytes.fetch_add(round.iter().map(bytes).sum(), Ordering::Relaxed);
        let begin = now();
        slowness.wait();
        if slowness.is_crashed() {
            return;
        }
        let answer = match log.append(round).and_then(|()| log.sync()) {
            Ok(input) => FromStorage::Input(input),
            Err(error) => FromStorage::Fatal(error.to_string()),
        };
        figures.syncs.add(begin.elapsed());
        let fatal = matches!(answer, FromStorage::Fatal(_));
        if answers.send(answer).is_err() || fatal {
            return;
        }
    }
}

/// The group, what is done with its snapshot, and whether this is the end of it. What is sent has no end that shows here.
fn stage(work: &SnapshotWork) -> Option<(GroupId, &'static str, bool)> {
    Some(match work {
        SnapshotWork::Begin { group, .. } | SnapshotWork::Chunk { group, .. } => (*group, "write", false),
        SnapshotWork::Finish { group, .. } => (*group, "write", true),
        SnapshotWork::Read { .. } => return None,
        SnapshotWork::Receive { group, offset, total, bytes, .. } => {
            (*group, "receive", offset.saturating_add(bytes.len() as u64) >= *total)
        }
        SnapshotWork::Load { group, .. } => (*group, "load", true),
        SnapshotWork::Found { spawn, .. } => (spawn.group, "found", true),
        SnapshotWork::Adopt { group, .. } => (*group, "adopt", true),
        SnapshotWork::Discard { .. } | SnapshotWork::Remove { .. } => return None,
    })
}

fn run_snapshots(
    mut snapshots: SnapshotVault,
    queue: &Receiver<SnapshotWork>,
    answers: &UnboundedSender<FromStorage>,
    slowness: &Slowness,
    node: NodeId,
) {
    // One span for each that is written, received or loaded; one that never ends is ended by the next.
    let mut under_way: BTreeMap<(GroupId, &str), tracing::Span> = BTreeMap::new();
    while let Ok(work) = queue.recv() {
        if slowness.is_crashed() {
            return;
        }
        let stage = stage(&work);
        if let Some((group, what, _)) = stage {
            let begin = || tracing::info_span!(target: TRACE, "snapshot", %node, %group, what);
            under_way.entry((group, what)).or_insert_with(begin);
        }
        let answer = snapshots.carry_out(work);
        if let Some((group, what, is_last)) = stage
            && (is_last || answer.error.is_some())
        {
            under_way.remove(&(group, what));
        }
        if let Some(error) = answer.error {
            tracing::warn!(%error, "snapshot failed");
        }
        if let Some(input) = answer.input
            && answers.send(FromStorage::Input(input)).is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_slow_sync_is_cut_short() {
        let heal: fn(&mut SlownessState) = |state| state.delay = Duration::ZERO;
        for end in [heal, |state| state.stopping = true, |state| state.crashed = true] {
            let slowness = Slowness::default();
            slowness.change(|state| state.delay = LONG);
            std::thread::scope(|scope| {
                let sync = scope.spawn(|| slowness.wait());
                slowness.change(end);
                sync.join().unwrap();
            });
        }
    }

    #[test]
    fn a_panic_of_a_storage_thread_stops_the_node() {
        let (answers, mut answered) = tokio::sync::mpsc::unbounded_channel();
        guarded(&answers, || panic!("the log has two beginnings"));
        let Ok(FromStorage::Fatal(reason)) = answered.try_recv() else { panic!("nobody is told") };
        assert!(reason.contains("the log has two beginnings"), "{reason}");
    }
}
