//! Messages, and the frames by which a server sends them (RFC 6455 §5).
//!
//! ```text
//! frame  = FIN:1 RSV:3 opcode:4  MASK:1 length:7 [length:16 | length:64] [mask:32]  payload
//! opcode = 0 continuation | 1 text | 2 binary | 8 close | 9 ping | 10 pong
//! close  = [code:16 reason]
//! ```
//! A server masks nothing (§5.1) and sends each message as one frame.

use bytes::{BufMut, Bytes, BytesMut};

/// The payload of a control frame is no longer (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// The reason of a close frame is no longer: the code takes two bytes.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

pub(crate) const FIN: u8 = 0x80;
pub(crate) const MASKED: u8 = 0x80;

/// Close codes (RFC 6455 §7.4.1).
pub mod close_code {
    /// The purpose is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server goes down, or the page is left.
    pub const GOING_AWAY: u16 = 1001;
    /// A frame broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// A kind of message that is not taken.
    pub const UNSUPPORTED_DATA: u16 = 1003;
    /// Text that is not UTF-8.
    pub const INVALID_PAYLOAD: u16 = 1007;
    /// Against the server's policy.
    pub const POLICY_VIOLATION: u16 = 1008;
    /// A message that is too large.
    pub const MESSAGE_TOO_BIG: u16 = 1009;
    /// The server cannot go on.
    pub const INTERNAL_ERROR: u16 = 1011;

    /// True if an endpoint may put it into a frame (§7.4).
    #[must_use]
    pub fn is_sent(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    /// `None` for the reserved ones.
    pub(crate) fn from_bits(bits: u8) -> Option<Self> {
        use Opcode::{Binary, Close, Continuation, Ping, Pong, Text};
        [Continuation, Text, Binary, Close, Ping, Pong].into_iter().find(|opcode| *opcode as u8 == bits)
    }

    pub(crate) fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// Why a WebSocket was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason {
    /// See [`close_code`].
    pub code: u16,
    /// For people; may be empty.
    pub reason: String,
}

/// What a client sent, put together from its fragments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
    /// A ping. The pong to it is written already.
    Ping(Bytes),
    /// A pong, asked for or not.
    Pong(Bytes),
    /// The client closes; with a reason, if it gave one. The answer is written already.
    Close(Option<CloseReason>),
}

/// An encoded frame. Cheap to clone: what many clients get is encoded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub(crate) bytes: Bytes,
    pub(crate) closes: bool,
}

impl Frame {
    /// A text message.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::encode(Opcode::Text, text.as_bytes())
    }

    /// A binary message.
    #[must_use]
    pub fn binary(bytes: &[u8]) -> Self {
        Self::encode(Opcode::Binary, bytes)
    }

    /// A ping; the client answers with the same payload.
    ///
    /// # Panics
    /// If the payload is longer than [`CONTROL_BYTES_MAX`].
    #[must_use]
    pub fn ping(payload: &[u8]) -> Self {
        assert!(payload.len() <= CONTROL_BYTES_MAX, "a ping's payload is short");
        Self::encode(Opcode::Ping, payload)
    }

    /// A pong that nobody asked for: a sign of life. Pings are answered without the service.
    ///
    /// # Panics
    /// If the payload is longer than [`CONTROL_BYTES_MAX`].
    #[must_use]
    pub fn pong(payload: &[u8]) -> Self {
        assert!(payload.len() <= CONTROL_BYTES_MAX, "a pong's payload is short");
        Self::encode(Opcode::Pong, payload)
    }

    /// Begins the closing handshake. A reason that is too long is cut.
    ///
    /// # Panics
    /// If the code is none that may be sent.
    #[must_use]
    pub fn close(code: u16, reason: &str) -> Self {
        assert!(close_code::is_sent(code), "{code} is not sent");
        let mut payload = code.to_be_bytes().to_vec();
        let end = reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX);
        payload.extend_from_slice(&reason.as_bytes()[..end]);
        Self::encode(Opcode::Close, &payload)
    }

    /// Answers a close frame: its code, without the reason.
    pub(crate) fn close_reply(reason: Option<&CloseReason>) -> Self {
        reason.map_or_else(|| Self::encode(Opcode::Close, &[]), |reason| Self::close(reason.code, ""))
    }

    fn encode(opcode: Opcode, payload: &[u8]) -> Self {
        let mut bytes = BytesMut::with_capacity(10 + payload.len());
        bytes.put_u8(FIN | opcode as u8);
        match payload.len() {
            short @ 0..=125 => bytes.put_u8(u8::try_from(short).expect("at most 125")),
            medium @ 126..=0xffff => {
                bytes.put_u8(126);
                bytes.put_u16(u16::try_from(medium).expect("at most 65535"));
            }
            long => {
                bytes.put_u8(127);
                bytes.put_u64(u64::try_from(long).expect("a length has 64 bits at most"));
            }
        }
        bytes.put_slice(payload);
        Self { bytes: bytes.freeze(), closes: opcode == Opcode::Close }
    }
}
