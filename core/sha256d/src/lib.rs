//! The search for a nonce: double SHA-256 of a header's 80 bytes, for as many nonces as it takes.
//!
//! - the first 64 bytes do not hold the nonce: they are hashed once (the midstate);
//! - where the processor has instructions for SHA-256, four nonces go through them at once: each instruction waits for the one
//!   before it of the same nonce, and does another's meanwhile (`ni`);
//! - elsewhere, one after the other by the `sha2` crate.
//!
//! Deliberately absent: what a header is made of, and threads.

mod ni;

use std::ops::Range;

use sha2::digest::generic_array::GenericArray;

/// SHA-256's state, and what a search goes through.
pub(crate) type State = [u32; 8];

/// FIPS 180-4 §5.3.3.
pub(crate) const INITIAL: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Which way hashes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the processor's instructions for it, four at once.
    ShaNi,
    /// By the `sha2` crate.
    Portable,
}

impl Way {
    /// The fastest that this processor has.
    #[must_use]
    pub fn best() -> Self {
        if ni::is_there() { Self::ShaNi } else { Self::Portable }
    }
}

/// A header that looks for its nonce.
#[derive(Clone, Debug)]
pub struct Search {
    midstate: State,
    /// The last 16 bytes but for the nonce.
    tail: [u32; 3],
    way: Way,
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn compress(state: &mut State, block: &[u8; 64]) {
    sha2::compress256(state, std::slice::from_ref(GenericArray::from_slice(block)));
}

/// The second block of a header, of which only the nonce changes.
fn second_block(tail: [u32; 3], nonce: u32) -> [u32; 16] {
    let mut words = [0; 16];
    words[..3].copy_from_slice(&tail);
    // It stands in the header with its lowest byte first.
    (words[3], words[4], words[15]) = (nonce.swap_bytes(), 0x8000_0000, 640);
    words
}

/// The one block of the second hash.
fn third_block(first: State) -> [u32; 16] {
    let mut words = [0; 16];
    words[..8].copy_from_slice(&first);
    (words[8], words[15]) = (0x8000_0000, 256);
    words
}

fn bytes_of(words: [u32; 16]) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (four, word) in bytes.chunks_exact_mut(4).zip(words) {
        four.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

impl Search {
    /// A search for the nonce of these 80 bytes; theirs is not looked at.
    #[must_use]
    pub fn new(header: &[u8; 80], way: Way) -> Self {
        let mut midstate = INITIAL;
        compress(&mut midstate, header[..64].try_into().expect("it has 64 bytes"));
        let tail = [word(&header[64..]), word(&header[68..]), word(&header[72..])];
        let way = if way == Way::ShaNi && !ni::is_there() { Way::Portable } else { way };
        Self { midstate, tail, way }
    }

    /// How it hashes.
    #[must_use]
    pub fn way(&self) -> Way {
        self.way
    }

    fn hash_words(&self, nonce: u32) -> State {
        let mut first = self.midstate;
        compress(&mut first, &bytes_of(second_block(self.tail, nonce)));
        let mut second = INITIAL;
        compress(&mut second, &bytes_of(third_block(first)));
        second
    }

    /// The hash with this nonce, lowest byte first, as headers are compared with their targets.
    #[must_use]
    pub fn hash(&self, nonce: u32) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (four, word) in bytes.chunks_exact_mut(4).zip(self.hash_words(nonce)) {
            four.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// The first nonce of a range whose hash is no more than `target` (both lowest byte first).
    #[must_use]
    pub fn find(&self, nonces: Range<u64>, target: &[u8; 32]) -> Option<u32> {
        let nonces = nonces.start..nonces.end.min(1 << 32);
        // Of almost all hashes the highest four bytes say enough.
        let highest = u32::from_le_bytes([target[28], target[29], target[30], target[31]]);
        let meets = |nonce: u32| self.hash(nonce).iter().rev().le(target.iter().rev());
        match self.way {
            Way::Portable => nonces
                .map(|nonce| nonce as u32)
                .find(|nonce| self.hash_words(*nonce)[7].swap_bytes() <= highest && meets(*nonce)),
            Way::ShaNi => {
                let mut from = nonces.start;
                while from < nonces.end {
                    let found = ni::candidate(&self.midstate, self.tail, from..nonces.end, highest)?;
                    if meets(found as u32) {
                        return Some(found as u32);
                    }
                    from = found + 1;
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn twice(header: &[u8; 80]) -> [u8; 32] {
        Sha256::digest(Sha256::digest(header)).into()
    }

    proptest! {
        #[test]
        fn the_hash_is_the_headers(mut header in proptest::collection::vec(any::<u8>(), 80), nonce in any::<u32>()) {
            header[76..].copy_from_slice(&nonce.to_le_bytes());
            let header: [u8; 80] = header.try_into().expect("it has 80 bytes");
            prop_assert_eq!(Search::new(&header, Way::Portable).hash(nonce), twice(&header));
        }

        /// Both ways find the same nonce, which is the first.
        #[test]
        fn both_ways_find_the_first(
            header in proptest::collection::vec(any::<u8>(), 80),
            start in any::<u32>(),
            count in 0..400u64,
            high in 0..64u8,
        ) {
            let header: [u8; 80] = header.try_into().expect("it has 80 bytes");
            let mut target = [0xff; 32];
            target[31] = high;
            let range = u64::from(start)..u64::from(start) + count;
            let first = range.clone().take_while(|nonce| *nonce < 1 << 32).find(|nonce| {
                let mut header = header;
                header[76..].copy_from_slice(&(*nonce as u32).to_le_bytes());
                twice(&header).iter().rev().le(target.iter().rev())
            });
            for way in [Way::Portable, Way::best()] {
                let found = Search::new(&header, way).find(range.clone(), &target);
                prop_assert_eq!(found.map(u64::from), first, "{:?}", way);
            }
        }
    }

    /// The network's first block: its nonce, and its hash.
    #[test]
    fn the_first_block_is_found() {
        let mut header = [0; 80];
        header[0] = 1;
        let root: [u8; 32] = [
            0x3b, 0xa3, 0xed, 0xfd, 0x7a, 0x7b, 0x12, 0xb2, 0x7a, 0xc7, 0x2c, 0x3e, 0x67, 0x76, 0x8f, 0x61, 0x7f, 0xc8,
            0x1b, 0xc3, 0x88, 0x8a, 0x51, 0x32, 0x3a, 0x9f, 0xb8, 0xaa, 0x4b, 0x1e, 0x5e, 0x4a,
        ];
        header[36..68].copy_from_slice(&root);
        header[68..72].copy_from_slice(&1_231_006_505u32.to_le_bytes());
        header[72..76].copy_from_slice(&0x1d00_ffffu32.to_le_bytes());
        let mut target = [0; 32];
        target[26..28].copy_from_slice(&[0xff, 0xff]);
        for way in [Way::Portable, Way::best()] {
            let search = Search::new(&header, way);
            assert_eq!(search.find(2_083_236_000..2_083_240_000, &target), Some(2_083_236_893));
            assert_eq!(search.find(2_083_236_894..2_083_240_000, &target), None);
        }
    }
}
