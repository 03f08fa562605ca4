//! The normal case (PBFT §4.2): request, pre-prepare, prepare, commit.
//!
//! - upon requests that wait, at a primary with room below the high watermark: their signatures are looked at together, and
//!   they become a batch, which gets the next sequence number, and leave as a pre-prepare. It is the primary's own vote; it
//!   says no prepare;
//! - upon a pre-prepare of the view's primary between the watermarks, whose requests are all signed by their clients, whose
//!   stamp the clock here bears out, that the machine does not reject, and that is the first for its sequence number in
//!   the view: it is accepted and written down; then a prepare leaves, with the primary's signature in it;
//! - upon a pre-prepare and q - 1 prepares of others for one digest: it is prepared; that is written down; then a commit
//!   leaves;
//! - upon q commits for one digest in one view: it is committed;
//! - upon a committed batch behind all others: its requests are executed, each that is the next of its client.
//!
//! HAZARD: a prepare or a commit that is said before it is written down lets a replica that starts anew say another, and
//! two quorums then share nobody honest.

use bytes::{Bytes, BytesMut};
use verity_contract::{Committed, CommittedKind, Output, Part};
use verity_types::{Digest, LogIndex, NodeId, Term, WallMs};

use crate::engine::{Leave, Pbft};
use crate::epoch::{Passed, Rules};
use crate::evidence::{Evidence, Phase};
use crate::keys::{Sig, Signed};
use crate::message::{Batch, Content, Message, Prepared, Proof, Request};
use crate::slot::{Accepted, Vote};
use crate::state::{Entry, proof_record};
use crate::{Error, Mutant};

/// Bytes of operations in one `Commit`.
const COMMIT_BYTES_MAX: usize = 4 << 20;
/// So many signatures of requests are looked at before a batch.
const OPEN_MAX: usize = 1_024;

impl Pbft {
    // ---- the primary

    /// Makes batches of what waits, as long as the pipeline and the window have room.
    pub(crate) fn propose_batches(&mut self) {
        let (end, window) = (self.end().unwrap_or(u64::MAX), self.config.window);
        while self.ticked && self.is_primary() && self.next <= end.min(self.low() + window) {
            let in_flight = self.next - 1 - self.decided().min(self.next - 1);
            let waits = self.queue.has_open() || self.queue.has_next(&self.ahead, &self.context);
            let is_due = self.announces || self.next <= self.pad_to || end < u64::MAX;
            let gathers = in_flight > 0 && self.now.since(self.batched_at) < self.config.gather;
            if in_flight >= self.config.in_flight_max || !is_due && (!waits || gathers) {
                return;
            }
            self.check_open();
            let (bytes, count) = (self.config.batch_bytes_max, self.config.batch_requests_max);
            // Nothing is executed at the end of an epoch.
            let count = if self.next == end { 0 } else { count };
            let requests = self.queue.take(&mut self.ahead, &self.context, bytes, count);
            if requests.is_empty() && !is_due {
                return;
            }
            self.announces = false;
            let time = self.clock().unwrap_or(0).max(self.context.time);
            self.assign(Batch { term: self.term().0, time, content: Content::Requests(requests) });
        }
    }

    /// Looks at the signatures of requests that came from their clients themselves: all at once, of each client by itself if
    /// that fails, and one by one where that does.
    pub(crate) fn check_open(&mut self) {
        let open = self.queue.open(OPEN_MAX);
        let signed: Vec<Signed> = open.iter().map(|request| self.scope.of_request(request)).collect();
        let all = self.config.breaks(Mutant::UnsignedRequest) || self.keys.are_signed(&signed);
        for group in signed.chunk_by(|a, b| a.node == b.node) {
            let client = group[0].node;
            let sound = if all { vec![true; group.len()] } else { self.keys.sound(group) };
            let seqs = open.iter().filter(|request| request.client == client).map(|request| request.seq);
            for (seq, sound) in seqs.zip(sound) {
                self.queue.close(client, seq, sound);
                if !sound {
                    let what = "a request of its own without its signature".into();
                    self.drop_from(client, Error::PeerMisbehaved { node: client, what });
                }
            }
        }
    }

