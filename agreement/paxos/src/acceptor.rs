//! The acceptor of all slots (Paxos Made Simple §2.2, §3): one promise covers every slot.
//!
//! - 1b, upon `Prepare(b, s)`, b above every promise: promise b, and report what was accepted from slot s on, in parts
//!   that each name the range they cover; upon a lower b: `Reject`;
//! - 2b, upon `Accept(b, s, values)`, b not below the promise: promise b, accept each value in its slot; otherwise
//!   `Reject`. Slots may come in any order and leave gaps;
//! - both answers wait until what they say is stable.
//!
//! Who is blank promises and accepts nothing: it may have been a member before, and have forgotten what it promised and
//! accepted. It learns first, from whomever, and counts once it has everything up to its floor, before which it left. From
//! then on a leader that still counts it as the member it was has decided less than this node. Each answer says how much that
//! is, and no leader counts an answer of somebody ahead of it: a true one never hears such.
//!
//! HAZARD: a value that is learned replaces what was accepted in its slot, so its ballot is kept with it. Were it
//! lower than the ballot in which the value was chosen, a crash that takes the decided index back would let the slot
//! report less than was accepted in it.

use verity_types::NodeId;

use crate::engine::{Leave, Paxos};
use crate::message::{Ballot, Frame, LAST_SLOT, Value};
use crate::state::Entry;
use crate::{Error, Mutant};

/// The most slots that can be undecided at once.
pub(crate) const WINDOW: u64 = 1 << 16;

impl Paxos {
    /// Who is neither a voter nor knows more than this node was removed and does not know it.
    pub(crate) fn check_known(&self, from: NodeId, decided: u64) -> Result<(), Error> {
        if self.is_blank() || self.members.voters.contains(&from) || decided > self.decided {
            return Ok(());
        }
        Err(Error::InvalidMessage(format!("node {from} is no voter of this group")))
    }

    pub(crate) fn check_owner(&self, from: NodeId, ballot: Ballot) -> Result<(), Error> {
        if ballot.node() == from {
            return Ok(());
        }
        Err(Error::InvalidMessage(format!("node {from} uses a ballot of node {}", ballot.node())))
    }

    /// Phase 1b.
    pub(crate) fn on_prepare(&mut self, from: NodeId, ballot: Ballot, start: u64, decided: u64) -> Result<(), Error> {
        self.check_owner(from, ballot)?;
        self.check_known(from, decided)?;
        self.note_ballot(ballot);
        self.note_ahead(from, decided);
        if self.is_blank() {
            return Ok(());
        }
        if ballot < self.promised {
            self.send(from, Frame::Reject { ballot, promised: self.promised }, Leave::Now);
            return Ok(());
        }
        self.promise(ballot);
        let mut start = start.max(self.decided + 1);
        let (mut accepted, mut bytes) = (Vec::new(), 0);
        let mut parts = Vec::new();
        for (slot, entry) in self.log.entries.range(start..) {
            bytes += entry.value.size();
            accepted.push((*slot, entry.ballot, entry.value.clone()));
            if bytes >= self.config.batch_bytes_max {
                parts.push((start, *slot, std::mem::take(&mut accepted)));
                (start, bytes) = (slot + 1, 0);
            }
        }
        parts.push((start, LAST_SLOT, accepted));
        for (first, to, accepted) in parts {
            let part = Frame::Promise { ballot, decided: self.decided, from: first, to, accepted };
            self.send(from, part, Leave::Stable);
        }
        Ok(())
    }

    /// Promises `ballot`, whose owner is now the one to wait for.
    fn promise(&mut self, ballot: Ballot) {
        if ballot > self.promised {
            self.promised = ballot;
            self.resign_below(ballot);
            self.leader = None;
        }
        self.be_patient();
    }

    /// Phase 2b.
    pub(crate) fn on_accept(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        decided: u64,
        first: u64,
        values: Vec<Value>,
    ) -> Result<(), Error> {
        self.check_owner(from, ballot)?;
        self.check_known(from, decided)?;
        let last = first.saturating_add(values.len() as u64).saturating_sub(1);
        if first == 0 || values.is_empty() || last > self.decided.max(decided).saturating_add(WINDOW) {
            return Err(Error::InvalidMessage(format!("the slots {first} to {last} are out of the window")));
        }
        self.note_ballot(ballot);
        let broken = self.config.mutant == Some(Mutant::AcceptBelowPromise);
        if ballot < self.promised && !broken {
            self.send(from, Frame::Reject { ballot, promised: self.promised }, Leave::Now);
            return Ok(());
        }
        if self.is_blank() {
            self.follow(ballot);
            self.learn_from_leader(from, ballot, decided);
            return Ok(());
        }
        self.promised = self.promised.max(ballot);
        self.follow(ballot);
        for (slot, value) in (first..).zip(values) {
            let held = self.log.entries.get(&slot).is_some_and(|entry| entry.ballot == ballot);
            if slot > self.decided && !held {
                self.record(slot, Entry { ballot, value });
            }
        }
        // A slot that is decided here needs no second acceptance: it holds what the leader proposes, unless that leader has
        // decided less than this node, which then counts for nothing.
        self.send(from, Frame::Accepted { ballot, first, last, decided: self.handed }, Leave::Stable);
        self.learn_from_leader(from, ballot, decided);
        Ok(())
    }
}
