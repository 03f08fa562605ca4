//! Votes: that a validator saw a block and stands for it.
//!
//! What is signed is CometBFT's canonical precommit of round 0 (`types/canonical.go`), so that its light clients verify
//! commits. Heights are decided once, by the agreement below; there is no second round, and no prevote.

use bytes::Bytes;
use ed25519_zebra::{Signature, SigningKey};

use super::block::BlockId;
use super::proto::{Writer, put_varint};
use super::time::Time;
use super::validator::{Address, PublicKey};

/// `SIGNED_MSG_TYPE_PRECOMMIT`.
const PRECOMMIT: u64 = 2;

/// What a vote signs.
#[derive(Clone, Copy, Debug)]
pub struct SignBytes<'a> {
    /// Which chain.
    pub chain_id: &'a str,
    /// Which height.
    pub height: u64,
    /// Which block.
    pub block_id: BlockId,
    /// When.
    pub time: Time,
}

impl SignBytes<'_> {
    /// Its bytes, with their length in front.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut vote = Writer::new();
        vote.uint(1, PRECOMMIT)
            .fixed64(2, self.height.cast_signed())
            .message(4, |out| self.block_id.write(out))
            .message(5, |out| self.time.write(out))
            .bytes(6, self.chain_id.as_bytes());
        let mut out = Vec::with_capacity(vote.out.len() + 2);
        put_varint(&mut out, vote.out.len() as u64);
        out.extend_from_slice(&vote.out);
        out
    }
}

/// A validator's vote for the block of a height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Which height.
    pub height: u64,
    /// Whose.
    pub address: Address,
    /// When.
    pub time: Time,
    /// By its key, over [`SignBytes`].
    pub signature: Bytes,
}

impl Vote {
    /// Signs.
    #[must_use]
    pub fn sign(key: &SigningKey, what: &SignBytes<'_>) -> Self {
        let signature = key.sign(&what.encode());
        Self {
            height: what.height,
            address: PublicKey::of(key).address(),
            time: what.time,
            signature: Bytes::copy_from_slice(&signature.to_bytes()),
        }
    }

    /// True if the key signed it, by the rules of ZIP 215, as CometBFT has it.
    #[must_use]
    pub fn is_by(&self, key: &PublicKey, chain_id: &str, block_id: BlockId) -> bool {
        let Ok(signature) = Signature::try_from(&self.signature[..]) else { return false };
        let what = SignBytes { chain_id, height: self.height, block_id, time: self.time };
        key.verification().is_some_and(|key| key.verify(&signature, &what.encode()).is_ok())
    }
}