    fn assign(&mut self, batch: Batch) {
        let (view, n) = (self.view, self.next);
        self.next += 1;
        self.batched_at = self.now;
        let digest = self.scope.batch(&batch);
        let sig = self.keys.sign(self.scope.pre_prepare(view, n, digest));
        self.accept(n, digest, Some(batch.clone()), sig, true);
        self.broadcast(&Message::PrePrepare { view, n, batch, sig }, Leave::Begun);
        self.advance(n);
    }

    // ---- pre-prepare

    pub(crate) fn on_pre_prepare(&mut self, from: NodeId, n: u64, batch: Batch, sig: Sig) -> Result<(), Error> {
        let (view, primary) = (self.view, self.primary());
        if primary == self.id || !self.in_window(n) {
            return Ok(());
        }
        let digest = self.scope.batch(&batch);
        let held =
            self.slots.get(&n).and_then(|slot| slot.accepted.as_ref()).map(|accepted| (accepted.digest, accepted.lead));
        if held.is_some_and(|(held, _)| held == digest) {
            return Ok(());
        }
        let signed = Signed { node: primary, hash: self.scope.pre_prepare(view, n, digest), sig };
        self.check("a pre-prepare", &signed)?;
        if let Some(first) = held {
            self.accuse(&Evidence::votes(&self.scope, Phase::PrePrepare, primary, (view, n), first, (digest, sig)));
            return Ok(());
        }
        self.check_batch(from, &batch)?;
        if self.is_executed_otherwise(n, digest) {
            return Ok(());
        }
        self.accept(n, digest, Some(batch), sig, false);
        self.ask_judge(n, digest);
        Ok(())
    }

