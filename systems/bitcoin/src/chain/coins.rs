//! All coins: those touched lately in memory, the rest in a database.
//!
//! - upon a block that is applied or undone: memory changes, and the database does not;
//! - upon [`Coins::write`]: what changed goes to the database in one batch, together with the hash of the block that the coins
//!   are as of. After a crash they are as of some block, whole.
//!
//! Deliberately absent: any order. What is seen of all coins at once is read from the database, which has one.

use std::hash::{BuildHasher, Hasher};

use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, OutPoint, Txid};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use verity_storage::{Batch, Direction, Keyspace, Kv};

use super::{ChainError, Coin};

const COINS: Keyspace = Keyspace("coins");
const META: Keyspace = Keyspace("meta");
const BEST: &[u8] = b"best";
/// So many coins of the database are read at once.
const PAGE: usize = 1_024;
/// What a coin takes in memory beside its script, about.
const COIN_BYTES: usize = 120;

/// Mixes words, beginning with one that nobody else knows: who picks outpoints cannot pick where they fall.
#[derive(Clone, Copy, Debug)]
pub(super) struct Salted(pub(super) u64);

pub(super) struct Mixer(u64);

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(MULTIPLIER);
        self.0 = (product as u64) ^ (product >> 64) as u64 ^ self.0.rotate_left(29);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl BuildHasher for Salted {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer(self.0)
    }
}

pub(super) type CoinMap<T> = HashMap<OutPoint, T, Salted>;

#[derive(Debug)]
struct Slot {
    /// None: it is spent.
    coin: Option<Coin>,
    /// The database has something else.
    dirty: bool,
    /// The database has nothing of it.
    fresh: bool,
}

/// The coins as of one block.
#[derive(Debug)]
pub(super) struct Coins {
    kv: Box<dyn Kv>,
    slots: CoinMap<Slot>,
    bytes: usize,
    best: BlockHash,
}

fn key(outpoint: &OutPoint) -> [u8; 36] {
    let mut key = [0; 36];
    key[..32].copy_from_slice(outpoint.txid.as_ref());
    key[32..].copy_from_slice(&outpoint.vout.to_be_bytes());
    key
}

fn corrupt(what: &str) -> ChainError {
    ChainError::Corrupt(format!(
        "the database of coins has {what}; move its folder away, and the blocks are asked for anew"
    ))
}

fn outpoint_of(key: &[u8]) -> Option<OutPoint> {
    let (txid, vout) = key.split_at_checked(32)?;
    Some(OutPoint::new(Txid::from_slice(txid).ok()?, u32::from_be_bytes(vout.try_into().ok()?)))
}

fn weight(coin: Option<&Coin>) -> usize {
    COIN_BYTES + coin.map_or(0, |coin| coin.out.script_pubkey.len())
}

impl Coins {
    /// The coins of a database; an empty one is as of `genesis`.
    pub(super) fn open(kv: Box<dyn Kv>, genesis: BlockHash, salt: u64) -> Result<Self, ChainError> {
        let best = match kv.get(META, BEST)? {
            None => genesis,
            Some(hash) => BlockHash::from_slice(&hash).map_err(|_| corrupt("no tip"))?,
        };
        Ok(Self { kv, slots: CoinMap::with_hasher(Salted(salt)), bytes: 0, best })
    }

    /// The block that they are as of.
    pub(super) fn best(&self) -> BlockHash {
        self.best
    }

