//! What producers send, and the deletion of what they sent.

use bytes::Bytes;

use super::super::schema::schema;
use super::super::uuid::Uuid;

schema! {
    /// Appends batches to partitions.
    ProduceRequest(3..=13, flexible 9) {
        transactional_id: Option<String>,
        acks: i16,
        timeout_ms: i32,
        topic_data: Vec<TopicProduceData>,
    }

    /// One of the `topic_data` of a [`ProduceRequest`].
    TopicProduceData {
        name: String [..=12],
        topic_id: Uuid [13..],
        partition_data: Vec<PartitionProduceData>,
    }

    /// One of the `partition_data` of a [`TopicProduceData`].
    PartitionProduceData {
        index: i32,
        records: Option<Bytes>,
    }

    /// Where the batches stand now.
    ProduceResponse(3..=13, flexible 9) {
        responses: Vec<TopicProduceResponse>,
        throttle_time_ms: i32,
        node_endpoints: Vec<NodeEndpoint> [10..; tag 0],
    }

    /// One of the `responses` of a [`ProduceResponse`].
    TopicProduceResponse {
        name: String [..=12],
        topic_id: Uuid [13..],
        partition_responses: Vec<PartitionProduceResponse>,
    }

    /// One of the `partition_responses` of a [`TopicProduceResponse`].
    PartitionProduceResponse {
        index: i32,
        error_code: i16,
        base_offset: i64,
        log_append_time_ms: i64 = -1,
        log_start_offset: i64 [5..] = -1,
        record_errors: Vec<BatchIndexAndErrorMessage> [8..],
        error_message: Option<String> [8..],
        current_leader: LeaderIdAndEpoch [10..; tag 0],
    }

    /// One of the `record_errors` of a [`PartitionProduceResponse`].
    BatchIndexAndErrorMessage {
        batch_index: i32,
        batch_index_error_message: Option<String>,
    }

    /// Who leads a partition, since when.
    LeaderIdAndEpoch {
        leader_id: i32 = -1,
        leader_epoch: i32 = -1,
    }

    /// Where a broker is reached.
    NodeEndpoint {
        node_id: i32,
        host: String,
        port: i32,
        rack: Option<String>,
    }

    /// Moves the start of partitions forward.
    DeleteRecordsRequest(0..=2, flexible 2) {
        topics: Vec<DeleteRecordsTopic>,
        timeout_ms: i32,
    }

    /// One of the `topics` of a [`DeleteRecordsRequest`].
    DeleteRecordsTopic {
        name: String,
        partitions: Vec<DeleteRecordsPartition>,
    }

    /// One of the `partitions` of a [`DeleteRecordsTopic`].
    DeleteRecordsPartition {
        partition_index: i32,
        offset: i64,
    }

    /// Where the partitions start now.
    DeleteRecordsResponse(0..=2, flexible 2) {
        throttle_time_ms: i32,
        topics: Vec<DeleteRecordsTopicResult>,
    }

    /// One of the `topics` of a [`DeleteRecordsResponse`].
    DeleteRecordsTopicResult {
        name: String,
        partitions: Vec<DeleteRecordsPartitionResult>,
    }

    /// One of the `partitions` of a [`DeleteRecordsTopicResult`].
    DeleteRecordsPartitionResult {
        partition_index: i32,
        low_watermark: i64,
        error_code: i16,
    }
}