    /// The batch is one that a primary may propose in this view: signed by clients of the group, and stamped within bounds.
    fn check_batch(&self, from: NodeId, batch: &Batch) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::PeerMisbehaved { node: from, what });
        let Content::Requests(requests) = &batch.content else {
            return wrong("a batch of nothing outside of a new view".into());
        };
        if batch.term != self.term().0 {
            return wrong(format!("a batch of term {} in term {}", batch.term, self.term()));
        }
        let bound = self.config.time_bound.0 / 1_000_000;
        if let Some(clock) = self.clock()
            && !(clock.saturating_sub(bound)..=(clock + bound).max(self.time_seen).max(self.context.time))
                .contains(&batch.time)
        {
            return wrong(format!("a batch stamped {} at {clock}", batch.time));
        }
        if let Some(stranger) = requests.iter().find(|request| !self.members.contains(request.client)) {
            return wrong(format!("a request of {}, who is no member", stranger.client));
        }
        let unknown = requests.iter().filter(|request| !self.queue.holds(request));
        let signed: Vec<Signed> = unknown.map(|request| self.scope.of_request(request)).collect();
        if !self.config.breaks(Mutant::UnsignedRequest) && !self.keys.are_signed(&signed) {
            return wrong("a batch with a request that its client did not sign".into());
        }
        Ok(())
    }

    /// True if something else is committed at `n`: whoever assigns it anew lies, or knows too little.
    pub(crate) fn is_executed_otherwise(&self, n: u64, digest: Digest) -> bool {
        let committed = self.slots.get(&n).and_then(|slot| slot.committed.as_ref()).map(|(digest, _)| *digest);
        let held = self.entries.get(&n).map(|entry| entry.digest).or(committed);
        held.is_some_and(|held| held != digest)
    }

    /// Takes in what the primary assigned, and writes it down once its content is here and judged: what is found again is
    /// voted for.
    pub(crate) fn accept(&mut self, n: u64, digest: Digest, batch: Option<Batch>, lead: Sig, judged: bool) {
        self.time_seen = self.time_seen.max(batch.as_ref().map_or(0, |batch| batch.time));
        batch.iter().flat_map(Batch::requests).for_each(|request| self.client.on_assigned(self.id, request));
        let slot = self.slots.entry(n).or_default();
        let is_voted_for = batch.is_some() && judged;
        slot.accepted = Some(Accepted { digest, batch, lead, judged, at: self.now });
        if is_voted_for {
            self.record_slot(n);
        }
    }

    fn ask_judge(&mut self, n: u64, digest: Digest) {
        let batch = self.batch_of(n, digest).expect("it was just accepted");
        let (payload, _) = operations(batch, |_| true);
        self.judging.insert(n, digest);
        self.ready.push(Output::Judge { index: LogIndex(n), payload });
    }

    /// The machine has nothing against it: it is voted for.
    pub(crate) fn on_accepted(&mut self, n: u64, digest: Digest) {
        let accepted = self.slots.get_mut(&n).and_then(|slot| slot.accepted.as_mut());
        let Some(accepted) = accepted.filter(|accepted| accepted.digest == digest && !accepted.judged) else { return };
        accepted.judged = true;
        self.record_slot(n);
        self.vote(n, digest);
    }

    /// The machine rejects what the primary assigned: another is wanted.
    pub(crate) fn on_rejected(&mut self, n: u64, digest: Digest) {
        let held = self.slots.get(&n).and_then(|slot| slot.accepted.as_ref());
        if self.entered && held.is_some_and(|accepted| accepted.digest == digest && !accepted.judged) {
            self.change_view(self.view + 1);
        }
    }

    // ---- prepare

    /// Says a prepare, unless this replica is the primary, whose pre-prepare is one.
    pub(crate) fn vote(&mut self, n: u64, digest: Digest) {
        let view = self.view;
        if self.primary() != self.id {
            let lead = self.slots[&n].accepted.as_ref().expect("what is voted for was accepted").lead;
            let sig = self.keys.sign(self.scope.prepare(view, n, digest));
            let vote = Vote { digest, sig, sound: true };
            self.slots.get_mut(&n).expect("seen above").prepares.put(self.id, vote);
            self.broadcast(&Message::Prepare { view, n, digest, lead, sig }, Leave::Stable);
        }
        self.advance(n);
    }

    pub(crate) fn on_prepare(
        &mut self,
        from: NodeId,
        n: u64,
        digest: Digest,
        lead: Sig,
        sig: Sig,
    ) -> Result<(), Error> {
        let (view, primary) = (self.view, self.primary());
        if !self.in_window(n) || from == primary {
            return Ok(());
        }
        let slot = self.slots.entry(n).or_default();
        let clash = slot.prepares.put(from, Vote { digest, sig, sound: false });
        let other = slot.accepted.as_ref().filter(|accepted| accepted.digest != digest);
        let other = other.map(|accepted| (accepted.digest, accepted.lead));
        // The primary told others something else: its own signature in their prepares says so.
        let signed = Signed { node: primary, hash: self.scope.pre_prepare(view, n, digest), sig: lead };
        if let Some(first) = other
            && self.keys.is_signed(&signed)
        {
            self.accuse(&Evidence::votes(&self.scope, Phase::PrePrepare, primary, (view, n), first, (digest, lead)));
        }
        if let Some(held) = clash {
            self.accuse_of_two_votes(Phase::Prepare, from, n, held, (digest, sig));
        }
        self.advance(n);
        Ok(())
    }

    fn accuse_of_two_votes(&mut self, phase: Phase, node: NodeId, n: u64, held: Vote, other: (Digest, Sig)) {
        let evidence = Evidence::votes(&self.scope, phase, node, (self.view, n), (held.digest, held.sig), other);
        if evidence.verify_with(&self.keys) {
            self.accuse(&evidence);
        }
    }

    // ---- commit

    pub(crate) fn on_commit(&mut self, from: NodeId, n: u64, digest: Digest, sig: Sig) -> Result<(), Error> {
        if !self.in_window(n) {
            return Ok(());
        }
        let slot = self.slots.entry(n).or_default();
        if let Some(held) = slot.commits.put(from, Vote { digest, sig, sound: false }) {
            self.accuse_of_two_votes(Phase::Commit, from, n, held, (digest, sig));
        }
        self.advance(n);
        Ok(())
    }

    /// This replica's own commit is stable: it counts from here on.
    pub(crate) fn count_own_commit(&mut self, n: u64) {
        let view = self.view;
        let Some(slot) = self.slots.get_mut(&n) else { return };
        let Some(sig) = slot.committing else { return };
        let Some((prepared, _)) = slot.prepared.as_ref().filter(|(prepared, _)| prepared.view == view) else { return };
        let digest = prepared.digest;
        slot.commits.put(self.id, Vote { digest, sig, sound: true });
        self.advance(n);
    }

    /// Looks whether something follows at `n` from the votes that are here.
    pub(crate) fn advance(&mut self, n: u64) {
        self.look_prepared(n);
        self.look_committed(n);
    }

    fn look_prepared(&mut self, n: u64) {
        let (view, primary) = (self.view, self.primary());
        let Some(slot) = self.slots.get_mut(&n).filter(|slot| slot.committing.is_none()) else { return };
        slot.idle = false;
        let Some(accepted) = slot.accepted.as_ref().filter(|accepted| accepted.judged) else { return };
        let (digest, lead) = (accepted.digest, accepted.lead);
        let Some(batch) = slot.batch(digest).or(self.entries.get(&n).map(|entry| &entry.batch)).cloned() else {
            return;
        };
        let needed = if self.config.breaks(Mutant::PreparesNotCounted) { 0 } else { self.quorum.size - 1 };
        let wanted = match slot.prepares.favourite() {
            Some(favourite) if self.config.breaks(Mutant::DigestNotCompared) => favourite,
            _ => digest,
        };
        let hash = self.scope.prepare(view, n, wanted);
        let (voters, mut liars) = (&self.members.voters, Vec::new());
        let may = |node: NodeId| node != primary && voters.contains(&node);
        let votes = slot.prepares.gather(&self.keys, wanted, hash, needed, may, &mut liars);
        if let Some(votes) = votes {
            let sig = self.keys.sign(self.scope.commit(view, n, digest));
            slot.committing = Some(sig);
            let prepared = Prepared { n, view, digest, lead, votes };
            let record = proof_record(self.scope.epoch, n, Some(&prepared), slot.committed.as_ref());
            slot.prepared = Some((prepared, batch));
            self.record_proof(record);
            self.commit_later(n);
            self.broadcast(&Message::Commit { view, n, digest, sig }, Leave::Stable);
        }
        liars.into_iter().for_each(|node| self.blame(node));
    }

    fn look_committed(&mut self, n: u64) {
        let view = self.view;
        let Some(slot) = self.slots.get_mut(&n).filter(|slot| slot.committed.is_none()) else { return };
        let Some(digest) = slot.commits.favourite() else { return };
        let hash = self.scope.commit(view, n, digest);
        let (voters, mut liars) = (&self.members.voters, Vec::new());
        let may = |node: NodeId| voters.contains(&node);
        let votes = slot.commits.gather(&self.keys, digest, hash, self.quorum.size, may, &mut liars);
        liars.into_iter().for_each(|node| self.blame(node));
        if let Some(votes) = votes {
            self.commit(n, digest, Proof { view, votes });
        }
    }

    /// The batch with this digest is committed at `n`.
    pub(crate) fn commit(&mut self, n: u64, digest: Digest, proof: Proof) {
        let slot = self.slots.get_mut(&n).expect("votes are in a slot");
        slot.committed = Some((digest, proof));
        let prepared = slot.prepared.as_ref().map(|(prepared, _)| prepared);
        let record = proof_record(self.scope.epoch, n, prepared, slot.committed.as_ref());
        self.record_later(record);
        self.join_entries();
    }

    /// Moves what is committed without a gap into the log.
    pub(crate) fn join_entries(&mut self) {
        loop {
            let n = self.decided() + 1;
            let Some((digest, proof)) = self.slots.get(&n).and_then(|slot| slot.committed.clone()) else { return };
            let Some(batch) = self.slots[&n].batch(digest).cloned() else {
                return self.tell_all(&Message::Want { n, digest });
            };
            // What others committed while the machine thinks of it was not written down yet.
            if self.slots[&n].accepted.as_ref().is_some_and(|accepted| !accepted.judged) {
                self.record_slot(n);
            }
            self.entries.insert(n, Entry { batch, digest, proof });
        }
    }

    // ---- what is missing

    pub(crate) fn on_want(&mut self, from: NodeId, n: u64, digest: Digest) -> Result<(), Error> {
        if let Some(batch) = self.batch_of(n, digest).cloned() {
            self.send(from, &Message::Batch { n, batch }, Leave::Now);
        }
        Ok(())
    }

    /// The content of a digest that was accepted, or committed, without it.
    pub(crate) fn on_batch(&mut self, n: u64, batch: Batch) -> Result<(), Error> {
        let digest = self.scope.batch(&batch);
        let Some(slot) = self.slots.get_mut(&n) else { return Ok(()) };
        if slot.batch(digest).is_some() {
            return Ok(());
        }
        let committed = slot.committed.as_ref().is_some_and(|(of, _)| *of == digest);
        let accepted = slot.accepted.as_mut().filter(|accepted| accepted.digest == digest);
        match accepted {
            Some(accepted) => {
                accepted.batch = Some(batch);
                self.record_slot(n);
                // What prepared in an earlier view was judged then.
                self.vote(n, digest);
            }
            None if committed => {
                slot.chosen = Some(batch);
                self.record_slot(n);
            }
            None => return Ok(()),
        }
        self.join_entries();
        Ok(())
    }

    // ---- execution

    /// Hands out what is committed and stable here.
    pub(crate) fn hand_out(&mut self) {
        if self.is_unsure() {
            return;
        }
        let end = self.decided().min(self.stable_to());
        let (mut list, mut bytes) = (Vec::new(), 0);
        while self.handed < end && self.context.epoch <= self.scope.epoch {
            let n = self.handed + 1;
            self.handed = n;
            let batch = self.entries[&n].batch.clone();
            let committed = self.execute(n, &batch);
            bytes += committed.payload.len();
            list.push(committed);
            if n.is_multiple_of(self.config.checkpoint_every) {
                self.ready.push(Output::Commit(std::mem::take(&mut list)));
                self.checkpoints.note(n, self.context.clone());
                self.ready.push(Output::Checkpoint { index: LogIndex(n) });
                bytes = 0;
            } else if bytes >= COMMIT_BYTES_MAX {
                self.ready.push(Output::Commit(std::mem::take(&mut list)));
                bytes = 0;
            }
        }
        if !list.is_empty() {
            self.ready.push(Output::Commit(list));
        }
    }

    fn execute(&mut self, n: u64, batch: &Batch) -> Committed {
        if batch.term == self.term().0 {
            self.changing.on_progress();
            if let Some(accepted) = self.slots.get(&n).and_then(|slot| slot.accepted.as_ref()) {
                self.pace.on_ordered(self.now.since(accepted.at));
            }
        }
        let rules = Rules::of(&self.config);
        let Passed { admitted, ended } = self.context.pass(n, batch, rules);
        for (request, _) in batch.requests().iter().zip(&admitted).filter(|(_, admitted)| **admitted) {
            self.on_executed(n, request.client, request.incarnation, request.seq);
        }
        let (payload, parts) = operations(batch, |at| admitted[at]);
        let (kind, payload) = match ended {
            Some(wish) => (CommittedKind::Members(self.context.members.clone()), wish.context),
            None if payload.is_empty() => (CommittedKind::Noop, payload),
            None => (CommittedKind::Normal, payload),
        };
        self.progress_at = self.now;
        let time = (self.context.time > 0).then_some(WallMs(self.context.time));
        Committed { index: LogIndex(n), term: Term(self.context.term), kind, time, payload, parts }
    }

    fn on_executed(&mut self, n: u64, client: NodeId, incarnation: u64, seq: u64) {
        self.queue.on_executed(self.now, client, incarnation, seq);
        self.changing.on_progress();
        self.pace.on_executed();
        if client == self.id {
            self.on_own_executed(incarnation, seq, n);
        }
    }
}

/// The operations of a batch's requests, one behind the other, and whose each is; of one alone without a copy.
fn operations(batch: &Batch, which: impl Fn(usize) -> bool) -> (Bytes, Vec<Part>) {
    let all = batch.requests().iter().enumerate();
    let is_one = |request: &Request| !request.op.is_empty() && !request.endorses;
    let chosen: Vec<&Request> =
        all.filter(|(at, request)| which(*at) && is_one(request)).map(|(_, request)| request).collect();
    let part = |request: &&Request| Part { proposer: request.client, length: request.op.len() };
    let parts: Vec<Part> = chosen.iter().map(part).collect();
    let payload = match chosen.as_slice() {
        [] => Bytes::new(),
        [one] => one.op.clone(),
        many => {
            let mut out = BytesMut::with_capacity(parts.iter().map(|part| part.length).sum());
            many.iter().for_each(|request| out.extend_from_slice(&request.op));
            out.freeze()
        }
    };
    (payload, parts)
}
