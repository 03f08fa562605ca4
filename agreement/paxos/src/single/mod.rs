//! One decree: Lamport, "Paxos Made Simple", §2. The engine beside this module repeats it for every slot of a log.
//!
//! - 1a, upon `Propose(v)`: the proposer picks a number n above all that it saw and sends `Prepare(n)` to the acceptors;
//! - 1b, upon `Prepare(n)`: an acceptor that promised nothing above n (and not n itself) promises to accept nothing below
//!   n, and answers `Promise(n, a)` with the highest-numbered proposal a that it accepted; otherwise `Reject`;
//! - 2a, upon `Promise(n, _)` from a majority: the proposer sends `Accept(n, v)`, where v is the value of the
//!   highest-numbered proposal among the answers, or its own wish if they report none;
//! - 2b, upon `Accept(n, v)`: an acceptor that promised nothing above n accepts it and answers `Accepted(n)`; otherwise
//!   `Reject`;
//! - upon `Accepted(n)` from a majority: v is chosen, for good.
//!
//! HAZARD: an acceptor's promise and acceptance, and a proposer's number, must be on stable storage before the message
//! that tells of them leaves. An acceptor that forgets can help to choose a second value.
//!
//! Deliberately absent: timers and sockets (the caller says [`Event::Timeout`] and [`Event::Sent`]), and learners (a
//! proposer that succeeded knows the value).

mod acceptor;
mod proposer;
#[cfg(test)]
mod tests;

pub use acceptor::{Acceptor, AcceptorState};
pub use proposer::{Event, Proposer, ProposerState};

/// A proposal number; each proposer has its own, no two are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(pub u64);

/// Names an acceptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AcceptorId(pub u64);

/// What proposers and acceptors say to each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message<V> {
    /// Phase 1a.
    Prepare(Number),
    /// Phase 1b: nothing below this number will be accepted; the highest-numbered proposal accepted so far.
    Promise(Number, Option<(Number, V)>),
    /// Phase 2a.
    Accept(Number, V),
    /// Phase 2b.
    Accepted(Number),
    /// The first number was refused, for the second was promised.
    Reject(Number, Number),
}
