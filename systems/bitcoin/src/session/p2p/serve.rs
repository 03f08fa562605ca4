//! What peers ask for: headers, blocks and transactions by name.
//!
//! - upon `getdata`: in order; transactions that a peer can know of, blocks of the chain, and stale ones of the last month, for
//!   older ones would tell who we are;
//! - upon `getheaders`: what follows the first of its hashes that is part of the chain;
//! - upon `getblocks`: the same by `inv`, 500 at a time, and once the last of them is fetched, the tip's.

use std::sync::Arc;

use bitcoin::block::Block;
use bitcoin::hashes::Hash;
use bitcoin::merkle_tree::MerkleBlock;
use bitcoin::{BlockHash, Transaction, Txid, Wtxid};
use verity_nakamoto::BlockId;

use super::PeerId;
use super::config::Permissions;
use super::fetch::near_tip;
use super::headers::HEADERS_MAX;
use super::machine::{Peers, Step};
use crate::chain::{Chain, ChainError, KEPT};
use crate::wire::{BlockTxns, CompactBlock, GetBlockTxns, Inventory, Item, Locator, Message, Services};

const LOCATOR_MAX: usize = 101;
/// Things in one message.
pub(super) const INVENTORY_MAX: usize = 50_000;
const GETBLOCKS_MAX: usize = 500;
/// Stale blocks are given away for a month.
const STALE_AGE_MAX: u64 = 30 * 24 * 3_600;
/// Older ones count against the upload target.
const HISTORICAL_AGE: u64 = 7 * 24 * 3_600;
/// Compact blocks are given of the last ones alone.
const COMPACT_DEPTH: u32 = 5;
/// And so are their transactions.
const BLOCK_TXNS_DEPTH: u32 = 10;
/// A node that throws old blocks away serves those so far below the tip, and a few more for whoever asked in the meantime.
const LIMITED_DEPTH: u32 = KEPT + 2;
/// A block that such a node tells of by `inv` is to be there for so many seconds more.
const PRUNED_AHEAD: u32 = 3_600;
pub(super) const UPLOAD_DAY: u64 = 24 * 3_600;
/// Room that is left for new blocks under an upload target, in bytes for each.
const BLOCK_BYTES_MAX: u64 = 4_000_000;

/// A stale block may be given away if it is recent by its time and by its work.
pub(super) fn may_serve(chain: &Chain, id: BlockId) -> bool {
    if chain.is_active(id) {
        return true;
    }
    let (entry, best) = (chain.entry(id), chain.entry(chain.best_header()));
    let age = u64::from(best.header.time.saturating_sub(entry.header.time));
    let (one, other) = (float(best.work), float(entry.work));
    let by_work = (one - other) / float(best.header.work()) * f64::from(chain.params().headers.pow.spacing);
    entry.validated && entry.failure.is_none() && age < STALE_AGE_MAX && by_work < STALE_AGE_MAX as f64
}

fn float(work: bitcoin::Work) -> f64 {
    work.to_be_bytes().iter().fold(0.0, |sum, byte| sum * 256.0 + f64::from(*byte))
}

/// The first of these hashes that is part of the chain; the first block if none is.
fn fork_of(chain: &Chain, hashes: &[BlockHash]) -> BlockId {
    for hash in hashes {
        let Some(id) = chain.tree().find(hash) else { continue };
        if chain.is_active(id) {
            return id;
        }
        if chain.tree().stands_on(id, chain.tip()) {
            return chain.tip();
        }
    }
    chain.active(0).expect("the first block is part of any chain")
}

impl Peers {
    pub(super) fn on_getdata(&mut self, step: &mut Step<'_>, id: PeerId, list: Vec<Inventory>) {
        if list.len() > INVENTORY_MAX {
            return self.blame(step, id, &format!("getdata message size = {}", list.len()));
        }
        step.log("net", format!("received getdata ({} invsz) peer={id}", list.len()));
        if let Some(first) = list.first() {
            step.log("net", format!("received getdata for: {first} peer={id}"));
        }
        self.peer(id).getdata.extend(list);
    }

