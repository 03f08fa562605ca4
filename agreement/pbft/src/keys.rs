//! Who signs, and who is believed.
//!
//! Signatures are Ed25519 by the rules of ZIP 215: a signature is valid alone exactly if it is valid among others. Without
//! that a liar could make one that passes for some replicas and not for others, and a certificate with it would hold or
//! not depending on who looks.
//!
//! What is signed is always a hash of 32 bytes that begins with what kind of thing it is and in which group (`message`).
//!
//! Deliberately absent: where keys come from. The driver brings them.

use std::collections::BTreeMap;

use ed25519_zebra::{Signature, SigningKey, VerificationKey, VerificationKeyBytes, batch};
use rand_core::{CryptoRng, RngCore};
use sha2::{Digest as _, Sha256};
use verity_types::{Digest, NodeId};

use crate::Error;
use crate::message::Scope;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// A signature over a hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sig(pub [u8; SIGNATURE_BYTES]);

impl std::fmt::Debug for Sig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sig({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

/// Something that `node` is said to have signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) node: NodeId,
    pub(crate) hash: Digest,
    pub(crate) sig: Sig,
}

#[derive(Clone)]
enum Scheme {
    Ed25519 { mine: Option<Box<SigningKey>>, public: BTreeMap<NodeId, VerificationKey> },
    Seals { secrets: BTreeMap<NodeId, [u8; 32]> },
}

/// A replica's own key and everybody's public ones.
#[derive(Clone)]
pub struct Keys {
    id: NodeId,
    scheme: Scheme,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Keys {
    /// Ed25519: `secret` is this node's seed (RFC 8032 §5.1.5), `public` holds everybody's key, this node's own among them.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] if a key is none, or this node's is not that of `secret`.
    pub fn new(id: NodeId, secret: [u8; 32], public: &BTreeMap<NodeId, [u8; 32]>) -> Result<Self, Error> {
        let public = Self::parse(public)?;
        if public.get(&id).map(|key| <[u8; 32]>::from(*key)) != Some(Self::public_of(secret)) {
            return Err(Error::ApiMisuse(format!("the public keys lack that of node {id}, or name another")));
        }
        Ok(Self { id, scheme: Scheme::Ed25519 { mine: Some(Box::new(SigningKey::from(secret))), public } })
    }

    /// Those of somebody who checks what others signed, and signs nothing.
    ///
    /// # Errors
    /// [`Error::ApiMisuse`] if a key is none.
    pub fn of_watcher(public: &BTreeMap<NodeId, [u8; 32]>) -> Result<Self, Error> {
        Ok(Self { id: NodeId(0), scheme: Scheme::Ed25519 { mine: None, public: Self::parse(public)? } })
    }

    fn parse(public: &BTreeMap<NodeId, [u8; 32]>) -> Result<BTreeMap<NodeId, VerificationKey>, Error> {
        let key = |(node, bytes): (&NodeId, &[u8; 32])| {
            let key = VerificationKey::try_from(*bytes)
                .map_err(|_| Error::ApiMisuse(format!("the public key of node {node} is none")))?;
            Ok((*node, key))
        };
        public.iter().map(key).collect()
    }

    /// The public key that belongs to a secret one.
    #[must_use]
    pub fn public_of(secret: [u8; 32]) -> [u8; 32] {
        VerificationKeyBytes::from(&SigningKey::from(secret)).into()
    }

    /// For simulation: seals instead of signatures, a thousand times cheaper.
    ///
    /// HAZARD: whoever can check a seal can forge it. The simulator's adversaries use their own secret alone.
    #[doc(hidden)]
    #[must_use]
    pub fn seals(id: NodeId, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        let secret = |node: NodeId| Sha256::digest(node.0.to_be_bytes()).into();
        let secrets = nodes.into_iter().map(|node| (node, secret(node))).collect();
        Self { id, scheme: Scheme::Seals { secrets } }
    }

    /// Signs a hash as this node.
    #[must_use]
    pub fn sign(&self, hash: Digest) -> Sig {
        match &self.scheme {
            Scheme::Ed25519 { mine, .. } => {
                Sig(mine.as_ref().expect("who only watches signs nothing").sign(&hash.0).to_bytes())
            }
            Scheme::Seals { secrets } => seal(&secrets[&self.id], hash),
        }
    }

    /// True if `node` signed this hash.
    pub(crate) fn is_signed(&self, signed: &Signed) -> bool {
        match &self.scheme {
            Scheme::Ed25519 { public, .. } => public
                .get(&signed.node)
                .is_some_and(|key| key.verify(&Signature::from(signed.sig.0), &signed.hash.0).is_ok()),
            Scheme::Seals { secrets } => {
                secrets.get(&signed.node).is_some_and(|secret| seal(secret, signed.hash) == signed.sig)
            }
        }
    }

    /// True if `node` signed an answer of a group's machine ([`verity_contract::Witness`]).
    #[must_use]
    pub fn is_answer(&self, scope: &Scope, node: NodeId, statement: Digest, signature: &[u8]) -> bool {
        let sig = signature.try_into().map(Sig);
        sig.is_ok_and(|sig| self.is_signed(&Signed { node, hash: scope.answer(statement), sig }))
    }

    /// True if there is a key of this node.
    pub(crate) fn has(&self, node: NodeId) -> bool {
        match &self.scheme {
            Scheme::Ed25519 { public, .. } => public.contains_key(&node),
            Scheme::Seals { secrets } => secrets.contains_key(&node),
        }
    }

    /// How many nodes there are keys of.
    #[must_use]
    pub fn nodes(&self) -> usize {
        match &self.scheme {
            Scheme::Ed25519 { public, .. } => public.len(),
            Scheme::Seals { secrets } => secrets.len(),
        }
    }

    /// True if all of these are signed: faster than one by one.
    pub(crate) fn are_signed(&self, all: &[Signed]) -> bool {
        let Scheme::Ed25519 { public, .. } = &self.scheme else {
            return all.iter().all(|signed| self.is_signed(signed));
        };
        if all.len() < 2 {
            return all.iter().all(|signed| self.is_signed(signed));
        }
        let mut verifier = batch::Verifier::new();
        let mut coefficients = Coefficients::default();
        for signed in all {
            let Some(key) = public.get(&signed.node) else { return false };
            coefficients.absorb(signed);
            let key = VerificationKeyBytes::from(*key);
            verifier.queue((key, Signature::from(signed.sig.0), &signed.hash.0));
        }
        verifier.verify(coefficients).is_ok()
    }

    /// Which of these are signed.
    pub(crate) fn sound(&self, all: &[Signed]) -> Vec<bool> {
        if self.are_signed(all) {
            return vec![true; all.len()];
        }
        all.iter().map(|signed| self.is_signed(signed)).collect()
    }
}

fn seal(secret: &[u8; 32], hash: Digest) -> Sig {
    let half: [u8; 32] = Sha256::new().chain_update(secret).chain_update(hash.0).finalize().into();
    let mut out = [0; SIGNATURE_BYTES];
    out[..32].copy_from_slice(&half);
    Sig(out)
}

/// The coefficients that a batch is checked with. Nobody who chooses a signature of it may know them before, so they follow
/// from all signatures of it.
#[derive(Default)]
struct Coefficients {
    absorbed: Sha256,
    seed: Option<[u8; 32]>,
    count: u64,
}

impl Coefficients {
    fn absorb(&mut self, signed: &Signed) {
        self.absorbed.update(signed.node.0.to_be_bytes());
        self.absorbed.update(signed.hash.0);
        self.absorbed.update(signed.sig.0);
    }
}

impl RngCore for Coefficients {
    fn next_u32(&mut self) -> u32 {
        u32::try_from(self.next_u64() >> 32).expect("the upper half of a number fits")
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        let seed = *self.seed.get_or_insert_with(|| self.absorbed.clone().finalize().into());
        for chunk in out.chunks_mut(32) {
            self.count += 1;
            let block: [u8; 32] =
                Sha256::new().chain_update(seed).chain_update(self.count.to_be_bytes()).finalize().into();
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for Coefficients {}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: u64) -> Vec<Keys> {
        let secret = |id: u64| [u8::try_from(id).expect("a small number"); 32];
        let public = (1..=count).map(|id| (NodeId(id), Keys::public_of(secret(id)))).collect();
        (1..=count).map(|id| Keys::new(NodeId(id), secret(id), &public).unwrap()).collect()
    }

    #[test]
    fn a_signature_is_its_signers_over_its_hash() {
        let sealed: Vec<Keys> = (1..=3).map(|id| Keys::seals(NodeId(id), (1..=3).map(NodeId))).collect();
        for keys in [keys(3), sealed] {
            let hash = Digest([7; 32]);
            let mut all: Vec<Signed> =
                keys.iter().map(|key| Signed { node: key.id, hash, sig: key.sign(hash) }).collect();
            assert!(all.iter().all(|signed| keys[0].is_signed(signed)) && keys[0].are_signed(&all));
            all[1].hash = Digest([8; 32]);
            assert_eq!(keys[2].sound(&all), [true, false, true]);
            all[1].hash = hash;
            all[2].node = NodeId(9);
            assert_eq!(keys[0].sound(&all), [true, true, false], "a stranger's signature is none");
        }
    }

    #[test]
    fn a_key_that_is_not_ones_own_is_refused() {
        let public = [(NodeId(1), Keys::public_of([1; 32])), (NodeId(2), Keys::public_of([2; 32]))].into();
        assert!(Keys::new(NodeId(1), [1; 32], &public).is_ok());
        assert!(matches!(Keys::new(NodeId(1), [2; 32], &public), Err(Error::ApiMisuse(_))));
        assert!(matches!(Keys::new(NodeId(3), [1; 32], &public), Err(Error::ApiMisuse(_))));
    }
}
