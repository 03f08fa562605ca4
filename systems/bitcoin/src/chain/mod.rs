//! The chain: blocks, the coins that they left, and the one way from tip to tip.
//!
//! - upon a block: what can be said of it alone is said at once; once all below it are there it is judged where it stands, and
//!   the coins follow (`check`, `connect`, `coins`);
//! - upon a better chain: the blocks of the old one are undone by what was kept of them, then the new ones applied. Which chain
//!   is better, and the way there, is for [`verity_nakamoto::Engine`] to say;
//! - upon [`Chain::flush`]: files, then their index, then the coins reach stable storage, each whole;
//! - upon a crash anywhere: the coins are those of some block that was applied once, and are taken from there to the best tip.
//!
//! HAZARD: what was not flushed is lost in a crash and must be asked for again, from peers or whoever mined it. Nobody was
//! promised it: a block is an offer, and its confirmations are odds.
//!
//! Deliberately absent: peers, unconfirmed transactions, clocks.

use std::sync::Arc;

use bitcoin::block::{Block, Header};
use bitcoin::consensus::encode::serialize;
use bitcoin::{OutPoint, Transaction, Txid};
use verity_nakamoto::{BlockId, Engine, Entry, HeaderError, Output, Tree};
use verity_storage::kv::RedbConfig;
use verity_storage::{Disk, Kv, RedbKv};

mod check;
mod coin;
mod coins;
mod connect;
mod merkle;
mod prune;
mod reindex;
mod reject;
pub(crate) mod scripts;
mod signet;
pub mod sigops;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
pub mod transaction;

pub use check::{COMMITMENT_HEAD, SIGOPS_COST_MAX, height_push, mutation, witness_commitment};
pub use coin::{BlockUndo, Coin, TxUndo};
pub(crate) use connect::is_unspendable;
pub use prune::{KEPT, Prune};
pub use reindex::Reindex;
pub use reject::{BlockReject, ChainError, RejectKind};
pub use scripts::{LIBRARY_INPUTS_MAX, OneByOne, Workers};
pub use snapshot::Dumped;

use check::{Asked, reject};
use coins::Coins;
use connect::Judged;
use scripts::Audits;
use store::Store;
use transaction::SequenceLocks;

use crate::mutant::Mutant;
use crate::params::Params;
use crate::script::Flags;

/// A block that nobody asked for is not kept if it is so far above the tip.
const AHEAD_MAX: u32 = 288;
/// Scripts are taken to be good only below so much work, in seconds of the network's.
const ASSUME_VALID_SECONDS: f64 = 14.0 * 24.0 * 60.0 * 60.0;
const CHAINSTATE: &str = "chainstate";
const COINS_FILE: &str = "chainstate/coins.redb";

/// How a chain uses its disk and memory.
#[derive(Clone, Debug)]
pub struct ChainConfig {
    /// So many bytes of coins are held in memory (`-dbcache`).
    pub coins_bytes: usize,
    /// Feeds a table's hashes: known to nobody else.
    pub salt: u64,
    /// Who runs the scripts of a block.
    pub workers: Arc<dyn Workers>,
    /// Whether old blocks are thrown away (`-prune`).
    pub prune: Option<Prune>,
    /// Files of blocks are small, so that there soon are many (`-fastprune`).
    pub small_files: bool,
    /// What is made anew at this start.
    pub reindex: Option<Reindex>,
}

impl Default for ChainConfig {
    fn default() -> Self {
        Self {
            coins_bytes: 64 << 20,
            salt: 0,
            workers: Arc::new(OneByOne),
            prune: None,
            small_files: false,
            reindex: None,
        }
    }
}

/// What became of the chain, in order.
#[derive(Clone, Debug)]
pub enum ChainEvent {
    /// This block is the tip now.
    Connected {
        /// Which.
        id: BlockId,
        /// It.
        block: Arc<Block>,
        /// What it spent.
        undo: Arc<BlockUndo>,
    },
    /// This block was the tip, and is not part of the chain any more.
    Disconnected {
        /// Which.
        id: BlockId,
        /// It.
        block: Arc<Block>,
    },
    /// This block was judged, and does not count.
    Invalid {
        /// Which.
        id: BlockId,
        /// Why.
        reject: BlockReject,
    },
}

