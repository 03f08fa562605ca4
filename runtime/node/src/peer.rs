//! Links between nodes.
//!
//! Each node dials every other, twice: a link carries one direction, and either what is urgent or what is not. Megabytes of
//! entries wait in the buffers of two systems; on a link of their own, signs of life and acknowledgements do not wait behind
//! them. The dialler says hello, the other side answers, and from then on every write is one length and frames:
//!
//! ```text
//! hello  = "VRTY" version:u16 cluster:[u8; 16] from:u64 to:u64
//! answer = "VRTY" version:u16
//! write  = length:u32 frames
//! ```
//! Who is at the other end is what its certificate says (mutual TLS), or, on loopback, what its hello says.
//!
//! - upon both links being up: the replica hears `PeerUp`; upon either being lost: `PeerDown`, and it is dialled again, at
//!   first at once, then every [`REDIAL_MAX`];
//! - upon a full queue ([`QUEUE_BYTES_MAX`]): new writes are dropped. Agreements expect loss.
//!
//! Deliberately absent: acknowledgements and order across links. The protocols above need neither.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use verity_replica::{FRAME_BYTES_MAX, Input, decode_frames};
use verity_storage::ClusterId;
use verity_types::{Mono, Nanos, NodeId};

use crate::core::Shared;
use crate::figures::count;
use crate::task;
use crate::tls::PeerTls;

/// The peer protocol's version. A peer of another version is refused.
pub const PEER_VERSION: u16 = 3;
/// How many bytes may wait for one link.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A peer that is not there is dialled this often.
pub const REDIAL_MAX: Duration = Duration::from_millis(200);
/// Hello and answer must come within this.
const HELLO_WAIT: Duration = Duration::from_secs(2);
/// Of refused peers, one is complained of in this time.
const COMPLAIN_EVERY: Nanos = Nanos::from_millis(10_000);
/// Writes that wait leave together until they are so many bytes.
const GATHERED_BYTES: usize = 64 * 1024;
/// No write is longer: the frames of a turn to one peer, of which each is bounded.
const WRITE_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;

const MAGIC: &[u8; 4] = b"VRTY";
const HELLO_BYTES: usize = 4 + 2 + 16 + 8 + 8;

/// The outgoing side of a node's links.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) me: NodeId,
    pub(crate) cluster: ClusterId,
    pub(crate) tls: Option<PeerTls>,
    peers: BTreeMap<NodeId, Rc<Pair>>,
    /// When a refused peer was last complained of.
    complained: Option<Mono>,
}

/// The two links to a peer.
#[derive(Debug)]
struct Pair {
    addr: RefCell<String>,
    urgent: Link,
    bulk: Link,
    gone: Cell<bool>,
}

/// One of them: writes that wait, in order.
#[derive(Debug, Default)]
struct Link {
    waiting: RefCell<VecDeque<Bytes>>,
    bytes: Cell<usize>,
    up: Cell<bool>,
    changed: Notify,
}

impl Pair {
    fn new(addr: String) -> Self {
        Self { addr: RefCell::new(addr), urgent: Link::default(), bulk: Link::default(), gone: Cell::new(false) }
    }

    fn link(&self, urgent: bool) -> &Link {
        if urgent { &self.urgent } else { &self.bulk }
    }

    fn is_up(&self) -> bool {
        self.urgent.up.get() && self.bulk.up.get()
    }
}

impl Link {
    fn push(&self, bytes: Bytes) {
        let sum = self.bytes.get() + bytes.len();
        // What was said while nobody listened is stale by the time that somebody does.
        if self.up.get() && sum <= QUEUE_BYTES_MAX {
            self.bytes.set(sum);
            self.waiting.borrow_mut().push_back(bytes);
            self.changed.notify_one();
        }
    }

    fn pop(&self) -> Option<Bytes> {
        let bytes = self.waiting.borrow_mut().pop_front()?;
        self.bytes.set(self.bytes.get() - bytes.len());
        Some(bytes)
    }

    fn clear(&self) {
        self.waiting.borrow_mut().clear();
        self.bytes.set(0);
    }
}

impl Links {
    pub(crate) fn new(me: NodeId, cluster: ClusterId, tls: Option<PeerTls>) -> Self {
        Self { me, cluster, tls, peers: BTreeMap::new(), complained: None }
    }

    /// True if a refused peer is worth a line now: one dials five times a second.
    fn may_complain(&mut self, now: Mono) -> bool {
        let may = self.complained.is_none_or(|at| now.since(at) >= COMPLAIN_EVERY);
        if may {
            self.complained = Some(now);
        }
        may
    }

    pub(crate) fn send(&self, to: NodeId, bytes: Bytes, urgent: bool) {
        if let Some(pair) = self.peers.get(&to) {
            pair.link(urgent).push(bytes);
        }
    }

    /// The peers whose links are up.
    pub(crate) fn up(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|(_, pair)| pair.is_up()).map(|(node, _)| *node).collect()
    }
}

