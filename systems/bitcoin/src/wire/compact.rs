//! Blocks for whoever has most of their transactions already (BIP 152, version 2).
//!
//! - a compact block names each transaction by 48 bits of a keyed hash of its wtxid, but for those that it brings;
//! - upon one: what the mempool has is put in its place (`Partial`), and the rest is asked for by index;
//! - upon two candidates for one place: neither is believed, and the transaction is asked for;
//! - upon two places of one name: the block is asked for as a whole;
//! - upon a block that was put together and has another Merkle root: the same, for a name may have met the wrong one.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::block::{Block, Header};
use bitcoin::hashes::{Hash, HashEngine, sha256, siphash24};
use bitcoin::{BlockHash, Transaction, Wtxid};

use super::codec::{DecodeError, Reader, put_compact, put_inner};

/// No more transactions than this fit into a block, by the weight of the smallest that can be written.
const TX_COUNT_MAX: usize = 4_000_000 / (4 * 10);
/// The least that a transaction takes on the wire.
pub(super) const TX_SIZE_MIN: usize = 10;
/// Six bytes of the keyed hash.
const NAME_MASK: u64 = 0xffff_ffff_ffff;

/// A transaction that a compact block brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefilled {
    /// How many places lie between the one before and its own.
    pub gap: u16,
    /// It.
    pub tx: Arc<Transaction>,
}

/// A block by the names of its transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactBlock {
    /// The block's header.
    pub header: Header,
    /// What the names' key is made of, besides the header.
    pub nonce: u64,
    /// The names, but for those it brings.
    pub names: Vec<u64>,
    /// Those it brings, the coinbase at least.
    pub prefilled: Vec<Prefilled>,
}

/// By which names are made.
#[derive(Clone, Copy, Debug)]
pub struct ShortIdKey {
    k0: u64,
    k1: u64,
}

impl ShortIdKey {
    /// Of one compact block.
    #[must_use]
    pub fn new(header: &Header, nonce: u64) -> Self {
        let mut bytes = Vec::with_capacity(88);
        put_inner(&mut bytes, header);
        bytes.extend_from_slice(&nonce.to_le_bytes());
        let hash = sha256::Hash::hash(&bytes).to_byte_array();
        let word = |at: usize| u64::from_le_bytes(hash[at..at + 8].try_into().expect("a hash has 32 bytes"));
        Self { k0: word(0), k1: word(8) }
    }

    /// A transaction's name.
    #[must_use]
    pub fn name(&self, wtxid: &Wtxid) -> u64 {
        let mut engine = siphash24::HashEngine::with_keys(self.k0, self.k1);
        engine.input(wtxid.as_byte_array());
        siphash24::Hash::from_engine(engine).as_u64() & NAME_MASK
    }
}

impl CompactBlock {
    /// Of a block; it brings the coinbase alone.
    #[must_use]
    pub fn new(block: &Block, nonce: u64) -> Self {
        let key = ShortIdKey::new(&block.header, nonce);
        let names = block.txdata.iter().skip(1).map(|tx| key.name(&tx.compute_wtxid())).collect();
        let prefilled = block.txdata.iter().take(1).map(|tx| Prefilled { gap: 0, tx: Arc::new(tx.clone()) }).collect();
        Self { header: block.header, nonce, names, prefilled }
    }

    /// How many transactions the block has.
    #[must_use]
    pub fn tx_count(&self) -> usize {
        self.names.len() + self.prefilled.len()
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (header, nonce) = (reader.inner()?, reader.u64()?);
        let names = reader.list(6, |reader| {
            let [a, b, c, d, e, f] = reader.array::<6>()?;
            Ok(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
        })?;
        let prefilled = reader.list(1 + TX_SIZE_MIN, |reader| {
            let gap = u16::try_from(reader.compact()?)
                .map_err(|_| DecodeError::Invalid("CompactSize exceeds limit of type"))?;
            Ok(Prefilled { gap, tx: Arc::new(reader.inner()?) })
        })?;
        let block = Self { header, nonce, names, prefilled };
        if block.tx_count() > usize::from(u16::MAX) {
            return Err(DecodeError::Invalid("indexes overflowed 16 bits"));
        }
        Ok(block)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_inner(out, &self.header);
        out.extend_from_slice(&self.nonce.to_le_bytes());
        put_compact(out, self.names.len() as u64);
        self.names.iter().for_each(|name| out.extend_from_slice(&name.to_le_bytes()[..6]));
        put_compact(out, self.prefilled.len() as u64);
        for prefilled in &self.prefilled {
            put_compact(out, u64::from(prefilled.gap));
            put_inner(out, prefilled.tx.as_ref());
        }
    }
}

/// Asks for the transactions of a block that have these places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetBlockTxns {
    /// Which block.
    pub block: BlockHash,
    /// Which places, upwards.
    pub places: Vec<u16>,
}

