//! What the log and the read path carry: an envelope around the client's own bytes.
//!
//! | field | size | |
//! | --- | --- | --- |
//! | version | 1 | [`VERSION`] |
//! | op | 4 | an opcode of the protocol, or one of [`internal`] |
//! | session | 8 | who asks |
//! | flags | 1 | [`flags`] |
//! | id count | 1 | |
//! | ids | | each: scheme size (1), scheme, id size (2), id |
//! | body | rest | the request's jute body as the client sent it |
//!
//! Integers are big-endian. Time is not in it: the leader stamps it. An answer is `[err: i32][zxid: i64][jute body]`;
//! the body is empty unless `err` is 0.

use bytes::Bytes;

use super::config::TreeConfig;
use crate::wire::{Decode, DecodeError, Encode, ErrorCode, Id, OpCode, Reader, ReconfigRequest};

/// The version of this layout.
pub const VERSION: u8 = 1;
/// The most ids that a caller may have.
pub const ID_COUNT_MAX: usize = 255;
/// The size of an answer's head.
pub const REPLY_HEAD: usize = 12;

/// Operations that clients have no number for.
pub mod internal {
    /// Command: the session is served by the proposing node from here on. Body: password buffer. Answer: timeout.
    pub const MOVE_SESSION: i32 = -20;
    /// Command: replaces the tree's configuration. Body: [`crate::machine::TreeConfig`].
    pub const CONFIGURE: i32 = -21;
    /// Command: what `/zookeeper/config` holds, before any reconfiguration did. Body: buffer. Answer: nothing.
    pub const CONFIG_TEXT: i32 = -22;
    /// Command: a reconfig cannot be done. Body: its version, an error code. Answer: nothing.
    pub const END_RECONFIG: i32 = -23;
    /// Query: sessions in order of their ids. Body: [`crate::machine::SessionsQuery`].
    pub const SESSIONS: i32 = -30;
    /// Query: nodes that shall go. Body: [`crate::machine::DueQuery`].
    pub const DUE: i32 = -31;
    /// Query: one session. Body: its id. Answer: [`crate::machine::SessionInfo`], or session expired.
    pub const SESSION: i32 = -32;
    /// Query: figures for `mntr` and the like. Answer: [`crate::machine::TreeStatus`].
    pub const STATUS: i32 = -33;
    /// Query: every ephemeral node. Body: [`crate::machine::SessionsQuery`]. Answer: vector of
    /// [`crate::machine::SessionEphemerals`].
    pub const EPHEMERALS: i32 = -34;
    /// Query: the configuration that a reconfig wishes for. Answer: its text as a buffer, null if there is none.
    pub const WISH: i32 = -35;
    /// Query: what `/zookeeper/config` holds. Answer: its text as a buffer, null if no servers are written there.
    pub const ENSEMBLE: i32 = -36;
}

/// Bits of [`Envelope::flags`].
pub mod flags {
    /// The session is local to its node: the table does not know it, and it has no ephemerals.
    pub const LOCAL: u8 = 1;
    /// From a duty or the session itself, not from a client: needed for what clients have no right to ask.
    pub const INTERNAL: u8 = 1 << 1;
}

/// The caller's ids, still encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids<'a> {
    count: u8,
    bytes: &'a [u8],
}

impl<'a> Ids<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let count = u8::decode(reader)?;
        let start = reader.rest();
        for _ in 0..count {
            read_id(reader)?;
        }
        Ok(Self { count, bytes: &start[..start.len() - reader.rest().len()] })
    }

    /// Each id.
    pub fn iter(&self) -> impl Iterator<Item = Id<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.count).map(move |_| read_id(&mut reader).expect("was read once when the envelope was"))
    }
}

fn read_id<'a>(reader: &mut Reader<'a>) -> Result<Id<'a>, DecodeError> {
    let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8);
    let size = u8::decode(reader)?;
    let scheme = text(reader.take(usize::from(size))?)?;
    let size = [u8::decode(reader)?, u8::decode(reader)?];
    let id = text(reader.take(usize::from(u16::from_be_bytes(size)))?)?;
    Ok(Id { scheme, id })
}

/// Encodes ids for [`Envelope::encode_with`]: worth keeping, since a session's ids rarely change. Ids behind the
/// [`ID_COUNT_MAX`]th, and those too long for their fields, are left out: less authority, never more.
#[must_use]
pub fn encode_ids<'a>(ids: impl IntoIterator<Item = Id<'a>>) -> Vec<u8> {
    let mut out = vec![0];
    let mut count = 0u8;
    for id in ids {
        let (Ok(scheme), Ok(size)) = (u8::try_from(id.scheme.len()), u16::try_from(id.id.len())) else { continue };
        let Some(more) = count.checked_add(1) else { break };
        count = more;
        out.push(scheme);
        out.extend_from_slice(id.scheme.as_bytes());
        out.extend_from_slice(&size.to_be_bytes());
        out.extend_from_slice(id.id.as_bytes());
    }
    out[0] = count;
    out
}

