//! Committed offsets.

use super::super::schema::schema;
use super::super::uuid::Uuid;

schema! {
    /// Commits offsets of a group.
    OffsetCommitRequest(2..=10, flexible 8) {
        group_id: String,
        generation_id_or_member_epoch: i32 = -1,
        member_id: String,
        group_instance_id: Option<String> [7..],
        retention_time_ms: i64 [..=4] = -1,
        topics: Vec<OffsetCommitRequestTopic>,
    }

    /// One of the `topics` of an [`OffsetCommitRequest`].
    OffsetCommitRequestTopic {
        name: String [..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetCommitRequestPartition>,
    }

    /// One of the `partitions` of an [`OffsetCommitRequestTopic`].
    OffsetCommitRequestPartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [6..] = -1,
        committed_metadata: Option<String>,
    }

    /// Which commits were taken.
    OffsetCommitResponse(2..=10, flexible 8) {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetCommitResponseTopic>,
    }

    /// One of the `topics` of an [`OffsetCommitResponse`].
    OffsetCommitResponseTopic {
        name: String [..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetCommitResponsePartition>,
    }

    /// One of the `partitions` of an [`OffsetCommitResponseTopic`].
    OffsetCommitResponsePartition {
        partition_index: i32,
        error_code: i16,
    }

    /// Asks what groups have committed.
    OffsetFetchRequest(1..=10, flexible 6) {
        group_id: String [..=7],
        topics: Option<Vec<OffsetFetchRequestTopic>> [..=7; null 2..],
        groups: Vec<OffsetFetchRequestGroup> [8..],
        require_stable: bool [7..],
    }

    /// One of the `topics` of an [`OffsetFetchRequest`].
    OffsetFetchRequestTopic {
        name: String,
        partition_indexes: Vec<i32>,
    }

    /// One of the `groups` of an [`OffsetFetchRequest`].
    OffsetFetchRequestGroup {
        group_id: String,
        member_id: Option<String> [9..],
        member_epoch: i32 [9..] = -1,
        topics: Option<Vec<OffsetFetchRequestTopics>>,
    }

    /// One of the `topics` of an [`OffsetFetchRequestGroup`].
    OffsetFetchRequestTopics {
        name: String [..=9],
        topic_id: Uuid [10..],
        partition_indexes: Vec<i32>,
    }

    /// The committed offsets.
    OffsetFetchResponse(1..=10, flexible 6) {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetFetchResponseTopic> [..=7],
        error_code: i16 [2..=7],
        groups: Vec<OffsetFetchResponseGroup> [8..],
    }

    /// One of the `topics` of an [`OffsetFetchResponse`].
    OffsetFetchResponseTopic {
        name: String,
        partitions: Vec<OffsetFetchResponsePartition>,
    }

    /// One of the `partitions` of an [`OffsetFetchResponseTopic`].
    OffsetFetchResponsePartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [5..] = -1,
        metadata: Option<String>,
        error_code: i16,
    }

    /// One of the `groups` of an [`OffsetFetchResponse`].
    OffsetFetchResponseGroup {
        group_id: String,
        topics: Vec<OffsetFetchResponseTopics>,
        error_code: i16,
    }

    /// One of the `topics` of an [`OffsetFetchResponseGroup`].
    OffsetFetchResponseTopics {
        name: String [..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetFetchResponsePartitions>,
    }

    /// One of the `partitions` of an [`OffsetFetchResponseTopics`].
    OffsetFetchResponsePartitions {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 = -1,
        metadata: Option<String>,
        error_code: i16,
    }

    /// Deletes committed offsets of a group.
    OffsetDeleteRequest(0..=0) {
        group_id: String,
        topics: Vec<OffsetDeleteRequestTopic>,
    }

    /// One of the `topics` of an [`OffsetDeleteRequest`].
    OffsetDeleteRequestTopic {
        name: String,
        partitions: Vec<OffsetDeleteRequestPartition>,
    }

    /// One of the `partitions` of an [`OffsetDeleteRequestTopic`].
    OffsetDeleteRequestPartition {
        partition_index: i32,
    }

    /// Which were deleted.
    OffsetDeleteResponse(0..=0) {
        error_code: i16,
        throttle_time_ms: i32,
        topics: Vec<OffsetDeleteResponseTopic>,
    }

    /// One of the `topics` of an [`OffsetDeleteResponse`].
    OffsetDeleteResponseTopic {
        name: String,
        partitions: Vec<OffsetDeleteResponsePartition>,
    }

    /// One of the `partitions` of an [`OffsetDeleteResponseTopic`].
    OffsetDeleteResponsePartition {
        partition_index: i32,
        error_code: i16,
    }
}
