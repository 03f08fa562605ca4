//! A ledger under load: all its replicas, and at each of them a gateway that keeps requests under way.
//!
//! The replicas are real nodes: threads, sockets on loopback, files that are synced. What is missing of a node that serves is
//! HTTP: the load is a service of the node, as the one is that speaks JSON-RPC. A request is a transaction for the built-in
//! `key=value` application; its reply leaves once it is ordered, applied, and vouched for by f + 1 members where members are
//! not trusted. Blocks are made, signed and run all the while.
//!
//! Deliberately absent: a report; `cargo xtask bench ledger` compares and writes.

mod cluster;
mod gateway;
mod member;
mod run;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use verity_pbft::liar::Lie;
use verity_types::NodeId;

/// How these are called.
pub const USAGE: &str = "       verity-bench ledger load NAME=VALUE...
       verity-bench ledger failover NAME=VALUE...
       verity-bench ledger member NAME=VALUE...

agreement=raft|paxos|pbft nodes=N size=BYTES commands=COUNT window=COUNT seconds=SECONDS dir=FOLDER [rate=PER_SECOND]
[quiet=NODE] [lie=NAME:NODE] [flood=NODE] [kills=COUNT]; a member, which `load` starts for itself, takes id=NODE ports=PORT,... as well.
COUNT of commands is how many share a client's signature at most; 0: as many as a turn brings.";

/// The nodes that a ledger may have here.
const NODES_MAX: u64 = 16;
/// The largest request, in bytes: what fits a transaction.
const SIZE_MAX: usize = 1 << 20;
/// The smallest: a key, a value that no other request has.
const SIZE_MIN: usize = 32;
/// The longest load, in seconds.
const SECONDS_MAX: f64 = 120.0;

/// Who agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Raft.
    Raft,
    /// Multi-Paxos.
    Paxos,
    /// PBFT.
    Pbft,
}

/// A ledger, and the load on it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who agrees.
    pub agreement: Agreement,
    /// How many nodes there are.
    pub nodes: u64,
    /// Bytes of a request.
    pub size: usize,
    /// So many requests share a signature at most; 0: as many as a turn brings.
    pub commands: usize,
    /// So many requests each gateway keeps under way.
    pub window: usize,
    /// Requests a second of all gateways together, at a steady pace; none: as many as they can.
    pub rate: Option<f64>,
    /// How long it is measured.
    pub time: Duration,
    /// Where the nodes keep their files: nothing is there yet.
    pub directory: PathBuf,
    /// Which node has no gateway, as one that lies has none.
    pub quiet: Option<NodeId>,
    /// Which node lies, and what about. It has no gateway.
    pub lie: Option<(Lie, NodeId)>,
    /// Which node is a process of its own that floods the others with requests.
    pub flood: Option<NodeId>,
    /// How often the primary is killed.
    pub kills: usize,
    /// Which member this process is, and where all of them listen.
    pub member: Option<(NodeId, Vec<u16>)>,
}

