//! What a replica's storage outputs do, and how a node comes back from what they left.
//!
//! - upon opening: the folder is locked and the start counted; each group's newest sound snapshot is restored, its engine
//!   started from the records behind it;
//! - upon `Persist`: the records join the log's round; one sync brings the rounds of all groups to stable storage;
//! - upon snapshot work: files are written, read, received and loaded, one piece at a time.
//!
//! The driver chooses the thread and the moment; the same code runs in the node and in the simulator.
//!
//! Deliberately absent: retries. A failed sync ends the node.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use verity_clock::Now;
use verity_contract::{Agreement, Boot, Duty, Members, Record, RestoreError, Service, SnapshotMeta, StateMachine};
use verity_storage::snapshot::{SnapshotReceiver, SnapshotWriter};
use verity_storage::{
    ClusterId, Disk, Error as StorageError, Identity, RecoveredGroup, SnapshotConfig, SnapshotStore, Wal, WalConfig,
};
use verity_types::{GroupId, Incarnation, LogIndex, Mono, NodeId};

use crate::group::{GroupBoot, GroupConfig};
use crate::replica::{Input, Replica, ReplicaConfig, Ticket};
use crate::snapshot::{Restored, restore_group};

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
}

/// Work on snapshot files.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// It is whole: bring it to stable storage, then say [`Input::SnapshotSaved`].
    Finish {
        /// The group.
        group: GroupId,
        /// Its meta.
        meta: SnapshotMeta,
    },
    /// Read part of a saved file for a peer; answer with [`Input::SnapshotData`].
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
        /// The file's length.
        total: u64,
        /// The bytes.
        bytes: Bytes,
        /// For the engine, once the file is whole.
        message: Bytes,
    },
    /// Read all chunks of a saved snapshot; answer with [`Input::SnapshotLoaded`].
    Load {
        /// The group.
        group: GroupId,
        /// Its meta.
        meta: SnapshotMeta,
    },
}

/// Starts a group's engine; the error is one line for an operator.
pub type EngineFactory = Box<dyn Fn(Boot, Mono) -> Result<Box<dyn Agreement>, String> + Send>;

/// Makes a service of a node that has just counted its start.
pub type ServiceFactory = Box<dyn FnOnce(Incarnation) -> Box<dyn Service> + Send>;

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
}

/// Opens a node's folder and brings its groups back. `seed` feeds the engines' randomness and the log's salt.
///
/// # Errors
/// [`OpenError`], in one line for an operator.
pub fn open(
    disk: &Arc<dyn Disk>,
    cluster: ClusterId,
    node: NodeId,
    seed: u64,
    now: Now,
    specs: Vec<GroupSpec>,
) -> Result<Opened, OpenError> {
    let identity = Identity::open(disk.as_ref(), cluster, node)?;
    let seed = seed_of(seed, node, identity.incarnation);
    let (wal, mut recovered) = Wal::open(Arc::clone(disk), WalConfig::with_salt(seed), &identity)?;
    let store = SnapshotStore::open(Arc::clone(disk), SnapshotConfig::default(), cluster)?;
    let torn = recovered.torn.map(|torn| format!("{}: dropped an unfinished write at byte {}", torn.path, torn.offset));
    let mut replica = Replica::new(ReplicaConfig { id: node, incarnation: identity.incarnation });
    for spec in specs {
        let recovered = recovered.groups.remove(&spec.id).unwrap_or_default();
        replica.add_group(now, boot_group(&store, node, seed, now, spec, recovered)?);
    }
    let log = LogVault { wal, appended: Ticket(0) };
    let snapshots = SnapshotVault { store, writing: BTreeMap::new(), receiving: BTreeMap::new() };
    Ok(Opened { replica, log, snapshots, identity, torn })
}

