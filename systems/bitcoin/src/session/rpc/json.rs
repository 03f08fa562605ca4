//! JSON as the network's nodes read and write it.
//!
//! Clients compare texts, and tests do: an amount is `0.00010000`, a field stands where it always stood, and a number is what
//! was sent and no rounding of it. So numbers are kept as they are written, and fields in their order, twice if they came twice.
//!
//! - upon a type that is not the expected one: the words that everybody's clients know;
//! - upon anything beyond RFC 8259, or deeper than [`DEPTH_MAX`]: not JSON.
//!
//! Deliberately absent: a mapping to Rust's types, which would have to forget all this.

mod reader;

use std::fmt::Write;

use bitcoin::Amount;

use super::error::RpcError;

/// No value is nested deeper.
pub(crate) const DEPTH_MAX: usize = 512;

/// A value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Json {
    /// Nothing.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A number, as it is written.
    Num(String),
    /// A text.
    Str(String),
    /// Values in their order.
    Arr(Vec<Json>),
    /// Fields in their order.
    Obj(Vec<(String, Json)>),
}

static NULL: Json = Json::Null;

impl Json {
    /// Reads a text; `None` if it is not JSON.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        reader::read(text)
    }

    /// An empty object.
    #[must_use]
    pub fn obj() -> Self {
        Self::Obj(Vec::new())
    }

    /// An array of what these become.
    pub fn arr<T: Into<Json>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::Arr(items.into_iter().map(Into::into).collect())
    }

    /// With one more field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Json>) -> Self {
        self.put(name, value);
        self
    }

    /// One more field.
    ///
    /// # Panics
    /// If this is no object.
    pub fn put(&mut self, name: &str, value: impl Into<Json>) {
        let Self::Obj(fields) = self else { panic!("a field of something that is no object") };
        fields.push((name.into(), value.into()));
    }

    /// A number with eight decimals.
    #[must_use]
    pub fn amount(satoshi: i64) -> Self {
        let sign = if satoshi < 0 { "-" } else { "" };
        let whole = satoshi.unsigned_abs();
        Self::Num(format!("{sign}{}.{:08}", whole / 100_000_000, whole % 100_000_000))
    }

    /// A number with a fraction, to sixteen digits.
    ///
    /// What is infinite or no number at all is nothing.
    #[must_use]
    pub fn float(value: f64) -> Self {
        if value.is_finite() { Self::Num(general(value)) } else { Self::Null }
    }

    /// The name of its type.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Num(_) => "number",
            Self::Str(_) => "string",
            Self::Arr(_) => "array",
            Self::Obj(_) => "object",
        }
    }

    /// True for nothing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        *self == Self::Null
    }

    fn expected(&self, name: &str) -> RpcError {
        let own = self.type_name();
        RpcError::kind(format!("JSON value of type {own} is not of expected type {name}"))
    }

    /// The text that it is.
    ///
    /// # Errors
    /// It is none.
    pub fn text(&self) -> Result<&str, RpcError> {
        if let Self::Str(text) = self { Ok(text) } else { Err(self.expected("string")) }
    }

    /// Whether it is true.
    ///
    /// # Errors
    /// It is neither true nor false.
    pub fn bool(&self) -> Result<bool, RpcError> {
        if let Self::Bool(value) = self { Ok(*value) } else { Err(self.expected("bool")) }
    }

    /// The whole number that it is.
    ///
    /// # Errors
    /// It is none, or too large for `T`.
    pub fn int<T: std::str::FromStr>(&self) -> Result<T, RpcError> {
        let Self::Num(digits) = self else { return Err(self.expected("number")) };
        digits.parse().map_err(|_| RpcError::misc("JSON integer out of range"))
    }

    /// The number that it is.
    ///
    /// # Errors
    /// It is none.
    pub fn real(&self) -> Result<f64, RpcError> {
        let Self::Num(digits) = self else { return Err(self.expected("number")) };
        digits.parse().map_err(|_| RpcError::misc("JSON double out of range"))
    }

    /// The values of an array.
    ///
    /// # Errors
    /// It is none.
    pub fn items(&self) -> Result<&[Json], RpcError> {
        if let Self::Arr(items) = self { Ok(items) } else { Err(self.expected("array")) }
    }

    /// The fields of an object.
    ///
    /// # Errors
    /// It is none.
    pub fn fields(&self) -> Result<&[(String, Json)], RpcError> {
        if let Self::Obj(fields) = self { Ok(fields) } else { Err(self.expected("object")) }
    }

    /// The first field of this name; nothing if there is none, or if this is no object.
    #[must_use]
    pub fn get(&self, name: &str) -> &Json {
        match self {
            Self::Obj(fields) => fields.iter().find(|(own, _)| own == name).map_or(&NULL, |(_, value)| value),
            _ => &NULL,
        }
    }

    /// The value at this place of an array; nothing beyond its end.
    #[must_use]
    pub fn at(&self, index: usize) -> &Json {
        match self {
            Self::Arr(items) => items.get(index).unwrap_or(&NULL),
            _ => &NULL,
        }
    }

    /// What a number, a text or a boolean is as text (`getValStr`).
    #[must_use]
    pub(crate) fn raw_text(&self) -> &str {
        match self {
            Self::Num(text) | Self::Str(text) => text,
            Self::Bool(true) => "1",
            _ => "",
        }
    }

    /// As text in one line.
    #[must_use]
    pub fn write(&self) -> String {
        let mut out = String::new();
        self.write_to(&mut out, 0, 0);
        out
    }

    /// As text, indented by so many spaces a level.
    #[must_use]
    pub fn pretty(&self, indent: usize) -> String {
        let mut out = String::new();
        self.write_to(&mut out, indent, 1);
        out
    }

    fn write_to(&self, out: &mut String, indent: usize, level: usize) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Num(digits) => out.push_str(digits),
            Self::Str(text) => quote(out, text),
            Self::Arr(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    begin_line(out, indent, level, index > 0);
                    item.write_to(out, indent, level + 1);
                }
                end_lines(out, indent, level);
                out.push(']');
            }
            Self::Obj(fields) => {
                out.push('{');
                for (index, (name, value)) in fields.iter().enumerate() {
                    begin_line(out, indent, level, index > 0);
                    quote(out, name);
                    out.push_str(if indent > 0 { ": " } else { ":" });
                    value.write_to(out, indent, level + 1);
                }
                end_lines(out, indent, level);
                out.push('}');
            }
        }
    }
}

