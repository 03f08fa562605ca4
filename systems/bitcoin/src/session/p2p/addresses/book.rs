//! Where other nodes may be (after Core's addrman).
//!
//! - `new` has what was heard of, in 1,024 buckets of 64 places; which ones is decided by who said it and by the network of
//!   both, under a key: whoever floods us with addresses fills few buckets;
//! - `tried` has what was connected to, in 256 buckets of 64 places, by the network alone;
//! - upon a connection: the address moves to `tried`; if another is in its place, that one is asked first whether it still
//!   answers, and moves back to `new` if it does not;
//! - upon a choice: a coin decides between both, and a chance that shrinks with failures whether a place is taken.
//!
//! The bytes of [`Book::encode`] are a format of our own: `VPEERS`, a version, the key, and a row for each address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bitcoin::hashes::{Hash as _, HashEngine, siphash24};

use crate::wire::{NetAddress, PeerAddress, Place, Services};

const NEW_BUCKETS: u64 = 1_024;
const TRIED_BUCKETS: u64 = 256;
const PLACES: u64 = 64;
/// Buckets of `new` that one source's neighbourhood can reach.
const NEW_BUCKETS_PER_SOURCE: u64 = 64;
/// Buckets of `tried` that one neighbourhood can reach.
const TRIED_BUCKETS_PER_GROUP: u64 = 8;
/// Places of `new` that one address may have.
const REFERENCES_MAX: u32 = 8;
const DAY: u64 = 24 * 3_600;
/// Not heard of for so long: it is gone.
const HORIZON: u64 = 30 * DAY;
/// Failures before one that never answered is given up.
const RETRIES: u32 = 3;
/// Failures before one that did not answer for a week is given up.
const FAILURES_MAX: u32 = 10;
/// Answers to `getaddr` have no more than this share.
const COLLISIONS_MAX: usize = 10;
const MAGIC: &[u8; 6] = b"VPEERS";
const VERSION: u8 = 1;

type Slot = (u16, u8);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    addr: PeerAddress,
    source: NetAddress,
    last_try: u64,
    last_success: u64,
    /// Since it answered last.
    failures: u32,
    tried: bool,
    slots: BTreeSet<Slot>,
}

impl Known {
    /// Nobody is likely to be there.
    fn is_terrible(&self, now: u64) -> bool {
        let time = u64::from(self.addr.time);
        if self.last_try > 0 && self.last_try + 60 >= now {
            return false;
        }
        time > now + 600
            || time + HORIZON < now
            || (self.last_success == 0 && self.failures >= RETRIES)
            || (self.last_success + 7 * DAY < now && self.failures >= FAILURES_MAX)
    }

    /// In parts of 2^16, how willingly it is chosen.
    fn chance(&self, now: u64) -> u64 {
        let recent = self.last_try > 0 && self.last_try + 600 > now;
        let mut chance = if recent { 1 << 16 } else { 100 << 16 };
        for _ in 0..self.failures.min(8) {
            chance = chance * 66 / 100;
        }
        chance / 100
    }
}

/// All of them.
#[derive(Clone, Debug)]
pub(in super::super) struct Book {
    key: (u64, u64),
    known: BTreeMap<NetAddress, Known>,
    new: BTreeMap<Slot, NetAddress>,
    tried: BTreeMap<Slot, NetAddress>,
    /// Those that would move to a place of `tried` that is taken.
    collisions: BTreeSet<NetAddress>,
}

impl Book {
    pub(in super::super) fn new(key: (u64, u64)) -> Self {
        let (known, new, tried) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { key, known, new, tried, collisions: BTreeSet::new() }
    }

    /// How many addresses are known.
    pub(in super::super) fn len(&self) -> usize {
        self.known.len()
    }

    /// What is known of one.
    pub(in super::super) fn get(&self, addr: &NetAddress) -> Option<PeerAddress> {
        self.known.get(addr).map(|known| known.addr)
    }

    fn hash(&self, kind: u8, parts: &[&[u8]]) -> u64 {
        let mut engine = siphash24::HashEngine::with_keys(self.key.0, self.key.1);
        engine.input(&[kind]);
        for part in parts {
            engine.input(&(part.len() as u64).to_le_bytes());
            engine.input(part);
        }
        siphash24::Hash::from_engine(engine).as_u64()
    }

