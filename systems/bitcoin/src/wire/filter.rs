//! Filters of blocks for light clients, as they are asked for (BIP 157).
//!
//! Deliberately absent: what a filter is made of ([`index`](crate::index)).

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;

use super::codec::{DecodeError, Reader};

/// The one kind of filter.
pub const BASIC: u8 = 0;
/// A checkpoint stands at each multiple of this height.
pub const CHECKPOINT_INTERVAL: u32 = 1_000;

/// Asks for the filters, or their headers, of a stretch of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterRange {
    /// Which kind.
    pub kind: u8,
    /// From this height on.
    pub start: u32,
    /// Up to this block.
    pub stop: BlockHash,
}

impl FilterRange {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { kind: reader.u8()?, start: reader.u32()?, stop: reader.hash()? })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind);
        out.extend_from_slice(&self.start.to_le_bytes());
        out.extend_from_slice(self.stop.as_byte_array());
    }
}
