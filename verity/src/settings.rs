//! The configuration of `verity server`: a TOML file, then the environment, then flags.
//!
//! ```toml
//! cluster = "production"          # every node of a cluster says the same
//! voters = [1, 2, 3]              # who votes in a new cluster; every other node learns.
//!                                 # [] for a node that a running cluster is to take in
//! systems = ["zookeeper", "kafka"]  # what is served; every node of a cluster says the same
//!
//! [node]
//! id = 1
//! data_dir = "/var/lib/verity"
//! clients = "127.0.0.1"           # the address on which clients are served
//! peer = "127.0.0.1:7071"         # where this node listens for its peers
//! admin = "127.0.0.1:7070"
//! observer = false                # with voters = []: it shall learn and not vote
//! log_memory_mib = 0              # what logs may take in memory, and twice that (256 at least) on disk;
//!                                 # 0: a sixty-fourth of the machine's, 32 to 384
//!
//! [peers]                         # where the nodes listen for each other
//! 1 = "127.0.0.1:7071"
//! 2 = "127.0.0.1:8071"
//! 3 = "127.0.0.1:9071"
//!
//! [clients]                       # where clients find the nodes, for /zookeeper/config; by default the host of
//! 1 = "127.0.0.1:2181"            # the peer address with zookeeper.port
//!
//! [zookeeper]                     # all of it may be left out; this is what then holds
//! port = 2181                     # clients; 0 for no such listener, as with the next two
//! tls_port = 2182                 # clients with TLS, if there are certificates
//! admin_port = 8080               # ZooKeeper's AdminServer, on the address of node.admin
//! tls_dir = "..."                 # certificates towards clients, if not those of [tls]
//! client_certificates = "need"    # on the TLS port: none, want or need
//! admin_hosts = []                # names of the AdminServer, beside addresses and localhost
//! tick_time_ms = 2000             # the unit of session expiry
//! min_session_timeout_ms = 0      # 0: 2 ticks
//! max_session_timeout_ms = 0      # 0: 20 ticks
//! max_packet_bytes = 1048575      # jute.maxbuffer
//! max_connections_per_address = 60
//! words = ["ruok", "srvr", ...]   # four-letter words that are answered; "*" for all
//! super_digest = "super:..."      # user:base64(sha1(user:password)) of the super user
//! super_certificate = "CN=..."    # the subject of the certificate that is super
//! super_sasl_user = "..."         # the SASL user who is super
//! read_only_mode = true           # reads without a leader, for clients that ask for them
//! local_sessions = false          # sessions begin unreplicated
//! upgrade_local_sessions = false  # and become global with their first ephemeral
//! linearizable_reads = false      # every read, not only those of clients that ask for it
//! extended_types = false          # nodes with a time to live
//! reconfig_enabled = false
//! enforce_quota = false           # quotas refuse, and do not only count
//! skip_acl = false                # access lists are stored and never asked
//!
//! [zookeeper.sasl_users]          # SASL DIGEST-MD5; without users it is off
//! alice = "her password"
//!
//! [kafka]                         # all of it may be left out; this is what then holds
//! port = 9092                     # clients; 0 for no such listener
//! tls_port = 9093                 # clients with TLS, if there are certificates
//! host = "..."                    # what clients are told to connect to; by default node.clients
//! rack = "..."                    # broker.rack; {node} in it stands for the node's number
//! tls_dir = "..."                 # certificates towards clients, if not those of [tls]
//! client_certificates = "none"    # on the TLS port: none, want or need
//! sasl = false                    # clients authenticate: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512
//! connections_max_reauth_ms = 0   # when they must authenticate again; 0 for never
//! super_users = ["User:admin"]    # who may do everything
//! allow_everyone_if_no_acl_found = true
//! group_initial_rebalance_delay_ms = 0
//! group_min_session_timeout_ms = 6000
//! group_max_session_timeout_ms = 1800000
//!
//! [kafka.plain_users]             # SASL PLAIN
//! alice = "her password"
//!
//! [bitcoin]                       # a regtest node beside each node; all of it may be left out
//! rpc_port = 18443                # calls, on this machine alone
//! p2p_port = 18444                # peers, on node.clients; 0 for no such listener, as with the next
//! zmq_port = 28332                # subscribers of all of ZMQ's topics, on this machine alone
//! options = []                    # lines of Core's bitcoin.conf, such as "fallbackfee=0.0001"
//!
//! [bitcoin.peers]                 # where the nodes' Bitcoin peers are met
//! 1 = "127.0.0.1:18444"
//!
//! [tls]
//! dir = "/etc/verity/tls"         # ca.pem, node.pem, node.key; see `verity cert`. Read again when they change
//!
//! [pbft.keys]                     # with agreement = "pbft", or for topics on it: every node's public key, of `verity node key`
//! 1 = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
//!
//! [telemetry]
//! otlp_endpoint = "http://127.0.0.1:4318"   # where OpenTelemetry is sent, by OTLP over HTTP; nowhere by default
//! interval_s = 10
//!
//! [lab]
//! enabled = false                 # true allows `verity fault`
//! byzantine = "equivocate"        # with [pbft.keys]: what this node lies about, in what is on PBFT; nothing by default
//! disk = "real"                   # "volatile": a kill takes what was not synced; "forgetful": syncs do nothing
//! ```
//! An environment variable `VERITY_NODE__ID=1` sets `node.id`; flags of `verity server` come over both. `verity up --config FILE` takes `[zookeeper]` and
//! `[telemetry]` of such a file; a file for it holds nothing else.

