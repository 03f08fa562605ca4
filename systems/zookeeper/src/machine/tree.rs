//! The tree: its parts, and the few changes that everything else is made of.
//!
//! Each change keeps five things in step: the slots, the index, the sum behind the digest, the before-images that a
//! snapshot under way needs, and the journal from which a failing multi is undone.

use std::cell::Cell;
use std::collections::BTreeSet;

use bytes::Bytes;
use verity_contract::{Command, Effects, Members, ReadOutcome, RestoreError, StateMachine};
use verity_types::{Digest, LogIndex};

use super::acl::{self, Acls};
use super::config::{Mutant, TreeConfig};
use super::digest;
use super::draw::Drawing;
use super::ensemble::Ensemble;
use super::event::{Past, Ring, node_events};
use super::index::{Index, path_hash};
use super::node::{Kind, NIL, Node, ROOT, Slab};
use super::session::Sessions;
use crate::wire::{Acl, EventType, Id, perms};

/// The znode tree.
#[derive(Debug)]
pub struct Tree {
    pub(super) config: TreeConfig,
    pub(super) mutant: Mutant,
    pub(super) slab: Slab,
    pub(super) index: Index,
    pub(super) acls: Acls,
    pub(super) sessions: Sessions,
    /// Paths below `/zookeeper/quota` that have limits, without that prefix.
    pub(super) quotas: BTreeSet<String>,
    pub(super) containers: BTreeSet<u32>,
    pub(super) ttls: BTreeSet<u32>,
    /// The last transaction.
    pub(super) zxid: i64,
    /// The last command's stamp.
    pub(super) time: i64,
    /// The sum of the nodes' digest parts.
    pub(super) sum: u128,
    pub(super) ring: Ring,
    /// What a reconfig wishes for that is not settled.
    pub(super) wish: Option<Ensemble>,
    /// Bytes in names and data.
    pub(super) body_bytes: u64,
    pub(super) drawing: Option<Drawing>,
    /// Events of the command being applied.
    pub(super) pending: Vec<Pending>,
    /// How to undo the multi being applied.
    pub(super) journal: Option<Vec<Undo>>,
    /// The last transaction of the last snapshot, and its moment: of the one that is drawn, and of the one that is kept.
    pub(super) drawn: (i64, i64),
    pub(super) kept: (i64, i64),
    /// Where the next partial check begins.
    pub(super) check_cursor: Cell<u32>,
}

/// An event that waits for its command to succeed.
#[derive(Debug)]
pub(super) struct Pending {
    past: Past,
    bytes: Bytes,
    parent: Option<(Bytes, Bytes)>,
}

/// How to take back one change.
#[derive(Debug)]
pub(super) enum Undo {
    /// A node was added; its parent's counters before.
    Added { id: u32, cversion: i32, pzxid: i64 },
    /// A node was removed; the sibling behind it, its parent's counter before.
    Removed { id: u32, node: Box<Node>, next: u32, pzxid: i64 },
    /// Data was replaced.
    Data { id: u32, data: Option<Box<[u8]>>, version: i32, mzxid: i64, mtime: i64 },
    /// Limits came or went.
    Quota { path: String, present: bool },
}

/// What a new node is made of.
pub(super) struct Fresh<'a> {
    pub(super) path: &'a str,
    /// Where the name begins.
    pub(super) name_at: usize,
    pub(super) data: Option<&'a [u8]>,
    pub(super) acl: &'a [Acl<'a>],
    pub(super) kind: Kind,
    pub(super) owner: i64,
}

impl Tree {
    /// A new tree: the root and ZooKeeper's own nodes. All replicas of a group begin with the same `config`.
    #[must_use]
    pub fn new(config: TreeConfig) -> Self {
        Self::with_index_seed(config, 0)
    }

