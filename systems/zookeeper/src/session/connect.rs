//! The first bytes of a connection: a four-letter word, or a handshake.
//!
//! - upon a connect while nobody leads: it is held; once that lasts too long, a client that asked for it is served
//!   reads, any other is closed;
//! - upon a connect whose client has seen more than this node, or names a session that this node does not know: a
//!   barrier brings the node up to date; if that does not help, the first is closed, the second is told session 0;
//! - upon a new session: its creation is agreed on, unless it is local;
//! - upon a known session: the move is agreed on, so that from its place in the order on writes through any other
//!   node fail with `SessionMoved`; the connection that served it closes.

use bytes::Bytes;
use verity_clock::Now;
use verity_contract::{Consistency, Failure};
use verity_types::ConnId;

use super::conn::{Hello, Phase};
use super::port::Waits;
use super::service::{Local, ZooKeeper};
use crate::machine::{self, Reply, SessionInfo, internal};
use crate::wire::{ConnectRequest, ConnectResponse, ConnectResponseBody, Decode as _, ErrorCode};

/// How many ids are tried for a new session.
const TRIES_MAX: u8 = 8;

impl ZooKeeper {
    /// The first packet.
    pub(super) fn on_connect(&mut self, now: Now, id: ConnId, packet: &[u8]) {
        let Ok(request) = ConnectRequest::from_bytes(packet) else { return self.close(id) };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        self.stats.connects += 1;
        self.stats.received += 1;
        conn.figures.received += 1;
        conn.hello = Hello::of(&request);
        conn.phase = Phase::Held;
        self.begin_connect(now, id);
    }

    /// Goes on with a held connect, if it can.
    pub(super) fn begin_connect(&mut self, now: Now, id: ConnId) {
        let cut_off = self.is_cut_off(now.mono);
        let (has_leader, read_only_mode) = (self.has_leader(), self.config.read_only_mode);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        assert_eq!(conn.phase, Phase::Held);
        if !has_leader {
            if !cut_off {
                return;
            }
            if !read_only_mode || conn.hello.read_only != Some(true) {
                return self.close(id);
            }
            conn.read_only = true;
        }
        conn.phase = Phase::Asking;
        conn.heard = now.mono;
        self.look(id, false);
    }

    fn look(&mut self, id: ConnId, again: bool) {
        let session = self.conns[&id].hello.session;
        let consistency = if again { Consistency::Linearizable } else { Consistency::Local };
        self.port.read(machine::query(internal::SESSION, &session), consistency, Waits::Look { conn: id, again });
    }

    /// What this node knows of the session.
    pub(super) fn on_look(&mut self, now: Now, id: ConnId, again: bool, result: Result<Bytes, Failure>) {
        let Some(conn) = self.conns.get(&id) else { return };
        let Ok(answer) = result else { return self.close(id) };
        let reply = Reply::decode(&answer).expect("the tree answers whole heads");
        self.zxid = self.zxid.max(reply.zxid);
        let (hello, read_only) = (&conn.hello, conn.read_only);
        let session = hello.session;
        if hello.last_zxid > reply.zxid {
            return if again || read_only { self.close(id) } else { self.look(id, true) };
        }
        if session == 0 {
            let timeout_ms = self.config.clamp(hello.timeout_ms);
            if read_only || self.config.local_sessions {
                let session = self.next_session();
                return self.establish(now, id, session, timeout_ms, !read_only);
            }
            return self.open(id, TRIES_MAX);
        }
        if let Some(local) = self.locals.get(&session).copied() {
            if hello.password != self.password(session) {
                return self.refuse(id);
            }
            return self.establish(now, id, session, local.timeout_ms, true);
        }
        let info = SessionInfo::from_bytes(reply.body).ok().filter(|_| reply.err == ErrorCode::Ok.number());
        match info {
            None if again || read_only => self.refuse(id),
            None => self.look(id, true),
            Some(info) if info.password != Some(&hello.password[..]) => self.refuse(id),
            Some(info) if read_only => self.establish(now, id, session, info.timeout_ms, false),
            Some(_) => {
                let command = machine::move_session(session, &hello.password);
                self.port.propose(command, Waits::Move { conn: id });
            }
        }
    }

