//! What the cluster is: versions, brokers, topics, features.

use super::super::schema::schema;
use super::super::uuid::Uuid;

schema! {
    /// Asks which requests the broker takes; the first request of a connection.
    ApiVersionsRequest(0..=4, flexible 3) {
        client_software_name: String [3..],
        client_software_version: String [3..],
    }

    /// The ranges of versions, and the features.
    ApiVersionsResponse(0..=4, flexible 3) {
        error_code: i16,
        api_keys: Vec<ApiVersion>,
        throttle_time_ms: i32 [1..],
        supported_features: Vec<SupportedFeatureKey> [3..; tag 0],
        finalized_features_epoch: i64 [3..; tag 1] = -1,
        finalized_features: Vec<FinalizedFeatureKey> [3..; tag 2],
        zk_migration_ready: bool [3..; tag 3],
    }

    /// One of the `api_keys` of an [`ApiVersionsResponse`].
    ApiVersion {
        api_key: i16,
        min_version: i16,
        max_version: i16,
    }

    /// One of the `supported_features` of an [`ApiVersionsResponse`].
    SupportedFeatureKey {
        name: String,
        min_version: i16,
        max_version: i16,
    }

    /// One of the `finalized_features` of an [`ApiVersionsResponse`].
    FinalizedFeatureKey {
        name: String,
        max_version_level: i16,
        min_version_level: i16,
    }

    /// Asks who leads which partition.
    MetadataRequest(0..=13, flexible 9) {
        topics: Option<Vec<MetadataRequestTopic>> [..; null 1..],
        allow_auto_topic_creation: bool [4..] = true,
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }

    /// One of the `topics` of a [`MetadataRequest`].
    MetadataRequestTopic {
        topic_id: Uuid [10..],
        name: Option<String> [..; null 10..],
    }

    /// Brokers, topics, and partitions with their leaders.
    MetadataResponse(0..=13, flexible 9) {
        throttle_time_ms: i32 [3..],
        brokers: Vec<MetadataResponseBroker>,
        cluster_id: Option<String> [2..],
        controller_id: i32 [1..] = -1,
        topics: Vec<MetadataResponseTopic>,
        cluster_authorized_operations: i32 [8..=10] = i32::MIN,
        error_code: i16 [13..],
    }

    /// One of the `brokers` of a [`MetadataResponse`].
    MetadataResponseBroker {
        node_id: i32,
        host: String,
        port: i32,
        rack: Option<String> [1..],
    }

    /// One of the `topics` of a [`MetadataResponse`].
    MetadataResponseTopic {
        error_code: i16,
        name: Option<String> [..; null 12..],
        topic_id: Uuid [10..],
        is_internal: bool [1..],
        partitions: Vec<MetadataResponsePartition>,
        topic_authorized_operations: i32 [8..] = i32::MIN,
    }

    /// One of the `partitions` of a [`MetadataResponseTopic`].
    MetadataResponsePartition {
        error_code: i16,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 [7..] = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        offline_replicas: Vec<i32> [5..],
    }

    /// Asks who is in the cluster.
    DescribeClusterRequest(0..=2, flexible 0) {
        include_cluster_authorized_operations: bool,
        endpoint_type: i8 [1..] = 1,
        include_fenced_brokers: bool [2..],
    }

    /// The brokers or controllers.
    DescribeClusterResponse(0..=2, flexible 0) {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String>,
        endpoint_type: i8 [1..] = 1,
        cluster_id: String,
        controller_id: i32 = -1,
        brokers: Vec<DescribeClusterBroker>,
        cluster_authorized_operations: i32 = i32::MIN,
    }

    /// One of the `brokers` of a [`DescribeClusterResponse`].
    DescribeClusterBroker {
        broker_id: i32,
        host: String,
        port: i32,
        rack: Option<String>,
        is_fenced: bool [2..],
    }

    /// Asks for the partitions of topics, a page at a time.
    DescribeTopicPartitionsRequest(0..=0, flexible 0) {
        topics: Vec<DescribeTopicPartitionsTopicRequest>,
        response_partition_limit: i32 = 2000,
        cursor: Option<DescribeTopicPartitionsRequestCursor>,
    }

    /// One of the `topics` of a [`DescribeTopicPartitionsRequest`].
    DescribeTopicPartitionsTopicRequest {
        name: String,
    }

    /// The `cursor` of a [`DescribeTopicPartitionsRequest`].
    DescribeTopicPartitionsRequestCursor {
        topic_name: String,
        partition_index: i32,
    }

    /// A page of them.
    DescribeTopicPartitionsResponse(0..=0, flexible 0) {
        throttle_time_ms: i32,
        topics: Vec<DescribeTopicPartitionsResponseTopic>,
        next_cursor: Option<DescribeTopicPartitionsResponseCursor>,
    }

    /// One of the `topics` of a [`DescribeTopicPartitionsResponse`].
    DescribeTopicPartitionsResponseTopic {
        error_code: i16,
        name: Option<String>,
        topic_id: Uuid,
        is_internal: bool,
        partitions: Vec<DescribeTopicPartitionsResponsePartition>,
        topic_authorized_operations: i32 = i32::MIN,
    }

    /// One of the `partitions` of a [`DescribeTopicPartitionsResponseTopic`].
    DescribeTopicPartitionsResponsePartition {
        error_code: i16,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        eligible_leader_replicas: Option<Vec<i32>>,
        last_known_elr: Option<Vec<i32>>,
        offline_replicas: Vec<i32>,
    }

    /// The `next_cursor` of a [`DescribeTopicPartitionsResponse`].
    DescribeTopicPartitionsResponseCursor {
        topic_name: String,
        partition_index: i32,
    }

    /// Finalizes versions of features.
    UpdateFeaturesRequest(0..=2, flexible 0) {
        timeout_ms: i32 = 60000,
        feature_updates: Vec<FeatureUpdateKey>,
        validate_only: bool [1..],
    }

    /// One of the `feature_updates` of a [`UpdateFeaturesRequest`].
    FeatureUpdateKey {
        feature: String,
        max_version_level: i16,
        allow_downgrade: bool [..=0],
        upgrade_type: i8 [1..] = 1,
    }

    /// Which features were finalized.
    UpdateFeaturesResponse(0..=2, flexible 0) {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String>,
        results: Vec<UpdatableFeatureResult> [..=1],
    }

    /// One of the `results` of a [`UpdateFeaturesResponse`].
    UpdatableFeatureResult {
        feature: String,
        error_code: i16,
        error_message: Option<String>,
    }
}
