//! A lane: the stream of commands from one node to one group, applied exactly once and in order.
//!
//! - upon a new command: it takes the next sequence number and waits until it is applied;
//! - upon a leader becoming known, a reconnect, or [`RESEND_AFTER`] without progress: what waits is sent again, to another
//!   node [`FORWARD_BYTES`] at a time;
//! - upon applying: [`Lanes::admit`] lets a command pass only if it is the next of its lane.
//!
//! A command that waits is never given up, for a gap would stop the lane; a session that no longer wants the answer
//! ignores it. The lane is bounded instead: when it is full, new commands are refused at once.
//!
//! Deliberately absent: time limits. Sessions know how long their clients wait.

use std::collections::{BTreeMap, VecDeque};

use verity_contract::{Pieces, RequestId};
use verity_types::{Incarnation, Mono, Nanos, NodeId, Token};

use crate::batch::Proposal;
use crate::replica::ServiceId;

/// How many commands may wait in one lane.
pub const LANE_PROPOSALS_MAX: usize = 65_536;
/// How many bytes may wait in one lane.
pub const LANE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// About so many bytes are on their way to another node that leads, before the first of them is applied.
pub(crate) const FORWARD_BYTES: usize = 4 * 1024 * 1024;
/// After this long without progress, everything that waits is sent again.
pub(crate) const RESEND_AFTER: Nanos = Nanos::from_millis(400);

/// A command of this node that is not applied yet.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) sequence: u64,
    pub(crate) service: ServiceId,
    pub(crate) token: Token,
    pub(crate) command: Pieces,
}

/// This node's own lane to one group.
#[derive(Debug)]
pub(crate) struct Lane {
    origin: NodeId,
    incarnation: Incarnation,
    /// The sequence number that the next command takes.
    next: u64,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// How many of `waiting`, from the front, were handed to the leader since the last rewind.
    sent: usize,
    /// Bytes of those.
    bytes_sent: usize,
    progress_at: Mono,
}

/// How many bits of an incarnation count what began in one life of the node.
const WITHIN_BITS: u32 = 32;

/// The incarnation of what is the `number`th of its kind in this life of the node: of a group's lane, of its engine. A group
/// that a node has left and hosts again gets new ones: what waited in those before is gone, and nothing may be taken for it.
pub(crate) fn life_within(node: Incarnation, number: u64) -> Incarnation {
    Incarnation(node.0 << WITHIN_BITS | number)
}

/// In which life of its node a lane was opened.
pub(crate) fn life_of_lane(lane: Incarnation) -> Incarnation {
    Incarnation(lane.0 >> WITHIN_BITS)
}

impl Lane {
    pub(crate) fn new(origin: NodeId, incarnation: Incarnation) -> Self {
        let waiting = VecDeque::new();
        Self { origin, incarnation, next: 1, waiting, bytes: 0, sent: 0, bytes_sent: 0, progress_at: Mono(0) }
    }

    /// Takes a command in; gives it back as `Err` if the lane is full.
    pub(crate) fn push(&mut self, now: Mono, service: ServiceId, token: Token, command: Pieces) -> Result<(), Pieces> {
        if self.waiting.len() >= LANE_PROPOSALS_MAX || self.bytes + command.len() > LANE_BYTES_MAX {
            return Err(command);
        }
        if self.waiting.is_empty() {
            self.progress_at = now;
        }
        self.bytes += command.len();
        self.waiting.push_back(Waiting { sequence: self.next, service, token, command });
        self.next += 1;
        Ok(())
    }

