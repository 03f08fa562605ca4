//! Which blocks are asked of whom.
//!
//! - each peer has up to 16 requests at a time, of blocks no more than 1,024 above the last that both have;
//! - upon a window that one peer's missing block holds up: it has two seconds, and more for each peer that was let go for it;
//! - upon a request that is not met for as long as blocks take to be mined: the peer is let go;
//! - upon headers near the tip: their blocks are asked for at once, of whoever announced them, and one alone as a compact block;
//! - a chosen peer that does not come to our work within 20 minutes is asked once more, and let go.

use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::block::Block;
use verity_nakamoto::BlockId;

use super::PeerId;
use super::config::Permissions;
use super::headers::{locator, work_threshold};
use super::machine::{Peers, SECOND, Step};
use super::peer::{Building, InFlight, Peer};
use crate::chain::{BlockReject, Chain, ChainError, mutation};
use crate::wire::{Inventory, Item, Message};

/// Requests to one peer.
pub(super) const IN_FLIGHT_MAX: usize = 16;
const WINDOW: u32 = 1_024;
/// A peer that holds up all others has this long at least.
pub(super) const STALLING_TIMEOUT: u64 = 2 * SECOND;
const STALLING_TIMEOUT_MAX: u64 = 64 * SECOND;
const DAY: u64 = 24 * 3_600;
const HEADERS_TIMEOUT: u64 = 15 * 60 * SECOND;
/// For each header that is expected, in microseconds.
const HEADERS_TIMEOUT_EACH: u64 = 1_000;
const KEEP_UP_TIMEOUT: u64 = 20 * 60;
const KEEP_UP_RESPONSE: u64 = 2 * 60;
/// Peers with the last blocks alone have these.
const LIMITED_BLOCKS: u32 = 288;
const STALE_INTERVAL: u64 = 600 * SECOND;
const EXTRA_INTERVAL: u64 = 45 * SECOND;

/// A tip that is not older than 20 blocks should be: what is announced now is fetched at once.
pub(super) fn near_tip(chain: &Chain, seconds: u64) -> bool {
    let tip = u64::from(chain.entry(chain.tip()).header.time);
    tip + u64::from(chain.params().headers.pow.spacing) * 20 > seconds
}

fn segwit_at(chain: &Chain, id: BlockId) -> bool {
    chain.entry(id).height >= chain.params().segwit_height
}

impl Peer {
    /// How blocks are asked of it.
    pub(super) fn block_item(&self) -> Item {
        if self.serves_witnesses() { Item::WitnessBlock } else { Item::Block }
    }
}

impl Peers {
    /// Notes a request; false if this peer was asked already.
    pub(super) fn note_request(&mut self, step: &Step<'_>, id: PeerId, block: BlockId, building: Building) -> bool {
        let hash = step.node.chain().entry(block).hash;
        let whose = self.in_flight.entry(hash).or_default();
        if whose.contains(&id) {
            return false;
        }
        whose.push(id);
        let now = step.now;
        let sync = &mut self.peer(id).sync;
        sync.in_flight.push(InFlight { id: block, building });
        if sync.in_flight.len() == 1 {
            sync.downloading_since = now;
        }
        true
    }

    /// A request is over: of this peer, or of all.
    pub(super) fn drop_request(&mut self, step: &Step<'_>, hash: &BlockHash, of: Option<PeerId>) {
        let Some(whose) = self.in_flight.get_mut(hash) else { return };
        let gone: Vec<PeerId> = whose.iter().copied().filter(|id| of.is_none_or(|of| of == *id)).collect();
        whose.retain(|id| !gone.contains(id));
        if whose.is_empty() {
            self.in_flight.remove(hash);
        }
        let (chain, now) = (step.node.chain(), step.now);
        for id in gone {
            let sync = &mut self.peer(id).sync;
            let Some(place) = sync.in_flight.iter().position(|block| chain.entry(block.id).hash == *hash) else {
                continue;
            };
            sync.in_flight.remove(place);
            if place == 0 {
                sync.downloading_since = sync.downloading_since.max(now);
            }
            sync.stalling_since = 0;
        }
    }

    /// Whom a block was asked of, the first one first.
    pub(super) fn asked(&self, hash: &BlockHash) -> &[PeerId] {
        self.in_flight.get(hash).map_or(&[], Vec::as_slice)
    }