/// Keeps the links to a peer, or moves them to another address.
pub(crate) fn connect(shared: &Shared, node: NodeId, addr: String) {
    let pair = shared.with(|core| {
        if node == core.links.me {
            return None;
        }
        if let Some(pair) = core.links.peers.get(&node) {
            *pair.addr.borrow_mut() = addr;
            return None;
        }
        let pair = Rc::new(Pair::new(addr));
        core.links.peers.insert(node, Rc::clone(&pair));
        Some(pair)
    });
    if let Some(pair) = pair {
        for urgent in [true, false] {
            task::spawn(&shared.alarm(), keep_link(shared.clone(), node, Rc::clone(&pair), urgent));
        }
    }
}

/// Ends the links to a peer that left.
pub(crate) fn disconnect(shared: &Shared, node: NodeId) {
    if let Some(pair) = shared.with(|core| core.links.peers.remove(&node)) {
        pair.gone.set(true);
        pair.urgent.changed.notify_one();
        pair.bulk.changed.notify_one();
    }
}

async fn keep_link(shared: Shared, node: NodeId, pair: Rc<Pair>, urgent: bool) {
    let (link, mut wait) = (pair.link(urgent), Duration::from_millis(10));
    while !pair.gone.get() {
        let addr = pair.addr.borrow().clone();
        let ended = match dial(&shared, node, &addr).await {
            Ok((read, write)) => {
                wait = Duration::from_millis(10);
                link.up.set(true);
                if pair.is_up() {
                    shared.input(Input::PeerUp(node));
                    tracing::debug!(%node, %addr, "peer up");
                }
                let ended = run_link(&shared, node, &pair, link, read, write).await;
                if pair.is_up() {
                    link.up.set(false);
                    shared.input(Input::PeerDown(node));
                }
                link.up.set(false);
                link.clear();
                ended
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(%node, %addr, %error, "peer down");
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(REDIAL_MAX);
    }
}

type ReadSide = Box<dyn AsyncRead + Unpin>;
type WriteSide = Box<dyn AsyncWrite + Unpin>;

async fn dial(shared: &Shared, node: NodeId, addr: &str) -> io::Result<(ReadSide, WriteSide)> {
    let (me, cluster, tls) = shared.with(|core| (core.links.me, core.links.cluster, core.links.tls.clone()));
    let hello = async {
        let tcp = TcpStream::connect(addr).await?;
        tcp.set_nodelay(true)?;
        let (mut read, mut write): (ReadSide, WriteSide) = if let Some(tls) = tls {
            let (read, write) = tokio::io::split(tls.connect(node, tcp).await?);
            (Box::new(read), Box::new(write))
        } else {
            let (read, write) = tcp.into_split();
            (Box::new(read), Box::new(write))
        };
        let mut hello = BytesMut::with_capacity(HELLO_BYTES);
        hello.extend_from_slice(MAGIC);
        hello.extend_from_slice(&PEER_VERSION.to_be_bytes());
        hello.extend_from_slice(&cluster.0);
        hello.extend_from_slice(&me.0.to_be_bytes());
        hello.extend_from_slice(&node.0.to_be_bytes());
        write.write_all(&hello).await?;
        write.flush().await?;
        let mut answer = [0; 6];
        read.read_exact(&mut answer).await?;
        if &answer[..4] != MAGIC || answer[4..] != PEER_VERSION.to_be_bytes() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer speaks another version"));
        }
        Ok((read, write))
    };
    tokio::time::timeout(HELLO_WAIT, hello).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn run_link(
    shared: &Shared,
    node: NodeId,
    pair: &Pair,
    link: &Link,
    mut read: ReadSide,
    mut write: WriteSide,
) -> io::Result<()> {
    let mut probe = [0; 1];
    let mut buffer = BytesMut::new();
    loop {
        buffer.clear();
        while buffer.len() < GATHERED_BYTES
            && let Some(bytes) = link.pop()
        {
            if !shared.faults.borrow().send_cut.contains(&node) {
                buffer.extend_from_slice(&u32::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes());
                buffer.extend_from_slice(&bytes);
            }
        }
        if buffer.is_empty() {
            if pair.gone.get() {
                return Ok(());
            }
            // Nothing comes back on this direction; an end of file tells that the peer is gone.
            tokio::select! {
                () = link.changed.notified() => continue,
                ended = read.read(&mut probe) => {
                    return ended.and_then(|_| Err(io::ErrorKind::ConnectionReset.into()));
                }
            }
        }
        write.write_all(&buffer).await?;
        write.flush().await?;
        count(&shared.traffic.peer_sent, buffer.len());
    }
}

/// Accepts peers for as long as the node runs.
pub(crate) async fn accept(shared: Shared, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((tcp, addr)) => {
                task::spawn(&shared.alarm(), serve(shared.clone(), tcp, addr));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a peer");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(shared: Shared, tcp: TcpStream, addr: SocketAddr) {
    let Err(error) = hear(&shared, tcp).await else { return };
    // Who is not let in, as opposed to whose connection is lost, is for an operator to look at.
    if error.kind() == io::ErrorKind::InvalidData {
        count(&shared.traffic.peers_refused, 1);
        if shared.with(|core| core.links.may_complain(core.clock.now().mono)) {
            tracing::warn!(%addr, %error, "a peer is refused");
            return;
        }
    }
    tracing::debug!(%addr, %error, "peer link ended");
}

async fn hear(shared: &Shared, tcp: TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let (me, cluster, tls) = shared.with(|core| (core.links.me, core.links.cluster, core.links.tls.clone()));
    let hello = async {
        let (mut read, mut write, certified): (ReadSide, WriteSide, Option<NodeId>) = if let Some(tls) = tls {
            let (stream, node) = tls.accept(tcp).await?;
            let (read, write) = tokio::io::split(stream);
            (Box::new(read), Box::new(write), Some(node))
        } else {
            let (read, write) = tcp.into_split();
            (Box::new(read), Box::new(write), None)
        };
        let mut hello = [0; HELLO_BYTES];
        read.read_exact(&mut hello).await?;
        let from = check_hello(&hello, cluster, me, certified)?;
        write.write_all(MAGIC).await?;
        write.write_all(&PEER_VERSION.to_be_bytes()).await?;
        write.flush().await?;
        Ok::<_, io::Error>((read, write, from))
    };
    let (mut read, _write, from) =
        tokio::time::timeout(HELLO_WAIT, hello).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    loop {
        let mut length = [0; 4];
        read.read_exact(&mut length).await?;
        let length = u32::from_be_bytes(length) as usize;
        if length > WRITE_BYTES_MAX {
            return Err(invalid(format!("a write of {length} bytes is too long")));
        }
        let bytes = read_write(&mut read, length).await?;
        count(&shared.traffic.peer_received, length + 4);
        let frames = decode_frames(bytes).map_err(|error| invalid(error.to_string()))?;
        if !shared.faults.borrow().receive_cut.contains(&from) {
            shared.input(Input::Peer { from, frames });
        }
        if length >= GATHERED_BYTES {
            tokio::task::yield_now().await;
        }
    }
}

/// Reads `length` bytes, allocating only as they come.
async fn read_write(read: &mut ReadSide, length: usize) -> io::Result<Bytes> {
    let mut bytes = BytesMut::with_capacity(length.min(1024 * 1024));
    let mut limited = read.take(length as u64);
    while bytes.len() < length {
        if limited.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(bytes.freeze())
}

fn check_hello(
    hello: &[u8; HELLO_BYTES],
    cluster: ClusterId,
    me: NodeId,
    certified: Option<NodeId>,
) -> io::Result<NodeId> {
    let number =
        |at: usize| u64::from_be_bytes(hello[at..at + 8].try_into().expect("eight bytes of a hello are eight bytes"));
    let (from, to) = (NodeId(number(22)), NodeId(number(30)));
    if &hello[..4] != MAGIC {
        return Err(invalid("not a Verity peer".into()));
    }
    if hello[4..6] != PEER_VERSION.to_be_bytes() {
        return Err(invalid("the peer speaks another version".into()));
    }
    if hello[6..22] != cluster.0 {
        return Err(invalid(format!("node {from} belongs to another cluster")));
    }
    if to != me {
        return Err(invalid(format!("node {from} looks for node {to}, this is node {me}")));
    }
    if from == me || certified.is_some_and(|certified| certified != from) {
        return Err(invalid(format!("a peer calls itself node {from} and is not")));
    }
    Ok(from)
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_peers_are_complained_of_now_and_then() {
        let mut links = Links::new(NodeId(1), ClusterId([7; 16]), None);
        let begin = Mono(1);
        assert!(links.may_complain(begin));
        assert!(!links.may_complain(begin + Nanos::from_millis(200)), "a line for each try would bury all others");
        assert!(links.may_complain(begin + COMPLAIN_EVERY));
        assert!(!links.may_complain(begin + COMPLAIN_EVERY));
    }

    fn hello(version: u16, cluster: u8, from: u64, to: u64) -> [u8; HELLO_BYTES] {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&version.to_be_bytes());
        bytes.extend_from_slice(&[cluster; 16]);
        bytes.extend_from_slice(&from.to_be_bytes());
        bytes.extend_from_slice(&to.to_be_bytes());
        bytes.try_into().expect("the parts add up")
    }

    #[test]
    fn a_hello_names_who_it_is_for() {
        let check = |bytes, certified| check_hello(&bytes, ClusterId([7; 16]), NodeId(1), certified);
        assert_eq!(check(hello(PEER_VERSION, 7, 2, 1), None).ok(), Some(NodeId(2)));
        assert!(check(hello(PEER_VERSION + 1, 7, 2, 1), None).is_err(), "another version");
        assert!(check(hello(PEER_VERSION, 8, 2, 1), None).is_err(), "another cluster");
        assert!(check(hello(PEER_VERSION, 7, 2, 3), None).is_err(), "another node");
        assert!(check(hello(PEER_VERSION, 7, 1, 1), None).is_err(), "itself");
        assert!(check(hello(PEER_VERSION, 7, 2, 1), Some(NodeId(3))).is_err(), "another certificate");
    }
}
