//! The list as a group that another group's machine asked for, its values in a file of its own.
//!
//! - upon a first command to the nursery: it asks for the list; every further one asks for a group that nobody uses, or
//!   ends it again;
//! - upon an append: the value is written to the list's file, unsynced; a snapshot holds the count and stands on the file.
//!
//! Deliberately absent: values in memory. What a replica got wrong about files, the list gets wrong.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use verity_contract::{
    Attachment, Attachments, Command, Effects, Members, ReadOutcome, RestoreError, Spawn, StateMachine,
};
use verity_storage::{Disk, DiskFile, group_folder};
use verity_types::{Digest, GroupId, LogIndex};

/// The group of the list.
pub const LIST: GroupId = GroupId(2);
const DECOYS: u64 = 100;

/// Asks for groups.
pub struct Nursery {
    members: Members,
    commands: u64,
    drawn: bool,
}

impl Nursery {
    /// Its groups begin with these members.
    #[must_use]
    pub fn new(members: Members) -> Self {
        Self { members, commands: 0, drawn: true }
    }

    fn spawn(&self, group: GroupId) -> Spawn {
        let hosts: BTreeSet<_> = self.members.all();
        Spawn {
            group,
            members: self.members.clone(),
            founders: hosts.clone(),
            first_leader: None,
            floor: LogIndex(0),
            hosts,
            blueprint: Bytes::new(),
        }
    }

    fn decoy(&self) -> Option<GroupId> {
        (self.commands > 1 && self.commands.is_multiple_of(2)).then_some(GroupId(DECOYS + self.commands))
    }
}

impl StateMachine for Nursery {
    fn apply(&mut self, batch: &[Command], effects: &mut Effects) {
        for command in batch {
            let ended = self.decoy();
            self.commands += 1;
            if self.commands == 1 {
                effects.spawn(self.spawn(LIST));
            }
            if let Some(group) = ended {
                effects.retire(group);
            }
            if let Some(group) = self.decoy() {
                effects.spawn(self.spawn(group));
            }
            effects.reply(command.request, Bytes::new());
        }
    }

    fn read(&mut self, _query: &[u8]) -> ReadOutcome {
        ReadOutcome::Ready(Bytes::new())
    }

    fn spawned(&self) -> Vec<Spawn> {
        let list = (self.commands > 0).then_some(LIST);
        list.into_iter().chain(self.decoy()).map(|group| self.spawn(group)).collect()
    }

    fn snapshot_begin(&mut self) {
        self.drawn = false;
    }

    fn snapshot_next(&mut self, _size_max: usize) -> Option<Bytes> {
        (!std::mem::replace(&mut self.drawn, true)).then(|| Bytes::copy_from_slice(&self.commands.to_be_bytes()))
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>) -> Result<(), RestoreError> {
        for chunk in chunks {
            self.commands = chunk?.get_u64();
        }
        Ok(())
    }

    fn digest(&self) -> Digest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.commands.to_be_bytes());
        Digest(bytes)
    }

    fn invariants(&self) {}
}

/// The list, in a file.
pub struct FiledList {
    disk: Arc<dyn Disk>,
    folder: String,
    file: Arc<dyn DiskFile>,
    count: u64,
    hash: u64,
    suffix: String,
    drawing: Option<Bytes>,
}

fn invalid(error: impl std::fmt::Display) -> RestoreError {
    RestoreError::Invalid(error.to_string())
}

fn failed(error: verity_storage::Error) -> RestoreError {
    RestoreError::Storage(error.to_string())
}

impl FiledList {
    /// An empty list. What an earlier life left is taken or dropped by [`StateMachine::restore`].
    ///
    /// # Errors
    /// The disk's, in one line.
    pub fn new(disk: Arc<dyn Disk>, group: GroupId) -> Result<Self, String> {
        let folder = group_folder(group);
        let line = |error: verity_storage::Error| error.to_string();
        disk.create_dir(&folder).map_err(line)?;
        let path = format!("{folder}/list");
        let file = if disk.exists(&path).map_err(line)? { disk.open(&path) } else { disk.create(&path) };
        let file = Arc::from(file.map_err(line)?);
        Ok(Self { disk, folder, file, count: 0, hash: 0, suffix: String::new(), drawing: None })
    }

    fn path(&self) -> String {
        format!("{}/list", self.folder)
    }

    fn push(&mut self, value: u64) {
        self.count += 1;
        self.hash = (self.hash ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    }

    fn values(&self) -> Result<Bytes, verity_storage::Error> {
        let mut bytes = vec![0; usize::try_from(self.count).expect("a list is short") * 8];
        let read = self.file.read_at(0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes.into())
    }
}

impl StateMachine for FiledList {
    fn apply(&mut self, batch: &[Command], effects: &mut Effects) {
        for command in batch {
            if let Err(error) = self.file.write_at(self.count * 8, &command.bytes) {
                return effects.fail(error.to_string());
            }
            self.push(command.bytes.clone().get_u64());
            effects.reply(command.request, Bytes::copy_from_slice(&self.count.to_be_bytes()));
        }
    }

    fn read(&mut self, query: &[u8]) -> ReadOutcome {
        let mut out = BytesMut::new();
        out.put_u64(self.count);
        if query == b"all" {
            out.put_slice(&self.values().unwrap_or_default());
        }
        ReadOutcome::Ready(out.freeze())
    }

    fn snapshot_begin(&mut self) {
        let mut manifest = BytesMut::new();
        manifest.put_u64(self.count);
        manifest.put_u64(self.hash);
        self.drawing = Some(manifest.freeze());
    }

    fn snapshot_next(&mut self, _size_max: usize) -> Option<Bytes> {
        self.drawing.take()
    }

    fn attachments(&mut self) -> Attachments {
        let (file, disk, folder) = (Arc::clone(&self.file), Arc::clone(&self.disk), self.folder.clone());
        let sync = move || {
            let synced = file.sync_data().and_then(|()| disk.sync_dir(&folder));
            synced.map_err(|error| error.to_string())
        };
        let files = vec![Attachment { path: self.path(), length: self.count * 8 }];
        Attachments { files, sync: Some(Box::new(sync)) }
    }

    fn staged(&mut self, suffix: &str) {
        self.suffix = suffix.to_owned();
    }

    fn snapshot_saved(&mut self, _index: LogIndex) {}

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>) -> Result<(), RestoreError> {
        let mut manifest = chunks.next().ok_or_else(|| invalid("no manifest"))??;
        let (count, hash) = (manifest.get_u64(), manifest.get_u64());
        let staged = self.path() + &self.suffix;
        if self.disk.exists(&staged).map_err(failed)? {
            self.disk.rename(&staged, &self.path()).map_err(failed)?;
            self.disk.sync_dir(&self.folder).map_err(failed)?;
            self.file = Arc::from(self.disk.open(&self.path()).map_err(failed)?);
        }
        (self.count, self.hash) = (count, 0);
        let mut values = self.values().map_err(failed)?;
        self.file.set_size(count * 8).map_err(failed)?;
        self.count = 0;
        while values.remaining() >= 8 {
            self.push(values.get_u64());
        }
        if (self.count, self.hash) == (count, hash) {
            return Ok(());
        }
        Err(invalid(format!("the file holds {} values, the manifest says {count}, or others", self.count)))
    }

    fn retire(&mut self) {
        let _ = self.disk.remove(&self.path());
    }

    fn digest(&self) -> Digest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.hash.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.count.to_be_bytes());
        Digest(bytes)
    }

    fn invariants(&self) {}
}
