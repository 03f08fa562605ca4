//! Concurrent values of one key, each under the dot of the write that made it.
//!
//! - upon a write with context `C` at actor `a`: values whose dots `C` covers are replaced; the rest are concurrent
//!   and stay; the new value gets the next dot of `a` (Preguiça et al. 2010, "Dotted Version Vectors").
//! - upon a sync of two replicas: a value survives if both hold it, or if one holds it and the other has not seen its
//!   dot. Seen and not held means overwritten (Almeida et al. 2014, "Scalable and Accurate Causality Tracking").
//! - upon a read: all values and one context that covers them.
//!
//! Why dots: with a bare vector per value, two clients that write through one node with stale contexts make siblings
//! that no later write without their exact context removes, and merging re-creates them ("sibling explosion"). A dot
//! names one write, so a value is present once or is known to be overwritten.
//!
//! HAZARD: the state of an actor moves only by its own `put` and by `sync` of whole states. An actor that writes
//! through two replicas at once, or after losing its state, reuses dots and loses values.

use std::collections::BTreeMap;

use verity_types::NodeId;

use crate::{Dot, VectorError, VersionVector};

/// A key holds no more concurrent values than this.
pub const SIBLINGS_MAX: usize = 256;

/// The values of one key at one replica: none, one, or several that are concurrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Siblings<V> {
    seen: VersionVector,
    values: BTreeMap<Dot, V>,
}

impl<V> Default for Siblings<V> {
    fn default() -> Self {
        Self { seen: VersionVector::new(), values: BTreeMap::new() }
    }
}

impl<V: Clone> Siblings<V> {
    /// A key that was never written.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A state as another replica sent it.
    ///
    /// `None` if a dot is not covered by `seen`, or there are more than [`SIBLINGS_MAX`] values: no honest replica
    /// sends either.
    #[must_use]
    pub fn from_parts(seen: VersionVector, values: BTreeMap<Dot, V>) -> Option<Self> {
        let covered = values.keys().all(|dot| dot.counter > 0 && seen.covers(*dot));
        (covered && values.len() <= SIBLINGS_MAX).then_some(Self { seen, values })
    }

    /// What a reader hands back with its next write: covers every value here.
    #[must_use]
    pub fn context(&self) -> &VersionVector {
        &self.seen
    }

