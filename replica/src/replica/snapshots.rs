//! Snapshots of a node's groups: when they are taken, how they reach a peer, and how one replaces a state.
//!
//! Deliberately absent: their format (`crate::snapshot`) and the files (the vault).

use bytes::Bytes;
use verity_clock::Now;
use verity_contract::{self as contract, Failure, RestoreError, SessionInput, SnapshotMeta};
use verity_types::{GroupId, LogIndex, NodeId};

use super::{Output, Replica, Work};
use crate::frame::Frame;
use crate::group::Group;
use crate::snapshot::{CHUNK_BYTES, Saving, Sending, restore_group};
use crate::vault::{LogWork, SnapshotWork};

/// So many snapshots may be under way for that reason.
const SAVING_MAX: usize = 2;

impl Replica {
    /// Takes the snapshots that are due: for a group's own reasons, and of the largest logs once all of them are too much.
    pub(super) fn take_snapshots(&mut self, now: Now) {
        let mut due = Vec::new();
        for id in &self.active {
            let Some(group) = self.groups.get_mut(id) else { continue };
            group.holds = false;
            self.held.count(*id, group.counted_bytes, group.held_bytes);
            group.counted_bytes = group.held_bytes;
            if group.wants_snapshot(now.mono) && group.may_snapshot(now.mono) {
                due.push(*id);
            }
        }
        let relief = self.relief(now);
        due.extend(relief.filter(|id| !due.contains(id)));
        for id in due {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            let Some(meta) = group.meta() else {
                // It is taken at the next place where one may be.
                group.snapshot_wanted = true;
                continue;
            };
            group.snapshot_wanted = false;
            group.snapshot_failed_at = None;
            group.log_bytes = 0;
            group.machine.snapshot_begin();
            let attachments = group.machine.attachments();
            self.out.push(Output::Snapshot(SnapshotWork::Begin { group: group.id, meta: meta.clone() }));
            let header = group.header(&attachments.files);
            self.out.push(Output::Snapshot(SnapshotWork::Chunk { group: group.id, bytes: header }));
            self.saving.insert(id);
            group.saving = Some(Saving { meta, finished: false, attachments, bytes: 0 });
        }
    }

    /// The group whose snapshot frees the most, while logs take more memory than they may; a few at a time.
    fn relief(&mut self, now: Now) -> Option<GroupId> {
        if self.held.total() <= self.config.log_bytes || self.relief_waits {
            return None;
        }
        self.relief_waits = self.saving.len() >= SAVING_MAX;
        if self.relief_waits {
            return None;
        }
        let may = |group: &Group| group.may_snapshot(now.mono) && group.log_bytes > 0;
        let may = |id: &GroupId| self.groups.get(id).is_some_and(may);
        self.held.largest_first().find(may)
    }

    /// A snapshot is under way no more: there may be room for another.
    pub(super) fn end_saving(&mut self, id: GroupId) {
        self.saving.remove(&id);
        self.relief_waits = false;
    }

    /// How much of a log may stay behind a snapshot, so that all groups' logs stay far below what they may take.
    fn log_bytes_kept(&self) -> u64 {
        self.config.log_bytes / 4 / self.groups.len().max(1) as u64
    }

    pub(super) fn on_snapshot_written(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let Some(saving) = group.saving.as_mut().filter(|saving| !saving.finished) else { return };
        if let Some(bytes) = group.machine.snapshot_next(CHUNK_BYTES) {
            saving.bytes += bytes.len() as u64;
            self.out.push(Output::Snapshot(SnapshotWork::Chunk { group: id, bytes }));
        } else {
            saving.finished = true;
            let attachments = std::mem::take(&mut saving.attachments);
            self.out.push(Output::Snapshot(SnapshotWork::Finish { group: id, meta: saving.meta.clone(), attachments }));
        }
    }

    pub(super) fn on_snapshot_saved(&mut self, now: Now, id: GroupId, meta: SnapshotMeta) {
        let keep = self.log_bytes_kept();
        self.end_saving(id);
        let Some(group) = self.groups.get_mut(&id) else { return };
        let bytes = group.saving.take().map_or(0, |saving| saving.bytes);
        if group.saved.as_ref().is_some_and(|saved| saved.index >= meta.index) {
            return;
        }
        group.saved = Some(meta.clone());
        group.snapshot_bytes = bytes;
        group.machine.snapshot_saved(meta.index);
        let compact_to = group.compact_to(meta.index, keep);
        self.step(now, id, contract::Input::SnapshotSaved { meta, compact_to });
        // An engine may need more of its log than the state does: proofs behind a checkpoint that is not stable yet.
        let Some(group) = self.groups.get(&id) else { return };
        let upto = compact_to.min(LogIndex(group.engine.status().first.0.saturating_sub(1)));
        self.out.push(Output::Log(LogWork::Trim { group: id, upto }));
    }

