//! The fingerprint: a sum of parts, so that a change costs what it touches and reading it costs nothing.
//!
//! A node adds two parts: one of what its own writes change, data included, and one of what its children and its access
//! list change. A create therefore never hashes the parent's data. Slot numbers and the order of siblings are not in
//! it: the first are not state, the second follows from what is.
//!
//! HAZARD: sums of a public hash find bugs, not liars. Agreement among liars rests on the order, not on this.

use verity_types::Digest;
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

use super::node::Node;
use super::session::Session;
use super::tree::Tree;
use crate::wire::Encode as _;

/// The part of a node's own writes.
pub(super) fn own(node: &Node) -> u128 {
    let data = node.data();
    let content = xxh3_128_with_seed(data.unwrap_or_default(), node.path_hash);
    let mut bytes = [0u8; 72];
    let words = [node.czxid, node.mzxid, node.ctime, node.mtime, node.owner];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    bytes[40..56].copy_from_slice(&content.to_be_bytes());
    bytes[56..60].copy_from_slice(&node.version.to_be_bytes());
    bytes[60] = node.kind().number();
    bytes[61] = u8::from(data.is_none());
    bytes[64..].copy_from_slice(&node.path_hash.to_be_bytes());
    xxh3_128(&bytes)
}

/// The part of a node's children and access list.
pub(super) fn shared(node: &Node, acl_hash: u128) -> u128 {
    let mut bytes = [0u8; 48];
    bytes[..8].copy_from_slice(&node.path_hash.to_be_bytes());
    bytes[8..16].copy_from_slice(&node.pzxid.to_be_bytes());
    bytes[16..20].copy_from_slice(&node.cversion.to_be_bytes());
    bytes[20..24].copy_from_slice(&node.aversion.to_be_bytes());
    bytes[24..28].copy_from_slice(&node.child_count.to_be_bytes());
    bytes[32..].copy_from_slice(&acl_hash.to_be_bytes());
    xxh3_128(&bytes)
}

/// A session's part; its ephemerals are in the nodes'.
pub(super) fn session(id: i64, session: &Session) -> u128 {
    let mut bytes = [0u8; 36];
    bytes[..8].copy_from_slice(&id.to_be_bytes());
    bytes[8..16].copy_from_slice(&session.owner.0.to_be_bytes());
    bytes[16..20].copy_from_slice(&session.timeout_ms.to_be_bytes());
    bytes[20..].copy_from_slice(&session.password);
    xxh3_128(&bytes)
}

impl Tree {
    /// The nodes' sum, then a hash of all else.
    pub(super) fn fingerprint(&self, sessions_sum: u128) -> Digest {
        let mut rest = Vec::with_capacity(80);
        self.zxid.encode(&mut rest);
        self.time.encode(&mut rest);
        self.ring.forgotten.encode(&mut rest);
        rest.extend_from_slice(&self.ring.sum.to_be_bytes());
        rest.extend_from_slice(&self.slab.live().to_be_bytes());
        rest.extend_from_slice(&sessions_sum.to_be_bytes());
        self.config.encode(&mut rest);
        self.wish.iter().for_each(|wish| rest.extend_from_slice(wish.to_text().as_bytes()));
        let mut digest = [0; 32];
        digest[..16].copy_from_slice(&self.sum.to_be_bytes());
        digest[16..].copy_from_slice(&xxh3_128(&rest).to_be_bytes());
        Digest(digest)
    }
}
