//! A value as a history names it.

use std::fmt;
use std::sync::Arc;

/// A value of a history. Two values are equal if their JSON is.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// A whole number.
    Int(i64),
    /// A text.
    Text(Arc<str>),
    /// Any other JSON, as it is written.
    Json(Arc<str>),
}

impl Value {
    /// A text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    /// What an append makes of this value: the texts of both, one behind the other.
    #[must_use]
    pub(crate) fn followed_by(&self, more: &Self) -> Self {
        Self::Text(format!("{}{}", self.plain(), more.plain()).into())
    }

    /// True if a value that came to be by writes and appends may owe something to `part`.
    #[must_use]
    pub(crate) fn holds(&self, part: &Self) -> bool {
        self == part || matches!(self, Self::Text(text) if text.contains(&part.plain()))
    }

    /// The text without quotes; nothing is the empty text.
    pub(crate) fn plain(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Int(number) => number.to_string(),
            Self::Text(text) | Self::Json(text) => text.to_string(),
        }
    }
}

impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::String(text) => Self::text(text),
            serde_json::Value::Number(number) if number.is_i64() => Self::Int(number.as_i64().unwrap_or_default()),
            other => Self::Json(other.to_string().into()),
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Json(text) => f.write_str(text),
        }
    }
}
