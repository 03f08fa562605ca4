//! Which transactions are fetched from whom, and which were seen to be of no use.
//!
//! - upon an announcement of one that is not had, refused or confirmed lately: its peer is a candidate, after two seconds unless
//!   it is preferred, two more if it is named by txid while others name by wtxid, two more with 100 requests unanswered;
//! - upon an orphan: its parents are asked of all who announced it;
//! - upon one that pays too little by itself: a child that the same peer brought may pay for both (1p1c).
//!
//! Deliberately absent: the mempool's own verdicts, and telling others.

mod orphans;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::block::Block;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{Transaction, Txid, Wtxid};

use self::orphans::Orphans;
use self::requests::Requests;
pub(super) use self::requests::{Request, TxHash};
use super::PeerId;
use super::recent::Recent;
use crate::mempool::{Mempool, TxReject, TxRejectKind};

/// Announcements of one peer that are not forgotten.
pub(super) const ANNOUNCEMENTS_MAX: usize = 5_000;
/// With so many requests unanswered, a peer is asked later.
const IN_FLIGHT_MAX: usize = 100;
const SECOND: u64 = 1_000_000;
const TXID_DELAY: u64 = 2 * SECOND;
const NOT_PREFERRED_DELAY: u64 = 2 * SECOND;
const OVERLOADED_DELAY: u64 = 2 * SECOND;
/// A request is given up after this.
const REQUEST_TIMEOUT: u64 = 60 * SECOND;
/// Refused ones that are remembered.
const REJECTS: usize = 120_000;
/// Confirmed ones that are remembered.
const CONFIRMED: usize = 48_000;

/// What matters of a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    /// Others wait for it.
    pub(super) preferred: bool,
    /// No bounds.
    pub(super) relay: bool,
    /// It names by wtxid.
    pub(super) wtxid: bool,
}

/// A parent and its child, and who brought them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) parent: Arc<Transaction>,
    pub(super) child: Arc<Transaction>,
    pub(super) peer: PeerId,
}

impl Package {
    /// Of the two wtxids, in the order of their numbers.
    fn hash(&self) -> [u8; 32] {
        let mut wtxids = [&self.parent, &self.child].map(|tx| tx.compute_wtxid().to_byte_array());
        wtxids.sort_by(|a, b| a.iter().rev().cmp(b.iter().rev()));
        sha256::Hash::hash(&wtxids.concat()).to_byte_array()
    }
}

/// What to do with a transaction that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// It is of no use.
    Known,
    /// The mempool is to judge it.
    Judge,
    /// It was refused for its fee, and here is a child of it.
    Package(Package),
}

/// What follows from a refusal.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused {
    /// A compact block may have it.
    pub(super) keep: bool,
    /// It is an orphan, of these.
    pub(super) parents: Vec<Txid>,
    /// A child may pay for it.
    pub(super) package: Option<Package>,
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Downloads {
    orphans: Orphans,
    requests: Requests,
    rejects: Recent,
    reconsiderable: Recent,
    confirmed: Recent,
    sources: BTreeMap<PeerId, Source>,
    wtxid_sources: usize,
    /// For the log, until they are taken.
    pub(super) lines: Vec<String>,
}

impl Downloads {
    pub(super) fn new(keys: (u64, u64)) -> Self {
        Self {
            orphans: Orphans::default(),
            requests: Requests::new(keys),
            rejects: Recent::new(REJECTS, keys),
            reconsiderable: Recent::new(REJECTS, keys),
            confirmed: Recent::new(CONFIRMED, keys),
            sources: BTreeMap::new(),
            wtxid_sources: 0,
            lines: Vec::new(),
        }
    }

    pub(super) fn on_connected(&mut self, peer: PeerId, source: Source) {
        if self.sources.insert(peer, source).is_none() {
            self.wtxid_sources += usize::from(source.wtxid);
        }
    }

    pub(super) fn on_disconnected(&mut self, peer: PeerId) {
        let erased = self.orphans.erase_peer(peer);
        if erased > 0 {
            self.lines.push(format!("Erased {erased} orphan transaction(s) from peer={peer}"));
        }
        self.requests.disconnected(peer);
        if let Some(source) = self.sources.remove(&peer) {
            self.wtxid_sources -= usize::from(source.wtxid);
        }
    }

    /// Upon another tip: what was refused may be good now.
    pub(super) fn on_tip(&mut self) {
        self.rejects.clear();
        self.reconsiderable.clear();
    }

    pub(super) fn on_block(&mut self, block: &Block) {
        let erased = self.orphans.on_block(block);
        if erased > 0 {
            self.lines.push(format!("Erased {erased} orphan transaction(s) included or conflicted by block"));
        }
        for tx in &block.txdata {
            let (txid, wtxid) = (tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array());
            self.confirmed.insert(&txid);
            self.confirmed.insert(&wtxid);
            self.requests.forget(&txid);
            self.requests.forget(&wtxid);
        }
    }

    pub(super) fn on_block_disconnected(&mut self) {
        self.confirmed.clear();
    }

