//! The metadata as it is now: what the machine holds, and what every session keeps a copy of.
//!
//! - upon a change of the next version: each of its deltas is applied, in order;
//! - upon a change of a version that is here already: nothing. A session reads a snapshot and hears events meanwhile;
//! - upon a change from further on: [`ImageError::Gap`], and the session reads a snapshot again.
//!
//! Lookups borrow. What they answer about configurations, access, quotas and so on stands in the modules of these.
//!
//! Deliberately absent: decisions. Whether something may change is decided before there is a change.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use thiserror::Error;
use verity_types::NodeId;

use super::access::{Acl, AclGrant, AclPattern};
use super::agreement::{self, Agreement};
use super::blueprint::Blueprint;
use super::change::{Change, Delta};
use super::command::Located;
use super::features;
use super::quotas::{Entity, Limit};
use super::scram::ScramCredential;
use crate::machine::codec::{CodeError, record};
use crate::machine::partition::PartitionConfig;
use crate::wire::{ErrorCode, Uuid};

/// Partitions' groups have this id, and up.
pub const PARTITIONS: u64 = 1 << 32;
/// No leader is known.
pub const NO_LEADER: i32 = -1;

record! {
    /// A node, as its service registered it.
    pub struct Node {
        /// 1 and up.
        pub id: i32,
        /// Where it stands.
        pub rack: Option<String>,
        /// What clients connect to.
        pub host: String,
        /// The port without TLS; 0 for none.
        pub port: u16,
        /// The port with TLS; 0 for none.
        pub tls_port: u16,
        /// It is not heard.
        pub fenced: bool,
    }
}

record! {
    /// A partition: a group of its own.
    pub struct Partition {
        /// Its group, never used again.
        pub group: u64,
        /// Whom the group began with.
        pub members: BTreeSet<i32>,
        /// Those of them that have hosted it ever since.
        pub founders: BTreeSet<i32>,
        /// Who holds it, the preferred leader first.
        pub replicas: Vec<i32>,
        /// Where it moves, if it does.
        pub target: Option<Vec<i32>>,
        /// How often it was told where to belong: the version of its goal.
        pub version: u64,
        /// What the group had applied when it last let nodes go.
        pub floor: u64,
        /// Which nodes host the group: those that hold it, those that shall, and those that did and have not left yet.
        pub hosts: BTreeSet<i32>,
        /// Who led it last; [`NO_LEADER`] if nobody said so yet.
        pub leader: i32,
        /// Since which epoch.
        pub epoch: i32,
    }
}

record! {
    /// Whose configuration something is.
    #[derive(PartialOrd, Ord, Hash)]
    pub struct ConfigResource {
        /// Kafka's number: [`TOPIC`](ConfigResource::TOPIC) and so on.
        pub kind: i8,
        /// The topic's name, the node's number, or what it is; empty for all nodes.
        pub name: String,
    }
}

record! {
    /// What is set of a configuration.
    #[derive(Default)]
    pub struct ConfigSet {
        /// The version of the metadata that it came with.
        pub version: u64,
        /// All that is set.
        pub values: BTreeMap<String, String>,
    }
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// In order.
    pub partitions: Vec<Partition>,
    /// With which configuration partitions began, by the first of them.
    pub births: Vec<(i32, PartitionConfig)>,
    /// What its partitions come to one order by; what the cluster runs on if its creator said nothing.
    pub agreement: Option<Agreement>,
}

/// How much a node has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Partitions whose preferred leader it is.
    pub(super) leaders: usize,
    /// Partitions that it holds, or shall.
    pub(super) replicas: usize,
}

/// A change that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImageError {
    /// Changes are missing: a snapshot is to be read.
    #[error("the image has version {image}, the change makes it {change}")]
    Gap {
        /// The image's version.
        image: u64,
        /// The change's.
        change: u64,
    },
    /// It does not decode, or speaks of what is not there.
    #[error("{0}")]
    Invalid(#[from] CodeError),
}

