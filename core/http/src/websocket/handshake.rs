//! The opening handshake (RFC 6455 §4.2).
//!
//! - upon GET of HTTP/1.1 with `Upgrade: websocket` and `Connection: Upgrade`: a client asks for WebSocket (§4.2.1). Without
//!   any of these it is a request like others.
//! - upon a version but 13: refused with 426, which says 13 (§4.4).
//! - upon a key that is not 16 bytes in base64, or more than one: refused with 400 (§4.2.1).
//! - upon acceptance: 101, with SHA-1 over the key and a constant (§4.2.2), and one of the client's subprotocols or none.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut, Bytes, BytesMut};
use sha1::{Digest as _, Sha1};

use crate::response::{is_token, put_field};
use crate::{Refusal, Request, Version};

/// RFC 6455 §1.3: no server that does not know WebSocket answers with it.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES: usize = 16;
/// Of a key's last digit only some bits count. Clients that set others are understood, as everywhere.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// What a valid handshake offers.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) key: String,
    pub(crate) protocols: Vec<String>,
}

/// True if a client asks for WebSocket.
pub(crate) fn asks_for_websocket(request: &Request) -> bool {
    let headers = &request.headers;
    request.method == "GET"
        && request.version == Version::Http11
        && headers.lists("Upgrade", "websocket")
        && headers.lists("Connection", "upgrade")
}

impl Offer {
    pub(crate) fn of(request: &Request) -> Result<Self, Refusal> {
        let mut versions = request.headers.list("Sec-WebSocket-Version");
        if versions.next() != Some(b"13") || versions.next().is_some() {
            return Err(Refusal::WebSocketVersion);
        }
        let mut keys = request.headers.all("Sec-WebSocket-Key");
        let (key, second) = (keys.next(), keys.next());
        let key = key.and_then(|key| str::from_utf8(key).ok()).filter(|_| second.is_none());
        let Some(key) = key.filter(|key| BASE64.decode(key).is_ok_and(|bytes| bytes.len() == KEY_BYTES)) else {
            return Err(Refusal::InvalidMessage("the Sec-WebSocket-Key is not 16 bytes in base64"));
        };
        let mut protocols = Vec::new();
        for protocol in request.headers.list("Sec-WebSocket-Protocol") {
            match str::from_utf8(protocol) {
                Ok(name) if is_token(name) => protocols.push(name.to_owned()),
                _ => return Err(Refusal::InvalidMessage("a Sec-WebSocket-Protocol is no token")),
            }
        }
        Ok(Self { key: key.to_owned(), protocols })
    }
}

/// What answers a `Sec-WebSocket-Key`.
#[must_use]
pub fn accept_key(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    BASE64.encode(digest)
}

/// The response that accepts.
pub(crate) fn encode_accept(key: &str, protocol: Option<&str>) -> Bytes {
    let mut head = BytesMut::with_capacity(192);
    head.put_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    put_field(&mut head, "Upgrade", b"websocket");
    put_field(&mut head, "Connection", b"Upgrade");
    put_field(&mut head, "Sec-WebSocket-Accept", accept_key(key).as_bytes());
    if let Some(protocol) = protocol {
        put_field(&mut head, "Sec-WebSocket-Protocol", protocol.as_bytes());
    }
    head.put_slice(b"\r\n");
    head.freeze()
}