/// A block that is in memory, and its transactions' ids.
#[derive(Clone, Debug)]
struct Held {
    id: BlockId,
    block: Arc<Block>,
    txids: Arc<[Txid]>,
}

/// The blocks and coins of one network.
#[derive(Debug)]
pub struct Chain {
    params: Params,
    config: ChainConfig,
    engine: Engine,
    store: Store,
    coins: Coins,
    audits: Audits,
    /// The block that came last: it is most often the next to be judged.
    held: Option<Held>,
    /// Up to which height an index has blocks for good.
    held_at: Option<u32>,
    /// The disk failed in the middle of a block: what is in memory is as of none, and never reaches the disk.
    broken: bool,
    mutant: Mutant,
}

fn of_header(error: HeaderError, header: &Header) -> BlockReject {
    use RejectKind::{CachedInvalid, InvalidHeader, InvalidPrev, MissingPrev, TimeFuture};
    let (kind, debug) = match error {
        HeaderError::HighHash => (InvalidHeader, "proof of work failed".to_owned()),
        HeaderError::PrevNotFound => (MissingPrev, String::new()),
        HeaderError::PrevInvalid => (InvalidPrev, String::new()),
        HeaderError::KnownInvalid => {
            (CachedInvalid, format!("block {} was previously marked invalid", header.block_hash()))
        }
        HeaderError::BadBits => (InvalidHeader, "incorrect proof of work".to_owned()),
        HeaderError::TimeTooOld => (InvalidHeader, "block's timestamp is too early".to_owned()),
        HeaderError::Timewarp => (InvalidHeader, "block's timestamp is too early on diff adjustment block".to_owned()),
        HeaderError::TimeTooNew => (TimeFuture, "block timestamp too far in the future".to_owned()),
        HeaderError::BadVersion(version) => (InvalidHeader, format!("rejected nVersion=0x{version:08x} block")),
    };
    reject(kind, error.to_string(), debug)
}

impl Chain {
    /// Opens what a disk has, or begins.
    ///
    /// # Errors
    /// The disk's, or what it has does not hold together.
    pub fn open(disk: &Arc<dyn Disk>, params: Params, config: ChainConfig) -> Result<Self, ChainError> {
        Self::open_telling(disk, params, config, &mut |_| {})
    }

    /// The same, and goes to the best tip; `report` is told how far what takes long is.
    ///
    /// # Errors
    /// The disk's, or what it has does not hold together.
    pub fn open_telling(
        disk: &Arc<dyn Disk>,
        params: Params,
        config: ChainConfig,
        report: &mut dyn FnMut(&str),
    ) -> Result<Self, ChainError> {
        let unread = reindex::prepare(disk.as_ref(), config.reindex, config.prune.is_some())?;
        if !unread && !disk.exists(store::INDEX_FILE)? && disk.exists(&store::block_file(0))? {
            // The index is there before any block. Without it, all blocks would be taken for what a crash left behind.
            return Err(ChainError::Rebuild("Error initializing block database".to_owned()));
        }
        let (store, kept) = Store::open(Arc::clone(disk), params.magic, config.small_files)?;
        disk.create_dir(CHAINSTATE)?;
        let path = COINS_FILE.to_owned();
        let kv = RedbKv::open(disk.as_ref(), &RedbConfig { path, cache_size: 8 << 20, ..RedbConfig::default() })?;
        let mut chain = Self::with_coins(store, kept, Box::new(kv), params, config)?;
        if unread {
            chain.read_files(disk.as_ref(), report)?;
        }
        chain.begin()?;
        chain.activate_quietly(report)?;
        Ok(chain)
    }

