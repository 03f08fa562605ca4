//! What is asked about the state, and answered without an order.
//!
//! An answer is as fresh as the replica that gives it. Errors that would throw a client out (an unknown member, an old
//! generation) are to be believed from a linearizable read only.

use bytes::Bytes;

use super::command::{ConsumerHeartbeat, MemberName, ShareHeartbeat, ShareName, TopicPartitions, TransactionName};
use super::config::CoordinatorConfig;
use super::event::TransactionEvent;
use super::reply::{ConsumerReply, JoinResult, SyncResult, TopicErrors};
use crate::machine::codec::{self, CodeError, choice, record};
use crate::wire::{ErrorCode, Uuid};

/// The most rows of one answer that comes in parts.
pub const ROWS_MAX: u32 = 4_096;

record! {
    /// Partitions of a topic whose offsets are wanted.
    pub struct FetchTopic {
        /// Its name.
        pub topic: String,
        /// Its id, if it is known.
        pub topic_id: Uuid,
        /// Which.
        pub partitions: Vec<i32>,
    }
}

record! {
    /// An offset that was asked for.
    pub struct FetchedOffset {
        /// The partition.
        pub partition: i32,
        /// -1 if there is none.
        pub offset: i64,
        /// -1 if it is not known.
        pub leader_epoch: i32,
        /// As it was committed.
        pub metadata: String,
        /// `UNSTABLE_OFFSET_COMMIT`, or none.
        pub error: ErrorCode,
    }
}

record! {
    /// The offsets of a topic.
    pub struct FetchedTopic {
        /// Its name.
        pub topic: String,
        /// Its id: as asked for, or as it was committed.
        pub topic_id: Uuid,
        /// Of each partition.
        pub partitions: Vec<FetchedOffset>,
    }
}

record! {
    /// A member of a classic group.
    pub struct ClassicMemberRow {
        /// Its id.
        pub member_id: String,
        /// Of a static member.
        pub instance_id: Option<String>,
        /// The client's name of itself.
        pub client_id: String,
        /// Where it is.
        pub client_host: String,
        /// Under the chosen protocol, in a stable group.
        pub metadata: Bytes,
        /// In a stable group.
        pub assignment: Bytes,
    }
}

record! {
    /// A classic group. One that does not exist is `Dead`.
    pub struct ClassicRow {
        /// `GROUP_ID_NOT_FOUND`, or none. Below version 6 clients are told no error, but the state.
        pub error: ErrorCode,
        /// Its id.
        pub group_id: String,
        /// Kafka's name of its state.
        pub state: String,
        /// Such as `consumer`; or empty.
        pub protocol_type: String,
        /// The chosen protocol, in a stable group.
        pub protocol: String,
        /// Everybody.
        pub members: Vec<ClassicMemberRow>,
    }
}

record! {
    /// Partitions, with all that is known of their topic.
    pub struct NamedPartitions {
        /// The topic's id.
        pub topic_id: Uuid,
        /// Its name.
        pub topic: String,
        /// Which.
        pub partitions: Vec<i32>,
    }
}

record! {
    /// A member of a consumer group.
    pub struct ConsumerMemberRow {
        /// Its id.
        pub member_id: String,
        /// Of a static member.
        pub instance_id: Option<String>,
        /// Where it is.
        pub rack_id: Option<String>,
        /// Its epoch.
        pub member_epoch: i32,
        /// The client's name of itself.
        pub client_id: String,
        /// Where it is.
        pub client_host: String,
        /// The topics by name.
        pub subscribed_names: Vec<String>,
        /// The topics by pattern.
        pub subscribed_regex: Option<String>,
        /// What it has.
        pub assignment: Vec<NamedPartitions>,
        /// What it is to have.
        pub target: Vec<NamedPartitions>,
    }
}

record! {
    /// A consumer group.
    pub struct ConsumerRow {
        /// `GROUP_ID_NOT_FOUND`, or none.
        pub error: ErrorCode,
        /// Its id.
        pub group_id: String,
        /// Kafka's name of its state.
        pub state: String,
        /// The group epoch.
        pub epoch: i32,
        /// The epoch of the target assignment.
        pub assignment_epoch: i32,
        /// `uniform` or `range`.
        pub assignor: String,
        /// Everybody.
        pub members: Vec<ConsumerMemberRow>,
    }
}

record! {
    /// A group in a list.
    pub struct GroupRow {
        /// Its id.
        pub group_id: String,
        /// Such as `consumer`; or empty.
        pub protocol_type: String,
        /// Kafka's name of its state.
        pub state: String,
        /// `classic`, `consumer` or `share`.
        pub kind: String,
    }
}

