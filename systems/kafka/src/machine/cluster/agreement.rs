//! What a topic's partitions come to one order by, if it is not what the cluster runs on.
//!
//! - upon a new topic with `verity.agreement`: every partition of it, now and later, is a group on that agreement. It is part
//!   of the blueprint, so whoever hosts one starts the same engine;
//! - upon a change of it: refused. What a group's log holds is its engine's;
//! - upon `Keys`: a node says whose public keys it knows. A topic is on PBFT only if each of its nodes knows those of all, and
//!   they agree: a node could not start its engine otherwise, and would stop.
//!
//! HAZARD: a node that is started without its keys again stops, if it hosts such a partition.
//!
//! Deliberately absent: what the cluster runs on. The machine does not know it, and no entry of a topic means that.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::change::Delta;
use super::command::Refusal;
use super::image::ClusterImage;
use super::plan::{Plan, Planned};
use super::topics::NODE_COUNT_MAX;
use crate::machine::codec::choice;
use crate::wire::ErrorCode;

/// The entry of a topic's configuration that says it; and of a node's, which says what the cluster runs on.
pub const AGREEMENT: &str = "verity.agreement";
/// A public key's size.
const KEY_SIZE: usize = 32;
/// Of so many replicas one may lie.
const PBFT_REPLICAS: i16 = 4;

choice! {
    /// How the replicas of a partition come to one order.
    #[derive(Copy, Default)]
    pub enum Agreement {
        /// Raft.
        #[default]
        Raft = 1,
        /// Multi-Paxos.
        Paxos = 2,
        /// PBFT: of four replicas one may lie.
        Pbft = 3,
    }
}

impl Agreement {
    /// Every name, as configurations have it.
    pub const NAMES: &'static [&'static str] = &["raft", "paxos", "pbft"];

    /// As configurations name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raft => "raft",
            Self::Paxos => "paxos",
            Self::Pbft => "pbft",
        }
    }

    /// By its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Raft, Self::Paxos, Self::Pbft].into_iter().find(|agreement| agreement.name() == name.trim())
    }

    /// Its members are fixed, and whoever leads hands over to nobody.
    #[must_use]
    pub fn is_fixed(self) -> bool {
        self == Self::Pbft
    }

    /// How many replicas a partition gets at least of which nobody said how many, where there are so many nodes.
    #[must_use]
    pub fn replicas_min(self, nodes: usize) -> i16 {
        let wanted = if self == Self::Pbft { PBFT_REPLICAS } else { 1 };
        wanted.min(i16::try_from(nodes).unwrap_or(i16::MAX))
    }
}

/// Which agreement a topic is to have of which this is set; none if it says nothing.
pub(super) fn wanted(values: &BTreeMap<String, String>) -> Option<Agreement> {
    Agreement::named(values.get(AGREEMENT)?)
}

/// A partition that cannot move.
pub(crate) fn stays() -> Refusal {
    let message = "The partition's agreement has fixed members: it does not move.";
    Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message)
}

/// Can a partition be held by any of these nodes?
pub(super) fn check_keys(
    image: &ClusterImage,
    agreement: Option<Agreement>,
    nodes: &BTreeSet<i32>,
) -> Result<(), Refusal> {
    if agreement != Some(Agreement::Pbft) {
        return Ok(());
    }
    let wrong = |message: String| Err(Refusal::new(ErrorCode::INVALID_CONFIG, message));
    let key_of = |of: i32, node: i32| image.keys_of(of).and_then(|keys| keys.get(&node));
    for node in nodes {
        if key_of(*node, *node).is_none() {
            return wrong(format!(
                "{AGREEMENT} is pbft, and node {node} has no keys: its file must list every node's in [pbft.keys]."
            ));
        }
        for other in nodes {
            match (key_of(*node, *other), key_of(*other, *other)) {
                (None, _) => {
                    return wrong(format!(
                        "{AGREEMENT} is pbft, and pbft.keys of node {node} does not list node {other}."
                    ));
                }
                (listed, Some(own)) if listed != Some(own) => {
                    return wrong(format!(
                        "{AGREEMENT} is pbft, and pbft.keys of node {node} lists another key of node {other} than that node."
                    ));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// A node says whose keys it knows.
pub(super) fn keys(image: &ClusterImage, id: i32, keys: BTreeMap<i32, Bytes>) -> Planned {
    if id < 1 || keys.len() > NODE_COUNT_MAX || keys.values().any(|key| key.len() != KEY_SIZE) {
        let message = format!("A node's id is 1 or more, and a key has {KEY_SIZE} bytes.");
        return Err(Refusal::new(ErrorCode::INVALID_REGISTRATION, message));
    }
    let known = image.keys_of(id);
    if known.is_none() && image.node(id).is_none() && image.signers() >= NODE_COUNT_MAX {
        let message = format!("There are {NODE_COUNT_MAX} nodes already.");
        return Err(Refusal::new(ErrorCode::POLICY_VIOLATION, message));
    }
    let same = known.map_or(keys.is_empty(), |known| *known == keys);
    Ok(if same { Plan::default() } else { Plan::of([Delta::Keys { node: id, keys }]) })
}
