//! One node of a world: a disk that outlives it, a clock that may lie, and, while it runs, a replica.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use fastrand::Rng;
use verity_clock::{Interval, Now};
use verity_contract::{Door, GroupRole, RecordKind, SessionOutput};
use verity_replica::{Input, LogVault, LogWork, Opened, Opening, Output, Replica, SnapshotVault, SnapshotWork, Ticket};
use verity_storage::disk::{Crash, Faults as DiskFaults};
use verity_storage::{ClusterId, Disk, FaultyDisk, MemoryDisk};
use verity_types::{GroupId, Mono, NodeId, Term, Token};

use crate::faults::DiskFault;
use crate::mutant::Mutant;
use crate::workload::NodeSetup;
use crate::world::Event;

/// Civil time at the beginning of every world.
const EPOCH_NS: u64 = 1_700_000_000_000_000_000;
/// The monotonic clocks at the beginning of every world.
const MONO_NS: u64 = 1_000_000_000;
/// Half the width of the interval around civil time.
const CLOCK_ERROR_NS: u64 = 5_000_000;

/// A disk has at most so much room left when it is said to be full.
const FULL_BYTES: u64 = 16_384;
/// A disk that goes with the power does so within so many changes.
const HALT_CHANGES: u64 = 24;
/// A smaller file may consist of its last write alone.
const FLIP_SIZE_MIN: u64 = 4_096;

/// One node.
pub(crate) struct SimNode {
    pub(crate) id: NodeId,
    pub(crate) disk: MemoryDisk,
    pub(crate) faulty: FaultyDisk,
    pub(crate) running: Option<Running>,
    /// A bit of its disk was flipped.
    pub(crate) flipped: bool,
    /// Counts starts; events of an earlier life are void.
    pub(crate) life: u64,
    pub(crate) paused_until: u64,
    /// What comes while it is paused, in order.
    pub(crate) stash: Vec<Event>,
    /// How many faults of its disk are past.
    injected: u64,
    /// Civil time is moved by this much.
    pub(crate) skew_ns: i64,
    /// The monotonic clock runs by this many parts in a million too fast. Civil time is disciplined and only jumps.
    pub(crate) drift_ppm: i64,
}

/// A node that is up.
pub(crate) struct Running {
    pub(crate) replica: Replica,
    log: LogVault,
    snapshots: SnapshotVault,
    log_queue: Vec<LogWork>,
    /// Work is appended and its sync under way.
    pub(crate) log_busy: bool,
    log_votes: bool,
    pub(crate) snapshot_queue: VecDeque<SnapshotWork>,
    pub(crate) snapshot_busy: bool,
    /// The next chunk is the replica's header.
    snapshot_header: bool,
    pub(crate) flush_due: bool,
    pub(crate) tick_at: u64,
    /// What all groups together have applied when they were last checked.
    pub(crate) applied: u64,
    pub(crate) roles: Vec<(GroupId, GroupRole)>,
    _identity: verity_storage::Identity,
}

/// What the world is to do for a node.
pub(crate) enum Deed {
    Send {
        to: NodeId,
        bytes: Bytes,
    },
    Conn(SessionOutput),
    /// A service wants to connect to somebody.
    Dial {
        token: Token,
        addr: String,
        door: Door,
    },
    LogWaits,
    SnapshotWaits,
    MembersChanged,
    /// It has let a group go.
    Ended(GroupId),
    /// It leads now.
    Leads {
        group: GroupId,
        term: Term,
    },
    Fatal(String),
}

impl SimNode {
    pub(crate) fn new(id: NodeId) -> Self {
        let disk = MemoryDisk::new();
        let faulty = FaultyDisk::new(Arc::new(disk.clone()));
        Self {
            id,
            disk,
            faulty,
            running: None,
            flipped: false,
            life: 0,
            paused_until: 0,
            stash: Vec::new(),
            injected: 0,
            skew_ns: 0,
            drift_ppm: 0,
        }
    }

    /// The node's clocks at a moment of true time.
    pub(crate) fn now(&self, true_ns: u64) -> Now {
        // In whole, lest rounding lets the clock go back.
        let passed = u128::from(true_ns) * 1_000_000_u128.saturating_add_signed(self.drift_ppm.into()) / 1_000_000;
        let mono = MONO_NS + u64::try_from(passed).expect("a world is short");
        let civil = (EPOCH_NS + true_ns).saturating_add_signed(self.skew_ns);
        Now { mono: Mono(mono), wall: Interval::around(civil, CLOCK_ERROR_NS) }
    }

    /// The true time at which the node's monotonic clock shows `mono`, or a little later.
    pub(crate) fn true_time(&self, mono: Mono) -> u64 {
        let local = u128::from(mono.0.saturating_sub(MONO_NS));
        let rate = 1_000_000_u128.saturating_add_signed(self.drift_ppm.into());
        u64::try_from(local * 1_000_000 / rate).map_or(u64::MAX, |at| at.saturating_add(3_000))
    }