record! {
    /// A group, as its operators count it.
    pub struct SurveyRow {
        /// Its id.
        pub group_id: String,
        /// Kafka's name of its state.
        pub state: String,
        /// How many members it has.
        pub members: u32,
        /// The committed offsets: topic, partition, offset.
        pub offsets: Vec<(String, Vec<(i32, i64)>)>,
    }
}

record! {
    /// A transaction.
    pub struct TransactionRow {
        /// `TRANSACTIONAL_ID_NOT_FOUND`, or none.
        pub error: ErrorCode,
        /// Its id.
        pub transactional_id: String,
        /// Kafka's name of its state.
        pub state: String,
        /// How long it may stay open.
        pub timeout_ms: u32,
        /// When it began; -1 if it is not open.
        pub started: i64,
        /// The producer.
        pub producer_id: i64,
        /// Its epoch.
        pub producer_epoch: i16,
        /// Its partitions. Offsets of groups are not among them.
        pub topics: Vec<TopicPartitions>,
    }
}

record! {
    /// Where a share group stands in a partition.
    #[derive(Copy)]
    pub struct ShareRow {
        /// The topic.
        pub topic_id: Uuid,
        /// The partition.
        pub partition: i32,
        /// The first record that is not settled.
        pub start: i64,
        /// How many behind it are.
        pub settled: i64,
        /// The epoch of the leader that acquired last; -1 for none.
        pub leader_epoch: i32,
    }
}

choice! {
    /// A query.
    pub enum Query {
        /// Heartbeat of a classic group.
        Heartbeat {
            /// Which group.
            group_id: String,
            /// The member's generation.
            generation: i32,
            /// Who.
            member: MemberName,
        } = 1,
        /// ConsumerGroupHeartbeat, if it changes nothing.
        ConsumerHeartbeat {
            /// The request; `topics` and `resolved` do not count.
            request: Box<ConsumerHeartbeat>,
        } = 2,
        /// OffsetFetch.
        FetchOffsets {
            /// Which group.
            group_id: String,
            /// KIP-848: who asks; empty for nobody.
            member_id: String,
            /// Its epoch; -1 for nobody.
            member_epoch: i32,
            /// All of them if absent.
            topics: Option<Vec<FetchTopic>>,
            /// Offsets that wait for a transaction are an error.
            stable: bool,
        } = 3,
        /// DescribeGroups.
        DescribeGroups {
            /// Which.
            group_ids: Vec<String>,
        } = 4,
        /// ConsumerGroupDescribe.
        DescribeConsumerGroups {
            /// Which.
            group_ids: Vec<String>,
        } = 5,
        /// ListGroups.
        ListGroups {
            /// In these states, in whatever case; all if empty.
            states: Vec<String>,
            /// Of these kinds, in whatever case; all if empty.
            kinds: Vec<String>,
        } = 6,
        /// DescribeTransactions.
        DescribeTransactions {
            /// Which.
            transactional_ids: Vec<String>,
        } = 7,
        /// ListTransactions. A pattern of ids is the session's to apply.
        ListTransactions {
            /// In these states; all if empty.
            states: Vec<String>,
            /// Of these producers; all if empty.
            producer_ids: Vec<i64>,
            /// Open for so long; -1 for all.
            duration_ms: i64,
            /// The present time.
            now: u64,
        } = 8,
        /// AddPartitionsToTxn that only verifies; also whether a Produce need add anything.
        VerifyPartitions {
            /// Which transaction.
            transaction: TransactionName,
            /// Which partitions.
            topics: Vec<TopicPartitions>,
        } = 9,
        /// What became of a join or a sync that was told to wait, for a session that has missed events.
        Waiting {
            /// Of which group.
            group_id: String,
            /// Who waits.
            member_id: String,
            /// For what.
            ticket: u64,
            /// True for a sync, false for a join.
            sync: bool,
        } = 10,
        /// The duty's: members to watch over, in the order of their groups and ids.
        Members {
            /// Behind this group and member.
            after: (String, String),
            /// So many.
            count_max: u32,
        } = 11,
        /// The duty's: when a member may be expired.
        Expirable {
            /// Of which group.
            group_id: String,
            /// Who.
            member_id: String,
            /// The present time.
            now: u64,
        } = 12,
        /// The duty's: what is configured, and when something is due.
        Status = 13,
        /// Ends that wait for markers, for a node that has just begun to write them.
        PendingMarkers = 14,
        /// ShareGroupHeartbeat, if it changes nothing.
        ShareHeartbeat {
            /// The request; `topics` do not count.
            request: Box<ShareHeartbeat>,
        } = 15,
        /// ShareGroupDescribe.
        DescribeShareGroups {
            /// Which.
            group_ids: Vec<String>,
        } = 16,
        /// Where there may be records to acquire.
        ShareWindow {
            /// Of which partition.
            share: ShareName,
        } = 17,
        /// DescribeShareGroupOffsets.
        ShareOffsets {
            /// Of which group.
            group_id: String,
        } = 18,
        /// The operators': groups in the order of their ids, with their offsets.
        Survey {
            /// Behind this group; from the first on if empty.
            after: String,
            /// As many groups as hold about so many offsets, and at least one.
            offsets_max: u32,
        } = 19,
    }
}