    fn new_slot(&self, addr: &NetAddress, source: &NetAddress) -> Slot {
        let part = self.hash(1, &[&addr.group(), &source.group()]) % NEW_BUCKETS_PER_SOURCE;
        let bucket = self.hash(2, &[&source.group(), &part.to_le_bytes()]) % NEW_BUCKETS;
        self.slot(3, bucket, addr)
    }

    fn tried_slot(&self, addr: &NetAddress) -> Slot {
        let part = self.hash(4, &[&key_of(addr)]) % TRIED_BUCKETS_PER_GROUP;
        let bucket = self.hash(5, &[&addr.group(), &part.to_le_bytes()]) % TRIED_BUCKETS;
        self.slot(6, bucket, addr)
    }

    fn slot(&self, kind: u8, bucket: u64, addr: &NetAddress) -> Slot {
        let place = self.hash(kind, &[&bucket.to_le_bytes(), &key_of(addr)]) % PLACES;
        (bucket as u16, place as u8)
    }

    /// Upon an address that `source` told us of; `penalty` is taken off its time. True if it is new or has another place now.
    pub(in super::super) fn add(
        &mut self,
        mut addr: PeerAddress,
        source: NetAddress,
        penalty: u32,
        now: u64,
        rng: &mut fastrand::Rng,
    ) -> bool {
        if !addr.addr.is_routable() {
            return false;
        }
        let penalty = if addr.addr == source { 0 } else { penalty };
        if let Some(known) = self.known.get_mut(&addr.addr) {
            let current = now.saturating_sub(u64::from(addr.time)) < DAY;
            let interval = if current { 3_600 } else { DAY as u32 };
            if known.addr.time < addr.time.saturating_sub(interval).saturating_sub(penalty) {
                known.addr.time = addr.time.saturating_sub(penalty);
            }
            known.addr.services.0 |= addr.services.0;
            let older = addr.time <= known.addr.time;
            let count = known.slots.len() as u32;
            if older || known.tried || count >= REFERENCES_MAX || rng.u64(0..1 << count) != 0 {
                return false;
            }
        } else {
            addr.time = addr.time.saturating_sub(penalty);
            let known =
                Known { addr, source, last_try: 0, last_success: 0, failures: 0, tried: false, slots: BTreeSet::new() };
            self.known.insert(addr.addr, known);
        }
        let slot = self.new_slot(&addr.addr, &source);
        let taken = self.place_new(addr.addr, slot, now);
        if self.known.get(&addr.addr).is_some_and(|known| known.slots.is_empty() && !known.tried) {
            self.known.remove(&addr.addr);
        }
        taken
    }

    fn place_new(&mut self, addr: NetAddress, slot: Slot, now: u64) -> bool {
        match self.new.get(&slot) {
            Some(there) if *there == addr => return false,
            Some(there) => {
                let other = &self.known[there];
                let dispensable =
                    other.is_terrible(now) || (other.slots.len() > 1 && self.known[&addr].slots.is_empty());
                if !dispensable {
                    return false;
                }
                self.clear_new(slot);
            }
            None => {}
        }
        self.new.insert(slot, addr);
        self.known.get_mut(&addr).expect("it was added before it has a place").slots.insert(slot);
        true
    }

    fn clear_new(&mut self, slot: Slot) {
        let Some(addr) = self.new.remove(&slot) else { return };
        let known = self.known.get_mut(&addr).expect("whatever has a place is known");
        known.slots.remove(&slot);
        if known.slots.is_empty() && !known.tried {
            self.known.remove(&addr);
        }
    }

    /// Upon a connection that came about; true if it is in `tried` now.
    pub(in super::super) fn good(&mut self, addr: &NetAddress, now: u64) -> bool {
        let Some(known) = self.known.get_mut(addr) else { return false };
        (known.last_success, known.last_try, known.failures) = (now, now, 0);
        if known.tried {
            return false;
        }
        let slot = self.tried_slot(addr);
        if self.tried.contains_key(&slot) {
            if self.collisions.len() < COLLISIONS_MAX {
                self.collisions.insert(*addr);
            }
            return false;
        }
        self.move_to_tried(*addr, slot);
        true
    }

    fn move_to_tried(&mut self, addr: NetAddress, slot: Slot) {
        let known = self.known.get_mut(&addr).expect("it is known");
        known.tried = true;
        for slot in std::mem::take(&mut known.slots) {
            self.new.remove(&slot);
        }
        self.tried.insert(slot, addr);
    }

