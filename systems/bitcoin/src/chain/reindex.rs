//! The index of blocks and the coins, made anew (`-reindex`, `-reindex-chainstate`).
//!
//! - upon [`Reindex::Coins`]: the coins are thrown away, and the blocks that the index names are applied again from the first;
//! - upon [`Reindex::All`]: a mark is set; the index of blocks, the coins and the indexes beside them are thrown away; the files
//!   of blocks are read from the first to the last, and each block that keeps the rules is put into a new index, where it stands.
//!   A block that comes before the one that it stands on waits for it. Then the mark goes, and the blocks are applied;
//! - upon an end anywhere: the mark says that it is not done, and the next start goes on. What the index has is not looked at
//!   again, only passed over;
//! - upon a gap in the files of a node that throws old blocks away: what is behind it is of no use, and goes.
//!
//! HAZARD: what blocks spent is written anew over what was there before. Until that is done nothing can be undone.
//!
//! Deliberately absent: clocks. A block in a file was taken once, so its moment was no moment of the future.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::block::Block;
use bitcoin::consensus::encode::deserialize;
use verity_storage::{Disk, replace};

use super::check::{self, Asked};
use super::store::{self, FOLDER, Framed};
use super::{COINS_FILE, Chain, ChainError, ChainEvent};

/// What is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reindex {
    /// All, out of the files of blocks.
    All,
    /// The coins.
    Coins,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// What is to go may still be there.
    Wipe,
    /// It is gone, and the files are read.
    Scan,
}

const MARK: &str = "reindex";
const MARK_PATH: &str = "blocks/reindex";
/// Beside the index of blocks and the coins.
const INDEXES: [&str; 4] = [
    "indexes/txindex/index.redb",
    "indexes/blockfilter/basic/index.redb",
    "indexes/coinstatsindex/index.redb",
    "indexes/txospenderindex/index.redb",
];
/// After so many blocks what was found is kept, and told.
const FLUSH_EVERY: u32 = 2_000;

/// A block that waits for the one that it stands on.
type Waiting = BTreeMap<BlockHash, Vec<(Arc<Block>, Framed)>>;

impl Mark {
    fn read(disk: &dyn Disk) -> Result<Option<Self>, ChainError> {
        if !disk.exists(MARK_PATH)? {
            return Ok(None);
        }
        let bytes = verity_storage::read_all(disk.open(MARK_PATH)?.as_ref(), 16)?;
        Ok(Some(if bytes == b"scan" { Self::Scan } else { Self::Wipe }))
    }

    fn set(self, disk: &dyn Disk) -> Result<(), ChainError> {
        let word: &[u8] = if self == Self::Scan { b"scan" } else { b"wipe" };
        Ok(replace(disk, FOLDER, MARK, word)?)
    }
}

fn remove(disk: &dyn Disk, path: &str) -> Result<(), ChainError> {
    if disk.exists(path)? {
        disk.remove(path)?;
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        disk.sync_dir(folder)?;
    }
    Ok(())
}

/// Before anything is opened: throws away what is made anew. True if files are to be read.
pub(super) fn prepare(disk: &dyn Disk, wanted: Option<Reindex>, prune: bool) -> Result<bool, ChainError> {
    disk.create_dir(FOLDER)?;
    if wanted == Some(Reindex::All) {
        Mark::Wipe.set(disk)?;
    }
    let mark = Mark::read(disk)?;
    if mark == Some(Mark::Wipe) {
        for path in [store::INDEX_FILE, COINS_FILE].into_iter().chain(INDEXES) {
            remove(disk, path)?;
        }
        if prune {
            let mut number = 0;
            while disk.exists(&store::block_file(number))? {
                number += 1;
            }
            let first_unusable = store::block_file(number);
            for name in disk.list(FOLDER)? {
                let path = format!("{FOLDER}/{name}");
                let unusable = name.starts_with("blk") && path > first_unusable;
                if unusable || name.starts_with("rev") {
                    remove(disk, &path)?;
                }
            }
        }
        Mark::Scan.set(disk)?;
    } else if wanted == Some(Reindex::Coins) {
        remove(disk, COINS_FILE)?;
    }
    Ok(mark.is_some())
}

