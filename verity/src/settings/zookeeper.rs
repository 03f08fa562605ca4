//! `[zookeeper]`: what ZooKeeper's clients are offered.
//!
//! Every key has a default; the names in brackets are those of `zoo.cfg` and of ZooKeeper's system properties.
//! `verity up` takes the same section from the file of its `--config`.
//!
//! Deliberately absent: what differs from node to node. Where a node listens stands in `[node]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Result, bail};
use base64::Engine as _;
use clap::ValueEnum;
use serde::Deserialize;
use verity_contract::Door;
use verity_node::ClientCertificates;
use verity_types::{GroupId, Incarnation, NodeId};
use verity_zookeeper::machine::TreeConfig;
use verity_zookeeper::session::{Config, DoorKind, DutyConfig, WORDS_DEFAULT};
use verity_zookeeper::wire::BUFFER_SIZE_MAX;

/// The usual ports: clients, clients with TLS, the AdminServer.
const PORTS: [u16; 3] = [2181, 2182, 8080];
/// A tick is between these, in milliseconds.
const TICK_MS: std::ops::RangeInclusive<u32> = 10..=600_000;
/// A session lives for a day at most.
const SESSION_TIMEOUT_MS_MAX: u32 = 86_400_000;
/// A packet that holds the smallest of requests.
const PACKET_BYTES_MIN: usize = 1024;
/// Words that change counters, and so are not in the whitelist by themselves.
const WORDS_MORE: [&str; 2] = ["crst", "srst"];

/// Whether clients on the TLS port show certificates. `[ssl.clientAuth]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Certificates {
    /// They are not asked.
    None,
    /// They are asked, and may have none.
    Want,
    /// Without one there is no connection.
    #[default]
    Need,
}

impl From<Certificates> for ClientCertificates {
    fn from(certificates: Certificates) -> Self {
        match certificates {
            Certificates::None => Self::Ignored,
            Certificates::Want => Self::Wanted,
            Certificates::Need => Self::Required,
        }
    }
}

/// The section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ZooKeeper {
    /// For clients without TLS; 0 for none. `[clientPort]`
    pub(crate) port: u16,
    /// For clients with TLS, where there are certificates; 0 for none. `[secureClientPort]`
    pub(crate) tls_port: u16,
    /// The AdminServer: `GET /commands/<name>`; 0 for none. `[admin.serverPort]`
    pub(crate) admin_port: u16,
    /// ca.pem, node.pem and node.key towards clients; those of `[tls]` if it is not set.
    pub(crate) tls_dir: Option<PathBuf>,
    pub(crate) client_certificates: Certificates,
    /// Names that the AdminServer may be asked by, beside addresses and `localhost`.
    pub(crate) admin_hosts: BTreeSet<String>,
    /// The unit of session expiry. `[tickTime]`
    pub(crate) tick_time_ms: u32,
    /// 2 ticks if 0. `[minSessionTimeout]`
    pub(crate) min_session_timeout_ms: u32,
    /// 20 ticks if 0. `[maxSessionTimeout]`
    pub(crate) max_session_timeout_ms: u32,
    /// `[jute.maxbuffer]`
    pub(crate) max_packet_bytes: usize,
    /// From one address; 0 for any number. `[maxClientCnxns]`
    pub(crate) max_connections_per_address: usize,
    /// The four-letter words that are answered; `*` for all. `[4lw.commands.whitelist]`
    pub(crate) words: BTreeSet<String>,
    /// `super:base64(sha1("super:password"))`. `[zookeeper.DigestAuthenticationProvider.superDigest]`
    pub(crate) super_digest: Option<String>,
    /// The subject of the certificate that is super. `[zookeeper.X509AuthenticationProvider.superUser]`
    pub(crate) super_certificate: Option<String>,
    /// Users and passwords of SASL DIGEST-MD5. `[java.security.auth.login.config]`
    pub(crate) sasl_users: BTreeMap<String, String>,
    /// The SASL user who is super. `[zookeeper.superUser]`
    pub(crate) super_sasl_user: Option<String>,
    /// `[readonlymode.enabled]`
    pub(crate) read_only_mode: bool,
    /// `[localSessionsEnabled]`
    pub(crate) local_sessions: bool,
    /// `[localSessionsUpgradingEnabled]`
    pub(crate) upgrade_local_sessions: bool,
    /// Every read is linearizable, not only those of clients that ask for it.
    pub(crate) linearizable_reads: bool,
    /// Nodes with a time to live. `[zookeeper.extendedTypesEnabled]`
    pub(crate) extended_types: bool,
    /// `[reconfigEnabled]`
    pub(crate) reconfig_enabled: bool,
    /// Quotas refuse, and do not only count. `[enforceQuota]`
    pub(crate) enforce_quota: bool,
    /// Access lists are stored and never asked. `[zookeeper.skipACL]`
    pub(crate) skip_acl: bool,
}

