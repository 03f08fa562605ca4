//! The protocol towards clients: connections, sessions, watches, identities.
//!
//! [`ZooKeeper`] holds all sessions of a node, [`ZooKeeperDuty`] watches over them where the group's leader is. Both are
//! step functions; the tree itself is [`crate::machine`]'s.
//!
//! What differs from ZooKeeper 3.8, on purpose: a packet that is too large, or an unknown operation, is an error reply
//! and no closed socket; `sync` is a barrier; reads can be linearizable; watches of different kinds live side by side on
//! one path; persistent watches are told what they missed; a connect is answered once the node can serve it and not
//! before; a new leader or a short election does not close connections; pings never wait.
//!
//! Deliberately absent: sockets, TLS, the choice of a leader, and Kerberos.

mod auth;
mod commands;
mod config;
mod conn;
mod connect;
mod duty;
mod frame;
mod hash;
mod inspect;
mod json;
mod notify;
mod port;
mod request;
mod sasl;
mod service;
mod stats;
mod watch;
mod whisper;
mod words;

#[cfg(test)]
mod tests;

pub use config::{Config, DoorKind, DutyConfig, Meter, WORDS_DEFAULT};
pub use duty::ZooKeeperDuty;
pub use service::ZooKeeper;
pub use stats::{Latency, Stats};
