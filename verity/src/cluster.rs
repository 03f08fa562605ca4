//! The embedded cluster of `verity up`: several nodes in one process, each on threads of its own.
//!
//! A node of it can be crashed, started again, paused and cut off without touching the others; the process is the lab.
//!
//! Deliberately absent: anything that a node of its own process would not have. The nodes talk over loopback sockets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow, bail};
use verity_ledger::wire::Genesis;
use verity_node::{NodeClient, NodeError, NodeHandle, ServerTls};
use verity_pbft::liar::Lie;
use verity_storage::{ClusterId, Disk, RamDisk, RealDisk};
use verity_types::NodeId;

use crate::abci::Address;
use crate::admin::About;
use crate::bitcoin::chains::{ChainSeat, Chains};
use crate::compose::{self, Listener, Plan, ReplicaKeys, System};
use crate::{layout, secrets};

/// Distance between the ports of neighbouring nodes.
pub(crate) const PORT_STEP: u16 = 1000;
/// The admin API of the first node.
pub(crate) const ADMIN_PORT: u16 = 7070;
/// The peer port of the first node.
pub(crate) const PEER_PORT: u16 = 7071;

/// What an embedded cluster is to be.
#[derive(Clone, Debug)]
pub(crate) struct ClusterOptions {
    pub(crate) nodes: u16,
    /// `None` keeps everything in memory.
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) port_offset: u16,
    /// Nodes that lie, under PBFT.
    pub(crate) lies: BTreeMap<NodeId, Lie>,
    /// Who listens to what the nodes' engines say.
    pub(crate) listener: Option<Listener>,
    /// What lets clients in where no folder says it.
    pub(crate) token: String,
    pub(crate) plan: Plan,
}

/// A running embedded cluster.
pub(crate) struct Cluster {
    options: ClusterOptions,
    cluster: ClusterId,
    disks: BTreeMap<NodeId, Arc<dyn Disk>>,
    /// What the nodes sign with as replicas.
    replicas: BTreeMap<NodeId, [u8; 32]>,
    /// What the nodes sign the ledger's blocks with, if it is served.
    validators: BTreeMap<NodeId, [u8; 32]>,
    /// Towards clients, if there are certificates.
    tls: BTreeMap<System, ServerTls>,
    nodes: Mutex<BTreeMap<NodeId, NodeHandle>>,
    /// The nodes' Bitcoin nodes, if they are served.
    chains: Option<Arc<Chains>>,
}

/// The port of a node's service: its usual one, moved by node and by `--port-offset`.
pub(crate) fn port(base: u16, node: NodeId, offset: u16) -> Result<u16> {
    let step = u64::from(PORT_STEP) * (node.0 - 1);
    u16::try_from(u64::from(base) + step + u64::from(offset)).with_context(|| {
        format!("the port {base} of node {node} does not fit with --port-offset {offset}; choose a smaller one")
    })
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

pub(crate) fn node_dir(dir: &Path, id: NodeId) -> PathBuf {
    dir.join(format!("node-{id}"))
}

/// Where a node's Bitcoin node keeps what it has: Core's folder, and in it the network's.
pub(crate) fn bitcoin_dir(dir: &Path) -> PathBuf {
    dir.join("bitcoin")
}

/// The Bitcoin nodes of a cluster that serves them.
fn chains(options: &ClusterOptions) -> Result<Option<Arc<Chains>>> {
    if !options.plan.systems.contains(&System::Bitcoin) {
        return Ok(None);
    }
    let settings = &options.plan.bitcoin;
    let place = |base: u16, id| if base == 0 { Ok(0) } else { port(base, id, options.port_offset) };
    let (mut seats, mut neighbours) = (BTreeMap::new(), BTreeMap::new());
    for id in (1..=u64::from(options.nodes)).map(NodeId) {
        let p2p = loopback(place(settings.p2p_port, id)?);
        let folder = options.data_dir.as_ref().map(|dir| bitcoin_dir(&node_dir(dir, id)).join("regtest"));
        let (rpc_port, zmq_port) = (place(settings.rpc_port, id)?, place(settings.zmq_port, id)?);
        seats.insert(id, ChainSeat { folder, rpc_port, p2p, zmq_port });
        if p2p.port() != 0 {
            neighbours.insert(id, p2p);
        }
    }
    Ok(Some(Arc::new(Chains::new(settings.clone(), seats, neighbours, options.token.clone()))))
}

/// What is wrong with a node. What is wrong with its files is told with their folder, which they do not know.
pub(crate) fn located(error: &NodeError, dir: Option<&Path>) -> String {
    let text = error.to_string();
    match (error, dir.map(|dir| dir.display().to_string())) {
        (NodeError::Open(_), Some(dir)) if !text.contains(&dir) => format!("{dir}: {text}"),
        _ => text,
    }
}

#[expect(clippy::disallowed_methods, reason = "a chain begins when its cluster is made")]
fn unix_nanos() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}

