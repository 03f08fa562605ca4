//! What engines of one group say to each other, as bytes.
//!
//! ```text
//! frame    = version:u8 kind:u8 body                (numbers are LEB128, below 2^60)
//! prepare  = ballot from decided                    1a: promise me all slots from here on
//! promise  = ballot decided from to count (slot ballot value)*    1b: all that I accepted in from..=to
//! reject   = ballot promised
//! accept   = ballot decided first count value*      2a: the slots first, first+1, ...
//! accepted = ballot first last decided              2b
//! decide   = ballot decided                         all up to here is chosen
//! ping     = ballot round decided flags:u8          flags: leads 1, sleeps 2
//! pong     = ballot round promised decided flags:u8 flags: hears a leader 1, sleeps 2
//! fetch    = from                                   send me what is decided; 0 asks for a snapshot
//! learn    = decided first count (ballot value)*    decided values
//! snapshot = index term voters outgoing learners
//! takeover = ballot
//! read     = incarnation seq; answer = incarnation seq index
//! value    = kind:u8 term length data               data of a change: voters outgoing learners context
//! ```
//!
//! Sender and receiver are absent: the driver authenticates one and knows the other. Decoded values are slices of the
//! frame.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use verity_contract::codec::{self, take_blob, take_byte, take_many};
pub(crate) use verity_contract::codec::{put_members, put_number};
use verity_contract::{Members, SnapshotMeta};
use verity_types::{LogIndex, NodeId, Term};

use crate::Error;

/// The version of the frame's format.
const VERSION: u8 = 1;
/// The largest frame.
pub const MAX_MESSAGE_BYTES: usize = 32 << 20;
/// The largest value, proposals included.
pub const MAX_ENTRY_BYTES: usize = 16 << 20;
/// The most members of a group, counted per set.
pub const MAX_MEMBERS: usize = codec::MEMBERS_MAX;
/// The largest node id that can take part: it is the low part of a ballot.
pub const MAX_NODE: u64 = (1 << NODE_BITS) - 1;
const NODE_BITS: u32 = 16;
/// Slots, ballots and rounds stay below this, so that no addition to one overflows.
pub(crate) const MAX_NUMBER: u64 = 1 << 60;
/// Stands for all slots that are left.
pub(crate) const LAST_SLOT: u64 = MAX_NUMBER - 1;
/// What a value costs beside its data, at most.
pub(crate) const VALUE_OVERHEAD: usize = 48;

/// A ballot: a round, then the node whose ballot it is. No two nodes share one, so it is a contract's `Term` as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ballot(pub(crate) u64);

impl Ballot {
    /// The lowest ballot of `node` above this one; `None` at the end of all rounds.
    pub(crate) fn next_of(self, node: NodeId) -> Option<Self> {
        let next = ((self.0 >> NODE_BITS) + 1) << NODE_BITS | node.0;
        (next < MAX_NUMBER).then_some(Self(next))
    }

    pub(crate) fn node(self) -> NodeId {
        NodeId(self.0 & MAX_NODE)
    }

    pub(crate) fn term(self) -> Term {
        Term(self.0)
    }
}

/// What a slot may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Noop,
    /// The last slot of one configuration; the next belongs to these members.
    Members(Members),
}

/// A proposed value. The ballot in which it was first proposed is part of it: whoever proposes it again keeps it, so
/// that every node reports the same term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) term: u64,
    pub(crate) kind: Kind,
    pub(crate) payload: Bytes,
}

impl Value {
    pub(crate) fn noop(term: u64) -> Self {
        Self { term, kind: Kind::Noop, payload: Bytes::new() }
    }

    /// Its size in a frame, at most.
    pub(crate) fn size(&self) -> usize {
        let members = match &self.kind {
            Kind::Members(members) => 10 * (3 + members.voters.len() + members.outgoing.len() + members.learners.len()),
            Kind::Normal | Kind::Noop => 0,
        };
        VALUE_OVERHEAD + members + self.payload.len()
    }
}

/// What names a forwarded barrier: the asker's incarnation and a counter, so that no answer to an earlier life fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Nonce {
    pub(crate) incarnation: u64,
    pub(crate) seq: u64,
}

