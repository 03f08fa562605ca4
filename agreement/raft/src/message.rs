//! What engines of one group say to each other, as bytes.
//!
//! ```text
//! frame   = version:u8 kind:u8 body          (numbers are LEB128, at most 10 bytes)
//! append  = term log_term index commit count entry*     index and term of entries follow from their place
//! entry   = kind:u8 term length data
//! snap    = term index snap_term voters outgoing learners
//! beat    = term commit round flags:u8        the round names a broadcast for barriers and leases
//! members = count id*
//! ```
//!
//! Sender and receiver are absent: the driver authenticates one and knows the other. Local messages of the engine
//! (`MsgHup`, `MsgPropose`, ...) have no encoding, so no peer can inject them. Decoded entries are slices of the frame.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, ConfState, Entry, EntryType, Message, MessageType, Snapshot};
use verity_contract::Members;
use verity_contract::codec::{self, take_blob, take_byte};
pub(crate) use verity_contract::codec::{put_members, put_number, take_number};
use verity_types::NodeId;

use crate::Error;

/// The version of the frame's format.
const VERSION: u8 = 1;
/// The largest frame.
pub const MAX_MESSAGE_BYTES: usize = 32 << 20;
/// The largest entry, proposals included.
pub const MAX_ENTRY_BYTES: usize = 16 << 20;
/// The most members of a group, counted per set.
pub const MAX_MEMBERS: usize = codec::MEMBERS_MAX;
/// The most entries in one append.
const MAX_ENTRIES: u64 = 1 << 20;
/// Terms and indexes stay below this, so that no addition to one overflows.
pub(crate) const MAX_NUMBER: u64 = 1 << 60;
/// The engine's mark on the votes that a leadership transfer asks for.
pub(crate) const TRANSFER: &[u8] = b"CampaignTransfer";
/// Marks an empty proposal, which would otherwise look like the leader's own filler.
pub(crate) const PROPOSED: &[u8] = b"p";

/// What names a forwarded barrier: the asker's incarnation and a counter, so that no answer to an earlier life fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Nonce {
    pub(crate) incarnation: u64,
    pub(crate) seq: u64,
}

/// One frame, decoded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    /// A message of the engine. `round` and `sleep` are set on heartbeats and their answers alone.
    Raft { message: Message, round: u64, sleep: bool },
    /// A follower asks for a read index.
    ReadRequest(Nonce),
    /// The leader's answer; `None` if it cannot give one.
    ReadReply { nonce: Nonce, index: Option<u64> },
    /// A sleeping follower has work: beat again.
    Wake,
}

mod kind {
    pub(super) const APPEND: u8 = 1;
    pub(super) const APPEND_RESPONSE: u8 = 2;
    pub(super) const VOTE: u8 = 3;
    pub(super) const VOTE_RESPONSE: u8 = 4;
    pub(super) const PRE_VOTE: u8 = 5;
    pub(super) const PRE_VOTE_RESPONSE: u8 = 6;
    pub(super) const SNAPSHOT: u8 = 7;
    pub(super) const HEARTBEAT: u8 = 8;
    pub(super) const HEARTBEAT_RESPONSE: u8 = 9;
    pub(super) const TIMEOUT_NOW: u8 = 10;
    pub(super) const READ_REQUEST: u8 = 11;
    pub(super) const READ_REPLY: u8 = 12;
    pub(super) const WAKE: u8 = 13;
}

const ENTRY_NOOP: u8 = 0;
const ENTRY_NORMAL: u8 = 1;
const ENTRY_CHANGE: u8 = 2;

fn invalid<T>(what: impl Into<String>) -> Result<T, Error> {
    Err(Error::InvalidMessage(what.into()))
}

/// A term or an index.
pub(crate) fn take_place(bytes: &mut Bytes) -> Result<u64, Error> {
    Ok(codec::take_below(bytes, MAX_NUMBER)?)
}

fn take_flag(bytes: &mut Bytes) -> Result<bool, Error> {
    match take_byte(bytes)? {
        0 => Ok(false),
        1 => Ok(true),
        other => invalid(format!("{other} is no flag")),
    }
}

/// Kind, term and data of an entry; its index is told by its place.
pub(crate) fn put_entry(out: &mut BytesMut, entry: &Entry) {
    put_entry_head(out, entry);
    out.put_slice(&entry.data);
}

/// What stands in front of an entry's data.
pub(crate) fn put_entry_head(out: &mut BytesMut, entry: &Entry) {
    out.put_u8(match entry.get_entry_type() {
        EntryType::EntryNormal if entry.data.is_empty() && entry.context.is_empty() => ENTRY_NOOP,
        EntryType::EntryNormal => ENTRY_NORMAL,
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => ENTRY_CHANGE,
    });
    put_number(out, entry.term);
    put_number(out, entry.data.len() as u64);
}

