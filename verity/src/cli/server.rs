//! `verity server`: one node, one process.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use verity_contract::Members;
use verity_ledger::wire::Genesis;
use verity_node::{ClientCertificates, NodeClient, NodeError, PeerTls, ServerTls};
use verity_pbft::Keys;
use verity_pbft::liar::Lie;
use verity_storage::{Disk, RealDisk, VolatileDisk};
use verity_types::NodeId;

use crate::abci::Address;
use crate::admin::{About, Admin, AdminServer, Lab, Listener};
use crate::bitcoin::chains::{ChainSeat, Chains};
use crate::cli::end_signals;
use crate::cluster::{ADMIN_PORT, PEER_PORT, bitcoin_dir, located, loopback};
use crate::compose::{self, Agreement, Place, Plan, ReplicaKeys, System};
use crate::join::{JoinToken, Seat};
use crate::secrets;
use crate::settings::{LabDisk, Settings, ZooKeeper, parse_lie};
use crate::telemetry::{Exporter, Traces};

/// How often the node is looked at, in case it stopped on its own.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
#[command(after_help = "A small verity.toml:\n  cluster = \"demo\"\n  voters = [1, 2, 3]\n  [node]\n  id = 1\n  \
    data_dir = \"data-1\"\n  peer = \"127.0.0.1:7071\"\n  admin = \"127.0.0.1:7070\"\n  [peers]\n  \
    1 = \"127.0.0.1:7071\"\n  2 = \"127.0.0.1:8071\"\n  3 = \"127.0.0.1:9071\"\n  [zookeeper]\n  port = 2181\n\n\
    Further sections, each with defaults: [tls] dir; [telemetry] otlp_endpoint, interval_s; [lab] enabled, disk;\n\
    [zookeeper] port, tls_port, admin_port, tls_dir, client_certificates, admin_hosts, tick_time_ms,\n  \
    min_session_timeout_ms, max_session_timeout_ms, max_packet_bytes, max_connections_per_address, words,\n  \
    super_digest, super_certificate, super_sasl_user, sasl_users, read_only_mode, local_sessions,\n  \
    upgrade_local_sessions, linearizable_reads, extended_types, reconfig_enabled, enforce_quota, skip_acl\n\
    README.md has a table of them. VERITY_NODE__ID=2 in the environment overrides node.id, and so on.")]
pub(crate) struct Server {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "verity.toml", env = "VERITY_CONFIG")]
    config: PathBuf,
    /// Join a running cluster: a token of `verity node token`, or @FILE that holds one. The configuration is then made
    /// from it, once, in the data folder.
    #[arg(long, value_name = "TOKEN", conflicts_with = "config")]
    join: Option<String>,
    /// Serve strangers without TLS.
    #[arg(long)]
    insecure: bool,
    /// In the lab ([lab] enabled): this node lies, in whatever is on PBFT (topics too, with [pbft.keys]). One of silent, equivocate, replay, forge, delay, garbage,
    /// storm, select, slow-primary, lying-clock, faulty-client, byzzfuzz.
    #[arg(long, value_name = "LIE", value_parser = parse_lie)]
    byzantine: Option<Lie>,
    #[command(flatten)]
    seat: SeatFlags,
    /// With --join: the node learns and does not vote.
    #[arg(long, requires = "join", help_heading = SEAT_HEADING)]
    observer: bool,
}

/// The heading of these flags in help.
const SEAT_HEADING: &str = "Where the node is: over the configuration, or written into a new one by --join";

/// Where the node is. What is not given stays as the configuration says.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = SEAT_HEADING)]
struct SeatFlags {
    /// Its data folder [--join: verity-data-ID]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where it listens for its peers [--join: 127.0.0.1:7071]
    #[arg(long, value_name = "HOST:PORT")]
    peer: Option<SocketAddr>,
    /// Where its admin API listens [--join: 127.0.0.1:7070]
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<SocketAddr>,
    /// The address on which it serves clients [--join: 127.0.0.1]
    #[arg(long, value_name = "HOST")]
    clients: Option<IpAddr>,
    /// Its port for ZooKeeper's clients; 0 for none [--join: 2181]
    #[arg(long, value_name = "PORT")]
    zookeeper_port: Option<u16>,
    /// Its port for ZooKeeper's clients with TLS; 0 for none [--join: 0]
    #[arg(long, value_name = "PORT")]
    zookeeper_tls_port: Option<u16>,
}

