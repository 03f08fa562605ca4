//! The cipher of the v2 transport (BIP 324).
//!
//! - both sides send a public key that looks like noise (ElligatorSwift), and have a secret in common then;
//! - of the secret and the network's magic come six keys (HKDF): for each side's lengths and packets, the two words by which
//!   garbage ends, and a session's id that people can compare;
//! - lengths are encrypted apart from packets, so that a receiver knows how much to wait for;
//! - after each 224 packets the keys are replaced: what was said before stays secret from whoever gets the later keys.
//!
//! HAZARD: a key must never be used for two sessions. It comes from the node's seed, by a count of connections.

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use bitcoin::secp256k1::ellswift::{ElligatorSwift, ElligatorSwiftParty};
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use chacha20_poly1305::chacha20::ChaCha20;
use chacha20_poly1305::{ChaCha20Poly1305, Key, Nonce};

/// Bytes of a public key.
pub(super) const KEY_SIZE: usize = 64;
/// Bytes of an encrypted length.
pub(super) const LENGTH_SIZE: usize = 3;
/// Bytes of the words by which garbage ends.
pub(super) const TERMINATOR_SIZE: usize = 16;
/// What a packet takes besides its length and content: a header and a tag.
pub(super) const PACKET_EXTRA: usize = 1 + TAG_SIZE;
const TAG_SIZE: usize = 16;
/// Packets per key.
const REKEY_INTERVAL: u32 = 224;
/// In a packet's header: it says nothing.
const IGNORE: u8 = 0x80;

/// Encrypts lengths.
struct LengthCipher {
    stream: ChaCha20,
    chunks: u32,
    used: u32,
    rekeys: u64,
}

impl LengthCipher {
    fn new(key: [u8; 32]) -> Self {
        Self { stream: stream(key, 0), chunks: 0, used: 0, rekeys: 0 }
    }

    fn apply(&mut self, chunk: &mut [u8; LENGTH_SIZE]) {
        self.stream.seek(self.used);
        self.stream.apply_keystream(chunk);
        self.used += LENGTH_SIZE as u32;
        self.chunks += 1;
        if self.chunks == REKEY_INTERVAL {
            let mut key = [0; 32];
            self.stream.seek(self.used);
            self.stream.apply_keystream(&mut key);
            self.rekeys += 1;
            (self.stream, self.chunks, self.used) = (stream(key, self.rekeys), 0, 0);
        }
    }
}

fn stream(key: [u8; 32], rekeys: u64) -> ChaCha20 {
    ChaCha20::new(Key::new(key), nonce(0, rekeys), 0)
}

fn nonce(packets: u32, rekeys: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&packets.to_le_bytes());
    bytes[4..].copy_from_slice(&rekeys.to_le_bytes());
    Nonce::new(bytes)
}

/// Encrypts packets, and knows if one was changed.
struct PacketCipher {
    key: [u8; 32],
    packets: u32,
    rekeys: u64,
}

impl PacketCipher {
    fn new(key: [u8; 32]) -> Self {
        Self { key, packets: 0, rekeys: 0 }
    }

    fn encrypt(&mut self, content: &mut [u8], associated: &[u8]) -> [u8; TAG_SIZE] {
        let cipher = ChaCha20Poly1305::new(Key::new(self.key), nonce(self.packets, self.rekeys));
        let tag = cipher.encrypt(content, Some(associated));
        self.advance();
        tag
    }

    fn decrypt(&mut self, content: &mut [u8], tag: [u8; TAG_SIZE], associated: &[u8]) -> bool {
        let cipher = ChaCha20Poly1305::new(Key::new(self.key), nonce(self.packets, self.rekeys));
        let good = cipher.decrypt(content, tag, Some(associated)).is_ok();
        self.advance();
        good
    }

    fn advance(&mut self) {
        self.packets += 1;
        if self.packets == REKEY_INTERVAL {
            let mut key = [0; 32];
            ChaCha20Poly1305::new(Key::new(self.key), nonce(u32::MAX, self.rekeys)).encrypt(&mut key, None);
            self.rekeys += 1;
            (self.key, self.packets) = (key, 0);
        }
    }
}

/// Our half of a key exchange.
pub(super) struct KeyPair {
    secret: SecretKey,
    public: ElligatorSwift,
}

impl KeyPair {
    /// Of 32 random bytes, and as many to make noise of the public key.
    pub(super) fn new(secret: [u8; 32], noise: [u8; 32]) -> Self {
        // One in 2^128 is no key: then another is made of it.
        let secret = SecretKey::from_slice(&secret)
            .or_else(|_| SecretKey::from_slice(&sha256::Hash::hash(&secret).to_byte_array()))
            .expect("two hashes in a row are no key with a chance of 2^-256");
        let public = ElligatorSwift::from_seckey(&Secp256k1::new(), secret, Some(noise));
        Self { secret, public }
    }

