//! Who signs: keys, addresses, and whose turn it is (CometBFT `types/validator_set.go`, for equal powers).

use bytes::Bytes;
use ed25519_zebra::{SigningKey, VerificationKey, VerificationKeyBytes};
use serde::{Serialize, Serializer};

use super::json::{B64, Hex, Int};
use super::merkle::{self, Hash, sha256};
use super::proto::Writer;

/// The first 20 bytes of a key's SHA-256.
pub type Address = [u8; 20];

/// An ed25519 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Who has it.
    #[must_use]
    pub fn address(&self) -> Address {
        *sha256(&self.0).first_chunk().expect("a hash is longer than an address")
    }

    /// Of a key that signs.
    #[must_use]
    pub fn of(key: &SigningKey) -> Self {
        Self(VerificationKeyBytes::from(key).into())
    }

    pub(crate) fn verification(&self) -> Option<VerificationKey> {
        VerificationKey::try_from(self.0).ok()
    }

    /// `tendermint.crypto.PublicKey`.
    pub fn write(&self, out: &mut Writer) {
        out.item(1, &self.0);
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Tagged {
            r#type: &'static str,
            value: B64,
        }
        Tagged { r#type: "tendermint/PubKeyEd25519", value: B64(Bytes::copy_from_slice(&self.0)) }.serialize(serializer)
    }
}

/// Those who sign, each with a power of 1, in the order of their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators {
    keys: Vec<(Address, PublicKey)>,
}

/// A validator at some height, as the RPC shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Shown {
    address: Hex,
    pub_key: PublicKey,
    voting_power: Int,
    proposer_priority: Int,
}

impl Validators {
    /// There are at most as many as a group has members.
    pub const COUNT_MAX: usize = 64;

    /// Those with these keys. Duplicates count once.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        let mut keys: Vec<_> = keys.into_iter().map(|key| (key.address(), key)).collect();
        keys.sort_unstable_by_key(|(address, _)| *address);
        keys.dedup_by_key(|(address, _)| *address);
        Self { keys }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// True if so many votes are more than two thirds of the power.
    #[must_use]
    pub fn is_quorum(&self, votes: usize) -> bool {
        votes * 3 > self.keys.len() * 2
    }

    /// The place of one and its key.
    #[must_use]
    pub fn find(&self, address: &Address) -> Option<(usize, PublicKey)> {
        let at = self.keys.binary_search_by_key(address, |(address, _)| *address).ok()?;
        Some((at, self.keys[at].1))
    }

    /// All of them, in their order.
    pub fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.keys.iter().map(|(address, _)| *address)
    }

    /// The one at a place.
    ///
    /// # Panics
    /// If there is no such place.
    #[must_use]
    pub fn address(&self, at: usize) -> Address {
        self.keys[at].0
    }

    /// Whose turn a height is, from 1: with equal powers they take turns in their order.
    #[must_use]
    pub fn proposer(&self, height: u64) -> usize {
        let count = self.keys.len() as u64;
        usize::try_from(height.saturating_sub(1) % count).expect("below their count")
    }

    /// The root over their keys and powers.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let leaf = |(_, key): &(Address, PublicKey)| {
            let mut out = Writer::new();
            out.message(1, |out| key.write(out)).int(2, 1);
            out.out
        };
        merkle::root(&self.keys.iter().map(leaf).collect::<Vec<_>>())
    }

    /// All of them as they stand at a height: each height adds its power to everyone's priority, and takes all power from
    /// the proposer's.
    pub(crate) fn shown(&self, height: u64) -> Vec<Shown> {
        let count = self.keys.len() as u64;
        let turns = height % count;
        let number = |value: u64| i64::try_from(value).expect("a count of members");
        let shown = |(at, (address, key)): (usize, &(Address, PublicKey))| {
            let paid = if (at as u64) < turns { number(count) } else { 0 };
            Shown {
                address: address.into(),
                pub_key: *key,
                voting_power: Int(1),
                proposer_priority: Int(number(turns) - paid),
            }
        };
        self.keys.iter().enumerate().map(shown).collect()
    }
}
