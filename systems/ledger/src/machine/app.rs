//! What runs transactions: the shape of ABCI 2.0, so that an application in another process can stand in its place.
//!
//! HAZARD: every replica calls the same application with the same blocks. One that answers differently on two of them
//! splits the ledger at the next header, whose hashes differ.

use bytes::Bytes;

use crate::wire::{AbciEvent, CheckTx, ExecTxResult, Info, QueryResponse, Time};

/// What an application is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppQuery {
    /// What kind of thing.
    pub path: String,
    /// Which.
    pub data: Bytes,
    /// As of this height; 0 for the last.
    pub height: i64,
    /// With a proof.
    pub prove: bool,
}

/// A block that is to run.
#[derive(Clone, Copy, Debug)]
pub struct BlockToRun<'a> {
    /// Which.
    pub height: u64,
    /// Its header's time.
    pub time: Time,
    /// In their order.
    pub txs: &'a [Bytes],
}

/// What a block came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalizedBlock {
    /// One for each transaction.
    pub tx_results: Vec<ExecTxResult>,
    /// What happened beside them.
    pub events: Vec<AbciEvent>,
    /// Of the state behind it; the next header carries it.
    pub app_hash: Bytes,
}

/// An application.
pub trait App: Send {
    /// What it is, and what it ran last.
    fn info(&mut self) -> Info;

    /// A chain begins. Answers the hash of the state that it begins with.
    fn init_chain(&mut self, chain_id: &str, time: Time) -> Bytes;

    /// May this transaction be ordered?
    fn check_tx(&self, tx: &[u8]) -> CheckTx;

    /// Makes a block's transactions of those that wait, of which as many are given as fit into `bytes_max`.
    fn prepare_proposal(&self, txs: &[Bytes], bytes_max: usize) -> Vec<Bytes>;

    /// May a block hold these?
    fn process_proposal(&self, txs: &[Bytes]) -> bool;

    /// Runs a block.
    fn finalize_block(&mut self, block: BlockToRun<'_>) -> FinalizedBlock;

    /// What [`App::finalize_block`] did is to stay. Answers the lowest height whose block is still needed; 0 for any.
    fn commit(&mut self) -> u64;

    /// Answers from the state behind the last block.
    fn query(&mut self, query: &AppQuery) -> QueryResponse;

    /// Begins a snapshot of the state as it is now; a second begin discards the first.
    fn snapshot_begin(&mut self);

    /// Draws the next chunk of about `size_max` bytes, while further blocks run; `None` ends the snapshot.
    fn snapshot_next(&mut self, size_max: usize) -> Option<Bytes>;

    /// Forgets everything, to be restored by chunks.
    fn restore_begin(&mut self);

    /// Takes a chunk.
    ///
    /// # Errors
    /// What is wrong with it.
    fn restore_chunk(&mut self, chunk: &[u8]) -> Result<(), String>;

    /// The hash of the state.
    fn app_hash(&mut self) -> Bytes;

    /// What else is its state, and the hash says nothing of.
    fn aside(&self) -> [u64; 2];

    /// Bytes of memory that the state holds, roughly.
    fn size(&self) -> u64;
}
