//! Tasks that do not depend on one another, on several threads for as long as they last.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Fewer tasks than this are not worth a thread.
const TASKS_MIN: usize = 16;

/// Calls `task` with each number below `tasks`, once, on so many threads, and returns when all are done.
///
/// # Panics
/// If a task does.
pub fn parallel(threads: usize, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
    if threads < 2 || tasks < TASKS_MIN {
        return (0..tasks).for_each(task);
    }
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < tasks) {
            task(at);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_is_done_once() {
        for (threads, tasks) in [(1, 100), (3, 0), (3, 5), (4, 1_000)] {
            let done: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            parallel(threads, tasks, &|at| {
                done[at].fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} threads, {tasks} tasks");
        }
    }
}
