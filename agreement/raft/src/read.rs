//! Barriers: linearizable reads without a write (Raft §8, dissertation §6.4).
//!
//! - upon a barrier on a leader that committed an entry of its term: the commit index is the read index. It is
//!   answered at once under a lease, otherwise when a round of heartbeats begun from now on is confirmed;
//! - upon a barrier on a leader that did not: it waits for that entry;
//! - upon a barrier on a follower: it asks the leader, and takes the answer that carries its own nonce;
//! - upon loss of the leader, a new term, or `Config::barrier_timeout`: it fails.
//!
//! One round answers all barriers that came before it: while a round is on its way, barriers wait for the next.

use std::collections::VecDeque;

use verity_contract::{BarrierId, Output};
use verity_types::{LogIndex, Mono, NodeId};

use crate::engine::Raft;
use crate::message::{Frame, Nonce};

/// The most barriers that one group keeps waiting, per direction.
const PENDING_MAX: usize = 4_096;

/// Who waits for a barrier on the leader.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker {
    Here(BarrierId),
    Peer(NodeId, Nonce),
}

#[derive(Debug)]
struct Pending {
    asker: Asker,
    /// The read index and the first round that confirms it; unknown until an entry of the term is committed.
    index: Option<(u64, u64)>,
    deadline: Mono,
}

#[derive(Debug)]
struct Forwarded {
    id: BarrierId,
    nonce: Nonce,
    to: NodeId,
    deadline: Mono,
}

/// The barriers of one node.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    pending: VecDeque<Pending>,
    forwarded: VecDeque<Forwarded>,
    seq: u64,
}

impl Reads {
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.forwarded.is_empty()
    }

    pub(crate) fn invariants(&self) {
        assert!(self.pending.len() <= PENDING_MAX && self.forwarded.len() <= PENDING_MAX, "barriers are bounded");
    }
}

impl Raft {
    /// A barrier of this node.
    pub(crate) fn begin_read(&mut self, now: Mono, id: BarrierId, out: &mut Vec<Output>) {
        if self.leads() {
            return self.lead_read(now, Asker::Here(id), out);
        }
        let leader = self.node.raft.leader_id;
        if leader == 0 || self.reads.forwarded.len() == PENDING_MAX {
            return out.push(Output::ReadFailed(id));
        }
        self.reads.seq += 1;
        let nonce = Nonce { incarnation: self.incarnation.0, seq: self.reads.seq };
        let deadline = now + self.config.barrier_timeout;
        self.reads.forwarded.push_back(Forwarded { id, nonce, to: NodeId(leader), deadline });
        self.send(NodeId(leader), &Frame::ReadRequest(nonce), None, out);
    }

    fn lead_read(&mut self, now: Mono, asker: Asker, out: &mut Vec<Output>) {
        let committed = self.node.raft.raft_log.committed;
        if self.node.raft.commit_to_current_term() && self.rounds.leased(now, self.config.lease_span()) {
            return self.answer_read(asker, Some(committed), out);
        }
        if self.reads.pending.len() == PENDING_MAX {
            return self.answer_read(asker, None, out);
        }
        let deadline = now + self.config.barrier_timeout;
        self.reads.pending.push_back(Pending { asker, index: None, deadline });
        self.pump_reads(now, out);
    }

    /// A follower asks.
    pub(crate) fn on_read_request(&mut self, now: Mono, from: NodeId, nonce: Nonce, out: &mut Vec<Output>) {
        if self.leads() && self.knows(from) {
            self.lead_read(now, Asker::Peer(from, nonce), out);
        } else {
            self.answer_read(Asker::Peer(from, nonce), None, out);
        }
    }

    /// The leader answers.
    pub(crate) fn on_read_reply(&mut self, from: NodeId, nonce: Nonce, index: Option<u64>, out: &mut Vec<Output>) {
        let Some(at) = self.reads.forwarded.iter().position(|read| read.nonce == nonce && read.to == from) else {
            return;
        };
        let read = self.reads.forwarded.remove(at).expect("found above");
        out.push(match index {
            Some(index) => Output::ReadReady { id: read.id, index: LogIndex(index) },
            None => Output::ReadFailed(read.id),
        });
    }

    fn answer_read(&mut self, asker: Asker, index: Option<u64>, out: &mut Vec<Output>) {
        match (asker, index) {
            (Asker::Here(id), Some(index)) => out.push(Output::ReadReady { id, index: LogIndex(index) }),
            (Asker::Here(id), None) => out.push(Output::ReadFailed(id)),
            (Asker::Peer(to, nonce), index) => self.send(to, &Frame::ReadReply { nonce, index }, None, out),
        }
    }

    /// Answers what is confirmed, and begins a round if somebody waits for one.
    pub(crate) fn pump_reads(&mut self, now: Mono, out: &mut Vec<Output>) {
        if !self.leads() || self.reads.pending.is_empty() || !self.node.raft.commit_to_current_term() {
            return;
        }
        let committed = self.node.raft.raft_log.committed;
        // A round that began in this step began behind the barriers that are here: its heartbeats have not left yet.
        let next = self.round.unwrap_or_else(|| self.rounds.next());
        for read in self.reads.pending.iter_mut().filter(|read| read.index.is_none()) {
            read.index = Some((committed, next));
        }
        let oldest = self.reads.pending.front().and_then(|read| read.index).map_or(next, |(_, round)| round);
        if !self.rounds.under_way(oldest) {
            self.begin_round(now);
            self.node.ping();
        }
        self.rounds.confirm(self.id, &self.members);
        while let Some(read) = self.reads.pending.front() {
            let Some((index, round)) = read.index else { break };
            if !self.rounds.confirmed(round) {
                break;
            }
            let asker = read.asker;
            self.reads.pending.pop_front();
            self.answer_read(asker, Some(index), out);
        }
    }

    /// This node stopped leading, or follows another leader or term.
    pub(crate) fn fail_reads(&mut self, out: &mut Vec<Output>) {
        for read in std::mem::take(&mut self.reads.pending) {
            self.answer_read(read.asker, None, out);
        }
        for read in std::mem::take(&mut self.reads.forwarded) {
            out.push(Output::ReadFailed(read.id));
        }
    }

    /// Fails what waited for too long.
    pub(crate) fn expire_reads(&mut self, now: Mono, out: &mut Vec<Output>) {
        while self.reads.pending.front().is_some_and(|read| read.deadline <= now) {
            let read = self.reads.pending.pop_front().expect("seen above");
            self.answer_read(read.asker, None, out);
        }
        while self.reads.forwarded.front().is_some_and(|read| read.deadline <= now) {
            let read = self.reads.forwarded.pop_front().expect("seen above");
            out.push(Output::ReadFailed(read.id));
        }
    }
}
