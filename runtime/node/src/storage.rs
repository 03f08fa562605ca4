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

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use verity_replica::{Input, LogVault, LogWork, Output, SnapshotVault, SnapshotWork};

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

/// The core's side of the storage threads. Dropping it ends them once their work is done.
pub(crate) struct StorageHandle {
    log: Option<Sender<LogWork>>,
    snapshots: Option<Sender<SnapshotWork>>,
    threads: Vec<JoinHandle<()>>,
    /// Added to each sync by a fault.
    delay: Arc<Mutex<Duration>>,
}

impl StorageHandle {
    #[expect(clippy::disallowed_methods, reason = "the node's own threads: disks block")]
    pub(crate) fn start(log: LogVault, snapshots: SnapshotVault, answers: &UnboundedSender<FromStorage>) -> Self {
        let (log_work, log_queue) = channel();
        let (snapshot_work, snapshot_queue) = channel();
        let delay = Arc::new(Mutex::new(Duration::ZERO));
        let (log_answers, snapshot_answers) = (answers.clone(), answers.clone());
        let log_delay = Arc::clone(&delay);
        let threads = vec![
            std::thread::spawn(move || guarded(&log_answers, || run_log(log, &log_queue, &log_answers, &log_delay))),
            std::thread::spawn(move || {
                guarded(&snapshot_answers, || run_snapshots(snapshots, &snapshot_queue, &snapshot_answers));
            }),
        ];
        Self { log: Some(log_work), snapshots: Some(snapshot_work), threads, delay }
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

    /// Makes each sync take so much longer.
    pub(crate) fn set_delay(&self, delay: Duration) {
        *self.delay.lock().expect("nobody panics while holding the delay") = delay;
    }

    /// Lets the threads finish what they have, and waits for them.
    pub(crate) fn stop(&mut self) {
        self.log = None;
        self.snapshots = None;
        for thread in self.threads.drain(..) {
            thread.join().expect("a storage thread does not panic");
        }
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
    delay: &Mutex<Duration>,
) {
    while let Ok(first) = queue.recv() {
        let mut round = vec![first];
        while round.len() < TURNS_PER_SYNC {
            match queue.try_recv() {
                Ok(work) => round.push(work),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        slow_down(delay);
        let answer = match log.append(round).and_then(|()| log.sync()) {
            Ok(input) => FromStorage::Input(input),
            Err(error) => FromStorage::Fatal(error.to_string()),
        };
        let fatal = matches!(answer, FromStorage::Fatal(_));
        if answers.send(answer).is_err() || fatal {
            return;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a fault that makes the disk slow on purpose")]
fn slow_down(delay: &Mutex<Duration>) {
    let delay = *delay.lock().expect("nobody panics while holding the delay");
    if !delay.is_zero() {
        std::thread::sleep(delay);
    }
}

fn run_snapshots(mut snapshots: SnapshotVault, queue: &Receiver<SnapshotWork>, answers: &UnboundedSender<FromStorage>) {
    while let Ok(work) = queue.recv() {
        let answer = snapshots.carry_out(work);
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

    #[test]
    fn a_panic_of_a_storage_thread_stops_the_node() {
        let (answers, mut answered) = tokio::sync::mpsc::unbounded_channel();
        guarded(&answers, || panic!("the log has two beginnings"));
        let Ok(FromStorage::Fatal(reason)) = answered.try_recv() else { panic!("nobody is told") };
        assert!(reason.contains("the log has two beginnings"), "{reason}");
    }
}
