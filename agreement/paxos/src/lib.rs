//! Paxos: for one decree ([`single`], to be read first), and for a log ([`Paxos`]).
//!
//! The log is our own step machine behind the [`Agreement`](verity_contract::Agreement) contract: Multi-Paxos as in
//! Lamport, "Paxos Made Simple" §3, with an election that looks at connectivity after Ng, Haridi and Carbone,
//! "OmniPaxos" (EuroSys 2023). Each file opens with the part of the protocol that it holds:
//!
//! - `acceptor`: promises and acceptances, what is stable before what is said;
//! - `proposer`: phase 1 once for all slots, gaps, re-proposals, phase 2 in a pipeline;
//! - `learner`: what is decided, catching up, snapshots;
//! - `election`: rounds of heartbeats, who may raise a ballot;
//! - `members`: one change at a time, with its proof; transfer of leadership;
//! - `read`: barriers; `sleep`: idle groups.
//!
//! Deliberately absent: leases (every barrier is a round), forwarding of proposals (the replica knows the leader),
//! snapshot bytes (only their metadata passes through here), and any clock or thread.

#![forbid(unsafe_code)]

mod acceptor;
mod config;
mod election;
mod engine;
mod learner;
mod members;
mod message;
mod proposer;
mod read;
pub mod single;
mod sleep;
mod state;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use engine::Paxos;
pub use message::{MAX_ENTRY_BYTES, MAX_MEMBERS, MAX_MESSAGE_BYTES, MAX_NODE, decode};

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
    /// promises and acceptances are lost. Replace it, or restore its data folder.
    #[error("storage: {0}")]
    Storage(String),
}

impl From<verity_contract::codec::CodecError> for Error {
    fn from(error: verity_contract::codec::CodecError) -> Self {
        Self::InvalidMessage(error.0)
    }
}

/// A rule that is broken on purpose, so that the tests can show that they would notice.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// An acceptor accepts what it promised not to accept.
    AcceptBelowPromise,
    /// A proposer proposes its own wish, whatever the promises report.
    ValueChoiceIgnored,
    /// A leader decides what it alone has accepted.
    CommitWithoutQuorum,
    /// An acceptor does not write its promise down.
    VoteNotPersisted,
    /// Members change without a majority of those that come.
    ChangeCountsOneMajority,
}

impl Mutant {
    /// The one of this name, as the simulator and its users call it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "accept-below-promise" => Some(Self::AcceptBelowPromise),
            "value-choice-ignored" => Some(Self::ValueChoiceIgnored),
            "commit-without-quorum" => Some(Self::CommitWithoutQuorum),
            "vote-not-persisted" => Some(Self::VoteNotPersisted),
            "change-counts-one-majority" => Some(Self::ChangeCountsOneMajority),
            _ => None,
        }
    }
}
