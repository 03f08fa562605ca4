//! Where a partition's group is, and how far that is the metadata's wish.
//!
//! - upon a change of members: it is remembered, with whether another follows;
//! - upon `Settle`: if the group consists of just these members, with no change under way, it has come to that version of
//!   its goal, and no leader takes it to an older one any more.
//!
//! The metadata let nodes go upon this alone. Facts of a leader would not do: they are as of a moment, and a leader that
//! has not heard of a later goal may begin another change behind them. Here it is a place in the group's own order. Only
//! the leader's duty proposes it, so none of an earlier leader comes behind what a later one has begun.
//!
//! Deliberately absent: what the goal is (the metadata say).

use std::collections::BTreeSet;

use verity_contract::Members;

use crate::machine::codec::record;

record! {
    /// A goal that the group is said to have come to.
    pub struct Settle {
        /// Which version of it.
        pub version: u64,
        /// Who then holds the partition.
        pub members: BTreeSet<u64>,
    }
}

record! {
    /// Where the group is.
    #[derive(Default)]
    pub struct Place {
        /// The goal that it came to last; 0 for where it began.
        pub settled: u64,
        /// Who holds it since the last change of members; nobody while another follows. `None` before any.
        pub members: Option<BTreeSet<u64>>,
    }
}

impl Place {
    /// The group has these members from here on.
    pub(super) fn on_members(&mut self, members: &Members) {
        let rests = members.outgoing.is_empty() && members.learners.is_empty();
        self.members = Some(members.voters.iter().filter(|_| rests).map(|node| node.0).collect());
    }

    /// False if the group is elsewhere, or further on.
    pub(super) fn on_settle(&mut self, settle: &Settle) -> bool {
        let here = self.members.as_ref().is_none_or(|members| *members == settle.members);
        if here && settle.version >= self.settled {
            self.settled = settle.version;
        }
        here && settle.version == self.settled
    }
}

#[cfg(test)]
mod tests {
    use verity_types::NodeId;

    use super::*;

    fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn a_group_settles_where_it_is_and_nowhere_else() {
        let mut place = Place::default();
        let settle = |version, ids: &[u64]| Settle { version, members: ids.iter().copied().collect() };
        assert!(place.on_settle(&settle(2, &[1, 2, 3])), "it has never left");
        assert!(!place.on_settle(&settle(1, &[1, 2, 3])), "an older goal");
        place.on_members(&Members { learners: nodes(&[4]), ..Members::of_voters(nodes(&[1, 2, 3])) });
        assert!(!place.on_settle(&settle(3, &[1, 2, 3])), "it is about to leave");
        place.on_members(&Members { outgoing: nodes(&[1, 2, 3]), ..Members::of_voters(nodes(&[2, 3, 4])) });
        assert!(!place.on_settle(&settle(3, &[2, 3, 4])), "it has not left yet");
        place.on_members(&Members::of_voters(nodes(&[2, 3, 4])));
        assert!(!place.on_settle(&settle(4, &[1, 2, 3])), "it is elsewhere");
        assert!(place.on_settle(&settle(4, &[2, 3, 4])) && place.settled == 4);
        assert!(place.on_settle(&settle(4, &[2, 3, 4])), "once more");
    }
}
