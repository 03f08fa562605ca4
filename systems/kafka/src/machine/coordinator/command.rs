//! What is placed in the coordinator's order. Format: [`crate::machine::codec`].
//!
//! A proposer draws what is random (member ids) and looks up what other machines know (topic ids, partition counts);
//! everything else is decided when the command is applied.

use bytes::Bytes;

use super::config::CoordinatorConfig;
use crate::machine::codec::{self, CodeError, choice, record};
use crate::wire::Uuid;

record! {
    /// A protocol that a member offers, in the order of its preference.
    pub struct Protocol {
        /// Its name.
        pub name: String,
        /// What the member tells the leader under it.
        pub metadata: Bytes,
    }
}

record! {
    /// Joins a classic group.
    pub struct Join {
        /// Which group.
        pub group_id: String,
        /// Empty for a member that has none yet.
        pub member_id: String,
        /// The id that such a member gets: `<client id or instance id>-<uuid>`.
        pub new_member_id: String,
        /// Of a static member.
        pub instance_id: Option<String>,
        /// As the request's header says.
        pub client_id: String,
        /// Where it came from: `/` and an address.
        pub client_host: String,
        /// Such as `consumer`.
        pub protocol_type: String,
        /// At least one.
        pub protocols: Vec<Protocol>,
        /// After so long without a sign the member is gone.
        pub session_timeout_ms: i32,
        /// So long the others wait for it; -1 (version 0) for the session timeout.
        pub rebalance_timeout_ms: i32,
        /// KIP-394, version 4 and up: a dynamic member first gets its id, then joins with it.
        pub member_id_required: bool,
        /// KIP-814, version 9 and up: the leader understands that it need not assign.
        pub skip_assignment: bool,
    }
}

record! {
    /// Names a member of a classic group.
    pub struct MemberName {
        /// Empty if only the instance is known.
        pub member_id: String,
        /// Of a static member.
        pub instance_id: Option<String>,
    }
}

record! {
    /// Asks for the assignment of a generation; the leader brings all of them.
    pub struct Sync {
        /// Which group.
        pub group_id: String,
        /// The generation that the member has joined.
        pub generation: i32,
        /// Who asks.
        pub member: MemberName,
        /// Version 5 and up.
        pub protocol_type: Option<String>,
        /// Version 5 and up.
        pub protocol: Option<String>,
        /// By member id; only the leader's count.
        pub assignments: Vec<(String, Bytes)>,
    }
}

record! {
    /// A partition's committed offset, as a client brings it.
    pub struct OffsetRow {
        /// The partition.
        pub partition: i32,
        /// The offset of the record that is read next.
        pub offset: i64,
        /// -1 if it is not known.
        pub leader_epoch: i32,
        /// Anything.
        pub metadata: String,
    }
}

record! {
    /// The offsets of a topic.
    pub struct TopicOffsets {
        /// Its name.
        pub topic: String,
        /// Its id, if it is known.
        pub topic_id: Uuid,
        /// Its partitions.
        pub partitions: Vec<OffsetRow>,
    }
}

record! {
    /// Partitions of a topic.
    pub struct TopicPartitions {
        /// Its name.
        pub topic: String,
        /// Which.
        pub partitions: Vec<i32>,
    }
}

record! {
    /// Partitions of a topic that is known by its id.
    pub struct IdPartitions {
        /// Its id.
        pub topic_id: Uuid,
        /// Which.
        pub partitions: Vec<i32>,
    }
}

record! {
    /// Commits offsets.
    pub struct CommitOffsets {
        /// Which group.
        pub group_id: String,
        /// The generation, or the member epoch; -1 for a consumer that is no member.
        pub generation: i32,
        /// Who commits.
        pub member: MemberName,
        /// False below version 9, which members of consumer groups may not use.
        pub knows_epochs: bool,
        /// Of versions 2 to 4: how long the offsets are kept; -1 for the coordinator's retention.
        pub retention_ms: i64,
        /// The offsets.
        pub topics: Vec<TopicOffsets>,
    }
}

record! {
    /// Who writes within a transaction.
    pub struct TransactionName {
        /// The id that survives restarts.
        pub transactional_id: String,
        /// The number that it stands for.
        pub producer_id: i64,
        /// Which of its lives.
        pub producer_epoch: i16,
    }
}

record! {
    /// Commits offsets when the transaction commits.
    pub struct CommitTransactionOffsets {
        /// Within which transaction.
        pub transaction: TransactionName,
        /// Which group.
        pub group_id: String,
        /// -1 below version 3.
        pub generation: i32,
        /// Empty below version 3.
        pub member: MemberName,
        /// KIP-890, version 5 and up: the group becomes part of the transaction by this.
        pub implicit: bool,
        /// The offsets.
        pub topics: Vec<TopicOffsets>,
    }
}

record! {
    /// What the proposer knows of a topic.
    pub struct TopicInfo {
        /// Its name.
        pub name: String,
        /// Its id.
        pub id: Uuid,
        /// How many partitions it has; 0 if there is no such topic.
        pub partitions: i32,
    }
}