    /// What was not handed out since the last rewind, as long as about `window` bytes at most are handed out and not
    /// applied; it counts as handed out from now on.
    pub(crate) fn unsent(&mut self, window: usize) -> impl Iterator<Item = Proposal> + '_ {
        let from = self.sent;
        while self.bytes_sent < window
            && let Some(next) = self.waiting.get(self.sent)
        {
            self.bytes_sent += next.command.len();
            self.sent += 1;
        }
        let (origin, incarnation) = (self.origin, self.incarnation);
        self.waiting.range(from..self.sent).map(move |waiting| Proposal {
            request: RequestId { origin, incarnation, sequence: waiting.sequence },
            command: waiting.command.clone(),
        })
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The sequence number that the next command takes.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.waiting.len()
    }

    /// Everything that waits is to be handed out again.
    pub(crate) fn rewind(&mut self, now: Mono) {
        (self.sent, self.bytes_sent) = (0, 0);
        self.progress_at = now;
    }

    /// True if something waits and nothing was applied for [`RESEND_AFTER`].
    pub(crate) fn stalled(&self, now: Mono) -> bool {
        !self.waiting.is_empty() && now.since(self.progress_at) >= RESEND_AFTER
    }

    /// Removes the command that was just applied. `None` if the request is not of this lane's incarnation.
    pub(crate) fn applied(&mut self, now: Mono, request: RequestId) -> Option<Waiting> {
        if request.origin != self.origin || request.incarnation != self.incarnation {
            return None;
        }
        self.progress_at = now;
        let front = self.waiting.pop_front().expect("a command of this incarnation was applied, so it waits here");
        assert_eq!(front.sequence, request.sequence, "a lane is applied in order");
        self.bytes -= front.command.len();
        if self.sent > 0 {
            self.sent -= 1;
            self.bytes_sent -= front.command.len();
        }
        Some(front)
    }

    /// Removes what a restored snapshot says is applied, whose answers are lost.
    pub(crate) fn skip_to(&mut self, now: Mono, admitted: Option<(Incarnation, u64)>) -> Vec<Waiting> {
        let Some((incarnation, sequence)) = admitted else { return Vec::new() };
        if incarnation != self.incarnation {
            return Vec::new();
        }
        self.progress_at = now;
        let count = self.waiting.iter().take_while(|waiting| waiting.sequence <= sequence).count();
        let bytes = |waiting: &[Waiting]| waiting.iter().map(|waiting| waiting.command.len()).sum::<usize>();
        let lost: Vec<Waiting> = self.waiting.drain(..count).collect();
        self.bytes -= bytes(&lost);
        self.bytes_sent -= bytes(&lost[..count.min(self.sent)]);
        self.sent = self.sent.saturating_sub(count);
        lost
    }

    /// Takes everything that waits: the group has ended.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Waiting> + '_ {
        (self.sent, self.bytes_sent, self.bytes) = (0, 0, 0);
        self.waiting.drain(..)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn invariants(&self) {
        assert!(self.sent <= self.waiting.len());
        let bytes = |count: usize| self.waiting.iter().take(count).map(|waiting| waiting.command.len()).sum::<usize>();
        assert_eq!((self.bytes, self.bytes_sent), (bytes(self.waiting.len()), bytes(self.sent)));
        if let (Some(front), Some(back)) = (self.waiting.front(), self.waiting.back()) {
            assert_eq!(back.sequence + 1, self.next, "the last waiting command is the last that came");
            let span = back.sequence - front.sequence + 1;
            assert_eq!(span, self.waiting.len() as u64, "waiting commands have no gaps");
        }
    }
}

/// The replicated side: how far each node's lane is applied. Part of every snapshot of the group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lanes {
    applied: BTreeMap<NodeId, (Incarnation, u64)>,
}

impl Lanes {
    /// True if the command is the next of its lane; it then counts as applied.
    pub(crate) fn admit(&mut self, request: RequestId) -> bool {
        if request.origin == NodeId(0) {
            return true;
        }
        let lane = self.applied.entry(request.origin).or_default();
        if request.incarnation > lane.0 {
            *lane = (request.incarnation, 0);
        }
        if request.incarnation < lane.0 || request.sequence != lane.1 + 1 {
            return false;
        }
        lane.1 = request.sequence;
        true
    }

