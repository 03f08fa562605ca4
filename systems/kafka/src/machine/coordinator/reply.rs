//! What commands are answered with.

use bytes::Bytes;

use super::command::IdPartitions;
use crate::machine::codec::{self, CodeError, choice, record};
use crate::wire::ErrorCode;

record! {
    /// A member, as the leader of a generation is told of it.
    pub struct JoinMember {
        /// Its id.
        pub member_id: String,
        /// Of a static member.
        pub instance_id: Option<String>,
        /// What it offered under the protocol that was chosen.
        pub metadata: Bytes,
    }
}

record! {
    /// What came of a join.
    pub struct JoinResult {
        /// The other fields count if there is none, but for `member_id`.
        pub error: ErrorCode,
        /// -1 with an error.
        pub generation: i32,
        /// Such as `consumer`.
        pub protocol_type: Option<String>,
        /// The protocol that was chosen.
        pub protocol: Option<String>,
        /// The leader's member id.
        pub leader: String,
        /// KIP-814.
        pub skip_assignment: bool,
        /// The member's own id; also with `MEMBER_ID_REQUIRED`.
        pub member_id: String,
        /// All members, for the leader.
        pub members: Vec<JoinMember>,
    }
}

impl JoinResult {
    /// A refusal.
    #[must_use]
    pub fn error(error: ErrorCode, member_id: &str) -> Self {
        Self {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

record! {
    /// What came of a sync.
    pub struct SyncResult {
        /// The other fields count if there is none.
        pub error: ErrorCode,
        /// Such as `consumer`.
        pub protocol_type: Option<String>,
        /// The protocol that was chosen.
        pub protocol: Option<String>,
        /// The member's assignment.
        pub assignment: Bytes,
    }
}

impl SyncResult {
    /// A refusal.
    #[must_use]
    pub fn error(error: ErrorCode) -> Self {
        Self { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

record! {
    /// A member's part of the answer to a leave.
    pub struct Left {
        /// As in the request.
        pub member_id: String,
        /// As in the request.
        pub instance_id: Option<String>,
        /// What came of it.
        pub error: ErrorCode,
    }
}

record! {
    /// An error for each partition of a topic, in the order of the request.
    pub struct TopicErrors {
        /// The topic's name.
        pub topic: String,
        /// Partition and error.
        pub partitions: Vec<(i32, ErrorCode)>,
    }
}

record! {
    /// What a member of a consumer group is told.
    pub struct ConsumerReply {
        /// The other fields count if there is none.
        pub error: ErrorCode,
        /// The member's id.
        pub member_id: String,
        /// The epoch to heartbeat with.
        pub member_epoch: i32,
        /// How often to heartbeat.
        pub heartbeat_interval_ms: u32,
        /// What to own; absent if it is as the member knows it.
        pub assignment: Option<Vec<IdPartitions>>,
    }
}

impl ConsumerReply {
    /// A refusal.
    #[must_use]
    pub fn error(error: ErrorCode) -> Self {
        Self { error, member_id: String::new(), member_epoch: 0, heartbeat_interval_ms: 0, assignment: None }
    }
}

record! {
    /// Records that are a member's for a while.
    #[derive(Copy)]
    pub struct AcquiredRecords {
        /// The first offset.
        pub first: i64,
        /// The last.
        pub last: i64,
        /// How often they were delivered, this time included.
        pub count: u16,
    }
}

choice! {
    /// An answer.
    pub enum Reply {
        /// The command was not understood, or concerns nobody; also what commands are answered with that have no answer.
        Error {
            /// Zero if all is well.
            error: ErrorCode,
        } = 1,
        /// The rebalance goes on. The answer comes as a [`super::GroupEvent`] with this number.
        Wait {
            /// What to wait for.
            ticket: u64,
        } = 2,
        /// JoinGroup's answer.
        Join {
            /// The answer.
            result: JoinResult,
        } = 3,
        /// SyncGroup's answer.
        Sync {
            /// The answer.
            result: SyncResult,
        } = 4,
        /// LeaveGroup's answer.
        Leave {
            /// Of each member.
            members: Vec<Left>,
        } = 5,
        /// DeleteGroups' answer.
        DeleteGroups {
            /// Of each group.
            groups: Vec<(String, ErrorCode)>,
        } = 6,
        /// Answer to commits, deletions of offsets and additions to a transaction.
        Topics {
            /// An error that concerns the whole request; then the others are absent.
            error: ErrorCode,
            /// Of each partition.
            topics: Vec<TopicErrors>,
            /// Of a transaction, its number, which markers carry; otherwise 0.
            number: u64,
        } = 7,
        /// ConsumerGroupHeartbeat's answer.
        Consumer {
            /// The answer.
            reply: ConsumerReply,
        } = 8,
        /// InitProducerId's and EndTxn's answer.
        Producer {
            /// The other fields count if there is none.
            error: ErrorCode,
            /// The id to go on with.
            producer_id: i64,
            /// The epoch to go on with.
            producer_epoch: i16,
        } = 9,
        /// What was acquired.
        Acquired {
            /// The other fields count if there is none.
            error: ErrorCode,
            /// In the order of their offsets.
            records: Vec<AcquiredRecords>,
            /// There is more to look at behind what was skipped.
            skipped: bool,
        } = 10,
    }
}

impl Reply {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        codec::encode(self)
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`CodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CodeError> {
        codec::decode(bytes)
    }

    pub(super) fn producer_error(error: ErrorCode) -> Self {
        Self::Producer { error, producer_id: -1, producer_epoch: -1 }
    }

    pub(super) fn topics_error(error: ErrorCode) -> Self {
        Self::Topics { error, topics: Vec::new(), number: 0 }
    }
}
