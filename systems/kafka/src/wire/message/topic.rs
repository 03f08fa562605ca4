//! Topics, their partitions and where these live.

use super::super::schema::schema;
use super::super::uuid::Uuid;

schema! {
    /// Creates topics.
    CreateTopicsRequest(2..=7, flexible 5) {
        topics: Vec<CreatableTopic>,
        timeout_ms: i32 = 60000,
        validate_only: bool,
    }

    /// One of the `topics` of a [`CreateTopicsRequest`].
    CreatableTopic {
        name: String,
        num_partitions: i32,
        replication_factor: i16,
        assignments: Vec<CreatableReplicaAssignment>,
        configs: Vec<CreatableTopicConfig>,
    }

    /// One of the `assignments` of a [`CreatableTopic`].
    CreatableReplicaAssignment {
        partition_index: i32,
        broker_ids: Vec<i32>,
    }

    /// One of the `configs` of a [`CreatableTopic`].
    CreatableTopicConfig {
        name: String,
        value: Option<String>,
    }

    /// Which topics were created, and how.
    CreateTopicsResponse(2..=7, flexible 5) {
        throttle_time_ms: i32,
        topics: Vec<CreatableTopicResult>,
    }

    /// One of the `topics` of a [`CreateTopicsResponse`].
    CreatableTopicResult {
        name: String,
        topic_id: Uuid [7..],
        error_code: i16,
        error_message: Option<String>,
        topic_config_error_code: i16 [5..; tag 0],
        num_partitions: i32 [5..] = -1,
        replication_factor: i16 [5..] = -1,
        configs: Option<Vec<CreatableTopicConfigs>> [5..],
    }

    /// One of the `configs` of a [`CreatableTopicResult`].
    CreatableTopicConfigs {
        name: String,
        value: Option<String>,
        read_only: bool,
        config_source: i8 = -1,
        is_sensitive: bool,
    }

    /// Deletes topics.
    DeleteTopicsRequest(1..=6, flexible 4) {
        topics: Vec<DeleteTopicState> [6..],
        topic_names: Vec<String> [..=5],
        timeout_ms: i32,
    }

    /// One of the `topics` of a [`DeleteTopicsRequest`].
    DeleteTopicState {
        name: Option<String>,
        topic_id: Uuid,
    }

    /// Which topics were deleted.
    DeleteTopicsResponse(1..=6, flexible 4) {
        throttle_time_ms: i32,
        responses: Vec<DeletableTopicResult>,
    }

    /// One of the `responses` of a [`DeleteTopicsResponse`].
    DeletableTopicResult {
        name: Option<String> [..; null 6..],
        topic_id: Uuid [6..],
        error_code: i16,
        error_message: Option<String> [5..],
    }

    /// Gives topics more partitions.
    CreatePartitionsRequest(0..=3, flexible 2) {
        topics: Vec<CreatePartitionsTopic>,
        timeout_ms: i32,
        validate_only: bool,
    }

    /// One of the `topics` of a [`CreatePartitionsRequest`].
    CreatePartitionsTopic {
        name: String,
        count: i32,
        assignments: Option<Vec<CreatePartitionsAssignment>>,
    }

    /// One of the `assignments` of a [`CreatePartitionsTopic`].
    CreatePartitionsAssignment {
        broker_ids: Vec<i32>,
    }

    /// Which topics have them now.
    CreatePartitionsResponse(0..=3, flexible 2) {
        throttle_time_ms: i32,
        results: Vec<CreatePartitionsTopicResult>,
    }

    /// One of the `results` of a [`CreatePartitionsResponse`].
    CreatePartitionsTopicResult {
        name: String,
        error_code: i16,
        error_message: Option<String>,
    }

    /// Elects leaders of partitions.
    ElectLeadersRequest(0..=2, flexible 2) {
        election_type: i8 [1..],
        topic_partitions: Option<Vec<ElectLeadersTopicPartitions>>,
        timeout_ms: i32 = 60000,
    }

    /// One of the `topic_partitions` of an [`ElectLeadersRequest`].
    ElectLeadersTopicPartitions {
        topic: String,
        partitions: Vec<i32>,
    }

    /// Which elections took place.
    ElectLeadersResponse(0..=2, flexible 2) {
        throttle_time_ms: i32,
        error_code: i16 [1..],
        replica_election_results: Vec<ReplicaElectionResult>,
    }

    /// One of the `replica_election_results` of an [`ElectLeadersResponse`].
    ReplicaElectionResult {
        topic: String,
        partition_result: Vec<ElectLeadersPartitionResult>,
    }

    /// One of the `partition_result` of a [`ReplicaElectionResult`].
    ElectLeadersPartitionResult {
        partition_id: i32,
        error_code: i16,
        error_message: Option<String>,
    }

    /// Moves replicas of partitions, or cancels a move.
    AlterPartitionReassignmentsRequest(0..=1, flexible 0) {
        timeout_ms: i32 = 60000,
        allow_replication_factor_change: bool [1..] = true,
        topics: Vec<ReassignableTopic>,
    }

    /// One of the `topics` of an [`AlterPartitionReassignmentsRequest`].
    ReassignableTopic {
        name: String,
        partitions: Vec<ReassignablePartition>,
    }

    /// One of the `partitions` of a [`ReassignableTopic`].
    ReassignablePartition {
        partition_index: i32,
        replicas: Option<Vec<i32>>,
    }

    /// Which moves have begun.
    AlterPartitionReassignmentsResponse(0..=1, flexible 0) {
        throttle_time_ms: i32,
        allow_replication_factor_change: bool [1..] = true,
        error_code: i16,
        error_message: Option<String>,
        responses: Vec<ReassignableTopicResponse>,
    }

    /// One of the `responses` of an [`AlterPartitionReassignmentsResponse`].
    ReassignableTopicResponse {
        name: String,
        partitions: Vec<ReassignablePartitionResponse>,
    }

    /// One of the `partitions` of a [`ReassignableTopicResponse`].
    ReassignablePartitionResponse {
        partition_index: i32,
        error_code: i16,
        error_message: Option<String>,
    }

    /// Asks which moves of replicas are under way.
    ListPartitionReassignmentsRequest(0..=0, flexible 0) {
        timeout_ms: i32 = 60000,
        topics: Option<Vec<ListPartitionReassignmentsTopics>>,
    }

    /// One of the `topics` of a [`ListPartitionReassignmentsRequest`].
    ListPartitionReassignmentsTopics {
        name: String,
        partition_indexes: Vec<i32>,
    }

    /// The moves.
    ListPartitionReassignmentsResponse(0..=0, flexible 0) {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String>,
        topics: Vec<OngoingTopicReassignment>,
    }

    /// One of the `topics` of a [`ListPartitionReassignmentsResponse`].
    OngoingTopicReassignment {
        name: String,
        partitions: Vec<OngoingPartitionReassignment>,
    }

    /// One of the `partitions` of an [`OngoingTopicReassignment`].
    OngoingPartitionReassignment {
        partition_index: i32,
        replicas: Vec<i32>,
        adding_replicas: Vec<i32>,
        removing_replicas: Vec<i32>,
    }

    /// Asks for the sizes of partitions on disk.
    DescribeLogDirsRequest(1..=5, flexible 2) {
        topics: Option<Vec<DescribableLogDirTopic>>,
    }

    /// One of the `topics` of a [`DescribeLogDirsRequest`].
    DescribableLogDirTopic {
        topic: String,
        partitions: Vec<i32>,
    }

    /// Folders and the partitions in them.
    DescribeLogDirsResponse(1..=5, flexible 2) {
        throttle_time_ms: i32,
        error_code: i16 [3..],
        results: Vec<DescribeLogDirsResult>,
    }

    /// One of the `results` of a [`DescribeLogDirsResponse`].
    DescribeLogDirsResult {
        error_code: i16,
        log_dir: String,
        topics: Vec<DescribeLogDirsTopic>,
        total_bytes: i64 [4..] = -1,
        usable_bytes: i64 [4..] = -1,
        is_cordoned: bool [5..],
    }

    /// One of the `topics` of a [`DescribeLogDirsResult`].
    DescribeLogDirsTopic {
        name: String,
        partitions: Vec<DescribeLogDirsPartition>,
    }

    /// One of the `partitions` of a [`DescribeLogDirsTopic`].
    DescribeLogDirsPartition {
        partition_index: i32,
        partition_size: i64,
        offset_lag: i64,
        is_future_key: bool,
    }
}
