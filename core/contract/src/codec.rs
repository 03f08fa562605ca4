//! The pieces that the messages and records of every engine are made of.
//!
//! ```text
//! number  = seven bits a byte, the lowest first, the highest bit of a byte saying that more follow; below 2^63
//! blob    = length:number bytes
//! members = (count:number node:number*count)*3    voters, outgoing, learners; each node once in a set
//! ```
//! Deliberately absent: what a message is. Each engine's `message.rs` says that.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;
use verity_types::NodeId;

use crate::agreement::Members;

/// No set of members is larger.
pub const MEMBERS_MAX: usize = 64;

/// Bytes that are none of these pieces; the text says why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct CodecError(pub String);

fn invalid<T>(what: impl Into<String>) -> Result<T, CodecError> {
    Err(CodecError(what.into()))
}

/// Appends a number below 2^63.
pub fn put_number(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8((value & 0x7f) as u8);
}

/// Takes a number.
///
/// # Errors
/// [`CodecError`].
pub fn take_number(bytes: &mut Bytes) -> Result<u64, CodecError> {
    let mut value = 0u64;
    for shift in (0..63).step_by(7) {
        let byte = take_byte(bytes)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    invalid("a number is too long")
}

/// Takes a number below `limit`.
///
/// # Errors
/// [`CodecError`].
pub fn take_below(bytes: &mut Bytes, limit: u64) -> Result<u64, CodecError> {
    match take_number(bytes)? {
        value if value < limit => Ok(value),
        value => invalid(format!("{value} is beyond any number that is used here")),
    }
}

/// Takes one byte.
///
/// # Errors
/// [`CodecError`].
pub fn take_byte(bytes: &mut Bytes) -> Result<u8, CodecError> {
    if bytes.has_remaining() { Ok(bytes.get_u8()) } else { invalid("ends early") }
}

/// Appends bytes with their length.
pub fn put_blob(out: &mut BytesMut, blob: &[u8]) {
    put_number(out, blob.len() as u64);
    out.put_slice(blob);
}

/// Takes at most `max` bytes, as a slice of what they came in.
///
/// # Errors
/// [`CodecError`].
pub fn take_blob(bytes: &mut Bytes, max: usize) -> Result<Bytes, CodecError> {
    let length = usize::try_from(take_number(bytes)?).unwrap_or(usize::MAX);
    if length > max || length > bytes.remaining() {
        return invalid(format!("a field of {length} bytes exceeds its bound or the frame"));
    }
    Ok(bytes.split_to(length))
}

/// Takes a count, and as many things, each of which is at least `least` bytes: a count that lies allocates nothing.
///
/// # Errors
/// [`CodecError`], or what `take` says.
pub fn take_many<T, E: From<CodecError>>(
    bytes: &mut Bytes,
    least: usize,
    take: impl Fn(&mut Bytes) -> Result<T, E>,
) -> Result<Vec<T>, E> {
    let count = usize::try_from(take_number(bytes)?).unwrap_or(usize::MAX);
    if count > bytes.remaining() / least {
        return Err(CodecError(format!("{count} of something do not fit the frame")).into());
    }
    (0..count).map(|_| take(bytes)).collect()
}

/// Appends members.
pub fn put_members(out: &mut BytesMut, members: &Members) {
    for set in [&members.voters, &members.outgoing, &members.learners] {
        put_number(out, set.len() as u64);
        set.iter().for_each(|node| put_number(out, node.0));
    }
}

/// Takes members, of whatever sense: an engine knows which may be.
///
/// # Errors
/// [`CodecError`].
pub fn take_members(bytes: &mut Bytes) -> Result<Members, CodecError> {
    let mut set = || -> Result<BTreeSet<NodeId>, CodecError> {
        let count = take_number(bytes)?;
        if count > MEMBERS_MAX as u64 {
            return invalid(format!("{count} members are too many"));
        }
        let nodes = (0..count).map(|_| take_number(bytes).map(NodeId)).collect::<Result<BTreeSet<_>, _>>()?;
        if nodes.len() as u64 == count { Ok(nodes) } else { invalid("a member is named twice") }
    };
    Ok(Members { voters: set()?, outgoing: set()?, learners: set()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(write: impl FnOnce(&mut BytesMut)) -> Bytes {
        let mut out = BytesMut::new();
        write(&mut out);
        out.freeze()
    }

    #[test]
    fn pieces_round_trip_and_no_cut_of_them_passes() {
        let members = Members {
            voters: [NodeId(1), NodeId(300)].into(),
            outgoing: [NodeId(2)].into(),
            learners: [NodeId(u64::MAX >> 1)].into(),
        };
        let bytes = put(|out| put_members(out, &members));
        assert_eq!(take_members(&mut bytes.clone()), Ok(members));
        (0..bytes.len()).for_each(|cut| assert!(take_members(&mut bytes.slice(..cut)).is_err(), "cut at {cut}"));
        let bytes = put(|out| put_blob(out, b"blob"));
        assert_eq!(take_blob(&mut bytes.clone(), 4).as_deref(), Ok(&b"blob"[..]));
        assert!(take_blob(&mut bytes.clone(), 3).is_err() && take_blob(&mut bytes.slice(..4), 4).is_err());
        for value in [0, 127, 128, 1 << 60, u64::MAX >> 1] {
            assert_eq!(take_number(&mut put(|out| put_number(out, value))), Ok(value));
            assert_eq!(take_below(&mut put(|out| put_number(out, value)), 128).is_ok(), value < 128);
        }
    }

    #[test]
    fn excess_is_refused_before_it_is_kept() {
        assert!(take_number(&mut put(|out| put_number(out, u64::MAX))).is_err());
        let many = put(|out| put_number(out, MEMBERS_MAX as u64 + 1));
        assert!(take_members(&mut many.clone()).is_err());
        let twice = put(|out| [2, 7, 7, 0, 0].iter().for_each(|n| put_number(out, *n)));
        assert!(take_members(&mut twice.clone()).is_err());
    }
}
