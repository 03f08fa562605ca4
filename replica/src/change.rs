//! A change of a group's members from beginning to end, driven by the leader.
//!
//! - upon a duty's wish: voters that are no members yet are added as learners, so that they get the log and count for
//!   nothing while they lack it (Raft dissertation §4.2.1);
//! - upon all of them having nearly the whole log, and most of the voters-to-be being heard: one change of the
//!   agreement's own to the wished members; it carries the system's context. However short the log, they must have begun:
//!   who knows no members votes for nobody, and a majority of such would elect nobody ever;
//! - upon that change being applied: the wish is done;
//! - upon its deadline: learners that were added for it go again, and the duty hears that it cannot be;
//! - upon this node leading no more: it is forgotten. The next leader's duty asks again, and this goes on from where
//!   the group then is.
//!
//! Deliberately absent: more than one change at a time.

use std::collections::BTreeSet;

use verity_contract::{AgreementStatus, Change, Members};
use verity_types::{Mono, Nanos, NodeId};

use crate::roster::{Context, Roster};

/// A change that is not made by then is given up.
pub const CHANGE_WAIT_MAX: Nanos = Nanos::from_millis(20_000);
/// A newcomer that lacks no more entries than this may vote.
const CLOSE: u64 = 1_000;

/// A change under way.
#[derive(Debug)]
pub(crate) struct Changing {
    /// The members to go back to.
    from: Members,
    wish: Members,
    addresses: Roster,
    context: Context,
    until: Mono,
    giving_up: bool,
}

/// What is to be done next for a change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing yet.
    Wait,
    /// Ask the engine for this.
    Ask(Change),
    /// It cannot be.
    Failed,
}

impl Changing {
    pub(crate) fn new(now: Mono, members: &Members, wish: Change, addresses: Roster) -> Self {
        let from = Members {
            voters: members.voters.clone(),
            outgoing: BTreeSet::new(),
            // What an earlier leader added for the same wish goes as well, if the wish fails.
            learners: members.learners.difference(&wish.voters).copied().collect(),
        };
        let context = Context { last: true, roster: addresses.clone(), system: wish.context };
        let wish = Members { voters: wish.voters, learners: wish.learners, ..Members::default() };
        Self { from, wish, addresses, context, until: now + CHANGE_WAIT_MAX, giving_up: false }
    }

    /// What is next, as the group stands. `me` leads it.
    pub(crate) fn next(&mut self, now: Mono, me: NodeId, status: &AgreementStatus) -> Next {
        let members = &status.members;
        if !members.outgoing.is_empty() {
            return Next::Wait;
        }
        if self.giving_up || now >= self.until {
            self.giving_up = true;
            let undone = members.voters == self.from.voters && members.learners == self.from.learners;
            return if undone { Next::Failed } else { self.step(&self.from.voters, &self.from.learners) };
        }
        let newcomers: Vec<NodeId> = self.wish.voters.iter().filter(|n| !members.contains(**n)).copied().collect();
        if !newcomers.is_empty() {
            let learners = members.learners.iter().copied().chain(newcomers).collect();
            return self.step(&members.voters, &learners);
        }
        let close = |node: &NodeId| {
            let has = |progress: &verity_contract::Progress| {
                progress.matched.0 > 0 && progress.matched.0 + CLOSE >= status.committed.0
            };
            *node == me || status.progress.iter().any(|p| p.node == *node && p.active && has(p))
        };
        let ready = self.wish.voters.difference(&members.voters).all(close)
            && self.wish.voters.iter().filter(|node| close(node)).count() > self.wish.voters.len() / 2;
        if !ready {
            return Next::Wait;
        }
        Next::Ask(Change {
            voters: self.wish.voters.clone(),
            learners: self.wish.learners.clone(),
            context: self.context.encode(),
        })
    }

    fn step(&self, voters: &BTreeSet<NodeId>, learners: &BTreeSet<NodeId>) -> Next {
        let roster = self.addresses.iter().filter(|(node, _)| voters.contains(node) || learners.contains(node));
        let roster = roster.map(|(node, address)| (*node, address.clone())).collect();
        let context = Context { last: false, roster, ..Context::default() }.encode();
        Next::Ask(Change { voters: voters.clone(), learners: learners.clone(), context })
    }
}