mod bitcoin;
mod kafka;
mod ledger;
mod zookeeper;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::Deserialize;
use verity_pbft::liar::Lie;
use verity_storage::ClusterId;
use verity_types::NodeId;

use crate::compose::{Agreement, Seat, System};

pub(crate) use bitcoin::Bitcoin;
pub(crate) use kafka::Kafka;
pub(crate) use ledger::Ledger;
pub(crate) use zookeeper::ZooKeeper;

/// The keys of a file that are in no section, as the environment spells them.
const TOP_KEYS: [&str; 4] = ["cluster", "voters", "agreement", "systems"];
/// No machine has more memory for logs.
const LOG_MEMORY_MIB_MAX: u64 = 1 << 20;
/// What is measured is sent at least once a day.
const INTERVAL_S_MAX: u64 = 86_400;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) cluster: String,
    pub(crate) voters: Vec<u64>,
    pub(crate) agreement: Option<Agreement>,
    #[serde(default = "default_systems")]
    pub(crate) systems: BTreeSet<System>,
    pub(crate) node: Node,
    pub(crate) peers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) clients: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) zookeeper: ZooKeeper,
    #[serde(default)]
    pub(crate) kafka: Kafka,
    #[serde(default)]
    pub(crate) ledger: Ledger,
    #[serde(default)]
    pub(crate) bitcoin: Bitcoin,
    pub(crate) tls: Option<Tls>,
    #[serde(default)]
    pub(crate) pbft: Pbft,
    #[serde(default)]
    pub(crate) telemetry: Telemetry,
    #[serde(default)]
    pub(crate) lab: Lab,
}

/// The sections that do not say where nodes run: what `verity up` takes from a file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Features {
    pub(crate) zookeeper: ZooKeeper,
    pub(crate) kafka: Kafka,
    pub(crate) ledger: Ledger,
    pub(crate) bitcoin: Bitcoin,
    pub(crate) telemetry: Telemetry,
}

/// `[node]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) data_dir: PathBuf,
    #[serde(default = "loopback")]
    pub(crate) clients: IpAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) admin: SocketAddr,
    #[serde(default)]
    pub(crate) observer: bool,
    #[serde(default)]
    pub(crate) log_memory_mib: u64,
}

/// `[tls]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) dir: PathBuf,
}

/// `[pbft]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pbft {
    /// Public keys of 32 bytes in base64, by node.
    pub(crate) keys: BTreeMap<String, String>,
}

impl Pbft {
    /// Everybody's public keys.
    pub(crate) fn public(&self) -> Result<BTreeMap<NodeId, [u8; 32]>> {
        let parse = |(id, key): (&String, &String)| {
            let node = id
                .parse()
                .map(NodeId)
                .with_context(|| format!("[pbft.keys] names a node {id:?}, which is no number"))?;
            let key = STANDARD.decode(key).ok().and_then(|bytes| bytes.try_into().ok());
            Ok((node, key.with_context(|| format!("pbft.keys.{id} is no key of 32 bytes in base64"))?))
        };
        self.keys.iter().map(parse).collect()
    }
}

/// `[telemetry]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Telemetry {
    /// The base address of a collector; `/v1/metrics` is added.
    pub(crate) otlp_endpoint: Option<String>,
    pub(crate) interval_s: u64,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { otlp_endpoint: None, interval_s: 10 }
    }
}

impl Telemetry {
    fn check(&self) -> Result<()> {
        if !(1..=INTERVAL_S_MAX).contains(&self.interval_s) {
            bail!("telemetry.interval_s is between 1 and {INTERVAL_S_MAX}");
        }
        if let Some(endpoint) = self.otlp_endpoint.as_ref().filter(|endpoint| !endpoint.starts_with("http://")) {
            bail!("telemetry.otlp_endpoint is an address such as http://127.0.0.1:4318, without TLS, not {endpoint:?}");
        }
        Ok(())
    }
}

