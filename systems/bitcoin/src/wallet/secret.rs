//! What a passphrase keeps: one master key, and under it the texts that have private keys.
//!
//! A passphrase becomes a key by PBKDF2 with HMAC-SHA512; what is sealed is sealed by ChaCha20-Poly1305.
//!
//! HAZARD: a nonce must never come twice under one key. Each is random, of twelve bytes, and a wallet seals a few dozen texts.
//!
//! Deliberately absent: erasing keys from memory behind their use.

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha512};
use chacha20_poly1305::{ChaCha20Poly1305, Key, Nonce};

const ROUNDS: u32 = 25_000;
/// No file asks for more.
const ROUNDS_MAX: u32 = 10_000_000;
const NONCE_SIZE: usize = 12;
const TAG_SIZE: usize = 16;

/// A source of bytes that nobody can guess, if its seed is such.
#[derive(Debug)]
pub(crate) struct Entropy {
    seed: [u8; 32],
    count: u64,
}

impl Entropy {
    /// HAZARD: the same seed gives the same keys.
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, count: 0 }
    }

    /// The next 64 bytes.
    pub(crate) fn next(&mut self) -> [u8; 64] {
        let mut engine = HmacEngine::<sha512::Hash>::new(&self.seed);
        engine.input(b"wallet");
        engine.input(&self.count.to_le_bytes());
        self.count += 1;
        Hmac::<sha512::Hash>::from_engine(engine).to_byte_array()
    }

    /// The first of them.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let all = self.next();
        all[..N].try_into().expect("no more than 64 are asked for")
    }
}

/// The lock of a wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    pub(crate) salt: [u8; 16],
    pub(crate) rounds: u32,
    /// The master key, sealed by the passphrase's.
    pub(crate) master: Vec<u8>,
}

/// HMAC takes a key and the same one with zeros behind it for one; passphrases that differ in that are told apart here.
fn key_of(passphrase: &str) -> Vec<u8> {
    let mut key = passphrase.as_bytes().to_vec();
    if passphrase.trim_end_matches('\u{1}').ends_with('\0') {
        key.push(1);
    }
    key
}

fn stretch(passphrase: &str, salt: &[u8; 16], rounds: u32) -> [u8; 32] {
    let key = key_of(passphrase);
    let prf = |input: &[u8]| {
        let mut engine = HmacEngine::<sha512::Hash>::new(&key);
        engine.input(input);
        Hmac::<sha512::Hash>::from_engine(engine).to_byte_array()
    };
    let mut last = prf(&[&salt[..], &1_u32.to_be_bytes()].concat());
    let mut sum = last;
    for _ in 1..rounds {
        last = prf(&last);
        sum.iter_mut().zip(last).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum[..32].try_into().expect("64 bytes have 32")
}

/// A nonce, the sealed bytes, and a tag.
pub(crate) fn seal(key: [u8; 32], nonce: [u8; NONCE_SIZE], bytes: &[u8]) -> Vec<u8> {
    let mut content = bytes.to_vec();
    let tag = ChaCha20Poly1305::new(Key::new(key), Nonce::new(nonce)).encrypt(&mut content, None);
    [&nonce[..], &content, &tag].concat()
}

/// What was sealed; none if this key is not the one.
pub(crate) fn open(key: [u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, rest) = sealed.split_at_checked(NONCE_SIZE)?;
    let (content, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_SIZE)?)?;
    let mut content = content.to_vec();
    let nonce = Nonce::new(nonce.try_into().ok()?);
    let cipher = ChaCha20Poly1305::new(Key::new(key), nonce);
    cipher.decrypt(&mut content, tag.try_into().ok()?, None).ok()?;
    Some(content)
}

impl Lock {
    /// A new lock around a master key.
    pub(crate) fn new(passphrase: &str, master: [u8; 32], entropy: &mut Entropy) -> Self {
        let salt = entropy.bytes();
        let key = stretch(passphrase, &salt, ROUNDS);
        Self { salt, rounds: ROUNDS, master: seal(key, entropy.bytes(), &master) }
    }

    /// The master key, if the passphrase is right.
    pub(crate) fn open(&self, passphrase: &str) -> Option<[u8; 32]> {
        if self.rounds > ROUNDS_MAX {
            return None;
        }
        open(stretch(passphrase, &self.salt, self.rounds), &self.master)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_passphrase_opens() {
        let mut entropy = Entropy::new([7; 32]);
        let lock = Lock::new("word", [3; 32], &mut entropy);
        assert_eq!(lock.open("word"), Some([3; 32]));
        assert_eq!(lock.open("ward"), None);
        assert_eq!(lock.open("word\0"), None);
        let lock = Lock::new("word\0", [3; 32], &mut entropy);
        assert_eq!(lock.open("word\0"), Some([3; 32]));
        assert_eq!((lock.open("word"), lock.open("word\0\0"), lock.open("word\0\u{1}")), (None, None, None));
        let sealed = seal([3; 32], entropy.bytes(), b"xprv");
        assert_eq!(open([3; 32], &sealed).as_deref(), Some(&b"xprv"[..]));
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert_eq!(open([3; 32], &other), None);
        }
        assert_eq!(open([3; 32], &[]), None);
    }

    #[test]
    fn entropy_does_not_repeat() {
        let mut entropy = Entropy::new([7; 32]);
        assert_ne!(entropy.next(), entropy.next());
    }
}
