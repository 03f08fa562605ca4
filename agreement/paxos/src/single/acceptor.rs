//! The acceptor: the memory that makes a choice last.

use super::{Message, Number};
use crate::Mutant;

/// Where an acceptor stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AcceptorState {
    /// It has promised nothing.
    #[default]
    Ready,
    /// It has promised a number and accepted nothing under it.
    Promised,
    /// It has accepted a proposal under its latest promise.
    Accepted,
}

/// One acceptor. All of it must survive a crash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acceptor<V> {
    state: AcceptorState,
    promised: Option<Number>,
    accepted: Option<(Number, V)>,
    mutant: Option<Mutant>,
}

impl<V: Clone> Default for Acceptor<V> {
    fn default() -> Self {
        Self { state: AcceptorState::Ready, promised: None, accepted: None, mutant: None }
    }
}

impl<V: Clone> Acceptor<V> {
    /// An acceptor that breaks a rule on purpose, for tests of the tests.
    #[doc(hidden)]
    #[must_use]
    pub fn with_mutant(mutant: Option<Mutant>) -> Self {
        Self { mutant, ..Self::default() }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> AcceptorState {
        self.state
    }

    /// The highest number that it promised.
    #[must_use]
    pub fn promised(&self) -> Option<Number> {
        self.promised
    }

    /// The highest-numbered proposal that it accepted.
    #[must_use]
    pub fn accepted(&self) -> Option<&(Number, V)> {
        self.accepted.as_ref()
    }

    /// Takes a proposer's message and answers it. The answer may leave once the acceptor is on stable storage.
    pub fn on(&mut self, message: Message<V>) -> Option<Message<V>> {
        match message {
            Message::Prepare(n) => match self.promised {
                Some(promised) if n <= promised => Some(Message::Reject(n, promised)),
                _ => {
                    self.promised = Some(n);
                    self.state = AcceptorState::Promised;
                    Some(Message::Promise(n, self.accepted.clone()))
                }
            },
            Message::Accept(n, value) => match self.promised {
                Some(promised) if n < promised && self.mutant != Some(Mutant::AcceptBelowPromise) => {
                    Some(Message::Reject(n, promised))
                }
                promised => {
                    // An acceptor that missed the Prepare promises by accepting.
                    self.promised = promised.max(Some(n));
                    self.accepted = Some((n, value));
                    self.state = AcceptorState::Accepted;
                    Some(Message::Accepted(n))
                }
            },
            Message::Promise(..) | Message::Accepted(_) | Message::Reject(..) => None,
        }
    }

    /// Asserts what must always hold.
    pub fn invariants(&self) {
        let accepted = self.accepted.as_ref().map(|(n, _)| *n);
        assert!(accepted <= self.promised, "what is accepted was promised");
        match self.state {
            AcceptorState::Ready => assert!(self.promised.is_none(), "a ready acceptor promised nothing"),
            AcceptorState::Promised => assert!(accepted < self.promised, "a promise stands above what was accepted"),
            AcceptorState::Accepted => assert!(accepted.is_some(), "it accepted something"),
        }
    }
}
