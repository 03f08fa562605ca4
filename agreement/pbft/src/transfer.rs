//! How a replica that is behind comes to what the others have (PBFT §4.6).
//!
//! - upon each heartbeat: a replica says how far it is; what it said and nobody answered is said again;
//! - upon somebody who is further: committed entries are fetched, each with its proof: q commits; from each of those who say
//!   that they have more in turn, so that one who says so and answers nothing holds nobody up;
//! - upon a view that was left while others stay in it: what they commit is fetched at each tick;
//! - upon somebody who needs what the log no longer holds: it is offered the last snapshot, with f + 1 checkpoints at least:
//!   one of those who signed is honest, so the state is right. They need not be a quorum: the one who is behind may be the
//!   one that a quorum lacks. Its state counts only if it has the digest that was signed: until that is known nothing is
//!   executed behind it and this replica does not vote, and if it has not, another is asked for, an older one if need be. None
//!   is taken before f + 1 members say that their logs do not reach back so far: then somebody honest has one to give, and no
//!   liar can make anybody give up what it has for a lie while the others have nothing to put into its place;
//! - upon somebody who is behind with its view or its stable checkpoint: it gets the new view, or the checkpoint's proof;
//! - upon somebody who is in an earlier epoch: it gets how that ended (`epoch`). Entries are sent up to the end of their epoch,
//!   and proven by its members; a snapshot comes with the links from the epoch of whoever asks.
//!
//! Whom something is fetched from does not matter: everything proves itself. Who lies about how far it is costs a message.

use std::cmp::Ordering;

use verity_contract::{Members, Output, SnapshotMeta};
use verity_types::{Digest, LogIndex, Nanos, NodeId};

use crate::Error;
use crate::engine::{Leave, Pbft};
use crate::epoch::{Chain, Link};
use crate::keys::Signed;
use crate::message::{Batch, Message, Proof, Scope, Stable, Status, signed};
use crate::quorum::Quorum;
use crate::state::{Context, Entry, entry_record, proof_record};

/// Entries in one answer reach this many bytes, or this count.
const ENTRIES_BYTES: usize = 1 << 20;
const ENTRIES_MAX: usize = 512;
/// The order is filled up to a checkpoint this often at most.
const PAD_PAUSE: Nanos = Nanos::from_millis(5_000);
/// Votes for so many sequence numbers are said again at once.
const AGAIN_MAX: usize = 32;

impl Pbft {
    /// Says how far this replica is, and again what may have been lost.
    pub(crate) fn beat(&mut self) {
        self.tell_all(&Message::Status(self.how_far()));
        if !self.votes() {
            return;
        }
        if self.entered {
            self.vote_again();
        } else {
            self.say_change();
        }
    }

    fn how_far(&self) -> Status {
        let (view, entered, executed) = (self.view, self.entered, self.decided());
        Status { view, entered, executed, stable: self.low(), first: self.base + 1 }
    }

    /// Says again what nothing followed from since the last heartbeat.
    fn vote_again(&mut self) {
        let (view, leads, first) = (self.view, self.primary() == self.id, self.decided() + 1);
        let mut again = Vec::new();
        for (n, slot) in self.slots.range_mut(first..).take(AGAIN_MAX) {
            if !std::mem::replace(&mut slot.idle, true) {
                continue;
            }
            let Some(accepted) = &slot.accepted else { continue };
            let (n, digest, lead) = (*n, accepted.digest, accepted.lead);
            match &accepted.batch {
                Some(batch) if leads && self.barred != Some(view) => {
                    again.push((Message::PrePrepare { view, n, batch: batch.clone(), sig: lead }, Leave::Begun));
                }
                None => again.push((Message::Want { n, digest }, Leave::Now)),
                Some(_) => {}
            }
            if let Some(vote) = slot.prepares.of(self.id) {
                again.push((Message::Prepare { view, n, digest: vote.digest, lead, sig: vote.sig }, Leave::Stable));
            }
            if let Some(sig) = slot.committing {
                again.push((Message::Commit { view, n, digest, sig }, Leave::Stable));
            }
        }
        again.into_iter().for_each(|(message, leave)| self.broadcast(&message, leave));
    }

