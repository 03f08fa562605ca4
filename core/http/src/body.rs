//! The body of a request, and where it ends (RFC 9112 §6, §7).
//!
//! - upon `Transfer-Encoding` and `Content-Length` in one request: refused (§6.3), as is `Transfer-Encoding` in HTTP/1.0
//!   (§6.1) and `chunked` twice (§6.1). Any other coding is not implemented.
//! - upon more than one `Content-Length`, though they be the same, or one that is not digits alone: refused (§6.3).
//! - upon neither: there is no body (§6.3).
//! - upon a chunk: its size in hexadecimal, extensions that are passed over, CRLF, that many bytes, CRLF (§7.1).
//! - upon the chunk of size 0: trailer fields, which are passed over, up to an empty line (§7.1.2).
//!
//! A length above the bound is refused when it is read, before anything is kept. What is kept grows with what comes, never
//! with what is announced.

use bytes::{Buf, Bytes};

use crate::line::{LineError, take_line};
use crate::{Headers, Limits, Refusal, Version};

/// The line of a chunk's size is no longer: extensions are passed over, and nobody sends any.
const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Digits of a chunk's size.
const CHUNK_DIGITS_MAX: usize = 16;

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    /// After so many bytes; never 0.
    Length(usize),
    Chunked,
}

impl Framing {
    pub(crate) fn of(version: Version, headers: &Headers, limits: &Limits) -> Result<Self, Refusal> {
        let mut lengths = headers.all("Content-Length");
        let (length, second) = (lengths.next(), lengths.next());
        if headers.get("Transfer-Encoding").is_some() {
            if length.is_some() {
                return Err(Refusal::InvalidMessage("there are both Transfer-Encoding and Content-Length"));
            }
            return transfer_coding(version, headers);
        }
        if second.is_some() {
            return Err(Refusal::InvalidMessage("there is more than one Content-Length"));
        }
        let Some(digits) = length else { return Ok(Self::None) };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Refusal::InvalidMessage("the Content-Length is no number"));
        }
        let value =
            digits.iter().fold(0_usize, |sum, digit| sum.saturating_mul(10).saturating_add((digit - b'0').into()));
        match value {
            0 => Ok(Self::None),
            length if length > limits.body_bytes_max => Err(Refusal::BodyTooLarge(limits.body_bytes_max)),
            length => Ok(Self::Length(length)),
        }
    }
}

fn transfer_coding(version: Version, headers: &Headers) -> Result<Framing, Refusal> {
    if version == Version::Http10 {
        return Err(Refusal::InvalidMessage("HTTP/1.0 has no Transfer-Encoding"));
    }
    let mut count = 0_usize;
    for coding in headers.list("Transfer-Encoding") {
        if !coding.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::TransferCoding);
        }
        count += 1;
    }
    match count {
        1 => Ok(Framing::Chunked),
        0 => Err(Refusal::InvalidMessage("the Transfer-Encoding is empty")),
        _ => Err(Refusal::InvalidMessage("chunked stands twice in Transfer-Encoding")),
    }
}

/// What is read next.
#[derive(Debug)]
enum Part {
    /// So many bytes, then the end.
    Length(usize),
    /// A chunk's size.
    Size,
    /// So many bytes of a chunk.
    Chunk(usize),
    /// The CRLF behind a chunk.
    ChunkEnd,
    /// Trailer fields.
    Trailer { bytes: usize, count: usize },
}

/// A body that is being read.
#[derive(Debug)]
pub(crate) struct BodyReader {
    part: Part,
    bytes: Vec<u8>,
    line: Vec<u8>,
}

impl BodyReader {
    /// A reader of what is framed like this; `None` if there is nothing to read.
    pub(crate) fn new(framing: Framing) -> Option<Self> {
        let part = match framing {
            Framing::None => return None,
            Framing::Length(length) => Part::Length(length),
            Framing::Chunked => Part::Size,
        };
        Some(Self { part, bytes: Vec::new(), line: Vec::new() })
    }

    pub(crate) fn bytes_held(&self) -> usize {
        self.bytes.len()
    }

