//! Which groups, services and doors a node has: the one place where systems meet agreements.
//!
//! Deliberately absent: where things run. `up` and `server` bring a [`Place`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;
use serde::Deserialize;
use verity_contract::{Door, Members, Outside};
use verity_node::{ClientCertificates, Count, DoorSpec, Meter, NodeSpec, PeerTls, ServerTls};
use verity_pbft::liar::Lie;
use verity_replica::{Founder, GroupSpec, ServiceFactory};
use verity_storage::{ClusterId, Disk};
use verity_types::{GroupId, NodeId};

use crate::layout;
use crate::settings::{
    Bitcoin as BitcoinSettings, Kafka as KafkaSettings, Ledger as LedgerSettings, ZooKeeper as ZooKeeperSettings,
};

mod bitcoin;
mod engines;
mod kafka;
mod ledger;
mod watched;
mod zookeeper;

pub(crate) use engines::{Agreement, Engines, ReplicaKeys, group_of_scope, start_engine};
pub(crate) use kafka::{CLUSTER as KAFKA_CLUSTER, COORDINATOR as KAFKA_COORDINATOR};
pub(crate) use ledger::{LEDGER, chain_id, genesis, genesis_of, public_key};
pub(crate) use watched::{Listener, Sent};
pub(crate) use zookeeper::TREE;

/// The listener for clients without TLS.
const PLAIN: Door = Door(0);
/// The listener for clients with TLS.
const TLS: Door = Door(1);
/// Raft groups have at most this many voters; every further node learns.
const VOTERS_MAX: u16 = 3;
/// What logs may take in memory, in bytes.
const LOG_BYTES: RangeInclusive<u64> = 32 << 20..=384 << 20;

/// What clients are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum System {
    /// The znode tree.
    #[value(name = "zookeeper")]
    ZooKeeper,
    /// Partitioned logs.
    Kafka,
    /// A chain of signed blocks.
    Ledger,
    /// A chain of worked blocks.
    Bitcoin,
}

impl System {
    /// All of them.
    pub(crate) const ALL: [System; 4] = [System::ZooKeeper, System::Kafka, System::Ledger, System::Bitcoin];

    /// As flags name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ZooKeeper => "zookeeper",
            Self::Kafka => "kafka",
            Self::Ledger => "ledger",
            Self::Bitcoin => "bitcoin",
        }
    }
}

/// What a cluster serves.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// These systems.
    pub(crate) systems: BTreeSet<System>,
    pub(crate) members: Members,
    pub(crate) agreement: Agreement,
    /// What the ledger runs on, if it is served.
    pub(crate) ledger_agreement: Agreement,
    /// Feeds the engines' randomness.
    pub(crate) seed: u64,
    /// Feeds the sessions' passwords.
    pub(crate) secret: [u8; 32],
    /// What ZooKeeper's clients are offered.
    pub(crate) zookeeper: ZooKeeperSettings,
    /// What Kafka's clients are offered.
    pub(crate) kafka: KafkaSettings,
    /// What the ledger's clients are offered.
    pub(crate) ledger: LedgerSettings,
    /// What Bitcoin's clients are offered.
    pub(crate) bitcoin: BitcoinSettings,
    /// What the ledger begins with, if it is served.
    pub(crate) genesis: Option<Arc<verity_ledger::wire::Genesis>>,
}

/// Where a node is met.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) peer: String,
    pub(crate) client: String,
}

/// Where one node runs.
pub(crate) struct Place {
    pub(crate) id: NodeId,
    pub(crate) cluster: ClusterId,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) peer_addr: SocketAddr,
    /// Where the nodes are met that are known from the start.
    pub(crate) seats: BTreeMap<NodeId, Seat>,
    /// The node is to be taken in by a cluster that runs.
    pub(crate) join: bool,
    /// It shall learn and not vote, if it is to be taken in.
    pub(crate) observer: bool,
    pub(crate) peer_tls: Option<PeerTls>,
    pub(crate) client_tls: BTreeMap<System, ServerTls>,
    /// Towards administrators, where they may be elsewhere.
    pub(crate) admin_tls: Option<ServerTls>,
    /// What the node signs with as a replica, for PBFT.
    pub(crate) replica_keys: Option<Arc<ReplicaKeys>>,
    /// In the lab: what the node lies about.
    pub(crate) lie: Option<Lie>,
    /// Who listens to what its engines say.
    pub(crate) listener: Option<Listener>,
    /// What the node signs the ledger's blocks with, if it is served.
    pub(crate) validator: Option<[u8; 32]>,
    /// The ledger's application, if it runs in another process.
    pub(crate) application: Option<crate::abci::Address>,
    /// The address on which clients are served.
    pub(crate) clients: IpAddr,
    /// The address on which administrators are served.
    pub(crate) administrators: IpAddr,
    /// The folder, for `conf`.
    pub(crate) data_dir: Option<String>,
    /// About so many bytes of its groups' logs are held in memory.
    pub(crate) log_bytes: u64,
    /// Moves a port of the settings to this node's.
    pub(crate) port: Box<dyn Fn(u16) -> Result<u16> + Send + Sync>,
}

