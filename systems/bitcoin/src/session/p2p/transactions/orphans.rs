//! Transactions whose parents are not known.
//!
//! - each peer that announced one has a place for it, and is charged for its weight and for the time that it takes to be rid of;
//! - upon too much in all: whoever uses the largest part of what is his due loses his oldest first, so that nobody can push
//!   out another's;
//! - upon a parent: its children are tried again, each by one of those who announced it;
//! - upon a block: what it spends, no orphan can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::block::Block;
use bitcoin::{OutPoint, Transaction, Txid, Wtxid};

use super::super::PeerId;

/// Heavier ones are not kept: they would not be relayed.
const WEIGHT_MAX: u64 = 400_000;
/// Each peer may have this much weight here whatever others do.
const WEIGHT_RESERVED: u64 = 404_000;
/// All may take this much time together.
const LATENCY_MAX: u64 = 3_000;

#[derive(Clone, Debug)]
struct Place {
    tx: Arc<Transaction>,
    sequence: u64,
    /// It is to be tried again.
    again: bool,
}

impl Place {
    fn weight(&self) -> u64 {
        self.tx.weight().to_wu()
    }

    /// Besides one for the place itself.
    fn latency(&self) -> u64 {
        self.tx.input.len() as u64 / 10
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Use {
    weight: u64,
    latency: u64,
    count: u64,
}

impl Use {
    /// How much of his due: a fraction.
    fn share(&self, latency_max: u64) -> (u128, u128) {
        let (latency, weight) = (u128::from(self.latency), u128::from(self.weight));
        let (latency_max, weight_max) = (u128::from(latency_max), u128::from(WEIGHT_RESERVED));
        if latency * weight_max >= weight * latency_max { (latency, latency_max) } else { (weight, weight_max) }
    }
}

/// Them.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Orphans {
    places: BTreeMap<(Wtxid, PeerId), Place>,
    by_peer: BTreeSet<(PeerId, bool, u64, Wtxid)>,
    by_parent: BTreeMap<OutPoint, BTreeSet<Wtxid>>,
    uses: BTreeMap<PeerId, Use>,
    again: BTreeSet<Wtxid>,
    weight: u64,
    latency: u64,
    sequence: u64,
}

impl Orphans {
    pub(in super::super) fn get(&self, wtxid: &Wtxid) -> Option<&Arc<Transaction>> {
        self.announcers(wtxid).next().map(|(_, place)| &place.tx)
    }

    pub(in super::super) fn has(&self, wtxid: &Wtxid) -> bool {
        self.get(wtxid).is_some()
    }

    pub(in super::super) fn has_from(&self, wtxid: &Wtxid, peer: PeerId) -> bool {
        self.places.contains_key(&(*wtxid, peer))
    }

    fn announcers(&self, wtxid: &Wtxid) -> impl Iterator<Item = (PeerId, &Place)> {
        let range = (*wtxid, PeerId::MIN)..=(*wtxid, PeerId::MAX);
        self.places.range(range).map(|((_, peer), place)| (*peer, place))
    }

    /// Upon an orphan; true if it was not there.
    pub(in super::super) fn add(&mut self, tx: &Arc<Transaction>, peer: PeerId) -> bool {
        let wtxid = tx.compute_wtxid();
        if tx.weight().to_wu() > WEIGHT_MAX || self.has_from(&wtxid, peer) {
            return false;
        }
        let new = !self.has(&wtxid);
        self.sequence += 1;
        let place = Place { tx: Arc::clone(tx), sequence: self.sequence, again: false };
        let used = self.uses.entry(peer).or_default();
        used.weight += place.weight();
        used.latency += 1 + place.latency();
        used.count += 1;
        if new {
            self.weight += place.weight();
            self.latency += place.latency();
            tx.input.iter().for_each(|input| {
                self.by_parent.entry(input.previous_output).or_default().insert(wtxid);
            });
        }
        self.by_peer.insert((peer, false, place.sequence, wtxid));
        self.places.insert((wtxid, peer), place);
        self.limit();
        new
    }

    /// Another peer has it too.
    pub(in super::super) fn add_announcer(&mut self, wtxid: &Wtxid, peer: PeerId) {
        if let Some(tx) = self.get(wtxid).cloned() {
            self.add(&tx, peer);
        }
    }

    fn remove(&mut self, wtxid: Wtxid, peer: PeerId) {
        let Some(place) = self.places.remove(&(wtxid, peer)) else { return };
        self.by_peer.remove(&(peer, place.again, place.sequence, wtxid));
        if place.again {
            self.again.remove(&wtxid);
        }
        let used = self.uses.get_mut(&peer).expect("whoever has a place is charged for it");
        used.weight -= place.weight();
        used.latency -= 1 + place.latency();
        used.count -= 1;
        if used.count == 0 {
            self.uses.remove(&peer);
        }
        if !self.has(&wtxid) {
            self.weight -= place.weight();
            self.latency -= place.latency();
            for input in &place.tx.input {
                let Some(children) = self.by_parent.get_mut(&input.previous_output) else { continue };
                children.remove(&wtxid);
                if children.is_empty() {
                    self.by_parent.remove(&input.previous_output);
                }
            }
        }
    }

    /// Upon one that is known now, or refused; true if it was here.
    pub(in super::super) fn erase(&mut self, wtxid: &Wtxid) -> bool {
        let peers: Vec<PeerId> = self.announcers(wtxid).map(|(peer, _)| peer).collect();
        peers.iter().for_each(|peer| self.remove(*wtxid, *peer));
        // With whoever has nothing here any more, room for all shrinks.
        self.limit();
        !peers.is_empty()
    }

