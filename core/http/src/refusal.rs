//! Why a connection is refused, with the status that says so.
//!
//! - upon a head or a framing that is not HTTP/1.1's, or may be read in two ways: 400 (RFC 9112 §2.2, §3.2, §5.1, §6.3).
//! - upon a body that is too large: 413 (RFC 9110 §15.5.14); a request line: 414 (§15.5.15); a head: 431 (RFC 6585 §5).
//! - upon an expectation but `100-continue`: 417 (RFC 9110 §10.1.1).
//! - upon another version of WebSocket: 426 with the one that is spoken (RFC 6455 §4.4).
//! - upon a transfer coding but `chunked`, or CONNECT: 501 (RFC 9112 §6.1, RFC 9110 §9.1).
//! - upon more input than may wait: 503 (RFC 9110 §15.6.4); another version of HTTP: 505 (§15.6.6).
//! - upon a frame that breaks RFC 6455: a close frame with 1002, 1007 or 1009 (§7.4.1).
//!
//! Where a refused message ends is not known, or not worth reading to. The connection is closed after each.
//!
//! HAZARD: a driver that closes while bytes are unread may have its system send a reset, which can overtake the response.
//! The client then sees an error of its socket in place of the reason (RFC 9112 §9.6).

use thiserror::Error;

use crate::Response;

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The request is not HTTP/1.1, or where it ends is open to doubt.
    #[error("bad request: {0}")]
    InvalidMessage(&'static str),
    /// The body is longer than `body_bytes_max`.
    #[error("the body is too large: at most {0} bytes are taken")]
    BodyTooLarge(usize),
    /// The request line alone is longer than `head_bytes_max`.
    #[error("the request's target is too long: a head has at most {0} bytes")]
    TargetTooLong(usize),
    /// The head is longer than `head_bytes_max`, or has more fields than `headers_max`.
    #[error("the header fields are too large: at most {fields} fields, {bytes} bytes in all")]
    HeadTooLarge {
        /// `head_bytes_max`.
        bytes: usize,
        /// `headers_max`.
        fields: usize,
    },
    /// An expectation that is not `100-continue`.
    #[error("the expectation is none that is known: only 100-continue is")]
    ExpectationFailed,
    /// A version of WebSocket that is not 13.
    #[error("this version of WebSocket is not spoken: 13 is")]
    WebSocketVersion,
    /// A transfer coding that is not `chunked`.
    #[error("this transfer coding is not implemented: only chunked is")]
    TransferCoding,
    /// CONNECT.
    #[error("this server is no proxy: CONNECT is not implemented")]
    Tunnel,
    /// The peer went on sending while the connection was paused.
    #[error("too many requests at once: wait for answers")]
    Overloaded,
    /// A version of HTTP that is not 1.0 or 1.1.
    #[error("this version of HTTP is not supported: 1.1 is")]
    HttpVersion,
    /// A frame that breaks RFC 6455.
    #[error("{why}: closed with {code}")]
    Frame {
        /// The close code.
        code: u16,
        /// Which rule.
        why: &'static str,
    },
}

impl Refusal {
    /// The status of the response; the close code, if a WebSocket is refused.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::InvalidMessage(_) => 400,
            Self::BodyTooLarge(_) => 413,
            Self::TargetTooLong(_) => 414,
            Self::ExpectationFailed => 417,
            Self::WebSocketVersion => 426,
            Self::HeadTooLarge { .. } => 431,
            Self::TransferCoding | Self::Tunnel => 501,
            Self::Overloaded => 503,
            Self::HttpVersion => 505,
            Self::Frame { code, .. } => *code,
        }
    }

    /// The usual response to it. There is none to a frame.
    #[must_use]
    pub fn response(&self) -> Response {
        let response = Response::new(self.code()).body("text/plain; charset=utf-8", format!("{self}\n")).closing();
        if *self == Self::WebSocketVersion {
            return response.header("Upgrade", "websocket").header("Sec-WebSocket-Version", "13");
        }
        response
    }
}