    pub(crate) fn on_status(&mut self, from: NodeId, epoch: u64, status: Status) -> Result<(), Error> {
        let now = self.now;
        let peer = self.peers.entry(from).or_default();
        (peer.status, peer.epoch, peer.heard_at) = (status, epoch, Some(now));
        match epoch.cmp(&self.scope.epoch) {
            Ordering::Less => self.introduce(from, epoch),
            Ordering::Equal => self.answer_status(from, status),
            Ordering::Greater => {}
        }
        if epoch != self.scope.epoch {
            self.present(from);
        }
        if self.void {
            self.look_for_state(from);
            return Ok(());
        }
        let rested = self.fetched_at.is_none_or(|at| now.since(at) >= self.config.heartbeat);
        if status.executed > self.decided() && rested {
            self.fetched_at = Some(now);
            self.fetch_from_next();
        }
        Ok(())
    }

    /// Says how far this replica is to one of another epoch, who may not be told otherwise: it is no member here, or this one
    /// none there. Once in a heartbeat, or two of them would not stop.
    fn present(&mut self, to: NodeId) {
        let (now, pause) = (self.now, self.config.heartbeat);
        let peer = self.peers.entry(to).or_default();
        if !self.members.contains(to) && peer.told_at.is_none_or(|at| now.since(at) >= pause) {
            peer.told_at = Some(now);
            self.send(to, &Message::Status(self.how_far()), Leave::Now);
        }
    }

    fn answer_status(&mut self, from: NodeId, status: Status) {
        let behind = status.view < self.view || status.view == self.view && !status.entered;
        if behind && self.entered && self.members.voters.contains(&from) {
            // A relayed one is as good as the primary's own.
            self.new_view.clone().iter().for_each(|new| self.send(from, &Message::NewView(new.clone()), Leave::Stable));
        }
        if status.stable < self.low() {
            self.send(from, &Message::Stable(self.stable().clone()), Leave::Now);
        }
        self.repeat_checkpoint(from, status.stable);
    }

    /// Asks the one of those that are further who was not asked for longest.
    fn fetch_from_next(&mut self) {
        let (now, decided) = (self.now, self.decided());
        let further = self.peers.iter_mut().filter(|(_, peer)| peer.status.executed > decided);
        let Some((node, peer)) = further.min_by_key(|(_, peer)| peer.fetched_at) else { return };
        peer.fetched_at = Some(now);
        let node = *node;
        self.send(node, &Message::Fetch { from: decided + 1 }, Leave::Now);
    }

