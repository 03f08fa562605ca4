//! The built-in application: `key=value`, by the rules of CometBFT's `abci/example/kvstore`.
//!
//! What differs: the hash of its state is a Merkle root (there it is a count of transactions), so that a value can be
//! proved; and a transaction that would change the validators (`val=...`) is refused, since they are the group's members.
//!
//! A snapshot is a head and then entries by their places. A write to a place that is not drawn yet first puts the old entry
//! aside, so that the snapshot shows the moment of its beginning and nobody waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::app::{App, AppQuery, BlockToRun, FinalizedBlock};
use super::tree::Tree;
use crate::wire::{
    AbciEvent, Attribute, B64, CheckTx, ExecTxResult, Info, Int, Proof, ProofOp, QueryResponse, Text, Time, Uint,
    Writer, leaf_hash, put_varint, sha256,
};

/// `AppVersion`.
const APP_VERSION: u64 = 1;
/// `ABCISemVer`.
const ABCI_VERSION: &str = "2.0.0";
/// `CodeTypeInvalidTxFormat`.
const INVALID_FORMAT: u32 = 2;
/// `CodeTypeUnauthorized`.
const UNAUTHORIZED: u32 = 3;
/// `ValidatorPrefix`.
const VALIDATOR: &[u8] = b"val=";
/// `ProofOpValue`.
const VALUE_OP: &str = "simple:v";
/// What an entry holds in memory beside its bytes, roughly.
const ENTRY_SIZE: u64 = 160;

#[derive(Clone, Debug)]
struct Entry {
    key: Arc<[u8]>,
    value: Box<[u8]>,
}

impl Entry {
    fn put(&self, out: &mut Vec<u8>) {
        for part in [&self.key[..], &self.value[..]] {
            let size = u32::try_from(part.len()).expect("a transaction is bounded");
            out.extend_from_slice(&size.to_be_bytes());
            out.extend_from_slice(part);
        }
    }
}

/// A snapshot under way.
#[derive(Debug)]
struct Drawing {
    head: Option<Vec<u8>>,
    /// Places below it are drawn.
    cursor: usize,
    /// Places at the beginning.
    count: usize,
    /// Entries that changed before they were drawn.
    kept: BTreeMap<usize, Entry>,
}

/// The application.
#[derive(Debug, Default)]
pub struct KvStore {
    /// In the order in which their keys first came.
    entries: Vec<Entry>,
    places: BTreeMap<Arc<[u8]>, usize>,
    tree: Tree,
    /// How many transactions it ran.
    ran: u64,
    height: u64,
    bytes: u64,
    drawing: Option<Drawing>,
    /// The head of a snapshot is still to come.
    headless: bool,
}

/// The leaf of an entry: `encodeByteSlice` of its key and of its value's hash.
fn leaf(key: &[u8], value: &[u8]) -> [u8; 32] {
    let mut out = Vec::with_capacity(key.len() + 40);
    for part in [key, &sha256(value)] {
        put_varint(&mut out, part.len() as u64);
        out.extend_from_slice(part);
    }
    leaf_hash(&out)
}

/// Takes one part of an entry.
fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let (size, behind) = rest.split_first_chunk::<4>().ok_or("an entry is cut off")?;
    let (part, behind) = behind.split_at_checked(u32::from_be_bytes(*size) as usize).ok_or("an entry is cut off")?;
    *rest = behind;
    Ok(part)
}

/// One separator, with something on both sides of it.
fn is_pair(tx: &[u8]) -> bool {
    let mut separators = tx.iter().enumerate().filter(|(_, byte)| matches!(byte, b'=' | b':'));
    match (separators.next(), separators.next()) {
        (Some((at, _)), None) => at > 0 && at + 1 < tx.len(),
        _ => false,
    }
}

fn events(key: String, value: String) -> Vec<AbciEvent> {
    let attribute = |key: &'static str, value: Text, index| Attribute { key: key.into(), value, index };
    let event = |creator: &'static str, what: String| AbciEvent {
        r#type: "app".into(),
        attributes: vec![
            attribute("creator", creator.into(), true),
            attribute("key", what.into(), true),
            attribute("index_key", "index is working".into(), true),
            attribute("noindex_key", "index is working".into(), false),
        ],
    };
    vec![event("Cosmoshi Netowoko", key), event("Cosmoshi", value)]
}

impl KvStore {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn write(&mut self, key: &[u8], value: &[u8]) {
        if let Some(at) = self.places.get(key).copied() {
            let entry = &self.entries[at];
            if let Some(drawing) = &mut self.drawing
                && (drawing.cursor..drawing.count).contains(&at)
            {
                drawing.kept.entry(at).or_insert_with(|| entry.clone());
            }
            self.bytes = self.bytes - entry.value.len() as u64 + value.len() as u64;
            self.entries[at].value = value.into();
            self.tree.set(at, leaf(key, value));
        } else {
            let key: Arc<[u8]> = key.into();
            self.bytes += (key.len() + value.len()) as u64 + ENTRY_SIZE;
            self.tree.push(leaf(&key, value));
            self.places.insert(Arc::clone(&key), self.entries.len());
            self.entries.push(Entry { key, value: value.into() });
        }
    }

