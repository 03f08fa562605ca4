//! Version vectors: which of two states has seen more, or whether neither has.
//!
//! - upon a write at actor `a`: `a`'s counter grows by one; the pair is the write's dot (Parker et al. 1983, §3).
//! - upon a merge: the larger counter of each actor; the result has seen what either has (§3).
//! - upon a comparison: equal, descends (has seen all of the other and more), ancestor, or concurrent (§3).
//!
//! An absent actor counts as 0, and 0 is never stored, so equal histories are equal values.
//!
//! HAZARD: an actor's counter must survive its crash. An actor that forgets it hands out a dot twice, and two
//! different writes then look like one.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;
use verity_types::NodeId;

/// A vector names no more actors than this: what a peer sends is bounded.
pub const ACTORS_MAX: usize = 1_024;

/// One write: the `counter`-th of `actor`. Counters start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who wrote.
    pub actor: NodeId,
    /// Which of its writes.
    pub counter: u64,
}

/// How one vector stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// Both have seen the same writes: same value.
    Equal,
    /// The first has seen all that the second has, and more: it replaces the second.
    Descends,
    /// The second has seen all that the first has, and more: update to it.
    Ancestor,
    /// Each has seen a write that the other has not: keep both.
    Concurrent,
}

/// Why a vector cannot grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VectorError {
    /// More than [`ACTORS_MAX`] actors.
    #[error("a version vector names at most {ACTORS_MAX} actors: let fewer nodes coordinate writes of one key")]
    TooManyActors,
    /// A counter at its end, which only a forged vector reaches.
    #[error("the counter of actor {0} is at its end: the vector was forged")]
    CounterExhausted(NodeId),
    /// More than [`crate::SIBLINGS_MAX`] concurrent values.
    #[error("a key holds at most {max} concurrent values: read it and write back with the context", max = crate::SIBLINGS_MAX)]
    TooManySiblings,
}

/// For each actor, how many of its writes have been seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionVector {
    counters: BTreeMap<NodeId, u64>,
}

impl VersionVector {
    /// The vector that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A vector of the given counters; a repeated actor keeps its larger one.
    ///
    /// # Errors
    /// [`VectorError::TooManyActors`].
    pub fn from_counters(counters: impl IntoIterator<Item = (NodeId, u64)>) -> Result<Self, VectorError> {
        let mut vector = Self::new();
        for (actor, counter) in counters {
            vector.raise(actor, counter)?;
        }
        Ok(vector)
    }

    /// How many writes of `actor` have been seen.
    #[must_use]
    pub fn get(&self, actor: NodeId) -> u64 {
        self.counters.get(&actor).copied().unwrap_or(0)
    }

    /// Actors and their counters, by actor.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        self.counters.iter().map(|(actor, counter)| (*actor, *counter))
    }

    /// True if nothing has been seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// True if the write `dot` has been seen.
    #[must_use]
    pub fn covers(&self, dot: Dot) -> bool {
        dot.counter <= self.get(dot.actor)
    }

    /// Counts one more write of `actor`.
    ///
    /// # Errors
    /// [`VectorError::TooManyActors`], [`VectorError::CounterExhausted`]; nothing has changed then.
    pub fn increment(&mut self, actor: NodeId) -> Result<Dot, VectorError> {
        let counter = self.get(actor).checked_add(1).ok_or(VectorError::CounterExhausted(actor))?;
        self.raise(actor, counter)?;
        Ok(Dot { actor, counter })
    }

    /// The vector that has seen what either has.
    ///
    /// # Errors
    /// [`VectorError::TooManyActors`].
    pub fn merged(&self, other: &Self) -> Result<Self, VectorError> {
        let mut merged = self.clone();
        for (actor, counter) in other.iter() {
            merged.raise(actor, counter)?;
        }
        Ok(merged)
    }

    /// How this vector stands to `other`.
    #[must_use]
    pub fn relation(&self, other: &Self) -> Relation {
        match (self.includes(other), other.includes(self)) {
            (true, true) => Relation::Equal,
            (true, false) => Relation::Descends,
            (false, true) => Relation::Ancestor,
            (false, false) => Relation::Concurrent,
        }
    }

    /// True if every write that `other` has seen has been seen here.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        other.iter().all(|(actor, counter)| counter <= self.get(actor))
    }

    fn raise(&mut self, actor: NodeId, counter: u64) -> Result<(), VectorError> {
        if counter <= self.get(actor) {
            return Ok(());
        }
        if self.counters.len() >= ACTORS_MAX && !self.counters.contains_key(&actor) {
            return Err(VectorError::TooManyActors);
        }
        self.counters.insert(actor, counter);
        Ok(())
    }
}

impl fmt::Display for VersionVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (place, (actor, counter)) in self.iter().enumerate() {
            write!(f, "{}{actor}:{counter}", if place == 0 { "" } else { "," })?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn vv(counters: &[(NodeId, u64)]) -> VersionVector {
        VersionVector::from_counters(counters.iter().copied()).unwrap()
    }

    #[test]
    fn table_sequential_updates_descend() {
        assert_eq!(vv(&[(A, 3)]).relation(&vv(&[(A, 2)])), Relation::Descends);
    }