pub(crate) fn take_entry(bytes: &mut Bytes, index: u64) -> Result<Entry, Error> {
    let kind = take_byte(bytes)?;
    let mut entry =
        Entry { term: take_place(bytes)?, index, data: take_blob(bytes, MAX_ENTRY_BYTES)?, ..Entry::default() };
    match kind {
        ENTRY_NOOP if entry.data.is_empty() => {}
        ENTRY_NORMAL if entry.data.is_empty() => entry.context = Bytes::from_static(PROPOSED),
        ENTRY_NORMAL => {}
        ENTRY_CHANGE => {
            entry.set_entry_type(EntryType::EntryConfChangeV2);
            let mut change = ConfChangeV2::default();
            if change.merge_from_bytes(&entry.data).is_err() || change.changes.len() > MAX_MEMBERS {
                return invalid("a membership change that cannot be read");
            }
        }
        other => return invalid(format!("{other} is no kind of entry")),
    }
    Ok(entry)
}

pub(crate) fn take_members(bytes: &mut Bytes) -> Result<Members, Error> {
    let members = codec::take_members(bytes)?;
    check_members(&members).map(|()| members)
}

/// True members: somebody votes, nobody is 0, and no learner votes in the incoming configuration.
pub(crate) fn check_members(members: &Members) -> Result<(), Error> {
    if members.voters.is_empty() {
        return invalid("a group without voters");
    }
    if members.contains(NodeId(0)) || !members.voters.is_disjoint(&members.learners) {
        return invalid("a member that is 0, or both voter and learner");
    }
    let largest = members.voters.len().max(members.outgoing.len()).max(members.learners.len());
    if largest > MAX_MEMBERS { invalid(format!("{largest} members are too many")) } else { Ok(()) }
}

/// The engine's form. A learner that still votes in the outgoing configuration becomes a learner when that one ends.
pub(crate) fn to_conf_state(members: &Members) -> ConfState {
    let raw = |nodes: &mut dyn Iterator<Item = &NodeId>| nodes.map(|node| node.0).collect::<Vec<_>>();
    let mut state = ConfState::default();
    state.set_voters(raw(&mut members.voters.iter()));
    state.set_voters_outgoing(raw(&mut members.outgoing.iter()));
    state.set_learners(raw(&mut members.learners.difference(&members.outgoing)));
    state.set_learners_next(raw(&mut members.learners.intersection(&members.outgoing)));
    state.set_auto_leave(!members.outgoing.is_empty());
    state
}

/// The contract's form of [`to_conf_state`].
pub(crate) fn to_members(state: &ConfState) -> Members {
    Members {
        voters: state.get_voters().iter().copied().map(NodeId).collect(),
        outgoing: state.get_voters_outgoing().iter().copied().map(NodeId).collect(),
        learners: state.get_learners().iter().chain(state.get_learners_next()).copied().map(NodeId).collect(),
    }
}

fn put_nonce(out: &mut BytesMut, nonce: Nonce) {
    put_number(out, nonce.incarnation);
    put_number(out, nonce.seq);
}

/// The bytes of a frame.
pub(crate) fn encode(frame: &Frame) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    out.put_u8(VERSION);
    match frame {
        Frame::Raft { message, round, sleep } => put_raft(&mut out, message, *round, *sleep),
        Frame::ReadRequest(nonce) => {
            out.put_u8(kind::READ_REQUEST);
            put_nonce(&mut out, *nonce);
        }
        Frame::ReadReply { nonce, index } => {
            out.put_u8(kind::READ_REPLY);
            put_nonce(&mut out, *nonce);
            // No read index is 0: a leader answers only once it has committed an entry.
            put_number(&mut out, index.unwrap_or(0));
        }
        Frame::Wake => out.put_u8(kind::WAKE),
    }
    out.freeze()
}

fn put_raft(out: &mut BytesMut, m: &Message, round: u64, sleep: bool) {
    let mut put = |kind: u8, numbers: &[u64]| {
        out.put_u8(kind);
        numbers.iter().for_each(|number| put_number(out, *number));
    };
    match m.get_msg_type() {
        MessageType::MsgAppend => {
            put(kind::APPEND, &[m.term, m.log_term, m.index, m.commit, m.entries.len() as u64]);
            out.reserve(m.entries.iter().map(|entry| entry.data.len() + 24).sum());
            m.entries.iter().for_each(|entry| put_entry(out, entry));
        }
        MessageType::MsgAppendResponse => put(
            kind::APPEND_RESPONSE,
            &[m.term, m.index, m.commit, u64::from(m.reject), m.reject_hint, m.log_term, m.request_snapshot],
        ),
        vote @ (MessageType::MsgRequestVote | MessageType::MsgRequestPreVote) => {
            let kind = if vote == MessageType::MsgRequestVote { kind::VOTE } else { kind::PRE_VOTE };
            put(kind, &[m.term, m.log_term, m.index, m.commit, m.commit_term, u64::from(m.context == TRANSFER)]);
        }
        vote @ (MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse) => {
            let pre = vote == MessageType::MsgRequestPreVoteResponse;
            let kind = if pre { kind::PRE_VOTE_RESPONSE } else { kind::VOTE_RESPONSE };
            put(kind, &[m.term, u64::from(m.reject), m.commit, m.commit_term]);
        }
        MessageType::MsgSnapshot => {
            let meta = m.get_snapshot().get_metadata();
            put(kind::SNAPSHOT, &[m.term, meta.index, meta.term]);
            put_members(out, &to_members(meta.get_conf_state()));
        }
        MessageType::MsgHeartbeat => put(kind::HEARTBEAT, &[m.term, m.commit, round, u64::from(sleep)]),
        MessageType::MsgHeartbeatResponse => {
            put(kind::HEARTBEAT_RESPONSE, &[m.term, m.commit, round, u64::from(sleep)]);
        }
        MessageType::MsgTimeoutNow => put(kind::TIMEOUT_NOW, &[m.term]),
        other => unreachable!("{other:?} never leaves an engine"),
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
        kind::READ_REQUEST => Frame::ReadRequest(take_nonce(bytes)?),
        kind::READ_REPLY => {
            let nonce = take_nonce(bytes)?;
            let index = take_place(bytes)?;
            Frame::ReadReply { nonce, index: (index > 0).then_some(index) }
        }
        kind::WAKE => Frame::Wake,
        kind => take_raft(kind, bytes)?,
    };
    if bytes.has_remaining() { invalid("bytes behind the end") } else { Ok(frame) }
}

