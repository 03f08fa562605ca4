//! Runs the handlers of requests: `async` code that waits for the replica's answers and for nothing else.
//!
//! - upon a new task: it runs as soon as the input that caused it is taken in;
//! - upon an answer, an event or a moment that a task waits for: it is ready, behind those that were ready before.
//!
//! Tasks run one at a time, in the order in which they became ready: the same inputs give the same outputs. No runtime is
//! involved; the node and the simulator drive the session by the same calls.
//!
//! Deliberately absent: fairness. A task runs until it waits, and every wait is for something outside of the session.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::task::{Context, Wake, Waker};

/// What runs.
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The lock. One thread drives a session, so nobody is waited for.
///
/// # Panics
/// If the caller holds it already; to wait for oneself would be to wait for ever.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.try_lock() {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => panic!("a handler holds the state while it asks for it"),
    }
}

type Ready = Arc<Mutex<VecDeque<u64>>>;

struct Bell {
    task: u64,
    ready: Ready,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        lock(&self.ready).push_back(self.task);
    }
}

/// All tasks of a session.
#[derive(Default)]
pub(super) struct Tasks {
    next: u64,
    running: BTreeMap<u64, (Task, Waker)>,
    ready: Ready,
}

impl Tasks {
    /// Takes a task in. It runs at the next [`Tasks::run`].
    pub(super) fn spawn(&mut self, task: Task) {
        self.next += 1;
        let waker = Waker::from(Arc::new(Bell { task: self.next, ready: Arc::clone(&self.ready) }));
        self.running.insert(self.next, (task, waker));
        lock(&self.ready).push_back(self.next);
    }

    /// Runs one task that is ready; false if none is.
    pub(super) fn run_one(&mut self) -> bool {
        let Some(id) = lock(&self.ready).pop_front() else { return false };
        // A task may be rung for more than once, also after its end.
        let Some((mut task, waker)) = self.running.remove(&id) else { return true };
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.running.insert(id, (task, waker));
        }
        true
    }

    /// How many tasks there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.running.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_run_in_the_order_in_which_they_became_ready() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Tasks::default();
        for name in 0..3 {
            let seen = Arc::clone(&seen);
            tasks.spawn(Box::pin(async move {
                lock(&seen).push((name, 1));
                let mut again = true;
                std::future::poll_fn(|context| {
                    if std::mem::take(&mut again) {
                        context.waker().wake_by_ref();
                        return std::task::Poll::Pending;
                    }
                    std::task::Poll::Ready(())
                })
                .await;
                lock(&seen).push((name, 2));
            }));
        }
        while tasks.run_one() {}
        assert_eq!(*lock(&seen), [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (2, 2)]);
        assert_eq!(tasks.count(), 0);
    }
}
