//! Records from partitions to members of share groups (KIP-932): ShareFetch.
//!
//! - upon acknowledgements in a fetch: they are settled first (`share_acknowledge`);
//! - upon a fetch: for each partition that this node leads, the coordinator's state says from where there may be something;
//!   the log is read there; what it has is acquired through the order, and the batches of what was acquired are the
//!   answer. One fetch at a time acquires from a partition for a group;
//! - upon nothing: it waits until one of its partitions grows, or records are given back, or its time is over;
//! - upon a partition that is new to the group: it begins where the group's configuration says.
//!
//! Deliberately absent: `min.bytes` beyond 0 or 1. What is acquired is locked and leaves at once.

use bytes::{Bytes, BytesMut};
use verity_contract::Consistency;
use verity_types::{GroupId, Mono};

use super::call::Call;
use super::node::{Node, State, ended, partition_error};
use super::partitions::{self, Elsewhere};
use super::share_acknowledge::{
    ANSWER_MS, Part, admit, give_back, lock_ms, name, order, renewals_fit, session, settle,
};
use super::share_config::{self, Reset};
use super::share_sessions::{FINAL_EPOCH, FIRST_EPOCH, Place, Reader};
use super::{quotas, share_read};
use crate::machine::cluster::{CONSUMER_BYTE_RATE, operation};
use crate::machine::coordinator::{
    self, AcquiredRecords, Answer, Command, Reply, ShareAcquire, ShareName, ShareSettings,
};
use crate::machine::partition::{Found, Query};
use crate::wire::message::{
    AcquiredRecords as AcquiredRow, LeaderIdAndEpoch, NodeEndpoint, ShareFetchPartitionData, ShareFetchRequest,
    ShareFetchResponse, ShareFetchableTopicResponse,
};
use crate::wire::{ErrorCode, Uuid};

/// A fetch waits at most this long, in milliseconds, whatever it says.
const WAIT_MS_MAX: i32 = 600_000;
/// No answer is larger, but for one batch.
const BYTES_MAX: i32 = 57_671_680;
/// So much of a log is looked at at once.
const READ_BYTES: i32 = 1 << 18;
/// So often a fetch looks further when all that it found was of no use to clients.
const LOOKS_MAX: usize = 64;
/// So many records and no more (KIP-1206).
const RECORD_LIMIT: i8 = 1;
/// What a fetch wants of all its partitions.
struct Wants<'a> {
    call: &'a Call,
    reader: &'a Reader,
    /// The number of the session.
    number: u64,
    settings: ShareSettings,
    committed: bool,
    exact: bool,
    count_max: u32,
    batch_size: i64,
    max_bytes: i32,
}

fn refusal(partition_index: i32, error: ErrorCode) -> ShareFetchPartitionData {
    ShareFetchPartitionData {
        partition_index,
        error_code: error.0,
        error_message: (!error.is_none()).then(|| error.name().map(str::to_owned)).flatten(),
        records: Some(Bytes::new()),
        ..Default::default()
    }
}

/// The group of a partition, and its epoch, if this node leads it and they may read it.
fn target(node: &Node, wants: &Wants<'_>, (topic_id, index): Place) -> Result<(GroupId, i32), Elsewhere> {
    let state = node.state();
    let topic = state.image.topic_by_id(topic_id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
    if !wants.call.may_topic(&state, operation::READ, &topic.name) {
        return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED.into());
    }
    partitions::led(&state, topic, index, -1).map(|place| (place.group, place.epoch))
}

/// Asks the coordinator's state on this node.
async fn window(node: &Node, share: ShareName) -> Result<(bool, i32, Option<i64>), ErrorCode> {
    let (group, _) = node.groups();
    let question = coordinator::Query::ShareWindow { share }.encode();
    match node.read(group, question, Consistency::Local).by(node.in_ms(ANSWER_MS)).await {
        Some(Ok(bytes)) => match Answer::decode(&bytes) {
            Ok(Answer::Window { begun, epoch, next }) => Ok((begun, epoch, next)),
            _ => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        },
        other => Err(partition_error(other.and_then(Result::err))),
    }
}

