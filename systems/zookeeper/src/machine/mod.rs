//! The znode tree as a state machine, answer for answer as ZooKeeper 3.8.0 gives it.
//!
//! - upon a write: the zxid grows by one, also if the write fails; so it does when a session opens or closes.
//! - upon a create: the parent's count of creates grows by one, also for a plain node; it is what the sequence shows.
//! - upon a multi: all or none; an operation sees what those before it did.
//! - upon a session's close: its ephemerals go in the order of their creation, in one transaction.
//! - upon any change: its events leave before its reply.
//!
//! Better than what it follows: quotas count the earlier operations of the same multi; an expired node is checked again
//! when its deletion is applied; access lists know IPv6; zxids are one 64-bit count that no election interrupts; a ring
//! of recent events lets persistent watches be told what they missed. A create2 inside a multi answers with the stat,
//! and an opcode there is taken at its word; the real server goes by the flags.
//!
//! Deliberately absent: watches, pings, packet limits and authentication (the session's), expiry and collection (the
//! duty's), files, clocks and randomness.

mod acl;
mod command;
mod config;
mod digest;
mod draw;
mod ensemble;
mod event;
mod index;
mod invariants;
mod node;
mod path;
mod query;
mod quota;
mod read;
mod reconfig;
mod restore;
mod session;
mod tree;
mod write;

#[cfg(test)]
mod tests;

pub use acl::{digest_id, may_read};
pub use command::{
    Envelope, ID_COUNT_MAX, Ids, REPLY_HEAD, Reply, VERSION, close_session, config_text, configure, create_session,
    delete_container, encode_ids, end_reconfig, flags, internal, move_session, query, reconfig, request,
};
pub use config::{Mutant, TreeConfig};
pub use ensemble::{Ensemble, SERVER_COUNT_MAX, Server};
pub use event::{RING_COUNT_MAX, RING_SIZE_MAX, TreeEvent};
pub use query::{
    DUE_COUNT_MAX, DueQuery, DueWatch, MissedEvent, SESSION_COUNT_MAX, SessionEphemerals, SessionInfo, SessionRow,
    SessionsQuery, TreeStatus, WatchesAnswer,
};
pub use tree::Tree;
