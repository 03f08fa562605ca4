//! What a peer is sent when its time has come, in Core's order: pings, addresses, new blocks, transactions, requests.
//!
//! - a new block is told by its header to whoever asked for that, as a compact block to whoever asked for that and knows what it
//!   stands on, and else by `inv`; so it is if the chain forked, or there are more than eight;
//! - transactions wait for a moment that comes by chance, every two seconds or five, and the same for all who came in: whoever
//!   has many connections to us learns no more from them than from one.

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::{Block, BlockHash, Transaction};
use verity_nakamoto::BlockId;

use super::PeerId;
use super::config::{Kind, Permissions};
use super::machine::{LastBlock, Peers, SECOND, Step};
use super::serve::INVENTORY_MAX;
use crate::chain::{ChainError, ChainEvent};
use crate::mempool::{MempoolEntry, MempoolEvent, fee_at};
use crate::mutant::Mutant;
use crate::wire::{CompactBlock, FEEFILTER_VERSION, Inventory, Item, Message, SENDHEADERS_VERSION};

/// Blocks that are told by their headers at once.
const HEADERS_ANNOUNCED_MAX: usize = 8;
/// Things in one request.
const GETDATA_MAX: usize = 1_000;
const INBOUND_INTERVAL: u64 = 5 * SECOND;
const OUTBOUND_INTERVAL: u64 = 2 * SECOND;
/// Transactions that are told at a time: what comes in at 14 a second.
const BROADCAST_TARGET: usize = 70;
const BROADCAST_MAX: usize = 1_000;
const FEE_FILTER_INTERVAL: u64 = 600 * SECOND;
const FEE_FILTER_CHANGE_DELAY: u64 = 300 * SECOND;
const MONEY_MAX: u64 = 21_000_000 * 100_000_000;
const REBROADCAST_INTERVAL: u64 = 600 * SECOND;

impl Peers {
    /// Sends a peer what its time has come for.
    pub(super) fn send_due(&mut self, step: &mut Step<'_>, id: PeerId) -> Result<(), ChainError> {
        if !self.peers.contains_key(&id) {
            return Ok(());
        }
        self.punish(step, id);
        let peer = self.peer(id);
        if peer.closing || !peer.established {
            return Ok(());
        }
        if !self.send_ping(step, id) || !self.send_addresses(step, id) {
            return Ok(());
        }
        self.send_sendheaders(step, id);
        self.start_sync(step, id);
        self.announce_blocks(step, id)?;
        let mut list = self.block_inventory(step, id);
        self.transaction_inventory(step, id, &mut list);
        if !list.is_empty() {
            self.send(step, id, &Message::Inv(list));
        }
        if !self.check_stalling(step, id) {
            return Ok(());
        }
        self.send_requests(step, id);
        self.send_fee_filter(step, id);
        Ok(())
    }

    fn send_sendheaders(&mut self, step: &mut Step<'_>, id: PeerId) {
        let chain = step.node.chain();
        let minimum = chain.params().minimum_chain_work;
        let peer = self.peer(id);
        let best = peer.sync.best_known.map(|best| chain.entry(best).work);
        if peer.sync.sent_sendheaders || peer.common < SENDHEADERS_VERSION || best.is_none_or(|best| best <= minimum) {
            return;
        }
        peer.sync.sent_sendheaders = true;
        self.send(step, id, &Message::SendHeaders);
    }

    /// Tells of new blocks by their headers, or leaves them to an `inv`.
    fn announce_blocks(&mut self, step: &mut Step<'_>, id: PeerId) -> Result<(), ChainError> {
        self.note_unknown(step, id);
        let waiting = std::mem::take(&mut self.peer(id).sync.for_headers);
        let Some(last) = waiting.last().copied() else { return Ok(()) };
        let sync = &self.peers[&id].sync;
        let (prefers, compact) = (sync.prefers_headers, sync.wants_compact);
        let by_inv = (!prefers && (!compact || waiting.len() > 1)) || waiting.len() > HEADERS_ANNOUNCED_MAX;
        let told = if by_inv { None } else { self.headers_to_tell(step, id, &waiting) };
        let chain = step.node.chain();
        match told {
            Some((list, _)) if list.is_empty() => {}
            Some((list, best)) if list.len() == 1 && compact => {
                if let Some(block) = self.load(step, best)? {
                    step.log("net", format!("sending header-and-ids {} to peer={id}", block.block_hash()));
                    self.send_compact(step, id, &block);
                    self.peer(id).sync.best_sent = Some(best);
                }
            }
            Some((list, best)) if prefers => {
                self.send(step, id, &Message::Headers(list));
                self.peer(id).sync.best_sent = Some(best);
            }
            _ => {
                let found = chain.tree().find(&last);
                if found.is_some_and(|found| !self.has_header(chain, id, found)) {
                    self.peer(id).sync.for_inv.push(last);
                }
            }
        }
        Ok(())
    }

