//! `verity fault`: breaks a running cluster through its admin API.

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::admin::FaultRequest;
use crate::cli::admin::AdminArgs;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  verity fault partition 2                 cut node 2 off from all others\n  \
    verity fault partition 1 3 --one-way     node 1 hears node 3, and is not heard by it\n  \
    verity fault crash 1                     and `verity fault restart 1` starts it again\n  \
    verity fault pause 1 --for 30000         as a long garbage collection; heal ends it early\n  \
    verity fault disk 1 --delay 200          each sync takes 200 ms longer\n  \
    verity fault clock 2 --skew -3600000     an hour back\n  \
    verity fault heal                        everything, at once")]
pub(crate) struct Fault {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Cut a node off from another, or from all others.
    Partition {
        /// The node to cut off.
        from: u64,
        /// From this one only.
        to: Option<u64>,
        /// Cut only what it sends; it still hears the others.
        #[arg(long)]
        one_way: bool,
    },
    /// End a node as if its process had died.
    Crash {
        /// Which.
        node: u64,
    },
    /// Start a crashed node again.
    Restart {
        /// Which.
        node: u64,
    },
    /// Stop a node for a while, as a long garbage collection would; ten minutes at most.
    Pause {
        /// Which.
        node: u64,
        /// For how many milliseconds.
        #[arg(long = "for", value_name = "MS", default_value_t = 5000)]
        ms: u64,
    },
    /// Move a node's civil time, by ten years at most.
    Clock {
        /// Which.
        node: u64,
        /// By how many milliseconds; negative for back.
        #[arg(long = "skew", value_name = "MS", allow_negative_numbers = true)]
        skew_ms: i64,
    },
    /// Slow a node's disk down, by ten minutes a sync at most.
    Disk {
        /// Which.
        node: u64,
        /// How many milliseconds longer each sync takes; 0 heals it.
        #[arg(long = "delay", value_name = "MS", default_value_t = 100)]
        delay_ms: u64,
    },
    /// Heal everything: network, clocks, disks and pauses; crashed nodes start again.
    Heal,
}

impl Kind {
    fn request(self) -> FaultRequest {
        match self {
            Self::Partition { from, to, one_way } => FaultRequest::Partition { from, to, one_way },
            Self::Crash { node } => FaultRequest::Crash { node },
            Self::Restart { node } => FaultRequest::Restart { node },
            Self::Pause { node, ms } => FaultRequest::Pause { node, ms },
            Self::Clock { node, skew_ms } => FaultRequest::Clock { node, skew_ms },
            Self::Disk { node, delay_ms } => FaultRequest::Disk { node, delay_ms },
            Self::Heal => FaultRequest::Heal,
        }
    }
}

impl Fault {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let answer: serde_json::Value = self.admin.post("/api/fault", &self.kind.request())?;
        if json {
            println!("{answer}");
        } else {
            println!("{}", answer["done"].as_str().unwrap_or("done"));
        }
        Ok(())
    }
}
