//! Who waits for what, on this node.
//!
//! - upon an event at a path: one-time watches of a fitting kind fire and are gone; persistent ones stay; recursive
//!   ones fire for everything at or below their path, but not for a parent's changed children. Each connection is told
//!   once, however many of its watches fit.
//! - upon a deletion: data, exist and child watches of the node fire, as one event.
//!
//! Kinds are bits side by side: a persistent watch and a one-time watch on one path do not replace each other (as
//! ZooKeeper before 3.9 lets them). An event that nobody waits for costs one look-up, none if there are no watches.

use std::collections::BTreeMap;

use bytes::Bytes;
use hashbrown::HashMap;
use verity_types::ConnId;

use super::hash::Seeded;
use crate::wire::EventType;

/// Kinds of watches, as bits.
pub(super) mod bits {
    pub(in super::super) const DATA: u8 = 1;
    pub(in super::super) const EXIST: u8 = 1 << 1;
    pub(in super::super) const CHILD: u8 = 1 << 2;
    pub(in super::super) const PERSISTENT: u8 = 1 << 3;
    pub(in super::super) const RECURSIVE: u8 = 1 << 4;
}

/// The watches of all connections.
#[derive(Debug)]
pub(super) struct Watches {
    by_path: HashMap<Bytes, BTreeMap<ConnId, u8>, Seeded>,
    by_conn: BTreeMap<ConnId, BTreeMap<Bytes, u8>>,
    /// Pairs of path and connection with a recursive watch.
    recursive: usize,
    /// Bits set.
    count: usize,
    count_max: usize,
}