/// The metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterImage {
    version: u64,
    made: u64,
    nodes: BTreeMap<i32, Node>,
    topics: BTreeMap<Uuid, Topic>,
    names: BTreeMap<String, Uuid>,
    /// Topics by their names with every `.` as `_`.
    unified: BTreeMap<String, Uuid>,
    groups: BTreeMap<u64, (Uuid, i32)>,
    loads: BTreeMap<i32, Load>,
    configs: BTreeMap<ConfigResource, ConfigSet>,
    acls: BTreeMap<AclPattern, BTreeSet<AclGrant>>,
    acl_count: usize,
    scram: BTreeMap<(String, i8), ScramCredential>,
    quotas: BTreeMap<Entity, BTreeMap<String, Limit>>,
    features: BTreeMap<String, i16>,
    /// Whose public keys each node knows, by the node.
    keys: BTreeMap<i32, BTreeMap<i32, Bytes>>,
}

impl ConfigResource {
    /// A topic.
    pub const TOPIC: i8 = 2;
    /// A node, or all of them.
    pub const BROKER: i8 = 4;
    /// A node's loggers.
    pub const BROKER_LOGGER: i8 = 8;
    /// A subscription to clients' metrics (KIP-714).
    pub const CLIENT_METRICS: i8 = 16;
    /// A group.
    pub const GROUP: i8 = 32;

    /// Whose it is.
    #[must_use]
    pub fn new(kind: i8, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    /// A topic's.
    #[must_use]
    pub fn topic(name: impl Into<String>) -> Self {
        Self::new(Self::TOPIC, name)
    }

    /// The one of all nodes.
    #[must_use]
    pub fn cluster() -> Self {
        Self::new(Self::BROKER, "")
    }
}

impl Partition {
    /// Who shall hold it.
    #[must_use]
    pub fn goal(&self) -> &[i32] {
        self.target.as_deref().unwrap_or(&self.replicas)
    }

    /// True as long as its group is not made up of its goal's nodes: whoever leads it has something to do.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.target.is_some() || self.hosts.len() != self.replicas.len()
    }

    /// The replicas as Kafka lists them while they move: those that shall be, then those that shall not be any more.
    #[must_use]
    pub fn listed(&self) -> Vec<i32> {
        self.goal().iter().copied().chain(self.removing()).collect()
    }

    /// Replicas to come.
    #[must_use]
    pub fn adding(&self) -> Vec<i32> {
        let target = self.target.iter().flatten();
        let new: BTreeSet<i32> = target.filter(|id| !self.replicas.contains(id)).copied().collect();
        new.into_iter().collect()
    }

    /// Replicas to go.
    #[must_use]
    pub fn removing(&self) -> Vec<i32> {
        let Some(target) = &self.target else { return Vec::new() };
        let old: BTreeSet<i32> = self.replicas.iter().filter(|id| !target.contains(id)).copied().collect();
        old.into_iter().collect()
    }

    /// Who should lead it.
    #[must_use]
    pub fn preferred(&self) -> i32 {
        self.goal().first().copied().unwrap_or(NO_LEADER)
    }

    /// Who is to lead it first, as long as nobody has led it.
    #[must_use]
    pub fn first_leader(&self) -> Option<NodeId> {
        let preferred = self.preferred();
        let is_new = self.leader == NO_LEADER && self.epoch == 0 && self.members.contains(&preferred);
        u64::try_from(preferred).ok().filter(|_| is_new).map(NodeId)
    }
}

impl Topic {
    /// What a partition's group is made from.
    #[must_use]
    pub fn blueprint(&self, partition: i32) -> Blueprint {
        let birth = self.births.iter().rev().find(|(first, _)| *first <= partition);
        let config = birth.map_or_else(PartitionConfig::default, |(_, config)| *config);
        Blueprint { topic: self.id, partition, config, agreement: self.agreement }
    }

    /// One partition.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// How many there are.
    ///
    /// # Panics
    /// Never: there are fewer than a command may ask for.
    #[must_use]
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).expect("the number of partitions is bounded")
    }

    /// True for those that Kafka itself would keep its state in.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        super::names::is_internal(&self.name)
    }
}

impl Default for ClusterImage {
    /// Before the first command.
    fn default() -> Self {
        Self { features: features::initial(), ..Self::empty() }
    }
}

