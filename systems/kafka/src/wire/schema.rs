//! The notation in which messages are defined, and what a definition gives.
//!
//! ```text
//! Name(3..=13, flexible 9) {              a message, the versions spoken here, the first flexible one
//!     acks: i16,                          a field of every version
//!     name: String [..=12],               of versions up to 12
//!     topics: Option<Vec<T>> [..; null 1..],  null from version 1 on, where before it must not be
//!     epoch: i32 [4..] = -1,              what stands for it where it is absent
//!     cluster_id: Option<String> [12..; tag 0],  tagged: written only if it is not the default
//! }
//! Name { .. }                             a struct inside of messages
//! ```
//! Each becomes a plain struct with public fields. Fields are written in the order of the definition, tagged ones at the end
//! in the order of their tags, in which they must be defined. `Option` means nullable; a nullable struct has a byte in
//! front, negative for null.
//!
//! Why our own: the crate that has the whole protocol reserves memory by counts from the wire, and copies records.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::reader::{Reader, WireError};
use super::value::{Field, Format};
use super::writer::Writer;

/// A request, a response, or data that carries a version elsewhere.
pub trait Message: Field + Default {
    /// The versions that can be decoded and encoded.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tagged fields.
    const FLEXIBLE: Option<i16>;

    /// How `version` is encoded.
    #[must_use]
    fn format(version: i16) -> Format {
        Format { version, flexible: Self::FLEXIBLE.is_some_and(|first| version >= first) }
    }

    /// Takes a message.
    ///
    /// # Errors
    /// [`WireError`].
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, WireError> {
        let (min, max) = (*Self::VERSIONS.start(), *Self::VERSIONS.end());
        if !Self::VERSIONS.contains(&version) {
            return Err(WireError::UnsupportedVersion { version, min, max });
        }
        Self::read(reader, Self::format(version))
    }

    /// Appends the message.
    ///
    /// # Panics
    /// If `version` is none of [`Self::VERSIONS`]: nobody may answer in a version that was not decoded.
    fn encode(&self, writer: &mut Writer, version: i16) {
        assert!(Self::VERSIONS.contains(&version), "version {version} is not one of {:?}", Self::VERSIONS);
        self.write(writer, Self::format(version));
    }

    /// The message alone, in one piece.
    fn to_bytes(&self, version: i16) -> Bytes {
        let mut writer = Writer::new();
        self.encode(&mut writer, version);
        writer.into_bytes()
    }
}

macro_rules! schema {
    // Whether a field is in a version, outside of the tagged fields.
    (@plain $version:expr,) => { true };
    (@plain $version:expr, [$range:expr; tag $tag:literal]) => { false };
    (@plain $version:expr, [$range:expr $(; null $null:expr)?]) => {
        std::ops::RangeBounds::<i16>::contains(&($range), &$version)
    };
    // The tag of a field, if it has one in a version.
    (@tag $version:expr,) => { None::<u32> };
    (@tag $version:expr, [$range:expr; tag $tag:literal]) => {
        std::ops::RangeBounds::<i16>::contains(&($range), &$version).then_some($tag)
    };
    (@tag $version:expr, [$range:expr $(; null $null:expr)?]) => { None::<u32> };
    // Whether null is allowed, where the type has it.
    (@null $version:expr, [$range:expr; null $null:expr]) => {
        std::ops::RangeBounds::<i16>::contains(&($null), &$version)
    };
    (@null $version:expr, $([$($rest:tt)+])?) => { true };
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
    (@flexible) => { None };
    (@flexible $flexible:literal) => { Some($flexible) };

    ($(
        $(#[$doc:meta])*
        $name:ident $(($min:literal..=$max:literal $(, flexible $flexible:literal)?))? {
            $($field:ident: $type:ty $([$($when:tt)+])? $(= $default:expr)?,)*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(
                #[doc = concat!(
                    "The protocol's `", stringify!($field), "`"
                    $(, "; versions and rules: `", stringify!($($when)+), "`")?
                    $(, "; by default ", stringify!($default))?, "."
                )]
                pub $field: $type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: schema!(@default $($default)?),)* }
            }
        }

        impl $crate::wire::value::Field for $name {
            fn read(
                reader: &mut $crate::wire::reader::Reader,
                format: $crate::wire::value::Format,
            ) -> Result<Self, $crate::wire::reader::WireError> {
                let mut value = Self::default();
                $(if schema!(@plain format.version, $([$($when)+])?) {
                    value.$field = if schema!(@null format.version, $([$($when)+])?) {
                        $crate::wire::value::Field::read(reader, format)?
                    } else {
                        $crate::wire::value::Field::read_present(reader, format)?
                    };
                })*
                if format.flexible {
                    reader.tags(|_reader, _tag| {
                        $(if schema!(@tag format.version, $([$($when)+])?) == Some(_tag) {
                            value.$field = $crate::wire::value::Field::read(_reader, format)?;
                            return Ok(true);
                        })*
                        Ok(false)
                    })?;
                }
                Ok(value)
            }

            fn write(&self, writer: &mut $crate::wire::writer::Writer, format: $crate::wire::value::Format) {
                $(if schema!(@plain format.version, $([$($when)+])?) {
                    if schema!(@null format.version, $([$($when)+])?) {
                        $crate::wire::value::Field::write(&self.$field, writer, format);
                    } else {
                        $crate::wire::value::Field::write_present(&self.$field, writer, format);
                    }
                })*
                if format.flexible {
                    let default = Self::default();
                    let mut count = 0u32;
                    $(if schema!(@tag format.version, $([$($when)+])?).is_some() && self.$field != default.$field {
                        count += 1;
                    })*
                    writer.uvarint(count);
                    $(if let Some(tag) = schema!(@tag format.version, $([$($when)+])?) && self.$field != default.$field {
                        writer.tag(tag, |writer| $crate::wire::value::Field::write(&self.$field, writer, format));
                    })*
                }
            }

            #[cfg(test)]
            fn draw(draw: &mut $crate::wire::Draw, format: $crate::wire::value::Format) -> Self {
                let mut value = Self::default();
                $(
                    if schema!(@plain format.version, $([$($when)+])?)
                        || (schema!(@tag format.version, $([$($when)+])?).is_some() && draw.below(2) == 0)
                    {
                        value.$field = if schema!(@null format.version, $([$($when)+])?) {
                            $crate::wire::value::Field::draw(draw, format)
                        } else {
                            $crate::wire::value::Field::draw_present(draw, format)
                        };
                    }
                )*
                value
            }
        }

        impl $crate::wire::value::Nullable for $name {
            fn read_nullable(
                reader: &mut $crate::wire::reader::Reader,
                format: $crate::wire::value::Format,
            ) -> Result<Option<Self>, $crate::wire::reader::WireError> {
                let [mark] = reader.array()?;
                if (mark as i8) < 0 {
                    return Ok(None);
                }
                $crate::wire::value::Field::read(reader, format).map(Some)
            }

            fn write_nullable(
                value: Option<&Self>,
                writer: &mut $crate::wire::writer::Writer,
                format: $crate::wire::value::Format,
            ) {
                match value {
                    None => writer.put(&[0xff]),
                    Some(value) => {
                        writer.put(&[1]);
                        $crate::wire::value::Field::write(value, writer, format);
                    }
                }
            }
        }

        $(
            impl $crate::wire::schema::Message for $name {
                const VERSIONS: std::ops::RangeInclusive<i16> = $min..=$max;
                const FLEXIBLE: Option<i16> = schema!(@flexible $($flexible)?);
            }
        )?
    )*};
}
pub(super) use schema;
