//! `GET /api/status`: what `verity status` shows.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use verity_node::{AskError, Figures, NodeClient, NodeStatus};
use verity_replica::GroupStatus;
use verity_types::NodeId;

use crate::admin::kafka::{self, KafkaFigures};
use crate::admin::{Admin, Lab};
use crate::compose;

/// All nodes of one process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StatusReport {
    pub(crate) nodes: Vec<NodeReport>,
}

/// One node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeReport {
    pub(crate) id: u64,
    pub(crate) running: bool,
    /// How many times it has started.
    pub(crate) incarnation: u64,
    pub(crate) connections: usize,
    /// The peers that it is connected to.
    pub(crate) peers_up: Vec<u64>,
    pub(crate) groups: Vec<GroupReport>,
    /// Its Bitcoin node, if it is served and answers.
    #[serde(default)]
    pub(crate) bitcoin: Option<BitcoinReport>,
    /// The faults in force, in words.
    pub(crate) faults: Vec<String>,
    /// What it has counted; `GET /metrics` tells.
    #[serde(skip)]
    pub(crate) figures: Figures,
    /// What is measured of Kafka, if the node serves it and was asked for figures.
    #[serde(skip)]
    pub(crate) kafka: Option<KafkaFigures>,
}

/// A Bitcoin node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BitcoinReport {
    pub(crate) height: u64,
    /// The height of the header with the most work.
    pub(crate) headers: u64,
    /// The last 16 digits of the tip's hash.
    pub(crate) tip: String,
    pub(crate) peers: u64,
    /// Transactions that wait.
    pub(crate) transactions: u64,
}

/// One group, as one node sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GroupReport {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// `leader`, `follower`, `learner`, or `outsider`.
    pub(crate) role: String,
    pub(crate) leader: Option<u64>,
    pub(crate) term: u64,
    pub(crate) applied: u64,
    pub(crate) committed: u64,
    pub(crate) last: u64,
    pub(crate) first: u64,
    pub(crate) snapshot: u64,
    /// Commands of this node that wait for the group's order.
    pub(crate) waiting: usize,
    /// Commands that this node has asked the group to order since it started.
    #[serde(default)]
    pub(crate) proposed: u64,
    pub(crate) state_bytes: u64,
    pub(crate) digest: String,
    pub(crate) voters: Vec<u64>,
    pub(crate) learners: Vec<u64>,
    pub(crate) hibernating: bool,
}

/// Asks every node of the process how it is.
pub(crate) async fn report(lab: &dyn Lab) -> StatusReport {
    ask(lab, false).await
}

/// Asks every node of the process how it is and what is measured of it.
pub(crate) async fn report_measured(lab: &dyn Lab) -> StatusReport {
    ask(lab, true).await
}

/// How one node is and what is measured of it.
pub(crate) async fn measured(lab: &dyn Lab, id: NodeId) -> NodeReport {
    one(id, clients(lab, id), true).await
}

async fn ask(lab: &dyn Lab, figures: bool) -> StatusReport {
    // One that does not answer holds up no other.
    let ask = |id| {
        let asked = clients(lab, id);
        tokio::spawn(async move { one(id, asked, figures).await })
    };
    let asked: Vec<_> = lab.ids().into_iter().map(ask).collect();
    let mut nodes = Vec::new();
    for node in asked {
        nodes.push(node.await.expect("a node is asked without panicking, and nobody gives up asking"));
    }
    StatusReport { nodes }
}

/// Whom to ask about a node, and about its Bitcoin node.
struct Asked {
    client: Option<NodeClient>,
    chain: Option<NodeClient>,
    eclipsed: bool,
}

fn clients(lab: &dyn Lab, id: NodeId) -> Asked {
    let chains = lab.chains();
    let eclipsed = chains.as_ref().is_some_and(|chains| chains.is_eclipsed(id));
    Asked { client: lab.client(id), chain: chains.and_then(|chains| chains.client(id)), eclipsed }
}

