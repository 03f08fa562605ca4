//! The snapshots' side of a node's storage: files that are written, read, received and loaded, one piece at a time, and
//! groups that are brought back from them.
//!
//! A snapshot may stand on files of its machine's own. To a peer, both are one stream: the snapshot's file, then each of
//! its attachments.
//!
//! - upon `Finish`: the attachments reach stable storage before the snapshot gets its name;
//! - upon `Read`: the part of the stream is read from the file that it lies in;
//! - upon `Receive`: the snapshot's file comes first and says what follows; each attachment is written beside its place,
//!   and only when all is there and synced does the snapshot get its name;
//! - upon `Found`: the group's engine and machine start from what is left of them, or from nothing.
//!
//! Deliberately absent: checks of an attachment's bytes. Only the machine knows what they are; it checks them before it
//! takes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use verity_contract::{Attachment, Attachments, Boot, RestoreError, SnapshotMeta, Spawn};
use verity_storage::snapshot::{SnapshotReceiver, SnapshotWriter};
use verity_storage::{Disk, DiskFile, Error as StorageError, RecoveredGroup, SnapshotStore};
use verity_types::{GroupId, LogIndex, Mono, NodeId};

use super::{Founder, GroupSpec, OpenError, SnapshotWork};
use crate::group::GroupBoot;
use crate::replica::Input;
use crate::snapshot::{Restored, attachments_of, restore_group, staged_suffix};

/// What came of snapshot work.
#[derive(Debug, Default)]
pub struct SnapshotAnswer {
    /// For the replica.
    pub input: Option<Input>,
    /// What went wrong, for the log. The replica copes.
    pub error: Option<StorageError>,
}

/// The snapshots' side of a node's storage.
pub struct SnapshotVault {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) store: SnapshotStore,
    pub(super) node: NodeId,
    pub(super) seed: u64,
    pub(super) founder: Option<Founder>,
    /// What the log holds of groups that no machine has asked for yet.
    pub(super) parked: BTreeMap<GroupId, RecoveredGroup>,
    writing: BTreeMap<GroupId, SnapshotWriter>,
    receiving: BTreeMap<(GroupId, NodeId), Receiving>,
    /// What the snapshots stand on that were last read for a peer.
    reading: BTreeMap<GroupId, (LogIndex, Stream)>,
}

impl std::fmt::Debug for SnapshotVault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotVault")
            .field("node", &self.node)
            .field("parked", &self.parked.len())
            .finish_non_exhaustive()
    }
}

/// A snapshot's file and what follows it on its way to a peer.
#[derive(Debug)]
struct Stream {
    file: u64,
    attachments: Vec<Attachment>,
}

impl Stream {
    fn total(&self) -> u64 {
        self.attachments.iter().fold(self.file, |sum, attachment| sum.saturating_add(attachment.length))
    }

    /// Which attachment the byte at `offset` of the stream lies in, and where in it.
    fn place(&self, offset: u64) -> Option<(&Attachment, u64)> {
        let mut at = offset.checked_sub(self.file)?;
        for attachment in &self.attachments {
            if at < attachment.length {
                return Some((attachment, at));
            }
            at -= attachment.length;
        }
        None
    }
}

struct Receiving {
    index: LogIndex,
    next: u64,
    file: SnapshotReceiver,
    /// Known once the snapshot's file is whole.
    stream: Option<Stream>,
    open: Option<(String, Box<dyn DiskFile>)>,
}

