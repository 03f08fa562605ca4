//! Changes of members, each of which ends an epoch and begins the next one.
//!
//! PBFT's members are fixed; this is what Verity adds to the paper, after BFT-SMaRt (Bessani et al., DSN 2014 §III.C: members
//! change by requests in the order) and after Lamport et al., "Reconfiguring a State Machine" (2010 §3.1: a change takes effect
//! a window behind the command that makes it).
//!
//! - upon a wish for other members (`Reconfigure`): this member endorses it. That is a request of its own, signed and ordered
//!   in its lane like any other, and of another kind than a proposal, so that no bytes of a client's are taken for one;
//! - upon the execution of an endorsement: it replaces this member's earlier one. One for the members in force takes it back;
//!   one of a stranger, of another epoch, or behind a change that has begun, is nothing;
//! - upon equal endorsements (epoch, voters, context) by f + 1 members, the last of them executed at n: the change begins. The
//!   epoch ends at c, the first multiple of `checkpoint_every` that is n + `window` or more. Somebody honest is among f + 1;
//! - upon a change that has begun: primaries fill the order with nothing up to c, and nothing is assigned or voted for behind c.
//!   Whoever waits for the end longer than for a request asks for another view;
//! - upon the execution of c: its requests are not executed; they stay in their lines. The entry says who the members are. The
//!   checkpoint at c is signed in this epoch by its members; its digest covers the epoch and the members in force behind c;
//! - upon c being stable and executed here: the next epoch begins, in view 0. That is written down, with the proof of c, before
//!   anything is said in it. Votes, view changes, what is kept for a later view, and bans go; requests that wait are sent again;
//! - upon somebody who is in an earlier epoch: it gets the link from its epoch to the next. A link is the proof that c is stable,
//!   the members, and the digest of all else that the checkpoint's digest covers;
//! - upon being no member any more: this replica does not vote, does not lead, and asks for nothing. It answers whoever fetches.
//!
//! **No quorum of an epoch votes behind its end.** A vote for m > c needs a stable checkpoint at m - window > n or later. Take
//! the first such vote of anybody honest, and that checkpoint: q - f honest members at least had executed n when they signed
//! it, had not voted behind c (this vote is the first), and never will, for they know c. That leaves N - (q - f) others, liars
//! among them, which is less than q, since 2q > N + f. It does not matter that the low watermark of the others may be ahead of
//! what they executed. What a replica signed a checkpoint of is on its disk with its proofs, and is looked through before it
//! votes in its next life ([`Pbft::foresee`]).
//!
//! **Nothing is in both epochs.** Every signature names its epoch. An epoch's first low watermark is the last one's end, so all
//! that an epoch assigns lies behind it; that checkpoint needs no proof within the epoch, as 0 needs none in the first.
//!
//! **Whom a newcomer trusts.** Its operator, who tells it the group's founders (`Boot::members`), and everybody's keys. From
//! there it believes link after link: each is signed by a quorum of members whom the last one named. One that is told no
//! founders believes the first snapshot that its driver hands it, and whoever that names: give it the founders. So does the
//! proof of a snapshot follow from what is known here, never from what the snapshot says of itself. Members of an epoch that is
//! over are trusted with its history for as long as anybody may come back from before it: a quorum of them that sold its keys
//! could tell whoever slept since then another story (a long-range attack). Whoever is in a later epoch believes none of it.
//!
//! HAZARD: an epoch that ended without the window between the change and its end would have two quorums for what lies
//! between: those who executed the change, in the new epoch, and those who did not, in the old one.
//!
//! HAZARD: a member that leaves is needed until those that stay or come have what it has: a quorum of the new members may be
//! none without them. An operator stops it once they are through.
//!
//! HAZARD: f + 1 honest members that lack a newcomer's key would take its signatures for lies. An operator gives every
//! member the key before anybody endorses.
//!
//! Deliberately absent: learners. Whoever receives the order votes.

