//! View changes (PBFT §4.4).
//!
//! - upon a request that waits too long, a primary that is not heard or falls short of what is expected (`pace`), a batch that
//!   the machine rejects, or a primary that asks for it itself: the view is left; a view change for the next one, with the
//!   last stable checkpoint and a certificate for everything that prepared
//!   behind it, leaves once it is written down that this view is over;
//! - upon f + 1 view changes for later views: the smallest of them is joined, so that liars alone start nothing and the
//!   honest wait for nobody;
//! - upon q view changes for one view or later ones: a timer starts, twice as long for each view that failed; if it ends
//!   first, the next view is asked for. (The paper counts those for this view alone. Then replicas of which one has given up
//!   a view that the others never saw to have a quorum wait for each other.)
//! - upon q view changes, at the view's primary: the set O follows from them. For each sequence number between the latest
//!   stable checkpoint among them and the highest that prepared: what prepared in the highest view, or nothing. Each is
//!   pre-prepared anew; the view changes are the proof;
//! - upon a new view whose proof is sound: O is voted for like any pre-prepare.
//!
//! What is committed prepared at a quorum before; of any other quorum one honest replica has the certificate, and no lower
//! view's can outweigh it.
//!
//! HAZARD: a certificate that is left out of a view change, or counted without its signatures, lets a new view assign
//! something else to a sequence number that is executed somewhere.

use std::collections::BTreeMap;

use verity_types::{Digest, Mono, Nanos, NodeId};

use crate::engine::{Leave, Pbft};
use crate::keys::{Sig, Signed};
use crate::message::{Batch, Message, NewView, Prepared, Stable, ViewChange, signed};
use crate::pace::Dials;
use crate::queue::Ahead;
use crate::{Error, Mutant};

/// Timers are doubled so often at most.
const DOUBLINGS_MAX: u32 = 10;

/// The views that are wished for.
#[derive(Debug, Default)]
pub(crate) struct Changing {
    /// The latest sound wish of each replica.
    pub(crate) changes: BTreeMap<NodeId, ViewChange>,
    /// When the view that a quorum wishes for must have begun.
    deadline: Option<Mono>,
    /// Views that failed since something was executed.
    failures: u32,
}

impl Changing {
    /// Something was executed: the view is of use.
    pub(crate) fn on_progress(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn invariants(&self, voters: usize) {
        assert!(self.changes.len() <= voters, "one wish a replica");
    }
}

/// O without its signatures: what each sequence number is given to.
fn assignments(changes: &[ViewChange], null: Digest) -> (Stable, Vec<(u64, Digest)>) {
    let latest = changes.iter().map(|change| &change.stable).max_by_key(|stable| stable.n).cloned().unwrap_or_default();
    let mut best: BTreeMap<u64, &Prepared> = BTreeMap::new();
    for prepared in changes.iter().flat_map(|change| &change.prepared).filter(|prepared| prepared.n > latest.n) {
        let held = best.entry(prepared.n).or_insert(prepared);
        if (prepared.view, prepared.digest) > (held.view, held.digest) {
            *held = prepared;
        }
    }
    let last = best.last_key_value().map_or(latest.n, |(n, _)| *n);
    let o = (latest.n + 1..=last).map(|n| (n, best.get(&n).map_or(null, |prepared| prepared.digest))).collect();
    (latest, o)
}

impl Pbft {
    /// How long a view may take, as often as the last ones failed.
    fn patience(&self) -> Nanos {
        let doubled = self.config.view_timeout.0 << self.changing.failures.min(DOUBLINGS_MAX);
        Nanos(doubled.min(self.config.view_timeout_max.0))
    }

    pub(crate) fn tick_views(&mut self) {
        // Who lacks what is committed up to the end of the epoch fetches it; nothing more is assigned.
        if !self.votes() || self.is_at_end() {
            return;
        }
        let patience = self.patience();
        let fails = if self.entered {
            let waits = self.queue.longest_wait(self.now, &self.context).is_some_and(|wait| wait >= patience);
            let barred = self.barred == Some(self.view) && self.primary() == self.id;
            let wanted = self.client.waits() || self.queue.longest_wait(self.now, &self.context).is_some();
            let (now, dials) = (self.now, self.dials());
            let is_slow = self.pace.on_tick(now, wanted, self.is_held_back(dials), dials);
            let lost = waits || self.is_primary_silent(patience);
            let idle = self.awaits_end() && self.now.since(self.progress_at) >= patience;
            barred || is_slow || (lost || idle) && self.now.since(self.view_at) >= patience
        } else {
            self.changing.deadline.is_some_and(|deadline| self.now >= deadline)
        };
        if fails {
            self.changing.failures = (self.changing.failures + 1).min(DOUBLINGS_MAX);
            self.change_view(self.view + 1);
        }
    }

