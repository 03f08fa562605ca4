//! One sequence number: what was assigned to it, and who said so (PBFT §4.2).
//!
//! - a batch is accepted once a view, with the primary's signature;
//! - votes are kept by replica, the first of each view; signatures are looked at only once there are enough votes for
//!   something to follow, then all at once;
//! - a second vote of a replica for another digest is kept aside: together they are evidence.
//!
//! Deliberately absent: when to vote (`order`), and what is written down (`state`).

use std::collections::{BTreeMap, BTreeSet};

use verity_contract::Record;
use verity_types::{Digest, Mono, NodeId};

use crate::keys::{Keys, Sig, Signed};
use crate::message::{Batch, Prepared, Proof, Votes};
use crate::state::entry_record;

/// A vote, whose signature may not have been looked at yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vote {
    pub(crate) digest: Digest,
    pub(crate) sig: Sig,
    pub(crate) sound: bool,
}

/// The votes of one phase in one view.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ballot {
    votes: BTreeMap<NodeId, Vote>,
}

impl Ballot {
    /// Takes a vote; gives the earlier one back if it was for another digest, and changes nothing then.
    pub(crate) fn put(&mut self, node: NodeId, vote: Vote) -> Option<Vote> {
        let held = self.votes.entry(node).or_insert(vote);
        (held.digest != vote.digest).then_some(*held)
    }

    pub(crate) fn of(&self, node: NodeId) -> Option<Vote> {
        self.votes.get(&node).copied()
    }

    /// Whose votes are here.
    #[cfg(test)]
    pub(crate) fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.votes.keys().copied()
    }

    pub(crate) fn clear(&mut self) {
        self.votes.clear();
    }

    /// The digest that most replicas name.
    pub(crate) fn favourite(&self) -> Option<Digest> {
        let mut counts: BTreeMap<Digest, usize> = BTreeMap::new();
        self.votes.values().for_each(|vote| *counts.entry(vote.digest).or_default() += 1);
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(digest, _)| digest)
    }

    /// `needed` sound votes for `digest`, whose statement is `hash`, by replicas that `may` vote; none if there are fewer.
    /// Votes whose signature fails are thrown out, and named.
    pub(crate) fn gather(
        &mut self,
        keys: &Keys,
        digest: Digest,
        hash: Digest,
        needed: usize,
        may: impl Fn(NodeId) -> bool,
        liars: &mut Vec<NodeId>,
    ) -> Option<Votes> {
        let count = |votes: &BTreeMap<NodeId, Vote>| {
            votes.iter().filter(|(node, vote)| vote.digest == digest && may(**node)).count()
        };
        if count(&self.votes) < needed {
            return None;
        }
        self.examine(keys, digest, hash, liars);
        let sound = self.votes.iter().filter(|(node, vote)| vote.digest == digest && vote.sound && may(**node));
        let votes: Votes = sound.map(|(node, vote)| (*node, vote.sig)).take(needed).collect();
        (votes.len() >= needed).then_some(votes)
    }

    fn examine(&mut self, keys: &Keys, digest: Digest, hash: Digest, liars: &mut Vec<NodeId>) {
        let open: Vec<Signed> = self
            .votes
            .iter()
            .filter(|(_, vote)| !vote.sound && vote.digest == digest)
            .map(|(node, vote)| Signed { node: *node, hash, sig: vote.sig })
            .collect();
        for (signed, sound) in open.iter().zip(keys.sound(&open)) {
            if sound {
                self.votes.get_mut(&signed.node).expect("it was just read").sound = true;
            } else {
                self.votes.remove(&signed.node);
                liars.push(signed.node);
            }
        }
    }
}

/// What the primary assigned in the current view.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) digest: Digest,
    /// None while only the digest is known.
    pub(crate) batch: Option<Batch>,
    pub(crate) lead: Sig,
    /// False while the driver was asked what it thinks of it, and has not answered.
    pub(crate) judged: bool,
    /// When it came.
    pub(crate) at: Mono,
}