    /// Headers from the first that the peer does not have; `None` if they do not connect to what it has.
    fn headers_to_tell(&self, step: &Step<'_>, id: PeerId, waiting: &[BlockHash]) -> Option<(Vec<Header>, BlockId)> {
        let chain = step.node.chain();
        let (mut list, mut best): (Vec<Header>, Option<BlockId>) = (Vec::new(), None);
        for hash in waiting {
            let block = chain.tree().find(hash).filter(|block| chain.is_active(*block))?;
            let entry = chain.entry(block);
            if best.is_some_and(|best| entry.prev != Some(best)) {
                return None;
            }
            best = Some(block);
            if !list.is_empty() {
                list.push(entry.header);
            } else if self.has_header(chain, id, block) {
                continue;
            } else if entry.prev.is_none_or(|prev| self.has_header(chain, id, prev)) {
                list.push(entry.header);
            } else {
                return None;
            }
        }
        best.map(|best| (list, best))
    }

    fn block_inventory(&mut self, step: &mut Step<'_>, id: PeerId) -> Vec<Inventory> {
        let hashes = std::mem::take(&mut self.peer(id).sync.for_inv);
        let mut list: Vec<Inventory> = hashes.into_iter().map(|hash| Inventory::block(Item::Block, hash)).collect();
        self.send_full(step, id, &mut list);
        list
    }

    fn send_full(&mut self, step: &mut Step<'_>, id: PeerId, list: &mut Vec<Inventory>) {
        while list.len() >= INVENTORY_MAX {
            let rest = list.split_off(INVENTORY_MAX);
            self.send(step, id, &Message::Inv(std::mem::replace(list, rest)));
        }
    }

    /// True if it is time to tell this peer of transactions.
    fn trickles(&mut self, step: &Step<'_>, id: PeerId) -> bool {
        let now = step.now;
        let peer = &self.peers[&id];
        let Some(relay) = &peer.tx else { return false };
        let (bears, inbound) = (peer.has(Permissions::NO_BAN), peer.inbound());
        if relay.next_inv >= now && relay.next_inv <= now + 3_600 * SECOND {
            return bears;
        }
        let next = if inbound {
            if self.next_inv_inbound < now {
                self.next_inv_inbound = now + self.exponential(INBOUND_INTERVAL);
            }
            self.next_inv_inbound
        } else {
            now + self.exponential(OUTBOUND_INTERVAL)
        };
        self.peer(id).tx.as_mut().expect("it was there").next_inv = next;
        true
    }

