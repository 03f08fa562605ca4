//! Sockets and files for a ledger whose application runs in another process: what `verity_ledger::outside` asks by, and what
//! it keeps answers in.
//!
//! - upon an application that cannot be reached, or is gone: one line, however many connections it had and however often it
//!   is tried; another one when it is back.
//!
//! Answers are appended to one file of the node's folder:
//!
//! ```text
//! file   = magic:8 record*
//! record = size:4 height:8 kind:1 answer sum:8        integers big-endian; size is the answer's, sum the beginning of a SHA-256
//! ```
//! A record that a crash cut off, and what is behind it, was never told to the ledger.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use verity_contract::Outside;
use verity_ledger::outside::{Beside, Consensus, Kept, Pipe, Shelf};
use verity_ledger::wire::{Genesis, sha256, socket};
use verity_storage::{Disk, DiskFile};

const FILE: &str = "abci-answers";
const NEW_FILE: &str = "abci-answers.new";
const MAGIC: &[u8; 8] = b"VRTYABCI";
/// How long one read waits before it is looked whether the node still runs.
const LOOK: Duration = Duration::from_millis(100);
/// An application that takes no connection, or nothing of a request, for so long is gone: a node that stops waits for it.
const STUCK: Duration = Duration::from_secs(5);
/// Between two tries to connect.
const RETRY: Duration = Duration::from_millis(100);

/// Where an application is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(String),
    Unix(String),
}

impl Address {
    /// Reads `tcp://HOST:PORT` or `unix://PATH`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text.split_once("://") {
            Some(("tcp", place)) if place.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
                Ok(Self::Tcp(place.to_owned()))
            }
            Some(("unix", path)) if cfg!(unix) && !path.is_empty() => Ok(Self::Unix(path.to_owned())),
            _ => bail!("{text:?} names no application; say tcp://HOST:PORT or unix://PATH"),
        }
    }

    /// That of a node, counted from 0: each has its own, with ports that follow one another, or a number behind the path.
    pub(crate) fn of_node(&self, at: u64) -> Result<Self> {
        match self {
            Self::Tcp(place) => {
                let (host, port) = place.rsplit_once(':').context("an address has a port")?;
                let port = u64::from(port.parse::<u16>()?) + at;
                let port = u16::try_from(port).with_context(|| format!("node {} has no port at {place}", at + 1))?;
                Ok(Self::Tcp(format!("{host}:{port}")))
            }
            Self::Unix(path) if at == 0 => Ok(Self::Unix(path.clone())),
            Self::Unix(path) => Ok(Self::Unix(format!("{path}.{}", at + 1))),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(place) => write!(f, "tcp://{place}"),
            Self::Unix(path) => write!(f, "unix://{path}"),
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Stream {
    fn connect(address: &Address) -> std::io::Result<Self> {
        match address {
            Address::Tcp(place) => {
                let mut last = Err(ErrorKind::NotFound.into());
                for found in place.to_socket_addrs()? {
                    last = TcpStream::connect_timeout(&found, STUCK);
                    if last.is_ok() {
                        break;
                    }
                }
                let stream = last?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(LOOK))?;
                stream.set_write_timeout(Some(STUCK))?;
                Ok(Self::Tcp(stream))
            }
            #[cfg(unix)]
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(LOOK))?;
                stream.set_write_timeout(Some(STUCK))?;
                Ok(Self::Unix(stream))
            }
            #[cfg(not(unix))]
            Address::Unix(_) => Err(ErrorKind::Unsupported.into()),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.write_all(bytes),
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(bytes),
        }
    }
}

/// A connection, made anew when it breaks.
struct Socket {
    address: Address,
    stream: Option<Stream>,
    input: BytesMut,
    /// All connections of the node: the application is gone, and somebody has said so.
    gone: Arc<AtomicBool>,
}

impl Socket {
    fn new(address: &Address, gone: &Arc<AtomicBool>) -> Self {
        Self { address: address.clone(), stream: None, input: BytesMut::new(), gone: Arc::clone(gone) }
    }

    fn lost(&mut self, why: &std::io::Error) -> String {
        self.stream = None;
        self.input.clear();
        if !self.gone.swap(true, Ordering::Relaxed) {
            tracing::warn!(address = %self.address, %why, "the application is gone; the chain waits for it");
        }
        why.to_string()
    }

