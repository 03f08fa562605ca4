//! Raft behind the [`Agreement`](verity_contract::Agreement) contract.
//!
//! The protocol itself is the `raft` crate, the engine inside TiKV. This crate is what stands between it and a driver
//! that owns disks and sockets: a bounded codec ([`decode`] never panics), a log that is rebuilt from records, a guard
//! that keeps every byte a peer can send away from the engine's own assertions, barriers with a clock-based lease, and
//! timers that are drawn from a seed so that one history can be replayed.
//!
//! Deliberately absent: forwarding of proposals (the replica knows the leader), coalescing of heartbeats (the replica
//! sees all groups), snapshot bytes (only their metadata passes through here), and any clock or thread.

#![forbid(unsafe_code)]

mod config;
mod engine;
mod guard;
mod lease;
mod message;
mod read;
mod sleep;
mod state;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use engine::Raft;
pub use message::{MAX_ENTRY_BYTES, MAX_MEMBERS, MAX_MESSAGE_BYTES, decode};
#[doc(hidden)]
pub use state::forget_vote;

/// What can go wrong, by whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Bytes from a peer that no correct peer sends. The message was dropped.
    #[error("invalid message: {0}")]
    InvalidMessage(String),
    /// The caller broke the contract, or configured nonsense.
    #[error("misuse: {0}")]
    ApiMisuse(String),
    /// What stable storage held is not a log that this node can have acknowledged. The node must not take part: its
    /// votes and acknowledgements are lost. Replace it, or restore its data folder.
    #[error("storage: {0}")]
    Storage(String),
}

impl From<verity_contract::codec::CodecError> for Error {
    fn from(error: verity_contract::codec::CodecError) -> Self {
        Self::InvalidMessage(error.0)
    }
}
