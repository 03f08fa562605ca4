//! One client's connection: requests in, answers out, in order.
//!
//! - upon a request that may share the connection with others ([`may_overlap`]): it begins at once, as long as those that
//!   are under way may too and are fewer than [`UNDER_WAY_MAX`];
//! - upon any other: it begins when all before it are answered, and those behind it wait for it;
//! - upon an answer: it leaves when all before it have left;
//! - upon too much that waits: the node reads no further until there is room.
//!
//! Deliberately absent: what requests do.

use std::collections::VecDeque;

use verity_contract::{Peer, SessionOutput};
use verity_types::{ConnId, Mono};

use super::sasl::Authentication;
use crate::wire::{Blob, Frames, Request, RequestHeader};

/// No connection has more requests under way at once.
pub(super) const UNDER_WAY_MAX: usize = 256;
/// Nor more bytes of them, but for one request.
pub(super) const BYTES_UNDER_WAY_MAX: usize = 32 << 20;
/// No connection is read further while so many requests wait to begin,
const WAITING_MAX: usize = 64;
/// or so many bytes of them, but for one request.
const BYTES_WAITING_MAX: usize = 1 << 20;

/// A request that waits to begin.
pub(super) struct Waiting {
    pub(super) header: RequestHeader,
    pub(super) request: Request,
    /// Its frame, in bytes.
    pub(super) size: usize,
    /// When its frame was whole.
    pub(super) came: Mono,
}

/// An answer's place.
enum Slot {
    /// The request, of so many bytes, is under way.
    Open(usize),
    /// Here it is, in pieces.
    Filled(Vec<Blob>),
}

/// A connection.
pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) frames: Frames,
    pub(super) authentication: Authentication,
    /// The client's software and its version, as it says itself.
    pub(super) software: (String, String),
    waiting: VecDeque<Waiting>,
    bytes_waiting: usize,
    slots: VecDeque<Slot>,
    /// The number of the first slot.
    first: u64,
    under_way: usize,
    bytes_under_way: usize,
    /// One is under way that shares the connection with no other.
    alone: bool,
    paused: bool,
    /// Nothing more is read: the connection ends when what is under way is answered.
    pub(super) closing: bool,
}

/// A piece of an answer, to be written.
pub(super) fn written(conn: ConnId, piece: Blob) -> SessionOutput {
    match piece {
        Blob::Memory(bytes) => SessionOutput::Bytes { conn, bytes },
        Blob::File(range) => SessionOutput::FileRange { conn, range },
    }
}

/// May a request be under way beside others of its connection? Only what is placed in its order before it first waits.
pub(super) fn may_overlap(request: &Request) -> bool {
    match request {
        Request::Produce(produce) => produce.transactional_id.is_none(),
        _ => false,
    }
}

impl Connection {
    pub(super) fn new(peer: Peer, authentication: Authentication, frames: Frames) -> Self {
        Self {
            peer,
            frames,
            authentication,
            software: Default::default(),
            waiting: VecDeque::new(),
            bytes_waiting: 0,
            slots: VecDeque::new(),
            first: 0,
            under_way: 0,
            bytes_under_way: 0,
            alone: false,
            paused: false,
            closing: false,
        }
    }

    /// Takes a request in.
    pub(super) fn push(&mut self, waiting: Waiting) {
        self.bytes_waiting += waiting.size;
        self.waiting.push_back(waiting);
    }

    /// The size of the next request, if it may begin.
    pub(super) fn next_size(&self) -> Option<usize> {
        let next = self.waiting.front()?;
        let room = self.under_way < UNDER_WAY_MAX && self.bytes_under_way < BYTES_UNDER_WAY_MAX;
        let free = may_overlap(&next.request) && !self.alone && room || self.under_way == 0;
        free.then_some(next.size)
    }

    /// The next request that may begin, and the place of its answer.
    pub(super) fn begin(&mut self) -> Option<(u64, Waiting)> {
        self.next_size()?;
        let overlaps = may_overlap(&self.waiting.front()?.request);
        let waiting = self.waiting.pop_front()?;
        self.bytes_waiting -= waiting.size;
        self.under_way += 1;
        self.bytes_under_way += waiting.size;
        self.alone = !overlaps;
        self.slots.push_back(Slot::Open(waiting.size));
        Some((self.first + self.slots.len() as u64 - 1, waiting))
    }

    /// A request has its answer, or has none to give; what may leave now goes to `out`.
    pub(super) fn answer(&mut self, conn: ConnId, slot: u64, pieces: Vec<Blob>, out: &mut Vec<SessionOutput>) {
        let at = usize::try_from(slot - self.first).expect("a connection has fewer slots than memory");
        if let Slot::Open(size) = std::mem::replace(&mut self.slots[at], Slot::Filled(pieces)) {
            self.bytes_under_way -= size;
        }
        self.under_way -= 1;
        self.alone = false;
        while let Some(Slot::Filled(pieces)) = self.slots.front_mut() {
            let pieces = std::mem::take(pieces);
            out.extend(pieces.into_iter().map(|piece| written(conn, piece)));
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// Whether the node is to read on, if that has changed.
    pub(super) fn turn(&mut self, conn: ConnId, out: &mut Vec<SessionOutput>) {
        if !self.paused && self.is_full() {
            self.paused = true;
            out.push(SessionOutput::Pause(conn));
        } else if self.paused && self.waiting.len() <= WAITING_MAX / 2 && !self.is_full() {
            self.paused = false;
            out.push(SessionOutput::Resume(conn));
        }
    }

    /// No more frames are to be taken in until there is room.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX || self.bytes_waiting >= BYTES_WAITING_MAX
    }

    /// Everything that was asked is answered.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.slots.is_empty()
    }

    /// Drops what has not begun.
    pub(super) fn forget_waiting(&mut self) {
        self.waiting.clear();
        self.bytes_waiting = 0;
    }

    pub(super) fn invariants(&self) {
        let open = self.slots.iter().filter(|slot| matches!(slot, Slot::Open(_))).count();
        assert_eq!(open, self.under_way, "a request under way has a slot");
        assert!(self.under_way <= UNDER_WAY_MAX, "requests under way are bounded");
        assert!(!self.alone || self.under_way == 1, "who wants no other has none");
    }
}
