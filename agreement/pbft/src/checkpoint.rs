//! Checkpoints and the garbage that they collect (PBFT §4.3).
//!
//! - upon the execution of a multiple of `checkpoint_every`: the driver is asked for the digest of the machine's state at
//!   just this index; with what the engine keeps beside it (`state::Context`) it makes the checkpoint's digest, which is
//!   signed and sent once everything up to it is stable here, proofs included;
//! - upon q checkpoints for one digest: it is stable. The low watermark moves there, and everything below goes;
//! - upon a stable checkpoint beyond what is executed here: what is missing is fetched (`transfer`);
//! - a snapshot is taken at checkpoints alone, so that whoever receives one can ask for its proof;
//! - upon a start from a snapshot: its checkpoint is taken again. What was said of it may be lost, and nobody else might be
//!   there to make a quorum.
//!
//! HAZARD: a checkpoint without its proof lets one liar move the watermark beyond what honest replicas have, or hand out a
//! state of its own.

use std::collections::BTreeMap;

use bytes::Bytes;
use verity_types::{Digest, LogIndex, NodeId};

use crate::engine::{Leave, Pbft};
use crate::evidence::{Evidence, Phase};
use crate::message::{Message, Stable};
use crate::slot::{Ballot, Vote};
use crate::state::Context;
use crate::{Error, Mutant};

/// Votes are kept for checkpoints that lie so many windows ahead at most.
const AHEAD_WINDOWS: u64 = 4;
/// Proofs of so many checkpoints are kept, the latest and that of the last snapshot.
const PROOFS_MAX: usize = 8;

/// All checkpoints.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    /// The last stable one.
    pub(crate) stable: Stable,
    /// What the engine knew at each that the machine has not passed yet.
    contexts: BTreeMap<u64, Context>,
    /// This replica's own.
    own: BTreeMap<u64, Digest>,
    /// Where the machine was asked last, and its own digest there.
    machine: Option<(u64, Digest)>,
    ballots: BTreeMap<u64, Ballot>,
    proofs: BTreeMap<u64, Stable>,
}

impl Checkpoints {
    pub(crate) fn new(stable: Stable) -> Self {
        let proofs =
            if !stable.votes.is_empty() { BTreeMap::from([(stable.n, stable.clone())]) } else { BTreeMap::new() };
        let (contexts, own, ballots) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { stable, contexts, own, machine: None, ballots, proofs }
    }

    /// The machine will be at this one.
    pub(crate) fn note(&mut self, n: u64, context: Context) {
        self.contexts.insert(n, context);
    }

    /// The machine will be at this one next, out of a snapshot.
    pub(crate) fn expect(&mut self, n: u64, context: Context) {
        self.contexts.clear();
        self.own.clear();
        self.machine = None;
        self.contexts.insert(n, context);
    }

    /// Keeps the proof of the checkpoint that a snapshot is of.
    pub(crate) fn remember(&mut self, stable: Stable) {
        self.proofs.insert(stable.n, stable);
    }

    /// What stands beside a snapshot at `n`, if one may be taken there.
    pub(crate) fn context(&self, n: u64) -> Option<Bytes> {
        self.contexts.get(&n).map(Context::encode)
    }

    /// The proof of the checkpoint at `n`.
    pub(crate) fn proof(&self, n: u64) -> Option<&Stable> {
        self.proofs.get(&n)
    }

    /// This replica's own at `n`.
    pub(crate) fn own(&self, n: u64) -> Option<Digest> {
        self.own.get(&n).copied()
    }

    /// The machine's own digest at `n`, if that is where it was asked last.
    pub(crate) fn machine(&self, n: u64) -> Option<Digest> {
        self.machine.filter(|(at, _)| *at == n).map(|(_, digest)| digest)
    }

    /// Another epoch begins: what was said in the last one counts no more.
    pub(crate) fn forget_votes(&mut self) {
        self.ballots.clear();
    }

    /// A snapshot at `n` is saved: proofs of older ones are of no use, but for the last stable one's.
    pub(crate) fn keep_from(&mut self, n: u64) {
        let from = n.min(self.stable.n);
        self.proofs = self.proofs.split_off(&from);
    }

    fn prune(&mut self) {
        let n = self.stable.n;
        self.ballots = self.ballots.split_off(&(n + 1));
        self.own = self.own.split_off(&n);
        while self.proofs.len() > PROOFS_MAX {
            let second = *self.proofs.keys().nth(1).expect("there are several");
            self.proofs.remove(&second);
        }
    }
}

