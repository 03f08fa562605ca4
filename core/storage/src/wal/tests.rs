//! The log against a model, against crashes at every step, and against every flipped bit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use verity_contract::{Pieces, Record, RecordKind};
use verity_types::{GroupId, LogIndex, NodeId};

use super::*;
use crate::disk::{Crash, Faults, FaultyDisk, MemoryDisk, read_all, replace};
use crate::identity::seal_newer;

const CLUSTER: ClusterId = ClusterId([3; 16]);

fn small() -> WalConfig {
    WalConfig { file_size: 4096, preallocate: 1024, size_target: 64 << 10, direct_min: 100, ..WalConfig::with_salt(99) }
}

fn open(disk: &(impl Disk + Clone + 'static), config: WalConfig) -> Result<(Wal, Recovered), Error> {
    let (wal, recovered) = recovery::open(Arc::new(disk.clone()), config, CLUSTER, NodeId(1))?;
    wal.invariants();
    Ok((wal, recovered))
}

fn record(kind: RecordKind, index: u64, payload: &[u8]) -> Record {
    let mut body = Bytes::copy_from_slice(payload);
    let head = body.split_to(payload.len() / 3);
    Record { kind, index: LogIndex(index), payload: Pieces { head, body } }
}

fn entry(index: u64, payload: &[u8]) -> Record {
    record(RecordKind::Entry, index, payload)
}

fn state(payload: &[u8]) -> Record {
    record(RecordKind::State, 0, payload)
}

fn truncate(index: u64) -> Record {
    record(RecordKind::Truncate, index, b"")
}

/// What the log must hold, kept in the plainest way.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    written: BTreeMap<GroupId, Vec<Record>>,
    trimmed: BTreeMap<GroupId, LogIndex>,
}

impl Model {
    fn append(&mut self, round: &[(GroupId, Vec<Record>)]) {
        for (group, records) in round {
            self.written.entry(*group).or_default().extend(records.iter().cloned());
        }
    }

    fn trim(&mut self, group: GroupId, upto: LogIndex) {
        let trimmed = self.trimmed.entry(group).or_default();
        *trimmed = upto.max(*trimmed);
    }

    fn retire(&mut self, group: GroupId) {
        self.written.remove(&group);
        self.trimmed.remove(&group);
    }