struct OneNode {
    id: NodeId,
    client: NodeClient,
    chains: Option<Arc<Chains>>,
    lab: bool,
    about: About,
}

impl Lab for OneNode {
    fn ids(&self) -> Vec<NodeId> {
        vec![self.id]
    }

    fn client(&self, id: NodeId) -> Option<NodeClient> {
        (id == self.id).then(|| self.client.clone())
    }

    fn crash(&self, id: NodeId) -> Result<()> {
        if id != self.id {
            bail!("node {id} is another process; ask its own admin API");
        }
        // What a power cut would leave is what the disk has.
        std::process::abort();
    }

    fn restart(&self, id: NodeId) -> Result<()> {
        bail!("start the process of node {id} again")
    }

    fn is_lab(&self) -> bool {
        self.lab
    }

    fn about(&self) -> About {
        self.about.clone()
    }

    fn chains(&self) -> Option<Arc<Chains>> {
        self.chains.clone()
    }
}

impl Server {
    /// The configuration's place; made from the token first, if there is one.
    fn settings_file(&self) -> Result<PathBuf> {
        let Some(token) = &self.join else { return Ok(self.config.clone()) };
        let token = JoinToken::read(token)?;
        let SeatFlags { data_dir, peer, admin, clients, zookeeper_port, zookeeper_tls_port } = self.seat.clone();
        token.unpack(&Seat {
            data_dir: data_dir.unwrap_or_else(|| PathBuf::from(format!("verity-data-{}", token.id))),
            peer: peer.unwrap_or(loopback(PEER_PORT)),
            admin: admin.unwrap_or(loopback(ADMIN_PORT)),
            clients: clients.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            zookeeper_port: zookeeper_port.unwrap_or(ZooKeeper::default().port),
            zookeeper_tls_port: zookeeper_tls_port.unwrap_or(0),
            observer: self.observer,
        })
    }

    /// The configuration, and what flags change in it.
    fn settings(&self) -> Result<Settings> {
        let mut settings = Settings::read(&self.settings_file()?)?;
        let SeatFlags { data_dir, peer, admin, clients, zookeeper_port, zookeeper_tls_port } = self.seat.clone();
        let (node, zookeeper) = (&mut settings.node, &mut settings.zookeeper);
        node.data_dir = data_dir.unwrap_or_else(|| node.data_dir.clone());
        node.peer = peer.unwrap_or(node.peer);
        node.admin = admin.unwrap_or(node.admin);
        node.clients = clients.unwrap_or(node.clients);
        settings.lab.byzantine = self.byzantine.or(settings.lab.byzantine);
        zookeeper.port = zookeeper_port.unwrap_or(zookeeper.port);
        zookeeper.tls_port = zookeeper_tls_port.unwrap_or(zookeeper.tls_port);
        settings.check()?;
        settings.check_exposure(self.insecure)?;
        Ok(settings)
    }

