//! Snapshots, drawn while commands go on, and the fingerprint.
//!
//! A snapshot is a sequence of records, each `[kind: u8][size: u32][payload]`; chunks cut it anywhere.
//!
//! | kind | payload ([`crate::machine::codec`]) |
//! | --- | --- |
//! | 1 head | magic `VZKG`, format, configuration, coordinator epoch, time, ticket, next producer id, count of transactions, next sweep |
//! | 2 group | id, group |
//! | 3 transaction | id, transaction |
//! | 5 share | name, partition of a share group |
//! | 4 end | fingerprint (32) |
//!
//! Groups, transactions and shares come in the order of their names. The fingerprint is a hash of all records before the end.
//!
//! At the beginning the tables are copied, not what is in them: a group that changes while a snapshot is drawn is copied
//! then. Deliberately absent: timers, which follow from the rest.

use std::collections::btree_map::IntoIter;
use std::sync::Arc;

use bytes::Bytes;
use verity_contract::RestoreError;
use verity_types::Digest;
use xxhash_rust::xxh3::Xxh3;

use super::command::ShareName;
use super::config::CoordinatorConfig;
use super::group::Group;
use super::machine::Coordinator;
use super::share::partition::SharePartition;
use super::timers::Key;
use super::transaction::Transaction;
use crate::machine::codec::{self, Code, record};

const MAGIC: u32 = u32::from_be_bytes(*b"VZKG");
/// The largest record that is read. What a group may hold stays below it.
const RECORD_SIZE_MAX: usize = 1 << 30;
const RECORD_HEAD: usize = 5;

const HEAD: u8 = 1;
const GROUP: u8 = 2;
const TRANSACTION: u8 = 3;
const END: u8 = 4;
const SHARE: u8 = 5;

record! {
    struct Head {
        magic: u32,
        format: u8,
        config: Option<CoordinatorConfig>,
        epoch: i32,
        now: u64,
        ticket: u64,
        next_producer_id: i64,
        transaction_count: u64,
        sweep_at: Option<u64>,
    }
}

/// A hash of records.
struct Fingerprint([Xxh3; 2]);

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fingerprint").finish_non_exhaustive()
    }
}

impl Fingerprint {
    fn new() -> Self {
        Self([Xxh3::with_seed(0), Xxh3::with_seed(1)])
    }

    fn update(&mut self, record: &[u8]) {
        self.0.iter_mut().for_each(|hash| hash.update(record));
    }

    fn digest(&self) -> Digest {
        let mut digest = [0; 32];
        for (half, hash) in digest.chunks_exact_mut(16).zip(&self.0) {
            half.copy_from_slice(&hash.digest128().to_be_bytes());
        }
        Digest(digest)
    }
}

fn framed(kind: u8, put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![kind, 0, 0, 0, 0];
    put(&mut out);
    let size = u32::try_from(out.len() - RECORD_HEAD).expect("a group is smaller than four gigabytes");
    out[1..RECORD_HEAD].copy_from_slice(&size.to_be_bytes());
    out
}

fn row<T: Code>(kind: u8, id: &impl Code, value: &T) -> Vec<u8> {
    framed(kind, |out| {
        id.put(out);
        value.put(out);
    })
}

/// A snapshot under way.
#[derive(Debug)]
pub(super) struct Drawing {
    head: Option<Vec<u8>>,
    groups: IntoIter<String, Arc<Group>>,
    transactions: IntoIter<String, Arc<Transaction>>,
    shares: IntoIter<ShareName, Arc<SharePartition>>,
    fingerprint: Fingerprint,
    /// What is written and not handed out.
    buffer: Vec<u8>,
    ended: bool,
}

impl Drawing {
    fn next_record(&mut self) -> Option<Vec<u8>> {
        let record = if let Some(head) = self.head.take() {
            head
        } else if let Some((id, group)) = self.groups.next() {
            row(GROUP, &id, &*group)
        } else if let Some((id, transaction)) = self.transactions.next() {
            row(TRANSACTION, &id, &*transaction)
        } else if let Some((name, share)) = self.shares.next() {
            row(SHARE, &name, &*share)
        } else if !self.ended {
            self.ended = true;
            let digest = self.fingerprint.digest();
            return Some(framed(END, |out| out.extend_from_slice(&digest.0)));
        } else {
            return None;
        };
        self.fingerprint.update(&record);
        Some(record)
    }
}

impl Coordinator {
    fn head(&self) -> Vec<u8> {
        let head = Head {
            magic: MAGIC,
            format: codec::FORMAT,
            config: self.config,
            epoch: self.epoch,
            now: self.now,
            ticket: self.ticket,
            next_producer_id: self.next_producer_id,
            transaction_count: self.transaction_count,
            sweep_at: self.sweep_at,
        };
        framed(HEAD, |out| head.put(out))
    }

    pub(super) fn fingerprint(&self) -> Digest {
        let mut fingerprint = Fingerprint::new();
        fingerprint.update(&self.head());
        self.groups.iter().for_each(|(id, group)| fingerprint.update(&row(GROUP, id, &**group)));
        self.transactions.iter().for_each(|(id, one)| fingerprint.update(&row(TRANSACTION, id, &**one)));
        self.shares.iter().for_each(|(name, share)| fingerprint.update(&row(SHARE, name, &**share)));
        fingerprint.digest()
    }

