//! One partition: the machine that turns an agreed order of batches into a log with offsets.
//!
//! - upon a batch: its producer's sequence is looked at; it gets the next offset and its leader's epoch, and goes to the
//!   log untouched otherwise (a topic may ask for the time of its append). A duplicate is answered as the first was;
//! - upon a marker: a control batch ends the producer's transaction;
//! - upon `DeleteRecords`, `tend`: the log lets its beginning go, or is compacted;
//! - upon a fetch: whole batches, up to the end of the log, or in front of the first open transaction;
//! - upon a snapshot: what the log consists of, and what is known of producers. The batches stay in their files, which the
//!   snapshot stands on.
//!
//! What is applied is committed, so the end of the log is the high watermark: an offset never changes and is never given
//! twice. A batch that was acknowledged with acks=1 has the same life as one with acks=all.
//!
//! Deliberately absent: validation of what clients send (the session does it once, before the order), waiting, and
//! topics: a partition does not know its name.

mod codec;
mod command;
mod config;
mod duty;
mod place;
mod producers;
mod query;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use verity_contract::{Attachment, Attachments, Effects, Members, ReadOutcome, RequestId, RestoreError, StateMachine};
use verity_storage::{Disk, group_folder};
use verity_types::{Digest, GroupId, LogIndex};

pub use command::{Command, Reply};
pub use config::PartitionConfig;
pub use duty::{Goal, PartitionDuty};
pub use place::{Place, Settle};
pub use producers::{Aborted, BATCHES_KEPT, Ended, Judged, Producer, Producers, Taken};
pub use query::{Described, Ends, Fetched, Found, Held, ProducerRow, Query, Wanted};

use crate::log::{CompactionPolicy, Log, LogError, Manifest, SyncHandle};
use crate::wire::{Batch, BatchHeader, DECOMPRESSED_SIZE_MAX, ErrorCode, Marker, TimestampType, marker_batch, stamp};
use codec::WireCodec;

/// What a partition's events are about.
pub const GROWN: &[u8] = b"grown";

const VERSION: u8 = 2;
/// How many snapshots a node keeps; files that one of them names stay.
const SNAPSHOTS_KEPT: usize = 2;
/// Fewer bytes are read at once: moving them by the kernel costs a call of its own.
const IN_PLACE_MIN: usize = 16 << 10;
/// What names of files have in common that are coming from a peer.
const STAGED: &str = ".staged-";
/// Memory for the keys of one round of compaction (`log.cleaner.dedupe.buffer.size`).
const KEY_BYTES_MAX: u64 = 64 << 20;
/// About how much of a log one `tend` compacts, since it does so within a turn.
const STEP_BYTES_MAX: u64 = 16 << 20;

/// One partition's machine.
pub struct Partition {
    disk: Arc<dyn Disk>,
    folder: String,
    /// There once something was applied, asked or restored: until then, nobody knows what of the folder counts.
    log: Option<Log>,
    config: PartitionConfig,
    /// The highest leader's epoch of which there is a batch.
    epoch: i32,
    producers: Producers,
    place: Place,
    /// How files are named that came from a peer.
    suffix: String,
    /// The snapshot that is being drawn.
    drawing: Bytes,
    /// What it stands on.
    drawn: Option<(Manifest, SyncHandle)>,
    /// Why it could not be drawn.
    undrawn: Option<String>,
    /// The manifest of the snapshot that is being saved, and those of the last two.
    saving: Option<Manifest>,
    saved: VecDeque<Manifest>,
}

fn put_place(place: &Place, out: &mut BytesMut) {
    let bytes = crate::machine::codec::encode(place);
    out.put_u32(u32::try_from(bytes.len()).expect("a few nodes"));
    out.put_slice(&bytes);
}

fn take_place(bytes: &mut Bytes) -> Option<Place> {
    let size = usize::try_from(bytes.try_get_u32().ok()?).ok().filter(|size| *size <= bytes.len())?;
    crate::machine::codec::decode(&bytes.split_to(size)).ok()
}

fn invalid(error: impl std::fmt::Display) -> RestoreError {
    RestoreError::Invalid(error.to_string())
}

/// What is missing or damaged speaks against the snapshot, a disk that fails does not.
fn refused(error: LogError) -> RestoreError {
    match error {
        LogError::Storage(verity_storage::Error::NotFound { .. }) => invalid(error),
        LogError::Storage(error) => RestoreError::Storage(error.to_string()),
        error => invalid(error),
    }
}