/// A secret of each node: that of its folder, or a new one.
fn seeds(options: &ClusterOptions, kept: impl Fn(&Path) -> Result<[u8; 32]>) -> Result<BTreeMap<NodeId, [u8; 32]>> {
    let seed = |id: NodeId| match &options.data_dir {
        Some(dir) => kept(&node_dir(dir, id)),
        None => secrets::random(),
    };
    (1..=u64::from(options.nodes)).map(NodeId).map(|id| Ok((id, seed(id)?))).collect()
}

/// The nodes' keys for the ledger, and its genesis in the plan: those of the folder, or new ones.
fn validators(options: &mut ClusterOptions, cluster: ClusterId) -> Result<BTreeMap<NodeId, [u8; 32]>> {
    if !options.plan.systems.contains(&System::Ledger) {
        return Ok(BTreeMap::new());
    }
    let seeds = seeds(options, secrets::validator_seed)?;
    let make = || compose::genesis(compose::chain_id(cluster), unix_nanos(), &seeds).to_json();
    let text = match &options.data_dir {
        Some(dir) => secrets::genesis(dir, make)?,
        None => make(),
    };
    let genesis = Genesis::from_json(&text).context("genesis.json in the data folder cannot be used")?;
    options.plan.genesis = Some(Arc::new(genesis));
    Ok(seeds)
}

impl Cluster {
    /// Opens the folder and starts every node.
    pub(crate) fn start(mut options: ClusterOptions) -> Result<Self> {
        let tls = compose::client_tls(&options.plan.zookeeper, &options.plan.kafka, &options.plan.ledger, None)?;
        let cluster = match &options.data_dir {
            Some(dir) => {
                let cluster = secrets::cluster_id(dir)?;
                layout::keep_nodes(dir, options.nodes)?;
                cluster
            }
            None => ClusterId(secrets::random()?),
        };
        let mut disks: BTreeMap<NodeId, Arc<dyn Disk>> = BTreeMap::new();
        for id in (1..=u64::from(options.nodes)).map(NodeId) {
            let disk: Arc<dyn Disk> = match &options.data_dir {
                Some(dir) => Arc::new(RealDisk::new(node_dir(dir, id))?),
                None => Arc::new(RamDisk::new()),
            };
            disks.insert(id, disk);
        }
        let validators = validators(&mut options, cluster)?;
        // Whatever the cluster runs on: a topic may be on PBFT. A folder that has none yet gets them here.
        let replicas = seeds(&options, secrets::replica_seed)?;
        let chains = chains(&options)?;
        let started = Self { options, cluster, disks, replicas, validators, tls, nodes: Mutex::default(), chains };
        for id in started.ids() {
            started.start_node(id)?;
        }
        Ok(started)
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.disks.keys().copied().collect()
    }

    /// Where each node listens for clients, by name.
    pub(crate) fn endpoints(&self, id: NodeId) -> Result<Vec<(&'static str, SocketAddr)>> {
        let doors = self.options.plan.doors(|system| self.tls.contains_key(&system));
        doors.iter().map(|door| Ok((door.name, loopback(port(door.port, id, self.options.port_offset)?)))).collect()
    }

    pub(crate) fn admin_addr(&self, id: NodeId) -> Result<SocketAddr> {
        Ok(loopback(port(ADMIN_PORT, id, self.options.port_offset)?))
    }

    fn peer_addr(&self, id: NodeId) -> Result<SocketAddr> {
        Ok(loopback(port(PEER_PORT, id, self.options.port_offset)?))
    }

    pub(crate) fn about(&self) -> About {
        let agreement = self.options.plan.agreement.to_string();
        let keys = self.replicas.keys().next().and_then(|id| ReplicaKeys::of_all(&self.replicas, *id));
        let keys = keys.map(|keys| keys.told()).unwrap_or_default();
        About { cluster: self.cluster.to_string(), agreement, tls: false, keys }
    }

    /// Where each node's clients and peers meet it.
    fn seats(&self) -> Result<BTreeMap<NodeId, compose::Seat>> {
        let zookeeper = self.options.plan.zookeeper.port;
        let seat = |id: NodeId| {
            let client = loopback(port(zookeeper, id, self.options.port_offset)?).to_string();
            Ok((id, compose::Seat { peer: self.peer_addr(id)?.to_string(), client }))
        };
        self.ids().into_iter().map(seat).collect()
    }

    /// The ledger's application of a node, if there is one in another process.
    fn application(&self, id: NodeId) -> Result<Option<Address>> {
        let first = self.options.plan.ledger.proxy_app.as_deref().map(Address::parse).transpose()?;
        first.map(|first| first.of_node(id.0 - 1)).transpose()
    }

