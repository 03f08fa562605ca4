//! Pauses: a node's thread stands still on purpose, as in a long garbage collection.
//!
//! - upon [`Pauses::begin`]: the thread stands still once it comes by, until the moment that was asked for;
//! - upon [`Pauses::lift`]: it goes on at once;
//! - upon [`Pauses::end`]: it goes on, and never stands still again, since the node is to stop.
//!
//! Deliberately absent: the node's thread. Whoever runs the node lifts a pause while that thread hears nothing.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The pause of one node.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    until: Option<Instant>,
    ended: bool,
}

#[expect(clippy::disallowed_methods, reason = "a fault that lasts for a while of real time")]
fn now() -> Instant {
    Instant::now()
}

impl Pauses {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pause from now on. True if the node was not paused before, and must be sent to [`Pauses::stand`].
    pub(crate) fn begin(&self, span: Duration) -> bool {
        let mut state = self.lock();
        let before = state.until.filter(|until| *until > now());
        state.until = now().checked_add(span).max(before);
        before.is_none()
    }

    /// Ends the pause that is under way, if there is one.
    pub(crate) fn lift(&self) {
        self.lock().until = None;
        self.changed.notify_all();
    }

    /// Ends the pause that is under way, and all that might come.
    pub(crate) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// How much of a pause is left.
    pub(crate) fn left(&self) -> Option<Duration> {
        let state = self.lock();
        state.until.and_then(|until| until.checked_duration_since(now())).filter(|left| !left.is_zero() && !state.ended)
    }

    /// Stands still for as long as the pause lasts.
    pub(crate) fn stand(&self) {
        while let Some(left) = self.left() {
            let state = self.lock();
            // What changed in between must not be slept over.
            if state.until.is_some() && !state.ended {
                drop(self.changed.wait_timeout(state, left));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_pause_is_lifted_and_a_stop_ends_all() {
        let pauses = Pauses::default();
        assert!(pauses.begin(LONG));
        assert!(!pauses.begin(Duration::from_secs(1)), "a shorter one changes nothing");
        assert!(pauses.left() > Some(LONG / 2));
        std::thread::scope(|scope| {
            let standing = scope.spawn(|| pauses.stand());
            pauses.lift();
            standing.join().unwrap();
        });
        assert_eq!(pauses.left(), None);
        assert!(pauses.begin(LONG), "another one may come");
        pauses.end();
        pauses.stand();
        assert_eq!(pauses.left(), None);
    }

    #[test]
    fn a_pause_is_over_by_itself() {
        let pauses = Pauses::default();
        pauses.begin(Duration::from_millis(5));
        pauses.stand();
        assert_eq!(pauses.left(), None);
    }
}
