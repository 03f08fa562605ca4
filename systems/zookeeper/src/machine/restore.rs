//! Reads a snapshot back (format: [`super::draw`]).
//!
//! Nothing of a snapshot is believed: links are followed from the root and must reach every node once, and the digest
//! that is computed on the way must be the one that was written.

use std::collections::BTreeSet;

use bytes::Bytes;
use verity_contract::RestoreError;
use verity_types::{Digest, NodeId};

use super::config::TreeConfig;
use super::digest;
use super::draw::{FORMAT, MAGIC, SECRET, kind};
use super::ensemble::Ensemble;
use super::event::Past;
use super::index::path_hash;
use super::node::{Kind, NIL, NODE_COUNT_MAX, Node, ROOT};
use super::quota;
use super::session::{PASSWORD_SIZE, Session};
use super::tree::Tree;
use crate::wire::{Acl, Decode, DecodeError, EventType, Reader};

/// The largest record that is read.
const RECORD_SIZE_MAX: usize = 128 << 20;
const RECORD_HEAD: usize = 5;

fn invalid(text: impl Into<String>) -> RestoreError {
    RestoreError::Invalid(text.into())
}

impl From<DecodeError> for Refused {
    fn from(error: DecodeError) -> Self {
        Self(error.to_string())
    }
}

/// Why a record is no part of a tree.
struct Refused(String);

fn refuse<T>(text: &str) -> Result<T, Refused> {
    Err(Refused(text.to_owned()))
}

fn word(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    i32::decode(reader).map(i32::cast_unsigned)
}

/// What was read so far.
struct Loading {
    tree: Tree,
    /// True once the head was read.
    begun: bool,
    end: Option<(u32, Digest)>,
    /// Runs of slots without a gap: the first one's number in the snapshot, and here.
    runs: Vec<(u32, u32)>,
    /// No slot of the snapshot below it is still to come.
    next_slot: u32,
}

impl Tree {
    pub(super) fn restore_from(
        &mut self,
        chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>,
    ) -> Result<(), RestoreError> {
        let tree = Tree::empty(self.config, self.index.seed(), self.mutant);
        let mut loading = Loading { tree, begun: false, end: None, runs: Vec::new(), next_slot: ROOT };
        // The bytes of a record that a chunk cut off; empty if chunks end where records do.
        let mut carry: Vec<u8> = Vec::new();
        for chunk in chunks {
            let chunk = chunk?;
            if carry.is_empty() {
                let used = loading.take(&chunk).map_err(|refused| invalid(refused.0))?;
                carry.extend_from_slice(&chunk[used..]);
            } else {
                carry.extend_from_slice(&chunk);
                let used = loading.take(&carry).map_err(|refused| invalid(refused.0))?;
                carry.drain(..used);
            }
        }
        if !carry.is_empty() {
            return Err(invalid("it ends inside a record"));
        }
        *self = loading.finish().map_err(|refused| invalid(refused.0))?;
        Ok(())
    }
}

