//! Requests and responses as whole frames: the header, then the body.
//!
//! - upon a frame: key, version and correlation id are at the same place whatever follows.
//! - upon a key that nobody knows, or a version that is not spoken: an error; the connection closes, as with Kafka.
//! - upon ApiVersions in a version that is not spoken: no error. The client is newer and waits for an answer in version 0
//!   with error 35, from which it learns what it may ask (KIP-511): [`Incoming::ApiVersionsUnsupported`],
//!   [`unsupported_api_versions`].
//! - upon a flexible version: the header ends with tagged fields, but its client id keeps the older encoding.

use bytes::Bytes;
use thiserror::Error;

use super::api::{ApiKey, Request, Response};
use super::blob::Blob;
use super::error::ErrorCode;
use super::message::ApiVersionsResponse;
use super::reader::{Reader, WireError};
use super::value::{Field, Format};
use super::writer::Writer;

/// What stands in front of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which request.
    pub key: ApiKey,
    /// In which version.
    pub version: i16,
    /// The client's number for it.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<String>,
}

/// A frame that is no request that can be answered.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RequestError {
    /// No such request.
    #[error("unknown api key {0}")]
    UnknownKey(i16),
    /// A version that is not spoken.
    #[error("{key} version {version} is not supported")]
    UnsupportedVersion {
        /// Which request.
        key: ApiKey,
        /// The version asked for.
        version: i16,
        /// The client's number for it.
        correlation_id: i32,
    },
    /// Not even a header.
    #[error("the header is malformed: {0}")]
    Header(WireError),
    /// A body that is not what its key and version say.
    #[error("{key} version {version} is malformed: {cause}")]
    Body {
        /// Which request.
        key: ApiKey,
        /// In which version.
        version: i16,
        /// The client's number for it.
        correlation_id: i32,
        /// What is wrong.
        cause: WireError,
    },
}

/// What a frame holds.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly every frame is the large one")]
pub enum Incoming {
    /// A request.
    Request(RequestHeader, Request),
    /// ApiVersions in a version that is not spoken.
    ApiVersionsUnsupported {
        /// The client's number for it.
        correlation_id: i32,
    },
}

const CLASSIC: Format = Format { version: 0, flexible: false };

/// Takes a header and leaves `reader` at the body. `None` stands for ApiVersions in a version that is not spoken, with its
/// correlation id.
fn read_header(reader: &mut Reader) -> Result<Result<RequestHeader, i32>, RequestError> {
    let malformed = RequestError::Header;
    let number = i16::read(reader, CLASSIC).map_err(malformed)?;
    let version = i16::read(reader, CLASSIC).map_err(malformed)?;
    let correlation_id = i32::read(reader, CLASSIC).map_err(malformed)?;
    let key = ApiKey::from_number(number).ok_or(RequestError::UnknownKey(number))?;
    if !key.versions().contains(&version) {
        return if key == ApiKey::ApiVersions {
            Ok(Err(correlation_id))
        } else {
            Err(RequestError::UnsupportedVersion { key, version, correlation_id })
        };
    }
    let client_id = Option::<String>::read(reader, CLASSIC).map_err(malformed)?;
    if key.request_header_version(version) >= 2 {
        reader.tags(|_, _| Ok(false)).map_err(malformed)?;
    }
    Ok(Ok(RequestHeader { key, version, correlation_id, client_id }))
}

/// Takes a request from a frame, which comes without its length.
///
/// # Errors
/// [`RequestError`].
pub fn decode_request(frame: Bytes) -> Result<Incoming, RequestError> {
    let mut reader = Reader::new(frame);
    let header = match read_header(&mut reader)? {
        Ok(header) => header,
        Err(correlation_id) => return Ok(Incoming::ApiVersionsUnsupported { correlation_id }),
    };
    let RequestHeader { key, version, correlation_id, .. } = header;
    match Request::decode(key, version, &mut reader) {
        Ok(request) => Ok(Incoming::Request(header, request)),
        Err(cause) => Err(RequestError::Body { key, version, correlation_id, cause }),
    }
}

/// A request with its header and length, in one piece.
#[must_use]
pub fn encode_request(version: i16, correlation_id: i32, client_id: Option<&str>, request: &Request) -> Bytes {
    let key = request.key();
    let mut writer = Writer::new();
    writer.put(&[0; 4]);
    key.number().write(&mut writer, CLASSIC);
    version.write(&mut writer, CLASSIC);
    correlation_id.write(&mut writer, CLASSIC);
    writer.string(client_id, false);
    if key.request_header_version(version) >= 2 {
        writer.uvarint(0);
    }
    request.encode(&mut writer, version);
    writer.close_frame();
    writer.into_bytes()
}

/// A response with its header and length, in pieces to be written one after the other: large records are not copied.
#[must_use]
pub fn encode_response(version: i16, correlation_id: i32, response: &Response) -> Vec<Blob> {
    let mut writer = Writer::segmented();
    writer.put(&[0; 4]);
    correlation_id.write(&mut writer, CLASSIC);
    if response.key().response_header_version(version) >= 1 {
        writer.uvarint(0);
    }
    response.encode(&mut writer, version);
    writer.close_frame();
    writer.into_segments()
}

/// Takes a response to a request of `key` and `version` from a frame, which comes without its length.
///
/// # Errors
/// [`WireError`].
pub fn decode_response(key: ApiKey, version: i16, frame: Bytes) -> Result<(i32, Response), WireError> {
    let mut reader = Reader::new(frame);
    let correlation_id = i32::read(&mut reader, CLASSIC)?;
    if key.response_header_version(version) >= 1 {
        reader.tags(|_, _| Ok(false))?;
    }
    Ok((correlation_id, Response::decode(key, version, &mut reader)?))
}

/// The answer to ApiVersions in a version that is not spoken, to be encoded in version 0.
#[must_use]
pub fn unsupported_api_versions() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION.0,
        api_keys: vec![ApiKey::ApiVersions.api_version()],
        ..Default::default()
    }
}
