//! The log's bytes.
//!
//! A file is a header (see [`FileHeader`]) and records behind it, each beginning at a multiple of 8:
//!
//! ```text
//! offset size
//!      0    2  magic 0x7656
//!      2    1  kind, see [`Kind`]
//!      3    1  zero
//!      4    4  crc32c over the file's salt, bytes 0..4 and bytes 8..56
//!      8    4  crc32c over the payload
//!     12    4  payload length
//!     16    8  group
//!     24    8  index
//!     32    8  order: counts the records as they were written first; kept when a record moves to another file
//!     40    8  round: counts the syncs
//!     48    4  where in this file the record's round begins
//!     52    4  zero
//!     56       payload, then zeros up to a multiple of 8
//! ```
//!
//! Integers are little-endian. The salt differs from file to file, so that what an earlier use of the same blocks left
//! behind, or what a client put into a payload, is never taken for a record. The header has a checksum of its own, so
//! that searching for records behind damage costs 56 bytes a place, whatever length they claim.

use verity_contract::RecordKind;
use verity_types::{GroupId, LogIndex, NodeId};

use crate::Error;
use crate::codec::{Put, Reader};
use crate::identity::{ClusterId, seal, unseal};

/// Length of a record's header.
pub(crate) const RECORD_HEADER: usize = 56;
/// Every record begins at a multiple of this.
pub(crate) const ALIGN: usize = 8;
/// Where the first record of a file begins.
pub(crate) const DATA_START: usize = 24 + 48;
/// The longest payload of a record.
pub const PAYLOAD_MAX: usize = 64 << 20;
/// The longest file: one record of the longest payload, or what the configuration says, within 32-bit offsets.
pub(crate) const FILE_MAX: u64 = 1 << 30;

const MAGIC: u16 = 0x7656;
pub(crate) const FILE_MAGIC: [u8; 8] = *b"VRTYWLOG";

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The group's votes and promises; the latest holds.
    State = 1,
    /// A log entry; the latest at its index holds.
    Entry = 2,
    /// Voids the entries behind its index that were written before it.
    Truncate = 3,
    /// Entries and truncations up to and with its index are no longer needed. No payload.
    Trim = 4,
    /// The group ended; everything of it that was written before is void. No payload.
    Retire = 5,
    /// What proves the entry at its index; the latest there holds.
    Proof = 6,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Kind::State, Kind::Entry, Kind::Truncate, Kind::Trim, Kind::Retire, Kind::Proof]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }

    /// The contract's name for it; `None` for the log's own marks.
    pub(crate) fn record_kind(self) -> Option<RecordKind> {
        match self {
            Kind::State => Some(RecordKind::State),
            Kind::Entry => Some(RecordKind::Entry),
            Kind::Proof => Some(RecordKind::Proof),
            Kind::Truncate => Some(RecordKind::Truncate),
            Kind::Trim | Kind::Retire => None,
        }
    }
}

impl From<RecordKind> for Kind {
    fn from(kind: RecordKind) -> Self {
        match kind {
            RecordKind::State => Kind::State,
            RecordKind::Entry => Kind::Entry,
            RecordKind::Proof => Kind::Proof,
            RecordKind::Truncate => Kind::Truncate,
        }
    }
}

/// What makes a file's checksums its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn of_salt(salt: u64) -> Self {
        Self(crc32c::crc32c(&salt.to_le_bytes()))
    }

    fn header_crc(self, header: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, &header[..4]), &header[8..RECORD_HEADER])
    }
}

/// A record's header, but for its checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: Kind,
    pub(crate) group: GroupId,
    pub(crate) index: LogIndex,
    pub(crate) order: u64,
    pub(crate) round: u64,
    pub(crate) round_start: u32,
    pub(crate) payload_len: u32,
}

impl RecordHeader {
    /// Length of the whole record, padding included.
    pub(crate) fn size(&self) -> usize {
        record_size(self.payload_len as usize)
    }
}

/// Length of a record with a payload of `payload_len` bytes.
pub(crate) fn record_size(payload_len: usize) -> usize {
    (RECORD_HEADER + payload_len).next_multiple_of(ALIGN)
}

/// Appends to `out` what stands in front of a record's payload, which comes in two pieces.
pub(crate) fn encode_head(out: &mut Vec<u8>, seed: Seed, header: &RecordHeader, payload: [&[u8]; 2]) {
    let [first, second] = payload;
    assert_eq!(header.payload_len as usize, first.len() + second.len(), "a record's header describes its payload");
    let crc = crc32c::crc32c_append(crc32c::crc32c(first), second);
    let mut head = [0; RECORD_HEADER];
    head[0..2].copy_from_slice(&MAGIC.to_le_bytes());
    head[2] = header.kind as u8;
    head[8..12].copy_from_slice(&crc.to_le_bytes());
    head[12..16].copy_from_slice(&header.payload_len.to_le_bytes());
    head[16..24].copy_from_slice(&header.group.0.to_le_bytes());
    head[24..32].copy_from_slice(&header.index.0.to_le_bytes());
    head[32..40].copy_from_slice(&header.order.to_le_bytes());
    head[40..48].copy_from_slice(&header.round.to_le_bytes());
    head[48..52].copy_from_slice(&header.round_start.to_le_bytes());
    let crc = seed.header_crc(&head);
    head[4..8].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&head);
}

