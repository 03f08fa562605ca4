//! Filters by which a light client says which transactions concern it (BIP 37).

use bitcoin::consensus::serialize;
use bitcoin::{OutPoint, Script, Transaction};

/// A filter has no more bytes.
pub(super) const SIZE_MAX: usize = 36_000;
/// And no more hash functions.
pub(super) const HASHES_MAX: u32 = 50;
const UPDATE_MASK: u8 = 3;
const UPDATE_ALL: u8 = 1;
const UPDATE_PUBKEY_ONLY: u8 = 2;

/// One client's.
#[derive(Clone, Debug)]
pub(super) struct Bloom {
    bits: Vec<u8>,
    hashes: u32,
    tweak: u32,
    flags: u8,
}

impl Bloom {
    /// `None` if it is larger than any may be.
    pub(super) fn new(bits: Vec<u8>, hashes: u32, tweak: u32, flags: u8) -> Option<Self> {
        (bits.len() <= SIZE_MAX && hashes <= HASHES_MAX).then_some(Self { bits, hashes, tweak, flags })
    }

    fn places(&self, data: &[u8]) -> impl Iterator<Item = usize> + use<> {
        let (count, tweak) = (self.bits.len() as u64 * 8, self.tweak);
        let hash = data.to_vec();
        (0..self.hashes).map(move |index| {
            let seed = index.wrapping_mul(0xfba4_c795).wrapping_add(tweak);
            (u64::from(murmur3(seed, &hash)) % count) as usize
        })
    }

    pub(super) fn insert(&mut self, data: &[u8]) {
        if self.bits.is_empty() {
            return;
        }
        for place in self.places(data) {
            self.bits[place / 8] |= 1 << (place % 8);
        }
    }

    pub(super) fn contains(&self, data: &[u8]) -> bool {
        // A filter without bits matches all, as it did before there were any bounds.
        self.bits.is_empty() || self.places(data).all(|place| self.bits[place / 8] >> (place % 8) & 1 == 1)
    }

    /// True if a transaction concerns the client; outputs of it that do are added, so that what spends them does too.
    pub(super) fn matches(&mut self, tx: &Transaction) -> bool {
        if self.bits.is_empty() {
            return true;
        }
        let txid = tx.compute_txid();
        let mut found = self.contains(txid.as_ref());
        for (vout, output) in tx.output.iter().enumerate() {
            if !pushes(&output.script_pubkey).any(|data| self.contains(&data)) {
                continue;
            }
            found = true;
            let outpoint = serialize(&OutPoint::new(txid, vout as u32));
            let update = match self.flags & UPDATE_MASK {
                UPDATE_ALL => true,
                UPDATE_PUBKEY_ONLY => output.script_pubkey.is_p2pk() || output.script_pubkey.is_multisig(),
                _ => false,
            };
            if update {
                self.insert(&outpoint);
            }
        }
        found
            || tx.input.iter().any(|input| {
                self.contains(&serialize(&input.previous_output))
                    || pushes(&input.script_sig).any(|data| self.contains(&data))
            })
    }
}

/// What a script pushes, as far as it can be read.
fn pushes(script: &Script) -> impl Iterator<Item = Vec<u8>> + '_ {
    let read = script.instructions().map_while(Result::ok);
    read.filter_map(|instruction| instruction.push_bytes().map(|data| data.as_bytes().to_vec()))
        .filter(|data| !data.is_empty())
}

/// MurmurHash3, 32 bits.
fn murmur3(seed: u32, data: &[u8]) -> u32 {
    let mix = |word: u32| word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let mut hash = seed;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        hash = (hash ^ mix(u32::from_le_bytes(*word))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    if !tail.is_empty() {
        let mut word = [0; 4];
        word[..tail.len()].copy_from_slice(tail);
        hash ^= mix(u32::from_le_bytes(word));
    }
    hash ^= data.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn hashes_and_filters_are_those_of_the_network() {
        assert_eq!(murmur3(0, &[]), 0);
        assert_eq!(murmur3(0xfba4_c795, &[]), 0x6a39_6f08);
        assert_eq!(murmur3(0, &hex("00112233445566")), 0xb074_502c);
        let mut filter = Bloom::new(vec![0; 3], 5, 0, 1).unwrap();
        let inserted = hex("99108ad8ed9bb6274d3980bab5a85c048f0950c8");
        filter.insert(&inserted);
        assert!(filter.contains(&inserted) && !filter.contains(&hex("19108ad8ed9bb6274d3980bab5a85c048f0950c8")));
        filter.insert(&hex("b5a2c786d9ef4658287ced5914b37a1b4aa32eee"));
        filter.insert(&hex("b9300670b4c5366e95b2699e8b18bc75e5f729c5"));
        assert_eq!(filter.bits, hex("614e9b"));
        assert!(Bloom::new(vec![0; SIZE_MAX + 1], 1, 0, 0).is_none());
    }
}