impl Chain {
    /// Reads the files of blocks into the index.
    pub(super) fn read_files(&mut self, disk: &dyn Disk, report: &mut dyn FnMut(&str)) -> Result<(), ChainError> {
        let (mut number, mut waiting, mut found) = (0, Waiting::new(), 0);
        while disk.exists(&store::block_file(number))? {
            report(&format!("Reindexing block file blk{number:05}.dat..."));
            let mut at = 0;
            while let Some((framed, bytes)) = self.store.next_frame(number, at)? {
                let Ok(block) = deserialize::<Block>(&bytes) else {
                    at = framed.inside();
                    continue;
                };
                at = framed.end();
                self.read_block(Arc::new(block), framed, &mut waiting)?;
                found += 1;
                if found % FLUSH_EVERY == 0 {
                    self.store.write(self.engine.tree())?;
                }
            }
            number += 1;
        }
        self.store.write(self.engine.tree())?;
        remove(disk, MARK_PATH)?;
        report("Reindexing finished");
        Ok(())
    }

    /// A block of a file, and those that waited for it.
    fn read_block(&mut self, block: Arc<Block>, framed: Framed, waiting: &mut Waiting) -> Result<(), ChainError> {
        let below = block.header.prev_blockhash;
        let is_first = block.block_hash() == self.params.genesis.block_hash();
        if !is_first && self.tree().find(&below).is_none() {
            waiting.entry(below).or_default().push((block, framed));
            return Ok(());
        }
        let mut queue = vec![(block, framed)];
        while let Some((block, framed)) = queue.pop() {
            self.adopt(&block, framed);
            queue.extend(waiting.remove(&block.block_hash()).unwrap_or_default());
        }
        Ok(())
    }

    /// Takes a block into the index where it stands, unless it breaks a rule or is known.
    fn adopt(&mut self, block: &Block, framed: Framed) {
        if let Some(id) = self.tree().find(&block.block_hash())
            && (self.entry(id).has_data && self.store.has_block(id))
        {
            return;
        }
        if block.block_hash() == self.params.genesis.block_hash() {
            return self.store.adopt(verity_nakamoto::BlockId::GENESIS, framed);
        }
        if check::alone(block, &self.params, Asked::ALL).is_err() {
            return;
        }
        let Ok(id) = self.accept_header(&block.header, u32::MAX) else { return };
        let prev = self.entry(id).prev.expect("it is not the first block");
        if check::in_place(block, self.tree(), prev, &self.params).is_err() {
            self.engine.on_bad_block(id);
            return;
        }
        self.store.adopt(id, framed);
        let count = u32::try_from(block.txdata.len()).expect("a block's weight bounds its transactions");
        self.engine.on_block(id, count);
    }

    /// Goes to the best tip, at a start: nobody listens, so that what became of each block is forgotten.
    pub(super) fn activate_quietly(&mut self, report: &mut dyn FnMut(&str)) -> Result<(), ChainError> {
        let (mut events, mut count) = (Vec::new(), 0u32);
        while self.activate_one(&mut events)? {
            for event in events.drain(..) {
                if let ChainEvent::Connected { id, .. } = event {
                    count += 1;
                    if count.is_multiple_of(FLUSH_EVERY) {
                        let entry = self.entry(id);
                        report(&format!("UpdateTip: new best={} height={}", entry.hash, entry.height));
                        self.flush()?;
                    }
                }
            }
        }
        if count > 0 {
            let entry = self.entry(self.tip());
            report(&format!("UpdateTip: new best={} height={}", entry.hash, entry.height));
            self.flush()?;
        }
        Ok(())
    }
}
