//! What a disk gives back: the files of the log, and snapshots.
//!
//! Nothing panics. Besides, the log keeps what it was told is kept: a round that was synced comes back whatever stands
//! behind it, and what comes back was written. A snapshot is the one that was written, or refused.

use std::sync::Arc;

use bytes::Bytes;
use verity_contract::{Members, Record, RecordKind, RestoreError, SnapshotMeta, StateMachine};
use verity_storage::{
    ClusterId, Disk, Error, Identity, MemoryDisk, Recovered, SnapshotConfig, SnapshotStore, Wal, WalConfig,
};
use verity_types::{GroupId, LogIndex, NodeId, Term};
use verity_zookeeper::machine::{Tree, TreeConfig};

use crate::Script;

const CLUSTER: ClusterId = ClusterId([7; 16]);
const NODE: NodeId = NodeId(1);
const GROUP: GroupId = GroupId(1);
/// Files, records or rounds of one script.
const COUNT_MAX: usize = 200;
/// Behind a file's header begin its records.
const DATA_START: usize = 72;
const SEAL_SIZE: usize = 24;

/// How the first byte of a script is read.
pub mod mode {
    /// The log: files of any bytes. The snapshot: a file of any bytes.
    pub const RAW: u8 = 0;
    /// The log: files whose checksums hold, whatever their records say. The snapshot: likewise.
    pub const SEALED: u8 = 1;
    /// The log: rounds, and any bytes in place of the last one. The snapshot: one of its bits flipped, or three.
    pub const TAIL: u8 = 2;
    /// The log: rounds, and up to three flipped bits.
    pub const FLIPS: u8 = 3;
}

/// The reader of the log.
///
/// # Panics
/// If something that must hold does not.
pub fn log(data: &[u8]) {
    let mut script = Script(data);
    match script.byte() % 4 {
        mode::RAW => log_raw(script),
        mode::SEALED => log_sealed(script),
        mode::TAIL => log_tail(script, data),
        _ => log_flips(script, data),
    }
}

/// No client can know a log's salt; no fuzzer either, if each script has its own.
fn salt_of(data: &[u8]) -> u64 {
    let (low, high) = (crc32c::crc32c(data), crc32c::crc32c_append(0x5eed, data));
    u64::from(high) << 32 | u64::from(low)
}

fn config(salt: u64) -> WalConfig {
    WalConfig {
        file_size: 4 << 10,
        preallocate: 1 << 10,
        size_target: 32 << 10,
        direct_min: 500,
        ..WalConfig::with_salt(salt)
    }
}

fn open(disk: &MemoryDisk, salt: u64) -> Result<(Wal, Recovered), Error> {
    let identity = Identity::open(disk, CLUSTER, NODE)?;
    let opened = Wal::open(Arc::new(disk.clone()), config(salt), &identity)?;
    opened.0.invariants();
    Ok(opened)
}

fn put(disk: &MemoryDisk, path: &str, bytes: &[u8]) {
    let file = disk.create(path).expect("memory takes it");
    file.write_at(0, bytes).expect("memory takes it");
    file.sync_data().expect("memory takes it");
}

/// Opens what is there; if that can be, the log goes on, and comes back once more with one record more.
fn go_on(disk: &MemoryDisk) {
    let (mut wal, mut before) = match open(disk, 1) {
        Ok(opened) => opened,
        Err(Error::Corrupt { .. } | Error::Incompatible { .. }) => return,
        Err(error) => panic!("neither damage nor strange: {error}"),
    };
    let group = GroupId(u64::MAX - 7);
    let record =
        Record { kind: RecordKind::Entry, index: LogIndex(u64::MAX), payload: Bytes::from_static(b"new").into() };
    wal.append_and_sync(&[(group, vec![record.clone()])]).expect("memory takes it");
    wal.invariants();
    drop(wal);
    let (_, mut after) = open(disk, 2).expect("what was just written is sound");
    let added = after.groups.get_mut(&group).and_then(|group| group.records.pop());
    assert_eq!(added, Some(record), "a synced record comes back");
    for groups in [&mut before.groups, &mut after.groups] {
        groups.retain(|_, group| !group.records.is_empty() || group.trimmed.0 > 0);
    }
    assert_eq!(after.groups, before.groups, "what came back once comes back again");
}

fn log_raw(mut script: Script<'_>) {
    let disk = MemoryDisk::new();
    disk.create_dir("wal").expect("memory takes it");
    for seq in 1..=4u64 {
        if script.is_empty() {
            break;
        }
        put(&disk, &format!("wal/{seq:016x}.wal"), script.blob());
    }
    go_on(&disk);
}