    /// Upon a try.
    pub(in super::super) fn attempt(&mut self, addr: &NetAddress, counts: bool, now: u64) {
        if let Some(known) = self.known.get_mut(addr) {
            known.last_try = now;
            known.failures = known.failures.saturating_add(u32::from(counts));
        }
    }

    /// Upon the end of a connection that lasted.
    pub(in super::super) fn connected(&mut self, addr: &NetAddress, now: u64) {
        if let Some(known) = self.known.get_mut(addr)
            && u64::from(known.addr.time) + 20 * 60 < now
        {
            known.addr.time = now as u32;
        }
    }

    /// What it offers, as it says itself.
    pub(in super::super) fn set_services(&mut self, addr: &NetAddress, services: Services) {
        if let Some(known) = self.known.get_mut(addr) {
            known.addr.services = services;
        }
    }

    /// Settles who stays in a place of `tried` that two have; returns one that is to be asked whether it still answers.
    pub(in super::super) fn resolve_collisions(&mut self, now: u64) -> Option<NetAddress> {
        let mut ask = None;
        for addr in self.collisions.clone() {
            let slot = self.tried_slot(&addr);
            let there = self.tried.get(&slot).copied();
            let (Some(known), Some(there)) = (self.known.get(&addr), there) else {
                self.collisions.remove(&addr);
                continue;
            };
            let old = &self.known[&there];
            if old.last_success + 4 * 3_600 > now {
                self.collisions.remove(&addr);
            } else if old.last_try + 4 * 3_600 > now {
                // It was asked: a minute is enough to answer.
                if old.last_try + 60 < now {
                    self.replace(addr, there, slot, now);
                }
            } else if known.last_success + 40 * 60 < now {
                self.replace(addr, there, slot, now);
            } else {
                ask = Some(there);
            }
        }
        ask
    }

    fn replace(&mut self, addr: NetAddress, there: NetAddress, slot: Slot, now: u64) {
        self.collisions.remove(&addr);
        self.tried.remove(&slot);
        let known = self.known.get_mut(&there).expect("whatever has a place is known");
        known.tried = false;
        let source = known.source;
        self.move_to_tried(addr, slot);
        let new_slot = self.new_slot(&there, &source);
        self.clear_new(new_slot);
        self.place_new(there, new_slot, now);
        if self.known[&there].slots.is_empty() {
            self.known.remove(&there);
        }
    }

    /// One to connect to, and when it was tried last.
    pub(in super::super) fn select(
        &self,
        new_only: bool,
        now: u64,
        rng: &mut fastrand::Rng,
    ) -> Option<(PeerAddress, u64)> {
        let tried = !new_only && !self.tried.is_empty() && (self.new.is_empty() || rng.bool());
        let table = if tried { &self.tried } else { &self.new };
        let mut factor = 1;
        for _ in 0..200 {
            let start = (rng.u16(..NEW_BUCKETS as u16), rng.u8(..PLACES as u8));
            let addr = table.range(start..).next().or_else(|| table.first_key_value()).map(|(_, addr)| addr)?;
            let known = &self.known[addr];
            if rng.u64(0..1 << 16) < known.chance(now).saturating_mul(factor) {
                return Some((known.addr, known.last_try));
            }
            factor = (factor * 6 / 5).max(factor + 1);
        }
        None
    }

    /// Some of them, without those where nobody is likely to be: no more than `max` (0 for any) and this share (0 for all).
    pub(in super::super) fn sample(
        &self,
        max: usize,
        percent: usize,
        now: u64,
        rng: &mut fastrand::Rng,
    ) -> Vec<PeerAddress> {
        let mut count = self.known.len();
        if percent > 0 {
            count = count * percent / 100;
        }
        if max > 0 {
            count = count.min(max);
        }
        let mut all: Vec<&Known> = self.known.values().collect();
        rng.shuffle(&mut all);
        all.into_iter().filter(|known| !known.is_terrible(now)).take(count).map(|known| known.addr).collect()
    }

    /// All of it, for the disk.
    pub(in super::super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.push(VERSION);
        out.extend_from_slice(&self.key.0.to_le_bytes());
        out.extend_from_slice(&self.key.1.to_le_bytes());
        out.extend_from_slice(&(self.known.len() as u32).to_le_bytes());
        for known in self.known.values() {
            put_address(&mut out, &known.addr.addr);
            out.extend_from_slice(&known.addr.time.to_le_bytes());
            out.extend_from_slice(&known.addr.services.0.to_le_bytes());
            put_address(&mut out, &known.source);
            out.extend_from_slice(&known.last_try.to_le_bytes());
            out.extend_from_slice(&known.last_success.to_le_bytes());
            out.extend_from_slice(&known.failures.to_le_bytes());
            out.push(u8::from(known.tried));
        }
        out
    }

