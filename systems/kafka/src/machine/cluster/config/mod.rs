//! Configurations: what there is to set, what it may be set to, and what holds if nothing is set.
//!
//! `key` is one entry of a table; `topics`, `brokers` and `others` are the tables; `alter` decides about changes;
//! `effective` says what holds; `describe` says it to clients, with where it comes from.
//!
//! What topics have as defaults, Kafka takes from the node that is asked. Here every replica of a partition must act
//! alike, so only what is set for all nodes counts, and to set such a default for a single node is refused.
//!
//! Deliberately absent: what a node reads from its own files. It says so when it describes itself.

mod alter;
mod brokers;
mod describe;
mod effective;
mod key;
mod others;
mod topics;

pub(super) use alter::{alter, incremental, validate_new_topic};
pub use describe::{Described, Synonym, source};
pub use key::{ConfigKey, Kind, Mode};

/// Every key of topics, in the order of their names.
#[must_use]
pub fn topic_keys() -> &'static [ConfigKey] {
    topics::TOPIC_KEYS
}

/// Every key of nodes that is known, in the order of their names. Others may be set too: nobody reads them.
#[must_use]
pub fn broker_keys() -> &'static [ConfigKey] {
    brokers::BROKER_KEYS
}

/// Every key of groups, in the order of their names.
#[must_use]
pub fn group_keys() -> &'static [ConfigKey] {
    others::GROUP_KEYS
}

/// Every key of subscriptions to clients' metrics, in the order of their names.
#[must_use]
pub fn client_metrics_keys() -> &'static [ConfigKey] {
    others::CLIENT_METRICS_KEYS
}

fn find(table: &'static [ConfigKey], name: &str) -> Option<&'static ConfigKey> {
    table.binary_search_by(|key| key.name.cmp(name)).ok().map(|at| &table[at])
}
