//! How the machines' own values become bytes and come back: commands, queries, answers, events, records of snapshots.
//!
//! ```text
//! number     = big-endian, of its own size         bool   = one byte, 0 or 1
//! text, blob = size:u32 bytes                      option = bool value?
//! list, set  = count:u32 value*count               map    = count:u32 (key value)*count
//! record     = its fields in the order of their definition
//! choice     = tag:u8 fields
//! message    = FORMAT:u8 value                     what travels: [`encode`], [`decode`]
//! ```
//! Each value has one encoding. That of a value in memory is its fingerprint, too.
//!
//! Bounds: an element takes a byte at least, so a count is held against the bytes that remain before anything is kept;
//! [`TEXT_SIZE_MAX`] on a text. Deliberately absent: recursion, and Kafka's own encoding, which is `wire`'s.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use thiserror::Error;

use crate::wire::{ErrorCode, Uuid};

/// The version of everything that is encoded here.
pub const FORMAT: u8 = 1;
/// The longest text, in bytes: the protocol's own limit.
pub const TEXT_SIZE_MAX: usize = 32_767;
/// How many elements are reserved before they are there.
const RESERVE_COUNT_MAX: usize = 64;

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct CodeError(pub &'static str);

/// A value with one encoding.
pub trait Code: Sized {
    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);

    /// Takes a value from the front.
    ///
    /// # Errors
    /// [`CodeError`].
    fn take(input: &mut &[u8]) -> Result<Self, CodeError>;
}

/// A message.
#[must_use]
pub fn encode(value: &impl Code) -> Bytes {
    let mut out = vec![FORMAT];
    value.put(&mut out);
    Bytes::from(out)
}

/// Reads a message, to its last byte.
///
/// # Errors
/// [`CodeError`].
pub fn decode<T: Code>(bytes: &[u8]) -> Result<T, CodeError> {
    let Some((&FORMAT, mut rest)) = bytes.split_first() else { return Err(CodeError("another format")) };
    let value = T::take(&mut rest)?;
    if rest.is_empty() { Ok(value) } else { Err(CodeError("bytes are left over")) }
}

fn split<'a>(input: &mut &'a [u8], size: usize) -> Result<&'a [u8], CodeError> {
    let (head, rest) = input.split_at_checked(size).ok_or(CodeError("ends early"))?;
    *input = rest;
    Ok(head)
}

/// Appends a size or a count.
///
/// # Panics
/// If it does not fit: what is kept in memory is smaller.
pub(crate) fn put_count(count: usize, out: &mut Vec<u8>) {
    u32::try_from(count).expect("what is encoded is smaller than four gigabytes").put(out);
}

fn take_count(input: &mut &[u8]) -> Result<usize, CodeError> {
    let count = usize::try_from(u32::take(input)?).unwrap_or(usize::MAX);
    if count > input.len() { Err(CodeError("a count beyond the bytes")) } else { Ok(count) }
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Code for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn take(input: &mut &[u8]) -> Result<Self, CodeError> {
                let bytes = split(input, size_of::<Self>())?;
                Ok(Self::from_be_bytes(bytes.try_into().expect("split off to size")))
            }
        }
    )*};
}

numbers! { u8 u16 u32 u64 i8 i16 i32 i64 }

impl Code for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(input: &mut &[u8]) -> Result<Self, CodeError> {
        match u8::take(input)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodeError("neither true nor false")),
        }
    }
}

impl Code for ErrorCode {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn take(input: &mut &[u8]) -> Result<Self, CodeError> {
        i16::take(input).map(Self)
    }
}

impl Code for Uuid {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn take(input: &mut &[u8]) -> Result<Self, CodeError> {
        Ok(Self(split(input, 16)?.try_into().expect("split off to size")))
    }
}

impl Code for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }

    fn take(input: &mut &[u8]) -> Result<Self, CodeError> {
        let size = take_count(input)?;
        if size > TEXT_SIZE_MAX {
            return Err(CodeError("a text that is too long"));
        }
        let text = std::str::from_utf8(split(input, size)?).map_err(|_| CodeError("a text that is not UTF-8"))?;
        Ok(text.to_owned())
    }
}

impl Code for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        out.extend_from_slice(self);
    }

    fn take(input: &mut &[u8]) -> Result<Self, CodeError> {
        let size = take_count(input)?;
        // A copy: a slice would keep the whole entry in memory for as long as the member lives.
        Ok(Self::copy_from_slice(split(input, size)?))
    }
}

impl<T: Code> Code for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        T::put(self, out);
    }

    fn take(input: &mut &[u8]) -> Result<Self, CodeError> {
        T::take(input).map(Box::new)
    }
}

impl<T: Code> Code for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        self.iter().for_each(|value| value.put(out));
    }

    fn take(input: &mut &[u8]) -> Result<Self, CodeError> {
        if bool::take(input)? { T::take(input).map(Some) } else { Ok(None) }
    }
}

