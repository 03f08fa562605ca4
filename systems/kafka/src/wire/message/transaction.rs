//! Idempotent producers and transactions.

use super::super::schema::schema;

schema! {
    /// Asks for a producer id, or for a new epoch of one.
    InitProducerIdRequest(0..=5, flexible 2) {
        transactional_id: Option<String>,
        transaction_timeout_ms: i32,
        producer_id: i64 [3..] = -1,
        producer_epoch: i16 [3..] = -1,
    }

    /// The producer id and its epoch.
    InitProducerIdResponse(0..=5, flexible 2) {
        throttle_time_ms: i32,
        error_code: i16,
        producer_id: i64 = -1,
        producer_epoch: i16,
    }

    /// Makes partitions part of a transaction.
    AddPartitionsToTxnRequest(0..=5, flexible 3) {
        transactions: Vec<AddPartitionsToTxnTransaction> [4..],
        v3_and_below_transactional_id: String [..=3],
        v3_and_below_producer_id: i64 [..=3],
        v3_and_below_producer_epoch: i16 [..=3],
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic> [..=3],
    }

    /// One of the `transactions` of an [`AddPartitionsToTxnRequest`].
    AddPartitionsToTxnTransaction {
        transactional_id: String,
        producer_id: i64,
        producer_epoch: i16,
        verify_only: bool,
        topics: Vec<AddPartitionsToTxnTopic>,
    }

    /// One of the `topics` of an [`AddPartitionsToTxnTransaction`].
    AddPartitionsToTxnTopic {
        name: String,
        partitions: Vec<i32>,
    }

    /// Which partitions are part of it now.
    AddPartitionsToTxnResponse(0..=5, flexible 3) {
        throttle_time_ms: i32,
        error_code: i16 [4..],
        results_by_transaction: Vec<AddPartitionsToTxnResult> [4..],
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult> [..=3],
    }

    /// One of the `results_by_transaction` of an [`AddPartitionsToTxnResponse`].
    AddPartitionsToTxnResult {
        transactional_id: String,
        topic_results: Vec<AddPartitionsToTxnTopicResult>,
    }

    /// One of the `topic_results` of an [`AddPartitionsToTxnResult`].
    AddPartitionsToTxnTopicResult {
        name: String,
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult>,
    }

    /// One of the `results_by_partition` of an [`AddPartitionsToTxnTopicResult`].
    AddPartitionsToTxnPartitionResult {
        partition_index: i32,
        partition_error_code: i16,
    }

    /// Makes a group's offsets part of a transaction.
    AddOffsetsToTxnRequest(0..=4, flexible 3) {
        transactional_id: String,
        producer_id: i64,
        producer_epoch: i16,
        group_id: String,
    }

    /// Whether they are part of it now.
    AddOffsetsToTxnResponse(0..=4, flexible 3) {
        throttle_time_ms: i32,
        error_code: i16,
    }

    /// Commits or aborts a transaction.
    EndTxnRequest(0..=5, flexible 3) {
        transactional_id: String,
        producer_id: i64,
        producer_epoch: i16,
        committed: bool,
    }

    /// Whether the decision stands.
    EndTxnResponse(0..=5, flexible 3) {
        throttle_time_ms: i32,
        error_code: i16,
        producer_id: i64 [5..] = -1,
        producer_epoch: i16 [5..] = -1,
    }

    /// Commits offsets of a group within a transaction.
    TxnOffsetCommitRequest(0..=5, flexible 3) {
        transactional_id: String,
        group_id: String,
        producer_id: i64,
        producer_epoch: i16,
        generation_id: i32 [3..] = -1,
        member_id: String [3..],
        group_instance_id: Option<String> [3..],
        topics: Vec<TxnOffsetCommitRequestTopic>,
    }

    /// One of the `topics` of a [`TxnOffsetCommitRequest`].
    TxnOffsetCommitRequestTopic {
        name: String,
        partitions: Vec<TxnOffsetCommitRequestPartition>,
    }

    /// One of the `partitions` of a [`TxnOffsetCommitRequestTopic`].
    TxnOffsetCommitRequestPartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [2..] = -1,
        committed_metadata: Option<String>,
    }

    /// Which commits were taken.
    TxnOffsetCommitResponse(0..=5, flexible 3) {
        throttle_time_ms: i32,
        topics: Vec<TxnOffsetCommitResponseTopic>,
    }

    /// One of the `topics` of a [`TxnOffsetCommitResponse`].
    TxnOffsetCommitResponseTopic {
        name: String,
        partitions: Vec<TxnOffsetCommitResponsePartition>,
    }

    /// One of the `partitions` of a [`TxnOffsetCommitResponseTopic`].
    TxnOffsetCommitResponsePartition {
        partition_index: i32,
        error_code: i16,
    }

    /// Asks which producers write to partitions.
    DescribeProducersRequest(0..=0, flexible 0) {
        topics: Vec<DescribeProducersTopicRequest>,
    }

    /// One of the `topics` of a [`DescribeProducersRequest`].
    DescribeProducersTopicRequest {
        name: String,
        partition_indexes: Vec<i32>,
    }

    /// The producers.
    DescribeProducersResponse(0..=0, flexible 0) {
        throttle_time_ms: i32,
        topics: Vec<DescribeProducersTopicResponse>,
    }

    /// One of the `topics` of a [`DescribeProducersResponse`].
    DescribeProducersTopicResponse {
        name: String,
        partitions: Vec<DescribeProducersPartitionResponse>,
    }

    /// One of the `partitions` of a [`DescribeProducersTopicResponse`].
    DescribeProducersPartitionResponse {
        partition_index: i32,
        error_code: i16,
        error_message: Option<String>,
        active_producers: Vec<ProducerState>,
    }

    /// One of the `active_producers` of a [`DescribeProducersPartitionResponse`].
    ProducerState {
        producer_id: i64,
        producer_epoch: i32,
        last_sequence: i32 = -1,
        last_timestamp: i64 = -1,
        coordinator_epoch: i32,
        current_txn_start_offset: i64 = -1,
    }

    /// Asks for the state of transactions.
    DescribeTransactionsRequest(0..=0, flexible 0) {
        transactional_ids: Vec<String>,
    }

    /// The transactions.
    DescribeTransactionsResponse(0..=0, flexible 0) {
        throttle_time_ms: i32,
        transaction_states: Vec<DescribeTransactionsState>,
    }

    /// One of the `transaction_states` of a [`DescribeTransactionsResponse`].
    DescribeTransactionsState {
        error_code: i16,
        transactional_id: String,
        transaction_state: String,
        transaction_timeout_ms: i32,
        transaction_start_time_ms: i64,
        producer_id: i64,
        producer_epoch: i16,
        topics: Vec<DescribeTransactionsTopicData>,
    }

    /// One of the `topics` of a [`DescribeTransactionsState`].
    DescribeTransactionsTopicData {
        topic: String,
        partitions: Vec<i32>,
    }

    /// Asks which transactions there are.
    ListTransactionsRequest(0..=2, flexible 0) {
        state_filters: Vec<String>,
        producer_id_filters: Vec<i64>,
        duration_filter: i64 [1..] = -1,
        transactional_id_pattern: Option<String> [2..],
    }

    /// The transactions.
    ListTransactionsResponse(0..=2, flexible 0) {
        throttle_time_ms: i32,
        error_code: i16,
        unknown_state_filters: Vec<String>,
        transaction_states: Vec<ListTransactionsState>,
    }

    /// One of the `transaction_states` of a [`ListTransactionsResponse`].
    ListTransactionsState {
        transactional_id: String,
        producer_id: i64,
        transaction_state: String,
    }
}