impl Loading {
    /// Reads whole records; says how many bytes they took.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Refused> {
        let mut used = 0;
        while let Some((head, rest)) = bytes[used..].split_first_chunk::<RECORD_HEAD>() {
            let size = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            if size > RECORD_SIZE_MAX {
                return refuse("a record is too long");
            }
            let Some(payload) = rest.get(..size) else { break };
            self.on_record(head[0], &mut Reader::new(payload))?;
            used += RECORD_HEAD + size;
        }
        Ok(used)
    }

    fn on_record(&mut self, kind: u8, reader: &mut Reader<'_>) -> Result<(), Refused> {
        if self.begun == (kind == kind::HEAD) || self.end.is_some() {
            return refuse("records are out of order");
        }
        match kind {
            kind::HEAD => self.on_head(reader),
            kind::ACL => self.on_acl(reader),
            kind::SESSION => self.on_session(reader),
            kind::EVENT => self.on_event(reader),
            kind::NODE => self.on_node(reader),
            kind::WISH => self.on_wish(reader),
            kind::END => {
                let nodes = word(reader)?;
                let digest = reader.take(32)?.try_into().expect("32 were taken");
                self.end = Some((nodes, Digest(digest)));
                Ok(())
            }
            _ => refuse("a record of unknown kind"),
        }
    }

    fn on_head(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        if reader.take(4)? != MAGIC {
            return refuse("not a snapshot of a tree");
        }
        if reader.take(2)? != FORMAT.to_be_bytes() {
            return refuse("a format of another version");
        }
        self.tree.zxid = i64::decode(reader)?;
        self.tree.time = i64::decode(reader)?;
        self.tree.ring.forgotten = i64::decode(reader)?;
        self.tree.config = TreeConfig::decode(reader)?;
        self.begun = true;
        Ok(())
    }

    fn on_wish(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        let text = std::str::from_utf8(reader.rest()).map_err(|_| DecodeError::NotUtf8)?;
        self.tree.wish = Some(Ensemble::parse(text).ok_or(Refused("a wish that is none".to_owned()))?);
        Ok(())
    }

    fn on_acl(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        let number = word(reader)?;
        let list = Vec::<Acl<'_>>::decode(reader)?;
        if self.tree.acls.place(number, &list) { Ok(()) } else { refuse("access lists are out of order") }
    }

    fn on_session(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        let id = i64::decode(reader)?;
        let timeout_ms = i32::decode(reader)?;
        let owner = NodeId(i64::decode(reader)?.cast_unsigned());
        let password = reader.take(PASSWORD_SIZE)?.try_into().expect("as many were taken");
        let session = Session { timeout_ms, password, owner, ephemerals: BTreeSet::new() };
        if self.tree.sessions.insert(id, session) { Ok(()) } else { refuse("a session comes twice") }
    }

    fn on_event(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        let zxid = i64::decode(reader)?;
        let byte = u8::decode(reader)?;
        let (number, secret) = (i32::from(byte & !SECRET), byte & SECRET != 0);
        let Some(kind) = EventType::from_number(number).filter(|_| (1..=3).contains(&number)) else {
            return refuse("an event of unknown kind");
        };
        let path = std::str::from_utf8(reader.rest()).map_err(|_| DecodeError::NotUtf8)?;
        let path = Bytes::copy_from_slice(path.as_bytes());
        let last = self.tree.ring.iter().last().map_or(self.tree.ring.forgotten, |past| past.zxid);
        if !(last..=self.tree.zxid).contains(&zxid) {
            return refuse("an event outside of its order");
        }
        self.tree.ring.push(Past { zxid, kind, path, secret });
        Ok(())
    }

    fn on_node(&mut self, reader: &mut Reader<'_>) -> Result<(), Refused> {
        let mut links = [0; 7];
        for link in &mut links {
            *link = word(reader)?;
        }
        let [id, parent, first_child, prev, next, child_count, acl] = links;
        let Some(kind) = Kind::from_number(u8::decode(reader)?) else { return refuse("a node of unknown kind") };
        let null = bool::decode(reader)?;
        let mut stamps = [0i64; 6];
        for stamp in &mut stamps {
            *stamp = i64::decode(reader)?;
        }
        let counts = [i32::decode(reader)?, i32::decode(reader)?, i32::decode(reader)?];
        let name_size = word(reader)? as usize;
        let name = reader.take(name_size)?;
        let data = Some(reader.rest()).filter(|_| !null);
        if std::str::from_utf8(name).is_err() || name.len() >= 1 << 28 {
            return refuse("a name is invalid");
        }
        let mut node = Node::new(name, data, kind);
        (node.parent, node.first_child, node.prev, node.next) = (parent, first_child, prev, next);
        (node.child_count, node.acl) = (child_count, acl);
        [node.czxid, node.mzxid, node.pzxid, node.ctime, node.mtime, node.owner] = stamps;
        [node.version, node.cversion, node.aversion] = counts;
        if id < self.next_slot || self.tree.slab.slots() >= NODE_COUNT_MAX {
            return refuse("slots are out of order");
        }
        if id > self.next_slot || id == ROOT {
            self.runs.push((id, self.tree.slab.slots()));
        }
        self.next_slot = id.saturating_add(1);
        if self.tree.acls.users(acl) == 0 {
            return refuse("a node names no access list");
        }
        self.tree.acls.retain(acl);
        self.tree.body_bytes += node.body_size() as u64;
        self.tree.slab.insert(node);
        Ok(())
    }

    /// The slot here of a slot of the snapshot.
    fn translate(&self, slot: u32) -> Result<u32, Refused> {
        if slot == NIL {
            return Ok(NIL);
        }
        let behind = self.runs.partition_point(|(first, _)| *first <= slot);
        let end = self.runs.get(behind).map_or(self.tree.slab.slots(), |(_, here)| *here);
        match behind.checked_sub(1).map(|at| self.runs[at]) {
            Some((first, here)) if slot - first < end - here => Ok(here + (slot - first)),
            _ => refuse("a link leads nowhere"),
        }
    }

    fn translate_links(&mut self) -> Result<(), Refused> {
        for id in 0..self.tree.slab.slots() {
            let node = self.tree.slab.get(id);
            let links = [node.parent, node.first_child, node.prev, node.next].map(|slot| self.translate(slot));
            let [parent, first_child, prev, next] = links;
            let links = (parent?, first_child?, prev?, next?);
            let node = self.tree.slab.get_mut(id);
            (node.parent, node.first_child, node.prev, node.next) = links;
        }
        Ok(())
    }

    /// Follows the links and fills what is derived from them.
    fn finish(mut self) -> Result<Tree, Refused> {
        let Some((nodes, digest)) = self.end else { return refuse("it has no end") };
        if nodes != self.tree.slab.live() || nodes == 0 {
            return refuse("nodes are missing");
        }
        self.translate_links()?;
        let mut tree = self.tree;
        tree.index.reserve(nodes as usize, &tree.slab);
        let mut path = Vec::new();
        // Nodes whose children are still to be visited, with the size of their paths.
        let mut stack = vec![(ROOT, 0usize)];
        let mut seen = 0;
        while let Some((id, parent_size)) = stack.pop() {
            seen += 1;
            if seen > nodes {
                return refuse("a node is reached twice");
            }
            path.truncate(parent_size);
            tree.settle(id, &mut path)?;
            tree.visit_children(id, path.len(), &mut stack)?;
        }
        if seen != nodes {
            return refuse("a node is not reached");
        }
        tree.acls.forget_placed();
        for own in ["/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
            if tree.find(own).is_none() {
                return refuse("ZooKeeper's own nodes are missing");
            }
        }
        if tree.fingerprint(tree.sessions.sum) != digest {
            return refuse("its digest is another one");
        }
        tree.quotas = quota::limited_paths(&tree);
        Ok(tree)
    }
}