    /// The same with a seed of the node's own for its index, so that clients cannot aim at one bucket. Nothing that the
    /// tree answers depends on it.
    #[must_use]
    pub fn with_index_seed(config: TreeConfig, seed: u64) -> Self {
        let mut tree = Self::empty(config, seed, Mutant::None);
        let root = tree.slab.insert(Node::new(&[], Some(&[]), Kind::Persistent));
        assert_eq!(root, ROOT);
        tree.slab.get_mut(root).parent = ROOT;
        tree.slab.get_mut(root).path_hash = path_hash(b"");
        tree.acls.retain(acl::OPEN);
        tree.sum = digest::own(tree.slab.get(root)).wrapping_add(tree.shared(root));
        let read_only = [Acl { perms: perms::READ, id: Id::ANYONE }];
        let own: [(&str, usize, &[Acl<'_>]); 3] = [
            ("/zookeeper", 1, &[Acl::OPEN]),
            ("/zookeeper/config", 11, &read_only),
            ("/zookeeper/quota", 11, &[Acl::OPEN]),
        ];
        for (path, name_at, acl) in own {
            let parent = tree.find(&path[..name_at - 1]).expect("parents come first");
            let fresh = Fresh { path, name_at, data: Some(&[]), acl, kind: Kind::Persistent, owner: 0 };
            let id = tree.add_node(parent, &fresh);
            // ZooKeeper makes these without counting them.
            tree.change_shared(parent, |node| node.cversion = 0);
            if path == "/zookeeper/config" {
                tree.change_shared(id, |node| node.aversion = -1);
            }
        }
        tree
    }

    pub(super) fn empty(config: TreeConfig, seed: u64, mutant: Mutant) -> Self {
        Self {
            config,
            mutant,
            slab: Slab::default(),
            index: Index::new(seed),
            acls: Acls::new(),
            sessions: Sessions::default(),
            quotas: BTreeSet::new(),
            containers: BTreeSet::new(),
            ttls: BTreeSet::new(),
            zxid: 0,
            time: 0,
            sum: 0,
            ring: Ring::default(),
            wish: None,
            body_bytes: 0,
            drawing: None,
            pending: Vec::new(),
            journal: None,
            drawn: (0, 0),
            kept: (0, 0),
            check_cursor: Cell::new(0),
        }
    }

    /// Plants a bug.
    #[doc(hidden)]
    #[must_use]
    pub fn with_mutant(mut self, mutant: Mutant) -> Self {
        self.mutant = mutant;
        self
    }

    /// The last transaction.
    #[must_use]
    pub fn zxid(&self) -> i64 {
        self.zxid
    }

    pub(super) fn find(&self, path: &str) -> Option<u32> {
        self.index.find(path.as_bytes(), &self.slab)
    }

    /// A node's path; `/` for the root.
    pub(super) fn path_of(&self, mut id: u32) -> String {
        if id == ROOT {
            return "/".to_owned();
        }
        let mut names = Vec::new();
        while id != ROOT {
            let node = self.slab.get(id);
            names.push(node.name_str());
            id = node.parent;
        }
        let mut path = String::with_capacity(names.iter().map(|name| name.len() + 1).sum());
        for name in names.iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        path
    }

    pub(super) fn children(&self, id: u32) -> impl Iterator<Item = u32> + '_ {
        let first = Some(self.slab.get(id).first_child).filter(|id| *id != NIL);
        std::iter::successors(first, |id| Some(self.slab.get(*id).next).filter(|id| *id != NIL))
    }

    pub(super) fn shared(&self, id: u32) -> u128 {
        let node = self.slab.get(id);
        digest::shared(node, self.acls.hash(node.acl))
    }

    /// Changes what the shared part of the digest covers.
    pub(super) fn change_shared(&mut self, id: u32, change: impl FnOnce(&mut Node)) {
        self.keep(id);
        self.sum = self.sum.wrapping_sub(self.shared(id));
        change(self.slab.get_mut(id));
        self.sum = self.sum.wrapping_add(self.shared(id));
    }

    /// Changes what the own part of the digest covers.
    fn change_own(&mut self, id: u32, change: impl FnOnce(&mut Node)) {
        self.keep(id);
        let node = self.slab.get_mut(id);
        self.sum = self.sum.wrapping_sub(digest::own(node));
        self.body_bytes -= node.body_size() as u64;
        change(node);
        self.body_bytes += node.body_size() as u64;
        self.sum = self.sum.wrapping_add(digest::own(node));
    }

    /// Adds a node in the current transaction.
    pub(super) fn add_node(&mut self, parent: u32, fresh: &Fresh<'_>) -> u32 {
        self.keep_slot(self.slab.next_slot());
        let mut node = Node::new(&fresh.path.as_bytes()[fresh.name_at..], fresh.data, fresh.kind);
        node.path_hash = path_hash(fresh.path.as_bytes());
        (node.czxid, node.mzxid, node.pzxid) = (self.zxid, self.zxid, self.zxid);
        (node.ctime, node.mtime) = (self.time, self.time);
        node.owner = fresh.owner;
        node.parent = parent;
        node.acl = self.acls.acquire(fresh.acl);
        self.body_bytes += node.body_size() as u64;
        let id = self.slab.insert(node);
        let above = self.slab.get(parent);
        let undo = Undo::Added { id, cversion: above.cversion, pzxid: above.pzxid };
        if let Some(journal) = &mut self.journal {
            journal.push(undo);
        }
        let zxid = self.zxid;
        self.attach(id, NIL);
        self.change_shared(parent, |node| {
            node.cversion = node.cversion.wrapping_add(1);
            node.pzxid = zxid;
        });
        id
    }

    /// Removes a childless node in the current transaction.
    pub(super) fn remove_node(&mut self, id: u32) {
        self.keep(id);
        let next = self.slab.get(id).next;
        let parent = self.slab.get(id).parent;
        let pzxid = self.slab.get(parent).pzxid;
        let zxid = self.zxid;
        let node = self.detach(id);
        self.body_bytes -= node.body_size() as u64;
        self.change_shared(parent, |node| node.pzxid = zxid);
        match &mut self.journal {
            // The list stays in use until the multi is settled.
            Some(journal) => journal.push(Undo::Removed { id, node: Box::new(node), next, pzxid }),
            None => self.acls.release(node.acl),
        }
    }

    /// Replaces data; `stamp` counts it as a write.
    pub(super) fn replace_data(&mut self, id: u32, data: Option<&[u8]>, stamp: bool) {
        let node = self.slab.get(id);
        if let Some(journal) = &mut self.journal {
            journal.push(Undo::Data {
                id,
                data: node.data().map(Into::into),
                version: node.version,
                mzxid: node.mzxid,
                mtime: node.mtime,
            });
        }
        let (zxid, time) = (self.zxid, self.time);
        self.change_own(id, |node| {
            node.set_data(data);
            if stamp {
                node.version = node.version.wrapping_add(1);
                (node.mzxid, node.mtime) = (zxid, time);
            }
        });
    }

    /// Replaces what `/zookeeper/config` holds; its version stays -1, as in ZooKeeper.
    pub(super) fn set_config_text(&mut self, text: &[u8], effects: &mut Effects) {
        let path = "/zookeeper/config";
        let id = self.find(path).expect("it cannot be deleted");
        self.replace_data(id, Some(text), true);
        self.change_own(id, |node| node.version = -1);
        self.tell(EventType::NodeDataChanged, path, [&self.lock_of(id), &[]]);
        self.flush_events(effects);
    }

    /// Puts a node with its fields set into its parent's list before `next`, and into every index.
    fn attach(&mut self, id: u32, next: u32) {
        let node = self.slab.get(id);
        let (parent, owner, kind, czxid) = (node.parent, node.owner, node.kind(), node.czxid);
        self.link(parent, id, next);
        self.index.insert(id, &self.slab);
        self.sum = self.sum.wrapping_add(digest::own(self.slab.get(id))).wrapping_add(self.shared(id));
        match kind {
            Kind::Persistent => {}
            Kind::Ephemeral => {
                let session = self.sessions.map.get_mut(&owner).expect("only live sessions create ephemerals");
                session.ephemerals.insert((czxid, id));
            }
            Kind::Container => drop(self.containers.insert(id)),
            Kind::Ttl => drop(self.ttls.insert(id)),
        }
    }

    /// Takes a node out of its parent's list, of every index and of its slot.
    fn detach(&mut self, id: u32) -> Node {
        let node = self.slab.get(id);
        assert!(id != ROOT && node.child_count == 0, "only leaves go");
        let (owner, kind, czxid, hash) = (node.owner, node.kind(), node.czxid, node.path_hash);
        self.sum = self.sum.wrapping_sub(digest::own(node)).wrapping_sub(self.shared(id));
        match kind {
            Kind::Persistent => {}
            Kind::Ephemeral => {
                let session = self.sessions.map.get_mut(&owner).expect("ephemerals go with their session");
                session.ephemerals.remove(&(czxid, id));
            }
            Kind::Container => drop(self.containers.remove(&id)),
            Kind::Ttl => drop(self.ttls.remove(&id)),
        }
        self.index.remove(id, hash);
        self.unlink(id);
        self.slab.remove(id)
    }

    fn link(&mut self, parent: u32, id: u32, next: u32) {
        let first = self.slab.get(parent).first_child;
        let at_front = next == first;
        // The one before the new one: the last child, if it goes to the end or to the front.
        let prev = match (first, next) {
            (NIL, _) => id,
            (_, NIL) => self.slab.get(first).prev,
            _ => self.slab.get(next).prev,
        };
        if first != NIL {
            self.keep(prev);
            let wrap = if next == NIL { first } else { next };
            self.keep(wrap);
            if !at_front {
                self.slab.get_mut(prev).next = id;
            }
            self.slab.get_mut(wrap).prev = id;
        }
        let node = self.slab.get_mut(id);
        (node.prev, node.next) = (prev, next);
        self.change_shared(parent, |node| {
            if at_front {
                node.first_child = id;
            }
            node.child_count += 1;
        });
    }

    fn unlink(&mut self, id: u32) {
        let node = self.slab.get(id);
        let (parent, prev, next) = (node.parent, node.prev, node.next);
        let first = self.slab.get(parent).first_child;
        if prev != id {
            let wrap = if next == NIL { first } else { next };
            self.keep(prev);
            self.keep(wrap);
            if id != first {
                self.slab.get_mut(prev).next = next;
            }
            self.slab.get_mut(wrap).prev = prev;
        }
        self.change_shared(parent, |node| {
            if id == first {
                node.first_child = next;
            }
            node.child_count -= 1;
        });
    }

    /// Notes an event of the command being applied.
    pub(super) fn tell(&mut self, kind: EventType, path: &str, locks: [&[u8]; 2]) {
        let (topic, bytes, parent) = node_events(kind, self.zxid, path, locks);
        let past = Past { zxid: self.zxid, kind, path: topic, secret: !locks[0].is_empty() };
        self.pending.push(Pending { past, bytes, parent });
    }

    /// Who may read a node, as events carry it: nothing if everybody may.
    pub(super) fn lock_of(&self, id: u32) -> Vec<u8> {
        self.acls.lock(self.slab.get(id).acl, &self.config)
    }

    /// Puts out what [`Tree::tell`] noted.
    pub(super) fn flush_events(&mut self, effects: &mut Effects) {
        for pending in self.pending.drain(..) {
            effects.event(pending.past.path.clone(), pending.bytes);
            if let Some((topic, bytes)) = pending.parent {
                effects.event(topic, bytes);
            }
            self.ring.push(pending.past);
        }
    }

    /// Settles a multi: what its journal kept is let go.
    pub(super) fn commit_journal(&mut self) {
        for undo in self.journal.take().expect("a multi is being applied") {
            if let Undo::Removed { node, .. } = undo {
                self.acls.release(node.acl);
            }
        }
    }

    /// Takes a multi back, last change first.
    pub(super) fn roll_back(&mut self) {
        let journal = self.journal.take().expect("a multi is being applied");
        self.pending.clear();
        for undo in journal.into_iter().rev() {
            match undo {
                Undo::Added { id, cversion, pzxid } => {
                    let parent = self.slab.get(id).parent;
                    self.keep(id);
                    let node = self.detach(id);
                    self.body_bytes -= node.body_size() as u64;
                    self.acls.release(node.acl);
                    self.change_shared(parent, |node| (node.cversion, node.pzxid) = (cversion, pzxid));
                }
                Undo::Removed { id, node, next, pzxid } => {
                    let parent = node.parent;
                    self.body_bytes += node.body_size() as u64;
                    self.keep(id);
                    self.slab.restore(id, *node);
                    self.attach(id, next);
                    self.change_shared(parent, |node| node.pzxid = pzxid);
                }
                Undo::Data { id, data, version, mzxid, mtime } => self.change_own(id, |node| {
                    node.set_data(data.as_deref());
                    (node.version, node.mzxid, node.mtime) = (version, mzxid, mtime);
                }),
                Undo::Quota { path, present } => {
                    if present {
                        self.quotas.insert(path);
                    } else {
                        self.quotas.remove(&path);
                    }
                }
            }
        }
    }
}

impl StateMachine for Tree {
    fn apply(&mut self, batch: &[Command], effects: &mut Effects) {
        for command in batch {
            self.apply_one(command, effects);
        }
    }