/// One sequence number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    /// In the current view.
    pub(crate) accepted: Option<Accepted>,
    pub(crate) prepares: Ballot,
    pub(crate) commits: Ballot,
    /// Under this replica's commit of the current view, which is on its way or said.
    pub(crate) committing: Option<Sig>,
    /// The certificate of the highest view in which something prepared here, and what.
    pub(crate) prepared: Option<(Prepared, Batch)>,
    /// The proof that it is committed, and of what, although the batch may be missing yet.
    pub(crate) committed: Option<(Digest, Proof)>,
    /// What is committed, where this replica was never asked to vote for it.
    pub(crate) chosen: Option<Batch>,
    /// Nothing changed here since the last heartbeat.
    pub(crate) idle: bool,
}

impl Slot {
    /// Another view begins: what was said in the last one counts no more.
    pub(crate) fn leave_view(&mut self) {
        self.accepted = None;
        self.prepares.clear();
        self.commits.clear();
        self.committing = None;
    }

    /// The batch with this digest, if it is here.
    pub(crate) fn batch(&self, digest: Digest) -> Option<&Batch> {
        let accepted = self.accepted.as_ref().filter(|accepted| accepted.digest == digest);
        let prepared = self.prepared.as_ref().filter(|(prepared, _)| prepared.digest == digest);
        let chosen = self.committed.as_ref().filter(|(of, _)| *of == digest).and(self.chosen.as_ref());
        accepted.and_then(|accepted| accepted.batch.as_ref()).or(prepared.map(|(_, batch)| batch)).or(chosen)
    }

    /// What is to be written down of it beside its proofs: what is voted for in `view`, and every batch that a proof is of.
    pub(crate) fn to_record(&self, epoch: u64, n: u64, view: u64) -> Record {
        let accepted = self.accepted.as_ref().filter(|accepted| accepted.batch.is_some() && accepted.judged);
        let vote = accepted.map(|accepted| (view, accepted.digest, accepted.lead));
        let digests = [
            vote.map(|(_, digest, _)| digest),
            self.prepared.as_ref().map(|(prepared, _)| prepared.digest),
            self.committed.as_ref().map(|(digest, _)| *digest),
        ];
        let digests: BTreeSet<Digest> = digests.into_iter().flatten().collect();
        entry_record(epoch, n, vote, digests.into_iter().filter_map(|digest| self.batch(digest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Digest = Digest([1; 32]);
    const B: Digest = Digest([2; 32]);

    #[test]
    fn votes_count_once_they_are_enough_sound_and_for_the_same() {
        let keys: Vec<Keys> = (1..=4).map(|id| Keys::seals(NodeId(id), (1..=4).map(NodeId))).collect();
        let vote = |at: usize, digest: Digest| Vote { digest, sig: keys[at].sign(digest), sound: false };
        let mut ballot = Ballot::default();
        let mut liars = Vec::new();
        assert!(ballot.put(NodeId(1), vote(0, A)).is_none() && ballot.put(NodeId(1), vote(0, A)).is_none());
        assert_eq!(ballot.put(NodeId(1), vote(0, B)).map(|held| held.digest), Some(A), "the first holds");
        ballot.put(NodeId(2), vote(1, B));
        let gather = |ballot: &mut Ballot, liars: &mut _| ballot.gather(&keys[0], A, A, 3, |node| node.0 < 4, liars);
        assert!(gather(&mut ballot, &mut liars).is_none(), "one is not enough");
        ballot.put(NodeId(4), vote(3, A));
        let mut others = Ballot::default();
        others.put(NodeId(1), vote(0, A));
        others.put(NodeId(2), Vote { digest: A, ..vote(1, B) });
        others.put(NodeId(3), vote(2, A));
        assert!(gather(&mut others, &mut liars).is_none(), "a signature of something else is none");
        assert_eq!(liars, [NodeId(2)]);
        others.put(NodeId(2), vote(1, A));
        let votes = gather(&mut others, &mut liars).expect("three are enough");
        assert_eq!(votes.iter().map(|(node, _)| node.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(ballot.favourite(), Some(A));
    }
}
