//! A stream cut into messages: magic, command, size, checksum, payload.
//!
//! - upon another network's magic, or a size above 4,000,000 bytes: the stream is given up;
//! - upon a wrong checksum or a command that is no text: this one message is skipped.

use std::fmt;

use bitcoin::hashes::{Hash, sha256d};
use thiserror::Error;

/// Bytes before each payload.
pub const HEADER_SIZE: usize = 24;
/// No payload is larger.
pub const PAYLOAD_SIZE_MAX: usize = 4_000_000;
/// Memory is taken in steps of no more than this ahead of what arrived.
const RESERVE_MAX: usize = 256 * 1024;

/// A message that is not decoded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its command, such as `inv`. Empty if it is to be skipped.
    pub command: String,
    /// Its content.
    pub payload: Vec<u8>,
    /// Bytes that it took of the stream.
    pub size: usize,
    /// Why it is to be skipped.
    pub skip: Option<FrameError>,
}

/// A stream or a message is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Another network's, or none's.
    #[error("Header error: Wrong MessageStart {} received", Hex(.0))]
    Magic([u8; 4]),
    /// Larger than any may be.
    #[error("Header error: Size too large ({command}, {size} bytes)")]
    Size {
        /// Its command.
        command: String,
        /// What it claims.
        size: u32,
    },
    /// Its bytes changed on the way.
    #[error("Header error: Wrong checksum ({command}, {size} bytes), expected {} was {}", Hex(.expected), Hex(.found))]
    Checksum {
        /// Its command.
        command: String,
        /// Its size.
        size: usize,
        /// By its bytes.
        expected: [u8; 4],
        /// By its header.
        found: [u8; 4],
    },
    /// A packet of the v2 transport has no command that can be told.
    #[error("V2 transport error: invalid message type ({0} bytes contents)")]
    Packet(usize),
    /// Its command is no text.
    #[error("Header error: Invalid message type ({command}, {size} bytes)")]
    Command {
        /// What of it can be shown.
        command: String,
        /// Its size.
        size: usize,
    },
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Cuts a stream.
#[derive(Clone, Debug)]
pub struct Decoder {
    magic: [u8; 4],
    header: Vec<u8>,
    payload: Vec<u8>,
    size: usize,
}

impl Decoder {
    /// Of one network.
    #[must_use]
    pub fn new(magic: [u8; 4]) -> Self {
        Self { magic, header: Vec::with_capacity(HEADER_SIZE), payload: Vec::new(), size: 0 }
    }

    /// Takes bytes off the front of `bytes` up to the next message's end.
    ///
    /// # Errors
    /// The stream cannot be followed any further.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if self.header.len() < HEADER_SIZE {
            take(&mut self.header, bytes, HEADER_SIZE);
            if self.header.len() < HEADER_SIZE {
                return Ok(None);
            }
            self.check_header()?;
        }
        let ahead = (self.size - self.payload.len()).min(RESERVE_MAX);
        self.payload.reserve(ahead);
        take(&mut self.payload, bytes, self.size);
        if self.payload.len() < self.size {
            return Ok(None);
        }
        Ok(Some(self.finish()))
    }

    fn check_header(&mut self) -> Result<(), FrameError> {
        let magic: [u8; 4] = self.header[..4].try_into().expect("a header has 24 bytes");
        if magic != self.magic {
            return Err(FrameError::Magic(magic));
        }
        let size = u32::from_le_bytes(self.header[16..20].try_into().expect("a header has 24 bytes"));
        if size as usize > PAYLOAD_SIZE_MAX {
            return Err(FrameError::Size { command: printable(&self.header[4..16]), size });
        }
        self.size = size as usize;
        Ok(())
    }

    fn finish(&mut self) -> Frame {
        let (header, payload) = (std::mem::take(&mut self.header), std::mem::take(&mut self.payload));
        let expected = checksum(&payload);
        let found: [u8; 4] = header[20..24].try_into().expect("a header has 24 bytes");
        let size = payload.len();
        let command = command_text(&header[4..16]);
        let skip = if expected != found {
            Some(FrameError::Checksum { command: printable(&header[4..16]), size, expected, found })
        } else if command.is_none() {
            Some(FrameError::Command { command: printable(&header[4..16]), size })
        } else {
            None
        };
        Frame { command: command.unwrap_or_default(), payload, size: size + HEADER_SIZE, skip }
    }
}

/// Moves bytes until `to` has `most`.
fn take(to: &mut Vec<u8>, bytes: &mut &[u8], most: usize) {
    let (head, tail) = bytes.split_at(bytes.len().min(most - to.len()));
    to.extend_from_slice(head);
    *bytes = tail;
}

/// A command: printable letters, and nothing but zeros behind them.
pub(crate) fn command_text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at(end);
    let good = text.iter().all(|byte| (b' '..=0x7e).contains(byte)) && rest.iter().all(|byte| *byte == 0);
    good.then(|| text.iter().map(|byte| char::from(*byte)).collect())
}

fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .filter(|byte| byte.is_ascii_alphanumeric() || b" .,;-_/:?@()".contains(byte))
        .map(|byte| char::from(*byte))
        .collect()
}

fn checksum(payload: &[u8]) -> [u8; 4] {
    let hash = sha256d::Hash::hash(payload).to_byte_array();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// The command as twelve bytes.
pub(crate) fn command_bytes(command: &str) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..command.len()].copy_from_slice(command.as_bytes());
    bytes
}

/// A message as the old transport has it.
#[must_use]
pub fn encode_frame(magic: [u8; 4], command: &str, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= PAYLOAD_SIZE_MAX, "no message of ours is that large");
    let mut out = Vec::with_capacity(HEADER_SIZE + payload.len());
    out.extend_from_slice(&magic);
    out.extend_from_slice(&command_bytes(command));
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&checksum(payload));
    out.extend_from_slice(payload);
    out
}
