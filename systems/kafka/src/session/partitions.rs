//! Which group a client means by a topic and a partition, and whether this node may answer for it.
//!
//! - upon a topic that is not there: UNKNOWN_TOPIC_OR_PARTITION, or UNKNOWN_TOPIC_ID if it was named by its id;
//! - upon a partition that this node does not lead: NOT_LEADER_OR_FOLLOWER, with whoever leads it;
//! - upon an epoch older than the leader's: FENCED_LEADER_EPOCH; upon a newer one: UNKNOWN_LEADER_EPOCH.
//!
//! Deliberately absent: what is done there.

use verity_types::GroupId;

use super::call::Call;
use super::metadata::endpoint;
use super::node::{State, epoch_of};
use crate::machine::cluster::{NO_LEADER, Topic};
use crate::wire::message::{LeaderIdAndEpoch, NodeEndpoint};
use crate::wire::{ErrorCode, Uuid};

/// A partition that this node hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) group: GroupId,
    /// The epoch of its leader, as this node knows it.
    pub(super) epoch: i32,
    pub(super) leads: bool,
}

/// Why this node does not answer for a partition.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Elsewhere {
    pub(super) error: ErrorCode,
    /// Who leads it, where that is the reason.
    pub(super) leader: LeaderIdAndEpoch,
}

impl From<ErrorCode> for Elsewhere {
    fn from(error: ErrorCode) -> Self {
        Self { error, leader: LeaderIdAndEpoch::default() }
    }
}

/// A topic by its name, or by its id if it has one.
pub(super) fn topic<'s>(state: &'s State, name: &str, id: Uuid) -> Result<&'s Topic, ErrorCode> {
    if id.is_zero() {
        state.image.topic(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    } else {
        state.image.topic_by_id(id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
    }
}

/// A partition, if this node hosts it and the client knows of no other epoch than its leader's; -1 knows of none.
pub(super) fn place(state: &State, topic: &Topic, index: i32, known_epoch: i32) -> Result<Place, Elsewhere> {
    let partition = topic.partition(index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let (leader_id, leader_epoch) = state.leader(partition);
    let leader = LeaderIdAndEpoch { leader_id, leader_epoch };
    let refuse = |error| Err(Elsewhere { error, leader: leader.clone() });
    if known_epoch != -1 && known_epoch < leader_epoch {
        return refuse(ErrorCode::FENCED_LEADER_EPOCH);
    }
    if known_epoch > leader_epoch {
        return refuse(ErrorCode::UNKNOWN_LEADER_EPOCH);
    }
    match state.role(partition.group) {
        None => refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        Some(role) => {
            Ok(Place { group: GroupId(partition.group), epoch: epoch_of(&role).max(leader_epoch), leads: role.leads })
        }
    }
}

/// The same, if this node leads it.
pub(super) fn led(state: &State, topic: &Topic, index: i32, known_epoch: i32) -> Result<Place, Elsewhere> {
    let place = place(state, topic, index, known_epoch)?;
    if place.leads {
        return Ok(place);
    }
    let partition = topic.partition(index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let (leader_id, leader_epoch) = state.leader(partition);
    Err(Elsewhere { error: ErrorCode::NOT_LEADER_OR_FOLLOWER, leader: LeaderIdAndEpoch { leader_id, leader_epoch } })
}

/// Where the leaders are met that an answer names.
pub(super) fn endpoints<'a>(
    state: &State,
    call: &Call,
    leaders: impl Iterator<Item = &'a LeaderIdAndEpoch>,
) -> Vec<NodeEndpoint> {
    let mut ids: Vec<i32> = leaders.map(|leader| leader.leader_id).filter(|id| *id != NO_LEADER).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().filter_map(|id| endpoint(state, call, id)).collect()
}
