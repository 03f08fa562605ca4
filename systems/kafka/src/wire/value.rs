//! How each type of field is read and written.

use bytes::Bytes;

use super::blob::Blob;
use super::reader::{Reader, WireError};
use super::uuid::Uuid;
use super::writer::Writer;

/// Which encoding of a message is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The message's version.
    pub version: i16,
    /// True from the version on that has compact lengths and tagged fields (KIP-482).
    pub flexible: bool,
}

/// A type that a field can have.
pub trait Field: Sized {
    /// Takes a value.
    ///
    /// # Errors
    /// [`WireError`].
    fn read(reader: &mut Reader, format: Format) -> Result<Self, WireError>;

    /// Appends the value.
    fn write(&self, writer: &mut Writer, format: Format);

    /// Takes a value in a version in which it cannot be null.
    ///
    /// # Errors
    /// [`WireError`].
    fn read_present(reader: &mut Reader, format: Format) -> Result<Self, WireError> {
        Self::read(reader, format)
    }

    /// Appends the value in a version in which it cannot be null.
    fn write_present(&self, writer: &mut Writer, format: Format) {
        self.write(writer, format);
    }

    /// A value that `format` can carry.
    #[cfg(test)]
    fn draw(draw: &mut super::Draw, format: Format) -> Self;

    /// A value that is not null.
    #[cfg(test)]
    fn draw_present(draw: &mut super::Draw, format: Format) -> Self {
        Self::draw(draw, format)
    }
}

/// A type whose encoding has a place for null.
pub trait Nullable: Field + Default {
    /// Takes a value; `None` for null.
    ///
    /// # Errors
    /// [`WireError`].
    fn read_nullable(reader: &mut Reader, format: Format) -> Result<Option<Self>, WireError>;

    /// Appends a value; `None` for null.
    fn write_nullable(value: Option<&Self>, writer: &mut Writer, format: Format);
}

impl<T: Nullable> Field for Option<T> {
    fn read(reader: &mut Reader, format: Format) -> Result<Self, WireError> {
        T::read_nullable(reader, format)
    }

    fn write(&self, writer: &mut Writer, format: Format) {
        T::write_nullable(self.as_ref(), writer, format);
    }

    fn read_present(reader: &mut Reader, format: Format) -> Result<Self, WireError> {
        T::read(reader, format).map(Some)
    }

    fn write_present(&self, writer: &mut Writer, format: Format) {
        match self {
            Some(value) => value.write(writer, format),
            None => T::default().write(writer, format),
        }
    }

    #[cfg(test)]
    fn draw(draw: &mut super::Draw, format: Format) -> Self {
        if draw.below(3) == 0 { None } else { Some(T::draw(draw, format)) }
    }

    #[cfg(test)]
    fn draw_present(draw: &mut super::Draw, format: Format) -> Self {
        Some(T::draw(draw, format))
    }
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn read(reader: &mut Reader, _: Format) -> Result<Self, WireError> {
                reader.array().map(<$type>::from_be_bytes)
            }

            fn write(&self, writer: &mut Writer, _: Format) {
                writer.put(&self.to_be_bytes());
            }

            #[cfg(test)]
            fn draw(draw: &mut super::Draw, _: Format) -> Self {
                draw.number() as $type
            }
        }
    )*};
}
number!(i8, i16, i32, i64, f64);

impl Field for bool {
    fn read(reader: &mut Reader, _: Format) -> Result<Self, WireError> {
        let [byte] = reader.array()?;
        Ok(byte != 0)
    }

    fn write(&self, writer: &mut Writer, _: Format) {
        writer.put(&[u8::from(*self)]);
    }

    #[cfg(test)]
    fn draw(draw: &mut super::Draw, _: Format) -> Self {
        draw.below(2) == 0
    }
}

impl Field for Uuid {
    fn read(reader: &mut Reader, _: Format) -> Result<Self, WireError> {
        reader.array().map(Self)
    }

    fn write(&self, writer: &mut Writer, _: Format) {
        writer.put(&self.0);
    }

    #[cfg(test)]
    fn draw(draw: &mut super::Draw, _: Format) -> Self {
        Self((draw.number() as u128).to_be_bytes())
    }
}

