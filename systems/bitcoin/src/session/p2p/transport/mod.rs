//! How messages travel: in the open (v1), or under a cipher (v2).
//!
//! A responder that offers v2 finds out which one it is by the first bytes.

mod cipher;
#[cfg(test)]
mod tests;
mod v2;

use thiserror::Error;

use self::cipher::KeyPair;
use self::v2::{Step, V2};
use crate::wire::{Decoder, Frame, FrameError, encode_frame};

/// What an old peer's first message begins with: the magic, and `version`.
const V1_PREFIX_SIZE: usize = 16;

fn v1_prefix(magic: [u8; 4]) -> [u8; V1_PREFIX_SIZE] {
    let mut prefix = *b"0000version\0\0\0\0\0";
    prefix[..4].copy_from_slice(&magic);
    prefix
}

/// The stream cannot be followed any further.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum TransportError {
    /// In the open.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// An old peer of another network.
    #[error("V2 transport error: V1 peer with wrong MessageStart {:02x}{:02x}{:02x}{:02x}", .0[0], .0[1], .0[2], .0[3])]
    OtherNetwork([u8; 4]),
    /// Garbage went on for too long.
    #[error("V2 transport error: missing garbage terminator")]
    NoTerminator,
    /// A packet is larger than any may be.
    #[error("V2 transport error: packet too large ({0} bytes)")]
    TooLarge(usize),
    /// A packet was changed on the way.
    #[error("V2 transport error: packet decryption failure ({0} bytes)")]
    Changed(usize),
}

/// Random bytes for one connection.
pub(super) struct Entropy {
    pub(super) secret: [u8; 32],
    pub(super) noise: [u8; 32],
    pub(super) garbage: Vec<u8>,
}

/// One connection's.
pub(super) struct Transport {
    magic: [u8; 4],
    way: Way,
}

enum Way {
    V1(Decoder),
    V2(Box<V2>),
}

impl Transport {
    /// In the open.
    pub(super) fn v1(magic: [u8; 4]) -> Self {
        Self { magic, way: Way::V1(Decoder::new(magic)) }
    }

    /// Under a cipher, or as it turns out.
    pub(super) fn v2(magic: [u8; 4], initiator: bool, entropy: Entropy) -> Self {
        let pair = KeyPair::new(entropy.secret, entropy.noise);
        Self { magic, way: Way::V2(Box::new(V2::new(magic, initiator, pair, entropy.garbage))) }
    }

    /// `v1`, `v2`, or `detecting`.
    pub(super) fn name(&self) -> &'static str {
        match &self.way {
            Way::V1(_) => "v1",
            Way::V2(v2) if v2.is_decided() => "v2",
            Way::V2(_) => "detecting",
        }
    }

    /// The session's id, in hex.
    pub(super) fn session(&self) -> String {
        let Way::V2(v2) = &self.way else { return String::new() };
        v2.session().map_or_else(String::new, |id| id.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// True if a second try in the open may do better.
    pub(super) fn should_fall_back(&self) -> bool {
        matches!(&self.way, Way::V2(v2) if v2.never_answered())
    }

    /// Takes bytes off the front up to the next message's end.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, TransportError> {
        loop {
            match &mut self.way {
                Way::V1(decoder) => return Ok(decoder.next(bytes)?),
                Way::V2(v2) => match v2.step(bytes)? {
                    Step::Wait => return Ok(None),
                    Step::Again => {}
                    Step::Frame(frame) => return Ok(Some(frame)),
                    Step::V1(prefix) => {
                        let mut decoder = Decoder::new(self.magic);
                        let none = decoder.next(&mut &prefix[..])?;
                        assert!(none.is_none(), "the first bytes are no whole header");
                        self.way = Way::V1(decoder);
                    }
                },
            }
        }
    }

    /// Sends a message; returns how many bytes it takes.
    pub(super) fn send(&mut self, command: &str, payload: Vec<u8>, out: &mut Vec<u8>) {
        match &mut self.way {
            Way::V1(_) => out.extend_from_slice(&encode_frame(self.magic, command, &payload)),
            Way::V2(v2) => v2.send(command, payload),
        }
        self.flush(out);
    }

    /// Moves out what the handshake has to say.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        if let Way::V2(v2) = &mut self.way {
            out.append(&mut v2.output);
        }
    }
}
