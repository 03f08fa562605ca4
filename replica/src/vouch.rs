//! Replies that f + 1 members vouch for (PBFT §4.2, the client's part), for engines that do not trust their members.
//!
//! - upon applying a command of another node: the fingerprint of its reply is kept, and told to that node with those of the
//!   same turn;
//! - upon applying a command of one's own: the reply waits until f members have told the same fingerprint: with this node's
//!   own f + 1, so that somebody honest came to it as well. Whatever follows from the order behind it waits with it, so that
//!   sessions hear of everything in the order in which it happened;
//! - upon [`ASK_AFTER`] without enough: the others are asked to say theirs again;
//! - upon [`WAIT_MAX`]: the command's result is unknown to whoever asked; it is applied, and a member that came to the state
//!   by a snapshot cannot vouch for how;
//! - upon f + 1 members who tell another fingerprint than this node's: this node's state is wrong, and it must stop.
//!
//! A fingerprint is cut to 16 bytes: somebody honest is among those who tell it, and nobody chooses theirs.
//!
//! Deliberately absent: signatures. The links say who tells; an answer that is to convince others is a certificate
//! (`crate::certify`).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use verity_contract::RequestId;
use verity_types::{Incarnation, Mono, Nanos, NodeId};

use crate::lane::LANE_PROPOSALS_MAX;

/// After so long without enough fingerprints they are asked for again.
pub(crate) const ASK_AFTER: Nanos = Nanos::from_millis(100);
/// A reply that nobody vouches for is given up after so long.
pub(crate) const WAIT_MAX: Nanos = Nanos::from_millis(5_000);
/// So many fingerprints are told at once.
pub(crate) const TOLD_MAX: usize = 8_192;

/// A reply's fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub [u8; 16]);

impl Tag {
    pub(crate) fn of(reply: &Bytes) -> Self {
        let digest = Sha256::digest(reply);
        let mut tag = [0; 16];
        tag.copy_from_slice(&digest[..16]);
        Self(tag)
    }
}

/// Fingerprints of the replies to consecutive commands of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tags {
    /// In which lane of the node whom they are for.
    pub incarnation: Incarnation,
    /// The sequence number of the first.
    pub first: u64,
    /// In order.
    pub tags: Vec<Tag>,
}

/// What is known of the replies to one other node's commands.
#[derive(Debug, Default)]
struct Told {
    incarnation: Incarnation,
    first: u64,
    tags: VecDeque<Tag>,
    /// Those from here on were not told yet.
    untold: u64,
}

/// What became of a reply that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wait,
    /// Enough members came to the same.
    Vouched,
    /// Enough members came to something else.
    Contradicted,
}

/// Both sides of vouching, for one group.
#[derive(Debug, Default)]
pub(crate) struct Vouching {
    told: BTreeMap<NodeId, Told>,
    /// What others told of this node's own commands.
    heard: BTreeMap<u64, BTreeMap<NodeId, Tag>>,
    /// Nothing below counts any more.
    settled: u64,
}

impl Vouching {
    /// A command of another node was applied here, with this reply.
    pub(crate) fn note(&mut self, request: RequestId, tag: Tag) {
        let told = self.told.entry(request.origin).or_default();
        let next = told.first + told.tags.len() as u64;
        if told.incarnation != request.incarnation || next != request.sequence {
            // Another life of that node, or a snapshot took the place of what lies between.
            let (incarnation, first) = (request.incarnation, request.sequence);
            *told = Told { incarnation, first, tags: VecDeque::new(), untold: first };
        }
        told.tags.push_back(tag);
        if told.tags.len() > LANE_PROPOSALS_MAX {
            told.tags.pop_front();
            told.first += 1;
            told.untold = told.untold.max(told.first);
        }
    }

    /// What is to be told, and to whom.
    pub(crate) fn take_untold(&mut self) -> Vec<(NodeId, Tags)> {
        let mut all = Vec::new();
        for (origin, told) in &mut self.told {
            while told.untold < told.first + told.tags.len() as u64 {
                let tags = told.part(told.untold);
                told.untold += tags.tags.len() as u64;
                all.push((*origin, tags));
            }
        }
        all
    }

    /// What is known of a node's commands from `first` on, once more.
    pub(crate) fn again(&self, origin: NodeId, incarnation: Incarnation, first: u64) -> Option<Tags> {
        let told = self.told.get(&origin).filter(|told| told.incarnation == incarnation)?;
        let end = told.first + told.tags.len() as u64;
        (first < end).then(|| told.part(first.max(told.first)))
    }