fn take_nonce(bytes: &mut Bytes) -> Result<Nonce, Error> {
    Ok(Nonce { incarnation: take_number(bytes)?, seq: take_number(bytes)? })
}

fn take_raft(kind: u8, bytes: &mut Bytes) -> Result<Frame, Error> {
    let mut m = Message { term: take_place(bytes)?, ..Message::default() };
    let (mut round, mut sleep) = (0, false);
    match kind {
        kind::APPEND => {
            m.set_msg_type(MessageType::MsgAppend);
            take_append(&mut m, bytes)?;
        }
        kind::APPEND_RESPONSE => {
            m.set_msg_type(MessageType::MsgAppendResponse);
            (m.index, m.commit, m.reject) = (take_place(bytes)?, take_place(bytes)?, take_flag(bytes)?);
            (m.reject_hint, m.log_term, m.request_snapshot) =
                (take_place(bytes)?, take_place(bytes)?, take_place(bytes)?);
        }
        kind::VOTE | kind::PRE_VOTE => {
            let vote = kind == kind::VOTE;
            m.set_msg_type(if vote { MessageType::MsgRequestVote } else { MessageType::MsgRequestPreVote });
            (m.log_term, m.index) = (take_place(bytes)?, take_place(bytes)?);
            (m.commit, m.commit_term) = (take_place(bytes)?, take_place(bytes)?);
            if take_flag(bytes)? {
                m.context = Bytes::from_static(TRANSFER);
            }
        }
        kind::VOTE_RESPONSE | kind::PRE_VOTE_RESPONSE => {
            let vote = kind == kind::VOTE_RESPONSE;
            let (real, pre) = (MessageType::MsgRequestVoteResponse, MessageType::MsgRequestPreVoteResponse);
            m.set_msg_type(if vote { real } else { pre });
            (m.reject, m.commit, m.commit_term) = (take_flag(bytes)?, take_place(bytes)?, take_place(bytes)?);
        }
        kind::SNAPSHOT => {
            m.set_msg_type(MessageType::MsgSnapshot);
            let mut snapshot = Snapshot::default();
            snapshot.mut_metadata().index = take_place(bytes)?;
            snapshot.mut_metadata().term = take_place(bytes)?;
            snapshot.mut_metadata().set_conf_state(to_conf_state(&take_members(bytes)?));
            m.set_snapshot(snapshot);
        }
        kind::HEARTBEAT | kind::HEARTBEAT_RESPONSE => {
            let beat = kind == kind::HEARTBEAT;
            m.set_msg_type(if beat { MessageType::MsgHeartbeat } else { MessageType::MsgHeartbeatResponse });
            m.commit = take_place(bytes)?;
            (round, sleep) = (take_number(bytes)?, take_flag(bytes)?);
        }
        kind::TIMEOUT_NOW => m.set_msg_type(MessageType::MsgTimeoutNow),
        other => return invalid(format!("{other} is no kind of message")),
    }
    Ok(Frame::Raft { message: m, round, sleep })
}

fn take_append(m: &mut Message, bytes: &mut Bytes) -> Result<(), Error> {
    (m.log_term, m.index, m.commit) = (take_place(bytes)?, take_place(bytes)?, take_place(bytes)?);
    let count = take_number(bytes)?;
    // Each entry takes three bytes or more, so a count cannot make us allocate what the frame does not hold.
    if count > MAX_ENTRIES || count * 3 > bytes.remaining() as u64 {
        return invalid(format!("{count} entries do not fit the frame"));
    }
    let mut entries = Vec::with_capacity(usize::try_from(count).expect("bounded above"));
    for offset in 1..=count {
        entries.push(take_entry(bytes, m.index + offset)?);
    }
    m.set_entries(entries.into());
    Ok(())
}

/// Checks that `bytes` are a frame of this engine. For fuzzing and for tools; the engine decodes by itself.
///
/// # Errors
/// [`Error::InvalidMessage`] says what is wrong.
pub fn decode(bytes: Bytes) -> Result<(), Error> {
    parse(bytes).map(drop)
}
