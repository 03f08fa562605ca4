//! The cluster's metadata: what Kafka's controller holds, as one machine on an order of its own.
//!
//! - upon a command: it is looked at against the image; either all of what it would do becomes one [`Change`], with the
//!   next version, or it is refused in Kafka's codes and words, and nothing changes;
//! - upon a change: the image takes it, and everybody hears it as an event ([`CHANGED`]), before whoever asked is
//!   answered. A session keeps an image of its own by these, so it reads metadata without asking anybody;
//! - upon a new partition: a group is made, with an id that was never given before, and its nodes host it from here on.
//!   A topic's end ends its groups;
//! - upon a registration: the node is there for topics to come, and clients are told where it is.
//!
//! What decides stands beside what it decides about: `topics`, `agreement`, `moves`, `config`, `access`, `scram`, `quotas`,
//! `features`; each works out a plan from the image and changes nothing. Ids of topics, salts and keys come with the
//! commands: a machine draws nothing at random.
//!
//! Bounds: each module names its own. Bytes that do not decode are answered with `INVALID_REQUEST`.
//!
//! Deliberately absent: groups of consumers, offsets and transactions (the coordinator's), records (the partitions'),
//! and whether a node can be reached: somebody who knows says so ([`Command::Fence`]).

mod access;
mod agreement;
mod blueprint;
mod change;
mod command;
pub mod config;
mod duty;
mod features;
mod image;
mod moves;
mod names;
mod placement;
mod plan;
mod quotas;
mod scram;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use verity_contract::{Effects, Members, ReadOutcome, RequestId, RestoreError, Spawn, StateMachine};
use verity_types::{Digest, GroupId, LogIndex, NodeId};

pub use access::{ACL_COUNT_MAX, Access, Acl, AclFilter, CLUSTER_NAME, operation, pattern, permission, resource};
pub(crate) use agreement::stays;
pub use agreement::{AGREEMENT, Agreement};
pub use blueprint::Blueprint;
pub use change::{Change, Delta};
pub use command::{
    Command, ConfigOp, FeatureUpdate, Leadership, Located, MESSAGE_SIZE_MAX, Outcome, Query, QuotaOp, Refusal, Reply,
    ScramUpsertion,
};
pub use duty::{ClusterDuty, SESSION_MS, alive};
pub use features::{GROUP_VERSION, METADATA_VERSION, SHARE_VERSION, SUPPORTED, SupportedFeature, TRANSACTION_VERSION};
pub use image::{ClusterImage, ConfigResource, ConfigSet, ImageError, NO_LEADER, Node, PARTITIONS, Partition, Topic};
pub use moves::{ELECT_PREFERRED, ELECT_UNCLEAN, Handover, Moving};
pub use names::{NAME_SIZE_MAX, is_internal, unify, validate as validate_name};
pub use quotas::{
    CLIENT_ID, CONNECTION_CREATION_RATE, CONSUMER_BYTE_RATE, CONTROLLER_MUTATION_RATE, Entity, EntityLimits, IP, Limit,
    PRODUCER_BYTE_RATE, QUOTA_COUNT_MAX, QuotaFilter, QuotaMatch, REQUEST_PERCENTAGE, USER, matching,
};
pub use scram::{
    CREDENTIAL_COUNT_MAX, ITERATIONS_MAX, ITERATIONS_MIN, SALT_SIZE_MAX, SHA_256, SHA_512, ScramCredential, ScramFact,
    Secret,
};
pub use topics::{HOST_SIZE_MAX, NODE_COUNT_MAX, PARTITION_COUNT_MAX, PARTITIONS_PER_COMMAND_MAX};

use crate::wire::ErrorCode;
use plan::{Plan, Planned};
use topics::Wanted;

/// What events about the metadata are about. Their bytes are a [`Change`].
pub const CHANGED: &[u8] = b"cluster";

/// The machine.
#[derive(Debug, Default)]
pub struct Cluster {
    image: ClusterImage,
    /// The snapshot that is being drawn.
    drawing: Bytes,
}

/// The nodes of these numbers. Numbers of nodes that registered are 1 and up.
fn nodes(ids: &BTreeSet<i32>) -> BTreeSet<NodeId> {
    ids.iter().filter_map(|id| u64::try_from(*id).ok()).map(NodeId).collect()
}

fn spawn_of(topic: &Topic, index: i32, partition: &Partition) -> Spawn {
    Spawn {
        group: GroupId(partition.group),
        members: Members::of_voters(nodes(&partition.members)),
        founders: nodes(&partition.founders),
        first_leader: partition.first_leader(),
        floor: LogIndex(partition.floor),
        hosts: nodes(&partition.hosts),
        blueprint: topic.blueprint(index).encode(),
    }
}

impl Cluster {
    /// Before the first command.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The metadata as they are now.
    #[must_use]
    pub fn image(&self) -> &ClusterImage {
        &self.image
    }

