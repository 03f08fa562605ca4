//! The address book: where this node finds its peers.
//!
//! - upon start: what the configuration says, and over it what the folder remembers of those that joined;
//! - upon a change of members: newcomers are connected to, those that left are let go, and the book is written down, so
//!   that a node that was away while others moved finds them by itself;
//! - upon its own removal: nothing is let go. It may be invited again, and must then be able to answer.
//!
//! A book that cannot be written costs a restarted node time, never data: it is logged and left at that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::BytesMut;
use verity_contract::Members;
use verity_replica::{Roster, put_roster, take_roster};
use verity_storage::{Disk, read_sealed, write_sealed};
use verity_types::{GroupId, NodeId};

const FILE: &str = "peers";
const MAGIC: [u8; 8] = *b"VRTYBOOK";

/// Who is met where.
pub(crate) struct Book {
    me: NodeId,
    disk: Arc<dyn Disk>,
    known: Roster,
    /// What the configuration does not say, as written down.
    joined: Roster,
    members: BTreeMap<GroupId, Members>,
}

/// What a change of members means for links.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    pub(crate) connect: Roster,
    pub(crate) disconnect: BTreeSet<NodeId>,
}

impl Book {
    pub(crate) fn open(me: NodeId, disk: Arc<dyn Disk>, configured: Roster) -> Self {
        let joined = match read_sealed(disk.as_ref(), FILE, MAGIC) {
            Ok(body) => body.and_then(|body| take_roster(&mut body.into())).unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "the address book cannot be read");
                Roster::new()
            }
        };
        let mut known = configured;
        known.extend(joined.clone());
        Self { me, disk, known, joined, members: BTreeMap::new() }
    }

    /// Everybody but this node.
    pub(crate) fn peers(&self) -> Roster {
        self.known.iter().filter(|(node, _)| **node != self.me).map(|(node, at)| (*node, at.clone())).collect()
    }

    /// A group's members changed; `roster` says where those are met that joined it.
    pub(crate) fn on_members(&mut self, group: GroupId, members: Members, roster: Roster) -> Moves {
        self.members.insert(group, members);
        let mut joined = self.joined.clone();
        joined.extend(roster);
        if joined != self.joined {
            self.known.extend(joined.clone());
            self.joined = joined;
            self.write();
        }
        let all: BTreeSet<NodeId> = self.members.values().flat_map(Members::all).collect();
        if !all.contains(&self.me) {
            return Moves::default();
        }
        let (stay, go): (Roster, Roster) = self.peers().into_iter().partition(|(node, _)| all.contains(node));
        Moves { connect: stay, disconnect: go.into_keys().collect() }
    }

    fn write(&self) {
        let mut body = BytesMut::new();
        put_roster(&mut body, &self.joined);
        if let Err(error) = write_sealed(self.disk.as_ref(), FILE, MAGIC, &body) {
            tracing::warn!(%error, "the address book cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use verity_storage::MemoryDisk;

    use super::*;

    const GROUP: GroupId = GroupId(1);

    fn roster(list: &[(u64, &str)]) -> Roster {
        list.iter().map(|(node, at)| (NodeId(*node), (*at).to_owned())).collect()
    }

    fn members(ids: &[u64]) -> Members {
        Members::of_voters(ids.iter().copied().map(NodeId))
    }

    #[test]
    fn newcomers_are_remembered_over_a_restart() {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let configured = roster(&[(1, "a"), (2, "b")]);
        let mut book = Book::open(NodeId(1), Arc::clone(&disk), configured.clone());
        assert_eq!(book.peers(), roster(&[(2, "b")]));
        let moves = book.on_members(GROUP, members(&[1, 2, 3]), roster(&[(2, "b2"), (3, "c")]));
        assert_eq!(moves, Moves { connect: roster(&[(2, "b2"), (3, "c")]), disconnect: BTreeSet::new() });
        let again = Book::open(NodeId(1), disk, configured);
        assert_eq!(again.peers(), roster(&[(2, "b2"), (3, "c")]));
    }

    #[test]
    fn who_leaves_is_let_go_unless_it_is_oneself() {
        let configured = roster(&[(1, "a"), (2, "b"), (3, "c")]);
        let mut book = Book::open(NodeId(1), Arc::new(MemoryDisk::new()), configured);
        let moves = book.on_members(GROUP, members(&[1, 2]), Roster::new());
        assert_eq!(moves.disconnect, BTreeSet::from([NodeId(3)]));
        assert_eq!(book.on_members(GROUP, members(&[2]), Roster::new()), Moves::default());
    }
}
