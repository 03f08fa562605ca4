//! What is looked up beside the chain: which block has a transaction (`-txindex`), filters of blocks for light clients
//! (`-blockfilterindex`, BIP 158), figures of all coins as of each block (`-coinstatsindex`), and
//! who spends an output (`-txospenderindex`).
//!
//! - upon a block that is connected: all take it in;
//! - upon a start: blocks that came while nobody indexed are taken in, from the last one that was;
//! - upon a reorganisation: nothing. A transaction of a block that does not count any more is found there until another has it,
//!   as in Core; filters and figures stand under their blocks' hashes.
//!
//! - upon a block that is missing because old ones are thrown away: an index cannot begin or go on, and says so.
//!
//! Deliberately absent: any index by address.

mod follow;
mod muhash;
mod spenders;
mod stats;

use std::sync::Arc;

use bitcoin::bip158::{BlockFilter, FilterHeader};
use bitcoin::block::Block;
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, OutPoint, Txid};
use verity_nakamoto::BlockId;
use verity_storage::kv::RedbConfig;
use verity_storage::{Batch, Disk, Keyspace, Kv, KvRead as _, RedbKv};

pub(crate) use muhash::MuHash;
pub use stats::Stats;
pub(crate) use stats::{bogosize, coin_bytes};

use crate::chain::{BlockUndo, Chain, ChainError};
use spenders::Spenders;
use stats::CoinStats;

const TRANSACTIONS: Keyspace = Keyspace("transactions");
const FILTERS: Keyspace = Keyspace("filters");
const META: Keyspace = Keyspace("meta");
const BEST: &[u8] = b"best";

/// A block's filter, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its content (BIP 158).
    pub content: Vec<u8>,
    /// The header that commits to it and to all before.
    pub header: FilterHeader,
}

/// One index of its own database.
#[derive(Debug)]
struct Part {
    kv: RedbKv,
    /// The last block that was taken in.
    best: Option<BlockHash>,
    dirty: bool,
}

impl Part {
    fn open(disk: &Arc<dyn Disk>, folder: &str) -> Result<Self, ChainError> {
        disk.create_dir(folder)?;
        let config = RedbConfig { path: format!("{folder}/index.redb"), cache_size: 1 << 20, ..RedbConfig::default() };
        let kv = RedbKv::open(disk.as_ref(), &config)?;
        let best = kv.get(META, BEST)?.and_then(|hash| BlockHash::from_slice(&hash).ok());
        Ok(Self { kv, best, dirty: false })
    }

    fn write(&mut self, mut batch: Batch, best: BlockHash) -> Result<(), ChainError> {
        batch.put(META, BEST, best.as_byte_array().to_vec());
        self.kv.write(&batch)?;
        (self.best, self.dirty) = (Some(best), true);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ChainError> {
        if std::mem::take(&mut self.dirty) {
            self.kv.flush()?;
        }
        Ok(())
    }

    /// The last block of the chain that counts which was taken in.
    fn reached(&self, chain: &Chain) -> Option<BlockId> {
        let best = chain.tree().find(&self.best?)?;
        Some(chain.tree().fork(best, chain.tip()))
    }
}

/// Which indexes an operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexOptions {
    /// `-txindex`.
    pub transactions: bool,
    /// `-blockfilterindex`.
    pub filters: bool,
    /// `-coinstatsindex`.
    pub stats: bool,
    /// `-txospenderindex`.
    pub spenders: bool,
}

/// The indexes that an operator asked for.
#[derive(Debug, Default)]
pub struct Index {
    transactions: Option<Part>,
    filters: Option<Part>,
    stats: Option<CoinStats>,
    spenders: Option<Spenders>,
}

