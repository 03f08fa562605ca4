//! A hash of a set, whatever the order in which its elements come: the product of their hashes modulo 2^3072 - 1103717.
//!
//! An element's hash is 384 bytes of ChaCha20's stream under its SHA-256.

use bitcoin::hashes::{Hash, sha256};

const LIMBS: usize = 48;
/// By how much the modulus is below 2^3072.
const SHORT: u64 = 1_103_717;

/// The product so far, the lowest limb first. It may be above the modulus until the end.
#[derive(Clone, Debug)]
pub(super) struct MuHash([u64; LIMBS]);

impl Default for MuHash {
    fn default() -> Self {
        let mut limbs = [0; LIMBS];
        limbs[0] = 1;
        Self(limbs)
    }
}

impl MuHash {
    /// With one more element.
    pub(super) fn insert(&mut self, element: &[u8]) {
        let other = number(sha256::Hash::hash(element).to_byte_array());
        let mut product = [0_u64; 2 * LIMBS];
        for (index, limb) in self.0.iter().enumerate() {
            let mut carry = 0_u128;
            for (place, factor) in other.iter().enumerate() {
                let sum = u128::from(*limb) * u128::from(*factor) + u128::from(product[index + place]) + carry;
                product[index + place] = low(sum);
                carry = sum >> 64;
            }
            product[index + LIMBS] = low(carry);
        }
        let (bottom, top) = product.split_at(LIMBS);
        let mut carry = 0_u128;
        for (index, limb) in self.0.iter_mut().enumerate() {
            let sum = u128::from(bottom[index]) + u128::from(top[index]) * u128::from(SHORT) + carry;
            *limb = low(sum);
            carry = sum >> 64;
        }
        // What is beyond 2^3072 counts as so many times what the modulus is short of it.
        while carry > 0 {
            carry = self.add(carry * u128::from(SHORT));
        }
    }

    /// Adds to the lowest limb; what is beyond the highest.
    fn add(&mut self, amount: u128) -> u128 {
        let mut carry = amount;
        for limb in &mut self.0 {
            let sum = u128::from(*limb) + carry;
            *limb = low(sum);
            carry = sum >> 64;
        }
        carry
    }

    /// The hash of the set.
    pub(super) fn finish(mut self) -> [u8; 32] {
        let above = self.0[0] > u64::MAX - SHORT && self.0[1..].iter().all(|limb| *limb == u64::MAX);
        if above {
            self.add(u128::from(SHORT));
        }
        let bytes: Vec<u8> = self.0.iter().flat_map(|limb| limb.to_le_bytes()).collect();
        sha256::Hash::hash(&bytes).to_byte_array()
    }
}

fn low(value: u128) -> u64 {
    (value & u128::from(u64::MAX)) as u64
}

/// Six blocks of the stream under this key, as a number.
fn number(key: [u8; 32]) -> [u64; LIMBS] {
    let mut limbs = [0; LIMBS];
    for (counter, part) in (0_u32..).zip(limbs.chunks_exact_mut(8)) {
        let block = chacha20(&key, counter);
        for (limb, words) in part.iter_mut().zip(block.chunks_exact(2)) {
            *limb = u64::from(words[0]) | (u64::from(words[1]) << 32);
        }
    }
    limbs
}

/// A block of ChaCha20 with a nonce of zeros (RFC 8439 §2.3).
fn chacha20(key: &[u8; 32], counter: u32) -> [u32; 16] {
    let mut state = [0_u32; 16];
    state[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    for (word, bytes) in state[4..12].iter_mut().zip(key.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    state[12] = counter;
    let first = state;
    for _ in 0..10 {
        for [a, b, c, d] in [
            [0, 4, 8, 12],
            [1, 5, 9, 13],
            [2, 6, 10, 14],
            [3, 7, 11, 15],
            [0, 5, 10, 15],
            [1, 6, 11, 12],
            [2, 7, 8, 13],
            [3, 4, 9, 14],
        ] {
            quarter(&mut state, a, b, c, d);
        }
    }
    for (word, own) in state.iter_mut().zip(first) {
        *word = word.wrapping_add(own);
    }
    state
}

fn quarter(state: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    for (to, from, mixed, by) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        state[to] = state[to].wrapping_add(state[from]);
        state[mixed] = (state[mixed] ^ state[to]).rotate_left(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(elements: &[u8]) -> [u8; 32] {
        let mut hash = MuHash::default();
        for element in elements {
            let mut bytes = [0; 32];
            bytes[0] = *element;
            hash.insert(&bytes);
        }
        hash.finish()
    }

    #[test]
    fn order_does_not_matter() {
        assert_eq!(of(&[1, 2, 3]), of(&[3, 1, 2]));
        assert_ne!(of(&[1, 2, 3]), of(&[1, 2]));
    }

    #[test]
    fn known_hashes() {
        let mut hash = of(&[0, 1]);
        hash.reverse();
        // By the implementation in Python that the network's tests have.
        assert_eq!(
            bitcoin::hex::DisplayHex::to_lower_hex_string(&hash[..]),
            "9c96c6aa15a783f3e6c3d61634e5b9579118f92e0bf562ca3506ddf6b43ac647"
        );
    }
}