    pub(crate) fn of(&self, origin: NodeId) -> Option<(Incarnation, u64)> {
        self.applied.get(&origin).copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, Incarnation, u64)> + '_ {
        self.applied.iter().map(|(origin, (incarnation, sequence))| (*origin, *incarnation, *sequence))
    }

    pub(crate) fn len(&self) -> usize {
        self.applied.len()
    }

    pub(crate) fn insert(&mut self, origin: NodeId, incarnation: Incarnation, sequence: u64) {
        self.applied.insert(origin, (incarnation, sequence));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn request(incarnation: u64, sequence: u64) -> RequestId {
        RequestId { origin: NodeId(2), incarnation: Incarnation(incarnation), sequence }
    }

    #[test]
    fn doubles_gaps_and_the_dead_are_skipped() {
        let mut lanes = Lanes::default();
        assert!(!lanes.admit(request(1, 2)), "a gap");
        assert!(lanes.admit(request(1, 1)));
        assert!(!lanes.admit(request(1, 1)), "a double");
        assert!(lanes.admit(request(1, 2)));
        assert!(lanes.admit(request(2, 1)), "the node started again");
        assert!(!lanes.admit(request(1, 3)), "a late command of the dead incarnation");
        assert!(lanes.admit(RequestId::default()), "a duty is outside of any lane");
    }

    #[test]
    fn everything_waiting_is_sent_again_in_order() {
        let mut lane = Lane::new(NodeId(2), Incarnation(1));
        for token in 1..=3 {
            lane.push(Mono(0), ServiceId(0), Token(token), Bytes::from_static(b"x").into()).expect("the lane has room");
        }
        assert_eq!(lane.unsent(usize::MAX).count(), 3);
        assert!(!lane.has_unsent());
        assert_eq!(lane.applied(Mono(1), request(1, 1)).map(|w| w.token), Some(Token(1)));
        lane.rewind(Mono(2));
        let again: Vec<u64> = lane.unsent(usize::MAX).map(|p| p.request.sequence).collect();
        assert_eq!(again, [2, 3]);
        lane.invariants();
    }

    #[test]
    fn a_window_bounds_what_is_under_way() {
        let mut lane = Lane::new(NodeId(2), Incarnation(1));
        for token in 1..=6 {
            lane.push(Mono(0), ServiceId(0), Token(token), Bytes::from_static(b"four").into())
                .expect("the lane has room");
        }
        assert_eq!(lane.unsent(10).count(), 3, "the third passes the window, as one that is larger must");
        assert_eq!(lane.unsent(10).count(), 0);
        lane.applied(Mono(1), request(1, 1));
        assert_eq!(lane.unsent(10).count(), 1);
        lane.invariants();
        assert_eq!(lane.skip_to(Mono(2), Some((Incarnation(1), 5))).len(), 4);
        lane.invariants();
        assert_eq!(lane.unsent(10).map(|proposal| proposal.request.sequence).collect::<Vec<_>>(), [6]);
        lane.rewind(Mono(3));
        assert_eq!(lane.unsent(10).count(), 1);
        lane.invariants();
    }

    #[test]
    fn a_full_lane_refuses() {
        let mut lane = Lane::new(NodeId(2), Incarnation(1));
        let big = Pieces::from(Bytes::from(vec![0; LANE_BYTES_MAX / 2]));
        assert!(lane.push(Mono(0), ServiceId(0), Token(1), big.clone()).is_ok());
        assert!(lane.push(Mono(0), ServiceId(0), Token(2), big.clone()).is_ok());
        assert!(lane.push(Mono(0), ServiceId(0), Token(3), big).is_err());
        lane.invariants();
    }

    #[test]
    fn a_snapshot_that_is_ahead_ends_the_wait() {
        let mut lane = Lane::new(NodeId(2), Incarnation(4));
        for token in 1..=3 {
            lane.push(Mono(0), ServiceId(0), Token(token), Pieces::default()).expect("the lane has room");
        }
        assert!(lane.skip_to(Mono(0), Some((Incarnation(3), 9))).is_empty());
        assert_eq!(lane.skip_to(Mono(0), Some((Incarnation(4), 2))).len(), 2);
        assert_eq!(lane.len(), 1);
        lane.invariants();
    }
}