/// One frame, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Prepare { ballot: Ballot, from: u64, decided: u64 },
    Promise { ballot: Ballot, decided: u64, from: u64, to: u64, accepted: Vec<(u64, Ballot, Value)> },
    Reject { ballot: Ballot, promised: Ballot },
    Accept { ballot: Ballot, decided: u64, first: u64, values: Vec<Value> },
    Accepted { ballot: Ballot, first: u64, last: u64, decided: u64 },
    Decide { ballot: Ballot, decided: u64 },
    Ping { ballot: Ballot, round: u64, decided: u64, leads: bool, sleep: bool },
    Pong { ballot: Ballot, round: u64, promised: Ballot, decided: u64, hears: bool, sleep: bool },
    Fetch { from: u64 },
    Learn { decided: u64, first: u64, values: Vec<(Ballot, Value)> },
    Snapshot(SnapshotMeta),
    TakeOver { ballot: Ballot },
    ReadRequest(Nonce),
    ReadReply { nonce: Nonce, index: Option<u64> },
}

impl Frame {
    /// Small, and not about slots whose values may be on their way behind it.
    pub(crate) fn is_urgent(&self) -> bool {
        !matches!(self, Self::Promise { .. } | Self::Accept { .. } | Self::Decide { .. } | Self::Learn { .. })
    }
}

const ENTRY_NOOP: u8 = 0;
const ENTRY_NORMAL: u8 = 1;
const ENTRY_MEMBERS: u8 = 2;

fn invalid<T>(what: impl Into<String>) -> Result<T, Error> {
    Err(Error::InvalidMessage(what.into()))
}

/// A number below [`MAX_NUMBER`].
pub(crate) fn take_number(bytes: &mut Bytes) -> Result<u64, Error> {
    Ok(codec::take_below(bytes, MAX_NUMBER)?)
}

pub(crate) fn put_ballot(out: &mut BytesMut, ballot: Ballot) {
    put_number(out, ballot.0);
}

/// A ballot of some node, or 0 for none.
pub(crate) fn take_ballot(bytes: &mut Bytes) -> Result<Ballot, Error> {
    take_number(bytes).map(Ballot)
}

pub(crate) fn take_members(bytes: &mut Bytes) -> Result<Members, Error> {
    let members = codec::take_members(bytes)?;
    check_members(&members).map(|()| members)
}

/// True members: somebody votes, every id fits a ballot, nobody both votes and learns, and nothing is joint.
pub(crate) fn check_members(members: &Members) -> Result<(), Error> {
    if members.voters.is_empty() {
        return invalid("a group without voters");
    }
    if !members.outgoing.is_empty() || !members.voters.is_disjoint(&members.learners) {
        return invalid("a joint configuration, or a member that is both voter and learner");
    }
    if members.voters.len().max(members.learners.len()) > MAX_MEMBERS {
        return invalid(format!("more than {MAX_MEMBERS} members"));
    }
    if members.all().iter().any(|node| node.0 == 0 || node.0 > MAX_NODE) {
        return invalid(format!("a member that is not in 1..={MAX_NODE}"));
    }
    Ok(())
}

pub(crate) fn put_value(out: &mut BytesMut, value: &Value) {
    put_value_head(out, value);
    out.put_slice(&value.payload);
}

/// What stands in front of a value's payload.
pub(crate) fn put_value_head(out: &mut BytesMut, value: &Value) {
    out.put_u8(match value.kind {
        Kind::Noop => ENTRY_NOOP,
        Kind::Normal => ENTRY_NORMAL,
        Kind::Members(_) => ENTRY_MEMBERS,
    });
    put_number(out, value.term);
    if let Kind::Members(members) = &value.kind {
        put_members(out, members);
    }
    put_number(out, value.payload.len() as u64);
}

pub(crate) fn take_value(bytes: &mut Bytes) -> Result<Value, Error> {
    let kind = take_byte(bytes)?;
    let term = take_number(bytes)?;
    let kind = match kind {
        ENTRY_NOOP => Kind::Noop,
        ENTRY_NORMAL => Kind::Normal,
        ENTRY_MEMBERS => Kind::Members(take_members(bytes)?),
        other => return invalid(format!("{other} is no kind of value")),
    };
    let payload = take_blob(bytes, MAX_ENTRY_BYTES)?;
    if kind == Kind::Noop && !payload.is_empty() {
        return invalid("a filler that carries something");
    }
    Ok(Value { term, kind, payload })
}

