//! The dials of a group, in time rather than in ticks.

use verity_types::{Nanos, NodeId};

use crate::Error;

/// An election waits at most so many ticks longer for disks that are slow.
pub(crate) const VOTE_TICKS_MAX: usize = 400;
/// Parts in a million.
const MILLION: u64 = 1_000_000;

/// How a group behaves. All nodes of a group must use equal values.
///
/// HAZARD: if `lease` differs between the nodes of one group, a node with the shorter one may elect a new leader while
/// the old one still answers reads from its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The unit of the engine's timers.
    pub tick: Nanos,
    /// How often a leader says that it is alive.
    pub heartbeat: Nanos,
    /// A follower that hears nothing for this long may start an election; until then it refuses to vote.
    pub election_min: Nanos,
    /// The upper end of the random election timeout.
    pub election_max: Nanos,
    /// How long a leader may answer barriers after the send moment of a heartbeat round that a quorum acknowledged;
    /// `None` makes every barrier a round trip. Also the floor below which no follower replaces a leader, so a short
    /// lease makes for a quick failover.
    pub lease: Option<Nanos>,
    /// How far two clocks may drift apart, in parts per million, while both count a lease.
    pub drift_ppm: u64,
    /// A barrier that is not answered for this long fails.
    pub barrier_timeout: Nanos,
    /// A group without work for this long goes to sleep; `None` keeps it awake.
    pub hibernate_after: Option<Nanos>,
    /// Appends in flight to one peer before the first is acknowledged.
    pub inflight_max: usize,
    /// Bytes of entries in one append; one larger entry goes alone.
    pub append_bytes_max: u64,
    /// Bytes of proposals that may wait for commit; above it, proposals are refused.
    pub uncommitted_bytes_max: u64,
    /// Bytes of entries in one `Commit`.
    pub commit_bytes_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tick: Nanos::from_millis(25),
            heartbeat: Nanos::from_millis(50),
            election_min: Nanos::from_millis(300),
            election_max: Nanos::from_millis(600),
            lease: Some(Nanos::from_millis(120)),
            drift_ppm: 10_000,
            barrier_timeout: Nanos::from_millis(1_000),
            hibernate_after: Some(Nanos::from_millis(10_000)),
            inflight_max: 32,
            append_bytes_max: 512 << 10,
            uncommitted_bytes_max: 16 << 20,
            commit_bytes_max: 4 << 20,
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
        if self.ticks(self.heartbeat) >= self.ticks(self.election_min) {
            return misuse("heartbeat must be shorter than election_min by a tick or more");
        }
        if self.ticks(self.election_min) + 2 > self.ticks(self.election_max) {
            return misuse("election_max must be longer than election_min by two ticks or more");
        }
        if self.drift_ppm >= MILLION {
            return misuse("drift_ppm must be below one million");
        }
        if self.hold().0 + self.tick.0 > self.election_min.0 {
            return misuse("lease, drift and one tick must fit into election_min");
        }
        if self.inflight_max == 0 || self.append_bytes_max == 0 || self.uncommitted_bytes_max < self.append_bytes_max {
            return misuse("inflight_max and append_bytes_max must not be zero, nor exceed uncommitted_bytes_max");
        }
        Ok(())
    }

    /// The engine's own form of this, for `node`, whose log begins behind `base`.
    pub(crate) fn engine(&self, node: NodeId, base: u64) -> raft::Config {
        raft::Config {
            id: node.0,
            election_tick: self.ticks(self.election_min),
            heartbeat_tick: self.ticks(self.heartbeat),
            min_election_tick: self.ticks(self.election_min),
            max_election_tick: self.ticks(self.election_max) + VOTE_TICKS_MAX,
            applied: base,
            max_size_per_msg: self.append_bytes_max,
            max_inflight_msgs: self.inflight_max,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: self.uncommitted_bytes_max,
            max_committed_size_per_ready: self.commit_bytes_max,
            ..raft::Config::default()
        }
    }

    /// A span in ticks, at least one.
    pub(crate) fn ticks(&self, span: Nanos) -> usize {
        usize::try_from((span.0 / self.tick.0).clamp(1, 1 << 20)).expect("bounded above")
    }

    /// How long a leader trusts a lease, on its own clock.
    pub(crate) fn lease_span(&self) -> Option<Nanos> {
        self.lease.map(|span| Nanos(span.0 - span.0 / MILLION * self.drift_ppm))
    }

    /// How long a follower keeps its promise not to elect anyone else, on its own clock.
    pub(crate) fn hold(&self) -> Nanos {
        self.lease.map_or(Nanos(0), |span| Nanos(span.0 + span.0 / MILLION * self.drift_ppm))
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
            Config { heartbeat: Nanos::from_millis(300), ..Config::default() },
            Config { election_max: Nanos::from_millis(300), ..Config::default() },
            Config { lease: Some(Nanos::from_millis(290)), ..Config::default() },
            Config { drift_ppm: MILLION, ..Config::default() },
            Config { inflight_max: 0, ..Config::default() },
        ];
        for config in broken {
            assert!(matches!(config.validate(), Err(Error::ApiMisuse(_))), "{config:?}");
        }
    }

    #[test]
    fn a_lease_ends_before_the_promise_that_it_rests_on() {
        let config = Config::default();
        assert!(config.lease_span().unwrap() < config.hold());
    }
}
