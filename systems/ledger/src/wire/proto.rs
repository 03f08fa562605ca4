//! Protocol buffers, as far as CometBFT's hashes need them: fields in rising order, zero values left out.
//!
//! A message within a message that CometBFT's generator calls not nullable is written even if it is empty; callers say
//! which by [`Writer::message`] and [`Writer::message_if_any`].

use bytes::{Buf as _, Bytes};
use thiserror::Error;

/// Bytes that are no such message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a protobuf message: {0}")]
pub struct ProtoError(pub &'static str);

/// Kinds of fields.
mod wire_type {
    pub(super) const VARINT: u64 = 0;
    pub(super) const FIXED64: u64 = 1;
    pub(super) const BYTES: u64 = 2;
    pub(super) const FIXED32: u64 = 5;
}

/// Appends a number, seven bits a byte.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// How many bytes a number takes.
pub(crate) fn varint_size(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Builds a message.
#[derive(Debug, Default)]
pub struct Writer {
    /// What was written.
    pub out: Vec<u8>,
}

impl Writer {
    /// An empty message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn tag(&mut self, field: u64, kind: u64) {
        put_varint(&mut self.out, field << 3 | kind);
    }

    /// A number; none if it is zero.
    pub fn uint(&mut self, field: u64, value: u64) -> &mut Self {
        if value != 0 {
            self.tag(field, wire_type::VARINT);
            put_varint(&mut self.out, value);
        }
        self
    }

    /// A number with a sign, in two's complement.
    pub fn int(&mut self, field: u64, value: i64) -> &mut Self {
        self.uint(field, value.cast_unsigned())
    }

    /// Eight bytes, the lowest first.
    pub fn fixed64(&mut self, field: u64, value: i64) -> &mut Self {
        if value != 0 {
            self.tag(field, wire_type::FIXED64);
            self.out.extend_from_slice(&value.to_le_bytes());
        }
        self
    }

    /// Bytes or text; none if it is empty.
    pub fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        if value.is_empty() { self } else { self.item(field, value) }
    }

    /// Bytes of a repeated field: written even if they are empty.
    pub fn item(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.tag(field, wire_type::BYTES);
        put_varint(&mut self.out, value.len() as u64);
        self.out.extend_from_slice(value);
        self
    }

    /// A message that is always written.
    pub fn message(&mut self, field: u64, write: impl FnOnce(&mut Writer)) -> &mut Self {
        self.tag(field, wire_type::BYTES);
        let at = self.out.len();
        self.out.push(0);
        write(self);
        let size = self.out.len() - at - 1;
        if size < 0x80 {
            self.out[at] = size as u8;
        } else {
            // The length takes more than the byte that was left for it.
            let mut length = Vec::with_capacity(5);
            put_varint(&mut length, size as u64);
            self.out.splice(at..=at, length);
        }
        self
    }

    /// A message, if there is one.
    pub fn message_if_any<T>(&mut self, field: u64, value: Option<T>, write: impl FnOnce(&mut Writer, T)) -> &mut Self {
        match value {
            Some(value) => self.message(field, |inner| write(inner, value)),
            None => self,
        }
    }
}

/// One field of a message.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its number.
    pub number: u64,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Number(u64),
    Bytes(Bytes),
}

impl Field {
    /// As a number.
    ///
    /// # Errors
    /// [`ProtoError`].
    pub fn uint(&self) -> Result<u64, ProtoError> {
        match &self.value {
            Value::Number(value) => Ok(*value),
            Value::Bytes(_) => Err(ProtoError("bytes where a number belongs")),
        }
    }

    /// As a number with a sign.
    ///
    /// # Errors
    /// [`ProtoError`].
    pub fn int(&self) -> Result<i64, ProtoError> {
        self.uint().map(u64::cast_signed)
    }

    /// As a small number.
    ///
    /// # Errors
    /// [`ProtoError`].
    pub fn small(&self) -> Result<u32, ProtoError> {
        u32::try_from(self.uint()?).map_err(|_| ProtoError("a number is too large"))
    }

    /// As bytes, a slice of what the message came in.
    ///
    /// # Errors
    /// [`ProtoError`].
    pub fn bytes(self) -> Result<Bytes, ProtoError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Number(_) => Err(ProtoError("a number where bytes belong")),
        }
    }

    /// As text.
    ///
    /// # Errors
    /// [`ProtoError`].
    pub fn text(self) -> Result<String, ProtoError> {
        String::from_utf8(self.bytes()?.into()).map_err(|_| ProtoError("text that is not UTF-8"))
    }

    /// As a message.
    ///
    /// # Errors
    /// [`ProtoError`].
    pub fn message(self) -> Result<Reader, ProtoError> {
        self.bytes().map(Reader::new)
    }
}

/// Takes a message apart.
#[derive(Clone, Debug)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Reads these bytes.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    fn varint(&mut self) -> Result<u64, ProtoError> {
        let mut value = 0u64;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f).checked_shl(7 * at as u32).unwrap_or(0);
            if byte & 0x80 == 0 {
                self.rest.advance(at + 1);
                return Ok(value);
            }
        }
        Err(ProtoError("a number does not end"))
    }

    fn take(&mut self, size: usize) -> Result<Bytes, ProtoError> {
        if size > self.rest.len() { Err(ProtoError("it ends early")) } else { Ok(self.rest.split_to(size)) }
    }

    /// The next field.
    ///
    /// # Errors
    /// [`ProtoError`].
    pub fn next_field(&mut self) -> Result<Option<Field>, ProtoError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            wire_type::VARINT => Value::Number(self.varint()?),
            wire_type::FIXED64 => {
                let bytes = self.take(8)?;
                Value::Number(u64::from_le_bytes(*bytes.first_chunk().expect("eight were taken")))
            }
            wire_type::BYTES => {
                let size = usize::try_from(self.varint()?).map_err(|_| ProtoError("a field is too long"))?;
                Value::Bytes(self.take(size)?)
            }
            wire_type::FIXED32 => {
                let bytes = self.take(4)?;
                Value::Number(u32::from_le_bytes(*bytes.first_chunk().expect("four were taken")).into())
            }
            _ => return Err(ProtoError("a kind of field that is not used")),
        };
        Ok(Some(Field { number: tag >> 3, value }))
    }

    /// Hands every field to `take`.
    ///
    /// # Errors
    /// [`ProtoError`].
    pub fn fields(mut self, mut take: impl FnMut(Field) -> Result<(), ProtoError>) -> Result<(), ProtoError> {
        while let Some(field) = self.next_field()? {
            take(field)?;
        }
        Ok(())
    }
}