    pub(super) fn on_block_message(
        &mut self,
        step: &mut Step<'_>,
        id: PeerId,
        block: Arc<Block>,
    ) -> Result<(), ChainError> {
        let hash = block.block_hash();
        step.log("net", format!("received block {hash} peer={id}"));
        let chain = step.node.chain();
        let prev = chain.tree().find(&block.header.prev_blockhash);
        let segwit = prev.is_some_and(|prev| chain.entry(prev).height + 1 >= chain.params().segwit_height);
        if let Some(why) = prev.and_then(|_| mutation(&block, segwit)) {
            step.log("validation", format!("Block mutated: {why}"));
            step.log("net", format!("Received mutated block from peer={id}"));
            self.blame(step, id, "mutated block");
            self.drop_request(step, &hash, Some(id));
            return Ok(());
        }
        let requested = !self.asked(&hash).is_empty();
        let worth = prev.is_some_and(|prev| chain.entry(prev).work + block.header.work() >= work_threshold(chain));
        let known = chain.tree().find(&hash).is_some();
        self.drop_request(step, &hash, Some(id));
        if prev.is_some() && !worth && !known {
            // A header that comes with its block is no better than one that comes alone.
            let why = "missing anti-dos proof-of-work validation";
            step.log("validation", format!("AcceptBlockHeader: not adding new block header {hash}, {why}"));
            return Ok(());
        }
        self.sources.entry(hash).or_insert((id, true));
        self.bring(step, id, &block, requested)
    }

