//! What the cluster is told, and what it answers.
//!
//! One thing that a client asks for is one command: a request about five topics is five commands, and one that is
//! refused does not hold up the others. What a client may get wrong is refused by the machine, in Kafka's codes and
//! words, since only here is it known what else was decided before.
//!
//! Encoded by [`codec`](crate::machine::codec): a format byte, a tag, the fields in the order of their definition.
//!
//! Deliberately absent: Kafka's own requests, and whether whoever asks may (the session asks
//! [`authorize`](super::ClusterImage::authorize) first).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::access::{Acl, AclFilter};
use super::image::ConfigResource;
use super::quotas::Limit;
use super::scram::Secret;
use crate::machine::codec::{CodeError, choice, decode, encode, record};
use crate::wire::{ErrorCode, Uuid};

/// The longest message of a refusal, in bytes; what a client sent may be quoted in it.
pub const MESSAGE_SIZE_MAX: usize = 2_048;

choice! {
    /// A command.
    pub enum Command {
        /// A node's service has started: it is there, and this is where clients find it.
        Register {
            /// 1 and up.
            id: i32,
            /// Where it stands, if anybody said so.
            rack: Option<String>,
            /// What clients connect to.
            host: String,
            /// The port without TLS; 0 for none.
            port: u16,
            /// The port with TLS; 0 for none.
            tls_port: u16,
        } = 1,
        /// A node is not heard any more, or again. A node that registers is not fenced.
        Fence {
            /// Which.
            id: i32,
            /// Not heard.
            fenced: bool,
        } = 2,
        /// A node has gone for good. Its replicas stay where they are assigned until they are moved.
        Unregister {
            /// Which.
            id: i32,
        } = 3,
        /// A new topic.
        CreateTopic {
            /// Its name.
            name: String,
            /// Its id, drawn by whoever proposes.
            id: Uuid,
            /// How many partitions; -1 for the default.
            partitions: i32,
            /// How many replicas of each; -1 for the default.
            replication_factor: i16,
            /// Which nodes hold which partition; empty for a placement of ours.
            assignments: Vec<(i32, Vec<i32>)>,
            /// Its configuration.
            configs: Vec<(String, Option<String>)>,
            /// Say what would be answered, and do nothing.
            validate_only: bool,
        } = 4,
        /// A topic goes, and all that it holds.
        DeleteTopic {
            /// By name, or
            name: Option<String>,
            /// by id.
            id: Uuid,
        } = 5,
        /// A topic gets more partitions.
        CreatePartitions {
            /// Which topic.
            name: String,
            /// How many it shall have.
            count: i32,
            /// Which nodes hold the new ones; nothing for a placement of ours.
            assignments: Option<Vec<Vec<i32>>>,
            /// Say what would be answered, and do nothing.
            validate_only: bool,
        } = 6,
        /// A configuration is replaced as a whole.
        AlterConfig {
            /// Whose.
            resource: ConfigResource,
            /// All that is set from here on.
            values: Vec<(String, Option<String>)>,
            /// Say what would be answered, and do nothing.
            validate_only: bool,
        } = 7,
        /// Single entries of a configuration change.
        IncrementalAlterConfig {
            /// Whose.
            resource: ConfigResource,
            /// What changes.
            ops: Vec<ConfigOp>,
            /// Say what would be answered, and do nothing.
            validate_only: bool,
        } = 8,
        /// Nodes that lead partitions say so.
        Led {
            /// Each of its own.
            reports: Vec<Leadership>,
        } = 9,
        /// A partition moves to other nodes.
        Reassign {
            /// The topic.
            topic: String,
            /// The partition.
            partition: i32,
            /// Where to; nothing to stay after all.
            replicas: Option<Vec<i32>>,
            /// It may have more or fewer replicas than before (KIP-860).
            allow_replication_factor_change: bool,
        } = 10,
        /// A partition's group consists of its goal's nodes now, and of no others.
        Reassigned {
            /// Whose.
            group: u64,
            /// Of this version.
            version: u64,
            /// These.
            replicas: Vec<i32>,
            /// The group had applied this much by then.
            applied: u64,
        } = 11,
        /// A rule about who may do what.
        CreateAcl {
            /// The rule.
            acl: Acl,
        } = 12,
        /// All rules that match go. They are in the answer.
        DeleteAcls {
            /// What matches.
            filter: AclFilter,
        } = 13,
        /// A user's SCRAM credentials change.
        AlterScram {
            /// Whose.
            user: String,
            /// Those of these mechanisms go.
            deletions: Vec<i8>,
            /// Those are there from here on.
            upsertions: Vec<ScramUpsertion>,
        } = 14,
        /// Quotas of one entity change.
        AlterQuota {
            /// Pairs of a type and a name; no name for the default.
            entity: Vec<(String, Option<String>)>,
            /// What changes.
            ops: Vec<QuotaOp>,
            /// Say what would be answered, and do nothing.
            validate_only: bool,
        } = 15,
        /// Features are switched to other levels, all or none.
        UpdateFeatures {
            /// Which.
            updates: Vec<FeatureUpdate>,
            /// Say what would be answered, and do nothing.
            validate_only: bool,
        } = 16,
        /// A node knows these public keys of nodes, for partitions on PBFT. It says so before it registers.
        Keys {
            /// The node.
            id: i32,
            /// The keys, its own among them; none if it has none.
            keys: BTreeMap<i32, Bytes>,
        } = 17,
    }
}