    /// True if the primary leaves a request of this replica's aside although it has few batches under way; none if there
    /// is no request that it could have assigned.
    fn is_held_back(&self, dials: Dials) -> Option<bool> {
        let since = self.client.unassigned_since();
        if !self.client.waits() || self.primary() == self.id {
            return None;
        }
        let waits = since.is_some_and(|since| self.now.since(since.max(self.view_at)) > self.pace.patience(dials));
        let under_way = self.slots.range(self.decided() + 1..).filter(|(_, slot)| slot.accepted.is_some()).count();
        Some(waits && (under_way as u64) < self.config.in_flight_max)
    }

    /// True if the primary, who speaks at each heartbeat, was not heard for that long. It may have work that no request
    /// stands for: what a leader does besides.
    fn is_primary_silent(&self, patience: Nanos) -> bool {
        let primary = self.primary();
        let within = |peer: &&crate::engine::Peer| peer.epoch == self.scope.epoch;
        let heard = self.peers.get(&primary).filter(within).and_then(|peer| peer.heard_at);
        primary != self.id && self.now.since(heard.unwrap_or(self.view_at).max(self.view_at)) >= patience
    }

    /// Leaves the view and asks for another.
    pub(crate) fn change_view(&mut self, view: u64) {
        assert!(view > self.view, "views never go back");
        if !self.votes() {
            return;
        }
        (self.view, self.entered, self.view_at) = (view, false, self.now);
        self.changing.deadline = None;
        self.leave_slots();
        self.write_state();
        self.wish();
        self.say_change();
        self.look_new_view();
    }

    /// What was assigned and said in the last view counts no more, and nothing that comes late may be voted for as if it had
    /// been assigned in the next one.
    fn leave_slots(&mut self) {
        self.slots.values_mut().for_each(|slot| slot.leave_view());
        self.judging.clear();
        self.client.leave_view();
        self.queue.drop_open();
    }

    /// Makes this replica's wish for the view that it has left the last one for.
    pub(crate) fn wish(&mut self) {
        let view = self.view;
        let drops = self.config.breaks(Mutant::CertificateDropped);
        let prepared = self.slots.values().filter_map(|slot| slot.prepared.as_ref()).filter(|_| !drops);
        let unsigned = ViewChange {
            replica: self.id,
            view,
            stable: self.stable().clone(),
            prepared: prepared.map(|(prepared, _)| prepared.clone()).collect(),
            sig: Sig([0; 64]),
        };
        let change = ViewChange { sig: self.keys.sign(self.scope.view_change(&unsigned)), ..unsigned };
        self.changing.changes.insert(self.id, change);
    }

    /// Says this replica's wish, again maybe. One that knew too little when it started makes it now.
    pub(crate) fn say_change(&mut self) {
        if self.changing.changes.get(&self.id).is_none_or(|change| change.view < self.view) {
            self.wish();
            self.look_new_view();
        }
        if let Some(change) = self.changing.changes.get(&self.id).filter(|change| change.view == self.view).cloned() {
            self.broadcast(&Message::ViewChange(change), Leave::Stable);
        }
    }

    pub(crate) fn on_view_change(&mut self, from: NodeId, change: ViewChange) -> Result<(), Error> {
        if change.replica != from {
            return Err(Error::PeerMisbehaved { node: from, what: format!("a view change of {}", change.replica) });
        }
        if change.view < self.view || change.view == self.view && self.entered {
            return Ok(());
        }
        if self.changing.changes.get(&from).is_some_and(|held| held.view >= change.view) {
            return Ok(());
        }
        self.check_changes(std::slice::from_ref(&change), &[])?;
        let resigns = self.entered && from == self.primary() && change.view == self.view + 1;
        self.changing.changes.insert(from, change);
        let mut later: Vec<u64> =
            self.changing.changes.values().map(|change| change.view).filter(|view| *view > self.view).collect();
        later.sort_unstable();
        if let Some(view) = later.first().copied().filter(|_| later.len() >= self.quorum.weak()) {
            self.change_view(view);
        } else if resigns {
            self.change_view(self.view + 1);
        } else {
            self.look_new_view();
        }
        Ok(())
    }