use std::collections::{BTreeSet, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use verity_contract::codec::{put_blob, put_members, put_number, take_blob, take_byte, take_many, take_members};
use verity_contract::{Change, Members, Output, Reconfigure};
use verity_types::{Digest, Mono, NodeId};

use crate::engine::{Leave, Pbft};
use crate::keys::Keys;
use crate::message::{
    Batch, LINK_BYTES_MIN, MAX_MEMBERS, Message, Request, Scope, Stable, check_members, put_stable, signed,
    take_digest, take_number, take_stable,
};
use crate::quorum::Quorum;
use crate::state::Context;
use crate::view_change::Changing;
use crate::{Config, Error, Mutant};

const VERSION: u8 = 1;
/// Bytes that a change carries with it.
pub(crate) const CHANGE_BYTES_MAX: usize = 16 << 10;
/// So many links are kept; whoever slept through more epochs is set up anew, with later members for founders.
const LINKS_MAX: usize = 256;
/// A term holds its epoch above its view, and stays below 2^60.
const EPOCHS_MAX: u64 = 1 << 20;
/// Clients that a group remembers, those of all its epochs.
pub(crate) const CLIENTS_MAX: usize = 16 * MAX_MEMBERS;

/// What a member endorses.
///
/// ```text
/// wish = version:u8 epoch count voter* context
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The epoch that it would end.
    pub(crate) epoch: u64,
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) context: Bytes,
}

impl Wish {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.context.len());
        out.put_u8(VERSION);
        self.put(&mut out);
        out.freeze()
    }

    /// Reads what was ordered: a wish that could come true.
    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, Error> {
        if take_byte(&mut bytes)? != VERSION {
            return Err(Error::InvalidMessage("an endorsement of an unknown version".into()));
        }
        let wish = Self::take(&mut bytes)?;
        if bytes.is_empty() { Ok(wish) } else { Err(Error::InvalidMessage("bytes behind an endorsement".into())) }
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        put_number(out, self.epoch);
        put_number(out, self.voters.len() as u64);
        self.voters.iter().for_each(|voter| put_number(out, voter.0));
        put_blob(out, &self.context);
    }

    pub(crate) fn take(bytes: &mut Bytes) -> Result<Self, Error> {
        let epoch = take_number(bytes)?;
        let named = take_many(bytes, 1, |bytes| take_number(bytes).map(NodeId))?;
        let voters: BTreeSet<NodeId> = named.iter().copied().collect();
        let bad = voters.len() != named.len() || voters.len() > MAX_MEMBERS;
        if bad || check_members(&Members::of_voters(voters.clone())).is_err() {
            return Err(Error::InvalidMessage("an endorsement of voters that no group can have".into()));
        }
        Ok(Self { epoch, voters, context: take_blob(bytes, CHANGE_BYTES_MAX)? })
    }
}

/// A change that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Where its epoch ends.
    pub(crate) at: u64,
    pub(crate) wish: Wish,
}

/// What decides when a change begins and where it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    every: u64,
    window: u64,
    /// One endorsement is enough.
    alone: bool,
}

impl Rules {
    pub(crate) fn of(config: &Config) -> Self {
        let window = if config.breaks(Mutant::EpochEndsAtOnce) { 1 } else { config.window };
        Self { every: config.checkpoint_every, window, alone: config.breaks(Mutant::OneEndorsement) }
    }
}

/// What came of a batch.
pub(crate) struct Passed {
    /// Which of its requests are executed.
    pub(crate) admitted: Vec<bool>,
    /// The change that it ends with.
    pub(crate) ended: Option<Wish>,
}

impl Context {
    /// The batch at `n` takes effect.
    pub(crate) fn pass(&mut self, n: u64, batch: &Batch, rules: Rules) -> Passed {
        self.term = self.term.max(batch.term);
        self.time = self.time.max(batch.time);
        if let Some(Ending { wish, .. }) = self.ending.take_if(|ending| ending.at == n) {
            (self.epoch, self.start) = (self.epoch + 1, n);
            self.members = Members::of_voters(wish.voters.clone());
            self.endorsed.clear();
            return Passed { admitted: vec![false; batch.requests().len()], ended: Some(wish) };
        }
        let mut admitted = Vec::with_capacity(batch.requests().len());
        for request in batch.requests() {
            let admit = self.admit(request);
            admitted.push(admit);
            if admit && request.endorses {
                self.on_endorsement(n, request, rules);
            }
        }
        Passed { admitted, ended: None }
    }