    fn open(&mut self, id: ConnId, tries: u8) {
        let session = self.next_session();
        let timeout_ms = self.config.clamp(self.conns[&id].hello.timeout_ms);
        let command = machine::create_session(session, timeout_ms, &self.password(session));
        self.port.propose(command, Waits::Open { conn: id, session, tries: tries - 1 });
    }

    /// A session was created.
    pub(super) fn on_open(&mut self, now: Now, id: ConnId, session: i64, tries: u8, result: Result<Bytes, Failure>) {
        let answer = result.ok();
        let reply = answer.as_ref().map(|answer| Reply::decode(answer).expect("the tree answers whole heads"));
        let Some(conn) = self.conns.get(&id) else {
            // Nobody will use it; it would only be in the way until it expires.
            if reply.is_some_and(|reply| reply.err == ErrorCode::Ok.number()) {
                self.port.propose(machine::close_session(session), Waits::Move { conn: id });
            }
            return;
        };
        let timeout_ms = self.config.clamp(conn.hello.timeout_ms);
        match reply {
            Some(reply) if reply.err == ErrorCode::Ok.number() => {
                self.zxid = self.zxid.max(reply.zxid);
                self.establish(now, id, session, timeout_ms, false);
            }
            Some(reply) if reply.err == ErrorCode::NodeExists.number() && tries > 0 => self.open(id, tries),
            _ => self.close(id),
        }
    }

    /// A session was taken over.
    pub(super) fn on_moved_here(&mut self, now: Now, id: ConnId, result: Result<Bytes, Failure>) {
        let Some(conn) = self.conns.get(&id) else { return };
        let Ok(answer) = result else { return self.close(id) };
        let reply = Reply::decode(&answer).expect("the tree answers whole heads");
        self.zxid = self.zxid.max(reply.zxid);
        let session = conn.hello.session;
        match i32::from_bytes(reply.body) {
            Ok(timeout_ms) if reply.err == ErrorCode::Ok.number() => {
                self.stats.revalidated += 1;
                self.establish(now, id, session, timeout_ms, false);
            }
            _ => self.refuse(id),
        }
    }

    /// The connection serves the session from here on; whoever did so before is closed.
    fn establish(&mut self, now: Now, id: ConnId, session: i64, timeout_ms: i32, local: bool) {
        let before = match self.locals.get(&session) {
            Some(local) => local.conn,
            None => self.seats.get(&session).copied(),
        };
        if let Some(before) = before.filter(|before| *before != id) {
            self.close(before);
        }
        let password = match self.conns[&id].hello.session {
            0 => self.password(session).to_vec(),
            _ => self.conns[&id].hello.password.clone(),
        };
        let conn = self.conns.get_mut(&id).expect("the caller found it");
        conn.phase = Phase::Open;
        (conn.session, conn.timeout_ms, conn.local, conn.zxid) = (session, timeout_ms, local, self.zxid);
        conn.figures.sent += 1;
        self.stats.sent += 1;
        let body = ConnectResponseBody { protocol: 0, timeout: timeout_ms, session, password: Some(&password) };
        let read_only = conn.hello.read_only.map(|_| conn.read_only);
        if local {
            self.locals.insert(session, Local { timeout_ms, conn: Some(id), heard: now.mono });
        } else if !conn.read_only {
            self.seats.insert(session, id);
        }
        self.port.greet(id, &ConnectResponse { body, read_only });
        self.settle(now, id);
    }

    /// The session is gone.
    fn refuse(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(&id) else { return };
        let body = ConnectResponseBody { protocol: 0, timeout: 0, session: 0, password: Some(&[0; 16]) };
        let read_only = conn.hello.read_only.map(|_| conn.read_only);
        self.port.greet(id, &ConnectResponse { body, read_only });
        self.close(id);
    }
}
