//! What a replica's storage outputs do, and how a node comes back from what they left.
//!
//! - upon opening: the folder is locked and the start counted; each group's newest snapshot that can be used is restored,
//!   its engine started from the records behind it;
//! - upon `Persist`: the records join the log's round; one sync brings the rounds of all groups to stable storage;
//! - upon snapshot work: files are written, read, received and loaded, one piece at a time.
//!
//! The driver chooses the thread and the moment; the same code runs in the node and in the simulator.
//!
//! Deliberately absent: retries. A failed sync ends the node.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use verity_clock::Now;
use verity_contract::{
    Agreement, Attachments, Boot, Duty, Members, Record, RestoreError, Service, SnapshotMeta, Spawn, StateMachine,
};
use verity_storage::{ClusterId, Disk, Error as StorageError, Identity, SnapshotConfig, SnapshotStore, Wal, WalConfig};
use verity_types::{GroupId, Incarnation, LogIndex, Mono, NodeId};

use crate::group::{GroupBoot, GroupConfig};
use crate::replica::{Input, Replica, ReplicaConfig, Ticket};

mod snapshots;

pub use snapshots::{SnapshotAnswer, SnapshotVault};

/// The log's files may take so many times what is held of it in memory before live records move to make room: what is
/// trimmed late, or lies beside what is, takes none of the disk's time.
const WAL_SIZE: u64 = 2;
/// Or so many bytes, if that is more.
const WAL_SIZE_MIN: u64 = 256 << 20;

/// Work on the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogWork {
    /// Bring these records to stable storage, then say [`Input::Persisted`]. All that are put out until the storage is
    /// free again may share one sync.
    Persist {
        /// Its name.
        ticket: Ticket,
        /// The group.
        group: GroupId,
        /// The records.
        records: Vec<Record>,
    },
    /// The log of this group is not needed up to and with `upto`.
    Trim {
        /// The group.
        group: GroupId,
        /// The last index that is not needed.
        upto: LogIndex,
    },
    /// The group has ended here: nothing of its log is needed. Said by [`Input::Persisted`] as well.
    Retire {
        /// Its name.
        ticket: Ticket,
        /// The group.
        group: GroupId,
    },
}

/// Work on snapshot files.
#[derive(Debug)]
pub enum SnapshotWork {
    /// Begin a file.
    Begin {
        /// The group.
        group: GroupId,
        /// Its meta.
        meta: SnapshotMeta,
    },
    /// Append to it, then say [`Input::SnapshotWritten`].
    Chunk {
        /// The group.
        group: GroupId,
        /// What to append.
        bytes: Bytes,
    },
    /// It is whole: bring it, and what it stands on, to stable storage, then say [`Input::SnapshotSaved`],
    /// [`Input::SnapshotFailed`], or [`Input::SyncFailed`] if what it stands on cannot be.
    Finish {
        /// The group.
        group: GroupId,
        /// Its meta.
        meta: SnapshotMeta,
        /// What it stands on.
        attachments: Attachments,
    },
    /// Read part of a saved snapshot for a peer: of its file, and behind it of its attachments in their order. Answer with
    /// [`Input::SnapshotData`].
    Read {
        /// The group.
        group: GroupId,
        /// For this peer.
        to: NodeId,
        /// Which snapshot.
        index: LogIndex,
        /// From here.
        offset: u64,
        /// At most so many bytes.
        length: usize,
    },
    /// Write part of a file that a peer sends; answer with [`Input::SnapshotReceived`].
    Receive {
        /// The group.
        group: GroupId,
        /// From this peer.
        from: NodeId,
        /// Its meta.
        meta: SnapshotMeta,
        /// Where the bytes belong.
        offset: u64,
        /// Length of the snapshot's own file, with which the stream begins.
        file: u64,
        /// Length of the stream.
        total: u64,
        /// The bytes.
        bytes: Bytes,
        /// For the engine, once all is there.
        message: Bytes,
        /// The peer is believed: it counts once it is whole, and not only once it is adopted.
        trusted: bool,
    },
    /// Read all chunks of a saved snapshot; answer with [`Input::SnapshotLoaded`].
    Load {
        /// The group.
        group: GroupId,
        /// Its meta.
        meta: SnapshotMeta,
        /// As it was received.
        trusted: bool,
    },
    /// Start a group that a machine asked for; answer with [`Input::Founded`] or [`Input::FoundFailed`].
    Found {
        /// What is asked for.
        spawn: Spawn,
        /// Now.
        now: Mono,
    },
    /// A snapshot that a peer sent is what its proof speaks of: from now on it counts. [`Input::SnapshotAdopted`] follows.
    Adopt {
        /// The group.
        group: GroupId,
        /// Which.
        meta: SnapshotMeta,
    },
    /// A snapshot that a peer sent is a lie: it goes.
    Discard {
        /// The group.
        group: GroupId,
        /// Which.
        index: LogIndex,
    },
    /// The group has ended: the files that its machine kept go, and its snapshots.
    Remove {
        /// The group.
        group: GroupId,
    },
}

