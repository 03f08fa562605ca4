//! `verity kafka`: a client of any Kafka cluster.

mod access;
mod consume;
mod format;
mod groups;
mod lag;
mod lines;
mod produce;
mod progress;
mod reset;
mod table;
mod topics;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::kafka::Client;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  verity up --only kafka                                a cluster to try it on\n  \
    verity kafka topics create orders --partitions 3\n  \
    echo 'alice:2 books' | verity kafka produce orders --key-separator :\n  \
    verity kafka consume orders --from-beginning --exit-at-end\n  \
    verity kafka lag                                      how far each group is behind")]
pub(crate) struct Kafka {
    #[command(flatten)]
    access: access::AccessArgs,
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// List, describe, create, change and delete topics.
    Topics(topics::Topics),
    /// Write records: lines of standard input or of a file, or a load.
    Produce(produce::Produce),
    /// Read records, alone or as a member of a group.
    Consume(consume::Consume),
    /// List, describe and delete groups, and set where they go on.
    Groups(groups::Groups),
    /// Show how far groups are behind.
    Lag(lag::Lag),
}

impl Kafka {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let access = self.access.access()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = Client::connect(access).await?;
            match self.kind {
                Kind::Topics(topics) => topics.run(&client, json).await,
                Kind::Produce(produce) => produce.run(&client, json).await,
                Kind::Consume(consume) => consume.run(&client, json).await,
                Kind::Groups(groups) => groups.run(&client, json).await,
                Kind::Lag(lag) => lag.run(&client, json).await,
            }
        })
    }
}

/// `NAME=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Says that something was done, to people or to machines.
fn say_done(json: bool, done: &str) {
    if json {
        println!("{}", serde_json::json!({ "done": done }));
    } else {
        println!("{done}");
    }
}

/// `1 record`, `2 records`.
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
