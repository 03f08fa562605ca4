//! `GET /metrics`: the node behind this port, in Prometheus text.
//!
//! Every figure is read when it is asked for, so that serving costs nothing while nobody looks.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::admin::status::{GroupReport, NodeReport, report};
use crate::admin::{Admin, Refused};

/// Something that is measured.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// By the name of the group, if it is a group that is measured.
    pub(crate) values: Vec<(Option<String>, u64)>,
}

pub(crate) async fn serve(State(admin): State<Admin>) -> Result<impl IntoResponse, Refused> {
    let all = report(admin.lab.as_ref()).await;
    let text = all.nodes.iter().find(|node| node.id == admin.node.0).map(exposition).unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text))
}

fn exposition(node: &NodeReport) -> String {
    let mut out = String::new();
    for Figure { name, help, values } in figures(node) {
        let _ = writeln!(out, "# HELP verity_{name} {help}\n# TYPE verity_{name} gauge");
        for (group, value) in values {
            let labels = group.map_or_else(String::new, |group| format!("{{group=\"{group}\"}}"));
            let _ = writeln!(out, "verity_{name}{labels} {value}");
        }
    }
    out
}

/// Everything that is measured of a node, in one order. All are gauges.
pub(crate) fn figures(node: &NodeReport) -> Vec<Figure> {
    let plain = |name, help, value| Figure { name, help, values: vec![(None, value)] };
    let groups = |name, help, value: fn(&GroupReport) -> u64| {
        let values = node.groups.iter().map(|group| (Some(group.name.clone()), value(group))).collect();
        Figure { name, help, values }
    };
    vec![
        plain("up", "1 while the node runs.", u64::from(node.running)),
        plain("incarnation", "How many times the node has started.", node.incarnation),
        plain("connections", "Open client connections.", node.connections as u64),
        plain("peers_up", "Peers that the node is connected to.", node.peers_up.len() as u64),
        groups("group_leads", "1 if the node leads the group.", |group| u64::from(group.role == "leader")),
        groups("group_term", "The group's term.", |group| group.term),
        groups("group_applied_index", "The last applied log index.", |group| group.applied),
        groups("group_committed_index", "The last committed log index.", |group| group.committed),
        groups("group_log_entries", "Entries in the local log.", |group| (group.last + 1).saturating_sub(group.first)),
        groups("group_snapshot_index", "The last log index in the latest snapshot.", |group| group.snapshot),
        groups("group_waiting_commands", "Commands of this node that wait for the order.", |group| {
            group.waiting as u64
        }),
        groups("group_state_bytes", "Memory that the state holds, roughly.", |group| group.state_bytes),
        groups("group_hibernating", "1 while the group sleeps.", |group| u64::from(group.hibernating)),
    ]
}