/// Starts a group's engine; the error is one line for an operator.
pub type EngineFactory = Box<dyn Fn(Boot, Mono) -> Result<Box<dyn Agreement>, String> + Send>;

/// Makes a service of a node that has just counted its start.
pub type ServiceFactory = Box<dyn FnOnce(Incarnation) -> Box<dyn Service> + Send>;

/// Says how a group is run that a machine asked for; the error is one line for an operator.
pub type Founder = Arc<dyn Fn(&Spawn) -> Result<GroupSpec, String> + Send + Sync>;

/// A group that this node hosts.
pub struct GroupSpec {
    /// Its id.
    pub id: GroupId,
    /// Whom a new group begins with.
    pub members: Members,
    /// How it is run.
    pub config: GroupConfig,
    /// Its agreement.
    pub engine: EngineFactory,
    /// Its state machine, empty.
    pub machine: Box<dyn StateMachine>,
    /// What its leader does besides.
    pub duty: Option<Box<dyn Duty>>,
}

/// Why a node cannot start.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The disk, or what is on it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A snapshot checks but cannot be used.
    #[error("group {group}: {source}")]
    Restore {
        /// The group.
        group: GroupId,
        /// Why.
        source: RestoreError,
    },
    /// The newest sound snapshot is older than the log's beginning: a later one was lost.
    #[error(
        "group {group}: the log begins behind index {trimmed} and the newest sound snapshot ends at {snapshot}; \
         restore this node from its peers"
    )]
    Gap {
        /// The group.
        group: GroupId,
        /// Where the snapshot ends.
        snapshot: LogIndex,
        /// Behind which index the log begins.
        trimmed: LogIndex,
    },
    /// An engine refuses what the log holds.
    #[error("group {group}: {reason}")]
    Engine {
        /// The group.
        group: GroupId,
        /// Why.
        reason: String,
    },
}

/// A node that is ready to run.
pub struct Opened {
    /// The replica, its groups restored.
    pub replica: Replica,
    /// The log's side of the storage.
    pub log: LogVault,
    /// The snapshots' side of the storage.
    pub snapshots: SnapshotVault,
    /// The folder; hold it for as long as the node runs.
    pub identity: Identity,
    /// Where an unfinished write was dropped, in one line.
    pub torn: Option<String>,
    /// Which snapshots could not be used and were removed, a line each.
    pub passed_over: Vec<String>,
}

/// What a folder is opened as.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// The cluster that it is of.
    pub cluster: ClusterId,
    /// The node that it is of.
    pub node: NodeId,
    /// Feeds the engines' randomness and the log's salt.
    pub seed: u64,
    /// About so many bytes of all groups' logs are held in memory. On disk they take a few times as much.
    pub log_bytes: u64,
}