    /// The values, by dot.
    pub fn iter(&self) -> impl Iterator<Item = (Dot, &V)> {
        self.values.iter().map(|(dot, value)| (*dot, value))
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True if the key was never written, or deleted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Writes `value` at `actor`, replacing what the writer had read as `context`.
    ///
    /// # Errors
    /// A bound is reached ([`VectorError`]); nothing has changed then.
    pub fn put(&mut self, context: &VersionVector, value: V, actor: NodeId) -> Result<Dot, VectorError> {
        let mut seen = self.seen.merged(context)?;
        let dot = seen.increment(actor)?;
        let concurrent = self.values.keys().filter(|dot| !context.covers(**dot)).count();
        if concurrent >= SIBLINGS_MAX {
            return Err(VectorError::TooManySiblings);
        }
        self.values.retain(|dot, _| !context.covers(*dot));
        self.values.insert(dot, value);
        self.seen = seen;
        self.invariants();
        Ok(dot)
    }

    /// Deletes what the writer had read as `context`; concurrent values stay.
    ///
    /// # Errors
    /// [`VectorError::TooManyActors`]; nothing has changed then.
    pub fn remove(&mut self, context: &VersionVector) -> Result<(), VectorError> {
        self.seen = self.seen.merged(context)?;
        self.values.retain(|dot, _| !context.covers(*dot));
        Ok(())
    }

    /// Takes in another replica's state.
    ///
    /// # Errors
    /// A bound is reached ([`VectorError`]); nothing has changed then.
    pub fn sync(&mut self, other: &Self) -> Result<(), VectorError> {
        let seen = self.seen.merged(&other.seen)?;
        let mut values: BTreeMap<Dot, V> = BTreeMap::new();
        for (dot, value) in &self.values {
            if other.values.contains_key(dot) || !other.seen.covers(*dot) {
                values.insert(*dot, value.clone());
            }
        }
        for (dot, value) in &other.values {
            if !self.seen.covers(*dot) {
                values.insert(*dot, value.clone());
            }
        }
        if values.len() > SIBLINGS_MAX {
            return Err(VectorError::TooManySiblings);
        }
        *self = Self { seen, values };
        self.invariants();
        Ok(())
    }

    fn invariants(&self) {
        assert!(self.values.len() <= SIBLINGS_MAX, "the number of concurrent values is bounded");
        assert!(self.values.keys().all(|dot| self.seen.covers(*dot)), "a value that is held was seen");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Relation;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    fn values<V: Clone + Ord>(siblings: &Siblings<V>) -> Vec<V> {
        let mut all: Vec<V> = siblings.iter().map(|(_, value)| value.clone()).collect();
        all.sort();
        all
    }

    /// The sequence diagram: concurrent writes at A and B meet at C, and a write with their context resolves them.
    #[test]
    fn diagram_concurrent_writes_meet_and_resolve() {
        let none = VersionVector::new();
        let [mut node_a, mut node_b, mut node_c] = [Siblings::new(), Siblings::new(), Siblings::new()];
        node_a.put(&none, "Y", A).unwrap();
        node_b.put(&none, "Z", B).unwrap();
        assert_eq!(node_a.context().relation(node_b.context()), Relation::Concurrent);
        node_c.sync(&node_a).unwrap();
        node_c.sync(&node_b).unwrap();
        assert_eq!(values(&node_c), ["Y", "Z"]);
        assert_eq!(*node_c.context(), VersionVector::from_counters([(A, 1), (B, 1)]).unwrap());
        let context = node_c.context().clone();
        node_c.put(&context, "W", C).unwrap();
        assert_eq!(values(&node_c), ["W"]);
        assert_eq!(*node_c.context(), VersionVector::from_counters([(A, 1), (B, 1), (C, 1)]).unwrap());
        node_a.sync(&node_c).unwrap();
        assert_eq!(values(&node_a), ["W"], "the resolved value replaces Y at A");
    }

    #[test]
    fn interleaved_clients_do_not_explode() {
        // Two clients write through one node, each with the context of its own last read.
        let mut node = Siblings::new();
        let mut contexts = [VersionVector::new(), VersionVector::new()];
        for round in 0..200 {
            let client = round % 2;
            node.put(&contexts[client], round, A).unwrap();
            contexts[client] = node.context().clone();
            assert!(node.len() <= 2, "{} values after {round} rounds", node.len());
        }
    }

    #[test]
    fn a_removed_value_does_not_come_back() {
        let (mut here, mut there) = (Siblings::new(), Siblings::new());
        here.put(&VersionVector::new(), 1, A).unwrap();
        there.sync(&here).unwrap();
        let context = here.context().clone();
        here.remove(&context).unwrap();
        there.put(&VersionVector::new(), 2, B).unwrap();
        here.sync(&there).unwrap();
        assert_eq!(values(&here), [2], "1 was removed, 2 is concurrent");
    }

    #[test]
    fn blind_writes_end_at_the_bound() {
        let mut node = Siblings::new();
        for value in 0..SIBLINGS_MAX {
            node.put(&VersionVector::new(), value, A).unwrap();
        }
        let before = node.clone();
        assert_eq!(node.put(&VersionVector::new(), 0, A), Err(VectorError::TooManySiblings));
        assert_eq!(node, before);
        let context = node.context().clone();
        assert!(node.put(&context, 0, A).is_ok());
        assert_eq!(node.len(), 1);
    }

    #[test]
    fn a_state_that_contradicts_itself_is_refused() {
        let dot = Dot { actor: A, counter: 2 };
        let seen = VersionVector::from_counters([(A, 1)]).unwrap();
        assert_eq!(Siblings::from_parts(seen, BTreeMap::from([(dot, 1)])), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Read { client: usize, node: usize },
        Put { client: usize, node: usize },
        Sync { from: usize, to: usize },
    }

    fn runs() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0_usize..3, 0_usize..3).prop_map(|(client, node)| Step::Read { client, node }),
            (0_usize..3, 0_usize..3).prop_map(|(client, node)| Step::Put { client, node }),
            (0_usize..3, 0_usize..3).prop_map(|(from, to)| Step::Sync { from, to }),
        ];
        prop::collection::vec(step, 1..40)
    }