record! {
    /// What a member of a consumer group says of itself (KIP-848). `None`: as before.
    pub struct ConsumerHeartbeat {
        /// Which group.
        pub group_id: String,
        /// Made by the client, or by the proposer for version 0.
        pub member_id: String,
        /// 0 joins, -1 leaves, -2 leaves for a while (a static member).
        pub member_epoch: i32,
        /// Of a static member.
        pub instance_id: Option<String>,
        /// Where it is.
        pub rack_id: Option<String>,
        /// As the request's header says.
        pub client_id: String,
        /// Where it came from.
        pub client_host: String,
        /// -1: as before.
        pub rebalance_timeout_ms: i32,
        /// The topics by name.
        pub subscribed_names: Option<Vec<String>>,
        /// The topics by pattern; empty for none any more.
        pub subscribed_regex: Option<String>,
        /// What the member's pattern matches as of `metadata_version`, resolved by the proposer.
        pub resolved: Option<Vec<String>>,
        /// `uniform` or `range`.
        pub assignor: Option<String>,
        /// What it owns.
        pub owned: Option<Vec<IdPartitions>>,
        /// Counts changes of topics in the cluster; never goes back.
        pub metadata_version: u64,
        /// The topics that the group subscribes to, as of that version. Those not listed stay as they were.
        pub topics: Vec<TopicInfo>,
    }
}

record! {
    /// What a member of a share group says of itself (KIP-932). `None`: as before.
    pub struct ShareHeartbeat {
        /// Which group.
        pub group_id: String,
        /// Made by the client.
        pub member_id: String,
        /// 0 joins, -1 leaves.
        pub member_epoch: i32,
        /// Where it is.
        pub rack_id: Option<String>,
        /// As the request's header says.
        pub client_id: String,
        /// Where it came from.
        pub client_host: String,
        /// The topics by name.
        pub subscribed_names: Option<Vec<String>>,
        /// Counts changes of topics in the cluster; never goes back.
        pub metadata_version: u64,
        /// The topics that the group subscribes to, as of that version. Those not listed stay as they were.
        pub topics: Vec<TopicInfo>,
        /// `share.session.timeout.ms`, as the group has it.
        pub session_timeout_ms: u32,
        /// `share.heartbeat.interval.ms`, as the group has it.
        pub heartbeat_interval_ms: u32,
        /// `group.share.max.size`.
        pub size_max: u32,
    }
}

record! {
    /// A partition as a share group sees it.
    #[derive(PartialOrd, Ord)]
    pub struct ShareName {
        /// Which group.
        pub group_id: String,
        /// Which topic.
        pub topic_id: Uuid,
        /// Which of its partitions.
        pub partition: i32,
    }
}

record! {
    /// How a share group handles records: its configuration, as the proposer knows it.
    pub struct ShareSettings {
        /// `share.record.lock.duration.ms`.
        pub lock_ms: u32,
        /// `share.delivery.count.limit`.
        pub delivery_count_max: u16,
        /// `share.partition.max.record.locks`.
        pub window: u32,
        /// `share.renew.acknowledge.enable`.
        pub renews: bool,
        /// The group has a dead-letter topic (KIP-1191).
        pub dead_letter: bool,
    }
}

record! {
    /// A batch of the log.
    #[derive(Copy)]
    pub struct ShareBatch {
        /// Its first offset.
        pub first: i64,
        /// Its last offset.
        pub last: i64,
        /// False if it has nothing for clients: a control batch, an aborted one, an empty one.
        pub readable: bool,
    }
}

record! {
    /// A share session. No other of any node has the same name, also behind a restart.
    #[derive(Copy, Default)]
    pub struct ShareSession {
        /// The node that keeps it,
        pub node: u64,
        /// as it started then.
        pub incarnation: u64,
        /// Which of its sessions.
        pub number: u64,
    }
}

record! {
    /// Acquires records for a member.
    pub struct ShareAcquire {
        /// Of which partition.
        pub share: ShareName,
        /// For whom.
        pub member_id: String,
        /// Through which session.
        pub session: ShareSession,
        /// The state's epoch as of which the proposer has read.
        pub epoch: i32,
        /// The partition leader's epoch.
        pub leader_epoch: i32,
        /// Where the log begins.
        pub log_start: i64,
        /// What the log has from the first offset on that may be acquired, in order.
        pub batches: Vec<ShareBatch>,
        /// So many records.
        pub count_max: u32,
        /// And not one more (KIP-1206); otherwise batches are taken as a whole.
        pub exact: bool,
        /// The group's configuration.
        pub settings: ShareSettings,
    }
}

record! {
    /// What a member says of records.
    pub struct Acknowledgement {
        /// The first offset.
        pub first: i64,
        /// The last.
        pub last: i64,
        /// One for all, or one for each.
        pub types: Vec<i8>,
    }
}

