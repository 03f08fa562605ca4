//! Join tokens: everything that a new node must know, in one line.
//!
//! `verity node token` makes one from a running cluster; `verity server --join` unpacks it into the node's folder once,
//! as a `verity.toml` and, where nodes talk over TLS, the certificate that the token was made with. From then on the
//! node is like any other. It asks the nodes that the token names to take it in, until they have.
//!
//! ```text
//! token = "verity-join-1." base64url(JSON)
//! ```
//! Secrets of `[zookeeper]`, such as the super user's digest, are not in it: put them into the new node's file.
//!
//! HAZARD: a token for a cluster with TLS holds the node's private key. Whoever has it can be that node; send it as you
//! would a password.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::admin::Switches;
use crate::secrets;

const PREFIX: &str = "verity-join-1.";
/// The folder of the certificate below the data folder.
const TLS_DIR: &str = "tls";
/// The configuration's name in the data folder.
const SETTINGS_FILE: &str = "verity.toml";

/// A node's certificate, as `verity cert node` makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinToken {
    /// The cluster's id, in hexadecimal.
    pub(crate) cluster: String,
    pub(crate) agreement: String,
    /// The node that it is for.
    pub(crate) id: u64,
    /// Where the nodes are met that can take it in.
    pub(crate) peers: BTreeMap<u64, String>,
    pub(crate) switches: Switches,
    pub(crate) credentials: Option<Credentials>,
}

/// Where the new node listens.
pub(crate) struct Seat {
    pub(crate) data_dir: PathBuf,
    pub(crate) peer: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) clients: IpAddr,
    pub(crate) zookeeper_port: u16,
    pub(crate) zookeeper_tls_port: u16,
    pub(crate) observer: bool,
}

impl JoinToken {
    pub(crate) fn encode(&self) -> Result<String> {
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(serde_json::to_vec(self)?)))
    }

    /// Reads a token, or the file that holds it if `text` begins with `@`.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let text = match text.strip_prefix('@') {
            Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?,
            None => text.to_owned(),
        };
        let Some(rest) = text.trim().strip_prefix(PREFIX) else {
            bail!("this is no join token; one begins with {PREFIX} and comes from `verity node token`");
        };
        let bytes = URL_SAFE_NO_PAD.decode(rest).ok();
        let token = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        token.context("the join token is damaged; was it cut off?")
    }

    /// Unpacks the token into the node's folder. Answers where its configuration is; one that is there is kept.
    pub(crate) fn unpack(&self, seat: &Seat) -> Result<PathBuf> {
        let path = seat.data_dir.join(SETTINGS_FILE);
        if path.exists() {
            return Ok(path);
        }
        let write = |path: &Path, text: &str| {
            secrets::write_private(path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        let dir = &seat.data_dir;
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create the data folder {}", dir.display()))?;
        if let Some(Credentials { ca, certificate, key }) = &self.credentials {
            let tls = dir.join(TLS_DIR);
            std::fs::create_dir_all(&tls).with_context(|| format!("cannot create {}", tls.display()))?;
            for (file, text) in [("ca.pem", ca), ("node.pem", certificate), ("node.key", key)] {
                write(&tls.join(file), text)?;
            }
        }
        write(&path, &self.settings(seat))?;
        Ok(path)
    }

    fn settings(&self, seat: &Seat) -> String {
        let Seat { data_dir, peer, admin, clients, zookeeper_port, zookeeper_tls_port, observer } = seat;
        let Switches { extended_types, reconfig_enabled, enforce_quota, skip_acl } = self.switches;
        let quoted = |path: &Path| serde_json::Value::from(path.display().to_string()).to_string();
        let mut out = format!(
            "# Made from a join token. The members are known to the cluster; nobody is named here.\n\
             cluster = \"id:{}\"\nvoters = []\nagreement = \"{}\"\nsystems = [\"zookeeper\"]\n\n[node]\nid = {}\ndata_dir = {}\n\
             clients = \"{clients}\"\npeer = \"{peer}\"\nadmin = \"{admin}\"\nobserver = {observer}\n\n\
             [zookeeper]\nport = {zookeeper_port}\ntls_port = {zookeeper_tls_port}\nadmin_port = 0\n\
             extended_types = {extended_types}\nreconfig_enabled = {reconfig_enabled}\nenforce_quota = {enforce_quota}\n\
             skip_acl = {skip_acl}\n\n[peers]\n",
            self.cluster,
            self.agreement,
            self.id,
            quoted(data_dir),
        );
        for (id, address) in self.peers.iter().filter(|(id, _)| **id != self.id) {
            let _ = writeln!(out, "{id} = \"{address}\"");
        }
        let _ = writeln!(out, "{} = \"{peer}\"", self.id);
        if self.credentials.is_some() {
            let _ = write!(out, "\n[tls]\ndir = {}\n", quoted(&data_dir.join(TLS_DIR)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn token(credentials: Option<Credentials>) -> JoinToken {
        JoinToken {
            cluster: "00112233445566778899aabbccddeeff".into(),
            agreement: "raft".into(),
            id: 4,
            peers: BTreeMap::from([(1, "127.0.0.1:7071".into()), (4, "old:1".into())]),
            switches: Switches { reconfig_enabled: true, ..Switches::default() },
            credentials,
        }
    }

    #[test]
    fn tokens_round_trip_and_damage_is_said() {
        let token = token(None);
        let text = token.encode().expect("it encodes");
        assert_eq!(JoinToken::read(&text).expect("it reads"), token);
        for wrong in ["hello", &text[..text.len() - 5], "verity-join-1.!!"] {
            assert!(JoinToken::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_becomes_a_configuration_that_reads() {
        let dir = std::env::temp_dir().join(format!("verity-join-{}", std::process::id()));
        let seat = Seat {
            data_dir: dir.clone(),
            peer: "127.0.0.1:9071".parse().expect("an address"),
            admin: "127.0.0.1:9070".parse().expect("an address"),
            clients: "127.0.0.1".parse().expect("an address"),
            zookeeper_port: 4181,
            zookeeper_tls_port: 0,
            observer: true,
        };
        let credentials = Credentials { ca: "A".into(), certificate: "B".into(), key: "C".into() };
        let token = token(Some(credentials));
        let path = token.unpack(&seat).expect("the folder can be written");
        let settings = Settings::read(&path).expect("what is written is read");
        assert_eq!((settings.node.id, settings.node.observer, settings.zookeeper.port), (4, true, 4181));
        assert!(settings.voters.is_empty() && settings.tls.is_some());
        assert!(settings.zookeeper.reconfig_enabled && !settings.zookeeper.skip_acl);
        assert_eq!(settings.cluster_id().to_string(), token.cluster);
        assert_eq!(settings.peers().expect("they are numbers")[&verity_types::NodeId(4)], "127.0.0.1:9071");
        std::fs::remove_dir_all(dir).expect("it was made above");
    }
}
