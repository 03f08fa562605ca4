//! Blocks that come as compact ones.
//!
//! - upon one that builds on the tip, from whoever was asked or announces unasked: what the mempool has is put in its place, and
//!   the rest asked for, of up to three peers at a time, one of which must be of our own choice;
//! - upon all there: the block is judged; if it is not the one that was announced, it is asked for as a whole;
//! - upon one that is no compact block, or on answers that do not fit: the peer is at fault, but not for what the block has in it,
//!   which it could not know yet;
//! - upon a good block: whoever brought it may announce the next in this way, as one of three, of which one is outbound.

use std::sync::Arc;

use bitcoin::block::Block;
use verity_nakamoto::BlockId;

use super::PeerId;
use super::fetch::{IN_FLIGHT_MAX, near_tip};
use super::headers::work_threshold;
use super::machine::{Peers, Step};
use super::peer::Building;
use crate::chain::{ChainError, mutation};
use crate::wire::{BlockTxns, COMPACT_KIND, CompactBlock, GetBlockTxns, Inventory, Message, Partial, Reconstruction};

/// Peers that a block's transactions are asked of at a time.
const PER_BLOCK_MAX: usize = 3;
/// Peers that announce by compact blocks.
const ANNOUNCERS_MAX: usize = 3;

impl Peers {
    /// Asks a peer to announce by compact blocks, and another not to any more.
    pub(super) fn ask_for_compact(&mut self, step: &mut Step<'_>, id: PeerId) {
        if self.config.blocks_only || !self.peers.get(&id).is_some_and(|peer| peer.sync.provides_compact) {
            return;
        }
        if let Some(place) = self.announcers.iter().position(|other| *other == id) {
            self.announcers.remove(place);
            self.announcers.push_back(id);
            return;
        }
        let outbound = self.announcers.iter().filter(|other| !self.peers[*other].inbound()).count();
        if self.peers[&id].inbound() && self.announcers.len() >= ANNOUNCERS_MAX && outbound == 1 {
            // The one of our own choice is not pushed out by those who came.
            let first = self.announcers.front().expect("there are three");
            if !self.peers[first].inbound() {
                self.announcers.swap(0, 1);
            }
        }
        self.send(step, id, &Message::SendCompact { announce: 1, version: COMPACT_KIND });
        self.peer(id).sync.high_bandwidth = true;
        self.announcers.push_back(id);
        if self.announcers.len() > ANNOUNCERS_MAX {
            let first = self.announcers.pop_front().expect("there are four");
            self.send(step, first, &Message::SendCompact { announce: 0, version: COMPACT_KIND });
            self.peer(first).sync.high_bandwidth = false;
        }
    }

    fn ask_whole(&mut self, step: &mut Step<'_>, id: PeerId, hash: bitcoin::BlockHash) {
        let item = self.peers[&id].block_item();
        self.send(step, id, &Message::GetData(vec![Inventory::block(item, hash)]));
    }

    pub(super) fn on_compact_block(
        &mut self,
        step: &mut Step<'_>,
        id: PeerId,
        compact: &CompactBlock,
    ) -> Result<(), ChainError> {
        let refused = if self.config.blocks_only {
            "sent us a compact block even though we are blocksonly!"
        } else if self.peers[&id].sync.provides_compact {
            ""
        } else {
            "sent us a compact block despite never having sent us a SENDCMPCT!"
        };
        if !refused.is_empty() {
            step.log("cmpctblock", format!("peer={id} {refused}"));
            return Ok(());
        }
        let Some((block, new)) = self.take_compact_header(step, id, compact) else { return Ok(()) };
        let chain = step.node.chain();
        let (entry, tip) = (chain.entry(block), chain.entry(chain.tip()));
        let (hash, height, has_data) = (entry.hash, entry.height, entry.has_data);
        let (better, had) = (entry.work > tip.work, entry.tx_count > 0);
        let near = height <= tip.height + 2;
        self.note_announced(step, id, hash);
        if new {
            step.log("net", format!("Saw new cmpctblock header hash={hash} height={height} peer={id}"));
            if better {
                self.peer(id).sync.last_announcement = step.seconds();
            }
        }
        if has_data {
            return Ok(());
        }
        let asked = self.asked(&hash);
        let (nobody, of_this) = (asked.is_empty(), asked.contains(&id));
        if !of_this && !self.peers[&id].sync.high_bandwidth {
            let why = "not marked as high-bandwidth, sent us an unsolicited compact block!";
            step.log("cmpctblock", format!("peer={id}, {why}"));
            return Ok(());
        }
        if !better || had {
            if of_this {
                self.ask_whole(step, id, hash);
            }
            return Ok(());
        }
        if nobody && !near_tip(step.node.chain(), step.seconds()) {
            return Ok(());
        }
        if near {
            return self.build(step, id, compact, block);
        }
        if of_this {
            self.ask_whole(step, id, hash);
            return Ok(());
        }
        self.on_headers(step, id, vec![compact.header], true)
    }

