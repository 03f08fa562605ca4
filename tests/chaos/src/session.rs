//! A ZooKeeper client that never hides what it does not know.
//!
//! - upon a request: one frame goes out, and the caller waits for its reply; one request at a time;
//! - upon no reply within [`PATIENCE`], or a socket that ends: an error. What became of the request nobody knows, and the
//!   connection is not used again;
//! - upon a reconnect: the session is asked for again, maybe at another node, with the last zxid that it was shown.
//!
//! Deliberately absent: pings (the caller never rests as long as a session lives), watches, and every retry.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use verity_zookeeper::wire::{
    AuthPacket, ConnectBody, ConnectRequest, ConnectResponse, Decode as _, Encode, OpCode, Reader, ReplyHeader,
    RequestHeader, xid,
};

/// A reply that does not come within this does not count any more.
pub const PATIENCE: Duration = Duration::from_millis(1_000);
/// What sessions ask for; servers grant no less than two ticks.
const TIMEOUT_MS: i32 = 8_000;
/// No reply is longer.
const FRAME_SIZE_MAX: usize = 4 << 20;

/// What a client keeps of its session.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Its number; 0 for one that is still to be opened.
    pub session: i64,
    password: Vec<u8>,
    /// The last zxid that it was shown.
    pub zxid: i64,
}

impl Identity {
    /// What histories call it.
    #[must_use]
    pub fn name(&self) -> String {
        session_name(self.session)
    }
}

/// What histories call a session, and `0` for none.
#[must_use]
pub fn session_name(session: i64) -> String {
    if session == 0 { "0".to_owned() } else { format!("{session:#x}") }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The last transaction that the server had applied.
    pub zxid: i64,
    /// Zero, or an error's number.
    pub err: i32,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// What asking for a session came to.
#[derive(Debug)]
pub enum Opened {
    /// It is served by this connection.
    Here(Session),
    /// It is over.
    Expired,
}

/// A connection that serves a session.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    xid: i32,
    /// Whose it is.
    pub identity: Identity,
}

impl Session {
    /// Opens a session, or takes up the one that `identity` names. With `linearizable`, all of its reads are.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub fn open(addr: SocketAddr, identity: &Identity, linearizable: bool) -> Result<Opened> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut session = Self { stream, xid: 0, identity: identity.clone() };
        let none = [0; 16];
        let password = if identity.session == 0 { &none[..] } else { &identity.password[..] };
        let body = ConnectBody {
            protocol: 0,
            last_zxid_seen: identity.zxid,
            timeout: TIMEOUT_MS,
            session: identity.session,
            password: Some(password),
        };
        session.send(&ConnectRequest { body, read_only: Some(false) }.to_bytes())?;
        let answer = session.receive()?;
        let response = ConnectResponse::from_bytes(&answer).context("the greeting does not decode")?.body;
        if response.session == 0 {
            ensure!(identity.session != 0, "a new session was refused");
            return Ok(Opened::Expired);
        }
        session.identity.session = response.session;
        session.identity.password = response.password.unwrap_or_default().to_vec();
        if linearizable {
            let wish = AuthPacket { kind: 0, scheme: "verity", auth: Some(b"reads=linearizable") };
            let reply = session.exchange(xid::AUTH, OpCode::Auth, &wish.to_bytes())?;
            ensure!(reply.err == 0, "linearizable reads were refused: error {}", reply.err);
        }
        Ok(Opened::Here(session))
    }

    /// A new session at this node.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn fresh(addr: SocketAddr, linearizable: bool) -> Result<Self> {
        match Self::open(addr, &Identity::default(), linearizable)? {
            Opened::Here(session) => Ok(session),
            Opened::Expired => bail!("a new session cannot have expired"),
        }
    }

    /// Sends one request and waits for its reply.
    ///
    /// # Errors
    /// When it will never be known what became of the request.
    pub fn call(&mut self, op: OpCode, body: &[u8]) -> Result<Reply> {
        self.xid += 1;
        let reply = self.exchange(self.xid, op, body)?;
        self.identity.zxid = self.identity.zxid.max(reply.zxid);
        Ok(reply)
    }

    fn exchange(&mut self, xid: i32, op: OpCode, body: &[u8]) -> Result<Reply> {
        let mut packet = RequestHeader { xid, op: op.number() }.to_bytes();
        packet.extend_from_slice(body);
        self.send(&packet)?;
        let answer = self.receive()?;
        let mut reader = Reader::new(&answer);
        let header = ReplyHeader::decode(&mut reader).context("the reply's head does not decode")?;
        ensure!(header.xid == xid, "request {xid} was answered as {}", header.xid);
        Ok(Reply { zxid: header.zxid, err: header.err, body: reader.rest().to_vec() })
    }

    fn send(&mut self, packet: &[u8]) -> Result<()> {
        let mut frame = i32::try_from(packet.len()).context("requests are short")?.to_bytes();
        frame.extend_from_slice(packet);
        Ok(self.stream.write_all(&frame)?)
    }

    fn receive(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        ensure!(length <= FRAME_SIZE_MAX, "a reply of {length} bytes was announced");
        let mut packet = vec![0; length];
        self.stream.read_exact(&mut packet)?;
        Ok(packet)
    }
}
