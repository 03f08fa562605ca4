//! What goes wrong in a world, and when it heals.
//!
//! Deliberately absent: what befalls single messages; `network` draws that for each.

use verity_types::{GroupId, NodeId, Token};

use super::{Event, MILLI, World};
use crate::faults::Fault;
use crate::network::Network;
use crate::node::SimNode;

/// A node that dies of its vote is back within this time.
const VOTER_DOWN_MAX: u64 = 40 * MILLI;

/// A leader that others are to follow.
#[derive(Clone, Copy)]
pub(super) struct Deposed {
    pub(super) leader: usize,
    /// It does not run; otherwise nobody hears it.
    stopped: bool,
}

impl World<'_> {
    pub(super) fn on_fault(&mut self) {
        if self.healed {
            return;
        }
        if let Some(fault) = Fault::draw(self.swarm, &mut self.rng) {
            self.trace.event(self.now, "fault", 0, format!("{fault:?}").as_bytes());
            self.bring_about(fault);
        }
        let next = self.rng.u64(50 * MILLI..1_500 * MILLI);
        self.after(next, Event::Fault);
    }

    fn bring_about(&mut self, fault: Fault) {
        let count = self.nodes.len();
        let victim = self.rng.usize(0..count);
        let id = self.nodes[victim].id;
        match fault {
            Fault::Crash => self.crash(victim),
            Fault::Blackout => (0..count).for_each(|node| self.crash(node)),
            Fault::Pause => {
                let span = self.rng.u64(50 * MILLI..2_000 * MILLI);
                self.pause(victim, span);
            }
            Fault::Isolate => self.cut(|from, to| from == id || to == id),
            Fault::OneWay => {
                let inbound = self.rng.bool();
                self.cut(|from, to| if inbound { to == id } else { from == id });
            }
            Fault::Split => {
                let other = NodeId(self.rng.u64(1..=count as u64));
                self.cut(|from, to| (from, to) == (id, other) || (from, to) == (other, id));
            }
            Fault::HealNetwork => self.network.cut.clear(),
            Fault::Clock => {
                self.counts.clocks += 1;
                self.nodes[victim].skew_ns = self.rng.i64(-500_000_000..500_000_000);
            }
            Fault::Disk(fault) => self.nodes[victim].plan(fault, &mut self.rng),
            Fault::Depose => self.depose(victim),
            Fault::Transfer => self.hand_over(victim),
            Fault::Members => self.change_members(victim),
            Fault::Flip => self.flip(victim),
        }
    }

    /// Stops whoever leads and cuts it off from one of the others, or cuts it off from all, until others have voted.
    fn depose(&mut self, other: usize) {
        let leads = |node: &SimNode| {
            node.running.as_ref().is_some_and(|running| running.roles.iter().any(|(_, role)| role.leads))
        };
        let Some(leader) = self.nodes.iter().position(leads).filter(|leader| *leader != other) else { return };
        self.counts.deposed += 1;
        let (old, other) = (self.nodes[leader].id, self.nodes[other].id);
        let stopped = self.rng.bool();
        if stopped {
            self.cut(|from, to| (from, to) == (old, other) || (from, to) == (other, old));
            self.pause(leader, 2_000 * MILLI);
        } else {
            self.cut(|from, to| from == old || to == old);
        }
        self.deposed = Some(Deposed { leader, stopped });
        let until = self.rng.u64(1_000 * MILLI..3_000 * MILLI);
        self.after(until, Event::Rejoin);
    }

    /// A vote or promise against the deposed leader is stable, and its messages leave. Some of those who gave one die of
    /// it, and are back before the leader they chose has heard from them again, or hear from the deposed one alone.
    pub(super) fn on_vote(&mut self, node: usize) {
        if self.rng.bool() {
            return;
        }
        let mut deeds = Vec::new();
        self.nodes[node].flush(self.now, &mut deeds);
        self.carry_out(node, deeds);
        let down = self.rng.u64(MILLI..VOTER_DOWN_MAX);
        self.crash_for(node, down);
        let Some(Deposed { leader, stopped }) = self.deposed.take() else { return };
        if !stopped {
            let (old, voter) = (self.nodes[leader].id, self.nodes[node].id);
            self.network.cut.clear();
            let two = [old, voter];
            return self.cut(|from, to| two.contains(&from) != two.contains(&to));
        }
        let span = self.rng.u64(MILLI..2 * VOTER_DOWN_MAX);
        if self.nodes[leader].paused_until > self.now {
            self.pause(leader, span);
        }
    }

    fn cut(&mut self, cuts: impl Fn(NodeId, NodeId) -> bool) {
        self.counts.partitions += 1;
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        for from in &ids {
            for to in &ids {
                if from != to && cuts(*from, *to) {
                    self.network.cut.insert((*from, *to));
                }
            }
        }
    }

    fn hand_over(&mut self, to: usize) {
        let to = self.nodes[to].id;
        for node in 0..self.nodes.len() {
            let now = self.nodes[node].now(self.now);
            let Some(running) = self.nodes[node].running.as_mut() else { continue };
            let led: Vec<GroupId> =
                running.roles.iter().filter(|(_, role)| role.leads).map(|(group, _)| *group).collect();
            for group in led {
                if running.replica.transfer(now, group, to).is_ok() {
                    self.counts.transfers += 1;
                }
            }
            self.schedule_flush(node);
        }
    }

    /// Flips one bit of what a node has written, while it is down; one node of a world at most.
    fn flip(&mut self, node: usize) {
        if self.nodes.iter().any(|node| node.flipped) {
            return;
        }
        self.crash(node);
        if self.nodes[node].flip(&mut self.rng) {
            self.counts.flips += 1;
        }
    }

    /// Asks for other members: a node joins, leaves, begins to vote, or ceases to.
    fn change_members(&mut self, node: usize) {
        let id = self.nodes[node].id;
        let votes = self.wish.voters.remove(&id);
        let learns = self.wish.learners.remove(&id);
        let coin = self.rng.bool();
        if self.wish.voters.is_empty() || (coin && !votes) {
            self.wish.voters.insert(id);
        } else if coin || !learns && !votes {
            self.wish.learners.insert(id);
        }
        let Some((group, command)) = self.workload.reconfigure(&self.wish) else { return };
        let at = self.rng.usize(0..self.nodes.len());
        let now = self.nodes[at].now(self.now);
        if let Some(running) = self.nodes[at].running.as_mut() {
            running.replica.propose(now, group, Token(0), command);
            self.schedule_flush(at);
        }
    }

    pub(super) fn on_heal(&mut self) {
        self.healed = true;
        self.deposed = None;
        self.trace.event(self.now, "heal", 0, &[]);
        self.network = Network { delay_max: self.network.delay_max, ..Network::calm() };
        for node in 0..self.nodes.len() {
            self.nodes[node].paused_until = 0;
            if self.nodes[node].has_failed() {
                // What failed on its disk may not have reached it yet.
                self.crash_for(node, 0);
            }
            self.nodes[node].mend_disk();
            self.start(node);
            self.on_resume(node);
        }
        self.workload.wind_down(self.now);
        for client in 0..self.workload.clients() {
            self.after(1, Event::ClientWake { client });
        }
    }
}
