//! Consumer groups whose assignment the broker makes (KIP-848), and what classic groups' members tell each other.

use bytes::Bytes;

use super::super::schema::schema;
use super::super::uuid::Uuid;

schema! {
    /// Joins, reports to and leaves a consumer group.
    ConsumerGroupHeartbeatRequest(0..=1, flexible 0) {
        group_id: String,
        member_id: String,
        member_epoch: i32,
        instance_id: Option<String>,
        rack_id: Option<String>,
        rebalance_timeout_ms: i32 = -1,
        subscribed_topic_names: Option<Vec<String>>,
        subscribed_topic_regex: Option<String> [1..],
        server_assignor: Option<String>,
        topic_partitions: Option<Vec<ConsumerGroupHeartbeatRequestTopicPartitions>>,
    }

    /// One of the `topic_partitions` of a [`ConsumerGroupHeartbeatRequest`].
    ConsumerGroupHeartbeatRequestTopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
    }

    /// What the member is to own.
    ConsumerGroupHeartbeatResponse(0..=1, flexible 0) {
        throttle_time_ms: i32,
        error_code: i16,
        error_message: Option<String>,
        member_id: Option<String>,
        member_epoch: i32,
        heartbeat_interval_ms: i32,
        assignment: Option<ConsumerGroupHeartbeatAssignment>,
    }

    /// The `assignment` of a [`ConsumerGroupHeartbeatResponse`].
    ConsumerGroupHeartbeatAssignment {
        topic_partitions: Vec<ConsumerGroupHeartbeatResponseTopicPartitions>,
    }

    /// One of the `topic_partitions` of a [`ConsumerGroupHeartbeatAssignment`].
    ConsumerGroupHeartbeatResponseTopicPartitions {
        topic_id: Uuid,
        partitions: Vec<i32>,
    }

    /// Asks for the state of consumer groups.
    ConsumerGroupDescribeRequest(0..=1, flexible 0) {
        group_ids: Vec<String>,
        include_authorized_operations: bool,
    }

    /// Groups and their members.
    ConsumerGroupDescribeResponse(0..=1, flexible 0) {
        throttle_time_ms: i32,
        groups: Vec<ConsumerGroupDescribeGroup>,
    }

    /// One of the `groups` of a [`ConsumerGroupDescribeResponse`].
    ConsumerGroupDescribeGroup {
        error_code: i16,
        error_message: Option<String>,
        group_id: String,
        group_state: String,
        group_epoch: i32,
        assignment_epoch: i32,
        assignor_name: String,
        members: Vec<ConsumerGroupDescribeMember>,
        authorized_operations: i32 = i32::MIN,
    }

    /// One of the `members` of a [`ConsumerGroupDescribeGroup`].
    ConsumerGroupDescribeMember {
        member_id: String,
        instance_id: Option<String>,
        rack_id: Option<String>,
        member_epoch: i32,
        client_id: String,
        client_host: String,
        subscribed_topic_names: Vec<String>,
        subscribed_topic_regex: Option<String>,
        assignment: ConsumerGroupDescribeAssignment,
        target_assignment: ConsumerGroupDescribeAssignment,
        member_type: i8 [1..] = -1,
    }

    /// The `assignment` of a [`ConsumerGroupDescribeMember`].
    ConsumerGroupDescribeAssignment {
        topic_partitions: Vec<ConsumerGroupDescribeTopicPartitions>,
    }

    /// One of the `topic_partitions` of a [`ConsumerGroupDescribeAssignment`].
    ConsumerGroupDescribeTopicPartitions {
        topic_id: Uuid,
        topic_name: String,
        partitions: Vec<i32>,
    }

    /// What a member of a classic group wants, in its join's `metadata`, behind two bytes of version.
    ConsumerProtocolSubscription(0..=3) {
        topics: Vec<String>,
        user_data: Option<Bytes>,
        owned_partitions: Vec<ConsumerProtocolSubscriptionTopicPartition> [1..],
        generation_id: i32 [2..] = -1,
        rack_id: Option<String> [3..],
    }

    /// One of the `owned_partitions` of a [`ConsumerProtocolSubscription`].
    ConsumerProtocolSubscriptionTopicPartition {
        topic: String,
        partitions: Vec<i32>,
    }

    /// What a member of a classic group gets, in its sync's `assignment`, behind two bytes of version.
    ConsumerProtocolAssignment(0..=3) {
        assigned_partitions: Vec<ConsumerProtocolAssignmentTopicPartition>,
        user_data: Option<Bytes>,
    }

    /// One of the `assigned_partitions` of a [`ConsumerProtocolAssignment`].
    ConsumerProtocolAssignmentTopicPartition {
        topic: String,
        partitions: Vec<i32>,
    }
}