    fn with_coins(
        store: Store,
        kept: Vec<verity_nakamoto::Kept>,
        kv: Box<dyn Kv>,
        params: Params,
        config: ChainConfig,
    ) -> Result<Self, ChainError> {
        let engine = Engine::restore(params.genesis.header, params.headers, kept);
        let broken = |what: String| {
            ChainError::Corrupt(format!("{what}; move its folder away, and the blocks are asked for anew"))
        };
        let engine = engine.map_err(|at| broken(format!("entry {at} of the index of blocks stands on nothing")))?;
        let coins = Coins::open(kv, params.genesis.block_hash(), config.salt)?;
        let mut chain = Self {
            params,
            config,
            engine,
            store,
            coins,
            audits: Audits::default(),
            held: None,
            held_at: None,
            broken: false,
            mutant: Mutant::None,
        };
        let best = chain.coins.best();
        let tip = chain.tree().find(&best).filter(|id| chain.entry(*id).chain_tx_count > 0);
        let tip = tip.ok_or_else(|| broken(format!("the coins are as of block {best}, which is not known")))?;
        chain.engine.resume_at(tip);
        Ok(chain)
    }

    /// The first block is stored, and what is left of blocks that were thrown away is none of a node that throws none away.
    fn begin(&mut self) -> Result<(), ChainError> {
        let pruned = self.has_pruned();
        if pruned && self.config.prune.is_none() {
            return Err(ChainError::Corrupt(
                "You need to rebuild the database using -reindex to go back to unpruned mode.  This will redownload the entire blockchain"
                    .to_owned(),
            ));
        }
        if pruned {
            self.store.remove_unnamed()?;
        } else if self.store.block_bytes(BlockId::GENESIS)?.is_none() {
            self.store.put_block(BlockId::GENESIS, &serialize(&self.params.genesis))?;
        }
        Ok(())
    }

    /// Plants a bug.
    pub fn plant(&mut self, mutant: Mutant) {
        self.mutant = mutant;
    }

    /// The planted bug.
    #[must_use]
    pub fn mutant(&self) -> Mutant {
        self.mutant
    }