choice! {
    /// A command.
    pub enum Command {
        /// JoinGroup.
        Join {
            /// The request.
            request: Join,
        } = 1,
        /// SyncGroup.
        Sync {
            /// The request.
            request: Sync,
        } = 2,
        /// Heartbeat, in its place in the order. Sessions need it only where a [`super::Query::Heartbeat`] may be stale.
        Heartbeat {
            /// Which group.
            group_id: String,
            /// The member's generation.
            generation: i32,
            /// Who.
            member: MemberName,
        } = 3,
        /// LeaveGroup.
        Leave {
            /// Which group.
            group_id: String,
            /// Who leaves.
            members: Vec<MemberName>,
        } = 4,
        /// DeleteGroups.
        DeleteGroups {
            /// Which.
            group_ids: Vec<String>,
        } = 5,
        /// OffsetCommit.
        CommitOffsets {
            /// The request.
            request: CommitOffsets,
        } = 6,
        /// OffsetDelete.
        DeleteOffsets {
            /// Which group.
            group_id: String,
            /// Which offsets.
            topics: Vec<TopicPartitions>,
        } = 7,
        /// Topics were deleted: their offsets go. That they need no markers is said by whoever finds them gone
        /// ([`Command::MarkersWritten`]): a transaction knows topics by name, and one of that name may have been made anew.
        TopicsDeleted {
            /// Name and id; an id of zero stands for any.
            topics: Vec<(String, Uuid)>,
        } = 8,
        /// ConsumerGroupHeartbeat.
        ConsumerHeartbeat {
            /// The request.
            request: ConsumerHeartbeat,
        } = 9,
        /// InitProducerId.
        InitProducerId {
            /// Absent for a producer that is idempotent only.
            transactional_id: Option<String>,
            /// How long a transaction may stay open.
            timeout_ms: i32,
            /// The id that the producer has; -1 for none.
            producer_id: i64,
            /// Its epoch; -1 for none.
            producer_epoch: i16,
        } = 10,
        /// AddPartitionsToTxn, or a Produce of a transaction v2.
        AddPartitions {
            /// Which transaction.
            transaction: TransactionName,
            /// Which partitions.
            topics: Vec<TopicPartitions>,
        } = 11,
        /// AddOffsetsToTxn.
        AddOffsets {
            /// Which transaction.
            transaction: TransactionName,
            /// Which group.
            group_id: String,
        } = 12,
        /// TxnOffsetCommit.
        CommitTransactionOffsets {
            /// The request.
            request: CommitTransactionOffsets,
        } = 13,
        /// EndTxn.
        EndTransaction {
            /// Which transaction.
            transaction: TransactionName,
            /// Commit or abort.
            commit: bool,
            /// KIP-890, version 5 and up: the epoch rises with every end.
            bump_epoch: bool,
        } = 14,
        /// Partitions have their markers.
        MarkersWritten {
            /// The producer id and epoch of the markers.
            transaction: TransactionName,
            /// The transaction's number, as the request for markers said.
            number: u64,
            /// Those that have it, or are gone.
            topics: Vec<TopicPartitions>,
        } = 15,
        /// A member was not heard of for its session timeout.
        ExpireMember {
            /// Of which group.
            group_id: String,
            /// Who.
            member_id: String,
        } = 16,
        /// Does everything whose time has come by the entry's stamp.
        Tick = 17,
        /// A node has begun to lead the coordinator's group.
        Lead {
            /// What it was started with.
            config: CoordinatorConfig,
        } = 18,
        /// ShareGroupHeartbeat.
        ShareHeartbeat {
            /// The request.
            request: ShareHeartbeat,
        } = 19,
        /// A share group reads a partition from here on, unless it does so already.
        BeginShare {
            /// Which.
            share: ShareName,
            /// The first offset.
            start: i64,
            /// The group's configuration.
            settings: ShareSettings,
        } = 20,
        /// A part of ShareFetch.
        AcquireShare {
            /// The request.
            request: ShareAcquire,
        } = 21,
        /// ShareAcknowledge, or a part of ShareFetch: all of it is done, or nothing.
        AcknowledgeShare {
            /// Of which partition.
            share: ShareName,
            /// Whose records.
            member_id: String,
            /// In which session it is said: what is renewed is held through that.
            session: ShareSession,
            /// What became of them.
            batches: Vec<Acknowledgement>,
            /// The group's configuration.
            settings: ShareSettings,
        } = 22,
        /// The session has ended through which a member has acquired records of these partitions.
        ReleaseShares {
            /// Of which group.
            group_id: String,
            /// Whose.
            member_id: String,
            /// Which.
            session: ShareSession,
            /// Topic and partition.
            partitions: Vec<(Uuid, i32)>,
        } = 23,
        /// Dead records are in the dead-letter topic, or will never be.
        Buried {
            /// Of which partition.
            share: ShareName,
            /// The state's epoch.
            epoch: i32,
            /// First and last offsets.
            ranges: Vec<(i64, i64)>,
        } = 24,
        /// AlterShareGroupOffsets.
        SeekShares {
            /// Of which group.
            group_id: String,
            /// Topic, partition and offset.
            offsets: Vec<(Uuid, (i32, i64))>,
        } = 25,
        /// DeleteShareGroupOffsets.
        DeleteShares {
            /// Of which group.
            group_id: String,
            /// Of these topics.
            topic_ids: Vec<Uuid>,
        } = 26,
    }
}

impl Command {
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