/// Where a group begins that has never read a partition.
async fn beginning(node: &Node, group: GroupId, wants: &Wants<'_>) -> Result<i64, ErrorCode> {
    const EARLIEST: i64 = -2;
    const LATEST: i64 = -1;
    let timestamp = {
        let state = node.state();
        match share_config::reset(&state, &wants.reader.0) {
            Reset::Earliest => EARLIEST,
            Reset::Latest => LATEST,
            Reset::Within(millis) => state.wall_ms().saturating_sub(millis).max(0),
        }
    };
    for timestamp in [timestamp, LATEST] {
        let query = Query::Offset { timestamp, committed: false }.encode();
        let found = match node.read(group, query, Consistency::Linearizable).by(node.in_ms(ANSWER_MS)).await {
            Some(Ok(bytes)) => Found::decode(bytes).unwrap_or(Found::none(ErrorCode::UNKNOWN_SERVER_ERROR)),
            other => return Err(partition_error(other.and_then(Result::err))),
        };
        if !found.error.is_none() {
            return Err(found.error);
        }
        if found.offset >= 0 {
            return Ok(found.offset);
        }
    }
    Err(ErrorCode::UNKNOWN_SERVER_ERROR)
}

/// Acquires from a partition what there is: batches, and which of their records.
async fn acquire(
    node: &Node,
    wants: &Wants<'_>,
    place: Place,
    (group, leader_epoch): (GroupId, i32),
    (count_max, max_bytes): (u32, i32),
) -> Result<(Bytes, Vec<AcquiredRecords>), ErrorCode> {
    let share = name(wants.reader, place);
    for _ in 0..LOOKS_MAX {
        let (begun, epoch, next) = window(node, share.clone()).await?;
        if !begun {
            let start = beginning(node, group, wants).await?;
            let command = Command::BeginShare { share: share.clone(), start, settings: wants.settings.clone() };
            match order(node, command).await? {
                Reply::Error { error: ErrorCode::NONE } => continue,
                // Who has left its group meanwhile gets nothing, and hears of it by its heartbeat.
                Reply::Error { error: ErrorCode::GROUP_ID_NOT_FOUND } => break,
                Reply::Error { error } => return Err(error),
                _ => return Err(ErrorCode::UNKNOWN_SERVER_ERROR),
            }
        }
        let Some(next) = next else { break };
        let Some(read) = share_read::read(node, group, next, max_bytes.min(READ_BYTES), wants.committed).await? else {
            break;
        };
        let request = ShareAcquire {
            share: share.clone(),
            member_id: wants.reader.1.clone(),
            session: session(&node.state(), wants.number),
            epoch,
            leader_epoch,
            log_start: read.log_start,
            batches: read.rows(),
            count_max,
            exact: wants.exact,
            settings: wants.settings.clone(),
        };
        match order(node, Command::AcquireShare { request }).await? {
            Reply::Acquired { error, .. } if !error.is_none() => return Err(error),
            Reply::Acquired { records, skipped, .. } if records.is_empty() => {
                if !skipped {
                    break;
                }
            }
            Reply::Acquired { records, .. } => return Ok((read.of(&records), records)),
            _ => return Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        }
    }
    Ok((Bytes::new(), Vec::new()))
}

/// Runs of acquired records, joined up to the size that the client likes.
fn rows(records: &[AcquiredRecords], size: i64) -> Vec<AcquiredRow> {
    let mut rows: Vec<AcquiredRow> = Vec::with_capacity(records.len());
    for AcquiredRecords { first, last, count } in records {
        let delivery_count = i16::try_from(*count).unwrap_or(i16::MAX);
        match rows.last_mut() {
            Some(row)
                if row.last_offset + 1 == *first
                    && row.delivery_count == delivery_count
                    && last - row.first_offset < size =>
            {
                row.last_offset = *last;
            }
            _ => rows.push(AcquiredRow { first_offset: *first, last_offset: *last, delivery_count }),
        }
    }
    rows
}

/// What one look at all partitions brought.
#[derive(Default)]
struct Looked {
    answers: Vec<(Uuid, ShareFetchPartitionData)>,
    /// There is something to tell at once.
    told: bool,
}

