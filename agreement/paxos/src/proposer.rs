//! The leader: phase 1 once for all slots behind its decided index, then phase 2 in a pipeline (Paxos Made Simple §3).
//!
//! - upon a majority of the members in force having promised ballot b for every slot that is not decided: a slot that
//!   some promise reports gets the value of the highest ballot reported; a slot below such a one that none reports
//!   gets a noop; then comes one noop of b's own, and behind it the proposals;
//! - upon a promise from a node that has decided more: the leader learns that first;
//! - upon `Accepted` from a majority of the members in force, in slot order: the slot is decided;
//! - upon a heartbeat without an answer: `Prepare` and `Accept` are sent again to those who did not answer;
//! - upon `Reject`, or any sign of a higher promise: the leader resigns, and what it queued is refused.
//!
//! A noop that fills a gap carries the term of the value before it, so that the first value of a leader's own term
//! stands behind everything that came from earlier ballots.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use verity_contract::{Output, PersistId};
use verity_types::{Mono, NodeId};

use crate::acceptor::WINDOW;
use crate::engine::{Leave, Paxos};
use crate::members::Wish;
use crate::message::{Ballot, Frame, Kind, LAST_SLOT, MAX_ENTRY_BYTES, Value};
use crate::state::Entry;
use crate::{Error, Mutant};

/// A slot that is proposed and not decided.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) accepted: BTreeSet<NodeId>,
    size: usize,
    sent_at: Mono,
}

/// A ballot of this node's own.
#[derive(Debug)]
pub(crate) struct Lead {
    pub(crate) ballot: Ballot,
    pub(crate) began_at: Mono,
    /// The `Persist` that makes its own promise stable.
    pub(crate) stable_in: Option<PersistId>,
    prepared_at: Mono,
    prepare_due: bool,
    /// By acceptor: every slot below is covered by its promise.
    promises: BTreeMap<NodeId, u64>,
    /// The highest-ballot value that was reported in a slot.
    seen: BTreeMap<u64, (Ballot, Value)>,
    /// What some acceptor has decided must be learned first.
    behind: u64,
    /// A majority of the members in force has promised.
    open: bool,
    next: u64,
    /// Slots from here to `next` were not sent yet.
    unsent: u64,
    /// The slot of its own first noop.
    pub(crate) noop: Option<u64>,
    /// The slot of a change of members that is not decided; nothing is proposed behind it.
    pub(crate) stop: Option<u64>,
    pub(crate) flight: BTreeMap<u64, Flight>,
    flight_size: usize,
    queue: VecDeque<Bytes>,
    queue_size: usize,
    pub(crate) wish: Option<Wish>,
}

impl Lead {
    pub(crate) fn new(ballot: Ballot, now: Mono, decided: u64) -> Self {
        Self {
            ballot,
            began_at: now,
            stable_in: None,
            prepared_at: now,
            prepare_due: true,
            promises: BTreeMap::new(),
            seen: BTreeMap::new(),
            behind: 0,
            open: false,
            next: decided + 1,
            unsent: decided + 1,
            noop: None,
            stop: None,
            flight: BTreeMap::new(),
            flight_size: 0,
            queue: VecDeque::new(),
            queue_size: 0,
            wish: None,
        }
    }

    /// True if nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.open && self.noop.is_some() && self.flight.is_empty() && self.queue.is_empty() && self.wish.is_none()
    }

    fn note_seen(&mut self, slot: u64, ballot: Ballot, value: &Value) {
        if self.seen.get(&slot).is_none_or(|(held, _)| *held < ballot) {
            self.seen.insert(slot, (ballot, value.clone()));
        }
    }

    /// What this node itself promised and accepted is stable.
    pub(crate) fn note_stable(&mut self, id: NodeId, persist: PersistId, slots: (u64, u64)) {
        if self.stable_in.is_some_and(|promise| promise <= persist) {
            self.promises.insert(id, LAST_SLOT + 1);
        }
        if slots.0 <= slots.1 {
            self.flight.range_mut(slots.0..=slots.1).for_each(|(_, flight)| {
                flight.accepted.insert(id);
            });
        }
    }

    /// Every slot up to `decided` is settled.
    pub(crate) fn note_decided(&mut self, decided: u64) {
        while let Some(first) = self.flight.first_entry().filter(|first| *first.key() <= decided) {
            self.flight_size -= first.remove().size;
        }
        while self.seen.first_key_value().is_some_and(|(slot, _)| *slot <= decided) {
            self.seen.pop_first();
        }
        self.next = self.next.max(decided + 1);
        self.unsent = self.unsent.max(decided + 1);
        self.stop = self.stop.filter(|stop| *stop > decided);
    }

    /// Other members are in force: they must promise before anything is proposed to them. Who leaves and comes back has
    /// forgotten what it promised.
    pub(crate) fn close(&mut self, gone: &[NodeId]) {
        self.promises.retain(|node, _| !gone.contains(node));
        self.open = false;
        self.prepare_due = true;
    }

    pub(crate) fn invariants(&self, decided: u64) {
        assert!(self.next > decided && self.unsent <= self.next, "what is proposed next is not decided");
        assert!(self.flight.keys().all(|slot| *slot > decided && *slot < self.next), "undecided slots are proposed");
        assert!(self.seen.keys().all(|slot| *slot > decided), "what is decided needs no second proposal");
        assert!(self.stop.is_none_or(|stop| stop + 1 == self.next), "nothing is proposed behind a change of members");
        assert_eq!(self.flight_size, self.flight.values().map(|flight| flight.size).sum::<usize>());
        assert!(self.flight.is_empty() || self.noop.is_some() || self.open, "phase 2 follows phase 1");
    }
}

