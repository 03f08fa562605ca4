//! The learner: what is chosen, in slot order, and how a node that missed it catches up.
//!
//! - upon "all up to d is decided" from the leader of ballot b: a slot up to d that this node accepted in b is decided,
//!   for b proposes one value in a slot; any other is fetched;
//! - upon knowing that a peer has decided more: `Fetch` from it, whoever it is, until nothing is missing;
//! - upon `Fetch(s)`: the decided values from s on, or the offer of a snapshot if the log no longer reaches back. A node
//!   that knows no members asks for slot 0, which is always a snapshot;
//! - upon a decided change of members: it is in force from the next slot on.

use verity_contract::{Output, SnapshotMeta};
use verity_types::{Mono, NodeId};

use crate::Error;
use crate::engine::{Leave, Paxos};
use crate::message::{Ballot, Frame, Kind, LAST_SLOT, MAX_MEMBERS, Value, encode};
use crate::state::Entry;

/// Fetches without an answer before another peer is asked.
const TRIES_MAX: u32 = 2;

/// What this node knows to be decided elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    pub(crate) known: u64,
    /// Who has it.
    pub(crate) at: Option<NodeId>,
    asked_at: Option<Mono>,
    tries: u32,
}

impl Paxos {
    /// A peer has decided everything up to `decided`.
    pub(crate) fn note_ahead(&mut self, from: NodeId, decided: u64) {
        if decided > self.decided && (decided >= self.behind.known || self.behind.at.is_none()) {
            self.behind.at = Some(from);
        }
        self.behind.known = self.behind.known.max(decided);
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.behind.known > self.decided
    }

    /// Asks for what is missing.
    pub(crate) fn fetch(&mut self) {
        let (true, Some(at)) = (self.is_behind(), self.behind.at) else { return };
        let from = if self.members.voters.is_empty() { 0 } else { self.decided + 1 };
        self.behind.asked_at = Some(self.now);
        self.send(at, Frame::Fetch { from }, Leave::Now);
    }

    /// Asks again, and after a while somebody else.
    pub(crate) fn fetch_on_tick(&mut self) {
        if !self.is_behind() || self.behind.asked_at.is_some_and(|at| self.now < at + self.config.heartbeat) {
            return;
        }
        self.behind.tries += 1;
        self.fetch();
        if self.behind.tries > TRIES_MAX {
            self.behind = Behind { known: self.behind.known, ..Behind::default() };
        }
    }

    /// The leader of `ballot` has decided everything up to `decided`.
    pub(crate) fn learn_from_leader(&mut self, from: NodeId, ballot: Ballot, decided: u64) {
        self.note_ahead(from, decided);
        while self.decided < decided {
            match self.log.entries.get(&(self.decided + 1)) {
                Some(entry) if entry.ballot == ballot => self.decide_next(),
                _ => break,
            }
        }
    }

    pub(crate) fn on_decide(&mut self, from: NodeId, ballot: Ballot, decided: u64) -> Result<(), Error> {
        self.check_owner(from, ballot)?;
        self.check_known(from, decided)?;
        self.note_ballot(ballot);
        if ballot >= self.promised {
            self.follow(ballot);
            self.learn_from_leader(from, ballot, decided);
        }
        Ok(())
    }

    /// The next slot is decided: what the log holds in it was chosen.
    pub(crate) fn decide_next(&mut self) {
        self.decided += 1;
        self.behind.tries = 0;
        let entry = self.log.entries.get(&self.decided).expect("what is decided is in the log");
        let next = match &entry.value.kind {
            Kind::Members(members) => Some(members.clone()),
            Kind::Normal | Kind::Noop => None,
        };
        if let Some(lead) = &mut self.lead {
            lead.note_decided(self.decided);
        }
        if let Some(members) = next {
            self.enter(members);
        }
    }

    /// The decided values from `from` on, as many as fit one message.
    pub(crate) fn learn_frame(&self, from: u64) -> Frame {
        let (mut values, mut bytes) = (Vec::new(), 0);
        for (_, entry) in self.log.entries.range(from..=self.decided.max(from)).take_while(|(s, _)| **s <= self.decided)
        {
            bytes += entry.value.size();
            values.push((entry.ballot, entry.value.clone()));
            if bytes >= self.config.batch_bytes_max {
                break;
            }
        }
        Frame::Learn { decided: self.decided, first: from, values }
    }

    pub(crate) fn on_fetch(&mut self, from: NodeId, start: u64) -> Result<(), Error> {
        if start <= self.log.base.0 {
            self.offer(from);
        } else if start <= self.decided {
            let frame = self.learn_frame(start);
            self.send(from, frame, Leave::Now);
        }
        Ok(())
    }

    fn offer(&mut self, to: NodeId) {
        match &self.snapshot {
            _ if self.offered.contains(&to) || self.offered.len() > 2 * MAX_MEMBERS => {}
            Some(meta) => {
                self.offered.insert(to);
                let (meta, message) = (meta.clone(), encode(&Frame::Snapshot(meta.clone())));
                self.ready.push(Output::OfferSnapshot { to, meta, message });
            }
            None => self.wants_snapshot = true,
        }
    }

    pub(crate) fn on_learn(
        &mut self,
        from: NodeId,
        decided: u64,
        first: u64,
        values: Vec<(Ballot, Value)>,
    ) -> Result<(), Error> {
        let last = first.saturating_add(values.len() as u64).saturating_sub(1);
        if first == 0 || last > decided.min(LAST_SLOT) {
            return Err(Error::InvalidMessage(format!("the slots {first} to {last} are not decided")));
        }
        self.note_ahead(from, decided);
        if self.members.voters.is_empty() {
            // What is not known cannot be changed: the members come with a snapshot.
            return Ok(());
        }
        let before = self.decided;
        for (slot, (ballot, value)) in (first..).zip(values) {
            if slot > self.decided + 1 {
                break;
            }
            if slot <= self.decided {
                continue;
            }
            self.note_ballot(ballot);
            self.resign_below(ballot);
            let held = self.log.entries.get(&slot);
            let entry = Entry { ballot: held.map_or(ballot, |held| held.ballot.max(ballot)), value };
            if held != Some(&entry) {
                self.record(slot, entry);
            }
            self.decide_next();
        }
        if self.decided > before {
            self.fetch();
        }
        Ok(())
    }

    /// A snapshot is on stable storage here.
    pub(crate) fn on_snapshot(&mut self, meta: SnapshotMeta) -> Result<(), Error> {
        if meta.index.0 <= self.handed {
            return Ok(());
        }
        // What a leader lacks was decided by another. Members may have left meanwhile and come back with nothing, so that
        // neither their promises nor what else is known of them counts any more.
        let stood = self.lead.as_ref().is_some_and(|lead| lead.noop.is_none());
        self.resign();
        self.peers.clear();
        self.log.trim(meta.index.0, meta.term.0);
        (self.handed, self.installed) = (meta.index.0, meta.index.0);
        if self.decided < meta.index.0 {
            self.decided = meta.index.0;
            self.enter(meta.members.clone());
        }
        if stood {
            // Those who promised wait for this node.
            self.campaign();
        }
        self.snapshot = Some(meta.clone());
        self.behind.tries = 0;
        self.write_state();
        self.ready.push(Output::InstallSnapshot(meta));
        self.fetch();
        Ok(())
    }
}
