//! A group: members of one kind, and the offsets that they committed.
//!
//! A group that nobody has joined is an empty classic one; an empty group becomes of the kind of its first member. A share
//! group remains one: where it stands in its partitions is of no use to another kind.

use super::classic::{Classic, ClassicState};
use super::consumer::Consumer;
use super::offsets::Offsets;
use super::share::Share;
use crate::machine::codec::{choice, record};

choice! {
    /// Who assigns.
    pub(super) enum Kind {
        /// A leader among the members.
        Classic {
            group: Classic,
        } = 1,
        /// The coordinator (KIP-848).
        Consumer {
            group: Consumer,
        } = 2,
        /// The coordinator, and several members may read a partition (KIP-932).
        Share {
            group: Share,
        } = 3,
    }
}

record! {
    /// A group.
    pub(super) struct Group {
        pub(super) kind: Kind,
        pub(super) offsets: Offsets,
    }
}

impl Group {
    pub(super) fn new(now: u64) -> Self {
        Self { kind: Kind::Classic { group: Classic::new(now) }, offsets: Offsets::default() }
    }

    /// True if nobody is in it.
    pub(super) fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Classic { group } => group.state == ClassicState::Empty,
            Kind::Consumer { group } => group.members.is_empty(),
            Kind::Share { group } => group.members.is_empty(),
        }
    }

    /// True if it says nothing that a group that does not exist would not say.
    pub(super) fn is_void(&self) -> bool {
        let unused = match &self.kind {
            Kind::Classic { group } => group.is_void(),
            Kind::Consumer { group } => group.members.is_empty() && group.epoch == 0,
            Kind::Share { group } => group.members.is_empty() && group.epoch == 0,
        };
        unused && self.offsets.is_empty()
    }

    /// The classic group; an empty group becomes one.
    pub(super) fn classic(&mut self, now: u64) -> Option<&mut Classic> {
        if matches!(self.kind, Kind::Consumer { .. }) && self.is_empty() {
            self.kind = Kind::Classic { group: Classic::new(now) };
        }
        match &mut self.kind {
            Kind::Classic { group } => Some(group),
            Kind::Consumer { .. } | Kind::Share { .. } => None,
        }
    }

    /// The consumer group; an empty group becomes one.
    pub(super) fn consumer(&mut self) -> Option<&mut Consumer> {
        if let Kind::Classic { group } = &self.kind
            && group.state == ClassicState::Empty
        {
            self.kind = Kind::Consumer { group: Consumer::new() };
        }
        match &mut self.kind {
            Kind::Consumer { group } => Some(group),
            Kind::Classic { .. } | Kind::Share { .. } => None,
        }
    }

    /// The share group; a group that was just made becomes one.
    pub(super) fn share(&mut self) -> Option<&mut Share> {
        if self.is_void() && !matches!(self.kind, Kind::Share { .. }) {
            self.kind = Kind::Share { group: Share::new() };
        }
        match &mut self.kind {
            Kind::Share { group } => Some(group),
            Kind::Classic { .. } | Kind::Consumer { .. } => None,
        }
    }

    /// True if a member reads the topic, or may.
    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        match &self.kind {
            Kind::Classic { group } => group.is_subscribed(topic),
            Kind::Consumer { group } => group.is_subscribed(topic),
            Kind::Share { group } => group.is_subscribed(topic),
        }
    }

    /// When something is next to be done without anybody asking.
    pub(super) fn deadline(&self) -> Option<u64> {
        match &self.kind {
            Kind::Classic { group } => group.deadline(),
            Kind::Consumer { group } => group.deadline(),
            Kind::Share { .. } => None,
        }
    }
}