/// A block's basic filter (BIP 158) upon the header of the one below.
///
/// # Panics
/// If `undo` is not what this block spent.
#[must_use]
pub fn basic_filter(block: &Block, undo: &BlockUndo, below: FilterHeader) -> Filter {
    let mut spent = undo.txs.iter().flat_map(|tx| &tx.spent);
    // The library asks for inputs in the block's order, which is that of what was kept.
    let script = |outpoint: &bitcoin::OutPoint| {
        let coin = spent.next().ok_or(bitcoin::bip158::Error::UtxoMissing(*outpoint))?;
        Ok::<_, bitcoin::bip158::Error>(coin.out.script_pubkey.clone())
    };
    let script = std::cell::RefCell::new(script);
    let filter = BlockFilter::new_script_filter(block, |outpoint| (script.borrow_mut())(outpoint));
    let filter = filter.expect("what a block spent is kept for each of its inputs");
    let header = filter.filter_header(&below);
    Filter { content: filter.content, header }
}

impl Index {
    /// Opens what is asked for, and takes in what came meanwhile.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(disk: &Arc<dyn Disk>, chain: &Chain, options: IndexOptions) -> Result<Self, ChainError> {
        let part = |wanted: bool, folder: &str| wanted.then(|| Part::open(disk, folder)).transpose();
        let mut index = Self {
            transactions: part(options.transactions, "indexes/txindex")?,
            filters: part(options.filters, "indexes/blockfilter/basic")?,
            stats: part(options.stats, "indexes/coinstatsindex")?.map(CoinStats::open).transpose()?,
            spenders: part(options.spenders, "indexes/txospenderindex")?.map(|part| Spenders { part }),
        };
        index.catch_up(chain)?;
        index.flush()?;
        Ok(index)
    }

    fn catch_up(&mut self, chain: &Chain) -> Result<(), ChainError> {
        let next = |part: &Part| part.reached(chain).map_or(0, |id| chain.entry(id).height + 1);
        let Some((from, last)) = self.parts().map(|(name, part)| (next(part), name)).min() else { return Ok(()) };
        for height in from..=chain.height() {
            let id = chain.active(height).expect("it is no higher than the tip");
            let missing = || {
                if chain.has_pruned() {
                    return ChainError::Corrupt(format!(
                        "{last} best block of the index goes beyond pruned data (including undo data). Please disable the index \
                         or reindex (which will download the whole blockchain again)"
                    ));
                }
                ChainError::Corrupt(format!(
                    "block {height} is not stored whole; move its folder away, and the blocks are asked for anew"
                ))
            };
            let (block, undo) = (chain.block(id)?.ok_or_else(missing)?, chain.undo(id)?.ok_or_else(missing)?);
            self.on_connected(chain, id, &block, &undo)?;
        }
        Ok(())
    }

    /// Upon a block that is connected.
    ///
    /// # Errors
    /// The disk's.
    pub fn on_connected(
        &mut self,
        chain: &Chain,
        id: BlockId,
        block: &Block,
        undo: &BlockUndo,
    ) -> Result<(), ChainError> {
        let entry = chain.entry(id);
        if let Some(part) = &mut self.transactions {
            let mut batch = Batch::new();
            // That of the first block can never be spent, and is not found either.
            for tx in block.txdata.iter().filter(|_| entry.prev.is_some()) {
                batch.put(
                    TRANSACTIONS,
                    tx.compute_txid().to_byte_array().to_vec(),
                    entry.hash.as_byte_array().to_vec(),
                );
            }
            part.write(batch, entry.hash)?;
        }
        let below = match entry.prev.filter(|_| self.filters.is_some()) {
            Some(prev) => self.filter(chain, prev)?.map(|filter| filter.header),
            None => Some(FilterHeader::all_zeros()),
        };
        if let (Some(part), Some(below)) = (&mut self.filters, below) {
            let filter = basic_filter(block, undo, below);
            let value = [filter.header.as_byte_array(), &filter.content[..]].concat();
            let mut batch = Batch::new();
            batch.put(FILTERS, entry.hash.as_byte_array().to_vec(), value);
            part.write(batch, entry.hash)?;
        }
        if let Some(stats) = &mut self.stats {
            follow::follow(stats, chain, id, block, undo)?;
        }
        if let Some(spenders) = &mut self.spenders {
            follow::follow(spenders, chain, id, block, undo)?;
        }
        Ok(())
    }

    /// Each index by Core's name.
    fn parts(&self) -> impl Iterator<Item = (&'static str, &Part)> {
        let stats = self.stats.as_ref().map(|stats| &stats.part);
        let named = [
            ("txindex", self.transactions.as_ref()),
            ("basic block filter index", self.filters.as_ref()),
            ("coinstatsindex", stats),
            ("txospenderindex", self.spenders.as_ref().map(|spenders| &spenders.part)),
        ];
        named.into_iter().filter_map(|(name, part)| Some((name, part?)))
    }

    /// Brings what was taken in to stable storage.
    ///
    /// # Errors
    /// The disk's.
    pub fn flush(&mut self) -> Result<(), ChainError> {
        let stats = self.stats.as_mut().map(|stats| &mut stats.part);
        let spenders = self.spenders.as_mut().map(|spenders| &mut spenders.part);
        for part in [self.transactions.as_mut(), self.filters.as_mut(), stats, spenders].into_iter().flatten() {
            part.flush()?;
        }
        Ok(())
    }

    /// The block that has a transaction.
    ///
    /// # Errors
    /// The disk's.
    pub fn transaction(&self, chain: &Chain, txid: &Txid) -> Result<Option<BlockId>, ChainError> {
        let Some(part) = &self.transactions else { return Ok(None) };
        let hash = part.kv.get(TRANSACTIONS, txid.as_byte_array())?;
        Ok(hash.and_then(|hash| chain.tree().find(&BlockHash::from_slice(&hash).ok()?)))
    }

    /// A block's filter.
    ///
    /// # Errors
    /// The disk's.
    pub fn filter(&self, chain: &Chain, id: BlockId) -> Result<Option<Filter>, ChainError> {
        let Some(part) = &self.filters else { return Ok(None) };
        let Some(value) = part.kv.get(FILTERS, chain.entry(id).hash.as_byte_array())? else { return Ok(None) };
        let filter = value.split_at_checked(32).and_then(|(header, content)| {
            Some(Filter { content: content.to_vec(), header: FilterHeader::from_slice(header).ok()? })
        });
        let broken = || ChainError::Corrupt("the index of filters has one that is none".to_owned());
        filter.ok_or_else(broken).map(Some)
    }

    /// Each index by Core's name, and up to which height it is complete.
    #[must_use]
    pub fn progress(&self, chain: &Chain) -> Vec<(&'static str, u32)> {
        let height = |part: &Part| part.reached(chain).map_or(0, |id| chain.entry(id).height);
        self.parts().map(|(name, part)| (name, height(part))).collect()
    }

    /// Figures of all coins as of a block, if they are kept and it was ever the tip.
    ///
    /// # Errors
    /// The disk's.
    pub fn stats(&self, chain: &Chain, id: BlockId) -> Result<Option<Stats>, ChainError> {
        self.stats.as_ref().map_or(Ok(None), |stats| stats.find(chain.entry(id).hash))
    }

    /// The block whose transaction at this place spends an output, if that is known.
    ///
    /// # Errors
    /// The disk's.
    pub fn spender(&self, chain: &Chain, outpoint: &OutPoint) -> Result<Option<(BlockId, usize)>, ChainError> {
        self.spenders.as_ref().map_or(Ok(None), |spenders| spenders.find(chain, outpoint))
    }

    /// True if it is known who spends what.
    #[must_use]
    pub fn has_spenders(&self) -> bool {
        self.spenders.is_some()
    }

    /// True if figures are kept.
    #[must_use]
    pub fn has_stats(&self) -> bool {
        self.stats.is_some()
    }

    /// True if blocks are of use to an index after they were connected: those that it has taken in may not be kept yet.
    #[must_use]
    pub fn needs_blocks(&self) -> bool {
        self.filters.is_some() || self.stats.is_some() || self.spenders.is_some()
    }
}