impl Plan {
    /// Reads `name=value` words.
    fn read(words: &[&str]) -> Result<Self> {
        let pair = |word: &&str| {
            let (name, value) = word.split_once('=').with_context(|| format!("{word} is no NAME=VALUE\n{USAGE}"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        let mut given: BTreeMap<String, String> = words.iter().map(pair).collect::<Result<_>>()?;
        let mut take = |name: &str| given.remove(name);
        let agreement = match take("agreement").as_deref() {
            Some("raft") => Agreement::Raft,
            Some("paxos") => Agreement::Paxos,
            None | Some("pbft") => Agreement::Pbft,
            Some(other) => bail!("there is no agreement {other}\n{USAGE}"),
        };
        let seconds: f64 = number("seconds", take("seconds"), 1.0)?;
        ensure!((0.1..=SECONDS_MAX).contains(&seconds), "a load takes between 0.1 and {SECONDS_MAX} seconds");
        let id = take("id").map(|id| number("id", Some(id), 0).map(NodeId)).transpose()?;
        let ports = take("ports").unwrap_or_default();
        let ports: Vec<u16> = match ports.as_str() {
            "" => Vec::new(),
            ports => ports.split(',').map(|port| number("ports", Some(port.to_owned()), 0)).collect::<Result<_>>()?,
        };
        let plan = Self {
            agreement,
            nodes: number("nodes", take("nodes"), 4)?,
            size: number("size", take("size"), 64)?,
            commands: number("commands", take("commands"), 0)?,
            window: number("window", take("window"), 256)?,
            rate: take("rate").map(|rate| number("rate", Some(rate), 0.0)).transpose()?,
            time: Duration::from_secs_f64(seconds),
            directory: take("dir").context("dir=FOLDER is missing")?.into(),
            lie: take("lie").map(|lie| lie_of(&lie)).transpose()?,
            quiet: take("quiet").map(|node| number("quiet", Some(node), 0).map(NodeId)).transpose()?,
            flood: take("flood").map(|node| number("flood", Some(node), 0).map(NodeId)).transpose()?,
            kills: number("kills", take("kills"), 3)?,
            member: id.map(|id| (id, ports)),
        };
        ensure!(given.is_empty(), "{} is none of these\n{USAGE}", given.into_keys().collect::<Vec<_>>().join(", "));
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<()> {
        ensure!((1..=NODES_MAX).contains(&self.nodes), "there are 1 to {NODES_MAX} nodes");
        ensure!((SIZE_MIN..=SIZE_MAX).contains(&self.size), "a request has {SIZE_MIN} to {SIZE_MAX} bytes");
        ensure!((1..=100_000).contains(&self.window), "a window lies between 1 and 100000");
        ensure!(self.rate.is_none_or(|rate| rate > 0.0), "a pace is more than nothing");
        ensure!(self.kills <= 100, "a primary is killed a hundred times at most");
        let nodes = 1..=self.nodes;
        let named = self.lie.iter().map(|(_, node)| *node).chain(self.flood).chain(self.quiet);
        let named: Vec<NodeId> = named.chain(self.member.iter().map(|(id, _)| *id)).collect();
        ensure!(named.iter().all(|node| nodes.contains(&node.0)), "nodes are called 1 to {}", self.nodes);
        let liars = self.lie.is_some() || self.flood.is_some();
        ensure!(!liars || self.agreement == Agreement::Pbft, "only PBFT has liars");
        let ports = self.member.as_ref().map(|(_, ports)| ports.len() as u64);
        ensure!(ports.is_none_or(|ports| ports == self.nodes), "a member knows the ports of all nodes");
        Ok(())
    }
}

fn number<T: std::str::FromStr>(name: &str, value: Option<String>, usual: T) -> Result<T> {
    match value {
        None => Ok(usual),
        Some(value) => value.parse().ok().with_context(|| format!("{name}={value} is no such number")),
    }
}

fn lie_of(text: &str) -> Result<(Lie, NodeId)> {
    let (name, node) = text.split_once(':').context("a lie is NAME:NODE")?;
    let lie = Lie::named(name).with_context(|| format!("no liar is called {name}"))?;
    Ok((lie, NodeId(number("lie", Some(node.to_owned()), 0)?)))
}

/// Runs one of them. Says what there is to print.
///
/// # Errors
/// When a word does not belong there, or the ledger does not stand.
pub fn run(words: &[&str]) -> Result<String> {
    match words {
        ["load", words @ ..] => run::load(&Plan::read(words)?),
        ["failover", words @ ..] => run::failover(&Plan::read(words)?),
        ["member", words @ ..] => member::serve(&Plan::read(words)?),
        _ => bail!("{USAGE}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_from_its_words() {
        let plan = Plan::read(&["nodes=7", "size=1024", "commands=16", "dir=x", "lie=silent:2"]).unwrap();
        assert_eq!((plan.nodes, plan.size, plan.commands, plan.agreement), (7, 1024, 16, Agreement::Pbft));
        assert_eq!(plan.lie, Some((Lie::Silent, NodeId(2))));
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [
            &["nodes=4"][..],
            &["dir=x", "nodes=0"],
            &["dir=x", "size=1"],
            &["dir=x", "colour=red"],
            &["dir=x", "agreement=raft", "flood=1"],
            &["dir=x", "lie=silent:5"],
            &["dir=x", "lie=kind:1"],
            &["dir=x", "id=1", "ports=1"],
        ] {
            assert!(Plan::read(words).is_err(), "{words:?}");
        }
    }
}