    /// Starts a node that is not running.
    pub(crate) fn start_node(&self, id: NodeId) -> Result<()> {
        let Some(disk) = self.disks.get(&id) else {
            bail!("there is no node {id}; the nodes are 1 to {}", self.options.nodes);
        };
        let mut nodes = self.lock();
        let runs = nodes.get(&id).is_some_and(|node| !node.has_stopped());
        let chain_runs = self.chains.as_ref().is_none_or(|chains| chains.client(id).is_some());
        if runs && chain_runs {
            bail!("node {id} is running");
        }
        if runs {
            return self.start_chain(id);
        }
        let offset = self.options.port_offset;
        let place = compose::Place {
            id,
            cluster: self.cluster,
            disk: Arc::clone(disk),
            peer_addr: self.peer_addr(id)?,
            seats: self.seats()?,
            join: false,
            observer: false,
            peer_tls: None,
            client_tls: self.tls.clone(),
            admin_tls: None,
            replica_keys: ReplicaKeys::of_all(&self.replicas, id).map(Arc::new),
            lie: self.options.lies.get(&id).copied(),
            listener: self.options.listener.clone(),
            validator: self.validators.get(&id).copied(),
            application: self.application(id)?,
            clients: IpAddr::V4(Ipv4Addr::LOCALHOST),
            administrators: IpAddr::V4(Ipv4Addr::LOCALHOST),
            data_dir: self.options.data_dir.as_ref().map(|dir| node_dir(dir, id).display().to_string()),
            log_bytes: compose::log_bytes(self.options.nodes.into()),
            port: Box::new(move |base| port(base, id, offset)),
        };
        let spec = compose::node(&self.options.plan, place).with_context(|| format!("node {id} cannot start"))?;
        let node = verity_node::start(spec).map_err(|error| self.explain(id, &error))?;
        // Without its Bitcoin node the node does not run either: its end is that of `node`.
        self.start_chain(id)?;
        nodes.insert(id, node);
        Ok(())
    }

    fn start_chain(&self, id: NodeId) -> Result<()> {
        let Some(chains) = &self.chains else { return Ok(()) };
        let hint = |error: &anyhow::Error| match error.downcast_ref::<NodeError>() {
            Some(NodeError::Listen { .. }) => " --port-offset moves them all",
            _ => "",
        };
        let told = |error| anyhow!("the Bitcoin node of node {id} cannot start: {error:#}{}", hint(&error));
        chains.start_node(id).map_err(told)
    }

    /// Why a node does not start, and what to do if it is for a port.
    fn explain(&self, id: NodeId, error: &NodeError) -> anyhow::Error {
        let endpoints = self.endpoints(id).unwrap_or_default();
        let admin_addr = endpoints.iter().find(|(name, _)| *name == "zookeeper-admin").map(|(_, addr)| addr);
        let hint = match error {
            NodeError::Listen { addr, .. } if Some(addr) == admin_addr => {
                " --zookeeper-admin-port takes another, 0 goes without"
            }
            NodeError::Listen { .. } => " --port-offset moves them all",
            _ => "",
        };
        anyhow!("node {id} cannot start: {}{hint}", self.located(id, error))
    }

    /// What is wrong with a node, with the folder that it is wrong in.
    fn located(&self, id: NodeId, error: &NodeError) -> String {
        let dir = self.options.data_dir.as_ref().map(|dir| node_dir(dir, id));
        located(error, dir.as_deref())
    }

    /// Ends a node as if its process had died.
    pub(crate) fn crash_node(&self, id: NodeId) -> Result<()> {
        let Some(node) = self.lock().remove(&id) else { bail!("node {id} is not running") };
        if let Some(chains) = &self.chains {
            chains.crash_node(id);
        }
        Ok(node.crash()?)
    }

    /// The nodes' Bitcoin nodes.
    pub(crate) fn chains(&self) -> Option<Arc<Chains>> {
        self.chains.clone()
    }

    /// Something to ask a running node with.
    pub(crate) fn client(&self, id: NodeId) -> Option<NodeClient> {
        self.lock().get(&id).filter(|node| !node.has_stopped()).map(NodeHandle::client)
    }

    /// The first node that has stopped on its own, and why.
    pub(crate) fn take_failure(&self) -> Option<(NodeId, String)> {
        if let Some((id, why)) = self.chains.as_ref().and_then(|chains| chains.take_failure()) {
            return Some((id, format!("its Bitcoin node: {why}")));
        }
        let mut nodes = self.lock();
        let id = nodes.iter().find(|(_, node)| node.has_stopped()).map(|(id, _)| *id)?;
        let why = nodes.remove(&id)?.stop().err();
        let why = why.map_or_else(|| "it ended".to_owned(), |error| self.located(id, &error));
        Some((id, why))
    }

    /// Stops every node, writing what was accepted.
    pub(crate) fn stop(&self) -> Result<()> {
        if let Some(chains) = &self.chains {
            chains.stop()?;
        }
        let nodes = std::mem::take(&mut *self.lock());
        for (id, node) in nodes {
            node.stop().with_context(|| format!("node {id}"))?;
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, NodeHandle>> {
        self.nodes.lock().expect("nobody panics while holding the nodes")
    }
}