    fn on_endorsement(&mut self, n: u64, request: &Request, rules: Rules) {
        let Ok(wish) = Wish::decode(request.op.clone()) else { return };
        let wrong = wish.epoch != self.epoch || !self.has_room_for(&wish.voters);
        if self.ending.is_some() || wrong || !self.members.voters.contains(&request.client) {
            return;
        }
        if wish.voters == self.members.voters {
            self.endorsed.remove(&request.client);
            return;
        }
        self.endorsed.insert(request.client, wish.clone());
        let enough = if rules.alone { 1 } else { Quorum::of(self.members.voters.len()).weak() };
        if self.endorsed.values().filter(|held| **held == wish).count() >= enough {
            self.endorsed.clear();
            self.ending = Some(Ending { at: (n + rules.window).next_multiple_of(rules.every), wish });
        }
    }

    /// True if neither epochs nor the memory of clients end with these voters.
    fn has_room_for(&self, voters: &BTreeSet<NodeId>) -> bool {
        let new = voters.iter().filter(|voter| !self.clients.contains_key(voter)).count();
        self.epoch + 1 < EPOCHS_MAX && self.clients.len() + new <= CLIENTS_MAX
    }

    /// What a checkpoint's digest covers beside the epoch and the members.
    pub(crate) fn body(&self, machine: Digest) -> Digest {
        Digest(Sha256::new().chain_update(machine.0).chain_update(self.encode()).finalize().into())
    }

    /// A checkpoint's digest.
    pub(crate) fn digest(&self, machine: Digest) -> Digest {
        seal(self.body(machine), self.epoch, &self.members)
    }
}

fn seal(body: Digest, epoch: u64, members: &Members) -> Digest {
    let mut named = BytesMut::new();
    put_number(&mut named, epoch);
    put_members(&mut named, members);
    Digest(Sha256::new().chain_update(body.0).chain_update(named).finalize().into())
}

/// How an epoch ended: what makes whoever believes its members believe those of the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The checkpoint at its end.
    pub(crate) stable: Stable,
    /// What that covers beside the next epoch and its members.
    pub(crate) body: Digest,
    /// Of the next epoch.
    pub(crate) members: Members,
}

impl Link {
    pub(crate) fn put(&self, out: &mut BytesMut) {
        put_stable(out, &self.stable);
        out.put_slice(&self.body.0);
        put_members(out, &self.members);
    }

    pub(crate) fn take(bytes: &mut Bytes) -> Result<Self, Error> {
        let (stable, body, members) = (take_stable(bytes)?, take_digest(bytes)?, take_members(bytes)?);
        check_members(&members)?;
        Ok(Self { stable, body, members })
    }
}

/// Who the members were since the earliest epoch that is known here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The earliest epoch, where it began, and its members.
    epoch: u64,
    from: u64,
    members: Members,
    links: VecDeque<Link>,
}

impl Chain {
    /// Known from an epoch on that began at `from`.
    pub(crate) fn from(epoch: u64, from: u64, members: Members) -> Self {
        Self { epoch, from, members, links: VecDeque::new() }
    }

