//! Takes the protocol's primitive values from a frame.
//!
//! - upon a fixed-size number: big-endian.
//! - upon a string, bytes or an array: a length in front; signed, with -1 for null, in the older encoding; unsigned
//!   seven-bit groups of length + 1, with 0 for null, in the flexible one (KIP-482).
//! - upon tagged fields: a count, then tag, size and value of each; those that nobody asked for are skipped.
//!
//! Memory is bounded twice. A length or count is checked against the bytes that are left before anything is allocated, and
//! what a frame turns into is charged to [`DECODED_BYTES_MAX`]: an element of one byte on the wire may be a struct of
//! hundreds in memory. Vectors grow by pushing, so they may for a moment hold three times what was charged. Bytes fields
//! are slices of the frame and cost nothing; they keep the whole frame alive.
//!
//! Trailing bytes are not an error: Kafka does not mind them either.

use bytes::Bytes;
use thiserror::Error;

/// The most that the strings and elements of one frame may take in memory.
pub const DECODED_BYTES_MAX: usize = 64 << 20;
/// The longest string, in either encoding: what a signed 16-bit length can say.
pub const STRING_SIZE_MAX: usize = i16::MAX as usize;
/// What a string costs in memory beside its bytes.
const STRING_COST: usize = 32;
/// How much a vector reserves at once on the word of a count.
const FIRST_RESERVATION: usize = 1024;

/// Bytes that are not the message which they should be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// The frame ends inside a value, or a length goes beyond it.
    #[error("the message ends early")]
    Truncated,
    /// A length below -1, or one that its type cannot have.
    #[error("invalid length {0}")]
    InvalidLength(i64),
    /// Null where the version does not allow it.
    #[error("null where a value must be")]
    Null,
    /// A variable-length number with too many bytes.
    #[error("a variable-length number is too long")]
    NumberTooLong,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A tagged field whose value is not as long as it says.
    #[error("tagged field {0} has another size than it says")]
    TagSize(u32),
    /// More than [`DECODED_BYTES_MAX`] in memory.
    #[error("the message would take more than {DECODED_BYTES_MAX} bytes of memory")]
    TooLarge,
    /// A version that is not spoken here.
    #[error("version {version} is not one of {min} to {max}")]
    UnsupportedVersion {
        /// The version asked for.
        version: i16,
        /// The lowest that is spoken.
        min: i16,
        /// The highest.
        max: i16,
    },
}

/// Reads values from a frame.
#[derive(Clone, Debug)]
pub struct Reader {
    frame: Bytes,
    at: usize,
    end: usize,
    budget: usize,
}

impl Reader {
    /// Reads from the start of `frame`.
    #[must_use]
    pub fn new(frame: Bytes) -> Self {
        let end = frame.len();
        Self { frame, at: 0, end, budget: DECODED_BYTES_MAX }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// What is left, as a slice of the frame.
    #[must_use]
    pub fn rest(&self) -> Bytes {
        self.frame.slice(self.at..self.end)
    }

    fn advance(&mut self, size: usize) -> Result<usize, WireError> {
        if size > self.remaining() {
            return Err(WireError::Truncated);
        }
        let from = self.at;
        self.at += size;
        Ok(from)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let from = self.advance(N)?;
        Ok(*self.frame[from..].first_chunk().expect("advance checked the length"))
    }

    /// The next `size` bytes, as a slice of the frame.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn bytes(&mut self, size: usize) -> Result<Bytes, WireError> {
        let from = self.advance(size)?;
        Ok(self.frame.slice(from..from + size))
    }

    /// A string of `size` bytes.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn string(&mut self, size: usize) -> Result<String, WireError> {
        if size > STRING_SIZE_MAX {
            return Err(WireError::InvalidLength(size as i64));
        }
        let from = self.advance(size)?;
        self.charge(size + STRING_COST)?;
        let text = std::str::from_utf8(&self.frame[from..from + size]).map_err(|_| WireError::NotUtf8)?;
        Ok(text.to_owned())
    }

    /// An unsigned number in seven-bit groups, the lowest first.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn uvarint(&mut self) -> Result<u32, WireError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            let group = u32::from(byte & 0x7f);
            if shift == 28 && group > 0x0f {
                return Err(WireError::NumberTooLong);
            }
            value |= group << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::NumberTooLong)
    }

    /// A length in the flexible encoding; `None` for null.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn compact_length(&mut self) -> Result<Option<usize>, WireError> {
        Ok(self.uvarint()?.checked_sub(1).map(|size| size as usize))
    }

    /// A length in the older encoding, as it was read; `None` for null.
    ///
    /// # Errors
    /// [`WireError::InvalidLength`].
    pub fn length(raw: i32) -> Result<Option<usize>, WireError> {
        match usize::try_from(raw) {
            Ok(size) => Ok(Some(size)),
            Err(_) if raw == -1 => Ok(None),
            Err(_) => Err(WireError::InvalidLength(raw.into())),
        }
    }

    /// Takes `size` from what the frame may turn into.
    ///
    /// # Errors
    /// [`WireError::TooLarge`].
    pub fn charge(&mut self, size: usize) -> Result<(), WireError> {
        self.budget = self.budget.checked_sub(size).ok_or(WireError::TooLarge)?;
        Ok(())
    }

    /// `count` elements, each read by `read`.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn elements<T>(
        &mut self,
        count: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        // Every element takes at least one byte.
        if count > self.remaining() {
            return Err(WireError::Truncated);
        }
        let size = size_of::<T>().max(1);
        let mut list = Vec::with_capacity(count.min(FIRST_RESERVATION / size));
        for _ in 0..count {
            self.charge(size)?;
            list.push(read(self)?);
        }
        Ok(list)
    }

    /// The tagged fields that end a struct. `take` reads the value of a tag that it knows and says true; others are
    /// skipped.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn tags(&mut self, mut take: impl FnMut(&mut Self, u32) -> Result<bool, WireError>) -> Result<(), WireError> {
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let size = self.uvarint()? as usize;
            if size > self.remaining() {
                return Err(WireError::Truncated);
            }
            let outer = std::mem::replace(&mut self.end, self.at + size);
            let known = take(self, tag)?;
            if known && self.at != self.end {
                return Err(WireError::TagSize(tag));
            }
            self.at = self.end;
            self.end = outer;
        }
        Ok(())
    }
}