fn take_accepted(bytes: &mut Bytes) -> Result<(u64, Ballot, Value), Error> {
    Ok((take_number(bytes)?, take_ballot(bytes)?, take_value(bytes)?))
}

fn take_decided(bytes: &mut Bytes) -> Result<(Ballot, Value), Error> {
    Ok((take_ballot(bytes)?, take_value(bytes)?))
}

mod kind {
    pub(super) const PREPARE: u8 = 1;
    pub(super) const PROMISE: u8 = 2;
    pub(super) const REJECT: u8 = 3;
    pub(super) const ACCEPT: u8 = 4;
    pub(super) const ACCEPTED: u8 = 5;
    pub(super) const DECIDE: u8 = 6;
    pub(super) const PING: u8 = 7;
    pub(super) const PONG: u8 = 8;
    pub(super) const FETCH: u8 = 9;
    pub(super) const LEARN: u8 = 10;
    pub(super) const SNAPSHOT: u8 = 11;
    pub(super) const TAKE_OVER: u8 = 12;
    pub(super) const READ_REQUEST: u8 = 13;
    pub(super) const READ_REPLY: u8 = 14;
}

/// The bytes of a frame.
pub(crate) fn encode(frame: &Frame) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    out.put_u8(VERSION);
    let mut put = |kind: u8, numbers: &[u64]| {
        out.put_u8(kind);
        numbers.iter().for_each(|number| put_number(&mut out, *number));
    };
    match frame {
        Frame::Prepare { ballot, from, decided } => put(kind::PREPARE, &[ballot.0, *from, *decided]),
        Frame::Promise { ballot, decided, from, to, accepted } => {
            put(kind::PROMISE, &[ballot.0, *decided, *from, *to, accepted.len() as u64]);
            for (slot, ballot, value) in accepted {
                put_number(&mut out, *slot);
                put_ballot(&mut out, *ballot);
                put_value(&mut out, value);
            }
        }
        Frame::Reject { ballot, promised } => put(kind::REJECT, &[ballot.0, promised.0]),
        Frame::Accept { ballot, decided, first, values } => {
            put(kind::ACCEPT, &[ballot.0, *decided, *first, values.len() as u64]);
            out.reserve(values.iter().map(Value::size).sum());
            values.iter().for_each(|value| put_value(&mut out, value));
        }
        Frame::Accepted { ballot, first, last, decided } => put(kind::ACCEPTED, &[ballot.0, *first, *last, *decided]),
        Frame::Decide { ballot, decided } => put(kind::DECIDE, &[ballot.0, *decided]),
        Frame::Ping { ballot, round, decided, leads, sleep } => {
            put(kind::PING, &[ballot.0, *round, *decided, flags(*leads, *sleep)]);
        }
        Frame::Pong { ballot, round, promised, decided, hears, sleep } => {
            put(kind::PONG, &[ballot.0, *round, promised.0, *decided, flags(*hears, *sleep)]);
        }
        Frame::Fetch { from } => put(kind::FETCH, &[*from]),
        Frame::Learn { decided, first, values } => {
            put(kind::LEARN, &[*decided, *first, values.len() as u64]);
            for (ballot, value) in values {
                put_ballot(&mut out, *ballot);
                put_value(&mut out, value);
            }
        }
        Frame::Snapshot(meta) => {
            put(kind::SNAPSHOT, &[meta.index.0, meta.term.0]);
            put_members(&mut out, &meta.members);
        }
        Frame::TakeOver { ballot } => put(kind::TAKE_OVER, &[ballot.0]),
        Frame::ReadRequest(nonce) => put(kind::READ_REQUEST, &[nonce.incarnation, nonce.seq]),
        // No read index is 0: a leader answers only once it has decided a slot.
        Frame::ReadReply { nonce, index } => {
            put(kind::READ_REPLY, &[nonce.incarnation, nonce.seq, index.unwrap_or(0)]);
        }
    }
    out.freeze()
}

fn flags(first: bool, second: bool) -> u64 {
    u64::from(first) | u64::from(second) << 1
}

fn take_flags(bytes: &mut Bytes) -> Result<(bool, bool), Error> {
    match take_byte(bytes)? {
        flags @ 0..=3 => Ok((flags & 1 == 1, flags & 2 == 2)),
        other => invalid(format!("{other} are no flags")),
    }
}

