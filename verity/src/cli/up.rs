//! `verity up`: the embedded cluster.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use verity_node::NodeClient;
use verity_types::NodeId;

use crate::admin::{Admin, AdminServer, Lab};
use crate::cluster::{Cluster, ClusterOptions, PORT_STEP};
use crate::compose::{self, Agreement, Plan};
use crate::secrets;

/// More nodes than this have no ports left.
const NODES_MAX: u16 = 50;
/// How often the cluster is looked at for a node that stopped on its own.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Args, Debug)]
pub(crate) struct Up {
    /// How many nodes: up to three vote, every further one learns, so each port reads locally.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    nodes: u16,
    /// Serve only these systems, separated by commas.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = compose::SYSTEMS)]
    only: Vec<String>,
    /// Keep everything in memory; nothing is left when it ends.
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    /// Where the data lives.
    #[arg(long, value_name = "DIR", default_value = "verity-data", env = "VERITY_DATA_DIR")]
    data_dir: PathBuf,
    /// Added to every port.
    #[arg(long, default_value_t = 0, value_name = "N")]
    port_offset: u16,
    /// How the nodes come to one order.
    #[arg(long, value_enum, default_value_t = Agreement::Raft)]
    agreement: Agreement,
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
}

impl Up {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let data_dir = (!self.ephemeral).then_some(self.data_dir);
        let token = match &data_dir {
            Some(dir) => secrets::admin_token(dir)?,
            None => secrets::new_token()?,
        };
        let options = ClusterOptions {
            nodes: self.nodes,
            data_dir: data_dir.clone(),
            port_offset: self.port_offset,
            plan: Plan::new(self.nodes, self.agreement, secrets::seed()?, secrets::random()?),
        };
        let cluster = Arc::new(Cluster::start(options)?);
        let mut listeners = Vec::new();
        for node in cluster.ids() {
            let lab: Arc<dyn Lab> = Arc::clone(&cluster) as Arc<dyn Lab>;
            listeners.push((cluster.admin_addr(node)?, Admin { lab, node, token: token.as_str().into() }));
        }
        let admin = AdminServer::start(listeners)?;
        println!("{}", if json { describe_json(&cluster)? } else { describe(&cluster, data_dir.as_ref())? });
        loop {
            if signals.pending().next().is_some() {
                break;
            }
            if let Some((node, why)) = cluster.take_failure() {
                eprintln!("verity: node {node} stopped: {why}");
            }
            wait(LOOK);
        }
        drop(admin);
        cluster.stop()?;
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
fn describe(cluster: &Cluster, data_dir: Option<&PathBuf>) -> Result<String> {
    let ids = cluster.ids();
    let Some(first) = ids.first() else { bail!("a cluster has a node") };
    let mut out = String::new();
    let place = data_dir.map_or_else(|| "in memory".to_owned(), |dir| format!("in {}", dir.display()));
    let _ = writeln!(out, "Verity is up: {} nodes in this process, data {place}, loopback only.\n", ids.len());
    let _ = writeln!(out, "  {:<11} {:<42} connect with", "system", "ports");
    for (name, _) in cluster.endpoints(*first)? {
        let mut addrs = Vec::new();
        for id in &ids {
            addrs.extend(cluster.endpoints(*id)?.into_iter().filter(|(other, _)| *other == name).map(|(_, addr)| addr));
        }
        let ports: Vec<String> = addrs.iter().map(|addr| addr.port().to_string()).collect();
        let hint = compose::hint(name, &addrs);
        let _ = writeln!(out, "  {name:<11} {:<42} {hint}", ports.join(" "));
    }
    let admin = cluster.admin_addr(*first)?;
    let _ = writeln!(out, "  {:<11} {:<42} verity status", "admin", format!("{} (+{PORT_STEP} a node)", admin.port()));
    let _ = write!(out, "\nBreak it: verity fault partition 1   Heal it: verity fault heal   Stop it: Ctrl-C");
    Ok(out)
}

fn describe_json(cluster: &Cluster) -> Result<String> {
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
    Ok(serde_json::json!({ "nodes": nodes }).to_string())
}
