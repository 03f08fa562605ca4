//! The head of a request: request line and header fields (RFC 9112 §2 to §5).
//!
//! - upon empty lines before the request line: passed over (§2.2).
//! - upon a line without CRLF, whitespace before a colon, a folded line, an empty name: refused (§2.2, §5.1, §5.2).
//! - upon HTTP/1.1 without `Host`, or more than one `Host`, or one that is no host: refused (§3.2).
//! - upon `Connection`: HTTP/1.1 lasts unless it says `close`, HTTP/1.0 ends unless it says `keep-alive` (§9.3).
//! - upon `Expect`: `100-continue` is noted, if there is a body and the client can read the answer; anything else is
//!   refused (RFC 9110 §10.1.1).
//!
//! Lines are found as the bytes come, each byte once, and read by `httparse` when all are there.

use bytes::Bytes;

use crate::body::Framing;
use crate::line::{LineError, take_line};
use crate::target::Target;
use crate::{Headers, Limits, Refusal, Request, RequestNumber, Version, host};

/// A head that was read. The request lacks its number and its body.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) request: Request,
    pub(crate) framing: Framing,
    /// The client waits for `100 Continue`.
    pub(crate) expects: bool,
}

/// A head that is being read.
#[derive(Debug, Default)]
pub(crate) struct HeadReader {
    bytes: Vec<u8>,
    line_begin: usize,
    line_count: usize,
}

impl HeadReader {
    /// True if nothing of it has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn bytes_held(&self) -> usize {
        self.bytes.len()
    }

    /// Takes what belongs to the head from `input`; the head, once it is whole.
    pub(crate) fn take(&mut self, input: &mut Bytes, limits: &Limits) -> Result<Option<Head>, Refusal> {
        while !input.is_empty() {
            let used = self.bytes.len();
            match take_line(&mut self.bytes, input, used, limits.head_bytes_max) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(LineError::BareLf) => return Err(Refusal::InvalidMessage("a line ends in LF without CR")),
                Err(LineError::TooLong) if self.line_count == 0 => {
                    return Err(Refusal::TargetTooLong(limits.head_bytes_max));
                }
                Err(LineError::TooLong) => return Err(too_large(limits)),
            }
            if self.bytes.len() - self.line_begin > 2 {
                self.line_begin = self.bytes.len();
                self.line_count += 1;
                if self.line_count > limits.headers_max + 1 {
                    return Err(too_large(limits));
                }
            } else if self.line_count == 0 {
                self.bytes.clear();
            } else {
                let whole = std::mem::take(self);
                return parse(Bytes::from(whole.bytes), whole.line_count - 1, limits).map(Some);
            }
        }
        Ok(None)
    }
}

fn too_large(limits: &Limits) -> Refusal {
    Refusal::HeadTooLarge { bytes: limits.head_bytes_max, fields: limits.headers_max }
}

fn parse(bytes: Bytes, field_count: usize, limits: &Limits) -> Result<Head, Refusal> {
    let mut fields = vec![httparse::EMPTY_HEADER; field_count];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(&bytes) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(Refusal::InvalidMessage("the head ends where it should not")),
        Err(error) => return Err(malformed(error, &bytes)),
    }
    let method = parsed.method.expect("a whole head has a method");
    let target = Target::parse(method, parsed.path.expect("a whole head has a target"))?;
    let version = if parsed.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let mut headers = Headers::default();
    for field in parsed.headers.iter() {
        headers.push(bytes.slice_ref(field.name.as_bytes()), bytes.slice_ref(field.value));
    }
    let authority = authority(version, &headers)?;
    let framing = Framing::of(version, &headers, limits)?;
    let expects = expects(version, &headers)? && framing != Framing::None;
    let keep_alive = match version {
        _ if headers.lists("Connection", "close") => false,
        Version::Http11 => true,
        Version::Http10 => headers.lists("Connection", "keep-alive"),
    };
    let request = Request {
        number: RequestNumber(0),
        method: method.into(),
        authority: target.authority.unwrap_or(authority),
        path: target.path,
        query: target.query,
        version,
        headers,
        body: Bytes::new(),
        keep_alive,
    };
    Ok(Head { request, framing, expects })
}

fn malformed(error: httparse::Error, bytes: &[u8]) -> Refusal {
    match error {
        httparse::Error::Version if names_another_version(bytes) => Refusal::HttpVersion,
        httparse::Error::Version => Refusal::InvalidMessage("the version is none of HTTP's"),
        httparse::Error::HeaderName => Refusal::InvalidMessage("the name of a header field is none"),
        httparse::Error::HeaderValue => Refusal::InvalidMessage("the value of a header field has a byte that none has"),
        httparse::Error::NewLine => Refusal::InvalidMessage("a CR stands alone"),
        _ => Refusal::InvalidMessage("the request line is none"),
    }
}

/// True if the request line ends in `HTTP/` digit `.` digit.
fn names_another_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    matches!(version.strip_prefix(b"HTTP/"), Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit())
}

fn authority(version: Version, headers: &Headers) -> Result<String, Refusal> {
    let mut hosts = headers.all("Host");
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Refusal::InvalidMessage("there is more than one Host"));
    }
    let Some(host) = first else {
        return match version {
            Version::Http10 => Ok(String::new()),
            Version::Http11 => Err(Refusal::InvalidMessage("there is no Host")),
        };
    };
    match str::from_utf8(host) {
        Ok(host) if host::split_authority(host).is_some() => Ok(host.into()),
        // Clients write it without the brackets that it should have; it is no name, so that nothing is gained by that.
        Ok(host) if host.parse::<std::net::Ipv6Addr>().is_ok() => Ok(format!("[{host}]")),
        _ => Err(Refusal::InvalidMessage("the Host is none")),
    }
}

fn expects(version: Version, headers: &Headers) -> Result<bool, Refusal> {
    if version == Version::Http10 {
        return Ok(false);
    }
    if headers.list("Expect").any(|expectation| !expectation.eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refusal::ExpectationFailed);
    }
    Ok(headers.lists("Expect", "100-continue"))
}
