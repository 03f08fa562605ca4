//! What a node tells the leader's duty without an order: these sessions are alive, or: let me join.
//!
//! ```text
//! whisper = 1:u8 session:i64*
//!         | 2:u8 line             the node's own line of the ensemble, UTF-8
//! ```
//! It may be lost: a client is heard from at least three times in its session's timeout, and a node asks to join until
//! it has.

use bytes::Bytes;

/// The most sessions of one whisper.
pub(super) const SESSIONS_MAX: usize = 4096;
/// The longest line of a node that wants to join, in bytes.
const LINE_SIZE_MAX: usize = 1024;

const ALIVE: u8 = 1;
const JOIN: u8 = 2;

/// A whisper, decoded.
pub(super) enum Whisper<'a, I: Iterator<Item = i64>> {
    /// These sessions were heard from.
    Alive(I),
    /// The sender wants to be a server with this line.
    Join(&'a str),
}

/// Says that sessions are alive.
pub(super) fn alive(sessions: &[i64]) -> Bytes {
    let mut out = Vec::with_capacity(1 + sessions.len() * 8);
    out.push(ALIVE);
    sessions.iter().for_each(|session| out.extend_from_slice(&session.to_be_bytes()));
    Bytes::from(out)
}

/// Asks to join.
pub(super) fn join(line: &str) -> Bytes {
    [&[JOIN], line.as_bytes()].concat().into()
}

/// Reads a whisper; `None` if it is not one.
pub(super) fn decode(bytes: &[u8]) -> Option<Whisper<'_, impl Iterator<Item = i64> + '_>> {
    let (kind, rest) = bytes.split_first()?;
    match *kind {
        ALIVE if rest.len() <= SESSIONS_MAX * 8 => {
            let sessions = rest.chunks_exact(8);
            Some(Whisper::Alive(sessions.map(|word| i64::from_be_bytes(word.try_into().expect("chunks of eight")))))
        }
        JOIN if rest.len() <= LINE_SIZE_MAX => std::str::from_utf8(rest).ok().map(Whisper::Join),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(bytes: &[u8]) -> Option<Vec<i64>> {
        match decode(bytes)? {
            Whisper::Alive(sessions) => Some(sessions.collect()),
            Whisper::Join(_) => None,
        }
    }

    #[test]
    fn whispers_round_trip() {
        assert_eq!(sessions(&alive(&[1, -2])), Some(vec![1, -2]));
        assert_eq!(sessions(&[]), None);
        assert_eq!(sessions(&[3, 0, 0, 0, 0, 0, 0, 0, 1]), None);
        assert_eq!(sessions(&[ALIVE, 0, 0]), Some(Vec::new()));
        assert_eq!(sessions(&vec![ALIVE; 1 + (SESSIONS_MAX + 1) * 8]), None);
        assert!(matches!(decode(&join("server.4=x")), Some(Whisper::Join("server.4=x"))));
        assert!(decode(&[JOIN, 0xff]).is_none());
        assert!(decode(&vec![JOIN; LINE_SIZE_MAX + 2]).is_none());
    }
}
