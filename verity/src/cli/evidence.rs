//! `verity evidence`: who lied, and the proof.

use std::fmt::Write as _;

use anyhow::Result;
use clap::Args;

use crate::admin::EvidenceReport;
use crate::cli::admin::AdminArgs;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  verity up --agreement pbft --byzantine 1:equivocate    a cluster with a liar\n  \
    verity evidence                                         who lied\n  \
    verity --json evidence > proofs.json                    with the proofs\n  \
    verity verify proofs.json --keys keys.json              do they hold?")]
pub(crate) struct Evidence {
    #[command(flatten)]
    admin: AdminArgs,
}

impl Evidence {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let report: EvidenceReport = self.admin.get("/api/evidence")?;
        if json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print!("{}", table(&report));
        }
        Ok(())
    }
}

fn table(report: &EvidenceReport) -> String {
    if report.proofs.is_empty() {
        return "Nobody was caught lying.\n".to_owned();
    }
    let mut out = format!("{:<8} {:<14} {:<10} what it signed\n", "culprit", "group", "held by");
    for proof in &report.proofs {
        let held: Vec<String> = proof.held_by.iter().map(ToString::to_string).collect();
        let culprit = format!("node {}", proof.culprit);
        let _ = writeln!(out, "{culprit:<8} {:<14} {:<10} {}", proof.group, held.join(","), proof.said);
    }
    out
}
