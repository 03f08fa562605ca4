//! `verity up`: the embedded cluster.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use verity_node::NodeClient;
use verity_pbft::liar::Lie;
use verity_types::NodeId;

use crate::admin::{About, Admin, AdminServer, Lab, Listener};
use crate::bitcoin::chains::Chains;
use crate::cli::end_signals;
use crate::cluster::{ADMIN_PORT, Cluster, ClusterOptions, PORT_STEP, bitcoin_dir, node_dir};
use crate::compose::{self, Agreement, Plan, System};
use crate::settings::{Features, parse_lie, systems_up};
use crate::telemetry::{Exporter, Traces};
use crate::{layout, secrets};

/// More nodes than this have no ports left.
const NODES_MAX: u16 = 50;
/// Where the data lives, if nobody says.
const DATA_DIR: &str = "verity-data";
/// How often the cluster is looked at for a node that stopped on its own.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  verity up                                   four nodes, data in ./verity-data\n  \
    verity up --ephemeral --port-offset 20000   nothing is kept, and no usual port is touched\n  \
    verity up --nodes 1 --tick-time 200         for tests: small, and sessions expire soon\n  \
    verity up --config zoo.toml                 with TLS, SASL, quotas and more, from [zookeeper] of a file"
)]
pub(crate) struct Up {
    /// How many nodes: up to three vote, every further one learns, so each port reads locally.
    /// 4 in a new data folder; one that is there keeps its number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    nodes: Option<u16>,
    /// Serve only these systems, separated by commas.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum)]
    only: Vec<System>,
    /// Keep everything in memory; nothing is left when it ends.
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    /// Where the data lives.
    #[arg(long, value_name = "DIR", default_value = DATA_DIR, env = "VERITY_DATA_DIR")]
    data_dir: PathBuf,
    /// Added to every port.
    #[arg(long, default_value_t = 0, value_name = "N")]
    port_offset: u16,
    /// How the nodes come to one order [default: raft; the ledger pbft, of four nodes or more]
    #[arg(long, value_enum)]
    agreement: Option<Agreement>,
    /// Let a node lie, in whatever is on PBFT: the cluster, the ledger, or topics whose verity.agreement is pbft. Such as
    /// 1:equivocate; see `verity server --help` for the lies.
    #[arg(long, value_name = "NODE:LIE", value_parser = byzantine)]
    byzantine: Vec<(NodeId, Lie)>,
    /// A file with the sections [zookeeper] and [telemetry] of verity.toml, for everything below and more.
    #[arg(long, value_name = "FILE", env = "VERITY_CONFIG")]
    config: Option<PathBuf>,
    /// The port of ZooKeeper's AdminServer on the first node; 0 for none.
    #[arg(long, value_name = "PORT")]
    zookeeper_admin_port: Option<u16>,
    /// The unit of session expiry; sessions live for 2 to 20 of them.
    #[arg(long, value_name = "MS")]
    tick_time: Option<u32>,
    /// Make every read linearizable, not only those of clients that ask for it.
    #[arg(long)]
    linearizable_reads: bool,
    /// Allow nodes with a time to live.
    #[arg(long)]
    extended_types: bool,
    /// The ledger's application on node 1, by ABCI's socket; each further node has one at the next port.
    #[arg(long, value_name = "tcp://HOST:PORT")]
    ledger_app: Option<String>,
    /// Where OpenTelemetry is sent, by OTLP over HTTP, such as http://127.0.0.1:4318.
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
}

fn byzantine(text: &str) -> Result<(NodeId, Lie), String> {
    let (node, lie) = text.split_once(':').ok_or("say which node and what, such as 1:equivocate")?;
    let node = node.parse().map_err(|_| format!("{node:?} is no number of a node"))?;
    Ok((NodeId(node), parse_lie(lie)?))
}

impl Lab for Cluster {
    fn ids(&self) -> Vec<NodeId> {
        Cluster::ids(self)
    }