    /// `context` is the whole text of `/zookeeper/config`; an empty one leaves it as it is.
    fn on_members(&mut self, _index: LogIndex, _members: &Members, context: &Bytes, effects: &mut Effects) {
        if !context.is_empty() {
            self.reconfigured(context, effects);
        }
    }

    fn read(&mut self, query: &[u8]) -> ReadOutcome {
        ReadOutcome::Ready(self.answer(query))
    }

    fn snapshot_begin(&mut self) {
        self.drawn = (self.zxid, self.time);
        self.draw_begin();
    }

    fn snapshot_saved(&mut self, _index: LogIndex) {
        self.kept = self.drawn;
    }

    fn snapshot_next(&mut self, size_max: usize) -> Option<Bytes> {
        self.draw_next(size_max)
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>) -> Result<(), RestoreError> {
        self.restore_from(chunks)?;
        self.kept = (self.zxid, self.time);
        Ok(())
    }

    fn digest(&self) -> Digest {
        self.fingerprint(self.sessions.sum)
    }

    fn size(&self) -> u64 {
        let nodes = u64::from(self.slab.slots()) * std::mem::size_of::<Node>() as u64;
        nodes + self.body_bytes + self.index.size() as u64 + self.sessions.map.len() as u64 * 96
    }

    fn invariants(&self) {
        self.check_slice();
    }
}
