//! Snapshots, drawn while blocks go on.
//!
//! A snapshot is a sequence of records, each `[kind: u8][size: u32][payload]`, integers big-endian; a chunk ends where a
//! record does.
//!
//! | kind | payload |
//! | --- | --- |
//! | 1 head | magic `VLGR`, version `u16`, SHA-256 of the genesis |
//! | 2 seen | hashes (32 each), the oldest first |
//! | 3 waiting | a transaction |
//! | 4 application | a chunk of its own snapshot |
//! | 5 block | a block and its results, as protobuf |
//! | 6 commit | the votes for the last block |
//! | 7 proposal | the block under way, its votes, how many transactions it took |
//! | 8 end | digest (32), SHA-256 of all records before it |
//! | 10 abroad | of an application in another process: begun `u8`, its version `u64`, the hash that it began with |
//! | 9 trails | where those of what waits, of what was seen and of the blocks begin (32 each) |
//!
//! Blocks do not change, so the beginning takes a reference to each; the application sees to its own state.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use verity_contract::StateMachine as _;
use verity_types::Digest;

use super::ledger::Ledger;
use super::store::Stored;
use crate::wire::{Writer, sha256};

pub(super) const MAGIC: &[u8; 4] = b"VLGR";
pub(super) const FORMAT: u16 = 2;

/// Kinds of records.
pub(super) mod kind {
    pub(in super::super) const HEAD: u8 = 1;
    pub(in super::super) const SEEN: u8 = 2;
    pub(in super::super) const WAITING: u8 = 3;
    pub(in super::super) const APP: u8 = 4;
    pub(in super::super) const BLOCK: u8 = 5;
    pub(in super::super) const COMMIT: u8 = 6;
    pub(in super::super) const PROPOSAL: u8 = 7;
    pub(in super::super) const END: u8 = 8;
    pub(in super::super) const TRAILS: u8 = 9;
    pub(in super::super) const ABROAD: u8 = 10;
}

/// A snapshot under way.
#[derive(Debug)]
pub(super) struct Drawing {
    /// Small things, copied at the beginning.
    first: VecDeque<(u8, Vec<u8>)>,
    waiting: VecDeque<Bytes>,
    app: bool,
    blocks: VecDeque<Arc<Stored>>,
    /// What comes behind the blocks.
    last: VecDeque<(u8, Vec<u8>)>,
    end: Option<Digest>,
    /// Of the records so far.
    sum: Sha256,
}

pub(super) fn record(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    out.push(kind);
    let size = u32::try_from(payload.len()).expect("blocks are bounded, and nothing is larger");
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(payload);
}

impl Ledger {
    /// What a snapshot of this chain begins with.
    pub(super) fn head(&self) -> Vec<u8> {
        [&MAGIC[..], &FORMAT.to_be_bytes(), &sha256(self.genesis.to_json().as_bytes())].concat()
    }

    pub(super) fn draw_begin(&mut self) {
        let mut commit = Writer::new();
        self.tip.seen.write(&mut commit);
        let mut last = VecDeque::from([(kind::COMMIT, commit.out)]);
        let proposal = self.proposal.as_ref().map(|proposal| proposal.encode(self.pool.proposed));
        last.extend(proposal.map(|proposal| (kind::PROPOSAL, proposal)));
        let [waiting, seen] = self.pool.trail_begins();
        let trails = [waiting, seen, self.store.trail().begin()].concat();
        let seen = self.pool.seen().iter().flatten().copied().collect();
        self.app.snapshot_begin();
        let mut first = VecDeque::from([(kind::HEAD, self.head()), (kind::TRAILS, trails), (kind::SEEN, seen)]);
        first.extend(self.abroad.as_ref().map(|abroad| {
            let version = abroad.version.unwrap_or(0).to_be_bytes();
            (kind::ABROAD, [&[abroad.version.is_some().into()], &version[..], &abroad.first_hash].concat())
        }));
        self.drawing = Some(Drawing {
            first,
            waiting: self.pool.waiting().cloned().collect(),
            app: true,
            blocks: self.store.iter().cloned().collect(),
            last,
            end: Some(self.digest()),
            sum: Sha256::new(),
        });
    }

    pub(super) fn draw_next(&mut self, size_max: usize) -> Option<Bytes> {
        let drawing = self.drawing.as_mut()?;
        let mut out = Vec::with_capacity(size_max.min(1 << 20));
        let mut end = None;
        while out.len() < size_max.max(1) {
            if let Some((kind, payload)) = drawing.first.pop_front() {
                record(&mut out, kind, &payload);
            } else if let Some(tx) = drawing.waiting.pop_front() {
                record(&mut out, kind::WAITING, &tx);
            } else if drawing.app {
                match self.app.snapshot_next(size_max) {
                    Some(chunk) => record(&mut out, kind::APP, &chunk),
                    None => drawing.app = false,
                }
            } else if let Some(stored) = drawing.blocks.pop_front() {
                record(&mut out, kind::BLOCK, &stored.encode());
            } else if let Some((kind, payload)) = drawing.last.pop_front() {
                record(&mut out, kind, &payload);
            } else {
                end = drawing.end.take();
                break;
            }
        }
        drawing.sum.update(&out);
        if let Some(Digest(digest)) = end {
            let sum = std::mem::take(&mut drawing.sum).finalize();
            record(&mut out, kind::END, &[&digest[..], &sum].concat());
        }
        if out.is_empty() {
            self.drawing = None;
            return None;
        }
        Some(out.into())
    }
}
