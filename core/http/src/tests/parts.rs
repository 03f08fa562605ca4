//! The small parts, and what bounds a connection.

use bytes::{Bytes, BytesMut};

use super::{HANDSHAKE, after, polled};
use crate::{
    Event, HELD_BYTES_MAX, Limits, PAIRS_MAX, QueryError, Refusal, Request, RequestNumber, Response, Server, http_date,
    is_loopback_host, is_rebind_safe, is_token, origin_host, parse_query, percent_decode, split_authority,
};

fn only_request(bytes: &[u8]) -> Request {
    match &after(Limits::default(), bytes).1[..] {
        [Event::Request(request)] => request.clone(),
        other => panic!("not one request: {other:?}"),
    }
}

#[test]
fn hosts_of_this_machine() {
    for host in
        ["localhost", "LocalHost:7070", "127.0.0.1:7070", "127.8.8.8", "[::1]:7070", "[::1]", "[::ffff:127.0.0.1]"]
    {
        assert!(is_loopback_host(host) && is_rebind_safe(host), "{host}");
    }
    for host in ["192.168.1.7:80", "[2001:db8::1]", "0.0.0.0"] {
        assert!(!is_loopback_host(host) && is_rebind_safe(host), "{host}");
    }
    let foreign =
        ["evil.example", "evil.example:7070", "localhost.evil.example", "", "127.0.0.1.evil.example:80", "localhost."];
    let none =
        ["user@localhost", "[localhost]", "[127.0.0.1]", "::1", "localhost:http", "localhost:99999", "127.1", "[::1]x"];
    for host in foreign.iter().chain(&none) {
        assert!(!is_loopback_host(host) && !is_rebind_safe(host), "{host}");
    }
}

#[test]
fn authorities_are_taken_apart() {
    assert_eq!(split_authority("a.example:80"), Some(("a.example", Some(80))));
    assert_eq!(split_authority("a.example:"), Some(("a.example", None)));
    assert_eq!(split_authority("[::1]:8080"), Some(("[::1]", Some(8080))));
    assert_eq!(split_authority(""), Some(("", None)));
    for none in ["a b", "a/b", "a@b", "[::1", "[]", "a:b:1", "a:+1", "ü"] {
        assert_eq!(split_authority(none), None, "{none}");
    }
}

#[test]
fn origins_have_hosts() {
    assert_eq!(origin_host("http://localhost:3000"), Some("localhost:3000"));
    for none in ["null", "", "localhost", "://localhost", "http://localhost/", "http://a b"] {
        assert_eq!(origin_host(none), None, "{none}");
    }
}

#[test]
fn pages_of_others_are_seen() {
    let safe = |head: &str| only_request(format!("{head}\r\n\r\n").as_bytes()).is_rebind_safe();
    assert!(safe("GET / HTTP/1.1\r\nHost: localhost:1"));
    assert!(safe("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://localhost:3000"));
    assert!(safe("GET / HTTP/1.1\r\nHost: ::1"), "as clients write it that mean [::1]");
    assert!(!safe("GET / HTTP/1.1\r\nHost: evil.example"), "a name that was rebound");
    assert!(!safe("GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example"));
    assert!(!safe("GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: null"));
    assert!(!safe("GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nOrigin: http://evil.example"));
    assert!(!safe("GET / HTTP/1.0"), "it says no host");
    assert!(!safe("GET http://evil.example/ HTTP/1.1\r\nHost: localhost"), "the target's host counts");
}

#[test]
fn queries_are_pairs_in_order() {
    let pairs = parse_query("b=2&a=%22x%20y%22&&flag&b=&c=1%2B1+2&%C3%BC==").expect("it is one");
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(pairs, [("b", "2"), ("a", "\"x y\""), ("flag", ""), ("b", ""), ("c", "1+1 2"), ("ü", "=")]);
    for escape in ["a=%", "a=%2", "%zz=1", "a=%+1", "a=%-1"] {
        assert_eq!(parse_query(escape), Err(QueryError::Escape), "{escape}");
    }
    assert_eq!(parse_query("a=%ff"), Err(QueryError::NotUtf8));
    assert_eq!(parse_query(&"a&".repeat(PAIRS_MAX)).expect("so many are allowed").len(), PAIRS_MAX);
    assert_eq!(parse_query(&"a&".repeat(PAIRS_MAX + 1)), Err(QueryError::TooManyPairs));
    assert_eq!(percent_decode("a+%ff%00").expect("it is encoded well"), b"a+\xff\0");
}

