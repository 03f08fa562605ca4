//! When something is to be done without anybody asking. Follows from the state; not part of it.

use std::collections::{BTreeMap, BTreeSet};

use super::command::ShareName;

/// Whose time it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Group(String),
    Transaction(String),
    Share(ShareName),
    Sweep,
}

/// How long after `now` somebody last seen at `seen` has been silent for `timeout_ms`; all in milliseconds.
pub(super) fn silence_left(seen: u64, timeout_ms: u32, now: u64) -> u64 {
    seen.saturating_add(u64::from(timeout_ms)).saturating_sub(now)
}

/// At most one moment for each key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Timers {
    queue: BTreeSet<(u64, Key)>,
    at: BTreeMap<Key, u64>,
}

impl Timers {
    pub(super) fn set(&mut self, key: Key, at: Option<u64>) {
        if self.at.get(&key).copied() == at {
            return;
        }
        if let Some(old) = self.at.remove(&key) {
            self.queue.remove(&(old, key.clone()));
        }
        if let Some(at) = at {
            self.queue.insert((at, key.clone()));
            self.at.insert(key, at);
        }
    }

    /// The earliest moment.
    pub(super) fn first(&self) -> Option<u64> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// The first whose moment has come.
    pub(super) fn due(&self, now: u64) -> Option<Key> {
        self.queue.first().filter(|(at, _)| *at <= now).map(|(_, key)| key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_moment() {
        let mut timers = Timers::default();
        timers.set(Key::Sweep, Some(5));
        timers.set(Key::Group("g".into()), Some(3));
        assert_eq!((timers.first(), timers.due(2)), (Some(3), None));
        timers.set(Key::Group("g".into()), Some(9));
        assert_eq!((timers.first(), timers.due(5)), (Some(5), Some(Key::Sweep)));
        timers.set(Key::Sweep, None);
        timers.set(Key::Group("g".into()), None);
        assert_eq!(timers, Timers::default());
    }
}
