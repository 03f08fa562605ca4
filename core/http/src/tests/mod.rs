//! Datadriven cases, properties of any bytes and any cutting, and the small parts.

mod cases;
mod parts;
mod properties;
mod websocket;

use bytes::Bytes;

use crate::{Event, Limits, Server};

/// A server to which these bytes came at once, and what followed.
fn after(limits: Limits, bytes: &[u8]) -> (Server, Vec<Event>) {
    let mut server = Server::new(limits);
    server.on_bytes(Bytes::copy_from_slice(bytes));
    server.invariants();
    let events = polled(&mut server);
    (server, events)
}

/// What there is.
fn polled(server: &mut Server) -> Vec<Event> {
    std::iter::from_fn(|| server.poll()).collect()
}

/// A client's frame.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..=125) => frame.push(0x80 | u8::try_from(length).expect("at most 125")),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend(u64::try_from(payload.len()).expect("payloads are small").to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// The handshake of RFC 6455 §1.2.
const HANDSHAKE: &[u8] =
    b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";
