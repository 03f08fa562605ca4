//! What bounds a connection's memory.
//!
//! A connection holds at most one head and one body, or one message, that are not whole yet, and [`HELD_BYTES_MAX`] of
//! input that it may not read yet. Requests that are given out are the service's: `pipeline_max` bounds how many there are.

/// How many bytes may wait while a connection is paused. A driver that stops to read when it is told to delivers no more
/// than it had read by then.
pub const HELD_BYTES_MAX: usize = 2 << 20;

/// Bounds of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and header fields, in bytes; trailer fields, too.
    pub head_bytes_max: usize,
    /// A request's body, in bytes, without what frames it.
    pub body_bytes_max: usize,
    /// Header fields of a request.
    pub headers_max: usize,
    /// A WebSocket message, in bytes, all its fragments together.
    pub message_bytes_max: usize,
    /// Requests that are given out and not answered yet.
    pub pipeline_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 64 << 10,
            body_bytes_max: 1 << 20,
            headers_max: 100,
            message_bytes_max: 1 << 20,
            pipeline_max: 16,
        }
    }
}

impl Limits {
    pub(crate) fn check(&self) {
        assert!(self.pipeline_max > 0, "a connection may have one request at least");
        assert!(self.head_bytes_max > 0 && self.headers_max > 0, "a request has a head");
    }
}
