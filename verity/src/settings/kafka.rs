//! `[kafka]`: what Kafka's clients are offered.
//!
//! Every key has a default; the names in brackets are those of `server.properties`. What an administrator may change while
//! nodes run (`kafka-configs`) stands in the cluster's metadata, not here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Deserialize;
use verity_kafka::machine::coordinator::CoordinatorConfig;
use verity_node::ClientCertificates;
use verity_types::{Nanos, NodeId};

use super::zookeeper::Certificates;

/// The usual ports: clients, clients with TLS.
const PORTS: [u16; 2] = [9092, 9093];

/// The section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Kafka {
    /// For clients without TLS; 0 for none. `[listeners]`
    pub(crate) port: u16,
    /// For clients with TLS, where there are certificates; 0 for none. `[listeners]`
    pub(crate) tls_port: u16,
    /// What clients are told to connect to; the address of `node.clients` if it is not set. `[advertised.listeners]`
    pub(crate) host: Option<String>,
    /// Where the node stands; `{node}` in it stands for the node's number. `[broker.rack]`
    pub(crate) rack: Option<String>,
    /// ca.pem, node.pem and node.key towards clients; those of `[tls]` if it is not set.
    pub(crate) tls_dir: Option<PathBuf>,
    /// `[ssl.client.auth]`
    pub(crate) client_certificates: Certificates,
    /// Clients authenticate by SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. `[security.protocol]`
    pub(crate) sasl: bool,
    /// After how long a client must show again by SASL who it is; 0 for never. `[connections.max.reauth.ms]`
    pub(crate) connections_max_reauth_ms: u64,
    /// Users and passwords of SASL PLAIN.
    pub(crate) plain_users: BTreeMap<String, String>,
    /// Who may do everything, such as `User:admin`. `[super.users]`
    pub(crate) super_users: BTreeSet<String>,
    /// `[allow.everyone.if.no.acl.found]`
    pub(crate) allow_everyone_if_no_acl_found: bool,
    /// `[group.initial.rebalance.delay.ms]`
    pub(crate) group_initial_rebalance_delay_ms: u32,
    /// `[group.min.session.timeout.ms]`
    pub(crate) group_min_session_timeout_ms: u32,
    /// `[group.max.session.timeout.ms]`
    pub(crate) group_max_session_timeout_ms: u32,
}

impl Default for Kafka {
    fn default() -> Self {
        let [port, tls_port] = PORTS;
        let coordinator = CoordinatorConfig::default();
        Self {
            port,
            tls_port,
            host: None,
            rack: None,
            tls_dir: None,
            client_certificates: Certificates::None,
            sasl: false,
            connections_max_reauth_ms: 0,
            plain_users: BTreeMap::new(),
            super_users: BTreeSet::new(),
            allow_everyone_if_no_acl_found: true,
            group_initial_rebalance_delay_ms: coordinator.initial_rebalance_delay_ms,
            group_min_session_timeout_ms: coordinator.session_timeout_ms_min,
            group_max_session_timeout_ms: coordinator.session_timeout_ms_max,
        }
    }
}

impl Kafka {
    /// Refuses values that cannot be meant.
    pub(crate) fn check(&self) -> Result<()> {
        if self.group_min_session_timeout_ms > self.group_max_session_timeout_ms {
            bail!("kafka.group_min_session_timeout_ms is above kafka.group_max_session_timeout_ms");
        }
        if let Some(user) = self.super_users.iter().find(|user| !user.starts_with("User:")) {
            bail!("kafka.super_users names {user:?}; principals are written User:name");
        }
        Ok(())
    }

    /// Nobody is served who did not say who they are.
    pub(crate) fn knows_clients(&self) -> bool {
        self.sasl || self.client_certificates == Certificates::Need
    }

    /// What is asked of clients' certificates.
    pub(crate) fn certificates(&self) -> ClientCertificates {
        self.client_certificates.into()
    }

    /// Where this node stands.
    pub(crate) fn rack_of(&self, node: NodeId) -> Option<String> {
        self.rack.as_ref().map(|rack| rack.replace("{node}", &node.to_string()))
    }

    /// How long it holds that a client showed who it is.
    pub(crate) fn max_reauth(&self) -> Option<Nanos> {
        (self.connections_max_reauth_ms > 0).then(|| Nanos::from_millis(self.connections_max_reauth_ms))
    }

    /// The limits of groups and transactions.
    pub(crate) fn coordinator(&self) -> CoordinatorConfig {
        CoordinatorConfig {
            initial_rebalance_delay_ms: self.group_initial_rebalance_delay_ms,
            session_timeout_ms_min: self.group_min_session_timeout_ms,
            session_timeout_ms_max: self.group_max_session_timeout_ms,
            ..CoordinatorConfig::default()
        }
    }
}