impl Paxos {
    pub(crate) fn is_majority(&self, has: impl Fn(&NodeId) -> bool) -> bool {
        self.members.voters.iter().filter(|node| has(node)).count() > self.members.voters.len() / 2
    }

    /// Phase 1a: a ballot above all others, for all slots that are not decided.
    pub(crate) fn campaign(&mut self) {
        let Some(ballot) = self.ceiling.next_of(self.id).filter(|_| self.votes()) else { return };
        self.resign_below(ballot);
        self.note_ballot(ballot);
        self.promised = ballot;
        (self.seek, self.leader) = (None, None);
        self.be_patient();
        self.peers.values_mut().for_each(|peer| peer.round = 0);
        let mut lead = Lead::new(ballot, self.now, self.decided);
        for (slot, entry) in self.log.entries.range(self.decided + 1..) {
            lead.note_seen(*slot, entry.ballot, &entry.value);
        }
        self.lead = Some(Box::new(lead));
    }

    /// Gives up the ballot that this node leads, if it is below `ballot`.
    pub(crate) fn resign_below(&mut self, ballot: Ballot) {
        if self.lead.as_ref().is_some_and(|lead| lead.ballot < ballot) {
            self.resign();
        }
    }

    /// Gives up the ballot that this node leads.
    pub(crate) fn resign(&mut self) {
        let Some(lead) = self.lead.take() else { return };
        self.ready.extend(lead.queue.into_iter().map(Output::Refused));
        self.fail_led();
        self.hasten();
    }

    pub(crate) fn on_propose(&mut self, payload: Bytes) {
        self.wake(true);
        let max = self.config.uncommitted_bytes_max;
        let decided = self.decided;
        let room = |lead: &Lead| {
            let used = lead.flight_size + lead.queue_size;
            let slots = lead.next - decided + lead.queue.len() as u64;
            used == 0 || (used + payload.len() <= max && slots < WINDOW)
        };
        match &mut self.lead {
            Some(lead) if lead.noop.is_some() && payload.len() <= MAX_ENTRY_BYTES && room(lead) => {
                lead.queue_size += payload.len();
                lead.queue.push_back(payload);
            }
            _ => self.ready.push(Output::Refused(payload)),
        }
    }

    pub(crate) fn on_promise(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        decided: u64,
        (start, to): (u64, u64),
        accepted: Vec<(u64, Ballot, Value)>,
    ) -> Result<(), Error> {
        let mine = self.decided;
        // A promise that comes late is not counted: its reports would have to be proposed again behind newer values.
        let Some(lead) = self.lead.as_mut().filter(|lead| lead.ballot == ballot && !lead.open) else { return Ok(()) };
        if accepted.last().is_some_and(|(slot, ..)| *slot > mine.max(decided).saturating_add(2 * WINDOW)) {
            return Err(Error::InvalidMessage("a promise reports slots out of the window".into()));
        }
        if let Some((_, above, _)) = accepted.iter().find(|(_, at, _)| *at > ballot) {
            return Err(Error::InvalidMessage(format!("a promise of {} reports {}", ballot.0, above.0)));
        }
        lead.behind = lead.behind.max(decided);
        for (slot, at, value) in accepted.iter().filter(|(slot, ..)| *slot > mine) {
            // A slot that this ballot proposed already has its value.
            if *slot >= lead.next {
                lead.note_seen(*slot, *at, value);
            }
        }
        // Slots below the part are covered by the parts before it, or decided.
        let covered = lead.promises.get(&from).copied().unwrap_or(0).max(mine.max(decided) + 1);
        if start <= covered {
            lead.promises.insert(from, covered.max(to + 1));
        }
        self.note_peer(from, None);
        self.note_ahead(from, decided);
        if decided > mine {
            self.fetch();
        }
        Ok(())
    }