impl Field for String {
    fn read(reader: &mut Reader, format: Format) -> Result<Self, WireError> {
        Self::read_nullable(reader, format)?.ok_or(WireError::Null)
    }

    fn write(&self, writer: &mut Writer, format: Format) {
        writer.string(Some(self), format.flexible);
    }

    #[cfg(test)]
    fn draw(draw: &mut super::Draw, _: Format) -> Self {
        draw.text()
    }
}

impl Nullable for String {
    fn read_nullable(reader: &mut Reader, format: Format) -> Result<Option<Self>, WireError> {
        let size = if format.flexible {
            reader.compact_length()?
        } else {
            Reader::length(i16::from_be_bytes(reader.array()?).into())?
        };
        size.map(|size| reader.string(size)).transpose()
    }

    fn write_nullable(value: Option<&Self>, writer: &mut Writer, format: Format) {
        writer.string(value.map(String::as_str), format.flexible);
    }
}

impl Field for Bytes {
    fn read(reader: &mut Reader, format: Format) -> Result<Self, WireError> {
        Self::read_nullable(reader, format)?.ok_or(WireError::Null)
    }

    fn write(&self, writer: &mut Writer, format: Format) {
        Self::write_nullable(Some(self), writer, format);
    }

    #[cfg(test)]
    fn draw(draw: &mut super::Draw, _: Format) -> Self {
        draw.bytes()
    }
}

fn read_length(reader: &mut Reader, format: Format) -> Result<Option<usize>, WireError> {
    if format.flexible { reader.compact_length() } else { Reader::length(i32::from_be_bytes(reader.array()?)) }
}

fn write_length(size: Option<usize>, writer: &mut Writer, format: Format) {
    if format.flexible {
        writer.compact_length(size);
    } else {
        writer.length(size);
    }
}

impl Nullable for Bytes {
    fn read_nullable(reader: &mut Reader, format: Format) -> Result<Option<Self>, WireError> {
        read_length(reader, format)?.map(|size| reader.bytes(size)).transpose()
    }

    fn write_nullable(value: Option<&Self>, writer: &mut Writer, format: Format) {
        write_length(value.map(Bytes::len), writer, format);
        if let Some(bytes) = value {
            writer.put_shared(bytes);
        }
    }
}

impl Field for Blob {
    fn read(reader: &mut Reader, format: Format) -> Result<Self, WireError> {
        Bytes::read(reader, format).map(Self::Memory)
    }

    fn write(&self, writer: &mut Writer, format: Format) {
        Self::write_nullable(Some(self), writer, format);
    }

    #[cfg(test)]
    fn draw(draw: &mut super::Draw, _: Format) -> Self {
        Self::Memory(draw.bytes())
    }
}

impl Nullable for Blob {
    fn read_nullable(reader: &mut Reader, format: Format) -> Result<Option<Self>, WireError> {
        Ok(Bytes::read_nullable(reader, format)?.map(Self::Memory))
    }

    fn write_nullable(value: Option<&Self>, writer: &mut Writer, format: Format) {
        write_length(value.map(Blob::len), writer, format);
        match value {
            Some(Self::Memory(bytes)) => writer.put_shared(bytes),
            Some(Self::File(range)) => writer.put_range(range),
            None => {}
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(reader: &mut Reader, format: Format) -> Result<Self, WireError> {
        Self::read_nullable(reader, format)?.ok_or(WireError::Null)
    }

    fn write(&self, writer: &mut Writer, format: Format) {
        Self::write_nullable(Some(self), writer, format);
    }

    #[cfg(test)]
    fn draw(draw: &mut super::Draw, format: Format) -> Self {
        (0..draw.below(4)).map(|_| T::draw(draw, format)).collect()
    }
}

impl<T: Field> Nullable for Vec<T> {
    fn read_nullable(reader: &mut Reader, format: Format) -> Result<Option<Self>, WireError> {
        let Some(count) = read_length(reader, format)? else { return Ok(None) };
        reader.elements(count, |reader| T::read(reader, format)).map(Some)
    }

    fn write_nullable(value: Option<&Self>, writer: &mut Writer, format: Format) {
        write_length(value.map(Vec::len), writer, format);
        for element in value.into_iter().flatten() {
            element.write(writer, format);
        }
    }
}