    fn holds(&self) -> BTreeMap<GroupId, RecoveredGroup> {
        let groups: BTreeSet<GroupId> = self.written.keys().chain(self.trimmed.keys()).copied().collect();
        let simplified = groups.into_iter().map(|group| {
            let trimmed = self.trimmed.get(&group).copied().unwrap_or_default();
            let all = self.written.get(&group).map_or(&[][..], Vec::as_slice);
            let live = |place: usize, record: &Record| {
                let later = &all[place + 1..];
                match record.kind {
                    RecordKind::State => later.iter().all(|later| later.kind != RecordKind::State),
                    RecordKind::Truncate => record.index > trimmed,
                    RecordKind::Entry | RecordKind::Proof => {
                        record.index > trimmed
                            && !later.iter().any(|later| match later.kind {
                                RecordKind::State => false,
                                RecordKind::Entry | RecordKind::Proof => {
                                    (later.kind, later.index) == (record.kind, record.index)
                                }
                                RecordKind::Truncate => later.index < record.index,
                            })
                    }
                }
            };
            let kept = all.iter().enumerate().filter(|(place, record)| live(*place, record));
            (group, RecoveredGroup { records: kept.map(|(_, record)| record.clone()).collect(), trimmed })
        });
        simplified.filter(|(_, group)| !group.records.is_empty() || group.trimmed > LogIndex(0)).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Round(Vec<(GroupId, Vec<Record>)>),
    Trim(GroupId, LogIndex),
    Retire(GroupId),
    Reopen,
    Spare,
}

fn step() -> impl Strategy<Value = Step> {
    let group = || (1_u64..4).prop_map(GroupId);
    let one = (0_u8..8, 1_u64..30, 0_usize..400, any::<u8>()).prop_map(|(kind, index, len, byte)| match kind {
        0 => state(&vec![byte; len % 50]),
        1 => truncate(index),
        2 | 3 => record(RecordKind::Proof, index, &vec![byte; len]),
        _ => entry(index, &vec![byte; len]),
    });
    let round = prop::collection::vec((group(), prop::collection::vec(one, 0..6)), 1..4);
    prop_oneof![
        8 => round.prop_map(Step::Round),
        2 => (group(), 1_u64..40).prop_map(|(group, upto)| Step::Trim(group, LogIndex(upto))),
        1 => group().prop_map(Step::Retire),
        1 => Just(Step::Reopen),
        1 => Just(Step::Spare),
    ]
}

/// Takes one step on log and model; a round is synced at once.
fn take(wal: &mut Wal, model: &mut Model, step: &Step) -> Result<(), Error> {
    match step {
        Step::Round(round) => {
            model.append(round);
            wal.append(round)?;
            wal.invariants();
            // The last of the round is there before it is synced.
            let last = round.last().and_then(|(group, records)| Some((*group, records.last()?)));
            if let Some((group, last)) = last.filter(|(_, last)| last.kind == RecordKind::Entry) {
                let live = last.index > wal.trimmed(group);
                assert_eq!(wal.entry(group, last.index)?, live.then(|| last.payload.clone().join()));
            }
        }
        Step::Trim(group, upto) => {
            model.trim(*group, *upto);
            wal.trim(*group, *upto)?;
        }
        Step::Retire(group) => {
            model.retire(*group);
            wal.retire(*group)?;
        }
        Step::Spare => wal.prepare_spare()?,
        Step::Reopen => {}
    }
    wal.sync()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is written, trimmed, retired, moved between files and reused comes back as the model says.
    #[test]
    fn the_log_holds_what_the_model_holds(steps in prop::collection::vec(step(), 1..60), target in 0_u64..40_000) {
        let disk = MemoryDisk::new();
        let config = WalConfig { size_target: target, ..small() };
        let (mut wal, _) = open(&disk, config.clone()).unwrap();
        let mut model = Model::default();
        for step in &steps {
            take(&mut wal, &mut model, step).unwrap();
            wal.invariants();
            if matches!(step, Step::Reopen) {
                let (again, recovered) = open(&disk, config.clone()).unwrap();
                prop_assert_eq!(&recovered.groups, &model.holds());
                prop_assert_eq!(recovered.torn, None);
                wal = again;
            }
        }
        disk.crash(Crash::LoseAll);
        let (wal, recovered) = open(&disk, config).unwrap();
        prop_assert_eq!(&recovered.groups, &model.holds());
        for (group, held) in &recovered.groups {
            for record in held.records.iter().filter(|record| record.kind == RecordKind::Entry) {
                prop_assert_eq!(wal.entry(*group, record.index).unwrap(), Some(record.payload.clone().join()));
            }
        }
    }

    /// The power fails at any step; whatever was synced is there, and beyond it at most the round under way.
    #[test]
    fn a_crash_at_any_step_keeps_what_was_synced(
        steps in prop::collection::vec(step(), 1..30),
        halt in 1_u64..200,
        keeps in 0_usize..3000,
        seed: u64,
    ) {
        let memory = MemoryDisk::new();
        let disk = FaultyDisk::new(Arc::new(memory.clone()));
        disk.set_faults(Faults { halt_at: Some(halt), halt_keeps: keeps, ..Faults::default() });
        let config = WalConfig { size_target: 12_000, ..small() };
        let (mut synced, mut tried) = (Model::default(), Model::default());
        if let Ok((mut wal, _)) = open(&disk, config.clone()) {
            for step in &steps {
                if take(&mut wal, &mut tried, step).is_err() {
                    break;
                }
                synced = tried.clone();
            }
        }
        let crash = [Crash::LoseAll, Crash::KeepAll, Crash::Prefix(seed), Crash::Subset(seed)][(seed % 4) as usize];
        memory.crash(crash);
        let (mut wal, recovered) = open(&memory, config.clone()).unwrap();
        let allowed = between(&synced, &tried);
        prop_assert!(allowed.contains(&recovered.groups), "{:?} is not in {:?}", recovered.groups, allowed);
        // What was recovered stays, through more rounds and another crash.
        let more = vec![(GroupId(9), vec![entry(1, b"more")])];
        wal.append_and_sync(&more).unwrap();
        memory.crash(Crash::LoseAll);
        let (_, again) = open(&memory, config).unwrap();
        let mut expected = recovered.groups;
        expected.insert(GroupId(9), RecoveredGroup { records: more[0].1.clone(), trimmed: LogIndex(0) });
        prop_assert_eq!(again.groups, expected);
        prop_assert_eq!(again.torn, None);
    }

    /// Bytes from anywhere are refused or taken, never a panic.
    #[test]
    fn any_file_opens_or_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), place in 0_usize..600) {
        let disk = MemoryDisk::new();
        let (mut wal, _) = open(&disk, small()).unwrap();
        wal.append_and_sync(&[(GroupId(1), vec![entry(1, b"one"), state(b"vote")])]).unwrap();
        disk.open(&file_path("wal", 1)).unwrap().write_at(place as u64, &bytes).unwrap();
        let _ = open(&disk, small());
    }
}

