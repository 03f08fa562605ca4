//! Client connections: bytes in, bytes out, nothing else.
//!
//! Replies gather in a connection's buffer during a turn and leave in one write at its end. A client that does not read
//! is not read from either once [`OUT_BYTES_PAUSE`] wait for it, and is cut off at [`OUT_BYTES_MAX`]. A service that puts out
//! much asks to be told once less waits.
//!
//! A connection to another node of the cluster that a fault cuts stands still, in one direction or both: nothing of it is lost,
//! as between hosts whose network is broken.
//!
//! Deliberately absent: framing and protocols (the service has them).

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use verity_contract::{Door, FileRange, Peer, SessionInput};
use verity_replica::{Input, ServiceId};
use verity_types::{ConnId, NodeId, Token};

use crate::core::Shared;
use crate::faults::Faults;
use crate::figures::{Traffic, count};
use crate::outgoing::{Failed, Outgoing};

/// With this much waiting to be written, a connection is not read from.
const OUT_BYTES_PAUSE: usize = 4 * 1024 * 1024;
/// With this much waiting to be written, a connection is closed.
const OUT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a closed connection may take to deliver what was put out before.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;
/// A buffer for what is gathered is made at most so many times as large as what has come of it.
const GROWTH: usize = 16;
/// After so many bytes of one connection, others have their turn.
const TURN_BYTES: usize = 512 * 1024;

/// After so many bytes written to one connection at once, others have their turn.
const WRITE_TURN_BYTES: usize = 4 << 20;

/// How far a write came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    All,
    /// The socket takes no more now.
    Blocked,
    /// It would, but others wait.
    Turn,
    /// A fault holds it back.
    Cut,
}

/// What the core knows of a connection.
#[derive(Debug)]
pub(crate) struct ConnHandle {
    pub(crate) service: ServiceId,
    /// The node of the cluster at the other end, if it is known to be one.
    pub(crate) member: Option<NodeId>,
    send_cut: Cell<bool>,
    receive_cut: Cell<bool>,
    /// The socket's own writing side, where no TLS lies in between.
    plain: Option<OwnedWriteHalf>,
    out: RefCell<Outgoing>,
    paused: Cell<bool>,
    closing: Cell<bool>,
    /// The service is told once no more than so many bytes wait.
    drain: Cell<Option<usize>>,
    reader: Notify,
    writer: Notify,
    traffic: Rc<Traffic>,
}

impl ConnHandle {
    fn new(
        service: ServiceId,
        member: Option<NodeId>,
        plain: Option<OwnedWriteHalf>,
        traffic: &Rc<Traffic>,
    ) -> Rc<Self> {
        Rc::new(Self {
            service,
            member,
            send_cut: Cell::new(false),
            receive_cut: Cell::new(false),
            plain,
            out: RefCell::default(),
            paused: Cell::new(false),
            closing: Cell::new(false),
            drain: Cell::new(None),
            reader: Notify::new(),
            writer: Notify::new(),
            traffic: Rc::clone(traffic),
        })
    }

    /// Adds bytes to what is written at the end of the turn.
    pub(crate) fn push(&self, bytes: Bytes) {
        self.put(bytes.len(), |out| out.push(bytes));
    }

    /// Adds bytes of a file.
    pub(crate) fn push_range(&self, range: FileRange) {
        self.put(range.len(), |out| out.push_range(range));
    }

    fn put(&self, length: usize, put: impl FnOnce(&mut Outgoing)) {
        let mut out = self.out.borrow_mut();
        if out.len() + length > OUT_BYTES_MAX {
            out.clear();
            drop(out);
            self.close();
        } else if !self.closing.get() {
            put(&mut out);
        }
    }

    /// Stops or resumes reading.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.set(paused);
        self.reader.notify_one();
    }

    /// Tells the service once no more than so many bytes wait.
    pub(crate) fn drain(&self, below: usize) {
        self.drain.set(Some(below));
    }

    /// How many bytes wait, if the service asked to be told now.
    fn drained(&self) -> Option<usize> {
        let waiting = self.out.borrow().len();
        self.drain.get().filter(|below| waiting <= *below)?;
        self.drain.set(None);
        Some(waiting)
    }

    /// Stands still or goes on, as the faults in force say.
    pub(crate) fn cut(&self, faults: &Faults) {
        let Some(member) = self.member else { return };
        self.send_cut.set(faults.send_cut.contains(&member));
        self.receive_cut.set(faults.receive_cut.contains(&member));
        self.reader.notify_one();
        self.writer.notify_one();
    }

    /// Closes once what waits is written.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.reader.notify_one();
        self.writer.notify_one();
    }

    /// Ends a turn: writes as much as the socket takes now. The writing task takes the rest.
    pub(crate) fn write_now(&self) {
        let written = self.plain.as_ref().map_or(Written::Blocked, |plain| self.try_write(plain));
        if written != Written::All || self.closing.get() || self.drain.get().is_some() {
            self.writer.notify_one();
        }
    }

    /// Writes until the socket takes no more, or it is the turn of others.
    fn try_write(&self, plain: &OwnedWriteHalf) -> Written {
        if self.send_cut.get() {
            return Written::Cut;
        }
        let (mut out, mut turn) = (self.out.borrow_mut(), 0);
        if out.len() >= OUT_BYTES_PAUSE {
            // The reader may have looked between the push and this write. It looks again when it is its turn, and is woken by
            // the writing task if there is still too much.
            self.reader.notify_one();
        }
        while !out.is_empty() {
            if turn >= WRITE_TURN_BYTES {
                return Written::Turn;
            }
            match out.write_next(plain.as_ref()) {
                Ok(written) => {
                    count(&self.traffic.client_sent, written);
                    turn += written;
                }
                Err(Failed::Blocked) => return Written::Blocked,
                Err(failed) => {
                    if let Failed::File(error) = failed {
                        tell_unreadable(&error);
                    }
                    out.clear();
                    self.closing.set(true);
                }
            }
        }
        Written::All
    }

    fn may_read(&self) -> bool {
        !self.paused.get() && !self.receive_cut.get() && self.out.borrow().len() < OUT_BYTES_PAUSE
    }
}