/// A command or a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// What is asked.
    pub op: i32,
    /// Who asks.
    pub session: i64,
    /// Bits of [`flags`].
    pub flags: u8,
    /// As whom.
    pub ids: Ids<'a>,
    /// The request's body.
    pub body: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Reads an envelope; the body is not looked at.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = u8::decode(&mut reader)?;
        if version != VERSION {
            return Err(DecodeError::UnknownNumber(i32::from(version)));
        }
        let op = i32::decode(&mut reader)?;
        let session = i64::decode(&mut reader)?;
        let flags = u8::decode(&mut reader)?;
        let ids = Ids::decode(&mut reader)?;
        Ok(Self { op, session, flags, ids, body: reader.rest() })
    }

    /// Builds an envelope around `body` with what [`encode_ids`] made.
    #[must_use]
    pub fn encode_with(op: i32, session: i64, flags: u8, ids: &[u8], body: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(14 + ids.len() + body.len());
        out.push(VERSION);
        op.encode(&mut out);
        session.encode(&mut out);
        out.push(flags);
        out.extend_from_slice(ids);
        out.extend_from_slice(body);
        Bytes::from(out)
    }
}

/// A client's request, to be proposed or read.
#[must_use]
pub fn request(op: OpCode, session: i64, ids: &[u8], body: &[u8]) -> Bytes {
    Envelope::encode_with(op.number(), session, 0, ids, body)
}

/// Opens a session. The caller chose `session` and `password`; `NodeExists` says that the id is taken.
#[must_use]
pub fn create_session(session: i64, timeout_ms: i32, password: &[u8; 16]) -> Bytes {
    let mut body = Vec::with_capacity(24);
    timeout_ms.encode(&mut body);
    Some(&password[..]).encode(&mut body);
    Envelope::encode_with(OpCode::CreateSession.number(), session, flags::INTERNAL, &[0], &body)
}

/// Closes a session, for its client or because it expired.
#[must_use]
pub fn close_session(session: i64) -> Bytes {
    Envelope::encode_with(OpCode::CloseSession.number(), session, flags::INTERNAL, &[0], &[])
}

/// Takes a session over to the proposing node.
#[must_use]
pub fn move_session(session: i64, password: &[u8]) -> Bytes {
    Envelope::encode_with(internal::MOVE_SESSION, session, flags::INTERNAL, &[0], &Some(password).to_bytes())
}

/// Deletes an empty container or an expired node; for the duty.
#[must_use]
pub fn delete_container(path: &str) -> Bytes {
    Envelope::encode_with(OpCode::DeleteContainer.number(), 0, flags::INTERNAL, &[0], &path.to_bytes())
}

/// Replaces the tree's configuration; for the duty.
#[must_use]
pub fn configure(config: &TreeConfig) -> Bytes {
    Envelope::encode_with(internal::CONFIGURE, 0, flags::INTERNAL, &[0], &config.to_bytes())
}

/// Sets what `/zookeeper/config` holds; for the duty of a new group.
#[must_use]
pub fn config_text(text: &str) -> Bytes {
    Envelope::encode_with(internal::CONFIG_TEXT, 0, flags::INTERNAL, &[0], &Some(text.as_bytes()).to_bytes())
}

/// Changes the ensemble for an operator, who needs neither the switch nor the right.
#[must_use]
pub fn reconfig(request: &ReconfigRequest<'_>) -> Bytes {
    Envelope::encode_with(OpCode::Reconfig.number(), 0, flags::INTERNAL, &[0], &request.to_bytes())
}

/// Ends the reconfig of `version`, which cannot be done; for the duty.
#[must_use]
pub fn end_reconfig(version: i64, err: ErrorCode) -> Bytes {
    let mut body = Vec::with_capacity(12);
    version.encode(&mut body);
    err.number().encode(&mut body);
    Envelope::encode_with(internal::END_RECONFIG, 0, flags::INTERNAL, &[0], &body)
}

/// An internal query.
#[must_use]
pub fn query(op: i32, body: &impl Encode) -> Bytes {
    Envelope::encode_with(op, 0, flags::INTERNAL, &[0], &body.to_bytes())
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// [`crate::wire::ErrorCode`].
    pub err: i32,
    /// The last transaction as of the answer.
    pub zxid: i64,
    /// The response record, unless `err` says otherwise.
    pub body: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Reads an answer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        Ok(Self { err: i32::decode(&mut reader)?, zxid: i64::decode(&mut reader)?, body: reader.rest() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_round_trip() {
        let ids = [Id { scheme: "ip", id: "127.0.0.1" }, Id { scheme: "digest", id: "u:h" }];
        let bytes = request(OpCode::Create, -7, &encode_ids(ids.clone()), b"body");
        let envelope = Envelope::decode(&bytes).expect("just built");
        assert_eq!((envelope.op, envelope.session, envelope.flags, envelope.body), (1, -7, 0, &b"body"[..]));
        assert_eq!(envelope.ids.iter().collect::<Vec<_>>(), ids);
        for cut in 0..bytes.len() - 4 {
            assert!(Envelope::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn too_many_ids_lose_authority() {
        let many = (0..300).map(|_| Id { scheme: "ip", id: "x" });
        let bytes = Envelope::encode_with(1, 0, 0, &encode_ids(many), &[]);
        assert_eq!(Envelope::decode(&bytes).expect("just built").ids.iter().count(), ID_COUNT_MAX);
        let long = "x".repeat(70_000);
        assert_eq!(encode_ids([Id { scheme: "digest", id: &long }]), [0]);
    }
}