/// Every state that a crash between two synced ones may leave: the synced one and a prefix of the round behind it.
fn between(synced: &Model, tried: &Model) -> Vec<BTreeMap<GroupId, RecoveredGroup>> {
    if synced == tried {
        return vec![synced.holds()];
    }
    let mut states = vec![synced.holds(), tried.holds()];
    // A round holds its groups' records one after the other; each group's longer list is cut at every length, with the
    // other groups at either end. A superset of the prefixes, but nothing that was synced is missing from it.
    let groups: Vec<GroupId> = tried.written.keys().copied().collect();
    let mut partial = vec![synced.clone()];
    for group in groups {
        let before = synced.written.get(&group).map_or(0, Vec::len);
        let all = &tried.written[&group];
        partial = partial
            .iter()
            .flat_map(|model| {
                (before..=all.len()).map(|len| {
                    let mut model = model.clone();
                    if len > 0 {
                        model.written.insert(group, all[..len].to_vec());
                    }
                    model
                })
            })
            .collect();
    }
    states.extend(partial.iter().map(Model::holds));
    states
}

/// A log of several rounds and what it holds after each, by the number of bytes written.
fn rounds(disk: &MemoryDisk, count: u64) -> Vec<BTreeMap<GroupId, RecoveredGroup>> {
    let (mut wal, _) = open(disk, small()).unwrap();
    let mut model = Model::default();
    let mut held = vec![model.holds()];
    for round in 1..=count {
        let step = Step::Round(vec![
            (GroupId(1), vec![entry(round, b"abc"), state(&[u8::try_from(round).unwrap()])]),
            (GroupId(2), vec![entry(round, b"")]),
        ]);
        take(&mut wal, &mut model, &step).unwrap();
        held.push(model.holds());
    }
    held
}

#[test]
fn a_cut_at_every_byte_keeps_every_earlier_round() {
    let disk = MemoryDisk::new();
    let held = rounds(&disk, 3);
    let path = file_path("wal", 1);
    let bytes = read_all(&*disk.open(&path).unwrap(), FILE_MAX).unwrap();
    let round_size = (record_size(3) + record_size(1) + record_size(0)) as u64;
    let last = DATA_START as u64 + 2 * round_size;
    for cut in last..=last + round_size {
        let torn = disk.fork();
        let file = torn.open(&path).unwrap();
        write_zeros(&*file, cut, bytes.len() as u64).unwrap();
        let (_, recovered) = open(&torn, small()).unwrap();
        for (group, before) in &held[2] {
            let entries = |group: &RecoveredGroup| -> Vec<Record> {
                group.records.iter().filter(|record| record.kind == RecordKind::Entry).cloned().collect()
            };
            let now = entries(&recovered.groups[group]);
            assert!(now.starts_with(&entries(before)), "cut at {cut}");
        }
        if cut == last {
            assert_eq!(recovered.groups, held[2]);
        }
        // The zero padding of the last record may be cut without harm.
        if cut == last + round_size {
            assert_eq!(recovered.groups, held[3]);
        }
    }
}

#[test]
fn every_flipped_bit_before_the_last_round_is_refused_or_harmless() {
    let disk = MemoryDisk::new();
    let held = rounds(&disk, 4);
    let path = file_path("wal", 1);
    let size = disk.open(&path).unwrap().size().unwrap();
    let round_size = (record_size(3) + record_size(1) + record_size(0)) as u64;
    let last = DATA_START as u64 + 3 * round_size;
    let (mut refused, mut harmless, mut torn) = (0, 0, 0);
    for offset in 0..(last + round_size + 64).min(size) {
        for bit in 0..8 {
            let damaged = disk.fork();
            assert!(damaged.flip(&path, offset, bit));
            match open(&damaged, small()) {
                Err(Error::Corrupt { path: found, .. }) => {
                    assert_eq!(found, path);
                    refused += 1;
                }
                Err(other) => panic!("byte {offset} bit {bit}: {other}"),
                Ok((_, recovered)) if recovered.groups == held[4] => harmless += 1,
                Ok((_, recovered)) => {
                    assert!(offset >= last, "byte {offset} bit {bit} lost a synced record");
                    assert!(recovered.groups.values().all(|group| !group.records.is_empty()));
                    torn += 1;
                }
            }
        }
    }
    assert!(refused > 3000 && harmless > 0 && torn > 0, "{refused} refused, {harmless} harmless, {torn} torn");
}

