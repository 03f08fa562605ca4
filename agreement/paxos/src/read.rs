//! Barriers: reads that see every value decided before them.
//!
//! - upon a barrier at the leader of ballot b, once its own first noop is decided: it notes its decided index and waits
//!   for a round of heartbeats that begins afterwards. When a majority answered that it promised nothing above b, no
//!   other leader can have decided anything before the barrier began, for that takes a majority that did;
//! - upon a barrier at anyone else: it goes to the leader under a nonce, and the answer's index comes back;
//! - upon a leader that resigns, a leader that changes, or a timeout: the barrier fails, and the caller asks again.
//!
//! Barriers that come while a round is under way share the next one. Deliberately absent: leases.

use std::collections::{BTreeMap, VecDeque};

use verity_contract::{Barrier, BarrierId, Output};
use verity_types::{LogIndex, Mono, NodeId};

use crate::Error;
use crate::engine::{Leave, Paxos};
use crate::message::{Frame, Nonce};

/// Barriers that may wait on one node; above it they fail at once.
const READS_MAX: usize = 1 << 16;

#[derive(Clone, Copy, Debug)]
enum Asker {
    Here(BarrierId),
    There(NodeId, Nonce),
}

/// A barrier at a leader.
#[derive(Debug)]
struct Led {
    asker: Asker,
    at: Mono,
    index: u64,
    /// The round that must be answered.
    round: u64,
}

/// Barriers that wait.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    seq: u64,
    /// Sent to the leader.
    asked: BTreeMap<u64, (BarrierId, Mono)>,
    /// At a leader that has not decided its own first noop.
    early: VecDeque<(Asker, Mono)>,
    led: VecDeque<Led>,
}

impl Reads {
    fn count(&self) -> usize {
        self.asked.len() + self.early.len() + self.led.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    pub(crate) fn invariants(&self) {
        assert!(self.count() <= READS_MAX, "barriers are bounded");
        let rounds = self.led.iter().map(|read| read.round);
        assert!(rounds.clone().zip(rounds.skip(1)).all(|(a, b)| a <= b), "barriers wait in the order of their rounds");
    }
}

impl Paxos {
    fn answer(&mut self, asker: Asker, index: Option<u64>) {
        match asker {
            Asker::Here(id) => self.ready.push(match index {
                Some(index) => Output::ReadReady { id, index: LogIndex(index) },
                None => Output::ReadFailed(id),
            }),
            Asker::There(node, nonce) => self.send(node, Frame::ReadReply { nonce, index }, Leave::Now),
        }
    }

    fn begin_read(&mut self, asker: Asker) {
        if self.reads.count() >= READS_MAX {
            return self.answer(asker, None);
        }
        if self.leads() {
            self.wake(true);
            self.reads.early.push_back((asker, self.now));
            return;
        }
        match (asker, self.leader) {
            (Asker::Here(id), Some(leader)) => {
                self.reads.seq += 1;
                self.reads.asked.insert(self.reads.seq, (id, self.now));
                let nonce = Nonce { incarnation: self.incarnation.0, seq: self.reads.seq };
                self.send(leader.node(), Frame::ReadRequest(nonce), Leave::Now);
            }
            _ => self.answer(asker, None),
        }
    }

    pub(crate) fn on_read_request(&mut self, from: NodeId, nonce: Nonce) -> Result<(), Error> {
        self.begin_read(Asker::There(from, nonce));
        Ok(())
    }

    pub(crate) fn on_read_reply(&mut self, from: NodeId, nonce: Nonce, index: Option<u64>) -> Result<(), Error> {
        if nonce.incarnation != self.incarnation.0 {
            return Ok(());
        }
        let Some((id, _)) = self.reads.asked.remove(&nonce.seq) else { return Ok(()) };
        if let (Some(index), Some(leader)) = (index, self.leader.filter(|leader| leader.node() == from)) {
            self.learn_from_leader(from, leader, index);
        }
        self.answer(Asker::Here(id), index);
        Ok(())
    }

    /// Everything that barriers at a leader can do now.
    pub(crate) fn pump_reads(&mut self) {
        let Some(noop) = self.lead.as_ref().and_then(|lead| lead.noop) else { return };
        if self.decided >= noop && !self.reads.early.is_empty() {
            let under_way = self.reads.led.back().is_some_and(|read| read.round >= self.round);
            if !under_way {
                self.begin_round();
            }
            let (round, index) = (self.round + u64::from(under_way), self.decided);
            let early = std::mem::take(&mut self.reads.early).into_iter();
            self.reads.led.extend(early.map(|(asker, at)| Led { asker, at, index, round }));
        }
        loop {
            let confirmed = self.confirmed_round();
            while self.reads.led.front().is_some_and(|read| read.round <= confirmed) {
                let read = self.reads.led.pop_front().expect("seen above");
                self.answer(read.asker, Some(read.index));
            }
            // The next round is due once nobody waits for the one under way.
            if self.reads.led.front().is_none_or(|read| read.round <= self.round) {
                return;
            }
            self.begin_round();
        }
    }

    /// The last round that a majority answered.
    fn confirmed_round(&self) -> u64 {
        let round = |node: &NodeId| match self.peers.get(node) {
            _ if *node == self.id => self.round,
            peer => peer.map_or(0, |peer| peer.round),
        };
        let mut rounds: Vec<u64> = self.members.voters.iter().map(round).collect();
        rounds.sort_unstable_by(|a, b| b.cmp(a));
        rounds.get(rounds.len() / 2).copied().unwrap_or(0)
    }

    /// This node no longer leads.
    pub(crate) fn fail_led(&mut self) {
        let early = std::mem::take(&mut self.reads.early).into_iter().map(|(asker, _)| asker);
        let led = std::mem::take(&mut self.reads.led).into_iter().map(|read| read.asker);
        early.chain(led).for_each(|asker| self.answer(asker, None));
    }

    /// The leader that was asked is no longer the one.
    pub(crate) fn fail_asked(&mut self) {
        for (id, _) in std::mem::take(&mut self.reads.asked).into_values() {
            self.answer(Asker::Here(id), None);
        }
    }

    pub(crate) fn expire_reads(&mut self) {
        let (now, patience) = (self.now, self.config.barrier_timeout);
        let late = |at: Mono| now >= at + patience;
        let mut failed = Vec::new();
        self.reads.asked.retain(|_, (id, at)| {
            failed.extend(late(*at).then_some(Asker::Here(*id)));
            !late(*at)
        });
        self.reads.early.retain(|(asker, at)| {
            failed.extend(late(*at).then_some(*asker));
            !late(*at)
        });
        self.reads.led.retain(|read| {
            failed.extend(late(read.at).then_some(read.asker));
            !late(read.at)
        });
        failed.into_iter().for_each(|asker| self.answer(asker, None));
    }
}

impl Barrier for Paxos {
    fn on_barrier(&mut self, now: Mono, id: BarrierId, out: &mut Vec<Output>) {
        self.begin(now);
        self.wake(true);
        self.begin_read(Asker::Here(id));
        self.settle(out);
    }
}