/// The roster behind a change of members: what it says, and of what was known whoever is still a member.
pub(crate) fn merge(roster: &mut Roster, said: Roster, members: &Members) {
    roster.extend(said);
    roster.retain(|node, _| members.contains(*node));
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use verity_contract::Progress;
    use verity_types::LogIndex;

    use super::*;

    const ME: NodeId = NodeId(1);

    fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn status(voters: &[u64], learners: &[u64], matched: &[(u64, u64, bool)]) -> AgreementStatus {
        let members = Members { voters: nodes(voters), learners: nodes(learners), ..Members::default() };
        let progress = matched
            .iter()
            .map(|(node, at, active)| Progress { node: NodeId(*node), matched: LogIndex(*at), active: *active })
            .collect();
        AgreementStatus { members, progress, committed: LogIndex(5_000), ..AgreementStatus::default() }
    }

    /// The same of a group that has hardly begun.
    fn young(status: AgreementStatus) -> AgreementStatus {
        AgreementStatus { committed: LogIndex(7), ..status }
    }

    fn begin(members: &Members, voters: &[u64], learners: &[u64]) -> Changing {
        let wish = Change { voters: nodes(voters), learners: nodes(learners), context: Bytes::from_static(b"c") };
        let addresses = voters.iter().chain(learners).map(|n| (NodeId(*n), format!("host:{n}"))).collect();
        Changing::new(Mono(0), members, wish, addresses)
    }

    fn asked(next: Next) -> (BTreeSet<NodeId>, BTreeSet<NodeId>, Context) {
        let Next::Ask(change) = next else { panic!("{next:?} asks for nothing") };
        (change.voters, change.learners, Context::decode(change.context).expect("ours"))
    }

    #[test]
    fn a_newcomer_learns_before_it_votes() {
        let members = Members::of_voters(nodes(&[1, 2, 3]));
        let mut changing = begin(&members, &[1, 2, 3, 4], &[]);
        let first = changing.next(Mono(0), ME, &status(&[1, 2, 3], &[], &[]));
        let (voters, learners, context) = asked(first);
        assert_eq!((voters, learners), (nodes(&[1, 2, 3]), nodes(&[4])));
        assert!(!context.last && context.system.is_empty() && context.roster.contains_key(&NodeId(4)));
        let far = status(&[1, 2, 3], &[4], &[(2, 5_000, true), (3, 5_000, true), (4, 10, true)]);
        assert_eq!(changing.next(Mono(1), ME, &far), Next::Wait);
        let near = status(&[1, 2, 3], &[4], &[(2, 5_000, true), (3, 5_000, false), (4, 4_500, true)]);
        let (voters, learners, context) = asked(changing.next(Mono(1), ME, &near));
        assert_eq!((voters, learners), (nodes(&[1, 2, 3, 4]), nodes(&[])));
        assert!(context.last && context.system == "c");
    }

    #[test]
    fn a_newcomer_with_nothing_is_far_from_the_shortest_log() {
        let members = Members::of_voters(nodes(&[1, 2, 3]));
        let mut changing = begin(&members, &[1, 4, 5], &[]);
        asked(changing.next(Mono(0), ME, &young(status(&[1, 2, 3], &[], &[]))));
        let progress = |four| [(2, 7, true), (3, 7, true), (4, four, true), (5, 6, true)];
        let blank = young(status(&[1, 2, 3], &[4, 5], &progress(0)));
        assert_eq!(changing.next(Mono(1), ME, &blank), Next::Wait);
        let begun = young(status(&[1, 2, 3], &[4, 5], &progress(6)));
        let (voters, learners, _) = asked(changing.next(Mono(1), ME, &begun));
        assert_eq!((voters, learners), (nodes(&[1, 4, 5]), nodes(&[])));
    }

    #[test]
    fn one_that_never_comes_is_taken_back() {
        let members = Members::of_voters(nodes(&[1]));
        let mut changing = begin(&members, &[1, 2], &[]);
        asked(changing.next(Mono(0), ME, &status(&[1], &[], &[])));
        let silent = status(&[1], &[2], &[(2, 0, false)]);
        assert_eq!(changing.next(Mono(1), ME, &silent), Next::Wait);
        let late = Mono(0) + CHANGE_WAIT_MAX;
        let (voters, learners, _) = asked(changing.next(late, ME, &silent));
        assert_eq!((voters, learners), (nodes(&[1]), nodes(&[])));
        assert_eq!(changing.next(late, ME, &status(&[1], &[], &[])), Next::Failed);
    }

    #[test]
    fn learners_and_removals_need_no_waiting() {
        let members = Members::of_voters(nodes(&[1, 2, 3]));
        let mut changing = begin(&members, &[1, 2], &[5]);
        let (voters, learners, _) = asked(changing.next(Mono(0), ME, &status(&[1, 2, 3], &[], &[(2, 5_000, true)])));
        assert_eq!((voters, learners), (nodes(&[1, 2]), nodes(&[5])));
        let deaf = status(&[1, 2, 3], &[], &[(2, 5_000, false), (3, 5_000, true)]);
        assert_eq!(changing.next(Mono(0), ME, &deaf), Next::Wait, "one of two is no majority");
    }
}
