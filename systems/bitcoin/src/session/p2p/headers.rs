//! Headers, which come before blocks.
//!
//! - upon headers that follow something known, whose chain has the work: they are kept, more are asked for if the message is
//!   full, and blocks near the tip are asked for at once;
//! - upon headers whose chain may not have the work: they are only counted, until it has (`presync`);
//! - upon headers that follow nothing known: what lies between is asked for;
//! - upon headers without work, with gaps, or against the rules: the peer is at fault.

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::hashes::Hash;
use bitcoin::pow::Work;
use verity_nakamoto::{BlockId, has_work};

use super::PeerId;
use super::config::{Kind, Permissions};
use super::machine::{Peers, SECOND, Step};
use super::presync::Presync;
use crate::chain::{BlockReject, Chain, ChainError, RejectKind};
use crate::wire::{Locator, Message};

/// Headers in a message.
pub(super) const HEADERS_MAX: usize = 2_000;
/// Nobody is asked for headers twice within this time.
const RESPONSE_TIME: u64 = 120 * SECOND;
/// Blocks of work at the tip that a chain may lack and still be looked at.
const NEAR_BLOCKS: u32 = 144;
/// That many of those that the node chose stay, however slow.
const PROTECTED_MAX: usize = 4;

/// What a chain must have for its headers to be kept.
pub(super) fn work_threshold(chain: &Chain) -> Work {
    let tip = chain.entry(chain.tip());
    let own = tip.header.work();
    let mut near = own;
    for _ in 1..NEAR_BLOCKS {
        if near >= tip.work {
            break;
        }
        near = near + own;
    }
    let below = if near >= tip.work { Work::from_be_bytes([0; 32]) } else { tip.work - near };
    below.max(chain.params().minimum_chain_work)
}

/// Where a chain is, for whoever is asked for what follows.
pub(super) fn locator(chain: &Chain, tip: BlockId) -> Vec<BlockHash> {
    chain.tree().locator(tip)
}

impl Peers {
    /// Asks for headers, unless it was asked already; true if it is now.
    pub(super) fn ask_headers(&mut self, step: &mut Step<'_>, id: PeerId, hashes: Vec<BlockHash>) -> bool {
        let now = step.now;
        let last = &mut self.peer(id).sync.last_getheaders;
        if *last != 0 && now.saturating_sub(*last) <= RESPONSE_TIME {
            return false;
        }
        *last = now;
        let locator = Locator { hashes, stop: BlockHash::all_zeros() };
        self.send(step, id, &Message::GetHeaders(locator));
        true
    }

    /// Asks for what follows the best header.
    pub(super) fn ask_headers_from_best(&mut self, step: &mut Step<'_>, id: PeerId) -> bool {
        let chain = step.node.chain();
        let hashes = locator(chain, chain.best_header());
        self.ask_headers(step, id, hashes)
    }

    pub(super) fn on_headers_message(
        &mut self,
        step: &mut Step<'_>,
        id: PeerId,
        headers: Vec<Header>,
    ) -> Result<(), ChainError> {
        if headers.len() > HEADERS_MAX {
            self.blame(step, id, &format!("headers message size = {}", headers.len()));
            return Ok(());
        }
        self.on_headers(step, id, headers, false)
    }

    /// Upon headers, of which one may have come with a compact block.
    pub(super) fn on_headers(
        &mut self,
        step: &mut Step<'_>,
        id: PeerId,
        mut headers: Vec<Header>,
        via_compact: bool,
    ) -> Result<(), ChainError> {
        let full = headers.len() == HEADERS_MAX;
        if headers.is_empty() {
            let sync = &mut self.peer(id).sync;
            sync.presync = None;
            sync.last_getheaders = 0;
            return Ok(());
        }
        if let Err(why) = check_shape(step.node.chain(), &headers) {
            self.blame(step, id, why);
            return Ok(());
        }
        let mut validated = self.continue_presync(step, id, &mut headers, full);
        let (Some(first), Some(last)) = (headers.first(), headers.last()) else { return Ok(()) };
        let in_presync = self.peer(id).sync.presync.is_some();
        let (prev, last_hash) = (first.prev_blockhash, last.block_hash());
        let Some(start) = step.node.chain().tree().find(&prev) else {
            self.on_unconnected(step, id, first.block_hash(), prev, last_hash);
            return Ok(());
        };
        self.peer(id).sync.last_getheaders = 0;
        let known_last = step.node.chain().tree().find(&last_hash);
        validated |= known_last.is_some_and(|last| is_settled(step.node.chain(), last));
        validated |= self.peer(id).has(Permissions::NO_BAN);
        if !validated && self.is_low_work(step, id, start, &headers, full) {
            return Ok(());
        }
        let before = step.node.chain().best_header();
        let Some(last) = self.keep_headers(step, id, &headers, via_compact) else { return Ok(()) };
        if self.downloading && step.node.chain().best_header() != before {
            tell_progress(step, last);
        }
        if known_last.is_none() {
            let (hash, height) = (last_hash, step.node.chain().entry(last).height);
            step.log("net", format!("Saw new header hash={hash} height={height} peer={id}"));
        }
        if full && !in_presync {
            let hashes = locator(step.node.chain(), last);
            self.ask_headers(step, id, hashes);
        }
        self.note_headers(step, id, last, known_last.is_none(), full);
        self.fetch_directly(step, id, last);
        Ok(())
    }

