//! The write-ahead log: one per node, shared by all of its groups.
//!
//! - upon [`Wal::append`]: the records of many groups join the round that is being gathered; a large one is written at once;
//! - upon [`Wal::sync`]: what is left of the round is written, and all synced, by one `fdatasync`; only now may it be
//!   acknowledged;
//! - upon [`Wal::trim`] and [`Wal::retire`]: what a group needs no longer is marked; the mark joins the round;
//! - upon a full file: it is synced, and the next one begins, a spare one if there is one, so that in the usual case a
//!   write changes no metadata;
//! - upon the oldest file's last live record's end: the file becomes a spare, or goes. What is left in a nearly dead
//!   oldest file, or in any oldest file once the log is longer than it should be, moves to the newest first;
//! - upon a failed write or sync: the log is poisoned. Every later call answers [`Error::Poisoned`];
//! - upon [`Wal::open`]: what was synced comes back; a torn tail is dropped, damage is refused (`wal/recovery.rs`).
//!
//! HAZARD: retrying a failed sync would acknowledge pages that the kernel has dropped. There is no retry.
//!
//! Deliberately absent: threads, and any knowledge of what a payload means.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use verity_contract::Record;
use verity_types::{GroupId, LogIndex, NodeId};

use crate::Error;
use crate::disk::{Disk, DiskFile, join, write_zeros};
use crate::identity::{ClusterId, Identity};

mod format;
mod index;
mod recovery;
#[cfg(test)]
mod tests;

pub use format::PAYLOAD_MAX;
use format::{DATA_START, FILE_MAX, FileHeader, Kind, RECORD_HEADER, RecordHeader, Seed, record_size};
use index::{Index, Place};
pub use recovery::{Recovered, RecoveredGroup, TornTail};

/// The gathered round is written out when it grows beyond this; it still is synced as one.
const BUFFER_MAX: usize = 1 << 20;
/// A buffer that grew beyond this for a large round is given back.
const BUFFER_KEPT: usize = 2 * BUFFER_MAX;
/// A file's live records move when they fill less than one in this many of its bytes.
const SPARSE: u64 = 4;
/// Sparse files are left alone until there are this many, so that little records do not move often.
const SPARSE_FILES_MIN: usize = 4;

/// How the log uses its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalConfig {
    /// The folder of the log's files.
    pub dir: String,
    /// Length of a file in bytes; a record that is longer gets a file of its own length.
    pub file_size: u64,
    /// A file is filled with zeros this far ahead of its records.
    pub preallocate: u64,
    /// Beyond this length of all files together, live records of the oldest file move, however many they are. A log whose
    /// live records alone are longer grows all the same: only a trim shortens those.
    pub size_target: u64,
    /// A payload's body of at least so many bytes is written from where it lies, without waiting for its round's end.
    pub direct_min: usize,
    /// Dead files kept for reuse.
    pub spares_max: usize,
    /// Drawn at random at each start. Makes what clients write unable to pass for records.
    pub salt: u64,
}

impl WalConfig {
    /// The defaults, with a salt drawn by the caller.
    #[must_use]
    pub fn with_salt(salt: u64) -> Self {
        Self {
            dir: "wal".to_owned(),
            file_size: 32 << 20,
            preallocate: 1 << 20,
            size_target: 256 << 20,
            direct_min: 64 << 10,
            spares_max: 2,
            salt,
        }
    }
}

/// What the log did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Records appended.
    pub records: u64,
    /// Rounds synced.
    pub rounds: u64,
    /// Bytes of records written, moved ones included.
    pub bytes: u64,
    /// Records that moved to a newer file.
    pub moved: u64,
    /// Files that became spare or went.
    pub files_released: u64,
}

/// A file that is no longer written to.
#[derive(Clone, Copy, Debug)]
struct Sealed {
    seq: u64,
    seed: Seed,
    /// Where its records end.
    end: u64,
    /// Its length.
    size: u64,
}

