//! `verity read`: an answer that nobody needs to take a single node's word for.

use anyhow::Result;
use clap::Args;

use crate::admin::{CertifiedReport, CertifiedRequest};
use crate::cli::admin::AdminArgs;

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  verity read /config                                      a znode, and who signed what it holds\n  \
    verity --json read /config > answer.json                 with the signatures\n  \
    verity verify answer.json --keys keys.json               do they hold? Asks nobody\n\n\
    The keys come from a place that you trust: `verity node keys > keys.json` once, from a node that you do."
)]
pub(crate) struct Read {
    /// The znode.
    path: String,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Read {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let report: CertifiedReport = self.admin.post("/api/certified", &CertifiedRequest { path: self.path })?;
        if json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            let signed: Vec<String> = report.signed_by.iter().map(|node| format!("node {node}")).collect();
            println!("{}: {}\nsigned by {}", report.query, report.answer, signed.join(", "));
        }
        Ok(())
    }
}
