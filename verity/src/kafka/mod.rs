//! A client of Kafka's protocol, for the commands of `verity kafka` and the tour. Any broker will do, not only Verity's.
//!
//! - [`Access`]: where the cluster is, and as whom;
//! - `connection`: one connection: TLS, versions, SASL, requests and their answers in order;
//! - [`Client`]: the cluster: who leads what, who coordinates, and another try where the protocol says that one may help;
//! - `admin`, `groups`, [`Producer`], [`Reader`], [`Member`]: what is done with it.
//!
//! What is decided without a socket stands in `verity_kafka::client`.
//!
//! Deliberately absent: transactions, rebalancing without a stop, and topics' ids.

mod access;
mod admin;
mod client;
mod connection;
mod failure;
mod groups;
mod member;
mod producer;
mod reader;

pub(crate) use access::{Access, Identity, Trust};
pub(crate) use admin::{NewTopic, Offsets};
pub(crate) use client::{Client, PartitionInfo, TopicInfo};
pub(crate) use groups::{GroupDescription, GroupOffset, Listed, MemberRow};
pub(crate) use member::Member;
pub(crate) use producer::{Acks, Outgoing, Producer, Settings};
pub(crate) use reader::{Incoming, Reader};

/// The time that records bear, in milliseconds. Topics delete what is old by it.
pub(crate) fn now_ms() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "a record bears the time of its making")]
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}