impl Partition {
    /// An empty partition, in the folder of its group. Touches no file.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, group: GroupId, config: PartitionConfig) -> Self {
        Self {
            disk,
            folder: group_folder(group),
            log: None,
            config,
            epoch: 0,
            producers: Producers::default(),
            place: Place::default(),
            suffix: String::new(),
            drawing: Bytes::new(),
            drawn: None,
            undrawn: None,
            saving: None,
            saved: VecDeque::new(),
        }
    }

    fn log(&mut self) -> Result<&mut Log, LogError> {
        if self.log.is_none() {
            self.log = Some(Log::create(Arc::clone(&self.disk), self.folder.clone(), self.config.log())?);
        }
        Ok(self.log.as_mut().expect("it was just put there"))
    }

    fn end(&self) -> i64 {
        self.log.as_ref().map_or(0, Log::next_offset)
    }

    fn start(&self) -> i64 {
        self.log.as_ref().map_or(0, Log::log_start_offset)
    }

    fn last_stable(&self) -> i64 {
        self.producers.last_stable(self.end())
    }

    fn reply(&self, error: ErrorCode, offset: i64) -> Reply {
        let append_time = -1;
        Reply { error, offset, append_time, log_start: self.start() }
    }

    // ---- commands

    fn on_command(&mut self, command: Command, time: i64) -> Result<Reply, LogError> {
        match command {
            Command::Append { epoch, guard, batch } => self.on_append(epoch, guard, &batch, time),
            Command::Marker { epoch, producer_id, producer_epoch, coordinator_epoch, decision, commit } => {
                match self.producers.judge_marker(producer_id, producer_epoch, coordinator_epoch, decision) {
                    Err(code) => return Ok(self.reply(code, -1)),
                    Ok(None) => return Ok(self.reply(ErrorCode::NONE, self.producers.guard(producer_id))),
                    Ok(Some(())) => {}
                }
                let marker = if commit { Marker::Commit } else { Marker::Abort };
                let batch = marker_batch(marker, producer_id, producer_epoch, coordinator_epoch, time);
                let offset = self.append(epoch, &batch, time)?;
                let ended = Ended { producer_id, producer_epoch, coordinator_epoch, decision, commit };
                self.producers.note_marker(&ended, offset, time);
                Ok(self.reply(ErrorCode::NONE, offset))
            }
            Command::DeleteRecords { offset } => {
                let to = if offset == -1 { self.end() } else { offset };
                match self.log()?.delete_records(to) {
                    Ok(start) => Ok(self.reply(ErrorCode::NONE, start)),
                    Err(LogError::OutOfRange { .. }) => Ok(self.reply(ErrorCode::OFFSET_OUT_OF_RANGE, -1)),
                    Err(error) => Err(error),
                }
            }
            Command::Configure(config) => {
                if config.version > self.config.version {
                    self.config = config;
                    self.log()?.set_config(config.log());
                }
                Ok(self.reply(ErrorCode::NONE, -1))
            }
            Command::Tend => {
                self.tend(time)?;
                Ok(self.reply(ErrorCode::NONE, -1))
            }
            Command::Settle(settle) => {
                let here = self.place.on_settle(&settle);
                Ok(self.reply(if here { ErrorCode::NONE } else { ErrorCode::INVALID_REQUEST }, -1))
            }
        }
    }

    fn on_append(&mut self, epoch: i32, guard: Option<i64>, batch: &[u8], time: i64) -> Result<Reply, LogError> {
        // The session has looked at it; nobody has seen what else proposes.
        let Ok(header) = BatchHeader::parse(batch) else { return Ok(self.reply(ErrorCode::CORRUPT_MESSAGE, -1)) };
        if header.size() != batch.len() || header.record_count < 1 || header.attributes.is_control() {
            return Ok(self.reply(ErrorCode::INVALID_RECORD, -1));
        }
        let stamped = if self.config.append_time { time } else { -1 };
        if header.has_producer_id() {
            match self.producers.judge(&header, guard) {
                Err(code) => return Ok(self.reply(code, -1)),
                Ok(Judged::Duplicate(taken)) => {
                    let append_time = if self.config.append_time { taken.time } else { -1 };
                    return Ok(Reply { append_time, ..self.reply(ErrorCode::NONE, taken.base_offset) });
                }
                Ok(Judged::New) => {}
            }
        } else if header.attributes.is_transactional() {
            return Ok(self.reply(ErrorCode::INVALID_RECORD, -1));
        }
        let mut batch = Cow::Borrowed(batch);
        if self.config.append_time {
            stamp(batch.to_mut(), TimestampType::LogAppendTime, time);
        }
        let offset = match self.append(epoch, &batch, time) {
            Ok(offset) => offset,
            // A checksum that is wrong after all: the log is as before.
            Err(LogError::ApiMisuse(_)) => return Ok(self.reply(ErrorCode::CORRUPT_MESSAGE, -1)),
            Err(error) => return Err(error),
        };
        if header.has_producer_id() {
            self.producers.note(&header, offset, time);
        }
        Ok(Reply { append_time: stamped, ..self.reply(ErrorCode::NONE, offset) })
    }

    fn append(&mut self, epoch: i32, batch: &[u8], time: i64) -> Result<i64, LogError> {
        let epoch = self.epoch.max(epoch);
        let appended = self.log()?.append_as(batch, epoch, time)?;
        self.epoch = epoch;
        Ok(appended.base_offset)
    }

    /// Retention, then a step of compaction, then what is known of those who are gone.
    fn tend(&mut self, time: i64) -> Result<(), LogError> {
        let config = self.config;
        let policy = self.policy(time);
        let (aborted, producers) = self.producers.for_compaction();
        let log = self.log()?;
        if config.delete {
            log.retain(time, config.retention_ms, config.retention_bytes)?;
        }
        if config.compact
            && let Some(plan) = log.plan_compaction(&policy, aborted, producers)
        {
            log.compact(&plan, &WireCodec)?;
        }
        let start = self.start();
        self.producers.forget(time.saturating_sub(config.producer_expiry_ms), start);
        Ok(())
    }

    fn policy(&self, time: i64) -> CompactionPolicy {
        CompactionPolicy {
            upto_offset: self.last_stable(),
            now_ms: time,
            min_lag_ms: self.config.min_lag_ms,
            max_lag_ms: self.config.max_lag_ms,
            dirty_ratio_ppm: self.config.dirty_ratio_ppm,
            delete_retention_ms: self.config.delete_retention_ms,
            key_bytes_max: KEY_BYTES_MAX,
            step_bytes_max: STEP_BYTES_MAX,
        }
    }

    // ---- queries

    fn fetch(&mut self, wanted: Wanted) -> Result<ReadOutcome, LogError> {
        let Wanted { offset, max_bytes, min_one, committed, in_place } = wanted;
        let stable = self.last_stable();
        let log = self.log()?;
        let answer = Fetched {
            high_watermark: log.next_offset(),
            last_stable: stable,
            log_start: log.log_start_offset(),
            ..Fetched::empty(ErrorCode::NONE)
        };
        let upto = if committed { stable } else { answer.high_watermark };
        let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        let nothing = |answer: Fetched| ReadOutcome::Ready(answer.encode(std::iter::empty(), &[]));
        match log.read(offset, max_bytes, min_one, upto) {
            Ok(None) => Ok(nothing(answer)),
            Ok(Some(slice)) => {
                let answer = Fetched { span: slice.next_offset.abs_diff(offset.max(slice.first_offset)), ..answer };
                let aborted = self.producers.aborted(offset, if committed { slice.next_offset } else { offset });
                Ok(if in_place && slice.length >= IN_PLACE_MIN {
                    ReadOutcome::InFile(answer.encode(aborted, &[]), slice.range())
                } else {
                    ReadOutcome::Ready(answer.encode(aborted, &slice.bytes()?))
                })
            }
            Err(LogError::OutOfRange { .. }) => {
                Ok(nothing(Fetched { error: ErrorCode::OFFSET_OUT_OF_RANGE, ..answer }))
            }
            Err(error) => Err(error),
        }
    }

    fn held(&mut self, offset: i64) -> Result<Held, LogError> {
        let out_of_range = Held::none(ErrorCode::OFFSET_OUT_OF_RANGE);
        let log = self.log()?;
        match log.read(offset, 0, true, log.next_offset()) {
            Ok(Some(slice)) => Ok(Held { error: ErrorCode::NONE, batch: slice.bytes()?.into() }),
            Ok(None) | Err(LogError::OutOfRange { .. }) => Ok(out_of_range),
            Err(error) => Err(error),
        }
    }

    fn offset(&mut self, timestamp: i64, committed: bool) -> Result<Found, LogError> {
        let upto = if committed { self.last_stable() } else { self.end() };
        let log = self.log()?;
        let found = |offset, timestamp, epoch| Found { error: ErrorCode::NONE, offset, timestamp, epoch };
        match timestamp {
            -1 => Ok(found(upto, -1, log.latest_epoch().unwrap_or(-1))),
            -2 | -4 => Ok(found(log.log_start_offset(), -1, log.latest_epoch().map_or(-1, |_| 0))),
            -3 => match log.max_timestamp() {
                Some((largest, _)) => self.first_since(largest, upto),
                None => Ok(Found::none(ErrorCode::NONE)),
            },
            since if since >= 0 => self.first_since(since, upto),
            // Of what is kept elsewhere (-5 and the like) there is nothing.
            _ => Ok(Found::none(ErrorCode::NONE)),
        }
    }

    /// The first record that is at least so young.
    fn first_since(&mut self, since: i64, upto: i64) -> Result<Found, LogError> {
        let mut from = self.start();
        while let Some(slice) = self.log()?.batch_for_timestamp(since, from, upto)? {
            let mut blob = Bytes::from(slice.bytes()?);
            let damaged = |what: String| LogError::Corrupt { file: slice.path.clone(), position: slice.position, what };
            let batch = Batch::take(&mut blob).map_err(|error| damaged(error.to_string()))?;
            let batch = batch.ok_or_else(|| damaged("it is empty".to_owned()))?;
            let header = *batch.header();
            if !header.attributes.is_control() && header.record_count > 0 {
                let plain = batch.decompress(DECOMPRESSED_SIZE_MAX).map_err(|error| damaged(error.to_string()))?;
                for record in batch.records(&plain) {
                    let record = record.map_err(|error| damaged(error.to_string()))?;
                    let offset = header.base_offset + i64::from(record.offset_delta);
                    let timestamp = header.timestamp(record.timestamp_delta);
                    if timestamp >= since && offset >= from {
                        return Ok(Found { error: ErrorCode::NONE, offset, timestamp, epoch: header.leader_epoch });
                    }
                }
            }
            from = slice.next_offset;
        }
        Ok(Found::none(ErrorCode::NONE))
    }

    fn describe(&self) -> Described {
        Described {
            log_start: self.start(),
            high_watermark: self.end(),
            last_stable: self.last_stable(),
            size: self.log.as_ref().map_or(0, Log::size_bytes),
            segments: u32::try_from(self.log.as_ref().map_or(0, |log| log.segments().count())).unwrap_or(u32::MAX),
            config_version: self.config.version,
            producers: self.producers.iter().map(|(id, producer)| ProducerRow::new(id, producer)).collect(),
        }
    }

    /// Would [`Partition::tend`] change anything? Says yes too often rather than too rarely.
    fn is_due(&self, time: i64) -> bool {
        let Some(log) = &self.log else { return false };
        let config = &self.config;
        let oldest =
            log.segments().next().map_or(i64::MAX, |facts| if facts.length > 0 { facts.newest_ms() } else { i64::MAX });
        let expired = config.retention_ms >= 0 && time.saturating_sub(config.retention_ms) > oldest;
        let large = u64::try_from(config.retention_bytes)
            .is_ok_and(|limit| log.size_bytes() > limit && log.segments().count() > 1);
        let silent = time.saturating_sub(config.producer_expiry_ms);
        let forgotten = self.producers.iter().any(|(_, producer)| producer.open.is_none() && producer.heard < silent);
        let dirty = config.compact && log.compaction_due(&self.policy(time));
        config.delete && (expired || large) || dirty || forgotten
    }

    fn on_query(&mut self, query: Query) -> Result<ReadOutcome, LogError> {
        let answer = match query {
            Query::Fetch(wanted) => return self.fetch(wanted),
            Query::Offset { timestamp, committed } => self.offset(timestamp, committed)?.encode(),
            Query::Epoch(epoch) => {
                let end = self.log()?.epoch_end_offset(epoch);
                let found = end.map_or(Found::none(ErrorCode::NONE), |(epoch, offset)| Found {
                    error: ErrorCode::NONE,
                    offset,
                    timestamp: -1,
                    epoch,
                });
                found.encode()
            }
            Query::Guard(producer) => {
                let (offset, timestamp) = (self.producers.guard(producer), self.producers.open(producer));
                let epoch = i32::from(self.producers.epoch(producer));
                Found { error: ErrorCode::NONE, offset, timestamp, epoch }.encode()
            }
            Query::Describe => self.describe().encode(),
            Query::Due(now) => Found { offset: i64::from(self.is_due(now)), ..Found::none(ErrorCode::NONE) }.encode(),
            Query::Ends => self.ends().encode(),
            Query::Settled => {
                let offset = i64::try_from(self.place.settled).unwrap_or(i64::MAX);
                Found { offset, ..Found::none(ErrorCode::NONE) }.encode()
            }
            Query::Batch(offset) => self.held(offset)?.encode(),
        };
        Ok(ReadOutcome::Ready(answer))
    }

    fn ends(&self) -> Ends {
        let (holder, heard) = self.producers.holder().unwrap_or((-1, -1));
        Ends { log_start: self.start(), high_watermark: self.end(), last_stable: self.last_stable(), holder, heard }
    }

    // ---- snapshots

    fn draw(&mut self) -> Result<(), LogError> {
        let (manifest, sync) = self.log()?.checkpoint()?;
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        out.put_i32(self.epoch);
        self.config.encode(&mut out);
        put_place(&self.place, &mut out);
        self.producers.encode(&mut out);
        let mut encoded = Vec::new();
        manifest.encode(&mut encoded);
        out.put_slice(&encoded);
        self.drawing = out.freeze();
        self.drawn = Some((manifest, sync));
        Ok(())
    }

    fn restore_from(&mut self, mut bytes: Bytes) -> Result<(), RestoreError> {
        let cut = || invalid("it ends early, or is none of ours");
        if bytes.try_get_u8().map_err(|_| cut())? != VERSION {
            return Err(cut());
        }
        let epoch = bytes.try_get_i32().map_err(|_| cut())?;
        let config = PartitionConfig::decode(&mut bytes).ok_or_else(cut)?;
        let place = take_place(&mut bytes).ok_or_else(cut)?;
        let producers = Producers::decode(&mut bytes).ok_or_else(cut)?;
        let manifest = Manifest::decode(&bytes).map_err(invalid)?;
        self.log = None;
        self.log = Some(self.take_over(config, &manifest).map_err(refused)?);
        (self.epoch, self.config, self.producers, self.place) = (epoch, config, producers, place);
        (self.drawn, self.saving, self.drawing) = (None, None, Bytes::new());
        self.saved = VecDeque::from([manifest]);
        Ok(())
    }

    /// The log at `manifest`, made of the files that came with the snapshot and of those that are in place. Only once it is
    /// sound do files go that came with this snapshot or older ones: until then, another may be tried. What came with a newer
    /// one is about to be taken.
    fn take_over(&self, config: PartitionConfig, manifest: &Manifest) -> Result<Log, LogError> {
        let (disk, folder, suffix) = (Arc::clone(&self.disk), self.folder.clone(), self.suffix.as_str());
        disk.create_dir(&folder)?;
        let mut staged = disk.list(&folder)?;
        staged.retain(|name| name.find(STAGED).is_some_and(|at| name[at..] <= *suffix));
        let log = if staged.iter().any(|name| name.ends_with(suffix)) {
            Log::install(disk, folder, config.log(), manifest, suffix)?
        } else {
            Log::open(disk, folder, config.log(), manifest)?
        };
        for name in staged {
            match self.disk.remove(&format!("{}/{name}", self.folder)) {
                // It has its place in the log.
                Err(verity_storage::Error::NotFound { .. }) => {}
                removed => removed?,
            }
        }
        Ok(log)
    }
}