impl ClusterImage {
    fn empty() -> Self {
        Self {
            version: 0,
            made: 0,
            nodes: BTreeMap::new(),
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            unified: BTreeMap::new(),
            groups: BTreeMap::new(),
            loads: BTreeMap::new(),
            configs: BTreeMap::new(),
            acls: BTreeMap::new(),
            acl_count: 0,
            scram: BTreeMap::new(),
            quotas: BTreeMap::new(),
            features: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }

    // ---- lookups

    /// Grows with each change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The version that the next change makes.
    pub(super) fn next_version(&self) -> u64 {
        self.version.checked_add(1).expect("2^64 changes cannot be written")
    }

    /// How many groups were ever made.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// Every node that registered, by its id.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// One node.
    #[must_use]
    pub fn node(&self, id: i32) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// How many nodes there are.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// True if the node is there and heard.
    #[must_use]
    pub fn is_online(&self, id: i32) -> bool {
        self.nodes.get(&id).is_some_and(|node| !node.fenced)
    }

    /// A topic by its name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(self.names.get(name)?)
    }

    /// A topic by its id.
    #[must_use]
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Topic> {
        self.topics.get(&id)
    }

    /// A topic that cannot be told from this name in metrics, where `.` and `_` are the same.
    pub(super) fn colliding(&self, unified: &str) -> Option<&Topic> {
        self.topics.get(self.unified.get(unified)?)
    }

