//! What can go wrong with a partition's log, by whose fault it is.

use thiserror::Error;

/// A failure of a partition's log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogError {
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] verity_storage::Error),
    /// Bytes below the manifest are not what was appended.
    #[error("{file} is damaged at byte {position}: {what}; restore this partition from its peers")]
    Corrupt {
        /// The file, as a path on its disk.
        file: String,
        /// Where in it the damage begins, as far as that can be told.
        position: u64,
        /// What does not check.
        what: String,
    },
    /// The log holds no such offset. A consumer is told so by its own error code.
    #[error("offset {offset} is out of range: the log holds {log_start} to {next_offset}")]
    OutOfRange {
        /// What was asked for.
        offset: i64,
        /// The first offset that may be read.
        log_start: i64,
        /// The offset that the next record will get.
        next_offset: i64,
    },
    /// Bytes that should be a manifest or a plan are none. They come from a snapshot of this node or of a peer.
    #[error("{what} does not decode: {why}")]
    InvalidMessage {
        /// What the bytes should have been.
        what: &'static str,
        /// Why they are not.
        why: String,
    },
    /// The caller broke a rule of this module.
    #[error("the log was used wrongly: {0}")]
    ApiMisuse(String),
}

impl LogError {
    /// Shorthand for [`LogError::Corrupt`].
    pub(super) fn corrupt(file: &str, position: u64, what: impl Into<String>) -> Self {
        LogError::Corrupt { file: file.to_owned(), position, what: what.into() }
    }
}