    /// A peer's snapshot that was proven counts from now on, and the log before it does no more.
    pub(super) fn on_snapshot_adopted(&mut self, now: Now, id: GroupId, meta: SnapshotMeta) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.adopting = false;
        if group.saved.as_ref().is_none_or(|saved| saved.index < meta.index) {
            group.saved = Some(meta.clone());
        }
        let index = meta.index;
        self.step(now, id, contract::Input::SnapshotSaved { meta, compact_to: index });
        let Some(group) = self.groups.get(&id) else { return };
        let upto = index.min(LogIndex(group.engine.status().first.0.saturating_sub(1)));
        self.out.push(Output::Log(LogWork::Trim { group: id, upto }));
    }

    pub(super) fn offer_snapshot(&mut self, now: Now, id: GroupId, to: NodeId, meta: SnapshotMeta, message: Bytes) {
        let group = self.groups.get_mut(&id).expect("engines speak only while hosted");
        let index = meta.index;
        if group.sending.get(&to).is_some_and(|sending| sending.meta.index == index) {
            return;
        }
        group.sending.insert(to, Sending { meta, message, acked: 0, total: None, heard_at: now.mono });
        self.out.push(Output::Snapshot(SnapshotWork::Read { group: id, to, index, offset: 0, length: CHUNK_BYTES }));
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one input, taken apart once")]
    pub(super) fn on_snapshot_data(
        &mut self,
        now: Now,
        id: GroupId,
        to: NodeId,
        index: LogIndex,
        offset: u64,
        file: u64,
        total: u64,
        bytes: Bytes,
    ) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let Some(sending) = group.sending.get_mut(&to).filter(|sending| sending.meta.index == index) else { return };
        if total == 0 {
            group.sending.remove(&to);
            return self.step(now, id, contract::Input::SnapshotSent { to, delivered: false });
        }
        sending.total = Some(total);
        let (meta, message) = (sending.meta.clone(), sending.message.clone());
        self.post(to, &Frame::SnapshotChunk { group: id, meta, offset, file, total, bytes, message });
    }

    pub(super) fn on_snapshot_ack(&mut self, now: Now, id: GroupId, from: NodeId, index: LogIndex, next: u64) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let Some(sending) = group.sending.get_mut(&from).filter(|sending| sending.meta.index == index) else { return };
        let Some(total) = sending.total else { return };
        if next >= total {
            group.sending.remove(&from);
            return self.step(now, id, contract::Input::SnapshotSent { to: from, delivered: next == total });
        }
        sending.heard_at = now.mono;
        sending.acked = next;
        self.out.push(Output::Snapshot(SnapshotWork::Read {
            group: id,
            to: from,
            index,
            offset: next,
            length: CHUNK_BYTES,
        }));
    }

    pub(super) fn on_snapshot_loaded(
        &mut self,
        now: Now,
        id: GroupId,
        meta: SnapshotMeta,
        chunks: Result<Vec<Bytes>, String>,
    ) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let adopted = meta.clone();
        let restored = chunks.map_err(RestoreError::Storage).and_then(|chunks| {
            let mut chunks = chunks.into_iter().map(Ok);
            restore_group(group.machine.as_mut(), meta, &mut chunks)
        });
        match restored {
            Ok(restored) => group.on_restored(restored),
            // It came from a peer that the engine does not trust: it looks for another.
            Err(_) if group.is_to_prove() => group.installing = false,
            Err(error) => return self.out.push(Output::Fatal(format!("group {id}: {error}"))),
        }
        if let Some((index, digest)) = group.proof_of_installed() {
            self.step(now, id, contract::Input::Checkpointed { index, digest });
        }
        let Some(group) = self.groups.get_mut(&id).filter(|group| !group.void) else { return };
        let trusted = group.trusts();
        let (applied, members, roster) = (group.applied, group.members.clone(), group.roster.clone());
        for lost in group.lane.skip_to(now.mono, group.admitted(self.config.id)) {
            let input = SessionInput::Completed { token: lost.token, result: Err(Failure::Unavailable) };
            self.work.push_back(Work::Service(lost.service, input));
        }
        self.tell_services(id, &SessionInput::Restored { group: id });
        self.follow_machine(now, id);
        self.out.push(Output::Members { group: id, members, roster });
        if trusted {
            self.out.push(Output::Log(LogWork::Trim { group: id, upto: applied }));
        } else {
            self.out.push(Output::Snapshot(SnapshotWork::Adopt { group: id, meta: adopted }));
        }
        self.step(now, id, contract::Input::Applied(applied));
    }
}
