//! What can go wrong with a disk, by whose fault it is and in one line for an operator.

use thiserror::Error as ThisError;

/// A failure of storage. The text names the operation and the path, and what to do where there is something to do.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum Error {
    /// The disk is full.
    #[error("{op} {path}: no space left on the disk; free some and start again")]
    NoSpace {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: String,
    },
    /// The process may not write there, or the file system is read-only.
    #[error("{op} {path}: {reason}; check the owner and mode of the folder and that its file system is writable")]
    Denied {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: String,
        /// What the operating system said.
        reason: String,
    },
    /// Another process holds the folder.
    #[error("{path} is in use by another process; stop it or choose another data folder")]
    InUse {
        /// The lock file.
        path: String,
    },
    /// There is no such file.
    #[error("{op} {path}: no such file")]
    NotFound {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: String,
    },
    /// The device or the operating system failed.
    #[error("{op} {path}: {reason}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        path: String,
        /// What the operating system said.
        reason: String,
    },
    /// Bytes that were on stable storage are not what was written.
    #[error("{path} is damaged at byte {offset}: {reason}; restore this node from its peers")]
    Corrupt {
        /// The file.
        path: String,
        /// Where in it.
        offset: u64,
        /// What does not check.
        reason: String,
    },
    /// The file is sound but not for this program, cluster or node.
    #[error("{path}: {reason}")]
    Incompatible {
        /// The file.
        path: String,
        /// What does not match, and what to do.
        reason: String,
    },
    /// A write or sync failed before; nothing more may be acknowledged by this process.
    #[error("storage stopped after an earlier failure: {cause}")]
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// More bytes than a named bound allows.
    #[error("{what} of {size} bytes exceeds the bound of {max}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many there are.
        size: u64,
        /// How many may be.
        max: u64,
    },
    /// The key-value engine failed for a reason of its own.
    #[error("key-value state {path}: {reason}")]
    Engine {
        /// Its file.
        path: String,
        /// What it said.
        reason: String,
    },
}

impl Error {
    /// Damage at `offset` of a file: [`Error::Corrupt`].
    #[must_use]
    pub fn corrupt(path: &str, offset: u64, reason: impl Into<String>) -> Self {
        Error::Corrupt { path: path.to_owned(), offset, reason: reason.into() }
    }

    /// Shorthand for [`Error::Incompatible`].
    pub(crate) fn incompatible(path: &str, reason: impl Into<String>) -> Self {
        Error::Incompatible { path: path.to_owned(), reason: reason.into() }
    }
}
