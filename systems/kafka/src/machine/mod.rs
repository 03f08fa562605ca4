//! What consumes Kafka's orders.
//!
//! Every partition is a machine of its own, on an order of its own.

pub mod partition;