/// One look at all partitions.
async fn look(node: &Node, wants: &Wants<'_>, places: &[Place]) -> Looked {
    let mut looked = Looked::default();
    let (mut count, mut bytes) = (i64::from(wants.count_max), wants.max_bytes);
    for place in places {
        let target = match target(node, wants, *place) {
            Ok(target) => target,
            Err(Elsewhere { error, leader }) => {
                looked.told = true;
                let data = ShareFetchPartitionData { current_leader: leader, ..refusal(place.1, error) };
                looked.answers.push((place.0, data));
                continue;
            }
        };
        let mut data = refusal(place.1, ErrorCode::NONE);
        let room = u32::try_from(count).unwrap_or(0);
        let enters = room > 0 && bytes > 0 && node.state().share_sessions.enter(&wants.reader.0, *place);
        if enters {
            let acquired = acquire(node, wants, *place, target, (room, bytes)).await;
            {
                let mut state = node.state();
                state.share_sessions.leave(&wants.reader.0, *place);
                // Whoever came meanwhile may look now. Where there was nothing, there is nothing for others; and this
                // fetch would ring for itself.
                if !matches!(&acquired, Ok((_, records)) if records.is_empty()) {
                    state.on_moved(target.0);
                }
            }
            match acquired {
                Ok((records, acquired)) if !acquired.is_empty() => {
                    looked.told = true;
                    count -= acquired.iter().map(|run| run.last - run.first + 1).sum::<i64>();
                    bytes = bytes.saturating_sub(i32::try_from(records.len()).unwrap_or(i32::MAX));
                    let held = node.state().share_sessions.hold(wants.reader, wants.number, *place);
                    if !held {
                        // The session has ended while it was asked.
                        give_back(node, wants.reader.clone(), (wants.number, vec![*place])).await;
                    }
                    data.acquired_records = rows(&acquired, wants.batch_size);
                    data.records = Some(records);
                }
                Ok(_) => {}
                Err(error) => {
                    looked.told = true;
                    data = refusal(place.1, error);
                }
            }
        }
        looked.answers.push((place.0, data));
    }
    looked
}

fn groups(state: &State, places: &[Place]) -> Vec<GroupId> {
    let group = |(topic, index): &Place| state.image.topic_by_id(*topic)?.partition(*index).map(|found| found.group);
    places.iter().filter_map(group).map(GroupId).collect()
}

async fn gather(node: &Node, wants: &Wants<'_>, places: &[Place], until: Mono) -> Vec<(Uuid, ShareFetchPartitionData)> {
    let conn = wants.call.conn;
    let groups = groups(&node.state(), places);
    let mut watch = node.watch(groups.into_iter().chain([ended(conn)]));
    loop {
        let looked = look(node, wants, places).await;
        if looked.told || places.is_empty() || node.now() >= until {
            return looked.answers;
        }
        watch.moved(until).await;
        if !node.state().connections.contains_key(&conn) {
            return Vec::new();
        }
    }
}