    /// Upon a peer that is gone; returns how many places it had.
    pub(in super::super) fn erase_peer(&mut self, peer: PeerId) -> usize {
        let wtxids = self.of_peer(peer);
        wtxids.iter().for_each(|wtxid| self.remove(*wtxid, peer));
        self.limit();
        wtxids.len()
    }

    /// What a peer announced, the oldest first, and last what is to be tried again.
    fn of_peer(&self, peer: PeerId) -> Vec<Wtxid> {
        let range = self.by_peer.range((peer, false, 0, zero())..);
        range.take_while(|(whose, ..)| *whose == peer).map(|(.., wtxid)| *wtxid).collect()
    }

    /// Upon a block; returns how many it cost.
    pub(in super::super) fn on_block(&mut self, block: &Block) -> usize {
        if self.places.is_empty() {
            return 0;
        }
        let spent = block.txdata.iter().flat_map(|tx| &tx.input).map(|input| &input.previous_output);
        let gone: BTreeSet<Wtxid> =
            spent.filter_map(|outpoint| self.by_parent.get(outpoint)).flatten().copied().collect();
        gone.iter().filter(|wtxid| self.erase(wtxid)).count()
    }

    /// Upon a parent: its children are tried again. `pick` chooses one of so many.
    pub(in super::super) fn on_parent(&mut self, tx: &Transaction, mut pick: impl FnMut(usize) -> usize) {
        let txid = tx.compute_txid();
        for vout in 0..tx.output.len() as u32 {
            let Some(children) = self.by_parent.get(&OutPoint::new(txid, vout)) else { continue };
            for wtxid in children.clone() {
                if !self.again.insert(wtxid) {
                    continue;
                }
                let peers: Vec<PeerId> = self.announcers(&wtxid).map(|(peer, _)| peer).collect();
                let peer = peers[pick(peers.len())];
                self.mark(wtxid, peer, true);
            }
        }
    }

    fn mark(&mut self, wtxid: Wtxid, peer: PeerId, again: bool) {
        let place = self.places.get_mut(&(wtxid, peer)).expect("the peer announced it");
        self.by_peer.remove(&(peer, place.again, place.sequence, wtxid));
        place.again = again;
        self.by_peer.insert((peer, again, place.sequence, wtxid));
    }

    /// One that is to be tried again for this peer.
    pub(in super::super) fn take_again(&mut self, peer: PeerId) -> Option<Arc<Transaction>> {
        let &(whose, _, _, wtxid) = self.by_peer.range((peer, true, 0, zero())..).next()?;
        if whose != peer {
            return None;
        }
        self.mark(wtxid, peer, false);
        self.again.remove(&wtxid);
        self.get(&wtxid).cloned()
    }

    /// True if one is to be tried again for this peer.
    pub(in super::super) fn has_again(&self, peer: PeerId) -> bool {
        self.by_peer.range((peer, true, 0, zero())..).next().is_some_and(|(whose, ..)| *whose == peer)
    }

    /// Children of this transaction that the same peer brought, the latest first.
    pub(in super::super) fn children(&self, parent: &Txid, peer: PeerId) -> Vec<Arc<Transaction>> {
        let of_peer = self.of_peer(peer);
        let txs = of_peer.iter().rev().map(|wtxid| &self.places[&(*wtxid, peer)].tx);
        txs.filter(|tx| tx.input.iter().any(|input| input.previous_output.txid == *parent)).cloned().collect()
    }

    /// All of them, with those who announced each (`getorphantxs`).
    pub(in super::super) fn list(&self) -> Vec<(Arc<Transaction>, Vec<PeerId>)> {
        let mut list: Vec<(Arc<Transaction>, Vec<PeerId>)> = Vec::new();
        let mut last = None;
        for ((wtxid, peer), place) in &self.places {
            if last == Some(*wtxid) {
                list.last_mut().expect("one was pushed").1.push(*peer);
            } else {
                list.push((Arc::clone(&place.tx), vec![*peer]));
            }
            last = Some(*wtxid);
        }
        list
    }

    fn too_many(&self) -> bool {
        let peers = self.uses.len().max(1) as u64;
        self.latency + self.places.len() as u64 > LATENCY_MAX || self.weight > WEIGHT_RESERVED * peers
    }

    fn limit(&mut self) {
        while self.too_many() {
            let latency_max = (LATENCY_MAX / self.uses.len().max(1) as u64).max(1);
            let larger = |a: &(u128, u128), b: &(u128, u128)| (a.0 * b.1).cmp(&(b.0 * a.1));
            let worst = self
                .uses
                .iter()
                .max_by(|(one, a), (two, b)| larger(&a.share(latency_max), &b.share(latency_max)).then(one.cmp(two)));
            let peer = *worst.expect("what is too much is somebody's").0;
            let first = self.by_peer.range((peer, false, 0, zero())..).next();
            let &(.., wtxid) = first.expect("whoever is charged has a place");
            self.remove(wtxid, peer);
        }
    }

    #[cfg(test)]
    pub(super) fn invariants(&self) {
        assert_eq!(self.places.len(), self.by_peer.len());
        assert_eq!(self.places.len() as u64, self.uses.values().map(|used| used.count).sum::<u64>());
        assert_eq!(self.again.len(), self.by_peer.iter().filter(|(_, again, ..)| *again).count());
        let all: BTreeMap<Wtxid, u64> =
            self.places.iter().map(|((wtxid, _), place)| (*wtxid, place.weight())).collect();
        assert_eq!(self.weight, all.values().sum::<u64>());
        assert!(self.by_parent.values().flatten().all(|wtxid| self.has(wtxid)));
        assert!(!self.too_many());
    }
}

fn zero() -> Wtxid {
    bitcoin::hashes::Hash::all_zeros()
}
