//! The replicas: nodes of one ledger, each with its folder and its port on loopback.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use verity_contract::{Agreement as Engine, Boot, Members, Service};
use verity_ledger::SigningKey;
use verity_ledger::machine::{KvStore, Ledger, LedgerConfig};
use verity_ledger::session::{Config, DutyConfig, LedgerDuty, LedgerService};
use verity_ledger::wire::{Genesis, GenesisValidator, PublicKey, Time};
use verity_node::{NodeHandle, NodeSpec};
use verity_pbft::liar::{Liar, Lie};
use verity_pbft::{Config as PbftConfig, Keys, Pbft};
use verity_replica::{EngineFactory, GroupConfig, GroupSpec, ServiceFactory};
use verity_storage::{ClusterId, RealDisk};
use verity_types::{GroupId, Mono, Nanos, NodeId};

use super::gateway::{Gate, Gateway, Load};
use super::{Agreement, Plan};

/// The ledger's group.
pub(super) const GROUP: GroupId = GroupId(4);
/// The ledger keeps so many bytes of blocks: enough to be read, and little beside what is measured.
const RETAIN_BYTES: u64 = 32 << 20;
/// About so many bytes of log a node holds in memory.
const LOG_BYTES: u64 = 64 << 20;

/// All nodes that run in this process.
pub(super) struct Cluster {
    pub(super) plan: Plan,
    ports: Vec<u16>,
    genesis: Arc<Genesis>,
    gate: Arc<Gate>,
    pub(super) nodes: BTreeMap<NodeId, NodeHandle>,
}

/// The seed of a node's key. It guards nothing but a measurement.
fn secret(node: NodeId) -> [u8; 32] {
    [u8::try_from(node.0).expect("nodes are few"); 32]
}

fn signing_key(node: NodeId) -> SigningKey {
    SigningKey::from(secret(node))
}

