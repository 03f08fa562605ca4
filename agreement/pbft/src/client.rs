//! The client's part (PBFT §4.1): this node asks on behalf of those who are connected to it.
//!
//! - upon a proposal: it is signed, with a timestamp that no other request of this client has, and sent to the primary, or to
//!   all by a replica that has left its view;
//! - upon `request_timeout` without its execution: it is sent to all replicas, and again after each such time;
//! - upon another view: what waits is sent to its primary;
//! - upon its execution: it is let go; a barrier among them is answered with the index.
//!
//! A barrier is a request for nothing: it is executed behind everything that was executed anywhere when it was asked for,
//! and no liar can say that it was.
//!
//! Deliberately absent: the f + 1 equal replies that a client waits for. Whoever runs the machines compares those.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use verity_contract::{BarrierId, Output};
use verity_types::{LogIndex, Mono, NodeId};

use crate::engine::{Leave, Pbft};
use crate::keys::Sig;
use crate::message::{MAX_OPERATION_BYTES, Message, Request};

/// How many requests that wait are sent again at once.
const AGAIN_MAX: usize = 256;

#[derive(Debug)]
struct Pending {
    request: Request,
    /// When the primary was first asked.
    since: Mono,
    sent_at: Mono,
    /// True once it was sent to all.
    to_all: bool,
}

/// What this node has asked for.
#[derive(Debug, Default)]
pub(crate) struct Client {
    pub(crate) incarnation: u64,
    last: u64,
    /// The last one that was seen in a batch of this view.
    assigned: u64,
    pending: VecDeque<Pending>,
    bytes: usize,
    barriers: BTreeMap<u64, Vec<(BarrierId, Mono)>>,
}

impl Client {
    pub(crate) fn new(incarnation: u64) -> Self {
        Self { incarnation, ..Self::default() }
    }

    /// Another view begins: what was assigned in the last one is to be assigned anew.
    pub(crate) fn leave_view(&mut self) {
        self.assigned = 0;
    }

    /// A request is in a batch that the primary assigned.
    pub(crate) fn on_assigned(&mut self, me: NodeId, request: &Request) {
        if request.client == me && request.incarnation == self.incarnation {
            self.assigned = self.assigned.max(request.seq);
        }
    }

    /// Since when the oldest request waits that is in no batch.
    pub(crate) fn unassigned_since(&self) -> Option<Mono> {
        let first = self.pending.front()?.request.seq;
        let at = usize::try_from((self.assigned + 1).saturating_sub(first)).ok()?;
        self.pending.get(at).map(|pending| pending.since)
    }

    /// True while something that was asked for here is not executed.
    pub(crate) fn waits(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What this node endorsed last, if it waits to be executed.
    pub(crate) fn last_endorsement(&self) -> Option<&Bytes> {
        let all = self.pending.iter().rev().map(|pending| &pending.request);
        all.into_iter().find(|request| request.endorses).map(|request| &request.op)
    }

    pub(crate) fn invariants(&self) {
        assert_eq!(self.bytes, self.pending.iter().map(|pending| pending.request.op.len()).sum::<usize>());
        let numbers = self.pending.iter().map(|pending| pending.request.seq);
        assert!(numbers.clone().zip(numbers.skip(1)).all(|(a, b)| a + 1 == b), "requests wait without gaps");
    }
}

impl Pbft {
    pub(crate) fn on_propose(&mut self, op: Bytes) {
        if !self.votes() || self.is_full(op.len()) || op.len() > MAX_OPERATION_BYTES {
            self.ready.push(Output::Refused(op));
        } else {
            self.ask(op, false);
        }
    }

    /// True if so many bytes more have no room here.
    pub(crate) fn is_full(&self, bytes: usize) -> bool {
        let (room, waits) = (self.room(), self.client.pending.len());
        waits > 0 && (waits >= room.requests / 2 || self.client.bytes + bytes > room.bytes / 2)
    }

    /// Signs and sends a request.
    pub(crate) fn ask(&mut self, op: Bytes, endorses: bool) -> u64 {
        self.client.last += 1;
        let seq = self.client.last;
        let incarnation = self.client.incarnation;
        let unsigned = Request { client: self.id, incarnation, seq, endorses, op, sig: Sig([0; 64]) };
        let request = Request { sig: self.keys.sign(self.scope.request(&unsigned)), ..unsigned };
        self.client.bytes += request.op.len();
        let (since, sent_at) = (self.now, self.now);
        self.client.pending.push_back(Pending { request: request.clone(), since, sent_at, to_all: false });
        let room = self.room();
        self.queue.put(request.clone(), None, room);
        if self.entered {
            self.send(self.primary(), &Message::Request(request), Leave::Now);
        } else {
            // Whoever leads the others finds it.
            self.broadcast(&Message::Request(request), Leave::Now);
        }
        seq
    }

