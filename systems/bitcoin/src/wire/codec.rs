//! Bytes to fields and back.
//!
//! A count is checked against the bytes that are there before anything is allocated for it.

use bitcoin::consensus::encode::Error;
use bitcoin::consensus::{Decodable, Encodable};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Transaction};
use thiserror::Error;

/// A transaction without inputs and outputs.
pub(super) const TRANSACTION_BYTES_MIN: usize = 10;
/// No count is above it, whatever it counts.
const COUNT_MAX: u64 = 0x0200_0000;

/// A message cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// It ends early.
    #[error("DataStream::read(): end of data: iostream error")]
    Short,
    /// A count takes more bytes than it needs.
    #[error("non-canonical ReadCompactSize()")]
    NonCanonical,
    /// A count is out of bounds.
    #[error("ReadCompactSize(): size too large")]
    TooMany,
    /// An address is longer than any may be (BIP 155).
    #[error("Address too long: {0} > 512")]
    AddressTooLong(u64),
    /// A field has a value that none may have.
    #[error("{0}")]
    Invalid(&'static str),
    /// A transaction, a block or a header is not one.
    #[error("{0}")]
    Inner(String),
}

/// What is left to be read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Of these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// True if nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.bytes.split_at_checked(count).ok_or(DecodeError::Short)?;
        self.bytes = tail;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("as many bytes were taken"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u16_be(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A number in as few bytes as it needs, of any size.
    pub(super) fn compact(&mut self) -> Result<u64, DecodeError> {
        let (value, least) = match self.u8()? {
            0xfd => (u64::from(self.u16()?), 0xfd),
            0xfe => (u64::from(self.u32()?), 0x1_0000),
            0xff => (self.u64()?, 0x1_0000_0000),
            small => (u64::from(small), 0),
        };
        if value < least { Err(DecodeError::NonCanonical) } else { Ok(value) }
    }

    /// How many elements follow, each of at least `size` bytes.
    pub(super) fn count(&mut self, size: usize) -> Result<usize, DecodeError> {
        let count = self.compact()?;
        if count > COUNT_MAX {
            return Err(DecodeError::TooMany);
        }
        let count = count as usize;
        if count > self.len() / size.max(1) { Err(DecodeError::Short) } else { Ok(count) }
    }

    /// Elements behind their count.
    pub(super) fn list<T>(
        &mut self,
        size: usize,
        mut each: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(size)?;
        (0..count).map(|_| each(self)).collect()
    }

    /// Bytes behind their count, no more than `most`.
    pub(super) fn bytes(&mut self, most: usize) -> Result<&'a [u8], DecodeError> {
        let count = self.compact()?;
        if count > COUNT_MAX || count > most as u64 {
            return Err(DecodeError::TooMany);
        }
        self.take(count as usize)
    }

    pub(super) fn hash(&mut self) -> Result<BlockHash, DecodeError> {
        Ok(BlockHash::from_byte_array(self.array()?))
    }

    /// One transaction. Without inputs and outputs it reads like the mark of a witness that marks nothing: it is one all the
    /// same, and refused for having no inputs.
    pub(super) fn transaction(&mut self) -> Result<Transaction, DecodeError> {
        let Some([v0, v1, v2, v3, 0, 0, t0, t1, t2, t3]) = self.bytes.first_chunk().copied() else {
            return self.inner();
        };
        self.take(TRANSACTION_BYTES_MIN)?;
        Ok(Transaction {
            version: bitcoin::transaction::Version(i32::from_le_bytes([v0, v1, v2, v3])),
            lock_time: bitcoin::absolute::LockTime::from_consensus(u32::from_le_bytes([t0, t1, t2, t3])),
            input: Vec::new(),
            output: Vec::new(),
        })
    }

    /// One of the types that have their own way.
    pub(super) fn inner<T: Decodable>(&mut self) -> Result<T, DecodeError> {
        T::consensus_decode(&mut self.bytes).map_err(of_inner)
    }
}

/// What the network's nodes say of it.
fn of_inner(error: Error) -> DecodeError {
    match error {
        Error::Io(_) => DecodeError::Short,
        Error::NonMinimalVarInt => DecodeError::NonCanonical,
        Error::UnsupportedSegwitFlag(_) => DecodeError::Invalid("Unknown transaction optional data"),
        Error::ParseFailed("witness flag set but no witnesses present") => {
            DecodeError::Invalid("Superfluous witness record")
        }
        other => DecodeError::Inner(other.to_string()),
    }
}

/// Writes a number in as few bytes as it needs.
pub(super) fn put_compact(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0xfc => out.push(value as u8),
        0xfd..=0xffff => {
            out.push(0xfd);
            out.extend_from_slice(&(value as u16).to_le_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xfe);
            out.extend_from_slice(&(value as u32).to_le_bytes());
        }
        _ => {
            out.push(0xff);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// Writes bytes behind their count.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_compact(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Writes one of the types that have their own way.
pub(super) fn put_inner(out: &mut Vec<u8>, value: &impl Encodable) {
    value.consensus_encode(out).expect("memory refuses no write");
}

/// Writes hashes behind their count.
pub(super) fn put_hashes(out: &mut Vec<u8>, hashes: &[BlockHash]) {
    put_compact(out, hashes.len() as u64);
    hashes.iter().for_each(|hash| out.extend_from_slice(hash.as_byte_array()));
}
