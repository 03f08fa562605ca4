//! Queries: `name=value&name=value`, percent-encoded (RFC 3986 §2.1, the URL standard's `application/x-www-form-urlencoded`).
//!
//! - upon `+`: a space. Upon a pair without `=`: a name with an empty value. Upon an empty pair: passed over.
//! - upon `%` without two hexadecimal digits, or bytes that are not UTF-8: an error, not a guess.

use thiserror::Error;

/// A query has no more pairs.
pub const PAIRS_MAX: usize = 1_000;

/// Why a query cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum QueryError {
    /// `%` without two hexadecimal digits.
    #[error("a percent sign stands without two hexadecimal digits: write it as %25")]
    Escape,
    /// A name or value that is not UTF-8.
    #[error("what is percent-encoded must be UTF-8")]
    NotUtf8,
    /// More than [`PAIRS_MAX`] pairs.
    #[error("a query has at most {PAIRS_MAX} pairs")]
    TooManyPairs,
}

/// The pairs of a query, in their order.
///
/// # Errors
/// [`QueryError`].
pub fn parse_query(query: &str) -> Result<Vec<(String, String)>, QueryError> {
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if pairs.len() == PAIRS_MAX {
            return Err(QueryError::TooManyPairs);
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((text(name)?, text(value)?));
    }
    Ok(pairs)
}

fn text(encoded: &str) -> Result<String, QueryError> {
    let spaced = encoded.replace('+', " ");
    String::from_utf8(percent_decode(&spaced)?).map_err(|_| QueryError::NotUtf8)
}

/// The bytes that a part of a URI stands for: a segment of a path, say. `+` is itself here.
///
/// # Errors
/// [`QueryError::Escape`].
pub fn percent_decode(encoded: &str) -> Result<Vec<u8>, QueryError> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes().iter();
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else { return Err(QueryError::Escape) };
        bytes.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits"));
    }
    Ok(bytes)
}
