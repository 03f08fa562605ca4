//! What clients talk to.
//!
//! A [`Service`] holds all sessions of one protocol on one node. They share one object, since protocols let them meet:
//! a watch fires on another connection, a session moves between connections, an administrator lists them all.
//!
//! The driver keeps these promises:
//! - outputs of one call are carried out in order;
//! - `Propose`s of one service to one group are applied in the order in which they were put out, each exactly once, or
//!   not at all from some point on; `Completed` follows in that order;
//! - a `Local` read is answered from the state as of the events delivered so far: no event lies between the state that a
//!   read saw and its `Completed`;
//! - an event is delivered before the `Completed` of the command that caused it.

use std::net::SocketAddr;

use bytes::Bytes;
use verity_clock::Now;
use verity_types::{ConnId, GroupId, LogIndex, Mono, NodeId, Term, Token};

use crate::outside::Channel;
use crate::{FileRange, Pieces};

/// Which of a service's listeners a connection came in by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Door(pub u16);

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub addr: SocketAddr,
    /// Our own end's, where the host tells.
    pub local: Option<SocketAddr>,
    /// Which listener it came in by.
    pub door: Door,
    /// The subject of its verified TLS certificate, as RFC 2253 writes it, if it showed one.
    pub certificate: Option<String>,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// This node's applied state.
    Local,
    /// Every write acknowledged anywhere before the read began.
    Linearizable,
    /// At least this index.
    AtLeast(LogIndex),
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No leader could be reached in time. A proposal may or may not be applied.
    Unavailable,
    /// The queue is full; nothing was done.
    Overloaded,
    /// The node does not host the group.
    NoSuchGroup,
}

/// How this node stands to a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupRole {
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: Term,
    /// True if this node leads.
    pub leads: bool,
    /// True if this node votes.
    pub votes: bool,
}

/// What happens to a service.
#[derive(Clone, Debug)]
pub enum SessionInput {
    /// A connection came in.
    Opened {
        /// Its name.
        conn: ConnId,
        /// Its other end.
        peer: Peer,
    },
    /// Bytes came in, in order, cut anywhere.
    Bytes {
        /// The connection.
        conn: ConnId,
        /// What came.
        bytes: Bytes,
    },
    /// The connection ended. No output may name it from here on.
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// A `Drain` is answered.
    Drained {
        /// The connection.
        conn: ConnId,
        /// Bytes that still wait to be written to it.
        waiting: usize,
    },
    /// A `Dial` is answered. Upon success the connection is open from here on, as if it had come in by the door that was named.
    Dialed {
        /// Which.
        token: Token,
        /// The connection and its other end, or why there is none.
        result: Result<(ConnId, Peer), String>,
    },
    /// A `Propose`, `Read`, `Inspect` or `Call` is answered.
    Completed {
        /// Which.
        token: Token,
        /// The state machine's bytes.
        result: Result<Bytes, Failure>,
    },
    /// A `Read` is answered; bytes of a file belong to it.
    CompletedInFile {
        /// Which.
        token: Token,
        /// The state machine's bytes.
        bytes: Bytes,
        /// The file's.
        range: FileRange,
    },
    /// A state machine put out an event.
    Event {
        /// Of this group.
        group: GroupId,
        /// What it is about.
        topic: Bytes,
        /// The system's own bytes.
        bytes: Bytes,
    },
    /// This node's standing in a group changed.
    Role {
        /// The group.
        group: GroupId,
        /// How it stands.
        role: GroupRole,
    },
    /// The state of this group was replaced by a snapshot: events may have been skipped.
    Restored {
        /// The group.
        group: GroupId,
    },
    /// The moment asked for by `Wake` has come.
    Wake,
    /// The node is about to stop, in order. What a service keeps by itself is to be on stable storage when it returns.
    Stopping,
}

/// What a service wants.
#[derive(Clone, Debug)]
pub enum SessionOutput {
    /// Write these bytes.
    Bytes {
        /// To this connection.
        conn: ConnId,
        /// What to write.
        bytes: Bytes,
    },
    /// Write these bytes of a file.
    FileRange {
        /// To this connection.
        conn: ConnId,
        /// What to write.
        range: FileRange,
    },
    /// Place a command in a group's order.
    Propose {
        /// Comes back in `Completed`.
        token: Token,
        /// The group.
        group: GroupId,
        /// The system's own bytes.
        command: Pieces,
    },
    /// Ask a group's state machine.
    Read {
        /// Comes back in `Completed`.
        token: Token,
        /// The group.
        group: GroupId,
        /// The system's own bytes.
        query: Bytes,
        /// How fresh.
        consistency: Consistency,
    },
    /// Ask outside, beside the order. See [`crate::Outside`].
    Call {
        /// Comes back in `Completed`.
        token: Token,
        /// Whom.
        channel: Channel,
        /// The system's own bytes.
        ask: Bytes,
    },
    /// Ask how a group is on this node. The answer is a [`crate::GroupFacts`], encoded.
    Inspect {
        /// Comes back in `Completed`.
        token: Token,
        /// The group.
        group: GroupId,
    },
    /// Tell the group's leader's duty something that needs no order (a session is alive). May be lost.
    Whisper {
        /// The group.
        group: GroupId,
        /// The system's own bytes.
        bytes: Bytes,
    },
    /// Call [`Service::on`] with `Wake` at this moment or soon after. A later `Wake` does not cancel an earlier one.
    Wake(Mono),
    /// Connect to somebody. Systems that have peers beyond the cluster's own nodes do.
    Dial {
        /// Comes back in `Dialed`.
        token: Token,
        /// Where: a name or an address, and a port.
        addr: String,
        /// Which of the service's doors the connection is counted to.
        door: Door,
    },
    /// The node is to stop, in order: a client that may asked for it.
    Stop,
    /// The node must stop: what the service stands on is broken. The text says why.
    Fatal(String),
    /// Read no further from this connection until `Resume`: its queue is full.
    Pause(ConnId),
    /// Read again.
    Resume(ConnId),
    /// Tell me once no more than so many bytes wait to be written to this connection; at once, if that is so already. A second
    /// one takes the place of the first. Whoever puts out much for somebody slow asks, and waits with the rest.
    Drain {
        /// The connection.
        conn: ConnId,
        /// Bytes.
        below: usize,
    },
    /// Write what was put out, then close.
    Close(ConnId),
}

/// How bytes that came in are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// So many, from their beginning, now.
    pub deliver: usize,
    /// What is left comes again with more, and room is made for so many in all: a hint, which nobody waits for.
    pub until: usize,
}

impl Gather {
    /// All of them, now.
    #[must_use]
    pub fn all(bytes: &[u8]) -> Self {
        Self { deliver: bytes.len(), until: 0 }
    }
}

/// All sessions of one protocol on one node.
pub trait Service: Send {
    /// Takes one input and appends what follows from it to `out`.
    fn on(&mut self, now: Now, input: SessionInput, out: &mut Vec<SessionOutput>);

    /// What is to become of bytes that came in and were not delivered. By default all are delivered at once. A service
    /// whose requests are long has them gathered where they are read, so that each comes whole and is never copied. It must
    /// take them cut anywhere all the same.
    fn gather(&self, conn: ConnId, bytes: &[u8]) -> Gather {
        let _ = conn;
        Gather::all(bytes)
    }

    /// Asserts what must always hold.
    fn invariants(&self);
}
