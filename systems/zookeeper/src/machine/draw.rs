//! Snapshots, drawn while writes go on.
//!
//! A snapshot is a sequence of records, each `[kind: u8][size: u32][payload]`; chunks cut it between records, a reader
//! does not rely on it. Integers are big-endian.
//!
//! | kind | payload |
//! | --- | --- |
//! | 1 head | magic `VZKT`, version `u16`, zxid, time, forgotten zxid of the ring (`i64` each), configuration `i32` |
//! | 2 list | number `u32`, jute vector of ACL |
//! | 3 session | id `i64`, timeout `i32`, owner `u64`, password (16) |
//! | 4 event | zxid `i64`, kind `u8` (with the highest bit for a node that not everybody could read), path |
//! | 5 node | slot, parent, first child, prev, next, child count, access list (`u32` each), kind `u8`, null data `u8`, czxid, mzxid, pzxid, ctime, mtime, owner (`i64` each), version, cversion, aversion (`i32` each), name size `u32`, name, data |
//! | 7 wish | the configuration that a reconfig wishes for, as text |
//! | 6 end | nodes `u32`, digest (32) |
//!
//! Nodes come in rising order of their slots; a reader may give them others, and does, so that no gap costs it memory.
//!
//! At the beginning the small tables are copied. Nodes are drawn by slot; a write to a slot that is not drawn yet first
//! puts the slot's record aside, so the snapshot shows the moment of its beginning and nobody waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use verity_types::{Digest, NodeId};

use super::acl::Entry;
use super::config::{Mutant, TreeConfig};
use super::digest;
use super::ensemble::Ensemble;
use super::event::Past;
use super::node::{Node, ROOT};
use super::session::PASSWORD_SIZE;
use super::tree::Tree;
use crate::wire::{Acl, Encode, length_of};

pub(super) const MAGIC: &[u8; 4] = b"VZKT";
pub(super) const FORMAT: u16 = 1;

/// Marks the event of a node that not everybody could read.
pub(super) const SECRET: u8 = 1 << 7;

/// Kinds of records.
pub(super) mod kind {
    pub(in super::super) const HEAD: u8 = 1;
    pub(in super::super) const ACL: u8 = 2;
    pub(in super::super) const SESSION: u8 = 3;
    pub(in super::super) const EVENT: u8 = 4;
    pub(in super::super) const NODE: u8 = 5;
    pub(in super::super) const END: u8 = 6;
    pub(in super::super) const WISH: u8 = 7;
}

/// A snapshot under way.
#[derive(Debug)]
pub(super) struct Drawing {
    head: Option<Head>,
    acls: VecDeque<(u32, Arc<[Entry]>)>,
    sessions: VecDeque<(i64, i32, NodeId, [u8; PASSWORD_SIZE])>,
    events: VecDeque<Past>,
    /// Slots below it are drawn.
    cursor: u32,
    /// Slots at the beginning.
    slots: u32,
    /// Records of slots that changed before they were drawn; empty for a slot that was free.
    kept: BTreeMap<u32, Vec<u8>>,
    nodes: u32,
    digest: Digest,
    ended: bool,
}

#[derive(Debug)]
struct Head {
    zxid: i64,
    time: i64,
    forgotten: i64,
    config: TreeConfig,
    wish: Option<String>,
}

fn record(out: &mut Vec<u8>, kind: u8, payload: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    payload(out);
    let size = u32::try_from(out.len() - at - 4).expect("a record is a request's size at most");
    out[at..at + 4].copy_from_slice(&size.to_be_bytes());
}

fn node_record(out: &mut Vec<u8>, id: u32, node: &Node) {
    record(out, kind::NODE, |out| {
        let links = [id, node.parent, node.first_child, node.prev, node.next, node.child_count, node.acl];
        links.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
        out.push(node.kind().number());
        out.push(u8::from(node.data().is_none()));
        let stamps = [node.czxid, node.mzxid, node.pzxid, node.ctime, node.mtime, node.owner];
        stamps.iter().for_each(|word| word.encode(out));
        [node.version, node.cversion, node.aversion].iter().for_each(|count| count.encode(out));
        length_of(node.name().len()).encode(out);
        out.extend_from_slice(node.name());
        out.extend_from_slice(node.data().unwrap_or_default());
    });
}