    /// Goes to the best tip: after a start, what came before and was not applied yet.
    ///
    /// # Errors
    /// The disk's.
    pub fn activate(&mut self, events: &mut Vec<ChainEvent>) -> Result<(), ChainError> {
        loop {
            match self.activate_one(events) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    self.broken = true;
                    return Err(error);
                }
            }
        }
    }

    /// By a planted bug: a branch with more work is none of its business.
    fn stays_upon(&self, tip: BlockId) -> bool {
        self.mutant == Mutant::HeavierBranchIgnored && self.entry(tip).failure.is_none()
    }

    /// One step of that. False if there is none.
    fn activate_one(&mut self, events: &mut Vec<ChainEvent>) -> Result<bool, ChainError> {
        let Some(output) = self.engine.step() else { return Ok(false) };
        match output {
            Output::Revert(id) if self.stays_upon(id) => return Ok(false),
            Output::Revert(id) => self.revert(id, events)?,
            Output::Judge(id) => self.judge(id, events)?,
        }
        if self.coins.bytes() > self.config.coins_bytes {
            self.flush()?;
        }
        Ok(true)
    }

    /// A stored block, and its transactions' ids.
    fn hold(&mut self, id: BlockId) -> Result<Held, ChainError> {
        if let Some(held) = self.held.as_ref().filter(|held| held.id == id) {
            return Ok(held.clone());
        }
        let hash = self.entry(id).hash;
        let block = self.store.block(id, hash)?;
        let block = block.ok_or_else(|| ChainError::Corrupt(format!("block {hash} is not in its file")))?;
        let txids = block.txdata.iter().map(Transaction::compute_txid).collect();
        Ok(Held { id, block: Arc::new(block), txids })
    }

    fn revert(&mut self, id: BlockId, events: &mut Vec<ChainEvent>) -> Result<(), ChainError> {
        let held = self.hold(id)?;
        let undo = self.store.undo(id, held.block.header.prev_blockhash)?;
        let Some(undo) = undo else {
            return Err(ChainError::Corrupt(format!("what block {} spent is not known", self.entry(id).hash)));
        };
        connect::revert(&mut self.coins, &held.block, &held.txids, undo, self.mutant)?;
        self.engine.on_reverted();
        events.push(ChainEvent::Disconnected { id, block: held.block });
        Ok(())
    }

    fn judge(&mut self, id: BlockId, events: &mut Vec<ChainEvent>) -> Result<(), ChainError> {
        let held = self.hold(id)?;
        let entry = self.engine.tree().entry(id);
        let prev = entry.prev.expect("the first block is never judged");
        let judged = Judged {
            block: &held.block,
            txids: &held.txids,
            tree: self.engine.tree(),
            prev,
            params: &self.params,
            flags: connect::script_flags(&self.params, entry.height, Some(&entry.hash)),
            scripts: !self.is_assumed_valid(id),
        };
        let (salt, workers) = (self.config.salt, Arc::clone(&self.config.workers));
        match judged.judge(&mut self.coins, salt, workers.as_ref(), &mut self.audits)? {
            Ok(outcome) => {
                let undo = connect::apply(&mut self.coins, outcome, &held.block);
                if !self.store.has_undo(id) {
                    self.store.put_undo(id, held.block.header.prev_blockhash, &undo)?;
                }
                self.engine.on_verdict(id, true);
                events.push(ChainEvent::Connected { id, block: held.block, undo: Arc::new(undo) });
            }
            Err(reject) => {
                self.engine.on_verdict(id, false);
                events.push(ChainEvent::Invalid { id, reject });
            }
        }
        self.store.touch(id);
        Ok(())
    }

    /// Are the scripts of a block taken to be good, since it stands far below one that is known to be?
    fn is_assumed_valid(&self, id: BlockId) -> bool {
        let (tree, best) = (self.tree(), self.best_header());
        let Some(known) = self.params.assume_valid.and_then(|hash| tree.find(&hash)) else { return false };
        let work = tree.entry(best).work;
        if !tree.stands_on(known, id) || !tree.stands_on(best, id) || work < self.params.minimum_chain_work {
            return false;
        }
        let above = work - self.entry(id).work;
        let one = tree.entry(best).header.target().to_work();
        (above.log2() - one.log2()).exp2() * f64::from(self.params.headers.pow.spacing) > ASSUME_VALID_SECONDS
    }

    /// The network.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// All headers.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        self.engine.tree()
    }

    /// A header's entry.
    #[must_use]
    pub fn entry(&self, id: BlockId) -> &Entry {
        self.tree().entry(id)
    }

    /// The last block of the chain that counts.
    #[must_use]
    pub fn tip(&self) -> BlockId {
        self.engine.tip()
    }

    /// Its height.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.entry(self.tip()).height
    }

    /// Which block of the chain that counts has this height.
    #[must_use]
    pub fn active(&self, height: u32) -> Option<BlockId> {
        self.engine.active(height)
    }

    /// True if the block is part of the chain that counts.
    #[must_use]
    pub fn is_active(&self, id: BlockId) -> bool {
        self.engine.is_active(id)
    }

    /// The header with the most work of which nothing is known to be invalid.
    #[must_use]
    pub fn best_header(&self) -> BlockId {
        self.engine.best_header()
    }

    /// Bytes that the files of blocks take.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.store.bytes()
    }

    /// Bytes that coins take in memory, about.
    #[must_use]
    pub fn coins_bytes(&self) -> usize {
        self.coins.bytes()
    }

    /// How many transactions the library has looked at behind the interpreter, and how many wait for it.
    #[must_use]
    pub fn audits(&self) -> (u64, usize) {
        self.audits.counts()
    }

    /// Lets the library look at one more input of what the interpreter passed. False if none waits.
    ///
    /// # Errors
    /// [`ChainError::Disagreement`].
    pub fn audit(&mut self) -> Result<bool, ChainError> {
        self.audits.step()
    }

    /// Upon a header; `now` in seconds since 1970.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn accept_header(&mut self, header: &Header, now: u32) -> Result<BlockId, BlockReject> {
        let (id, new) = self.engine.on_header(header, now).map_err(|error| of_header(error, header))?;
        if new {
            self.store.touch(id);
        }
        Ok(id)
    }

    /// Upon a block: `true` if it is new. Its verdict, if it was judged, is among the events. Unless it was asked for
    /// (`requested`), a block is kept only if it may become the tip.
    ///
    /// # Errors
    /// The disk's. The inner error refuses it at once.
    pub fn accept_block(
        &mut self,
        block: &Arc<Block>,
        now: u32,
        requested: bool,
        events: &mut Vec<ChainEvent>,
    ) -> Result<Result<bool, BlockReject>, ChainError> {
        let refused = match self.take(block, now, requested)? {
            Ok(new) => {
                self.activate(events)?;
                Ok(new)
            }
            Err(refused) => Err(refused),
        };
        self.held = None;
        Ok(refused)
    }

    fn take(&mut self, block: &Arc<Block>, now: u32, requested: bool) -> Result<Result<bool, BlockReject>, ChainError> {
        let txids = match check::alone(block, &self.params, Asked::ALL) {
            Ok(txids) => txids,
            Err(refused) => return Ok(Err(refused)),
        };
        let id = match self.accept_header(&block.header, now) {
            Ok(id) => id,
            Err(refused) => return Ok(Err(refused)),
        };
        let entry = self.entry(id);
        if entry.has_data {
            return Ok(Ok(false));
        }
        let worth = entry.work >= self.entry(self.tip()).work && entry.work >= self.params.minimum_chain_work;
        let near = entry.height <= self.height() + AHEAD_MAX;
        if !requested && (entry.tx_count > 0 || !worth || !near) {
            return Ok(Ok(false));
        }
        let prev = entry.prev.expect("the first block is always there");
        if let Err(refused) = check::in_place(block, self.tree(), prev, &self.params) {
            if refused.kind != RejectKind::Mutated {
                self.engine.on_bad_block(id);
                self.store.touch(id);
            }
            return Ok(Err(refused));
        }
        self.store.put_block(id, &serialize(block.as_ref()))?;
        let count = u32::try_from(block.txdata.len()).expect("a block's weight bounds its transactions");
        self.engine.on_block(id, count);
        self.held = Some(Held { id, block: Arc::clone(block), txids: txids.into() });
        Ok(Ok(true))
    }

    /// Would this block be valid upon the tip? `work` and `merkle`: its proof of work and its Merkle root are looked at, too.
    ///
    /// # Errors
    /// The disk's. The inner error is why it would not be.
    pub fn check_template(
        &mut self,
        block: &Arc<Block>,
        now: u32,
        work: bool,
        merkle: bool,
    ) -> Result<Result<(), BlockReject>, ChainError> {
        let tip = self.tip();
        if block.header.prev_blockhash != self.entry(tip).hash {
            return Ok(Err(reject(RejectKind::Consensus, "inconclusive-not-best-prevblk", "")));
        }
        let txids = match check::alone(block, &self.params, Asked { work, merkle }) {
            Ok(txids) => txids,
            Err(refused) => return Ok(Err(refused)),
        };
        if let Err(error) = self.engine.check_header(tip, &block.header, now) {
            return Ok(Err(of_header(error, &block.header)));
        }
        if let Err(refused) = check::in_place(block, self.tree(), tip, &self.params) {
            return Ok(Err(refused));
        }
        let judged = Judged {
            block,
            txids: &txids,
            tree: self.engine.tree(),
            prev: tip,
            params: &self.params,
            flags: self.script_flags(tip),
            scripts: true,
        };
        let (salt, workers) = (self.config.salt, Arc::clone(&self.config.workers));
        let outcome = judged.judge(&mut self.coins, salt, workers.as_ref(), &mut self.audits)?;
        Ok(outcome.map(|_| ()))
    }

    /// `invalidateblock`.
    ///
    /// # Errors
    /// The disk's.
    pub fn invalidate(&mut self, id: BlockId, events: &mut Vec<ChainEvent>) -> Result<(), ChainError> {
        self.engine.invalidate(id);
        self.store.touch(id);
        self.activate(events)
    }

    /// `reconsiderblock`.
    ///
    /// # Errors
    /// The disk's.
    pub fn reconsider(&mut self, id: BlockId, events: &mut Vec<ChainEvent>) -> Result<(), ChainError> {
        let failed = |chain: &Self| -> Vec<BlockId> {
            chain.tree().ids().filter(|id| chain.entry(*id).failure.is_some()).collect()
        };
        let before = failed(self);
        self.engine.reconsider(id);
        for id in before {
            self.store.touch(id);
        }
        self.activate(events)
    }

    /// `preciousblock`.
    ///
    /// # Errors
    /// The disk's.
    pub fn precious(&mut self, id: BlockId, events: &mut Vec<ChainEvent>) -> Result<(), ChainError> {
        self.engine.precious(id);
        self.activate(events)
    }

    /// A stored block.
    ///
    /// # Errors
    /// The disk's.
    pub fn block(&self, id: BlockId) -> Result<Option<Arc<Block>>, ChainError> {
        let block = self.store.block(id, self.entry(id).hash)?;
        Ok(block.or_else(|| (id == BlockId::GENESIS).then(|| self.params.genesis.clone())).map(Arc::new))
    }

    /// A stored block's bytes, as peers are sent them.
    ///
    /// # Errors
    /// The disk's.
    pub fn block_bytes(&self, id: BlockId) -> Result<Option<Vec<u8>>, ChainError> {
        let bytes = self.store.block_bytes(id)?;
        Ok(bytes.or_else(|| (id == BlockId::GENESIS).then(|| serialize(&self.params.genesis))))
    }

    /// What a block spent, if it was ever applied. The first spent nothing.
    ///
    /// # Errors
    /// The disk's.
    pub fn undo(&self, id: BlockId) -> Result<Option<BlockUndo>, ChainError> {
        if id == BlockId::GENESIS {
            return Ok(Some(BlockUndo::default()));
        }
        self.store.undo(id, self.entry(id).header.prev_blockhash)
    }

    /// An unspent output of the chain that counts.
    ///
    /// # Errors
    /// The disk's.
    pub fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
        self.coins.peek(outpoint)
    }

    /// The rules for scripts of a block that stands on `prev`.
    #[must_use]
    pub fn script_flags(&self, prev: BlockId) -> Flags {
        connect::script_flags(&self.params, self.entry(prev).height + 1, None)
    }

    /// May a transaction be in the block behind `prev` that spends coins made at these heights, in its inputs' order? (BIP 68)
    #[must_use]
    pub fn sequence_locks_hold(&self, prev: BlockId, tx: &Transaction, heights: &[u32]) -> bool {
        let tree = self.tree();
        let median_at = |height: u32| {
            let below = tree.entry(prev).height;
            let id = tree.ancestor(prev, height.min(below)).expect("it is no higher");
            tree.median_time_past(id)
        };
        let locks = SequenceLocks::of(tx, heights.iter().copied(), median_at);
        locks.hold(self.entry(prev).height + 1, tree.median_time_past(prev))
    }

    /// Calls `each` for every coin, in the order of their outpoints (`scantxoutset`, `gettxoutsetinfo`).
    ///
    /// # Errors
    /// The disk's.
    pub fn each_coin(&mut self, each: &mut dyn FnMut(&OutPoint, &Coin)) -> Result<(), ChainError> {
        self.store.write(self.engine.tree())?;
        self.coins.write(self.config.coins_bytes)?;
        self.coins.each(each)
    }

    /// True if a crash would lose something.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.store.is_dirty()
    }

    /// Brings everything to stable storage.
    ///
    /// # Errors
    /// The disk's. What was written since the last flush may then be lost.
    pub fn flush(&mut self) -> Result<(), ChainError> {
        if self.broken {
            return Err(ChainError::Corrupt("a block was applied in part; what is on the disk is whole".to_owned()));
        }
        self.store.write(self.engine.tree())?;
        self.coins.write(self.config.coins_bytes / 2)?;
        self.coins.sync()
    }

    /// Asserts what must always hold.
    ///
    /// # Panics
    /// If it does not.
    pub fn invariants(&self) {
        if self.broken {
            return;
        }
        self.engine.invariants();
        assert_eq!(self.coins.best(), self.entry(self.tip()).hash, "the coins are as of the tip");
    }
}
