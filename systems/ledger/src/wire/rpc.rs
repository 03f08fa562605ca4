//! JSON-RPC 2.0, with what CometBFT makes of it (`rpc/jsonrpc/types`): ids are text or whole numbers, and a request without
//! one is not answered.

use serde_json::Value;
use serde_json::value::RawValue;
use thiserror::Error;

/// What a request is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Id {
    /// By text.
    Text(String),
    /// By number. Requests by URI are called -1.
    Number(i64),
    /// It could not be read.
    None,
}

/// Why a request fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// As JSON-RPC numbers them.
    pub code: i32,
    /// What the number means.
    pub message: &'static str,
    /// What happened; empty for nothing.
    pub data: String,
}

impl RpcError {
    fn new(code: i32, message: &'static str, data: impl Into<String>) -> Self {
        Self { code, message, data: data.into() }
    }

    /// It is no JSON.
    pub fn parse(data: impl Into<String>) -> Self {
        Self::new(-32_700, "Parse error. Invalid JSON", data)
    }

    /// It is no request.
    pub fn invalid_request(data: impl Into<String>) -> Self {
        Self::new(-32_600, "Invalid Request", data)
    }

    /// There is no such method.
    #[must_use]
    pub fn method_not_found() -> Self {
        Self::new(-32_601, "Method not found", "")
    }

    /// The parameters are not the method's.
    pub fn invalid_params(data: impl Into<String>) -> Self {
        Self::new(-32_602, "Invalid params", data)
    }

    /// The method failed.
    pub fn internal(data: impl Into<String>) -> Self {
        Self::new(-32_603, "Internal error", data)
    }

    /// The server gives up on it.
    pub fn server(data: impl Into<String>) -> Self {
        Self::new(-32_000, "Server error", data)
    }
}

/// Bytes that are no request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("error unmarshaling request: {0}")]
pub struct RequestError(pub String);

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `None` for a notification, which is not answered.
    pub id: Option<Id>,
    /// What is to be done.
    pub method: String,
    /// As they came; empty if there are none.
    pub params: String,
}

fn unread(error: &serde_json::Error) -> RequestError {
    RequestError(error.to_string())
}

impl Request {
    /// Reads one request.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        #[derive(serde::Deserialize)]
        struct Raw<'a> {
            #[serde(default)]
            id: Value,
            #[serde(default)]
            method: Option<String>,
            #[serde(borrow, default)]
            params: Option<&'a RawValue>,
        }
        let raw: Raw<'_> = serde_json::from_slice(bytes).map_err(|error| unread(&error))?;
        let id = match raw.id {
            Value::Null => None,
            Value::String(text) => Some(Id::Text(text)),
            // Go reads numbers as floats and cuts them off.
            #[expect(clippy::cast_possible_truncation, reason = "that is what Go does")]
            Value::Number(number) => {
                Some(Id::Number(number.as_i64().or_else(|| number.as_f64().map(|float| float as i64)).unwrap_or(0)))
            }
            other => return Err(RequestError(format!("json-rpc ID ({other}) is of unknown type"))),
        };
        let params = raw.params.map(RawValue::get).filter(|params| *params != "null").unwrap_or_default();
        Ok(Self { id, method: raw.method.unwrap_or_default(), params: params.to_owned() })
    }

    /// Reads a list of requests; `None` if it is no list.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse_list(bytes: &[u8]) -> Option<Result<Vec<Self>, RequestError>> {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        if first != Some(&b'[') {
            return None;
        }
        let list: Result<Vec<&RawValue>, _> = serde_json::from_slice(bytes);
        Some(match list {
            Ok(list) => list.iter().map(|one| Self::parse(one.get().as_bytes())).collect(),
            Err(error) => Err(unread(&error)),
        })
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn envelope(id: &Id) -> String {
    match id {
        Id::Text(text) => format!("{{\"jsonrpc\":\"2.0\",\"id\":{}", quoted(text)),
        Id::Number(number) => format!("{{\"jsonrpc\":\"2.0\",\"id\":{number}"),
        Id::None => "{\"jsonrpc\":\"2.0\"".to_owned(),
    }
}

/// A response with a result, which is JSON already.
#[must_use]
pub fn answer(id: &Id, result: &str) -> String {
    format!("{},\"result\":{result}}}", envelope(id))
}

/// A response with an error.
#[must_use]
pub fn refusal(id: &Id, error: &RpcError) -> String {
    let data = if error.data.is_empty() { String::new() } else { format!(",\"data\":{}", quoted(&error.data)) };
    format!("{},\"error\":{{\"code\":{},\"message\":{}{data}}}}}", envelope(id), error.code, quoted(error.message))
}
