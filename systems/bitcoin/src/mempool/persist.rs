//! The file that keeps what waits over a restart, in the network's own form.
//!
//! Eight bytes of version, the lowest first. Version 1 goes on in the clear. Version 2 goes on with a key, eight bytes behind
//! their count, and each byte behind it is changed by the key's byte at the byte's place in the file, so that nothing that
//! looks for patterns on a disk finds one. Then:
//! - how many transactions, in eight bytes; each with its witnesses, when it came, and an operator's word about its fee;
//! - the operator's words about others, by txid;
//! - those that no peer asked for yet.
//!
//! Deliberately absent: trust. What is read comes in like anything from a peer.

use std::sync::Arc;

use bitcoin::consensus::encode::VarInt;
use bitcoin::consensus::{Decodable, Encodable};
use bitcoin::io::{self, Read, Write};
use bitcoin::{Transaction, Txid};
use verity_storage::{Disk, DiskFile};

use super::accept::{Request, answer};
use super::view::View;
use super::{Mempool, MempoolEvent};
use crate::chain::ChainError;

const VERSION_CLEAR: u64 = 1;
const VERSION: u64 = 2;
const KEY_BYTES: usize = 8;
/// Bytes that are read or written at once.
const PIECE: usize = 1 << 20;

/// How a file is read.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// All of it comes now, and not when it did.
    pub use_current_time: bool,
    /// The operator's words about fees count.
    pub apply_deltas: bool,
    /// Those that no peer asked for are offered again.
    pub apply_unbroadcast: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { use_current_time: false, apply_deltas: true, apply_unbroadcast: true }
    }
}

/// What became of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Came in.
    pub accepted: u64,
    /// Were refused.
    pub failed: u64,
    /// Waited too long.
    pub expired: u64,
    /// Were here.
    pub already_there: u64,
    /// Are offered again.
    pub unbroadcast: u64,
}

/// A file behind a key.
struct Masked<'a> {
    file: &'a dyn DiskFile,
    key: [u8; KEY_BYTES],
    /// Where `buffer` begins in the file.
    at: u64,
    buffer: Vec<u8>,
    taken: usize,
}

fn disk_error(error: verity_storage::Error) -> io::Error {
    io::Error::new(io::ErrorKind::Other, error)
}

impl<'a> Masked<'a> {
    fn new(file: &'a dyn DiskFile) -> Self {
        Self { file, key: [0; KEY_BYTES], at: 0, buffer: Vec::new(), taken: 0 }
    }

    fn mask(&self, position: u64, byte: u8) -> u8 {
        byte ^ self.key[(position % KEY_BYTES as u64) as usize]
    }

    fn flush_piece(&mut self) -> Result<(), io::Error> {
        self.file.write_at(self.at, &self.buffer).map_err(disk_error)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Read for Masked<'_> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, io::Error> {
        if self.taken == self.buffer.len() {
            self.at += self.buffer.len() as u64;
            self.buffer.resize(PIECE, 0);
            let read = self.file.read_at(self.at, &mut self.buffer).map_err(disk_error)?;
            self.buffer.truncate(read);
            self.taken = 0;
        }
        let count = out.len().min(self.buffer.len() - self.taken);
        for (place, out) in (self.taken..).zip(&mut out[..count]) {
            *out = self.mask(self.at + place as u64, self.buffer[place]);
        }
        self.taken += count;
        Ok(count)
    }
}

impl Write for Masked<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, io::Error> {
        for byte in bytes {
            let masked = self.mask(self.at + self.buffer.len() as u64, *byte);
            self.buffer.push(masked);
        }
        if self.buffer.len() >= PIECE {
            self.flush_piece()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), io::Error> {
        self.flush_piece()
    }
}

/// One transaction of the file.
struct Record {
    tx: Transaction,
    time: i64,
    delta: i64,
}

fn read<T: Decodable>(file: &mut Masked<'_>) -> Option<T> {
    T::consensus_decode(file).ok()
}

/// Reads as many as the file says, one by one. `None` where it breaks off.
fn counted<T>(file: &mut Masked<'_>, mut each: impl FnMut(&mut Masked<'_>) -> Option<T>) -> Option<Vec<T>> {
    let count = read::<VarInt>(file)?.0;
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(each(file)?);
    }
    Some(all)
}

impl Mempool {
    /// Writes all that waits to a file of the folder, as a whole; `key` is eight bytes that nobody can guess.
    ///
    /// # Errors
    /// The disk's.
    pub fn dump(&self, disk: &dyn Disk, path: &str, key: [u8; 8]) -> Result<(), ChainError> {
        let new = format!("{path}.new");
        let file = disk.create(&new)?;
        let mut masked = Masked::new(&*file);
        self.write(&mut masked, key).map_err(|error| ChainError::Corrupt(format!("{new}: {error}")))?;
        file.sync_data()?;
        disk.rename(&new, path)?;
        let (folder, _) = path.rsplit_once('/').unwrap_or(("", path));
        Ok(disk.sync_dir(folder)?)
    }