    /// Keeps the header; `None` if nothing is to be done about the block. True if the header is new.
    fn take_compact_header(
        &mut self,
        step: &mut Step<'_>,
        id: PeerId,
        compact: &CompactBlock,
    ) -> Option<(BlockId, bool)> {
        let chain = step.node.chain();
        let Some(prev) = chain.tree().find(&compact.header.prev_blockhash) else {
            if !self.downloading {
                self.ask_headers_from_best(step, id);
            }
            return None;
        };
        if chain.entry(prev).work + compact.header.work() < work_threshold(chain) {
            step.log("net", format!("Ignoring low-work compact block from peer {id}"));
            return None;
        }
        let new = chain.tree().find(&compact.header.block_hash()).is_none();
        match step.node.on_header(&compact.header) {
            Ok(block) => Some((block, new)),
            Err(reject) => {
                self.punish_for(step, id, &reject, true, "invalid header via cmpctblock");
                None
            }
        }
    }

    fn fill(&self, step: &Step<'_>, compact: &CompactBlock) -> Result<Partial, Reconstruction> {
        let mut partial = Partial::new(compact)?;
        partial.fill(step.node.mempool().entries().map(|entry| (entry.tx.compute_wtxid(), &entry.tx)));
        partial.fill(self.extra.iter().map(|(wtxid, tx)| (*wtxid, tx)));
        Ok(partial)
    }

    /// Puts a block together, or asks for what is missing.
    fn build(
        &mut self,
        step: &mut Step<'_>,
        id: PeerId,
        compact: &CompactBlock,
        block: BlockId,
    ) -> Result<(), ChainError> {
        let hash = compact.header.block_hash();
        let asked = self.asked(&hash);
        let (count, of_this) = (asked.len(), asked.contains(&id));
        let first = asked.first().is_none_or(|first| *first == id);
        let full = self.peers[&id].sync.in_flight.len() >= IN_FLIGHT_MAX;
        if !of_this && (count >= PER_BLOCK_MAX || full) {
            return self.build_at_once(step, id, compact);
        }
        if of_this && !matches!(self.building(step, id, block), Some(Building::No)) {
            step.log("net", "Peer sent us compact block we were already syncing!".to_owned());
            return Ok(());
        }
        self.note_request(step, id, block, Building::No);
        let partial = match self.fill(step, compact) {
            Ok(partial) => partial,
            Err(Reconstruction::Invalid) => {
                self.drop_request(step, &hash, Some(id));
                self.blame(step, id, "invalid compact block");
                return Ok(());
            }
            Err(Reconstruction::Failed) => {
                if first {
                    self.ask_whole(step, id, hash);
                } else {
                    self.drop_request(step, &hash, Some(id));
                }
                return Ok(());
            }
        };
        let missing = partial.missing();
        *self.building(step, id, block).expect("it was requested") = Building::Partial(Box::new(partial));
        if missing.is_empty() {
            return self.on_block_txns(step, id, &BlockTxns { block: hash, txs: Vec::new() });
        }
        let peer = &self.peers[&id];
        let from_outbound = self.asked(&hash).iter().any(|other| *other != id && !self.peers[other].inbound());
        let room = !peer.inbound() || from_outbound || count < PER_BLOCK_MAX - 1;
        if first || (peer.sync.high_bandwidth && room) {
            self.send(step, id, &Message::GetBlockTxns(GetBlockTxns { block: hash, places: missing }));
        } else {
            self.drop_request(step, &hash, Some(id));
        }
        Ok(())
    }

