//! One session over one blocking socket.
//!
//! Replies are checked as they come: the xid must be the next one, the error must be zero, and a get's data must
//! have the size that was written. Deliberately absent: pings; a load never idles for as long as a session lives.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::wire::{self, FRAME_SIZE_MAX, Operation, VALUE_SIZE};

/// The session timeout that is asked for.
const SESSION_TIMEOUT_MS: i32 = 30_000;
/// How long a server may keep silent before the load has failed.
pub const SILENCE_MAX: Duration = Duration::from_secs(20);

/// A session and its unread bytes.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    out: Vec<u8>,
    buffer: Vec<u8>,
    filled: usize,
    taken: usize,
    xid_sent: i32,
    xid_seen: i32,
}

impl Session {
    /// Opens a session with the server at this address.
    ///
    /// # Errors
    /// When the server cannot be reached, closes the connection, or refuses the session.
    pub fn open(server: SocketAddr) -> Result<Session> {
        Session::open_within(server, SILENCE_MAX)
    }

    /// As [`Session::open`], for a server that may keep silent no longer than this.
    ///
    /// # Errors
    /// As [`Session::open`], and when the silence is longer.
    pub fn open_within(server: SocketAddr, silence_max: Duration) -> Result<Session> {
        let stream =
            TcpStream::connect_timeout(&server, silence_max).with_context(|| format!("cannot reach {server}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(silence_max))?;
        stream.set_write_timeout(Some(silence_max))?;
        let buffer = vec![0; 4 * FRAME_SIZE_MAX];
        let mut session = Session { stream, out: Vec::new(), buffer, filled: 0, taken: 0, xid_sent: 0, xid_seen: 0 };
        wire::connect(&mut session.out, SESSION_TIMEOUT_MS);
        session.flush()?;
        loop {
            if let Some((body, spans)) = wire::split(&session.buffer[..session.filled])? {
                ensure!(wire::integer(body, 4)? > 0, "{server} refused the session");
                session.taken = spans;
                return Ok(session);
            }
            session.fill()?;
        }
    }

    /// Queues a request; nothing is sent before [`Session::flush`].
    pub fn queue(&mut self, operation: Operation, path: &str) {
        self.xid_sent += 1;
        wire::request(&mut self.out, self.xid_sent, operation, path);
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Waits for at least one reply and takes all that have come; says how many. All answer `operation`.
    ///
    /// # Errors
    /// When the socket fails, or a reply is an error, out of order or not what `operation` returns.
    pub fn receive(&mut self, operation: Operation) -> Result<usize> {
        let mut count = 0;
        loop {
            while let Some((body, spans)) = wire::split(&self.buffer[self.taken..self.filled])? {
                let reply = wire::reply(body)?;
                ensure!(reply.xid == self.xid_seen + 1, "reply {} after reply {}", reply.xid, self.xid_seen);
                ensure!(reply.error == 0, "{operation:?} was answered with error {}", reply.error);
                if operation == Operation::Get {
                    let size = wire::integer(reply.record, 0)?;
                    ensure!(usize::try_from(size) == Ok(VALUE_SIZE), "a get returned {size} bytes");
                }
                self.xid_seen = reply.xid;
                self.taken += spans;
                count += 1;
            }
            if count > 0 {
                return Ok(count);
            }
            self.fill()?;
        }
    }

    /// One request and its reply; true if it was done, false if the znode was there before.
    ///
    /// # Errors
    /// As [`Session::receive`], but a create may find its znode.
    pub fn call(&mut self, operation: Operation, path: &str) -> Result<bool> {
        self.queue(operation, path);
        self.flush()?;
        loop {
            if let Some((body, spans)) = wire::split(&self.buffer[self.taken..self.filled])? {
                let reply = wire::reply(body)?;
                self.xid_seen = reply.xid;
                self.taken += spans;
                return match reply.error {
                    0 => Ok(true),
                    wire::NODE_EXISTS if operation == Operation::Create => Ok(false),
                    error => bail!("{operation:?} of {path} was answered with error {error}"),
                };
            }
            self.fill()?;
        }
    }

    /// Ends the session.
    ///
    /// # Errors
    /// When the socket fails before the server has answered.
    pub fn close(mut self) -> Result<()> {
        self.call(Operation::Close, "").map(|_| ())
    }

    fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        assert!(self.filled < self.buffer.len(), "the buffer holds more than the largest frame");
        loop {
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(size) => {
                    self.filled += size;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("no reply"),
            }
        }
    }
}
