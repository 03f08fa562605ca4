//! A hash of a set, whatever the order in which its elements come: the product of their hashes modulo 2^3072 - 1103717.
//!
//! An element's hash is 384 bytes of ChaCha20's stream under its SHA-256. What is taken out is divided by.

use bitcoin::hashes::{Hash, sha256};

const LIMBS: usize = 48;
/// By how much the modulus is below 2^3072.
const SHORT: u64 = 1_103_717;

/// The product so far, the lowest limb first. It may be above the modulus until the end.
#[derive(Clone, Debug)]
pub(crate) struct MuHash([u64; LIMBS]);

impl Default for MuHash {
    fn default() -> Self {
        let mut limbs = [0; LIMBS];
        limbs[0] = 1;
        Self(limbs)
    }
}

impl MuHash {
    /// With one more element.
    pub(crate) fn insert(&mut self, element: &[u8]) {
        self.multiply(&number(sha256::Hash::hash(element).to_byte_array()));
    }

    /// Without all elements of another set.
    pub(crate) fn divide(&mut self, other: Self) {
        let other = other.reduced();
        if other != Self::default().0 {
            self.multiply(&inverse(other));
        }
    }

    fn multiply(&mut self, other: &[u64; LIMBS]) {
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
    pub(crate) fn finish(self) -> [u8; 32] {
        sha256::Hash::hash(&self.encode()).to_byte_array()
    }

    /// The product itself, as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.clone().reduced().iter().flat_map(|limb| limb.to_le_bytes()).collect()
    }

    /// What [`MuHash::encode`] gave.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut limbs = [0; LIMBS];
        if bytes.len() != LIMBS * 8 {
            return None;
        }
        for (limb, bytes) in limbs.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *limb = u64::from_le_bytes(*bytes);
        }
        limbs.iter().any(|limb| *limb != 0).then_some(Self(limbs))
    }

    /// The product, below the modulus.
    fn reduced(mut self) -> [u64; LIMBS] {
        if !is_less(&self.0, &MODULUS) {
            self.add(u128::from(SHORT));
        }
        self.0
    }
}

/// 2^3072 - 1103717.
const MODULUS: [u64; LIMBS] = {
    let mut limbs = [u64::MAX; LIMBS];
    limbs[0] = u64::MAX - SHORT + 1;
    limbs
};

fn is_less(a: &[u64; LIMBS], b: &[u64; LIMBS]) -> bool {
    a.iter().rev().lt(b.iter().rev())
}

/// `a += b`; true if that goes beyond 2^3072.
fn add(a: &mut [u64; LIMBS], b: &[u64; LIMBS]) -> bool {
    let mut carry = false;
    for (limb, other) in a.iter_mut().zip(b) {
        let (sum, first) = limb.overflowing_add(*other);
        let (sum, second) = sum.overflowing_add(u64::from(carry));
        (*limb, carry) = (sum, first || second);
    }
    carry
}

/// `a -= b`; true if that goes below zero.
fn subtract(a: &mut [u64; LIMBS], b: &[u64; LIMBS]) -> bool {
    let mut borrow = false;
    for (limb, other) in a.iter_mut().zip(b) {
        let (rest, first) = limb.overflowing_sub(*other);
        let (rest, second) = rest.overflowing_sub(u64::from(borrow));
        (*limb, borrow) = (rest, first || second);
    }
    borrow
}

/// Half of it; `above` is the bit beyond the highest.
fn halve(a: &mut [u64; LIMBS], above: bool) {
    let mut carry = u64::from(above);
    for limb in a.iter_mut().rev() {
        (*limb, carry) = ((*limb >> 1) | (carry << 63), *limb & 1);
    }
}

/// Half of a number and of its factor modulo the modulus, as long as the number is even.
fn halve_while_even(number: &mut [u64; LIMBS], factor: &mut [u64; LIMBS]) {
    while number[0] & 1 == 0 {
        halve(number, false);
        let above = factor[0] & 1 == 1 && add(factor, &MODULUS);
        halve(factor, above);
    }
}

/// What `a` times this is one, modulo the modulus (Knuth, The Art of Computer Programming 2, §4.5.2, the binary way).
///
/// # Panics
/// If `a` is zero or not below the modulus, which is a prime.
fn inverse(a: [u64; LIMBS]) -> [u64; LIMBS] {
    let (zero, one) = ([0; LIMBS], MuHash::default().0);
    assert!(a != zero && is_less(&a, &MODULUS), "it has an inverse");
    // u = a x and v = a y, modulo the modulus.
    let (mut u, mut x, mut v, mut y) = (a, one, MODULUS, zero);
    loop {
        halve_while_even(&mut u, &mut x);
        if u == one {
            return x;
        }
        halve_while_even(&mut v, &mut y);
        if v == one {
            return y;
        }
        let (large, of_large, small, of_small) =
            if is_less(&u, &v) { (&mut v, &mut y, &u, &x) } else { (&mut u, &mut x, &v, &y) };
        subtract(large, small);
        if subtract(of_large, of_small) {
            add(of_large, &MODULUS);
        }
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
    fn what_is_taken_out_was_never_there() {
        let mut hash = MuHash::default();
        for element in [1_u8, 2, 3, 4] {
            hash.insert(&[element]);
        }
        let mut gone = MuHash::default();
        for element in [4_u8, 2] {
            gone.insert(&[element]);
        }
        hash.divide(gone.clone());
        let mut left = MuHash::default();
        left.insert(&[3]);
        left.insert(&[1]);
        assert_eq!(hash.clone().finish(), left.finish());
        // Also what never was there, until it comes.
        hash.divide(gone.clone());
        hash = MuHash::decode(&hash.encode()).expect("it is one");
        gone.insert(&[1]);
        gone.insert(&[3]);
        hash.divide(MuHash::default());
        let mut both = hash;
        both.insert(&[2]);
        both.insert(&[4]);
        assert_eq!(both.finish(), {
            let mut left = MuHash::default();
            left.insert(&[1]);
            left.insert(&[3]);
            left.finish()
        });
    }

    #[test]
    fn the_edges_of_the_modulus() {
        assert_eq!(MuHash(MODULUS).reduced(), [0; LIMBS]);
        let mut last = MODULUS;
        last[0] -= 1;
        assert_eq!(inverse(last), last, "minus one is its own inverse");
        assert_eq!(inverse(MuHash::default().0), MuHash::default().0);
        assert_eq!(MuHash::decode(&[0; 384]).map(|_| ()), None);
        assert_eq!(MuHash::decode(&[1; 383]).map(|_| ()), None);
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
