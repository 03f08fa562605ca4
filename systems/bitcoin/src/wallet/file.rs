//! A wallet as it is written down: `wallet.dat`.
//!
//! ```text
//! magic "VRTYWLLT"   version u32   body-length u64   body   SHA-256 of all before it
//! ```
//!
//! Numbers have their lowest byte first; a text or a list has its length or count in front, four bytes of it. A body is: the
//! network's magic, flags, the last block that was looked at, the lock if there is one, sources, the address book,
//! transactions with where they stand, and outputs that are left alone.
//!
//! A file is written as a whole beside the old one and takes its place then, so that a crash leaves one or the other. What a
//! block changed since is found again in the blocks from the last one on that the file knows.
//!
//! Deliberately absent: what follows from the rest (scripts, who spends what).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::bip32::Xpub;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::{BlockHash, Network, OutPoint, ScriptBuf, Transaction, Txid};
use verity_storage::Disk;

use super::record::{Place, Record};
use super::secret::Lock;
use super::source::Source;
use super::state::{Flags, Named, Wallet};

const MAGIC: &[u8; 8] = b"VRTYWLLT";
const VERSION: u32 = 2;
/// Sources name their extended keys since then.
const WITH_ROOTS: u32 = 2;
/// No descriptor has more keys.
const ROOTS_MAX: u32 = 1_000;
const HEAD_SIZE: usize = 8 + 4 + 8;
const SUM_SIZE: usize = 32;
/// No wallet is larger.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// No source is watched further ahead of what was given out.
const AHEAD_MAX: u32 = 1_000_000;

/// Why a file is no wallet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FileError {
    /// The disk failed.
    #[error("{0}")]
    Disk(String),
    /// It is something else.
    #[error("Data is not in recognized format.")]
    Unknown,
    /// It is not whole.
    #[error("Wallet corrupted")]
    Corrupt,
    /// A later version wrote it.
    #[error("Wallet requires newer version of Verity")]
    Newer,
    /// It is of another network.
    #[error("Wallet files should not be reused across chains. Restart bitcoind with -walletcrosschain to override.")]
    OtherChain,
}

impl From<verity_storage::Error> for FileError {
    fn from(error: verity_storage::Error) -> Self {
        Self::Disk(error.to_string())
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("no wallet has so many of anything"));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend(bytes);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let size = usize::try_from(self.u32()?).ok()?;
        self.take(size)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn outpoint(&mut self) -> Option<OutPoint> {
        Some(OutPoint { txid: Txid::from_byte_array(self.array()?), vout: self.u32()? })
    }

    fn hash(&mut self) -> Option<BlockHash> {
        self.array().map(BlockHash::from_byte_array)
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }
}

fn write_place(out: &mut Writer, place: Place) {
    match place {
        Place::Block { hash, height, index, time } => {
            out.u8(0);
            out.raw(&hash.to_byte_array());
            [height, index, time].into_iter().for_each(|value| out.u32(value));
        }
        // After a restart the mempool says whether it still waits.
        Place::Mempool | Place::Nowhere { abandoned: false } => out.u8(1),
        Place::Nowhere { abandoned: true } => out.u8(2),
        Place::Conflicted { hash, height } => {
            out.u8(3);
            out.raw(&hash.to_byte_array());
            out.u32(height);
        }
    }
}

fn read_place(from: &mut Reader<'_>) -> Option<Place> {
    Some(match from.u8()? {
        0 => Place::Block { hash: from.hash()?, height: from.u32()?, index: from.u32()?, time: from.u32()? },
        1 => Place::Nowhere { abandoned: false },
        2 => Place::Nowhere { abandoned: true },
        3 => Place::Conflicted { hash: from.hash()?, height: from.u32()? },
        _ => return None,
    })
}

