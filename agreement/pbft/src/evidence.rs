//! Proofs that a replica lied: two statements with its signature that no honest replica makes both.
//!
//! - two pre-prepares, prepares or commits for one sequence number in one view, of other digests;
//! - two checkpoints for one sequence number, of other states.
//!
//! Anybody who has the public keys can check one, and nobody can make one of an honest replica: it writes down what it says
//! before it says it. A prepare carries the primary's own signature, so that two replicas that were told different things
//! find out by their first words to each other.
//!
//! ```text
//! evidence = version:u8 phase:u8 group epoch culprit view n (digest sig)*2
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use verity_contract::codec::{put_blob, put_number, take_blob, take_byte};
use verity_types::{Digest, NodeId};

use crate::Error;
use crate::keys::{Keys, Sig, Signed};
use crate::message::{GROUP_BYTES_MAX, Scope, take_digest, take_number, take_sig};

const VERSION: u8 = 1;
/// So many proofs against one replica are told in one life.
const TOLD_MAX: usize = 64;

/// What was said twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// A primary's assignment.
    PrePrepare,
    /// A backup's first vote.
    Prepare,
    /// A replica's second vote.
    Commit,
    /// A replica's word about its state. Its view is 0.
    Checkpoint,
}

impl Phase {
    /// What is signed in this phase.
    pub(crate) fn statement(self, scope: &Scope, view: u64, n: u64, digest: Digest) -> Digest {
        match self {
            Self::PrePrepare => scope.pre_prepare(view, n, digest),
            Self::Prepare => scope.prepare(view, n, digest),
            Self::Commit => scope.commit(view, n, digest),
            Self::Checkpoint => scope.checkpoint(n, digest),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PrePrepare => "pre-prepares",
            Self::Prepare => "prepares",
            Self::Commit => "commits",
            Self::Checkpoint => "checkpoints",
        })
    }
}

/// Two statements of one replica that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// In which group and epoch.
    pub scope: Scope,
    /// What was said twice.
    pub phase: Phase,
    /// Who said it.
    pub culprit: NodeId,
    /// In which view.
    pub view: u64,
    /// About which sequence number.
    pub n: u64,
    /// The statements' digests and signatures.
    pub said: [(Digest, Sig); 2],
}

impl Evidence {
    pub(crate) fn votes(
        scope: &Scope,
        phase: Phase,
        culprit: NodeId,
        (view, n): (u64, u64),
        first: (Digest, Sig),
        second: (Digest, Sig),
    ) -> Self {
        Self { scope: scope.clone(), phase, culprit, view, n, said: [first, second] }
    }

    fn signed(&self) -> [Signed; 2] {
        self.said.map(|(digest, sig)| {
            let hash = self.phase.statement(&self.scope, self.view, self.n, digest);
            Signed { node: self.culprit, hash, sig }
        })
    }

    /// True if the replica that it names did say both.
    #[must_use]
    pub fn verify_with(&self, keys: &Keys) -> bool {
        self.said[0].0 != self.said[1].0 && keys.are_signed(&self.signed())
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(320);
        out.put_u8(VERSION);
        out.put_u8(match self.phase {
            Phase::PrePrepare => 1,
            Phase::Prepare => 2,
            Phase::Commit => 3,
            Phase::Checkpoint => 4,
        });
        put_blob(&mut out, &self.scope.group);
        [self.scope.epoch, self.culprit.0, self.view, self.n].iter().for_each(|number| put_number(&mut out, *number));
        for (digest, sig) in &self.said {
            out.put_slice(&digest.0);
            out.put_slice(&sig.0);
        }
        out.freeze()
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Error::InvalidMessage`] says what is wrong with it.
    pub fn decode(mut bytes: Bytes) -> Result<Self, Error> {
        let invalid = |what: &str| Err(Error::InvalidMessage(what.to_owned()));
        let bytes = &mut bytes;
        if take_byte(bytes)? != VERSION {
            return invalid("evidence of an unknown version");
        }
        let phase = match take_byte(bytes)? {
            1 => Phase::PrePrepare,
            2 => Phase::Prepare,
            3 => Phase::Commit,
            4 => Phase::Checkpoint,
            _ => return invalid("evidence of an unknown kind"),
        };
        let group = take_blob(bytes, GROUP_BYTES_MAX)?;
        let (epoch, culprit) = (take_number(bytes)?, NodeId(take_number(bytes)?));
        let (view, n) = (take_number(bytes)?, take_number(bytes)?);
        let mut said = || -> Result<_, Error> { Ok((take_digest(bytes)?, take_sig(bytes)?)) };
        let said = [said()?, said()?];
        if !bytes.is_empty() {
            return invalid("bytes behind the evidence");
        }
        Ok(Self { scope: Scope { group, epoch }, phase, culprit, view, n, said })
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |digest: Digest| digest.to_string()[..16].to_owned();
        let [(first, _), (second, _)] = self.said;
        write!(f, "node {} signed two {} for sequence number {}", self.culprit, self.phase, self.n)?;
        if self.phase != Phase::Checkpoint {
            write!(f, " in view {}", self.view)?;
        }
        write!(f, ": {} and {}", short(first), short(second))
    }
}

/// What was told already.
#[derive(Debug, Default)]
pub(crate) struct Known {
    told: BTreeMap<NodeId, BTreeSet<(Phase, u64, u64)>>,
}

impl Known {
    /// True the first time for each place, and not too often for one replica.
    pub(crate) fn is_new(&mut self, evidence: &Evidence) -> bool {
        let told = self.told.entry(evidence.culprit).or_default();
        told.len() < TOLD_MAX && told.insert((evidence.phase, evidence.view, evidence.n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_holds_for_whoever_has_the_keys_and_for_nothing_else() {
        let keys = Keys::seals(NodeId(2), (1..=4).map(NodeId));
        let scope = Scope { group: Bytes::from_static(b"tree"), epoch: 3 };
        let say = |digest: Digest| (digest, keys.sign(scope.prepare(7, 9, digest)));
        let (a, b) = (Digest([1; 32]), Digest([2; 32]));
        let evidence = Evidence::votes(&scope, Phase::Prepare, NodeId(2), (7, 9), say(a), say(b));
        let read = Evidence::decode(evidence.encode()).unwrap();
        assert_eq!(read, evidence);
        assert!(read.verify_with(&Keys::seals(NodeId(4), (1..=4).map(NodeId))));
        let wrong = [
            Evidence { said: [say(a), say(a)], ..evidence.clone() },
            Evidence { culprit: NodeId(3), ..evidence.clone() },
            Evidence { n: 10, ..evidence.clone() },
            Evidence { phase: Phase::Commit, ..evidence.clone() },
            Evidence { scope: Scope { epoch: 4, ..scope.clone() }, ..evidence.clone() },
        ];
        wrong.iter().for_each(|wrong| assert!(!wrong.verify_with(&keys), "{wrong:?}"));
        let bytes = evidence.encode();
        (0..bytes.len()).for_each(|cut| assert!(Evidence::decode(bytes.slice(..cut)).is_err()));
        assert!(evidence.to_string().starts_with("node 2 signed two prepares for sequence number 9 in view 7: 0101"));
        let mut known = Known::default();
        assert!(known.is_new(&evidence) && !known.is_new(&evidence));
    }
}
