//! What a replica tells operators about its groups.

use verity_contract::{AgreementStatus, GroupRole};
use verity_types::{Digest, GroupId, LogIndex, NodeId};

/// One group, as this node sees it.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// This node's standing.
    pub role: GroupRole,
    /// The engine's view.
    pub agreement: AgreementStatus,
    /// The last applied index.
    pub applied: LogIndex,
    /// The state machine's fingerprint at `applied`.
    pub digest: Digest,
    /// Bytes of memory that the state holds, roughly.
    pub state_bytes: u64,
    /// The last snapshot on stable storage; 0 for none.
    pub snapshot: LogIndex,
    /// This node's commands that are not applied yet.
    pub waiting: usize,
    /// How far each node's lane is applied.
    pub lanes: Vec<LaneStatus>,
}

/// How far one node's commands to a group are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneStatus {
    /// The node.
    pub origin: NodeId,
    /// Its start count.
    pub incarnation: u64,
    /// The last sequence number applied.
    pub applied: u64,
}