fn write_source(out: &mut Writer, source: &Source) {
    out.bytes(source.text.as_bytes());
    let plain = source.private().filter(|_| source.sealed.is_none()).map(|private| private.private_text());
    out.u8(u8::from(plain.is_some()));
    if let Some(text) = plain {
        out.bytes(text.as_bytes());
    }
    out.u8(u8::from(source.sealed.is_some()));
    if let Some(sealed) = &source.sealed {
        out.bytes(sealed);
    }
    out.u64(source.timestamp);
    [source.begin, source.end, source.next].into_iter().for_each(|value| out.u32(value));
    out.u8(u8::from(source.active));
    out.u8(u8::from(source.internal));
    out.count(source.roots.len());
    for (xpub, private) in &source.roots {
        out.raw(&xpub.encode());
        out.u8(u8::from(*private));
    }
}

fn read_source(from: &mut Reader<'_>, network: Network, version: u32) -> Option<Source> {
    let text = from.text()?;
    let plain = from.option(|from| from.text())?;
    let sealed = from.option(|from| from.bytes().map(<[u8]>::to_vec))?;
    let mut source = Source::restore(text, plain, network).ok()?;
    source.sealed = sealed;
    source.timestamp = from.u64()?;
    (source.begin, source.end, source.next) = (from.u32()?, from.u32()?, from.u32()?);
    (source.active, source.internal) = (from.flag()?, from.flag()?);
    if version >= WITH_ROOTS {
        let count = from.u32().filter(|count| *count <= ROOTS_MAX)?;
        let one = |from: &mut Reader<'_>| Some((Xpub::decode(&from.array::<78>()?).ok()?, from.flag()?));
        source.roots = (0..count).map(|_| one(from)).collect::<Option<_>>()?;
    }
    let far = source.end.saturating_sub(source.next.max(source.begin)) > AHEAD_MAX;
    (!far && source.end <= i32::MAX.cast_unsigned()).then_some(source)
}

fn write_record(out: &mut Writer, record: &Record) {
    out.bytes(&serialize(record.tx.as_ref()));
    write_place(out, record.place);
    [record.received, record.time, record.order].into_iter().for_each(|value| out.u64(value));
    out.count(record.notes.len());
    for (name, value) in &record.notes {
        out.bytes(name.as_bytes());
        out.bytes(value.as_bytes());
    }
}

fn read_record(from: &mut Reader<'_>) -> Option<Record> {
    let tx: Transaction = deserialize(from.bytes()?).ok()?;
    let place = read_place(from)?;
    let (received, time, order) = (from.u64()?, from.u64()?, from.u64()?);
    let mut notes = BTreeMap::new();
    for _ in 0..from.u32()? {
        notes.insert(from.text()?.to_owned(), from.text()?.to_owned());
    }
    Some(Record { tx: Arc::new(tx), place, received, time, order, notes, conflicts: BTreeSet::new() })
}

/// The bytes of a wallet.
pub(crate) fn encode(wallet: &Wallet, magic: [u8; 4]) -> Vec<u8> {
    let mut out = Writer::default();
    out.raw(&magic);
    let flags = wallet.flags;
    [flags.watch_only, flags.blank, flags.avoid_reuse].into_iter().for_each(|flag| out.u8(u8::from(flag)));
    out.raw(&wallet.best.0.to_byte_array());
    out.u32(wallet.best.1);
    out.u64(wallet.order_next);
    out.u8(u8::from(wallet.lock.is_some()));
    if let Some(lock) = &wallet.lock {
        out.raw(&lock.salt);
        out.u32(lock.rounds);
        out.bytes(&lock.master);
    }
    out.count(wallet.sources.len());
    wallet.sources.iter().for_each(|source| write_source(&mut out, source));
    out.count(wallet.book.len());
    for (script, named) in &wallet.book {
        out.bytes(script.as_bytes());
        out.bytes(named.label.as_bytes());
        out.u8(u8::from(named.receive));
    }
    out.count(wallet.records.len());
    wallet.records.values().for_each(|record| write_record(&mut out, record));
    let kept: Vec<&OutPoint> = wallet.locked.iter().filter(|(_, kept)| **kept).map(|(outpoint, _)| outpoint).collect();
    out.count(kept.len());
    for outpoint in kept {
        out.raw(&outpoint.txid.to_byte_array());
        out.u32(outpoint.vout);
    }
    let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &(out.0.len() as u64).to_le_bytes(), &out.0].concat();
    let sum = sha256::Hash::hash(&bytes).to_byte_array();
    bytes.extend(sum);
    bytes
}

