//! Who may raise a ballot: an election that looks at connectivity (Ng et al., EuroSys 2023, §5).
//!
//! - upon each heartbeat of a leader: a round of `Ping` and `Pong` with everyone. A leader that hears no majority of
//!   the voters for an election timeout is not quorum-connected: it resigns, and says so by seeking a leader itself;
//! - upon not hearing a leader for an election timeout: a round of `Ping` to all voters. A node is quorum-connected
//!   in the round if a majority answers it; it takes over once a majority, itself included, answers that it hears no
//!   living leader either. Nothing is asked about logs: phase 1 brings what the candidate lacks;
//! - upon `Prepare` of a higher ballot: its owner is waited for, as for a leader;
//! - upon the start of a new group that names its first leader: that node asks at once, and again at each tick for an
//!   election timeout; the others wait as long before they ask;
//! - upon the hint that the leader is gone: the next round comes early. A false hint costs one refused round.
//!
//! Why partial partitions do no harm: a node that is not quorum-connected never completes a round, so it never raises a
//! ballot (quorum-loss). The one node that is, takes over whatever its log lacks (constrained election). A leader that
//! a majority still hears is not replaced by a node that lost it, since the two majorities share a node that hears it
//! (chained); so nodes that do not reach each other cannot take the lead from each other for ever. In OmniPaxos such a
//! node takes over once and then stays; here it does not even begin.

use std::collections::BTreeSet;

use verity_types::{Mono, Nanos, NodeId};

use crate::Error;
use crate::engine::{Leave, Paxos};
use crate::message::{Ballot, Frame, MAX_MEMBERS};

/// How many ticks the search after the loss of a leader is spread over.
const HASTE_TICKS: u64 = 4;
/// Peers that are remembered: members, those about to join, those that just left.
const PEERS_MAX: usize = 6 * MAX_MEMBERS;

/// A small generator (SplitMix64): timeouts need spread, not secrecy.
#[derive(Debug)]
pub(crate) struct Spread(pub(crate) u64);

impl Spread {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

/// What is known of another node.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peer {
    pub(crate) heard_at: Option<Mono>,
    /// Everything up to here is decided and stable there.
    pub(crate) decided: u64,
    /// The last round of this node's own ballot that it answered without having promised a higher one.
    pub(crate) round: u64,
    pub(crate) asleep: bool,
}

/// A round of questions.
#[derive(Debug)]
pub(crate) struct Seek {
    round: u64,
    /// Those who hear no leader.
    alone: BTreeSet<NodeId>,
}

impl Paxos {
    pub(crate) fn note_ballot(&mut self, ballot: Ballot) {
        self.ceiling = self.ceiling.max(ballot);
    }

    pub(crate) fn note_peer(&mut self, from: NodeId, decided: Option<u64>) {
        if self.peers.len() < PEERS_MAX || self.peers.contains_key(&from) {
            let peer = self.peers.entry(from).or_default();
            peer.heard_at = Some(self.now);
            // Who has nothing begins anew: it left the group, and comes back to it.
            peer.decided = if decided == Some(0) { 0 } else { peer.decided.max(decided.unwrap_or(0)) };
        }
    }

    /// True if `node` was heard from within an election timeout.
    pub(crate) fn is_heard(&self, node: NodeId) -> bool {
        let heard = self.peers.get(&node).and_then(|peer| peer.heard_at);
        heard.is_some_and(|at| self.now < at + self.config.election_min)
    }

    /// True if this node knows a living leader or candidate.
    fn hears(&self) -> bool {
        let recent = self.heard_at.is_some_and(|at| self.now < at + self.config.election_min);
        self.lead.is_some() || recent
    }

    /// A leader or a candidate was heard: it has an election timeout from now.
    pub(crate) fn be_patient(&mut self) {
        let (min, max) = (self.config.election_min.0, self.config.election_max.0);
        self.heard_at = Some(self.now);
        self.deadline = self.now + Nanos(min + self.spread.below(max - min));
        self.seek = None;
    }

    /// There is no leader: look for one soon.
    pub(crate) fn hasten(&mut self) {
        (self.heard_at, self.leader) = (None, None);
        self.deadline = self.now + Nanos(self.spread.below(HASTE_TICKS * self.config.tick.0));
    }

    /// A group begins: who is named leads it first, and everyone looks for a leader soon if nobody is.
    pub(crate) fn await_first(&mut self, first: Option<NodeId>) {
        self.hasten();
        if first == Some(self.id) {
            self.deadline = self.now;
            self.eager_until = self.now + self.config.election_min;
        } else if first.is_some() {
            self.deadline = self.deadline + self.config.election_min;
        }
    }

    /// Follows the leader of a ballot that is not below the promise.
    pub(crate) fn follow(&mut self, ballot: Ballot) {
        self.resign_below(ballot);
        self.leader = Some(ballot);
        self.be_patient();
    }

    pub(crate) fn on_unreachable(&mut self, node: NodeId) {
        if self.leader.is_some_and(|leader| leader.node() == node) {
            self.wake(false);
            self.hasten();
        } else if self.leads() {
            self.wake(false);
        }
    }

