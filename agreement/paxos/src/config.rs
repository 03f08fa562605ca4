//! The dials of a group.

use verity_types::Nanos;

use crate::message::MAX_ENTRY_BYTES;
use crate::{Error, Mutant};

/// How a group behaves. Nodes of a group may differ in it; safety rests on none of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often `Tick` is wanted.
    pub tick: Nanos,
    /// How often a leader says that it is alive, and what is lost is sent again.
    pub heartbeat: Nanos,
    /// A leader that hears no majority for this long resigns; a node that hears no leader for this long says so.
    pub election_min: Nanos,
    /// The upper end of the random time after which a node without a leader looks for one.
    pub election_max: Nanos,
    /// A barrier that is not answered for this long fails.
    pub barrier_timeout: Nanos,
    /// A change of members waits this long for its new voters to catch up, then it is given up.
    pub change_timeout: Nanos,
    /// A group without work for this long goes to sleep; `None` keeps it awake.
    pub hibernate_after: Option<Nanos>,
    /// A message ends with the value that brings it to so many bytes.
    pub batch_bytes_max: usize,
    /// Bytes of proposals that may wait for a decision; above it, proposals are refused.
    pub uncommitted_bytes_max: usize,
    /// The rule that this node breaks.
    #[doc(hidden)]
    pub mutant: Option<Mutant>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tick: Nanos::from_millis(25),
            heartbeat: Nanos::from_millis(50),
            election_min: Nanos::from_millis(300),
            election_max: Nanos::from_millis(600),
            barrier_timeout: Nanos::from_millis(1_000),
            change_timeout: Nanos::from_millis(10_000),
            hibernate_after: Some(Nanos::from_millis(10_000)),
            batch_bytes_max: 1 << 20,
            uncommitted_bytes_max: 16 << 20,
            mutant: None,
        }
    }
}

impl Config {
    /// Checks that the values make sense together.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] names the first value that does not.
    pub fn validate(&self) -> Result<(), Error> {
        let misuse = |what: &str| Err(Error::ApiMisuse(what.to_owned()));
        if self.tick.0 == 0 {
            return misuse("tick must be longer than zero");
        }
        if self.heartbeat < self.tick || self.heartbeat.0 * 2 > self.election_min.0 {
            return misuse("heartbeat must be a tick or longer, and fit into election_min twice");
        }
        if self.election_min.0 + self.tick.0 > self.election_max.0 {
            return misuse("election_max must be longer than election_min by a tick or more");
        }
        if self.batch_bytes_max == 0 || self.batch_bytes_max > MAX_ENTRY_BYTES / 2 {
            return misuse("batch_bytes_max must not be zero, nor exceed half of the largest entry");
        }
        if self.uncommitted_bytes_max < self.batch_bytes_max {
            return misuse("uncommitted_bytes_max must not be below batch_bytes_max");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_nonsense_is_not() {
        Config::default().validate().unwrap();
        let broken = [
            Config { tick: Nanos(0), ..Config::default() },
            Config { heartbeat: Nanos::from_millis(200), ..Config::default() },
            Config { election_max: Nanos::from_millis(300), ..Config::default() },
            Config { batch_bytes_max: 0, ..Config::default() },
            Config { uncommitted_bytes_max: 1, ..Config::default() },
        ];
        for config in broken {
            assert!(matches!(config.validate(), Err(Error::ApiMisuse(_))), "{config:?}");
        }
    }
}
