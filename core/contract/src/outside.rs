//! What a node asks beside its order: an application in another process.
//!
//! A state machine that needs one puts out [`Effect::Call`](crate::Effect::Call), and nothing more is applied before the
//! answer; a service puts out [`SessionOutput::Call`](crate::SessionOutput::Call). Whoever drives the node carries both to
//! an [`Outside`], away from the node's own thread.
//!
//! HAZARD: a machine's answer must be a function of the order, as if the machine had computed it: every replica asks an
//! [`Outside`] of its own.

use bytes::Bytes;

/// Where calls go, by their place in what the driver was given. Those of one channel are answered in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel(pub usize);

impl Channel {
    /// That of the state machine.
    pub const ORDERED: Channel = Channel(0);
}

/// One channel's other end.
pub trait Outside: Send {
    /// Answers a call, which may take as long as it likes while `goes_on` says so; `None` once it does not.
    ///
    /// # Errors
    /// The node must stop, and says this line.
    fn call(&mut self, ask: Bytes, goes_on: &dyn Fn() -> bool) -> Result<Option<Bytes>, String>;
}
