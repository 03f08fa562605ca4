//! What one log entry of a group carries: a stamp of time and the commands of one or more lanes.
//!
//! ```text
//! entry  = version:u8 (1) time_ms:u64 run*
//! run    = origin:u64 incarnation:u64 first_sequence:u64 count:u32 (length:u32 bytes)*count
//! ```
//! All numbers are big-endian. A run holds commands of one lane with consecutive sequence numbers. Origin 0 is the
//! leader's own duty: outside of any lane, never deduplicated.
//!
//! Deliberately absent: checksums (the log and the peer connection have theirs) and any view into a command.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use verity_contract::{Pieces, RequestId};
use verity_types::{Incarnation, NodeId, WallMs};

/// An entry is closed when its commands reach this many bytes.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// An entry is closed when it holds this many commands.
pub const BATCH_COMMANDS_MAX: usize = 2048;

const VERSION: u8 = 1;
const RUN_HEADER: usize = 8 + 8 + 8 + 4;

/// One command on its way into the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Who asks.
    pub request: RequestId,
    /// The system's own bytes.
    pub command: Pieces,
}

/// The content of one log entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The leader's stamp.
    pub time: WallMs,
    /// In order.
    pub proposals: Vec<Proposal>,
}

impl Batch {
    /// The entry's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let bytes: usize = self.proposals.iter().map(|p| p.command.len() + 4).sum();
        let mut out = BytesMut::with_capacity(9 + RUN_HEADER + bytes);
        out.put_u8(VERSION);
        out.put_u64(self.time.0);
        encode_runs(&self.proposals, &mut out);
        out.freeze()
    }

    /// Reads an entry; `None` if the bytes are not one.
    #[must_use]
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.try_get_u8().ok()? != VERSION {
            return None;
        }
        let time = WallMs(bytes.try_get_u64().ok()?);
        let proposals = decode_runs(bytes)?;
        Some(Self { time, proposals })
    }
}

/// How many of these share an entry, or a frame: as many as fit [`BATCH_BYTES_MAX`] and `commands_max`, which is
/// [`BATCH_COMMANDS_MAX`] at most, and one where even one does not.
pub(crate) fn fitting<'a>(proposals: impl Iterator<Item = &'a Proposal>, commands_max: usize) -> usize {
    let (mut bytes, count_max) = (0, commands_max.min(BATCH_COMMANDS_MAX));
    let fits = |(at, proposal): &(usize, &Proposal)| {
        bytes += proposal.command.len();
        *at == 0 || *at < count_max && bytes <= BATCH_BYTES_MAX
    };
    proposals.enumerate().take_while(fits).count()
}

/// Appends proposals as runs.
pub(crate) fn encode_runs(proposals: &[Proposal], out: &mut BytesMut) {
    let mut rest = proposals;
    while let Some(first) = rest.first() {
        let count = 1 + rest
            .windows(2)
            .take_while(|pair| {
                let (a, b) = (&pair[0].request, &pair[1].request);
                a.origin == b.origin && a.incarnation == b.incarnation && a.sequence.checked_add(1) == Some(b.sequence)
            })
            .count();
        let (run, tail) = rest.split_at(count);
        out.put_u64(first.request.origin.0);
        out.put_u64(first.request.incarnation.0);
        out.put_u64(first.request.sequence);
        out.put_u32(u32::try_from(count).expect("a batch is bounded by BATCH_COMMANDS_MAX or the lane"));
        for proposal in run {
            out.put_u32(u32::try_from(proposal.command.len()).expect("a command is bounded by its session"));
            proposal.command.put(out);
        }
        rest = tail;
    }
}

/// Reads runs to the end of `bytes`; `None` if they are cut or their counts exceed the bytes.
pub(crate) fn decode_runs(mut bytes: Bytes) -> Option<Vec<Proposal>> {
    let mut proposals = Vec::new();
    while bytes.has_remaining() {
        let origin = NodeId(bytes.try_get_u64().ok()?);
        let incarnation = Incarnation(bytes.try_get_u64().ok()?);
        let first = bytes.try_get_u64().ok()?;
        let count = bytes.try_get_u32().ok()?;
        // Each command takes four bytes at least, so a lying count cannot make us allocate.
        if count == 0 || usize::try_from(count).ok()?.checked_mul(4)? > bytes.remaining() {
            return None;
        }
        for offset in 0..u64::from(count) {
            let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
            if length > bytes.remaining() {
                return None;
            }
            let sequence = first.checked_add(offset)?;
            let command = bytes.split_to(length).into();
            proposals.push(Proposal { request: RequestId { origin, incarnation, sequence }, command });
        }
    }
    Some(proposals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn proposal(origin: u64, sequence: u64, command: &[u8]) -> Proposal {
        Proposal {
            request: RequestId { origin: NodeId(origin), incarnation: Incarnation(7), sequence },
            command: Bytes::copy_from_slice(command).into(),
        }
    }

    proptest! {
        #[test]
        fn round_trip(time: u64, parts in proptest::collection::vec((0u64..4, 0u64..9, proptest::collection::vec(any::<u8>(), 0..9)), 0..40)) {
            let batch = Batch {
                time: WallMs(time),
                proposals: parts.iter().map(|(origin, sequence, command)| proposal(*origin, *sequence, command)).collect(),
            };
            prop_assert_eq!(Batch::decode(batch.encode()), Some(batch));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Batch::decode(Bytes::from(bytes));
        }
    }

    #[test]
    fn a_lying_count_is_refused() {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_u64(1);
        out.put_u64(1);
        out.put_u64(1);
        out.put_u64(1);
        out.put_u32(u32::MAX);
        assert_eq!(Batch::decode(out.freeze()), None);
    }

    #[test]
    fn an_entry_has_as_many_commands_as_it_may() {
        let proposals: Vec<Proposal> = (1..=40).map(|sequence| proposal(1, sequence, b"x")).collect();
        let fit = |commands_max| fitting(proposals.iter(), commands_max);
        assert_eq!([fit(0), fit(1), fit(16), fit(usize::MAX)], [1, 1, 16, 40]);
        assert_eq!(fitting(std::iter::empty(), 16), 0);
    }

    #[test]
    fn consecutive_commands_share_a_run() {
        let batch = Batch { time: WallMs(1), proposals: (1..=10).map(|s| proposal(1, s, b"x")).collect() };
        assert_eq!(batch.encode().len(), 9 + RUN_HEADER + 10 * 5);
    }
}