    /// Gives a block to the node.
    pub(super) fn bring(
        &mut self,
        step: &mut Step<'_>,
        id: PeerId,
        block: &Arc<Block>,
        requested: bool,
    ) -> Result<(), ChainError> {
        let hash = block.block_hash();
        match step.node.on_block(block, requested)? {
            Ok(true) => {
                let seconds = step.seconds();
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.last_block = seconds;
                }
                self.drop_request(step, &hash, None);
            }
            Ok(false) => {
                self.sources.remove(&hash);
            }
            Err(reject) => {
                if step.node.chain().tree().find(&hash).is_none() {
                    let what = "AcceptBlockHeader: Consensus::ContextualCheckBlockHeader";
                    step.log("validation", format!("{what}: {hash}, {reject}"));
                }
                step.log("", format!("[error] ProcessNewBlock: AcceptBlock FAILED ({reject})"));
                self.on_verdict(step, &hash, Some(&reject));
            }
        }
        Ok(())
    }

    /// Upon a verdict on a block: whoever brought it answers for it, or may bring the next unasked.
    pub(super) fn on_verdict(&mut self, step: &mut Step<'_>, hash: &BlockHash, reject: Option<&BlockReject>) {
        let Some((id, to_blame)) = self.sources.remove(hash) else { return };
        if !self.peers.contains_key(&id) {
            return;
        }
        match reject {
            Some(reject) => {
                self.punish_for(step, id, reject, !to_blame, "");
                self.punish(step, id);
            }
            None if !self.downloading && self.in_flight.keys().all(|other| other == hash) => {
                self.ask_for_compact(step, id);
            }
            None => {}
        }
    }

    /// Asks at once for the blocks of headers near the tip.
    pub(super) fn fetch_directly(&mut self, step: &mut Step<'_>, id: PeerId, last: BlockId) {
        let chain = step.node.chain();
        let entry = chain.entry(last);
        let better = chain.entry(chain.tip()).work <= entry.work;
        if !near_tip(chain, step.seconds()) || entry.failure.is_some() || !better {
            return;
        }
        let (mut wanted, mut at) = (Vec::new(), last);
        let witnesses = self.peers[&id].serves_witnesses();
        while !chain.is_active(at) && wanted.len() <= IN_FLIGHT_MAX {
            let entry = chain.entry(at);
            if !entry.has_data && self.asked(&entry.hash).is_empty() && (witnesses || !segwit_at(chain, at)) {
                wanted.push(at);
            }
            at = entry.prev.expect("the first block is part of any chain");
        }
        if !chain.is_active(at) {
            let (hash, height) = (entry.hash, entry.height);
            step.log("net", format!("Large reorg, won't direct fetch to {hash} ({height})"));
            return;
        }
        let free = IN_FLIGHT_MAX.saturating_sub(self.peers[&id].sync.in_flight.len());
        let wanted: Vec<BlockId> = wanted.into_iter().rev().take(free).collect();
        let mut list = self.request_blocks(step, id, &wanted);
        let chain = step.node.chain();
        let below = chain.entry(last).prev.map(|prev| chain.entry(prev));
        let provides = self.peers[&id].sync.provides_compact;
        let alone = list.len() == 1 && self.in_flight.len() == 1;
        if alone && provides && !self.config.blocks_only && below.is_some_and(|below| below.validated) {
            list[0].item = Item::CompactBlock;
        }
        if !list.is_empty() {
            self.send(step, id, &Message::GetData(list));
        }
    }

    fn request_blocks(&mut self, step: &mut Step<'_>, id: PeerId, blocks: &[BlockId]) -> Vec<Inventory> {
        let item = self.peers[&id].block_item();
        let mut list = Vec::new();
        for block in blocks {
            let entry = step.node.chain().entry(*block);
            let (hash, height) = (entry.hash, entry.height);
            list.push(Inventory::block(item, hash));
            self.note_request(step, id, *block, Building::No);
            step.log("net", format!("Requesting block {hash} ({height}) peer={id}"));
        }
        list
    }

    /// Begins with headers, if it is this peer's turn.
    pub(super) fn start_sync(&mut self, step: &mut Step<'_>, id: PeerId) {
        let chain = step.node.chain();
        let best = chain.entry(chain.best_header());
        let (time, seconds) = (u64::from(best.header.time), step.seconds());
        let peer = &self.peers[&id];
        if peer.sync.started || !peer.services.serves_blocks() {
            return;
        }
        let nobody = !self.peers.values().any(|peer| peer.sync.started);
        if !(nobody && self.syncs_from(id)) && time + DAY <= seconds {
            return;
        }
        let start = best.prev.unwrap_or_else(|| chain.best_header());
        let spacing = u64::from(chain.params().headers.pow.spacing);
        let hashes = locator(chain, start);
        let height = chain.entry(start).height;
        if self.ask_headers(step, id, hashes) {
            step.log("net", format!("initial getheaders ({height}) to peer={id}"));
            let expected = seconds.saturating_sub(time) / spacing;
            let timeout = step.now + HEADERS_TIMEOUT + HEADERS_TIMEOUT_EACH * expected;
            let sync = &mut self.peer(id).sync;
            (sync.started, sync.headers_timeout) = (true, timeout);
        }
    }

    /// Blocks and headers are asked of it while most are missing.
    fn syncs_from(&self, id: PeerId) -> bool {
        let peer = &self.peers[&id];
        if peer.sync.preferred {
            return true;
        }
        let fetch = peer.kind == super::config::Kind::AddrFetch;
        let no_better = !self.peers.values().any(|peer| peer.sync.preferred);
        peer.services.serves_blocks() && !fetch && (no_better || self.in_flight.is_empty())
    }

    /// Lets go of a peer that holds things up; false if it did.
    pub(super) fn check_stalling(&mut self, step: &mut Step<'_>, id: PeerId) -> bool {
        let (now, timeout) = (step.now, self.stalling_timeout);
        let chain = step.node.chain();
        let spacing = u64::from(chain.params().headers.pow.spacing) * SECOND;
        let best_time = u64::from(chain.entry(chain.best_header()).header.time);
        let others =
            self.peers.values().filter(|peer| !peer.sync.in_flight.is_empty()).count().saturating_sub(1) as u64;
        let started = self.peers.values().filter(|peer| peer.sync.started).count();
        let better = self.peers.values().any(|peer| peer.sync.preferred && peer.id != id);
        let seconds = step.seconds();
        let sync = &mut self.peer(id).sync;
        if sync.stalling_since != 0 && sync.stalling_since + timeout < now {
            self.stalling_timeout = (2 * timeout).min(STALLING_TIMEOUT_MAX);
            let longer = self.stalling_timeout / SECOND;
            step.log("net", format!("Increased stalling timeout temporarily to {longer} seconds"));
            self.close(step, id, "Peer is stalling block download");
            return false;
        }
        if !sync.in_flight.is_empty() && now > sync.downloading_since + spacing + spacing / 2 * others {
            let hash = step.node.chain().entry(self.peers[&id].sync.in_flight[0].id).hash;
            self.close(step, id, &format!("Timeout downloading block {hash}"));
            return false;
        }
        if sync.started && sync.headers_timeout < u64::MAX {
            if best_time + DAY > seconds {
                sync.headers_timeout = u64::MAX;
            } else if now > sync.headers_timeout && started == 1 && better {
                if !self.peer(id).has(Permissions::NO_BAN) {
                    self.close(step, id, "Timeout downloading headers");
                    return false;
                }
                step.log("net", format!("Timeout downloading headers from noban peer, not disconnecting peer={id}"));
                let sync = &mut self.peer(id).sync;
                (sync.started, sync.headers_timeout) = (false, 0);
            }
        }
        self.check_keeps_up(step, id);
        !self.peer(id).closing
    }

    /// A peer that the node chose must have our work in time.
    fn check_keeps_up(&mut self, step: &mut Step<'_>, id: PeerId) {
        let (chain, seconds) = (step.node.chain(), step.seconds());
        let tip = chain.tip();
        let peer = self.peers.get_mut(&id).expect("it is connected");
        let sync = &mut peer.sync;
        if sync.keep_up.protected || !peer.kind.is_outbound_or_block_relay() || !sync.started {
            return;
        }
        let best = sync.best_known.map(|best| chain.entry(best).work);
        let reaches = |goal: BlockId| best.is_some_and(|best| best >= chain.entry(goal).work);
        if reaches(tip) {
            (sync.keep_up.timeout, sync.keep_up.work_header, sync.keep_up.asked) = (0, None, false);
        } else if sync.keep_up.timeout == 0 || sync.keep_up.work_header.is_some_and(reaches) {
            sync.keep_up.timeout = seconds + KEEP_UP_TIMEOUT;
            (sync.keep_up.work_header, sync.keep_up.asked) = (Some(tip), false);
        } else if seconds > sync.keep_up.timeout {
            if sync.keep_up.asked {
                let hash =
                    sync.best_known.map_or_else(|| "<none>".to_owned(), |best| chain.entry(best).hash.to_string());
                return self.close(step, id, &format!("Outbound peer has old chain, best known block = {hash}"));
            }
            let goal = sync.keep_up.work_header.expect("a timeout has its goal");
            (sync.keep_up.asked, sync.keep_up.timeout) = (true, seconds + KEEP_UP_RESPONSE);
            let below = chain.entry(goal).prev.unwrap_or(goal);
            let hashes = locator(chain, below);
            self.ask_headers(step, id, hashes);
        }
    }

    /// Blocks that this peer is to be asked for now.
    pub(super) fn next_blocks(&mut self, step: &mut Step<'_>, id: PeerId) -> Vec<Inventory> {
        let peer = &self.peers[&id];
        let free = IN_FLIGHT_MAX.saturating_sub(peer.sync.in_flight.len());
        let turn = (self.syncs_from(id) && !peer.is_limited()) || !self.downloading;
        if !peer.services.serves_blocks() || !turn || free == 0 {
            return Vec::new();
        }
        let (wanted, staller) = self.find_blocks(step, id, free);
        let list = self.request_blocks(step, id, &wanted);
        if let Some(staller) = staller.filter(|_| self.peers[&id].sync.in_flight.is_empty()) {
            let now = step.now;
            let sync = &mut self.peer(staller).sync;
            if sync.stalling_since == 0 {
                sync.stalling_since = now;
                step.log("net", format!("Stall started peer={staller}"));
            }
        }
        list
    }

    /// The next blocks of its chain that nobody was asked for, and who holds up the window if there are none.
    fn find_blocks(&mut self, step: &Step<'_>, id: PeerId, count: usize) -> (Vec<BlockId>, Option<PeerId>) {
        self.note_unknown(step, id);
        let chain = step.node.chain();
        let sync = &mut self.peer(id).sync;
        let Some(best) = sync.best_known else { return (Vec::new(), None) };
        let work = chain.entry(best).work;
        if work < chain.entry(chain.tip()).work || work < chain.params().minimum_chain_work {
            return (Vec::new(), None);
        }
        let fork = chain.tree().fork(best, chain.tip());
        let stays =
            |last: &BlockId| chain.entry(fork).work <= chain.entry(*last).work && chain.tree().stands_on(best, *last);
        let last = sync.last_common.filter(stays).unwrap_or(fork);
        sync.last_common = Some(last);
        if last == best {
            return (Vec::new(), None);
        }
        self.walk(chain, id, last, best, count)
    }

    fn walk(
        &mut self,
        chain: &Chain,
        id: PeerId,
        last: BlockId,
        best: BlockId,
        count: usize,
    ) -> (Vec<BlockId>, Option<PeerId>) {
        let start = chain.entry(last).height;
        let (window_end, best_height) = (start + WINDOW, chain.entry(best).height);
        let peer = &self.peers[&id];
        let (witnesses, limited) = (peer.serves_witnesses(), peer.is_limited());
        let (mut wanted, mut waiting, mut last_common) = (Vec::new(), None, last);
        let mut stretch: Vec<BlockId> = Vec::new();
        let (mut height, mut staller) = (start, None);
        while height < best_height.min(window_end + 1) {
            if stretch.is_empty() {
                let top = (height + 128).min(best_height).min(window_end + 1);
                let top = chain.tree().ancestor(best, top).expect("it is no higher than the best");
                let below = std::iter::successors(Some(top), |at| chain.entry(*at).prev);
                stretch = below.take((chain.entry(top).height - height) as usize).collect();
            }
            let at = stretch.pop().expect("a stretch has blocks");
            height += 1;
            let entry = chain.entry(at);
            if entry.failure.is_some() || (!witnesses && segwit_at(chain, at)) {
                break;
            }
            if entry.has_data || chain.is_active(at) {
                if entry.chain_tx_count > 0 {
                    last_common = at;
                }
                continue;
            }
            if let Some(first) = self.asked(&entry.hash).first() {
                waiting = waiting.or(Some(*first));
                continue;
            }
            if height > window_end {
                staller = waiting.filter(|waiting| wanted.is_empty() && *waiting != id);
                break;
            }
            if limited && best_height - height >= LIMITED_BLOCKS - 2 {
                continue;
            }
            wanted.push(at);
            if wanted.len() == count {
                break;
            }
        }
        self.peer(id).sync.last_common = Some(last_common);
        (wanted, staller)
    }

    /// Asks for the blocks that an operator wants of some peer (`getblockfrompeer`).
    pub(super) fn fetch_asked(&mut self, step: &mut Step<'_>) {
        for (hash, id) in std::mem::take(&mut self.fetches) {
            let Some(found) = step.node.chain().tree().find(&hash) else { continue };
            if !self.peers.get(&id).is_some_and(|peer| peer.established) {
                continue;
            }
            self.drop_request(step, &hash, None);
            self.note_request(step, id, found, Building::No);
            step.log("net", format!("Requesting block {hash} from peer={id}"));
            self.send(step, id, &Message::GetData(vec![Inventory::block(Item::WitnessBlock, hash)]));
        }
    }

    /// Looks, now and then, whether the tip is old, and whether one of those chosen is too many.
    pub(super) fn check_tip(&mut self, step: &mut Step<'_>) {
        if step.now < self.next_extra_check && self.next_extra_check <= step.now + EXTRA_INTERVAL {
            return;
        }
        self.next_extra_check = step.now + EXTRA_INTERVAL;
        self.drop_extra(step);
        let chain = step.node.chain();
        let (spacing, seconds) = (u64::from(chain.params().headers.pow.spacing), step.seconds());
        if self.last_tip_update == 0 {
            self.last_tip_update = seconds;
        }
        if step.now > self.next_stale_check {
            self.next_stale_check = step.now + STALE_INTERVAL;
            let old = self.last_tip_update + spacing * 3 < seconds && self.in_flight.is_empty();
            self.dialer.try_new = old && self.active;
        }
        if !self.initial_sync_over && near_tip(step.node.chain(), seconds) {
            self.initial_sync_over = true;
            self.dialer.extra_block_relay = true;
        }
    }

    /// One more than there should be was tried: the one that is worth least goes.
    fn drop_extra(&mut self, step: &mut Step<'_>) {
        use super::config::Kind;
        let of = |kind| self.peers.values().filter(move |peer| peer.kind == kind && peer.established && !peer.closing);
        let settled = |peer: &Peer| peer.connected + 30 * SECOND <= step.now && peer.sync.in_flight.is_empty();
        let mut gone = Vec::new();
        if of(Kind::BlockRelay).count() > 2 {
            let mut latest: Vec<&Peer> = of(Kind::BlockRelay).collect();
            latest.sort_by_key(|peer| std::cmp::Reverse(peer.id));
            let worst = if latest[0].last_block > latest[1].last_block { latest[1] } else { latest[0] };
            gone.extend(settled(worst).then_some((worst.id, "disconnecting extra block-relay-only peer")));
        }
        if of(Kind::Full).count() > 8 {
            let candidates = of(Kind::Full).filter(|peer| !peer.sync.keep_up.protected);
            let worst = candidates.min_by_key(|peer| (peer.sync.last_announcement, std::cmp::Reverse(peer.id)));
            if let Some(worst) = worst.filter(|peer| settled(peer)) {
                gone.push((worst.id, "disconnecting extra outbound peer"));
            }
        }
        for (id, why) in gone {
            self.close(step, id, why);
            self.dialer.try_new = false;
        }
    }

    /// A block came to be the tip: stalls are borne with less again.
    pub(super) fn relax_stalling(&mut self, step: &mut Step<'_>) {
        if self.stalling_timeout != STALLING_TIMEOUT {
            self.stalling_timeout = (self.stalling_timeout / 100 * 85 / SECOND * SECOND).max(STALLING_TIMEOUT);
            let shorter = self.stalling_timeout / SECOND;
            step.log("net", format!("Decreased stalling timeout to {shorter} seconds"));
        }
    }
}