fn decode_body(body: &[u8], version: u32, name: &str, network: Network, ahead: u32) -> Option<Wallet> {
    let mut from = Reader(body);
    let flags = Flags { watch_only: from.flag()?, blank: from.flag()?, avoid_reuse: from.flag()? };
    let best = (from.hash()?, from.u32()?);
    let mut wallet = Wallet::new(name, network, flags, best, ahead);
    wallet.order_next = from.u64()?;
    wallet.lock =
        from.option(|from| Some(Lock { salt: from.array()?, rounds: from.u32()?, master: from.bytes()?.to_vec() }))?;
    for _ in 0..from.u32()? {
        wallet.sources.push(read_source(&mut from, network, version)?);
    }
    for _ in 0..from.u32()? {
        let script = ScriptBuf::from_bytes(from.bytes()?.to_vec());
        let label = from.text()?.to_owned();
        wallet.book.insert(script, Named { label, receive: from.flag()? });
    }
    for _ in 0..from.u32()? {
        let record = read_record(&mut from)?;
        wallet.records.insert(record.tx.compute_txid(), record);
    }
    for _ in 0..from.u32()? {
        wallet.locked.insert(from.outpoint()?, true);
    }
    let whole = from.0.is_empty() && wallet.records.values().all(|record| record.order < wallet.order_next);
    wallet.dirty = false;
    whole.then_some(wallet)
}

/// The wallet of these bytes, with all that follows from them.
pub(crate) fn decode(
    bytes: &[u8],
    name: &str,
    network: Network,
    magic: [u8; 4],
    ahead: u32,
) -> Result<Wallet, FileError> {
    let mut wallet = parse(bytes, name, network, magic, ahead)?;
    wallet.derive_all();
    wallet.rebuild();
    Ok(wallet)
}

/// The wallet of these bytes, and no more than they say.
pub(crate) fn parse(
    bytes: &[u8],
    name: &str,
    network: Network,
    magic: [u8; 4],
    ahead: u32,
) -> Result<Wallet, FileError> {
    if !bytes.starts_with(&MAGIC[..]) {
        return Err(FileError::Unknown);
    }
    let (rest, sum) = bytes.split_at_checked(bytes.len().saturating_sub(SUM_SIZE)).ok_or(FileError::Corrupt)?;
    if sha256::Hash::hash(rest).to_byte_array() != sum || rest.len() < HEAD_SIZE {
        return Err(FileError::Corrupt);
    }
    let mut head = Reader(&rest[8..]);
    let (version, length) = head.u32().zip(head.u64()).ok_or(FileError::Corrupt)?;
    if version > VERSION {
        return Err(FileError::Newer);
    }
    if version == 0 || length != head.0.len() as u64 {
        return Err(FileError::Corrupt);
    }
    if head.array() != Some(magic) {
        return Err(FileError::OtherChain);
    }
    decode_body(head.0, version, name, network, ahead).ok_or(FileError::Corrupt)
}

/// Writes a file of a folder as a whole.
pub(crate) fn write(disk: &dyn Disk, folder: &str, path: &str, bytes: &[u8]) -> Result<(), FileError> {
    let name = path.rsplit('/').next().unwrap_or(path);
    Ok(verity_storage::replace(disk, folder, name, bytes)?)
}

/// A file's bytes.
pub(crate) fn read(disk: &dyn Disk, path: &str) -> Result<Vec<u8>, FileError> {
    match verity_storage::read_all(disk.open(path)?.as_ref(), FILE_BYTES_MAX) {
        Err(verity_storage::Error::TooLarge { .. }) => Err(FileError::Corrupt),
        read => Ok(read?),
    }
}
