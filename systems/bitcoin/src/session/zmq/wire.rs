//! ZMTP 3.0's bytes (RFC 23).
//!
//! - the greeting: 64 bytes: `FF`, eight bytes of no meaning, `7F`, the version, the mechanism's name, whether one is a server;
//! - a frame: flags (1: more follow, 2: the size has eight bytes, 4: a command), the size, the body;
//! - a command: the length of its name, its name, what it says.

use thiserror::Error;

const GREETING_BYTES: usize = 64;
/// No subscriber has reason to send a longer frame.
const FRAME_BYTES_MAX: u64 = 8_192;
/// No more of what it sent waits to be read.
const HELD_BYTES_MAX: usize = 65_536;
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// Why a peer is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ZmtpError {
    /// It greets in another way.
    #[error("the peer speaks no ZMTP of version 3")]
    Greeting,
    /// It wants another mechanism.
    #[error("the peer wants another security mechanism than NULL")]
    Mechanism,
    /// A frame breaks the rules.
    #[error("a frame that ZMTP does not have")]
    Frame,
    /// A frame is longer than any that a subscriber sends.
    #[error("a frame that is too long")]
    TooLong,
    /// It did not begin with READY, or is no subscriber.
    #[error("the peer is no subscriber")]
    NoSubscriber,
    /// It subscribed to too much.
    #[error("too many subscriptions")]
    TooManySubscriptions,
}

/// What a peer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Greeting,
    Ready,
    Subscribe(Vec<u8>),
    Cancel(Vec<u8>),
    Ping(Vec<u8>),
    /// Nothing that matters.
    Other,
}

/// Our greeting.
pub(super) fn greeting() -> Vec<u8> {
    let mut bytes = vec![0; GREETING_BYTES];
    bytes[0] = 0xff;
    bytes[8] = 1;
    bytes[9] = 0x7f;
    bytes[10] = 3;
    bytes[12..16].copy_from_slice(b"NULL");
    bytes
}