impl<T: Code> Code for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        self.iter().for_each(|value| value.put(out));
    }

    fn take(input: &mut &[u8]) -> Result<Self, CodeError> {
        let count = take_count(input)?;
        let mut list = Vec::with_capacity(count.min(RESERVE_COUNT_MAX));
        for _ in 0..count {
            list.push(T::take(input)?);
        }
        Ok(list)
    }
}

impl<T: Code + Ord> Code for BTreeSet<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        self.iter().for_each(|value| value.put(out));
    }

    fn take(input: &mut &[u8]) -> Result<Self, CodeError> {
        let count = take_count(input)?;
        let set = (0..count).map(|_| T::take(input)).collect::<Result<Self, _>>()?;
        if set.len() == count { Ok(set) } else { Err(CodeError("an element comes twice")) }
    }
}

impl<K: Code + Ord, V: Code> Code for BTreeMap<K, V> {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }

    fn take(input: &mut &[u8]) -> Result<Self, CodeError> {
        let count = take_count(input)?;
        let map = (0..count).map(|_| Ok((K::take(input)?, V::take(input)?))).collect::<Result<Self, CodeError>>()?;
        if map.len() == count { Ok(map) } else { Err(CodeError("a key comes twice")) }
    }
}

impl<A: Code, B: Code> Code for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(input: &mut &[u8]) -> Result<Self, CodeError> {
        Ok((A::take(input)?, B::take(input)?))
    }
}

/// Defines a struct that is encoded field by field.
macro_rules! record {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$note:meta])* $fvis:vis $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis struct $name { $($(#[$note])* $fvis $field: $type,)* }

        impl $crate::machine::codec::Code for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $($crate::machine::codec::Code::put(&self.$field, out);)*
            }

            fn take(input: &mut &[u8]) -> Result<Self, $crate::machine::codec::CodeError> {
                Ok(Self { $($field: $crate::machine::codec::Code::take(input)?,)* })
            }
        }
    };
}

/// Defines an enum whose variants are tagged with a byte.
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $name:ident {
        $($(#[$note:meta])* $variant:ident $({ $($(#[$remark:meta])* $field:ident: $type:ty,)* })? = $tag:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis enum $name { $($(#[$note])* $variant $({ $($(#[$remark])* $field: $type,)* })?,)* }

        impl $crate::machine::codec::Code for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $({ $($field,)* })? => {
                        out.push($tag);
                        $($($crate::machine::codec::Code::put($field, out);)*)?
                    })*
                }
            }

            fn take(input: &mut &[u8]) -> Result<Self, $crate::machine::codec::CodeError> {
                match <u8 as $crate::machine::codec::Code>::take(input)? {
                    $($tag => Ok(Self::$variant $({ $($field: $crate::machine::codec::Code::take(input)?,)* })?),)*
                    _ => Err($crate::machine::codec::CodeError("an unknown tag")),
                }
            }
        }
    };
}

pub(crate) use {choice, record};

#[cfg(test)]
mod tests {
    use super::*;

    record! {
        struct Row { name: String, values: Vec<Option<i64>>, map: BTreeMap<i32, (bool, Bytes)>, id: Uuid, choice: Either, }
    }
    choice! {
        enum Either { One = 1, Two { error: ErrorCode, set: BTreeSet<u16>, } = 2, }
    }

    fn row(choice: Either) -> Row {
        Row {
            name: "ätna".into(),
            values: vec![None, Some(-1)],
            map: [(7, (true, Bytes::from_static(b"x")))].into(),
            id: Uuid([9; 16]),
            choice,
        }
    }

    #[test]
    fn values_round_trip_and_no_cut_of_them_passes() {
        for choice in [Either::One, Either::Two { error: ErrorCode::ILLEGAL_GENERATION, set: [1, 2].into() }] {
            let value = row(choice);
            let bytes = encode(&value);
            assert_eq!(decode::<Row>(&bytes), Ok(value));
            (0..bytes.len()).for_each(|cut| assert!(decode::<Row>(&bytes[..cut]).is_err(), "cut at {cut}"));
            assert!(decode::<Row>(&[&bytes[..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn excess_is_refused_before_it_is_kept() {
        assert!(decode::<Vec<u8>>(&[FORMAT, 255, 255, 255, 255, 1]).is_err());
        assert!(decode::<Bytes>(&[FORMAT, 0, 0, 0, 2, 1]).is_err());
        assert!(decode::<BTreeSet<u8>>(&[FORMAT, 0, 0, 0, 2, 7, 7]).is_err(), "an element twice");
        assert!(decode::<bool>(&[FORMAT, 2]).is_err());
        assert!(decode::<Either>(&[FORMAT, 9]).is_err());
        assert!(decode::<u8>(&[2, 1]).is_err(), "another format");
        assert!(decode::<String>(&encode(&"x".repeat(TEXT_SIZE_MAX))).is_ok());
        assert!(decode::<String>(&encode(&"x".repeat(TEXT_SIZE_MAX + 1))).is_err());
        assert!(decode::<String>(&[FORMAT, 0, 0, 0, 1, 0xff]).is_err());
    }
}
