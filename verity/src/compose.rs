//! Which groups, services and doors a node has: the one place where systems meet agreements.
//!
//! Deliberately absent: where things run. `up` and `server` bring a [`Place`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;
use serde::Deserialize;
use verity_contract::{Agreement as Engine, Boot, Door, Members, Service};
use verity_node::{DoorSpec, NodeSpec, PeerTls, ServerTls};
use verity_replica::{EngineFactory, GroupConfig, GroupSpec};
use verity_storage::{ClusterId, Disk};
use verity_types::{GroupId, Mono, NodeId};
use verity_zookeeper::machine::{Tree, TreeConfig};
use verity_zookeeper::session::{Config as ZooKeeperConfig, DoorKind, DutyConfig, ZooKeeper, ZooKeeperDuty};

/// The systems that `--only` knows.
pub(crate) const SYSTEMS: [&str; 1] = ["zookeeper"];
/// The group of the znode tree.
pub(crate) const TREE: GroupId = GroupId(1);
/// The listener for clients without TLS.
const PLAIN: Door = Door(0);
/// The listener for clients with TLS.
const TLS: Door = Door(1);
/// The port of ZooKeeper on the first node.
pub(crate) const ZOOKEEPER_PORT: u16 = 2181;
/// The TLS port of ZooKeeper on the first node.
pub(crate) const ZOOKEEPER_TLS_PORT: u16 = 2182;
/// Raft groups have at most this many voters; every further node learns.
const VOTERS_MAX: u16 = 3;

/// How the nodes of a group come to one order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Agreement {
    /// Raft, by the engine inside TiKV.
    #[default]
    Raft,
    /// Multi-Paxos, our own.
    Paxos,
}

/// What a cluster serves.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) members: Members,
    pub(crate) agreement: Agreement,
    /// Feeds the engines' randomness.
    pub(crate) seed: u64,
    /// Feeds the sessions' passwords.
    pub(crate) secret: [u8; 32],
}

/// Where one node runs.
pub(crate) struct Place {
    pub(crate) id: NodeId,
    pub(crate) cluster: ClusterId,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) peer_addr: SocketAddr,
    pub(crate) peers: BTreeMap<NodeId, String>,
    pub(crate) peer_tls: Option<PeerTls>,
    pub(crate) client_tls: Option<ServerTls>,
    /// The address on which clients are served.
    pub(crate) clients: IpAddr,
    /// Moves a usual port to this node's.
    pub(crate) port: Box<dyn Fn(u16) -> Result<u16> + Send + Sync>,
}

/// A listener that a plan asks for.
pub(crate) struct PlannedDoor {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) door: Door,
    pub(crate) tls: bool,
}

impl Plan {
    /// A plan for nodes 1 to `nodes`: an odd number of them, three at most, vote.
    pub(crate) fn new(nodes: u16, agreement: Agreement, seed: u64, secret: [u8; 32]) -> Self {
        let voters = if nodes >= VOTERS_MAX { VOTERS_MAX } else { 1 };
        let mut members = Members::of_voters((1..=u64::from(voters)).map(NodeId));
        members.learners = (u64::from(voters) + 1..=u64::from(nodes)).map(NodeId).collect();
        Self { members, agreement, seed, secret }
    }
}

/// The listeners of a node, with those for TLS if it has certificates.
pub(crate) fn doors(tls: bool) -> Vec<PlannedDoor> {
    let mut doors = vec![PlannedDoor { name: "zookeeper", port: ZOOKEEPER_PORT, door: PLAIN, tls: false }];
    if tls {
        doors.push(PlannedDoor { name: "zookeeper+tls", port: ZOOKEEPER_TLS_PORT, door: TLS, tls: true });
    }
    doors
}

/// How to connect to a system, as a newcomer would.
pub(crate) fn hint(name: &str, addrs: &[SocketAddr]) -> String {
    let all: Vec<String> = addrs.iter().take(3).map(ToString::to_string).collect();
    match name {
        "zookeeper" => format!("KazooClient(hosts=\"{}\")", all.join(",")),
        _ => String::new(),
    }
}

/// A group's name, for people.
pub(crate) fn group_name(group: GroupId) -> &'static str {
    if group == TREE { "zookeeper" } else { "?" }
}

/// Everything that a node is made of.
pub(crate) fn node(plan: &Plan, place: Place) -> Result<NodeSpec> {
    let mut listeners = Vec::new();
    for door in doors(place.client_tls.is_some()) {
        listeners.push(DoorSpec {
            service: 0,
            door: door.door,
            addr: SocketAddr::new(place.clients, (place.port)(door.port)?),
            tls: door.tls.then(|| place.client_tls.clone()).flatten(),
        });
    }
    let (id, secret, standalone) = (place.id, plan.secret, plan.members.all().len() == 1);
    let service = move |incarnation| {
        let doors = BTreeMap::from([(PLAIN, DoorKind::Plain), (TLS, DoorKind::Tls)]);
        let config = ZooKeeperConfig { standalone, doors, ..ZooKeeperConfig::new(id, incarnation, TREE, secret) };
        Box::new(ZooKeeper::new(config)) as Box<dyn Service>
    };
    let tree = GroupSpec {
        id: TREE,
        members: plan.members.clone(),
        config: GroupConfig::default(),
        engine: engine(plan.agreement),
        machine: Box::new(Tree::with_index_seed(TreeConfig::default(), plan.seed)),
        duty: Some(Box::new(ZooKeeperDuty::new(DutyConfig::default()))),
    };
    Ok(NodeSpec {
        id: place.id,
        cluster: place.cluster,
        disk: place.disk,
        seed: plan.seed,
        peer_addr: place.peer_addr,
        peers: place.peers,
        peer_tls: place.peer_tls,
        groups: vec![tree],
        services: vec![Box::new(service)],
        doors: listeners,
    })
}

fn engine(agreement: Agreement) -> EngineFactory {
    Box::new(move |boot, now| start_engine(agreement, boot, now, verity_paxos::Config::default()))
}

/// Starts an engine; Paxos as `paxos` says.
pub(crate) fn start_engine(
    agreement: Agreement,
    boot: Boot,
    now: Mono,
    paxos: verity_paxos::Config,
) -> Result<Box<dyn Engine>, String> {
    match agreement {
        Agreement::Raft => {
            let raft = verity_raft::Raft::start(boot, verity_raft::Config::default(), now);
            raft.map(|raft| Box::new(raft) as Box<dyn Engine>).map_err(|error| error.to_string())
        }
        Agreement::Paxos => {
            let paxos = verity_paxos::Paxos::start(boot, paxos, now);
            paxos.map(|paxos| Box::new(paxos) as Box<dyn Engine>).map_err(|error| error.to_string())
        }
    }
}
