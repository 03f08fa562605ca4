//! The proposer: it asks what may have been chosen, and proposes that.

use std::collections::{BTreeMap, BTreeSet};

use super::{AcceptorId, Message, Number};
use crate::Mutant;

/// Where a proposer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProposerState {
    /// It wants nothing.
    #[default]
    Idle,
    /// It picked a number; its `Prepare`s are about to leave.
    Preparing,
    /// It counts promises.
    WaitingPromises,
    /// A majority promised; its `Accept`s are about to leave.
    Accepting,
    /// It counts acceptances.
    WaitingAccepts,
    /// A majority accepted: the value is chosen.
    Success,
    /// No majority answered, or too many refused.
    Failed,
}

/// What happens to a proposer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<V> {
    /// Get this value chosen, or learn which one was.
    Propose(V),
    /// The number is on stable storage, and the messages that were put out have left.
    Sent,
    /// An acceptor says this.
    From(AcceptorId, Message<V>),
    /// It has waited long enough.
    Timeout,
    /// Begin anew after a failure.
    Retry,
    /// The chosen value was taken note of.
    Done,
}

/// One proposer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proposer<V> {
    state: ProposerState,
    id: u64,
    proposers: u64,
    acceptors: BTreeSet<AcceptorId>,
    number: Number,
    /// The highest number that it knows of.
    seen: Number,
    value: Option<V>,
    promises: BTreeMap<AcceptorId, Option<(Number, V)>>,
    accepts: BTreeSet<AcceptorId>,
    rejects: BTreeSet<AcceptorId>,
    mutant: Option<Mutant>,
}

impl<V: Clone> Proposer<V> {
    /// Proposer `id` of so many; its numbers are those that leave `id` when divided by `proposers`.
    ///
    /// # Panics
    /// If `id` is not below `proposers`, or nobody accepts.
    #[must_use]
    pub fn new(id: u64, proposers: u64, acceptors: impl IntoIterator<Item = AcceptorId>) -> Self {
        let acceptors: BTreeSet<_> = acceptors.into_iter().collect();
        assert!(id < proposers && !acceptors.is_empty(), "a proposer has its own numbers, and acceptors to ask");
        Self {
            state: ProposerState::Idle,
            id,
            proposers,
            acceptors,
            number: Number(0),
            seen: Number(0),
            value: None,
            promises: BTreeMap::new(),
            accepts: BTreeSet::new(),
            rejects: BTreeSet::new(),
            mutant: None,
        }
    }

    /// A proposer that breaks a rule on purpose, for tests of the tests.
    #[doc(hidden)]
    #[must_use]
    pub fn with_mutant(mut self, mutant: Option<Mutant>) -> Self {
        self.mutant = mutant;
        self
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> ProposerState {
        self.state
    }

    /// The number of its latest proposal.
    #[must_use]
    pub fn number(&self) -> Number {
        self.number
    }

    /// The value that was chosen, once it knows.
    #[must_use]
    pub fn chosen(&self) -> Option<&V> {
        self.value.as_ref().filter(|_| self.state == ProposerState::Success)
    }

    fn is_majority(&self, count: usize) -> bool {
        count > self.acceptors.len() / 2
    }

    fn to_all(&self, message: &Message<V>) -> Vec<(AcceptorId, Message<V>)> {
        self.acceptors.iter().map(|acceptor| (*acceptor, message.clone())).collect()
    }

    /// Takes an event and says what to send. What does not fit where the proposer stands is ignored: it is late.
    pub fn on(&mut self, event: Event<V>) -> Vec<(AcceptorId, Message<V>)> {
        use ProposerState::{Accepting, Failed, Idle, Preparing, Success, WaitingAccepts, WaitingPromises};
        match (self.state, event) {
            (Idle, Event::Propose(value)) => return self.propose(value),
            (Preparing, Event::Sent) => self.state = WaitingPromises,
            (Accepting, Event::Sent) => self.state = WaitingAccepts,
            (WaitingPromises, Event::From(from, Message::Promise(n, accepted))) if self.expects(from, n) => {
                return self.on_promise(from, accepted);
            }
            (WaitingAccepts, Event::From(from, Message::Accepted(n))) if self.expects(from, n) => {
                self.accepts.insert(from);
                if self.is_majority(self.accepts.len()) {
                    self.state = Success;
                }
            }
            (WaitingPromises | WaitingAccepts, Event::From(from, Message::Reject(n, promised)))
                if self.expects(from, n) =>
            {
                self.on_reject(from, promised);
            }
            (WaitingPromises | WaitingAccepts, Event::Timeout) => self.state = Failed,
            (Failed, Event::Retry) | (Success, Event::Done) => self.state = Idle,
            _ => {}
        }
        Vec::new()
    }

    fn expects(&self, from: AcceptorId, n: Number) -> bool {
        n == self.number && self.acceptors.contains(&from)
    }

    /// Phase 1a.
    fn propose(&mut self, value: V) -> Vec<(AcceptorId, Message<V>)> {
        self.number = Number((self.seen.0 / self.proposers + 1) * self.proposers + self.id);
        self.seen = self.number;
        self.value = Some(value);
        self.promises.clear();
        self.accepts.clear();
        self.rejects.clear();
        self.state = ProposerState::Preparing;
        self.to_all(&Message::Prepare(self.number))
    }

    /// Phase 2a, once a majority has promised.
    fn on_promise(&mut self, from: AcceptorId, accepted: Option<(Number, V)>) -> Vec<(AcceptorId, Message<V>)> {
        self.promises.insert(from, accepted);
        if !self.is_majority(self.promises.len()) {
            return Vec::new();
        }
        let highest = self.promises.values().flatten().max_by_key(|(n, _)| *n);
        if let Some((_, value)) = highest.filter(|_| self.mutant != Some(Mutant::ValueChoiceIgnored)) {
            self.value = Some(value.clone());
        }
        self.promises.clear();
        self.rejects.clear();
        self.state = ProposerState::Accepting;
        let value = self.value.clone().expect("it proposes something");
        self.to_all(&Message::Accept(self.number, value))
    }

    fn on_reject(&mut self, from: AcceptorId, promised: Number) {
        self.seen = self.seen.max(promised);
        self.rejects.insert(from);
        if !self.is_majority(self.acceptors.len() - self.rejects.len()) {
            self.state = ProposerState::Failed;
        }
    }

    /// Asserts what must always hold.
    pub fn invariants(&self) {
        assert!(self.seen >= self.number, "it knows its own number");
        assert!(!self.is_majority(self.promises.len()), "a majority of promises ends phase 1");
        if self.state == ProposerState::Success {
            assert!(self.is_majority(self.accepts.len()), "success is a majority of acceptances");
        }
    }
}