    /// What [`Self::encode`] wrote; `None` if it is anything else.
    pub(in super::super) fn decode(mut bytes: &[u8], now: u64) -> Option<Self> {
        let input = &mut bytes;
        if take(input, MAGIC.len())? != MAGIC || take(input, 1)? != [VERSION] {
            return None;
        }
        let mut book = Self::new((number(input)?, number(input)?));
        let count = u32::from_le_bytes(take(input, 4)?.try_into().ok()?);
        for _ in 0..count {
            let addr = take_address(input)?;
            let time = u32::from_le_bytes(take(input, 4)?.try_into().ok()?);
            let addr = PeerAddress { time, services: Services(number(input)?), addr };
            let source = take_address(input)?;
            let (last_try, last_success) = (number(input)?, number(input)?);
            let failures = u32::from_le_bytes(take(input, 4)?.try_into().ok()?);
            let tried = take(input, 1)? == [1];
            book.restore(addr, source, (last_try, last_success, failures), tried, now);
        }
        input.is_empty().then_some(book)
    }

    fn restore(&mut self, addr: PeerAddress, source: NetAddress, past: (u64, u64, u32), tried: bool, now: u64) {
        let (last_try, last_success, failures) = past;
        let known = Known { addr, source, last_try, last_success, failures, tried: false, slots: BTreeSet::new() };
        if self.known.insert(addr.addr, known).is_some() {
            return;
        }
        let slot = self.tried_slot(&addr.addr);
        if tried && !self.tried.contains_key(&slot) {
            self.move_to_tried(addr.addr, slot);
            return;
        }
        let slot = self.new_slot(&addr.addr, &source);
        if !self.place_new(addr.addr, slot, now) {
            self.known.remove(&addr.addr);
        }
    }

    #[cfg(test)]
    pub(super) fn invariants(&self) {
        let places: usize = self.known.values().map(|known| known.slots.len()).sum();
        assert_eq!(places, self.new.len());
        assert_eq!(self.known.values().filter(|known| known.tried).count(), self.tried.len());
        assert!(self.known.values().all(|known| known.tried == known.slots.is_empty()));
        assert!(self.new.iter().all(|(slot, addr)| self.known[addr].slots.contains(slot)));
    }
}

/// A place and a port as bytes.
fn key_of(addr: &NetAddress) -> Vec<u8> {
    let mut out = Vec::new();
    put_address(&mut out, addr);
    out
}

fn put_address(out: &mut Vec<u8>, addr: &NetAddress) {
    let mut put = |network: u8, bytes: &[u8]| {
        out.push(network);
        out.extend_from_slice(bytes);
    };
    match addr.place {
        Place::V4(ip) => put(1, &ip.octets()),
        Place::V6(ip) => put(2, &ip.octets()),
        Place::Tor(key) => put(4, &key),
        Place::I2p(key) => put(5, &key),
        Place::Cjdns(key) => put(6, &key),
    }
    out.extend_from_slice(&addr.port.to_be_bytes());
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = input.split_at_checked(count)?;
    *input = tail;
    Some(head)
}

fn number(input: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(take(input, 8)?.try_into().ok()?))
}

fn take_address(input: &mut &[u8]) -> Option<NetAddress> {
    let place = match take(input, 1)?[0] {
        1 => Place::V4(<[u8; 4]>::try_from(take(input, 4)?).ok()?.into()),
        2 => Place::V6(<[u8; 16]>::try_from(take(input, 16)?).ok()?.into()),
        4 => Place::Tor(take(input, 32)?.try_into().ok()?),
        5 => Place::I2p(take(input, 32)?.try_into().ok()?),
        6 => Place::Cjdns(take(input, 16)?.try_into().ok()?),
        _ => return None,
    };
    let port = u16::from_be_bytes(take(input, 2)?.try_into().ok()?);
    Some(NetAddress { place, port })
}

/// An address of the internet, as it is added by hand.
pub(in super::super) fn by_hand(addr: SocketAddr, now: u64) -> PeerAddress {
    let services = Services(Services::NETWORK | Services::WITNESS);
    PeerAddress { time: now as u32, services, addr: NetAddress::from_socket(addr) }
}