    /// A member told what it came to for this node's commands, of which those below `next` were asked for.
    pub(crate) fn on_told(&mut self, from: NodeId, tags: &Tags, next: u64) {
        for (sequence, tag) in (tags.first..next).zip(&tags.tags) {
            if sequence >= self.settled {
                self.heard.entry(sequence).or_default().entry(from).or_insert(*tag);
            }
        }
    }

    /// What the members say to this node's reply; `enough` is f + 1, this node among them.
    pub(crate) fn verdict(&self, sequence: u64, own: Tag, enough: usize) -> Verdict {
        let heard = self.heard.get(&sequence);
        let count = |tag: Tag| heard.map_or(0, |heard| heard.values().filter(|other| **other == tag).count());
        if count(own) + 1 >= enough {
            return Verdict::Vouched;
        }
        let others = heard.into_iter().flat_map(BTreeMap::values).filter(|tag| **tag != own);
        let contradicted = others.copied().any(|tag| count(tag) >= enough);
        if contradicted { Verdict::Contradicted } else { Verdict::Wait }
    }

    /// Everything up to and with this command is settled.
    pub(crate) fn settle(&mut self, sequence: u64) {
        self.settled = sequence + 1;
        self.heard = self.heard.split_off(&self.settled);
    }
}

impl Told {
    fn part(&self, from: u64) -> Tags {
        let skip = usize::try_from(from - self.first).expect("a lane is short");
        let tags = self.tags.iter().skip(skip).take(TOLD_MAX).copied().collect();
        Tags { incarnation: self.incarnation, first: from, tags }
    }
}

/// Something that happened behind a reply that waits, or that reply.
#[derive(Debug)]
pub(crate) enum Behind<W> {
    /// The reply to a command of this node.
    Reply {
        sequence: u64,
        tag: Tag,
        since: Mono,
        /// Delivers it.
        work: W,
        /// Delivers that nobody knows.
        unknown: W,
    },
    /// Anything else.
    Work(W),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(origin: u64, incarnation: u64, sequence: u64) -> RequestId {
        RequestId { origin: NodeId(origin), incarnation: Incarnation(incarnation), sequence }
    }

    fn tag(byte: u8) -> Tag {
        Tag([byte; 16])
    }

    #[test]
    fn what_was_applied_is_told_once_and_again_when_asked() {
        let mut vouching = Vouching::default();
        (1..=3).for_each(|sequence| vouching.note(request(2, 7, sequence), tag(sequence as u8)));
        let told = vouching.take_untold();
        let all = Tags { incarnation: Incarnation(7), first: 1, tags: vec![tag(1), tag(2), tag(3)] };
        assert_eq!(told, [(NodeId(2), all)]);
        assert!(vouching.take_untold().is_empty());
        vouching.note(request(2, 7, 4), tag(4));
        assert_eq!(vouching.take_untold()[0].1.first, 4);
        assert_eq!(vouching.again(NodeId(2), Incarnation(7), 3).unwrap().tags, [tag(3), tag(4)]);
        assert_eq!(vouching.again(NodeId(2), Incarnation(6), 3), None);
        assert_eq!(vouching.again(NodeId(3), Incarnation(7), 3), None);
        vouching.note(request(2, 7, 9), tag(9));
        assert_eq!(vouching.again(NodeId(2), Incarnation(7), 3).unwrap().first, 9, "a snapshot hid what lies between");
    }

    #[test]
    fn a_reply_needs_others_who_came_to_it() {
        let mut vouching = Vouching::default();
        let said = |first: u64, bytes: &[u8]| Tags {
            incarnation: Incarnation(1),
            first,
            tags: bytes.iter().map(|byte| tag(*byte)).collect(),
        };
        vouching.on_told(NodeId(2), &said(1, &[1, 9]), 3);
        assert_eq!(vouching.verdict(1, tag(1), 2), Verdict::Vouched);
        assert_eq!(vouching.verdict(1, tag(1), 3), Verdict::Wait, "of seven, three must agree");
        assert_eq!(vouching.verdict(2, tag(2), 2), Verdict::Wait, "one who says otherwise may lie");
        vouching.on_told(NodeId(2), &said(2, &[2]), 3);
        assert_eq!(vouching.verdict(2, tag(2), 2), Verdict::Wait, "who lied once for a command said its word");
        vouching.on_told(NodeId(3), &said(2, &[9]), 3);
        assert_eq!(vouching.verdict(2, tag(2), 2), Verdict::Contradicted);
        vouching.on_told(NodeId(4), &said(3, &[3]), 3);
        assert_eq!(vouching.verdict(3, tag(3), 2), Verdict::Wait, "what was not asked for is not kept");
        vouching.settle(2);
        vouching.on_told(NodeId(4), &said(1, &[1, 2]), 3);
        assert!(vouching.heard.is_empty());
    }
}
