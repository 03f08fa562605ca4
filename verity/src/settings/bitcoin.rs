//! `[bitcoin]`: a regtest node beside each node of the cluster.
//!
//! Every key has a default. Other networks are `verity bitcoind`'s, and so is everything that Core's command line can say
//! beyond `options`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use verity_types::NodeId;

/// What the cluster says itself, and nobody in `options`.
const OWN: [&str; 14] = [
    "bind",
    "chain",
    "conf",
    "connect",
    "datadir",
    "main",
    "port",
    "regtest",
    "rpcbind",
    "rpcport",
    "signet",
    "testnet",
    "testnet4",
    "whitebind",
];

/// The section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Bitcoin {
    /// For calls, on this machine alone: they are in the clear. 0 for none, which leaves `verity fault` nothing to ask.
    pub(crate) rpc_port: u16,
    /// For peers; 0 for none.
    pub(crate) p2p_port: u16,
    /// For subscribers of all of ZMQ's topics, on this machine alone; 0 for none.
    pub(crate) zmq_port: u16,
    /// Where the nodes' Bitcoin peers are met, by their ids, such as 10.0.0.2:18444. `verity up` knows its own.
    pub(crate) peers: BTreeMap<String, SocketAddr>,
    /// Lines of Core's bitcoin.conf, such as "fallbackfee=0.0001".
    pub(crate) options: Vec<String>,
}

impl Default for Bitcoin {
    fn default() -> Self {
        Self { rpc_port: 18_443, p2p_port: 18_444, zmq_port: 18_445, peers: BTreeMap::new(), options: Vec::new() }
    }
}

impl Bitcoin {
    /// Refuses values that cannot be meant.
    pub(crate) fn check(&self) -> Result<()> {
        for option in &self.options {
            let name = option.split('=').next().unwrap_or_default().trim().trim_start_matches('-');
            if name.is_empty() || OWN.contains(&name.trim_start_matches("no")) || name.starts_with("zmq") {
                bail!("bitcoin.options: {option:?} is not for a cluster to be told; `verity bitcoind` takes it");
            }
        }
        self.neighbours().map(|_| ())
    }

    /// Where the nodes' peers are met.
    pub(crate) fn neighbours(&self) -> Result<BTreeMap<NodeId, SocketAddr>> {
        let parse = |(id, addr): (&String, &SocketAddr)| {
            let node = id.parse().map(NodeId);
            Ok((node.with_context(|| format!("[bitcoin.peers] names a node {id:?}, which is no number"))?, *addr))
        };
        self.peers.iter().map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_are_the_clusters_are_refused() {
        let with = |option: &str| Bitcoin { options: vec![option.to_owned()], ..Bitcoin::default() }.check();
        for option in
            ["chain=main", "-signet", "datadir=/x", "noconnect", "zmqpubrawtx=tcp://127.0.0.1:1", "", "port=1"]
        {
            assert!(with(option).is_err(), "{option}");
        }
        with("txindex=0").expect("it is the node's own");
    }
}