/// A client's stream, after the TLS handshake where there is one.
pub(crate) enum ClientStream {
    Plain(TcpStream),
    Tls(Box<dyn Duplex>),
}

/// Both directions of an encrypted stream.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// Serves one connection until either side closes it.
pub(crate) async fn serve(shared: Shared, service: ServiceId, door: Door, stream: ClientStream, peer: PeerAddr) {
    let PeerAddr { addr, local, certificate, dialed } = peer;
    let member = shared.member_at(addr, dialed.is_some());
    let peer = Peer { addr, local, door, certificate };
    match stream {
        ClientStream::Plain(tcp) => {
            let (read, write) = tcp.into_split();
            let handle = ConnHandle::new(service, member, Some(write), &shared.traffic);
            let conn = shared.open(Rc::clone(&handle), peer, dialed);
            until_both_ended(read_loop(&shared, conn, &handle, read), write_plain(&shared, conn, &handle)).await;
            shared.closed(conn);
        }
        ClientStream::Tls(tls) => {
            let (read, write) = tokio::io::split(tls);
            let handle = ConnHandle::new(service, member, None, &shared.traffic);
            let conn = shared.open(Rc::clone(&handle), peer, dialed);
            until_both_ended(read_loop(&shared, conn, &handle, read), write_tls(&shared, conn, &handle, write)).await;
            shared.closed(conn);
        }
    }
}

/// Runs both directions. Reading ends when either side closes; a client that then takes no more bytes is given up after
/// [`CLOSE_WAIT`]. Writing ends only once the connection is closing.
async fn until_both_ended(reading: impl Future<Output = ()>, writing: impl Future<Output = ()>) {
    let patience = async {
        reading.await;
        tokio::time::sleep(CLOSE_WAIT).await;
    };
    tokio::select! {
        () = writing => {}
        () = patience => {}
    }
}

/// Where a client came from, and the subject of its certificate if it showed one.
pub(crate) struct PeerAddr {
    pub(crate) addr: std::net::SocketAddr,
    /// Our own end.
    pub(crate) local: Option<std::net::SocketAddr>,
    pub(crate) certificate: Option<String>,
    /// It did not come: a service asked for it.
    pub(crate) dialed: Option<Token>,
}

async fn read_loop(shared: &Shared, conn: ConnId, handle: &ConnHandle, mut stream: impl AsyncRead + Unpin) {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let (mut turn, mut until) = (0, 0);
    while !handle.closing.get() {
        if !handle.may_read() {
            handle.reader.notified().await;
            continue;
        }
        make_room(&mut buffer, until);
        tokio::select! {
            read = stream.read_buf(&mut buffer) => match read {
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    count(&shared.traffic.client_received, read);
                    turn += read;
                    let gather = shared.with(|core| core.replica.gather(handle.service, conn, &buffer));
                    until = gather.until;
                    if gather.deliver > 0 {
                        let bytes = buffer.split_to(gather.deliver).freeze();
                        let input = SessionInput::Bytes { conn, bytes };
                        shared.input(Input::Session { service: handle.service, input });
                    }
                    if turn >= TURN_BYTES {
                        turn = 0;
                        tokio::task::yield_now().await;
                    }
                }
            },
            () = handle.reader.notified() => {}
        }
    }
    handle.close();
}

/// Makes room for more, so that `until` bytes will lie in one piece. What is large is made as large as it must be, and is
/// left to those who were given its bytes: a connection that rests has no more than [`READ_BYTES`].
fn make_room(buffer: &mut BytesMut, until: usize) {
    let missing = until.saturating_sub(buffer.len()).min(GROWTH * buffer.len());
    let large = buffer.capacity() > READ_BYTES && missing == 0;
    let least = if missing > 0 { missing.min(READ_BYTES / 4) } else { READ_BYTES / 4 };
    if large || buffer.capacity() - buffer.len() < least {
        let mut room = BytesMut::with_capacity((buffer.len() + missing).max(READ_BYTES));
        room.extend_from_slice(buffer);
        *buffer = room;
    }
}

