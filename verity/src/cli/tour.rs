//! `verity tour`: plays a recipe on a cluster of its own.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use verity_pbft::liar::Lie;
use verity_types::NodeId;

use crate::cluster::{Cluster, ClusterOptions};
use crate::compose::{self, Agreement, Listener, Plan};
use crate::settings::{Bitcoin, Kafka, Ledger, ZooKeeper};
use crate::{secrets, tour};

/// The tour's nodes, on ports of their own.
const NODES: u16 = 4;
/// Port offsets that are tried, so that a running cluster is not in the way.
const OFFSETS: [u16; 5] = [20_000, 25_000, 30_000, 35_000, 40_000];

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  verity tour zookeeper                      the lock, on Raft\n  \
    verity tour zookeeper --agreement paxos    the same on Multi-Paxos\n  \
    verity tour kafka                          the log: who writes, who reads, who is killed\n  \
    verity tour bft                            PBFT's sequence diagram, and a primary that lies\n  \
    verity tour bitcoin                        confirmations, and a branch that takes them away")]
pub(crate) struct Tour {
    #[command(subcommand)]
    system: System,
    /// How the nodes come to one order.
    #[arg(long, global = true, value_enum, default_value_t = Agreement::Raft)]
    agreement: Agreement,
}

#[derive(Debug, Subcommand)]
enum System {
    /// The distributed lock: three clients, one lock, first come first served, no herd, cleanup on death.
    Zookeeper,
    /// The log as the one truth: two services write, three read at their own pace, a leader is killed, and one is rebuilt.
    Kafka,
    /// PBFT's sequence diagram on five replicas: one says nothing, then the primary lies. Always on PBFT.
    Bft,
    /// A payment gathers confirmations, and a branch that was mined in secret takes them away.
    Bitcoin,
}

impl Tour {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let system = match self.system {
            System::Bft => return bft(json),
            System::Bitcoin => return tour::bitcoin::play(json),
            System::Zookeeper => compose::System::ZooKeeper,
            System::Kafka => compose::System::Kafka,
        };
        let cluster = start(system, self.agreement, NODES, BTreeMap::new(), None)?;
        match self.system {
            System::Kafka => tour::kafka::play(&cluster, json)?,
            _ => tour::zookeeper::play(&cluster, json)?,
        }
        cluster.stop()
    }
}

/// Each act on a cluster of its own.
fn bft(json: bool) -> Result<()> {
    for (act, (node, lie)) in tour::bft::ACTS.into_iter().enumerate() {
        let (listener, ear) = tour::bft::ear();
        let lies = BTreeMap::from([(node, lie)]);
        let cluster = start(compose::System::ZooKeeper, Agreement::Pbft, tour::bft::NODES, lies, Some(listener))?;
        match act {
            0 => tour::bft::silent(&cluster, &ear, json)?,
            _ => tour::bft::lying(&cluster, &ear, json)?,
        }
        cluster.stop()?;
    }
    Ok(())
}

fn start(
    system: compose::System,
    agreement: Agreement,
    nodes: u16,
    lies: BTreeMap<NodeId, Lie>,
    listener: Option<Listener>,
) -> Result<Cluster> {
    let mut failures = Vec::new();
    for port_offset in OFFSETS {
        let zookeeper = ZooKeeper { admin_port: 0, ..ZooKeeper::default() };
        let plan = Plan {
            systems: BTreeSet::from([system]),
            members: Plan::members(nodes, agreement),
            agreement,
            ledger_agreement: agreement,
            seed: secrets::seed()?,
            secret: secrets::random()?,
            zookeeper,
            kafka: Kafka::default(),
            ledger: Ledger::default(),
            bitcoin: Bitcoin::default(),
            genesis: None,
        };
        let (lies, listener, token) = (lies.clone(), listener.clone(), secrets::new_token()?);
        match Cluster::start(ClusterOptions { nodes, data_dir: None, port_offset, lies, listener, token, plan }) {
            Ok(cluster) => return Ok(cluster),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    bail!("no ports for the tour's cluster: {}", failures.join("; "))
}
