//! What a node's sessions are told once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use verity_contract::Door;
use verity_types::{GroupId, Incarnation, Nanos, NodeId};

use crate::machine::TreeConfig;

/// What comes in by a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DoorKind {
    /// The client port.
    #[default]
    Plain,
    /// The secure client port: [`verity_contract::Peer::certificate`] names the client.
    Tls,
    /// The AdminServer's port: HTTP, `GET /commands/<name>`.
    Admin,
}

/// Counts requests, for whoever runs the node. It is told what they took by the clock that the driver brought.
pub trait Meter: std::fmt::Debug + Send + Sync {
    /// A request was answered so long after it came.
    fn answered(&self, write: bool, took: Nanos);
}

/// Configuration of [`crate::session::ZooKeeper`]. The names in brackets are those of `zoo.cfg`.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// Its start count: session ids of two starts differ.
    pub incarnation: Incarnation,
    /// The tree.
    pub group: GroupId,
    /// True if the tree has one replica; only `Mode:` depends on it.
    pub standalone: bool,
    /// A secret of this node: passwords and nonces are drawn from it. Never shown.
    pub seed: [u8; 32],
    /// The unit of all times, in milliseconds. `[tickTime]`
    pub tick_ms: u32,
    /// Shorter wishes are raised to it; 2 ticks if 0. `[minSessionTimeout]`
    pub timeout_ms_min: u32,
    /// Longer wishes are cut to it; 20 ticks if 0. `[maxSessionTimeout]`
    pub timeout_ms_max: u32,
    /// The longest packet of a client. `[jute.maxbuffer]`
    pub packet_size_max: usize,
    /// The most requests of one connection that wait for an answer; behind it nothing is read from it.
    pub outstanding_max: usize,
    /// The most connections from one address; 0 for any number. `[maxClientCnxns]`
    pub connections_per_address_max: usize,
    /// The most watches that this node keeps.
    pub watches_max: usize,
    /// Which four-letter words are answered. `[4lw.commands.whitelist]`
    pub words: BTreeSet<String>,
    /// `user:base64(sha1(user:password))` of the super user. `[superDigest]`
    pub super_digest: Option<String>,
    /// The certificate subject of the super user. `[X509AuthenticationProvider.superUser]`
    pub super_certificate: Option<String>,
    /// The SASL user who is the super user. `[superUser]`
    pub super_user: Option<String>,
    /// Users and passwords of SASL DIGEST-MD5; none switches SASL off.
    pub sasl_users: BTreeMap<String, String>,
    /// Names that the AdminServer may be asked by, beside addresses and `localhost`.
    pub admin_hosts: BTreeSet<String>,
    /// The node's own line of the ensemble (`server.N=...`): it asks to join for as long as nobody leads it.
    pub join: Option<String>,
    /// What each listener is. One that is not named is plain.
    pub doors: BTreeMap<Door, DoorKind>,
    /// Clients that ask for it are served reads without a leader. `[readonlymode.enabled]`
    pub read_only_mode: bool,
    /// Sessions begin unreplicated. `[localSessionsEnabled]`
    pub local_sessions: bool,
    /// A local session that creates an ephemeral becomes a global one. `[localSessionsUpgradingEnabled]`
    pub upgrade_local_sessions: bool,
    /// Every read is linearizable, as if each client had asked for it.
    pub linearizable_reads: bool,
    /// How long there may be no leader until connections close, in milliseconds; 2 ticks if 0.
    pub leaderless_ms: u32,
    /// What `Zookeeper version:` says. Clients parse the numbers at its front.
    pub version: String,
    /// Lines of `conf`: name and value, in order.
    pub settings: Vec<(String, String)>,
    /// Who counts requests, if anybody does.
    pub meter: Option<Arc<dyn Meter>>,
}

/// The words that are answered unless the configuration says otherwise: all that change nothing.
pub const WORDS_DEFAULT: [&str; 15] = [
    "ruok", "srvr", "stat", "mntr", "conf", "cons", "dirs", "dump", "envi", "hash", "wchs", "wchc", "wchp", "isro",
    "gtmk",
];

impl Config {
    /// ZooKeeper's defaults.
    #[must_use]
    pub fn new(node: NodeId, incarnation: Incarnation, group: GroupId, seed: [u8; 32]) -> Self {
        Self {
            node,
            incarnation,
            group,
            standalone: false,
            seed,
            tick_ms: 2000,
            timeout_ms_min: 0,
            timeout_ms_max: 0,
            packet_size_max: 0xf_ffff,
            outstanding_max: 1000,
            connections_per_address_max: 60,
            watches_max: 1 << 20,
            words: WORDS_DEFAULT.iter().map(|word| (*word).to_owned()).collect(),
            super_digest: None,
            super_certificate: None,
            super_user: None,
            sasl_users: BTreeMap::new(),
            admin_hosts: BTreeSet::new(),
            join: None,
            doors: BTreeMap::new(),
            read_only_mode: true,
            local_sessions: false,
            upgrade_local_sessions: false,
            linearizable_reads: false,
            leaderless_ms: 0,
            version: format!("3.8.0-verity-{}, built on 2022-02-25 08:49 UTC", env!("CARGO_PKG_VERSION")),
            settings: Vec::new(),
            meter: None,
        }
    }

    /// The shortest session timeout.
    #[must_use]
    pub fn timeout_min(&self) -> u32 {
        if self.timeout_ms_min == 0 { self.tick_ms.saturating_mul(2) } else { self.timeout_ms_min }
    }

    /// The longest session timeout.
    #[must_use]
    pub fn timeout_max(&self) -> u32 {
        let max = if self.timeout_ms_max == 0 { self.tick_ms.saturating_mul(20) } else { self.timeout_ms_max };
        max.max(self.timeout_min())
    }

    /// The timeout that a client gets.
    #[must_use]
    pub fn clamp(&self, timeout_ms: i32) -> i32 {
        let asked = u32::try_from(timeout_ms).unwrap_or(0).clamp(self.timeout_min(), self.timeout_max());
        i32::try_from(asked).unwrap_or(i32::MAX)
    }

    /// How often liveness is reported and waits are checked.
    #[must_use]
    pub(super) fn beat_ms(&self) -> u64 {
        u64::from((self.tick_ms / 2).min(self.timeout_min() / 4).max(1))
    }

    /// How long there may be no leader.
    #[must_use]
    pub(super) fn leaderless(&self) -> u64 {
        u64::from(if self.leaderless_ms == 0 { self.tick_ms.saturating_mul(2) } else { self.leaderless_ms })
    }
}

/// Configuration of [`crate::session::ZooKeeperDuty`].
#[derive(Clone, Debug)]
pub struct DutyConfig {
    /// The unit of all times, in milliseconds: sessions expire at whole ticks.
    pub tick_ms: u32,
    /// How often containers and nodes with a time to live are looked at. `[znode.container.checkIntervalMs]`
    pub container_check_ms: u32,
    /// The most of them that are deleted in a minute. `[znode.container.maxPerMinute]`
    pub containers_per_minute_max: u32,
    /// What the tree's configuration shall be: proposed when the leader's tree says otherwise.
    pub tree: TreeConfig,
    /// What `/zookeeper/config` holds at first; empty for nothing.
    pub config_text: String,
}

impl Default for DutyConfig {
    fn default() -> Self {
        Self {
            tick_ms: 2000,
            container_check_ms: 60_000,
            containers_per_minute_max: 10_000,
            tree: TreeConfig::default(),
            config_text: String::new(),
        }
    }
}
