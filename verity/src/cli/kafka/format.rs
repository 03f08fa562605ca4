//! How a record is shown.
//!
//! ```text
//! %s value   %k key   %t topic   %p partition   %o offset   %T time in milliseconds   %h headers   %% a percent sign
//! \n a new line   \t a tab   \\ a backslash
//! ```
//! They are those of kcat. What is not there is shown as nothing.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::kafka::Incoming;

/// A piece of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value,
    Key,
    Topic,
    Partition,
    Offset,
    Time,
    Headers,
}

/// How each record is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format(Vec<Piece>);

impl Format {
    /// Reads a format.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut plain) = (Vec::new(), String::new());
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            let piece = match (char, if matches!(char, '%' | '\\') { chars.next() } else { None }) {
                ('%', Some('s')) => Piece::Value,
                ('%', Some('k')) => Piece::Key,
                ('%', Some('t')) => Piece::Topic,
                ('%', Some('p')) => Piece::Partition,
                ('%', Some('o')) => Piece::Offset,
                ('%', Some('T')) => Piece::Time,
                ('%', Some('h')) => Piece::Headers,
                ('%', Some('%')) => {
                    plain.push('%');
                    continue;
                }
                ('\\', Some('n')) => {
                    plain.push('\n');
                    continue;
                }
                ('\\', Some('t')) => {
                    plain.push('\t');
                    continue;
                }
                ('\\', Some('\\')) => {
                    plain.push('\\');
                    continue;
                }
                ('%', other) => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(format!("%{other} is nothing; there are %s %k %t %p %o %T %h %%"));
                }
                ('\\', other) => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(format!("\\{other} is nothing; there are \\n \\t \\\\"));
                }
                (char, _) => {
                    plain.push(char);
                    continue;
                }
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// Writes a record.
    pub(super) fn write(&self, topic: &str, record: &Incoming, to: &mut impl Write) -> std::io::Result<()> {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => to.write_all(text.as_bytes())?,
                Piece::Value => to.write_all(record.value.as_deref().unwrap_or_default())?,
                Piece::Key => to.write_all(record.key.as_deref().unwrap_or_default())?,
                Piece::Topic => to.write_all(topic.as_bytes())?,
                Piece::Partition => write!(to, "{}", record.partition)?,
                Piece::Offset => write!(to, "{}", record.offset)?,
                Piece::Time => write!(to, "{}", record.timestamp)?,
                Piece::Headers => {
                    for (at, (name, value)) in record.headers.iter().enumerate() {
                        if at > 0 {
                            to.write_all(b",")?;
                        }
                        to.write_all(name)?;
                        to.write_all(b"=")?;
                        to.write_all(value.as_deref().unwrap_or_default())?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Text as text; other bytes in base64, under a name that says so.
fn put(object: &mut Map<String, Value>, name: &str, bytes: Option<&Bytes>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), Value::from(text)),
        Some(Err(bytes)) => object.insert(format!("{name}_base64"), Value::from(STANDARD.encode(bytes))),
    };
}

/// A record, for machines.
pub(super) fn object(topic: &str, record: &Incoming) -> Value {
    let mut object = Map::new();
    object.insert("topic".to_owned(), Value::from(topic));
    object.insert("partition".to_owned(), Value::from(record.partition));
    object.insert("offset".to_owned(), Value::from(record.offset));
    object.insert("timestamp".to_owned(), Value::from(record.timestamp));
    put(&mut object, "key", record.key.as_ref());
    put(&mut object, "value", record.value.as_ref());
    if !record.headers.is_empty() {
        let header = |(name, value): &(Bytes, Option<Bytes>)| {
            let mut header = Map::new();
            put(&mut header, "name", Some(name));
            put(&mut header, "value", value.as_ref());
            Value::Object(header)
        };
        object.insert("headers".to_owned(), json!(record.headers.iter().map(header).collect::<Vec<_>>()));
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Incoming {
        Incoming {
            partition: 2,
            offset: 7,
            timestamp: 5,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"\xff")),
            headers: vec![(Bytes::from_static(b"a"), Some(Bytes::from_static(b"b"))), (Bytes::from_static(b"c"), None)],
        }
    }

    #[test]
    fn a_format_is_followed() {
        let format = Format::parse(r"%t/%p@%o %T %k=%s 100%%\t%h\n").unwrap();
        let mut out = Vec::new();
        format.write("t", &record(), &mut out).unwrap();
        assert_eq!(out, b"t/2@7 5 k=\xff 100%\ta=b,c=\n");
    }

    #[test]
    fn a_format_that_means_nothing_is_told() {
        assert_eq!(Format::parse("%x").unwrap_err(), "%x is nothing; there are %s %k %t %p %o %T %h %%");
        assert!(Format::parse("a\\").is_err() && Format::parse("%").is_err());
    }

    #[test]
    fn machines_are_told_which_bytes_are_no_text() {
        let object = object("t", &record());
        assert_eq!(object["key"], "k");
        assert_eq!(object["value_base64"], "/w==");
        assert_eq!(object["headers"][1], json!({ "name": "c", "value": null }));
    }
}