/// ```text
/// file   = salt previous_end_from_the_truth:u8 count:u8 record* junk:blob
/// record = kind:u8 group index order round round_start:number payload:blob
/// ```
fn log_sealed(mut script: Script<'_>) {
    let disk = MemoryDisk::new();
    disk.create_dir("wal").expect("memory takes it");
    let (mut end, mut last) = (0, script.number());
    for seq in 1..=3u64 {
        if script.is_empty() {
            break;
        }
        let salt = script.long();
        let previous_end = if script.byte() < 0xf0 { end } else { script.number() };
        let mut bytes = file_header(seq, salt, previous_end);
        for _ in 0..script.byte() {
            if script.is_empty() {
                break;
            }
            let kind = script.byte();
            let (group, index) = (script.number(), script.number());
            let order = if script.byte() < 0xc0 { last.wrapping_add(1) } else { script.number() };
            last = order;
            let (round, round_start) = (script.number(), script.number());
            record(&mut bytes, salt, kind, &[group, index, order, round], round_start, script.blob());
        }
        end = bytes.len() as u64;
        bytes.extend_from_slice(script.blob());
        put(&disk, &format!("wal/{seq:016x}.wal"), &bytes);
    }
    go_on(&disk);
}

fn seal(magic: [u8; 8], body: &[u8]) -> Vec<u8> {
    let mut out = magic.to_vec();
    out.extend(1u32.to_le_bytes());
    out.extend(u32::try_from(SEAL_SIZE + body.len()).expect("headers are short").to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out), body);
    out.extend(crc.to_le_bytes());
    out.extend([0; 4]);
    out.extend_from_slice(body);
    out
}

fn file_header(seq: u64, salt: u64, previous_end: u64) -> Vec<u8> {
    let mut body = CLUSTER.0.to_vec();
    [NODE.0, seq, salt, previous_end].iter().for_each(|number| body.extend(number.to_le_bytes()));
    let out = seal(*b"VRTYWLOG", &body);
    assert_eq!(out.len(), DATA_START, "records begin right behind the header");
    out
}

fn record(out: &mut Vec<u8>, salt: u64, kind: u8, numbers: &[u64; 4], round_start: u64, payload: &[u8]) {
    let mut head = vec![0x56, 0x76, kind % 7, 0, 0, 0, 0, 0];
    head.extend(crc32c::crc32c(payload).to_le_bytes());
    head.extend(u32::try_from(payload.len()).expect("payloads are short").to_le_bytes());
    numbers.iter().for_each(|number| head.extend(number.to_le_bytes()));
    head.extend(&round_start.to_le_bytes()[..4]);
    head.extend([0; 4]);
    let seed = crc32c::crc32c(&salt.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed, &head[..4]), &head[8..]);
    head[4..8].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(8), 0);
}

/// A log that was written as logs are, and everything that was written to it.
struct Written {
    disk: MemoryDisk,
    wal: Wal,
    all: Vec<(GroupId, Record)>,
    next: [u64; 3],
}

impl Written {
    fn new(salt: u64) -> Self {
        let disk = MemoryDisk::new();
        let (wal, _) = open(&disk, salt).expect("a new log opens");
        Self { disk, wal, all: Vec::new(), next: [1; 3] }
    }

    /// ```text
    /// rounds = count:u8 (records:u8 (kind:u8 group:u8 length:u8)*)*
    /// ```
    fn rounds(&mut self, script: &mut Script<'_>) {
        for _ in 0..script.byte() % 16 {
            let mut round = Vec::new();
            for _ in 0..=script.byte() % 8 {
                let (kind, group) = (script.byte(), script.byte() % 3);
                let next = &mut self.next[usize::from(group)];
                let (kind, index) = match kind % 8 {
                    0 => (RecordKind::State, 0),
                    1 => {
                        *next = next.saturating_sub(u64::from(kind >> 4)).max(1);
                        (RecordKind::Truncate, *next - 1)
                    }
                    2 => {
                        let upto = LogIndex(next.saturating_sub(u64::from(kind >> 4)));
                        self.wal.trim(GroupId(u64::from(group)), upto).expect("memory takes it");
                        continue;
                    }
                    _ => {
                        *next += 1;
                        (RecordKind::Entry, *next - 1)
                    }
                };
                let payload = Bytes::from(vec![script.byte(); usize::from(script.byte()) * 4]).into();
                round.push((GroupId(u64::from(group)), Record { kind, index: LogIndex(index), payload }));
            }
            self.write(round);
        }
    }

    fn write(&mut self, round: Vec<(GroupId, Record)>) {
        self.all.extend(round.iter().cloned());
        let round: Vec<_> = round.into_iter().map(|(group, record)| (group, vec![record])).collect();
        self.wal.append_and_sync(&round).expect("memory takes it");
        self.wal.invariants();
    }

