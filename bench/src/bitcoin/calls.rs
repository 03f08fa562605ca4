//! Calls to a node, one after the other.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A full block takes a while, and so do a thousand.
const ANSWER_WAIT: Duration = Duration::from_secs(300);

/// A connection on which one call waits for the one before it.
pub(super) struct Client {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
    /// All but the length.
    head: String,
}

impl Client {
    pub(super) fn connect(address: &str, password: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("{address} does not answer"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        let key = STANDARD.encode(password);
        let head = format!("POST / HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {key}\r\nContent-Length: ");
        Ok(Self { writer: stream.try_clone()?, reader: BufReader::new(stream), head })
    }

    /// The answer to a body.
    fn call(&mut self, body: &str) -> Result<String> {
        self.writer.write_all(format!("{}{}\r\n\r\n{body}", self.head, body.len()).as_bytes())?;
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            ensure!(self.reader.read_line(&mut line)? > 0, "the node has closed the connection");
            let lower = line.to_ascii_lowercase();
            if lower.starts_with("http/") {
                ensure!(lower.contains(" 200"), "the node says {line}");
            }
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut answer = vec![0; length];
        self.reader.read_exact(&mut answer)?;
        Ok(String::from_utf8(answer)?)
    }

    /// What a call by JSON-RPC 2.0 comes to, as it stands in the answer.
    pub(super) fn result(&mut self, body: &str) -> Result<String> {
        let answer = self.call(body)?;
        let Some((_, rest)) = answer.split_once("\"result\":") else { bail!("the node says {}", answer.trim()) };
        let end = rest.rfind(",\"id\"").with_context(|| format!("the node says {}", answer.trim()))?;
        Ok(rest[..end].to_owned())
    }
}

/// Asks for the height, for so many seconds.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(super) fn calls(address: &str, password: &str, seconds: f64) -> Result<String> {
    let mut client = Client::connect(address, password)?;
    let (begin, mut count) = (Instant::now(), 0u64);
    while begin.elapsed().as_secs_f64() < seconds {
        client.call("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"getblockcount\"}")?;
        count += 1;
    }
    Ok(format!("calls={:.0}", count as f64 / begin.elapsed().as_secs_f64()))
}