    /// Everything that these wishes say is signed by those who must have signed it, and so is `more`.
    fn check_changes(&self, changes: &[ViewChange], more: &[Signed]) -> Result<(), Error> {
        let mut all = more.to_vec();
        for change in changes {
            let wrong = |what: &str| Error::PeerMisbehaved { node: change.replica, what: what.to_owned() };
            if !self.members.voters.contains(&change.replica) {
                return Err(wrong("a view change of somebody who does not vote"));
            }
            all.push(Signed { node: change.replica, hash: self.scope.view_change(change), sig: change.sig });
            self.claims_of_stable(&change.stable, &mut all).map_err(|what| wrong(&what))?;
            for prepared in &change.prepared {
                let window = change.stable.n + 1..=change.stable.n + self.config.window;
                let unbounded = self.config.breaks(Mutant::WatermarkNotEnforced);
                if !(window.contains(&prepared.n) || unbounded) || prepared.view >= change.view {
                    return Err(wrong("a certificate out of its place"));
                }
                self.claims_of_prepared(prepared, &mut all).map_err(|what| wrong(&what))?;
            }
        }
        if self.keys.are_signed(&all) {
            return Ok(());
        }
        let node = changes.first().map_or(NodeId(0), |change| change.replica);
        Err(Error::PeerMisbehaved { node, what: "a view change whose signatures do not hold".into() })
    }

    /// What must be signed for a stable checkpoint to be one.
    pub(crate) fn claims_of_stable(&self, stable: &Stable, all: &mut Vec<Signed>) -> Result<(), String> {
        if stable.n == self.chain.start() {
            // Whoever is in this epoch has it.
            return Ok(());
        }
        if stable.epoch != self.scope.epoch || stable.n < self.chain.start() {
            return Err("a checkpoint of another epoch".into());
        }
        let unproven = self.config.breaks(Mutant::CheckpointWithoutCertificate);
        let needed = if unproven { 0 } else { self.quorum.size };
        if stable.votes.len() < needed || !stable.votes.iter().all(|(node, _)| self.members.voters.contains(node)) {
            return Err("a checkpoint without its proof".into());
        }
        all.extend(signed(&stable.votes, self.scope.checkpoint(stable.n, stable.digest)));
        Ok(())
    }

    fn claims_of_prepared(&self, prepared: &Prepared, all: &mut Vec<Signed>) -> Result<(), String> {
        let primary = self.primary_of(prepared.view);
        let uncounted = self.config.breaks(Mutant::PreparesNotCounted);
        let needed = if uncounted { 0 } else { self.quorum.size - 1 };
        let may = |node: &NodeId| *node != primary && self.members.voters.contains(node);
        if prepared.votes.len() < needed || !prepared.votes.iter().all(|(node, _)| may(node)) {
            return Err("a certificate without its prepares".into());
        }
        if self.config.breaks(Mutant::DigestNotCompared) {
            return Ok(());
        }
        all.extend(self.scope.of_prepared(prepared, primary));
        Ok(())
    }

    /// Looks whether the view that is wished for may begin.
    fn look_new_view(&mut self) {
        if self.entered {
            return;
        }
        let view = self.view;
        let away = self.changing.changes.values().filter(|change| change.view >= view).count();
        if away >= self.quorum.size && self.primary() != self.id {
            let deadline = self.now + self.patience();
            self.changing.deadline.get_or_insert(deadline);
        }
        let wishes: Vec<ViewChange> =
            self.changing.changes.values().filter(|change| change.view == view).cloned().collect();
        if wishes.len() < self.quorum.size || self.primary() != self.id {
            return;
        }
        let (stable, o) = assignments(&wishes, self.null());
        let leads = o.iter().map(|(n, digest)| self.keys.sign(self.scope.pre_prepare(view, *n, *digest))).collect();
        let unsigned = NewView { view, changes: wishes, leads, sig: Sig([0; 64]) };
        let new = NewView { sig: self.keys.sign(self.scope.new_view(&unsigned)), ..unsigned };
        self.make_stable(stable);
        self.enter(new, &o);
        let new = self.new_view.clone().expect("it was just entered");
        self.broadcast(&Message::NewView(new), Leave::Stable);
    }

    fn null(&self) -> Digest {
        self.scope.batch(&Batch::NULL)
    }

