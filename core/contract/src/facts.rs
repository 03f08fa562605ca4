//! How a group is on one node, for services whose protocol has operators who ask.
//!
//! ```text
//! facts = members applied:number committed:number snapshot:number log_bytes:number snapshot_bytes:number
//!         state_bytes:number digest:32 count:number (node:number matched:number active:u8)*count
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use verity_types::{Digest, LogIndex, NodeId};

use crate::agreement::{Members, Progress};
use crate::codec::{CodecError, MEMBERS_MAX, put_members, put_number, take_byte, take_members, take_number};

/// The answer to [`crate::SessionOutput::Inspect`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFacts {
    /// Who takes part.
    pub members: Members,
    /// This node leads, has applied what came before its term, and no change of members is under way: `members` will be so
    /// until somebody wishes otherwise.
    pub settled: bool,
    /// The last index that the state machine has applied.
    pub applied: LogIndex,
    /// The last index known to be committed.
    pub committed: LogIndex,
    /// The index of the last snapshot; 0 for none.
    pub snapshot: LogIndex,
    /// Bytes of log behind the last snapshot.
    pub log_bytes: u64,
    /// Bytes of the last snapshot that was taken or restored, without the files that it stands on.
    pub snapshot_bytes: u64,
    /// Bytes of memory that the state holds, roughly.
    pub state_bytes: u64,
    /// The fingerprint of the applied state.
    pub digest: Digest,
    /// On a leader: how far its peers are.
    pub progress: Vec<Progress>,
}

impl GroupFacts {
    /// In bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        put_members(&mut out, &self.members);
        out.put_u8(u8::from(self.settled));
        let numbers =
            [self.applied.0, self.committed.0, self.snapshot.0, self.log_bytes, self.snapshot_bytes, self.state_bytes];
        numbers.into_iter().for_each(|number| put_number(&mut out, number));
        out.put_slice(&self.digest.0);
        put_number(&mut out, self.progress.len() as u64);
        for progress in &self.progress {
            put_number(&mut out, progress.node.0);
            put_number(&mut out, progress.matched.0);
            out.put_u8(u8::from(progress.active));
        }
        out.freeze()
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`CodecError`] for bytes that are no facts.
    pub fn decode(mut bytes: Bytes) -> Result<Self, CodecError> {
        let bytes = &mut bytes;
        let members = take_members(bytes)?;
        let settled = take_byte(bytes)? != 0;
        let (applied, committed) = (LogIndex(take_number(bytes)?), LogIndex(take_number(bytes)?));
        let snapshot = LogIndex(take_number(bytes)?);
        let (log_bytes, snapshot_bytes, state_bytes) = (take_number(bytes)?, take_number(bytes)?, take_number(bytes)?);
        let mut digest = Digest::default();
        for byte in &mut digest.0 {
            *byte = take_byte(bytes)?;
        }
        let count = take_number(bytes)?;
        if count > MEMBERS_MAX as u64 {
            return Err(CodecError(format!("{count} peers are too many")));
        }
        let mut progress = Vec::new();
        for _ in 0..count {
            let (node, matched) = (NodeId(take_number(bytes)?), LogIndex(take_number(bytes)?));
            progress.push(Progress { node, matched, active: take_byte(bytes)? != 0 });
        }
        Ok(Self {
            members,
            settled,
            applied,
            committed,
            snapshot,
            log_bytes,
            snapshot_bytes,
            state_bytes,
            digest,
            progress,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_round_trip_and_no_cut_of_them_passes() {
        let facts = GroupFacts {
            members: Members::of_voters([NodeId(1), NodeId(2)]),
            settled: true,
            applied: LogIndex(900),
            committed: LogIndex(901),
            snapshot: LogIndex(800),
            log_bytes: 12_345,
            snapshot_bytes: 77,
            state_bytes: 1 << 40,
            digest: Digest([7; 32]),
            progress: vec![Progress { node: NodeId(2), matched: LogIndex(899), active: true }],
        };
        let bytes = facts.encode();
        assert_eq!(GroupFacts::decode(bytes.clone()), Ok(facts));
        (0..bytes.len()).for_each(|cut| assert!(GroupFacts::decode(bytes.slice(..cut)).is_err(), "cut at {cut}"));
    }
}
