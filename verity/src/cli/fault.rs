//! `verity fault`: breaks a running cluster through its admin API.

use anyhow::Result;
use clap::{Args, Subcommand};

use verity_nakamoto::finality::odds;

use crate::admin::{Chain, FaultRequest};
use crate::cli::admin::AdminArgs;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  verity fault partition 2                 cut node 2 off from all others\n  \
    verity fault partition 1 3 --one-way     node 1 hears node 3, and is not heard by it\n  \
    verity fault crash 1                     and `verity fault restart 1` starts it again\n  \
    verity fault pause 1 --for 30000         as a long garbage collection; heal ends it early\n  \
    verity fault disk 1 --delay 200          each sync takes 200 ms longer\n  \
    verity fault clock 2 --skew -3600000     an hour back\n  \
    verity fault reorg bitcoin --depth 3     all nodes revert three blocks, for four that were mined in secret\n  \
    verity fault miners bitcoin --interval 1000 --shares 1=0.7,2=0.3\n  \
    verity fault attack bitcoin --share 0.4 --confirmations 3 --rounds 10\n  \
    verity fault eclipse bitcoin 2 --blocks 6\n  \
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
    /// Take the last blocks of a chain from all nodes: a branch that was mined in secret has more work.
    Reorg {
        /// Of which system.
        #[arg(value_enum)]
        system: Chain,
        /// How many blocks are reverted.
        #[arg(long, value_name = "BLOCKS")]
        depth: u32,
        /// A payment of a wallet of these nodes: its coins go back to that wallet instead.
        #[arg(long, value_name = "TXID")]
        double_spend: Option<String>,
    },
    /// Let an attacker with a share of all hash power race a merchant's confirmations.
    Attack {
        /// Upon which system.
        #[arg(value_enum)]
        system: Chain,
        /// Its share, between 0 and 1.
        #[arg(long)]
        share: f64,
        /// So many blocks the merchant waits for.
        #[arg(long, value_name = "BLOCKS", default_value_t = 6)]
        confirmations: u32,
        /// So many races, one after the other.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        rounds: u32,
        /// A payment of a wallet of these nodes that is in no block yet: its coins go back to that wallet instead. One race alone.
        #[arg(long, value_name = "TXID", conflicts_with = "rounds")]
        double_spend: Option<String>,
    },
    /// Let a node hear an attacker alone, who mines blocks for it, until the heal.
    Eclipse {
        /// Of which system.
        #[arg(value_enum)]
        system: Chain,
        /// The node.
        node: u64,
        /// How many blocks it is shown.
        #[arg(long, value_name = "BLOCKS", default_value_t = 6)]
        blocks: u32,
        /// A payment of a wallet of these nodes that the victim sees in a block, while the others have its coins go back.
        #[arg(long, value_name = "TXID")]
        double_spend: Option<String>,
    },
    /// Let nodes mine by themselves, until the heal: with a partition, apart.
    Miners {
        /// Of which system.
        #[arg(value_enum)]
        system: Chain,
        /// The mean time between two blocks, in milliseconds; 0 stops them.
        #[arg(long, value_name = "MS", default_value_t = 1000)]
        interval: u64,
        /// Shares of the hash power, such as 1=0.7,2=0.3; without them all nodes have the same.
        #[arg(long, value_name = "NODE=SHARE", value_delimiter = ',', value_parser = share)]
        shares: Vec<(String, f64)>,
        /// Whom the rewards are paid to.
        #[arg(long)]
        address: Option<String>,
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
            Self::Reorg { system, depth, double_spend } => FaultRequest::Reorg { system, depth, double_spend },
            Self::Attack { system, share, confirmations, double_spend, .. } => {
                FaultRequest::Attack { system, share, confirmations, double_spend }
            }
            Self::Eclipse { system, node, blocks, double_spend } => {
                FaultRequest::Eclipse { system, node, blocks, double_spend }
            }
            Self::Miners { system, interval, shares, address } => {
                FaultRequest::Miners { system, interval_ms: interval, shares: shares.into_iter().collect(), address }
            }
            Self::Heal => FaultRequest::Heal,
        }
    }
}

fn share(text: &str) -> Result<(String, f64), String> {
    let (node, share) = text.split_once('=').ok_or("say which node and how much, such as 1=0.7")?;
    Ok((node.to_owned(), share.parse().map_err(|_| format!("{share:?} is no number"))?))
}

/// Races, one line each, and how often they were won.
fn attack(
    admin: &AdminArgs,
    request: &FaultRequest,
    (share, confirmations, rounds): (f64, u32, u32),
    json: bool,
) -> Result<()> {
    let mut won = 0;
    for round in 1..=rounds {
        let answer: serde_json::Value = admin.post_patiently("/api/fault", request)?;
        won += u32::from(answer["won"] == true);
        if json {
            println!("{answer}");
        } else {
            println!("{round:>6}  {}", answer["done"].as_str().unwrap_or("done"));
        }
    }
    let odds = odds(confirmations, share).reversal;
    if json {
        println!("{}", serde_json::json!({ "rounds": rounds, "won": won, "formula": odds }));
    } else if rounds > 1 {
        let seen = f64::from(won) / f64::from(rounds) * 100.0;
        println!("{won} of {rounds} won: {seen:.1} %; the formula (Grunspan & Perez-Marco) says {:.1} %", odds * 100.0);
    }
    Ok(())
}

impl Fault {
    pub(crate) fn run(self, json: bool) -> Result<()> {
        let races = match &self.kind {
            Kind::Attack { share, confirmations, rounds, .. } => Some((*share, *confirmations, *rounds)),
            _ => None,
        };
        let request = self.kind.request();
        if let Some(races) = races {
            return attack(&self.admin, &request, races, json);
        }
        let answer: serde_json::Value = self.admin.post_patiently("/api/fault", &request)?;
        if json {
            println!("{answer}");
        } else {
            println!("{}", answer["done"].as_str().unwrap_or("done"));
        }
        Ok(())
    }
}
