//! A request as a service gets it: whole.

use std::fmt;

use bytes::Bytes;

use crate::{Headers, host};

/// The place of a request on its connection, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestNumber(pub u64);

impl fmt::Display for RequestNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The version of HTTP that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// RFC 1945.
    Http10,
    /// RFC 9112.
    Http11,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What [`crate::Server::respond`] is to be told.
    pub number: RequestNumber,
    /// The method, in its case.
    pub method: String,
    /// Host and port as the client named them: the target's if it has one, else the field `Host` (RFC 9112 §3.2.2). Empty if
    /// it named none.
    pub authority: String,
    /// The target's path as it was sent, percent-encoded; `*` for the server as a whole (RFC 9112 §3.2.4).
    pub path: String,
    /// What stands behind the target's `?`, as it was sent; [`crate::parse_query`] reads it.
    pub query: Option<String>,
    /// The client's version.
    pub version: Version,
    /// The header fields.
    pub headers: Headers,
    /// The body, without what framed it.
    pub body: Bytes,
    /// True if the connection lasts beyond the response, as far as the client is concerned (RFC 9112 §9.3).
    pub keep_alive: bool,
}

impl Request {
    /// False if a page of another site may have sent it by a visitor's browser: by its `Origin`, or by a name that its owner's
    /// DNS let point here. See [`crate::is_rebind_safe`].
    #[must_use]
    pub fn is_rebind_safe(&self) -> bool {
        let safe =
            |origin: &[u8]| str::from_utf8(origin).ok().and_then(host::origin_host).is_some_and(host::is_rebind_safe);
        host::is_rebind_safe(&self.authority) && self.headers.all("Origin").all(safe)
    }
}

/// A request to speak WebSocket from here on, valid as RFC 6455 §4.2.1 has it. Everything before it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// The request.
    pub request: Request,
    /// The subprotocols that the client would speak, its favourite first.
    pub protocols: Vec<String>,
}