    fn plan(&self, command: Command) -> Planned {
        let image = &self.image;
        match command {
            Command::Register { id, rack, host, port, tls_port } => {
                topics::register(image, Node { id, rack, host, port, tls_port, fenced: false })
            }
            Command::Keys { id, keys } => agreement::keys(image, id, keys),
            Command::Fence { id, fenced } => topics::fence(image, id, fenced),
            Command::Unregister { id } => topics::unregister(image, id),
            Command::CreateTopic { name, id, partitions, replication_factor, assignments, configs, validate_only } => {
                let wanted = Wanted { name, id, partitions, replication_factor, assignments, configs };
                topics::create(image, wanted).map(|plan| plan.only_if(!validate_only))
            }
            Command::DeleteTopic { name, id } => topics::delete(image, name.as_deref(), id),
            Command::CreatePartitions { name, count, assignments, validate_only } => {
                topics::grow(image, &name, count, assignments).map(|plan| plan.only_if(!validate_only))
            }
            Command::AlterConfig { resource, values, validate_only } => {
                config::alter(image, resource, values).map(|plan| plan.only_if(!validate_only))
            }
            Command::IncrementalAlterConfig { resource, ops, validate_only } => {
                config::incremental(image, resource, ops).map(|plan| plan.only_if(!validate_only))
            }
            Command::Led { reports } => Ok(moves::led(image, &reports)),
            Command::Reassign { topic, partition, replicas, allow_replication_factor_change } => {
                moves::reassign(image, &topic, partition, replicas, allow_replication_factor_change)
            }
            Command::Reassigned { group, version, replicas, applied } => {
                moves::reassigned(image, group, version, &replicas, applied)
            }
            Command::CreateAcl { acl } => access::create(image, acl),
            Command::DeleteAcls { filter } => access::delete(image, &filter),
            Command::AlterScram { user, deletions, upsertions } => scram::alter(image, &user, &deletions, upsertions),
            Command::AlterQuota { entity, ops, validate_only } => {
                quotas::alter(image, entity, ops).map(|plan| plan.only_if(!validate_only))
            }
            Command::UpdateFeatures { updates, validate_only } => {
                features::update(image, &updates).map(|plan| plan.only_if(!validate_only))
            }
        }
    }

    fn on_command(&mut self, request: RequestId, bytes: &[u8], effects: &mut Effects) {
        let planned = match Command::decode(bytes) {
            Ok(command) => self.plan(command),
            Err(error) => Err(Refusal::new(ErrorCode::INVALID_REQUEST, error.to_string())),
        };
        let reply = match planned {
            Ok(plan) => {
                let outcome = self.carry_out(plan, effects);
                Reply { error: ErrorCode::NONE, message: None, version: self.image.version(), outcome }
            }
            Err(Refusal { error, message }) => {
                let (message, version) = (Some(message), self.image.version());
                Reply { error, message, version, outcome: Outcome::Plain }
            }
        };
        effects.reply(request, reply.encode());
    }

    fn carry_out(&mut self, plan: Plan, effects: &mut Effects) -> Outcome {
        let Plan { deltas, spawn, retire, outcome } = plan;
        if !deltas.is_empty() {
            let change = Change { version: self.image.next_version(), deltas };
            let changed = self.image.on_change(&change).expect("a plan speaks of what is there");
            assert!(changed, "the next version is a new one");
            effects.event(Bytes::from_static(CHANGED), change.encode());
        }
        for group in spawn {
            let (topic, index, partition) = self.image.partition_of(group).expect("its partition was just there");
            effects.spawn(spawn_of(topic, index, partition));
        }
        retire.into_iter().for_each(|group| effects.retire(GroupId(group)));
        outcome
    }
}

impl StateMachine for Cluster {
    fn apply(&mut self, batch: &[verity_contract::Command], effects: &mut Effects) {
        for command in batch {
            self.on_command(command.request, &command.bytes, effects);
        }
    }

    fn read(&mut self, query: &[u8]) -> ReadOutcome {
        ReadOutcome::Ready(match Query::decode(query) {
            Ok(Query::Snapshot) => self.image.snapshot(),
            Ok(Query::Locate { topic, partition }) => self.image.locate(&topic, partition).encode(),
            Err(error) => {
                let (message, version) = (Some(error.to_string()), self.image.version());
                Reply { error: ErrorCode::INVALID_REQUEST, message, version, outcome: Outcome::Plain }.encode()
            }
        })
    }

    fn snapshot_begin(&mut self) {
        self.drawing = self.image.snapshot();
    }

    fn snapshot_next(&mut self, size_max: usize) -> Option<Bytes> {
        let size = self.drawing.len().min(size_max.max(1));
        (size > 0).then(|| self.drawing.split_to(size))
    }

    fn spawned(&self) -> Vec<Spawn> {
        self.image.groups().map(|(_, topic, index, partition)| spawn_of(topic, index, partition)).collect()
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>) -> Result<(), RestoreError> {
        let mut all = BytesMut::new();
        for chunk in chunks {
            all.put_slice(&chunk?);
        }
        self.image = ClusterImage::from_snapshot(&all).map_err(|error| RestoreError::Invalid(error.to_string()))?;
        self.drawing = Bytes::new();
        Ok(())
    }

    fn digest(&self) -> Digest {
        let state = self.image.snapshot();
        let (low, high) = (xxhash_rust::xxh3::xxh3_128(&state), xxhash_rust::xxh3::xxh3_128_with_seed(&state, 1));
        let mut digest = [0; 32];
        digest[..16].copy_from_slice(&low.to_be_bytes());
        digest[16..].copy_from_slice(&high.to_be_bytes());
        Digest(digest)
    }

    fn size(&self) -> u64 {
        self.image.size()
    }

    fn invariants(&self) {
        self.image.invariants();
    }
}
