//! Blocks that stand, with what they came to: the last ones, by number and by bytes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::trail::Trail;
use crate::wire::{AbciEvent, Block, BlockId, ExecTxResult, Hash, ProtoError, Reader, Writer, sha256};

/// What a block holds in memory beside its bytes, roughly; with each transaction, its places in the index.
const BLOCK_SIZE: u64 = 1_024;
const TX_SIZE: u64 = 512;

/// A block, and what it came to.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its transactions are slices of `encoded`.
    pub(super) block: Block,
    pub(super) encoded: Bytes,
    pub(super) id: BlockId,
    pub(super) hashes: Vec<Hash>,
    /// [`ExecTxResult`]s, encoded.
    pub(super) results: Vec<Bytes>,
    pub(super) events: Vec<AbciEvent>,
    /// Of the state behind it.
    pub(super) app_hash: Bytes,
    /// Of all of it, as a snapshot carries it.
    digest: Hash,
}

impl Stored {
    /// A block, which is the one that was encoded, with its results.
    pub(super) fn new(
        block: Block,
        encoded: Bytes,
        results: Vec<Bytes>,
        events: Vec<AbciEvent>,
        app_hash: Bytes,
    ) -> Result<Self, ProtoError> {
        if block.txs.len() != results.len() {
            return Err(ProtoError("a block has a result for each transaction"));
        }
        let id = block.id(&encoded);
        let hashes = block.txs.iter().map(|tx| sha256(tx)).collect();
        let mut stored = Self { block, encoded, id, hashes, results, events, app_hash, digest: Hash::default() };
        stored.digest = sha256(&stored.encode());
        Ok(stored)
    }

    /// Which one it is.
    pub(super) fn height(&self) -> u64 {
        self.block.header.height
    }

    /// A result.
    pub(super) fn result(&self, at: usize) -> ExecTxResult {
        ExecTxResult::decode(self.results[at].clone()).expect("it was encoded here")
    }

    /// All results.
    pub(super) fn decoded(&self) -> Vec<ExecTxResult> {
        (0..self.results.len()).map(|at| self.result(at)).collect()
    }

    fn size(&self) -> u64 {
        let results: usize = self.results.iter().map(Bytes::len).sum();
        (self.encoded.len() + results) as u64 + BLOCK_SIZE + TX_SIZE * self.results.len() as u64
    }

    /// As a snapshot carries it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.bytes(1, &self.encoded).bytes(3, &self.app_hash);
        self.results.iter().for_each(|result| {
            out.item(2, result);
        });
        // Events travel in the shape of a result that has nothing else.
        let events = ExecTxResult { events: self.events.clone(), ..ExecTxResult::default() };
        out.bytes(4, &events.encode());
        out.out
    }

    /// Reads it.
    pub(super) fn decode(bytes: Bytes) -> Result<Self, ProtoError> {
        let (mut encoded, mut results, mut app_hash, mut events) = (Bytes::new(), Vec::new(), Bytes::new(), Vec::new());
        Reader::new(bytes).fields(|field| {
            match field.number {
                1 => encoded = field.bytes()?,
                2 => results.push(field.bytes()?),
                3 => app_hash = field.bytes()?,
                4 => events = ExecTxResult::decode(field.bytes()?)?.events,
                _ => {}
            }
            Ok(())
        })?;
        for result in &results {
            ExecTxResult::decode(result.clone())?;
        }
        Self::new(Block::decode(encoded.clone())?, encoded, results, events, app_hash)
    }
}

/// The blocks.
#[derive(Debug, Default)]
pub(super) struct Store {
    blocks: VecDeque<Arc<Stored>>,
    by_hash: BTreeMap<Hash, u64>,
    bytes: u64,
    trail: Trail,
}

impl Store {
    /// An empty one whose trail begins there.
    pub(super) fn beginning_at(begin: Hash) -> Self {
        Self { trail: Trail::beginning_at(begin), ..Self::default() }
    }

    /// Of what is stored.
    pub(super) fn trail(&self) -> &Trail {
        &self.trail
    }

    /// Appends a block.
    pub(super) fn push(&mut self, stored: Arc<Stored>) {
        if let Some(last) = self.blocks.back() {
            assert_eq!(last.height() + 1, stored.height(), "blocks come one after the other");
        }
        self.bytes += stored.size();
        self.trail.push(&stored.digest);
        self.by_hash.insert(stored.id.hash, stored.height());
        self.blocks.push_back(stored);
    }

    /// Takes the oldest one out, if there are more than so many, or of more bytes, or it is lower than what is needed.
    pub(super) fn prune(&mut self, count_max: u64, bytes_max: u64, retain: u64) -> Option<Arc<Stored>> {
        let count = self.blocks.len() as u64;
        let is_over = count > count_max || self.bytes > bytes_max || self.base() < retain;
        if count < 2 || !is_over {
            return None;
        }
        let oldest = self.blocks.pop_front().expect("there are two");
        self.bytes -= oldest.size();
        self.trail.pop(&oldest.digest);
        self.by_hash.remove(&oldest.id.hash);
        Some(oldest)
    }

    /// The lowest height that is there; 0 for none.
    pub(super) fn base(&self) -> u64 {
        self.blocks.front().map_or(0, |block| block.height())
    }

    /// The highest height that is there; 0 for none.
    pub(super) fn height(&self) -> u64 {
        self.blocks.back().map_or(0, |block| block.height())
    }

    /// A block.
    pub(super) fn get(&self, height: u64) -> Option<&Arc<Stored>> {
        let at = height.checked_sub(self.base())?;
        self.blocks.get(usize::try_from(at).ok()?)
    }

    /// A block by its hash.
    pub(super) fn by_hash(&self, hash: &[u8]) -> Option<&Arc<Stored>> {
        self.get(*self.by_hash.get(hash)?)
    }

    /// All of them, from the lowest.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Stored>> {
        self.blocks.iter()
    }

    /// Bytes of memory that they hold, roughly.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