/// Reads a frame.
///
/// # Errors
/// [`Error::InvalidMessage`] says what is wrong with it.
pub(crate) fn parse(mut bytes: Bytes) -> Result<Frame, Error> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return invalid(format!("{} bytes exceed the largest frame", bytes.len()));
    }
    let bytes = &mut bytes;
    match take_byte(bytes)? {
        VERSION => {}
        other => return invalid(format!("version {other} is not {VERSION}")),
    }
    let frame = match take_byte(bytes)? {
        kind::PREPARE => {
            Frame::Prepare { ballot: take_ballot(bytes)?, from: take_number(bytes)?, decided: take_number(bytes)? }
        }
        kind::PROMISE => take_promise(bytes)?,
        kind::REJECT => Frame::Reject { ballot: take_ballot(bytes)?, promised: take_ballot(bytes)? },
        kind::ACCEPT => Frame::Accept {
            ballot: take_ballot(bytes)?,
            decided: take_number(bytes)?,
            first: take_number(bytes)?,
            values: take_many(bytes, 3, take_value)?,
        },
        kind::ACCEPTED => Frame::Accepted {
            ballot: take_ballot(bytes)?,
            first: take_number(bytes)?,
            last: take_number(bytes)?,
            decided: take_number(bytes)?,
        },
        kind::DECIDE => Frame::Decide { ballot: take_ballot(bytes)?, decided: take_number(bytes)? },
        kind::PING => {
            let (ballot, round, decided) = (take_ballot(bytes)?, take_number(bytes)?, take_number(bytes)?);
            let (leads, sleep) = take_flags(bytes)?;
            Frame::Ping { ballot, round, decided, leads, sleep }
        }
        kind::PONG => {
            let (ballot, round) = (take_ballot(bytes)?, take_number(bytes)?);
            let (promised, decided) = (take_ballot(bytes)?, take_number(bytes)?);
            let (hears, sleep) = take_flags(bytes)?;
            Frame::Pong { ballot, round, promised, decided, hears, sleep }
        }
        kind::FETCH => Frame::Fetch { from: take_number(bytes)? },
        kind::LEARN => Frame::Learn {
            decided: take_number(bytes)?,
            first: take_number(bytes)?,
            values: take_many(bytes, 4, take_decided)?,
        },
        kind::SNAPSHOT => {
            let (index, term) = (LogIndex(take_number(bytes)?), Term(take_number(bytes)?));
            Frame::Snapshot(SnapshotMeta { index, term, members: take_members(bytes)?, ..SnapshotMeta::default() })
        }
        kind::TAKE_OVER => Frame::TakeOver { ballot: take_ballot(bytes)? },
        kind::READ_REQUEST => Frame::ReadRequest(take_nonce(bytes)?),
        kind::READ_REPLY => {
            let nonce = take_nonce(bytes)?;
            let index = take_number(bytes)?;
            Frame::ReadReply { nonce, index: (index > 0).then_some(index) }
        }
        other => return invalid(format!("{other} is no kind of frame")),
    };
    if bytes.has_remaining() { invalid("bytes behind the end") } else { Ok(frame) }
}

fn take_nonce(bytes: &mut Bytes) -> Result<Nonce, Error> {
    Ok(Nonce { incarnation: take_number(bytes)?, seq: take_number(bytes)? })
}

fn take_promise(bytes: &mut Bytes) -> Result<Frame, Error> {
    let (ballot, decided) = (take_ballot(bytes)?, take_number(bytes)?);
    let (from, to) = (take_number(bytes)?, take_number(bytes)?);
    let accepted = take_many(bytes, 5, take_accepted)?;
    if accepted.iter().any(|(slot, ..)| *slot < from || *slot > to) {
        return invalid("a promise reports a slot outside of its range");
    }
    Ok(Frame::Promise { ballot, decided, from, to, accepted })
}

/// Checks that `bytes` are a frame of this engine. For fuzzing and for tools; the engine decodes by itself.
///
/// # Errors
/// [`Error::InvalidMessage`] says what is wrong.
pub fn decode(bytes: Bytes) -> Result<(), Error> {
    parse(bytes).map(drop)
}
