//! What a node tells the leader's duty: these sessions are alive.
//!
//! ```text
//! whisper = version:u8 (1) session:i64*
//! ```
//! It may be lost: a client is heard from at least three times in its session's timeout.

use bytes::Bytes;

/// The most sessions of one whisper.
pub(super) const SESSIONS_MAX: usize = 4096;

const VERSION: u8 = 1;

/// Makes a whisper.
pub(super) fn encode(sessions: &[i64]) -> Bytes {
    let mut out = Vec::with_capacity(1 + sessions.len() * 8);
    out.push(VERSION);
    sessions.iter().for_each(|session| out.extend_from_slice(&session.to_be_bytes()));
    Bytes::from(out)
}

/// The sessions of a whisper; none if it is not one.
pub(super) fn decode(bytes: &[u8]) -> impl Iterator<Item = i64> + '_ {
    let rest = bytes.strip_prefix(&[VERSION]).filter(|rest| rest.len() <= SESSIONS_MAX * 8).unwrap_or_default();
    rest.chunks_exact(8).map(|word| i64::from_be_bytes(word.try_into().expect("chunks of eight")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whispers_round_trip() {
        assert_eq!(decode(&encode(&[1, -2])).collect::<Vec<_>>(), [1, -2]);
        assert_eq!(decode(&[]).count(), 0);
        assert_eq!(decode(&[2, 0, 0, 0, 0, 0, 0, 0, 1]).count(), 0);
        assert_eq!(decode(&[1, 0, 0]).count(), 0);
        assert_eq!(decode(&vec![1; 1 + (SESSIONS_MAX + 1) * 8]).count(), 0);
    }
}
