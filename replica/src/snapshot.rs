//! Snapshots of a group: taken while applying goes on, streamed to a peer in chunks.
//!
//! - upon enough log since the last one, or an engine's `WantSnapshot`: a snapshot is begun; its chunks are drawn one
//!   at a time, each after the one before is written, so that neither memory nor the turn grows with the state;
//! - upon `OfferSnapshot`: the saved file is read and sent chunk by chunk, each after the one before is acknowledged;
//! - upon the last chunk: the receiver hands the engine's message to its own engine, which asks for the installation.
//!
//! A snapshot file's content is one header chunk of the replica, then the state machine's chunks:
//!
//! ```text
//! header = version:u8 (2) time_ms:u64 count:u32 (origin:u64 incarnation:u64 sequence:u64)*count
//!          roster files:u32 (size:u16 path length:u64)*files context
//! ```
//! Deliberately absent: files and their checksums (the storage room has them).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use verity_contract::{Attachment, Attachments, RestoreError, SnapshotMeta, StateMachine};
use verity_storage::group_folder;
use verity_types::{GroupId, Incarnation, LogIndex, Mono, Nanos, NodeId, WallMs};

use crate::lane::Lanes;
use crate::roster::{Roster, put_roster, take_roster};

/// How many bytes of state are drawn, or sent to a peer, at once.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;
/// A transfer without an acknowledgement for this long has failed.
pub(crate) const TRANSFER_WAIT_MAX: Nanos = Nanos::from_millis(5_000);

const VERSION: u8 = 2;
/// A snapshot stands on at most so many files.
const FILES_MAX: u32 = 1 << 20;

/// A snapshot that is being taken.
#[derive(Debug)]
pub(crate) struct Saving {
    pub(crate) meta: SnapshotMeta,
    pub(crate) finished: bool,
    pub(crate) attachments: Attachments,
    /// Bytes of the chunks so far.
    pub(crate) bytes: u64,
}

/// A snapshot on its way to one peer.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) meta: SnapshotMeta,
    pub(crate) message: Bytes,
    pub(crate) acked: u64,
    pub(crate) total: Option<u64>,
    pub(crate) heard_at: Mono,
}

/// What a group starts from, or is reset to.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    pub(crate) meta: SnapshotMeta,
    pub(crate) lanes: Lanes,
    pub(crate) time: WallMs,
    pub(crate) roster: Roster,
    /// What a joint change that the snapshot stands in carries.
    pub(crate) context: Bytes,
    /// Bytes of its chunks.
    pub(crate) bytes: u64,
}

pub(crate) fn encode_header(
    time: WallMs,
    lanes: &Lanes,
    roster: &Roster,
    files: &[Attachment],
    context: &Bytes,
) -> Bytes {
    let mut out = BytesMut::with_capacity(13 + 24 * lanes.len());
    out.put_u8(VERSION);
    out.put_u64(time.0);
    out.put_u32(u32::try_from(lanes.len()).expect("a cluster has fewer than 2^32 nodes"));
    for (origin, incarnation, sequence) in lanes.iter() {
        out.put_u64(origin.0);
        out.put_u64(incarnation.0);
        out.put_u64(sequence);
    }
    put_roster(&mut out, roster);
    out.put_u32(u32::try_from(files.len()).expect("a machine has fewer than 2^32 files"));
    for file in files {
        out.put_u16(u16::try_from(file.path.len()).expect("a path is short"));
        out.put_slice(file.path.as_bytes());
        out.put_u64(file.length);
    }
    out.put_slice(context);
    out.freeze()
}

/// The files that a snapshot stands on, by its header chunk. Only those count that lie in the folder of the group: a peer
/// must not name others.
pub(crate) fn attachments_of(group: GroupId, header: Bytes) -> Option<Vec<Attachment>> {
    let folder = group_folder(group) + "/";
    let sound = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    let files = decode_header(header)?.files;
    files.iter().all(|file| file.path.strip_prefix(&folder).is_some_and(sound)).then_some(files)
}

