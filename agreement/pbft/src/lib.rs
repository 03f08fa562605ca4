//! PBFT: Castro and Liskov, "Practical Byzantine Fault Tolerance" (OSDI 1999), with signatures, in the paper's words.
//!
//! Of N replicas floor((N - 1) / 3) may lie, be silent or be somebody else's, and the rest agree on one order. Each file
//! opens with the part of the protocol that it holds:
//!
//! - `quorum`: how many are enough;
//! - `client`: the client's part of §4.1, which this node plays for those who are connected to it; `queue`: fair lines of
//!   requests, as in Clement et al., "Making Byzantine Fault Tolerant Systems Tolerate Byzantine Faults" (NSDI 2009);
//! - `order`: the normal case, §4.2; `slot`: one sequence number and its votes;
//! - `checkpoint`: §4.3; `view_change`: §4.4; `pace`: primaries that are slow; `transfer`: §4.6;
//! - `epoch`: changes of members;
//! - `keys`: signatures; `evidence`: proofs that somebody lied; `forensics`: who did when more lie than may;
//! - `state`: what is written down before it is said.
//!
//! A sequence number is a log index. The replica that proposes is the client whose signature a request bears, so no primary
//! can invent one, and every member may propose.
//!
//! Deliberately absent: message authentication codes (§5: a vector of them convinces nobody else), tentative execution and
//! read-only requests (§5.1: a barrier is ordered like any request), replies (the machines' owner compares those), snapshot
//! bytes, and any clock or thread.

#![forbid(unsafe_code)]

mod checkpoint;
mod client;
mod config;
mod engine;
mod epoch;
mod evidence;
pub mod forensics;
mod keys;
pub mod liar;
mod message;
mod order;
mod pace;
mod queue;
mod quorum;
mod slot;
mod state;
#[cfg(test)]
mod tests;
mod transfer;
mod view_change;
mod watch;

pub use config::Config;
pub use engine::Pbft;
pub use evidence::{Evidence, Phase};
pub use keys::{Keys, SIGNATURE_BYTES, Sig};
pub use message::{MAX_BATCH_BYTES, MAX_MEMBERS, MAX_MESSAGE_BYTES, MAX_OPERATION_BYTES, Scope, decode, rewrite};
pub use quorum::Quorum;
pub use watch::{Said, describe};

use verity_types::NodeId;

/// What can go wrong, by whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Bytes from a peer that no correct peer sends. The message was dropped.
    #[error("invalid message: {0}")]
    InvalidMessage(String),
    /// A peer said what no honest one says. The message was dropped.
    #[error("node {node} lies: {what}")]
    PeerMisbehaved {
        /// Who.
        node: NodeId,
        /// What it said.
        what: String,
    },
    /// The caller broke the contract, or configured nonsense.
    #[error("misuse: {0}")]
    ApiMisuse(String),
    /// What stable storage held is not what this engine wrote. The node must not take part: its votes are lost. Replace it,
    /// or restore its data folder.
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
    /// A batch counts as prepared without prepares.
    PreparesNotCounted,
    /// A view change leaves out what prepared.
    CertificateDropped,
    /// Sequence numbers above the high watermark are taken.
    WatermarkNotEnforced,
    /// Requests count without their client's signature.
    UnsignedRequest,
    /// What a replica voted for is not written down.
    VoteNotPersisted,
    /// Votes count for whatever digest.
    DigestNotCompared,
    /// A checkpoint is stable by one replica's word.
    CheckpointWithoutCertificate,
    /// A quorum is 2f + 1, however many replicas there are.
    QuorumOfTwoThirds,
    /// An epoch ends at the next checkpoint, not a window behind the change.
    EpochEndsAtOnce,
    /// Members change by one member's word.
    OneEndorsement,
}

impl Mutant {
    /// All of them.
    pub const ALL: [(&'static str, Self); 10] = [
        ("prepares-not-counted", Self::PreparesNotCounted),
        ("certificate-dropped", Self::CertificateDropped),
        ("watermark-not-enforced", Self::WatermarkNotEnforced),
        ("unsigned-request", Self::UnsignedRequest),
        ("vote-not-persisted", Self::VoteNotPersisted),
        ("digest-not-compared", Self::DigestNotCompared),
        ("checkpoint-without-certificate", Self::CheckpointWithoutCertificate),
        ("quorum-of-two-thirds", Self::QuorumOfTwoThirds),
        ("epoch-ends-at-once", Self::EpochEndsAtOnce),
        ("one-endorsement", Self::OneEndorsement),
    ];

    /// The one of this name, as the simulator and its users call it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, mutant)| *mutant)
    }
}
