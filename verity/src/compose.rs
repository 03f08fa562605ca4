//! Which groups, services and doors a node has: the one place where systems meet agreements.
//!
//! Deliberately absent: where things run. `up` and `server` bring a [`Place`].

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde::Deserialize;
use verity_contract::{Agreement as Engine, Boot, Door, Members, Service};
use verity_node::{DoorSpec, Histogram, Meter, NodeSpec, PeerTls, ServerTls};
use verity_replica::{EngineFactory, GroupConfig, GroupSpec};
use verity_storage::{ClusterId, Disk};
use verity_types::{GroupId, Mono, Nanos, NodeId};
use verity_zookeeper::machine::{Tree, TreeConfig};
use verity_zookeeper::session::{Config as ZooKeeperConfig, DoorKind, DutyConfig, ZooKeeper, ZooKeeperDuty};

use crate::layout;
use crate::settings::ZooKeeper as ZooKeeperSettings;

/// The systems that `--only` knows.
pub(crate) const SYSTEMS: [&str; 1] = ["zookeeper"];
/// The group of the znode tree.
pub(crate) const TREE: GroupId = GroupId(1);
/// The listener for clients without TLS.
const PLAIN: Door = Door(0);
/// The listener for clients with TLS.
const TLS: Door = Door(1);
/// The listener of the AdminServer.
const ADMIN: Door = Door(2);
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

impl std::fmt::Display for Agreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Raft => "raft",
            Self::Paxos => "paxos",
        })
    }
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
    /// What ZooKeeper's clients are offered.
    pub(crate) zookeeper: ZooKeeperSettings,
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
    pub(crate) client_tls: Option<ServerTls>,
    /// Towards administrators, where they may be elsewhere.
    pub(crate) admin_tls: Option<ServerTls>,
    /// The address on which clients are served.
    pub(crate) clients: IpAddr,
    /// The address on which administrators are served.
    pub(crate) administrators: IpAddr,
    /// The folder, for `conf`.
    pub(crate) data_dir: Option<String>,
    /// Moves a port of the settings to this node's.
    pub(crate) port: Box<dyn Fn(u16) -> Result<u16> + Send + Sync>,
}

/// A listener that a plan asks for.
pub(crate) struct PlannedDoor {
    pub(crate) name: &'static str,
    /// What `conf` calls it.
    setting: &'static str,
    pub(crate) port: u16,
    pub(crate) door: Door,
    kind: DoorKind,
}

impl Plan {
    /// A plan for nodes 1 to `nodes`: an odd number of them, three at most, vote.
    pub(crate) fn new(
        nodes: u16,
        agreement: Agreement,
        zookeeper: ZooKeeperSettings,
        seed: u64,
        secret: [u8; 32],
    ) -> Self {
        let voters = if nodes >= VOTERS_MAX { VOTERS_MAX } else { 1 };
        let mut members = Members::of_voters((1..=u64::from(voters)).map(NodeId));
        members.learners = (u64::from(voters) + 1..=u64::from(nodes)).map(NodeId).collect();
        Self { members, agreement, seed, secret, zookeeper }
    }
}

/// How long ZooKeeper's requests took.
#[derive(Debug, Default)]
struct Meters {
    reads: Arc<Histogram>,
    writes: Arc<Histogram>,
}

impl verity_zookeeper::session::Meter for Meters {
    fn answered(&self, write: bool, took: Nanos) {
        let histogram = if write { &self.writes } else { &self.reads };
        histogram.add(Duration::from_nanos(took.0));
    }
}

/// The listeners of a node, with those for TLS if it has certificates.
pub(crate) fn doors(settings: &ZooKeeperSettings, tls: bool) -> Vec<PlannedDoor> {
    let tls_port = if tls { settings.tls_port } else { 0 };
    let door = |name, setting, port, door, kind| PlannedDoor { name, setting, port, door, kind };
    let all = [
        door("zookeeper", "clientPort", settings.port, PLAIN, DoorKind::Plain),
        door("zookeeper+tls", "secureClientPort", tls_port, TLS, DoorKind::Tls),
        door("zookeeper-admin", "admin.serverPort", settings.admin_port, ADMIN, DoorKind::Admin),
    ];
    all.into_iter().filter(|door| door.port != 0).collect()
}