impl SnapshotVault {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        store: SnapshotStore,
        node: NodeId,
        seed: u64,
        founder: Option<Founder>,
        parked: BTreeMap<GroupId, RecoveredGroup>,
    ) -> Self {
        let (writing, receiving, reading) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { disk, store, node, seed, founder, parked, writing, receiving, reading }
    }

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
            SnapshotWork::Finish { group, meta, attachments } => self.finish(group, meta, attachments),
            SnapshotWork::Read { group, to, index, offset, length } => self.read(group, to, index, offset, length),
            SnapshotWork::Receive { group, from, meta, offset, file, total, bytes, message } => {
                let part = Part { index: meta.index, offset, file, total, bytes };
                self.receive(group, from, &part, message)
            }
            SnapshotWork::Load { group, meta } => {
                let chunks = self.store.chunks(group, meta.index).and_then(Iterator::collect);
                answer(Input::SnapshotLoaded {
                    group,
                    meta,
                    chunks: chunks.map_err(|error: StorageError| error.to_string()),
                })
            }
            SnapshotWork::Found { spawn, now } => answer(match self.found(now, &spawn) {
                Ok(boot) => Input::Founded(Box::new(boot)),
                Err(error) => Input::FoundFailed { group: spawn.group, reason: error.to_string() },
            }),
            SnapshotWork::Remove { group } => {
                self.parked.remove(&group);
                self.writing.remove(&group);
                self.reading.remove(&group);
                self.receiving.retain(|(of, _), _| *of != group);
                SnapshotAnswer { input: None, error: self.store.remove(group).err() }
            }
        }
    }

    /// Starts a group that a machine asked for.
    pub(super) fn found(&mut self, now: Mono, spawn: &Spawn) -> Result<GroupBoot, OpenError> {
        let engine = |reason: String| OpenError::Engine { group: spawn.group, reason };
        let founder = self.founder.clone().ok_or_else(|| engine("nothing here knows how to make it".into()))?;
        let spec = founder(spawn).map_err(engine)?;
        assert_eq!(spec.id, spawn.group, "a group is made under its own name");
        self.boot(now, spec, spawn.first_leader)
    }

    /// Starts a group from what is left of it, or from nothing.
    pub(super) fn boot(
        &mut self,
        now: Mono,
        mut spec: GroupSpec,
        first_leader: Option<NodeId>,
    ) -> Result<GroupBoot, OpenError> {
        let recovered = self.parked.remove(&spec.id).unwrap_or_default();
        let snapshot = self.store.latest(spec.id)?;
        let index = snapshot.as_ref().map_or(LogIndex(0), |meta| meta.index);
        if recovered.trimmed > index {
            return Err(OpenError::Gap { group: spec.id, snapshot: index, trimmed: recovered.trimmed });
        }
        let records = recovered.records;
        let mut restored = Restored::default();
        if let Some(meta) = &snapshot {
            let mut chunks = self
                .store
                .chunks(spec.id, meta.index)?
                .map(|chunk| chunk.map_err(|error| RestoreError::Storage(error.to_string())));
            restored = restore_group(spec.machine.as_mut(), meta.clone(), &mut chunks)
                .map_err(|source| OpenError::Restore { group: spec.id, source })?;
        }
        let seed = self.seed ^ spec.id.0.rotate_left(17);
        let boot = Boot { id: self.node, members: spec.members, first_leader, snapshot, records, seed };
        let engine = (spec.engine)(boot, now).map_err(|reason| OpenError::Engine { group: spec.id, reason })?;
        Ok(GroupBoot { id: spec.id, engine, machine: spec.machine, duty: spec.duty, restored, config: spec.config })
    }

    fn give_up(&mut self, group: GroupId, error: StorageError) -> SnapshotAnswer {
        self.writing.remove(&group);
        SnapshotAnswer { input: Some(Input::SnapshotFailed(group)), error: Some(error) }
    }

    fn finish(&mut self, group: GroupId, meta: SnapshotMeta, attachments: Attachments) -> SnapshotAnswer {
        let Some(writer) = self.writing.remove(&group) else { return SnapshotAnswer::default() };
        if let Some(sync) = attachments.sync
            && let Err(reason) = sync()
        {
            // Pages that the kernel may have dropped: the machine's files are not to be built on any more.
            let reason = format!("files of group {group} cannot be brought to stable storage: {reason}");
            return answer(Input::FoundFailed { group, reason });
        }
        match writer.finish() {
            Ok(()) => answer(Input::SnapshotSaved { group, meta }),
            Err(error) => self.give_up(group, error),
        }
    }

    // ---- to a peer

    fn read(&mut self, group: GroupId, to: NodeId, index: LogIndex, offset: u64, length: usize) -> SnapshotAnswer {
        let (file, total, bytes, error) = match self.read_stream(group, index, offset, length) {
            Ok((file, total, bytes)) => (file, total, bytes, None),
            Err(error) => (0, 0, Bytes::new(), Some(error)),
        };
        SnapshotAnswer { input: Some(Input::SnapshotData { group, to, index, offset, file, total, bytes }), error }
    }

    fn read_stream(
        &mut self,
        group: GroupId,
        index: LogIndex,
        offset: u64,
        length: usize,
    ) -> Result<(u64, u64, Bytes), StorageError> {
        if self.reading.get(&group).is_none_or(|(of, _)| *of != index) {
            let file = self.store.size(group, index)?;
            let header = self.store.chunks(group, index)?.next().transpose()?;
            let attachments = header.and_then(|header| attachments_of(group, header)).unwrap_or_default();
            self.reading.insert(group, (index, Stream { file, attachments }));
        }
        let (_, stream) = self.reading.get(&group).expect("it was just put there");
        let bytes = match stream.place(offset) {
            None => self.store.read_at(group, index, offset, length)?,
            Some((attachment, at)) => {
                let left = usize::try_from(attachment.length - at).unwrap_or(usize::MAX);
                let mut out = vec![0; length.min(left)];
                let read = self.disk.open(&attachment.path)?.read_at(at, &mut out)?;
                if read < out.len() {
                    return Err(StorageError::corrupt(&attachment.path, at, "it is shorter than its snapshot says"));
                }
                out.into()
            }
        };
        Ok((stream.file, stream.total(), bytes))
    }

    // ---- from a peer

    fn receive(&mut self, group: GroupId, from: NodeId, part: &Part, message: Bytes) -> SnapshotAnswer {
        let said = |next, complete| Input::SnapshotReceived { group, from, index: part.index, next, complete };
        match self.take(group, from, part) {
            Ok(next) => answer(said(next, (next == part.total).then_some(message))),
            Err(error) => {
                self.receiving.remove(&(group, from));
                SnapshotAnswer { input: Some(said(u64::MAX, None)), error: Some(error) }
            }
        }
    }

    /// Writes one part; answers up to where the stream is there. A part that does not follow is not written.
    fn take(&mut self, group: GroupId, from: NodeId, part: &Part) -> Result<u64, StorageError> {
        let key = (group, from);
        if part.offset == 0 {
            let file = self.store.receive(group, part.index)?;
            let receiving = Receiving { index: part.index, next: 0, file, stream: None, open: None };
            self.receiving.insert(key, receiving);
        }
        let Some(mut receiving) = self.receiving.remove(&key).filter(|receiving| receiving.index == part.index) else {
            // Its beginning was lost: the sender starts over.
            return Ok(u64::MAX);
        };
        if part.offset == receiving.next {
            self.write(group, &mut receiving, part)?;
        }
        let next = receiving.next;
        if next == part.total && receiving.stream.is_some() {
            sync_open(&mut receiving)?;
            receiving.file.finish()?;
        } else {
            self.receiving.insert(key, receiving);
        }
        Ok(next)
    }

    fn write(&self, group: GroupId, receiving: &mut Receiving, part: &Part) -> Result<(), StorageError> {
        match &receiving.stream {
            None => receiving.file.write_at(part.offset, &part.bytes)?,
            Some(stream) => {
                let Some((attachment, at)) = stream.place(part.offset) else { return Ok(()) };
                let path = format!("{}{}", attachment.path, staged_suffix(receiving.index));
                let room = attachment.length - at;
                if part.bytes.len() as u64 > room {
                    return Err(StorageError::corrupt(&path, at, "a peer sent more of it than its snapshot says"));
                }
                if receiving.open.as_ref().is_none_or(|(open, _)| *open != path) {
                    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
                    self.disk.create_dir(&folder)?;
                    let file = self.disk.create(&path)?;
                    sync_open(receiving)?;
                    receiving.open = Some((path, file));
                }
                let (_, file) = receiving.open.as_ref().expect("it was just opened");
                file.write_at(at, &part.bytes)?;
            }
        }
        receiving.next += part.bytes.len() as u64;
        if receiving.stream.is_none() && receiving.next == part.file {
            let header = receiving.file.first_chunk()?;
            let attachments = attachments_of(group, header);
            let attachments = attachments
                .ok_or_else(|| StorageError::corrupt("a peer's snapshot", 0, "it does not say what it stands on"))?;
            receiving.stream = Some(Stream { file: part.file, attachments });
        }
        Ok(())
    }
}

/// One part of a stream that comes from a peer.
struct Part {
    index: LogIndex,
    offset: u64,
    /// Length of the snapshot's file, with which the stream begins.
    file: u64,
    total: u64,
    bytes: Bytes,
}

fn sync_open(receiving: &mut Receiving) -> Result<(), StorageError> {
    receiving.open.take().map_or(Ok(()), |(_, file)| file.sync_data())
}

fn answer(input: Input) -> SnapshotAnswer {
    SnapshotAnswer { input: Some(input), error: None }
}