    type Sync = fn(&mut Siblings<u32>, &Siblings<u32>);

    /// Runs the steps beside the plain meaning (explicit sets of writes); true if both agree throughout.
    ///
    /// In the plain meaning a write's past is the set of writes that its writer had read, with their pasts; a node
    /// knows a set of writes and shows those that are in the past of no other that it knows.
    fn keeps_exactly_the_concurrent(sync: Sync, steps: &[Step]) -> bool {
        let mut nodes = [Siblings::new(), Siblings::new(), Siblings::new()];
        let mut contexts = [VersionVector::new(), VersionVector::new(), VersionVector::new()];
        let mut known: [BTreeSet<u32>; 3] = Default::default();
        let mut read: [BTreeSet<u32>; 3] = Default::default();
        let mut pasts: Vec<BTreeSet<u32>> = Vec::new();
        let shown = |known: &BTreeSet<u32>, pasts: &[BTreeSet<u32>]| -> Vec<u32> {
            known.iter().copied().filter(|w| !known.iter().any(|v| pasts[*v as usize].contains(w))).collect()
        };
        for step in steps {
            match *step {
                Step::Read { client, node } => {
                    contexts[client] = nodes[node].context().clone();
                    read[client] = known[node].clone();
                }
                Step::Put { client, node } => {
                    let write = pasts.len() as u32;
                    nodes[node].put(&contexts[client], write, NodeId(node as u64)).unwrap();
                    pasts.push(read[client].clone());
                    known[node].extend(&read[client]);
                    known[node].insert(write);
                }
                Step::Sync { from, to } => {
                    let other = nodes[from].clone();
                    sync(&mut nodes[to], &other);
                    let more = known[from].clone();
                    known[to].extend(more);
                }
            }
            if (0..3).any(|node| values(&nodes[node]) != shown(&known[node], &pasts)) {
                return false;
            }
        }
        true
    }

    proptest! {
        #[test]
        fn siblings_are_exactly_the_concurrent_writes(steps in runs()) {
            prop_assert!(keeps_exactly_the_concurrent(|to, from| to.sync(from).unwrap(), &steps));
        }

        #[test]
        fn sync_is_idempotent_and_commutes(steps in runs()) {
            let mut nodes = [Siblings::new(), Siblings::new(), Siblings::new()];
            for (value, step) in steps.iter().enumerate() {
                if let Step::Put { node, client } = *step {
                    let context = nodes[client].context().clone();
                    nodes[node].put(&context, value, NodeId(node as u64)).unwrap();
                }
            }
            let [a, b, c] = &nodes;
            let join = |x: &Siblings<usize>, y: &Siblings<usize>| { let mut x = x.clone(); x.sync(y).unwrap(); x };
            prop_assert_eq!(join(a, a), a.clone());
            prop_assert_eq!(join(a, b), join(b, a));
            prop_assert_eq!(join(&join(a, b), c), join(a, &join(b, c)));
        }
    }

    /// Canaries: a sync that brings overwritten values back, and one in which the last writer wins.
    #[test]
    fn wrong_syncs_are_caught() {
        let union: Sync = |to, from| {
            to.seen = to.seen.merged(&from.seen).unwrap();
            to.values.extend(from.values.clone());
        };
        let last_wins: Sync = |to, from| {
            to.sync(from).unwrap();
            while to.values.len() > 1 {
                to.values.pop_first();
            }
        };
        for sync in [union, last_wins] {
            let mut runner = proptest::test_runner::TestRunner::deterministic();
            let caught = runner.run(&runs(), |steps| {
                prop_assert!(keeps_exactly_the_concurrent(sync, &steps));
                Ok(())
            });
            assert!(caught.is_err(), "a wrong sync passed");
        }
    }
}
