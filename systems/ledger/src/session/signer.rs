//! The node as a validator: it signs each block that is cut, once it is ordered.
//!
//! - upon a block that is cut: it is signed and the vote proposed, one at a time. A node that replays its log hears of many
//!   and signs the last one;
//! - upon a second: the state is asked whether it lacks a vote, which a change of leader may have lost.
//!
//! HAZARD: what is signed here is agreed below already, and a height has one block. On an agreement that takes back what it
//! committed a validator would sign two.

use ed25519_zebra::SigningKey;
use verity_clock::Now;

use crate::machine::{Command, Proposed, vote_time};
use crate::wire::{Address, PublicKey, SignBytes, Time, Vote};

/// A validator.
pub(super) struct Signer {
    key: SigningKey,
    chain_id: String,
    /// A vote is on its way.
    busy: bool,
    /// What is to be signed next.
    next: Option<Proposed>,
}

impl Signer {
    pub(super) fn new(key: SigningKey, chain_id: String) -> Self {
        Self { key, chain_id, busy: false, next: None }
    }

    pub(super) fn public_key(&self) -> PublicKey {
        PublicKey::of(&self.key)
    }

    pub(super) fn address(&self) -> Address {
        self.public_key().address()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// A block is to be signed.
    pub(super) fn see(&mut self, proposed: Proposed) {
        if self.next.is_none_or(|next| next.height < proposed.height) {
            self.next = Some(proposed);
        }
    }

    /// The vote that is to be proposed now.
    pub(super) fn vote(&mut self, now: Now) -> Option<Command> {
        if self.busy {
            return None;
        }
        let Proposed { height, id, time } = self.next.take()?;
        self.busy = true;
        let time = vote_time(Time::from_unix_nanos(now.wall.midpoint()), time);
        let what = SignBytes { chain_id: &self.chain_id, height, block_id: id, time };
        Some(Command::Vote(Vote::sign(&self.key, &what), id))
    }

    /// What became of a vote is known.
    pub(super) fn done(&mut self) {
        self.busy = false;
    }
}
