//! What the tree tells everybody: the bytes of [`verity_contract::Effect::Event`], and the ring of recent ones.
//!
//! A node's event has its path as topic and, behind kind and zxid, who may read the node: a jute vector of access
//! entries, or nothing if everybody may. Who may not is not told (CVE-2024-23944). An event of a session, or of the ensemble, has an empty topic. Events of one
//! command follow ZooKeeper's order: the node's own, then its parent's.

use std::collections::VecDeque;

use bytes::Bytes;
use verity_types::NodeId;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::wire::{Decode, DecodeError, Encode, EventType, Reader};

/// The most events that the ring keeps.
pub const RING_COUNT_MAX: usize = 1 << 14;
/// The most bytes of paths that the ring keeps.
pub const RING_SIZE_MAX: usize = 4 << 20;

const SESSION_OPENED: u8 = 16;
const SESSION_CLOSED: u8 = 17;
const SESSION_MOVED: u8 = 18;
const RECONFIG_WANTED: u8 = 19;
const RECONFIG_ENDED: u8 = 20;

/// One event, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeEvent<'a> {
    /// Something happened to a node.
    Node {
        /// Created, deleted, data changed or children changed.
        kind: EventType,
        /// By this transaction.
        zxid: i64,
        /// The node's path: the event's topic.
        path: &'a [u8],
        /// Who may hear of it, for [`super::may_read`].
        lock: &'a [u8],
    },
    /// A session began.
    SessionOpened {
        /// Its id.
        session: i64,
        /// In milliseconds.
        timeout_ms: i32,
    },
    /// A session ended; its ephemerals are gone.
    SessionClosed {
        /// Its id.
        session: i64,
    },
    /// A session is served by another connection: whoever else serves it closes.
    SessionMoved {
        /// Its id.
        session: i64,
        /// The node that serves it now.
        owner: NodeId,
    },
    /// The group shall have other members.
    ReconfigWanted {
        /// The transaction that wishes so.
        version: i64,
        /// The new configuration, as [`super::ensemble::Ensemble`] writes it.
        text: &'a [u8],
    },
    /// The wish of `version` is settled.
    ReconfigEnded {
        /// The transaction that wished so.
        version: i64,
        /// [`crate::wire::ErrorCode`]; 0 if it is the configuration now.
        err: i32,
    },
}

impl<'a> TreeEvent<'a> {
    /// Reads an event.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(topic: &'a [u8], bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let kind = u8::decode(&mut reader)?;
        let first = i64::decode(&mut reader)?;
        Ok(match kind {
            SESSION_OPENED => Self::SessionOpened { session: first, timeout_ms: i32::decode(&mut reader)? },
            SESSION_CLOSED => Self::SessionClosed { session: first },
            SESSION_MOVED => {
                Self::SessionMoved { session: first, owner: NodeId(i64::decode(&mut reader)?.cast_unsigned()) }
            }
            RECONFIG_WANTED => Self::ReconfigWanted { version: first, text: reader.rest() },
            RECONFIG_ENDED => Self::ReconfigEnded { version: first, err: i32::decode(&mut reader)? },
            1..=4 => {
                let kind = EventType::from_number(i32::from(kind)).expect("1 to 4 are named");
                Self::Node { kind, zxid: first, path: topic, lock: reader.rest() }
            }
            _ => return Err(DecodeError::UnknownNumber(i32::from(kind))),
        })
    }
}

fn event(kind: u8, subject: i64, rest: &[u8]) -> (Bytes, Bytes) {
    let mut out = vec![kind];
    subject.encode(&mut out);
    out.extend_from_slice(rest);
    (Bytes::new(), Bytes::from(out))
}

pub(super) fn reconfig_wanted(version: i64, text: &str) -> (Bytes, Bytes) {
    event(RECONFIG_WANTED, version, text.as_bytes())
}

pub(super) fn reconfig_ended(version: i64, err: i32) -> (Bytes, Bytes) {
    event(RECONFIG_ENDED, version, &err.to_be_bytes())
}

pub(super) fn session_opened(session: i64, timeout_ms: i32) -> (Bytes, Bytes) {
    event(SESSION_OPENED, session, &timeout_ms.to_be_bytes())
}

pub(super) fn session_closed(session: i64) -> (Bytes, Bytes) {
    event(SESSION_CLOSED, session, &[])
}

pub(super) fn session_moved(session: i64, owner: NodeId) -> (Bytes, Bytes) {
    event(SESSION_MOVED, session, &owner.0.to_be_bytes())
}

/// The events of one change to the node at `path`: its own and, if its coming or going is one, its parent's. `locks` say
/// who may read the node and its parent. All of them, topics included, are slices of one allocation.
pub(super) fn node_events(
    kind: EventType,
    zxid: i64,
    path: &str,
    locks: [&[u8]; 2],
) -> (Bytes, Bytes, Option<(Bytes, Bytes)>) {
    let size = path.len();
    let [lock, above] = locks;
    let mut out = Vec::with_capacity(size + 18 + lock.len() + above.len());
    out.extend_from_slice(path.as_bytes());
    out.push(number(kind));
    zxid.encode(&mut out);
    out.extend_from_slice(lock);
    let end = out.len();
    let with_parent = matches!(kind, EventType::NodeCreated | EventType::NodeDeleted);
    if with_parent {
        out.push(number(EventType::NodeChildrenChanged));
        zxid.encode(&mut out);
        out.extend_from_slice(above);
    }
    let all = Bytes::from(out);
    let parent = with_parent.then(|| {
        let slash = path.rfind('/').expect("paths are absolute");
        (all.slice(..slash.max(1)), all.slice(end..))
    });
    (all.slice(..size), all.slice(size..end), parent)
}