/// The file that is being written.
#[derive(Debug)]
struct Current {
    seq: u64,
    seed: Seed,
    file: Box<dyn DiskFile>,
    /// The file takes records up to here.
    capacity: u64,
    /// The file's length: overwriting within it changes no metadata.
    allocated: u64,
    /// Records up to here are written.
    written: u64,
    /// Records behind `written`.
    buffer: Vec<u8>,
}

impl Current {
    fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }
}

/// The write-ahead log of one node.
#[derive(Debug)]
pub struct Wal {
    disk: Arc<dyn Disk>,
    config: WalConfig,
    cluster: ClusterId,
    node: NodeId,
    current: Current,
    sealed: VecDeque<Sealed>,
    /// Numbers of the spare files.
    spares: Vec<u64>,
    index: Index,
    order_next: u64,
    round: u64,
    round_start: u64,
    /// True if the round holds anything that is not yet synced.
    dirty: bool,
    poison: Option<String>,
    stats: WalStats,
}

impl Wal {
    /// Opens the log, or begins one, and answers what it holds. Everything recovered is on stable storage.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if bytes that were synced are not what was written; [`Error::Incompatible`] if they are of
    /// another cluster, node, or a newer format; the device's.
    ///
    /// # Panics
    /// If the configured sizes make no sense: a file shorter than 4 KiB or longer than 1 GiB.
    pub fn open(disk: Arc<dyn Disk>, config: WalConfig, identity: &Identity) -> Result<(Self, Recovered), Error> {
        assert!((4 << 10..=FILE_MAX).contains(&config.file_size), "a log file has 4 KiB to 1 GiB");
        recovery::open(disk, config, identity.cluster, identity.node)
    }

    /// Adds records to the round. They are on stable storage after the next [`Wal::sync`], not before.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a payload beyond [`PAYLOAD_MAX`], before anything is taken; the device's, which poison
    /// the log.
    pub fn append(&mut self, round: &[(GroupId, Vec<Record>)]) -> Result<(), Error> {
        self.check_poison()?;
        for (_, records) in round {
            if let Some(record) = records.iter().find(|record| record.payload.len() > PAYLOAD_MAX) {
                let (size, max) = (record.payload.len() as u64, PAYLOAD_MAX as u64);
                return Err(Error::TooLarge { what: "log record", size, max });
            }
        }
        let file = self.current.seq;
        let result = round.iter().try_for_each(|(group, records)| {
            records.iter().try_for_each(|record| {
                self.stats.records += 1;
                self.push(record.kind.into(), *group, record.index, None, record.payload.slices())
            })
        });
        let result = result.and_then(|()| if self.current.seq == file { Ok(()) } else { self.move_live() });
        self.poison_on_error(result)
    }

