//! Who is to blame when more lie than may: from what two replicas were told, the names of those who must have lied (Sheng et
//! al., "BFT Protocol Forensics", CCS 2021).
//!
//! Two batches that are committed at one sequence number have q signed commits each. If both are of one view, the f + 1
//! replicas that two quorums share signed two commits. If one is of a later view, then that view began with q view changes,
//! and f + 1 of those who made them had committed the other batch and left its certificate out. So a replica is guilty that
//!
//! - signed two pre-prepares, prepares or commits for one sequence number in one view, or two checkpoints for one, of other
//!   digests;
//! - signed a commit, and in the same view a prepare or pre-prepare of something else;
//! - signed a commit, and a later view change that neither has a checkpoint that covers it, nor a certificate for the
//!   sequence number of that view or a later one, or shows one of that view for something else.
//!
//! A replica that keeps to the protocol does none of these, whatever it is told and however often it starts anew, so nothing
//! here can name one. Signatures are looked at as statements come in: no witness can put words into somebody's mouth.
//!
//! HAZARD: where the batch that came second went through views that neither witness saw begin, fewer than f + 1 may be
//! named. Ask more witnesses.
//!
//! Deliberately absent: where the messages come from. Whoever keeps what a replica was sent can ask afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use verity_types::{Digest, NodeId};

use crate::evidence::{Evidence, Phase};
use crate::keys::{Keys, Sig, Signed};
use crate::message::{Message, Prepared, Scope, Stable, ViewChange, parse};

/// Statements that one witness remembers.
const STATEMENTS_MAX: usize = 1 << 20;
/// Statements of one replica about one thing: two prove a lie.
const SAME_MAX: usize = 4;

/// What a view change says of one sequence number's certificate: its view and digest.
type Shown = BTreeMap<u64, (u64, Digest)>;

/// Where something was said: by whom, in which phase, view and about which sequence number.
type Place = (NodeId, Phase, u64, u64);

/// A view change, as far as it can convict somebody.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wish {
    view: u64,
    stable: u64,
    shown: Shown,
}

/// What a replica did that no correct one does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Crime {
    /// It said two things where one may be said.
    SaidTwoThings(Box<Evidence>),
    /// It committed one thing and prepared, or assigned, another in the same view.
    CommittedAnother {
        /// In this view.
        view: u64,
        /// At this sequence number.
        n: u64,
    },
    /// It committed something, and its wish for a later view does not say so.
    LeftOut {
        /// Committed in this view.
        view: u64,
        /// At this sequence number.
        n: u64,
        /// The view that it wished for.
        wished: u64,
    },
}

impl fmt::Display for Crime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SaidTwoThings(evidence) => evidence.fmt(f),
            Self::CommittedAnother { view, n } => {
                write!(f, "committed one thing and prepared another at sequence number {n} in view {view}")
            }
            Self::LeftOut { view, n, wished } => {
                write!(f, "committed sequence number {n} in view {view} and left it out of its wish for view {wished}")
            }
        }
    }
}

/// What one replica was told, as far as it is signed.
#[derive(Clone, Debug)]
pub struct Witness {
    keys: Keys,
    scope: Scope,
    voters: Vec<NodeId>,
    first_primary: u64,
    said: BTreeMap<Place, BTreeMap<Digest, Sig>>,
    wished: BTreeMap<NodeId, BTreeSet<Wish>>,
    count: usize,
}

impl Witness {
    /// A replica of a group whose members these are. `first_primary` as in [`crate::Config`].
    #[must_use]
    pub fn new(keys: Keys, scope: Scope, voters: BTreeSet<NodeId>, first_primary: u64) -> Self {
        let voters = voters.into_iter().collect();
        Self { keys, scope, voters, first_primary, said: BTreeMap::new(), wished: BTreeMap::new(), count: 0 }
    }

    /// Takes in what is signed in a message that `from` sent. What cannot be read, is of another epoch or is signed by nobody
    /// is nothing.
    pub fn hear(&mut self, from: NodeId, bytes: &Bytes) {
        let Ok((epoch, message)) = parse(bytes.clone()) else { return };
        if epoch != self.scope.epoch || self.voters.is_empty() {
            return;
        }
        match message {
            Message::PrePrepare { view, n, batch, sig } => {
                let digest = self.scope.batch(&batch);
                self.say((self.primary_of(view), Phase::PrePrepare, view, n), digest, sig);
            }
            Message::Prepare { view, n, digest, lead, sig } => {
                self.say((self.primary_of(view), Phase::PrePrepare, view, n), digest, lead);
                self.say((from, Phase::Prepare, view, n), digest, sig);
            }
            Message::Commit { view, n, digest, sig } => self.say((from, Phase::Commit, view, n), digest, sig),
            Message::Checkpoint { n, digest, sig } => self.say((from, Phase::Checkpoint, 0, n), digest, sig),
            Message::ViewChange(change) => self.hear_change(&change),
            Message::NewView(new) => new.changes.iter().for_each(|change| self.hear_change(change)),
            Message::Entries { first, entries } => {
                for (n, (batch, proof)) in (first..).zip(entries) {
                    let digest = self.scope.batch(&batch);
                    for (node, sig) in proof.votes {
                        self.say((node, Phase::Commit, proof.view, n), digest, sig);
                    }
                }
            }
            Message::Stable(stable) | Message::Snapshot { stable, .. } => self.hear_stable(&stable),
            Message::Link(link) => self.hear_stable(&link.stable),
            Message::Request(_)
            | Message::Want { .. }
            | Message::Batch { .. }
            | Message::Status(_)
            | Message::Fetch { .. } => {}
        }
    }