    pub(crate) fn run(self, json: bool) -> Result<()> {
        let mut signals = end_signals()?;
        let settings = self.settings()?;
        let id = NodeId(settings.node.id);
        let token = secrets::admin_token(&settings.node.data_dir)?;
        let dir = settings.node.data_dir.clone();
        let told = |error: &NodeError| anyhow!("node {id} cannot start: {}", located(error, Some(&dir)));
        let spec = compose::node(&plan(&settings)?, place(&settings)?);
        let spec = spec.with_context(|| format!("node {id} cannot start"))?;
        let traces = Traces::start(&settings.telemetry)?;
        let node = verity_node::start(spec).map_err(|error| told(&error))?;
        let about = About {
            cluster: settings.cluster_id().to_string(),
            agreement: settings.agreement().to_string(),
            tls: settings.tls.is_some(),
            keys: replica_keys(&settings)?.map(|keys| keys.told()).unwrap_or_default(),
        };
        let chains = chains(&settings)?;
        if let Some(chains) = &chains {
            chains.start_node(id).with_context(|| format!("the Bitcoin node of node {id} cannot start"))?;
        }
        let one = OneNode { id, client: node.client(), chains: chains.clone(), lab: settings.lab.enabled, about };
        let lab: Arc<dyn Lab> = Arc::new(one);
        let service = Admin { lab: Arc::clone(&lab), node: id, token: token.as_str().into() };
        let listener = Listener { addr: settings.node.admin, admin: service, tls: admin_tls(&settings)? };
        let admin = AdminServer::start(vec![listener], "--admin takes another address")?;
        let exporter = Exporter::start(&settings.telemetry, lab)?;
        let beside = chains.as_ref().map(|chains| chains.doors(id)).unwrap_or_default();
        let doors: Vec<String> = node.doors.iter().chain(&beside).map(ToString::to_string).collect();
        if json {
            println!(
                "{}",
                serde_json::json!({ "node": id.0, "doors": doors, "admin": settings.node.admin.to_string() })
            );
        } else {
            println!(
                "Verity node {id} of {:?} is up: clients at {}, admin at {}",
                settings.cluster,
                doors.join(", "),
                settings.node.admin
            );
        }
        let mut chain_failed = None;
        while signals.pending().next().is_none() && !node.has_stopped() && chain_failed.is_none() {
            wait(LOOK);
            chain_failed = chains.as_ref().and_then(|chains| chains.take_failure());
        }
        drop((exporter, admin));
        if let Some(chains) = chains {
            chains.stop()?;
        }
        let stopped = node.stop().with_context(|| format!("node {id}"));
        drop(traces);
        match chain_failed {
            Some((id, why)) => stopped.and_then(|()| bail!("the Bitcoin node of node {id} stopped: {why}")),
            None => stopped,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the main thread has nothing else to do")]
fn wait(span: Duration) {
    std::thread::sleep(span);
}

/// This node's Bitcoin node, if it is served.
fn chains(settings: &Settings) -> Result<Option<Arc<Chains>>> {
    if !settings.systems.contains(&System::Bitcoin) {
        return Ok(None);
    }
    let (node, bitcoin) = (&settings.node, &settings.bitcoin);
    let seat = ChainSeat {
        folder: Some(bitcoin_dir(&node.data_dir).join("regtest")),
        rpc_port: bitcoin.rpc_port,
        p2p: SocketAddr::new(node.clients, bitcoin.p2p_port),
        zmq_port: bitcoin.zmq_port,
    };
    let seats = BTreeMap::from([(NodeId(node.id), seat)]);
    Ok(Some(Arc::new(Chains::new(bitcoin.clone(), seats, bitcoin.neighbours()?, secrets::new_token()?))))
}

/// Administrators who may be elsewhere are met with the node's certificate; the token says who they are.
fn admin_tls(settings: &Settings) -> Result<Option<ServerTls>> {
    let tls = settings.tls.as_ref().filter(|_| !settings.node.admin.ip().is_loopback());
    Ok(tls.map(|tls| ServerTls::load(&tls.dir, ClientCertificates::Ignored)).transpose()?)
}

fn plan(settings: &Settings) -> Result<Plan> {
    let mut members = Members::of_voters(settings.voters.iter().copied().map(NodeId));
    if !members.voters.is_empty() {
        members.learners = settings.peers()?.into_keys().filter(|peer| !members.voters.contains(peer)).collect();
    }
    Ok(Plan {
        members,
        agreement: settings.agreement(),
        ledger_agreement: settings.ledger_agreement(),
        seed: secrets::seed()?,
        secret: secrets::random()?,
        systems: settings.systems.clone(),
        zookeeper: settings.zookeeper.clone(),
        kafka: settings.kafka.clone(),
        bitcoin: settings.bitcoin.clone(),
        ledger: settings.ledger.clone(),
        genesis: genesis(settings)?,
    })
}

/// What this node signs the ledger's blocks with, if it serves one.
fn validator(settings: &Settings) -> Result<Option<[u8; 32]>> {
    let serves = settings.systems.contains(&System::Ledger);
    serves.then(|| secrets::validator_seed(&settings.node.data_dir)).transpose()
}

/// What the ledger begins with, if it is served.
fn genesis(settings: &Settings) -> Result<Option<Arc<Genesis>>> {
    let Some(seed) = validator(settings)? else { return Ok(None) };
    if !settings.ledger.validators.is_empty() {
        let own = (NodeId(settings.node.id), &seed);
        let genesis = compose::genesis_of(&settings.ledger, settings.cluster_id(), own)?;
        return Ok(Some(Arc::new(genesis)));
    }
    let Some(path) = &settings.ledger.genesis else {
        bail!(
            "ledger.validators lists no key, and ledger.genesis names no file; on every node's file belongs ledger.validators.{} = \
             \"{}\"",
            settings.node.id,
            compose::public_key(&seed)
        );
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let genesis = Genesis::from_json(&text).with_context(|| format!("{} is no genesis", path.display()))?;
    Ok(Some(Arc::new(genesis)))
}

/// What this node signs with under PBFT, and whose signatures it believes.
fn replica_keys(settings: &Settings) -> Result<Option<Arc<ReplicaKeys>>> {
    if settings.agreement() != Agreement::Pbft && settings.pbft.keys.is_empty() {
        return Ok(None);
    }
    let secret = secrets::replica_seed(&settings.node.data_dir)?;
    let (public, own) = (settings.pbft.public()?, Keys::public_of(secret));
    let missing = settings.peers()?.into_keys().find(|node| !public.contains_key(node));
    match (missing, public.get(&NodeId(settings.node.id))) {
        (None, Some(listed)) if *listed == own => Ok(Some(Arc::new(ReplicaKeys { secret, public }))),
        (Some(node), _) => bail!("pbft.keys lacks node {node}; this node's key is {:?}", STANDARD.encode(own)),
        _ => {
            bail!("pbft.keys has another key for this node than its data folder, which has {:?}", STANDARD.encode(own))
        }
    }
}

fn disk(settings: &Settings) -> Result<Arc<dyn Disk>> {
    let real = Arc::new(RealDisk::new(&settings.node.data_dir)?);
    Ok(match settings.lab.disk {
        LabDisk::Real => real,
        LabDisk::Volatile => Arc::new(VolatileDisk::new(real)),
        LabDisk::Forgetful => Arc::new(VolatileDisk::forgetful(real)),
    })
}

fn place(settings: &Settings) -> Result<Place> {
    let tls = settings.tls.as_ref();
    let client_tls =
        compose::client_tls(&settings.zookeeper, &settings.kafka, &settings.ledger, tls.map(|tls| &tls.dir))?;
    let application = settings.ledger.proxy_app.as_deref().map(Address::parse).transpose()?;
    Ok(Place {
        application,
        id: NodeId(settings.node.id),
        cluster: settings.cluster_id(),
        disk: disk(settings)?,
        peer_addr: settings.node.peer,
        seats: settings.seats()?,
        join: settings.voters.is_empty(),
        observer: settings.node.observer,
        peer_tls: tls.map(|tls| PeerTls::load(&tls.dir)).transpose()?,
        client_tls,
        admin_tls: admin_tls(settings)?,
        replica_keys: replica_keys(settings)?,
        lie: settings.lab.byzantine,
        listener: None,
        validator: validator(settings)?,
        clients: settings.node.clients,
        administrators: settings.node.admin.ip(),
        data_dir: Some(settings.node.data_dir.display().to_string()),
        log_bytes: match settings.node.log_memory_mib {
            0 => compose::log_bytes(1),
            mib => mib << 20,
        },
        port: Box::new(Ok),
    })
}