    fn transaction_inventory(&mut self, step: &mut Step<'_>, id: PeerId, list: &mut Vec<Inventory>) {
        if !self.trickles(step, id) {
            return;
        }
        let by_wtxid = self.peers[&id].wtxid_relay;
        let mempool = step.node.mempool();
        let relay = self.peer(id).tx.as_mut().expect("who is told of transactions has a relay");
        if !relay.wants {
            relay.to_send.clear();
        }
        let name = |entry: &MempoolEntry| name_of(entry, by_wtxid);
        let pays = |entry: &MempoolEntry, rate: u64| entry.fee.to_sat().cast_signed() >= fee_at(rate, entry.vsize);
        if std::mem::take(&mut relay.send_mempool) {
            for entry in mempool.entries() {
                relay.to_send.remove(&entry.wtxid);
                let concerns = |bloom: &mut super::bloom::Bloom| bloom.matches(&entry.tx);
                if pays(entry, relay.fee_filter) && relay.bloom.as_mut().is_none_or(concerns) {
                    relay.known.insert(&name(entry).hash);
                    list.push(name(entry));
                }
            }
        }
        let most = (BROADCAST_TARGET + relay.to_send.len() / 1_000 * 5).min(BROADCAST_MAX);
        relay.to_send.retain(|wtxid| mempool.get_by_wtxid(wtxid).is_some());
        let mut entries: Vec<&MempoolEntry> =
            relay.to_send.iter().filter_map(|wtxid| mempool.get_by_wtxid(wtxid)).collect();
        entries.sort_by(|a, b| mempool.compare(&a.txid, &b.txid));
        let mut told = 0;
        for entry in entries {
            if told == most {
                break;
            }
            relay.to_send.remove(&entry.wtxid);
            let item = name(entry);
            if relay.known.contains(&item.hash) || !pays(entry, relay.fee_filter) {
                continue;
            }
            if relay.bloom.as_mut().is_some_and(|bloom| !bloom.matches(&entry.tx)) {
                continue;
            }
            list.push(item);
            relay.known.insert(&item.hash);
            told += 1;
        }
        relay.last_sequence = mempool.sequence();
        self.send_full(step, id, list);
    }

    /// Asks for blocks and transactions.
    fn send_requests(&mut self, step: &mut Step<'_>, id: PeerId) {
        let mut list = self.next_blocks(step, id);
        let mut expired = Vec::new();
        let item = if self.peers[&id].serves_witnesses() { Item::WitnessTx } else { Item::Tx };
        let requests = self.downloads.requests(step.node.mempool(), id, step.now, &mut expired);
        for (whose, request) in expired {
            let kind = if request.wtxid { "wtx" } else { "tx" };
            step.log("net", format!("timeout of inflight {kind} from peer={whose}"));
        }
        for request in requests {
            let item = if request.wtxid { Item::Wtx } else { item };
            list.push(Inventory { item, hash: request.hash });
            if list.len() == GETDATA_MAX {
                self.send(step, id, &Message::GetData(std::mem::take(&mut list)));
            }
        }
        if !list.is_empty() {
            self.send(step, id, &Message::GetData(list));
        }
    }

    /// Says below which fee nothing is to be sent.
    fn send_fee_filter(&mut self, step: &mut Step<'_>, id: PeerId) {
        let (now, downloading) = (step.now, self.downloading);
        let least = step.node.mempool().options().relay_rate_min;
        let peer = &self.peers[&id];
        let never = self.config.blocks_only || peer.has(Permissions::FORCE_RELAY) || peer.kind == Kind::BlockRelay;
        if never || peer.common < FEEFILTER_VERSION {
            return;
        }
        let current = if downloading { MONEY_MAX } else { step.node.mempool().rolling_rate(step.seconds()) };
        let (coin, delay) = (self.rng.u8(0..3) > 0, self.rng.u64(0..FEE_FILTER_CHANGE_DELAY));
        let next = now + self.exponential(FEE_FILTER_INTERVAL);
        let peer = self.peer(id);
        if !downloading && peer.fee_filter_sent >= rounded(MONEY_MAX, false) {
            // It was told to send nothing: that is over.
            peer.next_fee_filter = 0;
        }
        let sent = peer.fee_filter_sent;
        if now > peer.next_fee_filter {
            let rate = rounded(current, coin).max(least);
            peer.next_fee_filter = next;
            if rate != sent {
                peer.fee_filter_sent = rate;
                self.send(step, id, &Message::FeeFilter(rate.cast_signed()));
            }
        } else if now + FEE_FILTER_CHANGE_DELAY < peer.next_fee_filter
            && (current < sent / 4 * 3 || current > sent / 3 * 4)
        {
            peer.next_fee_filter = now + delay;
        }
    }

