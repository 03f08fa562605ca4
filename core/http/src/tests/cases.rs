//! Datadriven cases: `testdata/*.txt`.
//!
//! A case is lines of deeds, `----`, and what followed from them; an empty line ends it. Each file begins with a new
//! connection. Every file is run twice, the second time with each byte on its own: what follows must be the same.
//!
//! ```text
//! new [head=N] [body=N] [headers=N] [message=N] [pipeline=N]     another connection
//! > text       a line of the client's, with CRLF behind it       >> text       the same without CRLF
//! frame FIRST text     a masked frame; FIRST is its first byte in hexadecimal
//! respond N STATUS [text]      accept N [protocol]      send text|ping|close=CODE [text]
//! ```
//! Escapes are those of Rust: `\r`, `\n`, `\xff`. `VERITY_REWRITE=1 cargo test` writes down what follows.

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;

use super::{masked, polled};
use crate::{Event, Frame, Limits, Message, Request, RequestNumber, Response, Server};

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'r') => bytes.push(b'\r'),
            Some(b'n') => bytes.push(b'\n'),
            Some(b't') => bytes.push(b'\t'),
            Some(b'x') => {
                let digits = [rest.next().expect("a digit"), rest.next().expect("a digit")];
                let digits = str::from_utf8(&digits).expect("digits are ASCII");
                bytes.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
            }
            other => panic!("no such escape: {other:?}"),
        }
    }
    bytes
}

struct Case {
    server: Server,
    events: Vec<Event>,
    each: bool,
}

impl Case {
    fn new(arguments: &str, each: bool) -> Self {
        let mut limits = Limits::default();
        for argument in arguments.split_whitespace() {
            let (name, value) = argument.split_once('=').expect("name=value");
            let value = value.parse().expect("a number");
            match name {
                "head" => limits.head_bytes_max = value,
                "body" => limits.body_bytes_max = value,
                "headers" => limits.headers_max = value,
                "message" => limits.message_bytes_max = value,
                "pipeline" => limits.pipeline_max = value,
                _ => panic!("no such limit: {name}"),
            }
        }
        Self { server: Server::new(limits), events: Vec::new(), each }
    }

    fn feed(&mut self, bytes: &mut Vec<u8>) {
        let length = if self.each { 1 } else { bytes.len().max(1) };
        for piece in std::mem::take(bytes).chunks(length) {
            self.server.on_bytes(Bytes::copy_from_slice(piece));
            self.server.invariants();
        }
        self.events.extend(polled(&mut self.server));
    }

    fn act(&mut self, deed: &str) {
        let mut words = deed.splitn(4, ' ');
        let mut word = || words.next();
        let name = word().expect("a deed has a name");
        let number = |word: Option<&str>| word.expect("a number").parse::<u64>().expect("a number");
        match name {
            "new" => *self = Self::new(deed.strip_prefix("new").expect("it is new"), self.each),
            "respond" => {
                let asked = RequestNumber(number(word()));
                let status = u16::try_from(number(word())).expect("a status is short");
                let mut response = Response::new(status);
                match word() {
                    Some("close") => response = response.closing(),
                    Some(text) => response = response.body("text/plain", text.to_owned()),
                    None => {}
                }
                self.server.respond(asked, response);
            }
            "accept" => self.server.accept_websocket(RequestNumber(number(word())), word()),
            "send" => {
                let kind = word().expect("a kind");
                let text = deed.splitn(3, ' ').nth(2).unwrap_or_default();
                let frame = match kind.strip_prefix("close=") {
                    Some(code) => Frame::close(code.parse().expect("a code"), text),
                    None if kind == "ping" => Frame::ping(text.as_bytes()),
                    None => Frame::text(text),
                };
                self.server.send(&frame);
            }
            _ => panic!("no such deed: {deed}"),
        }
        self.server.invariants();
        self.events.extend(polled(&mut self.server));
    }

    fn run(&mut self, deeds: &[&str]) -> String {
        let mut waiting = Vec::new();
        for deed in deeds.iter().filter(|deed| !deed.starts_with('#')) {
            if let Some(text) = deed.strip_prefix(">> ") {
                waiting.extend(unescape(text));
            } else if let Some(text) = deed.strip_prefix('>') {
                waiting.extend(unescape(text.strip_prefix(' ').unwrap_or(text)));
                waiting.extend(b"\r\n");
            } else if let Some(rest) = deed.strip_prefix("frame ") {
                let (first, text) = rest.split_once(' ').unwrap_or((rest, ""));
                waiting.extend(masked(u8::from_str_radix(first, 16).expect("a byte"), &unescape(text)));
            } else {
                self.feed(&mut waiting);
                self.act(deed);
            }
        }
        self.feed(&mut waiting);
        self.events.drain(..).map(|event| show(&event)).collect()
    }
}

fn show_request(what: &str, request: &Request) -> String {
    let Request { number, method, authority, path, query, version, body, keep_alive, .. } = request;
    let mut text = format!("{what} {number} {method} {path}");
    if let Some(query) = query {
        write!(text, " query {query}").expect("a string takes it");
    }
    write!(text, " of {authority:?} {version:?}").expect("a string takes it");
    if !body.is_empty() {
        write!(text, " body {}", body.escape_ascii()).expect("a string takes it");
    }
    text + if *keep_alive { "" } else { " last" }
}

fn show(event: &Event) -> String {
    let text = match event {
        Event::Write(bytes) => format!("write {}", bytes.escape_ascii()),
        Event::Close => "close".into(),
        Event::Pause => "pause".into(),
        Event::Resume => "resume".into(),
        Event::Request(request) => show_request("request", request),
        Event::Upgrade(upgrade) => {
            format!("{} protocols {:?}", show_request("upgrade", &upgrade.request), upgrade.protocols)
        }
        Event::Message(Message::Text(text)) => format!("text {text:?}"),
        Event::Message(message) => format!("{message:?}").to_lowercase(),
        Event::Refuse(refusal) => format!("refuse {refusal}"),
    };
    text + "\n"
}

fn run_file(text: &str, each: bool) -> String {
    let mut case = Case::new("", each);
    let mut out = Vec::new();
    for block in text.trim_end().split("\n\n") {
        let deeds: Vec<_> = block.lines().take_while(|line| *line != "----").collect();
        out.push(format!("{}\n----\n{}", deeds.join("\n"), case.run(&deeds)));
    }
    out.join("\n")
}

#[test]
fn cases_show_what_followed() {
    let folder =
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is")).join("testdata");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("there is testdata") {
        let path = entry.expect("testdata can be listed").path();
        let text = std::fs::read_to_string(&path).expect("testdata is text");
        let whole = run_file(&text, false);
        assert_eq!(run_file(&text, true), whole, "{}: cut into single bytes", path.display());
        if std::env::var_os("VERITY_REWRITE").is_some() {
            std::fs::write(&path, &whole).expect("testdata can be written");
        } else {
            assert_eq!(text, whole, "{}: VERITY_REWRITE=1 writes down what follows", path.display());
        }
        count += 1;
    }
    assert!(count >= 6, "the cases were found");
}