    pub(crate) fn on_tick(&mut self) {
        self.expire_reads();
        if self.sleep.asleep {
            return;
        }
        if self.leads() {
            self.lead_on_tick();
        } else if let Some(lead) = &self.lead {
            if self.now >= lead.began_at + self.config.election_max {
                self.resign();
            } else {
                self.repeat();
            }
        } else if self.now >= self.deadline || (self.votes() && self.members.voters.len() == 1) {
            self.begin_seek();
        }
        self.fetch_on_tick();
    }

    fn lead_on_tick(&mut self) {
        let young = self.lead.as_ref().is_some_and(|lead| self.now < lead.began_at + self.config.election_min);
        if !young && !self.is_majority(|node| *node == self.id || self.is_heard(*node)) {
            self.resign();
            return self.begin_seek();
        }
        self.expire_wish();
        // Reads begin rounds of their own, which put the next heartbeat off; they must not put this off as well.
        if self.now >= self.repeat_at {
            self.repeat_at = self.now + self.config.heartbeat;
            self.repeat();
        }
        if self.now >= self.beat_at {
            self.consider_sleep();
            self.begin_round();
        }
    }

    /// Everyone that a leader talks to.
    pub(crate) fn audience(&self) -> BTreeSet<NodeId> {
        let mut all = self.members.all();
        if let Some(lead) = &self.lead {
            all.extend(lead.wish.iter().flat_map(|wish| wish.members.all()));
            all.extend(self.stopping().into_iter().flat_map(|members| members.all()));
        }
        all
    }

    /// A round of heartbeats, which barriers wait for as well.
    pub(crate) fn begin_round(&mut self) {
        let Some(ballot) = self.lead.as_ref().map(|lead| lead.ballot) else { return };
        self.round += 1;
        self.beat_at = self.now + self.config.heartbeat;
        let (round, decided, sleep) = (self.round, self.decided, self.sleep.drowsy);
        for node in self.audience() {
            self.send(node, Frame::Ping { ballot, round, decided, leads: true, sleep }, Leave::Now);
        }
    }

    /// A round of questions to all voters.
    fn begin_seek(&mut self) {
        let pause = if self.votes() { self.config.heartbeat } else { self.config.election_min };
        let eager = self.now < self.eager_until;
        self.deadline = self.now + if eager { self.config.tick } else { Nanos(pause.0 + self.spread.below(pause.0)) };
        self.leader = None;
        self.round += 1;
        let (round, ballot, decided) = (self.round, self.promised, self.decided);
        self.seek = Some(Seek { round, alone: BTreeSet::from([self.id]) });
        for node in self.members.voters.clone() {
            self.send(node, Frame::Ping { ballot, round, decided, leads: false, sleep: false }, Leave::Now);
        }
        self.take_over_if_alone();
    }

    fn take_over_if_alone(&mut self) {
        let Some(seek) = &self.seek else { return };
        if self.votes() && self.is_majority(|node| seek.alone.contains(node)) {
            self.campaign();
        }
    }

    pub(crate) fn on_ping(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        round: u64,
        decided: u64,
        (leads, sleep): (bool, bool),
    ) -> Result<(), Error> {
        self.note_ballot(ballot);
        let mut sleeps = false;
        if leads {
            self.check_owner(from, ballot)?;
            if self.check_known(from, decided).is_ok() && ballot >= self.promised {
                self.follow(ballot);
                self.learn_from_leader(from, ballot, decided);
                sleeps = sleep && self.fall_asleep();
            }
        } else if self.leader.is_some_and(|leader| leader.node() == from) {
            // A leader that looks for one is none.
            self.hasten();
        }
        if !sleeps {
            self.wake(false);
        }
        self.note_ahead(from, decided);
        // Who is blank answers, but to no round: it is there, and that is all.
        let (round, hears) = if self.is_blank() { (0, true) } else { (round, self.hears()) };
        let promised = self.promised;
        let pong = Frame::Pong { ballot, round, promised, decided: self.handed, hears, sleep: sleeps };
        self.send(from, pong, Leave::Now);
        Ok(())
    }

    pub(crate) fn on_pong(
        &mut self,
        from: NodeId,
        (ballot, round): (Ballot, u64),
        promised: Ballot,
        decided: u64,
        (hears, sleep): (bool, bool),
    ) -> Result<(), Error> {
        if round > self.round {
            return Err(Error::InvalidMessage(format!("round {round} was never begun")));
        }
        self.note_ballot(promised);
        self.note_peer(from, Some(decided));
        self.note_ahead(from, decided);
        let voter = self.members.voters.contains(&from);
        if self.lead.as_ref().is_some_and(|lead| lead.ballot == ballot) {
            if promised > ballot {
                if voter {
                    self.resign();
                }
            } else if let Some(peer) = self.peers.get_mut(&from).filter(|_| decided <= self.decided) {
                peer.round = peer.round.max(round);
                peer.asleep = sleep;
                self.sleep_if_all_do();
            }
        } else if let Some(seek) = self.seek.as_mut().filter(|seek| seek.round == round && voter && !hears) {
            seek.alone.insert(from);
            self.take_over_if_alone();
        }
        Ok(())
    }
}