    /// The epoch in force.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch + self.links.len() as u64
    }

    /// Its members.
    pub(crate) fn members(&self) -> &Members {
        self.links.back().map_or(&self.members, |link| &link.members)
    }

    /// The index behind which it began.
    pub(crate) fn start(&self) -> u64 {
        self.links.back().map_or(self.from, |link| link.stable.n)
    }

    /// How this epoch ended, if it did.
    pub(crate) fn link(&self, epoch: u64) -> Option<&Link> {
        let at = epoch.checked_sub(self.epoch)?;
        self.links.get(usize::try_from(at).ok()?)
    }

    /// Who the members of this epoch are.
    pub(crate) fn members_of(&self, epoch: u64) -> Option<&Members> {
        if epoch == self.epoch {
            return Some(&self.members);
        }
        self.link(epoch.checked_sub(1)?).map(|link| &link.members)
    }

    /// The epoch that an index belongs to, if it is none of a later one than that in force.
    pub(crate) fn epoch_of(&self, n: u64) -> u64 {
        self.epoch + self.links.iter().take_while(|link| link.stable.n < n).count() as u64
    }

    /// How the last epoch ended.
    pub(crate) fn last(&self) -> Option<&Link> {
        self.links.back()
    }

    /// The links from this epoch on.
    pub(crate) fn since(&self, epoch: u64) -> Vec<Link> {
        let known = usize::try_from(epoch.saturating_sub(self.epoch)).unwrap_or(usize::MAX);
        self.links.iter().skip(known).cloned().collect()
    }

    /// The epoch in force ended so.
    pub(crate) fn push(&mut self, link: Link) {
        assert!(link.stable.epoch == self.epoch() && link.stable.n > self.start(), "links are a row");
        self.links.push_back(link);
        if self.links.len() > LINKS_MAX {
            let first = self.links.pop_front().expect("there are many");
            (self.epoch, self.from, self.members) = (self.epoch + 1, first.stable.n, first.members);
        }
    }

    /// True if a quorum of the members in force says that their epoch ended so.
    pub(crate) fn bears_out(&self, link: &Link, keys: &Keys, group: &Bytes) -> bool {
        let Link { stable, body, members } = link;
        let (voters, scope) = (&self.members().voters, Scope { group: group.clone(), epoch: self.epoch() });
        stable.epoch == scope.epoch
            && stable.n > self.start()
            && stable.votes.len() >= Quorum::of(voters.len()).size
            && stable.votes.iter().all(|(node, _)| voters.contains(node))
            && stable.digest == seal(*body, scope.epoch + 1, members)
            && keys.are_signed(&signed(&stable.votes, scope.checkpoint(stable.n, stable.digest)).collect::<Vec<_>>())
    }

    /// Follows the links up to `epoch`; false if one of them is unsound.
    pub(crate) fn follow(&mut self, links: Vec<Link>, epoch: u64, keys: &Keys, group: &Bytes) -> bool {
        for link in links {
            if self.epoch() >= epoch || link.stable.epoch < self.epoch() {
                continue;
            }
            if !self.bears_out(&link, keys, group) {
                return false;
            }
            self.push(link);
        }
        true
    }

    pub(crate) fn put(&self, out: &mut BytesMut) {
        put_number(out, self.epoch);
        put_number(out, self.from);
        put_members(out, &self.members);
        put_number(out, self.links.len() as u64);
        self.links.iter().for_each(|link| link.put(out));
    }

    pub(crate) fn take(bytes: &mut Bytes) -> Result<Self, Error> {
        let (epoch, from) = (take_number(bytes)?, take_number(bytes)?);
        let members = take_members(bytes)?;
        let links = take_many(bytes, LINK_BYTES_MIN, Link::take)?;
        let mut chain = Self::from(epoch, from, members);
        for link in links {
            if link.stable.epoch != chain.epoch() || link.stable.n <= chain.start() {
                return Err(Error::InvalidMessage("epochs that do not follow each other".into()));
            }
            chain.push(link);
        }
        Ok(chain)
    }
}

impl Pbft {
    /// The last index of the epoch, once its end is known here.
    pub(crate) fn end(&self) -> Option<u64> {
        match self.context.epoch.cmp(&self.scope.epoch) {
            std::cmp::Ordering::Greater => Some(self.context.start),
            std::cmp::Ordering::Equal => self.context.ending.as_ref().map(|ending| ending.at).or(self.foreseen),
            std::cmp::Ordering::Less => None,
        }
    }

    /// True if everything up to the end of the epoch is committed here.
    pub(crate) fn is_at_end(&self) -> bool {
        self.end().is_some_and(|end| self.decided() >= end)
    }

    /// True while a change has begun and its end is not reached.
    pub(crate) fn awaits_end(&self) -> bool {
        self.end().is_some_and(|end| self.decided() < end)
    }

    /// Whether the epoch ends in what is committed here, though it was not executed yet in this life.
    pub(crate) fn foresee(&mut self) {
        let (mut context, rules) = (self.context.clone(), Rules::of(&self.config));
        for (n, entry) in self.entries.range(self.handed + 1..) {
            context.pass(*n, &entry.batch, rules);
        }
        self.foreseen = match context.ending {
            _ if context.epoch > self.scope.epoch => Some(context.start),
            Some(ending) if context.epoch == self.scope.epoch => Some(ending.at),
            _ => None,
        };
    }

    /// Begins the next epoch if this one is over: its end is executed here, and stable.
    pub(crate) fn look_epoch(&mut self) -> bool {
        let over = self.context.epoch == self.scope.epoch + 1 && !self.is_unsure();
        if !over || self.low() != self.handed {
            return false;
        }
        let Some(machine) = self.checkpoints.machine(self.handed) else { return false };
        assert_eq!(self.handed, self.context.start, "nothing of the next epoch is executed before it begins");
        let (stable, body) = (self.stable().clone(), self.context.body(machine));
        self.chain.push(Link { stable, body, members: self.context.members.clone() });
        // Whoever is in the new epoch has all of the last one.
        self.flush_later();
        self.enter_epoch();
        self.ask_again();
        self.unstash();
        true
    }

