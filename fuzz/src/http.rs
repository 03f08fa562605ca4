//! What clients of HTTP and WebSocket send, to one connection.
//!
//! ```text
//! first = 0 deeds | 1 a stream: whole, in two pieces and in single bytes it must give the same
//! deed  = 0 blob, the client's | 1 the first request is answered | 2 the last one | 3 status:u8, closing
//!       | 4 the WebSocket is accepted | 5 text | 6 ping | 7 the closing handshake begins
//! ```

use bytes::Bytes;
use verity_http::{Event, Frame, Limits, Refusal, RequestNumber, Response, Server, close_code, parse_query};

use crate::{Lines, Script};

/// Deeds of one script.
const DEEDS_MAX: usize = 200;
const HANDSHAKE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Small, so that made-up bytes reach them.
fn limits() -> Limits {
    Limits { head_bytes_max: 400, body_bytes_max: 100, headers_max: 8, message_bytes_max: 100, pipeline_max: 3 }
}

/// A connection.
///
/// # Panics
/// If something that must hold does not.
pub fn connection(data: &[u8]) {
    let mut script = Script(data);
    match script.byte() % 2 {
        0 => deeds(script),
        _ => stream(script.0),
    }
}

/// What the service owes.
#[derive(Default)]
struct Owed {
    requests: Vec<RequestNumber>,
    upgrade: Option<RequestNumber>,
}

fn deeds(mut script: Script<'_>) {
    let (mut server, mut owed) = (Server::new(limits()), Owed::default());
    for _ in 0..DEEDS_MAX {
        if script.is_empty() {
            break;
        }
        let kind = script.byte() % 8;
        match kind {
            0 => server.on_bytes(Bytes::copy_from_slice(script.blob())),
            1 if !owed.requests.is_empty() => {
                let number = owed.requests.remove(0);
                server.respond(number, Response::new(200).body("a/b", "first"));
            }
            2 if let Some(number) = owed.requests.pop() => {
                server.respond(number, Response::new(404));
            }
            3 if let Some(number) = owed.requests.pop() => {
                let response = Response::new(200 + u16::from(script.byte()));
                server.respond(number, response.closing());
            }
            4 if let Some(number) = owed.upgrade.take() => {
                owed.requests.retain(|owed| *owed != number);
                server.accept_websocket(number, None);
            }
            5..=7 if server.is_websocket() => {
                let frames = [Frame::text("text"), Frame::ping(b"ping"), Frame::close(close_code::NORMAL, "")];
                server.send(&frames[usize::from(kind - 5)]);
            }
            _ => {}
        }
        server.invariants();
        while let Some(event) = server.poll() {
            note(&event, &mut owed);
        }
        // The number may be answered as a request, too.
        owed.upgrade = owed.upgrade.filter(|number| owed.requests.contains(number));
    }
}

fn note(event: &Event, owed: &mut Owed) {
    match event {
        Event::Request(request) => {
            owed.requests.push(request.number);
            let _ = request.query.as_deref().map(parse_query);
            let _ = request.is_rebind_safe();
        }
        Event::Upgrade(upgrade) => {
            owed.requests.push(upgrade.request.number);
            owed.upgrade = Some(upgrade.request.number);
        }
        Event::Refuse(Refusal::Frame { code: close_code::MESSAGE_TOO_BIG, .. }) => {
            crate::canary("a message that is too large")
        }
        _ => {}
    }
}

fn stream(bytes: &[u8]) {
    let whole = talk([bytes]);
    let (front, back) = bytes.split_at(bytes.len() / 2);
    assert_eq!(talk([front, back]), whole, "in two pieces");
    assert_eq!(talk(bytes.chunks(1)), whole, "in single bytes");
}

/// Answers everything as it comes. What was written, and what was told besides, but for `100 Continue` and pauses, which
/// depend on how much came at once.
fn talk<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<Event>) {
    let (mut server, mut written, mut told) = (Server::new(limits()), Vec::new(), Vec::new());
    for piece in pieces {
        server.on_bytes(Bytes::copy_from_slice(piece));
        while let Some(event) = server.poll() {
            match &event {
                Event::Write(bytes) if bytes.starts_with(b"HTTP/1.1 100") => continue,
                Event::Write(bytes) => {
                    written.extend_from_slice(bytes);
                    continue;
                }
                Event::Pause | Event::Resume => continue,
                Event::Request(request) => server.respond(request.number, Response::new(200)),
                Event::Upgrade(upgrade) => server.accept_websocket(upgrade.request.number, None),
                _ => {}
            }
            server.invariants();
            note(&event, &mut Owed::default());
            told.push(event);
        }
    }
    (written, told)
}

/// Where the corpus begins.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    // A mask of zeros leaves what it masks.
    let frame = |first: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).expect("seeds are small");
        [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
    };
    let streams: [Vec<u8>; 6] = [
        b"GET /a?b=%20&c HTTP/1.1\r\nHost: localhost:80\r\n\r\nGET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
            .to_vec(),
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabcHEAD / HTTP/1.1\r\n\
            Host: a\r\nConnection: close\r\n\r\n"
            .to_vec(),
        b"POST http://a/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nA: b\r\n\r\n"
            .to_vec(),
        b"OPTIONS * HTTP/1.1\r\nHost: [::1]\r\nOrigin: http://localhost\r\n\r\nGET / HTTP/2.0\r\n\r\n".to_vec(),
        [HANDSHAKE.to_vec(), frame(0x81, b"text"), frame(0x89, b"ping"), frame(0x88, b"\x03\xe8bye")].concat(),
        [HANDSHAKE.to_vec(), frame(0x02, b"\0\xff"), frame(0x8a, b""), frame(0x80, b"\x01"), frame(0x88, b"")].concat(),
    ];
    let deeds = [
        Lines::new(0).raw(&[0]).blob(&streams[0]).raw(&[2, 1]).0,
        Lines::new(0).raw(&[0]).blob(&streams[1][..60]).raw(&[0]).blob(&streams[1][60..]).raw(&[1, 3, 9]).0,
        Lines::new(0).raw(&[0]).blob(&streams[4]).raw(&[4, 5, 6, 7]).0,
        Lines::new(0).raw(&[0]).blob(HANDSHAKE).raw(&[4, 5, 7, 0]).blob(&frame(0x88, b"")).0,
    ];
    streams.iter().map(|stream| Lines::new(1).raw(stream).0).chain(deeds).collect()
}