    pub(crate) fn on_new_view(&mut self, new: NewView) -> Result<(), Error> {
        if new.view < self.view || new.view == self.view && self.entered {
            return Ok(());
        }
        let primary = self.primary_of(new.view);
        let wrong = |what: &str| Err(Error::PeerMisbehaved { node: primary, what: what.to_owned() });
        if new.changes.len() < self.quorum.size || new.changes.iter().any(|change| change.view != new.view) {
            return wrong("a new view without its wishes");
        }
        let (stable, o) = assignments(&new.changes, self.null());
        if new.leads.len() != o.len() {
            return wrong("a new view that does not follow from its wishes");
        }
        let leads = o.iter().zip(&new.leads);
        let mut more: Vec<Signed> = leads
            .map(|((n, digest), lead)| Signed {
                node: primary,
                hash: self.scope.pre_prepare(new.view, *n, *digest),
                sig: *lead,
            })
            .collect();
        more.push(Signed { node: primary, hash: self.scope.new_view(&new), sig: new.sig });
        self.check_changes(&new.changes, &more)?;
        if o.iter().any(|(n, digest)| self.is_executed_otherwise(*n, *digest)) {
            return wrong("a new view that undoes what is committed");
        }
        self.make_stable(stable);
        self.enter(new, &o);
        Ok(())
    }

    /// The view begins.
    fn enter(&mut self, new: NewView, o: &[(u64, Digest)]) {
        (self.view, self.entered, self.view_at) = (new.view, true, self.now);
        self.changing.deadline = None;
        self.changing.changes.retain(|_, change| change.view > new.view);
        self.leave_slots();
        self.write_state();
        let null = self.null();
        let mut missing = Vec::new();
        let low = self.low();
        for ((n, digest), lead) in o.iter().zip(&new.leads).filter(|((n, _), _)| *n > low) {
            let batch = if *digest == null { Some(Batch::NULL) } else { self.batch_of(*n, *digest).cloned() };
            if batch.is_none() {
                missing.push((*n, *digest));
            }
            self.accept(*n, *digest, batch, *lead, true);
        }
        self.next = o.last().map_or(0, |(n, _)| *n).max(self.low()).max(self.decided()) + 1;
        self.ahead = self.proposed();
        self.announces = self.is_primary();
        self.new_view = Some(new);
        for (n, digest) in o.iter().filter(|place| !missing.contains(place)) {
            if self.slots.contains_key(n) {
                self.vote(*n, *digest);
            }
        }
        for (n, digest) in missing {
            self.tell_all(&Message::Want { n, digest });
        }
        self.queue.start_over(self.now);
        let (now, dials) = (self.now, self.dials());
        self.pace.on_view(now, dials);
        self.ask_again();
        self.unstash();
    }

    /// How far each client will be once everything that is assigned is executed.
    pub(crate) fn proposed(&self) -> Ahead {
        let mut context = self.context.clone();
        let log = self.entries.range(self.handed + 1..).map(|(_, entry)| &entry.batch);
        let slots = self.slots.range(self.decided() + 1..);
        let assigned =
            slots.filter_map(|(_, slot)| slot.accepted.as_ref().and_then(|accepted| accepted.batch.as_ref()));
        for request in log.chain(assigned).flat_map(Batch::requests) {
            context.admit(request);
        }
        context.clients
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(n: u64, view: u64, digest: u8) -> Prepared {
        Prepared { n, view, digest: Digest([digest; 32]), lead: Sig([0; 64]), votes: Vec::new() }
    }

    fn change(stable: u64, prepared: Vec<Prepared>) -> ViewChange {
        let stable = Stable { n: stable, ..Stable::default() };
        ViewChange { replica: NodeId(1), view: 9, stable, prepared, sig: Sig([0; 64]) }
    }

    #[test]
    fn o_has_the_highest_view_and_nothing_in_the_gaps() {
        let null = Digest([0; 32]);
        let changes = [
            change(10, vec![prepared(11, 3, 1), prepared(14, 2, 4)]),
            change(8, vec![prepared(9, 8, 9), prepared(11, 5, 2)]),
            change(0, vec![prepared(11, 4, 3)]),
        ];
        let (stable, o) = assignments(&changes, null);
        assert_eq!(stable.n, 10);
        let all = [(11, Digest([2; 32])), (12, null), (13, null), (14, Digest([4; 32]))];
        assert_eq!(o, all, "9 is covered by the checkpoint");
        assert_eq!(assignments(&[change(10, Vec::new())], null).1, []);
    }
}