    fn client(&self, id: NodeId) -> Option<NodeClient> {
        Cluster::client(self, id)
    }

    fn crash(&self, id: NodeId) -> Result<()> {
        self.crash_node(id)
    }

    fn restart(&self, id: NodeId) -> Result<()> {
        self.start_node(id)
    }

    fn is_lab(&self) -> bool {
        true
    }

    fn about(&self) -> About {
        Cluster::about(self)
    }

    fn chains(&self) -> Option<Arc<Chains>> {
        Cluster::chains(self)
    }
}

impl Up {
    /// The file's sections, and what flags change in them.
    fn features(&self) -> Result<Features> {
        let mut features = Features::read(self.config.as_deref())?;
        let zookeeper = &mut features.zookeeper;
        zookeeper.admin_port = self.zookeeper_admin_port.unwrap_or(zookeeper.admin_port);
        zookeeper.tick_time_ms = self.tick_time.unwrap_or(zookeeper.tick_time_ms);
        zookeeper.linearizable_reads |= self.linearizable_reads;
        zookeeper.extended_types |= self.extended_types;
        if self.otlp_endpoint.is_some() {
            features.telemetry.otlp_endpoint.clone_from(&self.otlp_endpoint);
        }
        if self.ledger_app.is_some() {
            features.ledger.proxy_app.clone_from(&self.ledger_app);
        }
        features.check()?;
        features.zookeeper.check_alone()?;
        Ok(features)
    }