fn begin_line(out: &mut String, indent: usize, level: usize, follows: bool) {
    if follows {
        out.push(',');
    }
    if indent > 0 {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent * level));
    }
}

fn end_lines(out: &mut String, indent: usize, level: usize) {
    if indent > 0 {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent * (level - 1)));
    }
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' | '\u{7f}' => {
                write!(out, "\\u{:04x}", u32::from(char)).expect("a text can be written to");
            }
            _ => out.push(char),
        }
    }
    out.push('"');
}

/// Sixteen digits, the shorter of both notations, no zeros at the end: C's `%.16g`.
fn general(value: f64) -> String {
    const DIGITS: i32 = 16;
    if value == 0.0 {
        return if value.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    let scientific = format!("{value:.15e}");
    let (digits, exponent) = scientific.split_once('e').expect("Rust writes an exponent");
    let exponent: i32 = exponent.parse().expect("Rust writes it as a number");
    let trim = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text.to_string() }
    };
    if (-4..DIGITS).contains(&exponent) {
        let decimals = usize::try_from(DIGITS - 1 - exponent).expect("the exponent is below the digits");
        return trim(&format!("{value:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(digits), exponent.abs())
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for Json {
    fn from(value: &str) -> Self {
        Self::Str(value.into())
    }
}

impl From<String> for Json {
    fn from(value: String) -> Self {
        Self::Str(value)
    }
}

impl From<Amount> for Json {
    fn from(value: Amount) -> Self {
        Self::amount(value.to_sat().try_into().expect("no amount is above 2^63"))
    }
}

impl<T: Into<Json>> From<Vec<T>> for Json {
    fn from(items: Vec<T>) -> Self {
        Self::arr(items)
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! numbers {
    ($($type:ty)*) => { $(impl From<$type> for Json {
        fn from(value: $type) -> Self {
            Self::Num(value.to_string())
        }
    })* };
}

numbers!(u8 u16 u32 u64 usize i32 i64);

macro_rules! hashes {
    ($($type:ty)*) => { $(impl From<$type> for Json {
        fn from(value: $type) -> Self {
            Self::Str(value.to_string())
        }
    })* };
}

hashes!(bitcoin::BlockHash bitcoin::Txid bitcoin::Wtxid bitcoin::TxMerkleNode);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_have_eight_decimals() {
        for (satoshi, text) in
            [(0, "0.00000000"), (10_000, "0.00010000"), (-1, "-0.00000001"), (5_000_000_000, "50.00000000")]
        {
            assert_eq!(Json::amount(satoshi).write(), text);
        }
    }

    #[test]
    fn floats_are_written_as_by_c() {
        for (value, text) in [
            (4.656542373906925e-10, "4.656542373906925e-10"),
            (1.0, "1"),
            (0.001, "0.001"),
            (0.1 + 0.2, "0.3"),
            (1.5e20, "1.5e+20"),
            (-2.5, "-2.5"),
            (1_231_006_505.0, "1231006505"),
        ] {
            assert_eq!(Json::float(value).write(), text);
        }
    }

    #[test]
    fn types_are_told_in_the_usual_words() {
        let error = Json::from("a").int::<i32>().expect_err("a text is no number");
        assert_eq!((error.code, &error.message[..]), (-3, "JSON value of type string is not of expected type number"));
        assert_eq!(Json::Num("1.5".into()).int::<i32>().expect_err("no integer").code, -1);
    }

    #[test]
    fn fields_keep_their_order_and_indent() {
        let value = Json::obj().with("b", 1_u32).with("a", Json::arr(["x"]));
        assert_eq!(value.write(), r#"{"b":1,"a":["x"]}"#);
        assert_eq!(value.pretty(4), "{\n    \"b\": 1,\n    \"a\": [\n        \"x\"\n    ]\n}");
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            any::<i64>().prop_map(Json::from),
            any::<f64>().prop_map(Json::float),
            any::<String>().prop_map(Json::Str),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Arr),
                prop::collection::vec((any::<String>(), inner), 0..4).prop_map(Json::Obj),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in any_json()) {
            prop_assert_eq!(Json::read(value.write().as_bytes()), Some(value.clone()));
            prop_assert_eq!(Json::read(value.pretty(2).as_bytes()), Some(value));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Json::read(&bytes);
        }
    }
}
