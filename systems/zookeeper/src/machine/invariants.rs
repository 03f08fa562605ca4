//! What must always hold of a tree.

use super::node::{Kind, NIL, ROOT};
use super::tree::Tree;
use super::{digest, quota};

/// How many slots the partial check looks at.
const SLICE: u32 = 32;

impl Tree {
    /// Checks the totals and the next few slots; called often.
    pub(super) fn check_slice(&self) {
        self.check_totals();
        let slots = self.slab.slots();
        let start = self.check_cursor.get() % slots;
        for id in start..slots.min(start + SLICE) {
            if !self.slab.get(id).is_free() {
                self.check_node(id, false);
            }
        }
        self.check_cursor.set(start + SLICE);
    }

    fn check_totals(&self) {
        assert!(self.journal.is_none() && self.pending.is_empty(), "nothing is half done between commands");
        assert_eq!(self.index.len() + 1, self.slab.live() as usize, "every node but the root is in the index");
        assert!(self.zxid >= 0 && self.ring.forgotten <= self.zxid, "zxids only grow");
        assert!(self.ring.iter().last().is_none_or(|past| past.zxid <= self.zxid), "events are of the past");
    }

    fn check_node(&self, id: u32, deep: bool) {
        let node = self.slab.get(id);
        assert!(self.acls.users(node.acl) > 0, "a node's access list is in use");
        assert!(node.pzxid >= node.czxid && node.mzxid >= node.czxid, "nothing changes before it is there");
        if id != ROOT {
            let parent = self.slab.get(node.parent);
            assert!(!parent.is_free() && parent.child_count > 0, "a parent has children");
            assert!(parent.kind() != Kind::Ephemeral, "ephemerals have none");
            if node.next != NIL {
                assert_eq!(self.slab.get(node.next).prev, id, "siblings agree");
            } else {
                assert_eq!(self.slab.get(parent.first_child).prev, id, "the first knows the last");
            }
        }
        assert_eq!(node.first_child == NIL, node.child_count == 0, "children are counted");
        match node.kind() {
            Kind::Persistent => assert_eq!(node.owner, 0, "nobody owns a persistent node"),
            Kind::Ephemeral => {
                let session = self.sessions.map.get(&node.owner).expect("an ephemeral node has a live session");
                assert!(session.ephemerals.contains(&(node.czxid, id)), "a session knows its ephemerals");
            }
            Kind::Container => assert!(self.containers.contains(&id), "containers are listed"),
            Kind::Ttl => assert!(self.ttls.contains(&id) && node.owner > 0, "nodes with a time to live are listed"),
        }
        if deep {
            assert_eq!(self.find(&self.path_of(id)), Some(id), "a node is found by its path");
            let mut count = 0;
            for child in self.children(id) {
                assert_eq!(self.slab.get(child).parent, id, "children know their parent");
                count += 1;
            }
            assert_eq!(count, node.child_count, "children are counted");
        }
    }

    /// Checks every node, every table, and the digest from nothing.
    pub fn check_deep(&self) {
        self.check_totals();
        let (mut sum, mut bytes, mut ephemerals, mut kept) = (0u128, 0u64, 0, 0);
        for id in (0..self.slab.slots()).filter(|id| !self.slab.get(*id).is_free()) {
            let node = self.slab.get(id);
            self.check_node(id, true);
            sum = sum.wrapping_add(digest::own(node)).wrapping_add(self.shared(id));
            bytes += node.body_size() as u64;
            match node.kind() {
                Kind::Persistent => {}
                Kind::Ephemeral => ephemerals += 1,
                Kind::Container | Kind::Ttl => kept += 1,
            }
        }
        assert_eq!(sum, self.sum, "the digest is the sum of its parts");
        assert_eq!(bytes, self.body_bytes, "bytes are counted");
        let owned: usize = self.sessions.map.values().map(|session| session.ephemerals.len()).sum();
        assert_eq!(owned, ephemerals, "sessions own ephemerals and nothing else");
        assert_eq!(self.containers.len() + self.ttls.len(), kept, "no more is listed than there is");
        assert_eq!(quota::limited_paths(self), self.quotas, "limits are where their nodes are");
        let sessions = self.sessions.map.iter().fold(0u128, |sum, (id, s)| sum.wrapping_add(digest::session(*id, s)));
        assert_eq!(sessions, self.sessions.sum, "so are the sessions");
        let users: u64 = self.acls.iter().map(|(number, _)| self.acls.users(number)).sum();
        assert_eq!(users, u64::from(self.slab.live()) + 1, "each node uses one list, the tree holds the open one");
    }
}
