//! The messages of the protocol, one definition each, grouped by what they are about.
//!
//! Names of messages, structs and fields are the protocol's own; a struct whose name would stand for two things has its
//! message's name in front. A definition says what the protocol's public schema says, cut to the versions that are spoken
//! here: a field without a range is there in all of them. What fields mean is the session's business.
//!
//! Deliberately absent: messages between brokers and controllers, which Verity's own peers replace; versions that Kafka 4
//! no longer takes; unknown tagged fields, which are skipped.

mod access;
mod cluster;
mod config;
mod consumer;
mod fetch;
mod group;
mod offset;
mod produce;
mod share;
mod telemetry;
mod topic;
mod transaction;

pub use access::*;
pub use cluster::*;
pub use config::*;
pub use consumer::*;
pub use fetch::*;
pub use group::*;
pub use offset::*;
pub use produce::*;
pub use share::*;
pub use telemetry::*;
pub use topic::*;
pub use transaction::*;