impl Tree {
    /// Fills what a restored node leaves to be derived; `path` holds its parent's path and then its own.
    fn settle(&mut self, id: u32, path: &mut Vec<u8>) -> Result<(), Refused> {
        let node = self.slab.get_mut(id);
        if id != ROOT {
            path.push(b'/');
            path.extend_from_slice(node.name());
            if node.name().is_empty() || node.name().contains(&b'/') {
                return refuse("a name is invalid");
            }
        } else if !node.name().is_empty() || node.parent != ROOT || node.kind() != Kind::Persistent {
            return refuse("the root is none");
        }
        node.path_hash = path_hash(path);
        let (kind, owner, czxid) = (node.kind(), node.owner, node.czxid);
        self.sum = self.sum.wrapping_add(digest::own(self.slab.get(id))).wrapping_add(self.shared(id));
        if id != ROOT {
            if self.index.find(path, &self.slab).is_some() {
                return refuse("a path comes twice");
            }
            self.index.insert(id, &self.slab);
        }
        match kind {
            Kind::Persistent => {}
            Kind::Ephemeral => match self.sessions.map.get_mut(&owner) {
                Some(session) => drop(session.ephemerals.insert((czxid, id))),
                // What a planted bug leaves behind must be restorable, so that the checkers get to see it.
                None if self.mutant != super::config::Mutant::None => {}
                None => return refuse("an ephemeral node has no session"),
            },
            Kind::Container => drop(self.containers.insert(id)),
            Kind::Ttl => drop(self.ttls.insert(id)),
        }
        Ok(())
    }

    /// Checks a node's list of children and puts them on the stack, the first one on top.
    fn visit_children(&self, id: u32, path_size: usize, stack: &mut Vec<(u32, usize)>) -> Result<(), Refused> {
        let node = self.slab.get(id);
        let base = stack.len();
        let (mut child, mut prev) = (node.first_child, NIL);
        for _ in 0..node.child_count {
            if child >= self.slab.slots() || child == ROOT {
                return refuse("a child is out of bounds");
            }
            let this = self.slab.get(child);
            if this.parent != id || (prev != NIL && this.prev != prev) {
                return refuse("children are linked wrongly");
            }
            stack.push((child, path_size));
            (prev, child) = (child, this.next);
        }
        if child != NIL || (prev != NIL && self.slab.get(node.first_child).prev != prev) {
            return refuse("children are linked wrongly");
        }
        stack[base..].reverse();
        Ok(())
    }
}