/// How a file is named that came from a peer for the snapshot at `index`, behind the name of its place.
pub(crate) fn staged_suffix(index: LogIndex) -> String {
    format!(".staged-{:016x}", index.0)
}

#[derive(Debug, PartialEq, Eq)]
struct Header {
    time: WallMs,
    lanes: Lanes,
    roster: Roster,
    files: Vec<Attachment>,
    context: Bytes,
}

fn decode_header(mut bytes: Bytes) -> Option<Header> {
    if bytes.try_get_u8().ok()? != VERSION {
        return None;
    }
    let time = WallMs(bytes.try_get_u64().ok()?);
    let count = bytes.try_get_u32().ok()? as usize;
    if count.checked_mul(24)? > bytes.remaining() {
        return None;
    }
    let mut lanes = Lanes::default();
    for _ in 0..count {
        let origin = NodeId(bytes.get_u64());
        let incarnation = Incarnation(bytes.get_u64());
        lanes.insert(origin, incarnation, bytes.get_u64());
    }
    let roster = take_roster(&mut bytes)?;
    let count = bytes.try_get_u32().ok().filter(|count| *count <= FILES_MAX)?;
    let mut files = Vec::new();
    for _ in 0..count {
        let size = usize::from(bytes.try_get_u16().ok()?);
        if size > bytes.remaining() {
            return None;
        }
        let path = String::from_utf8(bytes.split_to(size).to_vec()).ok()?;
        files.push(Attachment { path, length: bytes.try_get_u64().ok()? });
    }
    Some(Header { time, lanes, roster, files, context: bytes })
}

/// Restores a group's state machine from the chunks of a saved snapshot.
///
/// # Errors
/// [`RestoreError`] if the chunks cannot be read or do not decode.
pub fn restore_group(
    machine: &mut dyn StateMachine,
    meta: SnapshotMeta,
    chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>,
) -> Result<Restored, RestoreError> {
    let header = chunks.next().ok_or_else(|| RestoreError::Invalid("the snapshot is empty".into()))??;
    let Header { time, lanes, roster, context, .. } =
        decode_header(header).ok_or_else(|| RestoreError::Invalid("the snapshot's header is not ours".into()))?;
    let mut bytes = 0;
    machine.staged(&staged_suffix(meta.index));
    machine.restore(&mut chunks.inspect(|chunk| bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64)))?;
    Ok(Restored { meta, lanes, time, roster, context, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trip() {
        let mut lanes = Lanes::default();
        lanes.insert(NodeId(1), Incarnation(2), 3);
        lanes.insert(NodeId(4), Incarnation(5), 6);
        let roster = Roster::from([(NodeId(7), "host:7071".to_owned())]);
        let context = Bytes::from_static(b"context");
        let files = vec![Attachment { path: format!("{}/0.log", group_folder(GroupId(5))), length: 77 }];
        let bytes = encode_header(WallMs(99), &lanes, &roster, &files, &context);
        for cut in 0..bytes.len() - context.len() {
            assert_eq!(decode_header(bytes.slice(..cut)), None, "cut at {cut}");
        }
        assert_eq!(attachments_of(GroupId(5), bytes.clone()).as_ref(), Some(&files));
        assert_eq!(attachments_of(GroupId(6), bytes.clone()), None, "another group's folder");
        assert_eq!(decode_header(bytes), Some(Header { time: WallMs(99), lanes, roster, files, context }));
    }

    #[test]
    fn a_peer_names_no_file_outside_of_the_groups_folder() {
        let folder = group_folder(GroupId(5));
        for path in ["wal/1", "/etc/passwd", &format!("{folder}/../x"), &format!("{folder}/"), &format!("{folder}/a/b")]
        {
            let files = [Attachment { path: path.to_owned(), length: 1 }];
            let header = encode_header(WallMs(1), &Lanes::default(), &Roster::new(), &files, &Bytes::new());
            assert_eq!(attachments_of(GroupId(5), header), None, "{path}");
        }
    }
}