    /// Starts the node from its disk.
    pub(crate) fn start(
        &mut self,
        cluster: ClusterId,
        seed: u64,
        true_ns: u64,
        log_bytes: u64,
        setup: NodeSetup,
    ) -> Result<(), String> {
        let disk: Arc<dyn Disk> = Arc::new(self.faulty.clone());
        let opening = Opening { cluster, node: self.id, seed, log_bytes };
        let opened = verity_replica::open(&disk, opening, self.now(true_ns), setup.groups, setup.founder);
        let Opened { mut replica, log, snapshots, identity, .. } = opened.map_err(|error| error.to_string())?;
        for service in setup.services {
            replica.add_service(service(identity.incarnation));
        }
        self.life += 1;
        self.running = Some(Running {
            replica,
            log,
            snapshots,
            log_queue: Vec::new(),
            log_busy: false,
            log_votes: false,
            snapshot_queue: VecDeque::new(),
            snapshot_busy: false,
            snapshot_header: false,
            flush_due: false,
            tick_at: u64::MAX,
            applied: 0,
            roles: Vec::new(),
            _identity: identity,
        });
        Ok(())
    }

    /// Ends the node as a power cut would.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        // What a process would write in an orderly end is not written.
        let halt_at = Some(self.faulty.counts().changes + 1);
        self.faulty.set_faults(DiskFaults { halt_at, ..DiskFaults::default() });
        self.running = None;
        self.life += 1;
        self.paused_until = 0;
        self.stash.clear();
        self.mend_disk();
        let crash = match rng.u32(0..4) {
            0 => Crash::LoseAll,
            1 => Crash::KeepAll,
            2 => Crash::Prefix(rng.u64(..)),
            _ => Crash::Subset(rng.u64(..)),
        };
        self.disk.crash(crash);
    }

    /// Flips a bit of a file, not among the last that were written: of those nobody can tell a lie from a torn write.
    pub(crate) fn flip(&mut self, rng: &mut Rng) -> bool {
        let mut files = Vec::new();
        for folder in ["wal", "snapshots"] {
            let names = self.disk.list(folder).unwrap_or_default();
            files.extend(names.into_iter().map(|name| format!("{folder}/{name}")));
        }
        let used = |path: &String| {
            let file = self.disk.open(path).ok()?;
            let mut bytes = vec![0; usize::try_from(file.size().ok()?).ok()?];
            file.read_at(0, &mut bytes).ok()?;
            let end = bytes.iter().rposition(|byte| *byte != 0)? as u64;
            (end >= FLIP_SIZE_MIN).then_some(end)
        };
        let large: Vec<(String, u64)> =
            files.into_iter().filter_map(|path| Some((path.clone(), used(&path)?))).collect();
        let Some((path, end)) = rng.choice(large) else { return false };
        self.flipped = self.disk.flip(&path, rng.u64(0..end / 2), rng.u8(0..8));
        self.flipped
    }

    /// Plans what goes wrong with the disk, from the next operation of its kind on.
    pub(crate) fn plan(&mut self, fault: DiskFault, rng: &mut Rng) {
        let counts = self.faulty.counts();
        let faults = match fault {
            DiskFault::Sync => DiskFaults { sync_fails_at: Some(counts.syncs + 1), ..DiskFaults::default() },
            DiskFault::Write => {
                DiskFaults { write_fails_at: Some(counts.writes + rng.u64(1..8)), ..DiskFaults::default() }
            }
            DiskFault::Read => {
                DiskFaults { read_fails_at: Some(counts.reads + rng.u64(1..8)), ..DiskFaults::default() }
            }
            DiskFault::Full => {
                let room = rng.u64(0..FULL_BYTES);
                DiskFaults { bytes_written_max: Some(counts.bytes_written + room), ..DiskFaults::default() }
            }
            DiskFault::Step => DiskFaults {
                halt_at: Some(counts.changes + rng.u64(1..HALT_CHANGES)),
                halt_keeps: rng.usize(0..600),
                ..DiskFaults::default()
            },
        };
        self.faulty.set_faults(faults);
    }

    /// True if a planned fault has come about.
    pub(crate) fn has_failed(&self) -> bool {
        self.faulty.counts().injected > self.injected
    }

    /// The disk works again.
    pub(crate) fn mend_disk(&mut self) {
        self.faulty.set_faults(DiskFaults::default());
        self.injected = self.faulty.counts().injected;
    }

    /// Hands the replica one input and sorts what follows.
    pub(crate) fn input(&mut self, true_ns: u64, input: Input, deeds: &mut Vec<Deed>) {
        let now = self.now(true_ns);
        let Some(running) = self.running.as_mut() else { return };
        let mut outputs = Vec::new();
        running.replica.on(now, input, &mut outputs);
        running.sort(outputs, deeds);
    }

    /// Ends a turn.
    pub(crate) fn flush(&mut self, true_ns: u64, deeds: &mut Vec<Deed>) {
        let now = self.now(true_ns);
        let Some(running) = self.running.as_mut() else { return };
        let mut outputs = Vec::new();
        running.replica.flush(now, &mut outputs);
        while running.replica.has_backlog() {
            running.replica.flush(now, &mut outputs);
        }
        running.sort(outputs, deeds);
    }
}

