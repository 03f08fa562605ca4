//! The snapshots' side of a node's storage: files that are written, read, received and loaded, one piece at a time, and
//! groups that are brought back from them.
//!
//! A snapshot may stand on files of its machine's own. To a peer, both are one stream: the snapshot's file, then each of
//! its attachments.
//!
//! - upon `Finish`: the attachments reach stable storage before the snapshot gets its name;
//! - upon `Read`: the part of the stream is read from the file that it lies in;
//! - upon `Receive`: the snapshot's file comes first and says what follows; each attachment is written beside its place,
//!   and only when all is there and synced, names included, does the snapshot get its name. Several may be coming at once,
//!   of different indices;
//! - upon `Load`: the machine is about to take one of them, and lets the files of older ones go: what is still coming is
//!   dropped, and its sender starts over;
//! - upon a snapshot of a peer that may lie: it gets its name only upon `Adopt`, and goes upon `Discard`, so that no start takes
//!   for a state what was not proven;
//! - upon `Found`: the group's engine and machine start from what is left of them, or from nothing. The newest snapshot
//!   counts that is whole and has all that it stands on; one that a peer sent need not have been taken, and its files may
//!   have made way for another's. Those passed over are removed, and the operator is told. A device that fails says
//!   nothing about a snapshot: its error ends the start;
//! - upon `Remove`: the files of the machine go first and the snapshots last, so that a crash in between leaves a snapshot
//!   that tells of the rest.
//!
//! Deliberately absent: checks of an attachment's bytes. Only the machine knows what they are; it checks them before it
//! takes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use verity_contract::{Attachment, Attachments, Boot, RestoreError, SnapshotMeta, Spawn, StateMachine};
use verity_storage::snapshot::{SnapshotReceiver, SnapshotWriter};
use verity_storage::{Disk, DiskFile, Error as StorageError, RecoveredGroup, SnapshotStore, group_folder};
use verity_types::{GroupId, Incarnation, LogIndex, Mono, NodeId};

use super::{Founder, GroupSpec, OpenError, SnapshotWork};
use crate::group::GroupBoot;
use crate::lane::life_within;
use crate::replica::Input;
use crate::snapshot::{Restored, attachments_of, restore_group, staged_suffix};

/// What came of snapshot work.
#[derive(Debug, Default)]
pub struct SnapshotAnswer {
    /// For the replica.
    pub input: Option<Input>,
    /// What went wrong, in one line for the log. The replica copes.
    pub error: Option<String>,
}

