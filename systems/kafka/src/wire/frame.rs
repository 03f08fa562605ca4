//! Frames out of bytes that are cut anywhere.
//!
//! - upon a length that is negative or above the limit: an error, once and for all; nothing behind it can be trusted.
//! - upon a frame that lies within one chunk: a slice of it, without a copy.
//! - upon a frame that is cut: its parts are gathered as they come, in a buffer that grows with what has come and not with
//!   what was announced.
//!
//! Whoever reads from a socket asks [`Frames::gather`] first, and then usually has whole frames to push.
//!
//! Whoever takes all complete frames after each push holds at most one incomplete frame here. Whoever does not (the
//! connection is paused) is bounded by [`BACKLOG_MAX`] and [`CHUNK_COUNT_MAX`].

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};
use thiserror::Error;
use verity_contract::Gather;

/// The largest frame unless configured otherwise: Kafka's `socket.request.max.bytes`.
pub const FRAME_SIZE_MAX: usize = 100 << 20;
/// How much may lie here beyond one frame of the largest size.
pub const BACKLOG_MAX: usize = 16 << 20;
/// In how many chunks.
pub const CHUNK_COUNT_MAX: usize = 1 << 16;
/// The buffer of a frame that is cut has at most so many times what has come of it.
const GROWTH: usize = 16;
const PREFIX: usize = 4;

/// A stream that cannot be cut into frames.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// A negative length.
    #[error("a frame of {0} bytes")]
    Negative(i32),
    /// A length above the limit.
    #[error("a frame of {size} bytes, above the limit of {max}")]
    TooLarge {
        /// The length announced.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// More was pushed than is kept.
    #[error("more bytes came than are kept")]
    Backlog,
}

/// Where a stream stands: between two frames, within a length, or within a frame.
#[derive(Clone, Copy, Debug, Default)]
struct Edge {
    /// What there is of a length.
    prefix: [u8; PREFIX],
    have: usize,
    /// What is missing of a frame.
    missing: usize,
}

impl Edge {
    /// Goes on by these bytes. A length that is an error is found when the frame is taken.
    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.missing > 0 {
                let passed = self.missing.min(bytes.len());
                self.missing -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            self.prefix[self.have] = *first;
            self.have = (self.have + 1) % PREFIX;
            if self.have == 0 {
                self.missing = usize::try_from(i32::from_be_bytes(self.prefix)).unwrap_or(0);
            }
            bytes = rest;
        }
    }

    fn is_between(&self) -> bool {
        self.have == 0 && self.missing == 0
    }
}

/// Cuts a stream into frames.
#[derive(Debug)]
pub struct Frames {
    max: usize,
    /// Where the stream stands behind what was pushed.
    edge: Edge,
    /// The beginning of a frame that is cut, with its length in front.
    partial: BytesMut,
    chunks: VecDeque<Bytes>,
    queued: usize,
    failed: Option<FrameError>,
}

impl Default for Frames {
    fn default() -> Self {
        Self::new(FRAME_SIZE_MAX)
    }
}

impl Frames {
    /// Takes frames of up to `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, edge: Edge::default(), partial: BytesMut::new(), chunks: VecDeque::new(), queued: 0, failed: None }
    }

    /// Takes frames of up to `max` bytes from here on.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// How many bytes lie here.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.partial.len() + self.queued
    }

    /// How much memory the partial frame has.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        self.partial.capacity()
    }

    /// Takes what came.
    ///
    /// # Errors
    /// [`FrameError`]: the stream is of no more use.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let limit = self.max.saturating_add(PREFIX + BACKLOG_MAX);
        if self.pending().saturating_add(chunk.len()) > limit || self.chunks.len() >= CHUNK_COUNT_MAX {
            return self.fail(FrameError::Backlog);
        }
        if !chunk.is_empty() {
            self.edge.pass(&chunk);
            self.queued += chunk.len();
            self.chunks.push_back(chunk);
        }
        Ok(())
    }

    /// What is to become of bytes that follow on what was pushed: whole frames are pushed, and one that is cut waits for its
    /// rest, so that it lies in one chunk. What cannot be judged is pushed.
    #[must_use]
    pub fn gather(&self, bytes: &[u8]) -> Gather {
        let mut whole = 0;
        while self.edge.is_between() && whole < bytes.len() {
            match self.announced(&bytes[whole..]) {
                Ok(Some(size)) if whole + PREFIX + size <= bytes.len() => whole += PREFIX + size,
                Ok(Some(size)) => return Gather { deliver: whole, until: PREFIX + size },
                Ok(None) => return Gather { deliver: whole, until: PREFIX },
                Err(_) => break,
            }
        }
        Gather::all(bytes)
    }

    /// The next complete frame, without its length; `None` until more has come.
    ///
    /// # Errors
    /// [`FrameError`]: the stream is of no more use.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.partial.is_empty() {
            let Some(front) = self.chunks.front() else { return Ok(None) };
            match self.announced(front) {
                Err(error) => return self.fail(error),
                Ok(Some(size)) if front.len() >= PREFIX + size => return Ok(Some(self.cut(size))),
                Ok(_) => {}
            }
        }
        self.fill()
    }

    /// The length that `head` begins with, once it is whole.
    fn announced(&self, head: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(raw) = head.first_chunk::<PREFIX>() else { return Ok(None) };
        let raw = i32::from_be_bytes(*raw);
        match usize::try_from(raw) {
            Err(_) => Err(FrameError::Negative(raw)),
            Ok(size) if size > self.max => Err(FrameError::TooLarge { size, max: self.max }),
            Ok(size) => Ok(Some(size)),
        }
    }

    /// Cuts a frame out of the first chunk.
    fn cut(&mut self, size: usize) -> Bytes {
        let front = self.chunks.front_mut().expect("the caller looked at it");
        front.advance(PREFIX);
        let frame = front.split_to(size);
        if front.is_empty() {
            self.chunks.pop_front();
        }
        self.queued -= PREFIX + size;
        frame
    }

    /// Moves bytes from the chunks to the partial frame until it is whole.
    fn fill(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            let size = match self.announced(&self.partial) {
                Ok(size) => size,
                Err(error) => return self.fail(error),
            };
            let wanted = PREFIX + size.unwrap_or(0);
            if size.is_some() && self.partial.len() == wanted {
                let mut frame = std::mem::take(&mut self.partial).freeze();
                frame.advance(PREFIX);
                return Ok(Some(frame));
            }
            let Some(front) = self.chunks.front_mut() else { return Ok(None) };
            let taken = front.len().min(wanted - self.partial.len());
            let came = self.partial.len() + taken;
            if came > self.partial.capacity() {
                self.partial.reserve(wanted.min(came * GROWTH) - self.partial.len());
            }
            self.partial.extend_from_slice(&front.split_to(taken));
            if front.is_empty() {
                self.chunks.pop_front();
            }
            self.queued -= taken;
        }
    }

    fn fail<T>(&mut self, error: FrameError) -> Result<T, FrameError> {
        self.failed = Some(error);
        self.partial = BytesMut::new();
        self.chunks.clear();
        self.queued = 0;
        Err(error)
    }
}
