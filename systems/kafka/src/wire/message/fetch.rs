//! What consumers read, and how they find where to read.

use super::super::blob::Blob;
use super::super::schema::schema;
use super::super::uuid::Uuid;
use super::produce::{LeaderIdAndEpoch, NodeEndpoint};

schema! {
    /// Reads batches from partitions, within a fetch session or without one.
    FetchRequest(4..=18, flexible 12) {
        cluster_id: Option<String> [12..; tag 0],
        replica_id: i32 [..=14] = -1,
        replica_state: FetchReplicaState [15..; tag 1],
        max_wait_ms: i32,
        min_bytes: i32,
        max_bytes: i32 = i32::MAX,
        isolation_level: i8,
        session_id: i32 [7..],
        session_epoch: i32 [7..] = -1,
        topics: Vec<FetchTopic>,
        forgotten_topics_data: Vec<FetchForgottenTopic> [7..],
        rack_id: String [11..],
    }

    /// The `replica_state` of a [`FetchRequest`].
    FetchReplicaState {
        replica_id: i32 = -1,
        replica_epoch: i64 = -1,
    }

    /// One of the `topics` of a [`FetchRequest`].
    FetchTopic {
        topic: String [..=12],
        topic_id: Uuid [13..],
        partitions: Vec<FetchPartition>,
    }

    /// One of the `partitions` of a [`FetchTopic`].
    FetchPartition {
        partition: i32,
        current_leader_epoch: i32 [9..] = -1,
        fetch_offset: i64,
        last_fetched_epoch: i32 [12..] = -1,
        log_start_offset: i64 [5..] = -1,
        partition_max_bytes: i32,
        replica_directory_id: Uuid [17..; tag 0],
        high_watermark: i64 [18..; tag 1] = i64::MAX,
    }

    /// One of the `forgotten_topics_data` of a [`FetchRequest`].
    FetchForgottenTopic {
        topic: String [..=12],
        topic_id: Uuid [13..],
        partitions: Vec<i32>,
    }

    /// The batches, and how far each partition goes.
    FetchResponse(4..=18, flexible 12) {
        throttle_time_ms: i32,
        error_code: i16 [7..],
        session_id: i32 [7..],
        responses: Vec<FetchableTopicResponse>,
        node_endpoints: Vec<NodeEndpoint> [16..; tag 0],
    }

    /// One of the `responses` of a [`FetchResponse`].
    FetchableTopicResponse {
        topic: String [..=12],
        topic_id: Uuid [13..],
        partitions: Vec<FetchPartitionData>,
    }

    /// One of the `partitions` of a [`FetchableTopicResponse`].
    FetchPartitionData {
        partition_index: i32,
        error_code: i16,
        high_watermark: i64,
        last_stable_offset: i64 = -1,
        log_start_offset: i64 [5..] = -1,
        diverging_epoch: FetchEpochEndOffset [12..; tag 0],
        current_leader: LeaderIdAndEpoch [12..; tag 1],
        snapshot_id: FetchSnapshotId [12..; tag 2],
        aborted_transactions: Option<Vec<AbortedTransaction>>,
        preferred_read_replica: i32 [11..] = -1,
        records: Option<Blob>,
    }

    /// The `diverging_epoch` of a [`FetchPartitionData`].
    FetchEpochEndOffset {
        epoch: i32 = -1,
        end_offset: i64 = -1,
    }

    /// The `snapshot_id` of a [`FetchPartitionData`].
    FetchSnapshotId {
        end_offset: i64 = -1,
        epoch: i32 = -1,
    }

    /// One of the `aborted_transactions` of a [`FetchPartitionData`].
    AbortedTransaction {
        producer_id: i64,
        first_offset: i64,
    }

    /// Asks for the offset at a time, at the start or at the end of partitions.
    ListOffsetsRequest(1..=11, flexible 6) {
        replica_id: i32,
        isolation_level: i8 [2..],
        topics: Vec<ListOffsetsTopic>,
        timeout_ms: i32 [10..],
    }

    /// One of the `topics` of a [`ListOffsetsRequest`].
    ListOffsetsTopic {
        name: String,
        partitions: Vec<ListOffsetsPartition>,
    }

    /// One of the `partitions` of a [`ListOffsetsTopic`].
    ListOffsetsPartition {
        partition_index: i32,
        current_leader_epoch: i32 [4..] = -1,
        timestamp: i64,
    }

    /// The offsets found.
    ListOffsetsResponse(1..=11, flexible 6) {
        throttle_time_ms: i32 [2..],
        topics: Vec<ListOffsetsTopicResponse>,
    }

    /// One of the `topics` of a [`ListOffsetsResponse`].
    ListOffsetsTopicResponse {
        name: String,
        partitions: Vec<ListOffsetsPartitionResponse>,
    }

    /// One of the `partitions` of a [`ListOffsetsTopicResponse`].
    ListOffsetsPartitionResponse {
        partition_index: i32,
        error_code: i16,
        timestamp: i64 = -1,
        offset: i64 = -1,
        leader_epoch: i32 [4..] = -1,
    }

    /// Asks where epochs of leaders ended.
    OffsetForLeaderEpochRequest(2..=4, flexible 4) {
        replica_id: i32 [3..] = -2,
        topics: Vec<OffsetForLeaderTopic>,
    }

    /// One of the `topics` of an [`OffsetForLeaderEpochRequest`].
    OffsetForLeaderTopic {
        topic: String,
        partitions: Vec<OffsetForLeaderPartition>,
    }

    /// One of the `partitions` of an [`OffsetForLeaderTopic`].
    OffsetForLeaderPartition {
        partition: i32,
        current_leader_epoch: i32 = -1,
        leader_epoch: i32,
    }

    /// Where they ended.
    OffsetForLeaderEpochResponse(2..=4, flexible 4) {
        throttle_time_ms: i32,
        topics: Vec<OffsetForLeaderTopicResult>,
    }

    /// One of the `topics` of an [`OffsetForLeaderEpochResponse`].
    OffsetForLeaderTopicResult {
        topic: String,
        partitions: Vec<EpochEndOffset>,
    }

    /// One of the `partitions` of an [`OffsetForLeaderTopicResult`].
    EpochEndOffset {
        error_code: i16,
        partition: i32,
        leader_epoch: i32 = -1,
        end_offset: i64 = -1,
    }
}