    /// Takes what belongs to the body from `input`; the body, once it is whole.
    pub(crate) fn take(&mut self, input: &mut Bytes, limits: &Limits) -> Result<Option<Bytes>, Refusal> {
        while !input.is_empty() {
            match self.part {
                // A small part of what came is copied, so that it does not keep all of it in memory.
                Part::Length(left) if self.bytes.is_empty() && left <= input.len() && input.len() / 2 <= left => {
                    return Ok(Some(input.split_to(left)));
                }
                Part::Length(left) => {
                    let left = self.keep(input, left);
                    if left == 0 {
                        return Ok(Some(Bytes::from(std::mem::take(&mut self.bytes))));
                    }
                    self.part = Part::Length(left);
                }
                Part::Chunk(left) => {
                    let left = self.keep(input, left);
                    self.part = if left == 0 { Part::ChunkEnd } else { Part::Chunk(left) };
                }
                Part::Size => self.take_size(input, limits)?,
                Part::ChunkEnd => {
                    let long = Refusal::InvalidMessage("a chunk is longer than its size");
                    if self.take_line(input, 2, long)?.is_some() {
                        self.part = Part::Size;
                    }
                }
                Part::Trailer { bytes, count } => {
                    if self.take_trailer(input, bytes, count, limits)? {
                        return Ok(Some(Bytes::from(std::mem::take(&mut self.bytes))));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Keeps up to `left` bytes; how many are left.
    fn keep(&mut self, input: &mut Bytes, left: usize) -> usize {
        let length = left.min(input.len());
        self.bytes.extend_from_slice(&input[..length]);
        input.advance(length);
        left - length
    }

    fn take_line(&mut self, input: &mut Bytes, max: usize, long: Refusal) -> Result<Option<Vec<u8>>, Refusal> {
        let used = self.line.len();
        match take_line(&mut self.line, input, used, max) {
            Ok(true) => Ok(Some(std::mem::take(&mut self.line))),
            Ok(false) => Ok(None),
            Err(LineError::TooLong) => Err(long),
            Err(LineError::BareLf) => Err(Refusal::InvalidMessage("a line ends in LF without CR")),
        }
    }

    fn take_size(&mut self, input: &mut Bytes, limits: &Limits) -> Result<(), Refusal> {
        let long = Refusal::InvalidMessage("the line of a chunk's size is too long");
        let Some(line) = self.take_line(input, CHUNK_LINE_BYTES_MAX, long)? else { return Ok(()) };
        let size = chunk_size(&line[..line.len() - 2]).ok_or(Refusal::InvalidMessage("a chunk's size is none"))?;
        if size > limits.body_bytes_max - self.bytes.len() {
            return Err(Refusal::BodyTooLarge(limits.body_bytes_max));
        }
        self.part = if size == 0 { Part::Trailer { bytes: 0, count: 0 } } else { Part::Chunk(size) };
        Ok(())
    }

    /// True if it was the last line.
    fn take_trailer(
        &mut self,
        input: &mut Bytes,
        bytes: usize,
        count: usize,
        limits: &Limits,
    ) -> Result<bool, Refusal> {
        let long = Refusal::HeadTooLarge { bytes: limits.head_bytes_max, fields: limits.headers_max };
        // The empty line always has its place.
        let Some(line) = self.take_line(input, limits.head_bytes_max - bytes + 2, long)? else { return Ok(false) };
        if line.len() == 2 {
            return Ok(true);
        }
        if count == limits.headers_max || bytes + line.len() > limits.head_bytes_max {
            return Err(long);
        }
        self.part = Part::Trailer { bytes: bytes + line.len(), count: count + 1 };
        Ok(false)
    }
}

/// The size that a chunk's line says; `None` if it says none. It may be larger than any body.
fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, extension) = line.split_at(digits);
    let printable = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    let extended = extension.trim_ascii_start().starts_with(b";") && extension.iter().all(printable);
    if !(1..=CHUNK_DIGITS_MAX).contains(&digits) || !(extension.is_empty() || extended) {
        return None;
    }
    usize::from_str_radix(str::from_utf8(size).ok()?, 16).ok()
}
