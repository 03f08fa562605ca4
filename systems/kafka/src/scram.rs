//! What both sides of SCRAM calculate (RFC 5802 §2.2 and §3, RFC 7677).
//!
//! Deliberately absent: what they say to each other. The server's side stands in `session`, the client's in `client`.

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256, Sha512};

use crate::machine::cluster::{SHA_256, SHA_512};

/// The hash that a mechanism is named after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    /// By Kafka's number of the mechanism.
    pub(crate) fn from_number(number: i8) -> Option<Self> {
        match number {
            SHA_256 => Some(Self::Sha256),
            SHA_512 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Kafka's number of the mechanism.
    pub(crate) fn number(self) -> i8 {
        match self {
            Self::Sha256 => SHA_256,
            Self::Sha512 => SHA_512,
        }
    }

    /// `H` of RFC 5802 §2.2.
    pub(crate) fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    /// `HMAC` of RFC 5802 §2.2.
    pub(crate) fn hmac(self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        const ANY_SIZE: &str = "a key may have any size";
        match self {
            Self::Sha256 => {
                let mut mac = Hmac::<Sha256>::new_from_slice(key).expect(ANY_SIZE);
                mac.update(bytes);
                mac.finalize().into_bytes().to_vec()
            }
            Self::Sha512 => {
                let mut mac = Hmac::<Sha512>::new_from_slice(key).expect(ANY_SIZE);
                mac.update(bytes);
                mac.finalize().into_bytes().to_vec()
            }
        }
    }

    /// `StoredKey` and `ServerKey` of a salted password (RFC 5802 §3).
    pub(crate) fn keys(self, salted_password: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let client_key = self.hmac(salted_password, b"Client Key");
        (self.hash(&client_key), self.hmac(salted_password, b"Server Key"))
    }

    /// `Hi` of RFC 5802 §2.2: the password with its salt.
    pub(crate) fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut round = self.hmac(password, &[salt, &[0, 0, 0, 1]].concat());
        let mut sum = round.clone();
        for _ in 1..iterations {
            round = self.hmac(password, &round);
            sum.iter_mut().zip(&round).for_each(|(sum, byte)| *sum ^= byte);
        }
        sum
    }
}