    pub(super) fn draw_begin(&mut self) {
        self.drawing = Some(Drawing {
            head: Some(self.head()),
            groups: self.groups.clone().into_iter(),
            transactions: self.transactions.clone().into_iter(),
            shares: self.shares.clone().into_iter(),
            fingerprint: Fingerprint::new(),
            buffer: Vec::new(),
            ended: false,
        });
    }

    pub(super) fn draw_next(&mut self, size_max: usize) -> Option<Bytes> {
        let drawing = self.drawing.as_mut()?;
        let size_max = size_max.max(1);
        while drawing.buffer.len() < size_max {
            match drawing.next_record() {
                Some(record) => drawing.buffer.extend_from_slice(&record),
                None => break,
            }
        }
        if drawing.buffer.is_empty() {
            self.drawing = None;
            return None;
        }
        let rest = drawing.buffer.split_off(size_max.min(drawing.buffer.len()));
        Some(Bytes::from(std::mem::replace(&mut drawing.buffer, rest)))
    }

    pub(super) fn restored(
        chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>,
    ) -> Result<Self, RestoreError> {
        let mut loading = Loading { state: None, fingerprint: Fingerprint::new(), end: None };
        let mut carry: Vec<u8> = Vec::new();
        for chunk in chunks {
            carry.extend_from_slice(&chunk?);
            let mut rest = carry.as_slice();
            while loading.take(&mut rest)? {}
            let used = carry.len() - rest.len();
            carry.drain(..used);
        }
        if !carry.is_empty() {
            return Err(invalid("it ends inside a record"));
        }
        loading.finish()
    }
}

fn invalid(text: &str) -> RestoreError {
    RestoreError::Invalid(text.to_owned())
}

/// What was read so far.
struct Loading {
    state: Option<Coordinator>,
    fingerprint: Fingerprint,
    end: Option<Digest>,
}

fn whole<T: Code>(mut payload: &[u8]) -> Result<T, RestoreError> {
    let value = T::take(&mut payload).map_err(|error| invalid(error.0))?;
    if payload.is_empty() { Ok(value) } else { Err(invalid("a record is longer than what it holds")) }
}

impl Loading {
    /// Reads a record; false if it is not all there.
    fn take(&mut self, bytes: &mut &[u8]) -> Result<bool, RestoreError> {
        let Some((head, rest)) = bytes.split_first_chunk::<RECORD_HEAD>() else { return Ok(false) };
        let size = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > RECORD_SIZE_MAX {
            return Err(invalid("a record is too large"));
        }
        let Some(payload) = rest.get(..size) else { return Ok(false) };
        if self.end.is_some() {
            return Err(invalid("something follows the end"));
        }
        let record = &bytes[..RECORD_HEAD + size];
        match (head[0], &mut self.state) {
            (HEAD, None) => self.state = Some(begin(&whole::<Head>(payload)?)?),
            (GROUP, Some(state)) => {
                let (id, group) = whole::<(String, Group)>(payload)?;
                if state.groups.insert(id, Arc::new(group)).is_some() {
                    return Err(invalid("a group comes twice"));
                }
            }
            (TRANSACTION, Some(state)) => {
                let (id, transaction) = whole::<(String, Transaction)>(payload)?;
                if state.transactions.insert(id, Arc::new(transaction)).is_some() {
                    return Err(invalid("a transactional id comes twice"));
                }
            }
            (SHARE, Some(state)) => {
                let (name, share) = whole::<(ShareName, SharePartition)>(payload)?;
                if state.shares.insert(name, Arc::new(share)).is_some() {
                    return Err(invalid("a share comes twice"));
                }
            }
            (END, Some(_)) => self.end = Some(Digest(payload.try_into().map_err(|_| invalid("a short end"))?)),
            _ => return Err(invalid("a record that does not belong there")),
        }
        if head[0] != END {
            self.fingerprint.update(record);
        }
        *bytes = &bytes[RECORD_HEAD + size..];
        Ok(true)
    }

    fn finish(self) -> Result<Coordinator, RestoreError> {
        let (Some(mut state), Some(end)) = (self.state, self.end) else { return Err(invalid("it ends early")) };
        if end != self.fingerprint.digest() {
            return Err(invalid("it is not what was written"));
        }
        let groups: Vec<String> = state.groups.keys().cloned().collect();
        groups.iter().for_each(|id| state.rearm_group(id));
        let transactions: Vec<String> = state.transactions.keys().cloned().collect();
        transactions.iter().for_each(|id| state.rearm_transaction(id));
        let shares: Vec<ShareName> = state.shares.keys().cloned().collect();
        shares.iter().for_each(|name| state.rearm_share(name));
        let sweep_at = state.sweep_at;
        state.timers.set(Key::Sweep, sweep_at);
        Ok(state)
    }
}

fn begin(head: &Head) -> Result<Coordinator, RestoreError> {
    if (head.magic, head.format) != (MAGIC, codec::FORMAT) {
        return Err(invalid("another format"));
    }
    Ok(Coordinator {
        config: head.config,
        epoch: head.epoch,
        now: head.now,
        ticket: head.ticket,
        next_producer_id: head.next_producer_id,
        transaction_count: head.transaction_count,
        sweep_at: head.sweep_at,
        ..Coordinator::default()
    })
}
