//! What a node tells the leader's duty without an order: these members were heard of.
//!
//! It may be lost: a member is heard of several times within its timeout. A node whispers for whatever a member sends,
//! heartbeats above all.

use bytes::Bytes;

use crate::machine::codec;

/// The most members of one whisper.
pub const ALIVE_COUNT_MAX: usize = 4_096;

/// Says that members are alive: group and member id of each, [`ALIVE_COUNT_MAX`] at most.
#[must_use]
pub fn alive(members: &[(String, String)]) -> Bytes {
    codec::encode(&members[..members.len().min(ALIVE_COUNT_MAX)].to_vec())
}

/// Reads a whisper; `None` if it is none.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    codec::decode::<Vec<(String, String)>>(bytes).ok().filter(|members| members.len() <= ALIVE_COUNT_MAX)
}
