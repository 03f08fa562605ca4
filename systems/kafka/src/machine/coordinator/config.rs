//! The limits that groups and transactions live by. They are part of the replicated state: what a node was started with
//! counts only once the leader's duty has placed it in the order ([`super::Command::Lead`]).

use crate::machine::codec::record;

/// No more groups are kept.
pub const GROUP_COUNT_MAX: usize = 1 << 20;
/// No more transactional ids are kept.
pub const TRANSACTION_COUNT_MAX: usize = 1 << 20;
/// No more members of one group may have been given an id without having joined with it.
pub const PENDING_COUNT_MAX: usize = 10_000;
/// No member of a classic group says more, in bytes: what it offers, or what it is assigned.
pub const MEMBER_SIZE_MAX: usize = 1 << 20;
/// All members of a group together keep no more, in bytes.
pub const GROUP_SIZE_MAX: usize = 64 << 20;
/// No more offsets of one group are kept, those that wait for a transaction included.
pub const OFFSET_COUNT_MAX: usize = 100_000;
/// No member of a consumer group names more topics, in bytes of their names.
pub const SUBSCRIPTION_SIZE_MAX: usize = 8 << 20;
/// No transaction has more partitions.
pub const TRANSACTION_PARTITION_COUNT_MAX: usize = 100_000;
/// No more partitions are read by share groups.
pub const SHARE_PARTITION_COUNT_MAX: usize = 1 << 20;
/// The longest that a member which has never joined a generation is waited for.
pub const NEW_MEMBER_TIMEOUT_MS: u64 = 300_000;

record! {
    /// Limits and periods; milliseconds where a name ends so. In brackets Kafka's names and defaults.
    #[derive(Copy)]
    pub struct CoordinatorConfig {
        /// `group.min.session.timeout.ms` (6,000).
        pub session_timeout_ms_min: u32,
        /// `group.max.session.timeout.ms` (1,800,000).
        pub session_timeout_ms_max: u32,
        /// `group.initial.rebalance.delay.ms`; Kafka's default is 3,000, ours 0: a first member reads at once.
        pub initial_rebalance_delay_ms: u32,
        /// `group.max.size` (2,147,483,647).
        pub group_size_max: u32,
        /// `group.consumer.session.timeout.ms` (45,000).
        pub consumer_session_timeout_ms: u32,
        /// `group.consumer.heartbeat.interval.ms` (5,000).
        pub consumer_heartbeat_interval_ms: u32,
        /// `group.consumer.max.size` (2,147,483,647).
        pub consumer_group_size_max: u32,
        /// `offset.metadata.max.bytes` (4,096).
        pub offset_metadata_size_max: u32,
        /// `offsets.retention.minutes`, in milliseconds (seven days).
        pub offsets_retention_ms: u64,
        /// `offsets.retention.check.interval.ms` (600,000); transactional ids are looked through as often.
        pub sweep_interval_ms: u64,
        /// `transaction.max.timeout.ms` (900,000).
        pub transaction_timeout_ms_max: u32,
        /// `transactional.id.expiration.ms` (seven days).
        pub transactional_id_expiration_ms: u64,
        /// How long after they were asked for markers are asked for again.
        pub marker_retry_ms: u64,
        /// Producer ids begin here. Coordinators that share a cluster get ranges that do not meet.
        pub producer_id_min: i64,
    }
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms: 0,
            group_size_max: 2_147_483_647,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            consumer_group_size_max: 2_147_483_647,
            offset_metadata_size_max: 4_096,
            offsets_retention_ms: 7 * 86_400_000,
            sweep_interval_ms: 600_000,
            transaction_timeout_ms_max: 900_000,
            transactional_id_expiration_ms: 7 * 86_400_000,
            marker_retry_ms: 1_000,
            producer_id_min: 1,
        }
    }
}
