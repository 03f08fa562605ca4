//! What replicas of two nodes say to each other.
//!
//! ```text
//! bytes  = frame*
//! frame  = kind:u8 group:u64 length:u32 payload
//! ```
//! One write to a peer carries every frame of a turn, so the heartbeats of all groups to that peer travel together.
//!
//! - kind 1, `Agreement`: the payload is the engine's message;
//! - kind 2, `Forward`: proposals on their way to the leader, as runs (see [`crate::Batch`]); their origin is the sender;
//! - kind 3, `Whisper`: for the leader's duty; may be lost;
//! - kind 4, `SnapshotChunk`: part of a snapshot and what it stands on, and the engine message that follows the last part;
//! - kind 5, `SnapshotAck`: how far the receiver has it on stable storage;
//! - kind 6, `Told`: what the receiver's commands came to at the sender; kind 7, `TellAgain`: that once more, please;
//! - kind 8, `Certify`: a query whose answer the receiver is to sign; kind 9, `Signed`: its signature.
//!
//! Deliberately absent: who sent it (the driver authenticates the connection) and checksums (TLS has them).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use verity_contract::SnapshotMeta;
use verity_contract::codec::{put_members, take_members};
use verity_types::{Digest, GroupId, Incarnation, LogIndex, Term, Token};

use crate::batch::{Proposal, decode_runs, encode_runs};
use crate::certify::Signature;
use crate::vouch::{Tag, Tags};

/// No frame is longer than this.
pub const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One thing said to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message of the group's engine.
    Agreement {
        /// The group.
        group: GroupId,
        /// The engine's bytes.
        bytes: Bytes,
    },
    /// Proposals for the leader.
    Forward {
        /// The group.
        group: GroupId,
        /// In lane order.
        proposals: Vec<Proposal>,
    },
    /// For the leader's duty.
    Whisper {
        /// The group.
        group: GroupId,
        /// The system's bytes.
        bytes: Bytes,
    },
    /// Part of a snapshot file.
    SnapshotChunk {
        /// The group.
        group: GroupId,
        /// Which snapshot.
        meta: SnapshotMeta,
        /// Where in the stream the bytes belong.
        offset: u64,
        /// Length of the snapshot's own file, with which the stream begins.
        file: u64,
        /// Length of the stream: that file, and what it stands on.
        total: u64,
        /// The bytes.
        bytes: Bytes,
        /// For the receiver's engine once all is there.
        message: Bytes,
    },
    /// The receiver's answer to a chunk.
    SnapshotAck {
        /// The group.
        group: GroupId,
        /// Which snapshot.
        index: LogIndex,
        /// The receiver has everything before this offset; `u64::MAX` says that it cannot take the snapshot.
        next: u64,
    },
    /// What the receiver's commands came to.
    Told {
        /// The group.
        group: GroupId,
        /// Fingerprints of the replies.
        tags: Tags,
    },
    /// Asks for that again.
    TellAgain {
        /// The group.
        group: GroupId,
        /// The sender's lane.
        incarnation: Incarnation,
        /// From this command on.
        first: u64,
    },
    /// Asks for a signature under an answer.
    Certify {
        /// The group.
        group: GroupId,
        /// The sender's name for it.
        token: Token,
        /// The answer is to be of a state here or later.
        index: LogIndex,
        /// The state machine's bytes.
        query: Bytes,
    },
    /// The signature.
    Signed {
        /// The group.
        group: GroupId,
        /// The receiver's name for it.
        token: Token,
        /// Of the sender.
        signature: Signature,
    },
}

/// A frame that cannot be read. The connection that brought it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The bytes end inside a frame.
    #[error("a peer frame is cut short")]
    Short,
    /// The kind is unknown: a newer version.
    #[error("a peer frame has the unknown kind {0}")]
    Kind(u8),
    /// The frame is longer than [`FRAME_BYTES_MAX`].
    #[error("a peer frame of {0} bytes is too long")]
    Long(usize),
    /// The payload does not decode.
    #[error("a peer frame of kind {0} does not decode")]
    Payload(u8),
}