record! {
    /// One change of a configuration.
    pub struct ConfigOp {
        /// The key.
        pub name: String,
        /// Kafka's number: 0 set, 1 delete, 2 append, 3 subtract.
        pub op: i8,
        /// What is set, appended or subtracted.
        pub value: Option<String>,
    }
}

record! {
    /// Who leads a partition.
    pub struct Leadership {
        /// The partition's group.
        pub group: u64,
        /// The node.
        pub leader: i32,
        /// Since which epoch.
        pub epoch: i32,
    }
}

record! {
    /// A credential, made from a password that whoever proposes has seen and nobody keeps.
    pub struct ScramUpsertion {
        /// Kafka's number: 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
        pub mechanism: i8,
        /// How often the password was hashed.
        pub iterations: i32,
        /// What it was hashed with.
        pub salt: Secret,
        /// RFC 5802's `StoredKey`.
        pub stored_key: Secret,
        /// RFC 5802's `ServerKey`.
        pub server_key: Secret,
    }
}

record! {
    /// One change of a quota.
    pub struct QuotaOp {
        /// Which.
        pub key: String,
        /// Its value; nothing to remove it.
        pub value: Option<Limit>,
    }
}

record! {
    /// One feature's switch.
    pub struct FeatureUpdate {
        /// Its name.
        pub name: String,
        /// The level that it shall have.
        pub level: i16,
        /// Kafka's number: 1 upgrade, 2 safe downgrade, 3 unsafe downgrade.
        pub upgrade: i8,
    }
}

record! {
    /// The answer to a command.
    pub struct Reply {
        /// Kafka's code.
        pub error: ErrorCode,
        /// Why, in Kafka's words.
        pub message: Option<String>,
        /// The version of the metadata behind the command: an image that has it shows what was done.
        pub version: u64,
        /// What else there is to say.
        pub outcome: Outcome,
    }
}

choice! {
    /// What a command brought about, where there is more to say than that it did.
    pub enum Outcome {
        /// Nothing more.
        Plain = 0,
        /// A topic was created, or would be.
        Created {
            /// Its id.
            id: Uuid,
            /// Its partitions.
            partitions: i32,
            /// The replicas of its first partition.
            replication_factor: i16,
        } = 1,
        /// A topic was deleted.
        Deleted {
            /// Its name.
            name: String,
            /// Its id.
            id: Uuid,
        } = 2,
        /// Rules were deleted.
        Acls {
            /// These.
            acls: Vec<Acl>,
        } = 3,
    }
}

choice! {
    /// A question.
    pub enum Query {
        /// Everything. Answer: a [`Change`](super::Change) that makes an empty image equal to this one
        /// ([`ClusterImage::from_snapshot`](super::ClusterImage::from_snapshot)).
        Snapshot = 1,
        /// Which group a partition is. Answer: [`Located`].
        Locate {
            /// The topic's name.
            topic: String,
            /// The partition's index.
            partition: i32,
        } = 2,
    }
}

record! {
    /// Where a partition is. It holds for as long as the topic: no group is ever used again.
    #[derive(Default)]
    pub struct Located {
        /// Kafka's code; what follows says nothing then.
        pub error: ErrorCode,
        /// The topic's id.
        pub id: Uuid,
        /// The partition's group.
        pub group: u64,
        /// Whom the group began with.
        pub members: BTreeSet<i32>,
    }
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's code.
    pub error: ErrorCode,
    /// In Kafka's words.
    pub message: String,
}

impl Refusal {
    /// A refusal; what is too long of the message is cut off.
    #[must_use]
    pub fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MESSAGE_SIZE_MAX {
            let cut = (0..=MESSAGE_SIZE_MAX).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
            message.truncate(cut);
        }
        Self { error, message }
    }
}

macro_rules! message {
    ($name:ident) => {
        impl $name {
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
    };
}

message!(Command);
message!(Reply);
message!(Query);
message!(Located);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_quotes_no_more_than_fits() {
        let refusal = Refusal::new(ErrorCode::INVALID_REQUEST, "ä".repeat(MESSAGE_SIZE_MAX));
        assert_eq!(refusal.message.len(), MESSAGE_SIZE_MAX);
        let odd = Refusal::new(ErrorCode::INVALID_REQUEST, format!("x{}", "ä".repeat(MESSAGE_SIZE_MAX)));
        assert_eq!(odd.message.len(), MESSAGE_SIZE_MAX - 1);
    }
}
