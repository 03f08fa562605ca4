//! `verity status`: nodes, groups, leaders, lag.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use clap::Args;

use crate::admin::StatusReport;
use crate::cluster::ADMIN_PORT;

#[derive(Args, Debug)]
pub(crate) struct Status {
    /// The admin APIs to ask, separated by commas: one is enough for `verity up`.
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:7070",
        env = "VERITY_ADMIN"
    )]
    admin: Vec<String>,
}

impl Status {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let mut all = StatusReport::default();
        for admin in &self.admin {
            let report: StatusReport = ask(admin)?;
            all.nodes.extend(report.nodes);
        }
        if json {
            println!("{}", serde_json::to_string(&all)?);
        } else {
            print!("{}", table(&all));
        }
        Ok(())
    }
}

fn ask(admin: &str) -> Result<StatusReport> {
    let mut response = ureq::get(format!("http://{admin}/api/status"))
        .call()
        .with_context(|| format!("no Verity answers at {admin}; start one with `verity up`, or name it with --admin (default port {ADMIN_PORT})"))?;
    response.body_mut().read_json().with_context(|| format!("{admin} does not answer like Verity"))
}

fn table(report: &StatusReport) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{:<6} {:<8} {:<7} {:<7} faults", "node", "state", "starts", "clients");
    for node in &report.nodes {
        let state = if node.running { "up" } else { "down" };
        let faults = if node.faults.is_empty() { "-".to_owned() } else { node.faults.join("; ") };
        let _ = writeln!(out, "{:<6} {state:<8} {:<7} {:<7} {faults}", node.id, node.incarnation, node.connections);
    }
    let mut ahead: BTreeMap<u64, u64> = BTreeMap::new();
    for group in report.nodes.iter().flat_map(|node| &node.groups) {
        let furthest = ahead.entry(group.id).or_default();
        *furthest = (*furthest).max(group.committed);
    }
    let _ = writeln!(
        out,
        "\n{:<12} {:<6} {:<9} {:<7} {:<6} {:<10} {:<6} {:<10} digest",
        "group", "node", "role", "leader", "term", "applied", "lag", "snapshot"
    );
    for node in &report.nodes {
        for group in &node.groups {
            let leader = group.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
            let lag = ahead.get(&group.id).copied().unwrap_or(0).saturating_sub(group.applied);
            let digest = group.digest.get(..8).unwrap_or_default();
            let _ = writeln!(
                out,
                "{:<12} {:<6} {:<9} {leader:<7} {:<6} {:<10} {lag:<6} {:<10} {digest}",
                group.name, node.id, group.role, group.term, group.applied, group.snapshot
            );
        }
    }
    out
}
