//! What a node's session is started with.
//!
//! Deliberately absent: what an administrator may change while the node runs; that is part of the cluster's metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use verity_contract::Door;
use verity_types::{GroupId, Incarnation, Nanos, NodeId};

use crate::machine::cluster::Agreement;

/// What a request does, as far as a [`Meter`] tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// Produce.
    Produce,
    /// Fetch; it may wait for what it asks for.
    Fetch,
    /// Anything else.
    Other,
}

/// Counts what clients do.
pub trait Meter: std::fmt::Debug + Send + Sync {
    /// A request was answered, so long after its frame was whole.
    fn answered(&self, kind: RequestKind, took: Nanos);
    /// So many records were committed, in batches of so many bytes.
    fn received(&self, records: u64, bytes: u64);
    /// So many records were sent to consumers, by their offsets, in batches of so many bytes.
    fn sent(&self, records: u64, bytes: u64);
    /// So many connections are open now.
    fn connected(&self, count: usize);
}

/// What a listener asks of its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// The node speaks TLS there.
    pub tls: bool,
    /// Nobody is served who did not authenticate by SASL.
    pub sasl: bool,
}

/// Who a node is, and whom it serves.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// Its start count.
    pub incarnation: Incarnation,
    /// The cluster's id, as clients see it.
    pub cluster_id: String,
    /// The group of the metadata.
    pub cluster: GroupId,
    /// The group of the coordinator.
    pub coordinator: GroupId,
    /// How many nodes the cluster began with.
    pub founders: usize,
    /// What partitions come to one order by whose topic says nothing.
    pub agreement: Agreement,
    /// The public keys of replicas that this node knows, its own among them; none if it has none.
    pub keys: BTreeMap<NodeId, [u8; 32]>,
    /// Where clients find this node.
    pub host: String,
    /// The port without TLS; 0 for none.
    pub port: u16,
    /// The port with TLS; 0 for none.
    pub tls_port: u16,
    /// Where the node stands (`broker.rack`).
    pub rack: Option<String>,
    /// Where the node keeps its data, as DescribeLogDirs shows it.
    pub log_dir: String,
    /// The listeners.
    pub doors: BTreeMap<Door, Listener>,
    /// Names and passwords of `PLAIN`.
    pub plain_users: BTreeMap<String, String>,
    /// How long it holds that a client showed by SASL who it is; for good if not set (`connections.max.reauth.ms`).
    pub max_reauth: Option<Nanos>,
    /// Who may do everything, as `User:name` (`super.users`).
    pub super_users: BTreeSet<String>,
    /// Whoever no rule is about may do everything (`allow.everyone.if.no.acl.found`).
    pub allow_if_no_rule: bool,
    /// Feeds what must not be guessed: ids and nonces.
    pub secret: [u8; 32],
    /// Who counts.
    pub meter: Option<Arc<dyn Meter>>,
}

impl Config {
    /// This node's number, as clients know it.
    #[must_use]
    pub fn node_id(&self) -> i32 {
        i32::try_from(self.node.0).unwrap_or(i32::MAX)
    }

    /// The keys, as the metadata have them.
    pub(super) fn told_keys(&self) -> BTreeMap<i32, Bytes> {
        let each = self.keys.iter();
        each.filter_map(|(node, key)| Some((i32::try_from(node.0).ok()?, Bytes::copy_from_slice(key)))).collect()
    }
}