    pub(crate) fn on_reject(&mut self, _from: NodeId, ballot: Ballot, promised: Ballot) -> Result<(), Error> {
        self.note_ballot(promised);
        if self.lead.as_ref().is_some_and(|lead| lead.ballot == ballot) {
            self.resign_below(promised);
        }
        Ok(())
    }

    pub(crate) fn on_accepted(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        (first, last): (u64, u64),
        decided: u64,
    ) -> Result<(), Error> {
        if first > last {
            return Err(Error::InvalidMessage(format!("the slots {first} to {last} are none")));
        }
        if decided > self.decided {
            // Whoever is ahead of its leader may hold another value there.
            self.note_ahead(from, decided);
            self.fetch();
            return Ok(());
        }
        let Some(lead) = self.lead.as_mut().filter(|lead| lead.ballot == ballot) else { return Ok(()) };
        lead.flight.range_mut(first..=last).for_each(|(_, flight)| {
            flight.accepted.insert(from);
        });
        self.note_peer(from, Some(decided));
        Ok(())
    }

    /// Everything that a leader can do now.
    pub(crate) fn pump(&mut self) {
        let before = self.decided;
        while self.lead.is_some() {
            self.open();
            self.propose_next();
            let decided = self.decided;
            self.decide();
            if self.decided == decided {
                break;
            }
        }
        self.send_prepares();
        let sent = self.send_accepts();
        if self.decided > before {
            self.tell_decided(before, sent);
        }
        self.leave_if_removed();
    }

    /// Phase 1 ends once a majority of the members in force has promised, and nobody among them has decided more.
    fn open(&mut self) {
        let Some(lead) = &self.lead else { return };
        let promised = |node: &NodeId| lead.promises.get(node).is_some_and(|covered| *covered > LAST_SLOT);
        if !lead.open && self.decided >= lead.behind && self.is_majority(promised) {
            let lead = self.lead.as_mut().expect("seen above");
            lead.open = true;
            lead.prepare_due = false;
        }
    }

    fn propose_next(&mut self) {
        loop {
            let Some(lead) = self.lead.as_mut().filter(|lead| lead.open && lead.stop.is_none()) else { return };
            if lead.next > self.decided + WINDOW {
                return;
            }
            let (slot, term) = (lead.next, lead.ballot.0);
            let value = if lead.seen.keys().next_back().is_some_and(|last| *last >= slot) {
                let reported = lead.seen.remove(&slot).map(|(_, value)| value);
                let ignores = self.config.mutant == Some(Mutant::ValueChoiceIgnored);
                match reported.filter(|_| !ignores) {
                    Some(value) => value,
                    None => Value::noop(self.log.term(slot - 1).expect("the value before it is proposed or decided")),
                }
            } else if lead.noop.is_none() {
                lead.noop = Some(slot);
                lead.began_at = self.now;
                self.beat_at = self.now;
                Value::noop(term)
            } else if let Some(payload) = lead.queue.pop_front() {
                lead.queue_size -= payload.len();
                self.sleep.busy_at = self.now;
                Value { term, kind: Kind::Normal, payload }
            } else if let Some(value) = self.wished_value(term) {
                value
            } else {
                return;
            };
            self.place(slot, value);
        }
    }

    /// Proposes a value in a slot; the leader is the first to accept it.
    fn place(&mut self, slot: u64, value: Value) {
        let (size, stops) = (value.size(), matches!(value.kind, Kind::Members(_)));
        let lead = self.lead.as_mut().expect("only a leader proposes");
        lead.flight.insert(slot, Flight { accepted: BTreeSet::new(), size, sent_at: self.now });
        lead.flight_size += size;
        lead.next = slot + 1;
        if stops {
            lead.stop = Some(slot);
        }
        let ballot = lead.ballot;
        self.record(slot, Entry { ballot, value });
    }

