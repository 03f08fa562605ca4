//! Changes of members, one at a time, and leadership handed over.
//!
//! A change is a value C in the log that names the next members. It is the last slot of its configuration, a stop-sign:
//!
//! - upon `on_reconfigure`: the leader lets the new members catch up first; once a majority of the new voters is close
//!   behind, it proposes C in a slot s, and nothing behind s until s is decided;
//! - upon C accepted by a majority of the old voters, and held, with everything before it, by a majority of the new:
//!   s is decided, and the new members are in force for the slots behind s;
//! - upon the new members being in force: the leader's ballot needs promises from a majority of them too before it
//!   proposes; promises that they already gave count. A leader that is not among them tells everyone and hands over.
//!
//! Why it is safe. Let c(s) be the members named by the last change chosen before slot s. "Chosen" in slot s means
//! accepted in one ballot by a majority of c(s). Claim: if v is chosen in s in ballot b, every proposal in s in a higher
//! ballot is v. Assume it for all slots below s, so that c(s) is one set on every node that knows the slots below.
//! A leader of ballot b' > b proposes in s only once it has decided every change that it proposed or learned below s.
//! If it runs by the members of an earlier slot, then the change C at some t < s that ended them was chosen in a ballot
//! b0 <= b, for v was proposed by a leader that had decided C. Phase 1 of b' was promised by a majority of c(t), which
//! shares a node with the majority that chose C, so b' saw C in t, proposed it again, and stops there: it proposes in s
//! only by c(s). Then its promises come from a majority of c(s), which shares a node with the majority that chose v,
//! and the highest ballot reported for s is b or one between b and b', whose proposals are v by induction. Reports from
//! other nodes than that majority can only add proposals of lower ballots, or v again. Nothing is decided by a node that
//! did not decide all slots below, so nobody counts a majority of members that are no longer in force.
//!
//! Why nothing is lost when the old members are switched off at once: before anyone hears that s is decided, a majority
//! of the new voters holds every slot up to and with s on stable storage.
//!
//! HAZARD: if a majority of the new voters fails between the proposal of C and its decision, the group waits for them,
//! as a joint configuration would. A node whose disk was wiped must come back under a new id.

use std::collections::BTreeSet;

use bytes::Bytes;
use verity_contract::{Change, Members, Output, Reconfigure, Transfer};
use verity_types::{Mono, NodeId};

use crate::Error;
use crate::engine::{Leave, Paxos};
use crate::message::{Ballot, Frame, Kind, MAX_ENTRY_BYTES, Value, check_members};

/// A new voter that lacks no more slots than this counts as close behind.
const CLOSE: u64 = 256;

/// A change that waits for its new voters.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) members: Members,
    context: Bytes,
    until: Mono,
}

impl Paxos {
    /// The members of a change that is proposed and not decided.
    pub(crate) fn stopping(&self) -> Option<&Members> {
        let stop = self.lead.as_ref()?.stop?;
        match &self.log.entries.get(&stop)?.value.kind {
            Kind::Members(members) => Some(members),
            Kind::Normal | Kind::Noop => None,
        }
    }

    /// The change to propose, once a majority of its voters is close behind.
    pub(crate) fn wished_value(&mut self, term: u64) -> Option<Value> {
        let wish = self.lead.as_ref()?.wish.as_ref()?;
        let close = |node: &&NodeId| {
            let decided = self.peers.get(node).map_or(0, |peer| peer.decided);
            **node == self.id || (self.is_heard(**node) && decided + CLOSE >= self.decided)
        };
        if wish.members.voters.iter().filter(close).count() <= wish.members.voters.len() / 2 {
            return None;
        }
        let wish = self.lead.as_mut()?.wish.take()?;
        Some(Value { term, kind: Kind::Members(wish.members), payload: wish.context })
    }

    pub(crate) fn expire_wish(&mut self) {
        if let Some(lead) = &mut self.lead {
            lead.wish = lead.wish.take().filter(|wish| self.now < wish.until);
        }
    }