    fn building(&mut self, step: &Step<'_>, id: PeerId, block: BlockId) -> Option<&mut Building> {
        let _ = step;
        let in_flight = &mut self.peer(id).sync.in_flight;
        in_flight.iter_mut().find(|request| request.id == block).map(|request| &mut request.building)
    }

    /// Enough others were asked: the block is of use if nothing is missing.
    fn build_at_once(&mut self, step: &mut Step<'_>, id: PeerId, compact: &CompactBlock) -> Result<(), ChainError> {
        let segwit = self.may_commit(step, compact);
        let Ok(block) = self
            .fill(step, compact)
            .and_then(|partial| partial.complete(&[], |block| mutation(block, segwit).is_none()))
        else {
            return Ok(());
        };
        self.bring_built(step, id, block)
    }

    fn may_commit(&self, step: &Step<'_>, compact: &CompactBlock) -> bool {
        let chain = step.node.chain();
        let prev = chain.tree().find(&compact.header.prev_blockhash);
        prev.is_some_and(|prev| chain.entry(prev).height + 1 >= chain.params().segwit_height)
    }

    fn bring_built(&mut self, step: &mut Step<'_>, id: PeerId, block: Block) -> Result<(), ChainError> {
        let block = Arc::new(block);
        self.sources.entry(block.block_hash()).or_insert((id, false));
        self.bring(step, id, &block, true)
    }

    /// Upon what was missing.
    pub(super) fn on_block_txns(
        &mut self,
        step: &mut Step<'_>,
        id: PeerId,
        response: &BlockTxns,
    ) -> Result<(), ChainError> {
        let hash = response.block;
        let first = self.asked(&hash).first().is_none_or(|first| *first == id);
        let chain = step.node.chain();
        let found = chain.tree().find(&hash).filter(|_| self.asked(&hash).contains(&id));
        let Some(block) = found else {
            step.log("net", format!("Peer {id} sent us block transactions for block we weren't expecting"));
            return Ok(());
        };
        let entry = chain.entry(block);
        let segwit = entry.height >= chain.params().segwit_height;
        let building = self.building(step, id, block).expect("it was asked of this peer");
        let partial = match std::mem::replace(building, Building::Spent) {
            Building::Partial(partial) => *partial,
            Building::No => {
                *building = Building::No;
                step.log("net", format!("Peer {id} sent us block transactions for block we weren't expecting"));
                return Ok(());
            }
            Building::Spent => {
                self.drop_request(step, &hash, Some(id));
                self.blame(step, id, "previous compact block reconstruction attempt failed");
                return Ok(());
            }
        };
        let (brought, had) = (partial.brought, partial.found);
        match partial.complete(&response.txs, |block| mutation(block, segwit).is_none()) {
            Ok(built) => {
                let requested = response.txs.len();
                step.log("cmpctblock", format!("Successfully reconstructed block {hash} with {brought} txn prefilled, {had} txn from mempool and {requested} txn requested"));
                self.drop_request(step, &hash, Some(id));
                self.bring_built(step, id, built)
            }
            Err(Reconstruction::Invalid) => {
                self.drop_request(step, &hash, Some(id));
                self.blame(step, id, "invalid compact block/non-matching block transactions");
                Ok(())
            }
            Err(Reconstruction::Failed) if first => {
                self.ask_whole(step, id, hash);
                Ok(())
            }
            Err(Reconstruction::Failed) => {
                self.drop_request(step, &hash, Some(id));
                Ok(())
            }
        }
    }
}
