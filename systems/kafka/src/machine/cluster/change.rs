//! What a command changed, as everybody who keeps an image hears it.
//!
//! A change is all that one command did, and the version that the metadata has behind it. The machine itself changes
//! its image by nothing else, so an image that is kept by events equals the machine's. A snapshot is a change too: the
//! one that makes an empty image equal.
//!
//! Deliberately absent: how it came to be.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::access::Acl;
use super::agreement::Agreement;
use super::image::{ConfigResource, Node, Partition};
use super::quotas::{Entity, Limit};
use super::scram::ScramCredential;
use crate::machine::codec::{CodeError, choice, decode, encode, record};
use crate::machine::partition::PartitionConfig;
use crate::wire::Uuid;

record! {
    /// All that one command changed.
    pub struct Change {
        /// The version of the metadata from here on: one more than before.
        pub version: u64,
        /// In order.
        pub deltas: Vec<Delta>,
    }
}

choice! {
    /// One entity's change. What is named is replaced.
    pub enum Delta {
        /// So many groups were ever made.
        Made {
            /// The next group gets this number behind [`PARTITIONS`](super::PARTITIONS).
            groups: u64,
        } = 1,
        /// A node is there.
        Node {
            /// What is known of it.
            node: Node,
        } = 2,
        /// A node has gone.
        NodeGone {
            /// Which.
            id: i32,
        } = 3,
        /// A topic is there; its partitions follow.
        Topic {
            /// Its id.
            id: Uuid,
            /// Its name.
            name: String,
        } = 4,
        /// A topic has gone, with its partitions and its configuration.
        TopicGone {
            /// Which.
            id: Uuid,
        } = 5,
        /// Partitions of a topic begin with this configuration.
        Birth {
            /// The topic.
            topic: Uuid,
            /// From this partition on.
            first: i32,
            /// The configuration.
            config: PartitionConfig,
        } = 6,
        /// A partition is there: the next one of its topic, or one that was there before.
        Partition {
            /// The topic.
            topic: Uuid,
            /// Its place.
            index: i32,
            /// What is known of it.
            partition: Partition,
        } = 7,
        /// A partition is led by somebody else.
        Led {
            /// The partition's group.
            group: u64,
            /// The node.
            leader: i32,
            /// Since when.
            epoch: i32,
        } = 8,
        /// A configuration.
        Config {
            /// Whose.
            resource: ConfigResource,
            /// The version of the metadata that it came with.
            version: u64,
            /// All that is set.
            values: BTreeMap<String, String>,
        } = 9,
        /// A rule is there.
        Acl {
            /// The rule.
            acl: Acl,
        } = 10,
        /// A rule has gone.
        AclGone {
            /// The rule.
            acl: Acl,
        } = 11,
        /// A credential is there, or has gone.
        Scram {
            /// Whose.
            user: String,
            /// For which mechanism.
            mechanism: i8,
            /// What it is.
            credential: Option<ScramCredential>,
        } = 12,
        /// Quotas of an entity; none if it has none any more.
        Quota {
            /// Whose.
            entity: Entity,
            /// All that are set.
            limits: BTreeMap<String, Limit>,
        } = 13,
        /// A feature's level; 0 if it is off.
        Feature {
            /// Its name.
            name: String,
            /// Its level.
            level: i16,
        } = 14,
        /// A topic is on an agreement of its own. One of which this is not said is on that of the cluster.
        Agreement {
            /// The topic.
            topic: Uuid,
            /// Which.
            agreement: Agreement,
        } = 15,
        /// Whose public keys a node knows; none if it has none any more.
        Keys {
            /// The node.
            node: i32,
            /// The keys.
            keys: BTreeMap<i32, Bytes>,
        } = 16,
    }
}

impl Change {
    /// In bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`CodeError`] if they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodeError> {
        decode(bytes)
    }
}