    /// Brings the round to stable storage.
    ///
    /// # Errors
    /// The device's, which poison the log.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.check_poison()?;
        let result = self.sync_round().and_then(|()| self.release_dead());
        self.poison_on_error(result)
    }

    /// [`Wal::append`], then [`Wal::sync`].
    ///
    /// # Errors
    /// As both.
    pub fn append_and_sync(&mut self, round: &[(GroupId, Vec<Record>)]) -> Result<(), Error> {
        self.append(round)?;
        self.sync()
    }

    /// The group needs its entries up to and with `upto` no longer. Durable with the round.
    ///
    /// # Errors
    /// The device's, which poison the log.
    pub fn trim(&mut self, group: GroupId, upto: LogIndex) -> Result<(), Error> {
        self.check_poison()?;
        if upto <= self.trimmed(group) {
            return Ok(());
        }
        let result = self.push(Kind::Trim, group, upto, None, [&[], &[]]);
        self.poison_on_error(result)
    }

    /// The group ended: nothing of it is needed. Durable with the round. The id may be used again.
    ///
    /// # Errors
    /// The device's, which poison the log.
    pub fn retire(&mut self, group: GroupId) -> Result<(), Error> {
        self.check_poison()?;
        if !self.index.groups.contains_key(&group) {
            return Ok(());
        }
        let result = self.push(Kind::Retire, group, LogIndex(0), None, [&[], &[]]);
        self.poison_on_error(result)
    }

    /// Makes a spare file if there is none, so that the next full file costs no more than a rename. For idle moments.
    ///
    /// # Errors
    /// The device's. The log goes on without a spare.
    pub fn prepare_spare(&mut self) -> Result<(), Error> {
        self.check_poison()?;
        if self.config.spares_max == 0 || !self.spares.is_empty() {
            return Ok(());
        }
        let path = spare_path(&self.config.dir, 0);
        let file = self.disk.create(&path)?;
        write_zeros(&*file, 0, self.config.file_size)?;
        file.sync_data()?;
        self.disk.sync_dir(&self.config.dir)?;
        self.spares.push(0);
        Ok(())
    }

    /// The entry at `index`, written or not yet; `None` if the group has none there.
    ///
    /// # Errors
    /// [`Error::Corrupt`], or the device's.
    pub fn entry(&self, group: GroupId, index: LogIndex) -> Result<Option<Bytes>, Error> {
        self.check_poison()?;
        let place = self.index.groups.get(&group).and_then(|group| group.entries.get(&index)).copied();
        let Some(place) = place else { return Ok(None) };
        let current = &self.current;
        if place.seq == current.seq && u64::from(place.offset) >= current.written {
            let start = usize::try_from(u64::from(place.offset) - current.written).expect("within the buffer");
            return self.payload(place, current.seed, &current.buffer[start..start + place.size as usize]).map(Some);
        }
        let mut bytes = vec![0; place.size as usize];
        let seed = if place.seq == current.seq {
            current.file.read_at(u64::from(place.offset), &mut bytes)?;
            current.seed
        } else {
            let sealed =
                self.sealed.iter().find(|sealed| sealed.seq == place.seq).expect("live records lie in known files");
            self.disk.open(&self.path(place.seq))?.read_at(u64::from(place.offset), &mut bytes)?;
            sealed.seed
        };
        self.payload(place, seed, &bytes).map(Some)
    }

    /// The index up to which the group was trimmed.
    #[must_use]
    pub fn trimmed(&self, group: GroupId) -> LogIndex {
        self.index.groups.get(&group).map_or(LogIndex(0), index::Group::trimmed)
    }

    /// Length of all files together, spares not included.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.sealed.iter().map(|sealed| sealed.size).sum::<u64>() + self.current.allocated
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        self.stats
    }

    /// Asserts what must always hold.
    pub fn invariants(&self) {
        self.index.invariants();
        assert!(self.current.end() <= self.current.capacity, "records end within their file");
        assert!(self.current.end().is_multiple_of(format::ALIGN as u64), "a record's padding is part of it");
        assert!(self.round_start <= self.current.end(), "the round begins before its end");
        let seqs = self.sealed.iter().map(|sealed| sealed.seq).chain([self.current.seq]);
        assert!(seqs.clone().zip(seqs.skip(1)).all(|(one, two)| one + 1 == two), "files follow each other");
        assert!(self.spares.len() <= self.config.spares_max, "spares are bounded");
    }

    fn check_poison(&self) -> Result<(), Error> {
        self.poison.as_ref().map_or(Ok(()), |cause| Err(Error::Poisoned { cause: cause.clone() }))
    }

    fn poison_on_error(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = &result {
            self.poison = Some(error.to_string());
        }
        result
    }

    fn path(&self, seq: u64) -> String {
        file_path(&self.config.dir, seq)
    }

    fn payload(&self, place: Place, seed: Seed, bytes: &[u8]) -> Result<Bytes, Error> {
        match format::decode(bytes, seed) {
            Some((header, payload)) if header.order == place.order => Ok(Bytes::copy_from_slice(payload)),
            _ => Err(Error::corrupt(&self.path(place.seq), u64::from(place.offset), "a synced record does not check")),
        }
    }

    /// Adds one record to the round; `order` is given for one that moves. A large payload is written at once, from where it lies.
    fn push(
        &mut self,
        kind: Kind,
        group: GroupId,
        index: LogIndex,
        order: Option<u64>,
        payload: [&[u8]; 2],
    ) -> Result<(), Error> {
        let payload_len = payload.iter().map(|piece| piece.len()).sum();
        let size = record_size(payload_len) as u64;
        if self.current.end() + size > self.current.capacity {
            self.rotate(size)?;
        } else if self.current.buffer.len() >= BUFFER_MAX {
            self.flush()?;
        }
        let order = order.unwrap_or_else(|| {
            self.order_next += 1;
            self.order_next - 1
        });
        let offset = u32::try_from(self.current.end()).expect("files have 32-bit offsets");
        let header = RecordHeader {
            kind,
            group,
            index,
            order,
            round: self.round,
            round_start: u32::try_from(self.round_start).expect("files have 32-bit offsets"),
            payload_len: u32::try_from(payload_len).expect("payloads are bounded"),
        };
        let [head, body] = payload;
        format::encode_head(&mut self.current.buffer, self.current.seed, &header, payload);
        self.current.buffer.extend_from_slice(head);
        if body.len() < self.config.direct_min {
            self.current.buffer.extend_from_slice(body);
        } else {
            self.flush()?;
            self.write(body)?;
        }
        format::pad(&mut self.current.buffer, payload_len);
        let size = u32::try_from(size).expect("payloads are bounded");
        self.index.apply(&header, Place { seq: self.current.seq, offset, size, order });
        self.stats.bytes += u64::from(size);
        self.dirty = true;
        Ok(())
    }

    /// Writes the buffer.
    fn flush(&mut self) -> Result<(), Error> {
        if self.current.buffer.is_empty() {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.current.buffer);
        let result = self.write(&buffer);
        buffer.clear();
        if buffer.capacity() <= BUFFER_KEPT {
            self.current.buffer = buffer;
        }
        result
    }

    /// Writes these bytes behind what is written; the file grows by whole steps of zeros.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let current = &mut self.current;
        let end = current.end() + bytes.len() as u64;
        current.file.write_at(current.written, bytes)?;
        if end > current.allocated {
            let target = (end + self.config.preallocate).min(current.capacity).max(end);
            write_zeros(&*current.file, end, target)?;
            current.allocated = target;
        }
        current.written = end;
        Ok(())
    }

    fn sync_round(&mut self) -> Result<(), Error> {
        if !self.dirty {
            return Ok(());
        }
        self.flush()?;
        self.current.file.sync_data()?;
        self.dirty = false;
        self.round += 1;
        self.round_start = self.current.end();
        self.stats.rounds += 1;
        Ok(())
    }

    /// Seals the current file and begins the next, with room for a record of `size` bytes.
    fn rotate(&mut self, size: u64) -> Result<(), Error> {
        self.flush()?;
        self.current.file.sync_data()?;
        let end = self.current.end();
        let capacity = self.config.file_size.max(DATA_START as u64 + size);
        let next = self.begin_file(self.current.seq + 1, capacity, end)?;
        let before = std::mem::replace(&mut self.current, next);
        self.sealed.push_back(Sealed { seq: before.seq, seed: before.seed, end, size: before.allocated });
        self.round_start = DATA_START as u64;
        Ok(())
    }

    fn begin_file(&mut self, seq: u64, capacity: u64, previous_end: u64) -> Result<Current, Error> {
        let spare = if capacity == self.config.file_size { self.spares.pop() } else { None };
        let header =
            FileHeader { cluster: self.cluster, node: self.node, seq, salt: salt(self.config.salt, seq), previous_end };
        begin_file(&*self.disk, &self.config, &header, spare, capacity)
    }

    /// Moves live records away from oldest files that are nearly dead, or stand in the way of the size target.
    fn move_live(&mut self) -> Result<(), Error> {
        let mut moved = 0;
        let mut dead = self.sealed.iter().take_while(|sealed| self.index.live(sealed.seq) == 0).count();
        let mut size = self.size() - self.sealed.iter().take(dead).map(|sealed| sealed.size).sum::<u64>();
        while let Some(oldest) = self.sealed.get(dead).copied() {
            let live = self.index.live(oldest.seq);
            let sparse = live < oldest.size / SPARSE && self.sealed.len() - dead >= SPARSE_FILES_MIN;
            let enough = moved > 0 && moved + live > self.config.file_size;
            if enough || !(sparse || size > self.config.size_target) {
                break;
            }
            moved += live;
            size -= oldest.size;
            dead += 1;
            self.move_file(oldest)?;
        }
        Ok(())
    }

    fn move_file(&mut self, sealed: Sealed) -> Result<(), Error> {
        let path = self.path(sealed.seq);
        let file = self.disk.open(&path)?;
        let mut bytes = vec![0; usize::try_from(sealed.end).expect("files have 32-bit offsets")];
        file.read_at(0, &mut bytes)?;
        let mut at = DATA_START;
        while at < bytes.len() {
            let (header, payload) = format::decode(&bytes[at..], sealed.seed)
                .ok_or_else(|| Error::corrupt(&path, at as u64, "a synced record does not check"))?;
            if self.index.is_live(&header, sealed.seq, u32::try_from(at).expect("files have 32-bit offsets")) {
                self.push(header.kind, header.group, header.index, Some(header.order), [&[], payload])?;
                self.stats.moved += 1;
            }
            at += header.size();
        }
        assert_eq!(self.index.live(sealed.seq), 0, "what was live has moved");
        Ok(())
    }

    /// Lets go of the oldest files without live records. What made them so is synced.
    fn release_dead(&mut self) -> Result<(), Error> {
        assert!(!self.dirty, "a file goes only after the marks that let it go are synced");
        while let Some(oldest) = self.sealed.front().copied().filter(|oldest| self.index.live(oldest.seq) == 0) {
            let path = self.path(oldest.seq);
            let free = (0..).find(|number| !self.spares.contains(number)).expect("spares are few");
            if oldest.size == self.config.file_size && self.spares.len() < self.config.spares_max {
                self.disk.rename(&path, &spare_path(&self.config.dir, free))?;
                self.disk.sync_dir(&self.config.dir)?;
                self.spares.push(free);
            } else {
                self.disk.remove(&path)?;
                self.disk.sync_dir(&self.config.dir)?;
            }
            self.sealed.pop_front();
            self.stats.files_released += 1;
        }
        Ok(())
    }
}