    pub(crate) fn on_barrier_wish(&mut self, id: BarrierId) {
        if !self.votes() || self.client.pending.len() >= self.room().requests / 2 {
            return self.ready.push(Output::ReadFailed(id));
        }
        let seq = self.ask(Bytes::new(), false);
        self.client.barriers.entry(seq).or_default().push((id, self.now));
    }

    /// A request of this node's own was executed at `n`.
    pub(crate) fn on_own_executed(&mut self, incarnation: u64, seq: u64, n: u64) {
        if incarnation != self.client.incarnation {
            return;
        }
        while self.client.pending.front().is_some_and(|pending| pending.request.seq <= seq) {
            let gone = self.client.pending.pop_front().expect("seen above");
            self.client.bytes -= gone.request.op.len();
        }
        for (id, _) in self.client.barriers.remove(&seq).into_iter().flatten() {
            self.ready.push(Output::ReadReady { id, index: LogIndex(n) });
        }
    }

    /// A snapshot took the place of what would have been executed: what was asked for up to there is over.
    pub(crate) fn skip_own(&mut self) {
        let Some((incarnation, seq)) = self.context.clients.get(&self.id).copied() else { return };
        let n = self.handed;
        if incarnation == self.client.incarnation {
            let asked: Vec<u64> = self.client.barriers.range(..=seq).map(|(seq, _)| *seq).collect();
            asked.into_iter().for_each(|seq| self.on_own_executed(incarnation, seq, n));
            self.on_own_executed(incarnation, seq, n);
        }
    }

    /// Sends what waits to the primary of a view that has begun.
    pub(crate) fn ask_again(&mut self) {
        let primary = self.primary();
        let again: Vec<Request> =
            self.client.pending.iter().take(AGAIN_MAX).map(|pending| pending.request.clone()).collect();
        let others = self.queue.watched(AGAIN_MAX).filter(|request| request.client != self.id);
        let others: Vec<Request> = others.cloned().collect();
        for request in again.into_iter().chain(others) {
            self.send(primary, &Message::Request(request), Leave::Now);
        }
        let now = self.now;
        self.client.pending.iter_mut().take(AGAIN_MAX).for_each(|pending| pending.sent_at = now);
    }

    pub(crate) fn tick_client(&mut self) {
        let (now, timeout) = (self.now, self.config.request_timeout);
        self.fail_barriers();
        if !self.members.contains(self.id) {
            return;
        }
        let mut again = Vec::new();
        for pending in self.client.pending.iter_mut().take(AGAIN_MAX) {
            if now.since(pending.sent_at) >= timeout {
                (pending.sent_at, pending.to_all) = (now, true);
                again.push(pending.request.clone());
            }
        }
        for request in again {
            self.queue.watch(now, request.client, request.incarnation, request.seq);
            self.broadcast(&Message::Request(request), Leave::Now);
        }
    }

    /// This node is no member any more: nobody orders what it asks.
    pub(crate) fn fail_all_barriers(&mut self) {
        let all = std::mem::take(&mut self.client.barriers).into_values().flatten();
        self.ready.extend(all.map(|(id, _)| Output::ReadFailed(id)));
    }

    fn fail_barriers(&mut self) {
        let (now, timeout) = (self.now, self.config.barrier_timeout);
        for list in self.client.barriers.values_mut() {
            for (id, _) in list.extract_if(.., |(_, since)| now.since(*since) >= timeout) {
                self.ready.push(Output::ReadFailed(id));
            }
        }
        self.client.barriers.retain(|_, list| !list.is_empty());
    }

    /// A replica's part: a request came, from its client or from a replica that passes it on.
    pub(crate) fn on_request(&mut self, from: NodeId, request: Request) -> Result<(), crate::Error> {
        let room = self.room();
        if !self.members.contains(request.client) || !self.queue.wants(&self.context, &request, room) {
            let (client, incarnation, seq) = (request.client, request.incarnation, request.seq);
            // It waits already, and its client asks again: from now on the primary is watched.
            if !self.is_primary() {
                self.queue.watch(self.now, client, incarnation, seq);
            }
            return Ok(());
        }
        if self.is_primary() && from == request.client {
            self.queue.put_open(request, room);
            return Ok(());
        }
        self.check_request(from, &request)?;
        let since = (!self.is_primary()).then_some(self.now);
        if since.is_some() && self.entered {
            self.send(self.primary(), &Message::Request(request.clone()), Leave::Now);
        }
        self.queue.put(request, since, room);
        Ok(())
    }
}