choice! {
    /// An answer to a query.
    pub enum Answer {
        /// The query was not understood.
        Error {
            /// Why.
            error: ErrorCode,
        } = 1,
        /// To [`Query::Heartbeat`].
        Heartbeat {
            /// None if the member belongs.
            error: ErrorCode,
        } = 2,
        /// To [`Query::ConsumerHeartbeat`]: nothing changes.
        Unchanged {
            /// The answer.
            reply: ConsumerReply,
        } = 3,
        /// To [`Query::ConsumerHeartbeat`]: propose it.
        NeedsCommand {
            /// Whose partition counts the command is to bring.
            topics: Vec<String>,
            /// The member's pattern, to be resolved.
            regex: Option<String>,
        } = 4,
        /// To [`Query::FetchOffsets`].
        Offsets {
            /// An error that concerns the whole request.
            error: ErrorCode,
            /// The offsets.
            topics: Vec<FetchedTopic>,
        } = 5,
        /// To [`Query::DescribeGroups`].
        Groups {
            /// In the order of the query.
            groups: Vec<ClassicRow>,
        } = 6,
        /// To [`Query::DescribeConsumerGroups`] and [`Query::DescribeShareGroups`].
        ConsumerGroups {
            /// In the order of the query. Members of share groups have no instance ids, patterns and targets.
            groups: Vec<ConsumerRow>,
        } = 7,
        /// To [`Query::ListGroups`].
        GroupList {
            /// In the order of their ids.
            groups: Vec<GroupRow>,
        } = 8,
        /// To [`Query::DescribeTransactions`] and [`Query::ListTransactions`].
        Transactions {
            /// In the order of the query, or of their ids.
            rows: Vec<TransactionRow>,
            /// States asked for that there are not.
            unknown_states: Vec<String>,
        } = 9,
        /// To [`Query::VerifyPartitions`].
        Verified {
            /// An error that concerns the whole request.
            error: ErrorCode,
            /// Of each partition.
            topics: Vec<TopicErrors>,
            /// The number of the open transaction; 0 if none is.
            number: u64,
        } = 10,
        /// To [`Query::Waiting`]: not yet.
        StillWaiting = 11,
        /// To [`Query::Waiting`]: the join's answer.
        Joined {
            /// The answer.
            result: JoinResult,
        } = 12,
        /// To [`Query::Waiting`]: the sync's answer.
        Synced {
            /// The answer.
            result: SyncResult,
        } = 13,
        /// To [`Query::Members`].
        Members {
            /// Group, member, and timeout in milliseconds.
            rows: Vec<(String, (String, u32))>,
        } = 14,
        /// To [`Query::Expirable`].
        Expirable {
            /// In so many milliseconds, 0 for now; the greatest number while it waits for an answer. None if it is gone.
            after_ms: Option<u64>,
        } = 15,
        /// To [`Query::Status`].
        Status {
            /// As it is replicated; absent before the first lead.
            config: Option<CoordinatorConfig>,
            /// How often somebody began to lead.
            epoch: i32,
            /// When a tick is due.
            next: Option<u64>,
            /// How many groups there are.
            groups: u64,
            /// How many transactional ids there are.
            transactions: u64,
            /// How many transactions are open or about to end.
            open: u64,
        } = 16,
        /// To [`Query::PendingMarkers`].
        Markers {
            /// As they were put out.
            events: Vec<TransactionEvent>,
        } = 17,
        /// To [`Query::ShareWindow`].
        Window {
            /// False if the group has not begun there; then the rest does not count.
            begun: bool,
            /// The state's epoch.
            epoch: i32,
            /// From where there may be something; absent if members must settle records first.
            next: Option<i64>,
        } = 19,
        /// To [`Query::ShareOffsets`].
        ShareOffsets {
            /// `GROUP_ID_NOT_FOUND`, or none.
            error: ErrorCode,
            /// In the order of topics and partitions.
            rows: Vec<ShareRow>,
        } = 20,
        /// To [`Query::Survey`].
        Surveyed {
            /// Groups; none if there are no more.
            groups: Vec<SurveyRow>,
        } = 21,
    }
}

macro_rules! messages {
    ($($name:ident)*) => {$(
        impl $name {
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
        }
    )*};
}

messages! { Query Answer }