/// A snapshot's header that tells of no lane: `version:u8 time:u64 count:u32 lane:[u8; 24]*count ...`.
fn without_lanes(header: &Bytes) -> Bytes {
    let count = u32::from_be_bytes(header[9..13].try_into().expect("four bytes"));
    let rest = 13 + 24 * usize::try_from(count).expect("fits");
    let mut out = BytesMut::from(&header[..9]);
    out.put_u32(0);
    out.put_slice(&header[rest..]);
    out.freeze()
}

impl Running {
    fn sort(&mut self, outputs: Vec<Output>, deeds: &mut Vec<Deed>) {
        for output in outputs {
            match output {
                Output::Conn(output) => deeds.push(Deed::Conn(output)),
                Output::Send { to, bytes, .. } => deeds.push(Deed::Send { to, bytes }),
                Output::Log(work) => {
                    if let LogWork::Retire { group, .. } = &work {
                        deeds.push(Deed::Ended(*group));
                    }
                    self.log_queue.push(work);
                    deeds.push(Deed::LogWaits);
                }
                Output::Snapshot(work) => {
                    self.snapshot_queue.push_back(work);
                    deeds.push(Deed::SnapshotWaits);
                }
                Output::Role { group, role } => {
                    if role.leads {
                        deeds.push(Deed::Leads { group, term: role.term });
                    }
                    self.roles.retain(|(known, _)| *known != group);
                    self.roles.push((group, role));
                }
                Output::Members { group, .. } => {
                    if self.roles.iter().any(|(led, role)| *led == group && role.leads) {
                        deeds.push(Deed::MembersChanged);
                    }
                }
                Output::Call { .. } => unreachable!("no machine of these worlds asks outside"),
                Output::Dial { token, addr, door, .. } => deeds.push(Deed::Dial { token, addr, door }),
                Output::Stop => unreachable!("no service of these worlds stops its node"),
                Output::Evidence { .. } | Output::Answer { .. } => {}
                Output::Fatal(reason) => deeds.push(Deed::Fatal(reason)),
            }
        }
    }

    /// Appends everything that waits. With the mutant, answers what is to be acknowledged at once.
    pub(crate) fn begin_log(&mut self, mutant: Option<Mutant>) -> Result<Option<Ticket>, String> {
        let work = std::mem::take(&mut self.log_queue);
        let last = work.iter().rev().find_map(|work| match work {
            LogWork::Persist { ticket, .. } => Some(*ticket),
            LogWork::Trim { .. } | LogWork::Retire { .. } => None,
        });
        self.log_votes = work.iter().all(|work| match work {
            LogWork::Persist { records, .. } => records.iter().all(|record| record.kind == RecordKind::State),
            LogWork::Trim { .. } | LogWork::Retire { .. } => false,
        });
        self.log.append(work).map_err(|error| error.to_string())?;
        self.log_busy = true;
        Ok(last.filter(|_| mutant == Some(Mutant::AckBeforeSync)))
    }

    /// Ends the sync that was begun.
    pub(crate) fn end_log(&mut self) -> Result<Input, String> {
        self.log_busy = false;
        self.log.sync().map_err(|error| error.to_string())
    }

    /// True if all that is written under way are votes and promises, if anything is.
    pub(crate) fn votes(&self) -> bool {
        self.log_votes
    }

    pub(crate) fn log_waits(&self) -> bool {
        !self.log_queue.is_empty()
    }

    /// Does the next piece of snapshot work.
    pub(crate) fn snapshot_step(&mut self, mutant: Option<Mutant>, disk: &FaultyDisk) -> Option<Input> {
        let mut work = self.snapshot_queue.pop_front()?;
        match &mut work {
            SnapshotWork::Begin { .. } => self.snapshot_header = true,
            SnapshotWork::Chunk { bytes, .. } => {
                let header = std::mem::take(&mut self.snapshot_header);
                if header && mutant == Some(Mutant::SnapshotWithoutLanes) {
                    *bytes = without_lanes(bytes);
                }
            }
            SnapshotWork::Receive { .. } if mutant == Some(Mutant::SnapshotBeforeSync) => {
                disk.set_faults(DiskFaults { sync_is_a_lie: true, ..DiskFaults::default() });
                let answer = self.snapshots.carry_out(work);
                disk.set_faults(DiskFaults::default());
                return answer.input;
            }
            _ => {}
        }
        self.snapshots.carry_out(work).input
    }
}
