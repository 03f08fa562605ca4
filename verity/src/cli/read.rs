//! `verity read`: an answer that nobody needs to take a single node's word for.

use anyhow::{Result, bail};
use clap::Args;

use crate::admin::{CertifiedReport, CertifiedRequest};
use crate::cli::admin::AdminArgs;

#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  verity read /config                                      a znode, and who signed what it holds\n  \
    verity read --topic orders --partition 0 --offset 42     a record, and who signed the batch that it is in\n  \
    verity --json read /config > answer.json                 with the signatures\n  \
    verity verify answer.json --keys keys.json               do they hold? Asks nobody\n\n\
    The keys come from a place that you trust: `verity node keys > keys.json` once, from a node that you do."
)]
pub(crate) struct Read {
    /// The znode.
    #[arg(required_unless_present = "topic", conflicts_with = "topic")]
    path: Option<String>,
    /// The topic of a record.
    #[arg(long, value_name = "NAME", requires = "offset")]
    topic: Option<String>,
    /// Its partition.
    #[arg(long, value_name = "INDEX", default_value_t = 0, requires = "topic")]
    partition: i32,
    /// Its offset.
    #[arg(long, requires = "topic")]
    offset: Option<i64>,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Read {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let request = match (self.path, self.topic, self.offset) {
            (Some(path), ..) => CertifiedRequest::Znode { path },
            (_, Some(topic), Some(offset)) => CertifiedRequest::Record { topic, partition: self.partition, offset },
            _ => bail!("name a znode, or a record by --topic and --offset"),
        };
        let report: CertifiedReport = self.admin.post("/api/certified", &request)?;
        if json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            let signed: Vec<String> = report.signed_by.iter().map(|node| format!("node {node}")).collect();
            println!("{}: {}\nsigned by {}", report.query, report.answer, signed.join(", "));
        }
        Ok(())
    }
}