    #[test]
    fn table_concurrent_updates() {
        assert_eq!(vv(&[(A, 2), (B, 1)]).relation(&vv(&[(A, 1), (B, 2)])), Relation::Concurrent);
    }

    #[test]
    fn table_synchronized_is_equal() {
        assert_eq!(vv(&[(A, 2), (B, 2)]).relation(&vv(&[(A, 2), (B, 2)])), Relation::Equal);
        assert_eq!(vv(&[(A, 2), (B, 0)]), vv(&[(A, 2)]), "nothing seen is nothing stored");
    }

    #[test]
    fn table_partial_knowledge_is_ancestor() {
        assert_eq!(vv(&[(A, 2)]).relation(&vv(&[(A, 2), (B, 1)])), Relation::Ancestor);
    }

    #[test]
    fn graph_ordering_examples() {
        assert_eq!(vv(&[(A, 2), (B, 1)]).relation(&vv(&[(A, 1), (B, 1)])), Relation::Descends);
        assert_eq!(vv(&[(A, 2), (B, 1)]).to_string(), "{1:2,2:1}");
    }

    #[test]
    fn graph_evolution_and_merge() {
        let first = vv(&[(A, 1)]);
        let (mut left, mut right) = (first.clone(), first);
        left.increment(A).unwrap();
        right.increment(B).unwrap();
        assert_eq!(left, vv(&[(A, 2)]));
        assert_eq!(right, vv(&[(A, 1), (B, 1)]));
        assert_eq!(left.relation(&right), Relation::Concurrent);
        let merged = left.merged(&right).unwrap();
        assert_eq!(merged, vv(&[(A, 2), (B, 1)]));
        assert_eq!(merged.relation(&left), Relation::Descends);
        assert_eq!(merged.relation(&right), Relation::Descends);
    }

    #[test]
    fn bounds_hold() {
        let mut full = VersionVector::new();
        for actor in 0..ACTORS_MAX as u64 {
            full.increment(NodeId(actor)).unwrap();
        }
        let before = full.clone();
        assert_eq!(full.increment(NodeId(9_999)), Err(VectorError::TooManyActors));
        assert_eq!(full, before);
        let mut forged = vv(&[(A, u64::MAX)]);
        assert_eq!(forged.increment(A), Err(VectorError::CounterExhausted(A)));
    }

    /// What a vector stands for: the set of writes that it has seen.
    fn events(vector: &VersionVector) -> BTreeSet<Dot> {
        vector.iter().flat_map(|(actor, count)| (1..=count).map(move |counter| Dot { actor, counter })).collect()
    }

    fn vectors() -> impl Strategy<Value = VersionVector> {
        prop::collection::vec((1_u64..4, 0_u64..4), 0..4)
            .prop_map(|pairs| VersionVector::from_counters(pairs.into_iter().map(|(a, c)| (NodeId(a), c))).unwrap())
    }

    fn by_sets(a: &VersionVector, b: &VersionVector) -> Relation {
        let (a, b) = (events(a), events(b));
        match (a.is_superset(&b), b.is_superset(&a)) {
            (true, true) => Relation::Equal,
            (true, false) => Relation::Descends,
            (false, true) => Relation::Ancestor,
            (false, false) => Relation::Concurrent,
        }
    }

    proptest! {
        #[test]
        fn relation_is_that_of_the_event_sets(a in vectors(), b in vectors()) {
            prop_assert_eq!(a.relation(&b), by_sets(&a, &b));
            let union: BTreeSet<Dot> = events(&a).union(&events(&b)).copied().collect();
            prop_assert_eq!(events(&a.merged(&b).unwrap()), union);
        }

        #[test]
        fn inclusion_is_a_partial_order(a in vectors(), b in vectors(), c in vectors()) {
            prop_assert!(a.includes(&a));
            prop_assert!(!(a.includes(&b) && b.includes(&a)) || a == b);
            prop_assert!(!(a.includes(&b) && b.includes(&c)) || a.includes(&c));
        }

        #[test]
        fn merge_is_the_least_upper_bound(a in vectors(), b in vectors(), c in vectors()) {
            let merged = a.merged(&b).unwrap();
            prop_assert_eq!(&merged, &b.merged(&a).unwrap());
            prop_assert!(merged.includes(&a) && merged.includes(&b));
            prop_assert!(!(c.includes(&a) && c.includes(&b)) || c.includes(&merged));
            prop_assert_eq!(merged.merged(&c).unwrap(), a.merged(&b.merged(&c).unwrap()).unwrap());
        }
    }

    /// Canary: a comparison by sum of counters orders what is concurrent, and the property sees it.
    #[test]
    fn a_wrong_relation_is_caught() {
        let by_sum = |a: &VersionVector, b: &VersionVector| {
            let sum = |v: &VersionVector| v.iter().map(|(_, counter)| counter).sum::<u64>();
            match sum(a).cmp(&sum(b)) {
                std::cmp::Ordering::Equal => Relation::Equal,
                std::cmp::Ordering::Greater => Relation::Descends,
                std::cmp::Ordering::Less => Relation::Ancestor,
            }
        };
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let caught = runner.run(&(vectors(), vectors()), |(a, b)| {
            prop_assert_eq!(by_sum(&a, &b), by_sets(&a, &b));
            Ok(())
        });
        assert!(caught.is_err(), "a wrong relation passed");
    }
}
