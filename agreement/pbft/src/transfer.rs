//! How a replica that is behind comes to what the others have (PBFT §4.6).
//!
//! - upon each heartbeat: a replica says how far it is; what it said and nobody answered is said again;
//! - upon somebody who is further: committed entries are fetched, each with its proof: q commits; from each of those who say
//!   that they have more in turn, so that one who says so and answers nothing holds nobody up;
//! - upon a view that was left while others stay in it: what they commit is fetched at each tick;
//! - upon somebody who needs what the log no longer holds: it is offered the last snapshot, with f + 1 checkpoints at least:
//!   one of those who signed is honest, so the state is right. They need not be a quorum: the one who is behind may be the
//!   one that a quorum lacks. Its state counts only if it has the digest that was signed: until that is known nothing is
//!   executed behind it and this replica does not vote, and if it has not, another is asked for, an older one if need be;
//! - upon somebody who is behind with its view or its stable checkpoint: it gets the new view, or the checkpoint's proof.
//!
//! Whom something is fetched from does not matter: everything proves itself. Who lies about how far it is costs a message.

use verity_contract::{Output, SnapshotMeta};
use verity_types::{Digest, LogIndex, Nanos, NodeId};

use crate::Error;
use crate::engine::{Leave, Pbft};
use crate::keys::Signed;
use crate::message::{Batch, Message, Proof, Stable, Status, signed};
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
        let status = Status {
            view: self.view,
            entered: self.entered,
            executed: self.decided(),
            stable: self.low(),
            first: self.base + 1,
        };
        self.tell_all(&Message::Status(status));
        if !self.votes() {
            return;
        }
        if self.entered {
            self.vote_again();
        } else {
            self.say_change();
        }
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

    pub(crate) fn on_status(&mut self, from: NodeId, status: Status) -> Result<(), Error> {
        let now = self.now;
        let peer = self.peers.entry(from).or_default();
        (peer.status, peer.heard_at) = (status, Some(now));
        let behind = status.view < self.view || status.view == self.view && !status.entered;
        if behind && self.entered {
            // A relayed one is as good as the primary's own.
            self.new_view.clone().iter().for_each(|new| self.send(from, &Message::NewView(new.clone()), Leave::Stable));
        }
        if status.stable < self.low() {
            self.send(from, &Message::Stable(self.stable().clone()), Leave::Now);
        }
        self.repeat_checkpoint(from, status.stable);
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
        if stable.n <= self.low() || !stable.n.is_multiple_of(self.config.checkpoint_every) || self.voters.is_empty() {
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

    pub(crate) fn on_fetch(&mut self, from: NodeId, start: u64) -> Result<(), Error> {
        if start > self.decided() {
            return Ok(());
        }
        if start <= self.base {
            self.offer(from);
            return Ok(());
        }
        let mut bytes = 0;
        let entries: Vec<(Batch, Proof)> = self
            .entries
            .range(start..)
            .take(ENTRIES_MAX)
            .take_while(|(_, entry)| {
                let fits = bytes < ENTRIES_BYTES;
                bytes += entry.batch.size();
                fits
            })
            .map(|(_, entry)| (entry.batch.clone(), entry.proof.clone()))
            .collect();
        self.send(from, &Message::Entries { first: start, entries }, Leave::Now);
        Ok(())
    }

    fn offer(&mut self, to: NodeId) {
        let Some(meta) = self.snapshot.clone() else {
            self.wants_snapshot = true;
            self.pad();
            return;
        };
        // A snapshot whose state nobody else vouches for yet is offered once somebody does.
        let Some(stable) = self.vouched(meta.index.0) else { return };
        let peer = self.peers.entry(to).or_default();
        if !std::mem::replace(&mut peer.offered, true) {
            let message = crate::message::encode(self.scope.epoch, &Message::Snapshot { meta: meta.clone(), stable });
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

    pub(crate) fn on_entries(&mut self, from: NodeId, first: u64, entries: Vec<(Batch, Proof)>) -> Result<(), Error> {
        let next = self.decided() + 1;
        if self.voters.is_empty() || first > next {
            return Ok(());
        }
        let fresh = (first..).zip(entries).skip_while(|(n, _)| *n < next);
        let mut all = Vec::new();
        let mut sound = Vec::new();
        for (n, (batch, proof)) in fresh {
            let digest = self.scope.batch(&batch);
            let voters = &self.members.voters;
            if proof.votes.len() < self.quorum.size || !proof.votes.iter().all(|(node, _)| voters.contains(node)) {
                return Err(Error::PeerMisbehaved { node: from, what: format!("entry {n} without its proof") });
            }
            all.extend(signed(&proof.votes, self.scope.commit(proof.view, n, digest)));
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
            let record = proof_record(n, slot.prepared.as_ref().map(|(prepared, _)| prepared), slot.committed.as_ref());
            self.record_slot(n);
            self.record_proof(record);
        } else {
            self.record_entry(n, entry_record(n, None, std::iter::once(&batch)));
            self.record_proof(proof_record(n, None, Some(&(digest, proof.clone()))));
        }
        self.entries.insert(n, Entry { batch, digest, proof });
        self.next = self.next.max(n + 1);
    }

    /// The driver has a snapshot on stable storage that a peer sent, and here is the proof of its checkpoint.
    pub(crate) fn on_snapshot(&mut self, from: NodeId, meta: SnapshotMeta, stable: &Stable) -> Result<(), Error> {
        let n = meta.index.0;
        // Without a state of one's own an older one is better than none: what is behind it is fetched.
        let useful = if self.void { n > 0 && self.state_from != Some(from) } else { n > self.handed };
        if !useful {
            return Ok(());
        }
        let wrong = |what: &str| Err(Error::PeerMisbehaved { node: from, what: what.to_owned() });
        let context = Context::decode(meta.context.clone())?;
        let quorum = Quorum::of(meta.members.voters.len());
        let known = stable.votes.iter().filter(|(node, _)| self.members.voters.contains(node)).count();
        // Somebody honest of those that are known here must have signed it; a node that knows nobody believes its driver.
        let believed = self.voters.is_empty() || known >= self.quorum.weak();
        let all_vote = stable.votes.iter().all(|(node, _)| meta.members.voters.contains(node));
        if stable.n != n || stable.votes.len() < quorum.weak() || !all_vote || !believed {
            return wrong("a snapshot without its proof");
        }
        let scope = crate::message::Scope { epoch: context.epoch, ..self.scope.clone() };
        let claims: Vec<Signed> = signed(&stable.votes, scope.checkpoint(n, stable.digest)).collect();
        if !self.keys.are_signed(&claims) {
            return wrong("a snapshot whose proof's signatures do not hold");
        }
        self.state_from = Some(from);
        self.install(meta, context, stable.clone());
        Ok(())
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

    fn install(&mut self, meta: SnapshotMeta, context: Context, stable: Stable) {
        let n = meta.index.0;
        let back = n < self.handed;
        self.entries = if back { std::collections::BTreeMap::new() } else { self.entries.split_off(&(n + 1)) };
        (self.base, self.handed) = (n, n);
        self.context = context.clone();
        self.take_members(meta.members.clone());
        (self.void, self.unproven) = (false, None);
        self.checkpoints.expect(n, context);
        if stable.votes.len() >= self.quorum.size {
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
