//! The way of one member from what it has to what it is to have.

use std::collections::BTreeSet;

use super::{Assignment, Consumer, ConsumerMember, MemberState};
use crate::wire::Uuid;

/// What a member reports to own.
pub(super) type Owned<'a> = Option<&'a BTreeSet<(Uuid, i32)>>;

fn overlaps(all: &Assignment, owned: Owned<'_>) -> bool {
    // Who does not say what it owns, may own all of it.
    let Some(owned) = owned else { return !all.is_empty() };
    owned.iter().any(|(topic, partition)| all.get(topic).is_some_and(|own| own.contains(partition)))
}

fn put(all: &mut Assignment, topic: Uuid, partitions: BTreeSet<i32>) {
    if !partitions.is_empty() {
        all.insert(topic, partitions);
    }
}

impl ConsumerMember {
    fn enter(&mut self, epoch: i32, state: MemberState) {
        self.previous_epoch = self.epoch;
        self.epoch = epoch;
        self.state = state;
    }
}

impl Consumer {
    /// The member after its heartbeat.
    pub(super) fn reconciled(&self, member_id: &str, now: u64, owned: Owned<'_>) -> ConsumerMember {
        let mut member = self.members[member_id].clone();
        match member.state {
            MemberState::Stable if member.epoch == self.target_epoch => {}
            MemberState::Unrevoked if overlaps(&member.revoking, owned) => {}
            _ => self.approach(&mut member, member_id, now, owned),
        }
        member
    }

    fn is_free(&self, topic: Uuid, partition: i32, member_id: &str) -> bool {
        // The member's own that it has given up are free for it.
        !self.members.iter().any(|(id, member)| id != member_id && member.holds(topic, partition))
    }

    fn approach(&self, member: &mut ConsumerMember, member_id: &str, now: u64, owned: Owned<'_>) {
        let none = Assignment::new();
        let empty = BTreeSet::new();
        let target = self.target.get(member_id).unwrap_or(&none);
        let (mut keeps, mut revokes, mut gets) = (none.clone(), none.clone(), none.clone());
        let mut unreleased = false;
        let topics: BTreeSet<Uuid> = target.keys().chain(member.assigned.keys()).copied().collect();
        for topic in topics {
            let wanted = target.get(&topic).unwrap_or(&empty);
            let present = member.assigned.get(&topic).unwrap_or(&empty);
            put(&mut keeps, topic, present & wanted);
            put(&mut revokes, topic, present - wanted);
            let missing = wanted - present;
            let free: BTreeSet<i32> =
                missing.iter().copied().filter(|partition| self.is_free(topic, *partition, member_id)).collect();
            unreleased |= free.len() != missing.len();
            put(&mut gets, topic, free);
        }
        if overlaps(&revokes, owned) {
            // It has given up what it was told before, if that was so: the next epoch counts that.
            let next = member.epoch.saturating_add(i32::from(member.state == MemberState::Unrevoked));
            member.enter(next.min(self.target_epoch), MemberState::Unrevoked);
            member.assigned = keeps;
            if member.revoking != revokes {
                member.revoke_until = Some(now.saturating_add(u64::from(member.rebalance_timeout_ms)));
            }
            member.revoking = revokes;
            return;
        }
        member.revoking.clear();
        member.revoke_until = None;
        for (topic, partitions) in gets {
            keeps.entry(topic).or_default().extend(partitions);
        }
        member.assigned = keeps;
        let state = if unreleased { MemberState::Unreleased } else { MemberState::Stable };
        if (member.epoch, member.state) != (self.target_epoch, state) {
            member.enter(self.target_epoch, state);
        }
    }
}