    /// Answers what a peer asked for, as far as it takes it.
    pub(super) fn serve_getdata(&mut self, step: &mut Step<'_>, id: PeerId) -> Result<(), ChainError> {
        let mut missing = Vec::new();
        loop {
            let bound = self.config.send_buffer;
            let peer = self.peer(id);
            if peer.closing || peer.is_choked(bound) {
                break;
            }
            let Some(item) = peer.getdata.pop_front() else { break };
            if item.is_transaction() {
                if !self.serve_transaction(step, id, item) {
                    missing.push(item);
                }
                continue;
            }
            if !missing.is_empty() {
                self.send(step, id, &Message::NotFound(std::mem::take(&mut missing)));
            }
            if item.is_block() {
                self.serve_block(step, id, item)?;
            }
        }
        if !missing.is_empty() {
            self.send(step, id, &Message::NotFound(missing));
        }
        Ok(())
    }

    /// False if there is none that this peer can know of.
    fn serve_transaction(&mut self, step: &mut Step<'_>, id: PeerId, item: Inventory) -> bool {
        let Some(relay) = &self.peers[&id].tx else { return true };
        let (by_wtxid, told) = (item.item == Item::Wtx, relay.last_sequence);
        let mempool = step.node.mempool();
        let entry = if by_wtxid {
            mempool.get_by_wtxid(&Wtxid::from_byte_array(item.hash))
        } else {
            mempool.get(&Txid::from_byte_array(item.hash))
        };
        // What came after this peer was told last, it cannot know of, unless it wants to find out.
        let waits = entry.filter(|entry| entry.sequence < told).map(|entry| Arc::clone(&entry.tx));
        let Some(tx) = waits.or_else(|| self.in_last_block(item)) else { return false };
        step.node.mempool_mut().0.remove_unbroadcast(&tx.compute_txid());
        self.send(step, id, &Message::Tx { tx, witness: item.item != Item::Tx });
        true
    }

    fn in_last_block(&self, item: Inventory) -> Option<Arc<Transaction>> {
        let last = self.last_block.as_ref()?;
        let place = if item.item == Item::Wtx {
            last.by_wtxid.get(&Wtxid::from_byte_array(item.hash))
        } else {
            last.by_txid.get(&Txid::from_byte_array(item.hash))
        };
        place.map(|place| Arc::new(last.block.txdata[*place].clone()))
    }

    /// The day's bytes are spent, but for what new blocks may need (`historical`).
    pub(super) fn upload_is_spent(&self, seconds: u64, historical: bool) -> bool {
        let target = self.config.upload_target;
        if target == 0 {
            return false;
        }
        let fresh = seconds >= self.upload.0 + UPLOAD_DAY;
        let spent = if fresh { 0 } else { self.upload.1 };
        // A day that has not begun is whole.
        let left = if fresh { UPLOAD_DAY } else { (self.upload.0 + UPLOAD_DAY).saturating_sub(seconds) };
        let reserve = if historical { left / 600 * BLOCK_BYTES_MAX } else { 0 };
        reserve >= target || spent >= target - reserve
    }

