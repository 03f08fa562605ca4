//! One line that ends in CRLF, read from pieces.
//!
//! - upon LF without CR before it: refused, though RFC 9112 §2.2 lets a recipient take it: two recipients that differ in
//!   what a line is differ in what a request is.
//! - upon more bytes than may be: refused before they are kept.

use bytes::{Buf, Bytes};

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineError {
    TooLong,
    BareLf,
}

/// Moves bytes from `input` to the end of `line`, up to and with the next LF; true if there was one. `max` bounds what is
/// moved to `line` in all, which has `used` of it already.
pub(crate) fn take_line(line: &mut Vec<u8>, input: &mut Bytes, used: usize, max: usize) -> Result<bool, LineError> {
    let found = input.iter().position(|byte| *byte == b'\n');
    let length = found.map_or(input.len(), |at| at + 1);
    if used + length > max {
        return Err(LineError::TooLong);
    }
    line.extend_from_slice(&input[..length]);
    input.advance(length);
    if found.is_some() && !line.ends_with(b"\r\n") {
        return Err(LineError::BareLf);
    }
    Ok(found.is_some())
}