    pub(crate) fn run(self, json: bool) -> Result<()> {
        let features = self.features()?;
        let only: BTreeSet<System> = self.only.iter().copied().collect();
        let mut signals = end_signals()?;
        let data_dir = (!self.ephemeral).then_some(self.data_dir);
        let nodes = match &data_dir {
            Some(dir) => layout::nodes(dir, self.nodes)?,
            None => layout::new_nodes(self.nodes),
        };
        let agreement = self.agreement.unwrap_or_default();
        let ledger_agreement = Agreement::of_ledger(self.agreement, usize::from(nodes), true);
        agreement.check_nodes(usize::from(nodes))?;
        let token = match &data_dir {
            Some(dir) => secrets::admin_token(dir)?,
            None => secrets::new_token()?,
        };
        let options = ClusterOptions {
            nodes,
            data_dir: data_dir.clone(),
            port_offset: self.port_offset,
            lies: self.byzantine.iter().copied().collect(),
            listener: None,
            token: token.clone(),
            plan: Plan {
                systems: if only.is_empty() { systems_up() } else { only },
                members: Plan::members(nodes, agreement),
                agreement,
                ledger_agreement,
                seed: secrets::seed()?,
                secret: secrets::random()?,
                zookeeper: features.zookeeper,
                kafka: features.kafka,
                ledger: features.ledger,
                bitcoin: features.bitcoin,
                genesis: None,
            },
        };
        let traces = Traces::start(&features.telemetry)?;
        let cluster = Arc::new(Cluster::start(options)?);
        let mut listeners = Vec::new();
        for node in cluster.ids() {
            let lab: Arc<dyn Lab> = Arc::clone(&cluster) as Arc<dyn Lab>;
            let admin = Admin { lab, node, token: token.as_str().into() };
            listeners.push(Listener { addr: cluster.admin_addr(node)?, admin, tls: None });
        }
        let admin = AdminServer::start(listeners, "--port-offset moves it")?;
        let exporter = Exporter::start(&features.telemetry, Arc::clone(&cluster) as Arc<dyn Lab>)?;
        let kept = data_dir.as_deref();
        println!("{}", if json { describe_json(&cluster, kept, &token)? } else { describe(&cluster, kept, &token)? });
        loop {
            if signals.pending().next().is_some() {
                break;
            }
            if let Some((node, why)) = cluster.take_failure() {
                eprintln!("verity: node {node} stopped: {why}");
                if cluster.ids().into_iter().all(|id| cluster.client(id).is_none()) {
                    bail!("no node is left");
                }
            }
            wait(LOOK);
        }
        drop((exporter, admin));
        cluster.stop()?;
        drop(traces);
        if !json {
            println!("stopped");
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "the main thread has nothing else to do")]
fn wait(span: Duration) {
    std::thread::sleep(span);
}

/// The table that a newcomer sees.
fn describe(cluster: &Cluster, data_dir: Option<&Path>, token: &str) -> Result<String> {
    let ids = cluster.ids();
    let Some(first) = ids.first() else { bail!("a cluster has a node") };
    let mut out = String::new();
    let place = data_dir.map_or_else(|| "in memory".to_owned(), |dir| format!("in {}", dir.display()));
    let _ = writeln!(out, "Verity is up: {} nodes in this process, data {place}, loopback only.\n", ids.len());
    let _ = writeln!(out, "  {:<15} {:<42} connect with", "system", "ports");
    let bitcoin = bitcoin_way(cluster, *first, data_dir, token)?;
    for (name, _) in cluster.endpoints(*first)? {
        let mut addrs = Vec::new();
        for id in &ids {
            addrs.extend(cluster.endpoints(*id)?.into_iter().filter(|(other, _)| *other == name).map(|(_, addr)| addr));
        }
        let ports: Vec<String> = addrs.iter().map(|addr| addr.port().to_string()).collect();
        let hint = compose::hint(name, &addrs, &bitcoin);
        let _ = writeln!(out, "  {name:<15} {:<42} {hint}", ports.join(" "));
    }
    let admin = cluster.admin_addr(*first)?;
    let way = if admin.port() == ADMIN_PORT { String::new() } else { format!(" --admin {admin}") };
    let ports = format!("{} (+{PORT_STEP} a node)", admin.port());
    let _ = writeln!(out, "  {:<15} {ports:<42} verity status{way}", "admin");
    let key = match data_dir {
        None => format!(" --token {token}"),
        Some(dir) if dir == Path::new(DATA_DIR) => String::new(),
        Some(dir) => format!(" --data-dir {}", dir.display()),
    };
    let _ = writeln!(out, "\nBreak it: verity fault partition 1{way}{key}\nHeal it:  verity fault heal{way}{key}");
    let _ = write!(out, "Stop it:  Ctrl-C");
    Ok(out)
}

/// How Bitcoin's client finds the first node, and is let in.
fn bitcoin_way(cluster: &Cluster, first: NodeId, data_dir: Option<&Path>, token: &str) -> Result<String> {
    let found = cluster.endpoints(first)?.into_iter().find(|(name, _)| *name == "bitcoin");
    let port = match found.map(|(_, addr)| addr.port()) {
        None | Some(18_443) => String::new(),
        Some(port) => format!("-rpcport={port} "),
    };
    Ok(match data_dir {
        Some(dir) => format!("{port}-datadir={}", bitcoin_dir(&node_dir(dir, first)).display()),
        None => format!("{port}-rpcuser=__cookie__ -rpcpassword={token}"),
    })
}

fn describe_json(cluster: &Cluster, data_dir: Option<&Path>, token: &str) -> Result<String> {
    let mut nodes = Vec::new();
    for id in cluster.ids() {
        let endpoints: serde_json::Map<String, serde_json::Value> = cluster
            .endpoints(id)?
            .into_iter()
            .map(|(name, addr)| (name.to_owned(), serde_json::Value::from(addr.to_string())))
            .collect();
        nodes.push(serde_json::json!({
            "id": id.0, "endpoints": endpoints, "admin": cluster.admin_addr(id)?.to_string(),
        }));
    }
    // Who can read the folder has the token; of a cluster without one, this is the only place that tells it.
    Ok(match data_dir {
        Some(_) => serde_json::json!({ "nodes": nodes }).to_string(),
        None => serde_json::json!({ "nodes": nodes, "token": token }).to_string(),
    })
}
