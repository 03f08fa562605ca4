//! Why a block is refused, in the words of the network's nodes.

use std::fmt;

use thiserror::Error;

/// What kind of refusal it is: whether a peer is to blame, and whether it may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectKind {
    /// It breaks a rule of the network.
    Consensus,
    /// It was judged before, or stands on what was.
    CachedInvalid,
    /// The proof of work does not hold.
    InvalidHeader,
    /// Its bytes are not those that its header speaks of; the true block may be good.
    Mutated,
    /// What it stands on is not known.
    MissingPrev,
    /// What it stands on is invalid.
    InvalidPrev,
    /// Its time is ahead of the node's.
    TimeFuture,
    /// Its chain has too little work to be looked at.
    HeaderLowWork,
}

/// Why a block is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockReject {
    /// What kind it is.
    pub kind: RejectKind,
    /// The network's word, such as `bad-txnmrklroot`.
    pub reason: String,
    /// More, for people.
    pub debug: String,
}

impl fmt::Display for BlockReject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if self.debug.is_empty() { Ok(()) } else { write!(f, ", {}", self.debug) }
    }
}

/// The node cannot go on.
#[derive(Debug, Error)]
pub enum ChainError {
    /// Its disk.
    #[error(transparent)]
    Storage(#[from] verity_storage::Error),
    /// What it stored is not what it wrote.
    #[error("{0}")]
    Corrupt(String),
    /// What it stored is no use as it is, and an operator decides what becomes of it.
    #[error("{0}.\nPlease restart with -reindex or -reindex-chainstate to recover.")]
    Rebuild(String),
    /// Two ways to judge a script do not agree.
    #[error(
        "input {input} of {txid}: the library says {library}, the interpreter {own}; nothing can be trusted from here on"
    )]
    Disagreement {
        /// Whose.
        txid: bitcoin::Txid,
        /// Which.
        input: usize,
        /// One.
        library: bool,
        /// The other.
        own: bool,
    },
}