/// Ports that nobody listens on.
pub(super) fn free_ports(count: u64) -> Result<Vec<u16>> {
    let listeners = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listeners: Vec<TcpListener> = listeners.collect::<Result<_, _>>().context("there is no port on loopback")?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

impl Cluster {
    /// Nodes that do not run yet, and where they will listen.
    pub(super) fn new(plan: &Plan, ports: Vec<u16>, gate: Arc<Gate>) -> Self {
        let validator =
            |id: u64| GenesisValidator { key: PublicKey::of(&signing_key(NodeId(id))), name: format!("node-{id}") };
        let genesis = Genesis {
            chain_id: "bench".to_owned(),
            time: Time::from_unix_nanos(1_700_000_000_000_000_000),
            validators: (1..=plan.nodes).map(validator).collect(),
            app_state: String::new(),
        };
        Self { plan: plan.clone(), ports, genesis: Arc::new(genesis), gate, nodes: BTreeMap::new() }
    }

    fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.plan.nodes).map(NodeId)
    }

    fn address(&self, node: NodeId) -> SocketAddr {
        let at = usize::try_from(node.0 - 1).expect("nodes are few");
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[at]))
    }

    /// Nodes of this process that have a gateway.
    pub(super) fn gateways(&self) -> Vec<NodeId> {
        let without = [self.plan.lie.map(|(_, node)| node), self.plan.flood, self.plan.quiet];
        self.ids().filter(|node| !without.contains(&Some(*node))).collect()
    }

    fn engine(&self, node: NodeId, lie: Option<Lie>) -> Result<EngineFactory> {
        let public = self.ids().map(|id| (id, Keys::public_of(secret(id)))).collect();
        let keys = Keys::new(node, secret(node), &public)?;
        let agreement = self.plan.agreement;
        Ok(Box::new(move |boot, now| match agreement {
            Agreement::Raft => {
                let raft = verity_raft::Raft::start(boot, verity_raft::Config::default(), now);
                raft.map(|raft| Box::new(raft) as Box<dyn Engine>).map_err(|error| error.to_string())
            }
            Agreement::Paxos => {
                let paxos = verity_paxos::Paxos::start(boot, verity_paxos::Config::default(), now);
                paxos.map(|paxos| Box::new(paxos) as Box<dyn Engine>).map_err(|error| error.to_string())
            }
            Agreement::Pbft => pbft(boot, keys.clone(), lie, now),
        }))
    }

    /// Starts a node; what its folder holds from before, it goes on from.
    pub(super) fn start(&mut self, id: NodeId) -> Result<()> {
        let lie = self.plan.lie.filter(|(_, node)| *node == id).map(|(lie, _)| lie);
        let mut services: Vec<ServiceFactory> = vec![self.signer(id)];
        let gateways = self.gateways();
        if gateways.contains(&id) {
            let plan = &self.plan;
            let rate = plan.rate.map(|rate| rate / gateways.len() as f64);
            let load = Load { group: GROUP, size: plan.size, window: plan.window, rate };
            let gate = Arc::clone(&self.gate);
            services.push(Box::new(move |_| Box::new(Gateway::new(id, load, gate)) as Box<dyn Service>));
        }
        let folder = self.plan.directory.join(format!("node-{id}"));
        let engine = self.engine(id, lie)?;
        let spec = self.spec(id, &folder, engine, services)?;
        let handle = verity_node::start(spec).with_context(|| format!("node {id} does not start"))?;
        self.nodes.insert(id, handle);
        Ok(())
    }

    pub(super) fn spec(
        &self,
        id: NodeId,
        folder: &std::path::Path,
        engine: EngineFactory,
        services: Vec<ServiceFactory>,
    ) -> Result<NodeSpec> {
        std::fs::create_dir_all(folder)?;
        let kept = LedgerConfig { retain_bytes: RETAIN_BYTES, ..LedgerConfig::default() };
        let usual = GroupConfig::default();
        let entry_commands_max = if self.plan.commands == 0 { usual.entry_commands_max } else { self.plan.commands };
        let group = GroupSpec {
            id: GROUP,
            members: Members::of_voters(self.ids()),
            config: GroupConfig { entry_commands_max, ..usual },
            engine,
            machine: Box::new(Ledger::new(kept, Arc::clone(&self.genesis), Box::new(KvStore::new()))),
            duty: Some(Box::new(LedgerDuty::new(DutyConfig::default()))),
        };
        let others = self.ids().filter(|other| *other != id);
        Ok(NodeSpec {
            id,
            cluster: ClusterId(*b"verity-bench-led"),
            disk: Arc::new(RealDisk::new(folder)?),
            seed: id.0,
            log_bytes: LOG_BYTES,
            peer_addr: Some(self.address(id)),
            peers: others.map(|other| (other, self.address(other).to_string())).collect(),
            peer_tls: None,
            groups: vec![group],
            founder: None,
            services,
            outsides: Vec::new(),
            neighbours: BTreeMap::new(),
            doors: Vec::new(),
            meters: Vec::new(),
            counts: Vec::new(),
        })
    }

    /// The node as a validator, which signs blocks; nobody can connect to it.
    pub(super) fn signer(&self, id: NodeId) -> ServiceFactory {
        let config = Config {
            node: id,
            group: GROUP,
            key: signing_key(id),
            genesis: Arc::clone(&self.genesis),
            moniker: format!("node-{id}"),
            rpc_address: String::new(),
            any_origin: false,
            external: false,
            linearizable_reads: false,
            commit_timeout: Config::COMMIT_TIMEOUT,
        };
        Box::new(move |_| Box::new(LedgerService::new(config)) as Box<dyn Service>)
    }
}

/// PBFT as `verity` runs it.
pub(super) fn pbft(boot: Boot, keys: Keys, lie: Option<Lie>, now: Mono) -> Result<Box<dyn Engine>, String> {
    let seed = boot.seed;
    let config = PbftConfig {
        group: Bytes::from_static(b"bench"),
        pace_window: Nanos::from_millis(2_000),
        pace_percent: 50,
        pace_rise_percent: 0,
        ..PbftConfig::default()
    };
    let pbft = Pbft::start(boot, config, keys, now).map_err(|error| error.to_string())?;
    Ok(match lie {
        Some(lie) => Box::new(Liar::new(pbft, lie, seed)),
        None => Box::new(pbft),
    })
}