impl Place {
    /// How this node's engines are made.
    fn engines(&self, plan: &Plan) -> Engines {
        let (cluster, keys) = (self.cluster, self.replica_keys.clone());
        Engines { agreement: plan.agreement, cluster, keys, lie: self.lie, listener: self.listener.clone() }
    }
}

/// Who may use a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DoorUse {
    Plain,
    Tls,
    Admin,
}

/// A listener that a plan asks for.
pub(crate) struct PlannedDoor {
    pub(crate) system: System,
    pub(crate) name: &'static str,
    /// What `conf` calls it.
    setting: &'static str,
    pub(crate) port: u16,
    pub(crate) door: Door,
    used: DoorUse,
}

/// A system's part of a node.
struct Part {
    groups: Vec<GroupSpec>,
    founder: Option<Founder>,
    service: ServiceFactory,
    /// Whom it asks outside, by channel. One system at most has any.
    outsides: Vec<Box<dyn Outside>>,
    meters: Vec<Meter>,
    counts: Vec<Count>,
}

impl Plan {
    /// The members of a cluster of nodes 1 to `nodes`: an odd number of them, three at most, vote; under PBFT all do.
    pub(crate) fn members(nodes: u16, agreement: Agreement) -> Members {
        if agreement == Agreement::Pbft {
            return Members::of_voters((1..=u64::from(nodes)).map(NodeId));
        }
        let voters = if nodes >= VOTERS_MAX { VOTERS_MAX } else { 1 };
        let mut members = Members::of_voters((1..=u64::from(voters)).map(NodeId));
        members.learners = (u64::from(voters) + 1..=u64::from(nodes)).map(NodeId).collect();
        members
    }

    /// The listeners of a node, with those for TLS of the systems that have certificates.
    pub(crate) fn doors(&self, tls: impl Fn(System) -> bool) -> Vec<PlannedDoor> {
        let mut doors = Vec::new();
        for system in &self.systems {
            match system {
                System::ZooKeeper => doors.extend(zookeeper::doors(&self.zookeeper, tls(*system))),
                System::Kafka => doors.extend(kafka::doors(&self.kafka, tls(*system))),
                System::Ledger => doors.extend(ledger::doors(&self.ledger, tls(*system))),
                System::Bitcoin => doors.extend(bitcoin::doors(&self.bitcoin)),
            }
        }
        doors.retain(|door| door.port != 0);
        doors
    }
}

/// The certificates towards the clients of each system: its own, or those of `shared`.
pub(crate) fn client_tls(
    zookeeper: &ZooKeeperSettings,
    kafka: &KafkaSettings,
    ledger: &LedgerSettings,
    shared: Option<&PathBuf>,
) -> Result<BTreeMap<System, ServerTls>> {
    let wanted = [
        (System::ZooKeeper, zookeeper.tls_dir.as_ref(), zookeeper.certificates()),
        (System::Kafka, kafka.tls_dir.as_ref(), kafka.certificates()),
        (System::Ledger, ledger.tls_dir.as_ref(), ClientCertificates::Ignored),
    ];
    let mut all = BTreeMap::new();
    for (system, own, certificates) in wanted {
        if let Some(dir) = own.or(shared) {
            all.insert(system, ServerTls::load(dir, certificates)?);
        }
    }
    Ok(all)
}