    #[cfg(test)]
    pub(super) fn from_parts(secret: [u8; 32], public: [u8; KEY_SIZE]) -> Self {
        let secret = SecretKey::from_slice(&secret).unwrap();
        Self { secret, public: ElligatorSwift::from_array(public) }
    }

    /// What the peer gets.
    pub(super) fn public(&self) -> [u8; KEY_SIZE] {
        self.public.to_array()
    }
}

/// A session under keys.
pub(super) struct Cipher {
    send_length: LengthCipher,
    send_packet: PacketCipher,
    recv_length: LengthCipher,
    recv_packet: PacketCipher,
    /// By which our garbage ends.
    pub(super) send_terminator: [u8; TERMINATOR_SIZE],
    /// By which the peer's does.
    pub(super) recv_terminator: [u8; TERMINATOR_SIZE],
    /// The session's id.
    pub(super) session: [u8; 32],
}

impl Cipher {
    /// With the peer's key.
    pub(super) fn new(magic: [u8; 4], pair: &KeyPair, theirs: [u8; KEY_SIZE], initiator: bool) -> Self {
        let theirs = ElligatorSwift::from_array(theirs);
        let (a, b, party) = if initiator {
            (pair.public, theirs, ElligatorSwiftParty::A)
        } else {
            (theirs, pair.public, ElligatorSwiftParty::B)
        };
        let secret = ElligatorSwift::shared_secret(a, b, pair.secret, party, None);
        let keys = Derivation::new(&[&b"bitcoin_v2_shared_secret"[..], &magic].concat(), secret.as_secret_bytes());
        let (initiator_length, initiator_packet) = (keys.expand(b"initiator_L"), keys.expand(b"initiator_P"));
        let (responder_length, responder_packet) = (keys.expand(b"responder_L"), keys.expand(b"responder_P"));
        let terminators = keys.expand(b"garbage_terminators");
        let (first, second) = terminators.split_at(TERMINATOR_SIZE);
        let initiator_word = first.try_into().expect("half of 32 bytes");
        let responder_word = second.try_into().expect("half of 32 bytes");
        let ours = (initiator_length, initiator_packet, initiator_word);
        let other = (responder_length, responder_packet, responder_word);
        let (send, recv) = if initiator { (ours, other) } else { (other, ours) };
        Self {
            send_length: LengthCipher::new(send.0),
            send_packet: PacketCipher::new(send.1),
            recv_length: LengthCipher::new(recv.0),
            recv_packet: PacketCipher::new(recv.1),
            send_terminator: send.2,
            recv_terminator: recv.2,
            session: keys.expand(b"session_id"),
        }
    }

    /// Appends a packet.
    pub(super) fn encrypt(&mut self, content: &[&[u8]], associated: &[u8], ignore: bool, out: &mut Vec<u8>) {
        let size: usize = content.iter().map(|part| part.len()).sum();
        let size_bytes = (size as u32).to_le_bytes();
        assert!(size_bytes[3] == 0, "a message is shorter than 2^24 bytes");
        let mut length = [size_bytes[0], size_bytes[1], size_bytes[2]];
        self.send_length.apply(&mut length);
        out.reserve(LENGTH_SIZE + size + PACKET_EXTRA);
        out.extend_from_slice(&length);
        let start = out.len();
        out.push(if ignore { IGNORE } else { 0 });
        content.iter().for_each(|part| out.extend_from_slice(part));
        let tag = self.send_packet.encrypt(&mut out[start..], associated);
        out.extend_from_slice(&tag);
    }

    /// How long the next packet's content is.
    pub(super) fn decrypt_length(&mut self, mut length: [u8; LENGTH_SIZE]) -> usize {
        self.recv_length.apply(&mut length);
        let [a, b, c] = length;
        u32::from_le_bytes([a, b, c, 0]) as usize
    }

    /// Decrypts what follows the length in place; `None` if it was changed, else its content, and whether it says anything.
    pub(super) fn decrypt<'a>(&mut self, packet: &'a mut [u8], associated: &[u8]) -> Option<(&'a [u8], bool)> {
        let (content, tag) = packet.split_at_mut_checked(packet.len().checked_sub(TAG_SIZE)?)?;
        let tag: [u8; TAG_SIZE] = (&*tag).try_into().expect("the last 16 bytes");
        if content.is_empty() || !self.recv_packet.decrypt(content, tag, associated) {
            return None;
        }
        Some((&content[1..], content[0] & IGNORE == 0))
    }
}

/// HKDF-SHA256 (RFC 5869), for outputs of 32 bytes.
struct Derivation {
    key: [u8; 32],
}

impl Derivation {
    fn new(salt: &[u8], secret: &[u8]) -> Self {
        Self { key: mac(salt, &[secret]) }
    }

    fn expand(&self, info: &[u8]) -> [u8; 32] {
        mac(&self.key, &[info, &[1]])
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(key);
    parts.iter().for_each(|part| engine.input(part));
    Hmac::from_engine(engine).to_byte_array()
}
