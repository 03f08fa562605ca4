//! Which groups a node hosts: those that it begins with, and those that a state machine asks for.
//!
//! - upon `Spawn` that names this node: the group is started, off the turn, from what storage holds of it;
//! - upon `Spawn` that does not: the group is let go if it is here;
//! - upon `Retire`, or a state in which a group of its machine's is no more: the group is let go, its log, snapshots and
//!   files with it; who waits for it is told;
//! - upon a state that was replaced: what is hosted follows what the new state asks for.
//!
//! Deliberately absent: what a group is made of (the founder knows).

use verity_clock::Now;
use verity_contract::{Failure, SessionInput, Spawn};
use verity_types::GroupId;

use super::{Output, Replica, Work};
use crate::group::{Group, GroupBoot};
use crate::vault::{LogWork, SnapshotWork};

impl Replica {
    /// Hosts a group that the node begins with.
    pub fn add_group(&mut self, now: Now, boot: GroupBoot) {
        self.host(now, None, boot);
    }

    /// Hosts a group that the machine of `parent` asked for.
    pub(crate) fn add_child(&mut self, now: Now, parent: GroupId, boot: GroupBoot) {
        self.host(now, Some(parent), boot);
    }

    fn host(&mut self, now: Now, parent: Option<GroupId>, boot: GroupBoot) {
        let mut group = Group::new(self.config.id, self.config.incarnation, now.mono, boot);
        group.parent = parent;
        let id = group.id;
        let previous = self.groups.insert(id, group);
        assert!(previous.is_none(), "a group is hosted once");
        self.ticks.insert((now.mono, id));
        self.active.insert(id);
    }

    pub(super) fn on_spawn(&mut self, now: Now, parent: GroupId, spawn: Spawn) {
        let group = spawn.group;
        if !spawn.hosts.contains(&self.config.id) {
            return self.retire(group);
        }
        if self.groups.contains_key(&group) || self.founding.contains_key(&group) {
            return;
        }
        self.founding.insert(group, parent);
        self.out.push(Output::Snapshot(SnapshotWork::Found { spawn, now: now.mono }));
    }

    pub(super) fn on_founded(&mut self, now: Now, boot: GroupBoot) {
        let id = boot.id;
        // It may have ended while it was started.
        if let Some(parent) = self.founding.remove(&id) {
            let spawned = boot.machine.spawned();
            self.add_child(now, parent, boot);
            self.follow_spawned(now, id, spawned);
        }
    }

    /// A state was replaced: what its machine asks for now is hosted, and nothing else that it asked for before.
    pub(super) fn follow_spawned(&mut self, now: Now, parent: GroupId, spawned: Vec<Spawn>) {
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

    /// Lets a group go, and those that its machine asked for. What storage holds of it goes even if it is not hosted: it
    /// may have ended while this node was away.
    pub(super) fn retire(&mut self, id: GroupId) {
        self.founding.remove(&id);
        self.active.remove(&id);
        // A snapshot of it may have been under way.
        self.relief_waits = false;
        if let Some(mut group) = self.groups.remove(&id) {
            self.ticks.remove(&(group.tick_at, id));
            self.log_bytes -= group.counted_bytes;
            let lost = group.lane.drain().map(|waiting| (waiting.service, waiting.token));
            let lost: Vec<_> = lost.chain(group.reads.drain().map(|read| (read.service, read.token))).collect();
            for (service, token) in lost {
                let input = SessionInput::Completed { token, result: Err(Failure::NoSuchGroup) };
                self.work.push_back(Work::Service(service, input));
            }
            group.machine.retire();
            let children: Vec<GroupId> =
                self.groups.values().filter(|child| child.parent == Some(id)).map(|child| child.id).collect();
            children.into_iter().for_each(|child| self.retire(child));
        }
        self.out.push(Output::Log(LogWork::Retire { group: id }));
        self.out.push(Output::Snapshot(SnapshotWork::Remove { group: id }));
    }
}
