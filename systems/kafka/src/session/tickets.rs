//! Joins and syncs that wait for their rebalance.
//!
//! - upon a join or a sync: as long as it is not known which ticket it gets, the events that nobody waits for are kept,
//!   since its own may be among them: events come before the answer of the command that caused them;
//! - upon a ticket: its event is here already, or it is waited for;
//! - upon a coordinator's state that was replaced: events may have been skipped, and whoever waits asks;
//! - upon a connection that ends: what waits for it goes.
//!
//! Deliberately absent: what is asked, and what clients are told (`groups`).

use std::collections::BTreeMap;
use std::task::{Poll, Waker};

use verity_types::{ConnId, Mono};

use super::node::{Node, either};
use crate::machine::coordinator::GroupEvent;

/// So many events are kept for who does not know its ticket yet. If there are more, it has to ask.
const EARLY_COUNT_MAX: usize = 1_024;

/// A join or a sync that waits.
struct Ticket {
    conn: ConnId,
    /// What came of it.
    event: Option<GroupEvent>,
    /// The event may have been missed.
    doubtful: bool,
    waker: Option<Waker>,
}

impl Ticket {
    fn ring(&mut self) {
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

/// All of a node's.
#[derive(Default)]
pub(super) struct Tickets {
    waiting: BTreeMap<u64, Ticket>,
    /// How many do not know their tickets yet.
    asking: usize,
    /// Events that came meanwhile and that nobody waits for.
    early: BTreeMap<u64, GroupEvent>,
    /// An event that came meanwhile may be none of them.
    missed: bool,
}

impl Tickets {
    /// A rebalance has an answer for somebody, on this node or on another.
    pub(super) fn on_event(&mut self, event: GroupEvent) {
        let ticket = match &event {
            GroupEvent::JoinDone { ticket, .. } | GroupEvent::SyncDone { ticket, .. } => *ticket,
        };
        if let Some(waiting) = self.waiting.get_mut(&ticket) {
            waiting.event = Some(event);
            waiting.ring();
        } else if self.asking > 0 {
            if self.early.len() < EARLY_COUNT_MAX {
                self.early.insert(ticket, event);
            } else {
                self.missed = true;
            }
        }
    }

    /// The coordinator's state was replaced.
    pub(super) fn on_restored(&mut self) {
        self.missed = self.asking > 0;
        for ticket in self.waiting.values_mut() {
            ticket.doubtful = true;
            ticket.ring();
        }
    }

    /// A connection has ended.
    pub(super) fn on_closed(&mut self, conn: ConnId) {
        self.waiting.values_mut().filter(|ticket| ticket.conn == conn).for_each(Ticket::ring);
    }

    fn asked(&mut self) {
        self.asking -= 1;
        if self.asking == 0 {
            self.early.clear();
            self.missed = false;
        }
    }

    /// How many wait or are about to.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.waiting.len() + self.asking
    }

    pub(super) fn invariants(&self) {
        assert!(self.asking > 0 || (self.early.is_empty() && !self.missed), "events are kept for somebody");
        assert!(self.early.keys().all(|ticket| !self.waiting.contains_key(ticket)), "who waits has its event");
    }
}

/// A command is about to be placed in the order that may have to wait.
pub(super) struct Asking {
    node: Node,
}

/// What became of a ticket.
pub(super) enum Outcome {
    /// This.
    Done(GroupEvent),
    /// It is to be asked.
    Doubtful,
    /// The client has gone.
    Gone,
}

impl Asking {
    /// Before the command is proposed.
    pub(super) fn begin(node: &Node) -> Self {
        node.state().tickets.asking += 1;
        Self { node: node.clone() }
    }

    /// The command has to wait.
    pub(super) fn wait(self, conn: ConnId, ticket: u64) -> Waiting {
        let node = self.node.clone();
        {
            let tickets = &mut node.state().tickets;
            let event = tickets.early.remove(&ticket);
            let doubtful = event.is_none() && tickets.missed;
            tickets.waiting.insert(ticket, Ticket { conn, event, doubtful, waker: None });
        }
        Waiting { node, conn, ticket }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.node.state().tickets.asked();
    }
}

/// Waits for a rebalance.
pub(super) struct Waiting {
    node: Node,
    conn: ConnId,
    ticket: u64,
}

impl Waiting {
    /// What became of it, or that it is to be asked, at this moment at the latest.
    pub(super) async fn outcome(&mut self, until: Mono) -> Outcome {
        let (node, conn, ticket) = (self.node.clone(), self.conn, self.ticket);
        let done = std::future::poll_fn(move |context| {
            let mut state = node.state();
            let gone = !state.connections.contains_key(&conn);
            let ticket = state.tickets.waiting.get_mut(&ticket).expect("it is there until this is dropped");
            if let Some(event) = ticket.event.take() {
                return Poll::Ready(Outcome::Done(event));
            }
            if gone {
                return Poll::Ready(Outcome::Gone);
            }
            if std::mem::take(&mut ticket.doubtful) {
                return Poll::Ready(Outcome::Doubtful);
            }
            ticket.waker = Some(context.waker().clone());
            Poll::Pending
        });
        let sleep = self.node.sleep(until);
        either(done, sleep).await.unwrap_or(Outcome::Doubtful)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.node.state().tickets.waiting.remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;
    use crate::machine::coordinator::SyncResult;
    use crate::session::tests::rig;
    use crate::wire::ErrorCode;

    fn event(ticket: u64) -> GroupEvent {
        GroupEvent::SyncDone { ticket, member_id: "m".into(), result: SyncResult::error(ErrorCode::NONE) }
    }

    /// What became of it so far.
    fn poll(waiting: &mut Waiting) -> Option<Outcome> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(waiting.outcome(Mono(1))).poll(&mut context) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    #[test]
    fn an_event_that_comes_before_its_ticket_is_not_lost() {
        let node = Node::new(rig::config());
        let (first, second) = (Asking::begin(&node), Asking::begin(&node));
        node.state().tickets.on_event(event(7));
        let mut waiting = first.wait(ConnId(1), 7);
        assert!(matches!(poll(&mut waiting), Some(Outcome::Done(_))));
        drop(waiting);
        drop(second);
        node.state().tickets.invariants();
        assert_eq!(node.state().tickets.count(), 0);
        node.state().tickets.on_event(event(8));
        assert!(node.state().tickets.early.is_empty(), "nobody asks");
    }

    #[test]
    fn too_many_early_events_make_who_waits_ask() {
        let node = Node::new(rig::config());
        let asking = Asking::begin(&node);
        let count = u64::try_from(EARLY_COUNT_MAX).expect("it is small");
        for ticket in 0..=count {
            node.state().tickets.on_event(event(ticket));
        }
        let other = Asking::begin(&node);
        let mut kept = asking.wait(ConnId(1), 0);
        assert!(matches!(poll(&mut kept), Some(Outcome::Done(_))));
        let missed = other.wait(ConnId(1), count);
        assert!(node.state().tickets.waiting[&count].doubtful);
        drop(missed);
    }
}
