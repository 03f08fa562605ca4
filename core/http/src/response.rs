//! A response, and how it is written (RFC 9112 §4, §6).
//!
//! - upon a body, or none: `Content-Length`, always, so that the connection lasts (RFC 9112 §6.2).
//! - upon 204 and 304: neither body nor length (RFC 9110 §8.6, §15.4.5).
//! - upon HEAD: the length that GET would have, and no body (RFC 9110 §9.3.2).
//! - upon the last response of a connection: `Connection: close` (RFC 9112 §9.6); to HTTP/1.0 `keep-alive` if it lasts.
//! - upon a byte in a value that no field has: a space in its place (RFC 9110 §5.5). Values may come from clients, and must
//!   not become fields, or responses.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use crate::Version;
use crate::date::http_date;

/// Fields that say where a message ends, or whether a connection does: they are written here, and by nobody else.
const FRAMING: [&str; 3] = ["Content-Length", "Transfer-Encoding", "Connection"];

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: u16,
    fields: Vec<(Cow<'static, str>, Bytes)>,
    body: Bytes,
    close: bool,
}

/// What the request asked for, as far as its response depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) head_only: bool,
    pub(crate) version: Version,
    pub(crate) keep_alive: bool,
}

impl Response {
    /// A response with neither fields nor body.
    ///
    /// # Panics
    /// If the status is none that ends a request: 200 to 599.
    #[must_use]
    pub fn new(status: u16) -> Self {
        assert!((200..=599).contains(&status), "{status} is no status of a final response");
        Self { status, fields: Vec::new(), body: Bytes::new(), close: false }
    }

    /// With a body and its type.
    #[must_use]
    pub fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header("Content-Type", content_type)
    }

    /// With one more field.
    ///
    /// # Panics
    /// If the name is no token (ask [`is_token`] about names from outside), or one of the fields that frame messages.
    #[must_use]
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Bytes>) -> Self {
        let name = name.into();
        assert!(is_token(&name), "{name:?} is no name of a field");
        assert!(!FRAMING.iter().any(|own| own.eq_ignore_ascii_case(&name)), "{name} is written with the response");
        self.fields.push((name, value.into()));
        self
    }

    /// With the field `Date`, in seconds since 1970-01-01 UTC. A server with a clock says it (RFC 9110 §6.6.1).
    #[must_use]
    pub fn dated(self, unix_seconds: u64) -> Self {
        self.header("Date", http_date(unix_seconds))
    }

    /// The last one: the connection is closed behind it.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// True if the connection ends behind it.
    pub(crate) fn closes(&self, asked: Asked) -> bool {
        self.close || !asked.keep_alive
    }

    /// What is written: the head, and the body behind it.
    pub(crate) fn encode(self, asked: Asked) -> (BytesMut, Bytes) {
        let closes = self.closes(asked);
        let mut head = BytesMut::with_capacity(128);
        head.put_slice(format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status)).as_bytes());
        for (name, value) in &self.fields {
            put_field(&mut head, name, value);
        }
        let bodiless = matches!(self.status, 204 | 304);
        if !bodiless {
            put_field(&mut head, "Content-Length", self.body.len().to_string().as_bytes());
        }
        let upgrades = self.status == 426;
        match asked.version {
            _ if closes && upgrades => put_field(&mut head, "Connection", b"close, Upgrade"),
            _ if closes => put_field(&mut head, "Connection", b"close"),
            _ if upgrades => put_field(&mut head, "Connection", b"Upgrade"),
            Version::Http10 => put_field(&mut head, "Connection", b"keep-alive"),
            Version::Http11 => {}
        }
        head.put_slice(b"\r\n");
        (head, if bodiless || asked.head_only { Bytes::new() } else { self.body })
    }
}

/// Writes one field; a byte that no value has becomes a space.
pub(crate) fn put_field(head: &mut BytesMut, name: &str, value: &[u8]) {
    head.put_slice(name.as_bytes());
    head.put_slice(b": ");
    head.extend(value.iter().map(|byte| if byte.is_ascii_control() && *byte != b'\t' { b' ' } else { *byte }));
    head.put_slice(b"\r\n");
}

/// True for what a field or a method may be named (RFC 9110 §5.6.2).
#[must_use]
pub fn is_token(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

/// The phrase of a status (RFC 9110 §15); empty where it has none.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