impl StateMachine for Partition {
    fn apply(&mut self, batch: &[verity_contract::Command], effects: &mut Effects) {
        let before = (self.end(), self.last_stable());
        let mut replies: Vec<(RequestId, Bytes)> = Vec::new();
        for command in batch {
            let time = i64::try_from(command.time.0).unwrap_or(i64::MAX);
            let reply = match Command::decode(command.bytes.clone()) {
                None => Ok(self.reply(ErrorCode::INVALID_REQUEST, -1)),
                Some(command) => self.on_command(command, time),
            };
            match reply {
                Ok(reply) => replies.push((command.request, reply.encode())),
                Err(error) => return effects.fail(error.to_string()),
            }
        }
        if let Some(log) = &mut self.log
            && let Err(error) = log.flush()
        {
            return effects.fail(error.to_string());
        }
        // Whoever waits for batches hears of them before the producer does.
        let after = (self.end(), self.last_stable());
        if after != before {
            let mut bytes = BytesMut::with_capacity(16);
            bytes.put_i64(after.0);
            bytes.put_i64(after.1);
            effects.event(Bytes::from_static(GROWN), bytes.freeze());
        }
        replies.into_iter().for_each(|(request, bytes)| effects.reply(request, bytes));
    }

    fn on_members(&mut self, _index: LogIndex, members: &Members, _context: &Bytes, _effects: &mut Effects) {
        self.place.on_members(members);
    }