impl Default for ZooKeeper {
    fn default() -> Self {
        let [port, tls_port, admin_port] = PORTS;
        let config = Config::new(NodeId(1), Incarnation(1), GroupId(1), [0; 32]);
        let tree = TreeConfig::default();
        Self {
            port,
            tls_port,
            admin_port,
            tls_dir: None,
            client_certificates: Certificates::default(),
            admin_hosts: BTreeSet::new(),
            tick_time_ms: config.tick_ms,
            min_session_timeout_ms: config.timeout_ms_min,
            max_session_timeout_ms: config.timeout_ms_max,
            max_packet_bytes: config.packet_size_max,
            max_connections_per_address: config.connections_per_address_max,
            words: config.words,
            super_digest: None,
            super_certificate: None,
            sasl_users: BTreeMap::new(),
            super_sasl_user: None,
            read_only_mode: config.read_only_mode,
            local_sessions: config.local_sessions,
            upgrade_local_sessions: config.upgrade_local_sessions,
            linearizable_reads: config.linearizable_reads,
            extended_types: tree.extended_types,
            reconfig_enabled: tree.reconfig,
            enforce_quota: tree.enforce_quota,
            skip_acl: tree.skip_acl,
        }
    }
}

impl ZooKeeper {
    /// Refuses values that cannot be meant.
    pub(crate) fn check(&self) -> Result<()> {
        if !TICK_MS.contains(&self.tick_time_ms) {
            bail!("zookeeper.tick_time_ms is between {} and {}", TICK_MS.start(), TICK_MS.end());
        }
        let (min, max) = (self.min_session_timeout_ms, self.max_session_timeout_ms);
        if min > SESSION_TIMEOUT_MS_MAX || max > SESSION_TIMEOUT_MS_MAX {
            bail!("the session timeouts of [zookeeper] are at most {SESSION_TIMEOUT_MS_MAX} ms");
        }
        let longest = if max == 0 { self.tick_time_ms * 20 } else { max };
        if min > longest {
            bail!("zookeeper.min_session_timeout_ms, {min}, is above the longest session timeout, {longest}");
        }
        if !(PACKET_BYTES_MIN..=BUFFER_SIZE_MAX).contains(&self.max_packet_bytes) {
            bail!("zookeeper.max_packet_bytes is between {PACKET_BYTES_MIN} and {BUFFER_SIZE_MAX}");
        }
        let known: BTreeSet<&str> = WORDS_DEFAULT.iter().chain(&WORDS_MORE).copied().chain(["*"]).collect();
        if let Some(word) = self.words.iter().find(|word| !known.contains(word.as_str())) {
            let known: Vec<&str> = known.into_iter().collect();
            bail!("zookeeper.words names {word:?}; known are {}", known.join(" "));
        }
        if let Some(digest) = self.super_digest.as_ref().filter(|digest| !is_digest(digest)) {
            bail!("zookeeper.super_digest is user:base64(sha1(user:password)), not {digest:?}");
        }
        if let Some(user) = self.super_sasl_user.as_ref().filter(|user| !self.sasl_users.contains_key(*user)) {
            bail!("zookeeper.super_sasl_user names {user:?}, who is not in zookeeper.sasl_users");
        }
        if self.port == 0 && self.tls_port == 0 {
            bail!("zookeeper.port and zookeeper.tls_port are both 0; nobody could connect");
        }
        Ok(())
    }