    /// Decides what a majority has accepted, in slot order.
    fn decide(&mut self) {
        loop {
            let slot = self.decided + 1;
            let Some(lead) = &self.lead else { return };
            let Some(flight) = lead.flight.get(&slot) else { return };
            let alone = self.config.mutant == Some(Mutant::CommitWithoutQuorum) && flight.accepted.contains(&self.id);
            if !alone && !self.is_majority(|node| flight.accepted.contains(node)) {
                return;
            }
            let entry = &self.log.entries[&slot];
            let hasty = self.config.mutant == Some(Mutant::ChangeCountsOneMajority);
            if let Kind::Members(next) = &entry.value.kind
                && !hasty
                && !self.is_held_by(next, slot, &flight.accepted)
            {
                return;
            }
            self.decide_next();
        }
    }

    fn send_prepares(&mut self) {
        let (now, decided) = (self.now, self.decided);
        let voters = self.members.voters.clone();
        let Some(lead) = self.lead.as_mut().filter(|lead| !lead.open && lead.prepare_due) else { return };
        (lead.prepare_due, lead.prepared_at) = (false, now);
        let ballot = lead.ballot;
        let missing =
            voters.into_iter().filter(|node| lead.promises.get(node).is_none_or(|covered| *covered <= LAST_SLOT));
        let missing: Vec<_> = missing.collect();
        for node in missing {
            self.send(node, Frame::Prepare { ballot, from: decided + 1, decided }, Leave::Stable);
        }
    }

    /// Those who accept what is in flight.
    fn acceptors(&self) -> BTreeSet<NodeId> {
        let mut acceptors = self.members.voters.clone();
        let stop = self.lead.as_ref().and_then(|lead| lead.stop).and_then(|stop| self.log.entries.get(&stop));
        if let Some(Entry { value: Value { kind: Kind::Members(next), .. }, .. }) = stop {
            acceptors.extend(&next.voters);
        }
        acceptors
    }

    /// Phase 2a for everything that is new; true if something was.
    fn send_accepts(&mut self) -> bool {
        let Some(lead) = self.lead.as_mut().filter(|lead| lead.unsent < lead.next) else { return false };
        let (mut first, next) = (lead.unsent, lead.next);
        lead.unsent = next;
        let acceptors = self.acceptors();
        while first < next {
            let (frame, end) = self.accept_frame(first);
            for node in &acceptors {
                self.send(*node, frame.clone(), Leave::Now);
            }
            first = end;
        }
        true
    }

    /// Slots in flight from `first` on, as many as fit one message; and the slot behind them.
    fn accept_frame(&self, first: u64) -> (Frame, u64) {
        let lead = self.lead.as_ref().expect("only a leader has slots in flight");
        let (mut values, mut bytes) = (Vec::new(), 0);
        for (_, entry) in self.log.entries.range(first..lead.next) {
            bytes += entry.value.size();
            values.push(entry.value.clone());
            if bytes >= self.config.batch_bytes_max {
                break;
            }
        }
        let end = first + values.len() as u64;
        (Frame::Accept { ballot: lead.ballot, decided: self.decided, first, values }, end)
    }

    /// Says again what was not answered.
    pub(crate) fn repeat(&mut self) {
        let (now, patience) = (self.now, self.config.heartbeat);
        let Some(lead) = &mut self.lead else { return };
        if !lead.open && now >= lead.prepared_at + patience {
            lead.prepare_due = true;
        }
        if lead.noop.is_none() {
            return;
        }
        let mut acceptors = self.acceptors();
        acceptors.remove(&self.id);
        for node in acceptors {
            let lead = self.lead.as_mut().expect("seen above");
            let late = |flight: &Flight| now >= flight.sent_at + patience + patience;
            let missing = lead.flight.iter().find(|(_, f)| !f.accepted.contains(&node) && late(f));
            if let Some(first) = missing.map(|(slot, _)| *slot) {
                let (frame, _) = self.accept_frame(first);
                self.send(node, frame, Leave::Now);
            }
        }
    }

    /// Tells the others what was decided since `before`: those who accepted it by its index, the others by its values.
    fn tell_decided(&mut self, before: u64, accepts_sent: bool) {
        let Some(ballot) = self.lead.as_ref().filter(|lead| lead.noop.is_some()).map(|lead| lead.ballot) else {
            return;
        };
        for node in self.members.voters.clone() {
            if !accepts_sent {
                self.send(node, Frame::Decide { ballot, decided: self.decided }, Leave::Now);
            }
        }
        let learners = self.members.learners.clone();
        if !learners.is_empty() && before >= self.log.base.0 {
            let frame = self.learn_frame(before + 1);
            learners.into_iter().for_each(|node| self.send(node, frame.clone(), Leave::Now));
        }
    }
}