    /// True if a majority of the next voters holds the change in `slot` and everything before it.
    pub(crate) fn is_held_by(&self, next: &Members, slot: u64, accepted: &BTreeSet<NodeId>) -> bool {
        let holds = |node: &&NodeId| {
            let own = if **node == self.id { self.handed } else { 0 };
            let decided = self.peers.get(node).map_or(own, |peer| peer.decided.max(own));
            decided >= slot || (decided + 1 == slot && accepted.contains(node))
        };
        next.voters.iter().filter(holds).count() > next.voters.len() / 2
    }

    /// Other members are in force from the next slot on.
    pub(crate) fn enter(&mut self, members: Members) {
        let gone: Vec<_> = self.members.all().difference(&members.all()).copied().collect();
        self.members = members;
        self.peers.retain(|node, _| !gone.contains(node));
        self.seek = None;
        let Some(lead) = &mut self.lead else { return };
        lead.close(&gone);
        if lead.noop.is_some() {
            // Those who leave hear of it once; if that is lost, they ask.
            let frame = self.learn_frame(self.decided);
            gone.into_iter().for_each(|node| self.send(node, frame.clone(), Leave::Now));
        }
    }

    /// A leader that is no voter any more hands over to the best of those who are.
    pub(crate) fn leave_if_removed(&mut self) {
        if self.votes() {
            return;
        }
        let Some(ballot) = self.lead.as_ref().map(|lead| lead.ballot) else { return };
        let decided = |node: &NodeId| self.peers.get(node).map_or(0, |peer| peer.decided);
        let heir = self.members.voters.iter().max_by_key(|node| (self.is_heard(**node), decided(node))).copied();
        if let Some(heir) = heir {
            let learn = self.learn_frame(self.decided);
            self.send(heir, learn, Leave::Now);
            self.send(heir, Frame::TakeOver { ballot }, Leave::Now);
        }
        self.resign();
    }

    pub(crate) fn on_take_over(&mut self, from: NodeId, ballot: Ballot) -> Result<(), Error> {
        self.check_owner(from, ballot)?;
        if self.leader == Some(ballot) && self.promised <= ballot {
            self.campaign();
        }
        Ok(())
    }
}

impl Reconfigure for Paxos {
    fn on_reconfigure(&mut self, now: Mono, change: Change, out: &mut Vec<Output>) -> Result<(), String> {
        self.begin(now);
        let members = Members { voters: change.voters, learners: change.learners, ..Members::default() };
        check_members(&members).map_err(|error| error.to_string())?;
        if change.context.len() > MAX_ENTRY_BYTES {
            return Err(format!("the context is longer than {MAX_ENTRY_BYTES} bytes"));
        }
        let until = now + self.config.change_timeout;
        let Some(lead) = self.lead.as_mut().filter(|lead| lead.noop.is_some()) else {
            return Err("only the leader changes members".into());
        };
        if lead.wish.is_some() || lead.stop.is_some() {
            return Err("another change of members is under way".into());
        }
        if self.members == members && change.context.is_empty() {
            return Err("the group already has these members".into());
        }
        lead.wish = Some(Wish { members, context: change.context, until });
        self.wake(false);
        // The new members hear of the leader at once, and begin to catch up.
        self.begin_round();
        self.settle(out);
        Ok(())
    }
}

impl Transfer for Paxos {
    fn on_transfer(&mut self, now: Mono, to: NodeId, out: &mut Vec<Output>) {
        self.begin(now);
        let Some(ballot) = self.lead.as_ref().filter(|lead| lead.noop.is_some()).map(|lead| lead.ballot) else {
            return;
        };
        if to == self.id || !self.members.voters.contains(&to) {
            return;
        }
        self.wake(false);
        self.send(to, Frame::TakeOver { ballot }, Leave::Now);
        self.settle(out);
    }
}
