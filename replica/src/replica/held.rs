//! What the logs of all groups hold in memory, and which of them hold the most.
//!
//! Kept up to date group by group, since looking at all of them costs more than all else when there are many.

use std::collections::BTreeSet;

use verity_types::GroupId;

/// Bytes, as far as counted.
#[derive(Debug, Default)]
pub(super) struct Held {
    total: u64,
    by_size: BTreeSet<(u64, GroupId)>,
}

impl Held {
    /// All groups' bytes.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// A group holds `after` bytes, and was counted with `before`; 0 of either if it is not there.
    pub(super) fn count(&mut self, group: GroupId, before: u64, after: u64) {
        if before == after {
            return;
        }
        self.total = self.total + after - before;
        self.by_size.remove(&(before, group));
        if after > 0 {
            self.by_size.insert((after, group));
        }
    }

    /// The groups that hold something, those that hold the most first.
    pub(super) fn largest_first(&self) -> impl Iterator<Item = GroupId> {
        self.by_size.iter().rev().map(|(_, group)| *group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stand_by_what_they_hold_now() {
        let mut held = Held::default();
        let [a, b, c] = [1, 2, 3].map(GroupId);
        held.count(a, 0, 5);
        held.count(b, 0, 9);
        held.count(c, 0, 0);
        held.count(a, 5, 12);
        assert_eq!((held.total(), held.largest_first().collect::<Vec<_>>()), (21, vec![a, b]));
        held.count(a, 12, 0);
        held.count(b, 9, 9);
        assert_eq!((held.total(), held.largest_first().collect::<Vec<_>>()), (9, vec![b]));
    }
}
