//! `verity status`: nodes, groups, leaders, lag.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use clap::Args;

use crate::admin::StatusReport;
use crate::cli::admin::{HEADING, Trust};

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  verity status                                      the cluster of `verity up`\n  \
    verity status --admin 127.0.0.1:27070              the same with --port-offset 20000\n  \
    verity status --admin 10.0.0.1:7070,10.0.0.2:7070 --admin-ca ca/ca.pem\n  \
    verity --json status                               for machines"
)]
pub(crate) struct Status {
    /// The admin APIs to ask, separated by commas: one is enough for `verity up`.
    #[arg(
        long,
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:7070",
        env = "VERITY_ADMIN",
        help_heading = HEADING
    )]
    admin: Vec<String>,
    #[command(flatten)]
    trust: Trust,
}

impl Status {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let mut all = StatusReport::default();
        for admin in &self.admin {
            let report: StatusReport = self.trust.way(admin)?.get("/api/status")?;
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

fn table(report: &StatusReport) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{:<6} {:<8} {:<7} {:<7} faults", "node", "state", "starts", "clients");
    for node in &report.nodes {
        let state = match (node.running, node.incarnation) {
            (false, _) => "down",
            // It runs, and does not say how it is; the faults tell why.
            (true, 0) => "silent",
            (true, _) => "up",
        };
        let faults = if node.faults.is_empty() { "-".to_owned() } else { node.faults.join("; ") };
        let _ = writeln!(out, "{:<6} {state:<8} {:<7} {:<7} {faults}", node.id, node.incarnation, node.connections);
    }
    if report.nodes.iter().any(|node| node.bitcoin.is_some()) {
        let _ = writeln!(
            out,
            "\n{:<12} {:<6} {:<9} {:<9} {:<7} {:<9} tip",
            "chain", "node", "height", "headers", "peers", "waiting"
        );
    }
    for (node, bitcoin) in report.nodes.iter().filter_map(|node| Some((node.id, node.bitcoin.as_ref()?))) {
        let tip = bitcoin.tip.get(8..).unwrap_or_default();
        let _ = writeln!(
            out,
            "{:<12} {node:<6} {:<9} {:<9} {:<7} {:<9} ..{tip}",
            "bitcoin", bitcoin.height, bitcoin.headers, bitcoin.peers, bitcoin.transactions
        );
    }
    if report.nodes.iter().all(|node| node.groups.is_empty()) {
        return out;
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