    fn serve_block(&mut self, step: &mut Step<'_>, id: PeerId, item: Inventory) -> Result<(), ChainError> {
        let chain = step.node.chain();
        let hash = item.block_hash();
        let Some(found) = chain.tree().find(&hash) else { return Ok(()) };
        if !may_serve(chain, found) {
            step.log(
                "net",
                format!(
                    "ProcessGetBlockData: ignoring request from peer={id} for old block that isn't in the main chain"
                ),
            );
            return Ok(());
        }
        let entry = chain.entry(found);
        let (height, tip) = (entry.height, chain.tip());
        let age = chain.entry(chain.best_header()).header.time.saturating_sub(entry.header.time);
        let historical = u64::from(age) > HISTORICAL_AGE || item.item == Item::FilteredBlock;
        let may = self.peers[&id].has(Permissions::DOWNLOAD);
        if historical && !may && self.upload_is_spent(step.seconds(), true) {
            self.close(step, id, "historical block serving limit reached");
            return Ok(());
        }
        let chain = step.node.chain();
        let depth = chain.entry(tip).height.saturating_sub(height);
        if self.config.prune && depth > LIMITED_DEPTH && !self.peers[&id].has(Permissions::NO_BAN) {
            step.log("net", "Ignore block request below NODE_NETWORK_LIMITED threshold".to_owned());
            self.close(step, id, "block request below NODE_NETWORK_LIMITED threshold");
            return Ok(());
        }
        let near = near_tip(chain, step.seconds()) && height + COMPACT_DEPTH >= chain.entry(tip).height;
        let Some(block) = self.load(step, found)? else { return Ok(()) };
        let tip_hash = step.node.chain().entry(tip).hash;
        match item.item {
            Item::CompactBlock if near => self.send_compact(step, id, &block),
            Item::FilteredBlock => self.send_filtered(step, id, &block),
            kind => self.send(step, id, &Message::Block { block, witness: kind != Item::Block }),
        }
        if self.peer(id).sync.continuation == Some(hash) {
            self.peer(id).sync.continuation = None;
            self.send(step, id, &Message::Inv(vec![Inventory::block(Item::Block, tip_hash)]));
        }
        Ok(())
    }

    /// A stored block.
    pub(super) fn load(&self, step: &Step<'_>, id: BlockId) -> Result<Option<Arc<Block>>, ChainError> {
        let hash = step.node.chain().entry(id).hash;
        match &self.last_block {
            Some(last) if last.hash == hash => Ok(Some(Arc::clone(&last.block))),
            _ => step.node.chain().block(id),
        }
    }

    pub(super) fn send_compact(&mut self, step: &mut Step<'_>, id: PeerId, block: &Arc<Block>) {
        let hash = block.block_hash();
        let compact = match &self.last_block {
            Some(last) if last.hash == hash => last.compact.clone(),
            _ => CompactBlock::new(block, self.rng.u64(..)),
        };
        self.send(step, id, &Message::CompactBlock(compact));
    }

    fn send_filtered(&mut self, step: &mut Step<'_>, id: PeerId, block: &Arc<Block>) {
        let Some(bloom) = self.peer(id).tx.as_mut().and_then(|tx| tx.bloom.as_mut()) else { return };
        let matches: Vec<Txid> =
            block.txdata.iter().filter(|tx| bloom.matches(tx)).map(Transaction::compute_txid).collect();
        let merkle = MerkleBlock::from_block_with_predicate(block, |txid| matches.contains(txid));
        self.send(step, id, &Message::MerkleBlock(merkle));
        for tx in block.txdata.iter().filter(|tx| matches.contains(&tx.compute_txid())) {
            self.send(step, id, &Message::Tx { tx: Arc::new(tx.clone()), witness: false });
        }
    }

    pub(super) fn on_getblocks(&mut self, step: &mut Step<'_>, id: PeerId, locator: &Locator) {
        if locator.hashes.len() > LOCATOR_MAX {
            let size = locator.hashes.len();
            return self.close(step, id, &format!("getblocks locator size {size} > {LOCATOR_MAX}"));
        }
        let chain = step.node.chain();
        let first = chain.entry(fork_of(chain, &locator.hashes)).height + 1;
        let spacing = chain.params().headers.pow.spacing;
        let stays = KEPT.saturating_sub(PRUNED_AHEAD / spacing.max(1));
        let (prune, floor) = (self.config.prune, chain.height().saturating_sub(stays));
        let sync = &mut self.peer(id).sync;
        for (count, height) in (first..=chain.height()).enumerate() {
            let entry = chain.entry(chain.active(height).expect("it is no higher than the tip"));
            let hash = entry.hash;
            if hash == locator.stop || (prune && (!entry.has_data || height <= floor)) {
                break;
            }
            sync.for_inv.push(hash);
            if count + 1 == GETBLOCKS_MAX {
                sync.continuation = Some(hash);
                break;
            }
        }
    }

