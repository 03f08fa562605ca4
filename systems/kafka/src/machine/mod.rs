//! What consumes Kafka's orders.
//!
//! Every partition is a machine of its own, on an order of its own; the coordinator of groups and transactions is another,
//! and what the cluster is (topics, nodes, configurations, rights) a third.
//!
//! Deliberately absent: Kafka's wire and its clients (the session's).

pub mod cluster;
pub mod codec;
pub mod coordinator;
pub mod partition;