    fn proof(&mut self, at: usize) -> ProofOp {
        let proof = Proof::new(at, self.tree.len(), self.tree.leaf(at), &self.tree.aunts(at));
        let key = Bytes::copy_from_slice(&self.entries[at].key);
        let mut data = Writer::new();
        data.bytes(1, &key).message(2, |out| proof.write(out));
        ProofOp { r#type: VALUE_OP.to_owned(), key: B64(key), data: B64(data.out.into()) }
    }
}

impl App for KvStore {
    fn info(&mut self) -> Info {
        Info {
            data: format!("{{\"size\":{}}}", self.ran),
            version: ABCI_VERSION.to_owned(),
            app_version: Uint(APP_VERSION),
            last_block_height: Int(self.height.cast_signed()),
            last_block_app_hash: B64(self.app_hash()),
        }
    }

    fn init_chain(&mut self, _chain_id: &str, _time: Time) -> Bytes {
        self.app_hash()
    }

    fn check_tx(&self, tx: &[u8]) -> CheckTx {
        let refuse = |code, log: &str| CheckTx { code, log: log.to_owned(), ..CheckTx::default() };
        if tx.starts_with(VALIDATOR) {
            return refuse(UNAUTHORIZED, "the validators are the members of the group");
        }
        if is_pair(tx) { CheckTx { gas_wanted: 1, ..CheckTx::default() } } else { refuse(INVALID_FORMAT, "") }
    }

    fn prepare_proposal(&self, txs: &[Bytes], _bytes_max: usize) -> Vec<Bytes> {
        let pair = |tx: &Bytes| match tx.iter().position(|byte| *byte == b':') {
            Some(at) => {
                let mut pair = tx.to_vec();
                pair[at] = b'=';
                pair.into()
            }
            None => tx.clone(),
        };
        txs.iter().filter(|tx| self.check_tx(tx).code == 0).map(pair).collect()
    }

    fn process_proposal(&self, txs: &[Bytes]) -> bool {
        txs.iter().all(|tx| self.check_tx(tx).code == 0)
    }

    fn finalize_block(&mut self, block: BlockToRun<'_>) -> FinalizedBlock {
        let mut tx_results = Vec::with_capacity(block.txs.len());
        for tx in block.txs {
            let at = tx.iter().position(|byte| *byte == b'=');
            let (key, value) = at.map_or((&tx[..], &tx[..]), |at| (&tx[..at], &tx[at + 1..]));
            self.write(key, value);
            self.ran += 1;
            let events = events(String::from_utf8_lossy(key).into_owned(), String::from_utf8_lossy(value).into_owned());
            tx_results.push(ExecTxResult { events, ..ExecTxResult::default() });
        }
        self.height = block.height;
        FinalizedBlock { tx_results, events: Vec::new(), app_hash: self.app_hash() }
    }

    fn commit(&mut self) -> u64 {
        0
    }

    fn query(&mut self, query: &AppQuery) -> QueryResponse {
        let mut response = QueryResponse { key: query.data.clone(), ..QueryResponse::default() };
        response.height = self.height.cast_signed();
        let Some(at) = self.places.get(&query.data[..]).copied() else {
            response.log = "does not exist".to_owned();
            response.index = if query.prove { -1 } else { 0 };
            return response;
        };
        response.log = "exists".to_owned();
        response.value = Bytes::copy_from_slice(&self.entries[at].value);
        if query.prove {
            response.index = i64::try_from(at).expect("what is in memory can be counted");
            response.proof = vec![self.proof(at)];
        }
        response
    }

    fn snapshot_begin(&mut self) {
        let count = self.entries.len();
        let head = [self.ran, self.height, count as u64].map(u64::to_be_bytes).concat();
        self.drawing = Some(Drawing { head: Some(head), cursor: 0, count, kept: BTreeMap::new() });
    }

    fn snapshot_next(&mut self, size_max: usize) -> Option<Bytes> {
        let drawing = self.drawing.as_mut()?;
        let mut out = drawing.head.take().unwrap_or_default();
        while out.len() < size_max.max(1) && drawing.cursor < drawing.count {
            let at = drawing.cursor;
            drawing.kept.remove(&at).as_ref().unwrap_or(&self.entries[at]).put(&mut out);
            drawing.cursor += 1;
        }
        if out.is_empty() {
            self.drawing = None;
            return None;
        }
        Some(out.into())
    }

    fn restore_begin(&mut self) {
        *self = Self { headless: true, ..Self::default() };
    }

    fn restore_chunk(&mut self, chunk: &[u8]) -> Result<(), String> {
        let mut rest = chunk;
        if self.headless {
            let (head, behind) = rest.split_at_checked(24).ok_or("the application's head is cut off")?;
            let word = |at: usize| u64::from_be_bytes(*head[at..].first_chunk().expect("it has 24 bytes"));
            (self.ran, self.height) = (word(0), word(8));
            self.headless = false;
            rest = behind;
        }
        while !rest.is_empty() {
            let (key, value) = (part(&mut rest)?, part(&mut rest)?);
            if self.places.contains_key(key) {
                return Err("a key is there twice".to_owned());
            }
            self.write(key, value);
        }
        Ok(())
    }

    fn app_hash(&mut self) -> Bytes {
        Bytes::copy_from_slice(&self.tree.root())
    }

    fn aside(&self) -> [u64; 2] {
        [self.ran, self.height]
    }

    fn size(&self) -> u64 {
        self.bytes
    }
}
