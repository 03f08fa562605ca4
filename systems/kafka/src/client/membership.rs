//! What members of a classic group tell each other through the broker, which does not read it: who wants which topics, and
//! who has which partitions.
//!
//! The leader of the group assigns by `range`, as Java's consumer does by default: of each topic everybody has a run of
//! partitions, in the order of the members' ids.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::wire::message::{
    ConsumerProtocolAssignment, ConsumerProtocolAssignmentTopicPartition, ConsumerProtocolSubscription,
};
use crate::wire::{Message as _, Reader, WireError};

/// The version that is written. Every consumer reads it.
const VERSION: i16 = 0;
/// The last that is known; what is newer begins alike.
const VERSION_MAX: i16 = 3;

/// Partitions by topic.
pub type Assignment = BTreeMap<String, BTreeSet<i32>>;

/// The topics that a member wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription(pub Vec<String>);

fn versioned(body: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(2 + body.len());
    out.put_i16(VERSION);
    out.extend_from_slice(body);
    out.freeze()
}

/// The version, and a reader that stands behind it.
fn open(bytes: &Bytes) -> Result<(i16, Reader), WireError> {
    let Some(version) = bytes.first_chunk().map(|chunk| i16::from_be_bytes(*chunk)) else {
        return Err(WireError::UnsupportedVersion { version: -1, min: 0, max: VERSION_MAX });
    };
    Ok((version.min(VERSION_MAX), Reader::new(bytes.slice(2..))))
}

impl Subscription {
    /// For a join.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let body = ConsumerProtocolSubscription { topics: self.0.clone(), ..Default::default() };
        versioned(&body.to_bytes(VERSION))
    }

    /// Out of a member's join.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let (version, mut reader) = open(bytes)?;
        ConsumerProtocolSubscription::decode(&mut reader, version).map(|body| Self(body.topics))
    }
}

/// For a sync.
#[must_use]
pub fn encode_assignment(assignment: &Assignment) -> Bytes {
    let topic = |(topic, partitions): (&String, &BTreeSet<i32>)| ConsumerProtocolAssignmentTopicPartition {
        topic: topic.clone(),
        partitions: partitions.iter().copied().collect(),
    };
    let assigned_partitions = assignment.iter().map(topic).collect();
    versioned(&ConsumerProtocolAssignment { assigned_partitions, ..Default::default() }.to_bytes(VERSION))
}

/// Out of a sync's answer, or a description of a group. Nothing at all is what a member has that has nothing.
///
/// # Errors
/// [`WireError`].
pub fn decode_assignment(bytes: &Bytes) -> Result<Assignment, WireError> {
    if bytes.is_empty() {
        return Ok(Assignment::new());
    }
    let (version, mut reader) = open(bytes)?;
    let body = ConsumerProtocolAssignment::decode(&mut reader, version)?;
    Ok(body.assigned_partitions.into_iter().map(|row| (row.topic, row.partitions.into_iter().collect())).collect())
}

/// What each member is to have; `counts` says how many partitions topics have.
#[must_use]
pub fn assign(
    members: &BTreeMap<String, Subscription>,
    counts: &BTreeMap<String, i32>,
) -> BTreeMap<String, Assignment> {
    let mut all: BTreeMap<String, Assignment> = members.keys().map(|id| (id.clone(), Assignment::new())).collect();
    for (topic, count) in counts {
        let wanting: Vec<&String> =
            members.iter().filter(|(_, wants)| wants.0.contains(topic)).map(|(id, _)| id).collect();
        let Ok(sharers) = i32::try_from(wanting.len()) else { continue };
        let mut next = 0;
        for (id, at) in wanting.into_iter().zip(0..) {
            let share = count / sharers + i32::from(at < count % sharers);
            let run: BTreeSet<i32> = (next..next + share).collect();
            next += share;
            if !run.is_empty() {
                all.entry(id.clone()).or_default().insert(topic.clone(), run);
            }
        }
    }
    all
}