#[test]
fn damage_at_the_end_of_a_full_file_is_refused() {
    let disk = MemoryDisk::new();
    let (mut wal, _) = open(&disk, small()).unwrap();
    for index in 1..8 {
        wal.append_and_sync(&[(GroupId(1), vec![entry(index, &[7; 1000])])]).unwrap();
    }
    assert!(wal.sealed.len() >= 2);
    let end = wal.sealed[0].end;
    for offset in [end - 1000, end - 1050] {
        let damaged = disk.fork();
        assert!(damaged.flip(&file_path("wal", 1), offset, 3));
        assert!(matches!(open(&damaged, small()), Err(Error::Corrupt { .. })));
    }
    let missing = disk.fork();
    missing.remove(&file_path("wal", 2)).unwrap();
    let error = open(&missing, small()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "wal/0000000000000002.wal is damaged at byte 0: the file is missing; restore this node from its peers"
    );
}

#[test]
fn a_failed_sync_or_write_poisons() {
    for fail in ["sync", "write", "space"] {
        let disk = FaultyDisk::new(Arc::new(MemoryDisk::new()));
        let (mut wal, _) = open(&disk, small()).unwrap();
        let round = [(GroupId(1), vec![entry(1, b"one")])];
        wal.append_and_sync(&round).unwrap();
        let counts = disk.counts();
        disk.set_faults(match fail {
            "sync" => Faults { sync_fails_at: Some(counts.syncs + 1), ..Faults::default() },
            "write" => Faults { write_fails_at: Some(counts.writes + 1), ..Faults::default() },
            _ => Faults { bytes_written_max: Some(counts.bytes_written + 10), ..Faults::default() },
        });
        let first = wal.append_and_sync(&round).unwrap_err();
        assert_eq!(matches!(first, Error::NoSpace { .. }), fail == "space", "{first}");
        disk.set_faults(Faults::default());
        let poisoned = Error::Poisoned { cause: first.to_string() };
        assert_eq!(wal.sync(), Err(poisoned.clone()));
        assert_eq!(wal.append(&round), Err(poisoned.clone()));
        assert_eq!(wal.trim(GroupId(1), LogIndex(1)), Err(poisoned.clone()));
        assert_eq!(wal.retire(GroupId(1)), Err(poisoned.clone()));
        assert_eq!(wal.entry(GroupId(1), LogIndex(1)), Err(poisoned));
        assert_eq!(disk.counts().syncs - counts.syncs, u64::from(fail == "sync"), "no sync is tried again");
    }
}

#[test]
fn an_oversize_record_is_refused_before_anything_is_taken() {
    let disk = MemoryDisk::new();
    let (mut wal, _) = open(&disk, small()).unwrap();
    let huge = Record { payload: Bytes::from(vec![0; PAYLOAD_MAX + 1]).into(), ..entry(2, b"") };
    let refused = wal.append(&[(GroupId(1), vec![entry(1, b"x"), huge])]);
    assert!(matches!(refused, Err(Error::TooLarge { what: "log record", .. })));
    wal.sync().unwrap();
    assert_eq!(wal.stats().records, 0);
    // A record longer than a file gets one of its own.
    wal.append_and_sync(&[(GroupId(1), vec![entry(1, &[5; 20_000]), entry(2, b"next")])]).unwrap();
    let (_, recovered) = open(&disk, small()).unwrap();
    assert_eq!(recovered.groups[&GroupId(1)].records.len(), 2);
}