/// One start's own seed. Its bits are mixed, so that no engine that adds the node once more takes the node out again: nodes
/// with one seed would stand for election all at once.
fn seed_of(seed: u64, node: NodeId, incarnation: Incarnation) -> u64 {
    let mut z = seed ^ node.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ incarnation.0.wrapping_mul(0xd6e8_feb8_6659_fd93);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn boot_group(
    store: &SnapshotStore,
    node: NodeId,
    seed: u64,
    now: Now,
    mut spec: GroupSpec,
    recovered: RecoveredGroup,
) -> Result<GroupBoot, OpenError> {
    let snapshot = store.latest(spec.id)?;
    let index = snapshot.as_ref().map_or(LogIndex(0), |meta| meta.index);
    if recovered.trimmed > index {
        return Err(OpenError::Gap { group: spec.id, snapshot: index, trimmed: recovered.trimmed });
    }
    let records = recovered.records;
    let mut restored = Restored::default();
    if let Some(meta) = &snapshot {
        let mut chunks = store
            .chunks(spec.id, meta.index)?
            .map(|chunk| chunk.map_err(|error| RestoreError::Storage(error.to_string())));
        restored = restore_group(spec.machine.as_mut(), meta.clone(), &mut chunks)
            .map_err(|source| OpenError::Restore { group: spec.id, source })?;
    }
    let boot = Boot { id: node, members: spec.members, snapshot, records, seed: seed ^ spec.id.0.rotate_left(17) };
    let engine = (spec.engine)(boot, now.mono).map_err(|reason| OpenError::Engine { group: spec.id, reason })?;
    Ok(GroupBoot { id: spec.id, engine, machine: spec.machine, duty: spec.duty, restored, config: spec.config })
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

/// What came of snapshot work.
#[derive(Debug, Default)]
pub struct SnapshotAnswer {
    /// For the replica.
    pub input: Option<Input>,
    /// What went wrong, for the log. The replica copes.
    pub error: Option<StorageError>,
}

/// The snapshots' side of a node's storage.
#[derive(Debug)]
pub struct SnapshotVault {
    store: SnapshotStore,
    writing: BTreeMap<GroupId, SnapshotWriter>,
    receiving: BTreeMap<(GroupId, NodeId), Receiving>,
}

#[derive(Debug)]
struct Receiving {
    index: LogIndex,
    next: u64,
    file: SnapshotReceiver,
}

impl SnapshotVault {
    /// Does one piece of work.
    pub fn carry_out(&mut self, work: SnapshotWork) -> SnapshotAnswer {
        match work {
            SnapshotWork::Begin { group, meta } => match self.store.begin(group, &meta) {
                Ok(writer) => {
                    self.writing.insert(group, writer);
                    SnapshotAnswer::default()
                }
                Err(error) => self.give_up(group, error),
            },
            SnapshotWork::Chunk { group, bytes } => {
                let Some(writer) = self.writing.get_mut(&group) else { return SnapshotAnswer::default() };
                match writer.write(&bytes) {
                    Ok(()) => answer(Input::SnapshotWritten(group)),
                    Err(error) => self.give_up(group, error),
                }
            }
            SnapshotWork::Finish { group, meta } => {
                let Some(writer) = self.writing.remove(&group) else { return SnapshotAnswer::default() };
                match writer.finish() {
                    Ok(()) => answer(Input::SnapshotSaved { group, meta }),
                    Err(error) => self.give_up(group, error),
                }
            }
            SnapshotWork::Read { group, to, index, offset, length } => self.read(group, to, index, offset, length),
            SnapshotWork::Receive { group, from, meta, offset, total, bytes, message } => {
                self.receive(group, from, meta.index, offset, total, &bytes, message)
            }
            SnapshotWork::Load { group, meta } => {
                let chunks = self.store.chunks(group, meta.index).and_then(Iterator::collect);
                answer(Input::SnapshotLoaded {
                    group,
                    meta,
                    chunks: chunks.map_err(|error: StorageError| error.to_string()),
                })
            }
        }
    }

    fn give_up(&mut self, group: GroupId, error: StorageError) -> SnapshotAnswer {
        self.writing.remove(&group);
        SnapshotAnswer { input: Some(Input::SnapshotFailed(group)), error: Some(error) }
    }

    fn read(&self, group: GroupId, to: NodeId, index: LogIndex, offset: u64, length: usize) -> SnapshotAnswer {
        let read = self
            .store
            .size(group, index)
            .and_then(|total| Ok((total, self.store.read_at(group, index, offset, length)?)));
        let (total, bytes, error) = match read {
            Ok((total, bytes)) => (total, bytes, None),
            Err(error) => (0, Bytes::new(), Some(error)),
        };
        SnapshotAnswer { input: Some(Input::SnapshotData { group, to, index, offset, total, bytes }), error }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one piece of work, taken apart once")]
    fn receive(
        &mut self,
        group: GroupId,
        from: NodeId,
        index: LogIndex,
        offset: u64,
        total: u64,
        bytes: &[u8],
        message: Bytes,
    ) -> SnapshotAnswer {
        let said = |next, complete| Input::SnapshotReceived { group, from, index, next, complete };
        match self.take(group, from, index, offset, total, bytes) {
            Ok(next) => answer(said(next, (next == total).then_some(message))),
            Err(error) => {
                self.receiving.remove(&(group, from));
                SnapshotAnswer { input: Some(said(u64::MAX, None)), error: Some(error) }
            }
        }
    }

    /// Writes one part; answers up to where the file is there. A part that does not follow is not written.
    fn take(
        &mut self,
        group: GroupId,
        from: NodeId,
        index: LogIndex,
        offset: u64,
        total: u64,
        bytes: &[u8],
    ) -> Result<u64, StorageError> {
        let key = (group, from);
        if offset == 0 {
            let file = self.store.receive(group, index)?;
            self.receiving.insert(key, Receiving { index, next: 0, file });
        }
        let Some(receiving) = self.receiving.get_mut(&key).filter(|receiving| receiving.index == index) else {
            // Its beginning was lost: the sender starts over.
            return Ok(u64::MAX);
        };
        if offset == receiving.next {
            receiving.file.write_at(offset, bytes)?;
            receiving.next += bytes.len() as u64;
        }
        let next = receiving.next;
        if next == total
            && let Some(receiving) = self.receiving.remove(&key)
        {
            receiving.file.finish()?;
        }
        Ok(next)
    }
}

fn answer(input: Input) -> SnapshotAnswer {
    SnapshotAnswer { input: Some(input), error: None }
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
