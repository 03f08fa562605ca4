//! What is left after a crash.
//!
//! - upon a record that does not check in a file with a successor: the successor's header names where the records end; if
//!   they end before, the file is damaged;
//! - upon one that does not check in the newest file: search behind it for a sound record header whose round began behind
//!   it. If there is one, a whole later round was synced after the bad record was, so the record is damaged: refuse.
//!   Otherwise it belongs to the last round, which was never acknowledged: a torn tail, and what is left of the
//!   round behind it is wiped, so that it cannot come back to life;
//! - upon the end: the last round is written once more and synced, and the next round has a number that no record bears.
//!
//! HAZARD: damage inside of the last round cannot be told from a torn tail by what this disk holds. One who needs to
//! know asks a peer.
//!
//! The last round is rewritten since the process may have ended because its sync failed: its pages can then be in the
//! cache, clean, and on no disk, and a sync alone would call them safe.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use verity_contract::Record;
use verity_types::{GroupId, LogIndex, NodeId};

use crate::Error;
use crate::disk::{Disk, join, read_all, write_zeros};
use crate::identity::ClusterId;
use crate::wal::format::{self, ALIGN, DATA_START, FILE_MAX, FileHeader, RECORD_HEADER, RecordHeader, Seed};
use crate::wal::index::{Index, Place};
use crate::wal::{Current, SPARE_NEW, Sealed, Wal, WalConfig, WalStats, begin_file, file_path, salt};

/// Rounds and records are counted below this, so that no addition to a count overflows.
pub(super) const COUNT_MAX: u64 = 1 << 62;

/// What the log held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// By group.
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// Where an unfinished round was dropped, if one was.
    pub torn: Option<TornTail>,
}

/// What the log held of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// The latest state record, and the entries and truncations behind `trimmed` that still hold, in the order in
    /// which they were written.
    pub records: Vec<Record>,
    /// The index up to which the group was trimmed.
    pub trimmed: LogIndex,
}

/// The end of a round that never was acknowledged, where a sound header of it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The file.
    pub path: String,
    /// Where its sound records end.
    pub offset: u64,
}

/// A file as it was read.
struct Scanned {
    seq: u64,
    seed: Seed,
    end: u64,
    size: u64,
    last_round: u64,
    last_round_start: u64,
}

pub(super) fn open(
    disk: Arc<dyn Disk>,
    config: WalConfig,
    cluster: ClusterId,
    node: NodeId,
) -> Result<(Wal, Recovered), Error> {
    disk.create_dir(&config.dir)?;
    let (seqs, spares) = list(&*disk, &config)?;
    let mut scan = Scan { disk: &*disk, config: &config, cluster, node, index: Index::default(), order_max: 0 };
    let mut files: Vec<Scanned> = Vec::new();
    for seq in seqs {
        let scanned = scan.file(seq, files.last())?;
        files.push(scanned);
    }
    let (index, order_max) = (scan.index, scan.order_max);
    let round_max = files.iter().map(|file| file.last_round).max().unwrap_or(0);
    let (current, torn, torn_round) = match files.pop() {
        Some(newest) => {
            let (torn, torn_round) = end_log(&*disk, &config, &newest)?;
            (reopen(&*disk, &config, &newest)?, torn, torn_round)
        }
        None => {
            let header = FileHeader { cluster, node, seq: 1, salt: salt(config.salt, 1), previous_end: 0 };
            (begin_file(&*disk, &config, &header, None, config.file_size)?, None, 0)
        }
    };
    let sealed: VecDeque<Sealed> =
        files.iter().map(|file| Sealed { seq: file.seq, seed: file.seed, end: file.end, size: file.size }).collect();
    let groups = read_live(&*disk, &config, &index, &sealed, &current)?;
    let round_start = current.written;
    let wal = Wal {
        disk,
        config,
        cluster,
        node,
        current,
        sealed,
        spares,
        index,
        order_next: order_max + 1,
        round: round_max.max(torn_round) + 1,
        round_start,
        dirty: false,
        poison: None,
        stats: WalStats::default(),
    };
    wal.invariants();
    Ok((wal, Recovered { groups, torn }))
}