    fn read(&mut self, query: &[u8]) -> ReadOutcome {
        let Some(query) = Query::decode(query) else {
            return ReadOutcome::Ready(Found::none(ErrorCode::INVALID_REQUEST).encode());
        };
        // Damage, or a disk that does not read: the client is to try another replica.
        self.on_query(query).unwrap_or_else(|_| {
            ReadOutcome::Ready(match query {
                Query::Fetch(_) => Fetched::empty(ErrorCode::KAFKA_STORAGE_ERROR).encode(std::iter::empty(), &[]),
                Query::Batch(_) => Held::none(ErrorCode::KAFKA_STORAGE_ERROR).encode(),
                _ => Found::none(ErrorCode::KAFKA_STORAGE_ERROR).encode(),
            })
        })
    }

    fn attachments(&mut self) -> Attachments {
        let Some((manifest, sync)) = self.drawn.take() else {
            // A snapshot of nothing must never count: the log is trimmed behind it.
            let reason = self.undrawn.take().unwrap_or_else(|| "no snapshot was begun".to_owned());
            return Attachments { files: Vec::new(), sync: Some(Box::new(move || Err(reason))) };
        };
        let files = manifest.files().into_iter();
        let files =
            files.map(|(name, length)| Attachment { path: format!("{}/{name}", self.folder), length }).collect();
        self.saving = Some(manifest);
        Attachments { files, sync: Some(Box::new(move || sync.sync().map_err(|error| error.to_string()))) }
    }