/// Opens a node's folder and brings its groups back, those included that machines asked `founder` for.
///
/// # Errors
/// [`OpenError`], in one line for an operator.
pub fn open(
    disk: &Arc<dyn Disk>,
    opening: Opening,
    now: Now,
    specs: Vec<GroupSpec>,
    founder: Option<Founder>,
) -> Result<Opened, OpenError> {
    let Opening { cluster, node, seed, log_bytes } = opening;
    let identity = Identity::open(disk.as_ref(), cluster, node)?;
    let seed = seed_of(seed, node, identity.incarnation);
    let size_target = log_bytes.saturating_mul(WAL_SIZE).max(WAL_SIZE_MIN);
    let config = WalConfig { size_target, ..WalConfig::with_salt(seed) };
    let (wal, recovered) = Wal::open(Arc::clone(disk), config, &identity)?;
    let store = SnapshotStore::open(Arc::clone(disk), SnapshotConfig::default(), cluster)?;
    let torn = recovered.torn.map(|torn| format!("{}: dropped an unfinished write at byte {}", torn.path, torn.offset));
    let mut replica = Replica::new(ReplicaConfig { id: node, incarnation: identity.incarnation, log_bytes });
    let mut snapshots =
        SnapshotVault::new(Arc::clone(disk), store, (node, identity.incarnation), seed, founder, recovered.groups);
    let mut asked = VecDeque::new();
    for spec in specs {
        let boot = snapshots.boot(now.mono, spec, None, LogIndex(0))?;
        asked.extend(asked_for(&boot));
        replica.add_group(now, boot);
    }
    while let Some((parent, spawn)) = asked.pop_front() {
        if let Some(spawn) = spawn.for_node(node) {
            let boot = snapshots.found(now.mono, &spawn)?;
            asked.extend(asked_for(&boot));
            replica.add_child(now, parent, boot);
        }
    }
    replica.note_stored(snapshots.stored());
    let log = LogVault { wal, appended: Ticket(0) };
    let passed_over = snapshots.take_passed_over();
    Ok(Opened { replica, log, snapshots, identity, torn, passed_over })
}

/// The groups that a machine asks for. If its log reaches beyond its state, that is asked once it is applied.
fn asked_for(boot: &GroupBoot) -> impl Iterator<Item = (GroupId, Spawn)> + use<> {
    let spawned = if boot.replays_to().is_none() { boot.machine.spawned() } else { Vec::new() };
    let parent = boot.id;
    spawned.into_iter().map(move |spawn| (parent, spawn))
}

/// One start's own seed. Its bits are mixed, so that no engine that adds the node once more takes the node out again: nodes
/// with one seed would stand for election all at once.
fn seed_of(seed: u64, node: NodeId, incarnation: Incarnation) -> u64 {
    let mut z = seed ^ node.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ incarnation.0.wrapping_mul(0xd6e8_feb8_6659_fd93);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The log's side of a node's storage.
#[derive(Debug)]
pub struct LogVault {
    wal: Wal,
    appended: Ticket,
}

impl LogVault {
    /// Writes work of one or many turns to the log; nothing of it is durable before [`LogVault::sync`].
    ///
    /// # Errors
    /// The device's. The node must stop.
    pub fn append(&mut self, work: Vec<LogWork>) -> Result<(), StorageError> {
        for work in work {
            match work {
                LogWork::Persist { ticket, group, records } => {
                    self.wal.append(&[(group, records)])?;
                    self.appended = ticket;
                }
                LogWork::Trim { group, upto } => self.wal.trim(group, upto)?,
                LogWork::Retire { ticket, group } => {
                    self.wal.retire(group)?;
                    self.appended = ticket;
                }
            }
        }
        Ok(())
    }

    /// Brings everything appended to stable storage and tells what may now be acknowledged.
    ///
    /// # Errors
    /// The device's. The node must stop.
    pub fn sync(&mut self) -> Result<Input, StorageError> {
        self.wal.sync()?;
        Ok(Input::Persisted(self.appended))
    }

    /// Uses an idle moment to make the next file ready.
    ///
    /// # Errors
    /// The device's. The log goes on without.
    pub fn prepare(&mut self) -> Result<(), StorageError> {
        self.wal.prepare_spare()
    }

    /// Length of all log files together, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.wal.size()
    }

    /// How many syncs there were.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.wal.stats().rounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Engines mix in their node by this rotation, as the seed once did: all nodes of a cluster drew the same timeouts.
    #[test]
    fn nodes_that_share_a_seed_draw_apart() {
        let drawn = |node: u64, start| seed_of(7, NodeId(node), Incarnation(start)) ^ node.rotate_left(32);
        let all: std::collections::BTreeSet<u64> =
            (1..=5).flat_map(|node| (1..=5).map(move |start| drawn(node, start))).collect();
        assert_eq!(all.len(), 25);
    }
}