/// How to connect to a system, as a newcomer would.
pub(crate) fn hint(name: &str, addrs: &[SocketAddr]) -> String {
    let all: Vec<String> = addrs.iter().take(3).map(ToString::to_string).collect();
    match name {
        "zookeeper" => format!("KazooClient(hosts=\"{}\")", all.join(",")),
        "zookeeper+tls" => format!("KazooClient(hosts=\"{}\", use_ssl=True, ca=\"ca.pem\")", all.join(",")),
        "zookeeper-admin" => all.first().map_or_else(String::new, |addr| format!("curl http://{addr}/commands/stats")),
        _ => String::new(),
    }
}

/// A group's name, for people.
pub(crate) fn group_name(group: GroupId) -> &'static str {
    if group == TREE { "zookeeper" } else { "?" }
}

/// Everything that a node is made of.
pub(crate) fn node(plan: &Plan, place: Place) -> Result<NodeSpec> {
    layout::check_agreement(place.disk.as_ref(), plan.agreement)?;
    let mut listeners = Vec::new();
    let mut lines = Vec::new();
    let planned = doors(&plan.zookeeper, place.client_tls.is_some());
    for door in &planned {
        let ip = if door.kind == DoorKind::Admin { place.administrators } else { place.clients };
        let port = (place.port)(door.port)?;
        lines.push((door.setting.to_owned(), port.to_string()));
        let tls = match door.kind {
            DoorKind::Plain => None,
            DoorKind::Tls => place.client_tls.clone(),
            DoorKind::Admin => place.admin_tls.clone(),
        };
        listeners.push(DoorSpec { service: 0, door: door.door, addr: SocketAddr::new(ip, port), tls });
    }
    lines.extend(place.data_dir.clone().map(|dir| ("dataDir".to_owned(), dir)));
    let (ensemble, own) = ensemble(plan, &place);
    let join = place.join.then_some(own);
    let (id, secret, standalone) = (place.id, plan.secret, plan.members.all().len() == 1);
    let settings = plan.zookeeper.clone();
    let kinds: BTreeMap<Door, DoorKind> = planned.iter().map(|door| (door.door, door.kind)).collect();
    let meters = Arc::<Meters>::default();
    let meter = |kind, took: &Arc<Histogram>| Meter { system: "zookeeper", kind, took: Arc::clone(took) };
    let counted = vec![meter("read", &meters.reads), meter("write", &meters.writes)];
    let service = move |incarnation| {
        let config = settings.sessions(id, incarnation, TREE, secret, kinds);
        let meter = Some(meters as _);
        Box::new(ZooKeeper::new(ZooKeeperConfig { standalone, join, settings: lines, meter, ..config }))
            as Box<dyn Service>
    };
    let tree = GroupSpec {
        id: TREE,
        members: plan.members.clone(),
        config: GroupConfig::default(),
        engine: engine(plan.agreement),
        // Every replica begins with the same switches; what the settings say comes through the order.
        machine: Box::new(Tree::with_index_seed(TreeConfig::default(), plan.seed)),
        duty: Some(Box::new(ZooKeeperDuty::new(DutyConfig { config_text: ensemble, ..plan.zookeeper.duty() }))),
    };
    Ok(NodeSpec {
        id: place.id,
        cluster: place.cluster,
        disk: place.disk,
        seed: plan.seed,
        peer_addr: place.peer_addr,
        peers: place.seats.into_iter().map(|(node, seat)| (node, seat.peer)).collect(),
        peer_tls: place.peer_tls,
        groups: vec![tree],
        founder: None,
        services: vec![Box::new(service)],
        doors: listeners,
        meters: counted,
    })
}

/// The text of `/zookeeper/config` in a new cluster, and this node's own line of it.
fn ensemble(plan: &Plan, place: &Place) -> (String, String) {
    let line = |id: NodeId, seat: &Seat, observer: bool| {
        let role = if observer { "observer" } else { "participant" };
        let port = seat.peer.rsplit_once(':').map_or("0", |(_, port)| port);
        format!("server.{id}={}:{port}:{role};{}", seat.peer, seat.client)
    };
    let members = place.seats.iter().filter(|(id, _)| plan.members.contains(**id));
    let lines = members.map(|(id, seat)| line(*id, seat, plan.members.learners.contains(id)) + "\n");
    let own = place.seats.get(&place.id).map(|seat| line(place.id, seat, place.observer)).unwrap_or_default();
    (lines.collect::<String>() + "version=0", own)
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