    fn staged(&mut self, suffix: &str) {
        suffix.clone_into(&mut self.suffix);
    }

    fn snapshot_saved(&mut self, _index: LogIndex) {
        self.saved.extend(self.saving.take());
        while self.saved.len() > SNAPSHOTS_KEPT {
            self.saved.pop_front();
        }
        // A file that cannot be removed now is tried again with the next snapshot.
        if let (Some(oldest), Some(log)) = (self.saved.front(), self.log.as_mut()) {
            let _ = log.release(oldest);
        }
    }

    fn retire(&mut self) {
        self.log = None;
    }

    fn snapshot_begin(&mut self) {
        (self.drawn, self.drawing) = (None, Bytes::new());
        self.undrawn = self.draw().err().map(|error| error.to_string());
    }

    fn snapshot_next(&mut self, size_max: usize) -> Option<Bytes> {
        let size = self.drawing.len().min(size_max.max(1));
        (size > 0).then(|| self.drawing.split_to(size))
    }

    fn restore(&mut self, chunks: &mut dyn Iterator<Item = Result<Bytes, RestoreError>>) -> Result<(), RestoreError> {
        let mut all = BytesMut::new();
        for chunk in chunks {
            all.put_slice(&chunk?);
        }
        self.restore_from(all.freeze())
    }