pub(super) async fn share_fetch(node: &Node, call: &Call, request: ShareFetchRequest) -> ShareFetchResponse {
    let refused = |error: ErrorCode| ShareFetchResponse {
        error_code: error.0,
        error_message: error.name().map(str::to_owned),
        ..Default::default()
    };
    let reader = match admit(node, call, request.group_id, request.member_id) {
        Ok(reader) => reader,
        Err(error) => return refused(error),
    };
    let until = node.in_ms(request.max_wait_ms.clamp(0, WAIT_MS_MAX));
    let epoch = request.share_session_epoch;
    let mut named: Vec<Place> = Vec::new();
    let mut parts: Vec<Part> = Vec::new();
    for topic in request.topics {
        for part in topic.partitions {
            let place = (topic.topic_id, part.partition_index);
            named.push(place);
            if !part.acknowledgement_batches.is_empty() {
                parts.push(Part { place, batches: part.acknowledgement_batches });
            }
        }
    }
    let forgotten: Vec<Place> = request
        .forgotten_topics_data
        .into_iter()
        .flat_map(|topic| topic.partitions.into_iter().map(move |index| (topic.topic_id, index)))
        .collect();
    // Nothing can have been acquired through a session that begins.
    if (epoch == FIRST_EPOCH && !parts.is_empty()) || !renewals_fit(&parts, request.is_renew_ack) {
        return refused(ErrorCode::INVALID_REQUEST);
    }
    let begun = node.state().share_sessions.fetch(&reader, call.conn, epoch, &named, &forgotten);
    let (places, full) = match begun {
        Ok(begun) => begun,
        Err(error) => return refused(error),
    };
    let number = node.state().share_sessions.number(&reader);
    let settled = settle(node, call, (&reader, number), parts).await;
    if epoch == FINAL_EPOCH {
        let held = node.state().share_sessions.end(&reader, number);
        give_back(node, reader.clone(), (number, held)).await;
    }
    let wants = {
        let state = node.state();
        Wants {
            call,
            reader: &reader,
            number,
            settings: share_config::settings(&state, &reader.0),
            committed: share_config::committed(&state, &reader.0),
            exact: request.share_acquire_mode == RECORD_LIMIT,
            count_max: u32::try_from(request.max_records).unwrap_or(0),
            batch_size: i64::from(request.batch_size.max(1)),
            max_bytes: request.max_bytes.clamp(0, BYTES_MAX),
        }
    };
    let answers = match request.is_renew_ack {
        true => Vec::new(),
        false => gather(node, &wants, &places, until).await,
    };
    respond(node, &wants, answers, settled, full)
}

fn respond(
    node: &Node,
    wants: &Wants<'_>,
    answers: Vec<(Uuid, ShareFetchPartitionData)>,
    settled: Vec<(Place, ErrorCode)>,
    full: bool,
) -> ShareFetchResponse {
    let state = &mut *node.state();
    let tells =
        |data: &ShareFetchPartitionData| data.error_code != super::NO_ERROR || !data.acquired_records.is_empty();
    let mut said: Vec<(Uuid, ShareFetchPartitionData)> =
        answers.into_iter().filter(|(_, data)| full || tells(data)).collect();
    for ((topic_id, index), error) in settled {
        let at = said.iter().position(|(id, data)| (*id, data.partition_index) == (topic_id, index));
        let at = at.unwrap_or_else(|| {
            said.push((topic_id, refusal(index, ErrorCode::NONE)));
            said.len() - 1
        });
        let data = &mut said[at].1;
        data.acknowledge_error_code = error.0;
        data.acknowledge_error_message = (!error.is_none()).then(|| error.name().map(str::to_owned)).flatten();
    }
    let bytes: usize = said.iter().filter_map(|(_, data)| data.records.as_ref()).map(Bytes::len).sum();
    #[allow(clippy::cast_precision_loss)]
    let throttle_time_ms = quotas::charge(state, wants.call, CONSUMER_BYTE_RATE, bytes as f64);
    let leaders: Vec<LeaderIdAndEpoch> = said.iter().map(|(_, data)| data.current_leader.clone()).collect();
    let node_endpoints: Vec<NodeEndpoint> = partitions::endpoints(state, wants.call, leaders.iter());
    said.sort_by_key(|(topic, _)| *topic);
    let mut responses: Vec<ShareFetchableTopicResponse> = Vec::new();
    for (topic_id, data) in said {
        match responses.last_mut() {
            Some(topic) if topic.topic_id == topic_id => topic.partitions.push(data),
            _ => responses.push(ShareFetchableTopicResponse { topic_id, partitions: vec![data] }),
        }
    }
    ShareFetchResponse {
        throttle_time_ms,
        acquisition_lock_timeout_ms: lock_ms(state, &wants.reader.0),
        responses,
        node_endpoints,
        ..Default::default()
    }
}

/// Joins batches that were cut out of a log.
pub(super) fn joined(pieces: &[Bytes]) -> Bytes {
    if let [one] = pieces {
        return one.clone();
    }
    let mut all = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| all.extend_from_slice(piece));
    all.freeze()
}