    /// True if nobody needs to be asked for it.
    fn is_known(&self, mempool: &Mempool, hash: &TxHash, wtxid: bool, reconsiderable: bool) -> bool {
        let waits = if wtxid {
            mempool.get_by_wtxid(&Wtxid::from_byte_array(*hash)).is_some()
        } else {
            mempool.get(&Txid::from_byte_array(*hash)).is_some()
        };
        waits
            || self.orphans.has(&Wtxid::from_byte_array(*hash))
            || (reconsiderable && self.reconsiderable.contains(hash))
            || self.confirmed.contains(hash)
            || self.rejects.contains(hash)
    }

    /// Upon an announcement; true if it is nothing new.
    pub(super) fn on_announced(&mut self, mempool: &Mempool, peer: PeerId, request: Request, now: u64) -> bool {
        let wtxid = Wtxid::from_byte_array(request.hash);
        if let Some(tx) = self.orphans.get(&wtxid).filter(|_| request.wtxid).cloned() {
            let parents = self.missing_parents(mempool, &tx);
            if !parents.is_empty() && self.seek_parents(&parents, &wtxid, peer, now) {
                self.orphans.add_announcer(&wtxid, peer);
                self.lines.push(format!("added peer={peer} as announcer of orphan tx (wtxid={wtxid})"));
            }
            return true;
        }
        if self.is_known(mempool, &request.hash, request.wtxid, true) {
            return true;
        }
        let Some(source) = self.sources.get(&peer).copied() else { return false };
        if !source.relay && self.requests.count(peer) >= ANNOUNCEMENTS_MAX {
            return false;
        }
        let by_txid = !request.wtxid && self.wtxid_sources > 0;
        let from = now + self.delay(peer, source, by_txid);
        self.requests.announce(peer, request, source.preferred, from);
        false
    }

    fn delay(&self, peer: PeerId, source: Source, by_txid: bool) -> u64 {
        let overloaded = !source.relay && self.requests.in_flight(peer) >= IN_FLIGHT_MAX;
        let if_so = |so: bool, delay: u64| if so { delay } else { 0 };
        if_so(!source.preferred, NOT_PREFERRED_DELAY) + if_so(by_txid, TXID_DELAY) + if_so(overloaded, OVERLOADED_DELAY)
    }

    fn missing_parents(&self, mempool: &Mempool, tx: &Transaction) -> Vec<Txid> {
        let parents = unique_parents(tx).into_iter();
        parents.filter(|txid| !self.is_known(mempool, &txid.to_byte_array(), false, false)).collect()
    }

    fn seek_parents(&mut self, parents: &[Txid], wtxid: &Wtxid, peer: PeerId, now: u64) -> bool {
        let Some(source) = self.sources.get(&peer).copied() else { return false };
        if self.orphans.has_from(wtxid, peer) {
            return false;
        }
        if !source.relay && self.requests.count(peer) + parents.len() > ANNOUNCEMENTS_MAX {
            return false;
        }
        let from = now + self.delay(peer, source, self.wtxid_sources > 0);
        for parent in parents {
            let request = Request { hash: parent.to_byte_array(), wtxid: false };
            self.requests.announce(peer, request, source.preferred, from);
        }
        self.lines.push(format!("added peer={peer} as a candidate for resolving orphan {wtxid}"));
        true
    }

    /// What this peer is to be asked for now; and whose requests grew too old.
    pub(super) fn requests(
        &mut self,
        mempool: &Mempool,
        peer: PeerId,
        now: u64,
        expired: &mut Vec<(PeerId, Request)>,
    ) -> Vec<Request> {
        let mut wanted = Vec::new();
        for request in self.requests.requestable(peer, now, expired) {
            if self.is_known(mempool, &request.hash, request.wtxid, false) {
                self.requests.forget(&request.hash);
            } else {
                self.requests.requested(peer, &request.hash, now + REQUEST_TIMEOUT);
                wanted.push(request);
            }
        }
        wanted
    }

    pub(super) fn on_not_found(&mut self, peer: PeerId, hash: &TxHash) {
        self.requests.answered(peer, hash);
    }

    /// Upon a transaction.
    pub(super) fn on_received(&mut self, mempool: &Mempool, peer: PeerId, tx: &Arc<Transaction>) -> Received {
        let (txid, wtxid) = (tx.compute_txid().to_byte_array(), tx.compute_wtxid().to_byte_array());
        self.requests.answered(peer, &txid);
        self.requests.answered(peer, &wtxid);
        if self.is_known(mempool, &wtxid, true, false) {
            return Received::Known;
        }
        if self.reconsiderable.contains(&wtxid) {
            let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
            let line = "in reconsiderable rejects, looking for child in orphanage";
            self.lines.push(format!("found tx {txid} (wtxid={wtxid}) {line}"));
            return self.find_package(tx, peer).map_or(Received::Known, Received::Package);
        }
        Received::Judge
    }