    /// The next message, whose length stands in front.
    fn message(&mut self, goes_on: &dyn Fn() -> bool) -> std::io::Result<Bytes> {
        loop {
            if let Some(message) = take_message(&mut self.input)? {
                return Ok(message);
            }
            let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
            let mut piece = [0; 64 << 10];
            match stream.read(&mut piece) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.input.extend_from_slice(&piece[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if !goes_on() {
                        return Err(ErrorKind::Interrupted.into());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn try_ask(&mut self, request: &[u8], goes_on: &dyn Fn() -> bool) -> std::io::Result<Bytes> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        stream.write_all(&[socket::framed(request), socket::framed(&socket::flush())].concat())?;
        let answer = self.message(goes_on)?;
        // That of Flush says nothing.
        self.message(goes_on)?;
        Ok(answer)
    }
}

/// Takes a whole message; `None` if more is to come.
fn take_message(input: &mut BytesMut) -> std::io::Result<Option<Bytes>> {
    let mut size = 0_usize;
    for (at, byte) in input.iter().take(5).enumerate() {
        size |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 != 0 {
            continue;
        }
        if size > socket::MESSAGE_SIZE_MAX {
            break;
        }
        if input.len() < at + 1 + size {
            return Ok(None);
        }
        input.advance(at + 1);
        return Ok(Some(input.split_to(size).freeze()));
    }
    if input.len() < 5 {
        return Ok(None);
    }
    Err(std::io::Error::new(ErrorKind::InvalidData, "an answer of more than 100 MiB"))
}

impl Pipe for Socket {
    fn connect(&mut self) -> Result<(), String> {
        self.input.clear();
        match Stream::connect(&self.address) {
            Ok(stream) => {
                self.stream = Some(stream);
                if self.gone.swap(false, Ordering::Relaxed) {
                    tracing::info!(address = %self.address, "the application is there");
                }
                Ok(())
            }
            Err(error) => Err(self.lost(&error)),
        }
    }

    fn ask(&mut self, request: &[u8], goes_on: &dyn Fn() -> bool) -> Result<Bytes, String> {
        self.try_ask(request, goes_on).map_err(|error| if goes_on() { self.lost(&error) } else { error.to_string() })
    }

    #[expect(clippy::disallowed_methods, reason = "a thread of its own, which waits for another process")]
    fn pause(&mut self) {
        std::thread::sleep(RETRY);
    }

    fn name(&self) -> String {
        self.address.to_string()
    }
}

/// The file of answers.
struct Answers {
    disk: Arc<dyn Disk>,
    file: Option<Box<dyn DiskFile>>,
    end: u64,
}

fn encode(kept: &Kept) -> BytesMut {
    let mut out = BytesMut::with_capacity(kept.answer.len() + 21);
    out.put_u32(u32::try_from(kept.answer.len()).expect("a message is bounded"));
    out.put_u64(kept.height);
    out.put_u8(kept.kind);
    out.put_slice(&kept.answer);
    let sum = sha256(&out);
    out.put_slice(&sum[..8]);
    out
}

/// Takes a record that is whole.
fn decode(bytes: &mut Bytes) -> Option<Kept> {
    let size = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    let whole = bytes.get(..13 + size + 8)?;
    if sha256(&whole[..13 + size])[..8] != whole[13 + size..] {
        return None;
    }
    let mut record = bytes.split_to(13 + size + 8);
    record.advance(4);
    let (height, kind) = (record.get_u64(), record.get_u8());
    Some(Kept { height, kind, answer: record.slice(..size) })
}

impl Answers {
    fn open(&mut self) -> Result<Vec<Kept>, verity_storage::Error> {
        if !self.disk.exists(FILE)? {
            self.write(&mut std::iter::empty())?;
        }
        let file = self.disk.open(FILE)?;
        let mut bytes = vec![0; usize::try_from(file.size()?).expect("it fits memory")];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(filled as u64, &mut bytes[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        let (mut rest, mut all) = (Bytes::from(bytes), Vec::new());
        let whole = rest.len();
        rest.advance(MAGIC.len().min(whole));
        while let Some(kept) = decode(&mut rest) {
            all.push(kept);
        }
        self.end = (whole - rest.len()) as u64;
        self.file = Some(file);
        Ok(all)
    }

    fn write(&mut self, all: &mut dyn Iterator<Item = Kept>) -> Result<(), verity_storage::Error> {
        let file = self.disk.create(NEW_FILE)?;
        file.write_at(0, MAGIC)?;
        let mut end = MAGIC.len() as u64;
        for kept in all {
            let record = encode(&kept);
            file.write_at(end, &record)?;
            end += record.len() as u64;
        }
        file.sync_data()?;
        self.disk.rename(NEW_FILE, FILE)?;
        self.disk.sync_dir("")?;
        (self.file, self.end) = (Some(self.disk.open(FILE)?), end);
        Ok(())
    }

    fn append(&mut self, kept: &Kept) -> Result<(), verity_storage::Error> {
        let record = encode(kept);
        let file = self.file.as_ref().expect("answers are loaded first");
        file.write_at(self.end, &record)?;
        file.sync_data()?;
        self.end += record.len() as u64;
        Ok(())
    }
}

fn told(error: &verity_storage::Error) -> String {
    format!("the application's answers cannot be kept: {error}")
}

impl Shelf for Answers {
    fn load(&mut self) -> Result<Vec<Kept>, String> {
        self.open().map_err(|error| told(&error))
    }

    fn keep(&mut self, kept: &Kept) -> Result<(), String> {
        self.append(kept).map_err(|error| told(&error))
    }

    fn replace(&mut self, all: &mut dyn Iterator<Item = Kept>) -> Result<(), String> {
        self.write(all).map_err(|error| told(&error))
    }
}

/// The connections of one node to its application, by channel: consensus, mempool, query, snapshot.
pub(crate) fn connections(address: &Address, genesis: &Arc<Genesis>, disk: &Arc<dyn Disk>) -> Vec<Box<dyn Outside>> {
    let gone = Arc::<AtomicBool>::default();
    let answers = Answers { disk: Arc::clone(disk), file: None, end: 0 };
    let beside = || Box::new(Beside::new(Socket::new(address, &gone))) as Box<dyn Outside>;
    let consensus = Consensus::new(Socket::new(address, &gone), answers, Arc::clone(genesis));
    vec![Box::new(consensus), beside(), beside(), beside()]
}

#[cfg(test)]
mod tests {
    use verity_storage::MemoryDisk;

    use super::*;

    #[test]
    fn addresses_are_those_of_cometbft() {
        let tcp = Address::parse("tcp://127.0.0.1:26658").expect("an address");
        assert_eq!(tcp.of_node(2).expect("a port").to_string(), "tcp://127.0.0.1:26660");
        let unix = Address::parse("unix:///run/app.sock").expect("an address");
        assert_eq!(unix.of_node(1).expect("a path").to_string(), "unix:///run/app.sock.2");
        for wrong in ["kvstore", "tcp://host", "tcp://host:port", "unix://", "http://a:1"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Address::parse("tcp://a:65535").expect("an address").of_node(1).is_err());
    }

    #[test]
    fn messages_come_in_pieces() {
        let all = [socket::framed(b"one"), socket::framed(&[7; 300])].concat();
        let mut input = BytesMut::new();
        let mut found = Vec::new();
        for byte in all {
            input.put_u8(byte);
            while let Some(message) = take_message(&mut input).expect("whole") {
                found.push(message);
            }
        }
        assert_eq!(found, [Bytes::from_static(b"one"), Bytes::from(vec![7; 300])]);
        assert!(take_message(&mut BytesMut::from(&[0xff; 5][..])).is_err());
    }

    #[test]
    fn answers_outlast_a_crash_and_a_torn_one_is_none() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let open = || Answers { disk: Arc::clone(&disk), file: None, end: 0 };
        let kept = |height| Kept { height, kind: 4, answer: Bytes::from(vec![7; 100]) };
        let mut answers = open();
        assert_eq!(answers.load().expect("empty"), []);
        (1..=3).for_each(|height| answers.keep(&kept(height)).expect("it is kept"));
        let end = answers.end;
        let file = disk.open(FILE).expect("it is there");
        file.write_at(end, &encode(&kept(4))[..50]).expect("a part of one");
        let mut again = open();
        assert_eq!(again.load().expect("it is read"), [kept(1), kept(2), kept(3)]);
        again.keep(&kept(5)).expect("in the place of the torn one");
        again.replace(&mut [kept(3), kept(5)].into_iter()).expect("the others go");
        again.keep(&kept(6)).expect("behind them");
        assert_eq!(open().load().expect("it is read"), [kept(3), kept(5), kept(6)]);
    }
}