    /// Every topic, by its name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.names.values().filter_map(|id| self.topics.get(id))
    }

    /// How many topics there are.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many partitions there are.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.groups.len()
    }

    /// One partition of a topic.
    #[must_use]
    pub fn partition(&self, topic: &str, index: i32) -> Option<&Partition> {
        self.topic(topic)?.partition(index)
    }

    /// Where a partition is.
    pub(super) fn locate(&self, topic: &str, index: i32) -> Located {
        let found = self.topic(topic).and_then(|topic| topic.partition(index).map(|partition| (topic, partition)));
        let none = Located { error: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ..Located::default() };
        found.map_or(none, |(topic, partition)| Located {
            error: ErrorCode::NONE,
            id: topic.id,
            group: partition.group,
            members: partition.members.clone(),
        })
    }

    /// Whose group it is.
    #[must_use]
    pub fn partition_of(&self, group: u64) -> Option<(&Topic, i32, &Partition)> {
        let (id, index) = *self.groups.get(&group)?;
        let topic = self.topics.get(&id)?;
        Some((topic, index, topic.partition(index)?))
    }

    /// Every partition's group, in order.
    pub fn groups(&self) -> impl Iterator<Item = (u64, &Topic, i32, &Partition)> {
        self.groups.keys().filter_map(|group| self.partition_of(*group).map(|(t, i, p)| (*group, t, i, p)))
    }

    /// Replicas of a partition whose nodes are not heard, as Kafka lists them.
    #[must_use]
    pub fn offline(&self, partition: &Partition) -> Vec<i32> {
        partition.listed().into_iter().filter(|id| !self.is_online(*id)).collect()
    }

    /// Replicas of a partition whose nodes are heard. What is committed is on a majority of all, and the others catch
    /// up by themselves: this is what stands for Kafka's in-sync replicas.
    #[must_use]
    pub fn in_sync(&self, partition: &Partition) -> Vec<i32> {
        partition.listed().into_iter().filter(|id| self.is_online(*id)).collect()
    }

    pub(super) fn load(&self, id: i32) -> Load {
        self.loads.get(&id).copied().unwrap_or_default()
    }

    /// What is set of a configuration.
    #[must_use]
    pub fn config(&self, resource: &ConfigResource) -> Option<&ConfigSet> {
        self.configs.get(resource)
    }

    /// Every configuration of which something is set.
    pub fn configs(&self) -> impl Iterator<Item = (&ConfigResource, &ConfigSet)> {
        self.configs.iter().filter(|(_, set)| !set.values.is_empty())
    }

    /// How many configurations are kept, those of which nothing is set any more among them.
    pub(super) fn configs_kept(&self) -> usize {
        self.configs.len()
    }

    pub(super) fn acls(&self) -> &BTreeMap<AclPattern, BTreeSet<AclGrant>> {
        &self.acls
    }

    pub(super) fn acl_count(&self) -> usize {
        self.acl_count
    }

    pub(super) fn scram_all(&self) -> &BTreeMap<(String, i8), ScramCredential> {
        &self.scram
    }

    pub(super) fn quotas(&self) -> &BTreeMap<Entity, BTreeMap<String, Limit>> {
        &self.quotas
    }

    /// The finalized features and their levels; what is not there is off.
    #[must_use]
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// One feature's level; 0 if it is off.
    #[must_use]
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// Whose public keys a node knows; nothing if it has none.
    #[must_use]
    pub fn keys_of(&self, node: i32) -> Option<&BTreeMap<i32, Bytes>> {
        self.keys.get(&node)
    }

    /// How many nodes have keys.
    pub(super) fn signers(&self) -> usize {
        self.keys.len()
    }

    // ---- changes

    /// Takes an event's bytes. True if it changed anything.
    ///
    /// # Errors
    /// [`ImageError`]; the image is then to be read again.
    pub fn on_event(&mut self, bytes: &[u8]) -> Result<bool, ImageError> {
        self.on_change(&Change::decode(bytes)?)
    }

    /// Takes a change. True if it changed anything.
    ///
    /// # Errors
    /// [`ImageError`]; the image is then to be read again.
    pub fn on_change(&mut self, change: &Change) -> Result<bool, ImageError> {
        if change.version <= self.version {
            return Ok(false);
        }
        if change.version != self.next_version() {
            return Err(ImageError::Gap { image: self.version, change: change.version });
        }
        change.deltas.iter().try_for_each(|delta| self.apply(delta))?;
        self.version = change.version;
        Ok(true)
    }

    /// Reads the answer to [`Query::Snapshot`](super::Query::Snapshot).
    ///
    /// # Errors
    /// [`CodeError`] if it is none.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, CodeError> {
        let change = Change::decode(bytes)?;
        let mut image = Self::empty();
        change.deltas.iter().try_for_each(|delta| image.apply(delta))?;
        image.version = change.version;
        Ok(image)
    }

    /// Everything, as [`ClusterImage::from_snapshot`] reads it.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        let mut deltas = vec![Delta::Made { groups: self.made }];
        deltas.extend(self.nodes.values().map(|node| Delta::Node { node: node.clone() }));
        for topic in self.topics.values() {
            deltas.push(Delta::Topic { id: topic.id, name: topic.name.clone() });
            deltas.extend(topic.agreement.map(|agreement| Delta::Agreement { topic: topic.id, agreement }));
            let births = topic.births.iter();
            deltas.extend(births.map(|(first, config)| Delta::Birth {
                topic: topic.id,
                first: *first,
                config: *config,
            }));
            let partitions = (0..).zip(&topic.partitions);
            deltas.extend(partitions.map(|(index, partition)| Delta::Partition {
                topic: topic.id,
                index,
                partition: partition.clone(),
            }));
        }
        deltas.extend(self.configs.iter().map(|(resource, set)| Delta::Config {
            resource: resource.clone(),
            version: set.version,
            values: set.values.clone(),
        }));
        deltas.extend(self.each_acl().map(|acl| Delta::Acl { acl }));
        deltas.extend(self.scram.iter().map(|((user, mechanism), credential)| Delta::Scram {
            user: user.clone(),
            mechanism: *mechanism,
            credential: Some(credential.clone()),
        }));
        let quotas = self.quotas.iter();
        deltas.extend(quotas.map(|(entity, limits)| Delta::Quota { entity: entity.clone(), limits: limits.clone() }));
        let features = self.features.iter();
        deltas.extend(features.map(|(name, level)| Delta::Feature { name: name.clone(), level: *level }));
        deltas.extend(self.keys.iter().map(|(node, keys)| Delta::Keys { node: *node, keys: keys.clone() }));
        Change { version: self.version, deltas }.encode()
    }

    fn apply(&mut self, delta: &Delta) -> Result<(), CodeError> {
        match delta {
            Delta::Made { groups } => self.made = *groups,
            Delta::Node { node } => {
                self.nodes.insert(node.id, node.clone());
            }
            Delta::NodeGone { id } => {
                self.nodes.remove(id);
                self.keys.remove(id);
            }
            Delta::Keys { node, keys } => {
                if keys.is_empty() {
                    self.keys.remove(node);
                } else {
                    self.keys.insert(*node, keys.clone());
                }
            }
            Delta::Agreement { topic, agreement } => self.topic_mut(*topic)?.agreement = Some(*agreement),
            Delta::Topic { id, name } => self.apply_topic(*id, name)?,
            Delta::TopicGone { id } => self.apply_topic_gone(*id)?,
            Delta::Birth { topic, first, config } => self.topic_mut(*topic)?.births.push((*first, *config)),
            Delta::Partition { topic, index, partition } => self.apply_partition(*topic, *index, partition)?,
            Delta::Led { group, leader, epoch } => {
                let (id, index) = *self.groups.get(group).ok_or(CodeError("no such group"))?;
                let partitions = &mut self.topic_mut(id)?.partitions;
                let partition = usize::try_from(index).ok().and_then(|index| partitions.get_mut(index));
                let partition = partition.ok_or(CodeError("no such partition"))?;
                (partition.leader, partition.epoch) = (*leader, *epoch);
            }
            Delta::Config { resource, version, values } => {
                // The version of what shapes partitions is needed even when nothing is set any more.
                let kept = resource.kind == ConfigResource::TOPIC || *resource == ConfigResource::cluster();
                if values.is_empty() && !kept {
                    self.configs.remove(resource);
                } else {
                    let set = ConfigSet { version: *version, values: values.clone() };
                    self.configs.insert(resource.clone(), set);
                }
            }
            Delta::Acl { acl } => {
                let (pattern, grant) = acl.clone().split();
                self.acl_count += usize::from(self.acls.entry(pattern).or_default().insert(grant));
            }
            Delta::AclGone { acl } => self.apply_acl_gone(acl)?,
            Delta::Scram { user, mechanism, credential } => {
                let key = (user.clone(), *mechanism);
                match credential {
                    Some(credential) => self.scram.insert(key, credential.clone()),
                    None => self.scram.remove(&key),
                };
            }
            Delta::Quota { entity, limits } => {
                if limits.is_empty() {
                    self.quotas.remove(entity);
                } else {
                    self.quotas.insert(entity.clone(), limits.clone());
                }
            }
            Delta::Feature { name, level } => {
                if *level == 0 {
                    self.features.remove(name);
                } else {
                    self.features.insert(name.clone(), *level);
                }
            }
        }
        Ok(())
    }

    fn topic_mut(&mut self, id: Uuid) -> Result<&mut Topic, CodeError> {
        self.topics.get_mut(&id).ok_or(CodeError("no such topic"))
    }

    fn apply_topic(&mut self, id: Uuid, name: &str) -> Result<(), CodeError> {
        if self.topics.contains_key(&id) || self.names.contains_key(name) {
            return Err(CodeError("a topic is there already"));
        }
        let topic = Topic { id, name: name.to_owned(), partitions: Vec::new(), births: Vec::new(), agreement: None };
        self.topics.insert(id, topic);
        self.names.insert(name.to_owned(), id);
        self.unified.insert(super::names::unify(name), id);
        Ok(())
    }

    fn apply_topic_gone(&mut self, id: Uuid) -> Result<(), CodeError> {
        let topic = self.topics.remove(&id).ok_or(CodeError("no such topic"))?;
        for partition in &topic.partitions {
            self.groups.remove(&partition.group);
            self.unload(partition);
        }
        self.names.remove(&topic.name);
        self.unified.remove(&super::names::unify(&topic.name));
        self.configs.remove(&ConfigResource::topic(topic.name));
        Ok(())
    }

    fn apply_partition(&mut self, topic: Uuid, index: i32, partition: &Partition) -> Result<(), CodeError> {
        let at = usize::try_from(index).map_err(|_| CodeError("no place for a partition"))?;
        let partitions = &mut self.topic_mut(topic)?.partitions;
        if at > partitions.len() {
            return Err(CodeError("a partition is missing before this one"));
        }
        let before = if at == partitions.len() {
            partitions.push(partition.clone());
            None
        } else {
            Some(std::mem::replace(&mut partitions[at], partition.clone()))
        };
        if let Some(before) = before {
            self.groups.remove(&before.group);
            self.unload(&before);
        }
        if self.groups.insert(partition.group, (topic, index)).is_some() {
            return Err(CodeError("two partitions have one group"));
        }
        let goal = partition.goal().to_vec();
        for (place, id) in goal.into_iter().enumerate() {
            let load = self.loads.entry(id).or_default();
            load.replicas += 1;
            load.leaders += usize::from(place == 0);
        }
        Ok(())
    }

    /// A partition burdens its nodes no more.
    fn unload(&mut self, partition: &Partition) {
        for (place, id) in partition.goal().iter().enumerate() {
            let Some(load) = self.loads.get_mut(id) else { continue };
            load.replicas -= 1;
            load.leaders -= usize::from(place == 0);
            if load.replicas == 0 {
                self.loads.remove(id);
            }
        }
    }

    fn apply_acl_gone(&mut self, acl: &Acl) -> Result<(), CodeError> {
        let (pattern, grant) = acl.clone().split();
        let grants = self.acls.get_mut(&pattern).ok_or(CodeError("no such rule"))?;
        if !grants.remove(&grant) {
            return Err(CodeError("no such rule"));
        }
        self.acl_count -= 1;
        if grants.is_empty() {
            self.acls.remove(&pattern);
        }
        Ok(())
    }

    /// Bytes of memory, roughly.
    pub(super) fn size(&self) -> u64 {
        let partitions = self.groups.len() * 320 + self.topics.len() * 480;
        let values: usize = self.configs.values().map(|set| 96 + set.values.len() * 96).sum();
        let rest = self.nodes.len() * 160 + self.acl_count * 240 + self.scram.len() * 320 + self.quotas.len() * 240;
        let keys: usize = self.keys.values().map(|keys| 48 + keys.len() * 96).sum();
        (partitions + values + rest + keys) as u64
    }

    /// Asserts what must always hold.
    ///
    /// # Panics
    /// If it does not.
    pub fn invariants(&self) {
        let mut loads: BTreeMap<i32, Load> = BTreeMap::new();
        let mut partitions = 0;
        for topic in self.topics.values() {
            assert_eq!(self.names.get(&topic.name), Some(&topic.id), "a topic is found by its name");
            assert_eq!(self.unified.get(&super::names::unify(&topic.name)), Some(&topic.id), "names do not collide");
            assert!(!topic.partitions.is_empty(), "a topic has partitions");
            let set = self.config(&ConfigResource::topic(topic.name.clone())).expect("a topic's version is known");
            assert_eq!(
                agreement::wanted(&set.values),
                topic.agreement,
                "a topic keeps the agreement that it began with"
            );
            assert_eq!(topic.births.first().map(|(first, _)| *first), Some(0), "every partition has a blueprint");
            for (index, partition) in (0..).zip(&topic.partitions) {
                partitions += 1;
                assert_eq!(self.groups.get(&partition.group), Some(&(topic.id, index)), "a group has its partition");
                assert!((PARTITIONS..PARTITIONS + self.made).contains(&partition.group), "groups are counted");
                assert!(!partition.members.is_empty() && !partition.goal().is_empty(), "a group has members");
                let named = partition.replicas.iter().chain(partition.target.iter().flatten());
                assert!(named.clone().all(|id| partition.hosts.contains(id)), "who holds a partition hosts its group");
                assert!(partition.leader == NO_LEADER || partition.hosts.contains(&partition.leader), "a host leads");
                for (place, id) in partition.goal().iter().enumerate() {
                    let load = loads.entry(*id).or_default();
                    load.replicas += 1;
                    load.leaders += usize::from(place == 0);
                }
            }
        }
        assert_eq!(self.names.len(), self.topics.len(), "a name is one topic's");
        assert_eq!(self.unified.len(), self.topics.len(), "names do not collide");
        assert_eq!(self.groups.len(), partitions, "a group is one partition's");
        assert_eq!(self.loads, loads, "every load is counted");
        assert_eq!(self.acl_count, self.acls.values().map(BTreeSet::len).sum::<usize>(), "every rule is counted");
        assert!(self.acls.values().all(|grants| !grants.is_empty()), "a pattern has rules");
    }
}