/// `[lab]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lab {
    pub(crate) enabled: bool,
    #[serde(default)]
    pub(crate) disk: LabDisk,
    /// What this node lies about, in what is on PBFT.
    #[serde(default, deserialize_with = "lie")]
    pub(crate) byzantine: Option<Lie>,
}

fn lie<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Lie>, D::Error> {
    let name = String::deserialize(from)?;
    parse_lie(&name).map(Some).map_err(serde::de::Error::custom)
}

/// What a node may lie about, by name.
pub(crate) fn parse_lie(name: &str) -> Result<Lie, String> {
    let known = || Lie::ALL.map(|(name, _)| name).join(", ");
    Lie::named(name).ok_or_else(|| format!("no liar is called {name:?}; there are {}", known()))
}

/// What the node's disk is made to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LabDisk {
    /// What it is.
    #[default]
    Real,
    /// A kill of the process takes what was not synced, as a power cut would.
    Volatile,
    /// The same, and no sync does anything: the mutant that a durability test must catch.
    Forgetful,
}

/// Those that need nothing made before: a ledger has a genesis that lists its nodes' keys, and Bitcoin's nodes are told where
/// the others are.
fn default_systems() -> BTreeSet<System> {
    BTreeSet::from([System::ZooKeeper, System::Kafka])
}

/// What `verity up` serves, if nobody says: all but the ledger, which is asked for.
pub(crate) fn systems_up() -> BTreeSet<System> {
    System::ALL.into_iter().filter(|system| *system != System::Ledger).collect()
}

fn loopback() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// The environment's part. The variables of flags, such as `VERITY_LOG`, begin alike and are none of it.
fn environment() -> Env {
    Env::prefixed("VERITY_")
        .filter(|key| key.as_str().contains("__") || TOP_KEYS.iter().any(|top| key == *top))
        .split("__")
}

impl Features {
    /// Reads a file, if there is to be one, and what the environment adds to it.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self> {
        let names = ["zookeeper", "kafka", "ledger", "bitcoin", "telemetry"];
        let sections = move |key: &figment::value::UncasedStr| names.iter().any(|name| key.starts_with(name));
        let mut figment = Figment::new();
        if let Some(path) = path {
            if !path.exists() {
                bail!("there is no {}", path.display());
            }
            figment = figment.merge(Toml::file_exact(path));
        }
        let source = path.map_or_else(|| "the environment".to_owned(), |path| path.display().to_string());
        let features: Self = figment
            .merge(environment().filter(sections))
            .extract()
            .with_context(|| format!("{source} cannot be used"))?;
        features.check()?;
        Ok(features)
    }

    /// Refuses values that cannot be meant.
    pub(crate) fn check(&self) -> Result<()> {
        self.zookeeper.check()?;
        self.kafka.check()?;
        self.ledger.check()?;
        self.bitcoin.check()?;
        self.telemetry.check()
    }
}