    fn write(&self, file: &mut Masked<'_>, key: [u8; KEY_BYTES]) -> Result<(), io::Error> {
        let version = if self.options.persist_v1 { VERSION_CLEAR } else { VERSION };
        version.consensus_encode(file)?;
        if version == VERSION {
            VarInt(KEY_BYTES as u64).consensus_encode(file)?;
            key.consensus_encode(file)?;
            file.key = key;
        }
        (self.entries.len() as u64).consensus_encode(file)?;
        for (_, entry) in self.best_first() {
            entry.tx.consensus_encode(file)?;
            (entry.time as i64).consensus_encode(file)?;
            entry.fee_delta.consensus_encode(file)?;
        }
        let others: Vec<_> = self.deltas.iter().filter(|(txid, _)| !self.entries.contains_key(*txid)).collect();
        VarInt(others.len() as u64).consensus_encode(file)?;
        for (txid, delta) in others {
            txid.consensus_encode(file)?;
            delta.consensus_encode(file)?;
        }
        VarInt(self.unbroadcast.len() as u64).consensus_encode(file)?;
        for txid in &self.unbroadcast {
            txid.consensus_encode(file)?;
        }
        file.flush()
    }

    /// Takes in what a file has. `None` if there is no file, or it breaks off or is of another form; what came before that
    /// stays.
    ///
    /// # Errors
    /// The disk's, where the chain's coins are.
    pub fn load<C: View + ?Sized>(
        &mut self,
        chain: &C,
        (disk, path): (&dyn Disk, &str),
        now: u64,
        options: LoadOptions,
        events: &mut Vec<MempoolEvent>,
    ) -> Result<Option<Loaded>, ChainError> {
        self.loaded = true;
        let Ok(file) = disk.open(path) else { return Ok(None) };
        let mut masked = Masked::new(&*file);
        let Some(count) = begin(&mut masked) else { return Ok(None) };
        let mut loaded = Loaded::default();
        for _ in 0..count {
            let (tx, time, delta) = (read(&mut masked), read(&mut masked), read(&mut masked));
            let (Some(tx), Some(time), Some(delta)) = (tx, time, delta) else { return Ok(None) };
            self.load_one(chain, Record { tx, time, delta }, now, options, (&mut loaded, events))?;
        }
        let deltas = counted(&mut masked, |file| Some((read::<Txid>(file)?, read::<i64>(file)?)));
        let Some(deltas) = deltas else { return Ok(None) };
        if options.apply_deltas {
            deltas.into_iter().for_each(|(txid, delta)| self.prioritise(txid, delta));
        }
        let Some(unbroadcast) = counted(&mut masked, read::<Txid>) else { return Ok(None) };
        if options.apply_unbroadcast {
            loaded.unbroadcast = unbroadcast.len() as u64;
            unbroadcast.into_iter().for_each(|txid| self.add_unbroadcast(txid));
        }
        Ok(Some(loaded))
    }

    fn load_one<C: View + ?Sized>(
        &mut self,
        chain: &C,
        record: Record,
        now: u64,
        options: LoadOptions,
        (loaded, events): (&mut Loaded, &mut Vec<MempoolEvent>),
    ) -> Result<(), ChainError> {
        let txid = record.tx.compute_txid();
        if record.delta != 0 && options.apply_deltas {
            self.prioritise(txid, record.delta);
        }
        let time = if options.use_current_time { now } else { u64::try_from(record.time).unwrap_or(0) };
        if time.saturating_add(self.options.expiry) <= now {
            loaded.expired += 1;
            return Ok(());
        }
        let request = Request { time, ..Request::single(now) };
        let accepted = answer(self.accept_one(chain, &Arc::new(record.tx), &request, events))?.is_ok();
        let counter = match accepted {
            true => &mut loaded.accepted,
            false if self.entries.contains_key(&txid) => &mut loaded.already_there,
            false => &mut loaded.failed,
        };
        *counter += 1;
        Ok(())
    }
}

/// Reads up to the count of transactions.
fn begin(file: &mut Masked<'_>) -> Option<u64> {
    match read::<u64>(file)? {
        VERSION_CLEAR => {}
        VERSION => {
            if read::<VarInt>(file)?.0 != KEY_BYTES as u64 {
                return None;
            }
            file.key = read(file)?;
        }
        _ => return None,
    }
    read(file)
}
