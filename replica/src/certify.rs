//! Answers that f + 1 members sign, for those who trust no single node: not even the one that they are connected to.
//!
//! - upon a wish: the node reads at a barrier, and asks the other voters for the same at that index or later;
//! - upon a voter's signature under the same answer: it is kept; with f + 1 there is a certificate, since one of them is of
//!   somebody honest;
//! - upon [`ANSWER_WAIT`] without enough, because the state changed meanwhile: all of it once more, a few times.
//!
//! ```text
//! certificate = version:u8 scope query answer count (node signature)*count
//! statement   = sha256(length(query) query answer), signed by the engine in its group's name
//! ```

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use verity_contract::codec::{CodecError, put_blob, put_number, take_blob, take_byte, take_many, take_number};
use verity_types::{Digest, GroupId, Mono, Nanos, NodeId, Token};

/// After so long without enough signatures the answer is asked for anew.
pub(crate) const ANSWER_WAIT: Nanos = Nanos::from_millis(500);
/// So often at most.
const ROUNDS_MAX: u32 = 8;
/// So many answers are being read for other nodes at once.
pub(crate) const WITNESSED_MAX: usize = 1_024;
/// A longer answer, or query, is not certified.
const BYTES_MAX: usize = 16 << 20;
/// Bytes of a group's name and epoch, and of a signature.
const SMALL_MAX: usize = 1_024;
const VERSION: u8 = 1;

/// A query, its answer, and members who signed both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// In whose name it is signed, in the engine's bytes.
    pub scope: Bytes,
    /// What was asked, in the state machine's bytes.
    pub query: Bytes,
    /// What it said.
    pub answer: Bytes,
    /// Who signed the statement.
    pub signatures: BTreeMap<NodeId, Bytes>,
}

impl Certificate {
    /// What is signed.
    #[must_use]
    pub fn statement(query: &Bytes, answer: &Bytes) -> Digest {
        let hash = Sha256::new().chain_update((query.len() as u64).to_be_bytes()).chain_update(query);
        Digest(hash.chain_update(answer).finalize().into())
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        [&self.scope, &self.query, &self.answer].iter().for_each(|part| put_blob(&mut out, part));
        put_number(&mut out, self.signatures.len() as u64);
        for (node, signature) in &self.signatures {
            put_number(&mut out, node.0);
            put_blob(&mut out, signature);
        }
        out.freeze()
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(mut bytes: Bytes) -> Result<Self, CodecError> {
        let bytes = &mut bytes;
        if take_byte(bytes)? != VERSION {
            return Err(CodecError("a certificate of an unknown version".into()));
        }
        let scope = take_blob(bytes, SMALL_MAX)?;
        let (query, answer) = (take_blob(bytes, BYTES_MAX)?, take_blob(bytes, BYTES_MAX)?);
        let pair = |bytes: &mut Bytes| Ok((NodeId(take_number(bytes)?), take_blob(bytes, SMALL_MAX)?));
        let signatures: Vec<(NodeId, Bytes)> = take_many(bytes, 2, pair)?;
        if !bytes.is_empty() {
            return Err(CodecError("bytes behind a certificate".into()));
        }
        Ok(Self { scope, query, answer, signatures: signatures.into_iter().collect() })
    }
}

/// A member's signature, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Of the answer that was signed.
    pub answer: Digest,
    /// The engine's bytes.
    pub bytes: Bytes,
}

impl Signature {
    pub(crate) fn of(answer: &Bytes, bytes: Bytes) -> Self {
        Self { answer: Digest(Sha256::digest(answer).into()), bytes }
    }

    pub(crate) fn is_of(&self, answer: &Bytes) -> bool {
        self.answer.0[..] == Sha256::digest(answer)[..]
    }
}

/// A certificate in the making.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) group: GroupId,
    pub(crate) query: Bytes,
    pub(crate) answer: Option<Bytes>,
    pub(crate) signatures: BTreeMap<NodeId, Bytes>,
    pub(crate) asked_at: Mono,
    rounds: u32,
}

impl Asked {
    pub(crate) fn new(group: GroupId, query: Bytes, now: Mono) -> Self {
        Self { group, query, answer: None, signatures: BTreeMap::new(), asked_at: now, rounds: 0 }
    }

    /// True if it is worth another round, which begins.
    pub(crate) fn may_ask_again(&mut self, now: Mono) -> bool {
        self.rounds += 1;
        self.asked_at = now;
        self.rounds < ROUNDS_MAX
    }
}

/// An answer that is being read for another node.
#[derive(Debug)]
pub(crate) struct Witnessed {
    pub(crate) group: GroupId,
    pub(crate) to: NodeId,
    /// As that node names it.
    pub(crate) token: Token,
    pub(crate) query: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_round_trip_and_cuts_are_refused() {
        let certificate = Certificate {
            scope: Bytes::from_static(b"tree"),
            query: Bytes::from_static(b"get /a"),
            answer: Bytes::from_static(b"7"),
            signatures: [(NodeId(1), Bytes::from_static(b"one")), (NodeId(3), Bytes::from_static(b"three"))].into(),
        };
        let bytes = certificate.encode();
        assert_eq!(Certificate::decode(bytes.clone()).unwrap(), certificate);
        (0..bytes.len()).for_each(|cut| assert!(Certificate::decode(bytes.slice(..cut)).is_err(), "{cut}"));
        let moved = (Bytes::from_static(b"get /a7"), Bytes::new());
        assert_ne!(
            Certificate::statement(&certificate.query, &certificate.answer),
            Certificate::statement(&moved.0, &moved.1)
        );
    }
}