    fn find_package(&self, parent: &Arc<Transaction>, peer: PeerId) -> Option<Package> {
        let children = self.orphans.children(&parent.compute_txid(), peer);
        let packages = children.into_iter().map(|child| Package { parent: Arc::clone(parent), child, peer });
        let untried = |package: &Package| {
            !self.reconsiderable.contains(&package.hash())
                && !self.rejects.contains(&package.child.compute_txid().to_byte_array())
        };
        packages.into_iter().find(untried)
    }

    /// Upon one that the mempool took.
    pub(super) fn on_accepted(&mut self, tx: &Transaction, pick: impl FnMut(usize) -> usize) {
        let wtxid = tx.compute_wtxid();
        self.requests.forget(&tx.compute_txid().to_byte_array());
        self.requests.forget(&wtxid.to_byte_array());
        self.orphans.on_parent(tx, pick);
        self.orphans.erase(&wtxid);
    }

    /// Upon one that the mempool refused; `first` if it was not tried before.
    pub(super) fn on_refused(
        &mut self,
        mempool: &Mempool,
        tx: &Arc<Transaction>,
        reject: &TxReject,
        peer: PeerId,
        first: bool,
        now: u64,
    ) -> Refused {
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        let mut refused = Refused { keep: first, ..Refused::default() };
        match reject.kind {
            TxRejectKind::MissingInputs => {
                if first && !self.rejects.contains(wtxid.as_byte_array()) {
                    self.on_orphan(mempool, tx, peer, now, &mut refused);
                }
                return refused;
            }
            TxRejectKind::WitnessStripped => refused.keep = false,
            TxRejectKind::Reconsiderable => {
                self.reconsiderable.insert(wtxid.as_byte_array());
                if first {
                    let line = "failed but reconsiderable, looking for child in orphanage";
                    self.lines.push(format!("tx {txid} (wtxid={wtxid}) {line}"));
                }
                refused.package = if first { self.find_package(tx, peer) } else { None };
                self.requests.forget(wtxid.as_byte_array());
            }
            _ => {
                self.rejects.insert(wtxid.as_byte_array());
                self.requests.forget(wtxid.as_byte_array());
                // Its inputs are not relayed whatever witness comes with them.
                if reject.reason == "bad-txns-nonstandard-inputs" {
                    self.rejects.insert(txid.as_byte_array());
                    self.requests.forget(txid.as_byte_array());
                }
            }
        }
        if self.orphans.erase(&wtxid) {
            self.lines.push(format!("   removed orphan tx {txid} (wtxid={wtxid})"));
        }
        refused
    }

    fn on_orphan(&mut self, mempool: &Mempool, tx: &Arc<Transaction>, peer: PeerId, now: u64, refused: &mut Refused) {
        let (txid, wtxid) = (tx.compute_txid(), tx.compute_wtxid());
        let parents = unique_parents(tx);
        let waits = |parent: &Txid| mempool.get(parent).is_some();
        let reconsiderable = parents
            .iter()
            .filter(|parent| self.reconsiderable.contains(parent.as_byte_array()) && !waits(parent))
            .count();
        if reconsiderable > 1 || parents.iter().any(|parent| self.rejects.contains(parent.as_byte_array())) {
            self.lines.push(format!("not keeping orphan with rejected parents {txid} (wtxid={wtxid})"));
            self.rejects.insert(txid.as_byte_array());
            self.rejects.insert(wtxid.as_byte_array());
        } else {
            let missing = self.missing_parents(mempool, tx);
            refused.keep &= !self.orphans.has(&wtxid);
            let mut peers = BTreeSet::from([peer]);
            peers.extend(self.requests.candidates(txid.as_byte_array()));
            peers.extend(self.requests.candidates(wtxid.as_byte_array()));
            for peer in peers {
                if self.seek_parents(&missing, &wtxid, peer, now) && self.orphans.add(tx, peer) {
                    let weight = tx.weight().to_wu();
                    self.lines.push(format!("stored orphan tx {txid} (wtxid={wtxid}), weight: {weight}"));
                }
            }
            refused.parents = missing;
        }
        self.requests.forget(txid.as_byte_array());
        self.requests.forget(wtxid.as_byte_array());
    }

    /// Upon a package that was refused as a whole.
    pub(super) fn on_package_refused(&mut self, package: &Package) {
        self.reconsiderable.insert(&package.hash());
    }

    /// An orphan that is to be tried again for this peer.
    pub(super) fn take_again(&mut self, peer: PeerId) -> Option<Arc<Transaction>> {
        self.orphans.take_again(peer)
    }

    /// True if there is one.
    pub(super) fn has_again(&self, peer: PeerId) -> bool {
        self.orphans.has_again(peer)
    }

    /// All orphans, with those who announced each.
    pub(super) fn orphans(&self) -> Vec<(Arc<Transaction>, Vec<PeerId>)> {
        self.orphans.list()
    }
}

fn unique_parents(tx: &Transaction) -> BTreeSet<Txid> {
    tx.input.iter().map(|input| input.previous_output.txid).collect()
}