impl Settings {
    /// Reads a file and what the environment adds to it.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            bail!("there is no {}; `verity server --help` shows what stands in one", path.display());
        }
        let figment = Figment::new().merge(Toml::file_exact(path)).merge(environment());
        let settings: Self = figment.extract().with_context(|| format!("{} cannot be used", path.display()))?;
        settings.check()?;
        Ok(settings)
    }

    /// Refuses values that cannot be meant.
    pub(crate) fn check(&self) -> Result<()> {
        let peers = self.peers()?;
        let id = self.node.id;
        if id == 0 {
            bail!("node.id begins at 1");
        }
        if let Some(unknown) = self.voters.iter().find(|voter| !peers.contains_key(&NodeId(**voter))) {
            bail!("voter {unknown} has no address in [peers]");
        }
        if !peers.contains_key(&NodeId(id)) {
            bail!("node {id} has no address in [peers]");
        }
        if self.node.log_memory_mib > LOG_MEMORY_MIB_MAX {
            bail!("node.log_memory_mib is at most {LOG_MEMORY_MIB_MAX}");
        }
        if self.lab.disk != LabDisk::Real && !self.lab.enabled {
            bail!("lab.disk loses data on purpose; set lab.enabled = true as well, or take it out");
        }
        if self.lab.byzantine.is_some() && !self.lab.enabled {
            bail!("lab.byzantine lies on purpose; set lab.enabled = true as well, or take it out");
        }
        let (agreement, ledger) = (self.agreement(), self.ledger_agreement());
        let nothing_on_pbft = ![agreement, ledger].contains(&Agreement::Pbft) && self.pbft.keys.is_empty();
        if self.lab.byzantine.is_some() && nothing_on_pbft {
            bail!(
                "lab.byzantine needs agreement = \"pbft\", or [pbft.keys] for topics on it; {agreement} survives no liar"
            );
        }
        agreement.check_nodes(if self.voters.is_empty() { peers.len() } else { self.voters.len() })?;
        self.pbft.public()?;
        self.zookeeper.check()?;
        self.kafka.check()?;
        self.ledger.check()?;
        self.bitcoin.check()?;
        self.telemetry.check()
    }

    /// Refuses what would serve strangers without knowing who they are.
    pub(crate) fn check_exposure(&self, insecure: bool) -> Result<()> {
        let exposed = [self.node.clients, self.node.peer.ip(), self.node.admin.ip()];
        let strangers = exposed.iter().find(|addr| !addr.is_loopback());
        match strangers {
            _ if insecure => Ok(()),
            Some(addr) if self.tls.is_none() => bail!(
                "{addr} is not loopback and there is no [tls]; make certificates with `verity cert`, or say --insecure"
            ),
            _ if !self.node.clients.is_loopback() && self.serves(System::ZooKeeper) && self.zookeeper.port != 0 => {
                bail!(
                    "zookeeper.port would be served on {} without TLS; set it to 0, or say --insecure",
                    self.node.clients
                )
            }
            _ if !self.node.clients.is_loopback() && self.serves(System::Kafka) && self.kafka.port != 0 => {
                bail!("kafka.port would be served on {} without TLS; set it to 0, or say --insecure", self.node.clients)
            }
            _ if !self.node.clients.is_loopback() && self.serves(System::Ledger) && self.ledger.port != 0 => {
                bail!(
                    "ledger.port would be served on {} without TLS; set it to 0, or say --insecure",
                    self.node.clients
                )
            }
            _ if !self.node.clients.is_loopback() && self.serves(System::Kafka) && !self.kafka.knows_clients() => {
                bail!(
                    "kafka would be served on {} to clients that nobody knows; set kafka.sasl = true or \
                 kafka.client_certificates = \"need\", or say --insecure",
                    self.node.clients
                )
            }
            _ => Ok(()),
        }
    }

    /// What groups run on.
    pub(crate) fn agreement(&self) -> Agreement {
        self.agreement.unwrap_or_default()
    }

    /// What the ledger runs on.
    pub(crate) fn ledger_agreement(&self) -> Agreement {
        Agreement::of_ledger(self.agreement, self.peers.len(), !self.pbft.keys.is_empty())
    }

    fn serves(&self, system: System) -> bool {
        self.systems.contains(&system)
    }

    /// Where each node listens for its peers.
    pub(crate) fn peers(&self) -> Result<BTreeMap<NodeId, String>> {
        let parse = |(id, addr): (&String, &String)| {
            let id =
                id.parse().map(NodeId).with_context(|| format!("[peers] names a node {id:?}, which is no number"))?;
            Ok((id, addr.clone()))
        };
        self.peers.iter().map(parse).collect()
    }

    /// Where each node is met.
    pub(crate) fn seats(&self) -> Result<BTreeMap<NodeId, Seat>> {
        if let Some(unknown) = self.clients.keys().find(|id| !self.peers.contains_key(*id)) {
            bail!("[clients] names node {unknown}, which is not in [peers]");
        }
        let seat = |(id, peer): (NodeId, String)| {
            let host = peer.rsplit_once(':').map_or("", |(host, _)| host);
            // Of nodes on one machine, the file of one does not tell the others' ports; it tells its own.
            let usual = || match (self.neighbours(host), id.0 == self.node.id) {
                (false, _) => format!("{host}:{}", self.zookeeper.port),
                (true, true) if self.node.clients.is_unspecified() => format!("{host}:{}", self.zookeeper.port),
                (true, true) => SocketAddr::new(self.node.clients, self.zookeeper.port).to_string(),
                (true, false) => format!("0.0.0.0:{}", self.zookeeper.port),
            };
            let client = self.clients.get(&id.to_string()).cloned().unwrap_or_else(usual);
            (id, Seat { peer, client })
        };
        Ok(self.peers()?.into_iter().map(seat).collect())
    }

    /// True if several nodes are on this host.
    fn neighbours(&self, host: &str) -> bool {
        self.peers.values().filter(|peer| peer.rsplit_once(':').is_some_and(|(theirs, _)| theirs == host)).count() > 1
    }

    /// Nodes of one cluster share its name, and therefore its id; `id:` and 32 digits name the id itself.
    pub(crate) fn cluster_id(&self) -> ClusterId {
        let id = self.cluster.strip_prefix("id:").and_then(|hex| u128::from_str_radix(hex, 16).ok());
        if let Some(id) = id {
            return ClusterId(id.to_be_bytes());
        }
        ClusterId(xxhash_rust::xxh3::xxh3_128(self.cluster.as_bytes()).to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &str) -> Result<Settings> {
        let text = format!(
            "cluster = \"c\"\nvoters = [1]\n{extra}\n[node]\nid = 1\ndata_dir = \"d\"\npeer = \"127.0.0.1:7071\"\n\
             admin = \"127.0.0.1:7070\"\n[peers]\n1 = \"127.0.0.1:7071\"\n"
        );
        let settings: Settings = Figment::new().merge(Toml::string(&text)).extract()?;
        settings.check()?;
        Ok(settings)
    }

    #[test]
    fn a_small_file_is_enough_and_a_wrong_key_is_named() {
        let settings = parse("").expect("nothing is missing");
        assert_eq!(settings.zookeeper.port, 2181);
        assert!(!settings.lab.enabled);
        let error = parse("voterz = [2]").expect_err("there is no such key");
        assert!(error.to_string().contains("voterz"), "{error}");
    }

    #[test]
    fn a_disk_that_loses_data_is_for_the_lab_only() {
        assert_eq!(parse("lab = { enabled = true }").expect("the disk is optional").lab.disk, LabDisk::Real);
        let lab = parse("lab = { enabled = true, disk = \"volatile\" }").expect("this is the lab").lab;
        assert_eq!(lab.disk, LabDisk::Volatile);
        let error = parse("lab = { enabled = false, disk = \"forgetful\" }").expect_err("this is not the lab");
        assert!(error.to_string().contains("lab.enabled"), "{error}");
    }

    #[test]
    fn clients_of_nodes_on_one_machine_are_not_confused() {
        let two = parse("").expect("nothing is missing").seats().expect("all are known");
        assert_eq!(two[&NodeId(1)].client, "127.0.0.1:2181");
        let text = "cluster = \"c\"\nvoters = [1, 2]\n[node]\nid = 1\ndata_dir = \"d\"\npeer = \"127.0.0.1:7071\"\n\
                    admin = \"127.0.0.1:7070\"\n[peers]\n1 = \"127.0.0.1:7071\"\n2 = \"127.0.0.1:8071\"\n3 = \"db:7071\"\n\
                    [clients]\n2 = \"127.0.0.1:3181\"\n";
        let settings: Settings = Figment::new().merge(Toml::string(text)).extract().expect("nothing is missing");
        let clients: Vec<String> = settings.seats().expect("all are known").into_values().map(|s| s.client).collect();
        assert_eq!(clients, ["127.0.0.1:2181", "127.0.0.1:3181", "db:2181"]);
    }

    #[test]
    fn strangers_are_served_only_on_purpose() {
        let mut settings = parse("").expect("nothing is missing");
        assert!(settings.check_exposure(false).is_ok());
        settings.node.clients = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        assert!(settings.check_exposure(false).is_err());
        assert!(settings.check_exposure(true).is_ok());
        settings.tls = Some(Tls { dir: "tls".into() });
        assert!(settings.check_exposure(false).is_err(), "the plain port has no TLS");
        settings.zookeeper.port = 0;
        assert!(settings.check_exposure(false).is_err(), "nor has Kafka's");
        settings.kafka.port = 0;
        assert!(settings.check_exposure(false).is_err(), "Kafka's clients are not asked who they are");
        settings.kafka.sasl = true;
        assert!(settings.check_exposure(false).is_ok());
        settings.systems = BTreeSet::from([System::ZooKeeper]);
        settings.kafka = Kafka::default();
        assert!(settings.check_exposure(false).is_ok(), "what is not served has no listener");
    }

    #[test]
    fn the_sections_of_services_are_read_and_checked() {
        let settings = parse("[zookeeper]\ntick_time_ms = 500\n[zookeeper.sasl_users]\nalice = \"x\"\n");
        let settings = settings.expect("both keys exist");
        assert_eq!(settings.zookeeper.tick_time_ms, 500);
        assert_eq!(settings.zookeeper.sasl_users["alice"], "x");
        let error = parse("[zookeeper]\nwords = [\"rouk\"]\n").expect_err("there is no such word");
        assert!(error.to_string().contains("rouk"), "{error}");
        let error = parse("[telemetry]\notlp_endpoint = \"collector:4318\"\n").expect_err("it has no scheme");
        assert!(error.to_string().contains("otlp_endpoint"), "{error}");
    }
}
