//! Bytes of a message that may still lie in a file: the records of a fetch, on their way from the log to the socket.

use bytes::Bytes;
use verity_contract::FileRange;

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blob {
    /// Here it is.
    Memory(Bytes),
    /// There it is.
    File(FileRange),
}

impl Default for Blob {
    fn default() -> Self {
        Self::Memory(Bytes::new())
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(bytes)
    }
}

impl Blob {
    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File(range) => range.len(),
        }
    }

    /// True if it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, read if they are still in a file.
    ///
    /// # Errors
    /// The device's, in words.
    pub fn read(&self) -> Result<Bytes, String> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::File(range) => range.read(usize::MAX),
        }
    }
}
