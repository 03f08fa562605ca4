//! Which groups a node hosts: those that it begins with, and those that a state machine asks for.
//!
//! - upon `Spawn` that names this node: the group is started, off the turn, from what storage holds of it;
//! - upon `Spawn` that does not: the group is let go if it is here;
//! - upon `Retire`, or a state in which a group of its machine's is no more: the group is let go, its log, snapshots and
//!   files with it; who waits for it is told;
//! - upon a state that was replaced: what is hosted follows what the new state asks for;
//! - upon the start: nothing is hosted or let go before the log that the node had is applied again. What its last command
//!   asks for then holds;
//! - upon the word that the log has let a group go on stable storage: its files go, and not before. Until then it is not
//!   hosted again.
//!
//! HAZARD: a group that moved away and came back was let go in between. A node that starts again and let it go once more,
//! while it applies that command again, would lose what it holds of the group since: records that it acknowledged, votes
//! that it gave.
//!
//! Deliberately absent: what a group is made of (the founder knows).

use std::collections::BTreeSet;

use verity_clock::Now;
use verity_contract::{Failure, SessionInput, Spawn, StateMachine};
use verity_types::GroupId;

use super::{Output, Replica, Work};
use crate::group::{Group, GroupBoot};
use crate::lane::life_within;
use crate::replica::Ticket;
use crate::vault::{LogWork, SnapshotWork};
use crate::vouch::Behind;

/// A group that was let go, until the log says so on stable storage.
pub(super) struct Retiring {
    ticket: Ticket,
    group: GroupId,
    machine: Option<Box<dyn StateMachine>>,
    /// It is to be hosted again, for the machine of that group.
    wanted: Option<(GroupId, Spawn)>,
}

impl Replica {
    /// Hosts a group that the node begins with.
    pub fn add_group(&mut self, now: Now, boot: GroupBoot) {
        self.host(now, None, boot);
    }

    /// Hosts a group that the machine of `parent` asked for.
    pub(crate) fn add_child(&mut self, now: Now, parent: GroupId, boot: GroupBoot) {
        self.host(now, Some(parent), boot);
    }

    /// Storage holds something of these groups.
    pub(crate) fn note_stored(&mut self, groups: impl IntoIterator<Item = GroupId>) {
        self.stored.extend(groups);
    }

    fn host(&mut self, now: Now, parent: Option<GroupId>, boot: GroupBoot) {
        self.hostings += 1;
        let lane = life_within(self.config.incarnation, self.hostings);
        let mut group = Group::new(self.config.id, lane, now.mono, boot);
        group.parent = parent;
        if parent.is_none() && group.replays_to.is_some() {
            group.reads.probe();
        }
        let id = group.id;
        self.stored.insert(id);
        let previous = self.groups.insert(id, group);
        assert!(previous.is_none(), "a group is hosted once");
        self.ticks.insert((now.mono, id));
        self.active.insert(id);
    }

    /// The groups that `parent` let go while it replays; none if it does not.
    fn let_go(&mut self, parent: GroupId) -> Option<&mut BTreeSet<GroupId>> {
        self.groups.get_mut(&parent).filter(|group| group.replays_to.is_some()).map(|group| &mut group.let_go)
    }

    /// The machine of `parent` asks for a group.
    pub(super) fn on_spawn_effect(&mut self, now: Now, parent: GroupId, spawn: Spawn) {
        match self.let_go(parent) {
            None => self.on_spawn(now, parent, spawn),
            Some(let_go) => drop(let_go.insert(spawn.group)),
        }
    }

    /// The machine of `parent` ends a group.
    pub(super) fn on_retire_effect(&mut self, parent: GroupId, group: GroupId) {
        match self.let_go(parent) {
            None => self.retire(group),
            Some(let_go) => drop(let_go.insert(group)),
        }
    }

    /// Something was applied: perhaps the last of the log that the node had at its start.
    pub(super) fn end_replay(&mut self, now: Now, id: GroupId) {
        if self.groups.get(&id).is_some_and(Group::has_replayed) {
            self.follow_machine(now, id);
        }
    }

    /// What the machine asks for now is hosted, and nothing else that it asked for before.
    pub(super) fn follow_machine(&mut self, now: Now, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.replays_to = None;
        group.reads.end_probe();
        let (spawned, mentioned) = (group.machine.spawned(), std::mem::take(&mut group.let_go));
        let asked: BTreeSet<GroupId> = spawned.iter().map(|spawn| spawn.group).collect();
        self.follow_spawned(now, id, spawned);
        // Storage may hold what has ended meanwhile.
        mentioned.difference(&asked).for_each(|ended| self.retire(*ended));
    }