/// Our READY: a publisher.
pub(super) fn ready() -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in [("Socket-Type", "PUB"), ("Identity", "")] {
        body.push(u8::try_from(name.len()).expect("a short name"));
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(&u32::try_from(value.len()).expect("a short value").to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    command("READY", &body)
}

/// The answer to a ping.
pub(super) fn pong(context: &[u8]) -> Vec<u8> {
    command("PONG", context)
}

fn command(name: &str, rest: &[u8]) -> Vec<u8> {
    let mut body = vec![u8::try_from(name.len()).expect("a short name")];
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(rest);
    let mut bytes = Vec::new();
    frame(&mut bytes, COMMAND, &body);
    bytes
}

fn frame(out: &mut Vec<u8>, flags: u8, body: &[u8]) {
    match u8::try_from(body.len()) {
        Ok(length) => out.extend_from_slice(&[flags, length]),
        Err(_) => {
            out.push(flags | LONG);
            out.extend_from_slice(&(body.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(body);
}

/// A message of these frames.
pub(super) fn message(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, body) in frames.iter().enumerate() {
        let more = if index + 1 < frames.len() { MORE } else { 0 };
        frame(&mut bytes, more, body);
    }
    bytes
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Greeting,
    Ready,
    Traffic,
}

/// What a peer sent and was not understood yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Decoder {
    held: Vec<u8>,
    stage: Stage,
}

impl Decoder {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ZmtpError> {
        if self.held.len() + bytes.len() > HELD_BYTES_MAX {
            return Err(ZmtpError::TooLong);
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    /// What it says next, once that is whole.
    pub(super) fn take(&mut self) -> Result<Option<Input>, ZmtpError> {
        if self.stage == Stage::Greeting {
            return self.take_greeting();
        }
        let Some((flags, body)) = self.take_frame()? else { return Ok(None) };
        let input = if flags & COMMAND != 0 { of_command(&body)? } else { of_message(flags, &body) };
        match (self.stage, &input) {
            (Stage::Ready, Input::Ready) => self.stage = Stage::Traffic,
            (Stage::Ready, _) => return Err(ZmtpError::NoSubscriber),
            (_, Input::Ready) => return Err(ZmtpError::Frame),
            _ => {}
        }
        Ok(Some(input))
    }

    fn take_greeting(&mut self) -> Result<Option<Input>, ZmtpError> {
        // An older peer, or none of this protocol, is known by what it begins with.
        let begin = [(0, 0xff), (9, 0x7f)];
        if begin.iter().any(|(place, byte)| self.held.get(*place).is_some_and(|own| own != byte)) {
            return Err(ZmtpError::Greeting);
        }
        if self.held.get(10).is_some_and(|version| *version < 3) {
            return Err(ZmtpError::Greeting);
        }
        if self.held.len() < GREETING_BYTES {
            return Ok(None);
        }
        let greeting: Vec<u8> = self.held.drain(..GREETING_BYTES).collect();
        if !greeting[12..32].starts_with(b"NULL\0") {
            return Err(ZmtpError::Mechanism);
        }
        self.stage = Stage::Ready;
        Ok(Some(Input::Greeting))
    }

    fn take_frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, ZmtpError> {
        let Some((flags, rest)) = self.held.split_first() else { return Ok(None) };
        if flags & !(MORE | LONG | COMMAND) != 0 || flags & (MORE | COMMAND) == MORE | COMMAND {
            return Err(ZmtpError::Frame);
        }
        let (size, head) = if flags & LONG == 0 {
            let Some(size) = rest.first() else { return Ok(None) };
            (u64::from(*size), 2)
        } else {
            let Some(size) = rest.first_chunk::<8>() else { return Ok(None) };
            (u64::from_be_bytes(*size), 9)
        };
        if size > FRAME_BYTES_MAX {
            return Err(ZmtpError::TooLong);
        }
        let end = head + usize::try_from(size).map_err(|_| ZmtpError::TooLong)?;
        if self.held.len() < end {
            return Ok(None);
        }
        let flags = *flags;
        let body = self.held[head..end].to_vec();
        self.held.drain(..end);
        Ok(Some((flags, body)))
    }
}

fn of_command(body: &[u8]) -> Result<Input, ZmtpError> {
    let (length, rest) = body.split_first().ok_or(ZmtpError::Frame)?;
    let (name, rest) = rest.split_at_checked(usize::from(*length)).ok_or(ZmtpError::Frame)?;
    match name {
        b"READY" => match socket_type(rest).as_deref() {
            Some(b"SUB" | b"XSUB") => Ok(Input::Ready),
            _ => Err(ZmtpError::NoSubscriber),
        },
        b"SUBSCRIBE" => Ok(Input::Subscribe(rest.into())),
        b"CANCEL" => Ok(Input::Cancel(rest.into())),
        // Behind the time to live, in two bytes, stands what is to be sent back.
        b"PING" => Ok(Input::Ping(rest.get(2..).unwrap_or_default().into())),
        _ => Ok(Input::Other),
    }
}

/// The property of this name among those of READY.
fn socket_type(mut rest: &[u8]) -> Option<Vec<u8>> {
    while let Some((length, after)) = rest.split_first() {
        let (name, after) = after.split_at_checked(usize::from(*length))?;
        let (size, after) = after.split_first_chunk::<4>()?;
        let size = usize::try_from(u32::from_be_bytes(*size)).ok()?;
        let (value, after) = after.split_at_checked(size)?;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            return Some(value.into());
        }
        rest = after;
    }
    None
}

fn of_message(flags: u8, body: &[u8]) -> Input {
    match body.split_first() {
        Some((1, prefix)) if flags & MORE == 0 => Input::Subscribe(prefix.into()),
        Some((0, prefix)) if flags & MORE == 0 => Input::Cancel(prefix.into()),
        _ => Input::Other,
    }
}