impl Watches {
    pub(super) fn new(seed: u64, count_max: usize) -> Self {
        Self {
            by_path: HashMap::with_hasher(Seeded(seed)),
            by_conn: BTreeMap::new(),
            recursive: 0,
            count: 0,
            count_max,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn paths(&self) -> usize {
        self.by_path.len()
    }

    pub(super) fn connections(&self) -> usize {
        self.by_conn.len()
    }

    /// Each path and who watches it, in order.
    pub(super) fn by_path(&self) -> BTreeMap<&Bytes, Vec<ConnId>> {
        self.by_path.iter().map(|(path, conns)| (path, conns.keys().copied().collect())).collect()
    }

    /// Each connection and what it watches, in order.
    pub(super) fn by_conn(&self) -> impl Iterator<Item = (ConnId, &BTreeMap<Bytes, u8>)> {
        self.by_conn.iter().map(|(conn, paths)| (*conn, paths))
    }

    /// Is there room for `more` watches?
    pub(super) fn has_room(&self, more: usize) -> bool {
        self.count.saturating_add(more) <= self.count_max
    }

    /// Adds a watch.
    pub(super) fn add(&mut self, conn: ConnId, path: &[u8], bit: u8) {
        let paths = self.by_conn.entry(conn).or_default();
        if let Some(set) = paths.get_mut(path) {
            if *set & bit != 0 {
                return;
            }
            *set |= bit;
            let set = *set;
            self.by_path.get_mut(path).expect("both tables agree").insert(conn, set);
        } else {
            let path = match self.by_path.get_key_value(path) {
                Some((path, _)) => path.clone(),
                None => Bytes::copy_from_slice(path),
            };
            paths.insert(path.clone(), bit);
            self.by_path.entry(path).or_default().insert(conn, bit);
        }
        self.count += 1;
        self.recursive += usize::from(bit == bits::RECURSIVE);
    }

    /// The kinds of watches that a connection has on a path.
    pub(super) fn get(&self, conn: ConnId, path: &[u8]) -> u8 {
        self.by_conn.get(&conn).and_then(|paths| paths.get(path)).copied().unwrap_or(0)
    }

    /// Everything that a connection watches.
    pub(super) fn of(&self, conn: ConnId) -> Option<&BTreeMap<Bytes, u8>> {
        self.by_conn.get(&conn)
    }

    /// Removes kinds of watches; false if there was none.
    pub(super) fn remove(&mut self, conn: ConnId, path: &[u8], mask: u8) -> bool {
        let had = self.get(conn, path) & mask;
        if had == 0 {
            return false;
        }
        let left = self.get(conn, path) & !mask;
        let paths = self.by_conn.get_mut(&conn).expect("it has a watch");
        let conns = self.by_path.get_mut(path).expect("both tables agree");
        if left == 0 {
            paths.remove(path);
            conns.remove(&conn);
            if paths.is_empty() {
                self.by_conn.remove(&conn);
            }
            if conns.is_empty() {
                self.by_path.remove(path);
            }
        } else {
            *paths.get_mut(path).expect("it has a watch") = left;
            conns.insert(conn, left);
        }
        self.count -= had.count_ones() as usize;
        self.recursive -= usize::from(had & bits::RECURSIVE != 0);
        true
    }

    /// Removes a connection.
    pub(super) fn drop_conn(&mut self, conn: ConnId) {
        let Some(paths) = self.by_conn.remove(&conn) else { return };
        for (path, set) in paths {
            let conns = self.by_path.get_mut(&path).expect("both tables agree");
            conns.remove(&conn);
            if conns.is_empty() {
                self.by_path.remove(&path);
            }
            self.count -= set.count_ones() as usize;
            self.recursive -= usize::from(set & bits::RECURSIVE != 0);
        }
    }

    /// Who is to be told of this event, in order, without doubles. One-time watches are gone behind it.
    pub(super) fn fire(&mut self, kind: EventType, path: &[u8]) -> Vec<ConnId> {
        if self.count == 0 {
            return Vec::new();
        }
        let once = match kind {
            EventType::NodeDeleted => bits::DATA | bits::EXIST | bits::CHILD,
            EventType::NodeCreated | EventType::NodeDataChanged => bits::DATA | bits::EXIST,
            EventType::NodeChildrenChanged => bits::CHILD,
            _ => 0,
        };
        let recursive = kind != EventType::NodeChildrenChanged;
        let stay = if recursive { bits::PERSISTENT | bits::RECURSIVE } else { bits::PERSISTENT };
        let mut told = Vec::new();
        let mut spent = Vec::new();
        if let Some(conns) = self.by_path.get(path) {
            for (conn, set) in conns {
                if set & (once | stay) != 0 {
                    told.push(*conn);
                }
                if set & once != 0 {
                    spent.push(*conn);
                }
            }
        }
        for conn in spent {
            self.remove(conn, path, once);
        }
        if recursive && self.recursive > 0 {
            let mut above = path;
            while let Some(parent) = parent_of(above) {
                if let Some(conns) = self.by_path.get(parent) {
                    told.extend(conns.iter().filter(|(_, set)| **set & bits::RECURSIVE != 0).map(|(conn, _)| *conn));
                }
                above = parent;
            }
            told.sort_unstable();
            told.dedup();
        }
        told
    }

    pub(super) fn invariants(&self) {
        let pairs = self.by_conn.values().map(BTreeMap::len).sum::<usize>();
        assert_eq!(pairs, self.by_path.values().map(BTreeMap::len).sum::<usize>(), "both tables agree");
        let sets = || self.by_conn.values().flat_map(BTreeMap::values);
        assert_eq!(sets().map(|set| set.count_ones() as usize).sum::<usize>(), self.count);
        assert_eq!(sets().filter(|set| **set & bits::RECURSIVE != 0).count(), self.recursive);
        assert!(sets().all(|set| *set != 0), "what watches nothing is not kept");
    }
}

fn parent_of(path: &[u8]) -> Option<&[u8]> {
    if path.len() <= 1 {
        return None;
    }
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    Some(if slash == 0 { b"/" } else { &path[..slash] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::EventType as E;

    const A: ConnId = ConnId(1);
    const B: ConnId = ConnId(2);

    fn watches() -> Watches {
        Watches::new(7, 100)
    }

    #[test]
    fn one_time_watches_fire_once() {
        let mut w = watches();
        w.add(A, b"/a", bits::DATA);
        w.add(A, b"/a", bits::CHILD);
        w.add(B, b"/a", bits::EXIST);
        assert_eq!(w.fire(E::NodeChildrenChanged, b"/a"), [A]);
        assert_eq!(w.fire(E::NodeChildrenChanged, b"/a"), []);
        assert_eq!(w.fire(E::NodeDataChanged, b"/a"), [A, B]);
        assert_eq!(w.fire(E::NodeDeleted, b"/a"), []);
        w.invariants();
        assert_eq!((w.count(), w.paths(), w.connections()), (0, 0, 0));
    }

    #[test]
    fn a_deletion_is_told_once() {
        let mut w = watches();
        w.add(A, b"/a", bits::DATA);
        w.add(A, b"/a", bits::CHILD);
        w.add(A, b"/a", bits::PERSISTENT);
        w.add(A, b"/", bits::RECURSIVE);
        assert_eq!(w.fire(E::NodeDeleted, b"/a"), [A]);
        assert_eq!(w.get(A, b"/a"), bits::PERSISTENT);
        assert_eq!(w.count(), 2);
        w.invariants();
    }

    #[test]
    fn recursive_watches_see_what_is_below_but_no_changed_children() {
        let mut w = watches();
        w.add(A, b"/a", bits::RECURSIVE);
        w.add(B, b"/", bits::RECURSIVE);
        assert_eq!(w.fire(E::NodeCreated, b"/a/b/c"), [A, B]);
        assert_eq!(w.fire(E::NodeCreated, b"/ab"), [B]);
        assert_eq!(w.fire(E::NodeDataChanged, b"/a"), [A, B]);
        assert_eq!(w.fire(E::NodeChildrenChanged, b"/a"), []);
        w.add(A, b"/a", bits::PERSISTENT);
        assert_eq!(w.fire(E::NodeChildrenChanged, b"/a"), [A]);
        w.invariants();
        w.drop_conn(A);
        assert!(w.remove(B, b"/", bits::RECURSIVE) && !w.remove(B, b"/", bits::RECURSIVE));
        w.invariants();
        assert_eq!((w.count(), w.recursive), (0, 0));
    }

    #[test]
    fn room_is_bounded() {
        let mut w = Watches::new(7, 1);
        assert!(w.has_room(1));
        w.add(A, b"/a", bits::DATA);
        assert!(!w.has_room(1) && !w.has_room(usize::MAX));
    }
}