    pub(super) fn on_getheaders(&mut self, step: &mut Step<'_>, id: PeerId, locator: &Locator) {
        if locator.hashes.len() > LOCATOR_MAX {
            let size = locator.hashes.len();
            return self.close(step, id, &format!("getheaders locator size {size} > {LOCATOR_MAX}"));
        }
        let chain = step.node.chain();
        let tip = chain.entry(chain.tip());
        if tip.work < chain.params().minimum_chain_work && !self.peers[&id].has(Permissions::DOWNLOAD) {
            step.log("net", format!("Ignoring getheaders from peer={id} because active chain has too little work; sending empty response"));
            return self.send(step, id, &Message::Headers(Vec::new()));
        }
        let mut list = Vec::new();
        let mut at = if locator.hashes.is_empty() {
            let Some(stop) = chain.tree().find(&locator.stop) else { return };
            if !may_serve(chain, stop) {
                step.log("net", format!("ProcessMessage: ignoring request from peer={id} for old block header that isn't in the main chain"));
                return;
            }
            Some(stop)
        } else {
            chain.active(chain.entry(fork_of(chain, &locator.hashes)).height + 1)
        };
        while let Some(found) = at {
            let entry = chain.entry(found);
            list.push(entry.header);
            if list.len() == HEADERS_MAX || entry.hash == locator.stop {
                break;
            }
            at = if chain.is_active(found) { chain.active(entry.height + 1) } else { None };
        }
        // What was asked for after the tip was told of may be of a chain that is gone: then nothing is known to be there.
        self.peer(id).sync.best_sent = Some(at.unwrap_or_else(|| chain.tip()));
        self.send(step, id, &Message::Headers(list));
    }

    pub(super) fn on_get_block_txns(
        &mut self,
        step: &mut Step<'_>,
        id: PeerId,
        request: &GetBlockTxns,
    ) -> Result<(), ChainError> {
        let chain = step.node.chain();
        let Some(found) = chain.tree().find(&request.block) else {
            step.log("net", format!("Peer {id} sent us a getblocktxn for a block we don't have"));
            return Ok(());
        };
        let entry = chain.entry(found);
        if !entry.has_data {
            step.log("net", format!("Peer {id} sent us a getblocktxn for a block we don't have"));
            return Ok(());
        }
        if entry.height + BLOCK_TXNS_DEPTH < chain.height() {
            // The whole block: its cost is the asker's, too.
            step.log("net", format!("Peer {id} sent us a getblocktxn for a block > {BLOCK_TXNS_DEPTH} deep"));
            self.peer(id).getdata.push_back(Inventory::block(Item::WitnessBlock, request.block));
            return Ok(());
        }
        let Some(block) = self.load(step, found)? else { return Ok(()) };
        let txs: Option<Vec<Arc<Transaction>>> = request
            .places
            .iter()
            .map(|place| block.txdata.get(usize::from(*place)).map(|tx| Arc::new(tx.clone())))
            .collect();
        match txs {
            Some(txs) => self.send(step, id, &Message::BlockTxns(BlockTxns { block: request.block, txs })),
            None => self.blame(step, id, "getblocktxn with out-of-bounds tx indices"),
        }
        Ok(())
    }

    pub(super) fn on_mempool_message(&mut self, step: &mut Step<'_>, id: PeerId) {
        let peer = &self.peers[&id];
        let (may, bears) = (peer.has(Permissions::MEMPOOL), peer.has(Permissions::NO_BAN));
        let serves = peer.our_services.has(Services::BLOOM);
        let refused = if !serves && !may {
            Some("mempool request with bloom filters disabled")
        } else if !may && self.upload_is_spent(step.seconds(), false) {
            Some("mempool request with bandwidth limit reached")
        } else {
            None
        };
        match refused {
            Some(why) if !bears => self.close(step, id, why),
            Some(_) => {}
            None => {
                if let Some(tx) = &mut self.peer(id).tx {
                    tx.send_mempool = true;
                }
            }
        }
    }
}