/// The numbers of the log's files, in order, and of its spares. A half-made file is removed.
fn list(disk: &dyn Disk, config: &WalConfig) -> Result<(Vec<u64>, Vec<u64>), Error> {
    let (mut seqs, mut spares) = (Vec::new(), Vec::new());
    for name in disk.list(&config.dir)? {
        let Some((number, kind)) = name.split_once('.') else { continue };
        let Some(number) = u64::from_str_radix(number, 16).ok().filter(|_| number.len() == 16) else { continue };
        let path = join(&config.dir, &name);
        match kind {
            "wal" => seqs.push(number),
            "spare"
                if number != SPARE_NEW
                    && spares.len() < config.spares_max
                    && disk.open(&path)?.size()? == config.file_size =>
            {
                spares.push(number);
            }
            "spare" => disk.remove(&path)?,
            _ => {}
        }
    }
    seqs.sort_unstable();
    for pair in seqs.windows(2) {
        if pair[0] + 1 != pair[1] {
            let path = file_path(&config.dir, pair[0] + 1);
            return Err(Error::corrupt(&path, 0, "the file is missing"));
        }
    }
    Ok((seqs, spares))
}

struct Scan<'a> {
    disk: &'a dyn Disk,
    config: &'a WalConfig,
    cluster: ClusterId,
    node: NodeId,
    index: Index,
    order_max: u64,
}

impl Scan<'_> {
    /// Reads one file's sound records into the index and checks the end of the file before it.
    fn file(&mut self, seq: u64, before: Option<&Scanned>) -> Result<Scanned, Error> {
        let path = file_path(&self.config.dir, seq);
        let bytes = read_all(&*self.disk.open(&path)?, FILE_MAX)?;
        let header = FileHeader::decode(&path, &bytes)?;
        if (header.cluster, header.node) != (self.cluster, self.node) {
            let reason = format!("the file belongs to node {} of cluster {}", header.node, header.cluster);
            return Err(Error::incompatible(&path, reason));
        }
        if header.seq != seq {
            return Err(Error::corrupt(&path, 0, format!("the file is number {}", header.seq)));
        }
        if let Some(before) = before.filter(|before| before.end != header.previous_end) {
            let reason = format!("records were synced up to byte {}", header.previous_end);
            return Err(Error::corrupt(&file_path(&self.config.dir, before.seq), before.end, reason));
        }
        let seed = Seed::of_salt(header.salt);
        let mut scanned = Scanned {
            seq,
            seed,
            end: DATA_START as u64,
            size: bytes.len() as u64,
            last_round: before.map_or(0, |before| before.last_round),
            last_round_start: DATA_START as u64,
        };
        let mut at = DATA_START;
        while let Some((record, _)) = bytes.get(at..).and_then(|rest| format::decode(rest, seed)) {
            if record.round < scanned.last_round {
                break;
            }
            check_counts(&path, at, &record)?;
            scanned.last_round = record.round;
            scanned.last_round_start = u64::from(record.round_start);
            self.order_max = self.order_max.max(record.order);
            let offset = u32::try_from(at).expect("files have 32-bit offsets");
            let size = u32::try_from(record.size()).expect("payloads are bounded");
            self.index.apply(&record, Place { seq, offset, size, order: record.order });
            at += record.size();
        }
        scanned.end = at as u64;
        Ok(scanned)
    }
}

/// Refuses a record whose checksum holds and whose numbers no log has lived to write.
fn check_counts(path: &str, at: usize, record: &RecordHeader) -> Result<(), Error> {
    if record.order.max(record.round) < COUNT_MAX {
        return Ok(());
    }
    Err(Error::corrupt(
        path,
        at as u64,
        format!("round {}, record {}: no log counts so far", record.round, record.order),
    ))
}

