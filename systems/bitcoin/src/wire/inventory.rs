//! Things that can be asked for, by name.

use std::fmt;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid, Wtxid};

use super::codec::{DecodeError, Reader};

const WITNESS: u32 = 1 << 30;

/// What kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A transaction by its txid, without witnesses.
    Tx,
    /// A block without witnesses.
    Block,
    /// A block of which a filter's matches alone are wanted (BIP 37).
    FilteredBlock,
    /// A compact block (BIP 152).
    CompactBlock,
    /// A transaction by its wtxid (BIP 339).
    Wtx,
    /// A transaction by its txid, with witnesses (BIP 144).
    WitnessTx,
    /// A block with witnesses (BIP 144).
    WitnessBlock,
    /// Something that is not known here.
    Unknown(u32),
}

/// A thing by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inventory {
    /// Its kind.
    pub item: Item,
    /// Its hash, as bytes on the wire.
    pub hash: [u8; 32],
}

impl Inventory {
    /// Bytes on the wire.
    pub(super) const SIZE: usize = 36;

    /// A block's.
    #[must_use]
    pub fn block(item: Item, hash: BlockHash) -> Self {
        Self { item, hash: hash.to_byte_array() }
    }

    /// A transaction's, by its txid.
    #[must_use]
    pub fn tx(txid: Txid) -> Self {
        Self { item: Item::Tx, hash: txid.to_byte_array() }
    }

    /// A transaction's, by its wtxid.
    #[must_use]
    pub fn wtx(wtxid: Wtxid) -> Self {
        Self { item: Item::Wtx, hash: wtxid.to_byte_array() }
    }

    /// The hash of a block.
    #[must_use]
    pub fn block_hash(&self) -> BlockHash {
        BlockHash::from_byte_array(self.hash)
    }

    /// Its hash as people write it: backwards.
    #[must_use]
    pub fn hex(&self) -> String {
        self.hash.iter().rev().map(|byte| format!("{byte:02x}")).collect()
    }

    /// True of transactions, by whatever name.
    #[must_use]
    pub fn is_transaction(&self) -> bool {
        matches!(self.item, Item::Tx | Item::Wtx | Item::WitnessTx)
    }

    /// True of blocks, in whatever shape.
    #[must_use]
    pub fn is_block(&self) -> bool {
        matches!(self.item, Item::Block | Item::FilteredBlock | Item::CompactBlock | Item::WitnessBlock)
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let item = match reader.u32()? {
            1 => Item::Tx,
            2 => Item::Block,
            3 => Item::FilteredBlock,
            4 => Item::CompactBlock,
            5 => Item::Wtx,
            number if number == WITNESS | 1 => Item::WitnessTx,
            number if number == WITNESS | 2 => Item::WitnessBlock,
            number => Item::Unknown(number),
        };
        Ok(Self { item, hash: reader.array()? })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let number = match self.item {
            Item::Tx => 1,
            Item::Block => 2,
            Item::FilteredBlock => 3,
            Item::CompactBlock => 4,
            Item::Wtx => 5,
            Item::WitnessTx => WITNESS | 1,
            Item::WitnessBlock => WITNESS | 2,
            Item::Unknown(number) => number,
        };
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&self.hash);
    }
}

impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.item {
            Item::Tx => "tx",
            Item::Block => "block",
            Item::FilteredBlock => "merkleblock",
            Item::CompactBlock => "cmpctblock",
            Item::Wtx => "wtx",
            Item::WitnessTx => "witness-tx",
            Item::WitnessBlock => "witness-block",
            Item::Unknown(number) => return write!(f, "0x{number:08x} {}", self.hex()),
        };
        write!(f, "{name} {}", self.hex())
    }
}
