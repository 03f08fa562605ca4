//! Share groups (KIP-932).

use bytes::Bytes;

use super::super::schema::schema;
use super::super::uuid::Uuid;
use super::produce::{LeaderIdAndEpoch, NodeEndpoint};

schema! {
    /// Joins, reports to and leaves a share group.
    ShareGroupHeartbeatRequest(1..=1, flexible 0) {
        group_id: String,
        member_id: String,
        member_epoch: i32,
        rack_id: Option<String>,
        subscribed_topic_names: Option<Vec<String>>,
    }

    /// What the member may read.
    ShareGroupHeartbeatResponse(1..=1, flexible 0) {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String>,
        member_id: Option<String>,
        member_epoch: i32,
        heartbeat_interval_ms: i32,
        assignment: Option<ShareGroupHeartbeatAssignment>,
    }

    /// The `assignment` of a [`ShareGroupHeartbeatResponse`].
    ShareGroupHeartbeatAssignment {
        topic_partitions: Vec<ShareGroupHeartbeatTopicPartitions>,
    }

    /// One of the `topic_partitions` of a [`ShareGroupHeartbeatAssignment`].
    ShareGroupHeartbeatTopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
    }

    /// Asks for the state of share groups.
    ShareGroupDescribeRequest(1..=1, flexible 0) {
        group_ids: Vec<String>,
        include_authorized_operations: bool,
    }

    /// Groups and their members.
    ShareGroupDescribeResponse(1..=1, flexible 0) {
        throttle_time_ms: i32,
        groups: Vec<ShareGroupDescribeGroup>,
    }

    /// One of the `groups` of a [`ShareGroupDescribeResponse`].
    ShareGroupDescribeGroup {
        error_code: i16,
        error_message: Option<String>,
        group_id: String,
        group_state: String,
        group_epoch: i32,
        assignment_epoch: i32,
        assignor_name: String,
        members: Vec<ShareGroupDescribeMember>,
        authorized_operations: i32 = i32::MIN,
    }

    /// One of the `members` of a [`ShareGroupDescribeGroup`].
    ShareGroupDescribeMember {
        member_id: String,
        rack_id: Option<String>,
        member_epoch: i32,
        client_id: String,
        client_host: String,
        subscribed_topic_names: Vec<String>,
        assignment: ShareGroupDescribeAssignment,
    }

    /// The `assignment` of a [`ShareGroupDescribeMember`].
    ShareGroupDescribeAssignment {
        topic_partitions: Vec<ShareGroupDescribeTopicPartitions>,
    }

    /// One of the `topic_partitions` of a [`ShareGroupDescribeAssignment`].
    ShareGroupDescribeTopicPartitions {
        topic_id: Uuid,
        topic_name: String,
        partitions: Vec<i32>,
    }

    /// Acquires records for a share group, and settles earlier ones.
    ShareFetchRequest(1..=2, flexible 0) {
        group_id: Option<String>,
        member_id: Option<String>,
        share_session_epoch: i32,
        max_wait_ms: i32,
        min_bytes: i32,
        max_bytes: i32 = i32::MAX,
        max_records: i32,
        batch_size: i32,
        share_acquire_mode: i8 [2..],
        is_renew_ack: bool [2..],
        topics: Vec<ShareFetchTopic>,
        forgotten_topics_data: Vec<ShareFetchForgottenTopic>,
    }

    /// One of the `topics` of a [`ShareFetchRequest`].
    ShareFetchTopic {
        topic_id: Uuid,
        partitions: Vec<ShareFetchPartition>,
    }

    /// One of the `partitions` of a [`ShareFetchTopic`].
    ShareFetchPartition {
        partition_index: i32,
        acknowledgement_batches: Vec<AcknowledgementBatch>,
    }

    /// What became of a run of acquired records.
    AcknowledgementBatch {
        first_offset: i64,
        last_offset: i64,
        acknowledge_types: Vec<i8>,
    }

    /// One of the `forgotten_topics_data` of a [`ShareFetchRequest`].
    ShareFetchForgottenTopic {
        topic_id: Uuid,
        partitions: Vec<i32>,
    }

    /// The records acquired.
    ShareFetchResponse(1..=2, flexible 0) {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String>,
        acquisition_lock_timeout_ms: i32,
        responses: Vec<ShareFetchableTopicResponse>,
        node_endpoints: Vec<NodeEndpoint>,
    }

    /// One of the `responses` of a [`ShareFetchResponse`].
    ShareFetchableTopicResponse {
        topic_id: Uuid,
        partitions: Vec<ShareFetchPartitionData>,
    }

    /// One of the `partitions` of a [`ShareFetchableTopicResponse`].
    ShareFetchPartitionData {
        partition_index: i32,
        error_code: i16,
        error_message: Option<String>,
        acknowledge_error_code: i16,
        acknowledge_error_message: Option<String>,
        current_leader: LeaderIdAndEpoch,
        records: Option<Bytes>,
        acquired_records: Vec<AcquiredRecords>,
    }

    /// One of the `acquired_records` of a [`ShareFetchPartitionData`].
    AcquiredRecords {
        first_offset: i64,
        last_offset: i64,
        delivery_count: i16,
    }

    /// Settles acquired records.
    ShareAcknowledgeRequest(1..=2, flexible 0) {
        group_id: Option<String>,
        member_id: Option<String>,
        share_session_epoch: i32,
        is_renew_ack: bool [2..],
        topics: Vec<AcknowledgeTopic>,
    }

    /// One of the `topics` of a [`ShareAcknowledgeRequest`].
    AcknowledgeTopic {
        topic_id: Uuid,
        partitions: Vec<AcknowledgePartition>,
    }

    /// One of the `partitions` of an [`AcknowledgeTopic`].
    AcknowledgePartition {
        partition_index: i32,
        acknowledgement_batches: Vec<AcknowledgementBatch>,
    }

    /// Which were settled.
    ShareAcknowledgeResponse(1..=2, flexible 0) {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String>,
        acquisition_lock_timeout_ms: i32 [2..],
        responses: Vec<ShareAcknowledgeTopicResponse>,
        node_endpoints: Vec<NodeEndpoint>,
    }

    /// One of the `responses` of a [`ShareAcknowledgeResponse`].
    ShareAcknowledgeTopicResponse {
        topic_id: Uuid,
        partitions: Vec<ShareAcknowledgePartitionData>,
    }

    /// One of the `partitions` of a [`ShareAcknowledgeTopicResponse`].
    ShareAcknowledgePartitionData {
        partition_index: i32,
        error_code: i16,
        error_message: Option<String>,
        current_leader: LeaderIdAndEpoch,
    }

    /// Asks where share groups start.
    DescribeShareGroupOffsetsRequest(0..=1, flexible 0) {
        groups: Vec<DescribeShareGroupOffsetsRequestGroup>,
    }

    /// One of the `groups` of a [`DescribeShareGroupOffsetsRequest`].
    DescribeShareGroupOffsetsRequestGroup {
        group_id: String,
        topics: Option<Vec<DescribeShareGroupOffsetsRequestTopic>>,
    }

    /// One of the `topics` of a [`DescribeShareGroupOffsetsRequestGroup`].
    DescribeShareGroupOffsetsRequestTopic {
        topic_name: String,
        partitions: Vec<i32>,
    }

    /// Their start offsets.
    DescribeShareGroupOffsetsResponse(0..=1, flexible 0) {
        throttle_time_ms: i32,
        groups: Vec<DescribeShareGroupOffsetsResponseGroup>,
    }

    /// One of the `groups` of a [`DescribeShareGroupOffsetsResponse`].
    DescribeShareGroupOffsetsResponseGroup {
        group_id: String,
        topics: Vec<DescribeShareGroupOffsetsResponseTopic>,
        error_code: i16,
        error_message: Option<String>,
    }

    /// One of the `topics` of a [`DescribeShareGroupOffsetsResponseGroup`].
    DescribeShareGroupOffsetsResponseTopic {
        topic_name: String,
        topic_id: Uuid,
        partitions: Vec<DescribeShareGroupOffsetsResponsePartition>,
    }

    /// One of the `partitions` of a [`DescribeShareGroupOffsetsResponseTopic`].
    DescribeShareGroupOffsetsResponsePartition {
        partition_index: i32,
        start_offset: i64,
        leader_epoch: i32,
        lag: i64 [1..] = -1,
        error_code: i16,
        error_message: Option<String>,
    }

    /// Sets where a share group starts.
    AlterShareGroupOffsetsRequest(0..=0, flexible 0) {
        group_id: String,
        topics: Vec<AlterShareGroupOffsetsRequestTopic>,
    }

    /// One of the `topics` of an [`AlterShareGroupOffsetsRequest`].
    AlterShareGroupOffsetsRequestTopic {
        topic_name: String,
        partitions: Vec<AlterShareGroupOffsetsRequestPartition>,
    }

    /// One of the `partitions` of an [`AlterShareGroupOffsetsRequestTopic`].
    AlterShareGroupOffsetsRequestPartition {
        partition_index: i32,
        start_offset: i64,
    }

    /// Which offsets were set.
    AlterShareGroupOffsetsResponse(0..=0, flexible 0) {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String>,
        responses: Vec<AlterShareGroupOffsetsResponseTopic>,
    }

    /// One of the `responses` of an [`AlterShareGroupOffsetsResponse`].
    AlterShareGroupOffsetsResponseTopic {
        topic_name: String,
        topic_id: Uuid,
        partitions: Vec<AlterShareGroupOffsetsResponsePartition>,
    }

    /// One of the `partitions` of an [`AlterShareGroupOffsetsResponseTopic`].
    AlterShareGroupOffsetsResponsePartition {
        partition_index: i32,
        error_code: i16,
        error_message: Option<String>,
    }

    /// Forgets where a share group starts.
    DeleteShareGroupOffsetsRequest(0..=0, flexible 0) {
        group_id: String,
        topics: Vec<DeleteShareGroupOffsetsRequestTopic>,
    }

    /// One of the `topics` of a [`DeleteShareGroupOffsetsRequest`].
    DeleteShareGroupOffsetsRequestTopic {
        topic_name: String,
    }

    /// Which were forgotten.
    DeleteShareGroupOffsetsResponse(0..=0, flexible 0) {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String>,
        responses: Vec<DeleteShareGroupOffsetsResponseTopic>,
    }

    /// One of the `responses` of a [`DeleteShareGroupOffsetsResponse`].
    DeleteShareGroupOffsetsResponseTopic {
        topic_name: String,
        topic_id: Uuid,
        error_code: i16,
        error_message: Option<String>,
    }
}
