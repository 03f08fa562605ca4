//! `GET /api/status`: what `verity status` shows.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use verity_node::NodeStatus;
use verity_replica::GroupStatus;
use verity_types::NodeId;

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
    /// The faults in force, in words.
    pub(crate) faults: Vec<String>,
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
    pub(crate) state_bytes: u64,
    pub(crate) digest: String,
    pub(crate) voters: Vec<u64>,
    pub(crate) learners: Vec<u64>,
    pub(crate) hibernating: bool,
}

/// Asks every node of the process.
pub(crate) async fn report(lab: &dyn Lab) -> StatusReport {
    let mut nodes = Vec::new();
    for id in lab.ids() {
        let status = match lab.client(id) {
            Some(client) => client.status().await.ok(),
            None => None,
        };
        nodes.push(status.map_or_else(|| down(id), |status| node_report(&status)));
    }
    StatusReport { nodes }
}

pub(crate) async fn serve(State(admin): State<Admin>) -> Json<StatusReport> {
    Json(report(admin.lab.as_ref()).await)
}

fn down(id: NodeId) -> NodeReport {
    NodeReport {
        id: id.0,
        running: false,
        incarnation: 0,
        connections: 0,
        peers_up: Vec::new(),
        groups: Vec::new(),
        faults: Vec::new(),
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
        groups: status.groups.iter().map(|group| group_report(status.id, group)).collect(),
        faults: words,
    }
}

fn group_report(node: NodeId, group: &GroupStatus) -> GroupReport {
    let members = &group.agreement.members;
    let role = match () {
        () if group.role.leads => "leader",
        () if members.voters.contains(&node) => "follower",
        () if members.learners.contains(&node) => "learner",
        () => "outsider",
    };
    GroupReport {
        id: group.group.0,
        name: compose::group_name(group.group).to_owned(),
        role: role.to_owned(),
        leader: group.role.leader.map(|leader| leader.0),
        term: group.role.term.0,
        applied: group.applied.0,
        committed: group.agreement.committed.0,
        last: group.agreement.last.0,
        first: group.agreement.first.0,
        snapshot: group.snapshot.0,
        waiting: group.waiting,
        state_bytes: group.state_bytes,
        digest: group.digest.to_string(),
        voters: members.voters.iter().map(|node| node.0).collect(),
        learners: members.learners.iter().map(|node| node.0).collect(),
        hibernating: group.agreement.hibernating,
    }
}