    fn digest(&self) -> Digest {
        let mut out = BytesMut::new();
        out.put_i64(self.start());
        out.put_i64(self.end());
        out.put_i32(self.epoch);
        self.config.encode(&mut out);
        put_place(&self.place, &mut out);
        self.producers.encode(&mut out);
        // Whether there are files yet depends on who has asked: a segment without bytes says nothing.
        let segments = self.log.iter().flat_map(Log::segments).filter(|facts| facts.length > 0);
        for facts in segments {
            out.put_i64(facts.base_offset);
            out.put_u64(facts.generation);
            out.put_u64(facts.length);
        }
        let (low, high) = (xxhash_rust::xxh3::xxh3_128(&out), xxhash_rust::xxh3::xxh3_128_with_seed(&out, 1));
        let mut digest = [0; 32];
        digest[..16].copy_from_slice(&low.to_be_bytes());
        digest[16..].copy_from_slice(&high.to_be_bytes());
        Digest(digest)
    }

    fn size(&self) -> u64 {
        self.log.as_ref().map_or(0, Log::size_bytes)
    }

    fn invariants(&self) {
        self.log.iter().for_each(Log::invariants);
        self.producers.invariants(self.end());
        assert!((self.start()..=self.end()).contains(&self.last_stable()) || self.last_stable() <= self.end());
    }
}