/// How to connect to a system, as a newcomer would. `bitcoin` is how Bitcoin's client is let in.
pub(crate) fn hint(name: &str, addrs: &[SocketAddr], bitcoin: &str) -> String {
    let all: Vec<String> = addrs.iter().take(3).map(ToString::to_string).collect();
    match name {
        "zookeeper" => format!("KazooClient(hosts=\"{}\")", all.join(",")),
        "zookeeper+tls" => format!("KazooClient(hosts=\"{}\", use_ssl=True, ca=\"ca.pem\")", all.join(",")),
        "kafka" => format!("kcat -b {}", all.join(",")),
        "kafka+tls" => format!("kcat -b {} -X security.protocol=ssl -X ssl.ca.location=ca.pem", all.join(",")),
        "ledger" => all.first().map_or_else(String::new, |addr| format!("curl http://{addr}/status")),
        "ledger+tls" => {
            all.first().map_or_else(String::new, |addr| format!("curl --cacert ca.pem https://{addr}/status"))
        }
        "bitcoin" => format!("verity bitcoin-cli -regtest {bitcoin} -getinfo"),
        "bitcoin-p2p" => all.first().map_or_else(String::new, |addr| format!("bitcoind -regtest -addnode={addr}")),
        "bitcoin-zmq" => all.first().map_or_else(String::new, |addr| format!("zmqpubrawblock=tcp://{addr}")),
        "zookeeper-admin" => all.first().map_or_else(String::new, |addr| format!("curl http://{addr}/commands/stats")),
        _ => String::new(),
    }
}

/// A group's name, for people.
pub(crate) fn group_name(group: GroupId) -> String {
    match group {
        TREE => "zookeeper".to_owned(),
        kafka::CLUSTER => "kafka-meta".to_owned(),
        kafka::COORDINATOR => "kafka-groups".to_owned(),
        LEDGER => "ledger".to_owned(),
        partition if partition.0 >= verity_kafka::machine::cluster::PARTITIONS => {
            format!("kafka-{}", partition.0 - verity_kafka::machine::cluster::PARTITIONS)
        }
        _ => "?".to_owned(),
    }
}

/// How many bytes of logs a node holds in memory that shares the machine with so many others, itself included: a
/// sixty-fourth of the memory in all, within [`LOG_BYTES`]. Logs that are held long are written to snapshots rarely.
pub(crate) fn log_bytes(nodes: u64) -> u64 {
    let memory = verity_node::machine_memory().unwrap_or(0);
    (memory / 64 / nodes.max(1)).clamp(*LOG_BYTES.start(), *LOG_BYTES.end())
}

/// Everything that a node is made of.
pub(crate) fn node(plan: &Plan, place: Place) -> Result<NodeSpec> {
    let mut agreements = vec![(layout::AGREEMENT_FILE, plan.agreement)];
    if plan.systems.contains(&System::Ledger) {
        agreements.push((layout::LEDGER_FILE, plan.ledger_agreement));
    }
    layout::check_agreements(place.disk.as_ref(), &agreements)?;
    let planned = plan.doors(|system| place.client_tls.contains_key(&system));
    let (mut groups, mut services, mut founder) = (Vec::new(), Vec::new(), None);
    let (mut meters, mut counts) = (Vec::new(), Vec::new());
    let mut outsides = Vec::new();
    let mut listeners = Vec::new();
    // Bitcoin's node stands beside this one.
    let hosted = plan.systems.iter().filter(|system| **system != System::Bitcoin);
    for (service, system) in hosted.enumerate() {
        let own: Vec<&PlannedDoor> = planned.iter().filter(|door| door.system == *system).collect();
        for door in &own {
            let ip = if door.used == DoorUse::Admin { place.administrators } else { place.clients };
            let tls = match door.used {
                DoorUse::Plain => None,
                DoorUse::Tls => place.client_tls.get(system).cloned(),
                DoorUse::Admin => place.admin_tls.clone(),
            };
            let addr = SocketAddr::new(ip, (place.port)(door.port)?);
            listeners.push(DoorSpec { service, door: door.door, addr, tls });
        }
        let part = match system {
            System::ZooKeeper => zookeeper::part(plan, &place, &own)?,
            System::Kafka => kafka::part(plan, &place)?,
            System::Ledger => ledger::part(plan, &place)?,
            System::Bitcoin => unreachable!("it was left out"),
        };
        groups.extend(part.groups);
        services.push(part.service);
        outsides.extend(part.outsides);
        meters.extend(part.meters);
        counts.extend(part.counts);
        founder = founder.or(part.founder);
    }
    Ok(NodeSpec {
        id: place.id,
        cluster: place.cluster,
        disk: place.disk,
        seed: plan.seed,
        log_bytes: place.log_bytes,
        peer_addr: Some(place.peer_addr),
        peers: place.seats.into_iter().map(|(node, seat)| (node, seat.peer)).collect(),
        peer_tls: place.peer_tls,
        groups,
        founder,
        services,
        outsides,
        doors: listeners,
        neighbours: BTreeMap::new(),
        meters,
        counts,
    })
}