/// Makes a file with a durable header under its name. `spare` is one to reuse.
fn begin_file(
    disk: &dyn Disk,
    config: &WalConfig,
    header: &FileHeader,
    spare: Option<u64>,
    capacity: u64,
) -> Result<Current, Error> {
    let temporary = spare_path(&config.dir, spare.unwrap_or(SPARE_NEW));
    let file = if spare.is_some() { disk.open(&temporary)? } else { disk.create(&temporary)? };
    let mut allocated = file.size()?;
    file.write_at(0, &header.encode())?;
    let target = capacity.min(DATA_START as u64 + config.preallocate);
    if allocated < target {
        write_zeros(&*file, allocated.max(DATA_START as u64), target)?;
        allocated = target;
    }
    file.sync_data()?;
    disk.rename(&temporary, &file_path(&config.dir, header.seq))?;
    disk.sync_dir(&config.dir)?;
    let file = disk.open(&file_path(&config.dir, header.seq))?;
    let seed = Seed::of_salt(header.salt);
    let start = DATA_START as u64;
    Ok(Current { seq: header.seq, seed, file, capacity, allocated, written: start, buffer: Vec::new() })
}

/// The spare that becomes a log file at once.
const SPARE_NEW: u64 = u64::MAX;

fn file_path(dir: &str, seq: u64) -> String {
    join(dir, &format!("{seq:016x}.wal"))
}

fn spare_path(dir: &str, number: u64) -> String {
    join(dir, &format!("{number:016x}.spare"))
}

/// A file's own salt: the start's, mixed with the file's number.
fn salt(base: u64, seq: u64) -> u64 {
    (base ^ seq.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seq)
}

const _: () = assert!(DATA_START.is_multiple_of(format::ALIGN) && RECORD_HEADER.is_multiple_of(format::ALIGN));