    /// A replica that left a view alone hears of what is committed there only by asking: it asks one of the others at each
    /// tick, since its clients wait for it.
    pub(crate) fn tick_outside(&mut self) {
        if self.entered || self.others_primary().is_none() {
            return;
        }
        let within: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| peer.status.entered).map(|(node, _)| *node).collect();
        let turn = self.now.0 / self.config.tick.0 % (within.len() as u64).max(1);
        if let Some(to) = within.get(usize::try_from(turn).expect("a group is small")).copied() {
            self.send(to, &Message::Fetch { from: self.decided() + 1 }, Leave::Now);
        }
    }

    pub(crate) fn on_stable(&mut self, from: NodeId, stable: Stable) -> Result<(), Error> {
        let due = stable.n > self.low() && stable.n.is_multiple_of(self.config.checkpoint_every);
        if !due || stable.epoch != self.scope.epoch || self.voters.is_empty() {
            return Ok(());
        }
        let mut all = Vec::new();
        let wrong = |what: String| Error::PeerMisbehaved { node: from, what };
        self.claims_of_stable(&stable, &mut all).map_err(wrong)?;
        if !self.keys.are_signed(&all) {
            return Err(Error::PeerMisbehaved { node: from, what: "a checkpoint whose signatures do not hold".into() });
        }
        self.make_stable(stable);
        Ok(())
    }

    pub(crate) fn on_fetch(&mut self, from: NodeId, epoch: u64, start: u64) -> Result<(), Error> {
        if start > self.decided() {
            return Ok(());
        }
        if start <= self.base {
            self.offer(from, epoch);
            return Ok(());
        }
        let within = self.chain.epoch_of(start);
        let end = self.chain.link(within).map_or(u64::MAX, |link| link.stable.n);
        let mut bytes = 0;
        let entries: Vec<(Batch, Proof)> = self
            .entries
            .range(start..=end)
            .take(ENTRIES_MAX)
            .take_while(|(_, entry)| {
                let fits = bytes < ENTRIES_BYTES;
                bytes += entry.batch.size();
                fits
            })
            .map(|(_, entry)| (entry.batch.clone(), entry.proof.clone()))
            .collect();
        self.send_of(within, from, &Message::Entries { first: start, entries }, Leave::Now);
        Ok(())
    }

    fn offer(&mut self, to: NodeId, epoch: u64) {
        let Some(meta) = self.snapshot.clone() else {
            self.wants_snapshot = true;
            self.pad();
            return;
        };
        // A snapshot whose state nobody else vouches for yet is offered once somebody does.
        let Some(stable) = self.vouched(meta.index.0) else {
            // Of one that is behind a stable checkpoint nobody speaks any more: another is wanted.
            if meta.index.0 < self.low() {
                self.wants_snapshot = true;
                self.pad();
            }
            return;
        };
        let peer = self.peers.entry(to).or_default();
        if !std::mem::replace(&mut peer.offered, true) {
            let links = self.chain.since(epoch);
            let message = Message::Snapshot { meta: meta.clone(), stable, links };
            let message = crate::message::encode(self.scope.epoch, &message);
            self.ready.push(Output::OfferSnapshot { to, meta, message });
        }
    }

    /// A snapshot is taken at the next checkpoint, which a group at rest would never reach: its primary fills the order up to
    /// there with nothing, once in a while at most.
    fn pad(&mut self) {
        let rested = self.padded_at.is_none_or(|at| self.now.since(at) >= PAD_PAUSE);
        if self.is_primary() && rested {
            self.padded_at = Some(self.now);
            self.pad_to = self.decided().next_multiple_of(self.config.checkpoint_every);
        }
    }

    pub(crate) fn on_entries(
        &mut self,
        from: NodeId,
        epoch: u64,
        first: u64,
        entries: Vec<(Batch, Proof)>,
    ) -> Result<(), Error> {
        let next = self.decided() + 1;
        // What lies behind the end of an epoch is proven by members who are not known before.
        if self.voters.is_empty() || first > next || epoch != self.chain.epoch_of(next) || self.is_at_end() {
            return Ok(());
        }
        let Some(members) = self.chain.members_of(epoch) else { return Ok(()) };
        let (quorum, scope) = (Quorum::of(members.voters.len()), Scope { epoch, ..self.scope.clone() });
        let fresh = (first..).zip(entries).skip_while(|(n, _)| *n < next);
        let mut all = Vec::new();
        let mut sound = Vec::new();
        for (n, (batch, proof)) in fresh {
            let digest = scope.batch(&batch);
            let all_vote = proof.votes.iter().all(|(node, _)| members.voters.contains(node));
            if proof.votes.len() < quorum.size || !all_vote {
                return Err(Error::PeerMisbehaved { node: from, what: format!("entry {n} without its proof") });
            }
            all.extend(signed(&proof.votes, scope.commit(proof.view, n, digest)));
            sound.push((n, batch, digest, proof));
        }
        if !self.keys.are_signed(&all) {
            return Err(Error::PeerMisbehaved { node: from, what: "entries whose signatures do not hold".into() });
        }
        let any = !sound.is_empty();
        sound.into_iter().for_each(|(n, batch, digest, proof)| self.take_entry(n, batch, digest, proof));
        self.join_entries();
        let more = self.peers.get(&from).is_some_and(|peer| peer.status.executed > self.decided());
        if any && more {
            self.send(from, &Message::Fetch { from: self.decided() + 1 }, Leave::Now);
        }
        Ok(())
    }

    /// A committed entry that proves itself.
    fn take_entry(&mut self, n: u64, batch: Batch, digest: Digest, proof: Proof) {
        if n != self.decided() + 1 {
            return;
        }
        if let Some(slot) = self.slots.get_mut(&n) {
            slot.chosen = Some(batch.clone());
            slot.committed = Some((digest, proof.clone()));
            let prepared = slot.prepared.as_ref().map(|(prepared, _)| prepared);
            let record = proof_record(self.scope.epoch, n, prepared, slot.committed.as_ref());
            self.record_slot(n);
            self.record_proof(record);
        } else {
            let epoch = self.chain.epoch_of(n);
            self.record_entry(n, entry_record(epoch, n, None, std::iter::once(&batch)));
            self.record_proof(proof_record(epoch, n, None, Some(&(digest, proof.clone()))));
        }
        self.entries.insert(n, Entry { batch, digest, proof });
        self.next = self.next.max(n + 1);
    }

    /// The driver has a snapshot on stable storage that a peer sent, and here is the proof of its checkpoint.
    pub(crate) fn on_snapshot(
        &mut self,
        from: NodeId,
        meta: SnapshotMeta,
        stable: &Stable,
        links: Vec<Link>,
    ) -> Result<(), Error> {
        let n = meta.index.0;
        // Without a state of one's own an older one is better than none: what is behind it is fetched.
        let useful = if self.void { n > 0 && self.state_from != Some(from) } else { n > self.handed };
        if !useful {
            return Ok(());
        }
        let wrong = |what: &str| Err(Error::PeerMisbehaved { node: from, what: what.to_owned() });
        let context = Context::decode(meta.context.clone())?;
        if stable.n != n || context.members != meta.members {
            return wrong("a snapshot that contradicts itself");
        }
        let (mut chain, links_on) = (self.chain.clone(), links.clone());
        if self.voters.is_empty() {
            // A node that knows nobody believes its driver.
            chain = Chain::from(context.epoch, context.start, context.members.clone());
        } else if !chain.follow(links, stable.epoch, &self.keys, &self.scope.group) {
            return wrong("a snapshot behind the end of an epoch without its proof");
        }
        // Of an epoch whose members nobody has named here nothing can be believed.
        let Some(members) = chain.members_of(stable.epoch) else { return Ok(()) };
        let quorum = Quorum::of(members.voters.len());
        let all_vote = stable.votes.iter().all(|(node, _)| members.voters.contains(node));
        if stable.votes.len() < quorum.weak() || !all_vote {
            return wrong("a snapshot without its proof");
        }
        if !self.void && !self.lacks_log(&chain, links_on) {
            return Ok(());
        }
        let scope = Scope { epoch: stable.epoch, ..self.scope.clone() };
        let claims: Vec<Signed> = signed(&stable.votes, scope.checkpoint(n, stable.digest)).collect();
        if !self.keys.are_signed(&claims) {
            return wrong("a snapshot whose proof's signatures do not hold");
        }
        self.state_from = Some(from);
        self.install(meta, context, stable.clone(), chain);
        Ok(())
    }

    /// True if f + 1 members of an epoch, of this one or of a later one that is known, say that they cannot send what is next
    /// here. Those who committed it are q, f + 1 of them honest at least: one has it in its log, or all of them say so.
    fn lacks_log(&self, chain: &Chain, links: Vec<Link>) -> bool {
        let (mut latest, next) = (chain.clone(), self.decided() + 1);
        // Those that do not follow name nobody.
        let _ = latest.follow(links, u64::MAX, &self.keys, &self.scope.group);
        let lacks = |node: &NodeId| {
            self.peers.get(node).is_some_and(|peer| peer.heard_at.is_some() && peer.status.first > next)
        };
        let say_so = |members: &Members| {
            members.voters.iter().filter(|node| lacks(node)).count() >= Quorum::of(members.voters.len()).weak()
        };
        let mut known = (self.chain.epoch_of(next)..=latest.epoch()).filter_map(|epoch| latest.members_of(epoch));
        self.voters.is_empty() || known.any(say_so)
    }

    /// The state that was installed is not the one that its proof speaks of.
    pub(crate) fn refuse_state(&mut self, n: u64) {
        self.void = true;
        self.fetched_at = None;
        self.snapshot = None;
        self.ready.push(Output::StateRefused { index: LogIndex(n) });
    }

    /// Asks for a snapshot in place of one that was a lie; not the one who told it.
    fn look_for_state(&mut self, from: NodeId) {
        let now = self.now;
        let rested = self.fetched_at.is_none_or(|at| now.since(at) >= self.config.heartbeat);
        if rested && self.state_from != Some(from) {
            self.fetched_at = Some(now);
            self.send(from, &Message::Fetch { from: 0 }, Leave::Now);
        }
    }

    fn install(&mut self, meta: SnapshotMeta, context: Context, stable: Stable, chain: Chain) {
        let n = meta.index.0;
        let back = n < self.handed;
        self.entries = if back { std::collections::BTreeMap::new() } else { self.entries.split_off(&(n + 1)) };
        (self.base, self.handed) = (n, n);
        self.context = context.clone();
        (self.void, self.unproven, self.foreseen) = (false, None, None);
        self.checkpoints.expect(n, context);
        if chain != self.chain {
            let bare = Stable { n: chain.start(), epoch: chain.epoch().saturating_sub(1), ..Stable::default() };
            let begun = chain.last().map_or(bare, |link| link.stable.clone());
            self.chain = chain;
            self.make_stable(begun);
            self.unproven = Some(n);
            self.enter_epoch();
            self.unproven = None;
        }
        if stable.epoch == self.scope.epoch && stable.votes.len() >= self.quorum.size {
            self.make_stable(stable.clone());
        }
        self.checkpoints.remember(stable.clone());
        self.unproven = Some(n);
        self.note_trial(stable);
        self.next = self.next.max(self.decided() + 1);
        self.snapshot = Some(meta.clone());
        self.ready.push(Output::InstallSnapshot(meta));
        self.ready.push(Output::Checkpoint { index: LogIndex(n) });
        self.skip_own();
        self.join_entries();
    }
}
