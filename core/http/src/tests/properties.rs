//! Any bytes never panic; any cutting of them gives the same; what is sent well is read as it was.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{HANDSHAKE, masked};
use crate::{Event, Limits, Message, RequestNumber, Response, Server, parse_query, percent_decode};

/// What is common in streams, so that made-up ones get somewhere.
const WORDS: [&[u8]; 24] = [
    b"GET ",
    b"POST ",
    b"/",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"Host: a\r\n",
    b"Content-Length: ",
    b"3",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"Transfer-Encoding: chunked\r\n",
    b"abc",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    HANDSHAKE,
    b"\x81\x81\0\0\0\0a",
    b"\x01\x80\0\0\0\0",
    b"\x88\x80\0\0\0\0",
];

fn small() -> Limits {
    Limits { head_bytes_max: 400, body_bytes_max: 20, headers_max: 8, message_bytes_max: 20, pipeline_max: 3 }
}

/// Feeds pieces; each request and each upgrade is answered as soon as it comes.
fn talk<'a>(limits: Limits, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let (mut server, mut seen) = (Server::new(limits), Vec::new());
    for piece in pieces {
        server.on_bytes(Bytes::copy_from_slice(piece));
        while let Some(event) = server.poll() {
            match &event {
                Event::Request(request) => server.respond(request.number, Response::new(200)),
                Event::Upgrade(upgrade) => server.accept_websocket(upgrade.request.number, None),
                _ => {}
            }
            server.invariants();
            seen.push(event);
        }
    }
    // When to pause, and whether a client still waits for `100 Continue`, depends on what came so far.
    seen.retain(|event| match event {
        Event::Pause | Event::Resume => false,
        Event::Write(bytes) => !bytes.starts_with(b"HTTP/1.1 100"),
        _ => true,
    });
    seen
}

/// Cuts at these places.
fn cut<'a>(bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = places.iter().map(|place| place % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// What is told apart from the writes: those may come before or after, as the service is quick or slow.
fn sorted(events: Vec<Event>) -> (Vec<Event>, Vec<u8>) {
    let (writes, rest): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| matches!(event, Event::Write(_)));
    let written = writes.iter().flat_map(|event| match event {
        Event::Write(bytes) => bytes.to_vec(),
        _ => Vec::new(),
    });
    (rest, written.collect())
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        9 => (0..WORDS.len()).prop_map(|at| WORDS[at].to_vec()),
        1 => vec(any::<u8>(), 0..6),
    ];
    vec(word, 0..24).prop_map(|words| words.concat())
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![4 => proptest::sample::select(&[0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a][..]), 1 => any::<u8>()];
    let frame =
        (first, vec(prop_oneof![Just(b'a'), any::<u8>()], 0..12)).prop_map(|(first, payload)| masked(first, &payload));
    vec(frame, 0..12).prop_map(|frames| [HANDSHAKE.to_vec(), frames.concat()].concat())
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in vec(any::<u8>(), 0..300), places in vec(any::<usize>(), 0..8)) {
        talk(small(), cut(&bytes, &places));
        talk(small(), cut(&[HANDSHAKE, &bytes].concat(), &places));
        let text = String::from_utf8_lossy(&bytes);
        let _ = (parse_query(&text), percent_decode(&text));
    }

    #[test]
    fn cutting_changes_nothing(bytes in prop_oneof![stream(), frames()], places in vec(any::<usize>(), 0..12)) {
        let whole = sorted(talk(small(), [&bytes[..]]));
        prop_assert_eq!(&sorted(talk(small(), cut(&bytes, &places))), &whole);
        prop_assert_eq!(&sorted(talk(small(), bytes.chunks(1))), &whole);
    }

    #[test]
    fn requests_are_read_as_they_were_sent(
        bodies in vec((vec(any::<u8>(), 0..50), vec(1_usize..20, 0..4), any::<bool>()), 1..6),
        places in vec(any::<usize>(), 0..12),
    ) {
        let mut sent = Vec::new();
        for (body, chunks, chunked) in &bodies {
            let head = "POST /a?b=c HTTP/1.1\r\nHost: a\r\n";
            if *chunked {
                sent.extend(format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes());
                let mut rest = &body[..];
                for size in chunks.iter().copied().chain([usize::MAX]) {
                    let (chunk, behind) = rest.split_at(size.min(rest.len()));
                    if !chunk.is_empty() {
                        sent.extend(format!("{:X}\r\n", chunk.len()).into_bytes());
                        sent.extend([chunk, b"\r\n"].concat());
                    }
                    rest = behind;
                }
                sent.extend(b"0\r\n\r\n");
            } else {
                sent.extend(format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes());
                sent.extend(body);
            }
        }
        let seen = talk(Limits::default(), cut(&sent, &places));
        let read = seen.iter().filter_map(|event| match event {
            Event::Request(request) => Some(&request.body[..]),
            _ => None,
        });
        prop_assert_eq!(read.collect::<Vec<_>>(), bodies.iter().map(|(body, ..)| &body[..]).collect::<Vec<_>>());
    }

    #[test]
    fn messages_are_read_as_they_were_sent(
        messages in vec((".{0,40}", vec(any::<usize>(), 0..3)), 0..6),
        places in vec(any::<usize>(), 0..12),
    ) {
        let mut sent = HANDSHAKE.to_vec();
        for (text, fragments) in &messages {
            let pieces = cut(text.as_bytes(), fragments);
            for (at, piece) in pieces.iter().enumerate() {
                let fin = if at + 1 == pieces.len() { 0x80 } else { 0 };
                sent.extend(masked(fin | u8::from(at == 0), piece));
                sent.extend(masked(0x8a, b"between"));
            }
        }
        let seen = talk(Limits::default(), cut(&sent, &places));
        let read = seen.iter().filter_map(|event| match event {
            Event::Message(Message::Text(text)) => Some(text),
            _ => None,
        });
        prop_assert_eq!(read.collect::<Vec<_>>(), messages.iter().map(|(text, _)| text).collect::<Vec<_>>());
    }

    #[test]
    fn responses_leave_in_order(order in Just((0..16_u64).collect::<Vec<_>>()).prop_shuffle()) {
        let sent = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(order.len());
        let (mut server, _) = super::after(Limits::default(), &sent);
        for number in order {
            let response = Response::new(200).body("a/b", number.to_string());
            server.respond(RequestNumber(number), response);
            server.invariants();
        }
        let events = super::polled(&mut server);
        let bodies = events.iter().map(|event| match event {
            Event::Write(bytes) => String::from_utf8_lossy(bytes).rsplit("\r\n\r\n").next().map(str::to_owned),
            _ => None,
        });
        prop_assert_eq!(bodies.collect::<Vec<_>>(), (0..16).map(|number| Some(number.to_string())).collect::<Vec<_>>());
    }
}