impl Pbft {
    /// The machine is at `n`, and its state has this digest.
    pub(crate) fn on_own_checkpoint(&mut self, n: u64, machine: Digest) {
        let Some(context) = self.checkpoints.contexts.get(&n) else { return };
        let digest = context.digest(machine);
        self.checkpoints.contexts = self.checkpoints.contexts.split_off(&n);
        self.checkpoints.own.insert(n, digest);
        self.checkpoints.machine = Some((n, machine));
        self.compare_states(n);
        // A state that is not the quorum's is none to vote for.
        if !self.votes() || n <= self.low() {
            return;
        }
        // What is below a stable checkpoint is asked for by no view change: its proofs must be on a quorum's disks.
        self.flush_later();
        let sig = self.keys.sign(self.scope.checkpoint(n, digest));
        self.checkpoints.ballots.entry(n).or_default().put(self.id, Vote { digest, sig, sound: true });
        self.broadcast(&Message::Checkpoint { n, digest, sig }, Leave::Stable);
        self.look_stable(n);
    }

    pub(crate) fn on_checkpoint(
        &mut self,
        from: NodeId,
        n: u64,
        digest: Digest,
        sig: crate::keys::Sig,
    ) -> Result<(), Error> {
        let most = self.low() + AHEAD_WINDOWS * self.config.window;
        if n <= self.low() || n > most || !n.is_multiple_of(self.config.checkpoint_every) {
            return Ok(());
        }
        let vote = Vote { digest, sig, sound: false };
        if let Some(held) = self.checkpoints.ballots.entry(n).or_default().put(from, vote) {
            let said = (held.digest, held.sig);
            let evidence = Evidence::votes(&self.scope, Phase::Checkpoint, from, (0, n), said, (digest, sig));
            if evidence.verify_with(&self.keys) {
                self.accuse(&evidence);
            }
        }
        self.look_stable(n);
        Ok(())
    }

    fn look_stable(&mut self, n: u64) {
        let unproven = self.config.breaks(Mutant::CheckpointWithoutCertificate);
        let needed = if unproven { 1 } else { self.quorum.size };
        let Some(ballot) = self.checkpoints.ballots.get_mut(&n) else { return };
        let Some(digest) = ballot.favourite() else { return };
        let hash = self.scope.checkpoint(n, digest);
        let (voters, mut liars) = (&self.members.voters, Vec::new());
        let votes = ballot.gather(&self.keys, digest, hash, needed, |node| voters.contains(&node), &mut liars);
        liars.into_iter().for_each(|node| self.blame(node));
        if let Some(votes) = votes {
            let epoch = self.scope.epoch;
            self.make_stable(Stable { n, epoch, digest, votes });
        }
    }

    /// The low watermark moves to a checkpoint whose proof was looked at.
    pub(crate) fn make_stable(&mut self, stable: Stable) {
        let n = stable.n;
        if n <= self.low() || self.is_unsure() {
            return;
        }
        if !stable.votes.is_empty() {
            self.checkpoints.proofs.insert(n, stable.clone());
        }
        self.checkpoints.stable = stable;
        self.checkpoints.prune();
        self.slots = self.slots.split_off(&(n + 1));
        self.judging = self.judging.split_off(&(n + 1));
        self.next = self.next.max(n + 1);
        self.compare_states(n);
    }

    /// The proof of the checkpoint at `n`; f + 1 votes for this replica's own if it is not stable.
    pub(crate) fn vouched(&mut self, n: u64) -> Option<Stable> {
        if let Some(stable) = self.checkpoints.proof(n) {
            return Some(stable.clone());
        }
        let (digest, weak) = (self.checkpoints.own(n)?, self.quorum.weak());
        let hash = self.scope.checkpoint(n, digest);
        let (voters, mut liars) = (&self.members.voters, Vec::new());
        let ballot = self.checkpoints.ballots.get_mut(&n)?;
        let votes = ballot.gather(&self.keys, digest, hash, weak, |node| voters.contains(&node), &mut liars);
        liars.into_iter().for_each(|node| self.blame(node));
        let epoch = self.scope.epoch;
        votes.map(|votes| Stable { n, epoch, digest, votes })
    }

    /// A quorum's state at `n` is this replica's state at `n`: if what was executed here led to another, this node is broken;
    /// if another node sent the state, that one lied, and the state is given up.
    fn compare_states(&mut self, n: u64) {
        let (Some(own), Some(proof)) = (self.checkpoints.own(n), self.checkpoints.proof(n)) else { return };
        let equal = own == proof.digest;
        let sent = self.unproven.take_if(|at| *at == n).is_some();
        assert!(equal || sent, "node {} has another state at {} than a quorum", self.id, LogIndex(n));
        if !equal {
            self.refuse_state(n);
        }
    }

    /// Says the last checkpoint again to a replica that does not know it to be stable.
    pub(crate) fn repeat_checkpoint(&mut self, to: NodeId, stable: u64) {
        let last = self.checkpoints.own.iter().next_back().map(|(n, digest)| (*n, *digest));
        if let Some((n, digest)) = last.filter(|(n, _)| *n > stable.max(self.chain.start()) && self.votes()) {
            let sig = self.keys.sign(self.scope.checkpoint(n, digest));
            self.send(to, &Message::Checkpoint { n, digest, sig }, Leave::Stable);
        }
    }
}