#[test]
fn trim_lets_files_go_and_the_state_survives() {
    let disk = MemoryDisk::new();
    let (mut wal, _) = open(&disk, small()).unwrap();
    wal.append_and_sync(&[(GroupId(1), vec![state(b"vote")]), (GroupId(2), vec![entry(1, b"straggler")])]).unwrap();
    for index in 1..200 {
        wal.append(&[(GroupId(1), vec![entry(index, &[1; 500])])]).unwrap();
        wal.sync().unwrap();
        wal.trim(GroupId(1), LogIndex(index)).unwrap();
    }
    wal.sync().unwrap();
    assert!(wal.stats().moved > 0, "the straggler moved");
    assert!(wal.size() <= 6 * small().file_size, "{} bytes", wal.size());
    assert!(disk.list("wal").unwrap().iter().filter(|name| name.ends_with(".spare")).count() <= 2);
    drop(wal);
    let (_, recovered) = open(&disk, small()).unwrap();
    let expected = |records, trimmed| RecoveredGroup { records, trimmed: LogIndex(trimmed) };
    assert_eq!(recovered.groups[&GroupId(1)], expected(vec![state(b"vote")], 199));
    assert_eq!(recovered.groups[&GroupId(2)], expected(vec![entry(1, b"straggler")], 0));
}

#[test]
fn stale_bytes_of_a_reused_file_stay_dead() {
    let disk = MemoryDisk::new();
    let (mut wal, _) = open(&disk, small()).unwrap();
    for index in 1..40 {
        wal.append_and_sync(&[(GroupId(1), vec![entry(index, &[1; 100])])]).unwrap();
    }
    wal.retire(GroupId(1)).unwrap();
    wal.sync().unwrap();
    assert!(!wal.spares.is_empty());
    // Fill the current file, so that the next one is a reused one with old records behind the first new one.
    let before = wal.current.seq;
    let mut index = 0;
    while wal.current.seq == before {
        index += 1;
        wal.append_and_sync(&[(GroupId(2), vec![entry(index, &[2; 100])])]).unwrap();
    }
    let path = file_path("wal", wal.current.seq);
    let bytes = read_all(&*disk.open(&path).unwrap(), FILE_MAX).unwrap();
    let end = usize::try_from(wal.current.end()).unwrap();
    assert!(bytes[end..].contains(&1), "the old use left its bytes");
    let (_, recovered) = open(&disk, small()).unwrap();
    assert_eq!(recovered.groups.keys().collect::<Vec<_>>(), [&GroupId(2)]);
    assert_eq!(recovered.groups[&GroupId(2)].records.len(), usize::try_from(index).unwrap());
    assert_eq!(recovered.torn, None);
}

#[test]
fn a_torn_tail_is_wiped_for_good() {
    let disk = MemoryDisk::new();
    rounds(&disk, 2);
    let path = file_path("wal", 1);
    // The second round's first record is torn and its other two reached the disk.
    let second = DATA_START as u64 + (record_size(3) + record_size(1) + record_size(0)) as u64;
    assert!(disk.flip(&path, second + 9, 0));
    let (mut wal, recovered) = open(&disk, small()).unwrap();
    assert_eq!(recovered.torn, Some(TornTail { path: path.clone(), offset: second }));
    assert_eq!(wal.round, 3, "the torn round was 2; no later round has its number");
    let bytes = read_all(&*disk.open(&path).unwrap(), FILE_MAX).unwrap();
    assert!(bytes[usize::try_from(second).unwrap()..].iter().all(|byte| *byte == 0), "wiped");
    // A new record of the torn one's length ends exactly where the torn round's next record began.
    wal.append_and_sync(&[(GroupId(1), vec![entry(2, b"new")])]).unwrap();
    let (_, recovered) = open(&disk, small()).unwrap();
    assert_eq!(recovered.groups[&GroupId(1)].records, [entry(1, b"abc"), state(&[1]), entry(2, b"new")]);
    assert_eq!(recovered.groups[&GroupId(2)].records, [entry(1, b"")]);
}

/// The process ends between a write and its sync, or because its sync failed. What the next start recovers from the
/// cache it may act upon, so that it must be on the platter before.
#[test]
fn what_is_recovered_is_durable_though_its_sync_failed() {
    for sync_failed in [false, true] {
        let disk = MemoryDisk::new();
        let (mut wal, _) = open(&disk, small()).unwrap();
        wal.append_and_sync(&[(GroupId(1), vec![entry(1, b"synced")])]).unwrap();
        wal.append(&[(GroupId(1), vec![entry(2, b"unsynced"), state(b"vote")])]).unwrap();
        wal.flush().unwrap();
        drop(wal);
        if sync_failed {
            disk.forget_unsynced(&file_path("wal", 1));
        }
        let (_, recovered) = open(&disk, small()).unwrap();
        assert_eq!(recovered.groups[&GroupId(1)].records.len(), 3);
        disk.crash(Crash::LoseAll);
        let (_, again) = open(&disk, small()).unwrap();
        assert_eq!(again, recovered);
    }
}