/// Appends a frame.
pub fn encode_frame(frame: &Frame, out: &mut BytesMut) {
    let (kind, group) = match frame {
        Frame::Agreement { group, .. } => (1, group),
        Frame::Forward { group, .. } => (2, group),
        Frame::Whisper { group, .. } => (3, group),
        Frame::SnapshotChunk { group, .. } => (4, group),
        Frame::SnapshotAck { group, .. } => (5, group),
        Frame::Told { group, .. } => (6, group),
        Frame::TellAgain { group, .. } => (7, group),
        Frame::Certify { group, .. } => (8, group),
        Frame::Signed { group, .. } => (9, group),
    };
    out.put_u8(kind);
    out.put_u64(group.0);
    let length_at = out.len();
    out.put_u32(0);
    match frame {
        Frame::Agreement { bytes, .. } | Frame::Whisper { bytes, .. } => out.put_slice(bytes),
        Frame::Forward { proposals, .. } => encode_runs(proposals, out),
        Frame::SnapshotChunk { meta, offset, file, total, bytes, message, .. } => {
            encode_meta(meta, out);
            out.put_u64(*offset);
            out.put_u64(*file);
            out.put_u64(*total);
            out.put_u32(u32::try_from(message.len()).expect("an engine's snapshot message is small"));
            out.put_slice(message);
            out.put_slice(bytes);
        }
        Frame::SnapshotAck { index, next, .. } => {
            out.put_u64(index.0);
            out.put_u64(*next);
        }
        Frame::Told { tags, .. } => {
            out.put_u64(tags.incarnation.0);
            out.put_u64(tags.first);
            tags.tags.iter().for_each(|tag| out.put_slice(&tag.0));
        }
        Frame::TellAgain { incarnation, first, .. } => {
            out.put_u64(incarnation.0);
            out.put_u64(*first);
        }
        Frame::Certify { token, index, query, .. } => {
            out.put_u64(token.0);
            out.put_u64(index.0);
            out.put_slice(query);
        }
        Frame::Signed { token, signature, .. } => {
            out.put_u64(token.0);
            out.put_slice(&signature.answer.0);
            out.put_slice(&signature.bytes);
        }
    }
    let length = out.len() - length_at - 4;
    assert!(length <= FRAME_BYTES_MAX, "our own frames are bounded where they are made");
    out[length_at..length_at + 4]
        .copy_from_slice(&u32::try_from(length).expect("FRAME_BYTES_MAX fits a u32").to_be_bytes());
}

/// Reads all frames of one write.
///
/// # Errors
/// [`FrameError`]; nothing of the write is then used.
pub fn decode_frames(mut bytes: Bytes) -> Result<Vec<Frame>, FrameError> {
    let mut frames = Vec::new();
    while bytes.has_remaining() {
        let kind = bytes.try_get_u8().map_err(|_| FrameError::Short)?;
        let group = GroupId(bytes.try_get_u64().map_err(|_| FrameError::Short)?);
        let length = bytes.try_get_u32().map_err(|_| FrameError::Short)? as usize;
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::Long(length));
        }
        if length > bytes.remaining() {
            return Err(FrameError::Short);
        }
        let payload = bytes.split_to(length);
        frames.push(match kind {
            1 => Frame::Agreement { group, bytes: payload },
            2 => Frame::Forward { group, proposals: decode_runs(payload).ok_or(FrameError::Payload(kind))? },
            3 => Frame::Whisper { group, bytes: payload },
            4 => decode_chunk(group, payload).ok_or(FrameError::Payload(kind))?,
            5 => decode_ack(group, payload).ok_or(FrameError::Payload(kind))?,
            6 => decode_told(group, payload).ok_or(FrameError::Payload(kind))?,
            7 => decode_tell_again(group, payload).ok_or(FrameError::Payload(kind))?,
            8 => decode_certify(group, payload).ok_or(FrameError::Payload(kind))?,
            9 => decode_signed(group, payload).ok_or(FrameError::Payload(kind))?,
            _ => return Err(FrameError::Kind(kind)),
        });
    }
    Ok(frames)
}

fn decode_chunk(group: GroupId, mut payload: Bytes) -> Option<Frame> {
    let meta = decode_meta(&mut payload)?;
    let offset = payload.try_get_u64().ok()?;
    let file = payload.try_get_u64().ok()?;
    let total = payload.try_get_u64().ok()?;
    let length = payload.try_get_u32().ok()? as usize;
    if length > payload.remaining() {
        return None;
    }
    let message = payload.split_to(length);
    Some(Frame::SnapshotChunk { group, meta, offset, file, total, bytes: payload, message })
}

fn decode_ack(group: GroupId, mut payload: Bytes) -> Option<Frame> {
    let index = LogIndex(payload.try_get_u64().ok()?);
    let next = payload.try_get_u64().ok()?;
    payload.is_empty().then_some(Frame::SnapshotAck { group, index, next })
}

