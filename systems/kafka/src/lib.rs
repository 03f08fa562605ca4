//! Kafka: partitioned logs on an agreed order, over the wire protocol that its clients speak.
//!
//! `wire` encodes and decodes, `log` keeps a partition's batches in segment files, `machine` consumes the order, `session`
//! talks to clients.

#![forbid(unsafe_code)]

pub mod client;
pub mod log;
pub mod machine;
mod scram;
pub mod session;
pub mod wire;
