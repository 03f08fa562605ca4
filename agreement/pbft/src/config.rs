//! The dials of a group.

use bytes::Bytes;
use verity_types::Nanos;

use crate::message::MAX_BATCH_BYTES;
use crate::{Error, Mutant};

/// How a group behaves. `group`, `checkpoint_every` and `window` are the same on all replicas; safety rests on none of the
/// others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The group's name: part of everything that is signed, so that nothing said in one group counts in another.
    pub group: Bytes,
    /// How often `Tick` is wanted.
    pub tick: Nanos,
    /// How often a replica says how far it is, and what is lost is said again.
    pub heartbeat: Nanos,
    /// A client whose request was not executed for this long sends it to all replicas (PBFT §4.1).
    pub request_timeout: Nanos,
    /// A backup that waits for a request to be executed for this long asks for the next view (§4.4). Doubled for each view
    /// that fails, up to `view_timeout_max`.
    pub view_timeout: Nanos,
    /// The longest wait for a view.
    pub view_timeout_max: Nanos,
    /// What a primary does is looked at in windows of this length; zero: slow primaries are seen by their timeouts alone.
    pub pace_window: Nanos,
    /// A primary must execute this much of what the best of the last N did in a window.
    pub pace_percent: u64,
    /// By so much what is expected of a primary rises with each window.
    pub pace_rise_percent: u64,
    /// A barrier that is not answered for this long fails.
    pub barrier_timeout: Nanos,
    /// A checkpoint is taken at each multiple of this (§4.3).
    pub checkpoint_every: u64,
    /// The high watermark is the low one and this (§4.2): how far the order may run ahead of the last stable checkpoint.
    pub window: u64,
    /// How many batches a primary has under way before it waits, so that requests gather.
    pub in_flight_max: u64,
    /// While a batch is under way, requests gather for this long before the next: a batch costs as much for one request as for
    /// a hundred.
    pub gather: Nanos,
    /// A batch is closed when its requests reach this many bytes.
    pub batch_bytes_max: usize,
    /// A batch is closed when it has so many requests.
    pub batch_requests_max: usize,
    /// How many requests of one client wait at a replica.
    pub client_requests_max: usize,
    /// How many bytes of requests of one client wait at a replica.
    pub client_bytes_max: usize,
    /// A primary's stamp may differ by this much from a backup's clock.
    pub time_bound: Nanos,
    /// A peer whose signatures fail so often is not listened to for a while.
    pub bad_signatures_max: u32,
    /// Checks who was primary, from which position of the voters the views are counted.
    pub first_primary: u64,
    /// The rule that this replica breaks.
    #[doc(hidden)]
    pub mutant: Option<Mutant>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            group: Bytes::new(),
            tick: Nanos::from_millis(10),
            heartbeat: Nanos::from_millis(50),
            request_timeout: Nanos::from_millis(150),
            view_timeout: Nanos::from_millis(300),
            view_timeout_max: Nanos::from_millis(10_000),
            pace_window: Nanos(0),
            pace_percent: 90,
            pace_rise_percent: 1,
            barrier_timeout: Nanos::from_millis(1_000),
            checkpoint_every: 128,
            window: 256,
            in_flight_max: 8,
            gather: Nanos::from_millis(5),
            batch_bytes_max: 1 << 20,
            batch_requests_max: 4_096,
            client_requests_max: 8_192,
            client_bytes_max: 32 << 20,
            time_bound: Nanos::from_millis(2_000),
            bad_signatures_max: 32,
            first_primary: 0,
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
        if self.tick.0 == 0 || self.heartbeat < self.tick {
            return misuse("tick must be longer than zero, and heartbeat a tick or longer");
        }
        if self.view_timeout < self.heartbeat || self.view_timeout_max < self.view_timeout {
            return misuse("view_timeout must be a heartbeat or longer, and not above view_timeout_max");
        }
        if self.pace_percent > 100 || self.pace_rise_percent > 100 {
            return misuse("pace_percent and pace_rise_percent must not be above 100");
        }
        if self.checkpoint_every == 0 || self.window < 2 * self.checkpoint_every {
            return misuse("window must hold two checkpoints or more");
        }
        if self.in_flight_max == 0 || self.batch_requests_max == 0 || self.client_requests_max == 0 {
            return misuse("in_flight_max, batch_requests_max and client_requests_max must not be zero");
        }
        if self.batch_bytes_max == 0 || self.batch_bytes_max > MAX_BATCH_BYTES / 2 {
            return misuse("batch_bytes_max must not be zero, nor exceed half of the largest batch");
        }
        if self.client_bytes_max < self.batch_bytes_max {
            return misuse("client_bytes_max must not be below batch_bytes_max");
        }
        Ok(())
    }

    pub(crate) fn breaks(&self, rule: Mutant) -> bool {
        self.mutant == Some(rule)
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
            Config { view_timeout: Nanos(1), ..Config::default() },
            Config { pace_percent: 101, ..Config::default() },
            Config { window: 128, ..Config::default() },
            Config { in_flight_max: 0, ..Config::default() },
            Config { batch_bytes_max: 0, ..Config::default() },
            Config { client_bytes_max: 1, ..Config::default() },
        ];
        for config in broken {
            assert!(matches!(config.validate(), Err(Error::ApiMisuse(_))), "{config:?}");
        }
    }
}