    fn assert_written(&self, recovered: &Recovered) {
        for (group, found) in &recovered.groups {
            for record in &found.records {
                let known = self.all.iter().any(|(of, written)| of == group && written == record);
                assert!(known, "{record:?} of group {group} was never written");
            }
        }
    }
}

fn read(disk: &MemoryDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path).expect("the file is there");
    let mut bytes = vec![0; usize::try_from(file.size().expect("memory")).expect("a small file")];
    file.read_at(0, &mut bytes).expect("memory");
    bytes
}

fn files(disk: &MemoryDisk) -> Vec<String> {
    let names = disk.list("wal").expect("memory");
    names.into_iter().filter(|name| name.ends_with(".wal")).map(|name| format!("wal/{name}")).collect()
}

/// Rounds; then one more, whose place is taken by the script's bytes. What was synced before it comes back.
fn log_tail(mut script: Script<'_>, data: &[u8]) {
    let mut written = Written::new(salt_of(data));
    written.rounds(&mut script);
    let before = open(&fork(&written.disk), 1).expect("a whole log opens").1;
    let (names, disk) = (files(&written.disk), fork(&written.disk));
    let last = names.last().expect("a log has a file").clone();
    let whole = read(&written.disk, &last);
    let group = u64::from(script.byte() % 3);
    for _ in 0..=script.byte() % 4 {
        let index = written.next[usize::try_from(group).expect("three groups")];
        written.next[usize::try_from(group).expect("three groups")] += 1;
        let payload = Bytes::from(vec![script.byte(); 40]);
        let record = Record { kind: RecordKind::Entry, index: LogIndex(index), payload: payload.into() };
        written.all.push((GroupId(group), record.clone()));
        written.wal.append(&[(GroupId(group), vec![record])]).expect("memory takes it");
    }
    written.wal.sync().expect("memory takes it");
    if files(&written.disk) != names {
        return;
    }
    let longer = read(&written.disk, &last);
    let start = longer.iter().zip(whole.iter().chain(std::iter::repeat(&0))).take_while(|(a, b)| a == b).count();
    // The round's first bytes may be what stood there before; its beginning is aligned.
    let start = start / 8 * 8;
    let mut torn = longer[..start].to_vec();
    let kept = usize::from(script.byte()).min(longer.len() - start);
    torn.extend_from_slice(&longer[start..start + kept]);
    torn.extend_from_slice(script.0);
    put(&disk, &last, &torn);
    let (_, after) = open(&disk, 3).expect("an unfinished round is dropped, not the log");
    written.assert_written(&after);
    for (group, found) in &before.groups {
        let kept = after.groups.get(group).is_some_and(|after| after.records.starts_with(&found.records));
        assert!(kept, "what was synced comes back");
    }
    if after.torn.is_some() && before.groups.len() == 3 {
        crate::canary("a torn tail behind records of three groups");
    }
}

fn fork(disk: &MemoryDisk) -> MemoryDisk {
    let fork = disk.fork();
    fork.crash(verity_storage::disk::Crash::LoseAll);
    fork
}

/// Rounds, and up to three flipped bits: so few no checksum passes over. What comes back was written.
fn log_flips(mut script: Script<'_>, data: &[u8]) {
    let mut written = Written::new(salt_of(data));
    written.rounds(&mut script);
    let disk = fork(&written.disk);
    let names = files(&disk);
    for _ in 0..=script.byte() % 3 {
        let path = &names[usize::from(script.byte()) % names.len()];
        let size = read(&disk, path).len();
        let at = usize::from(script.short()) % size.max(1);
        disk.flip(path, at as u64, script.byte());
    }
    match open(&disk, 3) {
        Ok((_, after)) => written.assert_written(&after),
        Err(Error::Corrupt { .. } | Error::Incompatible { .. }) => {}
        Err(error) => panic!("neither damage nor strange: {error}"),
    }
}

fn store(disk: &MemoryDisk) -> SnapshotStore {
    SnapshotStore::open(Arc::new(disk.clone()), SnapshotConfig::default(), CLUSTER).expect("memory takes it")
}

fn meta() -> SnapshotMeta {
    SnapshotMeta {
        index: LogIndex(9),
        term: Term(2),
        members: Members::of_voters([1, 2, 3].map(NodeId)),
        ..SnapshotMeta::default()
    }
}

/// The reader of snapshots, and what a tree makes of one that checks.
///
/// # Panics
/// If something that must hold does not.
pub fn snapshot(data: &[u8]) {
    let mut script = Script(data);
    match script.byte() % 4 {
        mode::RAW => take(script.0, &mut script.clone()),
        mode::SEALED => {
            let bytes = sealed_snapshot(&mut script);
            take(&bytes, &mut script);
        }
        _ => snapshot_flips(&mut script),
    }
}