    /// Refuses a TLS port for which there are no certificates, as there is no `[tls]` beside this section. The usual port is
    /// wished for by nobody in particular.
    pub(crate) fn check_alone(&self) -> Result<()> {
        if self.tls_dir.is_none() && ![0, PORTS[1]].contains(&self.tls_port) {
            bail!("zookeeper.tls_port needs certificates; name their folder in zookeeper.tls_dir");
        }
        if self.tls_dir.is_none() && self.port == 0 {
            bail!("zookeeper.port is 0, and without zookeeper.tls_dir there is no other; nobody could connect");
        }
        Ok(())
    }

    /// What a node's sessions are told.
    pub(crate) fn sessions(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        group: GroupId,
        secret: [u8; 32],
        doors: BTreeMap<Door, DoorKind>,
    ) -> Config {
        Config {
            tick_ms: self.tick_time_ms,
            timeout_ms_min: self.min_session_timeout_ms,
            timeout_ms_max: self.max_session_timeout_ms,
            packet_size_max: self.max_packet_bytes,
            connections_per_address_max: self.max_connections_per_address,
            words: self.words.clone(),
            super_digest: self.super_digest.clone(),
            super_certificate: self.super_certificate.clone(),
            super_user: self.super_sasl_user.clone(),
            sasl_users: self.sasl_users.clone(),
            admin_hosts: self.admin_hosts.clone(),
            doors,
            read_only_mode: self.read_only_mode,
            local_sessions: self.local_sessions,
            upgrade_local_sessions: self.upgrade_local_sessions,
            linearizable_reads: self.linearizable_reads,
            ..Config::new(node, incarnation, group, secret)
        }
    }

    /// What the leader watches over, and what the tree's switches shall be.
    pub(crate) fn duty(&self) -> DutyConfig {
        let tree = TreeConfig {
            extended_types: self.extended_types,
            enforce_quota: self.enforce_quota,
            skip_acl: self.skip_acl,
            reconfig: self.reconfig_enabled,
            ..TreeConfig::default()
        };
        DutyConfig { tick_ms: self.tick_time_ms, tree, ..DutyConfig::default() }
    }

    /// What the TLS port asks of clients.
    pub(crate) fn certificates(&self) -> ClientCertificates {
        self.client_certificates.into()
    }
}

fn is_digest(text: &str) -> bool {
    let hash = text.split_once(':').map(|(_, hash)| base64::engine::general_purpose::STANDARD.decode(hash));
    hash.is_some_and(|hash| hash.is_ok_and(|hash| hash.len() == 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_zookeepers() {
        let usual = ZooKeeper::default();
        usual.check().expect("the defaults can be used");
        let config = usual.sessions(NodeId(1), Incarnation(1), GroupId(1), [0; 32], BTreeMap::new());
        assert_eq!((config.timeout_min(), config.timeout_max()), (4000, 40_000));
        assert_eq!(usual.duty().tree, TreeConfig::default());
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let refused = |change: fn(&mut ZooKeeper)| {
            let mut settings = ZooKeeper::default();
            change(&mut settings);
            settings.check().expect_err("it cannot be meant").to_string()
        };
        assert!(refused(|s| s.tick_time_ms = 0).contains("tick_time_ms"));
        assert!(refused(|s| s.min_session_timeout_ms = 50_000).contains("min_session_timeout_ms"));
        assert!(refused(|s| s.max_packet_bytes = usize::MAX).contains("max_packet_bytes"));
        assert!(refused(|s| s.words = BTreeSet::from(["rouk".into()])).contains("rouk"));
        assert!(refused(|s| s.super_digest = Some("super:secret".into())).contains("super_digest"));
        assert!(refused(|s| s.super_sasl_user = Some("root".into())).contains("sasl_users"));
        assert!(refused(|s| (s.port, s.tls_port) = (0, 0)).contains("port"));
    }
}