fn number(kind: EventType) -> u8 {
    u8::try_from(kind.number()).expect("node events are 1 to 4")
}

/// A change that the ring remembers. A parent's children-changed follows from its child's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) zxid: i64,
    pub(super) kind: EventType,
    pub(super) path: Bytes,
    /// Not everybody could read the node. Once it is gone, nobody can tell who.
    pub(super) secret: bool,
}

/// The last changes, so that persistent watches can be told after a reconnect what they missed. A function of the log:
/// equal on all replicas, and part of snapshots.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring {
    list: VecDeque<Past>,
    size: usize,
    /// The sum of the entries' hashes: the ring's part of the digest.
    pub(super) sum: u128,
    /// The last transaction of which an event is forgotten.
    pub(super) forgotten: i64,
}

fn hash_of(past: &Past) -> u128 {
    xxh3_128_with_seed(
        &past.path,
        past.zxid.cast_unsigned() << 3 | u64::from(past.secret) << 2 | u64::from(number(past.kind) & 3),
    )
}

impl Ring {
    pub(super) fn push(&mut self, past: Past) {
        self.size += past.path.len();
        self.sum = self.sum.wrapping_add(hash_of(&past));
        self.list.push_back(past);
        while self.list.len() > RING_COUNT_MAX || self.size > RING_SIZE_MAX {
            let gone = self.list.pop_front().expect("more than none");
            self.size -= gone.path.len();
            self.sum = self.sum.wrapping_sub(hash_of(&gone));
            self.forgotten = gone.zxid;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Past> {
        self.list.iter()
    }

    /// What happened behind `zxid`; the order of zxids is the order of the list.
    pub(super) fn since(&self, zxid: i64) -> impl Iterator<Item = &Past> {
        self.list.range(self.list.partition_point(|past| past.zxid <= zxid)..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_decode() {
        let (topic, bytes, parent) = node_events(EventType::NodeCreated, 7, "/a/b", [b"own", b"above"]);
        let expect = TreeEvent::Node { kind: EventType::NodeCreated, zxid: 7, path: b"/a/b", lock: b"own" };
        assert_eq!(TreeEvent::decode(&topic, &bytes), Ok(expect));
        let (topic, bytes) = parent.expect("a creation concerns the parent");
        let expect = TreeEvent::Node { kind: EventType::NodeChildrenChanged, zxid: 7, path: b"/a", lock: b"above" };
        assert_eq!(TreeEvent::decode(&topic, &bytes), Ok(expect));
        let (_, _, parent) = node_events(EventType::NodeDeleted, 7, "/b", [b"", b""]);
        assert_eq!(parent.expect("so does a deletion").0, "/");
        assert!(node_events(EventType::NodeDataChanged, 7, "/b", [b"", b""]).2.is_none());
        let (topic, bytes) = session_opened(-3, 4000);
        assert_eq!(TreeEvent::decode(&topic, &bytes), Ok(TreeEvent::SessionOpened { session: -3, timeout_ms: 4000 }));
        let (topic, bytes) = session_closed(5);
        assert_eq!(TreeEvent::decode(&topic, &bytes), Ok(TreeEvent::SessionClosed { session: 5 }));
        let (topic, bytes) = session_moved(5, NodeId(2));
        assert_eq!(TreeEvent::decode(&topic, &bytes), Ok(TreeEvent::SessionMoved { session: 5, owner: NodeId(2) }));
        let (topic, bytes) = reconfig_wanted(9, "text");
        assert_eq!(TreeEvent::decode(&topic, &bytes), Ok(TreeEvent::ReconfigWanted { version: 9, text: b"text" }));
        let (topic, bytes) = reconfig_ended(9, -13);
        assert_eq!(TreeEvent::decode(&topic, &bytes), Ok(TreeEvent::ReconfigEnded { version: 9, err: -13 }));
        assert!(TreeEvent::decode(b"", &[9; 9]).is_err());
    }

    #[test]
    fn the_ring_forgets_the_oldest() {
        let mut ring = Ring::default();
        for zxid in 1..=RING_COUNT_MAX as i64 + 5 {
            ring.push(Past { zxid, kind: EventType::NodeCreated, path: Bytes::from_static(b"/a"), secret: false });
        }
        assert_eq!((ring.list.len(), ring.forgotten), (RING_COUNT_MAX, 5));
        assert_eq!(ring.since(RING_COUNT_MAX as i64).count(), 5);
        ring.push(Past {
            zxid: i64::MAX,
            kind: EventType::NodeCreated,
            path: vec![b'x'; RING_SIZE_MAX].into(),
            secret: false,
        });
        assert_eq!(ring.list.len(), 1);
    }
}