    fn on_unconnected(&mut self, step: &mut Step<'_>, id: PeerId, first: BlockHash, prev: BlockHash, last: BlockHash) {
        if self.ask_headers_from_best(step, id) {
            let chain = step.node.chain();
            let height = chain.entry(chain.best_header()).height;
            step.log(
                "net",
                format!("received header {first}: missing prev block {prev}, sending getheaders ({height}) to end (peer={id})"),
            );
        }
        self.note_announced(step, id, last);
    }

    /// Goes on with headers of a chain whose work is not known to be enough; true if those left have it.
    fn continue_presync(&mut self, step: &mut Step<'_>, id: PeerId, headers: &mut Vec<Header>, full: bool) -> bool {
        let Some(mut presync) = self.peer(id).sync.presync.take() else { return false };
        let progress = presync.on_headers(headers, full);
        if progress.good {
            self.peer(id).sync.last_getheaders = 0;
        }
        if progress.more {
            let (hash, start) = presync.next();
            let mut hashes = vec![hash];
            hashes.extend(locator(step.node.chain(), start));
            self.ask_headers(step, id, hashes);
        }
        if !presync.is_over() {
            self.peer(id).sync.presync = Some(presync);
        }
        if progress.good {
            *headers = progress.ready;
        }
        progress.good
    }

    /// True if the chain may not have the work: then its headers are counted from here on, or ignored.
    fn is_low_work(&mut self, step: &mut Step<'_>, id: PeerId, start: BlockId, headers: &[Header], full: bool) -> bool {
        let chain = step.node.chain();
        let threshold = work_threshold(chain);
        let entry = chain.entry(start);
        let total = headers.iter().fold(entry.work, |sum, header| sum + header.work());
        if total >= threshold {
            return false;
        }
        let height = entry.height as usize + headers.len();
        if full {
            let random = (self.rng.u64(..), self.rng.u64(..), self.rng.u32(..));
            let presync = Presync::new(chain.params(), chain.tree(), start, threshold, step.seconds(), random);
            self.peer(id).sync.presync = Some(Box::new(presync));
            step.log("net", format!("Initial headers sync started with peer={id}"));
            self.continue_presync(step, id, &mut headers.to_vec(), true);
        } else {
            step.log("net", format!("Ignoring low-work chain (height={height}) from peer={id}"));
        }
        true
    }

    fn keep_headers(
        &mut self,
        step: &mut Step<'_>,
        id: PeerId,
        headers: &[Header],
        via_compact: bool,
    ) -> Option<BlockId> {
        let mut last = None;
        for header in headers {
            match step.node.on_header(header) {
                Ok(header) => last = Some(header),
                Err(reject) => {
                    self.punish_for(step, id, &reject, via_compact, "invalid header received");
                    return None;
                }
            }
        }
        last
    }

    /// Whether a peer is to blame for what it brought.
    pub(super) fn punish_for(
        &mut self,
        step: &mut Step<'_>,
        id: PeerId,
        reject: &BlockReject,
        via_compact: bool,
        why: &str,
    ) {
        let Some(peer) = self.peers.get(&id) else { return };
        let at_fault = match reject.kind {
            RejectKind::HeaderLowWork | RejectKind::TimeFuture => false,
            RejectKind::Consensus | RejectKind::Mutated => !via_compact,
            RejectKind::CachedInvalid => !via_compact && !peer.inbound(),
            RejectKind::InvalidHeader | RejectKind::InvalidPrev | RejectKind::MissingPrev => true,
        };
        if at_fault {
            self.blame(step, id, why);
        } else if !why.is_empty() {
            step.log("net", format!("peer={id}: {why}"));
        }
    }