fn decode_told(group: GroupId, mut payload: Bytes) -> Option<Frame> {
    let incarnation = Incarnation(payload.try_get_u64().ok()?);
    let first = payload.try_get_u64().ok()?;
    let (tags, rest) = payload.as_chunks();
    if !rest.is_empty() {
        return None;
    }
    let tags = tags.iter().copied().map(Tag).collect();
    Some(Frame::Told { group, tags: Tags { incarnation, first, tags } })
}

fn decode_tell_again(group: GroupId, mut payload: Bytes) -> Option<Frame> {
    let incarnation = Incarnation(payload.try_get_u64().ok()?);
    let first = payload.try_get_u64().ok()?;
    payload.is_empty().then_some(Frame::TellAgain { group, incarnation, first })
}

fn decode_certify(group: GroupId, mut payload: Bytes) -> Option<Frame> {
    let token = Token(payload.try_get_u64().ok()?);
    let index = LogIndex(payload.try_get_u64().ok()?);
    Some(Frame::Certify { group, token, index, query: payload })
}

fn decode_signed(group: GroupId, mut payload: Bytes) -> Option<Frame> {
    let token = Token(payload.try_get_u64().ok()?);
    let mut answer = Digest::default();
    payload.try_copy_to_slice(&mut answer.0).ok()?;
    Some(Frame::Signed { group, token, signature: Signature { answer, bytes: payload } })
}

/// Appends a snapshot's meta: index, term, and the three sets of members, each counted.
pub(crate) fn encode_meta(meta: &SnapshotMeta, out: &mut BytesMut) {
    out.put_u64(meta.index.0);
    out.put_u64(meta.term.0);
    put_members(out, &meta.members);
}

pub(crate) fn decode_meta(bytes: &mut Bytes) -> Option<SnapshotMeta> {
    let index = LogIndex(bytes.try_get_u64().ok()?);
    let term = Term(bytes.try_get_u64().ok()?);
    Some(SnapshotMeta { index, term, members: take_members(bytes).ok()?, ..SnapshotMeta::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use verity_contract::{Members, RequestId};
    use verity_types::NodeId;

    fn meta() -> SnapshotMeta {
        let mut members = Members::of_voters([NodeId(1), NodeId(2), NodeId(3)]);
        members.learners.insert(NodeId(4));
        SnapshotMeta { index: LogIndex(9), term: Term(2), members, ..SnapshotMeta::default() }
    }

    fn samples() -> Vec<Frame> {
        let group = GroupId(3);
        let request = RequestId { origin: NodeId(2), sequence: 5, ..RequestId::default() };
        vec![
            Frame::Agreement { group, bytes: Bytes::from_static(b"vote") },
            Frame::Forward { group, proposals: vec![Proposal { request, command: Bytes::from_static(b"set").into() }] },
            Frame::Whisper { group, bytes: Bytes::from_static(b"alive") },
            Frame::SnapshotChunk {
                group,
                meta: meta(),
                offset: 7,
                file: 9,
                total: 12,
                bytes: Bytes::from_static(b"chunk"),
                message: Bytes::from_static(b"install"),
            },
            Frame::SnapshotAck { group, index: LogIndex(9), next: u64::MAX },
            Frame::TellAgain { group, incarnation: Incarnation(3), first: 8 },
        ]
    }

    /// What ends with bytes of any length; a cut within is told by the frame's length alone.
    fn open_samples() -> Vec<Frame> {
        let group = GroupId(3);
        let signature = Signature { answer: Digest([7; 32]), bytes: Bytes::from_static(b"signed") };
        let tags = Tags { incarnation: Incarnation(3), first: 8, tags: vec![Tag([1; 16]), Tag([2; 16])] };
        vec![
            Frame::Told { group, tags },
            Frame::Certify { group, token: Token(4), index: LogIndex(9), query: Bytes::from_static(b"get") },
            Frame::Signed { group, token: Token(4), signature },
        ]
    }

    #[test]
    fn round_trip() {
        let mut out = BytesMut::new();
        let all: Vec<Frame> = samples().into_iter().chain(open_samples()).collect();
        all.iter().for_each(|frame| encode_frame(frame, &mut out));
        assert_eq!(decode_frames(out.freeze()), Ok(all));
    }

    #[test]
    fn a_cut_anywhere_is_refused() {
        for frame in samples().into_iter().chain(open_samples()) {
            let mut out = BytesMut::new();
            encode_frame(&frame, &mut out);
            let whole = out.freeze();
            for cut in 1..whole.len() {
                assert!(decode_frames(whole.slice(..cut)).is_err(), "{frame:?} cut at {cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_frames(Bytes::from(bytes));
        }
    }
}
