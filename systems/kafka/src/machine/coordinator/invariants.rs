//! What must always hold.

use super::group::Kind;
use super::machine::Coordinator;
use super::timers::{Key, Timers};
use super::transaction::TransactionState;

impl Coordinator {
    pub(super) fn check(&self) {
        let mut timers = Timers::default();
        timers.set(Key::Sweep, self.sweep_at);
        for (id, group) in &self.groups {
            timers.set(Key::Group(id.clone()), group.deadline());
            group.offsets.invariants();
            assert!(!group.is_void(), "a group that says nothing is none");
            match &group.kind {
                Kind::Classic { group } => group.invariants(),
                Kind::Consumer { group } => group.invariants(),
                Kind::Share { group } => group.invariants(),
            }
        }
        for (name, share) in &self.shares {
            timers.set(Key::Share(name.clone()), share.deadline());
            share.invariants();
            let kind = self.groups.get(&name.group_id).map(|group| &group.kind);
            assert!(matches!(kind, Some(Kind::Share { .. })), "records are shared by a share group");
        }
        for (id, one) in &self.transactions {
            timers.set(Key::Transaction(id.clone()), one.deadline());
            one.invariants();
            assert!(one.number <= self.transaction_count, "transactions are counted");
            assert!(one.producer_id < self.next_producer_id, "producer ids come from here");
            assert!(one.next_producer_id < self.next_producer_id, "and those to come, too");
        }
        assert_eq!(timers, self.timers, "timers follow from the state");
        let open = self.transactions.values().filter(|one| one.state == TransactionState::Ongoing);
        let open: Vec<_> = open.map(|one| (one.producer_id, &one.groups)).collect();
        for (id, group) in &self.groups {
            for producer in group.offsets.pending.keys() {
                let waits = open.iter().any(|(own, groups)| own == producer && groups.contains(id));
                assert!(waits, "offsets wait for an open transaction that knows of them");
            }
        }
    }
}
