//! Parameters, as Go's reflection reads them in CometBFT: 64-bit numbers as text, bytes in base64 or hex, by name or by
//! place; in a URI also plain numbers, quoted text and `0x` hex.

use bytes::Bytes;
use serde_json::Value;
use verity_http::parse_query;

use crate::wire::{from_base64, from_hex};

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    /// Base64 in JSON.
    Bytes,
    /// Hex in JSON.
    Hex,
    Text,
    Flag,
}

/// A method's parameters, by their places.
pub(super) type Spec = &'static [(&'static str, Kind)];

/// What a parameter holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Param {
    #[default]
    Absent,
    Int(i64),
    Bytes(Bytes),
    Text(String),
    Flag(bool),
}

/// A call's parameters, in the order of the method's.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(Vec<Param>);

impl Params {
    fn take(&mut self, at: usize) -> Param {
        self.0.get_mut(at).map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn int(&mut self, at: usize) -> Option<i64> {
        if let Param::Int(value) = self.take(at) { Some(value) } else { None }
    }

    pub(super) fn bytes(&mut self, at: usize) -> Bytes {
        if let Param::Bytes(value) = self.take(at) { value } else { Bytes::new() }
    }

    pub(super) fn text(&mut self, at: usize) -> String {
        if let Param::Text(value) = self.take(at) { value } else { String::new() }
    }

    pub(super) fn flag(&mut self, at: usize) -> bool {
        self.take(at) == Param::Flag(true)
    }
}

fn of_json(kind: Kind, value: &Value) -> Result<Param, String> {
    let wrong = |what: &str| Err(format!("json: cannot unmarshal {value} into Go value of type {what}"));
    Ok(match (kind, value) {
        (_, Value::Null) => Param::Absent,
        (Kind::Int, Value::String(text)) => match text.parse() {
            Ok(number) => Param::Int(number),
            Err(_) => return wrong("int64"),
        },
        (Kind::Int, other) => {
            return Err(format!("invalid 64-bit integer encoding {:?}, expected string", other.to_string()));
        }
        (Kind::Bytes, Value::String(text)) => match from_base64(text) {
            Some(bytes) => Param::Bytes(bytes.into()),
            None => return Err("illegal base64 data at input byte 0".to_owned()),
        },
        (Kind::Hex, Value::String(text)) => match from_hex(text) {
            Some(bytes) => Param::Bytes(bytes.into()),
            None => return Err(format!("invalid hex string: {value}")),
        },
        (Kind::Text, Value::String(text)) => Param::Text(text.clone()),
        (Kind::Flag, Value::Bool(flag)) => Param::Flag(*flag),
        (Kind::Bytes, _) => return wrong("[]uint8"),
        (Kind::Hex, _) => return Err(format!("invalid hex string: {value}")),
        (Kind::Text, _) => return wrong("string"),
        (Kind::Flag, _) => return wrong("bool"),
    })
}

/// Reads parameters of a request in JSON.
pub(super) fn from_request(spec: Spec, text: &str) -> Result<Params, String> {
    let invalid = |why: String| format!("error converting json params to arguments: {why}");
    if text.is_empty() {
        return Ok(Params::default());
    }
    let value: Value = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
    let params = match &value {
        Value::Object(map) => {
            spec.iter().map(|(name, kind)| map.get(*name).map_or(Ok(Param::Absent), |v| of_json(*kind, v)))
        }
        Value::Array(list) if list.len() == spec.len() => {
            let all: Result<_, _> = spec.iter().zip(list).map(|((_, kind), value)| of_json(*kind, value)).collect();
            return all.map(Params).map_err(invalid);
        }
        Value::Array(list) => {
            let names: Vec<&str> = spec.iter().map(|(name, _)| *name).collect();
            let (expected, names, got) = (spec.len(), names.join(" "), list.len());
            return Err(invalid(format!("expected {expected} parameters ([{names}]), got {got} ({value})")));
        }
        other => return Err(invalid(format!("unknown type for JSON params: {other}. Expected map or array"))),
    };
    params.collect::<Result<_, _>>().map(Params).map_err(invalid)
}

fn of_text(kind: Kind, text: &str) -> Result<Param, String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && kind == Kind::Int {
        return of_json(kind, &Value::from(text));
    }
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let bytes = from_hex(hex).ok_or_else(|| "encoding/hex: invalid byte".to_owned());
        return match kind {
            Kind::Bytes | Kind::Hex => bytes.map(|bytes| Param::Bytes(bytes.into())),
            Kind::Text => bytes.map(|bytes| Param::Text(String::from_utf8_lossy(&bytes).into_owned())),
            Kind::Int => Err("got a hex string arg, but expected 'int64'".to_owned()),
            Kind::Flag => Err("got a hex string arg, but expected 'bool'".to_owned()),
        };
    }
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match (kind, value) {
        (Kind::Bytes | Kind::Hex, Value::String(text)) => Ok(Param::Bytes(text.into())),
        (kind, value) => of_json(kind, &value),
    }
}

/// Reads parameters of a URI.
pub(super) fn from_uri(spec: Spec, query: &str) -> Result<Params, String> {
    let invalid = |why: String| format!("error converting http params to arguments: {why}");
    let pairs = parse_query(query).map_err(|error| invalid(error.to_string()))?;
    let find = |name: &str| pairs.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value);
    let read = |(name, kind): &(&str, Kind)| match find(name) {
        "" => Ok(Param::Absent),
        text => of_text(*kind, text),
    };
    spec.iter().map(read).collect::<Result<_, _>>().map(Params).map_err(invalid)
}