impl Tree {
    /// Puts a node's record aside, if a snapshot under way still needs it. Comes before every change to the node.
    pub(super) fn keep(&mut self, id: u32) {
        if self.drawing.is_some() {
            self.keep_slot(id);
        }
    }

    /// The same for a slot that may be free or not exist yet.
    pub(super) fn keep_slot(&mut self, id: u32) {
        let Some(drawing) = &mut self.drawing else { return };
        if id < drawing.cursor || id >= drawing.slots || drawing.kept.contains_key(&id) {
            return;
        }
        let node = self.slab.get(id);
        let mut out = Vec::new();
        if !node.is_free() {
            node_record(&mut out, id, node);
        }
        drawing.kept.insert(id, out);
    }

    pub(super) fn draw_begin(&mut self) {
        let mut sessions: VecDeque<_> =
            self.sessions.map.iter().map(|(id, s)| (*id, s.timeout_ms, s.owner, s.password)).collect();
        let mut sum = self.sessions.sum;
        if self.mutant == Mutant::SnapshotMissingSession
            && let Some((id, ..)) = sessions.pop_back()
        {
            sum = sum.wrapping_sub(digest::session(id, &self.sessions.map[&id]));
        }
        self.drawing = Some(Drawing {
            head: Some(Head {
                zxid: self.zxid,
                time: self.time,
                forgotten: self.ring.forgotten,
                config: self.config,
                wish: self.wish.as_ref().map(Ensemble::to_text),
            }),
            acls: self.acls.iter().map(|(number, list)| (number, Arc::clone(list))).collect(),
            sessions,
            events: self.ring.iter().cloned().collect(),
            cursor: ROOT,
            slots: self.slab.slots(),
            kept: BTreeMap::new(),
            nodes: self.slab.live(),
            digest: self.fingerprint(sum),
            ended: false,
        });
    }

    pub(super) fn draw_next(&mut self, size_max: usize) -> Option<Bytes> {
        let drawing = self.drawing.as_mut()?;
        if drawing.ended {
            self.drawing = None;
            return None;
        }
        let mut out = Vec::with_capacity(size_max.min(1 << 20));
        if let Some(head) = drawing.head.take() {
            head_record(&mut out, &head);
        }
        while out.len() < size_max.max(1) {
            if let Some((number, list)) = drawing.acls.pop_front() {
                record(&mut out, kind::ACL, |out| {
                    out.extend_from_slice(&number.to_be_bytes());
                    list.iter().map(Entry::view).collect::<Vec<Acl<'_>>>().encode(out);
                });
            } else if let Some((id, timeout_ms, owner, password)) = drawing.sessions.pop_front() {
                record(&mut out, kind::SESSION, |out| {
                    id.encode(out);
                    timeout_ms.encode(out);
                    out.extend_from_slice(&owner.0.to_be_bytes());
                    out.extend_from_slice(&password);
                });
            } else if let Some(past) = drawing.events.pop_front() {
                record(&mut out, kind::EVENT, |out| {
                    past.zxid.encode(out);
                    let kind = u8::try_from(past.kind.number()).expect("node events are 1 to 4");
                    out.push(kind | if past.secret { SECRET } else { 0 });
                    out.extend_from_slice(&past.path);
                });
            } else if drawing.cursor < drawing.slots {
                let id = drawing.cursor;
                drawing.cursor += 1;
                match drawing.kept.remove(&id) {
                    Some(kept) => out.extend_from_slice(&kept),
                    None => {
                        let node = self.slab.get(id);
                        if !node.is_free() {
                            node_record(&mut out, id, node);
                        }
                    }
                }
            } else {
                record(&mut out, kind::END, |out| {
                    out.extend_from_slice(&drawing.nodes.to_be_bytes());
                    out.extend_from_slice(&drawing.digest.0);
                });
                drawing.ended = true;
                break;
            }
        }
        Some(Bytes::from(out))
    }
}

fn head_record(out: &mut Vec<u8>, head: &Head) {
    record(out, kind::HEAD, |out| {
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_be_bytes());
        [head.zxid, head.time, head.forgotten].iter().for_each(|word| word.encode(out));
        head.config.encode(out);
    });
    if let Some(wish) = &head.wish {
        record(out, kind::WISH, |out| out.extend_from_slice(wish.as_bytes()));
    }
}