    /// The epoch at the end of the chain begins here.
    pub(crate) fn enter_epoch(&mut self) {
        assert!(self.low() >= self.chain.start(), "an epoch begins at a stable checkpoint");
        self.scope.epoch = self.chain.epoch();
        self.set_members(self.chain.members().clone());
        (self.view, self.entered, self.view_at, self.barred) = (0, true, self.now, None);
        self.slots.clear();
        self.judging.clear();
        self.client.leave_view();
        self.queue.drop_open();
        self.forget_commits();
        self.checkpoints.forget_votes();
        self.changing = Changing::default();
        (self.new_view, self.foreseen) = (None, None);
        self.peers.values_mut().for_each(crate::engine::Peer::forgive);
        let members = &self.members;
        self.queue.retain(|client| members.contains(client));
        self.queue.start_over(self.now);
        if !self.members.voters.contains(&self.id) {
            self.fail_all_barriers();
        }
        (self.pad_to, self.padded_at) = (0, None);
        self.next = self.low().max(self.decided()) + 1;
        self.ahead = self.proposed();
        self.announces = self.is_primary();
        let (now, dials) = (self.now, self.dials());
        self.pace.on_view(now, dials);
        self.write_state();
    }

    /// Tells a replica that is in an earlier epoch how that ended.
    pub(crate) fn introduce(&mut self, to: NodeId, epoch: u64) {
        if let Some(link) = self.chain.link(epoch).cloned() {
            self.send(to, &Message::Link(link), Leave::Now);
        }
    }

    /// How this epoch ended, as somebody says who is in the next one.
    pub(crate) fn on_link(&mut self, from: NodeId, link: Link) -> Result<(), Error> {
        if link.stable.epoch != self.scope.epoch || link.stable.n <= self.low() || self.voters.is_empty() {
            return Ok(());
        }
        if !self.chain.bears_out(&link, &self.keys, &self.scope.group) {
            return Err(Error::PeerMisbehaved { node: from, what: "the end of an epoch without its proof".into() });
        }
        self.make_stable(link.stable);
        Ok(())
    }

    /// Endorses a change.
    fn endorse(&mut self, change: Change) -> Result<(), String> {
        let Change { voters, learners, context } = change;
        if !self.votes() {
            return Err(format!("node {} has no vote in this group now", self.id));
        }
        if !learners.is_empty() {
            return Err("every member of a PBFT group votes: it has no learners".into());
        }
        if voters.is_empty() || voters.len() > MAX_MEMBERS || voters.contains(&NodeId(0)) {
            return Err(format!("a group has 1 to {MAX_MEMBERS} voters, none of them node 0"));
        }
        if context.len() > CHANGE_BYTES_MAX {
            return Err(format!("a change carries {CHANGE_BYTES_MAX} bytes with it at most"));
        }
        if let Some(stranger) = voters.iter().find(|voter| !self.keys.has(**voter)) {
            return Err(format!("node {stranger} has no public key here: give it to every member first"));
        }
        if self.context.epoch != self.scope.epoch {
            return Err("the members change just now: ask again".into());
        }
        if !self.context.has_room_for(&voters) {
            return Err("this group has had all the members and epochs that it can have".into());
        }
        let wish = Wish { epoch: self.scope.epoch, voters, context };
        if let Some(ending) = &self.context.ending {
            let same = ending.wish == wish;
            return if same { Ok(()) } else { Err(format!("the members change at {} already", ending.at)) };
        }
        let op = wish.encode();
        let stands = match self.client.last_endorsement() {
            Some(asked) => *asked == op,
            None if wish.voters == self.members.voters => !self.context.endorsed.contains_key(&self.id),
            None => self.context.endorsed.get(&self.id) == Some(&wish),
        };
        if stands {
            return Ok(());
        }
        if self.is_full(op.len()) {
            return Err("too much waits to be ordered here: ask again".into());
        }
        self.ask(op, true);
        Ok(())
    }
}

impl Reconfigure for Pbft {
    fn on_reconfigure(&mut self, now: Mono, change: Change, out: &mut Vec<Output>) -> Result<(), String> {
        assert!(now >= self.now, "a node's clock never goes back within one life");
        self.now = now;
        let result = self.endorse(change);
        self.settle(out);
        result
    }
}