/// Decides what stands behind the newest file's sound records, wipes it, and makes what is before it durable. Answers
/// the torn tail, if there was one, and the highest round seen in it.
fn end_log(disk: &dyn Disk, config: &WalConfig, newest: &Scanned) -> Result<(Option<TornTail>, u64), Error> {
    let path = file_path(&config.dir, newest.seq);
    let file = disk.open(&path)?;
    let bytes = read_all(&*file, FILE_MAX)?;
    let end = usize::try_from(newest.end).expect("files have 32-bit offsets");
    let mut wiped_to = end;
    let mut round_max = 0;
    for at in (end..bytes.len()).step_by(ALIGN) {
        let Some((record, _)) = format::decode_header(&bytes[at..], newest.seed) else { continue };
        if u64::from(record.round_start) > newest.end {
            let reason = format!("a record does not check, and round {} was synced behind it", record.round);
            return Err(Error::corrupt(&path, newest.end, reason));
        }
        check_counts(&path, at, &record)?;
        round_max = round_max.max(record.round);
        wiped_to = (at + record.size()).min(bytes.len());
    }
    let torn = (wiped_to > end).then(|| TornTail { path: path.clone(), offset: newest.end });
    let wiped_to = wiped_to.max((end + RECORD_HEADER).min(bytes.len()));
    let rewritten = usize::try_from(newest.last_round_start).expect("files have 32-bit offsets").min(end);
    file.write_at(rewritten as u64, &bytes[rewritten..end])?;
    write_zeros(&*file, newest.end, wiped_to as u64)?;
    file.sync_data()?;
    Ok((torn, round_max))
}

fn reopen(disk: &dyn Disk, config: &WalConfig, newest: &Scanned) -> Result<Current, Error> {
    let file = disk.open(&file_path(&config.dir, newest.seq))?;
    Ok(Current {
        seq: newest.seq,
        seed: newest.seed,
        file,
        capacity: config.file_size.max(newest.size),
        allocated: newest.size,
        written: newest.end,
        buffer: Vec::new(),
    })
}

/// Reads the payloads of all live records, file by file, and sorts each group's by order.
fn read_live(
    disk: &dyn Disk,
    config: &WalConfig,
    index: &Index,
    sealed: &VecDeque<Sealed>,
    current: &Current,
) -> Result<BTreeMap<GroupId, RecoveredGroup>, Error> {
    let mut groups: BTreeMap<GroupId, RecoveredGroup> = BTreeMap::new();
    let mut found: BTreeMap<GroupId, BTreeMap<u64, Record>> = BTreeMap::new();
    for (group, live) in &index.groups {
        groups.insert(*group, RecoveredGroup { records: Vec::new(), trimmed: live.trimmed() });
    }
    let ends = sealed.iter().map(|sealed| (sealed.seq, sealed.seed, sealed.end));
    for (seq, seed, end) in ends.chain([(current.seq, current.seed, current.written)]) {
        if index.live(seq) == 0 {
            continue;
        }
        let path = file_path(&config.dir, seq);
        let bytes = read_all(&*disk.open(&path)?, FILE_MAX)?;
        let mut at = DATA_START;
        while (at as u64) < end {
            let (header, payload) = bytes
                .get(at..)
                .and_then(|rest| format::decode(rest, seed))
                .ok_or_else(|| Error::corrupt(&path, at as u64, "a record does not read the same twice"))?;
            let offset = u32::try_from(at).expect("files have 32-bit offsets");
            if let Some(kind) = header.kind.record_kind().filter(|_| index.is_live(&header, seq, offset)) {
                let record = Record { kind, index: header.index, payload: Bytes::copy_from_slice(payload).into() };
                found.entry(header.group).or_default().insert(header.order, record);
            }
            at += header.size();
        }
    }
    for (group, records) in found {
        groups.entry(group).or_default().records = records.into_values().collect();
    }
    Ok(groups)
}