async fn one(id: NodeId, Asked { client, chain, eclipsed }: Asked, figures: bool) -> NodeReport {
    let Some(client) = client else { return silent(id, false, None) };
    match client.status().await {
        Ok(status) => {
            let kafka = if figures { kafka::measure(&client, &status).await } else { None };
            let bitcoin = match chain {
                Some(chain) => chain.status().await.ok().map(|status| bitcoin_report(&status)),
                None => None,
            };
            let mut report = NodeReport { kafka, bitcoin, ..node_report(&status) };
            report.faults.extend(eclipsed.then(|| "its Bitcoin node hears an attacker alone".to_owned()));
            report
        }
        Err(AskError::Stopped) => silent(id, false, None),
        Err(AskError::Paused { left }) => silent(id, true, Some(format!("paused for another {} ms", left.as_millis()))),
        Err(AskError::Silent(wait)) => silent(id, true, Some(format!("no answer within {} s", wait.as_secs()))),
    }
}

pub(crate) async fn serve(State(admin): State<Admin>) -> Json<StatusReport> {
    Json(report(admin.lab.as_ref()).await)
}

/// A node that says nothing about itself.
fn silent(id: NodeId, running: bool, fault: Option<String>) -> NodeReport {
    NodeReport {
        id: id.0,
        running,
        incarnation: 0,
        connections: 0,
        peers_up: Vec::new(),
        groups: Vec::new(),
        bitcoin: None,
        faults: fault.into_iter().collect(),
        figures: Figures::default(),
        kafka: None,
    }
}

fn node_report(status: &NodeStatus) -> NodeReport {
    let faults = &status.faults;
    let mut words = Vec::new();
    for peer in &faults.send_cut {
        words.push(format!("sends nothing to node {peer}"));
    }
    for peer in &faults.receive_cut {
        words.push(format!("hears nothing from node {peer}"));
    }
    if faults.clock_skew_ms != 0 {
        words.push(format!("clock moved by {} ms", faults.clock_skew_ms));
    }
    if !faults.disk_delay.is_zero() {
        words.push(format!("each sync takes {} ms longer", faults.disk_delay.as_millis()));
    }
    NodeReport {
        id: status.id.0,
        running: true,
        incarnation: status.incarnation,
        connections: status.connections,
        peers_up: status.peers_up.iter().map(|peer| peer.0).collect(),
        groups: status.groups.iter().map(|group| group_report(status.id, status.incarnation, group)).collect(),
        bitcoin: None,
        faults: words,
        figures: status.figures.clone(),
        kafka: None,
    }
}

fn bitcoin_report(status: &NodeStatus) -> BitcoinReport {
    let count = |what| {
        let found = status.figures.counts.iter().find(|count| count.what == what);
        found.map_or(0, |count| count.count)
    };
    BitcoinReport {
        height: count("height"),
        headers: count("headers"),
        tip: format!("{:016x}", count("tip")),
        peers: count("peers"),
        transactions: count("transactions"),
    }
}

/// Those that are applied, and those that wait.
fn proposed(node: NodeId, incarnation: u64, group: &GroupStatus) -> u64 {
    let mut own = group.lanes.iter().filter(|lane| (lane.origin, lane.incarnation) == (node, incarnation));
    own.next().map_or(0, |lane| lane.applied) + group.waiting as u64
}

fn group_report(node: NodeId, incarnation: u64, group: &GroupStatus) -> GroupReport {
    let members = &group.agreement.members;
    let role = match () {
        () if group.role.leads => "leader",
        () if members.voters.contains(&node) => "follower",
        () if members.learners.contains(&node) => "learner",
        () => "outsider",
    };
    GroupReport {
        id: group.group.0,
        name: compose::group_name(group.group),
        role: role.to_owned(),
        leader: group.role.leader.map(|leader| leader.0),
        term: group.role.term.0,
        applied: group.applied.0,
        committed: group.agreement.committed.0,
        last: group.agreement.last.0,
        first: group.agreement.first.0,
        snapshot: group.snapshot.0,
        waiting: group.waiting,
        proposed: proposed(node, incarnation, group),
        state_bytes: group.state_bytes,
        digest: group.digest.to_string(),
        voters: members.voters.iter().map(|node| node.0).collect(),
        learners: members.learners.iter().map(|node| node.0).collect(),
        hibernating: group.agreement.hibernating,
    }
}
