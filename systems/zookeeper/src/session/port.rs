//! Where everything leaves: outputs in order, replies of one call to one connection as one write, tokens of what is
//! still to be answered.

use bytes::{BufMut as _, Bytes, BytesMut};
use hashbrown::HashMap;
use verity_contract::{Consistency, SessionOutput};
use verity_types::{ConnId, GroupId, Mono, Token};

use super::hash::Seeded;
use super::inspect::Question;
use crate::wire::{ConnectResponse, Encode as _, ErrorCode, EventType, KeeperState, length_of, xid};

/// Replies are cut from pieces of this size, so that a small one costs no allocation.
const ARENA_SIZE: usize = 32 << 10;

/// How a request went out, which decides what waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A proposal.
    Write,
    /// A read that a later write of the same connection made a proposal.
    Logged,
    /// A barrier.
    Sync,
    /// A local read.
    Read,
    /// A linearizable read.
    Linearizable,
}

/// What an answer is for.
#[derive(Clone, Debug)]
pub(super) enum Waits {
    /// A client's request.
    Slot { conn: ConnId, seq: u64, way: Way },
    /// A connect: is the session known, is this node as far as the client? `again` says that a barrier came before it.
    Look { conn: ConnId, again: bool },
    /// A connect: a session of this id is created.
    Open { conn: ConnId, session: i64, tries: u8 },
    /// A connect: the session is taken over.
    Move { conn: ConnId },
    /// A local session becomes a global one.
    Upgrade { conn: ConnId },
    /// The state jumped: what did this connection's watches miss?
    Restore { conn: ConnId },
    /// The state jumped: is this connection's session still this node's?
    Recheck { conn: ConnId },
    /// A four-letter word or an administrator's query.
    Inspect(Box<Question>),
}

/// The way out.
#[derive(Debug)]
pub(super) struct Port {
    group: GroupId,
    pub(super) out: Vec<SessionOutput>,
    arena: BytesMut,
    current: Option<ConnId>,
    pending: HashMap<u64, Waits, Seeded>,
    next_token: u64,
}

impl Port {
    pub(super) fn new(group: GroupId, seed: u64) -> Self {
        Self {
            group,
            out: Vec::new(),
            arena: BytesMut::new(),
            current: None,
            pending: HashMap::with_hasher(Seeded(seed)),
            next_token: 0,
        }
    }

    fn wait(&mut self, waits: Waits) -> Token {
        self.next_token += 1;
        self.pending.insert(self.next_token, waits);
        Token(self.next_token)
    }

    /// What this answer is for.
    pub(super) fn answered(&mut self, token: Token) -> Option<Waits> {
        self.pending.remove(&token.0)
    }

    pub(super) fn propose(&mut self, command: Bytes, waits: Waits) {
        let token = self.wait(waits);
        self.out.push(SessionOutput::Propose { token, group: self.group, command: command.into() });
    }

    pub(super) fn read(&mut self, query: Bytes, consistency: Consistency, waits: Waits) {
        let token = self.wait(waits);
        self.out.push(SessionOutput::Read { token, group: self.group, query, consistency });
    }

    /// Asks how the group is on this node.
    pub(super) fn inspect(&mut self, waits: Waits) {
        let token = self.wait(waits);
        self.out.push(SessionOutput::Inspect { token, group: self.group });
    }

    pub(super) fn whisper(&mut self, bytes: Bytes) {
        self.out.push(SessionOutput::Whisper { group: self.group, bytes });
    }

    pub(super) fn wake(&mut self, at: Mono) {
        self.out.push(SessionOutput::Wake(at));
    }

    pub(super) fn push(&mut self, output: SessionOutput) {
        self.cut();
        self.out.push(output);
    }

    /// Room for `size` bytes to this connection.
    fn room(&mut self, conn: ConnId, size: usize) -> &mut BytesMut {
        if self.current != Some(conn) {
            self.cut();
            self.current = Some(conn);
        }
        if self.arena.capacity() - self.arena.len() < size {
            self.arena.reserve(size.max(ARENA_SIZE));
        }
        &mut self.arena
    }

    /// Ends the write under way.
    pub(super) fn cut(&mut self) {
        if let Some(conn) = self.current.take()
            && !self.arena.is_empty()
        {
            let bytes = self.arena.split().freeze();
            self.out.push(SessionOutput::Bytes { conn, bytes });
        }
    }

    /// Writes one reply; its size.
    pub(super) fn reply(&mut self, conn: ConnId, xid: i32, zxid: i64, err: i32, body: &[u8]) -> usize {
        let size = 16 + body.len();
        let room = self.room(conn, size + 4);
        room.put_i32(length_of(size));
        room.put_i32(xid);
        room.put_i64(zxid);
        room.put_i32(err);
        room.put_slice(body);
        size
    }

    /// Writes one watch event.
    pub(super) fn event(&mut self, conn: ConnId, kind: EventType, path: &[u8]) {
        let size = 16 + 4 + 4 + 4 + path.len();
        let room = self.room(conn, size + 4);
        room.put_i32(length_of(size));
        room.put_i32(xid::NOTIFICATION);
        room.put_i64(-1);
        room.put_i32(ErrorCode::Ok.number());
        // A client tells its read-only state from the connect's answer; events always say this.
        room.put_i32(kind.number());
        room.put_i32(KeeperState::SyncConnected.number());
        room.put_i32(length_of(path.len()));
        room.put_slice(path);
    }

    /// Writes the answer to a connect.
    pub(super) fn greet(&mut self, conn: ConnId, response: &ConnectResponse<'_>) {
        let bytes = response.to_bytes();
        let room = self.room(conn, bytes.len() + 4);
        room.put_i32(length_of(bytes.len()));
        room.put_slice(&bytes);
    }

    /// Writes text as it is.
    pub(super) fn text(&mut self, conn: ConnId, text: &str) {
        self.room(conn, text.len()).put_slice(text.as_bytes());
    }

    /// Closes behind what was written.
    pub(super) fn close(&mut self, conn: ConnId) {
        self.push(SessionOutput::Close(conn));
    }

    pub(super) fn invariants(&self) {
        assert!(self.out.is_empty() && self.current.is_none() && self.arena.is_empty(), "a call leaves nothing behind");
    }
}
