//! The configuration of `verity server`: a TOML file, then the environment, then flags.
//!
//! ```toml
//! cluster = "production"          # every node of a cluster says the same
//! voters = [1, 2, 3]              # who votes in a new cluster; every other node learns
//!
//! [node]
//! id = 1
//! data_dir = "/var/lib/verity"
//! clients = "127.0.0.1"           # the address on which clients are served
//! peer = "127.0.0.1:7071"         # where this node listens for its peers
//! admin = "127.0.0.1:7070"
//!
//! [peers]                         # where the nodes listen for each other
//! 1 = "127.0.0.1:7071"
//! 2 = "127.0.0.1:8071"
//! 3 = "127.0.0.1:9071"
//!
//! [zookeeper]
//! port = 2181
//! tls_port = 2182
//!
//! [tls]
//! dir = "/etc/verity/tls"         # ca.pem, node.pem, node.key; see `verity cert`
//!
//! [lab]
//! enabled = false                 # true allows `verity fault`
//! ```
//! An environment variable `VERITY_NODE__ID=1` sets `node.id`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::Deserialize;
use verity_storage::ClusterId;
use verity_types::NodeId;

use crate::compose::Agreement;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) cluster: String,
    pub(crate) voters: Vec<u64>,
    #[serde(default)]
    pub(crate) agreement: Agreement,
    pub(crate) node: Node,
    pub(crate) peers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) zookeeper: ZooKeeper,
    pub(crate) tls: Option<Tls>,
    #[serde(default)]
    pub(crate) lab: Lab,
}

/// `[node]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) data_dir: PathBuf,
    #[serde(default = "loopback")]
    pub(crate) clients: IpAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// `[zookeeper]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ZooKeeper {
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
}

/// `[tls]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) dir: PathBuf,
}

/// `[lab]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lab {
    pub(crate) enabled: bool,
}

fn loopback() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

impl Default for ZooKeeper {
    fn default() -> Self {
        Self { port: crate::compose::ZOOKEEPER_PORT, tls_port: crate::compose::ZOOKEEPER_TLS_PORT }
    }
}

impl Settings {
    /// Reads a file and what the environment adds to it.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            bail!("there is no {}; `verity server --help` shows what stands in one", path.display());
        }
        let figment = Figment::new().merge(Toml::file_exact(path)).merge(Env::prefixed("VERITY_").split("__"));
        let settings: Self = figment.extract().with_context(|| format!("{} cannot be used", path.display()))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<()> {
        let peers = self.peers()?;
        let id = self.node.id;
        if id == 0 {
            bail!("node.id begins at 1");
        }
        if let Some(unknown) = self.voters.iter().find(|voter| !peers.contains_key(&NodeId(**voter))) {
            bail!("voter {unknown} has no address in [peers]");
        }
        if self.voters.is_empty() {
            bail!("voters names nobody");
        }
        if !peers.contains_key(&NodeId(id)) {
            bail!("node {id} has no address in [peers]");
        }
        Ok(())
    }

    /// Refuses what would serve strangers without knowing who they are.
    pub(crate) fn check_exposure(&self, insecure: bool) -> Result<()> {
        let exposed = [self.node.clients, self.node.peer.ip(), self.node.admin.ip()];
        match exposed.iter().find(|addr| !addr.is_loopback()) {
            Some(addr) if self.tls.is_none() && !insecure => bail!(
                "{addr} is not loopback and there is no [tls]; make certificates with `verity cert`, or say --insecure"
            ),
            _ => Ok(()),
        }
    }

    /// Where each node listens for its peers.
    pub(crate) fn peers(&self) -> Result<BTreeMap<NodeId, String>> {
        let parse = |(id, addr): (&String, &String)| {
            let id =
                id.parse().map(NodeId).with_context(|| format!("[peers] names a node {id:?}, which is no number"))?;
            Ok((id, addr.clone()))
        };
        self.peers.iter().map(parse).collect()
    }

    /// Nodes of one cluster share its name, and therefore its id.
    pub(crate) fn cluster_id(&self) -> ClusterId {
        ClusterId(xxhash_rust::xxh3::xxh3_128(self.cluster.as_bytes()).to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &str) -> Result<Settings> {
        let text = format!(
            "cluster = \"c\"\nvoters = [1]\n{extra}\n[node]\nid = 1\ndata_dir = \"d\"\npeer = \"127.0.0.1:7071\"\n\
             admin = \"127.0.0.1:7070\"\n[peers]\n1 = \"127.0.0.1:7071\"\n"
        );
        let settings: Settings = Figment::new().merge(Toml::string(&text)).extract()?;
        settings.check()?;
        Ok(settings)
    }

    #[test]
    fn a_small_file_is_enough_and_a_wrong_key_is_named() {
        let settings = parse("").expect("nothing is missing");
        assert_eq!(settings.zookeeper.port, 2181);
        assert!(!settings.lab.enabled);
        let error = parse("voterz = [2]").expect_err("there is no such key");
        assert!(error.to_string().contains("voterz"), "{error}");
    }

    #[test]
    fn strangers_are_served_only_on_purpose() {
        let mut settings = parse("").expect("nothing is missing");
        assert!(settings.check_exposure(false).is_ok());
        settings.node.clients = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        assert!(settings.check_exposure(false).is_err());
        assert!(settings.check_exposure(true).is_ok());
    }
}