    fn on_spawn(&mut self, now: Now, parent: GroupId, spawn: Spawn) {
        let group = spawn.group;
        let Some(spawn) = spawn.for_node(self.config.id) else { return self.retire(group) };
        if let Some(retiring) = self.retiring.iter_mut().find(|retiring| retiring.group == group) {
            retiring.wanted = Some((parent, spawn));
            return;
        }
        if self.groups.contains_key(&group) || self.founding.contains_key(&group) {
            return;
        }
        self.founding.insert(group, parent);
        self.stored.insert(group);
        self.out.push(Output::Snapshot(SnapshotWork::Found { spawn, now: now.mono }));
    }

    pub(super) fn on_founded(&mut self, now: Now, boot: GroupBoot) {
        let id = boot.id;
        if self.was_abandoned(id) {
            return;
        }
        if let Some(parent) = self.founding.remove(&id) {
            let replays = boot.replays_to().is_some();
            self.add_child(now, parent, boot);
            if !replays {
                self.follow_machine(now, id);
            }
        }
    }

    fn follow_spawned(&mut self, now: Now, parent: GroupId, spawned: Vec<Spawn>) {
        let of_parent = |of: Option<&GroupId>| of == Some(&parent);
        let hosted = self.groups.values().filter(|group| of_parent(group.parent.as_ref())).map(|group| group.id);
        let founding = self.founding.iter().filter(|(_, of)| of_parent(Some(of))).map(|(id, _)| *id);
        let known: Vec<GroupId> = hosted.chain(founding).collect();
        for id in known {
            if spawned.iter().all(|spawn| spawn.group != id) {
                self.retire(id);
            }
        }
        spawned.into_iter().for_each(|spawn| self.on_spawn(now, parent, spawn));
    }

    /// True if what has just been started, or could not be, has ended meanwhile.
    pub(super) fn was_abandoned(&mut self, id: GroupId) -> bool {
        let Some(count) = self.abandoned.get_mut(&id) else { return false };
        *count -= 1;
        if *count == 0 {
            self.abandoned.remove(&id);
        }
        true
    }

    /// The log is on stable storage up to here: what it has let go goes for good.
    pub(super) fn end_retiring(&mut self, now: Now, upto: Ticket) {
        while self.retiring.front().is_some_and(|retiring| retiring.ticket <= upto) {
            let Some(Retiring { group, machine, wanted, .. }) = self.retiring.pop_front() else { break };
            if let Some(mut machine) = machine {
                machine.retire();
            }
            self.out.push(Output::Snapshot(SnapshotWork::Remove { group }));
            if let Some((parent, spawn)) = wanted.filter(|(parent, _)| self.groups.contains_key(parent)) {
                self.on_spawn(now, parent, spawn);
            }
        }
    }

    /// Lets a group go, and those that its machine asked for. What storage holds of it goes even if it is not hosted: it
    /// may have ended while this node was away.
    pub(super) fn retire(&mut self, id: GroupId) {
        let is_leaving = || self.retiring.iter().any(|retiring| retiring.group == id);
        if !self.stored.remove(&id) && !is_leaving() {
            return;
        }
        if self.founding.remove(&id).is_some() {
            *self.abandoned.entry(id).or_default() += 1;
        }
        self.active.remove(&id);
        self.end_saving(id);
        let mut machine = None;
        if let Some(mut group) = self.groups.remove(&id) {
            self.ticks.remove(&(group.tick_at, id));
            self.held.count(id, group.counted_bytes, 0);
            let lost = group.lane.drain().map(|waiting| (waiting.service, waiting.token));
            let lost: Vec<_> = lost.chain(group.reads.drain().map(|read| (read.service, read.token))).collect();
            for (service, token) in lost {
                let input = SessionInput::Completed { token, result: Err(Failure::NoSuchGroup) };
                self.work.push_back(Work::Service(service, input));
            }
            for behind in group.behind {
                self.work.push_back(match behind {
                    Behind::Reply { work, .. } | Behind::Work(work) => work,
                });
            }
            // What the log says of it from now on is of another life of it.
            self.tickets.retain(|(_, of, _)| *of != id);
            machine = Some(group.machine);
            let children: Vec<GroupId> =
                self.groups.values().filter(|child| child.parent == Some(id)).map(|child| child.id).collect();
            children.into_iter().for_each(|child| self.retire(child));
        } else if let Some(retiring) = self.retiring.iter_mut().find(|retiring| retiring.group == id) {
            retiring.wanted = None;
            return;
        }
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.retiring.push_back(Retiring { ticket, group: id, machine, wanted: None });
        self.out.push(Output::Log(LogWork::Retire { ticket, group: id }));
    }
}