    /// Upon headers that were kept.
    fn note_headers(&mut self, step: &mut Step<'_>, id: PeerId, last: BlockId, new: bool, more: bool) {
        let chain = step.node.chain();
        let (hash, work) = (chain.entry(last).hash, chain.entry(last).work);
        let (tip_work, minimum) = (chain.entry(chain.tip()).work, chain.params().minimum_chain_work);
        self.note_announced(step, id, hash);
        let seconds = step.seconds();
        let best = self.peer(id).sync.best_known.map(|best| step.node.chain().entry(best).work);
        if new && work > tip_work {
            self.peer(id).sync.last_announcement = seconds;
        }
        let kind = self.peer(id).kind;
        if self.downloading && !more && best.is_some_and(|best| best < minimum) && kind.is_outbound_or_block_relay() {
            return self.close(step, id, "outbound peer headers chain has insufficient work");
        }
        let protected = self.peers.values().filter(|peer| peer.sync.keep_up.protected).count();
        let peer = self.peer(id);
        let good = best.is_some_and(|best| best >= tip_work);
        if peer.kind == Kind::Full && good && !peer.sync.keep_up.protected && protected < PROTECTED_MAX {
            peer.sync.keep_up.protected = true;
            step.log("net", format!("Protecting outbound peer={id} from eviction"));
        }
    }

    /// What a peer is known to have.
    pub(super) fn note_announced(&mut self, step: &Step<'_>, id: PeerId, hash: BlockHash) {
        self.note_unknown(step, id);
        let chain = step.node.chain();
        let Some(found) = chain.tree().find(&hash) else {
            self.peer(id).sync.unknown = Some(hash);
            return;
        };
        let sync = &mut self.peer(id).sync;
        if sync.best_known.is_none_or(|best| chain.entry(found).work >= chain.entry(best).work) {
            sync.best_known = Some(found);
        }
    }

    /// What a peer announced before it was known here may be by now.
    pub(super) fn note_unknown(&mut self, step: &Step<'_>, id: PeerId) {
        let chain = step.node.chain();
        let sync = &mut self.peer(id).sync;
        let Some(found) = sync.unknown.and_then(|hash| chain.tree().find(&hash)) else { return };
        sync.unknown = None;
        if sync.best_known.is_none_or(|best| chain.entry(found).work >= chain.entry(best).work) {
            sync.best_known = Some(found);
        }
    }

    /// A peer has this block's header, as far as is known.
    pub(super) fn has_header(&self, chain: &Chain, id: PeerId, block: BlockId) -> bool {
        let sync = &self.peers[&id].sync;
        let has = |best: Option<BlockId>| best.is_some_and(|best| chain.tree().stands_on(best, block));
        has(sync.best_known) || has(sync.best_sent)
    }
}

/// Each has the work that it claims, and stands on the one before.
fn check_shape(chain: &Chain, headers: &[Header]) -> Result<(), &'static str> {
    let limit = chain.params().headers.pow.limit;
    let mut prev = None;
    let mut continuous = true;
    for header in headers {
        let hash = header.block_hash();
        if !has_work(hash, header.bits, limit) {
            return Err("header with invalid proof of work");
        }
        continuous &= prev.is_none_or(|prev| prev == header.prev_blockhash);
        prev = Some(hash);
    }
    if continuous { Ok(()) } else { Err("non-continuous headers sequence") }
}

/// How far the headers are, by the time that the last one bears.
fn tell_progress(step: &mut Step<'_>, last: BlockId) {
    let chain = step.node.chain();
    let entry = chain.entry(last);
    let spacing = u64::from(chain.params().headers.pow.spacing);
    let (height, left) =
        (u64::from(entry.height), step.seconds().saturating_sub(u64::from(entry.header.time)) / spacing);
    let percent = 100.0 / (height + left).max(1) as f64 * height as f64;
    step.log("", format!("Synchronizing blockheaders, height: {height} (~{percent:.2}%)"));
}

/// It is part of the best chain of headers, or of blocks.
fn is_settled(chain: &Chain, id: BlockId) -> bool {
    chain.is_active(id) || chain.tree().stands_on(chain.best_header(), id)
}