    /// Upon what became of the chain.
    pub(super) fn on_chain_event(&mut self, step: &mut Step<'_>, event: &ChainEvent) {
        match event {
            ChainEvent::Connected { block, .. } => {
                self.last_tip_update = step.seconds();
                self.relax_stalling(step);
                if !self.downloading {
                    self.downloads.on_block(block);
                    self.tell_of_downloads(step);
                    self.remember_block(block);
                }
                self.on_verdict(step, &block.block_hash(), None);
            }
            ChainEvent::Disconnected { .. } => self.downloads.on_block_disconnected(),
            ChainEvent::Invalid { id, reject } => {
                let hash = step.node.chain().entry(*id).hash;
                self.on_verdict(step, &hash, Some(reject));
            }
        }
    }

    fn remember_block(&mut self, block: &Arc<Block>) {
        let compact = CompactBlock::new(block, self.rng.u64(..));
        let by_txid = block.txdata.iter().enumerate().map(|(place, tx)| (tx.compute_txid(), place)).collect();
        let by_wtxid = block.txdata.iter().enumerate().map(|(place, tx)| (tx.compute_wtxid(), place)).collect();
        let (hash, block) = (block.block_hash(), Arc::clone(block));
        self.last_block = Some(LastBlock { hash, block, compact, by_txid, by_wtxid });
    }

    /// Upon another tip: all are told of the blocks that lead there.
    pub(super) fn on_tip(&mut self, step: &mut Step<'_>, from: BlockId, to: BlockId) {
        if self.downloading {
            return;
        }
        self.downloads.on_tip();
        let chain = step.node.chain();
        let fork = chain.tree().fork(from, to);
        if fork != from && chain.mutant() == Mutant::ReorganisationNotTold {
            return;
        }
        let above = std::iter::successors(Some(to), |id| chain.entry(*id).prev).take_while(|id| *id != fork);
        let hashes: Vec<_> = above.take(HEADERS_ANNOUNCED_MAX).map(|id| chain.entry(id).hash).collect();
        for peer in self.peers.values_mut() {
            peer.sync.for_headers.extend(hashes.iter().rev());
        }
    }

    /// Upon what became of the mempool: whatever comes in is told.
    pub(super) fn on_mempool_event(&mut self, event: &MempoolEvent) {
        if let MempoolEvent::Added { tx, .. } = event {
            self.broadcast(tx);
        }
    }

    /// Notes that all who do not know this transaction are to be told of it (`sendrawtransaction` of one that waits already).
    pub fn broadcast(&mut self, tx: &Transaction) {
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        for peer in self.peers.values_mut() {
            let by_wtxid = peer.wtxid_relay;
            let Some(relay) = peer.tx.as_mut().filter(|relay| relay.next_inv > 0) else { continue };
            let name = if by_wtxid { Inventory::wtx(wtxid) } else { Inventory::tx(txid) };
            if !relay.known.contains(&name.hash) {
                relay.to_send.insert(wtxid);
            }
        }
    }

    /// Tells again, now and then, of what nobody has fetched.
    pub(super) fn rebroadcast(&mut self, step: &mut Step<'_>) {
        if step.now < self.next_rebroadcast && self.next_rebroadcast <= step.now + 2 * REBROADCAST_INTERVAL {
            return;
        }
        let first = self.next_rebroadcast == 0;
        self.next_rebroadcast = step.now + REBROADCAST_INTERVAL + self.rng.u64(0..REBROADCAST_INTERVAL / 2);
        if first {
            return;
        }
        for txid in step.node.mempool().unbroadcast().clone() {
            match step.node.mempool().get(&txid).map(|entry| Arc::clone(&entry.tx)) {
                Some(tx) => self.broadcast(&tx),
                None => step.node.mempool_mut().0.remove_unbroadcast(&txid),
            }
        }
    }
}

fn name_of(entry: &MempoolEntry, by_wtxid: bool) -> Inventory {
    if by_wtxid { Inventory::wtx(entry.wtxid) } else { Inventory::tx(entry.txid) }
}

/// A rate that many values share, so that a node cannot be told by it.
fn rounded(rate: u64, down: bool) -> u64 {
    if rate == 0 {
        return 0;
    }
    let (mut bound, mut below) = (50.0_f64, 0.0_f64);
    let most = 1e7_f64;
    let rate = rate as f64;
    while bound < rate && bound <= most {
        (below, bound) = (bound, bound * 1.1);
    }
    let chosen = if bound > most || down { below } else { bound };
    chosen as u64
}