    fn primary_of(&self, view: u64) -> NodeId {
        let at = (view + self.first_primary) % self.voters.len() as u64;
        self.voters[usize::try_from(at).expect("a group is small")]
    }

    fn say(&mut self, place: Place, digest: Digest, sig: Sig) {
        let (node, phase, view, n) = place;
        let held = self.said.get(&place);
        let known = held.is_some_and(|held| held.contains_key(&digest) || held.len() >= SAME_MAX);
        if known || self.count >= STATEMENTS_MAX {
            return;
        }
        let hash = phase.statement(&self.scope, view, n, digest);
        if self.keys.is_signed(&Signed { node, hash, sig }) {
            self.said.entry(place).or_default().insert(digest, sig);
            self.count += 1;
        }
    }

    fn hear_stable(&mut self, stable: &Stable) {
        if stable.epoch != self.scope.epoch {
            return;
        }
        for (node, sig) in &stable.votes {
            self.say((*node, Phase::Checkpoint, 0, stable.n), stable.digest, *sig);
        }
    }

    fn hear_prepared(&mut self, prepared: &Prepared) {
        let Prepared { n, view, digest, lead, votes } = prepared;
        self.say((self.primary_of(*view), Phase::PrePrepare, *view, *n), *digest, *lead);
        for (node, sig) in votes {
            self.say((*node, Phase::Prepare, *view, *n), *digest, *sig);
        }
    }

    fn hear_change(&mut self, change: &ViewChange) {
        self.hear_stable(&change.stable);
        change.prepared.iter().for_each(|prepared| self.hear_prepared(prepared));
        let hash = self.scope.view_change(change);
        let signed = Signed { node: change.replica, hash, sig: change.sig };
        if self.count >= STATEMENTS_MAX || !self.keys.is_signed(&signed) {
            return;
        }
        let shown = change.prepared.iter().map(|prepared| (prepared.n, (prepared.view, prepared.digest))).collect();
        let wish = Wish { view: change.view, stable: change.stable.n, shown };
        let wishes = self.wished.entry(change.replica).or_default();
        self.count += usize::from(wishes.insert(wish));
    }
}

