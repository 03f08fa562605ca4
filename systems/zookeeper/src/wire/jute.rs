//! The jute encoding: big-endian integers, length-prefixed buffers, strings and vectors.
//!
//! - upon a buffer or string: an `i32` length, then that many bytes; -1 stands for null.
//! - upon a vector: an `i32` count, then its elements; -1 stands for null and reads as empty.
//! - upon a boolean: one byte; anything but 0 is true.
//!
//! Decoding borrows from the input and allocates only for vectors, whose count is checked against the bytes that are
//! left before anything is reserved. Trailing bytes are not an error: older servers read newer records that way.

use thiserror::Error;

/// The longest buffer or string that is decoded. Packets are bounded far below it by the session.
pub const BUFFER_SIZE_MAX: usize = 64 << 20;
/// The most elements that one vector may hold.
pub const VECTOR_COUNT_MAX: usize = 1 << 20;

/// Bytes that are not the record which they should be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The input ends inside the record.
    #[error("the record ends early")]
    Truncated,
    /// A length below -1.
    #[error("negative length {0}")]
    NegativeLength(i32),
    /// A length above its bound, or a vector with more elements than bytes left.
    #[error("length {0} is above its bound")]
    TooLong(i32),
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// An enumeration's number that has no name.
    #[error("unknown number {0}")]
    UnknownNumber(i32),
}

/// Reads jute values from a slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// True if everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `size` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn take(&mut self, size: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(size).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// A length prefix: `None` for null.
    fn length(&mut self, max: usize) -> Result<Option<usize>, DecodeError> {
        let raw = i32::from_be_bytes(self.array()?);
        match usize::try_from(raw) {
            Ok(size) if size > max => Err(DecodeError::TooLong(raw)),
            Ok(size) => Ok(Some(size)),
            Err(_) if raw == -1 => Ok(None),
            Err(_) => Err(DecodeError::NegativeLength(raw)),
        }
    }
}

/// A value that jute can read.
pub trait Decode<'a>: Sized {
    /// Reads one value.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Reads one value from the start of `bytes`; bytes behind it are ignored.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn from_bytes(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Self::decode(&mut Reader::new(bytes))
    }
}

/// A value that jute can write.
pub trait Encode {
    /// Appends the value.
    fn encode(&self, out: &mut Vec<u8>);

    /// The value alone.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

macro_rules! fixed {
    ($($type:ty),*) => { $(
        impl Decode<'_> for $type {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.array().map(<$type>::from_be_bytes)
            }
        }
        impl Encode for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    )* };
}
fixed!(u8, i32, i64);

impl Decode<'_> for bool {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(u8::decode(reader)? != 0)
    }
}

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl<'a> Decode<'a> for Option<&'a [u8]> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.length(BUFFER_SIZE_MAX)?.map(|size| reader.take(size)).transpose()
    }
}

impl Encode for Option<&[u8]> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => (-1i32).encode(out),
            Some(bytes) => {
                length_of(bytes.len()).encode(out);
                out.extend_from_slice(bytes);
            }
        }
    }
}

/// A null string reads as empty: no record of the protocol tells the two apart.
impl<'a> Decode<'a> for &'a str {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let bytes = Option::<&[u8]>::decode(reader)?.unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8)
    }
}

impl Encode for &str {
    fn encode(&self, out: &mut Vec<u8>) {
        Some(self.as_bytes()).encode(out);
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Vec<T> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let count = reader.length(VECTOR_COUNT_MAX)?.unwrap_or_default();
        // Every element of every vector in the protocol takes at least four bytes.
        if count > reader.rest.len() / 4 {
            return Err(DecodeError::Truncated);
        }
        // A small first reservation keeps a lying count from costing more than the bytes that it came with.
        let mut list = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            list.push(T::decode(reader)?);
        }
        Ok(list)
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        length_of(self.len()).encode(out);
        for element in self {
            element.encode(out);
        }
    }
}

/// A length as jute writes it.
#[must_use]
pub fn length_of(size: usize) -> i32 {
    i32::try_from(size).expect("what is written was bounded when it came in")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_bounded() {
        let long = (BUFFER_SIZE_MAX as i32 + 1).to_be_bytes();
        assert_eq!(Option::<&[u8]>::from_bytes(&long), Err(DecodeError::TooLong(BUFFER_SIZE_MAX as i32 + 1)));
        assert_eq!(Option::<&[u8]>::from_bytes(&(-2i32).to_be_bytes()), Err(DecodeError::NegativeLength(-2)));
        assert_eq!(Option::<&[u8]>::from_bytes(&(-1i32).to_be_bytes()), Ok(None));
        assert_eq!(Option::<&[u8]>::from_bytes(&[0, 0, 0, 2, 1]), Err(DecodeError::Truncated));
        assert_eq!(<&str>::from_bytes(&[0, 0, 0, 1, 0xff]), Err(DecodeError::NotUtf8));
        assert_eq!(<&str>::from_bytes(&(-1i32).to_be_bytes()), Ok(""));
    }

    #[test]
    fn a_count_without_bytes_reserves_nothing() {
        assert_eq!(Vec::<i32>::from_bytes(&(VECTOR_COUNT_MAX as i32).to_be_bytes()), Err(DecodeError::Truncated));
        assert_eq!(Vec::<i32>::from_bytes(&(-1i32).to_be_bytes()), Ok(vec![]));
        assert_eq!(Vec::<i32>::from_bytes(&[0, 0, 0, 1, 0, 0, 0, 9]), Ok(vec![9]));
    }
}