/// Takes a file from a peer, in parts; one that checks is read, and given to a tree.
fn take(bytes: &[u8], script: &mut Script<'_>) {
    let store = store(&MemoryDisk::new());
    let mut receiver = store.receive(GROUP, meta().index).expect("memory takes it");
    let cut = usize::from(script.short()).min(bytes.len());
    receiver.write_at(cut as u64, &bytes[cut..]).expect("memory takes it");
    receiver.write_at(0, &bytes[..cut]).expect("memory takes it");
    match receiver.finish() {
        Ok(found) => {
            assert_eq!(store.latest(GROUP, None).expect("just checked"), Some(found.clone()));
            if found.members.learners.len() > 2 {
                crate::canary("a snapshot with three learners");
            }
            restore(&store);
        }
        Err(Error::Corrupt { .. } | Error::Incompatible { .. }) => {
            assert!(store.latest(GROUP, None).expect("nothing is there").is_none(), "what does not check is gone");
        }
        Err(error) => panic!("neither damage nor strange: {error}"),
    }
}

fn restore(store: &SnapshotStore) -> bool {
    let chunks = store.chunks(GROUP, meta().index).expect("it is there");
    let mut chunks = chunks.map(|chunk| chunk.map_err(|error| RestoreError::Storage(error.to_string())));
    let mut tree = Tree::new(TreeConfig::default());
    let whole = tree.restore(&mut chunks).is_ok();
    if whole {
        tree.invariants();
    }
    whole
}

/// ```text
/// snapshot = cluster:u8 group index term voters outgoing learners:number count:u8 member* blocks:u8 blob* junk
/// ```
fn sealed_snapshot(script: &mut Script<'_>) -> Vec<u8> {
    let mut body = if script.byte() < 0xf0 { CLUSTER.0.to_vec() } else { vec![9; 16] };
    let (group, index) = (script.byte(), script.byte());
    body.extend(if group < 0xf0 { GROUP.0 } else { 5 }.to_le_bytes());
    body.extend(if index < 0xf0 { meta().index.0 } else { 5 }.to_le_bytes());
    body.extend(script.number().to_le_bytes());
    (0..3).for_each(|_| body.extend(&script.number().to_le_bytes()[..4]));
    body.extend([0; 4]);
    for _ in 0..script.byte() {
        body.extend(script.number().to_le_bytes());
    }
    let mut out = seal(*b"VRTYSNAP", &body);
    let seed = crc32c::crc32c(&out);
    let (mut blocks, mut bytes) = (0u64, 0u64);
    for _ in 0..(script.byte() as usize).min(COUNT_MAX) {
        let block = script.blob();
        let Ok(length) = u32::try_from(block.len()) else { break };
        if length == 0 {
            break;
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed, &blocks.to_le_bytes()), &length.to_le_bytes());
        out.extend(length.to_le_bytes());
        out.extend(crc32c::crc32c_append(crc, block).to_le_bytes());
        out.extend_from_slice(block);
        (blocks, bytes) = (blocks + 1, bytes + u64::from(length));
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed, &blocks.to_le_bytes()), &bytes.to_le_bytes());
    out.extend([0; 4]);
    out.extend(crc.to_le_bytes());
    [blocks, bytes].iter().for_each(|number| out.extend(number.to_le_bytes()));
    out
}

fn snapshot_flips(script: &mut Script<'_>) {
    let disk = MemoryDisk::new();
    let store = store(&disk);
    let mut writer = store.begin(GROUP, &meta()).expect("memory takes it");
    let mut wrote = Vec::new();
    for _ in 0..script.byte() % 8 {
        let block = script.blob();
        if !block.is_empty() {
            writer.write(block).expect("memory takes it");
            wrote.extend_from_slice(block);
        }
    }
    writer.finish().expect("memory takes it");
    let path = format!("snapshots/{:016x}-{:016x}.snap", GROUP.0, meta().index.0);
    let flips = script.byte() % 4;
    for _ in 0..flips {
        disk.flip(&path, u64::from(script.short()), script.byte());
    }
    match store.latest(GROUP, None) {
        Ok(found) => {
            assert_eq!(found, Some(meta()));
            let chunks = store.chunks(GROUP, meta().index).expect("it is there");
            let read: Vec<u8> = chunks.flat_map(|chunk| chunk.expect("it was just checked")).collect();
            assert_eq!(read, wrote, "a snapshot is what was written");
        }
        Err(Error::Corrupt { .. } | Error::Incompatible { .. }) => assert!(flips > 0, "nothing was damaged"),
        Err(error) => panic!("neither damage nor strange: {error}"),
    }
}
