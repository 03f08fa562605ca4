//! Rounds of heartbeats, and the leader's lease.
//!
//! - upon a broadcast of heartbeats: it becomes a round, and the moment at which it was *begun* is remembered;
//! - upon a follower's answer: it heard the leader of this term at that moment or later (dissertation §6.4);
//! - upon answers of a quorum of every configuration in force: the round is confirmed. Barriers that began before the
//!   round may be answered, and for the lease's span from the begin of the round no one else can be elected, since each
//!   of that quorum holds back its vote for longer than that (`Config::hold`), also across its own restart.
//!
//! HAZARD: `now` must be read after the input was received, and never be kept across a pause. A leader that answers a
//! barrier with a moment read before the barrier began, or a follower that stamps a heartbeat with a moment from before
//! its arrival, breaks the order "vote held back longer than lease", and a read may miss a write.
//!
//! HAZARD: clocks of two members that drift apart by more than `Config::drift_ppm` within one lease lose the same.
//!
//! A leadership transfer (dissertation §3.10) asks voters to ignore what they hold back. The request may linger in the
//! network, so a leader that ever began a transfer has no lease for the rest of its term.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use verity_contract::Members;
use verity_types::{Mono, Nanos, NodeId};

/// Rounds whose begin is remembered; an older one can no longer be confirmed.
const ROUNDS_MAX: usize = 64;

/// Heartbeat rounds of one term.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    next: u64,
    begun: VecDeque<(u64, Mono)>,
    heard: BTreeMap<NodeId, u64>,
    confirmed: Option<(u64, Mono)>,
    transferred: bool,
}

impl Rounds {
    /// The number that the next round will have. Never repeats, also not across terms.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// A new term: nothing is confirmed.
    pub(crate) fn reset(&mut self) {
        *self = Self { next: self.next, ..Self::default() };
    }

    /// A broadcast leaves at `now`.
    pub(crate) fn begin(&mut self, now: Mono) -> u64 {
        let round = self.next;
        self.next += 1;
        if self.begun.len() == ROUNDS_MAX {
            self.begun.pop_front();
        }
        self.begun.push_back((round, now));
        round
    }

    /// `from` answered `round`.
    pub(crate) fn answer(&mut self, from: NodeId, round: u64) {
        if round < self.next {
            let heard = self.heard.entry(from).or_insert(round);
            *heard = round.max(*heard);
        }
    }

    /// Finds the latest round that a quorum of every configuration answered.
    pub(crate) fn confirm(&mut self, me: NodeId, members: &Members) {
        let latest = |voters: &BTreeSet<NodeId>| -> Option<u64> {
            let mut rounds: Vec<Option<u64>> = voters
                .iter()
                .map(|node| if *node == me { Some(u64::MAX) } else { self.heard.get(node).copied() })
                .collect();
            rounds.sort_unstable_by(|a, b| b.cmp(a));
            rounds.get(voters.len() / 2).copied().flatten()
        };
        let mut round = latest(&members.voters);
        if !members.outgoing.is_empty() {
            round = round.min(latest(&members.outgoing));
        }
        let Some(round) = round else { return };
        while self.begun.front().is_some_and(|(number, _)| *number <= round) {
            self.confirmed = self.begun.pop_front();
        }
    }

    /// True if a round begun at `round` or later is confirmed.
    pub(crate) fn confirmed(&self, round: u64) -> bool {
        self.confirmed.is_some_and(|(number, _)| number >= round)
    }

    /// True if a round from `round` on is on its way.
    pub(crate) fn under_way(&self, round: u64) -> bool {
        self.begun.back().is_some_and(|(number, _)| *number >= round)
    }

    /// Leadership is being handed over: no lease from here on.
    pub(crate) fn begin_transfer(&mut self) {
        self.transferred = true;
    }

    /// True if no other leader can exist at `now`.
    pub(crate) fn leased(&self, now: Mono, span: Option<Nanos>) -> bool {
        let (Some(span), Some((_, begun))) = (span, self.confirmed) else { return false };
        !self.transferred && now < begun + span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn a_lease_counts_from_the_begin_of_the_round_that_a_quorum_answered() {
        let members = Members::of_voters([1, 2, 3].map(NodeId));
        let span = Some(Nanos(100));
        let mut rounds = Rounds::default();
        let round = rounds.begin(Mono(1_000));
        rounds.begin(Mono(1_050));
        rounds.confirm(NodeId(1), &members);
        assert!(!rounds.leased(Mono(1_001), span));
        rounds.answer(NodeId(2), round);
        rounds.confirm(NodeId(1), &members);
        assert!(rounds.leased(Mono(1_099), span) && !rounds.leased(Mono(1_100), span));
        assert!(!rounds.leased(Mono(1_099), None));
        rounds.begin_transfer();
        assert!(!rounds.leased(Mono(1_001), span));
    }

    #[test]
    fn a_joint_configuration_needs_both_majorities() {
        let members = Members { voters: nodes(&[1, 4, 5]), outgoing: nodes(&[1, 2, 3]), learners: nodes(&[]) };
        let mut rounds = Rounds::default();
        let round = rounds.begin(Mono(1));
        rounds.answer(NodeId(4), round);
        rounds.confirm(NodeId(1), &members);
        assert!(!rounds.confirmed(round));
        rounds.answer(NodeId(3), round);
        rounds.confirm(NodeId(1), &members);
        assert!(rounds.confirmed(round));
    }

    #[test]
    fn answers_to_rounds_that_never_were_count_for_nothing() {
        let members = Members::of_voters([1, 2, 3].map(NodeId));
        let mut rounds = Rounds::default();
        let round = rounds.begin(Mono(1));
        rounds.answer(NodeId(2), round + 7);
        rounds.confirm(NodeId(1), &members);
        assert!(!rounds.confirmed(round));
        rounds.reset();
        assert_eq!(rounds.next(), round + 1);
    }
}