#[test]
fn dates_are_those_of_the_calendar() {
    assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT", "RFC 9110 §5.6.7");
    assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    assert_eq!(http_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
    assert_eq!(http_date(4_107_542_399), "Sun, 28 Feb 2100 23:59:59 GMT");
    assert_eq!(http_date(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
    assert_eq!(http_date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
}

fn answered(response: Response) -> String {
    let (mut server, _) = after(Limits::default(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    server.respond(RequestNumber(0), response);
    let events = polled(&mut server);
    let written = events.iter().map(|event| match event {
        Event::Write(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("{other:?}"),
    });
    written.collect()
}

#[test]
fn values_of_clients_make_no_fields() {
    let written = answered(Response::new(200).header("X-Echo", "a\r\nSet-Cookie: b\0").dated(0));
    let date = "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
    assert_eq!(written, format!("HTTP/1.1 200 OK\r\nX-Echo: a  Set-Cookie: b \r\n{date}Content-Length: 0\r\n\r\n"));
    assert!(is_token("X-Riak-Meta-a") && !is_token("a b") && !is_token("") && !is_token("a:") && !is_token("ü"));
}

#[test]
#[should_panic(expected = "is written with the response")]
fn framing_is_not_the_services() {
    let _ = Response::new(200).header("content-length", "7");
}

#[test]
#[should_panic(expected = "waits for no answer")]
fn nothing_is_answered_twice() {
    let (mut server, _) = after(Limits::default(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    server.respond(RequestNumber(0), Response::new(200));
    server.respond(RequestNumber(0), Response::new(200));
}

#[test]
fn large_bodies_are_not_copied() {
    let (mut server, _) = after(Limits::default(), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let body = Bytes::from(vec![7; 1 << 20]);
    server.respond(RequestNumber(0), Response::new(200).body("a/b", body.clone()));
    let events = polled(&mut server);
    let [Event::Write(_), Event::Write(written)] = &events[..] else { panic!("head and body: {events:?}") };
    assert_eq!(written.as_ptr(), body.as_ptr());

    let mut sent = BytesMut::from("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    let head_length = sent.len();
    sent.resize(head_length + 1_000_000, 7);
    let sent = sent.freeze();
    server.on_bytes(sent.clone());
    let events = polled(&mut server);
    let [Event::Request(request)] = &events[..] else { panic!("a request: {events:?}") };
    assert_eq!(request.body.as_ptr(), sent[head_length..].as_ptr());
}

#[test]
fn headers_are_found_in_any_case() {
    let request = only_request(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1 , ,b\r\nx-a: \xff\r\nAccept:\t x \r\n\r\n");
    let headers = &request.headers;
    assert_eq!(headers.text("accept"), Some("x"));
    assert_eq!(headers.all("X-a").collect::<Vec<_>>(), [&b"1 , ,b"[..], b"\xff"]);
    assert_eq!(headers.list("x-A").collect::<Vec<_>>(), [&b"1"[..], b"b", b"\xff"]);
    assert!(headers.lists("X-A", "B") && !headers.lists("X-A", "c"));
    assert_eq!((headers.len(), headers.is_empty(), headers.get("b")), (4, false, None));
    assert_eq!(headers.iter().next(), Some(("Host", &b"a"[..])));
}

/// Each byte is looked at a bounded number of times: this takes seconds if it is not so.
#[test]
fn single_bytes_take_linear_time() {
    let limits =
        Limits { head_bytes_max: 2 << 20, body_bytes_max: 4 << 20, message_bytes_max: 2 << 20, ..Limits::default() };
    let mut server = Server::new(limits);
    let mut sent = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nLong: ".to_vec();
    sent.resize(1 << 20, b'a');
    sent.extend_from_slice(b"\r\n\r\n");
    (0..100_000).for_each(|_| sent.extend_from_slice(b"1;a=b\r\nx\r\n"));
    sent.extend_from_slice(b"0\r\n\r\n");
    sent.extend_from_slice(HANDSHAKE);
    for byte in &sent {
        server.on_bytes(Bytes::copy_from_slice(&[*byte]));
    }
    server.respond(RequestNumber(0), Response::new(200));
    server.accept_websocket(RequestNumber(1), None);
    for byte in super::masked(0x82, &vec![7; 1 << 20]) {
        server.on_bytes(Bytes::copy_from_slice(&[byte]));
    }
    let events = polled(&mut server);
    let sizes = events.iter().filter_map(|event| match event {
        Event::Request(request) => Some(request.body.len()),
        Event::Message(crate::Message::Binary(bytes)) => Some(bytes.len()),
        _ => None,
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [100_000, 1 << 20]);
}

/// A mebibyte of requests, one answer at a time: what waits is not copied with each.
#[test]
fn what_waits_is_not_copied_with_each_answer() {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let count = (1 << 20) / request.len();
    let (mut server, _) = after(Limits { pipeline_max: 1, ..Limits::default() }, &request.repeat(count));
    for number in 0..u64::try_from(count).expect("a count") {
        server.respond(RequestNumber(number), Response::new(204));
    }
    server.invariants();
    let events = polled(&mut server);
    assert!(server.is_idle());
    let writes = events.iter().filter(|event| matches!(event, Event::Write(_))).count();
    let resumed = events.iter().filter(|event| **event == Event::Resume).count();
    assert_eq!((writes, resumed), (count, 1));
}

#[test]
fn who_does_not_pause_is_refused() {
    let (mut server, events) =
        after(Limits { pipeline_max: 1, ..Limits::default() }, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nG");
    assert_eq!(events.last(), Some(&Event::Pause));
    let piece = Bytes::from(vec![b'a'; HELD_BYTES_MAX / 2]);
    for _ in 0..10 {
        server.on_bytes(piece.clone());
        server.invariants();
    }
    assert_eq!(polled(&mut server), [Event::Resume], "what comes is dropped");
    server.respond(RequestNumber(0), Response::new(200));
    let events = polled(&mut server);
    let [Event::Write(_), Event::Refuse(Refusal::Overloaded), Event::Write(refusal), Event::Close] = &events[..] else {
        panic!("an answer, a refusal, the end: {events:?}")
    };
    assert!(refusal.starts_with(b"HTTP/1.1 503 "));
}

#[test]
fn a_service_refuses_in_its_own_words() {
    let mut server = Server::new(Limits::default()).refusing_by(|refusal| match refusal {
        Refusal::BodyTooLarge(_) => Response::new(400).body("application/json", "{}"),
        other => other.response(),
    });
    server.on_bytes(Bytes::from_static(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n"));
    let events = polled(&mut server);
    let [Event::Refuse(_), Event::Write(refusal), Event::Close] = &events[..] else {
        panic!("a refusal, the end: {events:?}")
    };
    assert!(refusal.starts_with(b"HTTP/1.1 400 ") && refusal.ends_with(b"Connection: close\r\n\r\n{}"));
}

#[test]
fn who_does_not_wait_for_the_handshake_is_refused() {
    let (mut server, _) = after(Limits::default(), HANDSHAKE);
    server.on_bytes(Bytes::from(vec![0x81; HELD_BYTES_MAX + 1]));
    server.invariants();
    server.accept_websocket(RequestNumber(0), None);
    let events = polled(&mut server);
    let [Event::Write(refusal), Event::Close] = &events[..] else { panic!("a refusal, the end: {events:?}") };
    assert!(refusal.starts_with(b"HTTP/1.1 503 "));
    server.send(&crate::Frame::text("late"));
    assert_eq!(server.poll(), None, "nothing is sent to it");
}

#[test]
fn idle_is_between_requests() {
    let (mut server, _) = after(Limits::default(), b"");
    assert!(server.is_idle() && !server.is_websocket());
    server.on_bytes(Bytes::from_static(b"GET / HTTP/1.1\r\nHost: a\r\n"));
    assert!(!server.is_idle(), "a head is half read");
    server.on_bytes(Bytes::from_static(b"\r\n"));
    assert!(matches!(polled(&mut server)[..], [Event::Request(_)]));
    assert_eq!((server.is_idle(), server.unanswered()), (false, 1));
    server.respond(RequestNumber(0), Response::new(200));
    assert_eq!((server.is_idle(), server.unanswered()), (false, 0), "the response waits to be polled");
    assert!(matches!(polled(&mut server)[..], [Event::Write(_)]));
    assert!(server.is_idle());
}