#[test]
fn other_formats_clusters_and_nodes_are_refused() {
    let disk = MemoryDisk::new();
    rounds(&disk, 1);
    let wrong = |cluster, node| recovery::open(Arc::new(disk.clone()), small(), cluster, node).unwrap_err();
    assert!(matches!(wrong(ClusterId([4; 16]), NodeId(1)), Error::Incompatible { .. }));
    assert!(matches!(wrong(CLUSTER, NodeId(2)), Error::Incompatible { .. }));
    replace(&disk, "wal", "0000000000000001.wal", &seal_newer(format::FILE_MAGIC, &[0; 48])).unwrap();
    assert_eq!(
        wrong(CLUSTER, NodeId(1)).to_string(),
        "wal/0000000000000001.wal: written in format 2; this program reads up to 1; use a newer one"
    );
}

/// Found by the fuzz target `log`: counting on from the last number of all was a panic.
#[test]
fn counts_that_no_log_reaches_are_refused() {
    for (round, order) in [(u64::MAX, 1), (1, u64::MAX), (recovery::COUNT_MAX, 1)] {
        let disk = MemoryDisk::new();
        drop(open(&disk, small()).unwrap());
        let payload_len = 1;
        let round_start = u32::try_from(DATA_START).unwrap();
        let (kind, group, index) = (Kind::Entry, GroupId(1), LogIndex(1));
        let header = RecordHeader { kind, group, index, order, round, round_start, payload_len };
        let mut bytes = Vec::new();
        format::encode(&mut bytes, Seed::of_salt(salt(small().salt, 1)), &header, b"x");
        disk.open(&file_path("wal", 1)).unwrap().write_at(DATA_START as u64, &bytes).unwrap();
        assert!(matches!(open(&disk, small()), Err(Error::Corrupt { .. })), "round {round}, record {order}");
    }
}

#[test]
fn a_round_of_many_groups_costs_one_write_and_one_sync() {
    let disk = FaultyDisk::new(Arc::new(MemoryDisk::new()));
    let (mut wal, _) = open(&disk, WalConfig::with_salt(1)).unwrap();
    let round: Vec<_> = (1..=100).map(|group| (GroupId(group), vec![entry(1, &[0; 100])])).collect();
    wal.append_and_sync(&round).unwrap();
    let before = disk.counts();
    wal.append_and_sync(&round).unwrap();
    let after = disk.counts();
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (1, 1));
    assert_eq!(after.changes - before.changes, 2, "no metadata changes");
    wal.sync().unwrap();
    assert_eq!(disk.counts().syncs, after.syncs, "nothing to sync");
}

/// Acknowledges rounds, cuts the power, and says whether each acknowledged round is there.
fn keeps_its_word(faults: Faults) -> bool {
    let memory = MemoryDisk::new();
    let disk = FaultyDisk::new(Arc::new(memory.clone()));
    disk.set_faults(faults);
    let (mut wal, _) = open(&disk, small()).unwrap();
    let mut model = Model::default();
    for index in 1..20 {
        take(&mut wal, &mut model, &Step::Round(vec![(GroupId(1), vec![entry(index, &[9; 300])])])).unwrap();
    }
    memory.crash(Crash::LoseAll);
    open(&memory, small()).is_ok_and(|(_, recovered)| recovered.groups == model.holds())
}

#[test]
fn the_canary_of_a_lying_sync_is_caught() {
    assert!(keeps_its_word(Faults::default()));
    assert!(!keeps_its_word(Faults { sync_is_a_lie: true, ..Faults::default() }));
}

#[test]
fn an_unsynced_entry_can_be_read_and_a_synced_one_too() {
    let disk = MemoryDisk::new();
    let (mut wal, _) = open(&disk, small()).unwrap();
    for index in 1..30 {
        wal.append(&[(GroupId(1), vec![entry(index, &[u8::try_from(index).unwrap(); 300])])]).unwrap();
        assert_eq!(wal.entry(GroupId(1), LogIndex(index)).unwrap().unwrap()[..], [u8::try_from(index).unwrap(); 300]);
    }
    wal.sync().unwrap();
    assert_eq!(wal.entry(GroupId(1), LogIndex(1)).unwrap().unwrap()[..], [1; 300]);
    assert_eq!(wal.entry(GroupId(1), LogIndex(30)).unwrap(), None);
    assert_eq!(wal.entry(GroupId(2), LogIndex(1)).unwrap(), None);
}
