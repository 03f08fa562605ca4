//! Who is asked for which transaction, and when.
//!
//! - upon an announcement: its peer is a candidate from some moment on, later if others are preferred;
//! - upon that moment: among a transaction's candidates the preferred come first, and among equals a keyed hash decides, so that
//!   nobody can be first on purpose;
//! - upon a request: nobody else is asked until it is answered, refused, or too old;
//! - upon one that is known now: all its candidates are forgotten.
//!
//! A candidate who was asked once is not asked again while another is left; once none is, all are forgotten.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::hashes::{Hash as _, HashEngine, siphash24};

use super::super::PeerId;

/// A txid or a wtxid.
pub(in super::super) type TxHash = [u8; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not before this moment, in microseconds.
    Delayed(u64),
    Ready,
    /// Asked, and to be answered before this moment.
    Requested(u64),
    /// Asked in vain.
    Done,
}

#[derive(Clone, Debug)]
struct Candidate {
    wtxid: bool,
    preferred: bool,
    sequence: u64,
    state: State,
}

/// A request that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Request {
    pub(in super::super) hash: TxHash,
    /// By which of the two names.
    pub(in super::super) wtxid: bool,
}

/// All candidates.
#[derive(Clone, Debug)]
pub(in super::super) struct Requests {
    keys: (u64, u64),
    by_hash: BTreeMap<TxHash, BTreeMap<PeerId, Candidate>>,
    by_peer: BTreeMap<PeerId, BTreeSet<TxHash>>,
    /// Moments at which something changes by itself.
    due: BTreeSet<(u64, TxHash, PeerId)>,
    /// Who is next, by the order in which it was announced.
    next: BTreeMap<PeerId, BTreeSet<(u64, TxHash)>>,
    chosen: BTreeMap<TxHash, (PeerId, u64)>,
    in_flight: BTreeMap<PeerId, usize>,
    sequence: u64,
}

