//! One connection: how far its handshake is, who it is, what it waits for.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use verity_contract::Peer;
use verity_types::Mono;

use super::sasl::Exchange;
use super::stats::Latency;
use crate::machine::encode_ids;
use crate::wire::{ConnectRequest, Id};

/// Passwords are 16 bytes; no more of a longer one is kept.
const PASSWORD_SIZE_MAX: usize = 64;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing, or not enough, has come.
    Fresh,
    /// It asked to connect; nobody leads yet.
    Held,
    /// It asked to connect, or said a word; an answer is awaited.
    Asking,
    /// It has a session.
    Open,
}

/// What a connect asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Hello {
    pub(super) last_zxid: i64,
    pub(super) timeout_ms: i32,
    pub(super) session: i64,
    pub(super) password: Vec<u8>,
    /// `None`: an old client, which does not know of it.
    pub(super) read_only: Option<bool>,
}

impl Hello {
    pub(super) fn of(request: &ConnectRequest<'_>) -> Self {
        let password = request.body.password.unwrap_or_default();
        Self {
            last_zxid: request.body.last_zxid_seen,
            timeout_ms: request.body.timeout,
            session: request.body.session,
            password: password[..password.len().min(PASSWORD_SIZE_MAX)].to_vec(),
            read_only: request.read_only,
        }
    }
}

/// What kind of request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Sync,
    /// Of the session alone; the tree is not asked.
    Act,
}

/// What follows the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Reply,
    Watch,
    SetWatches,
    AddWatch,
    CheckWatches,
    RemoveWatches,
    /// The reply waits until the change is made, or cannot be.
    Reconfig,
    Close,
}

/// How far a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Issued,
    /// A reconfig that the tree has taken; this will be its answer.
    Taken {
        body: Bytes,
    },
    Done {
        zxid: i64,
        err: i32,
        body: Bytes,
    },
}

/// One request that is not replied to.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) xid: i32,
    pub(super) op: i32,
    pub(super) at: Mono,
    pub(super) kind: Kind,
    pub(super) then: Then,
    /// The envelope; for [`Kind::Act`] the request's body.
    pub(super) query: Bytes,
    pub(super) state: State,
}

/// Figures of one connection, for `cons`.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) latency: Latency,
    pub(super) last_op: Option<i32>,
    pub(super) last_xid: i32,
    pub(super) last_latency_ms: u64,
    pub(super) last_reply_ms: u64,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) peer: Peer,
    pub(super) phase: Phase,
    pub(super) opened: Mono,
    pub(super) opened_ms: u64,
    pub(super) heard: Mono,
    /// What came and is not decoded yet.
    pub(super) input: BytesMut,
    /// What is left of a packet that was too large.
    pub(super) skip: usize,
    pub(super) hello: Hello,
    /// 0 before there is one.
    pub(super) session: i64,
    pub(super) timeout_ms: i32,
    pub(super) local: bool,
    pub(super) read_only: bool,
    /// It asked for linearizable reads.
    pub(super) linearizable: bool,
    pub(super) ids: Vec<(String, String)>,
    /// The same, as commands carry them.
    pub(super) ids_encoded: Vec<u8>,
    pub(super) sasl: Option<Exchange>,
    /// That of its last reply.
    pub(super) zxid: i64,
    pub(super) slots: VecDeque<Slot>,
    /// The number of the first slot.
    pub(super) first: u64,
    /// The numbers of those that are not issued, in order.
    pub(super) waiting: VecDeque<u64>,
    /// Writes, logged reads and barriers under way: later reads wait for them.
    pub(super) barriers: usize,
    /// Barriers and linearizable reads under way: no read behind them becomes a proposal.
    pub(super) remote_reads: usize,
    /// Linearizable reads under way: later writes wait for them.
    pub(super) linear_reads: usize,
    pub(super) waiting_writes: usize,
    pub(super) paused: bool,
    /// It was heard since the last report.
    pub(super) touched: bool,
    /// It asked to close its session.
    pub(super) closing: bool,
    /// Its session has ended, by its own close or, if that finds no session, before it.
    pub(super) ended: bool,
    pub(super) figures: Figures,
}

impl Conn {
    pub(super) fn new(peer: Peer, now: Mono, now_ms: u64) -> Self {
        let mut conn = Self {
            phase: Phase::Fresh,
            opened: now,
            opened_ms: now_ms,
            heard: now,
            input: BytesMut::new(),
            skip: 0,
            hello: Hello::default(),
            session: 0,
            timeout_ms: 0,
            local: false,
            read_only: false,
            linearizable: false,
            ids: vec![("ip".to_owned(), peer.addr.ip().to_canonical().to_string())],
            ids_encoded: Vec::new(),
            sasl: None,
            zxid: 0,
            slots: VecDeque::new(),
            first: 0,
            waiting: VecDeque::new(),
            barriers: 0,
            remote_reads: 0,
            linear_reads: 0,
            waiting_writes: 0,
            paused: false,
            touched: false,
            closing: false,
            ended: false,
            figures: Figures::default(),
            peer,
        };
        conn.encode_ids();
        conn
    }

    fn encode_ids(&mut self) {
        self.ids_encoded = encode_ids(self.ids());
    }

    /// Who it is.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id<'_>> + Clone {
        self.ids.iter().map(|(scheme, id)| Id { scheme, id })
    }

    /// Gives it one more identity.
    pub(super) fn add_id(&mut self, scheme: &str, id: &str) {
        if !self.ids.iter().any(|(s, i)| s == scheme && i == id) && self.ids.len() < crate::machine::ID_COUNT_MAX {
            self.ids.push((scheme.to_owned(), id.to_owned()));
            self.encode_ids();
        }
    }

    /// May its input be decoded?
    pub(super) fn reads(&self) -> bool {
        !self.paused && !self.closing && matches!(self.phase, Phase::Fresh | Phase::Open)
    }

    /// The request to close its session is on its way.
    pub(super) fn close_issued(&self) -> bool {
        let last = self.slots.back();
        self.closing && last.is_some_and(|slot| slot.then == Then::Close && slot.state == State::Issued)
    }

    pub(super) fn slot(&mut self, seq: u64) -> Option<&mut Slot> {
        let at = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(at)
    }

    pub(super) fn invariants(&self) {
        let waiting = self.slots.iter().filter(|slot| slot.state == State::Waiting).count();
        assert_eq!(waiting, self.waiting.len(), "what waits is listed once");
        let writes = self.slots.iter().filter(|s| s.state == State::Waiting && s.kind == Kind::Write).count();
        assert_eq!(writes, self.waiting_writes);
        assert!(self.linear_reads <= self.remote_reads);
        assert!(self.waiting.iter().is_sorted() && self.waiting.front().is_none_or(|seq| *seq >= self.first));
        let front_done = self.slots.front().is_some_and(|slot| matches!(slot.state, State::Done { .. }));
        assert!(self.ended || !front_done, "what is done at the front was replied to");
    }
}