    /// About so many bytes of memory are taken.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn read(kv: &dyn Kv, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
        let Some(bytes) = kv.get(COINS, &key(outpoint))? else { return Ok(None) };
        Coin::decode(&bytes).map(Some).ok_or_else(|| corrupt("a coin that is none"))
    }

    /// One coin, without taking it into memory.
    pub(super) fn peek(&self, outpoint: &OutPoint) -> Result<Option<Coin>, ChainError> {
        match self.slots.get(outpoint) {
            Some(slot) => Ok(slot.coin.clone()),
            None => Self::read(self.kv.as_ref(), outpoint),
        }
    }

    /// One coin, which stays in memory.
    pub(super) fn get(&mut self, outpoint: &OutPoint) -> Result<Option<&Coin>, ChainError> {
        match self.slots.entry(*outpoint) {
            Entry::Occupied(slot) => Ok(slot.into_mut().coin.as_ref()),
            Entry::Vacant(vacant) => {
                let Some(coin) = Self::read(self.kv.as_ref(), outpoint)? else { return Ok(None) };
                self.bytes += weight(Some(&coin));
                Ok(vacant.insert(Slot { coin: Some(coin), dirty: false, fresh: false }).coin.as_ref())
            }
        }
    }

    /// Is there such a coin?
    pub(super) fn has(&self, outpoint: &OutPoint) -> Result<bool, ChainError> {
        match self.slots.get(outpoint) {
            Some(slot) => Ok(slot.coin.is_some()),
            None => Ok(self.kv.get(COINS, &key(outpoint))?.is_some()),
        }
    }

    /// Replaces a coin. `unknown`: the database is known to have none.
    pub(super) fn set(&mut self, outpoint: OutPoint, coin: Option<Coin>, unknown: bool) {
        let added = weight(coin.as_ref());
        match self.slots.entry(outpoint) {
            Entry::Occupied(mut occupied) => {
                let slot = occupied.get_mut();
                self.bytes -= weight(slot.coin.as_ref());
                if coin.is_none() && slot.fresh {
                    occupied.remove();
                    return;
                }
                (slot.coin, slot.dirty) = (coin, true);
            }
            Entry::Vacant(vacant) => {
                if coin.is_none() && unknown {
                    return;
                }
                vacant.insert(Slot { coin, dirty: true, fresh: unknown });
            }
        }
        self.bytes += added;
    }

    /// Says which block they are as of now.
    pub(super) fn move_to(&mut self, best: BlockHash) {
        self.best = best;
    }

    /// Brings what changed to the database. `keep`: up to so many bytes stay in memory.
    pub(super) fn write(&mut self, keep: usize) -> Result<(), ChainError> {
        let mut dirty: Vec<(&OutPoint, &mut Slot)> = self.slots.iter_mut().filter(|(_, slot)| slot.dirty).collect();
        dirty.sort_unstable_by_key(|(outpoint, _)| **outpoint);
        let mut batch = Batch::new();
        for (outpoint, slot) in dirty {
            let key = key(outpoint).to_vec();
            match &slot.coin {
                Some(coin) => {
                    let mut value = Vec::with_capacity(64);
                    coin.encode(&mut value);
                    batch.put(COINS, key, value);
                }
                None => batch.delete(COINS, key),
            }
            (slot.dirty, slot.fresh) = (false, false);
        }
        batch.put(META, BEST, self.best.as_byte_array().to_vec());
        self.kv.write(&batch)?;
        let all_stay = self.bytes <= keep;
        self.slots.retain(|_, slot| all_stay && slot.coin.is_some());
        self.bytes = self.slots.values().map(|slot| weight(slot.coin.as_ref())).sum();
        Ok(())
    }

    /// Brings the database to stable storage.
    pub(super) fn sync(&self) -> Result<(), ChainError> {
        Ok(self.kv.flush()?)
    }

    /// Calls `each` for every coin of the database, in order. What is in memory alone is not among them.
    pub(super) fn each(&self, each: &mut dyn FnMut(&OutPoint, &Coin)) -> Result<(), ChainError> {
        use std::ops::Bound;
        let mut from = Bound::Unbounded;
        loop {
            let range = (from.as_ref().map(Vec::as_slice), Bound::Unbounded);
            let page = self.kv.scan(COINS, range, Direction::Forward, PAGE)?;
            for (key, value) in &page {
                let pair = outpoint_of(key).zip(Coin::decode(value));
                let (outpoint, coin) = pair.ok_or_else(|| corrupt("a coin that is none"))?;
                each(&outpoint, &coin);
            }
            let Some((last, _)) = page.last().filter(|_| page.len() == PAGE) else { return Ok(()) };
            from = Bound::Excluded(last.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bitcoin::{Amount, ScriptBuf, TxOut};
    use proptest::prelude::*;
    use verity_storage::MemoryKv;

    use super::*;

    fn coin(value: u64) -> Coin {
        let out = TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::new() };
        Coin { out, height: 1, coinbase: false }
    }

    proptest! {
        /// Whatever is set, read and written when: the coins are those of a map.
        #[test]
        fn the_cache_is_not_seen(deeds in proptest::collection::vec((0..6u8, 0..8u32, any::<u32>()), 1..100)) {
            let genesis = BlockHash::all_zeros();
            let mut coins = Coins::open(Box::new(MemoryKv::default()), genesis, 7).expect("memory does not fail");
            let mut map = BTreeMap::new();
            for (deed, vout, value) in deeds {
                let outpoint = OutPoint::new(Txid::all_zeros(), vout);
                match deed {
                    0 | 1 => {
                        let known = map.insert(vout, value).is_some() || deed == 0;
                        coins.set(outpoint, Some(coin(value.into())), !known && !coins.has(&outpoint).expect("memory"));
                    }
                    2 => {
                        map.remove(&vout);
                        coins.set(outpoint, None, false);
                    }
                    3 => coins.write(value as usize % 500).expect("memory does not fail"),
                    _ => {
                        let got = coins.get(&outpoint).expect("memory does not fail").cloned();
                        prop_assert_eq!(got, map.get(&vout).map(|value| coin((*value).into())));
                        prop_assert_eq!(coins.has(&outpoint).expect("memory"), map.contains_key(&vout));
                    }
                }
            }
            coins.write(0).expect("memory does not fail");
            prop_assert_eq!(coins.bytes(), 0);
            let mut seen = BTreeMap::new();
            coins.each(&mut |outpoint, coin| {
                seen.insert(outpoint.vout, coin.out.value.to_sat() as u32);
            }).expect("memory does not fail");
            prop_assert_eq!(seen, map);
        }
    }
}