impl Requests {
    pub(in super::super) fn new(keys: (u64, u64)) -> Self {
        Self {
            keys,
            by_hash: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            due: BTreeSet::new(),
            next: BTreeMap::new(),
            chosen: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// Announcements of a peer that are not forgotten.
    pub(in super::super) fn count(&self, peer: PeerId) -> usize {
        self.by_peer.get(&peer).map_or(0, BTreeSet::len)
    }

    /// Requests to a peer that are not answered.
    pub(in super::super) fn in_flight(&self, peer: PeerId) -> usize {
        self.in_flight.get(&peer).copied().unwrap_or(0)
    }

    /// Who announced this, and was not asked in vain.
    pub(in super::super) fn candidates(&self, hash: &TxHash) -> Vec<PeerId> {
        let Some(all) = self.by_hash.get(hash) else { return Vec::new() };
        all.iter().filter(|(_, candidate)| candidate.state != State::Done).map(|(peer, _)| *peer).collect()
    }

    /// Upon an announcement; nothing changes if this peer made it before.
    pub(in super::super) fn announce(&mut self, peer: PeerId, request: Request, preferred: bool, from: u64) {
        let all = self.by_hash.entry(request.hash).or_default();
        if all.contains_key(&peer) {
            return;
        }
        self.sequence += 1;
        let (sequence, state) = (self.sequence, State::Delayed(from));
        all.insert(peer, Candidate { wtxid: request.wtxid, preferred, sequence, state });
        self.by_peer.entry(peer).or_default().insert(request.hash);
        self.due.insert((from, request.hash, peer));
    }

    /// What this peer is to be asked for now, oldest announcement first; and whose requests grew too old.
    pub(in super::super) fn requestable(
        &mut self,
        peer: PeerId,
        now: u64,
        expired: &mut Vec<(PeerId, Request)>,
    ) -> Vec<Request> {
        while let Some(&(at, hash, whose)) = self.due.first().filter(|(at, ..)| *at <= now) {
            self.due.remove(&(at, hash, whose));
            let candidate = self.candidate(&hash, whose);
            let wtxid = candidate.wtxid;
            if matches!(candidate.state, State::Requested(_)) {
                candidate.state = State::Done;
                expired.push((whose, Request { hash, wtxid }));
                self.landed(whose);
            } else {
                candidate.state = State::Ready;
            }
            self.choose(hash);
        }
        let Some(next) = self.next.get(&peer) else { return Vec::new() };
        let name = |&(_, hash): &(u64, TxHash)| Request { hash, wtxid: self.by_hash[&hash][&peer].wtxid };
        next.iter().map(name).collect()
    }

    /// Upon a request to a peer that [`Self::requestable`] named.
    pub(in super::super) fn requested(&mut self, peer: PeerId, hash: &TxHash, until: u64) {
        if !self.by_hash.get(hash).is_some_and(|all| all.contains_key(&peer)) {
            return;
        }
        self.candidate(hash, peer).state = State::Requested(until);
        self.due.insert((until, *hash, peer));
        *self.in_flight.entry(peer).or_default() += 1;
        self.choose(*hash);
    }

    /// Upon an answer of any kind.
    pub(in super::super) fn answered(&mut self, peer: PeerId, hash: &TxHash) {
        let Some(candidate) = self.by_hash.get_mut(hash).and_then(|all| all.get_mut(&peer)) else { return };
        let before = std::mem::replace(&mut candidate.state, State::Done);
        self.undue(before, *hash, peer);
        self.choose(*hash);
    }

    /// Upon one that is known now, or not wanted.
    pub(in super::super) fn forget(&mut self, hash: &TxHash) {
        let Some(all) = self.by_hash.remove(hash) else { return };
        for (peer, candidate) in all {
            self.undue(candidate.state, *hash, peer);
            self.unlist(peer, hash);
        }
        self.unchoose(hash);
    }

    /// Upon a peer that is gone.
    pub(in super::super) fn disconnected(&mut self, peer: PeerId) {
        for hash in self.by_peer.get(&peer).cloned().unwrap_or_default() {
            let all = self.by_hash.get_mut(&hash).expect("what a peer announced is listed by its hash");
            let candidate = all.remove(&peer).expect("the peer announced it");
            if all.is_empty() {
                self.by_hash.remove(&hash);
            }
            self.undue(candidate.state, hash, peer);
            self.unlist(peer, &hash);
            self.choose(hash);
        }
    }

    fn candidate(&mut self, hash: &TxHash, peer: PeerId) -> &mut Candidate {
        let all = self.by_hash.get_mut(hash).expect("what is due is listed by its hash");
        all.get_mut(&peer).expect("what is due has its peer")
    }

    fn undue(&mut self, state: State, hash: TxHash, peer: PeerId) {
        if let State::Delayed(at) | State::Requested(at) = state {
            self.due.remove(&(at, hash, peer));
        }
        if matches!(state, State::Requested(_)) {
            self.landed(peer);
        }
    }

    fn landed(&mut self, peer: PeerId) {
        let count = self.in_flight.get_mut(&peer).expect("a request to it was counted");
        *count -= 1;
        if *count == 0 {
            self.in_flight.remove(&peer);
        }
    }

    fn unlist(&mut self, peer: PeerId, hash: &TxHash) {
        if let Some(hashes) = self.by_peer.get_mut(&peer) {
            hashes.remove(hash);
            if hashes.is_empty() {
                self.by_peer.remove(&peer);
            }
        }
    }

    fn unchoose(&mut self, hash: &TxHash) {
        let Some((peer, sequence)) = self.chosen.remove(hash) else { return };
        let next = self.next.get_mut(&peer).expect("who is chosen has a list");
        next.remove(&(sequence, *hash));
        if next.is_empty() {
            self.next.remove(&peer);
        }
    }

    /// Who is to be asked for it: nobody while somebody was.
    fn choose(&mut self, hash: TxHash) {
        self.unchoose(&hash);
        let Some(all) = self.by_hash.get(&hash) else { return };
        if all.values().all(|candidate| candidate.state == State::Done) {
            self.forget(&hash);
            return;
        }
        if all.values().any(|candidate| matches!(candidate.state, State::Requested(_))) {
            return;
        }
        let ready = all.iter().filter(|(_, candidate)| candidate.state == State::Ready);
        let best = ready.max_by_key(|(peer, candidate)| (candidate.preferred, self.rank(&hash, **peer)));
        let Some((&peer, candidate)) = best else { return };
        self.chosen.insert(hash, (peer, candidate.sequence));
        self.next.entry(peer).or_default().insert((candidate.sequence, hash));
    }

    fn rank(&self, hash: &TxHash, peer: PeerId) -> u64 {
        let mut engine = siphash24::HashEngine::with_keys(self.keys.0, self.keys.1);
        engine.input(hash);
        engine.input(&peer.to_le_bytes());
        siphash24::Hash::from_engine(engine).as_u64()
    }

    #[cfg(test)]
    pub(super) fn invariants(&self) {
        let count: usize = self.by_hash.values().map(BTreeMap::len).sum();
        assert_eq!(count, self.by_peer.values().map(BTreeSet::len).sum::<usize>());
        assert_eq!(self.chosen.len(), self.next.values().map(BTreeSet::len).sum::<usize>());
        for all in self.by_hash.values() {
            assert!(all.values().any(|candidate| candidate.state != State::Done));
            assert!(all.values().filter(|candidate| matches!(candidate.state, State::Requested(_))).count() <= 1);
        }
        let states = self.by_hash.values().flat_map(BTreeMap::values);
        let timed = states.filter(|candidate| matches!(candidate.state, State::Delayed(_) | State::Requested(_)));
        assert_eq!(timed.count(), self.due.len());
    }
}