/// Everybody who must have lied for these witnesses to have been told what they were, and what each did.
#[must_use]
pub fn culprits(witnesses: &[&Witness]) -> BTreeMap<NodeId, Crime> {
    let mut said: BTreeMap<Place, BTreeMap<Digest, Sig>> = BTreeMap::new();
    let mut guilty = BTreeMap::new();
    for witness in witnesses {
        for (place, digests) in &witness.said {
            let all = said.entry(*place).or_default();
            all.extend(digests);
            let mut two = all.iter().map(|(digest, sig)| (*digest, *sig));
            if let (Some(first), Some(second)) = (two.next(), two.next()) {
                let (node, phase, view, n) = *place;
                let evidence = Evidence::votes(&witness.scope, phase, node, (view, n), first, second);
                guilty.entry(node).or_insert_with(|| Crime::SaidTwoThings(Box::new(evidence)));
            }
        }
    }
    let wishes = |node: NodeId| witnesses.iter().filter_map(move |witness| witness.wished.get(&node)).flatten();
    for ((node, phase, view, n), digests) in &said {
        if *phase != Phase::Commit {
            continue;
        }
        for digest in digests.keys() {
            let another = |phase: Phase| {
                said.get(&(*node, phase, *view, *n)).is_some_and(|held| held.keys().any(|held| held != digest))
            };
            if another(Phase::Prepare) || another(Phase::PrePrepare) {
                guilty.entry(*node).or_insert(Crime::CommittedAnother { view: *view, n: *n });
            }
            let later = wishes(*node).filter(|wish| wish.view > *view && wish.stable < *n);
            let silent = |wish: &&Wish| match wish.shown.get(n) {
                Some((shown, of)) => shown < view || shown == view && of != digest,
                None => true,
            };
            if let Some(wish) = later.into_iter().find(silent) {
                guilty.entry(*node).or_insert(Crime::LeftOut { view: *view, n: *n, wished: wish.view });
            }
        }
    }
    guilty
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Batch, Content, NewView, Proof, encode};

    fn keys(id: u64) -> Keys {
        Keys::seals(NodeId(id), (1..=4).map(NodeId))
    }

    fn witness(id: u64) -> Witness {
        Witness::new(keys(id), Scope::default(), (1..=4).map(NodeId).collect(), 0)
    }

    fn batch(time: u64) -> Batch {
        Batch { term: 1, time, content: Content::Requests(Vec::new()) }
    }

    fn entry(view: u64, n: u64, batch: Batch, voters: [u64; 3]) -> Message {
        let scope = Scope::default();
        let hash = scope.commit(view, n, scope.batch(&batch));
        let votes = voters.map(|id| (NodeId(id), keys(id).sign(hash))).into();
        Message::Entries { first: n, entries: vec![(batch, Proof { view, votes })] }
    }

    fn change(id: u64, view: u64, stable: u64, prepared: Vec<Prepared>) -> ViewChange {
        let stable = Stable { n: stable, ..Stable::default() };
        let unsigned = ViewChange { replica: NodeId(id), view, stable, prepared, sig: Sig([0; 64]) };
        ViewChange { sig: keys(id).sign(Scope::default().view_change(&unsigned)), ..unsigned }
    }

    fn names(witnesses: &[&Witness]) -> Vec<u64> {
        culprits(witnesses).keys().map(|node| node.0).collect()
    }

    #[test]
    fn two_proofs_of_one_view_name_those_who_signed_both() {
        let (mut one, mut other) = (witness(3), witness(4));
        one.hear(NodeId(2), &encode(0, &entry(0, 1, batch(1), [1, 2, 3])));
        other.hear(NodeId(2), &encode(0, &entry(0, 1, batch(2), [1, 2, 4])));
        assert!(names(&[&one]).is_empty() && names(&[&other]).is_empty(), "each alone was told nothing odd");
        assert_eq!(names(&[&one, &other]), [1, 2]);
        let crimes = culprits(&[&one, &other]);
        let Crime::SaidTwoThings(evidence) = &crimes[&NodeId(1)] else { panic!("{crimes:?}") };
        assert!(evidence.verify_with(&keys(4)), "it convinces whoever has the keys");
    }

    #[test]
    fn a_later_view_names_those_who_left_out_what_they_had_committed() {
        let (mut one, mut other) = (witness(3), witness(4));
        one.hear(NodeId(2), &encode(0, &entry(0, 5, batch(1), [1, 2, 3])));
        let changes = [1, 2, 4].map(|id| change(id, 1, 4, Vec::new())).into();
        let new = NewView { view: 1, changes, leads: Vec::new(), sig: Sig([0; 64]) };
        other.hear(NodeId(2), &encode(0, &Message::NewView(new)));
        other.hear(NodeId(2), &encode(0, &entry(1, 5, batch(2), [1, 2, 4])));
        assert_eq!(names(&[&one, &other]), [1, 2], "4 had committed nothing in view 0");
        let said = culprits(&[&one, &other])[&NodeId(2)].to_string();
        assert_eq!(said, "committed sequence number 5 in view 0 and left it out of its wish for view 1");
    }

    #[test]
    fn whoever_shows_what_it_committed_or_a_checkpoint_above_it_is_not_named() {
        let mut one = witness(3);
        one.hear(NodeId(2), &encode(0, &entry(2, 5, batch(1), [1, 2, 3])));
        let digest = Scope::default().batch(&batch(1));
        let shows =
            |view: u64, digest: Digest| vec![Prepared { n: 5, view, digest, lead: Sig([0; 64]), votes: Vec::new() }];
        for sound in [
            change(1, 3, 0, shows(2, digest)),
            change(2, 4, 0, shows(3, Digest([9; 32]))),
            change(3, 3, 5, Vec::new()),
            change(3, 2, 0, Vec::new()),
        ] {
            one.hear(NodeId(1), &encode(0, &Message::ViewChange(sound)));
        }
        assert!(names(&[&one]).is_empty());
        one.hear(NodeId(1), &encode(0, &Message::ViewChange(change(1, 4, 0, shows(1, digest)))));
        one.hear(NodeId(2), &encode(0, &Message::ViewChange(change(2, 3, 0, shows(2, Digest([9; 32]))))));
        assert_eq!(names(&[&one]), [1, 2]);
    }

    #[test]
    fn words_that_were_put_into_a_mouth_name_nobody() {
        let mut one = witness(3);
        let digest = Digest([7; 32]);
        for from in [1, 2] {
            let commit = Message::Commit { view: 0, n: 1, digest, sig: Sig([from; 64]) };
            one.hear(NodeId(4), &encode(0, &commit));
        }
        one.hear(NodeId(2), &encode(0, &entry(0, 1, batch(1), [1, 2, 4])));
        let forged = ViewChange { replica: NodeId(4), ..change(1, 1, 0, Vec::new()) };
        one.hear(NodeId(1), &encode(0, &Message::ViewChange(forged)));
        assert!(names(&[&one]).is_empty());
    }
}