/// Part of an answer has left, and the rest cannot be read: all that can be done for the client is to end its connection.
fn tell_unreadable(error: &io::Error) {
    tracing::error!(%error, "a connection ends, since the rest of an answer cannot be read from its file");
}

/// Tells the service that little waits, if it asked.
fn tell_drained(shared: &Shared, conn: ConnId, handle: &ConnHandle) {
    if let Some(waiting) = handle.drained() {
        let input = SessionInput::Drained { conn, waiting };
        shared.input(Input::Session { service: handle.service, input });
    }
}

async fn write_plain(shared: &Shared, conn: ConnId, handle: &ConnHandle) {
    let plain = handle.plain.as_ref().expect("a plain connection keeps its socket");
    loop {
        let written = handle.try_write(plain);
        tell_drained(shared, conn, handle);
        match written {
            Written::All => {
                handle.reader.notify_one();
                if handle.closing.get() {
                    return;
                }
                handle.writer.notified().await;
            }
            Written::Turn => tokio::task::yield_now().await,
            Written::Cut => handle.writer.notified().await,
            Written::Blocked => {
                if plain.writable().await.is_err() {
                    return handle.close();
                } else if handle.closing.get() && handle.out.borrow().is_empty() {
                    return;
                }
            }
        }
    }
}

async fn write_tls(shared: &Shared, conn: ConnId, handle: &ConnHandle, mut stream: impl AsyncWrite + Unpin) {
    loop {
        tell_drained(shared, conn, handle);
        if handle.send_cut.get() {
            handle.writer.notified().await;
            continue;
        }
        let next = handle.out.borrow_mut().take_next();
        let bytes = match next {
            Ok(bytes) => bytes,
            Err(error) => {
                tell_unreadable(&error);
                handle.out.borrow_mut().clear();
                return handle.close();
            }
        };
        if bytes.is_empty() {
            if handle.closing.get() {
                // The client may be gone already; closing is all that is left to do.
                let _ = stream.shutdown().await;
                return;
            }
            handle.writer.notified().await;
        } else {
            let written = async {
                stream.write_all(&bytes).await?;
                stream.flush().await
            };
            if written.await.is_err() {
                return handle.close();
            }
            count(&handle.traffic.client_sent, bytes.len());
            handle.reader.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_gathered_lies_in_one_piece_and_is_left_behind() {
        const FRAME: usize = 1 << 20;
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        buffer.extend_from_slice(&[1; 10 << 10]);
        make_room(&mut buffer, 100 * FRAME);
        assert_eq!(buffer.capacity(), READ_BYTES, "an announcement alone gets nothing, and what has room is not moved");
        buffer.extend_from_slice(&[1; 50 << 10]);
        make_room(&mut buffer, 100 * FRAME);
        assert_eq!(buffer.capacity(), (60 * (GROWTH + 1)) << 10);
        buffer = BytesMut::from(&buffer[..]);
        while buffer.len() < FRAME {
            make_room(&mut buffer, FRAME);
            let room = (buffer.capacity() - buffer.len()).min(FRAME - buffer.len());
            buffer.extend_from_slice(&vec![2; room]);
        }
        assert_eq!(buffer.capacity(), FRAME);
        let frame = buffer.split_to(FRAME);
        make_room(&mut buffer, 0);
        assert_eq!((buffer.len(), buffer.capacity()), (0, READ_BYTES));
        drop(frame);
        let mut rest = BytesMut::with_capacity(FRAME);
        rest.extend_from_slice(&[3; 100]);
        make_room(&mut rest, 0);
        assert_eq!((rest.len(), rest.capacity()), (100, READ_BYTES));
    }

    /// The reader stops while much waits. It must hear of the end of that, even if no task had to write it.
    #[expect(clippy::disallowed_methods, reason = "the other end of a socket reads meanwhile")]
    #[tokio::test(flavor = "current_thread")]
    async fn a_reader_that_stopped_hears_that_all_is_written() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let client = std::net::TcpStream::connect(address).expect("somebody listens");
        client.set_nonblocking(true).expect("a socket can be told");
        let (_, plain) = TcpStream::from_std(client).expect("it does not block").into_split();
        let (mut peer, _) = listener.accept().expect("somebody connects");
        let handle = ConnHandle::new(ServiceId(0), None, Some(plain), &Rc::default());
        handle.push(vec![7; OUT_BYTES_PAUSE].into());
        handle.drain(1_000);
        assert!(!handle.may_read() && handle.drained().is_none());
        let reading = std::thread::spawn(move || peer.read_exact(&mut vec![0; OUT_BYTES_PAUSE]));
        while !handle.out.borrow().is_empty() {
            handle.write_now();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        reading.join().expect("it does not panic").expect("all of it comes");
        assert!(handle.may_read());
        assert_eq!([(); 2].map(|()| handle.drained()), [Some(0), None], "the service is told once");
        let heard = tokio::time::timeout(Duration::from_secs(10), handle.reader.notified()).await;
        assert!(heard.is_ok(), "the reader reads on");
    }
}
