//! `GET /metrics`: the node behind this port, in Prometheus text.
//!
//! Every figure is read when it is asked for, so that serving costs nothing while nobody looks.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::admin::status::{NodeReport, report};
use crate::admin::{Admin, Refused};

pub(crate) async fn serve(State(admin): State<Admin>) -> Result<impl IntoResponse, Refused> {
    let all = report(&admin).await;
    let text = all.nodes.iter().find(|node| node.id == admin.node.0).map(exposition).unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text))
}

fn exposition(node: &NodeReport) -> String {
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, values: Vec<(String, u64)>| {
        let _ = writeln!(out, "# HELP verity_{name} {help}\n# TYPE verity_{name} gauge");
        for (labels, value) in values {
            let _ = writeln!(out, "verity_{name}{labels} {value}");
        }
    };
    let plain = |value: u64| vec![(String::new(), value)];
    gauge("up", "1 while the node runs.", plain(u64::from(node.running)));
    gauge("incarnation", "How many times the node has started.", plain(node.incarnation));
    gauge("connections", "Open client connections.", plain(node.connections as u64));
    gauge("peers_up", "Peers that the node is connected to.", plain(node.peers_up.len() as u64));
    let groups = |value: &dyn Fn(&super::GroupReport) -> u64| {
        node.groups.iter().map(|group| (format!("{{group=\"{}\"}}", group.name), value(group))).collect::<Vec<_>>()
    };
    gauge("group_leads", "1 if the node leads the group.", groups(&|group| u64::from(group.role == "leader")));
    gauge("group_term", "The group's term.", groups(&|group| group.term));
    gauge("group_applied_index", "The last applied log index.", groups(&|group| group.applied));
    gauge("group_committed_index", "The last committed log index.", groups(&|group| group.committed));
    gauge(
        "group_log_entries",
        "Entries in the local log.",
        groups(&|group| (group.last + 1).saturating_sub(group.first)),
    );
    gauge("group_snapshot_index", "The last log index in the latest snapshot.", groups(&|group| group.snapshot));
    gauge(
        "group_waiting_commands",
        "Commands of this node that wait for the order.",
        groups(&|group| group.waiting as u64),
    );
    gauge("group_state_bytes", "Memory that the state holds, roughly.", groups(&|group| group.state_bytes));
    gauge("group_hibernating", "1 while the group sleeps.", groups(&|group| u64::from(group.hibernating)));
    out
}