impl GetBlockTxns {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let block = reader.hash()?;
        let mut next = 0_u64;
        let places = reader.list(1, |reader| {
            let place = next.checked_add(reader.compact()?).and_then(|place| u16::try_from(place).ok());
            let place = place.ok_or(DecodeError::Invalid("differential value overflow"))?;
            next = u64::from(place) + 1;
            Ok(place)
        })?;
        Ok(Self { block, places })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.block.as_byte_array());
        put_compact(out, self.places.len() as u64);
        let mut next = 0;
        for place in &self.places {
            let place = u64::from(*place);
            assert!(place >= next, "places go upwards");
            put_compact(out, place - next);
            next = place + 1;
        }
    }
}

/// The transactions that were asked for, in that order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockTxns {
    /// Of which block.
    pub block: BlockHash,
    /// Them.
    pub txs: Vec<Arc<Transaction>>,
}

impl BlockTxns {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { block: reader.hash()?, txs: reader.list(TX_SIZE_MIN, |reader| Ok(Arc::new(reader.inner()?)))? })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.block.as_byte_array());
        put_compact(out, self.txs.len() as u64);
        self.txs.iter().for_each(|tx| put_inner(out, tx.as_ref()));
    }
}

/// Why a block could not be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconstruction {
    /// What came is no compact block, or not what was asked for.
    Invalid,
    /// Names met: the block has to come as a whole.
    Failed,
}

/// A block of which some transactions are there.
#[derive(Clone, Debug)]
pub struct Partial {
    header: Header,
    txs: Vec<Option<Arc<Transaction>>>,
    places: BTreeMap<u64, usize>,
    key: ShortIdKey,
    met: Vec<bool>,
    /// Filled from the mempool and beyond.
    pub found: usize,
    /// Brought by the compact block.
    pub brought: usize,
}

impl Partial {
    /// Of a compact block.
    ///
    /// # Errors
    /// It is none, or its names meet.
    pub fn new(compact: &CompactBlock) -> Result<Self, Reconstruction> {
        let count = compact.tx_count();
        if count == 0 || count > TX_COUNT_MAX {
            return Err(Reconstruction::Invalid);
        }
        let mut txs: Vec<Option<Arc<Transaction>>> = vec![None; count];
        let mut next = 0_usize;
        for (index, prefilled) in compact.prefilled.iter().enumerate() {
            let place = next + usize::from(prefilled.gap);
            let empty = prefilled.tx.input.is_empty() && prefilled.tx.output.is_empty();
            if empty || place > usize::from(u16::MAX) || place > compact.names.len() + index {
                return Err(Reconstruction::Invalid);
            }
            txs[place] = Some(Arc::clone(&prefilled.tx));
            next = place + 1;
        }
        let free: Vec<usize> = (0..count).filter(|place| txs[*place].is_none()).collect();
        let places: BTreeMap<u64, usize> = compact.names.iter().copied().zip(free).collect();
        if places.len() != compact.names.len() {
            return Err(Reconstruction::Failed);
        }
        let key = ShortIdKey::new(&compact.header, compact.nonce);
        let brought = compact.prefilled.len();
        Ok(Self { header: compact.header, met: vec![false; count], txs, places, key, found: 0, brought })
    }

    /// Puts in its place what the block has of these.
    pub fn fill<'a>(&mut self, candidates: impl Iterator<Item = (Wtxid, &'a Arc<Transaction>)>) {
        for (wtxid, tx) in candidates {
            if self.found == self.places.len() {
                return;
            }
            let Some(&place) = self.places.get(&self.key.name(&wtxid)) else { continue };
            if !self.met[place] {
                self.met[place] = true;
                self.txs[place] = Some(Arc::clone(tx));
                self.found += 1;
            } else if self.txs[place].as_ref().is_some_and(|there| there.compute_wtxid() != wtxid) {
                self.txs[place] = None;
                self.found -= 1;
            }
        }
    }

    /// The header's.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What is still to be asked for.
    #[must_use]
    pub fn missing(&self) -> Vec<u16> {
        (0..self.txs.len()).filter(|place| self.txs[*place].is_none()).map(|place| place as u16).collect()
    }

    /// The block, with what was asked for; `is_announced` tells whether these are its header's transactions.
    ///
    /// # Errors
    /// It is not what was asked for, or not the block that was announced.
    pub fn complete(
        self,
        missing: &[Arc<Transaction>],
        is_announced: impl FnOnce(&Block) -> bool,
    ) -> Result<Block, Reconstruction> {
        let mut rest = missing.iter();
        let mut txdata = Vec::with_capacity(self.txs.len());
        for tx in self.txs {
            let tx = tx.or_else(|| rest.next().cloned()).ok_or(Reconstruction::Invalid)?;
            txdata.push(Arc::unwrap_or_clone(tx));
        }
        if rest.next().is_some() {
            return Err(Reconstruction::Invalid);
        }
        let block = Block { header: self.header, txdata };
        if is_announced(&block) { Ok(block) } else { Err(Reconstruction::Failed) }
    }
}