/// Appends to `out` what stands behind a payload of `payload_len` bytes.
pub(crate) fn pad(out: &mut Vec<u8>, payload_len: usize) {
    let padding = record_size(payload_len) - RECORD_HEADER - payload_len;
    out.extend_from_slice(&[0; ALIGN][..padding]);
}

/// Appends a whole record to `out`.
#[cfg(test)]
pub(crate) fn encode(out: &mut Vec<u8>, seed: Seed, header: &RecordHeader, payload: &[u8]) {
    encode_head(out, seed, header, [payload, &[]]);
    out.extend_from_slice(payload);
    pad(out, payload.len());
}

/// The header at the front of `bytes`, if its checksum holds, with the checksum of its payload.
pub(crate) fn decode_header(bytes: &[u8], seed: Seed) -> Option<(RecordHeader, u32)> {
    let head = bytes.get(..RECORD_HEADER)?;
    let mut fields = Reader(head);
    if fields.u16()? != MAGIC {
        return None;
    }
    let (kind, _zero, crc, payload_crc) = (fields.u8()?, fields.u8()?, fields.u32()?, fields.u32()?);
    if crc != seed.header_crc(head) {
        return None;
    }
    let payload_len = fields.u32()?;
    let header = RecordHeader {
        kind: Kind::of(kind)?,
        group: GroupId(fields.u64()?),
        index: LogIndex(fields.u64()?),
        order: fields.u64()?,
        round: fields.u64()?,
        round_start: fields.u32()?,
        payload_len,
    };
    (payload_len as usize <= PAYLOAD_MAX).then_some((header, payload_crc))
}

/// The record at the front of `bytes`, if both checksums hold.
pub(crate) fn decode(bytes: &[u8], seed: Seed) -> Option<(RecordHeader, &[u8])> {
    let (header, payload_crc) = decode_header(bytes, seed)?;
    let payload = bytes.get(..header.size())?.get(RECORD_HEADER..RECORD_HEADER + header.payload_len as usize)?;
    (crc32c::crc32c(payload) == payload_crc).then_some((header, payload))
}

/// What a log file begins with, behind magic, version, length and checksum: cluster (16 bytes), node (u64), sequence
/// number (u64), salt (u64), length of the previous file's records (u64).
///
/// The header is on stable storage before the file gets its name, and the previous file's records are before that. A
/// file under its name without a sound header is therefore damaged, and so is a file whose records end before the
/// place that its successor names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) seq: u64,
    pub(crate) salt: u64,
    /// Where the records of the file before this one end; 0 for the first file.
    pub(crate) previous_end: u64,
}

impl FileHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(48);
        body.extend_from_slice(&self.cluster.0);
        body.put_u64(self.node.0);
        body.put_u64(self.seq);
        body.put_u64(self.salt);
        body.put_u64(self.previous_end);
        let out = seal(FILE_MAGIC, &body);
        assert_eq!(out.len(), DATA_START, "records begin right behind the header");
        out
    }

    pub(crate) fn decode(path: &str, bytes: &[u8]) -> Result<Self, Error> {
        let mut fields = Reader(unseal(path, FILE_MAGIC, bytes)?);
        let decoded = (|| {
            Some(Self {
                cluster: ClusterId(fields.array()?),
                node: NodeId(fields.u64()?),
                seq: fields.u64()?,
                salt: fields.u64()?,
                previous_end: fields.u64()?,
            })
        })();
        decoded.ok_or_else(|| Error::corrupt(path, 0, "its header is too short"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_round_trip_under_their_salt_only(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            salt: u64,
            numbers: [u64; 4],
            round_start: u32,
            kind in 1_u8..6,
        ) {
            let header = RecordHeader {
                kind: Kind::of(kind).unwrap(),
                group: GroupId(numbers[0]),
                index: LogIndex(numbers[1]),
                order: numbers[2],
                round: numbers[3],
                round_start,
                payload_len: u32::try_from(payload.len()).unwrap(),
            };
            let mut out = Vec::new();
            encode(&mut out, Seed::of_salt(salt), &header, &payload);
            prop_assert_eq!(out.len() % ALIGN, 0);
            prop_assert_eq!(decode(&out, Seed::of_salt(salt)), Some((header, &payload[..])));
            prop_assert_eq!(decode(&out, Seed::of_salt(salt ^ 1)), None);
            for len in 0..out.len() {
                prop_assert_eq!(decode(&out[..len], Seed::of_salt(salt)), None);
            }
        }

        #[test]
        fn any_bytes_decode_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, Seed::of_salt(1));
            prop_assert!(FileHeader::decode("file", &bytes).is_err());
        }
    }
}
