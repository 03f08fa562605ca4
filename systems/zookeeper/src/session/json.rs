//! JSON as ZooKeeper's AdminServer prints it: two spaces, ` : ` between name and value, lists on one line.

use std::fmt;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl Json {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn count(count: usize) -> Self {
        Self::Int(i64::try_from(count).unwrap_or(i64::MAX))
    }

    pub(super) fn number(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }

    pub(super) fn map<const N: usize>(fields: [(&str, Json); N]) -> Self {
        Self::Map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text(text) => quote(f, text),
            Self::List(list) if list.is_empty() => f.write_str("[ ]"),
            Self::List(list) => {
                f.write_str("[ ")?;
                for (at, value) in list.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { ", " })?;
                    value.write(f, depth)?;
                }
                f.write_str(" ]")
            }
            Self::Map(fields) if fields.is_empty() => f.write_str("{ }"),
            Self::Map(fields) => {
                for (at, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}\n{:width$}", if at == 0 { "{" } else { "," }, "", width = depth * 2 + 2)?;
                    quote(f, name)?;
                    f.write_str(" : ")?;
                    value.write(f, depth + 1)?;
                }
                write!(f, "\n{:width$}}}", "", width = depth * 2)
            }
        }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c < ' ' => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_admin_server_prints_it() {
        let json = Json::map([
            ("a", Json::Float(0.0)),
            ("b", Json::List(vec![Json::Int(1), Json::map([("c", Json::text("\"\n\u{1}"))])])),
            ("error", Json::Null),
        ]);
        let text = "{\n  \"a\" : 0.0,\n  \"b\" : [ 1, {\n    \"c\" : \"\\\"\\n\\u0001\"\n  } ],\n  \"error\" : null\n}";
        assert_eq!(json.to_string(), text);
    }
}
