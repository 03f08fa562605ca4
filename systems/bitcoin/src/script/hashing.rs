//! Hashes, and what is written into them.
//!
//! Deliberately absent: the order of what is signed ([`sighash`](super::sighash)).

use bitcoin::consensus::Encodable;
use bitcoin::hashes::{Hash, HashEngine, sha256};

/// A SHA-256 that is being fed.
pub(super) type Engine = sha256::HashEngine;

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha256::Hash::hash(bytes).to_byte_array()
}

/// The hash of what an engine was fed.
pub(super) fn finish(engine: Engine) -> [u8; 32] {
    sha256::Hash::from_engine(engine).to_byte_array()
}

/// The hash of the hash.
pub(super) fn finish_twice(engine: Engine) -> [u8; 32] {
    sha256(&finish(engine))
}

/// The hash that BIP 340 ties to a purpose: it begins with the purpose's own hash, twice.
pub(super) fn tagged(tag: &str) -> Engine {
    let (mut engine, tag) = (Engine::default(), sha256(tag.as_bytes()));
    engine.input(&tag);
    engine.input(&tag);
    engine
}

/// Writes something as the wire has it.
pub(super) fn put(engine: &mut (impl bitcoin::io::Write + ?Sized), value: &impl Encodable) {
    value.consensus_encode(engine).expect("neither a hash nor memory refuses a write");
}

/// Writes bytes behind their count, as the wire has them.
pub(super) fn put_counted(engine: &mut Engine, bytes: &[u8]) {
    put(engine, &bitcoin::VarInt::from(bytes.len()));
    engine.input(bytes);
}