/// The snapshots' side of a node's storage.
pub struct SnapshotVault {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) store: SnapshotStore,
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
    /// How many engines were started in this life.
    boots: u64,
    pub(super) seed: u64,
    pub(super) founder: Option<Founder>,
    /// What the log holds of groups that no machine has asked for yet.
    pub(super) parked: BTreeMap<GroupId, RecoveredGroup>,
    writing: BTreeMap<GroupId, SnapshotWriter>,
    receiving: BTreeMap<(GroupId, NodeId), Receiving>,
    /// What the snapshots stand on that were last read for a peer.
    reading: BTreeMap<GroupId, (LogIndex, Stream)>,
    /// Snapshots that could not be used and were removed, a line each, until the operator is told.
    passed_over: Vec<String>,
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
        (node, incarnation): (NodeId, Incarnation),
        seed: u64,
        founder: Option<Founder>,
        parked: BTreeMap<GroupId, RecoveredGroup>,
    ) -> Self {
        let (writing, receiving, reading) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            disk,
            store,
            node,
            incarnation,
            boots: 0,
            seed,
            founder,
            parked,
            writing,
            receiving,
            reading,
            passed_over: Vec::new(),
        }
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
            SnapshotWork::Receive { group, from, meta, offset, file, total, bytes, message, trusted } => {
                let part = Part { index: meta.index, offset, file, total, bytes, trusted };
                self.receive(group, from, &part, message)
            }
            SnapshotWork::Load { group, meta, trusted } => {
                self.receiving.retain(|(of, _), _| *of != group);
                let store = &self.store;
                let chunks = if trusted { store.chunks(group, meta.index) } else { store.tried(group, meta.index) };
                let chunks = chunks.and_then(|chunks| {
                    // The engine knows its context from the message; the next start will know it from the file.
                    let same = chunks.meta().context == meta.context;
                    let told = "what stands beside the state is not what its sender told the engine";
                    same.then_some(chunks).ok_or_else(|| StorageError::corrupt("a peer's snapshot", 0, told))
                });
                let chunks = chunks.and_then(Iterator::collect);
                answer(Input::SnapshotLoaded {
                    group,
                    meta,
                    chunks: chunks.map_err(|error: StorageError| error.to_string()),
                })
            }
            SnapshotWork::Found { spawn, now } => {
                let input = match self.found(now, &spawn) {
                    Ok(boot) => Input::Founded(Box::new(boot)),
                    Err(error) => Input::FoundFailed { group: spawn.group, reason: error.to_string() },
                };
                let passed_over = self.take_passed_over();
                SnapshotAnswer { input: Some(input), error: (!passed_over.is_empty()).then(|| passed_over.join("; ")) }
            }
            SnapshotWork::Adopt { group, meta } => match self.store.adopt(group, meta.index) {
                Ok(()) => answer(Input::SnapshotAdopted { group, meta }),
                // The state goes on without, and nothing else is taken from a peer in this life: the next snapshot is its own.
                Err(error) => SnapshotAnswer { input: None, error: Some(error.to_string()) },
            },
            SnapshotWork::Discard { group, index } => {
                let discarded = self.store.reject(group, index);
                SnapshotAnswer { input: None, error: discarded.err().map(|error| error.to_string()) }
            }
            SnapshotWork::Remove { group } => {
                self.parked.remove(&group);
                self.abandon(group);
                self.reading.remove(&group);
                self.receiving.retain(|(of, _), _| *of != group);
                SnapshotAnswer { input: None, error: self.remove_all(group).err().map(|error| error.to_string()) }
            }
        }
    }

    /// The groups that there is something of, in the log or in snapshots, and that nobody has asked for yet.
    pub(super) fn stored(&self) -> BTreeSet<GroupId> {
        let mut groups = self.store.groups();
        groups.extend(self.parked.keys());
        groups
    }

    /// Which snapshots were passed over since this was asked last, a line each.
    pub(super) fn take_passed_over(&mut self) -> Vec<String> {
        std::mem::take(&mut self.passed_over)
    }

    /// Removes what the machine of a group kept, then its snapshots, durably.
    fn remove_all(&self, group: GroupId) -> Result<(), StorageError> {
        self.remove_files(group, |_| true)?;
        self.store.remove(group)
    }

    /// Removes those files of a group's machine that have such a name, durably.
    fn remove_files(&self, group: GroupId, goes: impl Fn(&str) -> bool) -> Result<(), StorageError> {
        let folder = group_folder(group);
        let mut names = match self.disk.list(&folder) {
            Err(StorageError::NotFound { .. }) => Vec::new(),
            listed => listed?,
        };
        names.retain(|name| goes(name));
        names.iter().try_for_each(|name| self.disk.remove(&format!("{folder}/{name}")))?;
        if names.is_empty() { Ok(()) } else { self.disk.sync_dir(&folder) }
    }

    /// Starts a group that a machine asked for.
    pub(super) fn found(&mut self, now: Mono, spawn: &Spawn) -> Result<GroupBoot, OpenError> {
        let engine = |reason: String| OpenError::Engine { group: spawn.group, reason };
        let founder = self.founder.clone().ok_or_else(|| engine("nothing here knows how to make it".into()))?;
        if self.parked.get(&spawn.group).is_none_or(|recovered| recovered.records.is_empty()) {
            // The log holds at least a vote of each group that is hosted. This one was let go, and what else there is of it was
            // about to follow.
            self.remove_all(spawn.group)?;
        }
        let spec = founder(spawn).map_err(engine)?;
        assert_eq!(spec.id, spawn.group, "a group is made under its own name");
        self.boot(now, spec, spawn.first_leader, spawn.floor)
    }

    /// Starts a group from what is left of it, or from nothing.
    pub(super) fn boot(
        &mut self,
        now: Mono,
        mut spec: GroupSpec,
        first_leader: Option<NodeId>,
        floor: LogIndex,
    ) -> Result<GroupBoot, OpenError> {
        let recovered = self.parked.remove(&spec.id).unwrap_or_default();
        let restored = self.restore(spec.id, spec.machine.as_mut(), recovered.trimmed)?;
        let (snapshot, restored) = restored.map_or_else(Default::default, |(meta, restored)| (Some(meta), restored));
        let records = recovered.records;
        let seed = self.seed ^ spec.id.0.rotate_left(17);
        self.boots += 1;
        let incarnation = life_within(self.incarnation, self.boots);
        let (id, members) = (self.node, spec.members);
        let boot = Boot { id, members, first_leader, floor, snapshot, records, incarnation, seed };
        let engine = (spec.engine)(boot, now).map_err(|reason| OpenError::Engine { group: spec.id, reason })?;
        Ok(GroupBoot { id: spec.id, engine, machine: spec.machine, duty: spec.duty, restored, config: spec.config })
    }

    /// Restores a machine from the newest snapshot that can be used and that the log goes on from; `None` without any. Newer
    /// ones are then removed.
    fn restore(
        &mut self,
        group: GroupId,
        machine: &mut dyn StateMachine,
        trimmed: LogIndex,
    ) -> Result<Option<(SnapshotMeta, Restored)>, OpenError> {
        let (mut damage, mut below) = (None, None);
        while let Some(meta) = self.store.latest(group, below)? {
            let index = meta.index;
            if trimmed > index {
                let gap = OpenError::Gap { group, snapshot: index, trimmed };
                return Err(damage.map_or(gap, |source| OpenError::Restore { group, source }));
            }
            let restored = match self.store.chunks(group, index) {
                Ok(chunks) => restore_group(machine, meta.clone(), &mut chunks.map(|chunk| chunk.map_err(refused))),
                Err(error) => Err(refused(error)),
            };
            match restored {
                Ok(restored) => {
                    self.pass_over(group, index, damage.as_ref())?;
                    return Ok(Some((meta, restored)));
                }
                Err(source @ RestoreError::Invalid(_)) => damage = damage.or(Some(source)),
                Err(source) => return Err(OpenError::Restore { group, source }),
            }
            below = Some(index);
        }
        match damage {
            Some(source) => Err(OpenError::Restore { group, source }),
            None if trimmed > LogIndex(0) => Err(OpenError::Gap { group, snapshot: LogIndex(0), trimmed }),
            None => Ok(None),
        }
    }

    /// Removes the snapshots behind the one that was restored, and what came with them.
    fn pass_over(
        &mut self,
        group: GroupId,
        restored: LogIndex,
        damage: Option<&RestoreError>,
    ) -> Result<(), StorageError> {
        let removed = self.store.remove_after(group, restored)?;
        if removed.is_empty() {
            return Ok(());
        }
        let suffixes: Vec<String> = removed.iter().map(|index| staged_suffix(*index)).collect();
        self.remove_files(group, |name| suffixes.iter().any(|suffix| name.ends_with(suffix)))?;
        let indices: Vec<String> = removed.iter().map(ToString::to_string).collect();
        let why = damage.map_or_else(|| "damaged".to_owned(), ToString::to_string);
        self.passed_over.push(format!(
            "group {group}: started from the snapshot at {restored}; removed what is newer and cannot be used, at {}: {why}",
            indices.join(", ")
        ));
        Ok(())
    }

    fn give_up(&mut self, group: GroupId, error: StorageError) -> SnapshotAnswer {
        self.abandon(group);
        SnapshotAnswer { input: Some(Input::SnapshotFailed(group)), error: Some(error.to_string()) }
    }

    fn abandon(&mut self, group: GroupId) {
        if let Some(writer) = self.writing.remove(&group) {
            writer.abandon();
        }
    }

    fn finish(&mut self, group: GroupId, meta: SnapshotMeta, attachments: Attachments) -> SnapshotAnswer {
        let Some(writer) = self.writing.remove(&group) else { return SnapshotAnswer::default() };
        if let Some(sync) = attachments.sync
            && let Err(reason) = sync()
        {
            // Pages that the kernel may have dropped: the machine's files are not to be built on any more.
            let reason = format!("files of group {group} cannot be brought to stable storage: {reason}");
            return answer(Input::SyncFailed { group, reason });
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
            Err(error) => (0, 0, Bytes::new(), Some(error.to_string())),
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
                SnapshotAnswer { input: Some(said(u64::MAX, None)), error: Some(error.to_string()) }
            }
        }
    }

    /// Writes one part; answers up to where the stream is there. A part that does not follow is not written.
    fn take(&mut self, group: GroupId, from: NodeId, part: &Part) -> Result<u64, StorageError> {
        let key = (group, from);
        if part.offset == 0 {
            let file = self.store.receive(group, part.index)?;
            // Two of one index would write the same files.
            self.receiving.retain(|(of, _), other| *of != group || other.index != part.index);
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
        let total = receiving.stream.as_ref().map(Stream::total);
        if total.is_some_and(|total| total != part.total) {
            return Err(StorageError::corrupt("a peer's snapshot", next, "it is not as long as the peer says"));
        }
        if total == Some(next) {
            self.complete(group, receiving, part.trusted)?;
        } else {
            self.receiving.insert(key, receiving);
        }
        Ok(next)
    }

    /// Gives a snapshot its name that came whole. Its files may be gone again: the machine lets them go once it takes
    /// another.
    fn complete(&self, group: GroupId, mut receiving: Receiving, trusted: bool) -> Result<(), StorageError> {
        sync_open(&mut receiving)?;
        let attachments = receiving.stream.as_ref().map_or(&[][..], |stream| &stream.attachments);
        // One without bytes is not sent.
        for attachment in attachments.iter().filter(|attachment| attachment.length > 0) {
            let path = staged_path(attachment, receiving.index);
            let size = match self.disk.open(&path) {
                Err(StorageError::NotFound { .. }) => 0,
                file => file?.size()?,
            };
            if size != attachment.length {
                return Err(StorageError::corrupt(&path, size, "it made way for another snapshot's"));
            }
        }
        if !attachments.is_empty() {
            self.disk.sync_dir(&group_folder(group))?;
        }
        if trusted { receiving.file.finish().map(drop) } else { receiving.file.try_out().map(drop) }
    }

    fn write(&self, group: GroupId, receiving: &mut Receiving, part: &Part) -> Result<(), StorageError> {
        match &receiving.stream {
            None => receiving.file.write_at(part.offset, &part.bytes)?,
            Some(stream) => {
                let Some((attachment, at)) = stream.place(part.offset) else { return Ok(()) };
                let path = staged_path(attachment, receiving.index);
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
    /// Whoever sends it is believed.
    trusted: bool,
}

fn sync_open(receiving: &mut Receiving) -> Result<(), StorageError> {
    receiving.open.take().map_or(Ok(()), |(_, file)| file.sync_data())
}

/// Where a file lies that came from a peer for the snapshot at `index`.
fn staged_path(attachment: &Attachment, index: LogIndex) -> String {
    format!("{}{}", attachment.path, staged_suffix(index))
}

/// What is missing or damaged speaks against the snapshot, anything else against the device.
fn refused(error: StorageError) -> RestoreError {
    match error {
        StorageError::NotFound { .. } | StorageError::Corrupt { .. } => RestoreError::Invalid(error.to_string()),
        _ => RestoreError::Storage(error.to_string()),
    }
}

fn answer(input: Input) -> SnapshotAnswer {
    SnapshotAnswer { input: Some(input), error: None }
}

#[cfg(test)]
mod tests;
